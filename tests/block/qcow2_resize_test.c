/* Protects the length of qcow2 disks: what becomes visible, what goes, what is refused, and in which order (5.5).
 */
#include "tests/block/qcow2_lib.h"

static BlockDriverState *open_image(struct world *w)
{
    return add(w, "{'node-name':'n','discard':'unmap'," Q_FILE("d") "}");
}

static void reopen_clean(struct world *w)
{
    del(w, "n");
    expect_clean(open_image(w));
}

static void resize(BlockDriverState *bs, int64_t bytes, enum bdrv_prealloc prealloc)
{
    Error *err = NULL;

    if (guest_truncate(bs, bytes, prealloc, &err) < 0) {
        fail_msg("%lld: %s", (long long)bytes, error_get_pretty(err));
    }
    assert_int_equal(bdrv_getlength_cached(bs), bytes);
}

static const char *const shapes[] = {
    "{'size':1048576}",
    "{'size':1048576,'cluster-size':512}",
    "{'size':1048576,'cluster-size':4096,'version':'v2'}",
    "{'size':1048576,'cluster-size':16384,'extended-l2':true}",
    "{'size':1048576,'cluster-size':4096,'lazy-refcounts':true}",
    "{'size':1048576,'cluster-size':2097152,'refcount-bits':1}",
};

/* What was cut off does not come back, be the end in the middle of a cluster or not. */
static void round_trip(struct world *w, unsigned shape)
{
    char name[16], text[128];

    snprintf(name, sizeof(name), "d%u", shape);
    snprintf(text, sizeof(text), "{'node-name':'n','driver':'qcow2','file':{'driver':'disk','disk':'%s'}}", name);
    struct disk *disk = make_image(w, name, shapes[shape]);
    BlockDriverState *bs = add(w, text);
    assert_int_equal(guest_write(bs, 0x11, 0, MiB), 0);
    int64_t full = disk_length(disk);
    resize(bs, 300 * KiB + 512, PREALLOC_OFF);
    expect_bytes(bs, 0x11, 0, 300 * KiB + 512);
    expect_clean(bs);
    assert_true(disk_length(disk) < full || strstr(shapes[shape], "2097152"));
    resize(bs, 3 * MiB, PREALLOC_OFF);
    expect_bytes(bs, 0x11, 0, 300 * KiB + 512);
    expect_bytes(bs, 0, 300 * KiB + 512, 3 * MiB - 300 * KiB - 512);
    assert_int_equal(guest_write(bs, 0x22, 2 * MiB, 512), 0);
    expect_clean(bs);
    del(w, "n");
    bs = add(w, text);
    assert_int_equal(bdrv_getlength_cached(bs), 3 * MiB);
    expect_bytes(bs, 0, 300 * KiB + 512, MiB);
    expect_bytes(bs, 0x22, 2 * MiB, 512);
    resize(bs, 0, PREALLOC_OFF);
    expect_clean(bs);
    resize(bs, MiB, PREALLOC_OFF);
    expect_bytes(bs, 0, 0, MiB);
    expect_clean(bs);
    del(w, "n");
}

/* fact: qcow2 5.5/resize, 5.5/shrink, 5.5/l1-growth */
WORLD_TEST(test_round_trip)
{
    for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
        round_trip(w, i);
    }
}

/* fact: qcow2 5.9/prealloc-full, 5.9/prealloc-metadata */
WORLD_TEST(test_grow_preallocated)
{
    static const enum bdrv_prealloc modes[] = {PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL};

    make_image(w, "d", "{'size':100352,'cluster-size':4096}");
    BlockDriverState *bs = open_image(w);
    assert_int_equal(guest_write(bs, 0x33, 0, 100352), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        resize(bs, 100352 + (i + 1) * 300 * KiB, modes[i]);
        expect_bytes(bs, 0x33, 0, 100352);
        expect_bytes(bs, 0, 100352, (i + 1) * 300 * KiB);
        expect_clean(bs);
    }
    reopen_clean(w);
    del(w, "n");
}

