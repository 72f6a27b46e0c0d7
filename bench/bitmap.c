/*
 * Bitmaps beside their floor: a flat array of words with nothing on top, which no bitmap that finds its bits can
 * beat, measured in turns with it.
 *
 * `fresh`: the first visits, which pay for the memory; the floor pays the kernel for zero pages then. `steady`: the
 * same number of other positions afterwards. Positions are random: 200,000 of them, one group each.
 */
#include "bench/bitmap.h"

#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/measure.h"
#include "block/hbitmap.h"

#define OPS 200000u
#define ROUNDS 7u

enum { SET_FRESH, SET, GET, NEXT, RESET, RESET_LAST, RANDOM_COUNT };
enum { ITERATE, COUNT, MERGE, SERIALISE, MAKE_FREE, DENSE_COUNT };

static const unsigned densities[] = {1, 100, 5000}; /* of 10,000 */
#define DENSITIES ARRAY_SIZE(densities)

struct figures {
    double random[RANDOM_COUNT][ROUNDS];
    double dense[DENSITIES][DENSE_COUNT][ROUNDS];
    uint64_t bytes[DENSITIES];
    uint64_t bytes_empty;
    uint64_t bytes_full;
};

struct size {
    const char *name;
    int64_t length;
    int granularity;
    const char *aim[RANDOM_COUNT]; /* of limits.md, or what it has measured of a 64-ary tree */
};

static const struct size sizes[] = {
    {"64 GiB at 64 KiB, 1 Mbit", 64 * GiB, 16, {"10", "10", "", "15", "10", "10"}},
    {"1 TiB at 4 KiB, 256 Mbit", TiB, 12, {"19", "19", "", "30", "20", "20"}},
};

static volatile uint64_t sink;

/* Groups are a power of two: a division would cost as much as what is measured. */
#define AT(i) (sim_mix64(i) & (groups - 1))
/* One pass of OPS operations; `at` is the group. */
#define PASS(figure, from, operation) \
    do { \
        double start_ = bench_now_ns(); \
        for (unsigned i = 0; i < OPS; i++) { \
            uint64_t at = AT(i + (from)); \
            operation; \
        } \
        (figure)[round] = (bench_now_ns() - start_) / OPS; \
    } while (0)
#define TIMED(figure, times, per, operation) \
    do { \
        double start_ = bench_now_ns(); \
        for (unsigned t_ = 0; t_ < (times); t_++) { \
            operation; \
        } \
        (figure)[round] = (bench_now_ns() - start_) / ((double)(times) * (double)(per)); \
    } while (0)

/* --- the bitmap ---------------------------------------------------------------------------------------------- */

static void random_bitmap(const struct size *size, struct figures *f, unsigned round)
{
    struct sim_arena *arena = sim_arena_new();
    HBitmap *hb = hbitmap_alloc(arena, size->length, size->granularity);
    uint64_t groups = (uint64_t)size->length >> size->granularity;
    int64_t group = (int64_t)1 << size->granularity;

    SIM_ASSERT(is_power_of_2(groups));
    PASS(f->random[SET_FRESH], 0, hbitmap_set(hb, (int64_t)at * group, group));
    PASS(f->random[SET], OPS, hbitmap_set(hb, (int64_t)at * group, group));
    PASS(f->random[GET], OPS / 2, sink += hbitmap_get(hb, (int64_t)at * group));
    PASS(f->random[NEXT], 2 * OPS, sink += (uint64_t)hbitmap_next_dirty(hb, (int64_t)at * group, INT64_MAX));
    PASS(f->random[RESET], OPS, hbitmap_reset(hb, (int64_t)at * group, group));
    PASS(f->random[RESET_LAST], 0, hbitmap_reset(hb, (int64_t)at * group, group));
    SIM_ASSERT(hbitmap_empty(hb));
    hbitmap_free(hb);
    sim_arena_delete(arena);
}

static HBitmap *new_dense(struct sim_arena *arena, const struct size *size, unsigned density, uint64_t seed)
{
    HBitmap *hb = hbitmap_alloc(arena, size->length, size->granularity);
    uint64_t groups = (uint64_t)size->length >> size->granularity;
    uint64_t n = groups * density / 10000;

    for (uint64_t i = 0; i < n; i++) {
        hbitmap_set(hb, (int64_t)AT(i + seed) << size->granularity, 1);
    }
    return hb;
}

static uint64_t iterate_bitmap(const HBitmap *hb)
{
    HBitmapIter iter;
    uint64_t sum = 0;

    hbitmap_iter_init(&iter, hb, 0);
    for (int64_t item = hbitmap_iter_next(&iter); item >= 0; item = hbitmap_iter_next(&iter)) {
        sum += (uint64_t)item;
    }
    return sum;
}

