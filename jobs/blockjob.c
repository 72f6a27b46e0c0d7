/* Block jobs: edges on nodes, op blockers, speed, events, error policy (reference/jobs.md 1.8, 2, 3). */
#include "jobs/blockjob.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block_int.h"

/* --- the job as a parent of nodes ----------------------------------------------------------------------- */

static char *child_job_desc(const BdrvChild *child)
{
    const BlockJob *job = child->opaque;
    char *text = NULL;

    if (asprintf(&text, "block job '%s'", job->device != NULL ? job->device->str : "") < 0) {
        abort();
    }
    return text;
}

static void child_job_drained_begin(BdrvChild *child)
{
    BlockJob *job = child->opaque;

    job_pause(&job->job);
}

static void child_job_drained_end(BdrvChild *child)
{
    BlockJob *job = child->opaque;

    job_resume(&job->job);
}

static bool child_job_drained_poll(BdrvChild *child)
{
    BlockJob *job = child->opaque;
    const BlockJobDriver *driver = block_job_driver(job);

    /* Not busy: parked, or it meets a pause point before it does anything else. Completed: has no I/O left. */
    if (!job->job.busy || job_is_completed(&job->job)) {
        return false;
    }
    return driver->drained_poll == NULL || driver->drained_poll(job);
}

static const BdrvChildClass child_job = {
    .stay_at_node = true,
    .get_parent_desc = child_job_desc,
    .drained_begin = child_job_drained_begin,
    .drained_end = child_job_drained_end,
    .drained_poll = child_job_drained_poll,
};

int block_job_add_bdrv(BlockJob *job, const char *name, BlockDriverState *bs, uint64_t perm, uint64_t shared,
                       Error **errp)
{
    struct sim_arena *arena = job->job.host->arena;
    BdrvChild *child = bdrv_root_attach_child(bs, name, &child_job, 0, perm, shared, job, errp);
    BlockJobNode *node;

    if (child == NULL) {
        return -EPERM;
    }
    node = SIM_NEW(arena, BlockJobNode);
    node->child = child;
    node->next = job->nodes;
    job->nodes = node;
    bdrv_op_block_all(bs, job->blocker);
    return 0;
}

/* Letting go of an edge may poll: it is out of the list before. */
static void remove_node(BlockJob *job, BlockJobNode **place)
{
    BlockJobNode *node = *place;
    BdrvChild *child = node->child;

    *place = node->next;
    SIM_FREE(job->job.host->arena, BlockJobNode, node);
    bdrv_op_unblock_all(child->bs, job->blocker);
    bdrv_root_unref_child(child);
}

void block_job_remove_bdrv(BlockJob *job, BlockDriverState *bs)
{
    BlockJobNode **place = &job->nodes;

    while (*place != NULL && (*place)->child->bs != bs) {
        place = &(*place)->next;
    }
    SIM_ASSERT(*place != NULL);
    remove_node(job, place);
}

void block_job_remove_all_bdrv(BlockJob *job)
{
    while (job->nodes != NULL) {
        remove_node(job, &job->nodes);
    }
}

/* --- events --------------------------------------------------------------------------------------------- */

#define JOB_EMIT(job, kind, ...) \
    do { \
        if (!job_is_internal(job)) { \
            SIM_EMIT((job)->host->sim, (job)->host, kind, job, __VA_ARGS__); \
        } \
    } while (0)

#define JOB_TYPE_TEXT(job) SIM_P(job_type_name((job)->driver->job_type))
#define JOB_LEN(job) ((uint64_t)((job)->progress_current + (job)->progress_remaining))
#define JOB_OFFSET(job) ((uint64_t)(job)->progress_current)
#define JOB_SPEED(job) ((uint64_t)container_of(job, BlockJob, job)->speed)

static void block_job_ready(Job *job)
{
    JOB_EMIT(job, BLOCK_JOB_READY, JOB_TYPE_TEXT(job), SIM_P(job->id), JOB_LEN(job), JOB_OFFSET(job),
             JOB_SPEED(job));
}

static void block_job_pending(Job *job)
{
    JOB_EMIT(job, BLOCK_JOB_PENDING, JOB_TYPE_TEXT(job), SIM_P(job->id));
}

