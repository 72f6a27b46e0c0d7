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
    LIST_HEAD(, BdrvDirtyBitmapIter) iterators;
    BdrvDirtyNotify *notify; /* NULL: nobody wants to know */
    void *notify_opaque;
    int64_t kept_bytes; /* frozen: the shortest that the node has been since */
    bool loading;       /* between the first part of a deserialisation and its end */
    bool disabled;
    bool busy;
    bool readonly;
    bool persistent;
    bool inconsistent;
    bool skip_store;            /* persistent, but not to be stored at the next inactivation */
    BdrvDirtyBitmap *successor; /* anonymous child that records while this one is in use (2.2) */
    LIST_ENTRY(BdrvDirtyBitmap) list;
};

/* What can be done to a bitmap, and what the state makes of it; see the table of block/dirty-bitmap.h. */
enum bitmap_op {
    BITMAP_SET, /* or reset: the owner's */
    BITMAP_CLEAR,
    BITMAP_LOAD,
    BITMAP_ENABLE,
    BITMAP_DISABLE,
    BITMAP_TAKE,
    BITMAP_FREEZE,
    BITMAP_THAW,
    BITMAP_MERGE,
    BITMAP_RELEASE,
    BITMAP_MARK,
    BITMAP_TRUNCATE,
    BITMAP_OP_COUNT
};

enum bitmap_rule {
    BITMAP_FAULT, /* the caller's; an assertion */
    BITMAP_YES,
    BITMAP_ERROR,
    BITMAP_SKIP,
};

enum bitmap_rule bdrv_dirty_bitmap_rule(const BdrvDirtyBitmap *bitmap, enum bitmap_op op);
/* Asserts that it is no fault; whether it is to be done. */
bool bdrv_dirty_bitmap_may(const BdrvDirtyBitmap *bitmap, enum bitmap_op op);
/* The name, or "" for messages. */
const char *bdrv_dirty_bitmap_shown_name(const BdrvDirtyBitmap *bitmap);
/* Other bits under the same iterators; the old ones are the caller's, who gets them. */
HBitmap *bdrv_dirty_bitmap_swap(BdrvDirtyBitmap *bitmap, HBitmap *hbitmap);
/* Cuts or grows the bits; iterators go on from where they were. */
void bdrv_dirty_bitmap_set_size(BdrvDirtyBitmap *bitmap, int64_t bytes);
/* After the bits were exchanged or resized. */
void bdrv_dirty_bitmap_repoint_iterators(BdrvDirtyBitmap *bitmap);

/* Into the list of bs; the name, if any, is free. */
BdrvDirtyBitmap *bdrv_dirty_bitmap_new(BlockDriverState *bs, int64_t size_bytes, uint32_t granularity,
                                       const char *name);

#endif
