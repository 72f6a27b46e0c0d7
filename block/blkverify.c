/*
 * Driver `blkverify`: gives every read and write to two images and holds them against each other
 * (reference/block.md 7.2).
 *
 *     driver=blkverify raw=... test=...
 *
 * `raw` is the filtered child and is believed; `test` is what is being tried: its length is the node's, its flush
 * the node's. Where they differ, in data or in result, the original ends its process. Here the event
 * blkverify_mismatch tells of it and the request fails with EIO; a run with it fails as for a checker
 * (scenario/run_debug.c).
 *
 * Two requests that overlap have no order of their own, so the two images could take them in different ones and
 * differ by that alone. Therefore a request waits for overlapping ones unless both read.
 */
#include <errno.h>

#include "block/block_int.h"

/* A request in the hands of both images. */
struct verify_request {
    enum sim_op op;
    int64_t offset;
    int64_t bytes;
    CoQueue waiters;
    LIST_ENTRY(verify_request) list;
};

struct blkverify {
    BdrvChild *test;
    LIST_HEAD(, verify_request) requests;
};

static int blkverify_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    struct blkverify *s = bs->opaque;

    LIST_INIT(&s->requests);
    if (!bdrv_open_child(bs, options, "raw", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, false, errp)) {
        return -EINVAL;
    }
    s->test = bdrv_open_child(bs, options, "test", BDRV_CHILD_DATA, false, errp);
    if (!s->test) {
        return -EINVAL;
    }
    bs->supported_write_flags = BDRV_REQ_WRITE_UNCHANGED;
    return 0;
}

/* --- order --------------------------------------------------------------------------------------------------- */

static struct verify_request *find_overlap(struct blkverify *s, const struct verify_request *self)
{
    struct verify_request *r;

    LIST_FOREACH(r, &s->requests, list)
    {
        if ((r->op == SIM_OP_WRITE || self->op == SIM_OP_WRITE) &&
            ranges_overlap(r->offset, r->bytes, self->offset, self->bytes)) {
            return r;
        }
    }
    return NULL;
}

/* Whoever waits is not in the list yet: nobody waits for one that waits. */
static void request_begin(BlockDriverState *bs, struct verify_request *self)
{
    struct blkverify *s = bs->opaque;
    struct verify_request *other;

    co_queue_init(bs->host->sim, &self->waiters);
    while ((other = find_overlap(s, self)) != NULL) {
        SIM_MARK(bs->host->sim, blkverify_waited);
        co_queue_wait(&other->waiters);
    }
    LIST_INSERT_HEAD(&s->requests, self, list);
}

static void request_end(struct verify_request *self)
{
    LIST_REMOVE(self, list);
    co_queue_restart_all(&self->waiters);
}

/* --- one request, two images --------------------------------------------------------------------------------- */

/* The length is the test image's: a raw image that is shorter cannot take a write beyond its end unless the users
 * may grow it. */
static bool raw_can_take(const BlockDriverState *bs, int64_t end)
{
    return ROUND_UP(end, SIM_SECTOR_BYTES) <= bs->file->bs->total_bytes || (bs->file->perm & BLK_PERM_RESIZE);
}

/* The raw image's half, in a coroutine of its own. */
struct raw_half {
    BlockDriverState *bs;
    const struct verify_request *request;
    const struct payload *in;
    struct payload out;
    uint32_t flags;
    int ret;
    bool done;
    CoQueue waiter;
};

static void raw_half_entry(void *opaque)
{
    struct raw_half *half = opaque;
    const struct verify_request *r = half->request;

    if (r->op == SIM_OP_WRITE && !raw_can_take(half->bs, r->offset + r->bytes)) {
        half->ret = -EIO;
    } else if (r->op == SIM_OP_WRITE) {
        half->ret = bdrv_co_pwritev(half->bs->file, r->offset, r->bytes, half->in, half->flags);
    } else {
        half->ret = bdrv_co_preadv(half->bs->file, r->offset, r->bytes, &half->out, half->flags);
    }
    half->done = true;
    co_queue_next(&half->waiter);
}

static void mismatch(BlockDriverState *bs, const struct verify_request *r, int64_t at, int raw_ret, int test_ret)
{
    SIM_EMIT(bs->host->sim, bs->host, blkverify_mismatch, bs, SIM_P(bs->name), r->op, (uint64_t)r->offset,
             (uint64_t)r->bytes, (uint64_t)at, (uint64_t)(int64_t)raw_ret, (uint64_t)(int64_t)test_ret);
}

