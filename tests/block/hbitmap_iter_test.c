/* Protects HBitmap's iterator: where it starts, and what it returns while the bitmap changes under it. */
#include "tests/block/hbitmap_lib.h"

/* fact: bitmaps 1.3/first, 1.2/next-dirty-inside, edge/3 */
static void test_rounds_down(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 10 * 65536 + 1, 16);
    HBitmapIter iter;
    hbitmap_set(hb, 65536, 1);
    hbitmap_set(hb, 2 * 65536, 1);
    hbitmap_set(hb, 10 * 65536, 1);
    hbitmap_iter_init(&iter, hb, 2 * 65536 + 100);
    assert_int_equal(hbitmap_iter_next(&iter), 2 * 65536); /* lower than what was asked for */
    assert_int_equal(hbitmap_next_dirty(hb, 2 * 65536 + 100, INT64_MAX), 2 * 65536 + 100);
    assert_int_equal(hbitmap_iter_next(&iter), 10 * 65536);
    assert_int_equal(hbitmap_iter_next(&iter), -1);
    assert_int_equal(hbitmap_iter_next(&iter), -1);
    hbitmap_iter_init(&iter, hb, 11 * 65536 - 1); /* beyond the length, in the last group */
    assert_int_equal(hbitmap_iter_next(&iter), 10 * 65536);
    ASSERT_STOPS(hbitmap_iter_init(&iter, hb, 11 * 65536));
    ASSERT_STOPS(hbitmap_iter_init(&iter, hb, -1));
    hbitmap_free(hb);
}

/* The last of the largest number of bits there can be.
 * fact: bitmaps 1.3/first, 1.1/limits */
static void test_end_of_the_largest(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, INT64_MAX, 0);
    HBitmapIter iter;
    hbitmap_set(hb, INT64_MAX - 1, 1);
    hbitmap_iter_init(&iter, hb, 0);
    assert_int_equal(hbitmap_iter_next(&iter), INT64_MAX - 1);
    assert_int_equal(hbitmap_iter_next(&iter), -1);
    hbitmap_set(hb, 0, INT64_MAX);
    hbitmap_iter_init(&iter, hb, INT64_MAX - 2);
    assert_int_equal(hbitmap_iter_next(&iter), INT64_MAX - 2);
    assert_int_equal(hbitmap_iter_next(&iter), INT64_MAX - 1);
    assert_int_equal(hbitmap_iter_next(&iter), -1);
    hbitmap_free(hb);
}

/* A bit reset and not yet returned never comes, however far ahead it lies.
 * fact: bitmaps 1.3/reset-ahead */
static void test_reset_ahead(void **state)
{
    static const int64_t ahead[] = {11, 63, 64, 4095, 4096, 70000, 90000};
    for (size_t i = 0; i < ARRAY_SIZE(ahead); i++) {
        HBitmap *hb = hbitmap_alloc(*state, 100000, 0);
        HBitmapIter iter;
        hbitmap_set(hb, 10, 1);
        hbitmap_set(hb, ahead[i], 1);
        hbitmap_set(hb, 99999, 1);
        hbitmap_iter_init(&iter, hb, 0);
        assert_int_equal(hbitmap_iter_next(&iter), 10);
        hbitmap_reset(hb, ahead[i], 1);
        assert_int_equal(hbitmap_iter_next(&iter), 99999);
        assert_int_equal(hbitmap_iter_next(&iter), -1);
        hbitmap_free(hb);
    }
}

/* All at once, and a part of the tree that has no memory of its own.
 * fact: bitmaps 1.3/reset-ahead */
static void test_reset_much(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 1 << 20, 0);
    HBitmapIter iter;
    hbitmap_set(hb, 0, 1 << 20);
    hbitmap_iter_init(&iter, hb, 0);
    assert_int_equal(hbitmap_iter_next(&iter), 0);
    hbitmap_reset(hb, 2, (1 << 20) - 3);
    assert_int_equal(hbitmap_iter_next(&iter), 1);
    assert_int_equal(hbitmap_iter_next(&iter), (1 << 20) - 1);
    hbitmap_iter_init(&iter, hb, 0);
    assert_int_equal(hbitmap_iter_next(&iter), 0);
    hbitmap_reset_all(hb);
    assert_int_equal(hbitmap_iter_next(&iter), -1);
    hbitmap_free(hb);
}

/* Its leaf fills up or empties, and another takes the memory: the iterator must not look there.
 * fact: bitmaps 1.3/reset-ahead, 1.3/first */
