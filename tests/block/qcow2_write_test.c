/* Protects writes of qcow2 images: the order in which metadata reaches the medium, who waits for whom, and that
 * failures leave nothing behind. */
#include "tests/block/qcow2_rig.h"

#include "block/qcow2.h"

#define K ((int64_t)1024)
#define COPIED (1ULL << 63)

/* --- the medium watched -------------------------------------------------------------------------------------- */

/* Changes and flushes of the image's disk as letters, by the place of the structures in a fresh image with clusters
 * of 64 KiB: Header, refcount Table, Refblock, L1 as 1, L2 as 2, Data, Flush. */
static struct {
    struct disk_interposer interposer;
    char log[4096];
    unsigned count;
    int64_t fail_from; /* writes of the disk from there on fail ... */
    int64_t fail_end;
    int fail_ret;
    unsigned fail_count; /* so many times */
} watch;

static char letter(const struct disk_req *req)
{
    static const char place[] = "HTR12";
    int64_t cluster = req->offset / (64 * K);

    if (req->op == SIM_OP_FLUSH) {
        return 'F';
    }
    if (req->op == SIM_OP_DISCARD) {
        return 'd';
    }
    return cluster < 5 ? place[cluster] : 'D';
}

static void watch_before(struct disk_interposer *self, struct disk_req *req)
{
    if (req->op == SIM_OP_WRITE && watch.fail_count > 0 && req->offset >= watch.fail_from &&
        req->offset < watch.fail_end) {
        watch.fail_count--;
        req->ret = watch.fail_ret;
    }
}

static void watch_effect(struct disk_interposer *self, struct disk_req *req)
{
    if (req->op == SIM_OP_WRITE || req->op == SIM_OP_FLUSH || req->op == SIM_OP_DISCARD ||
        req->op == SIM_OP_WRITE_ZEROES) {
        SIM_ASSERT(watch.count + 1 < sizeof(watch.log));
        watch.log[watch.count++] = letter(req);
    }
}

static void begin_watched(struct rig_spec spec)
{
    rig_begin(spec);
    memset(&watch, 0, sizeof(watch));
    watch.interposer.before = watch_before;
    watch.interposer.at_effect = watch_effect;
    disk_add_interposer(rig.disk, &watch.interposer);
}

static void end_watched(unsigned allow)
{
    disk_remove_interposer(rig.disk, &watch.interposer);
    rig_end(allow);
}

/* What happened since the last time. */
static const char *happened(void)
{
    watch.log[watch.count] = '\0';
    watch.count = 0;
    return watch.log;
}

static void fail_writes(int64_t from, int64_t end, int ret, unsigned count)
{
    watch.fail_from = from;
    watch.fail_end = end;
    watch.fail_ret = ret;
    watch.fail_count = count;
}

/* --- order --------------------------------------------------------------------------------------------------- */

/* fact: qcow2 5.5/first-write, 5.5/later-write, 5.5/guest-flush, 5.5/overwrite, 5.5/fua */
static void test_order(void **state)
{
    begin_watched((struct rig_spec){.size = MiB});
    IO(OP_WRITE, 0, 64 * K, 0x11);
    assert_string_equal(happened(), "RF2F1FD");
    IO(OP_WRITE, 64 * K, 64 * K, 0x22);
    assert_string_equal(happened(), "D");
    IO(OP_FLUSH, 0, 0, 0);
    assert_string_equal(happened(), "RF2F");
    IO(OP_WRITE, 0, 512, 0x33);
    assert_string_equal(happened(), "D");
    IO(OP_FLUSH, 0, 0, 0);
    assert_string_equal(happened(), "F");
    struct rq fua = {.op = OP_WRITE, .offset = 128 * K, .bytes = 64 * K, .fill = 0x44, .flags = BDRV_REQ_FUA};
    spawn(&fua);
    settle();
    assert_string_equal(happened(), "DRF2F");
    end_watched(0);
}

/* The entry that drops the cluster is stable before its count is, and only then does the host hear of it.
 * fact: qcow2 5.5/discard, 6/early-reuse */
static void test_order_discard(void **state)
{
    begin_watched((struct rig_spec){.size = MiB});
    IO(OP_WRITE, 0, 64 * K, 0x11);
    IO(OP_FLUSH, 0, 0, 0);
    happened();
    IO(OP_DISCARD, 0, 64 * K, 0);
    assert_string_equal(happened(), "");
    IO(OP_FLUSH, 0, 0, 0);
    assert_string_equal(happened(), "2FRFdF");
    end_watched(0);
}

