/* Protects what a request meets at a node: its entry, inherited limits, permissions, flags, debug events. */
#include "tests/block/probe.h"

#define BLOCK 4096
#define W SIM_OP_WRITE
#define R SIM_OP_READ
#define Z SIM_OP_WRITE_ZEROES
#define D SIM_OP_DISCARD
#define F SIM_OP_FLUSH

static struct probe *aligned_probe(void)
{
    return probe_new(
        (struct probe_spec){.name = "p", .length = MiB, .fill = 0xee, .limits = {.request_alignment = BLOCK}});
}

static struct probe *driven_probe(const BlockDriver *drv)
{
    return probe_new((struct probe_spec){
        .name = "p", .drv = drv, .length = MiB, .fill = 0xee, .limits = {.request_alignment = BLOCK}});
}

/* --- entry ------------------------------------------------------------------------------------------------ */

/* fact: block 2.2/not-inserted, 2.11/checks, 2.9/read-only */
static void test_not_inserted(void **state)
{
    struct probe *p = aligned_probe();
    const BlockDriver *drv = p->bs->drv;
    p->bs->drv = NULL;
    assert_int_equal(do_req(p, R, 0, 512, 0, 0), -ENOMEDIUM);
    assert_int_equal(do_req(p, W, 0, 512, 1, 0), -ENOMEDIUM);
    assert_int_equal(do_req(p, Z, -1, 512, 0, 0), -ENOMEDIUM); /* before the range is looked at */
    assert_int_equal(do_req(p, D, -1, 512, 0, 0), -ENOMEDIUM);
    assert_int_equal(do_req(p, SIM_OP_TRUNCATE, -1, 0, 0, 0), -ENOMEDIUM);
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    p->bs->drv = drv;
    assert_int_equal(p->log_count, 0);
    assert_int_equal(p->bs->in_flight, 0);
    probe_free(p);
}

static unsigned vast_calls;
static int64_t vast_bytes;

static int vast_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    vast_calls++;
    vast_bytes += bytes;
    return 0;
}

static int vast_discard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return vast_zeroes(bs, offset, bytes, 0);
}

/* fact: block 2.2/data-limit, edge/11 */
static void test_data_limit(void **state)
{
    static BlockDriver vast;
    vast = probe_driver;
    vast.bdrv_co_pwrite_zeroes = vast_zeroes;
    vast.bdrv_co_pdiscard = vast_discard;
    struct probe *p = probe_new((struct probe_spec){.name = "p", .drv = &vast, .length = 16 * GiB});
    assert_int_equal(do_req(p, R, 0, BDRV_MAX_REQUEST + 1, 0, 0), -EIO);
    assert_int_equal(do_req(p, R, 0, BDRV_MAX_REQUEST + 512, 0, 0), -EIO);
    assert_int_equal(do_req(p, Z, 0, 8 * GiB, 0, 0), 0);
    assert_int_equal(do_req(p, D, 0, 8 * GiB, 0, 0), 0);
    assert_int_equal(vast_calls, 2);
    assert_int_equal(vast_bytes, 16 * GiB);
    assert_int_equal(p->log_count, 0);
    probe_free(p);
}

/* A misaligned request of nothing does not even look whether it may.
 * fact: block 2.2/zero-length */
static void test_zero_length(void **state)
{
    struct probe *p = aligned_probe();
    p->bs->open_flags &= ~(uint32_t)BDRV_O_RDWR;
    assert_int_equal(do_req(p, R, 7, 0, 0, 0), 0);
    assert_int_equal(do_req(p, W, 7, 0, 0, 0), 0);
    assert_int_equal(do_req(p, Z, 7, 0, 0, 0), 0);
    p->bs->open_flags |= BDRV_O_RDWR;
    assert_int_equal(p->log_count, 0);
    assert_int_equal(p->bs->write_gen, 0);
    probe_free(p);
}

/* --- limits ----------------------------------------------------------------------------------------------- */

