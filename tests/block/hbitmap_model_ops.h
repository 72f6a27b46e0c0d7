/*
 * What the model test does to an HBitmap and its model at once: what is picked, ranges, searches, iterating,
 * merging. For one test file: everything here works on its one round.
 */
#ifndef TESTS_BLOCK_HBITMAP_MODEL_OPS_H
#define TESTS_BLOCK_HBITMAP_MODEL_OPS_H

#include "tests/block/hbitmap_lib.h"
#include "tests/block/hbitmap_model.h"

#include <inttypes.h>

/* One round: a bitmap and its model. Big, so there is one. */
static struct round {
    struct sim_arena *arena;
    HBitmap *hb;
    uint64_t seed;
    uint64_t number;
    const char *op;
    bool idle; /* the operation had nothing to work on: not counted */
    struct model m;
} r;

/* Says how to get there before it fails. */
#define SAME(a, b) \
    do { \
        int64_t same_a_ = (int64_t)(a), same_b_ = (int64_t)(b); \
        if (same_a_ != same_b_) { \
            print_message("# HBITMAP_SEED=%" PRIu64 " %s granularity=%d length=%" PRId64 ": %s\n", r.number, r.op, \
                          r.m.granularity, r.m.length, #a); \
        } \
        assert_int_equal(same_a_, same_b_); \
    } while (0)

/* --- what is picked ------------------------------------------------------------------------------------------ */

static bool toss(unsigned one_in)
{
    return below(&r.seed, one_in) == 0;
}

/* Elements first..last; they exist. Short ones mostly. */
static void pick_elements(unsigned *first, unsigned *last)
{
    *first = (unsigned)below(&r.seed, r.m.count);
    *last = *first +
            (unsigned)(toss(3) ? below(&r.seed, r.m.count - *first) : below(&r.seed, MIN(r.m.count - *first, 70u)));
    if (toss(40)) {
        *first = 0;
        *last = r.m.count - 1;
    }
}

/* Any item from 0 to the end of the last group. */
static int64_t pick_item(void)
{
    unsigned e = (unsigned)below(&r.seed, r.m.count);
    uint64_t bit = r.m.pos[e] + below(&r.seed, model_width(&r.m, e));
    return group_start(&r.m, bit) + (int64_t)below(&r.seed, (uint64_t)1 << r.m.granularity);
}

/* A count for searches: nothing, little, much, to the end. */
static int64_t pick_count(int64_t start)
{
    switch (below(&r.seed, 5)) {
    case 0:
        return INT64_MAX;
    case 1:
        return (int64_t)below(&r.seed, 3);
    case 2:
        return MAX(r.m.length - start, 0);
    default:
        return (int64_t)below_log(&r.seed, INT64_MAX);
    }
}

static void fill(unsigned first, unsigned last, uint8_t value)
{
    memset(r.m.value + first, value, last - first + 1);
}

/* Items that set exactly these elements: anywhere in the first and the last group. */
static void set_elements(HBitmap *hb, unsigned first, unsigned last)
{
    int64_t group = group_last(&r.m, 0); /* items of a group, less one */
    int64_t start = group_start(&r.m, r.m.pos[first]) + (int64_t)below(&r.seed, (uint64_t)group + 1);
    int64_t end = group_last(&r.m, r.m.pos[last + 1] - 1);
    int64_t cut = (int64_t)below(&r.seed, (uint64_t)group + 1);
    end = end - cut >= start ? end - cut : end;
    hbitmap_set(hb, start, end - start + (end - start < INT64_MAX));
}

static void reset_elements(HBitmap *hb, unsigned first, unsigned last)
{
    int64_t start = group_start(&r.m, r.m.pos[first]);
    int64_t end = group_last(&r.m, r.m.pos[last + 1] - 1);
    if (end == INT64_MAX || (last + 1 == r.m.count && toss(2))) {
        hbitmap_reset(hb, start, r.m.length - start);
    } else {
        hbitmap_reset(hb, start, end + 1 - start);
    }
}

/* --- operations ---------------------------------------------------------------------------------------------- */

static void op_set(void)
{
    unsigned first;
    unsigned last;
    if (r.m.count == 0 || toss(50)) {
        hbitmap_set(r.hb, (int64_t)below_log(&r.seed, INT64_MAX), 0);
        return;
    }
    pick_elements(&first, &last);
    set_elements(r.hb, first, last);
    fill(first, last, 1);
}

static void op_reset(void)
{
    unsigned first;
    unsigned last;
    if (r.m.count == 0 || toss(50)) {
        hbitmap_reset(r.hb, (int64_t)below_log(&r.seed, INT64_MAX), 0);
        return;
    }
    pick_elements(&first, &last);
    reset_elements(r.hb, first, last);
    fill(first, last, 0);
}

static void op_reset_all(void)
{
    hbitmap_reset_all(r.hb);
    memset(r.m.value, 0, sizeof(r.m.value));
    SAME(hbitmap_length(r.hb), r.m.length);
    SAME(hbitmap_empty(r.hb), true);
}

static void op_get(void)
{
    if (r.m.count == 0) {
        r.idle = true;
        return;
    }
    int64_t item = pick_item();
    SAME(hbitmap_get(r.hb, item), r.m.value[model_at(&r.m, (uint64_t)item >> r.m.granularity)]);
}

static void next_of(int64_t (*next)(const HBitmap *hb, int64_t start, int64_t count), uint8_t value)
{
    int64_t start = r.m.count == 0 || toss(20) ? (int64_t)below_log(&r.seed, INT64_MAX) : pick_item();
    int64_t count = pick_count(start);
    SAME(next(r.hb, start, count), model_next(&r.m, start, count, value));
}

static void op_next_dirty(void)
{
    next_of(hbitmap_next_dirty, 1);
}

static void op_next_zero(void)
{
    next_of(hbitmap_next_zero, 0);
}

static void op_next_dirty_area(void)
{
    int64_t start = r.m.count == 0 ? 0 : pick_item();
    int64_t count = pick_count(start);
    int64_t end = count > INT64_MAX - start ? INT64_MAX : start + count;
    int64_t max = toss(3) ? INT64_MAX : 1 + (int64_t)below_log(&r.seed, INT64_MAX);
    int64_t area_start = -7;
    int64_t area_count = -7;
    int64_t first = model_next(&r.m, start, end - start, 1);
    SAME(hbitmap_next_dirty_area(r.hb, start, end, max, &area_start, &area_count), first >= 0);
    SAME(area_start, first >= 0 ? first : -7);
    if (first < 0) {
        SAME(area_count, -7);
        return;
    }
    int64_t want = MIN(MIN(end, r.m.length) - first, max);
    int64_t zero = model_next(&r.m, first, want, 0);
    SAME(area_count, zero < 0 ? want : zero - first);
}

static void op_status(void)
{
    int64_t start = r.m.count == 0 ? 0 : pick_item();
    if (start >= r.m.length) {
        r.idle = true;
        return;
    }
    int64_t count = toss(2) ? r.m.length - start : 1 + (int64_t)below_log(&r.seed, (uint64_t)(r.m.length - start));
    int64_t run = -7;
    uint8_t value = r.m.value[model_at(&r.m, (uint64_t)start >> r.m.granularity)];
    int64_t change = model_next(&r.m, start, count, !value);
    SAME(hbitmap_status(r.hb, start, count, &run), value);
    SAME(run, change < 0 ? count : change - start);
}

/* fresh: elements set since the iterator was made. They may be missed; every other one that is set must come, in
 * order; one that is clear must not. */
static void iterate(bool with_reset, bool with_set)
{
    static uint8_t fresh[MODEL_MAX];
    HBitmapIter iter;
    if (r.m.count == 0) {
        r.idle = true;
        return;
    }
    memset(fresh, 0, r.m.count);
    int64_t item = pick_item();
    uint64_t at = (uint64_t)item >> r.m.granularity; /* the first bit not yet spoken for */
    hbitmap_iter_init(&iter, r.hb, item);
    for (unsigned steps = 1 + (unsigned)below(&r.seed, 40); steps > 0; steps--) {
        unsigned first;
        unsigned last;
        unsigned e = at < model_bits(&r.m) ? model_at(&r.m, at) : r.m.count;
        while (e < r.m.count && (!r.m.value[e] || fresh[e])) {
            e++;
        }
        uint64_t due = e < r.m.count ? MAX(at, r.m.pos[e]) : UINT64_MAX;
        item = hbitmap_iter_next(&iter);
        if (item < 0) {
            SAME(due, UINT64_MAX);
            return;
        }
        uint64_t bit = (uint64_t)item >> r.m.granularity;
        SAME(group_start(&r.m, bit), item);
        SAME(bit >= at && bit <= due && bit < model_bits(&r.m), true);
        SAME(r.m.value[model_at(&r.m, bit)], 1);
        at = bit + 1;
        if (with_reset && toss(2)) {
            pick_elements(&first, &last);
            reset_elements(r.hb, first, last);
            fill(first, last, 0);
        }
        if (with_set && toss(2)) {
            pick_elements(&first, &last);
            for (unsigned i = first; i <= last; i++) {
                fresh[i] |= !r.m.value[i];
            }
            set_elements(r.hb, first, last);
            fill(first, last, 1);
        }
    }
}

static void op_iterate(void)
{
    iterate(false, false);
}

static void op_iterate_reset(void)
{
    iterate(true, false);
}

static void op_iterate_set(void)
{
    iterate(false, true);
}

static void op_iterate_both(void)
{
    iterate(true, true);
}

static void op_truncate(void)
{
    unsigned count = toss(3) ? r.m.all : (unsigned)below(&r.seed, r.m.all + 1);
    model_pick_length(&r.seed, &r.m, toss(5) ? r.m.count : count);
    memset(r.m.value + r.m.count, 0, MODEL_MAX - r.m.count);
    hbitmap_truncate(r.hb, r.m.length);
}

static void op_merge_equal(void)
{
    HBitmap *other = hbitmap_alloc(r.arena, r.m.length, r.m.granularity);
    for (unsigned i = (unsigned)below(&r.seed, 5); r.m.count > 0 && i > 0; i--) {
        unsigned first;
        unsigned last;
        pick_elements(&first, &last);
        set_elements(other, first, last);
        fill(first, last, 1);
    }
    int64_t count = hbitmap_count(other);
    hbitmap_merge(r.hb, other);
    SAME(hbitmap_count(other), count);
    hbitmap_free(other);
}

/* At most 64 groups of one in one of the other, so that what is rounded stays inside its window. */
static void op_merge_other(void)
{
    int granularity = r.m.granularity + (int)below(&r.seed, 13) - 6;
    granularity = MIN(MAX(granularity, 0), 63);
    HBitmap *other = hbitmap_alloc(r.arena, r.m.length, granularity);
    for (unsigned i = (unsigned)below(&r.seed, 5); r.m.count > 0 && i > 0; i--) {
        unsigned first;
        unsigned last;
        pick_elements(&first, &last);
        int64_t start = group_start(&r.m, r.m.pos[first]);
        int64_t end = MIN(group_last(&r.m, r.m.pos[last + 1] - 1), r.m.length - 1);
        hbitmap_set(other, start, end - start + 1);
        uint64_t group = (uint64_t)1 << granularity;
        uint64_t marked_first = ((uint64_t)start & ~(group - 1)) >> r.m.granularity;
        uint64_t marked_last = MIN((uint64_t)end | (group - 1), (uint64_t)r.m.length - 1) >> r.m.granularity;
        fill(model_at(&r.m, marked_first), model_at(&r.m, marked_last), 1);
    }
    int64_t count = hbitmap_count(other);
    hbitmap_merge(r.hb, other);
    SAME(hbitmap_count(other), count);
    hbitmap_free(other);
}

static void op_merge_self(void)
{
    hbitmap_merge(r.hb, r.hb);
}

/* The copy goes on in the place of the original. */
static void op_copy(void)
{
    HBitmap *copy = hbitmap_copy(r.hb);
    SAME(hbitmap_granularity(copy), r.m.granularity);
    hbitmap_free(r.hb);
    r.hb = copy;
}

#endif
