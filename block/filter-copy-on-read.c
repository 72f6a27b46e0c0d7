/*
 * Driver `copy-on-read`: every read through it fills the node below (reference/block.md 4.3).
 *
 *     driver=copy-on-read file=... [bottom=NODE]
 *
 * The filter only marks reads; the request path of the filtered node copies (copy-on-read.c), and what is to be
 * copied is written there unchanged: hence WRITE_UNCHANGED on the edge, users or not, as long as the filter is
 * active. With `bottom` only what is allocated from the node below the filtered one down to `bottom`, included, is
 * copied:
 *
 *     filter -> top -> middle -> bottom -> base        copied: middle, bottom; never: base
 *
 * For that the chain down to `bottom` must stay as it is: its edges are frozen.
 *
 * A layer between that is shorter than the filtered node hides what lies deeper: behind its end there are zeroes.
 * For those who take the layers away later, these zeroes are data as soon as something longer is left below
 * `bottom`.
 */
#include <errno.h>

#include "block/block_int.h"

struct cor_filter {
    BlockDriverState *bottom; /* NULL: the whole chain; holds a reference */
};

static int freeze_to_bottom(BlockDriverState *bs, const char *name, Error **errp)
{
    struct cor_filter *s = bs->opaque;
    BlockDriverState *bottom = bdrv_find_node(bs->host, name);

    if (!bottom) {
        error_setg(errp, "Bottom node '%s' not found", name);
        return -EINVAL;
    }
    if (bottom->drv->is_filter) {
        error_setg(errp, "Bottom node '%s' is a filter", name);
        return -EINVAL;
    }
    if (!bdrv_chain_contains(bs->file->bs, bottom)) {
        error_setg(errp, "Bottom node '%s' is not in the chain of '%s'", name, bdrv_get_node_name(bs));
        return -EINVAL;
    }
    int ret = bdrv_freeze_chain(bs, bottom, errp);
    if (ret >= 0) {
        bdrv_ref(bottom);
        s->bottom = bottom;
    }
    return ret;
}

static int cor_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    const char *bottom;

    if (!qdict_get_str(options, "bottom", &bottom, NULL, errp) ||
        !bdrv_open_child(bs, options, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, false, errp)) {
        return -EINVAL;
    }
    return bottom ? freeze_to_bottom(bs, bottom, errp) : 0;
}

static void cor_close(BlockDriverState *bs)
{
    struct cor_filter *s = bs->opaque;

    if (s->bottom) {
        bdrv_unfreeze_chain(bs, s->bottom);
        bdrv_unref_later(s->bottom);
        s->bottom = NULL;
    }
}

static void cor_refresh_limits(BlockDriverState *bs)
{
    bdrv_pass_supported_flags(bs);
    bs->supported_read_flags = BDRV_REQ_PREFETCH;
}

/* An inactive node cannot give the permission, and nothing is copied into it. */
static void cor_child_perm(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm, uint64_t shared,
                           uint64_t *nperm, uint64_t *nshared)
{
    bdrv_default_perms(bs, child, role, perm, shared, nperm, nshared);
    if (!bdrv_is_inactive(bs)) {
        *nperm |= BLK_PERM_WRITE_UNCHANGED;
    }
}

bool bdrv_cor_hidden_below(BlockDriverState *bottom, int64_t offset)
{
    for (BlockDriverState *bs = bdrv_backing_chain_next(bottom); bs; bs = bdrv_backing_chain_next(bs)) {
        if (bs->total_bytes > offset) {
            return true;
        }
    }
    return false;
}

/* --- reads -------------------------------------------------------------------------------------------------- */

/* What the next *num bytes are read with: COPY_ON_READ is added when they come from above the base. */
static uint32_t flags_for_run(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags, int64_t *num)
{
    const struct cor_filter *s = bs->opaque;
    BlockDriverState *file = bs->file->bs;
    int ret = bdrv_co_is_allocated(file, offset, bytes, num);

    if (ret < 0 || *num == 0) {
        *num = bytes; /* the read will find out; beyond the end there is nothing to copy */
    }
    if (ret > 0) {
        return flags;
    }
    BlockDriverState *below = bdrv_backing_chain_next(file);
    if (!below || bdrv_skip_filters(file) == s->bottom) {
        return flags; /* nothing lies between the filtered node and the bottom */
    }
    int64_t run = *num;
    ret = bdrv_co_is_allocated_above(below, s->bottom, true, offset, run, num);
    if (ret == 0 && *num == 0) {
        ret = bdrv_cor_hidden_below(s->bottom, offset);
    }
    if (ret < 0 || *num == 0) {
        *num = run;
    }
    return ret == 0 ? flags : flags | BDRV_REQ_COPY_ON_READ;
}

