/* Protects: a raw node shows exactly its window of the file, and the disk driver its medium (2.15, 5). */
#include "tests/block/blktest.h"

static BlockBackend *open_on(struct world *w, const char *options)
{
    BlockBackend *blk = blk_new(w->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL);

    assert_int_equal(blk_insert_bs(blk, add(w, options), NULL), 0);
    return blk;
}

static int write_at(struct world *w, BlockBackend *blk, int64_t offset, int64_t bytes)
{
    struct request r = {.w = w, .blk = blk, .offset = offset, .bytes = bytes, .write = true};

    return run(&r);
}

static bool all_bytes(struct world *w, const struct disk *disk, int64_t offset, int64_t bytes, uint8_t byte)
{
    struct payload seen, wanted;

    payload_init(w->sim, &seen);
    payload_init(w->sim, &wanted);
    disk_peek(disk, offset, bytes, &seen);
    payload_append_fill(&wanted, byte, bytes);
    bool equal = payload_equal(&seen, 0, &wanted, 0, bytes);
    payload_clear(&seen);
    payload_clear(&wanted);
    return equal;
}

/* --- windows ---------------------------------------------------------------------------------------------- */

/* fact: block 2.15/raw-window */
WORLD_TEST(test_window_content)
{
    struct disk *disk = make_disk(w, "d", MiB);
    BlockBackend *blk = open_on(w, "{'driver':'raw','node-name':'r','offset':65536,'size':8192,"
                                   "'file':{'driver':'disk','disk':'d'}}");

    assert_int_equal(blk_getlength(blk), 8192);
    assert_int_equal(write_at(w, blk, 4096, 4096), 0);
    assert_true(all_bytes(w, disk, 65536 + 4096, 4096, 0x5a));
    assert_true(all_bytes(w, disk, 0, 65536 + 4096, 0));
    assert_true(all_bytes(w, disk, 65536 + 8192, 4096, 0));
    struct payload seen;
    payload_init(w->sim, &seen);
    assert_int_equal(bdrv_peek(blk_bs(blk), 4096, 4096, &seen), 0);
    assert_int_equal(seen.size_bytes, 4096);
    assert_false(payload_is_zero(&seen, 0, 4096));
    payload_clear(&seen);
    int64_t pnum;
    assert_false(bdrv_peek_status(blk_bs(blk), 0, 8192, &pnum));
    assert_int_equal(pnum, 4096);
    assert_true(bdrv_peek_status(blk_bs(blk), 4096, 4096, &pnum));
    blk_unref(blk);
    del(w, "r");
}

/* Beyond a fixed size: writes have no space, reads are invalid (2.15).
 * fact: block 2.15/raw-beyond */
WORLD_TEST(test_window_end)
{
    struct disk *disk = make_disk(w, "d", MiB);
    BlockBackend *blk =
        open_on(w, "{'driver':'raw','node-name':'r','size':8192,'file':{'driver':'disk','disk':'d'}}");

    blk_set_allow_write_beyond_eof(blk, true);
    assert_int_equal(write_at(w, blk, 8192, 512), -ENOSPC);
    assert_int_equal(write_at(w, blk, 4096, 8192), -ENOSPC);
    assert_true(all_bytes(w, disk, 0, MiB, 0));
    assert_int_equal(blk_getlength(blk), 8192);
    struct payload out;
    payload_init(w->sim, &out);
    assert_int_equal(blk_bs(blk)->drv->bdrv_co_preadv(blk_bs(blk), 8192, 512, &out, 0), -EINVAL);
    payload_clear(&out);
    blk_unref(blk);
    del(w, "r");
}

/* An offset alone: the window ends with the file and moves with it. */
WORLD_TEST(test_offset_only)
{
    struct disk *disk = make_disk(w, "d", MiB);
    BlockBackend *blk = open_on(w, "{'driver':'raw','node-name':'r','offset':1048576,"
                                   "'file':{'driver':'disk','disk':'d'}}");

    assert_int_equal(blk_getlength(blk), 0); /* an offset of the whole length is allowed */
    blk_set_allow_write_beyond_eof(blk, true);
    assert_int_equal(write_at(w, blk, 0, 4096), 0);
    assert_int_equal(blk_getlength(blk), 4096);
    assert_int_equal(disk_length(disk), MiB + 4096);
    blk_unref(blk);
    del(w, "r");
}

/* Without a window: lengths are rounded up, and the tail of the last sector reads zero.
 * fact: block 2.15/round-up, edge/20 */