static void make_bitmap(struct sim_arena *arena, const struct size *size)
{
    HBitmap *hb = hbitmap_alloc(arena, size->length, size->granularity);

    sink += hbitmap_memory_bytes(hb);
    hbitmap_free(hb);
}

static void dense_bitmap(const struct size *size, struct figures *f, unsigned d, unsigned round, unsigned times)
{
    struct sim_arena *arena = sim_arena_new();
    HBitmap *a = new_dense(arena, size, densities[d], 0);
    HBitmap *b = new_dense(arena, size, densities[d], UINT64_C(1) << 40);
    uint64_t bits = (uint64_t)hbitmap_count(a) >> size->granularity;
    char hex[65];

    f->bytes[d] = hbitmap_memory_bytes(a);
    TIMED(f->dense[d][ITERATE], times, bits, sink += iterate_bitmap(a));
    TIMED(f->dense[d][COUNT], 1000, 1, sink += (uint64_t)hbitmap_count(a));
    TIMED(f->dense[d][SERIALISE], 1, 1, (hbitmap_sha256(a, hex), sink += (uint64_t)hex[0]));
    TIMED(f->dense[d][MERGE], 1, 1, hbitmap_merge(a, b));
    TIMED(f->dense[d][MAKE_FREE], 1000, 1, make_bitmap(arena, size));
    hbitmap_free(a);
    hbitmap_free(b);
    sim_arena_delete(arena);
}

static void measure_ends(const struct size *size, struct figures *f)
{
    struct sim_arena *arena = sim_arena_new();
    HBitmap *hb = hbitmap_alloc(arena, size->length, size->granularity);

    f->bytes_empty = hbitmap_memory_bytes(hb);
    hbitmap_set(hb, 0, size->length);
    f->bytes_full = hbitmap_memory_bytes(hb);
    hbitmap_free(hb);
    sim_arena_delete(arena);
}

/* --- the floor: a flat array of words ------------------------------------------------------------------------ */

static uint64_t *new_words(uint64_t groups)
{
    uint64_t *words = calloc(groups / 64, sizeof(*words));

    SIM_ASSERT(words != NULL);
    return words;
}

static uint64_t next_in_words(const uint64_t *words, uint64_t groups, uint64_t at)
{
    uint64_t w = at / 64;
    uint64_t rest = words[w] & ~UINT64_C(0) << at % 64;

    while (rest == 0 && ++w < groups / 64) {
        rest = words[w];
    }
    return rest ? w * 64 + (uint64_t)__builtin_ctzll(rest) : UINT64_MAX;
}

static uint64_t iterate_words(const uint64_t *words, uint64_t groups)
{
    uint64_t sum = 0;

    for (uint64_t w = 0; w < groups / 64; w++) {
        for (uint64_t rest = words[w]; rest != 0; rest &= rest - 1) {
            sum += w * 64 + (uint64_t)__builtin_ctzll(rest);
        }
    }
    return sum;
}

static uint64_t count_words(const uint64_t *words, uint64_t groups)
{
    uint64_t sum = 0;

    for (uint64_t w = 0; w < groups / 64; w++) {
        sum += (uint64_t)__builtin_popcountll(words[w]);
    }
    return sum;
}

static void merge_words(uint64_t *a, const uint64_t *b, uint64_t groups)
{
    for (uint64_t w = 0; w < groups / 64; w++) {
        a[w] |= b[w];
    }
    sink += a[0];
}

static void make_words(uint64_t groups)
{
    uint64_t *words = new_words(groups);

    *(volatile uint64_t *)words = 1;
    free(words);
}

static void random_floor(const struct size *size, struct figures *f, unsigned round)
{
    uint64_t groups = (uint64_t)size->length >> size->granularity;
    uint64_t *words = new_words(groups);

    PASS(f->random[SET_FRESH], 0, words[at / 64] |= UINT64_C(1) << at % 64);
    PASS(f->random[SET], OPS, words[at / 64] |= UINT64_C(1) << at % 64);
    PASS(f->random[GET], OPS / 2, sink += words[at / 64] >> at % 64 & 1);
    PASS(f->random[NEXT], 2 * OPS, sink += next_in_words(words, groups, at));
    PASS(f->random[RESET], OPS, words[at / 64] &= ~(UINT64_C(1) << at % 64));
    PASS(f->random[RESET_LAST], 0, words[at / 64] &= ~(UINT64_C(1) << at % 64));
    free(words);
}

static uint64_t *dense_words(uint64_t groups, unsigned density, uint64_t seed)
{
    uint64_t *words = new_words(groups);
    uint64_t n = groups * density / 10000;

    memset(words, 0, groups / 8); /* its pages are there */
    for (uint64_t i = 0; i < n; i++) {
        words[AT(i + seed) / 64] |= UINT64_C(1) << AT(i + seed) % 64;
    }
    return words;
}

