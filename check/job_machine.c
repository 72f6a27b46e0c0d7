/*
 * job-machine: a job's states, verbs, events and progress (reference/jobs.md 1 and 2). The tables are stated here
 * again on purpose: the engine's own cannot prove themselves.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "check/checkers.h"
#include "jobs/mirror.h"

#define S(name) (1u << JOB_STATUS_##name)

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

#define ALIVE (S(CREATED) | S(RUNNING) | S(PAUSED) | S(READY) | S(STANDBY))

/* Where a verb is accepted, 1.3, by the commands that carry it. */
static const struct verb {
    const char *command;
    const char *key;
    unsigned states;
    enum { V_OTHER, V_PAUSE, V_RESUME, V_CANCEL, V_FORCE } kind;
} verbs[] = {
    {"job-pause", "id", ALIVE, V_PAUSE},
    {"job-resume", "id", ALIVE, V_RESUME},
    {"job-cancel", "id", ALIVE | S(WAITING) | S(PENDING), V_FORCE},
    {"job-complete", "id", S(READY) | S(STANDBY), V_OTHER},
    {"job-finalize", "id", S(PENDING), V_OTHER},
    {"job-dismiss", "id", S(CONCLUDED), V_OTHER},
    {"block-job-pause", "device", ALIVE, V_PAUSE},
    {"block-job-resume", "device", ALIVE, V_RESUME},
    {"block-job-cancel", "device", ALIVE | S(WAITING) | S(PENDING), V_CANCEL},
    {"block-job-complete", "device", S(READY) | S(STANDBY), V_OTHER},
    {"block-job-set-speed", "device", ALIVE, V_OTHER},
    {"block-job-finalize", "id", S(PENDING), V_OTHER},
    {"block-job-dismiss", "id", S(CONCLUDED), V_OTHER},
    {"block-job-change", "id", ALIVE, V_OTHER},
};

struct machine {
    uint32_t host;
    const struct sim_name *id;
    const char *type;
    enum job_status status;
    bool ready_due;     /* S:ready was seen, READY must be next */
    bool ready_seen;
    bool terminal_seen;
    bool ever_ran;
    bool reported;      /* an error with action report: success is over */
    bool stop_due;      /* an error with action stop: a pause must come */
    bool user_paused;
    bool unasked;       /* out of the pause all the same: it may only look around and park again */
    bool gone;          /* null was sent */
    int64_t progress;   /* what has been seen done */
    enum block_on_error on_source, on_target;
    bool policy_known;
    struct machine *next;
};

/* The command in hand of each host, with what it would change. */
struct pending {
    const struct qmp_call *call;
    const struct verb *verb;
    struct machine *machine;
    enum job_status status;
    bool user_paused;
    struct pending *next;
};

struct job_machine {
    struct check *check;
    struct machine *machines; /* newest first */
    struct pending *pending;
};

static struct machine *find(struct job_machine *state, uint32_t host, const struct sim_name *id)
{
    struct machine *m = state->machines;

    while (m && !(m->host == host && m->id == id)) {
        m = m->next;
    }
    return m;
}

static struct machine *find_str(struct job_machine *state, uint32_t host, const char *id)
{
    struct machine *m = id ? state->machines : NULL;

    while (m && !(m->host == host && strcmp(m->id->str, id) == 0 && !m->gone)) {
        m = m->next;
    }
    return m;
}