WORLD_TEST(test_odd_length)
{
    make_disk(w, "d", 1000);
    BlockBackend *blk = open_on(w, "{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'d'}}");
    struct request r = {.w = w, .blk = blk, .bytes = 1024};

    assert_int_equal(blk_getlength(blk), 1024);
    assert_int_equal(run(&r), 0);
    blk_unref(blk);
    del(w, "r");
}

/* A window that ends in the middle of a sector: its last sector is writable all the same, which lengthens the file;
 * a user that may only write asks for no resize of its own (2.15). */
WORLD_TEST(test_last_sector)
{
    struct disk *disk = make_disk(w, "d", 1024);
    BlockDriverState *bs =
        add(w, "{'driver':'raw','node-name':'r','offset':100,'file':{'driver':'disk','disk':'d'}}");
    BlockBackend *blk = blk_new(w->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL);
    struct request r = {.w = w, .blk = blk, .offset = 512, .bytes = 512};

    assert_int_equal(blk_insert_bs(blk, bs, NULL), 0);
    assert_int_equal(blk_getlength(blk), 1024);
    assert_int_equal(write_at(w, blk, 512, 512), 0);
    assert_true(all_bytes(w, disk, 612, 512, 0x5a));
    assert_true(all_bytes(w, disk, 0, 612, 0));
    assert_int_equal(blk_getlength(blk), 1024);
    assert_int_equal(run(&r), 0);
    blk_unref(blk);
    del(w, "r");
}

/* --- the end of a medium ---------------------------------------------------------------------------------- */

struct walk {
    BlockDriverState *bs;
    int64_t at;
    unsigned runs;
};

static int walk_entry(void *opaque)
{
    struct walk *walk = opaque;
    int64_t pnum = 0;
    int ret = 0;

    while (walk->at < bdrv_getlength_cached(walk->bs) && ret >= 0) {
        ret = bdrv_co_block_status_above(walk->bs, NULL, walk->at, 1024, &pnum, NULL, NULL);
        walk->at += pnum;
        walk->runs++;
    }
    return ret;
}

/* The status of a medium is known up to the node's rounded length, whatever its own length and alignment are. */
WORLD_TEST(test_odd_status)
{
    static const int64_t lengths[] = {1, 511, 513, 1000, 4097, 5000};
    static const uint32_t aligns[] = {1, 512, 4096};

    for (size_t i = 0; i < ARRAY_SIZE(lengths) * ARRAY_SIZE(aligns) * 2; i++) {
        struct disk_config config;
        char name[8], options[80];

        disk_config_default(&config);
        config.size_bytes = lengths[i / 2 % ARRAY_SIZE(lengths)];
        config.align_bytes = aligns[i / 2 / ARRAY_SIZE(lengths)];
        config.content = i % 2 ? DISK_CONTENT_STAMP : DISK_CONTENT_HOLE;
        snprintf(name, sizeof(name), "d%zu", i);
        assert_non_null(disk_new(w->sim, name, &config, NULL));
        snprintf(options, sizeof(options), "{'driver':'disk','node-name':'n','disk':'%s','read-only':true}", name);
        struct walk walk = {.bs = add(w, options)};
        /* the last answer must end exactly with the node: one beyond would be asked about data that is not there */
        assert_true(bdrv_run_co(w->host, "walk", walk_entry, &walk) >= 0);
        assert_int_equal(walk.at, ROUND_UP(config.size_bytes, 512));
        del(w, "n");
    }
}

/* What a node has beyond the length of its medium, up to a whole sector, reads zero also where no alignment asks
 * for whole sectors.
 * fact: block 2.15/round-up, edge/20 */
WORLD_TEST(test_odd_read)
{
    struct disk_config config;

    disk_config_default(&config);
    config.size_bytes = 1000;
    config.align_bytes = 1;
    assert_non_null(disk_new(w->sim, "d", &config, NULL));
    BlockBackend *blk = open_on(w, "{'driver':'disk','node-name':'r','disk':'d'}");
    struct request whole = {.w = w, .blk = blk, .bytes = 1024};
    struct request tail = {.w = w, .blk = blk, .offset = 1010, .bytes = 14};

    assert_int_equal(blk_getlength(blk), 1024);
    assert_int_equal(run(&whole), 0);
    assert_int_equal(run(&tail), 0);
    blk_unref(blk);
    del(w, "r");
}

/* --- limits of a medium ----------------------------------------------------------------------------------- */

struct counter {
    struct disk_interposer interposer;
    unsigned reads, writes;
    int64_t largest;
};

static void count_request(struct disk_interposer *self, struct disk_req *req)
{
    struct counter *counter = container_of(self, struct counter, interposer);

    counter->reads += req->op == SIM_OP_READ;
    counter->writes += req->op == SIM_OP_WRITE;
    counter->largest = MAX(counter->largest, req->bytes);
}

