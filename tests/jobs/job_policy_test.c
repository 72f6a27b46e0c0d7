/* Protects what failures, pauses and speeds at a bad time do to a mirror: first codes, counted stops, sleeps that
 * keep their promise, bits and flushes in the right order (reference/jobs.md 2, 3, 4). */
#include "tests/jobs/mirror_world.h"

#define FAILED(text) " S:aborting COMPLETED(" text ") S:concluded S:null"

static struct failing first, second;

/* Two areas with a hole between them: two operations at once, of which both fail, one well after the other. */
static void two_failures(int first_error, int second_error)
{
    mirror_world(512 * KiB, 512 * KiB, 0);
    guest_write(64 * KiB, 64 * KiB, 0x11);
    guest_write(192 * KiB, 64 * KiB, 0x12);
    first = (struct failing){.op = SIM_OP_WRITE, .offset = 64 * KiB, .error = first_error, .count = 1};
    second = (struct failing){.op = SIM_OP_WRITE, .offset = 192 * KiB, .error = second_error, .count = 1};
    first.extra_latency_ns = 20 * NS_PER_MS;
    second.extra_latency_ns = 50 * NS_PER_MS;
    fail_requests(&first, dst_disk);
    fail_requests(&second, dst_disk);
}

static void cancel_clean(Job *job)
{
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_clean(src);
}

/* --- failures -------------------------------------------------------------------------------------------- */

/* The first code is the job's; the other operation is waited for, and its failure told.
 * fact: jobs 2/report, 4.4/stored-error */
static void test_first_code(void **state)
{
    two_failures(-EIO, -ENOSPC);
    start();
    settle();
    assert_string_equal(trail,
                        "S:created S:running ERROR(write,report) ERROR(write,report)" FAILED("Input/output error"));
    assert_clean(src);
}

/* fact: jobs 2/io-status, 2/enospc */
static void test_first_io_status(void **state)
{
    two_failures(-ENOSPC, -EIO);
    args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
    Job *job = start();
    wait_trail("ERROR");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_NOSPACE);
    settle();
    assert_string_equal(trail, "S:created S:running ERROR(write,stop) ERROR(write,stop) S:paused");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_NOSPACE);
    assert_string_equal(verb(job, job_user_resume), "");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_OK);
    wait_trail("READY");
    assert_same_disks(512 * KiB);
    cancel_clean(job);
}

/* fact: jobs 2/io-status, 2/ignore-event */
static void test_ignore_keeps_io_status(void **state)
{
    two_failures(-ENOSPC, -EIO);
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    Job *job = start();
    wait_trail("READY");
    assert_string_equal(trail, "S:created S:running ERROR(write,ignore) ERROR(write,ignore) S:ready READY");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_OK);
    cancel_clean(job);
}

/* fact: jobs 2/auto */
static void test_auto(void **state)
{
    two_failures(-ENOSPC, 0);
    args.on_target_error = BLOCKDEV_ON_ERROR_AUTO;
    Job *job = start();
    settle();
    assert_string_equal(trail, "S:created S:running ERROR(write,stop) S:paused");
    cancel_clean(job);
}

/* The user's pause is there already: the error that would stop the job adds none, and one resume ends it.
 * fact: jobs 2/stop-once, edge/21 */
static void test_stop_of_paused(void **state)
{
    two_failures(-EIO, 0);
    args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
    Job *job = start();
    run_for(5 * NS_PER_MS);
    assert_true(mirror_in_flight(job) > 0);
    assert_string_equal(verb(job, job_user_pause), "");
    settle();
    assert_string_equal(trail, "S:created S:running ERROR(write,stop) S:paused");
    assert_int_equal(job->pause_count, 1);
    assert_string_equal(verb(job, job_user_resume), "");
    wait_trail("READY");
    assert_same_disks(512 * KiB);
    cancel_clean(job);
}

static bool dirty_at_error;

static void look_at_bit(void *opaque, const struct sim_record *r)
{
    dirty_at_error = bdrv_dirty_bitmap_get(mirror_dirty_bitmap(job_find(host, "m")), 64 * KiB);
}

/* Whoever hears of the failure finds the area dirty again.
 * fact: jobs 2/mirror-redirty, edge/2 */
