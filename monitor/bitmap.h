/*
 * What the block-dirty-bitmap-* commands and their transaction actions have in common
 * (reference/bitmaps-qcow2.md 3).
 *
 * args are checked arguments of the command or data of the action: the tables below serve both. Everything that
 * fails has changed nothing.
 */
#ifndef MONITOR_BITMAP_H
#define MONITOR_BITMAP_H

#include "block/dirty-bitmap.h"
#include "monitor/commands.h"

extern const struct qmp_arg qmp_bitmap_add_args[];
extern const struct qmp_arg qmp_bitmap_name_args[];
extern const struct qmp_arg qmp_bitmap_merge_args[];

/* A new bitmap, as the arguments want it. NULL with errp. Coroutine. */
BdrvDirtyBitmap *qmp_bitmap_add(struct host *host, const struct qvalue *args, Error **errp);
/* The bitmap of args' node and name. NULL with errp: no such node, no such bitmap. */
BdrvDirtyBitmap *qmp_bitmap_find(struct host *host, const struct qvalue *args, Error **errp);
/* The same, when none of the conditions in flags (BDRV_BITMAP_*) stands against its use. */
BdrvDirtyBitmap *qmp_bitmap_usable(struct host *host, const struct qvalue *args, uint32_t flags, Error **errp);
/* A persistent bitmap is no longer in its image, and in memory only until the next store. False with errp: it still
 * is in both. Coroutine. */
bool qmp_bitmap_erase(BdrvDirtyBitmap *bitmap, Error **errp);
/* The target, with the bits of all sources. *backup: its content from before, for bdrv_restore_dirty_bitmap or
 * hbitmap_free; NULL when there was no source. */
BdrvDirtyBitmap *qmp_bitmap_merge(struct host *host, const struct qvalue *args, HBitmap **backup, Error **errp);

#endif
