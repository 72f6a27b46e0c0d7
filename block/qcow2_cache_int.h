/*
 * qcow2's metadata caches from inside: qcow2_cache.c finds and keeps tables, qcow2_writeback.c writes them in
 * order. Nobody else includes this.
 */
#ifndef BLOCK_QCOW2_CACHE_INT_H
#define BLOCK_QCOW2_CACHE_INT_H

#include "block/qcow2.h"

struct qcow2_table {
    Qcow2Cache *cache;
    int64_t offset; /* in the file */
    unsigned pins;
    bool dirty;                          /* in dirty_list */
    bool stale;                          /* discarded while pinned: in no list, goes with the last pin */
    bool used;                           /* since the last cleaning */
    LIST_ENTRY(qcow2_table) hash;        /* in the bucket of its offset */
    TAILQ_ENTRY(qcow2_table) lru;        /* least recently used first */
    TAILQ_ENTRY(qcow2_table) dirty_list; /* in the order in which they became dirty */
    _Alignas(16) uint8_t data[];
};

LIST_HEAD(qcow2_bucket, qcow2_table);
TAILQ_HEAD(qcow2_table_list, qcow2_table);

#define QCOW2_CACHE_BUCKETS 256

struct Qcow2Cache {
    BlockDriverState *bs;
    unsigned tables; /* at most so many */
    unsigned count;  /* with memory now, without stale ones */
    unsigned table_bytes;
    Qcow2Cache *other;     /* to be stable before anything of this one is written; NULL: nothing */
    bool depends_on_flush; /* the data is to be stable before */
    struct qcow2_table_list lru;
    struct qcow2_table_list dirty;
    struct qcow2_bucket bucket[QCOW2_CACHE_BUCKETS];
};

/* Writes one table if it is dirty, after what it depends on. A failure leaves it dirty. */
int qcow2_cache_write_table(BlockDriverState *bs, Qcow2Cache *c, struct qcow2_table *t);

static inline struct qcow2_table *qcow2_table_of(const Qcow2Cache *c, const uint8_t *data)
{
    struct qcow2_table *t = container_of((uint8_t *)(uintptr_t)data, struct qcow2_table, data);
    SIM_ASSERT(t->cache == c);
    return t;
}

#endif
