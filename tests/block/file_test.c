/* Protects driver `file` (DESIGN 5, block.md 2.15, 5): real bytes in a real file, refusals by their errno, and no
 * file at all where that is forbidden. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/block/blktest.h"

static char folder[64];

static int setup(void **state)
{
    snprintf(folder, sizeof(folder), "/tmp/blksim-file-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static int teardown(void **state)
{
    static const char *const names[] = {"img", "ro", "fifo"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        unlink(path_of(names[i]));
    }
    return rmdir(folder);
}

static void make_file(const char *name, off_t length, mode_t mode)
{
    int fd = open(path_of(name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, length), 0);
    close(fd);
}

static off_t length_of(const char *name)
{
    struct stat st;
    assert_int_equal(stat(path_of(name), &st), 0);
    return st.st_size;
}

static void assert_bytes(const char *name, off_t offset, size_t bytes, uint8_t value)
{
    uint8_t *seen = malloc(bytes);
    int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, seen, bytes, offset), bytes);
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(seen[i], value);
    }
    close(fd);
    free(seen);
}

static const char *on_file(const char *driver, const char *more)
{
    static char text[256];
    if (strcmp(driver, "raw") == 0) {
        snprintf(text, sizeof(text), "{'driver':'raw','node-name':'n'%s,'file':{'driver':'file','filename':'img'}}",
                 more);
    } else {
        snprintf(text, sizeof(text), "{'driver':'file','node-name':'n'%s}", more);
    }
    return text;
}

static BlockBackend *open_on(struct world *w, const char *options)
{
    BlockBackend *blk = blk_new(w->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, add(w, options), NULL), 0);
    return blk;
}

/* --- what is refused ---------------------------------------------------------------------------------------- */

static void expect_refused(struct world *w, const char *options, const char *message)
{
    Error *err = NULL;
    assert_null(try_add(w, options, &err));
    expect_error(&err, message);
    assert_int_equal(node_count(w), 0);
}

WORLD_TEST(test_forbidden)
{
    make_file("img", MiB, 0600);
    char options[200];
    snprintf(options, sizeof(options), "{'driver':'file','node-name':'n','filename':'%s'}", path_of("img"));
    expect_refused(w, options, "host files are forbidden here"); /* nobody said they are not */
    bdrv_set_host_files(w->host, folder);
    bdrv_set_host_files(w->host, NULL);
    expect_refused(w, options, "host files are forbidden here");
}

WORLD_TEST(test_kinds)
{
    bdrv_set_host_files(w->host, folder);
    expect_refused(w, on_file("file", ",'filename':'none'"), "No such file or directory");
    expect_refused(w, on_file("file", ",'filename':'.'"), "neither a regular file nor a block device");
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    expect_refused(w, on_file("file", ",'filename':'fifo'"), "neither a regular file nor a block device");
    expect_refused(w, on_file("file", ",'filename':'/dev/null'"), "neither a regular file nor a block device");
    expect_refused(w, on_file("file", ""), "'filename' is missing");
}

WORLD_TEST(test_read_only)
{
    if (geteuid() == 0) {
        print_message("skipped: root may write everything\n");
        return;
    }
    make_file("ro", MiB, 0400);
    bdrv_set_host_files(w->host, folder);
    expect_refused(w, on_file("file", ",'filename':'ro'"), "Permission denied");
    BlockDriverState *bs = add(w, on_file("file", ",'filename':'ro','auto-read-only':true"));
    assert_true(bdrv_is_read_only(bs));
    del(w, "n");
}

/* --- data ------------------------------------------------------------------------------------------------------
 */