SIM_PRINTF(5, 6)
static void violate(struct job_machine *state, const struct machine *m, const char *rule, const char *op,
                    const char *fmt, ...)
{
    struct violation_where where = {.host = check_host_name(check_host(state->check->sim, m->host)),
                                    .job = m->id->str, .job_type = m->type, .phase = job_status_name(m->status),
                                    .op = op};
    char text[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    check_violate(state->check->set, "job-machine", rule, &where, "job %s: %s", m->id->str, text);
}

static struct qmp_call const *current_call(const struct job_machine *state, uint32_t host, const char *name)
{
    for (const struct pending *p = state->pending; p; p = p->next) {
        if (p->call->host->number == host && (!name || strcmp(p->call->command->name, name) == 0)) {
            return p->call;
        }
    }
    return NULL;
}

static void learn_policies(struct job_machine *state, struct machine *m)
{
    const struct qmp_call *call = current_call(state, m->host, "blockdev-mirror");
    const char *id = call ? check_call_str(call, "job-id") : NULL;
    const char *source;
    const char *target;

    if (!call || (id && strcmp(id, m->id->str) != 0)) {
        return;
    }
    source = check_call_str(call, "on-source-error");
    target = check_call_str(call, "on-target-error");
    m->policy_known = block_on_error_parse(source ? source : "report", &m->on_source) &&
                      block_on_error_parse(target ? target : "report", &m->on_target);
}

/* --- progress --------------------------------------------------------------------------------------------- */

static void look_at_progress(struct job_machine *state, struct machine *m, const Job *job)
{
    if (job->progress_current < m->progress) {
        violate(state, m, "progress-back", NULL, "progress went from %" PRId64 " back to %" PRId64, m->progress,
                job->progress_current);
    }
    if (job->progress_current < 0 || job->progress_remaining < 0) {
        violate(state, m, "progress-bounds", NULL, "progress %" PRId64 ", remaining %" PRId64, job->progress_current,
                job->progress_remaining);
    }
    m->progress = job->progress_current;
}

/* Out of a pause that the user asked for: only by his leave, or because the job is being cancelled. A job that was let
 * go and is paused again before it came round may show itself and park; doing anything is too much. */
static void works(struct job_machine *state, struct machine *m)
{
    if (m->unasked && m->user_paused) {
        violate(state, m, "resumed-unasked", NULL, "the user has paused the job, and it runs again");
    }
    m->unasked = false;
}

static void on_sleep(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    struct machine *m = find(state, record->host, sim_record_name(record, 0));
    Job *job = m && !m->gone ? check_job_of(state->check->sim, record) : NULL;

    if (job) {
        look_at_progress(state, m, job);
        works(state, m);
    }
}

/* --- states ----------------------------------------------------------------------------------------------- */

static struct machine *created(struct job_machine *state, const struct sim_record *record)
{
    struct sim_arena *arena = state->check->arena;
    struct machine *m = find(state, record->host, sim_record_name(record, 0));
    Job *job = check_job_of(state->check->sim, record);

    if (m && !m->gone) {
        return m; /* the table will say no */
    }
    if (!m) {
        m = (struct machine *)sim_alloc(arena, SIM_TYPE_check_state, sizeof(*m));
        m->next = state->machines;
        state->machines = m;
    }
    *m = (struct machine){.host = record->host, .id = sim_record_name(record, 0), .next = m->next,
                          .type = job ? job_type_name(job->driver->job_type) : "job"};
    learn_policies(state, m);
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
    }
    if (m->status == JOB_STATUS_CONCLUDED && m->ever_ran && !m->terminal_seen) {
        violate(state, m, "no-terminal-event", NULL, "concluded without BLOCK_JOB_COMPLETED or BLOCK_JOB_CANCELLED");
    }
    if (m->status == JOB_STATUS_CONCLUDED && !m->ever_ran && m->terminal_seen) {
        violate(state, m, "terminal-event-unstarted", NULL, "a job that never ran sent a terminal event");
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
    m = status == JOB_STATUS_CREATED ? created(state, record) : find(state, record->host, sim_record_name(record, 0));
    if (!m) {
        return; /* older than the checkers */
    }
    from = m->status;
    if (m->gone || !(may_follow[from] & (1u << status))) {
        violate(state, m, "transition", name, "%s after %s", name, m->gone ? "the end" : job_status_name(from));
    }
    if (m->ready_due) {
        violate(state, m, "ready-event-missing", NULL, "state %s after ready, without BLOCK_JOB_READY", name);
        m->ready_due = false;
    }
    m->status = status;
    if ((from == JOB_STATUS_PAUSED && status == JOB_STATUS_RUNNING) ||
        (from == JOB_STATUS_STANDBY && status == JOB_STATUS_READY)) {
        m->unasked = m->user_paused && !(job && job->force_cancel);
    } else if (status == JOB_STATUS_PAUSED || status == JOB_STATUS_STANDBY || status == JOB_STATUS_ABORTING) {
        m->unasked = false;
    } else {
        works(state, m);
    }
    entered(state, m, from);
    if (job && !m->gone) {
        look_at_progress(state, m, job);
    }
}

/* --- specific events -------------------------------------------------------------------------------------- */

static struct machine *of_device(struct job_machine *state, const struct sim_record *record, unsigned field,
                                 const char *event)
{
    struct machine *m = find(state, record->host, sim_record_name(record, field));

    if (m && m->gone) {
        violate(state, m, "event-after-end", event, "%s after the job was dismissed", event);
    }
    if (m && m->ready_due && record->kind != EV_BLOCK_JOB_READY) {
        violate(state, m, "ready-event-missing", event, "%s after state ready, before BLOCK_JOB_READY", event);
        m->ready_due = false;
    }
    return m;
}

static void check_whole(struct job_machine *state, struct machine *m, const struct sim_record *record,
                        const char *event, bool whole)
{
    int64_t length = (int64_t)record->field[2];
    int64_t offset = (int64_t)record->field[3];

    if (offset < 0 || offset > length) {
        violate(state, m, "progress-bounds", event, "%s with offset %" PRId64 ", len %" PRId64, event, offset, length);
    } else if (whole && offset != length) {
        violate(state, m, "progress-incomplete", event, "%s with offset %" PRId64 ", len %" PRId64 ": expected both equal",
                event, offset, length);
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
        violate(state, m, "ready-twice", "BLOCK_JOB_READY", "a second BLOCK_JOB_READY");
    } else if (!m->ready_due) {
        violate(state, m, "ready-order", "BLOCK_JOB_READY", "BLOCK_JOB_READY in state %s, expected right after ready",
                job_status_name(m->status));
    }
    m->ready_due = false;
    m->ready_seen = true;
    check_whole(state, m, record, "BLOCK_JOB_READY", true);
}

static void terminal(struct job_machine *state, struct machine *m, const char *event, unsigned states)
{
    if (m->terminal_seen) {
        violate(state, m, "terminal-twice", event, "a second terminal event");
    }
    if (!(states & (1u << m->status))) {
        violate(state, m, "terminal-order", event, "%s in state %s", event, job_status_name(m->status));
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
    check_whole(state, m, record, "BLOCK_JOB_COMPLETED", !failed);
    if (!failed && m->reported) {
        violate(state, m, "error-forgotten", "BLOCK_JOB_COMPLETED", "success although an error was reported");
    }
    if (!failed && !m->ready_seen && strcmp(m->type, "mirror") == 0) {
        violate(state, m, "ready-skipped", "BLOCK_JOB_COMPLETED", "a mirror ended in success without BLOCK_JOB_READY");
    }
}

static void on_cancelled(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    struct machine *m = of_device(state, record, 1, "BLOCK_JOB_CANCELLED");

    if (m) {
        terminal(state, m, "BLOCK_JOB_CANCELLED", S(ABORTING));
        check_whole(state, m, record, "BLOCK_JOB_CANCELLED", false);
    }
}

static void on_pending_event(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    struct machine *m = of_device(state, record, 1, "BLOCK_JOB_PENDING");

    if (m && m->status != JOB_STATUS_PENDING) {
        violate(state, m, "pending-order", "BLOCK_JOB_PENDING", "BLOCK_JOB_PENDING in state %s",
                job_status_name(m->status));
    }
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
        violate(state, m, "error-policy", operation, "a %s error led to %s under policy %s", operation, action,
                block_on_error_name(policy));
    }
    if (m->terminal_seen) {
        violate(state, m, "error-after-end", operation, "BLOCK_JOB_ERROR after the terminal event");
    }
    if (strcmp(action, "report") == 0) {
        m->reported = true;
    } else if (strcmp(action, "stop") == 0) {
        m->user_paused = true;
        m->stop_due = m->status == JOB_STATUS_RUNNING || m->status == JOB_STATUS_READY;
    }
}

/* --- media ------------------------------------------------------------------------------------------------ */

static void on_disk_submit(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    const struct disk_req *req = record->ref;
    struct machine *m;

    if (!req || req->origin.kind != SIM_ORIGIN_JOB || !req->origin.name || !req->host ||
        !(req->op == SIM_OP_READ || check_op_writes(req->op))) {
        return;
    }
    m = find(state, req->host->number, req->origin.name);
    if (m) {
        works(state, m);
    }
    if (m && ((1u << m->status) & (S(PAUSED) | S(STANDBY) | S(ABORTING) | S(CONCLUDED) | S(NULL)))) {
        violate(state, m, "io-while-stopped", sim_op_name(req->op),
                "%s of %" PRId64 " bytes at %" PRId64 " on disk %s in state %s", sim_op_name(req->op), req->bytes,
                req->offset, disk_name(req->disk)->str, job_status_name(m->status));
    } else if (m && m->terminal_seen) {
        violate(state, m, "io-after-end", sim_op_name(req->op), "%s on disk %s after the terminal event",
                sim_op_name(req->op), disk_name(req->disk)->str);
    }
}

/* --- verbs ------------------------------------------------------------------------------------------------ */

static void on_command(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    const struct qmp_call *call = record->ref;
    struct pending *p = (struct pending *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*p));

    p->call = call;
    p->next = state->pending;
    state->pending = p;
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(call->command->name, verbs[i].command) == 0) {
            p->verb = &verbs[i];
            p->machine = find_str(state, record->host, check_call_str(call, verbs[i].key));
        }
    }
    if (!p->machine) {
        return;
    }
    p->status = p->machine->status;
    p->user_paused = p->machine->user_paused;
    if (p->verb->kind == V_RESUME || p->verb->kind == V_CANCEL || p->verb->kind == V_FORCE) {
        p->machine->user_paused = false; /* it may run from now on; put back when the command is refused */
    }
}

