/*
 * The stream job: copies what a node has in its backing files into the node itself, then cuts the files out that
 * are no longer needed (reference/jobs.md 7).
 *
 *     filter -> top -> middle -> bottom -> base         during the job; copied: middle, bottom
 *     top -> base                                       after it
 *
 * A copy-on-read filter goes above `top` and freezes the links down to `bottom`; the job prefetches through it. The
 * link from bottom to base is nobody's: a commit may take base away meanwhile, and what is below bottom at the end
 * becomes the new backing file. Without base, everything is copied and top stands alone.
 */
#ifndef JOBS_STREAM_H
#define JOBS_STREAM_H

#include "jobs/blockjob.h"

#define STREAM_CHUNK (512 * KiB)

/* Arguments of block-stream (section 9), defaults applied by the caller. */
struct stream_args {
    const char *job_id;           /* NULL: device name */
    const char *filter_node_name; /* NULL: implicit filter */
    BlockDriverState *base;       /* below the last that is copied; NULL: none. At most one of base and bottom */
    BlockDriverState *bottom;     /* the last that is copied, not a filter; NULL: by base */
    const char *backing_file;     /* for the header; NULL: the new backing file's own name */
    bool backing_mask_protocol;   /* the header calls a bare protocol raw */
    int64_t speed;
    enum block_on_error on_error;
    bool auto_finalize;
    bool auto_dismiss;
};

/* bs: the node that is filled, or filters above it. 0 or negative errno with errp; nothing is left behind by a
 * refusal. Main coroutine. */
int stream_start(BlockDriverState *bs, const struct stream_args *args, Error **errp);

/* Const views for checkers and queries. job must be a stream. */
bool block_job_is_stream(const Job *job);
BlockDriverState *stream_top(const Job *job); /* what is filled: no filter */
BlockDriverState *stream_bottom(const Job *job);
BlockDriverState *stream_filter(const Job *job); /* NULL once it has gone */

#endif
