/*
 * job-machine, commands: the table of verbs (reference/jobs.md 1.3) and what a cancel that was accepted leads to
 * (1.6).
 */
#include <string.h>

#include "check/job_machine.h"
#include "vm/runstate.h"

/* Where a verb is accepted, 1.3, by the commands that carry it. */
static const struct verb {
    const char *command;
    const char *key;
    unsigned states;
    enum { V_OTHER, V_PAUSE, V_RESUME, V_CANCEL, V_FORCE, V_SPEED, V_FINALIZE, V_DISMISS } kind;
} verbs[] = {
    {"job-pause", "id", ALIVE, V_PAUSE},
    {"job-resume", "id", ALIVE, V_RESUME},
    {"job-cancel", "id", ALIVE | S(WAITING) | S(PENDING), V_FORCE},
    {"job-complete", "id", S(READY) | S(STANDBY), V_OTHER},
    {"job-finalize", "id", S(PENDING), V_FINALIZE},
    {"job-dismiss", "id", S(CONCLUDED), V_DISMISS},
    {"block-job-pause", "device", ALIVE, V_PAUSE},
    {"block-job-resume", "device", ALIVE, V_RESUME},
    {"block-job-cancel", "device", ALIVE | S(WAITING) | S(PENDING), V_CANCEL},
    {"block-job-complete", "device", S(READY) | S(STANDBY), V_OTHER},
    {"block-job-set-speed", "device", ALIVE, V_SPEED},
    {"block-job-finalize", "id", S(PENDING), V_FINALIZE},
    {"block-job-dismiss", "id", S(CONCLUDED), V_DISMISS},
    {"block-job-change", "id", ALIVE, V_OTHER},
};

/* A command in hand, with what it would change. */
struct pending {
    const struct qmp_call *call;
    const struct verb *verb;
    struct machine *machine;
    enum job_status status;
    bool user_paused;
    bool forces; /* a cancel, and a forced one */
    bool io_failed;
    uint64_t number;
    struct pending *next;
};

static struct machine *find_str(struct job_machine *state, uint32_t host, const char *id)
{
    struct machine *m = id ? state->machines : NULL;

    while (m && !(m->host == host && strcmp(m->id->str, id) == 0 && !m->gone)) {
        m = m->next;
    }
    return m;
}

const struct qmp_call *job_verbs_call(const struct job_machine *state, uint32_t host, uint64_t *number)
{
    const struct pending *p = state->pending;

    while (p && p->call->host->number != host) {
        p = p->next;
    }
    *number = p ? p->number : 0;
    return p ? p->call : NULL;
}

/* A cancel without force is a soft one only for who can be ready, a mirror or an active commit, and only then. */
static bool cancel_forces(const struct pending *p)
{
    bool soft = p->verb->kind == V_CANCEL && !check_call_bool(p->call, "force", false) &&
                ((1u << p->status) & (S(READY) | S(STANDBY)));

    return (p->verb->kind == V_CANCEL || p->verb->kind == V_FORCE) && !soft;
}

/* What is in hand may show before it is answered. */
static void taken_up(const struct pending *p, int count)
{
    unsigned add = (unsigned)count;

    p->machine->forcing += p->forces ? add : 0;
    p->machine->finalizing += p->verb->kind == V_FINALIZE ? add : 0;
    p->machine->dismissing += p->verb->kind == V_DISMISS ? add : 0;
}

/* `cont` clears the io-status of jobs too; they stay paused (block.md 7.5). */
static void on_cont(struct job_machine *state, const struct qmp_call *call)
{
    for (struct machine *m = state->machines; m; m = m->next) {
        m->io_failed =
            m->io_failed && (m->host != call->host->number || vm_run_state(call->host) == RUN_STATE_SHUTDOWN);
    }
}

static void on_command(void *opaque, const struct sim_record *record)
{
    struct job_machine *state = opaque;
    const struct qmp_call *call = record->ref;
    struct pending *p = (struct pending *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*p));

    p->call = call;
    p->number = ++state->commands;
    p->next = state->pending;
    state->pending = p;
    if (str_is(call->command->name, "cont")) {
        on_cont(state, call);
    }
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (str_is(call->command->name, verbs[i].command)) {
            p->verb = &verbs[i];
            p->machine = find_str(state, record->host, check_call_str(call, verbs[i].key));
        }
    }
    if (!p->machine) {
        return;
    }
    p->status = p->machine->status;
    p->user_paused = p->machine->user_paused;
    p->io_failed = p->machine->io_failed;
    p->forces = cancel_forces(p);
    taken_up(p, 1);
    if (p->verb->kind == V_RESUME || p->verb->kind == V_CANCEL || p->verb->kind == V_FORCE) {
        p->machine->user_paused = false; /* it may run from now on; put back when the command is refused */
        p->machine->io_failed = false;
    }
    if (p->verb->kind == V_SPEED) {
        p->machine->speed_known = false; /* until it is answered it may be the old or the new one */
    }
}

static void answered(struct job_machine *state, const struct pending *p, const char *error)
{
    struct machine *m = p->machine;
    bool legal = p->verb->states & (1u << p->status);

    if (!error && !legal) {
        machine_violate(state, m, "verb-accepted", p->verb->command, "%s was accepted in state %s",
                        p->verb->command, job_status_name(p->status));
    } else if (error && legal && strstr(error, "cannot accept command verb")) {
        machine_violate(state, m, "verb-refused", p->verb->command, "%s was refused in state %s: %s",
                        p->verb->command, job_status_name(p->status), error);
    }
    if (!error && (p->verb->kind == V_RESUME || p->verb->kind == V_CANCEL || p->verb->kind == V_FORCE)) {
        m->stop_due = false; /* lifted before the job came to park */
    }
    if (p->verb->kind == V_SPEED) {
        const struct qvalue *speed = qdict_get(p->call->args, "speed");

        m->speed = error ? m->speed : speed->integer;
        m->speed_known = m->asked || !error;
    }
    m->io_failed |= error && p->io_failed;
    if (error && p->user_paused) {
        m->user_paused = true;
    } else if (!error && p->verb->kind == V_PAUSE && !m->gone) {
        m->user_paused = true;
    }
    m->forced |= p->forces && !error;
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
    if (sim_record_str(record, 2)) {
        machine_refused(state, p->number);
    }
    if (p->machine) {
        taken_up(p, -1);
        answered(state, p, sim_record_str(record, 2));
    }
    sim_free(state->check->arena, SIM_TYPE_check_state, p, sizeof(*p));
}

void job_verbs_crash(struct job_machine *state, const struct host *host)
{
    for (struct pending **link = &state->pending; *link;) {
        struct pending *p = *link;

        if (p->call->host == host) {
            *link = p->next;
            if (p->machine) {
                taken_up(p, -1);
            }
            sim_free(state->check->arena, SIM_TYPE_check_state, p, sizeof(*p));
        } else {
            link = &p->next;
        }
    }
}

void job_verbs_attach(struct job_machine *state)
{
    sim_subscribe(state->check->sim, EV_qmp_command, on_command, state);
    sim_subscribe(state->check->sim, EV_qmp_reply, on_reply, state);
}
