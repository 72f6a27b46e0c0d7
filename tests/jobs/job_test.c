/* Protects the job machine: the tables of states and verbs, identity, event orders, queries (reference/jobs.md 1).
 */
#include "tests/jobs/test_job.h"

/* --- tables --------------------------------------------------------------------------------------------- */

/* The reference's lists, in words of our own choosing: one line a row. */
/* fact: jobs 1.2/legal */
static void test_transition_table(void **state)
{
    static const char *const legal[JOB_STATUS_COUNT] = {
        [JOB_STATUS_UNDEFINED] = "created ",
        [JOB_STATUS_CREATED] = "running aborting null ",
        [JOB_STATUS_RUNNING] = "paused ready waiting aborting ",
        [JOB_STATUS_PAUSED] = "running ",
        [JOB_STATUS_READY] = "standby waiting aborting ",
        [JOB_STATUS_STANDBY] = "ready ",
        [JOB_STATUS_WAITING] = "pending aborting ",
        [JOB_STATUS_PENDING] = "aborting concluded ",
        [JOB_STATUS_ABORTING] = "aborting concluded ",
        [JOB_STATUS_CONCLUDED] = "null ",
        [JOB_STATUS_NULL] = "",
    };

    for (unsigned from = 0; from < JOB_STATUS_COUNT; from++) {
        char row[128] = "";

        for (unsigned to = 0; to < JOB_STATUS_COUNT; to++) {
            if (job_transition_legal((enum job_status)from, (enum job_status)to)) {
                strcat(row, job_status_name((enum job_status)to));
                strcat(row, " ");
            }
        }
        assert_string_equal(row, legal[from]);
    }
}

/* fact: jobs 1.3/verbs */
static void test_verb_table(void **state)
{
    static const char *const legal[JOB_VERB_COUNT] = {
        [JOB_VERB_CANCEL] = "created running paused ready standby waiting pending ",
        [JOB_VERB_PAUSE] = "created running paused ready standby ",
        [JOB_VERB_RESUME] = "created running paused ready standby ",
        [JOB_VERB_SET_SPEED] = "created running paused ready standby ",
        [JOB_VERB_COMPLETE] = "ready standby ",
        [JOB_VERB_FINALIZE] = "pending ",
        [JOB_VERB_DISMISS] = "concluded ",
        [JOB_VERB_CHANGE] = "created running paused ready standby ",
    };

    for (unsigned v = 0; v < JOB_VERB_COUNT; v++) {
        char row[128] = "";

        for (unsigned s = 0; s < JOB_STATUS_COUNT; s++) {
            if (job_verb_legal((enum job_status)s, (enum job_verb)v)) {
                strcat(row, job_status_name((enum job_status)s));
                strcat(row, " ");
            }
        }
        assert_string_equal(row, legal[v]);
    }
}

static void test_names(void **state)
{
    enum job_status status;

    for (unsigned i = 0; i < JOB_STATUS_COUNT; i++) {
        assert_true(job_status_parse(job_status_name((enum job_status)i), &status));
        assert_int_equal(status, i);
    }
    assert_false(job_status_parse("gone", &status));
    assert_string_equal(job_type_name(JOB_TYPE_MIRROR), "mirror");
    assert_string_equal(job_verb_name(JOB_VERB_SET_SPEED), "set-speed");
}

/* Each verb, tried through the command on a job really in each state that a client can meet. */
static void verb_set_speed(Job *job, Error **errp)
{
    block_job_set_speed(block_job_of(job), 5, errp);
}

