/* HBitmap: its shape, and the memory of its leaves and nodes (reference/bitmaps-qcow2.md 1.1). */
#include "block/hbitmap_int.h"

#include <string.h>

uint64_t hbitmap_items_to_bits(int64_t items, int granularity)
{
    uint64_t mask = ((uint64_t)1 << granularity) - 1;
    return ((uint64_t)items >> granularity) + (((uint64_t)items & mask) != 0);
}

int hbitmap_height_for(uint64_t bit_count)
{
    int level = 0;
    while (hbitmap_span_bits(level) < 64 && bit_count > (uint64_t)1 << hbitmap_span_bits(level)) {
        level++;
    }
    return level;
}

struct hbitmap_leaf *hbitmap_leaf_new(HBitmap *hb)
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

void hbitmap_leaf_release(HBitmap *hb, struct hbitmap_leaf *leaf)
{
    hb->leaf_moves++;
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

struct hbitmap_node *hbitmap_node_new(HBitmap *hb)
{
    hb->node_count++;
    return (struct hbitmap_node *)sim_alloc(hb->arena, SIM_TYPE_hbitmap_leaf, sizeof(struct hbitmap_node));
}

void hbitmap_node_free(HBitmap *hb, struct hbitmap_node *node)
{
    SIM_ASSERT(hb->node_count > 0);
    hb->node_count--;
    sim_free(hb->arena, SIM_TYPE_hbitmap_leaf, node, sizeof(*node));
}

/* Frees what is under a slot; returns how many bits were set there. */
uint64_t hbitmap_drop_slot(HBitmap *hb, void **slot, int level)
{
    uint64_t dropped = 0;
    if (*slot == HBITMAP_FULL) {
        dropped = (uint64_t)1 << hbitmap_span_bits(level);
    } else if (*slot != NULL && level == 0) {
        struct hbitmap_leaf *leaf = *slot;
        dropped = leaf->count;
        hbitmap_leaf_release(hb, leaf);
    } else if (*slot != NULL) {
        struct hbitmap_node *node = *slot;
        for (uint64_t left = node->any; left != 0; left &= left - 1) {
            dropped += hbitmap_drop_slot(hb, &node->child[__builtin_ctzll(left)], level - 1);
        }
        hbitmap_node_free(hb, node);
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
    hb->bit_count = hbitmap_items_to_bits(items, granularity);
    hb->height = hbitmap_height_for(hb->bit_count);
    return hb;
}

void hbitmap_free(HBitmap *hb)
{
    if (hb == NULL) {
        return;
    }
    (void)hbitmap_drop_slot(hb, &hb->root, hb->height);
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
