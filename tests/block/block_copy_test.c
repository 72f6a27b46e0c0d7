/* Protects block copy (jobs.md 5.5): bits of tasks, who waits for whom, who fails by what, the size of a cluster,
 * zeroes, failing status, clipping, discarding the source. Sizes of tasks and speed are in block_copy_chunk_test.c.
 */
#include "tests/block/cbw_lib.h"

/* --- clusters ----------------------------------------------------------------------------------------------------
 */

struct size_query {
    int64_t min;
    int64_t size;
    bool refused;
    const char *text; /* must be in it */
};

static void query_size(void *opaque)
{
    struct size_query *q = opaque;
    Error *err = NULL;
    q->size = block_copy_calculate_cluster_size(t->bs, q->min, &err);
    q->refused = err != NULL;
    SIM_ASSERT(!err == !q->text && (!err || strstr(error_get_pretty(err), q->text)));
    error_free(err);
}

static int64_t cluster_for(int64_t min, const char *text)
{
    struct size_query q = {.min = min, .text = text};
    probe_main(query_size, &q);
    return q.size;
}

/* fact: jobs 5.5/cluster */
static void test_cluster_size(void **state)
{
    target_cluster = 256 * KiB;
    make_disks();
    assert_int_equal(cluster_for(0, NULL), 256 * KiB);
    assert_int_equal(cluster_for(512 * KiB, NULL), 512 * KiB);
    ((struct probe *)t->bs->opaque)->cluster_size = 4096;
    assert_int_equal(cluster_for(0, NULL), 64 * KiB);
    assert_int_equal(cluster_for(4096, NULL), 64 * KiB);
    assert_int_equal(cluster_for(3 * CL, "power of 2"), -EINVAL);
    assert_int_equal(cluster_for(4 * GiB, "too large"), -EINVAL);
    free_all();
}

static int info_ret;

static int failing_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    return info_ret;
}

static unsigned guesses;

static void on_guess(void *opaque, const struct sim_record *r)
{
    guesses++;
}

/* fact: jobs 5.5/cluster-unknown */
static void test_cluster_unknown(void **state)
{
    static BlockDriver infoless, infoless_format;
    infoless = probe_driver;
    infoless.bdrv_co_get_info = failing_info;
    infoless_format = infoless;
    infoless_format.is_protocol = false;
    infoless_format.supports_backing = true;
    guesses = 0;
    sim_subscribe(world, EV_block_copy_guess, on_guess, NULL);
    s = make_disk("s", 0xaa, 0);
    t = probe_new((struct probe_spec){.name = "t", .drv = &infoless, .length = MiB});
    info_ret = -ENOTSUP;
    assert_int_equal(cluster_for(0, NULL), 64 * KiB);
    assert_int_equal(guesses, 1);
    info_ret = -EIO;
    assert_int_equal(cluster_for(0, "no backing file"), -EIO);
    probe_free(t);
    t = probe_new((struct probe_spec){.name = "t", .drv = &infoless_format, .length = MiB, .backing = s});
    assert_int_equal(cluster_for(0, NULL), 64 * KiB); /* the target fills up what is left of its clusters */
    assert_int_equal(cluster_for(128 * KiB, NULL), 128 * KiB);
    assert_int_equal(guesses, 1);
    probe_free(t);
    probe_free(s);
}

/* fact: jobs 5.5/clipped, 1.7/backup */
static void test_clipped(void **state)
{
    disk_bytes = 2 * CL + 1536;
    make_engine((struct block_copy_args){0});
    assert_int_equal(block_copy_remaining(copy), 3 * CL);
    assert_int_equal(run_background(1), 0);
    assert_call(t, 0, W, 0, disk_bytes);
    assert_int_equal(t->bs->total_bytes, disk_bytes); /* not longer */
    assert_int_equal(block_copy_remaining(copy), 0);
    free_engine();
}

/* --- bits --------------------------------------------------------------------------------------------------------
 */

static int64_t told;
static unsigned tellings;

static void on_progress(void *opaque, int64_t bytes)
{
    told += bytes;
    tellings++;
}

