/* Starting a stream: where it ends in the chain, freeze, filter, job, nodes (reference/jobs.md 7); and what
 * checkers and queries may see of it. */
#include "jobs/stream.h"

#include <errno.h>

#include "jobs/stream_int.h"

/* --- driver --------------------------------------------------------------------------------------------- */

static void stream_free(Job *job)
{
    StreamJob *s = stream_of(job);

    SIM_ASSERT(s->filter == NULL && s->blk == NULL);
    if (s->backing_file != NULL) {
        sim_strfree(job->host->arena, s->backing_file);
    }
}

static const BlockJobDriver stream_job_driver = {
    .job_driver =
        {
            .job_type = JOB_TYPE_STREAM,
            .instance_size = sizeof(StreamJob),
            .type = SIM_TYPE_stream_job,
            .run = stream_run,
            .prepare = stream_prepare,
            .clean = stream_clean,
            .free = stream_free,
        },
};

/* --- start ---------------------------------------------------------------------------------------------- */

/* What a start has made so far, for its undoing. */
struct stream_setup {
    BlockDriverState *device; /* what the command named */
    BlockDriverState *top;
    BlockDriverState *bottom;
    struct bdrv_parents *parents; /* of top, before the filter came */
    BlockDriverState *filter;
    bool was_read_only;
    bool frozen; /* by us: the filter does not yet hold the chain */
};

/* The image above base, or the last of the chain. NULL: base is not below top. */
static BlockDriverState *find_bottom(BlockDriverState *top, BlockDriverState *base)
{
    BlockDriverState *image = base != NULL ? bdrv_skip_filters(base) : NULL;
    BlockDriverState *bs = top;

    while (bs != NULL && bdrv_backing_chain_next(bs) != image) {
        bs = bdrv_backing_chain_next(bs);
    }
    return bs;
}

static bool is_below(BlockDriverState *top, const BlockDriverState *bs)
{
    BlockDriverState *below = bdrv_cow_bs(top);

    return below != NULL && bdrv_chain_contains(below, bs);
}

/* The filters between the image above base and base go with the stream: not those of another job. */
static int filters_may_go(BlockDriverState *bottom, const BlockDriverState *base, Error **errp)
{
    BdrvChild *child = bdrv_filter_or_cow_child(bottom);

    for (; child != NULL && child->bs != base && child->bs->drv->is_filter; child = bdrv_filter_child(child->bs)) {
        if (child->bs->never_freeze) {
            error_setg(errp, "Cannot freeze '%s' link to '%s'", child->name, bdrv_get_node_name(child->bs));
            return -EPERM;
        }
    }
    return 0;
}

static int find_chain(struct stream_setup *setup, const struct stream_args *args, Error **errp)
{
    setup->top = bdrv_skip_filters(setup->device);
    if (args->base != NULL && !is_below(setup->top, args->base)) {
        error_setg(errp, "Node '%s' is not a backing image of '%s'", bdrv_get_node_name(args->base),
                   bdrv_get_node_name(setup->device));
        return -EINVAL;
    }
    setup->bottom = args->bottom != NULL ? args->bottom : find_bottom(setup->top, args->base);
    SIM_ASSERT(setup->bottom != NULL && !setup->bottom->drv->is_filter);
    SIM_ASSERT(bdrv_chain_contains(setup->top, setup->bottom));
    return args->base != NULL ? filters_may_go(setup->bottom, args->base, errp) : 0;
}

/* The medium of a read-only top may be one that somebody opened read-only on purpose. */
static bool on_read_only_storage(BlockDriverState *bs)
{
    for (bs = bdrv_primary_bs(bs); bs != NULL; bs = bdrv_primary_bs(bs)) {
        if (bdrv_is_read_only(bs)) {
            return true;
        }
    }
    return false;
}

static int make_writable(BlockDriverState *top, Error **errp)
{
    Error *err = NULL;
    int ret = bdrv_reopen_set_read_only(top, false, &err);

    if (ret == -EPERM && on_read_only_storage(top)) {
        error_free(err);
        err = NULL;
        error_setg(&err, "Block node is read-only");
    }
    error_propagate(errp, err);
    return ret;
}

/* First of all the chain is held: what follows polls, and others must not take it apart meanwhile. */
static int stream_hold(struct stream_setup *setup, Error **errp)
{
    int ret = bdrv_freeze_chain(setup->top, setup->bottom, errp);

    if (ret < 0) {
        return ret;
    }
    setup->frozen = true;
    setup->was_read_only = bdrv_is_read_only(setup->top);
    if (setup->was_read_only) {
        ret = make_writable(setup->top, errp);
        setup->was_read_only = ret >= 0;
    }
    return ret;
}

/* Directly above the node that is filled, below other filters: whoever writes that node comes by the filter, or
 * past its edge at least, and no copy can overtake a write. */
static int stream_insert(struct stream_setup *setup, const char *node_name, Error **errp)
{
    setup->parents = bdrv_note_parents(setup->top);
    setup->filter = bdrv_cor_filter_insert(setup->top, setup->bottom, node_name, errp);
    if (setup->filter == NULL) {
        return -EINVAL;
    }
    setup->frozen = false;
    return 0;
}

/* What is copied must not change, and is the job's alone. The filters directly above the base go with the layers.
 */
