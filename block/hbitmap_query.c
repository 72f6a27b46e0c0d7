/* HBitmap: what is set where, and iterating over it (reference/bitmaps-qcow2.md 1.2, 1.3). */
#include "block/hbitmap_int.h"

int64_t hbitmap_length(const HBitmap *hb)
{
    return hb->length;
}

int hbitmap_granularity(const HBitmap *hb)
{
    return hb->granularity;
}

int64_t hbitmap_count(const HBitmap *hb)
{
    /* The last group may reach past what fits: 2^63-1 items at 64 KiB, all set. */
    if (hb->set_count > (uint64_t)INT64_MAX >> hb->granularity) {
        return INT64_MAX;
    }
    return (int64_t)(hb->set_count << hb->granularity);
}

bool hbitmap_empty(const HBitmap *hb)
{
    return hb->set_count == 0;
}

static uint64_t live_word(const HBitmap *hb, uint64_t w)
{
    const struct hbitmap_leaf *leaf = hbitmap_leaf_at(hb, w << 6);
    if (!hbitmap_is_real(leaf)) {
        return leaf == NULL ? 0 : ~(uint64_t)0;
    }
    return leaf->word[w & (HBITMAP_LEAF_WORDS - 1)];
}

bool hbitmap_get(const HBitmap *hb, int64_t item)
{
    uint64_t bit = (uint64_t)item >> hb->granularity;
    SIM_ASSERT_LE(0, item);
    SIM_ASSERT(bit < hb->bit_count);
    return live_word(hb, bit >> 6) >> (bit & 63) & 1;
}

/* --- searching ------------------------------------------------------------------------------------------ */

static uint64_t leaf_find_set(const struct hbitmap_leaf *leaf, uint64_t from)
{
    uint64_t w = from >> 6;
    uint64_t rest = leaf->word[w] & ~(uint64_t)0 << (from & 63);
    if (rest == 0) {
        uint64_t later = leaf->any & ~(uint64_t)1 << w;
        if (later == 0) {
            return HBITMAP_NONE;
        }
        w = (uint64_t)__builtin_ctzll(later);
        rest = leaf->word[w];
    }
    return (w << 6) + (uint64_t)__builtin_ctzll(rest);
}

/* First set bit at or after `from`, both relative to the slot. */
static uint64_t find_set(const void *slot, int level, uint64_t from)
{
    if (!hbitmap_is_real(slot)) {
        return slot == NULL ? HBITMAP_NONE : from;
    }
    if (level == 0) {
        return leaf_find_set(slot, from);
    }
    const struct hbitmap_node *node = slot;
    int shift = hbitmap_span_bits(level - 1);
    uint64_t low = ((uint64_t)1 << shift) - 1;
    uint64_t left = node->any & ~(uint64_t)0 << (from >> shift);
    for (; left != 0; left &= left - 1) {
        uint64_t c = (uint64_t)__builtin_ctzll(left);
        uint64_t found = find_set(node->child[c], level - 1, c == from >> shift ? from & low : 0);
        if (found != HBITMAP_NONE) {
            return (c << shift) + found;
        }
    }
    return HBITMAP_NONE;
}

/* First set bit at or after `from`, which is inside the bit count, and the rest of its word from it on. Most often
 * both lie in the leaf of `from`, and one way down finds them. */
static inline uint64_t next_set(const HBitmap *hb, uint64_t from, uint64_t *rest)
{
    const struct hbitmap_leaf *leaf = hbitmap_leaf_at(hb, from);
    uint64_t found = HBITMAP_NONE;
    if (leaf == HBITMAP_FULL) {
        *rest = ~(uint64_t)0 << (from & 63);
        return from;
    }
    if (leaf != NULL) {
        uint64_t in_leaf = leaf_find_set(leaf, from & HBITMAP_LEAF_MASK);
        found = in_leaf == HBITMAP_NONE ? HBITMAP_NONE : (from & ~HBITMAP_LEAF_MASK) + in_leaf;
    }
    if (found == HBITMAP_NONE) {
        found = find_set(hb->root, hb->height, from);
        leaf = found == HBITMAP_NONE ? NULL : hbitmap_leaf_at(hb, found);
    }
    if (leaf == NULL) {
        return HBITMAP_NONE;
    }
    uint64_t word = leaf == HBITMAP_FULL ? ~(uint64_t)0 : leaf->word[(found & HBITMAP_LEAF_MASK) >> 6];
    *rest = word & ~(uint64_t)0 << (found & 63);
    return found;
}

static uint64_t leaf_find_clear(const struct hbitmap_leaf *leaf, uint64_t from)
{
    uint64_t w = from >> 6;
    uint64_t rest = ~leaf->word[w] & ~(uint64_t)0 << (from & 63);
    while (rest == 0) {
        if (++w == HBITMAP_LEAF_WORDS) {
            return HBITMAP_NONE;
        }
        rest = ~leaf->word[w];
    }
    return (w << 6) + (uint64_t)__builtin_ctzll(rest);
}

