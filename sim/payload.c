/* Payloads: byte ranges over references to pages. */
#include "sim/payload.h"

#include <string.h>

#include "sim/page.h"

/* --- places in a payload -------------------------------------------------------------------------------- */

static int64_t payload_sectors(const struct payload *p)
{
    return (p->head_bytes + p->size_bytes + SIM_SECTOR_BYTES - 1) / SIM_SECTOR_BYTES;
}

/* Bytes used in the last sector; 0 when the end is on a sector edge. */
static unsigned payload_end(const struct payload *p)
{
    return (unsigned)((p->head_bytes + p->size_bytes) % SIM_SECTOR_BYTES);
}

struct cursor {
    const struct payload *p;
    uint32_t elem;
    unsigned sector; /* within the element */
};

/*
 * The place of sector `at`, counted from the payload's first one. In the usual case, whole pages with a cut one at
 * either end, it is computed; otherwise searched.
 */
static struct cursor cursor_at(const struct payload *p, int64_t at)
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

static void cursor_advance(struct cursor *c, unsigned sectors)
{
    c->sector += sectors;
    SIM_ASSERT_LE(c->sector, c->p->elem[c->elem].count);
    if (c->sector == c->p->elem[c->elem].count) {
        c->elem++;
        c->sector = 0;
    }
}

static unsigned cursor_left(const struct cursor *c)
{
    return c->p->elem[c->elem].count - c->sector;
}

static unsigned cursor_page_sector(const struct cursor *c)
{
    return c->p->elem[c->elem].first + c->sector;
}

static struct sector cursor_get(const struct cursor *c)
{
    return page_sector(c->p->elem[c->elem].page, cursor_page_sector(c));
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
    struct cursor last = cursor_at(p, payload_sectors(p) - 1);
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
    struct cursor c = cursor_at(from, start / SIM_SECTOR_BYTES);
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
    payload_pop_sectors(p, before - payload_sectors(p));
}

/* --- looking -------------------------------------------------------------------------------------------- */

void payload_read_bytes(const struct payload *p, int64_t offset, void *buf, int64_t bytes)
{
    uint8_t *out = buf;

    SIM_ASSERT(offset >= 0 && bytes >= 0);
    SIM_ASSERT_LE(offset + bytes, p->size_bytes);
    if (bytes == 0) {
        return;
    }
    int64_t start = p->head_bytes + offset;
    struct cursor c = cursor_at(p, start / SIM_SECTOR_BYTES);
    unsigned in_sector = (unsigned)(start % SIM_SECTOR_BYTES);
    while (bytes > 0) {
        unsigned sectors = cursor_left(&c);
        unsigned piece = (unsigned)MIN(bytes, sectors * SIM_SECTOR_BYTES - in_sector);
        page_read_bytes(p->elem[c.elem].page, cursor_page_sector(&c) * SIM_SECTOR_BYTES + in_sector, out, piece);
        out += piece;
        bytes -= piece;
        in_sector = 0;
        cursor_advance(&c, sectors);
    }
}

static bool sector_part_zero(const struct sector *s, unsigned offset, unsigned bytes)
{
    uint8_t buf[SIM_SECTOR_BYTES];

    if (s->kind == SECTOR_ZERO || s->kind == SECTOR_FILL || bytes == SIM_SECTOR_BYTES) {
        return s->kind == SECTOR_ZERO;
    }
    sector_read(s, offset, buf, bytes);
    return buf[0] == 0 && memcmp(buf, buf + 1, bytes - 1) == 0;
}

