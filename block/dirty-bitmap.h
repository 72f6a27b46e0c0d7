/*
 * Dirty bitmaps of a node (reference/bitmaps-qcow2.md 2).
 *
 * A node owns a list of bitmaps, newest first. Whoever creates one releases it; named ones may also go with the
 * node. Every enabled bitmap is marked after the driver call of a write, zero write, discard, whatever its result,
 * before the request completes to its submitter (2.3).
 *
 * The state of a bitmap. Historically it was enabled, disabled or frozen; frozen is today's busy with a successor,
 * and `recording` is told for what is enabled or has an enabled successor (2.2).
 *
 *                disable                        set_busy
 *     ENABLED <----------> DISABLED  ENABLED or <------> TAKEN           persistent
 *        |       enable       |      DISABLED                      DISABLED ---> INCONSISTENT ---> released
 *        | create_successor   |                                        set_inconsistent
 *        +--------+-----------+
 *                 v
 *               FROZEN ---- reclaim ----> as enabled as the successor was, which is as the bitmap was before
 *                    \----- abdicate ---> released; the successor is the bitmap of that name from now on
 *
 * What one may do in which state: yes; error: refused with a message; skip: a group operation passes it over;
 * "-": the caller is at fault, an assertion (the literal table is in block/dirty-bitmap-state.c).
 *
 *                                  enabled  disabled  taken  frozen  inconsistent
 *     set, reset (the owner)         yes      yes      yes      -         -
 *     clear, restore                 yes      yes      yes      -         -
 *     deserialize                    yes      yes      yes     yes        -
 *     enable                         yes      yes      yes      -         -
 *     disable                        yes      yes      yes      -        yes
 *     set_busy                       yes      yes      yes      -        yes
 *     create_successor               yes      yes     error   error     error
 *     abdicate, reclaim             error    error    error    yes      error
 *     merge: destination or source   yes      yes     error   error     error
 *     release                        yes      yes       -       -        yes
 *     mark after I/O (group)         yes      skip   as set    skip      skip
 *     truncate with the node (group) yes      yes      yes     skip      yes
 *
 * Beside the state: a readonly bitmap is never set, reset, cleared, restored or merged into (assertion; merge says
 * so), and as long as a node has one, every write, zero write and discard of the node fails with EPERM before its
 * driver is asked. One with live iterators is not released.
 *
 * Length. Bitmaps follow the length of their node. Who keeps a bitmap busy, frozen or iterated across a yield holds
 * a BlockBackend (or job edge) on the node that does not share RESIZE: no resize can come then, nor one through
 * another node of the same medium. Where the length changes all the same, because the medium is somebody else's
 * too, nothing breaks and no bit is lost: a frozen bitmap keeps its size until it is thawed (its successor follows
 * at once), all others follow at once, and iterators go on from where they were.
 *
 * Nothing here yields but what is marked as coroutine context.
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

enum bdrv_bitmap_state {
    BDRV_BITMAP_STATE_ENABLED,
    BDRV_BITMAP_STATE_DISABLED,
    BDRV_BITMAP_STATE_TAKEN,  /* busy without successor, enabled or not */
    BDRV_BITMAP_STATE_FROZEN, /* busy, with successor */
    BDRV_BITMAP_STATE_INCONSISTENT,
    BDRV_BITMAP_STATE_COUNT
};
enum bdrv_bitmap_state bdrv_dirty_bitmap_state(const BdrvDirtyBitmap *bitmap);

/* granularity: power of two 512..2^31 bytes. name NULL: anonymous. NULL with errp: name taken or too long,
 * "could not get length of device" [seed b8afb52]. Coroutine context (asks the length). */
BdrvDirtyBitmap *bdrv_create_dirty_bitmap(BlockDriverState *bs, uint32_t granularity, const char *name,
                                          Error **errp);
/* No iterator, not busy, no successor: else an assertion. */
void bdrv_release_dirty_bitmap(BdrvDirtyBitmap *bitmap);
void bdrv_release_named_dirty_bitmaps(BlockDriverState *bs);
BdrvDirtyBitmap *bdrv_find_dirty_bitmap(BlockDriverState *bs, const char *name);
/* Newest first; NULL starts and ends. */
BdrvDirtyBitmap *bdrv_dirty_bitmap_next(const BlockDriverState *bs, const BdrvDirtyBitmap *after);
/* Cluster size clamped to [4 KiB, 64 KiB], 64 KiB if unknown [seed]. Coroutine context (asks for it). */
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
/* The first dirty area of [offset, end), at most max_bytes (> 0) of it. False, outputs untouched: none. */
bool bdrv_dirty_bitmap_next_dirty_area(const BdrvDirtyBitmap *bitmap, int64_t offset, int64_t end,
                                       int64_t max_bytes, int64_t *area_offset, int64_t *area_bytes);
