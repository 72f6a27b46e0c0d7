/*
 * Copying a range from node to node without its bytes passing through here (reference/block.md 2.12).
 *
 *     bdrv_co_copy_range_from: goes down the source, each node a read ... a protocol turns round
 *     bdrv_co_copy_range_to:   goes down the target, each node a write ... the last driver copies
 *
 * Both ways every node must be able to, or the whole is -ENOTSUP before anything was copied, and the caller reads
 * and writes instead.
 */
#include "block/request.h"

#include <errno.h>

/* A driver is asked in its own alignment only: here nobody could pad. */
static int check_aligned(const BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return bdrv_is_aligned(bs, offset, bytes) ? 0 : -ENOTSUP;
}

static int check(const BdrvChild *src, int64_t src_offset, const BdrvChild *dst, int64_t dst_offset, int64_t bytes,
                 uint32_t write_flags)
{
    int ret = bdrv_check_request(dst->bs, dst_offset, bytes, true);
    if (ret == 0) {
        ret = bdrv_check_request(src->bs, src_offset, bytes, true);
    }
    if (ret < 0) {
        return ret;
    }
    if (src->bs->drv->bdrv_co_copy_range_from == NULL || dst->bs->drv->bdrv_co_copy_range_to == NULL ||
        (write_flags & BDRV_REQ_WRITE_COMPRESSED)) {
        return -ENOTSUP;
    }
    return 0;
}

int bdrv_co_copy_range_from(BdrvChild *src, int64_t src_offset, BdrvChild *dst, int64_t dst_offset, int64_t bytes,
                            uint32_t read_flags, uint32_t write_flags)
{
    BlockDriverState *bs = src->bs;
    SIM_ASSERT_EQ(read_flags & (BDRV_REQ_SERIALISING | BDRV_REQ_COPY_ON_READ | BDRV_REQ_PREFETCH), 0);
    SIM_ASSERT_EQ(write_flags & (BDRV_REQ_NO_FALLBACK | BDRV_REQ_NO_WAIT | BDRV_REQ_ZERO_WRITE), 0);
    int ret = check(src, src_offset, dst, dst_offset, bytes, write_flags);
    if (ret == 0) {
        ret = check_aligned(bs, src_offset, bytes);
    }
    /* A read of this node would fill it on the way; only a read can do that. */
    if (ret == 0 && bs->copy_on_read > 0) {
        ret = -ENOTSUP;
    }
    if (ret < 0 || bytes == 0) {
        return ret;
    }
    BdrvTrackedRequest req;
    bdrv_tracked_request_begin(&req, bs, src_offset, bytes, BDRV_TRACKED_READ);
    bdrv_wait_serialising_requests(&req);
    ret = bs->drv->bdrv_co_copy_range_from(bs, src, src_offset, dst, dst_offset, bytes, read_flags, write_flags);
    bdrv_tracked_request_end(&req);
    return ret < 0 ? ret : 0;
}

/* The target's driver copies; FUA as for a write. */
static int driver_copy_range_to(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                                int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags)
{
    if (bs->open_flags & BDRV_O_NO_FLUSH) {
        write_flags &= ~(uint32_t)BDRV_REQ_FUA;
    }
    int ret = bs->drv->bdrv_co_copy_range_to(bs, src, src_offset, dst, dst_offset, bytes, read_flags,
                                             write_flags & bs->supported_write_flags);
    if (ret >= 0 && (write_flags & ~bs->supported_write_flags & BDRV_REQ_FUA)) {
        ret = bdrv_emulate_fua(bs);
    }
    return ret < 0 ? ret : 0;
}

int bdrv_co_copy_range_to(BdrvChild *src, int64_t src_offset, BdrvChild *dst, int64_t dst_offset, int64_t bytes,
                          uint32_t read_flags, uint32_t write_flags)
{
    BlockDriverState *bs = dst->bs;
    int ret = check(src, src_offset, dst, dst_offset, bytes, write_flags);
    if (ret == 0) {
        ret = check_aligned(bs, dst_offset, bytes);
    }
    if (ret < 0 || bytes == 0) {
        return ret;
    }
    BdrvTrackedRequest req;
    bdrv_tracked_request_begin(&req, bs, dst_offset, bytes, BDRV_TRACKED_WRITE);
    ret = bdrv_write_prepare(dst, &req, dst_offset, bytes, write_flags);
    if (ret == 0) {
        ret = driver_copy_range_to(bs, src, src_offset, dst, dst_offset, bytes, read_flags, write_flags);
        /* Refused is not failed: nothing can have changed, and the caller writes all the same. */
        if (ret != -ENOTSUP) {
            bdrv_write_finish(&req, dst_offset, bytes, ret);
        }
    }
    bdrv_tracked_request_end(&req);
    return ret;
}

int bdrv_co_copy_range(BdrvChild *src, int64_t src_offset, BdrvChild *dst, int64_t dst_offset, int64_t bytes,
                       uint32_t read_flags, uint32_t write_flags)
{
    if (write_flags & BDRV_REQ_ZERO_WRITE) {
        return bdrv_co_pwrite_zeroes(dst, dst_offset, bytes, write_flags & ~(uint32_t)BDRV_REQ_ZERO_WRITE);
    }
    return bdrv_co_copy_range_from(src, src_offset, dst, dst_offset, bytes, read_flags, write_flags);
}
