/* Protects the attributes of dirty bitmaps: what each one forbids, and in which order that is told. */
#include "tests/block/bitmap_owner.h"

#define IN_USE "Bitmap 'a' is currently in use by another operation and cannot be used"
#define READONLY "Bitmap 'a' is readonly and cannot be modified"
#define INCONSISTENT "Bitmap 'a' is inconsistent and cannot be used"

/* Of all that is wrong the first is told, in the order busy, readonly, inconsistent; what is not asked is not told.
 * fact: bitmaps 2.1/check-order, 2.1/busy */
static void test_check_order(void **state)
{
    static const struct {
        uint32_t wrong;
        uint32_t asked;
        int ret;
        const char *text;
    } cases[] = {
        {0, BDRV_BITMAP_DEFAULT, 0, NULL},
        {BDRV_BITMAP_BUSY, BDRV_BITMAP_DEFAULT, -EBUSY, IN_USE},
        {BDRV_BITMAP_RO, BDRV_BITMAP_DEFAULT, -EPERM, READONLY},
        {BDRV_BITMAP_INCONSISTENT, BDRV_BITMAP_DEFAULT, -EINVAL, INCONSISTENT},
        {BDRV_BITMAP_BUSY | BDRV_BITMAP_RO, BDRV_BITMAP_DEFAULT, -EBUSY, IN_USE},
        {BDRV_BITMAP_RO | BDRV_BITMAP_INCONSISTENT, BDRV_BITMAP_DEFAULT, -EPERM, READONLY},
        {BDRV_BITMAP_DEFAULT, BDRV_BITMAP_DEFAULT, -EBUSY, IN_USE},
        {BDRV_BITMAP_DEFAULT, BDRV_BITMAP_RO | BDRV_BITMAP_INCONSISTENT, -EPERM, READONLY},
        {BDRV_BITMAP_RO, BDRV_BITMAP_ALLOW_RO, 0, NULL},
        {BDRV_BITMAP_RO | BDRV_BITMAP_INCONSISTENT, BDRV_BITMAP_ALLOW_RO, -EINVAL, INCONSISTENT},
        {BDRV_BITMAP_BUSY, BDRV_BITMAP_RO | BDRV_BITMAP_INCONSISTENT, 0, NULL},
        {BDRV_BITMAP_DEFAULT, 0, 0, NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct probe *p = plain_probe();
        BdrvDirtyBitmap *a = made(p, G, "a");
        Error *err = NULL;
        if (cases[i].wrong & BDRV_BITMAP_INCONSISTENT) {
            bdrv_dirty_bitmap_set_persistence(a, true);
            bdrv_dirty_bitmap_set_inconsistent(a);
        }
        bdrv_dirty_bitmap_set_readonly(a, (cases[i].wrong & BDRV_BITMAP_RO) != 0);
        bdrv_dirty_bitmap_set_busy(a, (cases[i].wrong & BDRV_BITMAP_BUSY) != 0);
        assert_int_equal(bdrv_dirty_bitmap_check(a, cases[i].asked, &err), cases[i].ret);
        if (cases[i].text != NULL) {
            assert_error(&err, cases[i].text);
        }
        assert_null(err);
        bdrv_dirty_bitmap_set_busy(a, false);
        drop(p);
    }
}

/* Its name is taken, its content is nobody's, and it can be released.
 * fact: bitmaps 2.1/inconsistent, edge/18 */
static void test_inconsistent(void **state)
{
    struct probe *p = plain_probe();
    char hash[65];
    BdrvDirtyBitmap *a = made(p, G, "a");
    bdrv_dirty_bitmap_set_persistence(a, true);
    bdrv_dirty_bitmap_set_inconsistent(a);
    assert_true(bdrv_dirty_bitmap_inconsistent(a) && bdrv_dirty_bitmap_persistent(a));
    assert_false(bdrv_dirty_bitmap_enabled(a) || bdrv_dirty_bitmap_recording(a));
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), 0);
    assert_int_equal(bdrv_get_dirty_count(a), 0);
    assert_string_equal(create(p, G, "a").error, "Bitmap already exists: a");
    assert_true(bdrv_dirty_bitmap_sha256(a, hash));
    assert_string_equal(hash, "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc");
    bdrv_release_dirty_bitmap(a);
    assert_non_null(made(p, G, "a")); /* the name is free again */
    drop(p);
}