/* Whether offset is dirty, and in *run how far that goes, at most bytes; bytes > 0, inside the size. */
bool bdrv_dirty_bitmap_status(const BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes, int64_t *run);
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
/* The owner of an anonymous bitmap is told of every request that has marked it, and by which edge that came: who clears
 * what he has cared for has to know whether somebody else wrote there meanwhile. Called before the request completes;
 * must not yield. */
typedef void BdrvDirtyNotify(void *opaque, const BdrvChild *via, int64_t offset, int64_t bytes);
void bdrv_dirty_bitmap_set_notify(BdrvDirtyBitmap *bitmap, BdrvDirtyNotify *notify, void *opaque);
/* All bits 0. backup not NULL: what was there goes to *backup, for bdrv_restore_dirty_bitmap or hbitmap_free. */
void bdrv_clear_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap **backup);
/* dst = dst OR src, of any two nodes. False with errp, nothing changed: dst busy, readonly or inconsistent; src
 * busy or inconsistent; sizes differ. backup not NULL: a copy of dst from before goes to *backup. */
bool bdrv_merge_dirty_bitmap(BdrvDirtyBitmap *dst, const BdrvDirtyBitmap *src, HBitmap **backup, Error **errp);
/* Puts back what clear or merge kept, and takes it. If the bitmap was resized meanwhile, it is cut or grown too. */
void bdrv_restore_dirty_bitmap(BdrvDirtyBitmap *bitmap, HBitmap *backup);

/* --- successors (2.2) [seed 9bd2b08] ----------------------------------------------------------------------
 *
 * Who copies what a bitmap says freezes it: an anonymous child records from then on, until the copy is done
 * (abdicate: the child takes the name) or given up (reclaim: the child's bits come back).
 */

/* -EBUSY or -EINVAL with errp: busy, frozen already, inconsistent. The parent becomes busy and disabled, the child
 * is anonymous, of the same size and granularity, clean, and enabled if the parent was. The parent keeps its name:
 * it is found by it, and nobody else can have it. A readonly one may be frozen (backup that will not change it). */
int bdrv_dirty_bitmap_create_successor(BdrvDirtyBitmap *parent, Error **errp);
/* The child takes name, persistence and readonly, the parent is released. The child, or NULL with errp: no
 * successor. */
BdrvDirtyBitmap *bdrv_dirty_bitmap_abdicate(BdrvDirtyBitmap *parent, Error **errp);
/* parent |= child, child released, parent thawed and as enabled as the child was: a disabled bitmap is not switched
 * on. The parent, or NULL with errp: no successor. */
BdrvDirtyBitmap *bdrv_reclaim_dirty_bitmap(BdrvDirtyBitmap *parent, Error **errp);
/* Child records although the parent did not; for an incoming migration. */
void bdrv_dirty_bitmap_enable_successor(BdrvDirtyBitmap *parent);

/* --- iterators --------------------------------------------------------------------------------------------
 *
 * Counted: releasing the bitmap meanwhile is an assertion. The bitmap's size must be > 0. Bits may be set and reset
 * meanwhile, the bitmap cleared, restored and resized: what is reset is not returned any more, what is set behind
 * the iterator or in its present word may be missed (1.3).
 */
typedef struct BdrvDirtyBitmapIter BdrvDirtyBitmapIter;
BdrvDirtyBitmapIter *bdrv_dirty_iter_new(BdrvDirtyBitmap *bitmap);
void bdrv_dirty_iter_free(BdrvDirtyBitmapIter *iter);
int64_t bdrv_dirty_iter_next(BdrvDirtyBitmapIter *iter); /* -1 at the end */
void bdrv_set_dirty_iter(BdrvDirtyBitmapIter *iter, int64_t offset);

/* --- the bits as bytes (1.6) ------------------------------------------------------------------------------
 *
 * Parts start on multiples of align and end on one or at the size. Reading back: any number of parts, each with its
 * bytes, as zeroes or as ones, then finish (or finish with the last part); until then nobody else may look at the
 * bitmap. No iterator may live. Bits beyond the size are dropped.
 */
int64_t bdrv_dirty_bitmap_serialization_align(const BdrvDirtyBitmap *bitmap);
int64_t bdrv_dirty_bitmap_serialization_size(const BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes);
void bdrv_dirty_bitmap_serialize_part(const BdrvDirtyBitmap *bitmap, uint8_t *buf, int64_t offset, int64_t bytes);
void bdrv_dirty_bitmap_deserialize_part(BdrvDirtyBitmap *bitmap, const uint8_t *buf, int64_t offset, int64_t bytes,
                                        bool finish);
