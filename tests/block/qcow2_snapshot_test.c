/* Protects internal snapshots of qcow2: what they keep, what comes back, counts and flags, refusals, and that power
 * may fail at any write. */
#include "tests/block/qcow2_snap_lib.h"

#define K ((int64_t)1024)
#define DISK_BYTES (256 * K)

static const char *const shapes[] = {
    "{'size':262144,'cluster-size':4096}",
    "{'size':262144,'cluster-size':512}",
    "{'size':262144,'cluster-size':4096,'version':'v2'}",
    "{'size':262144,'cluster-size':16384,'extended-l2':true}",
    "{'size':262144,'cluster-size':4096,'lazy-refcounts':true}",
    "{'size':262144,'cluster-size':4096,'refcount-bits':64}",
    "{'size':262144,'cluster-size':4096,'refcount-bits':4}",
};

static BlockDriverState *open_image(struct world *w, const char *disk)
{
    char text[160];

    snprintf(text, sizeof(text), "{'driver':'qcow2','node-name':'q','file':{'driver':'disk','disk':'%s'}}", disk);
    return add(w, text);
}

static struct disk *new_image(struct world *w, size_t shape, char *disk)
{
    sprintf(disk, "d%zu", shape);
    return make_image(w, disk, shapes[shape]);
}

/* The guest's whole disk as one number. */
static uint64_t view(BlockDriverState *bs)
{
    int64_t bytes = bdrv_getlength_cached(bs);
    uint8_t *out = calloc(1, (size_t)bytes + 1);
    uint64_t id = (uint64_t)bytes;

    assert_int_equal(guest_do(bs, (struct guest_call){.op = GUEST_READ, .bytes = bytes, .out = out}), 0);
    for (int64_t i = 0; i < bytes; i++) {
        id = id * 0x100000001b3ULL + out[i];
    }
    free(out);
    return id;
}

/* --- what they keep
 * ------------------------------------------------------------------------------------------------ */

static void keep_and_return(struct world *w, size_t shape)
{
    char disk[16];
    QEMUSnapshotInfo *list;

    new_image(w, shape, disk);
    BlockDriverState *bs = open_image(w, disk);
    guest_write(bs, 0x11, 0, 40 * K);
    guest_write(bs, 0x12, 200 * K + 100, 5000);
    assert_int_equal(snap(bs, snap_create, "one", NULL), 0);
    expect_clean(bs);
    guest_write(bs, 0x21, 8 * K, 8 * K);
    guest_write(bs, 0x22, 100 * K, 3 * K);
    guest_do(bs, (struct guest_call){.op = GUEST_DISCARD, .offset = 16 * K, .bytes = 16 * K});
    uint64_t second = view(bs);
    assert_int_equal(snap(bs, snap_create, "two", NULL), 0);
    expect_clean(bs);
    guest_write(bs, 0x31, 0, DISK_BYTES);
    expect_clean(bs);

    assert_int_equal(snap(bs, snap_goto, "one", NULL), 0);
    expect_bytes(bs, 0x11, 0, 40 * K);
    expect_bytes(bs, 0, 40 * K, 160 * K + 100);
    expect_bytes(bs, 0x12, 200 * K + 100, 5000);
    expect_clean(bs);
    guest_write(bs, 0x41, 4 * K, 100 * K);
    assert_int_equal(snap(bs, snap_goto, "two", NULL), 0);
    assert_true(view(bs) == second);
    assert_int_equal(snap(bs, snap_delete, "two", NULL), 0);
    assert_true(view(bs) == second);
    expect_clean(bs);
    del(w, "q");

    bs = open_image(w, disk);
    assert_true(view(bs) == second);
    assert_int_equal(bdrv_snapshot_list(bs, &list), 1);
    assert_string_equal(list[0].name, "one");
    assert_string_equal(list[0].id_str, "1");
    assert_int_equal(list[0].disk_size, DISK_BYTES);
    bdrv_snapshot_list_free(list, 1);
    assert_int_equal(snap(bs, snap_delete, "one", NULL), 0);
    expect_clean(bs);
    assert_true(view(bs) == second);
    del(w, "q");
}

/* fact: qcow2 5.7/create, 5.7/apply, 5.7/delete, 5.7/table, edge/31 */
WORLD_TEST(keep)
{
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        keep_and_return(w, i);
    }
}

