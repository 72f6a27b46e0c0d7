/* Protects the preallocate filter (block.md 2.15, 1.11): what it makes beyond a write, what it tells of the length,
 * and that nothing of it is left when the writers are gone. */
#include "tests/block/blkopts.h"
#include "tests/block/probe.h"

#define R SIM_OP_READ
#define W SIM_OP_WRITE
#define Z SIM_OP_WRITE_ZEROES
#define TR SIM_OP_TRUNCATE
#define RW (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE)

static struct probe *file;
static struct probe top;

static void no_perms(void *opaque)
{
    SIM_ASSERT_EQ(blk_set_perm(file->blk, 0, BLK_PERM_ALL, NULL), 0);
}

static void add_top(void *opaque)
{
    top.bs = add_node(host, opaque);
    top.blk = blk_new(host, RW, BLK_PERM_ALL);
    SIM_ASSERT_EQ(blk_insert_bs(top.blk, top.bs, NULL), 0);
}

/* A filter over a file of `length` bytes; prealloc-size 128k, prealloc-align 64k. */
static void make_filter(int64_t length, const BlockDriver *drv)
{
    file = probe_new((struct probe_spec){
        .name = "f", .drv = drv, .length = length, .fill = 0xff, .zero_flags = BDRV_REQ_NO_FALLBACK});
    file->limits.request_alignment = 0;
    probe_main(no_perms, NULL);
    probe_main(add_top, TEXT("{'driver':'preallocate','node-name':'p','file':'f','prealloc-size':131072,"
                             "'prealloc-align':65536}"));
}

static void del_top(void *opaque)
{
    blk_unref(top.blk);
    SIM_ASSERT(qmp_blockdev_del_node(host, "p", NULL));
}

static void free_filter(void)
{
    probe_main(del_top, NULL);
    probe_free(file);
}

static void set_perm(void *opaque)
{
    SIM_ASSERT_EQ(blk_set_perm(top.blk, *(const uint64_t *)opaque, BLK_PERM_ALL, NULL), 0);
}

static void user_wants(uint64_t perm)
{
    probe_main(set_perm, &perm);
}

static void assert_edge(uint64_t perm, uint64_t unshared)
{
    uint64_t has, shares;
    bdrv_child_perms(top.bs->file, &has, &shares);
    assert_int_equal(has, perm);
    assert_int_equal(BLK_PERM_ALL & ~shares, unshared);
}

#define BOTH (BLK_PERM_WRITE | BLK_PERM_RESIZE)

/* --- writes ------------------------------------------------------------------------------------------------- */

/* fact: block 2.15/preallocate-write */
static void test_write(void **state)
{
    make_filter(MiB, NULL);
    assert_int_equal(do_req(&top, W, MiB - 512, 512, 0x22, 0), 0); /* inside: nothing to do */
    assert_int_equal(file->length, MiB);
    assert_int_equal(do_req(&top, W, MiB, 1000, 0x22, 0), 0);
    assert_call(file, 1, Z, MiB, 192 * KiB); /* align_up(1M + 1000 + 128k, 64k) */
    assert_int_equal(file->log[1].flags & BDRV_REQ_NO_FALLBACK, BDRV_REQ_NO_FALLBACK);
    assert_call(file, 2, W, MiB, 1000);
    assert_int_equal(file->length, MiB + 192 * KiB);
    assert_content(file, MiB, 1000, 0x22);
    assert_content(file, MiB + 1000, 191 * KiB, 0);
    assert_int_equal(do_req(&top, W, MiB + 64 * KiB, 128 * KiB, 0x33, 0), 0); /* up to the end of it: no more */
    assert_int_equal(probe_calls(file, Z), 1);
    assert_int_equal(do_req(&top, W, MiB + 192 * KiB, 512, 0x33, 0), 0);
    assert_int_equal(probe_calls(file, Z), 2);
    assert_int_equal(file->length, MiB + 384 * KiB);
    free_filter();
}

/* fact: block 2.15/preallocate-write */
static void test_failure_ignored(void **state)
{
    make_filter(MiB, NULL);
    probe_fail(file, Z, -1, -ENOSPC, 1);
    assert_int_equal(do_req(&top, W, MiB, 512, 0x22, 0), 0);
    assert_int_equal(file->length, MiB + 512);
    assert_int_equal(top.bs->total_bytes, MiB + 512);
    assert_int_equal(do_req(&top, W, MiB + 512, 512, 0x22, 0), 0); /* and the next tries again */
    assert_int_equal(file->length, MiB + 192 * KiB);
    free_filter();
}

