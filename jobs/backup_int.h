/*
 * Between the files of the backup; nobody else includes it.
 *
 *     backup.c         start: checks, filter, job; the job's end; const views
 *     backup_bitmap.c  the bitmap's part: arguments, successor, and what becomes of it
 *     backup_run.c     the run function: what is left out, copy calls and their errors
 *     backup_cow.c     readers that need old content, checkpoints
 *     backup_drive.c   the target of drive-backup
 *
 * The engine and its bitmap of clusters are the filter's (block/block-copy.h): guests' writes copy by it, too. The
 * job's own part is one call over the disk at a time, cancelled by a pause, made anew afterwards and after errors.
 *
 *     call: none -> at work -> finished   seen by the job's coroutine alone, which frees it
 *                      | pause, cancel: no further tasks
 *                      +-> finished, cancelled
 */
#ifndef JOBS_BACKUP_INT_H
#define JOBS_BACKUP_INT_H

#include "block/block_int.h"
#include "jobs/backup.h"

typedef struct BackupJob {
    BlockJob common;

    /* NULL once the job has let go */
    BlockDriverState *filter;
    BlockDriverState *source;
    BlockDriverState *target;
    BlockDriverState *held[BDRV_MAX_DEPTH]; /* sync=top: source and the filters below it down to an image, no
                                             * overlay comes between; one reference each */
    unsigned held_count;
    BlockCopyState *copy;         /* the filter's */
    BdrvDirtyBitmap *sync_bitmap; /* frozen; NULL: none */

    enum mirror_sync sync;
    enum bitmap_sync_mode bitmap_mode;
    enum block_on_error on_source_error;
    enum block_on_error on_target_error;
    struct backup_perf perf;
    int64_t length;

    bool refused_at_once;     /* waits to ask again, in vain perhaps for ever */
    BlockCopyCallState *call; /* NULL: none at work */
    CoQueue call_over;        /* the job's coroutine, while it waits and may not be entered */
} BackupJob;

extern const BlockJobDriver backup_job_driver;

static inline BackupJob *backup_of(const Job *job)
{
    SIM_ASSERT(job->driver == &backup_job_driver.job_driver);
    return (BackupJob *)container_of(job, BackupJob, common.job);
}

/* What is left is what the engine still has to copy (1.7). */
void backup_update_remaining(BackupJob *s);

/* --- backup_bitmap.c --- */

/* The checks of 5.3, in its order. *args is the caller's copy: incremental implies on-success. *bitmap: the one
 * that is named, or NULL. */
bool backup_check_bitmap(BlockDriverState *source, struct backup_args *args, BdrvDirtyBitmap **bitmap,
                         Error **errp);
/* Only a bitmap's areas are copied, by guests' writes too. */
bool backup_follows_bitmap(enum mirror_sync sync);
/* Decides what the bitmap is from now on (5.4). */
void backup_settle_bitmap(BackupJob *s, bool success);

/* --- backup_run.c --- */

int backup_run(Job *job, Error **errp);
void backup_pause(Job *job);
void backup_set_speed(BlockJob *job, int64_t speed);

#endif