/* Clusters that were in use before read as zeroes when they are given out unasked. */
/* fact: qcow2 5.9/prealloc-metadata */
WORLD_TEST(test_prealloc_reuses)
{
    make_image(w, "d", "{'size':1048576,'cluster-size':4096}");
    BlockDriverState *bs = open_image(w);
    assert_int_equal(guest_write(bs, 0x44, 0, MiB), 0);
    assert_int_equal(guest_flush(bs), 0);
    assert_int_equal(guest_do(bs, (struct guest_call){.op = GUEST_DISCARD, .offset = 0, .bytes = 512 * KiB}), 0);
    assert_int_equal(guest_flush(bs), 0);
    resize(bs, 2 * MiB, PREALLOC_METADATA);
    expect_bytes(bs, 0, 0, 512 * KiB);
    expect_bytes(bs, 0x44, 512 * KiB, 512 * KiB);
    expect_bytes(bs, 0, MiB, MiB);
    expect_clean(bs);
    del(w, "n");
}

/* fact: qcow2 5.9/grow-over-backing, edge/46 */
WORLD_TEST(test_over_backing)
{
    static const char *const versions[] = {"v2", "v3"};

    make_disk(w, "base", 4 * MiB);
    BlockDriverState *base = add(w, "{'node-name':'b','driver':'raw','file':{'driver':'disk','disk':'base'}}");
    assert_int_equal(guest_write(base, 0x55, 0, 4 * MiB), 0);
    del(w, "b");
    for (unsigned i = 0; i < 2; i++) {
        char name[16], text[256];
        snprintf(name, sizeof(name), "top%u", i);
        snprintf(text, sizeof(text),
                 "{'size':100352,'cluster-size':65536,'version':'%s','backing-file':'base','backing-fmt':'raw'}",
                 versions[i]);
        make_image(w, name, text);
        snprintf(text, sizeof(text), "{'node-name':'n','driver':'qcow2','file':{'driver':'disk','disk':'%s'}}",
                 name);
        BlockDriverState *bs = add(w, text);
        expect_bytes(bs, 0x55, 0, 100352);
        resize(bs, 2 * MiB, PREALLOC_OFF);
        expect_bytes(bs, 0x55, 0, 100352);
        expect_bytes(bs, 0, 100352, 2 * MiB - 100352);
        expect_clean(bs);
        resize(bs, 50 * KiB, PREALLOC_OFF);
        resize(bs, MiB, PREALLOC_OFF);
        expect_bytes(bs, 0x55, 0, 50 * KiB);
        expect_bytes(bs, 0, 50 * KiB, MiB - 50 * KiB);
        expect_clean(bs);
        del(w, "n");
    }
}

static void expect_refused(BlockDriverState *bs, int64_t bytes, enum bdrv_prealloc prealloc, int ret,
                           const char *text)
{
    int64_t before = bdrv_getlength_cached(bs);
    Error *err = NULL;

    assert_int_equal(guest_truncate(bs, bytes, prealloc, &err), ret);
    expect_error(&err, text);
    assert_int_equal(bdrv_getlength_cached(bs), before);
}

/* fact: qcow2 5.7/v2-resize, 5.9/max-size; block 5/qcow2 */
WORLD_TEST(test_refused)
{
    make_image(w, "d", "{'size':1048576,'cluster-size':512,'version':'v2'}");
    BlockDriverState *bs = open_image(w);
    BDRVQcow2State *s = bs->opaque;

    expect_refused(bs, MiB + 1, PREALLOC_OFF, -EINVAL, "The new size must be a multiple of 512");
    expect_refused(bs, 512, PREALLOC_METADATA, -EINVAL, "Preallocation can't be used for shrinking an image");
    expect_refused(bs, 128 * GiB + 512, PREALLOC_OFF, -EFBIG, "too large for file format 'qcow2'");
    s->nb_snapshots = 1;
    expect_refused(bs, 2 * MiB, PREALLOC_OFF, -ENOTSUP, "Can't resize a version 2 image which has snapshots");
    s->nb_snapshots = 0;
    expect_clean(bs);
    del(w, "n");
}

/* --- order and failure -------------------------------------------------------------------------------------------
 */

struct watcher {
    struct disk_interposer interposer;
    unsigned writes;     /* and whatever else has an effect */
    unsigned fail_from;  /* the first write that fails; 0: none */
    int64_t last_offset; /* of the last write */
    int64_t last_bytes;
    bool flushed_since;
};

