/*
 * Dirty bitmaps of a node (reference/bitmaps-qcow2.md 2).
 *
 * A node owns a list of bitmaps, newest first. Whoever creates one releases it; named ones may also go with the
 * node. Every enabled bitmap is marked after the driver call of a write, zero write, discard, whatever its result,
 * before the request completes to its submitter (2.3).
 */
#ifndef BLOCK_DIRTY_BITMAP_H
#define BLOCK_DIRTY_BITMAP_H

#include "block/block.h"
#include "block/hbitmap.h"

#define BDRV_BITMAP_BUSY 1u
#define BDRV_BITMAP_RO 2u
#define BDRV_BITMAP_INCONSISTENT 4u
#define BDRV_BITMAP_DEFAULT (BDRV_BITMAP_BUSY | BDRV_BITMAP_RO | BDRV_BITMAP_INCONSISTENT)
#define BDRV_BITMAP_ALLOW_RO (BDRV_BITMAP_BUSY | BDRV_BITMAP_INCONSISTENT)

/* granularity: power of two 512..2^31 bytes. name NULL: anonymous. NULL with errp: name taken or too long,
 * "could not get length of device" [seed b8afb52]. Coroutine context (asks the length). */
BdrvDirtyBitmap *bdrv_create_dirty_bitmap(BlockDriverState *bs, uint32_t granularity, const char *name,
                                          Error **errp);
/* No iterator, not busy, no successor. */
void bdrv_release_dirty_bitmap(BdrvDirtyBitmap *bitmap);
void bdrv_release_named_dirty_bitmaps(BlockDriverState *bs);
BdrvDirtyBitmap *bdrv_find_dirty_bitmap(BlockDriverState *bs, const char *name);
/* Newest first; NULL starts and ends. */
BdrvDirtyBitmap *bdrv_dirty_bitmap_next(const BlockDriverState *bs, const BdrvDirtyBitmap *after);
/* Cluster size clamped to [4 KiB, 64 KiB], 64 KiB if unknown [seed]. */
uint32_t bdrv_get_default_bitmap_granularity(BlockDriverState *bs);

const char *bdrv_dirty_bitmap_name(const BdrvDirtyBitmap *bitmap); /* NULL: anonymous */
BlockDriverState *bdrv_dirty_bitmap_node(const BdrvDirtyBitmap *bitmap);
/* Creation order within the host: the same in every run of a scenario. */
uint64_t bdrv_dirty_bitmap_id(const BdrvDirtyBitmap *bitmap);
int64_t bdrv_dirty_bitmap_size(const BdrvDirtyBitmap *bitmap);
uint32_t bdrv_dirty_bitmap_granularity(const BdrvDirtyBitmap *bitmap);
int64_t bdrv_get_dirty_count(const BdrvDirtyBitmap *bitmap); /* bytes, whole groups */
bool bdrv_dirty_bitmap_enabled(const BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_recording(const BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_busy(const BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_readonly(const BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_persistent(const BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_inconsistent(const BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_has_successor(const BdrvDirtyBitmap *bitmap);
const HBitmap *bdrv_dirty_bitmap_hbitmap(const BdrvDirtyBitmap *bitmap);
bool bdrv_dirty_bitmap_get(const BdrvDirtyBitmap *bitmap, int64_t offset);
int64_t bdrv_dirty_bitmap_next_dirty(const BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
int64_t bdrv_dirty_bitmap_next_zero(const BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
/* False, and out empty, when there are more bits than anybody wants to wait for: 2^31, which is 1 TiB at 512 bytes.
 */
bool bdrv_dirty_bitmap_sha256(const BdrvDirtyBitmap *bitmap, char out[65]);

/* 0, or negative errno with the reference's text (2.1). */
int bdrv_dirty_bitmap_check(const BdrvDirtyBitmap *bitmap, uint32_t flags, Error **errp);
void bdrv_enable_dirty_bitmap(BdrvDirtyBitmap *bitmap);
void bdrv_disable_dirty_bitmap(BdrvDirtyBitmap *bitmap);
void bdrv_dirty_bitmap_set_busy(BdrvDirtyBitmap *bitmap, bool busy);
/* The owner's own marks. Marking rounds outward; clearing wants whole groups (or up to the end). */
void bdrv_set_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
void bdrv_reset_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
void bdrv_clear_dirty_bitmap(BdrvDirtyBitmap *bitmap);

/* Counted iterator: releasing or truncating the bitmap meanwhile is an assertion. The node's length must be > 0. */
typedef struct BdrvDirtyBitmapIter BdrvDirtyBitmapIter;
BdrvDirtyBitmapIter *bdrv_dirty_iter_new(BdrvDirtyBitmap *bitmap);
void bdrv_dirty_iter_free(BdrvDirtyBitmapIter *iter);
int64_t bdrv_dirty_iter_next(BdrvDirtyBitmapIter *iter); /* -1 at the end */
void bdrv_set_dirty_iter(BdrvDirtyBitmapIter *iter, int64_t offset);

/* For the request path (block/ only). */
void bdrv_set_dirty(BlockDriverState *bs, int64_t offset, int64_t bytes);
void bdrv_dirty_bitmap_truncate(BlockDriverState *bs, int64_t bytes);
bool bdrv_has_readonly_bitmaps(const BlockDriverState *bs);

#endif
