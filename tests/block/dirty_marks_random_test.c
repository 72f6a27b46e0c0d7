/*
 * Protects the marks of dirty bitmaps, to the bit: requests of all kinds, many at once, failing at random, beside
 * owners that switch, set and clear, against plain arrays. After every completion and every owner's step each bit
 * of each bitmap must be what the array says: a bit too many is as wrong as one too few.
 *
 * The model marks a write when the driver's answer ends it, and a discard when it completes: nothing else can run
 * between the driver's answer and the marking.
 */
#include "tests/block/bitmap_probe.h"

#define R SIM_OP_READ
#define W SIM_OP_WRITE
#define Z SIM_OP_WRITE_ZEROES
#define D SIM_OP_DISCARD
#define ROUNDS 48
#define AT_ONCE 16
#define BITMAPS 4

static uint64_t draws;

static int64_t draw(int64_t n)
{
    return (int64_t)(sim_mix64(++draws) % (uint64_t)n);
}

/* --- the model ---------------------------------------------------------------------------------------------- */

struct shadow {
    BdrvDirtyBitmap *bitmap;
    int64_t granularity;
    bool enabled;
    bool dirty[PROBE_ROOM / 512]; /* by groups */
};

static struct shadow shadows[BITMAPS];
static int64_t shadow_length;
static char mismatch[200];
static unsigned compared;

static void shadow_set(struct shadow *s, int64_t start, int64_t end, bool dirty)
{
    end = MIN(end, shadow_length);
    for (int64_t group = start / s->granularity; start < end && group * s->granularity < end; group++) {
        s->dirty[group] = dirty;
    }
}

static void shadow_mark(int64_t start, int64_t end)
{
    for (size_t i = 0; i < BITMAPS; i++) {
        if (shadows[i].enabled) {
            shadow_set(&shadows[i], start, end, true);
        }
    }
}

static void shadow_resize(int64_t length)
{
    shadow_length = length;
    for (size_t i = 0; i < BITMAPS; i++) {
        struct shadow *s = &shadows[i];
        for (int64_t group = DIV_ROUND_UP(length, s->granularity); group < PROBE_ROOM / s->granularity; group++) {
            s->dirty[group] = false;
        }
    }
}

static void compare(const char *after)
{
    compared++;
    for (size_t i = 0; i < BITMAPS && mismatch[0] == '\0'; i++) {
        const struct shadow *s = &shadows[i];
        int64_t count = 0;
        for (int64_t at = 0; at < shadow_length && at < bdrv_dirty_bitmap_size(s->bitmap); at += s->granularity) {
            bool dirty = s->dirty[at / s->granularity];
            count += dirty ? s->granularity : 0;
            if (bdrv_dirty_bitmap_get(s->bitmap, at) != dirty && mismatch[0] == '\0') {
                snprintf(mismatch, sizeof(mismatch),
                         "after %s, draw %" PRIu64 ": bit %" PRId64 " of bitmap %zu is %d", after, draws, at, i,
                         !dirty);
            }
        }
        if (mismatch[0] == '\0' &&
            (bdrv_get_dirty_count(s->bitmap) != count || bdrv_dirty_bitmap_size(s->bitmap) != shadow_length)) {
            snprintf(mismatch, sizeof(mismatch),
                     "after %s, draw %" PRIu64 ": bitmap %zu has %" PRId64 " of %" PRId64, after, draws, i,
                     bdrv_get_dirty_count(s->bitmap), bdrv_dirty_bitmap_size(s->bitmap));
        }
    }
}

/* --- requests ------------------------------------------------------------------------------------------------ */

struct random_req {
    struct req req;
    Coroutine *co;
    bool discards; /* a discard that the node does not drop */
};

static struct random_req reqs[AT_ONCE];

/* The aligned write that a driver's call at offset is part of: the padded request, or the head block, the middle or
 * the tail block of a zero write. */
static void part_of(const struct random_req *r, int64_t align, int64_t offset, int64_t *start, int64_t *end)
{
    int64_t last = r->req.offset + r->req.bytes;
    *start = ROUND_DOWN(r->req.offset, align);
    *end = ROUND_UP(last, align);
    if (r->req.op == W) {
        return;
    }
    if (r->req.offset != *start) {
        *end = offset < *start + align ? *start + align : *end;
        *start = offset < *start + align ? *start : *start + align;
    }
    if (last != *end && ROUND_UP(last, align) == *end && *end - *start > align) {
        int64_t tail = *end - align;
        *end = offset < tail ? tail : *end;
        *start = offset < tail ? *start : tail;
    }
}

