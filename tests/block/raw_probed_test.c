/* Protects a file that was taken for raw because it looked like nothing else (block.md 2.15): no guest makes it
 * look like something. Also what raw passes on, and what null-co takes time for (7.4). */
#include "tests/block/blktest.h"

static BlockDriverState *open_probed(struct world *w, const char *text)
{
    struct qvalue *options = opts(text);
    Error *err = NULL;
    BlockDriverState *bs = bdrv_open(w->host, options, BDRV_O_PROBED, &err);
    qvalue_free(options);
    if (!bs) {
        fail_msg("%s", error_get_pretty(err));
    }
    return bs;
}

static BlockBackend *user_of(struct world *w, BlockDriverState *bs)
{
    BlockBackend *blk = blk_new(w->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, bs, NULL), 0);
    return blk;
}

/* --- requests with bytes ------------------------------------------------------------------------------------ */

struct op {
    struct world *w;
    BlockBackend *blk;
    char what; /* w write, z zero write, f flush, r read, p prefetch, c copy range from offset 1M */
    int64_t offset, bytes;
    const char *head; /* of what is written; the rest is 0x5a */
    size_t head_bytes;
};

static int write_op(const struct op *op)
{
    struct payload p;
    payload_init(op->w->sim, &p);
    payload_append_bytes(&p, op->head, (int64_t)op->head_bytes);
    payload_append_fill(&p, 0x5a, op->bytes - (int64_t)op->head_bytes);
    int ret = blk_co_pwritev(op->blk, op->offset, op->bytes, &p, 0);
    payload_clear(&p);
    return ret;
}

static int read_op(const struct op *op)
{
    struct payload p;
    payload_init(op->w->sim, &p);
    int ret = bdrv_co_preadv(blk_root(op->blk), op->offset, op->bytes, &p, op->what == 'p' ? BDRV_REQ_PREFETCH : 0);
    payload_clear(&p);
    return ret;
}

static int op_entry(void *opaque)
{
    const struct op *op = opaque;
    switch (op->what) {
    case 'w':
        return write_op(op);
    case 'z':
        return blk_co_pwrite_zeroes(op->blk, op->offset, op->bytes, 0);
    case 'f':
        return blk_co_flush(op->blk);
    case 'c':
        return bdrv_co_copy_range(blk_root(op->blk), MiB, blk_root(op->blk), op->offset, op->bytes, 0, 0);
    default:
        return read_op(op);
    }
}

static int do_op(struct op op)
{
    return bdrv_run_co(op.w->host, "op", op_entry, &op);
}

/* --- probed ------------------------------------------------------------------------------------------------- */

static const struct {
    const char *what;
    size_t offset;
    const char *bytes;
    size_t count;
} headers[] = {
    {"qcow2", 0, "QFI\xfb", 4},         {"vmdk", 0, "KDMV", 4},     {"luks", 0, "LUKS\xba\xbe", 6},
    {"vdi", 64, "\x7f\x10\xda\xbe", 4}, {"vhdx", 0, "vhdxfile", 8},
};

/* fact: block 2.15/raw-probed */
WORLD_TEST(test_header_refused)
{
    struct disk *disk = make_disk(w, "d", 2 * MiB);
    BlockDriverState *bs = open_probed(w, "{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'d'}}");
    BlockBackend *blk = user_of(w, bs);
    for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
        char head[128] = {0};
        memcpy(head + headers[i].offset, headers[i].bytes, headers[i].count);
        struct op op = {w, blk, 'w', 0, 4096, head, sizeof(head)};
        assert_int_equal(do_op(op), -EPERM);
        op.bytes = 300; /* a part of the first sector: padded to the whole of it, and looked at */
        assert_int_equal(do_op(op), -EPERM);
        op.offset = 512; /* elsewhere it is what it is: content */
        op.bytes = 4096;
        assert_int_equal(do_op(op), 0);
    }
    struct payload seen;
    payload_init(w->sim, &seen);
    disk_peek(disk, 0, 512, &seen);
    assert_true(payload_is_zero(&seen, 0, 512));
    payload_clear(&seen);
    assert_int_equal(do_op((struct op){w, blk, 'w', 0, 4096, "QFI", 3}), 0);
    assert_int_equal(do_op((struct op){w, blk, 'w', 3, 1, "\xfb", 1}), -EPERM); /* the last byte that is missing */
    assert_int_equal(do_op((struct op){w, blk, 'z', 0, 4096, "", 0}), 0);
    blk_unref(blk);
    bdrv_unref(bs);
}

/* fact: block 2.15/raw-probed */
WORLD_TEST(test_alignment)
{
    make_disk(w, "d", MiB);
    BlockDriverState *bs = open_probed(w, "{'driver':'raw','node-name':'r','file':{'driver':'null-co'}}");
    assert_int_equal(bdrv_request_alignment(bs), 512);
    bdrv_unref(bs);
    bs = add(w, "{'driver':'raw','node-name':'r','file':{'driver':'null-co'}}");
    assert_int_equal(bdrv_request_alignment(bs), 1);
    del(w, "r");
}

