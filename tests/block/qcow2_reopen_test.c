/* Protects what a reopen may change of a qcow2 node, and the way to read-only and back (block.md 6). */
#include "tests/block/qcow2_lib.h"

static struct disk *image(struct world *w, const char *shape)
{
    return make_image(w, "d", shape);
}

static int reopen(BlockDriverState *bs, const char *text, Error **errp)
{
    struct qvalue *options = opts(text);
    int ret = bdrv_reopen(bs, options, true, errp);

    qvalue_free(options);
    return ret;
}

static void must_reopen(BlockDriverState *bs, const char *text)
{
    Error *err = NULL;

    if (reopen(bs, text, &err) < 0) {
        fail_msg("%s: %s", text, error_get_pretty(err));
    }
}

static uint64_t features(struct world *w, struct disk *disk)
{
    return peek_be(w, disk, 72, 8);
}

/* fact: block 6/changeable-format */
WORLD_TEST(test_options)
{
    image(w, "{'size':67108864,'cluster-size':4096}");
    BlockDriverState *bs = add(w, "{'node-name':'n','l2-cache-size':65536," Q_FILE("d") "}");
    const BDRVQcow2State *s = bs->opaque;

    assert_int_equal(s->l2_cache_bytes, 65536);
    assert_int_equal(s->overlap_check, QCOW2_OL_CACHED);
    assert_false(s->discard_passthrough[QCOW2_DISCARD_REQUEST]);
    assert_int_equal(guest_write(bs, 0x11, 0, MiB), 0);
    must_reopen(bs, "{'l2-cache-size':16384,'l2-cache-entry-size':512,'refcount-cache-size':65536}");
    assert_int_equal(s->l2_cache_bytes, 16384);
    assert_int_equal(s->l2_slice_size, 64);
    assert_int_equal(s->refcount_cache_bytes, 65536);
    expect_bytes(bs, 0x11, 0, MiB);
    assert_int_equal(guest_write(bs, 0x22, 32 * MiB, MiB), 0);
    must_reopen(bs, "{'overlap-check':'none','discard':'unmap','pass-discard-other':true,'discard-no-unref':true}");
    assert_int_equal(s->overlap_check, QCOW2_OL_NONE);
    assert_true(s->discard_passthrough[QCOW2_DISCARD_REQUEST]);
    assert_true(s->discard_passthrough[QCOW2_DISCARD_OTHER]);
    assert_true(s->discard_no_unref);
    must_reopen(bs, "{'overlap-check':{'template':'constant','inactive-l2':true,'main-header':false}}");
    assert_int_equal(s->overlap_check, (QCOW2_OL_CONSTANT | QCOW2_OL_INACTIVE_L2) & ~QCOW2_OL_MAIN_HEADER);
    must_reopen(bs, "{'cache-clean-interval':0}");
    assert_int_equal(s->cache_clean_interval_s, 0);
    expect_bytes(bs, 0x22, 32 * MiB, MiB);
    expect_clean(bs);
    del(w, "n");
}

/* fact: block 6/changeable-format */
WORLD_TEST(test_refused)
{
    static const struct {
        const char *options;
        const char *text;
    } rows[] = {
        {"{'lazy-refcounts':true}", "Lazy refcounts require a qcow2 image with at least qemu 1.1"},
        {"{'discard-no-unref':true}", "discard-no-unref is only supported since qcow2 version 3"},
        {"{'l2-cache-entry-size':8192}",
         "L2 cache entry size must be a power of two between 512 and the cluster size"},
        {"{'l2-cache-entry-size':256}",
         "L2 cache entry size must be a power of two between 512 and the cluster size"},
        {"{'cache-size':65536,'l2-cache-size':131072}", "l2-cache-size may not exceed cache-size"},
        {"{'cache-size':65536,'refcount-cache-size':131072}", "refcount-cache-size may not exceed cache-size"},
        {"{'cache-size':65536,'l2-cache-size':1,'refcount-cache-size':1}", "may not be set at the same time"},
        {"{'cache-clean-interval':-1}", "Cache clean interval too big"},
    };

    image(w, "{'size':1048576,'cluster-size':4096,'version':'v2'}");
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        Error *err = NULL;
        assert_true(reopen(bs, rows[i].options, &err) < 0);
        expect_error(&err, rows[i].text);
    }
    assert_int_equal(guest_write(bs, 0x11, 0, 65536), 0);
    expect_clean(bs);
    del(w, "n");
}

/* fact: qcow2 5.4/caches */
WORLD_TEST(test_cache_sizes)
{
    static const struct {
        const char *options;
        uint64_t l2, entry, refcount;
    } rows[] = {
        {"", 32 * MiB, 4096, 256 * KiB},
        {"'cache-size':1048576,", 768 * KiB, 4096, 256 * KiB},
        {"'cache-size':'256M',", 128 * MiB, 65536, 128 * MiB},
        {"'l2-cache-size':'128M',", 128 * MiB, 65536, 256 * KiB},
        {"'cache-size':'2M','l2-cache-size':'1M',", MiB, 4096, MiB},
        {"'cache-size':'2M','refcount-cache-size':'1M','l2-cache-entry-size':'64k',", MiB, 65536, MiB},
    };

    make_image(w, "d", "{'size':1099511627776}"); /* 1 TiB: 128 MiB of L2 tables */
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char text[256];
        snprintf(text, sizeof(text), "{'node-name':'n',%s" Q_FILE("d") "}", rows[i].options);
        const BlockDriverState *bs = add(w, text);
        const BDRVQcow2State *s = bs->opaque;
        assert_int_equal(s->l2_cache_bytes, rows[i].l2);
        assert_int_equal(s->l2_cache_entry_bytes, rows[i].entry);
        assert_int_equal(s->refcount_cache_bytes, rows[i].refcount);
        del(w, "n");
    }
}