void bdrv_dirty_bitmap_deserialize_zeroes(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes, bool finish);
void bdrv_dirty_bitmap_deserialize_ones(BdrvDirtyBitmap *bitmap, int64_t offset, int64_t bytes, bool finish);
void bdrv_dirty_bitmap_deserialize_finish(BdrvDirtyBitmap *bitmap);

/* --- storing (driver hooks; 3, 4) ------------------------------------------------------------------------- */

/* Whether bs could store one more of that name and granularity; false with the reference's text. Coroutine. */
bool bdrv_co_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name, uint32_t granularity, Error **errp);
/* Erases a persistent bitmap from the image; what was never stored is no error. 0 or -errno with errp. Coroutine.
 */
int bdrv_co_remove_persistent_dirty_bitmap(BlockDriverState *bs, const char *name, Error **errp);
/* Persistent, and neither skip_store nor inconsistent nor readonly: the driver is to write it. */
bool bdrv_dirty_bitmap_storable(const BdrvDirtyBitmap *bitmap);
/* For a driver that loads what is stored, on a disk of that size: clean, and nothing is asked. The name is free; it
 * may be empty, as images may have it. */
BdrvDirtyBitmap *bdrv_load_dirty_bitmap(BlockDriverState *bs, int64_t size_bytes, uint32_t granularity,
                                        const char *name);
/* A copy of the bits that the image is to hold, for hbitmap_free. Of a frozen bitmap these are the successor's too:
 * nobody knows yet whether the parent's will be needed again. */
HBitmap *bdrv_dirty_bitmap_bits_to_store(const BdrvDirtyBitmap *bitmap);
/* Has the driver write the storable ones; nothing is written when there are none. 0 or -errno with errp: the image
 * is not writable, inactive or cannot keep them, or the driver failed; they are lost then. Coroutine. */
int bdrv_co_store_dirty_bitmaps(BlockDriverState *bs, Error **errp);
/* For a driver that has stored them and gives the image up (2.4 inactivation). */
void bdrv_release_persistent_dirty_bitmaps(BlockDriverState *bs);

/* --- life of the node (2.4) --------------------------------------------------------------------------------
 *
 * Called by whoever changes the node. An external snapshot needs no call: bitmaps stay with the old node.
 */

/* Any bitmap at all, even anonymous. */
bool bdrv_has_dirty_bitmaps(const BlockDriverState *bs);
/* -EBUSY, "Device has active dirty bitmaps", when there is one: no internal snapshot can be gone back to. */
int bdrv_check_no_dirty_bitmaps(const BlockDriverState *bs, Error **errp);
/* The node closes, its driver still open: what is persistent is stored; what cannot be is lost, which an event
 * says. Releases nothing. On the main coroutine. */
void bdrv_close_dirty_bitmaps(BlockDriverState *bs);
/* Before bs becomes read-only: stored, kept in memory, and readonly. 0, or -errno with errp and nothing changed.
 * Coroutine. */
int bdrv_co_reopen_dirty_bitmaps_ro(BlockDriverState *bs, Error **errp);
/* After bs became writable: in use in the image, then readonly no more. A failure is no reason to stay read-only:
 * -errno with errp, and they stay readonly, so that writes keep failing. Coroutine. */
int bdrv_co_reopen_dirty_bitmaps_rw(BlockDriverState *bs, Error **errp);
/* Before bs is given up: persistent ones are stored and released (but not those with skip_store), others stay. 0,
 * or -errno with errp and nothing changed: one to be released is busy, storing failed. Coroutine. */
int bdrv_co_inactivate_dirty_bitmaps(BlockDriverState *bs, Error **errp);
/* Whether that would be refused, without doing any of it: -EBUSY. */
int bdrv_check_inactivate_dirty_bitmaps(const BlockDriverState *bs, Error **errp);
/* bs is ours again, before its driver loads what is stored: nothing is skipped by the next store. */
void bdrv_activate_dirty_bitmaps(BlockDriverState *bs);

/* For the request path (block/ only). via: the edge by which the request came, NULL for no known one. */
void bdrv_set_dirty(BlockDriverState *bs, int64_t offset, int64_t bytes);
void bdrv_set_dirty_via(BlockDriverState *bs, const BdrvChild *via, int64_t offset, int64_t bytes);
void bdrv_dirty_bitmap_truncate(BlockDriverState *bs, int64_t bytes);
bool bdrv_has_readonly_bitmaps(const BlockDriverState *bs);

#endif
