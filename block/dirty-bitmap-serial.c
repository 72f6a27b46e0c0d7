/* The bits of a dirty bitmap as bytes, for images and streams (reference/bitmaps-qcow2.md 1.6). */
#include "block/dirty-bitmap_int.h"

int64_t bdrv_dirty_bitmap_serialization_align(const BdrvDirtyBitmap *bitmap)
{
    return (int64_t)hbitmap_serialization_align(bitmap->hbitmap);
}

int64_t bdrv_dirty_bitmap_serialization_size(const BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes)
{
    return hbitmap_serialization_size(bitmap->hbitmap, offset, bytes);
}

void bdrv_dirty_bitmap_serialize_part(const BdrvDirtyBitmap *bitmap, uint8_t *buf, int64_t offset, int64_t bytes)
{
    SIM_ASSERT(!bitmap->loading);
    hbitmap_serialize_part(bitmap->hbitmap, buf, offset, bytes);
}

static void load_begin(BdrvDirtyBitmap *bitmap)
{
    SIM_ASSERT(bdrv_dirty_bitmap_may(bitmap, BITMAP_LOAD));
    SIM_ASSERT(!bitmap->readonly);
    SIM_ASSERT(LIST_EMPTY(&bitmap->iterators));
    bitmap->loading = true;
}

static void load_end(BdrvDirtyBitmap *bitmap, bool finish)
{
    if (finish) {
        bdrv_dirty_bitmap_deserialize_finish(bitmap);
    }
}

void bdrv_dirty_bitmap_deserialize_part(BdrvDirtyBitmap *bitmap, const uint8_t *buf, int64_t offset, int64_t bytes,
                                        bool finish)
{
    load_begin(bitmap);
    hbitmap_deserialize_part(bitmap->hbitmap, buf, offset, bytes);
    load_end(bitmap, finish);
}

void bdrv_dirty_bitmap_deserialize_zeroes(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes, bool finish)
{
    load_begin(bitmap);
    hbitmap_deserialize_zeroes(bitmap->hbitmap, offset, bytes);
    load_end(bitmap, finish);
}

void bdrv_dirty_bitmap_deserialize_ones(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes, bool finish)
{
    load_begin(bitmap);
    hbitmap_deserialize_ones(bitmap->hbitmap, offset, bytes);
    load_end(bitmap, finish);
}

void bdrv_dirty_bitmap_deserialize_finish(BdrvDirtyBitmap *bitmap)
{
    SIM_ASSERT(bitmap->loading);
    bitmap->loading = false;
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_load, bitmap, SIM_P(bitmap->bs->name), bitmap->id);
}
