/*
 * target-at-pivot, the end of a mirror: what it wrote is stable on the target's medium when it says that both are
 * equal, and the guest moves to the target if that was asked for, and only then (reference/jobs.md 1.6, 4.7).
 *
 * A flush counts for what was complete when it was submitted. That the medium was told is enough: whether it lied
 * is not the job's affair.
 */
#include <inttypes.h>
#include <string.h>

#include "check/checkers.h"
#include "jobs/commit.h"
#include "jobs/mirror.h"

struct mirror_end {
    struct host *host;
    const struct sim_name *id;
    const struct sim_name *target; /* node name; NULL: not known yet */
    struct disk *medium;           /* below the target; NULL: it keeps what it gets, or cannot be followed */
    const char *type;              /* "commit": an active one */
    enum job_status status;
    uint64_t written;      /* the job's writes completed on the medium */
    uint64_t stable;       /* of these, covered by a flush */
    uint64_t flush_number; /* the latest flush, and what it will cover */
    uint64_t flush_covers;
    bool asked; /* to complete */
    bool moved; /* parents went to the target */
    struct mirror_end *next;
};

struct mirror_ends {
    struct check *check;
    struct mirror_end *first;
};

static struct mirror_end *find(const struct mirror_ends *state, uint32_t host, const char *id)
{
    struct mirror_end *e = id ? state->first : NULL;

    while (e && !(e->host->number == host && strcmp(e->id->str, id) == 0)) {
        e = e->next;
    }
    return e;
}

static void violate(const struct mirror_ends *state, const struct mirror_end *e, const char *rule,
                    const char *phase, const char *text)
{
    struct violation_where where = {.host = check_host_name(e->host),
                                    .node = e->target->str,
                                    .job = e->id->str,
                                    .job_type = e->type,
                                    .phase = phase};

    check_violate(state->check->set, "target-at-pivot", rule, &where, "job %s, target %s: %s", e->id->str,
                  e->target->str, text);
}

/* A node on the way may have been told to drop flushes. */
static bool drops_flushes(BlockDriverState *bs)
{
    while (bs && !(bdrv_open_flags(bs) & BDRV_O_NO_FLUSH)) {
        bs = bdrv_primary_bs(bs);
    }
    return bs != NULL;
}

static void learn(struct mirror_end *e, const Job *job)
{
    BlockDriverState *target = mirror_target(job);

    if (e->target || !target) {
        return;
    }
    e->target = bdrv_node_sim_name(target);
    e->medium = check_disk_below(target);
    if (e->medium && (!disk_get_config(e->medium)->volatile_cache || drops_flushes(target))) {
        e->medium = NULL;
    }
}

static void look_at_flush(const struct mirror_ends *state, const struct mirror_end *e, const char *phase)
{
    if (e->medium && e->stable < e->written) {
        violate(state, e, "not-flushed", phase, "writes of the job are complete and no flush has covered them");
    }
}

static void forget(struct mirror_ends *state, struct mirror_end **link)
{
    struct mirror_end *e = *link;

    *link = e->next;
    sim_free(state->check->arena, SIM_TYPE_check_state, e, sizeof(*e));
}

static void on_status(void *opaque, const struct sim_record *record)
{
    struct mirror_ends *state = opaque;
    const Job *job = check_job_of(state->check->sim, record);
    struct mirror_end *e = find(state, record->host, sim_record_name(record, 0)->str);
    enum job_status status;

    SIM_ASSERT(job_status_parse(sim_record_str(record, 1), &status));
    if (!e && job && (block_job_is_mirror(job) || block_job_is_active_commit(job)) && status != JOB_STATUS_NULL) {
        e = (struct mirror_end *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*e));
        *e = (struct mirror_end){.host = job->host,
                                 .id = job->id,
                                 .type = block_job_is_mirror(job) ? "mirror" : "commit",
                                 .next = state->first};
        state->first = e;
    }
    if (!e) {
        return;
    }
    e->status = status;
    if (status == JOB_STATUS_NULL) {
        struct mirror_end **link = &state->first;

        while (*link != e) {
            link = &(*link)->next;
        }
        forget(state, link);
        return;
    }
    if (job) {
        learn(e, job);
    }
    if (status == JOB_STATUS_WAITING) {
        look_at_flush(state, e, "waiting");
    }
}

