/*
 * Changes of a live graph (1.8 to 1.10): inserting above, moving parents, taking a filter out, freezing.
 *
 * Each change drains what it touches, edits all links, then asks for permissions once, and keeps or undoes the
 * whole (block/tran.h). Polls may let others edit the graph, so nodes are held and edges looked up afterwards.
 */
#include <errno.h>

#include "block/tran.h"

int bdrv_frozen_error(const BdrvChild *child, Error **errp)
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

/* An edge's permissions come from its parent, but for one thing: whose child is force-share shares all. */
static void ask_again(struct bdrv_tran *tran, BdrvChild *child, BlockDriverState *parent)
{
    uint64_t perm, shared, nperm, nshared;

    bdrv_cumulative_perms(parent, &perm, &shared);
    bdrv_child_perm(parent, child, child->bs, perm, shared, &nperm, &nshared);
    bdrv_tran_set_perm(tran, child, nperm, nshared);
}

static int move_parent(struct bdrv_tran *tran, BdrvChild *child, BlockDriverState *to, bool strict, Error **errp)
{
    BlockDriverState *parent = bdrv_child_parent_bs(child);
    uint32_t from_flags = child->bs->open_flags;

    /* Only where it would come to stand above the node: when that goes, what it showed goes, too. */
    bool comes_above = child->bs->visit == to->host->graph->visit;
    if (!strict && parent && parent->drv->stays_with_child && comes_above) {
        return 0;
    }
    if (child->klass->stay_at_node || (parent && parent->visit == to->host->graph->visit)) {
        if (strict) {
            error_setg(errp, "Should not change '%s' link to '%s'", child->name, bdrv_get_node_name(child->bs));
            return -EINVAL;
        }
        return 0;
    }
    if (child->frozen) {
        return bdrv_frozen_error(child, errp);
    }
    bdrv_tran_replace(tran, child, to);
    if (parent && ((from_flags ^ to->open_flags) & BDRV_O_FORCE_SHARE)) {
        ask_again(tran, child, parent);
    }
    return 0;
}

int bdrv_tran_move_parents(struct bdrv_tran *tran, BlockDriverState *from, BlockDriverState *to, bool strict,
                           Error **errp)
{
    BdrvChild *child, *after;
    int ret = 0;

    SIM_ASSERT(from != to);
    SIM_ASSERT(from->quiesce_counter > 0);
    SIM_ASSERT(to->quiesce_counter > 0);
    bdrv_walk_begin(from->host->graph);
    mark_below(to);
    for (child = LIST_FIRST(&from->parents); child && ret >= 0; child = after) {
        after = LIST_NEXT(child, next_parent);
        ret = move_parent(tran, child, to, strict, errp);
    }
    return ret;
}

/* --- append ---------------------------------------------------------------------------------------------- */

static int append_links(struct bdrv_tran *tran, BlockDriverState *new_top, BlockDriverState *old, Error **errp)
{
    const BlockDriver *drv = new_top->drv;
    bool backing = !drv->is_filter || drv->filtered_child_is_backing;
    uint32_t role = drv->is_filter ? BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY : BDRV_CHILD_COW;

    SIM_ASSERT(backing ? new_top->backing == NULL : new_top->file == NULL);
    SIM_ASSERT(drv->is_filter || drv->supports_backing);
    if (!bdrv_tran_link(tran, new_top, old, backing ? "backing" : "file", role, true, errp)) {
        return -EINVAL;
    }
    int ret = bdrv_tran_move_parents(tran, old, new_top, false, errp);
    return ret < 0 ? ret : bdrv_tran_perms(tran, &new_top, 1, errp);
}

int bdrv_append(BlockDriverState *new_top, BlockDriverState *old, Error **errp)
{
    struct bdrv_tran tran;

    bdrv_ref(old);
    bdrv_drained_begin(old);
    bdrv_drained_begin(new_top);
    bdrv_tran_begin(&tran);
    int64_t length = new_top->total_bytes;
    if (new_top->drv->is_filter) {
        new_top->total_bytes = old->total_bytes; /* permissions may ask for it */
    }
    int ret = bdrv_tran_finish(&tran, append_links(&tran, new_top, old, errp));
    if (ret < 0) {
        new_top->total_bytes = length;
    } else if (new_top->name_generated) {
        bdrv_set_entity_below(new_top, old, new_top->drv->format_name);
    }
    bdrv_drained_end(new_top);
    bdrv_drained_end(old);
    bdrv_unref_later(old);
    return ret;
}

/* --- taking an append back -------------------------------------------------------------------------------- */

struct bdrv_parents {
    size_t count;
    uint64_t number[]; /* of the edges, in the order of the list */
};

static size_t parents_bytes(size_t count)
{
    return sizeof(struct bdrv_parents) + count * sizeof(uint64_t);
}

struct bdrv_parents *bdrv_note_parents(const BlockDriverState *bs)
{
    const BdrvChild *edge;
    size_t count = 0;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        count++;
    }
    struct bdrv_parents *parents = sim_alloc(bs->host->arena, SIM_TYPE_bdrv_parents, parents_bytes(count));
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        parents->number[parents->count++] = edge->number;
    }
    return parents;
}

void bdrv_forget_parents(struct host *host, struct bdrv_parents *parents)
{
    sim_free(host->arena, SIM_TYPE_bdrv_parents, parents, parents_bytes(parents->count));
}

