/* Protects: breakpoints (7.1), and with them the order of read-modify-writes, step by step (2.5, 2.6, 12). */
#include "tests/block/dbgtest.h"

#define BLOCK 4096

static unsigned reads_seen; /* of the disk, since open_blocks */

static void on_disk_submit(void *opaque, const struct sim_record *record)
{
    const struct disk_req *req = record->ref;

    reads_seen += req->op == R;
}

/* Blocks of 4096 bytes under a raw node 'r', each filled with 0xee. */
static BlockBackend *open_blocks(struct world *w)
{
    make_disk(w, "d", MiB);
    BlockBackend *blk = open_blk(w, "{'driver':'raw','node-name':'r','file':{'driver':'blkdebug','node-name':'n',"
                                    "'align':4096,'image':" DISK("d") "}}");
    struct io io = {.w = w, .blk = blk, .op = W, .bytes = 16 * BLOCK, .fill = 0xee};

    io_start(&io);
    assert_int_equal(io_finish(&io), 0);
    reads_seen = 0;
    sim_subscribe(w->sim, EV_disk_submit, on_disk_submit, NULL);
    return blk;
}

static void set_break(BlockBackend *blk, const char *event, const char *tag)
{
    assert_int_equal(bdrv_debug_breakpoint(blk_bs(blk), event, tag), 0);
}

struct hit {
    BlockDriverState *bs;
    const char *tag;
};

static bool is_hit(void *opaque)
{
    const struct hit *hit = opaque;

    return bdrv_debug_is_suspended(hit->bs, hit->tag);
}

static void wait_break(BlockBackend *blk, struct world *w, const char *tag)
{
    struct hit hit = {blk_bs(blk), tag};

    host_poll(w->host, is_hit, &hit);
}

static void resume(BlockBackend *blk, const char *tag)
{
    assert_int_equal(bdrv_debug_resume(blk_bs(blk), tag), 0);
}

/* Long enough for whatever can end to end. */
static void settle(struct world *w)
{
    let_run(w, NS_PER_S);
}

static struct io write_io(struct world *w, BlockBackend *blk, int64_t offset, int64_t bytes, uint8_t fill,
                          unsigned *order)
{
    return (struct io){.w = w, .blk = blk, .op = W, .offset = offset, .bytes = bytes, .fill = fill, .order = order};
}

/* --- breakpoints ---------------------------------------------------------------------------------------------- */

/* The next request that raises the event stops, once; the one after it does not. */
/* fact: block 7.1/break */
WORLD_TEST(test_one_shot)
{
    BlockBackend *blk = open_blocks(w);
    struct io first = write_io(w, blk, 0, BLOCK, 1, NULL);
    struct io second = write_io(w, blk, BLOCK, BLOCK, 2, NULL);

    set_break(blk, "pwritev", "A");
    assert_false(bdrv_debug_is_suspended(blk_bs(blk), "A"));
    io_start(&first);
    wait_break(blk, w, "A");
    assert_false(bdrv_debug_is_suspended(blk_bs(blk), "B"));
    assert_int_equal(bdrv_debug_resume(blk_bs(blk), "B"), -ENOENT);
    io_start(&second);
    assert_int_equal(io_finish(&second), 0);
    settle(w);
    assert_false(first.done);
    assert_true(reads(blk, w, 0, BLOCK, 0xee)); /* stopped before its driver was asked */
    resume(blk, "A");
    assert_false(bdrv_debug_is_suspended(blk_bs(blk), "A"));
    assert_int_equal(bdrv_debug_resume(blk_bs(blk), "A"), -ENOENT);
    assert_int_equal(io_finish(&first), 0);
    assert_true(reads(blk, w, 0, BLOCK, 1));
    close_blk(w, blk);
}

