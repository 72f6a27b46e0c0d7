/*
 * target-at-pivot: a mirror that ends in success leaves the target equal to the source at that moment; while it
 * runs, what is neither dirty nor in flight is equal already.
 *
 * "That moment" is looked at several times: when the job has returned with its source still drained (waiting,
 * pending), when parents move to the target, and when the drain of a mirror that does not switch ends. The last
 * look counts, and only if COMPLETED comes without an error: a failed job promises nothing.
 *
 * Comparing costs what was written since the last look, not what the disks hold: equal areas are left alone until a
 * medium below either side reports a write there.
 */
#include "check/target_at_pivot.h"

#include <string.h>

#include "jobs/commit.h"
#include "vm/guest.h"

static struct pivot *find(struct target_at_pivot *state, uint32_t host, const struct sim_name *id)
{
    struct pivot *p = state->pivots;

    while (p && !(p->host->number == host && p->id == id)) {
        p = p->next;
    }
    return p;
}

/* A target whose backing node is the source (sync=none), or the source's own (top), shows all that the source shows:
 * its layer must have no holes where it should have content, and none the other way round. */
static bool shows_all(const struct pivot *p)
{
    BlockDriverState *source = pivot_node(p, p->source), *target = pivot_node(p, p->target);
    BlockDriverState *below = target ? bdrv_cow_bs(bdrv_skip_filters(target)) : NULL;
    BlockDriverState *expected = source ? bdrv_skip_filters(source) : NULL;

    if (expected && p->sync == MIRROR_SYNC_TOP) {
        expected = bdrv_cow_bs(expected) ? bdrv_skip_filters(bdrv_cow_bs(expected)) : NULL;
    }
    return below && expected && bdrv_skip_filters(below) == expected;
}

static void look_at_end(struct target_at_pivot *state, struct pivot *p)
{
    if (p->sync != MIRROR_SYNC_FULL && shows_all(p)) {
        ranges_add(&p->open, 0, INT64_MAX);
        p->below[1] = check_below(pivot_node(p, p->target)).id; /* the job has put that there */
    }
    p->different = pivot_compare(state, p, NULL);
    p->looked = true;
}

/* --- events ----------------------------------------------------------------------------------------------- */

static void learn(struct target_at_pivot *state, struct pivot *p, const Job *job)
{
    BlockDriverState *source = mirror_source(job);
    BlockDriverState *target = mirror_target(job);

    if (!source || !target || p->source) {
        return;
    }
    p->source = bdrv_node_sim_name(source);
    p->target = bdrv_node_sim_name(target);
    p->source_disk = check_disk_below(source);
    p->target_disk = check_disk_below(target);
    p->below[0] = check_below(source).id;
    p->below[1] = check_below(target).id;
    /* null-co keeps nothing of what is written and may read as anything (block.md 7.4) */
    p->moved = check_below(source).weak || check_below(target).weak || check_below(source).forgets ||
               check_below(target).forgets;
    p->sync = block_job_is_active_commit(job) ? MIRROR_SYNC_FULL : mirror_sync_mode(job);
    p->type = block_job_is_active_commit(job) ? "commit" : "mirror";
    if (p->sync == MIRROR_SYNC_FULL) {
        ranges_add(&p->open, 0, INT64_MAX);
    } else if (p->sync == MIRROR_SYNC_TOP) {
        pivot_owe_top(state, p, source);
    }
}

static void look_while_running(struct target_at_pivot *state, struct pivot *p, const Job *job, const char *phase)
{
    int64_t different;

    if (!p->source || !p->populated || !mirror_source(job)) {
        return;
    }
    different = pivot_compare(state, p, job);
    if (different >= 0) {
        pivot_report(state, p, "clean-but-different", phase, different);
    }
}

static struct pivot *pivot_get(struct target_at_pivot *state, const struct sim_record *record, const Job *job)
{
    struct pivot *p = find(state, record->host, sim_record_name(record, 0));

    if (!p) {
        p = (struct pivot *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*p));
        *p = (struct pivot){.host = job->host, .id = job->id, .different = -1, .next = state->pivots};
        ranges_init(state->check->arena, &p->open);
        ranges_init(state->check->arena, &p->owed);
        state->pivots = p;
    }
    return p;
}

