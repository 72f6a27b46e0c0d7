/*
 * What jobs copy to: a disk of its own with an image, or none, on it, for all profiles with jobs.
 */
#ifndef SCENARIO_GEN_TARGET_H
#define SCENARIO_GEN_TARGET_H

#include "scenario/gen_chain.h"

struct gen_target {
    char node[8], disk[8];
    const struct chain *of; /* whose guest's length it has */
    bool image;             /* qcow2 */
    bool compresses;
    bool stands; /* on the guest's node as its backing file: what it does not hold is read there */
    bool quorum;
    bool capped; /* its medium has too little room */
    bool used;
    bool written; /* by an earlier job */
};

/* Writes disk and node, named by the number. on: the node that it stands on; NULL: none. */
void gen_target_write(struct gen *gen, struct gen_target *target, unsigned number, const struct chain *of,
                      const char *on);

#define GEN_TARGET_FEATURES "target-image", "quorum", "enospc", "garbage"

#endif
