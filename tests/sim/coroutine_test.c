/* Protects coroutines, their locks and their fate when a world or a host ends. */
#include "tests/testlib.h"

#include "sim/coroutine.h"

static struct sim *world;
static char trail[256];

static int setup(void **state)
{
    world = sim_new();
    trail[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    sim_delete(world);
    return 0;
}

static void say(char c)
{
    size_t length = strlen(trail);

    trail[length] = c;
    trail[length + 1] = '\0';
}

static Coroutine *spawn(struct host *host, void (*entry)(void *opaque), void *opaque)
{
    Coroutine *co = coroutine_create(world, host, "test", entry, opaque);

    coroutine_start(co);
    return co;
}

static void settle(const char *expected)
{
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    assert_string_equal(trail, expected);
}

static void yielder(void *opaque)
{
    const char *name = opaque;

    say(name[0]);
    coroutine_yield(world);
    say(name[1]);
}

static void test_yield_and_wake(void **state)
{
    Coroutine *a = spawn(NULL, yielder, TEXT("aA"));
    Coroutine *b = spawn(NULL, yielder, TEXT("bB"));

    assert_string_equal(trail, "");
    settle("ab");
    assert_int_equal(coroutine_count(world), 2);
    assert_true(coroutine_parked(a));
    coroutine_wake(b);
    coroutine_wake(b);
    coroutine_wake(a);
    assert_false(coroutine_parked(a));
    settle("abBA");
    assert_int_equal(coroutine_count(world), 0);
    assert_int_equal(sim_arena_live(sim_arena(world), SIM_TYPE_Coroutine), 0);
    assert_int_equal(sim_work_pending(world), 0);
}

static void early(void *opaque)
{
    coroutine_wake(coroutine_self(world));
    say('1');
    coroutine_yield(world);
    say('2');
}

static void test_wake_before_yield(void **state)
{
    spawn(NULL, early, NULL);
    settle("12");
}

/* Deep frames on a recycled stack: what the last owner left there must not matter. */
static int deep(int depth)
{
    volatile char frame[64];

    memset((char *)frame, depth, sizeof(frame));
    return depth ? deep(depth - 1) + frame[3] : frame[0];
}

static void digger(void *opaque)
{
    int *sum = opaque;

    *sum += deep(20);
    coroutine_yield(world);
    *sum += deep(20);
}

static void test_pool_survives_reset(void **state)
{
    for (int round = 0; round < 4; round++) {
        int sum = 0;
        Coroutine *a = spawn(NULL, digger, &sum);

        spawn(NULL, digger, &sum);
        sim_run(world, NULL, NULL, INT64_MAX);
        assert_int_equal(sum, 420);
        if (round & 1) {
            coroutine_wake(a);
            sim_run(world, NULL, NULL, INT64_MAX);
            assert_int_equal(sum, 630);
        }
        sim_reset(world);
        assert_int_equal(coroutine_count(world), 0);
        assert_int_equal(sim_now(world), 0);
    }
}

/* --- origins -------------------------------------------------------------------------------------------- */

static void child(void *opaque)
{
    *(uint64_t *)opaque = coroutine_origin(coroutine_self(world))->number;
}

static void parent(void *opaque)
{
    spawn(NULL, child, opaque);
}

static void test_origin_inherited(void **state)
{
    struct sim_origin origin = {SIM_ORIGIN_GUEST, sim_name(world, "g"), 17};
    struct sim_origin other = {SIM_ORIGIN_GUEST, sim_name(world, "g"), 18};
    uint64_t number = 0;
    Coroutine *co = coroutine_create(world, NULL, "parent", parent, &number);

    assert_int_equal(coroutine_origin(co)->kind, SIM_ORIGIN_NONE);
    coroutine_set_origin(co, origin);
    coroutine_start(co);
    settle("");
    assert_int_equal(number, 17);
    assert_true(sim_origin_key(&origin) != sim_origin_key(&other));
}

/* --- locks ---------------------------------------------------------------------------------------------- */

static CoMutex mutex;
static CoQueue queue;
static CoRwlock rwlock;

static void locker(void *opaque)
{
    const char *name = opaque;

    co_mutex_lock(&mutex);
    say(name[0]);
    co_sleep_ns(world, 10);
    say(name[1]);
    co_mutex_unlock(&mutex);
}

static void test_mutex_fifo(void **state)
{
    co_mutex_init(world, &mutex);
    spawn(NULL, locker, TEXT("aA"));
    spawn(NULL, locker, TEXT("bB"));
    spawn(NULL, locker, TEXT("cC"));
    settle("aAbBcC");
    assert_int_equal(sim_now(world), 30);
    assert_null(mutex.holder);
}

static void waiter(void *opaque)
{
    co_queue_wait(&queue);
    say(*(char *)opaque);
}

static void test_queue(void **state)
{
    co_queue_init(world, &queue);
    assert_true(co_queue_empty(&queue));
    assert_false(co_queue_next(&queue));
    for (const char *c = "abcd"; *c; c++) {
        spawn(NULL, waiter, (void *)(uintptr_t)c);
    }
    settle("");
    assert_false(co_queue_empty(&queue));
    assert_true(co_queue_next(&queue));
    settle("a");
    co_queue_restart_all(&queue);
    assert_true(co_queue_empty(&queue));
    settle("abcd");
}

static void stray(void *opaque)
{
    co_queue_wait(&queue);
    say('q');
    coroutine_yield(world);
    say('y');
}

/* A wake-up meant for a later yield neither ends a wait in a queue nor gets lost. */
static void test_stray_wake(void **state)
{
    Coroutine *co;

    co_queue_init(world, &queue);
    co = spawn(NULL, stray, NULL);
    settle("");
    coroutine_wake(co);
    settle("");
    assert_false(co_queue_empty(&queue));
    co_queue_next(&queue);
    settle("qy");
}

static void reader(void *opaque)
{
    const char *name = opaque;

    co_rwlock_rdlock(&rwlock);
    say(name[0]);
    co_sleep_ns(world, 10);
    say(name[1]);
    co_rwlock_unlock(&rwlock);
}

static void writer(void *opaque)
{
    const char *name = opaque;

    co_rwlock_wrlock(&rwlock);
    say(name[0]);
    co_sleep_ns(world, 10);
    say(name[1]);
    co_rwlock_unlock(&rwlock);
}

static void test_rwlock(void **state)
{
    co_rwlock_init(world, &rwlock);
    spawn(NULL, reader, TEXT("rR"));
    spawn(NULL, reader, TEXT("sS"));
    spawn(NULL, writer, TEXT("wW"));
    spawn(NULL, reader, TEXT("tT")); /* behind the writer: writers do not starve */
    spawn(NULL, reader, TEXT("uU"));
    settle("rsRSwWtuTU");
    assert_int_equal(rwlock.owners, 0);
}

/* --- sleep ---------------------------------------------------------------------------------------------- */

static CoSleep nap;

static void sleeper(void *opaque)
{
    bool idle = *(bool *)opaque;

    say(co_sleep_ns_wakeable(world, &nap, 1000, idle) ? 'f' : 'w');
}

static void test_sleep(void **state)
{
    bool idle = false;

    spawn(NULL, sleeper, &idle);
    settle("f");
    assert_int_equal(sim_now(world), 1000);
    spawn(NULL, sleeper, &idle);
    assert_int_equal(sim_run(world, NULL, NULL, 1500), SIM_STOP_TIME);
    co_sleep_wake(&nap);
    co_sleep_wake(&nap);
    settle("fw");
    assert_int_equal(sim_now(world), 1500);
    idle = true;
    spawn(NULL, sleeper, &idle);
    settle("fw");
    assert_int_equal(coroutine_count(world), 1);
    assert_int_equal(sim_run_idle(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    assert_string_equal(trail, "fwf");
    assert_int_equal(sim_now(world), 2500);
}

/* --- hosts ---------------------------------------------------------------------------------------------- */

static void eternal(void *opaque)
{
    for (;;) {
        co_sleep_ns(world, 10);
        say(*(char *)opaque);
    }
}

static void test_crash_drops(void **state)
{
    struct host *a = host_new(world, "a");
    struct host *b = host_new(world, "b");

    co_queue_init(world, &queue);
    co_mutex_init(world, &mutex);
    SIM_UNUSED char *leak = sim_strdup(a->arena, "dropped with the host");
    spawn(a, eternal, TEXT("x"));
    spawn(b, waiter, TEXT("1"));
    spawn(a, waiter, TEXT("2"));
    spawn(b, waiter, TEXT("3"));
    coroutine_create(world, a, "never started", waiter, TEXT("4"));
    assert_int_equal(sim_run(world, NULL, NULL, 25), SIM_STOP_TIME);
    assert_string_equal(trail, "xx");
    host_crash(a);
    assert_null(host_find(world, "a"));
    assert_ptr_equal(host_first(world), b);
    assert_int_equal(sim_work_pending(world), 0);
    co_queue_restart_all(&queue);
    settle("xx13");
    assert_int_equal(coroutine_count(world), 1); /* b's main loop */
    assert_int_equal(host_new(world, "a")->number, 3);
}

static void tell(void *opaque)
{
    say(*(char *)opaque);
}

/* Owns three things for a while, two of them for ever. */
static void owner(void *opaque)
{
    struct co_cleanup a, b, c;

    coroutine_cleanup_push(world, &a, tell, TEXT("a"));
    coroutine_cleanup_push(world, &b, tell, TEXT("b"));
    coroutine_cleanup_push(world, &c, tell, TEXT("c"));
    co_sleep_ns(world, 10);
    coroutine_cleanup_pop(&c);
    co_sleep_ns(world, 100);
    coroutine_cleanup_pop(&b);
    coroutine_cleanup_pop(&a);
}

static void test_crash_cleans_up(void **state)
{
    struct host *a = host_new(world, "a");
    struct host *b = host_new(world, "b");

    spawn(a, owner, NULL);
    spawn(b, owner, NULL);
    assert_int_equal(sim_run(world, NULL, NULL, 25), SIM_STOP_TIME);
    assert_string_equal(trail, "");
    host_crash(a);
    assert_string_equal(trail, "ba"); /* the newest first, and what was given up does not count */
    settle("ba");                     /* who gets to the end has nothing to leave */
}

static void test_dump(void **state)
{
    struct host *host = host_new(world, "h");
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    Coroutine *co;

    co_queue_init(world, &queue);
    spawn(host, waiter, TEXT("a"));
    co = spawn(NULL, yielder, TEXT("bB"));
    coroutine_set_origin(co, (struct sim_origin){SIM_ORIGIN_JOB, sim_name(world, "m"), 5});
    settle("b");
    sim_dump_hang(world, out);
    fclose(out);
    assert_string_equal(text, "coroutine host=h what=main loop origin=main:h:0 not started\n"
                              "coroutine host=h what=test origin=none:-:0 waiting in a queue\n"
                              "coroutine host=- what=test origin=job:m:5 parked\n");
    free(text);
}

/* --- determinism ---------------------------------------------------------------------------------------- */

static void busy(void *opaque)
{
    uint64_t key = *(uint64_t *)opaque;

    for (int i = 0; i < 20; i++) {
        co_mutex_lock(&mutex);
        SIM_EMIT(world, NULL, disk_capacity, NULL, SIM_P(sim_name(world, "d")), key * 100 + (uint64_t)i);
        co_sleep_ns(world, (int64_t)sim_choose(world, SITE_disk_latency, key, 4));
        co_mutex_unlock(&mutex);
        co_sleep_ns(world, (int64_t)sim_choose(world, SITE_disk_latency, key, 4));
    }
}

static uint64_t busy_hash(enum sim_policy policy, uint64_t seed)
{
    static uint64_t keys[] = {1, 2, 3, 4, 5};
    uint64_t hash;

    sim_choice_set_seed(world, seed);
    sim_choice_set_policy(world, policy);
    co_mutex_init(world, &mutex);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        Coroutine *co = coroutine_create(world, NULL, "busy", busy, &keys[i]);

        coroutine_set_origin(co, (struct sim_origin){.kind = SIM_ORIGIN_RUNNER, .number = keys[i]});
        coroutine_start(co);
    }
    sim_run(world, NULL, NULL, INT64_MAX);
    hash = sim_trace_hash(world);
    assert_int_equal(sim_event_count(world), 100);
    sim_reset(world);
    return hash;
}

static void test_same_twice(void **state)
{
    for (int policy = SIM_POLICY_CALM; policy <= SIM_POLICY_PCT; policy++) {
        assert_int_equal(busy_hash(policy, 7), busy_hash(policy, 7));
    }
    assert_true(busy_hash(SIM_POLICY_RANDOM, 7) != busy_hash(SIM_POLICY_RANDOM, 8));
    assert_true(busy_hash(SIM_POLICY_CALM, 7) == busy_hash(SIM_POLICY_CALM, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/sim/coroutine/yield-and-wake", test_yield_and_wake, setup, teardown),
        T_SETUP("/sim/coroutine/wake-before-yield", test_wake_before_yield, setup, teardown),
        T_SETUP("/sim/coroutine/pool-survives-reset", test_pool_survives_reset, setup, teardown),
        T_SETUP("/sim/coroutine/origin-inherited", test_origin_inherited, setup, teardown),
        T_SETUP("/sim/coroutine/stray-wake", test_stray_wake, setup, teardown),
        T_SETUP("/sim/coroutine/crash-drops", test_crash_drops, setup, teardown),
        T_SETUP("/sim/coroutine/crash-cleans-up", test_crash_cleans_up, setup, teardown),
        T_SETUP("/sim/coroutine/dump", test_dump, setup, teardown),
        T_SETUP("/sim/colock/mutex-fifo", test_mutex_fifo, setup, teardown),
        T_SETUP("/sim/colock/queue", test_queue, setup, teardown),
        T_SETUP("/sim/colock/rwlock", test_rwlock, setup, teardown),
        T_SETUP("/sim/colock/sleep", test_sleep, setup, teardown),
        T_SETUP("/sim/coroutine/same-twice", test_same_twice, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
