/*
 * blockdev-backup, drive-backup: as actions of a transaction, and as commands, which are transactions of one action
 * (reference/jobs.md 5, 9).
 *
 * The job is there when prepare returns, over a drained source, and starts when all others are prepared, too: what
 * the transaction undoes has never run.
 */
#include "jobs/backup.h"

#include <string.h>

#include "jobs/drive_target.h"
#include "monitor/job_args.h"
#include "monitor/transaction.h"

static const char *const bitmap_modes[] = {"on-success", "never", "always", NULL};

static const struct qmp_arg perf_args[] = {
    {.name = "use-copy-range",
     .type = QMP_BOOL,
     .optional = true,
     .def = "false",
     .doc = "media copy by themselves where they can"},
    {.name = "max-workers", .type = QMP_INT, .optional = true, .def = "64", .doc = "copies at a time"},
    {.name = "max-chunk", .type = QMP_INT, .optional = true, .def = "0", .doc = "bytes of a copy, 0: no limit"},
    {.name = "min-cluster-size",
     .type = QMP_SIZE,
     .optional = true,
     .def = "0",
     .doc = "bytes, a power of two; 0: no wish"},
    {.name = NULL},
};

#define BACKUP_ARGS \
    QMP_JOB_SYNC_ARG("what is copied"), QMP_JOB_SPEED_ARG, \
        {.name = "bitmap", .type = QMP_STR, .optional = true, .doc = "dirty bitmap of the source"}, \
        {.name = "bitmap-mode", \
         .type = QMP_ENUM, \
         .optional = true, \
         .choices = bitmap_modes, \
         .doc = "when the bitmap begins anew"}, \
        {.name = "compress", .type = QMP_BOOL, .optional = true, .def = "false", .doc = "writes are compressed"}, \
        QMP_JOB_ON_ERROR_ARG("on-source-error", "policy for failed reads"), \
        QMP_JOB_ON_ERROR_ARG("on-target-error", "policy for failed writes"), QMP_JOB_AUTO_ARGS, \
        QMP_JOB_FILTER_ARG, \
        {.name = "discard-source", \
         .type = QMP_BOOL, \
         .optional = true, \
         .def = "false", \
         .doc = "what is copied is discarded on the source"}, \
    { \
        .name = "x-perf", .type = QMP_DICT, .optional = true, .of = perf_args, \
        .doc = "{use-copy-range, max-workers, max-chunk, min-cluster-size}" \
    }

static const struct qmp_arg blockdev_backup_args[] = {
    QMP_JOB_ID_ARG("the source's device"),
    {.name = "device", .type = QMP_STR, .doc = "source: device or node"},
    {.name = "target", .type = QMP_STR, .doc = "device or node, as long as the source"},
    BACKUP_ARGS,
    {.name = NULL},
};

static const struct qmp_arg drive_backup_args[] = {
    QMP_JOB_ID_ARG("the source's device"),
    {.name = "device", .type = QMP_STR, .doc = "source: device or node"},
    {.name = "target", .type = QMP_STR, .doc = "file of the target"},
    {.name = "format", .type = QMP_STR, .optional = true, .doc = "default: the source's; probed if existing"},
    QMP_JOB_MODE_ARG("whether the target is made or there already"),
    BACKUP_ARGS,
    {.name = NULL},
};

/* --- arguments -------------------------------------------------------------------------------------------- */

static struct backup_perf perf_arg(const struct qvalue *perf)
{
    return (struct backup_perf){
        .use_copy_range = qmp_arg_bool(perf, "use-copy-range", false),
        .max_workers = qmp_arg_int(perf, "max-workers", BLOCK_COPY_MAX_WORKERS),
        .max_chunk = qmp_arg_int(perf, "max-chunk", 0),
        .min_cluster_size = qmp_arg_int(perf, "min-cluster-size", 0),
    };
}

