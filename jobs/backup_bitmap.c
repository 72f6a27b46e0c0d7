/* The bitmap that a backup works by: which arguments go together, and what it is after the job (reference/jobs.md
 * 5.3, 5.4). */
#include "jobs/backup_int.h"

/* --- arguments (5.3) ------------------------------------------------------------------------------------ */

bool backup_follows_bitmap(enum mirror_sync sync)
{
    return sync == MIRROR_SYNC_BITMAP || sync == MIRROR_SYNC_INCREMENTAL;
}

static bool check_sync(struct backup_args *args, Error **errp)
{
    if (backup_follows_bitmap(args->sync) && args->bitmap == NULL) {
        error_setg(errp, "must provide a valid bitmap name for '%s' sync mode", mirror_sync_name(args->sync));
        return false;
    }
    if (args->sync != MIRROR_SYNC_INCREMENTAL) {
        return true;
    }
    if (args->has_bitmap_mode && args->bitmap_mode != BITMAP_SYNC_ON_SUCCESS) {
        error_setg(errp, "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'");
        return false;
    }
    args->has_bitmap_mode = true;
    args->bitmap_mode = BITMAP_SYNC_ON_SUCCESS;
    return true;
}

/* What a bitmap that exists can be used for. */
static bool check_use(const BdrvDirtyBitmap *bitmap, const struct backup_args *args, Error **errp)
{
    bool changes = args->bitmap_mode != BITMAP_SYNC_NEVER;

    if (!args->has_bitmap_mode) {
        error_setg(errp, "Bitmap sync mode must be given when providing a bitmap");
        return false;
    }
    if (bdrv_dirty_bitmap_check(bitmap, changes ? BDRV_BITMAP_DEFAULT : BDRV_BITMAP_ALLOW_RO, errp) < 0) {
        return false;
    }
    if (args->sync == MIRROR_SYNC_NONE) {
        error_setg(errp, "sync mode '%s' does not produce meaningful bitmap outputs", mirror_sync_name(args->sync));
        return false;
    }
    if (!changes && !backup_follows_bitmap(args->sync)) {
        error_setg(errp, "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode '%s'",
                   mirror_sync_name(args->sync));
        return false;
    }
    return true;
}

bool backup_check_bitmap(BlockDriverState *source, struct backup_args *args, BdrvDirtyBitmap **bitmap, Error **errp)
{
    *bitmap = NULL;
    if (!check_sync(args, errp)) {
        return false;
    }
    if (args->bitmap == NULL) {
        if (args->has_bitmap_mode) {
            error_setg(errp, "Cannot specify bitmap sync mode without a bitmap");
        }
        return !args->has_bitmap_mode;
    }
    *bitmap = bdrv_find_dirty_bitmap(source, args->bitmap);
    if (*bitmap == NULL) {
        error_setg(errp, "Bitmap '%s' could not be found", args->bitmap);
        return false;
    }
    return check_use(*bitmap, args, errp);
}

/* --- the end (5.4) -------------------------------------------------------------------------------------- */

static void add_uncopied(const BackupJob *s, BdrvDirtyBitmap *bitmap)
{
    const BdrvDirtyBitmap *clusters = block_copy_dirty_bitmap(s->copy);
    int64_t end = MIN(bdrv_dirty_bitmap_size(clusters), bdrv_dirty_bitmap_size(bitmap));
    int64_t offset = 0, bytes = 0;

    SIM_ASSERT(block_copy_tasks(s->copy) == 0);
    while (bdrv_dirty_bitmap_next_dirty_area(clusters, offset, end, INT64_MAX, &offset, &bytes)) {
        bdrv_set_dirty_bitmap(bitmap, offset, bytes);
        offset += bytes;
    }
}

void backup_settle_bitmap(BackupJob *s, bool success)
{
    const Job *job = &s->common.job;
    BdrvDirtyBitmap *bitmap = s->sync_bitmap;
    bool renew = success ? s->bitmap_mode != BITMAP_SYNC_NEVER : s->bitmap_mode == BITMAP_SYNC_ALWAYS;

    if (bitmap == NULL) {
        return;
    }
    /* A transaction that was undone has changed nothing: what the bitmap said is said again. */
    renew = renew && job->started;
    bitmap = renew ? bdrv_dirty_bitmap_abdicate(bitmap, NULL) : bdrv_reclaim_dirty_bitmap(bitmap, NULL);
    SIM_ASSERT(bitmap != NULL);
    s->sync_bitmap = NULL;
    if (renew && !success) {
        SIM_MARK(job->host->sim, backup_uncopied);
        add_uncopied(s, bitmap);
    }
}
