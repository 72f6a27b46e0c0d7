/*
 * Between the files of the mirror; nobody else includes it.
 *
 *     mirror.c           start: filter, job; const views
 *     mirror_check.c     what a start is refused for
 *     mirror_run.c       the run function: set-up, main loop
 *     mirror_populate.c  what the bitmap begins with
 *     mirror_iter.c      one iteration: what is copied next, in which pieces
 *     mirror_op.c        operations, in-flight map, buffer accounting
 *     mirror_cow.c       targets whose clusters are larger than what is copied
 *     mirror_filter.c    the filter above the source
 *     mirror_active.c    guest writes that are made on both sides
 *     mirror_finish.c    ready, final drain, prepare and abort, switch
 *     commit_active.c    what differs when the target is below the source
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
 * The bitmap lives on the source, below the filter, and records from before the filter's insertion: what was in
 * flight across it, passes the filter, or reaches the source by another edge, leaves its bit when the source's
 * driver is done with it, before its submitter knows (4.2, 4.6).
 *
 * A guest's write that is made on both sides takes its chunks like an operation, from before its write to the
 * source to after that to the target:
 *
 *              free          source written, nobody else wrote: bits cleared          target written
 *     waiting -----> taken -------------------------------------------------> taken ----------------> gone
 *                      |                                                        |                      ^
 *                      +---- source failed, or somebody else wrote: dirty ------+--- failed: dirty ----+
 *
 * Whoever writes the same area meanwhile without taking it (by another edge, or begun before the mode was changed)
 * may have written last: then the bits stay.
 *
 * Data travels by reference: of the buffer only the chunks that an operation would hold are counted.
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

/* An area in flight: a background operation with its coroutine; the placeholder of the iteration in progress, which
 * holds what is not yet split into operations; or a guest's write to both sides. */
struct MirrorOp {
    MirrorJob *s;
    int64_t offset; /* multiple of the granularity */
    int64_t bytes;  /* likewise, or up to the end of the disk */
    bool active;    /* the guest's */
    bool disturbed; /* of these: somebody else has written there since */
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
    BlockDriverState *base; /* allocation is asked down to here; NULL: the whole chain; one reference */
    enum mirror_sync sync;
    enum mirror_copy_mode copy_mode;
    enum block_on_error on_source_error;
    enum block_on_error on_target_error;
    bool unmap;
    bool zero_target;
    enum mirror_backing_mode backing_mode;
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
    int64_t target_cluster; /* what the target makes at once */
    int64_t target_unit;    /* zero and discard operations are multiples of it: the cluster or a part of one */
    bool backing_later;     /* the target's header names a backing file that is not attached */
    HBitmap *cow_done;      /* 4.5: bytes of clusters that are whole; NULL: none has to be filled up */
    HBitmap *whole;         /* the same where chunks are whole clusters: only what guests write may be less */
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
    BdrvBuffer *buffer;
    MirrorOp placeholder;
    unsigned in_flight; /* background operations */
    int64_t bytes_in_flight;
    unsigned active_writes;
    int64_t active_bytes; /* on their way to the target */
    int64_t buf_free;     /* chunks */
    CoQueue op_done;      /* the job's coroutine, until a background operation ends */

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

/* --- mirror_check.c --- */
/* All checks that need nothing to be made first. *args is the start's own copy: defaults are filled in. */
int mirror_check(BlockDriverState *source, BlockDriverState *target, struct mirror_args *args, Error **errp);

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
/* After the last say on buf_bytes. -ENOMEM. */
int mirror_buffer_alloc(MirrorJob *s);
void mirror_ops_free(MirrorJob *s);
/* What is left to do, as queries show it. */
void mirror_update_remaining(MirrorJob *s);
/* Starts an operation over an area that is in the in-flight map already or is entered now. */
void mirror_op_start(MirrorJob *s, enum mirror_method method, int64_t offset, int64_t bytes);
/* Chunks of the buffer that an operation holds. */
int64_t mirror_op_chunks(const MirrorJob *s, enum mirror_method method, int64_t bytes);
/* Job's coroutine: until a background operation ends. There must be one. */
void mirror_wait_for_slot(MirrorJob *s);
void mirror_wait_for_all(MirrorJob *s);
/* Waits until no operation in flight touches the range. */
void mirror_wait_on_conflicts(MirrorJob *s, int64_t offset, int64_t bytes);
/* The same; the placeholder does not count. */
void mirror_wait_on_others(MirrorJob *s, int64_t offset, int64_t bytes);
/* A guest's write waits for its chunks, which op names, and takes them; and gives them back. */
void mirror_active_begin(MirrorOp *op);
void mirror_active_end(MirrorOp *op);
/* Somebody who has not taken it has written to this area of the source. */
void mirror_disturb(MirrorJob *s, int64_t offset, int64_t bytes);
void mirror_placeholder_begin(MirrorJob *s, int64_t offset, int64_t bytes);
/* Ends it; [offset, end of the placeholder) was not made into operations and is dirty again. */
void mirror_placeholder_end(MirrorJob *s, int64_t offset);
/* Sends the event, applies the policy; a reported error becomes the job's. */
enum block_error_action mirror_error_action(MirrorJob *s, bool is_read, int ret);

/* --- mirror_iter.c --- */
/* No new operation may be started: the job fails, is killed, or is to pause. */
bool mirror_must_hold(const MirrorJob *s);
void mirror_iteration(MirrorJob *s);

/* --- mirror_populate.c --- */
/* Fills the bitmap, and the target with zeroes if need be. 0, or what ends the job. */
int mirror_populate(MirrorJob *s);

/* --- mirror_cow.c --- */
/* What the target's clusters demand. 0, or the failure of asking [seed c3cc95b]. */
int mirror_read_target_info(MirrorJob *s);
void mirror_cow_free(MirrorJob *s);
/* Widens a copy to whole clusters if one at its ends is not whole yet; to as many as the buffer takes. */
void mirror_cow_widen(const MirrorJob *s, int64_t *offset, int64_t *bytes);
/* Written alone, [offset, offset + bytes) would leave no cluster partly filled. */
bool mirror_cow_fits(const MirrorJob *s, int64_t offset, int64_t bytes);
void mirror_cow_mark(MirrorJob *s, int64_t offset, int64_t bytes);

/* --- mirror_active.c --- */
/* The guest's request is to be made on both sides; asked when it comes. */
bool mirror_takes_write(const MirrorJob *s, int64_t offset, int64_t bytes);
/* Makes it. data NULL: not MIRROR_METHOD_COPY. The result is the source's. */
int mirror_active_write(MirrorJob *s, enum mirror_method method, int64_t offset, int64_t bytes,
                        const struct payload *data, uint32_t flags);

/* --- mirror_filter.c --- */
void mirror_filter_set_job(BlockDriverState *filter, MirrorJob *s);
/* Passes a guest's request on to the source. */
int mirror_source_request(BlockDriverState *filter, enum mirror_method method, int64_t offset, int64_t bytes,
                          const struct payload *data, uint32_t flags);
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

#endif
