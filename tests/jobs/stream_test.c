/* Protects the stream job over real chains: what is copied, what becomes the backing file, what the header says,
 * and that a guest's writes survive (reference/jobs.md 7). */
#include "tests/jobs/stream_world.h"

/* n0 <- n1 <- n2, 2 MiB each: n0 all 1, n1 has 2 in the second MiB, n2 3 in a few places. */
static void three_layers(void)
{
    add_layer(2 * MiB);
    put(0, 0, 2 * MiB, 1);
    add_layer(2 * MiB);
    put(1, MiB, 768 * KiB, 2);
    add_layer(2 * MiB);
    put(2, 64 * KiB, 64 * KiB, 3);
    put(2, MiB + 512 * KiB, 64 * KiB, 3);
    plug_guest(layers[2]);
}

/* fact: jobs 7/flatten, 7/guest-writes, 1.7/equal-at-end, 1.7/commit-stream */
static void test_flatten(void **state)
{
    three_layers();
    Job *job = start(layers[2]);
    guest_write(1536, 512, 9); /* part of a cluster that is not there yet */
    guest_write(MiB + 128 * KiB, 96 * KiB, 8);
    job_ref(job);
    wait_trail("S:null");
    expect_trail(DONE);
    assert_int_equal(job->progress_current, 2 * MiB);
    assert_int_equal(job->progress_remaining, 0);
    job_unref(job);
    assert_null(bdrv_cow_bs(layers[2]));
    assert_null(bdrv_backing_filename(layers[2]));
    assert_settled();
    reopen_and_end();
}

/* fact: jobs 7/base-stays, 7/backing-string */
static void test_base_stays(void **state)
{
    three_layers();
    args.base = layers[0];
    start(layers[2]);
    guest_write(MiB + 64 * KiB, 512, 7);
    wait_trail("S:null");
    assert_ptr_equal(bdrv_cow_bs(layers[2]), layers[0]);
    assert_string_equal(bdrv_backing_filename(layers[2]), "i0");
    assert_string_equal(bdrv_header_backing_format(layers[2]), "qcow2");
    assert_settled();
    assert_true(allocated(2) < 2 * MiB); /* what only base has was not copied */
    reopen_and_end();
}

/* bottom names the last layer that goes. */
/* fact: jobs 7/bottom */
static void test_bottom(void **state)
{
    three_layers();
    args.bottom = layers[1];
    args.backing_file = NULL;
    start(layers[2]);
    wait_trail("S:null");
    assert_ptr_equal(bdrv_cow_bs(layers[2]), layers[0]);
    assert_settled();
    reopen_and_end();
}

/* A node in the middle of a chain, read-only before and after. */
/* fact: jobs 7/any-node */
static void test_intermediate(void **state)
{
    three_layers();
    assert_ptr_equal(bdrv_cow_bs(layers[2]), layers[1]);
    int64_t top_bytes = allocated(2);
    start(layers[1]);
    wait_trail("S:null");
    assert_null(bdrv_cow_bs(layers[1]));
    assert_ptr_equal(bdrv_cow_bs(layers[2]), layers[1]);
    assert_int_equal(allocated(2), top_bytes);
    assert_settled();
    reopen_and_end();
}

static void set_read_only_entry(void *opaque)
{
    assert_int_equal(bdrv_reopen_set_read_only(opaque, true, NULL), 0);
}

/* fact: jobs 7/read-only-again */
static void test_read_only_top(void **state)
{
    three_layers();
    on_main(set_read_only_entry, layers[1]);
    start(layers[1]);
    assert_false(bdrv_is_read_only(layers[1]));
    wait_trail("S:null");
    assert_true(bdrv_is_read_only(layers[1]));
    assert_null(bdrv_cow_bs(layers[1]));
    assert_settled();
    reopen_and_end();
}

/* The base is directly below: no copy, 0 of 0, but the header is written. */
/* fact: jobs 7/nothing, 7/backing-string, 1.7/equal-at-end */
static void test_nothing_to_do(void **state)
{
    three_layers();
    args.base = layers[1];
    args.backing_file = "./i1";
    Job *job = start(layers[2]);
    job_ref(job);
    wait_trail("S:null");
    expect_trail(DONE);
    assert_int_equal(job->progress_current + job->progress_remaining, 0);
    job_unref(job);
    assert_ptr_equal(bdrv_cow_bs(layers[2]), layers[1]);
    assert_string_equal(bdrv_backing_filename(layers[2]), "./i1");
    assert_settled();
}

static void test_zero_length(void **state)
{
    add_layer(0);
    add_layer(0);
    start(layers[1]);
    wait_trail("S:null");
    expect_trail(DONE);
    assert_null(bdrv_cow_bs(layers[1]));
    assert_settled();
    reopen_and_end();
}

