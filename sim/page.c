/* Pages: canonical forms of 4 KiB of content, their bytes and their ids. */
#include "sim/page.h"

#include <stdlib.h>
#include <string.h>

#include "sim/world.h"

#define PAGE_SMALL_BYTES offsetof(struct page, sector_kind)
#define TAG_GOLDEN UINT64_C(0x9e3779b97f4a7c15)
#define TAG_MAGIC UINT64_C(0x626c6b73696d2d74)
#define TAG_WORDS 64

/* --- uniform pages: one of each byte, shared by the world and recycled with it ----------------------------- */

struct page_cache {
    struct page *uniform[256]; /* made when first asked for */
};

/* The arena went, and with it whatever held references. */
static void page_cache_reset(struct sim *sim, void *state)
{
    struct page_cache *cache = state;

    for (unsigned i = 0; i < ARRAY_SIZE(cache->uniform); i++) {
        if (cache->uniform[i] != NULL) {
            cache->uniform[i]->refs = 1;
        }
    }
}

static void page_cache_destroy(struct sim *sim, void *state)
{
    struct page_cache *cache = state;

    for (unsigned i = 0; i < ARRAY_SIZE(cache->uniform); i++) {
        free(cache->uniform[i]);
    }
    free(cache);
}

static const struct sim_ext_ops page_cache_ops = {
    .reset = page_cache_reset,
    .destroy = page_cache_destroy,
};

static struct page_cache *page_cache(struct sim *sim)
{
    struct page_cache *cache = sim_ext(sim, SIM_EXT_PAYLOAD);

    if (cache == NULL) {
        cache = sim_xcalloc(1, sizeof(*cache));
        sim_ext_set(sim, SIM_EXT_PAYLOAD, &page_cache_ops, cache);
    }
    return cache;
}

/* They lie outside of the arena, so that page_live() of a world with nothing in it is 0. */
struct page *page_fill(struct sim *sim, uint8_t byte)
{
    struct page **slot = &page_cache(sim)->uniform[byte];

    if (*slot == NULL) {
        *slot = sim_xcalloc(1, sizeof(**slot));
        (*slot)->refs = 1;
        (*slot)->form = byte == 0 ? PAGE_FORM_ZERO : PAGE_FORM_FILL;
        (*slot)->shared = true;
        (*slot)->value = byte;
    }
    page_get(*slot);
    return *slot;
}

struct page *page_zero(struct sim *sim)
{
    return page_fill(sim, 0);
}

/* --- tags ----------------------------------------------------------------------------------------------- */

static uint64_t load_le64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static void store_le64(uint8_t *p, uint64_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    memcpy(p, &v, sizeof(v));
}

static uint64_t tag_word(uint64_t tag, unsigned i)
{
    switch (i) {
    case 0:
        return tag;
    case 1:
        return ~tag;
    case TAG_WORDS - 1:
        return tag ^ TAG_MAGIC;
    default:
        return sim_mix64(tag + i * TAG_GOLDEN);
    }
}

void sim_tag_expand(uint64_t tag, uint8_t bytes[SIM_SECTOR_BYTES])
{
    for (unsigned i = 0; i < TAG_WORDS; i++) {
        store_le64(bytes + 8 * i, tag_word(tag, i));
    }
}

static bool bytes_are_tag(const uint8_t *bytes, uint64_t *tag)
{
    uint64_t first = load_le64(bytes);

    if (load_le64(bytes + 8) != ~first || load_le64(bytes + 8 * (TAG_WORDS - 1)) != (first ^ TAG_MAGIC)) {
        return false;
    }
    for (unsigned i = 2; i < TAG_WORDS - 1; i++) {
        if (load_le64(bytes + 8 * i) != tag_word(first, i)) {
            return false;
        }
    }
    *tag = first;
    return true;
}

/* --- sectors -------------------------------------------------------------------------------------------- */

static bool bytes_uniform(const uint8_t *bytes, size_t n)
{
    return memcmp(bytes, bytes + 1, n - 1) == 0;
}

static uint64_t nonzero(uint64_t id)
{
    return id != 0 ? id : 1;
}

uint64_t sim_sector_id_zero(void)
{
    return 0;
}

uint64_t sim_sector_id_fill(uint8_t byte)
{
    return byte == 0 ? 0 : nonzero(sim_mix2(UINT64_C(0x66696c6c), byte));
}

uint64_t sim_sector_id_tag(uint64_t tag)
{
    return nonzero(sim_mix64(tag ^ UINT64_C(0x746167746167746a)));
}

uint64_t sim_sector_id_bytes(const uint8_t bytes[SIM_SECTOR_BYTES])
{
    uint64_t tag;

    if (bytes_uniform(bytes, SIM_SECTOR_BYTES)) {
        return sim_sector_id_fill(bytes[0]);
    }
    if (bytes_are_tag(bytes, &tag)) {
        return sim_sector_id_tag(tag);
    }
    return nonzero(sim_hash_bytes(bytes, SIM_SECTOR_BYTES));
}