static void watch(struct disk_interposer *self, struct disk_req *req)
{
    struct watcher *v = container_of(self, struct watcher, interposer);

    if (req->op == SIM_OP_FLUSH) {
        v->flushed_since = true;
    }
    if (req->op != SIM_OP_WRITE && req->op != SIM_OP_TRUNCATE) {
        return;
    }
    v->writes++;
    v->last_offset = req->offset;
    v->last_bytes = req->bytes;
    v->flushed_since = false;
    if (v->fail_from > 0 && v->writes >= v->fail_from) {
        req->ret = -EIO;
    }
}

/* fact: qcow2 5.5/resize, 5.5/shrink */
WORLD_TEST(test_header_last)
{
    static const int64_t lengths[] = {2 * MiB, 200 * MiB, 512 * KiB, 1024};
    struct watcher v = {.interposer = {.before = watch}};
    struct disk *disk = make_image(w, "d", "{'size':1048576,'cluster-size':4096}");
    BlockDriverState *bs = open_image(w);

    assert_int_equal(guest_write(bs, 0x66, 0, MiB), 0);
    disk_add_interposer(disk, &v.interposer);
    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
        resize(bs, lengths[i], PREALLOC_OFF);
        assert_int_equal(v.last_offset, 0); /* its sector */
        assert_int_equal(v.last_bytes, 512);
        assert_true(v.flushed_since);
        assert_int_equal(peek_be(w, disk, 24, 8), lengths[i]);
    }
    disk_remove_interposer(disk, &v.interposer);
    expect_clean(bs);
    del(w, "n");
}

/* The disk stays as long as it was, and no worse than leaky. */
static void fail_at(struct world *w, unsigned number, int64_t length, enum bdrv_prealloc prealloc, bool *failed)
{
    struct watcher v = {.interposer = {.before = watch}, .fail_from = number + 1};
    char name[32], text[128];
    Error *err = NULL;

    snprintf(name, sizeof(name), "d%lld-%d-%u", (long long)length, (int)prealloc, number);
    snprintf(text, sizeof(text), "{'node-name':'n','driver':'qcow2','file':{'driver':'disk','disk':'%s'}}", name);
    struct disk *disk = make_image(w, name, "{'size':1048576,'cluster-size':4096}");
    BlockDriverState *bs = add(w, text);
    assert_int_equal(guest_write(bs, 0x66, 0, MiB), 0);
    assert_int_equal(guest_flush(bs), 0);
    disk_add_interposer(disk, &v.interposer);
    *failed = guest_truncate(bs, length, prealloc, &err) < 0;
    disk_remove_interposer(disk, &v.interposer);
    assert_true(*failed == (err != NULL));
    error_free(err);
    assert_int_equal(bdrv_getlength_cached(bs), *failed ? MiB : length);
    expect_bytes(bs, 0x66, 0, MIN(length, MiB) - MIN(length, MiB) % 4096);
    del(w, "n");
    bs = add(w, text);
    struct check_call call = {.bs = bs};
    assert_int_equal(bdrv_run_co(w->host, "check", check_entry, &call), 0);
    assert_int_equal(call.res.corruptions, 0);
    expect_bytes(bs, 0x66, 0, MIN(length, MiB) - MIN(length, MiB) % 4096);
    del(w, "n");
}

/* fact: qcow2 5.5/resize, 6/only-leaks */
WORLD_TEST(test_write_errors)
{
    static const struct {
        int64_t length;
        enum bdrv_prealloc prealloc;
    } cases[] = {{64 * MiB, PREALLOC_OFF}, {300 * KiB, PREALLOC_OFF}, {1300 * KiB, PREALLOC_METADATA}};

    for (unsigned c = 0; c < ARRAY_SIZE(cases); c++) {
        bool failed = true;
        unsigned n = 0;
        for (; failed && n < 40; n++) {
            fail_at(w, n, cases[c].length, cases[c].prealloc, &failed);
        }
        assert_true(n > 1 && !failed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/resize/round-trip", test_round_trip),
        T("/qcow2/resize/preallocated", test_grow_preallocated),
        T("/qcow2/resize/prealloc-reuses", test_prealloc_reuses),
        T("/qcow2/resize/over-backing", test_over_backing),
        T("/qcow2/resize/refused", test_refused),
        T("/qcow2/resize/header-last", test_header_last),
        T("/qcow2/resize/write-errors", test_write_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
