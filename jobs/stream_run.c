/* The run function of a stream: chunk by chunk from the start to the end, nothing in flight between two chunks
 * (reference/jobs.md 7). */
#include <errno.h>

#include "jobs/stream_int.h"

/* What to do with the next *num bytes: 1 copy, 0 leave as they are, negative errno. */
static int next_run(StreamJob *s, int64_t offset, int64_t bytes, int64_t rest, int64_t *num)
{
    int ret = bdrv_co_is_allocated(s->top, offset, bytes, num);

    if (ret != 0) {
        return MIN(ret, 0);
    }
    SIM_ASSERT(*num > 0 && *num <= bytes);
    int64_t run = *num;
    ret = bdrv_co_is_allocated_above(bdrv_cow_bs(s->top), s->bottom, true, offset, run, num);
    if (ret != 0 || *num > 0) {
        return ret < 0 ? ret : ret > 0;
    }
    /* Past the end of the backing file: zeroes up to the end of the disk. They stay so without being copied, unless
     * what is below the bottom would show in their place. */
    SIM_MARK(s->common.job.host->sim, stream_short_backing);
    bool hidden = bdrv_cor_hidden_below(s->bottom, offset);
    *num = hidden ? run : rest;
    return hidden;
}

/* What a copy of the range moves: whole (sub)clusters of the top, none of which it holds yet. Larger than a chunk,
 * the next chunks find the rest of it copied. */
static uint64_t transferred(StreamJob *s, int64_t offset, int64_t bytes)
{
    BlockDriverInfo info = {0};
    int64_t unit = 1;

    if (bdrv_co_get_info(s->top, &info) == 0 && info.cluster_size > 0) {
        unit = info.subcluster_size > 0 ? info.subcluster_size : info.cluster_size;
    }
    SIM_ASSERT(is_power_of_2((uint64_t)unit));
    int64_t end = ROUND_UP(offset + bytes, unit);
    return (uint64_t)(MIN(end, bdrv_getlength_cached(s->top)) - ROUND_DOWN(offset, unit));
}

/* The data goes no further than the top: nobody wants it here. Nobody may be told that a copy was made while the
 * filter, given up with its host's images, only reads. */
static int populate(StreamJob *s, int64_t offset, int64_t bytes)
{
    if (!bdrv_is_writable(s->top)) {
        return -EPERM;
    }
    block_job_charge(&s->common, transferred(s, offset, bytes));
    return blk_co_preadv(s->blk, offset, bytes, NULL, BDRV_REQ_PREFETCH);
}

/* One chunk at most. How far it got: 0 is a retry after a stop. Negative errno: the job ends; *error keeps the
 * first failure that was passed over. */
static int64_t step(StreamJob *s, int64_t offset, int64_t len, int *error)
{
    int64_t bytes = MIN(STREAM_CHUNK, len - offset);
    int64_t num;
    int ret = next_run(s, offset, bytes, len - offset, &num);

    if (ret > 0) {
        ret = populate(s, offset, num);
    } else if (ret < 0) {
        num = bytes; /* nobody knows more about any of it */
    }
    if (ret >= 0) {
        return num;
    }
    enum block_error_action action = block_job_error_action(&s->common, s->on_error, true, -ret);
    if (action == BLOCK_ERROR_ACTION_STOP) {
        return 0;
    }
    if (action == BLOCK_ERROR_ACTION_REPORT) {
        return *error < 0 ? *error : ret;
    }
    SIM_MARK(s->common.job.host->sim, stream_skipped);
    *error = *error < 0 ? *error : ret;
    return num;
}

int stream_run(Job *job, Error **errp)
{
    StreamJob *s = stream_of(job);
    int error = 0;

    if (s->top == s->bottom) {
        return 0;
    }
    int64_t len = bdrv_co_getlength(s->top);
    if (len < 0) {
        return (int)len;
    }
    job_progress_set_remaining(job, len);
    for (int64_t offset = 0; offset < len;) {
        /* Even an unlimited one lets go once per chunk, or no drain would come to an end. */
        block_job_rate_sleep(&s->common);
        if (job_should_stop(job)) {
            break;
        }
        int64_t done = step(s, offset, len, &error);
        if (done < 0) {
            return (int)done;
        }
        SIM_ASSERT_LE(done, len - offset);
        offset += done;
        job_progress_update(job, done);
        job_progress_set_remaining(job, len - offset);
    }
    return error;
}
