/*
 * The inside of a page, shared by payloads and media. Private to sim/.
 *
 * A sector is zero, a fill, a tag or a reference to 512 counted bytes, always the first of these that can express
 * it. A page likewise is kept in the first form that can express it: ZERO, FILL, TAGS (eight consecutive ones),
 * SECTORS. So two pages of different form always differ.
 */
#ifndef SIM_PAGE_H
#define SIM_PAGE_H

#include "sim/payload.h"

enum sector_kind {
    SECTOR_ZERO,
    SECTOR_FILL,
    SECTOR_TAG,
    SECTOR_BYTES,
};

struct page_bytes {
    uint32_t refs;
    uint64_t id; /* sim_sector_id_bytes */
    uint8_t data[SIM_SECTOR_BYTES];
};

/* One sector in canonical form. Borrowed or owned (its bytes) as the function says. */
struct sector {
    enum sector_kind kind;
    union {
        uint64_t value; /* fill byte or tag; 0 for zero */
        struct page_bytes *bytes;
    };
};

enum page_form {
    PAGE_FORM_ZERO,
    PAGE_FORM_FILL,
    PAGE_FORM_TAGS,
    PAGE_FORM_SECTORS,
};

struct page {
    uint32_t refs;
    uint8_t form;
    bool shared;     /* a uniform page: the world holds a reference for good */
    bool poly_known; /* poly is set */
    uint64_t poly;   /* content polynomial, see page_poly */
    uint64_t value;  /* FILL: the byte; TAGS: the first tag */
    /* SECTORS only: the other forms are allocated without what follows */
    uint8_t sector_kind[PAGE_SECTORS];
    union {
        uint64_t value;
        struct page_bytes *bytes;
    } sector[PAGE_SECTORS];
};

/* Sector i, borrowed. */
static inline struct sector page_sector(const struct page *page, unsigned i)
{
    switch ((enum page_form)page->form) {
    case PAGE_FORM_ZERO:
        return (struct sector){.kind = SECTOR_ZERO};
    case PAGE_FORM_FILL:
        return (struct sector){.kind = SECTOR_FILL, .value = page->value};
    case PAGE_FORM_TAGS:
        return (struct sector){.kind = SECTOR_TAG, .value = page->value + i};
    case PAGE_FORM_SECTORS:
        break;
    }
    struct sector s = {.kind = (enum sector_kind)page->sector_kind[i]};
    if (s.kind == SECTOR_BYTES) {
        s.bytes = page->sector[i].bytes;
    } else {
        s.value = page->sector[i].value;
    }
    return s;
}

/* 512 bytes as a sector; owned: literal bytes are a new reference. */
struct sector sector_from_bytes(struct sim *sim, const uint8_t data[SIM_SECTOR_BYTES]);
void sector_read(const struct sector *s, unsigned offset, void *buf, unsigned bytes);
bool sector_equal(const struct sector *a, const struct sector *b);
uint64_t sector_id(const struct sector *s);

/* Takes over the references of the eight sectors and gives a page in canonical form. */
struct page *page_build(struct sim *sim, struct sector sectors[PAGE_SECTORS]);
/* Takes a reference for a sector borrowed from a page, so that it can go into page_build. */
static inline struct sector sector_ref(struct sector s)
{
    if (s.kind == SECTOR_BYTES) {
        s.bytes->refs++;
    }
    return s;
}

/* Gives up an owned sector. */
void sector_drop(struct sim *sim, struct sector s);

/* Appends bytes of a page, by reference wherever the seam allows it. */
void payload_append_page_bytes(struct payload *p, struct page *page, unsigned offset, unsigned bytes);
/* Room for so many whole pages, to be filled in by the caller; p ends on a sector edge. The caller owes each a
 * reference. */
struct payload_elem *payload_extend(struct payload *p, uint32_t pages);
/* to (empty) becomes what `from` was, and from empty: no reference is touched. */
void payload_move(struct payload *to, struct payload *from);
/* How many whole pages, at most `most`, follow each other from `sector` on, and the element of the first. */
uint32_t payload_whole_pages(const struct payload *p, int64_t sector, uint32_t most,
                             const struct payload_elem **elem);
/* Owned copies of `count` sectors from `sector` on, counted from the first sector that p touches. */
void payload_sectors_get(const struct payload *p, int64_t sector, unsigned count, struct sector *out);
static inline void page_get(struct page *page)
{
    SIM_ASSERT(page->refs > 0 && page->refs < UINT32_MAX);
    page->refs++;
}

/* The last reference is gone. */
void page_free(struct sim *sim, struct page *page);

static inline void page_put(struct sim *sim, struct page *page)
{
    SIM_ASSERT(page->refs > 0);
    if (--page->refs == 0) {
        page_free(sim, page);
    }
}

/*
 * Content ids are polynomials over the field of 2^61 - 1: the sum of c(sector i) * R^i, where c is 0 for zero,
 * linear in a tag and a hash otherwise. So an id is put together from those of the pages, wherever these begin,
 * and eight consecutive tags cost two multiplications.
 */
#define POLY_MOD ((UINT64_C(1) << 61) - 1)
static inline uint64_t poly_add(uint64_t a, uint64_t b)
{
    uint64_t sum = a + b;

    return sum >= POLY_MOD ? sum - POLY_MOD : sum;
}

static inline uint64_t poly_mul(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return poly_add((uint64_t)product & POLY_MOD, (uint64_t)(product >> 61));
}

extern const uint64_t poly_power[PAGE_SECTORS + 1]; /* R^0..R^8 */
uint64_t sector_poly(const struct sector *s);
uint64_t page_poly(struct page *page);                                      /* all eight, remembered */
uint64_t page_poly_part(struct page *page, unsigned first, unsigned count); /* its sector `first` at R^0 */
/* Pages of consecutive tags from `tag` on, all in one run of 2^61, with `beyond` behind them. */
#define POLY_RUN_PAGES 16
uint64_t tags_run_poly(uint64_t tag, unsigned pages, uint64_t beyond);

#endif