WORLD_TEST(test_raw_on_top)
{
    make_file("img", MiB, 0600);
    bdrv_set_host_files(w->host, folder);
    BlockBackend *blk = open_on(w, on_file("raw", ""));
    struct request write = {.w = w, .blk = blk, .offset = 1000, .bytes = 600000, .write = true};
    struct request read = {.w = w, .blk = blk, .offset = 512, .bytes = 600064};
    struct payload seen;
    assert_int_equal(blk_getlength(blk), MiB);
    assert_int_equal(run(&write), 0);
    assert_bytes("img", 1000, 600000, 0x5a);
    assert_bytes("img", 0, 1000, 0);
    assert_bytes("img", 601000, 1000, 0);
    assert_int_equal(run(&read), 0);
    payload_init(w->sim, &seen);
    assert_int_equal(bdrv_peek(blk_bs(blk), 999, 2, &seen), 0);
    uint8_t two[2];
    payload_read_bytes(&seen, 0, two, 2);
    assert_int_equal(two[0], 0);
    assert_int_equal(two[1], 0x5a);
    payload_clear(&seen);
    assert_int_equal(sim_now(w->sim), 0); /* no virtual time passes */
    blk_unref(blk);
    del(w, "n");
    assert_int_equal(length_of("img"), MiB);
}

/* A length that is no whole sector: rounded up, zero behind it, and the file stays as long as it is (2.15). */
WORLD_TEST(test_odd_length)
{
    make_file("img", 1000, 0600);
    bdrv_set_host_files(w->host, folder);
    BlockBackend *blk = open_on(w, on_file("raw", ""));
    struct request whole = {.w = w, .blk = blk, .bytes = 1024};
    assert_int_equal(blk_getlength(blk), 1024);
    assert_int_equal(run(&whole), 0);
    assert_int_equal(length_of("img"), 1000);
    blk_set_allow_write_beyond_eof(blk, true);
    struct request grow = {.w = w, .blk = blk, .offset = 4096, .bytes = 512, .write = true};
    assert_int_equal(run(&grow), 0);
    assert_int_equal(length_of("img"), 4608);
    assert_int_equal(blk_getlength(blk), 4608);
    blk_unref(blk);
    del(w, "n");
}

struct op {
    BlockBackend *blk;
    char what;
    int64_t offset, bytes;
    uint32_t flags;
    enum bdrv_prealloc prealloc;
    int64_t pnum;
};

static int op_entry(void *opaque)
{
    struct op *op = opaque;
    Error *err = NULL;
    int ret = 0;
    switch (op->what) {
    case 'z':
        return blk_co_pwrite_zeroes(op->blk, op->offset, op->bytes, op->flags);
    case 'd':
        return blk_co_pdiscard(op->blk, op->offset, op->bytes);
    case 'f':
        return blk_co_flush(op->blk);
    case 't':
        ret = blk_co_truncate(op->blk, op->bytes, true, op->prealloc, 0, &err);
        SIM_ASSERT((ret < 0) == (err != NULL));
        error_free(err);
        return ret;
    case 's':
        return bdrv_co_block_status(blk_bs(op->blk), op->offset, op->bytes, &op->pnum, NULL, NULL);
    default:
        return -EINVAL;
    }
}

static int do_op(struct world *w, struct op op)
{
    return bdrv_run_co(w->host, "op", op_entry, &op);
}

WORLD_TEST(test_zeroes)
{
    make_file("img", MiB, 0600);
    bdrv_set_host_files(w->host, folder);
    BlockBackend *blk = open_on(w, on_file("raw", ",'discard':'unmap'"));
    struct request fill = {.w = w, .blk = blk, .bytes = MiB, .write = true};
    assert_int_equal(run(&fill), 0);
    assert_int_equal(do_op(w, (struct op){.blk = blk, .what = 'z', .offset = 4096, .bytes = 8192}), 0);
    assert_bytes("img", 4096, 8192, 0);
    assert_bytes("img", 12288, 4096, 0x5a);
    uint32_t unmap = BDRV_REQ_MAY_UNMAP;
    assert_int_equal(
        do_op(w, (struct op){.blk = blk, .what = 'z', .offset = 65536, .bytes = 65536, .flags = unmap}), 0);
    assert_bytes("img", 65536, 65536, 0);
    blk_set_allow_write_beyond_eof(blk, true);
    assert_int_equal(do_op(w, (struct op){.blk = blk, .what = 'z', .offset = MiB, .bytes = 65536, .flags = unmap}),
                     0);
    assert_int_equal(length_of("img"), MiB + 65536);
    assert_int_equal(do_op(w, (struct op){.blk = blk, .what = 'd', .offset = 131072, .bytes = 65536}), 0);
    assert_int_equal(length_of("img"), MiB + 65536);
    assert_int_equal(do_op(w, (struct op){.blk = blk, .what = 'f'}), 0);
    blk_unref(blk);
    del(w, "n");
}

