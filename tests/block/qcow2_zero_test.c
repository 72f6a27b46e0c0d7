/* Protects what zero writes and discards make of L2 entries: the reference's table, row by row, and that a zero
 * write never hides what others wrote. */
#include "tests/block/qcow2_rig.h"

#define DATA 0x50000 /* the first data cluster of a fresh image with clusters of 64 KiB */
#define COPIED (1ULL << 63)
#define K ((int64_t)1024)

static const struct rig_spec plain = {.size = MiB};
static const struct rig_spec v2 = {.create = "compat=0.10", .size = MiB};
static const struct rig_spec over = {.size = MiB, .backing = MiB};
static const struct rig_spec v2_over = {.create = "compat=0.10", .size = MiB, .backing = MiB};

/* fact: qcow2 5.2/entry-write */
static void test_write(void **state)
{
    rig_begin(plain);
    IO(OP_WRITE, 0, 64 * K, 0x11);
    assert_int_equal(entry(0), COPIED | DATA);
    READS(0, 64 * K, 0x11);
    rig_end(0);
}

/* fact: qcow2 5.2/entry-zero-nothing */
static void test_zero_nothing(void **state)
{
    rig_begin(plain);
    IO(OP_ZERO, 0, 64 * K, 0);
    assert_int_equal(entry(0), 1);
    assert_true(has_table(0));
    rig_end(0);
}

/* fact: qcow2 5.2/entry-discard-nothing, edge/33 */
static void test_discard_nothing(void **state)
{
    rig_begin(plain);
    assert_false(has_table(0));
    IO(OP_DISCARD, 0, 64 * K, 0);
    assert_int_equal(entry(0), 0);
    assert_true(has_table(0));
    rig_end(0);
}

/* fact: qcow2 5.2/entry-zero-keep, 5.2/entry-write-zero-allocated, 5.2/zero-allocated, edge/35 */
static void test_zero_keeps(void **state)
{
    rig_begin(plain);
    IO(OP_WRITE, 0, 64 * K, 0x11);
    IO(OP_ZERO, 0, 64 * K, 0);
    assert_int_equal(entry(0), COPIED | DATA | 1);
    READS(0, 64 * K, 0);
    IO(OP_WRITE, 1 * K, 512, 0x22);
    assert_int_equal(entry(0), COPIED | DATA);
    READS(0, 1 * K, 0); /* not what the cluster still held */
    READS(1 * K, 512, 0x22);
    READS(1536, 64 * K - 1536, 0);
    rig_end(0);
}

/* fact: qcow2 5.2/entry-zero-unmap */
static void test_unmap(void **state)
{
    rig_begin(plain);
    IO(OP_WRITE, 0, 128 * K, 0x11);
    IO(OP_UNMAP, 0, 64 * K, 0);
    IO(OP_DISCARD, 64 * K, 64 * K, 0);
    assert_int_equal(entry(0), 1);
    assert_int_equal(entry(64 * K), 1);
    READS(0, 128 * K, 0);
    rig_end(0);
}

/* fact: qcow2 5.2/entry-zero-rest, 5.2/zero-by-flag */
static void test_zero_rest(void **state)
{
    rig_begin(plain);
    IO(OP_ZERO, 1024, 512, 0); /* nothing there */
    assert_int_equal(entry(0), 1);
    IO(OP_ZERO, 64 * K, 64 * K, 0);
    IO(OP_ZERO, 65 * K, 512, 0); /* zero already */
    assert_int_equal(entry(64 * K), 1);
    rig_end(0);
}

/* fact: qcow2 5.2/entry-zero-inside */
static void test_zero_inside(void **state)
{
    rig_begin(plain);
    IO(OP_WRITE, 0, 64 * K, 0x11);
    IO(OP_ZERO, 1 * K, 512, 0);
    assert_int_equal(entry(0), COPIED | DATA);
    READS(0, 1 * K, 0x11);
    READS(1 * K, 512, 0);
    READS(1536, 64 * K - 1536, 0x11);
    rig_end(0);
}

/* fact: qcow2 5.2/entry-v2 */
static void test_v2(void **state)
{
    rig_begin(v2);
    IO(OP_WRITE, 0, 128 * K, 0x11);
    IO(OP_DISCARD, 0, 64 * K, 0);
    IO(OP_ZERO, 64 * K, 64 * K, 0);
    assert_int_equal(entry(0), 0);
    assert_int_equal(entry(64 * K), 0);
    READS(0, 128 * K, 0);
    rig_end(0);
}

