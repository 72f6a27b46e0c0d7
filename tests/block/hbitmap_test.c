/* Protects HBitmap's range rules at their documented edges: setting, resetting, searching, counting, truncating. */
#include "tests/block/hbitmap_lib.h"

#define GROUP 65536

/* --- the shape ----------------------------------------------------------------------------------------------- */

/* One item makes one bit, one more than fits a group makes the next (1.1).
 * fact: bitmaps 1.1/bits */
static void test_bits(void **state)
{
    static const struct {
        int64_t length;
        int granularity;
        int64_t bits;
    } rows[] = {{1, 16, 1},      {65535, 16, 1},  {65536, 16, 1},     {65537, 16, 2},     {512, 9, 1},
                {513, 9, 2},     {64, 0, 64},     {65, 0, 65},        {INT64_MAX, 63, 1}, {INT64_MAX, 62, 2},
                {4096, 0, 4096}, {4097, 0, 4097}, {INT64_MAX, 57, 64}};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        HBitmap *hb = hbitmap_alloc(*state, rows[i].length, rows[i].granularity);
        int64_t found = 0;
        HBitmapIter iter;
        hbitmap_set(hb, 0, rows[i].length);
        hbitmap_iter_init(&iter, hb, 0);
        while (hbitmap_iter_next(&iter) == found << rows[i].granularity && found < rows[i].bits) {
            found++;
        }
        assert_int_equal(found, rows[i].bits);
        assert_int_equal(hbitmap_iter_next(&iter), -1);
        hbitmap_free(hb);
    }
}

/* fact: bitmaps 1.1/limits */
static void test_length_0(void **state)
{
    for (int granularity = 0; granularity < 64; granularity++) {
        HBitmap *hb = hbitmap_alloc(*state, 0, granularity);
        assert_int_equal(hbitmap_count(hb), 0);
        assert_true(hbitmap_empty(hb));
        assert_int_equal(hbitmap_next_dirty(hb, 0, INT64_MAX), -1);
        assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), -1);
        hbitmap_set(hb, 0, 0);
        hbitmap_reset(hb, 0, 0);
        hbitmap_reset_all(hb);
        hbitmap_truncate(hb, 1);
        assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), 0);
        hbitmap_set(hb, 0, 1);
        assert_true(hbitmap_get(hb, 0));
        hbitmap_free(hb);
    }
}

/* fact: bitmaps 1.1/limits */
static void test_length_1(void **state)
{
    for (int granularity = 0; granularity < 64; granularity++) {
        HBitmap *hb = hbitmap_alloc(*state, 1, granularity);
        assert_int_equal(hbitmap_next_zero(hb, 0, 1), 0);
        hbitmap_set(hb, 0, 1);
        assert_true(hbitmap_get(hb, 0));
        assert_int_equal(hbitmap_next_dirty(hb, 0, INT64_MAX), 0);
        assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), -1);
        hbitmap_reset(hb, 0, 1);
        assert_true(hbitmap_empty(hb));
        hbitmap_free(hb);
    }
}

/* fact: bitmaps 1.1/limits */
static void test_length_max(void **state)
{
    for (int granularity = 0; granularity < 64; granularity++) {
        HBitmap *hb = hbitmap_alloc(*state, INT64_MAX, granularity);
        int64_t group_mask = (int64_t)(((uint64_t)1 << granularity) - 1);
        hbitmap_set(hb, INT64_MAX - 1, 1);
        assert_int_equal(hbitmap_next_dirty(hb, 0, INT64_MAX), (INT64_MAX - 1) & ~group_mask);
        assert_int_equal(hbitmap_next_dirty(hb, INT64_MAX - 1, INT64_MAX), INT64_MAX - 1);
        hbitmap_set(hb, 0, INT64_MAX);
        assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), -1);
        assert_int_equal(hbitmap_count(hb), INT64_MAX);
        assert_true(hbitmap_memory_bytes(hb) < 24 * 1024);
        int64_t run;
        assert_true(hbitmap_status(hb, 1, INT64_MAX - 1, &run));
        assert_int_equal(run, INT64_MAX - 1);
        hbitmap_truncate(hb, 1000);
        assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), -1);
        hbitmap_truncate(hb, INT64_MAX);
        if (granularity < 63) {
            assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), (1000 + group_mask) & ~group_mask);
        }
        hbitmap_free(hb);
    }
}

