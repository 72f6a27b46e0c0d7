/* Protects what a bitmap says after the backup that worked by it: every cell of the reference's table, decided when
 * the job is finalised (reference/jobs.md 5.4). */
#include "tests/jobs/backup_world.h"

#define BYTES (16 * CLUSTER)
#define OLD ((uint64_t)0x0206) /* 1, 2 and 9: what the bitmap says before */
#define NEW ((uint64_t)0x0010) /* 4: what the guest writes meanwhile */

enum outcome { SUCCESS, FAILURE, CANCEL, CANCEL_IN_PENDING, OUTCOMES };

static struct failing broken;

static void old_bits(BdrvDirtyBitmap *bitmap)
{
    for (int64_t i = 0; i < BYTES / CLUSTER; i++) {
        if (OLD >> i & 1) {
            bdrv_set_dirty_bitmap(bitmap, i * CLUSTER, CLUSTER);
        }
    }
}

/* One cluster at a time, upwards; the guest writes to 4 after all up to 4 are copied; 9 cannot be. */
static void run(enum mirror_sync sync, enum bitmap_sync_mode mode, enum outcome outcome)
{
    trail[0] = '\0';
    default_args();
    args.sync = sync;
    args.bitmap = "bm";
    args.has_bitmap_mode = true;
    args.bitmap_mode = mode;
    args.perf.max_workers = 1;
    args.perf.max_chunk = CLUSTER;
    args.speed = 20 * CLUSTER;
    args.flags = outcome == CANCEL_IN_PENDING ? JOB_MANUAL_FINALIZE : 0;
    broken = (struct failing){
        .op = SIM_OP_WRITE, .from = 9 * CLUSTER, .to = 10 * CLUSTER, .error = -EIO, .count = outcome == FAILURE};
    if (outcome == CANCEL) {
        broken = (struct failing){.op = SIM_OP_WRITE,
                                  .from = 9 * CLUSTER,
                                  .to = 10 * CLUSTER,
                                  .error = -EIO,
                                  .count = 1,
                                  .extra_latency_ns = 10 * NS_PER_S};
    }
    fail_requests(&broken, dst_disk);
    Job *job = start();
    assert_true(bdrv_dirty_bitmap_busy(backup_sync_bitmap(job)));
    run_for(300 * NS_PER_MS);
    guest_write(4 * CLUSTER, 512, 0x70);
    if (outcome == CANCEL) {
        run_for(NS_PER_S);
        verb(job, verb_cancel_force);
    } else if (outcome == CANCEL_IN_PENDING) {
        wait_trail("PENDING");
        verb(job, verb_cancel_force);
    }
    settle();
    assert_non_null(strstr(trail, outcome == SUCCESS   ? "COMPLETED S:concluded S:null"
                                  : outcome == FAILURE ? "COMPLETED(Input/output error) S:concluded S:null"
                                                       : "CANCELLED S:concluded S:null"));
}

static void expect_bits(enum mirror_sync sync, enum bitmap_sync_mode mode, enum outcome outcome, uint64_t bits)
{
    backup_world(BYTES);
    old_bits(add_bitmap("bm", CLUSTER));
    run(sync, mode, outcome);
    const BdrvDirtyBitmap *bitmap = bdrv_find_dirty_bitmap(src, "bm");
    assert_non_null(bitmap);
    if (dirty("bm") != bits) {
        fail_msg("sync %d, mode %d, outcome %d: 0x%llx, not 0x%llx", (int)sync, (int)mode, (int)outcome,
                 (unsigned long long)dirty("bm"), (unsigned long long)bits);
    }
    assert_true(bdrv_dirty_bitmap_enabled(bitmap) && !bdrv_dirty_bitmap_busy(bitmap));
    /* it goes on recording */
    guest_write(12 * CLUSTER, 512, 0x71);
    assert_int_equal(dirty("bm"), bits | 1 << 12);
    assert_null(bdrv_dirty_bitmap_next(src, bitmap));
    assert_clean();
}

#define BOTH (OLD | NEW)