/* fact: qcow2 5.7/id */
WORLD_TEST(ids)
{
    char disk[16];
    QEMUSnapshotInfo *list;

    new_image(w, 0, disk);
    BlockDriverState *bs = open_image(w, disk);
    assert_int_equal(snap(bs, snap_create, "a", NULL), 0);
    assert_int_equal(snap(bs, snap_create, "b", NULL), 0);
    assert_int_equal(snap(bs, snap_create, "c", NULL), 0);
    assert_int_equal(snap(bs, snap_delete, "a", NULL), 0);
    assert_int_equal(snap(bs, snap_create, "a", NULL), 0);
    assert_int_equal(bdrv_snapshot_list(bs, &list), 3);
    assert_string_equal(list[0].id_str, "2");
    assert_string_equal(list[2].id_str, "4");
    assert_string_equal(list[2].name, "a");
    bdrv_snapshot_list_free(list, 3);
    del(w, "q");
}

/* --- sizes
 * ------------------------------------------------------------------------------------------------------------ */

/* fact: qcow2 5.7/apply */
WORLD_TEST(other_size)
{
    char disk[16];

    new_image(w, 1, disk);
    BlockDriverState *bs = open_image(w, disk);
    guest_write(bs, 0x11, 0, DISK_BYTES);
    assert_int_equal(snap(bs, snap_create, "small", NULL), 0);
    assert_int_equal(guest_truncate(bs, 8 * MiB, PREALLOC_OFF, NULL), 0);
    guest_write(bs, 0x22, 7 * MiB, 64 * K);
    guest_write(bs, 0x23, 0, 4 * K);
    assert_int_equal(snap(bs, snap_create, "large", NULL), 0);
    assert_int_equal(snap(bs, snap_goto, "small", NULL), 0);
    assert_int_equal(bdrv_getlength_cached(bs), DISK_BYTES);
    expect_bytes(bs, 0x11, 0, DISK_BYTES);
    expect_clean(bs);
    assert_int_equal(snap(bs, snap_goto, "large", NULL), 0);
    assert_int_equal(bdrv_getlength_cached(bs), 8 * MiB);
    expect_bytes(bs, 0x22, 7 * MiB, 64 * K);
    expect_bytes(bs, 0x23, 0, 4 * K);
    expect_clean(bs);
    del(w, "q");
    bs = open_image(w, disk);
    assert_int_equal(bdrv_getlength_cached(bs), 8 * MiB);
    expect_bytes(bs, 0x22, 7 * MiB, 64 * K);
    del(w, "q");
}

WORLD_TEST(real_image)
{
    load_vector(w, "v", "snapshots-4k.qcow2");
    BlockDriverState *bs = open_image(w, "v");
    uint64_t now = view(bs);

    assert_int_equal(snap(bs, snap_create, "third", NULL), 0);
    assert_int_equal(snap(bs, snap_goto, "first", NULL), 0);
    assert_int_equal(bdrv_getlength_cached(bs), 64 * K);
    expect_bytes(bs, 0xa1, 0, 16 * K);
    expect_bytes(bs, 0, 16 * K, 48 * K);
    expect_clean(bs);
    assert_int_equal(snap(bs, snap_goto, "second", NULL), 0);
    expect_bytes(bs, 0xa1, 0, 4 * K);
    expect_bytes(bs, 0xa2, 4 * K, 4 * K);
    expect_clean(bs);
    assert_int_equal(snap(bs, snap_goto, "third", NULL), 0);
    assert_true(view(bs) == now);
    del(w, "q");
}

/* --- refusals
 * ---------------------------------------------------------------------------------------------------------- */

