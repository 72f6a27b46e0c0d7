/* Protects the content of dirty bitmaps: iterators, merging and undoing, areas, bits as bytes. */
#include "tests/block/bitmap_owner.h"

/* --- iterators ------------------------------------------------------------------------------------------------ */

static void test_iterator(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = made(p, G, NULL);
    bdrv_set_dirty_bitmap(a, 2 * G, 1);
    bdrv_set_dirty_bitmap(a, 7 * G, 2 * G);
    BdrvDirtyBitmapIter *iter = bdrv_dirty_iter_new(a);
    assert_int_equal(bdrv_dirty_iter_next(iter), 2 * G);
    assert_int_equal(bdrv_dirty_iter_next(iter), 7 * G);
    bdrv_reset_dirty_bitmap(a, 8 * G, G);
    assert_int_equal(bdrv_dirty_iter_next(iter), -1);
    bdrv_set_dirty_iter(iter, 3 * G);
    assert_int_equal(bdrv_dirty_iter_next(iter), 7 * G);
    bdrv_dirty_iter_free(iter);
    bdrv_dirty_iter_free(NULL);
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_BdrvDirtyBitmapIter), 0);
    drop(p);
}

static void do_release(void *opaque)
{
    bdrv_release_dirty_bitmap(opaque);
}

static void do_iterate(void *opaque)
{
    (void)bdrv_dirty_iter_new(opaque);
}

static void do_load(void *opaque)
{
    bdrv_dirty_bitmap_deserialize_ones(opaque, 0, MiB, true);
}

/* Each live iterator counts; what would pull the bits from under it is the caller's fault.
 * fact: bitmaps 1.3/truncate-ends */
static void test_iterators_are_counted(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = made(p, G, NULL);
    BdrvDirtyBitmapIter *first = bdrv_dirty_iter_new(a);
    BdrvDirtyBitmapIter *second = bdrv_dirty_iter_new(a);
    assert_true(dies(do_release, a));
    assert_true(dies(do_load, a));
    bdrv_dirty_iter_free(first);
    assert_true(dies(do_release, a));
    bdrv_dirty_iter_free(second);
    assert_false(dies(do_release, a));
    assert_false(dies(do_load, a));
    drop(p);
}

/* fact: bitmaps edge/4 */
static void test_no_iterator_on_empty(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = 0});
    BdrvDirtyBitmap *a = made(p, G, NULL);
    assert_true(dies(do_iterate, a));
    assert_int_equal(bdrv_dirty_bitmap_next_dirty(a, 0, INT64_MAX), -1);
    drop(p);
}

/* The last group of 2 GiB ends where no offset is any more: an iterator beyond it stays there. */
static void test_iterator_at_the_very_end(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = BDRV_MAX_LENGTH});
    int64_t last = ROUND_DOWN(BDRV_MAX_LENGTH, 2 * GiB);
    HBitmap *backup = NULL;
    BdrvDirtyBitmap *a = made(p, (uint32_t)(2 * GiB), NULL);
    bdrv_set_dirty_bitmap(a, BDRV_MAX_LENGTH - 1, 1);
    assert_true(bdrv_get_dirty_count(a) == 2 * GiB);
    BdrvDirtyBitmapIter *iter = bdrv_dirty_iter_new(a);
    assert_true(bdrv_dirty_iter_next(iter) == last);
    bdrv_clear_dirty_bitmap(a, &backup);
    bdrv_restore_dirty_bitmap(a, backup);
    assert_int_equal(bdrv_dirty_iter_next(iter), -1);
    bdrv_set_dirty_iter(iter, last + 1);
    assert_true(bdrv_dirty_iter_next(iter) == last);
    bdrv_dirty_iter_free(iter);
    drop(p);
}

/* Clearing and undoing exchange the bits below a live iterator: it sees what is there now, from where it was.
 * fact: bitmaps 2.5/atomic */
static void test_iterator_over_exchange(void **state)
{
    struct probe *p = plain_probe();
    HBitmap *backup = NULL;
    BdrvDirtyBitmap *a = made(p, G, NULL);
    bdrv_set_dirty_bitmap(a, 0, 8 * G);
    BdrvDirtyBitmapIter *iter = bdrv_dirty_iter_new(a);
    assert_int_equal(bdrv_dirty_iter_next(iter), 0);
    assert_int_equal(bdrv_dirty_iter_next(iter), G);
    bdrv_clear_dirty_bitmap(a, &backup);
    assert_int_equal(bdrv_get_dirty_count(a), 0);
    assert_int_equal(bdrv_dirty_iter_next(iter), -1);
    bdrv_set_dirty_bitmap(a, 12 * G, 1);
    bdrv_restore_dirty_bitmap(a, backup);
    assert_int_equal(bdrv_dirty_iter_next(iter), 2 * G);
    assert_bits(a, "1111111100000000"); /* what came meanwhile is undone as well */
    bdrv_clear_dirty_bitmap(a, NULL);
    assert_int_equal(bdrv_dirty_iter_next(iter), -1);
    bdrv_dirty_iter_free(iter);
    drop(p);
}

