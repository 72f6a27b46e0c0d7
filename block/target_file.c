#include "block/target_file.h"

#include <errno.h>

#include "block/block_int.h"

struct source_length {
    BlockDriverState *bs;
    int64_t bytes;
};

static int source_length_entry(void *opaque)
{
    struct source_length *l = opaque;

    l->bytes = bdrv_co_getlength(l->bs);
    return l->bytes < 0 ? (int)l->bytes : 0;
}

static int make_file(BlockDriverState *source, const struct bdrv_target_file *file, const char *format,
                     Error **errp)
{
    BlockDriverState *backing = bdrv_skip_implicit_filters(file->backing);
    struct source_length l = {.bs = source};
    int ret = bdrv_run_co(source->host, "length for a target", source_length_entry, &l);

    if (ret < 0) {
        error_setg_errno(errp, ret, "bdrv_getlength failed");
        return ret;
    }
    return bdrv_img_create(source->host, file->filename, format, l.bytes, backing ? bdrv_filename(backing) : NULL,
                           backing ? bdrv_backing_format(backing) : NULL, errp);
}

static struct qvalue *medium_options(const BlockDriver *protocol, const char *filename)
{
    struct qvalue *medium = qvalue_dict();

    qdict_put(medium, "driver", qvalue_str(protocol->format_name));
    qdict_put(medium, protocol->filename_option, qvalue_str(filename));
    return medium;
}

/* Options for the whole tree. format NULL: its content is asked, which *probed tells. */
static struct qvalue *file_options(struct host *host, const struct bdrv_target_file *file, const char *format,
                                   bool *probed, Error **errp)
{
    const BlockDriver *drv = format ? bdrv_find_driver(format) : NULL;
    const BlockDriver *protocol = drv && drv->filename_option ? drv : bdrv_find_driver("disk");
    struct qvalue *medium = medium_options(protocol, file->filename);
    struct qvalue *options;

    *probed = format == NULL;
    if (*probed) {
        struct co_cleanup cleanup;
        coroutine_cleanup_push(host->sim, &cleanup, qvalue_cleanup, medium);
        format = bdrv_probe_file(host, medium, errp);
        coroutine_cleanup_pop(&cleanup);
        if (!format) {
            qvalue_free(medium);
            return NULL;
        }
        drv = bdrv_find_driver(format);
    }
    if (drv == protocol) {
        options = medium;
    } else {
        options = qvalue_dict();
        qdict_put(options, "driver", qvalue_str(format));
        qdict_put(options, "file", medium);
    }
    if (file->node_name) {
        qdict_put(options, "node-name", qvalue_str(file->node_name));
    }
    if (drv && drv->supports_backing) {
        qdict_put(options, "backing", qvalue_null());
    }
    return options;
}

BlockDriverState *bdrv_open_target_file(BlockDriverState *source, const struct bdrv_target_file *file, Error **errp)
{
    uint32_t flags = source->open_flags & (BDRV_O_AUTO_RDONLY | BDRV_O_UNMAP | BDRV_O_NO_FLUSH | BDRV_O_NOCACHE);
    const char *format = file->format;
    bool probed;

    SIM_ASSERT(host_in_main(source->host));
    if (!format && !file->existing) {
        format = bdrv_skip_filters(source)->drv->format_name;
    }
    if (!file->existing && make_file(source, file, format, errp) < 0) {
        return NULL;
    }
    struct qvalue *options = file_options(source->host, file, format, &probed, errp);
    if (!options) {
        return NULL;
    }
    struct co_cleanup cleanup;
    coroutine_cleanup_push(source->host->sim, &cleanup, qvalue_cleanup, options);
    BlockDriverState *bs = bdrv_open(source->host, options, flags | (probed ? BDRV_O_PROBED : 0), errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(options);
    return bs;
}
