/* Protects copy-on-read (block.md 4.3): what a read copies, when it must not, who waits for it, who is marked. */
#include "tests/block/bitmap_probe.h"
#include "tests/block/cow_probe.h"

#define R SIM_OP_READ
#define W SIM_OP_WRITE
#define Z SIM_OP_WRITE_ZEROES
#define C (64 * KiB)
#define COR BDRV_REQ_COPY_ON_READ
#define PREFETCH BDRV_REQ_PREFETCH

/* Reads with flags, and expects the first and the last byte to be value. */
static void read_expect(struct probe *p, int64_t offset, int64_t bytes, uint32_t flags, uint8_t value)
{
    uint8_t *seen = malloc((size_t)bytes);
    struct req r = {.p = p, .op = R, .offset = offset, .bytes = bytes, .flags = flags, .seen = seen};
    spawn(&r);
    settle();
    assert_true(r.done);
    assert_int_equal(r.ret, 0);
    assert_int_equal(seen[0], value);
    assert_int_equal(seen[bytes - 1], value);
    free(seen);
}

struct nowhere {
    struct probe *p;
    int64_t offset;
    int64_t bytes;
    uint32_t flags;
    int ret;
};

static void nowhere_entry(void *opaque)
{
    struct nowhere *n = opaque;
    n->ret = bdrv_co_preadv(blk_root(n->p->blk), n->offset, n->bytes, NULL, n->flags);
}

/* A prefetch without a buffer. */
static int fetch(struct probe *p, int64_t offset, int64_t bytes, uint32_t flags)
{
    struct nowhere n = {.p = p, .offset = offset, .bytes = bytes, .flags = flags, .ret = -EINPROGRESS};
    coroutine_start(coroutine_create(world, host, "prefetch", nowhere_entry, &n));
    settle();
    return n.ret;
}

/* --- marks ------------------------------------------------------------------------------------------------ */

/* fact: bitmaps 2.3/copy-on-read, edge/15; block 4.3/clean */
static void test_marks(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    BdrvDirtyBitmap *top = bitmap_new(c.top, 512, NULL);
    BdrvDirtyBitmap *file = bitmap_new(c.file, 512, NULL);
    BdrvDirtyBitmap *backing = bitmap_new(c.backing, 512, NULL);
    read_expect(c.top, C + 5 * KiB, 512, COR, 0xbb);
    assert_dirty(top, "");
    assert_dirty(file, "64+64 2048+0.5"); /* the cluster, and the driver's own sector */
    assert_dirty(backing, "");
    bitmaps_clear(c.file);
    memset(c.backing->data, 0, (size_t)PROBE_ROOM); /* zeroes go another way */
    assert_int_equal(fetch(c.top, 4 * C, 2 * C, COR | PREFETCH), 0);
    assert_dirty(top, "");
    assert_dirty(file, "256+128 2048+0.5");
    probe_fail(c.top, W, -1, -EIO, 1);
    memset(c.backing->data, 1, (size_t)PROBE_ROOM);
    assert_int_equal(do_req(c.top, R, 8 * C, 512, 0, COR), -EIO);
    assert_dirty(top, ""); /* nor when it fails: what it could have spoilt reads as before, or not at all */
    bitmaps_free(c.top);
    bitmaps_free(c.file);
    bitmaps_free(c.backing);
    cow_chain_free(&c);
}

/* It is no write of the node: neither its generation nor its highest offset move, and a read-only bitmap, which
 * stops writes, does not stop it. */
static void test_no_write(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    BdrvDirtyBitmap *top = bitmap_new(c.top, 512, NULL);
    bdrv_dirty_bitmap_set_readonly(top, true);
    read_expect(c.top, 0, 512, COR, 0xbb);
    assert_true(c.node->allocated[0]);
    assert_int_equal(c.top->bs->write_gen, 0);
    assert_int_equal(c.top->bs->wr_highest_offset, 0);
    bdrv_dirty_bitmap_set_readonly(top, false);
    bitmaps_free(c.top);
    cow_chain_free(&c);
}

/* --- what is copied --------------------------------------------------------------------------------------- */

/* fact: block 4.3/copies */
static void test_content(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    read_expect(c.top, 100, 3000, 0, 0xbb);
    assert_false(c.node->allocated[0]); /* nobody asked for it */
    read_expect(c.top, 100, 3000, COR, 0xbb);
    assert_true(c.node->allocated[0]);
    assert_false(c.node->allocated[1]);
    memset(c.backing->data, 0x11, (size_t)PROBE_ROOM);
    read_expect(c.top, 0, C, 0, 0xbb);
    read_expect(c.top, C, C, 0, 0x11);
    cow_chain_free(&c);
}

