/* Job states and verbs: the two tables of the reference (jobs.md 1.2, 1.3) and the step from one state to another.
 */
#include <errno.h>
#include <string.h>

#include "jobs/job_int.h"

static const char *const status_names[JOB_STATUS_COUNT] = {
    [JOB_STATUS_UNDEFINED] = "undefined", [JOB_STATUS_CREATED] = "created", [JOB_STATUS_RUNNING] = "running",
    [JOB_STATUS_PAUSED] = "paused",       [JOB_STATUS_READY] = "ready",     [JOB_STATUS_STANDBY] = "standby",
    [JOB_STATUS_WAITING] = "waiting",     [JOB_STATUS_PENDING] = "pending", [JOB_STATUS_ABORTING] = "aborting",
    [JOB_STATUS_CONCLUDED] = "concluded", [JOB_STATUS_NULL] = "null",
};

static const char *const verb_names[JOB_VERB_COUNT] = {
    [JOB_VERB_CANCEL] = "cancel",       [JOB_VERB_PAUSE] = "pause",       [JOB_VERB_RESUME] = "resume",
    [JOB_VERB_SET_SPEED] = "set-speed", [JOB_VERB_COMPLETE] = "complete", [JOB_VERB_FINALIZE] = "finalize",
    [JOB_VERB_DISMISS] = "dismiss",     [JOB_VERB_CHANGE] = "change",
};

static const char *const type_names[JOB_TYPE_COUNT] = {
    [JOB_TYPE_COMMIT] = "commit",
    [JOB_TYPE_STREAM] = "stream",
    [JOB_TYPE_MIRROR] = "mirror",
    [JOB_TYPE_BACKUP] = "backup",
    [JOB_TYPE_CREATE] = "create",
    [JOB_TYPE_AMEND] = "amend",
    [JOB_TYPE_SNAPSHOT_LOAD] = "snapshot-load",
    [JOB_TYPE_SNAPSHOT_SAVE] = "snapshot-save",
    [JOB_TYPE_SNAPSHOT_DELETE] = "snapshot-delete",
};

/* clang-format off */
static const bool transitions[JOB_STATUS_COUNT][JOB_STATUS_COUNT] = {
    /* to:         undef creat runni pause ready stand waiti pendi abort concl null */
    /* undefined */ { 0,   1,    0,    0,    0,    0,    0,    0,    0,    0,    0 },
    /* created   */ { 0,   0,    1,    0,    0,    0,    0,    0,    1,    0,    1 },
    /* running   */ { 0,   0,    0,    1,    1,    0,    1,    0,    1,    0,    0 },
    /* paused    */ { 0,   0,    1,    0,    0,    0,    0,    0,    0,    0,    0 },
    /* ready     */ { 0,   0,    0,    0,    0,    1,    1,    0,    1,    0,    0 },
    /* standby   */ { 0,   0,    0,    0,    1,    0,    0,    0,    0,    0,    0 },
    /* waiting   */ { 0,   0,    0,    0,    0,    0,    0,    1,    1,    0,    0 },
    /* pending   */ { 0,   0,    0,    0,    0,    0,    0,    0,    1,    1,    0 },
    /* aborting  */ { 0,   0,    0,    0,    0,    0,    0,    0,    1,    1,    0 },
    /* concluded */ { 0,   0,    0,    0,    0,    0,    0,    0,    0,    0,    1 },
    /* null      */ { 0,   0,    0,    0,    0,    0,    0,    0,    0,    0,    0 },
};

static const bool verbs[JOB_VERB_COUNT][JOB_STATUS_COUNT] = {
    /* in:         undef creat runni pause ready stand waiti pendi abort concl null */
    /* cancel    */ { 0,   1,    1,    1,    1,    1,    1,    1,    0,    0,    0 },
    /* pause     */ { 0,   1,    1,    1,    1,    1,    0,    0,    0,    0,    0 },
    /* resume    */ { 0,   1,    1,    1,    1,    1,    0,    0,    0,    0,    0 },
    /* set-speed */ { 0,   1,    1,    1,    1,    1,    0,    0,    0,    0,    0 },
    /* complete  */ { 0,   0,    0,    0,    1,    1,    0,    0,    0,    0,    0 },
    /* finalize  */ { 0,   0,    0,    0,    0,    0,    0,    1,    0,    0,    0 },
    /* dismiss   */ { 0,   0,    0,    0,    0,    0,    0,    0,    0,    1,    0 },
    /* change    */ { 0,   1,    1,    1,    1,    1,    0,    0,    0,    0,    0 },
};
/* clang-format on */

const char *job_status_name(enum job_status status)
{
    SIM_ASSERT(status < JOB_STATUS_COUNT);
    return status_names[status];
}

bool job_status_parse(const char *text, enum job_status *out)
{
    for (unsigned i = 0; i < JOB_STATUS_COUNT; i++) {
        if (str_is(text, status_names[i])) {
            *out = (enum job_status)i;
            return true;
        }
    }
    return false;
}

const char *job_verb_name(enum job_verb verb)
{
    SIM_ASSERT(verb < JOB_VERB_COUNT);
    return verb_names[verb];
}

const char *job_type_name(enum job_type type)
{
    SIM_ASSERT(type < JOB_TYPE_COUNT);
    return type_names[type];
}

bool job_transition_legal(enum job_status from, enum job_status to)
{
    SIM_ASSERT(from < JOB_STATUS_COUNT && to < JOB_STATUS_COUNT);
    return transitions[from][to];
}

bool job_verb_legal(enum job_status status, enum job_verb verb)
{
    SIM_ASSERT(status < JOB_STATUS_COUNT && verb < JOB_VERB_COUNT);
    return verbs[verb][status];
}

void job_state_transition(Job *job, enum job_status to)
{
    enum job_status from = job->status;

    SIM_ASSERT(job_transition_legal(from, to));
    job->status = to;
    if (to == from || job_is_internal(job)) {
        return;
    }
    SIM_EMIT(job->host->sim, job->host, JOB_STATUS_CHANGE, job, SIM_P(job->id), SIM_P(status_names[to]));
}

bool job_is_ready(const Job *job)
{
    return job->status == JOB_STATUS_READY || job->status == JOB_STATUS_STANDBY;
}

bool job_is_completed(const Job *job)
{
    return job->status >= JOB_STATUS_WAITING;
}

int job_apply_verb(const Job *job, enum job_verb verb, Error **errp)
{
    if (job_verb_legal(job->status, verb)) {
        return 0;
    }
    error_setg(errp, "Job '%s' in state '%s' cannot accept command verb '%s'", job->id != NULL ? job->id->str : "",
               job_status_name(job->status), job_verb_name(verb));
    return -EPERM;
}
