/* Protects dirty bitmaps through the life of their node: closing, reopening, snapshots, resizing, giving up. */
#include "tests/block/bitmap_owner.h"

/* --- closing ------------------------------------------------------------------------------------------------ */

/* fact: bitmaps 2.4/close */
static void test_close_releases_named(void **state)
{
    struct probe *p = keeper_new();
    bdrv_set_dirty_bitmap(made_persistent(p, "kept"), 0, 1);
    (void)made(p, G, "temporary");
    bdrv_disable_dirty_bitmap(made_persistent(p, "off"));
    probe_free(p); /* the tear-down finds nothing left */
    assert_int_equal(keeper.stores, 1);
    assert_string_equal(keeper.seen_at_close, "off:0 kept:65536 "); /* stored while the driver was still open */
}

static void close_node(void *opaque)
{
    probe_free_main(opaque);
}

static void close_now(void *opaque)
{
    host_command(host, close_node, opaque);
    (void)sim_run(world, NULL, NULL, INT64_MAX);
}

/* fact: bitmaps 2.4/close */
static void test_close_with_leftovers(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *b = made(p, G, NULL);
    assert_true(dies(close_now, p)); /* anonymous: whoever made it should have released it */
    bdrv_release_dirty_bitmap(b);
    b = made(p, G, "b");
    assert_false(dies(close_now, p));
    bdrv_dirty_bitmap_set_busy(b, true);
    assert_true(dies(close_now, p));
    bdrv_dirty_bitmap_set_busy(b, false);
    BdrvDirtyBitmapIter *iter = bdrv_dirty_iter_new(b);
    assert_true(dies(close_now, p));
    bdrv_dirty_iter_free(iter);
    probe_free(p);
}

static void count_lost(void *opaque, const struct sim_record *record)
{
    ++*(unsigned *)opaque;
}

/* What cannot be stored is lost; that is told, and the node goes all the same. */
static void test_close_loses(void **state)
{
    unsigned lost = 0;
    sim_subscribe(world, EV_bitmap_lost, count_lost, &lost);
    struct probe *p = keeper_new();
    (void)made_persistent(p, "b");
    keeper.fail_store = -ENOSPC;
    probe_free(p);
    assert_int_equal(lost, 1);
    assert_int_equal(keeper.closes, 1);
    p = keeper_new();
    (void)made_persistent(p, "b");
    p->bs->open_flags &= ~(uint32_t)BDRV_O_RDWR;
    probe_free(p);
    assert_int_equal(lost, 2);
    assert_int_equal(keeper.stores, 0); /* the driver is not even asked */
    p = keeper_new();
    (void)made(p, G, "temporary");
    probe_free(p);
    assert_int_equal(lost, 2); /* nobody promised to keep it */
    sim_unsubscribe(world, count_lost, &lost);
}

struct store_call {
    struct probe *p;
    int (*fn)(BlockDriverState *bs, Error **errp);
    int ret;
    Error *err;
};

static void store_call_entry(void *opaque)
{
    struct store_call *call = opaque;
    call->ret = call->fn(call->p->bs, &call->err);
}

static int in_coroutine(struct probe *p, int (*fn)(BlockDriverState *bs, Error **errp), Error **err)
{
    struct store_call call = {.p = p, .fn = fn};
    coroutine_start(coroutine_create(world, host, "store", store_call_entry, &call));
    settle();
    *err = call.err;
    return call.ret;
}

/* [seed]: in an image that was opened inactive not even closing writes.
 * fact: bitmaps 2.4/close-inactive */
static void test_seed_inactive_close_writes_nothing(void **state)
{
    struct probe *p = keeper_new();
    Error *err;
    (void)made_persistent(p, "b");
    p->bs->open_flags |= BDRV_O_INACTIVE;
    assert_int_equal(in_coroutine(p, bdrv_co_store_dirty_bitmaps, &err), -EPERM);
    assert_error(&err, "Lost persistent bitmaps during inactivation of node 'k': No write access");
    probe_free(p);
    assert_int_equal(keeper.stores, 0);
    assert_string_equal(keeper.seen_at_close, "");
}

/* --- what is stored ------------------------------------------------------------------------------------------ */

