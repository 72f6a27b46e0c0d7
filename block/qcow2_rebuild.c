/*
 * New refcount structures for an image whose own cannot be mended (reference/bitmaps-qcow2.md 5.8).
 *
 * They are put where neither anything in use nor the old structures lie, are stable before one write switches the
 * header to them, and count the old ones too: power that fails before the switch leaves the image as it was, and
 * after it nothing but leaks. Who called frees the old structures, by looking for leaks.
 */
#include <errno.h>

#include "block/qcow2_check_int.h"

struct rebuild {
    struct qcow2_check *c;
    uint64_t *table; /* offset of each block, host order; 0: none needed */
    uint64_t nb_entries;
    uint64_t capacity;    /* of the memory: a power of two */
    int64_t table_offset; /* 0: not placed */
    int64_t table_clusters;
    uint64_t cursor; /* no free cluster below */
};

/* A run of clusters that nobody uses, first fit; counted from now on. What the image refers to beyond the end of
 * its file is not counted, and must not be what the file grows over: -EFBIG. */
static int64_t take_clusters(struct rebuild *r, uint64_t n)
{
    struct qcow2_check *c = r->c;
    const BDRVQcow2State *s = c->bs->opaque;
    uint64_t run = 0, at = r->cursor;

    SIM_ASSERT(n > 0);
    while (run < n) {
        run = qcow2_sparse_get(&c->counts.map, at++) == 0 ? run + 1 : 0;
    }
    uint64_t first = at - n;
    if (at > (uint64_t)(INT64_MAX >> s->cluster_bits) || at > c->counts.first_beyond) {
        return -EFBIG;
    }
    for (uint64_t i = 0; i < n; i++) {
        qcow2_sparse_add(&c->counts.map, first + i, 1);
    }
    if (n == 1) {
        r->cursor = at;
    }
    c->counts.nb_clusters = MAX(c->counts.nb_clusters, at);
    return (int64_t)(first << s->cluster_bits);
}

static int grow_table(struct rebuild *r, uint64_t index)
{
    BlockDriverState *bs = r->c->bs;

    if (index >= QCOW2_MAX_REFTABLE_BYTES / 8) {
        return -EFBIG;
    }
    if (index >= r->capacity) {
        uint64_t capacity = MAX(r->capacity, 64);
        while (capacity <= index) {
            capacity *= 2;
        }
        uint64_t *table = qcow2_alloc(bs, (size_t)capacity * 8);
        if (r->table) {
            memcpy(table, r->table, (size_t)r->nb_entries * 8);
        }
        qcow2_free(bs, r->table, (size_t)r->capacity * 8);
        r->table = table;
        r->capacity = capacity;
    }
    r->nb_entries = MAX(r->nb_entries, index + 1);
    return 0;
}

/* A block for each stretch of clusters that are used. *more: clusters were taken, so there may be new stretches. */
static int place_blocks(struct rebuild *r, bool *more)
{
    struct qcow2_sparse *map = &r->c->counts.map;
    const BDRVQcow2State *s = r->c->bs->opaque;
    size_t nb_leaves = map->nb_leaves;
    struct qcow2_leaf **leaves = qcow2_sparse_sorted(map);
    int ret = 0;

    for (size_t n = 0; ret == 0 && n < nb_leaves; n++) {
        for (unsigned i = 0; ret == 0 && i < QCOW2_LEAF_ITEMS; i++) {
            uint64_t index = (leaves[n]->first + i) >> s->refcount_block_bits;
            if (leaves[n]->value[i] == 0 || (index < r->nb_entries && r->table[index] != 0)) {
                continue;
            }
            ret = grow_table(r, index);
            int64_t offset = ret == 0 ? take_clusters(r, 1) : ret;
            if (offset < 0) {
                ret = (int)offset;
                break;
            }
            r->table[index] = (uint64_t)offset;
            *more = true;
        }
    }
    qcow2_sparse_sorted_free(map, leaves, nb_leaves);
    return ret;
}

/* Places that suffice for all, their own clusters included. A table that turns out too small is placed anew: what
 * it had taken stays counted, a leak that the search for leaks afterwards finds. */
static int place_all(struct rebuild *r)
{
    const BDRVQcow2State *s = r->c->bs->opaque;
    bool more = true;

    while (more) {
        more = false;
        int ret = place_blocks(r, &more);
        if (ret < 0) {
            return ret;
        }
        int64_t clusters = size_to_clusters(s, (int64_t)r->nb_entries * 8);
        if (clusters > r->table_clusters) {
            int64_t offset = take_clusters(r, (uint64_t)clusters);
            if (offset < 0) {
                return (int)offset;
            }
            r->table_offset = offset;
            r->table_clusters = clusters;
            more = true;
        }
    }
    return 0;
}

