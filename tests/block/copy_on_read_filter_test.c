/* Protects the copy-on-read filter (block.md 4.3, 1.11): which reads copy, down to where, and what it holds. */
#include "tests/block/blkopts.h"
#include "tests/block/cow_probe.h"

#define R SIM_OP_READ
#define W SIM_OP_WRITE
#define C (64 * KiB)
#define PREFETCH BDRV_REQ_PREFETCH
#define RW (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)

/* --- top over middle over base; base reads as 0xbb ---------------------------------------------------------- */

static struct probe *base, *middle, *overlay, *file[2];
static struct probe filter; /* only its node and its backend */

static struct probe *make_overlay(const char *name, struct probe *on, struct probe **storage,
                                  const char *storage_name)
{
    *storage = probe_new(
        (struct probe_spec){.name = storage_name, .length = COW_FILE_LENGTH, .fill = 0xff, .no_resize = true});
    struct probe *p = probe_new((struct probe_spec){.name = name,
                                                    .drv = &cow_probe_driver,
                                                    .length = MiB,
                                                    .cluster_size = C,
                                                    .write_flags = BDRV_REQ_WRITE_UNCHANGED,
                                                    .zero_flags = BDRV_REQ_WRITE_UNCHANGED,
                                                    .file = *storage,
                                                    .backing = on});
    ((struct cow_node *)p->bs->opaque)->unit = C;
    return p;
}

static void make_chain(void)
{
    base = probe_new((struct probe_spec){.name = "base", .length = MiB, .fill = 0xbb});
    middle = make_overlay("middle", base, &file[0], "file0");
    overlay = make_overlay("top", middle, &file[1], "file1");
    assert_int_equal(do_req(middle, W, C, C, 0x22, 0), 0); /* cluster 1 is the middle's */
    assert_int_equal(do_req(overlay, W, 2 * C, C, 0x33, 0), 0);
}

static void free_chain(void)
{
    probe_free(overlay);
    probe_free(middle);
    probe_free(base);
    probe_free(file[0]);
    probe_free(file[1]);
}

static void add_filter(void *opaque)
{
    filter.bs = add_node(host, opaque);
    filter.blk = blk_new(host, RW, BLK_PERM_ALL);
    SIM_ASSERT_EQ(blk_insert_bs(filter.blk, filter.bs, NULL), 0);
}

static void del_filter(void *opaque)
{
    blk_unref(filter.blk);
    SIM_ASSERT(qmp_blockdev_del_node(host, "cor", NULL));
}

static void make_filter(const char *more)
{
    char options[160];
    snprintf(options, sizeof(options), "{'driver':'copy-on-read','node-name':'cor','file':'top'%s}", more);
    make_chain();
    probe_main(add_filter, options);
}

static void free_filter(void)
{
    probe_main(del_filter, NULL);
    free_chain();
}

static bool allocated(const struct probe *p, int64_t cluster)
{
    return ((const struct cow_node *)p->bs->opaque)->allocated[cluster];
}

static uint8_t read_at(int64_t offset, int64_t bytes, uint32_t flags)
{
    uint8_t *seen = calloc(1, (size_t)bytes);
    struct req r = {.p = &filter, .op = R, .offset = offset, .bytes = bytes, .flags = flags, .seen = seen};
    spawn(&r);
    settle();
    assert_true(r.done);
    assert_int_equal(r.ret, 0);
    uint8_t first = seen[0];
    assert_int_equal(seen[bytes - 1], first);
    free(seen);
    return first;
}

struct prefetch {
    int64_t offset, bytes;
    int ret;
};

static void prefetch_entry(void *opaque)
{
    struct prefetch *p = opaque;
    p->ret = bdrv_co_preadv(blk_root(filter.blk), p->offset, p->bytes, NULL, PREFETCH);
}

static void prefetch(int64_t offset, int64_t bytes)
{
    struct prefetch p = {offset, bytes, -EINPROGRESS};
    coroutine_start(coroutine_create(world, host, "prefetch", prefetch_entry, &p));
    settle();
    assert_int_equal(p.ret, 0);
}

