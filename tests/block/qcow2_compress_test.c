/* Protects compressed clusters of qcow2 (5.2, 5.4, 5.5): which writes are taken, what they become, the order in
 * which they do, and that nobody sees half of it. */
#include <unistd.h>

#include "tests/block/dbgtest.h"
#include "tests/block/qcow2_build.h"

#define C ((int64_t)4096)
#define ALL (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE)

/* A copy of one of the real images on a fake disk. */
static struct disk *load(struct world *w, const char *image, const char *name)
{
    char path[200];
    Error *err = NULL;
    struct disk *disk = make_disk(w, name, 64 * KiB);
    snprintf(path, sizeof(path), "tests/vectors/qcow2/%s.qcow2", image);
    if (disk_load_file(disk, path, &err) < 0) {
        fail_msg("%s", error_get_pretty(err));
    }
    return disk;
}

static BlockBackend *open_on(struct world *w, const char *disk, const char *more)
{
    char text[400];
    snprintf(text, sizeof(text),
             "{'driver':'qcow2','node-name':'n','discard':'unmap',"
             "'file':{'driver':'blkdebug','image':{'driver':'disk','disk':'%s'}%s}}",
             disk, more);
    return open_blk(w, text);
}

static BlockBackend *open_image(struct world *w, const char *image)
{
    load(w, image, "d");
    return open_on(w, "d", "");
}

static struct io compressed(struct world *w, BlockBackend *blk, int64_t offset, int64_t bytes, uint8_t fill)
{
    return (struct io){.w = w,
                       .blk = blk,
                       .op = W,
                       .offset = offset,
                       .bytes = bytes,
                       .fill = fill,
                       .flags = BDRV_REQ_WRITE_COMPRESSED};
}

static int write_compressed(struct world *w, BlockBackend *blk, int64_t offset, int64_t bytes, uint8_t fill)
{
    struct io io = compressed(w, blk, offset, bytes, fill);
    io_start(&io);
    return io_finish(&io);
}

static int write_fill(struct world *w, BlockBackend *blk, int64_t offset, int64_t bytes, uint8_t fill)
{
    struct io io = {.w = w, .blk = blk, .op = W, .offset = offset, .bytes = bytes, .fill = fill};
    io_start(&io);
    return io_finish(&io);
}

static int write_look(void *opaque)
{
    struct look *l = opaque;
    return blk_co_pwritev(l->blk, l->offset, l->bytes, &l->in, l->flags);
}

/* Bytes that do not compress. */
static int write_noise(struct world *w, BlockBackend *blk, int64_t offset, int64_t bytes, uint64_t seed)
{
    struct look l = {.bs = blk_bs(blk), .blk = blk, .offset = offset, .bytes = bytes};
    l.flags = BDRV_REQ_WRITE_COMPRESSED;
    payload_init(w->sim, &l.in);
    for (int64_t i = 0; i < bytes; i += 8) {
        uint64_t word = sim_mix64(seed + (uint64_t)i);
        payload_append_bytes(&l.in, &word, 8);
    }
    int ret = bdrv_run_co(w->host, "test write", write_look, &l);
    payload_clear(&l.in);
    return ret;
}

static int status_at(BlockBackend *blk, int64_t offset)
{
    struct look l = {.bs = blk_bs(blk), .offset = offset, .bytes = C};
    int ret = status_of(&l);
    return ret < 0 ? ret : ret & ~BDRV_BLOCK_EOF;
}

#define IS_COMPRESSED (BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_COMPRESSED)

static int check_entry(void *opaque)
{
    struct look *l = opaque;
    BdrvCheckResult res = {0};
    int ret = bdrv_co_check(l->bs, &res, 0);
    assert_int_equal(res.corruptions, 0);
    assert_int_equal(res.leaks, 0);
    return ret;
}

/* The counts are exactly right. */
static void check_clean(struct world *w, BlockBackend *blk)
{
    struct look l = {.bs = blk_bs(blk)};
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    assert_int_equal(bdrv_run_co(w->host, "test check", check_entry, &l), 0);
}

/* --- which are taken ------------------------------------------------------------------------------------------ */

