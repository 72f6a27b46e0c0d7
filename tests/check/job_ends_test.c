/*
 * Protects check/job_machine, ends: groups that break up, what is the user's and was not asked of him, jobs that
 * wait for nobody, events that say what was not asked for.
 *
 * Groups are made by hand while an empty grouped transaction is in hand: to the checker they are its own, to jobs/
 * they have nothing to do with each other, as if the grouping were lost.
 */
#include "tests/check/bent_job.h"

#include "jobs/job_int.h"

/* --- groups -------------------------------------------------------------------------------------------------- */

static const struct mate {
    const char *id;
    int (*run)(Job *job, Error **errp);
} * mates;
static BlockJobDriver mate_drivers[2];
static bool one_txn;

static void make_mates(void *opaque, const struct sim_record *record)
{
    const struct qmp_call *call = record->ref;
    JobTxn *txn = one_txn ? job_txn_new(host) : NULL;
    BlockJob *jobs[2];

    if (strcmp(call->command->name, "transaction") != 0) {
        job_txn_unref(txn);
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        mate_drivers[i] = (BlockJobDriver){.job_driver = {.job_type = JOB_TYPE_BACKUP,
                                                          .instance_size = sizeof(BlockJob),
                                                          .type = SIM_TYPE_Job,
                                                          .run = mates[i].run}};
        jobs[i] = block_job_create(mates[i].id, &mate_drivers[i], txn, bdrv_find_node(host, i == 0 ? "s" : "d"), 0,
                                   BLK_PERM_ALL, 0, 0, NULL, NULL, NULL);
        assert_non_null(jobs[i]);
    }
    job_txn_unref(txn);
    for (unsigned i = 0; i < 2; i++) {
        job_start(&jobs[i]->job);
    }
}

static bool no_jobs(void *opaque)
{
    return job_next(host, NULL) == NULL;
}

static void run_mates(const struct mate *pair, bool together)
{
    mates = pair;
    one_txn = together;
    mirror_world(MiB, 0);
    sim_subscribe(world, EV_qmp_command, make_mates, NULL);
    assert_true(qmp("transaction", "{\"actions\":[],\"properties\":{\"completion-mode\":\"grouped\"}}"));
    run_until(no_jobs, NULL);
}

static int run_slowly(Job *job, Error **errp)
{
    job_sleep_ns(job, NS_PER_MS, false);
    return 0;
}

static const struct mate good_and_slow[] = {{"m", run_nothing}, {"n", run_slowly}};
static const struct mate good_and_failing[] = {{"m", run_nothing}, {"n", run_failing}};
static const struct mate slow_and_failing[] = {{"m", run_slowly}, {"n", run_failing}};

static void test_silent_groups(void **state)
{
    static const struct mate *const pairs[] = {good_and_slow, good_and_failing, slow_and_failing};

    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        run_mates(pairs[i], true);
        finish();
        assert_silent();
        world_teardown(NULL);
        world_setup(NULL);
    }
}

static void test_group_early(void **state)
{
    run_mates(good_and_slow, false);
    assert_violated("job-machine.group-early.backup.pending.-.-");
}

static void test_group_split(void **state)
{
    run_mates(good_and_failing, false);
    assert_violated("job-machine.group-split.backup");
}

/* It runs as soon as it is made, and a later action takes everything back. */
static void test_outlived_refusal(void **state)
{
    mates = good_and_slow;
    one_txn = true;
    mirror_world(MiB, 0);
    sim_subscribe(world, EV_qmp_command, make_mates, NULL);
    assert_false(qmp("transaction", "{\"actions\":[{\"type\":\"abort\",\"data\":{}}]}"));
    assert_violated("job-machine.outlived-refusal.backup");
}

/* --- the user's share ---------------------------------------------------------------------------------------- */

static Job *mirror_with(const char *more)
{
    mirror_world(MiB, MiB);
    assert_true(start_mirror(more));
    return job_find(host, "m");
}

