/*
 * The end of an allocating write: its L2 entries name the clusters (5.5, 6).
 *
 * The entries may become stable only after the counts of the clusters and after the data. The original leaves the
 * latter out when it copied nothing around the data, as far as the flush for the counts covers it; with lazy
 * refcounts or an external data file none does, and power loss shows what some other range once had there. Here the
 * table always waits for a flush of the data.
 */
#include "block/qcow2_write.h"

#include <errno.h>

/* What must be stable before the table. */
static int order(BlockDriverState *bs, const QCowL2Meta *m)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = 0;

    if (m->new_bytes > 0 && s->use_lazy_refcounts) {
        ret = qcow2_mark_dirty(bs);
    } else if (m->new_bytes > 0) {
        ret = qcow2_cache_set_dependency(bs, s->l2_table_cache, s->refcount_block_cache);
    }
    if (ret == 0) {
        qcow2_cache_depends_on_flush(s->l2_table_cache);
    }
    return ret;
}

/* Subclusters of that cluster inside the area; the area consists of whole ones but at ends that are data anyway. */
static uint64_t area_mask(const BDRVQcow2State *s, const QCowL2Meta *m, int64_t cluster)
{
    int64_t from = MAX(m->area_offset, cluster);
    int64_t to = MIN(m->area_offset + m->area_bytes, cluster + s->cluster_size);

    SIM_ASSERT_LT(from, to);
    return ((2ULL << offset_to_sc_index(s, to - 1)) - 1) & ~((1ULL << offset_to_sc_index(s, from)) - 1);
}

/* The entry of one cluster changes; gives what it was. */
static uint64_t set_entry(BlockDriverState *bs, const QCowL2Meta *m, uint8_t *slice, unsigned index,
                          int64_t cluster)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t old = get_l2_entry(s, slice, index);
    int64_t host = start_of_cluster(s, m->host_offset) + (cluster - start_of_cluster(s, m->area_offset));

    SIM_ASSERT_EQ(offset_into_cluster(s, host), 0);
    SIM_ASSERT(m->kind != QCOW2_RUN_KEEP || (old & L2E_OFFSET_MASK) == (uint64_t)host);
    set_l2_entry(s, slice, index, (uint64_t)host | QCOW_OFLAG_COPIED);
    if (has_subclusters(s)) {
        uint64_t bitmap = old & QCOW_OFLAG_COMPRESSED ? 0 : get_l2_bitmap(s, slice, index);
        uint64_t data = area_mask(s, m, cluster);
        set_l2_bitmap(s, slice, index, (bitmap & ~(data << 32)) | data);
    }
    return old;
}

/* Of NEW runs: the clusters that the entries named before. */
static void free_old(BlockDriverState *bs, const uint64_t *old, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (old[i] != 0) {
            qcow2_free_any_cluster(bs, old[i], QCOW2_DISCARD_NEVER);
        }
    }
}

int qcow2_alloc_link(BlockDriverState *bs, const QCowL2Meta *m)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t first = start_of_cluster(s, m->area_offset);
    unsigned count = (unsigned)size_to_clusters(s, m->area_offset + m->area_bytes - first);
    uint8_t *slice = NULL;
    unsigned index = 0;

    SIM_ASSERT(m->kind == QCOW2_RUN_NEW || m->kind == QCOW2_RUN_KEEP);
    int ret = order(bs, m);
    if (ret == 0) {
        ret = qcow2_get_cluster_table(bs, first, &slice, &index);
    }
    if (ret < 0) {
        return ret;
    }
    SIM_ASSERT_LE(index + count, s->l2_slice_size);
    uint64_t *old = qcow2_alloc(bs, count * sizeof(*old));
    for (unsigned i = 0; i < count; i++) {
        old[i] = set_entry(bs, m, slice, index + i, first + ((int64_t)i << s->cluster_bits));
    }
    qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
    qcow2_cache_put(s->l2_table_cache, &slice);
    if (m->kind == QCOW2_RUN_NEW && !has_data_file(bs)) {
        free_old(bs, old, count);
    }
    qcow2_free(bs, old, count * sizeof(*old));
    return 0;
}
