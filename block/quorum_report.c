/* What clients hear of a quorum: votes that failed, and children that were wrong (reference/block.md 7.3). */
#include "block/quorum_int.h"

static uint64_t first_sector(int64_t offset)
{
    return (uint64_t)(offset / SIM_SECTOR_BYTES);
}

static uint64_t sectors(int64_t offset, int64_t bytes)
{
    return (uint64_t)DIV_ROUND_UP(offset + bytes, SIM_SECTOR_BYTES) - first_sector(offset);
}

/* --- QUORUM_FAILURE ----------------------------------------------------------------------------------------- */

/* The device that the node is the root of, else the node. */
static const char *device_or_node_name(const BlockDriverState *bs)
{
    const BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass == &blk_child_root && blk_name(edge->opaque)[0]) {
            return sim_name(bs->host->sim, blk_name(edge->opaque))->str;
        }
    }
    return bs->name->str;
}

static void emit_failure(const struct bdrv_event_limit *limit)
{
    SIM_EMIT(limit->host->sim, limit->host, QUORUM_FAILURE, NULL, SIM_P(limit->who), limit->sector, limit->sectors);
}

void quorum_report_failure(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    struct bdrv_event_limit *limit = &bs->host->graph->quorum_failure;

    SIM_MARK(bs->host->sim, quorum_failed);
    if (!limit->host) {
        bdrv_event_limit_init(limit, bs->host, bs->host->name->hash, emit_failure);
    }
    limit->who = device_or_node_name(bs);
    limit->sector = first_sector(offset);
    limit->sectors = sectors(offset, bytes);
    bdrv_event_limit_send(limit);
}

/* --- QUORUM_REPORT_BAD -------------------------------------------------------------------------------------- */

static void emit_bad(const struct bdrv_event_limit *limit)
{
    SIM_EMIT(limit->host->sim, limit->host, QUORUM_REPORT_BAD, NULL, SIM_P(limit->what), SIM_P(limit->error),
             SIM_P(limit->node), limit->sector, limit->sectors);
}

void quorum_report_bad(const BdrvChild *child, const char *type, int64_t offset, int64_t bytes, int ret)
{
    BlockDriverState *bs = child->bs;

    SIM_ASSERT(ret <= 0);
    SIM_MARK(bs->host->sim, quorum_child_bad);
    if (!bs->report_bad) {
        bs->report_bad = SIM_NEW(bs->host->arena, bdrv_event_limit);
        bdrv_event_limit_init(bs->report_bad, bs->host, bs->entity, emit_bad);
    }
    struct bdrv_event_limit *limit = bs->report_bad;
    limit->what = type;
    limit->error = ret < 0 ? sim_errno_text(ret) : NULL;
    limit->node = bs->name;
    limit->sector = first_sector(offset);
    limit->sectors = sectors(offset, bytes);
    bdrv_event_limit_send(limit);
}
