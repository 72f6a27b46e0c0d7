/* Dirty bitmaps and the life of their node: closing, reopening, giving up and taking back
 * (reference/bitmaps-qcow2.md 2.4). */
#include "block/dirty-bitmap_int.h"

#include <errno.h>

bool bdrv_has_dirty_bitmaps(const BlockDriverState *bs)
{
    return !LIST_EMPTY(&bs->dirty_bitmaps);
}

int bdrv_check_no_dirty_bitmaps(const BlockDriverState *bs, Error **errp)
{
    if (!bdrv_has_dirty_bitmaps(bs)) {
        return 0;
    }
    error_setg(errp, "Device has active dirty bitmaps");
    return -EBUSY;
}

/* --- closing -------------------------------------------------------------------------------------------- */

struct store {
    BlockDriverState *bs;
    Error **errp;
};

static int store_entry(void *opaque)
{
    struct store *s = opaque;
    return bdrv_co_store_dirty_bitmaps(s->bs, s->errp);
}

void bdrv_close_dirty_bitmaps(BlockDriverState *bs)
{
    Error *err = NULL;
    struct store s = {bs, &err};
    if (bdrv_has_dirty_bitmaps(bs) && bdrv_run_co(bs->host, "store bitmaps", store_entry, &s) < 0) {
        SIM_EMIT(bs->host->sim, bs->host, bitmap_lost, bs, SIM_P(bs->name));
    }
    error_free(err);
}

/* --- reopening ------------------------------------------------------------------------------------------ */

static bool keeps_in_image(const BlockDriverState *bs)
{
    return bs->drv != NULL && bs->drv->bdrv_co_store_dirty_bitmaps != NULL;
}

/* skip_store included: the image must not be written for that one either. */
static void set_all_readonly(BlockDriverState *bs, bool readonly)
{
    BdrvDirtyBitmap *bitmap;
    LIST_FOREACH(bitmap, &bs->dirty_bitmaps, list)
    {
        if (bitmap->persistent && bitmap->readonly != readonly) {
            bdrv_dirty_bitmap_set_readonly(bitmap, readonly);
        }
    }
}

int bdrv_co_reopen_dirty_bitmaps_ro(BlockDriverState *bs, Error **errp)
{
    if (!keeps_in_image(bs)) {
        return 0;
    }
    int ret = bdrv_co_store_dirty_bitmaps(bs, errp);
    if (ret == 0) {
        set_all_readonly(bs, true);
    }
    return ret;
}

int bdrv_co_reopen_dirty_bitmaps_rw(BlockDriverState *bs, Error **errp)
{
    if (!keeps_in_image(bs) || !bdrv_has_readonly_bitmaps(bs)) {
        return 0;
    }
    if (bs->drv->bdrv_co_reopen_bitmaps_rw != NULL) {
        int ret = bs->drv->bdrv_co_reopen_bitmaps_rw(bs, errp);
        SIM_ASSERT_LE(ret, 0);
        if (ret < 0) {
            SIM_MARK(bs->host->sim, bitmap_stays_readonly);
            return ret;
        }
    }
    set_all_readonly(bs, false);
    return 0;
}

/* --- giving up and taking back -------------------------------------------------------------------------- */

static bool goes_with_image(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->persistent && !bitmap->skip_store;
}

int bdrv_check_inactivate_dirty_bitmaps(const BlockDriverState *bs, Error **errp)
{
    BdrvDirtyBitmap *bitmap;
    LIST_FOREACH(bitmap, &bs->dirty_bitmaps, list)
    {
        int ret = goes_with_image(bitmap) ? bdrv_dirty_bitmap_check(bitmap, BDRV_BITMAP_BUSY, errp) : 0;
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

int bdrv_co_inactivate_dirty_bitmaps(BlockDriverState *bs, Error **errp)
{
    int ret = bdrv_check_inactivate_dirty_bitmaps(bs, errp);
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_store_dirty_bitmaps(bs, errp);
    if (ret == 0) {
        bdrv_release_persistent_dirty_bitmaps(bs);
    }
    return ret;
}

void bdrv_release_persistent_dirty_bitmaps(BlockDriverState *bs)
{
    BdrvDirtyBitmap *bitmap = LIST_FIRST(&bs->dirty_bitmaps);
    while (bitmap != NULL) {
        BdrvDirtyBitmap *next = LIST_NEXT(bitmap, list);
        if (goes_with_image(bitmap)) {
            bdrv_release_dirty_bitmap(bitmap);
        }
        bitmap = next;
    }
}

void bdrv_activate_dirty_bitmaps(BlockDriverState *bs)
{
    BdrvDirtyBitmap *bitmap;
    LIST_FOREACH(bitmap, &bs->dirty_bitmaps, list)
    {
        if (bitmap->skip_store) {
            bdrv_dirty_bitmap_skip_store(bitmap, false);
        }
    }
}
