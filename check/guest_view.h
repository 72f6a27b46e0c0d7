/*
 * guest-view from inside: views (guest_view.c), what lies below them (guest_below.c) and mirrors that copy a part
 * (guest_partial.c). Nobody else includes it.
 */
#ifndef CHECK_GUEST_VIEW_H
#define CHECK_GUEST_VIEW_H

#include "check/guest_model.h"
#include "check/ranges.h"

/* Guests that share a node share a model: they write the same register. */
struct view_model {
    struct guest_model model;
    unsigned users;
    uint64_t forgot; /* event number of the last time that all was forgotten with requests under way; 0: never */
};

struct view {
    struct guest *guest;
    struct host *host;
    struct view_model *model; /* NULL only between two media */
    uint64_t looked;          /* event number of the last look at a quiet point; 0: none */
    struct check_below below; /* as of graph - 1; while judged: before the command */
    uint64_t graph;
    bool judged;         /* a command is at work that may put other media below */
    bool beside;         /* another guest uses a medium of this one's, by other nodes; as of guest_view.graph */
    int64_t cut;         /* how short the medium below became by the command in hand; -1: it did not */
    struct ranges loose; /* children of a quorum that need not agree do not: it may show any of them */
    struct view *next;
};

/* A mirror that does not copy everything, or from media that were exchanged: a switch to its target changes what it
 * has not copied. */
struct partial {
    struct host *host;
    const struct sim_name *id;
    const struct sim_name *source, *target; /* node names */
    uint64_t start;                         /* event number: what was written since is copied */
    struct ranges
        discarded; /* since then, and not written again: a discard may change nothing and be no reason to copy */
    struct partial *next;
};

struct guest_view {
    struct check *check;
    uint64_t graph;     /* graph_changes + 1 for which views know who is beside them */
    struct view *views; /* oldest first */
    struct partial *partials;
    const struct qmp_call *used_overlay; /* this blockdev-snapshot brings an overlay that is not empty */
};

BlockDriverState *guest_view_bs(const struct guest *guest);
/* The view, not `except`, that stands on that node through filters and has a model; NULL: none. */
struct view *guest_view_of_node(const struct guest_view *state, BlockDriverState *bs, const struct view *except);
/* The model of a view, one it shares or its own. */
void guest_view_take_model(struct guest_view *state, struct view *view);
/* Nothing is known any more, and what is under way may leave anything where it writes: it may meet what is
 * forgotten. */
void guest_view_forget(struct guest_view *state, struct view *view);
void guest_view_drop_model(struct guest_view *state, struct view *view);

/* --- what lies below (guest_below.c) ------------------------------------------------------------------------- */

/* A command has just put other media below, and has not said so yet. */
bool guest_below_is_moving(const struct view *view);
/* Brings view->below up to date, unless a command is at work. */
void guest_below_refresh(struct guest_view *state, struct view *view);
/* A write of the view's guest is over, well or not: do the children of a weak quorum agree on what it left? */
void guest_below_wrote(struct view *view, int64_t offset, int64_t bytes);
/* Before [offset, offset + bytes) is compared: forgets what may have any of several contents. */
void guest_below_loosen(struct view *view, int64_t offset, int64_t bytes, uint64_t now);
/* How much of bs is left when a node below it, or itself, gets that length; negative: it is none of those, or long
 * enough. */
int64_t guest_below_cut(const BlockDriverState *bs, const BlockDriverState *resized, int64_t bytes);
/* Commands that put other media below, and say so. */
void guest_below_attach(struct guest_view *state);

/* --- lengths (guest_resize.c) -------------------------------------------------------------------------------- */

/* The medium is shorter already than its node knows: somebody resizes at this moment. */
bool guest_is_being_cut(const BlockDriverState *bs);
bool guest_is_being_resized(const BlockDriverState *bs); /* it, or what it stands on */
void guest_resize_attach(struct guest_view *state);

/* --- mirrors that copy a part (guest_partial.c) -------------------------------------------------------------- */

void guest_partial_note(struct guest_view *state, const struct view *view, const struct flight *flight);
/* Other media lie below the node: mirrors are not told. */
void guest_partial_moved(struct guest_view *state, const BlockDriverState *node, uint64_t now);
void guest_partial_crash(struct guest_view *state, const struct host *host);
void guest_partial_attach(struct guest_view *state);

#endif
