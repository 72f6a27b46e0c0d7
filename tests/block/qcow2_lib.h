/* For tests of qcow2: images of tests/vectors/qcow2 on fake disks, guest bytes through a backend of one's own. */
#ifndef QCOW2_LIB_H
#define QCOW2_LIB_H

#include <stdio.h>

#include "tests/block/blktest.h"

#include "block/qcow2_open.h"

#define QCOW2_VECTORS "tests/vectors/qcow2/"

/* malloc'ed */
SIM_UNUSED static uint8_t *read_vector(const char *name, size_t *bytes)
{
    char path[256];

    snprintf(path, sizeof(path), QCOW2_VECTORS "%s", name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        fail_msg("%s: cannot be read", path);
    }
    fseek(f, 0, SEEK_END);
    *bytes = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = calloc(1, *bytes + 1);
    assert_int_equal(fread(data, 1, *bytes, f), *bytes);
    fclose(f);
    return data;
}

SIM_UNUSED static void poke(struct world *w, struct disk *disk, int64_t offset, const void *data, size_t bytes)
{
    struct payload p;

    payload_init(w->sim, &p);
    payload_append_bytes(&p, data, (int64_t)bytes);
    disk_poke(disk, offset, &p);
    payload_clear(&p);
}

SIM_UNUSED static void peek(struct world *w, struct disk *disk, int64_t offset, void *data, size_t bytes)
{
    struct payload p;
    int64_t start = ROUND_DOWN(offset, (int64_t)512);
    int64_t end = ROUND_UP(offset + (int64_t)bytes, (int64_t)512);

    payload_init(w->sim, &p);
    disk_peek(disk, start, end - start, &p);
    payload_read_bytes(&p, offset - start, data, (int64_t)bytes);
    payload_clear(&p);
}

SIM_UNUSED static uint64_t peek_be(struct world *w, struct disk *disk, int64_t offset, unsigned bytes)
{
    uint8_t raw[8];
    uint64_t value = 0;

    peek(w, disk, offset, raw, bytes);
    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | raw[i];
    }
    return value;
}

SIM_UNUSED static void poke_be(struct world *w, struct disk *disk, int64_t offset, uint64_t value, unsigned bytes)
{
    uint8_t sector[512];
    int64_t start = ROUND_DOWN(offset, (int64_t)512);

    peek(w, disk, start, sector, sizeof(sector));
    for (unsigned i = bytes; i > 0; i--) {
        sector[offset - start + i - 1] = (uint8_t)value;
        value >>= 8;
    }
    poke(w, disk, start, sector, sizeof(sector));
}

/* All of the disk's content in one number. */
SIM_UNUSED static uint64_t content_of(struct world *w, struct disk *disk)
{
    struct payload p;

    payload_init(w->sim, &p);
    disk_peek(disk, 0, ROUND_UP(disk_length(disk), (int64_t)512), &p);
    uint64_t id = payload_content_id(&p);
    payload_clear(&p);
    return id;
}

SIM_UNUSED static struct disk *load_vector(struct world *w, const char *disk_name, const char *vector)
{
    size_t bytes;
    uint8_t *data = read_vector(vector, &bytes);
    size_t padded = ROUND_UP(bytes, (size_t)512);
    uint8_t *whole = calloc(1, padded);

    memcpy(whole, data, bytes);
    struct disk *disk = make_disk(w, disk_name, (int64_t)padded);
    poke(w, disk, 0, whole, padded);
    free(whole);
    free(data);
    return disk;
}

/* --- making ----------------------------------------------------------------------------------------------------
 */

struct create_call {
    struct host *host;
    struct qvalue *options;
    Error *err;
};

static int create_entry(void *opaque)
{
    struct create_call *call = opaque;

    return bdrv_create_check(call->options, &call->err) ? bdrv_co_create(call->host, call->options, &call->err)
                                                        : -EINVAL;
}

/* text: the options but driver and file, which is the disk. */
SIM_UNUSED static int try_create(struct world *w, const char *disk, const char *text, Error **errp)
{
    struct create_call call = {.host = w->host, .options = opts(text)};
    struct qvalue *file = qvalue_dict();

    qdict_put(file, "driver", qvalue_str("disk"));
    qdict_put(file, "disk", qvalue_str(disk));
    qdict_put(call.options, "driver", qvalue_str("qcow2"));
    qdict_put(call.options, "file", file);
    int ret = bdrv_run_co(w->host, "create", create_entry, &call);
    qvalue_free(call.options);
    error_propagate(errp, call.err);
    return ret;
}

SIM_UNUSED static struct disk *make_image(struct world *w, const char *disk, const char *text)
{
    struct disk *d = make_disk(w, disk, 0);
    Error *err = NULL;

    if (try_create(w, disk, text, &err) < 0) {
        fail_msg("%s: %s", text, error_get_pretty(err));
    }
    return d;
}

