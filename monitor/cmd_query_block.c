/*
 * query-block, query-named-block-nodes (reference/block.md 9); query-blockstats is in query_stats.c.
 */
#include "monitor/commands.h"

static const struct qmp_arg flat_args[] = {
    {.name = "flat", .type = QMP_BOOL, .optional = true, .def = "false", .doc = "leave backing images out"},
    {.name = NULL},
};

static const struct qmp_arg stats_args[] = {
    {.name = "query-nodes", .type = QMP_BOOL, .optional = true, .def = "false", .doc = "nodes instead of devices"},
    {.name = NULL},
};

static bool is_visible(const BlockBackend *blk)
{
    return *blk_name(blk) || blk_dev_id(blk);
}

static struct qvalue *backend_info(const BlockBackend *blk)
{
    struct qvalue *info = qvalue_dict();
    BlockDriverState *bs = blk_bs(blk);
    qdict_put(info, "device", qvalue_str(blk_name(blk)));
    if (blk_dev_id(blk)) {
        qdict_put(info, "qdev", qvalue_str(blk_dev_id(blk)));
    }
    qdict_put(info, "removable", qvalue_bool(false));
    qdict_put(info, "locked", qvalue_bool(false));
    if (blk_io_status_is_enabled(blk)) {
        qdict_put(info, "io-status", qvalue_str(block_io_status_name(blk_io_status(blk))));
    }
    if (bs) {
        /* Filters that jobs put in by themselves are hidden. */
        qdict_put(info, "inserted", qmp_node_info(bdrv_skip_implicit_filters(bs), blk, false));
    }
    return info;
}

static bool cmd_query_block(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    *reply = qvalue_list();
    for (BlockBackend *blk = blk_next(host, NULL); blk; blk = blk_next(host, blk)) {
        if (is_visible(blk)) {
            qlist_append(*reply, backend_info(blk));
        }
    }
    return true;
}

static bool cmd_query_nodes(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    bool flat = qmp_arg_bool(args, "flat", false);
    *reply = qvalue_list();
    for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs; bs = bdrv_next_node(host, bs)) {
        qlist_append(*reply, qmp_node_info(bs, NULL, flat));
    }
    return true;
}

const struct qmp_command qmp_query_block_commands[] = {
    {"query-block", QMP_NO_ARGS, false, cmd_query_block, "devices and what is inserted", NULL},
    {"query-named-block-nodes", flat_args, false, cmd_query_nodes, "all nodes, newest first", NULL},
    {"query-blockstats", stats_args, false, qmp_query_blockstats, "what devices did so far", NULL},
    {.name = NULL},
};
