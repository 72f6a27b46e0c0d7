/*
 * qcow2 images with stored bitmaps, in a world of blktest.h: node "n" over disk "d", with a guest on it, and what
 * the image's bytes say.
 */
#ifndef TESTS_BLOCK_QCOW2_BITMAP_LIB_H
#define TESTS_BLOCK_QCOW2_BITMAP_LIB_H

#include <endian.h>
#include <inttypes.h>

#include "tests/block/blktest.h"

#define VECTORS "tests/vectors/qcow2/"
#define IN_USE 1u
#define AUTO 2u

struct image {
    struct world *w;
    struct disk *disk;
    BlockDriverState *bs; /* NULL: closed */
    BlockBackend *blk;
};

/* --- anything in a coroutine ------------------------------------------------------------------------------- */

struct call {
    struct image *i;
    char op;
    int64_t offset;
    int64_t bytes;
    int fill;
    const char *text;
    Error *err;
    BdrvDirtyBitmap *bitmap;
    bool persistent;
};

static SIM_UNUSED int create_entry(void *opaque)
{
    struct call *c = opaque;
    struct qvalue *options = opts(c->text);
    int ret = bdrv_create_check(options, &c->err) ? bdrv_co_create(c->i->w->host, options, &c->err) : -EINVAL;
    qvalue_free(options);
    return ret;
}

static SIM_UNUSED int io_entry(void *opaque)
{
    struct call *c = opaque;
    BlockBackend *blk = c->i->blk;
    struct payload data;
    int ret = 0;

    payload_init(c->i->w->sim, &data);
    switch (c->op) {
    case 'W':
        payload_append_fill(&data, (uint8_t)c->fill, c->bytes);
        ret = blk_co_pwritev(blk, c->offset, c->bytes, &data, 0);
        break;
    case 'Z':
        ret = blk_co_pwrite_zeroes(blk, c->offset, c->bytes, BDRV_REQ_MAY_UNMAP);
        break;
    case 'D':
        ret = blk_co_pdiscard(blk, c->offset, c->bytes);
        break;
    case 'F':
        ret = blk_co_flush(blk);
        break;
    case 'R':
        ret = blk_co_truncate(blk, c->offset, true, PREALLOC_OFF, 0, &c->err);
        break;
    default:
        fail_msg("unknown operation %c", c->op);
    }
    payload_clear(&data);
    return ret;
}

static SIM_UNUSED int add_entry(void *opaque)
{
    struct call *c = opaque;
    BlockDriverState *bs = c->i->bs;
    if (c->persistent && !bdrv_co_can_store_new_dirty_bitmap(bs, c->text, (uint32_t)c->bytes, &c->err)) {
        return -EINVAL;
    }
    c->bitmap = bdrv_create_dirty_bitmap(bs, (uint32_t)c->bytes, c->text, &c->err);
    if (c->bitmap != NULL && c->persistent) {
        bdrv_dirty_bitmap_set_persistence(c->bitmap, true);
    }
    return c->bitmap != NULL ? 0 : -EINVAL;
}

static SIM_UNUSED int remove_entry(void *opaque)
{
    struct call *c = opaque;
    return bdrv_co_remove_persistent_dirty_bitmap(c->i->bs, c->text, &c->err);
}

static SIM_UNUSED int store_entry(void *opaque)
{
    struct call *c = opaque;
    return bdrv_co_store_dirty_bitmaps(c->i->bs, &c->err);
}

static SIM_UNUSED int rw_entry(void *opaque)
{
    return bdrv_co_reopen_dirty_bitmaps_rw(((struct call *)opaque)->i->bs, NULL);
}

static SIM_UNUSED int check_entry(void *opaque)
{
    struct call *c = opaque;
    BdrvCheckResult res = {0};
    int ret = bdrv_co_check(c->i->bs, &res, 0);
    c->offset = res.corruptions + res.check_errors;
    c->bytes = res.leaks;
    return ret;
}

static SIM_UNUSED int go(struct call *c, const char *what, int (*fn)(void *opaque))
{
    return bdrv_run_co(c->i->w->host, what, fn, c);
}

static SIM_UNUSED void done(struct call *c, int ret)
{
    if (ret != 0) {
        fail_msg("%d %s", ret, c->err != NULL ? error_get_pretty(c->err) : "");
    }
}

/* --- images ------------------------------------------------------------------------------------------------- */