/* --- merging and undoing -------------------------------------------------------------------------------------- */

/* D04: counts stay right, also where an operand was empty.
 * fact: bitmaps 1.5/or */
static void test_merge(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = made(p, G, "a");
    BdrvDirtyBitmap *b = made(p, G, "b");
    BdrvDirtyBitmap *c = made(p, 4096, "c");
    bdrv_set_dirty_bitmap(c, G, 2 * G);
    assert_true(bdrv_merge_dirty_bitmap(b, c, NULL, NULL));
    assert_int_equal(bdrv_get_dirty_count(b), 2 * G);
    assert_true(bdrv_merge_dirty_bitmap(a, b, NULL, NULL));
    assert_int_equal(bdrv_get_dirty_count(a), 2 * G);
    assert_bits(a, "0110000000000000");
    assert_true(bdrv_merge_dirty_bitmap(a, a, NULL, NULL));
    assert_bits(a, "0110000000000000");
    assert_int_equal(bdrv_get_dirty_count(c), 2 * G);
    bdrv_disable_dirty_bitmap(a);
    bdrv_set_dirty_bitmap(b, 0, 1);
    assert_true(bdrv_merge_dirty_bitmap(a, b, NULL, NULL)); /* being disabled is about guests */
    assert_bits(a, "1110000000000000");
    drop(p);
}

/* fact: bitmaps edge/11 */
static void test_merge_sizes(void **state)
{
    struct probe *p = plain_probe();
    struct probe *q = probe_new((struct probe_spec){.name = "q", .length = MiB - 512});
    struct probe *r = probe_new((struct probe_spec){.name = "r", .length = MiB});
    HBitmap *backup = NULL;
    Error *err = NULL;
    BdrvDirtyBitmap *a = made(p, G, "a");
    BdrvDirtyBitmap *shorter = made(q, G, "b");
    BdrvDirtyBitmap *elsewhere = made(r, 512, "c");
    bdrv_set_dirty_bitmap(a, 0, 1);
    bdrv_set_dirty_bitmap(shorter, 4 * G, 1);
    bdrv_set_dirty_bitmap(elsewhere, 8 * G, 1);
    assert_false(bdrv_merge_dirty_bitmap(a, shorter, &backup, &err));
    assert_error(&err, "Bitmaps are of different sizes (destination size is 1048576, source size is 1048064) and "
                       "can't be merged");
    assert_null(backup);
    assert_bits(a, "1000000000000000");
    assert_true(bdrv_merge_dirty_bitmap(a, elsewhere, &backup, NULL));
    assert_bits(a, "1000000010000000");
    bdrv_restore_dirty_bitmap(a, backup);
    assert_bits(a, "1000000000000000");
    assert_int_equal(bdrv_get_dirty_count(a), G);
    assert_int_equal(bdrv_get_dirty_count(elsewhere), 512);
    drop(p);
    drop(q);
    drop(r);
}

/* Undoing after a resize: what a backup says beyond the new end is gone, what lies there now is clean. */
static void test_restore_after_resize(void **state)
{
    struct probe *p = plain_probe();
    HBitmap *backup = NULL;
    BdrvDirtyBitmap *a = made(p, G, "a");
    bdrv_set_dirty_bitmap(a, 0, MiB);
    bdrv_clear_dirty_bitmap(a, &backup);
    medium_becomes(p, 4 * G);
    bdrv_restore_dirty_bitmap(a, backup);
    assert_bits(a, "1111");
    bdrv_clear_dirty_bitmap(a, &backup);
    medium_becomes(p, 6 * G);
    bdrv_restore_dirty_bitmap(a, backup);
    assert_bits(a, "111100");
    drop(p);
}

/* D05: no bytes, no bits, wherever that is. */
static void test_empty_ranges(void **state)
{
    static const int64_t offsets[] = {0, 1, G - 1, G, 5 * G, MiB};
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = made(p, G, "a");
    BdrvDirtyBitmap *full = made(p, G, "full");
    bdrv_set_dirty_bitmap(full, 0, MiB);
    for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
        bdrv_set_dirty_bitmap(a, offsets[i], 0);
        bdrv_reset_dirty_bitmap(full, offsets[i], 0);
        assert_int_equal(do_req(p, W, offsets[i], 0, 1, 0), 0);
    }
    assert_int_equal(bdrv_get_dirty_count(a), 0);
    assert_int_equal(bdrv_get_dirty_count(full), MiB);
    drop(p);
}

/* --- areas ---------------------------------------------------------------------------------------------------- */

