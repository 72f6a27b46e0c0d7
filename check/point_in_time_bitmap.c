/*
 * target-point-in-time: the bitmap of a backup lets the next one be right (reference/jobs.md 5.4). However the job
 * ended, it holds what was written since the instant; and, where it is to say what the target lacks, that.
 */
#include <inttypes.h>
#include <stdio.h>

#include "check/point_in_time.h"

/* The first byte where bs shows something else and no bit is set, or -1. */
static int64_t unmarked_difference(const struct point_in_time *state, const struct instant *instant,
                                   const BlockDriverState *bs, const struct ranges *bits, bool guests)
{
    int64_t at = 0;

    while (at < instant->length) {
        int64_t found = instant_difference_except(instant, bs, at, INT64_MAX, bits);
        const struct flight *f = found >= 0 && guests
                                     ? check_flight_writing(check_boundary(state->check), NULL,
                                                            ROUND_DOWN(found, SIM_SECTOR_BYTES), SIM_SECTOR_BYTES)
                                     : NULL;

        if (!f) {
            return found;
        }
        at = MAX(f->offset + f->bytes, found + 1); /* marked when it completes */
    }
    return -1;
}

static void violate(struct point_in_time *state, const struct pit_job *p, const BlockDriverState *bs,
                    int64_t offset, const char *op)
{
    char text[PIT_TEXT + 64], what[PIT_TEXT];

    snprintf(text, sizeof(text), "bitmap %s has no bit of what was %s: %s", p->bitmap, op,
             pit_describe(state, p->instant, bs, offset, what));
    pit_violate(state, p->host, p->id, "bitmap-lost", "completed", p->source, op, text);
}

void pit_bitmap_look(struct point_in_time *state, const struct pit_job *p, bool success)
{
    BlockDriverState *source = p->bitmap && !p->lost ? pit_node(p->host, p->source) : NULL;
    const BlockDriverState *target = pit_node(p->host, p->target);
    const BdrvDirtyBitmap *bitmap = source ? bdrv_find_dirty_bitmap(source, p->bitmap) : NULL;
    bool owes = !success && (p->mode == BITMAP_SYNC_ALWAYS || p->sync == MIRROR_SYNC_BITMAP ||
                             p->sync == MIRROR_SYNC_INCREMENTAL);
    struct ranges bits;
    const struct range *r;
    int64_t found = -1;

    if (!bitmap || pit_is_beside(source) || (target && pit_is_beside(target))) {
        return;
    }
    ranges_init(state->check->arena, &bits);
    check_read_bits(bitmap, &bits);
    if (p->recording && !p->discards_source) {
        found = unmarked_difference(state, p->instant, source, &bits, true);
    }
    if (found >= 0) {
        violate(state, p, source, found, "written");
    }
    found = -1;
    for (int64_t at = 0; owes && target && found < 0 && (r = ranges_next(&p->promised, at)) != NULL; at = r->end) {
        found = instant_difference_except(p->instant, target, r->start, r->end, &bits);
    }
    if (found >= 0) {
        violate(state, p, target, found, "not-copied");
    }
    ranges_free(&bits);
}
