/* Protects check/job_media: a commit that keeps a failed write to itself, a sleeper that does not park, and a
 * backup whose work grows are reported. */
#include "tests/check/chain_world.h"

#include <errno.h>

static Job *slow_commit(void)
{
    chain_world(CHAIN_BYTES);
    assert_true(qmp("block-commit", "{\"job-id\":\"m\",\"device\":\"n3\",\"top-node\":\"n2\",\"base-node\":\"n0\","
                                    "\"speed\":524288,\"on-error\":\"ignore\"}"));
    return job_find(host, "m");
}

static bool job_sleeps(void *opaque)
{
    const Job *job = opaque;

    return job->started && !job->busy && job->progress_current > 0;
}

static bool job_parked(void *opaque)
{
    return ((Job *)opaque)->status == JOB_STATUS_PAUSED;
}

static void test_silent(void **state)
{
    Job *job = slow_commit();

    arm("error", "{\"disk\":\"n0\",\"op\":\"write\",\"count\":2}");
    run_until(job_sleeps, job);
    assert_true(qmp("block-job-pause", "{\"device\":\"m\"}"));
    run_until(job_parked, job);
    assert_true(qmp("block-job-resume", "{\"device\":\"m\"}"));
    wait_gone();
    finish_chain();
    assert_silent();
}

/* A write of the job's that fails without its knowing. */
static void rogue_write(void *opaque)
{
    struct payload data;

    payload_init(world, &data);
    payload_append_fill(&data, 0, 512);
    disk_co_write(disk_find(world, "n0"), CHAIN_BYTES - 512, 512, &data, 0);
    payload_clear(&data);
    *(bool *)opaque = true;
}

static void test_error_untold(void **state)
{
    Job *job = slow_commit();
    Coroutine *co;
    bool done = false;

    run_until(job_sleeps, job);
    arm("error", "{\"disk\":\"n0\",\"op\":\"write\",\"origin\":\"job\",\"count\":1}");
    co = coroutine_create(world, host, "rogue", rogue_write, &done);
    coroutine_set_origin(co, (struct sim_origin){.kind = SIM_ORIGIN_JOB, .name = job->id});
    coroutine_start(co);
    run_until(flag_set, &done);
    wait_gone();
    settle();
    assert_violated("job-machine.error-untold.commit");
}

/* The pause is counted, and nobody wakes the sleeper for it: it goes on when its time is up. */
static void test_slept_on(void **state)
{
    Job *job = slow_commit();

    run_until(job_sleeps, job);
    SIM_EMIT(world, host, job_pause_count, job, SIM_P(job->id), 1u, true);
    wait_gone();
    settle();
    assert_violated("job-machine.slept-on.commit.running.-.read");
}

/* Somebody else reckons again, and forgets nothing but what has been done. */
static void test_total_grew(void **state)
{
    Job *job;

    mirror_world(4 * MiB, 4 * MiB);
    assert_true(qmp("blockdev-backup", "{\"job-id\":\"m\",\"device\":\"s\",\"target\":\"d\",\"sync\":\"full\","
                                       "\"speed\":1048576,\"x-perf\":{\"max-chunk\":65536}}"));
    job = job_find(host, "m");
    sim_run_idle(world, NULL, NULL, sim_now(world) + 5 * NS_PER_S / 2);
    assert_true(job->progress_current > MiB);
    job_progress_set_remaining(job, 4 * MiB);
    assert_true(qmp("block-job-pause", "{\"device\":\"m\"}"));
    settle();
    assert_violated("job-machine.total-grew.backup");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/job-media/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/job-media/error-untold", test_error_untold, world_setup, world_teardown),
        T_SETUP("/check/job-media/slept-on", test_slept_on, world_setup, world_teardown),
        T_SETUP("/check/job-media/total-grew", test_total_grew, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
