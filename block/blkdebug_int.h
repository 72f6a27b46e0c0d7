/*
 * blkdebug from inside: its rules and their engine (blkdebug_rules.c) as the driver (blkdebug.c) uses them.
 * Reference/block.md 7.1.
 *
 *     event ──► rules of that event, judged by the state before it
 *                 inject-error ──► the active set: what every later request is checked against
 *                 set-state    ──► the state that the next event sees
 *                 break        ──► moves to `suspended`, and the request that raised the event waits there
 *
 * Rules are the node's, from its host's arena. Nothing here is kept when the node closes.
 */
#ifndef BLOCK_BLKDEBUG_INT_H
#define BLOCK_BLKDEBUG_INT_H

#include "block/block_int.h"

enum blkdebug_action { BLKDEBUG_INJECT_ERROR, BLKDEBUG_SET_STATE, BLKDEBUG_BREAK };

typedef struct blkdebug_rule blkdebug_rule;
struct blkdebug_rule {
    enum blkdebug_action action;
    enum blkdbg_event event;
    int64_t state; /* the rule counts only in this state; 0: in any */

    /* inject-error */
    uint32_t ops;       /* bit 1 << SIM_OP_*: requests that match */
    int64_t sector;     /* only requests that touch it; -1: any */
    int error;          /* positive errno; 0: matching requests pass, whatever later rules say */
    bool once;          /* the rule goes when it has failed a request */
    bool immediately;   /* the request fails at once, not one turn of the loop later */
    bool active;        /* in the active set */
    int64_t next_state; /* set-state */

    /* break; once it was hit, the coroutine that stands there and how many breakpoints hold it */
    char *tag;
    Coroutine *co;
    unsigned *holds;

    TAILQ_ENTRY(blkdebug_rule) list;
};
TAILQ_HEAD(blkdebug_rule_list, blkdebug_rule);

struct blkdebug {
    int64_t state;                                 /* 1 at first */
    struct blkdebug_rule_list rules[BLKDBG_COUNT]; /* by event, in order of definition */
    unsigned rule_count;
    enum blkdbg_event active_event;      /* whose rules the active set consists of */
    struct blkdebug_rule_list suspended; /* breakpoints that were hit, newest first */

    /* what is asserted of requests; 0: nothing */
    uint32_t align;
    int64_t max_transfer;
    int64_t opt_write_zero;
    int64_t max_write_zero;
    int64_t opt_discard;
    int64_t max_discard;
    uint64_t take_child_perms;
    uint64_t unshare_child_perms;
};

void blkdebug_rules_init(struct blkdebug *s);
/* Frees them all; nobody stands at a breakpoint. */
void blkdebug_rules_clear(BlockDriverState *bs);
/* A zeroed rule at the end of its event's list. */
blkdebug_rule *blkdebug_rule_add(BlockDriverState *bs, enum blkdebug_action action, enum blkdbg_event event);

/* bdrv_co_debug_event; may suspend the caller. */
void blkdebug_co_event(BlockDriverState *bs, enum blkdbg_event event);
/* Judges a request by the active set: 0, or the negative errno that it fails with. */
int blkdebug_co_check(BlockDriverState *bs, enum sim_op op, int64_t offset, int64_t bytes);

/* The hooks of breakpoints (block/debug.h). */
void blkdebug_breakpoint(BlockDriverState *bs, enum blkdbg_event event, const char *tag);
int blkdebug_remove_breakpoint(BlockDriverState *bs, const char *tag);
int blkdebug_resume(BlockDriverState *bs, const char *tag);
bool blkdebug_is_suspended(const BlockDriverState *bs, const char *tag);

#endif
