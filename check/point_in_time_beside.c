/* target-point-in-time: who else writes to a source or a target, or puts other media below. Nothing can be said of
 * such a backup any more. */
#include "check/point_in_time.h"

#include <string.h>

#include "jobs/commit.h"

bool pit_is_beside(const BlockDriverState *bs)
{
    return check_written_beside(bs);
}

static bool lies_below(const BlockDriverState *bs, const BlockDriverState *node)
{
    bool found = bs == node;

    for (const BdrvChild *edge = bs ? bdrv_first_child(bs) : NULL; edge && !found; edge = bdrv_next_child(edge)) {
        found = lies_below(bdrv_child_bs(edge), node);
    }
    return found;
}

static bool stands_above(const struct host *host, const struct sim_name *name, const BlockDriverState *node)
{
    const BlockDriverState *bs = pit_node(host, name);

    return bs && lies_below(bs, node);
}

/* What lies below that node is not what it was; NULL: of no node of the host. */
static void lose(struct point_in_time *state, const struct host *host, const BlockDriverState *node)
{
    for (struct pit_job *p = state->jobs; p; p = p->next) {
        p->lost |= p->host == host &&
                   (!node || stands_above(host, p->source, node) || stands_above(host, p->target, node));
    }
    for (struct pit_filter *f = state->filters; f; f = f->next) {
        f->lost |= f->host == host &&
                   (!node || stands_above(host, f->source, node) || stands_above(host, f->target, node));
    }
}

/* A backup onto what another filter saves to; its own one is what it copies by. */
static void back_up_onto(struct point_in_time *state, const Job *job)
{
    const BlockDriverState *target = backup_target(job), *own = backup_filter(job);

    for (struct pit_filter *f = state->filters; f && target && own; f = f->next) {
        const BlockDriverState *saved = f->host == job->host ? pit_node(f->host, f->target) : NULL;

        f->lost |= saved && f->node != bdrv_node_sim_name(own) &&
                   (check_stands_on(saved, target) || check_stands_on(target, saved));
    }
}

/* Somebody writes through bs, who is no copy: a target may not be written by others. */
static void write_through(struct point_in_time *state, const struct host *host, const BlockDriverState *bs)
{
    for (struct pit_job *p = state->jobs; p; p = p->next) {
        const BlockDriverState *target = p->host == host ? pit_node(host, p->target) : NULL;

        p->lost |= target && (check_stands_on(bs, target) || check_stands_on(target, bs));
    }
    for (struct pit_filter *f = state->filters; f; f = f->next) {
        const BlockDriverState *target = f->host == host ? pit_node(host, f->target) : NULL;

        f->lost |= target && (check_stands_on(bs, target) || check_stands_on(target, bs));
    }
}

static void on_submit(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;
    const struct guest_req *req = record->ref;
    const BlockDriverState *bs =
        (state->filters || state->jobs) && check_op_writes(req->op) ? blk_bs(guest_blk(req->guest)) : NULL;

    if (bs) {
        write_through(state, guest_host(req->guest), bs);
    }
}

/* Another job's target. */
static void on_status(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;
    const Job *job = state->filters ? check_job_of(state->check->sim, record) : NULL;
    const BlockDriverState *target = NULL;

    if (!job || strcmp(sim_record_str(record, 1), "running") != 0) {
        return;
    }
    if (block_job_is_backup(job)) {
        back_up_onto(state, job);
    } else if (block_job_is_mirror(job) || block_job_is_active_commit(job)) {
        target = mirror_target(job);
    } else if (block_job_is_commit(job)) {
        target = commit_base(job);
    }
    if (target) {
        write_through(state, job->host, target);
    }
}

static void on_reopen(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;
    const BlockDriverState *bs = state->call && strcmp(state->call->command->name, "blockdev-reopen") == 0
                                     ? pit_node(state->call->host, sim_record_name(record, 0))
                                     : NULL;

    if (bs) {
        lose(state, bdrv_host(bs), bs);
    }
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    const struct qmp_call *call = record->ref;

    if (!call->err && strcmp(call->command->name, "x-blockdev-change") == 0) {
        lose(opaque, call->host, NULL);
    }
}

static void on_snapshot(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;
    const struct host *host = check_host(state->check->sim, record->host);
    const BlockDriverState *bs =
        host && strcmp(sim_record_str(record, 1), "goto") == 0 ? pit_node(host, sim_record_name(record, 0)) : NULL;

    if (bs) {
        lose(state, host, bs);
    }
}

static void on_power_loss(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;

    for (struct host *host = host_first(state->check->sim); host; host = host->next) {
        lose(state, host, NULL);
    }
}

void pit_beside_attach(struct point_in_time *state)
{
    static const struct check_subscription subscriptions[] = {
        {EV_guest_submit, on_submit}, {EV_JOB_STATUS_CHANGE, on_status}, {EV_node_reopen, on_reopen},
        {EV_qmp_reply, on_reply},     {EV_image_snapshot, on_snapshot},  {EV_power_loss, on_power_loss},
    };

    check_subscribe(state->check->sim, subscriptions, ARRAY_SIZE(subscriptions), state);
}
