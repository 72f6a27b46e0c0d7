/* Protects: limits and supported flags of every node above a change follow it, and come back when it is refused
 * (block.md 1.9, 1.11, 2.3, 2.8). */
#include "tests/block/reopen_lib.h"

#define DISK(node, disk) "{'driver':'disk','node-name':'" node "','disk':'" disk "'}"
#define RAW(node, file) "{'driver':'raw','node-name':'" node "','file':'" file "'}"
#define FMT(node, file, more) "{'driver':'fmt','node-name':'" node "','file':'" file "'" more "}"
#define DBG(node, image, align) "{'driver':'blkdebug','node-name':'" node "','image':'" image "','align':" align "}"

/* fa takes requests of any size, fb 4 KiB at a time. */
static void two_disks(struct world *w)
{
    struct disk_config config;

    make_disk(w, "a", MiB);
    disk_config_default(&config);
    config.size_bytes = MiB;
    config.max_transfer_bytes = 4096;
    assert_non_null(disk_new(w->sim, "b", &config, NULL));
    add(w, DISK("fa", "a"));
    add(w, DISK("fb", "b"));
}

static void drop(struct world *w, const char *const *names)
{
    for (; *names; names++) {
        settle(w);
        del(w, *names);
    }
}

static int64_t max_of(struct world *w, const char *name)
{
    return node(w, name)->bl.max_transfer;
}

/* --- upward ------------------------------------------------------------------------------------------------- */

/* fact: block 2.3/inherited */
WORLD_TEST(test_reopen)
{
    two_disks(w);
    add(w, RAW("low", "fa"));
    add(w, RAW("mid", "low"));
    add(w, "{'driver':'copy-on-read','node-name':'top','file':'mid'}");
    assert_int_equal(max_of(w, "top"), 0);
    reopen(w, "[" RAW("low", "fb") "]");
    assert_int_equal(max_of(w, "low"), 4096);
    assert_int_equal(max_of(w, "mid"), 4096);
    assert_int_equal(max_of(w, "top"), 4096);
    reopen(w, "[" RAW("low", "fa") "]");
    assert_int_equal(max_of(w, "top"), 0);
    drop(w, (const char *const[]){"top", "mid", "low", "fa", "fb", NULL});
}

/* A node over two ways to the changed one is computed after both. */
/* fact: block 2.3/inherited */
WORLD_TEST(test_diamond)
{
    two_disks(w);
    add(w, RAW("low", "fa"));
    add(w, RAW("left", "low"));
    fmt_new(w, "{'driver':'fmt','node-name':'top','read-only':true}", "left", "low");
    reopen(w, "[{'driver':'raw','node-name':'low','file':'fb'}]");
    assert_int_equal(max_of(w, "top"), 4096);
    drop(w, (const char *const[]){"top", "left", "low", "fa", "fb", NULL});
}

/* Detaching gives back what the child had restricted. */
/* fact: block 2.3/inherited */
WORLD_TEST(test_backing)
{
    two_disks(w);
    fmt_new(w, "{'driver':'fmt','node-name':'overlay'}", "fa", "fb");
    add(w, RAW("top", "overlay"));
    assert_int_equal(max_of(w, "top"), 4096);
    assert_int_equal(bdrv_set_backing_hd(node(w, "overlay"), NULL, NULL), 0);
    assert_int_equal(max_of(w, "overlay"), 0);
    assert_int_equal(max_of(w, "top"), 0);
    assert_int_equal(bdrv_set_backing_hd(node(w, "overlay"), node(w, "fb"), NULL), 0);
    assert_int_equal(max_of(w, "top"), 4096);
    bdrv_unref_child(node(w, "overlay"), node(w, "overlay")->backing);
    assert_int_equal(max_of(w, "top"), 0);
    drop(w, (const char *const[]){"top", "overlay", "fa", "fb", NULL});
}