static void complete(void)
{
    wait_ready();
    assert_true(qmp("job-complete", "{\"id\":\"m\"}")); /* a bent job is no block job to commands */
}

static bool job_pending(void *opaque)
{
    return job_find(host, "m")->status == JOB_STATUS_PENDING;
}

static bool job_concluded(void *opaque)
{
    return job_find(host, "m")->status == JOB_STATUS_CONCLUDED;
}

static void test_silent_manual(void **state)
{
    mirror_with(",\"auto-finalize\":false,\"auto-dismiss\":false,\"speed\":3000000");
    assert_true(qmp("block-job-set-speed", "{\"device\":\"m\",\"speed\":9000000}"));
    assert_false(qmp("block-job-set-speed", "{\"device\":\"m\",\"speed\":-1}"));
    complete();
    run_until(job_pending, NULL);
    settle();
    assert_true(qmp("job-finalize", "{\"id\":\"m\"}"));
    run_until(job_concluded, NULL);
    settle();
    assert_true(qmp("block-job-dismiss", "{\"id\":\"m\"}"));
    finish();
    assert_silent();
}

static void test_finalized_unasked(void **state)
{
    mirror_with(",\"auto-finalize\":false")->auto_finalize = true;
    complete();
    run_until(job_gone, NULL);
    assert_violated("job-machine.finalized-unasked.mirror.concluded.-.-");
}

static void test_pending_event_missing(void **state)
{
    Job *job = mirror_with(",\"auto-finalize\":false");

    hooks = *job->hooks;
    hooks.pending = say_nothing;
    job->hooks = &hooks;
    complete();
    run_until(job_pending, NULL);
    assert_true(qmp("job-finalize", "{\"id\":\"m\"}"));
    run_until(job_gone, NULL);
    assert_violated("job-machine.pending-event-missing.mirror");
}

/* It waits in pending for somebody who does not know that he is waited for. */
static void test_pending_unasked(void **state)
{
    mirror_with("")->auto_finalize = false;
    complete();
    run_until(job_pending, NULL);
    settle();
    assert_violated("job-machine.stuck.mirror.pending.-.-");
    assert_true(qmp("job-finalize", "{\"id\":\"m\"}"));
    run_until(job_gone, NULL);
    assert_violated("job-machine.pending-unasked.mirror");
}

static void test_dismissed_unasked(void **state)
{
    mirror_with(",\"auto-dismiss\":false")->auto_dismiss = true;
    complete();
    run_until(job_gone, NULL);
    assert_violated("job-machine.dismissed-unasked.mirror.null.-.-");
}

static void test_stuck_concluded(void **state)
{
    mirror_with("")->auto_dismiss = false;
    complete();
    run_until(job_concluded, NULL);
    settle();
    assert_violated("job-machine.stuck.mirror.concluded.-.-");
}

/* --- who is cancelled ---------------------------------------------------------------------------------------- */

static int run_until_cancelled(Job *job, Error **errp)
{
    while (!job_should_stop(job)) {
        job_yield(job);
    }
    return 0;
}

static void kill_job(void *opaque)
{
    job_cancel(opaque, true);
}

static void test_cancelled_unasked(void **state)
{
    Job *job = make(JOB_TYPE_COMMIT, run_until_cancelled);

    start(job);
    on_main(kill_job, job);
    run_until(job_gone, NULL);
    assert_violated("job-machine.cancelled-unasked.commit.aborting.-.BLOCK_JOB_CANCELLED");
}

/* --- what is said of it -------------------------------------------------------------------------------------- */

static int run_secretly_aborting(Job *job, Error **errp)
{
    job_state_transition(job, JOB_STATUS_ABORTING);
    job_yield(job);
    return 0;
}

static bool job_aborting(void *opaque)
{
    return ((Job *)opaque)->status == JOB_STATUS_ABORTING;
}