static void test_dirty_before_policy(void **state)
{
    two_failures(-EIO, 0);
    dirty_at_error = false;
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    sim_subscribe(world, EV_BLOCK_JOB_ERROR, look_at_bit, NULL);
    Job *job = start();
    wait_trail("READY");
    assert_true(dirty_at_error);
    assert_same_disks(512 * KiB);
    cancel_clean(job);
}

/* A medium that fails at once, always, and a policy that does not mind: time goes on all the same.
 * fact: jobs 2/livelock, edge/53 */
static void test_livelock(void **state)
{
    two_failures(-EIO, 0);
    first.extra_latency_ns = 0;
    first.count = INT32_MAX;
    disk_set_latency(src_disk, 0);
    disk_set_latency(dst_disk, 0);
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    Job *job = start();
    run_for(NS_PER_MS);
    assert_int_equal(job->status, JOB_STATUS_RUNNING);
    assert_non_null(strstr(trail, "ERROR(write,ignore) ERROR(write,ignore)"));
    first.count = 0;
    trail[0] = '\0';
    wait_trail("READY");
    assert_same_disks(512 * KiB);
    cancel_clean(job);
}

/* --- time ------------------------------------------------------------------------------------------------ */

static int64_t writes_begun[8];
static unsigned writes;

static void note_write(void *opaque, const struct sim_record *r)
{
    if (r->field[1] == SIM_OP_WRITE && writes < ARRAY_SIZE(writes_begun)) {
        writes_begun[writes++] = r->time_ns;
    }
}

static int64_t new_speed;

static void set_speed(void *opaque)
{
    assert_true(block_job_set_speed(block_job_of(opaque), new_speed, NULL));
}

static void drain(void *opaque)
{
    bdrv_drained_begin(src);
    bdrv_drained_end(src);
}

/* Two chunks at one a second: a completion, a pause, a drain and the same speed again do not shorten the second,
 * and half of the speed makes it two. fact: jobs 3/no-early-wake, 3/rate-sleep, 3/set-speed, edge/7, edge/10 */
static void test_sleep_is_kept(void **state)
{
    mirror_world(128 * KiB, 128 * KiB, 0);
    stamp_source(128 * KiB);
    args.zero_target = false;
    args.sync = MIRROR_SYNC_TOP;
    args.buf_size = new_speed = 64 * KiB;
    args.speed = 64 * KiB;
    writes = 0;
    sim_subscribe(world, EV_mirror_op_begin, note_write, NULL);
    disk_set_latency(dst_disk, 100 * NS_PER_MS);
    Job *job = start();
    run_for(300 * NS_PER_MS);
    assert_int_equal(mirror_in_flight(job), 0);
    assert_string_equal(verb(job, job_user_pause), "");
    run_for(50 * NS_PER_MS);
    assert_string_equal(verb(job, job_user_resume), "");
    on_main(drain, NULL);
    on_main(set_speed, job);
    run_for(50 * NS_PER_MS);
    new_speed = 32 * KiB;
    on_main(set_speed, job);
    wait_trail("READY");
    assert_int_equal(writes, 2);
    assert_in_range(writes_begun[1] - writes_begun[0], 2 * NS_PER_S, 21 * NS_PER_S / 10);
    cancel_clean(job);
}

/* fact: jobs 3/mirror-ready, edge/11 */
static void test_ready_is_not_limited(void **state)
{
    mirror_world(4 * MiB, 4 * MiB, 0);
    args.sync = MIRROR_SYNC_NONE;
    args.speed = 1;
    Job *job = start();
    wait_trail("READY");
    guest_write(0, 4 * MiB, 0x21);
    run_for(200 * NS_PER_MS);
    assert_int_equal(bdrv_get_dirty_count(mirror_dirty_bitmap(job)), 0);
    assert_int_equal(mirror_in_flight(job), 0);
    assert_same_disks(4 * MiB);
    cancel_clean(job);
}

/* --- order ----------------------------------------------------------------------------------------------- */

static unsigned copies_of_first;

static void count_copies(void *opaque, const struct sim_record *r)
{
    copies_of_first += r->field[1] == SIM_OP_WRITE && r->field[2] == 0;
}

