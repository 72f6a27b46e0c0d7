/*
 * Counts of what an L1 table refers to, all at once (reference/bitmaps-qcow2.md 5.5, 5.7).
 *
 * COPIED in an active table says: nobody else has this cluster, write in place. It must never say so while somebody
 * else has it. So it is cleared, and that is stable, before counts of the active tables go up; and it is set only
 * where the count is 1 and that is stable. In between it is missing where it could be set, which costs a copy and
 * nothing else.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2_check_int.h"

/* Runs of clusters that an L1 table refers to, in an order that does not depend on flags: what was done to the
 * first n of them can be taken back. */
struct ref_walk {
    BlockDriverState *bs;
    const uint64_t *l1;
    uint32_t l1_size;
    uint64_t addend;
    bool decrease;
    uint64_t done;  /* runs */
    uint64_t limit; /* stop after so many */
    int64_t start;  /* run not done yet */
    int64_t bytes;
};

static int finish_run(struct ref_walk *w)
{
    int ret = 0;

    if (w->bytes > 0) {
        if (w->done == w->limit) {
            return -ECANCELED;
        }
        ret = qcow2_update_refcount(w->bs, w->start, w->bytes, w->addend, w->decrease, QCOW2_DISCARD_SNAPSHOT);
        w->done += ret == 0;
    }
    w->bytes = 0;
    return ret;
}

/* Whole clusters that follow each other go together. */
static int add_cluster(struct ref_walk *w, int64_t offset)
{
    const BDRVQcow2State *s = w->bs->opaque;
    int ret = w->bytes > 0 && offset != w->start + w->bytes ? finish_run(w) : 0;

    if (ret == 0) {
        w->start = w->bytes > 0 ? w->start : offset;
        w->bytes += s->cluster_size;
    }
    return ret;
}

/* Each stream counts once in each cluster that its sectors touch. */
static int add_compressed(struct ref_walk *w, uint64_t entry)
{
    int64_t offset, bytes;
    int ret = finish_run(w);

    if (ret == 0) {
        qcow2_parse_compressed_l2_entry(w->bs, entry, &offset, &bytes);
        w->start = offset & ~(int64_t)(SIM_SECTOR_BYTES - 1);
        w->bytes = offset + bytes - w->start;
        ret = finish_run(w);
    }
    return ret;
}

static int add_entry(struct ref_walk *w, uint64_t entry)
{
    const BDRVQcow2State *s = w->bs->opaque;
    int64_t offset = (int64_t)(entry & L2E_OFFSET_MASK);

    switch (qcow2_get_cluster_type(w->bs, entry)) {
    case QCOW2_CLUSTER_COMPRESSED:
        return add_compressed(w, entry);
    case QCOW2_CLUSTER_NORMAL:
    case QCOW2_CLUSTER_ZERO_ALLOC:
        if (offset_into_cluster(s, offset)) {
            qcow2_signal_corruption(w->bs, true, -1, -1, "Cluster allocation offset %#llx unaligned",
                                    (unsigned long long)offset);
            return -EIO;
        }
        return add_cluster(w, offset);
    case QCOW2_CLUSTER_UNALLOCATED:
    case QCOW2_CLUSTER_ZERO_PLAIN:
        break;
    }
    return 0;
}

/* The entries are taken out of the table first: counting may need the cache. */
static int add_slice(struct ref_walk *w, int64_t offset, uint64_t *entries)
{
    BDRVQcow2State *s = w->bs->opaque;
    uint8_t *slice = NULL;
    int ret = qcow2_cache_get(w->bs, s->l2_table_cache, offset, &slice);

    if (ret < 0) {
        return ret;
    }
    for (unsigned i = 0; i < s->l2_slice_size; i++) {
        entries[i] = get_l2_entry(s, slice, i);
    }
    qcow2_cache_put(s->l2_table_cache, &slice);
    for (unsigned i = 0; ret == 0 && i < s->l2_slice_size; i++) {
        ret = entries[i] ? add_entry(w, entries[i]) : 0;
    }
    return ret;
}

