/* The filter above a mirror's source: passes everything on. The dirty bitmap below it records writes; the filter
 * knows the job, sees guest requests before they reach the source, and is what the job replaces (reference/jobs.md
 * 4.1, 4.6). */
#include "jobs/mirror_int.h"

struct mirror_top {
    MirrorJob *job; /* NULL before the job is set up and after it has finished */
    bool into_chain;
};

void mirror_filter_set_into_chain(BlockDriverState *filter)
{
    struct mirror_top *top = filter->opaque;

    SIM_ASSERT(filter->backing == NULL);
    top->into_chain = true;
}

void mirror_filter_set_job(BlockDriverState *filter, MirrorJob *s)
{
    struct mirror_top *top = filter->opaque;

    SIM_ASSERT(s == NULL || top->job == NULL);
    top->job = s;
}

/* After a guest request that changed the source, whatever its result. */
static void mirror_top_changed(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    struct mirror_top *top = bs->opaque;
    MirrorJob *s = top->job;

    if (s == NULL) {
        return;
    }
    s->actively_synced = false;
    if (s->in_flight > 0 && hbitmap_next_dirty(s->in_flight_map, offset, bytes) >= 0) {
        SIM_MARK(mirror_sim(s), mirror_redirty_in_flight);
    }
}

static int mirror_top_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out,
                                uint32_t flags)
{
    return bdrv_co_preadv(bs->backing, offset, bytes, out, flags);
}

static int mirror_top_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                                 uint32_t flags)
{
    int ret = bdrv_co_pwritev(bs->backing, offset, bytes, in, flags);

    mirror_top_changed(bs, offset, bytes);
    return ret;
}

static int mirror_top_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    int ret = bdrv_co_pwrite_zeroes(bs->backing, offset, bytes, flags);

    mirror_top_changed(bs, offset, bytes);
    return ret;
}

static int mirror_top_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int ret = bdrv_co_pdiscard(bs->backing, offset, bytes);

    mirror_top_changed(bs, offset, bytes);
    return ret;
}

/* A guest's flush goes to the source only: the target is flushed by the job. */
static int mirror_top_co_flush(BlockDriverState *bs)
{
    return bs->backing != NULL ? bdrv_co_flush(bs->backing->bs) : 0;
}

static int64_t mirror_top_co_getlength(BlockDriverState *bs)
{
    return bdrv_co_getlength(bs->backing->bs);
}

static int mirror_top_co_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    return bdrv_co_get_info(bs->backing->bs, info);
}

/* Of an active commit: guests write through to the source, but nothing they hold may speak against the job's
 * writing to what the source has for a backing file. */
static void mirror_top_child_perm(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm,
                                  uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    const struct mirror_top *top = bs->opaque;

    if (!top->into_chain) {
        bdrv_default_perms(bs, child, role, perm, shared, nperm, nshared);
        return;
    }
    *nperm = perm & ~(uint64_t)BLK_PERM_CONSISTENT_READ;
    *nshared = BLK_PERM_ALL;
}

const BlockDriver bdrv_mirror_top = {
    .format_name = "mirror_top",
    .doc = "filter that a mirror job inserts above its source",
    .instance_size = sizeof(struct mirror_top),
    .is_filter = true,
    .filtered_child_is_backing = true,
    .internal = true,
    .bdrv_co_preadv = mirror_top_co_preadv,
    .bdrv_co_pwritev = mirror_top_co_pwritev,
    .bdrv_co_pwrite_zeroes = mirror_top_co_pwrite_zeroes,
    .bdrv_co_pdiscard = mirror_top_co_pdiscard,
    .bdrv_co_flush = mirror_top_co_flush,
    .bdrv_co_getlength = mirror_top_co_getlength,
    .bdrv_co_get_info = mirror_top_co_get_info,
    .bdrv_child_perm = mirror_top_child_perm,
};
