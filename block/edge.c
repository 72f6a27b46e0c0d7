/* Edges: making and ending them, and what they look like from outside (1.3, 1.7). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/tran.h"

/* --- edges between nodes --------------------------------------------------------------------------------- */

static char *node_parent_desc(const BdrvChild *child)
{
    const BlockDriverState *parent = child->opaque;
    char *desc = NULL;

    if (asprintf(&desc, "node '%s'", bdrv_get_node_name(parent)) < 0) {
        abort();
    }
    return desc;
}

static void node_parent_drained_begin(BdrvChild *child)
{
    bdrv_do_drained_begin_quiesce(child->opaque);
}

static void node_parent_drained_end(BdrvChild *child)
{
    bdrv_do_drained_end(child->opaque);
}

static bool node_parent_drained_poll(BdrvChild *child)
{
    return bdrv_drain_poll(child->opaque);
}

/* Which of the parent's two slots the edge sits in; NULL: an additional child. */
static BdrvChild **child_slot(const BdrvChild *child)
{
    BlockDriverState *parent = child->opaque;

    if (child->role & BDRV_CHILD_COW) {
        return &parent->backing;
    }
    if (!(child->role & BDRV_CHILD_PRIMARY)) {
        return NULL;
    }
    bool in_backing = parent->drv && parent->drv->is_filter && parent->drv->filtered_child_is_backing;
    return in_backing ? &parent->backing : &parent->file;
}

static void node_parent_attach(BdrvChild *child)
{
    BdrvChild **slot = child_slot(child);

    if (slot) {
        SIM_ASSERT(*slot == NULL);
        *slot = child;
    }
}

static void node_parent_detach(BdrvChild *child)
{
    BdrvChild **slot = child_slot(child);

    if (slot) {
        SIM_ASSERT(*slot == child);
        *slot = NULL;
    }
}

const BdrvChildClass bdrv_child_of_bds = {
    .parent_is_bds = true,
    .get_parent_desc = node_parent_desc,
    .drained_begin = node_parent_drained_begin,
    .drained_end = node_parent_drained_end,
    .drained_poll = node_parent_drained_poll,
    .attach = node_parent_attach,
    .detach = node_parent_detach,
};

/* --- attaching ------------------------------------------------------------------------------------------- */

/*
 * Requests and drains go down and up the graph on the stack of a coroutine; this many levels fit, with room. Jobs
 * may put their filters on top of that.
 */
#define MAX_FILTERS 8

static bool reaches(BlockDriverState *from, const BlockDriverState *to)
{
    const BdrvChild *child;

    if (from == to) {
        return true;
    }
    if (!bdrv_visit(from)) {
        return false;
    }
    LIST_FOREACH(child, &from->children, next)
    {
        if (reaches(child->bs, to)) {
            return true;
        }
    }
    return false;
}

bool bdrv_reaches(BlockDriverState *from, const BlockDriverState *to)
{
    bdrv_walk_begin(from->host->graph);
    return reaches(from, to);
}

/* Levels of nodes from bs down, bs included. */
static unsigned height(BlockDriverState *bs)
{
    const BdrvChild *child;

    if (bdrv_visit(bs)) {
        unsigned below = 0;
        LIST_FOREACH(child, &bs->children, next)
        {
            unsigned h = height(child->bs);
            below = MAX(below, h);
        }
        bs->levels = below + 1;
    }
    return bs->levels;
}

/* Levels of nodes from bs up, bs included. */
static unsigned depth(BlockDriverState *bs)
{
    const BdrvChild *edge;

    if (bdrv_visit(bs)) {
        unsigned above = 0;
        LIST_FOREACH(edge, &bs->parents, next_parent)
        {
            unsigned d = bdrv_child_parent_bs(edge) ? depth(bdrv_child_parent_bs(edge)) : 0;
            above = MAX(above, d);
        }
        bs->levels = above + 1;
    }
    return bs->levels;
}

bool bdrv_may_link(BlockDriverState *parent, BlockDriverState *child, const char *name, bool append, Error **errp)
{
    struct BlockGraph *graph = parent->host->graph;
    bool filter = append && parent->drv->is_filter;

    /* A job's filter that was dropped while whoever named it waited for a drain [sharp edge 27]. */
    if (child->drv->is_filter && !bdrv_filter_child(child)) {
        error_setg(errp, "Node '%s' is no longer in use as a filter", bdrv_get_node_name(child));
        return false;
    }
    if (bdrv_reaches(child, parent)) {
        error_setg(errp, "Making '%s' a %s child of '%s' would create a cycle", bdrv_get_node_name(child), name,
                   bdrv_get_node_name(parent));
        return false;
    }
    bdrv_walk_begin(graph);
    unsigned levels = height(child);
    bdrv_walk_begin(graph);
    levels += depth(append ? child : parent); /* append: what is above the child will be above the parent */
    if (levels > BDRV_MAX_DEPTH + (filter ? MAX_FILTERS : 0)) {
        error_setg(errp, "Making '%s' a %s child of '%s' would make a chain of more than %d nodes",
                   bdrv_get_node_name(child), name, bdrv_get_node_name(parent), BDRV_MAX_DEPTH);
        return false;
    }
    return true;
}

