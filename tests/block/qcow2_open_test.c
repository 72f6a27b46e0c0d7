/* Protects what opening and closing a qcow2 image do to it: repair, dirty and corrupt marks, bitmaps, giving it up
 * and taking it back; and that what must not be written is not (4.6, 5.1, 5.5, 6). */
#include "tests/block/qcow2_lib.h"

#define DIRTY_AT 79 /* the low byte of the incompatible features */

static uint64_t features(struct world *w, struct disk *disk)
{
    return peek_be(w, disk, DIRTY_AT, 1);
}

/* --- watching
 * ----------------------------------------------------------------------------------------------------- */

struct watcher {
    struct disk_interposer interposer;
    unsigned changes;
    unsigned fail_flushes; /* so many fail, -1: all */
    unsigned fail_writes;
};

static bool use_up(unsigned *left)
{
    if (*left > 0 && *left < UINT32_MAX) {
        (*left)--;
        return true;
    }
    return *left > 0;
}

static void watch(struct disk_interposer *self, struct disk_req *req)
{
    struct watcher *v = container_of(self, struct watcher, interposer);
    bool changes = req->op == SIM_OP_WRITE || req->op == SIM_OP_DISCARD || req->op == SIM_OP_WRITE_ZEROES ||
                   req->op == SIM_OP_TRUNCATE;

    v->changes += changes;
    if ((req->op == SIM_OP_FLUSH && use_up(&v->fail_flushes)) || (changes && use_up(&v->fail_writes))) {
        req->ret = -EIO;
    }
}

static const struct watcher watcher = {.interposer = {.before = watch}};

/* --- lazy refcounts
 * ----------------------------------------------------------------------------------------------- */

/* fact: qcow2 5.5/lazy, 5.5/lazy-close */
WORLD_TEST(test_lazy)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576,'lazy-refcounts':true}");
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");

    assert_int_equal(features(w, disk), 0);
    assert_int_equal(guest_write(bs, 0x11, 0, 65536), 0);
    assert_int_equal(features(w, disk), QCOW2_INCOMPAT_DIRTY);
    assert_int_equal(guest_flush(bs), 0);
    assert_int_equal(features(w, disk), QCOW2_INCOMPAT_DIRTY);
    del(w, "n");
    assert_int_equal(features(w, disk), 0);
    bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");
    expect_clean(bs);
    del(w, "n");
}

/* Counts that did not get to the file: who opens it next must know (Q06). */
/* fact: qcow2 5.5/lazy-close, 6/failed-flush */
WORLD_TEST(test_lazy_close_fails)
{
    for (unsigned writes = 0; writes < 2; writes++) {
        const char *name = writes ? "dw" : "df";
        char text[128];
        struct disk *disk = make_image(w, name, "{'size':1048576,'lazy-refcounts':true}");
        struct watcher v = watcher;

        snprintf(text, sizeof(text), "{'node-name':'n','driver':'qcow2','file':{'driver':'disk','disk':'%s'}}",
                 name);
        BlockDriverState *bs = add(w, text);
        assert_int_equal(guest_write(bs, 0x11, 0, 65536), 0);
        disk_add_interposer(disk, &v.interposer);
        v.fail_flushes = writes ? 0 : UINT32_MAX;
        v.fail_writes = writes ? UINT32_MAX : 0;
        del(w, "n");
        disk_remove_interposer(disk, &v.interposer);
        assert_int_equal(features(w, disk), QCOW2_INCOMPAT_DIRTY);
        bs = add(w, text);
        assert_int_equal(features(w, disk), 0);
        expect_clean(bs);
        del(w, "n");
    }
}

/* fact: qcow2 5.1/dirty-bit, edge/42, 5.8/clears-bits */
WORLD_TEST(test_dirty)
{
    struct disk *disk = load_vector(w, "d", "lazy-dirty-4k.qcow2");
    uint64_t before = content_of(w, disk);

    BlockDriverState *bs = add(w, "{'node-name':'n','read-only':true," Q_FILE("d") "}");
    expect_bytes(bs, 0xc1, 0, 4096);
    del(w, "n");
    assert_true(content_of(w, disk) == before);
    bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");
    assert_int_equal(features(w, disk), 0);
    expect_bytes(bs, 0xc1, 0, 4096);
    expect_bytes(bs, 0xc2, 65536, 8192);
    expect_clean(bs);
    del(w, "n");
}

