/*
 * What a run remembers: QMP events for wait and expect, the last outcome of each job, and the statistics of a
 * sweep. Everything comes from the event stream; nothing here changes the world.
 */
#include "scenario/runner_int.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* --- QMP events ------------------------------------------------------------------------------------------- */

static struct qvalue *field_value(const struct sim_record *r, unsigned i, char type)
{
    switch (type) {
    case 'n':
        return sim_record_name(r, i) ? qvalue_str(sim_record_name(r, i)->str) : NULL;
    case 's':
        return sim_record_str(r, i) ? qvalue_str(sim_record_str(r, i)) : NULL;
    case 'b':
        return qvalue_bool(r->field[i] != 0);
    case 'o':
        return qvalue_str(sim_op_name((enum sim_op)r->field[i]));
    default:
        return qvalue_int((int64_t)r->field[i]);
    }
}

static struct host *record_host(struct runner *runner, const struct sim_record *r)
{
    for (struct host *host = host_first(runner->sim); host; host = host->next) {
        if (host->number == r->host) {
            return host;
        }
    }
    return NULL;
}

static void on_qmp_event(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;
    const struct sim_event_desc *desc = sim_event_desc(r->kind);
    struct seen_event *seen;

    if (!runner->result->hosts && !runner->awaited[r->kind]) {
        co_sleep_wake(&runner->event_wait); /* a wait step wakes by every event, remembered or not */
        return;
    }
    seen = calloc(1, sizeof(*seen));
    SIM_ASSERT(seen);
    seen->kind = r->kind;
    seen->host = record_host(runner, r);
    seen->fields = qvalue_dict();
    for (unsigned i = 0; i < desc->field_count; i++) {
        struct qvalue *v = field_value(r, i, desc->field[i].type);

        if (v) {
            qdict_put(seen->fields, desc->field[i].name, v);
        }
    }
    TAILQ_INSERT_TAIL(&runner->events, seen, list);
    co_sleep_wake(&runner->event_wait);
}

/* --- outcomes --------------------------------------------------------------------------------------------- */

struct job_outcome *recorder_outcome(struct runner *runner, const char *id)
{
    struct job_outcome *o;

    TAILQ_FOREACH(o, &runner->outcomes, list)
    {
        if (strcmp(o->id, id) == 0) {
            return o;
        }
    }
    return NULL;
}

static void set_string(char **slot, const char *text)
{
    free(*slot);
    *slot = text ? strdup(text) : NULL;
}

static struct job_outcome *outcome_for(struct runner *runner, const char *id)
{
    struct job_outcome *o = recorder_outcome(runner, id);

    if (!o) {
        o = calloc(1, sizeof(*o));
        SIM_ASSERT(o);
        o->id = strdup(id);
        TAILQ_INSERT_TAIL(&runner->outcomes, o, list);
    }
    return o;
}

static void on_job_status(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;
    const char *status = sim_record_str(r, 1);
    struct job_outcome *o = outcome_for(runner, sim_record_name(r, 0)->str);
    Job *job;

    if (strcmp(status, "created") == 0) {
        runner->stats.jobs++;
        set_string(&o->error, NULL);
        o->cancelled = false;
    }
    if (strcmp(status, "null") != 0) {
        set_string(&o->status, status);
    }
    job = runner->host ? job_find(runner->host, o->id) : NULL;
    if (job) {
        set_string(&o->type, job_type_name(job->driver->job_type));
    }
    if (job && strcmp(status, "concluded") == 0) {
        set_string(&o->error, job->err       ? error_get_pretty(job->err)
                              : job->ret < 0 ? sim_errno_text(job->ret)
                                             : NULL);
    }
}

static void on_job_end(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;
    struct job_outcome *o = outcome_for(runner, sim_record_name(r, 1)->str);

    if (r->kind == EV_BLOCK_JOB_CANCELLED) {
        o->cancelled = true;
        runner->stats.jobs_cancelled++;
    } else if (sim_record_str(r, 5)) {
        runner->stats.jobs_failed++;
    } else {
        runner->stats.jobs_completed++;
    }
}

static void on_job_ready(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    runner->stats.jobs_ready++;
}

/* --- counting --------------------------------------------------------------------------------------------- */

static void on_disk_submit(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    runner->stats.media_requests++;
}

