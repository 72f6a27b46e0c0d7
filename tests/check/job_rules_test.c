/*
 * Protects check/job_machine, conduct: states, verbs, requests after the end, progress and error policies against
 * the rules are reported.
 *
 * No rule is out of reach, but assertions of jobs/ stand before the straight way to two of them:
 *
 *     transition       no illegal transition passes job_state_transition: a status that was changed in silence
 * makes a legal one of it progress-bounds  no negative amount passes the progress functions: the field is written
 */
#include "tests/check/bent_job.h"

#include "jobs/mirror_int.h"

/* --- states -------------------------------------------------------------------------------------------------- */

/* It is ready without a word, and parks as a ready job does. */
static int run_secretly_ready(Job *job, Error **errp)
{
    job->status = JOB_STATUS_READY;
    job_pause(job);
    job_pause_point(job);
    return 0;
}

static void test_transition(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_secretly_ready);

    start(job);
    run_until(job_parked, job);
    assert_violated("job-machine.transition.backup.running.-.standby");
}

/* Status and verb disagree while the command is in hand. */
static void waiting_in_command(void *opaque, const struct sim_record *record)
{
    Job *job = job_find(host, "m");

    if (job) {
        job->status = record->kind == EV_qmp_command ? JOB_STATUS_WAITING : JOB_STATUS_RUNNING;
    }
}

static void slow_mirror(void)
{
    mirror_world(4 * MiB, 4 * MiB);
    assert_true(start_mirror(",\"granularity\":65536,\"buf-size\":65536,\"speed\":1048576,"
                             "\"on-target-error\":\"stop\""));
}

static void test_verb_refused(void **state)
{
    slow_mirror();
    sim_subscribe(world, EV_qmp_command, waiting_in_command, NULL);
    sim_subscribe(world, EV_qmp_reply, waiting_in_command, NULL);
    assert_false(qmp("job-pause", "{\"id\":\"m\"}"));
    assert_violated("job-machine.verb-refused.mirror.running.-.job-pause");
}

/* --- after the end ------------------------------------------------------------------------------------------- */

static void rogue_read(void *opaque)
{
    struct payload data;

    payload_init(world, &data);
    disk_co_read(disk_find(world, "src"), 0, SIM_SECTOR_BYTES, &data);
    payload_clear(&data);
    *(bool *)opaque = true;
    host_kick(host);
}

/* Something of the job reads on when it has said that it is over. */
static void read_after_completed(Job *job)
{
    bool done = false;
    Coroutine *co = coroutine_create(world, host, "rogue", rogue_read, &done);

    own->completed(job);
    coroutine_set_origin(co, (struct sim_origin){.kind = SIM_ORIGIN_JOB, .name = job->id});
    coroutine_start(co);
    host_poll(host, flag_set, &done);
}

static void test_io_after_end(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_nothing);

    hooks.completed = read_after_completed;
    run_to_end(job);
    assert_violated("job-machine.io-after-end.backup.pending.-.read");
}

/* --- progress ------------------------------------------------------------------------------------------------ */

static int run_below_zero(Job *job, Error **errp)
{
    job->progress_remaining = -1;
    return 0;
}

static void test_progress_bounds(void **state)
{
    run_to_end(make(JOB_TYPE_BACKUP, run_below_zero));
    assert_violated("job-machine.progress-bounds.backup.waiting.-.-");
    assert_violated("job-machine.progress-bounds.backup.pending.-.BLOCK_JOB_COMPLETED");
}

static int run_half(Job *job, Error **errp)
{
    job_progress_update(job, 512);
    job_progress_set_remaining(job, 512);
    return 0;
}

static void test_progress_incomplete(void **state)
{
    run_to_end(make(JOB_TYPE_BACKUP, run_half));
    assert_violated("job-machine.progress-incomplete.backup.pending.-.BLOCK_JOB_COMPLETED");
}

static int run_half_ready(Job *job, Error **errp)
{
    job_progress_set_remaining(job, 512);
    job_transition_to_ready(job);
    job_progress_update(job, 512);
    job_progress_set_remaining(job, 0);
    return 0;
}

static void test_progress_incomplete_ready(void **state)
{
    run_to_end(make(JOB_TYPE_BACKUP, run_half_ready));
    assert_violated("job-machine.progress-incomplete.backup.ready.-.BLOCK_JOB_READY");
}

/* --- error policies ------------------------------------------------------------------------------------------ */

/* A mirror that does with its errors what nobody told it. */
static void test_error_policy(void **state)
{
    slow_mirror();
    container_of(job_find(host, "m"), MirrorJob, common.job)->on_target_error = BLOCKDEV_ON_ERROR_IGNORE;
    arm("error", "{\"disk\":\"dst\",\"op\":\"write\",\"count\":1}");
    wait_ready();
    assert_violated("job-machine.error-policy.mirror.running.-.write");
}

/* The pause that comes with the error is lost. */
static int run_on_after_stop(Job *job, Error **errp)
{
    block_job_error_action(block_job(job), BLOCKDEV_ON_ERROR_STOP, false, EIO);
    job->pause_count = 0;
    job_yield(job);
    return 0;
}

static void test_stop_ignored(void **state)
{
    start(make(JOB_TYPE_BACKUP, run_on_after_stop));
    settle();
    assert_violated("job-machine.stop-ignored.backup.running.-.-");
}

static int run_stop(Job *job, Error **errp)
{
    block_job_error_action(block_job(job), BLOCKDEV_ON_ERROR_STOP, false, EIO);
    job_pause_point(job);
    return 0;
}

/* One that keeps it is in order. */
static void test_silent_stop(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_stop);

    start(job);
    run_until(job_parked, job);
    settle();
    assert_true(qmp("job-resume", "{\"id\":\"m\"}"));
    run_until(job_gone, NULL);
    finish();
    assert_silent();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENT_RULE("bent/silent/stop", test_silent_stop),
        BENT_RULE("transition", test_transition),
        BENT_RULE("verb-refused", test_verb_refused),
        BENT_RULE("io-after-end", test_io_after_end),
        BENT_RULE("progress-bounds", test_progress_bounds),
        BENT_RULE("progress-incomplete", test_progress_incomplete),
        BENT_RULE("progress-incomplete/ready", test_progress_incomplete_ready),
        BENT_RULE("error-policy", test_error_policy),
        BENT_RULE("stop-ignored", test_stop_ignored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
