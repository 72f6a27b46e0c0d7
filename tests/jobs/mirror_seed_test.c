/* Protects facts of the mirror's history that no other test is named for: typed events, what belongs to whom,
 * units, times (reference/jobs.md, appendix A). */
#include "tests/jobs/mirror_world.h"

#define TO_READY "S:created S:running S:ready READY"
#define TAIL " S:waiting S:pending COMPLETED S:concluded S:null"

static void cancel_clean(Job *job)
{
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_clean(src);
}

/* --- events and names ----------------------------------------------------------------------------------- */

static void one_error(enum sim_op op, enum block_on_error policy, const char *expected)
{
    static struct failing rule;

    world_setup(NULL);
    mirror_world(256 * KiB, 256 * KiB, 0);
    stamp_source(256 * KiB);
    args.on_source_error = args.on_target_error = policy;
    rule = (struct failing){.op = op, .offset = -1, .error = -EIO, .count = 1};
    fail_requests(&rule, op == SIM_OP_READ ? src_disk : dst_disk);
    start();
    wait_trail("ERROR");
    assert_non_null(strstr(trail, expected));
    world_teardown(NULL);
}

/* The action is one of three words, and it is what was done, not what was set. */
/* fact: jobs 2/ignore-event, 1.8/error-event, seed/a589569 */
static void test_error_actions(void **state)
{
    one_error(SIM_OP_READ, BLOCKDEV_ON_ERROR_REPORT, "ERROR(read,report)");
    one_error(SIM_OP_READ, BLOCKDEV_ON_ERROR_IGNORE, "ERROR(read,ignore)");
    one_error(SIM_OP_READ, BLOCKDEV_ON_ERROR_STOP, "ERROR(read,stop)");
    one_error(SIM_OP_READ, BLOCKDEV_ON_ERROR_ENOSPC, "ERROR(read,report)");
    one_error(SIM_OP_WRITE, BLOCKDEV_ON_ERROR_AUTO, "ERROR(write,report)");
    one_error(SIM_OP_FLUSH, BLOCKDEV_ON_ERROR_STOP, "ERROR(write,stop)");
}

static void note_type(void *opaque, const struct sim_record *r)
{
    assert_string_equal(sim_record_str(r, 0), "mirror");
    ++*(int *)opaque;
}

/* fact: jobs 1.1/types, seed/79e14bf, seed/3fc4b10 */
static void test_type_enum(void **state)
{
    static const char *const names[JOB_TYPE_COUNT] = {"commit",        "stream",        "mirror",
                                                      "backup",        "create",        "amend",
                                                      "snapshot-load", "snapshot-save", "snapshot-delete"};
    int events = 0;

    for (unsigned i = 0; i < JOB_TYPE_COUNT; i++) {
        assert_string_equal(job_type_name((enum job_type)i), names[i]);
    }
    mirror_world(MiB, MiB, 0);
    sim_subscribe(world, EV_BLOCK_JOB_READY, note_type, &events);
    sim_subscribe(world, EV_BLOCK_JOB_COMPLETED, note_type, &events);
    Job *job = start();
    wait_trail("READY");
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_int_equal(events, 2);
    assert_clean(dst);
}

/* The command only asks; the outcome is an event. */
/* fact: jobs 4.7/complete-returns, seed/d63ffd8 */
static void test_complete_returns(void **state)
{
    mirror_world(MiB, MiB, 0);
    Job *job = start();
    wait_trail("READY");
    assert_string_equal(verb(job, job_complete), "");
    assert_string_equal(trail, TO_READY);
    settle();
    assert_string_equal(trail, TO_READY TAIL);
    assert_clean(dst);
}

/* What a driver says about a failure reaches the client as it is. */
/* fact: jobs 4.8/start, seed/39a611a */
static void test_errno_kept(void **state)
{
    struct failing rule = {.op = SIM_OP_GETLENGTH, .offset = -1, .error = -ENOSPC, .count = 1};

    mirror_world(MiB, MiB, 0);
    fail_requests(&rule, src_disk);
    on_main(start_entry, NULL);
    assert_string_equal(start_error, "could not get length of device: No space left on device");
    assert_clean(src);
}

/* --- what belongs to whom ------------------------------------------------------------------------------- */

/* fact: jobs 4.4/freed, seed/6df3bf8 */
static void test_ops_leave_nothing(void **state)
{
    mirror_world(4 * MiB, 4 * MiB, 0);
    stamp_source(4 * MiB);
    uint64_t vectors = sim_arena_live(sim_arena(world), SIM_TYPE_payload_elem);
    Job *job = start();
    wait_trail("READY");
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_MirrorOp), 0);
    assert_int_equal(sim_arena_live(sim_arena(world), SIM_TYPE_payload_elem), vectors);
    cancel_clean(job);
}