/* fact: qcow2 5.1/dirty-bit, 6/dirty-stays */
WORLD_TEST(test_repair_fails)
{
    struct disk *disk = load_vector(w, "d", "lazy-dirty-4k.qcow2");
    struct watcher v = watcher;
    Error *err = NULL;

    disk_add_interposer(disk, &v.interposer);
    v.fail_writes = UINT32_MAX;
    assert_null(try_add(w, "{'node-name':'n'," Q_FILE("d") "}", &err));
    expect_error(&err, "Could not repair dirty image");
    disk_remove_interposer(disk, &v.interposer);
    assert_int_equal(features(w, disk), QCOW2_INCOMPAT_DIRTY);
    assert_int_equal(node_count(w), 0);
}

/* An image that was opened to be looked at stays dirty when it is closed, whatever happened meanwhile. */
/* fact: qcow2 6/dirty-stays */
WORLD_TEST(test_opened_for_check)
{
    struct disk *disk = load_vector(w, "d", "lazy-dirty-4k.qcow2");
    struct qvalue *options = opts("{'node-name':'n'," Q_FILE("d") "}");
    Error *err = NULL;

    BlockDriverState *bs = bdrv_open(w->host, options, BDRV_O_CHECK, &err);
    qvalue_free(options);
    assert_non_null(bs);
    assert_int_equal(guest_flush(bs), 0);
    bdrv_unref(bs);
    assert_int_equal(features(w, disk), QCOW2_INCOMPAT_DIRTY);
}

/* fact: qcow2 5.1/corrupt-bit, edge/42 */
WORLD_TEST(test_corrupt)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576}");
    struct qvalue *options = opts("{'node-name':'n'," Q_FILE("d") "}");
    Error *err = NULL;

    poke_be(w, disk, DIRTY_AT, QCOW2_INCOMPAT_CORRUPT, 1);
    assert_null(try_add(w, "{'node-name':'n'," Q_FILE("d") "}", &err));
    expect_error(&err, "qcow2: Image is corrupt; cannot be opened read/write");
    BlockDriverState *bs = bdrv_open(w->host, options, BDRV_O_CHECK, &err);
    assert_non_null(bs);
    bdrv_unref(bs);
    bs = add(w, "{'node-name':'n','read-only':true," Q_FILE("d") "}");
    expect_bytes(bs, 0, 0, 65536);
    assert_int_equal(bdrv_reopen_set_read_only(bs, false, &err), -EACCES);
    expect_error(&err, "qcow2: Image is corrupt; cannot be opened read/write");
    del(w, "n");
    qvalue_free(options);
}

/* --- what must not be written
 * ------------------------------------------------------------------------------------- */

/* fact: qcow2 4.6/readonly-untouched, 4.6/closing-inactive, edge/47 */
WORLD_TEST(test_untouched)
{
    static const char *const vectors[] = {
        "v3-empty-64k.qcow2",       "v2-data-4k.qcow2",       "lazy-dirty-4k.qcow2",
        "bitmaps-clean-4k.qcow2",   "snapshots-4k.qcow2",     "bitmaps-stale-autoclear-4k.qcow2",
        "leaks-unaligned-4k.qcow2", "bitmaps-inuse-4k.qcow2",
    };
    static const char *const ways[] = {"'read-only':true", "'active':false"};

    for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++) {
        for (unsigned way = 0; way < ARRAY_SIZE(ways); way++) {
            char name[32], text[256];
            struct watcher v = watcher;
            snprintf(name, sizeof(name), "d%u-%u", i, way);
            snprintf(text, sizeof(text),
                     "{'node-name':'n',%s,'driver':'qcow2','file':{'driver':'disk','disk':'%s',%s}}", ways[way],
                     name, ways[way]);
            struct disk *disk = load_vector(w, name, vectors[i]);
            disk_add_interposer(disk, &v.interposer);
            BlockDriverState *bs = add(w, text);
            assert_true(bdrv_getlength_cached(bs) > 0);
            del(w, "n");
            assert_int_equal(v.changes, 0);
            disk_remove_interposer(disk, &v.interposer);
        }
    }
}