WORLD_TEST(test_status)
{
    make_file("img", MiB, 0600);
    bdrv_set_host_files(w->host, folder);
    BlockBackend *blk = open_on(w, on_file("raw", ""));
    struct request data = {.w = w, .blk = blk, .offset = 512 * KiB, .bytes = 128 * KiB, .write = true};
    assert_int_equal(run(&data), 0);
    struct op ask = {.blk = blk, .what = 's', .offset = 512 * KiB, .bytes = 64 * KiB};
    int ret = bdrv_run_co(w->host, "op", op_entry, &ask);
    assert_true(ret & BDRV_BLOCK_DATA);
    assert_int_equal(ask.pnum, 64 * KiB);
    /* Where holes begin is the file system's to say; that it knows none at all is possible too. */
    ask = (struct op){.blk = blk, .what = 's', .bytes = MiB};
    ret = bdrv_run_co(w->host, "op", op_entry, &ask);
    assert_true((ret & BDRV_BLOCK_ZERO) ? ask.pnum <= 512 * KiB : (ret & BDRV_BLOCK_DATA) != 0);
    blk_unref(blk);
    del(w, "n");
}

/* fact: block 5/prealloc-modes, 5/prealloc-shrink */
WORLD_TEST(test_truncate)
{
    make_file("img", MiB, 0600);
    bdrv_set_host_files(w->host, folder);
    BlockBackend *blk = open_on(w, on_file("raw", ""));
    assert_int_equal(do_op(w, (struct op){.blk = blk, .what = 't', .bytes = 2 * MiB}), 0);
    assert_int_equal(length_of("img"), 2 * MiB);
    struct op grow = {.blk = blk, .what = 't', .bytes = 3 * MiB, .prealloc = PREALLOC_METADATA};
    assert_int_equal(do_op(w, grow), -ENOTSUP);
    assert_int_equal(length_of("img"), 2 * MiB);
    grow.prealloc = PREALLOC_FULL;
    assert_int_equal(do_op(w, grow), 0);
    assert_bytes("img", 2 * MiB, MiB, 0);
    grow.bytes = MiB;
    assert_int_equal(do_op(w, grow), -ENOTSUP);
    grow.prealloc = PREALLOC_OFF;
    assert_int_equal(do_op(w, grow), 0);
    assert_int_equal(length_of("img"), MiB);
    assert_true(bdrv_has_zero_init(blk_bs(blk)));
    blk_unref(blk);
    del(w, "n");
}

/* Opened to read, then made writable: the descriptor must be able to as well. */
WORLD_TEST(test_reopen)
{
    make_file("img", MiB, 0600);
    bdrv_set_host_files(w->host, folder);
    BlockDriverState *bs = add(w, on_file("raw", ",'read-only':true"));
    assert_int_equal(bdrv_reopen_set_read_only(bs, false, NULL), 0);
    BlockBackend *blk = blk_new(w->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, bs, NULL), 0);
    struct request write = {.w = w, .blk = blk, .bytes = 4096, .write = true};
    assert_int_equal(run(&write), 0);
    assert_bytes("img", 0, 4096, 0x5a);
    blk_unref(blk);
    del(w, "n");
}

/* --- locks -------------------------------------------------------------------------------------------------- */

