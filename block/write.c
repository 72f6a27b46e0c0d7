/* Writes of a node: what each must pass, read-modify-write at the edges, fragments, completion
 * (reference/block.md 2.6 to 2.8). */
#include "block/request.h"

#include <errno.h>

/* --- before and after ---------------------------------------------------------------------------------------- */

static int serialise(BdrvTrackedRequest *req, uint32_t flags)
{
    SIM_ASSERT((flags & BDRV_REQ_SERIALISING) || !(flags & BDRV_REQ_NO_WAIT));
    if (flags & BDRV_REQ_SERIALISING) {
        bdrv_mark_request_serialising(req, bdrv_serialise_align(req->bs));
        if ((flags & BDRV_REQ_NO_WAIT) && bdrv_request_conflicts(req)) {
            return -EBUSY;
        }
    }
    bdrv_wait_serialising_requests(req);
    return 0;
}

static int check_writable(const BlockDriverState *bs)
{
    if ((!LIST_EMPTY(&bs->dirty_bitmaps) && bdrv_has_readonly_bitmaps(bs)) || bdrv_is_read_only(bs)) {
        return -EPERM;
    }
    SIM_ASSERT(!bdrv_is_inactive(bs));
    return 0;
}

static void check_threshold(BlockDriverState *bs, int64_t end)
{
    uint64_t threshold = bs->write_threshold;
    if (threshold == 0 || (uint64_t)end <= threshold) {
        return;
    }
    bs->write_threshold = 0;
    SIM_EMIT(bs->host->sim, bs->host, BLOCK_WRITE_THRESHOLD, bs, SIM_P(bs->name), (uint64_t)end - threshold,
             threshold);
}

int bdrv_write_prepare(BdrvChild *child, BdrvTrackedRequest *req, int64_t offset, int64_t bytes, uint32_t flags)
{
    BlockDriverState *bs = child->bs;
    int ret = check_writable(bs);
    req->via = child;
    if (ret == 0) {
        ret = serialise(req, flags);
    }
    if (ret < 0) {
        return ret;
    }
    uint64_t enough = flags & BDRV_REQ_WRITE_UNCHANGED ? BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED : BLK_PERM_WRITE;
    SIM_ASSERT(req->type == BDRV_TRACKED_WRITE || req->type == BDRV_TRACKED_DISCARD);
    SIM_ASSERT(ROUND_UP(offset + bytes, 512) <= bs->total_bytes || (child->perm & BLK_PERM_RESIZE));
    SIM_ASSERT(child->perm & enough);
    check_threshold(bs, offset + bytes);
    return 0;
}

void bdrv_write_finish(BdrvTrackedRequest *req, int64_t offset, int64_t bytes, int ret)
{
    BlockDriverState *bs = req->bs;
    int64_t end = offset + bytes;
    /* A failed write may have changed anything in its range. */
    bs->write_gen++;
    if (req->type == BDRV_TRACKED_TRUNCATE) {
        bdrv_set_total_bytes(bs, end);
        return;
    }
    if (req->type == BDRV_TRACKED_WRITE) {
        if (ret == 0 && end > bs->total_bytes) {
            bdrv_set_total_bytes(bs, end);
        }
        bs->wr_highest_offset = MAX(bs->wr_highest_offset, (uint64_t)end);
    }
    if (!LIST_EMPTY(&bs->dirty_bitmaps)) {
        bdrv_set_dirty_via(bs, req->via, offset, bytes);
    }
}

/* --- aligned writes --------------------------------------------------------------------------------------- */

int bdrv_emulate_fua(BlockDriverState *bs)
{
    /* The write just made is not counted yet, and a flush that sees nothing new would skip the disk. */
    bs->write_gen++;
    return bdrv_co_flush(bs);
}

int bdrv_driver_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                        uint32_t flags)
{
    if (bs->drv->bdrv_co_pwritev == NULL) {
        return -ENOTSUP;
    }
    if (bs->open_flags & BDRV_O_NO_FLUSH) {
        flags &= ~(uint32_t)BDRV_REQ_FUA;
    }
    int ret = bs->drv->bdrv_co_pwritev(bs, offset, bytes, in, flags & bs->supported_write_flags);
    if (ret >= 0 && (flags & ~bs->supported_write_flags & BDRV_REQ_FUA)) {
        ret = bdrv_emulate_fua(bs);
    }
    return ret < 0 ? ret : 0;
}

