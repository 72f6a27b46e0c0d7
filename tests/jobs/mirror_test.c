/* Protects the mirror: phases, completion and cancel, what the target holds afterwards, what is released
 * (reference/ jobs.md 4). */
#include "tests/jobs/mirror_world.h"

#define SUCCESS_TO_READY "S:created S:running S:ready READY"
#define SUCCESS_TAIL " S:waiting S:pending COMPLETED S:concluded S:null"
#define CANCEL_TAIL " S:aborting CANCELLED S:concluded S:null"

/* --- phases --------------------------------------------------------------------------------------------- */

/* fact: jobs 4.7/switch, 1.8/ready, 1.7/equal-at-end, edge/38, seed/893f7eb */
static void test_pivot(void **state)
{
    mirror_world(MiB, MiB, 0);
    stamp_source(MiB);
    Job *job = start();
    wait_trail("READY");
    assert_same_disks(MiB);
    assert_int_equal(job->progress_remaining, 0);
    assert_int_equal(job->progress_current, MiB);
    assert_false(mirror_will_switch(job));
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_string_equal(trail, SUCCESS_TO_READY SUCCESS_TAIL);
    assert_int_equal(sim_mark_hits(world, MARK_mirror_switch), 1);
    assert_clean(dst);
}

/* fact: jobs 1.6/soft-ready, 4.7/switch, seed/893f7eb */
static void test_soft_cancel(void **state)
{
    mirror_world(MiB, MiB, 0);
    stamp_source(MiB);
    Job *job = start();
    wait_trail("READY");
    guest_write(128 * KiB, 8 * KiB, 0x55);
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    assert_string_equal(trail, SUCCESS_TO_READY SUCCESS_TAIL);
    assert_same_disks(MiB);
    assert_clean(src);
}

static void test_force_cancel_ready(void **state)
{
    mirror_world(MiB, MiB, 0);
    Job *job = start();
    wait_trail("READY");
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_string_equal(trail, SUCCESS_TO_READY CANCEL_TAIL);
    assert_clean(src);
}

/* A soft cancel before ready is a forced one, with operations in flight. */
/* fact: jobs 1.6/soft-where, 1.6/unready, 4.4/cancel-in-flight, 4.8/await-first, edge/15, seed/bd48bde */
static void test_cancel_unready(void **state)
{
    mirror_world(4 * MiB, 4 * MiB, 0);
    stamp_source(4 * MiB);
    Job *job = start();
    run_for(60 * NS_PER_US);
    assert_true(mirror_in_flight(job) > 0);
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    assert_string_equal(trail, "S:created S:running" CANCEL_TAIL);
    assert_clean(src);
}

/* fact: jobs 1.6/complete-then-soft, 4.7/complete-in-standby, edge/22 */
static void test_complete_then_soft_cancel(void **state)
{
    mirror_world(MiB, MiB, 0);
    Job *job = start();
    wait_trail("READY");
    job_ref(job);
    assert_string_equal(verb(job, job_user_pause), "");
    wait_trail("S:standby");
    assert_string_equal(verb(job, job_complete), "");
    assert_string_equal(verb(job, verb_cancel_soft), "");
    run_for(NS_PER_S);
    assert_int_equal(job->status, JOB_STATUS_STANDBY);
    assert_true(mirror_will_switch(job));
    assert_string_equal(verb(job, job_user_resume), "");
    settle();
    assert_string_equal(trail, "S:created S:running S:ready READY S:standby S:ready" SUCCESS_TAIL);
    job_unref(job);
    assert_clean(dst);
}

/* fact: jobs 4.7/stall, edge/6 */
static void test_manual_finalize(void **state)
{
    struct guest_io io = {.offset = 0, .bytes = 4096, .fill = 0x77};

    mirror_world(MiB, MiB, 0);
    args.auto_finalize = false;
    args.auto_dismiss = false;
    Job *job = start();
    wait_trail("READY");
    assert_string_equal(verb(job, job_complete), "");
    wait_trail("PENDING");
    /* The source stays drained: the guest's write waits, and goes to the target afterwards. */
    guest_submit_io(&io);
    run_for(NS_PER_S);
    assert_false(io.done);
    assert_string_equal(verb(job, job_finalize), "");
    settle();
    assert_true(io.done);
    assert_int_equal(io.ret, 0);
    assert_int_equal(job->status, JOB_STATUS_CONCLUDED);
    assert_string_equal(verb(job, verb_dismiss), "");
    assert_string_equal(trail, SUCCESS_TO_READY " S:waiting S:pending PENDING COMPLETED S:concluded S:null");
    assert_clean(dst);
}

