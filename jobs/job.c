/* Jobs from outside: identity, life, and the verbs of the user (reference/jobs.md 1.1, 1.3, 1.6). */
#include <errno.h>
#include <string.h>

#include "jobs/job_int.h"

/* --- lists and identity --------------------------------------------------------------------------------- */

/* Errors live outside of the world's memory: they go one by one when the rest is dropped at once. */
static void jobs_forget_host(struct sim *sim, void *state, struct host *host)
{
    if (host->jobs == NULL) {
        return;
    }
    for (Job *job = host->jobs->first; job != NULL; job = job->next) {
        error_free(job->err);
        if (job->driver->forget != NULL) {
            job->driver->forget(job);
        }
        JOB_HOOK(job, forget);
    }
}

static void jobs_forget_world(struct sim *sim, void *state)
{
    for (struct host *host = host_first(sim); host != NULL; host = host->next) {
        jobs_forget_host(sim, state, host);
    }
}

static const struct sim_ext_ops jobs_ext_ops = {
    .reset = jobs_forget_world,
    .host_crash = jobs_forget_host,
};

void jobs_init(struct host *host)
{
    SIM_ASSERT(host->jobs == NULL);
    if (sim_ext(host->sim, SIM_EXT_JOBS) == NULL) {
        sim_ext_set(host->sim, SIM_EXT_JOBS, &jobs_ext_ops, host->sim);
    }
    host->jobs = (struct JobList *)SIM_NEW(host->arena, JobList);
}

void jobs_cleanup(struct host *host)
{
    SIM_ASSERT(host->jobs->first == NULL);
    SIM_FREE(host->arena, JobList, host->jobs);
    host->jobs = NULL;
}

Job *job_next(struct host *host, const Job *after)
{
    return after != NULL ? after->next : host->jobs->first;
}

Job *job_find(struct host *host, const char *id)
{
    for (Job *job = host->jobs->first; job != NULL; job = job->next) {
        if (job->id != NULL && strcmp(job->id->str, id) == 0) {
            return job;
        }
    }
    return NULL;
}

Job *job_find_err(struct host *host, const char *id, Error **errp)
{
    Job *job = job_find(host, id);

    if (job == NULL) {
        error_setg(errp, "Job not found");
    }
    return job;
}

static void job_list_remove(Job *job)
{
    Job **link = &job->host->jobs->first;

    while (*link != job) {
        SIM_ASSERT(*link != NULL);
        link = &(*link)->next;
    }
    *link = job->next;
    job->next = NULL;
}

bool job_is_internal(const Job *job)
{
    return job->id == NULL;
}

bool job_is_paused(const Job *job)
{
    return job->paused;
}

const char *job_id(const Job *job)
{
    return job->id != NULL ? job->id->str : NULL;
}

/* --- life ----------------------------------------------------------------------------------------------- */