static bool changes_data(enum sim_op op)
{
    return op == SIM_OP_WRITE || op == SIM_OP_WRITE_ZEROES || op == SIM_OP_DISCARD;
}

static void on_guest_submit(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;
    enum sim_op op = (enum sim_op)r->field[2];

    runner->stats.guest_requests++;
    if (!changes_data(op)) {
        return;
    }
    runner->stats.guest_writes++;
    runner->writes_out++;
    for (unsigned i = 0; i < runner->copy_count; i++) {
        const struct copy_in_flight *copy = &runner->copies[i];

        if (ranges_overlap(copy->offset, copy->bytes, (int64_t)r->field[3], (int64_t)r->field[4])) {
            runner->stats.guest_overlaps++;
            return;
        }
    }
}

static void on_guest_complete(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;
    enum sim_op op = (enum sim_op)r->field[2];

    runner->stats.guest_errors += (int64_t)r->field[5] < 0;
    if (runner->writes_out && changes_data(op)) {
        runner->writes_out--;
    }
}

static void on_op_begin(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    if (runner->copy_count < ARRAY_SIZE(runner->copies)) {
        runner->copies[runner->copy_count++] = (struct copy_in_flight){
            .job = sim_record_name(r, 0), .offset = (int64_t)r->field[2], .bytes = (int64_t)r->field[3]};
    }
}

static void on_op_end(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    for (unsigned i = 0; i < runner->copy_count; i++) {
        if (runner->copies[i].job == sim_record_name(r, 0) && runner->copies[i].offset == (int64_t)r->field[2]) {
            runner->copies[i] = runner->copies[--runner->copy_count];
            return;
        }
    }
}

/* --- counting what happens to bitmaps ---------------------------------------------------------------------- */

static void on_node_open(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;
    bool image = strcmp(sim_record_str(r, 1), "qcow2") == 0;

    runner->stats.images_opened += image;
    runner->stats.images_reopened += image && runner->stats.power_losses;
}

static void on_snapshot(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;
    const char *what = sim_record_str(r, 1);

    runner->stats.snapshots += strcmp(what, "create") == 0;
    runner->stats.snapshots_back += strcmp(what, "goto") == 0;
    runner->stats.snapshots_deleted += strcmp(what, "delete") == 0;
}

static void on_bitmap_load(void *opaque, const struct sim_record *r)
{
    (void)r;
    ((struct runner *)opaque)->stats.bitmaps_loaded++;
}

static void on_bitmap_create(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    runner->stats.bitmaps_made += sim_record_str(r, 1) != NULL;
}

static void on_bitmap_release(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    runner->stats.bitmaps_removed += sim_record_str(r, 1) != NULL;
}

static void on_bitmap_change(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    runner->stats.bitmap_merges += r->kind == EV_bitmap_merge;
    runner->stats.bitmap_freezes += r->kind == EV_bitmap_freeze;
    runner->stats.bitmap_abdicates += r->kind == EV_bitmap_abdicate;
    runner->stats.bitmap_reclaims += r->kind == EV_bitmap_reclaim;
    runner->stats.bitmap_overlaps += runner->writes_out;
}

static void on_transaction(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;
    uint64_t prepared = r->field[1];

    runner->stats.transactions++;
    runner->stats.bitmap_overlaps += runner->writes_out;
    if (prepared < r->field[0]) {
        runner->stats.transactions_failed++;
        runner->stats.failed_at[MIN(prepared, (uint64_t)RUN_STATS_ACTIONS - 1)]++;
    }
}

static void on_node_resize(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    runner->stats.resizes++;
}

/* --- counting what happens to the graph -------------------------------------------------------------------- */

static void on_edge(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    runner->stats.graph_changes += runner->writes_out > 0;
}

/* Only the first section of a node is told; how deep the others are is looked up then. */
static void on_drain(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;
    struct host *host = record_host(runner, r);
    uint64_t deepest = 0;

    for (BlockDriverState *bs = host ? bdrv_next_node(host, NULL) : NULL; bs; bs = bdrv_next_node(host, bs)) {
        deepest = MAX(deepest, (uint64_t)bdrv_quiesce_counter(bs));
    }
    runner->stats.drains++;
    runner->stats.drains_nested += deepest > 1;
    runner->stats.drain_deepest = MAX(runner->stats.drain_deepest, deepest);
}

