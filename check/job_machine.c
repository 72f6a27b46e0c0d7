/*
 * job-machine: a job's states, verbs, events and progress (reference/jobs.md 1 and 2). The tables are stated here
 * again on purpose: the engine's own cannot prove themselves.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "check/job_machine.h"

/* Which states may follow, reference/jobs.md 1.2. Aborting to aborting is silent, so it is no event. */
static const unsigned may_follow[JOB_STATUS_COUNT] = {
    [JOB_STATUS_UNDEFINED] = S(CREATED),
    [JOB_STATUS_CREATED] = S(RUNNING) | S(ABORTING) | S(NULL),
    [JOB_STATUS_RUNNING] = S(PAUSED) | S(READY) | S(WAITING) | S(ABORTING),
    [JOB_STATUS_PAUSED] = S(RUNNING),
    [JOB_STATUS_READY] = S(STANDBY) | S(WAITING) | S(ABORTING),
    [JOB_STATUS_STANDBY] = S(READY),
    [JOB_STATUS_WAITING] = S(PENDING) | S(ABORTING),
    [JOB_STATUS_PENDING] = S(ABORTING) | S(CONCLUDED),
    [JOB_STATUS_ABORTING] = S(CONCLUDED),
    [JOB_STATUS_CONCLUDED] = S(NULL),
};

struct machine *machine_find(struct job_machine *state, uint32_t host, const struct sim_name *id)
{
    struct machine *m = state->machines;

    while (m && !(m->host == host && m->id == id)) {
        m = m->next;
    }
    return m;
}

