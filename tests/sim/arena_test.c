/* Protects the census of the arenas, and what a reset keeps and drops. */
#include "tests/testlib.h"

#include "sim/arena.h"
#include "sim/world.h"

static struct sim_arena *arena;

static int setup(void **state)
{
    arena = sim_arena_new();
    return 0;
}

static int teardown(void **state)
{
    sim_arena_delete(arena);
    return 0;
}

static void test_census(void **state)
{
    void *a = sim_alloc(arena, SIM_TYPE_disk, 100);
    void *b = sim_alloc(arena, SIM_TYPE_disk, 100);
    char *s = sim_strdup(arena, "hello");

    assert_string_equal(s, "hello");
    assert_int_equal(sim_arena_live(arena, SIM_TYPE_disk), 2);
    assert_int_equal(sim_arena_live(arena, SIM_TYPE_str), 1);
    assert_int_equal(sim_arena_live_bytes(arena), 206);
    sim_free(arena, SIM_TYPE_disk, a, 100);
    sim_strfree(arena, s);
    sim_strfree(arena, NULL);
    sim_free(arena, SIM_TYPE_disk, NULL, 100);
    assert_int_equal(sim_arena_live(arena, SIM_TYPE_disk), 1);
    assert_int_equal(sim_arena_live(arena, SIM_TYPE_str), 0);
    sim_free(arena, SIM_TYPE_disk, b, 100);
    assert_int_equal(sim_arena_live_bytes(arena), 0);
    assert_int_equal(sim_arena_peak_bytes(arena), 206);
    assert_string_equal(sim_type_name(SIM_TYPE_disk), "disk");
    assert_string_equal(sim_type_doc(SIM_TYPE_disk), "fake disk");
}

/* Every size class and beyond: zeroed although recycled, aligned, apart from each other. */
static void test_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 100, 2047, 2048, 2049, 4096, 4097, 9000, 16384, 16385, 300000};

    for (int round = 0; round < 3; round++) {
        unsigned char *ptr[ARRAY_SIZE(sizes)];

        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            ptr[i] = sim_alloc(arena, SIM_TYPE_disk_node, sizes[i]);
            assert_int_equal((uintptr_t)ptr[i] % 16, 0);
            for (size_t k = 0; k < sizes[i]; k++) {
                assert_int_equal(ptr[i][k], 0);
            }
            memset(ptr[i], (int)i + 1, sizes[i]);
        }
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            for (size_t k = 0; k < sizes[i]; k++) {
                assert_int_equal(ptr[i][k], i + 1);
            }
            if (round < 2) {
                sim_free(arena, SIM_TYPE_disk_node, ptr[i], sizes[i]);
            }
        }
    }
    assert_int_equal(sim_arena_live(arena, SIM_TYPE_disk_node), ARRAY_SIZE(sizes));
    sim_arena_reset(arena);
    assert_int_equal(sim_arena_live(arena, SIM_TYPE_disk_node), 0);
}

static void fill_world(void)
{
    for (int i = 0; i < 5000; i++) {
        void *ptr = sim_alloc(arena, SIM_TYPE_page, 96);

        if (i % 3 == 0) {
            sim_free(arena, SIM_TYPE_page, ptr, 96);
        }
    }
}

/* A second world of the same size takes no more memory than the first. */
static void test_reset_recycles(void **state)
{
    uint64_t reserved;

    fill_world();
    reserved = sim_arena_reserved_bytes(arena);
    assert_true(reserved > 5000 * 64);
    for (int i = 0; i < 5; i++) {
        sim_arena_reset(arena);
        assert_int_equal(sim_arena_live_bytes(arena), 0);
        assert_int_equal(sim_arena_peak_bytes(arena), 0);
        fill_world();
        assert_int_equal(sim_arena_reserved_bytes(arena), reserved);
    }
}

static void test_fill(void **state)
{
    unsigned char *raw;
    unsigned char *zeroed;

    sim_arena_fill(arena, 0xa5);
    raw = sim_alloc_raw(arena, SIM_TYPE_page, 64);
    zeroed = sim_alloc(arena, SIM_TYPE_page, 64);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(raw[i], 0xa5);
        assert_int_equal(zeroed[i], 0);
    }
}

/* Release builds recycle at once; sanitizer builds never do before the reset. */
static void test_reuse(void **state)
{
    void *a = sim_alloc(arena, SIM_TYPE_page, 64);
    uintptr_t first = (uintptr_t)a;
    uintptr_t second;

    sim_free(arena, SIM_TYPE_page, a, 64);
    second = (uintptr_t)sim_alloc(arena, SIM_TYPE_page, 60);
    assert_true(SIM_ASAN ? first != second : first == second);
}

static void test_accounted(void **state)
{
    sim_arena_account(arena, SIM_TYPE_Coroutine, 1000, 1);
    assert_int_equal(sim_arena_live(arena, SIM_TYPE_Coroutine), 1);
    assert_int_equal(sim_arena_live_bytes(arena), 1000);
    sim_arena_account(arena, SIM_TYPE_Coroutine, 1000, -1);
    assert_int_equal(sim_arena_live_bytes(arena), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/sim/arena/census", test_census, setup, teardown),
        T_SETUP("/sim/arena/sizes", test_sizes, setup, teardown),
        T_SETUP("/sim/arena/reset-recycles", test_reset_recycles, setup, teardown),
        T_SETUP("/sim/arena/fill", test_fill, setup, teardown),
        T_SETUP("/sim/arena/reuse", test_reuse, setup, teardown),
        T_SETUP("/sim/arena/accounted", test_accounted, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
