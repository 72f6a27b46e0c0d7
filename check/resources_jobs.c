/*
 * Jobs that failed or were given up leave the graph as the command that started them had found it: nodes, links,
 * permissions, read-only state, bitmaps, blockers (reference/bugs.md M03, M17, C02, C05).
 *
 * Only a job that was alone: when meanwhile a command changed something, a guest or the owner of a bitmap came or
 * went, or another job ran, nothing can be said and nothing is.
 */
#include <string.h>

#include "check/resources.h"
#include "sim/disk.h"

/* Not the order of parents: who was moved to the job's filter and back comes first then (block.md 1.7, 1.8). */
#define JOB_PARTS \
    (CENSUS_ALL & ~(1u << CENSUS_ORDER | 1u << CENSUS_JOBS | 1u << CENSUS_BACKENDS | 1u << CENSUS_GROUPS))

struct watched_job {
    const Job *job; /* not looked into once it is gone */
    struct host *host;
    const struct sim_name *id;
    enum job_type type;
    const struct qmp_call *start; /* the command that made it, until it is answered */
    uint32_t moved;
    bool ending; /* failed or cancelled, and about to put back what it found */
    bool gone;
    bool failed; /* or cancelled: it must not have changed anything */
    struct census before;
    struct watched_job *next;
};

static void forget(struct resources *state, struct watched_job **link)
{
    struct watched_job *w = *link;

    *link = w->next;
    census_free(&w->before, state->check->arena);
    sim_free(state->check->arena, SIM_TYPE_check_state, w, sizeof(*w));
}

static void moved(struct resources *state, uint32_t host, uint32_t parts)
{
    for (struct watched_job *w = state->jobs; w; w = w->next) {
        if (w->host->number == host) {
            w->moved |= parts;
        }
    }
}

/* --- its beginning ---------------------------------------------------------------------------------------- */

static const struct command *command_in_hand(const struct resources *state, uint32_t host)
{
    const struct command *command = state->open;

    while (command && command->host->number != host) {
        command = command->next;
    }
    return command;
}

static bool is_not_alone(const Job *job)
{
    const Job *other = job_next(job->host, NULL);

    return other && (other != job || job_next(job->host, other));
}

/* A resize takes hold of its node for as long as it lasts (block.md 5). */
static bool somebody_resizes(struct host *host)
{
    for (const BlockBackend *blk = blk_next(host, NULL); blk; blk = blk_next(host, blk)) {
        uint64_t perm = 0, shared = 0;

        blk_get_perm(blk, &perm, &shared);
        if (perm & BLK_PERM_RESIZE) {
            return true;
        }
    }
    return false;
}

/* Other actions of a transaction change what they change, whatever becomes of the job. */
static bool does_more(const struct qmp_call *call)
{
    const struct qvalue *actions =
        str_is(call->command->name, "transaction") ? qdict_get(call->args, "actions") : NULL;

    return actions && actions->seq.count > 1;
}

static void begin(struct resources *state, uint32_t host, const Job *job)
{
    const struct command *command = command_in_hand(state, host);
    uint32_t before = command ? command->moved : 0; /* while the command waited for a drain, say */

    moved(state, host, CENSUS_ALL);
    if (!command || is_not_alone(job) || does_more(command->call)) {
        return;
    }
    if (somebody_resizes(command->host)) {
        before = CENSUS_ALL;
    }
    struct watched_job *w = (struct watched_job *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*w));
    *w = (struct watched_job){.job = job,
                              .host = command->host,
                              .id = job->id,
                              .type = job->driver->job_type,
                              .start = command->call,
                              .moved = before,
                              .next = state->jobs};
    state->jobs = w;
}

/* Commands that only ask, and those to jobs: these change nothing by themselves. */
static bool leaves_graph(const char *command)
{
    return strncmp(command, "query-", strlen("query-")) == 0 || strncmp(command, "job-", strlen("job-")) == 0 ||
           strncmp(command, "block-job-", strlen("block-job-")) == 0;
}

