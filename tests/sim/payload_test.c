/* Protects: a payload is nothing but its bytes, whatever forms and seams it is made of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/page.h"

#define MODEL_BYTES (96 * KiB)

static uint64_t rng_state;

static uint64_t rng(uint64_t n)
{
    rng_state += UINT64_C(0x9e3779b97f4a7c15);
    return sim_mix64(rng_state) % n;
}

static int setup(void **state)
{
    *state = sim_new();
    rng_state = 1;
    return 0;
}

static int teardown(void **state)
{
    sim_delete(*state);
    return 0;
}

static void assert_bytes(const struct payload *p, const uint8_t *model, int64_t n)
{
    uint8_t *got = malloc((size_t)n + 1);

    assert_int_equal(p->size_bytes, n);
    payload_read_bytes(p, 0, got, n);
    assert_memory_equal(got, model, (size_t)n);
    free(got);
}

/* The same content, made from plain bytes. */
static void make_plain(struct sim *sim, struct payload *p, const uint8_t *model, int64_t n)
{
    payload_init(sim, p);
    payload_append_bytes(p, model, n);
}

static void test_tag_expansion(void **state)
{
    static const uint64_t tags[] = {0, 1, UINT64_MAX, UINT64_C(0x1111111111111111), UINT64_C(1) << 61};
    uint8_t bytes[SIM_SECTOR_BYTES];
    uint64_t tag;

    for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
        struct payload p;
        sim_tag_expand(tags[i], bytes);
        assert_memory_not_equal(bytes, bytes + 1, SIM_SECTOR_BYTES - 1);
        assert_int_equal(bytes[0], tags[i] & 0xff);
        make_plain(*state, &p, bytes, SIM_SECTOR_BYTES);
        assert_true(payload_sector_tag(&p, 0, &tag));
        assert_int_equal(tag, tags[i]);
        assert_int_equal(sim_sector_id_bytes(bytes), sim_sector_id_tag(tags[i]));
        assert_false(payload_is_zero(&p, 0, SIM_SECTOR_BYTES));
        payload_clear(&p);
        bytes[300] ^= 1;
        make_plain(*state, &p, bytes, SIM_SECTOR_BYTES);
        assert_false(payload_sector_tag(&p, 0, &tag));
        payload_clear(&p);
    }
}

static void test_page_forms(void **state)
{
    struct sim *sim = *state;
    uint8_t bytes[SIM_PAGE_BYTES];

    memset(bytes, 7, sizeof(bytes));
    struct page *fill = page_from_bytes(sim, bytes);
    struct page *cached = page_fill(sim, 7);
    assert_ptr_equal(fill, cached);
    for (unsigned i = 0; i < PAGE_SECTORS; i++) {
        sim_tag_expand(100 + i, bytes + i * SIM_SECTOR_BYTES);
    }
    struct page *tags = page_from_bytes(sim, bytes);
    struct page *made = page_tags(sim, 100);
    assert_int_equal(tags->form, PAGE_FORM_TAGS);
    assert_true(page_equal(tags, made));
    struct page *zero = page_zero(sim);
    struct page *mixed = page_merge(sim, made, 2, 3, zero, 0);
    assert_false(page_equal(mixed, made));
    assert_int_equal(page_sector_id(mixed, 3), 0);
    struct page *back = page_merge(sim, mixed, 2, 3, tags, 2);
    assert_true(page_equal(back, made));
    struct page *blank = page_merge(sim, mixed, 0, 8, zero, 0);
    assert_true(page_is_zero(blank));
    struct page *all[] = {fill, cached, tags, made, zero, mixed, back, blank};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        page_unref(sim, all[i]);
    }
    assert_int_equal(page_live(sim), 0);
}