bool bdrv_check_depth(BlockDriverState *bs, Error **errp)
{
    bdrv_walk_begin(bs->host->graph);
    unsigned levels = height(bs);
    bdrv_walk_begin(bs->host->graph);
    levels += depth(bs) - 1;
    if (levels > BDRV_MAX_DEPTH + MAX_FILTERS) {
        error_setg(errp, "Node '%s' would be in a chain of more than %d nodes", bdrv_get_node_name(bs),
                   BDRV_MAX_DEPTH);
        return false;
    }
    return true;
}

/* 1.3: what a role may look like. A violation is a driver's mistake, not a user's. */
static void check_role(const BlockDriverState *parent, uint32_t role)
{
    uint32_t kinds = role & ~(uint32_t)BDRV_CHILD_PRIMARY;

    SIM_ASSERT(kinds != 0);
    SIM_ASSERT(!(role & BDRV_CHILD_FILTERED) || kinds == BDRV_CHILD_FILTERED);
    SIM_ASSERT(!(role & BDRV_CHILD_COW) || role == BDRV_CHILD_COW);
    SIM_ASSERT(!(role & BDRV_CHILD_COW) || (parent->drv->supports_backing && !parent->drv->is_filter));
}

BdrvChild *bdrv_tran_link(struct bdrv_tran *tran, BlockDriverState *parent, BlockDriverState *child,
                          const char *name, uint32_t role, bool append, Error **errp)
{
    uint64_t perm, shared, nperm, nshared;

    check_role(parent, role);
    if (!bdrv_may_link(parent, child, name, append, errp)) {
        return NULL;
    }
    BdrvChild *edge = bdrv_edge_new(parent->host, name, &bdrv_child_of_bds, role, parent);
    bdrv_cumulative_perms(parent, &perm, &shared);
    bdrv_child_perm(parent, edge, child, perm, shared, &nperm, &nshared);
    return bdrv_tran_attach(tran, edge, child, nperm, nshared, errp) < 0 ? NULL : edge;
}

/* A node that nobody uses yet has nothing to wait for. Returns whether a section began. */
static bool drain_used(BlockDriverState *bs)
{
    if (LIST_EMPTY(&bs->parents) && bs->in_flight == 0) {
        return false;
    }
    bdrv_drained_begin(bs);
    return true;
}

BdrvChild *bdrv_attach_child(BlockDriverState *parent, BlockDriverState *child, const char *name, uint32_t role,
                             Error **errp)
{
    struct bdrv_tran tran;

    SIM_ASSERT(parent->drv != NULL);
    /* First, and looked at afterwards: while it waits others may edit the graph. */
    bool parent_drained = drain_used(parent);
    bool child_drained = drain_used(child);
    bdrv_tran_begin(&tran);
    BdrvChild *edge = bdrv_tran_link(&tran, parent, child, name, role, false, errp);
    int ret = edge ? bdrv_tran_perms(&tran, &parent, 1, errp) : -EPERM;
    ret = bdrv_tran_finish(&tran, ret);
    if (child_drained) {
        bdrv_drained_end(child);
    }
    if (parent_drained) {
        bdrv_drained_end(parent);
    }
    return ret < 0 ? NULL : edge;
}

BdrvChild *bdrv_root_attach_child(BlockDriverState *bs, const char *name, const BdrvChildClass *klass,
                                  uint32_t role, uint64_t perm, uint64_t shared, void *opaque, Error **errp)
{
    struct bdrv_tran tran;

    SIM_ASSERT(!klass->parent_is_bds);
    bdrv_tran_begin(&tran);
    BdrvChild *edge = bdrv_edge_new(bs->host, name, klass, role, opaque);
    int ret = bdrv_tran_attach(&tran, edge, bs, perm, shared, errp);
    if (ret >= 0) {
        ret = bdrv_tran_perms(&tran, &bs, 1, errp);
    }
    ret = bdrv_tran_finish(&tran, ret);
    return ret < 0 ? NULL : edge;
}

/* --- detaching ------------------------------------------------------------------------------------------- */

/* Drains what the edge points to, which may change while others run. Returns it, with a reference. */
static BlockDriverState *drain_child(const BdrvChild *child)
{
    for (;;) {
        BlockDriverState *bs = child->bs;
        bdrv_ref(bs);
        bdrv_drained_begin(bs);
        if (child->bs == bs) {
            return bs;
        }
        bdrv_drained_end(bs);
        bdrv_unref(bs);
    }
}

