/* Protects who may have a cluster of a qcow2 image, and when: first fit, freed clusters, host discards, compressed
 * data. */
#include "tests/block/qcow2_meta.h"

#define SMALL \
    { \
        .cluster_bits = 9, .refcount_order = 4, .size = MiB \
    }
#define FIRST 4 /* free cluster of a new image */

static void flush(struct q2 *q)
{
    assert_int_equal(qcow2_flush_caches(q->bs), 0);
}

/* The file is long enough for discards: what lies beyond its end needs none. */
static void extend(struct q2 *q)
{
    const uint8_t data[512] = {1};

    assert_int_equal(qcow2_pwrite(q->bs, q2_cluster(q, 100), sizeof(data), data), 0);
}

/* fact: qcow2 5.4/first-fit */
Q2_TEST(first_fit, SMALL)
{
    assert_int_equal(q2_alloc(q, 3), FIRST);
    assert_int_equal(q2_alloc(q, 2), FIRST + 3);
    q2_free(q, FIRST + 1, 1, QCOW2_DISCARD_NEVER);
    flush(q);
    assert_int_equal(q2_alloc(q, 2), FIRST + 5); /* the gap is too small, the search has passed it */
    assert_int_equal(q2_alloc(q, 1), FIRST + 7);
    q2_free(q, FIRST, 1, QCOW2_DISCARD_NEVER);
    flush(q);
    assert_int_equal(q2_alloc(q, 2), FIRST); /* freeing below takes the search back, and the gaps have met */
}

/* fact: qcow2 5.4/contiguous */
Q2_TEST(runs_are_contiguous, SMALL)
{
    for (int64_t n = 1; n < 40; n += 3) {
        int64_t first = q2_alloc(q, n);
        for (int64_t i = 0; i < n; i++) {
            assert_int_equal(q2_count(q, first + i), 1);
        }
    }
    assert_int_equal(qcow2_alloc_clusters(q->bs, 1), q2_cluster(q, q2_alloc(q, 1) + 1)); /* a byte is a cluster */
}

Q2_TEST(at_a_place, SMALL)
{
    int64_t taken = q2_alloc(q, 1);

    assert_int_equal(qcow2_alloc_clusters_at(q->bs, q2_cluster(q, taken), 3), 0);
    assert_int_equal(qcow2_alloc_clusters_at(q->bs, q2_cluster(q, taken + 5), 1), 1);
    assert_int_equal(qcow2_alloc_clusters_at(q->bs, q2_cluster(q, taken + 1), 10), 4);
    assert_int_equal(qcow2_alloc_clusters_at(q->bs, q2_cluster(q, taken + 9), 0), 0);
    assert_int_equal(qcow2_alloc_clusters_at(q->bs, 0, 1), 0);
    assert_int_equal(qcow2_alloc_clusters_at(q->bs, INT64_C(1) << 57, 1), 0);
    assert_int_equal(q2_alloc(q, 1), taken + 6);
}

Q2_TEST(too_large, SMALL)
{
    assert_int_equal(qcow2_alloc_clusters(q->bs, INT64_MAX), -EFBIG);
    assert_int_equal(qcow2_alloc_clusters(q->bs, INT64_C(1) << 40), -EFBIG);
    assert_int_equal(q2_alloc(q, 1), FIRST);
}

static void expect_corrupt(struct q2 *q)
{
    assert_false(qcow2_usable(q->bs));
    assert_int_equal(q2_peek_int(q, 72, 8), QCOW2_INCOMPAT_CORRUPT);
}

/* The counts on the medium say that the header is free. */
static void header_is_free(struct q2 *q)
{
    q2_free(q, 0, 1, QCOW2_DISCARD_NEVER);
    flush(q);
}

#define CORRUPT \
    { \
        .cluster_bits = 9, .refcount_order = 4, .size = MiB, .as_it_is = true \
    }

/* fact: qcow2 5.4/offset-zero */
Q2_TEST(offset_zero, CORRUPT)
{
    header_is_free(q);
    assert_int_equal(qcow2_alloc_clusters(q->bs, 512), -EIO);
    expect_corrupt(q);
}

