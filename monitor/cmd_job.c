/*
 * job-* commands: any job, by ID (reference/jobs.md 1.3, 9).
 */
#include "jobs/blockjob.h"
#include "monitor/commands.h"

static const struct qmp_arg id_args[] = {
    {.name = "id", .type = QMP_STR, .doc = "job ID"},
    {.name = NULL},
};

/* Finds the job and lets op act on it. */
static bool on_job(struct host *host, const struct qvalue *args, void (*op)(Job *job, Error **errp), Error **errp)
{
    Error *local = NULL;
    Job *job = job_find_err(host, qmp_arg_str(args, "id", NULL), &local);
    if (job) {
        op(job, &local);
    }
    SIM_ASSERT(job || local);
    bool ok = !local;
    error_propagate(errp, local);
    return ok;
}

static void op_cancel(Job *job, Error **errp)
{
    job_user_cancel(job, true, errp);
}

static void op_dismiss(Job *job, Error **errp)
{
    job_dismiss(&job, errp);
}

static bool cmd_job_pause(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, job_user_pause, errp);
}

static bool cmd_job_resume(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, job_user_resume, errp);
}

static bool cmd_job_cancel(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, op_cancel, errp);
}

static bool cmd_job_complete(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, job_complete, errp);
}

static bool cmd_job_finalize(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, job_finalize, errp);
}

static bool cmd_job_dismiss(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, op_dismiss, errp);
}

static bool cmd_query_jobs(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    *reply = qvalue_list();
    for (Job *job = job_next(host, NULL); job; job = job_next(host, job)) {
        if (!job_is_internal(job)) {
            qlist_append(*reply, job_query(job));
        }
    }
    return true;
}

const struct qmp_command qmp_job_commands[] = {
    {"job-pause", id_args, false, cmd_job_pause, "pauses a job until job-resume", NULL},
    {"job-resume", id_args, false, cmd_job_resume, "lifts the user's pause", NULL},
    {"job-cancel", id_args, false, cmd_job_cancel, "cancels a job with force", NULL},
    {"job-complete", id_args, false, cmd_job_complete, "tells a ready job to finish", NULL},
    {"job-finalize", id_args, false, cmd_job_finalize, "finalises a pending job and its transaction", NULL},
    {"job-dismiss", id_args, false, cmd_job_dismiss, "forgets a concluded job", NULL},
    {"query-jobs", QMP_NO_ARGS, false, cmd_query_jobs, "all jobs, newest first", NULL},
    {.name = NULL},
};