/* fact: bitmaps 1.7/any-state */
static void test_hash_in_any_state(void **state)
{
    struct probe *p = plain_probe();
    char hash[65];
    BdrvDirtyBitmap *a = made(p, G, "a");
    bdrv_set_dirty_bitmap(a, 0, 2 * G);
    bdrv_dirty_bitmap_set_persistence(a, true);
    for (unsigned wrong = 0; wrong < 5; wrong++) {
        if (wrong == 1) {
            bdrv_disable_dirty_bitmap(a);
        } else if (wrong == 2) {
            bdrv_dirty_bitmap_set_inconsistent(a);
        } else if (wrong == 3) {
            bdrv_dirty_bitmap_set_busy(a, true);
        } else if (wrong == 4) {
            bdrv_dirty_bitmap_set_readonly(a, true);
        }
        assert_true(bdrv_dirty_bitmap_sha256(a, hash));
        assert_string_equal(hash, "35be322d094f9d154a8aba4733b8497f180353bd7ae7b0a15f90b586b549f28b");
    }
    bdrv_dirty_bitmap_set_busy(a, false);
    drop(p);
}

/* --- disabled, busy ------------------------------------------------------------------------------------------- */

/* fact: bitmaps 2.1/disabled, 2.1/recording */
static void test_disabled(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = made(p, G, "a");
    assert_true(bdrv_dirty_bitmap_recording(a));
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), 0);
    bdrv_disable_dirty_bitmap(a);
    assert_false(bdrv_dirty_bitmap_recording(a));
    assert_int_equal(do_req(p, W, 4 * G, 512, 1, 0), 0);
    assert_bits(a, "1000000000000000"); /* neither marked nor forgotten */
    bdrv_enable_dirty_bitmap(a);
    assert_int_equal(do_req(p, W, 8 * G, 512, 1, 0), 0);
    assert_bits(a, "1000000010000000");
    bdrv_disable_dirty_bitmap(a);
    bdrv_clear_dirty_bitmap(a, NULL); /* clearing a disabled one is allowed */
    assert_int_equal(bdrv_get_dirty_count(a), 0);
    drop(p);
}

/* Being in use keeps commands away, not the guest. */
static void test_busy_records(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = made(p, G, "a");
    bdrv_dirty_bitmap_set_busy(a, true);
    assert_int_equal(bdrv_dirty_bitmap_state(a), BDRV_BITMAP_STATE_TAKEN);
    assert_true(bdrv_dirty_bitmap_busy(a) && bdrv_dirty_bitmap_recording(a));
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), 0);
    bdrv_disable_dirty_bitmap(a);
    assert_int_equal(do_req(p, W, 4 * G, 512, 1, 0), 0);
    assert_bits(a, "1000000000000000");
    bdrv_dirty_bitmap_set_busy(a, false);
    assert_int_equal(bdrv_dirty_bitmap_state(a), BDRV_BITMAP_STATE_DISABLED);
    drop(p);
}

/* --- readonly ------------------------------------------------------------------------------------------------- */

/* One readonly bitmap, be it disabled, and nothing is written to the node.
 * fact: bitmaps 2.1/readonly, 2.3/readonly, edge/16 */
static void test_readonly_stops_writes(void **state)
{
    static const enum sim_op ops[] = {SIM_OP_WRITE, SIM_OP_WRITE_ZEROES, SIM_OP_DISCARD};
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = made(p, G, "a");
    BdrvDirtyBitmap *other = made(p, G, "other");
    bdrv_disable_dirty_bitmap(a);
    bdrv_dirty_bitmap_set_readonly(a, true);
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        assert_int_equal(do_req(p, ops[i], 0, G, 1, 0), -EPERM);
        assert_int_equal(do_req(p, ops[i], 100, 17, 1, 0), -EPERM); /* nor is anything read to widen it */
    }
    assert_int_equal(p->log_count, 0);
    assert_int_equal(p->bs->write_gen, 0);
    assert_int_equal(bdrv_get_dirty_count(a) + bdrv_get_dirty_count(other), 0);
    assert_int_equal(do_req(p, SIM_OP_READ, 0, 512, 0, 0), 0);
    assert_int_equal(do_req(p, SIM_OP_FLUSH, 0, 0, 0, 0), 0);
    bdrv_dirty_bitmap_set_readonly(a, false);
    assert_int_equal(do_req(p, W, 0, G, 1, 0), 0);
    assert_int_equal(bdrv_get_dirty_count(other), G);
    drop(p);
}

