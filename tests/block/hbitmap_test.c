/* Protects HBitmap: every operation equals a plain bit array's, at every granularity, at the documented edges. */
#include "tests/testlib.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/hbitmap.h"

#define MODEL_BITS 20000

/* The plain bit array that everything is compared with. */
struct model {
    int64_t length;
    int granularity;
    uint64_t bits;
    uint8_t bit[MODEL_BITS];
};

static int world_setup(void **state)
{
    *state = sim_arena_new();
    return 0;
}

/* Whatever a test made must be gone at its end. */
static int world_teardown(void **state)
{
    int leaked = sim_arena_live_bytes(*state) != 0;
    sim_arena_delete(*state);
    return leaked;
}

static uint64_t next_random(uint64_t *seed)
{
    return sim_mix64(*seed += UINT64_C(0x9e3779b97f4a7c15));
}

static uint64_t below(uint64_t *seed, uint64_t n)
{
    return next_random(seed) % n;
}

static void model_init(struct model *m, int64_t length, int granularity)
{
    memset(m, 0, sizeof(*m));
    m->length = length;
    m->granularity = granularity;
    m->bits = ((uint64_t)length + (((uint64_t)1 << granularity) - 1)) >> granularity;
    assert_true(m->bits <= MODEL_BITS);
}

static void model_fill(struct model *m, int64_t start, int64_t count, uint8_t value)
{
    if (count > 0) {
        uint64_t last = (uint64_t)(start + count - 1) >> m->granularity;
        for (uint64_t b = (uint64_t)start >> m->granularity; b <= last; b++) {
            m->bit[b] = value;
        }
    }
}

static int64_t model_next(const struct model *m, int64_t start, int64_t count, uint8_t value)
{
    if (start >= m->length || count == 0) {
        return -1;
    }
    int64_t end = count < m->length - start ? start + count : m->length;
    for (uint64_t b = (uint64_t)start >> m->granularity; b < m->bits; b++) {
        int64_t item = MAX((int64_t)(b << m->granularity), start);
        if (item >= end) {
            return -1;
        }
        if (m->bit[b] == value) {
            return item;
        }
    }
    return -1;
}

static void check_same(const struct model *m, const HBitmap *hb)
{
    int64_t count = 0;
    assert_int_equal(hbitmap_length(hb), m->length);
    for (uint64_t b = 0; b < m->bits; b++) {
        count += m->bit[b];
        assert_int_equal(hbitmap_get(hb, (int64_t)(b << m->granularity)), m->bit[b]);
    }
    assert_int_equal(hbitmap_count(hb), count << m->granularity);
    assert_int_equal(hbitmap_empty(hb), count == 0);
}

/* A random range inside the length; empty ones too, with a taste for whole and short ones. */
static void random_range(uint64_t *seed, const struct model *m, int64_t *start, int64_t *count)
{
    *start = m->length == 0 ? 0 : (int64_t)below(seed, (uint64_t)m->length);
    int64_t room = m->length - *start;
    switch (below(seed, 4)) {
    case 0:
        *count = room;
        break;
    case 1:
        *count = (int64_t)below(seed, (uint64_t)3 << m->granularity);
        *count = MIN(room, *count);
        break;
    default:
        *count = room == 0 ? 0 : (int64_t)below(seed, (uint64_t)room + 1);
    }
}

static void step_set(uint64_t *seed, struct model *m, HBitmap *hb)
{
    int64_t start;
    int64_t count;
    random_range(seed, m, &start, &count);
    model_fill(m, start, count, 1);
    hbitmap_set(hb, start, count);
}

static void step_reset(uint64_t *seed, struct model *m, HBitmap *hb)
{
    int64_t start;
    int64_t count;
    random_range(seed, m, &start, &count);
    int64_t group = (int64_t)1 << m->granularity;
    start = ROUND_DOWN(start, group);
    if (start + count != m->length) {
        count = ROUND_DOWN(count, group);
    }
    model_fill(m, start, count, 0);
    hbitmap_reset(hb, start, count);
}