/* The driver has answered a call that writes. */
static void answered(BlockDriverState *bs, enum sim_op op, int64_t offset, int64_t bytes, int ret)
{
    int64_t start, end;
    const struct random_req *r = reqs;
    while (r->co != coroutine_self(world)) {
        r++;
        SIM_ASSERT(r < reqs + AT_ONCE);
    }
    part_of(r, bs->bl.request_alignment, offset, &start, &end);
    if (ret == -ENOTSUP || (ret == 0 && offset + bytes < end)) {
        return; /* data follows, or the next fragment */
    }
    if (ret == 0 && end > shadow_length) {
        shadow_resize(ROUND_UP(end, 512));
    }
    shadow_mark(start, end);
}

static int random_call(BlockDriverState *bs, enum sim_op op, int64_t offset, int64_t bytes)
{
    static const int errors[] = {-EIO, -ENOSPC};
    int ret = 0;
    co_sleep_ns(world, draw(4000));
    if (draw(6) == 0) {
        int64_t which = draw(4);
        ret = (op == Z || op == D) && which < 2 ? -ENOTSUP : errors[which % 2];
    }
    if (op == W || op == Z) {
        answered(bs, op, offset, bytes, ret);
    }
    return ret;
}

static int random_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    int ret = random_call(bs, R, offset, bytes);
    if (ret == 0) {
        payload_append_zero(out, bytes);
    }
    return ret;
}

static int random_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                          uint32_t flags)
{
    return random_call(bs, W, offset, bytes);
}

static int random_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    return random_call(bs, Z, offset, bytes);
}

static int random_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return random_call(bs, D, offset, bytes);
}

static int random_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                           uint32_t flags, Error **errp)
{
    struct probe *p = bs->opaque;
    p->length = length;
    return 0;
}

static int64_t random_getlength(BlockDriverState *bs)
{
    const struct probe *p = bs->opaque;
    return p->length;
}

static const BlockDriver random_driver = {
    .format_name = "random",
    .doc = "test",
    .instance_size = sizeof(struct probe),
    .is_protocol = true,
    .bdrv_co_preadv = random_preadv,
    .bdrv_co_pwritev = random_pwritev,
    .bdrv_co_pwrite_zeroes = random_pwrite_zeroes,
    .bdrv_co_pdiscard = random_pdiscard,
    .bdrv_co_truncate = random_truncate,
    .bdrv_co_getlength = random_getlength,
    .bdrv_refresh_limits = probe_refresh_limits,
};

static void request_entry(void *opaque)
{
    struct random_req *r = opaque;
    co_sleep_ns(world, draw(6000));
    r->discards = r->req.op == D && (r->req.p->bs->open_flags & BDRV_O_UNMAP) && r->req.offset >= 0;
    req_entry(&r->req);
    if (r->discards) {
        shadow_mark(r->req.offset, r->req.offset + r->req.bytes);
    }
    compare(sim_op_name(r->req.op));
}

/* Around a few places, so that requests meet; a few impossible ones. */
static void draw_request(struct random_req *r, struct probe *p)
{
    static const enum sim_op ops[] = {W, W, W, Z, Z, D, D, R, SIM_OP_FLUSH};
    static const int64_t sizes[] = {1, 512, 4096, 20000, 100000};
    memset(r, 0, sizeof(*r));
    r->req = (struct req){.p = p, .op = ops[draw(ARRAY_SIZE(ops))]};
    int64_t size = sizes[draw(ARRAY_SIZE(sizes))];
    int64_t step = draw(2) == 0 ? 4096 : 513;
    r->req.bytes = draw(size + 1);
    r->req.offset = step * draw(16);
    r->req.offset += 300000 * draw(4);
    bool inside = draw(4) > 0;
    if (r->req.op == D || inside) { /* else it may go past the end */
        r->req.offset = MIN(r->req.offset, MAX(shadow_length - r->req.bytes, 0));
        r->req.bytes = MIN(r->req.bytes, shadow_length - r->req.offset);
    }
    if (draw(30) == 0) {
        r->req.offset = -1;
    }
    static const uint32_t flags[] = {0, 0, 0, 0, BDRV_REQ_FUA, BDRV_REQ_WRITE_UNCHANGED};
    uint32_t flag = flags[draw(ARRAY_SIZE(flags))];
    bool no_fallback = draw(8) == 0;
    if (r->req.op == W || r->req.op == Z) {
        r->req.flags = flag;
    }
    if (r->req.op == Z && no_fallback) {
        r->req.flags |= BDRV_REQ_NO_FALLBACK; /* refused: the driver has no such thing */
    }
}

/* --- owners --------------------------------------------------------------------------------------------------- */

