/* Protects how copy-before-write stands in the graph (jobs.md 5.1, 5.2, 5.5; block.md 1.11): options, permissions,
 * insertion and removal for a job, fleecing, lengths, drain. */
#include "tests/block/cbw_lib.h"

/* --- options
 * ------------------------------------------------------------------------------------------------------ */

static void refused(const char *options, const char *message)
{
    char text[400];
    snprintf(text, sizeof(text), "{'driver':'copy-before-write','node-name':'f',%s}", options);
    struct refusal refusal = {host, text, NULL};
    probe_main(try_add_node, &refusal);
    assert_non_null(refusal.err);
    if (!strstr(error_get_pretty(refusal.err), message)) {
        fail_msg("expected '%s' in '%s'", message, error_get_pretty(refusal.err));
    }
    error_free(refusal.err);
    settle();
    assert_null(bdrv_find_node(host, "f"));
}

static void add_bitmaps(void *opaque)
{
    BdrvDirtyBitmap *busy = bdrv_create_dirty_bitmap(s->bs, 4096, "busy", NULL);
    bdrv_dirty_bitmap_set_busy(busy, true);
}

static void drop_bitmaps(void *opaque)
{
    bdrv_dirty_bitmap_set_busy(bdrv_find_dirty_bitmap(s->bs, "busy"), false);
    bdrv_release_named_dirty_bitmaps(s->bs);
}

static void test_options(void **state)
{
    make_disks();
    probe_main(add_bitmaps, NULL);
    refused("'file':'s'", "'target' is missing");
    refused("'target':'t'", "'file' is missing");
    refused("'file':'s','target':'x'", "'x'");
    refused("'file':'s','target':'t','on-cbw-error':'ignore'", "'ignore'");
    refused("'file':'s','target':'t','cbw-timeout':-1", "cbw-timeout");
    refused("'file':'s','target':'t','min-cluster-size':100000", "power of 2");
    refused("'file':'s','target':'t','min-cluster-size':-1", "min-cluster-size");
    refused("'file':'s','target':'t','bitmap':'b'", "bitmap");
    refused("'file':'s','target':'t','bitmap':{'node':'s'}", "'name' is missing");
    refused("'file':'s','target':'t','bitmap':{'node':'s','name':'b'}", "Dirty bitmap 'b' not found");
    refused("'file':'s','target':'t','bitmap':{'node':'x','name':'b'}", "'x'");
    refused("'file':'s','target':'t','bitmap':{'node':'s','name':'busy'}", "currently in use");
    probe_main(drop_bitmaps, NULL);
    free_all();
}

/* fact: jobs 5.2/sizes */
static void test_sizes(void **state)
{
    s = make_disk("s", 0xaa, 0);
    disk_bytes += CL;
    t = make_disk("t", 0xee, 0);
    refused("'file':'s','target':'t'", "Source and target image have different sizes");
    struct append a = {.args = {.node_name = "f"}};
    probe_main(append_main, &a);
    assert_null(a.filter);
    assert_string_equal(error_get_pretty(a.err), "Source and target image have different sizes");
    error_free(a.err);
    settle();
    assert_null(bdrv_find_node(host, "f"));
    assert_ptr_equal(blk_bs(s->blk), s->bs); /* the parents are back */
    free_all();
}

static void test_min_cluster_size(void **state)
{
    make_filter(",'min-cluster-size':262144");
    assert_int_equal(block_copy_cluster_size(copy), 256 * KiB);
    assert_int_equal(do_req(&top, W, 0, 512, 0x11, 0), 0);
    assert_call(t, 0, W, 0, 256 * KiB);
    free_all();
}

/* --- permissions
 * -------------------------------------------------------------------------------------------------- */

static void expect_perms(const BdrvChild *edge, uint64_t perm, uint64_t shared)
{
    uint64_t p, sh;
    bdrv_child_perms(edge, &p, &sh);
    assert_int_equal(p, perm);
    assert_int_equal(sh, shared);
}

static void leave(void *opaque)
{
    blk_unref(opaque);
}

