/* Protects the exchange of a qcow2 header against power loss between any two sectors (6): the image opens, and
 * names the old backing file or the new one. What the original writes at once it loses: an extension announced in
 * the first sector and not there in the second. */
#include "tests/block/qcow2_lib.h"

#define MAX_WRITES 32
#define CLUSTER 65536

struct entry {
    int64_t offset;
    int64_t bytes;
    uint8_t *data;
    unsigned flushes; /* before it */
};

struct recorder {
    struct disk_interposer interposer;
    struct entry log[MAX_WRITES];
    unsigned count;
    unsigned flushes;
};

static void record(struct disk_interposer *self, struct disk_req *req)
{
    struct recorder *r = container_of(self, struct recorder, interposer);

    r->flushes += req->op == SIM_OP_FLUSH;
    if (req->op != SIM_OP_WRITE) {
        return;
    }
    assert_true(r->count < MAX_WRITES);
    struct entry *e = &r->log[r->count++];
    *e = (struct entry){req->offset, req->bytes, malloc((size_t)req->bytes), r->flushes};
    payload_read_bytes(req->in, 0, e->data, req->bytes);
}

/* The image as power loss may leave it: all before write n, and of that one the sectors of the mask (bit 1: all
 * further ones). */
static void compose(struct world *w, struct disk *out, const uint8_t *before, const struct recorder *r, unsigned n,
                    unsigned mask)
{
    poke(w, out, 0, before, 4 * CLUSTER);
    for (unsigned i = 0; i < n; i++) {
        poke(w, out, r->log[i].offset, r->log[i].data, (size_t)r->log[i].bytes);
    }
    const struct entry *e = &r->log[n];
    if (mask & 1) {
        poke(w, out, e->offset, e->data, MIN((size_t)e->bytes, (size_t)512));
    }
    if ((mask & 2) && e->bytes > 512) {
        poke(w, out, e->offset + 512, e->data + 512, (size_t)e->bytes - 512);
    }
}

static const char *shown(const char *name)
{
    return name ? name : "(none)";
}

static void look(struct world *w, const char *old_name, const char *new_name)
{
    Error *err = NULL;
    BlockDriverState *bs =
        try_add(w, "{'node-name':'look','read-only':true,'backing':null," Q_FILE("torn") "}", &err);

    if (!bs) {
        fail_msg("%s to %s: %s", shown(old_name), shown(new_name), error_get_pretty(err));
    }
    const char *name = shown(bdrv_backing_filename(bs));
    if (strcmp(name, shown(old_name)) != 0 && strcmp(name, shown(new_name)) != 0) {
        fail_msg("%s to %s: '%s'", shown(old_name), shown(new_name), name);
    }
    del(w, "look");
}

/* fn changes the header; every state on the way must do. */
static void every_tear(struct world *w, struct disk *disk, void (*fn)(void *opaque), void *opaque,
                       const char *old_name, const char *new_name)
{
    struct recorder r = {.interposer = {.before = record}};
    struct disk *torn = disk_find(w->sim, "torn");
    uint8_t *before = malloc(4 * CLUSTER);

    peek(w, disk, 0, before, 4 * CLUSTER);
    disk_add_interposer(disk, &r.interposer);
    fn(opaque);
    disk_remove_interposer(disk, &r.interposer);
    assert_true(r.count > 0);
    for (unsigned n = 0; n < r.count; n++) {
        assert_true(n == 0 || r.log[n].flushes > r.log[n - 1].flushes || r.log[n].offset >= CLUSTER);
        for (unsigned mask = 0; mask < 4; mask++) {
            compose(w, torn, before, &r, n, mask);
            look(w, old_name, new_name);
        }
    }
    for (unsigned n = 0; n < r.count; n++) {
        free(r.log[n].data);
    }
    free(before);
}

/* --- backing files
 * ------------------------------------------------------------------------------------------------ */

struct change {
    BlockDriverState *bs;
    const char *name;
    const char *format;
};

static void change_backing(void *opaque)
{
    const struct change *c = opaque;

    assert_int_equal(bdrv_change_backing_file(c->bs, c->name, c->format), 0);
}

/* fact: qcow2 6/switch, 6/opens */
WORLD_TEST(test_backing)
{
    static const struct {
        const char *name;
        const char *format;
    } steps[] = {
        {"first", "raw"},   {"second-with-a-longer-name", "raw"},
        {"third", "qcow2"}, {"x", "raw"},
        {NULL, NULL},       {"fifth", "qcow2"},
        {"sixth", "qcow2"}, {NULL, NULL},
    };
    struct disk *disk = make_image(w, "d", "{'size':1048576}");
    struct disk *torn = make_disk(w, "torn", 4 * CLUSTER);
    BlockDriverState *bs = add(w, "{'node-name':'n','backing':null," Q_FILE("d") "}");
    const char *old_name = NULL;

    assert_non_null(torn);
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
        struct change c = {bs, steps[i].name, steps[i].format};
        every_tear(w, disk, change_backing, &c, old_name, c.name);
        old_name = c.name;
    }
    expect_clean(bs);
    del(w, "n");
}

/* --- bitmaps
 * ------------------------------------------------------------------------------------------------------ */

static void close_node(void *opaque)
{
    del(opaque, "n");
}

struct removal {
    struct world *w;
    BlockDriverState *bs;
};

static int remove_entry(void *opaque)
{
    const struct removal *r = opaque;

    return bdrv_co_remove_persistent_dirty_bitmap(r->bs, "b", NULL);
}

static void remove_stored(void *opaque)
{
    struct removal *r = opaque;

    assert_int_equal(bdrv_run_co(r->w->host, "remove", remove_entry, r), 0);
}

/* The first bitmap that is stored brings the extension, whose data lies behind the first sector; the last one that
 * is removed takes it away. */
/* fact: qcow2 6/switch, 4.3/order, 4.6/remove */
WORLD_TEST(test_bitmaps)
{
    struct disk *disk = make_image(w, "d", "{'size':1048576}");
    struct disk *torn = make_disk(w, "torn", 4 * CLUSTER);

    assert_non_null(torn);
    BlockDriverState *bs = add(w, "{'node-name':'n'," Q_FILE("d") "}");
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(bs, 65536, "b", NULL);
    bdrv_dirty_bitmap_set_persistence(bitmap, true);
    every_tear(w, disk, close_node, w, NULL, NULL);
    assert_int_equal(peek_be(w, disk, 504, 4), QCOW2_EXT_MAGIC_BITMAPS);
    struct removal r = {w, add(w, "{'node-name':'n'," Q_FILE("d") "}")};
    every_tear(w, disk, remove_stored, &r, NULL, NULL);
    assert_int_equal(peek_be(w, disk, 504, 4), 0);
    bdrv_release_named_dirty_bitmaps(r.bs);
    expect_clean(r.bs);
    del(w, "n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/header-tear/backing", test_backing),
        T("/qcow2/header-tear/bitmaps", test_bitmaps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
