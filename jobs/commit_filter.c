/*
 * The filter above the top of a commit (reference/jobs.md 6): passes reads on, and takes no permission below.
 *
 * The layers under it change their meaning while the job writes to base. Who reads through the filter still sees
 * what it always saw, since the upper layers cover what is written below; but nobody may hold a right on these
 * layers that speaks against the job's writing.
 */
#include "block/block_int.h"
#include "jobs/commit_int.h"

static int commit_top_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out,
                                uint32_t flags)
{
    return bdrv_co_preadv(bs->backing, offset, bytes, out, flags);
}

static int64_t commit_top_co_getlength(BlockDriverState *bs)
{
    return bdrv_co_getlength(bs->backing->bs);
}

static int commit_top_co_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    return bdrv_co_get_info(bs->backing->bs, info);
}

static void commit_top_child_perm(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm,
                                  uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    *nperm = 0;
    *nshared = BLK_PERM_ALL;
}

const BlockDriver bdrv_commit_top = {
    .format_name = "commit_top",
    .doc = "filter that a commit job inserts above its top",
    .is_filter = true,
    .filtered_child_is_backing = true,
    .internal = true,
    .bdrv_co_preadv = commit_top_co_preadv,
    .bdrv_co_getlength = commit_top_co_getlength,
    .bdrv_co_get_info = commit_top_co_get_info,
    .bdrv_child_perm = commit_top_child_perm,
};
