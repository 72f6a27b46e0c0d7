/*
 * Between the files of the mirror; nobody else includes it.
 *
 *     mirror.c         start: checks, filter, job; const views
 *     mirror_run.c     the run function: set-up, population, main loop
 *     mirror_iter.c    one iteration: what is copied next, in which pieces
 *     mirror_op.c      operations, in-flight map, buffer accounting
 *     mirror_filter.c  the filter above the source
 *     mirror_finish.c  ready, final drain, prepare and abort, switch
 *     commit_active.c  what differs when the target is below the source
 *
 * Every chunk of the disk is, at any moment, clean, dirty, or in flight (and perhaps dirty again). It leaves
 * "dirty" and enters "in flight" in one step without a wait between, and a failed one goes back before anybody is
 * woken:
 *
 *               guest write                 iteration: bit cleared, range registered
 *     clean ------------------> dirty ---------------------------------------> in flight
 *       ^                         ^                                              |  |
 *       |                         +------------- failed (policy comes after) ----+  |
 *       +--------------------------------------- copied ----------------------------+
 *
 * The bitmap lives on the source, below the filter, and records from before the filter's insertion: a write that
 * passes the filter, was in flight across its insertion, or reaches the source by another edge leaves its bit when
 * the source's driver is done with it, before its submitter knows (4.2, 4.6).
 *
 * Data travels by reference, so there is no buffer; the chunks of it that an operation would hold are counted.
 */
#ifndef JOBS_MIRROR_INT_H
#define JOBS_MIRROR_INT_H

#include <sys/queue.h>

#include "block/block_int.h"
#include "jobs/mirror.h"

#define MIRROR_MIN_OP_CAP MiB

typedef struct MirrorJob MirrorJob;
typedef struct MirrorOp MirrorOp;

enum mirror_method {
    MIRROR_METHOD_COPY,
    MIRROR_METHOD_ZERO,
    MIRROR_METHOD_DISCARD,
    MIRROR_METHOD_COUNT,
};

/* An area in flight. Either a background operation with its coroutine, or the placeholder of the iteration in
 * progress, which holds the area that is not yet split into operations. */
struct MirrorOp {
    MirrorJob *s;
    int64_t offset; /* multiple of the granularity */
    int64_t bytes;  /* likewise, or up to the end of the disk */
    enum mirror_method method;
    int64_t chunks; /* of the buffer */
    CoQueue waiters;
    TAILQ_ENTRY(MirrorOp) next;
};

struct MirrorJob {
    BlockJob common;

    /* fixed at start */
    BlockDriverState *filter; /* NULL once the exit work is done, like source and target_bs */
    BlockDriverState *source;
    BlockDriverState *target_bs;
    BlockDriverState *base; /* allocation is asked down to here; NULL: the whole chain */
    enum mirror_sync sync;
    enum mirror_copy_mode copy_mode;
    enum block_on_error on_source_error;
    enum block_on_error on_target_error;
    bool unmap;
    bool zero_target;
    int64_t granularity;
    int64_t buf_bytes; /* multiple of granularity */
    char *replaces;    /* node name, or NULL */
    bool into_chain;   /* an active commit */
    bool target_was_read_only;

    /* held from start to exit */
    BlockBackend *target;
    BdrvDirtyBitmap *dirty_bitmap;
    bool frozen; /* of an active commit: the chain from the filter to the target */

    /* from complete to exit */
    bool should_complete;
    BlockDriverState *to_replace;
    Error *replace_blocker;

    /* the run function's */
    int64_t length;
    int64_t target_cluster; /* zero and discard operations are multiples of it */
    int64_t max_copy_bytes;
    bool zeroes_are_free; /* not charged: the target unmaps */
    int64_t cursor;       /* where the next iteration starts to look */
    int64_t last_pause_ns;
    int ret; /* first error that the policy reported */
    bool initial_zeroing;
    bool actively_synced;