/* Whoever says raw gets raw: it is then opened as raw the next time too. fact: block 2.15/raw-probed */
WORLD_TEST(test_told_raw)
{
    make_disk(w, "d", MiB);
    BlockBackend *blk = user_of(w, add(w, "{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'d'}}"));
    assert_int_equal(do_op((struct op){w, blk, 'w', 0, 4096, "QFI\xfb", 4}), 0);
    blk_unref(blk);
    del(w, "r");
}

/* A range copied to the first sector would get past the look at it: it goes the long way.
 * fact: block 2.15/raw-probed */
WORLD_TEST(test_copy_range)
{
    make_disk(w, "d", 2 * MiB);
    BlockDriverState *bs = open_probed(w, "{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'d'}}");
    BlockBackend *blk = user_of(w, bs);
    assert_int_equal(do_op((struct op){w, blk, 'w', MiB, 4096, "QFI\xfb", 4}), 0);
    assert_int_equal(do_op((struct op){w, blk, 'c', 0, 4096, NULL, 0}), -ENOTSUP);
    assert_int_equal(do_op((struct op){w, blk, 'c', 4096, 4096, NULL, 0}), 0);
    blk_unref(blk);
    bdrv_unref(bs);
}

static void test_format_names(void **state)
{
    uint8_t head[512] = {0};
    assert_string_equal(bdrv_probe_format(head, sizeof(head)), "raw");
    assert_string_equal(bdrv_probe_format(NULL, 0), "raw");
    for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
        memset(head, 0, sizeof(head));
        memcpy(head + headers[i].offset, headers[i].bytes, headers[i].count);
        assert_string_equal(bdrv_probe_format(head, sizeof(head)), headers[i].what);
        assert_string_equal(bdrv_probe_format(head, headers[i].offset + headers[i].count - 1),
                            "raw"); /* too short */
    }
}

/* --- what raw passes on ----------------------------------------------------------------------------------------
 */

/* A prefetch reaches what copies on read below, and nothing is read for it where nothing is to be copied. */
WORLD_TEST(test_prefetch)
{
    BlockDriverState *below = new_node(w, &test_protocol, "t");
    BlockDriverState *bs = add(w, "{'driver':'raw','node-name':'r','file':{'driver':'copy-on-read','file':'t'}}");
    BlockBackend *blk = user_of(w, bs);
    assert_int_equal(do_op((struct op){w, blk, 'r', 0, 4096, NULL, 0}), 0);
    assert_int_equal(tn(below)->reads, 1);
    assert_int_equal(do_op((struct op){w, blk, 'p', 0, 4096, NULL, 0}), 0);
    assert_int_equal(tn(below)->reads, 1); /* allocated already */
    blk_unref(blk);
    del(w, "r");
    bdrv_unref(below);
}

/* --- null-co ------------------------------------------------------------------------------------------------ */

/* fact: block 7.4/null */
WORLD_TEST(test_null_latency)
{
    static const char whats[] = "rwzf";
    BlockBackend *blk = user_of(w, add(w, "{'driver':'null-co','node-name':'n','latency-ns':700,'size':4096}"));
    for (size_t i = 0; whats[i]; i++) {
        int64_t from = sim_now(w->sim);
        assert_int_equal(do_op((struct op){w, blk, whats[i], 0, 4096, "", 0}), 0);
        assert_int_equal(sim_now(w->sim) - from, 700);
    }
    blk_unref(blk);
    del(w, "n");
}

/* Nobody asked for latency: nothing takes any time. */
/* fact: block 7.4/null */
WORLD_TEST(test_null_no_latency)
{
    static const char whats[] = "rwzf";
    BlockBackend *blk = user_of(w, add(w, "{'driver':'null-co','node-name':'n'}"));
    for (size_t i = 0; whats[i]; i++) {
        int64_t from = sim_now(w->sim);
        assert_int_equal(do_op((struct op){w, blk, whats[i], 0, 4096, "", 0}), 0);
        assert_int_equal(sim_now(w->sim) - from, 0);
    }
    blk_unref(blk);
    del(w, "n");
}

/* fact: block 7.4/null */
WORLD_TEST(test_null_zeroes)
{
    BlockBackend *blk = user_of(w, add(w, "{'driver':'null-co','node-name':'n','read-zeroes':true}"));
    struct payload seen;
    payload_init(w->sim, &seen);
    assert_int_equal(do_op((struct op){w, blk, 'w', 0, 4096, "", 0}), 0);
    assert_int_equal(sim_now(w->sim), 0);
    assert_int_equal(bdrv_peek(blk_bs(blk), 0, 4096, &seen), 0);
    assert_true(payload_is_zero(&seen, 0, 4096));
    assert_int_equal(blk_getlength(blk), GiB);
    payload_clear(&seen);
    blk_unref(blk);
    del(w, "n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/raw/probed/header-refused", test_header_refused),
        T("/raw/probed/alignment", test_alignment),
        T("/raw/probed/told-raw", test_told_raw),
        T("/raw/probed/copy-range", test_copy_range),
        T("/raw/probed/format-names", test_format_names),
        T("/raw/prefetch", test_prefetch),
        T("/null-co/latency", test_null_latency),
        T("/null-co/no-latency", test_null_no_latency),
        T("/null-co/read-zeroes", test_null_zeroes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
