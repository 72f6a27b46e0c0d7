/*
 * Flushing a node (reference/block.md 2.9).
 *
 * One flush of a node is active, the others wait in FIFO order. Each covers the writes that had completed when it
 * was submitted (its sampled generation); a flush that finds its generation on disk already only passes on to the
 * children. A failed flush does not count, so the next one tries again.
 */
#include "block/request.h"

/* All are tried; the first error is returned. */
static int flush_children(BlockDriverState *bs)
{
    int first = 0;
    /* Safe across the yields: edges are only taken off a quiesced parent, and this flush is in flight. */
    BdrvChild *child;
    LIST_FOREACH(child, &bs->children, next)
    {
        if (child->perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED)) {
            int ret = bdrv_co_flush(child->bs);
            first = first < 0 ? first : ret;
        }
    }
    return first;
}

/* The file is where a format's flush shows, so that is where it can be made to fail or to wait. */
static void raise_event(const BlockDriverState *bs, enum blkdbg_event event)
{
    BlockDriverState *primary = bdrv_primary_bs(bs);
    if (primary != NULL) {
        bdrv_co_debug_event(primary, event);
    }
}

static int flush_to_disk(BlockDriverState *bs, uint64_t sampled, bool waited)
{
    if (bs->open_flags & BDRV_O_NO_FLUSH) {
        return 0;
    }
    if (bs->flushed_gen >= sampled) {
        if (waited) {
            SIM_MARK(bs->host->sim, flush_coalesced);
        }
        return 0;
    }
    raise_event(bs, BLKDBG_FLUSH_TO_DISK);
    return bs->drv->bdrv_co_flush_to_disk != NULL ? bs->drv->bdrv_co_flush_to_disk(bs) : 0;
}

static int do_flush(BlockDriverState *bs, uint64_t sampled, bool waited)
{
    const BlockDriver *drv = bs->drv;
    if (drv->bdrv_co_flush != NULL) {
        return drv->bdrv_co_flush(bs);
    }
    raise_event(bs, BLKDBG_FLUSH_TO_OS);
    int ret = drv->bdrv_co_flush_to_os != NULL ? drv->bdrv_co_flush_to_os(bs) : 0;
    if (ret >= 0) {
        ret = flush_to_disk(bs, sampled, waited);
    }
    int child_ret = flush_children(bs);
    return ret < 0 ? ret : child_ret;
}

int bdrv_co_flush(BlockDriverState *bs)
{
    if (bs->drv == NULL || bdrv_is_read_only(bs)) {
        return 0;
    }
    bdrv_inc_in_flight(bs);
    uint64_t sampled = bs->write_gen;
    bool waited = bs->active_flush_req;
    if (waited) {
        /* Whoever wakes us hands the turn over: active_flush_req stays set, so a newcomer cannot overtake. */
        co_queue_wait(&bs->flush_queue);
        SIM_ASSERT(bs->active_flush_req);
    }
    bs->active_flush_req = true;
    int ret = do_flush(bs, sampled, waited);
    if (ret >= 0) {
        ret = 0;
        bs->flushed_gen = MAX(bs->flushed_gen, sampled);
    }
    if (!co_queue_next(&bs->flush_queue)) {
        bs->active_flush_req = false;
    }
    bdrv_dec_in_flight(bs);
    return ret;
}

static int flush_node(void *opaque)
{
    return bdrv_co_flush(opaque);
}

int bdrv_flush_all(struct host *host)
{
    int first = 0;
    BlockDriverState *bs = bdrv_next_node(host, NULL);
    if (bs != NULL) {
        bdrv_ref(bs);
    }
    while (bs != NULL) {
        int ret = bdrv_run_co(host, "flush all", flush_node, bs);
        first = first < 0 ? first : ret;
        /* The reference keeps our place in the list while the flush sleeps. */
        BlockDriverState *next = bdrv_next_node(host, bs);
        if (next != NULL) {
            bdrv_ref(next);
        }
        bdrv_unref(bs);
        bs = next;
    }
    return first;
}