static BlockDriver passing; /* limits by inheritance alone */

static int pass_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                        uint32_t flags)
{
    int ret = probe_call(bs, W, offset, bytes, flags);
    return ret < 0 ? ret : bdrv_co_pwritev(bs->file, offset, bytes, in, flags);
}

static struct probe *passing_probe(struct probe *file, struct probe *backing)
{
    passing = probe_driver;
    passing.is_protocol = false;
    passing.supports_backing = true;
    passing.bdrv_co_pwritev = pass_pwritev;
    return probe_new((struct probe_spec){
        .name = "top", .drv = &passing, .length = MiB, .file = file, .backing = backing, .no_resize = true});
}

/* fact: block 2.3/inherited, 2.3/own, 2.3/driver */
static void test_inherited(void **state)
{
    BlockLimits a = {.request_alignment = 4096,
                     .max_pdiscard = 8192,
                     .pdiscard_alignment = 4096,
                     .max_pwrite_zeroes = 8192,
                     .pwrite_zeroes_alignment = 4096,
                     .opt_transfer = 65536,
                     .max_transfer = 0,
                     .min_mem_alignment = 4096,
                     .max_iov = 16};
    BlockLimits b = {.request_alignment = 512,
                     .pdiscard_alignment = 65536,
                     .opt_transfer = 4096,
                     .max_transfer = 131072 + 100,
                     .min_mem_alignment = 512,
                     .max_iov = 8};
    struct probe *file = probe_new((struct probe_spec){.name = "f", .length = MiB, .limits = a, .no_resize = true});
    struct probe *backing = probe_new((struct probe_spec){.name = "b", .length = MiB, .limits = b});
    struct probe *top = passing_probe(file, backing);
    const BlockLimits *bl = &top->bs->bl;
    assert_int_equal(bl->pdiscard_alignment, 65536);
    assert_int_equal(bl->opt_transfer, 65536);
    assert_int_equal(bl->min_mem_alignment, 4096);
    assert_int_equal(bl->max_iov, 8);
    assert_int_equal(bl->max_transfer, 131072); /* unlimited does not win, and its own alignment cut it already */
    assert_int_equal(bl->request_alignment, 1);
    assert_int_equal(bl->pwrite_zeroes_alignment, 0);
    assert_int_equal(bl->max_pwrite_zeroes, 0);
    assert_int_equal(bl->max_pdiscard, 0);
    top->limits = (BlockLimits){.request_alignment = 512, .opt_transfer = 1};
    bdrv_refresh_limits(top->bs);
    assert_int_equal(bl->opt_transfer, 1);
    assert_int_equal(bl->max_transfer, 0);
    probe_free(top);
    probe_free(file);
    probe_free(backing);
}

static void attach_meta(void *opaque)
{
    struct probe **p = opaque;
    SIM_ASSERT(bdrv_attach_child(p[0]->bs, p[1]->bs, "meta", BDRV_CHILD_METADATA, NULL) != NULL);
}

/* Where only metadata is, guest requests do not go.
 * fact: block 2.3/roles */
static void test_limit_roles(void **state)
{
    BlockLimits small = {.request_alignment = 512, .max_transfer = 512};
    struct probe *file = probe_new((struct probe_spec){.name = "f", .length = MiB, .no_resize = true});
    struct probe *meta =
        probe_new((struct probe_spec){.name = "m", .length = MiB, .limits = small, .open_flags = BDRV_O_UNMAP});
    struct probe *top = passing_probe(file, NULL);
    struct probe *both[] = {top, meta};
    blk_set_perm(top->blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, NULL);
    top->bs->open_flags &= ~(uint32_t)BDRV_O_RDWR;
    probe_main(attach_meta, both);
    assert_int_equal(top->bs->bl.max_transfer, 0);
    probe_free(top);
    probe_free(meta);
    probe_free(file);
}

/* Each level pads and cuts for itself.
 * fact: block 2.3/fragment, edge/6 */
