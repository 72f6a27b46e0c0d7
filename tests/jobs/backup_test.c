/* Protects backups on healthy media: what the target holds afterwards whatever the guest does meanwhile, and what a
 * backup's life looks like (reference/jobs.md 1.7, 5.1, 5.3, 5.7). */
#include "tests/jobs/backup_world.h"

#define BYTES (16 * CLUSTER)

static void clusters_world(void)
{
    backup_world(BYTES);
}

static void end(uint64_t copied)
{
    assert_target(copied);
    assert_clean();
}

/* --- the promise ----------------------------------------------------------------------------------------- */

/* fact: jobs 5.1/promise, 5.3/full */
static void test_full(void **state)
{
    clusters_world();
    Job *job = start();
    assert_true(block_job_is_backup(job));
    assert_true(bdrv_is_cbw(blk_bs(guest)));
    assert_true(bdrv_is_implicit(blk_bs(guest)));
    assert_ptr_equal(backup_source(job), src);
    assert_ptr_equal(backup_target(job), dst);
    assert_ptr_equal(backup_filter(job), blk_bs(guest));
    settle();
    expect_trail(BEGIN " " DONE);
    end(ALL);
}

/* Writes, zero writes and discards of the guest before, behind and across what the background pass has reached;
 * each cluster of the target is written once. */
/* fact: jobs 5.1/promise, 5.1/cbw-first, 5.1/once, 5.5/guest-write, 5.5/never-again, edge/45 */
static void test_guest_writes(void **state)
{
    static const struct io ios[] = {
        {.offset = 0, .bytes = 4096, .fill = 0x70},
        {.offset = 15 * CLUSTER + 512, .bytes = 512, .fill = 0x71},
        {.offset = 7 * CLUSTER - 512, .bytes = CLUSTER + 1024, .fill = 0x72},
        {.offset = 3 * CLUSTER, .bytes = 2 * CLUSTER, .fill = -1},
        {.offset = 10 * CLUSTER, .bytes = CLUSTER, .fill = -2},
        {.offset = 7 * CLUSTER, .bytes = CLUSTER, .fill = 0x73},
        {.offset = 0, .bytes = CLUSTER, .fill = 0x74},
    };
    struct writes writes = {.requests = 0};

    clusters_world();
    count_writes(&writes, dst_disk);
    args.speed = 10 * CLUSTER;
    args.perf.max_workers = 1;
    args.perf.max_chunk = CLUSTER;
    start();
    for (size_t i = 0; i < ARRAY_SIZE(ios); i++) {
        run_for(150 * NS_PER_MS);
        guest_write(ios[i].offset, ios[i].bytes, ios[i].fill);
    }
    settle();
    expect_trail(BEGIN " " DONE);
    for (int64_t i = 0; i < BYTES / CLUSTER; i++) {
        assert_int_equal(writes.bytes[i], CLUSTER);
    }
    end(ALL);
}

/* A write that is under way when the command comes is in the backup: the drain waits for it. */
/* fact: jobs 5.1/promise */
static void test_write_in_flight(void **state)
{
    struct io io = {.offset = 5 * CLUSTER, .bytes = CLUSTER, .fill = 0x77};

    clusters_world();
    io_submit(&io);
    start();
    assert_true(io.done);
    settle();
    end(ALL);
}

/* fact: jobs 5.5/clipped, 1.7/backup */
static void test_tail(void **state)
{
    backup_world(3 * CLUSTER + 512);
    Job *job = start();
    job_ref(job);
    /* whole clusters are to do, more than the disk has */
    assert_int_equal(job->progress_current + job->progress_remaining, 4 * CLUSTER);
    settle();
    assert_int_equal(job->progress_remaining, 0);
    assert_true(job->progress_current >= disk_bytes);
    job_unref(job);
    expect_trail(BEGIN " " DONE);
    end(ALL);
}

