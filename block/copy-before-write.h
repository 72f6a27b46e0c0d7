/*
 * The copy-before-write filter: the guest's view goes on, the old content of what it overwrites goes to a target
 * first (reference/jobs.md 5.5, 5.6).
 *
 *      guest
 *        |
 *      copy-before-write --target--> fleecing or backup target  <---+
 *        | file                                                     | saved areas
 *      source <-------------------- frozen reads ---- snapshot-access over the filter: the view of the instant
 *
 * Made by blockdev-add (driver copy-before-write: file, target, bitmap, on-cbw-error, cbw-timeout,
 * min-cluster-size) or inserted by a backup job, which shares the filter's engine.
 */
#ifndef BLOCK_COPY_BEFORE_WRITE_H
#define BLOCK_COPY_BEFORE_WRITE_H

#include "block/block-copy.h"

enum on_cbw_error {
    ON_CBW_ERROR_BREAK_GUEST_WRITE, /* the guest write fails and is not performed */
    ON_CBW_ERROR_BREAK_SNAPSHOT,    /* it passes; the snapshot is broken from then on: EACCES */
};

struct cbw_args {
    const char *node_name; /* NULL: implicit, hidden from query-block */
    struct block_copy_args copy;
    enum on_cbw_error on_cbw_error;
    int64_t cbw_timeout_ns; /* 0: none */
};

/* Inserts a filter above source (its parents move to it) that saves to target. The caller has drained source. NULL
 * with errp, e.g. permissions of another writer below; nothing is left then. *s: the engine, the filter's. */
BlockDriverState *bdrv_cbw_append(BlockDriverState *source, BlockDriverState *target, const struct cbw_args *args,
                                  BlockCopyState **s, Error **errp);
/* Takes it out again and drops it; waits for late copies. Drained by the caller or drains. */
void bdrv_cbw_drop(BlockDriverState *filter);
/* The same for a command that is refused after all: the parents of source come back in the order in which they were
 * noted before the insertion (bdrv_note_parents). */
struct bdrv_parents;
void bdrv_cbw_undo(BlockDriverState *filter, BlockDriverState *source, const struct bdrv_parents *parents);
bool bdrv_is_cbw(const BlockDriverState *bs);
/* Const views, for checkers. bs must be such a filter. */
const BlockCopyState *bdrv_cbw_copy_state(const BlockDriverState *bs);
BlockDriverState *bdrv_cbw_target(const BlockDriverState *bs);
bool bdrv_cbw_snapshot_broken(const BlockDriverState *bs);
bool bdrv_cbw_discards_source(const BlockDriverState *bs); /* what was saved */
/* The frozen view without I/O, as bdrv_peek and bdrv_peek_status: -EACCES where nothing is kept of the past. */
int bdrv_cbw_peek(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out);
bool bdrv_cbw_peek_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum);

/* --- the frozen view, for the driver snapshot-access (5.6) --------------------------------------------------- */

/* Of clusters that are dirty or being copied the past is in the source, of those that were copied in the target;
 * all others (outside a bitmap, reset, discarded by a reader) are not accessible.
 *
 * These are hooks of struct BlockDriver (bdrv_co_preadv_snapshot, bdrv_co_snapshot_block_status,
 * bdrv_co_pdiscard_snapshot); a node without them answers -ENOTSUP. */

#endif
