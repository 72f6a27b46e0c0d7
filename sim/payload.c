/* Payloads: byte ranges over references to pages. */
#include "sim/payload.h"

#include <string.h>

#include "sim/payload_int.h"

/*
 * The place of sector `at`, counted from the payload's first one. In the usual case, whole pages with a cut one at
 * either end, it is computed; otherwise searched.
 */
struct cursor payload_cursor(const struct payload *p, int64_t at)
{
    struct cursor c = {.p = p};
    int64_t first = p->count > 0 ? p->elem[0].count : 0;

    SIM_ASSERT(at >= 0 && at < payload_sectors(p));
    if (at < first) {
        c.sector = (unsigned)at;
        return c;
    }
    at -= first;
    c.elem = 1;
    if (payload_sectors(p) - first - p->elem[p->count - 1].count == (int64_t)(p->count - 2) * PAGE_SECTORS) {
        c.elem += (uint32_t)(at / PAGE_SECTORS);
        c.sector = (unsigned)(at % PAGE_SECTORS);
        return c;
    }
    while (at >= p->elem[c.elem].count) {
        at -= p->elem[c.elem].count;
        c.elem++;
        SIM_ASSERT(c.elem < p->count);
    }
    c.sector = (unsigned)at;
    return c;
}

/* --- making and ending ---------------------------------------------------------------------------------- */

void payload_init(struct sim *sim, struct payload *p)
{
    p->sim = sim;
    p->elem = p->inline_elem;
    p->count = 0;
    p->room = PAYLOAD_INLINE;
    p->head_bytes = 0;
    p->size_bytes = 0;
    p->content_known = false;
}

static void payload_spill_free(struct payload *p)
{
    if (p->elem != p->inline_elem) {
        SIM_FREE_N(sim_arena(p->sim), payload_elem, p->elem, struct payload_elem, p->room);
    }
}

void payload_clear(struct payload *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        page_put(p->sim, p->elem[i].page);
    }
    payload_spill_free(p);
    payload_init(p->sim, p);
}

static void payload_reserve(struct payload *p, uint32_t more)
{
    if (more <= p->room - p->count) {
        return;
    }
    uint32_t room = MAX(p->room * 2, p->count + more);
    struct payload_elem *elem = sim_alloc_raw(sim_arena(p->sim), SIM_TYPE_payload_elem, sizeof(*elem) * room);
    memcpy(elem, p->elem, sizeof(*elem) * p->count);
    payload_spill_free(p);
    p->elem = elem;
    p->room = room;
}

struct payload_elem *payload_extend(struct payload *p, uint32_t pages)
{
    SIM_ASSERT_EQ(payload_end(p), 0);
    payload_reserve(p, pages);
    p->content_known = false;
    p->count += pages;
    p->size_bytes += (int64_t)pages * SIM_PAGE_BYTES;
    return &p->elem[p->count - pages];
}

void payload_move(struct payload *to, struct payload *from)
{
    SIM_ASSERT(to != from && to->sim == from->sim);
    SIM_ASSERT_EQ(to->size_bytes, 0);
    payload_clear(to);
    to->count = from->count;
    to->head_bytes = from->head_bytes;
    to->size_bytes = from->size_bytes;
    to->content = from->content;
    to->content_known = from->content_known;
    if (from->elem == from->inline_elem) {
        memcpy(to->elem, from->elem, sizeof(*to->elem) * from->count);
    } else {
        to->elem = from->elem;
        to->room = from->room;
    }
    payload_init(from->sim, from);
}

/* Takes over the reference. Parts of one page that follow each other become one element. */
static void payload_push(struct payload *p, struct page *page, unsigned first, unsigned count)
{
    SIM_ASSERT(count > 0 && first + count <= PAGE_SECTORS);
    p->content_known = false;
    if (p->count > 0 && count < PAGE_SECTORS) {
        struct payload_elem *last = &p->elem[p->count - 1];
        if (last->page == page && last->first + last->count == first) {
            last->count = (uint8_t)(last->count + count);
            page_put(p->sim, page);
            return;
        }
    }
    payload_reserve(p, 1);
    p->elem[p->count++] = (struct payload_elem){.page = page, .first = (uint8_t)first, .count = (uint8_t)count};
}

static void payload_pop_sectors(struct payload *p, int64_t sectors)
{
    while (sectors > 0) {
        SIM_ASSERT(p->count > 0);
        struct payload_elem *last = &p->elem[p->count - 1];
        if (last->count > sectors) {
            last->count = (uint8_t)(last->count - sectors);
            return;
        }
        sectors -= last->count;
        page_put(p->sim, last->page);
        p->count--;
    }
}

