/* Protects flushing: generations, one active flush in FIFO order, coalescing, retry after failure, children. */
#include "tests/block/probe.h"

#define F SIM_OP_FLUSH

static struct req flush_req(struct probe *p)
{
    return (struct req){.p = p, .op = F};
}

static struct probe *plain_probe(void)
{
    return probe_new((struct probe_spec){.name = "p", .length = MiB});
}

static void spawn_three(struct probe *p, struct req *reqs)
{
    for (int i = 0; i < 3; i++) {
        reqs[i] = flush_req(p);
        spawn(&reqs[i]);
    }
}

/* One write, then three concurrent flushes: one of the disk. Failing it: the next one calls it again. None without
 * new writes. (12)
 * fact: block 12/flush, 2.9/one-active, 2.9/generation, edge/15 */
static void test_coalesce(void **state)
{
    struct probe *p = plain_probe();
    struct req reqs[3];
    assert_int_equal(do_req(p, SIM_OP_WRITE, 0, 512, 1, 0), 0);
    spawn_three(p, reqs);
    settle();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(reqs[i].ret, 0);
        assert_int_equal(reqs[i].order - reqs[0].order, i);
    }
    assert_int_equal(probe_calls(p, F), 1);
    assert_int_equal(sim_mark_hits(world, MARK_flush_coalesced), 2);
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(p, F), 1);
    probe_free(p);
}

/* fact: block 12/flush, 2.9/failed, edge/15 */
static void test_retry(void **state)
{
    struct probe *p = plain_probe();
    struct req reqs[3];
    assert_int_equal(do_req(p, SIM_OP_WRITE, 0, 512, 1, 0), 0);
    probe_fail(p, F, -1, -EIO, 1);
    spawn_three(p, reqs);
    settle();
    assert_int_equal(reqs[0].ret, -EIO);
    assert_int_equal(reqs[1].ret, 0);
    assert_int_equal(reqs[2].ret, 0);
    assert_int_equal(probe_calls(p, F), 2);
    probe_free(p);
}

/* A failed write may have changed the disk: it counts. A zero write and a discard count too.
 * fact: block 2.9/to-os, 2.7/failed, edge/1 */
static void test_what_counts(void **state)
{
    struct probe *p = plain_probe();
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(p, F), 0);
    probe_fail(p, SIM_OP_WRITE, -1, -EIO, 1);
    assert_int_equal(do_req(p, SIM_OP_WRITE, 0, 512, 1, 0), -EIO);
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(p, F), 1);
    assert_int_equal(do_req(p, SIM_OP_WRITE_ZEROES, 0, 512, 0, 0), 0);
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(p, F), 2);
    assert_int_equal(do_req(p, SIM_OP_DISCARD, 0, 512, 0, 0), 0);
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(p, F), 3);
    assert_int_equal(do_req(p, SIM_OP_READ, 0, 512, 0, 0), 0);
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(p, F), 3);
    probe_free(p);
}

/* A write that completes after a flush sampled its generation is not covered by it.
 * fact: block 2.9/generation */
static void test_later_write_not_covered(void **state)
{
    struct probe *p = plain_probe();
    struct req first = flush_req(p);
    struct req second = flush_req(p);
    assert_int_equal(do_req(p, SIM_OP_WRITE, 0, 512, 1, 0), 0);
    probe_hold(p, F, 0);
    spawn(&first);
    settle();
    assert_int_equal(do_req(p, SIM_OP_WRITE, 512, 512, 1, 0), 0);
    spawn(&second);
    settle();
    probe_release(p);
    assert_true(first.done && second.done);
    assert_int_equal(probe_calls(p, F), 2);
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(p, F), 2);
    probe_free(p);
}

/* A write in flight when the flush begins is not covered, whatever the flush did.
 * fact: block 2.9/generation */
static void test_write_in_flight_not_covered(void **state)
{
    struct probe *p = plain_probe();
    struct req write = {.p = p, .op = SIM_OP_WRITE, .offset = 512, .bytes = 512, .fill = 1};
    assert_int_equal(do_req(p, SIM_OP_WRITE, 0, 512, 1, 0), 0);
    probe_hold(p, SIM_OP_WRITE, 512);
    spawn(&write);
    settle();
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    probe_release(p);
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(p, F), 2);
    probe_free(p);
}

static int full_flush(BlockDriverState *bs)
{
    return probe_call(bs, F, 0, 7, 0);
}

static int flush_to_os(BlockDriverState *bs)
{
    return probe_call(bs, F, 0, 9, 0);
}

static const BlockDriver format_driver = {
    .format_name = "format-probe",
    .doc = "test",
    .instance_size = sizeof(struct probe),
    .supports_backing = true,
    .bdrv_co_preadv = probe_preadv,
    .bdrv_co_pwritev = probe_pwritev,
    .bdrv_co_getlength = probe_getlength,
    .bdrv_co_flush_to_os = flush_to_os,
};

