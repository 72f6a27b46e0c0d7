/*
 * The inside of a dirty bitmap, for block/dirty-bitmap*.c only. See block/dirty-bitmap.h.
 */
#ifndef BLOCK_DIRTY_BITMAP_INT_H
#define BLOCK_DIRTY_BITMAP_INT_H

#include "block/block_int.h"

struct BdrvDirtyBitmap {
    BlockDriverState *bs;
    HBitmap *hbitmap;
    uint64_t id;
    char *name; /* NULL: anonymous */
    uint32_t granularity;
    unsigned active_iterators;
    bool disabled;
    bool busy;
    bool readonly;
    bool persistent;
    bool inconsistent;
    bool skip_store;            /* persistent, but not to be stored at the next inactivation */
    BdrvDirtyBitmap *successor; /* anonymous child that records while this one is in use (2.2) */
    LIST_ENTRY(BdrvDirtyBitmap) list;
};

/* Into the list of bs; the name, if any, is free. */
BdrvDirtyBitmap *bdrv_dirty_bitmap_new(BlockDriverState *bs, int64_t size_bytes, uint32_t granularity,
                                       const char *name);

#endif
