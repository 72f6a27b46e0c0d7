/*
 * The permissions checker from inside: what its files share. Private to check/permissions*.c.
 *
 *   permissions.c         what it listens to; conflicts, writers of what nobody may write, locks, leftovers
 *   permissions_model.c   what an edge must hold and share, from the users above it and the reference alone
 *   permissions_kept.c    edges and locks that keep rights because giving them up was refused below
 *   permissions_io.c      changes of a medium, and the way through the graph that they must have had
 *   permissions_links.c   links: frozen ones, and nodes that were not drained when a link changed
 *   permissions_ops.c     op blockers, and the commands that ask for them
 */
#ifndef CHECK_PERMISSIONS_H
#define CHECK_PERMISSIONS_H

#include "check/checkers.h"

struct permissions {
    struct check *check;
    struct kept_rights *kept;   /* permissions_kept.c */
    struct disk_node *disks;    /* permissions_io.c */
    struct frozen_link *frozen; /* permissions_links.c */
    struct asked *asked;        /* permissions_ops.c */
};

/* op: the last part of the signature, or NULL. */
void permissions_violate(struct permissions *state, const struct host *host, const BlockDriverState *bs,
                         const char *rule, const char *op, const char *fmt, ...) SIM_PRINTF(6, 7);

/* What an edge may hold and share: the bits it must and those it can. */
struct edge_rights {
    uint64_t perm_min;
    uint64_t perm_max;
    uint64_t shared_min;
    uint64_t shared_max;
};
/* From the edges above the parent alone; parent is the edge's. */
void permissions_model(const BlockDriverState *parent, const BdrvChild *edge, struct edge_rights *rights);
/* The driver writes for itself, not only what its users ask for. */
bool permissions_writes_by_itself(const BlockDriverState *parent, const BdrvChild *edge);

/* Some node could refuse a loosening above it now. Cheap. */
bool permissions_may_keep(struct host *host);
/* For an edge that holds too much: it kept what it holds, now or when this was asked before. */
bool permissions_kept(struct permissions *state, const struct host *host, const BdrvChild *edge);
/* The same for a node over a medium that is locked more than its users ask for: a user who went, edge and all, may
 * leave behind what the others must not be without. */
bool permissions_locks_kept(struct permissions *state, const struct host *host, const BlockDriverState *bs,
                            uint64_t locked, uint64_t locked_against);

void permissions_io_attach(struct permissions *state);
void permissions_links_attach(struct permissions *state);
/* Frozen links are where they were. */
void permissions_links_look(struct permissions *state);
void permissions_ops_attach(struct permissions *state);

#endif
