/* Dirty bitmaps of a node (reference/bitmaps-qcow2.md 2). */
#include "block/dirty-bitmap_int.h"

#include <errno.h>
#include <string.h>

/* --- life ----------------------------------------------------------------------------------------------- */

static bool name_usable(BlockDriverState *bs, const char *name, Error **errp)
{
    SIM_ASSERT(name[0] != '\0');
    if (bdrv_find_dirty_bitmap(bs, name) != NULL) {
        error_setg(errp, "Bitmap already exists: %s", name);
        return false;
    }
    if (strlen(name) > BDRV_BITMAP_NAME_MAX) {
        error_setg(errp, "Bitmap name too long: %s", name);
        return false;
    }
    return true;
}

BdrvDirtyBitmap *bdrv_create_dirty_bitmap(BlockDriverState *bs, uint32_t granularity, const char *name,
                                          Error **errp)
{
    SIM_ASSERT(is_power_of_2(granularity));
    SIM_ASSERT_LE(512, granularity);
    if (name != NULL && !name_usable(bs, name, errp)) {
        return NULL;
    }
    int64_t size = bdrv_co_getlength(bs);
    if (size < 0) {
        error_setg_errno(errp, (int)-size, "could not get length of device");
        return NULL;
    }
    /* Asking took time: somebody else may have taken the name meanwhile. */
    if (name != NULL && !name_usable(bs, name, errp)) {
        return NULL;
    }
    return bdrv_dirty_bitmap_new(bs, size, granularity, name);
}

BdrvDirtyBitmap *bdrv_dirty_bitmap_new(BlockDriverState *bs, int64_t size_bytes, uint32_t granularity,
                                       const char *name)
{
    struct sim_arena *arena = bs->host->arena;
    BdrvDirtyBitmap *bitmap = SIM_NEW(arena, BdrvDirtyBitmap);
    bitmap->bs = bs;
    bitmap->hbitmap = hbitmap_alloc(arena, size_bytes, __builtin_ctz(granularity));
    bitmap->granularity = granularity;
    bitmap->id = ++bs->host->graph->next_bitmap_id;
    bitmap->name = name != NULL ? sim_strdup(arena, name) : NULL;
    LIST_INSERT_HEAD(&bs->dirty_bitmaps, bitmap, list);
    SIM_EMIT(bs->host->sim, bs->host, bitmap_create, bitmap, SIM_P(bs->name), SIM_P(bitmap->name), bitmap->id,
             granularity);
    return bitmap;
}

void bdrv_release_dirty_bitmap(BdrvDirtyBitmap *bitmap)
{
    BlockDriverState *bs = bitmap->bs;
    struct sim_arena *arena = bs->host->arena;
    SIM_ASSERT(bdrv_dirty_bitmap_may(bitmap, BITMAP_RELEASE));
    SIM_ASSERT(LIST_EMPTY(&bitmap->iterators));
    SIM_ASSERT(!bitmap->loading);
    SIM_EMIT(bs->host->sim, bs->host, bitmap_release, bitmap, SIM_P(bs->name), SIM_P(bitmap->name), bitmap->id);
    LIST_REMOVE(bitmap, list);
    hbitmap_free(bitmap->hbitmap);
    sim_strfree(arena, bitmap->name);
    SIM_FREE(arena, BdrvDirtyBitmap, bitmap);
}

void bdrv_release_named_dirty_bitmaps(BlockDriverState *bs)
{
    BdrvDirtyBitmap *bitmap = LIST_FIRST(&bs->dirty_bitmaps);
    while (bitmap != NULL) {
        BdrvDirtyBitmap *next = LIST_NEXT(bitmap, list);
        if (bitmap->name != NULL) {
            bdrv_release_dirty_bitmap(bitmap);
        }
        bitmap = next;
    }
}

BdrvDirtyBitmap *bdrv_find_dirty_bitmap(BlockDriverState *bs, const char *name)
{
    BdrvDirtyBitmap *bitmap;
    SIM_ASSERT(name != NULL);
    LIST_FOREACH(bitmap, &bs->dirty_bitmaps, list)
    {
        if (bitmap->name != NULL && strcmp(bitmap->name, name) == 0) {
            return bitmap;
        }
    }
    return NULL;
}