/* fact: jobs 5.4/on-success; bitmaps 2.2/backup-modes */
static void test_on_success(void **state)
{
    expect_bits(MIRROR_SYNC_BITMAP, BITMAP_SYNC_ON_SUCCESS, SUCCESS, NEW);
}

static void test_on_success_failure(void **state)
{
    expect_bits(MIRROR_SYNC_BITMAP, BITMAP_SYNC_ON_SUCCESS, FAILURE, BOTH);
}

static void test_on_success_cancel(void **state)
{
    expect_bits(MIRROR_SYNC_BITMAP, BITMAP_SYNC_ON_SUCCESS, CANCEL, BOTH);
}

/* fact: jobs 5.4/in-pending */
static void test_on_success_pending(void **state)
{
    expect_bits(MIRROR_SYNC_BITMAP, BITMAP_SYNC_ON_SUCCESS, CANCEL_IN_PENDING, BOTH);
}

static void test_incremental_failure(void **state)
{
    expect_bits(MIRROR_SYNC_INCREMENTAL, BITMAP_SYNC_ON_SUCCESS, FAILURE, BOTH);
}

/* fact: jobs 5.4/never; bitmaps 2.2/backup-modes */
static void test_never(void **state)
{
    expect_bits(MIRROR_SYNC_BITMAP, BITMAP_SYNC_NEVER, SUCCESS, BOTH);
}

static void test_never_failure(void **state)
{
    expect_bits(MIRROR_SYNC_BITMAP, BITMAP_SYNC_NEVER, FAILURE, BOTH);
}

static void test_never_cancel(void **state)
{
    expect_bits(MIRROR_SYNC_BITMAP, BITMAP_SYNC_NEVER, CANCEL, BOTH);
}

static void test_never_pending(void **state)
{
    expect_bits(MIRROR_SYNC_BITMAP, BITMAP_SYNC_NEVER, CANCEL_IN_PENDING, BOTH);
}

/* fact: jobs 5.4/always; bitmaps 2.2/backup-modes */
static void test_always(void **state)
{
    expect_bits(MIRROR_SYNC_BITMAP, BITMAP_SYNC_ALWAYS, SUCCESS, NEW);
}

/* 1 and 2 are in the target: only 9 is missing. */
/* fact: jobs 5.4/always, edge/44 */
static void test_always_failure(void **state)
{
    expect_bits(MIRROR_SYNC_BITMAP, BITMAP_SYNC_ALWAYS, FAILURE, NEW | 1 << 9);
}

static void test_always_cancel(void **state)
{
    expect_bits(MIRROR_SYNC_BITMAP, BITMAP_SYNC_ALWAYS, CANCEL, NEW | 1 << 9);
}

/* fact: jobs 5.4/in-pending */
static void test_always_pending(void **state)
{
    expect_bits(MIRROR_SYNC_BITMAP, BITMAP_SYNC_ALWAYS, CANCEL_IN_PENDING, NEW);
}

static void test_full(void **state)
{
    expect_bits(MIRROR_SYNC_FULL, BITMAP_SYNC_ON_SUCCESS, SUCCESS, NEW);
}

static void test_full_failure(void **state)
{
    expect_bits(MIRROR_SYNC_FULL, BITMAP_SYNC_ON_SUCCESS, FAILURE, BOTH);
}

static void test_full_always(void **state)
{
    expect_bits(MIRROR_SYNC_FULL, BITMAP_SYNC_ALWAYS, SUCCESS, NEW);
}

/* What was never in the bitmap is missing in the target, too. */
/* fact: jobs 5.4/always, edge/44 */
static void test_full_always_failure(void **state)
{
    expect_bits(MIRROR_SYNC_FULL, BITMAP_SYNC_ALWAYS, FAILURE, NEW | 0xfe00);
}

static void test_full_always_pending(void **state)
{
    expect_bits(MIRROR_SYNC_FULL, BITMAP_SYNC_ALWAYS, CANCEL_IN_PENDING, NEW);
}

/* --- beside the bits ------------------------------------------------------------------------------------- */

