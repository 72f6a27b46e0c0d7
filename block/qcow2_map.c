/*
 * Where the guest's bytes are (5.2): what L1 and an L2 entry say of them, and how long a run is of which the same
 * may be said.
 *
 * qcow2_map_l1 and qcow2_map_entries look at what they are given and do nothing else, so that reading, block status
 * and the const views (qcow2_peek.c) share them. qcow2_get_host_offset loads the table, and marks the image corrupt
 * when it makes no sense.
 */
#include <errno.h>

#include "block/qcow2.h"

#define LOW_HALF 0xffffffffULL

QCow2ClusterType qcow2_get_cluster_type(const BlockDriverState *bs, uint64_t l2_entry)
{
    const BDRVQcow2State *s = bs->opaque;
    /* Offset 0 is a place like any other in an external data file: there COPIED says that it is one. */
    bool placed = (l2_entry & L2E_OFFSET_MASK) != 0 || ((l2_entry & QCOW_OFLAG_COPIED) && has_data_file(bs));

    if (l2_entry & QCOW_OFLAG_COMPRESSED) {
        return QCOW2_CLUSTER_COMPRESSED;
    }
    if ((l2_entry & QCOW_OFLAG_ZERO) && !has_subclusters(s)) {
        return placed ? QCOW2_CLUSTER_ZERO_ALLOC : QCOW2_CLUSTER_ZERO_PLAIN;
    }
    return placed ? QCOW2_CLUSTER_NORMAL : QCOW2_CLUSTER_UNALLOCATED;
}

/* A contradiction anywhere in the bitmap makes the whole cluster invalid. */
static QCow2SubclusterType extended_type(QCow2ClusterType cluster, uint64_t l2_bitmap, unsigned sc_index)
{
    uint64_t allocated = l2_bitmap & LOW_HALF;
    uint64_t zero = l2_bitmap >> 32;
    bool is_zero = (zero >> sc_index) & 1;

    if (cluster == QCOW2_CLUSTER_COMPRESSED) {
        return QCOW2_SUBCLUSTER_COMPRESSED;
    }
    if (cluster == QCOW2_CLUSTER_UNALLOCATED) {
        if (allocated != 0) {
            return QCOW2_SUBCLUSTER_INVALID;
        }
        return is_zero ? QCOW2_SUBCLUSTER_ZERO_PLAIN : QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN;
    }
    SIM_ASSERT_EQ(cluster, QCOW2_CLUSTER_NORMAL); /* the entry has no zero flag */
    if ((allocated & zero) != 0) {
        return QCOW2_SUBCLUSTER_INVALID;
    }
    if (is_zero) {
        return QCOW2_SUBCLUSTER_ZERO_ALLOC;
    }
    return (allocated >> sc_index) & 1 ? QCOW2_SUBCLUSTER_NORMAL : QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC;
}

QCow2SubclusterType qcow2_get_subcluster_type(const BlockDriverState *bs, uint64_t l2_entry, uint64_t l2_bitmap,
                                              unsigned sc_index)
{
    static const QCow2SubclusterType of_cluster[] = {
        [QCOW2_CLUSTER_UNALLOCATED] = QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN,
        [QCOW2_CLUSTER_ZERO_PLAIN] = QCOW2_SUBCLUSTER_ZERO_PLAIN,
        [QCOW2_CLUSTER_ZERO_ALLOC] = QCOW2_SUBCLUSTER_ZERO_ALLOC,
        [QCOW2_CLUSTER_NORMAL] = QCOW2_SUBCLUSTER_NORMAL,
        [QCOW2_CLUSTER_COMPRESSED] = QCOW2_SUBCLUSTER_COMPRESSED,
    };
    const BDRVQcow2State *s = bs->opaque;
    QCow2ClusterType cluster = qcow2_get_cluster_type(bs, l2_entry);

    SIM_ASSERT_LT(sc_index, s->subclusters_per_cluster);
    return has_subclusters(s) ? extended_type(cluster, l2_bitmap, sc_index) : of_cluster[cluster];
}

void qcow2_parse_compressed_l2_entry(const BlockDriverState *bs, uint64_t l2_entry, int64_t *coffset,
                                     int64_t *csize)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t sectors = (int64_t)((l2_entry >> s->csize_shift) & s->csize_mask) + 1;

    SIM_ASSERT(l2_entry & QCOW_OFLAG_COMPRESSED);
    *coffset = (int64_t)(l2_entry & s->cluster_offset_mask);
    *csize = sectors * SIM_SECTOR_BYTES - (*coffset & (SIM_SECTOR_BYTES - 1));
}

/* --- runs ------------------------------------------------------------------------------------------------ */

int64_t qcow2_map_l1(const BlockDriverState *bs, int64_t offset, int64_t *bytes)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t index = offset_to_l1_index(s, (uint64_t)offset);
    int64_t span = (int64_t)1 << (s->cluster_bits + s->l2_bits);

    SIM_ASSERT(offset >= 0 && *bytes > 0);
    *bytes = MIN(*bytes, span - (offset & (span - 1)));
    return index < s->l1_size ? (int64_t)(s->l1_table[index] & L1E_OFFSET_MASK) : 0;
}

static bool has_host_cluster(QCow2SubclusterType type)
{
    return type == QCOW2_SUBCLUSTER_NORMAL || type == QCOW2_SUBCLUSTER_ZERO_ALLOC ||
           type == QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC;
}

