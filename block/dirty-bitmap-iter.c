/* Iterators of dirty bitmaps (reference/bitmaps-qcow2.md 1.3). */
#include "block/dirty-bitmap_int.h"

struct BdrvDirtyBitmapIter {
    BdrvDirtyBitmap *bitmap;
    HBitmapIter hbi;
    uint64_t next_offset; /* where it goes on when the bits below it are exchanged; after a last group 2^63 */
    bool at_end;          /* that is beyond the bitmap: hbi is not to be used */
    LIST_ENTRY(BdrvDirtyBitmapIter) list;
};

static void start_at(BdrvDirtyBitmapIter *iter, uint64_t offset)
{
    const BdrvDirtyBitmap *bitmap = iter->bitmap;
    iter->next_offset = ROUND_DOWN(offset, (uint64_t)bitmap->granularity);
    iter->at_end = offset >= (uint64_t)hbitmap_length(bitmap->hbitmap);
    if (!iter->at_end) {
        hbitmap_iter_init(&iter->hbi, bitmap->hbitmap, (int64_t)offset);
    }
}

BdrvDirtyBitmapIter *bdrv_dirty_iter_new(BdrvDirtyBitmap *bitmap)
{
    SIM_ASSERT_LT(0, hbitmap_length(bitmap->hbitmap));
    SIM_ASSERT(!bitmap->loading);
    BdrvDirtyBitmapIter *iter = SIM_NEW(bitmap->bs->host->arena, BdrvDirtyBitmapIter);
    iter->bitmap = bitmap;
    start_at(iter, 0);
    LIST_INSERT_HEAD(&bitmap->iterators, iter, list);
    return iter;
}

void bdrv_dirty_iter_free(BdrvDirtyBitmapIter *iter)
{
    if (iter == NULL) {
        return;
    }
    LIST_REMOVE(iter, list);
    SIM_FREE(iter->bitmap->bs->host->arena, BdrvDirtyBitmapIter, iter);
}

int64_t bdrv_dirty_iter_next(BdrvDirtyBitmapIter *iter)
{
    int64_t offset = iter->at_end ? -1 : hbitmap_iter_next(&iter->hbi);
    if (offset >= 0) {
        iter->next_offset = (uint64_t)offset + iter->bitmap->granularity;
    }
    return offset;
}

void bdrv_set_dirty_iter(BdrvDirtyBitmapIter *iter, int64_t offset)
{
    SIM_ASSERT(offset >= 0 && offset < hbitmap_length(iter->bitmap->hbitmap));
    start_at(iter, (uint64_t)offset);
}

void bdrv_dirty_bitmap_repoint_iterators(BdrvDirtyBitmap *bitmap)
{
    BdrvDirtyBitmapIter *iter;
    LIST_FOREACH(iter, &bitmap->iterators, list)
    {
        start_at(iter, iter->next_offset);
    }
}
