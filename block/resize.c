/* The length of a node: asking, caching, changing (reference/block.md 2.15, 5). */
#include "block/request.h"

#include <errno.h>

void bdrv_set_total_bytes(BlockDriverState *bs, int64_t length)
{
    SIM_ASSERT(length >= 0 && length <= BDRV_MAX_LENGTH);
    length = ROUND_UP(length, SIM_SECTOR_BYTES);
    if (length == bs->total_bytes) {
        return;
    }
    bs->total_bytes = length;
    SIM_EMIT(bs->host->sim, bs->host, node_resize, bs, SIM_P(bs->name), (uint64_t)length);
    bdrv_dirty_bitmap_truncate(bs, length);
    BdrvChild *edge = LIST_FIRST(&bs->parents);
    while (edge != NULL) {
        BdrvChild *next = LIST_NEXT(edge, next_parent);
        if (edge->klass->resize != NULL) {
            edge->klass->resize(edge);
        }
        /* What passes everything on is as long as this: its users must not reach beyond the new end. */
        BlockDriverState *parent = bdrv_child_parent_bs(edge);
        if (parent && (edge->role & BDRV_CHILD_FILTERED) &&
            !(parent->drv->bdrv_has_own_length && parent->drv->bdrv_has_own_length(parent))) {
            bdrv_set_total_bytes(parent, length);
        }
        edge = next;
    }
}

int64_t bdrv_co_getlength(BlockDriverState *bs)
{
    if (bs->drv == NULL) {
        return -ENOMEDIUM;
    }
    int64_t length = bs->total_bytes;
    bdrv_inc_in_flight(bs);
    if (bs->drv->bdrv_co_getlength != NULL) {
        length = bs->drv->bdrv_co_getlength(bs);
    } else if (bs->drv->is_filter) {
        length = bdrv_co_getlength(bdrv_filter_bs(bs));
    }
    if (length > BDRV_MAX_LENGTH) {
        length = -EFBIG;
    }
    if (length >= 0) {
        bdrv_set_total_bytes(bs, length);
        length = bs->total_bytes;
    }
    bdrv_dec_in_flight(bs);
    return length;
}

struct length_question {
    BlockDriverState *bs;
    int64_t bytes;
};

static int ask_length(void *opaque)
{
    struct length_question *q = opaque;

    q->bytes = bdrv_co_getlength(q->bs);
    return (int)MIN(q->bytes, 0);
}

int64_t bdrv_getlength(BlockDriverState *bs)
{
    struct length_question q = {.bs = bs};
    int ret = bdrv_run_co(bs->host, "length", ask_length, &q);

    return ret < 0 ? ret : q.bytes;
}

/* Growing over a longer backing file must not let its old data show. */
static int flags_over_backing(BlockDriverState *bs, uint32_t *flags, Error **errp)
{
    BlockDriverState *backing = bdrv_cow_bs(bs);
    if (backing == NULL) {
        return 0;
    }
    int64_t backing_length = bdrv_co_getlength(backing);
    if (backing_length < 0) {
        error_setg_errno(errp, (int)-backing_length, "Could not get backing file size");
        return (int)backing_length;
    }
    if (backing_length > bs->total_bytes) {
        *flags |= BDRV_REQ_ZERO_WRITE;
    }
    return 0;
}

static int driver_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                           uint32_t flags, Error **errp)
{
    if (bs->drv->bdrv_co_truncate != NULL) {
        if (flags & ~bs->supported_truncate_flags) {
            error_setg(errp, "Block driver does not support requested flags");
            return -ENOTSUP;
        }
        return bs->drv->bdrv_co_truncate(bs, length, exact, prealloc, flags, errp);
    }
    BdrvChild *filtered = bdrv_filter_child(bs);
    if (filtered != NULL) {
        return bdrv_co_truncate(filtered, length, exact, prealloc, flags, errp);
    }
    error_setg(errp, "Image format driver does not support resize");
    return -ENOTSUP;
}

/* What to believe when the driver has done it but cannot say how long the node is. One that had to be only at least
 * so long may be as long as before: cutting it would lose the bits of dirty bitmaps over what is still there. */
static int64_t assumed_length(const BlockDriverState *bs, int64_t asked, bool exact)
{
    return exact ? asked : MAX(asked, bs->total_bytes);
}