/* --- what is copied ---------------------------------------------------------------------------------------------
 */

/* fact: block 4.3/filter */
static void test_fills(void **state)
{
    make_filter("");
    assert_int_equal(read_at(4 * C + 512, 512, 0), 0xbb);
    assert_true(allocated(overlay, 4));
    assert_false(allocated(middle, 4));
    assert_int_equal(read_at(C, 512, 0), 0x22);
    assert_true(allocated(overlay, 1));
    assert_false(allocated(overlay, 0));
    free_filter();
}

/* A read of the node below that does not come through the filter copies nothing. */
static void test_only_through_filter(void **state)
{
    make_filter("");
    assert_int_equal(do_req(overlay, R, 4 * C, 512, 0, 0), 0);
    assert_false(allocated(overlay, 4));
    free_filter();
}

/* Nobody wants the bytes: what is there already is not even read. */
static void test_prefetch(void **state)
{
    make_filter("");
    prefetch(4 * C, 2 * C);
    assert_true(allocated(overlay, 4) && allocated(overlay, 5));
    unsigned reads = probe_calls(overlay, R);
    prefetch(4 * C, 2 * C);
    assert_int_equal(probe_calls(overlay, R), reads);
    free_filter();
}

static void test_passes_on(void **state)
{
    make_filter("");
    assert_int_equal(do_req(&filter, W, 0, C, 0x44, 0), 0);
    assert_int_equal(do_req(&filter, SIM_OP_WRITE_ZEROES, 3 * C, C, 0, 0), 0);
    assert_true(allocated(overlay, 0) && allocated(overlay, 3));
    assert_int_equal(read_at(0, C, 0), 0x44);
    assert_int_equal(read_at(3 * C, C, 0), 0);
    assert_int_equal(filter.bs->total_bytes, MiB);
    free_filter();
}

/* fact: block 4.3/bottom */
static void test_bottom(void **state)
{
    make_filter(",'bottom':'middle'");
    assert_int_equal(read_at(4 * C, 512, 0), 0xbb); /* from base, below the bottom */
    assert_false(allocated(overlay, 4));
    assert_int_equal(read_at(C, 512, 0), 0x22);
    assert_true(allocated(overlay, 1));
    assert_int_equal(read_at(2 * C, 512, 0), 0x33);
    uint8_t *seen = malloc(4 * (size_t)C);
    struct req across = {.p = &filter, .op = R, .offset = 0, .bytes = 4 * C, .seen = seen};
    spawn(&across);
    settle();
    assert_int_equal(across.ret, 0);
    assert_int_equal(seen[0], 0xbb);
    assert_int_equal(seen[C], 0x22);
    assert_int_equal(seen[2 * C], 0x33);
    assert_int_equal(seen[4 * C - 1], 0xbb);
    free(seen);
    assert_false(allocated(overlay, 0) || allocated(overlay, 3));
    free_filter();
}

/* Only what would be copied is touched at all. fact: block 4.3/bottom */
static void test_bottom_prefetch(void **state)
{
    make_filter(",'bottom':'middle'");
    unsigned reads = probe_calls(base, R);
    prefetch(0, MiB);
    assert_true(allocated(overlay, 1));
    assert_false(allocated(overlay, 0) || allocated(overlay, 3) || allocated(overlay, 15));
    assert_int_equal(probe_calls(base, R), reads);
    free_filter();
}

/* The filtered node is the bottom: everything else lies below it. */
static void test_bottom_is_top(void **state)
{
    make_filter(",'bottom':'top'");
    assert_int_equal(read_at(C, 512, 0), 0x22);
    assert_int_equal(read_at(4 * C, 512, 0), 0xbb);
    assert_false(allocated(overlay, 1) || allocated(overlay, 4));
    free_filter();
}

/* What cannot be asked for counts as unallocated, and above the bottom. fact: block 4.3/query-error */
static void test_query_error(void **state)
{
    make_filter(",'bottom':'middle'");
    probe_fail(middle, SIM_OP_BLOCK_STATUS, -1, -EIO, 1);
    assert_int_equal(read_at(4 * C, 512, 0), 0xbb);
    assert_true(allocated(overlay, 4));
    free_filter();
}

