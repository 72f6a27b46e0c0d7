/* Protects the growth of qcow2's counts: where new blocks and tables go, in which order they are published, what a
 * failure or a power loss in the middle leaves. */
#include "tests/block/qcow2_meta.h"

#define SMALL \
    { \
        .cluster_bits = 9, .refcount_order = 4, .size = MiB, .tables = 2 \
    }
#define IN_BLOCK 256        /* counts of such a block */
#define IN_TABLE (64 * 256) /* clusters that such a table counts */

static int64_t block_of(struct q2 *q, uint32_t index)
{
    return (int64_t)(q->s->refcount_table[index] >> q->spec.cluster_bits);
}

static void alloc_at(struct q2 *q, int64_t cluster, int64_t clusters)
{
    assert_int_equal(qcow2_alloc_clusters_at(q->bs, q2_cluster(q, cluster), clusters), clusters);
}

/* Everything that is counted is counted right, in memory and on the medium after a flush. */
static void expect_structures_counted(struct q2 *q)
{
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    for (uint32_t i = 0; i < q->s->refcount_table_size; i++) {
        if (q->s->refcount_table[i] != 0) {
            assert_int_equal(q2_count(q, block_of(q, i)), 1);
            assert_int_equal(q2_count_on_medium(q, block_of(q, i)), 1);
        }
    }
    int64_t table = q->s->refcount_table_offset >> q->spec.cluster_bits;
    int64_t clusters = size_to_clusters(q->s, (int64_t)q->s->refcount_table_size * 8);
    for (int64_t i = 0; i < clusters; i++) {
        assert_int_equal(q2_count_on_medium(q, table + i), 1);
    }
}

/* fact: qcow2 5.5/new-refblock, 5.4/refblock-self, 5.3/all-counted */
Q2_TEST(new_block, SMALL)
{
    q2_alloc(q, IN_BLOCK - 4);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    q2_log_clear(q);
    assert_int_equal(q2_alloc(q, 1), IN_BLOCK);
    q2_expect_log(q, "new F reftable F");
    assert_int_equal(block_of(q, 1), IN_BLOCK + 1);
    assert_int_equal(q2_count(q, IN_BLOCK), 1);
    expect_structures_counted(q);
}

/* fact: qcow2 5.5/new-refblock */
Q2_TEST(new_block_comes_after_dirty_tables, SMALL)
{
    uint8_t *table;

    q2_alloc(q, IN_BLOCK - 4);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    assert_int_equal(qcow2_cache_get_empty(q->bs, q->s->l2_table_cache, q2_cluster(q, 100), &table), 0);
    qcow2_cache_entry_mark_dirty(q->s->l2_table_cache, table);
    qcow2_cache_put(q->s->l2_table_cache, &table);
    q2_log_clear(q);
    q2_alloc(q, 1);
    q2_expect_log(q, "new F new F reftable F");
}

/* Q03: the clusters that are being handed out are where the search for free ones would begin. */
Q2_TEST(block_keeps_off_the_run, SMALL)
{
    q2_alloc(q, IN_BLOCK - 4);
    alloc_at(q, IN_BLOCK, 5);
    assert_int_equal(block_of(q, 1), IN_BLOCK + 5);
    for (int64_t i = IN_BLOCK; i < IN_BLOCK + 6; i++) {
        assert_int_equal(q2_count(q, i), 1);
    }
    assert_int_equal(q2_count(q, IN_BLOCK + 6), 0);
    expect_structures_counted(q);
}

/* Q02: the new block's own count lives in another block, which has to be loaded in between. */
Q2_TEST(block_counted_elsewhere, SMALL)
{
    q2_alloc(q, IN_BLOCK - 4);
    qcow2_free_new_clusters(q->bs, q2_cluster(q, 10), 512);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    q2_log_clear(q);
    alloc_at(q, IN_BLOCK, 2);
    q2_expect_log(q, "refblock new F reftable F");
    assert_int_equal(block_of(q, 1), 10);
    for (int64_t i = 0; i < 2 * IN_BLOCK; i++) {
        assert_int_equal(q2_count(q, i), i < IN_BLOCK + 2);
    }
    expect_structures_counted(q);
}

/* A run that leaves no room for a block of its own where it ends. */
Q2_TEST(run_fills_whole_blocks, SMALL)
{
    q2_alloc(q, IN_BLOCK - 4);
    alloc_at(q, IN_BLOCK, 3 * IN_BLOCK);
    for (int64_t i = 0; i < 4 * IN_BLOCK; i++) {
        assert_int_equal(q2_count(q, i), 1);
    }
    expect_structures_counted(q);
}

