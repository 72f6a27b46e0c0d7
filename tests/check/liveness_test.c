/* Protects check/liveness: what is unfinished while nothing is pending is a hang; waiting by right is not. */
#include "tests/check/check_world.h"

static void test_silent(void **state)
{
    struct io io;

    mirror_world(4 * MiB, MiB);
    assert_true(start_mirror(",\"auto-finalize\":false"));
    settle(); /* ready: waits for its user */
    assert_true(qmp("block-job-pause", "{\"device\":\"m\"}"));
    settle();
    assert_true(qmp("block-job-resume", "{\"device\":\"m\"}"));
    assert_true(qmp("block-job-complete", "{\"device\":\"m\"}"));
    settle();
    io_submit(&io, SIM_OP_WRITE, 0, 4096, 1 << 24); /* stands until the job is finalized */
    settle();
    assert_false(io.done);
    assert_true(qmp("block-job-finalize", "{\"id\":\"m\"}"));
    run_until(flag_set, &io.done);
    guest_req_clear(&io.req);
    finish();
    assert_silent();
}

/* A stuck request excuses everybody, until faults stop. */
static void test_stuck(void **state)
{
    struct io io;

    mirror_world(4 * MiB, MiB);
    arm("stuck", "{\"disk\":\"src\",\"op\":\"write\"}");
    io_submit(&io, SIM_OP_WRITE, 0, 4096, 1 << 24);
    settle();
    assert_false(io.done);
    assert_silent();
    check_final(checks);
    assert_violated("liveness.hang.-.-.raw.guest");
    fault_stop_all(world);
    run_until(flag_set, &io.done);
    guest_req_clear(&io.req);
}

/* A pause that is counted and never taken back, as after an error burst [M04-like: J04]. */
static void test_paused_for_ever(void **state)
{
    mirror_world(4 * MiB, 4 * MiB);
    assert_true(start_mirror(",\"speed\":1048576"));
    job_pause(job_find(host, "m"));
    settle();
    assert_violated("liveness.hang.mirror.paused.-.job");
}

/* A section that is begun and never ended. */
static void drain_entry(void *opaque)
{
    bdrv_drained_begin(bdrv_find_node(host, "s"));
}

static void test_drained_for_ever(void **state)
{
    struct io io;

    mirror_world(4 * MiB, 0);
    on_main(drain_entry, NULL);
    io_submit(&io, SIM_OP_READ, 0, 4096, 1 << 24);
    settle();
    assert_violated("liveness.hang.-.-.raw.guest");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/liveness/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/liveness/stuck", test_stuck, world_setup, world_teardown),
        T_SETUP("/check/liveness/paused", test_paused_for_ever, world_setup, world_teardown),
        T_SETUP("/check/liveness/drained", test_drained_for_ever, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
