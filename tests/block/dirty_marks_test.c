/* Protects who marks which bits of a node's dirty bitmaps, and when (bitmaps-qcow2.md 2.3). */
#include "tests/block/bitmap_probe.h"
#include "tests/block/cow_probe.h"

#define R SIM_OP_READ
#define W SIM_OP_WRITE
#define Z SIM_OP_WRITE_ZEROES
#define D SIM_OP_DISCARD
#define G 65536

static struct probe *plain_probe(void)
{
    return probe_new((struct probe_spec){.name = "p", .length = MiB});
}

static struct probe *aligned_probe(uint32_t alignment)
{
    return probe_new((struct probe_spec){.name = "p", .length = MiB, .limits = {.request_alignment = alignment}});
}

static void free_probe(struct probe *p)
{
    bitmaps_free(p);
    probe_free(p);
}

/* --- what marks ------------------------------------------------------------------------------------------- */

/* fact: bitmaps 2.3/ops */
static void test_ops(void **state)
{
    struct probe *p =
        probe_new((struct probe_spec){.name = "p", .length = MiB, .write_flags = BDRV_REQ_WRITE_COMPRESSED});
    BdrvDirtyBitmap *coarse = bitmap_new(p, G, "a");
    BdrvDirtyBitmap *fine = bitmap_new(p, 512, NULL);
    BdrvDirtyBitmap *off = bitmap_new(p, 512, "off");
    bdrv_disable_dirty_bitmap(off);
    assert_int_equal(do_req(p, W, G - 1, 2, 1, 0), 0);
    assert_int_equal(do_req(p, Z, 3 * G, 1, 0, 0), 0);
    assert_int_equal(do_req(p, D, 5 * G + 1024, 512, 0, 0), 0);
    assert_int_equal(do_req(p, W, 7 * G, G + 512, 1, BDRV_REQ_WRITE_COMPRESSED), 0);
    assert_dirty(coarse, "0+128 192+64 320+64 448+128");
    assert_dirty(fine, "63.5+1 192+0.5 321+0.5 448+64.5");
    assert_dirty(off, "");
    free_probe(p);
}

/* fact: bitmaps 2.3/unchanged */
static void test_unchanged(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    assert_int_equal(do_req(p, W, 1024, 512, 1, BDRV_REQ_WRITE_UNCHANGED), 0);
    assert_int_equal(do_req(p, Z, 4096, 512, 0, BDRV_REQ_WRITE_UNCHANGED), 0);
    assert_dirty(a, "1+0.5 4+0.5");
    free_probe(p);
}

/* A zero write that a fall-back makes into data, and data that zero detection makes into a zero write.
 * fact: bitmaps 2.3/ops */
static void test_turned(void **state)
{
    struct probe *p = probe_new((struct probe_spec){
        .name = "p", .length = MiB, .limits = {.request_alignment = 512, .max_transfer = 2048}});
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    probe_fail(p, Z, -1, -ENOTSUP, 9);
    assert_int_equal(do_req(p, Z, 4096, 8192, 0, 0), 0);
    assert_int_equal(probe_calls(p, W), 4);
    assert_dirty(a, "4+8");
    p->bs->detect_zeroes = BDRV_DETECT_ZEROES_ON;
    p->fail_ret = 0;
    assert_int_equal(do_req(p, W, 32 * KiB, 8192, 0, 0), 0);
    assert_int_equal(probe_calls(p, W), 4);
    assert_dirty(a, "4+8 32+8");
    free_probe(p);
}

/* fact: bitmaps 2.3/none-and-reads */
static void test_nothing(void **state)
{
    struct probe *p = aligned_probe(4096);
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    assert_int_equal(do_req(p, R, 0, MiB, 0, 0), 0);
    assert_int_equal(do_req(p, R, 5000, 10, 0, 0), 0);
    assert_int_equal(do_req(p, SIM_OP_FLUSH, 0, 0, 0, 0), 0);
    for (int64_t offset = 0; offset <= 64 * KiB; offset += 512) {
        assert_int_equal(do_req(p, W, offset, 0, 1, 0), 0);
        assert_int_equal(do_req(p, Z, offset, 0, 0, 0), 0);
        assert_int_equal(do_req(p, D, offset + 1, 0, 0, 0), 0);
    }
    assert_dirty(a, "");
    free_probe(p);
}

