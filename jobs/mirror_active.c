/*
 * copy-mode=write-blocking: a guest's write is made on both sides before the guest is told (reference/jobs.md 4.6).
 *
 * It waits until its whole range is free and takes it. Of a chunk that it only touches the rest is somebody else's:
 * a clean one is written and stays clean, a dirty one stays dirty and is left to the background. The target gets
 * what the source got, from a copy of the guest's buffer.
 *
 * What the target says is between it and the job: the area is dirty, the policy decides, and the guest has written.
 */
#include <errno.h>

#include "jobs/mirror_int.h"

struct active_write {
    MirrorOp op; /* whole chunks */
    BlockDriverState *filter;
    enum mirror_method method;
    int64_t offset; /* as the guest has it */
    int64_t bytes;
    const struct payload *data;
    uint32_t flags;
    bool head_dirty; /* the first chunk is covered in part, and was dirty before */
    bool tail_dirty;
};

static bool mirror_is_mirroring(const MirrorJob *s)
{
    return s->ret == 0 && !s->common.job.force_cancel;
}

bool mirror_takes_write(const MirrorJob *s, int64_t offset, int64_t bytes)
{
    return s != NULL && s->copy_mode == MIRROR_COPY_WRITE_BLOCKING && mirror_is_mirroring(s) && bytes > 0 &&
           offset + bytes <= s->length;
}

/* Whoever drains the target has waited for what was there: nothing new comes inside of his section. The job goes on
 * when it is over, and copies. */
static bool mirror_target_is_open(const MirrorJob *s)
{
    return bdrv_quiesce_counter(s->target_bs) == 0;
}

static bool mirror_chunk_dirty(const MirrorJob *s, int64_t offset)
{
    return bdrv_dirty_bitmap_get(s->dirty_bitmap, offset);
}

/* Before anything is written; nobody but a write that does not take the chunks can change it from now on. */
static void active_note_edges(struct active_write *w)
{
    const MirrorJob *s = w->op.s;
    int64_t end = w->offset + w->bytes;

    w->head_dirty = w->offset % s->granularity != 0 && mirror_chunk_dirty(s, w->offset);
    w->tail_dirty = end % s->granularity != 0 && end != s->length && mirror_chunk_dirty(s, end);
}

/* What is to go to the target: all but the edges that were dirty. */
static void active_trim(const struct active_write *w, int64_t *start, int64_t *end)
{
    const MirrorJob *s = w->op.s;

    *start = w->offset;
    *end = w->offset + w->bytes;
    if (w->head_dirty) {
        SIM_MARK(mirror_sim(s), mirror_active_dirty_edge);
        *start = MIN(ROUND_UP(*start, s->granularity), *end);
    }
    if (w->tail_dirty) {
        SIM_MARK(mirror_sim(s), mirror_active_dirty_edge);
        *end = MAX(ROUND_DOWN(*end, s->granularity), *start);
    }
}

/* The write to the source has marked all that it touched. Clean again is what the target is about to get whole, and
 * an edge that was clean before. */
static void active_clear(MirrorJob *s, int64_t start, int64_t end)
{
    int64_t first = ROUND_DOWN(start, s->granularity);

    bdrv_reset_dirty_bitmap(s->dirty_bitmap, first, ROUND_UP(end, s->granularity) - first);
}

static int active_co_target(const struct active_write *w, int64_t start, int64_t bytes)
{
    MirrorJob *s = w->op.s;
    struct payload part;
    int ret;

    if (w->method == MIRROR_METHOD_ZERO) {
        return blk_co_pwrite_zeroes(s->target, start, bytes, w->flags & (BDRV_REQ_MAY_UNMAP | BDRV_REQ_FUA));
    }
    if (w->method == MIRROR_METHOD_DISCARD) {
        return blk_co_pdiscard(s->target, start, bytes);
    }
    payload_init(mirror_sim(s), &part);
    payload_slice(&part, w->data, start - w->offset, bytes);
    ret = blk_co_pwritev(s->target, start, bytes, &part, w->flags & BDRV_REQ_FUA);
    payload_clear(&part);
    return ret;
}

