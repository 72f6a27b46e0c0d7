/*
 * qcow2: making room for counts (5.4, 5.5).
 *
 *     table entry is 0:     L2 cache F, new block (and the count of its cluster) F, table entry F
 *     table is too short:   new blocks F, new table F, header F, then the old table is freed
 *
 * A block counts its own cluster, or a block that is there already does. A larger table and the blocks that come
 * with it lie behind everything that the old table can count, and behind what the caller is about to count: they
 * cannot meet anything (Q03, Q12), and the blocks among them count them all.
 *
 * Nothing is published before the counts that it relies on are stable: the cache is flushed, not only the file
 * below it (Q09). If the publishing write itself fails, nobody knows which of the two the file says. Both are whole
 * images; but they part ways with the next block, so before that the file is told the old state again.
 */
#include <errno.h>

#include "block/qcow2_refcount_int.h"

/* --- publishing ------------------------------------------------------------------------------------------- */

static int write_table_entry(BlockDriverState *bs, uint32_t index, uint64_t entry)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t at = s->refcount_table_offset + (int64_t)index * (int64_t)sizeof(uint64_t);
    uint8_t bytes[sizeof(uint64_t)];

    int ret = qcow2_pre_write_overlap_check(bs, QCOW2_OL_REFCOUNT_TABLE, at, sizeof(bytes), false);
    qcow2_put_be64(bytes, entry);
    return ret < 0 ? ret : qcow2_pwrite_sync(bs, at, sizeof(bytes), bytes);
}

/* After a write that failed: the file says for certain what the state says. */
static int make_sure(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    int ret = qcow2_header_make_sure(bs);
    if (ret < 0) {
        return ret;
    }
    if (s->reftable_entry_unsure > 0) {
        SIM_MARK(bs->host->sim, qcow2_refblock_retried);
        uint32_t index = s->reftable_entry_unsure - 1;
        ret = write_table_entry(bs, index, s->refcount_table[index]);
        if (ret < 0) {
            return ret;
        }
        s->reftable_entry_unsure = 0;
        uint64_t cluster_index = (uint64_t)s->refblock_unsure >> s->cluster_bits;
        if (cluster_index >> s->refcount_block_bits != index) {
            qcow2_free_new_clusters(bs, s->refblock_unsure, s->cluster_size);
        }
    }
    return 0;
}

/* --- one block -------------------------------------------------------------------------------------------- */

/* A free cluster for a block, outside of what is about to be counted; -errno. */
static int64_t find_place(BlockDriverState *bs, const struct qcow2_span *keep)
{
    BDRVQcow2State *s = bs->opaque;

    for (uint64_t i = s->free_cluster_index; i < (uint64_t)QCOW2_MAX_HOST_OFFSET >> s->cluster_bits; i++) {
        uint64_t refcount;
        if (i >= keep->first && i < keep->end) {
            i = keep->end - 1;
            continue;
        }
        int ret = qcow2_get_refcount(bs, i, &refcount);
        if (ret < 0) {
            return ret;
        }
        if (refcount > 0 || qcow2_is_freed(s, i)) {
            continue;
        }
        if (i == 0) {
            qcow2_signal_corruption(bs, true, -1, -1,
                                    "Preventing invalid allocation of refcount block at offset 0");
            return -EIO;
        }
        return (int64_t)i;
    }
    return -EFBIG;
}

static void forget_block(const BDRVQcow2State *s, int64_t offset)
{
    uint8_t *block = qcow2_cache_is_table_offset(s->refcount_block_cache, offset);
    if (block != NULL) {
        qcow2_cache_discard(s->refcount_block_cache, block);
    }
}

