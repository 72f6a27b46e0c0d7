/*
 * Jobs: long-running operations and the transactions that group them (reference/jobs.md 1).
 *
 *                       +--------- aborting <-------+-----------+----------+
 *                       |             |             |           |          |
 *   undefined -> created -> running -> waiting -> pending -> concluded -> null
 *                             |  ^        ^
 *                             v  |        |
 *                           paused      ready <-> standby     (running -> ready)
 *
 * A job is made in state created with one pause count held; job_start drops it. Its run function lives in a
 * coroutine of its own and must pass pause points regularly. When it returns, the rest happens on the main
 * coroutine: waiting, pending, concluded, null in step with the other members of its transaction.
 *
 * Jobs belong to their host's list. The list holds one reference; job_unref at zero frees. IDs are unique among all
 * jobs that are not dismissed; internal jobs have none, send no events and are not listed.
 */
#ifndef JOBS_JOB_H
#define JOBS_JOB_H

#include "sim/coroutine.h"
#include "sim/error.h"

enum job_status {
    JOB_STATUS_UNDEFINED,
    JOB_STATUS_CREATED,
    JOB_STATUS_RUNNING,
    JOB_STATUS_PAUSED,
    JOB_STATUS_READY,
    JOB_STATUS_STANDBY,
    JOB_STATUS_WAITING,
    JOB_STATUS_PENDING,
    JOB_STATUS_ABORTING,
    JOB_STATUS_CONCLUDED,
    JOB_STATUS_NULL,
    JOB_STATUS_COUNT,
};
const char *job_status_name(enum job_status status); /* "undefined", "created", ... */
bool job_status_parse(const char *text, enum job_status *out);
/* The table of section 1.2, for checkers and documentation. */
bool job_transition_legal(enum job_status from, enum job_status to);

enum job_verb {
    JOB_VERB_CANCEL,
    JOB_VERB_PAUSE,
    JOB_VERB_RESUME,
    JOB_VERB_SET_SPEED,
    JOB_VERB_COMPLETE,
    JOB_VERB_FINALIZE,
    JOB_VERB_DISMISS,
    JOB_VERB_CHANGE,
    JOB_VERB_COUNT,
};
const char *job_verb_name(enum job_verb verb);
bool job_verb_legal(enum job_status status, enum job_verb verb);

enum job_type {
    JOB_TYPE_COMMIT,
    JOB_TYPE_STREAM,
    JOB_TYPE_MIRROR,
    JOB_TYPE_BACKUP,
    JOB_TYPE_CREATE,
    /* names only: there are no such jobs here */
    JOB_TYPE_AMEND,
    JOB_TYPE_SNAPSHOT_LOAD,
    JOB_TYPE_SNAPSHOT_SAVE,
    JOB_TYPE_SNAPSHOT_DELETE,
    JOB_TYPE_COUNT,
};
const char *job_type_name(enum job_type type);

typedef struct Job Job;
typedef struct JobTxn JobTxn;

/* What a kind of job does. Hooks may be NULL unless said otherwise. */
typedef struct JobDriver {
    enum job_type job_type;
    size_t instance_size; /* Job is the first member of the instance */
    enum sim_type type;   /* arena type of the instance */
    /* Required. Runs in the job's coroutine; returns 0 or a negative errno. */
    int (*run)(Job *job, Error **errp);
    void (*pause)(Job *job); /* before going paused: wait for own I/O; coroutine context */
    void (*resume)(Job *job);
    void (*user_resume)(Job *job); /* a user pause is being lifted: reset the error state */
    void (*complete)(Job *job, Error **errp);
    bool (*cancel)(Job *job, bool force); /* returns whether the cancel is a forced one */
    int (*prepare)(Job *job);             /* main coroutine; may fail */
    void (*commit)(Job *job);
    void (*abort)(Job *job); /* never fails */
    void (*clean)(Job *job); /* after commit or abort */
    void (*free)(Job *job);
    /* The host died or the world ends: frees what is no world memory (errors), touches nothing else. */
    void (*forget)(Job *job);
} JobDriver;

/* What a family of jobs (the block jobs) adds to each of its members: the specific events, which follow the status
 * change of the same step (1.8), and what it keeps beside the driver. All may be NULL. */
typedef struct JobHooks {
    void (*ready)(Job *job);
    void (*pending)(Job *job);   /* waits for finalize */
    void (*completed)(Job *job); /* by itself, with or without error */
    void (*cancelled)(Job *job);
    void (*user_resume)(Job *job);
    void (*clean)(Job *job); /* after the driver's */
    void (*free)(Job *job);
    void (*forget)(Job *job); /* as the driver's */
} JobHooks;

