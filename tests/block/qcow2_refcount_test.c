/* Protects qcow2's counts of references: widths, limits, all or nothing, bad tables. */
#include "tests/block/qcow2_meta.h"

#define SMALL \
    { \
        .cluster_bits = 9, .refcount_order = 4, .size = MiB, .tables = 2 \
    }

/* --- counts in a block ---------------------------------------------------------------------------------------- */

static BDRVQcow2State width(unsigned order)
{
    return (BDRVQcow2State){.refcount_order = order,
                            .refcount_bits = 1u << order,
                            .refcount_max = order == 6 ? UINT64_MAX : (1ULL << (1u << order)) - 1,
                            .refcount_block_bits = 9 + 3 - order};
}

/* fact: qcow2 5.3/widths, edge/28 */
static void narrow_from_the_low_bit(void **state)
{
    static const struct {
        unsigned order, index, byte;
        uint64_t count;
        uint8_t expected;
    } cases[] = {
        {0, 0, 0, 1, 0x01},    {0, 7, 0, 1, 0x80},      {0, 8, 1, 1, 0x01},    {1, 0, 0, 3, 0x03},
        {1, 1, 0, 2, 0x08},    {1, 5, 1, 3, 0x0c},      {2, 0, 0, 9, 0x09},    {2, 1, 0, 9, 0x90},
        {3, 3, 3, 0xab, 0xab}, {4, 1, 2, 0xab00, 0xab}, {5, 1, 7, 0xab, 0xab}, {6, 1, 8, 0xabULL << 56, 0xab},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t block[512] = {0};
        BDRVQcow2State s = width(cases[i].order);
        qcow2_refcount_set(&s, block, cases[i].index, cases[i].count);
        assert_int_equal(block[cases[i].byte], cases[i].expected);
        assert_true(qcow2_refcount_get(&s, block, cases[i].index) == cases[i].count);
        block[cases[i].byte] = 0;
        for (size_t k = 0; k < sizeof(block); k++) {
            assert_int_equal(block[k], 0);
        }
    }
}

/* fact: qcow2 5.3/widths */
static void neighbours_are_left_alone(void **state)
{
    for (unsigned order = 0; order <= 6; order++) {
        BDRVQcow2State s = width(order);
        uint64_t room = 1ULL << s.refcount_block_bits;
        uint8_t block[512];
        uint64_t model[4096];
        memset(block, 0, sizeof(block));
        memset(model, 0, sizeof(model));
        for (uint64_t n = 0; n < 20000; n++) {
            uint64_t random = sim_mix64(n * 7 + order);
            uint64_t at = random % room;
            model[at] = sim_mix64(random) & s.refcount_max;
            qcow2_refcount_set(&s, block, at, model[at]);
        }
        for (uint64_t i = 0; i < room; i++) {
            assert_true(qcow2_refcount_get(&s, block, i) == model[i]);
        }
    }
}

/* --- changes ----------------------------------------------------------------------------------------------------
 */

static void overflow_q2(struct q2 *q)
{
    uint64_t max = q->s->refcount_max;
    int64_t a = q2_alloc(q, 3);

    if (max > 1) {
        assert_int_equal(qcow2_update_refcount(q->bs, q2_cluster(q, a + 1), 512, max - 1, false, 0), 0);
    }
    assert_true(q2_count(q, a + 1) == max);
    assert_int_equal(qcow2_update_refcount(q->bs, q2_cluster(q, a), 3 * 512, 1, false, 0), -EINVAL);
    assert_true(q2_count(q, a) == 1);
    assert_true(q2_count(q, a + 1) == max);
    assert_true(q2_count(q, a + 2) == 1);
    assert_int_equal(qcow2_update_refcount(q->bs, q2_cluster(q, a), 2 * 512, 2, true, QCOW2_DISCARD_NEVER),
                     -EINVAL);
    assert_true(q2_count(q, a) == 1);
    assert_true(q2_count(q, a + 1) == max);
    assert_int_equal(qcow2_update_cluster_refcount(q->bs, (uint64_t)a + 1, max, true, QCOW2_DISCARD_NEVER), 0);
    assert_true(q2_count(q, a + 1) == 0);
}

/* fact: qcow2 5.3/overflow, edge/48 */
static void increments_stop_at_the_maximum(void **state)
{
    q2_each_width((struct q2_spec)SMALL, overflow_q2);
}

/* The third of three blocks cannot be read: what the first two counted is taken back. */
Q2_TEST(failed_increment_is_taken_back, SMALL)
{
    int64_t range = q2_cluster(q, 600);

    assert_int_equal(qcow2_update_refcount(q->bs, 0, range, 1, false, 0), 0);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    q->log.fail = "read-refblock";
    q->log.fail_nth = 6; /* three to test, the third again to change */
    assert_int_equal(qcow2_update_refcount(q->bs, 0, range, 1, false, 0), -EIO);
    q->log.fail = NULL;
    for (int64_t i = 0; i < 600; i++) {
        assert_int_equal(q2_count(q, i), i < 4 ? 2 : 1);
    }
}

/* What a cluster is freed for lasts: the cached table in it is never written again, even after it has a new owner.
 */