/* As another program would: a lock of one byte on an open file of its own. */
static int lock_byte(off_t byte)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int fd = open(path_of("img"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    return fd;
}

static bool byte_is_locked(off_t byte)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int fd = open(path_of("img"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
    close(fd);
    return lock.l_type != F_UNLCK;
}

static bool can_use(BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    Error *err = NULL;
    BlockBackend *blk = blk_new(bs->host, perm, shared);
    bool can = blk_insert_bs(blk, bs, &err) == 0;
    if (!can) {
        assert_non_null(strstr(error_get_pretty(err), "lock on '"));
        error_free(err);
    }
    blk_unref(blk);
    return can;
}

/* block.md 8.11 */
WORLD_TEST(test_locks)
{
    make_file("img", MiB, 0600);
    bdrv_set_host_files(w->host, folder);
    BlockBackend *writer = blk_new(w->host, BLK_PERM_WRITE, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE);
    assert_int_equal(blk_insert_bs(writer, add(w, on_file("file", ",'filename':'img'")), NULL), 0);
    BlockDriverState *other = add(w, "{'driver':'file','node-name':'o','filename':'img'}");
    /* two nodes of one world */
    assert_true(can_use(other, BLK_PERM_WRITE, BLK_PERM_ALL));
    assert_false(can_use(other, BLK_PERM_RESIZE, BLK_PERM_ALL));
    assert_false(can_use(other, 0, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_WRITE));
    /* what others see: WRITE is taken, RESIZE is not shared, and the refused left nothing */
    assert_true(byte_is_locked(101));
    assert_true(byte_is_locked(203));
    assert_false(byte_is_locked(103));
    assert_false(byte_is_locked(201));
    /* what others hold */
    int fd = lock_byte(200);
    assert_false(can_use(other, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL));
    close(fd);
    assert_true(can_use(other, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL));
    blk_unref(writer);
    assert_false(byte_is_locked(101));
    assert_false(byte_is_locked(203));
    del(w, "o");
    del(w, "n");
}

static void create_img(void *opaque)
{
    struct host *host = opaque;
    struct qvalue *options = opts("{'filename':'img','size':512}");
    Error *err = NULL;
    qdict_put(options, "driver", qvalue_str("file"));
    assert_int_equal(bdrv_co_create(host, options, &err), -EAGAIN);
    assert_non_null(strstr(error_get_pretty(err), "lock on '"));
    error_free(err);
    qvalue_free(options);
}

/* block.md 8.11 */
WORLD_TEST(test_create_locked)
{
    make_file("img", MiB, 0600);
    bdrv_set_host_files(w->host, folder);
    BlockBackend *blk = blk_new(w->host, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE);
    assert_int_equal(blk_insert_bs(blk, add(w, on_file("file", ",'filename':'img'")), NULL), 0);
    create_img(w->host);
    assert_int_equal(length_of("img"), MiB);
    blk_unref(blk);
    del(w, "n");
}

/* --- descriptors -------------------------------------------------------------------------------------------------
 */

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 256; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static void add_in(void *opaque)
{
    struct host *host = opaque;
    bdrv_graph_init(host);
    bdrv_set_host_files(host, folder);
    struct qvalue *options = opts(on_file("raw", ""));
    SIM_ASSERT(qmp_blockdev_add_node(host, options, NULL) != NULL);
    qvalue_free(options);
}

/* A host that dies runs no driver's close, and a world that is left half-way neither. */
static void test_descriptors(void **state)
{
    make_file("img", MiB, 0600);
    unsigned before = open_descriptors();
    struct sim *sim = sim_new();
    struct host *host = host_new(sim, "h");
    host_command(host, add_in, host);
    sim_run(sim, NULL, NULL, INT64_MAX);
    assert_int_equal(open_descriptors(), before + 1);
    host_crash(host);
    assert_int_equal(open_descriptors(), before);
    struct host *other = host_new(sim, "o");
    host_command(other, add_in, other);
    sim_run(sim, NULL, NULL, INT64_MAX);
    assert_int_equal(open_descriptors(), before + 1);
    sim_delete(sim);
    assert_int_equal(open_descriptors(), before);
}

#define T_FILE(path, fn) T_SETUP(path, fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_FILE("/file/refused/forbidden", test_forbidden),
        T_FILE("/file/refused/kinds", test_kinds),
        T_FILE("/file/refused/read-only", test_read_only),
        T_FILE("/file/data/raw-on-top", test_raw_on_top),
        T_FILE("/file/data/odd-length", test_odd_length),
        T_FILE("/file/data/zeroes", test_zeroes),
        T_FILE("/file/data/status", test_status),
        T_FILE("/file/truncate", test_truncate),
        T_FILE("/file/reopen", test_reopen),
        T_FILE("/file/locks", test_locks),
        T_FILE("/file/locks/create", test_create_locked),
        T_FILE("/file/descriptors", test_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
