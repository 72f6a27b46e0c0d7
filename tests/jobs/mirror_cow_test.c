/* Protects mirrors onto images: whole clusters first, pieces that fit the target, what a target holds that was not
 * empty (reference/jobs.md 4.3, 4.5). */
#include "tests/jobs/mirror_world.h"

#define CLUSTER (64 * KiB)
#define DISK_BYTES (MiB)
#define TAIL " S:waiting S:pending COMPLETED S:concluded S:null"

/* --- images --------------------------------------------------------------------------------------------- */

struct image {
    const char *disk; /* its medium, and its node's name */
    int64_t bytes;
    int64_t cluster;     /* 0: default */
    const char *backing; /* file in the header; NULL: none */
    bool attach;
    BlockDriverState *bs;
};

struct making {
    struct qvalue *options;
    Error *err;
    int ret;
    bool done;
};

static void making_entry(void *opaque)
{
    struct making *m = opaque;

    m->ret = bdrv_co_create(host, m->options, &m->err);
    m->done = true;
}

static bool making_done(void *opaque)
{
    return ((struct making *)opaque)->done;
}

static void open_image(void *opaque)
{
    struct image *image = opaque;
    struct qvalue *options = qvalue_dict();
    Error *err = NULL;

    qdict_put(options, "driver", qvalue_str("qcow2"));
    qdict_put(options, "node-name", qvalue_str(image->disk));
    qdict_put(options, "discard", qvalue_str("unmap"));
    qdict_put_path(options, "file.driver", qvalue_str("disk"));
    qdict_put_path(options, "file.disk", qvalue_str(image->disk));
    if (!image->attach) {
        qdict_put(options, "backing", qvalue_null());
    }
    image->bs = qmp_blockdev_add_node(host, options, &err);
    if (image->bs == NULL) {
        fail_msg("blockdev-add: %s", error_get_pretty(err));
    }
    qvalue_free(options);
}

static BlockDriverState *add_image(struct image *image)
{
    struct making m = {.options = qvalue_dict()};

    new_disk(image->disk, 0, 0);
    qdict_put(m.options, "driver", qvalue_str("qcow2"));
    qdict_put_path(m.options, "file.driver", qvalue_str("disk"));
    qdict_put_path(m.options, "file.disk", qvalue_str(image->disk));
    qdict_put(m.options, "size", qvalue_int(image->bytes));
    if (image->cluster != 0) {
        qdict_put(m.options, "cluster-size", qvalue_int(image->cluster));
    }
    if (image->backing != NULL) {
        qdict_put(m.options, "backing-file", qvalue_str(image->backing));
        qdict_put(m.options, "backing-fmt", qvalue_str("raw"));
    }
    coroutine_start(coroutine_create(world, host, "create", making_entry, &m));
    assert_int_equal(sim_run_idle(world, making_done, &m, INT64_MAX), SIM_STOP_COND);
    if (m.ret < 0) {
        fail_msg("create: %s", error_get_pretty(m.err));
    }
    qvalue_free(m.options);
    on_main(open_image, image);
    return image->bs;
}

/* Source "s" with small clusters over "base", which holds stamps; the target "d" will stand there too. */
static void image_world(int64_t target_cluster, const char *target_backing, bool attach)
{
    struct image source = {.disk = "s", .bytes = DISK_BYTES, .cluster = 4 * KiB, .backing = "base", .attach = true};
    struct image target = {
        .disk = "d", .bytes = DISK_BYTES, .cluster = target_cluster, .backing = target_backing, .attach = attach};

    src_disk = new_disk("base", DISK_BYTES, 0);
    stamp_source(DISK_BYTES);
    src = add_image(&source);
    dst = add_image(&target);
    on_main(guest_entry, NULL);
    default_args();
    args.granularity = 4 * KiB;
    args.sync = MIRROR_SYNC_TOP;
    args.zero_target = false;
}

static void assert_same_view(int64_t offset, int64_t bytes)
{
    struct payload a, b;

    payload_init(world, &a);
    payload_init(world, &b);
    assert_int_equal(bdrv_peek(src, offset, bytes, &a), 0);
    assert_int_equal(bdrv_peek(dst, offset, bytes, &b), 0);
    assert_true(payload_equal(&a, 0, &b, 0, bytes));
    payload_clear(&a);
    payload_clear(&b);
}