/* A medium gets reads and writes of at most its max-transfer; whoever uses the node need not know. */
WORLD_TEST(test_max_transfer)
{
    struct disk_config config;
    struct counter counter = {.interposer = {.before = count_request}};

    disk_config_default(&config);
    config.size_bytes = MiB;
    config.max_transfer_bytes = 12288;
    struct disk *disk = disk_new(w->sim, "d", &config, NULL);
    assert_non_null(disk);
    BlockBackend *blk = open_on(w, "{'driver':'raw','node-name':'r','offset':512,"
                                   "'file':{'driver':'disk','disk':'d'}}");
    struct request r = {.w = w, .blk = blk, .offset = 1024, .bytes = 40960};

    disk_add_interposer(disk, &counter.interposer);
    assert_int_equal(write_at(w, blk, 1024, 40960), 0);
    assert_int_equal(counter.writes, 4);
    assert_true(all_bytes(w, disk, 1536, 40960, 0x5a));
    assert_int_equal(run(&r), 0);
    assert_int_equal(counter.reads, 4);
    assert_int_equal(counter.largest, 12288);
    disk_remove_interposer(disk, &counter.interposer);
    blk_unref(blk);
    del(w, "r");
}

/* --- truncate --------------------------------------------------------------------------------------------- */

struct resize {
    BlockBackend *blk;
    int64_t length;
    bool exact;
    enum bdrv_prealloc prealloc;
    Error *err;
};

static int resize_entry(void *opaque)
{
    struct resize *r = opaque;

    return blk_co_truncate(r->blk, r->length, r->exact, r->prealloc, 0, &r->err);
}

static int resize(struct world *w, struct resize r, const char *error)
{
    int ret = bdrv_run_co(w->host, "resize", resize_entry, &r);

    assert_int_equal(ret < 0, r.err != NULL);
    if (error) {
        expect_error(&r.err, error);
    } else if (r.err) {
        fail_msg("%s", error_get_pretty(r.err));
    }
    return ret;
}

/* fact: block 5/prealloc-modes, 5/prealloc-shrink, 5/prealloc-fails */
WORLD_TEST(test_truncate_file)
{
    struct disk *disk = make_disk(w, "d", MiB);
    BlockBackend *blk = open_on(w, "{'driver':'raw','node-name':'r','offset':4096,"
                                   "'file':{'driver':'disk','disk':'d'}}");

    assert_int_equal(resize(w, (struct resize){blk, 2 * MiB, true, PREALLOC_OFF, NULL}, NULL), 0);
    assert_int_equal(disk_length(disk), 2 * MiB + 4096);
    assert_int_equal(blk_getlength(blk), 2 * MiB);
    assert_int_equal(disk_allocated_bytes(disk), 0);
    assert_int_equal(resize(w, (struct resize){blk, 3 * MiB, true, PREALLOC_FULL, NULL}, NULL), 0);
    assert_int_equal(disk_allocated_bytes(disk), MiB);
    assert_int_equal(resize(w, (struct resize){blk, 4 * MiB, true, PREALLOC_METADATA, NULL}, "'metadata'"),
                     -ENOTSUP);
    assert_int_equal(resize(w, (struct resize){blk, MiB, true, PREALLOC_FULL, NULL}, "shrinking"), -ENOTSUP);
    assert_int_equal(disk_length(disk), 3 * MiB + 4096);
    /* Failed preallocation restores the length (5). */
    disk_set_capacity(disk, MiB + 65536);
    assert_int_equal(resize(w, (struct resize){blk, 5 * MiB, true, PREALLOC_FALLOC, NULL}, "No space"), -ENOSPC);
    assert_int_equal(disk_length(disk), 3 * MiB + 4096);
    assert_int_equal(resize(w, (struct resize){blk, 0, true, PREALLOC_OFF, NULL}, NULL), 0);
    assert_int_equal(disk_length(disk), 4096);
    blk_unref(blk);
    del(w, "r");
}

/* A medium without zero writes is given zeroes as data, as a file system without fallocate is. */
WORLD_TEST(test_truncate_plain_medium)
{
    struct disk_config config;

    disk_config_default(&config);
    config.size_bytes = MiB;
    config.can_write_zeroes = false;
    struct disk *disk = disk_new(w->sim, "d", &config, NULL);
    BlockBackend *blk = open_on(w, "{'driver':'raw','node-name':'r','file':{'driver':'disk','disk':'d'}}");
    assert_int_equal(resize(w, (struct resize){blk, 4 * MiB + 512, true, PREALLOC_FALLOC, NULL}, NULL), 0);
    assert_int_equal(disk_length(disk), 4 * MiB + 512);
    assert_in_range(disk_allocated_bytes(disk), 3 * MiB, 3 * MiB + 4096);
    blk_unref(blk);
    del(w, "r");
}