/* fact: qcow2 5.5/lazy, 5.5/lazy-close */
static void test_order_lazy(void **state)
{
    begin_watched((struct rig_spec){.create = "lazy_refcounts=on", .size = MiB});
    IO(OP_WRITE, 0, 64 * K, 0x11);
    assert_string_equal(happened(), "RF2F1FDHF");
    IO(OP_FLUSH, 0, 0, 0);
    assert_string_equal(happened(), "2F"); /* the data became stable with the header */
    IO(OP_WRITE, 64 * K, 64 * K, 0x22);
    assert_string_equal(happened(), "D");
    IO(OP_FLUSH, 0, 0, 0);
    assert_string_equal(happened(), "F2F"); /* the data before the entry, though no count is written */
    IO(OP_WRITE, 128 * K, 64 * K, 0x33);
    assert_string_equal(happened(), "D");
    in_main(rig_close_node, NULL);
    assert_string_equal(happened(), "F2FRFHF");
    disk_remove_interposer(rig.disk, &watch.interposer);
    host_delete(host);
    rig_judge(0);
    sim_delete(world);
}

/* --- allocation ---------------------------------------------------------------------------------------------- */

/* fact: qcow2 5.4/contiguous, 5.4/first-fit */
static void test_contiguous(void **state)
{
    rig_begin((struct rig_spec){.size = MiB});
    IO(OP_WRITE, 0, 64 * K, 0x11);
    IO(OP_WRITE, 512 * K, 64 * K, 0x22);
    IO(OP_DISCARD, 0, 64 * K, 0);
    IO(OP_FLUSH, 0, 0, 0);
    /* The cluster that is free now is too small for two; and the second of a request goes behind its first. */
    IO(OP_WRITE, 448 * K, 192 * K, 0x33);
    assert_int_equal(entry(448 * K), COPIED | 0x50000);
    assert_int_equal(entry(512 * K), COPIED | 0x60000);
    assert_int_equal(entry(576 * K), COPIED | 0x70000);
    IO(OP_WRITE, 128 * K, 128 * K, 0x44);
    assert_int_equal(entry(128 * K), COPIED | 0x80000);
    assert_int_equal(entry(192 * K), COPIED | 0x90000);
    rig_end(0);
}

/* Two writes into one cluster that is not there yet: one allocates, the other finds it, and both are in it.
 * fact: qcow2 5.4/one-allocation */
static void test_one_allocation(void **state)
{
    begin_watched((struct rig_spec){.size = MiB, .backing = MiB});
    struct rq a = {.op = OP_WRITE, .offset = 4 * K, .bytes = 4 * K, .fill = 0x11};
    struct rq b = {.op = OP_WRITE, .offset = 32 * K, .bytes = 64 * K, .fill = 0x22}; /* and into the next */
    spawn(&a);
    spawn(&b);
    settle();
    assert_int_equal(a.ret, 0);
    assert_int_equal(b.ret, 0);
    READS(0, 4 * K, RIG_BELOW);
    READS(4 * K, 4 * K, 0x11);
    READS(8 * K, 24 * K, RIG_BELOW);
    READS(32 * K, 64 * K, 0x22);
    READS(96 * K, 32 * K, RIG_BELOW);
    assert_int_equal(entry(0), COPIED | 0x50000);
    assert_int_equal(entry(64 * K), COPIED | 0x60000);
    end_watched(0);
}

/* A write that has been cut off before a cluster which somebody else allocates goes on there when that is done.
 * fact: qcow2 5.4/one-allocation */
static void test_cut_off(void **state)
{
    rig_begin((struct rig_spec){.size = MiB, .backing = MiB});
    struct rq a = {.op = OP_WRITE, .offset = 128 * K, .bytes = 512, .fill = 0x11};
    struct rq b = {.op = OP_WRITE, .offset = 0, .bytes = 256 * K, .fill = 0x22};
    spawn(&a);
    spawn(&b);
    settle();
    READS(0, 128 * K, 0x22);
    READS(128 * K + 512, 128 * K - 512, 0x22);
    rig_end(0);
}

/* --- failures ------------------------------------------------------------------------------------------------ */

/* The first of two fails: the other one goes on, and the clusters are not lost.
 * fact: qcow2 5.4/one-allocation */
