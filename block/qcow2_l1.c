/*
 * The L1 table (5.2, 5.4, 5.5): L2 tables are made, or copied when a snapshot shares them, and the table itself
 * grows and is cut.
 *
 * On disk a new table is complete and stable before anything points to it, and what it replaces is given up only
 * after that; the original once lowered the count of a shared table first, and lost it with the power. A pointer
 * that could not be written may be there or not: it is written back, and if even that fails its target is left
 * alone for good. A cluster is lost, no data.
 */
#include "block/qcow2_write.h"

#include <errno.h>
#include <limits.h>

#define L1_ENTRY_BYTES 8
#define HEADER_L1_SIZE 36 /* and the offset behind it */
#define HEADER_L1_BYTES 12

/* --- entries ------------------------------------------------------------------------------------------------- */

/* The block of entries around the index that the file can write without reading first. */
static int write_entry(BlockDriverState *bs, uint32_t l1_index)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t unit = MAX((int64_t)bs->file->bs->bl.request_alignment, (int64_t)L1_ENTRY_BYTES);
    uint8_t block[SIM_PAGE_BYTES];

    unit = MIN(MIN(unit, s->cluster_size), (int64_t)sizeof(block));
    uint32_t count = (uint32_t)(unit / L1_ENTRY_BYTES);
    uint32_t first = l1_index / count * count;
    memset(block, 0, sizeof(block));
    for (uint32_t i = 0; i < count && first + i < s->l1_size; i++) {
        qcow2_put_be64(block + (size_t)i * L1_ENTRY_BYTES, s->l1_table[first + i]);
    }
    int64_t offset = s->l1_table_offset + (int64_t)first * L1_ENTRY_BYTES;
    int ret = qcow2_header_make_sure(bs); /* in the table that will be read */
    if (ret == 0) {
        ret = qcow2_pre_write_overlap_check(bs, QCOW2_OL_ACTIVE_L1, offset, unit, false);
    }
    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(bs->file->bs, BLKDBG_L1_UPDATE);
    return qcow2_pwrite_sync(bs, offset, unit, block);
}

int qcow2_write_l1_entry(BlockDriverState *bs, uint32_t l1_index)
{
    BDRVQcow2State *s = bs->opaque;

    SIM_ASSERT_LT(l1_index, s->l1_size);
    return write_entry(bs, l1_index);
}

/* --- L2 tables ----------------------------------------------------------------------------------------------- */

static int64_t slice_bytes(const BDRVQcow2State *s)
{
    return (int64_t)s->l2_slice_size * s->l2_entry_size;
}

/* One slice of the new table: of the old one, or zeros. */
static int fill_slice(BlockDriverState *bs, int64_t old_offset, int64_t new_offset)
{
    BDRVQcow2State *s = bs->opaque;
    uint8_t *old = NULL;
    uint8_t *fresh;

    int ret = qcow2_cache_get_empty(bs, s->l2_table_cache, new_offset, &fresh);
    if (ret < 0) {
        return ret;
    }
    if (old_offset > 0) {
        bdrv_co_debug_event(bs->file->bs, BLKDBG_L2_ALLOC_COW_READ);
        ret = qcow2_cache_get(bs, s->l2_table_cache, old_offset, &old);
    }
    if (ret == 0 && old != NULL) {
        memcpy(fresh, old, (size_t)slice_bytes(s));
        qcow2_cache_put(s->l2_table_cache, &old);
    } else {
        memset(fresh, 0, (size_t)slice_bytes(s));
    }
    qcow2_cache_entry_mark_dirty(s->l2_table_cache, fresh);
    qcow2_cache_put(s->l2_table_cache, &fresh);
    return ret;
}

static void forget_table(BlockDriverState *bs, int64_t l2_offset)
{
    BDRVQcow2State *s = bs->opaque;

    for (int64_t at = 0; at < s->cluster_size; at += slice_bytes(s)) {
        uint8_t *table = qcow2_cache_is_table_offset(s->l2_table_cache, l2_offset + at);
        if (table != NULL) {
            qcow2_cache_discard(s->l2_table_cache, table);
        }
    }
}

/* A table that is stable, with its count: the offset, or -errno. old_offset 0: all zeros. */
static int64_t new_table(BlockDriverState *bs, int64_t old_offset)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t offset = qcow2_alloc_clusters_for(bs, s->cluster_size, "L2 table");

    if (offset < 0) {
        return offset;
    }
    SIM_ASSERT(offset > 0);
    int ret = qcow2_cache_flush(bs, s->refcount_block_cache);
    for (int64_t at = 0; at < s->cluster_size && ret == 0; at += slice_bytes(s)) {
        ret = fill_slice(bs, old_offset > 0 ? old_offset + at : 0, offset + at);
    }
    if (ret == 0) {
        bdrv_co_debug_event(bs->file->bs, BLKDBG_L2_ALLOC_WRITE);
        ret = qcow2_cache_flush(bs, s->l2_table_cache);
    }
    if (ret < 0) {
        forget_table(bs, offset);
        qcow2_free_new_clusters(bs, offset, s->cluster_size);
        return ret;
    }
    return offset;
}