/* fact: qcow2 5.5/lazy-close */
WORLD_TEST(test_lazy)
{
    struct disk *disk = image(w, "{'size':1048576,'lazy-refcounts':true}");
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");

    assert_int_equal(guest_write(bs, 0x11, 0, 65536), 0);
    assert_int_equal(features(w, disk), QCOW2_INCOMPAT_DIRTY);
    must_reopen(bs, "{'lazy-refcounts':false}");
    assert_int_equal(features(w, disk), 0);
    assert_int_equal(guest_write(bs, 0x11, 65536, 65536), 0);
    assert_int_equal(features(w, disk), 0);
    must_reopen(bs, "{'lazy-refcounts':true}");
    assert_int_equal(guest_write(bs, 0x11, 131072, 65536), 0);
    assert_int_equal(features(w, disk), QCOW2_INCOMPAT_DIRTY);
    must_reopen(bs, "{'read-only':true}");
    assert_int_equal(features(w, disk), 0);
    uint64_t before = content_of(w, disk);
    expect_bytes(bs, 0x11, 0, 196608);
    must_reopen(bs, "{'read-only':false}");
    assert_true(content_of(w, disk) == before);
    assert_int_equal(guest_write(bs, 0x12, 262144, 65536), 0);
    assert_int_equal(features(w, disk), QCOW2_INCOMPAT_DIRTY);
    del(w, "n");
    assert_int_equal(features(w, disk), 0);
}

/* A bitmap that is stored on the way to read-only must not leave the image dirty (D08). */
/* fact: block 6/qcow2-bitmaps, bitmaps 2.4/reopen-readonly */
WORLD_TEST(test_lazy_with_bitmap)
{
    struct disk *disk = image(w, "{'size':1048576,'lazy-refcounts':true}");
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(bs, 65536, "b", NULL);

    assert_non_null(bitmap);
    bdrv_dirty_bitmap_set_persistence(bitmap, true);
    assert_int_equal(guest_write(bs, 0x11, 0, 65536), 0);
    must_reopen(bs, "{'read-only':true}");
    assert_int_equal(features(w, disk), 0);
    assert_int_equal(peek_be(w, disk, 88, 8), QCOW2_AUTOCLEAR_BITMAPS);
    struct check_call call = {.bs = bs};
    assert_int_equal(bdrv_run_co(w->host, "check", check_entry, &call), 0);
    assert_int_equal(call.res.corruptions + call.res.leaks, 0);
    must_reopen(bs, "{'read-only':false}");
    assert_int_equal(guest_write(bs, 0x12, 0, 65536), 0);
    expect_clean(bs);
    del(w, "n");
}

/* Opened read-only it was not repaired; writing to it now would trust its counts. */
/* fact: qcow2 5.1/dirty-bit, 6/dirty-stays */
WORLD_TEST(test_dirty_stays_read_only)
{
    struct disk *disk = load_vector(w, "d", "lazy-dirty-4k.qcow2");
    uint64_t before = content_of(w, disk);
    Error *err = NULL;

    BlockDriverState *bs = add(w, "{'node-name':'n','read-only':true," Q_FILE("d") "}");
    assert_true(reopen(bs, "{'read-only':false}", &err) < 0);
    expect_error(&err, "must be repaired before it can be reopened read/write");
    expect_bytes(bs, 0xc1, 0, 4096);
    del(w, "n");
    assert_true(content_of(w, disk) == before);
}

/* The file may be exchanged for another that holds the same. */
/* fact: block 6/file */
WORLD_TEST(test_file)
{
    image(w, "{'size':1048576}");
    add(w, "{'node-name':'f','driver':'disk','disk':'d'}");
    add(w, "{'node-name':'r','driver':'raw','file':'f'}");
    BlockDriverState *bs = add(w, "{'node-name':'n','driver':'qcow2','file':'f'}");
    assert_int_equal(guest_write(bs, 0x11, 0, 65536), 0);
    must_reopen(bs, "{'file':'r'}");
    assert_int_equal(guest_write(bs, 0x12, 65536, 65536), 0);
    expect_bytes(bs, 0x11, 0, 65536);
    assert_true(((BDRVQcow2State *)bs->opaque)->data_file == bs->file);
    expect_clean(bs);
    del(w, "n");
    del(w, "r");
    del(w, "f");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/reopen/options", test_options),
        T("/qcow2/reopen/refused", test_refused),
        T("/qcow2/reopen/cache-sizes", test_cache_sizes),
        T("/qcow2/reopen/lazy", test_lazy),
        T("/qcow2/reopen/lazy-with-bitmap", test_lazy_with_bitmap),
        T("/qcow2/reopen/dirty-stays-read-only", test_dirty_stays_read_only),
        T("/qcow2/reopen/file", test_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
