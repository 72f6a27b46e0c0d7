/* Bitmaps held against their model. Cost follows what is set or was touched, never the size. */
#include <inttypes.h>
#include <string.h>

#include "check/bitmap_model.h"

/* --- bits -------------------------------------------------------------------------------------------------- */

static bool bits_present(struct bitmap_models *models, const struct bitmap_model *m, int64_t start, int64_t end,
                         const char *op)
{
    int64_t clean;

    end = MIN(end, m->size);
    if (start >= end) {
        return true;
    }
    clean = bdrv_dirty_bitmap_next_zero(m->bitmap, start, end - start);
    if (clean >= 0) {
        bitmap_violate(models, m, "bit-missing", op,
                       "at %" PRId64 ": expected dirty, somebody wrote there and nobody has cleared it since",
                       clean);
    }
    return clean < 0;
}

/* Dirty groups beyond the upper bound: may a request in flight have made them? */
static bool group_allowed(struct bitmap_models *models, const struct bitmap_model *m, const struct flight *except,
                          int64_t start, int64_t end, const char *op)
{
    for (int64_t at = start; at < end; at += m->granularity) {
        if (!bitmap_in_flight(models, m, except, at, at + m->granularity)) {
            bitmap_violate(models, m, "bit-extra", op,
                           "at %" PRId64 ": expected clean, nobody wrote there since it was cleared", at);
            return false;
        }
    }
    return true;
}

/* What of [start, end) neither set covers is for the requests in flight to explain. */
static bool bits_allowed(struct bitmap_models *models, const struct bitmap_model *m, const struct flight *except,
                         int64_t start, int64_t end, const char *op)
{
    while (start < end) {
        const struct range *upper = ranges_next(&m->upper, start);
        const struct range *due = ranges_next(&m->due, start);
        int64_t stop;

        if (upper && upper->start <= start) {
            start = upper->end;
            continue;
        }
        if (due && due->start <= start) {
            start = due->end;
            continue;
        }
        stop = MIN(end, upper ? upper->start : end);
        stop = MIN(stop, due ? due->start : end);
        if (!group_allowed(models, m, except, start, stop, op)) {
            return false;
        }
        start = stop;
    }
    return true;
}

/* The dirty run around or after `at`, as whole groups; false: none before end. */
static bool next_run(const struct bitmap_model *m, int64_t at, int64_t end, int64_t *start, int64_t *stop)
{
    int64_t first = at < end ? bdrv_dirty_bitmap_next_dirty(m->bitmap, at, end - at) : -1;
    int64_t clean;

    if (first < 0) {
        return false;
    }
    clean = bdrv_dirty_bitmap_next_zero(m->bitmap, first, end - first);
    *start = ROUND_DOWN(first, m->granularity);
    *stop = clean >= 0 ? clean : check_group_end(end, m->granularity);
    return true;
}

void bitmap_compare_range(struct bitmap_models *models, struct bitmap_model *m, const struct flight *except,
                          int64_t start, int64_t end, const char *op)
{
    int64_t stop;

    /* one group more on each side: that is where a wrong rounding goes */
    start = MAX(ROUND_DOWN(start, m->granularity) - m->granularity, (int64_t)0);
    end = end < m->size - 2 * m->granularity ? ROUND_UP(end, m->granularity) + m->granularity : m->size;
    for (const struct range *r = ranges_next(&m->lower, start); r && r->start < end;
         r = ranges_next(&m->lower, r->end)) {
        if (!bits_present(models, m, MAX(r->start, start), MIN(r->end, end), op)) {
            return;
        }
    }
    for (int64_t at = start; bitmap_is_bounded(m) && next_run(m, at, end, &at, &stop); at = stop) {
        if (!bits_allowed(models, m, except, at, stop, op)) {
            return;
        }
    }
    if (check_boundary(models->check)->flights <= (except ? 1 : 0)) {
        bitmap_compare_count(models, m, op);
    }
}

/* --- everything -------------------------------------------------------------------------------------------- */

static bool length_is_right(struct bitmap_models *models, const struct bitmap_model *m, const char *op)
{
    int64_t size = bdrv_dirty_bitmap_size(m->bitmap);

    if (size != m->size) {
        bitmap_violate(models, m, "size-wrong", op, "expected %" PRId64 " bytes as its node has; seen %" PRId64,
                       m->size, size);
    }
    return size == m->size;
}

/* Other ways to look at the edges of a dirty run. */
static bool edges_agree(struct bitmap_models *models, const struct bitmap_model *m, int64_t start, int64_t stop,
                        const char *op)
{
    const HBitmap *hb = bdrv_dirty_bitmap_hbitmap(m->bitmap);
    int64_t inside = MIN(stop, m->size) - start;
    int64_t run = 0;

    if (!bdrv_dirty_bitmap_get(m->bitmap, start) || !bdrv_dirty_bitmap_get(m->bitmap, start + inside - 1) ||
        (start > 0 && bdrv_dirty_bitmap_get(m->bitmap, start - 1)) ||
        (stop < m->size && bdrv_dirty_bitmap_get(m->bitmap, stop)) ||
        !hbitmap_status(hb, start, MIN(inside + 1, m->size - start), &run) || run != inside) {
        bitmap_violate(models, m, "search-wrong", op,
                       "the searches find dirty [%" PRId64 ", %" PRId64
                       "), single bits and status do not (run %" PRId64 ")",
                       start, start + inside, run);
        return false;
    }
    return true;
}

