/* Protects the check of qcow2 images: figures and classes as the real tool's, and bounds on what hostile images
 * cost. */
#include "tests/block/qcow2_damage.h"

#include <time.h>

/* --- figures -----------------------------------------------------------------------------------------------------
 */

/* The row of images.tsv of an image. */
static void expected(const char *name, BdrvCheckResult *res, int64_t *virtual_size)
{
    char line[1024], row[64];
    FILE *f = fopen(QCOW2_VECTORS "images.tsv", "r");

    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        long long v[8];
        if (sscanf(line, "image\t%63s", row) == 1 && strcmp(row, name) == 0) {
            assert_int_equal(sscanf(line,
                                    "image\t%*s\t%*s\t%*s\t%lld\t%*s\t%lld\t%lld\t%lld\t%lld\t%lld\t%lld\t%lld",
                                    &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]),
                             8);
            *virtual_size = v[0];
            *res = (BdrvCheckResult){.corruptions = v[2],
                                     .leaks = v[3],
                                     .check_errors = v[4],
                                     .image_end_offset = v[5],
                                     .allocated_clusters = v[6],
                                     .compressed_clusters = v[7]};
            fclose(f);
            return;
        }
    }
    fail_msg("%s: no row", name);
}

/* fact: qcow2 5.8/leak, 5.8/corruption, edge/49 */
WORLD_TEST(figures_of_vectors)
{
    for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
        BdrvCheckResult want = {0}, got = {0};
        int64_t size = 0;
        int ret = -1;
        struct image image = vector(i);

        expected(vectors[i], &want, &size);
        if (!check_bytes(w, &image, vectors[i], 0, &ret, &got) || ret != 0 || got.corruptions != want.corruptions ||
            got.leaks != want.leaks || got.check_errors != want.check_errors ||
            got.image_end_offset != want.image_end_offset || got.allocated_clusters != want.allocated_clusters ||
            got.compressed_clusters != want.compressed_clusters) {
            fail_msg("%s: ret %d corruptions %lld leaks %lld errors %lld end %lld allocated %lld compressed %lld",
                     vectors[i], ret, (long long)got.corruptions, (long long)got.leaks, (long long)got.check_errors,
                     (long long)got.image_end_offset, (long long)got.allocated_clusters,
                     (long long)got.compressed_clusters);
        }
        free(image.data);
    }
}

/* --- damage ------------------------------------------------------------------------------------------------------
 */

static bool same_figures(const BdrvCheckResult *a, const BdrvCheckResult *b)
{
    return a->corruptions == b->corruptions && a->leaks == b->leaks && a->check_errors == b->check_errors &&
           a->image_end_offset == b->image_end_offset && a->allocated_clusters == b->allocated_clusters &&
           a->compressed_clusters == b->compressed_clusters && a->fragmented_clusters == b->fragmented_clusters;
}

static void expect_same(struct world *w, unsigned n)
{
    char file[128], disk[32];
    struct line_log log = {{0}};
    BdrvCheckResult ours = {.say = log_line, .say_opaque = &log}, theirs = {0};
    size_t which;
    int ret = 0;
    struct image image = damaged(n, &which);

    snprintf(disk, sizeof(disk), "damaged%u", n);
    image_save(&image, file, sizeof(file));
    int status = qemu_check(file, "", &theirs);
    bool opened = check_bytes(w, &image, disk, 0, &ret, &ours);
    unlink(file);
    free(image.data);
    bool completed = opened && ret == 0 && ours.check_errors == 0;
    /* The tool counts in as many bits as the image: with one, a second reference is no reference. */
    bool same = strcmp(vectors[which], "refcount1-4k") == 0 ? (ours.corruptions > 0) == (theirs.corruptions > 0)
                                                            : same_figures(&ours, &theirs);
    if (completed != (status != 1) || (completed && !same)) {
        fputs(log.text, stderr);
        fail_msg("%u %s: status %d corruptions %lld/%lld leaks %lld/%lld errors %lld/%lld end %lld/%lld allocated "
                 "%lld/%lld fragmented %lld/%lld",
                 n, vectors[which], status, (long long)ours.corruptions, (long long)theirs.corruptions,
                 (long long)ours.leaks, (long long)theirs.leaks, (long long)ours.check_errors,
                 (long long)theirs.check_errors, (long long)ours.image_end_offset,
                 (long long)theirs.image_end_offset, (long long)ours.allocated_clusters,
                 (long long)theirs.allocated_clusters, (long long)ours.fragmented_clusters,
                 (long long)theirs.fragmented_clusters);
    }
}

/* fact: qcow2 5.8/entries, 5.8/copied, 5.8/corruption, 5.8/leak */
WORLD_TEST(damage_as_the_real_tool_sees_it)
{
    if (!have_qemu_img()) {
        print_message("skipped: no qemu-img\n");
        return;
    }
    for (unsigned n = 0; n < 80; n++) {
        expect_same(w, n);
    }
}

