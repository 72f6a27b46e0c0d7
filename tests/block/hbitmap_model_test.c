/*
 * Protects HBitmap: every operation, at every granularity and any length, does what a plain bit array does.
 *
 * HBITMAP_OPS says how many operations (make hbitmap-sweep: ten million), HBITMAP_SEED where to begin.
 */
#include "tests/block/hbitmap_lib.h"
#include "tests/block/hbitmap_model.h"

#include <inttypes.h>
#include <openssl/evp.h>

#define OPS_PER_ROUND 200
#define DEFAULT_OPS 100000

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

/* A part on whole words: elements first..last, and what it is in items. False: this one has none. */
static bool pick_part(bool narrow, unsigned *first, unsigned *last, int64_t *start, int64_t *count)
{
    if (r.m.granularity >= 58 || r.m.count == 0) {
        r.idle = true;
        return false;
    }
    pick_elements(first, last);
    for (; r.m.pos[*first] % 64 != 0; --*first) {
    }
    if (narrow) {
        *last = MIN(*last, *first + 640);
        for (unsigned e = *first; e <= *last; e++) {
            if (model_width(&r.m, e) > 1) {
                if (e == *first) {
                    r.idle = true;
                    return false;
                }
                *last = e - 1;
            }
        }
    }
    for (; *last + 1 < r.m.count && r.m.pos[*last + 1] % 64 != 0; ++*last) {
    }
    *start = group_start(&r.m, r.m.pos[*first]);
    *count = *last + 1 == r.m.count ? r.m.length - *start : group_start(&r.m, r.m.pos[*last + 1]) - *start;
    return true;
}

static int64_t part_bytes(unsigned first, unsigned last)
{
    return (int64_t)((r.m.pos[last + 1] - r.m.pos[first] + 63) / 64 * 8);
}

static void op_serialise_size(void)
{
    unsigned first;
    unsigned last;
    int64_t start;
    int64_t count;
    if (pick_part(false, &first, &last, &start, &count)) {
        SAME(hbitmap_serialization_align(r.hb), UINT64_C(64) << r.m.granularity);
        SAME(hbitmap_serialization_size(r.hb, start, count), part_bytes(first, last));
        SAME(hbitmap_serialization_size(r.hb, start, 0), 0);
    }
}

static void op_serialise(void)
{
    unsigned first;
    unsigned last;
    int64_t start;
    int64_t count;
    if (!pick_part(true, &first, &last, &start, &count)) {
        return;
    }
    int64_t bytes = part_bytes(first, last);
    uint8_t *buf = malloc((size_t)bytes);
    assert_non_null(buf);
    hbitmap_serialize_part(r.hb, buf, start, count);
    for (int64_t i = 0; i < bytes * 8; i++) {
        SAME(buf[i / 8] >> (i % 8) & 1, first + i <= last ? r.m.value[first + i] : 0);
    }
    free(buf);
}

/* Garbage past the last bit too: it must be masked. */
static void op_deserialise(void)
{
    unsigned first;
    unsigned last;
    int64_t start;
    int64_t count;
    if (!pick_part(true, &first, &last, &start, &count)) {
        return;
    }
    int64_t bytes = part_bytes(first, last);
    uint8_t *buf = malloc((size_t)bytes);
    assert_non_null(buf);
    unsigned density = (unsigned)below(&r.seed, 4);
    for (int64_t i = 0; i < bytes; i++) {
        uint8_t random = (uint8_t)next_random(&r.seed);
        buf[i] = density == 0 ? 0xff : density == 1 ? (uint8_t)(toss(9) ? random : 0) : random;
    }
    for (unsigned e = first; e <= last; e++) {
        r.m.value[e] = buf[(e - first) / 8] >> ((e - first) % 8) & 1;
    }
    hbitmap_deserialize_part(r.hb, buf, start, count);
    free(buf);
}

static void deserialise_all(void (*op)(HBitmap *hb, int64_t start, int64_t count), uint8_t value)
{
    unsigned first;
    unsigned last;
    int64_t start;
    int64_t count;
    if (pick_part(false, &first, &last, &start, &count)) {
        op(r.hb, start, count);
        fill(first, last, value);
    }
}

static void op_deserialise_zeroes(void)
{
    deserialise_all(hbitmap_deserialize_zeroes, 0);
}

static void op_deserialise_ones(void)
{
    deserialise_all(hbitmap_deserialize_ones, 1);
}

static void op_sha256(void)
{
    uint8_t bytes[MODEL_MAX / 8] = {0};
    uint8_t digest[EVP_MAX_MD_SIZE];
    char want[65];
    char got[65];
    if (!r.m.plain) {
        r.idle = true;
        return; /* the zero words of a huge one would take days */
    }
    for (unsigned e = 0; e < r.m.count; e++) {
        bytes[e / 8] |= (uint8_t)(r.m.value[e] << e % 8);
    }
    assert_true(EVP_Digest(bytes, MAX((r.m.count + 63) / 64, 1u) * 8, digest, NULL, EVP_sha256(), NULL));
    for (unsigned i = 0; i < 32; i++) {
        snprintf(want + 2 * i, 3, "%02x", digest[i]);
    }
    hbitmap_sha256(r.hb, got);
    SAME(strcmp(got, want), 0);
}

static void op_count(void)
{
    SAME(hbitmap_count(r.hb), model_count(&r.m));
}

static void op_empty(void)
{
    SAME(hbitmap_empty(r.hb), model_count(&r.m) == 0);
}

