/* Protects small promises of qcow2 that no other file of tests is about: growth of L1, what a check cannot see,
 * which bitmaps are marked by what, and that an image that waits for its repair is left alone. */
#include "tests/block/qcow2_snap_lib.h"

#define Q_OPTIONS "{'driver':'qcow2','node-name':'q','file':{'driver':'disk','disk':'d','node-name':'f'}}"

/* --- in the image's own coroutine -------------------------------------------------------------------------------
 */

struct locked_call {
    BlockDriverState *bs;
    int (*fn)(BlockDriverState *bs, int64_t a, bool b);
    int64_t a;
    bool b;
};

static int locked_entry(void *opaque)
{
    const struct locked_call *c = opaque;
    BDRVQcow2State *s = c->bs->opaque;

    co_mutex_lock(&s->lock);
    int ret = c->fn(c->bs, c->a, c->b);
    co_mutex_unlock(&s->lock);
    return ret;
}

static int locked(BlockDriverState *bs, int (*fn)(BlockDriverState *, int64_t, bool), int64_t a, bool b)
{
    struct locked_call c = {.bs = bs, .fn = fn, .a = a, .b = b};

    return bdrv_run_co(bs->host, "test", locked_entry, &c);
}

static int grow_l1(BlockDriverState *bs, int64_t entries, bool exact)
{
    return qcow2_grow_l1_table(bs, (uint64_t)entries, exact);
}

static int raise_count(BlockDriverState *bs, int64_t offset, bool unused)
{
    const BDRVQcow2State *s = bs->opaque;

    (void)unused;
    int ret = qcow2_update_refcount(bs, offset, s->cluster_size, 1, false, QCOW2_DISCARD_NEVER);
    return ret < 0 ? ret : qcow2_flush_caches(bs);
}

/* --- tests ------------------------------------------------------------------------------------------------------
 */

/* fact: qcow2 5.4/l1-growth */
WORLD_TEST(l1_growth)
{
    make_image(w, "d", "{'size':1048576,'cluster-size':512}");
    BlockDriverState *bs = add(w, Q_OPTIONS);
    const BDRVQcow2State *s = bs->opaque;

    assert_int_equal(s->l1_size, 32);
    assert_int_equal(locked(bs, grow_l1, 40, true), 0);
    assert_int_equal(s->l1_size, 40);
    assert_int_equal(locked(bs, grow_l1, 41, false), 0);
    assert_int_equal(s->l1_size, 60);
    assert_int_equal(guest_truncate(bs, 70 * 32 * KiB, PREALLOC_OFF, NULL), 0);
    assert_int_equal(s->l1_size, 70);
    del(w, "q");
}

/* fact: qcow2 5.8/past-end, edge/49 */
WORLD_TEST(past_end)
{
    BdrvCheckResult found = {0};

    struct disk *disk = make_image(w, "d", "{'size':1048576,'cluster-size':4096}");
    BlockDriverState *bs = add(w, Q_OPTIONS);
    int64_t beyond = ROUND_UP(disk_length(disk), 4 * KiB) + 32 * KiB;
    assert_int_equal(locked(bs, raise_count, beyond, false), 0);
    assert_int_equal(check_image(bs, 0, &found), 0);
    assert_int_equal(found.leaks, 0);
    assert_int_equal(guest_write(bs, 0x11, 0, 256 * KiB), 0);
    assert_int_equal(guest_flush(bs), 0);
    assert_true(disk_length(disk) > beyond + 4 * KiB);
    assert_int_equal(check_image(bs, 0, &found), 0);
    assert_int_equal(found.leaks, 1);
    assert_int_equal(found.corruptions, 0);
    del(w, "q");
}

