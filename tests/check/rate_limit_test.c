/* Protects check/rate_limit: a mirror that is too fast, too slow or woken early is reported. */
#include "tests/check/check_world.h"

static BlockJob *limited_mirror(const char *more)
{
    char json[160];

    mirror_world(8 * MiB, 8 * MiB);
    snprintf(json, sizeof(json), ",\"granularity\":65536,\"buf-size\":1048576,\"speed\":1048576%s", more);
    assert_true(start_mirror(json));
    return block_job_of(job_find(host, "m"));
}

static void test_silent(void **state)
{
    limited_mirror("");
    sim_run_idle(world, NULL, NULL, sim_now(world) + 2 * NS_PER_S);
    assert_true(qmp("block-job-set-speed", "{\"device\":\"m\",\"speed\":300000}"));
    sim_run_idle(world, NULL, NULL, sim_now(world) + 3 * NS_PER_S);
    assert_true(qmp("block-job-pause", "{\"device\":\"m\"}"));
    sim_run_idle(world, NULL, NULL, sim_now(world) + NS_PER_S);
    assert_true(qmp("block-job-resume", "{\"device\":\"m\"}"));
    assert_true(qmp("block-job-set-speed", "{\"device\":\"m\",\"speed\":2000000}"));
    wait_ready();
    complete_mirror();
    finish();
    assert_silent();
}

/* The limiter works with another speed than the one it was told. */
/* fact: jobs edge/8 */
static void test_above(void **state)
{
    BlockJob *job = limited_mirror("");

    ratelimit_set_speed(&job->limit, 50 * MiB);
    wait_ready();
    assert_violated("rate-limit.above.mirror");
}

static void test_starved(void **state)
{
    BlockJob *job = limited_mirror("");

    ratelimit_set_speed(&job->limit, 256 * KiB);
    wait_ready();
    assert_violated("rate-limit.starved.mirror");
}

/* Every write of the job's wakes it, and the limiter has forgotten what was charged: as if completions ended the
 * sleep [seed 7b770c7]. */
static void wake(void *opaque, const struct sim_record *record)
{
    Job *job = job_find(host, "m");

    if (job && job->status == JOB_STATUS_RUNNING && job->sleep_is_rate) {
        ((BlockJob *)job)->limit.dispatched = 0;
        ((BlockJob *)job)->limit.slice_end_ns = 0;
        job_kick(job);
    }
}

/* fact: jobs edge/7 */
static void test_early(void **state)
{
    limited_mirror("");
    sim_subscribe(world, EV_disk_complete, wake, NULL);
    sim_run_idle(world, NULL, NULL, sim_now(world) + 3 * NS_PER_S);
    assert_violated("rate-limit.early.mirror");
}

/* A ready mirror takes itself for one that is not, and waits for its limit. */
/* fact: jobs edge/11 */
static void test_ready_throttled(void **state)
{
    BlockJob *job = limited_mirror("");

    wait_ready();
    job->job.status = JOB_STATUS_RUNNING;
    job->limit.dispatched = 64 * MiB;
    job->limit.slice_end_ns = sim_now(world) + NS_PER_S;
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 1 << 24), 0);
    sim_run_idle(world, NULL, NULL, sim_now(world) + NS_PER_S);
    assert_violated("rate-limit.ready-throttled.mirror");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/rate-limit/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/rate-limit/above", test_above, world_setup, world_teardown),
        T_SETUP("/check/rate-limit/starved", test_starved, world_setup, world_teardown),
        T_SETUP("/check/rate-limit/early", test_early, world_setup, world_teardown),
        T_SETUP("/check/rate-limit/ready-throttled", test_ready_throttled, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
