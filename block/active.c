/*
 * What it is for a node to be inactive, and taking nodes back (reference/block.md 8.1, 8.5); inactivate.c gives
 * them up.
 *
 *     inactive -> flag -> rights of the node -> metadata read anew -> length -> rights of its users -> active
 *
 * Whoever is inactive leaves the image to somebody else: it reads, what it knows may be old, and it writes nothing.
 */
#include <errno.h>

#include "block/activity_int.h"

/* --- one node ------------------------------------------------------------------------------------------------ */

void bdrv_set_inactive_flag(BlockDriverState *bs, bool inactive)
{
    SIM_ASSERT(bdrv_is_inactive(bs) != inactive);
    bs->open_flags ^= BDRV_O_INACTIVE;
}

bool bdrv_has_active_parent(const BlockDriverState *bs)
{
    const BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        const BlockDriverState *parent = edge->klass->parent_is_bds ? edge->opaque : NULL;

        if (parent && !bdrv_is_inactive(parent)) {
            return true;
        }
    }
    return false;
}

void bdrv_emit_activity(BlockDriverState *bs)
{
    SIM_EMIT(bs->host->sim, bs->host, node_activity, bs, SIM_P(bs->name), !bdrv_is_inactive(bs));
}

static int inactivate_entry(void *opaque)
{
    BlockDriverState *bs = opaque;
    return bs->drv->bdrv_co_inactivate(bs);
}

int bdrv_drv_inactivate(BlockDriverState *bs)
{
    if (!bs->drv->bdrv_co_inactivate) {
        return 0;
    }
    return bdrv_run_co(bs->host, "give an image up", inactivate_entry, bs);
}

struct invalidate {
    BlockDriverState *bs;
    Error **errp;
};

static int invalidate_entry(void *opaque)
{
    struct invalidate *i = opaque;
    return i->bs->drv->bdrv_co_invalidate_cache(i->bs, i->errp);
}

int bdrv_drv_invalidate(BlockDriverState *bs, Error **errp)
{
    struct invalidate i = {bs, errp};

    if (!bs->drv->bdrv_co_invalidate_cache) {
        return 0;
    }
    return bdrv_run_co(bs->host, "read metadata again", invalidate_entry, &i);
}

/* Rights first: locks of the medium go while the node still counts as active (8.11). What only loosens is not
 * refused, and the children lose their writers. */
void bdrv_leave(BlockDriverState *bs)
{
    BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass->inactivate) {
            edge->klass->inactivate(edge);
        }
    }
    bdrv_set_inactive_flag(bs, true);
    bdrv_refresh_perms(bs, NULL);
    bdrv_emit_activity(bs);
}

/* --- taking one back ----------------------------------------------------------------------------------------- */

static bool wants_rights(const BlockDriverState *bs)
{
    const BdrvChild *edge;
    uint64_t perm, shared;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass->wanted && edge->klass->wanted(edge, &perm, &shared)) {
            return true;
        }
    }
    return false;
}

/* The node's users get the rights that they gave up, all of them or none; keep false: could they? */
static int give_rights(BlockDriverState *bs, bool keep, Error **errp)
{
    struct bdrv_tran tran;
    BdrvChild *edge;
    uint64_t perm, shared;

    bdrv_tran_begin(&tran);
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass->wanted && edge->klass->wanted(edge, &perm, &shared)) {
            bdrv_tran_set_perm(&tran, edge, perm, shared);
        }
    }
    int ret = bdrv_tran_perms(&tran, &bs, 1, errp);
    bdrv_tran_finish(&tran, keep ? ret : -ECANCELED);
    if (keep && ret >= 0) {
        LIST_FOREACH(edge, &bs->parents, next_parent)
        {
            if (edge->klass->activate) {
                edge->klass->activate(edge);
            }
        }
    }
    return ret;
}

static int getlength_entry(void *opaque)
{
    int64_t length = bdrv_co_getlength(opaque);
    return length < 0 ? (int)length : 0;
}