static void test_error_missing(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_secretly_aborting);

    start(job);
    run_until(job_aborting, job);
    assert_violated("job-machine.error-missing.backup.aborting.-.-");
}

static void test_event_speed(void **state)
{
    block_job(mirror_with(",\"speed\":30000000"))->speed = 5;
    wait_ready();
    assert_violated("job-machine.event-speed.mirror.ready.-.BLOCK_JOB_READY");
}

static BlockJobDriver other_type;
static const JobDriver *true_driver;

static void ready_as_another(Job *job)
{
    true_driver = job->driver;
    other_type = *block_job_driver(block_job(job));
    other_type.job_driver.job_type = JOB_TYPE_COMMIT;
    job->driver = &other_type.job_driver;
    own->ready(job);
    job->driver = true_driver;
}

static void test_event_type(void **state)
{
    Job *job = mirror_with("");

    own = job->hooks;
    hooks = *own;
    hooks.ready = ready_as_another;
    job->hooks = &hooks;
    wait_ready();
    assert_violated("job-machine.event-type.mirror.ready.-.BLOCK_JOB_READY");
}

static int run_writing_stream(Job *job, Error **errp)
{
    block_job_error_action(block_job(job), BLOCKDEV_ON_ERROR_IGNORE, false, EIO);
    return -EIO;
}

static void test_error_operation(void **state)
{
    run_to_end(make(JOB_TYPE_STREAM, run_writing_stream));
    assert_violated("job-machine.error-operation.stream.running.-.write");
}

static int run_stop(Job *job, Error **errp)
{
    block_job_error_action(block_job(job), BLOCKDEV_ON_ERROR_STOP, true, ENOSPC);
    job_pause_point(job);
    return 0;
}

static void test_io_status(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_stop);

    job->hooks = own;
    start(job);
    run_until(job_parked, job);
    block_job_iostatus_reset(block_job(job));
    settle();
    assert_violated("job-machine.io-status.backup.paused.-.-");
}

/* --- parking ------------------------------------------------------------------------------------------------- */

static void background_read(void *opaque)
{
    struct payload data;

    payload_init(world, &data);
    disk_co_read(disk_find(world, "src"), 0, SIM_SECTOR_BYTES, &data);
    payload_clear(&data);
}

/* It parks while something of its own still reads. */
static int run_parks_early(Job *job, Error **errp)
{
    Coroutine *co = coroutine_create(world, host, "background", background_read, NULL);

    coroutine_set_origin(co, (struct sim_origin){.kind = SIM_ORIGIN_JOB, .name = job->id});
    coroutine_start(co);
    job_sleep_ns(job, 1, false);
    job_pause(job);
    job_pause_point(job);
    return 0;
}

static void test_paused_with_io(void **state)
{
    Job *job = make(JOB_TYPE_BACKUP, run_parks_early);

    start(job);
    run_until(job_parked, job);
    assert_violated("job-machine.paused-with-io.backup.paused.-.-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENT_RULE("bent/silent/groups", test_silent_groups),
        BENT_RULE("bent/silent/manual", test_silent_manual),
        BENT_RULE("group-early", test_group_early),
        BENT_RULE("group-split", test_group_split),
        BENT_RULE("outlived-refusal", test_outlived_refusal),
        BENT_RULE("finalized-unasked", test_finalized_unasked),
        BENT_RULE("pending-event-missing", test_pending_event_missing),
        BENT_RULE("pending-unasked", test_pending_unasked),
        BENT_RULE("dismissed-unasked", test_dismissed_unasked),
        BENT_RULE("stuck", test_stuck_concluded),
        BENT_RULE("cancelled-unasked/commit", test_cancelled_unasked),
        BENT_RULE("error-missing", test_error_missing),
        BENT_RULE("event-speed", test_event_speed),
        BENT_RULE("event-type", test_event_type),
        BENT_RULE("error-operation", test_error_operation),
        BENT_RULE("io-status", test_io_status),
        BENT_RULE("paused-with-io", test_paused_with_io),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