/* resume wakes the one that stopped last. */
/* fact: block 7.1/resume */
WORLD_TEST(test_resume_newest)
{
    BlockBackend *blk = open_blocks(w);
    unsigned order = 0;
    struct io io[3];

    for (unsigned i = 0; i < 3; i++) {
        io[i] = write_io(w, blk, i * BLOCK, BLOCK, 1, &order);
        set_break(blk, "pwritev", "A");
        io_start(&io[i]);
        settle(w);
    }
    for (unsigned i = 0; i < 3; i++) {
        resume(blk, "A");
        settle(w);
    }
    assert_int_equal(io[2].position, 1);
    assert_int_equal(io[1].position, 2);
    assert_int_equal(io[0].position, 3);
    close_blk(w, blk);
}

/* remove_break takes back what was not hit, and wakes all of its tag. */
/* fact: block 7.1/remove-break */
WORLD_TEST(test_remove)
{
    BlockBackend *blk = open_blocks(w);
    struct io a = write_io(w, blk, 0, BLOCK, 1, NULL);
    struct io b = write_io(w, blk, BLOCK, BLOCK, 2, NULL);
    struct io c = write_io(w, blk, 2 * BLOCK, BLOCK, 3, NULL);

    assert_int_equal(bdrv_debug_remove_breakpoint(blk_bs(blk), "A"), -ENOENT);
    set_break(blk, "pwritev", "A");
    io_start(&a);
    settle(w);
    set_break(blk, "pwritev", "A");
    io_start(&b);
    settle(w);
    set_break(blk, "pwritev", "B");
    io_start(&c);
    settle(w);
    set_break(blk, "pwritev", "A");
    assert_false(a.done || b.done || c.done);
    assert_int_equal(bdrv_debug_remove_breakpoint(blk_bs(blk), "A"), 0);
    assert_int_equal(io_finish(&a), 0);
    assert_int_equal(io_finish(&b), 0);
    settle(w);
    assert_false(c.done);
    assert_int_equal(do_io(blk, w, W, 0, BLOCK), 0); /* the third A is gone */
    resume(blk, "B");
    assert_int_equal(io_finish(&c), 0);
    close_blk(w, blk);
}

/* Two breakpoints on one event both take the same request: it goes on when both let it. */
WORLD_TEST(test_two_at_once)
{
    BlockBackend *blk = open_blocks(w);
    struct io io = write_io(w, blk, 0, BLOCK, 1, NULL);

    set_break(blk, "pwritev", "A");
    set_break(blk, "pwritev", "B");
    io_start(&io);
    wait_break(blk, w, "B");
    assert_true(bdrv_debug_is_suspended(blk_bs(blk), "A"));
    resume(blk, "A");
    settle(w);
    assert_false(io.done);
    resume(blk, "B");
    assert_int_equal(io_finish(&io), 0);
    close_blk(w, blk);
}

/* Errors that the event arms are armed when the request that raised it stops there. */
WORLD_TEST(test_break_and_inject)
{
    make_disk(w, "d", MiB);
    BlockBackend *blk = open_blk(w, "{'driver':'blkdebug','node-name':'n','image':" DISK(
                                        "d") ",'inject-error':["
                                             "{'event':'pwritev','errno':28,'once':true}]}");
    struct io io = write_io(w, blk, 0, BLOCK, 1, NULL);

    set_break(blk, "pwritev", "A");
    io_start(&io);
    wait_break(blk, w, "A");
    assert_int_equal(do_io(blk, w, R, 0, 512), -28);
    resume(blk, "A");
    assert_int_equal(io_finish(&io), 0); /* the rule was used up meanwhile */
    close_blk(w, blk);
}