static void block_job_completed(Job *job)
{
    const char *error = job->ret < 0 ? error_get_pretty(job->err) : NULL;

    JOB_EMIT(job, BLOCK_JOB_COMPLETED, JOB_TYPE_TEXT(job), SIM_P(job->id), JOB_LEN(job), JOB_OFFSET(job),
             JOB_SPEED(job), SIM_P(error));
}

static void block_job_cancelled(Job *job)
{
    JOB_EMIT(job, BLOCK_JOB_CANCELLED, JOB_TYPE_TEXT(job), SIM_P(job->id), JOB_LEN(job), JOB_OFFSET(job),
             JOB_SPEED(job));
}

static void block_job_user_resume(Job *job)
{
    block_job_iostatus_reset(container_of(job, BlockJob, job));
}

/* After an end of the job, and after a start that failed. */
static void block_job_clean(Job *job)
{
    BlockJob *block_job = container_of(job, BlockJob, job);

    block_job_remove_all_bdrv(block_job);
    error_free(block_job->blocker);
    block_job->blocker = NULL;
}

static void block_job_forget(Job *job)
{
    error_free(container_of(job, BlockJob, job)->blocker);
}

static const JobHooks block_job_hooks = {
    .ready = block_job_ready,
    .pending = block_job_pending,
    .completed = block_job_completed,
    .cancelled = block_job_cancelled,
    .user_resume = block_job_user_resume,
    .clean = block_job_clean,
    .free = block_job_clean,
    .forget = block_job_forget,
};

/* --- life ----------------------------------------------------------------------------------------------- */

const BlockJobDriver *block_job_driver(const BlockJob *job)
{
    return container_of(job->job.driver, BlockJobDriver, job_driver);
}

BlockJob *block_job_of(Job *job)
{
    return job->hooks == &block_job_hooks ? container_of(job, BlockJob, job) : NULL;
}

BlockJob *block_job_find_err(struct host *host, const char *id, Error **errp)
{
    Job *job = job_find(host, id);
    BlockJob *block_job = job != NULL ? block_job_of(job) : NULL;

    if (block_job == NULL) {
        error_set(errp, ERROR_CLASS_DEVICE_NOT_ACTIVE, "Block job '%s' not found", id);
    }
    return block_job;
}

/* Name of the backend whose root bs is; "" when there is none. */
static const char *device_name(BlockDriverState *bs)
{
    struct host *host = bdrv_host(bs);

    for (BlockBackend *blk = blk_next(host, NULL); blk != NULL; blk = blk_next(host, blk)) {
        if (blk_bs(blk) == bs && blk_name(blk)[0] != '\0') {
            return blk_name(blk);
        }
    }
    return "";
}

BlockJob *block_job_create(const char *job_id, const BlockJobDriver *driver, JobTxn *txn, BlockDriverState *bs,
                           uint64_t perm, uint64_t shared, int64_t speed, unsigned flags,
                           void (*cb)(void *opaque, int ret), void *cb_opaque, Error **errp)
{
    bool internal = (flags & JOB_INTERNAL) != 0;
    BlockJob *block_job;
    Job *job;

    SIM_ASSERT(driver->job_driver.instance_size >= sizeof(BlockJob));
    SIM_ASSERT(!internal || job_id == NULL);
    if (!internal && job_id == NULL) {
        job_id = device_name(bs);
    }
    job = job_create(bdrv_host(bs), job_id, &driver->job_driver, txn, flags, cb, cb_opaque, errp);
    if (job == NULL) {
        return NULL;
    }
    job->hooks = &block_job_hooks;
    block_job = container_of(job, BlockJob, job);
    block_job->device = job->id;
    error_setg(&block_job->blocker, "block device is in use by block job: %s",
               job_type_name(driver->job_driver.job_type));
    if (block_job_add_bdrv(block_job, "main node", bs, perm, shared, errp) < 0 ||
        !block_job_set_speed(block_job, speed, errp)) {
        job_early_fail(job);
        return NULL;
    }
    return block_job;
}

/* --- speed ---------------------------------------------------------------------------------------------- */

