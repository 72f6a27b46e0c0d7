/*
 * The inside of an HBitmap, shared by the block/hbitmap*.c only.
 *
 * A radix tree over the bits. A slot of a level (and the root) is one of three:
 *
 *     NULL          no bit below is set
 *     HBITMAP_FULL  every bit below is set; only where all of them lie inside the length
 *     a pointer     a leaf (level 0, 4096 bits) or a node (64 slots of the level below)
 *
 *                    root, level 2: 2^24 bits
 *                   /      |       \
 *               NULL     node       FULL (2^18 bits, no memory)
 *                       /  |  \
 *                    leaf NULL leaf
 *
 * So a bitmap with nothing set owns nothing but its header, and one with everything set owns a path. Invariants:
 * a leaf or node is neither all clear nor all set (it would be NULL or FULL), bits at or beyond bit_count are 0.
 */
#ifndef BLOCK_HBITMAP_INT_H
#define BLOCK_HBITMAP_INT_H

#include "block/hbitmap.h"

#define HBITMAP_FAN_BITS 6
#define HBITMAP_LEAF_BITS 12
#define HBITMAP_LEAF_WORDS (1 << (HBITMAP_LEAF_BITS - 6))
#define HBITMAP_LEAF_MASK ((UINT64_C(1) << HBITMAP_LEAF_BITS) - 1)
#define HBITMAP_FULL ((void *)(uintptr_t)1)
#define HBITMAP_NONE UINT64_MAX

typedef struct hbitmap_leaf {
    uint64_t any; /* bit w: word[w] is not 0 */
    uint64_t count;
    uint64_t word[HBITMAP_LEAF_WORDS];
} hbitmap_leaf;

struct hbitmap_node {
    uint64_t any;  /* bit c: child[c] is not NULL */
    uint64_t full; /* bit c: child[c] is HBITMAP_FULL */
    void *child[1 << HBITMAP_FAN_BITS];
};

struct HBitmap {
    struct sim_arena *arena;
    int64_t length;
    uint64_t bit_count;
    uint64_t set_count;
    uint64_t resets;     /* changes whenever a bit may have been cleared: iterators look */
    uint64_t leaf_moves; /* changes whenever a leaf leaves its place: iterators keep a pointer to one */
    void *root;
    int granularity;
    int height;                 /* level of the root; 0: a leaf */
    struct hbitmap_leaf *spare; /* all clear; saves a set/reset pair on one chunk the allocator */
    uint64_t leaf_count;
    uint64_t node_count;
};

/* A slot with memory behind it. */
static inline bool hbitmap_is_real(const void *slot)
{
    return (uintptr_t)slot > (uintptr_t)HBITMAP_FULL;
}

/* log2 of the bits under a slot of that level. */
static inline int hbitmap_span_bits(int level)
{
    return HBITMAP_LEAF_BITS + HBITMAP_FAN_BITS * level;
}

/* The slot of the leaf that holds `bit`: NULL, HBITMAP_FULL or a struct hbitmap_leaf. */
static inline void *hbitmap_leaf_at(const HBitmap *hb, uint64_t bit)
{
    void *slot = hb->root;
    for (int level = hb->height; level > 0 && hbitmap_is_real(slot); level--) {
        const struct hbitmap_node *node = slot;
        slot = node->child[bit >> hbitmap_span_bits(level - 1) & 63];
    }
    return slot;
}

static inline bool hbitmap_leaf_is_full(const struct hbitmap_leaf *leaf)
{
    return leaf->count == (uint64_t)1 << HBITMAP_LEAF_BITS;
}

static inline void hbitmap_node_note_child(struct hbitmap_node *node, unsigned c)
{
    uint64_t bit = (uint64_t)1 << c;
    node->any = node->child[c] != NULL ? node->any | bit : node->any & ~bit;
    node->full = node->child[c] == HBITMAP_FULL ? node->full | bit : node->full & ~bit;
}

/* --- hbitmap_tree.c */

/* Groups of that size that `items` touch. */
uint64_t hbitmap_items_to_bits(int64_t items, int granularity);
/* Level of the root that spans so many bits. */
int hbitmap_height_for(uint64_t bit_count);
/* All clear. */
struct hbitmap_leaf *hbitmap_leaf_new(HBitmap *hb);
/* For a leaf taken out of its slot, whatever it holds. */
void hbitmap_leaf_release(HBitmap *hb, struct hbitmap_leaf *leaf);
struct hbitmap_node *hbitmap_node_new(HBitmap *hb);
void hbitmap_node_free(HBitmap *hb, struct hbitmap_node *node);
/* Frees what is under a slot and makes it NULL; returns how many bits were set there. */
uint64_t hbitmap_drop_slot(HBitmap *hb, void **slot, int level);

/* --- hbitmap.c */

/* Bits first..last, both inside bit_count. */
void hbitmap_set_bits(HBitmap *hb, uint64_t first, uint64_t last);
/* The bits of value in word w; none lies beyond bit_count. */
void hbitmap_set_word(HBitmap *hb, uint64_t w, uint64_t value);
void hbitmap_reset_bits(HBitmap *hb, uint64_t first, uint64_t last);

#endif
