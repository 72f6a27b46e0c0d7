/*
 * block-commit (reference/jobs.md 6, 9): which commit it is, and everything that speaks against it, in the
 * reference's order.
 */
#include "jobs/commit.h"
#include "monitor/job_args.h"

static const struct qmp_arg block_commit_args[] = {
    QMP_JOB_ID_ARG("the device"),
    {.name = "device", .type = QMP_STR, .doc = "active layer: device or root node"},
    {.name = "base-node", .type = QMP_STR, .optional = true, .doc = "node to commit into; or"},
    {.name = "base", .type = QMP_STR, .optional = true, .doc = "its file name; default: the lowest image"},
    {.name = "top-node", .type = QMP_STR, .optional = true, .doc = "topmost node to commit; or"},
    {.name = "top", .type = QMP_STR, .optional = true, .doc = "its file name; default: the active layer"},
    {.name = "backing-file", .type = QMP_STR, .optional = true, .doc = "for the header above, as it stands"},
    QMP_JOB_MASK_ARG,
    QMP_JOB_SPEED_ARG,
    QMP_JOB_ON_ERROR_ARG("on-error", "policy for failed requests"),
    QMP_JOB_FILTER_ARG,
    QMP_JOB_AUTO_ARGS,
    {.name = NULL},
};

struct commit_nodes {
    BlockDriverState *bs;
    BlockDriverState *top;
    BlockDriverState *base;
};

/* Clients probe for the command with a device that does not exist, and know it by the class. */
static bool find_device(struct host *host, const char *device, struct commit_nodes *nodes, Error **errp)
{
    if (!blk_by_name(host, device) && !bdrv_find_node(host, device)) {
        error_set(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "Device '%s' not found", device);
        return false;
    }
    nodes->bs = bdrv_lookup_bs(host, device, errp);
    if (!nodes->bs) {
        return false;
    }
    if (!bdrv_is_root_node(nodes->bs)) {
        error_setg(errp, "Need a root block node");
        return false;
    }
    return !bdrv_op_is_blocked(nodes->bs, BLOCK_OP_COMMIT_SOURCE, errp);
}

/* A node in the chain from above on down. */
static BlockDriverState *find_in_chain(BlockDriverState *above, const char *name, Error **errp)
{
    BlockDriverState *bs = bdrv_find_node(bdrv_host(above), name);

    if (!bs) {
        error_setg(errp, "Cannot find device='' nor node-name='%s'", name);
    } else if (!bdrv_chain_contains(above, bs)) {
        error_setg(errp, "'%s' is not in this backing file chain", name);
        bs = NULL;
    }
    return bs;
}

static bool both_given(const char *node, const char *file, const char *what, Error **errp)
{
    if (node && file) {
        error_setg(errp, "'%s-node' and '%s' are mutually exclusive", what, what);
    }
    return node && file;
}

static bool find_top(const struct qvalue *args, struct commit_nodes *nodes, Error **errp)
{
    const char *node = qmp_arg_str(args, "top-node", NULL);
    const char *file = qmp_arg_str(args, "top", NULL);

    if (both_given(node, file, "top", errp)) {
        return false;
    }
    nodes->top = nodes->bs;
    if (node) {
        nodes->top = find_in_chain(nodes->bs, node, errp);
    } else if (file && !str_is(bdrv_filename(nodes->bs), file)) {
        nodes->top = bdrv_find_backing_image(nodes->bs, file);
        if (!nodes->top) {
            error_setg(errp, "Top image file %s not found", file);
        }
    }
    return nodes->top != NULL;
}

/* No filter: what a filter on it filters is the image. */
static BlockDriverState *bottom_of(BlockDriverState *bs)
{
    for (bs = bdrv_skip_filters(bs); bdrv_backing_chain_next(bs);) {
        bs = bdrv_backing_chain_next(bs);
    }
    return bs;
}

static bool find_base(const struct qvalue *args, struct commit_nodes *nodes, Error **errp)
{
    const char *node = qmp_arg_str(args, "base-node", NULL);
    const char *file = qmp_arg_str(args, "base", NULL);

    if (both_given(node, file, "base", errp)) {
        return false;
    }
    if (node) {
        nodes->base = find_in_chain(nodes->top, node, errp);
    } else if (file) {
        nodes->base = bdrv_find_backing_image(nodes->top, file);
        if (!nodes->base) {
            error_setg(errp, "Can't find '%s' in the backing chain", file);
        }
    } else {
        nodes->base = bottom_of(nodes->top);
    }
    return nodes->base != NULL;
}

