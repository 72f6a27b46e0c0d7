/* Protects the choices: stable under edits, replayable, bounded. */
#include "tests/testlib.h"

#include "sim/sim.h"

static struct sim *world;

static int setup(void **state)
{
    world = sim_new();
    return 0;
}

static int teardown(void **state)
{
    sim_delete(world);
    return 0;
}

static void fresh(enum sim_policy policy, uint64_t seed)
{
    sim_reset(world);
    sim_choice_set_seed(world, seed);
    sim_choice_set_policy(world, policy);
}

enum { ENTITIES = 6, DRAWS = 40 };

/* Entities take turns; `without` takes no part. */
static void draw_all(uint32_t out[ENTITIES][DRAWS], int without)
{
    for (int d = 0; d < DRAWS; d++) {
        for (int e = 0; e < ENTITIES; e++) {
            if (e != without) {
                out[e][d] = sim_choose(world, SITE_disk_latency, (uint64_t)e, 16);
            }
        }
    }
}

static void test_removal_shifts_nobody(void **state)
{
    uint32_t whole[ENTITIES][DRAWS] = {{0}};
    uint32_t part[ENTITIES][DRAWS] = {{0}};

    fresh(SIM_POLICY_RANDOM, 3);
    draw_all(whole, -1);
    fresh(SIM_POLICY_RANDOM, 3);
    draw_all(part, 2);
    for (int e = 0; e < ENTITIES; e++) {
        assert_int_equal(memcmp(whole[e], part[e], sizeof(whole[e])) == 0, e != 2);
    }
}

static void test_random(void **state)
{
    uint32_t counts[4] = {0};

    fresh(SIM_POLICY_RANDOM, 1);
    for (int i = 0; i < 4000; i++) {
        uint32_t value = sim_choose(world, SITE_sched_rank, 1, 4);

        assert_true(value < 4);
        counts[value]++;
    }
    for (int i = 0; i < 4; i++) {
        assert_in_range(counts[i], 850, 1150);
    }
    assert_int_equal(sim_choose(world, SITE_disk_moment, 1, 1), 0);
}

/* The very values: a scenario means the same in all later builds. */
static void test_values_are_frozen(void **state)
{
    static const uint64_t expected[] = {675, 611, 70, 982, 526, 521};

    fresh(SIM_POLICY_CALM, 42);
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        assert_int_equal(sim_draw(world, SITE_disk_latency, 5, 1000), expected[i]);
    }
}

static void test_calm_and_draw(void **state)
{
    uint64_t drawn[10];

    fresh(SIM_POLICY_RANDOM, 9);
    for (int i = 0; i < 10; i++) {
        drawn[i] = sim_draw(world, SITE_disk_order, 7, UINT64_C(1) << 40);
    }
    fresh(SIM_POLICY_CALM, 9);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(sim_choose(world, SITE_disk_latency, 7, 4), 0);
        assert_int_equal(sim_choose_rank(world, 7), 0);
        assert_int_equal(sim_draw(world, SITE_disk_order, 7, UINT64_C(1) << 40), drawn[i]);
    }
    assert_int_equal(sim_choice_schedule_steps(world), 10);
}

static void test_pins(void **state)
{
    fresh(SIM_POLICY_CALM, 0);
    sim_choice_pin(world, &(struct sim_pin){SITE_disk_latency, 7, 2, 3});
    sim_choice_pin(world, &(struct sim_pin){SITE_disk_latency, 7, 4, 9});
    sim_choice_pin(world, &(struct sim_pin){SITE_disk_order, 7, 0, 5});
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(sim_choose(world, SITE_disk_latency, 8, 4), 0);
        assert_int_equal(sim_choose(world, SITE_disk_latency, 7, 4), i == 2 ? 3 : i == 4 ? 1 : 0);
    }
    assert_int_equal(sim_draw(world, SITE_disk_order, 7, 100), 5);
    fresh(SIM_POLICY_CALM, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sim_choose(world, SITE_disk_latency, 7, 4), 0);
    }
}

