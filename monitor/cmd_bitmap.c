/*
 * block-dirty-bitmap-* commands (reference/bitmaps-qcow2.md 3).
 */
#include "block/dirty-bitmap.h"
#include "monitor/commands.h"

static const struct qmp_arg add_args[] = {
    {.name = "node", .type = QMP_STR, .doc = "device or node"},
    {.name = "name", .type = QMP_STR, .doc = "name of the bitmap"},
    {.name = "granularity", .type = QMP_SIZE, .optional = true, .doc = "bytes a bit; default: a cluster"},
    {.name = "persistent", .type = QMP_BOOL, .optional = true, .def = "false", .doc = "stored in the image"},
    {.name = "disabled", .type = QMP_BOOL, .optional = true, .def = "false", .doc = "does not record yet"},
    {.name = NULL},
};

static const struct qmp_arg name_args[] = {
    {.name = "node", .type = QMP_STR, .doc = "device or node"},
    {.name = "name", .type = QMP_STR, .doc = "name of the bitmap"},
    {.name = NULL},
};

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

static bool cmd_add(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    const char *name = qmp_arg_str(args, "name", NULL);
    uint32_t granularity;
    BlockDriverState *bs = bdrv_lookup_bs(host, qmp_arg_str(args, "node", NULL), errp);
    if (!bs) {
        return false;
    }
    if (!*name) {
        error_setg(errp, "Bitmap name cannot be empty");
        return false;
    }
    if (!read_granularity(bs, args, &granularity, errp)) {
        return false;
    }
    if (qmp_arg_bool(args, "persistent", false)) {
        /* No driver stores bitmaps. */
        error_setg(errp, "Can't store persistent bitmaps to %s: Operation not supported", bdrv_get_node_name(bs));
        return false;
    }
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(bs, granularity, name, errp);
    if (bitmap && qmp_arg_bool(args, "disabled", false)) {
        bdrv_disable_dirty_bitmap(bitmap);
    }
    return bitmap != NULL;
}

static BdrvDirtyBitmap *lookup(struct host *host, const struct qvalue *args, Error **errp)
{
    const char *node = qmp_arg_str(args, "node", NULL);
    const char *name = qmp_arg_str(args, "name", NULL);
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

/* The bitmap when none of the conditions in flags stands against its use. */
static BdrvDirtyBitmap *usable(struct host *host, const struct qvalue *args, uint32_t flags, Error **errp)
{
    BdrvDirtyBitmap *bitmap = lookup(host, args, errp);
    return bitmap && bdrv_dirty_bitmap_check(bitmap, flags, errp) >= 0 ? bitmap : NULL;
}

static bool cmd_remove(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    BdrvDirtyBitmap *bitmap = usable(host, args, BDRV_BITMAP_BUSY | BDRV_BITMAP_RO, errp);
    if (bitmap) {
        SIM_ASSERT(!bdrv_dirty_bitmap_persistent(bitmap));
        bdrv_release_dirty_bitmap(bitmap);
    }
    return bitmap != NULL;
}

static bool cmd_clear(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    BdrvDirtyBitmap *bitmap = usable(host, args, BDRV_BITMAP_DEFAULT, errp);
    if (bitmap) {
        bdrv_clear_dirty_bitmap(bitmap, NULL);
    }
    return bitmap != NULL;
}

static bool cmd_enable(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    BdrvDirtyBitmap *bitmap = usable(host, args, BDRV_BITMAP_ALLOW_RO, errp);
    if (bitmap) {
        bdrv_enable_dirty_bitmap(bitmap);
    }
    return bitmap != NULL;
}

static bool cmd_disable(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    BdrvDirtyBitmap *bitmap = usable(host, args, BDRV_BITMAP_ALLOW_RO, errp);
    if (bitmap) {
        bdrv_disable_dirty_bitmap(bitmap);
    }
    return bitmap != NULL;
}

static bool cmd_sha256(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    char hash[65];
    const BdrvDirtyBitmap *bitmap = lookup(host, args, errp);
    if (!bitmap) {
        return false;
    }
    if (!bdrv_dirty_bitmap_sha256(bitmap, hash)) {
        error_setg(errp, "Bitmap '%s' is too large to be hashed", bdrv_dirty_bitmap_name(bitmap));
        return false;
    }
    *reply = qvalue_dict();
    qdict_put(*reply, "sha256", qvalue_str(hash));
    return true;
}

const struct qmp_command qmp_bitmap_commands[] = {
    {"block-dirty-bitmap-add", add_args, false, cmd_add, "makes a dirty bitmap, clean", NULL},
    {"block-dirty-bitmap-remove", name_args, false, cmd_remove, "removes a dirty bitmap", NULL},
    {"block-dirty-bitmap-clear", name_args, false, cmd_clear, "forgets what is dirty", NULL},
    {"block-dirty-bitmap-enable", name_args, false, cmd_enable, "records from now on", NULL},
    {"block-dirty-bitmap-disable", name_args, false, cmd_disable, "records no more", NULL},
    {"x-debug-block-dirty-bitmap-sha256", name_args, false, cmd_sha256, "hash of the bits", NULL},
    {.name = NULL},
};
