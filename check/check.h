/*
 * Checkers: what must hold, watched from outside (DESIGN 7).
 *
 * One file per checker, one row each in check/registry.c. A checker subscribes to events, keeps its model in the
 * checkers' own arena, and reads real objects through const accessors only; it never changes any state and never
 * makes the world differ from a run without it. Expected values come from the boundary (guests, commands, media).
 *
 * A broken promise is a violation: recorded once per signature, with time, event number, expected and actual.
 */
#ifndef CHECK_CHECK_H
#define CHECK_CHECK_H

#include "sim/sim.h"

struct check_set;
struct check;

struct check_class {
    const char *name;  /* "guest-view" */
    const char *doc;   /* the promise, one sentence */
    const char *rules; /* what its rules mean, a line each: "rule: meaning" */
    /* Subscribes. Returns the checker's own state (checkers' arena). */
    void *(*attach)(struct check *check);
    /* At a quiet point of the scenario (settled, `check` step) and at the end (final). */
    void (*at_settled)(struct check *check, void *state, bool final);
    /* After everything was closed; may be NULL. */
    void (*at_teardown)(struct check *check, void *state);
};

const struct check_class *check_find(const char *name); /* NULL when there is none */
const struct check_class *check_at(size_t index);       /* NULL beyond the last */

struct violation {
    char *check;     /* checker's name, "expect", "hang" ... libc memory */
    char *signature; /* checker.rule.job-type.phase.driver.op: no numbers, no names */
    int64_t time_ns;
    uint64_t event;
    char *host; /* or NULL, like the next two */
    char *node;
    char *job;
    char *detail; /* expected and actual, for a person */
    struct violation *next;
};

/* Attaches the checkers named in list ("all", or names joined by commas; "none"). NULL with errp on unknown names.
 */
struct check_set *check_attach(struct sim *sim, const char *list, Error **errp);
void check_settled(struct check_set *set);
/* End-of-scenario checks while the graph still stands. */
void check_final(struct check_set *set);
/* After everything was closed: the census must be empty. */
void check_teardown(struct check_set *set);
/* Violations so far, oldest first, at most 16 (further ones only counted). */
const struct violation *check_violations(const struct check_set *set);
uint64_t check_violation_count(const struct check_set *set);
/* Once no event will come any more: after sim_reset or with the world stopped for good. NULL is fine. */
void check_set_free(struct check_set *set);

/* --- for checkers and the runner ------------------------------------------------------------------------- */

struct check_boundary; /* check/boundary.h */

struct check {
    const struct check_class *klass;
    struct check_set *set;
    struct sim *sim;
    struct sim_arena *arena; /* the checkers' own */
    void *state;
};

struct violation_where {
    const char *host, *node, *job;              /* any may be NULL */
    const char *job_type, *phase, *driver, *op; /* parts of the signature; NULL: "-" */
};
/* rule: static, the second part of the signature. fmt says expected and actual. The first violation of a signature
 * is kept, later ones counted. Also halts the world once it has seen it (sim_halt), so that the state can be looked
 * at. */
void check_violate(struct check_set *set, const char *checker, const char *rule,
                   const struct violation_where *where, const char *fmt, ...) SIM_PRINTF(5, 6);

#endif
