/*
 * HBitmap: a set of bits over a range of items, with hierarchical search (reference/bitmaps-qcow2.md 1).
 *
 * Created with a length in items (the block layer uses bytes) and a granularity exponent: bit b stands for the
 * items [b << granularity, (b + 1) << granularity). Marking rounds outward, clearing takes whole groups only.
 * Memory and the cost of create and free follow what is set, not the length: leaves exist on demand.
 *
 * Preconditions are asserted: they are programming errors (1.2).
 */
#ifndef BLOCK_HBITMAP_H
#define BLOCK_HBITMAP_H

#include "sim/sim.h"

typedef struct HBitmap HBitmap;

/* items 0..INT64_MAX, granularity 0..63 (9..31 in the block layer). Nothing is set. Lives in arena. */
HBitmap *hbitmap_alloc(struct sim_arena *arena, int64_t items, int granularity);
/* The same items, granularity and bits, in the same arena. */
HBitmap *hbitmap_copy(const HBitmap *hb);
void hbitmap_free(HBitmap *hb);

int64_t hbitmap_length(const HBitmap *hb);
int hbitmap_granularity(const HBitmap *hb);
/* Items in set groups; may exceed the length when the last group is partial (INT64_MAX when that does not fit). */
int64_t hbitmap_count(const HBitmap *hb);
bool hbitmap_empty(const HBitmap *hb);
/* item may lie beyond the length, inside the last group. */
bool hbitmap_get(const HBitmap *hb, int64_t item);
/* Rounds outward. The last item touched must be in the last group at most. */
void hbitmap_set(HBitmap *hb, int64_t start, int64_t count);
/* start is a multiple of the group; so is count, unless it reaches the length exactly. */
void hbitmap_reset(HBitmap *hb, int64_t start, int64_t count);
void hbitmap_reset_all(HBitmap *hb);

/* First dirty/clean item in [start, start+count), or -1. INT64_MAX: to the end. */
int64_t hbitmap_next_dirty(const HBitmap *hb, int64_t start, int64_t count);
int64_t hbitmap_next_zero(const HBitmap *hb, int64_t start, int64_t count);
/* Outputs untouched and false when there is none. max_count > 0. */
bool hbitmap_next_dirty_area(const HBitmap *hb, int64_t start, int64_t end, int64_t max_count, int64_t *area_start,
                             int64_t *area_count);
/* State at start and the run of it, at most count; count > 0, inside the length. */
bool hbitmap_status(const HBitmap *hb, int64_t start, int64_t count, int64_t *run);

/* The bitmap must have length > 0 when the iterator is made. A bit set behind or at the cursor's word may be
 * missed; a bit reset and not yet returned is never returned (1.3). Truncating and deserialising end all
 * iterators. An iterator owns nothing. */
typedef struct HBitmapIter {
    const HBitmap *hb;
    uint64_t next_bit;   /* first bit not yet looked at */
    uint64_t word;       /* cached rest of the word before it */
    uint64_t word_index; /* which word that is, while word is not 0 */
    uint64_t resets;     /* the bitmap's count of clearings when word was last known to be live */
    const void *leaf;    /* where word comes from, or NULL */
    uint64_t leaf_moves; /* the bitmap's count of leaves taken out when leaf was last known to be in place */
} HBitmapIter;
void hbitmap_iter_init(HBitmapIter *iter, const HBitmap *hb, int64_t first_item);
/* First item of the next dirty group, or -1. */
int64_t hbitmap_iter_next(HBitmapIter *iter);

/* Groups wholly beyond the new length lose their bit; the last one keeps its own; new ones are clean (1.4). */
void hbitmap_truncate(HBitmap *hb, int64_t items);
/* dst = dst OR src; equal lengths; granularities may differ (1.5): a fine source rounds outward, a coarse one
 * marks whole groups up to the length. dst may be src. */
void hbitmap_merge(HBitmap *dst, const HBitmap *src);

/* The bits as little-endian 64-bit words, in parts (1.6). A part starts on a multiple of 64 << granularity items
 * and ends on one or at the length. Only granularities below 58 have this form. */
uint64_t hbitmap_serialization_align(const HBitmap *hb);
/* Bytes of that part: 8 for each word touched. */
int64_t hbitmap_serialization_size(const HBitmap *hb, int64_t start, int64_t count);
void hbitmap_serialize_part(const HBitmap *hb, uint8_t *buf, int64_t start, int64_t count);
/* Bits beyond the length are masked off: stored garbage never becomes dirt when the disk grows. */
void hbitmap_deserialize_part(HBitmap *hb, const uint8_t *buf, int64_t start, int64_t count);
void hbitmap_deserialize_zeroes(HBitmap *hb, int64_t start, int64_t count);
void hbitmap_deserialize_ones(HBitmap *hb, int64_t start, int64_t count);
/* Lower-case hex SHA-256 of the words, at least one (1.7). out holds 65 bytes. */
void hbitmap_sha256(const HBitmap *hb, char out[65]);
/* Bytes of memory in use now. */
uint64_t hbitmap_memory_bytes(const HBitmap *hb);

#endif
