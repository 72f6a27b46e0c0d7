/*
 * qcow2: finding clusters and giving them back (5.4).
 *
 * First fit upward from free_cluster_index. A run is chosen first and counted afterwards; blocks that counting it
 * needs are placed outside of it (Q03). What was freed and is not stable yet is not free (qcow2_freed.c); when too
 * much of that has gathered, an allocation begins with a flush. Offset 0 holds the header: an image whose counts
 * say that it is free is corrupt.
 */
#include <errno.h>

#include "block/qcow2.h"

#define MAX_HOST_OFFSET (INT64_C(1) << 56)

/* Nothing is lost if this fails: the file grows instead. */
static void make_freed_usable(BlockDriverState *bs)
{
    if (qcow2_freed_too_many(bs->opaque)) {
        SIM_MARK(bs->host->sim, qcow2_freed_flushed);
        (void)qcow2_flush_caches(bs);
    }
}

static int is_free(BlockDriverState *bs, uint64_t cluster_index, bool *result)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t refcount;

    int ret = qcow2_get_refcount(bs, cluster_index, &refcount);
    *result = ret == 0 && refcount == 0 && !qcow2_is_freed(s, cluster_index);
    return ret;
}

/* First cluster of a run of so many free ones, or -errno; the hint moves behind it. */
static int64_t find_run(BlockDriverState *bs, uint64_t clusters)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t limit = (uint64_t)MAX_HOST_OFFSET >> s->cluster_bits;
    uint64_t run = 0;

    for (uint64_t i = s->free_cluster_index; i < limit; i++) {
        bool is;
        int ret = is_free(bs, i, &is);
        if (ret < 0) {
            return ret;
        }
        run = is ? run + 1 : 0;
        if (run == clusters) {
            s->free_cluster_index = i + 1;
            return (int64_t)(i + 1 - clusters);
        }
    }
    return -EFBIG;
}

static int64_t alloc_run(BlockDriverState *bs, uint64_t clusters, const char *what)
{
    BDRVQcow2State *s = bs->opaque;

    int64_t first = find_run(bs, clusters);
    if (first < 0) {
        return first;
    }
    if (first == 0) {
        qcow2_signal_corruption(bs, true, -1, -1, "Preventing invalid allocation of %s at offset 0", what);
        return -EIO;
    }
    int64_t offset = first << s->cluster_bits;
    int ret =
        qcow2_update_refcount(bs, offset, (int64_t)(clusters << s->cluster_bits), 1, false, QCOW2_DISCARD_NEVER);
    if (ret < 0) {
        s->free_cluster_index = MIN(s->free_cluster_index, (uint64_t)first);
        return ret;
    }
    return offset;
}

int64_t qcow2_alloc_clusters_for(BlockDriverState *bs, int64_t bytes, const char *what)
{
    const BDRVQcow2State *s = bs->opaque;

    SIM_ASSERT(bytes > 0);
    bdrv_co_debug_event(bs->file->bs, BLKDBG_CLUSTER_ALLOC);
    if (bytes > MAX_HOST_OFFSET) {
        return -EFBIG;
    }
    make_freed_usable(bs);
    return alloc_run(bs, (uint64_t)size_to_clusters(s, bytes), what);
}

int64_t qcow2_alloc_clusters(BlockDriverState *bs, int64_t bytes)
{
    return qcow2_alloc_clusters_for(bs, bytes, "clusters");
}

/* As many as are free, without counting them. */
static int64_t free_from(BlockDriverState *bs, uint64_t first, int64_t clusters)
{
    for (int64_t i = 0; i < clusters; i++) {
        bool is;
        int ret = is_free(bs, first + (uint64_t)i, &is);
        if (ret < 0 || !is) {
            return ret < 0 ? ret : i;
        }
    }
    return clusters;
}

int64_t qcow2_alloc_clusters_at(BlockDriverState *bs, int64_t offset, int64_t nb)
{
    const BDRVQcow2State *s = bs->opaque;

    SIM_ASSERT(nb >= 0 && offset_into_cluster(s, offset) == 0);
    if (nb == 0 || offset <= 0 || offset >= MAX_HOST_OFFSET) {
        return 0;
    }
    nb = MIN(nb, (MAX_HOST_OFFSET - offset) >> s->cluster_bits);
    int64_t count = free_from(bs, (uint64_t)offset >> s->cluster_bits, nb);
    if (count <= 0) {
        return count;
    }
    int ret = qcow2_update_refcount(bs, offset, count << s->cluster_bits, 1, false, QCOW2_DISCARD_NEVER);
    return ret < 0 ? ret : count;
}