/* fact: block 2.3/inherited */
WORLD_TEST(test_replace)
{
    two_disks(w);
    add(w, RAW("ra", "fa"));
    add(w, RAW("rb", "fb"));
    add(w, RAW("mid", "ra"));
    add(w, RAW("top", "mid"));
    assert_int_equal(bdrv_replace_node(node(w, "ra"), node(w, "rb"), NULL), 0);
    assert_int_equal(max_of(w, "mid"), 4096);
    assert_int_equal(max_of(w, "top"), 4096);
    drop(w, (const char *const[]){"top", "mid", "ra", "rb", "fa", "fb", NULL});
}

static void narrow_limits(BlockDriverState *bs)
{
    bs->bl.max_transfer = 8192;
}

static const BlockDriver narrow_filter = {
    .format_name = "narrow", .is_filter = true, .bdrv_refresh_limits = narrow_limits, TEST_DRIVER_HOOKS};

/* A filter that comes and goes in the middle, and whose word is the last for itself. */
/* fact: block 2.3/inherited, 2.3/driver */
WORLD_TEST(test_insert)
{
    two_disks(w);
    add(w, RAW("mid", "fa"));
    add(w, RAW("top", "mid"));
    BlockDriverState *filter = bdrv_new_filter(w->host, &narrow_filter, "filter", BDRV_O_RDWR, NULL);
    assert_int_equal(bdrv_append(filter, node(w, "fa"), NULL), 0);
    assert_int_equal(filter->bl.max_transfer, 8192);
    assert_int_equal(max_of(w, "top"), 8192);
    assert_int_equal(bdrv_drop_filter(filter, NULL), 0);
    assert_int_equal(max_of(w, "mid"), 0);
    assert_int_equal(max_of(w, "top"), 0);
    bdrv_unref(filter);
    drop(w, (const char *const[]){"top", "mid", "fa", "fb", NULL});
}

/* --- refused -------------------------------------------------------------------------------------------------- */

/* [hazard] Rounding a transfer limit down to a larger alignment would leave nothing to transfer. */
/* fact: block 2.3/max-transfer, 1.9/roll-back */
WORLD_TEST(test_too_narrow)
{
    Error *err = NULL;

    two_disks(w);
    assert_null(try_add(w, DBG("dbg", "fb", "8192"), &err));
    expect_error(&err, "Node 'dbg' has a request alignment of 8192, but what is below takes only 4096 at a time");
    add(w, RAW("mid", "fa"));
    add(w, DBG("dbg", "mid", "8192"));
    add(w, RAW("top", "dbg"));
    reopen_refused(w, "[" RAW("mid", "fb") "]", "takes only 4096 at a time");
    assert_int_equal(max_of(w, "mid"), 0);
    drop(w, (const char *const[]){"top", "dbg", "mid", "fa", "fb", NULL});
}

/* Takes over the alignment of what is below. */
static void following_limits(BlockDriverState *bs)
{
    bs->bl.request_alignment = bs->file ? bs->file->bs->bl.request_alignment : 1;
}

static const BlockDriver following_filter = {
    .format_name = "following", .is_filter = true, .bdrv_refresh_limits = following_limits, TEST_DRIVER_HOOKS};

/* The user that the new alignment does not suit is three nodes above the change. */
/* fact: block 1.9/roll-back, 1.11/unaligned-size */
WORLD_TEST(test_size_no_multiple)
{
    Error *err = NULL;

    make_disk(w, "a", MiB);
    add(w, DISK("fa", "a"));
    BlockDriverState *coarse = new_node(w, &following_filter, "coarse");
    BlockDriverState *low = new_node(w, &following_filter, "low");
    BlockDriverState *high = new_node(w, &following_filter, "high");
    uint32_t role = BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY;
    coarse->bl.request_alignment = 4096;
    high->total_bytes = MiB + 512;
    assert_non_null(bdrv_attach_child(low, node(w, "fa"), "file", role, NULL));
    assert_non_null(bdrv_attach_child(high, low, "file", role, NULL));
    BlockBackend *user = blk_new(w->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(user, high, NULL), 0);
    assert_int_equal(high->bl.request_alignment, 512);
    char *before = graph_text(w);
    assert_int_equal(bdrv_replace_node(node(w, "fa"), coarse, &err), -EPERM);
    expect_error(&err, "node 'high' without 'resize': its size is not a multiple of the request alignment");
    settle(w);
    char *after = graph_text(w);
    assert_string_equal(after, before);
    free(before);
    free(after);
    high->total_bytes = MiB;
    assert_int_equal(bdrv_replace_node(node(w, "fa"), coarse, NULL), 0);
    assert_int_equal(high->bl.request_alignment, 4096);
    blk_unref(user);
    bdrv_unref(high);
    bdrv_unref(low);
    bdrv_unref(coarse);
    drop(w, (const char *const[]){"fa", NULL});
}

