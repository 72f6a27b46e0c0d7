/*
 * Preallocation of qcow2 (reference/bitmaps-qcow2.md 5.9): clusters get a place in the file before anybody writes
 * to them. What the place holds is zero: it lies beyond the end of the file, or zeros are written there, because
 * the next guest read shows it.
 */
#include <errno.h>

#include "block/qcow2_open.h"

/* [offset, +bytes) of the file that holds data, as mode says; zeros. */
static int make_space(BlockDriverState *bs, int64_t offset, int64_t bytes, enum bdrv_prealloc mode, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    enum bdrv_prealloc file_mode = mode == PREALLOC_METADATA ? PREALLOC_OFF : mode;
    int64_t length = bdrv_co_getlength(s->data_file->bs);
    int64_t end = offset + bytes;
    int ret = length < 0 ? (int)length : 0;

    if (ret == 0 && offset < length) {
        ret = bdrv_co_pwrite_zeroes(s->data_file, offset, MIN(end, length) - offset,
                                    mode == PREALLOC_METADATA ? BDRV_REQ_MAY_UNMAP : 0);
    }
    if (ret == 0 && end > length) {
        return bdrv_co_truncate(s->data_file, end, false, file_mode, 0, errp);
    }
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not preallocate data");
    }
    return ret;
}

static bool has_place(const BDRVQcow2State *s, const uint8_t *slice, unsigned index)
{
    uint64_t entry = get_l2_entry(s, slice, index);

    return (entry & (L2E_OFFSET_MASK | QCOW_OFLAG_COMPRESSED)) != 0 || (entry & QCOW_OFLAG_COPIED);
}

/* Clusters from index on that have no place yet, at most most. */
static unsigned count_missing(const BDRVQcow2State *s, const uint8_t *slice, unsigned index, unsigned most)
{
    unsigned count = 0;

    while (count < most && !has_place(s, slice, index + count)) {
        count++;
    }
    return count;
}

static void set_places(BlockDriverState *bs, uint8_t *slice, unsigned index, unsigned count, int64_t host)
{
    BDRVQcow2State *s = bs->opaque;

    for (unsigned i = 0; i < count; i++) {
        uint64_t zero = has_subclusters(s) ? 0 : get_l2_entry(s, slice, index + i) & QCOW_OFLAG_ZERO;
        set_l2_entry(s, slice, index + i,
                     (uint64_t)(host + ((int64_t)i << s->cluster_bits)) | QCOW_OFLAG_COPIED | zero);
    }
    qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
}

/* Counts, and zeros that were written, are stable before the entries. */
static int order(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = 0;

    if (!has_data_file(bs)) {
        ret = s->use_lazy_refcounts ? qcow2_mark_dirty(bs)
                                    : qcow2_cache_set_dependency(bs, s->l2_table_cache, s->refcount_block_cache);
    }
    qcow2_cache_depends_on_flush(s->l2_table_cache);
    return ret;
}

/* A run of clusters of one slice: at offset, none of which has a place. The disk ends at end. */
static int give_places(BlockDriverState *bs, int64_t offset, unsigned count, int64_t end, enum bdrv_prealloc mode,
                       Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t bytes = (int64_t)count << s->cluster_bits;
    uint8_t *slice;
    unsigned index;
    int64_t host = has_data_file(bs) ? offset : qcow2_alloc_clusters(bs, bytes);

    if (host < 0) {
        error_setg_errno(errp, (int)host, "Could not allocate clusters");
        return (int)host;
    }
    Error *local = NULL;
    /* A data file may be the disk by itself: then it must not be longer. */
    int ret = make_space(bs, host, has_data_file(bs) ? MIN(bytes, end - offset) : bytes, mode, &local);
    if (ret == 0) {
        ret = order(bs);
    }
    if (ret == 0) {
        ret = qcow2_get_cluster_table(bs, offset, &slice, &index);
    }
    if (ret < 0) {
        if (!has_data_file(bs)) {
            qcow2_free_new_clusters(bs, host, bytes);
        }
        if (!local) {
            error_setg_errno(&local, ret, "Could not preallocate metadata");
        }
        error_propagate(errp, local);
        return ret;
    }
    set_places(bs, slice, index, count, host);
    qcow2_cache_put(s->l2_table_cache, &slice);
    return 0;
}

/* The part of one slice that begins at offset: how far it got in *done. */
static int preallocate_slice(BlockDriverState *bs, int64_t offset, int64_t end, enum bdrv_prealloc mode,
                             int64_t *done, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint8_t *slice;
    unsigned index;

    int ret = qcow2_get_cluster_table(bs, offset, &slice, &index); /* before the data: its table stands before it */
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not preallocate metadata");
        return ret;
    }
    SIM_ASSERT_LT(index, s->l2_slice_size);
    unsigned most = (unsigned)MIN(size_to_clusters(s, end - offset), (int64_t)(s->l2_slice_size - index));
    unsigned count = count_missing(s, slice, index, most);
    qcow2_cache_put(s->l2_table_cache, &slice);
    *done = (int64_t)MAX(count, 1u) << s->cluster_bits;
    return count == 0 ? 0 : give_places(bs, offset, count, end, mode, errp);
}

int qcow2_preallocate(BlockDriverState *bs, int64_t offset, int64_t end, enum bdrv_prealloc mode, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t done;

    SIM_ASSERT(mode != PREALLOC_OFF);
    SIM_ASSERT_EQ(offset_into_cluster(s, offset), 0);
    for (; offset < end; offset += done) {
        int ret = preallocate_slice(bs, offset, end, mode, &done, errp);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}
