/* Walks along chains: filtered and backing children, and what is below or above filters (1.4). */
#include <stdlib.h>

#include "block/block_int.h"

BdrvChild *bdrv_cow_child(const BlockDriverState *bs)
{
    if (!bs || !bs->drv || bs->drv->is_filter || !bs->backing) {
        return NULL;
    }
    SIM_ASSERT(bs->backing->role & BDRV_CHILD_COW);
    return bs->backing;
}

BdrvChild *bdrv_filter_child(const BlockDriverState *bs)
{
    if (!bs || !bs->drv || !bs->drv->is_filter) {
        return NULL;
    }
    return bs->drv->filtered_child_is_backing ? bs->backing : bs->file;
}

BdrvChild *bdrv_filter_or_cow_child(const BlockDriverState *bs)
{
    BdrvChild *cow = bdrv_cow_child(bs);

    return cow ? cow : bdrv_filter_child(bs);
}

BdrvChild *bdrv_primary_child(const BlockDriverState *bs)
{
    BdrvChild *child;

    if (!bs) {
        return NULL;
    }
    LIST_FOREACH(child, &bs->children, next)
    {
        if (child->role & BDRV_CHILD_PRIMARY) {
            return child;
        }
    }
    return NULL;
}

static BlockDriverState *edge_bs(const BdrvChild *child)
{
    return child ? child->bs : NULL;
}

BlockDriverState *bdrv_cow_bs(const BlockDriverState *bs)
{
    return edge_bs(bdrv_cow_child(bs));
}

BlockDriverState *bdrv_filter_bs(const BlockDriverState *bs)
{
    return edge_bs(bdrv_filter_child(bs));
}

BlockDriverState *bdrv_filter_or_cow_bs(const BlockDriverState *bs)
{
    return edge_bs(bdrv_filter_or_cow_child(bs));
}

BlockDriverState *bdrv_primary_bs(const BlockDriverState *bs)
{
    return edge_bs(bdrv_primary_child(bs));
}

static BlockDriverState *skip_filters(BlockDriverState *bs, bool implicit_only)
{
    while (bs && (!implicit_only || bs->implicit)) {
        BlockDriverState *below = bdrv_filter_bs(bs);
        if (!below) {
            break;
        }
        bs = below;
    }
    return bs;
}

BlockDriverState *bdrv_skip_filters(BlockDriverState *bs)
{
    return skip_filters(bs, false);
}

BlockDriverState *bdrv_skip_implicit_filters(BlockDriverState *bs)
{
    return skip_filters(bs, true);
}

BlockDriverState *bdrv_backing_chain_next(BlockDriverState *bs)
{
    return bdrv_skip_filters(bdrv_cow_bs(bdrv_skip_filters(bs)));
}

bool bdrv_recurse_can_replace(BlockDriverState *bs, const BlockDriverState *to_replace)
{
    while (bs && bs != to_replace) {
        if (bs->drv && bs->drv->bdrv_recurse_can_replace) {
            return bs->drv->bdrv_recurse_can_replace(bs, to_replace);
        }
        bs = bdrv_filter_bs(bs);
    }
    return bs != NULL;
}

bool bdrv_chain_contains(BlockDriverState *top, const BlockDriverState *base)
{
    while (top && top != base) {
        top = bdrv_filter_or_cow_bs(top);
    }
    return top != NULL;
}

/* As the header of image says it, as seen from where the image is, or as the node below calls itself. */
static bool is_backing_file(BlockDriverState *image, const BlockDriverState *below, const char *filename)
{
    const char *written = bdrv_backing_filename(image);

    if (str_is(bdrv_filename(below), filename) || (written && str_is(written, filename))) {
        return true;
    }
    char *seen = bdrv_full_backing_filename(image);
    char *asked = bdrv_full_filename(image, filename);
    bool same = seen && str_is(seen, asked);
    free(asked);
    free(seen);
    return same;
}

BlockDriverState *bdrv_find_backing_image(BlockDriverState *bs, const char *filename)
{
    for (bs = bdrv_skip_filters(bs); bs; bs = bdrv_backing_chain_next(bs)) {
        BlockDriverState *below = bdrv_backing_chain_next(bs);
        if (below && is_backing_file(bs, below, filename)) {
            return below;
        }
    }
    return NULL;
}