/* fact: qcow2 5.2/compressed-over-data */
WORLD_TEST(test_over_data)
{
    BlockBackend *blk = open_image(w, "v3-data-4k");
    assert_int_equal(write_compressed(w, blk, 0, C, 0x21), -EIO);
    assert_true(reads(blk, w, 0, C, 0x11));
    assert_int_equal(write_compressed(w, blk, 8 * C, C, 0x22), 0);
    assert_int_equal(status_at(blk, 8 * C), IS_COMPRESSED);
    assert_int_equal(write_compressed(w, blk, 8 * C, C, 0x23), -EIO);
    assert_true(reads(blk, w, 8 * C, C, 0x22));
    assert_int_equal(do_io(blk, w, Z, 9 * C, C), 0);
    assert_int_equal(write_compressed(w, blk, 9 * C, C, 0x24), 0);
    assert_true(reads(blk, w, 9 * C, C, 0x24));
    /* In the middle of a request: what came before stays. */
    assert_int_equal(write_compressed(w, blk, 7 * C, 2 * C, 0x25), -EIO);
    assert_true(reads(blk, w, 7 * C, C, 0x25));
    assert_true(reads(blk, w, 8 * C, C, 0x22));
    /* A plain write goes over all of them. */
    assert_int_equal(write_fill(w, blk, 8 * C + 512, 512, 0x26), 0);
    assert_true(reads(blk, w, 8 * C, 512, 0x22));
    assert_true(reads(blk, w, 8 * C + 512, 512, 0x26));
    assert_true(reads(blk, w, 8 * C + 1024, C - 1024, 0x22));
    check_clean(w, blk);
    close_blk(w, blk);
}

/* fact: qcow2 5.2/compressed-length */
WORLD_TEST(test_length)
{
    BlockBackend *blk = open_image(w, "leaks-unaligned-4k"); /* 102912 bytes: 512 in the last cluster */
    assert_int_equal(do_io(blk, w, D, 96 * KiB, 102912 - 96 * KiB), 0);
    assert_int_equal(write_compressed(w, blk, 512, C, 1), -EINVAL);
    assert_int_equal(write_compressed(w, blk, 10 * C, 512, 1), -EINVAL);
    assert_int_equal(write_compressed(w, blk, 10 * C, C + 512, 1), -EINVAL);
    assert_int_equal(write_compressed(w, blk, 24 * C, 102912 - 24 * C, 0x31), 0);
    assert_int_equal(status_at(blk, 25 * C), IS_COMPRESSED);
    assert_true(reads(blk, w, 24 * C, 102912 - 24 * C, 0x31));
    close_blk(w, blk);
}

/* fact: qcow2 5.2/incompressible */
WORLD_TEST(test_incompressible)
{
    BlockBackend *blk = open_image(w, "v3-data-4k");
    uint8_t seen[8];
    uint64_t word = sim_mix64(77);
    assert_int_equal(write_noise(w, blk, 40 * C, 2 * C, 77), 0);
    assert_int_equal(status_at(blk, 40 * C), BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID);
    assert_int_equal(read_view(blk, 40 * C, 8, seen), 0);
    assert_memory_equal(seen, &word, 8);
    /* As a normal write it may go over anything. */
    assert_int_equal(write_noise(w, blk, 0, C, 77), 0);
    assert_int_equal(write_compressed(w, blk, 50 * C, C, 1), 0);
    assert_int_equal(write_noise(w, blk, 50 * C, C, 77), 0);
    check_clean(w, blk);
    close_blk(w, blk);
}

/* Where the real tools are, they have to agree: the image is as it should be, and reads so. */
static void judge(struct world *w, const char *reading)
{
    char path[] = "/tmp/blksim-compress-XXXXXX";
    char command[300];
    Error *err = NULL;
    if (system("command -v qemu-img qemu-io >/dev/null 2>&1") != 0) {
        return;
    }
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(disk_save_file(disk_find(w->sim, "d"), path, &err), 0);
    snprintf(command, sizeof(command), "qemu-img check -q -f qcow2 %s", path);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof(command), "qemu-io -r -f qcow2 -c '%s' %s >/dev/null", reading, path);
    assert_int_equal(system(command), 0);
    unlink(path);
}

static void pack(struct world *w, const char *image, int64_t cluster)
{
    char reading[100];
    BlockBackend *blk = open_image(w, image);
    int64_t end = blk_getlength(blk);
    for (int64_t at = 0; at < end; at += cluster) {
        assert_int_equal(do_io(blk, w, D, at, cluster), 0);
    }
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    assert_int_equal(write_compressed(w, blk, 0, end, 0x41), 0);
    assert_true(reads(blk, w, 0, end, 0x41));
    check_clean(w, blk);
    snprintf(reading, sizeof(reading), "read -P 0x41 0 %lld", (long long)end);
    judge(w, reading);
    /* What one of them had stays while the others need it, and goes with the last. */
    for (int64_t at = 0; at < end; at += 2 * cluster) {
        assert_int_equal(write_fill(w, blk, at, 512, 0x42), 0);
    }
    check_clean(w, blk);
    assert_true(reads(blk, w, cluster, cluster, 0x41));
    snprintf(reading, sizeof(reading), "read -P 0x41 512 %lld", (long long)(2 * cluster - 512));
    judge(w, reading);
    for (int64_t at = 0; at < end; at += cluster) {
        assert_int_equal(do_io(blk, w, D, at, cluster), 0);
    }
    check_clean(w, blk);
    close_blk(w, blk);
}

