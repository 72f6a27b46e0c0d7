/* Protects the successors of dirty bitmaps: freezing, abdicating, reclaiming, and what a frozen one allows. */
#include "tests/block/bitmap_owner.h"

/* Bits A are group 0, before the freeze; bits B are group 4, written while frozen. */
static BdrvDirtyBitmap *frozen(struct probe *p, bool enabled)
{
    BdrvDirtyBitmap *bitmap = made(p, G, "b");
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), 0);
    if (!enabled) {
        bdrv_disable_dirty_bitmap(bitmap);
    }
    assert_int_equal(bdrv_dirty_bitmap_create_successor(bitmap, NULL), 0);
    return bitmap;
}

static void write_b(struct probe *p)
{
    assert_int_equal(do_req(p, W, 4 * G, 512, 1, 0), 0);
}

/* fact: bitmaps 2.2/create, 2.5/atomic */
static void test_create(void **state)
{
    struct probe *p = plain_probe();
    for (unsigned enabled = 0; enabled < 2; enabled++) {
        /* Outside of any coroutine: whatever yielded here would be an assertion. */
        BdrvDirtyBitmap *b = frozen(p, enabled != 0);
        const BdrvDirtyBitmap *child = bdrv_dirty_bitmap_successor(b);
        assert_true(bdrv_dirty_bitmap_has_successor(b));
        assert_int_equal(bdrv_dirty_bitmap_state(b), BDRV_BITMAP_STATE_FROZEN);
        assert_true(bdrv_dirty_bitmap_busy(b));
        assert_false(bdrv_dirty_bitmap_enabled(b));
        assert_null(bdrv_dirty_bitmap_name(child));
        assert_ptr_equal(bdrv_dirty_bitmap_node(child), p->bs);
        assert_int_equal(bdrv_dirty_bitmap_size(child), MiB);
        assert_int_equal(bdrv_dirty_bitmap_granularity(child), G);
        assert_int_equal(bdrv_get_dirty_count(child), 0);
        assert_int_equal(bdrv_dirty_bitmap_enabled(child), enabled);
        assert_false(bdrv_dirty_bitmap_busy(child) || bdrv_dirty_bitmap_persistent(child));
        bdrv_release_dirty_bitmap(bdrv_reclaim_dirty_bitmap(b, NULL));
    }
    probe_free(p);
}

/* fact: bitmaps 2.2/create-frozen */
static void test_create_refused(void **state)
{
    struct probe *p = plain_probe();
    Error *err = NULL;
    BdrvDirtyBitmap *b = frozen(p, true);
    assert_int_equal(bdrv_dirty_bitmap_create_successor(b, &err), -EINVAL);
    assert_error(&err, "Cannot create a successor for a bitmap that already has one");
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    bdrv_dirty_bitmap_set_busy(b, true);
    assert_int_equal(bdrv_dirty_bitmap_create_successor(b, &err), -EBUSY);
    assert_error(&err, "Bitmap 'b' is currently in use by another operation and cannot be used");
    bdrv_dirty_bitmap_set_busy(b, false);
    bdrv_dirty_bitmap_set_persistence(b, true);
    bdrv_dirty_bitmap_set_inconsistent(b);
    assert_int_equal(bdrv_dirty_bitmap_create_successor(b, &err), -EINVAL);
    assert_error(&err, "Bitmap 'b' is inconsistent and cannot be used");
    assert_false(bdrv_dirty_bitmap_has_successor(b));
    assert_null(bdrv_dirty_bitmap_next(p->bs, b)); /* no child was left */
    BdrvDirtyBitmap *ro = made(p, G, "ro");
    bdrv_set_dirty_bitmap(ro, 0, 1);
    bdrv_dirty_bitmap_set_readonly(ro, true);
    assert_int_equal(bdrv_dirty_bitmap_create_successor(ro, NULL), 0);
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(ro, NULL), ro);
    assert_true(bdrv_dirty_bitmap_readonly(ro));
    assert_bits(ro, "1000000000000000");
    bdrv_dirty_bitmap_set_persistence(b, false);
    drop(p);
}