/* fact: qcow2 5.3/overflow, edge/48 */
WORLD_TEST(overflow)
{
    static const char *const widths[] = {"{'size':262144,'cluster-size':4096,'refcount-bits':1}",
                                         "{'size':262144,'cluster-size':4096,'refcount-bits':2}"};

    for (unsigned i = 0; i < 2; i++) {
        char disk[16], text[128];
        sprintf(disk, "o%u", i);
        make_image(w, disk, widths[i]);
        snprintf(text, sizeof(text), "{'driver':'qcow2','node-name':'q','file':{'driver':'disk','disk':'%s'}}",
                 disk);
        BlockDriverState *bs = add(w, text);
        guest_write(bs, 0x11, 0, 64 * K);
        for (unsigned n = 0; n < (i ? 2 : 0); n++) {
            assert_int_equal(snap(bs, snap_create, "fits", NULL), 0);
        }
        guest_write(bs, 0x12, 64 * K, 64 * K);
        assert_int_equal(snap(bs, snap_create, "x", "Invalid argument"), -EINVAL);
        expect_clean(bs);
        expect_bytes(bs, 0x11, 0, 64 * K);
        guest_write(bs, 0x13, 0, 64 * K);
        expect_clean(bs);
        QEMUSnapshotInfo *list;
        int count = bdrv_snapshot_list(bs, &list);
        assert_int_equal(count, i ? 2 : 0);
        bdrv_snapshot_list_free(list, count);
        del(w, "q");
    }
}

/* fact: qcow2 5.7/v2-resize */
WORLD_TEST(v2_keeps_its_size)
{
    char disk[16];
    Error *err = NULL;

    new_image(w, 2, disk);
    BlockDriverState *bs = open_image(w, disk);
    assert_int_equal(snap(bs, snap_create, "a", NULL), 0);
    assert_true(guest_truncate(bs, MiB, PREALLOC_OFF, &err) < 0);
    error_free(err);
    del(w, "q");
}

WORLD_TEST(bitmaps_stop_going_back)
{
    char disk[16];

    new_image(w, 0, disk);
    BlockDriverState *bs = open_image(w, disk);
    guest_write(bs, 0x11, 0, 8 * K);
    assert_int_equal(snap(bs, snap_create, "a", NULL), 0);
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(bs, 65536, NULL, NULL);
    assert_non_null(bitmap);
    assert_int_equal(snap(bs, snap_goto, "a", "Device has active dirty bitmaps"), -EBUSY);
    bdrv_release_dirty_bitmap(bitmap);
    assert_int_equal(snap(bs, snap_goto, "a", NULL), 0);
    assert_int_equal(snap(bs, snap_goto, "b", "Can't find snapshot 'b'"), -ENOENT);
    assert_int_equal(snap(bs, snap_delete, "b", "Can't find the snapshot"), -ENOENT);
    del(w, "q");
}

/* fact: qcow2 5.7/data-file, 5.2/data-file-limits */
WORLD_TEST(no_data_file)
{
    make_disk(w, "data", 0);
    make_disk(w, "meta", 0);
    Error *err = NULL;
    int ret = try_create(w, "meta", "{'size':262144,'data-file':{'driver':'disk','disk':'data'}}", &err);

    if (ret < 0) {
        fail_msg("%s", error_get_pretty(err));
    }
    BlockDriverState *bs = add(w, "{'driver':'qcow2','node-name':'q','file':{'driver':'disk','disk':'meta'},"
                                  "'data-file':{'driver':'disk','disk':'data'}}");
    assert_int_equal(snap(bs, snap_create, "a", "external data file"), -ENOTSUP);
    del(w, "q");
}

/* --- power
 * ------------------------------------------------------------------------------------------------------------- */

struct act {
    int (*fn)(struct snap_call *, Error **);
    const char *name;
};

static const struct act acts[] = {
    {snap_create, "new"}, {snap_goto, "one"}, {snap_goto, "two"}, {snap_delete, "one"}, {snap_delete, "two"}};

/* What the image held in each respect before and after. */
struct held {
    uint64_t now, one, two;
};

static void say_line(void *opaque, const char *line)
{
    fprintf(stderr, "%s: %s\n", (const char *)opaque, line);
}

/* A leak beyond the end of the file is invisible until the file grows over it [edge 49]. */
static void clean_or_fail(BlockDriverState *bs, const char *disk, const char *when, bool leaks)
{
    BdrvCheckResult found = {.say = say_line, .say_opaque = (void *)disk};

    assert_int_equal(check_image(bs, 0, &found), 0);
    if (found.corruptions + found.check_errors > 0 || (found.leaks > 0 && !leaks)) {
        fail_msg("%s: %s: %lld corruptions, %lld leaks", disk, when, (long long)found.corruptions,
                 (long long)found.leaks);
    }
}

static struct held look(struct world *w, const struct image *image, const char *disk)
{
    BdrvCheckResult repaired = {0};
    struct held held = {0};