void machine_violate(struct job_machine *state, const struct machine *m, const char *rule, const char *op,
                     const char *fmt, ...)
{
    struct violation_where where = {.host = check_host_name(check_host(state->check->sim, m->host)),
                                    .job = m->id->str,
                                    .job_type = m->type,
                                    .phase = job_status_name(m->status),
                                    .op = op};
    char text[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    check_violate(state->check->set, "job-machine", rule, &where, "job %s: %s", m->id->str, text);
}

bool machine_is_mirror(const struct machine *m)
{
    return m->mirrors;
}

/* No block job: it sends no events beyond the states that it passes (reference/jobs.md 1.1). */
static bool is_plain(const struct machine *m)
{
    return strcmp(m->type, "create") == 0;
}

/* --- progress --------------------------------------------------------------------------------------------- */

static void look_at_progress(struct job_machine *state, struct machine *m, const Job *job)
{
    if (job->progress_current < m->progress) {
        machine_violate(state, m, "progress-back", NULL, "progress went from %" PRId64 " back to %" PRId64,
                        m->progress, job->progress_current);
    }
    if (job->progress_current < 0 || job->progress_remaining < 0) {
        machine_violate(state, m, "progress-bounds", NULL, "progress %" PRId64 ", remaining %" PRId64,
                        job->progress_current, job->progress_remaining);
    }
    if (machine_is_mirror(m) && job->progress_current > m->copied) {
        machine_violate(state, m, "progress-unearned", NULL,
                        "progress %" PRId64 ", and operations copied %" PRId64 " bytes", job->progress_current,
                        m->copied);
    }
    m->progress = job->progress_current;
    machine_total(state, m, job);
}

/* What failed is to be done again, and counts then. */
static void on_op_end(void *opaque, const struct sim_record *record)
{
    struct machine *m = machine_find(opaque, record->host, sim_record_name(record, 0));

    if (m && (int64_t)record->field[4] >= 0) {
        m->copied += (int64_t)record->field[3];
    }
}

/* Out of a pause that the user asked for: only by his leave, or because the job is being cancelled. A job that was
 * let go and is paused again before it came round may show itself and park; doing anything is too much. */
void machine_works(struct job_machine *state, struct machine *m)
{
    if (m->unasked && m->user_paused) {
        machine_violate(state, m, "resumed-unasked", NULL, "the user has paused the job, and it runs again");
    }
    m->unasked = false;
}

static void on_sleep(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    struct machine *m = machine_find(state, record->host, sim_record_name(record, 0));
    Job *job = m && !m->gone ? check_job_of(state->check->sim, record) : NULL;

    if (job) {
        look_at_progress(state, m, job);
        machine_works(state, m);
    }
}

/* --- states ----------------------------------------------------------------------------------------------- */

static struct machine *created(struct job_machine *state, const struct sim_record *record)
{
    struct sim_arena *arena = state->check->arena;
    struct machine *m = machine_find(state, record->host, sim_record_name(record, 0));
    Job *job = check_job_of(state->check->sim, record);

    if (m && !m->gone) {
        return m; /* the table will say no */
    }
    if (!m) {
        m = (struct machine *)sim_alloc(arena, SIM_TYPE_check_state, sizeof(*m));
        m->next = state->machines;
        state->machines = m;
    }
    *m = (struct machine){.host = record->host,
                          .id = sim_record_name(record, 0),
                          .next = m->next,
                          .type = job ? job_type_name(job->driver->job_type) : "job"};
    m->mirrors = strcmp(m->type, "mirror") == 0 || (job && block_job_is_active_commit(job));
    machine_learn(state, m);
    return m;
}

static void entered(struct job_machine *state, struct machine *m, enum job_status from)
{
    if (m->status == JOB_STATUS_READY && from == JOB_STATUS_RUNNING) {
        m->ready_due = true;
    }
    if (m->status == JOB_STATUS_RUNNING) {
        m->ever_ran = true;
    }
    if (m->status == JOB_STATUS_PAUSED || m->status == JOB_STATUS_STANDBY) {
        m->stop_due = false;
        if (m->in_flight > 0) {
            machine_violate(state, m, "paused-with-io", NULL, "it parks, and %u of its requests are in flight",
                            m->in_flight);
        }
    }
    if (m->status == JOB_STATUS_CONCLUDED && m->ever_ran && !m->terminal_seen && !is_plain(m)) {
        machine_violate(state, m, "no-terminal-event", NULL,
                        "concluded without BLOCK_JOB_COMPLETED or BLOCK_JOB_CANCELLED");
    }
    if (m->status == JOB_STATUS_CONCLUDED && (!m->ever_ran || is_plain(m)) && m->terminal_seen) {
        machine_violate(state, m, "terminal-event-unstarted", NULL,
                        "a job that never ran, or is plain, sent a terminal event");
    }
    if (m->status == JOB_STATUS_NULL) {
        m->gone = true;
    }
}

static void on_status(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    const char *name = sim_record_str(record, 1);
    enum job_status status;
    enum job_status from;
    struct machine *m;
    Job *job = check_job_of(state->check->sim, record);

    SIM_ASSERT(job_status_parse(name, &status));
    m = status == JOB_STATUS_CREATED ? created(state, record)
                                     : machine_find(state, record->host, sim_record_name(record, 0));
    if (!m) {
        return; /* older than the checkers */
    }
    from = m->status;
    if (m->gone || !(may_follow[from] & (1u << status))) {
        machine_violate(state, m, "transition", name, "%s after %s", name,
                        m->gone ? "the end" : job_status_name(from));
    }
    if (m->ready_due) {
        machine_violate(state, m, "ready-event-missing", NULL, "state %s after ready, without BLOCK_JOB_READY",
                        name);
        m->ready_due = false;
    }
    m->status = status;
    if ((from == JOB_STATUS_PAUSED && status == JOB_STATUS_RUNNING) ||
        (from == JOB_STATUS_STANDBY && status == JOB_STATUS_READY)) {
        m->unasked = m->user_paused && !(job && job->force_cancel);
    } else if (status == JOB_STATUS_PAUSED || status == JOB_STATUS_STANDBY || status == JOB_STATUS_ABORTING) {
        m->unasked = false;
    } else {
        machine_works(state, m);
    }
    machine_step(state, m, from, job);
    entered(state, m, from);
    if (job && !m->gone) {
        look_at_progress(state, m, job);
    }
}

/* --- specific events -------------------------------------------------------------------------------------- */

static struct machine *of_device(struct job_machine *state, const struct sim_record *record, unsigned field,
                                 const char *event)
{
    struct machine *m = machine_find(state, record->host, sim_record_name(record, field));

    if (m && m->gone) {
        machine_violate(state, m, "event-after-end", event, "%s after the job was dismissed", event);
    }
    if (m && m->ready_due && record->kind != EV_BLOCK_JOB_READY) {
        machine_violate(state, m, "ready-event-missing", event, "%s after state ready, before BLOCK_JOB_READY",
                        event);
        m->ready_due = false;
    }
    return m;
}

/* What all events with a length say of the job itself. */
static void check_fields(struct job_machine *state, struct machine *m, const struct sim_record *record,
                         const char *event)
{
    const char *type = sim_record_str(record, 0);

    if (m->asked && strcmp(type, m->asked_type) != 0) {
        machine_violate(state, m, "event-type", event, "%s of type %s, a job of type %s was asked for", event, type,
                        m->asked_type);
    }
    if (m->speed_known && (int64_t)record->field[4] != m->speed) {
        machine_violate(state, m, "event-speed", event, "%s with speed %" PRId64 ", set was %" PRId64, event,
                        (int64_t)record->field[4], m->speed);
    }
}

static void check_whole(struct job_machine *state, struct machine *m, const struct sim_record *record,
                        const char *event, bool whole)
{
    int64_t length = (int64_t)record->field[2];
    int64_t offset = (int64_t)record->field[3];

    if (offset < 0 || offset > length) {
        machine_violate(state, m, "progress-bounds", event, "%s with offset %" PRId64 ", len %" PRId64, event,
                        offset, length);
    } else if (whole && offset != length) {
        machine_violate(state, m, "progress-incomplete", event,
                        "%s with offset %" PRId64 ", len %" PRId64 ": expected both equal", event, offset, length);
    }
}

static void on_ready(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    struct machine *m = of_device(state, record, 1, "BLOCK_JOB_READY");

    if (!m) {
        return;
    }
    if (m->ready_seen) {
        machine_violate(state, m, "ready-twice", "BLOCK_JOB_READY", "a second BLOCK_JOB_READY");
    } else if (!m->ready_due) {
        machine_violate(state, m, "ready-order", "BLOCK_JOB_READY",
                        "BLOCK_JOB_READY in state %s, expected right after ready", job_status_name(m->status));
    }
    m->ready_due = false;
    m->ready_seen = true;
    check_fields(state, m, record, "BLOCK_JOB_READY");
    check_whole(state, m, record, "BLOCK_JOB_READY", true);
}

static void terminal(struct job_machine *state, struct machine *m, const char *event, unsigned states)
{
    if (m->terminal_seen) {
        machine_violate(state, m, "terminal-twice", event, "a second terminal event");
    }
    if (!(states & (1u << m->status))) {
        machine_violate(state, m, "terminal-order", event, "%s in state %s", event, job_status_name(m->status));
    }
    m->terminal_seen = true;
}

static void on_completed(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    struct machine *m = of_device(state, record, 1, "BLOCK_JOB_COMPLETED");
    bool failed = sim_record_str(record, 5) != NULL;

    if (!m) {
        return;
    }
    terminal(state, m, "BLOCK_JOB_COMPLETED", failed ? S(ABORTING) : S(PENDING));
    check_fields(state, m, record, "BLOCK_JOB_COMPLETED");
    check_whole(state, m, record, "BLOCK_JOB_COMPLETED", !failed || m->waited);
    machine_ended(state, m, !failed);
    if (!failed && m->reported) {
        machine_violate(state, m, "error-forgotten", "BLOCK_JOB_COMPLETED",
                        "success although an error was reported or a query failed");
    }
    if (m->forced) {
        machine_violate(state, m, "cancel-ignored", "BLOCK_JOB_COMPLETED",
                        "a forced cancel was accepted, and the job did not end as cancelled");
    }
    if (!failed && !m->ready_seen && machine_is_mirror(m)) {
        machine_violate(state, m, "ready-skipped", "BLOCK_JOB_COMPLETED",
                        "a mirror ended in success without BLOCK_JOB_READY");
    }
}

static void on_cancelled(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    struct machine *m = of_device(state, record, 1, "BLOCK_JOB_CANCELLED");

    if (m) {
        terminal(state, m, "BLOCK_JOB_CANCELLED", S(ABORTING));
        check_fields(state, m, record, "BLOCK_JOB_CANCELLED");
        check_whole(state, m, record, "BLOCK_JOB_CANCELLED", m->waited);
        machine_ended(state, m, false);
        if (!m->forced && m->forcing == 0 && !machine_taken_along(state, m)) {
            machine_violate(state, m, "cancelled-unasked", "BLOCK_JOB_CANCELLED",
                            "nobody cancelled the job by force, nor did its group end badly");
        }
    }
}

static void on_pending_event(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    struct machine *m = of_device(state, record, 1, "BLOCK_JOB_PENDING");

    if (!m) {
        return;
    }
    if (m->status != JOB_STATUS_PENDING || m->pending_said) {
        machine_violate(state, m, "pending-order", "BLOCK_JOB_PENDING", "BLOCK_JOB_PENDING%s in state %s",
                        m->pending_said ? " once more" : "", job_status_name(m->status));
    }
    m->pending_said = true;
}

/* The action that a policy may lead to. */
static bool action_fits(enum block_on_error policy, const char *action)
{
    switch (policy) {
    case BLOCKDEV_ON_ERROR_REPORT:
        return strcmp(action, "report") == 0;
    case BLOCKDEV_ON_ERROR_IGNORE:
        return strcmp(action, "ignore") == 0;
    case BLOCKDEV_ON_ERROR_STOP:
        return strcmp(action, "stop") == 0;
    default:
        return strcmp(action, "ignore") != 0;
    }
}

static void on_error(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    struct machine *m = of_device(state, record, 0, "BLOCK_JOB_ERROR");
    const char *operation = sim_record_str(record, 1);
    const char *action = sim_record_str(record, 2);
    enum block_on_error policy;

    if (!m) {
        return;
    }
    policy = strcmp(operation, "read") == 0 ? m->on_source : m->on_target;
    if (m->policy_known && !action_fits(policy, action)) {
        machine_violate(state, m, "error-policy", operation, "a %s error led to %s under policy %s", operation,
                        action, block_on_error_name(policy));
    }
    if (m->terminal_seen) {
        machine_violate(state, m, "error-after-end", operation, "BLOCK_JOB_ERROR after the terminal event");
    }
    if (strcmp(m->type, "stream") == 0 && strcmp(operation, "read") != 0) {
        machine_violate(state, m, "error-operation", operation, "a stream's errors are those of reads");
    }
    if (strcmp(action, "report") == 0 || (strcmp(action, "ignore") == 0 && strcmp(m->type, "stream") == 0)) {
        m->reported = true; /* what a stream passes over makes it fail in the end */
    } else if (strcmp(action, "stop") == 0) {
        Job *job = check_job_of(state->check->sim, record);

        m->io_failed = job && !job->force_cancel;
        m->user_paused = true;
        m->stop_due = m->status == JOB_STATUS_RUNNING || m->status == JOB_STATUS_READY;
    }
}

/* --- the world ------------------------------------------------------------------------------------------- */

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    const struct host *host = record->ref;

    for (struct machine *m = state->machines; m; m = m->next) {
        m->gone = m->gone || m->host == host->number;
    }
    job_verbs_crash(state, host);
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct job_machine *state = opaque;
    bool held = !final && check_any_stuck(check->sim); /* a drain at the end of a job, say, waits with it */

    for (struct machine *m = state->machines; m; m = m->next) {
        struct host *host = m->gone ? NULL : check_host(check->sim, m->host);
        Job *job = host ? job_find(host, m->id->str) : NULL;

        machine_works(state, m);
        /* it parks once its operations are over (jobs.md 1.4): one that is stuck keeps it */
        bool waits = job && block_job_is_mirror(job) && mirror_in_flight(job) > 0;

        if (job && m->stop_due && !waits && !job->force_cancel && ((1u << m->status) & (S(RUNNING) | S(READY)))) {
            machine_violate(state, m, "stop-ignored", NULL,
                            "an error under policy stop, and the job has not paused");
        }
        if (job && !m->gone && block_job_of(job) && ((1u << m->status) & ALIVE) &&
            (block_job_of(job)->iostatus != BLOCK_IO_STATUS_OK) != m->io_failed) {
            machine_violate(state, m, "io-status", NULL, "io-status is %s, and the last error that stopped it %s",
                            block_io_status_name(block_job_of(job)->iostatus),
                            m->io_failed ? "waits for its resume" : "was resumed");
        }
        if (!m->gone && !held) {
            machine_settled(state, m);
        }
        if (job && job->status != m->status) {
            machine_violate(state, m, "status-unannounced", NULL, "state %s, last announced %s",
                            job_status_name(job->status), job_status_name(m->status));
        }
    }
}