/* Its zero write serialises and does not wait: with another write in the way there is none.
 * fact: block 2.15/preallocate-write */
static void test_no_wait(void **state)
{
    make_filter(MiB, NULL);
    struct req slow = {.p = &top, .op = W, .offset = MiB + 256 * KiB, .bytes = 512, .fill = 2};
    struct req next = {.p = &top, .op = W, .offset = MiB + 512 * KiB, .bytes = 512, .fill = 3};
    probe_fail(file, Z, -1, -ENOTSUP, 1); /* the first writes without */
    probe_hold(file, W, MiB + 256 * KiB);
    spawn(&slow);
    settle();
    assert_false(slow.done);
    spawn(&next);
    settle();
    assert_true(next.done);
    assert_int_equal(next.ret, 0);
    assert_int_equal(probe_calls(file, Z), 1); /* from 1M on the other is in the way */
    probe_release(file);
    assert_int_equal(slow.ret, 0);
    assert_content(file, MiB + 256 * KiB, 512, 2);
    assert_content(file, MiB + 512 * KiB, 512, 3);
    free_filter();
}

/* Zeroes where the zeroes are: nothing is left to write. */
static void test_zero_writes(void **state)
{
    make_filter(MiB, NULL);
    assert_int_equal(do_req(&top, Z, MiB, 64 * KiB, 0, 0), 0);
    assert_int_equal(file->log_count, 1);
    assert_call(file, 0, Z, MiB, 192 * KiB); /* one for both */
    assert_int_equal(do_req(&top, Z, MiB + 64 * KiB, 64 * KiB, 0, 0), 0);
    assert_int_equal(file->log_count, 1);
    assert_int_equal(top.bs->total_bytes, MiB + 128 * KiB);
    assert_int_equal(do_req(&top, W, MiB + 128 * KiB, 512, 0x44, 0), 0);
    assert_int_equal(do_req(&top, Z, MiB + 128 * KiB, 1024, 0, 0), 0); /* not where data was written */
    assert_content(file, MiB + 128 * KiB, 1024, 0);
    free_filter();
}

/* fact: block 2.15/preallocate-length */
static void test_length(void **state)
{
    make_filter(MiB, NULL);
    assert_int_equal(top.bs->total_bytes, MiB);
    assert_int_equal(do_req(&top, W, MiB + 4096, 512, 0x22, 0), 0);
    assert_int_equal(file->length, MiB + 192 * KiB);
    assert_int_equal(top.bs->total_bytes, MiB + 4096 + 512);
    int64_t length = -1;
    assert_int_equal(bdrv_getlength_cached(top.bs), MiB + 4608);
    uint8_t seen[4096];
    struct req gap = {.p = &top, .op = R, .offset = MiB, .bytes = 4096, .seen = seen};
    spawn(&gap);
    settle();
    assert_int_equal(gap.ret, 0);
    for (length = 0; length < 4096; length++) {
        assert_int_equal(seen[length], 0); /* the gap reads zero */
    }
    free_filter();
}

/* --- what is left ----------------------------------------------------------------------------------------------
 */

/* fact: block 2.15/preallocate-truncate, 1.11/preallocate */
static void test_writer_goes(void **state)
{
    make_filter(MiB, NULL);
    assert_edge(RW, BOTH);
    assert_int_equal(do_req(&top, W, MiB, 512, 0x22, 0), 0);
    probe_hold(file, TR, MiB + 512);
    user_wants(BLK_PERM_CONSISTENT_READ);
    assert_edge(RW, BOTH); /* until the surplus is gone */
    probe_release(file);
    assert_int_equal(file->length, MiB + 512);
    assert_edge(BLK_PERM_CONSISTENT_READ, 0);
    user_wants(RW);
    assert_edge(RW, BOTH);
    assert_int_equal(do_req(&top, W, MiB + 512, 512, 0x22, 0), 0);
    assert_int_equal(file->length, MiB + 192 * KiB);
    free_filter();
}

/* Who may write but not resize changes nothing of the file's length, and holds nothing exclusively.
 * fact: block 1.11/preallocate */