static void test_bad_shape(void **state)
{
    ASSERT_STOPS(hbitmap_alloc(*state, -1, 0));
    ASSERT_STOPS(hbitmap_alloc(*state, 1, -1));
    ASSERT_STOPS(hbitmap_alloc(*state, 1, 64));
}

/* Memory follows what is set; an empty bitmap of any length costs its header, a full one a path. */
static void test_sparse_memory(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 8192 * TiB, 9);
    uint64_t empty = hbitmap_memory_bytes(hb);
    assert_true(empty < 256);
    hbitmap_set(hb, 0, 8192 * TiB);
    assert_true(hbitmap_memory_bytes(hb) < 8 * 1024);
    hbitmap_reset(hb, 0, 8192 * TiB);
    assert_true(hbitmap_empty(hb));
    for (int64_t i = 0; i < 64; i++) {
        hbitmap_set(hb, i * 128 * TiB, 1);
    }
    assert_true(hbitmap_memory_bytes(hb) < 64 * 8 * 600);
    hbitmap_reset_all(hb);
    assert_true(hbitmap_memory_bytes(hb) <= empty + 600);
    hbitmap_free(hb);
}

/* Setting bit by bit until full, then clearing bit by bit: shared full parts come and go.
 * fact: bitmaps 1.1/count, 1.1/empty */
static void test_fill_bit_by_bit(void **state)
{
    const int64_t bits = 3 * 4096 + 5;
    HBitmap *hb = hbitmap_alloc(*state, bits, 0);
    for (int64_t i = 0; i < bits; i++) {
        assert_int_equal(hbitmap_empty(hb), i == 0);
        hbitmap_set(hb, (i * 7919) % bits, 1);
        hbitmap_set(hb, (i * 7919) % bits, 1);
        assert_int_equal(hbitmap_count(hb), i + 1);
    }
    assert_int_equal(hbitmap_next_zero(hb, 0, bits), -1);
    for (int64_t i = 0; i < bits; i++) {
        hbitmap_reset(hb, (i * 6007) % bits, 1);
        assert_false(hbitmap_get(hb, (i * 6007) % bits));
        assert_int_equal(hbitmap_count(hb), bits - i - 1);
    }
    assert_true(hbitmap_empty(hb));
    assert_int_equal(hbitmap_next_dirty(hb, 0, bits), -1);
    hbitmap_free(hb);
}

/* fact: bitmaps 1.1/count, edge/2 */
static void test_count_exceeds_length(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 1000448, 16);
    hbitmap_set(hb, 0, 1000448);
    assert_int_equal(hbitmap_count(hb), 1048576);
    hbitmap_free(hb);
}

/* --- set and reset ------------------------------------------------------------------------------------------- */

/* fact: bitmaps 1.2/set, 1.2/set-none */
static void test_set_rounds_outward(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 10 * GROUP, 16);
    hbitmap_set(hb, 3 * GROUP, 0);
    hbitmap_set(hb, INT64_MAX, 0);
    assert_true(hbitmap_empty(hb));
    hbitmap_set(hb, 2 * GROUP - 1, 2);
    assert_int_equal(hbitmap_count(hb), 2 * GROUP);
    assert_int_equal(hbitmap_next_dirty(hb, 0, INT64_MAX), GROUP);
    assert_int_equal(hbitmap_next_zero(hb, GROUP, INT64_MAX), 3 * GROUP);
    hbitmap_set(hb, 5 * GROUP, 1);
    assert_int_equal(hbitmap_count(hb), 3 * GROUP);
    hbitmap_free(hb);
}

/* fact: bitmaps 1.2/set-last-group */
static void test_set_past_length(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, GROUP + 1, 16);
    hbitmap_set(hb, GROUP + 5, GROUP - 5); /* beyond the length, inside the last group */
    assert_int_equal(hbitmap_next_dirty(hb, 0, INT64_MAX), GROUP);
    ASSERT_STOPS(hbitmap_set(hb, GROUP, GROUP + 1));
    ASSERT_STOPS(hbitmap_set(hb, 2 * GROUP, 1));
    ASSERT_STOPS(hbitmap_set(hb, -1, 1));
    ASSERT_STOPS(hbitmap_set(hb, 0, -1));
    hbitmap_truncate(hb, 0);
    ASSERT_STOPS(hbitmap_set(hb, 0, 1));
    hbitmap_free(hb);
}

