/*
 * query-block, query-named-block-nodes, query-blockstats (reference/block.md 4.4, 9).
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

/* --- statistics ------------------------------------------------------------------------------------------ */

static void put_u64(struct qvalue *dict, const char *key, uint64_t value)
{
    qdict_put(dict, key, qvalue_int((int64_t)MIN(value, (uint64_t)INT64_MAX)));
}

/* A zero write counts as a write. */
static uint64_t writes(const uint64_t count[SIM_OP_COUNT])
{
    return count[SIM_OP_WRITE] + count[SIM_OP_WRITE_ZEROES];
}

static void put_operations(struct qvalue *stats, const char *const key[4], const uint64_t count[SIM_OP_COUNT])
{
    put_u64(stats, key[0], count[SIM_OP_READ]);
    put_u64(stats, key[1], writes(count));
    put_u64(stats, key[2], count[SIM_OP_FLUSH]);
    put_u64(stats, key[3], count[SIM_OP_DISCARD]);
}

static struct qvalue *stats_info(const struct block_acct *acct, const BlockDriverState *bs)
{
    static const char *const done[] = {"rd_operations", "wr_operations", "flush_operations", "unmap_operations"};
    static const char *const failed[] = {"failed_rd_operations", "failed_wr_operations", "failed_flush_operations",
                                         "failed_unmap_operations"};
    static const char *const invalid[] = {"invalid_rd_operations", "invalid_wr_operations",
                                          "invalid_flush_operations", "invalid_unmap_operations"};
    struct qvalue *stats = qvalue_dict();
    put_u64(stats, "rd_bytes", acct->bytes[SIM_OP_READ]);
    put_u64(stats, "wr_bytes", writes(acct->bytes));
    put_u64(stats, "unmap_bytes", acct->bytes[SIM_OP_DISCARD]);
    put_operations(stats, done, acct->ops);
    put_u64(stats, "wr_highest_offset", bs ? bdrv_get_wr_highest_offset(bs) : 0);
    put_operations(stats, failed, acct->failed);
    put_operations(stats, invalid, acct->invalid);
    qdict_put(stats, "account_invalid", qvalue_bool(true));
    qdict_put(stats, "account_failed", qvalue_bool(true));
    return stats;
}

static void put_node_stats(struct qvalue *entry, BlockDriverState *bs, const struct block_acct *acct)
{
    static const struct block_acct none;
    BlockDriverState *below = bs ? bdrv_primary_bs(bs) : NULL;
    BlockDriverState *backing = bs ? bdrv_cow_bs(bs) : NULL;
    if (bs) {
        qdict_put(entry, "node-name", qvalue_str(bdrv_get_node_name(bs)));
    }
    qdict_put(entry, "stats", stats_info(acct ? acct : &none, bs));
    if (below) {
        struct qvalue *parent = qvalue_dict(); /* QMP's word for what is below */
        put_node_stats(parent, below, NULL);
        qdict_put(entry, "parent", parent);
    }
    if (backing) {
        struct qvalue *inner = qvalue_dict();
        put_node_stats(inner, backing, NULL);
        qdict_put(entry, "backing", inner);
    }
}

static struct qvalue *backend_stats(BlockBackend *blk)
{
    struct qvalue *entry = qvalue_dict();
    BlockDriverState *bs = blk_bs(blk);
    qdict_put(entry, "device", qvalue_str(blk_name(blk)));
    if (blk_dev_id(blk)) {
        qdict_put(entry, "qdev", qvalue_str(blk_dev_id(blk)));
    }
    put_node_stats(entry, bs ? bdrv_skip_implicit_filters(bs) : NULL, blk_get_stats(blk));
    return entry;
}

static bool cmd_query_blockstats(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    *reply = qvalue_list();
    if (qmp_arg_bool(args, "query-nodes", false)) {
        for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs; bs = bdrv_next_node(host, bs)) {
            struct qvalue *entry = qvalue_dict();
            put_node_stats(entry, bs, NULL);
            qlist_append(*reply, entry);
        }
        return true;
    }
    for (BlockBackend *blk = blk_next(host, NULL); blk; blk = blk_next(host, blk)) {
        if (is_visible(blk)) {
            qlist_append(*reply, backend_stats(blk));
        }
    }
    return true;
}

const struct qmp_command qmp_query_block_commands[] = {
    {"query-block", QMP_NO_ARGS, false, cmd_query_block, "devices and what is inserted", NULL},
    {"query-named-block-nodes", flat_args, false, cmd_query_nodes, "all nodes, newest first", NULL},
    {"query-blockstats", stats_args, false, cmd_query_blockstats, "what devices did so far", NULL},
    {.name = NULL},
};
