/* Protects against images that no driver writes: refused with nothing lost, and checked in no time. */
#include "tests/block/qcow2_snap_lib.h"

static BlockDriverState *open_image(struct world *w, const char *disk)
{
    char text[160];

    snprintf(text, sizeof(text), "{'driver':'qcow2','node-name':'q','file':{'driver':'disk','disk':'%s'}}", disk);
    return add(w, text);
}

/* An image with one snapshot, as bytes; *entry: where the table's first entry is. */
static struct image with_snapshot(struct world *w, const char *disk, int64_t *entry)
{
    struct disk *d = make_image(w, disk, "{'size':4194304,'cluster-size':4096}");
    BlockDriverState *bs = open_image(w, disk);

    guest_write(bs, 5, 0, 65536);
    assert_int_equal(snap(bs, snap_create, "s", NULL), 0);
    del(w, "q");
    struct image image = image_take(w, d, false);
    *entry = (int64_t)image_be(&image, 64, 8);
    return image;
}

/* fact: qcow2 5.7/table */
WORLD_TEST(shared_table)
{
    static const uint32_t sizes[] = {1, 2, 500};
    int64_t entry;
    struct image image = with_snapshot(w, "d", &entry);

    image_put(&image, entry, image_be(&image, 40, 8), 8); /* the active L1 table is the snapshot's, too */
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        char disk[8];
        snprintf(disk, sizeof(disk), "h%zu", i);
        image_put(&image, entry + 8, sizes[i], 4);
        struct disk *d = image_disk(w, disk, &image);
        BlockDriverState *bs = open_image(w, disk);
        assert_int_equal(snap(bs, snap_goto, "s", "Snapshot L1 table overlaps the active one"), -EINVAL);
        assert_int_equal(snap(bs, snap_delete, "s", "Snapshot L1 table overlaps the active one"), -EINVAL);
        del(w, "q");
        struct image after = image_take(w, d, false);
        assert_memory_equal(after.data, image.data, (size_t)image.bytes);
        free(after.data);
    }
    free(image.data);
}

/* fact: qcow2 5.7/id */
WORLD_TEST(last_id)
{
    int64_t entry;
    struct image image = with_snapshot(w, "d", &entry);
    int64_t id = entry + 40 + (int64_t)image_be(&image, entry + 36, 4);
    QEMUSnapshotInfo *list;

    image_put(&image, entry + 12, 20, 2);
    image_put(&image, entry + 14, 1, 2);
    memcpy(image.data + id, "18446744073709551615s", 21);
    image_disk(w, "h", &image);
    BlockDriverState *bs = open_image(w, "h");
    assert_int_equal(snap(bs, snap_create, "a", NULL), 0);
    assert_int_equal(snap(bs, snap_create, "b", NULL), 0);
    assert_int_equal(bdrv_snapshot_list(bs, &list), 3);
    assert_string_not_equal(list[1].id_str, list[2].id_str);
    bdrv_snapshot_list_free(list, 3);
    del(w, "q");
    free(image.data);
}

/* An image that cannot be repaired is not opened, so its bitmaps go on being what they were. */
WORLD_TEST(unrepairable)
{
    struct image image = image_vector("bitmaps-clean-4k.qcow2");
    int64_t directory = 0, table = (int64_t)image_be(&image, 40, 8);
    Error *err = NULL;

    for (int64_t at = (int64_t)image_be(&image, 100, 4); !directory;
         at += 8 + (int64_t)image_be(&image, at + 4, 4)) {
        directory = image_be(&image, at, 4) == 0x23852875 ? (int64_t)image_be(&image, at + 24, 8) : 0;
        at = ROUND_UP(at, 8);
    }
    assert_int_equal(image_be(&image, directory + 12, 4) & 1, 0);
    for (int64_t i = 0; image_be(&image, table, 8) == 0; i++) {
        table += 8;
    }
    table = (int64_t)(image_be(&image, table, 8) & 0x00fffffffffffe00ULL);
    while (image_be(&image, table, 8) < 4096) {
        table += 8;
    }
    image_put(&image, table, image_be(&image, table, 8) | 512, 8); /* a data cluster that is not aligned */
    image_put(&image, 72, image_be(&image, 72, 8) | 1, 8);         /* dirty */
    struct disk *d = image_disk(w, "h", &image);
    assert_null(try_add(w, "{'driver':'qcow2','node-name':'q','file':{'driver':'disk','disk':'h'}}", &err));
    expect_error(&err, "Could not repair dirty image: Input/output error");
    struct image after = image_take(w, d, false);
    assert_int_equal(image_be(&after, directory + 12, 4) & 1, 0);
    assert_int_equal(image_be(&after, 88, 8) & 1, 1); /* and the directory is still said to be true */
    free(after.data);
    free(image.data);
}

