/* Protects jobs that end together: success, abort and finalize of a group (reference/jobs.md 1.5). */
#include "tests/jobs/test_job.h"

static JobTxn *txn;
static Job *one, *two;

static void group(unsigned flags)
{
    txn = job_txn_new(host);
    one = create("one", txn, flags);
    two = create("two", txn, flags);
    job_txn_unref(txn);
    on_main(start_entry, one);
    on_main(start_entry, two);
    settle();
    job_ref(one);
    job_ref(two);
    trail[0] = '\0';
}

static void group_end(const char *hooks_one, const char *hooks_two)
{
    assert_string_equal(test_job(one)->hooks, hooks_one);
    assert_string_equal(test_job(two)->hooks, hooks_two);
    job_unref(one);
    job_unref(two);
    assert_gone();
}

/* fact: jobs 1.5/waiting */
static void test_group_success(void **state)
{
    group(0);
    finish(one, 0);
    assert_string_equal(trail, "S:waiting");
    finish(two, 0);
    assert_string_equal(trail, "S:waiting S:waiting S:pending S:pending COMPLETED S:concluded S:null COMPLETED "
                               "S:concluded S:null");
    group_end("pcl", "pcl");
}

/* J01: a member that had succeeded aborts when another one fails. */
/* fact: jobs 1.5/group-abort, 1.5/abort-events, edge/49 */
static void test_group_abort(void **state)
{
    group(0);
    finish(one, 0);
    finish(two, -EIO);
    assert_string_equal(trail, "S:waiting S:aborting COMPLETED(Input/output error) S:concluded S:null S:aborting "
                               "CANCELLED S:concluded S:null");
    group_end("al", "al");
}

/* A running member is brought to its end first. */
/* fact: jobs 1.5/group-abort, 1.5/abort-events, 1.5/abort-once, 1.1/newest-first */
static void test_group_abort_running(void **state)
{
    group(0);
    finish(one, -EIO);
    assert_string_equal(trail, "S:aborting S:aborting CANCELLED S:concluded S:null COMPLETED(Input/output error) "
                               "S:concluded S:null");
    group_end("al", "al");
}

/* fact: jobs 1.5/prepare-failure */
static void test_group_prepare_failure(void **state)
{
    group(0);
    test_job(one)->prepare_ret = -EPERM;
    finish(one, 0);
    finish(two, 0);
    assert_string_equal(trail,
                        "S:waiting S:waiting S:pending S:pending S:aborting S:aborting CANCELLED S:concluded "
                        "S:null COMPLETED(Operation not permitted) S:concluded S:null");
    group_end("pal", "pal");
}

/* finalize on any member finalises all. */
/* fact: jobs 1.5/finalize-any */
static void test_group_finalize(void **state)
{
    group(JOB_MANUAL_FINALIZE);
    finish(one, 0);
    finish(two, 0);
    assert_string_equal(trail, "S:waiting S:waiting S:pending PENDING S:pending PENDING");
    assert_string_equal(verb(one, job_finalize), "");
    assert_int_equal(two->status, JOB_STATUS_NULL);
    group_end("pcl", "pcl");
}

/* fact: jobs 1.6/in-pending */
static void test_group_cancel_pending(void **state)
{
    group(JOB_MANUAL_FINALIZE);
    finish(one, 0);
    finish(two, 0);
    trail[0] = '\0';
    assert_string_equal(verb(two, verb_cancel_force), "");
    assert_string_equal(trail, "S:aborting CANCELLED S:concluded S:null S:aborting CANCELLED S:concluded S:null");
    group_end("al", "al");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOB_TEST("/job/group/success", test_group_success),
        JOB_TEST("/job/group/abort-finished-member", test_group_abort),
        JOB_TEST("/job/group/abort-running-member", test_group_abort_running),
        JOB_TEST("/job/group/prepare-failure", test_group_prepare_failure),
        JOB_TEST("/job/group/finalize-any", test_group_finalize),
        JOB_TEST("/job/group/cancel-in-pending", test_group_cancel_pending),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
