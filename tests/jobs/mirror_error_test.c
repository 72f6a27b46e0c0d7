/* Protects the mirror against failing media: error policies, retries, what a failed start or job leaves behind
 * (reference/jobs.md 2, 4.2, 4.8). */
#include "tests/jobs/mirror_world.h"

#define TO_READY "S:created S:running S:ready READY"
#define TAIL " S:waiting S:pending COMPLETED S:concluded S:null"
#define FAILED(text) " S:aborting COMPLETED(" text ") S:concluded S:null"

static struct failing rule;

static void setup_failing(enum sim_op op, int64_t offset, int error, int count, bool on_target)
{
    mirror_world(4 * 64 * KiB, 4 * 64 * KiB, 0);
    stamp_source(4 * 64 * KiB);
    args.buf_size = 64 * KiB; /* a chunk an operation */
    rule = (struct failing){.op = op, .offset = offset, .error = error, .count = count};
    fail_requests(&rule, on_target ? dst_disk : src_disk);
}

static void complete_and_compare(Job *job)
{
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_same_disks(4 * 64 * KiB);
    assert_clean(dst);
}

/* --- policies ------------------------------------------------------------------------------------------- */

/* fact: bitmaps 2.6/clear-first; jobs 2/mirror-ignore, 2/which, 1.7/failed-ops, 4.8/policy, seed/b952b55 */
static void test_ignore_target(void **state)
{
    setup_failing(SIM_OP_WRITE, 128 * KiB, -ENOSPC, 1, true);
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    Job *job = start();
    wait_trail("READY");
    assert_string_equal(trail, "S:created S:running ERROR(write,ignore) S:ready READY");
    assert_int_equal(job->progress_current, 4 * 64 * KiB);
    complete_and_compare(job);
}

/* fact: bitmaps 2.6/clear-first; jobs 2/mirror-ignore, 2/which, seed/b952b55 */
static void test_ignore_source(void **state)
{
    setup_failing(SIM_OP_READ, 128 * KiB, -EIO, 1, false);
    args.on_source_error = BLOCKDEV_ON_ERROR_IGNORE;
    Job *job = start();
    wait_trail("READY");
    assert_string_equal(trail, "S:created S:running ERROR(read,ignore) S:ready READY");
    complete_and_compare(job);
}

/* fact: bitmaps 2.6/clear-first */
static void test_report(void **state)
{
    setup_failing(SIM_OP_WRITE, 128 * KiB, -EIO, 1, true);
    start();
    settle();
    assert_string_equal(trail, "S:created S:running ERROR(write,report)" FAILED("Input/output error"));
    assert_clean(src);
}

/* fact: bitmaps 2.6/clear-first; jobs 2/which, 4.8/policy */
static void test_report_source(void **state)
{
    setup_failing(SIM_OP_READ, 0, -EIO, 1, false);
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    start();
    settle();
    assert_string_equal(trail, "S:created S:running ERROR(read,report)" FAILED("Input/output error"));
    assert_clean(src);
}

/* fact: bitmaps 2.6/clear-first; jobs 2/mirror-stop, 1.8/stop, seed/b952b55 */
static void test_stop_and_resume(void **state)
{
    setup_failing(SIM_OP_WRITE, 64 * KiB, -EIO, 1, true);
    args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
    Job *job = start();
    settle();
    assert_string_equal(trail, "S:created S:running ERROR(write,stop) S:paused");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_FAILED);
    assert_true(bdrv_dirty_bitmap_get(mirror_dirty_bitmap(job), 64 * KiB));
    assert_int_equal(mirror_in_flight(job), 0);
    assert_string_equal(verb(job, job_user_resume), "");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_OK);
    wait_trail("READY");
    complete_and_compare(job);
}