void resources_jobs_answered(struct resources *state, struct command *command, bool accepted)
{
    for (struct watched_job **link = &state->jobs; *link;) {
        struct watched_job *w = *link;

        if (w->start == command->call && !accepted) {
            forget(state, link);
            continue;
        }
        if (w->start == command->call) {
            struct census unused = w->before;

            w->start = NULL;
            w->before = command->before;
            command->before = unused;
        } else if (accepted && w->host == command->host && !leaves_graph(command->call->command->name)) {
            w->moved = CENSUS_ALL;
        }
        link = &w->next;
    }
}

/* --- its end ---------------------------------------------------------------------------------------------- */

static void on_status(void *opaque, const struct sim_record *record)
{
    struct resources *state = opaque;
    const char *status = sim_record_str(record, 1);
    const Job *job = record->ref;

    if (strcmp(status, "created") == 0) {
        begin(state, record->host, job);
    }
    for (struct watched_job *w = state->jobs; w; w = w->next) {
        w->ending = w->ending || (w->job == job && strcmp(status, "aborting") == 0);
        if (w->job == job && strcmp(status, "null") == 0) {
            w->gone = true;
            w->failed = job->ret < 0;
        }
    }
}

static void compare(struct resources *state, const struct watched_job *w)
{
    struct census_difference d;

    census_take(&state->now, state->check->arena, w->host);
    if (census_compare(&w->before, &state->now, JOB_PARTS & ~w->moved, &d)) {
        struct violation_where where = {
            .host = check_host_name(w->host),
            .node = d.node ? d.node->str : NULL,
            .job = w->id ? w->id->str : NULL,
            .job_type = job_type_name(w->type),
            .op = census_part_name(d.part),
        };

        check_violate(state->check->set, "resources", "failed-job", &where,
                      "job %s failed or was cancelled, and since it was started %s", w->id ? w->id->str : "-",
                      d.text);
    }
}

void resources_jobs_look(struct resources *state, const struct host *host)
{
    for (struct watched_job **link = &state->jobs; *link;) {
        struct watched_job *w = *link;

        if (w->host != host || !w->gone || w->start) {
            link = &w->next;
            continue;
        }
        if (w->failed && w->moved != CENSUS_ALL) {
            compare(state, w);
        }
        forget(state, link);
    }
}

/* --- others ----------------------------------------------------------------------------------------------- */

static void on_other(void *opaque, const struct sim_record *record)
{
    moved(opaque, record->host, CENSUS_ALL);
}

static void on_perm(void *opaque, const struct sim_record *record)
{
    if (strcmp(sim_record_str(record, 1), "root") == 0 && (record->field[3] & BLK_PERM_RESIZE)) {
        moved(opaque, record->host, CENSUS_ALL);
    }
}

static void on_threshold(void *opaque, const struct sim_record *record)
{
    moved(opaque, record->host, 1u << CENSUS_OPTIONS);
}

/* A node becomes read-only again by a reopen, which flushes: on a medium that refuses, it stays writable, and who
 * fails already has nobody to tell. */
static void on_disk_complete(void *opaque, const struct sim_record *record)
{
    struct resources *state = opaque;
    const struct disk_req *req = record->ref;

    for (struct watched_job *w = state->jobs; w; w = w->next) {
        if (w->ending && req && req->ret < 0 && (req->op == SIM_OP_FLUSH || req->op == SIM_OP_WRITE)) {
            w->moved |= 1u << CENSUS_READ_ONLY | 1u << CENSUS_OPTIONS | 1u << CENSUS_PERMISSIONS;
        }
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct resources *state = opaque;

    for (struct watched_job **link = &state->jobs; *link;) {
        if ((*link)->host == record->ref) {
            forget(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

void resources_jobs_attach(struct resources *state)
{
    static const struct check_subscription table[] = {
        {EV_JOB_STATUS_CHANGE, on_status}, {EV_guest_attach, on_other}, {EV_guest_detach, on_other},
        {EV_bitmap_freeze, on_other},      {EV_bitmap_thaw, on_other},  {EV_BLOCK_WRITE_THRESHOLD, on_threshold},
        {EV_host_crash, on_crash},         {EV_edge_perm, on_perm},     {EV_disk_complete, on_disk_complete},
    };

    check_subscribe(state->check->sim, table, ARRAY_SIZE(table), state);
}
