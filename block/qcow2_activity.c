/*
 * Giving a qcow2 image up and taking it back (reference/block.md 8, bitmaps-qcow2.md 4.6), and forgetting tables
 * that nobody uses. Whoever is inactive may be reading what another process writes: it writes nothing, and believes
 * none of what it has cached once it becomes active.
 */
#include <errno.h>

#include "block/qcow2_open.h"

/* --- unused tables ------------------------------------------------------------------------------------------- */

static void clean_unused(void *opaque)
{
    BlockDriverState *bs = opaque;
    BDRVQcow2State *s = bs->opaque;

    qcow2_cache_clean_unused(bs, s->l2_table_cache);
    qcow2_cache_clean_unused(bs, s->refcount_block_cache);
    qcow2_cache_clean_start(bs);
}

void qcow2_cache_clean_start(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    struct sim *sim = bs->host->sim;

    if (s->cache_clean_interval_s == 0) {
        return;
    }
    int64_t wait_ns = (int64_t)s->cache_clean_interval_s * NS_PER_S;
    SIM_ASSERT(wait_ns > 0);
    sim_timer_init(&s->cache_clean_timer, clean_unused, bs);
    s->cache_clean_timer.idle = true;
    s->cache_clean_timer.host = bs->host->number;
    sim_timer_arm(sim, &s->cache_clean_timer, sim_now(sim) + MIN(wait_ns, INT64_MAX - sim_now(sim)), bs->entity);
}

void qcow2_cache_clean_stop(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    if (s->cache_clean_timer.fn != NULL && sim_timer_queued(&s->cache_clean_timer)) {
        sim_timer_disarm(bs->host->sim, &s->cache_clean_timer);
    }
}

/* --- giving up ------------------------------------------------------------------------------------------------ */

int qcow2_make_stable(BlockDriverState *bs)
{
    SIM_ASSERT(bdrv_is_writable(bs));
    int ret = qcow2_flush_caches(bs);
    return ret < 0 ? ret : qcow2_mark_clean(bs);
}

/* Those that migrate were not stored, and stay: once the image is ours again they must not stop its guest. */
static void make_rest_writable(BlockDriverState *bs)
{
    BdrvDirtyBitmap *bitmap = NULL;

    while ((bitmap = bdrv_dirty_bitmap_next(bs, bitmap)) != NULL) {
        if (bdrv_dirty_bitmap_readonly(bitmap)) {
            bdrv_dirty_bitmap_set_readonly(bitmap, false);
        }
    }
}

/* Bitmaps are stored while the image can still be written, and forgotten once nothing can fail any more: a node
 * that stays active must not write under stored bitmaps that look valid [hazard, 8.4]. If they cannot be marked in
 * use again they stay readonly, and refuse guest writes. */
int qcow2_co_inactivate(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    int ret = bdrv_check_inactivate_dirty_bitmaps(bs, NULL);
    if (ret == 0 && qcow2_usable(bs) && bdrv_is_read_only(bs)) {
        bdrv_release_persistent_dirty_bitmaps(bs); /* they are in the image as they are, and come back from there */
    }
    if (!qcow2_usable(bs) || !bdrv_is_writable(bs)) {
        return ret; /* nothing of ours is in the image */
    }
    if (ret == 0) {
        ret = bdrv_co_reopen_dirty_bitmaps_ro(bs, NULL);
    }
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&s->lock);
    ret = qcow2_make_stable(bs);
    co_mutex_unlock(&s->lock);
    if (ret == 0) {
        bdrv_release_persistent_dirty_bitmaps(bs);
        make_rest_writable(bs);
    } else {
        SIM_MARK(bs->host->sim, qcow2_not_given_up);
        bdrv_co_reopen_dirty_bitmaps_rw(bs, NULL);
    }
    return ret;
}

/* --- taking back ---------------------------------------------------------------------------------------------- */

int qcow2_co_invalidate_cache(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    Error *local = NULL;

    SIM_ASSERT(LIST_EMPTY(&s->cluster_allocs) && LIST_EMPTY(&s->data_uses));
    co_mutex_lock(&s->lock);
    qcow2_forget_image(bs);
    int ret = qcow2_open_image(bs, bs->options, &local);
    s->unusable = ret < 0;
    co_mutex_unlock(&s->lock);
    if (ret < 0) {
        SIM_MARK(bs->host->sim, qcow2_not_reactivated);
        error_prepend(&local, "Could not reopen qcow2 layer: ");
        error_propagate(errp, local);
    }
    return ret;
}