static void test_replay_of_recorded(void **state)
{
    uint32_t random[ENTITIES][DRAWS] = {{0}};
    uint32_t replayed[ENTITIES][DRAWS] = {{0}};
    const struct sim_pin *pins;
    struct sim_pin *copy;
    size_t count;
    size_t zeros = 0;

    fresh(SIM_POLICY_RANDOM, 11);
    sim_choice_record(world, true);
    draw_all(random, -1);
    count = sim_choice_recorded(world, &pins);
    for (int i = 0; i < ENTITIES * DRAWS; i++) {
        zeros += random[i / DRAWS][i % DRAWS] == 0;
    }
    assert_int_equal(count + zeros, ENTITIES * DRAWS);
    copy = malloc(count * sizeof(*copy));
    memcpy(copy, pins, count * sizeof(*copy));
    fresh(SIM_POLICY_REPLAY, 12);
    for (size_t i = 0; i < count; i++) {
        sim_choice_pin(world, &copy[i]);
    }
    draw_all(replayed, -1);
    assert_memory_equal(random, replayed, sizeof(random));
    free(copy);
}

static uint32_t last_of(void *opaque, enum sim_site site, uint64_t entity, uint32_t ordinal, uint32_t n)
{
    (*(int *)opaque)++;
    return n - 1;
}

static void test_exhaust_asks_the_oracle(void **state)
{
    int asked = 0;

    fresh(SIM_POLICY_EXHAUST, 0);
    sim_choice_set_oracle(world, last_of, &asked);
    assert_int_equal(sim_choose(world, SITE_disk_latency, 1, 4), 3);
    assert_int_equal(sim_choose(world, SITE_disk_latency, 1, 1), 0);
    assert_int_equal(asked, 1);
}

/* Each task keeps its priority but for at most D-1 falls, which happen within the calm run's length. */
static void test_pct(void **state)
{
    enum { TASKS = 20, STEPS = 400, DEPTH = 4 };
    uint32_t seen = 0;

    for (uint64_t seed = 0; seed < 30; seed++) {
        uint32_t rank[TASKS];
        int falls = 0;

        fresh(SIM_POLICY_PCT, seed);
        sim_choice_set_pct(world, DEPTH, STEPS);
        for (int i = 0; i < 2 * STEPS; i++) {
            uint32_t now = sim_choose_rank(world, (uint64_t)(i % TASKS));

            assert_true(now < 4);
            seen |= 1u << now;
            if (i < TASKS) {
                rank[i] = now;
                falls += now == 3;
            } else if (now != rank[i % TASKS]) {
                assert_int_equal(now, 3);
                assert_true(i < STEPS);
                rank[i % TASKS] = now;
                falls++;
            }
        }
        assert_in_range(falls, 1, DEPTH - 1);
        assert_int_equal(sim_choice_schedule_tasks(world), TASKS);
        assert_int_equal(sim_choice_schedule_steps(world), 2 * STEPS);
    }
    assert_int_equal(seen, 15);
}

static void test_names(void **state)
{
    for (int i = 0; i < SITE_COUNT; i++) {
        assert_int_equal(sim_site_find(sim_site_name(i)), i);
        assert_true(strlen(sim_site_doc(i)) > 0);
    }
    assert_int_equal(sim_site_find("no.such"), -1);
    assert_string_equal(sim_policy_name(SIM_POLICY_PCT), "pct");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/sim/choice/removal-shifts-nobody", test_removal_shifts_nobody, setup, teardown),
        T_SETUP("/sim/choice/random", test_random, setup, teardown),
        T_SETUP("/sim/choice/values-are-frozen", test_values_are_frozen, setup, teardown),
        T_SETUP("/sim/choice/calm-and-draw", test_calm_and_draw, setup, teardown),
        T_SETUP("/sim/choice/pins", test_pins, setup, teardown),
        T_SETUP("/sim/choice/replay-of-recorded", test_replay_of_recorded, setup, teardown),
        T_SETUP("/sim/choice/exhaust", test_exhaust_asks_the_oracle, setup, teardown),
        T_SETUP("/sim/choice/pct", test_pct, setup, teardown),
        T_SETUP("/sim/choice/names", test_names, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