/* Behind the end of a shorter backing file there are 0 bytes to ask about: the rest is done in one step. */
/* fact: jobs 7/short-backing, edge/43 */
static void test_short_backing(void **state)
{
    add_layer(128 * KiB);
    put(0, 0, 128 * KiB, 1);
    add_layer(4 * MiB);
    int64_t before = sim_now(world);
    start(layers[1]);
    wait_trail("S:null");
    expect_trail(DONE);
    assert_true(sim_now(world) - before < NS_PER_S);
    assert_null(bdrv_cow_bs(layers[1]));
    assert_settled();
    assert_true(allocated(1) < MiB);
    reopen_and_end();
}

/* A short layer hides what a longer base has behind its end: when the layer goes, the zeroes must be in the top. */
/* fact: jobs 7/short-layer */
static void test_short_layer_hides_base(void **state)
{
    add_layer(2 * MiB);
    put(0, 0, 2 * MiB, 1);
    add_layer(MiB);
    add_layer(2 * MiB);
    put(2, 512 * KiB, 64 * KiB, 3);
    plug_guest(layers[2]);
    args.base = layers[0];
    start(layers[2]);
    wait_trail("S:null");
    assert_ptr_equal(bdrv_cow_bs(layers[2]), layers[0]);
    assert_settled();
    reopen_and_end();
}

/* --- speed and pauses ----------------------------------------------------------------------------------- */

/* fact: jobs 7/rate */
static void test_rate(void **state)
{
    three_layers();
    args.speed = MiB; /* nearly 2 MiB are copied: chunks of up to 512 KiB, each waited for in full */
    int64_t before = sim_now(world);
    Job *job = start(layers[2]);
    for (int i = 0; i < 10; i++) { /* neither a pause nor a drain shortens the wait */
        run_for(50 * NS_PER_MS);
        verb(job, job_user_pause);
        verb(job, job_user_resume);
    }
    guest_write(32 * KiB, 512, 5);
    wait_trail("S:null");
    int64_t took = sim_now(world) - before;
    assert_true(took > 1300 * NS_PER_MS && took < 2500 * NS_PER_MS);
    assert_settled();
    reopen_and_end();
}

static void drain_entry(void *opaque)
{
    bdrv_drain_all_begin(host);
    bdrv_drain_all_end(host);
}

/* Unlimited, but every chunk lets a drain through. */
/* fact: jobs 1.4/yields */
static void test_pause_and_drain(void **state)
{
    three_layers();
    Job *job = start(layers[2]);
    assert_string_equal(verb(job, job_user_pause), "");
    on_main(drain_entry, NULL);
    wait_trail("S:paused");
    int64_t done = job->progress_current;
    guest_write(MiB, 64 * KiB, 6);
    run_for(NS_PER_S);
    assert_int_equal(job->progress_current, done);
    assert_string_equal(verb(job, job_user_resume), "");
    on_main(drain_entry, NULL);
    wait_trail("S:null");
    assert_null(bdrv_cow_bs(layers[2]));
    assert_settled();
    reopen_and_end();
}

/* fact: jobs 7/cancel, 1.6/soft-where */
static void test_cancel(void **state)
{
    three_layers();
    args.speed = MiB;
    Job *job = start(layers[2]);
    run_for(600 * NS_PER_MS);
    assert_true(job->progress_current > 0);
    guest_write(0, 512, 4);
    assert_string_equal(verb(job, verb_cancel_soft), ""); /* becomes a forced one */
    wait_trail("S:null");
    assert_non_null(strstr(trail, "S:aborting CANCELLED S:concluded S:null"));
    assert_ptr_equal(bdrv_cow_bs(layers[2]), layers[1]);
    assert_string_equal(bdrv_backing_filename(layers[2]), "i1");
    assert_settled();
    reopen_and_end();
}

struct copied { /* what is longer than a cluster is data */
    struct disk_interposer interposer;
    int64_t most, bytes;
};

static void count_copied(struct disk_interposer *self, struct disk_req *req)
{
    struct copied *copied = container_of(self, struct copied, interposer);

    if (req->op == SIM_OP_READ && req->bytes > 64 * KiB) {
        copied->most = MAX(copied->most, (int64_t)req->bytes);
        copied->bytes += (int64_t)req->bytes;
    }
}

/* Steps are of 512 KiB at most, of what the layers below hold and the top does not.
 * fact: jobs 7/chunk, 7/skip-allocated */