static void step_query(uint64_t *seed, struct model *m, HBitmap *hb)
{
    int64_t start;
    int64_t count;
    random_range(seed, m, &start, &count);
    assert_int_equal(hbitmap_next_dirty(hb, start, count), model_next(m, start, count, 1));
    assert_int_equal(hbitmap_next_zero(hb, start, count), model_next(m, start, count, 0));
    assert_int_equal(hbitmap_next_dirty(hb, start, INT64_MAX), model_next(m, start, INT64_MAX, 1));
    if (count > 0) {
        int64_t run;
        bool dirty = hbitmap_status(hb, start, count, &run);
        int64_t change = model_next(m, start, count, !dirty);
        assert_int_equal(dirty, m->bit[start >> m->granularity]);
        assert_int_equal(run, change < 0 ? count : change - start);
    }
    int64_t max = (int64_t)below(seed, (uint64_t)m->length + 1) + 1;
    int64_t area_start = -7;
    int64_t area_count = -7;
    int64_t first = model_next(m, start, count, 1);
    bool found = hbitmap_next_dirty_area(hb, start, start + count, max, &area_start, &area_count);
    assert_int_equal(found, first >= 0);
    assert_int_equal(area_start, first >= 0 ? first : -7);
    if (first >= 0) {
        int64_t want = MIN(start + count - first, max);
        int64_t zero = model_next(m, first, want, 0);
        assert_int_equal(area_count, zero < 0 ? want : zero - first);
    }
}

static void step_truncate(uint64_t *seed, struct model *m, HBitmap *hb)
{
    int64_t length = (int64_t)below(seed, ((uint64_t)MODEL_BITS << m->granularity) + 1);
    uint64_t bits = ((uint64_t)length + (((uint64_t)1 << m->granularity) - 1)) >> m->granularity;
    for (uint64_t b = bits; b < MODEL_BITS; b++) {
        m->bit[b] = 0;
    }
    m->length = length;
    m->bits = bits;
    hbitmap_truncate(hb, length);
}

/* Iterates from a random group while clearing what was returned and, sometimes, something ahead. */
static void step_iterate(uint64_t *seed, struct model *m, HBitmap *hb)
{
    if (m->bits == 0) {
        return;
    }
    HBitmapIter iter;
    uint64_t at = below(seed, m->bits);
    hbitmap_iter_init(&iter, hb, (int64_t)(at << m->granularity));
    for (unsigned left = 300; left > 0; left--) {
        while (at < m->bits && m->bit[at] == 0) {
            at++;
        }
        int64_t item = hbitmap_iter_next(&iter);
        assert_int_equal(item, at < m->bits ? (int64_t)(at << m->granularity) : -1);
        if (item < 0) {
            return;
        }
        if (below(seed, 4) == 0) {
            uint64_t gone = at + below(seed, 70);
            gone = MIN(gone, m->bits - 1);
            m->bit[gone] = 0;
            hbitmap_reset(hb, (int64_t)(gone << m->granularity),
                          MIN((int64_t)1 << m->granularity, m->length - (int64_t)(gone << m->granularity)));
        }
        at++;
    }
}

static void step_serialise(uint64_t *seed, struct model *m, HBitmap *hb, struct sim_arena *arena)
{
    int64_t align = hbitmap_serialization_align(hb);
    HBitmap *copy = hbitmap_alloc(arena, m->length, m->granularity);
    if (m->length > 0) {
        hbitmap_set(copy, 0, m->length); /* everything must be overwritten */
    }
    for (int64_t start = 0; start < m->length;) {
        int64_t count = (int64_t)(1 + below(seed, 40)) * align;
        count = MIN(count, m->length - start);
        int64_t size = hbitmap_serialization_size(hb, start, count);
        uint8_t *buf = malloc((size_t)size);
        assert_non_null(buf);
        hbitmap_serialize_part(hb, buf, start, count);
        for (int64_t i = 0; i < size * 8; i++) {
            uint64_t bit = ((uint64_t)start >> m->granularity) + (uint64_t)i;
            assert_int_equal(buf[i / 8] >> (i % 8) & 1, bit < m->bits ? m->bit[bit] : 0);
        }
        hbitmap_deserialize_part(copy, buf, start, count);
        free(buf);
        start += count;
    }
    check_same(m, copy);
    hbitmap_free(copy);
}

