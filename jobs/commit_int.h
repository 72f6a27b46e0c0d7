/*
 * Between the files of the commit job; nobody else includes it.
 *
 *     commit.c         start, refusal and its undoing, end; const views
 *     commit_run.c     the run function
 *     commit_filter.c  the filter above top
 *     commit_active.c  the active commit, as far as it is no mirror (jobs/mirror_int.h)
 */
#ifndef JOBS_COMMIT_INT_H
#define JOBS_COMMIT_INT_H

#include "block/block_int.h"
#include "jobs/commit.h"

typedef struct CommitJob {
    BlockJob common;

    /* fixed at start, each with a reference until the job lets go */
    BlockDriverState *filter;
    BlockDriverState *top;
    BlockDriverState *base;
    BlockDriverState *base_overlay; /* lowest layer that is copied; between it and base are only filters */
    enum block_on_error on_error;
    char *backing_file;
    bool backing_mask_protocol;
    bool base_read_only; /* it was, before the job */

    BlockBackend *top_blk;
    BlockBackend *base_blk;
    bool frozen;  /* the chain from filter to base is */
    bool dropped; /* the layers are out of the chain */
    int64_t offset;
} CommitJob;

extern const BlockJobDriver commit_job_driver;
extern const BlockDriver bdrv_commit_top;

static inline CommitJob *commit_of(const Job *job)
{
    return (CommitJob *)container_of(job, CommitJob, common.job);
}

/* --- commit.c --- */
/* The lowest image from top down that is no part of base; only filters stand between the two. NULL: top is one of
 * these filters. */
BlockDriverState *commit_base_overlay(BlockDriverState *top, const BlockDriverState *base);
/* Edges of the job on everything from `from` down to just above base. Their content is about to mean nothing, so
 * nobody else may read them; but what filters base shows what base shows. 0 or negative errno with errp. */
int commit_add_layers(BlockJob *job, BlockDriverState *from, BlockDriverState *top, BlockDriverState *base,
                      Error **errp);

/* --- commit_run.c --- */
int commit_run(Job *job, Error **errp);

#endif