/* fact: bitmaps 2.1/persistent, 2.1/skip-store */
static void test_storable(void **state)
{
    struct probe *p = keeper_new();
    Error *err;
    BdrvDirtyBitmap *b = made(p, G, "b");
    assert_false(bdrv_dirty_bitmap_storable(b));
    assert_int_equal(in_coroutine(p, bdrv_co_store_dirty_bitmaps, &err), 0);
    assert_int_equal(keeper.stores, 0); /* nothing to store, nothing written */
    bdrv_dirty_bitmap_set_persistence(b, true);
    assert_true(bdrv_dirty_bitmap_storable(b));
    bdrv_dirty_bitmap_skip_store(b, true);
    assert_true(bdrv_dirty_bitmap_persistent(b) && bdrv_dirty_bitmap_skips_store(b));
    assert_false(bdrv_dirty_bitmap_storable(b));
    bdrv_dirty_bitmap_skip_store(b, false);
    bdrv_dirty_bitmap_set_readonly(b, true);
    assert_false(bdrv_dirty_bitmap_storable(b));
    bdrv_dirty_bitmap_set_readonly(b, false);
    bdrv_dirty_bitmap_set_inconsistent(b);
    assert_false(bdrv_dirty_bitmap_storable(b));
    assert_int_equal(in_coroutine(p, bdrv_co_store_dirty_bitmaps, &err), 0);
    assert_int_equal(keeper.stores, 0);
    drop(p);
    p = plain_probe();
    (void)made_persistent(p, "b");
    assert_int_equal(in_coroutine(p, bdrv_co_store_dirty_bitmaps, &err), -ENOTSUP);
    error_free(err);
    drop(p);
}

/* --- reopening ----------------------------------------------------------------------------------------------- */

struct reopen {
    struct probe *p;
    bool read_only;
    uint64_t perm; /* what the user of the node keeps */
    int ret;
};

static void reopen_main(void *opaque)
{
    struct reopen *r = opaque;
    if (r->read_only) {
        assert_int_equal(blk_set_perm(r->p->blk, r->perm, BLK_PERM_ALL, NULL), 0);
    }
    r->ret = bdrv_reopen_set_read_only(r->p->bs, r->read_only, NULL);
    if (!bdrv_is_read_only(r->p->bs)) {
        assert_int_equal(blk_set_perm(r->p->blk, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL, NULL), 0);
    }
}

static int reopen(struct probe *p, bool read_only)
{
    struct reopen r = {.p = p, .read_only = read_only, .perm = BLK_PERM_CONSISTENT_READ};
    probe_main(reopen_main, &r);
    return r.ret;
}

/* fact: bitmaps 2.4/reopen-readonly */
static void test_reopen_read_only(void **state)
{
    struct probe *p = keeper_new();
    BdrvDirtyBitmap *b = made_persistent(p, "b");
    BdrvDirtyBitmap *temporary = made(p, G, "temporary");
    assert_int_equal(do_req(p, W, 2 * G, 512, 1, 0), 0);
    assert_int_equal(reopen(p, true), 0);
    assert_string_equal(keeper.image, "b:65536 ");
    assert_ptr_equal(bdrv_find_dirty_bitmap(p->bs, "b"), b); /* kept in memory */
    assert_true(bdrv_dirty_bitmap_readonly(b) && bdrv_dirty_bitmap_recording(b));
    assert_bits(b, "0010000000000000");
    assert_false(bdrv_dirty_bitmap_readonly(temporary));
    assert_int_equal(bdrv_dirty_bitmap_check(b, BDRV_BITMAP_DEFAULT, NULL), -EPERM);
    drop(p);
    assert_int_equal(keeper.stores, 1);
}

/* D06: after the way to read-only and back the same bitmap records again, and what the image holds is marked as out
 * of date.
 * fact: bitmaps 2.4/reopen-writable */
static void test_reopen_and_back(void **state)
{
    struct probe *p = keeper_new();
    BdrvDirtyBitmap *b = made_persistent(p, "b");
    assert_int_equal(do_req(p, W, 2 * G, 512, 1, 0), 0);
    assert_int_equal(reopen(p, true), 0);
    assert_int_equal(reopen(p, false), 0);
    assert_true(keeper.in_use);
    assert_false(bdrv_dirty_bitmap_readonly(b));
    assert_int_equal(do_req(p, W, 7 * G, 512, 1, 0), 0);
    assert_bits(b, "0010000100000000");
    probe_free(p);
    assert_string_equal(keeper.seen_at_close, "b:131072 ");
}