/* L1 could not be switched to the new table: back to the old. */
static void unlink_table(BlockDriverState *bs, uint32_t l1_index, uint64_t old_entry, int64_t l2_offset)
{
    BDRVQcow2State *s = bs->opaque;

    qcow2_set_l1_entry(bs, l1_index, old_entry);
    forget_table(bs, l2_offset);
    if (qcow2_usable(bs) && write_entry(bs, l1_index) == 0) {
        qcow2_free_clusters(bs, l2_offset, s->cluster_size, QCOW2_DISCARD_OTHER);
    } else {
        SIM_MARK(bs->host->sim, qcow2_pointer_unknown);
    }
}

/* The L1 entry names a table that nobody shares. */
static int make_table(BlockDriverState *bs, uint32_t l1_index)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t old_entry = s->l1_table[l1_index];
    int64_t old_offset = (int64_t)(old_entry & L1E_OFFSET_MASK);

    int64_t offset = new_table(bs, old_offset);
    if (offset < 0) {
        return (int)offset;
    }
    qcow2_set_l1_entry(bs, l1_index, (uint64_t)offset | QCOW_OFLAG_COPIED);
    int ret = write_entry(bs, l1_index);
    if (ret < 0) {
        unlink_table(bs, l1_index, old_entry, offset);
        return ret;
    }
    if (old_offset > 0) {
        SIM_MARK(bs->host->sim, qcow2_l2_copied);
        qcow2_free_clusters(bs, old_offset, s->cluster_size, QCOW2_DISCARD_OTHER);
    }
    return 0;
}

int qcow2_get_cluster_table(BlockDriverState *bs, int64_t offset, uint8_t **slice, unsigned *l2_index)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t l1_index = offset_to_l1_index(s, (uint64_t)offset);
    int ret = 0;

    SIM_ASSERT(offset >= 0);
    if (l1_index >= s->l1_size) {
        ret = qcow2_grow_l1_table(bs, l1_index + 1, false);
    }
    if (ret < 0) {
        return ret;
    }
    uint64_t l2_offset = s->l1_table[l1_index] & L1E_OFFSET_MASK;
    if (offset_into_cluster(s, (int64_t)l2_offset) != 0) {
        qcow2_signal_corruption(bs, true, -1, -1, "L2 table offset %#llx unaligned (L1 index: %#llx)",
                                (unsigned long long)l2_offset, (unsigned long long)l1_index);
        return -EIO;
    }
    if (!(s->l1_table[l1_index] & QCOW_OFLAG_COPIED) || l2_offset == 0) {
        ret = make_table(bs, (uint32_t)l1_index);
        l2_offset = s->l1_table[l1_index] & L1E_OFFSET_MASK;
    }
    if (ret == 0) {
        ret = qcow2_l2_load(bs, offset, (int64_t)l2_offset, slice);
    }
    *l2_index = offset_to_l2_slice_index(s, (uint64_t)offset);
    return ret;
}

/* --- growth -------------------------------------------------------------------------------------------------- */

static int64_t table_bytes(uint64_t entries)
{
    return (int64_t)(entries * L1_ENTRY_BYTES);
}

static int write_table(BlockDriverState *bs, const uint64_t *table, uint64_t entries, int64_t offset)
{
    int64_t bytes = table_bytes(entries);
    uint8_t *raw = qcow2_alloc(bs, (size_t)bytes);

    for (uint64_t i = 0; i < entries; i++) {
        qcow2_put_be64(raw + i * L1_ENTRY_BYTES, table[i]);
    }
    int ret = qcow2_pre_write_overlap_check(bs, 0, offset, bytes, false);
    if (ret == 0) {
        bdrv_co_debug_event(bs->file->bs, BLKDBG_L1_GROW_WRITE_TABLE);
        ret = qcow2_pwrite_sync(bs, offset, bytes, raw);
    }
    qcow2_free(bs, raw, (size_t)bytes);
    return ret;
}

static int write_header_fields(BlockDriverState *bs, uint64_t entries, int64_t offset)
{
    uint8_t fields[HEADER_L1_BYTES];

    qcow2_put_be32(fields, (uint32_t)entries);
    qcow2_put_be64(fields + 4, (uint64_t)offset);
    return qcow2_pwrite_sync(bs, HEADER_L1_SIZE, sizeof(fields), fields);
}

