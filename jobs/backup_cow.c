/* Readers that need old content to stay where they looked for it, and checkpoints of a backup with sync=none
 * (reference/jobs.md 5.9) [seed a8bbee0]. */
#include "jobs/backup_int.h"

static BackupJob *backup_alive(BlockJob *job)
{
    BackupJob *s = backup_of(&job->job);

    SIM_ASSERT(s->copy != NULL);
    return s;
}

void backup_wait_for_overlapping_requests(BlockJob *job, int64_t sector_num, int64_t nb_sectors)
{
    BackupJob *s = backup_alive(job);

    SIM_ASSERT(sector_num >= 0 && nb_sectors > 0);
    block_copy_wait_overlapping(s->copy, sector_num * SIM_SECTOR_BYTES, nb_sectors * SIM_SECTOR_BYTES);
}

void backup_cow_request_begin(CowRequest *req, BlockJob *job, int64_t sector_num, int64_t nb_sectors)
{
    BackupJob *s = backup_alive(job);

    SIM_ASSERT(sector_num >= 0 && nb_sectors > 0);
    block_copy_hold_begin(&req->hold, s->copy, sector_num * SIM_SECTOR_BYTES, nb_sectors * SIM_SECTOR_BYTES);
}

void backup_cow_request_end(CowRequest *req)
{
    block_copy_hold_end(&req->hold);
}

void backup_do_checkpoint(BlockJob *job, Error **errp)
{
    BackupJob *s = backup_alive(job);

    if (s->sync != MIRROR_SYNC_NONE) {
        error_setg(errp, "The backup job only supports block checkpoint in sync=none mode");
        return;
    }
    block_copy_set_all_dirty(s->copy);
    backup_update_remaining(s);
}
