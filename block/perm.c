/*
 * Permissions (1.11): what each user of a node does to it and bears from others.
 *
 * An update visits every affected node after all of its parents, so that what a node asks of its children comes
 * from the final state of its users; a depth-first walk would see conflicts that are none [sharp edge 29].
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/tran.h"

/* --- words ----------------------------------------------------------------------------------------------- */

static const struct {
    uint64_t bit;
    const char *name;
} perm_words[] = {
    {BLK_PERM_CONSISTENT_READ, "consistent read"},
    {BLK_PERM_WRITE, "write"},
    {BLK_PERM_WRITE_UNCHANGED, "write unchanged"},
    {BLK_PERM_RESIZE, "resize"},
};

char *bdrv_perm_names(uint64_t perm)
{
    char text[80];
    size_t length = 0;

    for (size_t i = 0; i < ARRAY_SIZE(perm_words); i++) {
        if (perm & perm_words[i].bit) {
            length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%s", length ? ", " : "",
                                       perm_words[i].name);
            SIM_ASSERT(length < sizeof(text));
        }
    }
    char *copy = strdup(length ? text : "none");
    SIM_ASSERT(copy != NULL);
    return copy;
}

/* --- what one node's users add up to ---------------------------------------------------------------------- */

void bdrv_cumulative_perms(const BlockDriverState *bs, uint64_t *perm, uint64_t *shared)
{
    const BdrvChild *edge;

    *perm = 0;
    *shared = BLK_PERM_ALL;
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        *perm |= edge->perm;
        *shared &= edge->shared_perm;
    }
}

static void report_conflict(const BdrvChild *wants, const BdrvChild *denies, Error **errp)
{
    char *wanting = bdrv_child_user_desc(wants);
    char *denying = bdrv_child_user_desc(denies);
    char *what = bdrv_perm_names(wants->perm & ~denies->shared_perm);

    error_setg(
        errp,
        "Conflicts with use by %s as '%s', which does not allow '%s' on node '%s'; it is wanted by %s as '%s'",
        denying, denies->name, what, bdrv_get_node_name(wants->bs), wanting, wants->name);
    free(what);
    free(denying);
    free(wanting);
}

/* Any two distinct edges: what one does the other must bear. */
static bool parents_conflict(BlockDriverState *bs, Error **errp)
{
    BdrvChild *a, *b;
    uint64_t perm, shared;

    bdrv_cumulative_perms(bs, &perm, &shared);
    if ((perm & ~shared) == 0) {
        return false;
    }
    LIST_FOREACH(a, &bs->parents, next_parent)
    {
        LIST_FOREACH(b, &bs->parents, next_parent)
        {
            if (a != b && (b->perm & ~a->shared_perm)) {
                report_conflict(b, a, errp);
                SIM_MARK(bs->host->sim, perm_refused);
                return true;
            }
        }
    }
    return false;
}

/* --- defaults by role ------------------------------------------------------------------------------------ */

static void cow_perms(const BlockDriverState *bs, uint64_t perm, uint64_t shared, uint64_t *nperm,
                      uint64_t *nshared)
{
    bool bears_change = (shared & BLK_PERM_WRITE) || bdrv_is_inactive(bs);

    *nperm = perm & BLK_PERM_CONSISTENT_READ;
    *nshared = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;
    if (bears_change) {
        *nshared |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
    }
}

static void storage_perms(const BlockDriverState *bs, uint32_t role, uint64_t perm, uint64_t shared,
                          uint64_t *nperm, uint64_t *nshared)
{
    if (role & BDRV_CHILD_METADATA) {
        /* Metadata may change although no user writes, and nobody else may touch it. */
        if (bdrv_is_writable(bs)) {
            perm |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
        }
        if (!(bs->open_flags & BDRV_O_NO_IO)) {
            perm |= BLK_PERM_CONSISTENT_READ;
        }
        shared &= ~(uint64_t)(BLK_PERM_WRITE | BLK_PERM_RESIZE);
    }
    if (role & BDRV_CHILD_DATA) {
        shared &= ~(uint64_t)BLK_PERM_RESIZE;
        /* What the user sees unchanged may be a change in the file below. */
        if (perm & BLK_PERM_WRITE_UNCHANGED) {
            perm |= BLK_PERM_WRITE;
        }
        if (perm & BLK_PERM_WRITE) {
            perm |= BLK_PERM_RESIZE;
        }
    }
    if (bdrv_is_inactive(bs)) {
        shared |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
    }
    *nperm = perm;
    *nshared = shared;
}

void bdrv_default_perms(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm, uint64_t shared,
                        uint64_t *nperm, uint64_t *nshared)
{
    SIM_ASSERT(role & (BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_FILTERED | BDRV_CHILD_COW));
    if (role & BDRV_CHILD_FILTERED) {
        *nperm = perm;
        *nshared = shared;
    } else if (role & BDRV_CHILD_COW) {
        cow_perms(bs, perm, shared, nperm, nshared);
    } else {
        storage_perms(bs, role, perm, shared, nperm, nshared);
    }
}

