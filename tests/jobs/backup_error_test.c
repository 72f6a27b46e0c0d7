/* Protects backups when media fail: error policies, saves that fail under a guest's write, and any schedule of
 * writes, pauses, drains and errors (reference/jobs.md 2, 5.5, 5.7). */
#include "tests/jobs/backup_world.h"

#define BYTES (16 * CLUSTER)

static struct failing rule;

static void failing_world(enum sim_op op, int error, int count)
{
    backup_world(BYTES);
    rule = (struct failing){.op = op, .from = 6 * CLUSTER, .to = 7 * CLUSTER, .error = error, .count = count};
    fail_requests(&rule, op == SIM_OP_READ ? src_disk : dst_disk);
    args.perf.max_chunk = CLUSTER;
}

static void end(void)
{
    rule.count = 0;
    assert_target(ALL);
    assert_clean();
}

/* --- policies -------------------------------------------------------------------------------------------- */

static void test_report(void **state)
{
    failing_world(SIM_OP_WRITE, -ENOSPC, 1);
    Job *job = start();
    job_ref(job);
    settle();
    expect_trail(BEGIN " ERROR(write,report) S:aborting COMPLETED(No space left on device) S:concluded S:null");
    assert_true(job->progress_current < BYTES);
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_OK);
    job_unref(job);
    assert_clean();
}

/* Failed reads go by the source's policy alone. */
/* fact: jobs 2/which */
static void test_report_read(void **state)
{
    failing_world(SIM_OP_READ, -EIO, 1);
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    start();
    settle();
    expect_trail(BEGIN " ERROR(read,report) S:aborting COMPLETED(Input/output error) S:concluded S:null");
    assert_clean();
}

/* fact: jobs 2/backup-ignore, edge/41, 5.7/retry */
static void test_ignore(void **state)
{
    failing_world(SIM_OP_READ, -EIO, 3);
    args.on_source_error = BLOCKDEV_ON_ERROR_IGNORE;
    start();
    settle();
    expect_trail(BEGIN " ERROR(read,ignore) ERROR(read,ignore) ERROR(read,ignore) " DONE);
    end();
}

/* fact: jobs 2/backup-stop, 5.7/retry */
static void test_stop(void **state)
{
    failing_world(SIM_OP_WRITE, -EIO, 1);
    args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
    Job *job = start();
    settle();
    expect_trail(BEGIN " ERROR(write,stop) S:paused");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_FAILED);
    assert_int_equal(block_copy_tasks(backup_copy_state(job)), 0);
    guest_write(6 * CLUSTER, CLUSTER, 0x70);
    assert_string_equal(verb(job, job_user_resume), "");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_OK);
    settle();
    expect_trail("S:running " DONE);
    end();
}

/* fact: jobs 5.7/enospc */
static void test_enospc(void **state)
{
    failing_world(SIM_OP_WRITE, -ENOSPC, 2);
    args.on_target_error = BLOCKDEV_ON_ERROR_ENOSPC;
    Job *job = start();
    settle();
    expect_trail(BEGIN " ERROR(write,stop) S:paused");
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_NOSPACE);
    assert_string_equal(verb(job, job_user_resume), "");
    settle();
    expect_trail("S:running ERROR(write,stop) S:paused");
    assert_string_equal(verb(job, job_user_resume), "");
    settle();
    expect_trail("S:running " DONE);
    end();
}

static void test_enospc_other(void **state)
{
    failing_world(SIM_OP_WRITE, -EIO, 1);
    args.on_target_error = BLOCKDEV_ON_ERROR_ENOSPC;
    start();
    settle();
    expect_trail(BEGIN " ERROR(write,report) S:aborting COMPLETED(Input/output error) S:concluded S:null");
    assert_clean();
}

/* fact: jobs 5.7/cancel */
static void test_cancel_stopped(void **state)
{
    failing_world(SIM_OP_WRITE, -EIO, 1);
    args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
    Job *job = start();
    settle();
    verb(job, verb_cancel_force);
    settle();
    expect_trail(BEGIN " ERROR(write,stop) S:paused S:running " KILLED);
    assert_clean();
}

/* --- saves ----------------------------------------------------------------------------------------------- */

/* The guest's write fails and is not done; the job neither tells nor ends, and copies the cluster later. */
/* fact: jobs 5.5/failed-save, 2/backup-cbw, edge/30 */
static void test_save_fails(void **state)
{
    failing_world(SIM_OP_WRITE, -ENOSPC, 1);
    args.on_target_error = BLOCKDEV_ON_ERROR_STOP;
    args.perf.max_workers = 1;
    args.speed = 1;
    Job *job = start();
    run_for(100 * NS_PER_MS);
    assert_int_equal(guest_try(6 * CLUSTER + 512, 512, 0x70), -ENOSPC);
    assert_source();
    assert_true(bdrv_dirty_bitmap_get(block_copy_dirty_bitmap(backup_of(job)->copy), 6 * CLUSTER));
    assert_int_equal(block_job_of(job)->iostatus, BLOCK_IO_STATUS_OK);
    assert_int_equal(guest_try(6 * CLUSTER + 512, 512, 0x71), 0);
    assert_true(block_job_set_speed(block_job_of(job), 0, NULL));
    settle();
    expect_trail(BEGIN " " DONE);
    end();
}

