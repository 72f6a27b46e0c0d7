/*
 * qcow2: counts of references to host clusters (5.3).
 *
 *     refcount table (host order, in memory) --> refcount blocks (cached) --> counts of 1 to 64 bits
 *
 * A change is done in three steps: blocks that are missing are made (qcow2_refblock.c, which may write, flush and
 * replace the table), all counts are tested, then they are changed. Only one block is pinned at a time, and never
 * across anything that might load another one.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2.h"

int qcow2_refcount_init(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    size_t bytes = (size_t)s->refcount_table_size * sizeof(uint64_t);

    SIM_ASSERT(bytes <= QCOW2_MAX_REFTABLE_BYTES);
    s->refcount_table = qcow2_alloc(bs, bytes);
    bdrv_co_debug_event(bs->file->bs, BLKDBG_REFTABLE_LOAD);
    int ret = qcow2_pread(bs, s->refcount_table_offset, (int64_t)bytes, s->refcount_table);
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not initialize refcount handling");
        qcow2_refcount_close(bs);
        return ret;
    }
    s->max_refcount_table_index = 0;
    for (uint32_t i = 0; i < s->refcount_table_size; i++) {
        s->refcount_table[i] = be64toh(s->refcount_table[i]);
        if (s->refcount_table[i] & REFT_OFFSET_MASK) {
            s->max_refcount_table_index = i;
        }
    }
    return 0;
}

static int by_value(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

bool qcow2_refblocks_are_distinct(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;
    size_t bytes = (size_t)s->refcount_table_size * sizeof(uint64_t);
    uint64_t *used = qcow2_alloc(bs, bytes);
    size_t nb = 0;
    bool distinct = true;

    for (uint32_t i = 0; i < s->refcount_table_size; i++) {
        uint64_t offset = s->refcount_table[i] & REFT_OFFSET_MASK;
        used[nb] = offset;
        nb += offset != 0;
    }
    if (nb > 1) {
        qsort(used, nb, sizeof(*used), by_value);
    }
    for (size_t i = 1; distinct && i < nb; i++) {
        distinct = used[i] != used[i - 1];
    }
    qcow2_free(bs, used, bytes);
    return distinct;
}

void qcow2_refcount_close(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    qcow2_free(bs, s->refcount_table, (size_t)s->refcount_table_size * sizeof(uint64_t));
    s->refcount_table = NULL;
    s->refcount_table_size = 0;
    s->max_refcount_table_index = 0;
}

/* --- counts in a block ------------------------------------------------------------------------------------ */

/* Narrow counts fill a byte from its least significant bit, wide ones are big-endian. */
uint64_t qcow2_refcount_get(const BDRVQcow2State *s, const uint8_t *block, uint64_t index)
{
    unsigned bits = s->refcount_bits;

    SIM_ASSERT_LT(index, 1ULL << s->refcount_block_bits);
    if (bits < 8) {
        uint64_t at = index * bits;
        return (uint64_t)block[at / 8] >> (at % 8) & s->refcount_max;
    }
    const uint8_t *from = block + index * (bits / 8);
    uint64_t count = 0;
    for (unsigned i = 0; i < bits / 8; i++) {
        count = count << 8 | from[i];
    }
    return count;
}

void qcow2_refcount_set(const BDRVQcow2State *s, uint8_t *block, uint64_t index, uint64_t count)
{
    unsigned bits = s->refcount_bits;

    SIM_ASSERT_LT(index, 1ULL << s->refcount_block_bits);
    SIM_ASSERT(count <= s->refcount_max);
    if (bits < 8) {
        uint64_t at = index * bits;
        uint8_t mask = (uint8_t)(s->refcount_max << (at % 8));
        block[at / 8] = (uint8_t)((block[at / 8] & ~mask) | (uint8_t)(count << (at % 8)));
        return;
    }
    uint8_t *to = block + index * (bits / 8);
    for (unsigned i = bits / 8; i-- > 0; count >>= 8) {
        to[i] = (uint8_t)count;
    }
}

static uint64_t index_in_block(const BDRVQcow2State *s, uint64_t cluster_index)
{
    return cluster_index & ((1ULL << s->refcount_block_bits) - 1);
}

/* Offset of the block that counts the cluster: 0 for none, or -EIO and the image marked corrupt. */
static int64_t block_offset(BlockDriverState *bs, uint64_t cluster_index)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t table_index = cluster_index >> s->refcount_block_bits;

    if (table_index >= s->refcount_table_size) {
        return 0;
    }
    uint64_t offset = s->refcount_table[table_index] & REFT_OFFSET_MASK;
    if (offset > INT64_MAX || offset_into_cluster(s, (int64_t)offset) != 0) {
        qcow2_signal_corruption(bs, true, -1, -1, "Refblock offset %#llx unaligned (reftable index: %#llx)",
                                (unsigned long long)offset, (unsigned long long)table_index);
        return -EIO;
    }
    return (int64_t)offset;
}

