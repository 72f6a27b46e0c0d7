/* The sparse radix tree of pages behind every disk. */
#include "sim/disk_tree.h"

#include <string.h>

static int64_t level_pages(uint32_t level)
{
    return (int64_t)1 << (TREE_BITS * level);
}

static unsigned slot_index(int64_t page, uint32_t level)
{
    return (unsigned)(page >> (TREE_BITS * level)) & (TREE_FAN - 1);
}

static struct disk_node *slot_node(tree_slot slot)
{
    return (struct disk_node *)slot;
}

static struct page *slot_page(tree_slot slot)
{
    return (struct page *)slot;
}

/* --- nodes ---------------------------------------------------------------------------------------------- */

static void slot_ref(tree_slot slot, uint32_t level)
{
    if (tree_is_marker(slot)) {
        return;
    }
    if (level == 0) {
        page_get(slot_page(slot));
    } else {
        slot_node(slot)->refs++;
    }
}

static void slot_drop(struct disk_tree *tree, tree_slot slot, uint32_t level)
{
    if (tree_is_marker(slot)) {
        return;
    }
    if (level == 0) {
        page_put(tree->sim, slot_page(slot));
        return;
    }
    struct disk_node *node = slot_node(slot);
    SIM_ASSERT(node->refs > 0);
    if (--node->refs > 0) {
        return;
    }
    for (unsigned i = 0; i < TREE_FAN; i++) {
        slot_drop(tree, node->slot[i], level - 1);
    }
    SIM_FREE_N(sim_arena(tree->sim), disk_node, node, struct disk_node, 1);
}

/* The node behind a slot at `level` >= 1, ours alone and ready to be changed. */
static struct disk_node *slot_open(struct disk_tree *tree, tree_slot *slot, uint32_t level)
{
    SIM_ASSERT(level >= 1);
    if (!tree_is_marker(*slot) && slot_node(*slot)->refs == 1) {
        return slot_node(*slot);
    }
    struct disk_node *node = sim_alloc_raw(sim_arena(tree->sim), SIM_TYPE_disk_node, sizeof(*node));
    node->refs = 1;
    if (tree_is_marker(*slot)) {
        for (unsigned i = 0; i < TREE_FAN; i++) {
            node->slot[i] = *slot;
        }
    } else {
        struct disk_node *old = slot_node(*slot);
        memcpy(node->slot, old->slot, sizeof(node->slot));
        for (unsigned i = 0; i < TREE_FAN; i++) {
            slot_ref(node->slot[i], level - 1);
        }
        old->refs--;
    }
    *slot = (tree_slot)node;
    return node;
}

void tree_cover(struct disk_tree *tree, int64_t pages)
{
    while (level_pages(tree->height) < pages) {
        if (tree->root != TREE_ABSENT) {
            tree_slot below = tree->root;
            tree->root = TREE_ABSENT;
            slot_open(tree, &tree->root, tree->height + 1)->slot[0] = below;
        }
        tree->height++;
    }
}

void tree_init_like(struct disk_tree *tree, const struct disk_tree *like)
{
    *tree = *like;
    tree->root = TREE_ABSENT;
    tree->height = 1;
    tree->length = 0;
    tree->allocated = 0;
    tree->base_pages = 0;
}

void tree_share(struct disk_tree *dst, const struct disk_tree *src)
{
    *dst = *src;
    slot_ref(dst->root, dst->height);
}

void tree_drop(struct disk_tree *tree)
{
    slot_drop(tree, tree->root, tree->height);
    tree->root = TREE_ABSENT;
}

/* --- states --------------------------------------------------------------------------------------------- */

/* What a marker says of the page; *end as in tree_state_at. */
static enum tree_state marker_state(const struct disk_tree *tree, tree_slot slot, int64_t page, int64_t *end)
{
    if (slot == TREE_ZERO) {
        return TREE_IS_ZERO;
    }
    if (slot == TREE_ABSENT && page < tree->base_pages) {
        *end = MIN(*end, tree->base_pages);
        return TREE_IS_DATA;
    }
    return TREE_IS_HOLE;
}