Q2_TEST(freed_table_is_forgotten, SMALL)
{
    Qcow2Cache *c = q->s->l2_table_cache;
    int64_t a = q2_alloc(q, 1);
    uint8_t *table;

    assert_int_equal(qcow2_cache_get_empty(q->bs, c, q2_cluster(q, a), &table), 0);
    memset(table, 0xee, 512);
    qcow2_cache_entry_mark_dirty(c, table);
    qcow2_cache_put(c, &table);
    q2_free(q, a, 1, QCOW2_DISCARD_NEVER);
    assert_null(qcow2_cache_is_table_offset(c, q2_cluster(q, a)));
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    assert_int_equal(q2_peek_int(q, q2_cluster(q, a), 1), 0);
}

/* Q11: a block whose own count falls to 0 in the middle of a range still counts the rest of it. */
Q2_TEST(block_frees_itself, SMALL)
{
    int64_t a = q2_alloc(q, 300);
    int64_t block = (int64_t)(q->s->refcount_table[1] >> 9);

    assert_true(block > 255);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    int64_t last = MAX(block, a + 299);
    q2_free(q, 256, last - 255, QCOW2_DISCARD_NEVER);
    for (int64_t i = 256; i <= last; i++) {
        assert_int_equal(q2_count(q, i), 0);
    }
    assert_int_equal(qcow2_update_cluster_refcount(q->bs, (uint64_t)block, 1, false, 0), 0);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    for (int64_t i = 256; i <= last; i++) {
        assert_int_equal(q2_count_on_medium(q, i), i == block);
    }
}

Q2_TEST(ranges_that_cannot_be, SMALL)
{
    assert_int_equal(qcow2_update_refcount(q->bs, -512, 512, 1, false, 0), -EINVAL);
    assert_int_equal(qcow2_update_refcount(q->bs, 512, -1, 1, false, 0), -EINVAL);
    assert_int_equal(qcow2_update_refcount(q->bs, INT64_MAX - 100, 512, 1, false, 0), -EINVAL);
    assert_int_equal(qcow2_update_refcount(q->bs, INT64_C(1) << 57, 512, 1, false, 0), -EFBIG);
    assert_int_equal(qcow2_update_refcount(q->bs, INT64_C(1) << 50, 512, 1, false, 0), -EFBIG);
    assert_int_equal(qcow2_update_refcount(q->bs, INT64_C(1) << 50, 512, 1, true, 0), -EINVAL);
    assert_int_equal(qcow2_update_refcount(q->bs, INT64_C(1) << 50, 0, 1, true, 0), 0);
    assert_true(qcow2_usable(q->bs));
}

/* --- bad tables
 * --------------------------------------------------------------------------------------------------- */

#define BAD \
    { \
        .cluster_bits = 12, .refcount_order = 4, .size = MiB, .as_it_is = true \
    }

static void expect_bad_entry(struct q2 *q, uint64_t entry)
{
    uint64_t count;

    q->s->refcount_table[1] = entry;
    assert_int_equal(qcow2_get_refcount(q->bs, 2048, &count), -EIO);
    assert_int_equal(count, 0);
    assert_false(qcow2_usable(q->bs));
    assert_int_equal(q2_peek_int(q, 72, 8), QCOW2_INCOMPAT_CORRUPT);
}

/* fact: qcow2 5.3/table */
Q2_TEST(unaligned_block, BAD)
{
    expect_bad_entry(q, 0x3200);
}

Q2_TEST(block_beyond_everything, BAD)
{
    expect_bad_entry(q, 0xfffffffffffff000);
}

/* fact: qcow2 5.3/table */
Q2_TEST(reserved_bits_and_absent_blocks, BAD)
{
    uint64_t count;

    q->s->refcount_table[1] = 0x1ff;
    assert_int_equal(qcow2_get_refcount(q->bs, 2048, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(qcow2_get_refcount(q->bs, UINT64_MAX >> 12, &count), 0);
    assert_int_equal(count, 0);
}

Q2_TEST(last_cluster, BAD)
{
    assert_int_equal(qcow2_get_last_cluster(q->bs, 20 * 4096), 4);
    assert_int_equal(qcow2_update_cluster_refcount(q->bs, 17, 1, false, 0), 0);
    assert_int_equal(qcow2_get_last_cluster(q->bs, 20 * 4096), 18);
    assert_int_equal(qcow2_get_last_cluster(q->bs, 17 * 4096), 4);
    assert_int_equal(qcow2_get_last_cluster(q->bs, 17 * 4096 + 1), 18);
    /* in no time, however large what holds the image is */
    assert_int_equal(qcow2_get_last_cluster(q->bs, INT64_MAX - 4096), 18);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2-refcount/widths/packing", narrow_from_the_low_bit),
        T("/qcow2-refcount/widths/neighbours", neighbours_are_left_alone),
        T("/qcow2-refcount/overflow", increments_stop_at_the_maximum),
        T("/qcow2-refcount/taken-back", failed_increment_is_taken_back),
        T("/qcow2-refcount/freed-table", freed_table_is_forgotten),
        T("/qcow2-refcount/block-frees-itself", block_frees_itself),
        T("/qcow2-refcount/ranges", ranges_that_cannot_be),
        T("/qcow2-refcount/bad/unaligned", unaligned_block),
        T("/qcow2-refcount/bad/beyond", block_beyond_everything),
        T("/qcow2-refcount/bad/reserved", reserved_bits_and_absent_blocks),
        T("/qcow2-refcount/last-cluster", last_cluster),
    };

    return cmocka_run_group_tests_name("qcow2_refcount", tests, NULL, NULL);
}
