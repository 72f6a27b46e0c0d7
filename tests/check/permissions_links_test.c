/* Protects check/permissions: links that change although they are frozen or in use, and op blockers that nobody
 * asks.
 */
#include "tests/check/check_world.h"

#include "block/tran.h"

/* f over s, which a guest writes. */
static void filter_world(void)
{
    mirror_world(MiB, 0);
    assert_true(qmp("blockdev-add", "{\"driver\":\"copy-on-read\",\"node-name\":\"f\",\"file\":\"d\"}"));
}

static void freeze_entry(void *opaque)
{
    assert_int_equal(bdrv_freeze_chain(bdrv_find_node(host, "f"), bdrv_find_node(host, "d"), NULL), 0);
}

static void thaw_entry(void *opaque)
{
    bdrv_unfreeze_chain(bdrv_find_node(host, "f"), bdrv_find_node(host, "d"));
}

static void test_silent(void **state)
{
    filter_world();
    on_main(freeze_entry, NULL);
    assert_true(qmp("query-status", "{}"));
    on_main(thaw_entry, NULL);
    assert_true(qmp("blockdev-del", "{\"node-name\":\"f\"}"));
    finish();
    assert_silent();
}

static void test_frozen_removed(void **state)
{
    filter_world();
    on_main(freeze_entry, NULL);
    bdrv_find_node(host, "f")->file->frozen = false; /* as if a check of it were forgotten */
    assert_true(qmp("blockdev-del", "{\"node-name\":\"f\"}"));
    assert_violated("permissions.frozen-link.-.-.raw.file");
    assert_said("the frozen file link of f to d was removed");
}

static void test_frozen_thawed(void **state)
{
    filter_world();
    on_main(freeze_entry, NULL);
    bdrv_find_node(host, "f")->file->frozen = false;
    assert_true(qmp("query-status", "{}"));
    assert_violated("permissions.frozen-link.-.-.raw.file");
    assert_said("nobody has thawed the file link of f");
}

/* A link is made under a node amid its request: who did it forgot to drain, and to ask for permissions, where an
 * assertion would have told him. */
static void attach_undrained(void *opaque)
{
    BlockDriverState *parent = bdrv_find_node(host, "s");
    struct bdrv_tran tran;

    bdrv_tran_begin(&tran);
    assert_non_null(
        bdrv_tran_link(&tran, parent, bdrv_find_node(host, "d"), "second", BDRV_CHILD_FILTERED, false, NULL));
    assert_int_equal(bdrv_tran_finish(&tran, 0), 0);
}

static void test_attach_undrained(void **state)
{
    struct io io;

    mirror_world(MiB, 0);
    io_submit(&io, SIM_OP_READ, 0, 4096, 0);
    on_main(attach_undrained, NULL);
    assert_violated("permissions.not-drained.-.-.raw.attach");
    run_until(flag_set, &io.done);
    guest_req_clear(&io.req);
}

/* The section that protects a removal ends while the link is being taken away. */
static const BdrvChildClass *real_class;
static BdrvChildClass bent_class;
static unsigned taken_sections;

static void detach_ends_drain(BdrvChild *child)
{
    if (real_class->detach) {
        real_class->detach(child);
    }
    taken_sections = child->bs->quiesce_counter;
    child->bs->quiesce_counter = 0;
}

static void give_sections_back(void *opaque, const struct sim_record *record)
{
    bdrv_find_node(host, "s")->quiesce_counter = taken_sections;
}

static void remove_guest(void *opaque)
{
    guest_delete(guest);
    guest = NULL;
}

static void test_detach_undrained(void **state)
{
    BdrvChild *edge;

    mirror_world(MiB, 0);
    edge = bdrv_first_parent(bdrv_find_node(host, "s"));
    real_class = edge->klass;
    bent_class = *real_class;
    bent_class.detach = detach_ends_drain;
    edge->klass = &bent_class;
    sim_subscribe(world, EV_edge_detach, give_sections_back, NULL);
    on_main(remove_guest, NULL);
    assert_violated("permissions.not-drained.-.-.raw.detach");
}

/* --- commands that forget to ask ---------------------------------------------------------------------------- */

static bool asks_nobody(struct host *h, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return true;
}

static void qmp_unasked(const char *name, const char *json)
{
    struct qmp_command command = *qmp_find_command(name);
    bool done = false;
    struct qmp_call call = {.command = &command, .done = qmp_done, .opaque = &done, .host = host};

    command.fn = asks_nobody;
    call.args = qvalue_from_json(json, strlen(json), NULL);
    assert_non_null(call.args);
    monitor_submit(host, &call);
    run_until(flag_set, &done);
    assert_null(call.err);
    qvalue_free(call.args);
    qvalue_free(call.reply);
}

static void test_blocked_resize(void **state)
{
    mirror_world(MiB, 0);
    assert_true(start_mirror(""));
    assert_false(qmp("block_resize", "{\"node-name\":\"s\",\"size\":4096}"));
    assert_silent();
    qmp_unasked("block_resize", "{\"node-name\":\"s\",\"size\":4096}");
    assert_violated("permissions.blocked-command.-.-.raw.block_resize");
    assert_said("node s: block_resize was accepted although a user of the node blocks the operation");
}

/* A mirror blocks what it made; starting it is not held against itself. */
static void test_own_blockers(void **state)
{
    mirror_world(MiB, 0);
    assert_true(start_mirror(""));
    wait_ready();
    complete_mirror();
    assert_true(qmp("block_resize", "{\"node-name\":\"d\",\"size\":4096}"));
    finish();
    assert_silent();
}

static const BlockDriver overlay_driver = {
    .format_name = "test-overlay", .supports_backing = true, .internal = true};

static void attach_overlay(void *opaque)
{
    BlockDriverState *overlay = bdrv_new_node(host, &overlay_driver, "overlay");

    bdrv_refresh_limits(overlay);
    assert_non_null(bdrv_attach_child(overlay, bdrv_find_node(host, "d"), "backing", BDRV_CHILD_COW, NULL));
}

static void test_blocked_backing(void **state)
{
    mirror_world(MiB, 0);
    on_main(attach_overlay, NULL);
    assert_false(start_mirror(""));
    assert_silent();
    qmp_unasked("transaction", "{\"actions\":[{\"type\":\"blockdev-snapshot\",\"data\":{\"node\":\"d\","
                               "\"overlay\":\"s\"}}]}");
    assert_violated("permissions.blocked-command.-.-.raw.blockdev-snapshot");
    assert_said("the node is a backing file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/check/permissions/links/silent", test_silent, world_setup, world_teardown),
        T_SETUP("/check/permissions/links/frozen-removed", test_frozen_removed, world_setup, world_teardown),
        T_SETUP("/check/permissions/links/frozen-thawed", test_frozen_thawed, world_setup, world_teardown),
        T_SETUP("/check/permissions/links/attach-undrained", test_attach_undrained, world_setup, world_teardown),
        T_SETUP("/check/permissions/links/detach-undrained", test_detach_undrained, world_setup, world_teardown),
        T_SETUP("/check/permissions/ops/resize", test_blocked_resize, world_setup, world_teardown),
        T_SETUP("/check/permissions/ops/own", test_own_blockers, world_setup, world_teardown),
        T_SETUP("/check/permissions/ops/backing", test_blocked_backing, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
