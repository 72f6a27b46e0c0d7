/* One iteration of a mirror: takes a run of dirty chunks and splits it into operations (reference/jobs.md 4.4). */
#include "jobs/mirror_int.h"

/* First dirty chunk at or after the cursor, else from the start of the disk; -1: none. */
static int64_t mirror_next_dirty(MirrorJob *s)
{
    int64_t offset = bdrv_dirty_bitmap_next_dirty(s->dirty_bitmap, s->cursor, s->length - s->cursor);

    if (offset < 0 && s->cursor > 0) {
        offset = bdrv_dirty_bitmap_next_dirty(s->dirty_bitmap, 0, s->cursor);
    }
    return offset < 0 ? -1 : ROUND_DOWN(offset, s->granularity);
}

/* How far the run of dirty chunks from offset goes, of which none is in flight; inside the disk and the buffer. */
static int64_t mirror_dirty_run(MirrorJob *s, int64_t offset)
{
    int64_t bytes = MIN(s->length - offset, s->buf_bytes);
    int64_t end = bdrv_dirty_bitmap_next_zero(s->dirty_bitmap, offset, bytes);

    if (end >= 0) {
        bytes = ROUND_DOWN(end, s->granularity) - offset;
    }
    SIM_ASSERT(bytes > 0);
    end = hbitmap_next_dirty(s->in_flight_map, offset, bytes);
    if (end >= 0) {
        bytes = ROUND_DOWN(end, s->granularity) - offset;
    }
    SIM_ASSERT(bytes > 0);
    return bytes;
}

static bool mirror_target_aligned(const MirrorJob *s, int64_t offset, int64_t bytes)
{
    bool to_the_end = offset + bytes == s->length;

    return offset % s->target_unit == 0 && (bytes % s->target_unit == 0 || to_the_end);
}

/* What the source's chain said about [asked offset, end): good for all operations made of it. An answer that is out
 * of date does no harm: whoever changed the area since has marked it dirty again. */
struct extent {
    int status; /* what could not be had counts as data */
    int64_t end;
};

static void mirror_ask_status(MirrorJob *s, int64_t offset, int64_t end, struct extent *extent)
{
    int64_t pnum = 0;

    extent->status = bdrv_co_block_status_above(s->source, NULL, offset, end - offset, &pnum, NULL, NULL);
    if (extent->status < 0 || pnum <= 0) {
        extent->status = BDRV_BLOCK_DATA;
        pnum = end - offset;
    }
    extent->end = MIN(offset + pnum, end);
}

/* How the area from offset is brought over, and how much of it (*bytes, up to end) in one operation. */
static enum mirror_method mirror_classify(const MirrorJob *s, const struct extent *extent, int64_t offset,
                                          int64_t end, int64_t *bytes)
{
    bool data = (extent->status & BDRV_BLOCK_DATA) != 0;
    int64_t piece = MIN(extent->end, end) - offset;

    if (data) {
        piece = MIN(piece, s->max_copy_bytes);
    }
    if (offset + piece < s->length) {
        piece = ROUND_DOWN(piece, s->granularity);
    }
    if (piece == 0 || (piece < s->granularity && !data)) {
        /* The state changes inside the chunk, or this is the clipped tail: data. */
        *bytes = MIN(end - offset, s->granularity);
        return MIRROR_METHOD_COPY;
    }
    *bytes = piece;
    if (data) {
        return MIRROR_METHOD_COPY;
    }
    /* Where a backing file is still to come, what is discarded would show it. */
    bool zero = (extent->status & BDRV_BLOCK_ZERO) != 0;
    if (!mirror_target_aligned(s, offset, piece) || (!zero && s->backing_later)) {
        *bytes = MIN(piece, s->max_copy_bytes);
        return MIRROR_METHOD_COPY;
    }
    return zero ? MIRROR_METHOD_ZERO : MIRROR_METHOD_DISCARD;
}