/* fact: jobs 1.3/refusal, 1.3/pause-twice, 1.3/resume-unpaused */
static void test_refused_verbs(void **state)
{
    Job *job = create("j", NULL, JOB_MANUAL_FINALIZE | JOB_MANUAL_DISMISS);

    assert_string_equal(verb(job, job_complete),
                        "Job 'j' in state 'created' cannot accept command verb 'complete'");
    assert_string_equal(verb(job, job_finalize),
                        "Job 'j' in state 'created' cannot accept command verb 'finalize'");
    assert_string_equal(verb(job, verb_dismiss), "Job 'j' in state 'created' cannot accept command verb 'dismiss'");
    assert_string_equal(verb(job, job_user_resume), "Can't resume a job that was not paused");
    on_main(start_entry, job);
    settle();
    assert_string_equal(verb(job, job_complete),
                        "Job 'j' in state 'running' cannot accept command verb 'complete'");
    assert_string_equal(verb(job, job_finalize),
                        "Job 'j' in state 'running' cannot accept command verb 'finalize'");
    assert_string_equal(verb(job, verb_dismiss), "Job 'j' in state 'running' cannot accept command verb 'dismiss'");
    assert_string_equal(verb(job, job_user_pause), "");
    assert_string_equal(verb(job, job_user_pause), "Job is already paused");
    assert_string_equal(verb(job, verb_set_speed), "");
    assert_string_equal(verb(job, job_complete), "Job 'j' in state 'paused' cannot accept command verb 'complete'");
    assert_string_equal(verb(job, job_user_resume), "");
    finish(job, 0);
    assert_string_equal(verb(job, job_user_pause), "Job 'j' in state 'pending' cannot accept command verb 'pause'");
    assert_string_equal(verb(job, job_user_resume), "Can't resume a job that was not paused");
    assert_string_equal(verb(job, verb_set_speed),
                        "Job 'j' in state 'pending' cannot accept command verb 'set-speed'");
    assert_string_equal(verb(job, job_complete),
                        "Job 'j' in state 'pending' cannot accept command verb 'complete'");
    assert_string_equal(verb(job, verb_dismiss), "Job 'j' in state 'pending' cannot accept command verb 'dismiss'");
    assert_string_equal(verb(job, job_finalize), "");
    assert_string_equal(verb(job, verb_cancel_force),
                        "Job 'j' in state 'concluded' cannot accept command verb 'cancel'");
    assert_string_equal(verb(job, job_finalize),
                        "Job 'j' in state 'concluded' cannot accept command verb 'finalize'");
    assert_string_equal(verb(job, job_user_pause),
                        "Job 'j' in state 'concluded' cannot accept command verb 'pause'");
    assert_string_equal(verb(job, verb_dismiss), "");
    assert_gone();
}

/* --- identity ------------------------------------------------------------------------------------------- */

/* fact: jobs 1.1/id-form, 1.1/duplicate, edge/52 */
static void test_ids(void **state)
{
    static const char *const bad[] = {"", "1a", "-a", "a b", "a/b", "_x"};
    struct create c = {.id = NULL};

    node = add_null("n");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char expected[64];

        c.id = bad[i];
        on_main(create_entry, &c);
        snprintf(expected, sizeof(expected), "Invalid job ID '%s'", bad[i]);
        assert_string_equal(c.error, expected);
    }
    Job *job = start("a-1._B", JOB_MANUAL_DISMISS);
    finish(job, 0);
    c.id = "a-1._B";
    on_main(create_entry, &c);
    assert_string_equal(c.error, "Job ID 'a-1._B' already in use");
    assert_string_equal(verb(job, verb_dismiss), "");
    job = create("a-1._B", NULL, 0);
    assert_string_equal(verb(job, verb_cancel_force), "");
    assert_gone();
}

static void test_internal(void **state)
{
    Job *job = start(NULL, JOB_INTERNAL);

    assert_null(job_id(job));
    finish(job, 0);
    assert_string_equal(trail, "");
    assert_gone();
}

/* --- event orders (1.8) --------------------------------------------------------------------------------- */

/* fact: jobs 1.5/single, 1.5/hooks, 1.8/success, 1.2/null, seed/bcada37 */
static void test_success(void **state)
{
    Job *job = start("j", 0);
    char hooks[64];

    job_ref(job);
    finish(job, 0);
    snprintf(hooks, sizeof(hooks), "%s", test_job(job)->hooks);
    job_unref(job);
    assert_string_equal(hooks, "pcl");
    assert_string_equal(trail, BEGIN " S:waiting S:pending COMPLETED S:concluded S:null");
    assert_gone();
}