bool payload_is_zero(const struct payload *p, int64_t offset, int64_t bytes)
{
    SIM_ASSERT(offset >= 0 && bytes >= 0);
    SIM_ASSERT_LE(offset + bytes, p->size_bytes);
    if (bytes == 0) {
        return true;
    }
    int64_t start = p->head_bytes + offset;
    struct cursor c = cursor_at(p, start / SIM_SECTOR_BYTES);
    unsigned in_sector = (unsigned)(start % SIM_SECTOR_BYTES);
    while (bytes > 0) {
        unsigned sectors = page_is_zero(p->elem[c.elem].page) ? cursor_left(&c) : 1;
        unsigned piece = (unsigned)MIN(bytes, sectors * SIM_SECTOR_BYTES - in_sector);
        struct sector s = cursor_get(&c);
        if (s.kind != SECTOR_ZERO && !sector_part_zero(&s, in_sector, piece)) {
            return false;
        }
        bytes -= piece;
        in_sector = 0;
        cursor_advance(&c, sectors);
    }
    return true;
}

static int64_t bytes_difference(const uint8_t *a, const uint8_t *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (a[i] != b[i]) {
            return i;
        }
    }
    return -1;
}

/* The ranges begin at different places of their sectors: nothing but bytes compares. */
static int64_t compare_bytes(const struct payload *a, int64_t a_offset, const struct payload *b, int64_t b_offset,
                             int64_t bytes)
{
    uint8_t left[SIM_PAGE_BYTES];
    uint8_t right[SIM_PAGE_BYTES];

    for (int64_t done = 0; done < bytes; done += SIM_PAGE_BYTES) {
        int64_t n = MIN(bytes - done, SIM_PAGE_BYTES);
        payload_read_bytes(a, a_offset + done, left, n);
        payload_read_bytes(b, b_offset + done, right, n);
        int64_t at = bytes_difference(left, right, n);
        if (at >= 0) {
            return done + at;
        }
    }
    return -1;
}

static int64_t compare_sector(const struct cursor *a, const struct cursor *b, unsigned offset, unsigned bytes)
{
    uint8_t left[SIM_SECTOR_BYTES];
    uint8_t right[SIM_SECTOR_BYTES];
    struct sector s = cursor_get(a);
    struct sector t = cursor_get(b);

    if (sector_equal(&s, &t)) {
        return -1;
    }
    sector_read(&s, offset, left, bytes);
    sector_read(&t, offset, right, bytes);
    return bytes_difference(left, right, bytes);
}

static int64_t compare(const struct payload *a, int64_t a_offset, const struct payload *b, int64_t b_offset,
                       int64_t bytes)
{
    int64_t a_start = a->head_bytes + a_offset;
    int64_t b_start = b->head_bytes + b_offset;
    unsigned in_sector = (unsigned)(a_start % SIM_SECTOR_BYTES);
    int64_t done = 0;

    SIM_ASSERT(a_offset >= 0 && b_offset >= 0 && bytes >= 0);
    SIM_ASSERT(a_offset + bytes <= a->size_bytes && b_offset + bytes <= b->size_bytes);
    if (bytes == 0) {
        return -1;
    }
    if (in_sector != b_start % SIM_SECTOR_BYTES) {
        return compare_bytes(a, a_offset, b, b_offset, bytes);
    }
    struct cursor c = cursor_at(a, a_start / SIM_SECTOR_BYTES);
    struct cursor d = cursor_at(b, b_start / SIM_SECTOR_BYTES);
    while (done < bytes) {
        struct page *left = a->elem[c.elem].page;
        struct page *right = b->elem[d.elem].page;
        unsigned sectors = 1;
        if (cursor_page_sector(&c) == cursor_page_sector(&d) && page_equal(left, right)) {
            sectors = MIN(cursor_left(&c), cursor_left(&d));
        }
        unsigned piece = (unsigned)MIN(bytes - done, sectors * SIM_SECTOR_BYTES - in_sector);
        int64_t at = sectors > 1 ? -1 : compare_sector(&c, &d, in_sector, piece);
        if (at >= 0) {
            return done + at;
        }
        done += piece;
        in_sector = 0;
        cursor_advance(&c, sectors);
        cursor_advance(&d, sectors);
    }
    return -1;
}

bool payload_equal(const struct payload *a, int64_t a_offset, const struct payload *b, int64_t b_offset,
                   int64_t bytes)
{
    return compare(a, a_offset, b, b_offset, bytes) < 0;
}