/* fact: qcow2 5.4/offset-zero */
Q2_TEST(offset_zero_compressed, CORRUPT)
{
    header_is_free(q);
    assert_int_equal(qcow2_alloc_bytes(q->bs, 100), -EIO);
    expect_corrupt(q);
}

/* fact: qcow2 5.4/offset-zero */
Q2_TEST(offset_zero_refblock, CORRUPT)
{
    q2_alloc(q, 252);
    header_is_free(q);
    assert_int_equal(qcow2_alloc_clusters_at(q->bs, q2_cluster(q, 256), 1), -EIO);
    expect_corrupt(q);
}

/* --- freed clusters ------------------------------------------------------------------------------------------- */

/* fact: qcow2 6/early-reuse, edge/44, 5.6/classes */
Q2_TEST(freed_is_nobodys_until_stable, SMALL)
{
    int64_t a = q2_alloc(q, 4);

    extend(q);
    flush(q);
    q2_log_clear(q);
    q2_free(q, a, 2, QCOW2_DISCARD_REQUEST);
    assert_int_equal(q2_count(q, a), 0);
    assert_true(qcow2_is_freed(q->s, (uint64_t)a));
    assert_int_equal(qcow2_alloc_clusters_at(q->bs, q2_cluster(q, a), 2), 0);
    assert_int_equal(q2_alloc(q, 1), a + 4);
    assert_null(strstr(q->log.text, "discard"));
    flush(q);
    assert_false(qcow2_is_freed(q->s, (uint64_t)a));
    assert_non_null(strstr(q->log.text, "discard:4"));
    assert_int_equal(q2_alloc(q, 2), a);
}

/* Q04: whoever gets the cluster gets it after the discard. */
Q2_TEST(discard_comes_before_the_next_owner, SMALL)
{
    int64_t a = q2_alloc(q, 1);
    uint8_t data[512];

    extend(q);
    q2_free(q, a, 1, QCOW2_DISCARD_REQUEST);
    flush(q);
    assert_int_equal(q2_alloc(q, 1), a);
    memset(data, 0x77, sizeof(data));
    assert_int_equal(qcow2_pwrite(q->bs, q2_cluster(q, a), 512, data), 0);
    q2_log_clear(q);
    flush(q);
    flush(q);
    assert_null(strstr(q->log.text, "discard"));
    assert_int_equal(q2_peek_int(q, q2_cluster(q, a), 1), 0x77);
}

/* fact: qcow2 6/early-reuse */
Q2_TEST(failed_flush_keeps_them, SMALL)
{
    int64_t a = q2_alloc(q, 1);

    flush(q);
    q2_free(q, a, 1, QCOW2_DISCARD_REQUEST);
    q->log.fail_all = true;
    assert_int_equal(qcow2_flush_caches(q->bs), -EIO);
    assert_true(qcow2_is_freed(q->s, (uint64_t)a));
    q->log.fail_all = false;
    assert_int_equal(qcow2_cache_flush(q->bs, q->s->refcount_block_cache), 0); /* half of it is not enough */
    assert_true(qcow2_is_freed(q->s, (uint64_t)a));
    flush(q);
    assert_false(qcow2_is_freed(q->s, (uint64_t)a));
}

/* Somebody reads what was freed: not discarded, not given away, before the end of that. */
Q2_TEST(data_in_use_is_kept, SMALL)
{
    int64_t a = q2_alloc(q, 3);
    Qcow2DataUse use;

    extend(q);
    qcow2_data_begin(q->s, &use, q2_cluster(q, a) + 100, 1);
    q2_free(q, a, 1, QCOW2_DISCARD_REQUEST);
    q2_free(q, a + 2, 1, QCOW2_DISCARD_REQUEST);
    q2_log_clear(q);
    flush(q);
    assert_true(qcow2_is_freed(q->s, (uint64_t)a));
    assert_false(qcow2_is_freed(q->s, (uint64_t)a + 2));
    assert_null(strstr(q->log.text, "discard:4"));
    assert_int_equal(q->s->freed_bytes, 512);
    qcow2_data_end(&use);
    flush(q);
    assert_false(qcow2_is_freed(q->s, (uint64_t)a));
    assert_non_null(strstr(q->log.text, "discard:4"));
    assert_int_equal(q2_alloc(q, 1), a);
}

