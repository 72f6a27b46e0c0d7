/* Protects: what a node believes of its length when a truncate succeeded and its outcome cannot be asked (5). */
#include "tests/block/blktest.h"

static void fail_length(struct disk_interposer *self, struct disk_req *req)
{
    if (req->op == SIM_OP_GETLENGTH) {
        req->ret = -EIO;
    }
}

static struct disk_interposer length_fails = {.before = fail_length};

static BlockDriverState *add_disk(struct world *w, enum disk_type type)
{
    struct disk_config config;

    disk_config_default(&config);
    config.size_bytes = MiB;
    config.type = type;
    struct disk *disk = disk_new(w->sim, "d", &config, NULL);
    assert_non_null(disk);
    return add(w, "{'driver':'disk','node-name':'n','disk':'d'}");
}

struct making {
    BlockDriverState *bs;
    BdrvDirtyBitmap *bitmap;
};

static int make_entry(void *opaque)
{
    struct making *m = opaque;

    m->bitmap = bdrv_create_dirty_bitmap(m->bs, 64 * KiB, "b", NULL);
    return 0;
}

static BdrvDirtyBitmap *add_bitmap(BlockDriverState *bs)
{
    struct making m = {.bs = bs};

    bdrv_run_co(bs->host, "make a bitmap", make_entry, &m);
    assert_non_null(m.bitmap);
    return m.bitmap;
}

static void resize_unasked(BlockDriverState *bs, int64_t length)
{
    struct disk *disk = disk_find(bs->host->sim, "d");
    Error *err = NULL;

    disk_add_interposer(disk, &length_fails);
    assert_false(qmp_block_resize_node(bs, length, &err));
    disk_remove_interposer(disk, &length_fails);
    expect_error(&err, "Could not refresh total sector count");
}

/* A device stays as long as it is when asked to be shorter; the original's way, to believe in the shorter length,
 * drops the bits of what is still there.
 * fact: block 5/afterwards */
WORLD_TEST(test_device)
{
    BlockDriverState *bs = add_disk(w, DISK_DEVICE);
    BdrvDirtyBitmap *bitmap = add_bitmap(bs);

    bdrv_set_dirty_bitmap(bitmap, MiB - 64 * KiB, 64 * KiB);
    resize_unasked(bs, 512 * KiB);
    assert_int_equal(bdrv_getlength_cached(bs), MiB);
    assert_int_equal(bdrv_get_dirty_count(bitmap), 64 * KiB);
    bdrv_release_dirty_bitmap(bitmap);
    del(w, "n");
}

struct asking {
    BlockDriverState *bs;
    int64_t length;
};

static int ask_entry(void *opaque)
{
    struct asking *a = opaque;

    a->length = bdrv_co_getlength(a->bs);
    return 0;
}

/* Growth was done in full, and a file that was cut says so when it is next asked.
 * fact: block 5/afterwards */
WORLD_TEST(test_file)
{
    BlockDriverState *bs = add_disk(w, DISK_FILE);
    BdrvDirtyBitmap *bitmap = add_bitmap(bs);
    struct asking asking = {.bs = bs};

    bdrv_set_dirty_bitmap(bitmap, 0, 64 * KiB);
    resize_unasked(bs, 2 * MiB);
    assert_int_equal(bdrv_getlength_cached(bs), 2 * MiB);
    assert_int_equal(bdrv_dirty_bitmap_size(bitmap), 2 * MiB);
    assert_int_equal(bdrv_get_dirty_count(bitmap), 64 * KiB);
    resize_unasked(bs, 512 * KiB);
    assert_int_equal(bdrv_getlength_cached(bs), 2 * MiB);
    bdrv_run_co(w->host, "ask the length", ask_entry, &asking);
    assert_int_equal(asking.length, 512 * KiB);
    assert_int_equal(bdrv_dirty_bitmap_size(bitmap), 512 * KiB);
    bdrv_release_dirty_bitmap(bitmap);
    del(w, "n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/block/resize/unasked/device", test_device),
        T("/block/resize/unasked/file", test_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
