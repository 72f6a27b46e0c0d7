/* Block status (block.md 2.13): how the mapping says a run is stored. */
#include <errno.h>

#include "block/qcow2.h"

/* RECURSE: what is allocated in the image may be a hole in the file, as after preallocation. */
static const struct {
    int flags;
    bool placed; /* at an offset of the data file */
} kinds[] = {
    [QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN] = {0, false},
    [QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC] = {0, true},
    [QCOW2_SUBCLUSTER_ZERO_PLAIN] = {BDRV_BLOCK_ZERO, false},
    [QCOW2_SUBCLUSTER_ZERO_ALLOC] = {BDRV_BLOCK_ZERO, true},
    [QCOW2_SUBCLUSTER_NORMAL] = {BDRV_BLOCK_DATA | BDRV_BLOCK_RECURSE, true},
    [QCOW2_SUBCLUSTER_COMPRESSED] = {BDRV_BLOCK_DATA | BDRV_BLOCK_COMPRESSED, false},
};

int qcow2_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                          int64_t *map, BlockDriverState **file)
{
    BDRVQcow2State *s = bs->opaque;
    QCow2SubclusterType type;
    int64_t host_offset;

    SIM_ASSERT(bytes > 0);
    *pnum = bytes;
    co_mutex_lock(&s->lock);
    int ret = qcow2_usable(bs) ? qcow2_get_host_offset(bs, offset, pnum, &host_offset, &type) : -ENOMEDIUM;
    co_mutex_unlock(&s->lock);
    if (ret < 0) {
        return ret;
    }
    SIM_ASSERT((size_t)type < ARRAY_SIZE(kinds));
    if (!kinds[type].placed) {
        return kinds[type].flags;
    }
    *map = host_offset;
    *file = s->data_file->bs;
    return kinds[type].flags | BDRV_BLOCK_OFFSET_VALID;
}