/* fact: jobs 1.8/success */
static void test_manual(void **state)
{
    Job *job = start("j", JOB_MANUAL_FINALIZE | JOB_MANUAL_DISMISS);

    finish(job, 0);
    assert_string_equal(trail, BEGIN " S:waiting S:pending PENDING");
    assert_string_equal(test_job(job)->hooks, "");
    assert_string_equal(verb(job, job_finalize), "");
    assert_string_equal(trail, BEGIN " S:waiting S:pending PENDING COMPLETED S:concluded");
    assert_string_equal(verb(job, verb_dismiss), "");
    assert_string_equal(trail, BEGIN " S:waiting S:pending PENDING COMPLETED S:concluded S:null");
    assert_gone();
}

/* fact: jobs 1.5/error-text, 1.5/hooks, 1.8/error-field */
static void test_failure(void **state)
{
    Job *job = start("j", 0);

    job_ref(job);
    finish(job, -EIO);
    assert_string_equal(test_job(job)->hooks, "al");
    job_unref(job);
    assert_string_equal(trail, BEGIN " S:aborting COMPLETED(Input/output error) S:concluded S:null");
    assert_gone();
}

/* fact: jobs 1.5/error-text */
static void test_failure_text(void **state)
{
    Job *job = start("j", JOB_MANUAL_DISMISS);

    finish(job, -EDOM);
    assert_string_equal(trail, BEGIN " S:aborting COMPLETED(its own words) S:concluded");
    struct qvalue *entry = job_query(job);
    assert_string_equal(qdict_get(entry, "error")->str.bytes, "its own words");
    assert_string_equal(qdict_get(entry, "status")->str.bytes, "concluded");
    qvalue_free(entry);
    assert_string_equal(verb(job, verb_dismiss), "");
    assert_gone();
}

/* fact: jobs 1.5/prepare-failure, 1.5/hooks, 1.8/prepare-failure */
static void test_prepare_failure(void **state)
{
    Job *job = start("j", 0);

    job_ref(job);
    test_job(job)->prepare_ret = -EPERM;
    finish(job, 0);
    assert_string_equal(test_job(job)->hooks, "pal");
    job_unref(job);
    assert_string_equal(trail, BEGIN
                        " S:waiting S:pending S:aborting COMPLETED(Operation not permitted) S:concluded S:null");
    assert_gone();
}

/* fact: jobs 1.8/cancel */
static void test_cancel_running(void **state)
{
    Job *job = start("j", 0);

    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    assert_string_equal(trail, BEGIN " S:aborting CANCELLED S:concluded S:null");
    assert_gone();
}

/* fact: jobs 1.5/never-started */
static void test_cancel_created(void **state)
{
    Job *job = create("j", NULL, JOB_MANUAL_DISMISS | JOB_MANUAL_FINALIZE);

    assert_string_equal(verb(job, verb_cancel_force), "");
    assert_string_equal(trail, "S:created S:aborting S:concluded S:null");
    assert_gone();
}

static void early_fail(void *opaque)
{
    job_early_fail(opaque);
}

/* fact: jobs 1.5/early-failure */
static void test_early_fail(void **state)
{
    on_main(early_fail, create("j", NULL, 0));
    assert_string_equal(trail, "S:created S:null");
    assert_gone();
}

/* fact: jobs 1.6/lifts-pause */
static void test_cancel_paused(void **state)
{
    Job *job = start("j", 0);

    assert_string_equal(verb(job, job_user_pause), "");
    settle();
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_string_equal(trail, BEGIN " S:paused S:running S:aborting CANCELLED S:concluded S:null");
    assert_gone();
}

static void test_ready_complete(void **state)
{
    Job *job = create("j", NULL, 0);

    test_job(job)->ready = true;
    on_main(start_entry, job);
    settle();
    assert_string_equal(verb(job, job_complete), "");
    settle();
    assert_string_equal(trail, BEGIN " S:ready READY S:waiting S:pending COMPLETED S:concluded S:null");
    assert_gone();
}

