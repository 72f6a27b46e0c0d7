#include "jobs/create.h"

#include "block/block.h"

typedef struct CreateJob {
    Job job;
    struct qvalue *options;
} CreateJob;

static CreateJob *create_of(Job *job)
{
    return container_of(job, CreateJob, job);
}

static int create_run(Job *job, Error **errp)
{
    job_progress_set_remaining(job, 1);
    int ret = bdrv_co_create(job->host, create_of(job)->options, errp);
    job_progress_update(job, 1);
    job_progress_set_remaining(job, 0);
    return ret;
}

static void create_free(Job *job)
{
    qvalue_free(create_of(job)->options);
}

static const JobDriver create_job_driver = {
    .job_type = JOB_TYPE_CREATE,
    .instance_size = sizeof(CreateJob),
    .type = SIM_TYPE_create_job,
    .run = create_run,
    .free = create_free,
    .forget = create_free,
};

bool blockdev_create_start(struct host *host, const char *job_id, const struct qvalue *options, Error **errp)
{
    SIM_ASSERT(job_id != NULL);
    if (!bdrv_create_check(options, errp)) {
        return false;
    }
    Job *job = job_create(host, job_id, &create_job_driver, NULL, JOB_MANUAL_DISMISS, NULL, NULL, errp);
    if (!job) {
        return false;
    }
    create_of(job)->options = qvalue_copy(options);
    job_start(job);
    return true;
}
