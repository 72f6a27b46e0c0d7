/* Protects: blkverify gives every read and write to both images, and says so loudly where they differ (7.2). */
#include "tests/block/dbgtest.h"

#define BOTH "{'driver':'blkverify','node-name':'v','raw':" DISK("a") ",'test':" DISK("b") "}"

struct seen {
    unsigned mismatches;
    enum sim_op op;
    int64_t at, raw_ret, test_ret;
    unsigned flushes_a, flushes_b, writes;
};

static void on_mismatch(void *opaque, const struct sim_record *r)
{
    struct seen *seen = opaque;

    seen->mismatches++;
    seen->op = (enum sim_op)r->field[1];
    seen->at = (int64_t)r->field[4];
    seen->raw_ret = (int64_t)r->field[5];
    seen->test_ret = (int64_t)r->field[6];
}

static void on_submit(void *opaque, const struct sim_record *r)
{
    struct seen *seen = opaque;
    const struct disk_req *req = r->ref;
    bool is_a = strcmp(sim_record_name(r, 0)->str, "a") == 0;

    seen->flushes_a += req->op == F && is_a;
    seen->flushes_b += req->op == F && !is_a;
    seen->writes += req->op == W;
}

static BlockBackend *open_both(struct world *w, const char *options, struct seen *seen)
{
    make_disk(w, "a", MiB);
    make_disk(w, "b", MiB);
    BlockBackend *blk = open_blk(w, options);
    sim_subscribe(w->sim, EV_blkverify_mismatch, on_mismatch, seen);
    sim_subscribe(w->sim, EV_disk_submit, on_submit, seen);
    return blk;
}

/* Puts a byte into the medium beside the node. */
static void spoil(struct world *w, const char *disk, int64_t offset, uint8_t byte)
{
    struct payload data;

    payload_init(w->sim, &data);
    payload_append_fill(&data, byte, 512);
    disk_poke(disk_find(w->sim, disk), offset, &data);
    payload_clear(&data);
}

static bool disk_holds(struct world *w, const char *disk, int64_t offset, int64_t bytes, uint8_t byte)
{
    struct payload data;
    uint8_t first;

    payload_init(w->sim, &data);
    disk_peek(disk_find(w->sim, disk), offset, bytes, &data);
    bool same = uniform(w, &data, &first) && first == byte;
    payload_clear(&data);
    return same;
}

/* fact: block 7.2/both */
WORLD_TEST(test_both)
{
    struct seen seen = {0};
    BlockBackend *blk = open_both(w, BOTH, &seen);

    assert_int_equal(do_io(blk, w, W, 512, 8192), 0);
    assert_int_equal(do_io(blk, w, Z, 1024, 512), 0); /* both get it as data */
    assert_int_equal(seen.writes, 4);
    assert_true(disk_holds(w, "a", 512, 512, 0x5a) && disk_holds(w, "b", 512, 512, 0x5a));
    assert_true(disk_holds(w, "a", 1024, 512, 0) && disk_holds(w, "b", 1024, 512, 0));
    assert_true(reads(blk, w, 1536, 4096, 0x5a));
    assert_int_equal(seen.mismatches, 0);
    close_blk(w, blk);
}

/* Data that differs: told with its first byte, and the read fails. */
/* fact: block 7.2/differ */
WORLD_TEST(test_content)
{
    static const char *const disks[] = {"a", "b"};
    struct seen seen = {0};
    BlockBackend *blk = open_both(w, BOTH, &seen);

    for (unsigned i = 0; i < 2; i++) {
        spoil(w, disks[i], 4096, 0x11);
        assert_int_equal(do_io(blk, w, R, 0, 4096), 0);
        assert_int_equal(do_io(blk, w, R, 0, 16384), -EIO);
        assert_int_equal(seen.mismatches, i + 1);
        assert_int_equal(seen.op, R);
        assert_int_equal(seen.at, 4096);
        assert_int_equal(do_io(blk, w, R, 12288, 4096), 0);
        spoil(w, disks[i], 4096, 0);
    }
    close_blk(w, blk);
}