static int fragmented_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                              uint32_t flags)
{
    int64_t max_transfer = bdrv_max_transfer(bs);
    int ret = 0;
    SIM_MARK(bs->host->sim, req_fragmented);
    for (int64_t done = 0; done < bytes && ret == 0;) {
        int64_t num = MIN(bytes - done, max_transfer);
        uint32_t piece_flags = flags;
        if (done + num < bytes && !(bs->supported_write_flags & BDRV_REQ_FUA)) {
            piece_flags &= ~(uint32_t)BDRV_REQ_FUA; /* emulated: one flush after the last piece covers all */
        }
        struct payload piece;
        payload_init(bs->host->sim, &piece);
        payload_slice(&piece, in, done, num);
        ret = bdrv_driver_pwritev(bs, offset + done, num, &piece, piece_flags);
        payload_clear(&piece);
        done += num;
    }
    return ret;
}

static uint32_t detect_zeroes(const BlockDriverState *bs, int64_t bytes, const struct payload *in, uint32_t flags)
{
    const uint32_t not_these = BDRV_REQ_ZERO_WRITE | BDRV_REQ_WRITE_COMPRESSED;
    if (bs->detect_zeroes == BDRV_DETECT_ZEROES_OFF || (flags & not_these) ||
        bs->drv->bdrv_co_pwrite_zeroes == NULL || !payload_is_zero(in, 0, bytes)) {
        return flags;
    }
    flags |= BDRV_REQ_ZERO_WRITE;
    return bs->detect_zeroes == BDRV_DETECT_ZEROES_UNMAP ? flags | BDRV_REQ_MAY_UNMAP : flags;
}

/* in: exactly bytes; NULL for a zero write. */
static int aligned_pwritev(BdrvChild *child, BdrvTrackedRequest *req, int64_t offset, int64_t bytes,
                           const struct payload *in, uint32_t flags)
{
    BlockDriverState *bs = child->bs;
    SIM_ASSERT(bdrv_is_aligned(bs, offset, bytes));
    SIM_ASSERT(in != NULL || (flags & BDRV_REQ_ZERO_WRITE));
    int ret = bdrv_write_prepare(child, req, offset, bytes, flags);
    if (ret < 0) {
        return ret;
    }
    flags = detect_zeroes(bs, bytes, in, flags);
    if ((flags & BDRV_REQ_ZERO_WRITE) && (flags & ~bs->supported_zero_flags & BDRV_REQ_NO_FALLBACK)) {
        return -ENOTSUP; /* refused, not failed: nothing can have changed, nothing is marked */
    }
    bdrv_co_debug_event(bs, flags & BDRV_REQ_ZERO_WRITE ? BLKDBG_PWRITEV_ZERO : BLKDBG_PWRITEV);
    if (flags & BDRV_REQ_ZERO_WRITE) {
        ret = bdrv_do_pwrite_zeroes(bs, offset, bytes, flags);
    } else if (bytes <= bdrv_max_transfer(bs)) {
        ret = bdrv_driver_pwritev(bs, offset, bytes, in, flags);
    } else {
        ret = fragmented_pwritev(bs, offset, bytes, in, flags);
    }
    bdrv_co_debug_event(bs, BLKDBG_PWRITEV_DONE);
    bdrv_write_finish(req, offset, bytes, ret);
    return ret;
}

/* --- padding and read-modify-write (2.6) ------------------------------------------------------------------ */

struct rmw {
    int64_t start; /* of the padded range */
    int64_t end;
    int64_t head; /* bytes of padding before and after the request */
    int64_t tail;
    struct payload head_block; /* the whole padded range when `merged` */
    struct payload tail_block;
    bool merged;
};