/* fact: qcow2 5.5/reftable-growth, 5.4/table-growth */
Q2_TEST(table_grows_at_the_end, SMALL)
{
    int64_t old = q->s->refcount_table_offset >> 9;

    q2_log_clear(q);
    alloc_at(q, IN_TABLE, 1);
    q2_expect_log(q, "new F new F header F");
    assert_int_equal(q->s->refcount_table_size, 128);
    assert_int_equal(block_of(q, 64), IN_TABLE + 1);
    assert_int_equal(q->s->refcount_table_offset, q2_cluster(q, IN_TABLE + 2));
    assert_int_equal(q2_peek_int(q, 48, 8), q2_cluster(q, IN_TABLE + 2));
    assert_int_equal(q2_peek_int(q, 56, 4), 2);
    assert_int_equal(q2_count(q, old), 0);
    expect_structures_counted(q);
}

static uint32_t journal_header_bytes;

static void note_header_write(struct disk_interposer *self, struct disk_req *req)
{
    if (req->op == SIM_OP_WRITE && req->offset < 512) {
        journal_header_bytes += (uint32_t)req->bytes;
    }
}

/* fact: qcow2 6/switch */
Q2_TEST(header_switches_in_one_write, SMALL)
{
    struct disk_interposer note = {.before = note_header_write};

    journal_header_bytes = 0;
    disk_add_interposer(q->disk, &note);
    alloc_at(q, IN_TABLE, 1);
    disk_remove_interposer(q->disk, &note);
    assert_int_equal(journal_header_bytes, 512); /* the sector that holds the twelve */
}

/* Q12: blocks behind the clusters that make the table grow, and those clusters, stay clear of the new table. */
static void grow_q2(struct q2 *q)
{
    int64_t per_block = (int64_t)1 << q->s->refcount_block_bits;
    int64_t total = 64 * per_block;

    for (int64_t done = 4; done < total + 2 * per_block;) {
        int64_t n = 1 + (done * 7) % MAX(per_block / 3, (int64_t)1);
        int64_t first = q2_alloc(q, n);
        done = MAX(done + 1, first + n);
    }
    assert_true(q->s->refcount_table_size > 64);
    expect_structures_counted(q);
}

static void table_grows_by_use(void **state)
{
    q2_width_spec = (struct q2_spec)SMALL;
    q2_width_body = grow_q2;
    for (q2_width_spec.refcount_order = 4; q2_width_spec.refcount_order <= 6; q2_width_spec.refcount_order++) {
        world_run(q2_one_width);
    }
}

Q2_TEST(area_for_preallocation, SMALL)
{
    int64_t end = q2_cluster(q, IN_TABLE + 1000);

    assert_int_equal(qcow2_refcount_area(q->bs, q2_cluster(q, 4), end), 0);
    for (int64_t i = 4; i < IN_TABLE + 1000; i++) {
        assert_int_equal(q2_count(q, i), 0);
    }
    q2_log_clear(q);
    assert_int_equal(qcow2_update_refcount(q->bs, q2_cluster(q, 4), end - q2_cluster(q, 4), 1, false, 0), 0);
    assert_null(strstr(q->log.text, "reftable"));
    expect_structures_counted(q);
}

Q2_TEST(table_too_large, SMALL)
{
    assert_int_equal(qcow2_refcount_area(q->bs, 0, INT64_C(1) << 38), -EFBIG);
    assert_int_equal(qcow2_refcount_area(q->bs, 0, INT64_MAX), -EFBIG);
    assert_int_equal(q2_alloc(q, 1), 4);
}

/* fact: qcow2 5.5/shrink */
Q2_TEST(idle_blocks_go, SMALL)
{
    q2_alloc(q, 3 * IN_BLOCK);
    assert_int_equal(q->s->max_refcount_table_index, 3);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    for (int64_t i = 4; i < 4 * IN_BLOCK; i++) {
        if (q2_count(q, i) == 1 && i != block_of(q, 1) && i != block_of(q, 2) && i != block_of(q, 3)) {
            q2_free(q, i, 1, QCOW2_DISCARD_ALWAYS);
        }
    }
    assert_int_equal(qcow2_shrink_reftable(q->bs), 0);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    assert_int_equal(q->s->max_refcount_table_index, 0);
    for (uint32_t i = 1; i < 4; i++) {
        assert_int_equal(q->s->refcount_table[i], 0);
        assert_int_equal(q2_peek_int(q, q->s->refcount_table_offset + i * 8, 8), 0);
    }
    assert_int_equal(q2_alloc(q, 1), 4);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    assert_int_equal(q2_leaks(q), 1); /* the one that nothing refers to */
}

/* --- failures ---------------------------------------------------------------------------------------------------
 */

