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

/* One sector of the medium holds what it should not. */
static void spoil(int64_t offset, uint64_t tag)
{
    struct payload data;

    payload_init(world, &data);
    payload_append_tags(&data, tag, 1);
    disk_poke(disk, offset, &data);
    payload_clear(&data);
}

static void raw_world(void)
{
    disk = new_disk("d", MiB);
    add_raw("s", "d");
    add_guest("s");
}

/* Writes of neighbouring sectors that were under way together are flushed like any others. */
static void test_lost_neighbour(void **state)
{
    struct io io[2];

    raw_world();
    io_submit(&io[0], SIM_OP_WRITE, 0, 512, UINT64_C(1) << 32);
    io_submit(&io[1], SIM_OP_WRITE, 512, 512, UINT64_C(2) << 32 | 1);
    settle();
    for (int i = 0; i < 2; i++) {
        assert_true(io[i].done);
        guest_req_clear(&io[i].req);
    }
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    spoil(512, UINT64_C(9) << 32 | 1);
    power_off();
    assert_violated("durability.lost.-.-.raw");
    assert_said("sector 1 (offset 512)");
}

/* What a write with FUA has replaced does not come back, though it was never flushed itself. */
static void test_lost_replaced(void **state)
{
    struct io io;

    raw_world();
    assert_int_equal(write_stamped(1, 0, 512), 0);
    guest_req_init(host, &io.req);
    io.req.op = SIM_OP_WRITE;
    io.req.bytes = 512;
    io.req.flags = BDRV_REQ_FUA;
    io.req.entity = UINT64_C(2) << 32;
    io.req.opaque = &io;
    io.req.done = io_done;
    payload_append_tags(&io.req.data, UINT64_C(2) << 32, 1);
    guest_submit(guest, &io.req);
    settle();
    guest_req_clear(&io.req);
    disk_power_loss(disk);
    spoil(0, UINT64_C(1) << 32);
    settle();
    assert_violated("durability.lost.-.-.raw");
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
        T_SETUP("/check/power/lost/neighbour", test_lost_neighbour, world_setup, world_teardown),
        T_SETUP("/check/power/lost/replaced", test_lost_replaced, world_setup, world_teardown),
        T_SETUP("/check/power/foreign", test_foreign, world_setup, world_teardown),
        T_SETUP("/check/power/unreadable", test_unreadable, world_setup, world_teardown),
        T_SETUP("/check/power/bitmap", test_bitmap, world_setup, world_teardown),
        T_SETUP("/check/power/bitmap/stored", test_bitmap_stored, world_setup, world_teardown),
        T_SETUP("/check/power/bitmap/not-stored", test_bitmap_not_stored, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
