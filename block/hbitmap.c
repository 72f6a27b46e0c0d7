/* HBitmap: setting, resetting and truncating (reference/bitmaps-qcow2.md 1.2, 1.4). */
#include "block/hbitmap_int.h"

#include <string.h>

/* Bits lo..hi of a word. */
static inline uint64_t word_mask(unsigned lo, unsigned hi)
{
    return (~(uint64_t)0 << lo) & (~(uint64_t)0 >> (63 - hi));
}

/* --- leaves --------------------------------------------------------------------------------------------- */

static inline void leaf_set_word(struct hbitmap_leaf *leaf, unsigned w, uint64_t mask)
{
    uint64_t fresh = mask & ~leaf->word[w];
    if (fresh != 0) {
        leaf->word[w] |= fresh;
        leaf->any |= (uint64_t)1 << w;
        leaf->count += (fresh & (fresh - 1)) == 0 ? 1 : (unsigned)__builtin_popcountll(fresh);
    }
}

static inline void leaf_reset_word(struct hbitmap_leaf *leaf, unsigned w, uint64_t mask)
{
    uint64_t gone = mask & leaf->word[w];
    if (gone != 0) {
        leaf->word[w] &= ~gone;
        leaf->any &= ~((uint64_t)(leaf->word[w] == 0) << w);
        leaf->count -= (gone & (gone - 1)) == 0 ? 1 : (unsigned)__builtin_popcountll(gone);
    }
}

/* Calls op on each word of the bits lo..hi of a leaf. */
static inline void leaf_each_word(struct hbitmap_leaf *leaf, unsigned lo, unsigned hi,
                                  void (*op)(struct hbitmap_leaf *leaf, unsigned w, uint64_t mask))
{
    unsigned first = lo >> 6;
    unsigned last = hi >> 6;
    if (first == last) {
        op(leaf, first, word_mask(lo & 63, hi & 63));
        return;
    }
    for (unsigned w = first; w <= last; w++) {
        op(leaf, w, word_mask(w == first ? lo & 63 : 0, w == last ? hi & 63 : 63));
    }
}

/* --- changing ------------------------------------------------------------------------------------------- */

static bool covers_slot(int level, uint64_t first, uint64_t last)
{
    int span = hbitmap_span_bits(level);
    return span < 64 && first == 0 && last == ((uint64_t)1 << span) - 1;
}

/* first, last: relative to the slot. */
static void set_slot(HBitmap *hb, void **slot, int level, uint64_t first, uint64_t last)
{
    if (*slot == HBITMAP_FULL) {
        return;
    }
    if (covers_slot(level, first, last)) {
        hb->set_count += last + 1 - hbitmap_drop_slot(hb, slot, level);
        *slot = HBITMAP_FULL;
        return;
    }
    if (level == 0) {
        struct hbitmap_leaf *leaf = *slot != NULL ? *slot : hbitmap_leaf_new(hb);
        *slot = leaf;
        hb->set_count -= leaf->count;
        leaf_each_word(leaf, (unsigned)first, (unsigned)last, leaf_set_word);
        hb->set_count += leaf->count;
        if (hbitmap_leaf_is_full(leaf)) {
            hbitmap_leaf_release(hb, leaf);
            *slot = HBITMAP_FULL;
        }
        return;
    }
    struct hbitmap_node *node = *slot != NULL ? *slot : hbitmap_node_new(hb);
    *slot = node;
    int shift = hbitmap_span_bits(level - 1);
    uint64_t low = ((uint64_t)1 << shift) - 1;
    for (uint64_t c = first >> shift; c <= last >> shift; c++) {
        set_slot(hb, &node->child[c], level - 1, c == first >> shift ? first & low : 0,
                 c == last >> shift ? last & low : low);
        hbitmap_node_note_child(node, (unsigned)c);
    }
    if (~node->full == 0) {
        hbitmap_node_free(hb, node);
        *slot = HBITMAP_FULL;
    }
}

/* A full slot gets memory, so that a part of it can be cleared. */
static void expand_slot(HBitmap *hb, void **slot, int level)
{
    if (level == 0) {
        struct hbitmap_leaf *leaf = hbitmap_leaf_new(hb);
        memset(leaf->word, 0xff, sizeof(leaf->word));
        leaf->any = ~(uint64_t)0 >> (64 - HBITMAP_LEAF_WORDS);
        leaf->count = (uint64_t)1 << HBITMAP_LEAF_BITS;
        *slot = leaf;
        return;
    }
    struct hbitmap_node *node = hbitmap_node_new(hb);
    for (size_t c = 0; c < ARRAY_SIZE(node->child); c++) {
        node->child[c] = HBITMAP_FULL;
    }
    node->any = ~(uint64_t)0;
    node->full = ~(uint64_t)0;
    *slot = node;
}