/* fact: bitmaps 1.2/reset, 1.2/reset-none */
static void test_reset_whole_groups(void **state)
{
    const int64_t length = 3 * GROUP + 100;
    HBitmap *hb = hbitmap_alloc(*state, length, 16);
    hbitmap_set(hb, 0, length);
    hbitmap_reset(hb, 0, 0);
    hbitmap_reset(hb, 77, 0);
    assert_int_equal(hbitmap_count(hb), 4 * GROUP);
    hbitmap_reset(hb, GROUP, GROUP);
    assert_int_equal(hbitmap_count(hb), 3 * GROUP);
    hbitmap_reset(hb, 2 * GROUP, GROUP + 100); /* reaches the length exactly */
    assert_int_equal(hbitmap_count(hb), GROUP);
    hbitmap_set(hb, 3 * GROUP, 1);
    hbitmap_reset(hb, 3 * GROUP, GROUP); /* reaches the length rounded up */
    assert_int_equal(hbitmap_next_zero(hb, GROUP, INT64_MAX), GROUP);
    assert_int_equal(hbitmap_count(hb), GROUP);
    hbitmap_free(hb);
}

/* Rounding a reset outward would lose the neighbours' dirtiness.
 * fact: bitmaps 1.2/reset, edge/1 */
static void test_reset_refuses_parts(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 3 * GROUP + 100, 16);
    ASSERT_STOPS(hbitmap_reset(hb, 1, GROUP));
    ASSERT_STOPS(hbitmap_reset(hb, 0, GROUP + 1));
    ASSERT_STOPS(hbitmap_reset(hb, 3 * GROUP + 1, 99));
    ASSERT_STOPS(hbitmap_reset(hb, 3 * GROUP, 101));
    ASSERT_STOPS(hbitmap_reset(hb, 3 * GROUP, 2 * GROUP));
    ASSERT_STOPS(hbitmap_reset(hb, 4 * GROUP, GROUP));
    ASSERT_STOPS(hbitmap_reset(hb, -GROUP, GROUP));
    ASSERT_STOPS(hbitmap_reset(hb, 0, -GROUP));
    hbitmap_free(hb);
}

/* fact: bitmaps 1.2/reset-all */
static void test_reset_all(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 100 * GROUP + 7, 16);
    hbitmap_set(hb, 5, 50 * GROUP);
    hbitmap_reset_all(hb);
    assert_true(hbitmap_empty(hb));
    assert_int_equal(hbitmap_length(hb), 100 * GROUP + 7);
    assert_int_equal(hbitmap_next_dirty(hb, 0, INT64_MAX), -1);
    hbitmap_free(hb);
}

/* --- looking ------------------------------------------------------------------------------------------------- */

/* fact: bitmaps 1.2/get */
static void test_get(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 2 * GROUP + 1, 16);
    hbitmap_set(hb, 2 * GROUP, 1);
    assert_false(hbitmap_get(hb, 2 * GROUP - 1));
    assert_true(hbitmap_get(hb, 2 * GROUP));
    assert_true(hbitmap_get(hb, 3 * GROUP - 1)); /* beyond the length, in the last group */
    ASSERT_STOPS(hbitmap_get(hb, 3 * GROUP));
    ASSERT_STOPS(hbitmap_get(hb, -1));
    hbitmap_free(hb);
}

/* fact: bitmaps 1.2/next-dirty, 1.2/next-dirty-inside, 1.2/to-the-end */
static void test_next_dirty(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 10 * GROUP + 1, 16);
    hbitmap_set(hb, 4 * GROUP, 1);
    assert_int_equal(hbitmap_next_dirty(hb, 0, INT64_MAX), 4 * GROUP);
    assert_int_equal(hbitmap_next_dirty(hb, 0, 4 * GROUP), -1); /* the group starts at the end, not before it */
    assert_int_equal(hbitmap_next_dirty(hb, 0, 4 * GROUP + 1), 4 * GROUP);
    assert_int_equal(hbitmap_next_dirty(hb, 4 * GROUP + 9, 1), 4 * GROUP + 9);
    assert_int_equal(hbitmap_next_dirty(hb, 4 * GROUP, 0), -1);
    assert_int_equal(hbitmap_next_dirty(hb, 5 * GROUP, INT64_MAX), -1);
    hbitmap_set(hb, 10 * GROUP, 1);
    assert_int_equal(hbitmap_next_dirty(hb, 5 * GROUP, INT64_MAX), 10 * GROUP);
    assert_int_equal(hbitmap_next_dirty(hb, 10 * GROUP + 1, INT64_MAX), -1); /* dirty, but past the length */
    assert_int_equal(hbitmap_next_dirty(hb, INT64_MAX, INT64_MAX), -1);
    ASSERT_STOPS(hbitmap_next_dirty(hb, -1, 1));
    ASSERT_STOPS(hbitmap_next_dirty(hb, 0, -1));
    hbitmap_free(hb);
}