enum { JOB_INTERNAL = 1, JOB_MANUAL_FINALIZE = 2, JOB_MANUAL_DISMISS = 4 };

struct Job {
    struct host *host;
    const JobDriver *driver;
    const JobHooks *hooks;     /* NULL: a plain job */
    const struct sim_name *id; /* NULL: internal */
    enum job_status status;
    unsigned refcnt;
    unsigned pause_count;
    bool user_paused;
    bool busy;
    bool paused; /* parked at a pause point */
    bool force_cancel;
    bool cancelled; /* soft or force */
    bool auto_finalize;
    bool auto_dismiss;
    bool started;
    bool finished_run; /* the run function has returned */
    int ret;
    Error *err;
    int64_t progress_current;
    int64_t progress_remaining; /* total = current + remaining */
    Coroutine *co;
    struct sim_timer sleep_timer;
    bool sleep_is_rate; /* the pending sleep is a rate sleep (3) */
    JobTxn *txn;
    Job *txn_next;
    Job *next; /* newest first */
    void (*cb)(void *opaque, int ret);
    void *cb_opaque;
};

/* --- lists and identity ---------------------------------------------------------------------------------- */

void jobs_init(struct host *host);
void jobs_cleanup(struct host *host);               /* no job may be left */
Job *job_next(struct host *host, const Job *after); /* newest first, listed and internal */
Job *job_find(struct host *host, const char *id);
/* As job_find, with "Job not found" in errp. */
Job *job_find_err(struct host *host, const char *id, Error **errp);

/* id NULL: internal (flags must have JOB_INTERNAL). txn NULL: one of its own. State created, pause count 1. NULL
 * with errp: malformed ID "Invalid job ID 'X'", "Job ID 'X' already in use". */
Job *job_create(struct host *host, const char *id, const JobDriver *driver, JobTxn *txn, unsigned flags,
                void (*cb)(void *opaque, int ret), void *cb_opaque, Error **errp);
void job_ref(Job *job);
void job_unref(Job *job);
/* Ends a job whose set-up failed: created -> null, no other event. */
void job_early_fail(Job *job);
void job_start(Job *job);

bool job_is_internal(const Job *job);
bool job_is_ready(const Job *job);     /* ready or standby */
bool job_is_completed(const Job *job); /* waiting or later */
bool job_is_paused(const Job *job);
const char *job_id(const Job *job); /* NULL: internal */

/* --- transactions ---------------------------------------------------------------------------------------- */

JobTxn *job_txn_new(struct host *host);
void job_txn_unref(JobTxn *txn);
void job_txn_add_job(JobTxn *txn, Job *job);

/* --- for run functions (the job's coroutine) ------------------------------------------------------------- */

/* Parks while the pause count is positive (1.4). */
void job_pause_point(Job *job);
/* Waits for a kick, or for a kick or the time. idle: the wait is no work. */
void job_yield(Job *job);
void job_sleep_ns(Job *job, int64_t delay_ns, bool idle);
/* The rate sleep: recomputes through next_delay after every wake-up and sleeps on until it is 0 or the job is force
 * cancelled [seed 7b770c7]. Sleeps at least once, perhaps 0 ns. */
void job_rate_sleep(Job *job, int64_t (*next_delay)(Job *job));
bool job_should_stop(const Job *job);
void job_transition_to_ready(Job *job);
void job_progress_update(Job *job, int64_t done);
void job_progress_set_remaining(Job *job, int64_t remaining);

/* --- from outside (main coroutine unless noted) ---------------------------------------------------------- */

/* Re-enters a job that is not busy; ends its sleep. Anywhere. */
void job_kick(Job *job);
/* Counted pauses, of drains. Anywhere. */
void job_pause(Job *job);
void job_resume(Job *job);
/* 0 or -EPERM with "Job 'ID' in state 'S' cannot accept command verb 'V'". */
int job_apply_verb(const Job *job, enum job_verb verb, Error **errp);
void job_user_pause(Job *job, Error **errp);
void job_user_resume(Job *job, Error **errp);
bool job_user_paused(const Job *job);
void job_user_cancel(Job *job, bool force, Error **errp);
void job_complete(Job *job, Error **errp);
void job_finalize(Job *job, Error **errp);
/* The job pointer is gone (NULL) on success. */
void job_dismiss(Job **job, Error **errp);
void job_cancel(Job *job, bool force);
/* Cancels and waits until it is over. Returns its code. */
int job_cancel_sync(Job *job, bool force);
void job_cancel_sync_all(struct host *host);

#endif
