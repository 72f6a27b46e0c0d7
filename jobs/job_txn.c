/* What happens when jobs end: the completion pipeline and the transactions in which jobs end together
 * (reference/jobs.md 1.5). Everything here runs on the main coroutine. */
#include <errno.h>

#include "jobs/job_int.h"

/* --- membership ----------------------------------------------------------------------------------------- */

JobTxn *job_txn_new(struct host *host)
{
    JobTxn *txn = SIM_NEW(host->arena, JobTxn);

    txn->host = host;
    txn->refcnt = 1;
    return txn;
}

static void job_txn_ref(JobTxn *txn)
{
    SIM_ASSERT(txn->refcnt > 0);
    txn->refcnt++;
}

void job_txn_unref(JobTxn *txn)
{
    if (txn == NULL) {
        return;
    }
    SIM_ASSERT(txn->refcnt > 0);
    if (--txn->refcnt == 0) {
        SIM_ASSERT(txn->jobs == NULL);
        SIM_FREE(txn->host->arena, JobTxn, txn);
    }
}

void job_txn_add_job(JobTxn *txn, Job *job)
{
    SIM_ASSERT(job->txn == NULL && job->status == JOB_STATUS_CREATED);
    job->txn = txn;
    job->txn_next = txn->jobs;
    txn->jobs = job;
    job_txn_ref(txn);
}

void job_txn_del_job(Job *job)
{
    JobTxn *txn = job->txn;
    Job **link;

    if (txn == NULL) {
        return;
    }
    for (link = &txn->jobs; *link != job; link = &(*link)->txn_next) {
        SIM_ASSERT(*link != NULL);
    }
    *link = job->txn_next;
    job->txn_next = NULL;
    job->txn = NULL;
    job_txn_unref(txn);
}

/* --- one job -------------------------------------------------------------------------------------------- */

/* Settles the code: a member that had succeeded and was then cancelled by force must not commit. */
static void job_update_ret(Job *job)
{
    if (job->ret == 0 && job->force_cancel) {
        job->ret = -ECANCELED;
    }
    if (job->ret == 0) {
        return;
    }
    if (job->err == NULL) {
        error_setg(&job->err, "%s", sim_errno_text(job->ret));
    }
    job_state_transition(job, JOB_STATUS_ABORTING);
}

static void job_conclude(Job *job)
{
    job_txn_del_job(job);
    job_state_transition(job, JOB_STATUS_CONCLUDED);
    if (job->auto_dismiss || !job->started) {
        job_do_dismiss(job);
    }
}

static void job_run_final_hooks(Job *job)
{
    void (*last)(Job *) = job->ret == 0 ? job->driver->commit : job->driver->abort;

    if (last != NULL) {
        last(job);
    }
    if (job->driver->clean != NULL) {
        job->driver->clean(job);
    }
    JOB_HOOK(job, clean);
}

static void job_finalize_single(Job *job)
{
    SIM_ASSERT(job_is_completed(job));
    job_ref(job);
    job_update_ret(job);
    job_run_final_hooks(job);
    if (job->cb != NULL) {
        job->cb(job->cb_opaque, job->ret);
    }
    if (job->started) {
        if (job->force_cancel) {
            JOB_HOOK(job, cancelled);
        } else {
            JOB_HOOK(job, completed);
        }
    }
    job_conclude(job);
    job_unref(job);
}

/* --- the group ------------------------------------------------------------------------------------------ */

static bool job_completed_cond(void *opaque)
{
    return job_is_completed(opaque);
}

/* A member of a failing group is brought to its end: one that never ran at once, others by themselves. */
static void job_await_end(Job *job)
{
    if (job_is_completed(job)) {
        return;
    }
    if (!job->started) {
        job_update_ret(job);
        return;
    }
    host_poll(job->host, job_completed_cond, job);
}

void job_txn_abort(Job *job)
{
    JobTxn *txn = job->txn;
    Job *member;

    SIM_ASSERT(txn != NULL && host_in_main(txn->host));
    if (txn->aborting) {
        return; /* the outer abort ends this member too */
    }
    txn->aborting = true;
    job_txn_ref(txn);
    for (member = txn->jobs; member != NULL; member = member->txn_next) {
        if (member != job) {
            job_cancel_async(member, true);
            job_kick(member);
        }
    }
    while ((member = txn->jobs) != NULL) {
        job_ref(member);
        job_await_end(member);
        job_finalize_single(member);
        job_unref(member);
    }
    job_txn_unref(txn);
}

void job_do_finalize(Job *job)
{
    JobTxn *txn = job->txn;
    Job *failed = NULL;

    SIM_ASSERT(txn != NULL && host_in_main(txn->host));
    job_txn_ref(txn);
    for (Job *member = txn->jobs; member != NULL && failed == NULL; member = member->txn_next) {
        SIM_ASSERT(member->status == JOB_STATUS_PENDING);
        if (member->ret == 0 && member->driver->prepare != NULL) {
            member->ret = member->driver->prepare(member);
            SIM_ASSERT(member->ret <= 0);
        }
        job_update_ret(member);
        failed = member->ret != 0 ? member : NULL;
    }
    if (failed != NULL) {
        SIM_MARK(txn->host->sim, job_prepare_failed);
        job_txn_abort(failed);
    } else {
        while (txn->jobs != NULL) {
            job_finalize_single(txn->jobs);
        }
    }
    job_txn_unref(txn);
}

static bool job_txn_all(const JobTxn *txn, bool (*fn)(const Job *job))
{
    for (const Job *member = txn->jobs; member != NULL; member = member->txn_next) {
        if (!fn(member)) {
            return false;
        }
    }
    return true;
}

static bool job_finalizes_itself(const Job *job)
{
    return job->auto_finalize;
}

static void job_txn_success(Job *job)
{
    JobTxn *txn = job->txn;

    job_state_transition(job, JOB_STATUS_WAITING);
    if (!job_txn_all(txn, job_is_completed)) {
        return;
    }
    for (Job *member = txn->jobs; member != NULL; member = member->txn_next) {
        SIM_ASSERT_EQ(member->ret, 0);
        job_state_transition(member, JOB_STATUS_PENDING);
        if (!member->auto_finalize) {
            JOB_HOOK(member, pending);
        }
    }
    if (job_txn_all(txn, job_finalizes_itself)) {
        job_do_finalize(job);
    }
}

void job_completed(Job *job)
{
    SIM_ASSERT(host_in_main(job->host));
    SIM_ASSERT(job->txn != NULL && !job_is_completed(job));
    job_update_ret(job);
    if (job->ret != 0) {
        job_txn_abort(job);
    } else {
        job_txn_success(job);
    }
}
