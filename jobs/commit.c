/* Starting and ending a commit: filter, frozen chain, permissions; the layers taken out, or everything put back
 * (reference/jobs.md 6); and what checkers and queries may see of it. */
#include "jobs/commit.h"

#include <errno.h>

#include "jobs/commit_int.h"

/* --- end ------------------------------------------------------------------------------------------------ */

static void commit_unfreeze(CommitJob *s)
{
    if (s->frozen) {
        bdrv_unfreeze_chain(s->filter, s->base);
        s->frozen = false;
    }
}

/* Its write permission would stand in the way of everybody who wants to read base, or have it behind him. */
static void commit_drop_base_blk(CommitJob *s)
{
    blk_unref(s->base_blk);
    s->base_blk = NULL;
}

static int commit_prepare(Job *job)
{
    CommitJob *s = commit_of(job);
    const char *format = s->backing_mask_protocol ? NULL : bdrv_skip_filters(s->base)->drv->format_name;

    /* One section from the thaw to the switch: nobody gets in between who could change the chain. */
    bdrv_drained_begin(s->filter);
    bdrv_drained_begin(s->base);
    commit_unfreeze(s);
    commit_drop_base_blk(s);
    int ret = bdrv_drop_intermediate_as(s->filter, s->base, s->backing_file, format, &s->dropped, NULL);
    bdrv_drained_end(s->base);
    bdrv_drained_end(s->filter);
    if (ret < 0 && s->dropped) {
        SIM_MARK(job->host->sim, commit_header_failed);
    }
    return MIN(ret, 0);
}

/* The layers stay, unless they are gone already: a header that could not be written is no reason to bring them
 * back, since guest and overlays have used base since. */
static void commit_abort(Job *job)
{
    CommitJob *s = commit_of(job);

    bdrv_drained_begin(s->filter);
    bdrv_drained_begin(s->top);
    commit_unfreeze(s);
    commit_drop_base_blk(s);
    /* The job's edges forbid to read the layers, and the filter's users are about to. */
    block_job_remove_all_bdrv(&s->common);
    if (!s->dropped) {
        int ret = bdrv_drop_filter(s->filter, NULL);
        SIM_ASSERT_EQ(ret, 0);
    }
    bdrv_drained_end(s->top);
    bdrv_drained_end(s->filter);
}

static void commit_release(CommitJob *s)
{
    BlockDriverState *nodes[] = {s->filter, s->top, s->base};

    blk_unref(s->top_blk);
    s->top_blk = NULL;
    s->filter = NULL;
    s->top = NULL;
    s->base = NULL;
    s->base_overlay = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
        bdrv_unref(nodes[i]);
    }
}

static void commit_clean(Job *job)
{
    CommitJob *s = commit_of(job);

    SIM_ASSERT(!s->frozen && s->base_blk == NULL);
    if (s->base_read_only) {
        /* Nothing is left to be told of a failure; base is then merely writable. */
        bdrv_reopen_set_read_only(s->base, true, NULL);
    }
    block_job_remove_all_bdrv(&s->common);
    commit_release(s);
}

static void commit_free(Job *job)
{
    CommitJob *s = commit_of(job);

    SIM_ASSERT(s->top_blk == NULL && s->base_blk == NULL && s->filter == NULL);
    if (s->backing_file != NULL) {
        sim_strfree(job->host->arena, s->backing_file);
    }
}

const BlockJobDriver commit_job_driver = {
    .job_driver =
        {
            .job_type = JOB_TYPE_COMMIT,
            .instance_size = sizeof(CommitJob),
            .type = SIM_TYPE_commit_job,
            .run = commit_run,
            .prepare = commit_prepare,
            .abort = commit_abort,
            .clean = commit_clean,
            .free = commit_free,
        },
};

/* --- start ---------------------------------------------------------------------------------------------- */

/* What a start has made so far, for its undoing. */
struct commit_setup {
    BlockDriverState *filter;
    struct bdrv_parents *parents; /* of top, before the filter came */
    bool base_reopened;
    bool base_said_read_only; /* by an option of its own, before that */
};

