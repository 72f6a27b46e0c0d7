/* What a mirror has to copy to begin with: marks in its bitmap, or zeroes on the target (reference/jobs.md 4.3.7).
 */
#include "jobs/mirror_int.h"

#define MIRROR_MAX_ZERO_BYTES ((int64_t)INT32_MAX)

/* Between the steps of the population: pauses and cancels are honoured, drains get their turn. */
static void mirror_breathe(MirrorJob *s)
{
    int64_t now = sim_now(mirror_sim(s));

    if (now - s->last_pause_ns >= RATE_SLICE_NS) {
        s->last_pause_ns = now;
        job_sleep_ns(&s->common.job, 0, false);
    } else {
        job_pause_point(&s->common.job);
    }
}

/* Makes the whole target read as zeroes. A failure goes through the error policy like any operation's. */
static void mirror_zero_target(MirrorJob *s)
{
    int64_t step = MAX(ROUND_DOWN(MIRROR_MAX_ZERO_BYTES, s->granularity), s->granularity);

    SIM_MARK(mirror_sim(s), mirror_zero_target);
    s->initial_zeroing = true;
    for (int64_t offset = 0; offset < s->length && s->ret == 0;) {
        int64_t bytes = MIN(step, s->length - offset);

        mirror_breathe(s);
        if (job_should_stop(&s->common.job)) {
            break;
        }
        if (s->in_flight >= MIRROR_MAX_IN_FLIGHT) {
            mirror_wait_for_slot(s);
            continue;
        }
        mirror_op_start(s, MIRROR_METHOD_ZERO, offset, bytes);
        offset += bytes;
    }
    mirror_wait_for_all(s);
    s->initial_zeroing = false;
}

static int mirror_scan_allocation(MirrorJob *s)
{
    for (int64_t offset = 0; offset < s->length;) {
        int64_t pnum = 0;
        int ret;

        mirror_breathe(s);
        if (job_should_stop(&s->common.job)) {
            return 0;
        }
        ret = bdrv_co_is_allocated_above(s->source, s->base, false, offset, s->length - offset, &pnum);
        if (ret < 0) {
            return ret;
        }
        SIM_ASSERT(pnum > 0);
        if (ret > 0) {
            bdrv_set_dirty_bitmap(s->dirty_bitmap, offset, pnum);
        }
        offset += pnum;
    }
    return 0;
}

int mirror_populate(MirrorJob *s)
{
    if (s->sync == MIRROR_SYNC_NONE) {
        return 0;
    }
    if (s->zero_target) {
        if (!bdrv_can_write_zeroes_with_unmap(s->target_bs)) {
            bdrv_set_dirty_bitmap(s->dirty_bitmap, 0, s->length);
            return 0;
        }
        mirror_zero_target(s);
        if (s->ret < 0 || job_should_stop(&s->common.job)) {
            return s->ret;
        }
    }
    return mirror_scan_allocation(s);
}