/* The node's own switch is counted.
 * fact: block 4.3/copies */
static void test_enabled(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    bdrv_enable_copy_on_read(c.top->bs);
    bdrv_enable_copy_on_read(c.top->bs);
    read_expect(c.top, 0, 512, 0, 0xbb);
    assert_true(c.node->allocated[0]);
    bdrv_disable_copy_on_read(c.top->bs);
    read_expect(c.top, C, 512, 0, 0xbb);
    assert_true(c.node->allocated[1]);
    bdrv_disable_copy_on_read(c.top->bs);
    read_expect(c.top, 2 * C, 512, 0, 0xbb);
    assert_false(c.node->allocated[2]);
    cow_chain_free(&c);
}

/* Whole clusters are read and written at once; the flags say that the content stays.
 * fact: block 4.3/copies */
static void test_widened(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    read_expect(c.top, 2 * C - 512, 1024, COR, 0xbb);
    assert_int_equal(c.top->log_count, 2);
    assert_call(c.top, 0, R, C, 2 * C);
    assert_call(c.top, 1, W, C, 2 * C);
    assert_int_equal(c.top->log[1].flags, BDRV_REQ_WRITE_UNCHANGED);
    cow_chain_free(&c);
}

/* fact: block 4.3/copies */
static void test_subclusters(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C, .subcluster_size = 2 * KiB});
    read_expect(c.top, C + 3 * KiB, 512, COR, 0xbb);
    assert_int_equal(c.top->log_count, 2);
    assert_call(c.top, 0, R, C + 2 * KiB, 2 * KiB);
    assert_call(c.top, 1, W, C + 2 * KiB, 2 * KiB);
    cow_chain_free(&c);
}

/* A node without clusters copies what was read, no more.
 * fact: block 2.5/serialising-cluster */
static void test_no_clusters(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.limits = {.request_alignment = 4096}});
    c.node->unit = 4096;
    read_expect(c.top, 5000, 10, COR, 0xbb);
    assert_int_equal(c.top->log_count, 2);
    assert_call(c.top, 0, R, 4096, 4096);
    assert_call(c.top, 1, W, 4096, 4096);
    cow_chain_free(&c);
}

/* What is there already is read as it is, exactly as far as it was asked for.
 * fact: block 4.3/copies */
static void test_partly_allocated(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    assert_int_equal(do_req(c.top, W, C, C, 0x22, 0), 0);
    assert_int_equal(do_req(c.top, W, 3 * C, C, 0x33, 0), 0);
    c.top->log_count = 0;
    uint8_t *seen = malloc((size_t)(3 * C));
    struct req r = {.p = c.top, .op = R, .offset = C + 512, .bytes = 2 * C, .flags = COR, .seen = seen};
    spawn(&r);
    settle();
    assert_int_equal(r.ret, 0);
    assert_int_equal(c.top->log_count, 4);
    assert_call(c.top, 0, R, C + 512, C - 512);
    assert_call(c.top, 1, R, 2 * C, C);
    assert_call(c.top, 2, W, 2 * C, C);
    assert_call(c.top, 3, R, 3 * C, 512);
    assert_int_equal(seen[0], 0x22);
    assert_int_equal(seen[C - 512 - 1], 0x22);
    assert_int_equal(seen[C - 512], 0xbb);
    assert_int_equal(seen[2 * C - 512 - 1], 0xbb);
    assert_int_equal(seen[2 * C - 512], 0x33);
    free(seen);
    cow_chain_free(&c);
}

/* fact: block 4.3/copies */
static void test_wholly_allocated(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    assert_int_equal(do_req(c.top, W, C, C, 0x22, 0), 0);
    c.top->log_count = 0;
    read_expect(c.top, C + 512, 1024, COR, 0x22);
    assert_int_equal(c.top->log_count, 1);
    assert_call(c.top, 0, R, C + 512, 1024);
    assert_int_equal(fetch(c.top, C, C, COR | PREFETCH), 0);
    assert_int_equal(c.top->log_count, 1); /* not even read */
    cow_chain_free(&c);
}

/* Zeroes become a zero write, whatever detect-zeroes says, and never a hole.
 * fact: block 4.3/zero */
