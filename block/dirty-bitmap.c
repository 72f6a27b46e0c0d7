/* Dirty bitmaps of a node (reference/bitmaps-qcow2.md 2). */
#include "block/dirty-bitmap_int.h"

#include <errno.h>
#include <string.h>

struct BdrvDirtyBitmapIter {
    BdrvDirtyBitmap *bitmap;
    HBitmapIter hbi;
};

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

static bool is_in_use(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->busy || bitmap->successor != NULL || bitmap->active_iterators > 0;
}

void bdrv_release_dirty_bitmap(BdrvDirtyBitmap *bitmap)
{
    BlockDriverState *bs = bitmap->bs;
    struct sim_arena *arena = bs->host->arena;
    SIM_ASSERT(!bitmap->busy);
    SIM_ASSERT(bitmap->successor == NULL);
    SIM_ASSERT_EQ(bitmap->active_iterators, 0);
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

bool bdrv_dirty_bitmap_sha256(const BdrvDirtyBitmap *bitmap, char out[65])
{
    out[0] = '\0';
    if (bdrv_dirty_bitmap_size(bitmap) / bitmap->granularity > (int64_t)1 << 31) {
        return false;
    }
    hbitmap_sha256(bitmap->hbitmap, out);
    return true;
}

/* --- state ---------------------------------------------------------------------------------------------- */

static const char *shown_name(const BdrvDirtyBitmap *bitmap)
{
    return bitmap->name != NULL ? bitmap->name : "";
}

int bdrv_dirty_bitmap_check(const BdrvDirtyBitmap *bitmap, uint32_t flags, Error **errp)
{
    if ((flags & BDRV_BITMAP_BUSY) && bitmap->busy) {
        error_setg(errp, "Bitmap '%s' is currently in use by another operation and cannot be used",
                   shown_name(bitmap));
        return -EBUSY;
    }
    if ((flags & BDRV_BITMAP_RO) && bitmap->readonly) {
        error_setg(errp, "Bitmap '%s' is readonly and cannot be modified", shown_name(bitmap));
        return -EPERM;
    }
    if ((flags & BDRV_BITMAP_INCONSISTENT) && bitmap->inconsistent) {
        error_setg(errp, "Bitmap '%s' is inconsistent and cannot be used", shown_name(bitmap));
        return -EINVAL;
    }
    return 0;
}

static void set_disabled(BdrvDirtyBitmap *bitmap, bool disabled)
{
    bitmap->disabled = disabled;
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_enable, bitmap, SIM_P(bitmap->bs->name), bitmap->id,
             !disabled);
}

void bdrv_enable_dirty_bitmap(BdrvDirtyBitmap *bitmap)
{
    SIM_ASSERT(!bitmap->inconsistent);
    set_disabled(bitmap, false);
}

void bdrv_disable_dirty_bitmap(BdrvDirtyBitmap *bitmap)
{
    set_disabled(bitmap, true);
}

void bdrv_dirty_bitmap_set_busy(BdrvDirtyBitmap *bitmap, bool busy)
{
    bitmap->busy = busy;
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_busy, bitmap, SIM_P(bitmap->bs->name), bitmap->id,
             busy);
}

static void set_flag(BdrvDirtyBitmap *bitmap, bool *flag, const char *name, bool value)
{
    *flag = value;
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_flag, bitmap, SIM_P(bitmap->bs->name), bitmap->id,
             SIM_P(name), value);
}

void bdrv_dirty_bitmap_set_readonly(BdrvDirtyBitmap *bitmap, bool readonly)
{
    set_flag(bitmap, &bitmap->readonly, "readonly", readonly);
}

void bdrv_dirty_bitmap_set_persistence(BdrvDirtyBitmap *bitmap, bool persistent)
{
    set_flag(bitmap, &bitmap->persistent, "persistent", persistent);
}

void bdrv_dirty_bitmap_skip_store(BdrvDirtyBitmap *bitmap, bool skip)
{
    set_flag(bitmap, &bitmap->skip_store, "skip-store", skip);
}

