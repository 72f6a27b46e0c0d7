/* Reads of a node, and what reads and writes share: checks, padding, fragments (reference/block.md 2.2 to 2.5). */
#include "block/request.h"

#include <errno.h>
#include <limits.h>

/* --- steps shared by all requests ------------------------------------------------------------------------- */

int bdrv_check_request(const BlockDriverState *bs, int64_t offset, int64_t bytes, bool is_data)
{
    if (bs->drv == NULL) {
        return -ENOMEDIUM;
    }
    if (offset < 0 || bytes < 0 || offset > BDRV_MAX_LENGTH || bytes > BDRV_MAX_LENGTH - offset) {
        return -EIO;
    }
    return is_data && bytes > BDRV_MAX_REQUEST ? -EIO : 0;
}

int64_t bdrv_max_transfer(const BlockDriverState *bs)
{
    int64_t align = bs->bl.request_alignment;
    return bs->bl.max_transfer > 0 ? bs->bl.max_transfer : ROUND_DOWN((int64_t)INT_MAX, align);
}

int64_t bdrv_serialise_align(BlockDriverState *bs)
{
    BlockDriverInfo info;
    if (bdrv_co_get_info(bs, &info) < 0 || info.cluster_size <= 0) {
        return bs->bl.request_alignment;
    }
    return MAX(info.cluster_size, (int64_t)bs->bl.request_alignment);
}

/* --- reads ----------------------------------------------------------------------------------------------- */

int bdrv_driver_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    if (bs->drv->bdrv_co_preadv == NULL) {
        return -ENOTSUP;
    }
    int64_t before = out->size_bytes;
    flags &= bs->supported_read_flags;
    int ret = bs->drv->bdrv_co_preadv(bs, offset, bytes, out, flags);
    SIM_ASSERT(ret < 0 || (flags & BDRV_REQ_PREFETCH) || out->size_bytes == before + bytes);
    return ret < 0 ? ret : 0;
}

/* Pieces of at most max_transfer; zeroes beyond the length. */
static int fragmented_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t inside,
                             struct payload *out, uint32_t flags)
{
    int64_t max_transfer = bdrv_max_transfer(bs);
    int64_t done = 0;
    if (bytes > max_transfer) {
        SIM_MARK(bs->host->sim, req_fragmented);
    }
    while (done < bytes) {
        int64_t num = bytes - done;
        if (done < inside) {
            num = MIN(MIN(inside, bytes) - done, max_transfer);
            int ret = bdrv_driver_preadv(bs, offset + done, num, out, flags);
            if (ret < 0) {
                return ret;
            }
        } else {
            payload_append_zero(out, num);
        }
        done += num;
    }
    return 0;
}

int bdrv_aligned_preadv(BdrvTrackedRequest *req, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    BlockDriverState *bs = req->bs;
    SIM_ASSERT(bdrv_is_aligned(bs, offset, bytes));
    if (flags & BDRV_REQ_COPY_ON_READ) {
        /* Nobody may write to a cluster between its being read and its being filled. */
        bdrv_mark_request_serialising(req, bdrv_serialise_align(bs));
    }
    bdrv_wait_serialising_requests(req);
    int64_t inside = ROUND_UP(MAX(bs->total_bytes - offset, 0), bs->bl.request_alignment);
    if (flags & BDRV_REQ_COPY_ON_READ) {
        int64_t num = MIN(bytes, inside);
        if (bdrv_copy_on_read_needed(bs, offset, num)) {
            int ret = bdrv_do_copy_on_readv(bs, offset, num, out, flags);
            payload_append_zero(out, ret == 0 ? bytes - num : 0);
            return ret;
        }
        if (flags & BDRV_REQ_PREFETCH) {
            return 0;
        }
    }
    if (bytes <= inside && bytes <= bdrv_max_transfer(bs)) {
        return bdrv_driver_preadv(bs, offset, bytes, out, flags);
    }
    return fragmented_preadv(bs, offset, bytes, inside, out, flags);
}

static int padded_preadv(BdrvTrackedRequest *req, int64_t offset, int64_t bytes, struct payload *out,
                         uint32_t flags)
{
    struct payload scratch;
    payload_init(req->bs->host->sim, &scratch);
    int ret = bdrv_aligned_preadv(req, req->offset, req->bytes, &scratch, flags);
    if (ret == 0) {
        payload_append(out, &scratch, offset - req->offset, bytes);
    }
    payload_clear(&scratch);
    return ret;
}

static int do_preadv(BdrvChild *child, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    BlockDriverState *bs = child->bs;
    int ret = bdrv_check_request(bs, offset, bytes, true);
    if (ret < 0 || bytes == 0) {
        return ret;
    }
    int64_t before = out->size_bytes;
    int64_t align = bs->bl.request_alignment;
    int64_t start = ROUND_DOWN(offset, align);
    int64_t end = ROUND_UP(offset + bytes, align);
    BdrvTrackedRequest req;
    flags |= bs->copy_on_read > 0 ? BDRV_REQ_COPY_ON_READ : 0;
    bdrv_tracked_request_begin(&req, bs, start, end - start, BDRV_TRACKED_READ);
    if (end - start == bytes || (flags & BDRV_REQ_PREFETCH)) {
        ret = bdrv_aligned_preadv(&req, start, end - start, out, flags);
    } else {
        ret = padded_preadv(&req, offset, bytes, out, flags);
    }
    if (ret < 0 && out->size_bytes > before) {
        payload_truncate(out, before);
    }
    bdrv_tracked_request_end(&req);
    return ret;
}

/* Nobody wants the bytes: what counts is what the read does to this node or to one below. */
static int prefetch(BdrvChild *child, int64_t offset, int64_t bytes, uint32_t flags)
{
    struct payload nowhere;
    payload_init(child->bs->host->sim, &nowhere);
    int ret = do_preadv(child, offset, bytes, &nowhere, flags);
    payload_clear(&nowhere);
    return ret;
}

int bdrv_co_preadv(BdrvChild *child, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    SIM_ASSERT(out != NULL || (flags & BDRV_REQ_PREFETCH));
    return flags & BDRV_REQ_PREFETCH ? prefetch(child, offset, bytes, flags)
                                     : do_preadv(child, offset, bytes, out, flags);
}
