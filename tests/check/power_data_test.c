/* Protects check/durability after a power loss: flushed data is there, the rest is old or new, never another's. */
#include "tests/check/qcow2_world.h"

#define L2_AT 0x4000 /* of v3-data-4k: clusters of 4 KiB, the first ones at 0x5000, 0x6000, 0x7000 */
#define COPIED UINT64_C(0x8000000000000000)

/* The media lose their power, and a guest's eyes open again. */
static void power_off(void)
{
    disk_power_loss(disk);
    settle();
}

static void test_silent(void **state)
{
    image_world("v3-data-4k");
    assert_int_equal(write_stamped(1, 0, 64 * KiB), 0);
    assert_int_equal(write_stamped(2, 4096, 8 * KiB), 0);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    assert_int_equal(write_stamped(3, 4096, 512), 0);
    assert_int_equal(write_stamped(4, 256 * KiB, 64 * KiB), 0);
    assert_int_equal(io_run(SIM_OP_DISCARD, 8 * KiB, 16 * KiB, 0), 0);
    power_off();
    assert_silent();
}

static void test_lost(void **state)
{
    image_world("v3-data-4k");
    assert_int_equal(write_stamped(1, 0, 4096), 0);
    arm("lying-flush", "{\"disk\":\"d\"}");
    io_run(SIM_OP_FLUSH, 0, 0, 0);
    power_off();
    assert_violated("durability.lost.-.-.qcow2");
    assert_said("disk d after a power loss, sector 0 (offset 0): expected the guest write");
}

/* The same medium without an image on it. */
static void test_lost_raw(void **state)
{
    disk = new_disk("d", MiB);
    add_raw("s", "d");
    add_guest("s");
    assert_int_equal(write_stamped(1, 0, 4096), 0);
    arm("lying-flush", "{\"disk\":\"d\"}");
    io_run(SIM_OP_FLUSH, 0, 0, 0);
    power_off();
    assert_violated("durability.lost.-.-.raw");
}

/* What was not flushed may go, and what was discarded may be zero; but nothing else may come in its place. */
static void test_foreign(void **state)
{
    image_world("v3-data-4k");
    assert_int_equal(write_stamped(1, 0, 8 * KiB), 0);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    assert_int_equal(io_run(SIM_OP_DISCARD, 0, 4096, 0), 0);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    rot(L2_AT, COPIED | 0x6000);
    power_off();
    assert_violated("durability.foreign.-.-.qcow2");
    assert_said("(its sector 8)");
}

static void test_unreadable(void **state)
{
    image_world("v3-data-4k");
    assert_int_equal(write_stamped(1, 0, 8 * KiB), 0);
    rot(L2_AT, COPIED | 0x5200);
    power_off();
    assert_violated("durability.unreadable.-.-.qcow2");
}

/* The directory says that bitmaps were stored in order, and guests have written since. */
static void test_bitmap(void **state)
{
    image_world("bitmaps-clean-4k");
    assert_int_equal(write_stamped(1, 512 * KiB, 64 * KiB), 0);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    power_off();
    assert_silent();
    assert_int_equal(write_stamped(2, 768 * KiB, 64 * KiB), 0);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    rot(0xe008, UINT64_C(0x0000000100000002)); /* `empty`, in use no longer */
    power_off();
    assert_violated("durability.bitmap.-.-.qcow2");
    assert_said("bitmap 'empty' looks consistent, but is clean at 786432");
}

static void test_bitmap_stored(void **state)
{
    image_world("bitmaps-clean-4k");
    assert_int_equal(write_stamped(1, 512 * KiB, 64 * KiB), 0);
    close_node();
    add_node();
    add_guest("s");
    finish();
    assert_silent();
}

static void test_bitmap_not_stored(void **state)
{
    image_world("bitmaps-clean-4k");
    assert_int_equal(write_stamped(1, 512 * KiB, 64 * KiB), 0);
    arm("lost-write", "{\"disk\":\"d\",\"count\":0}");
    close_node();
    assert_violated("bitmap-exact.stored-wrong.-.-.qcow2.close");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/power/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/power/lost", test_lost, world_setup, world_teardown),
        T_SETUP("/check/power/lost/raw", test_lost_raw, world_setup, world_teardown),
        T_SETUP("/check/power/foreign", test_foreign, world_setup, world_teardown),
        T_SETUP("/check/power/unreadable", test_unreadable, world_setup, world_teardown),
        T_SETUP("/check/power/bitmap", test_bitmap, world_setup, world_teardown),
        T_SETUP("/check/power/bitmap/stored", test_bitmap_stored, world_setup, world_teardown),
        T_SETUP("/check/power/bitmap/not-stored", test_bitmap_not_stored, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
