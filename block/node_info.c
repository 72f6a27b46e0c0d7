/*
 * Small facts of a node for queries: threshold, highest write, zero detection.
 */
#include "block/block_int.h"

enum bdrv_detect_zeroes bdrv_get_detect_zeroes(const BlockDriverState *bs)
{
    return bs->detect_zeroes;
}

uint64_t bdrv_get_wr_highest_offset(const BlockDriverState *bs)
{
    return bs->wr_highest_offset;
}

uint64_t bdrv_get_write_threshold(const BlockDriverState *bs)
{
    return bs->write_threshold;
}

void bdrv_set_write_threshold(BlockDriverState *bs, uint64_t threshold_bytes)
{
    bs->write_threshold = threshold_bytes;
}
