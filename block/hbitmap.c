/* HBitmap: the tree, its changes and its queries (reference/bitmaps-qcow2.md 1.1 to 1.5). */
#include "block/hbitmap_int.h"

#include <string.h>

static uint64_t items_to_bits(int64_t items, int granularity)
{
    uint64_t mask = ((uint64_t)1 << granularity) - 1;
    return ((uint64_t)items >> granularity) + (((uint64_t)items & mask) != 0);
}

static int height_for(uint64_t bit_count)
{
    int level = 0;
    while (hbitmap_span_bits(level) < 64 && bit_count > (uint64_t)1 << hbitmap_span_bits(level)) {
        level++;
    }
    return level;
}

/* Bits lo..hi of a word. */
static inline uint64_t word_mask(unsigned lo, unsigned hi)
{
    return (~(uint64_t)0 << lo) & (~(uint64_t)0 >> (63 - hi));
}

/* --- memory --------------------------------------------------------------------------------------------- */

static struct hbitmap_leaf *leaf_new(HBitmap *hb)
{
    struct hbitmap_leaf *leaf = hb->spare;
    if (leaf != NULL) {
        hb->spare = NULL;
        return leaf;
    }
    hb->leaf_count++;
    return SIM_NEW(hb->arena, hbitmap_leaf);
}

static void leaf_free(HBitmap *hb, struct hbitmap_leaf *leaf)
{
    SIM_ASSERT(hb->leaf_count > 0);
    hb->leaf_count--;
    SIM_FREE(hb->arena, hbitmap_leaf, leaf);
}

static void leaf_release(HBitmap *hb, struct hbitmap_leaf *leaf)
{
    if (hb->spare != NULL) {
        leaf_free(hb, leaf);
        return;
    }
    if (leaf->any != 0) {
        memset(leaf, 0, sizeof(*leaf));
    }
    SIM_ASSERT_EQ(leaf->count, 0);
    hb->spare = leaf;
}

static struct hbitmap_node *node_new(HBitmap *hb)
{
    hb->node_count++;
    return (struct hbitmap_node *)sim_alloc(hb->arena, SIM_TYPE_hbitmap_leaf, sizeof(struct hbitmap_node));
}

static void node_free(HBitmap *hb, struct hbitmap_node *node)
{
    SIM_ASSERT(hb->node_count > 0);
    hb->node_count--;
    sim_free(hb->arena, SIM_TYPE_hbitmap_leaf, node, sizeof(*node));
}

/* Frees what is under a slot; returns how many bits were set there. */
static uint64_t drop_slot(HBitmap *hb, void **slot, int level)
{
    uint64_t dropped = 0;
    if (*slot == HBITMAP_FULL) {
        dropped = (uint64_t)1 << hbitmap_span_bits(level);
    } else if (*slot != NULL && level == 0) {
        struct hbitmap_leaf *leaf = *slot;
        dropped = leaf->count;
        leaf_release(hb, leaf);
    } else if (*slot != NULL) {
        struct hbitmap_node *node = *slot;
        for (uint64_t left = node->any; left != 0; left &= left - 1) {
            dropped += drop_slot(hb, &node->child[__builtin_ctzll(left)], level - 1);
        }
        node_free(hb, node);
    }
    *slot = NULL;
    return dropped;
}

HBitmap *hbitmap_alloc(struct sim_arena *arena, int64_t items, int granularity)
{
    SIM_ASSERT_LE(0, items);
    SIM_ASSERT(granularity >= 0 && granularity < 64);
    HBitmap *hb = SIM_NEW(arena, HBitmap);
    hb->arena = arena;
    hb->length = items;
    hb->granularity = granularity;
    hb->bit_count = items_to_bits(items, granularity);
    hb->height = height_for(hb->bit_count);
    return hb;
}

void hbitmap_free(HBitmap *hb)
{
    if (hb == NULL) {
        return;
    }
    (void)drop_slot(hb, &hb->root, hb->height);
    if (hb->spare != NULL) {
        leaf_free(hb, hb->spare);
    }
    SIM_ASSERT_EQ(hb->leaf_count + hb->node_count, 0);
    SIM_FREE(hb->arena, HBitmap, hb);
}

