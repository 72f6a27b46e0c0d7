/* Block status: what is stored where (reference/block.md 2.13). */
#include "block/request.h"

#include <errno.h>

/* A question about [offset, offset+bytes) of a node, and its answer. */
struct status {
    bool want_zero;
    int64_t pnum;
    int64_t map;
    BlockDriverState *file;
};

static int query(BlockDriverState *bs, int64_t offset, int64_t bytes, struct status *st);

/* What a node without status operation says. */
static int generic_status(BlockDriverState *bs, int64_t offset, int64_t bytes, struct status *st)
{
    st->pnum = bytes;
    if (bs->drv->is_filter) {
        BdrvChild *child = bdrv_filter_child(bs);
        SIM_ASSERT(child != NULL);
        st->map = offset;
        st->file = child->bs;
        return BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID;
    }
    if (bs->drv->is_protocol) {
        st->map = offset;
        st->file = bs;
        return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID;
    }
    return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
}

/* Remembered data that answers the whole question: a part of it would be a shorter answer than the driver's. */
static int cached_status(BlockDriverState *bs, int64_t offset, int64_t bytes, struct status *st)
{
    if (offset < bs->status_data_start || bytes > bs->status_data_end - offset || !LIST_EMPTY(&bs->children)) {
        return 0;
    }
    st->pnum = bytes;
    st->map = offset;
    st->file = bs;
    return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
}

/* Remembers an answer about `start`, which is not clipped to the question yet. */
static void cache_status(BlockDriverState *bs, int64_t start, int ret, const struct status *st)
{
    if (st->want_zero && ret == (BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID) && st->file == bs && st->map == start &&
        LIST_EMPTY(&bs->children)) {
        bs->status_data_start = start;
        bs->status_data_end = start + st->pnum;
    }
}

/* Asks the driver about whole request alignments and clips its answer to the question. */
static int driver_status(BlockDriverState *bs, int64_t offset, int64_t bytes, struct status *st)
{
    int64_t align = bs->bl.request_alignment;
    int64_t start = ROUND_DOWN(offset, align);
    int64_t wide = ROUND_UP(offset + bytes, align) - start;
    int ret = cached_status(bs, offset, bytes, st);
    if (ret > 0) {
        return ret;
    }
    ret = bs->drv->bdrv_co_block_status(bs, st->want_zero, start, wide, &st->pnum, &st->map, &st->file);
    if (ret < 0) {
        return ret;
    }
    cache_status(bs, start, ret, st);
    SIM_ASSERT_LT(0, st->pnum);
    SIM_ASSERT(!(ret & BDRV_BLOCK_RAW) || ((ret & BDRV_BLOCK_OFFSET_VALID) && st->file != NULL));
    SIM_ASSERT(!(ret & BDRV_BLOCK_RECURSE) || ((ret & BDRV_BLOCK_DATA) && !(ret & BDRV_BLOCK_ZERO)));
    /* An answer that ends before the question starts would be no answer. */
    SIM_ASSERT_LT(offset - start, st->pnum);
    st->pnum = MIN(st->pnum - (offset - start), bytes);
    st->map += ret & BDRV_BLOCK_OFFSET_VALID ? offset - start : 0;
    return ret;
}

static int query_above(BlockDriverState *bs, BlockDriverState *base, bool include_base, int64_t offset,
                       int64_t bytes, struct status *st, int *depth);

/*
 * The file decides: its answer is ours. Below a filter the walk goes on to what the file stands on; below a format
 * it does not, so all that the file shows has to be in the answer, or what its backing holds would be taken for
 * nothing.
 */
static int raw_status(const BlockDriverState *bs, int64_t asked, struct status *st)
{
    struct status below = {.want_zero = st->want_zero};
    int depth;
    int ret = bdrv_filter_or_cow_bs(bs) ? query(st->file, st->map, asked, &below)
                                        : query_above(st->file, NULL, false, st->map, asked, &below, &depth);
    if (ret < 0) {
        return ret;
    }
    if (below.pnum == 0) {
        /* The file is shorter than we are: reads zero, and nobody below can say otherwise. */
        st->pnum = asked;
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    }
    *st = below;
    return ret & ~BDRV_BLOCK_EOF;
}

/* Allocated data somewhere in the file: a hole there makes it zero. Errors are no news. */
static int recurse_status(int ret, struct status *st)
{
    struct status below = {.want_zero = st->want_zero};
    int file_ret = query(st->file, st->map, st->pnum, &below);
    if (file_ret < 0) {
        return ret;
    }
    if ((file_ret & BDRV_BLOCK_EOF) && (below.pnum == 0 || (file_ret & BDRV_BLOCK_ZERO))) {
        return ret | BDRV_BLOCK_ZERO; /* past the file's end all reads zero, as far as was asked */
    }
    st->pnum = below.pnum;
    return ret | (file_ret & BDRV_BLOCK_ZERO);
}

/* Neither data nor zero here: without anything behind it, it reads zero. */
static int unallocated_status(BlockDriverState *bs, int64_t offset, const struct status *st, int ret)
{
    if (!bs->drv->supports_backing) {
        return ret;
    }
    BlockDriverState *cow = bdrv_cow_bs(bs);
    if (cow == NULL || (st->want_zero && offset >= cow->total_bytes)) {
        return ret | BDRV_BLOCK_ZERO;
    }
    return ret;
}

