/* Copy-before-write filters of jobs: in and out of a live graph (reference/jobs.md 5.1, 5.2). */
#include <errno.h>

#include "block/cbw_int.h"

/* The target first: its own way down to the source, if there is one, must not become a loop. */
static int attach(BlockDriverState *filter, BlockDriverState *source, BlockDriverState *target, Error **errp)
{
    struct cbw *s = cbw_of(filter);

    filter->total_bytes = source->total_bytes;
    s->target = bdrv_attach_child(filter, target, "target", BDRV_CHILD_DATA, errp);
    return s->target ? bdrv_append(filter, source, errp) : -EINVAL;
}

void bdrv_cbw_undo(BlockDriverState *filter, BlockDriverState *source, const struct bdrv_parents *parents)
{
    bdrv_ref(source);
    bdrv_drained_begin(source);
    bdrv_drained_begin(filter);
    int ret = bdrv_undo_append(filter, source, parents, NULL);
    SIM_ASSERT_EQ(ret, 0); /* without it nothing new is taken */
    bdrv_drained_end(filter);
    bdrv_drained_end(source);
    bdrv_unref(filter);
    bdrv_unref(source);
}

BlockDriverState *bdrv_cbw_append(BlockDriverState *source, BlockDriverState *target, const struct cbw_args *args,
                                  BlockCopyState **state, Error **errp)
{
    struct host *host = source->host;

    SIM_ASSERT(host_in_main(host));
    SIM_ASSERT(source->quiesce_counter > 0);
    SIM_ASSERT(source != target);
    /* What could be refused later is asked for before anything changes. */
    if (block_copy_calculate_cluster_size(target, args->copy.min_cluster_size, errp) < 0) {
        return NULL;
    }
    BlockDriverState *filter = bdrv_new_filter(host, &bdrv_copy_before_write, args->node_name,
                                               BDRV_O_RDWR | (bdrv_open_flags(source) & BDRV_O_UNMAP), errp);
    if (!filter) {
        return NULL;
    }
    struct cbw *s = cbw_of(filter);
    s->on_error = args->on_cbw_error;
    s->timeout_ns = args->cbw_timeout_ns;
    s->discard_source = args->copy.discard_source;
    TAILQ_INIT(&s->frozen_reads);
    filter->never_freeze = true; /* the job takes it out whenever it ends */
    struct bdrv_parents *parents = bdrv_note_parents(source);
    int ret = attach(filter, source, target, errp);
    if (ret < 0) {
        bdrv_unref(filter);
        filter = NULL;
    } else if (cbw_start(filter, &args->copy, errp) < 0) {
        bdrv_cbw_undo(filter, source, parents);
        filter = NULL;
    } else {
        *state = s->copy;
    }
    bdrv_forget_parents(host, parents);
    return filter;
}

void bdrv_cbw_drop(BlockDriverState *filter)
{
    SIM_ASSERT(bdrv_is_cbw(filter));
    /* Quiet before anything goes: requests in the filter, and late copies, use the engine to their end. */
    bdrv_drained_begin(filter);
    int ret = bdrv_drop_filter(filter, NULL);
    SIM_ASSERT_EQ(ret, 0); /* without it nothing new is taken */
    bdrv_drained_end(filter);
    bdrv_unref(filter);
}
