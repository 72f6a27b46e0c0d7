/* Looking at payloads: bytes, zeroes, comparison, content ids. */
#include <string.h>

#include "sim/payload_int.h"

void payload_read_bytes(const struct payload *p, int64_t offset, void *buf, int64_t bytes)
{
    uint8_t *out = buf;

    SIM_ASSERT(offset >= 0 && bytes >= 0);
    SIM_ASSERT_LE(offset + bytes, p->size_bytes);
    if (bytes == 0) {
        return;
    }
    int64_t start = p->head_bytes + offset;
    struct cursor c = payload_cursor(p, start / SIM_SECTOR_BYTES);
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
    struct cursor c = payload_cursor(p, start / SIM_SECTOR_BYTES);
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
    if (memcmp(a, b, (size_t)n) == 0) {
        return -1;
    }
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

/* Passes up to `most` whole pages that are equal, and says how many. */
static int64_t same_pages(struct cursor *a, struct cursor *b, int64_t most)
{
    const struct payload_elem *left = &a->p->elem[a->elem];
    const struct payload_elem *right = &b->p->elem[b->elem];
    int64_t n = 0;

    if (a->sector != 0 || b->sector != 0) {
        return 0;
    }
    while (n < most && left[n].count == PAGE_SECTORS && right[n].count == PAGE_SECTORS &&
           (left[n].page == right[n].page || page_equal(left[n].page, right[n].page))) {
        n++;
    }
    a->elem += (uint32_t)n;
    b->elem += (uint32_t)n;
    return n;
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
    struct cursor c = payload_cursor(a, a_start / SIM_SECTOR_BYTES);
    struct cursor d = payload_cursor(b, b_start / SIM_SECTOR_BYTES);
    while (done < bytes) {
        int64_t same = in_sector == 0 ? same_pages(&c, &d, (bytes - done) / SIM_PAGE_BYTES) : 0;
        if (same > 0) {
            done += same * SIM_PAGE_BYTES;
            continue;
        }
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

/* Whole pages four at a time: each step of a sum waits for the multiplication before it. */
#define POLY_GROUP 4

static inline bool whole_known(const struct payload_elem *elem)
{
    return elem->count == PAGE_SECTORS && elem->page->poly_known;
}

static inline bool whole_tags(const struct payload_elem *elem)
{
    return elem->count == PAGE_SECTORS && elem->page->form == PAGE_FORM_TAGS;
}

/* How many pages up to and with `last`, of the `most` there are, hold tags that follow each other in one run. */
static uint32_t consecutive_tags(const struct payload_elem *last, uint32_t most)
{
    uint64_t tag = last->page->value;
    uint32_t n = 1;

    if (!whole_tags(last)) {
        return 0;
    }
    most = MIN(most, POLY_RUN_PAGES);
    while (n < most && whole_tags(last - n) && (last - n)->page->value == tag - PAGE_SECTORS) {
        tag -= PAGE_SECTORS;
        n++;
    }
    return tag >> 61 == (tag + n * PAGE_SECTORS - 1) >> 61 ? n : 0;
}

/* The elements below `count`, the last at the highest powers, put before `sum`. */
static uint64_t elems_poly(const struct payload_elem *elem, uint32_t count, uint64_t sum)
{
    const uint64_t r1 = poly_power[PAGE_SECTORS];
    const uint64_t r2 = poly_mul(r1, r1);
    const uint64_t r3 = poly_mul(r2, r1);
    const uint64_t r4 = poly_mul(r2, r2);

    while (count > 0) {
        const struct payload_elem *e = &elem[count - 1];
        uint32_t tags = consecutive_tags(e, count);
        if (tags >= POLY_GROUP) {
            sum = tags_run_poly(e[1 - (int64_t)tags].page->value, tags, sum);
            count -= tags;
            continue;
        }
        if (count >= POLY_GROUP && whole_known(e) && whole_known(e - 1) && whole_known(e - 2) &&
            whole_known(e - 3)) {
            uint64_t high = poly_add(poly_mul(e[0].page->poly, r3), poly_mul(e[-1].page->poly, r2));
            uint64_t low = poly_add(poly_mul(e[-2].page->poly, r1), e[-3].page->poly);

            sum = poly_add(poly_mul(sum, r4), poly_add(high, low));
            count -= POLY_GROUP;
            continue;
        }
        sum = poly_add(poly_mul(sum, poly_power[e->count]), elem_poly(e));
        count--;
    }
    return sum;
}

static uint64_t find_content_id(const struct payload *p)
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
    return sim_mix64(elems_poly(p->elem, count, sum));
}

uint64_t payload_content_id(const struct payload *p)
{
    struct payload *own = (struct payload *)p; /* knowing its id does not change it */

    if (!p->content_known) {
        own->content = find_content_id(p);
        own->content_known = true;
    }
    return p->content;
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
    struct cursor c = payload_cursor(p, sector);
    struct sector s = cursor_get(&c);
    return sector_id(&s);
}

bool payload_sector_tag(const struct payload *p, int64_t sector, uint64_t *tag)
{
    SIM_ASSERT_EQ(p->head_bytes, 0);
    if ((sector + 1) * SIM_SECTOR_BYTES > p->size_bytes) {
        return false;
    }
    struct cursor c = payload_cursor(p, sector);
    return page_sector_tag(c.p->elem[c.elem].page, cursor_page_sector(&c), tag);
}
