/*
 * Profile block from inside: gen_block.c (the story: world, rounds, end), gen_block_node.c (nodes and how their
 * options are written), gen_block_graph.c (the graph changes under load), gen_block_chain.c (overlays and
 * snapshots) and gen_block_load.c (what goes through it: requests, limits, thresholds, breakpoints, faults).
 */
#ifndef SCENARIO_GEN_BLOCK_H
#define SCENARIO_GEN_BLOCK_H

#include "scenario/gen_image.h"

#define BLOCK_NODES 40
#define BLOCK_STACKS 3
#define BLOCK_CHILDREN 3
#define BLOCK_GROUPS 2

enum block_kind {
    BLOCK_DISK,
    BLOCK_IMAGE, /* qcow2 on a disk of its own */
    BLOCK_NULL,
    BLOCK_RAW,
    BLOCK_THROTTLE,
    BLOCK_COR,
    BLOCK_DEBUG,
    BLOCK_PREALLOCATE,
    BLOCK_QUORUM,
    BLOCK_VERIFY,
};

struct block_node {
    char name[8];
    enum block_kind kind;
    char disk[8];           /* of a BLOCK_DISK or BLOCK_IMAGE */
    int64_t bytes;          /* as made */
    int64_t offset, window; /* of a BLOCK_RAW; window 0: none */
    struct block_node *child[BLOCK_CHILDREN];
    unsigned child_count;
    char own[640];  /* the driver's own options: JSON members, `"align":4096,"latency-ns":1000` */
    unsigned group; /* of a BLOCK_THROTTLE */
    bool read_only, unmap, no_flush, direct;
    const char *detect_zeroes; /* NULL: left out */
    unsigned parents;          /* how many nodes have it as a child */
    bool guest;                /* a guest stands on it */
    bool there;                /* likely */
};

struct block_stack {
    struct block_node *top;
    char guest[8];
    char werror[12];
};

struct blocks {
    struct gen *gen;
    struct block_node nodes[BLOCK_NODES];
    unsigned node_count;
    unsigned disk_count;
    struct block_stack stacks[BLOCK_STACKS];
    unsigned stack_count;
    unsigned group_count;
    char fallible[BLOCK_NODES][8]; /* disks that may fail without taking back what the graph promises */
    const char *fallible_names[BLOCK_NODES];
    unsigned fallible_count;
    unsigned mirrors;
    unsigned tags; /* breakpoints so far */
};

/* --- nodes (gen_block_node.c) ------------------------------------------------------------------------------ */

/* NULL when there is no room. */
struct block_node *gen_block_node(struct blocks *b, enum block_kind kind);
/* A disk of the length with a node for it. fallible: faults may hit it, and it may run full. */
struct block_node *gen_block_disk(struct blocks *b, int64_t bytes, bool fallible);
/* The same with a qcow2 image on the disk. */
struct block_node *gen_block_image(struct blocks *b, int64_t bytes);
/* A node with options of its own over one below, of a kind that has one child. */
struct block_node *gen_block_layer(struct blocks *b, enum block_kind kind, struct block_node *below);
/* A kind with one child. */
enum block_kind gen_block_layer_kind(struct blocks *b, const char *what);
bool gen_block_has_one_child(const struct block_node *node);
/* "image" or "file" */
const char *gen_block_slot(const struct block_node *node);
/* All options of the node as JSON: what a reopen wants that is to change nothing. Caller frees. */
char *gen_block_json(const struct block_node *node);
/* "blockdev-add ..." of the node; caller frees. */
char *gen_block_add(const struct block_node *node);
/* Limits of a throttle group as JSON, mostly valid. Into buf. */
const char *gen_block_limits(struct blocks *b, const char *what, char buf[256]);

/* --- what happens ------------------------------------------------------------------------------------------ */

void gen_block_graph_change(struct blocks *b, int64_t time_ns);
/* Chains and images (gen_block_chain.c): a new overlay on a node, another name in a header, a snapshot within. */
void gen_block_overlay(struct blocks *b, int64_t time_ns);
/* Its content is what images above it show: it is exchanged for nothing else. */
bool gen_block_is_below_overlay(const struct blocks *b, const struct block_node *node);
void gen_block_header(struct blocks *b, int64_t time_ns);
void gen_block_internal(struct blocks *b, int64_t time_ns);
void gen_block_event(struct blocks *b, int64_t time_ns);
void gen_block_load(struct blocks *b, unsigned span_bits);

#endif
