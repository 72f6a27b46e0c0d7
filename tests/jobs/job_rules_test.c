/* Protects the rules of the job machine that one job alone shows: kicks, sleeps, pauses, cancels, progress, the
 * order of the end (reference/jobs.md 1). */
#include "tests/jobs/test_job.h"

/* --- a job that waits as it is told ---------------------------------------------------------------------- */

/* What the coroutine of the job does next; it says what it came back from, and when. */
struct script {
    const char *steps; /* i: own I/O of a second, y: yield, s: sleep of ten seconds, p: pause point, r: ready */
    char done[32];     /* steps that are behind it */
};
static struct script script;

static int script_run(Job *job, Error **errp)
{
    for (const char *step = script.steps; *step != '\0'; step++) {
        switch (*step) {
        case 'i':
            co_sleep_ns(world, NS_PER_S);
            break;
        case 'y':
            job_yield(job);
            break;
        case 's':
            job_sleep_ns(job, 10 * NS_PER_S, false);
            break;
        case 'r':
            job_transition_to_ready(job);
            break;
        default:
            job_pause_point(job);
            break;
        }
        strncat(script.done, step, 1);
    }
    return 0;
}

static const BlockJobDriver script_driver = {
    .job_driver = {.job_type = JOB_TYPE_COMMIT,
                   .instance_size = sizeof(TestJob),
                   .type = SIM_TYPE_Job,
                   .run = script_run,
                   .commit = test_commit,
                   .clean = test_clean},
};

static char at_callback[96];

static void on_end(void *opaque, int ret)
{
    Job *job = *(Job **)opaque;

    snprintf(at_callback, sizeof(at_callback), "%s|%s|%d", test_job(job)->hooks, job_status_name(job->status), ret);
}

static Job *script_job;

static void create_scripted(void *opaque)
{
    BlockJob *job =
        block_job_create("j", &script_driver, NULL, node, 0, BLK_PERM_ALL, 0, 0, on_end, &script_job, NULL);

    assert_non_null(job);
    script_job = &job->job;
}

static Job *scripted(const char *steps)
{
    node = add_null("n");
    script = (struct script){.steps = steps};
    on_main(create_scripted, NULL);
    return script_job;
}

static Job *start_scripted(const char *steps)
{
    Job *job = scripted(steps);

    on_main(start_entry, job);
    run_for(NS_PER_MS);
    return job;
}

/* --- entering and waiting -------------------------------------------------------------------------------- */

/* A kick is for who waits, and is not kept for later.
 * fact: jobs 1.4/kick, 1.4/busy */
static void test_kick(void **state)
{
    Job *job = scripted("iyi");

    job_kick(job); /* not started */
    run_for(NS_PER_S);
    assert_string_equal(script.done, "");
    on_main(start_entry, job);
    run_for(NS_PER_MS);
    assert_true(job->busy);
    job_kick(job); /* its own I/O is under way */
    run_for(NS_PER_S / 2);
    assert_string_equal(script.done, "");
    run_for(NS_PER_S);
    assert_string_equal(script.done, "i");
    assert_false(job->busy);
    job_kick(job);
    assert_true(job->busy);
    run_for(NS_PER_MS);
    assert_string_equal(script.done, "iy");
    settle();
    assert_gone();
}

/* Neither does one end the sleep after next: the timer goes with the sleep.
 * fact: jobs 1.4/kick-timer, 1.4/yield-sleep */
static void test_kick_ends_sleep(void **state)
{
    Job *job = start_scripted("sss");

    run_for(5 * NS_PER_S);
    assert_string_equal(script.done, "");
    job_kick(job);
    run_for(6 * NS_PER_S); /* the first one would be over */
    assert_string_equal(script.done, "s");
    run_for(5 * NS_PER_S);
    assert_string_equal(script.done, "ss");
    settle();
    assert_string_equal(trail, BEGIN " S:waiting S:pending COMPLETED S:concluded S:null");
    assert_gone();
}

/* Who has something to wait for and a pause to heed parks at once.
 * fact: jobs 1.4/yield-sleep, 1.4/pause-point */
