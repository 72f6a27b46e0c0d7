/*
 * Making images (9): by the options of blockdev-create, or as the commands do that make one on the way.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/options.h"

/* --- by options ------------------------------------------------------------------------------------------ */

static const BlockDriver *creator(const struct qvalue *options, Error **errp)
{
    const char *name;

    if (!qdict_get_str(options, "driver", &name, NULL, errp)) {
        return NULL;
    }
    if (!name) {
        error_setg(errp, "Parameter 'driver' is missing");
        return NULL;
    }
    const BlockDriver *drv = bdrv_find_driver(name);
    if (!drv || drv->internal) {
        error_setg(errp, "Parameter 'driver' does not accept value '%s'", name);
        return NULL;
    }
    if (!drv->bdrv_co_create) {
        error_setg(errp, "Driver does not support blockdev-create");
        return NULL;
    }
    return drv;
}

bool bdrv_create_check(const struct qvalue *options, Error **errp)
{
    const BlockDriver *drv = creator(options, errp);

    if (!drv) {
        return false;
    }
    struct qvalue *own = qvalue_copy(options);
    qvalue_free(qdict_take(own, "driver"));
    bool ok = bdrv_check_options_table(drv->create_options, own, errp);
    qvalue_free(own);
    return ok;
}

int bdrv_co_create(struct host *host, const struct qvalue *options, Error **errp)
{
    const BlockDriver *drv = creator(options, errp);
    Error *local = NULL;

    if (!drv) {
        return -ENOTSUP;
    }
    int ret = drv->bdrv_co_create(host, options, &local);
    if (ret < 0 && !local) {
        error_setg_errno(&local, ret, "Could not create image");
    }
    SIM_ASSERT((ret < 0) == (local != NULL));
    error_propagate(errp, local);
    return ret < 0 ? ret : 0;
}

static BlockDriverState *file_node(struct host *host, const struct qvalue *value, Error **errp)
{
    if (value->type == QVALUE_DICT) {
        return bdrv_open(host, value, BDRV_O_UNMAP, errp);
    }
    BlockDriverState *bs = bdrv_lookup_bs(host, value->str.bytes, errp);
    if (bs) {
        bdrv_ref(bs);
    }
    return bs;
}

BlockBackend *bdrv_create_backend(struct host *host, const struct qvalue *options, Error **errp)
{
    BlockDriverState *bs = file_node(host, qdict_get(options, "file"), errp);

    if (!bs) {
        return NULL;
    }
    BlockBackend *blk = blk_new(host, BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL);
    blk_set_allow_write_beyond_eof(blk, true);
    blk_set_disable_request_queuing(blk, true); /* images are made inside drained sections, too */
    if (blk_insert_bs(blk, bs, errp) < 0) {
        blk_unref(blk);
        blk = NULL;
    }
    bdrv_unref(bs);
    return blk;
}

/* --- on the way ------------------------------------------------------------------------------------------ */

struct img_create {
    struct host *host;
    const char *filename;
    const BlockDriver *drv;
    const BlockDriver *protocol;
    int64_t size_bytes;
    const char *backing_file;
    const char *backing_format;
    Error **errp;
};

static int create_medium(const struct img_create *c, int64_t size_bytes)
{
    struct qvalue *options = qvalue_dict();

    qdict_put(options, "driver", qvalue_str(c->protocol->format_name));
    qdict_put(options, c->protocol->filename_option, qvalue_str(c->filename));
    qdict_put(options, "size", qvalue_int(size_bytes));
    struct co_cleanup cleanup;
    coroutine_cleanup_push(c->host->sim, &cleanup, qvalue_cleanup, options);
    int ret = bdrv_co_create(c->host, options, c->errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(options);
    return ret;
}

static BlockDriverState *open_medium(const struct img_create *c)
{
    struct qvalue *options = qvalue_dict();

    qdict_put(options, "driver", qvalue_str(c->protocol->format_name));
    qdict_put(options, c->protocol->filename_option, qvalue_str(c->filename));
    struct co_cleanup cleanup;
    coroutine_cleanup_push(c->host->sim, &cleanup, qvalue_cleanup, options);
    BlockDriverState *bs = bdrv_open(c->host, options, 0, c->errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(options);
    return bs;
}

static int create_format(const struct img_create *c, const BlockDriverState *file)
{
    struct qvalue *options = qvalue_dict();

    qdict_put(options, "driver", qvalue_str(c->drv->format_name));
    qdict_put(options, "file", qvalue_str(bdrv_get_node_name(file)));
    qdict_put(options, "size", qvalue_int(c->size_bytes));
    if (c->backing_file) {
        qdict_put(options, "backing-file", qvalue_str(c->backing_file));
    }
    if (c->backing_format) {
        qdict_put(options, "backing-fmt", qvalue_str(c->backing_format));
    }
    struct co_cleanup cleanup;
    coroutine_cleanup_push(c->host->sim, &cleanup, qvalue_cleanup, options);
    int ret = bdrv_co_create(c->host, options, c->errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(options);
    return ret;
}

static int img_create_entry(void *opaque)
{
    struct img_create *c = opaque;
    bool format = c->drv != c->protocol;

    int ret = create_medium(c, format ? 0 : c->size_bytes);
    if (ret < 0 || !format) {
        return ret;
    }
    BlockDriverState *file = open_medium(c);
    if (!file) {
        return -EINVAL;
    }
    ret = create_format(c, file);
    bdrv_unref(file);
    return ret;
}

static bool knows(const BlockDriver *drv, const char *key)
{
    for (const BdrvOption *option = drv->create_options; option && option->name; option++) {
        if (strcmp(option->name, key) == 0) {
            return true;
        }
    }
    return false;
}

static int img_create_check(const struct img_create *c, const char *format, Error **errp)
{
    if (!c->drv || c->drv->internal) {
        error_setg(errp, "Unknown file format '%s'", format);
        return -EINVAL;
    }
    if (!c->drv->bdrv_co_create) {
        error_setg(errp, "Format driver '%s' does not support image creation", format);
        return -ENOTSUP;
    }
    if (c->backing_file && !knows(c->drv, "backing-file")) {
        error_setg(errp, "Backing file not supported for file format '%s'", format);
        return -ENOTSUP;
    }
    if (c->backing_file && strcmp(c->backing_file, c->filename) == 0) {
        error_setg(errp, "Error: Trying to create an image with the same filename as the backing file");
        return -EINVAL;
    }
    return 0;
}

int bdrv_img_create(struct host *host, const char *filename, const char *format, int64_t size_bytes,
                    const char *backing_file, const char *backing_format, Error **errp)
{
    struct img_create c = {
        .host = host,
        .filename = filename,
        .drv = bdrv_find_driver(format),
        .protocol = bdrv_find_driver("disk"),
        .size_bytes = size_bytes,
        .backing_file = backing_file,
        .backing_format = backing_format,
        .errp = errp,
    };

    SIM_ASSERT(backing_file || !backing_format);
    int ret = img_create_check(&c, format, errp);
    return ret < 0 ? ret : bdrv_run_co(host, "create image", img_create_entry, &c);
}