/* The new table has been allocated: it is written and put in the old one's place. */
static int switch_table(BlockDriverState *bs, const uint64_t *table, uint64_t entries, int64_t offset)
{
    BDRVQcow2State *s = bs->opaque;

    int ret = qcow2_cache_flush(bs, s->refcount_block_cache);
    if (ret == 0) {
        ret = write_table(bs, table, entries, offset);
    }
    if (ret < 0) {
        qcow2_free_new_clusters(bs, offset, table_bytes(entries));
        return ret;
    }
    bdrv_co_debug_event(bs->file->bs, BLKDBG_L1_GROW_ACTIVATE_TABLE);
    ret = write_header_fields(bs, entries, offset);
    if (ret < 0) {
        /* Which table the header names nobody knows; before the old one changes it must be that. */
        s->header_unsure = true;
        if (qcow2_header_make_sure(bs) == 0) {
            qcow2_free_clusters(bs, offset, table_bytes(entries), QCOW2_DISCARD_OTHER);
        } else {
            SIM_MARK(bs->host->sim, qcow2_pointer_unknown);
        }
    }
    return ret;
}

static uint64_t grown_size(const BDRVQcow2State *s, uint64_t min_size)
{
    uint64_t size = MAX(s->l1_size, 1u);

    while (size < min_size) {
        size = (size * 3 + 1) / 2;
    }
    return MIN(size, (uint64_t)QCOW2_MAX_L1_BYTES / L1_ENTRY_BYTES);
}

int qcow2_grow_l1_table(BlockDriverState *bs, uint64_t min_size, bool exact_size)
{
    BDRVQcow2State *s = bs->opaque;

    if (min_size <= s->l1_size) {
        return 0;
    }
    if (min_size > (uint64_t)QCOW2_MAX_L1_BYTES / L1_ENTRY_BYTES) {
        return -EFBIG;
    }
    uint64_t size = exact_size ? min_size : grown_size(s, min_size);
    SIM_ASSERT_LE(min_size, size);
    int ret = qcow2_header_make_sure(bs);
    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(bs->file->bs, BLKDBG_L1_GROW_ALLOC_TABLE);
    int64_t offset = qcow2_alloc_clusters(bs, table_bytes(size));
    if (offset < 0) {
        return (int)offset;
    }
    uint64_t *table = qcow2_alloc(bs, (size_t)table_bytes(size));
    if (s->l1_size > 0) { /* an empty disk has none */
        memcpy(table, s->l1_table, (size_t)table_bytes(s->l1_size));
    }
    ret = switch_table(bs, table, size, offset);
    if (ret < 0) {
        qcow2_free(bs, table, (size_t)table_bytes(size));
        return ret;
    }
    SIM_MARK(bs->host->sim, qcow2_l1_grown);
    int64_t old_offset = s->l1_table_offset;
    uint64_t old_size = s->l1_size;
    qcow2_free(bs, s->l1_table, (size_t)table_bytes(old_size));
    s->l1_table = table;
    s->l1_size = (uint32_t)size;
    s->l1_table_offset = offset;
    if (old_size > 0) {
        qcow2_free_clusters(bs, old_offset, table_bytes(old_size), QCOW2_DISCARD_OTHER);
    }
    return 0;
}

/* --- cutting ------------------------------------------------------------------------------------------------- */

int qcow2_shrink_l1_table(BlockDriverState *bs, uint64_t max_size)
{
    BDRVQcow2State *s = bs->opaque;

    if (max_size >= s->l1_size) {
        return 0;
    }
    int64_t offset = s->l1_table_offset + table_bytes(max_size);
    int64_t bytes = table_bytes(s->l1_size - max_size);
    uint8_t *zeros = qcow2_alloc(bs, (size_t)bytes);
    int ret = qcow2_header_make_sure(bs);
    if (ret == 0) {
        ret = qcow2_pre_write_overlap_check(bs, QCOW2_OL_ACTIVE_L1, offset, bytes, false);
    }
    if (ret == 0) {
        bdrv_co_debug_event(bs->file->bs, BLKDBG_L1_SHRINK_WRITE_TABLE);
        ret = qcow2_pwrite_sync(bs, offset, bytes, zeros);
    }
    qcow2_free(bs, zeros, (size_t)bytes);
    if (ret == 0) {
        bdrv_co_debug_event(bs->file->bs, BLKDBG_L1_SHRINK_FREE_L2_CLUSTERS);
    }
    for (uint64_t i = max_size; i < s->l1_size; i++) {
        int64_t l2_offset = (int64_t)(s->l1_table[i] & L1E_OFFSET_MASK);
        /* After a failed write some entries may be on disk still: then their tables stay, and are lost. */
        if (ret == 0 && l2_offset > 0) {
            qcow2_free_clusters(bs, l2_offset, s->cluster_size, QCOW2_DISCARD_ALWAYS);
        }
        qcow2_set_l1_entry(bs, (uint32_t)i, 0);
    }
    return ret;
}