static BdrvChild *parent_by_number(const BlockDriverState *bs, uint64_t number)
{
    BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->number == number) {
            return edge;
        }
    }
    return NULL;
}

static int take_back(struct bdrv_tran *tran, BlockDriverState *top, BlockDriverState *old,
                     const struct bdrv_parents *parents, Error **errp)
{
    BlockDriverState *const both[] = {top, old};
    BdrvChild *link = bdrv_filter_or_cow_child(top);

    SIM_ASSERT(link && link->bs == old);
    bdrv_walk_begin(old->host->graph);
    mark_below(old);
    if (link->frozen) {
        return bdrv_frozen_error(link, errp);
    }
    for (size_t i = 0; i < parents->count; i++) {
        BdrvChild *edge = parent_by_number(top, parents->number[i]);
        int ret = edge ? move_parent(tran, edge, old, false, errp) : 0;
        if (ret < 0) {
            return ret;
        }
    }
    bdrv_tran_detach(tran, link);
    return bdrv_tran_perms(tran, both, ARRAY_SIZE(both), errp);
}

int bdrv_undo_append(BlockDriverState *top, BlockDriverState *old, const struct bdrv_parents *parents, Error **errp)
{
    struct bdrv_tran tran;

    SIM_ASSERT(top->quiesce_counter > 0);
    SIM_ASSERT(old->quiesce_counter > 0);
    bdrv_do_drained_begin_quiesce(top); /* the link that goes may be what keeps it drained */
    bdrv_tran_begin(&tran);
    int ret = bdrv_tran_finish(&tran, take_back(&tran, top, old, parents, errp));
    for (size_t i = ret < 0 ? 0 : parents->count; i > 0; i--) {
        BdrvChild *edge = parent_by_number(old, parents->number[i - 1]);
        if (edge) {
            LIST_REMOVE(edge, next_parent);
            LIST_INSERT_HEAD(&old->parents, edge, next_parent);
        }
    }
    bdrv_do_drained_end(top);
    return ret;
}

/* --- replace --------------------------------------------------------------------------------------------- */

/* detach: an edge of from's own that goes with it, or NULL. */
static int replace_node(BlockDriverState *from, BlockDriverState *to, BdrvChild *detach, Error **errp)
{
    struct bdrv_tran tran;
    BlockDriverState *const both[] = {to, from};
    int ret = 0;

    bdrv_tran_begin(&tran);
    if (detach) {
        ret = detach->frozen ? bdrv_frozen_error(detach, errp) : 0;
        if (ret >= 0) {
            bdrv_tran_detach(&tran, detach);
        }
    }
    if (ret >= 0) {
        ret = bdrv_tran_move_parents(&tran, from, to, false, errp);
    }
    if (ret >= 0 && !bdrv_check_depth(to, errp)) {
        ret = -EINVAL;
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
    bdrv_unref_later(to);
    bdrv_unref_later(from);
    return ret;
}

int bdrv_drop_filter(BlockDriverState *filter, Error **errp)
{
    bdrv_ref(filter);
    bdrv_drained_begin(filter);
    /* What is below may change while this waits for it [sharp edge 27]. */
    BlockDriverState *child;
    for (;;) {
        child = bdrv_filter_bs(filter);
        SIM_ASSERT(child != NULL);
        bdrv_ref(child);
        bdrv_drained_begin(child);
        if (bdrv_filter_bs(filter) == child) {
            break;
        }
        bdrv_drained_end(child);
        bdrv_unref_later(child);
    }
    int ret = replace_node(filter, child, bdrv_filter_child(filter), errp);
    bdrv_drained_end(child);
    bdrv_drained_end(filter);
    bdrv_unref_later(child);
    bdrv_unref_later(filter);
    return ret;
}

/* --- freezing -------------------------------------------------------------------------------------------- */

static void set_frozen(BdrvChild *child, bool frozen)
{
    struct host *host = child->bs->host;

    SIM_ASSERT(child->frozen != frozen);
    child->frozen = frozen;
    SIM_EMIT(host->sim, host, edge_freeze, child->bs, SIM_P(child->bs->name), SIM_P(child->name),
             SIM_P(bdrv_child_parent_name(host->sim, child)), frozen);
}

int bdrv_freeze_chain(BlockDriverState *top, BlockDriverState *base, Error **errp)
{
    BlockDriverState *bs;
    BdrvChild *child;

    SIM_ASSERT(bdrv_chain_contains(top, base));
    for (bs = top; bs != base; bs = child->bs) {
        child = bdrv_filter_or_cow_child(bs);
        if (child->frozen) {
            return bdrv_frozen_error(child, errp);
        }
        if (child->bs->never_freeze) {
            error_setg(errp, "Cannot freeze '%s' link to '%s'", child->name, bdrv_get_node_name(child->bs));
            return -EPERM;
        }
    }
    for (bs = top; bs != base; bs = child->bs) {
        child = bdrv_filter_or_cow_child(bs);
        set_frozen(child, true);
    }
    return 0;
}

void bdrv_unfreeze_chain(BlockDriverState *top, BlockDriverState *base)
{
    BdrvChild *child;

    SIM_ASSERT(bdrv_chain_contains(top, base));
    for (BlockDriverState *bs = top; bs != base; bs = child->bs) {
        child = bdrv_filter_or_cow_child(bs);
        set_frozen(child, false);
    }
}
