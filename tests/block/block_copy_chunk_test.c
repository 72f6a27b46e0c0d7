/* Protects how block copy goes about it (jobs.md 5.5, 3): sizes of tasks by method, offloading and its failure,
 * memory, workers, and the speed. */
#include <limits.h>

#include "tests/block/cbw_lib.h"

/* --- disks without content: only what is asked counts
 * --------------------------------------------------------------- */

static BlockDriver empty;
static int offload_ret;

static int empty_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    int ret = probe_call(bs, R, offset, bytes, flags);
    if (ret == 0) {
        payload_append_fill(out, 0xaa, bytes);
    }
    return ret;
}

static int empty_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                         uint32_t flags)
{
    return probe_call(bs, W, offset, bytes, flags);
}

static int empty_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    return probe_call(bs, Z, offset, bytes, flags);
}

static int empty_copy_from(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                           int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags)
{
    return bdrv_co_copy_range_to(src, src_offset, dst, dst_offset, bytes, read_flags, write_flags);
}

#define OFFLOAD SIM_OP_TRUNCATE /* how an offloaded copy is written down */

static int empty_copy_to(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                         int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags)
{
    probe_call(bs, OFFLOAD, dst_offset, bytes, write_flags);
    return offload_ret;
}

static struct probe *empty_disk(const char *name, int64_t max_transfer)
{
    empty = probe_driver;
    empty.bdrv_co_preadv = empty_preadv;
    empty.bdrv_co_pwritev = empty_pwritev;
    empty.bdrv_co_pwrite_zeroes = empty_pwrite_zeroes;
    empty.bdrv_co_copy_range_from = empty_copy_from;
    empty.bdrv_co_copy_range_to = empty_copy_to;
    struct probe *p =
        probe_new((struct probe_spec){.name = name,
                                      .drv = &empty,
                                      .length = disk_bytes,
                                      .limits = {.request_alignment = 1, .max_transfer = max_transfer},
                                      .write_flags = BDRV_REQ_WRITE_COMPRESSED});
    probe_main(no_perms, p);
    return p;
}

static void make_empty(int64_t bytes, int64_t max_transfer, struct block_copy_args args)
{
    disk_bytes = bytes;
    offload_ret = 0;
    s = empty_disk("s", 0);
    t = empty_disk("t", max_transfer);
    append_filter((struct cbw_args){.node_name = "f", .copy = args});
    probe_main(rw_perms, s);
}

static void background(int workers, int64_t max_chunk, int expect)
{
    struct background b = {.workers = workers, .max_chunk = max_chunk};
    t->log_count = s->log_count = 0;
    start_background(&b);
    settle();
    assert_int_equal(end_background(&b), expect);
}

/* --- sizes -------------------------------------------------------------------------------------------------------
 */

/* fact: jobs 5.5/chunk */
static void test_buffered(void **state)
{
    make_empty(4 * MiB, 0, (struct block_copy_args){0});
    background(1, 0, 0);
    assert_int_equal(probe_calls(t, W), 4);
    assert_call(t, 0, W, 0, MiB);
    free_engine();
}

/* fact: jobs 5.5/chunk */
static void test_large_cluster(void **state)
{
    make_empty(16 * MiB, 0, (struct block_copy_args){.min_cluster_size = 4 * MiB});
    background(1, 0, 0);
    assert_int_equal(probe_calls(t, W), 4);
    assert_call(t, 0, W, 0, 4 * MiB);
    free_engine();
}

/* More than all the memory: in pieces, or it would wait for ever. */
static void test_enormous_cluster(void **state)
{
    make_empty(512 * MiB, 0, (struct block_copy_args){.min_cluster_size = 256 * MiB});
    background(4, 0, 0);
    assert_int_equal(probe_calls(t, W), 4);
    assert_call(t, 0, W, 0, 128 * MiB);
    free_engine();
}

/* fact: jobs 5.5/chunk */
static void test_max_chunk(void **state)
{
    make_empty(MiB, 0, (struct block_copy_args){0});
    background(1, 200 * KiB, 0); /* whole clusters */
    assert_call(t, 0, W, 0, 192 * KiB);
    assert_int_equal(probe_calls(t, W), 6);
    free_engine();
}

/* fact: jobs 5.5/chunk */
static void test_max_transfer(void **state)
{
    make_empty(MiB, 300 * KiB, (struct block_copy_args){0});
    background(1, 0, 0);
    assert_call(t, 0, W, 0, 256 * KiB);
    free_engine();
    make_empty(MiB, 16 * KiB, (struct block_copy_args){.use_copy_range = true});
    background(1, 0, 0);
    assert_call(s, 0, R, 0, CL); /* the cluster all the same */
    assert_call(t, 0, W, 0, 16 * KiB);
    assert_int_equal(probe_calls(t, OFFLOAD), 0); /* those are not cut */
    free_engine();
}

