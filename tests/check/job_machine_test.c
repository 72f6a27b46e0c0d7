/* Protects check/job_machine: a job that moves, works or counts against the rules is reported. */
#include "tests/check/check_world.h"

#include <errno.h>

static Job *slow_mirror(void)
{
    mirror_world(4 * MiB, 4 * MiB);
    assert_true(start_mirror(",\"granularity\":65536,\"buf-size\":65536,\"speed\":1048576"));
    return job_find(host, "m");
}

static bool job_parked(void *opaque)
{
    Job *job = opaque;

    return job->status == JOB_STATUS_PAUSED || job->status == JOB_STATUS_STANDBY;
}

static void test_silent(void **state)
{
    Job *job = slow_mirror();

    assert_true(qmp("block-job-pause", "{\"device\":\"m\"}"));
    run_until(job_parked, job);
    assert_false(qmp("block-job-pause", "{\"device\":\"m\"}"));
    assert_false(qmp("block-job-complete", "{\"device\":\"m\"}"));
    assert_true(qmp("block-job-resume", "{\"device\":\"m\"}"));
    assert_true(qmp("block-job-set-speed", "{\"device\":\"m\",\"speed\":0}"));
    wait_ready();
    assert_true(qmp("block-job-pause", "{\"device\":\"m\"}"));
    run_until(job_parked, job);
    assert_true(qmp("block-job-complete", "{\"device\":\"m\"}"));
    assert_true(qmp("block-job-resume", "{\"device\":\"m\"}"));
    run_until(job_gone, NULL);
    finish();
    assert_silent();
}

static void storm(const char *kinds, uint64_t seed)
{
    char json[128];

    sim_choice_set_seed(world, seed);
    sim_choice_set_policy(world, SIM_POLICY_RANDOM);
    mirror_world(4 * MiB, 4 * MiB);
    snprintf(json, sizeof(json), "{\"job\":\"m\",\"ops\":30,\"think\":\"2ms\",\"kinds\":\"%s\"}", kinds);
    arm("storm", json);
    arm("error", "{\"disk\":\"dst\",\"op\":\"write\",\"permille\":100,\"count\":10}");
    assert_true(start_mirror(",\"granularity\":65536,\"on-target-error\":\"stop\""));
    settle();
    fault_stop_all(world);
    if (job_find(host, "m")) {
        qmp("block-job-resume", "{\"device\":\"m\"}");
        qmp("block-job-set-speed", "{\"device\":\"m\",\"speed\":0}");
        settle();
        qmp("job-cancel", "{\"id\":\"m\"}");
        run_until(job_gone, NULL);
    }
    finish();
    assert_silent();
}

static void test_silent_storms(void **state)
{
    static const char *const kinds[] = {"any", "pause,resume,speed", "pause,resume,complete",
                                        "soft-cancel,pause,resume"};

    for (uint64_t seed = 0; seed < 24; seed++) {
        storm(kinds[seed % ARRAY_SIZE(kinds)], seed);
        world_teardown(NULL);
        world_setup(NULL);
    }
}

static void rogue_read(void *opaque)
{
    struct payload data;

    payload_init(world, &data);
    disk_co_read(disk_find(world, "src"), 0, 512, &data);
    payload_clear(&data);
    *(bool *)opaque = true;
}

/* Something goes on reading for the job. */
/* fact: jobs edge/23 */
static void test_io_while_paused(void **state)
{
    Job *job = slow_mirror();
    Coroutine *co;
    bool done = false;

    assert_true(qmp("block-job-pause", "{\"device\":\"m\"}"));
    run_until(job_parked, job);
    co = coroutine_create(world, host, "rogue", rogue_read, &done);
    coroutine_set_origin(co, (struct sim_origin){.kind = SIM_ORIGIN_JOB, .name = job->id});
    coroutine_start(co);
    run_until(flag_set, &done);
    assert_violated("job-machine.io-while-stopped.mirror.paused.-.read");
}

/* A drain's resume that takes the user's pause along. */
static void test_resumed_unasked(void **state)
{
    Job *job = slow_mirror();

    assert_true(qmp("block-job-pause", "{\"device\":\"m\"}"));
    run_until(job_parked, job);
    job_resume(job);
    settle();
    assert_violated("job-machine.resumed-unasked.mirror");
}

static void test_progress_back(void **state)
{
    Job *job = slow_mirror();

    sim_run_idle(world, NULL, NULL, sim_now(world) + 5 * NS_PER_S / 2);
    assert_true(job->progress_current > MiB);
    job->progress_current = 0;
    settle();
    assert_violated("job-machine.progress-back.mirror");
}