BdrvDirtyBitmap *bdrv_dirty_bitmap_next(const BlockDriverState *bs, const BdrvDirtyBitmap *after)
{
    return after == NULL ? LIST_FIRST(&bs->dirty_bitmaps) : LIST_NEXT(after, list);
}

uint32_t bdrv_get_default_bitmap_granularity(BlockDriverState *bs)
{
    BlockDriverInfo info;
    if (bdrv_co_get_info(bs, &info) < 0 || info.cluster_size <= 0) {
        return (uint32_t)(64 * KiB);
    }
    return (uint32_t)MIN(MAX(info.cluster_size, 4 * KiB), 64 * KiB);
}

/* --- looking -------------------------------------------------------------------------------------------- */

const char *bdrv_dirty_bitmap_name(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->name;
}

BlockDriverState *bdrv_dirty_bitmap_node(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->bs;
}

uint64_t bdrv_dirty_bitmap_id(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->id;
}

int64_t bdrv_dirty_bitmap_size(const BdrvDirtyBitmap *bitmap)
{
    return hbitmap_length(bitmap->hbitmap);
}

uint32_t bdrv_dirty_bitmap_granularity(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->granularity;
}

int64_t bdrv_get_dirty_count(const BdrvDirtyBitmap *bitmap)
{
    return hbitmap_count(bitmap->hbitmap);
}

bool bdrv_dirty_bitmap_enabled(const BdrvDirtyBitmap *bitmap)
{
    return !bitmap->disabled;
}

bool bdrv_dirty_bitmap_recording(const BdrvDirtyBitmap *bitmap)
{
    return !bitmap->disabled || (bitmap->successor != NULL && !bitmap->successor->disabled);
}

bool bdrv_dirty_bitmap_busy(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->busy;
}

bool bdrv_dirty_bitmap_readonly(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->readonly;
}

bool bdrv_dirty_bitmap_persistent(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->persistent;
}

bool bdrv_dirty_bitmap_inconsistent(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->inconsistent;
}

bool bdrv_dirty_bitmap_skips_store(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->skip_store;
}

const HBitmap *bdrv_dirty_bitmap_hbitmap(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->hbitmap;
}

bool bdrv_dirty_bitmap_get(const BdrvDirtyBitmap *bitmap, int64_t offset)
{
    return hbitmap_get(bitmap->hbitmap, offset);
}

int64_t bdrv_dirty_bitmap_next_dirty(const BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes)
{
    return hbitmap_next_dirty(bitmap->hbitmap, offset, bytes);
}

int64_t bdrv_dirty_bitmap_next_zero(const BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes)
{
    return hbitmap_next_zero(bitmap->hbitmap, offset, bytes);
}

bool bdrv_dirty_bitmap_next_dirty_area(const BdrvDirtyBitmap *bitmap, int64_t offset, int64_t end,
                                       int64_t max_bytes, int64_t *area_offset, int64_t *area_bytes)
{
    return hbitmap_next_dirty_area(bitmap->hbitmap, offset, end, max_bytes, area_offset, area_bytes);
}

bool bdrv_dirty_bitmap_status(const BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes, int64_t *run)
{
    return hbitmap_status(bitmap->hbitmap, offset, bytes, run);
}

bool bdrv_dirty_bitmap_sha256(const BdrvDirtyBitmap *bitmap, char out[65])
{
    out[0] = '\0';
    if (bdrv_dirty_bitmap_size(bitmap) / bitmap->granularity > (int64_t)1 << 31) {
        return false;
    }
    hbitmap_sha256(bitmap->hbitmap, out);
    return true;
}

/* --- bits ----------------------------------------------------------------------------------------------- */

void bdrv_set_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes)
{
    SIM_ASSERT(!bitmap->readonly);
    SIM_ASSERT(bdrv_dirty_bitmap_may(bitmap, BITMAP_SET));
    hbitmap_set(bitmap->hbitmap, offset, bytes);
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_set, bitmap, SIM_P(bitmap->bs->name), bitmap->id,
             (uint64_t)offset, (uint64_t)bytes);
}