static void answered(struct job_machine *state, const struct pending *p, const char *error)
{
    struct machine *m = p->machine;
    bool legal = p->verb->states & (1u << p->status);

    if (!error && !legal) {
        violate(state, m, "verb-accepted", p->verb->command, "%s was accepted in state %s", p->verb->command,
                job_status_name(p->status));
    } else if (error && legal && strstr(error, "cannot accept command verb")) {
        violate(state, m, "verb-refused", p->verb->command, "%s was refused in state %s: %s", p->verb->command,
                job_status_name(p->status), error);
    }
    if (!error && p->verb->kind != V_PAUSE && p->verb->kind != V_OTHER) {
        m->stop_due = false; /* lifted before the job came to park */
    }
    if (error && p->user_paused) {
        m->user_paused = true;
    } else if (!error && p->verb->kind == V_PAUSE && !m->gone) {
        m->user_paused = true;
    }
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    struct pending **link = &state->pending;
    struct pending *p;

    while (*link && (*link)->call != record->ref) {
        link = &(*link)->next;
    }
    p = *link;
    if (!p) {
        return;
    }
    *link = p->next;
    if (p->machine) {
        answered(state, p, sim_record_str(record, 2));
    }
    sim_free(state->check->arena, SIM_TYPE_check_state, p, sizeof(*p));
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    const struct host *host = record->ref;

    for (struct machine *m = state->machines; m; m = m->next) {
        m->gone = m->gone || m->host == host->number;
    }
    for (struct pending **link = &state->pending; *link;) {
        struct pending *p = *link;

        if (p->call->host == host) {
            *link = p->next;
            sim_free(state->check->arena, SIM_TYPE_check_state, p, sizeof(*p));
        } else {
            link = &p->next;
        }
    }
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct job_machine *state = opaque;

    for (struct machine *m = state->machines; m; m = m->next) {
        struct host *host = m->gone ? NULL : check_host(check->sim, m->host);
        Job *job = host ? job_find(host, m->id->str) : NULL;

        works(state, m);
        if (job && m->stop_due && !job->force_cancel && ((1u << m->status) & (S(RUNNING) | S(READY)))) {
            violate(state, m, "stop-ignored", NULL, "an error under policy stop, and the job has not paused");
        }
        if (job && job->status != m->status) {
            violate(state, m, "status-unannounced", NULL, "state %s, last announced %s",
                    job_status_name(job->status), job_status_name(m->status));
        }
    }
}