/* fact: block 1.11/copy-before-write, 1.11/snapshot-access */
static void test_permissions(void **state)
{
    make_filter("");
    BdrvChild *file = bdrv_find_child(top.bs, "file");
    BdrvChild *target = bdrv_find_child(top.bs, "target");
    const uint64_t kept = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;
    expect_perms(target, BLK_PERM_WRITE, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE);
    expect_perms(file, RW, kept);
    probe_main(leave, top.blk);
    /* no user: nobody whom a change would concern, but for the length */
    expect_perms(file, 0, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE);
    probe_main(open_past, NULL);
    expect_perms(file, BLK_PERM_CONSISTENT_READ, kept);
    expect_perms(bdrv_find_child(past.bs, "file"), 0, BLK_PERM_ALL);
    probe_main(drop_above, &past);
    top.blk = NULL;
    free_all();
}

static int resize_ret;

static void resize(void *opaque)
{
    Error *err = NULL;
    resize_ret = qmp_block_resize_node(opaque, 2 * MiB, &err) ? 0 : -1;
    error_free(err);
}

/* fact: jobs 5.2/no-resize */
static void test_no_resize(void **state)
{
    make_filter("");
    probe_main(resize, s->bs);
    assert_int_equal(resize_ret, -1);
    probe_main(resize, t->bs);
    assert_int_equal(resize_ret, -1);
    assert_int_equal(s->length, MiB);
    free_all();
}

static void wants_resize(void *opaque)
{
    SIM_ASSERT_EQ(blk_set_perm(top.blk, RW | BLK_PERM_RESIZE, BLK_PERM_ALL, NULL), 0);
}

/* Who is above may grow its file, in the last cluster too: what is old is none the longer. It may not shorten it.
 */
static void test_growth(void **state)
{
    disk_bytes = 2 * CL + 512;
    make_past("");
    probe_main(wants_resize, NULL);
    assert_int_equal(do_req(&top, W, 2 * CL + 512, 2 * CL, 0x11, 0), 0);
    assert_int_equal(s->length, 4 * CL + 512);
    assert_int_equal(top.bs->total_bytes, 4 * CL + 512);
    assert_int_equal(do_req(&top, W, 2 * CL, 512, 0x22, 0), 0);
    assert_int_equal(do_req(&top, Z, 3 * CL, CL, 0, 0), 0);
    assert_int_equal(t->length, 2 * CL + 512);
    assert_int_equal(old_content(0, disk_bytes), 0xaa);
    assert_int_equal(do_req(&past, R, disk_bytes, 512, 0, 0), 0); /* beyond the end, as of any node */
    probe_fail(t, W, -1, -EIO, 1);
    assert_int_equal(do_req(&top, W, 0, 512, 0x33, 0), -EIO);
    assert_int_equal(run_background(1), 0);
    assert_int_equal(block_copy_remaining(copy), 0);
    assert_int_equal(do_req(&top, SIM_OP_TRUNCATE, CL, 0, 0, 0), -ENOTSUP);
    assert_int_equal(do_req(&top, SIM_OP_TRUNCATE, 8 * CL, 0, 0, 0), 0);
    assert_int_equal(do_req(&past, D, CL, CL + 512, 0, 0), 0);
    assert_int_equal(old_content(2 * CL, 512), -EACCES);
    assert_int_equal(old_content(0, CL), 0xaa);
    free_all();
}

static void another_writer(void *opaque)
{
    struct probe *p = opaque;
    SIM_ASSERT_EQ(blk_set_perm(p->blk, RW, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_WRITE, NULL), 0);
}

/* Somebody else's exclusive right to the target: no filter, nothing left. fact: jobs 5.2/nothing-left */
static void test_append_refused(void **state)
{
    make_disks();
    probe_main(another_writer, t);
    struct append a = {.args = {.node_name = "f"}};
    probe_main(append_main, &a);
    assert_null(a.filter);
    assert_non_null(a.err);
    error_free(a.err);
    settle();
    assert_null(bdrv_find_node(host, "f"));
    assert_ptr_equal(blk_bs(s->blk), s->bs);
    assert_null(bdrv_dirty_bitmap_next(s->bs, NULL));
    free_all();
}

static struct probe other;

static void write_below(void *opaque)
{
    other.bs = s->bs;
    other.blk = blk_new(host, RW, BLK_PERM_ALL);
    resize_ret = blk_insert_bs(other.blk, s->bs, NULL);
}