static void do_load(void *opaque)
{
    bdrv_dirty_bitmap_deserialize_ones(opaque, 0, MiB, true);
}

/* fact: bitmaps edge/17 */
static void test_readonly_bits(void **state)
{
    void (*const changes[])(void *opaque) = {do_set, do_reset, do_clear, do_restore, do_load};
    struct probe *p = plain_probe();
    Error *err = NULL;
    BdrvDirtyBitmap *a = made(p, G, "a");
    BdrvDirtyBitmap *other = made(p, G, "other");
    bdrv_set_dirty_bitmap(a, 2 * G, 1);
    bdrv_dirty_bitmap_set_readonly(a, true);
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        assert_true(dies(changes[i], a));
        assert_false(dies(changes[i], other));
    }
    bdrv_disable_dirty_bitmap(a); /* the flag is not in the image's bits */
    bdrv_enable_dirty_bitmap(a);
    assert_true(bdrv_dirty_bitmap_enabled(a));
    assert_false(bdrv_merge_dirty_bitmap(a, other, NULL, &err));
    assert_error(&err, READONLY);
    assert_true(bdrv_merge_dirty_bitmap(other, a, NULL, NULL)); /* reading it is no change */
    assert_bits(other, "0010000000000000");
    drop(p);
}

/* --- granularity ---------------------------------------------------------------------------------------------- */

static struct probe *odd_probe;

static void do_create(void *opaque)
{
    (void)create(odd_probe, *(uint32_t *)opaque, "x");
}

/* fact: bitmaps 2.1/granularity */
static void test_granularity_limits(void **state)
{
    static uint32_t wrong[] = {0, 1, 256, 513, 65537, UINT32_MAX};
    static const uint32_t right[] = {512, 65536, UINT32_C(1) << 31};
    odd_probe = plain_probe();
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        assert_true(dies(do_create, &wrong[i]));
    }
    for (size_t i = 0; i < ARRAY_SIZE(right); i++) {
        assert_int_equal(bdrv_dirty_bitmap_granularity(made(odd_probe, right[i], NULL)), right[i]);
    }
    drop(odd_probe);
}

/* fact: bitmaps 2.1/name-unique */
static void test_names_per_node(void **state)
{
    struct probe *p = plain_probe();
    struct probe *q = probe_new((struct probe_spec){.name = "q", .length = MiB});
    BdrvDirtyBitmap *a = made(p, G, "a");
    BdrvDirtyBitmap *same = made(q, G, "a");
    assert_ptr_equal(bdrv_find_dirty_bitmap(p->bs, "a"), a);
    assert_ptr_equal(bdrv_find_dirty_bitmap(q->bs, "a"), same);
    (void)made(p, G, NULL);
    (void)made(p, G, NULL); /* having no name is no name */
    drop(p);
    drop(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/dirty-bitmap/state/check-order", test_check_order),
        T_NODE("/dirty-bitmap/state/inconsistent", test_inconsistent),
        T_NODE("/dirty-bitmap/state/hash", test_hash_in_any_state),
        T_NODE("/dirty-bitmap/state/disabled", test_disabled),
        T_NODE("/dirty-bitmap/state/busy-records", test_busy_records),
        T_NODE("/dirty-bitmap/state/readonly/stops-writes", test_readonly_stops_writes),
        T_NODE("/dirty-bitmap/state/readonly/bits", test_readonly_bits),
        T_NODE("/dirty-bitmap/state/granularity-limits", test_granularity_limits),
        T_NODE("/dirty-bitmap/state/names-per-node", test_names_per_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
