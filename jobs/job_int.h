/*
 * Between the files of the job engine; nobody else includes it.
 */
#ifndef JOBS_JOB_INT_H
#define JOBS_JOB_INT_H

#include "jobs/job.h"

typedef struct JobList {
    Job *first; /* newest */
} JobList;

struct JobTxn {
    struct host *host;
    Job *jobs; /* newest first */
    unsigned refcnt;
    bool aborting;
};

/* The one place where a status changes: asserts the table, tells clients of jobs that are not internal. */
void job_state_transition(Job *job, enum job_status to);
/* Out of the list and to state null; drops the list's reference. */
void job_do_dismiss(Job *job);
/* The deferred end of a run function, and of a job that is cancelled before it ran. Main coroutine. */
void job_completed(Job *job);
/* Group abort (1.5): job is the one it starts from. */
void job_txn_abort(Job *job);
void job_do_finalize(Job *job);
void job_txn_del_job(Job *job);
/* The pause count has changed. */
void job_report_pause_count(const Job *job);
/* Notes a cancel without waking anybody. */
void job_cancel_async(Job *job, bool force);

#define JOB_HOOK(job, hook) \
    do { \
        if ((job)->hooks != NULL && (job)->hooks->hook != NULL) { \
            (job)->hooks->hook(job); \
        } \
    } while (0)

#endif
