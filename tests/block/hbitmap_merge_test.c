/* Protects HBitmap's merge and copy: exact with equal granularity, never too little with different ones. */
#include "tests/block/hbitmap_lib.h"

#define LENGTH (300 * 4096 + 5)

/* fact: bitmaps 1.5/or, 1.5/same-granularity */
static void test_equal_granularity(void **state)
{
    HBitmap *dst = hbitmap_alloc(*state, LENGTH, 0);
    HBitmap *src = hbitmap_alloc(*state, LENGTH, 0);
    hbitmap_set(dst, 0, 100);
    hbitmap_set(dst, 2 * 4096, 4096); /* full here, partly set there */
    hbitmap_set(src, 50, 100);
    hbitmap_set(src, 2 * 4096 + 7, 1);
    hbitmap_set(src, 5 * 4096, 200 * 4096); /* full there, partly set here */
    hbitmap_set(dst, 6 * 4096 + 9, 3);
    hbitmap_set(src, LENGTH - 1, 1);
    int64_t src_count = hbitmap_count(src);
    hbitmap_merge(dst, src);
    assert_int_equal(hbitmap_count(dst), 150 + 4096 + 200 * 4096 + 1);
    assert_int_equal(hbitmap_next_zero(dst, 0, INT64_MAX), 150);
    assert_int_equal(hbitmap_next_dirty(dst, 150, INT64_MAX), 2 * 4096);
    assert_int_equal(hbitmap_next_zero(dst, 5 * 4096, INT64_MAX), 205 * 4096);
    assert_true(hbitmap_get(dst, LENGTH - 1));
    assert_int_equal(hbitmap_count(src), src_count);
    assert_int_equal(hbitmap_next_dirty(src, 0, INT64_MAX), 50);
    hbitmap_free(dst);
    hbitmap_free(src);
}

/* Two halves of a leaf, then of many leaves, become a full one: found, counted and given back.
 * fact: bitmaps 1.5/same-granularity, 1.1/count */
static void test_becomes_full(void **state)
{
    HBitmap *dst = hbitmap_alloc(*state, 64 * 4096, 0);
    HBitmap *src = hbitmap_alloc(*state, 64 * 4096, 0);
    for (int64_t i = 0; i < 64; i++) {
        hbitmap_set(dst, i * 4096, 2000);
        hbitmap_set(src, i * 4096 + 1900, 2196);
    }
    hbitmap_merge(dst, src);
    assert_int_equal(hbitmap_count(dst), 64 * 4096);
    assert_int_equal(hbitmap_next_zero(dst, 0, INT64_MAX), -1);
    assert_true(hbitmap_memory_bytes(dst) < 1024);
    hbitmap_free(dst);
    hbitmap_free(src);
}

/* fact: bitmaps 1.5/empty */
static void test_empty(void **state)
{
    HBitmap *dst = hbitmap_alloc(*state, LENGTH, 0);
    HBitmap *src = hbitmap_alloc(*state, LENGTH, 0);
    HBitmap *coarse = hbitmap_alloc(*state, LENGTH, 5);
    hbitmap_merge(dst, src);
    hbitmap_merge(dst, coarse);
    assert_true(hbitmap_empty(dst));
    hbitmap_set(dst, 77, 1);
    hbitmap_merge(dst, src);
    hbitmap_merge(dst, coarse);
    assert_int_equal(hbitmap_count(dst), 1);
    hbitmap_merge(src, dst);
    assert_int_equal(hbitmap_next_dirty(src, 0, INT64_MAX), 77);
    assert_int_equal(hbitmap_count(src), 1);
    hbitmap_free(dst);
    hbitmap_free(src);
    hbitmap_free(coarse);
}