/* fact: bitmaps 2.4/reopen-writable */
static void test_reopen_writable_fails(void **state)
{
    struct probe *p = keeper_new();
    BdrvDirtyBitmap *b = made_persistent(p, "b");
    assert_int_equal(reopen(p, true), 0);
    keeper.fail_rw = -EIO;
    assert_int_equal(reopen(p, false), 0); /* the node is writable, the bitmap is not */
    assert_true(bdrv_dirty_bitmap_readonly(b));
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), -EPERM);
    assert_int_equal(probe_calls(p, W), 0);
    assert_int_equal(sim_mark_hits(world, MARK_bitmap_stays_readonly), 1);
    keeper.fail_rw = 0;
    assert_int_equal(reopen(p, true), 0);
    assert_int_equal(reopen(p, false), 0); /* another try */
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), 0);
    drop(p);
}

/* Whatever stops a reopen, the bitmaps are as before. */
static void test_reopen_read_only_fails(void **state)
{
    struct probe *p = keeper_new();
    BdrvDirtyBitmap *b = made_persistent(p, "b");
    keeper.fail_store = -ENOSPC;
    assert_int_equal(reopen(p, true), -ENOSPC);
    assert_false(bdrv_is_read_only(p->bs));
    assert_false(bdrv_dirty_bitmap_readonly(b));
    keeper.fail_store = 0;
    struct reopen r = {.p = p, .read_only = true, .perm = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE};
    probe_main(reopen_main, &r); /* a writer is there */
    assert_int_equal(r.ret, -EPERM);
    assert_false(bdrv_is_read_only(p->bs));
    assert_false(bdrv_dirty_bitmap_readonly(b));
    assert_int_equal(keeper.stores, 1); /* the one that failed: the refusal came before anything was stored */
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), 0);
    assert_bits(b, "1000000000000000");
    drop(p);
}

/* --- snapshots ----------------------------------------------------------------------------------------------- */

static const BlockDriver overlay_driver = {
    .format_name = "overlay",
    .supports_backing = true,
    .instance_size = sizeof(struct probe),
    .bdrv_co_getlength = probe_getlength,
    .bdrv_co_pwritev = probe_pwritev,
};

struct append {
    struct probe *top;
    struct probe *below;
};

static void append_main(void *opaque)
{
    struct append *a = opaque;
    assert_int_equal(bdrv_append(a->top->bs, a->below->bs, NULL), 0);
}

/* fact: bitmaps 2.4/external-snapshot */
static void test_external_snapshot(void **state)
{
    struct probe *below = plain_probe();
    struct probe *top =
        probe_new((struct probe_spec){.name = "top", .drv = &overlay_driver, .length = MiB, .no_resize = true});
    struct append a = {top, below};
    BdrvDirtyBitmap *b = made(below, G, "b");
    assert_int_equal(do_req(below, W, 0, 512, 1, 0), 0);
    assert_int_equal(blk_set_perm(below->blk, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL, NULL), 0);
    probe_main(append_main, &a);
    assert_ptr_equal(blk_bs(below->blk), top->bs); /* its user moved up */
    assert_ptr_equal(bdrv_find_dirty_bitmap(below->bs, "b"), b);
    assert_null(bdrv_dirty_bitmap_next(top->bs, NULL));
    assert_true(bdrv_dirty_bitmap_recording(b));
    assert_int_equal(do_req(top, W, 4 * G, 512, 1, 0), 0);
    assert_bits(b, "1000000000000000");
    bdrv_release_dirty_bitmap(b);
    probe_free(top);
    probe_free(below);
}

/* fact: bitmaps 2.4/revert, edge/23 */
static void test_revert_refused(void **state)
{
    struct probe *p = plain_probe();
    Error *err = NULL;
    assert_int_equal(bdrv_check_no_dirty_bitmaps(p->bs, &err), 0);
    assert_null(err);
    BdrvDirtyBitmap *b = made(p, G, NULL);
    bdrv_disable_dirty_bitmap(b);
    assert_true(bdrv_has_dirty_bitmaps(p->bs));
    assert_int_equal(bdrv_check_no_dirty_bitmaps(p->bs, &err), -EBUSY);
    assert_error(&err, "Device has active dirty bitmaps");
    bdrv_release_dirty_bitmap(b);
    assert_int_equal(bdrv_check_no_dirty_bitmaps(p->bs, &err), 0);
    probe_free(p);
}