    /* operations */
    TAILQ_HEAD(, MirrorOp) ops; /* oldest first */
    HBitmap *in_flight_map;
    MirrorOp placeholder;
    unsigned in_flight; /* background operations */
    int64_t bytes_in_flight;
    int64_t buf_free; /* chunks */
    CoQueue op_done;  /* the job's coroutine, until a background operation ends */

    /* finish */
    bool in_drain;       /* the main coroutine begins a drained section of the job's own */
    bool source_drained; /* that section is open */
    bool exit_done;
    bool switched;
};

extern const BlockJobDriver mirror_job_driver;
extern const BlockJobDriver commit_active_job_driver;
extern const BlockDriver bdrv_mirror_top;

static inline MirrorJob *mirror_of(const Job *job)
{
    return (MirrorJob *)container_of(job, MirrorJob, common.job);
}

static inline struct sim *mirror_sim(const MirrorJob *s)
{
    return s->common.job.host->sim;
}

/* --- mirror.c --- */
void mirror_pause(Job *job);
void mirror_free(Job *job);
void mirror_forget(Job *job);

/* --- commit_active.c --- */
/* Edges on the layers between, and the chain frozen. 0 or negative errno with errp. */
int commit_active_attach(MirrorJob *s, BlockDriverState *source, BlockDriverState *base, Error **errp);
void commit_active_thaw(MirrorJob *s, BlockDriverState *filter, BlockDriverState *base);
/* Base is made as long as the source if it is shorter; *base_length follows. */
int commit_active_grow(MirrorJob *s, int64_t *base_length, Error **errp);
/* Down to here, exclusively, is what base does not hold: base, or the filters on it. */
BlockDriverState *commit_below_overlay(BlockDriverState *top, BlockDriverState *base);

/* --- mirror_op.c --- */
void mirror_ops_init(MirrorJob *s);
void mirror_ops_free(MirrorJob *s);
/* Starts an operation over an area that is in the in-flight map already or is entered now. */
void mirror_op_start(MirrorJob *s, enum mirror_method method, int64_t offset, int64_t bytes);
/* Chunks of the buffer that an operation holds. */
int64_t mirror_op_chunks(const MirrorJob *s, enum mirror_method method, int64_t bytes);
/* Job's coroutine: until a background operation ends. There must be one. */
void mirror_wait_for_slot(MirrorJob *s);
void mirror_wait_for_all(MirrorJob *s);
/* Waits until no operation in flight touches the range. */
void mirror_wait_on_conflicts(MirrorJob *s, int64_t offset, int64_t bytes);
void mirror_placeholder_begin(MirrorJob *s, int64_t offset, int64_t bytes);
/* Ends it; [offset, end of the placeholder) was not made into operations and is dirty again. */
void mirror_placeholder_end(MirrorJob *s, int64_t offset);
/* Sends the event, applies the policy; a reported error becomes the job's. */
enum block_error_action mirror_error_action(MirrorJob *s, bool is_read, int ret);

/* --- mirror_iter.c --- */
/* No new operation may be started: the job fails, is killed, or is to pause. */
bool mirror_must_hold(const MirrorJob *s);
void mirror_iteration(MirrorJob *s);

/* --- mirror_filter.c --- */
void mirror_filter_set_job(BlockDriverState *filter, MirrorJob *s);
/* Before it goes above the source. */
void mirror_filter_set_into_chain(BlockDriverState *filter);

/* --- mirror_run.c --- */
int mirror_run(Job *job, Error **errp);

/* --- mirror_finish.c --- */
/* Flushes the target; an error goes through the policy. */
int mirror_flush(MirrorJob *s);
/* Job's coroutine. */
void mirror_drain_source_begin(MirrorJob *s);
void mirror_drain_source_end(MirrorJob *s);
bool mirror_drained_poll(BlockJob *job);
void mirror_complete(Job *job, Error **errp);
int mirror_prepare(Job *job);
void mirror_abort(Job *job);
/* to_replace may be swapped for a copy of source: visible data cannot change. */
bool mirror_can_replace(BlockDriverState *source, const BlockDriverState *to_replace);

#endif
