/*
 * The commit job: writes what the layers from top down to just above base hold into base, then takes these layers
 * out of the chain (reference/jobs.md 6).
 *
 *     active ---> (commit_top) ---> top ---> ... ---> base           while it runs
 *     active ---------------------------------------> base           after it
 *
 * Only for a top that nobody writes: guest writes land above it, so each chunk is copied once. For the active layer
 * there is the active commit, which is a mirror into base (section 4.9).
 *
 * While the job runs the layers above base, seen from above, stay as they were whatever base holds of them already.
 * Seen from below they do not: nobody may read them for what they were, so the job refuses such users, and is
 * refused where one is.
 */
#ifndef JOBS_COMMIT_H
#define JOBS_COMMIT_H

#include "jobs/blockjob.h"

#define COMMIT_CHUNK_BYTES (512 * KiB)

/* Arguments of block-commit (section 9), defaults applied by the caller. */
struct commit_args {
    const char *job_id;           /* NULL: device name of the active layer */
    const char *filter_node_name; /* NULL: implicit filter */
    const char *backing_file;     /* what overlays' headers are to say; NULL: base's file name */
    bool backing_mask_protocol;   /* a bare protocol is `raw` in headers */
    int64_t speed;
    enum block_on_error on_error;
    bool auto_finalize;
    bool auto_dismiss;
};

/* bs: the active layer; top below it, base below that. 0 or negative errno with errp; a refusal leaves nothing
 * behind. Main coroutine. */
int commit_start(BlockDriverState *bs, BlockDriverState *top, BlockDriverState *base,
                 const struct commit_args *args, Error **errp);

/* Top is written, or is the active layer: a mirror into base, READY, then complete or cancel. backing_file and
 * backing_mask_protocol mean nothing here. A job of this kind is seen through the views of jobs/mirror.h. */
int commit_active_start(BlockDriverState *top, BlockDriverState *base, const struct commit_args *args,
                        Error **errp);
bool block_job_is_active_commit(const Job *job);

/* Const views for checkers and queries. job must be an intermediate commit. */
bool block_job_is_commit(const Job *job);
BlockDriverState *commit_top(const Job *job); /* all NULL once the job has let go */
BlockDriverState *commit_base(const Job *job);
BlockDriverState *commit_filter(const Job *job);
int64_t commit_offset(const Job *job); /* everything before it is done */

#endif
