/*
 * target-at-pivot from inside: when to look (target_at_pivot.c) and what at (pivot_compare.c). Nobody else includes
 * it.
 */
#ifndef CHECK_TARGET_AT_PIVOT_H
#define CHECK_TARGET_AT_PIVOT_H

#include "check/checkers.h"
#include "jobs/mirror.h"

struct pivot {
    struct host *host;
    const struct sim_name *id;
    const struct sim_name *source, *target; /* node names: nodes may go before their job */
    struct disk *source_disk, *target_disk; /* NULL: writes cannot be followed, everything is open always */
    const char *type;                       /* "mirror"; "commit": an active one, which owes everything */
    enum mirror_sync sync;
    enum job_status status;
    bool populated;     /* the job has begun to copy: its bitmap says what the target lacks */
    uint64_t below[2];  /* check_below.id of source and target when it began */
    bool moved;         /* a command has put other media below one of them, or its children may differ */
    bool switched;      /* parents have moved: what follows is another story */
    bool looked;        /* since the job returned */
    int64_t different;  /* at the last look: offset, or -1 */
    struct ranges open; /* not known to be equal */
    struct ranges owed; /* sync other than full: what guests wrote since the job began, and of top what differed
                           from what lies below the source; sector by sector, since larger blocks are filled up with
                           what the target holds, and equal nothing */
    struct pivot *next;
};

struct target_at_pivot {
    struct check *check;
    struct pivot *pivots;
};

BlockDriverState *pivot_node(const struct pivot *p, const struct sim_name *name);
/* The job copies what is allocated above its base, so that is what its target owes, and what guests write. */
void pivot_owe_top(struct target_at_pivot *state, struct pivot *p, BlockDriverState *source);
/* Another medium lies below one of them: neither the mirror nor its bitmap was told. NULL: gone. */
bool pivot_has_moved(struct pivot *p, const BlockDriverState *source, const BlockDriverState *target);
/* Looks at what is open. job: excuses what it knows to be different; NULL: nothing is excused. Returns the first
 * difference or -1; what was found equal is closed. */
int64_t pivot_compare(struct target_at_pivot *state, struct pivot *p, const Job *job);
void pivot_report(struct target_at_pivot *state, const struct pivot *p, const char *rule, const char *phase,
                  int64_t offset);

#endif
