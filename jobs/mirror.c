/* Starting a mirror: filter, bitmap, job (reference/jobs.md 4.1, 4.2); and what checkers and queries may see of it.
 */
#include "jobs/mirror.h"

#include <errno.h>
#include <string.h>

#include "jobs/mirror_int.h"
#include "sim/qvalue.h"

static const char *const sync_names[] = {
    [MIRROR_SYNC_FULL] = "full",     [MIRROR_SYNC_TOP] = "top",
    [MIRROR_SYNC_NONE] = "none",     [MIRROR_SYNC_INCREMENTAL] = "incremental",
    [MIRROR_SYNC_BITMAP] = "bitmap",
};

bool mirror_sync_parse(const char *text, enum mirror_sync *out)
{
    for (size_t i = 0; i < ARRAY_SIZE(sync_names); i++) {
        if (strcmp(text, sync_names[i]) == 0) {
            *out = (enum mirror_sync)i;
            return true;
        }
    }
    return false;
}

bool mirror_copy_mode_parse(const char *text, enum mirror_copy_mode *out)
{
    bool blocking = strcmp(text, "write-blocking") == 0;

    *out = blocking ? MIRROR_COPY_WRITE_BLOCKING : MIRROR_COPY_BACKGROUND;
    return blocking || strcmp(text, "background") == 0;
}

const char *mirror_sync_name(enum mirror_sync sync)
{
    SIM_ASSERT(sync < ARRAY_SIZE(sync_names));
    return sync_names[sync];
}

/* --- driver --------------------------------------------------------------------------------------------- */

/* Paused means that no I/O of the job is in flight. */
void mirror_pause(Job *job)
{
    MirrorJob *s = mirror_of(job);

    if (s->in_flight_map != NULL) {
        mirror_wait_for_all(s);
    }
}

static bool mirror_cancel(Job *job, bool force)
{
    return force || !job_is_ready(job);
}

void mirror_free(Job *job)
{
    MirrorJob *s = mirror_of(job);

    SIM_ASSERT(s->target == NULL && s->dirty_bitmap == NULL && s->in_flight_map == NULL);
    SIM_ASSERT(s->cow_done == NULL && s->whole == NULL && s->buffer == NULL && s->active_writes == 0);
    SIM_ASSERT(s->to_replace == NULL && s->base == NULL);
    sim_strfree(job->host->arena, s->replaces);
}

void mirror_forget(Job *job)
{
    error_free(mirror_of(job)->replace_blocker);
}

/* One way only. Nothing is drained: requests keep the mode that they began with. */
static void mirror_change(BlockJob *job, const char *text, Error **errp)
{
    MirrorJob *s = mirror_of(&job->job);
    enum mirror_copy_mode mode;

    if (!mirror_copy_mode_parse(text, &mode)) {
        error_setg(errp, "Invalid parameter 'copy-mode'");
    } else if (mode != s->copy_mode && mode != MIRROR_COPY_WRITE_BLOCKING) {
        error_setg(errp, "Change to copy mode '%s' is not implemented", text);
    } else {
        s->copy_mode = mode;
    }
}

static void mirror_query(const BlockJob *job, struct qvalue *entry)
{
    qdict_put(entry, "actively-synced", qvalue_bool(mirror_of(&job->job)->actively_synced));
}

const BlockJobDriver mirror_job_driver = {
    .job_driver =
        {
            .job_type = JOB_TYPE_MIRROR,
            .instance_size = sizeof(MirrorJob),
            .type = SIM_TYPE_mirror_job,
            .run = mirror_run,
            .pause = mirror_pause,
            .complete = mirror_complete,
            .cancel = mirror_cancel,
            .prepare = mirror_prepare,
            .abort = mirror_abort,
            .free = mirror_free,
            .forget = mirror_forget,
        },
    .drained_poll = mirror_drained_poll,
    .change = mirror_change,
    .query = mirror_query,
};

/* --- start ---------------------------------------------------------------------------------------------- */

/* What a start has made so far, for its undoing. */
struct mirror_setup {
    BlockDriverState *filter;
    BdrvDirtyBitmap *bitmap;
    struct bdrv_parents *parents; /* of the source, before the filter came */
};

/* Questions to a driver may take I/O: a coroutine asks while the main one polls. */
struct bitmap_question {
    BlockDriverState *source;
    BlockDriverState *target;
    uint32_t granularity; /* 0: the target's default */
    BdrvDirtyBitmap *bitmap;
    Error **errp;
};

static int mirror_co_create_bitmap(void *opaque)
{
    struct bitmap_question *q = opaque;

    if (q->granularity == 0) {
        q->granularity = bdrv_get_default_bitmap_granularity(q->target);
    }
    q->bitmap = bdrv_create_dirty_bitmap(q->source, q->granularity, NULL, q->errp);
    return q->bitmap != NULL ? 0 : -EIO;
}