static int write_block(struct rebuild *r, uint64_t index)
{
    struct qcow2_check *c = r->c;
    const BDRVQcow2State *s = c->bs->opaque;
    uint64_t first = index << s->refcount_block_bits;

    memset(c->block, 0, (size_t)s->cluster_size);
    for (uint64_t i = 0; i < 1ULL << s->refcount_block_bits && first + i < c->counts.nb_clusters; i++) {
        uint64_t count = qcow2_sparse_get(&c->counts.map, first + i);
        if (count > s->refcount_max) {
            qcow2_check_say(c->res, "ERROR: %u bits cannot hold the refcount of cluster %llu", s->refcount_bits,
                            (unsigned long long)(first + i));
            return -EINVAL;
        }
        qcow2_refcount_set(s, c->block, i, count);
    }
    /* no overlap check: the places were chosen by the truth, while the old table may point anywhere */
    return qcow2_pwrite(c->bs, (int64_t)r->table[index], s->cluster_size, c->block);
}

static int write_table(struct rebuild *r)
{
    BlockDriverState *bs = r->c->bs;
    const BDRVQcow2State *s = bs->opaque;
    size_t bytes = (size_t)r->table_clusters << s->cluster_bits;
    uint8_t *table = qcow2_alloc(bs, bytes);

    for (uint64_t i = 0; i < r->nb_entries; i++) {
        qcow2_put_be64(table + i * 8, r->table[i]);
    }
    int ret = qcow2_pwrite_sync(bs, r->table_offset, (int64_t)bytes, table);
    qcow2_free(bs, table, bytes);
    return ret;
}

/* Everything is stable but the header: one write makes it so. */
static int switch_header(struct rebuild *r)
{
    BlockDriverState *bs = r->c->bs;
    BDRVQcow2State *s = bs->opaque;
    uint8_t field[12];
    uint32_t clusters = htobe32((uint32_t)r->table_clusters);

    qcow2_put_be64(field, (uint64_t)r->table_offset);
    memcpy(field + 8, &clusters, sizeof(clusters));
    int ret = qcow2_pwrite_sync(bs, 48, sizeof(field), field);
    if (ret < 0) {
        return ret;
    }
    uint32_t entries = (uint32_t)(((uint64_t)r->table_clusters << s->cluster_bits) / 8);
    uint64_t *table = qcow2_alloc(bs, (size_t)entries * 8);
    memcpy(table, r->table, (size_t)r->nb_entries * 8);
    qcow2_free(bs, s->refcount_table, (size_t)s->refcount_table_size * 8);
    s->refcount_table = table;
    s->refcount_table_size = entries;
    s->refcount_table_offset = r->table_offset;
    s->max_refcount_table_index = (uint32_t)(r->nb_entries - 1);
    s->free_cluster_index = 0;
    s->free_byte_offset = 0;
    return 0;
}

static int write_all(struct rebuild *r)
{
    int ret = 0;

    for (uint64_t i = 0; ret == 0 && i < r->nb_entries; i++) {
        if (r->table[i] != 0) {
            ret = write_block(r, i);
        }
    }
    if (ret == 0) {
        ret = bdrv_co_flush(r->c->bs->file->bs);
    }
    if (ret == 0) {
        ret = write_table(r);
    }
    return ret < 0 ? ret : switch_header(r);
}

int qcow2_rebuild_refcounts(struct qcow2_check *c)
{
    BDRVQcow2State *s = c->bs->opaque;
    struct rebuild r = {.c = c};
    /* blocks that the caches hold belong to the old structures */
    int ret = qcow2_repair_settle(c->bs);

    if (ret == 0) {
        ret = place_all(&r);
    }
    if (ret == 0) {
        SIM_ASSERT(r.nb_entries > 0 && r.table_offset != 0);
        ret = write_all(&r);
    }
    c->block_valid = false;
    if (ret == 0) {
        ret = qcow2_cache_empty(c->bs, s->refcount_block_cache);
    } else {
        qcow2_check_say(c->res, "ERROR: refcount structures could not be rebuilt: %s", sim_errno_text(ret));
        c->res->check_errors++;
    }
    qcow2_free(c->bs, r.table, (size_t)r.capacity * 8);
    return ret;
}