static void forget(struct target_at_pivot *state, struct pivot **link)
{
    struct pivot *p = *link;

    *link = p->next;
    ranges_free(&p->open);
    ranges_free(&p->owed);
    sim_free(state->check->arena, SIM_TYPE_check_state, p, sizeof(*p));
}

static void on_status(void *opaque, const struct sim_record *record)
{
    struct target_at_pivot *state = opaque;
    const Job *job = check_job_of(state->check->sim, record);
    struct pivot *p;
    enum job_status status;

    SIM_ASSERT(job_status_parse(sim_record_str(record, 1), &status));
    if (status == JOB_STATUS_NULL) {
        for (struct pivot **link = &state->pivots; *link; link = &(*link)->next) {
            if ((*link)->host->number == record->host && (*link)->id == sim_record_name(record, 0)) {
                forget(state, link);
                return;
            }
        }
        return;
    }
    if (!job || !(block_job_is_mirror(job) || block_job_is_active_commit(job))) {
        return;
    }
    p = pivot_get(state, record, job);
    p->status = status;
    learn(state, p, job);
    if (!p->source) {
        return;
    }
    if (status == JOB_STATUS_PAUSED || status == JOB_STATUS_STANDBY) {
        look_while_running(state, p, job, job_status_name(status));
    } else if (status == JOB_STATUS_WAITING || status == JOB_STATUS_PENDING) {
        look_at_end(state, p);
    }
}

static void on_ready(void *opaque, const struct sim_record *record)
{
    struct target_at_pivot *state = opaque;
    struct pivot *p = find(state, record->host, sim_record_name(record, 1));
    const Job *job = p ? job_find(p->host, p->id->str) : NULL;

    if (job) {
        learn(state, p, job);
        p->populated = true;
        look_while_running(state, p, job, "ready");
    }
}

static bool ended(const struct pivot *p)
{
    return (p->status == JOB_STATUS_WAITING || p->status == JOB_STATUS_PENDING) && !p->switched;
}

/* Parents move to the target: the moment of the switch. */
static void on_replace(void *opaque, const struct sim_record *record)
{
    struct target_at_pivot *state = opaque;

    for (struct pivot *p = state->pivots; p; p = p->next) {
        if (p->host->number == record->host && ended(p) && sim_record_name(record, 1) == p->target) {
            look_at_end(state, p);
            p->switched = true;
        }
    }
}

/* The drain that a mirror held from its last look to its end is over: guests may write again. */
static void on_drain_end(void *opaque, const struct sim_record *record)
{
    struct target_at_pivot *state = opaque;

    for (struct pivot *p = state->pivots; p; p = p->next) {
        if (p->host->number == record->host && ended(p) && sim_record_name(record, 0) == p->source) {
            look_at_end(state, p);
            p->switched = true;
        }
    }
}

static void on_completed(void *opaque, const struct sim_record *record)
{
    struct target_at_pivot *state = opaque;
    struct pivot *p = find(state, record->host, sim_record_name(record, 1));

    if (p && p->looked && p->different >= 0 && !sim_record_str(record, 5)) {
        pivot_report(state, p, "target-differs", "completed", p->different);
    }
}

/* Opens an area again, of a partial mirror only what it owes. */
static void reopen(struct pivot *p, int64_t start, int64_t end)
{
    const struct range *r;

    if (p->sync == MIRROR_SYNC_FULL) {
        ranges_add(&p->open, start, end);
        return;
    }
    for (int64_t at = start; (r = ranges_next(&p->owed, at)) && r->start < end; at = r->end) {
        ranges_add(&p->open, MAX(r->start, start), MIN(r->end, end));
        if (r->end >= end) {
            return;
        }
    }
}

/* A guest's write through the source: a partial mirror must bring it over. */
static void on_guest_complete(void *opaque, const struct sim_record *record)
{
    struct target_at_pivot *state = opaque;
    const struct guest_req *req = record->ref;

    if (state->pivots == NULL || req->ret < 0 || req->ignored ||
        (req->op != SIM_OP_WRITE && req->op != SIM_OP_WRITE_ZEROES)) {
        return;
    }
    for (struct pivot *p = state->pivots; p; p = p->next) {
        BlockDriverState *top = blk_bs(guest_blk(req->guest));
        BlockDriverState *source = pivot_node(p, p->source);

        if (p->sync != MIRROR_SYNC_FULL && !p->switched && source && top && p->host->number == record->host &&
            check_through_filters(top, source)) {
            ranges_add(&p->owed, req->offset, req->offset + req->bytes);
            ranges_add(&p->open, req->offset, req->offset + req->bytes);
        }
    }
}