/* bugs.md D05: the last bit of nothing is not the one before. Neither is it at the end, nor in an empty bitmap.
 * fact: bitmaps 2.3/none-and-reads */
static void test_zero_length(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = bitmap_new(p, G, "a");
    const int64_t borders[] = {0, 1, G - 1, G, G + 1, MiB - G, MiB - 1, MiB};
    for (size_t i = 0; i < ARRAY_SIZE(borders); i++) {
        bdrv_set_dirty(p->bs, borders[i], 0);
        bdrv_set_dirty_bitmap(a, borders[i], 0);
    }
    assert_dirty(a, "");
    bdrv_set_dirty_bitmap(a, 0, MiB);
    for (size_t i = 0; i < ARRAY_SIZE(borders); i++) {
        if (borders[i] % G == 0) {
            bdrv_reset_dirty_bitmap(a, borders[i], 0);
        }
    }
    assert_dirty(a, "0+1024");
    free_probe(p);
}

/* bugs.md D02: what an owner sets and clears is its own; requests mark everybody's. */
static void test_owner_alone(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *user = bitmap_new(p, G, "user");
    BdrvDirtyBitmap *job = bitmap_new(p, 4096, NULL);
    assert_int_equal(do_req(p, W, 0, 4 * G, 1, 0), 0);
    bdrv_reset_dirty_bitmap(job, 0, 4 * G);
    assert_dirty(user, "0+256");
    assert_dirty(job, "");
    bdrv_set_dirty_bitmap(job, 8 * G, 1);
    bdrv_clear_dirty_bitmap(user, NULL);
    assert_dirty(user, "");
    assert_dirty(job, "512+4");
    free_probe(p);
}

/* --- which range -------------------------------------------------------------------------------------------- */

/* fact: bitmaps 2.3/padded */
static void test_padded(void **state)
{
    static const struct {
        uint32_t alignment;
        const char *dirty;
    } cases[] = {{1, "4.5+0.5 8+4.5"}, {512, "4.5+0.5 8+4.5"}, {4096, "4+12"}, {16384, "0+16"}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct probe *p = aligned_probe(cases[i].alignment);
        BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
        assert_int_equal(do_req(p, W, 5000, 10, 1, 0), 0);
        assert_int_equal(do_req(p, W, 8200, 4100, 1, 0), 0);
        assert_dirty(a, cases[i].dirty);
        bitmaps_clear(p);
        assert_int_equal(do_req(p, Z, 5000, 10, 0, 0), 0);
        assert_int_equal(do_req(p, Z, 8200, 4100, 0, 0), 0);
        assert_dirty(a, cases[i].dirty);
        free_probe(p);
    }
}

/* Each of the three writes that a padded zero write is made of marks for itself: what was never sent does not.
 * fact: bitmaps 2.3/padded, 2.3/failed */
static void test_padded_zero_stops(void **state)
{
    struct probe *p = aligned_probe(4096);
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    probe_fail(p, W, 0, -EIO, 1);
    assert_int_equal(do_req(p, Z, 100, 16384, 0, 0), -EIO);
    assert_dirty(a, "0+4");
    bitmaps_clear(p);
    probe_fail(p, Z, 4096, -EIO, 1);
    assert_int_equal(do_req(p, Z, 100, 16384, 0, 0), -EIO);
    assert_dirty(a, "0+16");
    bitmaps_clear(p);
    assert_int_equal(do_req(p, Z, 100, 16384, 0, 0), 0);
    assert_dirty(a, "0+20");
    free_probe(p);
}

/* fact: bitmaps 2.3/past-end; block edge/2, 5/write-past-end */
static void test_past_end(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = bitmap_new(p, G, "a");
    BdrvDirtyBitmap *off = bitmap_new(p, 512, "off");
    bdrv_disable_dirty_bitmap(off);
    assert_int_equal(do_req(p, W, MiB + 4 * G, 100, 1, 0), 0);
    assert_int_equal(bdrv_dirty_bitmap_size(a), MiB + 4 * G + 512);
    assert_int_equal(bdrv_dirty_bitmap_size(off), MiB + 4 * G + 512);
    assert_int_equal(bdrv_get_dirty_count(a), G);
    assert_true(bdrv_dirty_bitmap_get(a, MiB + 4 * G)); /* the gap before it stays clean */
    assert_int_equal(do_req(p, Z, MiB + 6 * G, G, 0, 0), 0);
    assert_int_equal(bdrv_dirty_bitmap_size(a), MiB + 7 * G);
    assert_dirty(a, "1280+64 1408+64");
    assert_dirty(off, "");
    free_probe(p);
}

