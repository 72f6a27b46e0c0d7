/*
 * Block copy: the engine that moves clusters from a source to a target once, whoever asks for them
 * (reference/jobs.md 5.5).
 *
 * A bitmap of clusters says what is still to copy. A task takes a piece of it: its bits go when it begins and come
 * back when it fails or shrinks, so a cluster is dirty, in a task, or done, and never two of these. Callers whose
 * range touches a task wait for it and look again: what another failed to copy, they try themselves. A caller fails
 * by its own first error only.
 *
 *         dirty --task begins--> in flight --copied--> done      (never copied again: the source holds new data)
 *           ^------fails, shrinks----+
 *
 * Two kinds of callers: a background pass over the disk with many workers and a rate limit (the job), and the
 * copy-before-write filter, which wants a few clusters now and is never throttled.
 */
#ifndef BLOCK_BLOCK_COPY_H
#define BLOCK_BLOCK_COPY_H

#include <sys/queue.h>

#include "block/block.h"
#include "block/dirty-bitmap.h"

#define BLOCK_COPY_CLUSTER_BYTES (64 * KiB)     /* the least */
#define BLOCK_COPY_BUFFER_BYTES (1 * MiB)       /* a buffered task */
#define BLOCK_COPY_OFFLOAD_BYTES (16 * MiB)     /* an offloaded task, once one succeeded */
#define BLOCK_COPY_MAX_MEMORY_BYTES (128 * MiB) /* of all buffers of one state */
#define BLOCK_COPY_MAX_WORKERS 64

typedef struct BlockCopyState BlockCopyState;         /* one source, one target, one bitmap */
typedef struct BlockCopyCallState BlockCopyCallState; /* one caller's range at work */

struct block_copy_args {
    const BdrvDirtyBitmap *bitmap; /* only its areas, rounded out to clusters; NULL: everything */
    int64_t min_cluster_size;      /* bytes, a power of two; 0: no wish */
    bool use_copy_range;           /* offload where both ends can */
    bool compress;                 /* one cluster a task, BDRV_REQ_WRITE_COMPRESSED */
    bool discard_source;           /* each range, once copied */
};

/* Lengths are those of now and must be equal (the caller's refusal). The bitmap of clusters lives on the node that
 * source belongs to (the filter), or else on the source's node, disabled: only tasks and the functions below change
 * it. The edges are the caller's and must outlive the
 * state. Fleecing (the source is below the target) is found out here, now and again by the first task: writes to
 * the target are then serialising. NULL with errp: -EINVAL texts, cluster size of the target unknown. Main
 * coroutine or any. */
BlockCopyState *block_copy_state_new(BdrvChild *source, BdrvChild *target, const struct block_copy_args *args,
                                     Error **errp);
/* No call and no hold may be left. */
void block_copy_state_free(BlockCopyState *s);
int64_t block_copy_cluster_size(const BlockCopyState *s);
int64_t block_copy_length(const BlockCopyState *s);
/* What the cluster size would be for a target. Negative with errp as above; a min_cluster_size that is no power of
 * two or above 2 GiB is -EINVAL. Coroutine. */
int64_t block_copy_calculate_cluster_size(BlockDriverState *target, int64_t min_cluster_size, Error **errp);
/* 1: still to copy and in no task. Callers that narrow it (sync modes, a filter's areas) do so before the first
 * task. */
BdrvDirtyBitmap *block_copy_dirty_bitmap(BlockCopyState *s);
/* Dirty and in-flight bytes, whole clusters: what a job has left (1.7). */
int64_t block_copy_remaining(const BlockCopyState *s);
/* For sync=top: clusters not yet looked at copy nothing when the guest writes to them and nothing of them is
 * allocated in the source node itself (5.3). On until the reset below is through. */
void block_copy_set_skip_unallocated(BlockCopyState *s, bool skip);
/* Looks at [offset, ...): clears clusters without an allocated byte. *count: bytes looked at, at least a cluster
 * unless at the end. 0 or a negative errno of the status query. Coroutine. */