static void on_ready(void *opaque, const struct sim_record *record)
{
    struct mirror_ends *state = opaque;
    const struct mirror_end *e = find(state, record->host, sim_record_name(record, 1)->str);

    if (e) {
        look_at_flush(state, e, "ready");
    }
}

static void on_disk_submit(void *opaque, const struct sim_record *record)
{
    struct mirror_ends *state = opaque;
    const struct disk_req *req = record->ref;

    for (struct mirror_end *e = req && req->op == SIM_OP_FLUSH ? state->first : NULL; e; e = e->next) {
        if (e->medium == req->disk) {
            e->flush_number = req->number;
            e->flush_covers = e->written;
        }
    }
}

static void on_disk_complete(void *opaque, const struct sim_record *record)
{
    struct mirror_ends *state = opaque;
    const struct disk_req *req = record->ref;

    for (struct mirror_end *e = req && req->ret >= 0 ? state->first : NULL; e; e = e->next) {
        if (e->medium != req->disk) {
            continue;
        }
        if (req->op == SIM_OP_FLUSH && req->number == e->flush_number) {
            e->stable = MAX(e->stable, e->flush_covers);
        } else if (check_op_writes(req->op) && !(req->flags & DISK_REQ_FUA) && req->host == e->host &&
                   req->origin.kind == SIM_ORIGIN_JOB && req->origin.name == e->id) {
            e->written++;
        }
    }
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    struct mirror_ends *state = opaque;
    const struct qmp_call *call = record->ref;
    const char *name = call->command->name;
    const char *key = strcmp(name, "job-complete") == 0         ? "id"
                      : strcmp(name, "block-job-complete") == 0 ? "device"
                                                                : NULL;
    struct mirror_end *e = key ? find(state, record->host, check_call_str(call, key)) : NULL;

    if (e && !call->err) {
        e->asked = true;
    }
}

static void on_replace(void *opaque, const struct sim_record *record)
{
    struct mirror_ends *state = opaque;

    for (struct mirror_end *e = state->first; e; e = e->next) {
        if (e->host->number == record->host && e->target == sim_record_name(record, 1) &&
            (e->status == JOB_STATUS_WAITING || e->status == JOB_STATUS_PENDING)) {
            e->moved = true;
        }
    }
}

static void on_completed(void *opaque, const struct sim_record *record)
{
    struct mirror_ends *state = opaque;
    const struct mirror_end *e = find(state, record->host, sim_record_name(record, 1)->str);
    bool failed = sim_record_str(record, 5) != NULL;

    if (e && e->target && !failed && e->asked != e->moved) {
        violate(state, e, "switch", "completed",
                e->asked ? "it was told to complete, and nobody was moved to the target"
                         : "nobody told it to complete, and parents were moved to the target");
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct mirror_ends *state = opaque;

    for (struct mirror_end **link = &state->first; *link;) {
        if ((*link)->host == record->ref) {
            forget(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

void check_mirror_end_attach(struct check *check)
{
    struct mirror_ends *state = (struct mirror_ends *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));
    static const struct check_subscription subscriptions[] = {
        {EV_JOB_STATUS_CHANGE, on_status},      {EV_BLOCK_JOB_READY, on_ready}, {EV_disk_submit, on_disk_submit},
        {EV_disk_complete, on_disk_complete},   {EV_qmp_reply, on_reply},       {EV_edge_replace, on_replace},
        {EV_BLOCK_JOB_COMPLETED, on_completed}, {EV_host_crash, on_crash},
    };

    state->check = check;
    check_subscribe(check->sim, subscriptions, ARRAY_SIZE(subscriptions), state);
}