/* fact: bitmaps 1.2/next-zero, 1.2/to-the-end */
static void test_next_zero(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 10 * GROUP + 1, 16);
    hbitmap_set(hb, 0, 10 * GROUP + 1);
    assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), -1); /* what follows the last group is not clean */
    hbitmap_reset(hb, 4 * GROUP, GROUP);
    assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), 4 * GROUP);
    assert_int_equal(hbitmap_next_zero(hb, 0, 4 * GROUP), -1);
    assert_int_equal(hbitmap_next_zero(hb, 0, 4 * GROUP + 1), 4 * GROUP);
    assert_int_equal(hbitmap_next_zero(hb, 4 * GROUP + 9, 1), 4 * GROUP + 9);
    assert_int_equal(hbitmap_next_zero(hb, 4 * GROUP, 0), -1);
    assert_int_equal(hbitmap_next_zero(hb, 10 * GROUP + 1, INT64_MAX), -1);
    ASSERT_STOPS(hbitmap_next_zero(hb, -1, 1));
    hbitmap_free(hb);
}

/* fact: bitmaps 1.2/next-dirty-area, 1.2/next-dirty-area-none */
static void test_next_dirty_area(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 10 * GROUP + 1, 16);
    static const struct {
        int64_t start, end, max, area_start, area_count;
    } rows[] = {
        {0, INT64_MAX, INT64_MAX, 2 * GROUP, 3 * GROUP},                     /* to the next clean group */
        {2 * GROUP + 9, INT64_MAX, INT64_MAX, 2 * GROUP + 9, 3 * GROUP - 9}, /* not rounded down */
        {0, 3 * GROUP + 5, INT64_MAX, 2 * GROUP, GROUP + 5},                 /* to the end asked for */
        {0, INT64_MAX, 100, 2 * GROUP, 100},                                 /* at most so many */
        {5 * GROUP, INT64_MAX, INT64_MAX, 9 * GROUP, GROUP + 1},             /* to the length */
        {0, 2 * GROUP, INT64_MAX, -7, -7},
        {5 * GROUP, 9 * GROUP, 1, -7, -7},
        {4 * GROUP, 4 * GROUP, 1, -7, -7},
        {4 * GROUP, 3 * GROUP, 1, -7, -7},
        {10 * GROUP + 1, INT64_MAX, 1, -7, -7},
    };
    hbitmap_set(hb, 2 * GROUP, 3 * GROUP);
    hbitmap_set(hb, 9 * GROUP, GROUP + 1);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int64_t start = -7;
        int64_t count = -7;
        bool found = hbitmap_next_dirty_area(hb, rows[i].start, rows[i].end, rows[i].max, &start, &count);
        assert_int_equal(found, rows[i].area_count > 0);
        assert_int_equal(start, rows[i].area_start);
        assert_int_equal(count, rows[i].area_count);
    }
    int64_t start;
    int64_t count;
    ASSERT_STOPS(hbitmap_next_dirty_area(hb, 0, GROUP, 0, &start, &count));
    ASSERT_STOPS(hbitmap_next_dirty_area(hb, -1, GROUP, 1, &start, &count));
    hbitmap_free(hb);
}

/* fact: bitmaps 1.2/status */
static void test_status(void **state)
{
    const int64_t length = 4 * GROUP + 10;
    HBitmap *hb = hbitmap_alloc(*state, length, 16);
    int64_t run;
    hbitmap_set(hb, GROUP, 2 * GROUP);
    assert_false(hbitmap_status(hb, 0, length, &run));
    assert_int_equal(run, GROUP);
    assert_true(hbitmap_status(hb, GROUP, length - GROUP, &run)); /* the first item is dirty */
    assert_int_equal(run, 2 * GROUP);
    assert_true(hbitmap_status(hb, GROUP + 3, 5, &run));
    assert_int_equal(run, 5);
    assert_false(hbitmap_status(hb, 3 * GROUP, length - 3 * GROUP, &run));
    assert_int_equal(run, GROUP + 10);
    ASSERT_STOPS(hbitmap_status(hb, 0, 0, &run));
    ASSERT_STOPS(hbitmap_status(hb, length - 1, 2, &run));
    ASSERT_STOPS(hbitmap_status(hb, 0, INT64_MAX, &run));
    ASSERT_STOPS(hbitmap_status(hb, length, 1, &run));
    hbitmap_free(hb);
}

