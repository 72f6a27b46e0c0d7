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
const BdrvDirtyBitmap *bdrv_dirty_bitmap_successor(const BdrvDirtyBitmap *bitmap); /* NULL: not frozen */
bool bdrv_dirty_bitmap_skips_store(const BdrvDirtyBitmap *bitmap);
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
void bdrv_dirty_bitmap_set_readonly(BdrvDirtyBitmap *bitmap, bool readonly);
void bdrv_dirty_bitmap_set_persistence(BdrvDirtyBitmap *bitmap, bool persistent);
void bdrv_dirty_bitmap_skip_store(BdrvDirtyBitmap *bitmap, bool skip);
/* Loaded with in_use: content unusable, disabled for good. The bitmap is persistent. */
void bdrv_dirty_bitmap_set_inconsistent(BdrvDirtyBitmap *bitmap);
/* The owner's own marks. Marking rounds outward; clearing wants whole groups (or up to the end). */
void bdrv_set_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
void bdrv_reset_dirty_bitmap(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
/* All bits 0. backup not NULL: what was there goes to *backup, for bdrv_restore_dirty_bitmap or hbitmap_free. */
void bdrv_clear_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap **backup);
/* dst = dst OR src, of any two nodes. False with errp, nothing changed: dst busy, readonly or inconsistent; src
 * busy or inconsistent; sizes differ. backup not NULL: a copy of dst from before goes to *backup. */
bool bdrv_merge_dirty_bitmap(BdrvDirtyBitmap *dst, const BdrvDirtyBitmap *src, HBitmap **backup, Error **errp);
/* Puts back what clear or merge kept, and takes it. Nothing may have resized the bitmap meanwhile. */
void bdrv_restore_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap *backup);

/* --- successors (2.2) [seed 9bd2b08] ----------------------------------------------------------------------
 *
 * Who copies what a bitmap says freezes it: an anonymous child records from then on, until the copy is done
 * (abdicate: the child takes the name) or given up (reclaim: the child's bits come back).
 */

/* -EBUSY or -EINVAL with errp: busy, inconsistent, readonly or frozen already. The parent becomes busy and
 * disabled, the child is anonymous, of the same size and granularity, clean, and enabled if the parent was. Never
 * yields. */
int bdrv_dirty_bitmap_create_successor(BdrvDirtyBitmap *parent, Error **errp);
/* The child takes name and persistence, the parent is released. The child, or NULL with errp: no successor. */
BdrvDirtyBitmap *bdrv_dirty_bitmap_abdicate(BdrvDirtyBitmap *parent, Error **errp);
/* parent |= child, child released, parent thawed and as enabled as the child was. The parent, or NULL with errp. */
BdrvDirtyBitmap *bdrv_reclaim_dirty_bitmap(BdrvDirtyBitmap *parent, Error **errp);
/* Child records although the parent did not; for an incoming migration. */
void bdrv_dirty_bitmap_enable_successor(BdrvDirtyBitmap *parent);

/* Counted iterator: releasing or truncating the bitmap meanwhile is an assertion. The node's length must be > 0. */
typedef struct BdrvDirtyBitmapIter BdrvDirtyBitmapIter;
BdrvDirtyBitmapIter *bdrv_dirty_iter_new(BdrvDirtyBitmap *bitmap);
void bdrv_dirty_iter_free(BdrvDirtyBitmapIter *iter);
int64_t bdrv_dirty_iter_next(BdrvDirtyBitmapIter *iter); /* -1 at the end */
void bdrv_set_dirty_iter(BdrvDirtyBitmapIter *iter, int64_t offset);

/* --- storing (driver hooks; 3, 4) ------------------------------------------------------------------------- */

/* Whether bs could store one more of that name and granularity; false with the reference's text. Coroutine. */
bool bdrv_co_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name, uint32_t granularity, Error **errp);
/* Erases a persistent bitmap from the image; what was never stored is no error. 0 or -errno with errp. Coroutine.
 */
int bdrv_co_remove_persistent_dirty_bitmap(BlockDriverState *bs, const char *name, Error **errp);
/* For a driver that has stored them and gives the image up (2.4 inactivation). */
void bdrv_release_persistent_dirty_bitmaps(BlockDriverState *bs);
/* Any bitmap at all, even anonymous: an internal snapshot cannot be gone back to (2.4). */
bool bdrv_has_dirty_bitmaps(const BlockDriverState *bs);

/* For the request path (block/ only). */
void bdrv_set_dirty(BlockDriverState *bs, int64_t offset, int64_t bytes);
void bdrv_dirty_bitmap_truncate(BlockDriverState *bs, int64_t bytes);
bool bdrv_has_readonly_bitmaps(const BlockDriverState *bs);

#endif