#define DEBUG(disk, more) "{'driver':'blkdebug','image':" DISK(disk) more "}"
#define FAILING(raw, test) \
    "{'driver':'blkverify','node-name':'v','raw':" DEBUG("a", raw) ",'test':" DEBUG("b", test) "}"

/* A result that differs is told; an equal one goes to the caller. */
/* fact: block 7.2/differ */
WORLD_TEST(test_result)
{
    struct seen seen = {0};
    BlockBackend *blk = open_both(w,
                                  FAILING(",'inject-error':[{'event':'none','iotype':'write','errno':28}]",
                                          ",'inject-error':[{'event':'none','iotype':'write','errno':28,"
                                          "'sector':0},{'event':'none','iotype':'read','errno':61,'sector':16},"
                                          "{'event':'none','iotype':'write','errno':61,'sector':32}]"),
                                  &seen);

    assert_int_equal(do_io(blk, w, W, 0, 512), -28);
    assert_int_equal(seen.mismatches, 0);
    assert_int_equal(do_io(blk, w, W, 4096, 512), -EIO);
    assert_int_equal(seen.mismatches, 1);
    assert_int_equal(seen.op, W);
    assert_int_equal(seen.at, -1);
    assert_int_equal(seen.raw_ret, -28);
    assert_int_equal(seen.test_ret, 0);
    assert_int_equal(do_io(blk, w, R, 8192, 512), -EIO);
    assert_int_equal(seen.mismatches, 2);
    assert_int_equal(seen.raw_ret, 0);
    assert_int_equal(seen.test_ret, -61);
    assert_int_equal(do_io(blk, w, W, 16384, 512), -EIO); /* both fail, differently */
    assert_int_equal(seen.mismatches, 3);
    close_blk(w, blk);
}

/* fact: block 7.2/test */
WORLD_TEST(test_flush)
{
    struct seen seen = {0};
    BlockBackend *blk =
        open_both(w, FAILING("", ",'inject-error':[{'event':'none','iotype':'flush','once':true}]"), &seen);

    assert_int_equal(do_io(blk, w, W, 0, 512), 0);
    assert_int_equal(do_io(blk, w, F, 0, 0), -EIO);
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    assert_int_equal(seen.flushes_a, 0);
    assert_int_equal(seen.flushes_b, 1); /* at the first: what is below is flushed in any case */
    assert_int_equal(seen.mismatches, 0);
    close_blk(w, blk);
}

/* The length is the test image's. Beyond the end of a shorter raw image zeroes are expected, and no write fits. */
/* fact: block 7.2/test */
WORLD_TEST(test_length)
{
    struct seen seen = {0};
    Error *err = NULL;

    make_disk(w, "c", 64 * KiB);
    BlockBackend *blk =
        open_both(w, "{'driver':'blkverify','node-name':'v','raw':" DISK("c") ",'test':" DISK("b") "}", &seen);
    assert_int_equal(bdrv_getlength_cached(blk_bs(blk)), MiB);
    assert_true(reads(blk, w, 0, MiB, 0));
    int64_t length = MiB * 2;
    assert_int_equal(bdrv_co_truncate(blk_root(blk), length, true, PREALLOC_OFF, 0, &err), -ENOTSUP);
    expect_error(&err, "blkverify does not support resize");
    assert_int_equal(seen.mismatches, 0);
    /* a user without RESIZE cannot make the raw image grow */
    assert_int_equal(blk_set_perm(blk, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL, NULL), 0);
    assert_int_equal(do_io(blk, w, W, 128 * KiB, 512), -EIO);
    assert_int_equal(seen.mismatches, 1);
    assert_int_equal(seen.raw_ret, -EIO);
    close_blk(w, blk);
}