static void test_each_level(void **state)
{
    struct probe *file = probe_new((struct probe_spec){
        .name = "f", .length = MiB, .fill = 0xee, .limits = {.request_alignment = BLOCK}, .no_resize = true});
    struct probe *top = passing_probe(file, NULL);
    assert_int_equal(do_req(top, W, 512, 512, 0x11, 0), 0);
    assert_int_equal(top->log_count, 1);
    assert_call(top, 0, W, 512, 512);
    assert_call(file, 0, R, 0, BLOCK);
    assert_call(file, 1, W, 0, BLOCK);
    assert_content(file, 512, 512, 0x11);
    assert_content(file, 1024, 512, 0xee);
    file->bs->bl.max_transfer = 2 * BLOCK; /* learnt too late for the one above */
    assert_int_equal(do_req(top, W, 0, 5 * BLOCK, 0x22, 0), 0);
    assert_int_equal(top->log_count, 2);
    assert_call(file, 2, W, 0, 2 * BLOCK);
    assert_call(file, 4, W, 4 * BLOCK, BLOCK);
    probe_free(top);
    probe_free(file);
}

static int pass_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    return bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

/* Each node of the way must want discards: one that does not keeps the flag from those below.
 * fact: block edge/13, 2.8/may-unmap */
static void test_unmap_at_each_level(void **state)
{
    struct probe *file = probe_new(
        (struct probe_spec){.name = "f", .length = MiB, .zero_flags = BDRV_REQ_MAY_UNMAP, .no_resize = true});
    struct probe *top = passing_probe(file, NULL);
    passing.bdrv_co_pwrite_zeroes = pass_zeroes;
    top->bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP;
    assert_int_equal(do_req(top, Z, 0, BLOCK, 0, BDRV_REQ_MAY_UNMAP), 0);
    assert_int_equal(file->log[0].flags, BDRV_REQ_MAY_UNMAP);
    file->bs->open_flags &= ~(uint32_t)BDRV_O_UNMAP;
    assert_int_equal(do_req(top, Z, 0, BLOCK, 0, BDRV_REQ_MAY_UNMAP), 0);
    assert_int_equal(file->log[1].flags, 0);
    file->bs->open_flags |= BDRV_O_UNMAP;
    top->bs->open_flags &= ~(uint32_t)BDRV_O_UNMAP;
    assert_int_equal(do_req(top, Z, 0, BLOCK, 0, BDRV_REQ_MAY_UNMAP), 0);
    assert_int_equal(file->log[2].flags, 0);
    probe_free(top);
    probe_free(file);
}

/* --- tracked requests ------------------------------------------------------------------------------------- */

/* fact: block 2.5/tracked */
static void test_tracked(void **state)
{
    static const struct {
        enum sim_op op;
        enum BdrvTrackedRequestType type;
        int64_t offset, bytes, from, length;
    } cases[] = {
        {R, BDRV_TRACKED_READ, 100, 100, 0, BLOCK},
        {W, BDRV_TRACKED_WRITE, BLOCK + 1, BLOCK, BLOCK, 2 * BLOCK},
        {Z, BDRV_TRACKED_WRITE, BLOCK, BLOCK, BLOCK, BLOCK},
        {D, BDRV_TRACKED_DISCARD, BLOCK, 2 * BLOCK, BLOCK, 2 * BLOCK},
        {SIM_OP_TRUNCATE, BDRV_TRACKED_TRUNCATE, MiB + BLOCK, 0, MiB, BLOCK},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct probe *p = aligned_probe();
        struct req r = {.p = p, .op = cases[i].op, .offset = cases[i].offset, .bytes = cases[i].bytes, .fill = 1};
        probe_hold(p, cases[i].op, -2);
        spawn(&r);
        settle();
        const BdrvTrackedRequest *req = LIST_FIRST(&p->bs->tracked_requests);
        assert_non_null(req);
        assert_int_equal(req->type, cases[i].type);
        assert_int_equal(req->offset, cases[i].from);
        assert_int_equal(req->bytes, cases[i].length);
        assert_true(p->bs->in_flight > 0);
        probe_release(p);
        assert_true(r.done && LIST_EMPTY(&p->bs->tracked_requests));
        assert_int_equal(p->bs->in_flight, 0);
        probe_free(p);
    }
}