static void test_failure_wakes(void **state)
{
    begin_watched((struct rig_spec){.size = MiB});
    IO(OP_WRITE, 0, 64 * K, 0x11);
    fail_writes(0x60000, 1 * MiB, -EIO, 1);
    struct rq a = {.op = OP_WRITE, .offset = 64 * K, .bytes = 512, .fill = 0x22};
    struct rq b = {.op = OP_WRITE, .offset = 65 * K, .bytes = 512, .fill = 0x33};
    spawn(&a);
    spawn(&b);
    settle();
    assert_true(a.done && b.done);
    assert_int_equal(a.ret, -EIO);
    assert_int_equal(b.ret, 0);
    READS(64 * K, K, 0);
    READS(65 * K, 512, 0x33);
    assert_int_equal(entry(64 * K), COPIED | 0x60000); /* the failed one's place */
    end_watched(0);
}

/* fact: qcow2 5.4/one-allocation */
static void test_failures_leak_nothing(void **state)
{
    begin_watched((struct rig_spec){.size = MiB});
    IO(OP_WRITE, 0, 64 * K, 0x11);
    fail_writes(0x50000, 16 * MiB, -ENOSPC, 100);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(io(OP_WRITE, 64 * K + i % 8 * 64 * K, 64 * K, 0x22), -ENOSPC);
    }
    assert_int_equal(watch.fail_count, 0);
    IO(OP_WRITE, 64 * K, 64 * K, 0x33);
    assert_int_equal(entry(64 * K), COPIED | 0x60000);
    end_watched(0);
}

/* The entry cannot be changed: nobody waits for ever, the cluster is free again, the next try works. Tables of 512
 * bytes and two of them in the cache: the second write has to read its own again, which fails.
 * fact: qcow2 5.4/one-allocation */
static void test_table_failures(void **state)
{
    for (int64_t at = 0; at < 16 * 64 * K; at += 64 * K) {
        begin_watched((struct rig_spec){.size = MiB});
        fail_writes(at, at + 64 * K, -EIO, 1);
        struct rq a = {.op = OP_WRITE, .offset = 0, .bytes = 512, .fill = 0x22};
        struct rq b = {.op = OP_WRITE, .offset = K, .bytes = 512, .fill = 0x33};
        spawn(&a);
        spawn(&b);
        settle();
        assert_true(a.done && b.done);
        assert_true(a.ret == 0 || a.ret == -EIO);
        assert_true(b.ret == 0 || b.ret == -EIO);
        int flushed = io(OP_FLUSH, 0, 0, 0);
        assert_true(flushed == 0 || flushed == -EIO);
        watch.fail_count = 0;
        IO(OP_WRITE, 0, 512, 0x22);
        IO(OP_WRITE, K, 512, 0x33);
        READS(0, 512, 0x22);
        READS(512, 512, 0);
        READS(K, 512, 0x33);
        end_watched(0);
    }
}

/* --- tables -------------------------------------------------------------------------------------------------- */

#define SNAPSHOT "qemu-io -f qcow2 -c 'write -q -P 0x11 0 192k' $F && qemu-img snapshot -c one $F"

/* A table that a snapshot shares is copied, then named, then given up; the snapshot keeps what it had.
 * fact: qcow2 5.5/dependencies */
static void test_shared_table(void **state)
{
    begin_watched((struct rig_spec){.size = MiB, .prepare = SNAPSHOT});
    struct payload old;
    IO(OP_WRITE, 64 * K, 512, 0x22);
    IO(OP_ZERO, 128 * K, 64 * K, 0);
    READS(0, 64 * K, 0x11);
    READS(64 * K, 512, 0x22);
    READS(64 * K + 512, 63 * K + 512, 0x11);
    READS(128 * K, 64 * K, 0);
    IO(OP_FLUSH, 0, 0, 0);
    payload_init(world, &old);
    struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(rig.disk));
    assert_true(qcow2_image_view(image, 0, 0, 192 * K, NULL, NULL, &old));
    for (int64_t i = 0; i < 192 * K; i += 512) {
        assert_int_equal(payload_sector_id(&old, i / 512), sim_sector_id_fill(0x11));
    }
    qcow2_image_free(image);
    payload_clear(&old);
    end_watched(0);
}

/* The copy is on the medium before L1 names it, L1 before the old table's count falls.
 * fact: qcow2 5.5/dependencies, edge/43 */
static void test_shared_table_order(void **state)
{
    rig_begin((struct rig_spec){.size = MiB, .prepare = SNAPSHOT});
    memset(&watch, 0, sizeof(watch));
    watch.interposer.at_effect = watch_effect;
    disk_add_interposer(rig.disk, &watch.interposer);
    IO(OP_WRITE, 64 * K, 512, 0x22);
    const char *log = happened();
    /* The new table is a cluster behind the first five: D. */
    assert_int_equal(strncmp(log, "RFDF1F", 6), 0);
    assert_null(strchr(log + 6, '1'));
    end_watched(0);
}

