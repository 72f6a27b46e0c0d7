/* Protects the repair of qcow2 images: what -r leaks and -r all mend, that the rest is as the real tool leaves it,
 * that marks go only with a complete repair, and that power may fail at any write. */
#include "tests/block/qcow2_damage.h"

#define FIX_ALL (BDRV_FIX_LEAKS | BDRV_FIX_ERRORS)

static struct image repaired_bytes(struct world *w, const struct image *image, const char *disk, uint32_t fix,
                                   int *ret, BdrvCheckResult *res)
{
    struct disk *d = image_disk(w, disk, image);
    BlockDriverState *bs = open_to_check(w, disk, true);

    *ret = -EINVAL;
    if (bs) {
        *ret = check_image(bs, fix, res);
        bdrv_unref(bs);
    }
    return image_take(w, d, false);
}

/* --- beside the real tool
 * ------------------------------------------------------------------------------------------ */

static void expect_same(struct world *w, unsigned n, const char *how, uint32_t fix)
{
    char file[128], disk[32];
    struct line_log log = {{0}};
    BdrvCheckResult ours = {.say = log_line, .say_opaque = &log}, theirs = {0}, after_ours = {0},
                    after_theirs = {0};
    size_t which;
    int ret;
    struct image image = damaged(n, &which);

    if (strcmp(vectors[which], "refcount1-4k") == 0) {
        free(image.data);
        return; /* counted in one bit, see the test of checks */
    }
    image_save(&image, file, sizeof(file));
    int status = qemu_check(file, how, &theirs);
    qemu_check(file, "", &after_theirs);
    unlink(file);
    snprintf(disk, sizeof(disk), "%s%u", how, n);
    struct image mended = repaired_bytes(w, &image, disk, fix, &ret, &ours);
    image_save(&mended, file, sizeof(file));
    qemu_check(file, "", &after_ours);
    unlink(file);
    free(image.data);
    free(mended.data);
    /* What cannot be mended depends on where new structures went; and where one of the two gives up, so be it. */
    bool no_worse = after_ours.corruptions <= after_theirs.corruptions &&
                    after_ours.check_errors <= after_theirs.check_errors &&
                    (after_ours.leaks <= after_theirs.leaks || after_theirs.corruptions > 0);
    bool gave_up = fix == BDRV_FIX_LEAKS && status == 1 && ret < 0;
    if (!no_worse && !gave_up) {
        fputs(log.text, stderr);
        fail_msg("%u %s -r %s: ret %d status %d, left: corruptions %lld/%lld leaks %lld/%lld errors %lld/%lld", n,
                 vectors[which], how, ret, status, (long long)after_ours.corruptions,
                 (long long)after_theirs.corruptions, (long long)after_ours.leaks, (long long)after_theirs.leaks,
                 (long long)after_ours.check_errors, (long long)after_theirs.check_errors);
    }
}

/* fact: qcow2 5.8/repair-leaks, 5.8/repair-all, 5.8/rebuild, 5.8/not-repairable */
WORLD_TEST(damage_mended_as_by_the_real_tool)
{
    const char *seeds = getenv("QCOW2_DAMAGE_SEEDS");

    if (!have_qemu_img()) {
        print_message("skipped: no qemu-img\n");
        return;
    }
    for (unsigned n = 0; n < (seeds ? (unsigned)atoi(seeds) : 30); n++) {
        expect_same(w, n, "leaks", BDRV_FIX_LEAKS);
        expect_same(w, n, "all", FIX_ALL);
    }
}

/* --- marks
 * --------------------------------------------------------------------------------------------------------- */

static uint64_t incompatible(const struct image *image)
{
    return image_be(image, 72, 8);
}

/* The original clears the dirty bit when it closes an image whose leaks alone were mended, or whose repair failed:
 * the next to open it allocates by counts that are too low. */
/* fact: qcow2 6/dirty-stays, 5.8/clears-bits */
WORLD_TEST(dirty_until_whole)
{
    struct image image = image_vector("lazy-dirty-4k.qcow2");
    BdrvCheckResult res = {0};
    int ret;

    assert_int_equal(incompatible(&image), QCOW2_INCOMPAT_DIRTY);
    struct image looked_at = repaired_bytes(w, &image, "looked-at", 0, &ret, &res);
    assert_int_equal(res.corruptions, 6);
    assert_int_equal(incompatible(&looked_at), QCOW2_INCOMPAT_DIRTY);
    struct image half = repaired_bytes(w, &image, "half", BDRV_FIX_LEAKS, &ret, &res);
    assert_int_equal(incompatible(&half), QCOW2_INCOMPAT_DIRTY);
    memset(&res, 0, sizeof(res));
    struct image whole = repaired_bytes(w, &image, "whole", FIX_ALL, &ret, &res);
    assert_int_equal(ret, 0);
    assert_int_equal(res.corruptions, 0);
    assert_int_equal(res.corruptions_fixed, 3);
    assert_int_equal(incompatible(&whole), 0);

    /* three counts; the flags that contradicted them are right then */
    /* data beyond the file cannot be mended: the mark stays */
    int64_t l2 = (int64_t)(image_be(&image, (int64_t)image_be(&image, 40, 8), 8) & L1E_OFFSET_MASK);
    image_put(&image, l2 + 40, QCOW_OFLAG_COPIED | 1ULL << 40, 8);
    memset(&res, 0, sizeof(res));
    struct image broken = repaired_bytes(w, &image, "broken", FIX_ALL, &ret, &res);
    assert_true(res.corruptions > 0);
    assert_int_equal(incompatible(&broken), QCOW2_INCOMPAT_DIRTY);
    free(image.data);
    free(looked_at.data);
    free(half.data);
    free(whole.data);
    free(broken.data);
}

