/* Reopen: other children, and permissions with the flags to be (6, 1.9). */
#include <errno.h>
#include <stdlib.h>

#include "block/reopen_int.h"

/* --- links ------------------------------------------------------------------------------------------------ */

/* What the edge that takes the old one's place is for; 0: there cannot be one. */
static uint32_t new_role(const BlockDriverState *bs, const BdrvChild *old, bool backing, Error **errp)
{
    if (bs->drv->is_filter) {
        return BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY;
    }
    if (backing) {
        return BDRV_CHILD_COW;
    }
    if (!old) {
        error_setg(errp, "Cannot set file child to format node without file child");
        return 0;
    }
    return old->role;
}

static int check_change(const BlockDriverState *bs, const BdrvChild *old, const char *name, bool backing,
                        Error **errp)
{
    const char *node = bdrv_get_node_name(bs);

    if (old && old->bs->implicit) {
        error_setg(errp, "Cannot replace implicit %s child of %s", name, node);
        return -EPERM;
    }
    if (bs->drv->is_filter && !old) {
        /* A filter has exactly one of the two, so it is the other one that was meant. */
        error_setg(errp, "'%s' is a %s filter node that does not support a %s child", node, bs->drv->format_name,
                   name);
        return -EINVAL;
    }
    if (old && old->frozen) {
        return bdrv_frozen_error(old, errp);
    }
    if (backing && !bs->drv->is_filter && !bs->drv->supports_backing) {
        error_setg(errp, "Driver '%s' of node '%s' does not support backing files", bs->drv->format_name, node);
        return -EINVAL;
    }
    return 0;
}

/* to NULL: none. */
static int change_child(struct bdrv_tran *tran, BlockDriverState *bs, BlockDriverState *to, bool backing,
                        Error **errp)
{
    BdrvChild *old = backing ? bs->backing : bs->file;
    const char *name = backing ? "backing" : "file";

    if (to && !bdrv_may_link(bs, to, name, false, errp)) {
        return -EINVAL;
    }
    if (old && (old->bs == to || bdrv_skip_implicit_filters(old->bs) == to)) {
        return 0; /* what the user sees there is what they want there */
    }
    int ret = check_change(bs, old, name, backing, errp);
    uint32_t role = ret < 0 ? 0 : new_role(bs, old, backing, errp);
    if (role == 0) {
        return ret < 0 ? ret : -EINVAL;
    }
    SIM_ASSERT(to != NULL || (backing && old));
    if (old) {
        bdrv_tran_detach(tran, old);
    }
    SIM_MARK(bs->host->sim, reopen_child);
    return !to || bdrv_tran_link(tran, bs, to, name, role, false, errp) ? 0 : -EPERM;
}

static int change_children(struct bdrv_tran *tran, const bdrv_reopen_entry *entry, Error **errp)
{
    const BDRVReopenState *state = &entry->state;
    int ret = entry->set_backing ? change_child(tran, state->bs, state->backing, true, errp) : 0;

    if (ret == 0 && entry->set_file) {
        ret = change_child(tran, state->bs, state->file, false, errp);
    }
    return ret;
}

/* --- what is to be, in force ------------------------------------------------------------------------------ */

/* Permissions depend on flags and on what drivers were told, so both must be there when they are asked for. */
static void switch_all(struct bdrv_reopen_queue *queue)
{
    bdrv_reopen_entry *entry;

    TAILQ_FOREACH(entry, &queue->list, list)
    {
        BlockDriverState *bs = entry->state.bs;
        entry->old_flags = bs->open_flags;
        bs->open_flags = entry->state.flags;
        if (bs->drv->bdrv_reopen_switch) {
            bs->drv->bdrv_reopen_switch(&entry->state);
        }
    }
}

void bdrv_reopen_unswitch(struct bdrv_reopen_queue *queue)
{
    bdrv_reopen_entry *entry;

    TAILQ_FOREACH_REVERSE(entry, &queue->list, bdrv_reopen_list, list)
    {
        BlockDriverState *bs = entry->state.bs;
        if (bs->drv->bdrv_reopen_switch) {
            bs->drv->bdrv_reopen_switch(&entry->state);
        }
        bs->open_flags = entry->old_flags;
    }
}

