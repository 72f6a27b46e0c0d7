/*
 * Chains of images, for the profiles whose jobs work on them: how they are made, opened, what jobs and snapshots
 * make of them, and how they are looked at in the end.
 *
 *     g (guest) -> [filter] -> n3 -> n2 -> n1 -> n0       on disks d3 .. d0, their nodes perhaps named f3 .. f0
 *
 * What a chain is like after a job is a guess: what was refused or failed leaves it as it was, and the lines that
 * follow are refused in turn.
 */
#ifndef SCENARIO_GEN_CHAIN_H
#define SCENARIO_GEN_CHAIN_H

#include "scenario/gen_image.h"
#include "scenario/gen_job.h"

#define CHAIN_LAYERS 10

struct chain_layer {
    char node[8], disk[8], file[8]; /* file empty: its node has no name */
    const char *format;             /* qcow2, raw, or disk: no node between */
    bool read_only;
    int64_t bytes;
    struct gen_image image;
    char *options; /* of a qcow2 node */
};

struct chain {
    struct gen *gen;
    char letter; /* of the nodes: several chains beside each other differ in it */
    char guest[8];
    char filter[8]; /* above the top; empty: none */
    bool by_header; /* only the top was opened by name, what is below it by what headers say */
    struct chain_layer layers[CHAIN_LAYERS];
    unsigned count; /* [0] is the bottom */
    unsigned made;  /* numbers that were given away */
    bool huge;
    bool stops;         /* the guest stops the VM when a request fails */
    bool intruded;      /* there may be an overlay on the top that nobody counts: the top is only read then */
    const char *capped; /* disk that is short of room; NULL: none */
};

/* Draws and writes disks, images and what they hold; levels of them from two on. */
void gen_chain_write(struct chain *c, char letter, const char *guest, unsigned levels);
/* Opens all of it, and plugs the guest in. may_fail: faults are armed. */
void gen_chain_open(struct chain *c, bool may_fail);
void gen_chain_plug(struct chain *c, bool may_fail);
/* The top is given another overlay at the time; kept. */
void gen_chain_snapshot(struct chain *c, int64_t time_ns);
/* The layers from `from` up to just below `to` are no longer part of the chain. */
void gen_chain_drop(struct chain *c, unsigned from, unsigned to);
const struct chain_layer *gen_chain_top(const struct chain *c);
/* Disks that may fail, into disks; how many. */
size_t gen_chain_disks(const struct chain *c, const char *disks[CHAIN_LAYERS]);
/* Perhaps faults are armed and the guest begins to work before the job does, kept; true: a fault is armed. */
bool gen_chain_faults(struct chain *c);
/* The guest's work, changes of the nodes below and of the VM, kept. */
void gen_chain_life(struct chain *c);
/* Perhaps a disk of the layer is short of room. */
void gen_chain_cap(struct chain *c, const struct chain_layer *layer);
/* Everything is closed and checked, or the power fails and the top is opened by what the headers say. */
void gen_chain_end(struct chain *c);
void gen_chain_free(struct chain *c);

#define GEN_CHAIN_FEATURES \
    "huge", "uneven", "bare", "apart", "filter", "by-header", "latency", "enospc", "workload", "reopen", \
        "snapshot", "bitmap", "resize", "intruder", "power", "close", "after"

#endif
