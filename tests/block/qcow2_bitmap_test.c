/* Protects what the block layer asks of a qcow2 image that keeps bitmaps: adding, removing, reopening, resizing,
 * and images that claim more than they hold. */
#include "tests/block/qcow2_bitmap_lib.h"

#define K4 ",'cluster-size':4096"

/* --- adding --------------------------------------------------------------------------------------------------- */

#define CANNOT "Can't make bitmap 'b' persistent in 'n': "

/* fact: bitmaps 3/add-persistent-qcow2; qcow2 4.1/limits, 4.1/entry-limits */
WORLD_TEST(test_add_refused)
{
    struct image i = make_image(w, MiB, ",'version':'v2'");
    char name[1100];
    open_image(&i, true);
    Error *err = add_refused(&i, "b", 65536);
    expect_error(&err, CANNOT "Cannot store dirty bitmaps in qcow2 v2 files");
    close_image(&i);
    i = make_image(w, 4 * TiB, "");
    open_image(&i, true);
    err = add_refused(&i, "b", 512);
    expect_error(&err, CANNOT "Too much space will be occupied by the bitmap. Use larger granularity");
    memset(name, 'a', sizeof(name));
    name[1024] = '\0';
    err = add_refused(&i, name, 65536);
    expect_error(&err, "Name length exceeds maximum (1023 characters)");
    name[1023] = '\0';
    add_bitmap(&i, name, 1024, true); /* 512 MiB */
    err = add_refused(&i, name, 65536);
    expect_error(&err, "Bitmap already exists: aaa");
    close_image(&i);
    open_image(&i, false);
    assert_non_null(bdrv_find_dirty_bitmap(i.bs, name));
    close_image(&i);
}

/* An image with a directory of nb entries in use; all tables are the same cluster, which nobody looks at. */
static struct image crowded_image(struct world *w, uint32_t nb, int64_t size_bytes)
{
    struct image i = make_image(w, size_bytes, ",'cluster-size':65536");
    uint8_t *directory = calloc(nb, 32);
    for (uint32_t n = 0; n < nb; n++) {
        uint8_t *at = directory + (size_t)n * 32;
        uint64_t table = htobe64(64 * KiB);
        char name[9];
        memcpy(at, &table, 8);
        at[11] = at[15] = at[16] = 1;
        at[17] = 16;
        at[19] = 8;
        snprintf(name, sizeof(name), "%08x", n);
        memcpy(at + 24, name, 8);
    }
    poke(&i, MiB, directory, (int64_t)nb * 32);
    free(directory);
    set_be(&i, 88, 8, 1);
    assert_int_equal(be(&i, 112, 4), 0x6803f857); /* the names of features make room */
    set_be(&i, 112, 8, UINT64_C(0x2385287500000018));
    set_be(&i, 120, 8, (uint64_t)nb << 32);
    set_be(&i, 128, 8, (uint64_t)nb * 32);
    set_be(&i, 136, 8, (uint64_t)MiB);
    set_be(&i, 144, 8, 0);
    return i;
}

/* Bugs D09: those that wait in memory count. */
/* fact: bitmaps 3/add-persistent-qcow2 */
WORLD_TEST(test_add_crowded)
{
    struct image i = crowded_image(w, 65534, MiB);
    open_image(&i, false);
    assert_true(bdrv_dirty_bitmap_inconsistent(bitmap(&i, "0000fffd")));
    add_bitmap(&i, "last", 65536, true);
    Error *err = add_refused(&i, "b", 65536);
    expect_error(&err, CANNOT "Maximum number of persistent bitmaps is already reached");
    bdrv_release_dirty_bitmap(bitmap(&i, "last"));
    add_bitmap(&i, "b", 65536, true);
    close_image(&i);
}

/* fact: bitmaps 3/add-persistent-readonly */
WORLD_TEST(test_add_readonly)
{
    struct image i = make_image(w, MiB, K4);
    open_image(&i, false);
    add_bitmap(&i, "b", 65536, true);
    assert_string_equal(bitmaps_text(&i), "b:ep=0 ");
    close_image(&i);
    assert_int_equal(sim_mark_hits(w->sim, MARK_bitmap_not_stored), 1);
    assert_int_equal(extension_at(&i), -1);
}

/* --- removing ------------------------------------------------------------------------------------------------- */