/* fact: jobs 5.5/bits */
static void test_bits_of_a_task(void **state)
{
    make_engine((struct block_copy_args){0});
    told = tellings = 0;
    block_copy_set_progress(copy, on_progress, NULL);
    probe_hold(t, W, -2);
    struct background b = {.max_chunk = 2 * CL};
    start_background(&b);
    settle();
    assert_false(is_dirty(0) || is_dirty(CL));
    assert_true(is_dirty(2 * CL));
    assert_true(block_copy_area_in_flight(copy, CL, 512));
    assert_false(block_copy_area_in_flight(copy, 2 * CL, 512));
    assert_int_equal(block_copy_remaining(copy), MiB); /* what is in flight is still to do */
    probe_fail(t, W, -1, -EIO, 1);
    probe_release(t);
    assert_int_equal(end_background(&b), -EIO);
    assert_true(is_dirty(0) && is_dirty(CL));
    assert_int_equal(block_copy_tasks(copy), 0);
    assert_int_equal(told, 0); /* failures add nothing */
    assert_int_equal(run_background(1), 0);
    assert_int_equal(told, MiB);
    assert_int_equal(block_copy_remaining(copy), 0);
    free_engine();
}

/* fact: jobs 5.5/bits */
static void test_shrink_to_extent(void **state)
{
    make_engine((struct block_copy_args){0});
    holes = 0x2; /* the second cluster */
    probe_hold(t, W, -2);
    struct background b = {0};
    start_background(&b);
    settle();
    assert_false(is_dirty(0));
    assert_true(is_dirty(CL) && is_dirty(2 * CL)); /* given back */
    probe_release(t);
    assert_int_equal(end_background(&b), 0);
    assert_call(t, 0, W, 0, CL);
    assert_call(t, 1, Z, CL, CL);
    assert_call(t, 2, W, 2 * CL, MiB - 2 * CL);
    free_engine();
}

/* fact: jobs 5.5/zeroes */
static void test_zeroes_without_unmap(void **state)
{
    make_engine((struct block_copy_args){0});
    holes = ~UINT64_C(0);
    assert_int_equal(run_background(1), 0);
    assert_int_equal(t->log_count, 1);
    assert_call(t, 0, Z, 0, MiB);
    assert_int_equal(t->log[0].flags & BDRV_REQ_MAY_UNMAP, 0);
    assert_content(t, 0, MiB, 0);
    assert_int_equal(probe_calls(s, R), 0);
    free_engine();
}

/* fact: jobs 5.5/status-error */
static void test_status_error(void **state)
{
    make_engine((struct block_copy_args){0});
    probe_fail(s, SIM_OP_BLOCK_STATUS, -1, -EIO, 1);
    assert_int_equal(run_background(1), 0);
    assert_call(t, 0, W, 0, CL);
    assert_call(t, 1, W, CL, MiB - CL);
    assert_content(t, 0, MiB, 0xaa);
    free_engine();
}

/* An extent of less than a cluster says nothing of the cluster. fact: jobs 5.5/status-error */
static void test_status_too_short(void **state)
{
    make_engine((struct block_copy_args){0});
    holes = 0x1;
    s->status_run = 4096;
    assert_int_equal(do_req(&top, W, 0, 512, 0x11, 0), 0);
    assert_call(t, 0, W, 0, CL);
    assert_content(t, 0, CL, 0xaa);
    free_engine();
}

/* --- callers beside each other
 * ------------------------------------------------------------------------------------- */

/* A guest waits for the task of another, and tries itself what that failed to copy. Each fails by its own error
 * only. fact: jobs 5.5/overlap, 5.5/own-error, edge/46 */
static void test_retry_of_others(void **state)
{
    make_engine((struct block_copy_args){0});
    probe_hold(t, W, 0);
    struct background b = {.max_chunk = CL};
    start_background(&b);
    settle();
    struct req write = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    spawn(&write);
    settle();
    assert_false(write.done);
    probe_fail(t, W, 0, -EIO, 1);
    probe_release(t);
    assert_true(write.done);
    assert_int_equal(write.ret, 0);
    assert_int_equal(end_background(&b), -EIO);
    assert_content(t, 0, CL, 0xaa);
    assert_content(s, 0, 512, 0x11);
    free_engine();
}

