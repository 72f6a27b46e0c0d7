/*
 * Protects HBitmap: every operation, at every granularity and any length, does what a plain bit array does.
 *
 * HBITMAP_OPS says how many operations (make hbitmap-sweep: ten million), HBITMAP_SEED where to begin.
 */
#include "tests/block/hbitmap_model_ops.h"

#include <openssl/evp.h>

#define OPS_PER_ROUND 200
#define DEFAULT_OPS 100000

/* --- the serialised form -------------------------------------------------------------------------------------- */

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

/* --- all of them -----------------------------------------------------------------------------------------------
 */

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
static uint64_t done;

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
        done += !r.idle;
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
    print_message("# %" PRIu64 " operations\n", done);
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

/* fact: bitmaps 1.1/bits, 1.1/limits, 1.1/count, 1.1/empty, 1.2/set, 1.2/set-none, 1.2/reset, 1.2/reset-none,
 * 1.2/reset-all, 1.2/get, 1.2/next-dirty, 1.2/next-dirty-inside, 1.2/next-zero, 1.2/next-dirty-area,
 * 1.2/next-dirty-area-none, 1.2/status, 1.2/to-the-end, 1.3/first, 1.3/reset-ahead, 1.4/same-bits, 1.4/shrink,
 * 1.4/grow, 1.4/shrink-grow, 1.5/or, 1.5/same-granularity, 1.5/fine-to-coarse, 1.5/coarse-to-fine, 1.5/self,
 * 1.6/bytes, 1.6/size, 1.6/overwrite, 1.6/mask, 1.7/hash */
static void test_model(void **state)
{
    uint64_t wanted = from_environment("HBITMAP_OPS", DEFAULT_OPS);
    uint64_t first = from_environment("HBITMAP_SEED", 0);
    for (uint64_t i = 0; i < ARRAY_SIZE(granularity_ops) || done < wanted; i++) {
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
