/*
 * Rights that stay behind: who only gives up rights cannot be told no, and where a node below refuses what would be
 * left, the old values are kept (reference/block.md 1.11). The one reason there is: without RESIZE nobody writes a
 * node whose length is no multiple of its alignment, and a cut can make a length such.
 */
#include "check/permissions.h"

/* An edge, or the locks of a node's medium, found with rights kept. The reason may go, the rights stay until
 * somebody changes them. */
struct kept_rights {
    const struct host *host;
    const struct sim_name *node; /* whose medium is locked; NULL: an edge */
    uint64_t number;             /* of the edge */
    uint64_t perm, shared;
    struct kept_rights *next;
};

/* bs has users who write and an end that they must not pad. */
static bool refuses(const BlockDriverState *bs)
{
    if (bdrv_getlength_cached(bs) % MAX((int64_t)bdrv_request_alignment(bs), (int64_t)1) == 0) {
        return false;
    }
    for (BdrvChild *edge = bdrv_first_parent(bs); edge; edge = bdrv_next_parent(edge)) {
        uint64_t perm, shared;

        bdrv_child_perms(edge, &perm, &shared);
        if (perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED)) {
            return true;
        }
    }
    return false;
}

static bool refuses_from(const BlockDriverState *bs)
{
    if (refuses(bs)) {
        return true;
    }
    for (BdrvChild *edge = bdrv_first_child(bs); edge; edge = bdrv_next_child(edge)) {
        if (refuses_from(bdrv_child_bs(edge))) {
            return true;
        }
    }
    return false;
}

bool permissions_may_keep(struct host *host)
{
    for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs; bs = bdrv_next_node(host, bs)) {
        if (refuses(bs)) {
            return true;
        }
    }
    return false;
}

/* As they were when they were found kept, or kept now for a reason that there is. */
static bool is_kept(struct permissions *state, const struct kept_rights *found, bool reason)
{
    struct kept_rights *kept = state->kept;

    while (kept && !(kept->host == found->host && kept->node == found->node && kept->number == found->number)) {
        kept = kept->next;
    }
    if (kept && kept->perm == found->perm && kept->shared == found->shared) {
        return true;
    }
    if (!reason) {
        return false;
    }
    if (!kept) {
        kept = (struct kept_rights *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*kept));
        *kept = *found;
        kept->next = state->kept;
        state->kept = kept;
    }
    kept->perm = found->perm;
    kept->shared = found->shared;
    return true;
}

bool permissions_kept(struct permissions *state, const struct host *host, const BdrvChild *edge)
{
    struct kept_rights found = {.host = host, .number = bdrv_child_number(edge)};

    bdrv_child_perms(edge, &found.perm, &found.shared);
    return is_kept(state, &found, refuses_from(bdrv_child_bs(edge)));
}

bool permissions_locks_kept(struct permissions *state, const struct host *host, const BlockDriverState *bs,
                            uint64_t locked, uint64_t locked_against)
{
    struct kept_rights found = {
        .host = host, .node = bdrv_node_sim_name(bs), .perm = locked, .shared = BLK_PERM_ALL & ~locked_against};
    bool reason = false;

    for (const BlockDriverState *over = bdrv_next_node((struct host *)host, NULL); over && !reason;
         over = bdrv_next_node((struct host *)host, over)) {
        reason = check_same_medium(bs, over) && refuses(over);
    }
    return is_kept(state, &found, reason);
}