/* --- compressed data ---------------------------------------------------------------------------------------- */

/* Bytes left in the cluster that the last compressed data ended in: 0 when nothing more may go there. */
static int room_behind_last(BlockDriverState *bs, int64_t *room)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t refcount;

    *room = 0;
    if (s->free_byte_offset == 0) {
        return 0;
    }
    SIM_ASSERT(offset_into_cluster(s, s->free_byte_offset) != 0);
    int ret = qcow2_get_refcount(bs, (uint64_t)s->free_byte_offset >> s->cluster_bits, &refcount);
    if (ret == 0 && refcount > 0 && refcount < s->refcount_max) {
        *room = s->cluster_size - offset_into_cluster(s, s->free_byte_offset);
    }
    return ret;
}

/* Behind the last: in its cluster, and if that is too small in the next one as well. 0: does not fit. */
static int64_t append_bytes(BlockDriverState *bs, int64_t bytes)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t offset = s->free_byte_offset;
    int64_t room;

    int ret = room_behind_last(bs, &room);
    if (ret < 0 || room == 0) {
        return ret;
    }
    int64_t next = offset + room;
    if (room < bytes) {
        int64_t got = qcow2_alloc_clusters_at(bs, next, 1);
        if (got <= 0) {
            return got;
        }
    }
    ret = qcow2_update_refcount(bs, offset, MIN(room, bytes), 1, false, QCOW2_DISCARD_NEVER);
    if (ret < 0 && room < bytes) {
        qcow2_free_new_clusters(bs, next, s->cluster_size);
    }
    return ret < 0 ? ret : offset;
}

int64_t qcow2_alloc_bytes(BlockDriverState *bs, int64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;

    SIM_ASSERT(bytes > 0 && bytes <= s->cluster_size);
    bdrv_co_debug_event(bs->file->bs, BLKDBG_CLUSTER_ALLOC_BYTES);
    make_freed_usable(bs);
    int64_t offset = append_bytes(bs, bytes);
    if (offset == 0) {
        offset = alloc_run(bs, 1, "compressed cluster");
    }
    if (offset > 0) {
        int64_t end = offset + bytes;
        s->free_byte_offset = offset_into_cluster(s, end) != 0 ? end : 0;
    }
    return offset;
}

/* --- giving back -------------------------------------------------------------------------------------------- */

void qcow2_free_clusters(BlockDriverState *bs, int64_t offset, int64_t bytes, enum qcow2_discard_type type)
{
    bdrv_co_debug_event(bs->file->bs, BLKDBG_CLUSTER_FREE);
    (void)qcow2_update_refcount(bs, offset, bytes, 1, true, type); /* else it is leaked */
}

/* Data in the external file is counted nowhere and moves nowhere: nobody else can get it, so the discard need not
 * wait, and must not: the next write may go to the same place. */
static void free_external(BlockDriverState *bs, uint64_t l2_entry, enum qcow2_discard_type type)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t offset = (int64_t)(l2_entry & L2E_OFFSET_MASK);

    if (!s->data_file_is_raw && offset_into_cluster(s, offset) == 0) {
        qcow2_host_discard(bs, s->data_file, offset, s->cluster_size, type);
    }
}

void qcow2_free_any_cluster(BlockDriverState *bs, uint64_t l2_entry, enum qcow2_discard_type type)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t offset = (int64_t)(l2_entry & L2E_OFFSET_MASK);
    int64_t bytes = s->cluster_size;

    switch (qcow2_get_cluster_type(bs, l2_entry)) {
    case QCOW2_CLUSTER_COMPRESSED:
        qcow2_parse_compressed_l2_entry(bs, l2_entry, &offset, &bytes);
        qcow2_free_clusters(bs, offset, bytes, type);
        break;
    case QCOW2_CLUSTER_NORMAL:
    case QCOW2_CLUSTER_ZERO_ALLOC:
        if (has_data_file(bs)) {
            free_external(bs, l2_entry, type);
        } else if (offset_into_cluster(s, offset) != 0) {
            qcow2_signal_corruption(bs, false, -1, -1, "Cannot free unaligned cluster %#llx",
                                    (unsigned long long)offset);
        } else {
            qcow2_free_clusters(bs, offset, bytes, type);
        }
        break;
    case QCOW2_CLUSTER_UNALLOCATED:
    case QCOW2_CLUSTER_ZERO_PLAIN:
        break;
    }
}