uint64_t hbitmap_memory_bytes(const HBitmap *hb)
{
    return sizeof(*hb) + hb->leaf_count * sizeof(struct hbitmap_leaf) +
           hb->node_count * sizeof(struct hbitmap_node);
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

static inline bool leaf_is_full(const struct hbitmap_leaf *leaf)
{
    return leaf->count == (uint64_t)1 << HBITMAP_LEAF_BITS;
}

/* --- changing ------------------------------------------------------------------------------------------- */

static bool covers_slot(int level, uint64_t first, uint64_t last)
{
    int span = hbitmap_span_bits(level);
    return span < 64 && first == 0 && last == ((uint64_t)1 << span) - 1;
}

static void node_note_child(struct hbitmap_node *node, unsigned c)
{
    uint64_t bit = (uint64_t)1 << c;
    node->any = node->child[c] != NULL ? node->any | bit : node->any & ~bit;
    node->full = node->child[c] == HBITMAP_FULL ? node->full | bit : node->full & ~bit;
}

/* first, last: relative to the slot. */
static void set_slot(HBitmap *hb, void **slot, int level, uint64_t first, uint64_t last)
{
    if (*slot == HBITMAP_FULL) {
        return;
    }
    if (covers_slot(level, first, last)) {
        hb->set_count += last + 1 - drop_slot(hb, slot, level);
        *slot = HBITMAP_FULL;
        return;
    }
    if (level == 0) {
        struct hbitmap_leaf *leaf = *slot != NULL ? *slot : leaf_new(hb);
        *slot = leaf;
        hb->set_count -= leaf->count;
        leaf_each_word(leaf, (unsigned)first, (unsigned)last, leaf_set_word);
        hb->set_count += leaf->count;
        if (leaf_is_full(leaf)) {
            leaf_release(hb, leaf);
            *slot = HBITMAP_FULL;
        }
        return;
    }
    struct hbitmap_node *node = *slot != NULL ? *slot : node_new(hb);
    *slot = node;
    int shift = hbitmap_span_bits(level - 1);
    uint64_t low = ((uint64_t)1 << shift) - 1;
    for (uint64_t c = first >> shift; c <= last >> shift; c++) {
        set_slot(hb, &node->child[c], level - 1, c == first >> shift ? first & low : 0,
                 c == last >> shift ? last & low : low);
        node_note_child(node, (unsigned)c);
    }
    if (~node->full == 0) {
        node_free(hb, node);
        *slot = HBITMAP_FULL;
    }
}

/* A full slot gets memory, so that a part of it can be cleared. */
static void expand_slot(HBitmap *hb, void **slot, int level)
{
    if (level == 0) {
        struct hbitmap_leaf *leaf = leaf_new(hb);
        memset(leaf->word, 0xff, sizeof(leaf->word));
        leaf->any = ~(uint64_t)0;
        leaf->count = (uint64_t)1 << HBITMAP_LEAF_BITS;
        *slot = leaf;
        return;
    }
    struct hbitmap_node *node = node_new(hb);
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
        hb->set_count -= drop_slot(hb, slot, level);
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
            leaf_release(hb, leaf);
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
        node_note_child(node, (unsigned)c);
    }
    if (node->any == 0) {
        node_free(hb, node);
        *slot = NULL;
    }
}

void hbitmap_set_bits(HBitmap *hb, uint64_t first, uint64_t last)
{
    SIM_ASSERT(first <= last && last < hb->bit_count);
    if (first >> HBITMAP_LEAF_BITS == last >> HBITMAP_LEAF_BITS) {
        /* The usual case: a leaf that is already there; nothing above it changes. */
        struct hbitmap_leaf *leaf = hbitmap_leaf_at(hb, first);
        if (leaf == HBITMAP_FULL) {
            return;
        }
        if (leaf != NULL) {
            uint64_t before = leaf->count;
            leaf_each_word(leaf, first & 4095, last & 4095, leaf_set_word);
            hb->set_count += leaf->count - before;
            if (!leaf_is_full(leaf)) {
                return;
            }
        }
    }
    set_slot(hb, &hb->root, hb->height, first, last);
}

void hbitmap_reset_bits(HBitmap *hb, uint64_t first, uint64_t last)
{
    SIM_ASSERT(first <= last && last < hb->bit_count);
    hb->resets++;
    if (first >> HBITMAP_LEAF_BITS == last >> HBITMAP_LEAF_BITS) {
        struct hbitmap_leaf *leaf = hbitmap_leaf_at(hb, first);
        if (leaf == NULL) {
            return;
        }
        if (leaf != HBITMAP_FULL) {
            uint64_t before = leaf->count;
            leaf_each_word(leaf, first & 4095, last & 4095, leaf_reset_word);
            hb->set_count -= before - leaf->count;
            if (leaf->any != 0) {
                return;
            }
        }
    }
    reset_slot(hb, &hb->root, hb->height, first, last);
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
    hb->set_count -= drop_slot(hb, &hb->root, hb->height);
    SIM_ASSERT_EQ(hb->set_count, 0);
}