/* Both images are asked at the same time. `out` or `in`, as r->op says; out takes what the test image gives. */
static int ask_both(BlockDriverState *bs, struct verify_request *r, struct payload *out, const struct payload *in,
                    uint32_t flags)
{
    struct blkverify *s = bs->opaque;
    struct sim *sim = bs->host->sim;
    struct raw_half raw = {.bs = bs, .request = r, .in = in, .flags = flags};
    int64_t before = out ? out->size_bytes : 0;

    request_begin(bs, r);
    payload_init(sim, &raw.out);
    co_queue_init(sim, &raw.waiter);
    coroutine_start(coroutine_create(sim, bs->host, "blkverify raw", raw_half_entry, &raw));
    int ret = r->op == SIM_OP_WRITE ? bdrv_co_pwritev(s->test, r->offset, r->bytes, in, flags)
                                    : bdrv_co_preadv(s->test, r->offset, r->bytes, out, flags);
    if (!raw.done) {
        co_queue_wait(&raw.waiter);
    }
    SIM_ASSERT(raw.done);
    if (raw.ret != ret) {
        mismatch(bs, r, -1, raw.ret, ret);
        ret = -EIO;
    } else if (ret == 0 && r->op == SIM_OP_READ) {
        struct payload test;
        payload_init(sim, &test);
        payload_slice(&test, out, before, r->bytes);
        int64_t at = payload_first_difference(&raw.out, &test, r->bytes);
        payload_clear(&test);
        if (at >= 0) {
            mismatch(bs, r, r->offset + at, raw.ret, ret);
            ret = -EIO;
        }
    }
    payload_clear(&raw.out);
    request_end(r);
    return ret;
}

static int blkverify_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out,
                            uint32_t flags)
{
    struct verify_request r = {.op = SIM_OP_READ, .offset = offset, .bytes = bytes};

    return ask_both(bs, &r, out, NULL, flags);
}

static int blkverify_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                             uint32_t flags)
{
    struct verify_request r = {.op = SIM_OP_WRITE, .offset = offset, .bytes = bytes};

    return ask_both(bs, &r, NULL, in, flags);
}

/* The raw image is only there to compare with: whether it is on disk matters to nobody. */
static int blkverify_flush(BlockDriverState *bs)
{
    const struct blkverify *s = bs->opaque;

    return bdrv_co_flush(s->test->bs);
}

/* The test image's is what counts (7.2). */
static bool blkverify_has_own_length(const BlockDriverState *bs)
{
    return true;
}

static int64_t blkverify_getlength(BlockDriverState *bs)
{
    const struct blkverify *s = bs->opaque;

    return bdrv_co_getlength(s->test->bs);
}

/* A filter's resize would reach the raw image alone, and the length is the other's. */
static int blkverify_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                              uint32_t flags, Error **errp)
{
    error_setg(errp, "blkverify does not support resize");
    return -ENOTSUP;
}

/* Nobody may change the length of one of the two: storage is protected anyway, a filtered child is not. */
static void blkverify_child_perm(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm,
                                 uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    bdrv_default_perms(bs, child, role, perm, shared, nperm, nshared);
    *nshared &= ~(uint64_t)BLK_PERM_RESIZE;
}

static const BdrvOption blkverify_options[] = {
    {"raw", BDRV_OPT_NODE, true, "node that is believed", NULL},
    {"test", BDRV_OPT_NODE, true, "node that is held against it", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

extern const BlockDriver bdrv_blkverify;
const BlockDriver bdrv_blkverify = {
    .format_name = "blkverify",
    .doc = "gives every request to two nodes and fails where they differ",
    .instance_size = sizeof(struct blkverify),
    .options = blkverify_options,
    .is_filter = true,
    .bdrv_has_own_length = blkverify_has_own_length,
    .bdrv_open = blkverify_open,
    .bdrv_co_preadv = blkverify_preadv,
    .bdrv_co_pwritev = blkverify_pwritev,
    .bdrv_co_flush = blkverify_flush,
    .bdrv_co_truncate = blkverify_truncate,
    .bdrv_co_getlength = blkverify_getlength,
    .bdrv_child_perm = blkverify_child_perm,
};
