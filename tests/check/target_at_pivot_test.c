/* Protects check/target_at_pivot: a mirror whose medium cheats is found out at READY, at the end or in between. */
#include "tests/check/check_world.h"

#include "jobs/mirror_int.h"

static void test_silent(void **state)
{
    mirror_world(8 * MiB, 4 * MiB);
    assert_true(start_mirror(",\"granularity\":65536"));
    wait_ready();
    for (int i = 0; i < 20; i++) {
        assert_int_equal(io_run(SIM_OP_WRITE, i * 100 * KiB, 36 * KiB, 1 << 24), 0);
    }
    complete_mirror();
    finish();
    assert_silent();
}

/* A ready mirror that is cancelled softly leaves a true copy, too. */
static void test_soft_cancel(void **state)
{
    mirror_world(2 * MiB, MiB);
    assert_true(start_mirror(""));
    wait_ready();
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 1 << 24), 0);
    assert_true(qmp("block-job-cancel", "{\"device\":\"m\"}"));
    run_until(job_gone, NULL);
    finish();
    assert_silent();
}

static void test_lost_in_bulk(void **state)
{
    mirror_world(4 * MiB, 2 * MiB);
    arm("lost-write", "{\"disk\":\"dst\",\"nth\":2}");
    assert_true(start_mirror(",\"granularity\":65536"));
    wait_ready();
    assert_violated("target-at-pivot.clean-but-different.mirror.ready.raw");
}

static void test_misdirected(void **state)
{
    mirror_world(4 * MiB, 2 * MiB);
    arm("misdirected-write", "{\"disk\":\"dst\",\"shift\":131072}");
    assert_true(start_mirror(",\"granularity\":65536"));
    wait_ready();
    assert_violated("target-at-pivot.clean-but-different.mirror.ready.raw");
}

static void lose_while_ready(const char *command)
{
    mirror_world(4 * MiB, 2 * MiB);
    assert_true(start_mirror(",\"granularity\":65536"));
    wait_ready();
    arm("torn-write", "{\"disk\":\"dst\"}");
    assert_int_equal(io_run(SIM_OP_WRITE, 64 * KiB, 64 * KiB, 1 << 24), 0);
    assert_true(qmp(command, "{\"device\":\"m\"}"));
    run_until(job_gone, NULL);
    assert_violated("target-at-pivot.target-differs.mirror.completed.raw");
}

static void test_lost_before_pivot(void **state)
{
    lose_while_ready("block-job-complete");
}

static void test_lost_before_soft_cancel(void **state)
{
    lose_while_ready("block-job-cancel");
}

/* Whose data is missing, and what is there instead. */
static void test_words(void **state)
{
    mirror_world(4 * MiB, 2 * MiB);
    assert_true(start_mirror(",\"granularity\":65536"));
    wait_ready();
    assert_int_equal(io_run(SIM_OP_WRITE, 64 * KiB, 4 * KiB, UINT64_C(5) << 32 | 128), 0);
    settle();
    arm("lost-write", "{\"disk\":\"dst\"}");
    assert_int_equal(io_run(SIM_OP_WRITE, 64 * KiB, 4 * KiB, UINT64_C(6) << 32 | 128), 0);
    complete_mirror();
    assert_said("(sector 128): expected as in source s the guest write submitted at event ");
    assert_said(" (its sector 128); seen stamp 0x0000000000100080 of nobody");
}

static void test_rot(void **state)
{
    mirror_world(4 * MiB, 2 * MiB);
    assert_true(start_mirror(",\"granularity\":65536"));
    wait_ready();
    arm("bit-rot", "{\"disk\":\"dst\",\"offset\":70000}");
    settle();
    assert_violated("target-at-pivot.clean-but-different");
}

/* A cancelled mirror promises nothing. */
static void test_cancelled(void **state)
{
    mirror_world(4 * MiB, 2 * MiB);
    arm("lost-write", "{\"disk\":\"dst\"}");
    assert_true(start_mirror(",\"speed\":65536"));
    assert_true(qmp("block-job-cancel", "{\"device\":\"m\",\"force\":true}"));
    run_until(job_gone, NULL);
    finish();
    assert_silent();
}

/* The nodes believe that all they wrote was flushed. */
static void believe_flushed(void *opaque, const struct sim_record *record)
{
    BlockDriverState *bs = bdrv_find_node(host, "d");

    for (; bs; bs = bdrv_primary_bs(bs)) {
        bs->flushed_gen = bs->write_gen;
    }
}

static void test_not_flushed(void **state)
{
    mirror_world(2 * MiB, MiB);
    sim_subscribe(world, EV_mirror_op_end, believe_flushed, NULL);
    assert_true(start_mirror(",\"granularity\":65536"));
    wait_ready();
    assert_violated("target-at-pivot.not-flushed.mirror.ready");
}

/* The job confuses what it was told at its last look. */
static void confuse(void *opaque, const struct sim_record *record)
{
    mirror_of(job_find(host, "m"))->should_complete ^= true;
}

static void end_confused(const char *command)
{
    mirror_world(2 * MiB, MiB);
    sim_subscribe(world, EV_mirror_final_drain, confuse, NULL);
    assert_true(start_mirror(""));
    wait_ready();
    assert_true(qmp(command, "{\"device\":\"m\"}"));
    run_until(job_gone, NULL);
    assert_violated("target-at-pivot.switch.mirror.completed");
}

static void test_not_switched(void **state)
{
    end_confused("block-job-complete");
}

static void test_switched_unasked(void **state)
{
    end_confused("block-job-cancel");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/target-at-pivot/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/silent/soft-cancel", test_soft_cancel, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/silent/cancelled", test_cancelled, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/lost-write", test_lost_in_bulk, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/words", test_words, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/misdirected-write", test_misdirected, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/pivot", test_lost_before_pivot, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/soft-cancel", test_lost_before_soft_cancel, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/bit-rot", test_rot, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/not-flushed", test_not_flushed, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/not-switched", test_not_switched, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/switched-unasked", test_switched_unasked, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
