/*
 * External snapshots (9): an overlay goes on top of a node, whose users move to it; from then on the node keeps
 * what it held at that point in time.
 *
 *     prepare -> commit -> clean         the overlay is in place when prepare returns
 *            \-> abort  -> clean         everything as it was, to the order of links
 *
 * The node is drained from prepare to clean. Main coroutine. A prepare that fails leaves nothing and needs no
 * clean.
 */
#ifndef BLOCK_SNAPSHOT_H
#define BLOCK_SNAPSHOT_H

#include "block/block.h"

struct bdrv_parents;

typedef struct ExternalSnapshot {
    BlockDriverState *old;
    BlockDriverState *overlay;
    struct bdrv_parents *parents; /* of old, before */
    bool inactivated;             /* overlay was active: old is not */
} ExternalSnapshot;

/* A new overlay by file name, for blockdev-snapshot-sync. */
struct bdrv_overlay_file {
    const char *filename;
    const char *format;    /* driver of the overlay */
    const char *node_name; /* NULL: generated */
    bool existing;         /* else the image is made, with old as its backing file */
};

/* overlay_name: an existing node (blockdev-snapshot); NULL: file says what to open. -errno with errp. */
int external_snapshot_prepare(ExternalSnapshot *s, BlockDriverState *old, const char *overlay_name,
                              const struct bdrv_overlay_file *file, Error **errp);
/* The old node becomes read-only as far as it goes: errors are ignored [sharp edge 36]. */
void external_snapshot_commit(ExternalSnapshot *s);
void external_snapshot_abort(ExternalSnapshot *s);
void external_snapshot_clean(ExternalSnapshot *s);

/*
 * Internal snapshots (bitmaps-qcow2.md 5.7): the image itself keeps what the disk held. prepare flushes and makes
 * the snapshot, abort deletes it again; the node is drained from prepare to clean, and stays writable. A snapshot
 * whose deletion fails stays: what is wrong then is wrong with the image.
 */
typedef struct InternalSnapshot {
    BlockDriverState *bs;
    char *id; /* malloc'ed */
} InternalSnapshot;

int internal_snapshot_prepare(InternalSnapshot *s, BlockDriverState *bs, const char *name, Error **errp);
void internal_snapshot_abort(InternalSnapshot *s);
void internal_snapshot_clean(InternalSnapshot *s);
/* Drained meanwhile. id and name as bdrv_co_snapshot_delete takes them. */
int internal_snapshot_delete(BlockDriverState *bs, const char *id, const char *name, Error **errp);

#endif