/* It would not be loaded, so the image would not open: no check may call that sound, repaired or not. */
/* fact: qcow2 5.8/corruption */
WORLD_TEST(bitmap_of_another_size)
{
    struct image image = image_vector("bitmaps-clean-4k.qcow2");
    struct line_log log = {{0}};
    BdrvCheckResult res = {.say = log_line, .say_opaque = &log};
    int ret = -1;

    image_put(&image, 72, QCOW2_INCOMPAT_DIRTY, 8); /* so it opens, for a repair */
    image_put(&image, 0xe008, 2, 4);                /* entries of the first table in the directory: one is right */
    assert_true(check_bytes(w, &image, "twice", BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, &ret, &res));
    free(image.data);
    assert_int_equal(ret, 0);
    assert_true(res.corruptions > 0);
    assert_non_null(strstr(log.text, "bitmap 'empty': its table does not fit the disk"));
}

/* --- what a check may cost
 * ---------------------------------------------------------------------------------------- */

/* A version 2 image of 512-byte clusters: header, then whatever the test puts there. */
static struct image hostile_image(int64_t bytes)
{
    struct image image = {calloc(1, (size_t)bytes + 1), bytes};

    image_put(&image, 0, 0x514649fb, 4);
    image_put(&image, 4, 2, 4);
    image_put(&image, 20, 9, 4);
    image_put(&image, 24, MiB, 8);
    image_put(&image, 36, 64, 4);
    image_put(&image, 40, 512, 8);
    image_put(&image, 48, 1024, 8);
    image_put(&image, 56, 1, 4);
    return image;
}

static void expect_cheap(struct world *w, struct image *image, const char *disk)
{
    BdrvCheckResult res = {0};
    int ret = 0;
    struct timespec begin, end;

    image_disk(w, disk, image);
    BlockDriverState *bs = open_to_check(w, disk, false);
    assert_non_null(bs);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    ret = check_image(bs, 0, &res);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    bdrv_unref(bs);
    free(image->data);
    assert_int_equal(ret, 0);
    assert_true(res.corruptions > 0);
    assert_true(sim_arena_peak_bytes(w->host->arena) < 100 * (uint64_t)MiB);
    int64_t ms = (end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000;
    assert_true(ms < 4000); /* with sanitizers; without them a tenth of it */
}

/* Thousands of snapshots, each with an L1 table as long as can be, over the same bytes, all of them entries. */
WORLD_TEST(snapshots_share_tables)
{
    const int64_t table = 512 * 1024 - 7000 * 40;
    struct image image = hostile_image(512 * 1024);

    image_put(&image, 60, 7000, 4);
    image_put(&image, 64, (uint64_t)ROUND_UP(table, (int64_t)512), 8);
    for (int64_t at = 2048; at < table; at += 8) {
        image_put(&image, at, (uint64_t)(at & ~511LL) | QCOW_OFLAG_COPIED, 8);
    }
    for (int64_t n = 0, at = ROUND_UP(table, (int64_t)512); n < 7000 && at + 40 <= image.bytes; n++, at += 40) {
        image_put(&image, at, 2048 + (uint64_t)(n % 8) * 512, 8);
        image_put(&image, at + 8, (uint64_t)(20000 + n), 4);
    }
    expect_cheap(w, &image, "shared");
}

/* An L1 table all of whose entries name one L2 table, whose entries all name one cluster. */
WORLD_TEST(one_table_everywhere)
{
    struct image image = hostile_image(512 * 1024);

    image_put(&image, 24, (uint64_t)60000 * 512 * 64, 8);
    image_put(&image, 36, 60000, 4);
    image_put(&image, 40, 2048, 8);
    for (int64_t at = 2048; at < 2048 + 60000 * 8; at += 8) {
        image_put(&image, at, 1536, 8);
    }
    for (int64_t at = 1536; at < 2048; at += 8) {
        image_put(&image, at, 512, 8);
    }
    expect_cheap(w, &image, "everywhere");
}

/* A refcount table of 8 MiB that points everywhere, all of it promised by a small file. */
WORLD_TEST(blocks_everywhere)
{
    struct image image = hostile_image(300 * 1024);

    image_put(&image, 56, 8 * MiB / 512, 4);
    for (int64_t at = 1024; at + 8 <= image.bytes; at += 8) {
        image_put(&image, at, (uint64_t)(at * 7919) & ~511ULL, 8);
    }
    expect_cheap(w, &image, "blocks");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/qcow2/check/vectors", figures_of_vectors, NULL, NULL, NULL},
        {"/qcow2/check/damage/qemu-img", damage_as_the_real_tool_sees_it, NULL, NULL, NULL},
        {"/qcow2/check/bitmap-of-another-size", bitmap_of_another_size, NULL, NULL, NULL},
        {"/qcow2/check/hostile/snapshots", snapshots_share_tables, NULL, NULL, NULL},
        {"/qcow2/check/hostile/l2", one_table_everywhere, NULL, NULL, NULL},
        {"/qcow2/check/hostile/blocks", blocks_everywhere, NULL, NULL, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