void bdrv_child_perm(BlockDriverState *parent, BdrvChild *child, BlockDriverState *child_bs, uint64_t perm,
                     uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    const BlockDriver *drv = parent->drv;

    SIM_ASSERT(drv != NULL);
    if (drv->bdrv_child_perm) {
        drv->bdrv_child_perm(parent, child, child->role, perm, shared, nperm, nshared);
    } else {
        bdrv_default_perms(parent, child, child->role, perm, shared, nperm, nshared);
    }
    SIM_ASSERT((*nperm & ~(uint64_t)BLK_PERM_ALL) == 0);
    if (child_bs->open_flags & BDRV_O_FORCE_SHARE) {
        *nshared = BLK_PERM_ALL;
    }
}

/* --- one node -------------------------------------------------------------------------------------------- */

/* What the node itself can bear: writers need it writable, and without RESIZE a whole number of blocks. */
static int check_node(BlockDriverState *bs, uint64_t perm, Error **errp)
{
    if (!(perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED))) {
        return 0;
    }
    if (!bdrv_is_writable(bs)) {
        error_setg(errp, "%s block node '%s' cannot support read-write users",
                   bdrv_is_inactive(bs) ? "Inactive" : "Read-only", bdrv_get_node_name(bs));
        return -EPERM;
    }
    uint32_t align = MAX(bs->bl.request_alignment, 1u);
    if (!(perm & BLK_PERM_RESIZE) && bs->total_bytes % align != 0) {
        error_setg(errp,
                   "Cannot get 'write' permission on node '%s' without 'resize': its size is not a multiple of the "
                   "request alignment",
                   bdrv_get_node_name(bs));
        return -EPERM;
    }
    return 0;
}

static int refresh_node(struct bdrv_tran *tran, BlockDriverState *bs, Error **errp)
{
    uint64_t perm, shared;
    BdrvChild *child;

    if (parents_conflict(bs, errp)) {
        return -EPERM;
    }
    bdrv_cumulative_perms(bs, &perm, &shared);
    int ret = check_node(bs, perm, errp);
    if (ret < 0) {
        return ret;
    }
    if (!bs->drv) {
        return 0;
    }
    if (bs->drv->bdrv_check_perm) {
        ret = bs->drv->bdrv_check_perm(bs, perm, shared, errp);
        if (ret < 0) {
            return ret;
        }
    }
    bdrv_tran_drv_perm(tran, bs, perm, shared);
    LIST_FOREACH(child, &bs->children, next)
    {
        uint64_t nperm, nshared;
        bdrv_child_perm(bs, child, child->bs, perm, shared, &nperm, &nshared);
        bdrv_tran_set_perm(tran, child, nperm, nshared);
    }
    return 0;
}

/* --- all affected nodes ---------------------------------------------------------------------------------- */

/* Puts bs and all below it, as far as not yet seen, before list: parents stand before their children. */
static BlockDriverState *sort_below(BlockDriverState *bs, BlockDriverState *list)
{
    BdrvChild *child;

    if (!bdrv_visit(bs)) {
        return list;
    }
    LIST_FOREACH(child, &bs->children, next)
    {
        list = sort_below(child->bs, list);
    }
    bs->topo_next = list;
    return bs;
}

/* Whose alignment has changed may no longer suit its users (1.11), however far above the edit it is. */
static BlockDriverState *sort_realigned(const struct bdrv_tran *tran, BlockDriverState *list)
{
    for (size_t i = 0; i < tran->count; i++) {
        const struct bdrv_edit *edit = &tran->edit[i];
        if (edit->kind == BDRV_EDIT_LIMITS &&
            edit->limits->bl.request_alignment != edit->node->bl.request_alignment) {
            list = sort_below(edit->node, list);
        }
    }
    return list;
}

int bdrv_tran_perms(struct bdrv_tran *tran, BlockDriverState *const *start, size_t count, Error **errp)
{
    BlockDriverState *list = NULL;

    SIM_ASSERT(count > 0);
    int limits = bdrv_tran_limits(tran, NULL, 0, errp);
    if (limits < 0) {
        return limits;
    }
    bdrv_walk_begin(start[0]->host->graph);
    for (size_t i = 0; i < count; i++) {
        list = sort_below(start[i], list);
    }
    list = sort_realigned(tran, list);
    for (; list; list = list->topo_next) {
        int ret = refresh_node(tran, list, errp);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

int bdrv_refresh_perms(BlockDriverState *bs, Error **errp)
{
    struct bdrv_tran tran;

    bdrv_tran_begin(&tran);
    return bdrv_tran_finish(&tran, bdrv_tran_perms(&tran, &bs, 1, errp));
}

int bdrv_child_try_set_perm(BdrvChild *child, uint64_t perm, uint64_t shared, Error **errp)
{
    struct bdrv_tran tran;
    Error *local = NULL;
    bool tightens = (perm & ~child->perm) || (child->shared_perm & ~shared);

    SIM_ASSERT((perm & ~(uint64_t)BLK_PERM_ALL) == 0);
    SIM_ASSERT((shared & ~(uint64_t)BLK_PERM_ALL) == 0);
    bdrv_tran_begin(&tran);
    bdrv_tran_set_perm(&tran, child, perm, shared);
    int ret = bdrv_tran_finish(&tran, bdrv_tran_perms(&tran, &child->bs, 1, &local));
    if (ret < 0 && !tightens) {
        /* Who only gives up rights cannot be told no: the old values, which were fine, stay [sharp edge 30]. */
        error_free(local);
        return 0;
    }
    error_propagate(errp, local);
    return ret;
}
