/*
 * What steps share: their arguments, their guests and nodes, a violation at their place, ways into a host.
 */
#include "scenario/runner_int.h"

#include <libgen.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *step_str(const struct scn_step *step, const char *name, const char *def)
{
    const struct qvalue *v = qdict_get(step->args, name);

    return v && v->type == QVALUE_STR ? v->str.bytes : def;
}

int64_t step_int(const struct scn_step *step, const char *name, int64_t def)
{
    const struct qvalue *v = qdict_get(step->args, name);

    return v && v->type == QVALUE_INT ? v->integer : def;
}

bool step_bool(const struct scn_step *step, const char *name, bool def)
{
    const struct qvalue *v = qdict_get(step->args, name);

    return v && v->type == QVALUE_BOOL ? v->boolean : def;
}

bool step_has(const struct scn_step *step, const char *name)
{
    return qdict_get(step->args, name) != NULL;
}

uint64_t runner_step_entity(struct runner *runner, const struct scn_step *step)
{
    return scn_step_entity(runner->scn, (size_t)(step - runner->scn->steps));
}

void runner_expect_failed(struct runner *runner, const struct scn_step *step, const char *rule, const char *fmt,
                          ...)
{
    char label[64];
    char *detail = NULL;
    va_list ap;
    const char *space = strrchr(step->verb->name, ' ');
    struct violation_where where = {.op = space ? space + 1 : step->verb->name};

    if (runner->dark) {
        return; /* there is nobody of whom to expect anything */
    }
    va_start(ap, fmt);
    if (vasprintf(&detail, fmt, ap) < 0) {
        detail = NULL;
    }
    va_end(ap);
    scn_step_label(runner->scn, (size_t)(step - runner->scn->steps), label, sizeof(label));
    check_violate(runner->checks, "expect", rule, &where, "step %s (%s:%d:%d): %s", label,
                  runner->scn->path ? runner->scn->path : "scenario", step->line, step->column,
                  detail ? detail : "out of memory");
    free(detail);
    runner->stop = true;
}

char *runner_path(struct runner *runner, const char *path)
{
    char *joined = NULL;
    char *copy;

    if (path[0] == '/' || !runner->scn->path || strcmp(runner->scn->path, "-") == 0) {
        return strdup(path);
    }
    copy = strdup(runner->scn->path);
    if (asprintf(&joined, "%s/%s", dirname(copy), path) < 0) {
        joined = NULL;
    }
    free(copy);
    SIM_ASSERT(joined);
    return joined;
}

struct guest *runner_guest(struct runner *runner, const struct scn_step *step)
{
    const char *name = step_str(step, "guest", "");
    struct guest *guest = guest_find(runner->host, name);

    if (!guest && !step->try_) {
        runner_expect_failed(runner, step, "no-guest", "there is no guest '%s'", name);
    }
    return guest;
}

BlockDriverState *runner_node(struct runner *runner, const struct scn_step *step, const char *name)
{
    Error *err = NULL;
    BlockDriverState *bs = bdrv_lookup_bs(runner->host, name, &err);

    if (!bs) {
        runner_expect_failed(runner, step, "no-node", "%s", error_get_pretty(err));
        error_free(err);
    }
    return bs;
}

void runner_settle(struct runner *runner, int64_t limit_ns)
{
    runner->settle_limit_ns = limit_ns;
    runner->wants = RUNNER_SETTLES;
    sim_halt(runner->sim);
    while (runner->wants == RUNNER_SETTLES) { /* a wake-up meant for an earlier wait may still be kept */
        coroutine_yield(runner->sim);
    }
}

struct host_thunk {
    host_fn *fn;
    void *opaque;
    Coroutine *waiter;
    bool done;
};

static void run_thunk(void *opaque)
{
    struct host_thunk *thunk = opaque;

    thunk->fn(thunk->opaque);
    thunk->done = true;
    coroutine_wake(thunk->waiter);
}

void runner_on_main(struct runner *runner, host_fn *fn, void *opaque)
{
    struct host_thunk thunk = {.fn = fn, .opaque = opaque, .waiter = runner->co};

    if (runner->dark) {
        return;
    }
    host_command(runner->host, run_thunk, &thunk);
    while (!thunk.done && !runner->dark) {
        coroutine_yield(runner->sim);
    }
}

void runner_in_host(struct runner *runner, const char *what, host_fn *fn, void *opaque)
{
    struct host_thunk thunk = {.fn = fn, .opaque = opaque, .waiter = runner->co};

    if (runner->dark) {
        return;
    }
    coroutine_start(coroutine_create(runner->sim, runner->host, what, run_thunk, &thunk));
    while (!thunk.done && !runner->dark) {
        coroutine_yield(runner->sim);
    }
}

/* --- hosts ----------------------------------------------------------------------------------------------- */

struct host *runner_host_boot(struct runner *runner, const char *name)
{
    struct host *host = host_new(runner->sim, name);

    bdrv_graph_init(host);
    if (!runner->options || !runner->options->no_files) {
        char *base = runner_path(runner, ".");
        bdrv_set_host_files(host, base);
        free(base);
    }
    jobs_init(host);
    vm_init(host);
    monitor_init(host);
    return host;
}

static void delete_guests(struct host *host)
{
    struct guest *guest;

    while ((guest = guest_next(host, NULL))) {
        guest_delete(guest);
    }
}

/* Parents come after their children in the list of nodes (newest first), but a reopened or replaced graph may
 * differ: go round until nothing more can be deleted. */
static void delete_nodes(struct host *host)
{
    bool progress = true;

    while (progress) {
        BlockDriverState *bs = bdrv_next_node(host, NULL);

        progress = false;
        while (bs && !progress) {
            BlockDriverState *next = bdrv_next_node(host, bs);

            if (bdrv_has_monitor_ref(bs)) {
                progress = qmp_blockdev_del_node(host, bdrv_get_node_name(bs), NULL);
            }
            bs = next;
        }
    }
}

void runner_host_close(struct host *host)
{
    delete_guests(host);
    delete_nodes(host);
}
