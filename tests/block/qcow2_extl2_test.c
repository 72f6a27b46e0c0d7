/* Protects extended L2 entries: what writes, zeroes and discards make of the subcluster bitmap, and what is copied.
 */
#include "tests/block/qcow2_rig.h"

#define K ((int64_t)1024)
#define EXT "extended_l2=on"
#define LOW 0xffffffffULL

static const struct rig_spec ext = {.create = EXT, .size = MiB};
static const struct rig_spec ext_over = {.create = EXT, .size = MiB, .backing = MiB};

/* fact: qcow2 5.2/entry-extl2 */
static void test_rows(void **state)
{
    rig_begin(ext);
    IO(OP_WRITE, 0, 512, 0x11);
    assert_int_equal(bitmap(0), 0x1);
    IO(OP_ZERO, 64 * K + 2 * K, 2 * K, 0);
    assert_int_equal(bitmap(64 * K), 0x200000000);
    assert_int_equal(entry(64 * K), 0);
    IO(OP_WRITE, 128 * K, 64 * K, 0x22);
    IO(OP_ZERO, 132 * K, 4 * K, 0);
    assert_int_equal(bitmap(128 * K), 0x0000000cfffffff3);
    READS(128 * K, 4 * K, 0x22);
    READS(132 * K, 4 * K, 0);
    READS(136 * K, 56 * K, 0x22);
    IO(OP_WRITE, 192 * K, 64 * K, 0x33);
    IO(OP_DISCARD, 192 * K, 64 * K, 0);
    assert_int_equal(entry(192 * K), 0);
    assert_int_equal(bitmap(192 * K), 0xffffffff00000000);
    rig_end(0);
}

/* fact: qcow2 5.2/entry-extl2-compressed */
static void test_compressed(void **state)
{
    rig_begin(ext);
    IO(OP_COMPRESSED, 0, 64 * K, 0x11);
    assert_int_equal(entry(0) >> 62, 1);
    IO(OP_ZERO, 2 * K, 2 * K, 0);
    assert_int_equal(entry(0) >> 62, 2);
    assert_int_equal(bitmap(0), LOW);
    READS(0, 2 * K, 0x11);
    READS(2 * K, 2 * K, 0);
    READS(4 * K, 60 * K, 0x11);
    rig_end(0);
}

/* One subcluster is copied, not the cluster; its neighbours still read from below.
 * fact: qcow2 5.2/extl2-granularity, 5.2/cow, 5.2/extl2-no-host, edge/36 */
static void test_cow(void **state)
{
    rig_begin(ext_over);
    IO(OP_WRITE, 5 * K, 512, 0x11); /* inside subcluster 2 */
    assert_int_equal(bitmap(0), 0x4);
    READS(0, 5 * K, RIG_BELOW);
    READS(5 * K, 512, 0x11);
    READS(5 * K + 512, 64 * K - 5 * K - 512, RIG_BELOW);
    IO(OP_WRITE, 9 * K, 4 * K, 0x22); /* in place, three more: 4 to 6 */
    assert_int_equal(bitmap(0), 0x74);
    READS(8 * K, K, RIG_BELOW);
    READS(9 * K, 4 * K, 0x22);
    READS(13 * K, K, RIG_BELOW);
    IO(OP_ZERO, 20 * K, 2 * K, 0);
    assert_int_equal(bitmap(0), 0x40000000074);
    IO(OP_WRITE, 21 * K, 512, 0x33); /* a zero one becomes data */
    assert_int_equal(bitmap(0), 0x474);
    READS(20 * K, K, 0);
    READS(21 * K, 512, 0x33);
    rig_end(0);
}

/* Two writes into different subclusters of one cluster that is there already do not wait for each other, and
 * neither loses the other's bit. fact: qcow2 5.4/one-allocation */
static void test_beside(void **state)
{
    rig_begin(ext_over);
    IO(OP_WRITE, 0, 512, 0x11);
    struct rq a = {.op = OP_WRITE, .offset = 9 * K, .bytes = 512, .fill = 0x22};
    struct rq b = {.op = OP_WRITE, .offset = 32 * K, .bytes = 2 * K, .fill = 0x33};
    struct rq c = {.op = OP_WRITE, .offset = 8 * K, .bytes = 512, .fill = 0x44}; /* the same as a's: waits */
    spawn(&a);
    spawn(&b);
    spawn(&c);
    settle();
    assert_true(b.ended < c.ended);
    assert_int_equal(bitmap(0), 0x10011);
    READS(8 * K, 512, 0x44);
    READS(8 * K + 512, 512, RIG_BELOW);
    READS(9 * K, 512, 0x22);
    READS(9 * K + 512, 512, RIG_BELOW);
    READS(32 * K, 2 * K, 0x33);
    rig_end(0);
}

/* The last subcluster of the disk is a part of one.
 * fact: qcow2 5.2/zero-by-flag */
static void test_end_of_disk(void **state)
{
    rig_begin((struct rig_spec){.create = EXT, .size = MiB + 5 * K, .backing = 2 * MiB});
    IO(OP_ZERO, MiB + 4 * K, K, 0);
    assert_int_equal(bitmap(MiB), 0x400000000);
    READS(MiB, 4 * K, RIG_BELOW);
    READS(MiB + 4 * K, K, 0);
    IO(OP_ZERO, MiB, 5 * K, 0); /* what lies beyond the end is nobody's */
    assert_int_equal(bitmap(MiB), 0x700000000);
    READS(MiB, 5 * K, 0);
    rig_end(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/extl2/rows", test_rows),
        T("/qcow2/extl2/compressed", test_compressed),
        T("/qcow2/extl2/cow", test_cow),
        T("/qcow2/extl2/beside", test_beside),
        T("/qcow2/extl2/end-of-disk", test_end_of_disk),
    };
    return cmocka_run_group_tests_name("qcow2 extended L2", tests, NULL, NULL);
}
