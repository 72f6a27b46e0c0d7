/*
 * Limits of a node and what it can say about itself (reference/block.md 2.3, 2.13).
 *
 * A node's limits, and what flags its driver can take, come from its children. So whatever changes a link changes
 * them in every node above, up to the top, children before parents; and a transaction that is undone gives all of
 * them back (1.9).
 */
#include "block/request.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "block/tran.h"

#define MIN_NON_ZERO(a, b) ((a) == 0 ? (b) : (b) == 0 ? (a) : MIN(a, b))

static void merge_limits(BlockLimits *bl, const BlockLimits *child)
{
    bl->pdiscard_alignment = MAX(bl->pdiscard_alignment, child->pdiscard_alignment);
    bl->opt_transfer = MAX(bl->opt_transfer, child->opt_transfer);
    bl->min_mem_alignment = MAX(bl->min_mem_alignment, child->min_mem_alignment);
    bl->max_transfer = MIN_NON_ZERO(bl->max_transfer, child->max_transfer);
    bl->max_iov = MIN_NON_ZERO(bl->max_iov, child->max_iov);
}

static void inherit_limits(BlockDriverState *bs)
{
    BlockLimits *bl = &bs->bl;
    const BdrvChild *child;

    memset(bl, 0, sizeof(*bl));
    bl->request_alignment = 1;
    if (bs->drv == NULL) {
        return;
    }
    LIST_FOREACH(child, &bs->children, next)
    {
        if (child->role & (BDRV_CHILD_DATA | BDRV_CHILD_FILTERED | BDRV_CHILD_COW)) {
            merge_limits(bl, &child->bs->bl);
        }
    }
    bl->min_mem_alignment = MAX(bl->min_mem_alignment, 512);
    if (bs->drv->bdrv_refresh_limits != NULL) {
        bs->drv->bdrv_refresh_limits(bs);
    }
}

int bdrv_try_refresh_limits(BlockDriverState *bs, Error **errp)
{
    BlockLimits *bl = &bs->bl;

    inherit_limits(bs);
    SIM_ASSERT(is_power_of_2(bl->request_alignment) && bl->request_alignment <= BDRV_MAX_ALIGNMENT);
    if (bl->max_transfer > 0) {
        int64_t most = ROUND_DOWN(MIN(bl->max_transfer, (int64_t)INT_MAX), bl->request_alignment);
        if (most == 0) {
            error_setg(errp, "Node '%s' has a request alignment of %u, but what is below takes only %lld at a time",
                       bdrv_get_node_name(bs), bl->request_alignment, (long long)bl->max_transfer);
            SIM_MARK(bs->host->sim, limits_refused);
            return -EINVAL;
        }
        bl->max_transfer = most;
    }
    return 0;
}

void bdrv_refresh_limits(BlockDriverState *bs)
{
    int ret = bdrv_try_refresh_limits(bs, NULL);

    SIM_ASSERT_EQ(ret, 0);
}

void bdrv_pass_supported_flags(BlockDriverState *bs)
{
    const uint32_t zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    const BlockDriverState *file = bdrv_primary_bs(bs);

    bs->supported_write_flags = BDRV_REQ_WRITE_UNCHANGED;
    bs->supported_zero_flags = BDRV_REQ_WRITE_UNCHANGED;
    bs->supported_truncate_flags = 0;
    if (file != NULL) { /* on its way out a node loses its children first */
        bs->supported_write_flags |= BDRV_REQ_FUA & file->supported_write_flags;
        bs->supported_zero_flags |= zero_flags & file->supported_zero_flags;
        bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE & file->supported_truncate_flags;
    }
}

/* --- of all nodes above a change ---------------------------------------------------------------------------- */

/* While a node is being opened, and once its driver is closed, it has none. */
static bool has_limits(const BlockDriverState *bs)
{
    return bs->bl.request_alignment > 0;
}

/* Puts bs and all above it, as far as not yet seen, before list: children stand before their parents. */
static BlockDriverState *sort_above(BlockDriverState *bs, BlockDriverState *list)
{
    BdrvChild *edge;

    if (!bdrv_visit(bs)) {
        return list;
    }
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (bdrv_child_parent_bs(edge) != NULL) {
            list = sort_above(bdrv_child_parent_bs(edge), list);
        }
    }
    bs->topo_next = list;
    return bs;
}

/* Requests in flight have been cut by the old limits. */
static bool nothing_runs(const BlockDriverState *bs)
{
    return bs->quiesce_counter > 0 || (LIST_EMPTY(&bs->parents) && bs->in_flight == 0);
}

int bdrv_tran_limits(struct bdrv_tran *tran, BlockDriverState *const *start, size_t count, Error **errp)
{
    BlockDriverState *list = NULL;
    bool begun = false;

    for (size_t i = 0; i < tran->count + count; i++) {
        BlockDriverState *bs = i < tran->count ? bdrv_edit_parent(&tran->edit[i]) : start[i - tran->count];
        if (bs != NULL) {
            if (!begun) {
                bdrv_walk_begin(bs->host->graph);
                begun = true;
            }
            list = sort_above(bs, list);
        }
    }
    for (; list != NULL; list = list->topo_next) {
        if (!has_limits(list)) {
            continue;
        }
        SIM_ASSERT(nothing_runs(list));
        bdrv_tran_note_limits(tran, list);
        int ret = bdrv_try_refresh_limits(list, errp);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* --- what it says about itself ------------------------------------------------------------------------------ */

int bdrv_co_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    memset(info, 0, sizeof(*info));
    if (bs->drv == NULL) {
        return -ENOMEDIUM;
    }
    if (bs->drv->bdrv_co_get_info == NULL) {
        BlockDriverState *filtered = bdrv_filter_bs(bs);
        return filtered != NULL ? bdrv_co_get_info(filtered, info) : -ENOTSUP;
    }
    bdrv_inc_in_flight(bs);
    int ret = bs->drv->bdrv_co_get_info(bs, info);
    bdrv_dec_in_flight(bs);
    return ret < 0 ? ret : 0;
}

bool bdrv_has_zero_init(BlockDriverState *bs)
{
    if (bs->drv == NULL || bdrv_cow_child(bs) != NULL) {
        return false; /* a fresh overlay reads as its backing file */
    }
    if (bs->drv->bdrv_has_zero_init != NULL) {
        return bs->drv->bdrv_has_zero_init(bs);
    }
    BlockDriverState *filtered = bdrv_filter_bs(bs);
    return filtered != NULL && bdrv_has_zero_init(filtered);
}

bool bdrv_can_write_zeroes_with_unmap(BlockDriverState *bs)
{
    return bs->drv != NULL && (bs->open_flags & BDRV_O_UNMAP) && (bs->supported_zero_flags & BDRV_REQ_MAY_UNMAP);
}