    image_disk(w, disk, image);
    BlockDriverState *bs = open_image(w, disk);
    /* Version 2 says of no image that it needs a repair: COPIED may be missing, and there may be leaks. */
    if (image_be(image, 4, 4) == 2) {
        assert_int_equal(check_image(bs, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS, &repaired), 0);
    }
    clean_or_fail(bs, disk, "opened", false);
    held.now = view(bs);
    held.one = snap(bs, snap_goto, "one", NULL) == 0 ? view(bs) : 0;
    clean_or_fail(bs, disk, "gone back to one", true);
    held.two = snap(bs, snap_goto, "two", NULL) == 0 ? view(bs) : 0;
    clean_or_fail(bs, disk, "gone back to two", true);
    del(w, "q");
    return held;
}

/* The guest goes on writing as if nothing had been: snapshots must not change by that. */
static void write_on(struct world *w, struct image *image, const char *disk)
{
    struct disk *d = image_disk(w, disk, image);
    BlockDriverState *bs = open_image(w, disk);

    guest_write(bs, 0x77, 0, 64 * K);
    guest_write(bs, 0x78, 128 * K + 512, 9 * K);
    del(w, "q");
    free(image->data);
    *image = image_take(w, d, false);
}

static void expect_cuts(struct world *w, struct cuts *cuts, const struct act *act, size_t shape, struct held before,
                        struct held after)
{
    for (size_t n = 0; n < cuts->n; n++) {
        char disk[48];
        snprintf(disk, sizeof(disk), "cut%zu-%zu-%zu", shape, (size_t)(act - acts), n);
        struct held held = look(w, &cuts->images[n], disk);
        if (held.now != before.now && held.now != after.now) {
            fail_msg("%s: the guest's disk is neither old nor new", disk);
        }
        if ((held.one != before.one && held.one != after.one) ||
            (held.two != before.two && held.two != after.two)) {
            fail_msg("%s: a snapshot is neither old nor new", disk);
        }
        snprintf(disk, sizeof(disk), "on%zu-%zu-%zu", shape, (size_t)(act - acts), n);
        write_on(w, &cuts->images[n], disk);
        strcat(disk, "x");
        struct held later = look(w, &cuts->images[n], disk);
        if (later.one != held.one || later.two != held.two) {
            fail_msg("%s: the guest wrote into a snapshot", disk);
        }
    }
}

static struct disk *power_image(struct world *w, size_t shape, const char *disk)
{
    struct disk *d = make_image(w, disk, shapes[shape]);
    BlockDriverState *bs = open_image(w, disk);

    guest_write(bs, 0x11, 0, 40 * K);
    guest_write(bs, 0x12, 200 * K + 100, 5000);
    snap(bs, snap_create, "one", NULL);
    guest_write(bs, 0x21, 8 * K, 24 * K);
    guest_write(bs, 0x22, 130 * K, 3 * K);
    snap(bs, snap_create, "two", NULL);
    guest_write(bs, 0x31, 16 * K, 120 * K);
    del(w, "q");
    return d;
}

static void cut_everywhere(struct world *w, size_t shape, const struct act *act)
{
    char disk[32], copy[40];
    struct cuts cuts;

    snprintf(disk, sizeof(disk), "p%zu-%zu", shape, (size_t)(act - acts));
    struct disk *d = power_image(w, shape, disk);
    struct image image = image_take(w, d, false);
    snprintf(copy, sizeof(copy), "%s-before", disk);
    struct held before = look(w, &image, copy);
    free(image.data);

    BlockDriverState *bs = open_image(w, disk);
    bool v2 = strstr(shapes[shape], "v2") != NULL;
    cuts_begin(&cuts, w, d, QCOW2_ALLOW_LEAKS | QCOW2_ALLOW_DIRTY | (v2 ? QCOW2_ALLOW_COPIED : 0));
    assert_int_equal(snap(bs, act->fn, act->name, NULL), 0);
    cuts_end(&cuts);
    del(w, "q");
    assert_true(cuts.n > 8);

    image = image_take(w, d, false);
    snprintf(copy, sizeof(copy), "%s-after", disk);
    struct held after = look(w, &image, copy);
    free(image.data);
    expect_cuts(w, &cuts, act, shape, before, after);
    cuts_free(&cuts);
}

/* The original applies a snapshot by an L1 that still says COPIED: after a cut there the guest writes into the
 * snapshot; its windows of create and delete are reported as corruption. */