/* Down primary children to the first blkdebug, and no further. */
/* fact: block 7.1/descend */
WORLD_TEST(test_descends)
{
    Error *err = NULL;

    make_disk(w, "d", MiB);
    BlockBackend *blk = open_blk(
        w, "{'driver':'raw','node-name':'r','file':{'driver':'raw','file':{'driver':'blkdebug',"
           "'node-name':'upper','image':{'driver':'blkdebug','node-name':'lower','image':" DISK("d") "}}}}");
    BlockDriverState *upper = bdrv_find_node(w->host, "upper");
    BlockDriverState *lower = bdrv_find_node(w->host, "lower");
    struct io io = write_io(w, blk, 0, BLOCK, 1, NULL);

    set_break(blk, "write_aio", "A");
    assert_int_equal(bdrv_debug_breakpoint(blk_bs(blk), "write", "A"), -ENOENT);
    io_start(&io);
    wait_break(blk, w, "A");
    assert_true(bdrv_debug_is_suspended(upper, "A"));
    assert_false(bdrv_debug_is_suspended(lower, "A"));
    assert_int_equal(bdrv_debug_resume(lower, "A"), -ENOENT);
    resume(blk, "A");
    assert_int_equal(io_finish(&io), 0);
    close_blk(w, blk);

    BlockDriverState *plain = add(w, "{'driver':'raw','node-name':'p','file':" DISK("d") "}");
    assert_int_equal(bdrv_debug_breakpoint(plain, "pwritev", "A"), -ENOTSUP);
    assert_int_equal(bdrv_debug_remove_breakpoint(plain, "A"), -ENOTSUP);
    assert_int_equal(bdrv_debug_resume(plain, "A"), -ENOTSUP);
    assert_false(bdrv_debug_is_suspended(plain, "A"));
    del(w, "p");
    error_free(err);
}

/* Whoever ends a world can let everybody go, on every node. */
WORLD_TEST(test_release_all)
{
    BlockBackend *blk = open_blocks(w);
    struct io a = write_io(w, blk, 0, BLOCK, 1, NULL);
    struct io b = {.w = w, .blk = blk, .op = F};

    set_break(blk, "flush_to_disk", "B");
    assert_false(bdrv_debug_any_suspended(w->host));
    io_start(&b);
    settle(w);
    set_break(blk, "pwritev", "A");
    set_break(blk, "pwritev_done", "A");
    set_break(blk, "pwritev_zero", "A");
    io_start(&a);
    settle(w);
    assert_true(bdrv_debug_any_suspended(w->host));
    bdrv_debug_release_all(w->host);
    assert_false(bdrv_debug_any_suspended(w->host));
    assert_int_equal(io_finish(&a), 0);
    assert_int_equal(io_finish(&b), 0);
    close_blk(w, blk);
}

struct drain {
    struct io *io;
    BlockBackend *blk;
    bool begun;
    bool was_early;
};

static void resume_later(void *opaque)
{
    struct drain *drain = opaque;

    co_sleep_ns(drain->io->w->sim, NS_PER_S);
    drain->was_early = drain->begun;
    bdrv_debug_resume(blk_bs(drain->blk), "A");
}

/* A drain waits for a request that stands at a breakpoint. */
WORLD_TEST(test_drain_waits)
{
    BlockBackend *blk = open_blocks(w);
    struct io io = write_io(w, blk, 0, BLOCK, 1, NULL);
    struct drain drain = {.io = &io, .blk = blk};

    set_break(blk, "pwritev_done", "A");
    io_start(&io);
    wait_break(blk, w, "A");
    coroutine_start(coroutine_create(w->sim, w->host, "resume later", resume_later, &drain));
    bdrv_drained_begin(blk_bs(blk));
    drain.begun = true;
    assert_true(io.done);
    assert_false(drain.was_early);
    bdrv_drained_end(blk_bs(blk));
    close_blk(w, blk);
}

/* --- events of the request path --------------------------------------------------------------------------------
 */

static void expect_stops(struct world *w, BlockBackend *blk, int64_t offset, int64_t bytes,
                         const char *const *events)
{
    struct io io = write_io(w, blk, offset, bytes, 1, NULL);

    for (unsigned i = 0; events[i]; i++) {
        set_break(blk, events[i], events[i]);
    }
    io_start(&io);
    for (unsigned i = 0; events[i]; i++) {
        wait_break(blk, w, events[i]);
        settle(w);
        for (unsigned j = i + 1; events[j]; j++) {
            assert_false(bdrv_debug_is_suspended(blk_bs(blk), events[j]));
        }
        assert_false(io.done);
        resume(blk, events[i]);
    }
    assert_int_equal(io_finish(&io), 0);
}