static void rmw_init(struct rmw *rmw, BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int64_t align = bs->bl.request_alignment;
    rmw->start = ROUND_DOWN(offset, align);
    rmw->end = ROUND_UP(offset + bytes, align);
    rmw->head = offset - rmw->start;
    rmw->tail = rmw->end - (offset + bytes);
    rmw->merged =
        rmw->end - rmw->start == align || (rmw->end - rmw->start == 2 * align && rmw->head > 0 && rmw->tail > 0);
    payload_init(bs->host->sim, &rmw->head_block);
    payload_init(bs->host->sim, &rmw->tail_block);
}

/* One read of edge blocks, between the events of the edges that it serves. */
static int rmw_read_edge(BdrvTrackedRequest *req, int64_t offset, int64_t bytes, struct payload *out, bool head,
                         bool tail)
{
    if (head) {
        bdrv_co_debug_event(req->bs, BLKDBG_PWRITEV_RMW_HEAD);
    }
    if (tail) {
        bdrv_co_debug_event(req->bs, BLKDBG_PWRITEV_RMW_TAIL);
    }
    int ret = bdrv_aligned_preadv(req, offset, bytes, out, 0);
    if (ret == 0 && head) {
        bdrv_co_debug_event(req->bs, BLKDBG_PWRITEV_RMW_AFTER_HEAD);
    }
    if (ret == 0 && tail) {
        bdrv_co_debug_event(req->bs, BLKDBG_PWRITEV_RMW_AFTER_TAIL);
    }
    return ret;
}

/* The old content around the request. A failure fails the write: the edges would be garbage (11.5). */
static int rmw_read(BdrvTrackedRequest *req, struct rmw *rmw)
{
    int64_t align = req->bs->bl.request_alignment;
    bool head = rmw->head > 0;
    bool tail = rmw->tail > 0;
    int ret = 0;
    SIM_MARK(req->bs->host->sim, req_rmw);
    if (rmw->merged) {
        return rmw_read_edge(req, rmw->start, rmw->end - rmw->start, &rmw->head_block, head, tail);
    }
    if (head) {
        ret = rmw_read_edge(req, rmw->start, align, &rmw->head_block, true, false);
    }
    if (ret == 0 && tail) {
        ret = rmw_read_edge(req, rmw->end - align, align, &rmw->tail_block, false, true);
    }
    return ret;
}

static void append_tail(const struct rmw *rmw, struct payload *whole)
{
    const struct payload *block = rmw->merged ? &rmw->head_block : &rmw->tail_block;
    if (rmw->tail > 0) {
        payload_append(whole, block, block->size_bytes - rmw->tail, rmw->tail);
    }
}

static int rmw_write_data(BdrvChild *child, BdrvTrackedRequest *req, const struct rmw *rmw, int64_t bytes,
                          const struct payload *in, uint32_t flags)
{
    struct payload whole;
    payload_init(req->bs->host->sim, &whole);
    payload_append(&whole, &rmw->head_block, 0, rmw->head);
    payload_append(&whole, in, 0, bytes);
    append_tail(rmw, &whole);
    int ret = aligned_pwritev(child, req, rmw->start, rmw->end - rmw->start, &whole, flags);
    payload_clear(&whole);
    return ret;
}

/* Head block as data, middle as zeroes, tail block as data. */
static int rmw_write_zeroes(BdrvChild *child, BdrvTrackedRequest *req, const struct rmw *rmw, uint32_t flags)
{
    int64_t align = req->bs->bl.request_alignment;
    int64_t start = rmw->start;
    int64_t end = rmw->end;
    uint32_t data_flags = flags & ~(uint32_t)(BDRV_REQ_ZERO_WRITE | BDRV_REQ_MAY_UNMAP);
    bool one_block = end - start == align;
    struct payload block;
    int ret = 0;
    payload_init(req->bs->host->sim, &block);
    if (rmw->head > 0) {
        payload_append(&block, &rmw->head_block, 0, rmw->head);
        payload_append_zero(&block, align - rmw->head - (one_block ? rmw->tail : 0));
        if (one_block) {
            append_tail(rmw, &block);
        }
        ret = aligned_pwritev(child, req, start, align, &block, data_flags);
        start += align;
    }
    int64_t middle = ROUND_DOWN(end - rmw->tail, align) - start;
    if (ret == 0 && middle > 0) {
        ret = aligned_pwritev(child, req, start, middle, NULL, flags);
        start += middle;
    }
    if (ret == 0 && start < end) {
        payload_clear(&block);
        payload_append_zero(&block, align - rmw->tail);
        append_tail(rmw, &block);
        ret = aligned_pwritev(child, req, start, align, &block, data_flags);
    }
    payload_clear(&block);
    return ret;
}

