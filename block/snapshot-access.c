/*
 * Driver `snapshot-access`: what a copy-before-write filter below keeps of the past (reference/jobs.md 5.6).
 *
 *     driver=snapshot-access file=...
 *
 * Not a filter: what it shows is not what the node below shows, and nobody may look for it in the layers below,
 * which are of today. Over a node that keeps nothing, every request is -ENOTSUP.
 */
#include <errno.h>

#include "block/block_int.h"

static int snapshot_access_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    if (!bdrv_open_child(bs, options, "file", BDRV_CHILD_DATA | BDRV_CHILD_PRIMARY, false, errp)) {
        return -EINVAL;
    }
    bs->total_bytes = bs->file->bs->total_bytes;
    return 0;
}

/* The past does not grow. */
static int64_t snapshot_access_getlength(BlockDriverState *bs)
{
    return bs->total_bytes;
}

static int snapshot_access_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out,
                                  uint32_t flags)
{
    BlockDriverState *file = bs->file->bs;

    return file->drv->bdrv_co_preadv_snapshot ? file->drv->bdrv_co_preadv_snapshot(file, offset, bytes, out)
                                              : -ENOTSUP;
}

static int snapshot_access_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                                   uint32_t flags)
{
    return -ENOTSUP;
}

static int snapshot_access_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    return -ENOTSUP;
}

static int snapshot_access_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    BlockDriverState *file = bs->file->bs;

    return file->drv->bdrv_co_pdiscard_snapshot ? file->drv->bdrv_co_pdiscard_snapshot(file, offset, bytes)
                                                : -ENOTSUP;
}

static int snapshot_access_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes,
                                        int64_t *pnum, int64_t *map, BlockDriverState **where)
{
    BlockDriverState *file = bs->file->bs;

    if (!file->drv->bdrv_co_snapshot_block_status) {
        return -ENOTSUP;
    }
    return file->drv->bdrv_co_snapshot_block_status(file, want_zero, offset, bytes, pnum, map, where);
}

/* The filter reads for it, and holds what that needs. */
static void snapshot_access_child_perm(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm,
                                       uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    *nperm = 0;
    *nshared = BLK_PERM_ALL;
}

static int snapshot_access_peek(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    const BlockDriverState *file = bs->file->bs;

    return file->drv->bdrv_peek_snapshot ? file->drv->bdrv_peek_snapshot(file, offset, bytes, out) : -ENOTSUP;
}

static bool snapshot_access_peek_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum)
{
    const BlockDriverState *file = bs->file->bs;

    if (file->drv->bdrv_peek_snapshot_status) {
        return file->drv->bdrv_peek_snapshot_status(file, offset, bytes, pnum);
    }
    *pnum = bytes;
    return true;
}

static const BdrvOption snapshot_access_options[] = {
    {"file", BDRV_OPT_NODE, true, "copy-before-write filter", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

extern const BlockDriver bdrv_snapshot_access;
const BlockDriver bdrv_snapshot_access = {
    .format_name = "snapshot-access",
    .doc = "the past that a copy-before-write filter keeps",
    .options = snapshot_access_options,
    .stays_with_child = true, /* a filter put above keeps another past */
    .bdrv_open = snapshot_access_open,
    .bdrv_co_getlength = snapshot_access_getlength,
    .bdrv_co_preadv = snapshot_access_preadv,
    .bdrv_co_pwritev = snapshot_access_pwritev,
    .bdrv_co_pwrite_zeroes = snapshot_access_pwrite_zeroes,
    .bdrv_co_pdiscard = snapshot_access_pdiscard,
    .bdrv_co_block_status = snapshot_access_block_status,
    .bdrv_child_perm = snapshot_access_child_perm,
    .bdrv_peek = snapshot_access_peek,
    .bdrv_peek_status = snapshot_access_peek_status,
};
