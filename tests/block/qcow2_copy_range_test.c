/* Protects copies without buffers on qcow2 images: every kind of source cluster, what lies around in new target
 * clusters, and that what cannot be copied is refused before anything has changed. */
#include "tests/block/qcow2_rig.h"

#define K ((int64_t)1024)

struct copy {
    int64_t from, to, bytes;
    int ret;
    bool done;
};

static void copy_entry(void *opaque)
{
    struct copy *c = opaque;

    c->ret = blk_co_copy_range(rig.blk, c->from, rig.blk, c->to, c->bytes, 0, 0);
    c->done = true;
}

static int copy(int64_t from, int64_t to, int64_t bytes)
{
    struct copy c = {.from = from, .to = to, .bytes = bytes};

    coroutine_start(coroutine_create(world, host, "copy", copy_entry, &c));
    settle();
    assert_true(c.done);
    return c.ret;
}

/* fact: block 2.12/source, 2.12/target */
static void test_kinds(void **state)
{
    rig_begin((struct rig_spec){.size = MiB});
    IO(OP_WRITE, 0, 64 * K, 0x11);
    IO(OP_ZERO, 64 * K, 64 * K, 0);
    IO(OP_WRITE, 512 * K, 256 * K, 0x22);
    assert_int_equal(copy(0, 512 * K, 192 * K), 0); /* data, zeros, nothing */
    READS(512 * K, 64 * K, 0x11);
    READS(576 * K, 128 * K, 0);
    READS(704 * K, 64 * K, 0x22);
    rig_end(0);
}

/* Into the middle of a cluster that is not there: the rest comes from below.
 * fact: qcow2 5.2/cow */
static void test_around(void **state)
{
    rig_begin((struct rig_spec){.size = MiB, .backing = MiB});
    IO(OP_WRITE, 0, 64 * K, 0x11);
    assert_int_equal(copy(4 * K, 520 * K, 8 * K), 0);
    READS(512 * K, 8 * K, RIG_BELOW);
    READS(520 * K, 8 * K, 0x11);
    READS(528 * K, 48 * K, RIG_BELOW);
    rig_end(0);
}

/* Nothing of the range may have been copied when it turns out that a part of it cannot be.
 * fact: block 2.12/supported */
static void test_compressed(void **state)
{
    rig_begin((struct rig_spec){.size = MiB});
    IO(OP_WRITE, 0, 64 * K, 0x11);
    IO(OP_COMPRESSED, 64 * K, 64 * K, 0x22);
    assert_int_equal(copy(0, 512 * K, 128 * K), -ENOTSUP);
    READS(512 * K, 128 * K, 0);
    rig_end(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/copy-range/kinds", test_kinds),
        T("/qcow2/copy-range/around", test_around),
        T("/qcow2/copy-range/compressed", test_compressed),
    };
    return cmocka_run_group_tests_name("qcow2 copy range", tests, NULL, NULL);
}