static void test_writer_without_resize(void **state)
{
    make_filter(MiB, NULL);
    user_wants(BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    assert_edge(BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, 0);
    assert_int_equal(do_req(&top, W, 0, 4096, 0x22, 0), 0);
    assert_int_equal(probe_calls(file, Z) + probe_calls(file, TR), 0);
    free_filter();
}

/* A write that comes back in time waits for the cut, and is not cut off. */
static void test_write_during_cut(void **state)
{
    make_filter(MiB, NULL);
    assert_int_equal(do_req(&top, W, MiB, 512, 0x22, 0), 0);
    probe_hold(file, TR, MiB + 512);
    user_wants(BLK_PERM_CONSISTENT_READ);
    user_wants(RW);
    struct req write = {.p = &top, .op = W, .offset = MiB + 512, .bytes = 512, .fill = 0x33};
    spawn(&write);
    settle();
    assert_false(write.done);
    probe_release(file);
    assert_true(write.done);
    assert_int_equal(write.ret, 0);
    assert_content(file, MiB + 512, 512, 0x33);
    assert_true(file->length >= MiB + 1024);
    assert_edge(RW, BOTH);
    free_filter();
}

/* The cut fails: the file is not as long as its data, so it stays ours; close tries again. */
static void test_cut_fails(void **state)
{
    make_filter(MiB, NULL);
    assert_int_equal(do_req(&top, W, MiB, 512, 0x22, 0), 0);
    probe_fail(file, TR, -1, -EIO, 1);
    user_wants(BLK_PERM_CONSISTENT_READ);
    assert_int_equal(file->length, MiB + 192 * KiB);
    assert_edge(RW, BOTH);
    probe_main(del_top, NULL);
    assert_int_equal(file->length, MiB + 512);
    probe_free(file);
}

/* fact: block 2.15/preallocate-truncate */
static void test_close(void **state)
{
    make_filter(MiB, NULL);
    assert_int_equal(do_req(&top, W, MiB, 700, 0x22, 0), 0);
    probe_main(del_top, NULL); /* user and node in one turn */
    assert_int_equal(file->length, MiB + 700);
    assert_content(file, MiB, 700, 0x22);
    probe_free(file);
}

static void leave_and_drain(void *opaque)
{
    uint64_t perm = BLK_PERM_CONSISTENT_READ;
    set_perm(&perm);
    bdrv_drained_begin(top.bs);
    SIM_ASSERT_EQ(file->length, MiB + 512); /* a drained node is at rest: the cut is over */
    bdrv_drained_end(top.bs);
}

/* A drain waits for the cut, and one that is under way when the writer goes holds it back. */
static void leave_drained(void *opaque)
{
    uint64_t perm = BLK_PERM_CONSISTENT_READ;
    bdrv_drained_begin(top.bs);
    set_perm(&perm);
    SIM_ASSERT_EQ(bdrv_in_flight(top.bs), 0);
    bdrv_drained_end(top.bs);
}

static void test_drain(void **state)
{
    make_filter(MiB, NULL);
    assert_int_equal(do_req(&top, W, MiB, 512, 0x22, 0), 0);
    probe_main(leave_and_drain, NULL);
    user_wants(RW);
    assert_int_equal(do_req(&top, W, MiB + 512, 512, 0x22, 0), 0);
    assert_int_equal(file->length, MiB + 192 * KiB);
    probe_main(leave_drained, NULL);
    assert_int_equal(file->length, MiB + 1024);
    free_filter();
}

static void reopen_read_only(void *opaque)
{
    uint64_t perm = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE;
    SIM_ASSERT(bdrv_reopen_set_read_only(top.bs, true, NULL) < 0); /* it has a writer */
    SIM_ASSERT_EQ(file->length, MiB + 512);
    perm = BLK_PERM_CONSISTENT_READ;
    set_perm(&perm);
    SIM_ASSERT_EQ(bdrv_reopen_set_read_only(top.bs, true, NULL), 0);
}

/* fact: block 2.15/preallocate-truncate */
static void test_reopen(void **state)
{
    make_filter(MiB, NULL);
    assert_int_equal(do_req(&top, W, MiB, 512, 0x22, 0), 0);
    probe_main(reopen_read_only, NULL);
    assert_int_equal(file->length, MiB + 512);
    assert_edge(BLK_PERM_CONSISTENT_READ, 0);
    free_filter();
}

/* --- resize ------------------------------------------------------------------------------------------------------
 */

struct resize {
    int64_t length;
    enum bdrv_prealloc prealloc;
    int ret;
};

static void resize_entry(void *opaque)
{
    struct resize *r = opaque;
    r->ret = bdrv_co_truncate(blk_root(top.blk), r->length, true, r->prealloc, 0, NULL);
}

static int resize(int64_t length, enum bdrv_prealloc prealloc)
{
    struct resize r = {length, prealloc, -EINPROGRESS};
    coroutine_start(coroutine_create(world, host, "resize", resize_entry, &r));
    settle();
    return r.ret;
}

static void test_truncate(void **state)
{
    make_filter(MiB, NULL);
    assert_int_equal(do_req(&top, W, MiB, 512, 0x22, 0), 0);
    assert_int_equal(resize(MiB + 64 * KiB, PREALLOC_FALLOC), 0); /* ours becomes the user's */
    assert_int_equal(probe_calls(file, TR), 0);
    assert_int_equal(top.bs->total_bytes, MiB + 64 * KiB);
    assert_int_equal(resize(MiB + 128 * KiB, PREALLOC_OFF), 0); /* in the way of "allocate nothing" */
    assert_int_equal(probe_calls(file, TR), 2);
    assert_int_equal(file->length, MiB + 128 * KiB);
    assert_int_equal(do_req(&top, W, MiB + 128 * KiB, 512, 0x22, 0), 0);
    assert_int_equal(resize(64 * KiB, PREALLOC_OFF), 0);
    assert_int_equal(file->length, 64 * KiB);
    assert_int_equal(top.bs->total_bytes, 64 * KiB);
    probe_fail(file, TR, -1, -EIO, 1);
    assert_int_equal(resize(2 * MiB, PREALLOC_OFF), -EIO);
    assert_int_equal(top.bs->total_bytes, 64 * KiB);
    free_filter();
}

/* --- options ------------------------------------------------------------------------------------------------ */

static void expect_refused(const char *options, const char *message)
{
    struct refusal refusal = {host, options, NULL};
    probe_main(try_add_node, &refusal);
    assert_non_null(refusal.err);
    assert_non_null(strstr(error_get_pretty(refusal.err), message));
    error_free(refusal.err);
}

static void test_options(void **state)
{
    struct disk_config config;
    disk_config_default(&config);
    config.align_bytes = 4096;
    assert_non_null(disk_new(world, "d", &config, NULL));
    expect_refused(
        "{'driver':'preallocate','node-name':'p','file':{'driver':'disk','disk':'d'},'prealloc-align':0}",
        "not a multiple of 512");
    expect_refused("{'driver':'preallocate','node-name':'p','file':{'driver':'disk','disk':'d'},"
                   "'prealloc-align':1000}",
                   "not a multiple of 512");
    expect_refused("{'driver':'preallocate','node-name':'p','file':{'driver':'disk','disk':'d'},"
                   "'prealloc-align':2048}",
                   "not aligned to underlying node request alignment (4096)");
}

/* 1 MiB and 128 MiB unless told. */
static void test_defaults(void **state)
{
    struct disk_config config;
    disk_config_default(&config);
    struct disk *disk = disk_new(world, "d", &config, NULL);
    probe_main(add_top, TEXT("{'driver':'preallocate','node-name':'p','file':{'driver':'disk','disk':'d'}}"));
    assert_int_equal(do_req(&top, Z, 0, 512, 0, 0), 0);
    assert_int_equal(disk_length(disk), 129 * MiB);
    assert_int_equal(disk_allocated_bytes(disk), 129 * MiB);
    assert_int_equal(top.bs->total_bytes, 512);
    probe_main(del_top, NULL);
    assert_int_equal(disk_length(disk), 512);
    assert_true(disk_allocated_bytes(disk) <= 4096);
}

static int teardown_media(void **state)
{
    probe_main(drop_graph, NULL); /* pages stay in the medium */
    sim_delete(world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/preallocate/write", test_write),
        T_NODE("/preallocate/write/failure-ignored", test_failure_ignored),
        T_NODE("/preallocate/write/no-wait", test_no_wait),
        T_NODE("/preallocate/write/zeroes", test_zero_writes),
        T_NODE("/preallocate/length", test_length),
        T_NODE("/preallocate/surplus/writer-goes", test_writer_goes),
        T_NODE("/preallocate/surplus/writer-without-resize", test_writer_without_resize),
        T_NODE("/preallocate/surplus/write-during-cut", test_write_during_cut),
        T_NODE("/preallocate/surplus/cut-fails", test_cut_fails),
        T_NODE("/preallocate/surplus/close", test_close),
        T_NODE("/preallocate/surplus/drain", test_drain),
        T_NODE("/preallocate/surplus/reopen", test_reopen),
        T_NODE("/preallocate/truncate", test_truncate),
        T_NODE("/preallocate/options", test_options),
        T_SETUP("/preallocate/options/defaults", test_defaults, probe_setup, teardown_media),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