static void owner_step(struct probe *p)
{
    struct shadow *s = &shadows[draw(BITMAPS)];
    int64_t start = draw(MAX(shadow_length, 1));
    int64_t bytes = draw(200000);
    int64_t end = MIN(start + bytes, shadow_length);
    int64_t kind = draw(5);
    if (kind == 0) {
        s->enabled = !s->enabled;
        if (s->enabled) {
            bdrv_enable_dirty_bitmap(s->bitmap);
        } else {
            bdrv_disable_dirty_bitmap(s->bitmap);
        }
    } else if (kind == 1) {
        shadow_set(s, 0, shadow_length, false);
        bdrv_clear_dirty_bitmap(s->bitmap, NULL);
    } else if (kind == 2 && start < end) {
        shadow_set(s, start, end, true);
        bdrv_set_dirty_bitmap(s->bitmap, start, end - start);
    } else if (kind == 3 && start < end) {
        start = ROUND_DOWN(start, s->granularity);
        end = MIN(ROUND_UP(end, s->granularity), shadow_length);
        shadow_set(s, start, end, false);
        bdrv_reset_dirty_bitmap(s->bitmap, start, end - start);
    } else if (kind == 4) {
        p->bs->open_flags ^= draw(4) == 0 ? BDRV_O_UNMAP : 0;
    }
}

static void owner_entry(void *opaque)
{
    for (int i = 0; i < 6; i++) {
        co_sleep_ns(world, draw(6000));
        owner_step(opaque);
        compare("an owner's step");
    }
}

/* --- rounds --------------------------------------------------------------------------------------------------- */

static void run_requests(struct probe *p)
{
    for (size_t i = 0; i < AT_ONCE; i++) {
        draw_request(&reqs[i], p);
    }
    for (size_t i = 0; i < AT_ONCE; i++) {
        reqs[i].co = coroutine_create(world, host, "request", request_entry, &reqs[i]);
        coroutine_start(reqs[i].co);
    }
    coroutine_start(coroutine_create(world, host, "owner", owner_entry, p));
    settle();
    for (size_t i = 0; i < AT_ONCE; i++) {
        assert_true(reqs[i].req.done);
    }
}

/* While nothing runs: another length, and a read-only bitmap that stops everybody. */
static void between_rounds(struct probe *p)
{
    if (draw(3) == 0) {
        int64_t length = draw(3000) * 512;
        assert_int_equal(do_req(p, SIM_OP_TRUNCATE, length, 0, 0, 0), 0);
        shadow_resize(length);
        compare("a resize");
    }
    if (draw(3) == 0) {
        const enum sim_op ops[] = {W, Z, D};
        BdrvDirtyBitmap *bitmap = shadows[draw(BITMAPS)].bitmap;
        bdrv_dirty_bitmap_set_readonly(bitmap, true);
        enum sim_op op = ops[draw(3)];
        int64_t offset = draw(100000);
        int64_t bytes = 1 + draw(9000);
        assert_int_equal(do_req(p, op, offset, bytes, 0, 0), -EPERM);
        bdrv_dirty_bitmap_set_readonly(bitmap, false);
        compare("a refusal");
    }
}

static void run_random(BlockLimits limits)
{
    static const uint32_t granularities[BITMAPS] = {512, 4096, 65536, 1 << 20};
    struct probe *p = probe_new((struct probe_spec){.name = "p",
                                                    .drv = &random_driver,
                                                    .length = MiB,
                                                    .limits = limits,
                                                    .write_flags = BDRV_REQ_FUA,
                                                    .zero_flags = BDRV_REQ_FUA});
    memset(shadows, 0, sizeof(shadows));
    mismatch[0] = '\0';
    compared = 0;
    draws = limits.request_alignment * UINT64_C(1000000);
    for (size_t i = 0; i < BITMAPS; i++) {
        shadows[i].granularity = granularities[i];
        shadows[i].bitmap = bitmap_new(p, granularities[i], NULL);
        shadows[i].enabled = i != 2;
    }
    bdrv_disable_dirty_bitmap(shadows[2].bitmap);
    shadow_length = MiB;
    for (int round = 0; round < ROUNDS && mismatch[0] == '\0'; round++) {
        run_requests(p);
        between_rounds(p);
    }
    assert_string_equal(mismatch, "");
    assert_true(compared >= ROUNDS * (AT_ONCE + 6));
    bitmaps_free(p);
    probe_free(p);
}

static void test_random_1(void **state)
{
    run_random((BlockLimits){.request_alignment = 1});
}

static void test_random_512(void **state)
{
    run_random((BlockLimits){.request_alignment = 512, .max_transfer = 8192, .max_pwrite_zeroes = 16384});
}

static void test_random_4096(void **state)
{
    run_random((BlockLimits){.request_alignment = 4096, .max_transfer = 32768, .pdiscard_alignment = 65536});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_NODE("/dirty-marks/random/alignment-1", test_random_1),
        T_NODE("/dirty-marks/random/alignment-512", test_random_512),
        T_NODE("/dirty-marks/random/alignment-4096", test_random_4096),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
