/* Protects the old node of a snapshot by command: nothing reaches it, and what it held is safe, from before the
 * overlay is put on it until it is read-only. */
#include "tests/block/imgfmt.h"
#include "tests/monitor/qmplib.h"

/* Guest g on node "s" (disk "d") comes from the bed. */

static struct {
    unsigned attached;
    unsigned live_again;
    bool was_drained, was_flushed, was_read_only;
} seen;

static BlockDriverState *old_node(void)
{
    BlockDriverState *bs = bdrv_find_node(bed.host, "s");
    assert_non_null(bs);
    return bs;
}

static uint64_t unflushed(void)
{
    return disk_unflushed(disk_find(bed.sim, "d"));
}

static void on_attach(void *opaque, const struct sim_record *record)
{
    if (old_node() == bdrv_cow_bs(bdrv_find_node(bed.host, "o"))) {
        seen.attached++;
        seen.was_drained = bdrv_quiesce_counter(old_node()) > 0;
        seen.was_flushed = unflushed() == 0;
    }
}

static void on_drain_end(void *opaque, const struct sim_record *record)
{
    if (record->ref == old_node()) {
        seen.live_again++;
        seen.was_read_only = bdrv_is_read_only(old_node());
    }
}

static void make_image(void *opaque)
{
    assert_int_equal(bdrv_img_create(bed.host, "over", "img", MiB, NULL, NULL, NULL), 0);
}

static int setup(void **state)
{
    memset(&img, 0, sizeof(img));
    memset(&seen, 0, sizeof(seen));
    qmp_setup(state);
    bed_on_main(make_image);
    ok("blockdev-add", "{\"node-name\":\"o\",\"driver\":\"img\",\"file\":{\"driver\":\"disk\",\"disk\":\"over\"}}");
    return 0;
}

static void unplug(void *opaque)
{
    guest_delete(guest);
}

static void assert_quiet_snapshot(const char *command, const char *args)
{
    write_bytes(0, 512);
    assert_true(unflushed() > 0);
    sim_subscribe(bed.sim, EV_edge_attach, on_attach, NULL);
    sim_subscribe(bed.sim, EV_drain_end, on_drain_end, NULL);
    ok(command, args);
    assert_true(seen.attached > 0);
    assert_true(seen.was_drained && seen.was_flushed);
    assert_int_equal(seen.live_again, 1); /* in between it never was */
    assert_true(seen.was_read_only);
    bed_on_main(unplug);
    ok("blockdev-del", "{\"node-name\":\"o\"}");
}

/* fact: block 9/snapshot-drained, 9/snapshot-read-only */
static void test_command(void **state)
{
    assert_quiet_snapshot("blockdev-snapshot", "{\"node\":\"g\",\"overlay\":\"o\"}");
}

/* fact: block 9/snapshot-drained */
static void test_action(void **state)
{
    assert_quiet_snapshot("transaction", "{\"actions\":[{\"type\":\"blockdev-snapshot\",\"data\":{\"node\":\"g\","
                                         "\"overlay\":\"o\"}}]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/snapshot/drained/command", test_command, setup, qmp_teardown, NULL},
        {"/snapshot/drained/action", test_action, setup, qmp_teardown, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