static enum bitmap_sync_mode bitmap_mode_arg(const struct qvalue *data)
{
    const char *text = qmp_arg_str(data, "bitmap-mode", "on-success");
    enum bitmap_sync_mode mode = BITMAP_SYNC_ON_SUCCESS;

    while (strcmp(bitmap_modes[mode], text) != 0) {
        mode++;
        SIM_ASSERT(bitmap_modes[mode]);
    }
    return mode;
}

static struct backup_args read_args(const struct qvalue *data)
{
    struct backup_args args = {
        .job_id = qmp_arg_str(data, "job-id", NULL),
        .filter_node_name = qmp_arg_str(data, "filter-node-name", NULL),
        .bitmap = qmp_arg_str(data, "bitmap", NULL),
        .has_bitmap_mode = qdict_get(data, "bitmap-mode") != NULL,
        .bitmap_mode = bitmap_mode_arg(data),
        .compress = qmp_arg_bool(data, "compress", false),
        .discard_source = qmp_arg_bool(data, "discard-source", false),
        .perf = perf_arg(qdict_get(data, "x-perf")),
        .speed = qmp_arg_int(data, "speed", 0),
        .on_source_error = qmp_job_on_error(data, "on-source-error"),
        .on_target_error = qmp_job_on_error(data, "on-target-error"),
    };
    bool known = mirror_sync_parse(qmp_arg_str(data, "sync", NULL), &args.sync);

    SIM_ASSERT(known);
    args.flags |= qmp_arg_bool(data, "auto-finalize", true) ? 0 : JOB_MANUAL_FINALIZE;
    args.flags |= qmp_arg_bool(data, "auto-dismiss", true) ? 0 : JOB_MANUAL_DISMISS;
    return args;
}

/* --- actions ---------------------------------------------------------------------------------------------- */

struct backup_state {
    BlockDriverState *bs; /* the source, drained and held to the end */
    Job *job;             /* held: an abort of its group may end it before its own turn comes */
};

static void hold_source(struct backup_state *s, BlockDriverState *bs)
{
    bdrv_ref(bs);
    bdrv_drained_begin(bs);
    s->bs = bs;
}

static void let_source_go(struct backup_state *s)
{
    bdrv_drained_end(s->bs);
    bdrv_unref(s->bs);
    s->bs = NULL;
}

static bool make_job(struct qmp_transaction *transaction, struct backup_state *s, BlockDriverState *target,
                     struct backup_args *args, Error **errp)
{
    args->txn = transaction->txn;
    BlockJob *job = backup_job_create(s->bs, target, args, errp);
    if (job) {
        s->job = &job->job;
        job_ref(s->job);
    }
    return job != NULL;
}

static bool blockdev_backup_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state,
                                    Error **errp)
{
    struct backup_state *s = state;
    struct backup_args args = read_args(data);
    BlockDriverState *bs = bdrv_lookup_bs(transaction->host, qmp_arg_str(data, "device", NULL), errp);
    if (!bs) {
        return false;
    }
    BlockDriverState *target = bdrv_lookup_bs(transaction->host, qmp_arg_str(data, "target", NULL), errp);
    if (!target) {
        return false;
    }
    bdrv_ref(target);
    hold_source(s, bs);
    bool ok = make_job(transaction, s, target, &args, errp);
    if (!ok) {
        let_source_go(s);
    }
    bdrv_unref(target);
    return ok;
}

/* A guest's device may be empty; nodes never are. */
static BlockDriverState *find_drive(struct host *host, const char *device, Error **errp)
{
    const BlockBackend *blk = blk_by_name(host, device);

    if (blk && !blk_bs(blk)) {
        error_setg(errp, "Device has no medium");
        return NULL;
    }
    return bdrv_lookup_bs(host, device, errp);
}

/* What the target stands on is decided by what it lacks: with top what the source stands on itself, with none the
 * source. */