static void *attach(struct check *check)
{
    struct job_machine *state = (struct job_machine *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));
    static const struct {
        enum sim_event_kind kind;
        sim_event_fn *fn;
    } subscriptions[] = {
        {EV_JOB_STATUS_CHANGE, on_status},       {EV_BLOCK_JOB_READY, on_ready},
        {EV_BLOCK_JOB_COMPLETED, on_completed},  {EV_BLOCK_JOB_CANCELLED, on_cancelled},
        {EV_BLOCK_JOB_PENDING, on_pending_event}, {EV_BLOCK_JOB_ERROR, on_error},
        {EV_job_sleep, on_sleep},                {EV_disk_submit, on_disk_submit},
        {EV_qmp_command, on_command},            {EV_qmp_reply, on_reply},
        {EV_host_crash, on_crash},
    };

    state->check = check;
    for (size_t i = 0; i < ARRAY_SIZE(subscriptions); i++) {
        sim_subscribe(check->sim, subscriptions[i].kind, subscriptions[i].fn, state);
    }
    return state;
}

const struct check_class check_job_machine = {
    .name = "job-machine",
    .doc = "status and verb tables, event order, error policy, progress, no job I/O while paused or after the end",
    .rules = "transition: a state followed one that it may not follow\n"
             "ready-event-missing, ready-twice, ready-order, ready-skipped: BLOCK_JOB_READY comes once, right after ready\n"
             "no-terminal-event, terminal-twice, terminal-order, terminal-event-unstarted: one COMPLETED or CANCELLED\n"
             "pending-order: BLOCK_JOB_PENDING outside of pending\n"
             "event-after-end, error-after-end, io-after-end: something came after the end\n"
             "progress-back, progress-bounds, progress-incomplete: offset only grows, up to len, and reaches it\n"
             "error-policy, error-forgotten, stop-ignored: the action taken is the policy's, and it is taken\n"
             "io-while-stopped: a medium got a job's request while the job was paused or ending\n"
             "resumed-unasked: a user pause was lifted by somebody else\n"
             "status-unannounced: the state changed without an event\n"
             "verb-accepted, verb-refused: a command against the table of verbs\n",
    .attach = attach,
    .at_settled = at_settled,
};