/* A failed one makes nothing longer: it marks what has bits. A discard never does.
 * fact: bitmaps 2.3/past-end, 2.3/failed */
static void test_past_end_failed(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    probe_fail(p, W, -1, -ENOSPC, 2);
    assert_int_equal(do_req(p, W, MiB - 512, 4096, 1, 0), -ENOSPC);
    assert_int_equal(do_req(p, W, 2 * MiB, 4096, 1, 0), -ENOSPC);
    assert_int_equal(bdrv_dirty_bitmap_size(a), MiB);
    assert_dirty(a, "1023.5+0.5");
    assert_int_equal(do_req(p, D, MiB - 1024, 4096, 0, 0), 0);
    assert_int_equal(bdrv_dirty_bitmap_size(a), MiB);
    assert_dirty(a, "1023+1");
    free_probe(p);
}

/* fact: bitmaps 2.4/resize; block edge/2, 5/afterwards */
static void test_resize(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = bitmap_new(p, G, "a");
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, 2 * MiB, 0, 0, 0), 0);
    assert_int_equal(bdrv_dirty_bitmap_size(a), 2 * MiB);
    assert_dirty(a, "");
    assert_int_equal(do_req(p, W, MiB, 512, 1, 0), 0);
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, MiB + 512, 0, 0, 0), 0);
    assert_int_equal(bdrv_get_dirty_count(a), G); /* half a group keeps its bit */
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, MiB, 0, 0, 0), 0);
    assert_dirty(a, "");
    probe_fail(p, SIM_OP_TRUNCATE, -1, -ENOSPC, 1);
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, 2 * MiB, 0, 0, 0), -ENOSPC);
    assert_int_equal(bdrv_dirty_bitmap_size(a), MiB);
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, 2 * MiB, 0, 0, 0), 0);
    assert_dirty(a, ""); /* nothing comes back */
    free_probe(p);
}

/* --- discards ------------------------------------------------------------------------------------------------- */

/* fact: bitmaps 2.3/discard-ignored, edge/14; block 2.11/off, edge/3 */
static void test_discard_ignored(void **state)
{
    static BlockDriver cannot;
    struct probe *p = plain_probe();
    cannot = probe_driver;
    cannot.bdrv_co_pdiscard = NULL;
    struct probe *q = probe_new((struct probe_spec){.name = "q", .length = MiB, .drv = &cannot});
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    BdrvDirtyBitmap *b = bitmap_new(q, 512, "b");
    p->bs->open_flags &= ~(uint32_t)BDRV_O_UNMAP;
    assert_int_equal(do_req(p, D, 0, 4096, 0, 0), 0);
    assert_int_equal(do_req(q, D, 0, 4096, 0, 0), 0);
    assert_int_equal(p->log_count + q->log_count, 0);
    assert_int_equal(p->bs->write_gen, 0);
    assert_dirty(a, "");
    assert_dirty(b, "");
    free_probe(p);
    free_probe(q);
}

/* fact: bitmaps 2.3/discard-whole, edge/14; block 2.11/marks, 2.11/enotsup, edge/3 */
static void test_discard_whole(void **state)
{
    struct probe *p = probe_new((struct probe_spec){
        .name = "p", .length = MiB, .limits = {.request_alignment = 4096, .pdiscard_alignment = G}});
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    BdrvDirtyBitmap *coarse = bitmap_new(p, G, NULL);
    assert_int_equal(do_req(p, D, 5000, 1, 0, 0), 0);
    assert_int_equal(p->log_count, 0); /* no whole block in it, so the driver never heard of it */
    assert_dirty(a, "4.5+0.5");
    assert_dirty(coarse, "0+64");
    bitmaps_clear(p);
    assert_int_equal(do_req(p, D, 5000, 2 * G, 0, 0), 0);
    assert_dirty(a, "4.5+128.5"); /* what was asked for, not what it was padded or cut to */
    bitmaps_clear(p);
    probe_fail(p, D, -1, -ENOTSUP, 9);
    assert_int_equal(do_req(p, D, 2 * G, 512, 0, 0), 0);
    assert_int_equal(do_req(p, D, 4 * G, G, 0, 0), 0);
    assert_dirty(a, "128+0.5 256+64");
    bitmaps_clear(p);
    probe_fail(p, D, G, -EIO, 1);
    assert_int_equal(do_req(p, D, 8192, 4 * G, 0, 0), -EIO); /* its first piece went well, the last never came */
    assert_dirty(a, "8+256");
    free_probe(p);
}

