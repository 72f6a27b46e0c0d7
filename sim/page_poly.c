/* Content ids as polynomials: what a page, or some sectors of one, adds to the id of a payload. */
#include "sim/page.h"

#define POLY_TAG_LOW UINT64_C(0x0f1bbcdcbfa53e0b)
#define POLY_TAG_HIGH UINT64_C(0x13198a2e03707345)
#define POLY_TAG_ONE UINT64_C(0x0a4093822299f31d)
/*
 * Eight tags from t on make t * A + K[t >> 61]. R is 0x1c64e6d59e3779b9; with S the sum over j = 0..7 of R^j, and T
 * that of j * R^j, A = LOW * S and K[h] = LOW * T + (ONE + HIGH * h) * S.
 */
#define POLY_TAGS_A UINT64_C(0x0a5a67fcfdbcd88b)
static const uint64_t poly_tags_k[8] = {
    UINT64_C(0x129369ffc7a46ba8), UINT64_C(0x0ba99e22b333c291), UINT64_C(0x04bfd2459ec3197a),
    UINT64_C(0x1dd606688a527062), UINT64_C(0x16ec3a8b75e1c74b), UINT64_C(0x10026eae61711e34),
    UINT64_C(0x0918a2d14d00751d), UINT64_C(0x022ed6f4388fcc06),
};

const uint64_t poly_power[PAGE_SECTORS + 1] = {
    UINT64_C(0x0000000000000001), UINT64_C(0x1c64e6d59e3779b9), UINT64_C(0x028b523ef080abd1),
    UINT64_C(0x05d5ed6ff84d3e40), UINT64_C(0x078068eb588d604e), UINT64_C(0x07e18ed6784ed6b4),
    UINT64_C(0x00a4abc54398cd83), UINT64_C(0x15cf00b4552cbc7b), UINT64_C(0x0431e0ac83a95f5d),
};

static uint64_t poly_reduce(uint64_t x)
{
    return poly_add(x & POLY_MOD, x >> 61);
}

/* The part of a tag's value that its run of 2^61 tags has in common. */
static uint64_t tag_run_poly(uint64_t tag)
{
    return poly_add(POLY_TAG_ONE, poly_mul(POLY_TAG_HIGH, tag >> 61));
}

uint64_t sector_poly(const struct sector *s)
{
    switch (s->kind) {
    case SECTOR_ZERO:
        return 0;
    case SECTOR_TAG:
        return poly_add(poly_mul(POLY_TAG_LOW, poly_reduce(s->value & POLY_MOD)), tag_run_poly(s->value));
    case SECTOR_FILL:
    case SECTOR_BYTES:
        break;
    }
    return poly_reduce(sector_id(s));
}

uint64_t page_poly_part(struct page *page, unsigned first, unsigned count)
{
    uint64_t sum = 0;

    if (count == PAGE_SECTORS) {
        return page_poly(page);
    }
    if (page->form == PAGE_FORM_ZERO) {
        return 0;
    }
    for (unsigned i = first + count; i-- > first;) {
        struct sector s = page_sector(page, i);
        sum = poly_add(poly_mul(sum, poly_power[1]), sector_poly(&s));
    }
    return sum;
}

uint64_t page_poly(struct page *page)
{
    if (page->poly_known) {
        return page->poly;
    }
    if (page->form == PAGE_FORM_TAGS) {
        uint64_t first = poly_reduce(page->value & POLY_MOD);
        page->poly = poly_add(poly_mul(first, POLY_TAGS_A), poly_tags_k[page->value >> 61]);
    } else {
        uint64_t sum = 0;
        for (unsigned i = PAGE_SECTORS; i-- > 0;) {
            struct sector s = page_sector(page, i);
            sum = poly_add(poly_mul(sum, poly_power[1]), sector_poly(&s));
        }
        page->poly = sum;
    }
    page->poly_known = true;
    return page->poly;
}