uint64_t sector_id(const struct sector *s)
{
    switch (s->kind) {
    case SECTOR_ZERO:
        return 0;
    case SECTOR_FILL:
        return sim_sector_id_fill((uint8_t)s->value);
    case SECTOR_TAG:
        return sim_sector_id_tag(s->value);
    case SECTOR_BYTES:
        break;
    }
    return s->bytes->id;
}

struct sector sector_from_bytes(struct sim *sim, const uint8_t data[SIM_SECTOR_BYTES])
{
    struct sector s = {.kind = SECTOR_ZERO};
    uint64_t tag;

    if (bytes_uniform(data, SIM_SECTOR_BYTES)) {
        s.kind = data[0] == 0 ? SECTOR_ZERO : SECTOR_FILL;
        s.value = data[0];
    } else if (bytes_are_tag(data, &tag)) {
        s.kind = SECTOR_TAG;
        s.value = tag;
    } else {
        s.kind = SECTOR_BYTES;
        s.bytes = sim_alloc_raw(sim_arena(sim), SIM_TYPE_page_bytes, sizeof(*s.bytes));
        s.bytes->refs = 1;
        s.bytes->id = nonzero(sim_hash_bytes(data, SIM_SECTOR_BYTES));
        memcpy(s.bytes->data, data, SIM_SECTOR_BYTES);
    }
    return s;
}

void sector_read(const struct sector *s, unsigned offset, void *buf, unsigned bytes)
{
    uint8_t expansion[SIM_SECTOR_BYTES];

    SIM_ASSERT(offset + bytes <= SIM_SECTOR_BYTES);
    switch (s->kind) {
    case SECTOR_ZERO:
    case SECTOR_FILL:
        memset(buf, (int)s->value, bytes);
        return;
    case SECTOR_TAG:
        sim_tag_expand(s->value, expansion);
        memcpy(buf, expansion + offset, bytes);
        return;
    case SECTOR_BYTES:
        memcpy(buf, s->bytes->data + offset, bytes);
        return;
    }
}

bool sector_equal(const struct sector *a, const struct sector *b)
{
    if (a->kind != b->kind) {
        return false;
    }
    if (a->kind != SECTOR_BYTES) {
        return a->value == b->value;
    }
    return a->bytes == b->bytes ||
           (a->bytes->id == b->bytes->id && memcmp(a->bytes->data, b->bytes->data, SIM_SECTOR_BYTES) == 0);
}

void sector_drop(struct sim *sim, struct sector s)
{
    if (s.kind == SECTOR_BYTES) {
        SIM_ASSERT(s.bytes->refs > 0);
        if (--s.bytes->refs == 0) {
            SIM_FREE_N(sim_arena(sim), page_bytes, s.bytes, struct page_bytes, 1);
        }
    }
}

/* --- life of a page ------------------------------------------------------------------------------------- */

static struct page *page_small(struct sim *sim, enum page_form form, uint64_t value)
{
    struct page *page = sim_alloc_raw(sim_arena(sim), SIM_TYPE_page, PAGE_SMALL_BYTES);

    page->refs = 1;
    page->form = (uint8_t)form;
    page->shared = false;
    page->poly_known = false;
    page->poly = 0;
    page->value = value;
    return page;
}

struct page *page_ref(struct page *page)
{
    page_get(page);
    return page;
}

void page_unref(struct sim *sim, struct page *page)
{
    page_put(sim, page);
}

void page_free(struct sim *sim, struct page *page)
{
    SIM_ASSERT(page->refs == 0 && !page->shared); /* the world keeps one reference on each shared one */
    if (page->form != PAGE_FORM_SECTORS) {
        sim_free(sim_arena(sim), SIM_TYPE_page, page, PAGE_SMALL_BYTES);
        return;
    }
    for (unsigned i = 0; i < PAGE_SECTORS; i++) {
        sector_drop(sim, page_sector(page, i));
    }
    sim_free(sim_arena(sim), SIM_TYPE_page, page, sizeof(*page));
}

/* Consecutive tags that stay within one run of 2^61: there the id of a page is linear in its first tag. */
static bool tags_run(uint64_t tag)
{
    return tag >> 61 == (tag + PAGE_SECTORS - 1) >> 61;
}

struct page *page_tags(struct sim *sim, uint64_t tag)
{
    struct sector sectors[PAGE_SECTORS];

    if (tags_run(tag)) {
        return page_small(sim, PAGE_FORM_TAGS, tag);
    }
    for (unsigned i = 0; i < PAGE_SECTORS; i++) {
        sectors[i] = (struct sector){.kind = SECTOR_TAG, .value = tag + i};
    }
    return page_build(sim, sectors);
}

