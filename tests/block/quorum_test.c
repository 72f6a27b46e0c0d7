/* Protects quorum (block.md 7.3): its options, who must succeed in writes, lengths, permissions, and children that
 * come and go. Votes are in quorum_vote_test.c. */
#include "tests/block/quorum_probe.h"

/* --- options ----------------------------------------------------------------------------------------------------
 */

static void expect_refused(unsigned count, const char *options, const char *message)
{
    struct refusal refusal = {host, options_for(count, options), NULL};
    probe_main(try_add_node, &refusal);
    assert_non_null(refusal.err);
    if (!strstr(error_get_pretty(refusal.err), message)) {
        fail_msg("expected '%s' in '%s'", message, error_get_pretty(refusal.err));
    }
    error_free(refusal.err);
    assert_null(bdrv_find_node(host, "q"));
}

/* fact: block 7.3/threshold */
static void test_threshold_range(void **state)
{
    make_children(2);
    expect_refused(2, "'vote-threshold':0", "expects a value >= 1");
    expect_refused(2, "'vote-threshold':-1", "expects a value >= 1");
    expect_refused(2, "'vote-threshold':3", "may not exceed");
    expect_refused(2, "'read-pattern':'fifo'", "'vote-threshold' is missing");
    expect_refused(2, "'vote-threshold':1,'read-pattern':'lifo'", "'lifo'");
    free_children();
    make_quorum(2, "'vote-threshold':2");
    free_quorum();
}

/* fact: block 7.3/blkverify */
static void test_blkverify_options(void **state)
{
    make_children(3);
    expect_refused(3, "'vote-threshold':2,'blkverify':true", "exactly two files");
    expect_refused(2, "'vote-threshold':1,'blkverify':true", "exactly two files");
    expect_refused(2, "'vote-threshold':2,'blkverify':true,'rewrite-corrupted':true", "cannot be used");
    free_children();
}

/* --- writes, flush ------------------------------------------------------------------------------------------ */

/* fact: block 7.3/writes */
static void test_writes(void **state)
{
    make_quorum(3, "'vote-threshold':2");
    assert_int_equal(do_req(&top, W, 4096, 4096, 0x22, 0), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_content(child[i], 4096, 4096, 0x22);
    }
    probe_fail(child[0], W, -1, -ENOSPC, 1);
    assert_int_equal(do_req(&top, W, 4096, 4096, 0x33, 0), 0);
    assert_content(child[2], 4096, 4096, 0x33);
    probe_fail(child[1], Z, -1, -EIO, 1);
    assert_int_equal(do_req(&top, Z, 4096, 4096, 0, 0), 0);
    assert_int_equal(failures, 0);
    free_quorum();
}

/* The errno that most children give. fact: block 7.3/writes, 7.3/write-event */
static void test_write_failure(void **state)
{
    make_quorum(4, "'vote-threshold':2");
    probe_fail(child[0], W, -1, -EIO, 1);
    probe_fail(child[1], W, -1, -ENOSPC, 1);
    probe_fail(child[2], W, -1, -ENOSPC, 1);
    assert_int_equal(do_req(&top, W, 1024, 1000, 0x22, 0), -ENOSPC);
    assert_int_equal(failures, 1);
    assert_string_equal(failure[0].what, "q");
    assert_int_equal(failure[0].sector, 2);
    assert_int_equal(failure[0].sectors, 2);
    free_quorum();
}

/* Successes are counted, not agreement; a failed flush is told, but no QUORUM_FAILURE. fact: block 7.3/writes */
static void test_flush(void **state)
{
    make_quorum(3, "'vote-threshold':2");
    assert_int_equal(do_req(&top, W, 0, 512, 1, 0), 0);
    probe_fail(child[2], F, -1, -EIO, 1);
    assert_int_equal(do_req(&top, F, 0, 0, 0, 0), 0);
    assert_bad(0, "flush", "c", "Input/output error", 0, 0);
    assert_int_equal(do_req(&top, W, 0, 512, 1, 0), 0);
    probe_fail(child[0], F, -1, -ENOSPC, 1);
    probe_fail(child[1], F, -1, -ENOSPC, 1);
    probe_fail(child[2], F, -1, -EIO, 1);
    assert_int_equal(do_req(&top, F, 0, 0, 0, 0), -ENOSPC);
    assert_int_equal(failures, 0);
    free_quorum();
}

/* What a discard leaves is undefined: children would differ. */
static void test_discard(void **state)
{
    make_quorum(2, "'vote-threshold':2");
    assert_int_equal(do_req(&top, SIM_OP_DISCARD, 0, 65536, 0, 0), 0);
    assert_int_equal(probe_calls(child[0], SIM_OP_DISCARD) + probe_calls(child[1], SIM_OP_DISCARD), 0);
    free_quorum();
}

