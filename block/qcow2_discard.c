/*
 * Discards (5.2, 5.6): whole clusters are given back and read as zeros, in version 2 as unallocated ones. A cluster
 * goes down the way of qcow2_freed.c: nobody has it, and the host does not hear of it, before the entry that
 * dropped it is stable.
 */
#include "block/qcow2_write.h"

#include <errno.h>

#define BITMAP_ALL_ZEROES (0xffffffffULL << 32)

/* --- discard-no-unref ---------------------------------------------------------------------------------------- */

bool qcow2_keeps_clusters(const BlockDriverState *bs, QCow2ClusterType type, enum qcow2_discard_type why)
{
    const BDRVQcow2State *s = bs->opaque;

    return s->discard_no_unref && s->qcow_version >= 3 && why == QCOW2_DISCARD_REQUEST &&
           (type == QCOW2_CLUSTER_NORMAL || type == QCOW2_CLUSTER_ZERO_ALLOC);
}

void qcow2_discard_kept(BlockDriverState *bs, uint64_t entry, enum qcow2_discard_type why)
{
    BDRVQcow2State *s = bs->opaque;

    /* What a snapshot reads as well is no longer ours to throw away. */
    if (entry & QCOW_OFLAG_COPIED) {
        qcow2_host_discard(bs, s->data_file, (int64_t)(entry & L2E_OFFSET_MASK), s->cluster_size, why);
    }
}

/* --- entries ------------------------------------------------------------------------------------------------- */

struct discard {
    enum qcow2_discard_type why;
    bool full;
};

static bool is_allocated(QCow2ClusterType type)
{
    return type == QCOW2_CLUSTER_NORMAL || type == QCOW2_CLUSTER_ZERO_ALLOC || type == QCOW2_CLUSTER_COMPRESSED;
}

/* What the entry becomes; the same if there is nothing to do. */
static void discarded(const BlockDriverState *bs, const struct discard *how, uint64_t *entry, uint64_t *bitmap)
{
    const BDRVQcow2State *s = bs->opaque;
    QCow2ClusterType type = qcow2_get_cluster_type(bs, *entry);

    if (how->full) {
        *entry = *bitmap = 0;
        return;
    }
    /* Without anything below what is unallocated reads as zeros as it is. */
    if (!bs->backing && !is_allocated(type)) {
        return;
    }
    if (!qcow2_keeps_clusters(bs, type, how->why)) {
        *entry = 0;
    }
    if (has_subclusters(s)) {
        *bitmap = BITMAP_ALL_ZEROES;
    } else if (s->qcow_version >= 3) {
        *entry |= QCOW_OFLAG_ZERO;
    }
}

/* What the entries of a slice named before goes. */
static void drop(BlockDriverState *bs, const struct discard *how, const uint64_t *old, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        QCow2ClusterType type = qcow2_get_cluster_type(bs, old[i]);
        if (!is_allocated(type)) {
            continue;
        }
        if (!how->full && qcow2_keeps_clusters(bs, type, how->why)) {
            qcow2_discard_kept(bs, old[i], how->why);
        } else {
            qcow2_free_any_cluster(bs, old[i], how->why);
        }
    }
}

/* Up to `clusters` of one slice; their number, or -errno. */
static int64_t discard_in_slice(BlockDriverState *bs, const struct discard *how, int64_t offset, int64_t clusters)
{
    BDRVQcow2State *s = bs->opaque;
    unsigned index;
    uint8_t *slice;

    int ret = qcow2_get_cluster_table(bs, offset, &slice, &index);
    if (ret < 0) {
        return ret;
    }
    unsigned count = (unsigned)MIN(clusters, (int64_t)(s->l2_slice_size - index));
    uint64_t *old = qcow2_alloc(bs, count * sizeof(*old));
    for (unsigned i = 0; i < count; i++) {
        uint64_t entry = get_l2_entry(s, slice, index + i);
        uint64_t bitmap = get_l2_bitmap(s, slice, index + i);
        uint64_t was = entry;
        uint64_t bitmap_was = bitmap;
        discarded(bs, how, &entry, &bitmap);
        if (entry == was && bitmap == bitmap_was) {
            continue;
        }
        old[i] = was;
        set_l2_entry(s, slice, index + i, entry);
        if (has_subclusters(s)) {
            set_l2_bitmap(s, slice, index + i, bitmap);
        }
        qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
    }
    qcow2_cache_put(s->l2_table_cache, &slice);
    drop(bs, how, old, count);
    qcow2_free(bs, old, count * sizeof(*old));
    return count;
}

/* A shrink or a revert finds nothing to drop where there is no table; it need not make one. */
static bool no_table(const BDRVQcow2State *s, int64_t offset)
{
    uint64_t l1_index = offset_to_l1_index(s, (uint64_t)offset);

    return l1_index >= s->l1_size || (s->l1_table[l1_index] & L1E_OFFSET_MASK) == 0;
}

int qcow2_discard_claimed(BlockDriverState *bs, int64_t offset, int64_t bytes, enum qcow2_discard_type type,
                          bool full_discard)
{
    BDRVQcow2State *s = bs->opaque;
    const struct discard how = {.why = type, .full = full_discard};
    int64_t span = (int64_t)1 << (s->cluster_bits + s->l2_bits);
    int64_t clusters = size_to_clusters(s, bytes);

    SIM_ASSERT_EQ(offset_into_cluster(s, offset), 0);
    SIM_ASSERT(offset_into_cluster(s, bytes) == 0 || offset + bytes >= bs->total_bytes);
    while (clusters > 0) {
        int64_t done = MIN(clusters, (span - (offset & (span - 1))) >> s->cluster_bits);
        if (!full_discard || !no_table(s, offset)) {
            done = discard_in_slice(bs, &how, offset, clusters);
        }
        if (done < 0) {
            return (int)done;
        }
        SIM_ASSERT(done > 0 && done <= clusters);
        offset += done << s->cluster_bits;
        clusters -= done;
    }
    return 0;
}

int qcow2_cluster_discard(BlockDriverState *bs, int64_t offset, int64_t bytes, enum qcow2_discard_type type,
                          bool full_discard)
{
    QCowL2Meta claim;

    if (bytes == 0) {
        return 0;
    }
    qcow2_claim_begin(bs, &claim, offset, bytes);
    int ret = qcow2_usable(bs) ? qcow2_discard_claimed(bs, offset, bytes, type, full_discard) : -ENOMEDIUM;
    qcow2_claim_end(bs, &claim);
    return ret;
}

/* --- the guest's --------------------------------------------------------------------------------------------- */

/* Whole clusters; the last one of the disk may be a part of one. */
static bool whole_clusters(const BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    const BDRVQcow2State *s = bs->opaque;

    return offset_into_cluster(s, offset) == 0 &&
           (offset_into_cluster(s, bytes) == 0 || offset + bytes == bs->total_bytes);
}

int qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    if (!qcow2_usable(bs)) {
        return -ENOMEDIUM;
    }
    /* Version 2 cannot say "zeros": what is below would come back to light. */
    if ((s->qcow_version < 3 && bs->backing) || !whole_clusters(bs, offset, bytes)) {
        return -ENOTSUP;
    }
    co_mutex_lock(&s->lock);
    if (s->data_file_is_raw) {
        /* Entries and the raw file must go on telling the same. */
        ret = qcow2_subcluster_zeroize(bs, offset, bytes, BDRV_REQ_MAY_UNMAP);
    } else {
        ret = qcow2_cluster_discard(bs, offset, bytes, QCOW2_DISCARD_REQUEST, false);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}