/* The id of eight consecutive tags is computed in one step; it must be that of the tags one by one. */
static void test_tag_page_id(void **state)
{
    static const uint64_t starts[] = {
        0, 5, POLY_MOD - 3, POLY_MOD, UINT64_MAX - 3, (UINT64_C(1) << 61) - 8, UINT64_C(0xfedcba9876543210)};

    for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
        struct payload whole;
        struct payload parts;
        payload_init(*state, &whole);
        payload_init(*state, &parts);
        payload_append_tags(&whole, starts[i], 8);
        for (uint64_t j = 0; j < 8; j++) {
            payload_append_tags(&parts, starts[i] + j, 1);
        }
        assert_int_equal(payload_content_id(&whole), payload_content_id(&parts));
        assert_true(payload_equal(&whole, 0, &parts, 0, SIM_PAGE_BYTES));
        assert_int_not_equal(payload_content_id(&whole), 0);
        payload_clear(&whole);
        payload_clear(&parts);
    }
}

/* So is that of pages of consecutive tags, whatever stands before and behind them. */
static void test_tag_run_id(void **state)
{
    static const uint64_t starts[] = {0, POLY_MOD - 63, (UINT64_C(1) << 61) - 128, UINT64_MAX - 127};

    for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
        for (int64_t pages = 1; pages <= 35; pages++) {
            struct payload whole;
            struct payload parts;
            payload_init(*state, &whole);
            payload_init(*state, &parts);
            payload_append_fill(&whole, 7, SIM_PAGE_BYTES);
            payload_append_fill(&parts, 7, SIM_PAGE_BYTES);
            payload_append_tags(&whole, starts[i], pages * PAGE_SECTORS);
            for (int64_t j = 0; j < pages * PAGE_SECTORS; j++) {
                payload_append_tags(&parts, starts[i] + (uint64_t)j, 1);
            }
            payload_append_tags(&whole, 99, 3);
            payload_append_tags(&parts, 99, 3);
            assert_int_equal(payload_content_id(&whole), payload_content_id(&parts));
            payload_clear(&whole);
            payload_clear(&parts);
        }
    }
}

static void test_zero_id(void **state)
{
    struct payload p;

    payload_init(*state, &p);
    assert_int_equal(payload_content_id(&p), 0);
    payload_append_zero(&p, 3 * SIM_PAGE_BYTES + 77);
    assert_int_equal(payload_content_id(&p), 0);
    assert_true(payload_is_zero(&p, 0, p.size_bytes));
    payload_append_fill(&p, 1, 1);
    assert_int_not_equal(payload_content_id(&p), 0);
    assert_true(payload_is_zero(&p, 0, p.size_bytes - 1));
    assert_false(payload_is_zero(&p, 1, p.size_bytes - 1));
    payload_clear(&p);
}

/* A payload remembers its id: what changes it, moves it or cuts it must not leave an old one behind. */
static void test_id_after_change(void **state)
{
    struct payload p;
    struct payload fresh;
    struct payload moved;

    payload_init(*state, &p);
    payload_init(*state, &fresh);
    payload_init(*state, &moved);
    for (int64_t sectors = 3; sectors < 100; sectors += 13) {
        uint64_t before = payload_content_id(&p);

        payload_append_tags(&p, (uint64_t)sectors * 7, sectors);
        payload_append(&fresh, &p, 0, p.size_bytes);
        assert_int_not_equal(payload_content_id(&p), before);
        assert_int_equal(payload_content_id(&p), payload_content_id(&fresh));
        payload_clear(&fresh);
        before = payload_content_id(&p);
        payload_truncate(&p, p.size_bytes - SIM_SECTOR_BYTES);
        payload_append(&fresh, &p, 0, p.size_bytes);
        assert_int_not_equal(payload_content_id(&p), before);
        assert_int_equal(payload_content_id(&p), payload_content_id(&fresh));
        payload_move(&moved, &p);
        assert_int_equal(payload_content_id(&moved), payload_content_id(&fresh));
        assert_int_equal(payload_content_id(&p), 0);
        payload_move(&p, &moved);
        payload_clear(&fresh);
    }
    payload_clear(&p);
}