/* --- bitmaps
 * ------------------------------------------------------------------------------------------------------ */

static bool in_use(struct world *w, struct disk *disk)
{
    struct qvalue *options = opts("{'node-name':'look','read-only':true," Q_FILE("d") "}");
    BlockDriverState *bs = bdrv_open(w->host, options, 0, NULL);
    bool found = false;

    qvalue_free(options);
    assert_non_null(bs);
    assert_non_null(disk);
    for (BdrvDirtyBitmap *b = LIST_FIRST(&bs->dirty_bitmaps); b; b = bdrv_dirty_bitmap_next(bs, b)) {
        found = found || bdrv_dirty_bitmap_inconsistent(b);
    }
    assert_true(bdrv_has_dirty_bitmaps(bs));
    bdrv_unref(bs);
    return found;
}

/* The image opens, its bitmaps are marked in use; then its backing file is not there. */
/* fact: qcow2 4.3/candidates */
WORLD_TEST(test_failed_open_keeps_bitmaps)
{
    struct disk *disk = load_vector(w, "d", "bitmaps-clean-4k.qcow2");
    Error *err = NULL;

    assert_null(try_add(w, "{'node-name':'n'," Q_FILE("d") ",'backing':'nobody'}", &err));
    expect_error(&err, "Could not open backing file");
    assert_false(in_use(w, disk));
}

/* One request fails, which all before were not. */
struct late {
    struct disk_interposer interposer;
    unsigned after;
    bool done;
};

static void fail_late(struct disk_interposer *self, struct disk_req *req)
{
    struct late *v = container_of(self, struct late, interposer);

    if (v->done || (req->op != SIM_OP_WRITE && req->op != SIM_OP_FLUSH)) {
        return;
    }
    if (v->after == 0) {
        req->ret = -EIO;
        v->done = true;
    } else {
        v->after--;
    }
}

/* --- giving up and taking back
 * ------------------------------------------------------------------------------------ */

static int give_up(void *opaque)
{
    return qcow2_co_inactivate(opaque);
}

static int take_back(void *opaque)
{
    return qcow2_co_invalidate_cache(opaque, NULL);
}

/* Another node writes the image while this one has given it up: what is read afterwards is the other's. */
/* fact: qcow2 4.6/activation, 4.6/closing-inactive */
WORLD_TEST(test_hand_over)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576,'cluster-size':4096,'lazy-refcounts':true}");
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");
    struct watcher v = watcher;

    assert_int_equal(guest_write(bs, 0x11, 0, 65536), 0);
    bdrv_drained_begin(bs);
    assert_int_equal(bdrv_run_co(w->host, "give up", give_up, bs), 0);
    assert_int_equal(features(w, disk), 0);
    uint64_t given = content_of(w, disk);
    disk_add_interposer(disk, &v.interposer);
    assert_int_equal(bdrv_run_co(w->host, "take back", take_back, bs), 0);
    disk_remove_interposer(disk, &v.interposer);
    assert_int_equal(v.changes, 0); /* no bitmaps: nothing to say */
    assert_true(content_of(w, disk) == given);
    bdrv_drained_end(bs);
    expect_bytes(bs, 0x11, 0, 65536);
    expect_clean(bs);
    del(w, "n");
}

/* Everything but the dirty bit could be written: the node goes on, and so does its bitmap, which is in use again.
 */