static bool chain_is_free(const struct commit_nodes *nodes, Error **errp)
{
    for (BlockDriverState *bs = nodes->top;; bs = bdrv_filter_or_cow_bs(bs)) {
        if (bdrv_op_is_blocked(bs, BLOCK_OP_COMMIT_TARGET, errp)) {
            return false;
        }
        if (bs == nodes->base) {
            break;
        }
    }
    if (nodes->top == nodes->base) {
        error_setg(errp, "cannot commit an image into itself");
        return false;
    }
    return true;
}

/* The image whose header names top's image; there is one, since top is below bs and not the same without filters.
 */
static BlockDriverState *overlay_of(const struct commit_nodes *nodes)
{
    BlockDriverState *bs = bdrv_skip_filters(nodes->bs);
    const BlockDriverState *top = bdrv_skip_filters(nodes->top);

    while (bdrv_backing_chain_next(bs) != top) {
        bs = bdrv_backing_chain_next(bs);
        SIM_ASSERT(bs != NULL);
    }
    return bs;
}

/* Of the backend on bs: an active commit of a lower node is named after the device, too. */
static const char *device_of(BlockDriverState *bs)
{
    for (BlockBackend *blk = blk_next(bdrv_host(bs), NULL); blk; blk = blk_next(bdrv_host(bs), blk)) {
        if (blk_bs(blk) == bs && blk_name(blk)[0] != '\0') {
            return blk_name(blk);
        }
    }
    return "";
}

static bool start_active(const struct commit_nodes *nodes, bool is_active, struct commit_args *commit, Error **errp)
{
    if (commit->backing_file) {
        error_setg(errp, is_active ? "'backing-file' specified, but 'top' is the active layer"
                                   : "'backing-file' specified, but 'top' has a writer on it");
        return false;
    }
    if (!commit->job_id) {
        commit->job_id = device_of(nodes->bs);
    }
    return commit_active_start(nodes->top, nodes->base, commit, errp) >= 0;
}

static bool start(const struct commit_nodes *nodes, struct commit_args *commit, Error **errp)
{
    bool is_active = bdrv_skip_filters(nodes->top) == bdrv_skip_filters(nodes->bs);
    uint64_t perm, shared;

    bdrv_cumulative_perms(nodes->top, &perm, &shared);
    if (is_active || (perm & BLK_PERM_WRITE)) {
        return start_active(nodes, is_active, commit, errp);
    }
    /* Its header is about to change. */
    if (bdrv_op_is_blocked(overlay_of(nodes), BLOCK_OP_COMMIT_TARGET, errp)) {
        return false;
    }
    return commit_start(nodes->bs, nodes->top, nodes->base, commit, errp) >= 0;
}

static bool cmd_commit(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    struct commit_nodes nodes = {NULL, NULL, NULL};
    struct commit_args commit = {
        .job_id = qmp_arg_str(args, "job-id", NULL),
        .filter_node_name = qmp_arg_str(args, "filter-node-name", NULL),
        .backing_file = qmp_arg_str(args, "backing-file", NULL),
        .backing_mask_protocol = qmp_arg_bool(args, "backing-mask-protocol", false),
        .speed = qmp_arg_int(args, "speed", 0),
        .auto_finalize = qmp_arg_bool(args, "auto-finalize", true),
        .auto_dismiss = qmp_arg_bool(args, "auto-dismiss", true),
        .on_error = qmp_job_on_error(args, "on-error"),
    };

    return find_device(host, qmp_arg_str(args, "device", NULL), &nodes, errp) && find_top(args, &nodes, errp) &&
           find_base(args, &nodes, errp) && chain_is_free(&nodes, errp) && start(&nodes, &commit, errp);
}

const struct qmp_command qmp_commit_commands[] = {
    {"block-commit", block_commit_args, false, cmd_commit,
     "merges the layers of a chain from top on down into base", NULL},
    {.name = NULL},
};