/* --- guest -----------------------------------------------------------------------------------------------------
 */

struct guest_call {
    BlockBackend *blk;
    int64_t offset;
    int64_t bytes;
    uint8_t byte;
    enum { GUEST_READ, GUEST_WRITE, GUEST_ZERO, GUEST_DISCARD, GUEST_FLUSH, GUEST_TRUNCATE } op;
    enum bdrv_prealloc prealloc;
    uint8_t *out;
    Error **errp;
};

static int guest_entry(void *opaque)
{
    struct guest_call *call = opaque;
    struct payload p;
    int ret;

    payload_init(blk_host(call->blk)->sim, &p);
    switch (call->op) {
    case GUEST_READ:
        ret = blk_co_preadv(call->blk, call->offset, call->bytes, &p, 0);
        if (ret >= 0) {
            payload_read_bytes(&p, 0, call->out, call->bytes);
        }
        break;
    case GUEST_WRITE:
        payload_append_fill(&p, call->byte, call->bytes);
        ret = blk_co_pwritev(call->blk, call->offset, call->bytes, &p, 0);
        break;
    case GUEST_ZERO:
        ret = blk_co_pwrite_zeroes(call->blk, call->offset, call->bytes, BDRV_REQ_MAY_UNMAP);
        break;
    case GUEST_DISCARD:
        ret = blk_co_pdiscard(call->blk, call->offset, call->bytes);
        break;
    case GUEST_FLUSH:
        ret = blk_co_flush(call->blk);
        break;
    default:
        ret = blk_co_truncate(call->blk, call->bytes, true, call->prealloc, 0, call->errp);
    }
    payload_clear(&p);
    return ret;
}

static int guest_do(BlockDriverState *bs, struct guest_call call)
{
    bool changes = call.op != GUEST_READ && call.op != GUEST_FLUSH;
    uint64_t perm = call.op == GUEST_TRUNCATE ? BLK_PERM_RESIZE
                    : changes                 ? BLK_PERM_WRITE
                                              : BLK_PERM_CONSISTENT_READ;
    Error *err = NULL;

    call.blk = blk_new(bs->host, perm, BLK_PERM_ALL);
    int ret = blk_insert_bs(call.blk, bs, &err);
    if (ret >= 0) {
        ret = bdrv_run_co(bs->host, "guest", guest_entry, &call);
    }
    error_free(err);
    blk_unref(call.blk);
    return ret < 0 ? ret : 0;
}

SIM_UNUSED static int guest_write(BlockDriverState *bs, uint8_t byte, int64_t offset, int64_t bytes)
{
    return guest_do(bs, (struct guest_call){.op = GUEST_WRITE, .offset = offset, .bytes = bytes, .byte = byte});
}

SIM_UNUSED static int guest_flush(BlockDriverState *bs)
{
    return guest_do(bs, (struct guest_call){.op = GUEST_FLUSH});
}

SIM_UNUSED static int guest_truncate(BlockDriverState *bs, int64_t bytes, enum bdrv_prealloc prealloc, Error **errp)
{
    return guest_do(bs,
                    (struct guest_call){.op = GUEST_TRUNCATE, .bytes = bytes, .prealloc = prealloc, .errp = errp});
}

/* Every byte of the range is `byte`. */
SIM_UNUSED static void expect_bytes(BlockDriverState *bs, uint8_t byte, int64_t offset, int64_t bytes)
{
    uint8_t *out = calloc(1, (size_t)bytes);

    assert_int_equal(
        guest_do(bs, (struct guest_call){.op = GUEST_READ, .offset = offset, .bytes = bytes, .out = out}), 0);
    for (int64_t i = 0; i < bytes; i++) {
        if (out[i] != byte) {
            fail_msg("byte %lld is 0x%02x, expected 0x%02x", (long long)(offset + i), out[i], byte);
        }
    }
    free(out);
}

/* --- checking --------------------------------------------------------------------------------------------------
 */

struct check_call {
    BlockDriverState *bs;
    BdrvCheckResult res;
};

static int check_entry(void *opaque)
{
    struct check_call *call = opaque;

    return bdrv_co_check(call->bs, &call->res, 0);
}

SIM_UNUSED static void expect_clean(BlockDriverState *bs)
{
    struct check_call call = {.bs = bs};

    assert_int_equal(guest_flush(bs), 0);
    assert_int_equal(bdrv_run_co(bs->host, "check", check_entry, &call), 0);
    assert_int_equal(call.res.check_errors, 0);
    assert_int_equal(call.res.corruptions, 0);
    assert_int_equal(call.res.leaks, 0);
}

#define Q_FILE(disk) "'driver':'qcow2','file':{'driver':'disk','disk':'" disk "'}"

#endif
