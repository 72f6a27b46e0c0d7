/*
 * query-blockstats (reference/block.md 4.4): what devices counted, and of each node the highest write.
 *
 *     device:  stats of the device, its node; "parent" and "backing" below, implicit filters left out
 *     node:    no counters; "parent" below, every filter shown
 */
#include "monitor/commands.h"

static void put_u64(struct qvalue *dict, const char *key, uint64_t value)
{
    qdict_put(dict, key, qvalue_int((int64_t)MIN(value, (uint64_t)INT64_MAX)));
}

/* One count by operation, under the four names of a family: "failed_" "rd" "_operations". */
static void put_counts(struct qvalue *stats, const char *prefix, const char *suffix,
                       const uint64_t count[SIM_OP_COUNT], bool flush)
{
    const struct {
        const char *word;
        uint64_t value;
    } rows[] = {
        {"rd", count[SIM_OP_READ]},
        {"wr", count[SIM_OP_WRITE] + count[SIM_OP_WRITE_ZEROES]}, /* a zero write is a write */
        {"flush", count[SIM_OP_FLUSH]},
        {"unmap", count[SIM_OP_DISCARD]},
    };
    char key[40];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (flush || strcmp(rows[i].word, "flush") != 0) {
            snprintf(key, sizeof(key), "%s%s%s", prefix, rows[i].word, suffix);
            put_u64(stats, key, rows[i].value);
        }
    }
}

static struct qvalue *stats_info(const struct block_acct *acct, int64_t now_ns, uint64_t wr_highest_offset)
{
    static const uint64_t none[SIM_OP_COUNT];
    struct qvalue *stats = qvalue_dict();
    uint64_t total_ns[SIM_OP_COUNT];

    for (size_t i = 0; i < SIM_OP_COUNT; i++) {
        total_ns[i] = acct ? (uint64_t)acct->total_ns[i] : 0;
    }
    put_counts(stats, "", "_bytes", acct ? acct->bytes : none, false);
    put_counts(stats, "", "_operations", acct ? acct->ops : none, true);
    put_counts(stats, "", "_total_time_ns", total_ns, true);
    put_u64(stats, "wr_highest_offset", wr_highest_offset);
    put_counts(stats, "", "_merged", none, false); /* devices do not merge requests */
    if (acct && acct->last_access_ns > 0) {
        put_u64(stats, "idle_time_ns", (uint64_t)(now_ns - acct->last_access_ns));
    }
    put_counts(stats, "failed_", "_operations", acct ? acct->failed : none, true);
    put_counts(stats, "invalid_", "_operations", acct ? acct->invalid : none, true);
    qdict_put(stats, "account_invalid", qvalue_bool(acct && !acct->ignore_invalid));
    qdict_put(stats, "account_failed", qvalue_bool(acct && !acct->ignore_failed));
    qdict_put(stats, "timed_stats", qvalue_list());
    return stats;
}

/* Where the node's data is: its primary child if that holds any, else the only one that does. */
static BlockDriverState *storage_of(const BlockDriverState *bs)
{
    BdrvChild *primary = bdrv_primary_child(bs);
    BdrvChild *found = NULL;

    if (primary && (bdrv_child_role(primary) & (BDRV_CHILD_DATA | BDRV_CHILD_FILTERED))) {
        return bdrv_child_bs(primary);
    }
    for (BdrvChild *child = bdrv_first_child(bs); child; child = bdrv_next_child(child)) {
        if (bdrv_child_role(child) & BDRV_CHILD_DATA) {
            if (found) {
                return NULL;
            }
            found = child;
        }
    }
    return found ? bdrv_child_bs(found) : NULL;
}

/* acct NULL: no device right above. */
static void put_node(struct qvalue *entry, BlockDriverState *bs, const struct block_acct *acct, int64_t now_ns,
                     bool of_device)
{
    if (bs && of_device) {
        bs = bdrv_skip_implicit_filters(bs);
    }
    if (!bs) {
        qdict_put(entry, "stats", stats_info(acct, now_ns, 0));
        return;
    }
    BlockDriverState *storage = storage_of(bs);
    BlockDriverState *below = of_device ? bdrv_filter_or_cow_bs(bs) : NULL;
    qdict_put(entry, "node-name", qvalue_str(bdrv_get_node_name(bs)));
    qdict_put(entry, "stats", stats_info(acct, now_ns, bdrv_get_wr_highest_offset(bs)));
    if (storage) {
        struct qvalue *inner = qvalue_dict(); /* "parent" is QMP's word for what is below */
        put_node(inner, storage, NULL, now_ns, of_device);
        qdict_put(entry, "parent", inner);
    }
    if (below) {
        struct qvalue *inner = qvalue_dict(); /* a filter's child, too: as it has always been shown */
        put_node(inner, below, NULL, now_ns, of_device);
        qdict_put(entry, "backing", inner);
    }
}

static struct qvalue *backend_stats(BlockBackend *blk)
{
    struct qvalue *entry = qvalue_dict();

    qdict_put(entry, "device", qvalue_str(blk_name(blk)));
    if (blk_dev_id(blk)) {
        qdict_put(entry, "qdev", qvalue_str(blk_dev_id(blk)));
    }
    put_node(entry, blk_bs(blk), blk_get_stats(blk), sim_now(blk_host(blk)->sim), true);
    return entry;
}

bool qmp_query_blockstats(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    *reply = qvalue_list();
    if (qmp_arg_bool(args, "query-nodes", false)) {
        for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs; bs = bdrv_next_node(host, bs)) {
            struct qvalue *entry = qvalue_dict();
            put_node(entry, bs, NULL, sim_now(host->sim), false);
            qlist_append(*reply, entry);
        }
        return true;
    }
    for (BlockBackend *blk = blk_next(host, NULL); blk; blk = blk_next(host, blk)) {
        if (*blk_name(blk) || blk_dev_id(blk)) {
            qlist_append(*reply, backend_stats(blk));
        }
    }
    return true;
}