/* The new block in the cache, all 0 but its own count, and then on the file. */
static int write_new_block(BlockDriverState *bs, int64_t offset, bool counts_itself)
{
    const BDRVQcow2State *s = bs->opaque;
    Qcow2Cache *cache = s->refcount_block_cache;
    uint8_t *block;

    int ret = qcow2_cache_get_empty(bs, cache, offset, &block);
    if (ret < 0) {
        return ret;
    }
    if (counts_itself) {
        uint64_t index = ((uint64_t)offset >> s->cluster_bits) & (qcow2_counts_per_block(s) - 1);
        qcow2_refcount_set(s, block, index, 1);
    }
    qcow2_cache_entry_mark_dirty(cache, block);
    qcow2_cache_put(cache, &block);
    bdrv_co_debug_event(bs->file->bs, BLKDBG_REFBLOCK_ALLOC_WRITE);
    ret = qcow2_cache_flush(bs, cache);
    if (ret < 0) {
        forget_block(s, offset);
    }
    return ret;
}

/* The table entry may be on the file or not; in memory it is 0. */
static void entry_is_unsure(BlockDriverState *bs, uint32_t table_index, int64_t offset)
{
    BDRVQcow2State *s = bs->opaque;

    SIM_MARK(bs->host->sim, qcow2_refblock_unsure);
    SIM_ASSERT_EQ(s->reftable_entry_unsure, 0);
    SIM_ASSERT(!qcow2_has_refblock(s, table_index));
    s->reftable_entry_unsure = table_index + 1;
    s->refblock_unsure = offset;
}

/* The block of that table entry goes to a free cluster, which it counts itself or another block does. */
static int make_block(BlockDriverState *bs, uint32_t table_index, uint64_t cluster_index)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t offset = (int64_t)(cluster_index << s->cluster_bits);
    bool itself = cluster_index >> s->refcount_block_bits == table_index;

    SIM_ASSERT(!qcow2_has_refblock(s, table_index));
    SIM_ASSERT(itself || qcow2_has_refblock(s, cluster_index >> s->refcount_block_bits));
    s->free_cluster_index = MAX(s->free_cluster_index, cluster_index + 1);
    int ret = qcow2_cache_flush(bs, s->l2_table_cache);
    if (ret == 0 && !itself) {
        ret = qcow2_update_cluster_refcount(bs, cluster_index, 1, false, QCOW2_DISCARD_NEVER);
    }
    if (ret < 0) {
        return ret;
    }
    ret = write_new_block(bs, offset, itself);
    if (ret < 0) {
        if (!itself) {
            qcow2_free_new_clusters(bs, offset, s->cluster_size);
        }
        return ret;
    }
    bdrv_co_debug_event(bs->file->bs, BLKDBG_REFBLOCK_ALLOC_HOOKUP);
    ret = write_table_entry(bs, table_index, (uint64_t)offset);
    if (ret < 0) {
        forget_block(s, offset);
        entry_is_unsure(bs, table_index, offset);
        return ret;
    }
    s->refcount_table[table_index] = (uint64_t)offset;
    s->max_refcount_table_index = MAX(s->max_refcount_table_index, table_index);
    return 0;
}

/* --- all that a range needs --------------------------------------------------------------------------------- */

static int add_block(BlockDriverState *bs, uint32_t table_index, const struct qcow2_span *keep)
{
    BDRVQcow2State *s = bs->opaque;

    bdrv_co_debug_event(bs->file->bs, BLKDBG_REFBLOCK_ALLOC);
    for (;;) {
        int64_t place = find_place(bs, keep);
        if (place < 0) {
            return (int)place;
        }
        uint64_t counted_in = (uint64_t)place >> s->refcount_block_bits;
        if (counted_in >= s->refcount_table_size) {
            return qcow2_grow_reftable(bs, keep);
        }
        if (counted_in == table_index || qcow2_has_refblock(s, counted_in)) {
            return make_block(bs, table_index, (uint64_t)place);
        }
        /* Nothing is free but where no block counts either: there the first cluster becomes that block. */
        int ret = make_block(bs, (uint32_t)counted_in, (uint64_t)place);
        if (ret < 0) {
            return ret;
        }
    }
}

