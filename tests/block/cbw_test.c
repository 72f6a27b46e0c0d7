/* Protects the filter copy-before-write (jobs.md 5.5): what is saved before a guest changes it, what is not, and
 * what becomes of the guest's request when a save fails or takes too long. */
#include "tests/block/cbw_lib.h"

/* --- saving ------------------------------------------------------------------------------------------------------
 */

/* fact: jobs 5.5/guest-write; block 2.14/copy-first */
static void test_write_saves_clusters(void **state)
{
    make_filter("");
    struct req write = {.p = &top, .op = W, .offset = CL - 512, .bytes = 1024, .fill = 0x11};
    probe_hold(t, W, -2);
    spawn(&write);
    settle();
    assert_false(write.done);
    assert_int_equal(probe_calls(s, W), 0); /* not before it is saved */
    probe_release(t);
    assert_int_equal(write.ret, 0);
    assert_call(t, 0, W, 0, 2 * CL);
    assert_content(t, 0, 2 * CL, 0xaa);
    assert_content(t, 2 * CL, CL, 0xee);
    assert_content(s, CL - 512, 1024, 0x11);
    free_all();
}

/* fact: jobs 5.5/guest-write, 5.5/never-again, edge/45 */
static void test_zeroes_and_discards_save(void **state)
{
    make_filter("");
    assert_int_equal(do_req(&top, Z, 512, 512, 0, 0), 0);
    assert_int_equal(do_req(&top, D, CL, CL, 0, 0), 0);
    assert_content(t, 0, 2 * CL, 0xaa);
    assert_content(s, 512, 512, 0);
    assert_int_equal(probe_calls(s, D), 1);
    assert_int_equal(probe_calls(t, W), 2);
    assert_int_equal(do_req(&top, W, 0, 2 * CL, 0x22, 0), 0); /* what is there now is new */
    assert_int_equal(probe_calls(t, W), 2);
    assert_content(t, 0, 2 * CL, 0xaa);
    free_all();
}

/* fact: jobs 5.5/unchanged; block 2.14/unchanged */
static void test_unchanged(void **state)
{
    make_filter("");
    assert_int_equal(do_req(&top, W, 0, CL, 0xaa, BDRV_REQ_WRITE_UNCHANGED), 0);
    assert_int_equal(do_req(&top, Z, CL, CL, 0, BDRV_REQ_WRITE_UNCHANGED), 0);
    assert_int_equal(probe_calls(t, W), 0);
    assert_true(is_dirty(0) && is_dirty(CL));
    free_all();
}

static void test_flush_and_reads_pass(void **state)
{
    make_filter("");
    assert_int_equal(do_req(&top, W, 0, 512, 0x11, 0), 0);
    assert_int_equal(do_req(&top, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(s, F), 1);
    assert_int_equal(probe_calls(t, F), 0); /* no guest waits for the target */
    uint8_t seen[512];
    struct req read = {.p = &top, .op = R, .offset = 0, .bytes = 512, .seen = seen};
    spawn(&read);
    settle();
    assert_int_equal(seen[0], 0x11);
    free_all();
}

/* fact: block 2.14/exclusive */
static void test_two_writers_of_one_cluster(void **state)
{
    make_filter("");
    struct req first = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 1};
    struct req second = {.p = &top, .op = W, .offset = 1024, .bytes = 512, .fill = 2};
    probe_hold(t, W, -2);
    spawn(&first);
    spawn(&second);
    settle();
    assert_false(first.done || second.done);
    probe_release(t);
    assert_true(first.done && second.done);
    assert_int_equal(probe_calls(t, W), 1);
    assert_content(t, 0, CL, 0xaa);
    free_all();
}

/* The copy reads the source while the write that wanted it waits: neither waits for the other, even where the
 * source serialises. fact: jobs 5.9/own-write, edge/48; block 2.14/inner-read */
static void test_own_write(void **state)
{
    make_disks();
    probe_free(s);
    s = probe_new((struct probe_spec){
        .name = "s", .length = MiB, .fill = 0xaa, .cluster_size = 0, .limits = {.request_alignment = 4096}});
    probe_main(no_perms, s);
    probe_main(open_filter, TEXT("{'driver':'copy-before-write','node-name':'f','file':'s','target':'t'}"));
    assert_int_equal(do_req(&top, W, 100, 100, 0x11, 0), 0); /* read-modify-write below */
    assert_content(t, 0, CL, 0xaa);
    assert_content(s, 100, 100, 0x11);
    free_all();
}

/* --- saves that fail ---------------------------------------------------------------------------------------------
 */

/* fact: jobs 5.5/failed-save; block 2.14/copy-failed */
static void test_break_guest_write(void **state)
{
    make_past("");
    probe_fail(t, W, -1, -ENOSPC, 1);
    assert_int_equal(do_req(&top, W, 0, 512, 0x11, 0), -ENOSPC);
    assert_content(s, 0, 512, 0xaa); /* not performed */
    assert_true(is_dirty(0));
    assert_false(bdrv_cbw_snapshot_broken(top.bs));
    assert_int_equal(old_content(0, CL), 0xaa);
    probe_fail(s, R, -1, -EIO, 1);
    assert_int_equal(do_req(&top, D, 0, CL, 0, 0), -EIO);
    assert_int_equal(do_req(&top, W, 0, 512, 0x11, 0), 0); /* the next one tries again */
    assert_content(t, 0, CL, 0xaa);
    free_all();
}

