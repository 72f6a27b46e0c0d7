/* Limits of a node and what it can say about itself (reference/block.md 2.3, 2.13). */
#include "block/request.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define MIN_NON_ZERO(a, b) ((a) == 0 ? (b) : (b) == 0 ? (a) : MIN(a, b))

static void merge_limits(BlockLimits *bl, const BlockLimits *child)
{
    bl->pdiscard_alignment = MAX(bl->pdiscard_alignment, child->pdiscard_alignment);
    bl->opt_transfer = MAX(bl->opt_transfer, child->opt_transfer);
    bl->min_mem_alignment = MAX(bl->min_mem_alignment, child->min_mem_alignment);
    bl->max_transfer = MIN_NON_ZERO(bl->max_transfer, child->max_transfer);
    bl->max_iov = MIN_NON_ZERO(bl->max_iov, child->max_iov);
}

void bdrv_refresh_limits(BlockDriverState *bs)
{
    BlockLimits *bl = &bs->bl;
    memset(bl, 0, sizeof(*bl));
    bl->request_alignment = 1;
    if (bs->drv == NULL) {
        return;
    }
    const BdrvChild *child;
    LIST_FOREACH(child, &bs->children, next)
    {
        if (child->role & (BDRV_CHILD_DATA | BDRV_CHILD_FILTERED | BDRV_CHILD_COW)) {
            merge_limits(bl, &child->bs->bl);
        }
    }
    bl->min_mem_alignment = MAX(bl->min_mem_alignment, 512);
    if (bs->drv->bdrv_refresh_limits != NULL) {
        bs->drv->bdrv_refresh_limits(bs);
    }
    SIM_ASSERT(is_power_of_2(bl->request_alignment) && bl->request_alignment <= BDRV_MAX_ALIGNMENT);
    if (bl->max_transfer > 0) {
        bl->max_transfer = ROUND_DOWN(MIN(bl->max_transfer, (int64_t)INT_MAX), bl->request_alignment);
        SIM_ASSERT_LT(0, bl->max_transfer);
    }
}

int bdrv_co_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    memset(info, 0, sizeof(*info));
    if (bs->drv == NULL) {
        return -ENOMEDIUM;
    }
    if (bs->drv->bdrv_co_get_info == NULL) {
        BlockDriverState *filtered = bdrv_filter_bs(bs);
        return filtered != NULL ? bdrv_co_get_info(filtered, info) : -ENOTSUP;
    }
    bdrv_inc_in_flight(bs);
    int ret = bs->drv->bdrv_co_get_info(bs, info);
    bdrv_dec_in_flight(bs);
    return ret < 0 ? ret : 0;
}

bool bdrv_has_zero_init(BlockDriverState *bs)
{
    if (bs->drv == NULL || bdrv_cow_child(bs) != NULL) {
        return false; /* a fresh overlay reads as its backing file */
    }
    if (bs->drv->bdrv_has_zero_init != NULL) {
        return bs->drv->bdrv_has_zero_init(bs);
    }
    BlockDriverState *filtered = bdrv_filter_bs(bs);
    return filtered != NULL && bdrv_has_zero_init(filtered);
}

bool bdrv_can_write_zeroes_with_unmap(BlockDriverState *bs)
{
    return bs->drv != NULL && (bs->open_flags & BDRV_O_UNMAP) && (bs->supported_zero_flags & BDRV_REQ_MAY_UNMAP);
}