/* J04: four failures, one pause, one resume. */
/* fact: jobs 2/stop-once */
static void test_stop_burst(void **state)
{
    setup_failing(SIM_OP_WRITE, -1, -EIO, 4, true);
    args.granularity = 16 * KiB;
    args.buf_size = 4 * 16 * KiB;
    args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
    rule.extra_latency_ns = NS_PER_MS;
    Job *job = start();
    settle();
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    assert_int_equal(job->pause_count, 1);
    rule.count = 0;
    assert_string_equal(verb(job, job_user_resume), "");
    wait_trail("READY");
    complete_and_compare(job);
}

/* fact: jobs 2/enospc */
static void test_enospc_relief(void **state)
{
    mirror_world(MiB, MiB, 256 * KiB);
    stamp_source(MiB);
    args.on_target_error = BLOCKDEV_ON_ERROR_ENOSPC;
    Job *job = start();
    settle();
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_NOSPACE);
    disk_set_capacity(dst_disk, 0);
    assert_string_equal(verb(job, job_user_resume), "");
    wait_trail("READY");
    assert_same_disks(MiB);
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_clean(dst);
}

/* enospc reports what is not a lack of space. */
/* fact: jobs 2/enospc */
static void test_enospc_reports_others(void **state)
{
    setup_failing(SIM_OP_WRITE, 64 * KiB, -EIO, 1, true);
    args.on_target_error = BLOCKDEV_ON_ERROR_ENOSPC;
    start();
    settle();
    assert_string_equal(trail, "S:created S:running ERROR(write,report)" FAILED("Input/output error"));
    assert_clean(src);
}

/* fact: jobs 1.6/lifts-pause */
static void test_cancel_while_stopped(void **state)
{
    setup_failing(SIM_OP_WRITE, 64 * KiB, -EIO, 1, true);
    args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
    Job *job = start();
    settle();
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_string_equal(trail, "S:created S:running ERROR(write,stop) S:paused S:running S:aborting CANCELLED "
                               "S:concluded S:null");
    assert_clean(src);
}

/* M15: errors after ready do not bring ready again. */
/* fact: jobs 1.8/ready-once, edge/14 */
static void test_error_after_ready(void **state)
{
    setup_failing(SIM_OP_WRITE, 64 * KiB, -EIO, 0, true);
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    Job *job = start();
    wait_trail("READY");
    rule.count = 1;
    guest_write(64 * KiB, 64 * KiB, 0x33);
    run_for(NS_PER_S);
    assert_string_equal(trail, TO_READY " ERROR(write,ignore)");
    complete_and_compare(job);
}

/* fact: jobs 4.7/flush-before-ready, 2/mirror-flush */
static void test_flush_before_ready(void **state)
{
    setup_failing(SIM_OP_FLUSH, -1, -EIO, 1, true);
    args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
    Job *job = start();
    settle();
    assert_string_equal(trail, "S:created S:running ERROR(write,stop) S:paused");
    assert_string_equal(verb(job, job_user_resume), "");
    wait_trail("READY");
    complete_and_compare(job);
}

/* The final flush fails: the drain is undone, the job goes on and tries again. */
/* fact: jobs 2/mirror-flush, 4.7/undo-drain */
static void test_final_flush(void **state)
{
    setup_failing(SIM_OP_FLUSH, -1, -EIO, 0, true);
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    Job *job = start();
    wait_trail("READY");
    guest_write(0, 4096, 0x12);
    rule.count = 1;
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_string_equal(trail, TO_READY " ERROR(write,ignore)" TAIL);
    assert_int_equal(sim_mark_hits(world, MARK_mirror_final_flush_failed), 1);
    assert_clean(dst);
}

/* --- failures of the set-up ----------------------------------------------------------------------------- */

/* fact: jobs 4.3/length-error, 4.8/lengths, edge/54, seed/373df5b */
static void test_length_error(void **state)
{
    setup_failing(SIM_OP_GETLENGTH, -1, -EIO, 0, true);
    start();
    rule.count = 1;
    settle();
    assert_string_equal(trail, "S:created S:running" FAILED("Input/output error"));
    /* Nothing is in the way of a second one. */
    trail[0] = '\0';
    Job *job = start();
    wait_trail("READY");
    complete_and_compare(job);
}

