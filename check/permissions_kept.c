/*
 * Rights that stay behind: who only gives up rights cannot be told no, and where a node below refuses what would be
 * left, the old values are kept (reference/block.md 1.11). The one reason there is: without RESIZE nobody writes a
 * node whose length is no multiple of its alignment, and a cut can make a length such.
 */
#include "check/permissions.h"

/* An edge that was found with rights kept. The reason may go, the rights stay until somebody changes them. */
struct kept_edge {
    const struct host *host;
    uint64_t number;
    uint64_t perm, shared;
    struct kept_edge *next;
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

bool permissions_kept(struct permissions *state, const struct host *host, const BdrvChild *edge)
{
    struct kept_edge *kept = state->kept;
    uint64_t perm, shared;

    bdrv_child_perms(edge, &perm, &shared);
    while (kept && !(kept->host == host && kept->number == bdrv_child_number(edge))) {
        kept = kept->next;
    }
    if (kept && kept->perm == perm && kept->shared == shared) {
        return true;
    }
    if (!refuses_from(bdrv_child_bs(edge))) {
        return false;
    }
    if (!kept) {
        kept = (struct kept_edge *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*kept));
        *kept = (struct kept_edge){.host = host, .number = bdrv_child_number(edge), .next = state->kept};
        state->kept = kept;
    }
    kept->perm = perm;
    kept->shared = shared;
    return true;
}