/* fact: jobs 5.4/busy */
static void test_busy(void **state)
{
    Error *err = NULL;

    backup_world(BYTES);
    BdrvDirtyBitmap *bitmap = add_bitmap("bm", CLUSTER);
    old_bits(bitmap);
    args.sync = MIRROR_SYNC_INCREMENTAL;
    args.bitmap = "bm";
    args.speed = 1;
    Job *job = start();
    assert_ptr_equal(bdrv_find_dirty_bitmap(src, "bm"), bitmap);
    assert_true(bdrv_dirty_bitmap_recording(bitmap));
    assert_false(bdrv_dirty_bitmap_enabled(bitmap));
    assert_true(bdrv_dirty_bitmap_check(bitmap, BDRV_BITMAP_BUSY, &err) < 0);
    assert_string_equal(error_get_pretty(err),
                        "Bitmap 'bm' is currently in use by another operation and cannot be used");
    error_free(err);
    guest_write(0, CLUSTER, 0x70);
    assert_int_equal(dirty("bm"), OLD);
    args.job_id = "c";
    assert_string_not_equal(try_start(), "");
    verb(job, verb_cancel_force);
    settle();
    assert_int_equal(dirty("bm"), OLD | 1);
    assert_clean();
}

static void name_and_state(bool enabled, enum bitmap_sync_mode mode, uint64_t bits)
{
    backup_world(BYTES);
    BdrvDirtyBitmap *bitmap = add_bitmap("bm", CLUSTER);
    old_bits(bitmap);
    bdrv_dirty_bitmap_set_persistence(bitmap, true);
    if (!enabled) {
        bdrv_disable_dirty_bitmap(bitmap);
    }
    run(MIRROR_SYNC_BITMAP, mode, SUCCESS);
    bitmap = bdrv_find_dirty_bitmap(src, "bm");
    assert_true(bdrv_dirty_bitmap_persistent(bitmap));
    assert_int_equal(bdrv_dirty_bitmap_enabled(bitmap), enabled);
    assert_int_equal(bdrv_dirty_bitmap_granularity(bitmap), CLUSTER);
    assert_int_equal(dirty("bm"), bits);
    assert_clean();
}

/* fact: jobs 5.4/name */
static void test_name_abdicate(void **state)
{
    name_and_state(true, BITMAP_SYNC_ON_SUCCESS, NEW);
}

static void test_name_reclaim(void **state)
{
    name_and_state(true, BITMAP_SYNC_NEVER, BOTH);
}

/* One that was switched off stays so, and nothing was recorded. */
static void test_name_disabled(void **state)
{
    name_and_state(false, BITMAP_SYNC_ON_SUCCESS, 0);
}

static void test_name_disabled_reclaim(void **state)
{
    name_and_state(false, BITMAP_SYNC_NEVER, OLD);
}

/* The job is killed while a guest's write saves a cluster, and the save fails after that: the target does not have
 * it, so the bitmap must say so. Whoever looks at once sees a cluster that is neither copied nor left, and loses
 * it.
 */
/* fact: jobs 5.4/always */
static void test_kill_while_saving(void **state)
{
    struct failing late = {.op = SIM_OP_WRITE,
                           .from = 9 * CLUSTER,
                           .to = 10 * CLUSTER,
                           .error = -EIO,
                           .count = 1,
                           .extra_latency_ns = NS_PER_S};
    struct io io = {.offset = 9 * CLUSTER, .bytes = 512, .fill = 0x70};

    backup_world(BYTES);
    old_bits(add_bitmap("bm", CLUSTER));
    fail_requests(&late, dst_disk);
    args.sync = MIRROR_SYNC_BITMAP;
    args.bitmap = "bm";
    args.has_bitmap_mode = true;
    args.bitmap_mode = BITMAP_SYNC_ALWAYS;
    args.speed = 1;
    args.perf.max_workers = 1;
    args.perf.max_chunk = CLUSTER;
    Job *job = start();
    run_for(100 * NS_PER_MS);
    io_submit(&io);
    run_for(100 * NS_PER_MS);
    verb(job, verb_cancel_force);
    settle();
    assert_true(io.done);
    assert_int_equal(io.ret, -EIO);
    assert_int_equal(dirty("bm"), 1 << 2 | 1 << 9); /* 1 was copied */
    assert_clean();
}