static int padded_pwritev(BdrvChild *child, BdrvTrackedRequest *req, int64_t offset, int64_t bytes,
                          const struct payload *in, uint32_t flags)
{
    BlockDriverState *bs = child->bs;
    /* Asked again after waiting, but a refusal should not cost two reads first. */
    int ret = check_writable(bs);
    if (ret < 0) {
        return ret;
    }
    bdrv_mark_request_serialising(req, bs->bl.request_alignment);
    bdrv_wait_serialising_requests(req);
    struct rmw rmw;
    rmw_init(&rmw, bs, offset, bytes);
    ret = rmw_read(req, &rmw);
    if (ret == 0 && (flags & BDRV_REQ_ZERO_WRITE)) {
        ret = rmw_write_zeroes(child, req, &rmw, flags);
    } else if (ret == 0) {
        ret = rmw_write_data(child, req, &rmw, bytes, in, flags);
    }
    payload_clear(&rmw.head_block);
    payload_clear(&rmw.tail_block);
    return ret;
}

static int do_pwritev(BdrvChild *child, int64_t offset, int64_t bytes, const struct payload *in, uint32_t flags)
{
    BlockDriverState *bs = child->bs;
    int ret = bdrv_check_request(bs, offset, bytes, !(flags & BDRV_REQ_ZERO_WRITE));
    if (ret < 0) {
        return ret;
    }
    int64_t align = bs->bl.request_alignment;
    int64_t start = ROUND_DOWN(offset, align);
    int64_t end = ROUND_UP(offset + bytes, align);
    bool aligned = bdrv_is_aligned(bs, offset, bytes);
    if (!aligned && (flags & BDRV_REQ_NO_FALLBACK)) {
        return -ENOTSUP;
    }
    if (flags & BDRV_REQ_WRITE_COMPRESSED & ~bs->supported_write_flags) {
        return -ENOTSUP;
    }
    if (bytes == 0) {
        return aligned ? check_writable(bs) : 0;
    }
    SIM_ASSERT(aligned || !(flags & BDRV_REQ_NO_WAIT));
    BdrvTrackedRequest req;
    bdrv_tracked_request_begin(&req, bs, start, end - start, BDRV_TRACKED_WRITE);
    if (aligned) {
        ret = aligned_pwritev(child, &req, offset, bytes, in, flags);
    } else {
        ret = padded_pwritev(child, &req, offset, bytes, in, flags);
    }
    bdrv_tracked_request_end(&req);
    return ret;
}

int bdrv_co_pwritev(BdrvChild *child, int64_t offset, int64_t bytes, const struct payload *in, uint32_t flags)
{
    SIM_ASSERT_EQ(flags & (BDRV_REQ_COPY_ON_READ | BDRV_REQ_PREFETCH | BDRV_REQ_ZERO_WRITE), 0);
    SIM_ASSERT(bytes < 0 || in->size_bytes == bytes);
    return do_pwritev(child, offset, bytes, in, flags);
}

int bdrv_co_pwrite_zeroes(BdrvChild *child, int64_t offset, int64_t bytes, uint32_t flags)
{
    SIM_ASSERT_EQ(flags & (BDRV_REQ_COPY_ON_READ | BDRV_REQ_PREFETCH | BDRV_REQ_WRITE_COMPRESSED), 0);
    if (!(child->bs->open_flags & BDRV_O_UNMAP)) {
        flags &= ~(uint32_t)BDRV_REQ_MAY_UNMAP;
    }
    return do_pwritev(child, offset, bytes, NULL, flags | BDRV_REQ_ZERO_WRITE);
}
