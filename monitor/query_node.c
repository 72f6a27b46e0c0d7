/*
 * A node as query-block and query-named-block-nodes show it (reference/block.md 9, "Queries").
 */
#include <stdlib.h>
#include <string.h>

#include "block/dirty-bitmap.h"
#include "monitor/commands.h"
#include "vm/guest.h"

static const char *const detect_zeroes_name[] = {
    [BDRV_DETECT_ZEROES_OFF] = "off",
    [BDRV_DETECT_ZEROES_ON] = "on",
    [BDRV_DETECT_ZEROES_UNMAP] = "unmap",
};

/* Bytes that the media below a node have allocated for it; -1 when there is no medium. */
static int64_t allocated_bytes(const BlockDriverState *bs)
{
    if (strcmp(bdrv_driver_name(bs), "disk") == 0) {
        const struct disk *disk = disk_find(bdrv_host(bs)->sim, bdrv_filename(bs));
        return disk ? disk_allocated_bytes(disk) : -1;
    }
    const BlockDriverState *below = bdrv_primary_bs(bs);
    return below ? allocated_bytes(below) : -1;
}

/* What the chain goes on with; filters that jobs put in by themselves are hidden from devices. */
static BlockDriverState *below(BlockDriverState *bs, bool hide_implicit)
{
    BlockDriverState *next = bdrv_filter_or_cow_bs(bs);
    return next && hide_implicit ? bdrv_skip_implicit_filters(next) : next;
}

static unsigned backing_depth(BlockDriverState *bs, bool hide_implicit)
{
    unsigned depth = 0;
    while ((bs = below(bs, hide_implicit))) {
        depth++;
    }
    return depth;
}

static void put_backing_names(struct qvalue *image, const BlockDriverState *bs)
{
    char *full = bdrv_full_backing_filename(bs);
    if (full) {
        qdict_put(image, "backing-filename", qvalue_str(bdrv_backing_filename(bs)));
        qdict_put(image, "full-backing-filename", qvalue_str(full));
    }
    if (bdrv_header_backing_format(bs)) {
        qdict_put(image, "backing-filename-format", qvalue_str(bdrv_header_backing_format(bs)));
    }
    free(full);
}

static struct qvalue *image_info(BlockDriverState *bs, bool flat, bool hide_implicit)
{
    struct qvalue *image = qvalue_dict();
    BlockDriverInfo info = {0};
    BlockDriverState *backing = flat ? NULL : below(bs, hide_implicit);
    int64_t allocated = allocated_bytes(bs);
    qdict_put(image, "filename", qvalue_str(bdrv_filename(bs)));
    qdict_put(image, "format", qvalue_str(bdrv_driver_name(bs)));
    qdict_put(image, "virtual-size", qvalue_int(bdrv_getlength_cached(bs)));
    if (allocated >= 0) {
        qdict_put(image, "actual-size", qvalue_int(allocated));
    }
    if (bdrv_co_get_info(bs, &info) >= 0) {
        if (info.cluster_size) {
            qdict_put(image, "cluster-size", qvalue_int(info.cluster_size));
        }
        qdict_put(image, "dirty-flag", qvalue_bool(info.is_dirty));
    }
    struct qvalue *snapshots = qmp_snapshots_info(bs);
    if (snapshots) {
        qdict_put(image, "snapshots", snapshots);
    }
    put_backing_names(image, bs);
    if (backing) {
        qdict_put(image, "backing-image", image_info(backing, flat, hide_implicit));
    }
    return image;
}

static struct qvalue *bitmap_info(const BdrvDirtyBitmap *bitmap)
{
    struct qvalue *info = qvalue_dict();
    const char *name = bdrv_dirty_bitmap_name(bitmap);
    if (name) {
        qdict_put(info, "name", qvalue_str(name));
    }
    qdict_put(info, "count", qvalue_int(bdrv_get_dirty_count(bitmap)));
    qdict_put(info, "granularity", qvalue_int(bdrv_dirty_bitmap_granularity(bitmap)));
    qdict_put(info, "recording", qvalue_bool(bdrv_dirty_bitmap_recording(bitmap)));
    qdict_put(info, "busy", qvalue_bool(bdrv_dirty_bitmap_busy(bitmap)));
    qdict_put(info, "persistent", qvalue_bool(bdrv_dirty_bitmap_persistent(bitmap)));
    if (bdrv_dirty_bitmap_inconsistent(bitmap)) {
        qdict_put(info, "inconsistent", qvalue_bool(true));
    }
    return info;
}

static void put_bitmaps(struct qvalue *info, const BlockDriverState *bs)
{
    const BdrvDirtyBitmap *bitmap = bdrv_dirty_bitmap_next(bs, NULL);
    if (!bitmap) {
        return;
    }
    struct qvalue *list = qvalue_list();
    for (; bitmap; bitmap = bdrv_dirty_bitmap_next(bs, bitmap)) {
        qlist_append(list, bitmap_info(bitmap));
    }
    qdict_put(info, "dirty-bitmaps", list);
}

static struct qvalue *cache_info(const BlockDriverState *bs, const BlockBackend *blk)
{
    struct qvalue *cache = qvalue_dict();
    uint32_t flags = bdrv_open_flags(bs);
    const struct guest *guest = blk && *blk_name(blk) ? guest_find(bdrv_host(bs), blk_name(blk)) : NULL;
    qdict_put(cache, "writeback", qvalue_bool(!guest || guest_get_config(guest)->write_cache));
    qdict_put(cache, "direct", qvalue_bool(flags & BDRV_O_NOCACHE));
    qdict_put(cache, "no-flush", qvalue_bool(flags & BDRV_O_NO_FLUSH));
    return cache;
}

struct qvalue *qmp_node_info(BlockDriverState *bs, const BlockBackend *blk, bool flat)
{
    struct qvalue *info = qvalue_dict();
    qdict_put(info, "file", qvalue_str(bdrv_filename(bs)));
    qdict_put(info, "node-name", qvalue_str(bdrv_get_node_name(bs)));
    qdict_put(info, "ro", qvalue_bool(bdrv_is_read_only(bs)));
    qdict_put(info, "drv", qvalue_str(bdrv_driver_name(bs)));
    qdict_put(info, "active", qvalue_bool(!bdrv_is_inactive(bs)));
    if (bdrv_backing_filename(bs)) {
        qdict_put(info, "backing_file", qvalue_str(bdrv_backing_filename(bs)));
    }
    qdict_put(info, "backing_file_depth", qvalue_int(backing_depth(bs, blk != NULL)));
    qdict_put(info, "encrypted", qvalue_bool(false));
    qdict_put(info, "cache", cache_info(bs, blk));
    qdict_put(info, "detect_zeroes", qvalue_str(detect_zeroes_name[bdrv_get_detect_zeroes(bs)]));
    qmp_put_throttle(info, blk);
    qdict_put(info, "write_threshold", qvalue_int((int64_t)bdrv_get_write_threshold(bs)));
    put_bitmaps(info, bs);
    qdict_put(info, "image", image_info(bs, flat, blk != NULL));
    return info;
}