/* fact: jobs 5.7/empty */
static void test_empty(void **state)
{
    backup_world(0);
    Job *job = start();
    job_ref(job);
    settle();
    expect_trail(BEGIN " " DONE);
    assert_int_equal(job->progress_current, 0);
    assert_int_equal(job->progress_remaining, 0);
    job_unref(job);
    end(0);
}

/* --- what is copied -------------------------------------------------------------------------------------- */

static void set_bits(BdrvDirtyBitmap *bitmap, uint64_t mask)
{
    for (int64_t i = 0; i < BYTES / CLUSTER; i++) {
        if (mask >> i & 1) {
            bdrv_set_dirty_bitmap(bitmap, i * CLUSTER, CLUSTER);
        }
    }
}

/* Finer bits are rounded out; what the bitmap does not name is not saved when the guest overwrites it. */
/* fact: jobs 5.3/bitmap */
static void test_bitmap(void **state)
{
    clusters_world();
    BdrvDirtyBitmap *bitmap = add_bitmap("bm", 4096);
    bdrv_set_dirty_bitmap(bitmap, 2 * CLUSTER + 4096, 4096);
    bdrv_set_dirty_bitmap(bitmap, 5 * CLUSTER - 4096, 8192);
    bdrv_set_dirty_bitmap(bitmap, 15 * CLUSTER, 4096);
    args.sync = MIRROR_SYNC_BITMAP;
    args.bitmap = "bm";
    args.has_bitmap_mode = true;
    args.bitmap_mode = BITMAP_SYNC_NEVER;
    args.speed = 1;
    Job *job = start();
    assert_int_equal(job->progress_current + job->progress_remaining, 4 * CLUSTER);
    guest_write(0, CLUSTER, 0x70);
    guest_write(4 * CLUSTER, 2 * CLUSTER, 0x71);
    assert_int_equal(block_job_set_speed(block_job_of(job), 0, NULL), true);
    settle();
    expect_trail(BEGIN " " DONE);
    end(1 << 2 | 1 << 4 | 1 << 5 | 1 << 15);
}

/* fact: jobs 5.3/incremental */
static void test_incremental(void **state)
{
    clusters_world();
    set_bits(add_bitmap("bm", CLUSTER), 0x0306);
    args.sync = MIRROR_SYNC_INCREMENTAL;
    args.bitmap = "bm";
    Job *job = start();
    assert_int_equal(backup_bitmap_mode(job), BITMAP_SYNC_ON_SUCCESS);
    assert_string_equal(bdrv_dirty_bitmap_name(backup_sync_bitmap(job)), "bm");
    settle();
    expect_trail(BEGIN " " DONE);
    assert_int_equal(dirty("bm"), 0);
    end(0x0306);
}

/* fact: jobs 5.3/none, 1.7/backup-none */
static void test_none(void **state)
{
    clusters_world();
    args.sync = MIRROR_SYNC_NONE;
    Job *job = start();
    job_ref(job);
    assert_int_equal(job->progress_current, 0);
    assert_int_equal(job->progress_remaining, BYTES);
    settle();
    assert_target(0);
    guest_write(3 * CLUSTER, 512, 0x70);
    guest_write(8 * CLUSTER, CLUSTER, -2);
    guest_write(3 * CLUSTER + 512, 512, 0x71);
    assert_int_equal(job->progress_current, 2 * CLUSTER);
    assert_int_equal(job->progress_remaining, BYTES - 2 * CLUSTER);
    settle();
    expect_trail(BEGIN);
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    expect_trail(KILLED);
    job_unref(job);
    end(1 << 3 | 1 << 8);
}

/* fact: jobs 5.5/discard-source */
static void test_discard_source(void **state)
{
    clusters_world();
    args.discard_source = true;
    start();
    settle();
    expect_trail(BEGIN " " DONE);
    assert_target(ALL);
    memset(now, 0, (size_t)(BYTES / SIM_SECTOR_BYTES)); /* raw: reads as zero then */
    assert_clean();
}

/* --- pause, cancel, end ---------------------------------------------------------------------------------- */

static struct writes job_writes;

