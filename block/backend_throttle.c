/* Limits of a BlockBackend (reference/block.md 2.1, 4.2): they stay with the device when its root changes. */
#include "block/backend_int.h"

void blk_io_limits_enable(BlockBackend *blk, const char *group)
{
    throttle_group_register(&blk->throttle, blk->host, group);
}

static void disable_drained(void *opaque)
{
    BlockBackend *blk = opaque;
    BlockDriverState *bs = blk_bs(blk);

    if (bs) {
        bdrv_ref(bs);
        bdrv_drained_begin(bs); /* lets go whatever waits */
    }
    throttle_group_unregister(&blk->throttle);
    if (bs) {
        bdrv_drained_end(bs);
        bdrv_unref(bs);
    }
}

void blk_io_limits_disable(BlockBackend *blk)
{
    SIM_ASSERT(blk->throttle.group != NULL);
    host_call_main(blk->host, disable_drained, blk);
}

void blk_io_limits_update_group(BlockBackend *blk, const char *group)
{
    SIM_ASSERT(blk->throttle.group != NULL);
    if (strcmp(throttle_group_name(blk->throttle.group), group) != 0) {
        blk_io_limits_disable(blk);
        blk_io_limits_enable(blk, group);
    }
}

void blk_set_io_limits(BlockBackend *blk, const ThrottleConfig *cfg)
{
    SIM_ASSERT(blk->throttle.group != NULL);
    throttle_group_config(blk->throttle.group, cfg);
}

void blk_io_limits_bypass(BlockBackend *blk, bool bypass)
{
    if (bypass) {
        throttle_group_bypass_begin(&blk->throttle);
    } else {
        throttle_group_bypass_end(&blk->throttle);
    }
}

ThrottleGroup *blk_throttle_group(const BlockBackend *blk)
{
    return blk->throttle.group;
}