/* First clear bit at or after `from`; it may lie beyond the bit count. */
static uint64_t find_clear(const void *slot, int level, uint64_t from)
{
    if (!hbitmap_is_real(slot)) {
        return slot == NULL ? from : HBITMAP_NONE;
    }
    if (level == 0) {
        return leaf_find_clear(slot, from);
    }
    const struct hbitmap_node *node = slot;
    int shift = hbitmap_span_bits(level - 1);
    uint64_t low = ((uint64_t)1 << shift) - 1;
    uint64_t left = ~node->full & ~(uint64_t)0 << (from >> shift);
    for (; left != 0; left &= left - 1) {
        uint64_t c = (uint64_t)__builtin_ctzll(left);
        uint64_t found = find_clear(node->child[c], level - 1, c == from >> shift ? from & low : 0);
        if (found != HBITMAP_NONE) {
            return (c << shift) + found;
        }
    }
    return HBITMAP_NONE;
}

/* Turns a found bit into an item of [start, start+count), or -1. */
static int64_t clip_found(const HBitmap *hb, uint64_t bit, int64_t start, int64_t count)
{
    if (bit >= hb->bit_count) {
        return -1;
    }
    int64_t item = MAX((int64_t)(bit << hb->granularity), start);
    int64_t end = count < hb->length - start ? start + count : hb->length;
    return item < end ? item : -1;
}

int64_t hbitmap_next_dirty(const HBitmap *hb, int64_t start, int64_t count)
{
    SIM_ASSERT(start >= 0 && count >= 0);
    if (start >= hb->length || count == 0) {
        return -1;
    }
    uint64_t rest;
    return clip_found(hb, next_set(hb, (uint64_t)start >> hb->granularity, &rest), start, count);
}

int64_t hbitmap_next_zero(const HBitmap *hb, int64_t start, int64_t count)
{
    SIM_ASSERT(start >= 0 && count >= 0);
    if (start >= hb->length || count == 0) {
        return -1;
    }
    return clip_found(hb, find_clear(hb->root, hb->height, (uint64_t)start >> hb->granularity), start, count);
}

bool hbitmap_next_dirty_area(const HBitmap *hb, int64_t start, int64_t end, int64_t max_count, int64_t *area_start,
                             int64_t *area_count)
{
    SIM_ASSERT(start >= 0 && end >= 0);
    SIM_ASSERT_LT(0, max_count);
    end = MIN(end, hb->length);
    int64_t first = start < end ? hbitmap_next_dirty(hb, start, end - start) : -1;
    if (first < 0) {
        return false;
    }
    int64_t count = MIN(end - first, max_count);
    int64_t zero = hbitmap_next_zero(hb, first, count);
    *area_start = first;
    *area_count = zero < 0 ? count : zero - first;
    return true;
}

bool hbitmap_status(const HBitmap *hb, int64_t start, int64_t count, int64_t *run)
{
    SIM_ASSERT(start >= 0 && count > 0);
    SIM_ASSERT(start <= hb->length && count <= hb->length - start);
    bool dirty = hbitmap_get(hb, start);
    int64_t change = dirty ? hbitmap_next_zero(hb, start, count) : hbitmap_next_dirty(hb, start, count);
    *run = change < 0 ? count : change - start;
    return dirty;
}

/* --- iterating ------------------------------------------------------------------------------------------ */

void hbitmap_iter_init(HBitmapIter *iter, const HBitmap *hb, int64_t first_item)
{
    SIM_ASSERT_LE(0, first_item);
    SIM_ASSERT((uint64_t)first_item >> hb->granularity < hb->bit_count);
    *iter = (HBitmapIter){
        .hb = hb,
        .next_bit = (uint64_t)first_item >> hb->granularity,
        .resets = hb->resets,
    };
}

/* Loads the next word that has something set from the leaf of the last one; false when it has no more or is gone.
 */
static inline bool iter_next_in_leaf(HBitmapIter *iter)
{
    const struct hbitmap_leaf *leaf = iter->leaf;
    unsigned next = iter->next_bit >> 6 & (HBITMAP_LEAF_WORDS - 1);
    if (leaf == NULL || iter->leaf_moves != iter->hb->leaf_moves || next == 0) {
        return false;
    }
    uint64_t later = leaf->any >> next;
    if (later == 0) {
        return false;
    }
    unsigned skip = (unsigned)__builtin_ctzll(later);
    iter->word = leaf->word[next + skip];
    iter->word_index = (iter->next_bit >> 6) + skip;
    iter->next_bit = (iter->word_index + 1) << 6;
    return true;
}

/* Loads the next word that has something set; false at the end. */
static bool iter_next_word(HBitmapIter *iter)
{
    const HBitmap *hb = iter->hb;
    if (iter_next_in_leaf(iter)) {
        return true;
    }
    if (iter->next_bit >= hb->bit_count) {
        return false;
    }
    uint64_t bit = next_set(hb, iter->next_bit, &iter->word);
    if (bit == HBITMAP_NONE) {
        return false;
    }
    const void *leaf = hbitmap_leaf_at(hb, bit);
    iter->leaf = hbitmap_is_real(leaf) ? leaf : NULL;
    iter->leaf_moves = hb->leaf_moves;
    iter->word_index = bit >> 6;
    iter->next_bit = (iter->word_index + 1) << 6;
    return true;
}

int64_t hbitmap_iter_next(HBitmapIter *iter)
{
    const HBitmap *hb = iter->hb;
    if (iter->resets != hb->resets) {
        iter->resets = hb->resets;
        if (iter->word != 0) {
            iter->word &= live_word(hb, iter->word_index);
        }
    }
    if (iter->word == 0 && !iter_next_word(iter)) {
        return -1;
    }
    uint64_t bit = (iter->word_index << 6) + (uint64_t)__builtin_ctzll(iter->word);
    iter->word &= iter->word - 1;
    return (int64_t)(bit << hb->granularity);
}