static int query_inside(BlockDriverState *bs, int64_t offset, int64_t bytes, struct status *st)
{
    int ret = bs->drv->bdrv_co_block_status != NULL ? driver_status(bs, offset, bytes, st)
                                                    : generic_status(bs, offset, bytes, st);
    if (ret < 0) {
        return ret;
    }
    if (ret & BDRV_BLOCK_RAW) {
        return raw_status(bs, st->pnum, st);
    }
    if (ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO)) {
        ret |= BDRV_BLOCK_ALLOCATED;
    } else {
        ret = unallocated_status(bs, offset, st, ret);
    }
    if (st->want_zero && (ret & BDRV_BLOCK_RECURSE) && (ret & BDRV_BLOCK_DATA) && !(ret & BDRV_BLOCK_ZERO) &&
        (ret & BDRV_BLOCK_OFFSET_VALID) && st->file != NULL && st->file != bs) {
        ret = recurse_status(ret, st);
    }
    return ret;
}

/* One node. The answer's EOF means: its run reaches the end of bs. */
static int query(BlockDriverState *bs, int64_t offset, int64_t bytes, struct status *st)
{
    SIM_ASSERT(offset >= 0 && bytes >= 0);
    st->pnum = 0;
    st->map = 0;
    st->file = NULL;
    if (bs->drv == NULL) {
        return -ENOMEDIUM;
    }
    if (offset >= bs->total_bytes) {
        return BDRV_BLOCK_EOF;
    }
    if (bytes == 0) {
        return 0;
    }
    bytes = MIN(bytes, bs->total_bytes - offset);
    bdrv_inc_in_flight(bs);
    int ret = query_inside(bs, offset, bytes, st);
    if (ret >= 0) {
        SIM_ASSERT_LT(0, st->pnum);
        ret &= ~(BDRV_BLOCK_EOF | BDRV_BLOCK_RECURSE | BDRV_BLOCK_RAW);
        ret |= offset + st->pnum >= bs->total_bytes ? BDRV_BLOCK_EOF : 0;
    }
    bdrv_dec_in_flight(bs);
    return ret;
}

/* Walks from bs down to base (inclusive or not) until a layer decides. depth: layers looked at. */
static int query_above(BlockDriverState *bs, BlockDriverState *base, bool include_base, int64_t offset,
                       int64_t bytes, struct status *st, int *depth)
{
    *depth = 0;
    if (!include_base && bs == base) {
        *st = (struct status){.want_zero = st->want_zero, .pnum = bytes};
        return 0;
    }
    int ret = query(bs, offset, bytes, st);
    ++*depth;
    if (ret < 0 || st->pnum == 0 || (ret & BDRV_BLOCK_ALLOCATED) || bs == base) {
        return ret;
    }
    int64_t eof = ret & BDRV_BLOCK_EOF ? offset + st->pnum : -1;
    BlockDriverState *layer = bdrv_filter_or_cow_bs(bs);
    while (layer != NULL && (include_base || layer != base)) {
        bytes = st->pnum;
        ret = query(layer, offset, bytes, st);
        ++*depth;
        if (ret < 0) {
            return ret;
        }
        if (st->pnum == 0) {
            /* Too short: what lies deeper must not shine through, so the zeroes count as allocated here. */
            st->pnum = bytes;
            st->file = layer;
            ret = BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
            break;
        }
        if ((ret & BDRV_BLOCK_ALLOCATED) || layer == base) {
            break;
        }
        layer = bdrv_filter_or_cow_bs(layer);
    }
    ret &= ~BDRV_BLOCK_EOF;
    return offset + st->pnum == eof ? ret | BDRV_BLOCK_EOF : ret;
}

/* --- the public forms ------------------------------------------------------------------------------------- */

int bdrv_co_block_status_above(BlockDriverState *bs, BlockDriverState *base, int64_t offset, int64_t bytes,
                               int64_t *pnum, int64_t *map, BlockDriverState **file)
{
    struct status st = {.want_zero = true};
    int depth;
    int ret = query_above(bs, base, false, offset, bytes, &st, &depth);
    *pnum = ret < 0 ? 0 : st.pnum;
    if (map != NULL) {
        *map = st.map;
    }
    if (file != NULL) {
        *file = st.file;
    }
    return ret;
}

int bdrv_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum, int64_t *map,
                         BlockDriverState **file)
{
    return bdrv_co_block_status_above(bs, bs->drv != NULL ? bdrv_filter_or_cow_bs(bs) : NULL, offset, bytes, pnum,
                                      map, file);
}

int bdrv_co_is_allocated(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum)
{
    struct status st = {.want_zero = false};
    int depth;
    int ret = query_above(bs, bs, true, offset, bytes, &st, &depth);
    *pnum = ret < 0 ? 0 : st.pnum;
    return ret < 0 ? ret : (ret & BDRV_BLOCK_ALLOCATED) != 0;
}

int bdrv_co_is_allocated_above(BlockDriverState *top, BlockDriverState *base, bool include_base, int64_t offset,
                               int64_t bytes, int64_t *pnum)
{
    struct status st = {.want_zero = false};
    int depth;
    SIM_ASSERT(base != NULL || !include_base);
    int ret = query_above(top, base, include_base, offset, bytes, &st, &depth);
    *pnum = ret < 0 ? 0 : st.pnum;
    if (ret < 0) {
        return ret;
    }
    return ret & BDRV_BLOCK_ALLOCATED ? depth : 0;
}