int block_copy_reset_unallocated(BlockCopyState *s, int64_t offset, int64_t *count);
/* They need no copy any more; waits for nothing. Whole clusters inside the range only. */
void block_copy_reset(BlockCopyState *s, int64_t offset, int64_t bytes);
/* Everything counts as not copied again (5.9, checkpoint). No task may be in flight: the caller has drained. */
void block_copy_set_all_dirty(BlockCopyState *s);
/* Called after each task: bytes is what it copied, in whole clusters, from whatever call. 0: only what remains has
 * changed, since something needs no copy any more. May be NULL. */
void block_copy_set_progress(BlockCopyState *s, void (*progress)(void *opaque, int64_t bytes), void *opaque);
/* Called when a task has copied an area, before anybody else may touch it, and before it is discarded from the
 * source. May wait. Belongs to the filter. */
void block_copy_set_copied(BlockCopyState *s, void (*copied)(void *opaque, int64_t offset, int64_t bytes),
                           void *opaque);
/* Bytes per second over all calls of the state; 0: unlimited. Only calls that do not ignore it wait; all are
 * counted (section 3). */
void block_copy_set_speed(BlockCopyState *s, uint64_t speed);

/* --- calls ------------------------------------------------------------------------------------------------ */

/* Copies what is dirty in the range, rounded out to clusters, and waits for what others copy of it. 0: nothing of
 * it is dirty or in flight any more. timeout_ns > 0: -ETIMEDOUT when it takes longer; the copy runs on by itself,
 * cb is called with opaque when it has ended (also when in time), and the state must not be freed before. No
 * throttle. Coroutine. */
int block_copy(BlockCopyState *s, int64_t offset, int64_t bytes, int64_t timeout_ns, void (*cb)(void *opaque),
               void *opaque);

/* A background call over the range: max_workers tasks at a time (1 to INT_MAX), each at most max_chunk bytes (0: no
 * limit of its own), throttled. cb runs in a coroutine of the engine when the call is finished, failed or cancelled
 * and no task of it is left. The caller frees it then. */
BlockCopyCallState *block_copy_async(BlockCopyState *s, int64_t offset, int64_t bytes, int max_workers,
                                     int64_t max_chunk, void (*cb)(void *opaque), void *opaque);
void block_copy_call_free(BlockCopyCallState *call); /* finished; NULL is fine */
/* Starts no further task; those in flight end by themselves. */
void block_copy_call_cancel(BlockCopyCallState *call);
/* Recomputes its delay now: the speed has changed. */
void block_copy_call_kick(BlockCopyCallState *call);
bool block_copy_call_finished(const BlockCopyCallState *call);
bool block_copy_call_cancelled(const BlockCopyCallState *call);
/* Of a finished call: its first error or 0; *error_is_read tells the side. */
int block_copy_call_status(const BlockCopyCallState *call, bool *error_is_read);

/* --- holds: the CowRequest of 2016 (5.9) [seed a8bbee0] ------------------------------------------------------- */

/* A range of clusters that no task may touch while a reader needs old content of both ends to stay put. */
struct block_copy_hold {
    BlockCopyState *state;
    int64_t offset, bytes; /* rounded out to clusters */
    bool is_task;          /* the engine's own */
    bool is_copied;        /* a task's: the target has it, and the source may be losing it */
    CoQueue waiters;
    TAILQ_ENTRY(block_copy_hold) list;
};
/* Sleeps while a task or a hold overlaps, and rescans from the start after each. Coroutine. */
void block_copy_wait_overlapping(BlockCopyState *s, int64_t offset, int64_t bytes);
/* At once after the wait, without a yield between; asserts that nothing overlaps. hold is the caller's memory. */
void block_copy_hold_begin(struct block_copy_hold *hold, BlockCopyState *s, int64_t offset, int64_t bytes);
void block_copy_hold_end(struct block_copy_hold *hold); /* wakes all that wait for it */

/* --- const views, for checkers ----------------------------------------------------------------------------- */

unsigned block_copy_tasks(const BlockCopyState *s);
bool block_copy_area_in_flight(const BlockCopyState *s, int64_t offset, int64_t bytes);

#endif