static void reset_slot(HBitmap *hb, void **slot, int level, uint64_t first, uint64_t last)
{
    if (*slot == NULL) {
        return;
    }
    if (covers_slot(level, first, last)) {
        hb->set_count -= hbitmap_drop_slot(hb, slot, level);
        return;
    }
    if (*slot == HBITMAP_FULL) {
        expand_slot(hb, slot, level);
    }
    if (level == 0) {
        struct hbitmap_leaf *leaf = *slot;
        hb->set_count -= leaf->count;
        leaf_each_word(leaf, (unsigned)first, (unsigned)last, leaf_reset_word);
        hb->set_count += leaf->count;
        if (leaf->any == 0) {
            hbitmap_leaf_release(hb, leaf);
            *slot = NULL;
        }
        return;
    }
    struct hbitmap_node *node = *slot;
    int shift = hbitmap_span_bits(level - 1);
    uint64_t low = ((uint64_t)1 << shift) - 1;
    for (uint64_t c = first >> shift; c <= last >> shift; c++) {
        reset_slot(hb, &node->child[c], level - 1, c == first >> shift ? first & low : 0,
                   c == last >> shift ? last & low : low);
        hbitmap_node_note_child(node, (unsigned)c);
    }
    if (node->any == 0) {
        hbitmap_node_free(hb, node);
        *slot = NULL;
    }
}

/* One bit of a leaf that is there, without a branch: whether it is set already is anybody's guess, and a wrong one
 * costs more than all the rest. */
static inline void leaf_set_bit(HBitmap *hb, struct hbitmap_leaf *leaf, uint64_t bit)
{
    unsigned w = bit >> 6 & (HBITMAP_LEAF_WORDS - 1);
    uint64_t old = leaf->word[w];
    uint64_t fresh = ~(old >> (bit & 63)) & 1;
    leaf->word[w] = old | (uint64_t)1 << (bit & 63);
    leaf->any |= (uint64_t)1 << w;
    leaf->count += fresh;
    hb->set_count += fresh;
}

static inline void leaf_reset_bit(HBitmap *hb, struct hbitmap_leaf *leaf, uint64_t bit)
{
    unsigned w = bit >> 6 & (HBITMAP_LEAF_WORDS - 1);
    uint64_t old = leaf->word[w];
    uint64_t rest = old & ~((uint64_t)1 << (bit & 63));
    uint64_t gone = old >> (bit & 63) & 1;
    leaf->word[w] = rest;
    leaf->any &= ~((uint64_t)(rest == 0) << w);
    leaf->count -= gone;
    hb->set_count -= gone;
}

/* The slot of a bit's leaf when it has memory behind it: nothing above needs to change then. */
static inline struct hbitmap_leaf *real_leaf_at(const HBitmap *hb, uint64_t bit)
{
    void *leaf = hbitmap_leaf_at(hb, bit);
    return hbitmap_is_real(leaf) ? leaf : NULL;
}

static bool in_one_leaf(uint64_t first, uint64_t last)
{
    return first >> HBITMAP_LEAF_BITS == last >> HBITMAP_LEAF_BITS;
}

/* Kept apart, so that the usual case above it needs no stack. */
static __attribute__((noinline)) void set_range(HBitmap *hb, uint64_t first, uint64_t last)
{
    struct hbitmap_leaf *leaf = in_one_leaf(first, last) ? real_leaf_at(hb, first) : NULL;
    if (leaf != NULL) {
        uint64_t before = leaf->count;
        leaf_each_word(leaf, first & HBITMAP_LEAF_MASK, last & HBITMAP_LEAF_MASK, leaf_set_word);
        hb->set_count += leaf->count - before;
        if (!hbitmap_leaf_is_full(leaf)) {
            return;
        }
    }
    set_slot(hb, &hb->root, hb->height, first, last);
}

static __attribute__((noinline)) void reset_range(HBitmap *hb, uint64_t first, uint64_t last)
{
    struct hbitmap_leaf *leaf = in_one_leaf(first, last) ? real_leaf_at(hb, first) : NULL;
    if (leaf != NULL) {
        uint64_t before = leaf->count;
        leaf_each_word(leaf, first & HBITMAP_LEAF_MASK, last & HBITMAP_LEAF_MASK, leaf_reset_word);
        hb->set_count -= before - leaf->count;
        if (leaf->any != 0) {
            return;
        }
    }
    reset_slot(hb, &hb->root, hb->height, first, last);
}

