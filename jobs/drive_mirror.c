/* drive-mirror: a mirror to a file that is made, or opened, for it (reference/jobs.md 4.2, 4.7, 9). */
#include <errno.h>

#include "jobs/drive_target.h"
#include "jobs/mirror_int.h"

/* What a new image stands on: what the target will not hold. */
static BlockDriverState *backing_of_target(BlockDriverState *source, enum mirror_sync sync)
{
    if (sync == MIRROR_SYNC_NONE) {
        return source;
    }
    return sync == MIRROR_SYNC_FULL ? NULL : bdrv_cow_bs(bdrv_skip_filters(source));
}

/* The image is made before the mirror is checked; what speaks against any mirror of this source comes first. */
int drive_mirror_start(BlockDriverState *source, const struct drive_mirror_file *file,
                       const struct mirror_args *args, Error **errp)
{
    struct mirror_args mirror = *args;
    BlockDriverState *target;
    int ret;

    SIM_ASSERT(args->filter_node_name == NULL && !args->into_chain);
    if (bdrv_op_is_blocked(source, BLOCK_OP_MIRROR_SOURCE, errp)) {
        return -EBUSY;
    }
    if (mirror.sync == MIRROR_SYNC_TOP && bdrv_cow_bs(bdrv_skip_filters(source)) == NULL) {
        mirror.sync = MIRROR_SYNC_FULL;
    }
    if (mirror.replaces != NULL && file->node_name == NULL) {
        error_setg(errp, "a node-name must be provided when replacing a named node of the graph");
        return -EINVAL;
    }
    target = drive_target_open(source,
                               &(struct drive_target){
                                   .filename = file->filename,
                                   .format = file->format,
                                   .node_name = file->node_name,
                                   .existing = file->existing,
                                   .backing = file->existing ? NULL : backing_of_target(source, mirror.sync),
                                   .no_backing = true,
                               },
                               errp);
    if (target == NULL) {
        return -EINVAL;
    }
    mirror.backing_mode = file->existing ? MIRROR_OPEN_BACKING_CHAIN : MIRROR_SOURCE_BACKING_CHAIN;
    mirror.zero_target = mirror.sync == MIRROR_SYNC_FULL && (file->existing || !bdrv_has_zero_init(target));
    ret = mirror_start(source, target, &mirror, errp);
    bdrv_unref(target);
    return ret;
}