/* fact: jobs 4.3/info-checked, seed/c3cc95b */
static void test_info_error(void **state)
{
    setup_failing(SIM_OP_GET_INFO, -1, -EIO, 0, true);
    start();
    rule.count = 1;
    settle();
    if (rule.count > 0) {
        skip(); /* this driver asks no medium for it */
    }
    assert_string_equal(trail, "S:created S:running" FAILED("Input/output error"));
    assert_clean(src);
}

/* fact: jobs 4.3/sizes */
static void test_sizes_differ(void **state)
{
    mirror_world(MiB, 2 * MiB, 0);
    start();
    settle();
    assert_string_equal(trail, "S:created S:running" FAILED("Source and target image have different sizes"));
    assert_clean(src);
}

/* A status that cannot be had makes the area data; the scan's failure is the job's. */
/* fact: jobs 4.3/scan-error */
static void test_scan_error(void **state)
{
    setup_failing(SIM_OP_BLOCK_STATUS, -1, -EIO, 1, false);
    start();
    settle();
    assert_string_equal(trail, "S:created S:running" FAILED("Input/output error"));
    assert_clean(src);
}

/* --- refusals ------------------------------------------------------------------------------------------- */

static void refuse(const char *text, const char *events)
{
    trail[0] = '\0';
    on_main(start_entry, NULL);
    if (strstr(start_error, text) == NULL) {
        fail_msg("'%s' is not in '%s'", text, start_error);
    }
    assert_string_equal(trail, events);
    assert_no_job_left();
    assert_ptr_equal(blk_bs(guest), src);
    assert_true(source_is_quiet_again());
    default_args();
}

/* fact: jobs 4.2/granularity-range, 4.2/sync-refused, 4.2/buf-size-negative, 4.2/nothing-left, 3/negative,
 * 1.5/early-failure */
static void test_refusals(void **state)
{
    mirror_world(MiB, MiB, 0);
    args.granularity = 256;
    refuse("Parameter 'granularity' expects a value in range [512B, 64MB]", "");
    args.granularity = 128 * MiB;
    refuse("Parameter 'granularity' expects a value in range [512B, 64MB]", "");
    args.granularity = 3 * 4096;
    refuse("Parameter 'granularity' expects a power of 2", "");
    args.replaces = "nobody";
    refuse("Failed to find node with node-name='nobody'", "");
    args.replaces = "d";
    refuse(
        "Cannot replace 'd' by a node mirrored from 's', because it cannot be guaranteed that doing so would not "
        "lead to an abrupt change of visible data",
        "");
    args.sync = MIRROR_SYNC_INCREMENTAL;
    refuse("Sync mode 'incremental' not supported", "");
    args.buf_size = -1;
    refuse("Invalid parameter 'buf-size'", "");
    args.job_id = "1x";
    refuse("Invalid job ID '1x'", "");
    args.speed = -1;
    refuse("Parameter 'speed' expects a non-negative value", "S:created S:null");
    args.filter_node_name = "s"; /* taken */
    refuse("s", "");
    assert_clean(src);
}

static void test_refuse_self(void **state)
{
    mirror_world(MiB, MiB, 0);
    BlockDriverState *real = dst;
    dst = src;
    refuse("Can't mirror node into itself", "");
    dst = real;
    assert_clean(src);
}

/* fact: jobs 4.2/read-only-target */
static void test_refuse_read_only_target(void **state)
{
    mirror_world(MiB, MiB, 0);
    del_node("d");
    dst = add_raw("d", "dst", true);
    refuse("", "S:created S:null");
    assert_clean(src);
}

/* fact: bitmaps 2.1/length-error; jobs 4.2/bitmap-fails, seed/b8afb52 */
static void test_bitmap_length_unknown(void **state)
{
    setup_failing(SIM_OP_GETLENGTH, -1, -EIO, 1, false);
    refuse("could not get length of device: Input/output error", "");
    rule.count = 0;
    assert_clean(src);
}