/* Writes that overlap reach all children in the same order, whatever time a child takes. */
static void test_write_order(void **state)
{
    make_quorum(2, "'vote-threshold':2");
    struct req first = {.p = &top, .op = W, .offset = 0, .bytes = 4096, .fill = 1};
    struct req second = {.p = &top, .op = W, .offset = 2048, .bytes = 4096, .fill = 2};
    struct req apart = {.p = &top, .op = W, .offset = 8192, .bytes = 4096, .fill = 3};
    probe_hold(child[1], W, 0);
    spawn(&first);
    settle();
    spawn(&second);
    spawn(&apart);
    settle();
    assert_false(first.done || second.done);
    assert_true(apart.done);
    probe_release(child[1]);
    assert_true(first.done && second.done);
    assert_memory_equal(child[0]->data, child[1]->data, 16384);
    assert_content(child[1], 2048, 4096, 2);
    assert_int_equal(read_byte(0, 16384, 0), 1);
    free_quorum();
}

/* A read beside a write does not find half of the children changed. */
static void test_read_beside_write(void **state)
{
    make_quorum(3, "'vote-threshold':2,'rewrite-corrupted':true");
    struct req write = {.p = &top, .op = W, .offset = 0, .bytes = 4096, .fill = 2};
    uint8_t seen[512];
    struct req read = {.p = &top, .op = R, .offset = 0, .bytes = 512, .seen = seen};
    probe_hold(child[1], W, 0);
    spawn(&write);
    settle();
    spawn(&read);
    settle();
    probe_release(child[1]);
    assert_true(write.done && read.done);
    assert_int_equal(seen[0], 2);
    assert_int_equal(bads, 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_content(child[i], 0, 4096, 2);
    }
    free_quorum();
}

/* --- status, lengths, permissions --------------------------------------------------------------------------- */

struct status_question {
    int64_t offset, bytes, pnum;
    int ret;
};

static void ask_status(void *opaque)
{
    struct status_question *q = opaque;
    q->ret = bdrv_co_block_status_above(top.bs, NULL, q->offset, q->bytes, &q->pnum, NULL, NULL);
}

static struct status_question status(int64_t offset, int64_t bytes)
{
    struct status_question q = {.offset = offset, .bytes = bytes};
    coroutine_start(coroutine_create(world, host, "status", ask_status, &q));
    settle();
    return q;
}

static BlockDriver status_driver;

/* fact: block 7.3/status */
static void test_status(void **state)
{
    static const char *const names[] = {"a", "b"};
    status_driver = probe_driver;
    status_driver.bdrv_co_block_status = probe_block_status;
    child_count = 2;
    for (unsigned i = 0; i < 2; i++) {
        child[i] = probe_new((struct probe_spec){.name = names[i], .drv = &status_driver, .length = MiB});
        probe_main(no_perms, child[i]);
        child[i]->status_flags = BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID;
        child[i]->status_run = (i + 1) * 64 * KiB;
    }
    probe_main(add_top, (char *)options_for(2, "'vote-threshold':1"));
    struct status_question q = status(0, MiB);
    assert_int_equal(q.ret & (BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA), BDRV_BLOCK_ZERO);
    assert_int_equal(q.pnum, 64 * KiB); /* the shortest */
    child[0]->status_flags = BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    q = status(0, MiB);
    assert_int_equal(q.ret & (BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA), BDRV_BLOCK_DATA);
    assert_int_equal(q.pnum, 64 * KiB);
    child[1]->status_flags = BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    q = status(256 * KiB, 512 * KiB);
    assert_int_equal(q.pnum, 128 * KiB); /* the longest */
    probe_fail(child[1], SIM_OP_BLOCK_STATUS, -1, -EIO, 1);
    q = status(512 * KiB, 512 * KiB);
    assert_int_equal(q.ret & (BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA), BDRV_BLOCK_DATA);
    assert_int_equal(q.pnum, 512 * KiB);
    assert_bad(0, "read", "b", "Input/output error", 1024, 1024);
    free_quorum();
}

/* fact: block 7.3/lengths */
static void test_lengths(void **state)
{
    make_children(2);
    child[1]->length = 2 * MiB;
    expect_refused(2, "'vote-threshold':1", "Input/output error");
    free_children();
}

/* A child that did not grow with the others cannot take what is beyond it, and that is its failure, not ours. */
static void lend_resize(void *opaque)
{
    bool on = opaque != NULL;
    uint64_t perm = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | (on ? BLK_PERM_RESIZE : 0);
    SIM_ASSERT_EQ(blk_set_perm(top.blk, perm, BLK_PERM_ALL, NULL), 0);
}

static void test_short_child(void **state)
{
    make_quorum(2, "'vote-threshold':1");
    probe_fail(child[1], W, -1, -ENOSPC, 1);
    assert_int_equal(do_req(&top, W, MiB, 65536, 0x22, 0), 0);
    assert_int_equal(top.bs->total_bytes, MiB + 65536);
    assert_int_equal(child[1]->bs->total_bytes, MiB);
    probe_main(lend_resize, NULL);
    assert_int_equal(do_req(&top, W, MiB, 65536, 0x33, 0), 0);
    assert_content(child[0], MiB, 65536, 0x33);
    assert_int_equal(child[1]->bs->total_bytes, MiB);
    free_quorum();
}