static void remove_edge(BdrvChild *child)
{
    struct bdrv_tran tran;

    BlockDriverState *bs = drain_child(child);
    bdrv_tran_begin(&tran);
    bdrv_tran_detach(&tran, child);
    int ret = bdrv_tran_limits(&tran, NULL, 0, NULL);
    SIM_ASSERT_EQ(ret, 0); /* a child less only loosens */
    bdrv_tran_finish(&tran, 0);
    /* One parent less only loosens; should it fail all the same, the old state is as safe as before. */
    bdrv_refresh_perms(bs, NULL);
    bdrv_drained_end(bs);
    bdrv_unref(bs);
}

void bdrv_unref_child(BlockDriverState *parent, BdrvChild *child)
{
    SIM_ASSERT(child->klass == &bdrv_child_of_bds);
    SIM_ASSERT(child->opaque == parent);
    /* Once the edge is gone the child's section no longer reaches the parent, whose limits change. */
    bool drained = drain_used(parent);
    remove_edge(child);
    if (drained) {
        bdrv_drained_end(parent);
    }
}

void bdrv_root_unref_child(BdrvChild *child)
{
    SIM_ASSERT(!child->klass->parent_is_bds);
    remove_edge(child);
}

/* --- children that come and go ---------------------------------------------------------------------------- */

BdrvChild *bdrv_find_child(const BlockDriverState *parent, const char *name)
{
    BdrvChild *child;

    LIST_FOREACH(child, &parent->children, next)
    {
        if (str_is(child->name, name)) {
            return child;
        }
    }
    return NULL;
}

int bdrv_add_child(BlockDriverState *parent, BlockDriverState *child, Error **errp)
{
    if (!parent->drv->bdrv_add_child) {
        error_setg(errp, "The node %s does not support adding a child", bdrv_get_node_name(parent));
        return -ENOTSUP;
    }
    int ret = -EBUSY;
    bdrv_ref(child); /* a filter named by its job goes with the job, and the drain may wait for that very job */
    bdrv_drained_begin(parent);
    if (LIST_EMPTY(&child->parents)) {
        ret = parent->drv->bdrv_add_child(parent, child, errp);
    } else {
        error_setg(errp, "The node %s already has a parent", bdrv_get_node_name(child));
    }
    bdrv_drained_end(parent);
    bdrv_unref(child);
    return ret;
}

int bdrv_del_child(BlockDriverState *parent, BdrvChild *child, Error **errp)
{
    SIM_ASSERT(bdrv_child_parent_bs(child) == parent);
    if (!parent->drv->bdrv_del_child) {
        error_setg(errp, "The node %s does not support removing a child", bdrv_get_node_name(parent));
        return -ENOTSUP;
    }
    if (child->frozen) {
        return bdrv_frozen_error(child, errp);
    }
    bdrv_drained_begin(parent);
    int ret = parent->drv->bdrv_del_child(parent, child, errp);
    bdrv_drained_end(parent);
    return ret;
}

/* --- looking --------------------------------------------------------------------------------------------- */

BdrvChild *bdrv_first_child(const BlockDriverState *bs)
{
    return LIST_FIRST(&bs->children);
}

BdrvChild *bdrv_next_child(const BdrvChild *child)
{
    return LIST_NEXT(child, next);
}

BdrvChild *bdrv_first_parent(const BlockDriverState *bs)
{
    return LIST_FIRST(&bs->parents);
}

BdrvChild *bdrv_next_parent(const BdrvChild *child)
{
    return LIST_NEXT(child, next_parent);
}

BlockDriverState *bdrv_child_bs(const BdrvChild *child)
{
    return child->bs;
}

BlockDriverState *bdrv_child_parent_bs(const BdrvChild *child)
{
    return child->klass->parent_is_bds ? child->opaque : NULL;
}

bool bdrv_is_root_node(const BlockDriverState *bs)
{
    const BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass->parent_is_bds) {
            return false;
        }
    }
    return true;
}

const char *bdrv_child_name(const BdrvChild *child)
{
    return child->name;
}

uint32_t bdrv_child_role(const BdrvChild *child)
{
    return child->role;
}

void bdrv_child_perms(const BdrvChild *child, uint64_t *perm, uint64_t *shared)
{
    *perm = child->perm;
    *shared = child->shared_perm;
}

bool bdrv_child_frozen(const BdrvChild *child)
{
    return child->frozen;
}

uint64_t bdrv_child_number(const BdrvChild *child)
{
    return child->number;
}

bool bdrv_child_quiesces_parent(const BdrvChild *child)
{
    return child->quiesced_parent;
}

char *bdrv_child_user_desc(const BdrvChild *child)
{
    char *desc = child->klass->get_parent_desc ? child->klass->get_parent_desc(child) : strdup("an unnamed user");

    SIM_ASSERT(desc != NULL);
    return desc;
}

const struct sim_name *bdrv_child_parent_name(struct sim *sim, const BdrvChild *child)
{
    const BlockDriverState *parent = bdrv_child_parent_bs(child);

    if (parent) {
        return parent->name;
    }
    char *desc = bdrv_child_user_desc(child);
    const struct sim_name *name = sim_name(sim, desc);
    free(desc);
    return name;
}