static void grow(void *opaque)
{
    *(int *)opaque = blk_co_truncate(rig.blk, MiB, true, PREALLOC_OFF, 0, NULL);
}

/* An empty disk has no L1 table; a larger one is complete before the header names it.
 * fact: qcow2 5.5/l1-growth */
static void test_l1_growth(void **state)
{
    int ret = 1;
    begin_watched((struct rig_spec){.size = 0});
    coroutine_start(coroutine_create(world, host, "grow", grow, &ret));
    settle();
    assert_int_equal(ret, 0);
    assert_int_equal(strncmp(happened(), "RF1FHF", 6), 0);
    IO(OP_WRITE, 512 * K, 64 * K, 0x11);
    READS(0, 512 * K, 0);
    READS(512 * K, 64 * K, 0x11);
    end_watched(0);
}

static void poke64(int64_t offset, uint64_t value)
{
    uint8_t raw[8];
    struct payload p;

    qcow2_put_be64(raw, value);
    payload_init(world, &p);
    payload_append_bytes(&p, raw, 8);
    disk_poke(rig.disk, offset, &p);
    payload_clear(&p);
}

/* An entry that makes no sense is not written through: the image is marked and the node of no use any more, for
 * those too who wait. fact: qcow2 5.8/runtime */
static void test_bad_entry(void **state)
{
    rig_begin((struct rig_spec){.size = MiB});
    IO(OP_WRITE, 0, 64 * K, 0x11);
    IO(OP_FLUSH, 0, 0, 0);
    rig_close();
    poke64(4 * 64 * K, COPIED | 0x50200);
    rig_boot("h2");
    struct rq first = {.op = OP_WRITE, .offset = 64 * K, .bytes = 512, .fill = 0x33};
    struct rq bad = {.op = OP_WRITE, .offset = 0, .bytes = 512, .fill = 0x22};
    struct rq other = {.op = OP_WRITE, .offset = 65 * K, .bytes = 512, .fill = 0x22};
    spawn(&first);
    spawn(&other);
    spawn(&bad);
    settle();
    assert_int_equal(bad.ret, -EIO);
    assert_int_equal(first.ret, -ENOMEDIUM);
    assert_int_equal(other.ret, -ENOMEDIUM);
    assert_int_equal(io(OP_WRITE, 128 * K, 512, 0x22), -ENOMEDIUM);
    assert_int_equal(medium64(72) & 2, 2); /* corrupt */
    rig_close();
    sim_delete(world);
}

/* fact: qcow2 5.2/normal */
static void test_clusters_512(void **state)
{
    rig_begin((struct rig_spec){.create = "cluster_size=512", .size = 2 * MiB, .open = "'l2-cache-size':1024"});
    struct rq r[3];
    for (unsigned i = 0; i < 3; i++) { /* three tables, two in the cache */
        r[i] = (struct rq){.op = OP_WRITE, .offset = i * 256 * K + 100, .bytes = 40 * K, .fill = (uint8_t)(i + 1)};
        spawn(&r[i]);
    }
    settle();
    for (unsigned i = 0; i < 3; i++) {
        assert_true(r[i].done && r[i].ret == 0);
        READS(i * 256 * K, 100, 0);
        READS(i * 256 * K + 100, 40 * K, (uint8_t)(i + 1));
        READS(i * 256 * K + 100 + 40 * K, 412, 0);
    }
    IO(OP_FLUSH, 0, 0, 0);
    assert_int_equal(qemu_img_check(), 0);
    rig_end(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/write/order", test_order),
        T("/qcow2/write/order-discard", test_order_discard),
        T("/qcow2/write/order-lazy", test_order_lazy),
        T("/qcow2/write/contiguous", test_contiguous),
        T("/qcow2/write/one-allocation", test_one_allocation),
        T("/qcow2/write/cut-off", test_cut_off),
        T("/qcow2/write/failure-wakes", test_failure_wakes),
        T("/qcow2/write/failures-leak-nothing", test_failures_leak_nothing),
        T("/qcow2/write/table-failures", test_table_failures),
        T("/qcow2/write/shared-table", test_shared_table),
        T("/qcow2/write/shared-table-order", test_shared_table_order),
        T("/qcow2/write/l1-growth", test_l1_growth),
        T("/qcow2/write/bad-entry", test_bad_entry),
        T("/qcow2/write/clusters-512", test_clusters_512),
    };
    return cmocka_run_group_tests_name("qcow2 writes", tests, NULL, NULL);
}
