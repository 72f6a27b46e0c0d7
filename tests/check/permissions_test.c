/* Protects check/permissions: conflicting edges, writes without a right, blockers left behind. */
#include "tests/check/check_world.h"

static void test_silent(void **state)
{
    mirror_world(4 * MiB, MiB);
    assert_true(start_mirror(""));
    assert_int_equal(io_run(SIM_OP_WRITE, 0, 64 * KiB, 1 << 24), 0);
    wait_ready();
    complete_mirror();
    finish();
    assert_silent();
}

/* Somebody holds what nobody asked the others for. */
static void test_conflict(void **state)
{
    mirror_world(MiB, 0);
    assert_true(start_mirror(""));
    wait_ready();
    bdrv_first_parent(bdrv_find_node(host, "d"))->perm |= BLK_PERM_ALL;
    bdrv_first_parent(bdrv_find_node(host, "d"))->shared_perm = 0;
    new_disk("third", MiB);
    add_raw("t", "third");
    assert_violated("permissions.conflict.mirror.ready.raw");
}

static void rogue_write(void *opaque)
{
    struct payload data;

    payload_init(world, &data);
    payload_append_zero(&data, 512);
    disk_co_write(disk_find(world, "ro"), 0, 512, &data, 0);
    payload_clear(&data);
    *(bool *)opaque = true;
}

/* A guest's write on a medium whose node nobody may write. */
static void test_write_without_right(void **state)
{
    Coroutine *co;
    bool done = false;

    mirror_world(MiB, 0);
    new_disk("ro", MiB);
    assert_true(
        qmp("blockdev-add", "{\"driver\":\"disk\",\"node-name\":\"r\",\"disk\":\"ro\",\"read-only\":true}"));
    co = coroutine_create(world, host, "rogue", rogue_write, &done);
    coroutine_set_origin(co, (struct sim_origin){.kind = SIM_ORIGIN_GUEST, .name = sim_name(world, "g")});
    coroutine_start(co);
    run_until(flag_set, &done);
    assert_violated("permissions.write-without-right.-.-.disk.write");
}

static void test_blocker_left(void **state)
{
    Error *reason = NULL;

    error_setg(&reason, "left behind");
    mirror_world(MiB, 0);
    bdrv_op_block(bdrv_find_node(host, "s"), BLOCK_OP_RESIZE, reason);
    settle();
    assert_silent();
    check_final(checks);
    assert_violated("permissions.blocker-left.-.-.raw");
    error_free(reason);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/permissions/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/permissions/conflict", test_conflict, world_setup, world_teardown),
        T_SETUP("/check/permissions/write-without-right", test_write_without_right, world_setup, world_teardown),
        T_SETUP("/check/permissions/blocker-left", test_blocker_left, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