/* fact: qcow2 5.2/compressed-shared, 5.4/compressed-packing, edge/30 */
WORLD_TEST(test_shared_zlib)
{
    pack(w, "compressed-zlib-16k", 16 * KiB);
}

WORLD_TEST(test_shared_zstd)
{
    pack(w, "compressed-zstd-4k", C);
}

WORLD_TEST(test_shared_extended)
{
    pack(w, "extl2-16k", 16 * KiB);
}

/* fact: qcow2 5.3/overflow */
WORLD_TEST(test_shared_1_bit)
{
    pack(w, "refcount1-4k", C);
}

/* --- order ------------------------------------------------------------------------------------------------------
 */

/* Opens what would be left if the power went now. */
static BlockBackend *open_durable(struct world *w, struct disk *disk, const char *name)
{
    struct disk *copy = make_disk(w, name, disk_length(disk));
    char text[200];
    struct payload p;
    payload_init(w->sim, &p);
    disk_peek_durable(disk, 0, disk_length(disk), &p);
    disk_poke(copy, 0, &p);
    payload_clear(&p);
    snprintf(text, sizeof(text),
             "{'driver':'qcow2','node-name':'after','read-only':true,'file':{'driver':'disk','disk':'%s'}}", name);
    return use(w, add(w, text), BLK_PERM_CONSISTENT_READ);
}

static void expect_durable(struct world *w, struct disk *disk, const char *name, int64_t offset, uint8_t byte)
{
    BlockBackend *blk = open_durable(w, disk, name);
    assert_true(reads(blk, w, offset, C, byte));
    close_blk(w, blk);
}

static bool is_suspended(void *opaque)
{
    return bdrv_debug_is_suspended(opaque, "t");
}

static void suspend(struct world *w, BlockBackend *blk, const char *event, struct io *io)
{
    assert_int_equal(bdrv_debug_breakpoint(blk_bs(blk), event, "t"), 0);
    io_start(io);
    host_poll(w->host, is_suspended, blk_bs(blk));
}

/* While the data of a compressed write is on its way somebody flushes, and the power fails. In the original the L2
 * entry is in the cache by then: the flush makes it stable, and the cluster, which had read as zeros, is an I/O
 * error for ever. */
/* fact: qcow2 5.5/compressed-write, edge/45 */
WORLD_TEST(test_flush_before_data)
{
    struct disk *disk = load(w, "v3-data-4k", "d");
    BlockBackend *blk = open_on(w, "d", "");
    struct io io = compressed(w, blk, 8 * C, C, 0x51);
    suspend(w, blk, "write_compressed", &io);
    assert_int_equal(write_fill(w, blk, 9 * C, C, 0x52), 0);
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    expect_durable(w, disk, "cut", 8 * C, 0);
    expect_durable(w, disk, "cut too", 9 * C, 0x52);
    assert_int_equal(bdrv_debug_resume(blk_bs(blk), "t"), 0);
    assert_int_equal(io_finish(&io), 0);
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    expect_durable(w, disk, "cut later", 8 * C, 0x51);
    check_clean(w, blk);
    close_blk(w, blk);
}

/* What reaches the medium, in order: D data of a compressed cluster, L its L2 table, F flush. */
struct order_log {
    struct disk_interposer interposer;
    char text[64];
};

static void log_request(struct disk_interposer *self, struct disk_req *req)
{
    struct order_log *log = container_of(self, struct order_log, interposer);
    size_t length = strlen(log->text);
    assert_true(length < sizeof(log->text) - 1);
    if (req->op == F) {
        log->text[length] = 'F';
    } else if (req->op == W && req->offset / C == 4) {
        log->text[length] = 'L';
    } else if (req->op == W && req->offset >= 40960) {
        log->text[length] = 'D';
    }
}

/* The count is stable already when the data comes, so that nothing but the data makes the entry wait for a flush.
 */
/* fact: qcow2 5.5/compressed-write */
WORLD_TEST(test_flush_between)
{
    struct disk *disk = load(w, "v3-data-4k", "d");
    BlockBackend *blk = open_on(w, "d", "");
    struct order_log log = {.interposer = {.before = log_request}};
    struct io io = compressed(w, blk, 8 * C, C, 0x51);
    suspend(w, blk, "write_compressed", &io);
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    disk_add_interposer(disk, &log.interposer);
    assert_int_equal(bdrv_debug_resume(blk_bs(blk), "t"), 0);
    assert_int_equal(io_finish(&io), 0);
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    assert_string_equal(log.text, "DFLF");
    disk_remove_interposer(disk, &log.interposer);
    close_blk(w, blk);
}

