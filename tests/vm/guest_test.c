/* Protects guest devices: queue depth, policies, held requests, coalesced errors, drain, unplugging. */
#include "tests/vm/vmlib.h"

#define REQS 32

static struct guest *guest;
static struct guest_config config;
static struct guest_req req[REQS];

static int setup(void **state)
{
    bed_setup(state);
    guest_config_default(&config);
    config.name = "g";
    config.node = "s";
    for (unsigned i = 0; i < REQS; i++) {
        guest_req_init(bed.host, &req[i]);
    }
    return 0;
}

static int teardown(void **state)
{
    bed_teardown_with(NULL);
    return 0;
}

static void plug(void *opaque)
{
    guest = guest_new(bed.host, &config, NULL);
    assert_non_null(guest);
}

static void unplug(void *opaque)
{
    guest_delete(guest);
    guest = NULL;
}

static void submit(unsigned i, enum sim_op op, int64_t offset, int64_t bytes)
{
    req[i].op = op;
    req[i].offset = offset;
    req[i].bytes = bytes;
    req[i].entity = i;
    if (op == SIM_OP_WRITE) {
        payload_append_fill(&req[i].data, 0x11, bytes);
    }
    guest_submit(guest, &req[i]);
}

static void clear_all(void)
{
    for (unsigned i = 0; i < REQS; i++) {
        guest_req_clear(&req[i]);
    }
}

static void cont(void *opaque)
{
    Error *err = NULL;

    vm_cont(bed.host, &err);
    assert_null(err);
}

static void stop(void *opaque)
{
    vm_stop(bed.host, RUN_STATE_PAUSED);
}

/* fact: block 2.1/asynchronous, 4.4/success */
static void test_round_trip(void **state)
{
    uint8_t byte = 0;

    bed_on_main(plug);
    submit(0, SIM_OP_WRITE, 4096, 4096);
    assert_string_equal(bed.trail, ""); /* never inside submit */
    bed_settle();
    submit(1, SIM_OP_READ, 4096, 4096);
    submit(2, SIM_OP_FLUSH, 0, 0);
    bed_settle();
    submit(3, SIM_OP_WRITE_ZEROES, 4096, 4096);
    bed_settle();
    submit(4, SIM_OP_DISCARD, 0, 4096);
    bed_settle();
    assert_int_equal(req[1].data.size_bytes, 4096);
    payload_read_bytes(&req[1].data, 4095, &byte, 1);
    assert_int_equal(byte, 0x11);
    assert_non_null(strstr(bed.trail, "1:0 "));
    assert_non_null(strstr(bed.trail, "5:0 "));
    const struct block_acct *acct = blk_get_stats(guest_blk(guest));
    assert_int_equal(acct->ops[SIM_OP_WRITE], 1);
    assert_int_equal(acct->bytes[SIM_OP_READ], 4096);
    assert_int_equal(acct->ops[SIM_OP_FLUSH], 1);
    assert_int_equal(acct->bytes[SIM_OP_WRITE_ZEROES], 4096);
    assert_int_equal(acct->ops[SIM_OP_DISCARD], 1);
    clear_all();
}

/* fact: block 2.1/asynchronous, 4.4/invalid */
static void test_invalid(void **state)
{
    config.logical_block_bytes = 4096;
    bed_on_main(plug);
    submit(0, SIM_OP_WRITE, 512, 4096);
    submit(1, SIM_OP_READ, 0, 512);
    submit(2, SIM_OP_READ, MiB, 4096);
    submit(3, SIM_OP_DISCARD, -4096, 4096);
    assert_string_equal(bed.trail, "");
    bed_settle();
    bed_expect("1:EINVAL 2:EINVAL 3:EIO 4:EINVAL ");
    const struct block_acct *acct = blk_get_stats(guest_blk(guest));
    assert_int_equal(acct->invalid[SIM_OP_READ], 2);
    assert_int_equal(acct->invalid[SIM_OP_WRITE], 1);
    assert_int_equal(acct->failed[SIM_OP_READ], 0);
    assert_true(vm_is_running(bed.host));
    clear_all();
}

