/* L2 tables in the cache (5.2, 5.4): a table is kept in slices, each a table of l2_table_cache by itself. */
#include "block/qcow2.h"

int64_t qcow2_l2_slice_offset(const BDRVQcow2State *s, int64_t offset, int64_t l2_offset)
{
    unsigned first = offset_to_l2_index(s, (uint64_t)offset) - offset_to_l2_slice_index(s, (uint64_t)offset);

    SIM_ASSERT(l2_offset > 0 && offset_into_cluster(s, l2_offset) == 0);
    SIM_ASSERT_EQ(first % s->l2_slice_size, 0);
    return l2_offset + (int64_t)first * s->l2_entry_size;
}

int qcow2_l2_load(BlockDriverState *bs, int64_t offset, int64_t l2_offset, uint8_t **slice)
{
    BDRVQcow2State *s = bs->opaque;

    return qcow2_cache_get(bs, s->l2_table_cache, qcow2_l2_slice_offset(s, offset, l2_offset), slice);
}