/* --- what it holds ------------------------------------------------------------------------------------------ */

static bool frozen(const BlockDriverState *bs)
{
    return bdrv_child_frozen(bdrv_filter_or_cow_child(bs));
}

/* fact: block 4.3/bottom */
static void test_frozen(void **state)
{
    make_filter(",'bottom':'middle'");
    assert_true(frozen(filter.bs));
    assert_true(frozen(overlay->bs));
    assert_false(frozen(middle->bs));
    unsigned refs = bdrv_refcount(middle->bs);
    probe_main(del_filter, NULL);
    assert_false(frozen(overlay->bs));
    assert_int_equal(bdrv_refcount(middle->bs), refs - 1);
    free_chain();
}

static void read_only_user(void *opaque)
{
    SIM_ASSERT_EQ(blk_set_perm(filter.blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, NULL), 0);
}

/* fact: block 1.11/copy-on-read */
static void test_perms(void **state)
{
    uint64_t perm, shared;
    make_filter("");
    bdrv_child_perms(filter.bs->file, &perm, &shared);
    assert_int_equal(perm, RW | BLK_PERM_WRITE_UNCHANGED);
    assert_int_equal(shared, BLK_PERM_ALL);
    probe_main(read_only_user, NULL);
    bdrv_child_perms(filter.bs->file, &perm, &shared);
    assert_int_equal(perm, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    free_filter();
}

static void expect_refused(const char *options, const char *message)
{
    struct refusal refusal = {host, options, NULL};
    probe_main(try_add_node, &refusal);
    assert_non_null(refusal.err);
    if (!strstr(error_get_pretty(refusal.err), message)) {
        fail_msg("expected '%s' in '%s'", message, error_get_pretty(refusal.err));
    }
    error_free(refusal.err);
    assert_null(bdrv_find_node(host, "cor"));
    assert_false(frozen(overlay->bs));
}

static void test_refused(void **state)
{
    make_chain();
    expect_refused("{'driver':'copy-on-read','node-name':'cor','file':'top','bottom':'none'}", "not found");
    expect_refused("{'driver':'copy-on-read','node-name':'cor','file':'middle','bottom':'top'}",
                   "not in the chain of 'cor'");
    expect_refused("{'driver':'copy-on-read','node-name':'cor','bottom':'f','file':{'driver':'copy-on-read',"
                   "'node-name':'f','file':'top'}}",
                   "is a filter");
    free_chain();
}

/* fact: block 1.13/copy-on-read */
static void test_read_only(void **state)
{
    struct refusal refusal = {host,
                              "{'driver':'copy-on-read','node-name':'cor','file':{'driver':'null-co',"
                              "'node-name':'n','read-only':true}}",
                              NULL};
    probe_main(try_add_node, &refusal);
    assert_non_null(refusal.err);
    assert_non_null(strstr(error_get_pretty(refusal.err), "cannot support read-write users"));
    error_free(refusal.err);
}

#define T_COR(path, fn) T_NODE(path, fn)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_COR("/copy-on-read-filter/fills", test_fills),
        T_COR("/copy-on-read-filter/only-through-filter", test_only_through_filter),
        T_COR("/copy-on-read-filter/prefetch", test_prefetch),
        T_COR("/copy-on-read-filter/passes-on", test_passes_on),
        T_COR("/copy-on-read-filter/bottom", test_bottom),
        T_COR("/copy-on-read-filter/bottom/prefetch", test_bottom_prefetch),
        T_COR("/copy-on-read-filter/bottom/is-top", test_bottom_is_top),
        T_COR("/copy-on-read-filter/bottom/query-error", test_query_error),
        T_COR("/copy-on-read-filter/bottom/frozen", test_frozen),
        T_COR("/copy-on-read-filter/perms", test_perms),
        T_COR("/copy-on-read-filter/refused", test_refused),
        T_COR("/copy-on-read-filter/read-only", test_read_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