static void mirror_setup_done(struct host *host, struct mirror_setup *setup)
{
    if (setup->parents != NULL) {
        bdrv_forget_parents(host, setup->parents);
        setup->parents = NULL;
    }
}

/* Filter and bitmap come in one drained section: what was in flight before it is in the source when the scan looks,
 * and everything after it leaves its bit. */
static int mirror_insert(BlockDriverState *source, BlockDriverState *target, const struct mirror_args *args,
                         struct mirror_setup *setup, Error **errp)
{
    struct host *host = bdrv_host(source);
    struct bitmap_question q = {.source = source, .target = target, .granularity = args->granularity, .errp = errp};
    uint32_t flags = (bdrv_open_flags(source) & BDRV_O_RDWR) | BDRV_O_UNMAP;
    BlockDriverState *filter = bdrv_new_filter(host, &bdrv_mirror_top, args->filter_node_name, flags, errp);
    int ret;

    if (filter == NULL) {
        return -EINVAL;
    }
    if (args->into_chain) {
        mirror_filter_set_into_chain(filter);
    }
    filter->total_bytes = source->total_bytes;
    filter->supported_write_flags = BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_FUA;
    filter->supported_zero_flags =
        BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    bdrv_drained_begin(source);
    ret = bdrv_run_co(host, "mirror bitmap", mirror_co_create_bitmap, &q);
    if (ret == 0) {
        setup->parents = bdrv_note_parents(source);
        ret = bdrv_append(filter, source, errp);
    }
    bdrv_drained_end(source);
    setup->bitmap = q.bitmap;
    if (ret < 0) {
        if (q.bitmap != NULL) {
            bdrv_release_dirty_bitmap(q.bitmap);
        }
        mirror_setup_done(host, setup);
        bdrv_unref(filter);
        return ret;
    }
    setup->filter = filter;
    return 0;
}

/* Edges on both sides, and the target's backend. */
static int mirror_attach(MirrorJob *s, BlockDriverState *source, BlockDriverState *target, Error **errp)
{
    struct host *host = s->common.job.host;
    int ret;

    if (!s->into_chain && bdrv_chain_contains(source, bdrv_skip_filters(target))) {
        error_setg(errp, "Cannot mirror to a filter on top of a node in the source's backing chain");
        return -EINVAL;
    }
    ret = block_job_add_bdrv(&s->common, "source", source, 0,
                             BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED, errp);
    if (ret < 0) {
        return ret;
    }
    /* What is below the source is grown to its size, and those between go on looking at it. */
    s->target = s->into_chain ? blk_new(host, BLK_PERM_WRITE | BLK_PERM_RESIZE,
                                        BLK_PERM_WRITE_UNCHANGED | BLK_PERM_CONSISTENT_READ)
                              : blk_new(host, BLK_PERM_WRITE, BLK_PERM_WRITE_UNCHANGED);
    blk_set_disable_request_queuing(s->target, true);
    ret = blk_insert_bs(s->target, target, errp);
    if (ret < 0) {
        return ret;
    }
    /* Only now: a migration may inactivate a running mirror's target, but none starts on an inactive one
     * (block.md 8.2, 8.9). */
    blk_set_force_allow_inactivate(s->target);
    ret = block_job_add_bdrv(&s->common, "target", target, 0, BLK_PERM_ALL, errp);
    return ret == 0 && s->into_chain ? commit_active_attach(s, source, target, errp) : ret;
}

static void mirror_fill(MirrorJob *s, BlockDriverState *source, BlockDriverState *target,
                        const struct mirror_args *args, const struct mirror_setup *setup)
{
    int64_t buf_bytes = args->buf_size != 0 ? args->buf_size : MIRROR_DEFAULT_BUF_BYTES;

    s->filter = setup->filter;
    s->source = source;
    s->target_bs = target;
    s->dirty_bitmap = setup->bitmap;
    s->into_chain = args->into_chain;
    s->target_was_read_only = args->target_was_read_only;
    if (args->into_chain) {
        s->base = commit_below_overlay(source, target);
    } else {
        s->base = args->sync == MIRROR_SYNC_TOP ? bdrv_backing_chain_next(source) : NULL;
    }
    if (s->base != NULL) {
        bdrv_ref(s->base); /* a reopen may take it out of the source's chain, and its user delete it */
    }
    s->sync = args->sync;
    s->copy_mode = args->copy_mode;
    s->on_source_error = args->on_source_error;
    s->on_target_error = args->on_target_error;
    s->unmap = args->unmap;
    s->zero_target = args->zero_target && args->sync == MIRROR_SYNC_FULL;
    s->backing_mode = args->backing_mode;
    s->granularity = bdrv_dirty_bitmap_granularity(setup->bitmap);
    /* Small buffers are no error [seed 08e4ed6]; the top of the range must not overflow. */
    s->buf_bytes = ROUND_UP(MIN(buf_bytes, BDRV_MAX_LENGTH), s->granularity);
    s->replaces = args->replaces != NULL ? sim_strdup(s->common.job.host->arena, args->replaces) : NULL;
}