static const BlockDriver full_driver = {
    .format_name = "full-probe",
    .doc = "test",
    .instance_size = sizeof(struct probe),
    .bdrv_co_preadv = probe_preadv,
    .bdrv_co_pwritev = probe_pwritev,
    .bdrv_co_getlength = probe_getlength,
    .bdrv_co_flush = full_flush,
};

/* Written children are flushed in every case, also after an error of the node itself; backing files are not.
 * fact: block 2.9/children, 2.9/to-os, edge/16 */
static void test_children(void **state)
{
    struct probe *base = probe_new((struct probe_spec){.name = "base", .length = MiB});
    struct probe *file = probe_new((struct probe_spec){.name = "file", .length = MiB, .no_resize = true});
    struct probe *top = probe_new(
        (struct probe_spec){.name = "top", .drv = &format_driver, .length = MiB, .file = file, .backing = base});
    assert_int_equal(do_req(base, SIM_OP_WRITE, 0, 512, 1, 0), 0);
    assert_int_equal(do_req(file, SIM_OP_WRITE, 0, 512, 1, 0), 0);
    assert_int_equal(do_req(top, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(top, F), 1); /* to the OS, though nothing was written here */
    assert_int_equal(probe_calls(file, F), 1);
    assert_int_equal(probe_calls(base, F), 0);
    assert_int_equal(do_req(file, SIM_OP_WRITE, 0, 512, 1, 0), 0);
    probe_fail(top, F, -1, -ENOSPC, 1);
    probe_fail(file, F, -1, -EIO, 1);
    assert_int_equal(do_req(top, F, 0, 0, 0, 0), -ENOSPC);
    assert_int_equal(probe_calls(file, F), 2);
    assert_int_equal(do_req(top, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(file, F), 3);
    probe_free(top);
    probe_free(file);
    probe_free(base);
}

/* fact: block 2.9/full-flush */
static void test_full_flush(void **state)
{
    struct probe *file = probe_new((struct probe_spec){.name = "file", .length = MiB, .no_resize = true});
    struct probe *top =
        probe_new((struct probe_spec){.name = "top", .drv = &full_driver, .length = MiB, .file = file});
    assert_int_equal(do_req(file, SIM_OP_WRITE, 0, 512, 1, 0), 0);
    assert_int_equal(do_req(top, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(top, F), 1);
    assert_int_equal(probe_calls(file, F), 0);
    probe_free(top);
    probe_free(file);
}

static int flush_all_ret;

static void flush_all_main(void *opaque)
{
    flush_all_ret = bdrv_flush_all(host);
}

/* Every node is tried; the first error comes back. */
static void test_flush_all(void **state)
{
    struct probe *a = probe_new((struct probe_spec){.name = "a", .length = MiB});
    struct probe *b = probe_new((struct probe_spec){.name = "b", .length = MiB});
    assert_int_equal(do_req(a, SIM_OP_WRITE, 0, 512, 1, 0), 0);
    assert_int_equal(do_req(b, SIM_OP_WRITE, 0, 512, 1, 0), 0);
    probe_fail(b, F, -1, -EIO, 1);
    probe_main(flush_all_main, NULL);
    assert_int_equal(flush_all_ret, -EIO);
    assert_int_equal(probe_calls(a, F), 1);
    probe_main(flush_all_main, NULL);
    assert_int_equal(flush_all_ret, 0);
    assert_int_equal(probe_calls(a, F), 1);
    assert_int_equal(probe_calls(b, F), 2);
    probe_free(a);
    probe_free(b);
}

static void note_call(void *opaque)
{
    *(bool *)opaque = true;
}

/* The main loop's callbacks go on while it flushes everything: one of them may be what a flush waits for. */
static void test_flush_all_lets_callbacks_run(void **state)
{
    struct probe *a = probe_new((struct probe_spec){.name = "a", .length = MiB});
    bool called = false;
    assert_int_equal(do_req(a, SIM_OP_WRITE, 0, 512, 1, 0), 0);
    probe_hold(a, F, -2);
    flush_all_ret = 1;
    host_command(host, flush_all_main, NULL);
    settle();
    host_defer(host, note_call, &called);
    settle();
    assert_true(called);
    assert_int_equal(flush_all_ret, 1);
    probe_release(a);
    assert_int_equal(flush_all_ret, 0);
    probe_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/flush/coalesce", test_coalesce),
        T_NODE("/flush/retry", test_retry),
        T_NODE("/flush/what-counts", test_what_counts),
        T_NODE("/flush/later-write-not-covered", test_later_write_not_covered),
        T_NODE("/flush/write-in-flight-not-covered", test_write_in_flight_not_covered),
        T_NODE("/flush/children", test_children),
        T_NODE("/flush/full", test_full_flush),
        T_NODE("/flush/all", test_flush_all),
        T_NODE("/flush/all/callbacks-go-on", test_flush_all_lets_callbacks_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