/* What the guest writes while an area is being read marks it again, and the end of the read takes no mark away.
 * fact: jobs 4.4/clear-first, edge/1 */
static void test_bits_before_read(void **state)
{
    struct failing slow = {.op = SIM_OP_READ, .offset = 0, .count = 1, .extra_latency_ns = 50 * NS_PER_MS};

    mirror_world(64 * KiB, 64 * KiB, 0);
    stamp_source(64 * KiB);
    fail_requests(&slow, src_disk);
    copies_of_first = 0;
    sim_subscribe(world, EV_mirror_op_begin, count_copies, NULL);
    Job *job = start();
    run_for(10 * NS_PER_MS);
    assert_int_equal(slow.count, 0);
    assert_int_equal(bdrv_get_dirty_count(mirror_dirty_bitmap(job)), 0);
    guest_write(0, 4096, 0x77);
    assert_int_equal(bdrv_get_dirty_count(mirror_dirty_bitmap(job)), 64 * KiB);
    wait_trail("READY");
    assert_int_equal(copies_of_first, 2);
    assert_same_disks(64 * KiB);
    cancel_clean(job);
}

struct watch {
    struct disk_interposer interposer;
    char order[512];
};

static void watch_before(struct disk_interposer *self, struct disk_req *req)
{
    struct watch *watch = container_of(self, struct watch, interposer);

    if (req->op == SIM_OP_WRITE || req->op == SIM_OP_FLUSH) {
        strncat(watch->order, req->op == SIM_OP_WRITE ? "w" : "f", 1);
    }
}

static void flush_entry(void *opaque)
{
    assert_int_equal(blk_co_flush(guest), 0);
    *(bool *)opaque = true;
}

/* A guest's flush is about its disk; the target is flushed when the job ends, after the last write of its drain.
 * fact: jobs 4.1/flush, edge/29, edge/4 */
static void test_flushes(void **state)
{
    struct watch source = {.interposer = {.before = watch_before}}, target = source;
    struct guest_io io = {.offset = 64 * KiB, .bytes = 4096, .fill = 0x42};
    bool flushed = false;

    mirror_world(MiB, MiB, 0);
    Job *job = start();
    wait_trail("READY");
    disk_add_interposer(src_disk, &source.interposer);
    disk_add_interposer(dst_disk, &target.interposer);
    guest_write(0, 4096, 0x41);
    coroutine_start(coroutine_create(world, host, "flush", flush_entry, &flushed));
    run_for(NS_PER_S);
    assert_true(flushed);
    assert_string_equal(source.order, "wf");
    assert_string_equal(target.order, "w");
    disk_set_latency(src_disk, 20 * NS_PER_MS);
    guest_submit_io(&io);
    run_for(NS_PER_MS);
    assert_false(io.done);
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_true(io.done);
    assert_true(strlen(target.order) >= 3);
    assert_true(strrchr(target.order, 'f') > strrchr(target.order, 'w'));
    disk_remove_interposer(src_disk, &source.interposer);
    disk_remove_interposer(dst_disk, &target.interposer);
    assert_same_disks(MiB);
    assert_clean(dst);
}

#define POLICY_TEST(path, fn) T_SETUP(path, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        POLICY_TEST("/job/policy/first-code", test_first_code),
        POLICY_TEST("/job/policy/first-io-status", test_first_io_status),
        POLICY_TEST("/job/policy/ignore-keeps-io-status", test_ignore_keeps_io_status),
        POLICY_TEST("/job/policy/auto", test_auto),
        POLICY_TEST("/job/policy/stop-of-paused", test_stop_of_paused),
        POLICY_TEST("/job/policy/dirty-before-policy", test_dirty_before_policy),
        POLICY_TEST("/job/policy/livelock", test_livelock),
        POLICY_TEST("/job/rate/sleep-is-kept", test_sleep_is_kept),
        POLICY_TEST("/job/rate/ready-is-not-limited", test_ready_is_not_limited),
        POLICY_TEST("/mirror/order/bits-before-read", test_bits_before_read),
        POLICY_TEST("/mirror/order/flushes", test_flushes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
