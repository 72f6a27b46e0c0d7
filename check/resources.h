/*
 * The resources checker from inside. Private to check/resources*.c.
 *
 *   resources.c        refused commands, and the end of everything
 *   resources_jobs.c   jobs that failed or were given up
 */
#ifndef CHECK_RESOURCES_H
#define CHECK_RESOURCES_H

#include "check/census.h"

/* A command in hand. */
struct command {
    const struct qmp_call *call;
    struct host *host;
    uint32_t moved; /* 1 << part: what somebody else may have changed meanwhile; all parts: nothing can be said */
    struct census before;
    struct command *next;
};

struct resources {
    struct check *check;
    struct owned *owned;
    struct command *open;
    struct command *spare;
    struct watched_job *jobs; /* resources_jobs.c */
    struct census now;        /* for comparing */
    bool crashed;             /* a host died: what its coroutines held outside of its arena is nobody's any more */
};

#define CENSUS_ALL ((1u << CENSUS_PARTS) - 1)

void resources_jobs_attach(struct resources *state);
/* The command was answered. What it found may be needed for a job that it started: then it is taken from it. */
void resources_jobs_answered(struct resources *state, struct command *command, bool accepted);
/* Jobs that have gone since are compared, in a quiet moment. */
void resources_jobs_look(struct resources *state, const struct host *host);

#endif
