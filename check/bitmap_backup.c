/*
 * bitmap-exact: what becomes of a bitmap when the backup that worked by it fails (reference/jobs.md 5.4).
 */
#include "check/bitmap_model.h"
#include "jobs/backup.h"

static const Job *backup_by(const struct bitmap_model *m)
{
    for (Job *job = job_next(m->host, NULL); job; job = job_next(m->host, job)) {
        if (block_job_is_backup(job) && backup_sync_bitmap(job) == m->bitmap) {
            return job;
        }
    }
    return NULL;
}

/* With always the next backup goes on where this one left off: the job marks these areas right after, one by one.
 */
void bitmap_backup_failed(struct bitmap_model *child, const struct bitmap_model *parent)
{
    const Job *job = backup_by(parent);
    int64_t offset = 0, bytes = 0;

    if (!job || job->ret == 0 || backup_bitmap_mode(job) != BITMAP_SYNC_ALWAYS) {
        return;
    }
    const BdrvDirtyBitmap *left = block_copy_dirty_bitmap((BlockCopyState *)backup_copy_state(job));
    while (offset < child->size &&
           bdrv_dirty_bitmap_next_dirty_area(left, offset, child->size, INT64_MAX, &offset, &bytes)) {
        bitmap_maybe(child, offset, offset + bytes);
        offset += bytes;
    }
}
