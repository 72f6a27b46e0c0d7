/*
 * `img`: a small image format with backing files, for tests of what commands and drivers' hooks do to images. It is
 * among the drivers of blockdev-add in the tests that include this: the table of drivers is defined here instead of
 * in block/drivers.c.
 *
 * On its `file`: one header block (struct img_header), data at its own offset plus IMG_DATA. Units of IMG_UNIT are
 * allocated as a whole; what is not comes from the backing node.
 */
#ifndef TESTS_BLOCK_IMGFMT_H
#define TESTS_BLOCK_IMGFMT_H

#include "tests/testlib.h"

#include <errno.h>

#include "block/block_int.h"

#define IMG_UNIT ((int64_t)(64 * KiB))
#define IMG_DATA IMG_UNIT
#define IMG_UNITS 1024

struct img_header {
    char magic[8];
    int64_t size_bytes;
    char backing[128];
    char format[32];
    uint8_t allocated[IMG_UNITS];
    uint8_t pad[4096 - 8 - 8 - 128 - 32 - IMG_UNITS];
};

struct img_state {
    struct img_header h;
};

/* What the next hooks shall do. */
static struct {
    int change_ret; /* of change_backing_file */
    int create_ret;
    int flush_ret;
    unsigned changes;          /* calls of change_backing_file */
    bool was_writable;         /* at the last of them */
    unsigned long long closed; /* how many closed */
} img;

static int img_write_header(BlockDriverState *bs)
{
    struct img_state *s = bs->opaque;
    struct payload p;
    payload_init(bs->host->sim, &p);
    payload_append_bytes(&p, &s->h, sizeof(s->h));
    int ret = bdrv_co_pwritev(bs->file, 0, sizeof(s->h), &p, 0);
    payload_clear(&p);
    return ret;
}

static int img_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    struct img_state *s = bs->opaque;
    struct payload p;
    uint32_t role = BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_PRIMARY;
    if (!bdrv_open_child(bs, options, "file", role, false, errp)) {
        return -EINVAL;
    }
    payload_init(bs->host->sim, &p);
    int ret = bdrv_co_preadv(bs->file, 0, sizeof(s->h), &p, 0);
    if (ret == 0) {
        payload_read_bytes(&p, 0, &s->h, sizeof(s->h));
    }
    payload_clear(&p);
    if (ret < 0) {
        return ret;
    }
    if (memcmp(s->h.magic, "BLKIMG1", 8) != 0) {
        error_setg(errp, "Image is not in img format");
        return -EINVAL;
    }
    if (s->h.backing[0]) {
        bdrv_set_backing_strings(bs, s->h.backing, s->h.format[0] ? s->h.format : NULL);
    }
    return 0;
}

static int img_probe(const uint8_t *head, size_t bytes)
{
    return bytes >= 8 && memcmp(head, "BLKIMG1", 8) == 0 ? 100 : 0;
}

static void img_close(BlockDriverState *bs)
{
    img.closed++;
}

/* One unit or part of one, as it reads. */
static int img_read_unit(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    struct img_state *s = bs->opaque;
    if (s->h.allocated[offset / IMG_UNIT]) {
        return bdrv_co_preadv(bs->file, IMG_DATA + offset, bytes, out, 0);
    }
    int64_t there = bs->backing ? bdrv_getlength_cached(bs->backing->bs) - offset : 0;
    int64_t below = MAX(MIN(there, bytes), 0);
    int ret = below > 0 ? bdrv_co_preadv(bs->backing, offset, below, out, 0) : 0;
    if (ret == 0) {
        payload_append_zero(out, bytes - below);
    }
    return ret;
}

static int img_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    int ret = 0;
    while (bytes > 0 && ret == 0) {
        int64_t num = MIN(bytes, IMG_UNIT - offset % IMG_UNIT);
        ret = img_read_unit(bs, offset, num, out);
        offset += num;
        bytes -= num;
    }
    return ret;
}

static int img_allocate(BlockDriverState *bs, int64_t unit)
{
    struct img_state *s = bs->opaque;
    struct payload p;
    payload_init(bs->host->sim, &p);
    int ret = img_read_unit(bs, unit * IMG_UNIT, IMG_UNIT, &p);
    if (ret == 0) {
        ret = bdrv_co_pwritev(bs->file, IMG_DATA + unit * IMG_UNIT, IMG_UNIT, &p, 0);
    }
    payload_clear(&p);
    s->h.allocated[unit] = ret == 0;
    return ret;
}

static int img_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                       uint32_t flags)
{
    struct img_state *s = bs->opaque;
    bool news = false;
    int ret = 0;
    for (int64_t unit = offset / IMG_UNIT; unit * IMG_UNIT < offset + bytes && ret == 0; unit++) {
        if (!s->h.allocated[unit]) {
            ret = img_allocate(bs, unit);
            news = true;
        }
    }
    if (ret == 0 && news) {
        ret = img_write_header(bs);
    }
    return ret == 0 ? bdrv_co_pwritev(bs->file, IMG_DATA + offset, bytes, in, 0) : ret;
}

static int img_flush_to_os(BlockDriverState *bs)
{
    return img.flush_ret;
}

static int64_t img_getlength(BlockDriverState *bs)
{
    return ((struct img_state *)bs->opaque)->h.size_bytes;
}

