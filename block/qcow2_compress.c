/*
 * Compressed clusters (5.2, 5.4): several share a host cluster, each counted in every one that its sectors touch.
 *
 * A write is made in three steps: room for the data, counted; the data; the L2 entry, which waits for a flush of
 * both. The original changes the entry first, in its cache, where another request's flush can make it stable before
 * there is any data (edge 45). Here nobody sees the entry before the data is written. In between the lock is free,
 * so whoever gave the guest cluster a place meanwhile was first, and this write fails as it would have after that.
 */
#include <errno.h>

#include "block/qcow2_write.h"

/* --- reading --------------------------------------------------------------------------------------------- */

int qcow2_co_read_compressed(BlockDriverState *bs, uint64_t l2_entry, uint8_t *cluster)
{
    BDRVQcow2State *s = bs->opaque;
    struct payload data;
    int64_t coffset, csize;

    qcow2_parse_compressed_l2_entry(bs, l2_entry, &coffset, &csize);
    SIM_ASSERT(csize > 0 && csize <= 2 * s->cluster_size);
    uint8_t *stored = qcow2_alloc(bs, (size_t)csize);
    payload_init(bs->host->sim, &data);
    bdrv_co_debug_event(bs->file->bs, BLKDBG_READ_COMPRESSED);
    int ret = bdrv_co_preadv(bs->file, coffset, csize, &data, 0);
    if (ret == 0) {
        payload_read_bytes(&data, 0, stored, csize);
        ret = qcow2_decompress(s->compression_type, stored, (size_t)csize, cluster, (size_t)s->cluster_size);
        if (ret < 0) {
            SIM_MARK(bs->host->sim, qcow2_bad_stream);
        }
    }
    payload_clear(&data);
    qcow2_free(bs, stored, (size_t)csize);
    return ret;
}

/* --- writing --------------------------------------------------------------------------------------------- */

/* The L2 entry of a cluster that compressed data may be written to, pinned: -EIO when it has a place already. */
static int get_vacant_entry(BlockDriverState *bs, int64_t offset, uint8_t **slice, unsigned *l2_index)
{
    BDRVQcow2State *s = bs->opaque;

    if (!qcow2_usable(bs)) {
        return -ENOMEDIUM;
    }
    int ret = qcow2_get_cluster_table(bs, offset, slice, l2_index);
    if (ret < 0) {
        return ret;
    }
    QCow2ClusterType type = qcow2_get_cluster_type(bs, get_l2_entry(s, *slice, *l2_index));
    if (type == QCOW2_CLUSTER_UNALLOCATED || type == QCOW2_CLUSTER_ZERO_PLAIN) {
        return 0;
    }
    qcow2_cache_put(s->l2_table_cache, slice);
    return -EIO;
}

static uint64_t descriptor(const BDRVQcow2State *s, int64_t coffset, int64_t csize)
{
    int64_t more_sectors = (coffset + csize - 1) / SIM_SECTOR_BYTES - coffset / SIM_SECTOR_BYTES;

    SIM_ASSERT((uint64_t)coffset <= s->cluster_offset_mask);
    SIM_ASSERT((uint64_t)more_sectors <= s->csize_mask);
    return (uint64_t)coffset | (uint64_t)more_sectors << s->csize_shift | QCOW_OFLAG_COMPRESSED;
}

/* Room in the file that nothing names yet. */
static int64_t make_room(BlockDriverState *bs, int64_t csize)
{
    BDRVQcow2State *s = bs->opaque;

    int64_t coffset = qcow2_alloc_bytes(bs, csize);
    if (coffset < 0) {
        return coffset;
    }
    int ret = (uint64_t)coffset > s->cluster_offset_mask ? -EFBIG : 0;
    if (ret == 0) {
        ret = qcow2_pre_write_overlap_check(bs, 0, coffset, csize, true);
    }
    if (ret < 0) {
        qcow2_free_clusters(bs, coffset, csize, QCOW2_DISCARD_NEVER);
        return ret;
    }
    return coffset;
}

