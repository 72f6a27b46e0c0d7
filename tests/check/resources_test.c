/* Protects check/resources: refused commands that leave something behind, and leftovers at the end. */
#include "tests/check/check_world.h"

static void test_silent(void **state)
{
    mirror_world(4 * MiB, MiB);
    assert_false(qmp("blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"s\",\"file\":\"d\"}"));
    assert_false(start_mirror(",\"granularity\":100"));
    assert_false(start_mirror(",\"replaces\":\"nobody\""));
    assert_false(qmp("blockdev-mirror", "{\"device\":\"s\",\"target\":\"s\",\"sync\":\"full\"}"));
    assert_true(start_mirror(""));
    assert_false(start_mirror(""));
    assert_false(qmp("blockdev-del", "{\"node-name\":\"d\"}"));
    wait_ready();
    complete_mirror();
    finish();
    assert_silent();
}

static void test_left_over(void **state)
{
    mirror_world(MiB, 0);
    SIM_NEW(host->arena, Job);
    sim_alloc(sim_arena(world), SIM_TYPE_MirrorOp, 32);
    finish();
    assert_violated("resources.left-over.-.-.-.Job");
    assert_violated("resources.left-over.-.-.-.MirrorOp");
}

/* While the command is in hand a reference goes astray. */
static void leak_ref(void *opaque, const struct sim_record *record)
{
    bdrv_ref(bdrv_find_node(host, "s"));
}

static void test_refused_reference(void **state)
{
    mirror_world(MiB, 0);
    sim_subscribe(world, EV_qmp_command, leak_ref, NULL);
    assert_false(start_mirror(",\"granularity\":100"));
    assert_violated("resources.refused-command.-.-.-.blockdev-mirror");
}

static void leak_blocker(void *opaque, const struct sim_record *record)
{
    bdrv_op_block(bdrv_find_node(host, "s"), BLOCK_OP_RESIZE, opaque);
}

static void test_refused_blocker(void **state)
{
    Error *reason = NULL;

    error_setg(&reason, "left behind");
    mirror_world(MiB, 0);
    sim_subscribe(world, EV_qmp_command, leak_blocker, reason);
    assert_false(qmp("blockdev-del", "{\"node-name\":\"s\"}"));
    assert_violated("resources.refused-command.-.-.-.blockdev-del");
    error_free(reason);
}

static void unref_node(void *opaque)
{
    bdrv_unref(bdrv_find_node(host, opaque));
}

/* Somebody gives back a reference that was the client's. */
static void test_lost_node(void **state)
{
    mirror_world(MiB, 0);
    on_main(unref_node, (void *)(uintptr_t) "d");
    settle();
    assert_violated("resources.lost-node.-.-.-.-");
}

static void drain_node(void *opaque)
{
    bdrv_drained_begin(bdrv_find_node(host, opaque));
}

static void undrain_node(void *opaque)
{
    bdrv_drained_end(bdrv_find_node(host, opaque));
}

/* Somebody drained a node and forgot to let it go. */
static void test_left_drained(void **state)
{
    mirror_world(MiB, 0);
    on_main(drain_node, TEXT("d"));
    settle();
    assert_silent();
    check_final(checks);
    assert_violated("resources.not-at-rest.-.-.raw.-");
    assert_said("node d at the end: drained 1 times, 0 requests in flight");
    on_main(undrain_node, TEXT("d"));
    finish();
}

/* The world is looked at for the last time, and a medium has not answered. */
static void test_left_in_flight(void **state)
{
    struct io io;

    mirror_world(MiB, 0);
    arm("stuck", "{\"disk\":\"src\",\"op\":\"read\"}");
    io_submit(&io, SIM_OP_READ, 0, 4096, 0);
    settle();
    check_final(checks);
    assert_violated("resources.not-at-rest.-.-.raw.-");
    assert_said("node s at the end: drained 0 times, 1 requests in flight");
    fault_stop_all(world);
    run_until(flag_set, &io.done);
    guest_req_clear(&io.req);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/resources/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/resources/lost-node", test_lost_node, world_setup, world_teardown),
        T_SETUP("/check/resources/left-over", test_left_over, world_setup, world_teardown),
        T_SETUP("/check/resources/refused-reference", test_refused_reference, world_setup, world_teardown),
        T_SETUP("/check/resources/refused-blocker", test_refused_blocker, world_setup, world_teardown),
        T_SETUP("/check/resources/not-at-rest/drained", test_left_drained, world_setup, world_teardown),
        T_SETUP("/check/resources/not-at-rest/in-flight", test_left_in_flight, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
