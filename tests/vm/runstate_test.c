/* Protects run states: what may follow what, stop and its drain, cont, the race of both. */
#include "tests/vm/vmlib.h"

static struct guest *guest;
static struct guest_req req[4];

static void plug(void *opaque)
{
    struct guest_config config;

    guest_config_default(&config);
    config.name = "g";
    config.node = "s";
    config.werror = BLOCKDEV_ON_ERROR_STOP;
    guest = guest_new(bed.host, &config, NULL);
    assert_non_null(guest);
}

static int setup(void **state)
{
    bed_setup(state);
    bed_on_main(plug);
    for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
        guest_req_init(bed.host, &req[i]);
    }
    return 0;
}

static int teardown(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
        guest_req_clear(&req[i]);
    }
    bed_teardown_with(NULL);
    return 0;
}

static void write_one(unsigned i)
{
    req[i].op = SIM_OP_WRITE;
    req[i].offset = 4096 * i;
    req[i].bytes = 4096;
    req[i].entity = i;
    payload_append_fill(&req[i].data, 0x22, 4096);
    guest_submit(guest, &req[i]);
}

static void stop(void *opaque)
{
    assert_int_equal(vm_stop(bed.host, RUN_STATE_PAUSED), 0);
}

static void cont(void *opaque)
{
    vm_cont(bed.host, NULL);
}

static void test_table(void **state)
{
    unsigned legal = 0;

    for (int from = 0; from < RUN_STATE_COUNT; from++) {
        for (int to = 0; to < RUN_STATE_COUNT; to++) {
            legal += run_state_legal((enum run_state)from, (enum run_state)to);
        }
        assert_false(run_state_legal((enum run_state)from, (enum run_state)from));
    }
    assert_int_equal(legal, 9);
    assert_true(run_state_legal(RUN_STATE_IO_ERROR, RUN_STATE_RUNNING));
    assert_false(run_state_legal(RUN_STATE_PAUSED, RUN_STATE_IO_ERROR));
    assert_false(run_state_legal(RUN_STATE_SHUTDOWN, RUN_STATE_RUNNING));
    assert_string_equal(run_state_name(RUN_STATE_IO_ERROR), "io-error");
}

static void test_stop_cont(void **state)
{
    assert_true(vm_is_running(bed.host));
    bed_on_main(stop);
    bed_on_main(stop);
    assert_int_equal(vm_run_state(bed.host), RUN_STATE_PAUSED);
    bed_on_main(cont);
    bed_on_main(cont);
    bed_expect("running>paused STOP paused>running RESUME ");
}

/* After stop nothing is in flight and what was written is durable.
 * fact: block 7.5/stop */
static void test_stop_in_flight(void **state)
{
    write_one(0);
    bed_run_until(sim_now(bed.sim) + NS_PER_US);
    write_one(1); /* let go in the same instant as the stop */
    bed_on_main(stop);
    bed_expect("running>paused STOP 1:0 2:0 ");
    assert_int_equal(guest_active(guest), 0);
    assert_int_equal(disk_unflushed(bed.disk), 0);
    assert_int_equal(sim_mark_hits(bed.sim, MARK_vm_stop_io), 1);
}

static int stop_ret;
static void stop_failing(void *opaque)
{
    stop_ret = vm_stop(bed.host, RUN_STATE_PAUSED);
}

static void test_stop_reports_flush(void **state)
{
    write_one(0);
    bed_settle();
    bed_fail(SIM_OP_FLUSH, EIO, 1);
    bed_on_main(stop_failing);
    assert_int_equal(stop_ret, -EIO);
    assert_int_equal(vm_run_state(bed.host), RUN_STATE_PAUSED);
}

/* Two requests fail; the second does while the stop for the first drains: one STOP.
 * fact: block 7.5/stop */
static void test_error_during_stop(void **state)
{
    bed_fail(SIM_OP_WRITE, EIO, 2);
    write_one(0);
    write_one(1);
    bed_settle();
    bed_expect("ERROR(write,stop,-) running>io-error STOP ERROR(write,stop,-) ");
    assert_int_equal(guest_held(guest), 2);
    bed_on_main(cont);
    bed_settle();
    bed_expect("io-error>running RESUME 1:0 2:0 ");
}

/* cont before the stop was carried out: clients see the pair, held requests are tried again. */
static void cont_races(void *opaque)
{
    vm_stop_request(bed.host, RUN_STATE_IO_ERROR);
    vm_cont(bed.host, NULL);
}

/* fact: block 7.5/racing-cont */
static void test_race(void **state)
{
    bed_on_main(cont_races);
    bed_settle();
    bed_expect("STOP RESUME ");
    assert_true(vm_is_running(bed.host));
    assert_int_equal(sim_mark_hits(bed.sim, MARK_vm_stop_race), 1);
}

static void shut_down(void *opaque)
{
    Error *err = NULL;

    vm_stop(bed.host, RUN_STATE_SHUTDOWN);
    vm_cont(bed.host, &err);
    assert_non_null(err);
    error_free(err);
}

static void test_shutdown(void **state)
{
    bed_on_main(stop);
    bed_on_main(shut_down);
    bed_expect("running>paused STOP paused>shutdown ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/vm/runstate/table", test_table, setup, teardown),
        T_SETUP("/vm/runstate/stop-cont", test_stop_cont, setup, teardown),
        T_SETUP("/vm/runstate/stop/in-flight", test_stop_in_flight, setup, teardown),
        T_SETUP("/vm/runstate/stop/flush-error", test_stop_reports_flush, setup, teardown),
        T_SETUP("/vm/runstate/stop/error-meanwhile", test_error_during_stop, setup, teardown),
        T_SETUP("/vm/runstate/cont-races-stop", test_race, setup, teardown),
        T_SETUP("/vm/runstate/shutdown", test_shutdown, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
