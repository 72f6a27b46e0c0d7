/*
 * Lengths and reopen (reference/block.md 5, 6): another file or another window may be longer or shorter. Whoever
 * does not share RESIZE of a node, a job over its bitmap say, relies on the length that the node has; for such a
 * user it is no matter which command changes it.
 */
#include <stdlib.h>

#include "block/reopen_int.h"

static bool is_passed_on(const BlockDriverState *parent, const BdrvChild *edge)
{
    return (edge->role & BDRV_CHILD_FILTERED) &&
           !(parent->drv->bdrv_has_own_length && parent->drv->bdrv_has_own_length(parent));
}

/* As it will be once all links and windows of the queue are in force; in whole sectors. */
static int64_t length_to_be(const BlockDriverState *bs)
{
    const BlockDriverState *below = bdrv_primary_bs(bs);

    if (below && bs->drv->bdrv_length_over) {
        return ROUND_UP(bs->drv->bdrv_length_over(bs, length_to_be(below)), SIM_SECTOR_BYTES);
    }
    return below && bdrv_filter_bs(bs) == below && is_passed_on(bs, bdrv_primary_child(bs)) ? length_to_be(below)
                                                                                            : bs->total_bytes;
}

static bool refuse(const BlockDriverState *bs, const BdrvChild *edge, Error **errp)
{
    char *user = bdrv_child_user_desc(edge);

    error_setg(errp, "Cannot change the length of node '%s': %s does not allow 'resize'", bdrv_get_node_name(bs),
               user);
    free(user);
    SIM_MARK(bs->host->sim, reopen_length_kept);
    return false;
}

/* A node that is written without RESIZE ends on its request alignment (1.11). */
static bool is_aligned(const BlockDriverState *bs, Error **errp)
{
    uint64_t perm, shared;

    bdrv_cumulative_perms(bs, &perm, &shared);
    if (!(perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED)) || (perm & BLK_PERM_RESIZE) ||
        length_to_be(bs) % bs->bl.request_alignment == 0) {
        return true;
    }
    error_setg(errp, "The size of node '%s' must stay a multiple of %u while it is written", bdrv_get_node_name(bs),
               bs->bl.request_alignment);
    SIM_MARK(bs->host->sim, reopen_length_kept);
    return false;
}

/* Nodes follow what they stand on; the users of those that would are asked. */
static bool may_follow(const BlockDriverState *bs, Error **errp)
{
    bool changes = length_to_be(bs) != bs->total_bytes;
    const BdrvChild *edge;

    if (changes && !is_aligned(bs, errp)) {
        return false;
    }
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        const BlockDriverState *parent = bdrv_child_parent_bs(edge);

        if (!(parent && (edge->role & BDRV_CHILD_PRIMARY)) && changes && !(edge->shared_perm & BLK_PERM_RESIZE)) {
            return refuse(bs, edge, errp);
        }
        if (parent && (edge->role & BDRV_CHILD_PRIMARY) && !may_follow(parent, errp)) {
            return false;
        }
    }
    return true;
}

bool bdrv_reopen_keeps_lengths(const struct bdrv_reopen_queue *queue, Error **errp)
{
    const bdrv_reopen_entry *entry;

    TAILQ_FOREACH(entry, &queue->list, list)
    {
        if (!may_follow(entry->state.bs, errp)) {
            return false;
        }
    }
    return true;
}
