/* Starting and ending a backup: checks in the reference's order, the filter, the job; the bitmap settled and the
 * filter gone (reference/jobs.md 5.1, 5.2); and what checkers and queries may see of it. */
#include "jobs/backup.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>

#include "jobs/backup_int.h"

void backup_update_remaining(BackupJob *s)
{
    job_progress_set_remaining(&s->common.job, block_copy_remaining(s->copy));
}

/* After each task, whoever wanted it: what guests' writes save counts, even while the job is paused. 0: something
 * needs no copy any more. */
static void backup_progress(void *opaque, int64_t bytes)
{
    BackupJob *s = opaque;

    SIM_ASSERT(bytes >= 0);
    job_progress_update(&s->common.job, bytes);
    backup_update_remaining(s);
}

/* --- end ------------------------------------------------------------------------------------------------ */

static void backup_commit(Job *job)
{
    backup_settle_bitmap(backup_of(job), true);
}

/* What guests' writes are saving just now is neither copied nor left: it is waited for, lest a bitmap forget it. */
static void backup_abort(Job *job)
{
    BackupJob *s = backup_of(job);

    bdrv_drained_begin(s->filter);
    backup_settle_bitmap(s, false);
    bdrv_drained_end(s->filter);
}

static void backup_let_go(BackupJob *s)
{
    BlockDriverState *nodes[] = {s->source, s->target};

    s->filter = NULL;
    s->source = NULL;
    s->target = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
        bdrv_unref(nodes[i]);
    }
}

/* An overlay would come between the job's filter and the source, or the image that the source filters, and what is
 * asked for is what that image holds itself: of an overlay nothing, and a backup of nothing would pass for one. */
static void backup_hold_layers(BackupJob *s)
{
    for (BlockDriverState *bs = s->source; bs != NULL; bs = bdrv_filter_bs(bs)) {
        SIM_ASSERT_LT(s->held_count, ARRAY_SIZE(s->held));
        bdrv_ref(bs);
        bdrv_op_block(bs, BLOCK_OP_EXTERNAL_SNAPSHOT, s->common.blocker);
        s->held[s->held_count++] = bs;
    }
}

static void backup_release_layers(BackupJob *s)
{
    while (s->held_count > 0) {
        BlockDriverState *bs = s->held[--s->held_count];

        bdrv_op_unblock(bs, BLOCK_OP_EXTERNAL_SNAPSHOT, s->common.blocker);
        bdrv_unref(bs);
    }
}

static void backup_clean(Job *job)
{
    BackupJob *s = backup_of(job);

    SIM_ASSERT(s->call == NULL && s->sync_bitmap == NULL);
    block_copy_set_progress(s->copy, NULL, NULL);
    s->copy = NULL;
    backup_release_layers(s);
    block_job_remove_all_bdrv(&s->common);
    bdrv_cbw_drop(s->filter);
    backup_let_go(s);
}

static void backup_free(Job *job)
{
    const BackupJob *s = backup_of(job);

    SIM_ASSERT(s->call == NULL && s->copy == NULL && s->sync_bitmap == NULL && s->filter == NULL);
}

const BlockJobDriver backup_job_driver = {
    .job_driver =
        {
            .job_type = JOB_TYPE_BACKUP,
            .instance_size = sizeof(BackupJob),
            .type = SIM_TYPE_backup_job,
            .run = backup_run,
            .pause = backup_pause,
            .commit = backup_commit,
            .abort = backup_abort,
            .clean = backup_clean,
            .free = backup_free,
        },
    .set_speed = backup_set_speed,
};

/* --- start checks (5.2) --------------------------------------------------------------------------------- */

static bool has_medium(const BlockDriverState *bs, Error **errp)
{
    if (bs->drv == NULL) {
        error_setg(errp, "Device is not inserted: %s", bdrv_get_node_name(bs));
    }
    return bs->drv != NULL;
}

static bool check_perf(const struct backup_perf *perf, Error **errp)
{
    if (perf->max_workers < 1 || perf->max_workers > INT_MAX) {
        error_setg(errp, "max-workers must be between 1 and %d", INT_MAX);
        return false;
    }
    if (perf->max_chunk < 0) {
        error_setg(errp, "max-chunk must be zero (which means no limit) or positive");
        return false;
    }
    return true;
}