static bool target_has(int64_t offset)
{
    struct payload p;
    bool zero;

    payload_init(world, &p);
    assert_int_equal(bdrv_peek(dst, offset, 512, &p), 0);
    zero = payload_is_zero(&p, 0, 512);
    payload_clear(&p);
    return !zero;
}

static void end_softly(Job *job)
{
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    assert_non_null(strstr(trail, TAIL));
    assert_clean(src);
}

struct op_log {
    int count[MIRROR_METHOD_COUNT];
    int64_t offset, bytes; /* the last copy */
    int64_t most;
};

static void note_op(void *opaque, const struct sim_record *r)
{
    struct op_log *log = opaque;

    log->count[r->field[1] == SIM_OP_WRITE ? 0 : r->field[1] == SIM_OP_WRITE_ZEROES ? 1 : 2]++;
    if (r->field[1] == SIM_OP_WRITE) {
        log->offset = (int64_t)r->field[2];
        log->bytes = (int64_t)r->field[3];
        log->most = MAX(log->most, log->bytes);
    }
}

/* --- clusters ------------------------------------------------------------------------------------------- */

/* A small first write takes its whole cluster from the chain of the source: what the backing file will not show is
 * there. Without that the rest of the cluster would be zeroes for ever.
 *
 * fact: jobs 4.5/widen, 4.5/accounts, 4.3/cow-bitmap, edge/31, edge/32, seed/b812f67; bitmaps 2.6/whole-clusters */
static void test_widen(void **state)
{
    struct op_log log = {.bytes = 0};

    image_world(CLUSTER, "base", false);
    sim_subscribe(world, EV_mirror_op_begin, note_op, &log);
    Job *job = start();
    wait_trail("READY");
    assert_non_null(mirror_of(job)->cow_done);
    int64_t before = job->progress_current;
    guest_write(CLUSTER + 8 * KiB, 4 * KiB, 0x21);
    run_for(NS_PER_S);
    assert_int_equal(log.offset, CLUSTER);
    assert_int_equal(log.bytes, CLUSTER);
    assert_int_equal(job->progress_current, before + CLUSTER);
    assert_same_view(CLUSTER, CLUSTER);
    assert_false(target_has(0));
    assert_false(target_has(2 * CLUSTER));
    /* from now on the cluster is whole */
    guest_write(CLUSTER + 16 * KiB, 4 * KiB, 0x22);
    run_for(NS_PER_S);
    assert_int_equal(log.bytes, 4 * KiB);
    assert_same_view(CLUSTER, CLUSTER);
    end_softly(job);
}