/* The name stays with the parent while it is frozen, and goes to the child with the abdication.
 * fact: bitmaps 2.2/frozen-name, edge/19; jobs seed/9bd2b08 */
static void test_seed_9bd2b08_name_is_reserved(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *b = frozen(p, true);
    assert_ptr_equal(bdrv_find_dirty_bitmap(p->bs, "b"), b);
    struct create again = create(p, G, "b");
    assert_null(again.made);
    assert_string_equal(again.error, "Bitmap already exists: b");
    BdrvDirtyBitmap *child = bdrv_dirty_bitmap_abdicate(b, NULL);
    assert_string_equal(bdrv_dirty_bitmap_name(child), "b");
    assert_ptr_equal(bdrv_find_dirty_bitmap(p->bs, "b"), child);
    assert_null(create(p, G, "b").made);
    drop(p);
}

/* --- the table of 2.2 -------------------------------------------------------------------------------------- */

/* fact: bitmaps 2/successors, 2.2/child-records, 2.2/abdicate */
static void test_seed_9bd2b08_enabled_abdicate(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *b = frozen(p, true);
    bdrv_dirty_bitmap_set_persistence(b, true);
    write_b(p);
    assert_bits(b, "1000000000000000");
    assert_bits(bdrv_dirty_bitmap_successor(b), "0000100000000000");
    const BdrvDirtyBitmap *child = bdrv_dirty_bitmap_successor(b);
    BdrvDirtyBitmap *left = bdrv_dirty_bitmap_abdicate(b, NULL);
    assert_ptr_equal(left, child);
    assert_ptr_equal(bdrv_dirty_bitmap_next(p->bs, NULL), left);
    assert_null(bdrv_dirty_bitmap_next(p->bs, left)); /* the parent is gone */
    assert_string_equal(bdrv_dirty_bitmap_name(left), "b");
    assert_bits(left, "0000100000000000");
    assert_true(bdrv_dirty_bitmap_persistent(left));
    assert_int_equal(bdrv_dirty_bitmap_state(left), BDRV_BITMAP_STATE_ENABLED);
    assert_int_equal(do_req(p, W, 8 * G, 512, 1, 0), 0);
    assert_bits(left, "0000100010000000");
    drop(p);
}

/* fact: bitmaps 2.2/reclaim; jobs seed/9bd2b08 */
static void test_seed_9bd2b08_enabled_reclaim(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *b = frozen(p, true);
    bdrv_dirty_bitmap_set_persistence(b, true);
    write_b(p);
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    assert_ptr_equal(bdrv_dirty_bitmap_next(p->bs, NULL), b);
    assert_null(bdrv_dirty_bitmap_next(p->bs, b)); /* the child is gone */
    assert_string_equal(bdrv_dirty_bitmap_name(b), "b");
    assert_bits(b, "1000100000000000");
    assert_true(bdrv_dirty_bitmap_persistent(b));
    assert_false(bdrv_dirty_bitmap_busy(b));
    assert_int_equal(bdrv_dirty_bitmap_state(b), BDRV_BITMAP_STATE_ENABLED);
    assert_int_equal(do_req(p, W, 8 * G, 512, 1, 0), 0);
    assert_bits(b, "1000100010000000");
    drop(p);
}

/* fact: bitmaps 2.2/abdicate-disabled */
static void test_seed_9bd2b08_disabled_abdicate(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *b = frozen(p, false);
    write_b(p);
    assert_bits(b, "1000000000000000");
    BdrvDirtyBitmap *left = bdrv_dirty_bitmap_abdicate(b, NULL);
    assert_string_equal(bdrv_dirty_bitmap_name(left), "b");
    assert_int_equal(bdrv_get_dirty_count(left), 0);
    assert_int_equal(bdrv_dirty_bitmap_state(left), BDRV_BITMAP_STATE_DISABLED);
    assert_false(bdrv_dirty_bitmap_recording(left));
    drop(p);
}

/* fact: bitmaps 2.2/reclaim-keeps-disabled, edge/20 */
static void test_seed_9bd2b08_disabled_reclaim(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *b = frozen(p, false);
    write_b(p);
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    assert_bits(b, "1000000000000000");
    assert_int_equal(bdrv_dirty_bitmap_state(b), BDRV_BITMAP_STATE_DISABLED);
    write_b(p);
    assert_bits(b, "1000000000000000");
    drop(p);
}

