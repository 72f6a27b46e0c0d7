/*
 * Graph transactions: every edit of links, limits and permissions is noted, then all are kept or all undone
 * (reference/block.md 1.9). Private to block/.
 *
 *     bdrv_tran_begin -> edits (links first) -> bdrv_tran_perms -> bdrv_tran_finish(ret)
 *
 * Edits take effect at once, so that later ones see them; events come out and references are dropped only when the
 * transaction is kept. Undoing restores lists in their old order. Nothing in here yields.
 */
#ifndef BLOCK_TRAN_H
#define BLOCK_TRAN_H

#include "block/block_int.h"

enum bdrv_edit_kind {
    BDRV_EDIT_ATTACH,   /* a new edge was linked */
    BDRV_EDIT_REPLACE,  /* an edge points to another node */
    BDRV_EDIT_DETACH,   /* an edge was unlinked; freed when kept */
    BDRV_EDIT_PERM,     /* permissions of an edge */
    BDRV_EDIT_DRV_PERM, /* a driver agreed to its node's permissions */
    BDRV_EDIT_LIMITS,   /* a node's limits and supported flags */
};

/* What bdrv_refresh_limits computes. */
struct bdrv_node_limits {
    BlockLimits bl;
    uint32_t read_flags;
    uint32_t write_flags;
    uint32_t zero_flags;
    uint32_t truncate_flags;
};

struct bdrv_edit {
    enum bdrv_edit_kind kind;
    BdrvChild *child;
    BlockDriverState *node;  /* where the edge pointed before; the node of DRV_PERM, LIMITS */
    BdrvChild *after_parent; /* what followed in node->parents; NULL: it was the last */
    BdrvChild *after_child;  /* what followed in the parent's children */
    uint64_t perm;
    uint64_t shared;
    struct bdrv_node_limits *limits; /* LIMITS: what was before; libc memory */
};

#define BDRV_TRAN_INLINE 16
struct bdrv_tran {
    struct bdrv_edit *edit; /* inline_edit or libc memory */
    size_t count;
    size_t room;
    struct bdrv_edit inline_edit[BDRV_TRAN_INLINE];
};

void bdrv_tran_begin(struct bdrv_tran *tran);
/* ret >= 0 keeps, else undoes everything. Returns ret. */
int bdrv_tran_finish(struct bdrv_tran *tran, int ret);

/* An edge that points nowhere yet. */
BdrvChild *bdrv_edge_new(struct host *host, const char *name, const BdrvChildClass *klass, uint32_t role,
                         void *opaque);
/* Links it to bs after the checks of 1.7, taking a reference; undoing frees the edge. */
int bdrv_tran_attach(struct bdrv_tran *tran, BdrvChild *child, BlockDriverState *bs, uint64_t perm, uint64_t shared,
                     Error **errp);
/* A new edge between nodes, with the permissions that the parent's users come to: the checks of 1.7 in their order.
 * append: see bdrv_may_link. NULL with errp; then finish undoes the rest (edge.c). */
BdrvChild *bdrv_tran_link(struct bdrv_tran *tran, BlockDriverState *parent, BlockDriverState *child,
                          const char *name, uint32_t role, bool append, Error **errp);
/* Both want the node that the edge points to drained, and the link not frozen. */
void bdrv_tran_replace(struct bdrv_tran *tran, BdrvChild *child, BlockDriverState *to);
void bdrv_tran_detach(struct bdrv_tran *tran, BdrvChild *child);
void bdrv_tran_set_perm(struct bdrv_tran *tran, BdrvChild *child, uint64_t perm, uint64_t shared);
void bdrv_tran_drv_perm(struct bdrv_tran *tran, BlockDriverState *bs, uint64_t perm, uint64_t shared);
/* Limits of the given nodes, of the parents of all links edited so far, and of all nodes above those, children
 * first (limits.c). -EINVAL: something above cannot live with what is below now. bdrv_tran_perms does it first, so
 * this is for who asks for no permissions, or changes a node without its links. */
int bdrv_tran_limits(struct bdrv_tran *tran, BlockDriverState *const *start, size_t count, Error **errp);
void bdrv_tran_note_limits(struct bdrv_tran *tran, BlockDriverState *bs);
/* The node whose children the edit changed; NULL: none. */
BlockDriverState *bdrv_edit_parent(const struct bdrv_edit *edit);
/* Limits as above, then permissions of the given nodes and all below them, parents first (perm.c). */
int bdrv_tran_perms(struct bdrv_tran *tran, BlockDriverState *const *start, size_t count, Error **errp);

/* Moves the parents of from to to, both drained (1.8). Left alone: jobs' edges, which stay at their node, and edges
 * of anything in to's own subtree, which would become a loop; strict: these are -EINVAL (change.c). */
int bdrv_tran_move_parents(struct bdrv_tran *tran, BlockDriverState *from, BlockDriverState *to, bool strict,
                           Error **errp);
/* "Cannot change ..."; -EPERM. */
int bdrv_frozen_error(const BdrvChild *child, Error **errp);

/* Whether child may go under parent: no cycle, not too deep (edge.c). append: parent takes over child's parents. */
bool bdrv_may_link(BlockDriverState *parent, BlockDriverState *child, const char *name, bool append, Error **errp);

/* Whether `to` is `from` or somewhere below it (edge.c). */
bool bdrv_reaches(BlockDriverState *from, const BlockDriverState *to);

/* The same limit for a node as it is linked now, with room for filters of jobs. */
bool bdrv_check_depth(BlockDriverState *bs, Error **errp);

/* What an edge of a node parent may take and must share, from what the parent's users do (perm.c). */
void bdrv_child_perm(BlockDriverState *parent, BdrvChild *child, BlockDriverState *child_bs, uint64_t perm,
                     uint64_t shared, uint64_t *nperm, uint64_t *nshared);

#endif