/* --- giving up and taking back -------------------------------------------------------------------------------- */

/* fact: bitmaps 2.4/inactivate */
static void test_inactivate(void **state)
{
    struct probe *p = keeper_new();
    Error *err;
    bdrv_set_dirty_bitmap(made_persistent(p, "kept"), 0, 1);
    bdrv_dirty_bitmap_set_inconsistent(made_persistent(p, "broken"));
    (void)made(p, G, "temporary");
    bdrv_dirty_bitmap_skip_store(made_persistent(p, "migrated"), true);
    (void)made(p, G, NULL);
    assert_int_equal(in_coroutine(p, bdrv_co_inactivate_dirty_bitmaps, &err), 0);
    assert_string_equal(keeper.image, "kept:65536 ");
    assert_null(bdrv_find_dirty_bitmap(p->bs, "kept"));
    assert_null(bdrv_find_dirty_bitmap(p->bs, "broken")); /* still in the image, as it was */
    assert_non_null(bdrv_find_dirty_bitmap(p->bs, "temporary"));
    assert_non_null(bdrv_find_dirty_bitmap(p->bs, "migrated"));
    assert_null(bdrv_dirty_bitmap_name(bdrv_dirty_bitmap_next(p->bs, NULL)));
    drop(p);
}

/* fact: bitmaps 2.4/inactivate */
static void test_inactivate_refused(void **state)
{
    struct probe *p = keeper_new();
    Error *err;
    BdrvDirtyBitmap *b = made_persistent(p, "b");
    assert_int_equal(bdrv_dirty_bitmap_create_successor(b, NULL), 0);
    assert_int_equal(in_coroutine(p, bdrv_co_inactivate_dirty_bitmaps, &err), -EBUSY);
    assert_error(&err, "Bitmap 'b' is currently in use by another operation and cannot be used");
    assert_int_equal(keeper.stores, 0);
    assert_ptr_equal(bdrv_reclaim_dirty_bitmap(b, NULL), b);
    keeper.fail_store = -ENOSPC;
    assert_int_equal(in_coroutine(p, bdrv_co_inactivate_dirty_bitmaps, &err), -ENOSPC);
    assert_error(&err, "Lost persistent bitmaps during inactivation of node 'k': keeper");
    assert_ptr_equal(bdrv_find_dirty_bitmap(p->bs, "b"), b);
    drop(p);
}

/* fact: bitmaps 2.1/skip-store */
static void test_activate(void **state)
{
    struct probe *p = keeper_new();
    Error *err;
    BdrvDirtyBitmap *b = made_persistent(p, "b");
    bdrv_dirty_bitmap_skip_store(b, true);
    assert_int_equal(in_coroutine(p, bdrv_co_inactivate_dirty_bitmaps, &err), 0);
    assert_ptr_equal(bdrv_find_dirty_bitmap(p->bs, "b"), b);
    bdrv_activate_dirty_bitmaps(p->bs);
    assert_false(bdrv_dirty_bitmap_skips_store(b));
    probe_free(p);
    assert_string_equal(keeper.seen_at_close, "b:0 ");
}

/* --- resizing --------------------------------------------------------------------------------------------------
 */

/* D03: every bitmap follows the node, whatever its granularity and state; nothing is marked by that.
 * fact: bitmaps 2.4/resize, 2.1/size; block 5/afterwards */
static void test_resize_all(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *coarse = made(p, G, "coarse");
    BdrvDirtyBitmap *fine = made(p, 512, NULL);
    BdrvDirtyBitmap *off = made(p, G, "off");
    bdrv_disable_dirty_bitmap(off);
    bdrv_dirty_bitmap_set_busy(off, true); /* in use, but by nobody who counts on its length */
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, 2 * MiB, 0, 0, 0), 0);
    assert_int_equal(bdrv_dirty_bitmap_size(coarse), 2 * MiB);
    assert_int_equal(bdrv_dirty_bitmap_size(fine), 2 * MiB);
    assert_int_equal(bdrv_dirty_bitmap_size(off), 2 * MiB);
    assert_int_equal(bdrv_get_dirty_count(coarse) + bdrv_get_dirty_count(fine), 0);
    assert_int_equal(do_req(p, W, MiB + MiB / 2, 512, 1, 0), 0);
    assert_int_equal(bdrv_get_dirty_count(coarse), G);
    assert_int_equal(bdrv_get_dirty_count(fine), 512);
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, MiB / 2, 0, 0, 0), 0);
    assert_int_equal(bdrv_dirty_bitmap_size(off), MiB / 2);
    assert_int_equal(bdrv_get_dirty_count(coarse) + bdrv_get_dirty_count(fine), 0);
    bdrv_dirty_bitmap_set_busy(off, false);
    drop(p);
}