/* The return value tells even when nobody asked for the text. */
static void start_without_sink(void *opaque)
{
    args.granularity = 1000;
    start_ret = mirror_start(src, dst, &args, NULL);
    default_args();
}

/* fact: jobs 4.8/no-sink, seed/cc67f4d, seed/0fb6395 */
static void test_no_error_sink(void **state)
{
    mirror_world(MiB, MiB, 0);
    on_main(start_without_sink, NULL);
    assert_int_equal(start_ret, -EINVAL);
    assert_clean(src);
}

/* While a mirror runs, both sides are blocked for others; the ID is taken. */
/* fact: jobs 4.2/blockers */
static void test_second_mirror(void **state)
{
    mirror_world(MiB, MiB, 0);
    args.filter_node_name = "f";
    Job *job = start();
    BlockDriverState *real = src;
    args.filter_node_name = NULL;
    on_main(start_entry, NULL);
    assert_true(start_ret < 0);
    src = mirror_filter(job);
    on_main(start_entry, NULL);
    assert_string_equal(start_error, "Node 'f' is busy: block device is in use by block job: mirror");
    src = real;
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_clean(src);
}

/* --- replaces ------------------------------------------------------------------------------------------- */

/* fact: jobs seed/09158f0 */
static void test_replaces_gone(void **state)
{
    mirror_world(MiB, MiB, 0);
    args.replaces = "s";
    Job *job = start();
    wait_trail("READY");
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_string_equal(trail, TO_READY TAIL);
    assert_clean(dst);
}

