/* Protects check/resources: refused commands and failed jobs that leave something behind, and leftovers at the end.
 */
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

/* --- refused commands: what is bent while the command is in hand ------------------------------------------- */

static BlockDriverState *node(const char *name)
{
    return bdrv_find_node(host, name);
}

/* A command that is always refused, with bend called amid it. */
static void refuse_bent(sim_event_fn *bend, void *opaque)
{
    sim_subscribe(world, EV_qmp_command, bend, opaque);
    assert_false(qmp("blockdev-del", "{\"node-name\":\"s\"}"));
    sim_unsubscribe(world, bend, opaque);
}

static void leak_object(void *opaque, const struct sim_record *record)
{
    sim_alloc(host->arena, SIM_TYPE_bdrv_reopen_hold, 8);
}

static void test_refused_object(void **state)
{
    mirror_world(MiB, 0);
    refuse_bent(leak_object, NULL);
    assert_violated("resources.refused-command.-.-.-.blockdev-del");
    assert_said("of bdrv_reopen_hold there are 1 instead of 0");
}

static void reorder_nodes(void *opaque, const struct sim_record *record)
{
    BlockDriverState *bs = node("s");

    TAILQ_REMOVE(&host->graph->nodes, bs, node_list);
    TAILQ_INSERT_HEAD(&host->graph->nodes, bs, node_list);
}

static void test_refused_nodes(void **state)
{
    mirror_world(MiB, 0);
    refuse_bent(reorder_nodes, NULL);
    assert_violated("resources.refused-nodes.-.-.raw.blockdev-del");
}

static void freeze_link(void *opaque, const struct sim_record *record)
{
    node("s")->file->frozen = true;
}

static void test_refused_links(void **state)
{
    mirror_world(MiB, 0);
    refuse_bent(freeze_link, NULL);
    assert_violated("resources.refused-links.-.-.disk.blockdev-del");
}

static void reorder_parents(void *opaque, const struct sim_record *record)
{
    BdrvChild *first = bdrv_first_parent(node("s"));
    BdrvChild *second = bdrv_next_parent(first);

    LIST_REMOVE(first, next_parent);
    LIST_INSERT_AFTER(second, first, next_parent);
}

static void test_refused_order(void **state)
{
    mirror_world(MiB, 0);
    assert_true(qmp("blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"over\",\"file\":\"s\"}"));
    refuse_bent(reorder_parents, NULL);
    assert_violated("resources.refused-order.-.-.raw.blockdev-del");
}

static void share_less(void *opaque, const struct sim_record *record)
{
    bdrv_first_parent(node("s"))->shared_perm &= ~(uint64_t)BLK_PERM_RESIZE;
}

static void test_refused_permissions(void **state)
{
    mirror_world(MiB, 0);
    bdrv_first_parent(node("s"))->shared_perm |= BLK_PERM_RESIZE;
    refuse_bent(share_less, NULL);
    assert_violated("resources.refused-permissions.-.-.raw.blockdev-del");
}

static void make_read_only(void *opaque, const struct sim_record *record)
{
    node("d")->open_flags &= ~(uint32_t)BDRV_O_RDWR;
}

static void test_refused_read_only(void **state)
{
    mirror_world(MiB, 0);
    refuse_bent(make_read_only, NULL);
    assert_violated("resources.refused-read-only.-.-.raw.blockdev-del");
    assert_said("blockdev-del was refused");
    assert_said("and node d was writable and is read-only");
}

static void detect_zeroes(void *opaque, const struct sim_record *record)
{
    node("d")->detect_zeroes = BDRV_DETECT_ZEROES_ON;
}

static void test_refused_options(void **state)
{
    mirror_world(MiB, 0);
    refuse_bent(detect_zeroes, NULL);
    assert_violated("resources.refused-options.-.-.raw.blockdev-del");
}

static void change_limits(void *opaque, const struct sim_record *record)
{
    node("d")->bl.max_transfer = 4096;
}

static void test_refused_limits(void **state)
{
    mirror_world(MiB, 0);
    refuse_bent(change_limits, NULL);
    assert_violated("resources.refused-limits.-.-.raw.blockdev-del");
}

static void disable_bitmap(void *opaque, const struct sim_record *record)
{
    bdrv_disable_dirty_bitmap(bdrv_find_dirty_bitmap(node("s"), "b"));
}

static void test_refused_bitmaps(void **state)
{
    mirror_world(MiB, 0);
    assert_true(qmp("block-dirty-bitmap-add", "{\"node\":\"s\",\"name\":\"b\"}"));
    refuse_bent(disable_bitmap, NULL);
    assert_violated("resources.refused-bitmaps.-.-.raw.blockdev-del");
}

static void leak_blocker(void *opaque, const struct sim_record *record)
{
    bdrv_op_block(node("s"), BLOCK_OP_RESIZE, opaque);
}

static void test_refused_blockers(void **state)
{
    Error *reason = NULL;

    error_setg(&reason, "left behind");
    mirror_world(MiB, 0);
    refuse_bent(leak_blocker, reason);
    assert_violated("resources.refused-blockers.-.-.raw.blockdev-del");
    assert_said("op blockers of node s went from 0 to 1");
    error_free(reason);
}

