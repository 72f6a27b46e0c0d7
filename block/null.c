/*
 * Driver `null-co`: takes every write and forgets it (7.4).
 *
 *     driver=null-co [size=1G] [latency-ns=0] [read-zeroes=off]
 *
 * Without read-zeroes a read leaves the caller's buffer as it was; here nobody has a buffer beforehand, so what
 * comes back is a fixed pattern that is no zero. Zero writes come as data, discards are not supported.
 */
#include <errno.h>

#include "block/block_int.h"

#define NULL_STALE_BYTE 0xdb

struct null_state {
    int64_t size;
    int64_t latency_ns;
    bool read_zeroes;
};

static int null_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    struct null_state *s = bs->opaque;

    if (!qdict_get_size(options, "size", &s->size, GiB, errp) ||
        !qdict_get_int(options, "latency-ns", &s->latency_ns, 0, errp) ||
        !qdict_get_bool(options, "read-zeroes", &s->read_zeroes, false, errp)) {
        return -EINVAL;
    }
    if (s->latency_ns < 0) {
        error_setg(errp, "latency-ns is invalid");
        return -EINVAL;
    }
    if (s->size > BDRV_MAX_LENGTH) {
        error_setg(errp, "Parameter 'size' is too large");
        return -EFBIG;
    }
    bs->supported_write_flags = BDRV_REQ_FUA;
    return 0;
}

static void null_wait(const BlockDriverState *bs)
{
    const struct null_state *s = bs->opaque;

    if (s->latency_ns > 0) {
        co_sleep_ns(bs->host->sim, s->latency_ns);
    }
}

static void append_content(const BlockDriverState *bs, int64_t bytes, struct payload *out)
{
    if (((const struct null_state *)bs->opaque)->read_zeroes) {
        payload_append_zero(out, bytes);
    } else {
        payload_append_fill(out, NULL_STALE_BYTE, bytes);
    }
}

static int null_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    null_wait(bs);
    append_content(bs, bytes, out);
    return 0;
}

static int null_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                        uint32_t flags)
{
    null_wait(bs);
    return 0;
}

static int null_flush(BlockDriverState *bs)
{
    null_wait(bs);
    return 0;
}

static int64_t null_getlength(BlockDriverState *bs)
{
    return ((const struct null_state *)bs->opaque)->size;
}

static int null_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                             int64_t *map, BlockDriverState **file)
{
    const struct null_state *s = bs->opaque;

    *pnum = bytes;
    *map = offset;
    *file = bs;
    return BDRV_BLOCK_OFFSET_VALID | (s->read_zeroes ? BDRV_BLOCK_ZERO : 0);
}

static int null_peek(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    append_content(bs, bytes, out);
    return 0;
}

static bool null_peek_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum)
{
    *pnum = bytes;
    return !((const struct null_state *)bs->opaque)->read_zeroes;
}

static const char *null_filename(const BlockDriverState *bs)
{
    return "null-co://";
}

static const BdrvOption null_options[] = {
    {"size", BDRV_OPT_SIZE, false, "length in bytes, default 1G", NULL},
    {"latency-ns", BDRV_OPT_INT, false, "time of each request in nanoseconds, default 0", NULL},
    {"read-zeroes", BDRV_OPT_BOOL, false, "reads give zeroes, default off: whatever", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

extern const BlockDriver bdrv_null_co;
const BlockDriver bdrv_null_co = {
    .format_name = "null-co",
    .doc = "forgets writes, answers at once",
    .instance_size = sizeof(struct null_state),
    .options = null_options,
    .is_protocol = true,
    .bdrv_open = null_open,
    .bdrv_reopen_prepare = bdrv_reopen_prepare_nothing,
    .bdrv_co_preadv = null_preadv,
    .bdrv_co_pwritev = null_pwritev,
    .bdrv_co_flush = null_flush,
    .bdrv_co_getlength = null_getlength,
    .bdrv_co_block_status = null_block_status,
    .bdrv_peek = null_peek,
    .bdrv_peek_status = null_peek_status,
    .bdrv_filename = null_filename,
};
