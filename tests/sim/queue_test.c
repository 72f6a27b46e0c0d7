/* Protects the order of events and the ways a run of the world stops. */
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

/* A timer that writes its letter. */
struct letter {
    struct sim_timer timer;
    char c;
};
static char written[64];

static void write_letter(void *opaque)
{
    struct letter *letter = opaque;
    size_t length = strlen(written);

    written[length] = letter->c;
    written[length + 1] = '\0';
}

static void arm(struct letter *letter, char c, int64_t time_ns, uint64_t entity)
{
    letter->c = c;
    sim_timer_init(&letter->timer, write_letter, letter);
    sim_timer_arm(world, &letter->timer, time_ns, entity);
}

static void run_all(const char *expected)
{
    written[0] = '\0';
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    assert_string_equal(written, expected);
}

static void test_time_then_fifo(void **state)
{
    struct letter l[6];

    arm(&l[0], 'd', 20, 1);
    arm(&l[1], 'a', 0, 1);
    arm(&l[2], 'c', 10, 1);
    arm(&l[3], 'e', 20, 2);
    arm(&l[4], 'b', 0, 2);
    arm(&l[5], 'f', 21, 2);
    assert_int_equal(sim_work_pending(world), 6);
    run_all("abcdef");
    assert_int_equal(sim_now(world), 21);
}

/* Ranks 0..3 pinned per entity: lower first, FIFO within a rank, in the heap and in the FIFOs of the instant. */
static void test_ranks(void **state)
{
    static const uint32_t ranks[] = {3, 0, 2, 0, 1, 3};

    for (int64_t time_ns = 0; time_ns <= 50; time_ns += 50) {
        struct letter l[6];

        sim_reset(world);
        for (uint32_t i = 0; i < 6; i++) {
            sim_choice_pin(world, &(struct sim_pin){SITE_sched_rank, i, 0, ranks[i]});
        }
        for (uint32_t i = 0; i < 6; i++) {
            arm(&l[i], (char)('0' + i), time_ns, i);
        }
        run_all("134205");
    }
}

struct chain {
    struct letter first, late, now;
};

static void arm_now(void *opaque)
{
    struct chain *chain = opaque;

    write_letter(&chain->first);
    arm(&chain->now, 'n', sim_now(world), 9);
}

/* What was armed earlier for this instant goes before what is armed in it; a better rank goes first all the same.
 */
static void test_heap_meets_fifo(void **state)
{
    for (uint32_t rank = 0; rank < 2; rank++) {
        struct chain chain;

        sim_reset(world);
        sim_choice_pin(world, &(struct sim_pin){SITE_sched_rank, 5, 0, rank});
        chain.first.c = 'f';
        sim_timer_init(&chain.first.timer, arm_now, &chain);
        sim_timer_arm(world, &chain.first.timer, 10, 1);
        arm(&chain.late, 'l', 10, 5);
        run_all(rank ? "fnl" : "fln");
    }
}

static void test_rearm_and_disarm(void **state)
{
    struct letter l[5];

    for (int i = 0; i < 5; i++) {
        arm(&l[i], (char)('a' + i), i < 2 ? 0 : 10, 1);
    }
    sim_timer_disarm(world, &l[0].timer);
    sim_timer_disarm(world, &l[0].timer);
    sim_timer_disarm(world, &l[3].timer);
    sim_timer_arm(world, &l[2].timer, 30, 1);
    assert_false(sim_timer_queued(&l[3].timer));
    assert_int_equal(sim_work_pending(world), 3);
    run_all("bec");
}

