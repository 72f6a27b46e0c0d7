#include "jobs/drive_target.h"

#include "block/block_int.h"

static bool make_image(BlockDriverState *source, const struct drive_target *target, const char *format,
                       Error **errp)
{
    /* Filters on it are not what the image's header can name. */
    BlockDriverState *backing = target->backing != NULL ? bdrv_skip_filters(target->backing) : NULL;
    int64_t bytes = bdrv_getlength(source);

    if (bytes < 0) {
        error_setg_errno(errp, (int)bytes, "bdrv_getlength failed");
        return false;
    }
    return bdrv_img_create(bdrv_host(source), target->filename, format, bytes,
                           backing != NULL ? bdrv_filename(backing) : NULL,
                           backing != NULL ? bdrv_backing_format(backing) : NULL, errp) >= 0;
}

/* The part of the tree that stands for the file itself. */
static struct qvalue *medium_options(const BlockDriver *protocol, const struct drive_target *target)
{
    struct qvalue *medium = qvalue_dict();

    qdict_put(medium, "driver", qvalue_str(protocol->format_name));
    qdict_put(medium, protocol->filename_option, qvalue_str(target->filename));
    return medium;
}

static struct qvalue *target_options(const struct drive_target *target, const char *format)
{
    const BlockDriver *drv = bdrv_find_driver(format);
    bool is_medium = drv != NULL && drv->filename_option != NULL;
    struct qvalue *medium = medium_options(is_medium ? drv : bdrv_find_driver("disk"), target);
    struct qvalue *options = is_medium ? medium : qvalue_dict();

    if (!is_medium) {
        qdict_put(options, "driver", qvalue_str(format));
        qdict_put(options, "file", medium);
    }
    if (target->node_name != NULL) {
        qdict_put(options, "node-name", qvalue_str(target->node_name));
    }
    if (target->no_backing && drv != NULL && drv->supports_backing) {
        qdict_put(options, "backing", qvalue_null());
    }
    return options;
}

static const char *probe(struct host *host, const struct drive_target *target, Error **errp)
{
    struct qvalue *medium = medium_options(bdrv_find_driver("disk"), target);
    struct co_cleanup cleanup;

    coroutine_cleanup_push(host->sim, &cleanup, qvalue_cleanup, medium);
    const char *format = bdrv_probe_file(host, medium, errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(medium);
    return format;
}

BlockDriverState *drive_target_open(BlockDriverState *source, const struct drive_target *target, Error **errp)
{
    const uint32_t kept = BDRV_O_AUTO_RDONLY | BDRV_O_UNMAP | BDRV_O_NO_FLUSH | BDRV_O_NOCACHE;
    struct host *host = bdrv_host(source);
    bool probed = target->format == NULL && target->existing;
    const char *format = target->format;
    struct co_cleanup cleanup;

    SIM_ASSERT(host_in_main(host));
    if (format == NULL) {
        format = probed ? probe(host, target, errp) : bdrv_driver_name(bdrv_skip_filters(source));
    }
    if (format == NULL || (!target->existing && !make_image(source, target, format, errp))) {
        return NULL;
    }
    struct qvalue *options = target_options(target, format);
    coroutine_cleanup_push(host->sim, &cleanup, qvalue_cleanup, options);
    BlockDriverState *bs = bdrv_open(host, options, (bdrv_open_flags(source) & kept) | BDRV_O_RDWR, errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(options);
    if (bs != NULL && probed && str_is(format, "raw")) {
        bs->open_flags |= BDRV_O_PROBED; /* nobody has used it so far */
        bdrv_refresh_limits(bs);
    }
    return bs;
}
