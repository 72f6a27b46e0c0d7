/* Protects the caches of qcow2's tables: who is kept, what is written in which order, what becomes of failures. */
#include "tests/block/qcow2_meta.h"

#define SMALL \
    { \
        .cluster_bits = 9, .refcount_order = 4, .size = MiB, .tables = 2 \
    }

/* An L2 table's worth of bytes in the cache, dirty, at a cluster that is counted. */
static int64_t dirty_table(struct q2 *q, uint8_t fill)
{
    Qcow2Cache *c = q->s->l2_table_cache;
    int64_t offset = q2_cluster(q, q2_alloc(q, 1));
    uint8_t *table;

    assert_int_equal(qcow2_cache_get_empty(q->bs, c, offset, &table), 0);
    memset(table, fill, 512);
    qcow2_cache_entry_mark_dirty(c, table);
    qcow2_cache_put(c, &table);
    return offset;
}

static void load(struct q2 *q, int64_t offset)
{
    uint8_t *table;

    assert_int_equal(qcow2_cache_get(q->bs, q->s->l2_table_cache, offset, &table), 0);
    qcow2_cache_put(q->s->l2_table_cache, &table);
}

static void touch_data(struct q2 *q, int64_t cluster)
{
    uint8_t data[512];

    memset(data, 0xd0, sizeof(data));
    assert_int_equal(qcow2_pwrite(q->bs, q2_cluster(q, cluster), sizeof(data), data), 0);
}

static bool cached(struct q2 *q, int64_t offset)
{
    return qcow2_cache_is_table_offset(q->s->l2_table_cache, offset) != NULL;
}

/* fact: qcow2 5.4/caches */
Q2_TEST(least_recently_used_goes, SMALL)
{
    int64_t at = q2_cluster(q, 100);

    load(q, at);
    load(q, at + 512);
    load(q, at);
    load(q, at + 1024);
    assert_true(cached(q, at));
    assert_false(cached(q, at + 512));
    assert_true(cached(q, at + 1024));
}

Q2_TEST(pinned_stays, SMALL)
{
    Qcow2Cache *c = q->s->l2_table_cache;
    int64_t at = q2_cluster(q, 100);
    uint8_t *pinned;

    assert_int_equal(qcow2_cache_get(q->bs, c, at, &pinned), 0);
    memset(pinned, 0x5a, 512);
    for (int i = 1; i < 5; i++) {
        load(q, at + i * 512);
    }
    assert_int_equal(pinned[511], 0x5a);
    uint8_t *again;
    assert_int_equal(qcow2_cache_get(q->bs, c, at, &again), 0);
    assert_ptr_equal(again, pinned);
    qcow2_cache_put(c, &again);
    qcow2_cache_put(c, &pinned);
    assert_null(pinned);
}

/* A table is 512 bytes or 2 MiB: a cache for all of a disk costs what is touched of it. */
Q2_TEST(memory_comes_with_use, SMALL)
{
    uint64_t before = sim_arena_live_bytes(q->w->host->arena);
    Qcow2Cache *c = qcow2_cache_create(q->bs, 65536, 2 * MiB);

    assert_true(sim_arena_live_bytes(q->w->host->arena) - before < 16 * KiB);
    qcow2_cache_destroy(q->bs, c);
    assert_int_equal(sim_arena_live_bytes(q->w->host->arena), before);
}

/* fact: qcow2 5.5/dependencies, edge/43 */
Q2_TEST(eviction_writes_counts_first, SMALL)
{
    dirty_table(q, 1);
    dirty_table(q, 2);
    q2_log_clear(q);
    dirty_table(q, 3);
    q2_expect_log(q, "refblock F new");
}

/* fact: qcow2 5.5/dependencies */
Q2_TEST(eviction_waits_for_data, SMALL)
{
    int64_t a = dirty_table(q, 1);

    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    load(q, a);
    dirty_table(q, 2);
    assert_int_equal(qcow2_cache_flush(q->bs, q->s->refcount_block_cache), 0);
    q2_log_clear(q);
    touch_data(q, 50);
    qcow2_cache_depends_on_flush(q->s->l2_table_cache);
    load(q, q2_cluster(q, 100));
    load(q, q2_cluster(q, 101));
    q2_expect_log(q, "new F new");
}

/* fact: qcow2 5.5/guest-flush */
Q2_TEST(flush_writes_counts_then_tables, SMALL)
{
    dirty_table(q, 1);
    q2_log_clear(q);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    q2_expect_log(q, "refblock F new F");
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    q2_expect_log(q, "refblock F new F"); /* nothing is owed any more */
}

/* fact: qcow2 5.5/discard, edge/43 */
Q2_TEST(dropped_entries_before_counts, SMALL)
{
    int64_t victim = q2_alloc(q, 1);
    int64_t table = dirty_table(q, 1);
    uint8_t *t;

    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    assert_int_equal(qcow2_cache_get(q->bs, q->s->l2_table_cache, table, &t), 0);
    memset(t, 0, 512);
    qcow2_cache_entry_mark_dirty(q->s->l2_table_cache, t);
    qcow2_cache_put(q->s->l2_table_cache, &t);
    q2_free(q, victim, 1, QCOW2_DISCARD_REQUEST);
    q2_log_clear(q);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    q2_expect_log(q, "new F refblock F discard:4");
}

/* fact: qcow2 5.5/dependencies, edge/43 */
Q2_TEST(circle_is_broken_by_a_flush, SMALL)
{
    int64_t victim = q2_alloc(q, 1);

    dirty_table(q, 1);
    q2_log_clear(q);
    q2_free(q, victim, 1, QCOW2_DISCARD_NEVER); /* counts wait for tables, which wait for counts */
    q2_expect_log(q, "refblock F");
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    q2_expect_log(q, "refblock F new F refblock F");
}

