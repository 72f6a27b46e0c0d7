/*
 * Driver `copy-before-write`: what a guest is about to overwrite is saved first (reference/jobs.md 5.5).
 *
 *     driver=copy-before-write file=... target=... [bitmap.node= bitmap.name=] [on-cbw-error=] [cbw-timeout=]
 *                              [min-cluster-size=]
 *
 *     write, zero write, discard: copy the clusters that are still dirty -> wait for readers of old content -> go
 * on
 *
 * A write that leaves the content as it is saves nothing. Flushes are the guest's, and go to the source only.
 */
#include <errno.h>

#include "block/cbw_int.h"
#include "block/dirty-bitmap_int.h"

/* --- requests --------------------------------------------------------------------------------------------------
 */

void cbw_wait_frozen_reads(const BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    struct cbw *s = cbw_of(bs);
    struct cbw_frozen_read *read = TAILQ_FIRST(&s->frozen_reads);

    while (read) {
        if (ranges_overlap(read->offset, read->bytes, offset, bytes)) {
            SIM_MARK(bs->host->sim, cbw_frozen_wait);
            co_queue_wait(&read->waiters);
            read = TAILQ_FIRST(&s->frozen_reads); /* the list is another one now */
        } else {
            read = TAILQ_NEXT(read, list);
        }
    }
}

/* The copy has ended, perhaps long after the write that wanted it: until then the node is not quiet. */
static void copy_ended(void *opaque)
{
    bdrv_dec_in_flight(opaque);
}

static void break_snapshot(BlockDriverState *bs, int ret)
{
    struct cbw *s = cbw_of(bs);

    if (s->broken == 0) {
        s->broken = ret;
        SIM_MARK(bs->host->sim, cbw_broken);
        SIM_EMIT(bs->host->sim, bs->host, snapshot_broken, bs, SIM_P(bs->name), (uint64_t)(int64_t)ret);
    }
}

/* 0: the guest may change the range now. */
static int save(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    struct cbw *s = cbw_of(bs);
    int64_t cluster = block_copy_cluster_size(s->copy);
    int64_t start = ROUND_DOWN(offset, cluster);
    int64_t end = ROUND_UP(offset + bytes, cluster);
    int ret = 0;

    if (s->broken == 0) {
        bdrv_inc_in_flight(bs);
        ret = block_copy(s->copy, start, end - start, s->timeout_ns, copy_ended, bs);
    }
    if (ret < 0 && s->on_error == ON_CBW_ERROR_BREAK_GUEST_WRITE) {
        SIM_MARK(bs->host->sim, cbw_failed_write);
        return ret;
    }
    if (ret < 0) {
        break_snapshot(bs, ret);
    }
    /* Also when it is broken: who began to read before that gets what was there. */
    cbw_wait_frozen_reads(bs, start, end - start);
    return 0;
}

static int cbw_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    return bdrv_co_preadv(bs->file, offset, bytes, out, flags);
}

static int cbw_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                       uint32_t flags)
{
    int ret = flags & BDRV_REQ_WRITE_UNCHANGED ? 0 : save(bs, offset, bytes);

    return ret < 0 ? ret : bdrv_co_pwritev(bs->file, offset, bytes, in, flags);
}

static int cbw_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    int ret = flags & BDRV_REQ_WRITE_UNCHANGED ? 0 : save(bs, offset, bytes);

    return ret < 0 ? ret : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int cbw_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int ret = save(bs, offset, bytes);

    return ret < 0 ? ret : bdrv_co_pdiscard(bs->file, offset, bytes);
}

/* What is saved need not be stable for the guest's sake. */
static int cbw_flush(BlockDriverState *bs)
{
    return bs->file ? bdrv_co_flush(bs->file->bs) : 0;
}

/* Growing changes nothing that is old. */
static int cbw_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                        uint32_t flags, Error **errp)
{
    if (length < block_copy_length(cbw_of(bs)->copy)) {
        error_setg(errp, "Node '%s' cannot be shortened: old content behind the new end would be lost",
                   bdrv_get_node_name(bs));
        return -ENOTSUP;
    }
    return bdrv_co_truncate(bs->file, length, exact, prealloc, flags, errp);
}

/* --- life --------------------------------------------------------------------------------------------------------
 */

static void area_copied(void *opaque, int64_t offset, int64_t bytes)
{
    BlockDriverState *bs = opaque;
    struct cbw *s = cbw_of(bs);

    bdrv_set_dirty_bitmap(s->copied, offset, bytes);
    if (s->discard_source) {
        cbw_wait_frozen_reads(bs, offset, bytes);
    }
}

