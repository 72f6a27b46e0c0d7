/*
 * Dirty bitmaps as their owners and their node's driver see them: making them with their errors, calls that must
 * end in an assertion, and a driver that keeps bitmaps in an image.
 */
#ifndef TESTS_BLOCK_BITMAP_OWNER_H
#define TESTS_BLOCK_BITMAP_OWNER_H

#include "tests/block/probe.h"

#define W SIM_OP_WRITE
#define G 65536

struct create {
    struct probe *p;
    uint32_t granularity;
    const char *name;
    BdrvDirtyBitmap *made;
    char error[1200];
    uint32_t default_granularity;
};

static void create_entry(void *opaque)
{
    struct create *c = opaque;
    Error *err = NULL;
    c->default_granularity = bdrv_get_default_bitmap_granularity(c->p->bs);
    c->made = bdrv_create_dirty_bitmap(c->p->bs, c->granularity, c->name, &err);
    snprintf(c->error, sizeof(c->error), "%s", err != NULL ? error_get_pretty(err) : "");
    error_free(err);
}

static SIM_UNUSED struct create create(struct probe *p, uint32_t granularity, const char *name)
{
    struct create c = {.p = p, .granularity = granularity, .name = name};
    coroutine_start(coroutine_create(world, host, "create", create_entry, &c));
    settle();
    return c;
}

static SIM_UNUSED BdrvDirtyBitmap *made(struct probe *p, uint32_t granularity, const char *name)
{
    struct create c = create(p, granularity, name);
    assert_string_equal(c.error, "");
    assert_non_null(c.made);
    return c.made;
}

static SIM_UNUSED struct probe *plain_probe(void)
{
    return probe_new((struct probe_spec){.name = "p", .length = MiB});
}

/* Releases every bitmap and the node. */
static SIM_UNUSED void drop(struct probe *p)
{
    while (bdrv_dirty_bitmap_next(p->bs, NULL) != NULL) {
        bdrv_release_dirty_bitmap(bdrv_dirty_bitmap_next(p->bs, NULL));
    }
    probe_free(p);
}

/* The error's text, once. */
static SIM_UNUSED void assert_error(Error **err, const char *text)
{
    assert_non_null(*err);
    assert_string_equal(error_get_pretty(*err), text);
    error_free(*err);
    *err = NULL;
}

/* What single calls do that the state may forbid: each for dies(). opaque is the bitmap. */

static SIM_UNUSED void do_set(void *opaque)
{
    bdrv_set_dirty_bitmap(opaque, 0, G);
}

static SIM_UNUSED void do_reset(void *opaque)
{
    bdrv_reset_dirty_bitmap(opaque, 0, G);
}

static SIM_UNUSED void do_clear(void *opaque)
{
    bdrv_clear_dirty_bitmap(opaque, NULL);
}

static SIM_UNUSED void do_restore(void *opaque)
{
    bdrv_restore_dirty_bitmap(opaque, hbitmap_alloc(host->arena, MiB, 16));
}

/* The groups of 64 KiB that are dirty, as '1' and '0', up to the size; at most 16. */
static SIM_UNUSED void assert_bits(const BdrvDirtyBitmap *bitmap, const char *expected)
{
    char text[17] = "";
    size_t groups = (size_t)((bdrv_dirty_bitmap_size(bitmap) + G - 1) / G);
    assert_true(groups < sizeof(text));
    for (size_t i = 0; i < groups; i++) {
        text[i] = bdrv_dirty_bitmap_get(bitmap, (int64_t)i * G) ? '1' : '0';
    }
    assert_string_equal(text, expected);
}

/* Somebody else changed the medium; the node learns of it when it asks. */
static void getlength_entry(void *opaque)
{
    (void)bdrv_co_getlength(((struct probe *)opaque)->bs);
}

static SIM_UNUSED void medium_becomes(struct probe *p, int64_t length)
{
    p->length = length;
    coroutine_start(coroutine_create(world, host, "length", getlength_entry, p));
    settle();
    assert_int_equal(p->bs->total_bytes, length);
}

/* --- a driver that keeps bitmaps ------------------------------------------------------------------------- */

/* What its image holds: "NAME:BYTES " of each bitmap, newest first. */
static struct keeper {
    char image[200];
    bool in_use;
    unsigned stores;
    unsigned closes;
    int fail_store;
    int fail_rw;
    char seen_at_close[200]; /* the image when the driver closed */
} keeper;

static int keeper_store(BlockDriverState *bs, Error **errp)
{
    const BdrvDirtyBitmap *bitmap = NULL;
    size_t used = 0;
    keeper.stores++;
    co_sleep_ns(world, 1000);
    if (keeper.fail_store != 0) {
        error_setg(errp, "keeper");
        return keeper.fail_store;
    }
    SIM_ASSERT(!bdrv_is_read_only(bs));
    keeper.image[0] = '\0';
    keeper.in_use = false;
    while ((bitmap = bdrv_dirty_bitmap_next(bs, bitmap)) != NULL) {
        if (bdrv_dirty_bitmap_storable(bitmap)) {
            used += (size_t)snprintf(keeper.image + used, sizeof(keeper.image) - used, "%s:%lld ",
                                     bdrv_dirty_bitmap_name(bitmap), (long long)bdrv_get_dirty_count(bitmap));
            SIM_ASSERT(used < sizeof(keeper.image));
        }
    }
    return 0;
}

static int keeper_rw(BlockDriverState *bs, Error **errp)
{
    if (keeper.fail_rw != 0) {
        error_setg(errp, "keeper");
        return keeper.fail_rw;
    }
    SIM_ASSERT(!bdrv_is_read_only(bs));
    keeper.in_use = true;
    return 0;
}

static void keeper_close(BlockDriverState *bs)
{
    keeper.closes++;
    memcpy(keeper.seen_at_close, keeper.image, sizeof(keeper.image));
}

/* A node over it, 1 MiB. */
static SIM_UNUSED struct probe *keeper_new(void)
{
    static BlockDriver keeper_driver;
    keeper_driver = probe_driver;
    keeper_driver.format_name = "keeper";
    keeper_driver.bdrv_co_store_dirty_bitmaps = keeper_store;
    keeper_driver.bdrv_co_reopen_bitmaps_rw = keeper_rw;
    keeper_driver.bdrv_reopen_prepare = bdrv_reopen_prepare_nothing;
    keeper_driver.bdrv_close = keeper_close;
    keeper = (struct keeper){.in_use = false};
    return probe_new((struct probe_spec){.name = "k", .drv = &keeper_driver, .length = MiB});
}

static SIM_UNUSED BdrvDirtyBitmap *made_persistent(struct probe *p, const char *name)
{
    BdrvDirtyBitmap *bitmap = made(p, G, name);
    bdrv_dirty_bitmap_set_persistence(bitmap, true);
    return bitmap;
}

#endif