/* --- truncate ------------------------------------------------------------------------------------------------ */

/* fact: bitmaps 1.4/same-bits */
static void test_truncate_same_bits(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 3 * GROUP, 16);
    hbitmap_set(hb, 2 * GROUP, 1);
    hbitmap_truncate(hb, 2 * GROUP + 1);
    assert_int_equal(hbitmap_length(hb), 2 * GROUP + 1);
    assert_int_equal(hbitmap_count(hb), GROUP);
    assert_int_equal(hbitmap_next_dirty(hb, 2 * GROUP + 1, INT64_MAX), -1);
    hbitmap_truncate(hb, 3 * GROUP);
    assert_int_equal(hbitmap_count(hb), GROUP);
    assert_int_equal(hbitmap_next_dirty(hb, 2 * GROUP + 1, INT64_MAX), 2 * GROUP + 1);
    ASSERT_STOPS(hbitmap_truncate(hb, -1));
    hbitmap_free(hb);
}

/* fact: bitmaps 1.4/shrink, 1.4/shrink-grow, 1.4/grow, edge/6 */
static void test_truncate_partial_group(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 4 * GROUP, 16);
    hbitmap_set(hb, 0, 4 * GROUP);
    hbitmap_truncate(hb, GROUP + 1); /* group 1 is still partly inside: it keeps its bit */
    assert_int_equal(hbitmap_count(hb), 2 * GROUP);
    hbitmap_truncate(hb, 4 * GROUP); /* what was dropped stays dropped, new groups are clean */
    assert_int_equal(hbitmap_count(hb), 2 * GROUP);
    assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), 2 * GROUP);
    hbitmap_free(hb);
}

/* Through every height the tree can have, full and with one bit.
 * fact: bitmaps 1.4/grow, 1.4/shrink */
static void test_truncate_heights(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 1, 0);
    for (int full = 0; full < 2; full++) {
        hbitmap_set(hb, 0, 1);
        for (int shift = 0; shift < 63; shift++) {
            int64_t before = hbitmap_count(hb);
            hbitmap_truncate(hb, INT64_C(1) << shift);
            assert_int_equal(hbitmap_count(hb), before);
            hbitmap_set(hb, 0, full ? INT64_C(1) << shift : 1);
        }
        for (int shift = 62; shift >= 0; shift--) {
            hbitmap_truncate(hb, INT64_C(1) << shift);
            assert_int_equal(hbitmap_count(hb), full ? INT64_C(1) << shift : 1);
        }
        hbitmap_truncate(hb, 0);
        assert_true(hbitmap_empty(hb));
        hbitmap_truncate(hb, 1);
    }
    hbitmap_free(hb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_WORLD("/hbitmap/shape/bits", test_bits),
        T_WORLD("/hbitmap/length/0", test_length_0),
        T_WORLD("/hbitmap/length/1", test_length_1),
        T_WORLD("/hbitmap/length/max", test_length_max),
        T_WORLD("/hbitmap/shape/bad", test_bad_shape),
        T_WORLD("/hbitmap/memory/sparse", test_sparse_memory),
        T_WORLD("/hbitmap/fill-bit-by-bit", test_fill_bit_by_bit),
        T_WORLD("/hbitmap/count/exceeds-length", test_count_exceeds_length),
        T_WORLD("/hbitmap/set/rounds-outward", test_set_rounds_outward),
        T_WORLD("/hbitmap/set/past-length", test_set_past_length),
        T_WORLD("/hbitmap/reset/whole-groups", test_reset_whole_groups),
        T_WORLD("/hbitmap/reset/refuses-parts", test_reset_refuses_parts),
        T_WORLD("/hbitmap/reset-all", test_reset_all),
        T_WORLD("/hbitmap/get", test_get),
        T_WORLD("/hbitmap/next-dirty", test_next_dirty),
        T_WORLD("/hbitmap/next-zero", test_next_zero),
        T_WORLD("/hbitmap/next-dirty-area", test_next_dirty_area),
        T_WORLD("/hbitmap/status", test_status),
        T_WORLD("/hbitmap/truncate/same-bits", test_truncate_same_bits),
        T_WORLD("/hbitmap/truncate/partial-group", test_truncate_partial_group),
        T_WORLD("/hbitmap/truncate/heights", test_truncate_heights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
