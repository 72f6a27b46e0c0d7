/*
 * Targets whose clusters are larger than what is copied (reference/jobs.md 4.5) [seed b812f67].
 *
 * A target whose backing file is to come later fills up the rest of a cluster with zeroes when a part of it is
 * written for the first time, and they would hide the backing file for ever. So the first copy of each cluster
 * takes all of it, from the whole chain of the source, whatever the bitmap says and whatever sync is.
 */
#include <errno.h>

#include "jobs/mirror_int.h"

/* A target that has no such information has no clusters; any other failure is the job's. */
int mirror_read_target_info(MirrorJob *s)
{
    BlockDriverInfo info = {.cluster_size = 0};
    BlockDriverState *image = bdrv_skip_filters(s->target_bs);
    int ret = bdrv_co_get_info(s->target_bs, &info);

    if (ret < 0 && ret != -ENOTSUP) {
        return ret;
    }
    s->target_cluster = ret == 0 && info.cluster_size > 0 ? info.cluster_size : SIM_SECTOR_BYTES;
    s->target_unit = ret == 0 && info.subcluster_size > 0 ? info.subcluster_size : s->target_cluster;
    s->backing_later = bdrv_backing_filename(image) != NULL && bdrv_cow_child(image) == NULL;
    if (!s->backing_later) {
        return 0;
    }
    HBitmap **bits = s->granularity < s->target_cluster ? &s->cow_done : &s->whole;
    *bits = hbitmap_alloc(s->common.job.host->arena, s->length, __builtin_ctzll((uint64_t)s->granularity));
    if (s->cow_done != NULL) {
        SIM_MARK(mirror_sim(s), mirror_cow);
        s->target_unit = s->target_cluster;
        s->buf_bytes = MAX(s->buf_bytes, s->target_cluster);
    }
    return 0;
}

void mirror_cow_free(MirrorJob *s)
{
    HBitmap **const both[] = {&s->cow_done, &s->whole};

    for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
        if (*both[i] != NULL) {
            hbitmap_free(*both[i]);
            *both[i] = NULL;
        }
    }
}

/* NULL: whatever is written first, the rest of its cluster is as it should be. */
static HBitmap *cow_bits(const MirrorJob *s)
{
    return s->cow_done != NULL ? s->cow_done : s->whole;
}

void mirror_cow_widen(const MirrorJob *s, int64_t *offset, int64_t *bytes)
{
    int64_t start = ROUND_DOWN(*offset, s->target_cluster);
    int64_t end = MIN(ROUND_UP(*offset + *bytes, s->target_cluster), s->length);
    int64_t room;

    if (s->cow_done == NULL ||
        (hbitmap_get(s->cow_done, *offset) && hbitmap_get(s->cow_done, *offset + *bytes - 1))) {
        return;
    }
    /* Part of a cluster would leave zeroes behind, so one goes at least. */
    room = MAX(ROUND_DOWN(MAX(s->max_copy_bytes, *bytes), s->target_cluster), s->target_cluster);
    SIM_ASSERT_LE(room, s->buf_bytes);
    if (end - start > room) {
        SIM_MARK(mirror_sim(s), mirror_cow_cut);
        end = start + room;
    }
    SIM_ASSERT(start <= *offset && end > *offset);
    SIM_MARK(mirror_sim(s), mirror_cow_widened);
    *offset = start;
    *bytes = end - start;
}

bool mirror_cow_fits(const MirrorJob *s, int64_t offset, int64_t bytes)
{
    const HBitmap *bits = cow_bits(s);
    int64_t end = offset + bytes;

    SIM_ASSERT(bytes > 0 && end <= s->length);
    if (bits == NULL) {
        return true;
    }
    return (offset % s->target_cluster == 0 || hbitmap_get(bits, offset)) &&
           (end % s->target_cluster == 0 || end == s->length || hbitmap_get(bits, end - 1));
}

/* Ends that are no chunk's lie in clusters that are marked already. */
void mirror_cow_mark(MirrorJob *s, int64_t offset, int64_t bytes)
{
    int64_t start = ROUND_UP(offset, s->granularity);
    int64_t end = offset + bytes == s->length ? s->length : ROUND_DOWN(offset + bytes, s->granularity);

    if (cow_bits(s) != NULL && end > start) {
        hbitmap_set(cow_bits(s), start, end - start);
    }
}