/* A padded read keeps nobody waiting.
 * fact: block 2.4/padded, 2.5/conflict, 2.5/serialising */
static void test_padded_read(void **state)
{
    struct probe *p = aligned_probe();
    struct req look = {.p = p, .op = R, .offset = 100, .bytes = 100};
    probe_hold(p, R, 0);
    spawn(&look);
    settle();
    assert_int_equal(do_req(p, W, 0, BLOCK, 0x11, 0), 0);
    assert_false(look.done);
    probe_release(p);
    assert_int_equal(look.ret, 0);
    probe_free(p);
}

static int overtaking_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                              uint32_t flags)
{
    struct payload out;
    payload_init(world, &out);
    int ret = bdrv_co_preadv(blk_root(((struct probe *)bs->opaque)->blk), offset, bytes, &out, 0);
    payload_clear(&out);
    return ret;
}

static void write_block(void *opaque)
{
    (void)do_req(opaque, W, 0, BLOCK, 1, 0);
}

static void write_padded(void *opaque)
{
    (void)do_req(opaque, W, 100, 100, 1, 0);
}

/* A driver that reads through its own node under a serialising write would wait for itself for ever.
 * fact: block 2.5/same-coroutine */
static void test_same_coroutine(void **state)
{
    static BlockDriver overtaking;
    overtaking = probe_driver;
    overtaking.bdrv_co_pwritev = overtaking_pwritev;
    struct probe *p = driven_probe(&overtaking);
    assert_true(dies(write_padded, p));
    assert_false(dies(write_block, p));
    probe_free(p);
}

/* --- events (2.6, 7.1) ------------------------------------------------------------------------------------ */

static char raised[200];

static void note_event(BlockDriverState *bs, enum blkdbg_event event)
{
    strcat(raised, blkdbg_event_names[event]);
    strcat(raised, " ");
}

static int noting_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    strcat(raised, "READ ");
    return probe_preadv(bs, offset, bytes, out, flags);
}

static void assert_raised(struct probe *p, enum sim_op op, int64_t offset, int64_t bytes, int ret,
                          const char *events)
{
    raised[0] = '\0';
    assert_int_equal(do_req(p, op, offset, bytes, 1, 0), ret);
    assert_string_equal(raised, events);
}

/* fact: block 2.6/events, 7.1/write-events */
static void test_events(void **state)
{
    static BlockDriver noting;
    noting = probe_driver;
    noting.bdrv_co_debug_event = note_event;
    noting.bdrv_co_preadv = noting_preadv;
    struct probe *p = driven_probe(&noting);
    assert_raised(p, W, 0, BLOCK, 0, "pwritev pwritev_done ");
    assert_raised(p, Z, 0, BLOCK, 0, "pwritev_zero pwritev_done ");
    assert_raised(p, W, 100, BLOCK - 100, 0, "pwritev_rmw_head READ pwritev_rmw_after_head pwritev pwritev_done ");
    assert_raised(p, W, 0, 100, 0, "pwritev_rmw_tail READ pwritev_rmw_after_tail pwritev pwritev_done ");
    assert_raised(p, W, 100, BLOCK, 0,
                  "pwritev_rmw_head pwritev_rmw_tail READ pwritev_rmw_after_head pwritev_rmw_after_tail "
                  "pwritev pwritev_done ");
    assert_raised(p, W, 100, 2 * BLOCK, 0,
                  "pwritev_rmw_head READ pwritev_rmw_after_head pwritev_rmw_tail READ pwritev_rmw_after_tail "
                  "pwritev pwritev_done ");
    probe_fail(p, R, -1, -EIO, 1);
    assert_raised(p, W, 100, BLOCK, -EIO, "pwritev_rmw_head pwritev_rmw_tail READ ");
    probe_fail(p, W, -1, -EIO, 1);
    assert_raised(p, W, 0, BLOCK, -EIO, "pwritev pwritev_done ");
    probe_free(p);
}