static void test_zeroes(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C, .backing_length = 8 * C});
    memset(c.backing->data + C, 0, (size_t)C);
    c.top->bs->detect_zeroes = BDRV_DETECT_ZEROES_UNMAP;
    read_expect(c.top, C, 512, COR, 0);
    assert_call(c.top, 1, Z, C, C);
    assert_int_equal(c.top->log[1].flags, BDRV_REQ_WRITE_UNCHANGED);
    c.top->bs->detect_zeroes = BDRV_DETECT_ZEROES_OFF;
    read_expect(c.top, 10 * C, 512, COR, 0); /* beyond the backing file's end */
    assert_call(c.top, 3, Z, 10 * C, C);
    assert_content(c.file, C, C, 0);
    assert_content(c.file, 10 * C, C, 0);
    probe_fail(c.top, Z, -1, -ENOTSUP, 1);
    read_expect(c.top, 12 * C, 512, COR, 0); /* a driver that will not: data */
    assert_call(c.top, 6, W, 12 * C, C);
    assert_true(c.node->allocated[12]);
    cow_chain_free(&c);
}

/* --- prefetch --------------------------------------------------------------------------------------------- */

/* fact: block 2.8/prefetch */
static void test_prefetch(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    assert_int_equal(do_req(c.top, W, C, C, 0x22, 0), 0);
    c.top->log_count = 0;
    assert_int_equal(fetch(c.top, 100, 3 * C, COR | PREFETCH), 0);
    assert_int_equal(c.top->log_count, 4);
    assert_call(c.top, 0, R, 0, C);
    assert_call(c.top, 1, W, 0, C);
    assert_call(c.top, 2, R, 2 * C, 2 * C);
    assert_call(c.top, 3, W, 2 * C, 2 * C);
    memset(c.backing->data, 0x11, (size_t)PROBE_ROOM);
    read_expect(c.top, 3 * C, C, 0, 0xbb);
    cow_chain_free(&c);
}

/* Without copy-on-read at the node a prefetch goes to a driver that takes it; to others it is a read.
 * fact: block 2.8/prefetch */
static void test_prefetch_passed_on(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    assert_int_equal(fetch(c.top, 100, 1000, PREFETCH), 0);
    assert_int_equal(c.top->log_count, 1);
    assert_int_equal(c.top->log[0].flags, 0);
    c.top->bs->supported_read_flags = BDRV_REQ_PREFETCH;
    assert_int_equal(fetch(c.top, 100, 1000, PREFETCH), 0);
    assert_int_equal(c.top->log[1].flags, BDRV_REQ_PREFETCH);
    assert_false(c.node->allocated[0]);
    assert_int_equal(fetch(c.top, -1, 1000, PREFETCH), -EIO);
    cow_chain_free(&c);
}

/* --- ends and limits --------------------------------------------------------------------------------------- */

/* bugs.md I03: the last cluster is cut by the end of the image. */
static void test_partial_last_cluster(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C, .length = 100 * KiB});
    read_expect(c.top, 96 * KiB, 4 * KiB, COR, 0xbb);
    assert_int_equal(c.top->log_count, 2);
    assert_call(c.top, 0, R, C, 36 * KiB);
    assert_call(c.top, 1, W, C, 36 * KiB);
    assert_int_equal(c.top->bs->total_bytes, 100 * KiB);
    cow_chain_free(&c);
}

/* The block that the end cuts is not copied: writing all of it would make the node longer.
 * fact: block edge/10 */
static void test_cut_block(void **state)
{
    struct cow_chain c = cow_chain_new(
        (struct cow_spec){.cluster_size = C, .length = 101 * KiB, .limits = {.request_alignment = 4096}});
    read_expect(c.top, 96 * KiB, 5 * KiB, COR, 0xbb);
    assert_int_equal(c.top->log_count, 3);
    assert_call(c.top, 1, W, C, 36 * KiB);
    assert_call(c.top, 2, R, 100 * KiB, 4 * KiB);
    assert_int_equal(c.top->bs->total_bytes, 101 * KiB);
    cow_chain_free(&c);
}

/* Beyond the end a read finds zeroes, and nothing to fill. */
static void test_past_end(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C, .length = 100 * KiB});
    uint8_t seen[2048];
    struct req r = {.p = c.top, .op = R, .offset = 99 * KiB, .bytes = 2 * KiB, .flags = COR, .seen = seen};
    spawn(&r);
    settle();
    assert_int_equal(r.ret, 0);
    assert_int_equal(seen[1023], 0xbb);
    assert_int_equal(seen[1024], 0);
    assert_call(c.top, 1, W, C, 36 * KiB);
    read_expect(c.top, 200 * KiB, 1024, COR, 0);
    assert_int_equal(c.top->log_count, 2);
    assert_int_equal(fetch(c.top, 200 * KiB, 1024, COR | PREFETCH), 0);
    assert_int_equal(fetch(c.top, 0, 0, COR | PREFETCH), 0);
    assert_int_equal(c.top->log_count, 2);
    cow_chain_free(&c);
}