static void dense_floor(const struct size *size, struct figures *f, unsigned d, unsigned round, unsigned times)
{
    uint64_t groups = (uint64_t)size->length >> size->granularity;
    uint64_t *a = dense_words(groups, densities[d], 0);
    uint64_t *b = dense_words(groups, densities[d], UINT64_C(1) << 40);
    uint64_t bits = count_words(a, groups);
    uint8_t digest[SHA256_DIGEST_LENGTH];

    TIMED(f->dense[d][ITERATE], times, bits, sink += iterate_words(a, groups));
    TIMED(f->dense[d][COUNT], 1, 1, sink += count_words(a, groups));
    TIMED(f->dense[d][SERIALISE], 1, 1, (SHA256((const uint8_t *)a, groups / 8, digest), sink += digest[0]));
    TIMED(f->dense[d][MERGE], 1, 1, merge_words(a, b, groups));
    TIMED(f->dense[d][MAKE_FREE], 20, 1, make_words(groups));
    free(a);
    free(b);
}

/* --- the tables ---------------------------------------------------------------------------------------------- */

static void print_random(const struct size *size, struct figures *hb, struct figures *flat)
{
    static const char *const names[] = {"set, fresh", "set", "get", "next", "reset", "reset to empty"};

    printf("bitmap    %s (flat array: %" PRIu64 " KiB)\n", size->name,
           ((uint64_t)size->length >> size->granularity) / 8192);
    printf("          %-22s %9s %9s %7s %9s\n", "ns an operation", "bitmap", "floor", "ratio", "aim");
    for (unsigned i = 0; i < RANDOM_COUNT; i++) {
        double ours = bench_median(hb->random[i], ROUNDS), floor = bench_median(flat->random[i], ROUNDS);

        printf("          %-22s %9.1f %9.1f %7.1f %9s\n", names[i], ours, floor, ours / floor, size->aim[i]);
    }
}

static void print_dense(struct figures *hb, struct figures *flat)
{
    static const struct {
        const char *name;
        double unit;
    } rows[] = {{"iterate, ns a set bit", 1},
                {"count, us", 1e3},
                {"merge, us", 1e3},
                {"hash, us", 1e3},
                {"create and free, us", 1e3}};

    printf("          %-22s %19s %19s %19s\n", "dirty", "0.01 %", "1 %", "50 %");
    printf("          %-22s", "");
    for (unsigned d = 0; d < DENSITIES; d++) {
        printf(" %9s %9s", "bitmap", "floor");
    }
    printf("\n");
    for (unsigned i = 0; i < DENSE_COUNT; i++) {
        printf("          %-22s", rows[i].name);
        for (unsigned d = 0; d < DENSITIES; d++) {
            printf(" %9.2f %9.2f", bench_median(hb->dense[d][i], ROUNDS) / rows[i].unit,
                   bench_median(flat->dense[d][i], ROUNDS) / rows[i].unit);
        }
        printf("\n");
    }
    printf("          %-22s", "memory, KiB");
    for (unsigned d = 0; d < DENSITIES; d++) {
        printf(" %9.1f %9s", (double)hb->bytes[d] / 1024, "");
    }
    printf("\n          %-22s empty %" PRIu64 " bytes, all dirty %" PRIu64 " bytes\n", "", hb->bytes_empty,
           hb->bytes_full);
}

void bench_bitmaps(void)
{
    static struct figures hb, flat;

    for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
        bool small = sizes[s].length >> sizes[s].granularity <= 1 << 20;

        for (unsigned round = 0; round < ROUNDS; round++) {
            random_bitmap(&sizes[s], &hb, round);
            random_floor(&sizes[s], &flat, round);
        }
        for (unsigned d = 0; d < DENSITIES; d++) {
            unsigned times = small ? 10000 / densities[d] + 1 : 1;

            /* Filling 128 M groups at random takes seconds: once is enough to tell. */
            for (unsigned round = 0; round < ROUNDS; round++) {
                if (!small && densities[d] > 1000 && round > 0) {
                    for (unsigned i = 0; i < DENSE_COUNT; i++) {
                        hb.dense[d][i][round] = hb.dense[d][i][0];
                        flat.dense[d][i][round] = flat.dense[d][i][0];
                    }
                    continue;
                }
                dense_bitmap(&sizes[s], &hb, d, round, times);
                dense_floor(&sizes[s], &flat, d, round, times);
            }
        }
        measure_ends(&sizes[s], &hb);
        print_random(&sizes[s], &hb, &flat);
        print_dense(&hb, &flat);
    }
}