/* fact: qcow2 5.6/classes */
Q2_TEST(discards_by_class, SMALL)
{
    static const struct {
        enum qcow2_discard_type type;
        bool on;
    } cases[] = {
        {QCOW2_DISCARD_NEVER, false},   {QCOW2_DISCARD_ALWAYS, true}, {QCOW2_DISCARD_REQUEST, true},
        {QCOW2_DISCARD_SNAPSHOT, true}, {QCOW2_DISCARD_OTHER, false},
    };

    extend(q);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int64_t a = q2_alloc(q, 1);
        flush(q);
        q2_free(q, a, 1, cases[i].type);
        q2_log_clear(q);
        flush(q);
        assert_int_equal(strstr(q->log.text, "discard") != NULL, cases[i].on);
    }
}

/* What touches goes to the host as one request. */
Q2_TEST(discards_are_joined, SMALL)
{
    static const int8_t order[] = {4, 0, 7, 2, 1, 5, 3, 6};
    int64_t a = q2_alloc(q, 10);

    extend(q);
    flush(q);
    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        q2_free(q, a + order[i], 1, order[i] % 2 ? QCOW2_DISCARD_REQUEST : QCOW2_DISCARD_SNAPSHOT);
        assert_int_equal(q->s->freed_bytes, 512 * (int64_t)(i + 1));
    }
    for (int i = 0; i < 10; i++) {
        assert_int_equal(qcow2_is_freed(q->s, (uint64_t)(a + i)), i < 8);
    }
    q2_log_clear(q);
    flush(q);
    q2_expect_log(q, "refblock F discard:4");
}

Q2_TEST(never_used_is_free_at_once, SMALL)
{
    int64_t a = q2_alloc(q, 2);

    qcow2_free_new_clusters(q->bs, q2_cluster(q, a), 1024);
    assert_int_equal(q->s->freed_bytes, 0);
    assert_int_equal(q2_alloc(q, 2), a);
}

Q2_TEST(counted_again_before_it_was_free, SMALL)
{
    int64_t a = q2_alloc(q, 5);

    extend(q);
    flush(q);
    q2_free(q, a, 5, QCOW2_DISCARD_REQUEST);
    for (int64_t i = 1; i < 5; i += 2) {
        assert_int_equal(qcow2_update_cluster_refcount(q->bs, (uint64_t)(a + i), 1, false, 0), 0);
    }
    q2_log_clear(q);
    flush(q);
    q2_expect_log(q, "refblock F discard:4 discard:6 discard:8");
    assert_int_equal(q2_count(q, a + 1), 1);
    assert_int_equal(q->s->freed_bytes, 0);
}

/* What waits is bounded: then an allocation flushes, and the file does not grow for ever. */
Q2_TEST(allocation_flushes_when_much_waits, {.cluster_bits = 16, .refcount_order = 4, .size = 64 * MiB})
{
    int64_t highest = 0;

    for (int i = 0; i < 1000; i++) {
        int64_t a = q2_alloc(q, 4);
        highest = MAX(highest, a);
        q2_free(q, a, 4, QCOW2_DISCARD_NEVER);
    }
    assert_in_range(highest, 16, 64);
}

/* --- compressed data
 * ---------------------------------------------------------------------------------------------- */

static int64_t bytes(struct q2 *q, int64_t n)
{
    int64_t offset = qcow2_alloc_bytes(q->bs, n);

    assert_true(offset > 0);
    return offset;
}