/* fact: qcow2 5.8/clears-bits, edge/42 */
WORLD_TEST(corrupt_until_whole)
{
    struct image image = image_vector("snapshots-4k.qcow2");
    BdrvCheckResult res = {0};
    Error *err = NULL;
    int ret;

    image_put(&image, 72, QCOW2_INCOMPAT_CORRUPT, 8);
    image_disk(w, "corrupt", &image);
    assert_null(try_add(w, "{'driver':'qcow2','node-name':'q','file':{'driver':'disk','disk':'corrupt'}}", &err));
    error_free(err);
    struct image mended = repaired_bytes(w, &image, "mended", FIX_ALL, &ret, &res);
    assert_int_equal(ret, 0);
    assert_int_equal(incompatible(&mended), 0);
    free(image.data);
    free(mended.data);
}

/* fact: qcow2 5.8/snapshot-extra */
WORLD_TEST(short_extra_data)
{
    struct image image = image_vector("snapshots-4k.qcow2");
    BdrvCheckResult res = {0};
    int64_t table = (int64_t)image_be(&image, 64, 8);
    int ret;

    /* 8 bytes of extra data; the others become part of id and name */
    image_put(&image, table + 36, 8, 4);
    image_put(&image, table + 12, 1 + 16, 2);
    struct image mended = repaired_bytes(w, &image, "looked-at", 0, &ret, &res);
    assert_int_equal(ret, 0);
    assert_int_equal(res.corruptions, 1);
    free(mended.data);
    memset(&res, 0, sizeof(res));
    mended = repaired_bytes(w, &image, "mended", FIX_ALL, &ret, &res);
    assert_int_equal(ret, 0);
    assert_int_equal(res.corruptions, 0);
    assert_int_equal(res.corruptions_fixed, 1);
    assert_int_equal(image_be(&mended, (int64_t)image_be(&mended, 64, 8) + 36, 4), 24);
    free(image.data);
    free(mended.data);
}

/* --- power
 * ----------------------------------------------------------------------------------------------------------- */

/* Cut at every write, each remainder is repaired in full and shows the guest the same. */
static void cut_everywhere(struct world *w, const struct image *image, const char *name)
{
    BdrvCheckResult res = {0};
    struct cuts cuts;
    struct disk *d = image_disk(w, name, image);
    BlockDriverState *bs = open_to_check(w, name, true);
    char disk[48];

    assert_non_null(bs);
    cuts_begin(&cuts, w, d, 0);
    cuts.broken = true;
    assert_int_equal(check_image(bs, FIX_ALL, &res), 0);
    cuts_end(&cuts);
    assert_int_equal(res.corruptions, 0);
    bdrv_unref(bs);
    assert_true(cuts.n > 4);
    for (size_t n = 0; n < cuts.n; n++) {
        int ret;
        BdrvCheckResult again = {0}, then = {0};
        snprintf(disk, sizeof(disk), "%s-%zu", name, n);
        struct image mended = repaired_bytes(w, &cuts.images[n], disk, FIX_ALL, &ret, &again);
        if (ret != 0 || again.corruptions || again.leaks) {
            fail_msg("%s: ret %d, %lld corruptions left", disk, ret, (long long)again.corruptions);
        }
        strcat(disk, "x");
        assert_true(check_bytes(w, &mended, disk, 0, &ret, &then));
        assert_int_equal(then.corruptions + then.leaks + then.check_errors, 0);
        assert_int_equal(then.allocated_clusters, res.allocated_clusters);
        free(mended.data);
    }
    cuts_free(&cuts);
}

/* fact: qcow2 5.8/rebuild */
WORLD_TEST(power)
{
    static const char *const names[] = {"lazy-dirty-4k.qcow2", "leaks-unaligned-4k.qcow2", "snapshots-4k.qcow2",
                                        "bitmaps-stale-autoclear-4k.qcow2", "cluster512.qcow2"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char disk[24];
        struct image image = image_vector(names[i]);
        snprintf(disk, sizeof(disk), "p%zu", i);
        if (i >= 2) {
            /* no refcount block any more: all of it is made anew */
            image_put(&image, (int64_t)image_be(&image, 48, 8), 0, 8);
        }
        cut_everywhere(w, &image, disk);
        free(image.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/qcow2/repair/damage/qemu-img", damage_mended_as_by_the_real_tool, NULL, NULL, NULL},
        {"/qcow2/repair/marks/dirty", dirty_until_whole, NULL, NULL, NULL},
        {"/qcow2/repair/marks/corrupt", corrupt_until_whole, NULL, NULL, NULL},
        {"/qcow2/repair/snapshot-extra", short_extra_data, NULL, NULL, NULL},
        {"/qcow2/repair/power", power, NULL, NULL, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