struct page *page_build(struct sim *sim, struct sector sectors[PAGE_SECTORS])
{
    bool uniform = sectors[0].kind <= SECTOR_FILL;
    bool tags = sectors[0].kind == SECTOR_TAG && tags_run(sectors[0].value);

    for (unsigned i = 1; i < PAGE_SECTORS && (uniform || tags); i++) {
        bool alike = sectors[i].kind == sectors[0].kind;
        uniform = uniform && alike && sectors[i].value == sectors[0].value;
        tags = tags && alike && sectors[i].value == sectors[0].value + i;
    }
    if (uniform) {
        return page_fill(sim, (uint8_t)sectors[0].value);
    }
    if (tags) {
        return page_small(sim, PAGE_FORM_TAGS, sectors[0].value);
    }
    struct page *page = sim_alloc_raw(sim_arena(sim), SIM_TYPE_page, sizeof(*page));
    page->refs = 1;
    page->form = PAGE_FORM_SECTORS;
    page->shared = false;
    page->poly_known = false;
    page->poly = 0;
    page->value = 0;
    for (unsigned i = 0; i < PAGE_SECTORS; i++) {
        page->sector_kind[i] = (uint8_t)sectors[i].kind;
        if (sectors[i].kind == SECTOR_BYTES) {
            page->sector[i].bytes = sectors[i].bytes;
        } else {
            page->sector[i].value = sectors[i].kind == SECTOR_ZERO ? 0 : sectors[i].value;
        }
    }
    return page;
}

struct page *page_from_bytes(struct sim *sim, const uint8_t bytes[SIM_PAGE_BYTES])
{
    struct sector sectors[PAGE_SECTORS];

    if (bytes_uniform(bytes, SIM_PAGE_BYTES)) {
        return page_fill(sim, bytes[0]);
    }
    for (unsigned i = 0; i < PAGE_SECTORS; i++) {
        sectors[i] = sector_from_bytes(sim, bytes + i * SIM_SECTOR_BYTES);
    }
    return page_build(sim, sectors);
}

struct page *page_merge(struct sim *sim, const struct page *base, unsigned first, unsigned count,
                        const struct page *from, unsigned from_first)
{
    struct sector sectors[PAGE_SECTORS];

    SIM_ASSERT(first + count <= PAGE_SECTORS);
    SIM_ASSERT(from_first + count <= PAGE_SECTORS);
    for (unsigned i = 0; i < PAGE_SECTORS; i++) {
        bool taken = i >= first && i < first + count;
        sectors[i] = sector_ref(taken ? page_sector(from, from_first + i - first) : page_sector(base, i));
    }
    return page_build(sim, sectors);
}

uint64_t page_live(struct sim *sim)
{
    return sim_arena_live(sim_arena(sim), SIM_TYPE_page);
}

/* --- looking -------------------------------------------------------------------------------------------- */

bool page_is_zero(const struct page *page)
{
    return page->form == PAGE_FORM_ZERO;
}

bool page_equal(const struct page *a, const struct page *b)
{
    if (a == b) {
        return true;
    }
    if (a->form != b->form || a->value != b->value) {
        return false;
    }
    if (a->form != PAGE_FORM_SECTORS) {
        return true;
    }
    for (unsigned i = 0; i < PAGE_SECTORS; i++) {
        struct sector left = page_sector(a, i);
        struct sector right = page_sector(b, i);
        if (!sector_equal(&left, &right)) {
            return false;
        }
    }
    return true;
}

uint64_t page_sector_id(const struct page *page, unsigned sector)
{
    SIM_ASSERT(sector < PAGE_SECTORS);
    struct sector s = page_sector(page, sector);

    return sector_id(&s);
}

void page_sector_ids(const struct page *page, unsigned first, unsigned count, uint64_t *ids)
{
    SIM_ASSERT_LE(first + count, PAGE_SECTORS);
    for (unsigned i = 0; i < count; i++) {
        struct sector s = page_sector(page, first + i);

        ids[i] = sector_id(&s);
    }
}

bool page_sector_tag(const struct page *page, unsigned sector, uint64_t *tag)
{
    SIM_ASSERT(sector < PAGE_SECTORS);
    struct sector s = page_sector(page, sector);

    if (s.kind != SECTOR_TAG) {
        return false;
    }
    *tag = s.value;
    return true;
}

void page_read_bytes(const struct page *page, unsigned offset, void *buf, unsigned bytes)
{
    uint8_t *out = buf;

    SIM_ASSERT(offset + bytes <= SIM_PAGE_BYTES);
    while (bytes > 0) {
        struct sector s = page_sector(page, offset / SIM_SECTOR_BYTES);
        unsigned in_sector = offset % SIM_SECTOR_BYTES;
        unsigned n = MIN(bytes, SIM_SECTOR_BYTES - in_sector);
        sector_read(&s, in_sector, out, n);
        out += n;
        offset += n;
        bytes -= n;
    }
}
