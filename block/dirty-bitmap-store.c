/* Dirty bitmaps and the image: what a driver that stores them is asked (reference/bitmaps-qcow2.md 2.4, 3). */
#include "block/dirty-bitmap_int.h"

#include <errno.h>
#include <string.h>

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

bool bdrv_dirty_bitmap_storable(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->persistent && !bitmap->skip_store && !bitmap->inconsistent && !bitmap->readonly;
}

BdrvDirtyBitmap *bdrv_load_dirty_bitmap(BlockDriverState *bs, int64_t size_bytes, uint32_t granularity,
                                        const char *name)
{
    SIM_ASSERT(is_power_of_2(granularity) && granularity >= 512);
    SIM_ASSERT_LE(strlen(name), BDRV_BITMAP_NAME_MAX);
    return bdrv_dirty_bitmap_new(bs, size_bytes, granularity, name);
}

HBitmap *bdrv_dirty_bitmap_bits_to_store(const BdrvDirtyBitmap *bitmap)
{
    const BdrvDirtyBitmap *child = bitmap->successor;
    HBitmap *bits = hbitmap_copy(bitmap->hbitmap);
    if (child != NULL) {
        /* As if the child were reclaimed. */
        hbitmap_truncate(bits, bitmap->kept_bytes);
        hbitmap_truncate(bits, hbitmap_length(child->hbitmap));
        hbitmap_merge(bits, child->hbitmap);
    }
    return bits;
}

static bool has_storable(const BlockDriverState *bs)
{
    const BdrvDirtyBitmap *bitmap;
    LIST_FOREACH(bitmap, &bs->dirty_bitmaps, list)
    {
        if (bdrv_dirty_bitmap_storable(bitmap)) {
            return true;
        }
    }
    return false;
}

static int ask_driver_to_store(BlockDriverState *bs, Error **errp)
{
    if (bs->drv == NULL || bs->drv->bdrv_co_store_dirty_bitmaps == NULL) {
        error_setg(errp, "Can't store persistent bitmaps to %s: Operation not supported", bdrv_get_node_name(bs));
        return -ENOTSUP;
    }
    if (bdrv_is_read_only(bs) || bdrv_is_inactive(bs)) {
        error_setg(errp, "No write access");
        return -EPERM;
    }
    return bs->drv->bdrv_co_store_dirty_bitmaps(bs, errp);
}

/* What an earlier attempt left readonly on a node that is written: nobody knows what the image says of it, so it is
 * marked as in use there, and stored like the others. */
static int take_back_unsure(BlockDriverState *bs, Error **errp)
{
    return bdrv_is_writable(bs) && bdrv_has_readonly_bitmaps(bs) ? bdrv_co_reopen_dirty_bitmaps_rw(bs, errp) : 0;
}

int bdrv_co_store_dirty_bitmaps(BlockDriverState *bs, Error **errp)
{
    int ret = take_back_unsure(bs, errp);
    if (ret == 0 && !has_storable(bs)) {
        return 0;
    }
    ret = ret == 0 ? ask_driver_to_store(bs, errp) : ret;
    SIM_ASSERT_LE(ret, 0);
    if (ret < 0) {
        SIM_MARK(bs->host->sim, bitmap_not_stored);
        error_prepend(errp, "Lost persistent bitmaps during inactivation of node '%s': ", bdrv_get_node_name(bs));
    }
    return ret;
}
