/*
 * Census: what a host's graph and jobs are like at one moment, to be held against another moment. Private to
 * check/resources*.c.
 *
 * Not in it is what guests change at any time: lengths, the bits of bitmaps, requests, levels of throttling, counts
 * of devices.
 */
#ifndef CHECK_CENSUS_H
#define CHECK_CENSUS_H

#include "check/checkers.h"

enum census_part {
    CENSUS_NODES,       /* which, in which order */
    CENSUS_LINKS,       /* names, roles, ends of edges; frozen ones; backing files in headers */
    CENSUS_ORDER,       /* of a node's parents: which is the first has a meaning (block.md 11, 33) */
    CENSUS_PERMISSIONS, /* what each edge holds and shares */
    CENSUS_READ_ONLY,   /* read-only or inactive */
    CENSUS_OPTIONS,     /* open flags and what goes with them, options in force, write threshold */
    CENSUS_LIMITS,
    CENSUS_BITMAPS, /* which, in which order, with which attributes */
    CENSUS_BLOCKERS,
    CENSUS_DRAINS,
    CENSUS_REFERENCES,
    CENSUS_BACKENDS, /* which, on what, with which permissions and policies */
    CENSUS_GROUPS,   /* throttle groups with users and limits */
    CENSUS_JOBS,     /* which, with status, pauses and settings */
    CENSUS_OBJECTS,  /* how many of each type */
    CENSUS_PARTS
};
const char *census_part_name(enum census_part part); /* for messages: "permissions" */

struct census_node;
struct census {
    struct host *host;
    uint64_t *live; /* by counted type */
    struct census_node *nodes;
    size_t count;
    size_t room;
    uint64_t whole[CENSUS_PARTS]; /* parts that are no node's */
};

/* Zeroed at first; may be taken again and again. */
void census_take(struct census *census, struct sim_arena *arena, struct host *host);
void census_free(struct census *census, struct sim_arena *arena);

struct census_difference {
    enum census_part part;
    const struct sim_name *node; /* NULL: none in particular */
    char text[160];              /* what, and from what to what */
};
/* The first difference among the parts in the mask (1 << part). False: none. */
bool census_compare(const struct census *before, const struct census *after, uint32_t parts,
                    struct census_difference *difference);

#endif
