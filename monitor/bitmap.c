/*
 * Named dirty bitmaps: finding, making, erasing, merging (reference/bitmaps-qcow2.md 3).
 */
#include "monitor/bitmap.h"

const struct qmp_arg qmp_bitmap_add_args[] = {
    {.name = "node", .type = QMP_STR, .doc = "device or node"},
    {.name = "name", .type = QMP_STR, .doc = "name of the bitmap"},
    {.name = "granularity", .type = QMP_SIZE, .optional = true, .doc = "bytes a bit; default: a cluster"},
    {.name = "persistent", .type = QMP_BOOL, .optional = true, .def = "false", .doc = "stored in the image"},
    {.name = "disabled", .type = QMP_BOOL, .optional = true, .def = "false", .doc = "does not record yet"},
    {.name = NULL},
};

const struct qmp_arg qmp_bitmap_name_args[] = {
    {.name = "node", .type = QMP_STR, .doc = "device or node"},
    {.name = "name", .type = QMP_STR, .doc = "name of the bitmap"},
    {.name = NULL},
};

static const struct qmp_arg merge_source = {
    .name = "BlockDirtyBitmapOrStr",
    .type = QMP_ALTERNATE,
    .of = qmp_bitmap_name_args,
    .doc = "name on the target's node, or node and name",
};

const struct qmp_arg qmp_bitmap_merge_args[] = {
    {.name = "node", .type = QMP_STR, .doc = "device or node of the target"},
    {.name = "target", .type = QMP_STR, .doc = "name of the bitmap that takes the bits"},
    {.name = "bitmaps", .type = QMP_LIST, .of = &merge_source, .doc = "names, or {node, name} for other nodes"},
    {.name = NULL},
};

/* --- finding --------------------------------------------------------------------------------------------- */

static BdrvDirtyBitmap *find(struct host *host, const char *node, const char *name, Error **errp)
{
    SIM_ASSERT(node && name);
    BlockDriverState *bs = bdrv_lookup_bs(host, node, NULL);
    if (!bs) {
        error_setg(errp, "Node '%s' not found", node);
        return NULL;
    }
    BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(bs, name);
    if (!bitmap) {
        error_setg(errp, "Dirty bitmap '%s' not found", name);
    }
    return bitmap;
}

BdrvDirtyBitmap *qmp_bitmap_find(struct host *host, const struct qvalue *args, Error **errp)
{
    return find(host, qmp_arg_str(args, "node", NULL), qmp_arg_str(args, "name", NULL), errp);
}

BdrvDirtyBitmap *qmp_bitmap_usable(struct host *host, const struct qvalue *args, uint32_t flags, Error **errp)
{
    BdrvDirtyBitmap *bitmap = qmp_bitmap_find(host, args, errp);
    return bitmap && bdrv_dirty_bitmap_check(bitmap, flags, errp) >= 0 ? bitmap : NULL;
}

/* --- making and erasing ---------------------------------------------------------------------------------- */

static bool read_granularity(BlockDriverState *bs, const struct qvalue *args, uint32_t *granularity, Error **errp)
{
    if (!qdict_get(args, "granularity")) {
        *granularity = bdrv_get_default_bitmap_granularity(bs);
        return true;
    }
    if (!qmp_arg_u32(args, "granularity", granularity, errp)) {
        return false;
    }
    if (*granularity < 512 || !is_power_of_2(*granularity)) {
        error_setg(errp, "Granularity must be power of 2 and at least 512");
        return false;
    }
    return true;
}

BdrvDirtyBitmap *qmp_bitmap_add(struct host *host, const struct qvalue *args, Error **errp)
{
    const char *name = qmp_arg_str(args, "name", NULL);
    bool persistent = qmp_arg_bool(args, "persistent", false);
    uint32_t granularity;
    if (!*name) {
        error_setg(errp, "Bitmap name cannot be empty");
        return NULL;
    }
    BlockDriverState *bs = bdrv_lookup_bs(host, qmp_arg_str(args, "node", NULL), errp);
    if (!bs || !read_granularity(bs, args, &granularity, errp)) {
        return NULL;
    }
    if (persistent && !bdrv_co_can_store_new_dirty_bitmap(bs, name, granularity, errp)) {
        return NULL;
    }
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(bs, granularity, name, errp);
    if (!bitmap) {
        return NULL;
    }
    if (qmp_arg_bool(args, "disabled", false)) {
        bdrv_disable_dirty_bitmap(bitmap);
    }
    if (persistent) {
        bdrv_dirty_bitmap_set_persistence(bitmap, true);
    }
    return bitmap;
}

bool qmp_bitmap_erase(BdrvDirtyBitmap *bitmap, Error **errp)
{
    return !bdrv_dirty_bitmap_persistent(bitmap) ||
           bdrv_co_remove_persistent_dirty_bitmap(bdrv_dirty_bitmap_node(bitmap), bdrv_dirty_bitmap_name(bitmap),
                                                  errp) >= 0;
}

/* --- merging --------------------------------------------------------------------------------------------- */

/* A bare name is one of the target's node. */
static const BdrvDirtyBitmap *find_source(struct host *host, const char *target_node, const struct qvalue *source,
                                          Error **errp)
{
    SIM_ASSERT(source->type == QVALUE_STR || source->type == QVALUE_DICT);
    return source->type == QVALUE_STR ? find(host, target_node, source->str.bytes, errp)
                                      : qmp_bitmap_find(host, source, errp);
}

BdrvDirtyBitmap *qmp_bitmap_merge(struct host *host, const struct qvalue *args, HBitmap **backup, Error **errp)
{
    const char *node = qmp_arg_str(args, "node", NULL);
    const struct qvalue *sources = qdict_get(args, "bitmaps");
    BdrvDirtyBitmap *target = find(host, node, qmp_arg_str(args, "target", NULL), errp);
    *backup = NULL;
    if (!target || bdrv_dirty_bitmap_check(target, BDRV_BITMAP_DEFAULT, errp) < 0) {
        return NULL;
    }
    for (size_t i = 0; i < sources->seq.count; i++) {
        const BdrvDirtyBitmap *source = find_source(host, node, sources->seq.items[i], errp);
        if (!source || !bdrv_merge_dirty_bitmap(target, source, *backup ? NULL : backup, errp)) {
            if (*backup) {
                bdrv_restore_dirty_bitmap(target, *backup);
                *backup = NULL;
            }
            return NULL;
        }
    }
    return target;
}