static void test_steps(void **state)
{
    struct copied base = {.interposer = {.before = count_copied}}, mid = base, top = base;

    add_layer(4 * MiB);
    put(0, 0, 4 * MiB, 1);
    add_layer(4 * MiB);
    put(1, MiB, 2 * MiB, 2);
    add_layer(4 * MiB);
    put(2, 0, 1280 * KiB, 3);
    plug_guest(layers[2]);
    args.base = layers[0];
    start(layers[2]);
    disk_add_interposer(disks[0], &base.interposer);
    disk_add_interposer(disks[1], &mid.interposer);
    disk_add_interposer(disks[2], &top.interposer);
    wait_trail("S:null");
    assert_int_equal(mid.most, 512 * KiB);
    assert_int_equal(mid.bytes, 1792 * KiB);
    assert_int_equal(base.bytes + top.bytes, 0);
    disk_remove_interposer(disks[0], &base.interposer);
    disk_remove_interposer(disks[1], &mid.interposer);
    disk_remove_interposer(disks[2], &top.interposer);
    assert_settled();
    reopen_and_end();
}

/* --- company -------------------------------------------------------------------------------------------- */

static void drop_n1_entry(void *opaque)
{
    assert_int_equal(bdrv_drop_intermediate(layers[1], layers[0], NULL, NULL, NULL), 0);
}

/* The link to base is nobody's: base may go, and what is below the last copied layer at the end is built on. */
/* fact: jobs 7/link-to-base */
static void test_base_goes_meanwhile(void **state)
{
    add_layer(MiB);
    put(0, 0, MiB, 1);
    add_layer(MiB); /* the base: holds nothing of its own, as after a commit */
    add_layer(MiB);
    put(2, 0, 512 * KiB, 2);
    add_layer(MiB);
    put(3, 0, 64 * KiB, 3);
    plug_guest(layers[3]);
    args.base = layers[1];
    Job *job = start(layers[3]);
    assert_string_equal(verb(job, job_user_pause), "");
    on_main(drop_n1_entry, NULL);
    assert_string_equal(verb(job, job_user_resume), "");
    wait_trail("S:null");
    assert_ptr_equal(bdrv_cow_bs(layers[3]), layers[0]);
    assert_string_equal(bdrv_backing_filename(layers[3]), "i0");
    assert_settled();
    reopen_and_end();
}

/* Somebody who takes the base away as soon as it is drained, while whoever drains it waits. */
static bool leaving, gone;

static void leave(void *opaque)
{
    gone = true;
    drop_n1_entry(NULL);
}

static void leave_begin(void *opaque)
{
    if (!leaving) {
        leaving = true;
        host_defer(host, leave, NULL);
    }
}

static bool leave_poll(void *opaque)
{
    return leaving && !gone;
}

/* Draining for the last step changes the chain: the base is looked up after that. */
/* fact: jobs 7/after-drain, edge/42 */
static void test_base_goes_in_drain(void **state)
{
    static const BlockDevOps ops = {.drained_begin = leave_begin, .drained_poll = leave_poll};

    leaving = gone = false;
    add_layer(MiB);
    put(0, 0, MiB, 1);
    add_layer(MiB);
    add_layer(MiB);
    put(2, 0, 512 * KiB, 2);
    add_layer(MiB);
    plug_guest(layers[3]);
    BlockBackend *leaver = user_of(layers[1], 0);
    args.base = layers[1];
    args.speed = MiB;
    start(layers[3]);
    blk_set_dev(leaver, &ops, NULL, "leaver");
    wait_trail("S:null");
    assert_true(gone);
    assert_ptr_equal(bdrv_cow_bs(layers[3]), layers[0]);
    assert_string_equal(bdrv_backing_filename(layers[3]), "i0");
    assert_int_equal(sim_mark_hits(world, MARK_stream_base_moved), 1);
    on_main(unref_entry, leaver);
    assert_settled();
    reopen_and_end();
}

/* Two streams on one chain, one above the other, end in any order. */
/* fact: jobs 7/disjoint */
static void test_disjoint(void **state)
{
    for (unsigned i = 0; i < 5; i++) {
        add_layer(MiB);
        put(i, (int64_t)i * 128 * KiB, 512 * KiB, (int)i + 1);
    }
    plug_guest(layers[4]);
    args.base = layers[2];
    args.speed = 512 * KiB;
    start(layers[4]);
    default_args();
    args.job_id = "k";
    args.base = layers[0];
    start(layers[2]);
    args.job_id = "l";
    assert_string_equal(try_start(layers[3]), "Cannot change frozen 'file' link to 'n2'");
    wait_trail("S:null");
    assert_ptr_equal(bdrv_cow_bs(layers[2]), layers[0]);
    trail[0] = '\0';
    wait_trail("S:null");
    assert_ptr_equal(bdrv_cow_bs(layers[4]), layers[2]);
    assert_string_equal(bdrv_backing_filename(layers[4]), "i2");
    assert_settled();
    reopen_and_end();
}