/* Content in another order, or shifted by a sector, is other content. */
static void test_id_order(void **state)
{
    struct payload a;
    struct payload b;

    payload_init(*state, &a);
    payload_init(*state, &b);
    payload_append_tags(&a, 10, 16);
    payload_append_tags(&b, 18, 8);
    payload_append_tags(&b, 10, 8);
    assert_int_not_equal(payload_content_id(&a), payload_content_id(&b));
    payload_clear(&b);
    payload_append_zero(&b, SIM_SECTOR_BYTES);
    payload_append_tags(&b, 10, 15);
    assert_int_not_equal(payload_content_id(&a), payload_content_id(&b));
    assert_int_equal(payload_first_difference(&a, &b, a.size_bytes), 0);
    payload_clear(&a);
    payload_clear(&b);
}

static void test_copy_is_references(void **state)
{
    struct sim *sim = *state;
    struct payload a;
    struct payload b;

    payload_init(sim, &a);
    payload_init(sim, &b);
    payload_append_tags(&a, 1, 128);
    uint64_t live = page_live(sim);
    payload_slice(&b, &a, 700, 60000);
    assert_int_equal(page_live(sim), live);
    assert_int_equal(live, 16);
    payload_clear(&a);
    payload_clear(&b);
    assert_int_equal(page_live(sim), 0);
}

/* One random piece on the payload and on the model. */
static int64_t random_append(struct payload *p, const struct payload *pool, const uint8_t *pool_bytes, uint8_t *end,
                             int64_t room)
{
    int64_t n = (int64_t)rng(4) == 0 ? (int64_t)rng(9000) : (int64_t)rng(20) * SIM_SECTOR_BYTES;
    uint8_t literal[20 * SIM_SECTOR_BYTES];
    uint64_t tag = rng(1000);

    n = MIN(n, room);
    switch (rng(5)) {
    case 0:
        payload_append_zero(p, n);
        memset(end, 0, (size_t)n);
        return n;
    case 1:
        payload_append_fill(p, (uint8_t)tag, n);
        memset(end, (uint8_t)tag, (size_t)n);
        return n;
    case 2:
        for (int64_t i = 0; i < n; i++) {
            literal[i] = (uint8_t)rng(256);
        }
        payload_append_bytes(p, literal, n);
        memcpy(end, literal, (size_t)n);
        return n;
    case 3:
        n /= SIM_SECTOR_BYTES;
        payload_append_tags(p, tag, n);
        for (int64_t i = 0; i < n; i++) {
            sim_tag_expand(tag + (uint64_t)i, end + i * SIM_SECTOR_BYTES);
        }
        return n * SIM_SECTOR_BYTES;
    default:
        n = MIN(n, pool->size_bytes);
        int64_t from = (int64_t)rng((uint64_t)(pool->size_bytes - n) + 1);
        if (rng(2) == 0) {
            from = ROUND_DOWN(from, SIM_SECTOR_BYTES);
        }
        payload_append(p, pool, from, n);
        memcpy(end, pool_bytes + from, (size_t)n);
        return n;
    }
}

static void check_against(struct sim *sim, struct payload *p, uint8_t *model, int64_t n)
{
    struct payload plain;
    struct payload slice;

    assert_bytes(p, model, n);
    make_plain(sim, &plain, model, n);
    assert_true(payload_equal(p, 0, &plain, 0, n));
    assert_int_equal(payload_content_id(p), payload_content_id(&plain));
    int64_t from = (int64_t)rng((uint64_t)n + 1);
    int64_t bytes = (int64_t)rng((uint64_t)(n - from) + 1);
    payload_init(sim, &slice);
    payload_slice(&slice, p, from, bytes);
    assert_bytes(&slice, model + from, bytes);
    assert_true(payload_equal(&slice, 0, &plain, from, bytes));
    bool zero = true;
    for (int64_t i = 0; i < bytes; i++) {
        zero = zero && model[from + i] == 0;
    }
    assert_int_equal(payload_is_zero(p, from, bytes), zero);
    payload_clear(&plain);
    make_plain(sim, &plain, model + from, bytes);
    assert_int_equal(payload_content_id(&slice), payload_content_id(&plain));
    payload_clear(&plain);
    if (n > 0) {
        int64_t at = (int64_t)rng((uint64_t)n);
        model[at] ^= 0x40;
        make_plain(sim, &plain, model, n);
        assert_int_equal(payload_first_difference(p, &plain, n), at);
        assert_int_not_equal(payload_content_id(p), payload_content_id(&plain));
        model[at] ^= 0x40;
        payload_clear(&plain);
    }
    payload_clear(&slice);
}

