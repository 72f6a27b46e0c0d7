/*
 * Block jobs to be bent: real ones of jobs/ whose driver, hooks or own fields a test makes wrong. Nothing is
 * announced but by jobs/ itself.
 */
#ifndef TESTS_CHECK_BENT_JOB_H
#define TESTS_CHECK_BENT_JOB_H

#include "tests/check/check_world.h"

#include <errno.h>

static const JobHooks *own; /* of all block jobs */
static JobHooks hooks;      /* a copy of them, for the tests to bend */

static SIM_UNUSED int run_nothing(Job *job, Error **errp)
{
    return 0;
}

static SIM_UNUSED int run_failing(Job *job, Error **errp)
{
    return -EIO;
}

static SIM_UNUSED int run_ready(Job *job, Error **errp)
{
    job_transition_to_ready(job);
    return 0;
}

struct making {
    const BlockJobDriver *driver;
    Job *job;
};

static void make_entry(void *opaque)
{
    struct making *making = opaque;
    BlockJob *job = block_job_create("m", making->driver, NULL, bdrv_find_node(host, "s"), 0, BLK_PERM_ALL, 0, 0,
                                     NULL, NULL, NULL);

    assert_non_null(job);
    own = job->job.hooks;
    hooks = *own;
    job->job.hooks = &hooks;
    making->job = &job->job;
}

static void start_entry(void *opaque)
{
    job_start(opaque);
}

/* Made and not started: now its hooks may be bent. */
static Job *make(enum job_type type, int (*run)(Job *job, Error **errp))
{
    static BlockJobDriver driver;
    struct making making = {.driver = &driver};

    driver = (BlockJobDriver){.job_driver = {
                                  .job_type = type,
                                  .instance_size = sizeof(BlockJob),
                                  .type = SIM_TYPE_Job,
                                  .run = run,
                              }};
    mirror_world(MiB, 0);
    on_main(make_entry, &making);
    return making.job;
}

static void start(Job *job)
{
    on_main(start_entry, job);
}

static SIM_UNUSED void run_to_end(Job *job)
{
    start(job);
    run_until(job_gone, NULL);
}

static SIM_UNUSED void say_nothing(Job *job)
{
}

static SIM_UNUSED BlockJob *block_job(Job *job)
{
    return container_of(job, BlockJob, job);
}

static SIM_UNUSED bool job_parked(void *opaque)
{
    return job_is_paused(opaque);
}

#define BENT_RULE(name, fn) T_SETUP("/check/job-machine/" name, fn, world_setup, world_teardown)

#endif