static int cor_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    const struct cor_filter *s = bs->opaque;
    int ret = 0;

    if (bdrv_is_inactive(bs)) { /* the node below may be active, but nobody may write there for us */
        return flags & BDRV_REQ_PREFETCH ? 0 : bdrv_co_preadv(bs->file, offset, bytes, out, flags);
    }
    if (!s->bottom) {
        return bdrv_co_preadv(bs->file, offset, bytes, out, flags | BDRV_REQ_COPY_ON_READ);
    }
    while (bytes > 0 && ret == 0) {
        int64_t num;
        uint32_t run_flags = flags_for_run(bs, offset, bytes, flags, &num);
        bool neither = (run_flags & BDRV_REQ_PREFETCH) && !(run_flags & BDRV_REQ_COPY_ON_READ);
        SIM_ASSERT(num > 0 && num <= bytes);
        if (!neither) {
            ret = bdrv_co_preadv(bs->file, offset, num, out, run_flags);
        }
        offset += num;
        bytes -= num;
    }
    return ret;
}

/* --- all else goes on as it is ------------------------------------------------------------------------------ */

static int cor_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                       uint32_t flags)
{
    return bdrv_co_pwritev(bs->file, offset, bytes, in, flags);
}

static int cor_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    return bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int cor_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return bdrv_co_pdiscard(bs->file, offset, bytes);
}

static const BdrvOption cor_options[] = {
    {"file", BDRV_OPT_NODE, true, "node that reads fill", NULL},
    {"bottom", BDRV_OPT_STR, false, "lowest node of the chain whose data is copied, default: all are", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

extern const BlockDriver bdrv_copy_on_read;
const BlockDriver bdrv_copy_on_read = {
    .format_name = "copy-on-read",
    .doc = "reads fill the node below with what they find further down",
    .instance_size = sizeof(struct cor_filter),
    .options = cor_options,
    .is_filter = true,
    .bdrv_open = cor_open,
    .bdrv_close = cor_close,
    .bdrv_co_preadv = cor_preadv,
    .bdrv_co_pwritev = cor_pwritev,
    .bdrv_co_pwrite_zeroes = cor_pwrite_zeroes,
    .bdrv_co_pdiscard = cor_pdiscard,
    .bdrv_refresh_limits = cor_refresh_limits,
    .bdrv_child_perm = cor_child_perm,
};

/* --- for jobs ----------------------------------------------------------------------------------------------- */

BlockDriverState *bdrv_cor_filter_insert(BlockDriverState *bs, BlockDriverState *bottom, const char *node_name,
                                         Error **errp)
{
    uint32_t flags = BDRV_O_RDWR | (bdrv_open_flags(bs) & BDRV_O_UNMAP);
    BlockDriverState *filter = bdrv_new_filter(bs->host, &bdrv_copy_on_read, node_name, flags, errp);

    SIM_ASSERT(host_in_main(bs->host));
    SIM_ASSERT(bdrv_chain_contains(bs, bottom));
    if (!filter) {
        return NULL;
    }
    bdrv_drained_begin(bs);
    int ret = bdrv_append(filter, bs, errp);
    if (ret >= 0) { /* before the first request passes */
        struct cor_filter *s = filter->opaque;
        ret = bdrv_freeze_chain(filter, bs, NULL);
        SIM_ASSERT_EQ(ret, 0);
        bdrv_ref(bottom);
        s->bottom = bottom;
    }
    bdrv_drained_end(bs);
    if (ret < 0) {
        bdrv_unref(filter);
        return NULL;
    }
    return filter;
}

/* Drained: a read that is under way has to know the bottom until its end. */
static void forget_bottom(BlockDriverState *filter)
{
    struct cor_filter *s = filter->opaque;

    SIM_ASSERT(filter->quiesce_counter > 0);
    SIM_ASSERT(s->bottom != NULL);
    bdrv_unfreeze_chain(filter, s->bottom);
    bdrv_unref_later(s->bottom);
    s->bottom = NULL;
}

void bdrv_cor_filter_drop(BlockDriverState *filter)
{
    bdrv_drained_begin(filter);
    forget_bottom(filter);
    int ret = bdrv_drop_filter(filter, NULL);
    SIM_ASSERT_EQ(ret, 0); /* it passed on what its parents take: without it nothing new is taken */
    bdrv_drained_end(filter);
    bdrv_unref(filter);
}

void bdrv_cor_filter_undo(BlockDriverState *filter, BlockDriverState *bs, const struct bdrv_parents *parents)
{
    bdrv_ref(bs);
    bdrv_drained_begin(bs);
    bdrv_drained_begin(filter);
    forget_bottom(filter);
    int ret = bdrv_undo_append(filter, bs, parents, NULL);
    SIM_ASSERT_EQ(ret, 0);
    bdrv_drained_end(filter);
    bdrv_drained_end(bs);
    bdrv_unref(filter);
    bdrv_unref(bs);
}