static void step_merge(uint64_t *seed, struct model *m, HBitmap *hb, struct sim_arena *arena)
{
    static struct model other;
    int granularity = below(seed, 2) ? m->granularity : (int)below(seed, 4) + m->granularity;
    model_init(&other, m->length, granularity);
    HBitmap *src = hbitmap_alloc(arena, m->length, granularity);
    for (uint64_t i = below(seed, 5); i > 0; i--) {
        step_set(seed, &other, src);
        if (below(seed, 2) == 0) {
            step_reset(seed, &other, src);
        }
    }
    for (uint64_t b = 0; b < other.bits; b++) {
        if (other.bit[b]) {
            int64_t start = (int64_t)(b << granularity);
            model_fill(m, start, MIN((int64_t)1 << granularity, m->length - start), 1);
        }
    }
    hbitmap_merge(hb, src);
    hbitmap_merge(hb, hb);
    check_same(&other, src);
    hbitmap_free(src);
}

static void run_random(struct sim_arena *arena, int granularity, uint64_t seed)
{
    static struct model m;
    model_init(&m, (int64_t)below(&seed, ((uint64_t)MODEL_BITS << granularity) + 1), granularity);
    HBitmap *hb = hbitmap_alloc(arena, m.length, granularity);
    for (unsigned i = 0; i < 60; i++) {
        switch (below(&seed, 12)) {
        case 0:
            step_truncate(&seed, &m, hb);
            break;
        case 1:
            step_merge(&seed, &m, hb, arena);
            break;
        case 2:
            step_serialise(&seed, &m, hb, arena);
            break;
        case 3:
        case 4:
            step_iterate(&seed, &m, hb);
            break;
        case 5:
            if (below(&seed, 8) == 0) {
                model_fill(&m, 0, m.length, 0);
                hbitmap_reset_all(hb);
            }
            break;
        case 6:
        case 7:
            step_query(&seed, &m, hb);
            break;
        case 8:
        case 9:
            step_reset(&seed, &m, hb);
            break;
        default:
            step_set(&seed, &m, hb);
        }
    }
    check_same(&m, hb);
    hbitmap_free(hb);
}

static void test_random(void **state)
{
    for (int granularity = 0; granularity < 32; granularity++) {
        for (uint64_t round = 0; round < 6; round++) {
            run_random(*state, granularity, (uint64_t)granularity << 32 | round);
        }
    }
}

/* --- named facts ----------------------------------------------------------------------------------------- */

static void check_sha(const HBitmap *hb, const char *want)
{
    char hex[65];
    hbitmap_sha256(hb, hex);
    assert_string_equal(hex, want);
}

#define SHA_EMPTY "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"

static void test_sha256_vectors(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, MiB, 16);
    check_sha(hb, SHA_EMPTY);
    hbitmap_set(hb, 0, 65537);
    check_sha(hb, "35be322d094f9d154a8aba4733b8497f180353bd7ae7b0a15f90b586b549f28b");
    hbitmap_free(hb);

    hb = hbitmap_alloc(*state, 64 * MiB, 16);
    hbitmap_set(hb, 0, 1);
    hbitmap_set(hb, 65535, 2);
    hbitmap_set(hb, MiB, 65536);
    hbitmap_set(hb, 3 * MiB, 100000);
    assert_int_equal(hbitmap_count(hb), 327680);
    check_sha(hb, "74ac80136efc4d07a6a0fc394b4d0c40facf2adf62c49cc33fc50816c52e4093");
    hbitmap_free(hb);

    hb = hbitmap_alloc(*state, 100 * KiB, 16);
    hbitmap_set(hb, 102399, 1);
    check_sha(hb, "d86e8112f3c4c4442126f8e9f44f16867da487f29052bf91b810457db34209a4");
    hbitmap_free(hb);

    hb = hbitmap_alloc(*state, 4 * MiB + 512, 16);
    hbitmap_set(hb, 0, 4194816);
    check_sha(hb, "c9cb04ba987a95a535a8ba7d18b3815d0f04b47add63f2b18ed0a66f9a6d617a");
    hbitmap_free(hb);
}

