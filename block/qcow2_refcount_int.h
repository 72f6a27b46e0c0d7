/*
 * qcow2's refcount structures from inside: qcow2_refblock.c makes and drops blocks, qcow2_reftable.c larger tables.
 * Nobody else includes this.
 */
#ifndef BLOCK_QCOW2_REFCOUNT_INT_H
#define BLOCK_QCOW2_REFCOUNT_INT_H

#include "block/qcow2.h"

#define QCOW2_MAX_HOST_OFFSET (INT64_C(1) << 56)

/* Clusters, first to end-1; not empty. */
struct qcow2_span {
    uint64_t first;
    uint64_t end;
};

static inline uint64_t qcow2_counts_per_block(const BDRVQcow2State *s)
{
    return 1ULL << s->refcount_block_bits;
}

static inline bool qcow2_has_refblock(const BDRVQcow2State *s, uint64_t table_index)
{
    return table_index < s->refcount_table_size && (s->refcount_table[table_index] & REFT_OFFSET_MASK) != 0;
}

/* A larger table, with a block for everything in keep; nothing of it lies inside keep. A failed switch leaves
 * s->header_unsure. */
int qcow2_grow_reftable(BlockDriverState *bs, const struct qcow2_span *keep);

#endif