/* An image that may not be written does not become writable by a job's end. */
static void test_abdicate_readonly(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *b = frozen(p, true);
    bdrv_dirty_bitmap_set_readonly(b, true);
    BdrvDirtyBitmap *left = bdrv_dirty_bitmap_abdicate(b, NULL);
    assert_true(bdrv_dirty_bitmap_readonly(left));
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), -EPERM);
    drop(p);
}

/* Union means union: a bit in both, a bit in one, and every later freeze starts clean again. */
static void test_generations(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *b = frozen(p, true);
    assert_int_equal(do_req(p, W, 0, 2 * G, 1, 0), 0);
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    assert_bits(b, "1100000000000000");
    assert_int_equal(bdrv_get_dirty_count(b), 2 * G);
    assert_int_equal(bdrv_dirty_bitmap_create_successor(b, NULL), 0);
    assert_int_equal(bdrv_get_dirty_count(bdrv_dirty_bitmap_successor(b)), 0);
    write_b(p);
    b = bdrv_dirty_bitmap_abdicate(b, NULL);
    assert_int_equal(bdrv_dirty_bitmap_create_successor(b, NULL), 0);
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    assert_bits(b, "0000100000000000");
    drop(p);
}

/* A request under way when the bitmap is frozen belongs to the child, one under way at the reclaim to the parent.
 * fact: bitmaps edge/13 */
static void test_requests_across(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *b = made(p, G, "b");
    struct req first = {.p = p, .op = W, .offset = 0, .bytes = 512};
    struct req second = {.p = p, .op = W, .offset = 4 * G, .bytes = 512};
    probe_hold(p, W, -2);
    spawn(&first);
    settle();
    assert_int_equal(bdrv_dirty_bitmap_create_successor(b, NULL), 0);
    probe_release_one(p);
    assert_int_equal(bdrv_get_dirty_count(b), 0);
    assert_bits(bdrv_dirty_bitmap_successor(b), "1000000000000000");
    spawn(&second);
    settle();
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    probe_release(p);
    assert_bits(b, "1000100000000000");
    drop(p);
}

/* fact: bitmaps 2.2/abdicate-none, 2.2/reclaim-none */
static void test_no_successor(void **state)
{
    struct probe *p = plain_probe();
    Error *err = NULL;
    BdrvDirtyBitmap *b = made(p, G, "b");
    assert_null(bdrv_dirty_bitmap_abdicate(b, &err));
    assert_error(&err, "Cannot relinquish bitmap 'b': it has no successor");
    assert_null(bdrv_reclaim_dirty_bitmap(b, &err));
    assert_error(&err, "Cannot reclaim bitmap 'b': it has no successor");
    assert_int_equal(bdrv_dirty_bitmap_state(b), BDRV_BITMAP_STATE_ENABLED);
    drop(p);
}

/* --- what is seen and allowed while frozen ----------------------------------------------------------------- */

/* fact: bitmaps 2.2/query, 2.1/recording, 2.1/anonymous */
static void test_query(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *b = frozen(p, true);
    assert_int_equal(do_req(p, W, 4 * G, 2 * G, 1, 0), 0);
    const BdrvDirtyBitmap *child = bdrv_dirty_bitmap_next(p->bs, NULL);
    assert_ptr_equal(child, bdrv_dirty_bitmap_successor(b));
    assert_ptr_equal(bdrv_dirty_bitmap_next(p->bs, child), b);
    assert_true(bdrv_dirty_bitmap_busy(b) && bdrv_dirty_bitmap_recording(b));
    assert_int_equal(bdrv_get_dirty_count(b), G);
    assert_null(bdrv_dirty_bitmap_name(child));
    assert_true(!bdrv_dirty_bitmap_busy(child) && bdrv_dirty_bitmap_recording(child));
    assert_int_equal(bdrv_get_dirty_count(child), 2 * G);
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    bdrv_disable_dirty_bitmap(b);
    assert_int_equal(bdrv_dirty_bitmap_create_successor(b, NULL), 0);
    assert_true(bdrv_dirty_bitmap_busy(b));
    assert_false(bdrv_dirty_bitmap_recording(b));
    bdrv_dirty_bitmap_enable_successor(b);
    assert_true(bdrv_dirty_bitmap_recording(b));
    assert_false(bdrv_dirty_bitmap_enabled(b));
    write_b(p);
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    assert_true(bdrv_dirty_bitmap_enabled(b));
    drop(p);
}

