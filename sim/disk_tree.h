/*
 * The content of a disk: a sparse radix tree of pages. Private to sim/.
 *
 * A slot at level L stands for 64^L pages; the root is one slot at level `height`, so the tree grows with what is
 * touched. A slot at level 0 is a page, at others a node of 64 slots, and at every level it may instead say one
 * thing of all it stands for:
 *
 *     ABSENT  never touched: a stamp below base_pages, a hole from there on
 *     ZERO    allocated, reads zero
 *     HOLE    not allocated, reads zero
 *
 * so zeroing or discarding a terabyte costs a few slots. Nodes are counted and shared by copies of the tree
 * (snapshots, the durable state); whoever changes a shared one copies it first. `allocated` is always exact.
 * A page of zeros is always kept as ZERO.
 */
#ifndef SIM_DISK_TREE_H
#define SIM_DISK_TREE_H

#include "sim/page.h"

#define TREE_BITS 6
#define TREE_FAN 64

typedef uintptr_t tree_slot;
#define TREE_ABSENT ((tree_slot)0)
#define TREE_ZERO ((tree_slot)1)
#define TREE_HOLE ((tree_slot)2)
#define TREE_MARKERS ((tree_slot)3)

struct disk_tree {
    struct sim *sim;
    tree_slot root;
    uint32_t height;    /* 1.. */
    uint32_t unit;      /* pages of an allocation unit, a power of two */
    bool grows;         /* writes beyond the length extend it */
    int64_t length;     /* bytes; beyond it everything reads zero */
    int64_t allocated;  /* pages */
    int64_t base_pages; /* pages below, when absent, are stamps */
    uint64_t stamp;     /* tag of sector 0 */
};

/* An empty tree of the same shape, without reference to anything of `like`. */
void tree_init_like(struct disk_tree *tree, const struct disk_tree *like);
/* dst (uninitialised) becomes a copy that shares all nodes. */
void tree_share(struct disk_tree *dst, const struct disk_tree *src);
void tree_drop(struct disk_tree *tree); /* gives up the nodes; the rest stays as it is */

enum tree_state {
    TREE_IS_HOLE,
    TREE_IS_ZERO, /* allocated */
    TREE_IS_DATA,
};
/* State of a page; *end is the first page above it that may differ in state (at most `limit`). */
enum tree_state tree_state_at(const struct disk_tree *tree, int64_t page, int64_t limit, int64_t *end);
/* The page, borrowed; NULL for a hole. Makes the page of a stamp. */
struct page *tree_peek_page(struct disk_tree *tree, int64_t page);
/* Pages of [first, end) that a write there would have to allocate, units included. */
int64_t tree_unallocated(const struct disk_tree *tree, int64_t first, int64_t end);
/* How many leading whole units of the bytes can be written with `pages` free. */
int64_t tree_units_that_fit(const struct disk_tree *tree, int64_t offset, int64_t bytes, int64_t pages);

/* Keeps the pages made for stamps: who looks again finds them, and their ids, by reference. */
void tree_read(struct disk_tree *tree, int64_t offset, int64_t bytes, struct payload *out);
/* Bytes of `in` from in_offset on. Beyond the length: extends it when the tree grows, is dropped otherwise. */
void tree_write(struct disk_tree *tree, int64_t offset, int64_t bytes, const struct payload *in, int64_t in_offset);
/* Zeroes. unmap: whole units become holes and holes stay; otherwise all is allocated. */
void tree_write_zeroes(struct disk_tree *tree, int64_t offset, int64_t bytes, bool unmap);
/* Units wholly inside become holes; the last one counts as inside when the range reaches the length. */
void tree_discard(struct disk_tree *tree, int64_t offset, int64_t bytes);
void tree_truncate(struct disk_tree *tree, int64_t length);

/* --- between disk_tree.c and disk_tree_io.c ------------------------------------------------------------------ */

struct disk_node {
    uint32_t refs;
    tree_slot slot[TREE_FAN];
};

static inline bool tree_is_marker(tree_slot slot)
{
    return slot < TREE_MARKERS;
}

static inline bool tree_is_stamp(const struct disk_tree *tree, tree_slot slot, int64_t page)
{
    return slot == TREE_ABSENT && page < tree->base_pages;
}

/* The lowest slot for a page: a page or a marker; its leaf if it has one, and where what it stands for ends. */
tree_slot tree_find(const struct disk_tree *tree, int64_t page, struct disk_node **leaf, int64_t *end);
/* Makes the root stand for at least so many pages. */
void tree_cover(struct disk_tree *tree, int64_t pages);
/* The leaf of a covered page, ours alone. */
struct disk_node *tree_leaf_open(struct disk_tree *tree, int64_t page);
/* Says marker of [from, to); holes_only: of what is not allocated. */
void tree_fill(struct disk_tree *tree, int64_t from, int64_t to, tree_slot marker, bool holes_only);
/* Allocates the units that a write to these pages touches. With units of one page the write itself does it. */
void tree_allocate_units(struct disk_tree *tree, int64_t first, int64_t end);
/* The content of a slot at level 0, as a new reference. */
struct page *tree_slot_content(const struct disk_tree *tree, tree_slot slot, int64_t page);
/* Takes over the reference. */
static inline void tree_slot_store(struct disk_tree *tree, tree_slot *slot, int64_t page, struct page *content)
{
    tree_slot old = *slot;

    if (content->form == PAGE_FORM_ZERO) {
        page_put(tree->sim, content);
        *slot = TREE_ZERO;
    } else {
        *slot = (tree_slot)content;
    }
    if (!tree_is_marker(old)) {
        page_put(tree->sim, (struct page *)old);
    } else if (old == TREE_HOLE || (old == TREE_ABSENT && page >= tree->base_pages)) {
        tree->allocated++;
    }
}

#endif
