/* Protects changing a node's length (block.md 5): who may, what grows over a backing file, where it is passed on.
 */
#include "tests/block/bitmap_probe.h"
#include "tests/block/cow_probe.h"

#define R SIM_OP_READ
#define TRUNCATE SIM_OP_TRUNCATE

/* --- who may ---------------------------------------------------------------------------------------------- */

static void grow(void *opaque)
{
    (void)do_req(opaque, TRUNCATE, 2 * MiB, 0, 0, 0);
}

/* fact: block 5/checks, 5/resize-permission, 12/inactive-resize */
static void test_who_may(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = MiB});
    p->bs->open_flags &= ~(uint32_t)BDRV_O_RDWR;
    assert_int_equal(do_req(p, TRUNCATE, 2 * MiB, 0, 0, 0), -EACCES);
    assert_int_equal(p->log_count, 0);
    p->bs->open_flags |= BDRV_O_RDWR;
    assert_false(dies(grow, p));
    p->bs->open_flags |= BDRV_O_INACTIVE;
    assert_true(dies(grow, p));
    p->bs->open_flags &= ~(uint32_t)BDRV_O_INACTIVE;
    blk_set_perm(p->blk, BLK_PERM_WRITE, BLK_PERM_ALL, NULL);
    assert_true(dies(grow, p));
    probe_free(p);
}

/* fact: block 5/afterwards, 2.7/failed */
static void test_failed(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = MiB});
    BdrvDirtyBitmap *bitmap = bitmap_new(p, 512, "m");
    probe_fail(p, TRUNCATE, -1, -ENOSPC, 1);
    assert_int_equal(do_req(p, TRUNCATE, 2 * MiB, 0, 0, 0), -ENOSPC);
    assert_int_equal(p->bs->total_bytes, MiB);
    assert_int_equal(bdrv_dirty_bitmap_size(bitmap), MiB);
    assert_int_equal(p->bs->serialising_in_flight + p->bs->in_flight, 0);
    assert_int_equal(do_req(p, TRUNCATE, 2 * MiB, 0, 0, 0), 0);
    assert_int_equal(bdrv_dirty_bitmap_size(bitmap), 2 * MiB);
    assert_dirty(bitmap, "");
    bitmaps_free(p);
    probe_free(p);
}

/* Shrinking holds nobody back: whoever shrinks has drained before.
 * fact: block 5/growth-serialises */
static void test_shrink_does_not_serialise(void **state)
{
    struct probe *p = probe_new((struct probe_spec){.name = "p", .length = MiB});
    struct req shrink = {.p = p, .op = TRUNCATE, .offset = 4096};
    probe_hold(p, TRUNCATE, 4096);
    spawn(&shrink);
    settle();
    assert_int_equal(p->bs->serialising_in_flight, 0);
    assert_int_equal(do_req(p, SIM_OP_WRITE, MiB - 512, 512, 1, 0), 0);
    assert_false(shrink.done);
    probe_release(p);
    assert_true(shrink.done);
    assert_int_equal(p->bs->total_bytes, 4096);
    probe_free(p);
}

/* --- over a backing file (12) ----------------------------------------------------------------------------- */

static int cow_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                        uint32_t flags, Error **errp)
{
    struct probe *p = bs->opaque;
    int64_t old = p->length;
    int ret = probe_call(bs, TRUNCATE, length, 0, flags);
    p->length = length;
    return ret == 0 && (flags & BDRV_REQ_ZERO_WRITE) ? cow_write(bs, old, length - old, NULL) : ret;
}

static void let_grow(struct probe *p)
{
    static BlockDriver growing;
    growing = cow_probe_driver;
    growing.bdrv_co_truncate = cow_truncate;
    p->bs->drv = &growing;
    p->bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE;
}

struct ask {
    BlockDriverState *bs;
    int64_t offset;
    int ret;
    int64_t pnum;
};

static void ask_entry(void *opaque)
{
    struct ask *a = opaque;
    a->ret = bdrv_co_is_allocated(a->bs, a->offset, MiB, &a->pnum);
}

