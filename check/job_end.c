/*
 * job-machine, ends: who ends with whom, what is asked of a user before a job may go on, and what must not wait
 * (reference/jobs.md 1.5).
 */
#include <string.h>

#include "check/job_machine.h"

/* The next member of the job's group beside itself; NULL: none. Jobs that are gone belong to it still. */
static struct machine *next_mate(const struct job_machine *state, const struct machine *m,
                                 const struct machine *after)
{
    struct machine *mate = after ? after->next : state->machines;

    while (mate && (mate == m || m->group == 0 || mate->host != m->host || mate->group != m->group)) {
        mate = mate->next;
    }
    return mate;
}

bool machine_taken_along(const struct job_machine *state, const struct machine *m)
{
    for (struct machine *mate = next_mate(state, m, NULL); mate; mate = next_mate(state, m, mate)) {
        if (mate->forced || mate->forcing > 0 || mate->aborted) {
            return true;
        }
    }
    return false;
}

void machine_ended(struct job_machine *state, struct machine *m, bool well)
{
    m->succeeded = well;
    for (struct machine *mate = next_mate(state, m, NULL); mate; mate = next_mate(state, m, mate)) {
        if (well ? mate->aborted : mate->succeeded) {
            machine_violate(state, m, "group-split", NULL, "it ended %s, and %s of its group %s",
                            well ? "well" : "badly", mate->id->str, well ? "badly" : "well");
        }
    }
}

/* Somebody lets the members of the group go. */
static bool finalized(const struct job_machine *state, const struct machine *m)
{
    bool asked = m->finalizing > 0;

    for (struct machine *mate = next_mate(state, m, NULL); mate; mate = next_mate(state, m, mate)) {
        asked |= mate->finalizing > 0;
    }
    return asked;
}

static bool waits_for_finalize(const struct job_machine *state, const struct machine *m)
{
    bool waits = m->asked && !m->auto_finalize;

    for (struct machine *mate = next_mate(state, m, NULL); mate; mate = next_mate(state, m, mate)) {
        waits |= !mate->asked || !mate->auto_finalize;
    }
    return waits || !m->asked;
}

static void left_pending(struct job_machine *state, struct machine *m)
{
    if (m->asked && m->auto_finalize == m->pending_said) {
        machine_violate(state, m, m->pending_said ? "pending-unasked" : "pending-event-missing", NULL,
                        "auto-finalize is %s, and BLOCK_JOB_PENDING was %s", m->auto_finalize ? "on" : "off",
                        m->pending_said ? "sent" : "not sent");
    }
    if (m->status == JOB_STATUS_CONCLUDED && m->asked && !m->auto_finalize && !finalized(state, m)) {
        machine_violate(state, m, "finalized-unasked", NULL, "auto-finalize is off, and nobody finalised the job");
    }
}

void machine_step(struct job_machine *state, struct machine *m, enum job_status from, const Job *job)
{
    if (m->status == JOB_STATUS_PENDING) {
        for (struct machine *mate = next_mate(state, m, NULL); mate; mate = next_mate(state, m, mate)) {
            if (!((1u << mate->status) & (S(WAITING) | S(PENDING)))) {
                machine_violate(state, m, "group-early", NULL, "pending, and %s of its group is %s", mate->id->str,
                                job_status_name(mate->status));
            }
        }
    }
    if (from == JOB_STATUS_PENDING) {
        left_pending(state, m);
    }
    m->waited |= m->status == JOB_STATUS_WAITING;
    m->aborted |= m->status == JOB_STATUS_ABORTING;
    if (m->status == JOB_STATUS_ABORTING && job && !job->err) {
        machine_violate(state, m, "error-missing", NULL, "aborting, and a query would tell no error");
    }
    if (m->status == JOB_STATUS_NULL && from == JOB_STATUS_CONCLUDED && m->asked && m->ever_ran &&
        !m->auto_dismiss && m->dismissing == 0) {
        machine_violate(state, m, "dismissed-unasked", NULL, "auto-dismiss is off, and nobody dismissed the job");
    }
}

static bool a_mate_runs(const struct job_machine *state, const struct machine *m)
{
    for (struct machine *mate = next_mate(state, m, NULL); mate; mate = next_mate(state, m, mate)) {
        if (!mate->gone && ((1u << mate->status) & (ALIVE | S(ABORTING)))) {
            return true;
        }
    }
    return false;
}

void machine_settled(struct job_machine *state, struct machine *m)
{
    bool stuck = (m->status == JOB_STATUS_WAITING && !a_mate_runs(state, m)) ||
                 (m->status == JOB_STATUS_PENDING && !waits_for_finalize(state, m)) ||
                 (m->status == JOB_STATUS_CONCLUDED && m->asked && m->auto_dismiss);

    if (stuck) {
        machine_violate(state, m, "stuck", NULL, "nobody has anything to do, and the job is %s",
                        job_status_name(m->status));
    }
}

void machine_refused(struct job_machine *state, uint64_t number)
{
    for (struct machine *m = state->machines; m; m = m->next) {
        if (m->command == number && (m->ever_ran || !m->gone)) {
            machine_violate(state, m, "outlived-refusal", NULL,
                            "the command that made it was refused, and the job %s",
                            m->ever_ran ? "has run" : "is still there");
        }
    }
}