static const enum sim_op active_ops[MIRROR_METHOD_COUNT] = {
    [MIRROR_METHOD_COPY] = SIM_OP_WRITE,
    [MIRROR_METHOD_ZERO] = SIM_OP_WRITE_ZEROES,
    [MIRROR_METHOD_DISCARD] = SIM_OP_DISCARD,
};

static void active_emit(const struct active_write *w, int64_t start, int64_t end, int ret)
{
    Job *job = &w->op.s->common.job;

    if (!job_is_internal(job)) {
        SIM_EMIT(job->host->sim, job->host, mirror_active_write, job, SIM_P(job->id), active_ops[w->method],
                 (uint64_t)start, (uint64_t)(end - start), (uint64_t)(int64_t)MIN(ret, 0));
    }
}

/* The target's part. What fails is dirty before anybody hears of it. */
static void active_copy(const struct active_write *w, int64_t start, int64_t end)
{
    MirrorJob *s = w->op.s;
    int ret;

    s->active_bytes += end - start;
    active_clear(s, start, end);
    mirror_update_remaining(s);
    ret = active_co_target(w, start, end - start);
    s->active_bytes -= end - start;
    active_emit(w, start, end, ret);
    if (ret < 0) {
        SIM_MARK(mirror_sim(s), mirror_active_failed);
        bdrv_set_dirty_bitmap(s->dirty_bitmap, w->offset, w->bytes);
        if (mirror_error_action(s, false, ret) == BLOCK_ERROR_ACTION_REPORT) {
            job_kick(&s->common.job); /* nothing else tells a job that sleeps */
        }
    } else {
        mirror_cow_mark(s, start, end - start);
        job_progress_update(&s->common.job, end - start);
    }
    if (w->method == MIRROR_METHOD_DISCARD) {
        /* What is discarded may be anything, on each side something else. */
        bdrv_set_dirty_bitmap(s->dirty_bitmap, w->offset, w->bytes);
    }
    mirror_update_remaining(s);
}

/* Whether the target's part can be made now. */
static bool active_may_copy(const struct active_write *w, int64_t start, int64_t end)
{
    MirrorJob *s = w->op.s;

    if (w->op.disturbed || !mirror_is_mirroring(s) || !mirror_target_is_open(s)) {
        return false;
    }
    if (!mirror_cow_fits(s, start, end - start) || (w->method == MIRROR_METHOD_DISCARD && s->backing_later)) {
        SIM_MARK(mirror_sim(s), mirror_active_partial_cluster);
        return false;
    }
    return true;
}

static int active_co_both(struct active_write *w)
{
    MirrorJob *s = w->op.s;
    int64_t start, end;
    int ret;

    active_note_edges(w);
    active_trim(w, &start, &end);
    ret = mirror_source_request(w->filter, w->method, w->offset, w->bytes, w->data, w->flags);
    if (start == end) {
        return ret; /* the background will do all of it */
    }
    /* A write that failed may have changed anything in its range: it is marked, and stays so. */
    if (ret >= 0 && active_may_copy(w, start, end)) {
        active_copy(w, start, end);
    } else {
        SIM_MARK(mirror_sim(s), mirror_active_left_dirty);
        s->actively_synced = false;
    }
    return ret;
}

int mirror_active_write(MirrorJob *s, enum mirror_method method, int64_t offset, int64_t bytes,
                        const struct payload *data, uint32_t flags)
{
    int64_t start = ROUND_DOWN(offset, s->granularity);
    struct active_write w = {
        .op = {.s = s, .active = true, .offset = start},
        .filter = s->filter,
        .method = method,
        .offset = offset,
        .bytes = bytes,
        .flags = flags,
    };
    struct payload copy;
    int ret;

    SIM_ASSERT((method == MIRROR_METHOD_COPY) == (data != NULL));
    w.op.bytes = MIN(ROUND_UP(offset + bytes, s->granularity), s->length) - start;
    payload_init(mirror_sim(s), &copy);
    if (data != NULL) {
        /* The guest may alter its buffer while this is under way. */
        payload_slice(&copy, data, 0, bytes);
        w.data = &copy;
    }
    mirror_active_begin(&w.op);
    ret = active_co_both(&w);
    mirror_active_end(&w.op);
    payload_clear(&copy);
    return ret;
}