int qcow2_get_refcount(BlockDriverState *bs, uint64_t cluster_index, uint64_t *refcount)
{
    const BDRVQcow2State *s = bs->opaque;
    uint8_t *block;

    *refcount = 0;
    int64_t offset = block_offset(bs, cluster_index);
    if (offset <= 0) {
        return (int)offset;
    }
    int ret = qcow2_cache_get(bs, s->refcount_block_cache, offset, &block);
    if (ret < 0) {
        return ret;
    }
    *refcount = qcow2_refcount_get(s, block, index_in_block(s, cluster_index));
    qcow2_cache_put(s->refcount_block_cache, &block);
    return 0;
}

int64_t qcow2_get_last_cluster(BlockDriverState *bs, int64_t file_bytes)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t counted = (int64_t)s->refcount_table_size << s->refcount_block_bits;

    /* The file may be a large device: where there is no block nothing need be looked at. */
    for (int64_t i = MIN(size_to_clusters(s, file_bytes), counted); i > 0; i--) {
        uint64_t refcount;
        if (s->refcount_table[((uint64_t)i - 1) >> s->refcount_block_bits] == 0) {
            i = ROUND_DOWN(i - 1, INT64_C(1) << s->refcount_block_bits) + 1;
            continue;
        }
        int ret = qcow2_get_refcount(bs, (uint64_t)i - 1, &refcount);
        if (ret < 0 || refcount > 0) {
            return ret < 0 ? ret : i;
        }
    }
    qcow2_signal_corruption(bs, true, -1, -1, "There are no references in the refcount table.");
    return -EIO;
}

/* --- changing counts -------------------------------------------------------------------------------------- */

struct change {
    uint64_t first; /* clusters, inclusive */
    uint64_t last;
    uint64_t addend;
    bool decrease;
    bool fresh; /* what becomes 0 was never named by anything: free at once */
    enum qcow2_discard_type type;
};

/* Pins the block that counts the cluster, which exists if the count may be anything but 0. */
static int load_block(BlockDriverState *bs, uint64_t cluster_index, uint8_t **block)
{
    const BDRVQcow2State *s = bs->opaque;

    *block = NULL;
    int64_t offset = block_offset(bs, cluster_index);
    if (offset < 0) {
        return (int)offset;
    }
    return offset > 0 ? qcow2_cache_get(bs, s->refcount_block_cache, offset, block) : -EINVAL;
}

/* The last cluster of the change that the same block counts. */
static uint64_t last_in_block(const BDRVQcow2State *s, const struct change *c, uint64_t cluster_index)
{
    return MIN(c->last, cluster_index | ((1ULL << s->refcount_block_bits) - 1));
}