void bdrv_dirty_bitmap_set_inconsistent(BdrvDirtyBitmap *bitmap)
{
    SIM_ASSERT(bitmap->persistent);
    SIM_ASSERT(bitmap->successor == NULL);
    bitmap->disabled = true;
    set_flag(bitmap, &bitmap->inconsistent, "inconsistent", true);
}

/* --- bits ----------------------------------------------------------------------------------------------- */

void bdrv_set_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes)
{
    SIM_ASSERT(!bitmap->readonly);
    hbitmap_set(bitmap->hbitmap, offset, bytes);
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_set, bitmap, SIM_P(bitmap->bs->name), bitmap->id,
             (uint64_t)offset, (uint64_t)bytes);
}

void bdrv_reset_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes)
{
    SIM_ASSERT(!bitmap->readonly);
    hbitmap_reset(bitmap->hbitmap, offset, bytes);
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_reset, bitmap, SIM_P(bitmap->bs->name), bitmap->id,
             (uint64_t)offset, (uint64_t)bytes);
}

void bdrv_clear_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap **backup)
{
    SIM_ASSERT(!bitmap->readonly);
    if (backup != NULL) {
        *backup = bitmap->hbitmap;
        bitmap->hbitmap =
            hbitmap_alloc(bitmap->bs->host->arena, hbitmap_length(*backup), hbitmap_granularity(*backup));
    } else {
        hbitmap_reset_all(bitmap->hbitmap);
    }
    SIM_EMIT(bitmap->bs->host->sim, bitmap->bs->host, bitmap_reset, bitmap, SIM_P(bitmap->bs->name), bitmap->id, 0,
             (uint64_t)hbitmap_length(bitmap->hbitmap));
}

void bdrv_set_dirty(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    BdrvDirtyBitmap *bitmap;
    LIST_FOREACH(bitmap, &bs->dirty_bitmaps, list)
    {
        if (bitmap->disabled) {
            continue;
        }
        SIM_ASSERT(!bitmap->readonly);
        /* A write past the end that failed has not grown the node: what lies beyond has no bits. */
        int64_t inside = MIN(bytes, hbitmap_length(bitmap->hbitmap) - offset);
        if (inside > 0) {
            hbitmap_set(bitmap->hbitmap, offset, inside);
        }
    }
}

void bdrv_dirty_bitmap_truncate(BlockDriverState *bs, int64_t bytes)
{
    BdrvDirtyBitmap *bitmap;
    LIST_FOREACH(bitmap, &bs->dirty_bitmaps, list)
    {
        if (hbitmap_length(bitmap->hbitmap) == bytes) {
            continue;
        }
        SIM_ASSERT(!is_in_use(bitmap));
        hbitmap_truncate(bitmap->hbitmap, bytes);
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

/* --- iterators ------------------------------------------------------------------------------------------ */

BdrvDirtyBitmapIter *bdrv_dirty_iter_new(BdrvDirtyBitmap *bitmap)
{
    BdrvDirtyBitmapIter *iter = SIM_NEW(bitmap->bs->host->arena, BdrvDirtyBitmapIter);
    iter->bitmap = bitmap;
    hbitmap_iter_init(&iter->hbi, bitmap->hbitmap, 0);
    bitmap->active_iterators++;
    return iter;
}

void bdrv_dirty_iter_free(BdrvDirtyBitmapIter *iter)
{
    if (iter == NULL) {
        return;
    }
    SIM_ASSERT(iter->bitmap->active_iterators > 0);
    iter->bitmap->active_iterators--;
    SIM_FREE(iter->bitmap->bs->host->arena, BdrvDirtyBitmapIter, iter);
}

int64_t bdrv_dirty_iter_next(BdrvDirtyBitmapIter *iter)
{
    return hbitmap_iter_next(&iter->hbi);
}

void bdrv_set_dirty_iter(BdrvDirtyBitmapIter *iter, int64_t offset)
{
    hbitmap_iter_init(&iter->hbi, iter->bitmap->hbitmap, offset);
}