static void test_areas(void **state)
{
    struct probe *p = plain_probe();
    int64_t offset = -7;
    int64_t bytes = -7;
    BdrvDirtyBitmap *a = made(p, G, "a");
    assert_false(bdrv_dirty_bitmap_next_dirty_area(a, 0, MiB, INT64_MAX, &offset, &bytes));
    assert_int_equal(offset, -7);
    assert_int_equal(bytes, -7);
    bdrv_set_dirty_bitmap(a, 2 * G, 3 * G);
    assert_true(bdrv_dirty_bitmap_next_dirty_area(a, 0, INT64_MAX, INT64_MAX, &offset, &bytes));
    assert_int_equal(offset, 2 * G);
    assert_int_equal(bytes, 3 * G);
    assert_true(bdrv_dirty_bitmap_next_dirty_area(a, 2 * G + 100, MiB, G, &offset, &bytes));
    assert_int_equal(offset, 2 * G + 100);
    assert_int_equal(bytes, G);
    assert_false(bdrv_dirty_bitmap_status(a, 0, MiB, &bytes));
    assert_int_equal(bytes, 2 * G);
    assert_true(bdrv_dirty_bitmap_status(a, 3 * G, G / 2, &bytes));
    assert_int_equal(bytes, G / 2);
    assert_true(bdrv_dirty_bitmap_status(a, 3 * G, MiB - 3 * G, &bytes));
    assert_int_equal(bytes, 2 * G);
    drop(p);
}

/* --- bytes ---------------------------------------------------------------------------------------------------- */

/* From one bitmap into another, in parts: bytes, zeroes, ones, then the end. */
static void test_serialise(void **state)
{
    struct probe *p = plain_probe();
    uint8_t buf[64];
    char one[65];
    char two[65];
    BdrvDirtyBitmap *a = made(p, 512, "a");
    BdrvDirtyBitmap *b = made(p, 512, "b");
    int64_t align = bdrv_dirty_bitmap_serialization_align(a);
    assert_int_equal(align, 64 * 512);
    bdrv_set_dirty_bitmap(a, 512, 1024);
    bdrv_set_dirty_bitmap(a, 5 * align, align);
    bdrv_set_dirty_bitmap(a, MiB - 512, 512);
    bdrv_set_dirty_bitmap(b, 10 * align, align); /* goes with the zeroes */
    assert_int_equal(bdrv_dirty_bitmap_serialization_size(a, 0, 5 * align), 40);
    bdrv_dirty_bitmap_serialize_part(a, buf, 0, 5 * align);
    bdrv_dirty_bitmap_deserialize_part(b, buf, 0, 5 * align, false);
    bdrv_dirty_bitmap_deserialize_ones(b, 5 * align, align, false);
    bdrv_dirty_bitmap_deserialize_zeroes(b, 6 * align, MiB - 7 * align, false);
    bdrv_dirty_bitmap_serialize_part(a, buf, MiB - align, align);
    bdrv_dirty_bitmap_deserialize_part(b, buf, MiB - align, align, false);
    bdrv_dirty_bitmap_deserialize_finish(b);
    assert_int_equal(bdrv_get_dirty_count(b), bdrv_get_dirty_count(a));
    assert_true(bdrv_dirty_bitmap_sha256(a, one) && bdrv_dirty_bitmap_sha256(b, two));
    assert_string_equal(one, two);
    drop(p);
}

/* A bitmap that is being filled from a stream is frozen meanwhile: the guest's writes go to the child. */
static void test_load_frozen(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = made(p, G, "a");
    assert_int_equal(bdrv_dirty_bitmap_create_successor(a, NULL), 0);
    bdrv_dirty_bitmap_deserialize_ones(a, 0, MiB, false);
    assert_true(dies(do_iterate, a)); /* nobody looks before the end */
    assert_int_equal(do_req(p, W, 4 * G, 512, 1, 0), 0);
    bdrv_dirty_bitmap_deserialize_zeroes(a, 0, MiB, true);
    bdrv_dirty_bitmap_deserialize_part(a, (const uint8_t[]){1, 0, 0, 0, 0, 0, 0xff, 0xff}, 0, MiB, true);
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(a, NULL), a);
    assert_bits(a, "1000100000000000");
    assert_int_equal(bdrv_get_dirty_count(a), 2 * G); /* garbage beyond the size is dropped */
    drop(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/dirty-bitmap/iterator", test_iterator),
        T_NODE("/dirty-bitmap/iterator/counted", test_iterators_are_counted),
        T_NODE("/dirty-bitmap/iterator/none-on-empty", test_no_iterator_on_empty),
        T_NODE("/dirty-bitmap/iterator/over-exchange", test_iterator_over_exchange),
        T_NODE("/dirty-bitmap/iterator/at-2-63", test_iterator_at_the_very_end),
        T_NODE("/dirty-bitmap/merge", test_merge),
        T_NODE("/dirty-bitmap/merge/sizes", test_merge_sizes),
        T_NODE("/dirty-bitmap/restore-after-resize", test_restore_after_resize),
        T_NODE("/dirty-bitmap/empty-ranges", test_empty_ranges),
        T_NODE("/dirty-bitmap/areas", test_areas),
        T_NODE("/dirty-bitmap/serialise", test_serialise),
        T_NODE("/dirty-bitmap/serialise/load-frozen", test_load_frozen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
