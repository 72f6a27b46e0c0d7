/*
 * Profile bitmap from inside: gen_bitmap.c (the story: world, rounds, end), gen_bitmap_op.c (single operations on
 * bitmaps), gen_bitmap_txn.c (transactions), gen_bitmap_quiet.c (a phase in which the answers are known) and
 * gen_bitmap_image.c (images that store bitmaps).
 */
#ifndef SCENARIO_GEN_BITMAP_H
#define SCENARIO_GEN_BITMAP_H

#include "scenario/gen_image.h"

#define BITMAP_NODES 7 /* three with a guest, each perhaps with one below, and a twin */
#define BITMAP_NAMES 5 /* on each node */
#define BITMAP_LINE 2048

struct bitmap_node {
    char name[8];
    char disk[8];
    char guest[8]; /* empty: none */
    int64_t bytes; /* at the start */
    int64_t align; /* of its medium */
    bool raw;
    bool unmap;
    bool capped;
    struct gen_image image;  /* qcow2; disk empty: none */
    char *options;           /* with which it is opened; of the generator, NULL: no image */
    bool made[BITMAP_NAMES]; /* bitmaps that are likely there */
    bool frozen[BITMAP_NAMES];
};

struct bitmaps {
    struct gen *gen;
    struct bitmap_node nodes[BITMAP_NODES];
    size_t node_count;
    size_t guest_count; /* the first nodes have one each */
    bool twin;          /* two nodes have the medium of the first */
};

/* A node, and on it a bitmap: mostly one that is there (there) or is not yet. */
struct bitmap_pick {
    struct bitmap_node *node;
    unsigned index;
    char name[8];
};
struct bitmap_pick gen_bitmap_pick(struct bitmaps *b, const char *what, bool there);
/* The same on a node that is given. */
struct bitmap_pick gen_bitmap_pick_on(struct bitmaps *b, const char *what, struct bitmap_node *node, bool there);
/* Mostly what people use, now and then the extremes, seldom no power of two. */
int64_t gen_bitmap_granularity(struct bitmaps *b, const char *what);
/* A range of whole sectors of the node. False when it has none. */
bool gen_bitmap_place(struct bitmaps *b, const char *what, const struct bitmap_node *node, int64_t most,
                      int64_t *offset, int64_t *bytes);

/* One operation on bitmaps at the time, into the lines that are kept. */
void gen_bitmap_operation(struct bitmaps *b, int64_t time_ns);
void gen_bitmap_transaction(struct bitmaps *b, int64_t time_ns);
/* `"a", {"node": "n1", "name": "b2"}` onto text: the sources of a merge into a bitmap of node. */
void gen_bitmap_sources(struct bitmaps *b, const char *what, struct bitmap_node *node, struct scn_text *text);
/* Before anything fails or races: writes and operations one after the other, with what they must lead to. */
void gen_bitmap_quiet(struct bitmaps *b);

/* --- images (gen_bitmap_image.c) ------------------------------------------------------------------------------ */

/* Perhaps the node is a qcow2 image: then its medium and all below it are written. */
bool gen_bitmap_image(struct bitmaps *b, struct bitmap_node *node);
void gen_bitmap_image_open(struct bitmaps *b, const struct bitmap_node *node, bool may_fail);
/* Perhaps images are closed, checked and opened again: what they stored comes back. */
/* Images are given up and taken back amid everything else: bitmaps are stored and loaded on the way. */
void gen_bitmap_activity(struct bitmaps *b, unsigned span_bits);
void gen_bitmap_reload(struct bitmaps *b);
void gen_bitmap_guest(struct bitmaps *b, const struct bitmap_node *node, bool may_fail);
void gen_bitmap_images_free(struct bitmaps *b);

#endif
