/* Dirty bitmaps and the image: what a driver that stores them is asked (reference/bitmaps-qcow2.md 2.4, 3). */
#include "block/dirty-bitmap_int.h"

#include <errno.h>

bool bdrv_co_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name, uint32_t granularity, Error **errp)
{
    if (bs->drv == NULL || bs->drv->bdrv_co_can_store_new_dirty_bitmap == NULL) {
        error_setg(errp, "Can't store persistent bitmaps to %s: Operation not supported", bdrv_get_node_name(bs));
        return false;
    }
    if (bdrv_find_dirty_bitmap(bs, name) != NULL) {
        error_setg(errp, "Bitmap already exists: %s", name);
        return false;
    }
    if (!bs->drv->bdrv_co_can_store_new_dirty_bitmap(bs, name, granularity, errp)) {
        error_prepend(errp, "Can't make bitmap '%s' persistent in '%s': ", name, bdrv_get_node_name(bs));
        return false;
    }
    return true;
}

int bdrv_co_remove_persistent_dirty_bitmap(BlockDriverState *bs, const char *name, Error **errp)
{
    if (bs->drv == NULL || bs->drv->bdrv_co_remove_persistent_dirty_bitmap == NULL) {
        return 0; /* it cannot have been stored */
    }
    return bs->drv->bdrv_co_remove_persistent_dirty_bitmap(bs, name, errp);
}

void bdrv_release_persistent_dirty_bitmaps(BlockDriverState *bs)
{
    BdrvDirtyBitmap *bitmap = LIST_FIRST(&bs->dirty_bitmaps);
    while (bitmap != NULL) {
        BdrvDirtyBitmap *next = LIST_NEXT(bitmap, list);
        if (bitmap->persistent && !bitmap->skip_store) {
            bdrv_release_dirty_bitmap(bitmap);
        }
        bitmap = next;
    }
}

bool bdrv_has_dirty_bitmaps(const BlockDriverState *bs)
{
    return !LIST_EMPTY(&bs->dirty_bitmaps);
}
