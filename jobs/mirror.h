/*
 * The mirror job: copies a node to a target while the guest writes, then keeps both in sync until told to complete
 * (switch to the target) or cancel (leave a consistent copy) (reference/jobs.md 4).
 *
 * A filter goes above the source and reports every guest write; a dirty bitmap of the job's own says what the
 * target lacks. Bits are cleared before the area is read; areas in flight are never started twice; a failed area is
 * dirty again before anybody is woken.
 */
#ifndef JOBS_MIRROR_H
#define JOBS_MIRROR_H

#include "jobs/blockjob.h"

enum mirror_sync {
    MIRROR_SYNC_FULL,
    MIRROR_SYNC_TOP,
    MIRROR_SYNC_NONE,
    MIRROR_SYNC_INCREMENTAL,
    MIRROR_SYNC_BITMAP
};
bool mirror_sync_parse(const char *text, enum mirror_sync *out);
const char *mirror_sync_name(enum mirror_sync sync);

enum mirror_copy_mode { MIRROR_COPY_BACKGROUND, MIRROR_COPY_WRITE_BLOCKING };
bool mirror_copy_mode_parse(const char *text, enum mirror_copy_mode *out);

/* What becomes the target's backing node when the job ends in success (4.7). */
enum mirror_backing_mode {
    MIRROR_LEAVE_BACKING_CHAIN,  /* what it is */
    MIRROR_SOURCE_BACKING_CHAIN, /* the source's (top), the source (none), nothing (full) */
    MIRROR_OPEN_BACKING_CHAIN,   /* what its header names */
};

#define MIRROR_DEFAULT_BUF_BYTES (16 * MiB)
#define MIRROR_MAX_IN_FLIGHT 16
#define MIRROR_MIN_GRANULARITY 512
#define MIRROR_MAX_GRANULARITY (64 * MiB)

/* Arguments of blockdev-mirror (section 9), defaults applied by the caller. */
struct mirror_args {
    const char *job_id;           /* NULL: device name */
    const char *filter_node_name; /* NULL: implicit filter */
    const char *replaces;         /* NULL: the source */
    enum mirror_sync sync;
    enum mirror_copy_mode copy_mode;
    int64_t speed;
    uint32_t granularity; /* 0: from the target */
    int64_t buf_size;     /* 0: default */
    enum block_on_error on_source_error;
    enum block_on_error on_target_error;
    bool unmap;
    bool zero_target; /* the target may hold garbage */
    enum mirror_backing_mode backing_mode;
    bool into_chain;           /* an active commit (jobs/commit.h): the target is below the source */
    bool target_was_read_only; /* with into_chain: it is so again unless the job switches to it */
    bool auto_finalize;
    bool auto_dismiss;
};

/* Checks in the order of 4.2, then starts. 0 or negative errno with errp; nothing is left behind by a refusal. Main
 * coroutine. */
int mirror_start(BlockDriverState *source, BlockDriverState *target, const struct mirror_args *args, Error **errp);

/* drive-mirror: the same with a file for target, which is made or opened first; a refusal after that leaves the
 * file. backing_mode and zero_target follow from the file. */
struct drive_mirror_file {
    const char *filename;
    const char *format;    /* NULL: the source's; of an existing file: probed */
    const char *node_name; /* of the target; NULL: generated */
    bool existing;
};
int drive_mirror_start(BlockDriverState *source, const struct drive_mirror_file *file,
                       const struct mirror_args *args, Error **errp);

/* Const views for checkers and queries. job must be a mirror. */
bool block_job_is_mirror(const Job *job);
BlockDriverState *mirror_source(const Job *job); /* NULL once the job has let go */
BlockDriverState *mirror_target(const Job *job);
BlockDriverState *mirror_filter(const Job *job);
BdrvDirtyBitmap *mirror_dirty_bitmap(const Job *job);
unsigned mirror_in_flight(const Job *job); /* operations */
bool mirror_area_in_flight(const Job *job, int64_t offset, int64_t bytes);
bool mirror_drains_source(const Job *job); /* for its last look: it waits for that, or has got it */
bool mirror_will_switch(const Job *job);   /* completed with a switch, or about to */
enum mirror_sync mirror_sync_mode(const Job *job);
enum mirror_copy_mode mirror_copy_mode(const Job *job);
bool mirror_actively_synced(const Job *job);
unsigned mirror_active_writes(const Job *job); /* of guests, in hand */

#endif