static BlockDriverState *open_drive(BlockDriverState *bs, const struct qvalue *data, struct backup_args *args,
                                    Error **errp)
{
    struct drive_target file = {
        .filename = qmp_arg_str(data, "target", NULL),
        .format = qmp_arg_str(data, "format", NULL),
        .existing = strcmp(qmp_arg_str(data, "mode", "absolute-paths"), "existing") == 0,
    };

    if (args->sync == MIRROR_SYNC_TOP) {
        file.backing = bdrv_backing_chain_next(bs);
        args->sync = file.backing ? MIRROR_SYNC_TOP : MIRROR_SYNC_FULL;
    } else if (args->sync == MIRROR_SYNC_NONE) {
        file.backing = bs;
        file.no_backing = true;
    }
    BlockDriverState *target = drive_target_open(bs, &file, errp);
    if (target && args->sync == MIRROR_SYNC_NONE && bdrv_set_backing_hd(target, bs, errp) < 0) {
        bdrv_unref(target);
        return NULL;
    }
    return target;
}

static bool drive_backup_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state,
                                 Error **errp)
{
    struct backup_state *s = state;
    struct backup_args args = read_args(data);
    BlockDriverState *bs = find_drive(transaction->host, qmp_arg_str(data, "device", NULL), errp);
    /* Before a file is made or changed for nothing. */
    if (!bs || bdrv_op_is_blocked(bs, BLOCK_OP_BACKUP_SOURCE, errp)) {
        return false;
    }
    hold_source(s, bs);
    BlockDriverState *target = open_drive(bs, data, &args, errp);
    bool ok = target && make_job(transaction, s, target, &args, errp);
    if (!ok) {
        let_source_go(s);
    }
    /* The job holds it from here on, and whoever names its node meanwhile. */
    bdrv_unref(target);
    return ok;
}

static void backup_abort(struct qmp_transaction *transaction, void *state)
{
    struct backup_state *s = state;

    job_cancel_sync(s->job, true);
}

/* Its edges are drained, so that it parks before its first step; clients see that (1.8). */
static bool has_parked(void *opaque)
{
    const Job *job = opaque;

    return job_is_paused(job) || job_is_completed(job);
}

static void backup_commit(struct qmp_transaction *transaction, void *state)
{
    struct backup_state *s = state;

    job_start(s->job);
    host_poll(transaction->host, has_parked, s->job);
    transaction->started_jobs = true;
}

static void backup_clean(struct qmp_transaction *transaction, void *state)
{
    struct backup_state *s = state;

    job_unref(s->job);
    let_source_go(s);
}

#define BACKUP_ACTION(action_name, table, fn, text) \
    { \
        .name = action_name, .args = table, .may_group = true, .state_size = sizeof(struct backup_state), \
        .prepare = fn, .abort = backup_abort, .commit = backup_commit, .clean = backup_clean, .doc = text, \
    }

const struct qmp_action qmp_backup_actions[] = {
    BACKUP_ACTION("blockdev-backup", blockdev_backup_args, blockdev_backup_prepare,
                  "copies to a node what the source holds now"),
    BACKUP_ACTION("drive-backup", drive_backup_args, drive_backup_prepare,
                  "copies to a file what the source holds now"),
    {.name = NULL},
};

/* --- commands --------------------------------------------------------------------------------------------- */

static bool cmd_blockdev_backup(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return qmp_run_action(host, "blockdev-backup", args, errp);
}

static bool cmd_drive_backup(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return qmp_run_action(host, "drive-backup", args, errp);
}

const struct qmp_command qmp_backup_commands[] = {
    {"blockdev-backup", blockdev_backup_args, false, cmd_blockdev_backup,
     "copies to a node what the source holds now, while the guest goes on", NULL},
    {"drive-backup", drive_backup_args, false, cmd_drive_backup,
     "copies to a file what the source holds now, while the guest goes on", NULL},
    {.name = NULL},
};
