/* HBitmap: merge and copy (reference/bitmaps-qcow2.md 1.5). */
#include "block/hbitmap_int.h"

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
    struct hbitmap_leaf *dst = *slot != NULL ? *slot : hbitmap_leaf_new(hb);
    *slot = dst;
    uint64_t before = dst->count;
    for (unsigned w = 0; w < HBITMAP_LEAF_WORDS; w++) {
        dst->word[w] |= src->word[w];
    }
    dst->any |= src->any;
    dst->count = count_words(dst->word);
    hb->set_count += dst->count - before;
    if (hbitmap_leaf_is_full(dst)) {
        hbitmap_leaf_release(hb, dst);
        *slot = HBITMAP_FULL;
    }
}

static void merge_slot(HBitmap *hb, void **slot, const void *src, int level)
{
    if (src == NULL || *slot == HBITMAP_FULL) {
        return;
    }
    if (src == HBITMAP_FULL) {
        hb->set_count += ((uint64_t)1 << hbitmap_span_bits(level)) - hbitmap_drop_slot(hb, slot, level);
        *slot = HBITMAP_FULL;
        return;
    }
    if (level == 0) {
        merge_leaf(hb, slot, src);
        return;
    }
    const struct hbitmap_node *from = src;
    struct hbitmap_node *node = *slot != NULL ? *slot : hbitmap_node_new(hb);
    *slot = node;
    for (uint64_t left = from->any; left != 0; left &= left - 1) {
        unsigned c = (unsigned)__builtin_ctzll(left);
        merge_slot(hb, &node->child[c], from->child[c], level - 1);
        hbitmap_node_note_child(node, c);
    }
    if (~node->full == 0) {
        hbitmap_node_free(hb, node);
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

HBitmap *hbitmap_copy(const HBitmap *hb)
{
    HBitmap *copy = hbitmap_alloc(hb->arena, hb->length, hb->granularity);
    hbitmap_merge(copy, hb);
    SIM_ASSERT_EQ(copy->set_count, hb->set_count);
    return copy;
}