static int add_intermediate(StreamJob *s, const BlockDriverState *base, Error **errp)
{
    bool beyond = s->top == s->bottom;

    for (BlockDriverState *bs = bdrv_cow_bs(s->top); bs != NULL && bs != base; bs = bdrv_filter_or_cow_bs(bs)) {
        if (beyond && (base == NULL || !bs->drv->is_filter)) {
            break;
        }
        int ret = block_job_add_bdrv(&s->common, "intermediate node", bs, 0,
                                     BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED, errp);
        if (ret < 0) {
            return ret;
        }
        beyond = beyond || bs == s->bottom;
    }
    return 0;
}

/* The name of the device, when there is no job ID: the filter took its node's place. */
static BlockDriverState *main_node(const struct stream_setup *setup)
{
    return setup->device == setup->top ? setup->filter : setup->device;
}

/* The filters from below the named one down to our own. */
static int add_filters(StreamJob *s, const struct stream_setup *setup, Error **errp)
{
    int ret = 0;

    for (BlockDriverState *bs = bdrv_filter_bs(setup->device); bs != setup->top && ret >= 0;
         bs = bdrv_filter_bs(bs)) {
        ret = block_job_add_bdrv(&s->common, "filter", bs, 0, BLK_PERM_ALL, errp);
    }
    return ret;
}

static int stream_attach(StreamJob *s, const struct stream_setup *setup, const struct stream_args *args,
                         Error **errp)
{
    uint64_t shared = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED | BLK_PERM_WRITE;

    s->blk = blk_new(s->common.job.host, BLK_PERM_CONSISTENT_READ, shared);
    blk_set_disable_request_queuing(s->blk, true);
    int ret = blk_insert_bs(s->blk, setup->filter, errp);
    if (ret >= 0) {
        ret = block_job_add_bdrv(&s->common, "active node", setup->top, 0, shared, errp);
    }
    if (ret >= 0 && main_node(setup) != setup->filter) {
        ret = add_filters(s, setup, errp);
    }
    return ret < 0 ? ret : add_intermediate(s, args->base, errp);
}

static StreamJob *stream_create(const struct stream_setup *setup, const struct stream_args *args, Error **errp)
{
    unsigned flags =
        (args->auto_finalize ? 0 : JOB_MANUAL_FINALIZE) | (args->auto_dismiss ? 0 : JOB_MANUAL_DISMISS);
    BlockJob *job = block_job_create(args->job_id, &stream_job_driver, NULL, main_node(setup), 0, BLK_PERM_ALL,
                                     args->speed, flags, NULL, NULL, errp);

    if (job == NULL) {
        return NULL;
    }
    StreamJob *s = stream_of(&job->job);
    s->top = setup->top;
    s->bottom = setup->bottom;
    s->filter = setup->filter;
    s->on_error = args->on_error;
    s->backing_file = args->backing_file != NULL ? sim_strdup(job->job.host->arena, args->backing_file) : NULL;
    s->backing_mask_protocol = args->backing_mask_protocol;
    s->was_read_only = setup->was_read_only;
    return s;
}

static void stream_undo(StreamJob *s, struct stream_setup *setup)
{
    if (s != NULL) {
        blk_unref(s->blk);
        s->blk = NULL;
        s->filter = NULL;
        job_early_fail(&s->common.job);
    }
    if (setup->filter != NULL) {
        bdrv_cor_filter_undo(setup->filter, setup->top, setup->parents);
    }
    if (setup->frozen) {
        bdrv_unfreeze_chain(setup->top, setup->bottom);
    }
    if (setup->was_read_only) {
        bdrv_reopen_set_read_only(setup->top, true, NULL);
    }
}

static int stream_set_up(struct stream_setup *setup, const struct stream_args *args, Error **errp)
{
    StreamJob *s = NULL;
    int ret = stream_hold(setup, errp);

    if (ret >= 0) {
        ret = stream_insert(setup, args->filter_node_name, errp);
    }
    if (ret >= 0) {
        s = stream_create(setup, args, errp);
        ret = s != NULL ? stream_attach(s, setup, args, errp) : -EINVAL;
    }
    if (ret < 0) {
        stream_undo(s, setup);
        return ret;
    }
    job_start(&s->common.job);
    return 0;
}

int stream_start(BlockDriverState *bs, const struct stream_args *args, Error **errp)
{
    struct host *host = bdrv_host(bs);
    struct stream_setup setup = {.device = bs};

    SIM_ASSERT(host_in_main(host));
    SIM_ASSERT(args->base == NULL || args->bottom == NULL);
    int ret = find_chain(&setup, args, errp);
    if (ret < 0) {
        return ret;
    }
    /* Reopening and inserting poll: what is named here must outlast them. */
    BlockDriverState *const held[] = {bs, setup.top, setup.bottom, args->base};
    for (size_t i = 0; i < ARRAY_SIZE(held); i++) {
        if (held[i] != NULL) {
            bdrv_ref(held[i]);
        }
    }
    ret = stream_set_up(&setup, args, errp);
    if (setup.parents != NULL) {
        bdrv_forget_parents(host, setup.parents);
    }
    for (size_t i = 0; i < ARRAY_SIZE(held); i++) {
        bdrv_unref(held[i]);
    }
    return ret;
}

/* --- views ---------------------------------------------------------------------------------------------- */

bool block_job_is_stream(const Job *job)
{
    return job->driver == &stream_job_driver.job_driver;
}

BlockDriverState *stream_top(const Job *job)
{
    return stream_of(job)->top;
}

BlockDriverState *stream_bottom(const Job *job)
{
    return stream_of(job)->bottom;
}

BlockDriverState *stream_filter(const Job *job)
{
    return stream_of(job)->filter;
}
