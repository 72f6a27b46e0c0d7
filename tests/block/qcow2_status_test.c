/* Protects block status of qcow2 (block.md 2.13) and its const form, against a model of random images. */
#include "tests/block/qcow2_image_model.h"

#define DATA BDRV_BLOCK_DATA
#define ZERO BDRV_BLOCK_ZERO
#define VALID BDRV_BLOCK_OFFSET_VALID
#define ALLOCATED BDRV_BLOCK_ALLOCATED

static const struct build layouts[] = {
    {.version = 2, .cluster_bits = 12, .size = 300 * KiB},
    {.version = 3, .cluster_bits = 12, .size = 301 * KiB},
    {.version = 3, .cluster_bits = 9, .size = 100 * KiB + 512},
    {.version = 3, .cluster_bits = 16, .size = 900 * KiB, .zstd = true},
    {.version = 3, .cluster_bits = 14, .size = 500 * KiB + 512, .extended = true},
    {.version = 3, .cluster_bits = 17, .size = 2 * MiB, .extended = true},
};

static bool has_place(unsigned type)
{
    return type == QCOW2_SUBCLUSTER_NORMAL || type == QCOW2_SUBCLUSTER_ZERO_ALLOC ||
           type == QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC;
}

/* What a part is; with_zero: zeros that only the file or the backing file knows of are wanted. */
static int flags_of(const struct model *m, int64_t index)
{
    int place = has_place(m->type[index]) ? VALID : 0;
    switch (m->type[index]) {
    case QCOW2_SUBCLUSTER_NORMAL:
        return DATA | ALLOCATED | VALID;
    case QCOW2_SUBCLUSTER_COMPRESSED:
        return DATA | ALLOCATED | BDRV_BLOCK_COMPRESSED;
    case QCOW2_SUBCLUSTER_ZERO_ALLOC:
    case QCOW2_SUBCLUSTER_ZERO_PLAIN:
        return ZERO | ALLOCATED | place;
    default:
        return (m->below < 0 ? ZERO : 0) | place;
    }
}