static int add_l2(struct ref_walk *w, uint64_t l1_entry, uint64_t *entries)
{
    BDRVQcow2State *s = w->bs->opaque;
    int64_t offset = (int64_t)(l1_entry & L1E_OFFSET_MASK);
    int64_t slice_bytes = (int64_t)s->l2_slice_size * s->l2_entry_size;
    int ret = 0;

    if (offset_into_cluster(s, offset)) {
        qcow2_signal_corruption(w->bs, true, -1, -1, "L2 table offset %#llx unaligned", (unsigned long long)offset);
        return -EIO;
    }
    for (int64_t at = 0; ret == 0 && at < s->cluster_size; at += slice_bytes) {
        ret = add_slice(w, offset + at, entries);
    }
    return ret < 0 ? ret : add_cluster(w, offset);
}

static int walk(struct ref_walk *w)
{
    BDRVQcow2State *s = w->bs->opaque;
    size_t bytes = (size_t)s->l2_slice_size * sizeof(uint64_t);
    uint64_t *entries = qcow2_alloc(w->bs, bytes);
    int ret = 0;

    for (uint32_t i = 0; ret == 0 && i < w->l1_size; i++) {
        if (w->l1[i] & L1E_OFFSET_MASK) {
            ret = add_l2(w, w->l1[i], entries);
        }
    }
    if (ret == 0) {
        ret = finish_run(w);
    }
    qcow2_free(w->bs, entries, bytes);
    return ret;
}

/* All of them or none. An increment that cannot be taken back leaves counts too high: leaks. */
static int change_counts(BlockDriverState *bs, const uint64_t *l1, uint32_t l1_size, int addend)
{
    BDRVQcow2State *s = bs->opaque;
    struct ref_walk w = {
        .bs = bs, .l1 = l1, .l1_size = l1_size, .addend = 1, .decrease = addend < 0, .limit = UINT64_MAX};
    int ret = walk(&w);

    if (ret < 0 && addend > 0) {
        struct ref_walk undo = {
            .bs = bs, .l1 = l1, .l1_size = l1_size, .addend = 1, .decrease = true, .limit = w.done};
        int undone = walk(&undo);
        SIM_MARK(bs->host->sim, qcow2_snapshot_counts_undone);
        if (undone < 0 && undone != -ECANCELED) {
            s->needs_repair = true;
        }
    } else if (ret < 0) {
        s->needs_repair = true;
    }
    return ret;
}

/* --- COPIED ------------------------------------------------------------------------------------------------- */

/* What the flag should be: off for all, or as the counts say. */
static int want_copied(BlockDriverState *bs, int64_t offset, bool by_count, bool *want)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t count = 0;
    int ret = by_count ? qcow2_get_refcount(bs, (uint64_t)offset >> s->cluster_bits, &count) : 0;

    *want = count == 1;
    return ret;
}

/* The slice stays pinned while counts are read: they come through the other cache. */
static int copied_slice(BlockDriverState *bs, int64_t offset, bool by_count)
{
    BDRVQcow2State *s = bs->opaque;
    uint8_t *slice = NULL;
    int ret = qcow2_cache_get(bs, s->l2_table_cache, offset, &slice);

    for (unsigned i = 0; ret == 0 && i < s->l2_slice_size; i++) {
        uint64_t entry = get_l2_entry(s, slice, i);
        QCow2ClusterType type = entry ? qcow2_get_cluster_type(bs, entry) : QCOW2_CLUSTER_UNALLOCATED;
        bool want;
        if (type != QCOW2_CLUSTER_NORMAL && type != QCOW2_CLUSTER_ZERO_ALLOC) {
            continue;
        }
        ret = want_copied(bs, (int64_t)(entry & L2E_OFFSET_MASK), by_count, &want);
        if (ret == 0 && want != ((entry & QCOW_OFLAG_COPIED) != 0)) {
            set_l2_entry(s, slice, i, entry ^ QCOW_OFLAG_COPIED);
            qcow2_cache_entry_mark_dirty(s->l2_table_cache, slice);
        }
    }
    if (slice) {
        qcow2_cache_put(s->l2_table_cache, &slice);
    }
    return ret;
}