/* fact: jobs 1.6/in-pending, edge/15 */
static void test_cancel_in_pending(void **state)
{
    mirror_world(MiB, MiB, 0);
    args.auto_finalize = false;
    Job *job = start();
    wait_trail("READY");
    assert_string_equal(verb(job, job_complete), "");
    wait_trail("PENDING");
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    assert_string_equal(trail, SUCCESS_TO_READY " S:waiting S:pending PENDING" CANCEL_TAIL);
    assert_clean(src);
}

/* --- empty disks ---------------------------------------------------------------------------------------- */

/* fact: bitmaps 1.3/zero-length, edge/4; jobs 4.3/zero-length, 1.7/equal-at-end, edge/12, seed/9e48b02 */
static void test_zero_length_ready(void **state)
{
    mirror_world(0, 0, 0);
    Job *job = start();
    settle();
    assert_string_equal(trail, SUCCESS_TO_READY);
    assert_int_equal(job->progress_current + job->progress_remaining, 0);
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_string_equal(trail, SUCCESS_TO_READY SUCCESS_TAIL);
    assert_clean(dst);
}

/* fact: bitmaps 1.3/zero-length, edge/4; jobs 4.3/zero-length, edge/12, seed/88ff0e4 */
static void test_zero_length_soft_cancel(void **state)
{
    mirror_world(0, 0, 0);
    Job *job = start();
    settle();
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    assert_string_equal(trail, SUCCESS_TO_READY SUCCESS_TAIL);
    assert_clean(src);
}

/* --- the guest writes ----------------------------------------------------------------------------------- */

/* fact: jobs 4.7/two-phases */
static void test_guest_writes_while_copying(void **state)
{
    mirror_world(2 * MiB, 2 * MiB, 0);
    stamp_source(2 * MiB);
    args.granularity = 4096;
    args.buf_size = 256 * KiB;
    Job *job = start();
    for (int i = 0; i < 60; i++) {
        guest_write((i * 37 % 64) * 32 * KiB, 12 * KiB, 1 + i);
    }
    wait_trail("READY");
    for (int i = 0; i < 20; i++) {
        guest_write((i * 11 % 64) * 32 * KiB + 2048, 6 * KiB, 100 + i);
    }
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_string_equal(trail, SUCCESS_TO_READY SUCCESS_TAIL);
    assert_same_disks(2 * MiB);
    assert_clean(dst);
}

/* A write in flight when complete arrives marks its area only when it is done: the last look comes after. */
/* fact: jobs 4.7/drain, 4.7/undo-drain, edge/5, seed/c57b665 */
static void test_write_in_flight_at_complete(void **state)
{
    struct guest_io io = {.offset = 64 * KiB, .bytes = 4096, .fill = 0x42};

    mirror_world(MiB, MiB, 0);
    Job *job = start();
    wait_trail("READY");
    disk_set_latency(src_disk, 20 * NS_PER_MS);
    guest_submit_io(&io);
    run_for(NS_PER_MS);
    assert_false(io.done);
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_true(io.done);
    assert_same_disks(MiB);
    assert_int_equal(sim_mark_hits(world, MARK_mirror_final_dirty), 1);
    assert_string_equal(trail, SUCCESS_TO_READY SUCCESS_TAIL);
    assert_clean(dst);
}

/* sync=none copies only what the guest writes from now on. */
/* fact: jobs 4.3/none */
static void test_sync_none(void **state)
{
    struct payload data;

    mirror_world(MiB, MiB, 0);
    stamp_source(MiB);
    args.sync = MIRROR_SYNC_NONE;
    Job *job = start();
    wait_trail("READY");
    assert_int_equal(disk_allocated_bytes(dst_disk), 0);
    guest_write(0, 64 * KiB, 0x21);
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    assert_same_disks(64 * KiB);
    payload_init(world, &data);
    disk_peek(dst_disk, 64 * KiB, MiB - 64 * KiB, &data);
    assert_true(payload_is_zero(&data, 0, data.size_bytes));
    payload_clear(&data);
    assert_clean(src);
}

/* An area dirtied again while its copy is in flight is copied again, after that copy and not beside it. */
/* fact: bitmaps 2.6/in-flight; jobs 4.4/in-flight-once, seed/402a474 */
static void test_overlap_waits(void **state)
{
    struct failing slow = {.op = SIM_OP_WRITE, .offset = 0, .count = 1, .extra_latency_ns = 50 * NS_PER_MS};

    mirror_world(64 * KiB, 64 * KiB, 0);
    stamp_source(64 * KiB);
    fail_requests(&slow, dst_disk);
    start();
    run_for(NS_PER_MS);
    guest_write(0, 64 * KiB, 0x99);
    wait_trail("READY");
    assert_same_disks(64 * KiB);
    assert_int_equal(sim_now(world) > 50 * NS_PER_MS, 1);
    assert_string_equal(verb(job_find(host, "m"), verb_cancel_force), "");
    settle();
    assert_clean(src);
}

