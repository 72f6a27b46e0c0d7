/*
 * The reopen queue (reference/block.md 6): which nodes, in which order, and what becomes of their options. Private
 * to block/reopen*.c.
 *
 *     collect (drains) -> order -> build options -> flush -> prepare -> links, permissions -> commit, in reverse
 *
 * The queue holds each named node and, recursively, the children that its options made inline; parents stand before
 * their children. Every node in it is referenced and drained until the end. An option is what was passed, else what
 * the node had been told (if the caller keeps that), else what its parent hands down, else what was in force.
 */
#ifndef BLOCK_REOPEN_INT_H
#define BLOCK_REOPEN_INT_H

#include "block/options.h"
#include "block/tran.h"

typedef struct bdrv_reopen_entry bdrv_reopen_entry;
struct bdrv_reopen_entry {
    BDRVReopenState state;
    struct qvalue *passed; /* libc memory, only while the options are being built; NULL: nothing was */
    const struct qvalue *explicit_options; /* to be, arena memory until the node takes them over */
    const struct qvalue *options;
    const bdrv_reopen_entry *parent; /* hands its options down; NULL: nobody does */
    uint32_t role;                   /* in that parent */
    bool built;
    bool keep;          /* what is left out stays */
    bool backing_given; /* restated, whatever as */
    bool set_file;      /* state.file was named, and is referenced */
    bool set_backing;   /* the same; NULL: none shall be */
    uint32_t old_flags;
    bool prepared;
    bool stored;               /* bitmaps are stored, and readonly */
    BlockDriverState *left[2]; /* children that it has until the links are committed */
    TAILQ_ENTRY(bdrv_reopen_entry) list;
};

TAILQ_HEAD(bdrv_reopen_list, bdrv_reopen_entry);
/* A child that is to come or to go: not reopened, but drained all the same. */
typedef struct bdrv_reopen_hold bdrv_reopen_hold;
struct bdrv_reopen_hold {
    BlockDriverState *bs;
    LIST_ENTRY(bdrv_reopen_hold) list;
};

struct bdrv_reopen_queue {
    struct host *host;
    struct bdrv_reopen_list list;
    LIST_HEAD(, bdrv_reopen_hold) holds;
};

void bdrv_reopen_queue_init(struct bdrv_reopen_queue *queue, struct host *host);
/* Adds bs and its inline children, and drains them: polls. All of them are in the queue once this returns. */
void bdrv_reopen_queue_add(struct bdrv_reopen_queue *queue, BlockDriverState *bs);
/* When all have been added: parents before children. */
void bdrv_reopen_queue_order(struct bdrv_reopen_queue *queue);
/* NULL: not in the queue. */
bdrv_reopen_entry *bdrv_reopen_find(const struct bdrv_reopen_queue *queue, const BlockDriverState *bs);
/* Drops what building made of an entry (reopen_options.c): its options to be, the children that were named. */
void bdrv_reopen_forget_options(bdrv_reopen_entry *entry);
void bdrv_reopen_forget_children(bdrv_reopen_entry *entry);
/* What was passed for bs, a node in the queue: its options to be and, recursively, its inline children's. passed:
 * expanded; taken over. keep false: what is left out goes back to its default, and all is checked against the
 * driver's table. Does not yield. */
bool bdrv_reopen_queue_build(struct bdrv_reopen_queue *queue, BlockDriverState *bs, struct qvalue *passed,
                             bool keep, Error **errp);
/* When all is built: lets inline children go that their parents part with; they stay as they are. */
void bdrv_reopen_queue_prune(struct bdrv_reopen_queue *queue);
/* Drains the children that are to come and to go, as they are now: polls unless it has done so already. */
void bdrv_reopen_queue_hold(struct bdrv_reopen_queue *queue);
/* Lets the nodes go. */
void bdrv_reopen_queue_free(struct bdrv_reopen_queue *queue);

/* Whether bs was made inline by parent's options and is theirs to change. */
bool bdrv_reopen_inherits(const BlockDriverState *bs, const BlockDriverState *parent);
/* What reopen does not change must be as it was (6). */
bool bdrv_reopen_unchanged(const bdrv_reopen_entry *entry, Error **errp);

/* Edited: nobody who keeps a node's length from changing would have it changed (reopen_length.c). */
bool bdrv_reopen_keeps_lengths(const struct bdrv_reopen_queue *queue, Error **errp);
/* Held (see above): all links of the queue, then permissions with the flags to be (reopen_graph.c). Refused:
 * nothing is changed. Else the caller ends tran, undoing the rest by bdrv_reopen_unswitch. Does not yield. */
int bdrv_reopen_edit(struct bdrv_reopen_queue *queue, struct bdrv_tran *tran, Error **errp);
void bdrv_reopen_unswitch(struct bdrv_reopen_queue *queue);
/* Who hands options down to whom, after the links have been changed for good. */
void bdrv_reopen_update_inheritance(bdrv_reopen_entry *entry);

/* What an edge that may be missing points to. */
static inline BlockDriverState *bdrv_reopen_target(const BdrvChild *edge)
{
    return edge ? edge->bs : NULL;
}

#endif
