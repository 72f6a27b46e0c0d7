/* Protects check/permissions: conflicting edges, rights that do not follow from the users, writes without a right,
 * blockers left behind. */
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

/* --- rights that are not what the users above make of them -------------------------------------------------- */

/* Node and driver, bent. */
static BlockDriver bent;

static BlockDriver *bend(const char *node)
{
    BlockDriverState *bs = bdrv_find_node(host, node);

    bent = *bs->drv;
    bs->drv = &bent;
    return &bent;
}

static void refresh_entry(void *opaque)
{
    bdrv_refresh_perms(bdrv_find_node(host, opaque), NULL);
}

/* Any command makes the checker look at the whole graph. */
static void look(void)
{
    assert_true(qmp("query-status", "{}"));
}

static void only_reads(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm, uint64_t shared,
                       uint64_t *nperm, uint64_t *nshared)
{
    *nperm = perm & BLK_PERM_CONSISTENT_READ;
    *nshared = shared;
}

static void test_not_passed_on(void **state)
{
    mirror_world(MiB, 0);
    bend("s")->bdrv_child_perm = only_reads;
    on_main(refresh_entry, TEXT("s"));
    look();
    assert_violated("permissions.not-passed-on.-.-.raw.file");
}

static void writes_unasked(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm, uint64_t shared,
                           uint64_t *nperm, uint64_t *nshared)
{
    *nperm = BLK_PERM_ALL;
    *nshared = shared;
}

static void test_held_too_much(void **state)
{
    mirror_world(MiB, 0);
    bend("d")->bdrv_child_perm = writes_unasked;
    on_main(refresh_entry, TEXT("d"));
    look();
    assert_violated("permissions.held-too-much.-.-.raw.file");
}

/* A backing file is written behind the overlay's back: the link should not have borne that. */
static void bears_writes(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm, uint64_t shared,
                         uint64_t *nperm, uint64_t *nshared)
{
    *nperm = perm & BLK_PERM_CONSISTENT_READ;
    *nshared = BLK_PERM_ALL;
}

static const BlockDriver overlay_driver = {
    .format_name = "test-overlay",
    .supports_backing = true,
    .internal = true,
    .bdrv_child_perm = bears_writes,
};

static void attach_overlay(void *opaque)
{
    BlockDriverState *overlay = bdrv_new_node(host, &overlay_driver, "overlay");

    overlay->total_bytes = MiB;
    bdrv_refresh_limits(overlay);
    assert_non_null(bdrv_attach_child(overlay, bdrv_find_node(host, "s"), "backing", BDRV_CHILD_COW, NULL));
    assert_int_equal(bdrv_child_try_set_perm(overlay->backing, 0, BLK_PERM_ALL, NULL), 0);
}

static void share_entry(void *opaque)
{
    BlockDriverState *overlay = bdrv_find_node(host, "overlay");
    BlockBackend *blk = blk_new(host, BLK_PERM_CONSISTENT_READ, BLK_PERM_CONSISTENT_READ);

    assert_int_equal(blk_insert_bs(blk, overlay, NULL), 0);
}

static void test_backing_shared(void **state)
{
    mirror_world(MiB, 0);
    on_main(attach_overlay, NULL);
    on_main(share_entry, NULL);
    look();
    assert_violated("permissions.not-passed-on.-.-.test-overlay.backing");
}

static void test_writer_of_unwritable(void **state)
{
    mirror_world(MiB, 0);
    bdrv_find_node(host, "s")->open_flags &= ~(uint32_t)BDRV_O_RDWR;
    look();
    assert_violated("permissions.writer-of-unwritable.-.-.raw");
}

/* Between the question and the answer the node loses its last sector. */
static int shrink_amid(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp)
{
    bs->total_bytes = MiB - SIM_SECTOR_BYTES;
    return 0;
}

static void write_entry(void *opaque)
{
    BlockBackend *blk = blk_new(host, BLK_PERM_WRITE, BLK_PERM_ALL);

    assert_int_equal(blk_insert_bs(blk, bdrv_find_node(host, opaque), NULL), 0);
}