/* fact: jobs 4.3/cow-bitmap, edge/31 */
static void test_when(void **state)
{
    static const struct {
        const char *backing;
        bool attach;
        uint32_t granularity;
        bool cow;
    } cases[] = {
        {"base", false, 4 * KiB, true}, {"base", false, CLUSTER, false}, {"base", true, 4 * KiB, false},
        {NULL, false, 4 * KiB, false},  {"base", false, 32 * KiB, true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        world_setup(NULL);
        image_world(CLUSTER, cases[i].backing, cases[i].attach);
        args.granularity = cases[i].granularity;
        args.buf_size = 4 * KiB;
        Job *job = start();
        wait_trail("READY");
        assert_int_equal(mirror_of(job)->cow_done != NULL, cases[i].cow);
        assert_int_equal(mirror_of(job)->buf_bytes, cases[i].cow ? CLUSTER : MAX(cases[i].granularity, 4 * KiB));
        end_softly(job);
        world_teardown(NULL);
    }
}

/* What the buffer takes is cut to whole clusters; and one that is larger than any vector of the granularity's
 * pieces goes as one (the original's cut comes to nothing there).
 *
 * fact: jobs 4.5/cut */
static void test_cut(void **state)
{
    struct op_log log = {.bytes = 0};

    image_world(CLUSTER, "base", false);
    sim_subscribe(world, EV_mirror_op_begin, note_op, &log);
    args.buf_size = 5 * CLUSTER / 2;
    guest_write(4 * KiB, 8 * CLUSTER, 0x31);
    Job *job = start();
    wait_trail("READY");
    assert_int_equal(log.most, 2 * CLUSTER);
    assert_same_view(0, 9 * CLUSTER);
    end_softly(job);
}

/* fact: jobs 4.5/cut */
static void test_cluster_beyond_vector(void **state)
{
    struct op_log log = {.bytes = 0};

    image_world(2 * MiB, "base", false);
    sim_subscribe(world, EV_mirror_op_begin, note_op, &log);
    args.granularity = 512;
    guest_write(DISK_BYTES - 512, 512, 0x32);
    Job *job = start();
    wait_trail("READY");
    /* the only cluster, as far as the disk goes */
    assert_int_equal(log.most, DISK_BYTES);
    assert_same_view(0, DISK_BYTES);
    end_softly(job);
}

/* A failed copy leaves its cluster to be filled by the next. */
static void test_failed_copy(void **state)
{
    struct op_log log = {.bytes = 0};
    static struct failing rule;

    image_world(CLUSTER, "base", false);
    args.on_source_error = BLOCKDEV_ON_ERROR_IGNORE;
    Job *job = start();
    wait_trail("READY");
    sim_subscribe(world, EV_mirror_op_begin, note_op, &log);
    rule = (struct failing){.op = SIM_OP_READ, .offset = -1, .error = -EIO, .count = 1};
    fail_requests(&rule, src_disk);
    guest_write(CLUSTER, 4 * KiB, 0x33);
    run_for(NS_PER_S);
    assert_non_null(strstr(trail, "ERROR(read,ignore)"));
    assert_true(log.count[0] >= 2);
    assert_int_equal(log.most, CLUSTER);
    assert_same_view(CLUSTER, CLUSTER);
    end_softly(job);
}

/* A write to both sides into a cluster that is not whole yet would fill the rest with zeroes, as the original does:
 * it is the background's. */
static void test_active_partial(void **state)
{
    image_world(CLUSTER, "base", false);
    args.copy_mode = MIRROR_COPY_WRITE_BLOCKING;
    Job *job = start();
    wait_trail("READY");
    guest_write(CLUSTER + 4 * KiB, 4 * KiB, 0x41);
    assert_int_equal(sim_mark_hits(world, MARK_mirror_active_partial_cluster), 1);
    assert_int_equal(bdrv_get_dirty_count(mirror_dirty_bitmap(job)), 4 * KiB);
    run_for(NS_PER_S);
    assert_same_view(CLUSTER, CLUSTER);
    /* whole clusters, and parts of whole ones */
    guest_write(2 * CLUSTER, CLUSTER, 0x42);
    guest_write(CLUSTER + 8 * KiB, 4 * KiB, 0x43);
    guest_write(2 * CLUSTER + 8 * KiB, 4 * KiB, 0x44);
    assert_int_equal(bdrv_get_dirty_count(mirror_dirty_bitmap(job)), 0);
    assert_int_equal(sim_mark_hits(world, MARK_mirror_active_partial_cluster), 1);
    assert_same_view(CLUSTER, 2 * CLUSTER);
    end_softly(job);
}

/* --- what fits the target ------------------------------------------------------------------------------- */

/* Zeroes that are whole clusters go as such, parts of clusters as data: neighbours stay.
 *
 * fact: jobs 4.4/aligned, edge/33 */
static void test_aligned(void **state)
{
    struct guest_io part = {.offset = CLUSTER + 8 * KiB, .bytes = 8 * KiB, .fill = -2};
    struct guest_io whole = {.offset = 4 * CLUSTER, .bytes = CLUSTER, .fill = -2};
    struct op_log log = {.bytes = 0};

    image_world(CLUSTER, NULL, false);
    args.sync = MIRROR_SYNC_FULL;
    Job *job = start();
    wait_trail("READY");
    sim_subscribe(world, EV_mirror_op_begin, note_op, &log);
    guest_submit_io(&part);
    run_for(NS_PER_S);
    assert_int_equal(log.count[MIRROR_METHOD_COPY], 1);
    assert_int_equal(log.count[MIRROR_METHOD_ZERO], 0);
    assert_int_equal(log.bytes, 8 * KiB);
    guest_submit_io(&whole);
    run_for(NS_PER_S);
    assert_int_equal(log.count[MIRROR_METHOD_ZERO], 1);
    assert_true(part.done && whole.done);
    assert_same_view(0, DISK_BYTES);
    end_softly(job);
}

/* A target that is zeroed first does not show its own backing file afterwards, old format or new. */
static void test_zeroed_over_backing(void **state)
{
    image_world(CLUSTER, "base", false);
    args.sync = MIRROR_SYNC_FULL;
    args.zero_target = true;
    struct guest_io all = {.offset = 0, .bytes = DISK_BYTES, .fill = -2};
    guest_submit_io(&all);
    run_for(NS_PER_S);
    assert_true(all.done);
    Job *job = start();
    wait_trail("READY");
    assert_string_equal(verb(job, verb_cancel_soft), "");
    settle();
    del_node("d");
    struct image again = {.disk = "d", .attach = true};
    on_main(open_image, &again);
    dst = again.bs;
    assert_same_view(0, DISK_BYTES);
    assert_clean(src);
}

static void note_remaining(void *opaque, const struct sim_record *r)
{
    const Job *job = job_find(host, "m");

    *(int64_t *)opaque = MAX(*(int64_t *)opaque, job->progress_current);
}

/* What is zeroed to begin with is no progress and costs nothing.
 *
 * fact: jobs 1.7/mirror-zeroing, 3/zero-free */
static void test_zeroing_is_free(void **state)
{
    int64_t most = 0;

    image_world(CLUSTER, NULL, false);
    args.sync = MIRROR_SYNC_FULL;
    args.zero_target = true;
    args.speed = 1;
    struct guest_io all = {.offset = 0, .bytes = DISK_BYTES, .fill = -2};
    guest_submit_io(&all);
    run_for(NS_PER_S);
    sim_subscribe(world, EV_mirror_op_end, note_remaining, &most);
    Job *job = start();
    int64_t begun = sim_now(world);
    wait_trail("READY");
    assert_int_equal(sim_mark_hits(world, MARK_mirror_zero_target), 1);
    assert_true(sim_now(world) - begun < NS_PER_S);
    assert_true(most <= DISK_BYTES);
    end_softly(job);
}

/* No unmapping by zeroes: the whole disk is copied, or old garbage would stay where the source has nothing.
 *
 * fact: jobs 4.3/whole-dirty, edge/34 */
static void test_whole_dirty(void **state)
{
    struct payload data;

    mirror_world(MiB, MiB, 0);
    payload_init(world, &data);
    payload_append_fill(&data, 0xee, MiB);
    disk_poke(dst_disk, 0, &data);
    payload_clear(&data);
    dst->open_flags &= ~(uint32_t)BDRV_O_UNMAP;
    guest_write(0, 4096, 0x11);
    Job *job = start();
    wait_trail("READY");
    assert_int_equal(sim_mark_hits(world, MARK_mirror_zero_target), 0);
    assert_int_equal(job->progress_current, MiB);
    assert_same_disks(MiB);
    dst->open_flags |= BDRV_O_UNMAP;
    end_softly(job);
}

/* --- what is asked -------------------------------------------------------------------------------------- */

static int no_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    return -EIO;
}