/* A filter is named: the node below it is filled, and whoever writes past the filter is not overtaken. */
/* fact: jobs 7/filter-device, 7/guest-writes */
static void test_filter_device(void **state)
{
    three_layers();
    BlockDriverState *filter = add("f", "'driver':'blkdebug','node-name':'f','image':'n2'");
    BlockBackend *reader = user_of(filter, BLK_PERM_CONSISTENT_READ);
    start(filter);
    for (int64_t i = 0; i < 32; i++) {
        guest_write(i * 64 * KiB + 512, 512, (int)i + 32);
    }
    wait_trail("S:null");
    assert_null(bdrv_cow_bs(layers[2]));
    assert_ptr_equal(bdrv_filter_bs(filter), layers[2]);
    on_main(unref_entry, reader);
    del_node("f");
    assert_settled();
    reopen_and_end();
}

/* While it runs: a filter above the top, layers that nobody else may write, resize or work on. */
/* fact: jobs 7/held, 7/shared */
static void test_held(void **state)
{
    three_layers();
    args.speed = 1;
    args.filter_node_name = "f";
    Job *job = start(layers[2]);
    BlockDriverState *filter = bdrv_find_node(host, "f");
    uint64_t perm, shared;
    Error *err = NULL;
    assert_ptr_equal(blk_bs(guest), filter);
    assert_ptr_equal(stream_filter(job), filter);
    assert_ptr_equal(stream_bottom(job), layers[0]);
    assert_false(bdrv_is_implicit(filter));
    bdrv_cumulative_perms(layers[1], &perm, &shared);
    assert_int_equal(shared & (BLK_PERM_WRITE | BLK_PERM_RESIZE), 0);
    bdrv_cumulative_perms(layers[2], &perm, &shared);
    assert_int_equal(shared & BLK_PERM_RESIZE, 0);
    assert_true(bdrv_child_frozen(bdrv_cow_child(layers[2])));
    assert_true(bdrv_op_is_blocked(layers[1], BLOCK_OP_STREAM, &err));
    assert_string_equal(error_get_pretty(err), "Node 'n1' is busy: block device is in use by block job: stream");
    error_free(err);
    assert_string_equal(verb(job, verb_cancel_force), "");
    wait_trail("S:null");
    assert_ptr_equal(blk_bs(guest), layers[2]);
    assert_settled();
}

/* A refused start leaves nothing: the graph, the order of parents, the right to write. */
/* fact: jobs 7/not-backing, 3/negative, 1.1/default-id */
static void test_refused(void **state)
{
    three_layers();
    on_main(set_read_only_entry, layers[1]);
    args.job_id = "1bad";
    assert_string_equal(try_start(layers[1]), "Invalid job ID '1bad'");
    assert_true(bdrv_is_read_only(layers[1]));
    args.job_id = "j";
    args.speed = -1;
    assert_string_equal(try_start(layers[2]), "Parameter 'speed' expects a non-negative value");
    args.speed = 0;
    args.filter_node_name = "n0";
    assert_string_equal(try_start(layers[2]), "Duplicate nodes with node-name='n0'");
    args.filter_node_name = NULL;
    args.base = layers[2];
    assert_string_equal(try_start(layers[2]), "Node 'n2' is not a backing image of 'n2'");
    assert_settled();
    args.base = NULL;
    args.job_id = NULL; /* the device's */
    trail[0] = '\0';
    start(layers[2]);
    wait_trail("S:null");
    assert_settled();
}

#define STREAM_TEST(name, fn) \
    { \
        name, fn, stream_setup, world_teardown, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        STREAM_TEST("/stream/flatten", test_flatten),
        STREAM_TEST("/stream/base-stays", test_base_stays),
        STREAM_TEST("/stream/bottom", test_bottom),
        STREAM_TEST("/stream/intermediate", test_intermediate),
        STREAM_TEST("/stream/read-only-top", test_read_only_top),
        STREAM_TEST("/stream/nothing-to-do", test_nothing_to_do),
        STREAM_TEST("/stream/zero-length", test_zero_length),
        STREAM_TEST("/stream/short-backing", test_short_backing),
        STREAM_TEST("/stream/short-layer-hides-base", test_short_layer_hides_base),
        STREAM_TEST("/stream/steps", test_steps),
        STREAM_TEST("/stream/rate", test_rate),
        STREAM_TEST("/stream/pause-and-drain", test_pause_and_drain),
        STREAM_TEST("/stream/cancel", test_cancel),
        STREAM_TEST("/stream/base-goes-meanwhile", test_base_goes_meanwhile),
        STREAM_TEST("/stream/base-goes-in-drain", test_base_goes_in_drain),
        STREAM_TEST("/stream/disjoint", test_disjoint),
        STREAM_TEST("/stream/filter-device", test_filter_device),
        STREAM_TEST("/stream/held", test_held),
        STREAM_TEST("/stream/refused", test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
