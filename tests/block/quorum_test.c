/* Protects quorum (block.md 7.3): who must succeed, who wins a vote, what is reported, who may come and go. */
#include <stdio.h>

#include "tests/block/blkopts.h"
#include "tests/block/probe.h"

#define R SIM_OP_READ
#define W SIM_OP_WRITE
#define Z SIM_OP_WRITE_ZEROES
#define F SIM_OP_FLUSH
#define MAX_CHILDREN 5

/* --- a quorum over probes ----------------------------------------------------------------------------------- */

static struct probe *child[MAX_CHILDREN];
static unsigned child_count;
static struct probe top; /* only its node and its backend */

static void no_perms(void *opaque)
{
    struct probe *p = opaque;
    SIM_ASSERT_EQ(blk_set_perm(p->blk, 0, BLK_PERM_ALL, NULL), 0);
}

/* A child that reads as fill; its own backend only watches. */
static struct probe *make_child(const char *name, uint8_t fill)
{
    struct probe *p = probe_new((struct probe_spec){.name = name, .length = MiB, .fill = fill});
    probe_main(no_perms, p);
    return p;
}

static void add_top(void *opaque)
{
    top.bs = add_node(host, opaque);
    top.blk = blk_new(host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL);
    SIM_ASSERT_EQ(blk_insert_bs(top.blk, top.bs, NULL), 0);
}

static void make_children(unsigned count)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    child_count = count;
    for (unsigned i = 0; i < count; i++) {
        child[i] = make_child(names[i], 0x11);
    }
}

static const char *options_for(unsigned count, const char *options)
{
    static char text[400];
    static const char *const lists[] = {"'a'", "'a','b'", "'a','b','c'", "'a','b','c','d'", "'a','b','c','d','e'"};
    snprintf(text, sizeof(text), "{'driver':'quorum','node-name':'q','children':[%s],%s}", lists[count - 1],
             options);
    return text;
}

static void make_quorum(unsigned count, const char *options)
{
    make_children(count);
    probe_main(add_top, (char *)options_for(count, options));
}

static void drop_top(void *opaque)
{
    blk_unref(top.blk);
    SIM_ASSERT(qmp_blockdev_del_node(host, "q", NULL));
}

static void free_children(void)
{
    for (unsigned i = 0; i < child_count; i++) {
        probe_free(child[i]);
    }
}

static void free_quorum(void)
{
    probe_main(drop_top, NULL);
    free_children();
}

/* What a read of the quorum gives: the byte at the start, or -1. */
static int read_byte(int64_t offset, int64_t bytes, int expect)
{
    uint8_t *seen = calloc(1, (size_t)bytes);
    struct req r = {.p = &top, .op = R, .offset = offset, .bytes = bytes, .seen = seen};
    spawn(&r);
    settle();
    assert_true(r.done);
    assert_int_equal(r.ret, expect);
    int first = r.ret == 0 ? seen[0] : -1;
    free(seen);
    return first;
}

static void corrupt(struct probe *p, int64_t offset, int64_t bytes, uint8_t value)
{
    memset(p->data + offset, value, (size_t)bytes);
}

/* --- what clients hear -------------------------------------------------------------------------------------- */

#define HEARD 32
struct heard {
    int64_t time_ns;
    const char *what; /* the failing node or device, or the operation */
    const char *error;
    const char *node;
    uint64_t sector, sectors;
};
static struct heard failure[HEARD], bad[HEARD];
static unsigned failures, bads;

static void on_failure(void *opaque, const struct sim_record *r)
{
    SIM_ASSERT(failures < HEARD);
    failure[failures++] = (struct heard){
        .time_ns = r->time_ns, .what = sim_record_str(r, 0), .sector = r->field[1], .sectors = r->field[2]};
}

static void on_bad(void *opaque, const struct sim_record *r)
{
    SIM_ASSERT(bads < HEARD);
    bad[bads++] = (struct heard){.time_ns = r->time_ns,
                                 .what = sim_record_str(r, 0),
                                 .error = sim_record_str(r, 1),
                                 .node = sim_record_name(r, 2)->str,
                                 .sector = r->field[3],
                                 .sectors = r->field[4]};
}

static int setup(void **state)
{
    failures = bads = 0;
    probe_setup(state);
    sim_subscribe(world, EV_QUORUM_FAILURE, on_failure, NULL);
    sim_subscribe(world, EV_QUORUM_REPORT_BAD, on_bad, NULL);
    return 0;
}

