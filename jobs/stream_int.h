/*
 * Between the files of the stream; nobody else includes it.
 *
 *     stream.c         start: checks, filter, nodes; const views
 *     stream_run.c     the run function
 *     stream_finish.c  prepare and clean: filter away, new backing file, header
 */
#ifndef JOBS_STREAM_INT_H
#define JOBS_STREAM_INT_H

#include "block/block_int.h"
#include "jobs/stream.h"

typedef struct StreamJob {
    BlockJob common;

    /* fixed at start; the job's edges hold the nodes */
    BlockDriverState *top;    /* no filter */
    BlockDriverState *bottom; /* no filter; may be top: nothing to copy */
    BlockDriverState *filter; /* NULL once it has gone */
    BlockBackend *blk;        /* on the filter */
    enum block_on_error on_error;
    char *backing_file; /* or NULL */
    bool backing_mask_protocol;
    bool was_read_only; /* top */
} StreamJob;

static inline StreamJob *stream_of(const Job *job)
{
    return container_of(job, StreamJob, common.job);
}

int stream_run(Job *job, Error **errp);
int stream_prepare(Job *job);
void stream_clean(Job *job);

#endif