/* --- drained ----------------------------------------------------------------------------------------------------
 */

struct writing {
    BlockBackend *blk;
    uint32_t flags;
    int64_t bytes;
    bool done;
};

static int write_entry(void *opaque)
{
    struct writing *wr = opaque;
    struct payload in;

    payload_init(blk_bs(wr->blk)->host->sim, &in);
    payload_append_fill(&in, 7, wr->bytes);
    int ret = blk_co_pwritev(wr->blk, 0, wr->bytes, &in, wr->flags);
    payload_clear(&in);
    wr->done = true;
    return ret;
}

static void write_background(void *opaque)
{
    SIM_ASSERT_EQ(write_entry(opaque), 0);
}

static void release(void *opaque)
{
    release_requests(opaque);
}

static BlockBackend *writer(struct world *w, const char *name)
{
    BlockBackend *blk = blk_new(w->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL);

    assert_int_equal(blk_insert_bs(blk, node(w, name), NULL), 0);
    return blk;
}

/* --- flags ------------------------------------------------------------------------------------------------------
 */

static unsigned flushes;

static int sink_flush(BlockDriverState *bs)
{
    flushes++;
    return 0;
}

static const BlockDriver sink = {
    .format_name = "sink", .is_protocol = true, .bdrv_co_flush_to_disk = sink_flush, TEST_DRIVER_HOOKS};

static BlockDriverState *new_sink(struct world *w, const char *name, bool fua)
{
    BlockDriverState *bs = new_node(w, &sink, name);

    bs->supported_write_flags = fua ? BDRV_REQ_FUA : 0;
    bs->supported_zero_flags = fua ? BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK : 0;
    bs->supported_truncate_flags = fua ? BDRV_REQ_ZERO_WRITE : 0;
    bs->monitor_owned = true;
    return bs;
}

/* One write that has to be on the medium when it is done: natively, or by a flush. */
static void durable_write(struct world *w, BlockBackend *blk, const char *where, unsigned native)
{
    struct writing wr = {.blk = blk, .flags = BDRV_REQ_FUA, .bytes = 4096};
    unsigned fua_before = tn(node(w, where))->fua_writes;

    flushes = 0;
    assert_int_equal(bdrv_run_co(w->host, "write", write_entry, &wr), 0);
    assert_int_equal(tn(node(w, where))->fua_writes - fua_before, native);
    assert_int_equal(flushes, 1 - native);
}

static void expect_flags(struct world *w, const char *name, bool all)
{
    const BlockDriverState *bs = node(w, name);
    uint32_t zero = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;

    assert_int_equal(bs->supported_write_flags & BDRV_REQ_FUA, all ? BDRV_REQ_FUA : 0);
    assert_int_equal(bs->supported_zero_flags & zero, all ? zero : 0);
    assert_int_equal(bs->supported_truncate_flags, all ? BDRV_REQ_ZERO_WRITE : 0);
}