/* fact: jobs 5.5/overlap, 5.5/never-again */
static void test_background_waits_for_guest(void **state)
{
    make_engine((struct block_copy_args){0});
    probe_hold(t, W, 2 * CL);
    struct req write = {.p = &top, .op = W, .offset = 2 * CL, .bytes = 512, .fill = 0x11};
    spawn(&write);
    settle();
    struct background b = {0};
    start_background(&b);
    settle();
    assert_false(b.ended); /* all but that cluster is copied */
    assert_int_equal(block_copy_remaining(copy), CL);
    probe_release(t);
    assert_true(write.done);
    assert_int_equal(end_background(&b), 0);
    assert_int_equal(probe_calls(t, W), 3);
    assert_content(t, 0, MiB, 0xaa);
    free_engine();
}

/* The side of the first error is told. fact: jobs 5.5/own-error */
static void test_error_side(void **state)
{
    make_engine((struct block_copy_args){0});
    bool is_read = false;
    probe_fail(s, R, -1, -EIO, 1);
    struct background b = {0};
    start_background(&b);
    settle();
    assert_int_equal(block_copy_call_status(b.call, &is_read), -EIO);
    assert_true(is_read);
    block_copy_call_free(b.call);
    probe_fail(t, W, -1, -ENOSPC, 1);
    start_background(&b);
    settle();
    assert_int_equal(block_copy_call_status(b.call, &is_read), -ENOSPC);
    assert_false(is_read);
    block_copy_call_free(b.call);
    free_engine();
}

static void cancel_call(void *opaque)
{
    block_copy_call_cancel(opaque);
}

static void test_cancel(void **state)
{
    make_engine((struct block_copy_args){0});
    probe_hold(t, W, -2);
    struct background b = {.workers = 2, .max_chunk = CL};
    start_background(&b);
    settle();
    assert_int_equal(block_copy_tasks(copy), 2);
    probe_main(cancel_call, b.call);
    assert_false(b.ended); /* its tasks end by themselves */
    assert_false(block_copy_call_finished(b.call));
    probe_release(t);
    assert_true(b.ended && block_copy_call_cancelled(b.call));
    assert_int_equal(end_background(&b), 0);
    assert_int_equal(probe_calls(t, W), 2);
    assert_int_equal(block_copy_remaining(copy), MiB - 2 * CL);
    free_engine();
}

/* --- what needs no copy
 * ------------------------------------------------------------------------------------------- */

static int reset_ret;
static int64_t reset_count;

static void reset_unallocated(void *opaque)
{
    reset_ret = block_copy_reset_unallocated(copy, *(int64_t *)opaque, &reset_count);
}

static int64_t reset_at(int64_t offset)
{
    coroutine_start(coroutine_create(world, host, "scan", reset_unallocated, &offset));
    settle();
    assert_int_equal(reset_ret, 0);
    return reset_count;
}

/* fact: jobs 5.3/top */
static void test_reset_unallocated(void **state)
{
    disk_bytes = 3 * CL + 512; /* the tail is a cluster of its own */
    make_engine((struct block_copy_args){0});
    absent = 0x9;
    assert_int_equal(reset_at(0), CL);
    assert_int_equal(reset_at(CL), 2 * CL);
    assert_int_equal(reset_at(3 * CL), 512);
    assert_false(is_dirty(0) || is_dirty(3 * CL));
    assert_true(is_dirty(CL) && is_dirty(2 * CL));
    assert_int_equal(block_copy_remaining(copy), 2 * CL);
    free_engine();
}