/* The original takes a failure for clusters of 512 bytes: it would neither fill clusters nor align what it zeroes.
 *
 * fact: jobs 4.3/info-checked, seed/c3cc95b */
static void test_info_fails(void **state)
{
    BlockDriver failing_driver;

    mirror_world(4 * CLUSTER, 4 * CLUSTER, 0);
    const BlockDriver *plain = dst->drv;
    failing_driver = *plain;
    failing_driver.bdrv_co_get_info = no_info;
    dst->drv = &failing_driver;
    start();
    settle();
    assert_string_equal(trail, "S:created S:running S:aborting COMPLETED(Input/output error) S:concluded S:null");
    dst->drv = plain;
    assert_clean(src);
}

/* top is the source's own layer; with full all layers are looked at. The base is found when the job starts.
 *
 * fact: jobs 4.3/scan, seed/5bc361b, seed/4f57863 */
static void test_scan(void **state)
{
    for (int full = 0; full < 2; full++) {
        world_setup(NULL);
        image_world(CLUSTER, full ? NULL : "base", false);
        args.sync = full ? MIRROR_SYNC_FULL : MIRROR_SYNC_TOP;
        guest_write(3 * CLUSTER, CLUSTER, 0x51);
        Job *job = start();
        assert_ptr_equal(mirror_of(job)->base, full ? NULL : bdrv_cow_bs(src));
        wait_trail("READY");
        assert_true(target_has(3 * CLUSTER));
        assert_int_equal(target_has(0), full);
        assert_int_equal(job->progress_current, full ? DISK_BYTES : CLUSTER);
        end_softly(job);
        world_teardown(NULL);
    }
}