static void do_enable(void *opaque)
{
    bdrv_enable_dirty_bitmap(opaque);
}

static void do_disable(void *opaque)
{
    bdrv_disable_dirty_bitmap(opaque);
}

static void do_take(void *opaque)
{
    bdrv_dirty_bitmap_set_busy(opaque, true);
}

static void do_release(void *opaque)
{
    bdrv_release_dirty_bitmap(opaque);
}

static void do_load(void *opaque)
{
    bdrv_dirty_bitmap_deserialize_zeroes(opaque, 0, MiB, true);
}

static const struct {
    const char *name;
    void (*fn)(void *opaque);
    const char *dies; /* in the states of bdrv_bitmap_state, 'x': assertion */
} operations[] = {
    {"set", do_set, "...xx"},         {"reset", do_reset, "...xx"},   {"clear", do_clear, "...xx"},
    {"restore", do_restore, "...xx"}, {"enable", do_enable, "...xx"}, {"disable", do_disable, "...x."},
    {"set_busy", do_take, "...x."},   {"load", do_load, "....x"},     {"release", do_release, "..xx."},
};

static void enter_state(BdrvDirtyBitmap *b, unsigned wanted)
{
    if (wanted == BDRV_BITMAP_STATE_DISABLED) {
        bdrv_disable_dirty_bitmap(b);
    } else if (wanted == BDRV_BITMAP_STATE_TAKEN) {
        bdrv_dirty_bitmap_set_busy(b, true);
    } else if (wanted == BDRV_BITMAP_STATE_FROZEN) {
        assert_int_equal(bdrv_dirty_bitmap_create_successor(b, NULL), 0);
    } else if (wanted == BDRV_BITMAP_STATE_INCONSISTENT) {
        bdrv_dirty_bitmap_set_persistence(b, true);
        bdrv_dirty_bitmap_set_inconsistent(b);
    }
    assert_int_equal(bdrv_dirty_bitmap_state(b), wanted);
}

/* Every operation on one bitmap, in every state: the caller's fault, or done.
 * fact: bitmaps 2.2/single-asserts, 2.2/frozen-untouchable, edge/21 */
static void test_seed_9bd2b08_single_asserts(void **state)
{
    for (unsigned s = 0; s < BDRV_BITMAP_STATE_COUNT; s++) {
        struct probe *p = plain_probe();
        BdrvDirtyBitmap *b = made(p, G, "b");
        enter_state(b, s);
        for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
            if (dies(operations[i].fn, b) != (operations[i].dies[s] == 'x')) {
                fail_msg("%s in state %u", operations[i].name, s);
            }
        }
        if (s == BDRV_BITMAP_STATE_FROZEN) {
            assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
        } else if (s == BDRV_BITMAP_STATE_TAKEN) {
            bdrv_dirty_bitmap_set_busy(b, false);
        }
        drop(p);
    }
}

/* Marking after I/O passes over the frozen one and the disabled ones beside it.
 * fact: bitmaps 2.2/group-skips, edge/21 */
static void test_seed_9bd2b08_group_skips_frozen(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *off = made(p, G, "off");
    BdrvDirtyBitmap *on = made(p, G, "on");
    bdrv_disable_dirty_bitmap(off);
    BdrvDirtyBitmap *b = frozen(p, true);
    write_b(p);
    assert_int_equal(do_req(p, SIM_OP_DISCARD, 6 * G, G, 0, 0), 0);
    assert_bits(b, "1000000000000000");
    assert_bits(bdrv_dirty_bitmap_successor(b), "0000101000000000");
    assert_bits(on, "1000101000000000");
    assert_int_equal(bdrv_get_dirty_count(off), 0);
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    drop(p);
}