/* Writing on with whatever was in the buffer, as the original does, loses the neighbours of the request.
 * fact: block 2.6/read-fails, edge/5 */
static void test_original_loses_neighbours(void **state)
{
    struct probe *p = aligned_probe();
    probe_fail(p, R, -1, -EIO, 1);
    assert_int_equal(do_req(p, W, 512, 512, 0x11, 0), -EIO);
    assert_content(p, 0, BLOCK, 0xee); /* our way: told, nothing lost, and a retry succeeds */
    assert_int_equal(do_req(p, W, 512, 512, 0x11, 0), 0);
    assert_content(p, 0, 512, 0xee);
    assert_content(p, 1024, BLOCK - 1024, 0xee);
    uint8_t unread[BLOCK] = {0}; /* its way: the block as it stands in memory when the read has failed */
    memset(unread + 512, 0x11, 512);
    memcpy(p->data, unread, BLOCK);
    assert_content(p, 512, 512, 0x11);
    assert_int_not_equal(p->data[0], 0xee); /* acknowledged, and the sectors beside it are gone */
    assert_int_not_equal(p->data[1024], 0xee);
    probe_free(p);
}

/* --- permissions and flags -------------------------------------------------------------------------------- */

static void write_past_end(void *opaque)
{
    (void)do_req(opaque, W, MiB, BLOCK, 1, 0);
}

static void discard_block(void *opaque)
{
    (void)do_req(opaque, D, 0, BLOCK, 0, 0);
}

/* fact: block 2.7/permissions, 2.7/inactive, edge/37 */
static void test_assertions(void **state)
{
    struct probe *p = probe_new(
        (struct probe_spec){.name = "p", .length = MiB, .limits = {.request_alignment = BLOCK}, .no_resize = true});
    assert_false(dies(write_block, p));
    assert_true(dies(write_past_end, p)); /* no RESIZE */
    p->bs->open_flags |= BDRV_O_INACTIVE;
    assert_true(dies(write_block, p)); /* not read-only, yet not to be written */
    assert_true(dies(discard_block, p));
    assert_int_equal(do_req(p, R, 0, BLOCK, 0, 0), 0);
    p->bs->open_flags &= ~(uint32_t)BDRV_O_INACTIVE;
    blk_set_perm(p->blk, BLK_PERM_WRITE_UNCHANGED, BLK_PERM_ALL, NULL);
    assert_true(dies(write_block, p)); /* no WRITE */
    probe_free(p);
}

/* fact: block 2.8/write-unchanged, 2.8/registered-buf, 2.8/masked */
static void test_flags(void **state)
{
    struct probe *p = aligned_probe();
    assert_int_equal(do_req(p, W, 0, BLOCK, 1, BDRV_REQ_REGISTERED_BUF), 0);
    assert_int_equal(do_req(p, R, 0, BLOCK, 1, BDRV_REQ_REGISTERED_BUF), 0);
    assert_int_equal(p->log[0].flags | p->log[1].flags, 0);
    assert_int_equal(p->log_count, 2);
    blk_set_perm(p->blk, BLK_PERM_WRITE_UNCHANGED, BLK_PERM_ALL, NULL);
    assert_int_equal(do_req(p, W, 0, BLOCK, 1, BDRV_REQ_WRITE_UNCHANGED), 0);
    assert_int_equal(p->log[2].flags, 0); /* a driver that does not know it is not told */
    p->bs->supported_write_flags = BDRV_REQ_WRITE_UNCHANGED;
    assert_int_equal(do_req(p, W, 0, BLOCK, 1, BDRV_REQ_WRITE_UNCHANGED), 0);
    assert_int_equal(p->log[3].flags, BDRV_REQ_WRITE_UNCHANGED);
    probe_free(p);
}