static bool check_nodes(BlockDriverState *source, BlockDriverState *target, const struct backup_args *args,
                        Error **errp)
{
    if (source == target) {
        error_setg(errp, "Source and target cannot be the same");
        return false;
    }
    if (!has_medium(source, errp) || !has_medium(target, errp)) {
        return false;
    }
    if (args->compress && !(target->supported_write_flags & BDRV_REQ_WRITE_COMPRESSED)) {
        error_setg(errp, "Compression is not supported for this drive %s", bdrv_get_node_name(target));
        return false;
    }
    return !bdrv_op_is_blocked(source, BLOCK_OP_BACKUP_SOURCE, errp) &&
           !bdrv_op_is_blocked(target, BLOCK_OP_BACKUP_TARGET, errp) && check_perf(&args->perf, errp);
}

/* Questions to a driver may take I/O: a coroutine asks while the main one polls. */
static int64_t backup_length(BlockDriverState *bs, Error **errp)
{
    int64_t bytes = bdrv_getlength(bs);

    if (bytes < 0) {
        error_setg_errno(errp, (int)bytes, "Unable to get length for '%s'", bdrv_get_node_name(bs));
    }
    return bytes;
}

/* --- start ---------------------------------------------------------------------------------------------- */

/* What a start has made so far, for its undoing. */
struct backup_setup {
    BdrvDirtyBitmap *bitmap; /* frozen */
    int64_t length;
    BlockDriverState *filter;
    BlockCopyState *copy;
    struct bdrv_parents *parents; /* of the source, before the filter came */
};

static bool backup_measure(BlockDriverState *source, BlockDriverState *target, struct backup_setup *setup,
                           Error **errp)
{
    int64_t target_length;

    setup->length = backup_length(source, errp);
    if (setup->length < 0) {
        return false;
    }
    target_length = backup_length(target, errp);
    if (target_length >= 0 && target_length != setup->length) {
        error_setg(errp, "Source and target image have different sizes");
    }
    return target_length == setup->length;
}

static bool backup_insert(BlockDriverState *source, BlockDriverState *target, const struct backup_args *args,
                          struct backup_setup *setup, Error **errp)
{
    const struct cbw_args cbw = {
        .node_name = args->filter_node_name,
        .copy =
            {
                .bitmap = backup_follows_bitmap(args->sync) ? setup->bitmap : NULL,
                .min_cluster_size = args->perf.min_cluster_size,
                .use_copy_range = args->perf.use_copy_range,
                .compress = args->compress,
                .discard_source = args->discard_source,
            },
        .on_cbw_error = ON_CBW_ERROR_BREAK_GUEST_WRITE,
    };
    int64_t max_chunk = args->perf.max_chunk;

    setup->parents = bdrv_note_parents(source);
    setup->filter = bdrv_cbw_append(source, target, &cbw, &setup->copy, errp);
    if (setup->filter == NULL) {
        return false;
    }
    if (max_chunk > 0 && max_chunk < block_copy_cluster_size(setup->copy)) {
        error_setg(errp, "Required max-chunk (%" PRId64 ") is less than backup cluster size (%" PRId64 ")",
                   max_chunk, block_copy_cluster_size(setup->copy));
        return false;
    }
    return true;
}

static void backup_fill(BackupJob *s, BlockDriverState *source, BlockDriverState *target,
                        const struct backup_args *args, const struct backup_setup *setup)
{
    s->filter = setup->filter;
    s->source = source;
    s->target = target;
    bdrv_ref(source);
    bdrv_ref(target);
    s->copy = setup->copy;
    s->sync_bitmap = setup->bitmap;
    s->sync = args->sync;
    s->bitmap_mode = args->bitmap_mode;
    s->on_source_error = args->on_source_error;
    s->on_target_error = args->on_target_error;
    s->perf = args->perf;
    s->length = setup->length;
    co_queue_init(s->common.job.host->sim, &s->call_over);
    block_copy_set_progress(s->copy, backup_progress, s);
    block_copy_set_speed(s->copy, (uint64_t)args->speed);
    if (s->sync == MIRROR_SYNC_TOP) {
        block_copy_set_skip_unallocated(s->copy, true);
        backup_hold_layers(s);
    }
    if (s->sync == MIRROR_SYNC_NONE) {
        job_progress_set_remaining(&s->common.job, s->length);
    } else {
        backup_update_remaining(s);
    }
}

