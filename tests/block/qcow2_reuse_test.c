/* Protects what a guest has flushed from clusters that are handed on too early: after a power loss the old tables
 * may be what the image has, and must not show what another range wrote later. */
#include "tests/block/qcow2_meta.h"

#define IMAGE \
    { \
        .cluster_bits = 9, .refcount_order = 4, .size = MiB \
    }

/* Here no dependency between the caches stands in for the wait: else the next allocation makes the dropped entry
 * stable, counts having to be written in the other order. */
#define LAZY \
    { \
        .cluster_bits = 9, .refcount_order = 4, .size = MiB, .lazy = true \
    }

static BlockBackend *blk;

static void attach(struct q2 *q)
{
    co_mutex_unlock(&q->s->lock);
    blk = blk_new(q->w->host, BLK_PERM_WRITE | BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL);
    assert_int_equal(blk_insert_bs(blk, q->bs, NULL), 0);
}

static void detach(struct q2 *q)
{
    blk_unref(blk);
    co_mutex_lock(&q->s->lock);
}

static void fill(struct q2 *q, int64_t cluster, uint8_t byte, uint32_t flags)
{
    struct payload p;

    payload_init(q->w->sim, &p);
    payload_append_fill(&p, byte, 512);
    assert_int_equal(blk_co_pwritev(blk, cluster * 512, 512, &p, flags), 0);
    payload_clear(&p);
}

/* What an image of the medium as it is now, with nothing of what the node still holds in memory, shows there: one
 * byte for all, -1 unreadable, -2 mixed. */
static int after_power_loss(struct q2 *q, int64_t cluster)
{
    struct qcow2_image *image = qcow2_image_read(qcow2_source_of_disk(q->disk));
    uint8_t bytes[512];
    struct payload p;

    payload_init(q->w->sim, &p);
    bool readable = qcow2_image_view(image, QCOW2_ACTIVE, cluster * 512, 512, NULL, NULL, &p);
    payload_read_bytes(&p, 0, bytes, sizeof(bytes));
    payload_clear(&p);
    qcow2_image_free(image);
    for (size_t i = 1; i < sizeof(bytes); i++) {
        if (bytes[i] != bytes[0]) {
            return readable ? -2 : -1;
        }
    }
    return readable ? bytes[0] : -1;
}

/* As the original does it: what has been freed is anybody's, and gone from the host, at once. */
static void hand_on(struct q2 *q)
{
    co_mutex_lock(&q->s->lock);
    qcow2_freed_stable(q->bs);
    co_mutex_unlock(&q->s->lock);
}

enum drop { BY_DISCARD, BY_UNMAP, BY_OVERWRITE };

/* Cluster 0 is written and flushed, then dropped; then something else is written. */
static int scene(struct q2 *q, bool compressed, enum drop how, bool early)
{
    attach(q);
    fill(q, 0, 0xaa, compressed ? BDRV_REQ_WRITE_COMPRESSED : 0);
    fill(q, 1, 0x11, 0); /* the L2 table is there */
    assert_int_equal(blk_co_flush(blk), 0);
    if (how == BY_DISCARD) {
        assert_int_equal(blk_co_pdiscard(blk, 0, 512), 0);
    } else if (how == BY_UNMAP) {
        assert_int_equal(blk_co_pwrite_zeroes(blk, 0, 512, BDRV_REQ_MAY_UNMAP), 0);
    } else {
        fill(q, 0, 0xcc, 0);
    }
    if (early) {
        hand_on(q);
    }
    fill(q, 40, 0xbb, 0);
    int seen = after_power_loss(q, 0);
    assert_int_equal(blk_co_flush(blk), 0);
    assert_int_equal(after_power_loss(q, 0), how == BY_OVERWRITE ? 0xcc : 0);
    assert_int_equal(after_power_loss(q, 40), 0xbb);
    detach(q);
    return seen;
}

/* fact: qcow2 6/early-reuse, 6/never-foreign, edge/44 */
Q2_TEST(discarded_range_shows_its_own_past, LAZY)
{
    assert_int_equal(scene(q, false, BY_DISCARD, false), 0xaa);
}

/* fact: qcow2 6/early-reuse */
Q2_TEST(zeroed_range_shows_its_own_past, LAZY)
{
    assert_int_equal(scene(q, false, BY_UNMAP, false), 0xaa);
}

/* fact: qcow2 6/early-reuse, 6/flushed */
Q2_TEST(flushed_compressed_data_stays_readable, LAZY)
{
    assert_int_equal(scene(q, true, BY_OVERWRITE, false), 0xaa);
}

/* fact: qcow2 6/never-foreign */
Q2_TEST(nothing_foreign_with_exact_counts, IMAGE)
{
    int seen = scene(q, false, BY_DISCARD, false);

    assert_true(seen == 0xaa || seen == 0);
}

/* What the original's way loses: another range's data in a discarded one. */
Q2_TEST(early_reuse_shows_foreign_data, LAZY)
{
    assert_int_equal(scene(q, false, BY_DISCARD, true), 0xbb);
}

/* And data that had been flushed cannot be read any more. */
Q2_TEST(early_reuse_loses_compressed_data, LAZY)
{
    assert_int_not_equal(scene(q, true, BY_OVERWRITE, true), 0xaa);
}

/* fact: qcow2 5.5/discard, 5.6/classes */
Q2_TEST(host_discard_waits_for_the_flush, IMAGE)
{
    attach(q);
    fill(q, 0, 0xaa, 0);
    fill(q, 1, 0x11, 0);
    assert_int_equal(blk_co_flush(blk), 0);
    q2_log_clear(q);
    assert_int_equal(blk_co_pdiscard(blk, 0, 512), 0);
    q2_expect_log(q, "");
    assert_int_equal(blk_co_flush(blk), 0);
    assert_memory_equal(q->log.text, "l2 F refblock F discard:", 24);
    detach(q);
}

/* Without a flush of the guest's the space that waits is bounded all the same. */
Q2_TEST(file_does_not_grow_for_ever, {.cluster_bits = 16, .refcount_order = 4, .size = 8 * MiB})
{
    struct payload p;

    attach(q);
    payload_init(q->w->sim, &p);
    payload_append_fill(&p, 0x5a, MiB);
    for (int i = 0; i < 60; i++) {
        assert_int_equal(blk_co_pwritev(blk, 0, MiB, &p, 0), 0);
        assert_int_equal(blk_co_pdiscard(blk, 0, MiB), 0);
    }
    payload_clear(&p);
    assert_in_range(disk_length(q->disk), MiB, 6 * MiB);
    detach(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/qcow2-reuse/discard", discarded_range_shows_its_own_past),
        T("/qcow2-reuse/unmap", zeroed_range_shows_its_own_past),
        T("/qcow2-reuse/compressed", flushed_compressed_data_stays_readable),
        T("/qcow2-reuse/exact-counts", nothing_foreign_with_exact_counts),
        T("/qcow2-reuse/original/discard", early_reuse_shows_foreign_data),
        T("/qcow2-reuse/original/compressed", early_reuse_loses_compressed_data),
        T("/qcow2-reuse/host-discard", host_discard_waits_for_the_flush),
        T("/qcow2-reuse/bounded", file_does_not_grow_for_ever),
    };

    return cmocka_run_group_tests_name("qcow2_reuse", tests, NULL, NULL);
}