/* fact: bitmaps 2.3/not-marked, 2.4/internal-snapshot */
WORLD_TEST(snapshots_mark_nothing)
{
    make_image(w, "d", "{'size':1048576}");
    BlockDriverState *bs = add(w, Q_OPTIONS);

    assert_int_equal(guest_write(bs, 0x11, 0, 128 * KiB), 0);
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(bs, 64 * KiB, "b", NULL);
    assert_int_equal(snap(bs, snap_create, "one", NULL), 0);
    assert_int_equal(bdrv_get_dirty_count(bitmap), 0);
    assert_int_equal(guest_write(bs, 0x22, 64 * KiB, 512), 0);
    assert_int_equal(bdrv_get_dirty_count(bitmap), 64 * KiB);
    assert_int_equal(snap(bs, snap_delete, "one", NULL), 0);
    assert_int_equal(bdrv_get_dirty_count(bitmap), 64 * KiB);
    assert_true(bdrv_dirty_bitmap_enabled(bitmap));
    del(w, "q");
}

/* fact: bitmaps 2.3/metadata */
WORLD_TEST(metadata_marks_the_file)
{
    make_image(w, "d", "{'size':1048576}");
    BlockDriverState *bs = add(w, Q_OPTIONS);
    const BDRVQcow2State *s = bs->opaque;
    BdrvDirtyBitmap *above = bdrv_create_dirty_bitmap(bs, 64 * KiB, NULL, NULL);
    BdrvDirtyBitmap *below = bdrv_create_dirty_bitmap(bs->file->bs, 64 * KiB, NULL, NULL);

    assert_int_equal(guest_write(bs, 0x11, 512 * KiB, 64 * KiB), 0);
    assert_int_equal(bdrv_get_dirty_count(above), 64 * KiB);
    assert_true(bdrv_dirty_bitmap_get(below, s->l1_table_offset));
    assert_true(bdrv_dirty_bitmap_get(below, (int64_t)(s->l1_table[0] & L1E_OFFSET_MASK)));
    assert_false(bdrv_dirty_bitmap_get(below, 0)); /* nothing in the header has changed */
    bdrv_release_dirty_bitmap(above);
    bdrv_release_dirty_bitmap(below);
    del(w, "q");
}

static bool same_bytes(const struct image *a, const struct image *b)
{
    return a->bytes == b->bytes && memcmp(a->data, b->data, (size_t)a->bytes) == 0;
}

/* Its counts are wrong, so whoever took a cluster for a bitmap would take one that is in use. */
WORLD_TEST(who_waits_for_repair_stores_nothing)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576,'cluster-size':4096,'lazy-refcounts':true}");
    BlockDriverState *bs = add(w, Q_OPTIONS);
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(bs, 4 * KiB, "b", NULL);

    bdrv_dirty_bitmap_set_persistence(bitmap, true);
    assert_int_equal(guest_write(bs, 0x11, 0, 64 * KiB), 0);
    del(w, "q");
    struct image broken = image_take(w, disk, false);
    image_put(&broken, 72, image_be(&broken, 72, 8) | QCOW2_INCOMPAT_DIRTY, 8);
    memset(broken.data + 2 * 4096 + 8, 0, 4096 - 8); /* all counts but the first four */
    struct disk *copy = image_disk(w, "e", &broken);

    bs = open_to_check(w, "e", true);
    assert_false(bdrv_has_dirty_bitmaps(bs));
    bdrv_unref(bs);
    struct image left = image_take(w, copy, false);
    assert_true(same_bytes(&broken, &left));
    free(left.data);

    /* Once it is whole, they are there. */
    bs = add(w, "{'driver':'qcow2','node-name':'q','file':{'driver':'disk','disk':'e'}}");
    bitmap = bdrv_find_dirty_bitmap(bs, "b");
    assert_non_null(bitmap);
    assert_int_equal(bdrv_get_dirty_count(bitmap), 64 * KiB);
    del(w, "q");
    free(broken.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/qcow2/facts/l1-growth", l1_growth, NULL, NULL, NULL},
        {"/qcow2/facts/past-end", past_end, NULL, NULL, NULL},
        {"/qcow2/facts/snapshots-mark-nothing", snapshots_mark_nothing, NULL, NULL, NULL},
        {"/qcow2/facts/metadata-marks-file", metadata_marks_the_file, NULL, NULL, NULL},
        {"/qcow2/facts/repair-first", who_waits_for_repair_stores_nothing, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests_name("qcow2 facts", tests, NULL, NULL);
}
