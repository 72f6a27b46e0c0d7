/*
 * The request path from inside: what io.c, write.c, tracked.c, zeroes.c, copy_range.c, copy-on-read.c, flush.c,
 * status.c and resize.c share (reference/block.md 2). Nobody else includes it.
 *
 *     bdrv_co_pwritev -> range check -> padding (serialise, read edges) -> aligned write
 *         aligned write: may it? -> wait -> threshold -> driver (fragments, zeroes) -> finish, whatever the result
 */
#ifndef BLOCK_REQUEST_H
#define BLOCK_REQUEST_H

#include "block/block_int.h"

/* --- tracked requests (tracked.c, 2.5) ------------------------------------------------------------------- */

/* req lives on the coroutine's stack; from here to the end it is in bs's list and counted in flight. */
void bdrv_tracked_request_begin(BdrvTrackedRequest *req, BlockDriverState *bs, int64_t offset, int64_t bytes,
                                enum BdrvTrackedRequestType type);
/* Wakes those that waited for it. */
void bdrv_tracked_request_end(BdrvTrackedRequest *req);
/* From now on every overlapping request waits for this one; the range is widened to align. */
void bdrv_mark_request_serialising(BdrvTrackedRequest *req, int64_t align);
/* True: an overlapping request is in the way (no waiting). */
bool bdrv_request_conflicts(const BdrvTrackedRequest *req);
void bdrv_wait_conflicts(BdrvTrackedRequest *req);

/* Waits until nothing that serialises overlaps req. The list is looked at only when somebody serialises at all. */
static inline void bdrv_wait_serialising_requests(BdrvTrackedRequest *req)
{
    if (req->bs->serialising_in_flight > 0) {
        bdrv_wait_conflicts(req);
    }
}

/* --- shared steps (io.c, write.c) --------------------------------------------------------------------------- */

/* 0, -ENOMEDIUM or -EIO. is_data: the data limit applies. */
int bdrv_check_request(const BlockDriverState *bs, int64_t offset, int64_t bytes, bool is_data);
/* What serialising data requests are widened to. */
int64_t bdrv_serialise_align(BlockDriverState *bs);
/* A read of whole blocks, within req: waits, fragments, zeroes beyond the end. */
int bdrv_aligned_preadv(BdrvTrackedRequest *req, int64_t offset, int64_t bytes, struct payload *out,
                        uint32_t flags);
/* Steps (1) to (6) of an aligned write (2.7), also for discard: 0, -EPERM or -EBUSY. */
int bdrv_write_prepare(BdrvChild *child, BdrvTrackedRequest *req, int64_t offset, int64_t bytes, uint32_t flags);
/* Step (9): generation, highest offset, growth, dirty bitmaps. ret: the driver's result. */
void bdrv_write_finish(BdrvTrackedRequest *req, int64_t offset, int64_t bytes, int ret);
/* One read from the driver, within max_transfer: flags masked. */
int bdrv_driver_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags);
/* One write to the driver, within max_transfer: flags masked, FUA emulated. */
int bdrv_driver_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                        uint32_t flags);
/* The flush that stands in for FUA where a driver lacks it; it covers the write that was just made. */
int bdrv_emulate_fua(BlockDriverState *bs);
/* Largest data transfer of the node's driver: a multiple of its request alignment. */
int64_t bdrv_max_transfer(const BlockDriverState *bs);

static inline bool bdrv_is_aligned(const BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return ((offset | bytes) & (bs->bl.request_alignment - 1)) == 0;
}

/* Block status remembers one range of data of a childless node (2.13); what may punch a hole drops it. */
static inline void bdrv_status_cache_drop(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    if (offset < bs->status_data_end && bs->status_data_start < offset + bytes) {
        bs->status_data_end = bs->status_data_start;
    }
}

/* --- zeroes.c, copy-on-read.c --------------------------------------------------------------------------------- */

/* A zero write aligned to request_alignment, cut as the driver wants it (2.10). */
int bdrv_do_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags);
/* Something in an aligned range is unallocated, or nobody knows; an image that belongs to somebody else (inactive)
 * needs nothing. */
bool bdrv_copy_on_read_needed(BlockDriverState *bs, int64_t offset, int64_t bytes);
/* An aligned read inside the node's length that fills the node with what it finds unallocated (4.3). The caller's
 * request serialises on whole clusters and has waited. BDRV_REQ_PREFETCH: nothing is appended to out. */
int bdrv_do_copy_on_readv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags);

#endif