#define HEAD "pwritev_rmw_head"
#define AFTER_HEAD "pwritev_rmw_after_head"
#define TAIL "pwritev_rmw_tail"
#define AFTER_TAIL "pwritev_rmw_after_tail"

/* One read serves a single block and two blocks with both edges; otherwise each edge has its own. */
/* fact: block 2.6/events, 2.6/merged */
WORLD_TEST(test_rmw_events)
{
    BlockBackend *blk = open_blocks(w);
    unsigned before = reads_seen;

    expect_stops(w, blk, 512, 512,
                 (const char *const[]){HEAD, TAIL, AFTER_HEAD, AFTER_TAIL, "pwritev", "pwritev_done", NULL});
    assert_int_equal(reads_seen, before + 1);
    expect_stops(w, blk, 512, BLOCK, (const char *const[]){HEAD, TAIL, AFTER_HEAD, AFTER_TAIL, "pwritev", NULL});
    assert_int_equal(reads_seen, before + 2);
    expect_stops(w, blk, 512, 2 * BLOCK,
                 (const char *const[]){HEAD, AFTER_HEAD, TAIL, AFTER_TAIL, "pwritev", NULL});
    assert_int_equal(reads_seen, before + 4);
    expect_stops(w, blk, 0, BLOCK + 512, (const char *const[]){TAIL, AFTER_TAIL, "pwritev", NULL});
    assert_int_equal(reads_seen, before + 5);
    expect_stops(w, blk, 512, BLOCK - 512, (const char *const[]){HEAD, AFTER_HEAD, "pwritev", NULL});
    expect_stops(w, blk, 0, BLOCK, (const char *const[]){"pwritev", "pwritev_done", NULL});
    close_blk(w, blk);
}

/* The read of an edge that fails fails the write, nothing is written, and what stands after the read is not
 * reached. */
/* fact: block 2.6/read-fails, edge/5 */
WORLD_TEST(test_rmw_read_fails)
{
    static const struct {
        int64_t offset, bytes;
    } shapes[] = {{512, 512}, {512, 3 * BLOCK}, {0, BLOCK + 512}, {512, BLOCK - 512}};

    make_disk(w, "d", MiB);
    BlockBackend *blk = open_blk(w, "{'driver':'raw','node-name':'r','file':{'driver':'blkdebug','align':4096,"
                                    "'image':" DISK("d") ",'inject-error':["
                                                         "{'event':'write_aio','iotype':'read','errno':61}]}}");
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        set_break(blk, "pwritev", "A");
        assert_int_equal(do_io(blk, w, W, shapes[i].offset, shapes[i].bytes), -61);
        assert_int_equal(bdrv_debug_remove_breakpoint(blk_bs(blk), "A"), 0);
    }
    struct payload seen;
    payload_init(w->sim, &seen);
    disk_peek(disk_find(w->sim, "d"), 0, 4 * BLOCK, &seen);
    assert_true(payload_is_zero(&seen, 0, 4 * BLOCK));
    payload_clear(&seen);
    close_blk(w, blk);
}

static int bare_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                       int64_t *map, BlockDriverState **file)
{
    *pnum = bytes;
    return 0;
}

/* An image that holds nothing yet. */
static const BlockDriver bare_format = {
    .format_name = "bare", .supports_backing = true, TEST_DRIVER_HOOKS, .bdrv_co_block_status = bare_status};

/* fact: block 4.3/event, 7.1/write-events */
WORLD_TEST(test_cor_write)
{
    BlockDriverState *image = new_node(w, &bare_format, "image");
    BlockBackend *blk = open_blk(w, "{'driver':'blkdebug','node-name':'n','image':'image'}");
    struct io io = {.w = w, .blk = blk, .op = R, .bytes = BLOCK};

    bdrv_enable_copy_on_read(blk_bs(blk));
    set_break(blk, "cor_write", "A");
    io_start(&io);
    wait_break(blk, w, "A");
    settle(w);
    assert_int_equal(tn(image)->reads, 1);
    assert_int_equal(tn(image)->writes, 0);
    resume(blk, "A");
    assert_int_equal(io_finish(&io), 0);
    assert_int_equal(tn(image)->writes, 1);
    bdrv_disable_copy_on_read(blk_bs(blk));
    close_blk(w, blk);
    bdrv_unref(image);
}