/* Where the value changes, and at the end, there may be a leaf and the nodes above it; elsewhere nothing. */
static void op_memory(void)
{
    uint64_t edges = 1;
    for (unsigned e = 1; e < r.m.count; e++) {
        edges += r.m.value[e] != r.m.value[e - 1];
    }
    SAME(hbitmap_memory_bytes(r.hb) <= 1024 + edges * 10 * 536, true);
    SAME(hbitmap_memory_bytes(r.hb) <= sim_arena_live_bytes(r.arena), true);
}

static struct op {
    const char *name;
    unsigned weight;
    void (*run)(void);
    uint64_t times;
} ops[] = {
    {"set", 16, op_set, 0},
    {"reset", 12, op_reset, 0},
    {"reset_all", 1, op_reset_all, 0},
    {"get", 6, op_get, 0},
    {"next_dirty", 6, op_next_dirty, 0},
    {"next_zero", 6, op_next_zero, 0},
    {"next_dirty_area", 6, op_next_dirty_area, 0},
    {"status", 6, op_status, 0},
    {"iterate", 3, op_iterate, 0},
    {"iterate, resetting", 3, op_iterate_reset, 0},
    {"iterate, setting", 3, op_iterate_set, 0},
    {"iterate, both", 3, op_iterate_both, 0},
    {"truncate", 3, op_truncate, 0},
    {"merge, equal granularity", 3, op_merge_equal, 0},
    {"merge, other granularity", 3, op_merge_other, 0},
    {"merge with itself", 1, op_merge_self, 0},
    {"copy", 2, op_copy, 0},
    {"serialise size", 2, op_serialise_size, 0},
    {"serialise part", 3, op_serialise, 0},
    {"deserialise part", 3, op_deserialise, 0},
    {"deserialise zeroes", 2, op_deserialise_zeroes, 0},
    {"deserialise ones", 2, op_deserialise_ones, 0},
    {"sha256", 2, op_sha256, 0},
    {"count", 4, op_count, 0},
    {"empty", 3, op_empty, 0},
    {"memory", 3, op_memory, 0},
};
static uint64_t granularity_ops[64];

/* --- rounds -------------------------------------------------------------------------------------------------- */

static struct op *pick_op(void)
{
    unsigned total = 0;
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        total += ops[i].weight;
    }
    unsigned at = (unsigned)below(&r.seed, total);
    struct op *op = ops;
    for (; at >= op->weight; op++) {
        at -= op->weight;
    }
    return op;
}

/* Every bit; a wide element by a search through it. */
static void check_all(void)
{
    r.op = "compare";
    SAME(hbitmap_length(r.hb), r.m.length);
    for (unsigned e = 0; e < r.m.count; e++) {
        int64_t start = group_start(&r.m, r.m.pos[e]);
        SAME(hbitmap_get(r.hb, start), r.m.value[e]);
        if (model_width(&r.m, e) > 1) {
            int64_t items = group_start(&r.m, model_width(&r.m, e));
            int64_t other =
                r.m.value[e] ? hbitmap_next_zero(r.hb, start, items) : hbitmap_next_dirty(r.hb, start, items);
            SAME(other, -1);
        }
    }
    op_count();
    op_empty();
    op_memory();
}

static uint64_t pick_bits(void)
{
    switch (below(&r.seed, 4)) {
    case 0:
        return below(&r.seed, 130);
    case 1:
        return below(&r.seed, 1400);
    case 2:
        return below(&r.seed, MODEL_MAX + 1);
    default:
        return MAX(next_random(&r.seed) >> below(&r.seed, 50), MODEL_MAX + 1);
    }
}

static void run_round(uint64_t number)
{
    r.number = number;
    r.seed = sim_mix64(number);
    r.arena = sim_arena_new();
    model_init(&r.seed, &r.m, (int)(number % 64), pick_bits());
    r.hb = hbitmap_alloc(r.arena, r.m.length, r.m.granularity);
    for (unsigned i = 1; i <= OPS_PER_ROUND; i++) {
        struct op *op = pick_op();
        r.op = op->name;
        r.idle = false;
        op->run();
        op->times += !r.idle;
        granularity_ops[r.m.granularity] += !r.idle;
        if (i % 25 == 0) {
            check_all();
        }
    }
    hbitmap_free(r.hb);
    SAME(sim_arena_live_bytes(r.arena), 0);
    sim_arena_delete(r.arena);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL && *text != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

static void print_use(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        print_message("# %-26s %10" PRIu64 "\n", ops[i].name, ops[i].times);
    }
    for (int g = 0; g < 64; g += 8) {
        print_message("# granularity %2d..%2d", g, g + 7);
        for (int i = g; i < g + 8; i++) {
            print_message(" %8" PRIu64, granularity_ops[i]);
        }
        print_message("\n");
    }
}

/* fact: bitmaps 1.1/shape, 1.2/set, 1.2/reset, 1.2/reset-all, 1.2/get, 1.2/next-dirty, 1.2/next-zero,
 * 1.2/next-dirty-area, 1.2/status, 1.2/to-the-end, 1.3/reset-never-returned, 1.4/truncate, 1.5/merge, 1.6/part,
 * 1.7/hash */
static void test_model(void **state)
{
    uint64_t rounds = from_environment("HBITMAP_OPS", DEFAULT_OPS) / OPS_PER_ROUND;
    uint64_t first = from_environment("HBITMAP_SEED", 0);
    for (uint64_t i = 0; i < MAX(rounds, 64); i++) {
        run_round(first + i);
    }
    print_use();
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        assert_true(ops[i].times > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/hbitmap/model", test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