/* --- failed, refused ------------------------------------------------------------------------------------------ */

/* The data on disk is unknown then.
 * fact: bitmaps 2.3/failed, edge/12; block 2.7/failed, edge/1 */
static void test_failed(void **state)
{
    static const struct {
        enum sim_op op;
        int ret;
    } cases[] = {{W, -ENOSPC}, {W, -EIO}, {Z, -EIO}, {D, -EIO}};
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        bitmaps_clear(p);
        probe_fail(p, cases[i].op, -1, cases[i].ret, 1);
        assert_int_equal(do_req(p, cases[i].op, 4096, 1024, 1, 0), cases[i].ret);
        assert_dirty(a, "4+1");
    }
    free_probe(p);
}

/* The whole of it is unknown, also where a fragment went well or was never sent.
 * fact: bitmaps 2.3/failed, edge/12 */
static void test_failed_fragment(void **state)
{
    struct probe *p = probe_new((struct probe_spec){
        .name = "p", .length = MiB, .limits = {.request_alignment = 512, .max_transfer = 4096}});
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    probe_fail(p, W, 8192, -EIO, 1);
    assert_int_equal(do_req(p, W, 4096, 32 * KiB, 1, 0), -EIO);
    assert_int_equal(probe_calls(p, W), 2);
    assert_dirty(a, "4+32");
    probe_fail(p, SIM_OP_FLUSH, -1, -EIO, 1);
    assert_int_equal(do_req(p, W, 64 * KiB, 512, 1, BDRV_REQ_FUA), -EIO); /* written, not flushed */
    assert_dirty(a, "4+32 64+0.5");
    free_probe(p);
}

/* fact: bitmaps 2.3/refused */
static void test_refused(void **state)
{
    struct probe *p = aligned_probe(4096);
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    const enum sim_op ops[] = {W, Z, D};
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        assert_int_equal(do_req(p, ops[i], -512, 512, 1, 0), -EIO);
        assert_int_equal(do_req(p, ops[i], 512, -512, 1, 0), -EIO);
        p->bs->open_flags &= ~(uint32_t)BDRV_O_RDWR;
        assert_int_equal(do_req(p, ops[i], 0, 4096, 1, 0), -EPERM);
        assert_int_equal(do_req(p, ops[i], 5000, 10, 1, 0), -EPERM);
        p->bs->open_flags |= BDRV_O_RDWR;
    }
    assert_int_equal(do_req(p, W, 0, 4096, 1, BDRV_REQ_WRITE_COMPRESSED), -ENOTSUP);
    assert_int_equal(do_req(p, Z, 0, 4096, 0, BDRV_REQ_NO_FALLBACK), -ENOTSUP);
    assert_int_equal(do_req(p, Z, 5000, 10, 0, BDRV_REQ_NO_FALLBACK), -ENOTSUP);
    assert_int_equal(p->log_count, 0);
    probe_fail(p, R, -1, -EIO, 1);
    assert_int_equal(do_req(p, W, 5000, 10, 1, 0), -EIO); /* its edges could not be read: nothing was written */
    assert_int_equal(probe_calls(p, W), 0);
    assert_dirty(a, "");
    assert_int_equal(p->bs->write_gen, 0);
    free_probe(p);
}

/* A write that would have to wait and must not.
 * fact: bitmaps 2.3/refused */
static void test_refused_busy(void **state)
{
    struct probe *p = aligned_probe(4096);
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    struct req held = {.p = p, .op = R, .offset = 0, .bytes = 4096};
    probe_hold(p, R, 0);
    spawn(&held);
    settle();
    assert_int_equal(do_req(p, W, 0, 8192, 1, BDRV_REQ_SERIALISING | BDRV_REQ_NO_WAIT), -EBUSY);
    probe_release(p);
    assert_true(held.done);
    assert_dirty(a, "");
    free_probe(p);
}

