/*
 * Feature bits of a qcow2 image that come and go while it is in use (reference/bitmaps-qcow2.md 5.1, 5.5, 5.8).
 * Each is one write of eight bytes, stable before anybody relies on it.
 */
#include <errno.h>

#include "block/qcow2_open.h"

#define INCOMPATIBLE_FEATURES_AT 72

/* What stands in memory stays as it was unless the write has succeeded. */
static int set_features(BlockDriverState *bs, uint64_t features)
{
    BDRVQcow2State *s = bs->opaque;
    uint8_t bytes[8];

    SIM_ASSERT(s->qcow_version >= 3);
    SIM_ASSERT(bdrv_is_writable(bs));
    qcow2_put_be64(bytes, features);
    int ret = qcow2_pwrite_sync(bs, INCOMPATIBLE_FEATURES_AT, sizeof(bytes), bytes);
    if (ret == 0) {
        s->incompatible_features = features;
    }
    s->features_unsure = ret < 0;
    return ret;
}

int qcow2_mark_dirty(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;

    /* After a mark_clean that failed the file may say "clean", however much we still think that it does not. */
    if ((s->incompatible_features & QCOW2_INCOMPAT_DIRTY) && !s->features_unsure) {
        return 0;
    }
    SIM_MARK(bs->host->sim, qcow2_marked_dirty);
    return set_features(bs, s->incompatible_features | QCOW2_INCOMPAT_DIRTY);
}

/* The counts, too, which lazy refcounts leave behind. */
static int flush_everything(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;

    int ret = qcow2_cache_flush(bs, s->l2_table_cache);
    if (ret == 0) {
        ret = qcow2_cache_flush(bs, s->refcount_block_cache);
    }
    return ret < 0 ? ret : qcow2_flush_caches(bs);
}

int qcow2_mark_clean(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;

    bool dirty = (s->incompatible_features & QCOW2_INCOMPAT_DIRTY) || s->features_unsure;

    if (!dirty || s->needs_repair) {
        return 0;
    }
    int ret = flush_everything(bs);
    return ret < 0 ? ret : set_features(bs, s->incompatible_features & ~(uint64_t)QCOW2_INCOMPAT_DIRTY);
}

int qcow2_mark_corrupt(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;

    if (s->qcow_version < 3 || (s->incompatible_features & QCOW2_INCOMPAT_CORRUPT)) {
        return 0; /* version 2 has nowhere to say it */
    }
    SIM_MARK(bs->host->sim, qcow2_marked_corrupt);
    return set_features(bs, s->incompatible_features | QCOW2_INCOMPAT_CORRUPT);
}

int qcow2_mark_consistent(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;

    if (!(s->incompatible_features & QCOW2_INCOMPAT_CORRUPT)) {
        return 0;
    }
    int ret = flush_everything(bs);
    return ret < 0 ? ret : set_features(bs, s->incompatible_features & ~(uint64_t)QCOW2_INCOMPAT_CORRUPT);
}