/* Against sorting: 2,000 timers, half of them moved or removed again. */
static void test_large(void **state)
{
    enum { N = 2000 };
    static struct letter l[N];
    int64_t last = 0;
    uint64_t ran = 0;

    for (int i = 0; i < N; i++) {
        arm(&l[i], 'x', 1 + (int64_t)sim_draw(world, SITE_disk_latency, 1, 1000), 1);
    }
    for (int i = 0; i < N; i += 4) {
        sim_timer_disarm(world, &l[i].timer);
        sim_timer_arm(world, &l[i + 1].timer, 1 + (int64_t)sim_draw(world, SITE_disk_latency, 1, 1000), 1);
    }
    for (; sim_work_pending(world) > 0; ran++) {
        uint64_t before = sim_steps(world);

        written[0] = '\0';
        assert_true(sim_run(world, NULL, NULL, sim_now(world) + 1) != SIM_STOP_LIVELOCK);
        assert_true(sim_now(world) >= last);
        last = sim_now(world);
        for (int i = 0; i < N; i++) {
            assert_true(!sim_timer_queued(&l[i].timer) || l[i].timer.time_ns > last);
        }
        assert_true(sim_steps(world) - before < sizeof(written));
    }
    assert_int_equal(sim_steps(world), N - N / 4);
}

static bool letter_written(void *opaque)
{
    return strchr(written, *(char *)opaque) != NULL;
}

static void test_stops(void **state)
{
    struct letter work, idle;
    char c = 'w';

    written[0] = '\0';
    assert_int_equal(sim_run(world, NULL, NULL, 5), SIM_STOP_SETTLED);
    assert_int_equal(sim_now(world), 0);
    assert_int_equal(sim_run_idle(world, NULL, NULL, 5), SIM_STOP_TIME);
    assert_int_equal(sim_now(world), 5);
    arm(&work, 'w', 10, 1);
    idle.c = 'i';
    sim_timer_init(&idle.timer, write_letter, &idle);
    idle.timer.idle = true;
    sim_timer_arm(world, &idle.timer, 20, 1);
    assert_int_equal(sim_work_pending(world), 1);
    assert_int_equal(sim_run(world, NULL, NULL, 7), SIM_STOP_TIME);
    assert_int_equal(sim_now(world), 7);
    assert_int_equal(sim_run(world, letter_written, &c, INT64_MAX), SIM_STOP_COND);
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    assert_string_equal(written, "w");
    assert_int_equal(sim_run_idle(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    assert_string_equal(written, "wi");
    assert_int_equal(sim_now(world), 20);
}

static void again(void *opaque)
{
    struct letter *letter = opaque;

    sim_timer_arm(world, &letter->timer, sim_now(world) + (letter->c == 't'), 1);
}

static void halt(void *opaque)
{
    sim_halt(world);
}

static void test_bounds(void **state)
{
    struct letter l = {.c = 'n'};
    struct sim_timer stopper;

    sim_timer_init(&l.timer, again, &l);
    sim_timer_arm(world, &l.timer, 3, 1);
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_LIVELOCK);
    assert_int_equal(sim_now(world), 3);
    assert_int_equal(sim_steps(world), 100000);
    l.c = 't';
    sim_set_limits(world, INT64_MAX, 150000);
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_EVENTS);
    assert_int_equal(sim_steps(world), 150000);
    sim_set_limits(world, sim_now(world) + 10, UINT64_MAX);
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_CLOCK);
    sim_set_limits(world, INT64_MAX, UINT64_MAX);
    sim_timer_init(&stopper, halt, NULL);
    sim_timer_arm(world, &stopper, sim_now(world), 1);
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_HALTED);
    sim_timer_disarm(world, &l.timer);
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/sim/queue/time-then-fifo", test_time_then_fifo, setup, teardown),
        T_SETUP("/sim/queue/ranks", test_ranks, setup, teardown),
        T_SETUP("/sim/queue/heap-meets-fifo", test_heap_meets_fifo, setup, teardown),
        T_SETUP("/sim/queue/rearm-and-disarm", test_rearm_and_disarm, setup, teardown),
        T_SETUP("/sim/queue/large", test_large, setup, teardown),
        T_SETUP("/sim/run/stops", test_stops, setup, teardown),
        T_SETUP("/sim/run/livelock-limits-halt", test_bounds, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
