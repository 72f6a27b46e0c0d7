/* Bytes in and out of a disk's tree: reads, writes, zeroes, discards, truncation. */
#include "sim/disk_tree.h"

/* --- reading -------------------------------------------------------------------------------------------- */

/* Whole pages, `count` of them from `page` on: of one leaf, or of the marker `slot` above it. */
static void read_pages(struct disk_tree *tree, struct disk_node *leaf, tree_slot slot, int64_t page, uint32_t count,
                       struct payload *out)
{
    struct payload_elem *elem = payload_extend(out, count);
    bool own = false;

    for (uint32_t i = 0; i < count; i++) {
        unsigned at = (unsigned)(page + i) & (TREE_FAN - 1);
        struct page *content;

        slot = leaf != NULL ? leaf->slot[at] : slot;
        if (!tree_is_marker(slot)) {
            content = (struct page *)slot;
            page_get(content);
        } else {
            content = tree_slot_content(tree, slot, page + i);
            if (leaf != NULL && tree_is_stamp(tree, slot, page + i)) {
                leaf = own ? leaf : tree_leaf_open(tree, page);
                own = true;
                leaf->slot[at] = (tree_slot)content;
                page_get(content);
            }
        }
        elem[i] = (struct payload_elem){.page = content, .count = PAGE_SECTORS};
    }
}

static bool on_sector_edge(const struct payload *p)
{
    return (p->head_bytes + p->size_bytes) % SIM_SECTOR_BYTES == 0;
}

#define READ_PAGES_MAX ((int64_t)1 << 20)

void tree_read(struct disk_tree *tree, int64_t offset, int64_t bytes, struct payload *out)
{
    struct disk_node *leaf = NULL;
    int64_t stop = offset + bytes;
    int64_t run_end = 0;
    tree_slot slot = TREE_ABSENT;

    SIM_ASSERT(offset >= 0 && bytes >= 0);
    while (offset < stop) {
        int64_t page = offset / SIM_PAGE_BYTES;
        unsigned in_page = (unsigned)(offset % SIM_PAGE_BYTES);
        unsigned piece = (unsigned)MIN(stop - offset, SIM_PAGE_BYTES - in_page);
        if (leaf != NULL || page >= run_end) {
            slot = tree_find(tree, page, &leaf, &run_end);
        }
        if (piece == SIM_PAGE_BYTES && on_sector_edge(out)) {
            if (leaf == NULL && tree_is_stamp(tree, slot, page)) {
                tree_cover(tree, page + 1);
                leaf = tree_leaf_open(tree, page);
            }
            int64_t end = leaf != NULL ? ROUND_UP(page + 1, TREE_FAN) : run_end;
            int64_t count = MIN(MIN(stop / SIM_PAGE_BYTES, end) - page, READ_PAGES_MAX);
            read_pages(tree, leaf, slot, page, (uint32_t)count, out);
            offset += count * SIM_PAGE_BYTES;
            continue;
        }
        struct page *content = tree_slot_content(tree, slot, page);
        payload_append_page_bytes(out, content, in_page, piece);
        page_put(tree->sim, content);
        offset += piece;
    }
}

/* --- writing -------------------------------------------------------------------------------------------- */

/* Part of a page: sectors by reference where they line up, bytes otherwise. */
static struct page *page_overlay(struct disk_tree *tree, tree_slot slot, int64_t page, unsigned in_page,
                                 unsigned piece, const struct payload *in, int64_t in_offset)
{
    struct page *base = tree_slot_content(tree, slot, page);
    int64_t start = in->head_bytes + in_offset;
    struct page *made;

    if (((in_page | piece) % SIM_SECTOR_BYTES) == 0 && start % SIM_SECTOR_BYTES == 0) {
        struct sector sectors[PAGE_SECTORS];
        unsigned first = in_page / SIM_SECTOR_BYTES;
        unsigned count = piece / SIM_SECTOR_BYTES;
        payload_sectors_get(in, start / SIM_SECTOR_BYTES, count, sectors + first);
        for (unsigned i = 0; i < PAGE_SECTORS; i++) {
            if (i < first || i >= first + count) {
                sectors[i] = sector_ref(page_sector(base, i));
            }
        }
        made = page_build(tree->sim, sectors);
    } else {
        uint8_t buf[SIM_PAGE_BYTES];
        page_read_bytes(base, 0, buf, SIM_PAGE_BYTES);
        payload_read_bytes(in, in_offset, buf + in_page, piece);
        made = page_from_bytes(tree->sim, buf);
    }
    page_put(tree->sim, base);
    return made;
}

/* Stores whole pages by reference as far as the payload has them and the leaf goes. Returns how many. */
static int64_t write_whole_pages(struct disk_tree *tree, struct disk_node *leaf, int64_t page, int64_t most,
                                 const struct payload *in, int64_t in_offset)
{
    int64_t start = in->head_bytes + in_offset;
    const struct payload_elem *elem;

    if (most == 0 || start % SIM_SECTOR_BYTES != 0) {
        return 0;
    }
    int64_t count = payload_whole_pages(in, start / SIM_SECTOR_BYTES, (uint32_t)most, &elem);
    tree_slot *slot = &leaf->slot[page & (TREE_FAN - 1)];
    for (int64_t i = 0; i < count; i++) {
        page_get(elem[i].page);
        tree_slot_store(tree, &slot[i], page + i, elem[i].page);
    }
    return count;
}