/* As an action that fails in its preparation and forgets the section it has begun. */
static void leak_drain(void *opaque, const struct sim_record *record)
{
    bdrv_drained_begin(node("d"));
}

static void test_refused_drains(void **state)
{
    mirror_world(MiB, 0);
    refuse_bent(leak_drain, NULL);
    assert_violated("resources.refused-drains.-.-.raw.blockdev-del");
    assert_said("node d was drained 0 times with 0 quiesced parents, and is 1 times with 0");
}

static void leak_ref(void *opaque, const struct sim_record *record)
{
    bdrv_ref(node("s"));
}

static void test_refused_references(void **state)
{
    mirror_world(MiB, 0);
    sim_subscribe(world, EV_qmp_command, leak_ref, NULL);
    assert_false(start_mirror(",\"granularity\":100"));
    assert_violated("resources.refused-references.-.-.raw.blockdev-mirror");
}

static void change_policy(void *opaque, const struct sim_record *record)
{
    blk_set_on_error(guest_blk(guest), BLOCKDEV_ON_ERROR_STOP, BLOCKDEV_ON_ERROR_IGNORE);
}

static void test_refused_backends(void **state)
{
    mirror_world(MiB, 0);
    refuse_bent(change_policy, NULL);
    assert_violated("resources.refused-backends.-.-.-.blockdev-del");
}

static void change_group(void *opaque, const struct sim_record *record)
{
    ThrottleConfig config;

    throttle_config_init(&config);
    config.limits[THROTTLE_OPS_TOTAL].avg = 10;
    throttle_group_config(throttle_group_find(host, "t"), &config);
}

static void test_refused_groups(void **state)
{
    mirror_world(MiB, 0);
    assert_true(qmp("object-add", "{\"qom-type\":\"throttle-group\",\"id\":\"t\"}"));
    refuse_bent(change_group, NULL);
    assert_violated("resources.refused-groups.-.-.-.blockdev-del");
}

static void change_speed(void *opaque, const struct sim_record *record)
{
    block_job_of(job_find(host, "m"))->speed = 1000;
}

static void test_refused_jobs(void **state)
{
    mirror_world(MiB, 0);
    assert_true(start_mirror(""));
    wait_ready();
    refuse_bent(change_speed, NULL);
    assert_violated("resources.refused-jobs.-.-.-.blockdev-del");
}

/* --- failed jobs ------------------------------------------------------------------------------------------- */

static BlockJobDriver bent_mirror;

/* What the job changed for its time is not put back. */
static void keeps_read_only(Job *job)
{
    node("d")->open_flags &= ~(uint32_t)BDRV_O_RDWR;
}

static void cancel_mirror(bool bend)
{
    assert_true(start_mirror(",\"speed\":65536"));
    if (bend) {
        Job *job = job_find(host, "m");

        bent_mirror = *block_job_driver(block_job_of(job));
        bent_mirror.job_driver.clean = keeps_read_only;
        job->driver = &bent_mirror.job_driver;
    }
    assert_true(qmp("job-cancel", "{\"id\":\"m\"}"));
    run_until(job_gone, NULL);
}

static void test_failed_job(void **state)
{
    mirror_world(4 * MiB, MiB);
    cancel_mirror(false);
    assert_true(qmp("query-status", "{}"));
    assert_silent();
    cancel_mirror(true);
    assert_true(qmp("query-status", "{}"));
    assert_violated("resources.failed-job.mirror.-.-.read-only");
    assert_said("job m failed or was cancelled, and since it was started node d was writable and is read-only");
}

/* What a command changed meanwhile is not the job's doing. */
static void test_failed_job_disturbed(void **state)
{
    mirror_world(4 * MiB, MiB);
    assert_true(start_mirror(",\"speed\":65536"));
    new_disk("third", MiB);
    add_raw("t", "third");
    assert_true(qmp("job-cancel", "{\"id\":\"m\"}"));
    run_until(job_gone, NULL);
    assert_true(qmp("blockdev-del", "{\"node-name\":\"t\"}"));
    finish();
    assert_silent();
}

/* --- the end ------------------------------------------------------------------------------------------------ */

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
        T_SETUP("/check/resources/refused/object", test_refused_object, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/nodes", test_refused_nodes, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/links", test_refused_links, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/order", test_refused_order, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/permissions", test_refused_permissions, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/read-only", test_refused_read_only, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/options", test_refused_options, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/limits", test_refused_limits, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/bitmaps", test_refused_bitmaps, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/blockers", test_refused_blockers, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/drains", test_refused_drains, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/references", test_refused_references, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/backends", test_refused_backends, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/groups", test_refused_groups, world_setup, world_teardown),
        T_SETUP("/check/resources/refused/jobs", test_refused_jobs, world_setup, world_teardown),
        T_SETUP("/check/resources/failed-job", test_failed_job, world_setup, world_teardown),
        T_SETUP("/check/resources/failed-job/disturbed", test_failed_job_disturbed, world_setup, world_teardown),
        T_SETUP("/check/resources/not-at-rest/drained", test_left_drained, world_setup, world_teardown),
        T_SETUP("/check/resources/not-at-rest/in-flight", test_left_in_flight, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