/* Bugs D07: one that was never stored, beside one that was. */
/* fact: qcow2 4.6/remove */
WORLD_TEST(test_remove)
{
    struct image i = make_image(w, MiB, K4);
    open_image(&i, true);
    add_bitmap(&i, "a", 65536, true);
    add_bitmap(&i, "c", 512, true);
    fill(&i, 1, 0, MiB);
    reopen_image(&i, true);
    add_bitmap(&i, "b", 65536, true);
    remove_bitmap(&i, "b");
    assert_string_equal(stored_text(&i), "c:ua=1 a:ua=1 ");
    remove_bitmap(&i, "c");
    assert_string_equal(stored_text(&i), "a:ua=1 ");
    assert_string_equal(check_text(&i), "0 0");
    remove_bitmap(&i, "a");
    assert_int_equal(extension_at(&i), -1);
    assert_int_equal(be(&i, 88, 8), 0);
    assert_string_equal(check_text(&i), "0 0");
    reopen_image(&i, false);
    assert_string_equal(bitmaps_text(&i), "");
    assert_string_equal(check_text(&i), "0 0");
    close_image(&i);
}

/* One that is inconsistent goes as well; one without a name can be had by it. */
/* fact: qcow2 4.2/in-use-inconsistent, 4.5/unclean-exit */
WORLD_TEST(test_remove_inconsistent)
{
    struct image i = load_image(w, "bitmaps-inuse-4k");
    open_image(&i, true);
    assert_string_equal(bitmaps_text(&i), "fine:pi=0 coarse:pi=0 off:pi=0 empty:pi=0 ");
    assert_string_equal(check_text(&i), "0 0");
    fill(&i, 1, 0, 65536);
    remove_bitmap(&i, "coarse");
    reopen_image(&i, true);
    assert_string_equal(bitmaps_text(&i), "fine:pi=0 off:pi=0 empty:pi=0 ");
    assert_string_equal(check_text(&i), "0 0");
    int64_t directory = (int64_t)be(&i, extension_at(&i) + 16, 8);
    close_image(&i);
    set_be(&i, directory + 18, 2, 0); /* the name of the first: empty, and still 32 bytes */
    set_be(&i, extension_at(&i), 4, 1);
    set_be(&i, extension_at(&i) + 8, 8, 24);
    open_image(&i, true);
    assert_string_equal(bitmaps_text(&i), ":pi=0 ");
    remove_bitmap(&i, "");
    assert_string_equal(bitmaps_text(&i), "");
    close_image(&i);
}

/* --- a removal and a guest's allocations: bugs D11
 * ---------------------------------------------------------------- */

struct busy_guest {
    struct image *i;
    unsigned left;
};

static void busy_entry(void *opaque)
{
    struct busy_guest *g = opaque;
    struct payload data;
    payload_init(g->i->w->sim, &data);
    payload_append_fill(&data, 0x77, 4096);
    for (int64_t n = g->left; n-- > 0; g->left--) {
        assert_int_equal(blk_co_pwritev(g->i->blk, n * 3 * 65536 % (64 * MiB), 4096, &data, 0), 0);
    }
    payload_clear(&data);
    host_kick(g->i->w->host);
}

static bool guest_done(void *opaque)
{
    return ((struct busy_guest *)opaque)->left == 0;
}

/* fact: qcow2 4.1/refcount */
WORLD_TEST(test_remove_race)
{
    struct image i = make_image(w, 64 * MiB, ",'cluster-size':512");
    open_image(&i, true);
    for (unsigned n = 0; n < 8; n++) {
        char name[2] = {(char)('a' + n), '\0'};
        add_bitmap(&i, name, 512, true);
    }
    bdrv_set_dirty_bitmap(bitmap(&i, "c"), 0, 64 * MiB);
    reopen_image(&i, true);
    struct busy_guest g = {&i, 150};
    coroutine_start(coroutine_create(w->sim, w->host, "guest", busy_entry, &g));
    for (unsigned n = 0; n < 8; n++) {
        char name[2] = {(char)('a' + n), '\0'};
        let_run(w, 100000);
        remove_bitmap(&i, name);
    }
    host_poll(w->host, guest_done, &g);
    close_image(&i);
    open_image(&i, false);
    assert_string_equal(check_text(&i), "0 0");
    close_image(&i);
}

/* --- reopening ------------------------------------------------------------------------------------------------ */