tree_slot tree_find(const struct disk_tree *tree, int64_t page, struct disk_node **leaf, int64_t *end)
{
    tree_slot slot = tree->root;
    uint32_t level = tree->height;

    *leaf = NULL;
    if (page >= level_pages(level)) {
        *end = INT64_MAX;
        return TREE_ABSENT;
    }
    while (level > 0 && !tree_is_marker(slot)) {
        struct disk_node *node = slot_node(slot);
        level--;
        if (level == 0) {
            *leaf = node;
        }
        slot = node->slot[slot_index(page, level)];
    }
    *end = ROUND_DOWN(page, level_pages(level)) + level_pages(level);
    return slot;
}

static enum tree_state slot_state(const struct disk_tree *tree, tree_slot slot, int64_t page, int64_t *end)
{
    return tree_is_marker(slot) ? marker_state(tree, slot, page, end) : TREE_IS_DATA;
}

/* How many slots from `at` on are pages. */
static unsigned leaf_pages(const struct disk_node *leaf, unsigned at)
{
    unsigned i = at;

    while (i < TREE_FAN && !tree_is_marker(leaf->slot[i])) {
        i++;
    }
    return i - at;
}

enum tree_state tree_state_at(const struct disk_tree *tree, int64_t page, int64_t limit, int64_t *end)
{
    struct disk_node *leaf;
    tree_slot slot = tree_find(tree, page, &leaf, end);
    enum tree_state state = slot_state(tree, slot, page, end);

    SIM_ASSERT_LT(page, limit);
    while (*end < limit) {
        int64_t next_end;
        if (leaf != NULL && (*end & (TREE_FAN - 1)) != 0) {
            if (state == TREE_IS_DATA) {
                *end += leaf_pages(leaf, (unsigned)*end & (TREE_FAN - 1));
                if (*end >= limit || (*end & (TREE_FAN - 1)) == 0) {
                    continue;
                }
            }
            next_end = *end + 1;
            slot = leaf->slot[*end & (TREE_FAN - 1)];
        } else {
            slot = tree_find(tree, *end, &leaf, &next_end);
        }
        if (slot_state(tree, slot, *end, &next_end) != state) {
            break;
        }
        *end = next_end;
    }
    *end = MIN(*end, limit);
    return state;
}

static int64_t count_allocated(const struct disk_tree *tree, tree_slot slot, uint32_t level, int64_t first,
                               int64_t from, int64_t to)
{
    int64_t lo = MAX(first, from);
    int64_t hi = MIN(first + level_pages(level), to);

    if (lo >= hi || slot == TREE_HOLE) {
        return 0;
    }
    if (slot == TREE_ABSENT) {
        return MAX(MIN(hi, tree->base_pages) - lo, 0);
    }
    if (slot == TREE_ZERO || level == 0) {
        return hi - lo;
    }
    int64_t sum = 0;
    int64_t step = level_pages(level - 1);
    for (int64_t i = (lo - first) / step; i < TREE_FAN && first + i * step < hi; i++) {
        sum += count_allocated(tree, slot_node(slot)->slot[i], level - 1, first + i * step, from, to);
    }
    return sum;
}

static int64_t range_allocated(const struct disk_tree *tree, int64_t first, int64_t end)
{
    int64_t covered = level_pages(tree->height);
    int64_t beyond = MAX(MIN(end, tree->base_pages) - MAX(first, covered), 0);

    return count_allocated(tree, tree->root, tree->height, 0, first, end) + beyond;
}

int64_t tree_unallocated(const struct disk_tree *tree, int64_t first, int64_t end)
{
    first = ROUND_DOWN(first, (int64_t)tree->unit);
    end = ROUND_UP(end, (int64_t)tree->unit);
    return end - first - range_allocated(tree, first, end);
}

int64_t tree_units_that_fit(const struct disk_tree *tree, int64_t offset, int64_t bytes, int64_t pages)
{
    int64_t first = ROUND_DOWN(offset / SIM_PAGE_BYTES, (int64_t)tree->unit);
    int64_t limit = ROUND_UP(DIV_ROUND_UP(offset + bytes, SIM_PAGE_BYTES), (int64_t)tree->unit);
    int64_t page = first;

    while (page < limit) {
        int64_t end;
        if (tree_state_at(tree, page, limit, &end) == TREE_IS_HOLE) {
            int64_t fit = ROUND_DOWN(MAX(pages, 0), (int64_t)tree->unit);
            if (fit < end - page) {
                return (page + fit - first) / tree->unit;
            }
            pages -= end - page;
        }
        page = end;
    }
    return (limit - first) / tree->unit;
}

/* --- ranges of markers ---------------------------------------------------------------------------------- */