BlockDriverState *commit_base_overlay(BlockDriverState *top, const BlockDriverState *base)
{
    BlockDriverState *overlay = NULL;

    for (BlockDriverState *bs = top; bs != base; bs = bdrv_filter_or_cow_bs(bs)) {
        if (bdrv_cow_bs(bs) != NULL) {
            overlay = bs;
        }
    }
    return overlay;
}

static int commit_make_base_writable(BlockDriverState *base, struct commit_setup *setup, Error **errp)
{
    int ret = 0;

    if (bdrv_is_read_only(base)) {
        setup->base_said_read_only = bdrv_says_read_only(base);
        ret = bdrv_reopen_set_read_only(base, false, errp);
        setup->base_reopened = ret >= 0;
    }
    return MIN(ret, 0);
}

static int commit_insert_filter(BlockDriverState *top, const struct commit_args *args, struct commit_setup *setup,
                                Error **errp)
{
    BlockDriverState *filter = bdrv_new_filter(bdrv_host(top), &bdrv_commit_top, args->filter_node_name, 0, errp);

    if (filter == NULL) {
        return -EINVAL;
    }
    filter->never_freeze = true; /* it goes when the commit ends, whoever works above it */
    bdrv_drained_begin(top);
    setup->parents = bdrv_note_parents(top);
    int ret = bdrv_append(filter, top, errp);
    bdrv_drained_end(top);
    if (ret < 0) {
        bdrv_unref(filter);
        return ret;
    }
    setup->filter = filter;
    return 0;
}

int commit_add_layers(BlockJob *job, BlockDriverState *from, BlockDriverState *top, BlockDriverState *base,
                      Error **errp)
{
    const BlockDriverState *overlay = commit_base_overlay(top, base);
    bool below = from != top && overlay == top;

    for (BlockDriverState *bs = from; bs != base; bs = bdrv_filter_or_cow_bs(bs)) {
        uint64_t shared = BLK_PERM_WRITE_UNCHANGED | BLK_PERM_WRITE | (below ? BLK_PERM_CONSISTENT_READ : 0);
        int ret = block_job_add_bdrv(job, "intermediate node", bs, 0, shared, errp);
        if (ret < 0) {
            return ret;
        }
        below = below || bs == overlay;
    }
    return 0;
}

static BlockBackend *commit_new_blk(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp)
{
    BlockBackend *blk = blk_new(bdrv_host(bs), perm, shared);

    /* A drain waits for the job, so the job's requests must not wait for the drain. */
    blk_set_disable_request_queuing(blk, true);
    if (blk_insert_bs(blk, bs, errp) < 0) {
        blk_unref(blk);
        return NULL;
    }
    return blk;
}

static int commit_attach(CommitJob *s, BlockDriverState *filter, BlockDriverState *top, BlockDriverState *base,
                         Error **errp)
{
    const uint64_t base_perm = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE;
    int ret = commit_add_layers(&s->common, top, top, base, errp);

    if (ret < 0) {
        return ret;
    }
    /* Before anything that could let others in: the walk that the job relies on is the one that is frozen. */
    ret = bdrv_freeze_chain(filter, base, errp);
    if (ret < 0) {
        return ret;
    }
    s->frozen = true;
    ret = block_job_add_bdrv(&s->common, "base", base, 0, BLK_PERM_ALL, errp);
    if (ret < 0) {
        return ret;
    }
    s->base_blk = commit_new_blk(base, base_perm, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED, errp);
    if (s->base_blk == NULL) {
        return -EPERM;
    }
    s->top_blk = commit_new_blk(top, 0, BLK_PERM_ALL, errp);
    return s->top_blk != NULL ? 0 : -EPERM;
}

static void commit_fill(CommitJob *s, BlockDriverState *top, BlockDriverState *base, const struct commit_args *args,
                        const struct commit_setup *setup)
{
    struct sim_arena *arena = s->common.job.host->arena;

    s->filter = setup->filter; /* the reference of its making is the job's from here on */
    s->top = top;
    s->base = base;
    bdrv_ref(top);
    bdrv_ref(base);
    s->base_overlay = commit_base_overlay(top, base);
    s->on_error = args->on_error;
    s->backing_file = args->backing_file != NULL ? sim_strdup(arena, args->backing_file) : NULL;
    s->backing_mask_protocol = args->backing_mask_protocol;
    s->base_read_only = setup->base_reopened;
}