void tree_write(struct disk_tree *tree, int64_t offset, int64_t bytes, const struct payload *in, int64_t in_offset)
{
    SIM_ASSERT(offset >= 0 && in_offset >= 0);
    SIM_ASSERT_LE(in_offset + bytes, in->size_bytes);
    if (tree->grows) {
        tree->length = MAX(tree->length, bytes > 0 ? offset + bytes : 0);
    }
    int64_t stop = MIN(offset + bytes, tree->length);
    if (offset >= stop) {
        return;
    }
    if (stop - offset >= TREE_FAN * SIM_PAGE_BYTES && payload_is_zero(in, in_offset, stop - offset)) {
        /* zeroes as data, from who cannot write zeroes otherwise: a few markers, not a slot for each page */
        tree_write_zeroes(tree, offset, stop - offset, false);
        return;
    }
    tree_cover(tree, DIV_ROUND_UP(stop, SIM_PAGE_BYTES));
    tree_allocate_units(tree, offset / SIM_PAGE_BYTES, DIV_ROUND_UP(stop, SIM_PAGE_BYTES));
    while (offset < stop) {
        int64_t page = offset / SIM_PAGE_BYTES;
        int64_t leaf_end = ROUND_DOWN(page, TREE_FAN) + TREE_FAN;
        unsigned in_page = (unsigned)(offset % SIM_PAGE_BYTES);
        struct disk_node *leaf = tree_leaf_open(tree, page);
        int64_t whole = in_page == 0 ? MIN(stop / SIM_PAGE_BYTES, leaf_end) - page : 0;
        int64_t done = write_whole_pages(tree, leaf, page, whole, in, in_offset) * SIM_PAGE_BYTES;
        if (done == 0) {
            tree_slot *slot = &leaf->slot[page & (TREE_FAN - 1)];
            done = MIN(stop - offset, SIM_PAGE_BYTES - in_page);
            tree_slot_store(tree, slot, page,
                            page_overlay(tree, *slot, page, in_page, (unsigned)done, in, in_offset));
        }
        offset += done;
        in_offset += done;
    }
}

/* Zeroes within one page or a few; holes stay holes when unmap. */
static void zero_edge(struct disk_tree *tree, int64_t offset, int64_t stop, bool unmap)
{
    struct payload zero;

    payload_init(tree->sim, &zero);
    while (offset < stop) {
        int64_t page = offset / SIM_PAGE_BYTES;
        int64_t piece = MIN(stop, (page + 1) * SIM_PAGE_BYTES) - offset;
        int64_t end;
        if (!unmap || tree_state_at(tree, page, page + 1, &end) != TREE_IS_HOLE) {
            payload_append_zero(&zero, piece);
            tree_write(tree, offset, piece, &zero, 0);
            payload_clear(&zero);
        }
        offset += piece;
    }
}

/* The part of [offset, stop) that whole units (bytes each) make up, the length's own unit included. */
static void whole_units(const struct disk_tree *tree, int64_t unit, int64_t *offset, int64_t *stop)
{
    *offset = ROUND_UP(*offset, unit);
    *stop = *stop >= tree->length ? ROUND_UP(*stop, unit) : ROUND_DOWN(*stop, unit);
}

void tree_write_zeroes(struct disk_tree *tree, int64_t offset, int64_t bytes, bool unmap)
{
    int64_t unit = unmap ? (int64_t)tree->unit * SIM_PAGE_BYTES : SIM_PAGE_BYTES;

    SIM_ASSERT(offset >= 0 && bytes >= 0);
    if (tree->grows && bytes > 0) {
        tree->length = MAX(tree->length, offset + bytes);
    }
    int64_t stop = MIN(offset + bytes, tree->length);
    if (offset >= stop) {
        return;
    }
    int64_t from = offset;
    int64_t to = stop;
    whole_units(tree, unit, &from, &to);
    if (!unmap) {
        tree_allocate_units(tree, offset / SIM_PAGE_BYTES, DIV_ROUND_UP(stop, SIM_PAGE_BYTES));
    }
    if (from >= to) {
        zero_edge(tree, offset, stop, unmap);
        return;
    }
    tree_fill(tree, from / SIM_PAGE_BYTES, to / SIM_PAGE_BYTES, unmap ? TREE_HOLE : TREE_ZERO, false);
    zero_edge(tree, offset, from, unmap);
    zero_edge(tree, to, stop, unmap);
}

void tree_discard(struct disk_tree *tree, int64_t offset, int64_t bytes)
{
    int64_t stop = MIN(offset + bytes, tree->length);

    SIM_ASSERT(offset >= 0 && bytes >= 0);
    if (offset >= stop) {
        return;
    }
    whole_units(tree, (int64_t)tree->unit * SIM_PAGE_BYTES, &offset, &stop);
    if (offset < stop) {
        tree_fill(tree, offset / SIM_PAGE_BYTES, stop / SIM_PAGE_BYTES, TREE_HOLE, false);
    }
}

void tree_truncate(struct disk_tree *tree, int64_t length)
{
    int64_t old = tree->length;
    int64_t unit = (int64_t)tree->unit * SIM_PAGE_BYTES;

    SIM_ASSERT(length >= 0);
    if (length < old) {
        int64_t kept = ROUND_UP(length, unit);
        tree_fill(tree, kept / SIM_PAGE_BYTES, ROUND_UP(old, unit) / SIM_PAGE_BYTES, TREE_HOLE, false);
        zero_edge(tree, length, MIN(kept, old), true);
    }
    tree->length = length;
}