/* Nothing of the job's moves in a pause; what the guest overwrites is saved, and counts. */
/* fact: jobs 5.7/pause, 1.4/guest-driven, 1.7/backup */
static void test_pause(void **state)
{
    clusters_world();
    memset(&job_writes, 0, sizeof(job_writes));
    count_writes(&job_writes, dst_disk);
    args.speed = 20 * CLUSTER;
    args.perf.max_workers = 1;
    args.perf.max_chunk = CLUSTER;
    Job *job = start();
    job_ref(job);
    run_for(200 * NS_PER_MS);
    assert_string_equal(verb(job, job_user_pause), "");
    wait_trail("S:running S:paused S:running S:paused");
    assert_int_equal(block_copy_tasks(backup_copy_state(job)), 0);
    int requests = job_writes.requests;
    int64_t done = job->progress_current;
    assert_in_range(requests, 1, 14);
    run_for(10 * NS_PER_S);
    assert_int_equal(job_writes.requests, requests);
    guest_write(15 * CLUSTER, 512, 0x70);
    assert_int_equal(job_writes.requests, requests + 1);
    assert_int_equal(job->progress_current, done + CLUSTER);
    assert_int_equal(job->progress_current + job->progress_remaining, BYTES);
    assert_string_equal(verb(job, job_user_resume), "");
    settle();
    expect_trail(BEGIN " S:paused S:running " DONE);
    assert_int_equal(job->progress_current, BYTES);
    job_unref(job);
    end(ALL);
}

/* A request that takes long keeps the job from parking, and what it has begun is finished. */
/* fact: jobs 1.4/pause-hook, 5.7/pause */
static void test_pause_waits(void **state)
{
    struct failing slow = {.op = SIM_OP_READ, .from = 0, .to = BYTES, .count = 1, .extra_latency_ns = 3 * NS_PER_S};

    clusters_world();
    fail_requests(&slow, src_disk);
    args.perf.max_workers = 1;
    Job *job = start();
    run_for(NS_PER_S);
    assert_string_equal(verb(job, job_user_pause), "");
    run_for(NS_PER_S);
    expect_trail(BEGIN);
    wait_trail("S:paused");
    assert_true(sim_now(world) >= 3 * NS_PER_S);
    assert_int_equal(block_copy_tasks(backup_copy_state(job)), 0);
    assert_true(job->progress_current > 0);
    assert_string_equal(verb(job, job_user_resume), "");
    settle();
    expect_trail("S:paused S:running " DONE);
    end(ALL);
}

/* fact: jobs 5.7/cancel */
static void test_cancel(void **state)
{
    clusters_world();
    args.speed = 4 * CLUSTER;
    args.perf.max_chunk = CLUSTER;
    Job *job = start();
    run_for(500 * NS_PER_MS);
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    expect_trail(BEGIN " " KILLED);
    assert_clean();
}

/* A paused one shows itself running first. */
/* fact: jobs 5.7/cancel */
static void test_cancel_paused(void **state)
{
    clusters_world();
    args.speed = 4 * CLUSTER;
    args.perf.max_chunk = CLUSTER;
    Job *job = start();
    run_for(500 * NS_PER_MS);
    assert_string_equal(verb(job, job_user_pause), "");
    wait_trail("S:running S:paused S:running S:paused");
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    expect_trail(BEGIN " S:paused S:running " KILLED);
    assert_clean();
}

static bool filter_at_completed;

static void note_filter(void *opaque, const struct sim_record *r)
{
    filter_at_completed = blk_bs(guest) != src;
}

/* What the guest writes in pending was copied long ago. */
/* fact: jobs 5.1/filter-stays */
static void test_pending(void **state)
{
    clusters_world();
    sim_subscribe(world, EV_BLOCK_JOB_COMPLETED, note_filter, NULL);
    filter_at_completed = true;
    args.flags = JOB_MANUAL_FINALIZE | JOB_MANUAL_DISMISS;
    Job *job = start();
    settle();
    expect_trail(BEGIN " S:waiting S:pending PENDING");
    assert_true(bdrv_is_cbw(blk_bs(guest)));
    guest_write(CLUSTER, CLUSTER, 0x70);
    assert_string_equal(verb(job, job_finalize), "");
    expect_trail("COMPLETED S:concluded");
    assert_false(filter_at_completed);
    assert_null(backup_source(job));
    assert_null(backup_target(job));
    assert_null(backup_filter(job));
    assert_null(backup_copy_state(job));
    assert_string_equal(verb(job, verb_dismiss), "");
    expect_trail("S:null");
    end(ALL);
}