/* Looks at the edges of the first runs only: enough for a search that is wrong, cheap when there are many. */
#define RUNS_PROBED 3

static void compare_runs(struct bitmap_models *models, struct bitmap_model *m, const char *op)
{
    int64_t bytes = 0;
    int64_t start;
    int64_t stop = 0;
    int64_t count;
    unsigned runs = 0;

    for (int64_t at = 0; next_run(m, at, m->size, &start, &stop); at = stop) {
        if (start < at || stop <= start) {
            bitmap_violate(models, m, "search-wrong", op,
                           "expected a dirty area at or after %" PRId64 "; seen [%" PRId64 ", %" PRId64 ")", at,
                           start, stop);
            return;
        }
        if ((runs++ < RUNS_PROBED && !edges_agree(models, m, start, stop, op)) ||
            (bitmap_is_bounded(m) && !bits_allowed(models, m, NULL, start, stop, op))) {
            return;
        }
        bytes += stop - start;
    }
    count = check_dirty_count(bytes, stop);
    if (bytes < m->lower.bytes) {
        bitmap_violate(models, m, "search-wrong", op,
                       "expected to come by %" PRId64
                       " dirty bytes, for there is nothing clean in them; seen %" PRId64,
                       m->lower.bytes, bytes);
    } else if (count != bdrv_get_dirty_count(m->bitmap)) {
        bitmap_violate(models, m, "count-wrong", op, "expected %" PRId64 " bytes in dirty groups; seen %" PRId64,
                       count, bdrv_get_dirty_count(m->bitmap));
    }
}

void bitmap_compare(struct bitmap_models *models, struct bitmap_model *m, const char *op)
{
    if (!m->bitmap || !length_is_right(models, m, op)) {
        return;
    }
    bitmap_refresh(models, m);
    for (uint32_t i = 0; i < m->lower.count; i++) {
        if (!bits_present(models, m, m->lower.item[i].start, m->lower.item[i].end, op)) {
            return;
        }
    }
    compare_runs(models, m, op);
    if ((m->blurred || !bitmap_is_bounded(m)) && m->due.count == 0 && bitmap_is_quiet(models, m)) {
        bitmap_adopt(m);
    }
}

/* When the bounds say how many bytes there can be, the count alone tells whether to look closer. */
void bitmap_compare_count(struct bitmap_models *models, struct bitmap_model *m, const char *op)
{
    int64_t count = m->bitmap ? bdrv_get_dirty_count(m->bitmap) : m->lower.bytes;

    if (count < m->lower.bytes || (bitmap_is_bounded(m) && count > m->upper.bytes + m->due.bytes)) {
        bitmap_compare(models, m, op);
    }
}

/* --- flags ------------------------------------------------------------------------------------------------- */

const char *bitmap_flag_name(enum bitmap_flag flag)
{
    static const char *const names[BITMAP_FLAGS] = {
        [BITMAP_BUSY] = "busy",
        [BITMAP_READONLY] = "readonly",
        [BITMAP_PERSISTENT] = "persistent",
        [BITMAP_INCONSISTENT] = "inconsistent",
    };

    return names[flag];
}

static void flag_is(struct bitmap_models *models, const struct bitmap_model *m, const char *op, const char *what,
                    bool expected, bool seen)
{
    if (expected != seen) {
        bitmap_violate(models, m, "flag-wrong", op, "expected %s %s; seen %s", what, expected ? "set" : "not set",
                       seen ? "set" : "not set");
    }
}

void bitmap_compare_flags(struct bitmap_models *models, struct bitmap_model *m, const char *op)
{
    const BdrvDirtyBitmap *b = m->bitmap;
    const char *name = b ? bdrv_dirty_bitmap_name(b) : NULL;

    if (!b) {
        return;
    }
    length_is_right(models, m, op);
    flag_is(models, m, op, "enabled", m->enabled, bdrv_dirty_bitmap_enabled(b));
    flag_is(models, m, op, "recording", m->enabled || (m->successor && m->successor->enabled),
            bdrv_dirty_bitmap_recording(b));
    flag_is(models, m, op, "busy", m->flag[BITMAP_BUSY], bdrv_dirty_bitmap_busy(b));
    flag_is(models, m, op, "readonly", m->flag[BITMAP_READONLY], bdrv_dirty_bitmap_readonly(b));
    flag_is(models, m, op, "persistent", m->flag[BITMAP_PERSISTENT], bdrv_dirty_bitmap_persistent(b));
    flag_is(models, m, op, "inconsistent", m->flag[BITMAP_INCONSISTENT], bdrv_dirty_bitmap_inconsistent(b));
    flag_is(models, m, op, "its name", true, m->name ? name && strcmp(name, m->name) == 0 : !name);
    flag_is(models, m, op, "the granularity it was made with", true,
            m->granularity == (int64_t)bdrv_dirty_bitmap_granularity(b));
}
