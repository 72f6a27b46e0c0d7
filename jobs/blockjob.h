/*
 * Block jobs: jobs over nodes, with speed, error policy and the BLOCK_JOB_* events (reference/jobs.md 1 to 3, 9).
 *
 * A block job holds edges ("job" parents) on its nodes: while a node is drained the job is paused, and it answers
 * the drain's poll. Its edges stay when a node is replaced. All op blockers are set on every node it registers.
 */
#ifndef JOBS_BLOCKJOB_H
#define JOBS_BLOCKJOB_H

#include "block/backend.h"
#include "jobs/job.h"
#include "block/ratelimit.h"

typedef struct BlockJob BlockJob;

typedef struct BlockJobDriver {
    JobDriver job_driver;
    /* Overrides "busy" in a drain's poll; called only while the job has not completed. */
    bool (*drained_poll)(BlockJob *job);
    void (*set_speed)(BlockJob *job, int64_t speed);
    /* block-job-change: NULL: "Job type does not support change". */
    void (*change)(BlockJob *job, const char *copy_mode, Error **errp);
    /* Adds the job's own fields to its query-block-jobs entry. */
    void (*query)(const BlockJob *job, struct qvalue *entry);
} BlockJobDriver;

typedef struct BlockJobNode {
    BdrvChild *child;
    struct BlockJobNode *next;
} BlockJobNode;

struct BlockJob {
    Job job;
    const struct sim_name *device; /* = the job's ID in events; NULL for internal jobs */
    int64_t speed;
    RateLimit limit;
    enum block_io_status iostatus;
    BlockJobNode *nodes; /* newest first */
    Error *blocker;      /* "block device is in use by block job: TYPE" */
};

/* Takes an edge on bs with perm/shared. job_id NULL: the name of bs's backend, else "Invalid job ID ''". flags:
 * JOB_*. NULL with errp. The instance is zeroed beyond BlockJob. */
BlockJob *block_job_create(const char *job_id, const BlockJobDriver *driver, JobTxn *txn, BlockDriverState *bs,
                           uint64_t perm, uint64_t shared, int64_t speed, unsigned flags,
                           void (*cb)(void *opaque, int ret), void *cb_opaque, Error **errp);
/* Registers one more node: edge, op blockers. 0 or negative errno with errp. */
int block_job_add_bdrv(BlockJob *job, const char *name, BlockDriverState *bs, uint64_t perm, uint64_t shared,
                       Error **errp);
/* Lets go of one of its nodes: edge and op blockers. */
void block_job_remove_bdrv(BlockJob *job, BlockDriverState *bs);
void block_job_remove_all_bdrv(BlockJob *job);
const BlockJobDriver *block_job_driver(const BlockJob *job);
/* NULL when the job is no block job. */
BlockJob *block_job_of(Job *job);
/* By ID; class DeviceNotActive "Block job 'X' not found". */
BlockJob *block_job_find_err(struct host *host, const char *id, Error **errp);

/* "Parameter 'speed' expects a non-negative value"; verb check. Kicks a sleeper only for 0 or a higher speed (3).
 */
bool block_job_set_speed(BlockJob *job, int64_t speed, Error **errp);
/* Charges bytes issued now; the delay is taken by block_job_rate_sleep. */
void block_job_charge(BlockJob *job, uint64_t bytes);
void block_job_rate_sleep(BlockJob *job);
/* Would sleep now? */
int64_t block_job_rate_delay(BlockJob *job);
/* Sends BLOCK_JOB_ERROR, applies stop (user pause, io-status). error: positive errno. */
enum block_error_action block_job_error_action(BlockJob *job, enum block_on_error on_error, bool is_read,
                                               int error);
void block_job_iostatus_reset(BlockJob *job);
void block_job_change(BlockJob *job, enum job_type type, const char *copy_mode, Error **errp);
/* block-job-cancel's own refusal: "The block job for device 'X' is currently paused". */
void block_job_user_cancel(BlockJob *job, bool force, Error **errp);
/* Entries of query-jobs and query-block-jobs (1.9); the caller owns them. */
struct qvalue *job_query(const Job *job);
struct qvalue *block_job_query(const BlockJob *job);

#endif
