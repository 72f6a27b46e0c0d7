/* Freezing a dirty bitmap: successors (reference/bitmaps-qcow2.md 2.2). */
#include "block/dirty-bitmap_int.h"

#include <errno.h>

int bdrv_dirty_bitmap_create_successor(BdrvDirtyBitmap *parent, Error **errp)
{
    BlockDriverState *bs = parent->bs;
    if (parent->successor != NULL) {
        error_setg(errp, "Cannot create a successor for a bitmap that already has one");
        return -EINVAL;
    }
    int ret = bdrv_dirty_bitmap_check(parent, BDRV_BITMAP_ALLOW_RO, errp);
    if (ret < 0) {
        return ret;
    }
    SIM_ASSERT(bdrv_dirty_bitmap_may(parent, BITMAP_FREEZE));
    BdrvDirtyBitmap *child = bdrv_dirty_bitmap_new(bs, hbitmap_length(parent->hbitmap), parent->granularity, NULL);
    child->disabled = parent->disabled;
    parent->disabled = true;
    parent->busy = true;
    parent->successor = child;
    parent->kept_bytes = hbitmap_length(parent->hbitmap);
    SIM_EMIT(bs->host->sim, bs->host, bitmap_freeze, parent, SIM_P(bs->name), parent->id, child->id);
    return 0;
}

/* Announces what is about to happen to a frozen bitmap. NULL with errp when it is not frozen. */
static BdrvDirtyBitmap *successor_to_thaw(const BdrvDirtyBitmap *parent, bool abdicate, Error **errp)
{
    if (parent->successor == NULL) {
        error_setg(errp, "Cannot %s bitmap '%s': it has no successor", abdicate ? "relinquish" : "reclaim",
                   bdrv_dirty_bitmap_shown_name(parent));
        return NULL;
    }
    SIM_ASSERT(parent->busy && parent->disabled && !parent->loading);
    SIM_ASSERT(bdrv_dirty_bitmap_may(parent, BITMAP_THAW));
    SIM_EMIT(parent->bs->host->sim, parent->bs->host, bitmap_thaw, parent, SIM_P(parent->bs->name), parent->id,
             parent->successor->id, abdicate);
    return parent->successor;
}

BdrvDirtyBitmap *bdrv_dirty_bitmap_abdicate(BdrvDirtyBitmap *parent, Error **errp)
{
    BlockDriverState *bs = parent->bs;
    BdrvDirtyBitmap *child = successor_to_thaw(parent, true, errp);
    if (child == NULL) {
        return NULL;
    }
    SIM_ASSERT(child->name == NULL);
    child->name = parent->name;
    child->persistent = parent->persistent;
    child->readonly = parent->readonly;
    parent->name = NULL;
    parent->persistent = false;
    parent->busy = false;
    parent->successor = NULL;
    SIM_EMIT(bs->host->sim, bs->host, bitmap_abdicate, child, SIM_P(bs->name), parent->id, child->id);
    bdrv_release_dirty_bitmap(parent);
    return child;
}

BdrvDirtyBitmap *bdrv_reclaim_dirty_bitmap(BdrvDirtyBitmap *parent, Error **errp)
{
    BlockDriverState *bs = parent->bs;
    BdrvDirtyBitmap *child = successor_to_thaw(parent, false, errp);
    if (child == NULL) {
        return NULL;
    }
    /* What the length did to the others, this one makes up for: bits that a shrink would have dropped are gone. */
    bdrv_dirty_bitmap_set_size(parent, parent->kept_bytes);
    bdrv_dirty_bitmap_set_size(parent, hbitmap_length(child->hbitmap));
    hbitmap_merge(parent->hbitmap, child->hbitmap);
    parent->disabled = child->disabled;
    parent->busy = false;
    parent->successor = NULL;
    SIM_EMIT(bs->host->sim, bs->host, bitmap_reclaim, parent, SIM_P(bs->name), parent->id, child->id);
    bdrv_release_dirty_bitmap(child);
    return parent;
}

void bdrv_dirty_bitmap_enable_successor(BdrvDirtyBitmap *parent)
{
    SIM_ASSERT(parent->successor != NULL);
    bdrv_enable_dirty_bitmap(parent->successor);
}

const BdrvDirtyBitmap *bdrv_dirty_bitmap_successor(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->successor;
}

bool bdrv_dirty_bitmap_has_successor(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->successor != NULL;
}