/* D03: the length cannot be read after the resize: the bitmaps are as long as was asked for, not as long as an
 * error.
 * fact: block 5/afterwards */
static void test_resize_length_error(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *b = made(p, G, "b");
    probe_fail(p, SIM_OP_GETLENGTH, -1, -EIO, 1);
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, MiB / 2, 0, 0, 0), -EIO);
    assert_int_equal(bdrv_dirty_bitmap_size(b), MiB / 2);
    drop(p);
}

/* Somebody else changes the medium under live iterators: they go on from where they were, over what there is.
 * fact: bitmaps 1.3/truncate-ends */
static void test_resize_under_iterators(void **state)
{
    struct probe *p = plain_probe();
    BdrvDirtyBitmap *b = made(p, G, "b");
    bdrv_set_dirty_bitmap(b, 0, MiB);
    BdrvDirtyBitmapIter *first = bdrv_dirty_iter_new(b);
    BdrvDirtyBitmapIter *second = bdrv_dirty_iter_new(b);
    assert_int_equal(bdrv_dirty_iter_next(first), 0);
    assert_int_equal(bdrv_dirty_iter_next(first), G);
    bdrv_set_dirty_iter(second, 8 * G);
    medium_becomes(p, 3 * G + 512);
    assert_int_equal(bdrv_dirty_iter_next(first), 2 * G);
    assert_int_equal(bdrv_dirty_iter_next(first), 3 * G);
    assert_int_equal(bdrv_dirty_iter_next(first), -1);
    assert_int_equal(bdrv_dirty_iter_next(second), -1); /* where it stood is no more */
    medium_becomes(p, 0);
    assert_int_equal(bdrv_dirty_iter_next(first), -1);
    medium_becomes(p, 2 * MiB);
    assert_int_equal(do_req(p, W, 9 * G, 512, 1, 0), 0);
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), 0);
    assert_int_equal(bdrv_dirty_iter_next(second), 9 * G);
    assert_int_equal(bdrv_dirty_iter_next(first), 9 * G);
    assert_int_equal(bdrv_dirty_iter_next(first), -1);
    bdrv_dirty_iter_free(first);
    bdrv_dirty_iter_free(second);
    drop(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/dirty-bitmap/life/close/named", test_close_releases_named),
        T_NODE("/dirty-bitmap/life/close/leftovers", test_close_with_leftovers),
        T_NODE("/dirty-bitmap/life/close/lost", test_close_loses),
        T_NODE("/dirty-bitmap/life/seed/inactive-close-writes-nothing", test_seed_inactive_close_writes_nothing),
        T_NODE("/dirty-bitmap/life/storable", test_storable),
        T_NODE("/dirty-bitmap/life/reopen/read-only", test_reopen_read_only),
        T_NODE("/dirty-bitmap/life/reopen/and-back", test_reopen_and_back),
        T_NODE("/dirty-bitmap/life/reopen/writable-fails", test_reopen_writable_fails),
        T_NODE("/dirty-bitmap/life/reopen/read-only-fails", test_reopen_read_only_fails),
        T_NODE("/dirty-bitmap/life/external-snapshot", test_external_snapshot),
        T_NODE("/dirty-bitmap/life/revert-refused", test_revert_refused),
        T_NODE("/dirty-bitmap/life/inactivate", test_inactivate),
        T_NODE("/dirty-bitmap/life/inactivate/refused", test_inactivate_refused),
        T_NODE("/dirty-bitmap/life/activate", test_activate),
        T_NODE("/dirty-bitmap/life/resize/all", test_resize_all),
        T_NODE("/dirty-bitmap/life/resize/length-error", test_resize_length_error),
        T_NODE("/dirty-bitmap/life/resize/under-iterators", test_resize_under_iterators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