/* Nobody else may write to or resize either image. */
WORLD_TEST(test_perms)
{
    Error *err = NULL;

    make_disk(w, "a", MiB);
    make_disk(w, "b", MiB);
    add(w, "{'driver':'disk','node-name':'a','disk':'a'}");
    add(w, "{'driver':'disk','node-name':'b','disk':'b'}");
    BlockBackend *blk = open_blk(w, "{'driver':'blkverify','node-name':'v','raw':'a','test':'b'}");
    assert_false(qmp_block_resize_node(bdrv_find_node(w->host, "a"), 2 * MiB, &err));
    error_free(err);
    err = NULL;
    assert_false(qmp_block_resize_node(bdrv_find_node(w->host, "b"), 2 * MiB, &err));
    error_free(err);
    close_blk(w, blk);
    del(w, "a");
    del(w, "b");
}

/* Requests that overlap reach both images in one order, however slow one of them is. */
WORLD_TEST(test_overlap)
{
    struct seen seen = {0};
    BlockBackend *blk = open_both(w, FAILING("", ""), &seen);
    BlockDriverState *test = bdrv_find_node(w->host, "v")->children.lh_first->bs;
    struct io first = {.w = w, .blk = blk, .op = W, .bytes = 8192, .fill = 1};
    struct io second = {.w = w, .blk = blk, .op = W, .offset = 4096, .bytes = 8192, .fill = 2};
    struct io look = {.w = w, .blk = blk, .op = R, .offset = 4096, .bytes = 4096};
    struct io apart = {.w = w, .blk = blk, .op = W, .offset = 65536, .bytes = 512, .fill = 4};

    assert_int_equal(bdrv_debug_breakpoint(test, "pwritev", "A"), 0);
    io_start(&first);
    let_run(w, NS_PER_S);
    assert_true(bdrv_debug_is_suspended(test, "A"));
    io_start(&second);
    io_start(&look);
    io_start(&apart);
    let_run(w, NS_PER_S);
    assert_true(apart.done);
    assert_false(first.done || second.done || look.done);
    assert_int_equal(bdrv_debug_resume(test, "A"), 0);
    assert_int_equal(io_finish(&first), 0);
    assert_int_equal(io_finish(&second), 0);
    assert_int_equal(io_finish(&look), 0);
    assert_true(look.uniform);
    assert_true(reads(blk, w, 0, 4096, 1));
    assert_true(reads(blk, w, 4096, 8192, 2));
    assert_int_equal(seen.mismatches, 0);
    close_blk(w, blk);
}

WORLD_TEST(test_bad_options)
{
    static const struct {
        const char *options, *error;
    } bad[] = {
        {"{'driver':'blkverify','node-name':'v','raw':" DISK("a") "}", "Parameter 'test' is missing"},
        {"{'driver':'blkverify','node-name':'v','test':" DISK("a") "}", "Parameter 'raw' is missing"},
        {"{'driver':'blkverify','node-name':'v','raw':" DISK("a") ",'test':null}", "Parameter 'test' is missing"},
        {"{'driver':'blkverify','node-name':'v','raw':" DISK("a") ",'test':" DISK("none") "}",
         "Could not open 'none'"},
        {"{'driver':'blkverify','node-name':'v','raw':'same','test':'same'}", "Conflicts with use by node 'v'"},
        {"{'driver':'blkverify','node-name':'v','raw':" DISK("a") ",'test':'same','x':1}",
         "Parameter 'x' is unexpected"},
    };
    Error *err = NULL;

    make_disk(w, "a", MiB);
    make_disk(w, "b", MiB);
    add(w, "{'driver':'disk','node-name':'same','disk':'b'}");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (try_add(w, bad[i].options, &err)) {
            /* one node as both images harms nobody until somebody writes */
            BlockBackend *blk = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_ALL);
            assert_int_equal(blk_insert_bs(blk, bdrv_find_node(w->host, "v"), &err), -EPERM);
            blk_unref(blk);
            del(w, "v");
        }
        expect_error(&err, bad[i].error);
        assert_int_equal(node_count(w), 1);
    }
    del(w, "same");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/blkverify/both", test_both),
        T("/blkverify/differs/content", test_content),
        T("/blkverify/differs/result", test_result),
        T("/blkverify/flush", test_flush),
        T("/blkverify/length", test_length),
        T("/blkverify/perms", test_perms),
        T("/blkverify/overlap", test_overlap),
        T("/blkverify/options/bad", test_bad_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