/* A read-only bitmap says what to copy, and is not changed. */
/* fact: jobs 5.3/read-only */
static void test_read_only(void **state)
{
    backup_world(BYTES);
    BdrvDirtyBitmap *bitmap = add_bitmap("bm", CLUSTER);
    old_bits(bitmap);
    bdrv_dirty_bitmap_set_readonly(bitmap, true);
    args.sync = MIRROR_SYNC_BITMAP;
    args.bitmap = "bm";
    args.has_bitmap_mode = true;
    args.bitmap_mode = BITMAP_SYNC_ALWAYS;
    assert_string_equal(try_start(), "Bitmap 'bm' is readonly and cannot be modified");
    args.bitmap_mode = BITMAP_SYNC_ON_SUCCESS;
    assert_string_equal(try_start(), "Bitmap 'bm' is readonly and cannot be modified");
    args.bitmap_mode = BITMAP_SYNC_NEVER;
    start();
    settle();
    expect_trail(BEGIN " " DONE);
    assert_target(OLD);
    assert_ptr_equal(bdrv_find_dirty_bitmap(src, "bm"), bitmap);
    assert_true(bdrv_dirty_bitmap_readonly(bitmap));
    assert_int_equal(dirty("bm"), OLD);
    bdrv_dirty_bitmap_set_readonly(bitmap, false);
    assert_clean();
}

int main(void)
{
#define BACKUP_TEST(name, fn) \
    { \
        name, fn, world_setup, world_teardown, NULL \
    }
    const struct CMUnitTest tests[] = {
        BACKUP_TEST("/backup/bitmap/on-success/success", test_on_success),
        BACKUP_TEST("/backup/bitmap/on-success/failure", test_on_success_failure),
        BACKUP_TEST("/backup/bitmap/on-success/cancel", test_on_success_cancel),
        BACKUP_TEST("/backup/bitmap/on-success/cancel-in-pending", test_on_success_pending),
        BACKUP_TEST("/backup/bitmap/incremental/failure", test_incremental_failure),
        BACKUP_TEST("/backup/bitmap/never/success", test_never),
        BACKUP_TEST("/backup/bitmap/never/failure", test_never_failure),
        BACKUP_TEST("/backup/bitmap/never/cancel", test_never_cancel),
        BACKUP_TEST("/backup/bitmap/never/cancel-in-pending", test_never_pending),
        BACKUP_TEST("/backup/bitmap/always/success", test_always),
        BACKUP_TEST("/backup/bitmap/always/failure", test_always_failure),
        BACKUP_TEST("/backup/bitmap/always/cancel", test_always_cancel),
        BACKUP_TEST("/backup/bitmap/always/cancel-in-pending", test_always_pending),
        BACKUP_TEST("/backup/bitmap/full/on-success/success", test_full),
        BACKUP_TEST("/backup/bitmap/full/on-success/failure", test_full_failure),
        BACKUP_TEST("/backup/bitmap/full/always/success", test_full_always),
        BACKUP_TEST("/backup/bitmap/full/always/failure", test_full_always_failure),
        BACKUP_TEST("/backup/bitmap/full/always/cancel-in-pending", test_full_always_pending),
        BACKUP_TEST("/backup/bitmap/busy", test_busy),
        BACKUP_TEST("/backup/bitmap/name/abdicate", test_name_abdicate),
        BACKUP_TEST("/backup/bitmap/name/reclaim", test_name_reclaim),
        BACKUP_TEST("/backup/bitmap/name/disabled", test_name_disabled),
        BACKUP_TEST("/backup/bitmap/name/disabled-reclaim", test_name_disabled_reclaim),
        BACKUP_TEST("/backup/bitmap/kill-while-saving", test_kill_while_saving),
        BACKUP_TEST("/backup/bitmap/read-only", test_read_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
