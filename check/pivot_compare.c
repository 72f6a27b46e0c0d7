/* target-at-pivot: comparing a mirror's target with its source, where something may have changed since the last
 * look.
 */
#include "check/target_at_pivot.h"

#include <inttypes.h>

#include "block/dirty-bitmap.h"
#include "check/instant.h"
#include "jobs/commit.h"

#define SLICE_BYTES MiB

BlockDriverState *pivot_node(const struct pivot *p, const struct sim_name *name)
{
    return name ? bdrv_find_node(p->host, name->str) : NULL;
}

/* First byte that differs in [start, end), or -1. Holes on both sides cost nothing; the status of a run, which
 * costs its length, is asked once. */
static int64_t first_difference(struct sim *sim, const BlockDriverState *a, const BlockDriverState *b,
                                int64_t start, int64_t end)
{
    int64_t a_end = start, b_end = start; /* of the runs whose status is known */
    bool data_a = false, data_b = false;
    struct payload pa, pb;
    int64_t found = -1;

    payload_init(sim, &pa);
    payload_init(sim, &pb);
    while (start < end && found < 0) {
        int64_t n;

        if (start >= a_end) {
            data_a = bdrv_peek_status(a, start, end - start, &n);
            SIM_ASSERT(n > 0);
            a_end = start + n;
        }
        if (start >= b_end) {
            data_b = bdrv_peek_status(b, start, end - start, &n);
            SIM_ASSERT(n > 0);
            b_end = start + n;
        }
        n = MIN(MIN(a_end, b_end), end) - start;
        if (data_a || data_b) {
            n = MIN(n, SLICE_BYTES);
            if (bdrv_peek(a, start, n, &pa) < 0 || bdrv_peek(b, start, n, &pb) < 0) {
                break; /* no such view: nothing can be said */
            }
            found = payload_first_difference(&pa, &pb, n);
            found = found < 0 ? -1 : start + found;
            payload_clear(&pa);
            payload_clear(&pb);
        }
        start += n;
    }
    payload_clear(&pa);
    payload_clear(&pb);
    return found;
}

/* While the job runs: is the difference one that it knows of, or a guest's that is not over? */
static bool excused(const struct target_at_pivot *state, const Job *job, int64_t offset, int64_t bytes)
{
    BdrvDirtyBitmap *bitmap = mirror_dirty_bitmap(job);

    return !bitmap || bdrv_dirty_bitmap_get(bitmap, offset) || mirror_area_in_flight(job, offset, bytes) ||
           check_flight_writing(check_boundary(state->check), NULL, offset, bytes);
}

void pivot_owe_top(struct target_at_pivot *state, struct pivot *p, BlockDriverState *source)
{
    BlockDriverState *image = bdrv_skip_filters(source);
    struct instant *instant = instant_take(state->check, image, 0);

    if (instant) {
        instant_differing(instant, bdrv_cow_bs(image), &p->owed);
        ranges_add_all(&p->open, &p->owed);
    }
    instant_drop(instant);
}

/* Another medium lies below one of them: neither the mirror nor its bitmap was told. */
bool pivot_has_moved(struct pivot *p, const BlockDriverState *source, const BlockDriverState *target)
{
    p->moved |= !p->switched && ((source && check_below(source).id != p->below[0]) ||
                                 (target && check_below(target).id != p->below[1]));
    return p->moved;
}

/* Looks at what is open. job: excuses what it knows to be different; NULL: nothing is excused. Returns the first
 * difference or -1; what was found equal is closed. */
int64_t pivot_compare(struct target_at_pivot *state, struct pivot *p, const Job *job)
{
    BlockDriverState *a = pivot_node(p, p->source);
    BlockDriverState *b = pivot_node(p, p->target);
    BdrvDirtyBitmap *bitmap = job ? mirror_dirty_bitmap(job) : NULL;
    int64_t unit = bitmap ? (int64_t)bdrv_dirty_bitmap_granularity(bitmap) : SIM_PAGE_BYTES;
    int64_t length;
    int64_t at = 0;
    const struct range *r;

    if (!a || !b || pivot_has_moved(p, a, b) || check_written_beside(a) || check_written_beside(b)) {
        return -1;
    }
    length = MIN(bdrv_getlength_cached(a), bdrv_getlength_cached(b));
    while (at < length && (r = ranges_next(&p->open, at)) != NULL && r->start < length) {
        int64_t start = MAX(at, r->start);
        int64_t end = MIN(r->end, length);
        int64_t different = first_difference(state->check->sim, a, b, start, end);

        if (different < 0) {
            if (p->source_disk && p->target_disk) {
                ranges_remove(&p->open, start, end);
            }
            at = end;
            continue;
        }
        if (!job || !excused(state, job, ROUND_DOWN(different, unit), unit)) {
            return different;
        }
        if (p->source_disk && p->target_disk) {
            ranges_remove(&p->open, start, MAX(start, ROUND_DOWN(different, unit)));
        }
        at = ROUND_DOWN(different, unit) + unit;
    }
    return -1;
}

void pivot_report(struct target_at_pivot *state, const struct pivot *p, const char *rule, const char *phase,
                  int64_t offset)
{
    const struct check_boundary *boundary = check_boundary(state->check);
    BlockDriverState *source = pivot_node(p, p->source);
    BlockDriverState *target = pivot_node(p, p->target);
    char expected[CHECK_CONTENT] = "the source's content";
    char seen[CHECK_CONTENT] = "something else";
    struct violation_where where = {.host = check_host_name(p->host),
                                    .node = p->target ? p->target->str : NULL,
                                    .job = p->id->str,
                                    .job_type = p->type,
                                    .phase = phase,
                                    .driver = target ? bdrv_driver_name(target) : NULL};

    if (source && target) {
        check_content_of_node(boundary, source, offset, expected);
        check_content_of_node(boundary, target, offset, seen);
    }
    check_violate(state->check->set, "target-at-pivot", rule, &where,
                  "job %s, %s: target %s, offset %" PRId64 " (sector %" PRId64
                  "): expected as in source %s %s; seen %s",
                  p->id->str, phase, p->target ? p->target->str : "-", offset, offset / SIM_SECTOR_BYTES,
                  p->source ? p->source->str : "-", expected, seen);
}