static void *attach(struct check *check)
{
    struct job_machine *state = (struct job_machine *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));
    static const struct check_subscription subscriptions[] = {
        {EV_JOB_STATUS_CHANGE, on_status},
        {EV_BLOCK_JOB_READY, on_ready},
        {EV_BLOCK_JOB_COMPLETED, on_completed},
        {EV_BLOCK_JOB_CANCELLED, on_cancelled},
        {EV_BLOCK_JOB_PENDING, on_pending_event},
        {EV_BLOCK_JOB_ERROR, on_error},
        {EV_job_sleep, on_sleep},
        {EV_mirror_op_end, on_op_end},
        {EV_mirror_active_write, on_op_end},
        {EV_host_crash, on_crash},
    };

    state->check = check;
    job_verbs_attach(state);
    job_media_attach(state);
    check_subscribe(check->sim, subscriptions, ARRAY_SIZE(subscriptions), state);
    return state;
}

const struct check_class check_job_machine = {
    .name = "job-machine",
    .doc = "status and verb tables, event order, error policy, progress, no job I/O while paused or after the end",
    .rules =
        "transition: a state followed one that it may not follow\n"
        "ready-event-missing, ready-twice, ready-order, ready-skipped: BLOCK_JOB_READY comes once, right after "
        "ready\n"
        "no-terminal-event, terminal-twice, terminal-order, terminal-event-unstarted: one COMPLETED or CANCELLED\n"
        "pending-order: BLOCK_JOB_PENDING outside of pending\n"
        "event-after-end, error-after-end, io-after-end: something came after the end\n"
        "progress-back, progress-bounds, progress-incomplete, progress-unearned: offset only grows, by what was "
        "copied, "
        "up to len, and reaches it\n"
        "error-policy, error-operation, error-forgotten, stop-ignored, io-status: the action taken is the "
        "policy's, and "
        "it is taken; a query of the job's that fails ends it\n"
        "error-untold: a commit ended in success over writes that failed, without BLOCK_JOB_ERROR\n"
        "total-grew: what a backup has to do became more\n"
        "error-missing: a query of an aborting job would tell no error\n"
        "io-while-stopped: a medium got a job's request while the job was paused or ending\n"
        "paused-with-io: a job said that it was paused while its requests were in flight\n"
        "resumed-unasked, slept-on: a user pause was lifted by somebody else, or what slept did not park\n"
        "status-unannounced: the state changed without an event\n"
        "event-type, event-speed: an event says what was not asked for\n"
        "verb-accepted, verb-refused: a command against the table of verbs\n"
        "cancelled-unasked, cancel-ignored: a job ends as cancelled if, and only if, it was cancelled by force, "
        "alone or "
        "with its group\n"
        "group-early, group-split: jobs that are grouped become pending together, and all or none end well\n"
        "pending-event-missing, pending-unasked, finalized-unasked, dismissed-unasked: what auto-finalize and "
        "auto-dismiss leave to the user is his\n"
        "outlived-refusal: a job has run, or is still there, whose command was refused\n"
        "stuck: all is quiet, and a job waits for something that is no user's\n",
    .attach = attach,
    .at_settled = at_settled,
};
