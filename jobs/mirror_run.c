/* The run function of a mirror: set-up, main loop (reference/jobs.md 4.3, 4.4). All its
 * ways out meet in one exit, so that an early failure releases as much as a late one [seed 373df5b]. */
#include <errno.h>

#include "jobs/mirror_int.h"

#define MIRROR_MAX_IOV 1024

static bool mirror_cancelled(const MirrorJob *s)
{
    return job_should_stop(&s->common.job);
}

/* --- set-up --------------------------------------------------------------------------------------------- */

/* Lengths of both sides; they must be equal and what the bitmap was made for. */
static int mirror_read_lengths(MirrorJob *s, Error **errp)
{
    int64_t source_bytes = bdrv_co_getlength(s->source);
    int64_t target_bytes;

    if (source_bytes < 0) {
        return (int)source_bytes;
    }
    target_bytes = blk_co_getlength(s->target);
    if (target_bytes < 0) {
        return (int)target_bytes;
    }
    s->length = source_bytes;
    if (s->into_chain) {
        int ret = commit_active_grow(s, &target_bytes, errp);
        if (ret < 0) {
            return ret;
        }
        target_bytes = MIN(target_bytes, source_bytes); /* a longer one keeps its tail */
    }
    if (source_bytes != target_bytes || source_bytes != bdrv_dirty_bitmap_size(s->dirty_bitmap)) {
        error_setg(errp, "Source and target image have different sizes");
        return -EINVAL;
    }
    return 0;
}

static int64_t mirror_iov_limit(const BlockDriverState *bs)
{
    return bs->bl.max_iov > 0 ? bs->bl.max_iov : MIRROR_MAX_IOV;
}

static void mirror_set_limits(MirrorJob *s)
{
    int64_t iov = MIN(mirror_iov_limit(s->source), mirror_iov_limit(s->target_bs));
    int64_t cap = MAX(s->buf_bytes / MIRROR_MAX_IN_FLIGHT, MIRROR_MIN_OP_CAP);

    cap = MIN(cap, s->buf_bytes);
    cap = MIN(cap, s->granularity * iov);
    cap = MIN(cap, BDRV_MAX_REQUEST);
    s->max_copy_bytes = MAX(ROUND_DOWN(cap, s->granularity), s->granularity);
    s->zeroes_are_free = bdrv_can_write_zeroes_with_unmap(s->target_bs);
}

/* --- main loop (4.4) ------------------------------------------------------------------------------------ */

static int64_t mirror_dirty_count(const MirrorJob *s)
{
    return bdrv_get_dirty_count(s->dirty_bitmap);
}

/* Copies while there is room and something to copy. True: it had to wait for an operation; look at everything
 * again. */
static bool mirror_copy_some(MirrorJob *s, int64_t dirty)
{
    bool full = s->in_flight >= MIRROR_MAX_IN_FLIGHT || s->buf_free == 0;
    bool time_to_pause = sim_now(mirror_sim(s)) - s->last_pause_ns >= RATE_SLICE_NS;

    if (time_to_pause || s->common.iostatus != BLOCK_IO_STATUS_OK) {
        return false;
    }
    if (full || (dirty == 0 && s->in_flight > 0)) {
        mirror_wait_for_slot(s);
        return true;
    }
    if (dirty > 0) {
        mirror_iteration(s);
    }
    return false;
}

/* Before a retry: what fails without taking time would otherwise never let a command or a drain in. */
static void mirror_let_others(MirrorJob *s)
{
    job_sleep_ns(&s->common.job, 0, false);
}

/* The last look: with the source drained, nothing dirty and the target flushed, the job is done and leaves the
 * source drained. Otherwise all is undone and the job goes on. */
static bool mirror_try_to_finish(MirrorJob *s)
{
    Job *job = &s->common.job;
    int64_t dirty;

    mirror_drain_source_begin(s);
    /* Writes that the drain waited for marked their areas only when they were done. */
    dirty = mirror_dirty_count(s);
    if (!job_is_internal(job)) {
        SIM_EMIT(job->host->sim, job->host, mirror_final_drain, job, SIM_P(job->id), (uint64_t)dirty);
    }
    if (dirty > 0) {
        SIM_MARK(job->host->sim, mirror_final_dirty);
    } else if (mirror_flush(s) < 0) {
        SIM_MARK(job->host->sim, mirror_final_flush_failed);
    } else {
        SIM_ASSERT_EQ(mirror_dirty_count(s), 0);
        SIM_ASSERT_EQ(s->active_writes, 0);
        mirror_update_remaining(s);
        return true;
    }
    mirror_drain_source_end(s);
    mirror_let_others(s);
    return false;
}

