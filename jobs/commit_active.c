/*
 * The active commit: a mirror into a node of the source's own chain (reference/jobs.md 4.9). What is here is what
 * differs from a mirror to elsewhere; the engine is the same.
 *
 * The guest goes on writing to top while base fills, so the layers between become neither the old nor the new disk:
 * nobody may read them for what they were, and the chain must stay as it is until the switch.
 */
#include <errno.h>

#include "jobs/commit_int.h"
#include "jobs/mirror_int.h"

static bool commit_active_cancel(Job *job, bool force)
{
    return force || !job_is_ready(job);
}

const BlockJobDriver commit_active_job_driver = {
    .job_driver =
        {
            .job_type = JOB_TYPE_COMMIT,
            .instance_size = sizeof(MirrorJob),
            .type = SIM_TYPE_mirror_job,
            .run = mirror_run,
            .pause = mirror_pause,
            .complete = mirror_complete,
            .cancel = commit_active_cancel,
            .prepare = mirror_prepare,
            .abort = mirror_abort,
            .free = mirror_free,
            .forget = mirror_forget,
        },
    .drained_poll = mirror_drained_poll,
};

BlockDriverState *commit_below_overlay(BlockDriverState *top, BlockDriverState *base)
{
    BlockDriverState *overlay = commit_base_overlay(top, base);

    SIM_ASSERT(overlay != NULL);
    return bdrv_cow_bs(overlay);
}

int commit_active_attach(MirrorJob *s, BlockDriverState *source, BlockDriverState *base, Error **errp)
{
    int ret = commit_add_layers(&s->common, bdrv_filter_or_cow_bs(source), source, base, errp);

    if (ret == 0) {
        ret = bdrv_freeze_chain(s->filter, base, errp);
        s->frozen = ret == 0;
    }
    return ret;
}

void commit_active_thaw(MirrorJob *s, BlockDriverState *filter, BlockDriverState *base)
{
    if (s->frozen) {
        bdrv_unfreeze_chain(filter, base);
        s->frozen = false;
    }
}

int commit_active_grow(MirrorJob *s, int64_t *base_length, Error **errp)
{
    if (*base_length >= s->length) {
        return 0; /* never shrunk: what lies beyond is none of the guest's business, and stays */
    }
    SIM_MARK(mirror_sim(s), commit_base_grown);
    int ret = blk_co_truncate(s->target, s->length, false, PREALLOC_OFF, 0, errp);
    if (ret < 0) {
        return ret;
    }
    *base_length = s->length;
    return 0;
}

int commit_active_start(BlockDriverState *top, BlockDriverState *base, const struct commit_args *args, Error **errp)
{
    struct mirror_args mirror = {
        .job_id = args->job_id,
        .filter_node_name = args->filter_node_name,
        .sync = MIRROR_SYNC_TOP,
        .copy_mode = MIRROR_COPY_BACKGROUND,
        .speed = args->speed,
        .on_source_error = args->on_error,
        .on_target_error = args->on_error,
        .unmap = true,
        .into_chain = true,
        .auto_finalize = args->auto_finalize,
        .auto_dismiss = args->auto_dismiss,
    };
    int ret = 0;

    SIM_ASSERT(host_in_main(bdrv_host(top)));
    SIM_ASSERT(bdrv_chain_contains(top, base));
    if (bdrv_skip_filters(top) == bdrv_skip_filters(base)) {
        error_setg(errp, "Can't mirror node into itself");
        return -EINVAL;
    }
    /* Waiting for the reopen lets others drop nodes. */
    bdrv_ref(top);
    bdrv_ref(base);
    bool said = bdrv_says_read_only(base);
    mirror.target_was_read_only = bdrv_is_read_only(base);
    if (mirror.target_was_read_only) {
        ret = bdrv_reopen_set_read_only(base, false, errp);
    }
    if (ret >= 0) {
        ret = mirror_start(top, base, &mirror, errp);
        if (ret < 0 && mirror.target_was_read_only) {
            bdrv_reopen_read_only_again(base, said);
        }
    }
    bdrv_unref(base);
    bdrv_unref(top);
    return MIN(ret, 0);
}

bool block_job_is_active_commit(const Job *job)
{
    return job->driver == &commit_active_job_driver.job_driver;
}