static void commit_take_filter_back(BlockDriverState *top, struct commit_setup *setup)
{
    bdrv_drained_begin(top);
    bdrv_drained_begin(setup->filter);
    int ret = bdrv_undo_append(setup->filter, top, setup->parents, NULL);
    SIM_ASSERT_EQ(ret, 0);
    bdrv_drained_end(setup->filter);
    bdrv_drained_end(top);
    bdrv_unref(setup->filter);
}

/* A refused command leaves no trace, neither in the order of top's parents nor in base's being read-only. */
static void commit_undo(CommitJob *s, BlockDriverState *top, BlockDriverState *base, struct commit_setup *setup)
{
    if (s->frozen) {
        bdrv_unfreeze_chain(setup->filter, base);
        s->frozen = false;
    }
    commit_drop_base_blk(s);
    blk_unref(s->top_blk);
    s->top_blk = NULL;
    job_early_fail(&s->common.job);
    if (setup->filter != NULL) {
        commit_take_filter_back(top, setup);
    }
    if (setup->base_reopened) {
        bdrv_reopen_read_only_again(base, setup->base_said_read_only);
    }
}

static CommitJob *commit_create(BlockDriverState *bs, const struct commit_args *args, Error **errp)
{
    unsigned flags =
        (args->auto_finalize ? 0 : JOB_MANUAL_FINALIZE) | (args->auto_dismiss ? 0 : JOB_MANUAL_DISMISS);
    BlockJob *job = block_job_create(args->job_id, &commit_job_driver, NULL, bs, 0, BLK_PERM_ALL, args->speed,
                                     flags, NULL, NULL, errp);

    return job != NULL ? commit_of(&job->job) : NULL;
}

static int commit_do_start(BlockDriverState *bs, BlockDriverState *top, BlockDriverState *base,
                           const struct commit_args *args, Error **errp)
{
    struct commit_setup setup = {.filter = NULL};
    CommitJob *s = commit_create(bs, args, errp);

    if (s == NULL) {
        return -EINVAL;
    }
    int ret = commit_make_base_writable(base, &setup, errp);
    if (ret >= 0) {
        ret = commit_insert_filter(top, args, &setup, errp);
    }
    if (ret >= 0) {
        ret = commit_attach(s, setup.filter, top, base, errp);
    }
    if (ret < 0) {
        commit_undo(s, top, base, &setup);
    } else {
        commit_fill(s, top, base, args, &setup);
        job_start(&s->common.job);
    }
    if (setup.parents != NULL) {
        bdrv_forget_parents(bdrv_host(base), setup.parents);
    }
    return ret;
}

int commit_start(BlockDriverState *bs, BlockDriverState *top, BlockDriverState *base,
                 const struct commit_args *args, Error **errp)
{
    SIM_ASSERT(host_in_main(bdrv_host(bs)));
    SIM_ASSERT(bs != top && bdrv_chain_contains(bs, top) && bdrv_chain_contains(top, base));
    if (bdrv_skip_filters(top) == bdrv_skip_filters(base)) {
        error_setg(errp, "Invalid files for merge: top and base are the same");
        return -EINVAL;
    }
    /* Reopens and drains wait, and whoever runs meanwhile may drop nodes. */
    bdrv_ref(bs);
    bdrv_ref(top);
    bdrv_ref(base);
    int ret = commit_do_start(bs, top, base, args, errp);
    bdrv_unref(base);
    bdrv_unref(top);
    bdrv_unref(bs);
    return ret;
}

/* --- views ---------------------------------------------------------------------------------------------- */

bool block_job_is_commit(const Job *job)
{
    return job->driver == &commit_job_driver.job_driver;
}

BlockDriverState *commit_top(const Job *job)
{
    return commit_of(job)->top;
}

BlockDriverState *commit_base(const Job *job)
{
    return commit_of(job)->base;
}

BlockDriverState *commit_filter(const Job *job)
{
    return commit_of(job)->filter;
}

int64_t commit_offset(const Job *job)
{
    return commit_of(job)->offset;
}