static int64_t begin_cluster(BlockDriverState *bs, QCowL2Meta *claim, int64_t offset, int64_t csize)
{
    BDRVQcow2State *s = bs->opaque;
    uint8_t *slice;
    unsigned l2_index;

    co_mutex_lock(&s->lock);
    qcow2_claim_begin(bs, claim, offset, s->cluster_size);
    int64_t ret = get_vacant_entry(bs, offset, &slice, &l2_index);
    if (ret == 0) {
        qcow2_cache_put(s->l2_table_cache, &slice);
        ret = make_room(bs, csize);
    }
    if (ret < 0) {
        qcow2_claim_end(bs, claim);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

/* The data is written: the entry follows, to be stable after the count and after the data. */
static int link_cluster(BlockDriverState *bs, int64_t offset, int64_t coffset, int64_t csize)
{
    BDRVQcow2State *s = bs->opaque;
    uint8_t *slice;
    unsigned l2_index;

    int ret = qcow2_cache_set_dependency(bs, s->l2_table_cache, s->refcount_block_cache);
    if (ret < 0) {
        return ret;
    }
    ret = get_vacant_entry(bs, offset, &slice, &l2_index);
    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(bs->file->bs, BLKDBG_L2_UPDATE_COMPRESSED);
    qcow2_cache_depends_on_flush(s->l2_table_cache);
    set_l2_entry(s, slice, l2_index, descriptor(s, coffset, csize));
    if (has_subclusters(s)) {
        set_l2_bitmap(s, slice, l2_index, 0);
    }
    qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
    qcow2_cache_put(s->l2_table_cache, &slice);
    return 0;
}

/* The room goes back if this fails; not at once, for others in its host cluster may have been freed meanwhile. */
static int end_cluster(BlockDriverState *bs, QCowL2Meta *claim, int64_t offset, int64_t coffset, int64_t csize,
                       int ret)
{
    BDRVQcow2State *s = bs->opaque;

    co_mutex_lock(&s->lock);
    if (ret == 0) {
        ret = link_cluster(bs, offset, coffset, csize);
    }
    if (ret < 0) {
        SIM_MARK(bs->host->sim, qcow2_compressed_undone);
        qcow2_free_clusters(bs, coffset, csize, QCOW2_DISCARD_NEVER);
    }
    qcow2_claim_end(bs, claim);
    co_mutex_unlock(&s->lock);
    return ret;
}

static int write_stream(BlockDriverState *bs, int64_t offset, const uint8_t *stream, int64_t csize)
{
    BDRVQcow2State *s = bs->opaque;
    struct payload data;
    QCowL2Meta claim;

    int64_t coffset = begin_cluster(bs, &claim, offset, csize);
    if (coffset < 0) {
        return (int)coffset;
    }
    payload_init(bs->host->sim, &data);
    payload_append_bytes(&data, stream, csize);
    bdrv_co_debug_event(bs->file->bs, BLKDBG_WRITE_COMPRESSED);
    int ret = bdrv_co_pwritev(s->data_file, coffset, csize, &data, 0);
    payload_clear(&data);
    return end_cluster(bs, &claim, offset, coffset, csize, ret);
}

/* One cluster, or what there is of the last one: the rest of it is zeros. */
static int write_cluster(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                         int64_t from)
{
    BDRVQcow2State *s = bs->opaque;
    size_t room = (size_t)s->cluster_size;
    uint8_t *cluster = qcow2_alloc(bs, room);
    uint8_t *stream = qcow2_alloc(bs, room);

    SIM_ASSERT(bytes > 0 && bytes <= s->cluster_size);
    payload_read_bytes(in, from, cluster, bytes);
    int64_t ret = qcow2_compress(s->compression_type, cluster, room, stream, room - 1);
    qcow2_free(bs, cluster, room);
    if (ret == -ENOMEM) {
        struct payload piece;
        payload_init(bs->host->sim, &piece);
        payload_slice(&piece, in, from, bytes);
        ret = qcow2_co_pwritev(bs, offset, bytes, &piece, 0);
        payload_clear(&piece);
    } else if (ret > 0) {
        ret = write_stream(bs, offset, stream, ret);
    }
    qcow2_free(bs, stream, room);
    return (int)ret;
}

int qcow2_co_pwritev_compressed(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in)
{
    BDRVQcow2State *s = bs->opaque;

    if (has_data_file(bs)) {
        return -ENOTSUP;
    }
    bool to_the_end = offset + bytes == bs->total_bytes;
    if (offset_into_cluster(s, offset) != 0 || (offset_into_cluster(s, bytes) != 0 && !to_the_end)) {
        return -EINVAL;
    }
    for (int64_t done = 0; done < bytes; done += s->cluster_size) {
        int ret = write_cluster(bs, offset + done, MIN(bytes - done, s->cluster_size), in, done);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}