static void test_random(void **state)
{
    struct sim *sim = *state;
    uint8_t *model = malloc(MODEL_BYTES);
    uint8_t *pool_bytes = malloc(MODEL_BYTES);
    struct payload pool;

    payload_init(sim, &pool);
    payload_append_tags(&pool, 3, 1);
    sim_tag_expand(3, pool_bytes);
    for (int round = 0; round < 150; round++) {
        struct payload p;
        int64_t n = 0;
        payload_init(sim, &p);
        for (uint64_t pieces = rng(9); pieces > 0; pieces--) {
            n += random_append(&p, &pool, pool_bytes, model + n, MODEL_BYTES - n);
            if (rng(6) == 0) {
                n = (int64_t)rng((uint64_t)n + 1);
                payload_truncate(&p, n);
            }
        }
        check_against(sim, &p, model, n);
        if (n > 0) {
            payload_clear(&pool);
            pool = p;
            if (p.elem == p.inline_elem) {
                pool.elem = pool.inline_elem;
            }
            memcpy(pool_bytes, model, (size_t)n);
        } else {
            payload_clear(&p);
        }
    }
    payload_clear(&pool);
    assert_int_equal(page_live(sim), 0);
    assert_int_equal(sim_arena_live(sim_arena(sim), SIM_TYPE_page_bytes), 0);
    assert_int_equal(sim_arena_live(sim_arena(sim), SIM_TYPE_payload_elem), 0);
    free(model);
    free(pool_bytes);
}

/* Sector lookups agree with the bytes in every shape of payload. */
static void test_sector_lookup(void **state)
{
    struct sim *sim = *state;
    struct payload all;
    struct payload p;
    uint64_t tag;

    payload_init(sim, &all);
    payload_append_tags(&all, 1000, 100);
    for (int64_t from = 0; from < 20; from += 3) {
        payload_init(sim, &p);
        payload_slice(&p, &all, from * SIM_SECTOR_BYTES, 70 * SIM_SECTOR_BYTES);
        payload_append(&p, &all, 0, 9 * SIM_SECTOR_BYTES);
        for (int64_t i = 0; i < 79; i++) {
            uint64_t want = (uint64_t)(1000 + (i < 70 ? from + i : i - 70));
            assert_true(payload_sector_tag(&p, i, &tag));
            assert_int_equal(tag, want);
            assert_int_equal(payload_sector_id(&p, i), sim_sector_id_tag(want));
        }
        payload_clear(&p);
    }
    payload_clear(&all);
}

static void test_reset_drops_all(void **state)
{
    struct sim *sim = *state;
    struct payload p;

    payload_init(sim, &p);
    payload_append_fill(&p, 9, 40 * SIM_PAGE_BYTES);
    payload_append_tags(&p, 9, 40);
    sim_reset(sim);
    assert_int_equal(page_live(sim), 0);
    payload_init(sim, &p);
    payload_append_fill(&p, 9, SIM_PAGE_BYTES);
    assert_int_equal(p.elem[0].page->refs, 2);
    payload_clear(&p);
}

#define TEST(name, fn) \
    { \
        name, fn, setup, teardown, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("/payload/tag-expansion", test_tag_expansion),
        TEST("/payload/page-forms", test_page_forms),
        TEST("/payload/id/tag-page", test_tag_page_id),
        TEST("/payload/id/tag-run", test_tag_run_id),
        TEST("/payload/id/zero", test_zero_id),
        TEST("/payload/id/order", test_id_order),
        TEST("/payload/id/after-change", test_id_after_change),
        TEST("/payload/copy-is-references", test_copy_is_references),
        TEST("/payload/random", test_random),
        TEST("/payload/sector-lookup", test_sector_lookup),
        TEST("/payload/reset", test_reset_drops_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
