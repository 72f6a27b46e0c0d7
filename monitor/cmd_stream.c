/*
 * block-stream (reference/jobs.md 7, 9).
 */
#include "jobs/stream.h"

#include <string.h>

#include "monitor/job_args.h"

static const struct qmp_arg block_stream_args[] = {
    QMP_JOB_ID_ARG("the node's device"),
    {.name = "device", .type = QMP_STR, .doc = "device or node that is filled"},
    {.name = "base", .type = QMP_STR, .optional = true, .doc = "file name of the backing file that stays"},
    {.name = "base-node", .type = QMP_STR, .optional = true, .doc = "node that stays as backing file"},
    {.name = "backing-file", .type = QMP_STR, .optional = true, .doc = "for the header; default: the base's name"},
    QMP_JOB_MASK_ARG,
    {.name = "bottom", .type = QMP_STR, .optional = true, .doc = "last node that is copied"},
    QMP_JOB_SPEED_ARG,
    QMP_JOB_ON_ERROR_ARG("on-error", "policy for chunks that cannot be copied"),
    QMP_JOB_FILTER_ARG,
    QMP_JOB_AUTO_ARGS,
    {.name = NULL},
};

/* --- the end of the chain ----------------------------------------------------------------------------------- */

static bool check_exclusive(const struct qvalue *args, Error **errp)
{
    static const char *const pairs[][2] = {{"base", "base-node"}, {"base", "bottom"}, {"bottom", "base-node"}};

    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        if (qdict_get(args, pairs[i][0]) && qdict_get(args, pairs[i][1])) {
            error_setg(errp, "'%s' and '%s' cannot be specified at the same time", pairs[i][0], pairs[i][1]);
            return false;
        }
    }
    return true;
}

static bool find_base_node(BlockDriverState *bs, const char *device, const char *name, struct stream_args *out,
                           Error **errp)
{
    out->base = bdrv_lookup_bs(bdrv_host(bs), name, errp);
    if (!out->base) {
        return false;
    }
    BlockDriverState *below = bdrv_cow_bs(bdrv_skip_filters(bs));
    if (!below || !bdrv_chain_contains(below, out->base)) {
        error_setg(errp, "Node '%s' is not a backing image of '%s'", name, device);
        return false;
    }
    return true;
}

static bool find_bottom(BlockDriverState *bs, const char *device, const char *name, struct stream_args *out,
                        Error **errp)
{
    out->bottom = bdrv_lookup_bs(bdrv_host(bs), name, errp);
    if (!out->bottom) {
        return false;
    }
    if (bdrv_skip_filters(out->bottom) != out->bottom) {
        error_setg(errp, "Node '%s' is a filter, use a non-filter node as 'bottom'", name);
        return false;
    }
    if (!bdrv_chain_contains(bs, out->bottom)) {
        error_setg(errp, "Node '%s' is not in a chain starting from '%s'", name, device);
        return false;
    }
    return true;
}

static bool find_end(BlockDriverState *bs, const struct qvalue *args, struct stream_args *out, Error **errp)
{
    const char *device = qmp_arg_str(args, "device", NULL);
    const char *base = qmp_arg_str(args, "base", NULL);
    const char *base_node = qmp_arg_str(args, "base-node", NULL);
    const char *bottom = qmp_arg_str(args, "bottom", NULL);

    if (base) {
        out->base = bdrv_find_backing_image(bs, base);
        if (!out->base) {
            error_setg(errp, "Can't find '%s' in the backing chain", base);
            return false;
        }
    }
    return (!base_node || find_base_node(bs, device, base_node, out, errp)) &&
           (!bottom || find_bottom(bs, device, bottom, out, errp));
}

/* --- the command -------------------------------------------------------------------------------------------- */

static bool check_blockers(BlockDriverState *bs, const struct stream_args *args, Error **errp)
{
    const BlockDriverState *end = args->bottom ? bdrv_filter_or_cow_bs(args->bottom) : args->base;

    for (; bs && bs != end; bs = bdrv_filter_or_cow_bs(bs)) {
        if (bdrv_op_is_blocked(bs, BLOCK_OP_STREAM, errp)) {
            return false;
        }
    }
    return true;
}

static void read_args(const struct qvalue *args, struct stream_args *out)
{
    out->job_id = qmp_arg_str(args, "job-id", NULL);
    out->filter_node_name = qmp_arg_str(args, "filter-node-name", NULL);
    out->backing_file = qmp_arg_str(args, "backing-file", NULL);
    out->backing_mask_protocol = qmp_arg_bool(args, "backing-mask-protocol", false);
    out->speed = qmp_arg_int(args, "speed", 0);
    out->on_error = qmp_job_on_error(args, "on-error");
    out->auto_finalize = qmp_arg_bool(args, "auto-finalize", true);
    out->auto_dismiss = qmp_arg_bool(args, "auto-dismiss", true);
}

static bool cmd_block_stream(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    struct stream_args stream = {.job_id = NULL};

    if (!check_exclusive(args, errp)) {
        return false;
    }
    BlockDriverState *bs = bdrv_lookup_bs(host, qmp_arg_str(args, "device", NULL), errp);
    if (!bs || !find_end(bs, args, &stream, errp)) {
        return false;
    }
    if (!check_blockers(bs, &stream, errp)) {
        return false;
    }
    read_args(args, &stream);
    if (!stream.base && stream.backing_file) {
        error_setg(errp, "backing file specified, but streaming the entire chain");
        return false;
    }
    return stream_start(bs, &stream, errp) >= 0;
}

const struct qmp_command qmp_stream_commands[] = {
    {"block-stream", block_stream_args, false, cmd_block_stream,
     "copies from the backing files into a node, then takes them out of its chain", NULL},
    {.name = NULL},
};