static void assert_bad(unsigned n, const char *what, const char *node, const char *error, uint64_t sector,
                       uint64_t sectors)
{
    assert_true(n < bads);
    assert_string_equal(bad[n].what, what);
    assert_string_equal(bad[n].node, node);
    assert_int_equal(bad[n].error != NULL, error != NULL);
    if (error) {
        assert_string_equal(bad[n].error, error);
    }
    assert_int_equal(bad[n].sector, sector);
    assert_int_equal(bad[n].sectors, sectors);
}

static void pass_time(int64_t ns)
{
    sim_run_idle(world, NULL, NULL, sim_now(world) + ns);
}

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

static int64_t mismatch_at;

static void on_mismatch(void *opaque, const struct sim_record *r)
{
    mismatch_at = (int64_t)r->field[4];
}

/* In blkverify mode a difference is no vote but a find. */
static void test_blkverify_mismatch(void **state)
{
    make_quorum(2, "'vote-threshold':2,'blkverify':true");
    sim_subscribe(world, EV_blkverify_mismatch, on_mismatch, NULL);
    mismatch_at = -1;
    assert_int_equal(read_byte(0, 4096, 0), 0x11);
    assert_int_equal(mismatch_at, -1);
    corrupt(child[1], 777, 1, 0x12);
    read_byte(512, 4096, -EIO);
    assert_int_equal(mismatch_at, 777);
    assert_int_equal(failures, 0);
    free_quorum();
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

/* --- reads -------------------------------------------------------------------------------------------------- */

/* fact: block 7.3/read-failures */
static void test_read_failures(void **state)
{
    make_quorum(3, "'vote-threshold':2");
    probe_fail(child[0], R, -1, -EIO, 1);
    assert_int_equal(read_byte(0, 512, 0), 0x11);
    assert_int_equal(failures, 0);
    probe_fail(child[0], R, -1, -ENOMEDIUM, 1);
    probe_fail(child[1], R, -1, -EIO, 1);
    probe_fail(child[2], R, -1, -ENOMEDIUM, 1);
    read_byte(512, 512, -ENOMEDIUM);
    assert_int_equal(failures, 1);
    assert_int_equal(failure[0].sector, 1);
    assert_int_equal(failure[0].sectors, 1);
    free_quorum();
}

/* Threshold successes that all agree are enough; nobody is called bad for having failed beside them but by its
 * error. fact: block 7.3/read-failures */
static void test_read_agree(void **state)
{
    make_quorum(5, "'vote-threshold':3");
    probe_fail(child[0], R, -1, -EIO, 1);
    probe_fail(child[4], R, -1, -EIO, 1);
    assert_int_equal(read_byte(0, 512, 0), 0x11);
    assert_int_equal(bads, 2);
    assert_int_equal(failures, 0);
    free_quorum();
}

/* fact: block 7.3/vote */
static void test_vote(void **state)
{
    make_quorum(3, "'vote-threshold':2");
    corrupt(child[0], 1024, 1, 0xee);
    assert_int_equal(read_byte(1024, 512, 0), 0x11);
    assert_int_equal(bads, 1);
    assert_bad(0, "read", "a", NULL, 2, 1);
    assert_content(child[0], 1024, 1, 0xee); /* nobody asked to rewrite it */
    corrupt(child[1], 1024, 1, 0xdd);
    read_byte(1024, 512, -EIO);
    assert_int_equal(failures, 1);
    free_quorum();
}

/* More votes than any other version, but fewer than the threshold. fact: block 7.3/vote */
static void test_vote_below_threshold(void **state)
{
    make_quorum(5, "'vote-threshold':4");
    corrupt(child[3], 0, 1, 0xee);
    assert_int_equal(read_byte(0, 512, 0), 0x11);
    corrupt(child[4], 0, 1, 0xdd);
    read_byte(0, 512, -EIO);
    free_quorum();
}

/* What is compared is content, not how it came about: bytes equal to a stamp are the stamp. fact: block 7.3/vote */
static void test_vote_content(void **state)
{
    make_quorum(2, "'vote-threshold':2");
    uint8_t bytes[512];
    sim_tag_expand(42, bytes);
    memcpy(child[0]->data, bytes, 512);
    memcpy(child[1]->data, bytes, 512);
    assert_int_equal(read_byte(0, 512, 0), bytes[0]);
    assert_int_equal(bads, 0);
    free_quorum();
}

/* fact: block 7.3/rewrite */
static void test_rewrite(void **state)
{
    make_quorum(3, "'vote-threshold':2,'rewrite-corrupted':true");
    corrupt(child[2], 4096, 600, 0xee);
    assert_int_equal(read_byte(4096, 512, 0), 0x11);
    assert_bad(0, "read", "c", NULL, 8, 1);
    assert_content(child[2], 4096, 512, 0x11);
    assert_content(child[2], 4608, 88, 0xee); /* only what was read */
    assert_int_equal(probe_calls(child[0], W) + probe_calls(child[1], W), 0);
    corrupt(child[0], 0, 1, 0xee);
    probe_fail(child[0], W, -1, -EIO, 1);
    assert_int_equal(read_byte(0, 512, 0), 0x11); /* failing to is not the reader's concern */
    free_quorum();
}

/* fact: block 7.3/fifo */
static void test_fifo(void **state)
{
    make_quorum(3, "'vote-threshold':3,'read-pattern':'fifo'");
    corrupt(child[0], 0, 512, 0xee);
    assert_int_equal(read_byte(0, 512, 0), 0xee); /* nobody votes */
    assert_int_equal(probe_calls(child[1], R) + probe_calls(child[2], R), 0);
    probe_fail(child[0], R, -1, -EIO, 1);
    assert_int_equal(read_byte(0, 512, 0), 0x11);
    assert_int_equal(probe_calls(child[1], R), 1);
    assert_int_equal(probe_calls(child[2], R), 0);
    assert_bad(0, "read", "a", "Input/output error", 0, 1);
    for (unsigned i = 0; i < 3; i++) {
        probe_fail(child[i], R, -1, i < 2 ? -EIO : -ENOSPC, 1);
    }
    read_byte(0, 512, -ENOSPC); /* the last one's */
    free_quorum();
}

/* --- events ------------------------------------------------------------------------------------------------- */

/* fact: block 7.3/report-bad */
static void test_report_bad(void **state)
{
    make_quorum(3, "'vote-threshold':1");
    probe_fail(child[0], W, -1, -ENOSPC, 1);
    assert_int_equal(do_req(&top, W, 1000, 2000, 0x22, 0), 0);
    assert_bad(0, "write", "a", "No space left on device", 1, 5);
    probe_fail(child[1], R, -1, -EIO, 1);
    read_byte(8192, 1024, 0);
    assert_bad(1, "read", "b", "Input/output error", 16, 2);
    corrupt(child[2], 65536, 1, 0);
    read_byte(65536, 4096, 0);
    assert_bad(2, "read", "c", NULL, 128, 8);
    free_quorum();
}

/* The first at once, then the last of each second, for each node. fact: block 7.3/event-limit */
static void test_limit_bad(void **state)
{
    make_quorum(2, "'vote-threshold':1");
    for (int64_t i = 0; i < 5; i++) {
        probe_fail(child[0], W, -1, -EIO, 1);
        struct req r = {.p = &top, .op = W, .offset = i * 512, .bytes = 512, .fill = 1};
        spawn(&r);
        sim_run_idle(world, NULL, NULL, sim_now(world) + NS_PER_MS);
        assert_true(r.done);
    }
    assert_int_equal(bads, 1);
    assert_int_equal(bad[0].sector, 0);
    probe_fail(child[1], W, -1, -EIO, 1);
    struct req other = {.p = &top, .op = W, .offset = 8192, .bytes = 512, .fill = 1};
    spawn(&other);
    sim_run_idle(world, NULL, NULL, sim_now(world) + NS_PER_MS);
    assert_bad(1, "write", "b", "Input/output error", 16, 1); /* another node, a limit of its own */
    settle();                                                 /* an event that waits is work */
    assert_int_equal(bads, 3);
    assert_bad(2, "write", "a", "Input/output error", 4, 1);
    assert_int_equal(bad[2].time_ns - bad[0].time_ns, NS_PER_S);
    pass_time(2 * NS_PER_S);
    probe_fail(child[0], W, -1, -EIO, 1);
    assert_int_equal(do_req(&top, W, 0, 512, 1, 0), 0);
    assert_int_equal(bads, 4);
    free_quorum();
}

/* fact: block 7.3/event-limit */
static void test_limit_failure(void **state)
{
    make_quorum(1, "'vote-threshold':1");
    for (int64_t i = 0; i < 3; i++) {
        probe_fail(child[0], W, -1, -EIO, 1);
        struct req r = {.p = &top, .op = W, .offset = i * 512, .bytes = 512, .fill = 1};
        spawn(&r);
        sim_run_idle(world, NULL, NULL, sim_now(world) + NS_PER_MS);
    }
    assert_int_equal(failures, 1);
    free_quorum(); /* before the second is over: nothing is left behind, and nothing is lost */
    probe_main(drop_graph, NULL);
    assert_int_equal(failures, 2);
    assert_int_equal(failure[1].sector, 2);
    assert_int_equal(bads, 2);
    probe_main(make_graph, NULL);
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

/* --- the content as checkers see it ------------------------------------------------------------------------- */

/* Media keep their pages: the world is not empty at the end. */
static int teardown_media(void **state)
{
    probe_main(drop_graph, NULL);
    sim_delete(world);
    return 0;
}

/* Sector by sector what a vote would give, though no single child is right everywhere. */
static void test_peek(void **state)
{
    struct disk_config config;
    disk_config_default(&config);
    config.size_bytes = MiB;
    for (unsigned i = 0; i < 3; i++) {
        SIM_ASSERT(disk_new(world, (const char *[]){"d0", "d1", "d2"}[i], &config, NULL) != NULL);
    }
    child_count = 0;
    probe_main(add_top, TEXT("{'driver':'quorum','node-name':'q','vote-threshold':2,'children':["
                             "{'driver':'disk','disk':'d0'},{'driver':'disk','disk':'d1'},"
                             "{'driver':'disk','disk':'d2'}]}"));
    assert_int_equal(do_req(&top, W, 0, 4096, 0x22, 0), 0);
    struct payload p, junk;
    payload_init(world, &p);
    payload_init(world, &junk);
    assert_int_equal(bdrv_peek(top.bs, 0, 8192, &p), 0);
    assert_int_equal(p.size_bytes, 8192);
    int64_t pnum;
    assert_true(bdrv_peek_status(top.bs, 0, MiB, &pnum));
    assert_false(bdrv_peek_status(top.bs, pnum, MiB - pnum, &pnum));
    payload_append_fill(&junk, 0xee, 512);
    disk_poke(disk_find(world, "d0"), 0, &junk);
    disk_poke(disk_find(world, "d1"), 512, &junk);
    struct payload q;
    payload_init(world, &q);
    assert_int_equal(bdrv_peek(top.bs, 0, 8192, &q), 0);
    assert_true(payload_equal(&p, 0, &q, 0, 8192));
    payload_clear(&q);
    payload_clear(&junk);
    payload_append_fill(&junk, 0xdd, 512);
    disk_poke(disk_find(world, "d2"), 0, &junk);
    assert_int_equal(bdrv_peek(top.bs, 0, 8192, &q), -EIO);
    assert_int_equal(q.size_bytes, 0);
    payload_clear(&p);
    payload_clear(&q);
    payload_clear(&junk);
    free_quorum();
}

#define T_QUORUM(path, fn) T_SETUP(path, fn, setup, probe_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_QUORUM("/quorum/options/threshold", test_threshold_range),
        T_QUORUM("/quorum/options/blkverify", test_blkverify_options),
        T_QUORUM("/quorum/blkverify/mismatch", test_blkverify_mismatch),
        T_QUORUM("/quorum/write/threshold", test_writes),
        T_QUORUM("/quorum/write/failure", test_write_failure),
        T_QUORUM("/quorum/write/order", test_write_order),
        T_QUORUM("/quorum/write/read-beside", test_read_beside_write),
        T_QUORUM("/quorum/flush", test_flush),
        T_QUORUM("/quorum/discard", test_discard),
        T_QUORUM("/quorum/read/failures", test_read_failures),
        T_QUORUM("/quorum/read/agree", test_read_agree),
        T_QUORUM("/quorum/vote/winner", test_vote),
        T_QUORUM("/quorum/vote/below-threshold", test_vote_below_threshold),
        T_QUORUM("/quorum/vote/content", test_vote_content),
        T_QUORUM("/quorum/vote/rewrite", test_rewrite),
        T_QUORUM("/quorum/fifo", test_fifo),
        T_QUORUM("/quorum/event/report-bad", test_report_bad),
        T_QUORUM("/quorum/event/limit/report-bad", test_limit_bad),
        T_QUORUM("/quorum/event/limit/failure", test_limit_failure),
        T_QUORUM("/quorum/status", test_status),
        T_QUORUM("/quorum/length/unequal", test_lengths),
        T_QUORUM("/quorum/length/short-child", test_short_child),
        T_QUORUM("/quorum/perm", test_perms),
        T_QUORUM("/quorum/change", test_change),
        T_QUORUM("/quorum/change/blkverify", test_change_blkverify),
        T_SETUP("/quorum/peek", test_peek, setup, teardown_media),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