/* --- truncate ------------------------------------------------------------------------------------------- */

/* Puts levels on top until the root spans bit_count, or takes off those that have become useless. */
static void fit_height(HBitmap *hb)
{
    int height = height_for(hb->bit_count);
    for (; hb->height < height; hb->height++) {
        if (hb->root != NULL) {
            struct hbitmap_node *node = node_new(hb);
            node->child[0] = hb->root;
            node_note_child(node, 0);
            hb->root = node;
        }
    }
    for (; hb->height > height; hb->height--) {
        SIM_ASSERT(hb->root != HBITMAP_FULL);
        struct hbitmap_node *node = hb->root;
        if (node != NULL) {
            SIM_ASSERT_EQ(node->any & ~(uint64_t)1, 0);
            hb->root = node->child[0];
            node_free(hb, node);
        }
    }
}

void hbitmap_truncate(HBitmap *hb, int64_t items)
{
    SIM_ASSERT_LE(0, items);
    uint64_t bit_count = items_to_bits(items, hb->granularity);
    hb->length = items;
    if (bit_count < hb->bit_count) {
        hbitmap_reset_bits(hb, bit_count, hb->bit_count - 1);
    }
    hb->bit_count = bit_count;
    fit_height(hb);
}

/* --- merge ---------------------------------------------------------------------------------------------- */

/* Set bits of a leaf's words. Byte-wise sums of at most 16 words of 8, so that no byte overflows and the compiler
 * may do several words at once; a library popcount a word would cost more than the OR itself. */
static uint64_t count_words(const uint64_t *word)
{
    uint64_t total = 0;
    for (unsigned at = 0; at < HBITMAP_LEAF_WORDS; at += 16) {
        uint64_t bytes = 0;
        for (unsigned i = 0; i < 16; i++) {
            uint64_t x = word[at + i];
            x -= x >> 1 & UINT64_C(0x5555555555555555);
            x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
            bytes += (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
        }
        bytes = (bytes & UINT64_C(0x00ff00ff00ff00ff)) + (bytes >> 8 & UINT64_C(0x00ff00ff00ff00ff));
        total += bytes * UINT64_C(0x0001000100010001) >> 48;
    }
    return total;
}

static void merge_leaf(HBitmap *hb, void **slot, const struct hbitmap_leaf *src)
{
    struct hbitmap_leaf *dst = *slot != NULL ? *slot : leaf_new(hb);
    *slot = dst;
    uint64_t before = dst->count;
    for (unsigned w = 0; w < HBITMAP_LEAF_WORDS; w++) {
        dst->word[w] |= src->word[w];
    }
    dst->any |= src->any;
    dst->count = count_words(dst->word);
    hb->set_count += dst->count - before;
    if (leaf_is_full(dst)) {
        leaf_release(hb, dst);
        *slot = HBITMAP_FULL;
    }
}

static void merge_slot(HBitmap *hb, void **slot, const void *src, int level)
{
    if (src == NULL || *slot == HBITMAP_FULL) {
        return;
    }
    if (src == HBITMAP_FULL) {
        hb->set_count += ((uint64_t)1 << hbitmap_span_bits(level)) - drop_slot(hb, slot, level);
        *slot = HBITMAP_FULL;
        return;
    }
    if (level == 0) {
        merge_leaf(hb, slot, src);
        return;
    }
    const struct hbitmap_node *from = src;
    struct hbitmap_node *node = *slot != NULL ? *slot : node_new(hb);
    *slot = node;
    for (uint64_t left = from->any; left != 0; left &= left - 1) {
        unsigned c = (unsigned)__builtin_ctzll(left);
        merge_slot(hb, &node->child[c], from->child[c], level - 1);
        node_note_child(node, c);
    }
    if (~node->full == 0) {
        node_free(hb, node);
        *slot = HBITMAP_FULL;
    }
}

void hbitmap_merge(HBitmap *dst, const HBitmap *src)
{
    SIM_ASSERT_EQ(dst->length, src->length);
    if (dst == src) {
        return;
    }
    if (dst->granularity == src->granularity) {
        SIM_ASSERT_EQ(dst->height, src->height);
        merge_slot(dst, &dst->root, src->root, dst->height);
        return;
    }
    int64_t start = 0;
    int64_t count;
    while (hbitmap_next_dirty_area(src, start, src->length, INT64_MAX, &start, &count)) {
        hbitmap_set(dst, start, count);
        start += count;
    }
}