static void test_read_only(void **state)
{
    uint64_t perm, shared;

    config.read_only = true;
    bed_on_main(plug);
    bdrv_child_perms(blk_root(guest_blk(guest)), &perm, &shared);
    assert_int_equal(perm, BLK_PERM_CONSISTENT_READ);
    submit(0, SIM_OP_WRITE, 0, 512);
    submit(1, SIM_OP_DISCARD, 0, 512);
    submit(2, SIM_OP_FLUSH, 0, 0);
    bed_settle();
    bed_expect("1:EPERM 2:EPERM 3:0 ");
    clear_all();
}

/* 1.11: WRITE and RESIZE rights of a guest device.
 * fact: block 1.11/guest-device */
static void test_permissions(void **state)
{
    uint64_t perm, shared;

    bed_on_main(plug);
    bdrv_child_perms(blk_root(guest_blk(guest)), &perm, &shared);
    assert_int_equal(perm, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    assert_int_equal(shared, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED | BLK_PERM_RESIZE);
}

static void refuse(void *opaque)
{
    Error *err = NULL;

    assert_null(guest_new(bed.host, &config, &err));
    assert_non_null(err);
    error_free(err);
}

static void test_refused(void **state)
{
    bed_on_main(plug);
    uint64_t backends = sim_arena_live(bed.host->arena, SIM_TYPE_BlockBackend);
    bed_on_main(refuse); /* name taken */
    config.name = "h";
    bed_on_main(refuse); /* the node's writer does not share WRITE */
    config.node = "nowhere";
    bed_on_main(refuse);
    config.node = NULL;
    config.queue_depth = 257;
    bed_on_main(refuse);
    config.queue_depth = 1;
    config.logical_block_bytes = 1024;
    bed_on_main(refuse);
    assert_int_equal(sim_arena_live(bed.host->arena, SIM_TYPE_BlockBackend), backends);
    assert_ptr_equal(guest_next(bed.host, guest), NULL);
}

static void test_queue_depth(void **state)
{
    config.queue_depth = 2;
    bed_on_main(plug);
    bed.stick = true;
    for (unsigned i = 0; i < 5; i++) {
        submit(i, SIM_OP_WRITE, 4096 * i, 4096);
    }
    bed_settle();
    assert_int_equal(guest_active(guest), 2);
    assert_int_equal(guest_waiting(guest), 3);
    assert_int_equal(disk_in_flight(bed.disk), 2);
    bed.stick = false;
    disk_release_stuck(bed.disk);
    bed_settle();
    assert_int_equal(guest_active(guest), 0);
    bed_expect("1:0 2:0 3:0 4:0 5:0 ");
    clear_all();
}

/* fact: block 7.5/policies, 7.5/outcome, 7.5/event, 4.4/failed */
static void test_report(void **state)
{
    bed_on_main(plug);
    bed_fail(SIM_OP_READ, EIO, 1);
    submit(0, SIM_OP_READ, 0, 512);
    bed_settle();
    bed_expect("ERROR(read,report,-) 1:EIO ");
    assert_int_equal(req[0].data.size_bytes, 0);
    assert_int_equal(blk_get_stats(guest_blk(guest))->failed[SIM_OP_READ], 1);
    assert_int_equal(blk_io_status(guest_blk(guest)), BLOCK_IO_STATUS_OK);
}

/* fact: block 7.5/policies, 7.5/outcome */
static void test_ignore(void **state)
{
    config.werror = BLOCKDEV_ON_ERROR_IGNORE;
    bed_on_main(plug);
    bed_fail(SIM_OP_WRITE, EIO, 1);
    submit(0, SIM_OP_WRITE, 0, 512);
    bed_settle();
    bed_expect("ERROR(write,ignore,-) 1:0 ");
    assert_true(req[0].ignored);
    assert_int_equal(blk_get_stats(guest_blk(guest))->ops[SIM_OP_WRITE], 1);
    clear_all();
}

/* The default write policy: stop on ENOSPC, report anything else.
 * fact: block 7.5/policies, 7.5/outcome, 7.5/stop, 7.5/io-status, 7.5/cont, 1.6/defaults */
static void test_enospc(void **state)
{
    bed_on_main(plug);
    bed_fail(SIM_OP_WRITE, EIO, 1);
    submit(0, SIM_OP_WRITE, 0, 512);
    bed_settle();
    bed_expect("ERROR(write,report,-) 1:EIO ");
    bed_run_until(2 * NS_PER_S);
    bed_fail(SIM_OP_WRITE, ENOSPC, 1);
    submit(1, SIM_OP_WRITE, 0, 512);
    bed_settle();
    bed_expect("ERROR(write,stop,nospace) running>io-error STOP ");
    assert_int_equal(blk_io_status(guest_blk(guest)), BLOCK_IO_STATUS_NOSPACE);
    assert_int_equal(guest_held(guest), 1);
    assert_true(req[1].held);
    bed_on_main(cont);
    bed_settle();
    bed_expect("io-error>running RESUME 2:0 ");
    assert_int_equal(blk_io_status(guest_blk(guest)), BLOCK_IO_STATUS_OK);
    clear_all();
}

/* Held requests are resubmitted in the order they failed, before those that waited.
 * fact: block 7.5/cont, edge/52 */
static void test_held_order(void **state)
{
    config.werror = BLOCKDEV_ON_ERROR_STOP;
    config.queue_depth = 3;
    bed_on_main(plug);
    bed_fail(SIM_OP_WRITE, EIO, UINT32_MAX);
    for (unsigned i = 0; i < 5; i++) {
        submit(i, SIM_OP_WRITE, 4096 * i, 4096);
    }
    bed_settle();
    assert_int_equal(guest_held(guest), 3);
    assert_int_equal(guest_waiting(guest), 2);
    assert_int_equal(guest_active(guest), 0);
    bed_expect("ERROR(write,stop,-) running>io-error STOP ERROR(write,stop,-) ");
    bed_on_main(cont); /* all fail again: the order of failure stays */
    bed_settle();
    assert_int_equal(guest_held(guest), 3);
    bed.trail[0] = '\0';
    bed.fail_count = 0;
    bed_on_main(cont);
    bed_settle();
    bed_expect("io-error>running RESUME 1:0 2:0 3:0 4:0 5:0 ");
    clear_all();
}

/* A second of virtual time between events: the first at once, then the last of those in between.
 * fact: block 7.5/event-limit, edge/51 */
static void test_coalescing(void **state)
{
    config.rerror = BLOCKDEV_ON_ERROR_IGNORE;
    bed_on_main(plug);
    int64_t start = sim_now(bed.sim);
    bed_fail(SIM_OP_READ, EIO, UINT32_MAX);
    submit(0, SIM_OP_READ, 0, 512);
    bed_run_until(start + NS_PER_MS);
    bed_expect("ERROR(read,ignore,-) 1:0 ");
    submit(1, SIM_OP_READ, 0, 512);
    submit(2, SIM_OP_READ, 512, 512);
    bed_run_until(start + 500 * NS_PER_MS);
    bed_expect("2:0 3:0 ");
    bed_fail(SIM_OP_WRITE, EIO, 1);
    submit(3, SIM_OP_WRITE, 0, 512);
    bed_settle(); /* an event that waits is work */
    bed_expect("4:EIO ERROR(write,report,-) ");
    int64_t second = sim_now(bed.sim);
    assert_true(second > start + NS_PER_S && second < start + NS_PER_S + NS_PER_MS);
    bed_run_until(second + 3 * NS_PER_S);
    bed_expect("");
    assert_int_equal(sim_mark_hits(bed.sim, MARK_guest_error_coalesced), 3);
    bed_fail(SIM_OP_READ, EIO, 1);
    submit(4, SIM_OP_READ, 0, 512);
    bed_run_until(sim_now(bed.sim) + NS_PER_MS);
    bed_expect("ERROR(read,ignore,-) 5:0 ");
    clear_all();
}

static void drain_begin(void *opaque)
{
    bdrv_drained_begin(bdrv_find_node(bed.host, "s"));
}

static void drain_end(void *opaque)
{
    bdrv_drained_end(bdrv_find_node(bed.host, "s"));
}

/* A drain waits for what was let go and holds back what comes.
 * fact: block 3/backend-busy, 3/release */
static void test_drain(void **state)
{
    bed_on_main(plug);
    submit(0, SIM_OP_WRITE, 0, 4096);
    bed_run_until(sim_now(bed.sim) + NS_PER_US); /* inside the medium now */
    bed_on_main(drain_begin);
    bed_expect("1:0 ");
    submit(1, SIM_OP_WRITE, 0, 4096);
    bed_settle();
    bed_expect("");
    assert_int_equal(guest_waiting(guest), 1);
    assert_int_equal(disk_in_flight(bed.disk), 0);
    bed_on_main(drain_end);
    bed_settle();
    bed_expect("2:0 ");
    clear_all();
}

/* A drain that begins in the instant of submission: the request is parked, not lost, not in flight.
 * fact: block 2.1/parked */
static void test_drain_at_submit(void **state)
{
    bed_on_main(plug);
    submit(0, SIM_OP_WRITE, 0, 4096);
    bed_on_main(drain_begin);
    assert_int_equal(disk_in_flight(bed.disk), 0);
    bed_on_main(drain_end);
    bed_settle();
    bed_expect("1:0 ");
    clear_all();
}

static void test_stopped_queues(void **state)
{
    bed_on_main(plug);
    bed_on_main(stop);
    bed_expect("running>paused STOP ");
    submit(0, SIM_OP_WRITE, 0, 4096);
    bed_settle();
    bed_expect("");
    assert_int_equal(guest_waiting(guest), 1);
    bed_on_main(cont);
    bed_settle();
    bed_expect("paused>running RESUME 1:0 ");
    clear_all();
}

/* Unplugging waits for what is inside and fails what can go no further. */
static void test_unplug(void **state)
{
    config.werror = BLOCKDEV_ON_ERROR_STOP;
    config.queue_depth = 1;
    bed_on_main(plug);
    bed_fail(SIM_OP_WRITE, EIO, 1);
    submit(0, SIM_OP_WRITE, 0, 4096);
    submit(1, SIM_OP_WRITE, 0, 4096);
    bed_settle();
    bed.trail[0] = '\0';
    bed_on_main(unplug);
    bed_expect("1:EIO 2:ECANCELED ");
    assert_null(guest_find(bed.host, "g"));
    clear_all();
}

static void test_unplug_busy(void **state)
{
    bed_on_main(plug);
    submit(0, SIM_OP_WRITE, 0, 4096);
    submit(1, SIM_OP_WRITE, 4096, 4096);
    bed_on_main(unplug);
    bed_expect("1:0 2:0 ");
    clear_all();
}

/* fact: block 2.1/no-medium */
static void test_no_medium(void **state)
{
    config.node = NULL;
    bed_on_main(plug);
    submit(0, SIM_OP_READ, 0, 512);
    bed_settle();
    bed_expect("ERROR(read,report,-) 1:ENOMEDIUM ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/vm/guest/round-trip", test_round_trip, setup, teardown),
        T_SETUP("/vm/guest/invalid", test_invalid, setup, teardown),
        T_SETUP("/vm/guest/read-only", test_read_only, setup, teardown),
        T_SETUP("/vm/guest/permissions", test_permissions, setup, teardown),
        T_SETUP("/vm/guest/refused", test_refused, setup, teardown),
        T_SETUP("/vm/guest/queue-depth", test_queue_depth, setup, teardown),
        T_SETUP("/vm/guest/policy/report", test_report, setup, teardown),
        T_SETUP("/vm/guest/policy/ignore", test_ignore, setup, teardown),
        T_SETUP("/vm/guest/policy/enospc", test_enospc, setup, teardown),
        T_SETUP("/vm/guest/held/order", test_held_order, setup, teardown),
        T_SETUP("/vm/guest/error/coalesced", test_coalescing, setup, teardown),
        T_SETUP("/vm/guest/drain", test_drain, setup, teardown),
        T_SETUP("/vm/guest/drain/at-submit", test_drain_at_submit, setup, teardown),
        T_SETUP("/vm/guest/stopped-queues", test_stopped_queues, setup, teardown),
        T_SETUP("/vm/guest/unplug/held", test_unplug, setup, teardown),
        T_SETUP("/vm/guest/unplug/busy", test_unplug_busy, setup, teardown),
        T_SETUP("/vm/guest/no-medium", test_no_medium, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
