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

/*
 * n pages of tags that follow each other, from tag t on, make (t * A + K[t >> 61]) * sum + slope. With P = R^8: sum
 * is that over j < n of P^j, slope 8 * A times that of j * P^j, power P^n.
 */
static const struct {
    uint64_t sum, slope, power;
} poly_tags_run[POLY_RUN_PAGES + 1] = {
    {UINT64_C(0x0000000000000000), UINT64_C(0x0000000000000000), UINT64_C(0x0000000000000001)},
    {UINT64_C(0x0000000000000001), UINT64_C(0x0000000000000000), UINT64_C(0x0431e0ac83a95f5d)},
    {UINT64_C(0x0431e0ac83a95f5e), UINT64_C(0x1cdad876d2414de8), UINT64_C(0x0058728995008ba1)},
    {UINT64_C(0x048a533618a9eaff), UINT64_C(0x130c180feed210ae), UINT64_C(0x0b1c976f792f5253)},
    {UINT64_C(0x0fa6eaa591d93d52), UINT64_C(0x1cc75a8c038a26d2), UINT64_C(0x0c5b6d5344d2536b)},
    {UINT64_C(0x1c0257f8d6ab90bd), UINT64_C(0x055cb975fabd0945), UINT64_C(0x1e6009a34ba5dfe7)},
    {UINT64_C(0x1a62619c225170a5), UINT64_C(0x0bff91842ee26682), UINT64_C(0x0b88d4343dfd6e53)},
    {UINT64_C(0x05eb35d0604edef9), UINT64_C(0x1f8d98826d4fd282), UINT64_C(0x1bdeea8952e2f773)},
    {UINT64_C(0x01ca2059b331d66d), UINT64_C(0x1609a22263da2b08), UINT64_C(0x08c335b5816fd70a)},
    {UINT64_C(0x0a8d560f34a1ad77), UINT64_C(0x15204517a8b767ef), UINT64_C(0x1b44d5b63d68c15a)},
    {UINT64_C(0x05d22bc5720a6ed2), UINT64_C(0x0fbdc7c39345ae00), UINT64_C(0x03692d21c21e455b)},
    {UINT64_C(0x093b58e73428b42d), UINT64_C(0x0161bce300a65615), UINT64_C(0x12773f8e0e0b80be)},
    {UINT64_C(0x1bb29875423434eb), UINT64_C(0x0283d048c2f71826), UINT64_C(0x1b096623f37b1f93)},
    {UINT64_C(0x16bbfe9935af547f), UINT64_C(0x00531feeb0bba93f), UINT64_C(0x0fad579aa7b77bd5)},
    {UINT64_C(0x06695633dd66d055), UINT64_C(0x16faf54f143a71ff), UINT64_C(0x03db817a2672d5eb)},
    {UINT64_C(0x0a44d7ae03d9a640), UINT64_C(0x031aaaf38d0158da), UINT64_C(0x05ec5031ec242875)},
    {UINT64_C(0x103127dfeffdceb5), UINT64_C(0x02ce4acc9f38d285), UINT64_C(0x14446169f2447d3a)},
};

uint64_t tags_run_poly(uint64_t tag, unsigned pages, uint64_t beyond)
{
    uint64_t first = poly_add(poly_mul(poly_reduce(tag & POLY_MOD), POLY_TAGS_A), poly_tags_k[tag >> 61]);
    uint64_t run;

    SIM_ASSERT_LE(pages, POLY_RUN_PAGES);
    SIM_ASSERT_EQ(tag >> 61, (tag + pages * PAGE_SECTORS - 1) >> 61);
    run = poly_add(poly_mul(first, poly_tags_run[pages].sum), poly_tags_run[pages].slope);
    return poly_add(run, poly_mul(beyond, poly_tags_run[pages].power));
}