static bool all_zero(const struct model *m, int64_t offset, int64_t bytes)
{
    for (int64_t i = offset; i < offset + bytes; i++) {
        if (m->view[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Every part that an answer covers is as it says; returns its length. */
static int64_t check_answer(const struct model *m, const struct look *l, int ret)
{
    bool past_below = m->below >= 0 && l->offset >= m->below;
    assert_true(l->pnum > 0 && l->pnum <= l->bytes);
    assert_int_equal((ret & BDRV_BLOCK_EOF) != 0, l->offset + l->pnum == m->b.size);
    ret &= ~BDRV_BLOCK_EOF;
    for (int64_t i = l->offset / m->part; i * m->part < l->offset + l->pnum; i++) {
        int expected = flags_of(m, i);
        if (!(expected & ALLOCATED) && past_below) {
            expected |= ZERO;
        }
        assert_int_equal(ret, expected);
        if (ret & VALID) {
            assert_int_equal(l->map - l->offset, m->host[i] - i * m->part);
        }
    }
    assert_true(!(ret & ZERO) || all_zero(m, l->offset, l->pnum));
    return l->pnum;
}

/* Whole and in pieces; neighbours of the same kind are one run unless the table ends between them. */
static void check_status(struct model *m, BlockDriverState *bs)
{
    int64_t size = m->b.size;
    int64_t span = build_cluster(&m->b) / entry_bytes(&m->b) * build_cluster(&m->b);
    for (int64_t at = 0; at < size;) {
        struct look l = {.bs = bs, .offset = at, .bytes = size - at};
        at += check_answer(m, &l, status_of(&l));
        int64_t index = at / m->part;
        if (at < size && at % m->part == 0 &&
            at % MIN(span, 4096 / entry_bytes(&m->b) * build_cluster(&m->b)) != 0 &&
            m->type[index] == m->type[index - 1] && m->type[index] != QCOW2_SUBCLUSTER_COMPRESSED &&
            m->host[index] < 0 && m->host[index - 1] < 0 && at != m->below) {
            fail_msg("the run before %lld ended too early", (long long)at);
        }
    }
    for (unsigned i = 0; i < 100; i++) {
        struct look l = {.bs = bs, .offset = (int64_t)draw(m, (uint64_t)size)};
        l.bytes = 1 + (int64_t)draw(m, (uint64_t)(size - l.offset));
        check_answer(m, &l, status_of(&l));
        int ret = allocated_of(&l);
        assert_true(ret >= 0 && l.pnum > 0 && l.pnum <= l.bytes);
        for (int64_t k = l.offset / m->part; k * m->part < l.offset + l.pnum; k++) {
            assert_int_equal(ret > 0, (flags_of(m, k) & ALLOCATED) != 0);
        }
    }
}

/* The const form never takes data for a hole. */
static void check_peek_status(struct model *m, const BlockDriverState *bs)
{
    bool hole_seen = false, data_seen = false;
    int64_t pnum;
    for (int64_t at = 0; at < m->b.size; at += pnum) {
        bool data = bdrv_peek_status(bs, at, m->b.size - at, &pnum);
        assert_true(pnum > 0 && pnum <= m->b.size - at);
        assert_true(data || all_zero(m, at, pnum));
        hole_seen |= !data;
        data_seen |= data;
    }
    assert_true(hole_seen && data_seen);
}

static unsigned turn; /* of the test that runs */

WORLD_TEST(one_random)
{
    struct model m = {.b = layouts[turn % ARRAY_SIZE(layouts)], .seed = 1000 + turn, .below = -1};
    if (draw(&m, 2)) {
        m.below = 512 * (1 + (int64_t)draw(&m, (uint64_t)m.b.size / 600));
    }
    model_make(&m, w, "top");
    BlockBackend *blk = use(w, model_open(&m, w), BLK_PERM_CONSISTENT_READ);
    check_status(&m, blk_bs(blk));
    check_peek_status(&m, blk_bs(blk));
    blk_unref(blk);
    del(w, "n");
    model_free(&m);
}

static void test_random(void **state)
{
    for (turn = 0; turn < 5 * ARRAY_SIZE(layouts); turn++) {
        one_random(state);
    }
}

/* What is allocated in the image but a hole in its file reads as zeros: preallocated metadata. */
WORLD_TEST(test_hole_in_file)
{
    struct build b = {.version = 3, .cluster_bits = 16, .size = 4 * 64 * KiB};
    build_begin(&b, 20 * 64 * KiB);
    int64_t table = build_entry_at(&b, 0);
    for (unsigned i = 0; i < 4; i++) {
        int64_t data = build_take(&b);
        build_set(&b, i, (uint64_t)data | 1ULL << 63, 0);
        memset(b.bytes + data, i == 2 ? 0x77 : 0, 64 * KiB);
    }
    build_end(&b, w, "top");
    BlockBackend *blk =
        use(w, add(w, "{'driver':'qcow2','node-name':'n','read-only':true,'file':{'driver':'disk','disk':'top'}}"),
            BLK_PERM_CONSISTENT_READ);
    struct look l = {.bs = blk_bs(blk), .offset = 0, .bytes = b.size};
    assert_int_equal(status_of(&l), DATA | ZERO | VALID | ALLOCATED);
    assert_int_equal(l.pnum, 128 * KiB);
    assert_int_equal(l.map, table + 64 * KiB);
    l.offset = 128 * KiB;
    l.bytes = b.size - l.offset;
    assert_int_equal(status_of(&l), DATA | VALID | ALLOCATED);
    assert_int_equal(l.pnum, 64 * KiB);
    l.offset = 0;
    l.bytes = b.size;
    assert_int_equal(allocated_of(&l), 1);
    assert_int_equal(l.pnum, b.size); /* nobody asked for zeros */
    blk_unref(blk);
    del(w, "n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2/status/random", test_random),
        T("/qcow2/status/hole-in-file", test_hole_in_file),
    };
    return cmocka_run_group_tests_name("block/qcow2_status", tests, NULL, NULL);
}