static void mirror_turn_sleep(MirrorJob *s)
{
    Job *job = &s->common.job;

    if (!job_is_ready(job)) {
        block_job_rate_sleep(&s->common);
    } else if (s->in_flight == 0 && mirror_dirty_count(s) == 0) {
        job_sleep_ns(job, RATE_SLICE_NS, true);
    } else {
        job_sleep_ns(job, 0, false);
    }
    s->last_pause_ns = sim_now(mirror_sim(s));
}

/* One turn of the loop. True: the mirror is finished. */
static bool mirror_turn(MirrorJob *s)
{
    Job *job = &s->common.job;
    int64_t dirty = mirror_dirty_count(s);

    mirror_update_remaining(s);
    if (mirror_copy_some(s, dirty)) {
        return false;
    }
    if (mirror_must_hold(s)) {
        return false; /* the top of the loop leaves, or parks */
    }
    if (s->in_flight == 0 && dirty == 0) {
        if (!job_is_ready(job)) {
            if (mirror_flush(s) < 0) {
                mirror_let_others(s);
                return false;
            }
            /* Ready is when nothing is left; what guests have in hand comes back with the next turn. */
            job_progress_set_remaining(job, 0);
            job_transition_to_ready(job);
        }
        /* The flush waited: the guest may have written. */
        if (s->copy_mode == MIRROR_COPY_WRITE_BLOCKING && mirror_dirty_count(s) == 0) {
            s->actively_synced = true;
        }
        if ((s->should_complete || job->cancelled) && mirror_dirty_count(s) == 0) {
            return mirror_try_to_finish(s);
        }
    }
    mirror_turn_sleep(s);
    return false;
}

static int mirror_main_loop(MirrorJob *s)
{
    for (;;) {
        if (s->ret < 0) {
            return s->ret;
        }
        job_pause_point(&s->common.job);
        if (mirror_cancelled(s) || mirror_turn(s)) {
            return 0;
        }
    }
}

/* --- the run -------------------------------------------------------------------------------------------- */

/* A disk without bytes is in sync at once, and waits like any other [seed 9e48b02]. */
static int mirror_run_empty(MirrorJob *s)
{
    Job *job = &s->common.job;

    SIM_MARK(mirror_sim(s), mirror_empty);
    job_transition_to_ready(job);
    s->actively_synced = true;
    while (!job->cancelled && !s->should_complete) {
        job_yield(job);
    }
    return 0;
}

/* What comes by the filter is cared for there. */
static void mirror_marked(void *opaque, const BdrvChild *via, int64_t offset, int64_t bytes)
{
    MirrorJob *s = opaque;

    if (via != s->filter->backing) {
        mirror_disturb(s, offset, bytes);
    }
}

static int mirror_do_run(MirrorJob *s, Error **errp)
{
    int ret;

    if (mirror_cancelled(s)) {
        return 0;
    }
    ret = mirror_read_lengths(s, errp);
    if (ret < 0) {
        return ret;
    }
    if (s->length == 0) {
        return mirror_run_empty(s);
    }
    mirror_ops_init(s);
    ret = mirror_read_target_info(s);
    if (ret == 0) {
        ret = mirror_buffer_alloc(s);
    }
    if (ret < 0) {
        return ret;
    }
    mirror_set_limits(s);
    s->last_pause_ns = sim_now(mirror_sim(s));
    ret = mirror_populate(s);
    if (ret < 0) {
        return ret;
    }
    bdrv_dirty_bitmap_set_notify(s->dirty_bitmap, mirror_marked, s);
    mirror_filter_set_job(s->filter, s);
    return mirror_main_loop(s);
}

int mirror_run(Job *job, Error **errp)
{
    MirrorJob *s = mirror_of(job);
    int ret = mirror_do_run(s, errp);

    /* The common exit. Operations first: they use everything else. */
    if (s->in_flight_map != NULL) {
        mirror_wait_for_all(s);
    }
    /* The graph changes that follow want the source quiet; success brings it along. */
    if (!s->source_drained) {
        mirror_drain_source_begin(s);
    }
    return ret;
}
