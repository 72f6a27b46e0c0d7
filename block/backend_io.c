/*
 * Requests through a BlockBackend (2.1): count, park while drained, check, hand to the root's node.
 *
 *     blk_begin:  in flight +1 -> [drained: in flight -1, park, woken: in flight +1 by the releaser] -> root, range
 *                 -> limits (reads, writes, zero writes)
 *     blk_end:    in flight -1
 */
#include <errno.h>

#include "block/backend_int.h"

/* --- in flight and parked -------------------------------------------------------------------------------- */

static void blk_dec_in_flight(BlockBackend *blk)
{
    SIM_ASSERT(blk->in_flight > 0);
    if (--blk->in_flight == 0) {
        host_kick(blk->host);
    }
}

void blk_release_parked(BlockBackend *blk)
{
    while (blk->parked_first) {
        struct blk_parked_request *request = blk->parked_first;

        blk->parked_first = request->next;
        blk->parked--;
        /* Counted before it runs, so that a drain that begins in between waits for it instead of missing it. */
        blk->in_flight++;
        request->released = true;
        coroutine_wake(request->co);
    }
    blk->parked_last = NULL;
}

/* Off the fast path: the caller's request is counted in flight before and after. */
static void __attribute__((noinline)) blk_park(BlockBackend *blk)
{
    struct sim *sim = blk->host->sim;
    struct blk_parked_request request = {.co = coroutine_self(sim)};
    const BlockDriverState *bs = blk_bs(blk);

    SIM_ASSERT(request.co != NULL);
    SIM_MARK(sim, blk_parked);
    if (blk->parked_last) {
        blk->parked_last->next = &request;
    } else {
        blk->parked_first = &request;
    }
    blk->parked_last = &request;
    blk->parked++;
    blk_dec_in_flight(blk);
    while (!request.released) {
        coroutine_yield(sim);
    }
    if (blk_bs(blk) != bs) {
        SIM_MARK(sim, blk_parked_new_root);
    }
}

static inline void blk_enter(BlockBackend *blk)
{
    blk->in_flight++;
    if (__builtin_expect(blk->quiesce_counter > 0, 0) && !blk->disable_request_queuing) {
        blk_park(blk);
    }
}

static inline bool blk_available(const BlockBackend *blk)
{
    return blk->root &&
           !(blk->dev_ops && blk->dev_ops->is_tray_open && blk->dev_ops->is_tray_open(blk->dev_opaque));
}

/* The graph may have changed while the request was parked: the root is looked up only now. */
static inline int blk_check(const BlockBackend *blk, int64_t offset, int64_t bytes)
{
    if (!blk_available(blk)) {
        return -ENOMEDIUM;
    }
    if (offset < 0 || bytes < 0) {
        return -EIO;
    }
    int64_t length = blk->root->bs->total_bytes;
    if (!blk->allow_write_beyond_eof && (offset > length || bytes > length - offset)) {
        return -EIO;
    }
    return 0;
}

/* Who has given its rights up with an inactive node (8.2) may read. The node is not to be changed by us any more.
 */
static inline int blk_check_change(const BlockBackend *blk, int64_t offset, int64_t bytes)
{
    int ret = blk_check(blk, offset, bytes);

    if (ret >= 0 && __builtin_expect(blk->disable_perm, 0)) {
        SIM_MARK(blk->host->sim, blk_write_refused);
        return -EPERM;
    }
    return ret;
}

/* The root stays: it is drained before it changes, and this request is in flight. */
static inline void blk_throttle(BlockBackend *blk, int64_t bytes, enum throttle_direction direction)
{
    if (__builtin_expect(blk->throttle.group != NULL, 0)) {
        throttle_group_co_intercept(&blk->throttle, bytes, direction);
    }
}

/* --- requests -------------------------------------------------------------------------------------------- */

int blk_co_preadv(BlockBackend *blk, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    blk_enter(blk);
    int ret = blk_check(blk, offset, bytes);
    if (ret >= 0) {
        blk_throttle(blk, bytes, THROTTLE_READ);
        ret = bdrv_co_preadv(blk->root, offset, bytes, out, flags);
    }
    blk_dec_in_flight(blk);
    return ret;
}

static inline uint32_t write_flags(const BlockBackend *blk, uint32_t flags)
{
    return blk->enable_write_cache ? flags : flags | BDRV_REQ_FUA;
}

int blk_co_pwritev(BlockBackend *blk, int64_t offset, int64_t bytes, const struct payload *in, uint32_t flags)
{
    blk_enter(blk);
    int ret = blk_check_change(blk, offset, bytes);
    if (ret >= 0) {
        blk_throttle(blk, bytes, THROTTLE_WRITE);
        ret = bdrv_co_pwritev(blk->root, offset, bytes, in, write_flags(blk, flags));
    }
    blk_dec_in_flight(blk);
    return ret;
}

int blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes, uint32_t flags)
{
    blk_enter(blk);
    int ret = blk_check_change(blk, offset, bytes);
    if (ret >= 0) {
        blk_throttle(blk, bytes, THROTTLE_WRITE);
        ret = bdrv_co_pwrite_zeroes(blk->root, offset, bytes, write_flags(blk, flags));
    }
    blk_dec_in_flight(blk);
    return ret;
}

int blk_co_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes)
{
    blk_enter(blk);
    int ret = blk_check_change(blk, offset, bytes);
    if (ret >= 0) {
        ret = bdrv_co_pdiscard(blk->root, offset, bytes);
    }
    blk_dec_in_flight(blk);
    return ret;
}

int blk_co_copy_range(BlockBackend *src, int64_t src_offset, BlockBackend *dst, int64_t dst_offset, int64_t bytes,
                      uint32_t read_flags, uint32_t flags)
{
    int ret = blk_check(src, src_offset, bytes);
    if (ret >= 0) {
        ret = blk_check_change(dst, dst_offset, bytes);
    }
    return ret < 0 ? ret
                   : bdrv_co_copy_range(src->root, src_offset, dst->root, dst_offset, bytes, read_flags,
                                        write_flags(dst, flags));
}

int blk_co_flush(BlockBackend *blk)
{
    blk_enter(blk);
    int ret = blk_available(blk) ? bdrv_co_flush(blk->root->bs) : -ENOMEDIUM;
    blk_dec_in_flight(blk);
    return ret;
}

/* Neither parked nor counted here: whoever truncates has drained or holds the node. */
int blk_co_truncate(BlockBackend *blk, int64_t length, bool exact, enum bdrv_prealloc prealloc, uint32_t flags,
                    Error **errp)
{
    if (!blk_available(blk)) {
        error_setg(errp, "No medium inserted");
        return -ENOMEDIUM;
    }
    if (blk->disable_perm) {
        error_setg(errp, "Node '%s' is inactive", bdrv_get_node_name(blk_bs(blk)));
        return -EPERM;
    }
    return bdrv_co_truncate(blk->root, length, exact, prealloc, flags, errp);
}

int64_t blk_getlength(BlockBackend *blk)
{
    return blk->root ? blk->root->bs->total_bytes : -ENOMEDIUM;
}

int64_t blk_co_getlength(BlockBackend *blk)
{
    return blk->root ? bdrv_co_getlength(blk->root->bs) : -ENOMEDIUM;
}
