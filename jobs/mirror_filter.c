/* The filter above a mirror's source: passes everything on, and has it made on the target as well if that is the
 * mode. The bitmap below it records; the filter is what the job replaces (reference/jobs.md 4.1, 4.6). */
#include "jobs/mirror_int.h"

struct mirror_top {
    MirrorJob *job; /* NULL before the bitmap is filled and after the job has finished */
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

/* --- requests -------------------------------------------------------------------------------------------- */

int mirror_source_request(BlockDriverState *filter, enum mirror_method method, int64_t offset, int64_t bytes,
                          const struct payload *data, uint32_t flags)
{
    switch (method) {
    case MIRROR_METHOD_ZERO:
        return bdrv_co_pwrite_zeroes(filter->backing, offset, bytes, flags);
    case MIRROR_METHOD_DISCARD:
        return bdrv_co_pdiscard(filter->backing, offset, bytes);
    default:
        return bdrv_co_pwritev(filter->backing, offset, bytes, data, flags);
    }
}

/* After a guest request that changed the source, whatever its result. */
static void mirror_top_changed(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    const struct mirror_top *top = bs->opaque;
    MirrorJob *s = top->job;

    if (s == NULL) {
        return;
    }
    s->actively_synced = false;
    mirror_disturb(s, offset, bytes);
    if (s->in_flight > 0 && mirror_area_in_flight(&s->common.job, offset, bytes)) {
        SIM_MARK(mirror_sim(s), mirror_redirty_in_flight);
    }
}

/* The mode is what it was when the request came. */
static int mirror_top_change(BlockDriverState *bs, enum mirror_method method, int64_t offset, int64_t bytes,
                             const struct payload *data, uint32_t flags)
{
    const struct mirror_top *top = bs->opaque;
    int ret;

    if (mirror_takes_write(top->job, offset, bytes)) {
        return mirror_active_write(top->job, method, offset, bytes, data, flags);
    }
    ret = mirror_source_request(bs, method, offset, bytes, data, flags);
    mirror_top_changed(bs, offset, bytes);
    return ret;
}

static int mirror_top_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out,
                                uint32_t flags)
{
    return bdrv_co_preadv(bs->backing, offset, bytes, out, flags);
}

static int mirror_top_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                                 uint32_t flags)
{
    return mirror_top_change(bs, MIRROR_METHOD_COPY, offset, bytes, in, flags);
}

static int mirror_top_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    return mirror_top_change(bs, MIRROR_METHOD_ZERO, offset, bytes, NULL, flags);
}

static int mirror_top_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return mirror_top_change(bs, MIRROR_METHOD_DISCARD, offset, bytes, NULL, 0);
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
