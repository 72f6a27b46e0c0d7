/* Block copy from inside: what block-copy.c, block-copy-task.c and block-copy-call.c share. */
#ifndef BLOCK_BLOCK_COPY_INT_H
#define BLOCK_BLOCK_COPY_INT_H

#include "block/block-copy.h"
#include "block/block_int.h"
#include "block/ratelimit.h"

enum block_copy_method {
    COPY_READ_WRITE,         /* up to BLOCK_COPY_BUFFER_BYTES */
    COPY_READ_WRITE_CLUSTER, /* one cluster: compressed */
    COPY_RANGE_SMALL,        /* offloaded, as much as a buffered one would be: nobody knows yet whether it works */
    COPY_RANGE_FULL,         /* up to BLOCK_COPY_OFFLOAD_BYTES */
    COPY_WRITE_ZEROES,       /* of a task only */
};

TAILQ_HEAD(block_copy_areas, block_copy_hold);

struct BlockCopyState {
    struct host *host;
    BdrvChild *source;
    BdrvChild *target;
    int64_t length_bytes;
    int64_t cluster_bytes;
    enum block_copy_method method; /* of the tasks to come */
    bool compress;
    bool discard_source;
    bool skip_unallocated;
    BdrvDirtyBitmap *bitmap;       /* 1: to copy, in no task */
    struct block_copy_areas areas; /* tasks and holds, oldest first; no two overlap */
    unsigned tasks;
    unsigned calls;
    int64_t in_flight_bytes; /* of the tasks, whole clusters */
    int64_t memory_bytes;    /* of BLOCK_COPY_MAX_MEMORY_BYTES in use */
    CoQueue memory_queue;
    RateLimit limit;
    void (*progress)(void *opaque, int64_t bytes);
    void *progress_opaque;
    void (*copied)(void *opaque, int64_t offset, int64_t bytes);
    void *copied_opaque;
};

struct BlockCopyCallState {
    BlockCopyState *s;
    int64_t offset; /* whole clusters; the end may lie beyond that of the disk */
    int64_t bytes;
    int max_workers;
    int64_t max_chunk_bytes; /* 0: no limit of its own */
    bool throttled;
    bool cancelled;
    bool finished;
    bool abandoned; /* nobody waits for it any more: it frees itself */
    int ret;        /* first error */
    bool error_is_read;
    int workers; /* coroutines of its tasks */
    CoQueue worker_done;
    CoSleep rate_sleep;
    CoSleep waiter; /* who waits for the end, but not for ever */
    void (*cb)(void *opaque);
    void *opaque;
};

typedef struct block_copy_task {
    struct block_copy_hold area;
    BlockCopyCallState *call;
    enum block_copy_method method;
} block_copy_task;

/* --- areas (block-copy.c) ---------------------------------------------------------------------------------- */

/* The oldest one that overlaps, NULL: none. */
struct block_copy_hold *block_copy_find_area(const BlockCopyState *s, int64_t offset, int64_t bytes);
/* The oldest overlapping task; holds do not count. */
struct block_copy_hold *block_copy_find_task(const BlockCopyState *s, int64_t offset, int64_t bytes);
void block_copy_area_insert(BlockCopyState *s, struct block_copy_hold *area);
/* Out of the list; wakes all that wait for it. */
void block_copy_area_remove(struct block_copy_hold *area);
/* To the whole clusters inside; *bytes may be 0 then, and else may end beyond the disk. */
void block_copy_round_in(const BlockCopyState *s, int64_t *offset, int64_t *bytes);
/* Tells whoever follows the progress. */
void block_copy_tell(BlockCopyState *s, int64_t bytes);
/* Bytes of the disk in whole clusters from offset on: without what lies beyond its end. */
static inline int64_t block_copy_clip(const BlockCopyState *s, int64_t offset, int64_t bytes)
{
    return MIN(bytes, s->length_bytes - offset);
}

/* Whole clusters as a bitmap counts them: the last one ends with the bitmap, which grows with its node when what is
 * above the filter grows its file. */
static inline int64_t block_copy_bits(const BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes)
{
    return MIN(bytes, bdrv_dirty_bitmap_size(bitmap) - offset);
}

/* --- tasks (block-copy-task.c) ----------------------------------------------------------------------------- */

/* The first dirty piece of [offset, offset+bytes) is a task now; NULL: nothing is dirty. Waits for holds. */
block_copy_task *block_copy_task_begin(BlockCopyCallState *call, int64_t offset, int64_t bytes);
/* Looks at what is there, shrinks the task to one extent and chooses its method. False: it needs no copy. */
bool block_copy_task_examine(block_copy_task *task);
/* Copies, tells the call of an error, and ends the task. Waits for memory first. */
void block_copy_task_run(block_copy_task *task);
/* Ends it without a copy: dirty again, or done with. */
void block_copy_task_give_back(block_copy_task *task);
void block_copy_task_skip(block_copy_task *task);

#endif
