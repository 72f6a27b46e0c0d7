/* Protects check/bitmap_exact: bits, count, searches, size and flags that are not what guests, commands and owners
 * made them are reported, also while a mirror clears and sets its own. */
#include "tests/check/bitmap_bent.h"

static void test_silent(void **state)
{
    with_bitmap();
    assert_true(start_mirror(",\"granularity\":4096,\"speed\":8388608"));
    for (int i = 0; i < 40; i++) {
        assert_int_equal(
            io_run(i % 3 ? SIM_OP_WRITE : SIM_OP_WRITE_ZEROES, (i * 37 % 100) * 8 * KiB, 12 * KiB, 1 << 24), 0);
    }
    assert_true(qmp("block-dirty-bitmap-clear", NAME_B));
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 512, 1 << 24), 0);
    wait_ready();
    complete_mirror();
    finish();
    assert_silent();
}

static void test_missing(void **state)
{
    with_bitmap();
    hbitmap_reset(b()->hbitmap, 64 * KiB, 64 * KiB);
    settle();
    assert_violated("bitmap-exact.bit-missing.-.-.raw");
}

static void test_missing_discard(void **state)
{
    with_bitmap();
    hbitmap_reset(b()->hbitmap, 2 * MiB, 64 * KiB);
    settle();
    assert_violated("bitmap-exact.bit-missing");
}

/* What a write that failed left on the disk is unknown: it marks like any other. */
static void test_missing_after_failure(void **state)
{
    with_bitmap();
    arm("error", "{\"disk\":\"src\",\"op\":\"write\",\"errno\":\"EIO\"}");
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 4096, 1 << 24), -EIO);
    settle();
    assert_silent();
    hbitmap_reset(b()->hbitmap, 3 * MiB, 64 * KiB);
    settle();
    assert_violated("bitmap-exact.bit-missing");
}

static void test_extra(void **state)
{
    with_bitmap();
    hbitmap_set(b()->hbitmap, 3 * MiB, 1);
    settle();
    assert_violated("bitmap-exact.bit-extra.-.-.raw");
}

/* A disabled bitmap records nothing: what a write marks in it is one too many. */
static void test_disabled(void **state)
{
    with_bitmap();
    assert_true(qmp("block-dirty-bitmap-disable", NAME_B));
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 512, 1 << 24), 0);
    settle();
    assert_silent();
    hbitmap_set(b()->hbitmap, 3 * MiB, 512);
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 512, 1 << 24), 0);
    assert_violated("bitmap-exact.bit-extra.-.-.raw.write");
}

/* A job that clears its own bits and those of its neighbour. */
static void clear_neighbour(void *opaque, const struct sim_record *record)
{
    static bool within;

    if (!within && record->ref != b()) {
        within = true;
        bdrv_reset_dirty_bitmap(b(), (int64_t)record->field[2], (int64_t)record->field[3]);
        within = false;
    }
}

static void test_job_clears_all(void **state)
{
    with_bitmap();
    sim_subscribe(world, EV_bitmap_reset, clear_neighbour, NULL);
    assert_true(start_mirror(",\"granularity\":65536"));
    wait_ready();
    assert_violated("bitmap-exact.bit-missing.mirror");
}

static void test_zero_length(void **state)
{
    with_bitmap();
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 0, 1 << 24), 0);
    assert_silent();
    hbitmap_set(b()->hbitmap, 3 * MiB - 1, 1); /* the group before, as start + 0 - 1 would give */
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 0, 1 << 24), 0);
    assert_violated("bitmap-exact.bit-extra.-.-.raw.write");
}

static void test_count(void **state)
{
    with_bitmap();
    b()->hbitmap->set_count--;
    settle();
    assert_violated("bitmap-exact.count-wrong.-.-.raw");
}

static void test_search(void **state)
{
    with_bitmap();
    assert_int_equal(io_run(SIM_OP_WRITE, 63 * 64 * KiB, 64 * KiB, 1 << 24), 0);
    assert_true(qmp("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"fine\",\"granularity\":512}"));
    assert_int_equal(io_run(SIM_OP_WRITE, 128 * KiB, 512, 1 << 24), 0);
    settle();
    assert_silent();
    /* 512-byte group 256 is in word 4 of the leaf; searches now pass it by */
    ((struct hbitmap_leaf *)hbitmap_leaf_at(bitmap_of("s", "fine")->hbitmap, 256))->any = 0;
    settle();
    assert_violated("bitmap-exact.search-wrong.-.-.raw");
}

static void test_size(void **state)
{
    with_bitmap();
    hbitmap_truncate(b()->hbitmap, 8 * MiB);
    settle();
    assert_violated("bitmap-exact.size-wrong.-.-.raw");
}

/* Shrinking keeps the group that is cut in half and loses what lies behind, growing adds nothing. */
static void test_resize(void **state)
{
    with_bitmap();
    assert_true(qmp("block_resize", "{\"node-name\":\"s\",\"size\":102400}"));
    assert_int_equal(bdrv_get_dirty_count(b()), 64 * KiB);
    assert_true(qmp("block_resize", "{\"node-name\":\"s\",\"size\":4194304}"));
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 512, 1 << 24), 0);
    settle();
    assert_silent();
    hbitmap_set(b()->hbitmap, 2 * MiB, 1); /* what the shrinking has dropped */
    look();
    assert_violated("bitmap-exact.bit-extra.-.-.raw.block-dirty-bitmap-enable");
}

static void test_flag(void **state)
{
    with_bitmap();
    b()->disabled = true;
    assert_true(qmp("query-block-jobs", "{}"));
    assert_violated("bitmap-exact.flag-wrong.-.-.raw.query-block-jobs");
    assert_said("expected enabled set");
}

static void test_successor(void **state)
{
    with_bitmap();
    on_main(freeze_entry, NULL);
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 512, 1 << 24), 0);
    on_main(reclaim_entry, NULL);
    assert_int_equal(bdrv_get_dirty_count(b()), 256 * KiB);
    on_main(freeze_entry, NULL);
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 512, 1 << 24), 0);
    on_main(abdicate_entry, NULL);
    assert_int_equal(bdrv_get_dirty_count(b()), 64 * KiB);
    assert_true(qmp("block-dirty-bitmap-clear", NAME_B));
    finish();
    assert_silent();
}

/* The successor holds what guests wrote since, no more and no less. */
static void test_successor_missing(void **state)
{
    with_bitmap();
    on_main(freeze_entry, NULL);
    assert_int_equal(io_run(SIM_OP_WRITE, 3 * MiB, 512, 1 << 24), 0);
    hbitmap_reset_all(b()->successor->hbitmap);
    on_main(abdicate_entry, NULL);
    assert_violated("bitmap-exact.bit-missing.-.-.raw.abdicate");
}

#define EXACT(name, fn) T_SETUP("/check/bitmap-exact/" name, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXACT("silent", test_silent),
        EXACT("missing", test_missing),
        EXACT("missing-discard", test_missing_discard),
        EXACT("missing-after-failure", test_missing_after_failure),
        EXACT("extra", test_extra),
        EXACT("disabled", test_disabled),
        EXACT("job-clears-all", test_job_clears_all),
        EXACT("zero-length", test_zero_length),
        EXACT("count", test_count),
        EXACT("search", test_search),
        EXACT("size", test_size),
        EXACT("resize", test_resize),
        EXACT("flag", test_flag),
        EXACT("successor", test_successor),
        EXACT("successor-missing", test_successor_missing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
