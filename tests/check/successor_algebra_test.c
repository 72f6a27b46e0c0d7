/* Protects check/successor_algebra: a frozen bitmap that changes, and an end that leaves other bits or flags than
 * the table of the reference, are reported. */
#include "tests/check/bitmap_bent.h"

/* b is frozen, and the guest has written to group 48 since. */
static void frozen(void)
{
    with_bitmap();
    on_main(freeze_entry, NULL);
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 512, 1 << 24), 0);
    settle();
    assert_silent();
}

static void test_silent(void **state)
{
    frozen();
    assert_false(qmp("block-dirty-bitmap-clear", NAME_B));
    assert_false(
        qmp("transaction", "{\"actions\":[{\"type\":\"block-dirty-bitmap-remove\",\"data\":" NAME_B "}]}"));
    on_main(reclaim_entry, NULL);
    assert_true(qmp("block-dirty-bitmap-disable", NAME_B));
    on_main(freeze_entry, NULL);
    assert_int_equal(io_run(SIM_OP_WRITE, MiB, 512, 1 << 24), 0);
    on_main(abdicate_entry, NULL);
    assert_int_equal(bdrv_get_dirty_count(b()), 0);
    finish();
    assert_silent();
}

static void test_parent_changed(void **state)
{
    frozen();
    hbitmap_set(b()->hbitmap, 0, 1);
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 512, 1 << 24), 0);
    assert_violated("successor-algebra.parent-changed.-.-.raw");
}

/* As many bits as before, but others. */
static void test_parent_moved(void **state)
{
    frozen();
    hbitmap_set(b()->hbitmap, 0, 1);
    hbitmap_reset(b()->hbitmap, 64 * KiB, 64 * KiB);
    look();
    assert_violated("successor-algebra.parent-changed.-.-.raw.block-dirty-bitmap-enable");
}

static void test_name_taken(void **state)
{
    BdrvDirtyBitmap *parent;

    frozen();
    parent = b();
    parent->successor->name = parent->name;
    settle();
    parent->successor->name = NULL;
    assert_violated("successor-algebra.name-lost.-.-.raw");
}

static void test_not_busy(void **state)
{
    frozen();
    b()->busy = false;
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 512, 1 << 24), 0);
    b()->busy = true;
    assert_violated("successor-algebra.not-frozen.-.-.raw");
}

/* A successor that comes into being with bits. */
static void mark_child(void *opaque, const struct sim_record *record)
{
    hbitmap_set(((BdrvDirtyBitmap *)record->ref)->hbitmap, 0, 1);
}

static void test_successor_dirty(void **state)
{
    with_bitmap();
    sim_subscribe(world, EV_bitmap_create, mark_child, NULL);
    on_main(freeze_entry, NULL);
    assert_violated("successor-algebra.successor-wrong.-.-.raw.freeze");
}

/* After the checker's look at what is about to be thawed. */
static void thaw_by(sim_event_fn *fn)
{
    frozen();
    sim_subscribe(world, EV_bitmap_thaw, fn, NULL);
}

static void lose_successor(void *opaque, const struct sim_record *record)
{
    hbitmap_reset_all(((BdrvDirtyBitmap *)record->ref)->successor->hbitmap);
}

/* Reclaiming forgets what was written since the freeze. */
static void test_reclaim_forgets(void **state)
{
    thaw_by(lose_successor);
    on_main(reclaim_entry, NULL);
    assert_violated("successor-algebra.reclaim-wrong.-.-.raw.reclaim");
}

static void keep_parent(void *opaque, const struct sim_record *record)
{
    const BdrvDirtyBitmap *parent = record->ref;

    hbitmap_merge(parent->successor->hbitmap, parent->hbitmap);
}

/* Abdicating merges the wrong way: the next backup copies everything again. */
static void test_abdicate_keeps(void **state)
{
    thaw_by(keep_parent);
    on_main(abdicate_entry, NULL);
    assert_violated("successor-algebra.abdicate-wrong.-.-.raw.abdicate");
}

static void disable_child(void *opaque, const struct sim_record *record)
{
    ((BdrvDirtyBitmap *)record->ref)->successor->disabled = true;
}

static void test_end_disables(void **state)
{
    thaw_by(disable_child);
    on_main(reclaim_entry, NULL);
    assert_violated("successor-algebra.end-flags.-.-.raw.reclaim");
}

static void test_busy_used(void **state)
{
    frozen();
    assert_true(qmp_by(do_nothing, "block-dirty-bitmap-enable", NAME_B));
    assert_violated("successor-algebra.busy-used.-.-.-.block-dirty-bitmap-enable");
}

#define ALGEBRA(name, fn) T_SETUP("/check/successor-algebra/" name, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALGEBRA("silent", test_silent),
        ALGEBRA("parent-changed", test_parent_changed),
        ALGEBRA("parent-moved", test_parent_moved),
        ALGEBRA("name-taken", test_name_taken),
        ALGEBRA("not-busy", test_not_busy),
        ALGEBRA("successor-dirty", test_successor_dirty),
        ALGEBRA("reclaim-forgets", test_reclaim_forgets),
        ALGEBRA("abdicate-keeps", test_abdicate_keeps),
        ALGEBRA("end-disables", test_end_disables),
        ALGEBRA("busy-used", test_busy_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