/* A guest that waits for the job's copy of its cluster, which fails, copies it itself. */
/* fact: jobs 5.5/overlap, edge/46 */
static void test_waiter_retries(void **state)
{
    failing_world(SIM_OP_WRITE, -EIO, 1);
    rule.extra_latency_ns = NS_PER_S;
    args.on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    start();
    run_for(500 * NS_PER_MS);
    assert_int_equal(rule.seen, 1);
    guest_write(6 * CLUSTER, 512, 0x70);
    assert_true(sim_now(world) >= NS_PER_S);
    settle();
    expect_trail(BEGIN " ERROR(write,ignore) " DONE);
    end();
}

/* A copy that a write causes reads under that very write. */
/* fact: jobs 5.9/own-write, edge/48 */
static void test_own_write(void **state)
{
    failing_world(SIM_OP_WRITE, -EIO, 0);
    args.sync = MIRROR_SYNC_NONE;
    Job *job = start();
    guest_write(0, BYTES, 0x70);
    assert_target(ALL);
    verb(job, verb_cancel_force);
    settle();
    end();
}

/* A cancelled job does not go before what guests' writes save is through. */
/* fact: jobs 5.9/end-waits */
static void test_end_waits(void **state)
{
    struct io io = {.offset = 6 * CLUSTER, .bytes = 512, .fill = 0x70};

    failing_world(SIM_OP_WRITE, 0, 1);
    rule.extra_latency_ns = NS_PER_S;
    args.sync = MIRROR_SYNC_NONE;
    Job *job = start();
    io_submit(&io);
    run_for(10 * NS_PER_MS);
    verb(job, verb_cancel_force);
    wait_trail("S:null");
    assert_true(sim_now(world) >= NS_PER_S);
    settle();
    assert_true(io.done);
    assert_int_equal(io.ret, 0);
    assert_target(1 << 6);
    assert_clean();
}

/* --- any schedule ---------------------------------------------------------------------------------------- */

static void drain_entry(void *opaque)
{
    bdrv_drained_begin(src);
    bdrv_drained_end(src);
}

static uint64_t draw_state;

static int64_t draw(int64_t n)
{
    draw_state = sim_mix64(draw_state + UINT64_C(0x9e3779b97f4a7c15));
    return (int64_t)(draw_state % (uint64_t)n);
}

static void step(Job *job)
{
    int64_t sectors = disk_bytes / SIM_SECTOR_BYTES;
    int64_t what = draw(12);
    int64_t first = draw(sectors - 1);
    int64_t count = 1 + draw(MIN(sectors - first, 3 * CLUSTER_SECTORS));
    int fill = (int)draw(60) + 0x30;
    bool alive = job->status == JOB_STATUS_RUNNING || job->status == JOB_STATUS_PAUSED;

    if (what == 6) { /* of whole clusters only it is sure what they read as then */
        first = ROUND_DOWN(first, CLUSTER_SECTORS);
        count = CLUSTER_SECTORS;
    }
    if (what == 0) {
        on_main(drain_entry, NULL);
    } else if (what == 1 && alive) {
        verb(job, job_user_pause);
    } else if (what <= 3 && alive) {
        verb(job, job_user_resume);
    } else if (what == 4 && alive) {
        block_job_set_speed(block_job_of(job), draw(4) * 10 * CLUSTER, NULL);
    } else if (what == 5) {
        rule.count = (int)draw(3);
    } else {
        guest_try(first * SIM_SECTOR_BYTES, count * SIM_SECTOR_BYTES, what == 6 ? -1 : what == 7 ? -2 : fill);
    }
    run_for(draw(20 * NS_PER_MS) + 1);
}

/* Errors are ignored or stop the job, and the end is the promise all the same. */
/* fact: jobs 5.1/promise */
static void test_random(void **state)
{
    for (uint64_t seed = 0; seed < 30; seed++) {
        draw_state = seed;
        failing_world(seed & 1 ? SIM_OP_READ : SIM_OP_WRITE, seed & 2 ? -EIO : -ENOSPC, 0);
        rule.from = 0;
        rule.to = BYTES;
        args.on_source_error = args.on_target_error = seed & 4 ? BLOCKDEV_ON_ERROR_IGNORE : BLOCKDEV_ON_ERROR_STOP;
        args.perf.max_workers = 1 + draw(5);
        args.speed = 20 * CLUSTER;
        Job *job = start();
        job_ref(job);
        for (int i = 0; i < 40; i++) {
            step(job);
        }
        rule.count = 0;
        while (job->status == JOB_STATUS_PAUSED || job->status == JOB_STATUS_RUNNING) {
            verb(job, job_user_resume);
            settle();
        }
        assert_int_equal(job->status, JOB_STATUS_NULL);
        assert_int_equal(job->ret, 0);
        job_unref(job);
        end();
        world_teardown(NULL);
        world_setup(NULL);
    }
}

int main(void)
{
#define BACKUP_TEST(name, fn) \
    { \
        name, fn, world_setup, world_teardown, NULL \
    }
    const struct CMUnitTest tests[] = {
        BACKUP_TEST("/backup/error/report", test_report),
        BACKUP_TEST("/backup/error/report-read", test_report_read),
        BACKUP_TEST("/backup/error/ignore", test_ignore),
        BACKUP_TEST("/backup/error/stop", test_stop),
        BACKUP_TEST("/backup/error/enospc", test_enospc),
        BACKUP_TEST("/backup/error/enospc-other", test_enospc_other),
        BACKUP_TEST("/backup/error/cancel-stopped", test_cancel_stopped),
        BACKUP_TEST("/backup/save/fails", test_save_fails),
        BACKUP_TEST("/backup/save/waiter-retries", test_waiter_retries),
        BACKUP_TEST("/backup/save/own-write", test_own_write),
        BACKUP_TEST("/backup/save/end-waits", test_end_waits),
        BACKUP_TEST("/backup/random", test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
