/* Protects check/qcow2-metadata: what the driver leaves on a medium is judged where it owes a consistent image. */
#include "check/qcow2_image.h"
#include "tests/check/qcow2_world.h"

#define L1_AT 0x3000 /* of the image below: one entry, for an L2 table at 0x4000 */
#define L2_AT 0x4000

static void one_image(void)
{
    image_world("v3-data-4k");
}

/* The L1 entry without COPIED: nobody has to write it again, so it stays. */
static void rot_l1(void)
{
    rot(L1_AT, L2_AT);
}

static void test_silent(void **state)
{
    one_image();
    assert_int_equal(io_run(SIM_OP_WRITE, 256 * KiB, 64 * KiB, 1 << 24), 0);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    assert_int_equal(io_run(SIM_OP_WRITE, 4096, 512, 1 << 25), 0);
    assert_int_equal(io_run(SIM_OP_DISCARD, 0, 8192, 0), 0);
    close_node();
    add_node();
    add_guest("s");
    assert_int_equal(io_run(SIM_OP_WRITE, 512 * KiB, 64 * KiB, 1 << 26), 0);
    finish();
    assert_silent();
}

static void test_flush(void **state)
{
    one_image();
    assert_int_equal(io_run(SIM_OP_WRITE, 256 * KiB, 64 * KiB, 1 << 24), 0);
    rot_l1();
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    assert_violated("qcow2-metadata.flush.-.-.qcow2.copied");
    assert_said("L1 entry 0000000000004000 at 0x3000: COPIED is clear, the count is 1");
}

/* What is in the caches is not owed, so a flush with a request beside it says nothing. */
static void test_flush_not_alone(void **state)
{
    struct io io;

    one_image();
    assert_int_equal(io_run(SIM_OP_WRITE, 256 * KiB, 64 * KiB, 1 << 24), 0);
    rot_l1();
    io_submit(&io, SIM_OP_WRITE, 0, 4096, 1 << 25);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    run_until(flag_set, &io.done);
    guest_req_clear(&io.req);
    assert_silent();
}

static void test_close(void **state)
{
    one_image();
    assert_int_equal(io_run(SIM_OP_WRITE, 256 * KiB, 64 * KiB, 1 << 24), 0);
    rot_l1();
    close_node();
    assert_violated("qcow2-metadata.close.-.-.qcow2.copied");
}

/* All fits together, but whoever opens it next would have to repair it first. */
static void test_close_dirty(void **state)
{
    one_image();
    assert_int_equal(io_run(SIM_OP_WRITE, 256 * KiB, 64 * KiB, 1 << 24), 0);
    rot(72, 1);
    close_node();
    assert_violated("qcow2-metadata.close.-.-.qcow2.dirty");
}

static void test_open(void **state)
{
    one_image();
    assert_int_equal(io_run(SIM_OP_WRITE, 256 * KiB, 64 * KiB, 1 << 24), 0);
    close_node();
    assert_silent();
    rot_l1();
    add_node();
    assert_violated("qcow2-metadata.open.-.-.qcow2.copied");
}

static void test_power(void **state)
{
    one_image();
    assert_int_equal(io_run(SIM_OP_WRITE, 256 * KiB, 64 * KiB, 1 << 24), 0);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    assert_int_equal(io_run(SIM_OP_WRITE, 512 * KiB, 64 * KiB, 1 << 25), 0);
    disk_power_loss(disk);
    assert_silent();
    rot(0, 0);
    disk_power_loss(disk);
    assert_violated("qcow2-metadata.power.-.-.qcow2.unreadable");
    assert_said("no qcow2 magic");
}

static void test_reported(void **state)
{
    one_image();
    rot(L2_AT, UINT64_C(0x8000000000005200));
    io_run(SIM_OP_WRITE, 0, 4096, 1 << 24);
    assert_violated("qcow2-metadata.reported.-.-.qcow2");
}

#define ENTRY_OFFSET UINT64_C(0x00fffffffffffe00)

static uint64_t peek_entry(int64_t offset)
{
    struct payload data;
    uint64_t value = 0;
    uint8_t bytes[8];

    payload_init(world, &data);
    disk_peek(disk, offset, SIM_SECTOR_BYTES, &data);
    payload_read_bytes(&data, 0, bytes, sizeof(bytes));
    payload_clear(&data);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

/* Where the first cluster of the first snapshot lies. */
static int64_t snapshot_data(void)
{
    struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(disk));
    uint64_t l2;

    assert_int_equal(image->snapshot_count, 1);
    l2 = image->snapshot[0].l1[0] & ENTRY_OFFSET;
    qcow2_image_free(image);
    return (int64_t)(peek_entry((int64_t)l2) & ENTRY_OFFSET);
}

static void test_snapshot_kept(void **state)
{
    one_image();
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 1 << 24), 0);
    assert_true(qmp("blockdev-snapshot-internal-sync", "{\"device\":\"s\",\"name\":\"one\"}"));
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 1 << 25), 0);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    assert_silent();
    rot(snapshot_data(), 0x1234);
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 1 << 26), 0);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    assert_violated("qcow2-metadata.kept.-.-.qcow2");
    assert_said("snapshot 'one' (id 1) no longer holds what it held");
}

/* The copy of the L1 table that a new snapshot is to have is lost on its way. */
static void test_snapshot_made(void **state)
{
    one_image();
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 1 << 24), 0);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    arm("lost-write", "{\"disk\":\"d\",\"nth\":6}");
    assert_true(qmp("blockdev-snapshot-internal-sync", "{\"device\":\"s\",\"name\":\"one\"}"));
    assert_violated("qcow2-metadata.snapshot.-.-.qcow2.create");
    assert_said("after create of snapshot 'one': the disk holds something else");
}

/* An image that was bad before nobody has made worse. */
static void test_was_bad(void **state)
{
    load_image("v3-data-4k");
    rot_l1();
    add_node();
    add_guest("s");
    assert_int_equal(io_run(SIM_OP_WRITE, 256 * KiB, 64 * KiB, 1 << 24), 0);
    assert_int_equal(io_run(SIM_OP_FLUSH, 0, 0, 0), 0);
    finish();
    assert_silent();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/qcow2-metadata/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/qcow2-metadata/flush", test_flush, world_setup, world_teardown),
        T_SETUP("/qcow2-metadata/flush/not-alone", test_flush_not_alone, world_setup, world_teardown),
        T_SETUP("/qcow2-metadata/close", test_close, world_setup, world_teardown),
        T_SETUP("/qcow2-metadata/close/dirty", test_close_dirty, world_setup, world_teardown),
        T_SETUP("/qcow2-metadata/open", test_open, world_setup, world_teardown),
        T_SETUP("/qcow2-metadata/power", test_power, world_setup, world_teardown),
        T_SETUP("/qcow2-metadata/reported", test_reported, world_setup, world_teardown),
        T_SETUP("/qcow2-metadata/snapshot/kept", test_snapshot_kept, world_setup, world_teardown),
        T_SETUP("/qcow2-metadata/snapshot/made", test_snapshot_made, world_setup, world_teardown),
        T_SETUP("/qcow2-metadata/was-bad", test_was_bad, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
