/* Zero writes and discards: cutting them as the driver wants them (reference/block.md 2.10, 2.11). */
#include "block/request.h"

#include <errno.h>

/* --- zero writes ------------------------------------------------------------------------------------------ */

/* How a node wants zero writes cut. */
struct zero_cut {
    int64_t align;
    int64_t head; /* bytes from the last edge before the rest of the request */
    int64_t tail; /* bytes after the last edge in the request */
    int64_t max_piece;
    int64_t max_data;
};

static struct zero_cut zero_cut_of(const BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int64_t align = MAX(bs->bl.pwrite_zeroes_alignment, bs->bl.request_alignment);
    int64_t max = bs->bl.max_pwrite_zeroes > 0 ? bs->bl.max_pwrite_zeroes : INT64_MAX;
    struct zero_cut cut = {
        .align = align,
        .head = offset % align,
        .tail = (offset + bytes) % align,
        .max_piece = max / align * align,
        .max_data = MIN(bdrv_max_transfer(bs), BDRV_MAX_BOUNCE),
    };
    SIM_ASSERT_LT(0, cut.max_piece);
    return cut;
}

/* The next piece: neither head nor tail crosses an edge, the bulk between them is aligned. */
static int64_t next_zero_piece(struct zero_cut *cut, int64_t bytes)
{
    int64_t num = bytes;
    if (cut->head > 0) {
        num = MIN(MIN(bytes, cut->align - cut->head), cut->max_data);
        cut->head = (cut->head + num) % cut->align;
    } else if (cut->tail > 0 && num > cut->align) {
        num -= cut->tail;
    }
    return MIN(num, cut->max_piece);
}

static int zero_fallback(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    struct payload zeroes;
    SIM_MARK(bs->host->sim, req_zero_fallback);
    payload_init(bs->host->sim, &zeroes);
    payload_append_zero(&zeroes, bytes);
    int ret = bdrv_driver_pwritev(bs, offset, bytes, &zeroes, flags);
    payload_clear(&zeroes);
    return ret;
}

int bdrv_do_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    struct zero_cut cut = zero_cut_of(bs, offset, bytes);
    bool need_flush = false;
    int ret = 0;
    SIM_ASSERT_EQ(flags & ~bs->supported_zero_flags & BDRV_REQ_NO_FALLBACK, 0);
    bdrv_status_cache_drop(bs, offset, bytes);
    while (bytes > 0 && ret == 0) {
        int64_t num = next_zero_piece(&cut, bytes);
        ret = -ENOTSUP;
        if (bs->drv->bdrv_co_pwrite_zeroes != NULL) {
            ret = bs->drv->bdrv_co_pwrite_zeroes(bs, offset, num, flags & bs->supported_zero_flags);
            need_flush |= ret != -ENOTSUP && (flags & ~bs->supported_zero_flags & BDRV_REQ_FUA);
        }
        if (ret == -ENOTSUP && !(flags & BDRV_REQ_NO_FALLBACK)) {
            uint32_t data_flags = flags & ~(uint32_t)(BDRV_REQ_ZERO_WRITE | BDRV_REQ_MAY_UNMAP);
            if (flags & ~bs->supported_write_flags & BDRV_REQ_FUA) {
                data_flags &= ~(uint32_t)BDRV_REQ_FUA; /* once at the end instead of after each piece */
                need_flush = true;
            }
            int64_t after = num;
            num = MIN(num, cut.max_data);
            /* What was cut off the piece starts inside a group again. */
            cut.head = num < after ? (offset + num) % cut.align : cut.head;
            ret = zero_fallback(bs, offset, num, data_flags);
        }
        ret = ret < 0 ? ret : 0;
        offset += num;
        bytes -= num;
    }
    return ret == 0 && need_flush ? bdrv_emulate_fua(bs) : ret;
}

/* --- discards --------------------------------------------------------------------------------------------- */

/* Pieces between pdiscard alignments; edges that do not even fill the request alignment come alone. */
static int64_t next_discard_piece(const BlockDriverState *bs, int64_t align, int64_t offset, int64_t bytes)
{
    int64_t unit = bs->bl.request_alignment;
    int64_t max = bs->bl.max_pdiscard > 0 ? MAX(ROUND_DOWN(bs->bl.max_pdiscard, unit), unit) : INT64_MAX;
    int64_t head = offset % align;
    int64_t num = bytes;
    if (offset % unit != 0) {
        num = MIN(num, unit - offset % unit);
    } else if (head > 0) {
        num = MIN(num, align - head);
    } else if (num > align) {
        num -= num % align;
        max = MAX(max / align * align, align);
    }
    if (num > unit) {
        num -= (offset + num) % unit;
    }
    return MIN(num, max);
}

static int do_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int64_t unit = bs->bl.request_alignment;
    int64_t align = MAX((int64_t)bs->bl.pdiscard_alignment, unit);
    int ret = 0;
    bdrv_status_cache_drop(bs, offset, bytes);
    while (bytes > 0 && ret == 0) {
        int64_t num = next_discard_piece(bs, align, offset, bytes);
        SIM_ASSERT(num > 0 && num <= bytes);
        /* A piece below the request alignment is one that the driver could only refuse. */
        if (((offset | num) & (unit - 1)) == 0) {
            ret = bs->drv->bdrv_co_pdiscard(bs, offset, num);
            ret = ret == -ENOTSUP || ret > 0 ? 0 : ret;
        }
        offset += num;
        bytes -= num;
    }
    return ret;
}

int bdrv_co_pdiscard(BdrvChild *child, int64_t offset, int64_t bytes)
{
    BlockDriverState *bs = child->bs;
    if (bs->drv == NULL) {
        return -ENOMEDIUM;
    }
    if (bdrv_has_readonly_bitmaps(bs)) {
        return -EPERM;
    }
    int ret = bdrv_check_request(bs, offset, bytes, false);
    if (ret < 0 || bytes == 0) {
        return ret;
    }
    if (!(bs->open_flags & BDRV_O_UNMAP) || bs->drv->bdrv_co_pdiscard == NULL) {
        return 0;
    }
    BdrvTrackedRequest req;
    bdrv_tracked_request_begin(&req, bs, offset, bytes, BDRV_TRACKED_DISCARD);
    ret = bdrv_write_prepare(child, &req, offset, bytes, 0);
    if (ret == 0) {
        ret = do_pdiscard(bs, offset, bytes);
        bdrv_write_finish(&req, offset, bytes, ret);
    }
    bdrv_tracked_request_end(&req);
    return ret;
}