/* fact: bitmaps 2.3/readonly, edge/16; block 2.7/readonly-bitmap, 2.11/checks */
static void test_readonly(void **state)
{
    struct probe *p = aligned_probe(4096);
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    BdrvDirtyBitmap *ro = bitmap_new(p, 512, "ro");
    const enum sim_op ops[] = {W, Z, D};
    for (int disabled = 0; disabled <= 1; disabled++) {
        bdrv_dirty_bitmap_set_readonly(ro, true);
        for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
            assert_int_equal(do_req(p, ops[i], 0, 4096, 1, 0), -EPERM);
            assert_int_equal(do_req(p, ops[i], 5000, 10, 1, 0), -EPERM);
        }
        assert_int_equal(p->log_count, 0);
        assert_int_equal(do_req(p, R, 0, 512, 0, 0), 0);
        p->log_count = 0;
        bdrv_dirty_bitmap_set_readonly(ro, false);
        bdrv_disable_dirty_bitmap(ro); /* one that records nothing stops them just the same */
    }
    assert_dirty(a, "");
    assert_int_equal(do_req(p, W, 0, 4096, 1, 0), 0);
    assert_dirty(a, "0+4");
    free_probe(p);
}

/* --- when -------------------------------------------------------------------------------------------------------
 */

struct witness {
    struct req req;
    const BdrvDirtyBitmap *bitmap;
    int64_t count; /* when the request came back */
};

static void witness_entry(void *opaque)
{
    struct witness *w = opaque;
    req_entry(&w->req);
    w->count = bdrv_get_dirty_count(w->bitmap);
}

/* Not while the driver is at it, but before the submitter hears of it.
 * fact: bitmaps 2.3/moment */
static void test_moment(void **state)
{
    const enum sim_op ops[] = {W, Z, D};
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        struct witness w = {.req = {.p = p, .op = ops[i], .bytes = 4096}, .bitmap = a, .count = -1};
        bitmaps_clear(p);
        probe_hold(p, ops[i], 0);
        coroutine_start(coroutine_create(world, host, "witness", witness_entry, &w));
        settle();
        assert_int_equal(probe_calls(p, ops[i]), 1);
        assert_dirty(a, "");
        assert_int_equal(w.count, -1);
        probe_release(p);
        assert_int_equal(w.count, 4096);
    }
    free_probe(p);
}

/* A request of more than one driver call marks after the last.
 * fact: bitmaps 2.3/moment */
static void test_moment_fragments(void **state)
{
    struct probe *p = probe_new((struct probe_spec){
        .name = "p", .length = MiB, .limits = {.request_alignment = 512, .max_transfer = 4096}});
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    struct req r = {.p = p, .op = W, .bytes = 8192};
    probe_hold(p, W, 4096);
    spawn(&r);
    settle();
    assert_int_equal(probe_calls(p, W), 2);
    assert_dirty(a, "");
    probe_release(p);
    assert_dirty(a, "0+8");
    free_probe(p);
}

/* Whether a bitmap records is asked when the driver has answered, not when the request came.
 * fact: bitmaps 2.3/enabled-then, edge/13 */
static void test_enabled_then(void **state)
{
    const enum sim_op ops[] = {W, Z, D};
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        struct probe *p = plain_probe();
        BdrvDirtyBitmap *late = bitmap_new(p, 512, "late");
        BdrvDirtyBitmap *early = bitmap_new(p, 512, "early");
        BdrvDirtyBitmap *cleared = bitmap_new(p, 512, "cleared");
        struct req r = {.p = p, .op = ops[i], .offset = 0, .bytes = 512};
        bdrv_disable_dirty_bitmap(late);
        bdrv_set_dirty_bitmap(cleared, 0, MiB);
        probe_hold(p, ops[i], 0);
        spawn(&r);
        settle();
        bdrv_enable_dirty_bitmap(late);
        bdrv_disable_dirty_bitmap(early);
        bdrv_clear_dirty_bitmap(cleared, NULL);
        BdrvDirtyBitmap *made_meanwhile = bitmap_new(p, 512, NULL);
        assert_dirty(made_meanwhile, "");
        probe_release(p);
        assert_true(r.done);
        assert_dirty(late, "0+0.5");
        assert_dirty(early, "");
        assert_dirty(cleared, "0+0.5");
        assert_dirty(made_meanwhile, "0+0.5");
        free_probe(p);
    }
}

