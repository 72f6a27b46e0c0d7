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

#include "block/qcow2.h"

#define HEADER_REFTABLE_OFFSET 48 /* of the fields refcount_table_offset and refcount_table_clusters: 12 bytes */
#define HEADER_REFTABLE_BYTES 12
#define MAX_HOST_OFFSET (INT64_C(1) << 56)

/* Clusters, first to end-1. */
struct span {
    uint64_t first;
    uint64_t end;
};

static uint64_t counts_per_block(const BDRVQcow2State *s)
{
    return 1ULL << s->refcount_block_bits;
}

static bool has_block(const BDRVQcow2State *s, uint64_t table_index)
{
    return table_index < s->refcount_table_size && (s->refcount_table[table_index] & REFT_OFFSET_MASK) != 0;
}

/* --- publishing ------------------------------------------------------------------------------------------- */

static int write_header_fields(BlockDriverState *bs, int64_t offset, uint64_t entries)
{
    const BDRVQcow2State *s = bs->opaque;
    uint8_t fields[HEADER_REFTABLE_BYTES];
    uint32_t clusters = htobe32((uint32_t)size_to_clusters(s, (int64_t)entries * (int64_t)sizeof(uint64_t)));

    qcow2_put_be64(fields, (uint64_t)offset);
    memcpy(fields + 8, &clusters, sizeof(clusters));
    return qcow2_pwrite_sync(bs, HEADER_REFTABLE_OFFSET, sizeof(fields), fields);
}

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

    if (s->reftable_switch_unsure) {
        int ret = write_header_fields(bs, s->refcount_table_offset, s->refcount_table_size);
        if (ret < 0) {
            return ret;
        }
        s->reftable_switch_unsure = false;
    }
    if (s->reftable_entry_unsure > 0) {
        SIM_MARK(bs->host->sim, qcow2_refblock_retried);
        uint32_t index = s->reftable_entry_unsure - 1;
        int ret = write_table_entry(bs, index, s->refcount_table[index]);
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
static int64_t find_place(BlockDriverState *bs, const struct span *keep)
{
    BDRVQcow2State *s = bs->opaque;

    for (uint64_t i = s->free_cluster_index; i < (uint64_t)MAX_HOST_OFFSET >> s->cluster_bits; i++) {
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
        uint64_t index = ((uint64_t)offset >> s->cluster_bits) & (counts_per_block(s) - 1);
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
    SIM_ASSERT(!has_block(s, table_index));
    s->reftable_entry_unsure = table_index + 1;
    s->refblock_unsure = offset;
}

/* The block of that table entry goes to a free cluster, which it counts itself or another block does. */
static int make_block(BlockDriverState *bs, uint32_t table_index, uint64_t cluster_index)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t offset = (int64_t)(cluster_index << s->cluster_bits);
    bool itself = cluster_index >> s->refcount_block_bits == table_index;

    SIM_ASSERT(!has_block(s, table_index));
    SIM_ASSERT(itself || has_block(s, cluster_index >> s->refcount_block_bits));
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

/* --- a larger table --------------------------------------------------------------------------------------- */

/* What comes into being behind everything else: blocks, then the table. */
struct growth {
    struct span area;     /* clusters */
    uint64_t keep_blocks; /* blocks that the caller's clusters lack, as far as they count nothing of the area */
    uint64_t keep_first;  /* table indices of the caller's clusters, up to area_first - 1 */
    uint64_t area_first;  /* of the area: all of them lack a block */
    uint64_t area_blocks;
    uint64_t entries; /* of the new table: fills its clusters */
};

static uint64_t entries_per_cluster(const BDRVQcow2State *s)
{
    return (uint64_t)s->cluster_size / sizeof(uint64_t);
}

static int plan_growth(const BDRVQcow2State *s, const struct span *keep, struct growth *g)
{
    uint64_t old_end = (uint64_t)s->refcount_table_size << s->refcount_block_bits;

    *g = (struct growth){.area.first = MAX(old_end, keep->end)};
    g->area_first = g->area.first >> s->refcount_block_bits;
    g->keep_first = keep->first >> s->refcount_block_bits;
    for (uint64_t i = g->keep_first; i <= (keep->end - 1) >> s->refcount_block_bits && i < g->area_first; i++) {
        g->keep_blocks += !has_block(s, i);
    }
    uint64_t half_more = (uint64_t)s->refcount_table_size + DIV_ROUND_UP((uint64_t)s->refcount_table_size, 2);
    g->area_blocks = 1;
    /* Each block or cluster of the table that the area needs more may need another one to be counted in. */
    for (bool again = true; again;) {
        g->entries = ROUND_UP(MAX(half_more, g->area_first + g->area_blocks), entries_per_cluster(s));
        if (g->entries * sizeof(uint64_t) > QCOW2_MAX_REFTABLE_BYTES) {
            return -EFBIG;
        }
        g->area.end = g->area.first + g->keep_blocks + g->area_blocks + g->entries / entries_per_cluster(s);
        uint64_t blocks = ((g->area.end - 1) >> s->refcount_block_bits) - g->area_first + 1;
        again = blocks > g->area_blocks;
        g->area_blocks = MAX(g->area_blocks, blocks);
    }
    SIM_ASSERT(g->area_blocks > 0 && g->area.end > g->area.first);
    return g->area.end > (uint64_t)MAX_HOST_OFFSET >> s->cluster_bits ? -EFBIG : 0;
}

/* One new block: it counts what of the area falls to it. buf is a cluster. */
static int write_area_block(BlockDriverState *bs, const struct growth *g, uint64_t table_index, uint64_t at,
                            uint8_t *buf)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t first = table_index << s->refcount_block_bits;

    memset(buf, 0, (size_t)s->cluster_size);
    for (uint64_t i = MAX(first, g->area.first); i < MIN(first + counts_per_block(s), g->area.end); i++) {
        qcow2_refcount_set(s, buf, i - first, 1);
    }
    return qcow2_pwrite(bs, (int64_t)(at << s->cluster_bits), s->cluster_size, buf);
}

/* Writes all blocks and puts them into the table; then they are stable. */
static int write_area_blocks(BlockDriverState *bs, const struct growth *g, uint64_t *table)
{
    const BDRVQcow2State *s = bs->opaque;
    uint8_t *buf = qcow2_alloc(bs, (size_t)s->cluster_size);
    uint64_t at = g->area.first;
    int ret = 0;

    bdrv_co_debug_event(bs->file->bs, BLKDBG_REFBLOCK_ALLOC_WRITE_BLOCKS);
    uint64_t made = 0;
    for (uint64_t i = g->keep_first; made < g->keep_blocks && ret == 0; i++) {
        if (!has_block(s, i)) {
            table[i] = at << s->cluster_bits;
            ret = write_area_block(bs, g, i, at++, buf);
            made++;
        }
    }
    for (uint64_t i = g->area_first; i < g->area_first + g->area_blocks && ret == 0; i++) {
        table[i] = at << s->cluster_bits;
        ret = write_area_block(bs, g, i, at++, buf);
    }
    qcow2_free(bs, buf, (size_t)s->cluster_size);
    return ret < 0 ? ret : bdrv_co_flush(bs->file->bs);
}

static int write_new_table(BlockDriverState *bs, int64_t offset, uint64_t *table, uint64_t entries)
{
    bdrv_co_debug_event(bs->file->bs, BLKDBG_REFBLOCK_ALLOC_WRITE_TABLE);
    for (uint64_t i = 0; i < entries; i++) {
        table[i] = htobe64(table[i]);
    }
    int ret = qcow2_pwrite_sync(bs, offset, (int64_t)(entries * sizeof(uint64_t)), table);
    for (uint64_t i = 0; i < entries; i++) {
        table[i] = be64toh(table[i]);
    }
    return ret;
}

static int64_t table_place(const BDRVQcow2State *s, const struct growth *g)
{
    return (int64_t)((g->area.first + g->keep_blocks + g->area_blocks) << s->cluster_bits);
}

static int write_growth(BlockDriverState *bs, const struct growth *g, uint64_t *table)
{
    BDRVQcow2State *s = bs->opaque;

    int ret = qcow2_pre_write_overlap_check(bs, 0, (int64_t)(g->area.first << s->cluster_bits),
                                            (int64_t)((g->area.end - g->area.first) << s->cluster_bits), false);
    if (ret == 0) {
        ret = write_area_blocks(bs, g, table);
    }
    if (ret == 0) {
        ret = write_new_table(bs, table_place(s, g), table, g->entries);
    }
    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(bs->file->bs, BLKDBG_REFBLOCK_ALLOC_SWITCH_TABLE);
    ret = write_header_fields(bs, table_place(s, g), g->entries);
    s->reftable_switch_unsure = ret < 0;
    return ret;
}

/* A larger table, with a block for everything in keep. */
static int grow_table(BlockDriverState *bs, const struct span *keep)
{
    BDRVQcow2State *s = bs->opaque;
    struct growth g;

    SIM_MARK(bs->host->sim, qcow2_reftable_grown);
    bdrv_co_debug_event(bs->file->bs, BLKDBG_REFTABLE_GROW);
    int ret = plan_growth(s, keep, &g);
    if (ret < 0) {
        return ret;
    }
    uint64_t *table = qcow2_alloc(bs, g.entries * sizeof(uint64_t));
    if (s->refcount_table_size > 0) {
        memcpy(table, s->refcount_table, s->refcount_table_size * sizeof(uint64_t));
    }
    ret = write_growth(bs, &g, table);
    if (ret < 0) {
        qcow2_free(bs, table, g.entries * sizeof(uint64_t));
        return ret;
    }
    int64_t old_offset = s->refcount_table_offset;
    int64_t old_bytes = (int64_t)s->refcount_table_size * (int64_t)sizeof(uint64_t);
    qcow2_free(bs, s->refcount_table, (size_t)old_bytes);
    s->refcount_table = table;
    s->refcount_table_size = (uint32_t)g.entries;
    s->refcount_table_offset = table_place(s, &g);
    s->max_refcount_table_index = (uint32_t)(g.area_first + g.area_blocks - 1);
    qcow2_free_clusters(bs, old_offset, old_bytes, QCOW2_DISCARD_OTHER);
    return 0;
}

/* --- all that a range needs --------------------------------------------------------------------------------- */

static int add_block(BlockDriverState *bs, uint32_t table_index, const struct span *keep)
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
            return grow_table(bs, keep);
        }
        if (counted_in == table_index || has_block(s, counted_in)) {
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
    if (end > MAX_HOST_OFFSET) {
        return -EFBIG;
    }
    struct span keep = {(uint64_t)start >> s->cluster_bits, (uint64_t)size_to_clusters(s, end)};
    for (uint64_t i = keep.first >> s->refcount_block_bits; i <= (keep.end - 1) >> s->refcount_block_bits; i++) {
        if (has_block(s, i)) {
            continue;
        }
        int ret = make_sure(bs);
        if (ret == 0) {
            ret = i >= s->refcount_table_size ? grow_table(bs, &keep) : add_block(bs, (uint32_t)i, &keep);
        }
        if (ret < 0) {
            return ret;
        }
        SIM_ASSERT(has_block(s, i));
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
    for (uint64_t i = 0; i < counts_per_block(s) && *idle; i++) {
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
        if (!has_block(s, i)) {
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
    while (s->max_refcount_table_index > 0 && !has_block(s, s->max_refcount_table_index)) {
        s->max_refcount_table_index--;
    }
    return ret;
}