/* A cluster larger than a transfer is copied in parts, also those before the bytes asked for. */
static void test_max_transfer(void **state)
{
    struct cow_chain c = cow_chain_new(
        (struct cow_spec){.cluster_size = C, .limits = {.request_alignment = 512, .max_transfer = 24 * KiB}});
    c.node->unit = 4 * KiB;
    read_expect(c.top, C + 50 * KiB, 512, COR, 0xbb);
    assert_int_equal(c.top->log_count, 6);
    assert_call(c.top, 1, W, C, 24 * KiB);
    assert_call(c.top, 3, W, C + 24 * KiB, 24 * KiB);
    assert_call(c.top, 5, W, C + 48 * KiB, 16 * KiB);
    cow_chain_free(&c);
}

/* --- not copied --------------------------------------------------------------------------------------------- */

/* fact: block 4.3/inactive */
static void test_inactive(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    c.top->bs->open_flags |= BDRV_O_INACTIVE;
    read_expect(c.top, 0, 512, COR, 0xbb);
    assert_int_equal(c.top->log_count, 1);
    assert_call(c.top, 0, R, 0, 512);
    assert_int_equal(fetch(c.top, 0, C, COR | PREFETCH), 0);
    assert_int_equal(c.top->log_count, 1);
    c.top->bs->open_flags &= ~(uint32_t)BDRV_O_INACTIVE;
    cow_chain_free(&c);
}

/* What a misaligned write reads of its own edges is no read that anybody asked for. */
static void test_rmw(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C, .limits = {.request_alignment = 4096}});
    bdrv_enable_copy_on_read(c.top->bs);
    assert_int_equal(do_req(c.top, W, 5000, 10, 0x22, 0), 0);
    assert_int_equal(c.top->log_count, 2);
    assert_call(c.top, 0, R, 4096, 4096);
    assert_call(c.top, 1, W, 4096, 4096);
    assert_int_equal(c.top->log[1].flags, 0);
    bdrv_disable_copy_on_read(c.top->bs);
    cow_chain_free(&c);
}

struct reopen {
    struct probe *p;
    int ret;
    char error[200];
};

static void reopen_main(void *opaque)
{
    struct reopen *r = opaque;
    Error *err = NULL;
    r->ret = bdrv_reopen_set_read_only(r->p->bs, true, &err);
    snprintf(r->error, sizeof(r->error), "%s", err != NULL ? error_get_pretty(err) : "");
    error_free(err);
}

/* fact: block 6/read-only-writers, 1.13/copy-on-read */
static void test_reopen_refused(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    struct reopen r = {.p = c.top};
    bdrv_enable_copy_on_read(c.top->bs);
    probe_main(reopen_main, &r);
    assert_true(r.ret < 0);
    assert_string_equal(r.error, "Can't set node 'top' to r/o with copy-on-read enabled");
    bdrv_disable_copy_on_read(c.top->bs);
    cow_chain_free(&c);
}

/* --- errors ------------------------------------------------------------------------------------------------- */

/* fact: block 4.3/write-error */
static void test_errors(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    probe_fail(c.top, R, -1, -EIO, 1);
    assert_int_equal(do_req(c.top, R, 0, 512, 0, COR), -EIO);
    assert_int_equal(probe_calls(c.top, W), 0);
    probe_fail(c.top, W, -1, -ENOSPC, 1);
    assert_int_equal(do_req(c.top, R, 0, 512, 0, COR), -ENOSPC); /* the bytes were there, but not the copy */
    assert_false(c.node->allocated[0]);
    probe_fail(c.backing, R, -1, -EIO, 1);
    assert_int_equal(fetch(c.top, 0, C, COR | PREFETCH), -EIO);
    probe_fail(c.file, W, -1, -EIO, 1);
    assert_int_equal(fetch(c.top, 0, C, COR | PREFETCH), -EIO);
    probe_fail(c.top, W, 2 * C, -EIO, 1);
    assert_int_equal(do_req(c.top, W, C, C, 0x22, 0), 0);
    assert_int_equal(do_req(c.top, R, 0, 3 * C, 0, COR), -EIO);
    assert_true(c.node->allocated[0]); /* what was copied before stays */
    cow_chain_free(&c);
}

/* Where nobody knows what is allocated, it is copied.
 * fact: block 4.3/query-error */