/* fact: bitmaps 1.5/self */
static void test_self(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, LENGTH, 0);
    hbitmap_merge(hb, hb);
    assert_true(hbitmap_empty(hb));
    hbitmap_set(hb, 4090, 5000);
    hbitmap_merge(hb, hb);
    assert_int_equal(hbitmap_count(hb), 5000);
    assert_int_equal(hbitmap_next_zero(hb, 4090, INT64_MAX), 9090);
    hbitmap_free(hb);
}

/* fact: bitmaps 1.5/same-length, edge/11 */
static void test_other_length(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, LENGTH, 4);
    HBitmap *shorter = hbitmap_alloc(*state, LENGTH - 1, 4); /* the same number of bits */
    HBitmap *finer = hbitmap_alloc(*state, LENGTH - 1, 3);
    ASSERT_STOPS(hbitmap_merge(hb, shorter));
    ASSERT_STOPS(hbitmap_merge(hb, finer));
    hbitmap_free(hb);
    hbitmap_free(shorter);
    hbitmap_free(finer);
}

/* fact: bitmaps 1.5/fine-to-coarse, 1.5/coarse-to-fine, edge/10 */
static void test_granularities(void **state)
{
    HBitmap *fine = hbitmap_alloc(*state, 10 * 65536 + 512, 9);
    HBitmap *coarse = hbitmap_alloc(*state, 10 * 65536 + 512, 16);
    hbitmap_set(fine, 65536 + 512, 512);
    hbitmap_merge(coarse, fine); /* rounds outward */
    assert_int_equal(hbitmap_count(coarse), 65536);
    assert_int_equal(hbitmap_next_dirty(coarse, 0, INT64_MAX), 65536);
    hbitmap_set(coarse, 10 * 65536, 1);
    hbitmap_merge(fine, coarse); /* the whole group, clipped at the length */
    assert_int_equal(hbitmap_count(fine), 65536 + 512);
    assert_int_equal(hbitmap_next_zero(fine, 65536, INT64_MAX), 2 * 65536);
    hbitmap_free(fine);
    hbitmap_free(coarse);
}

/* Every pair of granularities, with one item in the last, cut group. */
static void test_all_granularities(void **state)
{
    const int64_t length = INT64_MAX - 12345;
    for (int from = 0; from < 64; from += 3) {
        for (int to = 0; to < 64; to++) {
            HBitmap *src = hbitmap_alloc(*state, length, from);
            HBitmap *dst = hbitmap_alloc(*state, length, to);
            hbitmap_set(src, length - 1, 1);
            hbitmap_merge(dst, src);
            int coarser = MAX(from, to);
            assert_int_equal(hbitmap_next_dirty(dst, 0, INT64_MAX), (length - 1) >> coarser << coarser);
            assert_int_equal(hbitmap_next_zero(dst, length - 1, INT64_MAX), -1);
            hbitmap_free(src);
            hbitmap_free(dst);
        }
    }
}

static void test_copy(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, LENGTH, 3);
    hbitmap_set(hb, 9000, 100000);
    HBitmap *copy = hbitmap_copy(hb);
    assert_int_equal(hbitmap_length(copy), LENGTH);
    assert_int_equal(hbitmap_granularity(copy), 3);
    hbitmap_reset_all(hb);
    assert_int_equal(hbitmap_count(copy), 100000);
    assert_int_equal(hbitmap_next_dirty(copy, 0, INT64_MAX), 9000);
    hbitmap_free(hb);
    hbitmap_free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_WORLD("/hbitmap/merge/equal-granularity", test_equal_granularity),
        T_WORLD("/hbitmap/merge/becomes-full", test_becomes_full),
        T_WORLD("/hbitmap/merge/empty", test_empty),
        T_WORLD("/hbitmap/merge/self", test_self),
        T_WORLD("/hbitmap/merge/other-length", test_other_length),
        T_WORLD("/hbitmap/merge/granularities", test_granularities),
        T_WORLD("/hbitmap/merge/all-granularities", test_all_granularities),
        T_WORLD("/hbitmap/copy", test_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
