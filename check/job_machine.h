/*
 * Between the files of the checker job-machine; nobody else includes it.
 *
 *     job_machine.c   states, events, progress, media
 *     job_verbs.c     commands: which are accepted, and what they lead to
 */
#ifndef CHECK_JOB_MACHINE_H
#define CHECK_JOB_MACHINE_H

#include "check/checkers.h"
#include "jobs/mirror.h"

#define S(name) (1u << JOB_STATUS_##name)
#define ALIVE (S(CREATED) | S(RUNNING) | S(PAUSED) | S(READY) | S(STANDBY))

/* What is known of one job, under its ID for as long as the world lives. */
struct machine {
    uint32_t host;
    const struct sim_name *id;
    const char *type;
    enum job_status status;
    bool ready_due; /* S:ready was seen, READY must be next */
    bool ready_seen;
    bool terminal_seen;
    bool ever_ran;
    bool reported; /* an error with action report, or a query that failed: success is over */
    bool stop_due; /* an error with action stop: a pause must come */
    bool user_paused;
    bool unasked;     /* out of the pause all the same: it may only look around and park again */
    bool forced;      /* a cancel that is a forced one was accepted */
    unsigned forcing; /* such cancels in hand */
    bool gone;        /* null was sent */
    int64_t progress; /* what has been seen done */
    int64_t copied;   /* by operations that ended well */
    enum block_on_error on_source, on_target;
    bool policy_known;
    struct machine *next;
};

struct pending;

struct job_machine {
    struct check *check;
    struct machine *machines; /* newest first */
    struct pending *pending;  /* commands in hand */
};

/* The latest job of that ID; NULL: none. */
struct machine *machine_find(struct job_machine *state, uint32_t host, const struct sim_name *id);
SIM_PRINTF(5, 6)
void machine_violate(struct job_machine *state, const struct machine *m, const char *rule, const char *op,
                     const char *fmt, ...);
/* A mirror decides by its state what a cancel means; others may be taken along by their group. */
bool machine_is_mirror(const struct machine *m);

/* --- job_verbs.c --- */
void job_verbs_attach(struct job_machine *state);
/* The command of that name which the host has in hand; NULL: none. */
const struct qmp_call *job_verbs_call(const struct job_machine *state, uint32_t host, const char *name);
void job_verbs_crash(struct job_machine *state, const struct host *host);

#endif