/* --- speed ----------------------------------------------------------------------------------------------- */

/* Clusters of zeroes are paid for, too, and those of guests, who never wait themselves. */
/* fact: jobs 3/backup-charge */
static void test_speed(void **state)
{
    clusters_world();
    struct payload zeroes;
    payload_init(world, &zeroes);
    payload_append_zero(&zeroes, 8 * CLUSTER);
    disk_poke(src_disk, 0, &zeroes);
    payload_clear(&zeroes);
    memset(now, 0, (size_t)(8 * CLUSTER_SECTORS));
    args.speed = 10 * CLUSTER;
    args.perf.max_chunk = CLUSTER;
    args.perf.max_workers = 1;
    int64_t begin = sim_now(world);
    start();
    int64_t asked = sim_now(world);
    guest_write(15 * CLUSTER, CLUSTER, 0x70);
    assert_true(sim_now(world) - asked < 50 * NS_PER_MS);
    wait_trail("S:null");
    int64_t took = sim_now(world) - begin;
    assert_in_range(took, 1300 * NS_PER_MS, 1700 * NS_PER_MS); /* 16 clusters at 10 a second */
    end(ALL);
}

/* A call that sleeps for hours learns of each new speed at once, a lower one too. */
/* fact: jobs 3/backup-kick */
static void test_set_speed(void **state)
{
    clusters_world();
    args.speed = 1;
    args.perf.max_chunk = CLUSTER;
    args.perf.max_workers = 1;
    Job *job = start();
    run_for(NS_PER_S);
    int64_t done = job->progress_current;
    assert_in_range(done, CLUSTER, 2 * CLUSTER);
    assert_true(block_job_set_speed(block_job_of(job), 5 * CLUSTER, NULL));
    run_for(NS_PER_S);
    assert_in_range(job->progress_current - done, 4 * CLUSTER, 7 * CLUSTER);
    assert_true(block_job_set_speed(block_job_of(job), CLUSTER, NULL));
    done = job->progress_current;
    run_for(2 * NS_PER_S);
    assert_in_range(job->progress_current - done, CLUSTER, 3 * CLUSTER);
    assert_true(block_job_set_speed(block_job_of(job), 0, NULL));
    settle();
    expect_trail(BEGIN " " DONE);
    end(ALL);
}

int main(void)
{
#define BACKUP_TEST(name, fn) \
    { \
        name, fn, world_setup, world_teardown, NULL \
    }
    const struct CMUnitTest tests[] = {
        BACKUP_TEST("/backup/full", test_full),
        BACKUP_TEST("/backup/guest-writes", test_guest_writes),
        BACKUP_TEST("/backup/write-in-flight", test_write_in_flight),
        BACKUP_TEST("/backup/tail", test_tail),
        BACKUP_TEST("/backup/empty", test_empty),
        BACKUP_TEST("/backup/sync/bitmap", test_bitmap),
        BACKUP_TEST("/backup/sync/incremental", test_incremental),
        BACKUP_TEST("/backup/sync/none", test_none),
        BACKUP_TEST("/backup/discard-source", test_discard_source),
        BACKUP_TEST("/backup/pause", test_pause),
        BACKUP_TEST("/backup/pause-waits", test_pause_waits),
        BACKUP_TEST("/backup/cancel", test_cancel),
        BACKUP_TEST("/backup/cancel-paused", test_cancel_paused),
        BACKUP_TEST("/backup/pending", test_pending),
        BACKUP_TEST("/backup/speed", test_speed),
        BACKUP_TEST("/backup/set-speed", test_set_speed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