/* fact: block 12/growth, 5/over-backing, edge/22 */
static void test_over_backing(void **state)
{
    struct cow_chain c = cow_chain_new((struct cow_spec){.cluster_size = 65536, .backing_length = 2 * MiB});
    uint8_t *seen = malloc(MiB);
    struct req look = {.p = c.top, .op = R, .offset = MiB, .bytes = MiB, .seen = seen};
    memset(c.backing->data, 0xaa, (size_t)PROBE_ROOM);
    let_grow(c.top);
    assert_int_equal(do_req(c.top, TRUNCATE, 2 * MiB, 0, 0, 0), 0);
    spawn(&look);
    settle();
    assert_int_equal(look.ret, 0);
    for (int64_t i = 0; i < MiB; i++) {
        assert_int_equal(seen[i], 0);
    }
    struct ask a = {.bs = c.top->bs, .offset = MiB};
    coroutine_start(coroutine_create(world, host, "status", ask_entry, &a));
    settle();
    assert_int_equal(a.ret, 1);
    assert_int_equal(a.pnum, MiB);
    look.offset = 0;
    spawn(&look);
    settle();
    assert_int_equal(seen[MiB - 1], 0xaa); /* what was there shows the backing file as before */
    free(seen);
    cow_chain_free(&c);
}

/* fact: block 12/growth-detached */
static void test_detached(void **state)
{
    struct probe *file =
        probe_new((struct probe_spec){.name = "file", .length = COW_FILE_LENGTH, .no_resize = true});
    struct probe *top =
        probe_new((struct probe_spec){.name = "top", .drv = &cow_probe_driver, .length = MiB, .file = file});
    ((struct cow_node *)top->bs->opaque)->unit = 65536;
    let_grow(top);
    assert_int_equal(do_req(top, TRUNCATE, 2 * MiB, 0, 0, 0), 0);
    assert_int_equal(top->log_count, 1);
    assert_int_equal(top->log[0].flags, 0);
    assert_int_equal(file->log_count, 0);
    probe_free(top);
    probe_free(file);
}

/* --- passed on -------------------------------------------------------------------------------------------- */

/* fact: block 5/forward */
static void test_forward(void **state)
{
    static BlockDriver filter, mute;
    filter = probe_driver;
    filter.is_protocol = false;
    filter.is_filter = true;
    filter.bdrv_co_truncate = NULL;
    filter.bdrv_co_getlength = NULL;
    mute = probe_driver;
    mute.bdrv_co_truncate = NULL;
    struct probe *file = probe_new((struct probe_spec){.name = "f", .length = MiB, .open_flags = BDRV_O_RDWR});
    blk_set_perm(file->blk, 0, BLK_PERM_ALL, NULL);
    struct probe *top = probe_new((struct probe_spec){.name = "t", .drv = &filter, .length = MiB, .file = file});
    top->bs->file->role = BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY;
    assert_int_equal(bdrv_child_try_set_perm(top->bs->file, BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL, NULL),
                     0);
    assert_int_equal(do_req(top, TRUNCATE, 2 * MiB, 0, 0, 0), 0);
    assert_call(file, 0, TRUNCATE, 2 * MiB, 0);
    assert_int_equal(top->bs->total_bytes, 2 * MiB);
    assert_int_equal(top->log_count, 0);
    struct probe *p = probe_new((struct probe_spec){.name = "p", .drv = &mute, .length = MiB});
    assert_int_equal(do_req(p, TRUNCATE, 2 * MiB, 0, 0, 0), -ENOTSUP);
    assert_int_equal(p->bs->total_bytes, MiB);
    probe_free(top);
    probe_free(file);
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/truncate/who-may", test_who_may),
        T_NODE("/truncate/failed", test_failed),
        T_NODE("/truncate/shrink", test_shrink_does_not_serialise),
        T_NODE("/truncate/over-backing", test_over_backing),
        T_NODE("/truncate/detached", test_detached),
        T_NODE("/truncate/forward", test_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