/* fact: qcow2 4.6/activation */
WORLD_TEST(test_giving_up_fails)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576,'lazy-refcounts':true}");
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(bs, 65536, "b", NULL);
    bool failed = true;
    unsigned n = 0;

    bdrv_dirty_bitmap_set_persistence(bitmap, true);
    assert_int_equal(guest_write(bs, 0x11, 0, 65536), 0);
    for (; failed && n < 40; n++) {
        struct late v = {.interposer = {.before = fail_late}, .after = n};
        disk_add_interposer(disk, &v.interposer);
        bdrv_drained_begin(bs);
        failed = bdrv_run_co(w->host, "give up", give_up, bs) < 0;
        bdrv_drained_end(bs);
        disk_remove_interposer(disk, &v.interposer);
        if (failed) {
            assert_ptr_equal(bdrv_find_dirty_bitmap(bs, "b"), bitmap);
            int ret = guest_write(bs, 0x12, 65536, 512);
            assert_true(ret == 0 || (ret == -EPERM && bdrv_dirty_bitmap_readonly(bitmap)));
            assert_true(ret < 0 || bdrv_get_dirty_count(bitmap) == 131072);
        }
    }
    assert_true(n > 3 && !failed);
    assert_null(bdrv_find_dirty_bitmap(bs, "b"));
    assert_int_equal(features(w, disk), 0);
    bdrv_drained_begin(bs);
    assert_int_equal(bdrv_run_co(w->host, "take back", take_back, bs), 0);
    bdrv_drained_end(bs);
    bitmap = bdrv_find_dirty_bitmap(bs, "b");
    assert_non_null(bitmap);
    assert_false(bdrv_dirty_bitmap_inconsistent(bitmap));
    assert_int_equal(bdrv_get_dirty_count(bitmap), 131072);
    expect_clean(bs);
    del(w, "n");
}

/* fact: qcow2 4.6/activation */
WORLD_TEST(test_taking_back_fails)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576}");
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");
    struct watcher v = watcher;

    assert_int_equal(guest_write(bs, 0x11, 0, 65536), 0);
    bdrv_drained_begin(bs);
    assert_int_equal(bdrv_run_co(w->host, "give up", give_up, bs), 0);
    poke_be(w, disk, 0, 0, 4);
    assert_int_equal(bdrv_run_co(w->host, "take back", take_back, bs), -EINVAL);
    bdrv_drained_end(bs);
    assert_int_equal(guest_write(bs, 0x22, 0, 512), -ENOMEDIUM);
    disk_add_interposer(disk, &v.interposer);
    del(w, "n");
    disk_remove_interposer(disk, &v.interposer);
    assert_int_equal(v.changes, 0);
}

/* --- what it says
 * ------------------------------------------------------------------------------------------------- */

struct info_call {
    BlockDriverState *bs;
    struct qvalue *info;
};

static int info_entry(void *opaque)
{
    struct info_call *call = opaque;

    call->info = bdrv_co_get_specific_info(call->bs);
    return 0;
}

static void expect_info(struct world *w, const char *disk, const char *shape, const char *json)
{
    char text[128];

    make_image(w, disk, shape);
    snprintf(text, sizeof(text), "{'node-name':'n','driver':'qcow2','file':{'driver':'disk','disk':'%s'}}", disk);
    struct info_call call = {.bs = add(w, text)};
    assert_int_equal(bdrv_run_co(w->host, "info", info_entry, &call), 0);
    char *got = qvalue_to_json(call.info);
    assert_string_equal(got, json);
    free(got);
    qvalue_free(call.info);
    del(w, "n");
}

/* fact: qcow2 5.1/version-2 */
WORLD_TEST(test_info)
{
    expect_info(
        w, "v3", "{'size':1048576,'lazy-refcounts':true,'refcount-bits':8,'compression-type':'zstd'}",
        "{\"type\":\"qcow2\",\"data\":{\"compat\":\"1.1\",\"compression-type\":\"zstd\",\"lazy-refcounts\":true,"
        "\"refcount-bits\":8,\"corrupt\":false,\"extended-l2\":false}}");
    expect_info(
        w, "v2", "{'size':1048576,'version':'v2'}",
        "{\"type\":\"qcow2\",\"data\":{\"compat\":\"0.10\",\"compression-type\":\"zlib\",\"refcount-bits\":16}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/open/lazy", test_lazy),
        T("/qcow2/open/lazy-close-fails", test_lazy_close_fails),
        T("/qcow2/open/dirty", test_dirty),
        T("/qcow2/open/repair-fails", test_repair_fails),
        T("/qcow2/open/for-check", test_opened_for_check),
        T("/qcow2/open/corrupt", test_corrupt),
        T("/qcow2/open/untouched", test_untouched),
        T("/qcow2/open/failed-open-keeps-bitmaps", test_failed_open_keeps_bitmaps),
        T("/qcow2/open/hand-over", test_hand_over),
        T("/qcow2/open/giving-up-fails", test_giving_up_fails),
        T("/qcow2/open/taking-back-fails", test_taking_back_fails),
        T("/qcow2/open/info", test_info),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