/* Nobody knows whether the failed write is on the medium: both must be images, and neither may come to harm. */
static void fail_then_retry(struct q2 *q, const char *place, unsigned nth, int64_t cluster)
{
    q2_log_clear(q);
    q->log.fail = place;
    q->log.fail_nth = nth;
    assert_int_equal(qcow2_alloc_clusters_at(q->bs, q2_cluster(q, cluster), 2), -EIO);
    assert_int_equal(q->log.fail_nth, 0);
    q->log.fail = NULL;
    q2_judge(q, QCOW2_ALLOW_LEAKS);
    assert_int_equal(q2_count(q, cluster), 0);
    alloc_at(q, cluster, 2);
    expect_structures_counted(q);
}

Q2_TEST(failed_block, SMALL)
{
    q2_alloc(q, IN_BLOCK - 4);
    fail_then_retry(q, "new", 1, IN_BLOCK);
}

Q2_TEST(failed_entry, SMALL)
{
    q2_alloc(q, IN_BLOCK - 4);
    fail_then_retry(q, "reftable", 1, IN_BLOCK);
}

Q2_TEST(failed_flush_of_entry, SMALL)
{
    q2_alloc(q, IN_BLOCK - 4);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    fail_then_retry(q, "F", 2, IN_BLOCK);
}

/* The block is counted elsewhere: it stays out of use until the file has been told that it is no block. */
Q2_TEST(failed_entry_of_block_elsewhere, SMALL)
{
    q2_alloc(q, IN_BLOCK - 4);
    qcow2_free_new_clusters(q->bs, q2_cluster(q, 10), 512);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    q->log.fail = "reftable";
    q->log.fail_nth = 1;
    assert_int_equal(qcow2_alloc_clusters_at(q->bs, q2_cluster(q, IN_BLOCK), 2), -EIO);
    assert_int_equal(q2_count(q, 10), 1);
    alloc_at(q, IN_BLOCK, 2);
    expect_structures_counted(q);
    uint64_t counted = 0;
    for (int64_t i = 4; i < 2 * IN_BLOCK; i++) {
        counted += q2_count(q, i);
    }
    assert_int_equal(counted, IN_BLOCK - 5 + 2 + 1); /* the clusters, and one block: the first try leaked nothing */
}

Q2_TEST(failed_area, SMALL)
{
    fail_then_retry(q, "new", 1, IN_TABLE);
}

Q2_TEST(failed_table, SMALL)
{
    fail_then_retry(q, "new", 2, IN_TABLE);
}

Q2_TEST(failed_switch, SMALL)
{
    fail_then_retry(q, "header", 1, IN_TABLE);
}

Q2_TEST(failed_flush_of_switch, SMALL)
{
    fail_then_retry(q, "F", 3, IN_TABLE);
}

/* --- power
 * -------------------------------------------------------------------------------------------------------- */

/* fact: qcow2 6/opens, 6/only-leaks, 6/switch */
Q2_TEST(power_fails_at_every_write, SMALL)
{
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    q->log.judge = true;
    q2_alloc(q, IN_BLOCK - 4);
    alloc_at(q, IN_BLOCK, 3);
    alloc_at(q, IN_TABLE, 3);
    q2_free(q, 20, 10, QCOW2_DISCARD_REQUEST);
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
    assert_in_range(q->log.judged, 12, 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2-refblock/new/order", new_block),
        T("/qcow2-refblock/new/dirty-tables-first", new_block_comes_after_dirty_tables),
        T("/qcow2-refblock/new/off-the-run", block_keeps_off_the_run),
        T("/qcow2-refblock/new/counted-elsewhere", block_counted_elsewhere),
        T("/qcow2-refblock/new/whole-blocks", run_fills_whole_blocks),
        T("/qcow2-refblock/table/order", table_grows_at_the_end),
        T("/qcow2-refblock/table/one-write", header_switches_in_one_write),
        T("/qcow2-refblock/table/by-use", table_grows_by_use),
        T("/qcow2-refblock/table/preallocation", area_for_preallocation),
        T("/qcow2-refblock/table/too-large", table_too_large),
        T("/qcow2-refblock/shrink", idle_blocks_go),
        T("/qcow2-refblock/failed/block", failed_block),
        T("/qcow2-refblock/failed/entry", failed_entry),
        T("/qcow2-refblock/failed/entry-flush", failed_flush_of_entry),
        T("/qcow2-refblock/failed/entry-elsewhere", failed_entry_of_block_elsewhere),
        T("/qcow2-refblock/failed/area", failed_area),
        T("/qcow2-refblock/failed/table", failed_table),
        T("/qcow2-refblock/failed/switch", failed_switch),
        T("/qcow2-refblock/failed/switch-flush", failed_flush_of_switch),
        T("/qcow2-refblock/power", power_fails_at_every_write),
    };

    return cmocka_run_group_tests_name("qcow2_refblock", tests, NULL, NULL);
}