/* fact: jobs 5.3/top-write */
static void test_skip_unallocated(void **state)
{
    make_engine((struct block_copy_args){0});
    block_copy_set_skip_unallocated(copy, true);
    absent = 0x1;
    assert_int_equal(do_req(&top, W, 0, 2 * CL, 0x11, 0), 0);
    assert_int_equal(probe_calls(t, W), 1);
    assert_call(t, 0, W, CL, CL);
    assert_false(is_dirty(0)); /* what is there now is new */
    block_copy_set_skip_unallocated(copy, false);
    assert_int_equal(run_background(1), 0);
    assert_content(t, 0, CL, 0xee);
    free_engine();
}

static void reset_some(void *opaque)
{
    block_copy_reset(copy, CL - 1, 2 * CL + 1); /* the second and the third */
}

static void all_dirty(void *opaque)
{
    block_copy_set_all_dirty(copy);
}

static void test_reset_and_checkpoint(void **state)
{
    make_engine((struct block_copy_args){0});
    probe_main(reset_some, NULL);
    assert_true(is_dirty(0) && is_dirty(3 * CL));
    assert_false(is_dirty(CL) || is_dirty(2 * CL));
    assert_int_equal(do_req(&top, W, 0, 4 * CL, 0x11, 0), 0);
    assert_int_equal(probe_calls(t, W), 2);
    probe_main(all_dirty, NULL);
    assert_int_equal(block_copy_remaining(copy), MiB);
    assert_int_equal(do_req(&top, W, 0, 512, 0x22, 0), 0);
    assert_content(t, 0, CL, 0x11); /* saved anew */
    free_engine();
}

/* --- discarding the source
 * ------------------------------------------------------------------------------------------ */

/* While it is in flight: the guest's new data comes after the discard. fact: jobs 5.5/discard-source */
static void test_discard_source(void **state)
{
    make_engine((struct block_copy_args){.discard_source = true});
    probe_hold(s, D, 0);
    struct background b = {.max_chunk = CL};
    start_background(&b);
    settle();
    assert_call(s, s->log_count - 1, D, 0, CL);
    struct req write = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    spawn(&write);
    settle();
    assert_false(write.done);
    assert_int_equal(probe_calls(s, W), 0);
    probe_release(s);
    assert_true(write.done);
    assert_int_equal(end_background(&b), 0);
    assert_int_equal(probe_calls(s, D), 16);
    free_engine();
}

/* What could not be copied stays. fact: jobs 5.5/discard-source */
static void test_discard_only_copied(void **state)
{
    make_engine((struct block_copy_args){.discard_source = true});
    probe_fail(t, W, -1, -EIO, 1);
    assert_int_equal(run_background(1), -EIO);
    assert_int_equal(probe_calls(s, D), 0);
    probe_fail(s, D, -1, -EIO, 1); /* and a failing discard is no failure */
    assert_int_equal(run_background(1), 0);
    assert_int_equal(probe_calls(s, D), 1);
    free_engine();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_CBW("/block-copy/cluster/size", test_cluster_size),
        T_CBW("/block-copy/cluster/unknown", test_cluster_unknown),
        T_CBW("/block-copy/cluster/last-is-clipped", test_clipped),
        T_CBW("/block-copy/task/bits", test_bits_of_a_task),
        T_CBW("/block-copy/task/shrinks-to-extent", test_shrink_to_extent),
        T_CBW("/block-copy/task/zeroes", test_zeroes_without_unmap),
        T_CBW("/block-copy/task/status-error", test_status_error),
        T_CBW("/block-copy/task/status-too-short", test_status_too_short),
        T_CBW("/block-copy/callers/retry-of-others", test_retry_of_others),
        T_CBW("/block-copy/callers/background-waits-for-guest", test_background_waits_for_guest),
        T_CBW("/block-copy/callers/error-side", test_error_side),
        T_CBW("/block-copy/callers/cancel", test_cancel),
        T_CBW("/block-copy/no-copy/reset-unallocated", test_reset_unallocated),
        T_CBW("/block-copy/no-copy/skip-unallocated", test_skip_unallocated),
        T_CBW("/block-copy/no-copy/reset-and-all-dirty", test_reset_and_checkpoint),
        T_CBW("/block-copy/discard-source/in-flight", test_discard_source),
        T_CBW("/block-copy/discard-source/only-copied", test_discard_only_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