static void stop_below(void *opaque)
{
    blk_unref(other.blk);
}

/* Nobody writes to the source behind the filter. fact: jobs 5.2/permissions */
static void test_writer_below(void **state)
{
    make_engine((struct block_copy_args){0});
    probe_main(write_below, NULL);
    assert_int_equal(resize_ret, -EPERM);
    probe_main(stop_below, NULL);
    free_engine();
}

static void give_up_all(void *opaque)
{
    Error *err = NULL;
    resize_ret = bdrv_inactivate_all(host, &err);
    error_free(err);
}

/* Who would own the source then would save nothing (bug N03). */
static void test_not_given_up(void **state)
{
    make_filter("");
    probe_main(no_perms, &top); /* its user would let go */
    probe_main(give_up_all, NULL);
    assert_int_equal(resize_ret, -EPERM);
    assert_false(bdrv_is_inactive(s->bs) || bdrv_is_inactive(t->bs) || bdrv_is_inactive(top.bs));
    probe_main(rw_perms, &top);
    assert_int_equal(do_req(&top, W, 0, 512, 0x11, 0), 0);
    assert_content(t, 0, CL, 0xaa);
    free_all();
}

/* --- in and out
 * --------------------------------------------------------------------------------------------------- */

/* The source's users are above it, and back. fact: jobs 5.1/cbw-first */
static void test_append_and_drop(void **state)
{
    make_engine((struct block_copy_args){0});
    assert_ptr_equal(blk_bs(s->blk), top.bs);
    assert_false(bdrv_is_implicit(top.bs));
    assert_true(bdrv_is_cbw(top.bs) && !bdrv_is_cbw(s->bs));
    assert_ptr_equal(bdrv_cbw_target(top.bs), t->bs);
    probe_main(drop_main, top.bs);
    assert_ptr_equal(blk_bs(s->blk), s->bs);
    settle();
    assert_null(bdrv_find_node(host, "f"));
    append_filter((struct cbw_args){.node_name = NULL});
    assert_true(bdrv_is_implicit(top.bs));
    free_engine();
}

static void append_and_undo(void *opaque)
{
    bdrv_drained_begin(s->bs);
    struct bdrv_parents *parents = bdrv_note_parents(s->bs);
    struct cbw_args args = {.node_name = "f"};
    BlockDriverState *filter = bdrv_cbw_append(s->bs, t->bs, &args, &copy, NULL);
    SIM_ASSERT(filter != NULL);
    bdrv_cbw_undo(filter, s->bs, parents);
    bdrv_forget_parents(host, parents);
    bdrv_drained_end(s->bs);
}

static void test_undo(void **state)
{
    make_disks();
    probe_main(append_and_undo, NULL);
    settle();
    assert_null(bdrv_find_node(host, "f"));
    assert_ptr_equal(blk_bs(s->blk), s->bs);
    free_all();
}

static bool dropped;

static void drop_and_tell(void *opaque)
{
    bdrv_cbw_drop(opaque);
    dropped = true;
}

/* Requests inside use the engine to their end (bug B07). */
static void test_drop_waits_for_requests(void **state)
{
    make_engine((struct block_copy_args){0});
    dropped = false;
    struct req write = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    probe_hold(t, W, -2);
    spawn(&write);
    settle();
    host_command(host, drop_and_tell, top.bs);
    settle();
    assert_false(dropped || write.done);
    probe_release(t);
    assert_true(dropped && write.done);
    assert_int_equal(write.ret, 0);
    probe_free(s);
    probe_free(t);
}

/* Late copies too. fact: jobs 5.5/timeout */
static void test_drop_waits_for_late_copies(void **state)
{
    make_disks();
    append_filter((struct cbw_args){.node_name = "f", .cbw_timeout_ns = NS_PER_S});
    probe_main(rw_perms, s);
    dropped = false;
    probe_hold(t, W, -2);
    struct req write = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    spawn(&write);
    settle();
    assert_int_equal(write.ret, -ETIMEDOUT);
    host_command(host, drop_and_tell, top.bs);
    settle();
    assert_false(dropped);
    probe_release(t);
    assert_true(dropped);
    probe_free(s);
    probe_free(t);
}