static void test_empty_length(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 0, 16);
    assert_int_equal(hbitmap_count(hb), 0);
    assert_int_equal(hbitmap_next_dirty(hb, 0, INT64_MAX), -1);
    assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), -1);
    assert_int_equal(hbitmap_serialization_size(hb, 0, 0), 0);
    hbitmap_set(hb, 0, 0);
    hbitmap_reset(hb, 0, 0);
    hbitmap_reset_all(hb);
    check_sha(hb, SHA_EMPTY);
    hbitmap_truncate(hb, 1);
    hbitmap_set(hb, 0, 1);
    assert_int_equal(hbitmap_count(hb), 65536);
    hbitmap_free(hb);
}

static void test_one_item(void **state)
{
    for (int granularity = 0; granularity < 64; granularity++) {
        HBitmap *hb = hbitmap_alloc(*state, 1, granularity);
        assert_int_equal(hbitmap_next_zero(hb, 0, 1), 0);
        hbitmap_set(hb, 0, 1);
        assert_true(hbitmap_get(hb, 0));
        assert_int_equal(hbitmap_next_dirty(hb, 0, INT64_MAX), 0);
        assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), -1);
        hbitmap_reset(hb, 0, 1);
        assert_true(hbitmap_empty(hb));
        hbitmap_free(hb);
    }
}

static void test_largest_length(void **state)
{
    const int granularities[] = {0, 9, 16, 22, 31, 63};
    for (size_t i = 0; i < ARRAY_SIZE(granularities); i++) {
        HBitmap *hb = hbitmap_alloc(*state, INT64_MAX, granularities[i]);
        int64_t group_mask = (int64_t)(((uint64_t)1 << granularities[i]) - 1);
        hbitmap_set(hb, INT64_MAX - 1, 1);
        assert_int_equal(hbitmap_next_dirty(hb, 0, INT64_MAX), (INT64_MAX - 1) & ~group_mask);
        assert_int_equal(hbitmap_next_dirty(hb, INT64_MAX - 1, INT64_MAX), INT64_MAX - 1);
        hbitmap_set(hb, 0, INT64_MAX);
        assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), -1);
        assert_int_equal(hbitmap_count(hb), INT64_MAX);
        assert_true(hbitmap_memory_bytes(hb) < 24 * 1024);
        int64_t run;
        assert_true(hbitmap_status(hb, 1, INT64_MAX - 1, &run));
        assert_int_equal(run, INT64_MAX - 1);
        hbitmap_truncate(hb, 1000);
        assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), -1);
        hbitmap_truncate(hb, INT64_MAX);
        if (granularities[i] < 63) {
            assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), (1000 + group_mask) & ~group_mask);
        }
        hbitmap_free(hb);
    }
}

/* Memory follows what is set; an empty bitmap of any length costs its header, a full one a path. */
static void test_sparse_memory(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 8192 * TiB, 9);
    uint64_t empty = hbitmap_memory_bytes(hb);
    assert_true(empty < 256);
    hbitmap_set(hb, 0, 8192 * TiB);
    assert_true(hbitmap_memory_bytes(hb) < 8 * 1024);
    hbitmap_reset(hb, 0, 8192 * TiB);
    assert_true(hbitmap_empty(hb));
    for (int64_t i = 0; i < 64; i++) {
        hbitmap_set(hb, i * 128 * TiB, 1);
    }
    assert_true(hbitmap_memory_bytes(hb) < 64 * 8 * 600);
    hbitmap_reset_all(hb);
    assert_true(hbitmap_memory_bytes(hb) <= empty + 600);
    hbitmap_free(hb);
}

