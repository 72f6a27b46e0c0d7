/*
 * Profile mirror from inside: gen_mirror.c (the story: world, end of the job, after) and gen_mirror_life.c (what
 * happens around the copy).
 */
#ifndef SCENARIO_GEN_MIRROR_H
#define SCENARIO_GEN_MIRROR_H

#include "scenario/gen_image.h"
#include "scenario/gen_job.h"

struct mirror {
    struct gen *gen;
    struct gen_job job;
    int64_t bytes; /* what the guest sees */
    int64_t start; /* where that begins on the source disk */
    bool huge;     /* too large to be copied whole: sparse, worked on in places */
    bool raw;
    struct gen_image source, target; /* disk empty: no image */
    char *source_options, *target_options;
    bool capped; /* the target's medium is too small at first */
    bool werror_stop;
    const char *top;     /* the guest's node: s, or one over it */
    bool drive;          /* drive-mirror: the job opens the target itself, dst is a disk only */
    bool existing;       /* its image is there already */
    bool shared_below;   /* the target's image has the source's backing file */
    bool faulty;         /* some fault is armed */
    const char *reopens; /* the node whose medium is reopened; NULL: none */
};

/* A workload line, into buf. */
const char *gen_mirror_workload(struct mirror *m, const char *what, int64_t most_ops, char buf[256]);
/* Everything drawn to happen around the start of the job, sorted by time. */
void gen_mirror_life(struct mirror *m);

#endif
