/* The end of a mirror: completion request, final drain, release of everything, switch to the target
 * (reference/jobs.md 4.7, 4.8). */
#include <errno.h>

#include "jobs/mirror_int.h"

int mirror_flush(MirrorJob *s)
{
    int ret = blk_co_flush(s->target);

    if (ret < 0) {
        mirror_error_action(s, false, ret);
    }
    return MIN(ret, 0);
}

/* --- the final drain ------------------------------------------------------------------------------------ */

static void mirror_do_drain_begin(void *opaque)
{
    MirrorJob *s = opaque;

    /* Only while the main coroutine waits here does the job count as quiet without being parked: it is the one that
     * waits. Anybody else's drain waits until the job parks or has ended. */
    s->in_drain = true;
    bdrv_drained_begin(s->source);
    s->in_drain = false;
    s->source_drained = true;
}

void mirror_drain_source_begin(MirrorJob *s)
{
    SIM_ASSERT(!s->source_drained && s->in_flight == 0);
    host_call_main(s->common.job.host, mirror_do_drain_begin, s);
    SIM_ASSERT(s->source_drained);
}

void mirror_drain_source_end(MirrorJob *s)
{
    SIM_ASSERT(s->source_drained);
    s->source_drained = false;
    bdrv_drained_end(s->source);
}

bool mirror_drained_poll(BlockJob *job)
{
    const MirrorJob *s = mirror_of(&job->job);

    return !s->in_drain || s->in_flight > 0;
}

/* --- complete ------------------------------------------------------------------------------------------- */

void mirror_complete(Job *job, Error **errp)
{
    MirrorJob *s = mirror_of(job);

    if (s->should_complete) {
        return;
    }
    if (s->replaces != NULL) {
        s->to_replace = bdrv_find_node(job->host, s->replaces);
        if (s->to_replace == NULL) {
            error_setg(errp, "Node name '%s' not found", s->replaces);
            return;
        }
        error_setg(&s->replace_blocker, "block device is in use by block-job-complete");
        bdrv_op_block_all(s->to_replace, s->replace_blocker);
        bdrv_ref(s->to_replace);
    }
    s->should_complete = true;
    /* In standby the resume comes first. */
    if (!job->paused) {
        job_kick(job);
    }
}

/* --- replacing ------------------------------------------------------------------------------------------ */

static int mirror_switch(MirrorJob *s, BlockDriverState *source, BlockDriverState *target)
{
    BlockDriverState *to_replace = s->to_replace != NULL ? s->to_replace : source;
    bool read_only = bdrv_is_read_only(to_replace);
    int ret;

    if (bdrv_is_read_only(target) != read_only) {
        bdrv_reopen_set_read_only(target, read_only, NULL);
    }
    bdrv_ref(to_replace);
    bdrv_drained_begin(to_replace);
    /* The graph may have changed since the start. And a target that stands on the source cannot take the place of
     * something within it: everybody there would be left where he is. */
    bool circle = to_replace != source && bdrv_chain_contains(target, source);
    ret = !circle && bdrv_recurse_can_replace(source, to_replace) ? bdrv_replace_node(to_replace, target, NULL)
                                                                  : -EPERM;
    bdrv_drained_end(to_replace);
    bdrv_unref(to_replace);
    if (ret < 0) {
        SIM_MARK(mirror_sim(s), mirror_switch_refused);
        return -EPERM;
    }
    SIM_MARK(mirror_sim(s), mirror_switch);
    s->switched = true;
    return 0;
}

/* The target's chain as it is to be from now on, switch or not. */
static int mirror_set_backing(MirrorJob *s, BlockDriverState *source, BlockDriverState *target, Error **errp)
{
    BlockDriverState *image = bdrv_skip_filters(target);
    BlockDriverState *backing = s->sync == MIRROR_SYNC_NONE ? source : s->base;
    struct co_cleanup cleanup;
    struct qvalue *nothing;
    int ret = 0;

    if (s->backing_mode == MIRROR_SOURCE_BACKING_CHAIN && bdrv_cow_bs(image) != backing) {
        SIM_MARK(mirror_sim(s), mirror_backing_set);
        return bdrv_set_backing_hd(image, backing, errp) < 0 ? -EPERM : 0;
    }
    /* The target was opened without; what its user has attached since is his choice. */
    if (s->backing_mode == MIRROR_OPEN_BACKING_CHAIN && bdrv_cow_child(image) == NULL) {
        SIM_MARK(mirror_sim(s), mirror_backing_set);
        /* No options: the header says it all [seed 31ca6d0]. */
        nothing = qvalue_dict();
        coroutine_cleanup_push(mirror_sim(s), &cleanup, qvalue_cleanup, nothing);
        ret = bdrv_open_backing(image, nothing, errp);
        coroutine_cleanup_pop(&cleanup);
        qvalue_free(nothing);
    }
    return ret;
}

/* Takes the filter out of the graph and drops the reference given. */
static void mirror_remove_filter(BlockDriverState *filter)
{
    int ret = bdrv_drop_filter(filter, NULL);

    /* It only passes on what its parents take: without it nothing is taken that was not taken before. */
    SIM_ASSERT_EQ(ret, 0);
    bdrv_unref(filter);
}

/* --- exit work ------------------------------------------------------------------------------------------ */

static void mirror_drop_replaces(MirrorJob *s)
{
    if (s->to_replace == NULL) {
        return;
    }
    bdrv_op_unblock_all(s->to_replace, s->replace_blocker);
    error_free(s->replace_blocker);
    bdrv_unref(s->to_replace);
    s->replace_blocker = NULL;
    s->to_replace = NULL;
}

/* Once, from prepare or from abort: what the job holds is released whatever became of it. */
static int mirror_exit(MirrorJob *s, bool success)
{
    BlockDriverState *source = s->source;
    BlockDriverState *target = s->target_bs;
    BlockDriverState *filter = s->filter;
    int ret = 0;

    if (s->exit_done) {
        return 0;
    }
    s->exit_done = true;
    SIM_ASSERT(s->source_drained && s->in_flight == 0);
    commit_active_thaw(s, filter, target);
    bdrv_ref(source);
    bdrv_ref(target);
    bdrv_ref(filter);
    mirror_filter_set_job(filter, NULL);
    mirror_ops_free(s);
    bdrv_release_dirty_bitmap(s->dirty_bitmap);
    s->dirty_bitmap = NULL;
    /* Its write permission would stand in the way of the guest's. */
    blk_unref(s->target);
    s->target = NULL;
    bdrv_drained_begin(target);
    if (success) {
        ret = mirror_set_backing(s, source, target, &s->common.job.err);
    }
    if (success && ret == 0 && s->should_complete) {
        ret = mirror_switch(s, source, target);
    } else if (success && ret == 0) {
        SIM_MARK(mirror_sim(s), mirror_soft_cancel);
    }
    mirror_drop_replaces(s);
    bdrv_unref(s->base);
    s->base = NULL;
    s->filter = NULL;
    s->source = NULL;
    s->target_bs = NULL;
    block_job_remove_all_bdrv(&s->common);
    mirror_remove_filter(filter);
    if (s->target_was_read_only && !s->switched) {
        bdrv_reopen_set_read_only(target, true, NULL);
    }
    s->source_drained = false;
    bdrv_drained_end(target);
    bdrv_drained_end(source);
    bdrv_unref(target);
    bdrv_unref(source);
    return ret;
}

int mirror_prepare(Job *job)
{
    return mirror_exit(mirror_of(job), true);
}

void mirror_abort(Job *job)
{
    (void)mirror_exit(mirror_of(job), false);
}