/* fact: jobs 5.5/chunk */
static void test_compressed(void **state)
{
    make_empty(MiB, 0, (struct block_copy_args){.compress = true, .use_copy_range = true});
    background(1, 0, 0);
    assert_int_equal(probe_calls(t, W), 16);
    assert_call(t, 0, W, 0, CL);
    assert_true(t->log[0].flags & BDRV_REQ_WRITE_COMPRESSED);
    assert_int_equal(probe_calls(t, OFFLOAD), 0);
    free_engine();
}

/* fact: jobs 5.5/chunk */
static void test_offload_grows(void **state)
{
    make_empty(40 * MiB, 0, (struct block_copy_args){.use_copy_range = true});
    background(1, 0, 0);
    assert_call(t, 0, OFFLOAD, 0, MiB);
    assert_call(t, 1, OFFLOAD, MiB, 16 * MiB);
    assert_call(t, 2, OFFLOAD, 17 * MiB, 16 * MiB);
    assert_call(t, 3, OFFLOAD, 33 * MiB, 7 * MiB);
    assert_int_equal(probe_calls(s, R), 0);
    free_engine();
}

static void all_dirty(void *opaque)
{
    block_copy_set_all_dirty(copy);
}

/* fact: jobs 5.5/offload-failure; block 2.12/fall-back */
static void test_offload_fails(void **state)
{
    make_empty(4 * MiB, 0, (struct block_copy_args){.use_copy_range = true});
    offload_ret = -EIO;
    background(1, 0, 0);
    assert_int_equal(probe_calls(t, OFFLOAD), 1);
    assert_int_equal(probe_calls(t, W), 4);
    offload_ret = 0;
    probe_main(all_dirty, NULL);
    background(1, 0, 0); /* nor later */
    assert_int_equal(probe_calls(t, OFFLOAD), 0);
    free_engine();
}

/* After successes, too; the large piece at hand is copied by buffer. fact: jobs 5.5/offload-failure */
static void test_offload_fails_later(void **state)
{
    make_empty(40 * MiB, 0, (struct block_copy_args){.use_copy_range = true});
    background(1, 0, 0);
    probe_main(all_dirty, NULL);
    offload_ret = -ENOTSUP;
    background(1, 0, 0);
    assert_call(t, 1, W, 0, 16 * MiB);
    assert_call(t, 2, W, 16 * MiB, MiB);
    free_engine();
}

/* --- workers and memory ------------------------------------------------------------------------------------------
 */

static unsigned most_tasks;

static void watch_tasks(void *opaque, const struct sim_record *r)
{
    unsigned now = block_copy_tasks(copy);
    most_tasks = MAX(most_tasks, now);
}

static void test_workers(void **state)
{
    make_empty(8 * MiB, 0, (struct block_copy_args){0});
    most_tasks = 0;
    sim_subscribe(world, EV_block_copy_begin, watch_tasks, NULL);
    background(3, CL, 0);
    assert_int_equal(most_tasks, 3);
    assert_int_equal(probe_calls(t, W), 128);
    free_engine();
}

static int64_t copying, most_copying;

static void copy_begins(void *opaque, const struct sim_record *r)
{
    copying += (int64_t)r->field[3];
    most_copying = MAX(most_copying, copying);
}

static void copy_ends(void *opaque, const struct sim_record *r)
{
    copying -= (int64_t)r->field[3];
}

/* Whatever the number of workers, 128 MiB are under way at a time. */
static void test_memory(void **state)
{
    make_empty(200 * MiB, 0, (struct block_copy_args){.min_cluster_size = 2 * MiB});
    copying = most_copying = 0;
    sim_subscribe(world, EV_block_copy_begin, copy_begins, NULL);
    sim_subscribe(world, EV_block_copy_end, copy_ends, NULL);
    background(INT_MAX, 0, 0);
    assert_int_equal(copying, 0);
    assert_int_equal(most_copying, 128 * MiB);
    assert_int_equal(probe_calls(t, W), 100);
    free_engine();
}

/* --- speed -------------------------------------------------------------------------------------------------------
 */

static void set_speed(void *opaque)
{
    block_copy_set_speed(copy, *(uint64_t *)opaque);
}

static void speed(uint64_t bytes)
{
    probe_main(set_speed, &bytes);
}

static void kick(void *opaque)
{
    block_copy_call_kick(opaque);
}

static void cancel_main_call(void *opaque)
{
    block_copy_call_cancel(opaque);
}

static void pass_time(int64_t ns)
{
    sim_run(world, NULL, NULL, sim_now(world) + ns);
}

