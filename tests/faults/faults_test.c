/* Protects faults/: arguments are checked before anything happens, each fault does what its page says, and stopping
 * takes everything back. */
#include <errno.h>

#include "tests/check/check_world.h"

static int setup(void **state)
{
    world_setup(state);
    new_disk("d0", MiB);
    return 0;
}

/* --- arguments ----------------------------------------------------------------------------------------------- */

static bool fits(const char *fault, const char *json, const char **text)
{
    struct qvalue *args = qvalue_from_json(json, strlen(json), NULL);
    static char message[256];
    Error *err = NULL;
    bool ok = fault_check_args(fault_find(fault), args, &err);

    message[0] = '\0';
    if (err) {
        snprintf(message, sizeof(message), "%s", error_get_pretty(err));
        error_free(err);
    }
    *text = message;
    qvalue_free(args);
    return ok;
}

static void test_arguments(void **state)
{
    static const struct {
        const char *fault, *json, *message;
    } rows[] = {
        {"error", "{\"disk\":\"d0\"}", NULL},
        {"error", "{\"disk\":\"d0\",\"op\":\"write\",\"errno\":\"ENOSPC\",\"offset\":\"64k\",\"sticky\":\"on\"}",
         NULL},
        {"error", "{\"disk\":\"d0\",\"errno\":5}", NULL},
        {"error", "{}", "Parameter 'disk' is missing"},
        {"error", "{\"disk\":\"d0\",\"colour\":1}", "Parameter 'colour' is unexpected"},
        {"error", "{\"disk\":\"d0\",\"op\":\"sing\"}", "Parameter 'op' expects an operation like write, or any"},
        {"error", "{\"disk\":\"d0\",\"errno\":\"EWHAT\"}", "Parameter 'errno' expects an errno like EIO"},
        {"error", "{\"disk\":\"d0\",\"permille\":1001}", "Parameter 'permille' expects an integer from 0 to 1000"},
        {"error", "{\"disk\":\"d0\",\"nth\":\"-1\"}", "Parameter 'nth' expects a non-negative integer"},
        {"error", "{\"disk\":\"d0\",\"origin\":\"moon\"}", "Parameter 'origin' expects a text"},
        {"latency", "{\"disk\":\"d0\",\"extra\":\"soon\"}", "Parameter 'extra' expects a time (ns, us, ms, s)"},
        {"capacity", "{\"disk\":\"d0\"}", "Parameter 'capacity' is missing"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const char *text;

        assert_int_equal(fits(rows[i].fault, rows[i].json, &text), rows[i].message == NULL);
        assert_string_equal(text, rows[i].message ? rows[i].message : "");
    }
}

/* Every default reads as its own type, every example names its fault. */
static void test_tables(void **state)
{
    for (size_t i = 0; fault_at(i); i++) {
        const struct fault_class *fault = fault_at(i);
        char start[64];

        snprintf(start, sizeof(start), "fault %s ", fault->name);
        assert_int_equal(strncmp(fault->example, start, strlen(start)), 0);
        assert_ptr_equal(fault_find(fault->name), fault);
        for (const struct fault_arg *arg = fault->args; arg->name; arg++) {
            const char *text;
            char json[128];

            assert_false(arg->required && arg->def);
            if (arg->def) {
                snprintf(json, sizeof(json), "{\"%s\":\"%s\"}", arg->name, arg->def);
                fits(fault->name, json, &text);
                assert_true(*text == '\0' || strstr(text, "is missing"));
            }
        }
    }
}

static void test_unknown_disk(void **state)
{
    struct qvalue *args = qvalue_dict();
    Error *err = NULL;

    qdict_put(args, "disk", qvalue_str("nowhere"));
    assert_false(fault_arm(world, fault_find("error"), args, 1, &err));
    assert_string_equal(error_get_pretty(err), "no disk 'nowhere'");
    assert_int_equal(sim_arena_live(sim_arena(world), SIM_TYPE_fault_rule), 0);
    error_free(err);
    qvalue_free(args);
}

/* --- requests ------------------------------------------------------------------------------------------------ */

struct write {
    int64_t offset;
    int ret;
    int64_t ns;
    bool done;
};

static void write_entry(void *opaque)
{
    struct write *w = opaque;
    int64_t start = sim_now(world);
    struct payload data;

    payload_init(world, &data);
    payload_append_fill(&data, 0x22, 4096);
    w->ret = disk_co_write(disk_find(world, "d0"), w->offset, 4096, &data, 0);
    payload_clear(&data);
    w->ns = sim_now(world) - start;
    w->done = true;
}

static void write_start(struct write *w, int64_t offset)
{
    *w = (struct write){.offset = offset};
    coroutine_start(coroutine_create(world, host, "write", write_entry, w));
}

static struct write write_at(int64_t offset)
{
    struct write w;

    write_start(&w, offset);
    run_until(flag_set, &w.done);
    return w;
}

static void test_error(void **state)
{
    arm("error", "{\"disk\":\"d0\",\"op\":\"write\",\"errno\":\"ENOSPC\",\"offset\":65536,"
                 "\"length\":65536,\"nth\":2,\"count\":2}");
    assert_int_equal(write_at(0).ret, 0);
    assert_int_equal(write_at(65536).ret, 0);
    assert_int_equal(write_at(65536).ret, -ENOSPC);
    assert_int_equal(write_at(131072).ret, 0);
    assert_int_equal(write_at(131072 - 4096).ret, -ENOSPC);
    assert_int_equal(write_at(65536).ret, 0);
    assert_int_equal(fault_fired(world), 2);
    arm("error", "{\"disk\":\"d0\",\"sticky\":true}");
    assert_int_equal(write_at(0).ret, -EIO);
    assert_int_equal(write_at(0).ret, -EIO);
    fault_stop_all(world);
    assert_int_equal(write_at(0).ret, 0);
    assert_int_equal(sim_arena_live(sim_arena(world), SIM_TYPE_fault_rule), 0);
}

/* The calm schedule draws no fault; another draws about as many as asked for, the same ones each time. */
static void test_probability(void **state)
{
    int failed = 0;

    arm("error", "{\"disk\":\"d0\",\"permille\":300,\"count\":0}");
    assert_int_equal(write_at(0).ret, 0);
    sim_choice_set_policy(world, SIM_POLICY_RANDOM);
    for (int i = 0; i < 100; i++) {
        failed += write_at(i * 4096).ret < 0;
    }
    assert_in_range(failed, 15, 45);
}

static void test_origin(void **state)
{
    arm("error", "{\"disk\":\"d0\",\"origin\":\"guest\",\"count\":0}");
    assert_int_equal(write_at(0).ret, 0);
}

static void test_latency(void **state)
{
    int64_t usual = write_at(0).ns;

    arm("latency", "{\"disk\":\"d0\",\"extra\":\"3ms\"}");
    assert_int_equal(write_at(0).ns, usual + 3 * NS_PER_MS);
    assert_int_equal(write_at(0).ns, usual);
}

static void test_stuck(void **state)
{
    struct write w;

    arm("stuck", "{\"disk\":\"d0\",\"release-after\":\"1s\"}");
    assert_in_range(write_at(0).ns, NS_PER_S, NS_PER_S + NS_PER_MS);
    arm("stuck", "{\"disk\":\"d0\"}");
    write_start(&w, 0);
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    assert_false(w.done);
    fault_stop_all(world);
    run_until(flag_set, &w.done);
    assert_int_equal(w.ret, 0);
}

static void test_capacity(void **state)
{
    arm("capacity", "{\"disk\":\"d0\",\"capacity\":\"4k\",\"after\":\"1ms\",\"relief-after\":\"10ms\"}");
    assert_int_equal(write_at(0).ret, 0);
    sim_run_idle(world, NULL, NULL, 2 * NS_PER_MS);
    assert_int_equal(write_at(8192).ret, -ENOSPC);
    sim_run_idle(world, NULL, NULL, 20 * NS_PER_MS);
    assert_int_equal(write_at(8192).ret, 0);
    arm("capacity", "{\"disk\":\"d0\",\"capacity\":\"4k\"}");
    sim_run_idle(world, NULL, NULL, 30 * NS_PER_MS);
    assert_int_equal(write_at(65536).ret, -ENOSPC);
    fault_stop_all(world);
    assert_int_equal(write_at(65536).ret, 0);
}

/* Requests that came one after the other overtake each other although the schedule is calm. */
static void test_reorder(void **state)
{
    struct write w[16];
    bool overtaken = false;

    arm("reorder", "{\"disk\":\"d0\"}");
    for (int i = 0; i < 16; i++) {
        write_start(&w[i], i * 4096);
    }
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    for (int i = 1; i < 16; i++) {
        overtaken |= w[i].ns < w[i - 1].ns;
    }
    assert_true(overtaken);
}

/* --- storm --------------------------------------------------------------------------------------------------- */

static void count_command(void *opaque, const struct sim_record *record)
{
    ++*(int *)opaque;
}

/* Refusals are fine; the last command of all is a resume. */
static void test_storm(void **state)
{
    int commands = 0;

    sim_subscribe(world, EV_qmp_command, count_command, &commands);
    arm("storm", "{\"job\":\"m\",\"ops\":7,\"kinds\":\"any\"}");
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    assert_int_equal(commands, 8);
    assert_int_equal(fault_fired(world), 8);
    fault_stop_all(world);
    assert_int_equal(sim_arena_live(sim_arena(world), SIM_TYPE_fault_rule), 0);
}

static bool commanded(void *opaque)
{
    return *(int *)opaque > 0;
}

/* Stopped while commands are on their way: no more come, and nothing is left. */
static void test_storm_stopped(void **state)
{
    int commands = 0;

    sim_subscribe(world, EV_qmp_command, count_command, &commands);
    arm("storm", "{\"job\":\"m\",\"ops\":7}");
    run_until(commanded, &commands);
    fault_stop_all(world);
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    assert_int_equal(commands, 1);
    assert_int_equal(sim_arena_live(sim_arena(world), SIM_TYPE_fault_rule), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/faults/arguments", test_arguments, setup, world_teardown),
        T_SETUP("/faults/tables", test_tables, setup, world_teardown),
        T_SETUP("/faults/unknown-disk", test_unknown_disk, setup, world_teardown),
        T_SETUP("/faults/error", test_error, setup, world_teardown),
        T_SETUP("/faults/error/probability", test_probability, setup, world_teardown),
        T_SETUP("/faults/error/origin", test_origin, setup, world_teardown),
        T_SETUP("/faults/latency", test_latency, setup, world_teardown),
        T_SETUP("/faults/stuck", test_stuck, setup, world_teardown),
        T_SETUP("/faults/capacity", test_capacity, setup, world_teardown),
        T_SETUP("/faults/reorder", test_reorder, setup, world_teardown),
        T_SETUP("/faults/storm", test_storm, setup, world_teardown),
        T_SETUP("/faults/storm/stopped", test_storm_stopped, setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
