/*
 * What the tests of the job machine share: a job that does as it is told, on a node of its own.
 */
#ifndef TESTS_JOBS_TEST_JOB_H
#define TESTS_JOBS_TEST_JOB_H

#include "tests/jobs/job_world.h"

#include <errno.h>

/* --- a job that does as it is told ---------------------------------------------------------------------- */

typedef struct TestJob {
    BlockJob common;
    int ret;
    int prepare_ret;
    bool ready;       /* becomes ready first */
    bool finish;      /* the run function may return */
    int64_t sleep_ns; /* > 0: sleeps instead of waiting for kicks */
    unsigned wakes;
    char hooks[64];
} TestJob;

static TestJob *test_job(Job *job)
{
    return container_of(container_of(job, BlockJob, job), TestJob, common);
}

static void note(Job *job, const char *hook)
{
    strncat(test_job(job)->hooks, hook, sizeof(test_job(job)->hooks) - strlen(test_job(job)->hooks) - 1);
}

static int test_run(Job *job, Error **errp)
{
    TestJob *s = test_job(job);

    if (s->ready) {
        job_transition_to_ready(job);
    }
    while (!s->finish && !job_should_stop(job) && !job->cancelled) {
        if (s->sleep_ns > 0) {
            job_sleep_ns(job, s->sleep_ns, false);
        } else {
            job_yield(job);
        }
        s->wakes++;
    }
    if (s->ret == -EDOM) {
        error_setg(errp, "its own words");
    }
    return s->ret;
}

static int test_prepare(Job *job)
{
    note(job, "p");
    return test_job(job)->prepare_ret;
}

static void test_commit(Job *job)
{
    note(job, "c");
}

static void test_abort(Job *job)
{
    note(job, "a");
}

static void test_clean(Job *job)
{
    note(job, "l");
}

static void test_complete(Job *job, Error **errp)
{
    test_job(job)->finish = true;
    job_kick(job);
}

static bool test_cancel(Job *job, bool force)
{
    return force || !job_is_ready(job);
}

static const BlockJobDriver test_driver = {
    .job_driver =
        {
            .job_type = JOB_TYPE_COMMIT,
            .instance_size = sizeof(TestJob),
            .type = SIM_TYPE_Job,
            .run = test_run,
            .complete = test_complete,
            .cancel = test_cancel,
            .prepare = test_prepare,
            .commit = test_commit,
            .abort = test_abort,
            .clean = test_clean,
        },
};

struct create {
    const char *id;
    JobTxn *txn;
    unsigned flags;
    Job *job;
    char error[128];
};

static BlockDriverState *node;

static void create_entry(void *opaque)
{
    struct create *c = opaque;
    Error *err = NULL;
    BlockJob *job =
        block_job_create(c->id, &test_driver, c->txn, node, 0, BLK_PERM_ALL, 0, c->flags, NULL, NULL, &err);

    c->error[0] = '\0';
    c->job = job != NULL ? &job->job : NULL;
    if (err != NULL) {
        snprintf(c->error, sizeof(c->error), "%s", error_get_pretty(err));
        error_free(err);
    }
}

static SIM_UNUSED Job *create(const char *id, JobTxn *txn, unsigned flags)
{
    struct create c = {.id = id, .txn = txn, .flags = flags};

    if (node == NULL) {
        node = add_null("n");
    }
    on_main(create_entry, &c);
    if (c.job == NULL) {
        fail_msg("%s", c.error);
    }
    return c.job;
}

static SIM_UNUSED void start_entry(void *opaque)
{
    job_start(opaque);
}

static SIM_UNUSED Job *start(const char *id, unsigned flags)
{
    Job *job = create(id, NULL, flags);

    on_main(start_entry, job);
    settle();
    return job;
}

static SIM_UNUSED void finish(Job *job, int ret)
{
    test_job(job)->ret = ret;
    test_job(job)->finish = true;
    job_kick(job);
    settle();
}

static SIM_UNUSED int setup(void **state)
{
    node = NULL;
    return world_setup(state);
}

static SIM_UNUSED void assert_gone(void)
{
    assert_no_job_left();
    if (node != NULL) {
        assert_int_equal(bdrv_op_blockers(node), 0);
        del_node("n");
    }
    jobs_cleanup(host);
    bdrv_graph_cleanup(host);
}

/* How every trail of a started job begins. */
#define BEGIN "S:created S:running"

#define JOB_TEST(path, fn) T_SETUP(path, fn, setup, world_teardown)

#endif