/* A soft cancel of a ready job is a success; completing it afterwards is refused. */
/* fact: jobs 1.3/complete-refused, 1.4/standby */
static void test_ready_soft_cancel(void **state)
{
    Job *job = create("j", NULL, 0);

    test_job(job)->ready = true;
    on_main(start_entry, job);
    settle();
    assert_string_equal(verb(job, job_user_pause), "");
    settle();
    assert_int_equal(job->status, JOB_STATUS_STANDBY);
    assert_string_equal(verb(job, verb_cancel_soft), "");
    assert_string_equal(verb(job, job_complete), "The active block job 'j' cannot be completed");
    assert_string_equal(verb(job, job_user_resume), "");
    settle();
    assert_string_equal(trail,
                        BEGIN " S:ready READY S:standby S:ready S:waiting S:pending COMPLETED S:concluded S:null");
    assert_gone();
}

/* Runs event by event until the run function has returned and its deferred end has not. */
static bool run_returned(void *opaque)
{
    return ((Job *)opaque)->finished_run;
}

static void return_from_run(Job *job)
{
    test_job(job)->finish = true;
    job_kick(job);
    assert_int_equal(sim_run(world, run_returned, job, INT64_MAX), SIM_STOP_COND);
    assert_int_equal(job->status, JOB_STATUS_RUNNING);
}

/* Between the return and its deferred end a soft cancel comes too late; force takes the success away. */
/* fact: jobs 1.5/force-in-window, edge/16, edge/17 */
static void test_cancel_in_window(void **state)
{
    Job *job = start("j", 0);

    return_from_run(job);
    job_cancel(job, true);
    settle();
    assert_string_equal(trail, BEGIN " S:aborting CANCELLED S:concluded S:null");
    assert_gone();
}

/* fact: jobs 1.5/deferred, 1.5/soft-in-window, edge/16 */
static void test_soft_cancel_in_window(void **state)
{
    Job *job = create("j", NULL, 0);

    test_job(job)->ready = true;
    on_main(start_entry, job);
    settle();
    test_job(job)->finish = true;
    job_kick(job);
    assert_int_equal(sim_run(world, run_returned, job, INT64_MAX), SIM_STOP_COND);
    assert_int_equal(job->status, JOB_STATUS_READY);
    job_cancel(job, false);
    settle();
    assert_string_equal(trail, BEGIN " S:ready READY S:waiting S:pending COMPLETED S:concluded S:null");
    assert_gone();
}

/* --- speed and queries ---------------------------------------------------------------------------------- */

static int64_t speed_to_set;

static void set_speed_entry(void *opaque)
{
    assert_true(block_job_set_speed(block_job_of(opaque), speed_to_set, NULL));
}

/* Only 0 and a higher speed kick a sleeper. */
/* fact: jobs 3/kick-faster, edge/10 */
static void test_speed_kicks(void **state)
{
    static const int64_t speeds[] = {100, 50, 50, 60, 0};
    static const unsigned wakes[] = {1, 1, 1, 2, 3};
    Job *job = create("j", NULL, 0);

    test_job(job)->sleep_ns = 1000 * NS_PER_S;
    on_main(start_entry, job);
    for (size_t i = 0; i < ARRAY_SIZE(speeds); i++) {
        speed_to_set = speeds[i];
        on_main(set_speed_entry, job);
        run_for(NS_PER_MS);
        assert_int_equal(test_job(job)->wakes, wakes[i]);
        assert_int_equal(block_job_of(job)->speed, speeds[i]);
    }
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_gone();
}

/* fact: jobs 1.9/query-block-jobs */
static void test_block_query(void **state)
{
    Job *job = start("j", 0);

    job_progress_set_remaining(job, 70);
    job_progress_update(job, 30);
    assert_string_equal(verb(job, job_user_pause), "");
    settle();
    struct qvalue *entry = block_job_query(block_job_of(job));
    char *json = qvalue_to_json(entry);
    assert_string_equal(json, "{\"type\":\"commit\",\"device\":\"j\",\"len\":100,\"offset\":30,\"busy\":false,"
                              "\"paused\":true,\"speed\":0,\"io-status\":\"ok\",\"ready\":false,"
                              "\"status\":\"paused\",\"auto-finalize\":true,\"auto-dismiss\":true}");
    free(json);
    qvalue_free(entry);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_gone();
}

