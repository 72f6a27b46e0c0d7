/* The run function of a commit: copies what is allocated above base, from start to end, once (reference/jobs.md 6).
 */
#include <errno.h>

#include "jobs/commit_int.h"

/* What one step came to. */
struct step {
    int ret;
    bool is_read;  /* the operation that failed */
    int64_t bytes; /* dealt with */
};

/* Never shrunk: what lies beyond top's end belongs to base [seed 4da8358]. */
static int commit_grow_base(CommitJob *s, int64_t length, Error **errp)
{
    int64_t base_length = blk_co_getlength(s->base_blk);

    if (base_length < 0) {
        return (int)base_length;
    }
    if (base_length >= length) {
        return 0;
    }
    SIM_MARK(s->common.job.host->sim, commit_base_grown);
    int ret = blk_co_truncate(s->base_blk, length, false, PREALLOC_OFF, 0, errp);
    return MIN(ret, 0);
}

static void commit_copy(CommitJob *s, int64_t offset, struct step *step)
{
    struct payload data;

    /* When it is asked for: what fails has been transferred for nothing, and the next try has to be paid for again.
     */
    block_job_charge(&s->common, (uint64_t)step->bytes);
    payload_init(s->common.job.host->sim, &data);
    step->is_read = true;
    step->ret = blk_co_preadv(s->top_blk, offset, step->bytes, &data, 0);
    if (step->ret >= 0) {
        step->is_read = false;
        step->ret = blk_co_pwritev(s->base_blk, offset, step->bytes, &data, 0);
    }
    payload_clear(&data);
}

/* One chunk, or less when the allocation changes in it. */
static void commit_step(CommitJob *s, int64_t offset, int64_t bytes, struct step *step)
{
    int allocated = bdrv_co_is_allocated_above(s->top, s->base_overlay, true, offset, bytes, &step->bytes);

    if (allocated < 0) {
        step->ret = allocated;
    } else if (allocated > 0) {
        commit_copy(s, offset, step);
    }
    SIM_ASSERT(step->ret < 0 || (step->bytes > 0 && step->bytes <= bytes));
}

/* 0: the same once more, perhaps after a pause; else the code that the job ends with. */
static int commit_error(CommitJob *s, bool is_read, int ret)
{
    if (block_job_error_action(&s->common, s->on_error, is_read, -ret) == BLOCK_ERROR_ACTION_REPORT) {
        return ret;
    }
    SIM_MARK(s->common.job.host->sim, commit_retried);
    return 0;
}

static int commit_copy_all(CommitJob *s, int64_t length)
{
    Job *job = &s->common.job;

    while (s->offset < length) {
        struct step step = {.is_read = true};

        block_job_rate_sleep(&s->common);
        if (job_should_stop(job)) {
            return 0;
        }
        commit_step(s, s->offset, MIN(length - s->offset, COMMIT_CHUNK_BYTES), &step);
        if (step.ret < 0) {
            int ret = commit_error(s, step.is_read, step.ret);
            if (ret < 0) {
                return ret;
            }
            continue;
        }
        s->offset += step.bytes;
        job_progress_update(job, step.bytes);
        job_progress_set_remaining(job, length - s->offset);
    }
    return 0;
}

/* Headers are about to name base instead of images that hold everything durably: so must base, or a power loss
 * takes data that was stable before the commit. */
static int commit_flush(CommitJob *s)
{
    for (;;) {
        int ret = blk_co_flush(s->base_blk);

        if (ret >= 0) {
            return 0;
        }
        SIM_MARK(s->common.job.host->sim, commit_flush_failed);
        ret = commit_error(s, false, ret);
        if (ret < 0) {
            return ret;
        }
        block_job_rate_sleep(&s->common);
        if (job_should_stop(&s->common.job)) {
            return 0;
        }
    }
}

int commit_run(Job *job, Error **errp)
{
    CommitJob *s = commit_of(job);
    int64_t length = blk_co_getlength(s->top_blk);

    if (length < 0) {
        return (int)length;
    }
    job_progress_set_remaining(job, length);
    int ret = commit_grow_base(s, length, errp);
    if (ret == 0) {
        ret = commit_copy_all(s, length);
    }
    if (ret == 0 && !job_should_stop(job)) {
        ret = commit_flush(s);
    }
    return ret;
}