/* A driver that compresses gets the flag, and detect-zeroes keeps off.
 * fact: block 2.8/compressed, 2.7/detect-zeroes */
static void test_compressed(void **state)
{
    struct probe *p = aligned_probe();
    p->bs->supported_write_flags = BDRV_REQ_WRITE_COMPRESSED;
    p->bs->detect_zeroes = BDRV_DETECT_ZEROES_ON;
    assert_int_equal(do_req(p, W, 0, BLOCK, 0, BDRV_REQ_WRITE_COMPRESSED), 0);
    assert_call(p, 0, W, 0, BLOCK);
    assert_int_equal(p->log[0].flags, BDRV_REQ_WRITE_COMPRESSED);
    probe_free(p);
}

/* The flush in place of FUA sees the write, though it is not counted yet: else it would be left out.
 * fact: block 2.8/fua-emulated, 2.8/fua-zero */
static void test_fua_not_elided(void **state)
{
    struct probe *p = aligned_probe();
    assert_int_equal(do_req(p, W, 0, BLOCK, 1, 0), 0);
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    assert_int_equal(do_req(p, W, 0, BLOCK, 1, BDRV_REQ_FUA), 0);
    assert_int_equal(probe_calls(p, F), 2);
    assert_int_equal(do_req(p, Z, 0, BLOCK, 1, BDRV_REQ_FUA), 0);
    assert_int_equal(probe_calls(p, F), 3);
    probe_fail(p, F, -1, -EIO, 1);
    assert_int_equal(do_req(p, W, 0, BLOCK, 1, BDRV_REQ_FUA), -EIO);
    probe_free(p);
}

static int failing_to_os(BlockDriverState *bs)
{
    return probe_call(bs, SIM_OP_TRUNCATE, 0, 0, 0);
}

/* fact: block 2.9/error-ends, 2.9/to-os */
static void test_flush_error_ends(void **state)
{
    static BlockDriver two_steps;
    two_steps = probe_driver;
    two_steps.bdrv_co_flush_to_os = failing_to_os;
    struct probe *p = driven_probe(&two_steps);
    assert_int_equal(do_req(p, W, 0, BLOCK, 1, 0), 0);
    probe_fail(p, SIM_OP_TRUNCATE, -1, -ENOSPC, 1);
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), -ENOSPC);
    assert_int_equal(probe_calls(p, F), 0);
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(p, F), 1);
    assert_int_equal(do_req(p, F, 0, 0, 0, 0), 0);
    assert_int_equal(probe_calls(p, SIM_OP_TRUNCATE), 3); /* to the OS in any case */
    assert_int_equal(probe_calls(p, F), 1);
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/request/not-inserted", test_not_inserted),
        T_NODE("/request/data-limit", test_data_limit),
        T_NODE("/request/zero-length", test_zero_length),
        T_NODE("/request/limits/inherited", test_inherited),
        T_NODE("/request/limits/roles", test_limit_roles),
        T_NODE("/request/limits/each-level", test_each_level),
        T_NODE("/request/limits/unmap-at-each-level", test_unmap_at_each_level),
        T_NODE("/request/tracked", test_tracked),
        T_NODE("/request/padded-read", test_padded_read),
        T_NODE("/request/same-coroutine", test_same_coroutine),
        T_NODE("/request/events", test_events),
        T_NODE("/request/rmw/original-loses-neighbours", test_original_loses_neighbours),
        T_NODE("/request/assertions", test_assertions),
        T_NODE("/request/flags", test_flags),
        T_NODE("/request/flags/compressed", test_compressed),
        T_NODE("/request/fua/not-elided", test_fua_not_elided),
        T_NODE("/request/flush/error-ends", test_flush_error_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