/* --- the vectors of section 12 ----------------------------------------------------------------------------------
 */

/* (a): W2 to another sector of the block does not start its read until W1, suspended, is through; both survive. */
static void vector_a(struct world *w, const char *event)
{
    BlockBackend *blk = open_blocks(w);
    struct io w1 = write_io(w, blk, BLOCK + 512, 512, 0x11, NULL);
    struct io w2 = write_io(w, blk, BLOCK + 1024, 512, 0x22, NULL);

    set_break(blk, event, "A");
    io_start(&w1);
    wait_break(blk, w, "A");
    unsigned before = reads_seen;
    set_break(blk, HEAD, "B");
    io_start(&w2);
    settle(w);
    assert_false(w1.done || w2.done);
    assert_int_equal(reads_seen, before);
    assert_false(bdrv_debug_is_suspended(blk_bs(blk), "B"));
    resume(blk, "A");
    wait_break(blk, w, "B");
    assert_true(w1.done); /* not before it was complete */
    resume(blk, "B");
    assert_int_equal(io_finish(&w2), 0);
    assert_int_equal(w1.ret, 0);
    assert_true(reads(blk, w, BLOCK, 512, 0xee));
    assert_true(reads(blk, w, BLOCK + 512, 512, 0x11));
    assert_true(reads(blk, w, BLOCK + 1024, 512, 0x22));
    close_blk(w, blk);
}

/* fact: block 12/rmw-same-block, 2.5/serialising */
WORLD_TEST(test_vector_a_head)
{
    vector_a(w, HEAD);
}

/* fact: block 12/rmw-same-block */
WORLD_TEST(test_vector_a_after_head)
{
    vector_a(w, AFTER_HEAD);
}

/* (b): W1 stops after its tail was read, seven more queue behind it; after resume all eight land. */
/* fact: block 12/rmw-queue, edge/9, 2.5/rescan */
WORLD_TEST(test_vector_b)
{
    BlockBackend *blk = open_blocks(w);
    struct io io[8];

    set_break(blk, AFTER_TAIL, "A");
    for (unsigned i = 0; i < 8; i++) {
        io[i] = write_io(w, blk, 6 * BLOCK + i * 512, 512, (uint8_t)(i + 1), NULL);
        io_start(&io[i]);
        if (i == 0) {
            wait_break(blk, w, "A");
        }
    }
    settle(w);
    for (unsigned i = 0; i < 8; i++) {
        assert_false(io[i].done);
    }
    resume(blk, "A");
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(io_finish(&io[i]), 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        assert_true(reads(blk, w, 6 * BLOCK + i * 512, 512, (uint8_t)(i + 1)));
    }
    close_blk(w, blk);
}

/* (c): C over both blocks completes only after A and B, whatever the order of resume and of issue. */
static void vector_c(struct world *w, bool a_first, bool c_before_b)
{
    BlockBackend *blk = open_blocks(w);
    unsigned order = 0;
    struct io a = write_io(w, blk, 6 * BLOCK + 512, 512, 0x0a, &order);
    struct io b = write_io(w, blk, 7 * BLOCK + 512, 512, 0x0b, &order);
    struct io c = write_io(w, blk, 6 * BLOCK + 1024, BLOCK, 0x0c, &order);

    set_break(blk, AFTER_TAIL, "A");
    io_start(&a);
    wait_break(blk, w, "A");
    if (c_before_b) {
        io_start(&c);
        settle(w);
    }
    set_break(blk, AFTER_TAIL, "B");
    io_start(&b);
    wait_break(blk, w, "B");
    if (!c_before_b) {
        io_start(&c);
        settle(w);
    }
    assert_false(a.done || b.done || c.done);
    resume(blk, a_first ? "A" : "B");
    settle(w);
    assert_false(c.done);
    assert_true(a_first ? a.done : b.done);
    resume(blk, a_first ? "B" : "A");
    assert_int_equal(io_finish(&c), 0);
    assert_int_equal(c.position, 3);
    assert_true(reads(blk, w, 6 * BLOCK + 512, 512, 0x0a));
    assert_true(reads(blk, w, 6 * BLOCK + 1024, BLOCK, 0x0c)); /* over what B wrote: it is the later one */
    assert_true(reads(blk, w, 7 * BLOCK + 1024, 512, 0xee));
    close_blk(w, blk);
}

