/*
 * block-job-* commands: block jobs only, unknown ones are class DeviceNotActive (reference/jobs.md 1.3, 1.6, 9).
 */
#include <string.h>

#include "jobs/blockjob.h"
#include "monitor/commands.h"

static const struct qmp_arg device_args[] = {
    {.name = "device", .type = QMP_STR, .doc = "job ID"},
    {.name = NULL},
};

static const struct qmp_arg id_args[] = {
    {.name = "id", .type = QMP_STR, .doc = "job ID"},
    {.name = NULL},
};

static const struct qmp_arg cancel_args[] = {
    {.name = "device", .type = QMP_STR, .doc = "job ID"},
    {.name = "force", .type = QMP_BOOL, .optional = true, .def = "false", .doc = "also what is ready or paused"},
    {.name = NULL},
};

static const struct qmp_arg speed_args[] = {
    {.name = "device", .type = QMP_STR, .doc = "job ID"},
    {.name = "speed", .type = QMP_INT, .doc = "bytes per second, 0: unlimited"},
    {.name = NULL},
};

static const char *const job_types[] = {"commit", "stream",        "mirror",        "backup",          "create",
                                        "amend",  "snapshot-load", "snapshot-save", "snapshot-delete", NULL};
static const char *const copy_modes[] = {"background", "write-blocking", NULL};

static const struct qmp_arg change_args[] = {
    {.name = "id", .type = QMP_STR, .doc = "job ID"},
    {.name = "type", .type = QMP_ENUM, .choices = job_types, .doc = "type of the job"},
    {.name = "copy-mode", .type = QMP_ENUM, .choices = copy_modes, .doc = "write-blocking"},
    {.name = NULL},
};

static bool on_job(struct host *host, const struct qvalue *args, const char *key,
                   void (*op)(BlockJob *job, const struct qvalue *args, Error **errp), Error **errp)
{
    Error *local = NULL;
    BlockJob *job = block_job_find_err(host, qmp_arg_str(args, key, NULL), &local);
    if (job) {
        op(job, args, &local);
    }
    SIM_ASSERT(job || local);
    bool ok = !local;
    error_propagate(errp, local);
    return ok;
}

static void op_pause(BlockJob *job, const struct qvalue *args, Error **errp)
{
    job_user_pause(&job->job, errp);
}

static void op_resume(BlockJob *job, const struct qvalue *args, Error **errp)
{
    job_user_resume(&job->job, errp);
}

static void op_cancel(BlockJob *job, const struct qvalue *args, Error **errp)
{
    block_job_user_cancel(job, qmp_arg_bool(args, "force", false), errp);
}

static void op_complete(BlockJob *job, const struct qvalue *args, Error **errp)
{
    job_complete(&job->job, errp);
}

static void op_finalize(BlockJob *job, const struct qvalue *args, Error **errp)
{
    job_finalize(&job->job, errp);
}

static void op_dismiss(BlockJob *job, const struct qvalue *args, Error **errp)
{
    Job *plain = &job->job;
    job_dismiss(&plain, errp);
}

static void op_set_speed(BlockJob *job, const struct qvalue *args, Error **errp)
{
    block_job_set_speed(job, qmp_arg_int(args, "speed", 0), errp);
}

static void op_change(BlockJob *job, const struct qvalue *args, Error **errp)
{
    const char *name = qmp_arg_str(args, "type", NULL);
    enum job_type type = 0;
    while (strcmp(job_type_name(type), name) != 0) {
        type++;
        SIM_ASSERT_LT(type, JOB_TYPE_COUNT);
    }
    block_job_change(job, type, qmp_arg_str(args, "copy-mode", NULL), errp);
}

static bool cmd_pause(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, "device", op_pause, errp);
}

static bool cmd_resume(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, "device", op_resume, errp);
}

static bool cmd_cancel(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, "device", op_cancel, errp);
}

static bool cmd_complete(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, "device", op_complete, errp);
}

static bool cmd_set_speed(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, "device", op_set_speed, errp);
}

static bool cmd_finalize(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, "id", op_finalize, errp);
}

static bool cmd_dismiss(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, "id", op_dismiss, errp);
}

static bool cmd_change(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return on_job(host, args, "id", op_change, errp);
}

static bool cmd_query(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    *reply = qvalue_list();
    for (Job *job = job_next(host, NULL); job; job = job_next(host, job)) {
        const BlockJob *block_job = block_job_of(job);
        if (block_job && !job_is_internal(job)) {
            qlist_append(*reply, block_job_query(block_job));
        }
    }
    return true;
}

const struct qmp_command qmp_block_job_commands[] = {
    {"block-job-pause", device_args, false, cmd_pause, "pauses a block job until block-job-resume", NULL},
    {"block-job-resume", device_args, false, cmd_resume, "lifts the user's pause and clears the io-status", NULL},
    {"block-job-cancel", cancel_args, false, cmd_cancel,
     "cancels a block job; a ready mirror ends cleanly unless forced", NULL},
    {"block-job-complete", device_args, false, cmd_complete, "tells a ready block job to finish", NULL},
    {"block-job-set-speed", speed_args, false, cmd_set_speed, "limits a block job", NULL},
    {"block-job-finalize", id_args, false, cmd_finalize, "finalises a pending block job and its transaction", NULL},
    {"block-job-dismiss", id_args, false, cmd_dismiss, "forgets a concluded block job", NULL},
    {"block-job-change", change_args, false, cmd_change, "changes a running block job's options", NULL},
    {"query-block-jobs", QMP_NO_ARGS, false, cmd_query, "all block jobs, newest first", NULL},
    {.name = NULL},
};
