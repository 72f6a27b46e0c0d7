/*
 * Layers that are shorter than what is above them and below them, and go (reference/jobs.md 6).
 *
 *     overlay  |---------------------|        sees zeroes beyond the end of top ..
 *     top      |----------|                   .. which is about to be taken out ..
 *     base     |-------------------|          .. and what base holds there would show
 *                          ^^^^^^^^
 * Base keeps what is beyond top's end, and a commit never copies there. So zeroes go into the overlay itself, where
 * it holds nothing of its own: what is read from it stays what it was.
 */
#include <errno.h>

#include "block/backend.h"
#include "block/block_int.h"

struct hide_tail {
    BlockBackend *blk;
    int64_t from, to;
};

/* The caller has drained what is above: nobody writes where this has just looked. */
static int hide_entry(void *opaque)
{
    struct hide_tail *h = opaque;
    BlockDriverState *bs = blk_bs(h->blk);
    int64_t bytes;

    SIM_ASSERT(h->from < h->to);
    for (int64_t at = h->from; at < h->to; at += bytes) {
        int ret = bdrv_co_is_allocated(bs, at, h->to - at, &bytes);

        if (ret == 0) {
            ret = blk_co_pwrite_zeroes(h->blk, at, bytes, BDRV_REQ_WRITE_UNCHANGED);
        }
        if (ret < 0) {
            return ret;
        }
        SIM_ASSERT(bytes > 0);
    }
    return blk_co_flush(h->blk); /* before a header names base */
}

static int hide_writable(BlockDriverState *bs, int64_t from, int64_t to, Error **errp)
{
    BlockBackend *blk = blk_new(bs->host, BLK_PERM_WRITE_UNCHANGED, BLK_PERM_ALL);
    struct hide_tail h = {blk, from, to};

    blk_set_disable_request_queuing(blk, true);
    int ret = blk_insert_bs(blk, bs, errp);
    if (ret >= 0) {
        SIM_MARK(bs->host->sim, backing_tail_hidden);
        ret = bdrv_run_co(bs->host, "hide tail", hide_entry, &h);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not hide what lies below the end of node '%s'",
                             bdrv_get_node_name(bs));
        }
    }
    blk_unref(blk);
    return MIN(ret, 0);
}

int bdrv_hide_tail(BlockDriverState *bs, int64_t from, int64_t to, Error **errp)
{
    int64_t end = bdrv_getlength_cached(bs);
    bool read_only = bdrv_is_read_only(bs);
    int ret = 0;

    to = MIN(to, end);
    if (from >= to) {
        return 0;
    }
    if (read_only) {
        ret = bdrv_reopen_set_read_only(bs, false, errp);
    }
    if (ret >= 0) {
        ret = hide_writable(bs, from, to, errp);
        if (read_only) {
            bdrv_reopen_set_read_only(bs, true, NULL);
        }
    }
    return ret;
}