/* --- the host dies
 * -------------------------------------------------------------------------------------------------- */

/* With a copy under way, a timeout running, a reader waiting and a background call asleep. */
static void test_crash(void **state)
{
    make_past(",'cbw-timeout':5");
    uint8_t seen[512];
    struct req write = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    struct req read = {.p = &past, .op = R, .offset = CL, .bytes = 512, .seen = seen};
    block_copy_set_speed(copy, 1);
    struct background b = {.workers = 2, .max_chunk = CL};
    probe_hold(t, W, -2);
    probe_hold(s, R, CL);
    spawn(&write);
    spawn(&read);
    start_background(&b);
    sim_run(world, NULL, NULL, sim_now(world) + NS_PER_S);
    assert_false(write.done || read.done || b.ended);
    free(s->data);
    free(t->data);
    host_crash(host);
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
    sim_delete(world);
    probe_setup(state); /* for the teardown */
}

/* --- fleecing
 * ----------------------------------------------------------------------------------------------------- */

/* An overlay over the source: a reader that found an area unallocated is on its way to the source. */
static BlockDriver overlay_driver;

static int overlay_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    struct probe *p = bs->opaque;
    bool here = p->data[offset] != 0xee; /* the lookup, before anything else can happen */
    int ret = probe_call(bs, R, offset, bytes, flags);
    if (ret == 0 && here) {
        payload_append_bytes(out, p->data + offset, bytes);
    }
    return ret < 0 || here ? ret : bdrv_co_preadv(bs->backing, offset, bytes, out, 0);
}

static void make_fleecing(void)
{
    s = make_disk("s", 0xaa, 0);
    overlay_driver = probe_driver;
    overlay_driver.is_protocol = false;
    overlay_driver.supports_backing = true;
    overlay_driver.bdrv_co_preadv = overlay_preadv;
    t = probe_new((struct probe_spec){
        .name = "t", .drv = &overlay_driver, .length = MiB, .fill = 0xee, .backing = s, .no_resize = true});
    append_filter((struct cbw_args){.node_name = "f"});
    probe_main(rw_perms, s);
}

/* The overlay goes before what it stands on. */
static void free_engine_fleecing(void)
{
    probe_main(drop_main, top.bs);
    probe_free(t);
    probe_free(s);
}

/* The reader is held between its lookup and its read of the source; the guest must not get past it (bug B05).
 * fact: jobs 5.5/fleecing, edge/47 */
static void test_fleecing(void **state)
{
    make_fleecing();
    uint8_t seen[512];
    struct req read = {.p = t, .op = R, .offset = 0, .bytes = 512, .seen = seen};
    struct req write = {.p = &top, .op = W, .offset = 0, .bytes = 512, .fill = 0x11};
    probe_hold(t, R, 0);
    spawn(&read);
    settle();
    spawn(&write);
    settle();
    assert_false(write.done);
    assert_content(s, 0, 512, 0xaa);
    probe_release(t);
    assert_true(read.done && write.done);
    assert_int_equal(seen[0], 0xaa);
    assert_content(t, 0, CL, 0xaa);
    assert_content(s, 0, 512, 0x11);
    free_engine_fleecing();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_CBW("/cbw/options/refused", test_options),
        T_CBW("/cbw/options/sizes", test_sizes),
        T_CBW("/cbw/options/min-cluster-size", test_min_cluster_size),
        T_CBW("/cbw/permissions/edges", test_permissions),
        T_CBW("/cbw/permissions/no-resize", test_no_resize),
        T_CBW("/cbw/growth", test_growth),
        T_CBW("/cbw/permissions/append-refused", test_append_refused),
        T_CBW("/cbw/permissions/writer-below", test_writer_below),
        T_CBW("/cbw/permissions/not-given-up", test_not_given_up),
        T_CBW("/cbw/graph/append-and-drop", test_append_and_drop),
        T_CBW("/cbw/graph/undo", test_undo),
        T_CBW("/cbw/graph/drop-waits-for-requests", test_drop_waits_for_requests),
        T_CBW("/cbw/graph/drop-waits-for-late-copies", test_drop_waits_for_late_copies),
        T_CBW("/cbw/crash", test_crash),
        T_CBW("/cbw/fleecing", test_fleecing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
