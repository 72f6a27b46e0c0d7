/* Merging dirty bitmaps, and undoing what changed their content (reference/bitmaps-qcow2.md 1.5, 3). */
#include "block/dirty-bitmap_int.h"

#include <inttypes.h>

static bool may_merge(const BdrvDirtyBitmap *dst, const BdrvDirtyBitmap *src, Error **errp)
{
    if (bdrv_dirty_bitmap_check(dst, BDRV_BITMAP_DEFAULT, errp) < 0 ||
        bdrv_dirty_bitmap_check(src, BDRV_BITMAP_ALLOW_RO, errp) < 0) {
        return false;
    }
    if (hbitmap_length(dst->hbitmap) != hbitmap_length(src->hbitmap)) {
        error_setg(errp,
                   "Bitmaps are of different sizes (destination size is %" PRId64 ", source size is %" PRId64
                   ") and can't be merged",
                   hbitmap_length(dst->hbitmap), hbitmap_length(src->hbitmap));
        return false;
    }
    return true;
}

bool bdrv_merge_dirty_bitmap(BdrvDirtyBitmap *dst, const BdrvDirtyBitmap *src, HBitmap **backup, Error **errp)
{
    if (!may_merge(dst, src, errp)) {
        return false;
    }
    if (backup != NULL) {
        *backup = hbitmap_copy(dst->hbitmap);
    }
    SIM_ASSERT(bdrv_dirty_bitmap_may(dst, BITMAP_MERGE));
    SIM_ASSERT(bdrv_dirty_bitmap_may(src, BITMAP_MERGE));
    hbitmap_merge(dst->hbitmap, src->hbitmap);
    SIM_EMIT(dst->bs->host->sim, dst->bs->host, bitmap_merge, dst, SIM_P(dst->bs->name), dst->id,
             SIM_P(src->bs->name), src->id);
    return true;
}

void bdrv_restore_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap *backup)
{
    SIM_ASSERT(!bitmap->readonly);
    SIM_ASSERT(bdrv_dirty_bitmap_may(bitmap, BITMAP_CLEAR));
    SIM_ASSERT_EQ(hbitmap_granularity(backup), hbitmap_granularity(bitmap->hbitmap));
    if (hbitmap_length(backup) != hbitmap_length(bitmap->hbitmap)) {
        hbitmap_truncate(backup, hbitmap_length(bitmap->hbitmap));
    }
    hbitmap_free(bdrv_dirty_bitmap_swap(bitmap, backup));
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_restore, bitmap, SIM_P(bitmap->bs->name), bitmap->id);
}