static void on_held_up(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    runner->stats.thresholds += r->kind == EV_BLOCK_WRITE_THRESHOLD;
    runner->stats.breakpoints += r->kind == EV_debug_suspend;
    runner->stats.injected += r->kind == EV_debug_inject;
}

static void on_command(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    if (strncmp(sim_record_str(r, 0), "block-dirty-bitmap-", 19) == 0) {
        runner->stats.bitmap_overlaps += runner->writes_out;
    }
}

/* --break: stop in a debugger at an event of interest. */
static void on_any_event(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    if (r->number == runner->options->break_event) {
        raise(SIGTRAP);
    }
}

static void on_reply(void *opaque, const struct sim_record *r)
{
    struct runner *runner = opaque;

    runner->stats.commands++;
    runner->stats.commands_refused += sim_record_str(r, 1) != NULL;
    if (strcmp(sim_record_str(r, 0), "blockdev-reopen") == 0) {
        runner->stats.reopens++;
        runner->stats.reopens_refused += sim_record_str(r, 1) != NULL;
    }
}

/* --- life ------------------------------------------------------------------------------------------------- */

/* Events that some step waits for or expects. Nobody else asks, unless the result is to list all of them. */
static void find_awaited(struct runner *runner)
{
    for (size_t i = 0; i < runner->scn->step_count; i++) {
        const struct scn_step *step = &runner->scn->steps[i];
        const char *event = step_str(step, "event", NULL);
        int kind = event ? sim_event_find(event) : -1;

        if (kind >= 0) {
            runner->awaited[kind] = true;
        }
    }
}

void recorder_attach(struct runner *runner)
{
    static const struct {
        enum sim_event_kind kind;
        sim_event_fn *fn;
    } table[] = {
        {EV_JOB_STATUS_CHANGE, on_job_status},
        {EV_BLOCK_JOB_COMPLETED, on_job_end},
        {EV_BLOCK_JOB_CANCELLED, on_job_end},
        {EV_BLOCK_JOB_READY, on_job_ready},
        {EV_disk_submit, on_disk_submit},
        {EV_guest_submit, on_guest_submit},
        {EV_guest_complete, on_guest_complete},
        {EV_mirror_op_begin, on_op_begin},
        {EV_mirror_op_end, on_op_end},
        {EV_qmp_reply, on_reply},
        {EV_bitmap_create, on_bitmap_create},
        {EV_bitmap_load, on_bitmap_load},
        {EV_image_snapshot, on_snapshot},
        {EV_node_open, on_node_open},
        {EV_bitmap_release, on_bitmap_release},
        {EV_bitmap_merge, on_bitmap_change},
        {EV_bitmap_freeze, on_bitmap_change},
        {EV_bitmap_abdicate, on_bitmap_change},
        {EV_bitmap_reclaim, on_bitmap_change},
        {EV_transaction, on_transaction},
        {EV_node_resize, on_node_resize},
        {EV_qmp_command, on_command},
        {EV_drain_begin, on_drain},
        {EV_edge_attach, on_edge},
        {EV_edge_detach, on_edge},
        {EV_edge_replace, on_edge},
        {EV_BLOCK_WRITE_THRESHOLD, on_held_up},
        {EV_debug_suspend, on_held_up},
        {EV_debug_inject, on_held_up},
    };

    find_awaited(runner);
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        sim_subscribe(runner->sim, table[i].kind, table[i].fn, runner);
    }
    if (runner->options->break_event) {
        sim_subscribe_all(runner->sim, on_any_event, runner);
    }
    for (int kind = 0; kind < EV_COUNT; kind++) {
        if (sim_event_desc((enum sim_event_kind)kind)->qmp) {
            sim_subscribe(runner->sim, (enum sim_event_kind)kind, on_qmp_event, runner);
        }
    }
}

void recorder_clear(struct runner *runner)
{
    struct seen_event *seen;
    struct job_outcome *o;

    while ((seen = TAILQ_FIRST(&runner->events))) {
        TAILQ_REMOVE(&runner->events, seen, list);
        qvalue_free(seen->fields);
        free(seen);
    }
    while ((o = TAILQ_FIRST(&runner->outcomes))) {
        TAILQ_REMOVE(&runner->outcomes, o, list);
        free(o->id);
        free(o->type);
        free(o->status);
        free(o->error);
        free(o);
    }
}
