/*
 * Counts put right one by one (reference/bitmaps-qcow2.md 5.8). Raising and lowering go through the caches as
 * those of a write do; what falls to 0 is discarded on the host once that is stable.
 */

#include "block/qcow2_check_int.h"

int qcow2_repair_settle(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    /* counts first, also where lazy refcounts would leave them; then freed clusters are free */
    int ret = qcow2_cache_flush(bs, s->refcount_block_cache);

    if (ret == 0) {
        ret = qcow2_cache_flush(bs, s->l2_table_cache);
    }
    if (ret == 0) {
        ret = qcow2_flush_caches(bs);
    }
    /* tables are repaired in the file, below the caches */
    if (ret == 0) {
        ret = qcow2_cache_empty(bs, s->l2_table_cache);
    }
    return ret < 0 ? ret : qcow2_cache_empty(bs, s->refcount_block_cache);
}

int qcow2_repair_count(struct qcow2_check *c, uint64_t cluster, uint64_t stored, uint64_t counted)
{
    const BDRVQcow2State *s = c->bs->opaque;
    bool lower = stored > counted;

    SIM_ASSERT(stored != counted && stored > 0);
    SIM_ASSERT(counted <= s->refcount_max);
    qcow2_check_say(c->res, "Repairing cluster %llu refcount=%llu reference=%llu", (unsigned long long)cluster,
                    (unsigned long long)stored, (unsigned long long)counted);
    return qcow2_update_cluster_refcount(c->bs, cluster, lower ? stored - counted : counted - stored, lower,
                                         QCOW2_DISCARD_ALWAYS);
}