/* Setting bit by bit until full, then clearing bit by bit: shared full parts come and go. */
static void test_fill_bit_by_bit(void **state)
{
    const int64_t bits = 3 * 4096 + 5;
    HBitmap *hb = hbitmap_alloc(*state, bits, 0);
    for (int64_t i = 0; i < bits; i++) {
        hbitmap_set(hb, (i * 7919) % bits, 1);
        assert_int_equal(hbitmap_count(hb), i + 1);
    }
    assert_int_equal(hbitmap_next_zero(hb, 0, bits), -1);
    for (int64_t i = 0; i < bits; i++) {
        hbitmap_reset(hb, (i * 6007) % bits, 1);
        assert_false(hbitmap_get(hb, (i * 6007) % bits));
        assert_int_equal(hbitmap_count(hb), bits - i - 1);
    }
    assert_int_equal(hbitmap_next_dirty(hb, 0, bits), -1);
    hbitmap_free(hb);
}

/* count() is in items of whole groups and may exceed the length (1.1). */
static void test_count_exceeds_length(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 1000448, 16);
    hbitmap_set(hb, 0, 1000448);
    assert_int_equal(hbitmap_count(hb), 1048576);
    hbitmap_free(hb);
}

static void test_truncate_partial_group(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 4 * 65536, 16);
    hbitmap_set(hb, 0, 4 * 65536);
    hbitmap_truncate(hb, 65536 + 1); /* group 1 is still partly inside: it keeps its bit */
    assert_int_equal(hbitmap_count(hb), 2 * 65536);
    hbitmap_truncate(hb, 4 * 65536); /* what was dropped stays dropped, new groups are clean */
    assert_int_equal(hbitmap_count(hb), 2 * 65536);
    assert_int_equal(hbitmap_next_zero(hb, 0, INT64_MAX), 2 * 65536);
    hbitmap_free(hb);
}

/* Stored garbage beyond the length must not become dirt when the disk grows (1.6). */
static void test_garbage_is_masked(void **state)
{
    uint8_t ones[16];
    memset(ones, 0xff, sizeof(ones));
    for (int way = 0; way < 2; way++) {
        HBitmap *hb = hbitmap_alloc(*state, 70 * 512, 9);
        if (way == 0) {
            hbitmap_deserialize_part(hb, ones, 0, 70 * 512);
        } else {
            hbitmap_deserialize_ones(hb, 0, 70 * 512);
        }
        assert_int_equal(hbitmap_count(hb), 70 * 512);
        hbitmap_truncate(hb, 1000 * 512);
        assert_int_equal(hbitmap_count(hb), 70 * 512);
        hbitmap_deserialize_zeroes(hb, 64 * 512, 64 * 512);
        assert_int_equal(hbitmap_count(hb), 64 * 512);
        hbitmap_free(hb);
    }
}

static void test_iterator_rounds_down(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 10 * 65536, 16);
    HBitmapIter iter;
    hbitmap_set(hb, 2 * 65536, 1);
    hbitmap_iter_init(&iter, hb, 2 * 65536 + 100);
    assert_int_equal(hbitmap_iter_next(&iter), 2 * 65536);
    assert_int_equal(hbitmap_iter_next(&iter), -1);
    assert_int_equal(hbitmap_iter_next(&iter), -1);
    hbitmap_free(hb);
}

/* A bit set behind the cursor is not returned; one reset ahead is not either, however far (1.3). */
static void test_iterator_under_change(void **state)
{
    const int64_t bits = 100000;
    HBitmap *hb = hbitmap_alloc(*state, bits, 0);
    HBitmapIter iter;
    hbitmap_set(hb, 10, 3);
    hbitmap_set(hb, 5000, 1);
    hbitmap_set(hb, 90000, 1);
    hbitmap_iter_init(&iter, hb, 0);
    assert_int_equal(hbitmap_iter_next(&iter), 10);
    hbitmap_set(hb, 3, 1);
    hbitmap_reset(hb, 11, 1);
    hbitmap_reset(hb, 5000, 1);
    assert_int_equal(hbitmap_iter_next(&iter), 12);
    hbitmap_reset_all(hb);
    hbitmap_set(hb, 90000, 1);
    assert_int_equal(hbitmap_iter_next(&iter), 90000);
    assert_int_equal(hbitmap_iter_next(&iter), -1);
    hbitmap_free(hb);
}

