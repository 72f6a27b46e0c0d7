/*
 * Images and their places: blockdev-create, change-backing-file, x-blockdev-change (reference/block.md 9).
 */
#include "jobs/create.h"
#include "monitor/commands.h"

/* --- blockdev-create -------------------------------------------------------------------------------------- */

static const struct qmp_arg create_args[] = {
    {.name = "job-id", .type = QMP_STR, .doc = "of the job that makes it; dismissed by job-dismiss"},
    {.name = "options", .type = QMP_DICT, .doc = "driver, and the create options of that driver"},
    {.name = NULL},
};

static bool cmd_create(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return blockdev_create_start(host, qmp_arg_str(args, "job-id", NULL), qdict_get(args, "options"), errp);
}

/* --- change-backing-file ---------------------------------------------------------------------------------- */

static const struct qmp_arg change_backing_args[] = {
    {.name = "device", .type = QMP_STR, .doc = "device or root node of the chain"},
    {.name = "image-node-name", .type = QMP_STR, .doc = "image of the chain whose header changes"},
    {.name = "backing-file", .type = QMP_STR, .doc = "what the header is to name; not looked at"},
    {.name = NULL},
};

static bool check_image(BlockDriverState *bs, BlockDriverState *image, const char *device, Error **errp)
{
    if (!bdrv_backing_chain_next(image)) {
        error_setg(errp, "not allowing backing file change on an image without a backing file");
        return false;
    }
    if (bdrv_op_is_blocked(bs, BLOCK_OP_CHANGE, errp)) {
        return false;
    }
    if (!bdrv_chain_contains(bs, image)) {
        error_setg(errp, "'%s' and image file are not in the same chain", device);
        return false;
    }
    return true;
}

/* The header says what the backing image is now: the reference would write down the image's own format, and whoever
 * opens the image by its header would take the backing file for that. */
static bool cmd_change_backing(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    const char *device = qmp_arg_str(args, "device", NULL);
    BlockDriverState *bs = bdrv_lookup_bs(host, device, errp);

    if (!bs) {
        return false;
    }
    if (!bdrv_is_root_node(bs)) {
        error_setg(errp, "Need a root block node");
        return false;
    }
    BlockDriverState *image = bdrv_find_node(host, qmp_arg_str(args, "image-node-name", NULL));
    if (!image) {
        error_setg(errp, "image file not found");
        return false;
    }
    if (!check_image(bs, image, device, errp)) {
        return false;
    }
    const char *format = bdrv_backing_format(bdrv_backing_chain_next(image));
    bdrv_ref(image);
    int ret = bdrv_rewrite_backing_file(image, qmp_arg_str(args, "backing-file", NULL), format, errp);
    bdrv_unref(image);
    return ret >= 0;
}

/* --- x-blockdev-change ------------------------------------------------------------------------------------ */

static const struct qmp_arg change_args[] = {
    {.name = "parent", .type = QMP_STR, .doc = "node whose children change (quorum)"},
    {.name = "child", .type = QMP_STR, .optional = true, .doc = "child to remove, by its name under parent; or"},
    {.name = "node", .type = QMP_STR, .optional = true, .doc = "node to add"},
    {.name = NULL},
};

static bool remove_child(BlockDriverState *parent, const char *name, Error **errp)
{
    BdrvChild *child = bdrv_find_child(parent, name);

    if (!child) {
        error_setg(errp, "Node '%s' does not have child '%s'", bdrv_get_node_name(parent), name);
        return false;
    }
    return bdrv_del_child(parent, child, errp) >= 0;
}

static bool add_node(BlockDriverState *parent, const char *name, Error **errp)
{
    BlockDriverState *bs = bdrv_find_node(bdrv_host(parent), name);

    if (!bs) {
        error_setg(errp, "Node '%s' not found", name);
        return false;
    }
    return bdrv_add_child(parent, bs, errp) >= 0;
}

static bool cmd_change(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    const char *child = qmp_arg_str(args, "child", NULL);
    const char *node = qmp_arg_str(args, "node", NULL);
    BlockDriverState *parent = bdrv_lookup_bs(host, qmp_arg_str(args, "parent", NULL), errp);

    if (!parent) {
        return false;
    }
    if (child && node) {
        error_setg(errp, "The parameters child and node are in conflict");
        return false;
    }
    if (!child && !node) {
        error_setg(errp, "Either child or node must be specified");
        return false;
    }
    bdrv_ref(parent);
    bool ok = child ? remove_child(parent, child, errp) : add_node(parent, node, errp);
    bdrv_unref(parent);
    return ok;
}

const struct qmp_command qmp_image_commands[] = {
    {"blockdev-create", create_args, false, cmd_create, "makes an image, in a job", NULL},
    {"change-backing-file", change_backing_args, false, cmd_change_backing, "rewrites the header of an image only",
     NULL},
    {"x-blockdev-change", change_args, false, cmd_change, "adds or removes a child of a node", NULL},
    {.name = NULL},
};