/* fact: qcow2 6/snapshot-apply, 6/snapshot-window, 6/switch, 5.5/snapshot-create, 5.5/snapshot-delete */
WORLD_TEST(power)
{
    for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
        cut_everywhere(w, 0, &acts[i]);
    }
    cut_everywhere(w, 1, &acts[1]);
    cut_everywhere(w, 2, &acts[0]); /* version 2: by the order alone */
    cut_everywhere(w, 2, &acts[2]);
    cut_everywhere(w, 2, &acts[3]);
    cut_everywhere(w, 3, &acts[0]);
}

/* --- errors
 * ------------------------------------------------------------------------------------------------------------ */

/* The nth write or flush fails, and so do `more` after it. */
struct failing {
    struct disk_interposer interposer;
    int nth;
    int more;
    bool hit;
};

static void fail_before(struct disk_interposer *self, struct disk_req *req)
{
    struct failing *f = (struct failing *)self;

    if (req->op == SIM_OP_READ || f->nth-- > 0) {
        return;
    }
    if (f->nth + f->more >= -1) {
        req->ret = -EIO;
        f->hit = true;
    }
}

/* Whatever fails, the guest's disk and the snapshots are as before or as after, now and when opened again. */
static bool fail_at(struct world *w, const struct image *image, const struct act *act, int nth, int more,
                    struct held before, struct held after)
{
    static unsigned disks;
    char disk[32], again[40];
    struct failing failing = {.interposer.before = fail_before, .nth = nth, .more = more};

    snprintf(disk, sizeof(disk), "fail%u", disks++);
    struct disk *d = image_disk(w, disk, image);
    BlockDriverState *bs = open_image(w, disk);
    disk_add_interposer(d, &failing.interposer);
    int ret = snap(bs, act->fn, act->name, NULL);
    disk_remove_interposer(d, &failing.interposer);
    uint64_t now = view(bs);
    assert_true(now == before.now || now == after.now);
    if (ret == 0) {
        assert_true(now == after.now);
    }
    guest_flush(bs);
    del(w, "q");
    snprintf(again, sizeof(again), "%s-again", disk);
    struct image left = image_take(w, d, false);
    struct held held = look(w, &left, again);
    free(left.data);
    if (held.now != now || (held.one != before.one && held.one != after.one) ||
        (held.two != before.two && held.two != after.two)) {
        fail_msg("%s: %s of '%s' with write %d failing", disk, act->fn == snap_create ? "create" : "other",
                 act->name, nth);
    }
    return failing.hit;
}

WORLD_TEST(errors)
{
    for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
        char disk[16];
        snprintf(disk, sizeof(disk), "e%zu", i);
        struct disk *d = power_image(w, i < 3 ? 0 : 2, disk);
        struct image image = image_take(w, d, false);
        strcat(disk, "b");
        struct held before = look(w, &image, disk);
        strcat(disk, "a");
        image_disk(w, disk, &image);
        BlockDriverState *bs = open_image(w, disk);
        assert_int_equal(snap(bs, acts[i].fn, acts[i].name, NULL), 0);
        del(w, "q");
        struct image done = image_take(w, disk_find(w->sim, disk), false);
        strcat(disk, "l");
        struct held after = look(w, &done, disk);
        for (int nth = 0; fail_at(w, &image, &acts[i], nth, nth % 3 ? nth % 3 * 3 : 0, before, after); nth++) {
        }
        free(image.data);
        free(done.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/qcow2/snapshot/keep", keep, NULL, NULL, NULL},
        {"/qcow2/snapshot/ids", ids, NULL, NULL, NULL},
        {"/qcow2/snapshot/other-size", other_size, NULL, NULL, NULL},
        {"/qcow2/snapshot/real-image", real_image, NULL, NULL, NULL},
        {"/qcow2/snapshot/overflow", overflow, NULL, NULL, NULL},
        {"/qcow2/snapshot/v2-size", v2_keeps_its_size, NULL, NULL, NULL},
        {"/qcow2/snapshot/bitmaps", bitmaps_stop_going_back, NULL, NULL, NULL},
        {"/qcow2/snapshot/data-file", no_data_file, NULL, NULL, NULL},
        {"/qcow2/snapshot/errors", errors, NULL, NULL, NULL},
        {"/qcow2/snapshot/power", power, NULL, NULL, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