/* A header of version 3 with one refcount table cluster behind it, in an image of zeros. */
static struct image bare(unsigned cluster_bits, int64_t bytes)
{
    struct image image = {calloc(1, (size_t)bytes), bytes};

    memcpy(image.data, "QFI\xfb", 4);
    image_put(&image, 4, 3, 4);
    image_put(&image, 20, cluster_bits, 4);
    image_put(&image, 48, 1ULL << cluster_bits, 8);
    image_put(&image, 56, 1, 4);
    image_put(&image, 96, 4, 4);
    image_put(&image, 100, 104, 4);
    image_put(&image, 1 << cluster_bits, 2ULL << cluster_bits, 8);
    return image;
}

static void expect_given_up(struct world *w, struct image *image)
{
    BdrvCheckResult res = {0};

    image_disk(w, "d", image);
    BlockDriverState *bs = open_to_check(w, "d", false);
    assert_non_null(bs);
    assert_int_equal(check_image(bs, 0, &res), 0);
    assert_int_equal(res.check_errors, 1);
    bdrv_unref(bs);
    free(image->data);
}

/* Each sector of 8 MiB begins an L2 table of 2 MiB: 32 GiB to read. */
WORLD_TEST(many_tables)
{
    struct image image = bare(21, 8 * MiB);
    int64_t tables = image.bytes / 512 - 1;

    image_put(&image, 24, 1 * GiB, 8);
    image_put(&image, 36, (uint64_t)tables, 4);
    image_put(&image, 40, 6 * MiB, 8);
    for (int64_t i = 0; i < tables; i++) {
        image_put(&image, 6 * MiB + i * 8, (uint64_t)(i + 1) * 512, 8);
    }
    expect_given_up(w, &image);
}

/* Sixty thousand snapshots, and the L1 table of each is a third of the file. */
WORLD_TEST(many_snapshots)
{
    struct image image = bare(9, 6 * MiB);

    image_put(&image, 60, 60000, 4);
    image_put(&image, 64, 2 * MiB, 8);
    for (int64_t i = 0; i < 60000; i++) {
        image_put(&image, 2 * MiB + i * 64, 4096, 8);
        image_put(&image, 2 * MiB + i * 64 + 8, MiB / 4 - 1024, 4);
        image_put(&image, 2 * MiB + i * 64 + 36, 24, 4);
    }
    expect_given_up(w, &image);
}

/* Two references cannot be counted in one bit: that stays, and the rest is repaired. */
WORLD_TEST(one_bit)
{
    struct disk *d = make_image(w, "d", "{'size':1048576,'cluster-size':4096,'refcount-bits':1}");
    BdrvCheckResult res = {0};

    BlockDriverState *bs = open_image(w, "d");
    guest_write(bs, 5, 0, 65536);
    del(w, "q");
    struct image image = image_take(w, d, false);
    int64_t l1 = (int64_t)image_be(&image, 40, 8);
    int64_t l2 = (int64_t)(image_be(&image, l1, 8) & 0x00fffffffffffe00ULL);
    image_put(&image, l2 + 8, image_be(&image, l2, 8), 8);
    image_disk(w, "h", &image);
    bs = open_to_check(w, "h", true);
    assert_int_equal(check_image(bs, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, &res), 0);
    assert_int_equal(res.leaks_fixed, 1);
    assert_int_equal(res.corruptions, 1);
    assert_int_equal(res.check_errors, 0);
    bdrv_unref(bs);
    free(image.data);
}

/* Metadata and the guest's data in one file would be written over each other. */
WORLD_TEST(data_file_is_image)
{
    make_disk(w, "d", 0);
    add(w, "{'driver':'disk','node-name':'n','disk':'d'}");
    struct create_call call = {.host = w->host,
                               .options = opts("{'driver':'qcow2','file':'n','data-file':'n','size':1048576}")};
    assert_int_equal(bdrv_run_co(w->host, "create", create_entry, &call), -EINVAL);
    expect_error(&call.err, "'data-file' is the node that is to hold the image");
    qvalue_free(call.options);
    del(w, "n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/qcow2/hostile/snapshot/shared-table", shared_table, NULL, NULL, NULL},
        {"/qcow2/hostile/snapshot/last-id", last_id, NULL, NULL, NULL},
        {"/qcow2/hostile/dirty/unrepairable", unrepairable, NULL, NULL, NULL},
        {"/qcow2/hostile/check/many-tables", many_tables, NULL, NULL, NULL},
        {"/qcow2/hostile/check/many-snapshots", many_snapshots, NULL, NULL, NULL},
        {"/qcow2/hostile/create/data-file-is-image", data_file_is_image, NULL, NULL, NULL},
        {"/qcow2/hostile/repair/one-bit", one_bit, NULL, NULL, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