/* One 64 KiB piece each quarter of a second. fact: jobs 3/mean */
static void test_speed(void **state)
{
    make_empty(MiB, 0, (struct block_copy_args){0});
    speed(256 * KiB);
    struct background b = {.workers = 8, .max_chunk = CL};
    int64_t start = sim_now(world);
    start_background(&b);
    settle();
    assert_int_equal(end_background(&b), 0);
    int64_t took = b.end_ns - start;
    assert_true(took > 3700 * NS_PER_MS && took < 3800 * NS_PER_MS);
    free_engine();
}

/* Zeroes cost what they are long; guests are counted and do not wait. fact: jobs 3/backup-charge, 5.5/guest-write
 */
static void test_charges(void **state)
{
    make_disks();
    append_filter((struct cbw_args){.node_name = "f"});
    probe_main(rw_perms, s);
    holes = ~UINT64_C(0);
    speed(256 * KiB);
    struct background b = {.max_chunk = CL};
    int64_t start = sim_now(world);
    start_background(&b);
    pass_time(100 * NS_PER_MS);
    int64_t before = sim_now(world);
    struct req write = {.p = &top, .op = W, .offset = 8 * CL, .bytes = 4 * CL, .fill = 0x11};
    spawn(&write);
    pass_time(NS_PER_MS);
    assert_true(write.done && before < sim_now(world));
    settle();
    assert_int_equal(end_background(&b), 0);
    assert_true(b.end_ns - start > 3700 * NS_PER_MS); /* as if all had been data of its own */
    free_engine();
}

/* A task that only waits for its turn holds nobody up. */
static void test_sleeping_call_holds_nothing(void **state)
{
    make_empty(MiB, 0, (struct block_copy_args){0});
    speed(1);
    struct background b = {.max_chunk = CL};
    start_background(&b);
    pass_time(NS_PER_S);
    assert_int_equal(block_copy_tasks(copy), 0);
    struct req write = {.p = &top, .op = W, .offset = CL, .bytes = 512, .fill = 0x11};
    spawn(&write);
    pass_time(NS_PER_MS);
    assert_true(write.done);
    probe_main(cancel_main_call, b.call);
    assert_int_equal(end_background(&b), 0);
    free_engine();
}

/* fact: jobs 3/backup-kick, 3/set-speed */
static void test_kick(void **state)
{
    make_empty(MiB, 0, (struct block_copy_args){0});
    speed(1);
    struct background b = {.max_chunk = CL};
    start_background(&b);
    pass_time(NS_PER_S);
    assert_int_equal(probe_calls(t, W), 1);
    host_command(host, kick, b.call); /* nothing has changed: it sleeps on */
    pass_time(NS_PER_S);
    assert_int_equal(probe_calls(t, W), 1);
    uint64_t unlimited = 0;
    host_command(host, set_speed, &unlimited);
    pass_time(NS_PER_S);
    assert_int_equal(probe_calls(t, W), 1);
    host_command(host, kick, b.call);
    pass_time(NS_PER_S);
    assert_int_equal(end_background(&b), 0);
    free_engine();
}

/* A failed task ends the call at once, whatever is owed. */
static void test_failure_ends_sleep(void **state)
{
    make_empty(MiB, 0, (struct block_copy_args){0});
    speed(1);
    probe_fail(t, W, -1, -EIO, 1);
    struct background b = {.workers = 2, .max_chunk = CL};
    start_background(&b);
    pass_time(NS_PER_S);
    assert_int_equal(end_background(&b), -EIO);
    free_engine();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_CBW("/block-copy/chunk/buffered", test_buffered),
        T_CBW("/block-copy/chunk/large-cluster", test_large_cluster),
        T_CBW("/block-copy/chunk/enormous-cluster", test_enormous_cluster),
        T_CBW("/block-copy/chunk/max-chunk", test_max_chunk),
        T_CBW("/block-copy/chunk/max-transfer", test_max_transfer),
        T_CBW("/block-copy/chunk/compressed", test_compressed),
        T_CBW("/block-copy/offload/grows", test_offload_grows),
        T_CBW("/block-copy/offload/fails", test_offload_fails),
        T_CBW("/block-copy/offload/fails-later", test_offload_fails_later),
        T_CBW("/block-copy/workers", test_workers),
        T_CBW("/block-copy/memory", test_memory),
        T_CBW("/block-copy/speed/mean", test_speed),
        T_CBW("/block-copy/speed/charges", test_charges),
        T_CBW("/block-copy/speed/sleeping-holds-nothing", test_sleeping_call_holds_nothing),
        T_CBW("/block-copy/speed/kick", test_kick),
        T_CBW("/block-copy/speed/failure-ends-sleep", test_failure_ends_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