/* fact: qcow2 5.2/entry-v2, edge/34 */
static void test_v2_backing(void **state)
{
    rig_begin(v2_over);
    IO(OP_WRITE, 0, 64 * K, 0x11);
    uint64_t before = entry(0);
    IO(OP_DISCARD, 0, 64 * K, 0);
    assert_int_equal(entry(0), before);
    READS(0, 64 * K, 0x11);
    IO(OP_ZERO, 64 * K, 64 * K, 0); /* of what is below */
    assert_int_equal(entry(64 * K) >> 63, 1);
    assert_int_equal(entry(64 * K) & 1, 0);
    READS(64 * K, 64 * K, 0);
    rig_end(0);
}

/* fact: qcow2 5.2/entry-v3-backing */
static void test_v3_backing(void **state)
{
    rig_begin(over);
    IO(OP_DISCARD, 0, 64 * K, 0);
    IO(OP_ZERO, 64 * K, 64 * K, 0);
    assert_int_equal(entry(0), 1);
    assert_int_equal(entry(64 * K), 1);
    READS(0, 128 * K, 0);
    READS(128 * K, 64 * K, RIG_BELOW);
    rig_end(0);
}

/* fact: qcow2 5.2/entry-discard-small */
static void test_discard_small(void **state)
{
    rig_begin((struct rig_spec){.size = MiB + 3 * K});
    IO(OP_WRITE, 0, 64 * K, 0x11);
    IO(OP_WRITE, MiB, 3 * K, 0x22);
    IO(OP_DISCARD, 0, 32 * K, 0);
    READS(0, 64 * K, 0x11);
    assert_int_equal(entry(MiB) & 1, 0);
    IO(OP_DISCARD, MiB, 3 * K, 0);
    assert_int_equal(entry(MiB), 1);
    READS(MiB, 3 * K, 0);
    rig_end(0);
}

/* Data below in the second half only: the zeroes of the first may not take it along. The hole before it has another
 * extent than what follows.
 * fact: qcow2 5.2/zero-by-flag */
static void test_rest_below(void **state)
{
    rig_begin((struct rig_spec){.size = MiB, .backing = MiB, .backing_gap = 32 * K});
    IO(OP_ZERO, 0, 4 * K, 0);
    READS(0, 32 * K, 0);
    READS(32 * K, 32 * K, RIG_BELOW);
    IO(OP_ZERO, 96 * K, 4 * K, 0);
    READS(64 * K, 32 * K, RIG_BELOW);
    READS(96 * K, 4 * K, 0);
    READS(100 * K, 28 * K, RIG_BELOW);
    rig_end(0);
}

/* Nothing but zeros below the rest: the flag will do, also past the end of the backing file.
 * fact: qcow2 5.2/zero-by-flag */
static void test_rest_zero_below(void **state)
{
    rig_begin((struct rig_spec){.size = MiB, .backing = 160 * K, .backing_gap = 128 * K});
    IO(OP_ZERO, 64 * K, 4 * K, 0);
    assert_int_equal(entry(64 * K), 1);
    IO(OP_ZERO, 128 * K, 32 * K, 0); /* all that the file has of this cluster, and its end */
    assert_int_equal(entry(128 * K), 1);
    rig_end(0);
}

/* A zero write of a part of a cluster while somebody writes the rest of it: whoever is first, the data stays.
 * fact: qcow2 5.4/one-allocation */
static void test_rest_being_written(void **state)
{
    for (int first = 0; first < 2; first++) {
        rig_begin(plain);
        struct rq write = {.op = OP_WRITE, .offset = 32 * K, .bytes = 4 * K, .fill = 0x11};
        struct rq zero = {.op = OP_ZERO, .offset = 0, .bytes = 4 * K};
        spawn(first == 0 ? &write : &zero);
        spawn(first == 0 ? &zero : &write);
        settle();
        assert_int_equal(write.ret, 0);
        assert_int_equal(zero.ret, 0);
        READS(0, 32 * K, 0);
        READS(32 * K, 4 * K, 0x11);
        rig_end(0);
    }
}

/* A discard of a cluster that is being allocated comes after it, not between its data and its entry.
 * fact: qcow2 5.4/one-allocation */
static void test_discard_waits(void **state)
{
    rig_begin(plain);
    struct rq write = {.op = OP_WRITE, .offset = 0, .bytes = 64 * K, .fill = 0x11};
    struct rq discard = {.op = OP_DISCARD, .offset = 0, .bytes = 64 * K};
    spawn(&write);
    spawn(&discard);
    settle();
    assert_true(write.ended < discard.ended);
    assert_int_equal(entry(0), 1);
    rig_end(0);
}