static void look_on(void *opaque)
{
    BlockBackend **blk = opaque;

    *blk = blk_new(host, 0, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(*blk, dst, NULL), 0);
}

static void look_away(void *opaque)
{
    blk_unref(opaque);
}

/* The job gives back its reference; whoever else uses the target keeps it open. */
/* fact: jobs 4.7/target-unref, seed/f95c625, seed/4f6fd34 */
static void test_target_by_reference(void **state)
{
    BlockBackend *other;

    mirror_world(MiB, MiB, 0);
    on_main(look_on, &other);
    unsigned refs = bdrv_refcount(dst);
    Job *job = start();
    wait_trail("READY");
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_ptr_equal(blk_bs(other), dst);
    assert_int_equal(bdrv_refcount(dst), refs);
    assert_int_equal(blk_getlength(other), MiB);
    on_main(look_away, other);
    assert_clean(src);
}

static BdrvDirtyBitmap *users;

static void add_users_bitmap(void *opaque)
{
    users = bdrv_create_dirty_bitmap(src, 4096, "users", NULL);
    assert_non_null(users);
}

static void release_users_bitmap(void *opaque)
{
    bdrv_release_dirty_bitmap(users);
}

/* The mirror clears its own bits, of its own size; the user's stay. */
/* fact: bitmaps 2.1/one-each; jobs 4.2/own-bitmap, seed/e4654d2, seed/50717e9 */
static void test_bitmap_of_its_own(void **state)
{
    mirror_world(MiB, MiB, 0);
    on_main(add_users_bitmap, NULL);
    Job *job = start();
    wait_trail("READY");
    guest_write(192 * KiB, 4096, 0x21);
    run_for(NS_PER_S);
    assert_int_equal(bdrv_get_dirty_count(mirror_dirty_bitmap(job)), 0);
    assert_int_equal(bdrv_dirty_bitmap_granularity(mirror_dirty_bitmap(job)), 64 * KiB);
    assert_int_equal(bdrv_dirty_bitmap_granularity(users), 4096);
    assert_int_equal(bdrv_get_dirty_count(users), 4096);
    on_main(release_users_bitmap, NULL);
    cancel_clean(job);
}

/* --- units and times ------------------------------------------------------------------------------------ */

/* Progress counts bytes, whole bits of them. */
/* fact: jobs 1.7/unit, 1.7/mirror, seed/acc906c */
static void test_progress_unit(void **state)
{
    mirror_world(MiB, MiB, 0);
    Job *job = start();
    wait_trail("READY");
    assert_int_equal(job->progress_current, MiB);
    guest_write(100 * KiB, 512, 0x21);
    run_for(NS_PER_S);
    assert_int_equal(job->progress_current, MiB + 64 * KiB);
    assert_int_equal(job->progress_remaining, 0);
    cancel_clean(job);
}

static void note_time(void *opaque, const struct sim_record *r)
{
    *(int64_t *)opaque = r->time_ns;
}

/* An idle mirror looks again 100 ms after its last look: delays are relative, on the clock of the world. A guest's
 * write does not wake it. */
/* fact: jobs 1.4/relative, seed/bc72ad6, seed/7483d1e */
static void test_idle_poll(void **state)
{
    int64_t begun = -1;

    mirror_world(MiB, MiB, 0);
    Job *job = start();
    wait_trail("READY");
    int64_t ready = sim_now(world);
    sim_subscribe(world, EV_mirror_op_begin, note_time, &begun);
    run_for(250 * NS_PER_MS);
    guest_write(0, 512, 0x21);
    run_for(NS_PER_S);
    /* the third poll comes 300 ms after ready; the iteration asks for the block status first */
    assert_in_range(begun, ready + 300 * NS_PER_MS, ready + 301 * NS_PER_MS);
    cancel_clean(job);
}

/* A pause ends a sleep, one for an error too: the job parks at once, not when its limit lets it go on. */
/* fact: jobs 1.4/pause-ends-sleep */
static void test_stop_in_rate_sleep(void **state)
{
    struct failing rule = {.op = SIM_OP_WRITE, .offset = -1, .error = -EIO, .count = 1};

    mirror_world(MiB, MiB, 0);
    stamp_source(MiB);
    args.speed = 64 * KiB;
    args.buf_size = 64 * KiB;
    args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
    rule.extra_latency_ns = 50 * NS_PER_MS;
    fail_requests(&rule, dst_disk);
    Job *job = start();
    run_for(40 * NS_PER_MS);
    assert_true(sim_timer_queued(&job->sleep_timer));
    wait_trail("ERROR(write,stop)");
    run_for(NS_PER_MS);
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    cancel_clean(job);
}