/* options: JSON with single quotes after the driver and the file. */
static SIM_UNUSED struct image make_image(struct world *w, int64_t size_bytes, const char *options)
{
    struct image i = {.w = w, .disk = disk_find(w->sim, "d")};
    char text[400];

    if (i.disk == NULL) {
        struct disk_config config;
        disk_config_default(&config);
        config.align_bytes = 1;
        i.disk = disk_new(w->sim, "d", &config, NULL);
    }
    snprintf(text, sizeof(text), "{'driver':'qcow2','file':{'driver':'disk','disk':'d'},'size':%" PRId64 "%s}",
             size_bytes, options);
    struct call c = {.i = &i, .text = text};
    done(&c, go(&c, "create", create_entry));
    return i;
}

static SIM_UNUSED struct image load_image(struct world *w, const char *name)
{
    struct image i = {.w = w, .disk = make_disk(w, "d", 0)};
    char path[128];
    snprintf(path, sizeof(path), VECTORS "%s.qcow2", name);
    assert_int_equal(disk_load_file(i.disk, path, NULL), 0);
    return i;
}

#define OPEN_RW \
    "{'driver':'qcow2','node-name':'n','discard':'unmap'," \
    "'file':{'driver':'disk','disk':'d','discard':'unmap','node-name':'p'}}"
#define OPEN_RO \
    "{'driver':'qcow2','node-name':'n','read-only':true," \
    "'file':{'driver':'disk','disk':'d','read-only':true,'node-name':'p'}}"

static SIM_UNUSED void attach_guest(struct image *i, bool writable)
{
    i->blk = blk_new(i->w->host, BLK_PERM_CONSISTENT_READ | (writable ? BLK_PERM_WRITE | BLK_PERM_RESIZE : 0),
                     BLK_PERM_ALL);
    blk_set_allow_write_beyond_eof(i->blk, false);
    assert_int_equal(blk_insert_bs(i->blk, i->bs, NULL), 0);
}

static SIM_UNUSED void open_image(struct image *i, bool writable)
{
    i->bs = add(i->w, writable ? OPEN_RW : OPEN_RO);
    attach_guest(i, writable);
}

static SIM_UNUSED void close_image(struct image *i)
{
    blk_unref(i->blk);
    del(i->w, "n");
    i->bs = NULL;
    i->blk = NULL;
}

static SIM_UNUSED void reopen_image(struct image *i, bool writable)
{
    close_image(i);
    open_image(i, writable);
}

/* The first line of what stands against opening it; "" if nothing does. Static. */
static SIM_UNUSED const char *open_refused(struct image *i, bool writable)
{
    static char text[300];
    Error *err = NULL;
    BlockDriverState *bs = try_add(i->w, writable ? OPEN_RW : OPEN_RO, &err);
    snprintf(text, sizeof(text), "%s", err != NULL ? error_get_pretty(err) : "");
    error_free(err);
    if (bs != NULL) {
        del(i->w, "n");
    }
    return text;
}

/* --- requests, bitmaps --------------------------------------------------------------------------------------- */

static SIM_UNUSED int io(struct image *i, char op, int64_t offset, int64_t bytes)
{
    struct call c = {.i = i, .op = op, .offset = offset, .bytes = bytes, .fill = 0x11};
    int ret = go(&c, "request", io_entry);
    error_free(c.err);
    return ret;
}

static SIM_UNUSED void fill(struct image *i, int byte, int64_t offset, int64_t bytes)
{
    struct call c = {.i = i, .op = 'W', .offset = offset, .bytes = bytes, .fill = byte};
    done(&c, go(&c, "write", io_entry));
}

static SIM_UNUSED BdrvDirtyBitmap *add_bitmap(struct image *i, const char *name, int64_t granularity,
                                              bool persistent)
{
    struct call c = {.i = i, .text = name, .bytes = granularity, .persistent = persistent};
    done(&c, go(&c, "add", add_entry));
    return c.bitmap;
}

/* What stands against it; the caller frees the error. */
static SIM_UNUSED Error *add_refused(struct image *i, const char *name, int64_t granularity)
{
    struct call c = {.i = i, .text = name, .bytes = granularity, .persistent = true};
    assert_true(go(&c, "add", add_entry) < 0);
    return c.err;
}

static SIM_UNUSED BdrvDirtyBitmap *bitmap(struct image *i, const char *name)
{
    BdrvDirtyBitmap *found = bdrv_find_dirty_bitmap(i->bs, name);
    if (found == NULL) {
        fail_msg("no bitmap '%s'", name);
    }
    return found;
}

static SIM_UNUSED void remove_bitmap(struct image *i, const char *name)
{
    struct call c = {.i = i, .text = name};
    done(&c, go(&c, "remove", remove_entry));
    bdrv_release_dirty_bitmap(bitmap(i, name));
}

static SIM_UNUSED int64_t count(struct image *i, const char *name)
{
    return bdrv_get_dirty_count(bitmap(i, name));
}