static void user_cancel_entry(void *opaque)
{
    Error *err = NULL;

    block_job_user_cancel(block_job_of(opaque), false, &err);
    assert_string_equal(error_get_pretty(err), "The block job for device 'j' is currently paused");
    error_free(err);
}

static void test_block_job_cancel_paused(void **state)
{
    Job *job = start("j", 0);

    assert_string_equal(verb(job, job_user_pause), "");
    on_main(user_cancel_entry, job);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_gone();
}

/* fact: jobs 9/not-active, 9/job-not-found, 1.1/newest-first */
static void test_find(void **state)
{
    Error *err = NULL;

    assert_null(block_job_find_err(host, "x", &err));
    assert_string_equal(error_get_pretty(err), "Block job 'x' not found");
    assert_int_equal(error_get_class(err), ERROR_CLASS_DEVICE_NOT_ACTIVE);
    error_free(err);
    err = NULL;
    assert_null(job_find_err(host, "x", &err));
    assert_string_equal(error_get_pretty(err), "Job not found");
    error_free(err);
    Job *a = start("a", 0);
    Job *b = start("b", 0);
    assert_ptr_equal(job_next(host, NULL), b); /* newest first */
    assert_ptr_equal(job_next(host, b), a);
    assert_null(job_next(host, a));
    finish(a, 0);
    finish(b, 0);
    assert_gone();
}

static void cancel_all(void *opaque)
{
    job_cancel_sync_all(host);
}

/* fact: jobs 1.6/shutdown */
static void test_cancel_all(void **state)
{
    Job *job = start("a", JOB_MANUAL_DISMISS);

    create("b", NULL, JOB_MANUAL_DISMISS);
    start("c", JOB_MANUAL_FINALIZE | JOB_MANUAL_DISMISS);
    assert_string_equal(verb(job, job_user_pause), "");
    finish(job_find(host, "c"), 0);
    on_main(cancel_all, NULL);
    assert_gone();
}

/* --- the end of the world -------------------------------------------------------------------------------- */

/* The world ends while jobs live: nothing is run, nothing leaks (the sanitizer looks). */
static void test_crash(void **state)
{
    Job *job = start("j", JOB_MANUAL_DISMISS);

    finish(job, -EIO);
    start("k", 0);
    host_crash(host);
    assert_int_equal(coroutine_count(world), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOB_TEST("/job/tables/transitions", test_transition_table),
        JOB_TEST("/job/tables/verbs", test_verb_table),
        JOB_TEST("/job/tables/names", test_names),
        JOB_TEST("/job/verbs/refused", test_refused_verbs),
        JOB_TEST("/job/id", test_ids),
        JOB_TEST("/job/internal-is-silent", test_internal),
        JOB_TEST("/job/seed/bcada37/success", test_success),
        JOB_TEST("/job/events/manual", test_manual),
        JOB_TEST("/job/events/failure", test_failure),
        JOB_TEST("/job/events/failure-text", test_failure_text),
        JOB_TEST("/job/events/prepare-failure", test_prepare_failure),
        JOB_TEST("/job/events/cancel-running", test_cancel_running),
        JOB_TEST("/job/events/cancel-created", test_cancel_created),
        JOB_TEST("/job/events/early-fail", test_early_fail),
        JOB_TEST("/job/events/cancel-paused", test_cancel_paused),
        JOB_TEST("/job/events/ready-complete", test_ready_complete),
        JOB_TEST("/job/events/ready-soft-cancel", test_ready_soft_cancel),
        JOB_TEST("/job/cancel/force-after-run-returned", test_cancel_in_window),
        JOB_TEST("/job/cancel/soft-after-run-returned", test_soft_cancel_in_window),
        JOB_TEST("/job/speed/kicks", test_speed_kicks),
        JOB_TEST("/job/query/block", test_block_query),
        JOB_TEST("/job/cancel/user-paused", test_block_job_cancel_paused),
        JOB_TEST("/job/find", test_find),
        JOB_TEST("/job/cancel/all", test_cancel_all),
        JOB_TEST("/job/crash", test_crash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