/* --- shapes --------------------------------------------------------------------------------------------- */

struct depth {
    unsigned now;
    unsigned most;
};

static void note_depth(void *opaque, const struct sim_record *r)
{
    struct depth *depth = opaque;

    depth->now += r->kind == EV_mirror_op_begin ? 1u : -1u;
    depth->most = MAX(depth->most, depth->now);
}

/* fact: jobs 4.4/sixteen */
static void test_sixteen_in_flight(void **state)
{
    struct depth depth = {0, 0};

    mirror_world(32 * MiB, 32 * MiB, 0);
    stamp_source(32 * MiB);
    sim_subscribe(world, EV_mirror_op_begin, note_depth, &depth);
    sim_subscribe(world, EV_mirror_op_end, note_depth, &depth);
    Job *job = start();
    wait_trail("READY");
    assert_int_equal(depth.most, 16);
    assert_same_disks(32 * MiB);
    cancel_clean(job);
}

/* Neither side changes its length under the job, not even while it is pending.
 * fact: block 5/busy-bitmap, 1.12/job; jobs 4.1/no-resize */
static void test_resize_blocked(void **state)
{
    mirror_world(MiB, MiB, 0);
    args.auto_finalize = false;
    Job *job = start();
    wait_trail("READY");
    assert_true(bdrv_op_is_blocked(src, BLOCK_OP_RESIZE, NULL));
    assert_true(bdrv_op_is_blocked(dst, BLOCK_OP_RESIZE, NULL));
    assert_string_equal(verb(job, job_complete), "");
    wait_trail("PENDING");
    assert_true(bdrv_op_is_blocked(src, BLOCK_OP_RESIZE, NULL));
    assert_true(bdrv_op_is_blocked(dst, BLOCK_OP_RESIZE, NULL));
    assert_string_equal(verb(job, job_finalize), "");
    settle();
    assert_clean(dst);
}

/* top over nothing is full: what the source does not hold is zero on the target, too. */
/* fact: jobs 4.2/top-is-full */
static void test_top_is_full(void **state)
{
    struct payload data;

    mirror_world(MiB, MiB, 0);
    payload_init(world, &data);
    payload_append_fill(&data, 0xee, MiB);
    disk_poke(dst_disk, 0, &data);
    payload_clear(&data);
    args.sync = MIRROR_SYNC_TOP;
    args.zero_target = false;
    Job *job = start();
    wait_trail("READY");
    assert_int_equal(mirror_sync_mode(job), MIRROR_SYNC_FULL);
    assert_same_disks(MiB);
    cancel_clean(job);
}

/* --- identity ------------------------------------------------------------------------------------------- */

/* Missing and empty are two things: only the first means the device's name. */
static void test_empty_id(void **state)
{
    mirror_world(MiB, MiB, 0);
    args.job_id = "";
    on_main(start_entry, NULL);
    assert_string_equal(start_error, "Invalid job ID ''");
    assert_clean(src);
}

#define MIRROR_TEST(path, fn) T_SETUP(path, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/mirror/seed/a589569/error-actions", test_error_actions, NULL, NULL, NULL},
        MIRROR_TEST("/job/seed/79e14bf/3fc4b10/type-enum", test_type_enum),
        MIRROR_TEST("/mirror/seed/d63ffd8/complete-returns-at-once", test_complete_returns),
        MIRROR_TEST("/mirror/seed/39a611a/errno-kept", test_errno_kept),
        MIRROR_TEST("/mirror/seed/6df3bf8/operations-leave-nothing", test_ops_leave_nothing),
        MIRROR_TEST("/mirror/seed/f95c625/4f6fd34/target-by-reference", test_target_by_reference),
        MIRROR_TEST("/mirror/seed/e4654d2/50717e9/bitmap-of-its-own", test_bitmap_of_its_own),
        MIRROR_TEST("/mirror/seed/acc906c/progress-in-bytes", test_progress_unit),
        MIRROR_TEST("/job/seed/bc72ad6/7483d1e/relative-delays", test_idle_poll),
        MIRROR_TEST("/mirror/error/stop-ends-rate-sleep", test_stop_in_rate_sleep),
        MIRROR_TEST("/mirror/ops/sixteen-in-flight", test_sixteen_in_flight),
        MIRROR_TEST("/mirror/start/resize-blocked", test_resize_blocked),
        MIRROR_TEST("/mirror/start/top-without-backing-is-full", test_top_is_full),
        MIRROR_TEST("/mirror/id/empty", test_empty_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