static void test_unaligned_writer(void **state)
{
    mirror_world(MiB, 0);
    bdrv_find_node(host, "d")->bl.request_alignment = 4096;
    bend("d")->bdrv_check_perm = shrink_amid;
    on_main(write_entry, TEXT("d"));
    assert_violated("permissions.unaligned-writer.-.-.raw");
}

static void forget_locks(BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
}

static void test_lock_wrong(void **state)
{
    new_disk("src", MiB);
    assert_true(qmp("blockdev-add", "{\"driver\":\"disk\",\"node-name\":\"s\",\"disk\":\"src\"}"));
    bend("s")->bdrv_set_perm = forget_locks;
    add_guest("s");
    look();
    assert_violated("permissions.lock-wrong.-.-.disk");
}

static void rogue_resize(void *opaque)
{
    disk_co_truncate(disk_find(world, "src"), 2 * MiB);
    *(bool *)opaque = true;
}

/* The guest may write its node, not make it longer. */
static void test_resize_without_right(void **state)
{
    Coroutine *co;
    bool done = false;

    mirror_world(MiB, 0);
    co = coroutine_create(world, host, "rogue", rogue_resize, &done);
    coroutine_set_origin(co, (struct sim_origin){.kind = SIM_ORIGIN_GUEST, .name = sim_name(world, "g")});
    coroutine_start(co);
    run_until(flag_set, &done);
    assert_violated("permissions.resize-without-right.-.-.disk.truncate");
}

struct rogue {
    int64_t bytes;
    bool done;
};

static void rogue_write_to(void *opaque)
{
    struct rogue *rogue = opaque;
    struct payload data;

    payload_init(world, &data);
    payload_append_zero(&data, rogue->bytes);
    disk_co_write(disk_find(world, "src"), 0, rogue->bytes, &data, 0);
    payload_clear(&data);
    rogue->done = true;
}

static void write_medium(int64_t bytes)
{
    struct rogue rogue = {.bytes = bytes};
    Coroutine *co = coroutine_create(world, host, "rogue", rogue_write_to, &rogue);

    coroutine_set_origin(co, (struct sim_origin){.kind = SIM_ORIGIN_GUEST, .name = sim_name(world, "g")});
    coroutine_start(co);
    run_until(flag_set, &rogue.done);
}

/* A window from byte 1 on: its last sector reaches into the next one of the file, and no further. */
static void test_odd_window(void **state)
{
    new_disk("src", MiB);
    assert_true(qmp("blockdev-add", "{\"driver\":\"disk\",\"node-name\":\"f\",\"disk\":\"src\"}"));
    assert_true(qmp("blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"s\",\"file\":\"f\",\"offset\":1}"));
    add_guest("s");
    write_medium(MiB + 512);
    assert_silent();
    write_medium(MiB + 1024);
    assert_violated("permissions.resize-without-right.-.-.disk.write");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/permissions/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/permissions/conflict", test_conflict, world_setup, world_teardown),
        T_SETUP("/check/permissions/write-without-right", test_write_without_right, world_setup, world_teardown),
        T_SETUP("/check/permissions/blocker-left", test_blocker_left, world_setup, world_teardown),
        T_SETUP("/check/permissions/not-passed-on", test_not_passed_on, world_setup, world_teardown),
        T_SETUP("/check/permissions/held-too-much", test_held_too_much, world_setup, world_teardown),
        T_SETUP("/check/permissions/backing-shared", test_backing_shared, world_setup, world_teardown),
        T_SETUP("/check/permissions/writer-of-unwritable", test_writer_of_unwritable, world_setup, world_teardown),
        T_SETUP("/check/permissions/unaligned-writer", test_unaligned_writer, world_setup, world_teardown),
        T_SETUP("/check/permissions/lock-wrong", test_lock_wrong, world_setup, world_teardown),
        T_SETUP("/check/permissions/resize-without-right", test_resize_without_right, world_setup, world_teardown),
        T_SETUP("/check/permissions/odd-window", test_odd_window, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