/* Joins bytes to an end in the middle of a sector: that sector and what follows become a new page. Returns how many
 * bytes it took. */
static int64_t payload_join(struct payload *p, const uint8_t *data, int64_t bytes)
{
    uint8_t buf[SIM_PAGE_BYTES] = {0};
    unsigned end = payload_end(p);
    unsigned taken = (unsigned)MIN(bytes, SIM_PAGE_BYTES - end);
    struct cursor last = payload_cursor(p, payload_sectors(p) - 1);
    struct sector s = cursor_get(&last);

    SIM_ASSERT(end > 0);
    sector_read(&s, 0, buf, end);
    memcpy(buf + end, data, taken);
    payload_pop_sectors(p, 1);
    payload_push(p, page_from_bytes(p->sim, buf), 0, DIV_ROUND_UP(end + taken, SIM_SECTOR_BYTES));
    p->size_bytes += taken;
    return taken;
}

void payload_append_bytes(struct payload *p, const void *data, int64_t bytes)
{
    const uint8_t *from = data;

    SIM_ASSERT(bytes >= 0);
    if (bytes > 0 && payload_end(p) > 0) {
        int64_t taken = payload_join(p, from, bytes);
        from += taken;
        bytes -= taken;
    }
    while (bytes >= SIM_PAGE_BYTES) {
        payload_push(p, page_from_bytes(p->sim, from), 0, PAGE_SECTORS);
        p->size_bytes += SIM_PAGE_BYTES;
        from += SIM_PAGE_BYTES;
        bytes -= SIM_PAGE_BYTES;
    }
    if (bytes > 0) {
        uint8_t buf[SIM_PAGE_BYTES] = {0};
        memcpy(buf, from, (size_t)bytes);
        payload_push(p, page_from_bytes(p->sim, buf), 0, (unsigned)DIV_ROUND_UP(bytes, SIM_SECTOR_BYTES));
        p->size_bytes += bytes;
    }
}

/* Appends bytes [offset, offset+bytes) of a page, by reference wherever the seam allows it. */
static void payload_append_piece(struct payload *p, struct page *page, unsigned offset, unsigned bytes)
{
    unsigned start = offset % SIM_SECTOR_BYTES;
    unsigned end = payload_end(p);

    SIM_ASSERT(offset + bytes <= SIM_PAGE_BYTES);
    if (bytes == 0) {
        return;
    }
    if (p->size_bytes > 0 && (start != 0 || end != 0)) {
        uint8_t buf[SIM_PAGE_BYTES];
        unsigned literal = start == end ? MIN(bytes, SIM_SECTOR_BYTES - start) : bytes;
        page_read_bytes(page, offset, buf, literal);
        payload_append_bytes(p, buf, literal);
        if (bytes > literal) {
            payload_append_piece(p, page, offset + literal, bytes - literal);
        }
        return;
    }
    if (p->size_bytes == 0) {
        p->head_bytes = start;
    }
    page_get(page);
    payload_push(p, page, offset / SIM_SECTOR_BYTES, DIV_ROUND_UP(start + bytes, SIM_SECTOR_BYTES));
    p->size_bytes += bytes;
}

void payload_append_fill(struct payload *p, uint8_t byte, int64_t bytes)
{
    struct page *page = page_fill(p->sim, byte);
    unsigned end = payload_end(p);

    SIM_ASSERT(bytes >= 0);
    if (end > 0) {
        unsigned seam = (unsigned)MIN(bytes, SIM_SECTOR_BYTES - end);
        payload_append_piece(p, page, end, seam);
        bytes -= seam;
    }
    if (bytes >= SIM_PAGE_BYTES) {
        uint32_t pages = (uint32_t)MIN(bytes / SIM_PAGE_BYTES, (int64_t)UINT32_MAX / 2);
        struct payload_elem *elem = payload_extend(p, pages);
        for (uint32_t i = 0; i < pages; i++) {
            page_get(page);
            elem[i] = (struct payload_elem){.page = page, .count = PAGE_SECTORS};
        }
        bytes -= (int64_t)pages * SIM_PAGE_BYTES;
    }
    SIM_ASSERT_LT(bytes, SIM_PAGE_BYTES);
    if (bytes > 0) {
        payload_append_piece(p, page, 0, (unsigned)bytes);
    }
    page_put(p->sim, page);
}

void payload_append_zero(struct payload *p, int64_t bytes)
{
    payload_append_fill(p, 0, bytes);
}