/* A refused command leaves the source's parents in the order in which it found them. */
static void mirror_take_filter_back(BlockDriverState *source, struct mirror_setup *setup)
{
    int ret;

    bdrv_ref(source);
    bdrv_drained_begin(source);
    bdrv_drained_begin(setup->filter);
    ret = bdrv_undo_append(setup->filter, source, setup->parents, NULL);
    SIM_ASSERT_EQ(ret, 0);
    bdrv_drained_end(setup->filter);
    bdrv_drained_end(source);
    bdrv_unref(setup->filter);
    bdrv_unref(source);
}

static void mirror_undo(MirrorJob *s, BlockDriverState *source, struct mirror_setup *setup)
{
    if (s != NULL) {
        commit_active_thaw(s, setup->filter, s->target_bs);
        blk_unref(s->target);
        s->target = NULL;
        s->dirty_bitmap = NULL;
        bdrv_unref(s->base);
        s->base = NULL;
        job_early_fail(&s->common.job);
    }
    bdrv_release_dirty_bitmap(setup->bitmap);
    mirror_take_filter_back(source, setup);
}

static MirrorJob *mirror_create(BlockDriverState *source, BlockDriverState *target, const struct mirror_args *args,
                                const struct mirror_setup *setup, Error **errp)
{
    unsigned flags =
        (args->auto_finalize ? 0 : JOB_MANUAL_FINALIZE) | (args->auto_dismiss ? 0 : JOB_MANUAL_DISMISS);
    BlockJob *job = block_job_create(
        args->job_id, args->into_chain ? &commit_active_job_driver : &mirror_job_driver, NULL, setup->filter,
        BLK_PERM_CONSISTENT_READ, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED, args->speed,
        flags, NULL, NULL, errp);

    if (job == NULL) {
        return NULL;
    }
    mirror_fill(mirror_of(&job->job), source, target, args, setup);
    return mirror_of(&job->job);
}

int mirror_start(BlockDriverState *source, BlockDriverState *target, const struct mirror_args *user_args,
                 Error **errp)
{
    struct mirror_args args = *user_args;
    struct mirror_setup setup = {NULL, NULL, NULL};
    MirrorJob *s;
    int ret;

    SIM_ASSERT(host_in_main(bdrv_host(source)));
    /* An active commit has checks of its own, and is past them. */
    ret = args.into_chain ? 0 : mirror_check(source, target, &args, errp);
    if (ret < 0) {
        return ret;
    }
    ret = mirror_insert(source, target, &args, &setup, errp);
    if (ret < 0) {
        return ret;
    }
    s = mirror_create(source, target, &args, &setup, errp);
    ret = s != NULL ? mirror_attach(s, source, target, errp) : -EINVAL;
    if (ret < 0) {
        mirror_undo(s, source, &setup);
        mirror_setup_done(bdrv_host(source), &setup);
        return ret;
    }
    mirror_setup_done(bdrv_host(source), &setup);
    /* From here the job's edge holds the filter. */
    bdrv_unref(setup.filter);
    job_start(&s->common.job);
    return 0;
}

/* --- views ---------------------------------------------------------------------------------------------- */

bool block_job_is_mirror(const Job *job)
{
    return job->driver == &mirror_job_driver.job_driver;
}

BlockDriverState *mirror_source(const Job *job)
{
    return mirror_of(job)->source;
}

BlockDriverState *mirror_target(const Job *job)
{
    return mirror_of(job)->target_bs;
}

BlockDriverState *mirror_filter(const Job *job)
{
    return mirror_of(job)->filter;
}

BdrvDirtyBitmap *mirror_dirty_bitmap(const Job *job)
{
    return mirror_of(job)->dirty_bitmap;
}

unsigned mirror_in_flight(const Job *job)
{
    return mirror_of(job)->in_flight;
}

bool mirror_area_in_flight(const Job *job, int64_t offset, int64_t bytes)
{
    const MirrorJob *s = mirror_of(job);

    return s->in_flight_map != NULL && hbitmap_next_dirty(s->in_flight_map, offset, bytes) >= 0;
}

bool mirror_drains_source(const Job *job)
{
    const MirrorJob *s = mirror_of(job);

    return s->in_drain || s->source_drained;
}

bool mirror_will_switch(const Job *job)
{
    const MirrorJob *s = mirror_of(job);

    return s->switched || (s->should_complete && !s->exit_done && !job->force_cancel);
}

enum mirror_sync mirror_sync_mode(const Job *job)
{
    return mirror_of(job)->sync;
}

enum mirror_copy_mode mirror_copy_mode(const Job *job)
{
    return mirror_of(job)->copy_mode;
}

bool mirror_actively_synced(const Job *job)
{
    return mirror_of(job)->actively_synced;
}

unsigned mirror_active_writes(const Job *job)
{
    return mirror_of(job)->active_writes;
}
