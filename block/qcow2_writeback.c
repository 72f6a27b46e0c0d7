/*
 * qcow2: writing cached tables in the order that keeps the image whole at every instant (5.5, 6).
 *
 *     l2_table_cache --depends on--> refcount_block_cache     entries name clusters: counts first
 *     refcount_block_cache --depends on--> l2_table_cache     entries were dropped: entries first
 *
 * Never both at once: setting one while the other is pending writes that one out first. A dependency is kept on
 * every way to the file, eviction too, because all of them end in qcow2_cache_write_table. What could not be
 * written stays dirty, dependencies that could not be met stay in force: the next flush tries again.
 */
#include <errno.h>

#include "block/qcow2_cache_int.h"

/* The guest's data is stable. */
static int flush_data(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;

    int ret = has_data_file(bs) ? bdrv_co_flush(s->data_file->bs) : 0;
    return ret < 0 ? ret : bdrv_co_flush(bs->file->bs);
}

/* With lazy refcounts nobody waits for the counts: instead the image says that they cannot be trusted. */
static int mark_lazy(BlockDriverState *bs, const Qcow2Cache *c)
{
    const BDRVQcow2State *s = bs->opaque;

    if (c != s->l2_table_cache || !s->use_lazy_refcounts || TAILQ_EMPTY(&s->refcount_block_cache->dirty)) {
        return 0;
    }
    return qcow2_mark_dirty(bs);
}

/* What has to be stable before any table of c is. */
static int settle(BlockDriverState *bs, Qcow2Cache *c)
{
    int ret = mark_lazy(bs, c);
    if (ret == 0 && c->other != NULL) {
        SIM_ASSERT(c->other->other != c);
        ret = qcow2_cache_flush(bs, c->other);
        SIM_ASSERT(ret < 0 || c->other == NULL);
    }
    if (ret == 0 && c->depends_on_flush) {
        ret = flush_data(bs);
        if (ret == 0) {
            c->depends_on_flush = false;
        }
    }
    return ret;
}

int qcow2_cache_write_table(BlockDriverState *bs, Qcow2Cache *c, struct qcow2_table *t)
{
    const BDRVQcow2State *s = bs->opaque;
    bool is_l2 = c == s->l2_table_cache;

    SIM_ASSERT(t->cache == c && !t->stale);
    if (!t->dirty) {
        return 0;
    }
    int ret = settle(bs, c);
    if (ret == 0) {
        ret = qcow2_pre_write_overlap_check(bs, is_l2 ? QCOW2_OL_ACTIVE_L2 : QCOW2_OL_REFCOUNT_BLOCK, t->offset,
                                            c->table_bytes, false);
    }
    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(bs->file->bs, is_l2 ? BLKDBG_L2_UPDATE : BLKDBG_REFBLOCK_UPDATE);
    ret = qcow2_pwrite(bs, t->offset, c->table_bytes, t->data);
    if (ret < 0) {
        return ret;
    }
    t->dirty = false;
    TAILQ_REMOVE(&c->dirty, t, dirty_list);
    return 0;
}

int qcow2_cache_write(BlockDriverState *bs, Qcow2Cache *c)
{
    struct qcow2_table *t;

    while ((t = TAILQ_FIRST(&c->dirty)) != NULL) {
        int ret = qcow2_cache_write_table(bs, c, t);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* A flush of the file has succeeded while c was clean: nobody waits for it any more. */
static void now_stable(BDRVQcow2State *s, const Qcow2Cache *c)
{
    if (s->l2_table_cache != NULL && s->l2_table_cache->other == c) {
        s->l2_table_cache->other = NULL;
    }
    if (s->refcount_block_cache != NULL && s->refcount_block_cache->other == c) {
        s->refcount_block_cache->other = NULL;
    }
}

int qcow2_cache_flush(BlockDriverState *bs, Qcow2Cache *c)
{
    BDRVQcow2State *s = bs->opaque;

    int ret = qcow2_cache_write(bs, c);
    if (ret == 0) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (ret < 0) {
        return ret;
    }
    SIM_ASSERT(TAILQ_EMPTY(&c->dirty));
    now_stable(s, c);
    if (!has_data_file(bs)) {
        /* The data is in the same file, and whoever asked for its flush had written it before. */
        s->l2_table_cache->depends_on_flush = false;
        s->refcount_block_cache->depends_on_flush = false;
    }
    return 0;
}

int qcow2_cache_set_dependency(BlockDriverState *bs, Qcow2Cache *c, Qcow2Cache *on)
{
    SIM_ASSERT(c != on);
    if (on->other == c) {
        SIM_MARK(bs->host->sim, qcow2_dependency_circle);
        int ret = qcow2_cache_flush(bs, c);
        if (ret < 0) {
            return ret;
        }
        SIM_ASSERT(on->other == NULL);
    }
    c->other = on;
    return 0;
}

void qcow2_cache_depends_on_flush(Qcow2Cache *c)
{
    c->depends_on_flush = true;
}

/* With lazy refcounts, but only the dirty bit says that nobody needs them. */
static bool counts_may_wait(const BDRVQcow2State *s)
{
    return s->use_lazy_refcounts && (s->incompatible_features & QCOW2_INCOMPAT_DIRTY) && !s->features_unsure;
}

/* Who may write beyond the end, an image that has this one for its file, makes the disk longer without a truncate.
 * The header learns of it here, or what was flushed would be cut off by the next open. */
static int follow_length(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    if (s->header_length_bytes != bs->total_bytes) {
        SIM_MARK(bs->host->sim, qcow2_grown_by_writes);
        s->header_unsure = true;
        s->l1_vm_state_index = (uint32_t)size_to_l1(s, (uint64_t)bs->total_bytes);
    }
    return qcow2_header_make_sure(bs);
}

/* The tables come first: writing them is what finds out that something else must be. */
int qcow2_flush_caches(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;

    int ret = follow_length(bs);
    if (ret == 0) {
        ret = qcow2_cache_write(bs, s->l2_table_cache);
    }
    if (ret == 0 && !counts_may_wait(s)) {
        ret = qcow2_cache_write(bs, s->refcount_block_cache);
    }
    if (ret == 0) {
        ret = flush_data(bs);
    }
    if (ret < 0) {
        return ret;
    }
    BDRVQcow2State *state = bs->opaque;
    now_stable(state, s->l2_table_cache);
    if (TAILQ_EMPTY(&s->refcount_block_cache->dirty)) {
        now_stable(state, s->refcount_block_cache);
    }
    s->l2_table_cache->depends_on_flush = false;
    s->refcount_block_cache->depends_on_flush = false;
    qcow2_freed_stable(bs);
    return 0;
}