void payload_append_tags(struct payload *p, uint64_t tag, int64_t sectors)
{
    SIM_ASSERT(sectors >= 0);
    while (sectors > 0) {
        unsigned count = (unsigned)MIN(sectors, PAGE_SECTORS);
        struct page *page = page_tags(p->sim, tag);
        payload_append_piece(p, page, 0, count * SIM_SECTOR_BYTES);
        page_put(p->sim, page);
        tag += count;
        sectors -= count;
    }
}

/* Up to `most` elements that are whole pages, from element `at` on. */
static uint32_t payload_append_whole(struct payload *p, const struct payload *from, uint32_t at, int64_t most)
{
    uint32_t limit = (uint32_t)MIN((int64_t)(from->count - at), most);
    uint32_t n = 0;

    while (n < limit && from->elem[at + n].count == PAGE_SECTORS) {
        n++;
    }
    struct payload_elem *to = payload_extend(p, n);
    for (uint32_t i = 0; i < n; i++) {
        to[i] = from->elem[at + i];
        page_get(to[i].page);
    }
    return n;
}

void payload_append(struct payload *p, const struct payload *from, int64_t offset, int64_t bytes)
{
    SIM_ASSERT(p != from && offset >= 0 && bytes >= 0);
    SIM_ASSERT_LE(offset + bytes, from->size_bytes);
    if (bytes == 0) {
        return;
    }
    int64_t start = from->head_bytes + offset;
    struct cursor c = payload_cursor(from, start / SIM_SECTOR_BYTES);
    unsigned in_sector = (unsigned)(start % SIM_SECTOR_BYTES);
    while (bytes > 0) {
        unsigned sectors = cursor_left(&c);
        int64_t whole = c.sector == 0 && in_sector == 0 && payload_end(p) == 0 ? bytes / SIM_PAGE_BYTES : 0;
        uint32_t pages = whole > 0 ? payload_append_whole(p, from, c.elem, whole) : 0;
        if (pages > 0) {
            bytes -= (int64_t)pages * SIM_PAGE_BYTES;
            c.elem += pages;
            continue;
        }
        unsigned piece = (unsigned)MIN(bytes, sectors * SIM_SECTOR_BYTES - in_sector);
        payload_append_piece(p, from->elem[c.elem].page, cursor_page_sector(&c) * SIM_SECTOR_BYTES + in_sector,
                             piece);
        bytes -= piece;
        in_sector = 0;
        cursor_advance(&c, sectors);
    }
}

void payload_append_page(struct payload *p, struct page *page, unsigned first, unsigned count)
{
    SIM_ASSERT(count > 0 && first + count <= PAGE_SECTORS);
    payload_append_piece(p, page, first * SIM_SECTOR_BYTES, count * SIM_SECTOR_BYTES);
}

void payload_append_page_bytes(struct payload *p, struct page *page, unsigned offset, unsigned bytes)
{
    payload_append_piece(p, page, offset, bytes);
}

void payload_slice(struct payload *dst, const struct payload *src, int64_t offset, int64_t bytes)
{
    SIM_ASSERT_EQ(dst->size_bytes, 0);
    payload_append(dst, src, offset, bytes);
}

void payload_truncate(struct payload *p, int64_t bytes)
{
    SIM_ASSERT(bytes >= 0);
    SIM_ASSERT_LE(bytes, p->size_bytes);
    if (bytes == 0) {
        payload_clear(p);
        return;
    }
    int64_t before = payload_sectors(p);
    p->size_bytes = bytes;
    p->content_known = false;
    payload_pop_sectors(p, before - payload_sectors(p));
}

/* --- for media: sectors and runs of whole pages --------------------------------------------------------------- */

void payload_sectors_get(const struct payload *p, int64_t sector, unsigned count, struct sector *out)
{
    struct cursor c = payload_cursor(p, sector);

    for (unsigned i = 0; i < count; i++) {
        out[i] = sector_ref(cursor_get(&c));
        cursor_advance(&c, 1);
    }
}

uint32_t payload_whole_pages(const struct payload *p, int64_t sector, uint32_t most,
                             const struct payload_elem **elem)
{
    struct cursor c = payload_cursor(p, sector);
    uint32_t limit = c.elem + MIN(p->count - c.elem, most);
    uint32_t n = c.elem;

    *elem = &p->elem[c.elem];
    if (c.sector != 0) {
        return 0;
    }
    while (n < limit && p->elem[n].count == PAGE_SECTORS) {
        n++;
    }
    return n - c.elem;
}
