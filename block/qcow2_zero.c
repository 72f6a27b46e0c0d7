/*
 * Write-zeroes by flags (5.2): whole subclusters only, unless what a request leaves out of one reads as zeros
 * anyway. Everything else is -ENOTSUP, and the generic layer writes zeros as data.
 */
#include "block/qcow2_write.h"

#include <errno.h>

#define BITMAP_ALL_ZEROES (0xffffffffULL << 32)

/* --- entries ------------------------------------------------------------------------------------------------- */

/* What was there is no use any more: with unmap, and always what was compressed. */
static bool unmaps(QCow2ClusterType type, uint32_t flags)
{
    return type == QCOW2_CLUSTER_COMPRESSED ||
           ((flags & BDRV_REQ_MAY_UNMAP) && (type == QCOW2_CLUSTER_NORMAL || type == QCOW2_CLUSTER_ZERO_ALLOC));
}

/* Whole clusters of one slice; their number, or -errno. */
static int64_t zero_in_slice(BlockDriverState *bs, int64_t offset, int64_t clusters, uint32_t flags)
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
        uint64_t was = get_l2_entry(s, slice, index + i);
        QCow2ClusterType type = qcow2_get_cluster_type(bs, was);
        bool unmap = unmaps(type, flags);
        uint64_t entry = unmap && !qcow2_keeps_clusters(bs, type, QCOW2_DISCARD_REQUEST) ? 0 : was;
        entry |= has_subclusters(s) ? 0 : QCOW_OFLAG_ZERO;
        if (entry == was && get_l2_bitmap(s, slice, index + i) == (has_subclusters(s) ? BITMAP_ALL_ZEROES : 0)) {
            continue;
        }
        old[i] = unmap ? was : 0;
        set_l2_entry(s, slice, index + i, entry);
        if (has_subclusters(s)) {
            set_l2_bitmap(s, slice, index + i, BITMAP_ALL_ZEROES);
        }
        qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
    }
    qcow2_cache_put(s->l2_table_cache, &slice);
    for (unsigned i = 0; i < count; i++) {
        if (old[i] != 0 && qcow2_keeps_clusters(bs, qcow2_get_cluster_type(bs, old[i]), QCOW2_DISCARD_REQUEST)) {
            qcow2_discard_kept(bs, old[i], QCOW2_DISCARD_REQUEST);
        } else if (old[i] != 0) {
            qcow2_free_any_cluster(bs, old[i], QCOW2_DISCARD_REQUEST);
        }
    }
    qcow2_free(bs, old, count * sizeof(*old));
    return count;
}

/* A part of one cluster: only its bitmap changes. */
static int zero_subclusters(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    unsigned first = offset_to_sc_index(s, offset);
    unsigned last = offset_to_sc_index(s, offset + bytes - 1);
    uint64_t mask = ((2ULL << last) - 1) & ~((1ULL << first) - 1);
    unsigned index;
    uint8_t *slice;

    SIM_ASSERT(has_subclusters(s) && start_of_cluster(s, offset) == start_of_cluster(s, offset + bytes - 1));
    int ret = qcow2_get_cluster_table(bs, offset, &slice, &index);
    if (ret < 0) {
        return ret;
    }
    uint64_t bitmap = get_l2_bitmap(s, slice, index);
    uint64_t wanted = (bitmap & ~mask) | mask << 32;
    if (qcow2_get_cluster_type(bs, get_l2_entry(s, slice, index)) == QCOW2_CLUSTER_COMPRESSED) {
        ret = -ENOTSUP; /* as data: that makes a cluster of it */
    } else if (wanted != bitmap) {
        set_l2_bitmap(s, slice, index, wanted);
        qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
    }
    qcow2_cache_put(s->l2_table_cache, &slice);
    return ret;
}

/* Beginning and end of a request, with extended L2 parts of a cluster; the whole clusters between. */
static int zero_entries(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t end = offset + bytes;
    int64_t whole = MIN(end, ROUND_UP(offset, s->cluster_size));
    int64_t whole_end = end >= bs->total_bytes ? end : MAX(whole, start_of_cluster(s, end));
    int ret = 0;

    if (offset < whole) {
        ret = zero_subclusters(bs, offset, whole - offset);
    }
    int64_t clusters = size_to_clusters(s, whole_end - whole);
    while (clusters > 0 && ret == 0) {
        int64_t done = zero_in_slice(bs, whole, clusters, flags);
        ret = done < 0 ? (int)done : 0;
        SIM_ASSERT(done != 0 && done <= clusters);
        whole += done << s->cluster_bits;
        clusters -= done;
    }
    if (ret == 0 && whole_end < end) {
        ret = zero_subclusters(bs, whole_end, end - whole_end);
    }
    return ret;
}

