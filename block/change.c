/*
 * Changes of a live graph (1.8 to 1.10): inserting above, moving parents, taking a filter out, freezing.
 *
 * Each change drains what it touches, edits all links, then asks for permissions once, and keeps or undoes the
 * whole (block/tran.h). Polls may let others edit the graph, so nodes are held and edges looked up afterwards.
 */
#include <errno.h>

#include "block/tran.h"

static int frozen_error(const BdrvChild *child, Error **errp)
{
    error_setg(errp, "Cannot change frozen '%s' link to '%s'", child->name, bdrv_get_node_name(child->bs));
    return -EPERM;
}

static void mark_below(BlockDriverState *bs)
{
    BdrvChild *child;

    if (!bdrv_visit(bs)) {
        return;
    }
    LIST_FOREACH(child, &bs->children, next)
    {
        mark_below(child->bs);
    }
}

/*
 * Moves the parents of from to to. Left alone: jobs' edges, which stay at their node, and edges owned by anything
 * in to's own subtree, which would become a loop.
 */
static int move_parents(struct bdrv_tran *tran, BlockDriverState *from, BlockDriverState *to, Error **errp)
{
    BdrvChild *child, *after;

    SIM_ASSERT(from != to);
    SIM_ASSERT(from->quiesce_counter > 0);
    SIM_ASSERT(to->quiesce_counter > 0);
    bdrv_walk_begin(from->host->graph);
    mark_below(to);
    for (child = LIST_FIRST(&from->parents); child; child = after) {
        const BlockDriverState *parent = bdrv_child_parent_bs(child);
        after = LIST_NEXT(child, next_parent);
        if (child->klass->stay_at_node || (parent && parent->visit == from->host->graph->visit)) {
            continue;
        }
        if (child->frozen) {
            return frozen_error(child, errp);
        }
        bdrv_tran_replace(tran, child, to);
    }
    return 0;
}

/* --- append ---------------------------------------------------------------------------------------------- */

static BdrvChild *new_top_edge(BlockDriverState *new_top)
{
    const BlockDriver *drv = new_top->drv;
    bool backing = !drv->is_filter || drv->filtered_child_is_backing;
    uint32_t role = drv->is_filter ? BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY : BDRV_CHILD_COW;

    SIM_ASSERT(backing ? new_top->backing == NULL : new_top->file == NULL);
    SIM_ASSERT(drv->is_filter || drv->supports_backing);
    return bdrv_edge_new(new_top->host, backing ? "backing" : "file", &bdrv_child_of_bds, role, new_top);
}

static int append_links(struct bdrv_tran *tran, BlockDriverState *new_top, BlockDriverState *old, Error **errp)
{
    uint64_t perm, shared, nperm, nshared;
    BdrvChild *edge = new_top_edge(new_top);

    bdrv_cumulative_perms(new_top, &perm, &shared);
    bdrv_child_perm(new_top, edge, old, perm, shared, &nperm, &nshared);
    int ret = bdrv_tran_attach(tran, edge, old, nperm, nshared, errp);
    if (ret < 0) {
        return ret;
    }
    return move_parents(tran, old, new_top, errp);
}

int bdrv_append(BlockDriverState *new_top, BlockDriverState *old, Error **errp)
{
    struct bdrv_tran tran;

    SIM_ASSERT(new_top != old);
    if (!bdrv_may_link(new_top, old, "backing", true, errp)) {
        return -EINVAL;
    }
    bdrv_ref(old);
    bdrv_drained_begin(old);
    bdrv_drained_begin(new_top);
    bdrv_tran_begin(&tran);
    int64_t length = new_top->total_bytes;
    if (new_top->drv->is_filter) {
        new_top->total_bytes = old->total_bytes; /* permissions may ask for it */
    }
    int ret = append_links(&tran, new_top, old, errp);
    if (ret >= 0) {
        ret = bdrv_tran_perms(&tran, &new_top, 1, errp);
    }
    bdrv_tran_finish(&tran, ret);
    if (ret < 0) {
        new_top->total_bytes = length;
    } else {
        bdrv_refresh_limits(new_top);
        if (new_top->name_generated) {
            bdrv_set_entity_below(new_top, old, new_top->drv->format_name);
        }
    }
    bdrv_drained_end(new_top);
    bdrv_drained_end(old);
    bdrv_unref(old);
    return ret;
}

/* --- replace --------------------------------------------------------------------------------------------- */

static int replace_node(BlockDriverState *from, BlockDriverState *to, BdrvChild *detach, Error **errp)
{
    struct bdrv_tran tran;
    BlockDriverState *const both[] = {to, from};
    int ret = 0;

    bdrv_tran_begin(&tran);
    if (detach) {
        ret = detach->frozen ? frozen_error(detach, errp) : 0;
        if (ret >= 0) {
            bdrv_tran_detach(&tran, detach);
        }
    }
    if (ret >= 0) {
        ret = move_parents(&tran, from, to, errp);
    }
    if (ret >= 0) {
        ret = bdrv_tran_perms(&tran, both, ARRAY_SIZE(both), errp);
    }
    return bdrv_tran_finish(&tran, ret);
}

int bdrv_replace_node(BlockDriverState *from, BlockDriverState *to, Error **errp)
{
    bdrv_ref(from);
    bdrv_ref(to);
    bdrv_drained_begin(from);
    bdrv_drained_begin(to);
    int ret = replace_node(from, to, NULL, errp);
    bdrv_drained_end(to);
    bdrv_drained_end(from);
    bdrv_unref(to);
    bdrv_unref(from);
    return ret;
}

int bdrv_drop_filter(BlockDriverState *filter, Error **errp)
{
    BlockDriverState *child = bdrv_filter_bs(filter);

    SIM_ASSERT(child != NULL);
    bdrv_ref(filter);
    bdrv_ref(child);
    bdrv_drained_begin(filter);
    bdrv_drained_begin(child);
    SIM_ASSERT(bdrv_filter_bs(filter) == child);
    int ret = replace_node(filter, child, bdrv_filter_child(filter), errp);
    bdrv_drained_end(child);
    bdrv_drained_end(filter);
    bdrv_unref(child);
    bdrv_unref(filter);
    return ret;
}

/* --- freezing -------------------------------------------------------------------------------------------- */

int bdrv_freeze_chain(BlockDriverState *top, BlockDriverState *base, Error **errp)
{
    BlockDriverState *bs;
    BdrvChild *child;

    SIM_ASSERT(bdrv_chain_contains(top, base));
    for (bs = top; bs != base; bs = child->bs) {
        child = bdrv_filter_or_cow_child(bs);
        if (child->frozen) {
            return frozen_error(child, errp);
        }
        if (child->bs->never_freeze) {
            error_setg(errp, "Cannot freeze '%s' link to '%s'", child->name, bdrv_get_node_name(child->bs));
            return -EPERM;
        }
    }
    for (bs = top; bs != base; bs = child->bs) {
        child = bdrv_filter_or_cow_child(bs);
        child->frozen = true;
    }
    return 0;
}

void bdrv_unfreeze_chain(BlockDriverState *top, BlockDriverState *base)
{
    BdrvChild *child;

    SIM_ASSERT(bdrv_chain_contains(top, base));
    for (BlockDriverState *bs = top; bs != base; bs = child->bs) {
        child = bdrv_filter_or_cow_child(bs);
        SIM_ASSERT(child->frozen);
        child->frozen = false;
    }
}
