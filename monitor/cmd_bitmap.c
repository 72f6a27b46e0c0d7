/*
 * block-dirty-bitmap-* commands (reference/bitmaps-qcow2.md 3).
 */
#include "monitor/bitmap.h"

static bool cmd_add(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return qmp_bitmap_add(host, args, errp) != NULL;
}

static bool cmd_remove(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    BdrvDirtyBitmap *bitmap = qmp_bitmap_usable(host, args, BDRV_BITMAP_BUSY | BDRV_BITMAP_RO, errp);
    if (!bitmap || !qmp_bitmap_erase(bitmap, errp)) {
        return false;
    }
    bdrv_release_dirty_bitmap(bitmap);
    return true;
}

static bool cmd_clear(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    BdrvDirtyBitmap *bitmap = qmp_bitmap_usable(host, args, BDRV_BITMAP_DEFAULT, errp);
    if (bitmap) {
        bdrv_clear_dirty_bitmap(bitmap, NULL);
    }
    return bitmap != NULL;
}

static bool cmd_enable(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    BdrvDirtyBitmap *bitmap = qmp_bitmap_usable(host, args, BDRV_BITMAP_ALLOW_RO, errp);
    if (bitmap) {
        bdrv_enable_dirty_bitmap(bitmap);
    }
    return bitmap != NULL;
}

static bool cmd_disable(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    BdrvDirtyBitmap *bitmap = qmp_bitmap_usable(host, args, BDRV_BITMAP_ALLOW_RO, errp);
    if (bitmap) {
        bdrv_disable_dirty_bitmap(bitmap);
    }
    return bitmap != NULL;
}

static bool cmd_merge(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    HBitmap *backup;
    const BdrvDirtyBitmap *target = qmp_bitmap_merge(host, args, &backup, errp);
    hbitmap_free(backup);
    return target != NULL;
}

static bool cmd_sha256(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    char hash[65];
    const BdrvDirtyBitmap *bitmap = qmp_bitmap_find(host, args, errp);
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
    {"block-dirty-bitmap-add", qmp_bitmap_add_args, false, cmd_add, "makes a dirty bitmap, clean", NULL},
    {"block-dirty-bitmap-remove", qmp_bitmap_name_args, false, cmd_remove, "removes a dirty bitmap", NULL},
    {"block-dirty-bitmap-clear", qmp_bitmap_name_args, false, cmd_clear, "forgets what is dirty", NULL},
    {"block-dirty-bitmap-enable", qmp_bitmap_name_args, false, cmd_enable, "records from now on", NULL},
    {"block-dirty-bitmap-disable", qmp_bitmap_name_args, false, cmd_disable, "records no more", NULL},
    {"block-dirty-bitmap-merge", qmp_bitmap_merge_args, false, cmd_merge, "adds the bits of other bitmaps", NULL},
    {"x-debug-block-dirty-bitmap-sha256", qmp_bitmap_name_args, false, cmd_sha256, "hash of the bits", NULL},
    {.name = NULL},
};