/* A raw external data file is read without the entries: it must hold the zeros. The claim keeps the range. */
static int zero_raw_data(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t end = MIN(offset + bytes, bs->total_bytes);

    SIM_ASSERT_LT(offset, end);
    co_mutex_unlock(&s->lock);
    int ret = bdrv_co_pwrite_zeroes(s->data_file, offset, end - offset,
                                    flags & (BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK));
    co_mutex_lock(&s->lock);
    return ret == 0 && !qcow2_usable(bs) ? -ENOMEDIUM : ret;
}

int qcow2_zero_claimed(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    BDRVQcow2State *s = bs->opaque;

    SIM_ASSERT_EQ(offset & (s->subcluster_size - 1), 0);
    SIM_ASSERT(((offset + bytes) & (s->subcluster_size - 1)) == 0 || offset + bytes >= bs->total_bytes);
    if (s->qcow_version < 3) {
        /* No zero flag: what is unallocated reads as zeros, unless there is something below, or will be: the header
         * names what somebody has left out for the time being. */
        return bs->backing || bs->backing_filename
                   ? -ENOTSUP
                   : qcow2_discard_claimed(bs, offset, bytes, QCOW2_DISCARD_REQUEST, false);
    }
    int ret = s->data_file_is_raw ? zero_raw_data(bs, offset, bytes, flags) : 0;
    return ret < 0 ? ret : zero_entries(bs, offset, bytes, flags);
}

int qcow2_subcluster_zeroize(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    QCowL2Meta claim;

    if (bytes == 0) {
        return 0;
    }
    qcow2_claim_begin(bs, &claim, offset, bytes);
    int ret = qcow2_usable(bs) ? qcow2_zero_claimed(bs, offset, bytes, flags) : -ENOMEDIUM;
    qcow2_claim_end(bs, &claim);
    return ret;
}

/* --- the guest's --------------------------------------------------------------------------------------------- */

/* All of it: the first extent says nothing of the next, and "not here" is not "zero". */
static bool zero_below(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    while (bs->backing && bytes > 0) {
        int64_t num = 0;
        int ret = bdrv_co_block_status_above(bs->backing->bs, NULL, offset, bytes, &num, NULL, NULL);
        if (ret < 0 || (num == 0 && !(ret & BDRV_BLOCK_EOF))) {
            return false;
        }
        if (num == 0) {
            return true; /* past its end */
        }
        if (!(ret & BDRV_BLOCK_ZERO)) {
            return false;
        }
        offset += num;
        bytes -= num;
    }
    return true;
}

/* Under the lock: nothing in the range is data of this image; what is not zero here is zero below. */
static bool zero_here(BlockDriverState *bs, int64_t offset, int64_t bytes, bool below)
{
    while (bytes > 0) {
        QCow2SubclusterType type;
        int64_t num = bytes;
        int64_t host;
        if (qcow2_get_host_offset(bs, offset, &num, &host, &type) < 0) {
            return false;
        }
        bool zero = type == QCOW2_SUBCLUSTER_ZERO_PLAIN || type == QCOW2_SUBCLUSTER_ZERO_ALLOC;
        bool absent = type == QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN || type == QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC;
        if (!zero && !(absent && below)) {
            return false;
        }
        offset += num;
        bytes -= num;
    }
    return true;
}

int qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t end = offset + bytes;
    int64_t first = ROUND_DOWN(offset, s->subcluster_size);
    /* Beyond the end of the disk nobody is there to mind. */
    int64_t last = end == bs->total_bytes ? end : ROUND_UP(end, s->subcluster_size);
    QCowL2Meta claim;
    int ret;

    if (!qcow2_usable(bs)) {
        return -ENOMEDIUM;
    }
    last = MIN(last, MAX(bs->total_bytes, end));
    bool widened = first < offset || end < last;
    bool below = !widened || (zero_below(bs, first, offset - first) && zero_below(bs, end, last - end));
    co_mutex_lock(&s->lock);
    qcow2_claim_begin(bs, &claim, first, last - first);
    if (!qcow2_usable(bs)) {
        ret = -ENOMEDIUM;
    } else if (!zero_here(bs, first, offset - first, below) || !zero_here(bs, end, last - end, below)) {
        ret = -ENOTSUP;
    } else {
        if (widened) {
            SIM_MARK(bs->host->sim, qcow2_zero_widened);
        }
        ret = qcow2_zero_claimed(bs, first, last - first, flags);
    }
    qcow2_claim_end(bs, &claim);
    co_mutex_unlock(&s->lock);
    return ret;
}