/* fact: qcow2 6/failed-flush */
Q2_TEST(failed_write_is_tried_again, SMALL)
{
    static const char *const places[] = {"refblock", "new", "F"};

    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        int64_t table = dirty_table(q, (uint8_t)(i + 1));
        int64_t cluster = table >> 9;
        q->log.fail = places[i];
        q->log.fail_nth = 1;
        assert_int_equal(qcow2_flush_caches(q->bs), -EIO);
        assert_int_equal(qcow2_flush_caches(q->bs), 0);
        assert_int_equal(q2_peek_int(q, table, 1), i + 1);
        assert_int_equal(q2_count_on_medium(q, cluster), 1);
        assert_int_equal(disk_unflushed(q->disk), 0);
    }
}

/* The error of a write-out that makes room reaches whoever wanted the room. */
Q2_TEST(failed_eviction_reaches_the_caller, SMALL)
{
    uint8_t *table;

    dirty_table(q, 1);
    int64_t b = dirty_table(q, 2);
    q->log.fail_all = true;
    assert_int_equal(qcow2_cache_get(q->bs, q->s->l2_table_cache, q2_cluster(q, 100), &table), -EIO);
    assert_null(table);
    q->log.fail_all = false;
    assert_true(cached(q, b));
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    assert_int_equal(q2_peek_int(q, b, 1), 2);
}

/* fact: qcow2 5.5/lazy */
Q2_TEST(lazy_leaves_counts_but_says_so, {.cluster_bits = 9, .refcount_order = 4, .size = MiB, .lazy = true})
{
    int64_t table = dirty_table(q, 1);

    q2_log_clear(q);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    q2_expect_log(q, "header F new F");
    assert_int_equal(q2_peek_int(q, 72, 8), QCOW2_INCOMPAT_DIRTY);
    assert_int_equal(q2_count_on_medium(q, table >> 9), 0);
    assert_int_equal(q2_count(q, table >> 9), 1);
}

Q2_TEST(cleaning_takes_what_is_idle, {.cluster_bits = 9, .refcount_order = 4, .size = MiB})
{
    int64_t at = q2_cluster(q, 100);
    int64_t dirty = dirty_table(q, 1);

    load(q, at);
    load(q, at + 512);
    qcow2_cache_clean_unused(q->bs, q->s->l2_table_cache);
    assert_true(cached(q, at));
    load(q, at);
    qcow2_cache_clean_unused(q->bs, q->s->l2_table_cache);
    assert_true(cached(q, at));
    assert_false(cached(q, at + 512));
    assert_true(cached(q, dirty));
    qcow2_cache_clean_unused(q->bs, q->s->l2_table_cache);
    assert_false(cached(q, at));
    assert_true(cached(q, dirty));
}

/* An image that uses its own tables for data can free one that is being looked at. */
Q2_TEST(discarded_while_pinned, SMALL)
{
    Qcow2Cache *c = q->s->l2_table_cache;
    int64_t at = dirty_table(q, 7);
    uint8_t *table;

    assert_int_equal(qcow2_cache_get(q->bs, c, at, &table), 0);
    qcow2_cache_discard(c, table);
    assert_false(cached(q, at));
    qcow2_cache_entry_mark_dirty(c, table);
    table[0] = 9;
    qcow2_cache_put(c, &table);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    assert_int_equal(q2_peek_int(q, at, 1), 0); /* never written */
}

/* fact: qcow2 5.8/runtime */
Q2_TEST(senseless_offsets_are_corruption, {.cluster_bits = 9, .refcount_order = 4, .size = MiB})
{
    uint8_t *table;

    assert_int_equal(qcow2_cache_get(q->bs, q->s->l2_table_cache, 100 * 512 + 256, &table), -EIO);
    assert_null(table);
    assert_false(qcow2_usable(q->bs));
    assert_int_equal(q2_peek_int(q, 72, 8), QCOW2_INCOMPAT_CORRUPT);
    assert_int_equal(qcow2_cache_get(q->bs, q->s->l2_table_cache, 0, &table), -EIO);
    assert_int_equal(qcow2_cache_get(q->bs, q->s->refcount_block_cache, INT64_MIN, &table), -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2-cache/least-recently-used", least_recently_used_goes),
        T("/qcow2-cache/pinned-stays", pinned_stays),
        T("/qcow2-cache/memory-on-use", memory_comes_with_use),
        T("/qcow2-cache/eviction/counts-first", eviction_writes_counts_first),
        T("/qcow2-cache/eviction/data-first", eviction_waits_for_data),
        T("/qcow2-cache/eviction/failed", failed_eviction_reaches_the_caller),
        T("/qcow2-cache/flush/order", flush_writes_counts_then_tables),
        T("/qcow2-cache/flush/dropped-entries-first", dropped_entries_before_counts),
        T("/qcow2-cache/flush/circle", circle_is_broken_by_a_flush),
        T("/qcow2-cache/flush/failed", failed_write_is_tried_again),
        T("/qcow2-cache/flush/lazy", lazy_leaves_counts_but_says_so),
        T("/qcow2-cache/clean-unused", cleaning_takes_what_is_idle),
        T("/qcow2-cache/discarded-while-pinned", discarded_while_pinned),
        T("/qcow2-cache/senseless-offsets", senseless_offsets_are_corruption),
    };

    return cmocka_run_group_tests_name("qcow2_cache", tests, NULL, NULL);
}