/* All bitmaps in the order of their list: "name:flags=bytes ", flags e enabled, p persistent, r readonly, i
 * inconsistent. Static. */
static SIM_UNUSED const char *bitmaps_text(struct image *i)
{
    static char text[1000];
    size_t used = 0;
    const BdrvDirtyBitmap *b = NULL;
    text[0] = '\0';
    while ((b = bdrv_dirty_bitmap_next(i->bs, b)) != NULL) {
        used +=
            (size_t)snprintf(text + used, sizeof(text) - used, "%s:%s%s%s%s=%" PRId64 " ",
                             bdrv_dirty_bitmap_name(b), bdrv_dirty_bitmap_enabled(b) ? "e" : "",
                             bdrv_dirty_bitmap_persistent(b) ? "p" : "", bdrv_dirty_bitmap_readonly(b) ? "r" : "",
                             bdrv_dirty_bitmap_inconsistent(b) ? "i" : "", bdrv_get_dirty_count(b));
        assert_true(used < sizeof(text));
    }
    return text;
}

/* "CORRUPTIONS LEAKS" of a check. Static. */
static SIM_UNUSED const char *check_text(struct image *i)
{
    static char text[64];
    struct call c = {.i = i};
    done(&c, go(&c, "check", check_entry));
    snprintf(text, sizeof(text), "%" PRId64 " %" PRId64, c.offset, c.bytes);
    return text;
}

/* --- bytes of the image ------------------------------------------------------------------------------------- */

static SIM_UNUSED void peek(const struct image *i, int64_t offset, void *to, int64_t bytes)
{
    struct payload data;
    payload_init(i->w->sim, &data);
    disk_peek(i->disk, offset, bytes, &data);
    payload_read_bytes(&data, 0, to, bytes);
    payload_clear(&data);
}

static SIM_UNUSED void poke(const struct image *i, int64_t offset, const void *from, int64_t bytes)
{
    struct payload data;
    payload_init(i->w->sim, &data);
    payload_append_bytes(&data, from, bytes);
    disk_poke(i->disk, offset, &data);
    payload_clear(&data);
}

static SIM_UNUSED uint64_t be(const struct image *i, int64_t offset, unsigned bytes)
{
    uint8_t raw[8];
    uint64_t value = 0;
    peek(i, offset, raw, bytes);
    for (unsigned n = 0; n < bytes; n++) {
        value = value << 8 | raw[n];
    }
    return value;
}

static SIM_UNUSED void set_be(const struct image *i, int64_t offset, unsigned bytes, uint64_t value)
{
    uint8_t raw[8];
    for (unsigned n = 0; n < bytes; n++) {
        raw[n] = (uint8_t)(value >> (8 * (bytes - 1 - n)));
    }
    poke(i, offset, raw, bytes);
}

/* Where the bitmaps extension's data is; -1: there is none. */
static SIM_UNUSED int64_t extension_at(const struct image *i)
{
    int64_t at = (int64_t)be(i, 100, 4);
    for (uint64_t type; (type = be(i, at, 4)) != 0;) {
        if (type == 0x23852875) {
            return at + 8;
        }
        at += 8 + (int64_t)ROUND_UP(be(i, at + 4, 4), 8);
    }
    return -1;
}

/* What the image stores: "name:flags=table entries ", flags u in use, a auto; "-" at the end when the autoclear bit
 * is not set. Static. */
static SIM_UNUSED const char *stored_text(const struct image *i)
{
    static char text[1000];
    size_t used = 0;
    int64_t at = extension_at(i);
    uint64_t nb = at < 0 ? 0 : be(i, at, 4);
    int64_t entry = at < 0 ? 0 : (int64_t)be(i, at + 16, 8);
    text[0] = '\0';
    for (uint64_t n = 0; n < nb; n++) {
        char name[1024] = "";
        uint64_t flags = be(i, entry + 12, 4);
        uint64_t name_bytes = be(i, entry + 18, 2);
        peek(i, entry + 24, name, (int64_t)name_bytes);
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s:%s%s=%" PRIu64 " ", name,
                                 flags & IN_USE ? "u" : "", flags & AUTO ? "a" : "", be(i, entry + 8, 4));
        assert_true(used < sizeof(text));
        entry += (int64_t)ROUND_UP(24 + name_bytes, 8);
    }
    if (at >= 0 && !(be(i, 88, 8) & 1)) {
        strcat(text, "-");
    }
    return text;
}

/* The whole file, malloc'ed. */
static SIM_UNUSED uint8_t *file_bytes(const struct image *i, int64_t *bytes)
{
    *bytes = disk_length(i->disk);
    uint8_t *all = malloc((size_t)*bytes);
    peek(i, 0, all, *bytes);
    return all;
}

#endif