static void test_parks_at_once(void **state)
{
    static const char *const scripts[] = {"iyp", "isp", "ip"};

    for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
        Job *job = start_scripted(scripts[i]);
        job_pause(job);
        run_for(NS_PER_S / 2);
        assert_string_equal(trail, BEGIN); /* its own I/O is not interrupted */
        run_for(NS_PER_S);
        assert_string_equal(trail, BEGIN " S:paused");
        assert_string_equal(script.done, "i");
        job_resume(job);
        settle();
        assert_string_equal(trail, BEGIN " S:paused S:running S:waiting S:pending COMPLETED S:concluded S:null");
        assert_gone();
        world_teardown(state);
        setup(state);
    }
}

/* Without a pause there is nothing at a pause point; after a forced cancel it is passed under a pause as well, and
 * nothing is waited for any more.
 * fact: jobs 1.4/pause-point, 1.4/yield-sleep, 1.6/lifts-pause */
static void test_forced_does_not_wait(void **state)
{
    Job *job = start_scripted("ppiysp");

    assert_string_equal(script.done, "pp");
    job_pause(job);
    job_cancel(job, true);
    run_for(NS_PER_S + NS_PER_MS);
    assert_string_equal(script.done, "ppiysp");
    assert_string_equal(trail, BEGIN " S:aborting CANCELLED S:concluded S:null");
    assert_gone();
}

/* Somebody resumes it who had not woken it: its time is not up.
 * fact: jobs 1.4/resume-timer, edge/9 */
static void test_resume_leaves_timer(void **state)
{
    Job *job = start_scripted("s");

    job->pause_count++;
    job_resume(job);
    run_for(9 * NS_PER_S);
    assert_string_equal(script.done, "");
    settle();
    assert_string_equal(script.done, "s");
    assert_gone();
}

/* --- cancels --------------------------------------------------------------------------------------------- */

static void drain_begin(void *opaque)
{
    bdrv_drained_begin(node);
}

static void drain_end(void *opaque)
{
    bdrv_drained_end(node);
}

static void user_cancel(void *opaque)
{
    Error *err = NULL;

    block_job_user_cancel(block_job_of(opaque), false, &err);
    assert_null(err);
}

/* A drain's pause is nobody's to lift, and no reason to refuse a soft cancel.
 * fact: jobs 1.4/user-paused, edge/20 */
static void test_drain_is_no_users_pause(void **state)
{
    Job *job = create("j", NULL, 0);

    test_job(job)->ready = true;
    on_main(start_entry, job);
    settle();
    on_main(drain_begin, NULL);
    assert_int_equal(job->status, JOB_STATUS_STANDBY);
    assert_string_equal(verb(job, job_user_resume), "Can't resume a job that was not paused");
    on_main(user_cancel, job);
    on_main(drain_end, NULL);
    settle();
    assert_string_equal(trail,
                        BEGIN " S:ready READY S:standby S:ready S:waiting S:pending COMPLETED S:concluded S:null");
    assert_gone();
}

static void force_then_soft(void *opaque)
{
    job_cancel(opaque, true);
    job_cancel(opaque, false);
}

/* fact: jobs 1.6/never-downgraded */
static void test_force_stays(void **state)
{
    Job *job = create("j", NULL, 0);

    test_job(job)->ready = true;
    on_main(start_entry, job);
    settle();
    on_main(force_then_soft, job);
    settle();
    assert_string_equal(trail, BEGIN " S:ready READY S:aborting CANCELLED S:concluded S:null");
    assert_gone();
}

/* Ready, and of a type that ends by itself alone.
 * fact: jobs 1.3/no-completion */
static void test_no_completion(void **state)
{
    Job *job = start_scripted("ry");

    assert_string_equal(verb(job, job_complete), "The active block job 'j' cannot be completed");
    job_kick(job);
    settle();
    assert_gone();
}

/* --- states and progress --------------------------------------------------------------------------------- */

/* fact: jobs 1.2/ready-completed */
static void test_status_sets(void **state)
{
    for (unsigned status = 0; status < JOB_STATUS_COUNT; status++) {
        Job job = {.status = (enum job_status)status};

        assert_int_equal(job_is_ready(&job), status == JOB_STATUS_READY || status == JOB_STATUS_STANDBY);
        assert_int_equal(job_is_completed(&job), status == JOB_STATUS_WAITING || status == JOB_STATUS_PENDING ||
                                                     status == JOB_STATUS_ABORTING ||
                                                     status == JOB_STATUS_CONCLUDED || status == JOB_STATUS_NULL);
    }
}