int cbw_start(BlockDriverState *bs, const struct block_copy_args *args, Error **errp)
{
    struct cbw *s = cbw_of(bs);

    TAILQ_INIT(&s->frozen_reads);
    if (bs->file->bs->total_bytes != s->target->bs->total_bytes) {
        error_setg(errp, "Source and target image have different sizes");
        return -EINVAL;
    }
    s->copy = block_copy_state_new(bs->file, s->target, args, errp);
    if (!s->copy) {
        return -EINVAL;
    }
    block_copy_set_copied(s->copy, area_copied, bs);
    s->copied =
        bdrv_dirty_bitmap_new(bs, block_copy_length(s->copy), (uint32_t)block_copy_cluster_size(s->copy), NULL);
    bdrv_disable_dirty_bitmap(s->copied);
    return 0;
}

void cbw_stop(BlockDriverState *bs)
{
    struct cbw *s = cbw_of(bs);

    if (s->copy) {
        SIM_ASSERT(TAILQ_EMPTY(&s->frozen_reads));
        bdrv_release_dirty_bitmap(s->copied);
        block_copy_state_free(s->copy);
        s->copy = NULL;
        s->copied = NULL;
    }
}

static const char *const on_error_words[] = {"break-guest-write", "break-snapshot", NULL};
static const char *const no_words[] = {NULL};
static const BdrvOption bitmap_members[] = {
    {"node", BDRV_OPT_STR, true, "node or device that has the bitmap", NULL},
    {"name", BDRV_OPT_STR, true, "name of the bitmap", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};
static const BdrvWordOrDict bitmap_values = {no_words, bitmap_members};

static const BdrvOption cbw_options[] = {
    {"file", BDRV_OPT_NODE, true, "node whose old content is saved", NULL},
    {"target", BDRV_OPT_NODE, true, "node that it is saved to, of the same length", NULL},
    {"bitmap", BDRV_OPT_WORD_OR_DICT, false, "dirty bitmap, only its areas are saved, default: everything",
     &bitmap_values},
    {"on-cbw-error", BDRV_OPT_ENUM, false, "what gives way when a save fails, default break-guest-write",
     on_error_words},
    {"cbw-timeout", BDRV_OPT_INT, false, "seconds that a save may take, 0: any time, default 0", NULL},
    {"min-cluster-size", BDRV_OPT_SIZE, false, "bytes, a power of two, default 0: no wish", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

/* NULL with errp. */
static const BdrvDirtyBitmap *find_bitmap(const BlockDriverState *bs, const struct qvalue *where, Error **errp)
{
    const char *node, *name;

    if (!qdict_get_str(where, "node", &node, NULL, errp) || !qdict_get_str(where, "name", &name, NULL, errp)) {
        return NULL;
    }
    BlockDriverState *owner = bdrv_lookup_bs(bs->host, node, errp);
    BdrvDirtyBitmap *bitmap = owner ? bdrv_find_dirty_bitmap(owner, name) : NULL;
    if (owner && !bitmap) {
        error_setg(errp, "Dirty bitmap '%s' not found", name);
    }
    if (bitmap && bdrv_dirty_bitmap_check(bitmap, BDRV_BITMAP_ALLOW_RO, errp) < 0) {
        return NULL;
    }
    return bitmap;
}

static int read_options(struct cbw *s, const struct qvalue *options, struct block_copy_args *args, Error **errp)
{
    const char *on_error;
    int64_t timeout_s;

    if (!qdict_get_str(options, "on-cbw-error", &on_error, "break-guest-write", errp) ||
        !qdict_get_int(options, "cbw-timeout", &timeout_s, 0, errp) ||
        !qdict_get_size(options, "min-cluster-size", &args->min_cluster_size, 0, errp)) {
        return -EINVAL;
    }
    if (timeout_s < 0 || timeout_s > UINT32_MAX) {
        error_setg(errp, "Parameter 'cbw-timeout' expects a number of seconds up to 4294967295");
        return -EINVAL;
    }
    s->on_error = str_is(on_error, on_error_words[ON_CBW_ERROR_BREAK_SNAPSHOT]) ? ON_CBW_ERROR_BREAK_SNAPSHOT
                                                                                : ON_CBW_ERROR_BREAK_GUEST_WRITE;
    s->timeout_ns = timeout_s * NS_PER_S;
    return 0;
}

static int cbw_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    struct cbw *s = cbw_of(bs);
    struct block_copy_args args = {0};

    if (read_options(s, options, &args, errp) < 0 ||
        !bdrv_open_child(bs, options, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, false, errp)) {
        return -EINVAL;
    }
    s->target = bdrv_open_child(bs, options, "target", BDRV_CHILD_DATA, false, errp);
    if (!s->target) {
        return -EINVAL;
    }
    bdrv_set_total_bytes(bs, bs->file->bs->total_bytes); /* the engine's bitmaps are as long as the node */
    /* Opening the children may have taken time: only now is the bitmap the one that is meant. */
    const struct qvalue *where = qdict_get(options, "bitmap");
    if (where) {
        args.bitmap = find_bitmap(bs, where, errp);
        if (!args.bitmap) {
            return -EINVAL;
        }
    }
    return cbw_start(bs, &args, errp);
}

/* --- what the node is --------------------------------------------------------------------------------------------
 */

/* Nobody may change the source behind the filter's back as soon as somebody is there whom it would concern; its
 * length is that of the engine in any case. */
static void cbw_child_perm(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm, uint64_t shared,
                           uint64_t *nperm, uint64_t *nshared)
{
    const struct cbw *s = bs->opaque;

    if (!(role & BDRV_CHILD_FILTERED)) {
        /* Also when the node is about to be given up: whoever owns the source then would save nothing, so it cannot
         * be given up as long as the filter is there (bugs.md N03). */
        *nperm = BLK_PERM_WRITE;
        *nshared = BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE;
        return;
    }
    bdrv_default_perms(bs, child, role, perm, shared, nperm, nshared);
    *nshared &= ~(uint64_t)BLK_PERM_RESIZE;
    if (!LIST_EMPTY(&bs->parents) && !bdrv_is_inactive(bs)) {
        *nperm |= BLK_PERM_CONSISTENT_READ | (s->discard_source ? BLK_PERM_WRITE : 0);
        *nshared &= ~(uint64_t)BLK_PERM_WRITE;
    }
}

const BlockDriver bdrv_copy_before_write = {
    .format_name = "copy-before-write",
    .doc = "filter that saves old content before it is overwritten",
    .instance_size = sizeof(struct cbw),
    .options = cbw_options,
    .is_filter = true,
    .bdrv_open = cbw_open,
    .bdrv_close = cbw_stop,
    .bdrv_co_preadv = cbw_preadv,
    .bdrv_co_pwritev = cbw_pwritev,
    .bdrv_co_pwrite_zeroes = cbw_pwrite_zeroes,
    .bdrv_co_pdiscard = cbw_pdiscard,
    .bdrv_co_flush = cbw_flush,
    .bdrv_co_truncate = cbw_truncate,
    .bdrv_refresh_limits = bdrv_pass_supported_flags,
    .bdrv_child_perm = cbw_child_perm,
    .bdrv_co_preadv_snapshot = cbw_co_preadv_snapshot,
    .bdrv_co_snapshot_block_status = cbw_co_snapshot_block_status,
    .bdrv_co_pdiscard_snapshot = cbw_co_pdiscard_snapshot,
    .bdrv_peek_snapshot = cbw_peek_snapshot,
    .bdrv_peek_snapshot_status = cbw_peek_snapshot_status,
};

/* --- const views
 * -------------------------------------------------------------------------------------------------- */

bool bdrv_is_cbw(const BlockDriverState *bs)
{
    return bs->drv == &bdrv_copy_before_write;
}

const BlockCopyState *bdrv_cbw_copy_state(const BlockDriverState *bs)
{
    return cbw_of(bs)->copy;
}

BlockDriverState *bdrv_cbw_target(const BlockDriverState *bs)
{
    return cbw_of(bs)->target->bs;
}

bool bdrv_cbw_snapshot_broken(const BlockDriverState *bs)
{
    return cbw_of(bs)->broken != 0;
}

bool bdrv_cbw_discards_source(const BlockDriverState *bs)
{
    return cbw_of(bs)->discard_source;
}

int bdrv_cbw_peek(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    SIM_ASSERT(bdrv_is_cbw(bs));
    return cbw_peek_snapshot(bs, offset, bytes, out);
}

bool bdrv_cbw_peek_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum)
{
    SIM_ASSERT(bdrv_is_cbw(bs));
    return cbw_peek_snapshot_status(bs, offset, bytes, pnum);
}