static int write_active_l1(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    size_t bytes = (size_t)s->l1_size * 8;
    uint8_t *table = qcow2_alloc(bs, bytes);

    for (uint32_t i = 0; i < s->l1_size; i++) {
        qcow2_put_be64(table + (size_t)i * 8, s->l1_table[i]);
    }
    int ret = qcow2_header_make_sure(bs);
    if (ret == 0) {
        ret = qcow2_pre_write_overlap_check(bs, QCOW2_OL_ACTIVE_L1, s->l1_table_offset, (int64_t)bytes, false);
    }
    if (ret == 0) {
        ret = qcow2_pwrite(bs, s->l1_table_offset, (int64_t)bytes, table);
    }
    qcow2_free(bs, table, bytes);
    return ret;
}

/* In all active tables; stable when it returns. Two tables of a hostile image may be one: then the flags are what
 * the counts say, whichever names it. */
static int fix_copied(BlockDriverState *bs, bool by_count)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t slice_bytes = (int64_t)s->l2_slice_size * s->l2_entry_size;
    bool changed = false;
    int ret = 0;

    for (uint32_t i = 0; ret == 0 && i < s->l1_size; i++) {
        int64_t offset = (int64_t)(s->l1_table[i] & L1E_OFFSET_MASK);
        bool want = false;
        if (offset == 0) {
            continue;
        }
        for (int64_t at = 0; ret == 0 && at < s->cluster_size; at += slice_bytes) {
            ret = copied_slice(bs, offset + at, by_count);
        }
        if (ret == 0) {
            ret = want_copied(bs, offset, by_count, &want);
        }
        if (ret == 0 && want != ((s->l1_table[i] & QCOW_OFLAG_COPIED) != 0)) {
            qcow2_set_l1_entry(bs, i, s->l1_table[i] ^ QCOW_OFLAG_COPIED);
            changed = true;
        }
    }
    int written = changed ? write_active_l1(bs) : 0;
    ret = ret < 0 ? ret : written;
    int flushed = qcow2_cache_flush(bs, s->l2_table_cache);
    return ret < 0 ? ret : flushed;
}

/* --- the whole ---------------------------------------------------------------------------------------------- */

/* In host order; the active one is in memory. */
static int load_l1(BlockDriverState *bs, int64_t offset, uint32_t size, uint64_t **out)
{
    const BDRVQcow2State *s = bs->opaque;
    size_t bytes = (size_t)size * 8;
    uint64_t *l1 = qcow2_alloc(bs, bytes);
    int ret = 0;

    if (size > 0 && offset == s->l1_table_offset) {
        SIM_ASSERT_EQ(size, s->l1_size);
        memcpy(l1, s->l1_table, bytes);
    } else {
        ret = qcow2_pread(bs, offset, (int64_t)bytes, l1);
        for (uint32_t i = 0; i < size; i++) {
            l1[i] = be64toh(l1[i]);
        }
    }
    *out = l1;
    return ret;
}

/* COPIED by the counts, once these are stable. */
static int settle_copied(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = qcow2_cache_flush(bs, s->refcount_block_cache);

    return ret < 0 ? ret : fix_copied(bs, true);
}

int qcow2_update_snapshot_refcount(BlockDriverState *bs, int64_t l1_table_offset, uint32_t l1_size, int addend)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t *l1 = NULL;
    int ret = 0;

    SIM_ASSERT(addend >= -1 && addend <= 1);
    SIM_ASSERT(!has_data_file(bs));
    if (addend != 0) {
        ret = load_l1(bs, l1_table_offset, l1_size, &l1);
    }
    if (ret == 0 && addend > 0 && l1_size > 0 && l1_table_offset == s->l1_table_offset) {
        ret = fix_copied(bs, false);
    }
    if (ret == 0 && addend != 0) {
        ret = change_counts(bs, l1, l1_size, addend);
    }
    int settled = settle_copied(bs);
    if (ret == 0 && settled < 0 && addend > 0) {
        /* raised in the caches, but that will not become stable: whoever wanted it does without */
        change_counts(bs, l1, l1_size, -1);
        ret = settled;
        settled = settle_copied(bs);
    }
    if (settled < 0) {
        s->needs_repair = true; /* flags are missing, or counts too high: nothing that harms */
    }
    qcow2_free(bs, l1, (size_t)l1_size * 8);
    return ret < 0 ? ret : settled;
}
