/* Protects what mirror has to do with dirty bitmaps: its own one's granularity and rounds, other people's marks. */
#include "tests/jobs/mirror_world.h"

static BdrvDirtyBitmap *watch;

static void watch_target(void *opaque)
{
    watch = bdrv_create_dirty_bitmap(dst, 4096, "watch", NULL);
    assert_non_null(watch);
}

static void unwatch(void *opaque)
{
    bdrv_release_dirty_bitmap(watch);
}

static void cancel_clean(Job *job)
{
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    assert_clean(src);
}

/* --- granularity ------------------------------------------------------------------------------------------ */

static int64_t cluster_bytes;

static int info_of_clusters(BlockDriverState *bs, BlockDriverInfo *info)
{
    *info = (BlockDriverInfo){.cluster_size = cluster_bytes};
    return 0;
}

/* The node's driver from now on says that it has clusters. */
static void give_clusters(BlockDriverState *bs, BlockDriver *copy)
{
    *copy = *bs->drv;
    copy->bdrv_co_get_info = info_of_clusters;
    bs->drv = copy;
}

/* fact: bitmaps 2.1/granularity-mirror, 2.1/granularity-default; jobs 4.2/granularity-default, edge/35,
 * seed/eee13df */
static void test_granularity_from_target(void **state)
{
    static const int64_t clusters[] = {16 * KiB, 512, MiB};
    static const int64_t granularities[] = {16 * KiB, 4 * KiB, 64 * KiB};
    BlockDriver clustered;

    mirror_world(MiB, MiB, 0);
    const BlockDriver *plain = dst->drv;
    give_clusters(dst, &clustered);
    args.granularity = 0;
    for (size_t i = 0; i < ARRAY_SIZE(clusters); i++) {
        cluster_bytes = clusters[i];
        Job *job = start();
        assert_int_equal(bdrv_dirty_bitmap_granularity(mirror_dirty_bitmap(job)), granularities[i]);
        assert_string_equal(verb(job, verb_cancel_force), "");
        settle();
    }
    dst->drv = plain;
    cluster_bytes = 16 * KiB;
    give_clusters(src, &clustered); /* the source's clusters do not matter */
    Job *job = start();
    assert_int_equal(bdrv_dirty_bitmap_granularity(mirror_dirty_bitmap(job)), 64 * KiB);
    assert_string_equal(verb(job, verb_cancel_force), "");
    settle();
    src->drv = plain;
    assert_clean(src);
}

/* fact: bitmaps 2.1/granularity-mirror; jobs 4.2/granularity-range */
static void test_granularity_limits(void **state)
{
    static const struct {
        uint32_t granularity;
        const char *error;
    } cases[] = {
        {256, "Parameter 'granularity' expects a value in range [512B, 64MB]"},
        {512, ""},
        {1536, "Parameter 'granularity' expects a power of 2"},
        {64 * MiB, ""},
        {128 * MiB, "Parameter 'granularity' expects a value in range [512B, 64MB]"},
    };

    mirror_world(MiB, MiB, 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        args.granularity = cases[i].granularity;
        on_main(start_entry, NULL);
        assert_string_equal(start_error, cases[i].error);
        if (start_ret == 0) {
            Job *job = job_find(host, "m");
            assert_int_equal(bdrv_dirty_bitmap_granularity(mirror_dirty_bitmap(job)), cases[i].granularity);
            assert_string_equal(verb(job, verb_cancel_force), "");
            settle();
        }
    }
    assert_clean(src);
}

/* --- marks ------------------------------------------------------------------------------------------------ */

/* fact: bitmaps 2.3/job-target, 2.3/per-node */
static void test_target_is_marked(void **state)
{
    mirror_world(256 * KiB, 256 * KiB, 0);
    stamp_source(128 * KiB); /* the rest is a hole, and the target is known to be empty */
    on_main(watch_target, NULL);
    Job *job = start();
    wait_trail("READY");
    assert_int_equal(bdrv_dirty_bitmap_next_dirty(watch, 0, INT64_MAX), 0);
    int64_t clean = bdrv_dirty_bitmap_next_zero(watch, 0, INT64_MAX);
    assert_true(clean == -1 || clean >= 128 * KiB);
    on_main(unwatch, NULL);
    cancel_clean(job);
}

/* fact: bitmaps 2.1/anonymous */
static void test_anonymous(void **state)
{
    mirror_world(MiB, MiB, 0);
    Job *job = start();
    assert_null(bdrv_dirty_bitmap_name(mirror_dirty_bitmap(job)));
    assert_ptr_equal(bdrv_dirty_bitmap_next(bdrv_dirty_bitmap_node(mirror_dirty_bitmap(job)), NULL),
                     mirror_dirty_bitmap(job));
    cancel_clean(job);
}

/* --- rounds ----------------------------------------------------------------------------------------------- */

struct copies {
    int of_first_chunk, of_last_chunk;
};

static void count_copies(void *opaque, const struct sim_record *r)
{
    struct copies *copies = opaque;

    if (r->kind == EV_mirror_op_begin && r->field[1] == SIM_OP_WRITE) {
        int64_t start = (int64_t)r->field[2];
        int64_t end = start + (int64_t)r->field[3];

        copies->of_first_chunk += start <= 0 && end > 0;
        copies->of_last_chunk += start < 4 * MiB && end >= 4 * MiB;
    }
}

/* What gets dirty behind the cursor is copied by another round before the job says that it is ready.
 *
 * fact: bitmaps 1.3/set-behind, edge/5; jobs 4.2/iterator */
static void test_rounds_until_clean(void **state)
{
    struct copies copies = {0, 0};

    mirror_world(4 * MiB, 4 * MiB, 0);
    stamp_source(4 * MiB);
    sim_subscribe(world, EV_mirror_op_begin, count_copies, &copies);
    args.buf_size = 64 * KiB; /* one chunk at a time */
    disk_set_latency(dst_disk, NS_PER_MS);
    Job *job = start();
    run_for(20 * NS_PER_MS);
    assert_int_equal(copies.of_first_chunk, 1);
    assert_int_equal(copies.of_last_chunk, 0);
    guest_write(0, 4096, 0x5c);
    assert_null(strstr(trail, "READY"));
    wait_trail("READY");
    assert_int_equal(copies.of_first_chunk, 2);
    assert_int_equal(copies.of_last_chunk, 1);
    assert_same_disks(4 * MiB);
    cancel_clean(job);
}

#define MIRROR_TEST(path, fn) T_SETUP(path, fn, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MIRROR_TEST("/mirror/bitmaps/seed/eee13df/granularity-from-target", test_granularity_from_target),
        MIRROR_TEST("/mirror/bitmaps/granularity-limits", test_granularity_limits),
        MIRROR_TEST("/mirror/bitmaps/target-is-marked", test_target_is_marked),
        MIRROR_TEST("/mirror/bitmaps/anonymous", test_anonymous),
        MIRROR_TEST("/mirror/bitmaps/rounds-until-clean", test_rounds_until_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