static int tracked_truncate(BdrvChild *child, BdrvTrackedRequest *req, int64_t length, bool exact,
                            enum bdrv_prealloc prealloc, uint32_t flags, Error **errp)
{
    BlockDriverState *bs = child->bs;
    if (req->bytes > 0) {
        bdrv_mark_request_serialising(req, 1);
    }
    if (bdrv_is_read_only(bs)) {
        error_setg(errp, "Image is read-only");
        return -EACCES;
    }
    SIM_ASSERT(!bdrv_is_inactive(bs));
    SIM_ASSERT(child->perm & BLK_PERM_RESIZE);
    bdrv_wait_serialising_requests(req);
    int ret = req->bytes > 0 ? flags_over_backing(bs, &flags, errp) : 0;
    if (ret == 0) {
        ret = driver_truncate(bs, length, exact, prealloc, flags, errp);
    }
    if (ret < 0) {
        return ret;
    }
    int64_t actual = bdrv_co_getlength(bs);
    if (actual < 0) {
        error_setg_errno(errp, (int)-actual, "Could not refresh total sector count");
    }
    /* The driver has done it: everybody must learn of a length, be it the one asked for. */
    bdrv_write_finish(req, 0, actual < 0 ? assumed_length(bs, length, exact) : actual, 0);
    return actual < 0 ? (int)actual : 0;
}

int bdrv_co_truncate(BdrvChild *child, int64_t length, bool exact, enum bdrv_prealloc prealloc, uint32_t flags,
                     Error **errp)
{
    BlockDriverState *bs = child->bs;
    if (bs->drv == NULL) {
        error_setg(errp, "No medium inserted");
        return -ENOMEDIUM;
    }
    if (length < 0) {
        error_setg(errp, "Image size cannot be negative");
        return -EINVAL;
    }
    if (length > BDRV_MAX_LENGTH) {
        error_setg(errp, "Required too big image size, it must be not greater than %lld",
                   (long long)BDRV_MAX_LENGTH);
        return -EIO;
    }
    int64_t grown = MAX(length - bs->total_bytes, 0);
    BdrvTrackedRequest req;
    bdrv_tracked_request_begin(&req, bs, length - grown, grown, BDRV_TRACKED_TRUNCATE);
    int ret = tracked_truncate(child, &req, length, exact, prealloc, flags, errp);
    bdrv_tracked_request_end(&req);
    return ret;
}

struct resize {
    BlockBackend *blk;
    int64_t length;
    Error **errp;
};

static int truncate_entry(void *opaque)
{
    struct resize *r = opaque;

    return blk_co_truncate(r->blk, r->length, false, PREALLOC_OFF, 0, r->errp);
}

/* The node that a truncate of bs comes to in the end, through what is as long as that. */
static BlockDriverState *resized_node(BlockDriverState *bs)
{
    const BdrvChild *child;

    while ((child = bdrv_primary_child(bs)) && (child->role & BDRV_CHILD_FILTERED)) {
        bs = child->bs;
    }
    return bs;
}

/* Through a backend of its own, so that RESIZE is asked for like any other permission. Whoever else stands on what
 * is cut has looked at the old length: drained as well, or their requests would go beyond the new one. */
static bool resize_drained(BlockDriverState *bs, BlockDriverState *resized, int64_t length, Error **errp)
{
    BlockBackend *blk = blk_new(bs->host, BLK_PERM_RESIZE, BLK_PERM_ALL);
    struct resize r = {blk, length, errp};
    bool ok = blk_insert_bs(blk, bs, errp) >= 0;

    if (ok) {
        bdrv_drained_begin(resized);
        ok = bdrv_run_co(bs->host, "resize", truncate_entry, &r) >= 0;
        bdrv_drained_end(resized);
    }
    blk_unref(blk);
    return ok;
}

/* A node written without RESIZE must end on its request alignment (1.11), or the padding of its last block would
 * grow it. That is looked at when permissions are taken; a resize must not undo it, nor for those that are as long
 * as what is below them. */
static bool length_is_aligned(const BlockDriverState *bs, int64_t length, Error **errp)
{
    const BdrvChild *edge;
    uint64_t perm, shared;
    bool ok = true;

    bdrv_cumulative_perms(bs, &perm, &shared);
    if ((perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED)) && !(perm & BLK_PERM_RESIZE) &&
        length % bs->bl.request_alignment != 0) {
        error_setg(errp, "The size of node '%s' must stay a multiple of %u while it is written",
                   bdrv_get_node_name(bs), bs->bl.request_alignment);
        return false;
    }
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        const BlockDriverState *parent = bdrv_child_parent_bs(edge);
        if (ok && parent && (edge->role & BDRV_CHILD_FILTERED)) {
            ok = length_is_aligned(parent, length, errp);
        }
    }
    return ok;
}

bool qmp_block_resize_node(BlockDriverState *bs, int64_t length, Error **errp)
{
    if (length < 0) {
        error_setg(errp, "Parameter 'size' expects a >0 size");
        return false;
    }
    BlockDriverState *resized = resized_node(bs);
    if (bdrv_op_is_blocked(bs, BLOCK_OP_RESIZE, errp) || !length_is_aligned(resized, length, errp)) {
        return false;
    }
    bdrv_ref(bs); /* draining may change the graph */
    bdrv_ref(resized);
    bool ok = resize_drained(bs, resized, length, errp);
    bdrv_unref(resized);
    bdrv_unref(bs);
    return ok;
}