static BlockJob *backup_make_job(BlockDriverState *source, BlockDriverState *target, const struct backup_args *args,
                                 const struct backup_setup *setup, Error **errp)
{
    /* The filter has the rights that copying needs. */
    BlockJob *job = block_job_create(args->job_id, &backup_job_driver, args->txn, setup->filter, 0, BLK_PERM_ALL,
                                     args->speed, args->flags, args->cb, args->cb_opaque, errp);

    if (job == NULL) {
        return NULL;
    }
    if (block_job_add_bdrv(job, "target", target, 0, BLK_PERM_ALL, errp) < 0) {
        job_early_fail(&job->job);
        return NULL;
    }
    backup_fill(backup_of(&job->job), source, target, args, setup);
    return job;
}

static BlockJob *backup_do_create(BlockDriverState *source, BlockDriverState *target,
                                  const struct backup_args *args, struct backup_setup *setup, Error **errp)
{
    if (setup->bitmap != NULL && bdrv_dirty_bitmap_create_successor(setup->bitmap, errp) < 0) {
        setup->bitmap = NULL;
        return NULL;
    }
    if (!backup_measure(source, target, setup, errp) || !backup_insert(source, target, args, setup, errp)) {
        return NULL;
    }
    return backup_make_job(source, target, args, setup, errp);
}

/* A refused command leaves no trace, neither in the order of the source's parents nor in the bitmap. */
static void backup_undo(BlockDriverState *source, struct backup_setup *setup)
{
    if (setup->filter != NULL) {
        bdrv_cbw_undo(setup->filter, source, setup->parents);
    }
    if (setup->bitmap != NULL) {
        bdrv_reclaim_dirty_bitmap(setup->bitmap, NULL);
    }
}

BlockJob *backup_job_create(BlockDriverState *source, BlockDriverState *target, const struct backup_args *user_args,
                            Error **errp)
{
    struct backup_args args = *user_args;
    struct backup_setup setup = {.bitmap = NULL};
    BlockJob *job;

    SIM_ASSERT(host_in_main(bdrv_host(source)));
    if (!backup_check_bitmap(source, &args, &setup.bitmap, errp) || !check_nodes(source, target, &args, errp)) {
        return NULL;
    }
    /* Questions and drains wait, and whoever runs meanwhile may drop nodes. */
    bdrv_ref(source);
    bdrv_ref(target);
    job = backup_do_create(source, target, &args, &setup, errp);
    if (job == NULL) {
        backup_undo(source, &setup);
    }
    if (setup.parents != NULL) {
        bdrv_forget_parents(bdrv_host(source), setup.parents);
    }
    bdrv_unref(target);
    bdrv_unref(source);
    return job;
}

/* --- views ---------------------------------------------------------------------------------------------- */

bool block_job_is_backup(const Job *job)
{
    return job->driver == &backup_job_driver.job_driver;
}

BlockDriverState *backup_source(const Job *job)
{
    return backup_of(job)->source;
}

BlockDriverState *backup_target(const Job *job)
{
    return backup_of(job)->target;
}

BlockDriverState *backup_filter(const Job *job)
{
    return backup_of(job)->filter;
}

const BlockCopyState *backup_copy_state(const Job *job)
{
    return backup_of(job)->copy;
}

const BdrvDirtyBitmap *backup_sync_bitmap(const Job *job)
{
    return backup_of(job)->sync_bitmap;
}

enum mirror_sync backup_sync_mode(const Job *job)
{
    return backup_of(job)->sync;
}

enum bitmap_sync_mode backup_bitmap_mode(const Job *job)
{
    return backup_of(job)->bitmap_mode;
}

bool backup_refused_at_once(const Job *job)
{
    return backup_of(job)->refused_at_once;
}