struct tree_fill {
    int64_t from;
    int64_t to;
    tree_slot marker;
    bool holes_only; /* leave what is allocated */
};

static void fill_slot(struct disk_tree *tree, tree_slot *slot, uint32_t level, int64_t first,
                      const struct tree_fill *fill)
{
    int64_t end = first + level_pages(level);

    if (end <= fill->from || first >= fill->to || *slot == fill->marker) {
        return;
    }
    if (fill->holes_only && (*slot == TREE_ZERO || (level == 0 && !tree_is_marker(*slot)))) {
        return;
    }
    if (fill->marker == TREE_HOLE && *slot == TREE_ABSENT && first >= tree->base_pages) {
        return; /* a hole already */
    }
    bool straddles = *slot == TREE_ABSENT && first < tree->base_pages && tree->base_pages < end;
    if (fill->holes_only && *slot == TREE_ABSENT && end <= tree->base_pages) {
        return;
    }
    bool whole = first >= fill->from && end <= fill->to;
    if (whole && (!fill->holes_only || (tree_is_marker(*slot) && !straddles))) {
        int64_t before = count_allocated(tree, *slot, level, first, first, end);
        slot_drop(tree, *slot, level);
        *slot = fill->marker;
        tree->allocated += count_allocated(tree, *slot, level, first, first, end) - before;
        return;
    }
    struct disk_node *node = slot_open(tree, slot, level);
    int64_t step = level_pages(level - 1);
    int64_t i = MAX(fill->from - first, 0) / step;
    for (; i < TREE_FAN && first + i * step < fill->to; i++) {
        fill_slot(tree, &node->slot[i], level - 1, first + i * step, fill);
    }
}

void tree_fill(struct disk_tree *tree, int64_t from, int64_t to, tree_slot marker, bool holes_only)
{
    /* absent is what a hole is where there never was anything else */
    if (marker == TREE_HOLE && tree->base_pages == 0) {
        marker = TREE_ABSENT;
    }
    if (marker != TREE_ZERO) {
        to = MIN(to, MAX(level_pages(tree->height), tree->base_pages));
    }
    if (from >= to) {
        return;
    }
    tree_cover(tree, to);
    struct tree_fill fill = {.from = from, .to = to, .marker = marker, .holes_only = holes_only};
    fill_slot(tree, &tree->root, tree->height, 0, &fill);
}

void tree_allocate_units(struct disk_tree *tree, int64_t first, int64_t end)
{
    int64_t unit = tree->unit;

    if (unit > 1) {
        tree_fill(tree, ROUND_DOWN(first, unit), ROUND_UP(end, unit), TREE_ZERO, true);
    }
}

struct disk_node *tree_leaf_open(struct disk_tree *tree, int64_t page)
{
    tree_slot *slot = &tree->root;

    for (uint32_t level = tree->height; level > 1; level--) {
        slot = &slot_open(tree, slot, level)->slot[slot_index(page, level - 1)];
    }
    return slot_open(tree, slot, 1);
}

/* --- one page ------------------------------------------------------------------------------------------- */

struct page *tree_slot_content(const struct disk_tree *tree, tree_slot slot, int64_t page)
{
    if (!tree_is_marker(slot)) {
        return page_ref(slot_page(slot));
    }
    if (tree_is_stamp(tree, slot, page)) {
        return page_tags(tree->sim, tree->stamp + (uint32_t)((uint64_t)page * PAGE_SECTORS));
    }
    return page_zero(tree->sim);
}

struct page *tree_peek_page(struct disk_tree *tree, int64_t page)
{
    struct disk_node *leaf;
    int64_t end;
    tree_slot slot = tree_find(tree, page, &leaf, &end);

    if (!tree_is_marker(slot)) {
        return slot_page(slot);
    }
    if (marker_state(tree, slot, page, &end) == TREE_IS_HOLE) {
        return NULL;
    }
    if (slot == TREE_ZERO) {
        struct page *zero = page_zero(tree->sim);
        page_unref(tree->sim, zero); /* the world keeps it */
        return zero;
    }
    /* keep the page made for the stamp: nothing but its form changes */
    tree_cover(tree, page + 1);
    tree_slot *place = &tree->root;
    for (uint32_t level = tree->height; level > 0; level--) {
        place = &slot_open(tree, place, level)->slot[slot_index(page, level - 1)];
    }
    *place = (tree_slot)tree_slot_content(tree, TREE_ABSENT, page);
    return slot_page(*place);
}