/* What cannot be in the entry of the cluster of that guest offset, or NULL. */
static const char *entry_problem(const BlockDriverState *bs, int64_t offset, uint64_t l2_entry,
                                 QCow2SubclusterType type)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t host = (int64_t)(l2_entry & L2E_OFFSET_MASK);
    bool zero = type == QCOW2_SUBCLUSTER_ZERO_PLAIN || type == QCOW2_SUBCLUSTER_ZERO_ALLOC;

    if (type == QCOW2_SUBCLUSTER_INVALID) {
        return "Invalid cluster entry found";
    }
    if (zero && s->qcow_version < 3) {
        return "Zero cluster entry found in pre-v3 image";
    }
    if (type == QCOW2_SUBCLUSTER_COMPRESSED && has_data_file(bs)) {
        return "Compressed cluster entry found in image with external data file";
    }
    if (has_host_cluster(type) && offset_into_cluster(s, host) != 0) {
        return "Cluster allocation offset unaligned";
    }
    if (has_host_cluster(type) && has_data_file(bs) && host != start_of_cluster(s, offset)) {
        return "External data file host cluster offset does not match guest cluster offset";
    }
    return NULL;
}

/* One cluster's part of a run: how its bytes from `offset` on are stored, up to where that changes. */
struct piece {
    QCow2SubclusterType type;
    int64_t bytes;
    int64_t host; /* as qcow2_get_host_offset gives it */
};

static const char *look(const BlockDriverState *bs, const uint8_t *entry_at, int64_t offset, struct piece *piece)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t entry = get_l2_entry(s, entry_at, 0);
    uint64_t bitmap = get_l2_bitmap(s, entry_at, 0);
    unsigned first = offset_to_sc_index(s, offset);
    unsigned end = first + 1;

    piece->type = qcow2_get_subcluster_type(bs, entry, bitmap, first);
    while (end < s->subclusters_per_cluster && qcow2_get_subcluster_type(bs, entry, bitmap, end) == piece->type) {
        end++;
    }
    piece->bytes = ((int64_t)end << s->subcluster_bits) - offset_into_cluster(s, offset);
    piece->host = 0;
    if (has_host_cluster(piece->type)) {
        piece->host = (int64_t)(entry & L2E_OFFSET_MASK) + offset_into_cluster(s, offset);
    } else if (piece->type == QCOW2_SUBCLUSTER_COMPRESSED) {
        piece->host = (int64_t)entry;
    }
    SIM_ASSERT_LT(0, piece->bytes);
    return entry_problem(bs, offset, entry, piece->type);
}

static bool continues(const struct piece *first, int64_t run_bytes, const struct piece *next)
{
    return next->type == first->type && (!has_host_cluster(next->type) || next->host == first->host + run_bytes);
}

const char *qcow2_map_entries(const BlockDriverState *bs, const uint8_t *entries, unsigned count, int64_t offset,
                              int64_t *bytes, int64_t *host_offset, QCow2SubclusterType *type)
{
    const BDRVQcow2State *s = bs->opaque;
    struct piece first, next;

    SIM_ASSERT(count > 0 && *bytes > 0);
    const char *problem = look(bs, entries, offset, &first);
    if (problem) {
        return problem;
    }
    int64_t run = first.bytes;
    int64_t in_cluster = offset_into_cluster(s, offset);
    /* Compressed clusters stand alone. Whatever is wrong further on is found when somebody asks for it. */
    for (unsigned i = 1; i < count && run < *bytes && first.type != QCOW2_SUBCLUSTER_COMPRESSED &&
                         in_cluster + run == (int64_t)i << s->cluster_bits;
         i++) {
        if (look(bs, entries + (size_t)i * s->l2_entry_size, offset + run, &next) ||
            !continues(&first, run, &next)) {
            break;
        }
        run += next.bytes;
    }
    *bytes = MIN(*bytes, run);
    *type = first.type;
    *host_offset = first.host;
    return NULL;
}

/* --- the table ------------------------------------------------------------------------------------------- */

static int map_in_table(BlockDriverState *bs, int64_t l2_offset, int64_t offset, int64_t *bytes,
                        int64_t *host_offset, QCow2SubclusterType *type)
{
    const BDRVQcow2State *s = bs->opaque;
    unsigned index = offset_to_l2_slice_index(s, (uint64_t)offset);
    uint8_t *slice;

    int ret = qcow2_l2_load(bs, offset, l2_offset, &slice);
    if (ret < 0) {
        return ret;
    }
    const uint8_t *entry = slice + (size_t)index * s->l2_entry_size;
    uint64_t value = get_l2_entry(s, entry, 0);
    const char *problem = qcow2_map_entries(bs, entry, s->l2_slice_size - index, offset, bytes, host_offset, type);
    qcow2_cache_put(s->l2_table_cache, &slice);
    if (!problem) {
        return 0;
    }
    SIM_MARK(bs->host->sim, qcow2_bad_entry);
    qcow2_signal_corruption(bs, true, -1, -1, "%s (entry %#llx, L2 offset: %#llx, L2 index: %#x)", problem,
                            (unsigned long long)value, (unsigned long long)l2_offset,
                            offset_to_l2_index(s, (uint64_t)offset));
    return -EIO;
}

int qcow2_get_host_offset(BlockDriverState *bs, int64_t offset, int64_t *bytes, int64_t *host_offset,
                          QCow2SubclusterType *type)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t l2_offset = qcow2_map_l1(bs, offset, bytes);

    *host_offset = 0;
    *type = QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN;
    if (l2_offset == 0) {
        return 0;
    }
    if (offset_into_cluster(s, l2_offset) != 0) {
        SIM_MARK(bs->host->sim, qcow2_bad_entry);
        qcow2_signal_corruption(bs, true, -1, -1, "L2 table offset %#llx unaligned (L1 index: %#llx)",
                                (unsigned long long)l2_offset,
                                (unsigned long long)offset_to_l1_index(s, (uint64_t)offset));
        return -EIO;
    }
    return map_in_table(bs, l2_offset, offset, bytes, host_offset, type);
}