/* fact: block 12/rmw-spanning */
WORLD_TEST(test_vector_c_a_first)
{
    vector_c(w, true, false);
}

/* fact: block 12/rmw-spanning */
WORLD_TEST(test_vector_c_b_first)
{
    vector_c(w, false, false);
}

/* Were B to wait for C, which waits for A, resuming A alone could not be enough for B: it need not. */
/* fact: block 12/rmw-spanning, edge/8, 2.5/newest-first */
WORLD_TEST(test_vector_c_early)
{
    vector_c(w, true, true);
}

/* fact: block 12/rmw-spanning, edge/8 */
WORLD_TEST(test_vector_c_early_b_first)
{
    vector_c(w, false, true);
}

/* (d): a write of a whole block is no read-modify-write, and yet waits for one that overlaps; and vice versa. */
/* fact: block 12/rmw-aligned */
WORLD_TEST(test_vector_d)
{
    BlockBackend *blk = open_blocks(w);
    unsigned order = 0;
    struct io rmw = write_io(w, blk, 512, 512, 0x11, &order);
    struct io whole = write_io(w, blk, 0, BLOCK, 0x22, &order);

    set_break(blk, AFTER_HEAD, "A");
    io_start(&rmw);
    wait_break(blk, w, "A");
    unsigned before = reads_seen;
    io_start(&whole);
    settle(w);
    assert_false(whole.done);
    resume(blk, "A");
    assert_int_equal(io_finish(&whole), 0);
    assert_int_equal(rmw.position, 1);
    assert_int_equal(reads_seen, before);
    assert_true(reads(blk, w, 0, BLOCK, 0x22));

    rmw.done = whole.done = false;
    set_break(blk, "pwritev", "A");
    io_start(&whole);
    wait_break(blk, w, "A");
    before = reads_seen;
    io_start(&rmw);
    settle(w);
    assert_false(rmw.done);
    assert_int_equal(reads_seen, before);
    resume(blk, "A");
    assert_int_equal(io_finish(&rmw), 0);
    assert_int_equal(whole.position, 3);
    assert_true(reads(blk, w, 512, 512, 0x11));
    assert_true(reads(blk, w, 1024, BLOCK - 1024, 0x22));
    close_blk(w, blk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/blkdebug/break/one-shot", test_one_shot),
        T("/blkdebug/break/resume-newest", test_resume_newest),
        T("/blkdebug/break/remove", test_remove),
        T("/blkdebug/break/two-at-once", test_two_at_once),
        T("/blkdebug/break/and-inject", test_break_and_inject),
        T("/blkdebug/break/descends", test_descends),
        T("/blkdebug/break/release-all", test_release_all),
        T("/blkdebug/break/drain-waits", test_drain_waits),
        T("/blkdebug/events/rmw", test_rmw_events),
        T("/blkdebug/events/cor-write", test_cor_write),
        T("/blkdebug/rmw/read-fails", test_rmw_read_fails),
        T("/blkdebug/rmw/vector-a/head", test_vector_a_head),
        T("/blkdebug/rmw/vector-a/after-head", test_vector_a_after_head),
        T("/blkdebug/rmw/vector-b", test_vector_b),
        T("/blkdebug/rmw/vector-c/a-first", test_vector_c_a_first),
        T("/blkdebug/rmw/vector-c/b-first", test_vector_c_b_first),
        T("/blkdebug/rmw/vector-c/early", test_vector_c_early),
        T("/blkdebug/rmw/vector-c/early-b-first", test_vector_c_early_b_first),
        T("/blkdebug/rmw/vector-d", test_vector_d),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