/* --- external data files ------------------------------------------------------------------------------------- */

static uint8_t data_byte(int64_t offset)
{
    struct payload p;
    uint8_t byte;

    payload_init(world, &p);
    disk_peek(rig.data, offset, 1, &p);
    payload_read_bytes(&p, 0, &byte, 1);
    payload_clear(&p);
    return byte;
}

/* fact: qcow2 5.2/data-file, edge/32 */
static void test_data_file(void **state)
{
    rig_begin((struct rig_spec){.size = MiB, .data_file = true});
    IO(OP_WRITE, 0, 64 * K, 0x11);
    IO(OP_WRITE, 192 * K, 512, 0x22);
    assert_int_equal(entry(0), COPIED); /* host offset 0 */
    assert_int_equal(entry(192 * K), COPIED | (192 * K));
    assert_int_equal(data_byte(192 * K), 0x22);
    READS(0, 64 * K, 0x11);
    IO(OP_ZERO, 0, 64 * K, 0);
    READS(0, 64 * K, 0);
    IO(OP_WRITE, 512, 512, 0x33);
    READS(0, 512, 0);
    READS(512, 512, 0x33);
    READS(1024, 63 * K, 0);
    rig_end(0);
}

/* fact: qcow2 5.2/data-file-raw */
static void test_data_file_raw(void **state)
{
    rig_begin((struct rig_spec){.size = MiB, .data_file = true, .data_file_raw = true});
    IO(OP_WRITE, 0, 256 * K, 0x11);
    IO(OP_ZERO, 0, 64 * K, 0);
    IO(OP_UNMAP, 64 * K, 64 * K, 0);
    IO(OP_DISCARD, 128 * K, 64 * K, 0);
    for (int64_t at = 0; at < 192 * K; at += 16 * K) {
        assert_int_equal(data_byte(at), 0);
    }
    assert_int_equal(data_byte(192 * K), 0x11);
    READS(0, 192 * K, 0);
    READS(192 * K, 64 * K, 0x11);
    rig_end(0);
}

/* --- discard-no-unref ---------------------------------------------------------------------------------------- */

/* fact: qcow2 5.6/no-unref */
static void test_no_unref(void **state)
{
    rig_begin((struct rig_spec){.size = MiB, .open = "'discard-no-unref':true"});
    IO(OP_WRITE, 0, 128 * K, 0x11);
    int64_t allocated = disk_allocated_bytes(rig.disk);
    IO(OP_DISCARD, 0, 64 * K, 0);
    IO(OP_UNMAP, 64 * K, 64 * K, 0);
    assert_int_equal(entry(0), COPIED | DATA | 1);
    assert_int_equal(entry(64 * K), COPIED | (DATA + 64 * K) | 1);
    assert_true(disk_allocated_bytes(rig.disk) <= allocated - 128 * K);
    READS(0, 128 * K, 0);
    IO(OP_WRITE, 512, 512, 0x22);
    assert_int_equal(entry(0), COPIED | DATA);
    READS(0, 512, 0);
    rig_end(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/entry/write", test_write),
        T("/qcow2/entry/zero-nothing", test_zero_nothing),
        T("/qcow2/entry/discard-nothing", test_discard_nothing),
        T("/qcow2/entry/zero-keeps", test_zero_keeps),
        T("/qcow2/entry/unmap", test_unmap),
        T("/qcow2/entry/zero-rest", test_zero_rest),
        T("/qcow2/entry/zero-inside", test_zero_inside),
        T("/qcow2/entry/v2", test_v2),
        T("/qcow2/entry/v2-backing", test_v2_backing),
        T("/qcow2/entry/v3-backing", test_v3_backing),
        T("/qcow2/entry/discard-small", test_discard_small),
        T("/qcow2/zero/rest-below", test_rest_below),
        T("/qcow2/zero/rest-zero-below", test_rest_zero_below),
        T("/qcow2/zero/rest-being-written", test_rest_being_written),
        T("/qcow2/discard/waits", test_discard_waits),
        T("/qcow2/data-file/entries", test_data_file),
        T("/qcow2/data-file/raw", test_data_file_raw),
        T("/qcow2/discard/no-unref", test_no_unref),
    };
    return cmocka_run_group_tests_name("qcow2 zeroes and discards", tests, NULL, NULL);
}
