/*
 * qcow2: a larger refcount table (5.4, 5.5).
 *
 *     | all that the old table can count | what the caller is about to count | new blocks | new table |
 *
 * The new blocks count everything behind the old table's reach that is in use, themselves and the table included.
 * They are stable before the table is written, the table before the header names it; then the old one is freed.
 */
#include <errno.h>

#include "block/qcow2_refcount_int.h"

#define HEADER_REFTABLE_OFFSET 48 /* of the fields refcount_table_offset and refcount_table_clusters: 12 bytes */
#define HEADER_REFTABLE_BYTES 12

/* Offset and size of the table in the header: one write, then a flush. */
static int write_fields(BlockDriverState *bs, int64_t offset, uint64_t entries)
{
    const BDRVQcow2State *s = bs->opaque;
    uint8_t fields[HEADER_REFTABLE_BYTES];
    uint32_t clusters = htobe32((uint32_t)size_to_clusters(s, (int64_t)entries * (int64_t)sizeof(uint64_t)));

    qcow2_put_be64(fields, (uint64_t)offset);
    memcpy(fields + 8, &clusters, sizeof(clusters));
    return qcow2_pwrite_sync(bs, HEADER_REFTABLE_OFFSET, sizeof(fields), fields);
}

/* What comes into being behind everything else: blocks, then the table. */
struct growth {
    struct qcow2_span area; /* clusters */
    uint64_t keep_blocks;   /* blocks that the caller's clusters lack, as far as they count nothing of the area */
    uint64_t keep_first;    /* table indices of the caller's clusters, up to area_first - 1 */
    uint64_t area_first;    /* of the area: all of them lack a block */
    uint64_t area_blocks;
    uint64_t entries; /* of the new table: fills its clusters */
};

static uint64_t entries_per_cluster(const BDRVQcow2State *s)
{
    return (uint64_t)s->cluster_size / sizeof(uint64_t);
}

static int plan_growth(const BDRVQcow2State *s, const struct qcow2_span *keep, struct growth *g)
{
    uint64_t old_end = (uint64_t)s->refcount_table_size << s->refcount_block_bits;

    *g = (struct growth){.area.first = MAX(old_end, keep->end)};
    g->area_first = g->area.first >> s->refcount_block_bits;
    g->keep_first = keep->first >> s->refcount_block_bits;
    for (uint64_t i = g->keep_first; i <= (keep->end - 1) >> s->refcount_block_bits && i < g->area_first; i++) {
        g->keep_blocks += !qcow2_has_refblock(s, i);
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
    return g->area.end > (uint64_t)QCOW2_MAX_HOST_OFFSET >> s->cluster_bits ? -EFBIG : 0;
}

/* One new block: it counts what of the area falls to it. buf is a cluster. */
static int write_area_block(BlockDriverState *bs, const struct growth *g, uint64_t table_index, uint64_t at,
                            uint8_t *buf)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t first = table_index << s->refcount_block_bits;

    memset(buf, 0, (size_t)s->cluster_size);
    for (uint64_t i = MAX(first, g->area.first); i < MIN(first + qcow2_counts_per_block(s), g->area.end); i++) {
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
        if (!qcow2_has_refblock(s, i)) {
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
    ret = write_fields(bs, table_place(s, g), g->entries);
    s->header_unsure = ret < 0;
    return ret;
}

int qcow2_grow_reftable(BlockDriverState *bs, const struct qcow2_span *keep)
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