/* Whatever was known of the image before was another's to change. */
static int learn_anew(BlockDriverState *bs, Error **errp)
{
    struct bdrv_tran tran;

    bs->status_data_start = 0;
    bs->status_data_end = 0;
    bdrv_activate_dirty_bitmaps(bs);
    int ret = bdrv_run_co(bs->host, "length after activation", getlength_entry, bs);
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not refresh total sector count");
        return ret;
    }
    bdrv_tran_begin(&tran);
    ret = bdrv_tran_limits(&tran, &bs, 1, errp);
    if (ret >= 0) {
        ret = bdrv_tran_perms(&tran, &bs, 1, errp);
    }
    return bdrv_tran_finish(&tran, ret);
}

/* Ours already, and then not to be had. What was marked in the image is taken back as far as possible: should that
 * fail, stored bitmaps stay marked as in use, which nobody takes for valid. */
static void leave_again(BlockDriverState *bs)
{
    SIM_MARK(bs->host->sim, activation_undone);
    bdrv_drv_inactivate(bs);
    bdrv_leave(bs);
}

static int take_back(BlockDriverState *bs, Error **errp)
{
    bdrv_set_inactive_flag(bs, false);
    int ret = give_rights(bs, false, errp);
    if (ret >= 0) {
        ret = bdrv_refresh_perms(bs, errp);
    }
    if (ret < 0) {
        bdrv_set_inactive_flag(bs, true);
        return ret;
    }
    ret = bdrv_drv_invalidate(bs, errp);
    if (ret < 0) {
        bdrv_set_inactive_flag(bs, true);
        bdrv_refresh_perms(bs, NULL); /* children that stay active are nobody's to write */
        return ret;
    }
    bs->inherit_inactive = false;
    bdrv_emit_activity(bs);
    ret = learn_anew(bs, errp);
    if (ret >= 0) {
        ret = give_rights(bs, true, errp);
    }
    if (ret < 0) {
        leave_again(bs);
    }
    return ret;
}

static BlockDriverState *inactive_child(const BlockDriverState *bs)
{
    const BdrvChild *child;

    LIST_FOREACH(child, &bs->children, next)
    {
        if (bdrv_is_inactive(child->bs)) {
            return child->bs;
        }
    }
    return NULL;
}

static int activate_children(BlockDriverState *bs, Error **errp)
{
    BlockDriverState *child;
    int ret = 0;

    /* Each wait may change the graph: the list is looked through from its head. */
    while (ret >= 0 && (child = inactive_child(bs)) != NULL) {
        ret = bdrv_activate(child, errp);
    }
    return ret;
}

int bdrv_activate(BlockDriverState *bs, Error **errp)
{
    SIM_ASSERT(host_in_main(bs->host));
    if (!bs->drv) {
        error_setg(errp, "No medium inserted");
        return -ENOMEDIUM;
    }
    bdrv_ref(bs);
    int ret = activate_children(bs, errp);
    if (ret >= 0) {
        /* Reads of before must not see metadata half old, half new. */
        bdrv_drained_begin(bs);
        if (bdrv_is_inactive(bs)) {
            ret = take_back(bs, errp);
        } else if (wants_rights(bs)) {
            ret = give_rights(bs, true, errp);
        }
        bdrv_drained_end(bs);
    }
    bdrv_unref(bs);
    SIM_ASSERT_LE(ret, 0);
    return ret;
}

static bool needs_activation(const BlockDriverState *bs)
{
    return !bs->opening && (bdrv_is_inactive(bs) || wants_rights(bs));
}

/* As add_all: roots of backends, nodes of the monitor, others. */
static BlockDriverState *next_to_activate(struct host *host)
{
    BlockDriverState *bs;

    for (BlockBackend *blk = blk_next(host, NULL); blk; blk = blk_next(host, blk)) {
        if (blk_bs(blk) && needs_activation(blk_bs(blk))) {
            return blk_bs(blk);
        }
    }
    for (int of_monitor = 1; of_monitor >= 0; of_monitor--) {
        TAILQ_FOREACH(bs, &host->graph->nodes, node_list)
        {
            if (bs->monitor_owned == of_monitor && needs_activation(bs)) {
                return bs;
            }
        }
    }
    return NULL;
}

int bdrv_activate_all(struct host *host, Error **errp)
{
    BlockDriverState *bs;
    int ret = 0;

    SIM_ASSERT(host_in_main(host));
    while (ret >= 0 && (bs = next_to_activate(host)) != NULL) {
        ret = bdrv_activate(bs, errp);
    }
    return ret;
}
