/*
 * Between the files of the checker job-machine; nobody else includes it.
 *
 *     job_machine.c   states, events, progress
 *     job_media.c     requests at the media
 *     job_verbs.c     commands: which are accepted, and what they lead to
 *     job_start.c     commands that start jobs: what they ask for
 *     job_end.c       ends: groups, finalize, dismiss
 */
#ifndef CHECK_JOB_MACHINE_H
#define CHECK_JOB_MACHINE_H

#include "check/checkers.h"
#include "jobs/commit.h"
#include "jobs/mirror.h"

#define S(name) (1u << JOB_STATUS_##name)
#define ALIVE (S(CREATED) | S(RUNNING) | S(PAUSED) | S(READY) | S(STANDBY))

/* What is known of one job, under its ID for as long as the world lives. */
struct machine {
    uint32_t host;
    const struct sim_name *id;
    const char *type;
    enum job_status status;
    bool mirrors;   /* a mirror or an active commit: becomes ready, and knows a soft cancel */
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
    int64_t total;    /* of a backup: the least it has been */
    bool total_known;
    bool to_park;       /* paused while it slept */
    unsigned untold;    /* failed writes since the last BLOCK_JOB_ERROR */
    unsigned in_flight; /* its requests at media */
    bool io_failed;     /* an error stopped it, and nobody has resumed it since */

    uint64_t command; /* the number of the one that made it; 0: none */

    /* what its command asked for */
    bool asked; /* the command was seen */
    const char *asked_type;
    bool auto_finalize, auto_dismiss;
    int64_t speed; /* now */
    bool speed_known;
    enum block_on_error on_source, on_target;
    bool policy_known;
    uint64_t group; /* the number of the command that started it in a group; 0: it is alone */

    /* how it ends */
    bool waited; /* its run ended well */
    bool aborted;
    bool succeeded;
    bool pending_said;
    unsigned finalizing, dismissing; /* such commands in hand */
    struct machine *next;
};

struct pending;

struct job_machine {
    struct check *check;
    struct machine *machines; /* newest first */
    struct pending *pending;  /* commands in hand, newest first */
    uint64_t commands;        /* so far */
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
/* The command which the host has in hand, and its number from 1; NULL: none. */
const struct qmp_call *job_verbs_call(const struct job_machine *state, uint32_t host, uint64_t *number);
void job_verbs_crash(struct job_machine *state, const struct host *host);

/* --- job_media.c --- */
void job_media_attach(struct job_machine *state);
/* Out of a pause that the user asked for: the job does something, and needs his leave. */
void machine_works(struct job_machine *state, struct machine *m);
/* How much there is to be done, and has been. */
void machine_total(struct job_machine *state, struct machine *m, const Job *job);

/* --- job_start.c --- */
void machine_learn(struct job_machine *state, struct machine *m);

/* --- job_end.c --- */
/* The command of that number was refused. */
void machine_refused(struct job_machine *state, uint64_t number);
/* The state has just changed; job is NULL when it is gone. */
void machine_step(struct job_machine *state, struct machine *m, enum job_status from, const Job *job);
/* The terminal event was sent. */
void machine_ended(struct job_machine *state, struct machine *m, bool well);
/* Another member of its group fails or is cancelled: this one goes with it. */
bool machine_taken_along(const struct job_machine *state, const struct machine *m);
void machine_settled(struct job_machine *state, struct machine *m);

#endif
