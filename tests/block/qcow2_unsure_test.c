/*
 * Protects a qcow2 image whose header could be said to have been written or not: a write that was to switch it over
 * failed, and nobody knows what the file says. What the guest then writes and flushes must be there whichever it is
 * (bitmaps-qcow2.md 5.5, 6).
 */
#include "tests/block/qcow2_lib.h"

#define SMALL "{'size':%lld,'cluster-size':512%s}"
#define NODE "{'node-name':'n'," Q_FILE("d") "}"

/* The header is written, but what comes behind the first `good` header writes fails: flushes and writes of it. */
struct breaker {
    struct disk_interposer interposer;
    unsigned good;
    bool broken;
};

static void break_header(struct disk_interposer *self, struct disk_req *req)
{
    struct breaker *b = container_of(self, struct breaker, interposer);
    bool header = req->op == SIM_OP_WRITE && req->offset == 0;

    if (header && b->good > 0) {
        b->broken = --b->good == 0;
    } else if (b->broken && (header || req->op == SIM_OP_FLUSH)) {
        req->ret = -EIO;
    }
}

static void break_after(struct disk *disk, struct breaker *b, unsigned good)
{
    *b = (struct breaker){.interposer.before = break_header, .good = good};
    disk_add_interposer(disk, &b->interposer);
}

/* As if the power had failed now, with all that was written kept: another node opens the medium. */
static BlockDriverState *reborn(struct world *w, struct disk *disk)
{
    struct payload p;

    payload_init(w->sim, &p);
    disk_peek(disk, 0, ROUND_UP(disk_length(disk), (int64_t)512), &p);
    struct disk *copy = make_disk(w, "copy", p.size_bytes);
    disk_poke(copy, 0, &p);
    payload_clear(&p);
    return add(w, "{'node-name':'m'," Q_FILE("copy") "}");
}

static struct disk *image(struct world *w, int64_t size, const char *more)
{
    char text[160];

    snprintf(text, sizeof(text), SMALL, (long long)size, more);
    return make_image(w, "d", text);
}

/* A larger L1 table is named by the header, and the old one cannot be named again at once: the flush of what goes
 * into the old one has to see to that. 512-byte clusters: an L1 entry maps 32 KiB. */
/* fact: qcow2 5.5/l1-growth, 6/switch */
WORLD_TEST(test_l1_growth)
{
    struct disk *disk = image(w, 64 * KiB, "");
    BlockDriverState *bs = add(w, NODE);
    struct breaker b;
    Error *err = NULL;

    break_after(disk, &b, 1);
    assert_true(guest_truncate(bs, MiB, PREALLOC_OFF, &err) < 0);
    error_free(err);
    assert_true(b.broken);
    assert_true(guest_write(bs, 0x11, 0, 4096) < 0 || guest_flush(bs) < 0); /* not stable, and says so */
    disk_remove_interposer(disk, &b.interposer);
    assert_int_equal(guest_write(bs, 0x22, 0, 4096), 0);
    assert_int_equal(guest_flush(bs), 0);
    BlockDriverState *after = reborn(w, disk);
    assert_int_equal(bdrv_getlength_cached(after), 64 * KiB);
    expect_bytes(after, 0x22, 0, 4096);
    del(w, "m");
    expect_bytes(bs, 0x22, 0, 4096);
    del(w, "n");
}

/* The header says the shorter length, the guest has the longer one: what it flushes at its end must not be cut. */
/* fact: qcow2 5.5/resize */
WORLD_TEST(test_shrink)
{
    struct disk *disk = image(w, 64 * KiB, "");
    BlockDriverState *bs = add(w, NODE);
    struct breaker b;
    Error *err = NULL;

    assert_int_equal(guest_write(bs, 0x11, 0, 64 * KiB), 0);
    assert_int_equal(guest_flush(bs), 0);
    break_after(disk, &b, 1);
    assert_true(guest_truncate(bs, 32 * KiB, PREALLOC_OFF, &err) < 0);
    error_free(err);
    assert_true(b.broken);
    disk_remove_interposer(disk, &b.interposer);
    assert_int_equal(guest_write(bs, 0x22, 60 * KiB, 4096), 0);
    assert_int_equal(guest_flush(bs), 0);
    BlockDriverState *after = reborn(w, disk);
    assert_int_equal(bdrv_getlength_cached(after), 64 * KiB);
    expect_bytes(after, 0x22, 60 * KiB, 4096);
    del(w, "m");
    del(w, "n");
}

