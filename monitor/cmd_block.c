/*
 * Commands on nodes: blockdev-add, blockdev-del, blockdev-reopen, blockdev-set-active, block_resize,
 * block-set-write-threshold (reference/block.md 9).
 */
#include "monitor/commands.h"

static const struct qmp_arg add_args[] = {
    {.name = "driver", .type = QMP_STR, .doc = "block driver; its own options follow"},
    {.name = "node-name", .type = QMP_STR, .optional = true, .doc = "name of the node"},
    {.name = "read-only", .type = QMP_BOOL, .optional = true, .def = "false", .doc = "open without write access"},
    {.name = "auto-read-only", .type = QMP_BOOL, .optional = true, .def = "false", .doc = "fall back to read-only"},
    {.name = "force-share", .type = QMP_BOOL, .optional = true, .def = "false", .doc = "share everything"},
    {.name = "active", .type = QMP_BOOL, .optional = true, .def = "true", .doc = "take ownership of the image"},
    {.name = NULL},
};

static const struct qmp_arg del_args[] = {
    {.name = "node-name", .type = QMP_STR, .doc = "node made by blockdev-add"},
    {.name = NULL},
};

static const struct qmp_arg reopen_args[] = {
    {.name = "options", .type = QMP_LIST, .doc = "list of complete option trees, each with its node-name"},
    {.name = NULL},
};

static const struct qmp_arg active_args[] = {
    {.name = "node-name",
     .type = QMP_STR,
     .optional = true,
     .doc = "node and what is below it; left out: all nodes"},
    {.name = "active", .type = QMP_BOOL, .doc = "take ownership of the image, or give it up"},
    {.name = NULL},
};

static const struct qmp_arg resize_args[] = {
    {.name = "device", .type = QMP_STR, .optional = true, .doc = "device, or"},
    {.name = "node-name", .type = QMP_STR, .optional = true, .doc = "node"},
    {.name = "size", .type = QMP_INT, .doc = "new length in bytes"},
    {.name = NULL},
};

static const struct qmp_arg threshold_args[] = {
    {.name = "node-name", .type = QMP_STR, .doc = "node"},
    {.name = "write-threshold", .type = QMP_SIZE, .doc = "bytes, 0: off"},
    {.name = NULL},
};

static bool cmd_blockdev_add(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return qmp_blockdev_add_node(host, args, errp) != NULL;
}

static bool cmd_blockdev_del(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return qmp_blockdev_del_node(host, qmp_arg_str(args, "node-name", NULL), errp);
}

/* Each tree against what all nodes have; a driver's own options are the block layer's to judge. */
static bool check_reopen(struct qvalue *args, Error **errp)
{
    const struct qvalue *list = qdict_get(args, "options");
    const struct qmp_place above = {.name = "options"};
    const struct qmp_arg tree = {.name = "options", .type = QMP_DICT};

    for (size_t i = 0; i < list->seq.count; i++) {
        const struct qmp_place at = {.above = &above, .index = i};
        struct qvalue *item = list->seq.items[i];
        if (!qmp_check_value(&tree, item, &at, errp) || !qmp_check_table(add_args, true, item, &at, errp)) {
            return false;
        }
    }
    return true;
}

static bool cmd_blockdev_reopen(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return qmp_blockdev_reopen_nodes(host, qdict_get(args, "options"), errp);
}

static bool cmd_blockdev_set_active(struct host *host, const struct qvalue *args, struct qvalue **reply,
                                    Error **errp)
{
    const char *name = qmp_arg_str(args, "node-name", NULL);
    bool active = qmp_arg_bool(args, "active", true);
    BlockDriverState *bs = name ? bdrv_find_node(host, name) : NULL;

    if (!name) {
        return (active ? bdrv_activate_all(host, errp) : bdrv_inactivate_all(host, errp)) >= 0;
    }
    if (!bs) {
        error_setg(errp, "Failed to find node with node-name='%s'", name);
        return false;
    }
    return (active ? bdrv_activate(bs, errp) : bdrv_inactivate(bs, errp)) >= 0;
}

BlockDriverState *qmp_device_or_node(struct host *host, const struct qvalue *args, Error **errp)
{
    const char *device = qmp_arg_str(args, "device", NULL);
    const char *node = qmp_arg_str(args, "node-name", NULL);
    BlockBackend *blk = device ? blk_by_name(host, device) : NULL;
    BlockDriverState *bs = blk ? blk_bs(blk) : node ? bdrv_find_node(host, node) : NULL;
    if (blk && !bs) {
        error_setg(errp, "Device '%s' has no medium", device);
    } else if (!bs) {
        error_setg(errp, "Cannot find device='%s' nor node-name='%s'", device ? device : "", node ? node : "");
    }
    return bs;
}

static bool cmd_block_resize(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    int64_t size_bytes = qmp_arg_int(args, "size", 0);
    BlockDriverState *bs = qmp_device_or_node(host, args, errp);
    if (!bs) {
        return false;
    }
    return qmp_block_resize_node(bs, size_bytes, errp);
}

static bool cmd_set_threshold(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    const char *name = qmp_arg_str(args, "node-name", NULL);
    BlockDriverState *bs = bdrv_find_node(host, name);
    if (!bs) {
        error_setg(errp, "Device '%s' not found", name);
        return false;
    }
    bdrv_set_write_threshold(bs, (uint64_t)qmp_arg_int(args, "write-threshold", 0));
    return true;
}

const struct qmp_command qmp_block_commands[] = {
    {"blockdev-add", add_args, true, cmd_blockdev_add, "makes a node", NULL},
    {"blockdev-del", del_args, false, cmd_blockdev_del, "removes a node that nobody uses", NULL},
    {"blockdev-reopen", reopen_args, false, cmd_blockdev_reopen,
     "changes options and children of nodes, all or none", check_reopen},
    {"blockdev-set-active", active_args, false, cmd_blockdev_set_active,
     "gives images up to others, or takes them back", NULL},
    {"block_resize", resize_args, false, cmd_block_resize, "changes the length of a disk", NULL},
    {"block-set-write-threshold", threshold_args, false, cmd_set_threshold, "asks for one event beyond an offset",
     NULL},
    {.name = NULL},
};
