/* What a mirror is refused for before anything is made, in the reference's order (reference/jobs.md 4.2). */
#include <errno.h>

#include "jobs/mirror_int.h"

static int check_granularity(uint32_t granularity, Error **errp)
{
    if (granularity != 0 && (granularity < MIRROR_MIN_GRANULARITY || granularity > MIRROR_MAX_GRANULARITY)) {
        error_setg(errp, "Parameter 'granularity' expects a value in range [512B, 64MB]");
        return -EINVAL;
    }
    if (granularity != 0 && !is_power_of_2(granularity)) {
        error_setg(errp, "Parameter 'granularity' expects a power of 2");
        return -EINVAL;
    }
    return 0;
}

static int check_replaces(BlockDriverState *source, const char *replaces, Error **errp)
{
    BlockDriverState *to_replace = bdrv_find_node(bdrv_host(source), replaces);

    if (to_replace == NULL) {
        error_setg(errp, "Failed to find node with node-name='%s'", replaces);
        return -ENOENT;
    }
    if (bdrv_op_is_blocked(to_replace, BLOCK_OP_REPLACE, errp)) {
        return -EPERM;
    }
    if (bdrv_getlength_cached(source) != bdrv_getlength_cached(to_replace)) {
        error_setg(errp, "cannot replace image with a mirror image of different size");
        return -EINVAL;
    }
    if (!bdrv_recurse_can_replace(source, to_replace)) {
        error_setg(
            errp,
            "Cannot replace '%s' by a node mirrored from '%s', because it cannot be guaranteed that doing so "
            "would not lead to an abrupt change of visible data",
            replaces, bdrv_get_node_name(source));
        return -EPERM;
    }
    return 0;
}

int mirror_check(BlockDriverState *source, BlockDriverState *target, struct mirror_args *args, Error **errp)
{
    int ret;

    if (!bdrv_is_root_node(source)) {
        error_setg(errp, "Need a root block node");
        return -EINVAL;
    }
    ret = check_granularity(args->granularity, errp);
    if (ret < 0) {
        return ret;
    }
    if (bdrv_op_is_blocked(source, BLOCK_OP_MIRROR_SOURCE, errp) ||
        bdrv_op_is_blocked(target, BLOCK_OP_MIRROR_TARGET, errp)) {
        return -EPERM;
    }
    if (args->sync == MIRROR_SYNC_TOP && bdrv_backing_chain_next(source) == NULL) {
        args->sync = MIRROR_SYNC_FULL;
        args->zero_target = true;
    }
    if (args->replaces == NULL && bdrv_is_implicit(source)) {
        /* Filters that nobody asked for stay above the target. */
        args->replaces = bdrv_get_node_name(bdrv_skip_implicit_filters(source));
    } else if (args->replaces != NULL) {
        ret = check_replaces(source, args->replaces, errp);
        if (ret < 0) {
            return ret;
        }
    }
    if (args->sync == MIRROR_SYNC_INCREMENTAL || args->sync == MIRROR_SYNC_BITMAP) {
        error_setg(errp, "Sync mode '%s' not supported", mirror_sync_name(args->sync));
        return -EINVAL;
    }
    if (args->buf_size < 0) {
        error_setg(errp, "Invalid parameter 'buf-size'");
        return -EINVAL;
    }
    if (bdrv_skip_filters(source) == bdrv_skip_filters(target)) {
        error_setg(errp, "Can't mirror node into itself");
        return -EINVAL;
    }
    return 0;
}