/* [seed 8f0720e]: ascending, each group once, at any distance; the next round starts from 0 and finds what was set
 * behind the cursor meanwhile. */
static void test_seed_8f0720e_rounds(void **state)
{
    static const int64_t groups[] = {0, 1, 63, 64, 4095, 4096, 262143, 262144, 16777215};
    HBitmap *hb = hbitmap_alloc(*state, INT64_C(16777216) << 9, 9);
    HBitmapIter iter;
    for (size_t i = ARRAY_SIZE(groups); i-- > 0;) {
        hbitmap_set(hb, groups[i] << 9, 1);
    }
    hbitmap_iter_init(&iter, hb, 0);
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        assert_int_equal(hbitmap_iter_next(&iter), groups[i] << 9);
        hbitmap_reset(hb, groups[i] << 9, 512);
        if (groups[i] == 4096) {
            hbitmap_set(hb, 512 * 512, 512); /* behind the cursor by now */
        }
    }
    assert_int_equal(hbitmap_iter_next(&iter), -1);
    assert_int_equal(hbitmap_count(hb), 512);
    hbitmap_iter_init(&iter, hb, 0);
    assert_int_equal(hbitmap_iter_next(&iter), 512 * 512);
    hbitmap_free(hb);
}

/* [seed 88ff0e4, 9e48b02]: a bitmap without items cannot be iterated; whoever tries is stopped at once. */
static void test_seed_88ff0e4_no_iterator_on_empty(void **state)
{
    HBitmap *hb = hbitmap_alloc(*state, 0, 16);
    HBitmapIter iter;
    int status = 0;
    fflush(stderr);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) != NULL) {
            hbitmap_iter_init(&iter, hb, 0);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    hbitmap_free(hb);
}

static void test_merge_granularities(void **state)
{
    HBitmap *fine = hbitmap_alloc(*state, 10 * 65536 + 512, 9);
    HBitmap *coarse = hbitmap_alloc(*state, 10 * 65536 + 512, 16);
    hbitmap_set(fine, 65536 + 512, 512);
    hbitmap_merge(coarse, fine); /* rounds outward */
    assert_int_equal(hbitmap_count(coarse), 65536);
    hbitmap_set(coarse, 10 * 65536, 1);
    hbitmap_merge(fine, coarse); /* the whole group, clipped at the length */
    assert_int_equal(hbitmap_count(fine), 65536 + 512);
    hbitmap_free(fine);
    hbitmap_free(coarse);
}

#define T_WORLD(path, fn) T_SETUP(path, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_WORLD("/hbitmap/random", test_random),
        T_WORLD("/hbitmap/sha256/vectors", test_sha256_vectors),
        T_WORLD("/hbitmap/length/0", test_empty_length),
        T_WORLD("/hbitmap/length/1", test_one_item),
        T_WORLD("/hbitmap/length/max", test_largest_length),
        T_WORLD("/hbitmap/memory/sparse", test_sparse_memory),
        T_WORLD("/hbitmap/fill-bit-by-bit", test_fill_bit_by_bit),
        T_WORLD("/hbitmap/count/exceeds-length", test_count_exceeds_length),
        T_WORLD("/hbitmap/truncate/partial-group", test_truncate_partial_group),
        T_WORLD("/hbitmap/serial/garbage-is-masked", test_garbage_is_masked),
        T_WORLD("/hbitmap/iter/rounds-down", test_iterator_rounds_down),
        T_WORLD("/hbitmap/iter/under-change", test_iterator_under_change),
        T_WORLD("/hbitmap/seed/8f0720e/rounds", test_seed_8f0720e_rounds),
        T_WORLD("/hbitmap/seed/88ff0e4/9e48b02/no-iterator-on-empty", test_seed_88ff0e4_no_iterator_on_empty),
        T_WORLD("/hbitmap/merge/granularities", test_merge_granularities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