static int give_up(void *opaque)
{
    return qcow2_co_inactivate(opaque);
}

/* The header says that the image is clean, but that it does is not known to be stable: it stays in use with lazy
 * refcounts, and must say so again before the counts fall behind. */
/* fact: qcow2 5.5/lazy-close */
WORLD_TEST(test_clean_bit)
{
    struct disk *disk = image(w, MiB, ",'lazy-refcounts':true");
    BlockDriverState *bs = add(w, NODE);
    struct breaker b;

    assert_int_equal(guest_write(bs, 0x11, 0, 4096), 0);
    break_after(disk, &b, 1);
    bdrv_drained_begin(bs);
    assert_true(bdrv_run_co(w->host, "give up", give_up, bs) < 0);
    bdrv_drained_end(bs);
    disk_remove_interposer(disk, &b.interposer);
    assert_int_equal(peek_be(w, disk, 72, 8), 0);
    assert_int_equal(guest_write(bs, 0x22, 4096, 16 * KiB), 0);
    assert_int_equal(guest_flush(bs), 0);
    assert_int_equal(peek_be(w, disk, 72, 8), QCOW2_INCOMPAT_DIRTY); /* for the counts are not there */
    del(w, "n");
    assert_int_equal(peek_be(w, disk, 72, 8), 0);
}

/* Flushes from number `first` on fail, `nb` of them. */
struct flush_breaker {
    struct disk_interposer interposer;
    unsigned seen, first, nb;
};

static void break_flush(struct disk_interposer *self, struct disk_req *req)
{
    struct flush_breaker *b = container_of(self, struct flush_breaker, interposer);

    if (req->op == SIM_OP_FLUSH && ++b->seen >= b->first && b->seen < b->first + b->nb) {
        req->ret = -EIO;
    }
}

static struct {
    unsigned first, nb; /* flushes that fail */
    unsigned unsure;    /* worlds where giving up failed and left the bitmap readonly */
} second_try;

static void give_up_twice(struct world *w)
{
    struct disk *disk = image(w, MiB, ",'lazy-refcounts':true");
    BlockDriverState *bs = add(w, NODE);
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(bs, 64 * KiB, "b", NULL);
    struct flush_breaker b = {.interposer.before = break_flush, .first = second_try.first, .nb = second_try.nb};

    bdrv_dirty_bitmap_set_persistence(bitmap, true);
    assert_int_equal(guest_write(bs, 0x11, 0, 4096), 0);
    disk_add_interposer(disk, &b.interposer);
    bdrv_drained_begin(bs);
    int ret = bdrv_run_co(w->host, "give up", give_up, bs);
    disk_remove_interposer(disk, &b.interposer);
    if (ret < 0) {
        second_try.unsure += bdrv_dirty_bitmap_readonly(bitmap);
        assert_int_equal(bdrv_run_co(w->host, "give up", give_up, bs), 0);
    }
    bdrv_drained_end(bs);
    bitmap = bdrv_find_dirty_bitmap(reborn(w, disk), "b");
    assert_non_null(bitmap);
    assert_false(bdrv_dirty_bitmap_inconsistent(bitmap));
    assert_int_equal(bdrv_get_dirty_count(bitmap), 64 * KiB);
    del(w, "m");
    del(w, "n");
}

/* A bitmap was stored, then giving up failed, and so did taking it back: what the image says of it is not known.
 * The next time, a moment later, it must be stored again and not be let go as it is. */
/* fact: qcow2 4.6/activation */
static void test_bitmap_of_second_try(void **state)
{
    second_try.unsure = 0;
    for (second_try.first = 1; second_try.first <= 12; second_try.first++) {
        for (second_try.nb = 1; second_try.nb <= 4; second_try.nb++) {
            world_run(give_up_twice);
        }
    }
    assert_true(second_try.unsure > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/qcow2-unsure/l1-growth", test_l1_growth, NULL, NULL, NULL},
        {"/qcow2-unsure/shrink", test_shrink, NULL, NULL, NULL},
        {"/qcow2-unsure/clean-bit", test_clean_bit, NULL, NULL, NULL},
        {"/qcow2-unsure/bitmap-of-second-try", test_bitmap_of_second_try, NULL, NULL, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
