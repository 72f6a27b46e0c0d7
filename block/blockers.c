/*
 * Op blockers (1.12): which commands a user of a node forbids on it. Advisory: only commands ask.
 *
 * Being somebody's backing file blocks as well. That is not stored but read off the edges, so it cannot be
 * forgotten when a link changes.
 */
#include "block/block_int.h"

void bdrv_op_block(BlockDriverState *bs, enum bdrv_op op, Error *reason)
{
    struct bdrv_op_blocker *blocker = SIM_NEW(bs->host->arena, bdrv_op_blocker);

    SIM_ASSERT(op < BLOCK_OP_COUNT);
    SIM_ASSERT(reason != NULL);
    blocker->reason = reason;
    LIST_INSERT_HEAD(&bs->op_blockers[op], blocker, list);
}

void bdrv_op_unblock(BlockDriverState *bs, enum bdrv_op op, Error *reason)
{
    struct bdrv_op_blocker *blocker, *after;

    SIM_ASSERT(op < BLOCK_OP_COUNT);
    for (blocker = LIST_FIRST(&bs->op_blockers[op]); blocker; blocker = after) {
        after = LIST_NEXT(blocker, list);
        if (blocker->reason == reason) {
            LIST_REMOVE(blocker, list);
            SIM_FREE(bs->host->arena, bdrv_op_blocker, blocker);
        }
    }
}

void bdrv_op_block_all(BlockDriverState *bs, Error *reason)
{
    for (unsigned op = 0; op < BLOCK_OP_COUNT; op++) {
        bdrv_op_block(bs, (enum bdrv_op)op, reason);
    }
}

void bdrv_op_unblock_all(BlockDriverState *bs, Error *reason)
{
    for (unsigned op = 0; op < BLOCK_OP_COUNT; op++) {
        bdrv_op_unblock(bs, (enum bdrv_op)op, reason);
    }
}

static bool allowed_on_backing(enum bdrv_op op)
{
    return op == BLOCK_OP_COMMIT_TARGET || op == BLOCK_OP_STREAM || op == BLOCK_OP_BACKUP_SOURCE ||
           op == BLOCK_OP_BACKUP_TARGET;
}

bool bdrv_op_is_blocked(const BlockDriverState *bs, enum bdrv_op op, Error **errp)
{
    const BdrvChild *edge;

    SIM_ASSERT(op < BLOCK_OP_COUNT);
    const struct bdrv_op_blocker *blocker = LIST_FIRST(&bs->op_blockers[op]);
    if (blocker) {
        error_setg(errp, "Node '%s' is busy: %s", bdrv_get_node_name(bs), error_get_pretty(blocker->reason));
        return true;
    }
    if (allowed_on_backing(op)) {
        return false;
    }
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->role & BDRV_CHILD_COW) {
            error_setg(errp, "Node '%s' is busy: node is used as backing hd of '%s'", bdrv_get_node_name(bs),
                       bdrv_get_node_name(bdrv_child_parent_bs(edge)));
            return true;
        }
    }
    return false;
}

unsigned bdrv_op_blockers_of(const BlockDriverState *bs, enum bdrv_op op)
{
    const struct bdrv_op_blocker *blocker;
    unsigned count = 0;

    SIM_ASSERT(op < BLOCK_OP_COUNT);
    LIST_FOREACH(blocker, &bs->op_blockers[op], list)
    {
        count++;
    }
    return count;
}

unsigned bdrv_op_blockers(const BlockDriverState *bs)
{
    unsigned count = 0;

    for (unsigned op = 0; op < BLOCK_OP_COUNT; op++) {
        count += bdrv_op_blockers_of(bs, (enum bdrv_op)op);
    }
    return count;
}