int64_t payload_first_difference(const struct payload *a, const struct payload *b, int64_t bytes)
{
    return compare(a, 0, b, 0, bytes);
}

/* --- content ids ---------------------------------------------------------------------------------------- */

static inline uint64_t elem_poly(const struct payload_elem *elem)
{
    if (elem->count == PAGE_SECTORS && elem->page->poly_known) {
        return elem->page->poly;
    }
    return page_poly_part(elem->page, elem->first, elem->count);
}

/* The last sector when the range ends inside it: what lies beyond counts as zero. */
static uint64_t tail_poly(const struct payload *p, int64_t sector)
{
    uint8_t buf[SIM_SECTOR_BYTES] = {0};
    int64_t offset = sector * SIM_SECTOR_BYTES;

    payload_read_bytes(p, offset, buf, p->size_bytes - offset);
    struct sector s = sector_from_bytes(p->sim, buf);
    uint64_t poly = sector_poly(&s);
    sector_drop(p->sim, s);
    return poly;
}

/* A range that begins inside a sector is cut anew, so that its own first byte begins one. */
static uint64_t shifted_id(const struct payload *p)
{
    struct payload fresh;
    uint8_t buf[SIM_PAGE_BYTES];

    payload_init(p->sim, &fresh);
    for (int64_t done = 0; done < p->size_bytes; done += SIM_PAGE_BYTES) {
        int64_t n = MIN(p->size_bytes - done, SIM_PAGE_BYTES);
        payload_read_bytes(p, done, buf, n);
        payload_append_bytes(&fresh, buf, n);
    }
    uint64_t id = payload_content_id(&fresh);
    payload_clear(&fresh);
    return id;
}

uint64_t payload_content_id(const struct payload *p)
{
    uint32_t count = p->count;
    uint64_t sum = 0;

    if (p->head_bytes != 0) {
        return payload_is_zero(p, 0, p->size_bytes) ? 0 : shifted_id(p);
    }
    if (payload_end(p) != 0) {
        struct payload_elem last = p->elem[--count];
        last.count--;
        sum = poly_mul(tail_poly(p, payload_sectors(p) - 1), poly_power[last.count]);
        if (last.count > 0) {
            sum = poly_add(sum, elem_poly(&last));
        }
    }
    while (count-- > 0) {
        sum = poly_add(poly_mul(sum, poly_power[p->elem[count].count]), elem_poly(&p->elem[count]));
    }
    return sim_mix64(sum);
}

/* --- sectors -------------------------------------------------------------------------------------------- */

uint64_t payload_sector_id(const struct payload *p, int64_t sector)
{
    SIM_ASSERT_EQ(p->head_bytes, 0);
    if ((sector + 1) * SIM_SECTOR_BYTES > p->size_bytes) {
        uint8_t buf[SIM_SECTOR_BYTES] = {0};
        int64_t offset = sector * SIM_SECTOR_BYTES;
        payload_read_bytes(p, offset, buf, p->size_bytes - offset);
        return sim_sector_id_bytes(buf);
    }
    struct cursor c = cursor_at(p, sector);
    struct sector s = cursor_get(&c);
    return sector_id(&s);
}

bool payload_sector_tag(const struct payload *p, int64_t sector, uint64_t *tag)
{
    SIM_ASSERT_EQ(p->head_bytes, 0);
    if ((sector + 1) * SIM_SECTOR_BYTES > p->size_bytes) {
        return false;
    }
    struct cursor c = cursor_at(p, sector);
    return page_sector_tag(c.p->elem[c.elem].page, cursor_page_sector(&c), tag);
}

void payload_sectors_get(const struct payload *p, int64_t sector, unsigned count, struct sector *out)
{
    struct cursor c = cursor_at(p, sector);

    for (unsigned i = 0; i < count; i++) {
        out[i] = sector_ref(cursor_get(&c));
        cursor_advance(&c, 1);
    }
}

uint32_t payload_whole_pages(const struct payload *p, int64_t sector, uint32_t most,
                             const struct payload_elem **elem)
{
    struct cursor c = cursor_at(p, sector);
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