static void test_leaf_goes(void **state)
{
    for (int fills = 0; fills < 2; fills++) {
        HBitmap *hb = hbitmap_alloc(*state, 4 * 4096, 0);
        HBitmapIter iter;
        hbitmap_set(hb, 10, 1);
        hbitmap_set(hb, 200, 1);
        hbitmap_set(hb, 3 * 4096 + 7, 1);
        hbitmap_iter_init(&iter, hb, 0);
        assert_int_equal(hbitmap_iter_next(&iter), 10);
        if (fills) {
            hbitmap_set(hb, 0, 4096);
        } else {
            hbitmap_reset(hb, 0, 4096);
        }
        hbitmap_set(hb, 2 * 4096 + 300, 1);
        int64_t item = hbitmap_iter_next(&iter);
        for (; fills && item < 4096; item = hbitmap_iter_next(&iter)) {
            assert_true(item > 10 && hbitmap_get(hb, item));
        }
        if (item == 2 * 4096 + 300) { /* new, so it may be missed */
            item = hbitmap_iter_next(&iter);
        }
        assert_int_equal(item, 3 * 4096 + 7);
        assert_int_equal(hbitmap_iter_next(&iter), -1);
        hbitmap_free(hb);
    }
}

/* Setting is safe: what was there comes, in order, whether or not the new bits do; those behind never do.
 * fact: bitmaps 1.3/set-behind, edge/5 */
static void test_set_meanwhile(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 100000, 0);
    HBitmapIter iter;
    int64_t last = -1;
    unsigned old = 0;
    for (int64_t item = 0; item < 100000; item += 1000) {
        hbitmap_set(hb, item, 1);
    }
    hbitmap_iter_init(&iter, hb, 0);
    for (int64_t item = hbitmap_iter_next(&iter); item >= 0; item = hbitmap_iter_next(&iter)) {
        assert_true(item > last);
        old += item % 1000 == 0;
        last = item;
        hbitmap_set(hb, MAX(item - 501, 0), 1);
        hbitmap_set(hb, MIN(item + 3, 99999), 1);
        hbitmap_set(hb, (item + 50001) % 100000, 1);
    }
    assert_int_equal(old, 100);
    hbitmap_free(hb);
}

/* [seed 8f0720e]: ascending, each group once, at any distance; the next round starts from 0 and finds what was set
 * behind the cursor meanwhile: rounds go on until the count is 0.
 * fact: bitmaps 1.3/first, 1.3/set-behind, edge/5; jobs seed/8f0720e */
static void test_seed_8f0720e_rounds(void **state)
{
    static const int64_t groups[] = {0, 1, 63, 64, 4095, 4096, 262143, 262144, 16777215};
    HBitmap *hb = hbitmap_alloc(*state, INT64_C(16777216) << 9, 9);
    HBitmapIter iter;
    for (size_t i = ARRAY_SIZE(groups); i-- > 0;) {
        hbitmap_set(hb, groups[i] << 9, 1);
    }
    hbitmap_iter_init(&iter, hb, 0);
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        assert_int_equal(hbitmap_iter_next(&iter), groups[i] << 9);
        hbitmap_reset(hb, groups[i] << 9, 512);
        if (groups[i] == 4096) {
            hbitmap_set(hb, 512 * 512, 512); /* behind the cursor by now */
        }
    }
    assert_int_equal(hbitmap_iter_next(&iter), -1);
    assert_int_equal(hbitmap_count(hb), 512);
    hbitmap_iter_init(&iter, hb, 0);
    assert_int_equal(hbitmap_iter_next(&iter), 512 * 512);
    hbitmap_free(hb);
}

/* [seed 88ff0e4, 9e48b02]: a bitmap without items cannot be iterated; whoever tries is stopped at once.
 * fact: bitmaps 1.3/zero-length, edge/4 */
static void test_seed_88ff0e4_no_iterator_on_empty(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 0, 16);
    HBitmapIter iter;
    ASSERT_STOPS(hbitmap_iter_init(&iter, hb, 0));
    hbitmap_free(hb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_WORLD("/hbitmap/iter/rounds-down", test_rounds_down),
        T_WORLD("/hbitmap/iter/end-of-the-largest", test_end_of_the_largest),
        T_WORLD("/hbitmap/iter/reset-ahead", test_reset_ahead),
        T_WORLD("/hbitmap/iter/reset-much", test_reset_much),
        T_WORLD("/hbitmap/iter/leaf-goes", test_leaf_goes),
        T_WORLD("/hbitmap/iter/set-meanwhile", test_set_meanwhile),
        T_WORLD("/hbitmap/seed/8f0720e/rounds", test_seed_8f0720e_rounds),
        T_WORLD("/hbitmap/seed/88ff0e4/9e48b02/no-iterator-on-empty", test_seed_88ff0e4_no_iterator_on_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