/* fact: qcow2 5.4/one-allocation */
WORLD_TEST(test_same_cluster)
{
    BlockBackend *blk = open_image(w, "v3-data-4k");
    struct io first = compressed(w, blk, 8 * C, C, 0x61);
    struct io second = compressed(w, blk, 8 * C, C, 0x62);
    struct io part = {.w = w, .blk = blk, .op = W, .offset = 8 * C + 512, .bytes = 512, .fill = 0x63};
    suspend(w, blk, "write_compressed", &first);
    io_start(&part); /* waits, and copies what was written around it */
    io_start(&second);
    assert_int_equal(bdrv_debug_resume(blk_bs(blk), "t"), 0);
    assert_int_equal(io_finish(&first), 0);
    assert_int_equal(io_finish(&part), 0);
    assert_int_equal(io_finish(&second), -EIO);
    assert_true(reads(blk, w, 8 * C, 512, 0x61));
    assert_true(reads(blk, w, 8 * C + 512, 512, 0x63));
    assert_true(reads(blk, w, 8 * C + 1024, C - 1024, 0x61));
    check_clean(w, blk);
    close_blk(w, blk);
}

/* The room of one that fails is free again.
 * fact: qcow2 5.4/compressed-packing */
WORLD_TEST(test_write_error)
{
    load(w, "v3-data-4k", "d");
    BlockBackend *blk = open_on(w, "d", ",'inject-error':[{'event':'write_compressed','errno':28,'once':true}]");
    assert_int_equal(write_compressed(w, blk, 8 * C, 2 * C, 0x71), -ENOSPC);
    assert_true(reads(blk, w, 8 * C, 2 * C, 0));
    check_clean(w, blk);
    assert_int_equal(write_compressed(w, blk, 8 * C, 2 * C, 0x72), 0);
    assert_true(reads(blk, w, 8 * C, 2 * C, 0x72));
    check_clean(w, blk);
    close_blk(w, blk);
}

/* --- reads beside -----------------------------------------------------------------------------------------------
 */

/* A read has found its cluster and is about to read it. Meanwhile the cluster is freed, that becomes stable, and
 * others write wherever there is room: had one of them got it, the read would show foreign data, or find no stream
 * where it looks. */
static void read_beside(struct world *w, const char *event, int64_t offset, uint8_t was)
{
    BlockBackend *blk = open_image(w, "compressed-zstd-4k"); /* 64 KiB: two compressed clusters, and data at 8K */
    struct io read = {.w = w, .blk = blk, .op = R, .offset = offset, .bytes = C};
    suspend(w, blk, event, &read);
    for (int64_t at = 0; at < 3 * C; at += C) {
        assert_int_equal(do_io(blk, w, D, at, C), 0);
    }
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    assert_int_equal(write_fill(w, blk, 4 * C, 12 * C, 0x81), 0);
    assert_int_equal(do_io(blk, w, F, 0, 0), 0);
    assert_int_equal(bdrv_debug_resume(blk_bs(blk), "t"), 0);
    assert_int_equal(io_finish(&read), 0);
    assert_true(read.uniform);
    assert_int_equal(read.fill, was);
    check_clean(w, blk);
    close_blk(w, blk);
}

/* fact: qcow2 edge/44 */
WORLD_TEST(test_read_beside_compressed)
{
    read_beside(w, "read_compressed", 0, 0x91);
}

WORLD_TEST(test_read_beside_normal)
{
    read_beside(w, "read_aio", 2 * C, 0x93);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/compress/over-data", test_over_data),
        T("/qcow2/compress/length", test_length),
        T("/qcow2/compress/incompressible", test_incompressible),
        T("/qcow2/compress/shared/zlib", test_shared_zlib),
        T("/qcow2/compress/shared/zstd", test_shared_zstd),
        T("/qcow2/compress/shared/extended", test_shared_extended),
        T("/qcow2/compress/shared/1-bit", test_shared_1_bit),
        T("/qcow2/compress/flush-before-data", test_flush_before_data),
        T("/qcow2/compress/flush-between", test_flush_between),
        T("/qcow2/compress/same-cluster", test_same_cluster),
        T("/qcow2/compress/write-error", test_write_error),
        T("/qcow2/compress/read-beside/compressed", test_read_beside_compressed),
        T("/qcow2/compress/read-beside/normal", test_read_beside_normal),
    };
    return cmocka_run_group_tests_name("block/qcow2_compress", tests, NULL, NULL);
}