/* fact: jobs 5.5/break-snapshot, 5.6/denied; block 2.14/copy-failed, 2.14/access */
static void test_break_snapshot(void **state)
{
    make_past(",'on-cbw-error':'break-snapshot'");
    assert_int_equal(do_req(&top, W, 4 * CL, 512, 0x11, 0), 0);
    assert_int_equal(old_content(4 * CL, CL), 0xaa);
    probe_fail(t, W, -1, -ENOSPC, 1);
    assert_int_equal(do_req(&top, W, 0, 512, 0x11, 0), 0);
    assert_content(s, 0, 512, 0x11);
    assert_true(bdrv_cbw_snapshot_broken(top.bs));
    assert_int_equal(old_content(4 * CL, CL), -EACCES); /* all of it, for good */
    assert_int_equal(old_content(8 * CL, CL), -EACCES);
    unsigned writes = probe_calls(t, W);
    assert_int_equal(do_req(&top, W, 8 * CL, 512, 0x11, 0), 0);
    assert_int_equal(probe_calls(t, W), writes); /* nobody could read it */
    free_all();
}

/* Who began to read old content before the snapshot broke gets it: a write behind the break copies nothing, and
 * would otherwise not wait either. */
static void test_break_waits_for_readers(void **state)
{
    make_past(",'on-cbw-error':'break-snapshot'");
    uint8_t seen[512];
    struct req read = {.p = &past, .op = R, .offset = 2 * CL, .bytes = 512, .seen = seen};
    probe_hold(s, R, 2 * CL);
    spawn(&read);
    settle();
    probe_fail(t, W, -1, -EIO, 1);
    struct req breaks = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    spawn(&breaks);
    settle();
    assert_true(breaks.done && bdrv_cbw_snapshot_broken(top.bs));
    struct req later = {.p = &top, .op = W, .offset = 2 * CL, .bytes = 512, .fill = 0x22};
    spawn(&later);
    settle();
    assert_false(later.done);
    probe_release(s);
    assert_true(read.done && later.done);
    assert_int_equal(read.ret, 0);
    assert_int_equal(seen[0], 0xaa);
    free_all();
}

/* --- saves that take too long ------------------------------------------------------------------------------------
 */

static void delete_filter(void *opaque)
{
    bool *done = opaque;
    blk_unref(top.blk);
    SIM_ASSERT(qmp_blockdev_del_node(host, "f", NULL));
    top.bs = NULL;
    *done = true;
}

/* fact: jobs 5.5/timeout */
static void test_timeout_breaks_write(void **state)
{
    bool deleted = false;
    make_filter(",'cbw-timeout':2");
    assert_int_equal(do_req(&top, W, 4 * CL, 512, 0x11, 0), 0); /* in time */
    probe_hold(t, W, -2);
    struct req write = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    int64_t before = sim_now(world);
    spawn(&write);
    settle();
    assert_true(write.done);
    assert_int_equal(write.ret, -ETIMEDOUT);
    assert_int_equal((sim_now(world) - before) / NS_PER_S, 2);
    assert_content(s, 0, 512, 0xaa);
    assert_int_equal(block_copy_tasks(copy), 1); /* the late copy is still at work */
    host_command(host, delete_filter, &deleted);
    settle();
    assert_false(deleted);
    probe_release(t);
    assert_true(deleted);
    assert_content(t, 0, CL, 0xaa);
    free_all();
}

/* fact: jobs 5.5/timeout, 5.5/break-snapshot */
static void test_timeout_breaks_snapshot(void **state)
{
    make_past(",'cbw-timeout':1,'on-cbw-error':'break-snapshot'");
    probe_hold(t, W, -2);
    struct req write = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    spawn(&write);
    settle();
    assert_true(write.done);
    assert_int_equal(write.ret, 0);
    assert_true(bdrv_cbw_snapshot_broken(top.bs));
    assert_int_equal(old_content(CL, CL), -EACCES);
    probe_release(t);
    assert_int_equal(block_copy_tasks(copy), 0);
    free_all();
}

/* A late copy that failed left its cluster dirty; the next write waits for one that is under way. fact: jobs
 * edge/46 */
static void test_late_copy_is_waited_for(void **state)
{
    make_filter(",'cbw-timeout':2");
    probe_hold(t, W, -2);
    struct req write = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    spawn(&write);
    settle();
    assert_int_equal(write.ret, -ETIMEDOUT);
    struct req again = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x22};
    spawn(&again);
    sim_run(world, NULL, NULL, sim_now(world) + NS_PER_MS);
    assert_false(again.done);
    probe_fail(t, W, -1, -EIO, 1);
    probe_release(t);
    assert_true(again.done);
    assert_int_equal(again.ret, 0);
    assert_int_equal(probe_calls(t, W), 2);
    assert_content(t, 0, CL, 0xaa);
    free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_CBW("/cbw/write/saves-whole-clusters-first", test_write_saves_clusters),
        T_CBW("/cbw/zeroes-and-discards-save", test_zeroes_and_discards_save),
        T_CBW("/cbw/unchanged-saves-nothing", test_unchanged),
        T_CBW("/cbw/flush-and-reads-pass", test_flush_and_reads_pass),
        T_CBW("/cbw/two-writers-of-one-cluster", test_two_writers_of_one_cluster),
        T_CBW("/cbw/copy-does-not-wait-for-its-write", test_own_write),
        T_CBW("/cbw/failed-save/guest-write", test_break_guest_write),
        T_CBW("/cbw/failed-save/snapshot", test_break_snapshot),
        T_CBW("/cbw/failed-save/readers-first", test_break_waits_for_readers),
        T_CBW("/cbw/timeout/guest-write", test_timeout_breaks_write),
        T_CBW("/cbw/timeout/snapshot", test_timeout_breaks_snapshot),
        T_CBW("/cbw/timeout/late-copy-is-waited-for", test_late_copy_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