/* Bugs D06. */
/* fact: bitmaps 2.4/external-snapshot-stored, 2.4/reopen-readonly, 2.4/reopen-writable */
WORLD_TEST(test_reopen)
{
    struct image i = make_image(w, MiB, K4);
    open_image(&i, true);
    add_bitmap(&i, "b", 65536, true);
    fill(&i, 1, 0, 512);
    blk_unref(i.blk);
    assert_int_equal(bdrv_reopen_set_read_only(i.bs, true, NULL), 0);
    assert_string_equal(stored_text(&i), "b:a=1 ");
    assert_string_equal(bitmaps_text(&i), "b:epr=65536 ");
    assert_int_equal(bdrv_reopen_set_read_only(i.bs, false, NULL), 0);
    assert_string_equal(stored_text(&i), "b:ua=1 ");
    attach_guest(&i, true);
    fill(&i, 2, 7 * 65536, 512);
    assert_string_equal(bitmaps_text(&i), "b:ep=131072 ");
    close_image(&i);
    open_image(&i, false);
    assert_string_equal(bitmaps_text(&i), "b:epr=131072 ");
    assert_string_equal(check_text(&i), "0 0");
    close_image(&i);
}

/* --- giving up and taking back ----------------------------------------------------------------------------------
 */

static int give_up_entry(void *opaque)
{
    BlockDriverState *bs = ((struct call *)opaque)->i->bs;
    return bs->drv->bdrv_co_inactivate(bs);
}

static int take_back_entry(void *opaque)
{
    struct call *c = opaque;
    return c->i->bs->drv->bdrv_co_invalidate_cache(c->i->bs, &c->err);
}

/* fact: qcow2 4.2/memory-wins, 4.6/activation; bitmaps 2.4/inactivate, 2.4/activate */
WORLD_TEST(test_hand_over)
{
    struct image i = make_image(w, MiB, K4);
    struct call c = {.i = &i};
    open_image(&i, true);
    add_bitmap(&i, "stored", 65536, true);
    add_bitmap(&i, "migrated", 65536, true);
    reopen_image(&i, true);
    fill(&i, 1, 0, 65536);
    blk_unref(i.blk);
    bdrv_dirty_bitmap_skip_store(bitmap(&i, "migrated"), true);
    done(&c, go(&c, "inactivate", give_up_entry));
    assert_string_equal(bitmaps_text(&i), "migrated:ep=65536 ");
    assert_string_equal(stored_text(&i), "migrated:ua=1 stored:a=1 ");
    done(&c, go(&c, "activate", take_back_entry));
    bdrv_activate_dirty_bitmaps(i.bs);
    assert_string_equal(bitmaps_text(&i), "stored:ep=65536 migrated:ep=65536 ");
    assert_string_equal(stored_text(&i), "migrated:ua=1 stored:ua=1 ");
    del(w, "n");
    assert_string_equal(stored_text(&i), "migrated:a=1 stored:a=1 ");
    open_image(&i, false);
    assert_string_equal(check_text(&i), "0 0");
    close_image(&i);
}

/* --- resizing ------------------------------------------------------------------------------------------------- */

static void resize_refused(struct image *i, const char *why)
{
    struct call c = {.i = i, .op = 'R', .offset = 2 * MiB};
    assert_int_equal(go(&c, "resize", io_entry), -ENOTSUP);
    expect_error(&c.err, why);
}

/* fact: qcow2 4.6/resize */
WORLD_TEST(test_resize)
{
    struct image i = make_image(w, MiB, K4);
    open_image(&i, true);
    add_bitmap(&i, "b", 65536, true);
    fill(&i, 1, MiB - 512, 512);
    reopen_image(&i, true);
    bdrv_dirty_bitmap_set_busy(bitmap(&i, "b"), true);
    resize_refused(&i, "Bitmap 'b' is currently in use by another operation and cannot be used");
    bdrv_dirty_bitmap_set_busy(bitmap(&i, "b"), false);
    bdrv_dirty_bitmap_set_readonly(bitmap(&i, "b"), true);
    resize_refused(&i, "Bitmap 'b' is readonly and cannot be modified");
    bdrv_dirty_bitmap_set_readonly(bitmap(&i, "b"), false);
    assert_int_equal(io(&i, 'R', 512 * MiB, 0), 0);
    assert_string_equal(stored_text(&i), "b:ua=1 "); /* of the old size, until the store */
    fill(&i, 2, 512 * MiB - 512, 512);
    reopen_image(&i, true);
    assert_string_equal(bitmaps_text(&i), "b:ep=131072 ");
    set_be(&i, (int64_t)be(&i, extension_at(&i) + 16, 8) + 24, 1, 'x');
    resize_refused(&i, "Cannot resize qcow2 with persistent bitmaps that were not loaded into memory");
    set_be(&i, (int64_t)be(&i, extension_at(&i) + 16, 8) + 24, 1, 'b');
    assert_int_equal(io(&i, 'R', 65536, 0), 0);
    reopen_image(&i, false);
    assert_string_equal(bitmaps_text(&i), "b:epr=0 ");
    close_image(&i);
    set_be(&i, (int64_t)be(&i, extension_at(&i) + 16, 8) + 12, 4, IN_USE);
    open_image(&i, true);
    resize_refused(&i, "Bitmap 'b' is inconsistent and cannot be used");
    close_image(&i);
}