/* fact: qcow2 5.4/compressed-packing, edge/30 */
Q2_TEST(compressed_is_packed, SMALL)
{
    int64_t a = bytes(q, 200);
    int64_t cluster = a >> 9;

    assert_int_equal(offset_into_cluster(q->s, a), 0);
    assert_int_equal(bytes(q, 200), a + 200);
    assert_int_equal(bytes(q, 200), a + 400); /* goes on in the next cluster, which was free */
    assert_int_equal(q2_count(q, cluster), 3);
    assert_int_equal(q2_count(q, cluster + 1), 1);
    q2_alloc(q, 1);
    assert_int_equal(bytes(q, 400), a + 600);
    assert_int_equal(q2_count(q, cluster + 1), 2);
    int64_t next = bytes(q, 100); /* the next cluster is taken: a new one, from its beginning */
    assert_int_equal(next, q2_cluster(q, cluster + 3));
    assert_int_equal(bytes(q, 412), next + 100); /* to the end */
    assert_int_equal(bytes(q, 512), q2_cluster(q, cluster + 4));
    assert_int_equal(bytes(q, 1), q2_cluster(q, cluster + 5));
}

/* fact: qcow2 5.3/overflow, 5.4/compressed-packing */
Q2_TEST(full_counts_do_not_share, {.cluster_bits = 9, .refcount_order = 1, .size = MiB})
{
    int64_t a = bytes(q, 10);

    bytes(q, 10);
    bytes(q, 10);
    assert_int_equal(q2_count(q, a >> 9), 3);
    assert_int_equal(bytes(q, 10), a + 512);
}

/* fact: qcow2 5.3/overflow */
Q2_TEST(one_bit_never_shares, {.cluster_bits = 9, .refcount_order = 0, .size = MiB})
{
    int64_t a = bytes(q, 10);

    assert_int_equal(bytes(q, 10), a + 512);
    assert_int_equal(bytes(q, 10), a + 1024);
}

/* The cluster that the next data would go to is freed, and belongs to somebody else. */
Q2_TEST(not_behind_what_is_gone, SMALL)
{
    int64_t a = bytes(q, 10);

    q2_free(q, a >> 9, 1, QCOW2_DISCARD_NEVER);
    flush(q);
    assert_int_equal(q2_cluster(q, q2_alloc(q, 1)), a);
    assert_int_equal(bytes(q, 10), a + 512);
}

/* A stream that was never linked is given back while an older one of the same cluster is only just dropped. */
Q2_TEST(shared_cluster_waits_too, SMALL)
{
    int64_t a = bytes(q, 10);
    int64_t b = bytes(q, 10);

    flush(q);
    qcow2_free_clusters(q->bs, a, 10, QCOW2_DISCARD_NEVER);
    qcow2_free_new_clusters(q->bs, b, 10);
    assert_int_equal(q2_count(q, a >> 9), 0);
    assert_true(qcow2_is_freed(q->s, (uint64_t)a >> 9));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2-alloc/first-fit", first_fit),
        T("/qcow2-alloc/contiguous", runs_are_contiguous),
        T("/qcow2-alloc/at-a-place", at_a_place),
        T("/qcow2-alloc/too-large", too_large),
        T("/qcow2-alloc/offset-zero/clusters", offset_zero),
        T("/qcow2-alloc/offset-zero/compressed", offset_zero_compressed),
        T("/qcow2-alloc/offset-zero/refblock", offset_zero_refblock),
        T("/qcow2-alloc/freed/until-stable", freed_is_nobodys_until_stable),
        T("/qcow2-alloc/freed/discard-first", discard_comes_before_the_next_owner),
        T("/qcow2-alloc/freed/failed-flush", failed_flush_keeps_them),
        T("/qcow2-alloc/freed/in-use", data_in_use_is_kept),
        T("/qcow2-alloc/freed/classes", discards_by_class),
        T("/qcow2-alloc/freed/joined", discards_are_joined),
        T("/qcow2-alloc/freed/never-used", never_used_is_free_at_once),
        T("/qcow2-alloc/freed/counted-again", counted_again_before_it_was_free),
        T("/qcow2-alloc/freed/bounded", allocation_flushes_when_much_waits),
        T("/qcow2-alloc/compressed/packed", compressed_is_packed),
        T("/qcow2-alloc/compressed/full-counts", full_counts_do_not_share),
        T("/qcow2-alloc/compressed/one-bit", one_bit_never_shares),
        T("/qcow2-alloc/compressed/gone", not_behind_what_is_gone),
        T("/qcow2-alloc/compressed/shared", shared_cluster_waits_too),
    };

    return cmocka_run_group_tests_name("qcow2_alloc", tests, NULL, NULL);
}
