/* A backup at work: what is left out first, then copy calls until nothing is left (reference/jobs.md 2, 5.3, 5.7).
 */
#include "jobs/backup_int.h"

/* --- the call ------------------------------------------------------------------------------------------- */

/* The job's coroutine is parked where it may be entered, or waits for just this in the queue. */
static void backup_call_over(void *opaque)
{
    BackupJob *s = opaque;

    co_queue_restart_all(&s->call_over);
    job_kick(&s->common.job);
}

static bool backup_call_at_work(const BackupJob *s)
{
    return s->call != NULL && !block_copy_call_finished(s->call);
}

static void backup_await_call(BackupJob *s)
{
    block_copy_call_cancel(s->call);
    while (!block_copy_call_finished(s->call)) {
        co_queue_wait(&s->call_over);
    }
}

/* Paused means that no I/O of the job is in flight. */
void backup_pause(Job *job)
{
    BackupJob *s = backup_of(job);

    if (backup_call_at_work(s)) {
        SIM_MARK(job->host->sim, backup_paused_in_call);
        backup_await_call(s);
    }
}

/* Engine and call are told of any change, a lower speed too. */
void backup_set_speed(BlockJob *job, int64_t speed)
{
    BackupJob *s = backup_of(&job->job);

    SIM_ASSERT(speed >= 0);
    if (s->copy == NULL) {
        return; /* being made, or over */
    }
    block_copy_set_speed(s->copy, (uint64_t)speed);
    if (backup_call_at_work(s)) {
        block_copy_call_kick(s->call);
    }
}

/* One call over the disk, to its end or that of the job. */
static void backup_call(BackupJob *s)
{
    Job *job = &s->common.job;
    int64_t bytes = ROUND_UP(s->length, block_copy_cluster_size(s->copy));

    SIM_ASSERT(s->call == NULL && s->length > 0);
    s->call = block_copy_async(s->copy, 0, bytes, (int)s->perf.max_workers, s->perf.max_chunk, backup_call_over, s);
    while (!block_copy_call_finished(s->call) && !job_should_stop(job)) {
        job_yield(job);
    }
    if (!block_copy_call_finished(s->call)) {
        backup_await_call(s);
    }
}

/* What the policy makes of a failed call. Negative: the job ends with it. */
static int backup_call_failed(BackupJob *s, int ret, bool is_read, int64_t began_ns)
{
    Job *job = &s->common.job;
    enum block_on_error on_error = is_read ? s->on_source_error : s->on_target_error;
    enum block_error_action action = block_job_error_action(&s->common, on_error, is_read, -ret);

    if (action == BLOCK_ERROR_ACTION_REPORT) {
        return ret;
    }
    SIM_MARK(job->host->sim, backup_retried);
    /* What a node refuses takes no time, and nobody else would ever run. */
    if (action == BLOCK_ERROR_ACTION_IGNORE && sim_now(job->host->sim) == began_ns) {
        SIM_MARK(job->host->sim, backup_refused_at_once);
        s->refused_at_once = true;
        job_sleep_ns(job, RATE_SLICE_NS, true);
        s->refused_at_once = false;
    }
    return 0;
}

static int backup_copy(BackupJob *s)
{
    Job *job = &s->common.job;

    for (;;) {
        /* Here a job parks that an error has stopped. */
        job_pause_point(job);
        if (job_should_stop(job)) {
            return 0;
        }
        int64_t began_ns = sim_now(job->host->sim);
        backup_call(s);
        bool is_read = false;
        bool cancelled = block_copy_call_cancelled(s->call);
        int ret = block_copy_call_status(s->call, &is_read);

        block_copy_call_free(s->call);
        s->call = NULL;
        /* What a pause cut short failed at most where the next call tries again. */
        if (cancelled || job_should_stop(job)) {
            continue;
        }
        if (ret == 0) {
            return 0;
        }
        ret = backup_call_failed(s, ret, is_read, began_ns);
        if (ret < 0) {
            return ret;
        }
    }
}

/* --- what is left out ----------------------------------------------------------------------------------- */

/* sync=top: what the source node itself does not hold is not copied, by guests' writes neither. */
static int backup_scan(BackupJob *s)
{
    Job *job = &s->common.job;
    int64_t offset = 0, bytes = 0;

    while (offset < s->length) {
        /* Many clusters may be answered for without a request: drains must get their turn. */
        job_sleep_ns(job, 0, false);
        if (job_should_stop(job)) {
            return 0;
        }
        int ret = block_copy_reset_unallocated(s->copy, offset, &bytes);
        if (ret < 0) {
            return ret;
        }
        SIM_ASSERT(bytes > 0);
        offset += bytes;
        backup_update_remaining(s);
    }
    block_copy_set_skip_unallocated(s->copy, false);
    return 0;
}

/* --- the run function ----------------------------------------------------------------------------------- */

int backup_run(Job *job, Error **errp)
{
    BackupJob *s = backup_of(job);
    int ret = s->sync == MIRROR_SYNC_TOP ? backup_scan(s) : 0;

    if (ret < 0) {
        return ret;
    }
    if (s->sync == MIRROR_SYNC_NONE) {
        while (!job_should_stop(job)) {
            job_yield(job);
        }
        return 0;
    }
    return s->length > 0 ? backup_copy(s) : 0;
}