/* M21: a discard changes what the guest sees, so it is dirt. */
static void test_discard_reaches_target(void **state)
{
    struct guest_io io = {.offset = 64 * KiB, .bytes = 64 * KiB, .fill = -1};

    mirror_world(256 * KiB, 256 * KiB, 0);
    stamp_source(256 * KiB);
    Job *job = start();
    wait_trail("READY");
    guest_submit_io(&io);
    run_for(NS_PER_S);
    assert_true(io.done);
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    assert_same_disks(256 * KiB);
    assert_int_equal(disk_allocated_bytes(dst_disk), disk_allocated_bytes(src_disk));
    assert_clean(src);
}

/* --- shapes --------------------------------------------------------------------------------------------- */

/* fact: jobs 4.3/in-flight-tail, 4.4/clipped, edge/36, seed/f0e9736 */
static void test_tail(void **state)
{
    mirror_world(MiB + 512, MiB + 512, 0);
    stamp_source(MiB + 512);
    Job *job = start();
    wait_trail("READY");
    assert_same_disks(MiB + 512);
    assert_int_equal(disk_length(dst_disk), MiB + 512);
    assert_true(sim_mark_hits(world, MARK_mirror_tail_clipped) > 0);
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_clean(dst);
}

static void count_ops(void *opaque, const struct sim_record *r)
{
    if (r->kind == EV_mirror_op_begin && r->field[1] == SIM_OP_WRITE) {
        int64_t *stats = opaque;

        stats[0]++;
        stats[1] = MAX(stats[1], (int64_t)r->field[3]);
    }
}

/* One mebibyte in chunks of 64 KiB goes as one operation of 1 MiB. */
/* fact: bitmaps 2.6/coalesce; jobs 4.4/merge, seed/884fea4 */
static void test_merge(void **state)
{
    int64_t stats[2] = {0, 0};

    mirror_world(4 * MiB, 4 * MiB, 0);
    stamp_source(4 * MiB);
    sim_subscribe(world, EV_mirror_op_begin, count_ops, stats);
    start();
    wait_trail("READY");
    assert_int_equal(stats[0], 4);
    assert_int_equal(stats[1], MiB);
    assert_string_equal(verb(job_find(host, "m"), verb_cancel_force), "");
    settle();
    assert_clean(src);
}

/* buf-size rounds up to the granularity; whatever it is, the copy is whole. */
/* fact: jobs 4.2/buf-size, seed/08e4ed6 */
static void test_buf_size(void **state)
{
    static const int64_t sizes[] = {1, 100 * KiB, 64 * KiB, 0};
    static const int64_t expected[] = {64 * KiB, 128 * KiB, 64 * KiB, 16 * MiB};

    mirror_world(MiB, MiB, 0);
    stamp_source(MiB);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        trail[0] = '\0';
        args.buf_size = sizes[i];
        Job *job = start();
        assert_int_equal(mirror_of(job)->buf_bytes, expected[i]);
        wait_trail("READY");
        assert_string_equal(verb(job, verb_cancel_soft), "");
        settle();
        assert_same_disks(MiB);
        assert_string_equal(trail, SUCCESS_TO_READY SUCCESS_TAIL);
    }
    assert_clean(src);
}

/* fact: bitmaps 2.1/granularity-mirror; jobs 4.2/granularity-default, seed/eee13df */
static void test_granularity_default(void **state)
{
    mirror_world(MiB, MiB, 0);
    args.granularity = 0;
    Job *job = start();
    assert_int_equal(bdrv_dirty_bitmap_granularity(mirror_dirty_bitmap(job)), 64 * KiB);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_clean(src);
}

/* fact: jobs 1.1/default-id */
static void test_device_name(void **state)
{
    mirror_world(MiB, MiB, 0);
    args.job_id = NULL;
    Job *job = start();
    assert_string_equal(job_id(job), "g");
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_clean(src);
}

/* Old garbage on the target does not survive where the source has nothing. */
/* fact: jobs 4.3/zero-target */
static void test_zeroes_target(void **state)
{
    struct payload data;

    mirror_world(MiB, MiB, 0);
    payload_init(world, &data);
    payload_append_fill(&data, 0xee, MiB);
    disk_poke(dst_disk, 0, &data);
    payload_clear(&data);
    guest_write(0, 4096, 0x11);
    start();
    wait_trail("READY");
    assert_same_disks(MiB);
    assert_int_equal(sim_mark_hits(world, MARK_mirror_zero_target), 1);
    assert_string_equal(verb(job_find(host, "m"), verb_cancel_force), "");
    settle();
    assert_clean(src);
}