void bdrv_reset_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes)
{
    SIM_ASSERT(!bitmap->readonly);
    SIM_ASSERT(bdrv_dirty_bitmap_may(bitmap, BITMAP_SET));
    hbitmap_reset(bitmap->hbitmap, offset, bytes);
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_reset, bitmap, SIM_P(bitmap->bs->name), bitmap->id,
             (uint64_t)offset, (uint64_t)bytes);
}

void bdrv_clear_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap **backup)
{
    SIM_ASSERT(!bitmap->readonly);
    SIM_ASSERT(bdrv_dirty_bitmap_may(bitmap, BITMAP_CLEAR));
    if (backup != NULL) {
        *backup =
            bdrv_dirty_bitmap_swap(bitmap, hbitmap_alloc(bitmap->bs->host->arena, bdrv_dirty_bitmap_size(bitmap),
                                                         hbitmap_granularity(bitmap->hbitmap)));
    } else {
        hbitmap_reset_all(bitmap->hbitmap);
    }
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_reset, bitmap, SIM_P(bitmap->bs->name), bitmap->id, 0,
             (uint64_t)hbitmap_length(bitmap->hbitmap));
}

void bdrv_dirty_bitmap_set_notify(BdrvDirtyBitmap *bitmap, BdrvDirtyNotify *notify, void *opaque)
{
    SIM_ASSERT(bitmap->name == NULL && bitmap->notify == NULL && notify != NULL);
    bitmap->notify = notify;
    bitmap->notify_opaque = opaque;
}

void bdrv_set_dirty(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    bdrv_set_dirty_via(bs, NULL, offset, bytes);
}

void bdrv_set_dirty_via(BlockDriverState *bs, const BdrvChild *via, int64_t offset, int64_t bytes)
{
    BdrvDirtyBitmap *bitmap;
    LIST_FOREACH(bitmap, &bs->dirty_bitmaps, list)
    {
        if (bitmap->disabled) {
            continue;
        }
        SIM_ASSERT(!bitmap->readonly && bitmap->successor == NULL && !bitmap->inconsistent);
        /* A write past the end that failed has not grown the node: what lies beyond has no bits. */
        int64_t inside = MIN(bytes, hbitmap_length(bitmap->hbitmap) - offset);
        if (inside > 0) {
            hbitmap_set(bitmap->hbitmap, offset, inside);
        }
        if (inside > 0 && bitmap->notify != NULL) {
            bitmap->notify(bitmap->notify_opaque, via, offset, inside);
        }
    }
}

void bdrv_dirty_bitmap_truncate(BlockDriverState *bs, int64_t bytes)
{
    BdrvDirtyBitmap *bitmap;
    LIST_FOREACH(bitmap, &bs->dirty_bitmaps, list)
    {
        if (!bdrv_dirty_bitmap_may(bitmap, BITMAP_TRUNCATE)) {
            bitmap->kept_bytes = MIN(bitmap->kept_bytes, bytes);
            SIM_MARK(bs->host->sim, bitmap_resized_frozen);
            continue;
        }
        bdrv_dirty_bitmap_set_size(bitmap, bytes);
    }
}

HBitmap *bdrv_dirty_bitmap_swap(BdrvDirtyBitmap *bitmap, HBitmap *hbitmap)
{
    HBitmap *old = bitmap->hbitmap;
    SIM_ASSERT(!bitmap->loading);
    SIM_ASSERT_EQ(hbitmap_length(hbitmap), hbitmap_length(old));
    bitmap->hbitmap = hbitmap;
    bdrv_dirty_bitmap_repoint_iterators(bitmap);
    return old;
}

void bdrv_dirty_bitmap_set_size(BdrvDirtyBitmap *bitmap, int64_t bytes)
{
    if (hbitmap_length(bitmap->hbitmap) != bytes) {
        hbitmap_truncate(bitmap->hbitmap, bytes);
        bdrv_dirty_bitmap_repoint_iterators(bitmap);
    }
}

bool bdrv_has_readonly_bitmaps(const BlockDriverState *bs)
{
    const BdrvDirtyBitmap *bitmap;
    LIST_FOREACH(bitmap, &bs->dirty_bitmaps, list)
    {
        if (bitmap->readonly) {
            return true;
        }
    }
    return false;
}