bool mirror_must_hold(const MirrorJob *s)
{
    const Job *job = &s->common.job;

    return s->ret < 0 || job->force_cancel || job->pause_count > 0 || s->common.iostatus != BLOCK_IO_STATUS_OK;
}

static void mirror_wait_for_room(MirrorJob *s, int64_t chunks)
{
    struct sim *sim = mirror_sim(s);

    while (s->in_flight >= MIRROR_MAX_IN_FLIGHT) {
        SIM_MARK(sim, mirror_wait_slot);
        mirror_wait_for_slot(s);
    }
    while (s->buf_free < chunks) {
        SIM_MARK(sim, mirror_wait_buffer);
        mirror_wait_for_slot(s);
    }
}

/* Until the buffer has room, and until nobody has what a copy was widened by. */
static void mirror_wait_to_start(MirrorJob *s, enum mirror_method method, int64_t offset, int64_t bytes)
{
    mirror_wait_on_others(s, offset, bytes);
    while (s->in_flight >= MIRROR_MAX_IN_FLIGHT || s->buf_free < mirror_op_chunks(s, method, bytes)) {
        mirror_wait_for_room(s, mirror_op_chunks(s, method, bytes));
        mirror_wait_on_others(s, offset, bytes);
    }
}

static void mirror_start_piece(MirrorJob *s, enum mirror_method method, int64_t offset, int64_t bytes)
{
    if (method == MIRROR_METHOD_COPY && bytes > s->granularity) {
        SIM_MARK(mirror_sim(s), mirror_merged);
    }
    if (bytes % s->granularity != 0) {
        SIM_MARK(mirror_sim(s), mirror_tail_clipped);
    }
    mirror_op_start(s, method, offset, bytes);
    block_job_charge(&s->common, method != MIRROR_METHOD_COPY && s->zeroes_are_free ? 0 : (uint64_t)bytes);
}

/* Makes operations of [offset, end), which is in flight under the placeholder. Returns where it had to hold; or
 * beyond end, which was copied too. */
static int64_t mirror_split(MirrorJob *s, int64_t offset, int64_t end)
{
    struct extent extent = {.end = offset};

    while (offset < end) {
        enum mirror_method method;
        int64_t start = offset;
        int64_t bytes;

        if (offset >= extent.end) {
            mirror_ask_status(s, offset, end, &extent);
        }
        method = mirror_classify(s, &extent, offset, end, &bytes);
        if (method == MIRROR_METHOD_COPY) {
            mirror_cow_widen(s, &start, &bytes);
        }
        mirror_wait_to_start(s, method, start, bytes);
        /* Both steps above may have waited. */
        if (mirror_must_hold(s)) {
            break;
        }
        mirror_start_piece(s, method, start, bytes);
        SIM_ASSERT(start + bytes > offset);
        offset = start + bytes;
    }
    return MIN(offset, end);
}

void mirror_iteration(MirrorJob *s)
{
    int64_t offset = mirror_next_dirty(s);
    int64_t bytes;

    SIM_ASSERT(offset >= 0);
    mirror_wait_on_conflicts(s, offset, MIN(s->granularity, s->length - offset));
    job_pause_point(&s->common.job);
    if (mirror_must_hold(s)) {
        return;
    }
    /* While this waited, a guest's write may have taken the chunk, and even brought it over. */
    if (!bdrv_dirty_bitmap_get(s->dirty_bitmap, offset) || hbitmap_get(s->in_flight_map, offset)) {
        SIM_MARK(mirror_sim(s), mirror_overtaken);
        return;
    }
    bytes = mirror_dirty_run(s, offset);
    s->cursor = offset + bytes < s->length ? offset + bytes : 0;
    /* Clean before the status query and before the read: what the guest writes from here on marks it again. */
    /* Whole chunks: the source may have become longer by another file below it. */
    bdrv_reset_dirty_bitmap(s->dirty_bitmap, offset, ROUND_UP(bytes, s->granularity));
    mirror_placeholder_begin(s, offset, bytes);
    mirror_placeholder_end(s, mirror_split(s, offset, offset + bytes));
}