/* -EINVAL when some count cannot take the change. */
static int test_change(BlockDriverState *bs, const struct change *c)
{
    const BDRVQcow2State *s = bs->opaque;

    for (uint64_t i = c->first; i <= c->last;) {
        uint8_t *block;
        uint64_t end = last_in_block(s, c, i);
        int ret = load_block(bs, i, &block);
        if (ret < 0) {
            return ret;
        }
        for (; i <= end && ret == 0; i++) {
            uint64_t count = qcow2_refcount_get(s, block, index_in_block(s, i));
            uint64_t room = c->decrease ? count : s->refcount_max - count;
            ret = c->addend <= room ? 0 : -EINVAL;
        }
        qcow2_cache_put(s->refcount_block_cache, &block);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

static void forget_tables(Qcow2Cache *cache, int64_t offset, int64_t bytes, int64_t step)
{
    for (int64_t at = offset; at < offset + bytes; at += step) {
        uint8_t *table = qcow2_cache_is_table_offset(cache, at);
        if (table != NULL) {
            qcow2_cache_discard(cache, table);
        }
    }
}

/* A block that the table still names goes on counting, whatever became of its own count. */
static bool is_live_block(const BDRVQcow2State *s, int64_t offset)
{
    for (uint32_t i = 0; i < s->refcount_table_size; i++) {
        if ((s->refcount_table[i] & REFT_OFFSET_MASK) == (uint64_t)offset) {
            return true;
        }
    }
    return false;
}

/* The cluster's count is 0 now. It may have held a cached table. */
static void count_became_0(BlockDriverState *bs, const struct change *c, uint64_t cluster_index)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t offset = (int64_t)(cluster_index << s->cluster_bits);

    if (qcow2_cache_is_table_offset(s->refcount_block_cache, offset) != NULL && !is_live_block(s, offset)) {
        forget_tables(s->refcount_block_cache, offset, s->cluster_size, s->cluster_size);
    }
    forget_tables(s->l2_table_cache, offset, s->cluster_size, (int64_t)s->l2_slice_size * s->l2_entry_size);
    if (start_of_cluster(s, s->free_byte_offset) == offset) {
        s->free_byte_offset = 0;
    }
    if (c->fresh) {
        s->free_cluster_index = MIN(s->free_cluster_index, cluster_index);
    } else {
        qcow2_freed_add(bs, offset, s->cluster_size, c->type);
    }
}

/* A block is pinned for one cluster only: what becomes 0 may have been a block, and its memory goes (Q11). Tells
 * how many clusters were done. */
static int apply_change(BlockDriverState *bs, const struct change *c, uint64_t *done)
{
    const BDRVQcow2State *s = bs->opaque;

    *done = 0;
    for (uint64_t i = c->first; i <= c->last; i++) {
        uint8_t *block;
        int ret = load_block(bs, i, &block);
        if (ret < 0) {
            return ret;
        }
        uint64_t count = qcow2_refcount_get(s, block, index_in_block(s, i));
        if (c->addend > (c->decrease ? count : s->refcount_max - count)) {
            qcow2_cache_put(s->refcount_block_cache, &block); /* tested a moment ago: the file is not ours alone */
            return -EINVAL;
        }
        if (count == 0 && s->nb_freed > 0) {
            qcow2_freed_take_back(bs, i);
        }
        count = c->decrease ? count - c->addend : count + c->addend;
        qcow2_refcount_set(s, block, index_in_block(s, i), count);
        qcow2_cache_entry_mark_dirty(s->refcount_block_cache, block);
        qcow2_cache_put(s->refcount_block_cache, &block);
        if (count == 0) {
            count_became_0(bs, c, i);
        }
        ++*done;
    }
    return 0;
}

static int prepare(BlockDriverState *bs, const struct change *c)
{
    const BDRVQcow2State *s = bs->opaque;
    int ret = 0;

    if (!c->decrease) {
        ret = qcow2_refcount_area(bs, (int64_t)(c->first << s->cluster_bits),
                                  (int64_t)((c->last + 1) << s->cluster_bits));
    }
    if (ret == 0) {
        ret = test_change(bs, c);
    }
    if (ret < 0 || c->fresh) {
        return ret;
    }
    if (c->decrease) {
        return qcow2_cache_set_dependency(bs, s->refcount_block_cache, s->l2_table_cache);
    }
    return s->use_lazy_refcounts ? 0 : qcow2_cache_set_dependency(bs, s->l2_table_cache, s->refcount_block_cache);
}

static int change_counts(BlockDriverState *bs, const struct change *c)
{
    const BDRVQcow2State *s = bs->opaque;

    SIM_ASSERT(c->first <= c->last && c->addend > 0);
    SIM_ASSERT(c->last < 1ULL << (63 - s->cluster_bits));
    uint64_t done = 0;
    int ret = prepare(bs, c);
    if (ret == 0) {
        ret = apply_change(bs, c, &done);
    }
    if (ret < 0 && done > 0 && !c->decrease) {
        SIM_MARK(bs->host->sim, qcow2_refcount_undone);
        struct change back = *c;
        back.last = c->first + done - 1;
        back.decrease = true;
        back.fresh = false; /* whatever they were before, waiting for stability cannot be wrong */
        back.type = QCOW2_DISCARD_NEVER;
        (void)apply_change(bs, &back, &done); /* what cannot be taken back is leaked */
    }
    return ret;
}

static int change_range(BlockDriverState *bs, int64_t offset, int64_t bytes, uint64_t addend, bool decrease,
                        bool fresh, enum qcow2_discard_type type)
{
    const BDRVQcow2State *s = bs->opaque;

    if (bytes == 0) {
        return 0;
    }
    if (offset < 0 || bytes < 0 || bytes > INT64_MAX - s->cluster_size - offset) {
        return -EINVAL;
    }
    return change_counts(bs, &(struct change){.first = (uint64_t)offset >> s->cluster_bits,
                                              .last = (uint64_t)(offset + bytes - 1) >> s->cluster_bits,
                                              .addend = addend,
                                              .decrease = decrease,
                                              .fresh = fresh,
                                              .type = type});
}

int qcow2_update_refcount(BlockDriverState *bs, int64_t offset, int64_t bytes, uint64_t addend, bool decrease,
                          enum qcow2_discard_type type)
{
    return change_range(bs, offset, bytes, addend, decrease, false, type);
}

int qcow2_update_cluster_refcount(BlockDriverState *bs, uint64_t cluster_index, uint64_t addend, bool decrease,
                                  enum qcow2_discard_type type)
{
    const BDRVQcow2State *s = bs->opaque;

    return change_range(bs, (int64_t)(cluster_index << s->cluster_bits), 1, addend, decrease, false, type);
}

void qcow2_free_new_clusters(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    const BDRVQcow2State *s = bs->opaque;

    /* In a cluster that is shared as compressed data is, others may have been freed by entries that are not stable
     * yet: only whole clusters are nobody's at once. */
    bool whole = offset_into_cluster(s, offset | bytes) == 0;
    bdrv_co_debug_event(bs->file->bs, BLKDBG_CLUSTER_FREE);
    (void)change_range(bs, offset, bytes, 1, true, whole, QCOW2_DISCARD_NEVER); /* else it is leaked */
}