/* Neither into a frozen bitmap nor out of it; the child is nobody's to name, so it is only the owner's. */
static void test_merge_refused(void **state)
{
    struct probe *p = plain_probe();
    Error *err = NULL;
    HBitmap *backup = NULL;
    BdrvDirtyBitmap *other = made(p, G, "other");
    BdrvDirtyBitmap *b = frozen(p, true);
    assert_false(bdrv_merge_dirty_bitmap(b, other, &backup, &err));
    assert_error(&err, "Bitmap 'b' is currently in use by another operation and cannot be used");
    assert_false(bdrv_merge_dirty_bitmap(other, b, &backup, &err));
    assert_error(&err, "Bitmap 'b' is currently in use by another operation and cannot be used");
    assert_null(backup);
    assert_bits(other, "1000000000000000");
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    drop(p);
}

/* --- the length changes underneath -------------------------------------------------------------------------- */

static void test_resize_grow(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = 4 * G});
    BdrvDirtyBitmap *b = made(p, G, "b");
    bdrv_set_dirty_bitmap(b, 0, 1);
    assert_int_equal(bdrv_dirty_bitmap_create_successor(b, NULL), 0);
    medium_becomes(p, 8 * G); /* somebody else's doing */
    assert_bits(b, "1000");
    assert_bits(bdrv_dirty_bitmap_successor(b), "00000000");
    assert_int_equal(do_req(p, W, 6 * G, 512, 1, 0), 0);
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    assert_bits(b, "10000010");
    drop(p);
}

/* What a shrink drops stays dropped, also if the node has grown again before the thaw. */
static void test_resize_shrink(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = 8 * G});
    BdrvDirtyBitmap *b = made(p, G, "b");
    bdrv_set_dirty_bitmap(b, 0, 8 * G);
    assert_int_equal(bdrv_dirty_bitmap_create_successor(b, NULL), 0);
    medium_becomes(p, 2 * G + 512);
    medium_becomes(p, 5 * G);
    assert_bits(b, "11111111");
    assert_bits(bdrv_dirty_bitmap_successor(b), "00000");
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    assert_bits(b, "11100");
    assert_int_equal(bdrv_dirty_bitmap_create_successor(b, NULL), 0);
    medium_becomes(p, 3 * G);
    b = bdrv_dirty_bitmap_abdicate(b, NULL);
    assert_bits(b, "000");
    drop(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/dirty-bitmap/successor/create", test_create),
        T_NODE("/dirty-bitmap/successor/create/refused", test_create_refused),
        T_NODE("/dirty-bitmap/successor/seed/9bd2b08/name-is-reserved", test_seed_9bd2b08_name_is_reserved),
        T_NODE("/dirty-bitmap/successor/seed/9bd2b08/enabled/abdicate", test_seed_9bd2b08_enabled_abdicate),
        T_NODE("/dirty-bitmap/successor/seed/9bd2b08/enabled/reclaim", test_seed_9bd2b08_enabled_reclaim),
        T_NODE("/dirty-bitmap/successor/seed/9bd2b08/disabled/abdicate", test_seed_9bd2b08_disabled_abdicate),
        T_NODE("/dirty-bitmap/successor/seed/9bd2b08/disabled/reclaim", test_seed_9bd2b08_disabled_reclaim),
        T_NODE("/dirty-bitmap/successor/abdicate/readonly", test_abdicate_readonly),
        T_NODE("/dirty-bitmap/successor/generations", test_generations),
        T_NODE("/dirty-bitmap/successor/requests-across", test_requests_across),
        T_NODE("/dirty-bitmap/successor/none", test_no_successor),
        T_NODE("/dirty-bitmap/successor/query", test_query),
        T_NODE("/dirty-bitmap/successor/seed/9bd2b08/single-asserts", test_seed_9bd2b08_single_asserts),
        T_NODE("/dirty-bitmap/successor/seed/9bd2b08/group-skips-frozen", test_seed_9bd2b08_group_skips_frozen),
        T_NODE("/dirty-bitmap/successor/merge-refused", test_merge_refused),
        T_NODE("/dirty-bitmap/successor/resize/grow", test_resize_grow),
        T_NODE("/dirty-bitmap/successor/resize/shrink", test_resize_shrink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