/* However many nodes are between: what the new medium cannot do is done by a flush, what it can natively. */
/* fact: block 2.8/fua-emulated, 2.8/fua-native */
WORLD_TEST(test_flags)
{
    static const char *const above[] = {"raw", "cor", "pre", "dbg", NULL};

    new_sink(w, "can", true);
    new_sink(w, "cannot", false);
    add(w, RAW("raw", "can"));
    add(w, "{'driver':'copy-on-read','node-name':'cor','file':'raw'}");
    add(w, "{'driver':'preallocate','node-name':'pre','file':'cor'}");
    add(w, DBG("dbg", "pre", "512"));
    BlockBackend *blk = writer(w, "dbg");
    for (unsigned round = 0; round < 2; round++) {
        durable_write(w, blk, "can", 1);
        for (unsigned i = 0; i < 3; i++) {
            expect_flags(w, above[i], true);
        }
        reopen(w, "[" RAW("raw", "cannot") "]");
        durable_write(w, blk, "cannot", 0);
        for (unsigned i = 0; i < 3; i++) {
            expect_flags(w, above[i], false);
        }
        reopen(w, "[" RAW("raw", "can") "]");
    }
    blk_unref(blk);
    drop(w, (const char *const[]){"dbg", "pre", "cor", "raw", "can", "cannot", NULL});
}

/* A reopen that is refused leaves the old flags, too. */
/* fact: block 1.9/roll-back */
WORLD_TEST(test_flags_undone)
{
    new_sink(w, "can", true);
    new_sink(w, "cannot", false)->open_flags = 0;
    add(w, RAW("raw", "can"));
    add(w, RAW("top", "raw"));
    BlockBackend *blk = writer(w, "top");
    reopen_refused(w, "[" RAW("raw", "cannot") "]",
                   "Read-only block node 'cannot' cannot support read-write users");
    expect_flags(w, "raw", true);
    expect_flags(w, "top", true);
    durable_write(w, blk, "can", 1);
    blk_unref(blk);
    drop(w, (const char *const[]){"top", "raw", "can", "cannot", NULL});
}

/* A request that was cut by the old limits ends before they change: it goes on to the old file in one piece, the
 * next one to the new one in two. */
/* fact: block 2.3/fragment */
WORLD_TEST(test_drained)
{
    new_sink(w, "wide", false);
    BlockDriverState *narrow = bdrv_new_filter(w->host, &narrow_filter, "narrow", BDRV_O_RDWR, NULL);
    new_sink(w, "below", false);
    assert_int_equal(bdrv_append(narrow, node(w, "below"), NULL), 0);
    add(w, RAW("raw", "wide"));
    BlockBackend *blk = writer(w, "raw");
    struct writing first = {.blk = blk, .bytes = 16384};
    tn(node(w, "wide"))->hold = true;
    coroutine_start(coroutine_create(w->sim, w->host, "write", write_background, &first));
    let_run(w, 10);
    assert_int_equal(tn(node(w, "wide"))->writes, 1);
    assert_false(first.done);
    host_defer(w->host, release, node(w, "wide"));
    reopen(w, "[" RAW("raw", "narrow") "]");
    assert_true(first.done);
    assert_int_equal(tn(node(w, "wide"))->writes, 1);
    struct writing second = {.blk = blk, .bytes = 16384};
    assert_int_equal(bdrv_run_co(w->host, "write", write_entry, &second), 0);
    assert_int_equal(tn(narrow)->writes, 2);
    blk_unref(blk);
    drop(w, (const char *const[]){"raw", "wide", NULL});
    bdrv_unref(narrow);
    drop(w, (const char *const[]){"below", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/limits/upward/reopen", test_reopen),
        T("/limits/upward/diamond", test_diamond),
        T("/limits/upward/backing", test_backing),
        T("/limits/upward/replace", test_replace),
        T("/limits/upward/insert", test_insert),
        T("/limits/refused/too-narrow", test_too_narrow),
        T("/limits/refused/size-no-multiple", test_size_no_multiple),
        T("/limits/drained", test_drained),
        T("/limits/flags/swapped", test_flags),
        T("/limits/flags/undone", test_flags_undone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
