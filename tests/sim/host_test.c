/* Protects the main loop of a host: callbacks, commands, nested polls. */
#include "tests/testlib.h"

#include "sim/coroutine.h"

static struct sim *world;
static struct host *host;
static char trail[256];
static bool flag_outer, flag_inner;

static int setup(void **state)
{
    world = sim_new();
    host = host_new(world, "h");
    trail[0] = '\0';
    flag_outer = false;
    flag_inner = false;
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

static void settle(const char *expected)
{
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    assert_string_equal(trail, expected);
}

static void letter(void *opaque)
{
    assert_true(host_in_main(host));
    say(*(char *)opaque);
}

static bool is_set(void *opaque)
{
    return *(bool *)opaque;
}

static void test_order(void **state)
{
    host_command(host, letter, TEXT("C"));
    host_defer(host, letter, TEXT("a"));
    host_defer(host, letter, TEXT("b"));
    host_command(host, letter, TEXT("D"));
    assert_string_equal(trail, "");
    settle("abCD");
    host_defer(host, letter, TEXT("c"));
    settle("abCDc");
    assert_int_equal(sim_arena_live(host->arena, SIM_TYPE_host_callback), 0);
    host_delete(host);
    assert_null(host_first(world));
    assert_int_equal(coroutine_count(world), 0);
}

static void poll_outer(void *opaque)
{
    say('(');
    host_poll(host, is_set, &flag_outer);
    say(')');
}

static void test_commands_wait_for_poll(void **state)
{
    host_command(host, poll_outer, NULL);
    host_command(host, letter, TEXT("C"));
    settle("(");
    assert_int_equal(host_poll_depth(host), 1);
    assert_int_equal(host_commands_waiting(host), 1);
    host_defer(host, letter, TEXT("a"));
    host_command(host, letter, TEXT("D"));
    settle("(a");
    host_kick(host);
    settle("(a");
    flag_outer = true;
    settle("(a"); /* nobody kicked */
    host_kick(host);
    settle("(a)CD");
    assert_int_equal(host_poll_depth(host), 0);
    host_kick(host);
    assert_int_equal(sim_work_pending(world), 0);
}

static void poll_inner(void *opaque)
{
    say('[');
    host_poll(host, is_set, &flag_inner);
    say(']');
}

/* The outer condition holds while the inner poll runs: it is looked at only when the inner one is over. */
static void test_nested(void **state)
{
    host_command(host, poll_outer, NULL);
    host_defer(host, letter, TEXT("a"));
    settle("a(");
    host_defer(host, poll_inner, NULL);
    settle("a([");
    assert_int_equal(host_poll_depth(host), 2);
    flag_outer = true;
    host_kick(host);
    settle("a([");
    host_defer(host, letter, TEXT("b"));
    settle("a([b");
    flag_inner = true;
    host_kick(host);
    settle("a([b])");
    assert_int_equal(sim_mark_hits(world, MARK_host_poll_nested), 1);
}

static void set_flag(void *opaque)
{
    *(bool *)opaque = true;
    say('!');
}

static void test_callback_ends_poll(void **state)
{
    host_command(host, poll_outer, NULL);
    settle("(");
    host_defer(host, set_flag, &flag_outer);
    host_defer(host, letter, TEXT("z"));
    settle("(!)z");
}

static void requeue(void *opaque)
{
    host_defer(host, requeue, NULL);
}

static void test_livelock_is_seen(void **state)
{
    host_defer(host, requeue, NULL);
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_LIVELOCK);
}

static void caller(void *opaque)
{
    assert_false(host_in_main(host));
    host_call_main(host, letter, TEXT("m"));
    say('r');
}

static void call_from_main(void *opaque)
{
    host_call_main(host, letter, TEXT("n"));
    say('s');
}

static void test_call_main(void **state)
{
    coroutine_start(coroutine_create(world, host, "caller", caller, NULL));
    settle("mr");
    host_command(host, call_from_main, NULL);
    settle("mrns");
}

/* Commands queue on the polling host alone. */
static void test_other_hosts_go_on(void **state)
{
    struct host *other = host_new(world, "o");
    bool ran = false;

    host_command(host, poll_outer, NULL);
    settle("(");
    host_command(other, set_flag, &ran);
    settle("(!");
    assert_true(ran);
    host_crash(host);
    assert_int_equal(coroutine_count(world), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/sim/host/order", test_order, setup, teardown),
        T_SETUP("/sim/host/commands-wait-for-poll", test_commands_wait_for_poll, setup, teardown),
        T_SETUP("/sim/host/nested-poll", test_nested, setup, teardown),
        T_SETUP("/sim/host/callback-ends-poll", test_callback_ends_poll, setup, teardown),
        T_SETUP("/sim/host/livelock-is-seen", test_livelock_is_seen, setup, teardown),
        T_SETUP("/sim/host/call-main", test_call_main, setup, teardown),
        T_SETUP("/sim/host/other-hosts-go-on", test_other_hosts_go_on, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