static void exclusive_user(void *opaque)
{
    BlockBackend **blk = opaque;

    *blk = blk_new(host, BLK_PERM_CONSISTENT_READ, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    assert_int_equal(blk_insert_bs(*blk, dst, NULL), -EPERM);
    blk_unref(*blk);
    /* What shares write but does not tolerate the guest beside it: the guest shares no write. */
    *blk = blk_new(host, BLK_PERM_WRITE_UNCHANGED, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_CONSISTENT_READ);
    assert_int_equal(blk_insert_bs(*blk, dst, NULL), 0);
}

static void drop_user(void *opaque)
{
    BlockBackend **blk = opaque;

    blk_unref(*blk);
}

/* M16: the switch fails on a permission; the job fails, the source stays, the filter goes, once. */
/* fact: jobs 4.7/switch-refused, edge/39 */
static void test_switch_refused(void **state)
{
    BlockBackend *other = NULL;

    mirror_world(MiB, MiB, 0);
    Job *job = start();
    wait_trail("READY");
    on_main(exclusive_user, &other);
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_string_equal(trail, TO_READY " S:waiting S:pending S:aborting COMPLETED(Operation not permitted) "
                                        "S:concluded S:null");
    assert_int_equal(sim_mark_hits(world, MARK_mirror_switch), 0);
    on_main(drop_user, &other);
    assert_clean(src);
}

/* --- drains --------------------------------------------------------------------------------------------- */

static void drain_begin(void *opaque)
{
    bdrv_drained_begin(opaque);
}

static void drain_end(void *opaque)
{
    bdrv_drained_end(opaque);
}

static void drain_target_mid_copy(BlockDriverState *bs)
{
    Job *job = start();
    run_for(70 * NS_PER_US);
    on_main(drain_begin, bs);
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    assert_int_equal(mirror_in_flight(job), 0);
    assert_int_equal(disk_in_flight(src_disk) + disk_in_flight(dst_disk), 0);
    run_for(NS_PER_S);
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    on_main(drain_end, bs);
    wait_trail("READY");
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_same_disks(4 * MiB);
    assert_clean(dst);
}

/* J10: every node of the job pauses it, the target too. */
/* fact: jobs 1.4/drain-mirror, 1.4/pause-hook, edge/23 */
static void test_drain_target(void **state)
{
    mirror_world(4 * MiB, 4 * MiB, 0);
    stamp_source(4 * MiB);
    args.buf_size = 64 * KiB;
    drain_target_mid_copy(dst);
}

/* fact: jobs 1.4/drain-mirror, 1.4/pause-hook, edge/23 */
static void test_drain_source(void **state)
{
    mirror_world(4 * MiB, 4 * MiB, 0);
    stamp_source(4 * MiB);
    args.buf_size = 64 * KiB;
    drain_target_mid_copy(src);
}

static void complete_and_drain_all(void *opaque)
{
    job_complete(opaque, NULL);
    bdrv_drain_all_begin(host);
}

static void drain_all_end(void *opaque)
{
    bdrv_drain_all_end(host);
}

/* A drain of everything while the job is about to drain for itself: neither waits for the other, and nothing is
 * written inside of the section. */
static void test_drain_all_at_complete(void **state)
{
    mirror_world(MiB, MiB, 0);
    Job *job = start();
    wait_trail("READY");
    on_main(complete_and_drain_all, job);
    assert_int_equal(disk_in_flight(dst_disk), 0);
    on_main(drain_all_end, NULL);
    settle();
    assert_string_equal(trail + strlen(trail) - strlen("COMPLETED S:concluded S:null"),
                        "COMPLETED S:concluded S:null");
    assert_clean(dst);
}

#define MIRROR_TEST(path, fn) T_SETUP(path, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MIRROR_TEST("/mirror/seed/b952b55/ignore-target-retries", test_ignore_target),
        MIRROR_TEST("/mirror/seed/b952b55/ignore-source-retries", test_ignore_source),
        MIRROR_TEST("/mirror/seed/b952b55/report-target", test_report),
        MIRROR_TEST("/mirror/seed/b952b55/report-source", test_report_source),
        MIRROR_TEST("/mirror/seed/b952b55/stop-and-resume", test_stop_and_resume),
        MIRROR_TEST("/mirror/error/stop-burst-one-resume", test_stop_burst),
        MIRROR_TEST("/mirror/error/enospc-capacity-relief", test_enospc_relief),
        MIRROR_TEST("/mirror/error/enospc-reports-others", test_enospc_reports_others),
        MIRROR_TEST("/mirror/error/cancel-while-stopped", test_cancel_while_stopped),
        MIRROR_TEST("/mirror/error/after-ready-once", test_error_after_ready),
        MIRROR_TEST("/mirror/error/flush-before-ready", test_flush_before_ready),
        MIRROR_TEST("/mirror/error/final-flush-undoes-drain", test_final_flush),
        MIRROR_TEST("/mirror/seed/373df5b/length-error-releases", test_length_error),
        MIRROR_TEST("/mirror/seed/c3cc95b/info-error-fails-job", test_info_error),
        MIRROR_TEST("/mirror/error/sizes-differ", test_sizes_differ),
        MIRROR_TEST("/mirror/error/scan", test_scan_error),
        MIRROR_TEST("/mirror/start/refusals", test_refusals),
        MIRROR_TEST("/mirror/start/itself", test_refuse_self),
        MIRROR_TEST("/mirror/start/read-only-target", test_refuse_read_only_target),
        MIRROR_TEST("/mirror/seed/b8afb52/bitmap-length-unknown", test_bitmap_length_unknown),
        MIRROR_TEST("/mirror/seed/cc67f4d/0fb6395/failure-without-error-sink", test_no_error_sink),
        MIRROR_TEST("/mirror/start/busy-nodes", test_second_mirror),
        MIRROR_TEST("/mirror/seed/09158f0/replaces-source", test_replaces_gone),
        MIRROR_TEST("/mirror/finish/switch-refused", test_switch_refused),
        MIRROR_TEST("/mirror/drain/target", test_drain_target),
        MIRROR_TEST("/mirror/drain/source", test_drain_source),
        MIRROR_TEST("/mirror/drain/all-at-complete", test_drain_all_at_complete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