/* A status that nobody was told. */
static void test_unannounced(void **state)
{
    Job *job = slow_mirror();

    wait_ready();
    job->status = JOB_STATUS_STANDBY;
    settle();
    job->status = JOB_STATUS_READY;
    assert_violated("job-machine.status-unannounced.mirror");
}

/* A verb in a state that does not take it. */
static void complete_early(void *opaque, const struct sim_record *record)
{
    const struct qmp_call *call = record->ref;
    Job *job = job_find(host, "m");

    if (job && strcmp(call->command->name, "block-job-complete") == 0) {
        job->status = record->kind == EV_qmp_command ? JOB_STATUS_READY : JOB_STATUS_RUNNING;
    }
}

static void test_verb_accepted(void **state)
{
    slow_mirror();
    sim_subscribe(world, EV_qmp_command, complete_early, NULL);
    sim_subscribe(world, EV_qmp_reply, complete_early, NULL);
    assert_true(qmp("block-job-complete", "{\"device\":\"m\"}"));
    assert_violated("job-machine.verb-accepted.mirror.running.-.block-job-complete");
}

/* A ready mirror is killed though nobody asked for more than a clean end. */
static void kill_job(void *opaque)
{
    job_cancel(opaque, true);
}

static void test_cancelled_unasked(void **state)
{
    Job *job = slow_mirror();

    on_main(kill_job, job);
    run_until(job_gone, NULL);
    assert_violated("job-machine.cancelled-unasked.mirror");
}

/* A forced cancel that the job forgets: it ends cleanly instead. */
static void forget_force(void *opaque, const struct sim_record *record)
{
    Job *job = job_find(host, "m");

    if (job && job->force_cancel) {
        job->force_cancel = false;
    }
}

/* fact: jobs edge/17 */
static void test_cancel_ignored(void **state)
{
    slow_mirror();
    sim_subscribe(world, EV_qmp_reply, forget_force, NULL);
    assert_true(qmp("job-cancel", "{\"id\":\"m\"}"));
    run_until(job_gone, NULL);
    assert_violated("job-machine.cancel-ignored.mirror");
}

static void rogue_query(void *opaque)
{
    assert_int_equal(disk_co_query(disk_find(world, "dst"), SIM_OP_GET_INFO, 0, 0), -EIO);
    *(bool *)opaque = true;
}

/* The job asked about its target, got no answer and went on. */
static void test_query_forgotten(void **state)
{
    Job *job = slow_mirror();
    Coroutine *co;
    bool done = false;

    arm("error", "{\"disk\":\"dst\",\"op\":\"get-info\",\"count\":1}");
    co = coroutine_create(world, host, "rogue", rogue_query, &done);
    coroutine_set_origin(co, (struct sim_origin){.kind = SIM_ORIGIN_JOB, .name = job->id});
    coroutine_start(co);
    run_until(flag_set, &done);
    wait_ready();
    complete_mirror();
    assert_violated("job-machine.error-forgotten.mirror");
}

/* What was not copied counts as done. */
static void test_progress_unearned(void **state)
{
    Job *job = slow_mirror();

    job->progress_current += 8 * MiB; /* more than zeroing the target and copying it */
    wait_ready();
    assert_violated("job-machine.progress-unearned.mirror");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/job-machine/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/job-machine/silent/storms", test_silent_storms, world_setup, world_teardown),
        T_SETUP("/check/job-machine/io-while-paused", test_io_while_paused, world_setup, world_teardown),
        T_SETUP("/check/job-machine/resumed-unasked", test_resumed_unasked, world_setup, world_teardown),
        T_SETUP("/check/job-machine/progress-back", test_progress_back, world_setup, world_teardown),
        T_SETUP("/check/job-machine/status-unannounced", test_unannounced, world_setup, world_teardown),
        T_SETUP("/check/job-machine/verb-accepted", test_verb_accepted, world_setup, world_teardown),
        T_SETUP("/check/job-machine/cancelled-unasked", test_cancelled_unasked, world_setup, world_teardown),
        T_SETUP("/check/job-machine/cancel-ignored", test_cancel_ignored, world_setup, world_teardown),
        T_SETUP("/check/job-machine/query-forgotten", test_query_forgotten, world_setup, world_teardown),
        T_SETUP("/check/job-machine/progress-unearned", test_progress_unearned, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
