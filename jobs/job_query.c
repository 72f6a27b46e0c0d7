/* Entries of query-jobs and query-block-jobs (reference/jobs.md 1.9). */
#include "jobs/blockjob.h"
#include "sim/qvalue.h"

static void put_str(struct qvalue *entry, const char *key, const char *text)
{
    qdict_put(entry, key, qvalue_str(text));
}

static void put_error(struct qvalue *entry, const Job *job)
{
    if (job->err != NULL) {
        put_str(entry, "error", error_get_pretty(job->err));
    }
}

static int64_t job_total(const Job *job)
{
    return job->progress_current + job->progress_remaining;
}

struct qvalue *job_query(const Job *job)
{
    struct qvalue *entry = qvalue_dict();

    SIM_ASSERT(!job_is_internal(job));
    put_str(entry, "id", job_id(job));
    put_str(entry, "type", job_type_name(job->driver->job_type));
    put_str(entry, "status", job_status_name(job->status));
    qdict_put(entry, "current-progress", qvalue_int(job->progress_current));
    qdict_put(entry, "total-progress", qvalue_int(job_total(job)));
    put_error(entry, job);
    return entry;
}

struct qvalue *block_job_query(const BlockJob *block_job)
{
    const Job *job = &block_job->job;
    const BlockJobDriver *driver = block_job_driver(block_job);
    struct qvalue *entry = qvalue_dict();

    SIM_ASSERT(!job_is_internal(job));
    put_str(entry, "type", job_type_name(job->driver->job_type));
    put_str(entry, "device", job_id(job));
    qdict_put(entry, "len", qvalue_int(job_total(job)));
    qdict_put(entry, "offset", qvalue_int(job->progress_current));
    qdict_put(entry, "busy", qvalue_bool(job->busy));
    qdict_put(entry, "paused", qvalue_bool(job->pause_count > 0));
    qdict_put(entry, "speed", qvalue_int(block_job->speed));
    put_str(entry, "io-status", block_io_status_name(block_job->iostatus));
    qdict_put(entry, "ready", qvalue_bool(job_is_ready(job)));
    put_str(entry, "status", job_status_name(job->status));
    qdict_put(entry, "auto-finalize", qvalue_bool(job->auto_finalize));
    qdict_put(entry, "auto-dismiss", qvalue_bool(job->auto_dismiss));
    put_error(entry, job);
    if (driver->query != NULL) {
        driver->query(block_job, entry);
    }
    return entry;
}