/* Limits and permissions of the nodes of the queue, and of those that they may have left: who is no longer used
 * loosens, too. */
static int refresh_nodes(struct bdrv_reopen_queue *queue, struct bdrv_tran *tran, BlockDriverState **old,
                         size_t old_count, Error **errp)
{
    const bdrv_reopen_entry *entry;
    size_t count = old_count;

    TAILQ_FOREACH(entry, &queue->list, list)
    {
        old[count++] = entry->state.bs;
    }
    int ret = bdrv_tran_limits(tran, old + old_count, count - old_count, errp);
    return ret < 0 ? ret : bdrv_tran_perms(tran, old, count, errp);
}

int bdrv_reopen_edit(struct bdrv_reopen_queue *queue, struct bdrv_tran *tran, Error **errp)
{
    bdrv_reopen_entry *entry;
    size_t count = 0;
    int ret = 0;

    TAILQ_FOREACH(entry, &queue->list, list)
    {
        count++;
    }
    BlockDriverState **nodes = calloc(3 * count, sizeof(*nodes)); /* each, and its two old children */
    SIM_ASSERT(nodes != NULL);
    count = 0;
    TAILQ_FOREACH(entry, &queue->list, list)
    {
        const BlockDriverState *bs = entry->state.bs;
        entry->left[0] = entry->set_file && bs->file ? bs->file->bs : NULL;
        entry->left[1] = entry->set_backing && bs->backing ? bs->backing->bs : NULL;
        for (unsigned i = 0; i < ARRAY_SIZE(entry->left); i++) {
            if (entry->left[i]) {
                nodes[count++] = entry->left[i];
            }
        }
    }
    TAILQ_FOREACH(entry, &queue->list, list)
    {
        ret = change_children(tran, entry, errp);
        if (ret < 0) {
            break;
        }
    }
    if (ret == 0) {
        switch_all(queue);
        ret = refresh_nodes(queue, tran, nodes, count, errp);
        if (ret == 0 && !bdrv_reopen_keeps_lengths(queue, errp)) {
            ret = -EPERM;
        }
        if (ret < 0) {
            bdrv_reopen_unswitch(queue);
            SIM_MARK(queue->host->sim, reopen_undone);
        }
    }
    free(nodes);
    return ret;
}

/* --- inheritance ------------------------------------------------------------------------------------------ */

static BlockDriverState *maker_of(const BlockDriverState *bs)
{
    BlockDriverState *other;

    TAILQ_FOREACH(other, &bs->host->graph->nodes, node_list)
    {
        if (bdrv_reopen_inherits(bs, other)) {
            return other;
        }
    }
    return NULL;
}

/* A child that came from further down the same tree belongs to its new parent now (b of a{b{c}} dropped: a{c}). */
static void adopt(const BlockDriverState *parent, BlockDriverState *child)
{
    const BlockDriverState *above = child;

    while (above && above != parent) {
        above = maker_of(above);
    }
    if (above) {
        child->inherits_from = parent->number + 1;
    }
}

static void disown(const BlockDriverState *parent, BlockDriverState *child)
{
    const BdrvChild *edge;

    LIST_FOREACH(edge, &parent->children, next)
    {
        if (edge->bs == child) {
            return;
        }
    }
    if (bdrv_reopen_inherits(child, parent)) {
        child->inherits_from = 0;
    }
}

void bdrv_reopen_update_inheritance(bdrv_reopen_entry *entry)
{
    const BDRVReopenState *state = &entry->state;

    if (entry->set_file) {
        adopt(state->bs, state->file);
    }
    if (entry->set_backing && state->backing) {
        adopt(state->bs, state->backing);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(entry->left); i++) {
        if (entry->left[i]) {
            disown(state->bs, entry->left[i]);
        }
    }
}