void hbitmap_set_bits(HBitmap *hb, uint64_t first, uint64_t last)
{
    SIM_ASSERT(first <= last && last < hb->bit_count);
    struct hbitmap_leaf *leaf = first == last ? real_leaf_at(hb, first) : NULL;
    if (leaf != NULL) {
        leaf_set_bit(hb, leaf, first);
        if (!hbitmap_leaf_is_full(leaf)) {
            return;
        }
    }
    set_range(hb, first, last);
}

void hbitmap_set_word(HBitmap *hb, uint64_t w, uint64_t value)
{
    if (value == 0) {
        return;
    }
    SIM_ASSERT((w << 6) + 63 - (unsigned)__builtin_clzll(value) < hb->bit_count);
    uint64_t bit = (w << 6) + (unsigned)__builtin_ctzll(value);
    struct hbitmap_leaf *leaf = real_leaf_at(hb, bit);
    if (leaf == NULL) {
        set_range(hb, bit, bit); /* the leaf is there from now on, unless it was full */
        leaf = real_leaf_at(hb, bit);
    }
    if (leaf != NULL) {
        uint64_t before = leaf->count;
        leaf_set_word(leaf, w & (HBITMAP_LEAF_WORDS - 1), value);
        hb->set_count += leaf->count - before;
        if (hbitmap_leaf_is_full(leaf)) {
            set_range(hb, bit, bit);
        }
    }
}

void hbitmap_reset_bits(HBitmap *hb, uint64_t first, uint64_t last)
{
    SIM_ASSERT(first <= last && last < hb->bit_count);
    hb->resets++;
    struct hbitmap_leaf *leaf = first == last ? real_leaf_at(hb, first) : NULL;
    if (leaf != NULL) {
        leaf_reset_bit(hb, leaf, first);
        if (leaf->any != 0) {
            return;
        }
    }
    reset_range(hb, first, last);
}

void hbitmap_set(HBitmap *hb, int64_t start, int64_t count)
{
    SIM_ASSERT(start >= 0 && count >= 0);
    if (count == 0) {
        return;
    }
    hbitmap_set_bits(hb, (uint64_t)start >> hb->granularity,
                     ((uint64_t)start + (uint64_t)count - 1) >> hb->granularity);
}

void hbitmap_reset(HBitmap *hb, int64_t start, int64_t count)
{
    SIM_ASSERT(start >= 0 && count >= 0);
    if (count == 0) {
        return;
    }
    uint64_t group_mask = ((uint64_t)1 << hb->granularity) - 1;
    uint64_t end = (uint64_t)start + (uint64_t)count;
    SIM_ASSERT_EQ((uint64_t)start & group_mask, 0);
    SIM_ASSERT(((uint64_t)count & group_mask) == 0 || end == (uint64_t)hb->length);
    hbitmap_reset_bits(hb, (uint64_t)start >> hb->granularity, (end - 1) >> hb->granularity);
}

void hbitmap_reset_all(HBitmap *hb)
{
    hb->resets++;
    hb->set_count -= hbitmap_drop_slot(hb, &hb->root, hb->height);
    SIM_ASSERT_EQ(hb->set_count, 0);
}

/* --- truncate ------------------------------------------------------------------------------------------- */

/* Puts levels on top until the root spans bit_count, or takes off those that have become useless. */
static void fit_height(HBitmap *hb)
{
    int height = hbitmap_height_for(hb->bit_count);
    for (; hb->height < height; hb->height++) {
        if (hb->root != NULL) {
            struct hbitmap_node *node = hbitmap_node_new(hb);
            node->child[0] = hb->root;
            hbitmap_node_note_child(node, 0);
            hb->root = node;
        }
    }
    for (; hb->height > height; hb->height--) {
        SIM_ASSERT(hb->root != HBITMAP_FULL);
        struct hbitmap_node *node = hb->root;
        if (node != NULL) {
            SIM_ASSERT_EQ(node->any & ~(uint64_t)1, 0);
            hb->root = node->child[0];
            hbitmap_node_free(hb, node);
        }
    }
}

void hbitmap_truncate(HBitmap *hb, int64_t items)
{
    SIM_ASSERT_LE(0, items);
    uint64_t bit_count = hbitmap_items_to_bits(items, hb->granularity);
    hb->length = items;
    if (bit_count < hb->bit_count) {
        hbitmap_reset_bits(hb, bit_count, hb->bit_count - 1);
    }
    hb->bit_count = bit_count;
    fit_height(hb);
}