/* --- claims -------------------------------------------------------------------------------------------------- */

/* A directory of 64 MiB, all behind the end of the file: it costs what is there. */
WORLD_TEST(test_directory_beyond)
{
    struct image i = make_image(w, MiB, K4);
    open_image(&i, true);
    add_bitmap(&i, "b", 65536, true);
    close_image(&i);
    uint64_t before = sim_arena_peak_bytes(w->host->arena);
    int64_t extension = extension_at(&i);
    set_be(&i, extension, 4, 65535);
    set_be(&i, extension + 8, 8, 67107840);
    assert_string_equal(open_refused(&i, false), "Bitmap '' doesn't satisfy the constraints");
    set_be(&i, extension + 16, 8, UINT64_C(1) << 62);
    assert_string_equal(open_refused(&i, true), "Bitmap '' doesn't satisfy the constraints");
    set_be(&i, extension + 16, 8, UINT64_C(1) << 63);
    assert_string_equal(open_refused(&i, true), "bitmaps_ext: invalid bitmap directory offset");
    assert_true(sim_arena_peak_bytes(w->host->arena) < before + 2 * MiB);
}

/* The largest table there can be, behind the end of the file: all zeros, and nobody goes through them one by one.
 */
WORLD_TEST(test_table_beyond)
{
    struct image i = make_image(w, 8 * GiB, ",'cluster-size':512");
    open_image(&i, true);
    add_bitmap(&i, "b", 512, true);
    bdrv_clear_dirty_bitmap(bitmap(&i, "b"), NULL);
    close_image(&i);
    assert_string_equal(stored_text(&i), "b:a=4096 ");
    set_be(&i, (int64_t)be(&i, extension_at(&i) + 16, 8), 8, UINT64_C(1) << 61);
    uint64_t before = sim_arena_peak_bytes(w->host->arena);
    open_image(&i, false);
    assert_string_equal(bitmaps_text(&i), "b:epr=0 ");
    close_image(&i);
    assert_true(sim_arena_peak_bytes(w->host->arena) < before + 2 * MiB);
}

/* Bitmaps that share clusters are no bitmaps: reading what they share once for each could take forever. */
WORLD_TEST(test_overlap)
{
    struct image i = crowded_image(w, 40000, 4 * GiB);
    for (int64_t n = 0; n < 40000; n++) {
        set_be(&i, MiB + n * 32 + 12, 4, AUTO);
    }
    set_be(&i, 64 * KiB, 8, 128 * KiB); /* the table; 8 KiB of bits are behind each */
    const char *text = open_refused(&i, true);
    assert_memory_equal(text, "Could not read bitmap '00", 25);
    assert_non_null(strstr(text, "Invalid argument"));
    assert_int_equal(sim_mark_hits(w->sim, MARK_qcow2_bitmaps_overlap), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/bitmap/add/refused", test_add_refused),
        T("/qcow2/bitmap/add/crowded", test_add_crowded),
        T("/qcow2/bitmap/add/readonly", test_add_readonly),
        T("/qcow2/bitmap/remove", test_remove),
        T("/qcow2/bitmap/remove/inconsistent", test_remove_inconsistent),
        T("/qcow2/bitmap/remove/race", test_remove_race),
        T("/qcow2/bitmap/reopen", test_reopen),
        T("/qcow2/bitmap/hand-over", test_hand_over),
        T("/qcow2/bitmap/resize", test_resize),
        T("/qcow2/bitmap/claims/directory", test_directory_beyond),
        T("/qcow2/bitmap/claims/table", test_table_beyond),
        T("/qcow2/bitmap/claims/overlap", test_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