static void test_status_error(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    probe_fail(c.top, SIM_OP_BLOCK_STATUS, -1, -EIO, 2);
    read_expect(c.top, 512, 512, COR, 0xbb);
    assert_int_equal(probe_calls(c.top, SIM_OP_BLOCK_STATUS), 2);
    assert_int_equal(probe_calls(c.top, W), 1);
    assert_true(c.node->allocated[0]);
    cow_chain_free(&c);
}

/* --- who waits ------------------------------------------------------------------------------------------------ */

/* A write to another sector of a cluster being copied comes after the copy, or the copy would undo it.
 * fact: block 4.3/serialises, 2.5/serialising-cluster */
static void test_write_waits(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    struct req cor = {.p = c.top, .op = R, .offset = 0, .bytes = 512, .flags = COR};
    struct req write = {.p = c.top, .op = W, .offset = 32 * KiB, .bytes = 512, .fill = 0x22};
    struct req other = {.p = c.top, .op = W, .offset = C, .bytes = 512, .fill = 0x33};
    probe_hold(c.top, W, 0);
    spawn(&cor);
    spawn(&write);
    spawn(&other);
    settle();
    assert_false(cor.done);
    assert_false(write.done);
    assert_true(other.done); /* the next cluster is nobody's business */
    probe_release(c.top);
    assert_true(cor.done && write.done);
    assert_true(cor.order < write.order);
    read_expect(c.top, 32 * KiB, 512, 0, 0x22);
    read_expect(c.top, 33 * KiB, 512, 0, 0xbb);
    cow_chain_free(&c);
}

/* The other way round: the copy comes after a write to its cluster that is on its way.
 * fact: block 4.3/serialises */
static void test_waits_for_write(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    struct req write = {.p = c.top, .op = W, .offset = 32 * KiB, .bytes = 512, .fill = 0x22};
    struct req cor = {.p = c.top, .op = R, .offset = 0, .bytes = 512, .flags = COR};
    probe_hold(c.top, W, 32 * KiB);
    spawn(&write);
    settle();
    spawn(&cor);
    settle();
    assert_int_equal(c.top->log_count, 1);
    probe_release(c.top);
    assert_true(write.done && cor.done);
    assert_int_equal(probe_calls(c.top, W), 1); /* the write allocated the cluster: nothing left to copy */
    read_expect(c.top, 32 * KiB, 512, 0, 0x22);
    cow_chain_free(&c);
}

/* fact: block 4.3/serialises */
static void test_copied_once(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = C});
    struct req first = {.p = c.top, .op = R, .offset = 0, .bytes = 512, .flags = COR};
    struct req second = {.p = c.top, .op = R, .offset = 32 * KiB, .bytes = 512, .flags = COR};
    struct req plain = {.p = c.top, .op = R, .offset = 16 * KiB, .bytes = 512};
    spawn(&first);
    spawn(&second);
    spawn(&plain);
    settle();
    assert_true(first.done && second.done && plain.done);
    assert_int_equal(probe_calls(c.top, W), 1);
    cow_chain_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/copy-on-read/marks", test_marks),
        T_NODE("/copy-on-read/no-write", test_no_write),
        T_NODE("/copy-on-read/content", test_content),
        T_NODE("/copy-on-read/enabled", test_enabled),
        T_NODE("/copy-on-read/widened", test_widened),
        T_NODE("/copy-on-read/subclusters", test_subclusters),
        T_NODE("/copy-on-read/no-clusters", test_no_clusters),
        T_NODE("/copy-on-read/partly-allocated", test_partly_allocated),
        T_NODE("/copy-on-read/wholly-allocated", test_wholly_allocated),
        T_NODE("/copy-on-read/zeroes", test_zeroes),
        T_NODE("/copy-on-read/prefetch", test_prefetch),
        T_NODE("/copy-on-read/prefetch/passed-on", test_prefetch_passed_on),
        T_NODE("/copy-on-read/partial-last-cluster", test_partial_last_cluster),
        T_NODE("/copy-on-read/cut-block", test_cut_block),
        T_NODE("/copy-on-read/past-end", test_past_end),
        T_NODE("/copy-on-read/max-transfer", test_max_transfer),
        T_NODE("/copy-on-read/inactive", test_inactive),
        T_NODE("/copy-on-read/rmw", test_rmw),
        T_NODE("/copy-on-read/reopen-refused", test_reopen_refused),
        T_NODE("/copy-on-read/errors", test_errors),
        T_NODE("/copy-on-read/status-error", test_status_error),
        T_NODE("/copy-on-read/write-waits", test_write_waits),
        T_NODE("/copy-on-read/waits-for-write", test_waits_for_write),
        T_NODE("/copy-on-read/copied-once", test_copied_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
