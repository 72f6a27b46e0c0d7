/*
 * The backup job: the target ends as the source was when the command or its transaction took effect
 * (reference/jobs.md 5).
 *
 * A copy-before-write filter goes above the source, inside a drain, and saves each old cluster before the guest
 * overwrites it; a background call of the same engine copies the rest once. A bitmap may choose what is copied, and
 * is driven through its successor.
 */
#ifndef JOBS_BACKUP_H
#define JOBS_BACKUP_H

#include "block/copy-before-write.h"
#include "jobs/blockjob.h"
#include "jobs/mirror.h"

enum bitmap_sync_mode { BITMAP_SYNC_ON_SUCCESS, BITMAP_SYNC_NEVER, BITMAP_SYNC_ALWAYS };

struct backup_perf {
    bool use_copy_range;
    int64_t max_workers;      /* 1 to INT_MAX; default BLOCK_COPY_MAX_WORKERS */
    int64_t max_chunk;        /* bytes; 0: no limit, else at least a cluster */
    int64_t min_cluster_size; /* bytes; 0: no wish */
};

/* Arguments of blockdev-backup (section 9), defaults applied by the caller. */
struct backup_args {
    const char *job_id;           /* NULL: device name */
    const char *filter_node_name; /* NULL: implicit filter */
    enum mirror_sync sync;        /* full, top, none, incremental, bitmap */
    const char *bitmap;           /* of the source; NULL: none */
    bool has_bitmap_mode;
    enum bitmap_sync_mode bitmap_mode;
    bool compress;
    bool discard_source;
    struct backup_perf perf;
    int64_t speed;
    enum block_on_error on_source_error;
    enum block_on_error on_target_error;
    unsigned flags;                    /* JOB_* */
    JobTxn *txn;                       /* NULL: one of its own */
    void (*cb)(void *opaque, int ret); /* for internal users (replication); NULL: none */
    void *cb_opaque;
};

/* Checks in the order of 5.2 and 5.3, inserts the filter, creates the job; the caller has drained the source and
 * calls job_start (a transaction does so when it commits). NULL with errp; nothing is left behind by a refusal.
 * Main coroutine. */
BlockJob *backup_job_create(BlockDriverState *source, BlockDriverState *target, const struct backup_args *args,
                            Error **errp);

/* --- readers that need old content (5.9) [seed a8bbee0] --------------------------------------------------------
 */

typedef struct CowRequest {
    struct block_copy_hold hold;
} CowRequest;

/* Sectors of 512 bytes; the interval is rounded out to clusters. Coroutine. */
void backup_wait_for_overlapping_requests(BlockJob *job, int64_t sector_num, int64_t nb_sectors);
void backup_cow_request_begin(CowRequest *req, BlockJob *job, int64_t sector_num, int64_t nb_sectors);
void backup_cow_request_end(CowRequest *req);
/* "The backup job only supports block checkpoint in sync=none mode"; else every cluster counts as not copied. */
void backup_do_checkpoint(BlockJob *job, Error **errp);

/* --- const views, for checkers and queries. job must be a backup. ----------------------------------------------
 */

bool block_job_is_backup(const Job *job);
BlockDriverState *backup_source(const Job *job); /* all NULL once the job has let go */
BlockDriverState *backup_target(const Job *job);
BlockDriverState *backup_filter(const Job *job);
const BlockCopyState *backup_copy_state(const Job *job);
const BdrvDirtyBitmap *backup_sync_bitmap(const Job *job); /* NULL: none */
enum mirror_sync backup_sync_mode(const Job *job);
enum bitmap_sync_mode backup_bitmap_mode(const Job *job);
/* It ignores errors, was refused without any time passing, and waits a while before it asks again: idle. */
bool backup_refused_at_once(const Job *job);

#endif