/* Whatever wrote: the area is open again. A failed write may have left a prefix, a bent one hit elsewhere. */
static void on_disk_complete(void *opaque, const struct sim_record *record)
{
    struct target_at_pivot *state = opaque;
    const struct disk_req *req = record->ref;

    if (!req || state->pivots == NULL) {
        return;
    }
    for (struct pivot *p = state->pivots; p; p = p->next) {
        if (req->disk != p->source_disk && req->disk != p->target_disk) {
            continue;
        }
        if (check_op_writes(req->op)) {
            reopen(p, req->offset, req->offset + req->bytes);
            if (req->effect_offset != req->offset) {
                reopen(p, req->effect_offset, req->effect_offset + req->bytes);
            }
        } else if (req->op == SIM_OP_READ && req->origin.kind == SIM_ORIGIN_JOB && req->origin.name == p->id) {
            p->populated = true; /* copying comes after the bitmap was filled */
        }
    }
}

/* Rot changes a medium without a request. */
static void on_fault(void *opaque, const struct sim_record *record)
{
    struct target_at_pivot *state = opaque;

    for (struct pivot *p = state->pivots; p; p = p->next) {
        if (p->sync == MIRROR_SYNC_FULL && strcmp(sim_record_str(record, 0), "bit-rot") == 0) {
            ranges_add(&p->open, 0, INT64_MAX);
        }
    }
}

/* It may be put back before anybody looks. */
static void look_below(struct target_at_pivot *state, uint32_t host)
{
    for (struct pivot *p = state->pivots; p; p = p->next) {
        if (p->host->number == host && p->source) {
            pivot_has_moved(p, pivot_node(p, p->source), pivot_node(p, p->target));
        }
    }
}

static void on_reopen(void *opaque, const struct sim_record *record)
{
    look_below(opaque, record->host);
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    if (strcmp(((const struct qmp_call *)record->ref)->command->name, "x-blockdev-change") == 0) {
        look_below(opaque, record->host);
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct target_at_pivot *state = opaque;

    for (struct pivot **link = &state->pivots; *link;) {
        if ((*link)->host == record->ref) {
            forget(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct target_at_pivot *state = opaque;

    for (struct pivot *p = state->pivots; p; p = p->next) {
        const Job *job = job_find(p->host, p->id->str);

        if (job && job_is_ready(job)) {
            look_while_running(state, p, job, job_status_name(job->status));
        }
    }
}

static void *attach(struct check *check)
{
    struct target_at_pivot *state =
        (struct target_at_pivot *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));
    static const struct check_subscription subscriptions[] = {
        {EV_JOB_STATUS_CHANGE, on_status},
        {EV_BLOCK_JOB_READY, on_ready},
        {EV_edge_replace, on_replace},
        {EV_drain_end, on_drain_end},
        {EV_disk_complete, on_disk_complete},
        {EV_BLOCK_JOB_COMPLETED, on_completed},
        {EV_fault_fired, on_fault},
        {EV_host_crash, on_crash},
        {EV_node_reopen, on_reopen},
        {EV_qmp_reply, on_reply},
        {EV_guest_complete, on_guest_complete},
    };

    state->check = check;
    check_mirror_end_attach(check);
    check_subscribe(check->sim, subscriptions, ARRAY_SIZE(subscriptions), state);
    return state;
}

const struct check_class check_target_at_pivot = {
    .name = "target-at-pivot",
    .doc = "a mirror reported COMPLETED equals the source at that moment; what is neither dirty nor in flight is "
           "equal "
           "before",
    .rules = "target-differs: the job ended in success and the target was not the source\n"
             "clean-but-different: the job counts an area as copied, and it is not equal\n"
             "not-flushed: a mirror became ready or ended in success, and no flush covered what it wrote\n"
             "switch: a success moves the guest to the target if the job was told to complete, and only then\n",
    .attach = attach,
    .at_settled = at_settled,
};