int qcow2_refcount_area(BlockDriverState *bs, int64_t start, int64_t end)
{
    const BDRVQcow2State *s = bs->opaque;

    SIM_ASSERT(start >= 0);
    if (start >= end) {
        return 0;
    }
    if (end > QCOW2_MAX_HOST_OFFSET) {
        return -EFBIG;
    }
    struct qcow2_span keep = {(uint64_t)start >> s->cluster_bits, (uint64_t)size_to_clusters(s, end)};
    for (uint64_t i = keep.first >> s->refcount_block_bits; i <= (keep.end - 1) >> s->refcount_block_bits; i++) {
        if (qcow2_has_refblock(s, i)) {
            continue;
        }
        int ret = make_sure(bs);
        if (ret == 0) {
            ret = i >= s->refcount_table_size ? qcow2_grow_reftable(bs, &keep) : add_block(bs, (uint32_t)i, &keep);
        }
        if (ret < 0) {
            return ret;
        }
        SIM_ASSERT(qcow2_has_refblock(s, i));
    }
    return 0;
}

/* --- a smaller one ------------------------------------------------------------------------------------------ */

/* The block counts nothing, or only itself. */
static int block_is_idle(BlockDriverState *bs, uint32_t table_index, bool *idle)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t offset = (int64_t)(s->refcount_table[table_index] & REFT_OFFSET_MASK);
    uint64_t first = (uint64_t)table_index << s->refcount_block_bits;
    uint64_t own = (uint64_t)offset >> s->cluster_bits;
    uint8_t *block;

    /* Through the count of its first cluster, so that a bad offset is told as everywhere. */
    uint64_t ignored;
    int ret = qcow2_get_refcount(bs, first, &ignored);
    if (ret == 0) {
        ret = qcow2_cache_get(bs, s->refcount_block_cache, offset, &block);
    }
    if (ret < 0) {
        return ret;
    }
    *idle = true;
    for (uint64_t i = 0; i < qcow2_counts_per_block(s) && *idle; i++) {
        *idle = first + i == own || qcow2_refcount_get(s, block, i) == 0;
    }
    qcow2_cache_put(s->refcount_block_cache, &block);
    return 0;
}

/* Its table entry is 0 on the file, and stable. */
static void drop_block(BlockDriverState *bs, uint32_t table_index, int64_t offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t own = (uint64_t)offset >> s->cluster_bits;

    forget_block(s, offset);
    if (own >> s->refcount_block_bits != table_index) {
        qcow2_free_clusters(bs, offset, s->cluster_size, QCOW2_DISCARD_ALWAYS);
        return;
    }
    /* Its count has gone with it. */
    if (!qcow2_is_freed(s, own)) {
        qcow2_freed_add(bs, offset, s->cluster_size, QCOW2_DISCARD_ALWAYS);
    }
}

int qcow2_shrink_reftable(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    int ret = make_sure(bs);
    for (uint32_t i = 0; i < s->refcount_table_size && ret == 0; i++) {
        bool idle = false;
        if (!qcow2_has_refblock(s, i)) {
            continue;
        }
        ret = block_is_idle(bs, i, &idle);
        if (ret < 0 || !idle) {
            continue;
        }
        /* The counts that became 0 in it are owed to entries that were dropped: those first. */
        ret = qcow2_cache_flush(bs, s->l2_table_cache);
        if (ret < 0) {
            break;
        }
        int64_t offset = (int64_t)(s->refcount_table[i] & REFT_OFFSET_MASK);
        ret = write_table_entry(bs, i, 0);
        s->refcount_table[i] = 0;
        if (ret == 0) {
            drop_block(bs, i, offset);
        } else {
            forget_block(s, offset);
            entry_is_unsure(bs, i, offset);
        }
    }
    while (s->max_refcount_table_index > 0 && !qcow2_has_refblock(s, s->max_refcount_table_index)) {
        s->max_refcount_table_index--;
    }
    return ret;
}