static void assert_edge(const char *name, uint64_t perm, uint64_t unshared)
{
    uint64_t has, shares;
    for (BdrvChild *edge = bdrv_first_child(top.bs); edge; edge = bdrv_next_child(edge)) {
        if (strcmp(bdrv_child_name(edge), name) == 0) {
            bdrv_child_perms(edge, &has, &shares);
            assert_int_equal(has, perm);
            assert_int_equal(BLK_PERM_ALL & ~shares, unshared);
            return;
        }
    }
    fail_msg("no child %s", name);
}

static void read_only_user(void *opaque)
{
    SIM_ASSERT_EQ(blk_set_perm(top.blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, NULL), 0);
}

/* fact: block 1.11/quorum */
static void test_perms(void **state)
{
    uint64_t both = BLK_PERM_WRITE | BLK_PERM_RESIZE;
    make_quorum(2, "'vote-threshold':1");
    assert_edge("children.0", BLK_PERM_CONSISTENT_READ | both, both);
    probe_main(read_only_user, NULL);
    assert_edge("children.1", BLK_PERM_CONSISTENT_READ, both);
    free_quorum();
    make_quorum(2, "'vote-threshold':1,'rewrite-corrupted':true");
    probe_main(read_only_user, NULL);
    assert_edge("children.1", BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, both);
    free_quorum();
}

/* --- children that come and go ------------------------------------------------------------------------------ */

struct change {
    const char *add, *del;
    Error *err;
};

static void change_entry(void *opaque)
{
    struct change *c = opaque;
    if (c->add) {
        bdrv_add_child(top.bs, bdrv_find_node(host, c->add), &c->err);
        return;
    }
    for (BdrvChild *edge = bdrv_first_child(top.bs); edge; edge = bdrv_next_child(edge)) {
        if (strcmp(bdrv_child_name(edge), c->del) == 0) {
            bdrv_del_child(top.bs, edge, &c->err);
            return;
        }
    }
    SIM_ASSERT(false);
}

static void change(struct change c, const char *error)
{
    probe_main(change_entry, &c);
    if (error) {
        assert_non_null(c.err);
        assert_non_null(strstr(error_get_pretty(c.err), error));
        error_free(c.err);
    } else if (c.err) {
        fail_msg("%s", error_get_pretty(c.err));
    }
}

static void drop_backend(void *opaque)
{
    struct probe *p = opaque;
    blk_unref(p->blk);
    p->blk = NULL;
}

/* fact: block 9/change */
static void test_change(void **state)
{
    make_quorum(2, "'vote-threshold':2");
    child[2] = make_child("c", 0x11);
    child_count = 3;
    change((struct change){.del = "children.0"}, "cannot be lower than the vote threshold 2");
    change((struct change){.add = "c"}, "already has a parent"); /* the backend of the test */
    probe_main(drop_backend, child[2]);
    change((struct change){.add = "c"}, NULL);
    corrupt(child[0], 0, 1, 0xee);
    assert_int_equal(read_byte(0, 512, 0), 0x11); /* two to one */
    change((struct change){.del = "children.0"}, NULL);
    assert_int_equal(do_req(&top, W, 0, 512, 0x22, 0), 0);
    assert_content(child[0], 0, 1, 0xee);
    assert_content(child[2], 0, 512, 0x22);
    probe_main(drop_backend, child[0]);
    change((struct change){.add = "a"}, NULL);
    assert_edge("children.3", BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE,
                BLK_PERM_WRITE | BLK_PERM_RESIZE); /* numbers are never used again */
    free_quorum();
}

/* fact: block 9/change */
static void test_change_blkverify(void **state)
{
    make_quorum(2, "'vote-threshold':2,'blkverify':true");
    child[2] = make_child("c", 0x11);
    child_count = 3;
    probe_main(drop_backend, child[2]);
    change((struct change){.add = "c"}, "in blkverify mode");
    free_quorum();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_QUORUM("/quorum/options/threshold", test_threshold_range),
        T_QUORUM("/quorum/options/blkverify", test_blkverify_options),
        T_QUORUM("/quorum/write/threshold", test_writes),
        T_QUORUM("/quorum/write/failure", test_write_failure),
        T_QUORUM("/quorum/write/order", test_write_order),
        T_QUORUM("/quorum/write/read-beside", test_read_beside_write),
        T_QUORUM("/quorum/flush", test_flush),
        T_QUORUM("/quorum/discard", test_discard),
        T_QUORUM("/quorum/status", test_status),
        T_QUORUM("/quorum/length/unequal", test_lengths),
        T_QUORUM("/quorum/length/short-child", test_short_child),
        T_QUORUM("/quorum/perm", test_perms),
        T_QUORUM("/quorum/change", test_change),
        T_QUORUM("/quorum/change/blkverify", test_change_blkverify),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