bool block_job_set_speed(BlockJob *block_job, int64_t speed, Error **errp)
{
    Job *job = &block_job->job;
    const BlockJobDriver *driver = block_job_driver(block_job);
    int64_t old_speed = block_job->speed;

    if (job_apply_verb(job, JOB_VERB_SET_SPEED, errp) < 0) {
        return false;
    }
    if (speed < 0) {
        error_setg(errp, "Parameter 'speed' expects a non-negative value");
        return false;
    }
    ratelimit_set_speed(&block_job->limit, (uint64_t)speed);
    block_job->speed = speed;
    JOB_EMIT(job, job_speed, SIM_P(job->id), (uint64_t)speed);
    if (driver->set_speed != NULL) {
        driver->set_speed(block_job, speed);
    }
    /* Only somebody who may go on earlier is woken; a slower one finds out when its time is up. */
    if ((speed == 0 || speed > old_speed) && sim_timer_queued(&job->sleep_timer)) {
        job_kick(job);
    }
    return true;
}

void block_job_charge(BlockJob *job, uint64_t bytes)
{
    (void)ratelimit_calculate_delay(&job->limit, bytes, sim_now(job->job.host->sim));
}

int64_t block_job_rate_delay(BlockJob *job)
{
    return ratelimit_calculate_delay(&job->limit, 0, sim_now(job->job.host->sim));
}

static int64_t block_job_next_delay(Job *job)
{
    return block_job_rate_delay(container_of(job, BlockJob, job));
}

void block_job_rate_sleep(BlockJob *job)
{
    job_rate_sleep(&job->job, block_job_next_delay);
}

/* --- error policy (2) ----------------------------------------------------------------------------------- */

void block_job_iostatus_reset(BlockJob *job)
{
    job->iostatus = BLOCK_IO_STATUS_OK;
}

static void block_job_stop_on_error(BlockJob *block_job, int error)
{
    Job *job = &block_job->job;

    SIM_MARK(job->host->sim, job_error_stop);
    /* One count for any number of failures, so that one resume is enough. */
    if (!job->user_paused) {
        job->user_paused = true;
        job_pause(job);
    }
    if (block_job->iostatus == BLOCK_IO_STATUS_OK) {
        block_job->iostatus = error == ENOSPC ? BLOCK_IO_STATUS_NOSPACE : BLOCK_IO_STATUS_FAILED;
    }
}

enum block_error_action block_job_error_action(BlockJob *block_job, enum block_on_error on_error, bool is_read,
                                               int error)
{
    Job *job = &block_job->job;
    enum block_error_action action = block_error_decide(on_error, error);

    SIM_ASSERT(error > 0);
    JOB_EMIT(job, BLOCK_JOB_ERROR, SIM_P(job->id), SIM_P(is_read ? "read" : "write"),
             SIM_P(block_error_action_name(action)));
    /* A job that is being killed stays killable: no pause can hold it any more. */
    if (action == BLOCK_ERROR_ACTION_STOP && !job->force_cancel) {
        block_job_stop_on_error(block_job, error);
    }
    return action;
}

/* --- commands ------------------------------------------------------------------------------------------- */

void block_job_change(BlockJob *block_job, enum job_type type, const char *copy_mode, Error **errp)
{
    Job *job = &block_job->job;
    const BlockJobDriver *driver = block_job_driver(block_job);

    if (job_apply_verb(job, JOB_VERB_CHANGE, errp) < 0) {
        return;
    }
    if (driver->change == NULL) {
        error_setg(errp, "Job type does not support change");
    } else if (type != job->driver->job_type) {
        error_setg(errp, "Job '%s' is of type '%s', not '%s'", job_id(job), job_type_name(job->driver->job_type),
                   job_type_name(type));
    } else {
        driver->change(block_job, copy_mode, errp);
    }
}

void block_job_user_cancel(BlockJob *block_job, bool force, Error **errp)
{
    Job *job = &block_job->job;

    if (!force && job->user_paused) {
        error_setg(errp, "The block job for device '%s' is currently paused", job_id(job));
        return;
    }
    job_user_cancel(job, force, errp);
}