/* Without a window the node is as long as its file, also when somebody else shortens that: users of the node reach
 * nowhere beyond it. */
WORLD_TEST(test_follows_file)
{
    make_disk(w, "d", MiB);
    BlockBackend *blk =
        open_on(w, "{'driver':'raw','node-name':'r','file':{'driver':'disk','node-name':'f','disk':'d'}}");
    BlockBackend *other = blk_new(w->host, BLK_PERM_RESIZE, BLK_PERM_ALL);

    assert_int_equal(blk_insert_bs(other, bdrv_find_node(w->host, "f"), NULL), 0);
    assert_int_equal(resize(w, (struct resize){other, MiB / 2, true, PREALLOC_OFF, NULL}, NULL), 0);
    assert_int_equal(blk_getlength(blk), MiB / 2);
    assert_int_equal(write_at(w, blk, MiB / 2, 512), -EIO);
    assert_int_equal(resize(w, (struct resize){other, 2 * MiB, true, PREALLOC_OFF, NULL}, NULL), 0);
    assert_int_equal(blk_getlength(blk), 2 * MiB);
    assert_int_equal(write_at(w, blk, MiB / 2, 512), 0);
    blk_unref(other);
    blk_unref(blk);
    del(w, "r");
}

/* fact: block 2.15/raw-beyond, 5/device, 5/inexact */
WORLD_TEST(test_truncate_fixed)
{
    struct disk_config config;

    make_disk(w, "d", MiB);
    BlockBackend *blk =
        open_on(w, "{'driver':'raw','node-name':'r','size':4096,'file':{'driver':'disk','disk':'d'}}");
    assert_int_equal(resize(w, (struct resize){blk, MiB, true, PREALLOC_OFF, NULL}, "Cannot resize"), -ENOTSUP);
    blk_unref(blk);
    del(w, "r");

    disk_config_default(&config);
    config.type = DISK_DEVICE;
    config.size_bytes = MiB;
    assert_non_null(disk_new(w->sim, "dev", &config, NULL));
    blk = open_on(w, "{'driver':'disk','node-name':'r','disk':'dev'}");
    assert_int_equal(resize(w, (struct resize){blk, 2 * MiB, true, PREALLOC_OFF, NULL}, "Cannot resize"), -ENOTSUP);
    assert_int_equal(resize(w, (struct resize){blk, 2 * MiB, false, PREALLOC_OFF, NULL}, "Cannot grow"), -EINVAL);
    assert_int_equal(resize(w, (struct resize){blk, MiB, false, PREALLOC_FULL, NULL}, "not supported"), -ENOTSUP);
    assert_int_equal(resize(w, (struct resize){blk, 65536, false, PREALLOC_OFF, NULL}, NULL), 0);
    assert_int_equal(blk_getlength(blk), MiB);
    assert_false(bdrv_has_zero_init(blk_bs(blk)));
    blk_unref(blk);
    del(w, "r");
}

/* --- null-co ---------------------------------------------------------------------------------------------- */

/* fact: block 7.4/null */
WORLD_TEST(test_null)
{
    BlockBackend *blk = open_on(w, "{'driver':'null-co','node-name':'n','latency-ns':500}");
    struct request r = {.w = w, .blk = blk, .bytes = 4096};
    int64_t from = sim_now(w->sim);

    assert_int_equal(blk_getlength(blk), GiB);
    assert_int_equal(run(&r), 0);
    assert_int_equal(sim_now(w->sim) - from, 500);
    struct payload p;
    payload_init(w->sim, &p);
    assert_int_equal(bdrv_peek(blk_bs(blk), 0, 4096, &p), 0);
    assert_false(payload_is_zero(&p, 0, 4096)); /* whatever: never the zeroes that somebody may count on */
    payload_clear(&p);
    blk_unref(blk);
    del(w, "n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/raw/window/content", test_window_content),
        T("/raw/window/end", test_window_end),
        T("/raw/window/offset-only", test_offset_only),
        T("/raw/odd-length", test_odd_length),
        T("/raw/window/last-sector", test_last_sector),
        T("/disk-node/max-transfer", test_max_transfer),
        T("/disk-node/odd-length/status", test_odd_status),
        T("/disk-node/odd-length/read", test_odd_read),
        T("/raw/truncate/below", test_follows_file),
        T("/raw/truncate/file", test_truncate_file),
        T("/raw/truncate/plain-medium", test_truncate_plain_medium),
        T("/raw/truncate/fixed", test_truncate_fixed),
        T("/raw/null-co", test_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
