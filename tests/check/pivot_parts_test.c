/* Protects check/target_at_pivot for jobs that copy a part: active commits, mirrors of the top layer, and targets
 * that show the rest through a backing node. */
#include "tests/check/chain_world.h"

#include "jobs/mirror_int.h"

#define ACTIVE "{\"job-id\":\"m\",\"device\":\"n3\",\"base-node\":\"n0\"}"
#define TOP "{\"job-id\":\"m\",\"device\":\"n3\",\"target\":\"d\",\"sync\":\"top\",\"granularity\":65536}"
#define DRIVE(sync) \
    "{\"job-id\":\"m\",\"device\":\"g\",\"target\":\"t\",\"format\":\"qcow2\",\"granularity\":4096,\"sync\":" \
    "\"" sync "\"}"

static void top_world(void)
{
    chain_world(CHAIN_BYTES);
    assert_int_equal(io_run(SIM_OP_WRITE, 512 * KiB, 64 * KiB, 1 << 24), 0);
    new_disk("d", CHAIN_BYTES);
    add_raw("d", "d");
}

/* --- active commit ------------------------------------------------------------------------------------------- */

static void test_active(void **state)
{
    chain_world(CHAIN_BYTES);
    assert_true(qmp("block-commit", ACTIVE));
    wait_ready();
    assert_int_equal(io_run(SIM_OP_WRITE, 64 * KiB, 64 * KiB, 1 << 24), 0);
    complete_mirror();
    finish_chain();
    assert_silent();
}

static void test_active_soft_cancel(void **state)
{
    chain_world(CHAIN_BYTES);
    assert_true(qmp("block-commit", ACTIVE));
    wait_ready();
    assert_int_equal(io_run(SIM_OP_WRITE, 64 * KiB, 64 * KiB, 1 << 24), 0);
    assert_true(qmp("block-job-cancel", "{\"device\":\"m\"}"));
    run_until(job_gone, NULL);
    finish_chain();
    assert_silent();
}

static void test_active_lost(void **state)
{
    chain_world(CHAIN_BYTES);
    arm("lost-write", "{\"disk\":\"n0\",\"nth\":2}");
    assert_true(qmp("block-commit", ACTIVE));
    wait_ready();
    assert_violated("target-at-pivot.clean-but-different.commit.ready.raw");
}

static void lose_while_ready(const char *command)
{
    chain_world(CHAIN_BYTES);
    assert_true(qmp("block-commit", ACTIVE));
    wait_ready();
    arm("lost-write", "{\"disk\":\"n0\"}");
    assert_int_equal(io_run(SIM_OP_WRITE, 64 * KiB, 64 * KiB, 1 << 24), 0);
    assert_true(qmp(command, "{\"device\":\"m\"}"));
    run_until(job_gone, NULL);
    assert_violated("target-at-pivot.target-differs.commit.completed.raw");
}

static void test_active_lost_before_pivot(void **state)
{
    lose_while_ready("block-job-complete");
}

static void test_active_lost_before_cancel(void **state)
{
    lose_while_ready("block-job-cancel");
}

static void confuse(void *opaque, const struct sim_record *record)
{
    mirror_of(job_find(host, "m"))->should_complete ^= true;
}

static void test_active_not_switched(void **state)
{
    chain_world(CHAIN_BYTES);
    sim_subscribe(world, EV_mirror_final_drain, confuse, NULL);
    assert_true(qmp("block-commit", ACTIVE));
    wait_ready();
    complete_mirror();
    assert_violated("target-at-pivot.switch.commit.completed");
}

/* --- the top layer ------------------------------------------------------------------------------------------- */

static void test_top(void **state)
{
    top_world();
    assert_true(qmp("blockdev-mirror", TOP));
    wait_ready();
    assert_true(qmp("block-job-cancel", "{\"device\":\"m\"}"));
    run_until(job_gone, NULL);
    finish_chain();
    assert_silent();
}

/* What only lies below is not owed. */
static void test_top_lost(void **state)
{
    top_world();
    arm("lost-write", "{\"disk\":\"d\"}");
    assert_true(qmp("blockdev-mirror", TOP));
    wait_ready();
    assert_violated("target-at-pivot.clean-but-different.mirror.ready.raw");
    assert_said("(sector 1024): expected as in source n3 the guest write");
}

/* --- targets with a backing node ----------------------------------------------------------------------------- */

static void run_drive(const char *json)
{
    assert_true(qmp("drive-mirror", json));
    wait_ready();
    assert_int_equal(io_run(SIM_OP_WRITE, 1088 * KiB, 4 * KiB, 1 << 24), 0);
    assert_int_equal(io_run(SIM_OP_WRITE, 1900 * KiB, 512, 1 << 24), 0);
    complete_mirror();
}

static void test_drive_top(void **state)
{
    top_world();
    run_drive(DRIVE("top"));
    assert_silent();
}

static void test_drive_none(void **state)
{
    top_world();
    run_drive(DRIVE("none"));
    assert_silent();
}

static void skip_filling_up(void *opaque, const struct sim_record *record)
{
    Job *job = job_find(host, "m");

    if (job && strcmp(sim_record_str(record, 1), "ready") == 0) {
        mirror_cow_mark(mirror_of(job), 0, CHAIN_BYTES);
    }
}

/* Clusters of the target are taken for whole that are not: their rest reads as zeroes. */
/* fact: jobs edge/32 */
static void test_not_filled_up(void **state)
{
    top_world();
    sim_subscribe(world, EV_JOB_STATUS_CHANGE, skip_filling_up, NULL);
    run_drive(DRIVE("none"));
    assert_violated("target-at-pivot.target-differs.mirror.completed.qcow2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/target-at-pivot/active-commit/silent", test_active, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/active-commit/soft-cancel", test_active_soft_cancel, world_setup,
                world_teardown),
        T_SETUP("/check/target-at-pivot/active-commit/lost-write", test_active_lost, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/active-commit/lost-before-pivot", test_active_lost_before_pivot,
                world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/active-commit/lost-before-cancel", test_active_lost_before_cancel,
                world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/active-commit/not-switched", test_active_not_switched, world_setup,
                world_teardown),
        T_SETUP("/check/target-at-pivot/top/silent", test_top, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/top/lost-write", test_top_lost, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/backing/top", test_drive_top, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/backing/none", test_drive_none, world_setup, world_teardown),
        T_SETUP("/check/target-at-pivot/backing/not-filled-up", test_not_filled_up, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