static bool id_char(char c, bool first)
{
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

    return letter || (!first && ((c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'));
}

static bool job_id_wellformed(const char *id)
{
    if (!id_char(id[0], true)) {
        return false;
    }
    for (const char *p = id + 1; *p != '\0'; p++) {
        if (!id_char(*p, false)) {
            return false;
        }
    }
    return true;
}

static bool job_id_usable(struct host *host, const char *id, unsigned flags, Error **errp)
{
    SIM_ASSERT((id == NULL) == ((flags & JOB_INTERNAL) != 0));
    if (id == NULL) {
        return true;
    }
    if (!job_id_wellformed(id)) {
        error_setg(errp, "Invalid job ID '%s'", id);
        return false;
    }
    if (job_find(host, id) != NULL) {
        error_setg(errp, "Job ID '%s' already in use", id);
        return false;
    }
    return true;
}

Job *job_create(struct host *host, const char *id, const JobDriver *driver, JobTxn *txn, unsigned flags,
                void (*cb)(void *opaque, int ret), void *cb_opaque, Error **errp)
{
    Job *job;

    SIM_ASSERT(driver->run != NULL && driver->instance_size >= sizeof(Job));
    if (!job_id_usable(host, id, flags, errp)) {
        return NULL;
    }
    job = sim_alloc(host->arena, driver->type, driver->instance_size);
    job->host = host;
    job->driver = driver;
    job->id = id != NULL ? sim_name(host->sim, id) : NULL;
    job->refcnt = 1;
    job->pause_count = 1;
    job->auto_finalize = (flags & JOB_MANUAL_FINALIZE) == 0;
    job->auto_dismiss = (flags & JOB_MANUAL_DISMISS) == 0;
    job->sleep_timer.heap_index = -1;
    job->cb = cb;
    job->cb_opaque = cb_opaque;
    job->next = host->jobs->first;
    host->jobs->first = job;
    job_state_transition(job, JOB_STATUS_CREATED);
    if (txn != NULL) {
        job_txn_add_job(txn, job);
    } else {
        txn = job_txn_new(host);
        job_txn_add_job(txn, job);
        job_txn_unref(txn);
    }
    return job;
}

void job_ref(Job *job)
{
    SIM_ASSERT(job->refcnt > 0);
    job->refcnt++;
}

void job_unref(Job *job)
{
    SIM_ASSERT(job->refcnt > 0);
    if (--job->refcnt > 0) {
        return;
    }
    SIM_ASSERT(job->status == JOB_STATUS_NULL && job->txn == NULL && job->co == NULL);
    SIM_ASSERT(!sim_timer_queued(&job->sleep_timer));
    if (job->driver->free != NULL) {
        job->driver->free(job);
    }
    JOB_HOOK(job, free);
    error_free(job->err);
    sim_free(job->host->arena, job->driver->type, job, job->driver->instance_size);
}

void job_do_dismiss(Job *job)
{
    job->busy = false;
    job->paused = false;
    job_txn_del_job(job);
    job_list_remove(job);
    job_state_transition(job, JOB_STATUS_NULL);
    error_free(job->err); /* out of the list, so nobody asks any more */
    job->err = NULL;
    job_unref(job);
}

void job_early_fail(Job *job)
{
    SIM_ASSERT(job->status == JOB_STATUS_CREATED && !job->started);
    job_do_dismiss(job);
}

/* --- verbs ---------------------------------------------------------------------------------------------- */

bool job_user_paused(const Job *job)
{
    return job->user_paused;
}

void job_user_pause(Job *job, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_PAUSE, errp) < 0) {
        return;
    }
    if (job->user_paused) {
        error_setg(errp, "Job is already paused");
        return;
    }
    job->user_paused = true;
    job_pause(job);
}

/* The flag and the drivers' view of it; the count is the caller's. */
static void job_lift_user_pause(Job *job)
{
    SIM_ASSERT(job->user_paused && job->pause_count > 0);
    if (job->driver->user_resume != NULL) {
        job->driver->user_resume(job);
    }
    JOB_HOOK(job, user_resume);
    job->user_paused = false;
}

void job_user_resume(Job *job, Error **errp)
{
    if (!job->user_paused) {
        error_setg(errp, "Can't resume a job that was not paused");
        return;
    }
    if (job_apply_verb(job, JOB_VERB_RESUME, errp) < 0) {
        return;
    }
    job_lift_user_pause(job);
    job_resume(job);
}

void job_complete(Job *job, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_COMPLETE, errp) < 0) {
        return;
    }
    if (job->cancelled || job->driver->complete == NULL) {
        error_setg(errp, "The active block job '%s' cannot be completed", job->id != NULL ? job->id->str : "");
        return;
    }
    if (job->status == JOB_STATUS_STANDBY) {
        SIM_MARK(job->host->sim, job_complete_in_standby);
    }
    job->driver->complete(job, errp);
}

void job_finalize(Job *job, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_FINALIZE, errp) < 0) {
        return;
    }
    job_do_finalize(job);
}

void job_dismiss(Job **job, Error **errp)
{
    if (job_apply_verb(*job, JOB_VERB_DISMISS, errp) < 0) {
        return;
    }
    job_do_dismiss(*job);
    *job = NULL;
}

/* --- cancel --------------------------------------------------------------------------------------------- */

void job_cancel_async(Job *job, bool force)
{
    /* Only a driver that knows a soft cancel can keep it soft. */
    force = job->driver->cancel != NULL ? job->driver->cancel(job, force) : true;
    if (force && job->user_paused) {
        job_lift_user_pause(job);
        SIM_ASSERT(job->pause_count > 0);
        job->pause_count--;
        job_report_pause_count(job);
    }
    /* A run that is over keeps its outcome unless it is taken away by force. */
    if (!force && job->finished_run) {
        return;
    }
    job->cancelled = true;
    if (force && !job->force_cancel) {
        SIM_MARK(job->host->sim, job_force_cancel);
        job->force_cancel = true;
    }
}

void job_cancel(Job *job, bool force)
{
    if (job->status == JOB_STATUS_CONCLUDED) {
        job_do_dismiss(job);
        return;
    }
    if (job->status == JOB_STATUS_ABORTING || job->status == JOB_STATUS_NULL) {
        return;
    }
    job_cancel_async(job, force);
    if (!job->started) {
        job_completed(job);
    } else if (!job_is_completed(job)) {
        /* Nothing for a run that is over: its deferred end sees the flag. */
        job_kick(job);
    } else if (job->force_cancel) {
        if (job->status == JOB_STATUS_PENDING) {
            SIM_MARK(job->host->sim, job_cancel_in_pending);
        }
        job_txn_abort(job);
    }
}

void job_user_cancel(Job *job, bool force, Error **errp)
{
    if (job_apply_verb(job, JOB_VERB_CANCEL, errp) < 0) {
        return;
    }
    job_cancel(job, force);
}

static bool job_is_over(void *opaque)
{
    const Job *job = opaque;

    return job_is_completed(job) && job->status != JOB_STATUS_ABORTING;
}

int job_cancel_sync(Job *job, bool force)
{
    int ret;

    SIM_ASSERT(host_in_main(job->host));
    job_ref(job);
    job_cancel(job, force);
    host_poll(job->host, job_is_over, job);
    ret = job->ret == 0 && job->force_cancel ? -ECANCELED : job->ret;
    job_unref(job);
    return ret;
}

void job_cancel_sync_all(struct host *host)
{
    Job *job;

    while ((job = host->jobs->first) != NULL) {
        job_cancel_sync(job, true);
    }
}