static const BlockDriver *quick;

static int slow_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                       int64_t *map, BlockDriverState **file)
{
    int ret = quick->bdrv_co_block_status(bs, want_zero, offset, bytes, pnum, map, file);

    co_sleep_ns(world, 10 * NS_PER_MS);
    return ret;
}

/* The scan has passed an area as unallocated when the guest writes there, and has more to look at. The original
 * marks nothing before it is through with all of the disk: the write never reaches the target.
 *
 * fact: jobs 4.2/track-first, edge/3 */
static void test_write_during_scan(void **state)
{
    BlockDriver slow;

    image_world(CLUSTER, "base", false);
    guest_write(8 * CLUSTER, CLUSTER, 0x61);
    guest_write(12 * CLUSTER, CLUSTER, 0x62);
    quick = src->drv;
    slow = *quick;
    slow.bdrv_co_block_status = slow_status;
    src->drv = &slow;
    Job *job = start();
    BdrvDirtyBitmap *bitmap = mirror_dirty_bitmap(job);
    while (!bdrv_dirty_bitmap_get(bitmap, 8 * CLUSTER)) {
        assert_true(sim_now(world) < NS_PER_S);
        run_for(NS_PER_MS);
    }
    assert_false(bdrv_dirty_bitmap_get(bitmap, CLUSTER));
    guest_write(CLUSTER, CLUSTER, 0x63);
    assert_false(bdrv_dirty_bitmap_get(bitmap, 12 * CLUSTER));
    wait_trail("READY");
    assert_true(bdrv_get_dirty_count(bitmap) == 0);
    assert_same_view(CLUSTER, CLUSTER);
    assert_same_view(8 * CLUSTER, CLUSTER);
    assert_same_view(12 * CLUSTER, CLUSTER);
    src->drv = quick;
    end_softly(job);
}

#define MIRROR_TEST(path, fn) T_SETUP(path, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MIRROR_TEST("/mirror/cow/seed/b812f67/widened", test_widen),
        {"/mirror/cow/when", test_when, NULL, NULL, NULL},
        MIRROR_TEST("/mirror/cow/cut-to-clusters", test_cut),
        MIRROR_TEST("/mirror/cow/cluster-beyond-vector", test_cluster_beyond_vector),
        MIRROR_TEST("/mirror/cow/failed-copy", test_failed_copy),
        MIRROR_TEST("/mirror/cow/active-in-part", test_active_partial),
        MIRROR_TEST("/mirror/image/aligned", test_aligned),
        MIRROR_TEST("/mirror/image/zeroed-over-backing", test_zeroed_over_backing),
        MIRROR_TEST("/mirror/image/zeroing-is-free", test_zeroing_is_free),
        MIRROR_TEST("/mirror/image/whole-disk-dirty", test_whole_dirty),
        MIRROR_TEST("/mirror/image/seed/c3cc95b/info-fails", test_info_fails),
        MIRROR_TEST("/mirror/image/write-during-scan", test_write_during_scan),
        {"/mirror/image/seed/5bc361b/4f57863/scan", test_scan, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