static void drain_main(void *opaque)
{
    struct probe *p = opaque;
    bdrv_drained_begin(p->bs);
    bitmaps_clear(p);
    bdrv_drained_end(p->bs);
}

/* Only a drain gives a point in time: in it nothing that was submitted before can mark any more.
 * fact: bitmaps edge/13 */
static void test_drain(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *a = bitmap_new(p, 512, "a");
    struct req r[8];
    for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
        r[i] = (struct req){.p = p, .op = W, .offset = (int64_t)i * 8192, .bytes = 512};
        spawn(&r[i]);
    }
    probe_main(drain_main, p);
    for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
        assert_true(r[i].done);
    }
    assert_dirty(a, "");
    free_probe(p);
}

/* --- which node
 * --------------------------------------------------------------------------------------------------- */

/* fact: bitmaps 2.3/per-node */
static void test_per_node(void **state)
{
    struct cow_chain c =
        cow_chain_new((struct cow_spec){.cluster_size = 64 * KiB, .file_limits = {.request_alignment = 4096}});
    BdrvDirtyBitmap *top = bitmap_new(c.top, 512, "b");
    BdrvDirtyBitmap *file = bitmap_new(c.file, 512, "b");
    BdrvDirtyBitmap *backing = bitmap_new(c.backing, 512, "b");
    assert_int_equal(do_req(c.top, W, 70 * KiB, 512, 1, 0), 0);
    assert_dirty(top, "70+0.5");
    /* the cluster, and the format's own sector, each in the file's blocks */
    assert_dirty(file, "64+64 2048+4");
    assert_dirty(backing, "");
    bitmaps_clear(c.top);
    bitmaps_clear(c.file);
    assert_int_equal(do_req(c.top, W, 71 * KiB, 512, 1, 0), 0); /* allocated by now: only the data is written */
    assert_dirty(top, "71+0.5");
    assert_dirty(file, "68+4");
    assert_int_equal(do_req(c.file, W, 0, 512, 1, 0), 0);
    assert_dirty(top, "71+0.5");
    bitmaps_clear(c.top);
    probe_fail(c.file, W, -1, -EIO, 1);
    assert_int_equal(do_req(c.top, W, 72 * KiB, 512, 1, 0), -EIO);
    assert_dirty(top, "72+0.5");
    assert_dirty(backing, "");
    bitmaps_free(c.top);
    bitmaps_free(c.file);
    bitmaps_free(c.backing);
    cow_chain_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/dirty-marks/ops", test_ops),
        T_NODE("/dirty-marks/unchanged", test_unchanged),
        T_NODE("/dirty-marks/turned", test_turned),
        T_NODE("/dirty-marks/nothing", test_nothing),
        T_NODE("/dirty-marks/zero-length", test_zero_length),
        T_NODE("/dirty-marks/owner-alone", test_owner_alone),
        T_NODE("/dirty-marks/padded", test_padded),
        T_NODE("/dirty-marks/padded/zero-stops", test_padded_zero_stops),
        T_NODE("/dirty-marks/past-end", test_past_end),
        T_NODE("/dirty-marks/past-end/failed", test_past_end_failed),
        T_NODE("/dirty-marks/resize", test_resize),
        T_NODE("/dirty-marks/discard/ignored", test_discard_ignored),
        T_NODE("/dirty-marks/discard/whole", test_discard_whole),
        T_NODE("/dirty-marks/failed", test_failed),
        T_NODE("/dirty-marks/failed/fragment", test_failed_fragment),
        T_NODE("/dirty-marks/refused", test_refused),
        T_NODE("/dirty-marks/refused/busy", test_refused_busy),
        T_NODE("/dirty-marks/readonly", test_readonly),
        T_NODE("/dirty-marks/moment", test_moment),
        T_NODE("/dirty-marks/moment/fragments", test_moment_fragments),
        T_NODE("/dirty-marks/enabled-then", test_enabled_then),
        T_NODE("/dirty-marks/drain", test_drain),
        T_NODE("/dirty-marks/per-node", test_per_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