static void assert_progress(Job *job, int64_t current, int64_t total)
{
    struct qvalue *entry = job_query(job);

    assert_int_equal(qdict_get(entry, "current-progress")->integer, current);
    assert_int_equal(qdict_get(entry, "total-progress")->integer, total);
    qvalue_free(entry);
}

/* fact: jobs 1.7/grows */
static void test_progress(void **state)
{
    Job *job = start("j", 0);

    job_progress_set_remaining(job, 70);
    assert_progress(job, 0, 70);
    job_progress_update(job, 30);
    job_progress_set_remaining(job, 20);
    assert_progress(job, 30, 50);
    job_progress_set_remaining(job, 90);
    assert_progress(job, 30, 120);
    finish(job, 0);
    assert_gone();
}

/* --- the end --------------------------------------------------------------------------------------------- */

static char at_completed[128];

static void look_around(void *opaque, const struct sim_record *r)
{
    snprintf(at_completed, sizeof(at_completed), "%s called:%d", test_job(script_job)->hooks,
             at_callback[0] != '\0');
}

/* The hooks, then who made the job, then the clients, then its state.
 * fact: jobs 1.5/end-order */
static void test_end_order(void **state)
{
    at_callback[0] = '\0';
    sim_subscribe(world, EV_BLOCK_JOB_COMPLETED, look_around, NULL);
    start_scripted("y");
    assert_string_equal(at_callback, "");
    job_kick(script_job);
    settle();
    assert_string_equal(at_callback, "cl|pending|0");
    assert_string_equal(at_completed, "cl called:1");
    assert_string_equal(trail, BEGIN " S:waiting S:pending COMPLETED S:concluded S:null");
    assert_gone();
}

static char order[256];

static void note_pending(void *opaque, const struct sim_record *r)
{
    bool specific = r->kind == EV_BLOCK_JOB_PENDING;
    size_t used = strlen(order);

    if (specific || strcmp(sim_record_str(r, 1), "pending") == 0) {
        snprintf(order + used, sizeof(order) - used, "%s:%s ", specific ? "PENDING" : "S",
                 sim_record_name(r, specific ? 1 : 0)->str);
    }
}

/* Newest first, and only who is finalised by hand says so: but then all wait.
 * fact: jobs 1.5/pending, 1.1/newest-first */
static void test_pending_order(void **state)
{
    JobTxn *txn = job_txn_new(host);
    Job *one = create("one", txn, JOB_MANUAL_FINALIZE);
    Job *two = create("two", txn, 0);
    Job *three = create("three", txn, JOB_MANUAL_FINALIZE);

    job_txn_unref(txn);
    order[0] = '\0';
    sim_subscribe(world, EV_JOB_STATUS_CHANGE, note_pending, NULL);
    sim_subscribe(world, EV_BLOCK_JOB_PENDING, note_pending, NULL);
    on_main(start_entry, one);
    on_main(start_entry, two);
    on_main(start_entry, three);
    finish(two, 0);
    finish(one, 0);
    finish(three, 0);
    assert_string_equal(order, "S:three PENDING:three S:two S:one PENDING:one ");
    assert_int_equal(two->status, JOB_STATUS_PENDING);
    assert_string_equal(verb(two, job_finalize), "");
    assert_gone();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOB_TEST("/job/rules/kick", test_kick),
        JOB_TEST("/job/rules/kick-ends-sleep", test_kick_ends_sleep),
        JOB_TEST("/job/rules/parks-at-once", test_parks_at_once),
        JOB_TEST("/job/rules/forced-does-not-wait", test_forced_does_not_wait),
        JOB_TEST("/job/rules/resume-leaves-timer", test_resume_leaves_timer),
        JOB_TEST("/job/rules/drain-is-no-users-pause", test_drain_is_no_users_pause),
        JOB_TEST("/job/rules/force-stays", test_force_stays),
        JOB_TEST("/job/rules/no-completion", test_no_completion),
        JOB_TEST("/job/rules/status-sets", test_status_sets),
        JOB_TEST("/job/rules/progress", test_progress),
        JOB_TEST("/job/rules/end-order", test_end_order),
        JOB_TEST("/job/rules/pending-order", test_pending_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
