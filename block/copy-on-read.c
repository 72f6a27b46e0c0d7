/*
 * Copy-on-read: what a read finds unallocated is written to the node it was read through (reference/block.md 4.3).
 *
 *     read, widened to whole (sub)clusters:  |--- allocated ---|--- not ---|--- allocated ---|
 *                                               read as it is    read,       read as it is
 *                                                                write back
 *
 * The write goes straight to the driver: the node's content does not change, so neither its dirty bitmaps nor its
 * write generation may notice (bitmaps-qcow2.md 2.3). What the driver then writes to its file is an ordinary write
 * of that node.
 */
#include "block/request.h"

void bdrv_enable_copy_on_read(BlockDriverState *bs)
{
    SIM_ASSERT(!bdrv_is_read_only(bs));
    bs->copy_on_read++;
}

void bdrv_disable_copy_on_read(BlockDriverState *bs)
{
    SIM_ASSERT(bs->copy_on_read > 0);
    bs->copy_on_read--;
}

bool bdrv_copy_on_read_needed(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int64_t num;
    if (bytes == 0 || bdrv_is_inactive(bs)) {
        return false;
    }
    return bdrv_co_is_allocated(bs, offset, bytes, &num) <= 0 || num < bytes;
}

/* True: the next *num bytes are to be copied; false: they are there already, or have to stay away. */
static bool next_run(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *num)
{
    int64_t align = bs->bl.request_alignment;
    /* The last cluster may go beyond the node's end, where there is no status to ask for. Writing the block that
     * the end cuts would make the node longer: it is only read. */
    int64_t end = ROUND_DOWN(bs->total_bytes, align);
    *num = MIN(bytes, bdrv_max_transfer(bs));
    if (offset >= end) {
        return false;
    }
    int64_t most = MIN(*num, end - offset);
    int allocated = bdrv_co_is_allocated(bs, offset, most, num);
    if (allocated < 0) {
        *num = most; /* the read that follows is likely to say what is wrong */
    }
    SIM_ASSERT(*num > 0 && *num <= most);
    if (allocated > 0 && *num >= align) {
        *num = ROUND_DOWN(*num, align);
        return false;
    }
    *num = MIN(ROUND_UP(*num, align), MAX((int64_t)BDRV_MAX_BOUNCE, align));
    return true;
}

static int write_back(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *data)
{
    SIM_ASSERT(bdrv_is_writable(bs));
    SIM_ASSERT_LE(offset + bytes, bs->total_bytes);
    SIM_MARK(bs->host->sim, req_copy_on_read);
    /* Never with unmap: the point is to have the cluster here. */
    if (bs->drv->bdrv_co_pwrite_zeroes != NULL && payload_is_zero(data, 0, bytes)) {
        return bdrv_do_pwrite_zeroes(bs, offset, bytes, BDRV_REQ_ZERO_WRITE | BDRV_REQ_WRITE_UNCHANGED);
    }
    return bdrv_driver_pwritev(bs, offset, bytes, data, BDRV_REQ_WRITE_UNCHANGED);
}

/* Copies a run; `wanted` bytes of it from `start` on belong to the read. */
static int copy_run(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t start, int64_t wanted,
                    struct payload *out)
{
    struct payload bounce;
    payload_init(bs->host->sim, &bounce);
    int ret = bdrv_driver_preadv(bs, offset, bytes, &bounce, 0);
    if (ret == 0) {
        bdrv_co_debug_event(bs, BLKDBG_COR_WRITE);
        ret = write_back(bs, offset, bytes, &bounce);
    }
    if (ret == 0 && wanted > 0) {
        payload_append(out, &bounce, start - offset, wanted);
    }
    payload_clear(&bounce);
    return ret;
}

/* Whole (sub)clusters, so that the driver need not read the backing file for the rest of one. */
static void widen(BlockDriverState *bs, int64_t *start, int64_t *end)
{
    BlockDriverInfo info;
    if (bdrv_co_get_info(bs, &info) < 0 || info.cluster_size <= 0) {
        return;
    }
    int64_t unit = info.subcluster_size > 0 ? info.subcluster_size : info.cluster_size;
    SIM_ASSERT(is_power_of_2((uint64_t)unit));
    *start = ROUND_DOWN(*start, unit);
    *end = ROUND_UP(*end, unit);
}

int bdrv_do_copy_on_readv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    int64_t before = out->size_bytes;
    int64_t pos = offset;
    int64_t end = offset + bytes;
    int ret = 0;
    SIM_ASSERT(((offset | bytes) & (bs->bl.request_alignment - 1)) == 0);
    widen(bs, &pos, &end);
    while (pos < end && ret == 0) {
        int64_t num;
        bool copy = next_run(bs, pos, end - pos, &num);
        int64_t start = MAX(pos, offset);
        int64_t wanted = MAX(MIN(pos + num, offset + bytes) - start, 0);
        wanted = flags & BDRV_REQ_PREFETCH ? 0 : wanted;
        if (copy) {
            ret = copy_run(bs, pos, num, start, wanted, out);
        } else if (wanted > 0) {
            ret = bdrv_driver_preadv(bs, start, wanted, out, 0);
        }
        pos += num;
    }
    SIM_ASSERT(ret < 0 || (flags & BDRV_REQ_PREFETCH) || out->size_bytes == before + bytes);
    return ret;
}
