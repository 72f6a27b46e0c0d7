/* Protects how jobs pause: counted pauses, drains, sleeps and kicks (reference/jobs.md 1). */
#include "tests/jobs/test_job.h"

static void drain_begin(void *opaque)
{
    bdrv_drained_begin(node);
}

static void drain_end(void *opaque)
{
    bdrv_drained_end(node);
}

/* J03: a drain inside of a user's pause ends without ending the pause. */
/* fact: jobs 1.4/pause-counted, 1.4/user-paused, 1.4/standby */
static void test_pause_counts(void **state)
{
    Job *job = start("j", 0);

    assert_string_equal(verb(job, job_user_pause), "");
    settle();
    on_main(drain_begin, NULL);
    assert_int_equal(job->pause_count, 2);
    on_main(drain_end, NULL);
    settle();
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    on_main(drain_begin, NULL);
    assert_string_equal(verb(job, job_user_resume), "");
    settle();
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    /* A drain is no pause of the user. */
    assert_string_equal(verb(job, job_user_resume), "Can't resume a job that was not paused");
    on_main(drain_end, NULL);
    settle();
    assert_int_equal(job->status, JOB_STATUS_RUNNING);
    assert_string_equal(trail, BEGIN " S:paused S:running");
    finish(job, 0);
    assert_gone();
}

/* J02: a sleeper that is paused parks at once and does not run when its time is up. */
/* fact: jobs 1.4/pause-ends-sleep, 1.4/drain */
static void test_pause_ends_sleep(void **state)
{
    Job *job = create("j", NULL, 0);

    test_job(job)->sleep_ns = NS_PER_S;
    on_main(start_entry, job);
    run_for(NS_PER_S / 5);
    on_main(drain_begin, NULL);
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    run_for(2 * NS_PER_S);
    assert_int_equal(test_job(job)->wakes, 0);
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    on_main(drain_end, NULL);
    run_for(NS_PER_MS);
    assert_int_equal(test_job(job)->wakes, 1);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_gone();
}

/* A stray kick does not run a parked job; one at a time of sleep ends it. */
static void test_kicks(void **state)
{
    Job *job = start("j", 0);

    job_kick(job);
    job_kick(job);
    settle();
    assert_int_equal(test_job(job)->wakes, 1);
    assert_string_equal(verb(job, job_user_pause), "");
    settle();
    job_kick(job);
    settle();
    assert_int_equal(job->status, JOB_STATUS_PAUSED);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_gone();
}

/* J08: after the run function has returned nothing enters the job. */
static void test_pause_after_end(void **state)
{
    Job *job = start("j", JOB_MANUAL_FINALIZE);

    finish(job, 0);
    on_main(drain_begin, NULL);
    job_kick(job);
    on_main(drain_end, NULL);
    settle();
    assert_string_equal(verb(job, job_finalize), "");
    assert_gone();
}

/* The run function returns while somebody polls, who then drains: the section begins only when the job's end has
 * been dealt with, since that may still change the graph (I10). */
static enum job_status status_when_drained;

static bool has_returned(void *opaque)
{
    return ((Job *)opaque)->finished_run;
}

static void drain_after_return(void *opaque)
{
    Job *job = opaque;

    job_ref(job);
    test_job(job)->finish = true;
    job_kick(job);
    host_poll(host, has_returned, job);
    assert_int_equal(job->status, JOB_STATUS_RUNNING);
    bdrv_drained_begin(node);
    status_when_drained = job->status;
    bdrv_drained_end(node);
    job_unref(job);
}

/* fact: jobs 1.4/drain */
static void test_drain_waits_for_end(void **state)
{
    on_main(drain_after_return, start("j", 0));
    assert_int_equal(status_when_drained, JOB_STATUS_NULL);
    settle();
    assert_gone();
}

/* fact: block 3/all-no-job, 3/job; jobs 1.4/created */
static void test_drain_of_unstarted(void **state)
{
    Job *job = create("j", NULL, 0);

    on_main(drain_begin, NULL);
    on_main(start_entry, job);
    settle();
    assert_string_equal(trail, BEGIN " S:paused");
    on_main(drain_end, NULL);
    settle();
    assert_string_equal(trail, BEGIN " S:paused S:running");
    finish(job, 0);
    assert_gone();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOB_TEST("/job/pause/counts", test_pause_counts),
        JOB_TEST("/job/pause/ends-sleep", test_pause_ends_sleep),
        JOB_TEST("/job/pause/stray-kick", test_kicks),
        JOB_TEST("/job/pause/after-end", test_pause_after_end),
        JOB_TEST("/job/pause/drain-waits-for-end", test_drain_waits_for_end),
        JOB_TEST("/job/pause/drained-before-start", test_drain_of_unstarted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