static int img_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                        uint32_t flags, Error **errp)
{
    ((struct img_state *)bs->opaque)->h.size_bytes = length;
    return img_write_header(bs);
}

static int img_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                            int64_t *map, BlockDriverState **file)
{
    struct img_state *s = bs->opaque;
    *pnum = MIN(bytes, IMG_UNIT - offset % IMG_UNIT);
    *map = IMG_DATA + offset;
    *file = bs->file->bs;
    return s->h.allocated[offset / IMG_UNIT] ? BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID : 0;
}

static void img_name(char *to, size_t room, const char *text)
{
    memset(to, 0, room);
    snprintf(to, room, "%s", text ? text : "");
}

static int img_change_backing_file(BlockDriverState *bs, const char *filename, const char *format)
{
    struct img_state *s = bs->opaque;
    img.changes++;
    img.was_writable = bdrv_is_writable(bs);
    if (img.change_ret < 0) {
        return img.change_ret;
    }
    img_name(s->h.backing, sizeof(s->h.backing), filename);
    img_name(s->h.format, sizeof(s->h.format), format);
    return img_write_header(bs);
}

static int img_create(struct host *host, const struct qvalue *options, Error **errp)
{
    struct img_header h = {.magic = "BLKIMG1"};
    const char *backing, *format;
    struct payload p;
    if (!qdict_get_size(options, "size", &h.size_bytes, 0, errp) ||
        !qdict_get_str(options, "backing-file", &backing, NULL, errp) ||
        !qdict_get_str(options, "backing-fmt", &format, NULL, errp)) {
        return -EINVAL;
    }
    if (img.create_ret < 0) {
        return img.create_ret;
    }
    img_name(h.backing, sizeof(h.backing), backing);
    img_name(h.format, sizeof(h.format), format);
    BlockBackend *blk = bdrv_create_backend(host, options, errp);
    if (!blk) {
        return -EINVAL;
    }
    payload_init(host->sim, &p);
    payload_append_bytes(&p, &h, sizeof(h));
    int ret = blk_co_pwritev(blk, 0, sizeof(h), &p, 0);
    payload_clear(&p);
    blk_unref(blk);
    return ret;
}

static const BdrvOption img_options[] = {
    {"file", BDRV_OPT_NODE, true, "node that holds the image", NULL},
    {"backing", BDRV_OPT_NODE, false, "backing node", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

static const BdrvOption img_create_options[] = {
    {"file", BDRV_OPT_NODE, true, "node that is to hold the image", NULL},
    {"size", BDRV_OPT_SIZE, true, "bytes", NULL},
    {"backing-file", BDRV_OPT_STR, false, "file below", NULL},
    {"backing-fmt", BDRV_OPT_STR, false, "its format", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

static int img_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    return bdrv_reopen_prepare_nothing(state, errp);
}

static const BlockDriver img_driver = {
    .format_name = "img",
    .doc = "test",
    .instance_size = sizeof(struct img_state),
    .options = img_options,
    .supports_backing = true,
    .bdrv_open = img_open,
    .bdrv_probe = img_probe,
    .bdrv_close = img_close,
    .bdrv_co_preadv = img_preadv,
    .bdrv_co_pwritev = img_pwritev,
    .bdrv_co_flush_to_os = img_flush_to_os,
    .bdrv_co_truncate = img_truncate,
    .bdrv_co_getlength = img_getlength,
    .bdrv_co_block_status = img_block_status,
    .bdrv_reopen_prepare = img_reopen_prepare,
    .create_options = img_create_options,
    .bdrv_co_create = img_create,
    .bdrv_co_change_backing_file = img_change_backing_file,
};

/* --- the table of drivers --------------------------------------------------------------------------------- */

extern const BlockDriver bdrv_disk, bdrv_null_co, bdrv_raw, bdrv_copy_on_read;

const BlockDriver *bdrv_driver_at(size_t index)
{
    static const BlockDriver *const drivers[] = {&bdrv_copy_on_read, &bdrv_disk, &img_driver, &bdrv_null_co,
                                                 &bdrv_raw};
    return index < ARRAY_SIZE(drivers) ? drivers[index] : NULL;
}

const BlockDriver *bdrv_find_driver(const char *name)
{
    const BlockDriver *drv;
    for (size_t i = 0; (drv = bdrv_driver_at(i)); i++) {
        if (strcmp(drv->format_name, name) == 0) {
            return drv;
        }
    }
    return NULL;
}

/* --- looking into files ----------------------------------------------------------------------------------- */

/* "BACKING FORMAT" as the header on the disk says; the caller frees it. */
static SIM_UNUSED char *img_header_text(struct sim *sim, const char *disk)
{
    struct img_header h;
    struct payload p;
    char *text = NULL;
    payload_init(sim, &p);
    disk_peek(disk_find(sim, disk), 0, sizeof(h), &p);
    payload_read_bytes(&p, 0, &h, sizeof(h));
    payload_clear(&p);
    assert_memory_equal(h.magic, "BLKIMG1", 8);
    assert_true(asprintf(&text, "%s %s", h.backing, h.format) > 0);
    return text;
}

static SIM_UNUSED void expect_header(struct sim *sim, const char *disk, const char *expected)
{
    char *text = img_header_text(sim, disk);
    assert_string_equal(text, expected);
    free(text);
}

#endif