/* 262144 B/s: not ready before nearly four seconds for one mebibyte; not much later either. What is paid for is
 * what is transferred: one chunk an operation, or four that were merged. fact: jobs 3/real-bytes, edge/8,
 * seed/cc8c9d6 */
static void test_speed(void **state)
{
    static const int64_t sizes[] = {64 * KiB, 256 * KiB};

    mirror_world(MiB, MiB, 0);
    stamp_source(MiB);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        int64_t begin = sim_now(world);

        trail[0] = '\0';
        args.speed = 262144;
        args.buf_size = sizes[i];
        start();
        wait_trail("READY");
        assert_in_range(sim_now(world) - begin, 3900 * NS_PER_MS, 4300 * NS_PER_MS);
        assert_string_equal(verb(job_find(host, "m"), verb_cancel_force), "");
        settle();
    }
    assert_clean(src);
}

/* Pausing and resuming must not let a throttled job run faster. */
/* fact: jobs 3/rate-sleep, edge/7, seed/7b770c7 */
static void test_speed_survives_pauses(void **state)
{
    mirror_world(MiB, MiB, 0);
    stamp_source(MiB);
    args.speed = 262144;
    args.buf_size = 64 * KiB;
    Job *job = start();
    for (int i = 0; i < 20; i++) {
        run_for(50 * NS_PER_MS);
        assert_string_equal(verb(job, job_user_pause), "");
        run_for(10 * NS_PER_MS);
        assert_int_equal(job->status, JOB_STATUS_PAUSED);
        assert_string_equal(verb(job, job_user_resume), "");
    }
    wait_trail("READY");
    assert_true(sim_now(world) >= 3900 * NS_PER_MS);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_clean(src);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/mirror/seed/893f7eb/two-phases-pivot", test_pivot, world_setup, world_teardown),
        T_SETUP("/mirror/seed/893f7eb/soft-cancel-is-consistent", test_soft_cancel, world_setup, world_teardown),
        T_SETUP("/mirror/cancel/force-ready", test_force_cancel_ready, world_setup, world_teardown),
        T_SETUP("/mirror/seed/bd48bde/cancel-with-ops-in-flight", test_cancel_unready, world_setup, world_teardown),
        T_SETUP("/mirror/cancel/soft-after-complete-switches", test_complete_then_soft_cancel, world_setup,
                world_teardown),
        T_SETUP("/mirror/finalize/manual-stalls-guest", test_manual_finalize, world_setup, world_teardown),
        T_SETUP("/mirror/cancel/soft-in-pending-aborts", test_cancel_in_pending, world_setup, world_teardown),
        T_SETUP("/mirror/seed/9e48b02/zero-length-ready", test_zero_length_ready, world_setup, world_teardown),
        T_SETUP("/mirror/seed/88ff0e4/zero-length-soft-cancel", test_zero_length_soft_cancel, world_setup,
                world_teardown),
        T_SETUP("/mirror/guest/writes-while-copying", test_guest_writes_while_copying, world_setup, world_teardown),
        T_SETUP("/mirror/seed/c57b665/write-in-flight-at-complete", test_write_in_flight_at_complete, world_setup,
                world_teardown),
        T_SETUP("/mirror/sync/none", test_sync_none, world_setup, world_teardown),
        T_SETUP("/mirror/seed/402a474/overlap-waits", test_overlap_waits, world_setup, world_teardown),
        T_SETUP("/mirror/guest/discard-reaches-target", test_discard_reaches_target, world_setup, world_teardown),
        T_SETUP("/mirror/seed/f0e9736/tail-clipped", test_tail, world_setup, world_teardown),
        T_SETUP("/mirror/seed/884fea4/adjacent-chunks-merge", test_merge, world_setup, world_teardown),
        T_SETUP("/mirror/seed/08e4ed6/buf-size-rounds-up", test_buf_size, world_setup, world_teardown),
        T_SETUP("/mirror/seed/eee13df/granularity-default", test_granularity_default, world_setup, world_teardown),
        T_SETUP("/mirror/id/device-name", test_device_name, world_setup, world_teardown),
        T_SETUP("/mirror/zero-target", test_zeroes_target, world_setup, world_teardown),
        T_SETUP("/mirror/seed/cc8c9d6/speed", test_speed, world_setup, world_teardown),
        T_SETUP("/mirror/seed/7b770c7/speed-survives-pauses", test_speed_survives_pauses, world_setup,
                world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
