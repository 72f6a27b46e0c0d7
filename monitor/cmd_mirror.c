/*
 * blockdev-mirror, drive-mirror (reference/jobs.md 4.2, 9).
 */
#include "jobs/mirror.h"

#include <string.h>

#include "monitor/job_args.h"

static const char *const copy_modes[] = {"background", "write-blocking", NULL};

/* What both commands take, before and after what is their own. */
#define MIRROR_ARGS(target_doc) \
    QMP_JOB_ID_ARG("the source's device"), \
        {.name = "device", .type = QMP_STR, .doc = "source: device or root node"}, \
        {.name = "target", .type = QMP_STR, .doc = target_doc}, \
        {.name = "replaces", .type = QMP_STR, .optional = true, .doc = "node that the target takes the place of"}, \
        QMP_JOB_SYNC_ARG("what is copied first"), QMP_JOB_SPEED_ARG, \
        {.name = "granularity", \
         .type = QMP_SIZE, \
         .optional = true, \
         .def = "0", \
         .doc = "bytes, 0: from the target"}, \
        {.name = "buf-size", .type = QMP_INT, .optional = true, .def = "0", .doc = "bytes, 0: 16M"}, \
        QMP_JOB_ON_ERROR_ARG("on-source-error", "policy for failed reads"), \
        QMP_JOB_ON_ERROR_ARG("on-target-error", "policy for failed writes")
#define MIRROR_LAST_ARGS \
    {.name = "copy-mode", \
     .type = QMP_ENUM, \
     .optional = true, \
     .choices = copy_modes, \
     .def = "background", \
     .doc = "when guest writes reach the target"}, \
        QMP_JOB_AUTO_ARGS

static const struct qmp_arg blockdev_mirror_args[] = {
    MIRROR_ARGS("device or node"),
    QMP_JOB_FILTER_ARG,
    MIRROR_LAST_ARGS,
    {.name = NULL},
};

static const struct qmp_arg drive_mirror_args[] = {
    MIRROR_ARGS("file"),
    {.name = "format",
     .type = QMP_STR,
     .optional = true,
     .doc = "default: the source's; of an existing file: probed"},
    {.name = "node-name", .type = QMP_STR, .optional = true, .doc = "name of the target's node"},
    QMP_JOB_MODE_ARG("whether the file is made or there already"),
    {.name = "unmap", .type = QMP_BOOL, .optional = true, .def = "true", .doc = "zeroes may be holes"},
    MIRROR_LAST_ARGS,
    {.name = NULL},
};

static bool read_args(const struct qvalue *args, struct mirror_args *out, Error **errp)
{
    *out = (struct mirror_args){
        .job_id = qmp_arg_str(args, "job-id", NULL),
        .filter_node_name = qmp_arg_str(args, "filter-node-name", NULL),
        .replaces = qmp_arg_str(args, "replaces", NULL),
        .speed = qmp_arg_int(args, "speed", 0),
        .buf_size = qmp_arg_int(args, "buf-size", 0),
        .on_source_error = qmp_job_on_error(args, "on-source-error"),
        .on_target_error = qmp_job_on_error(args, "on-target-error"),
        .unmap = qmp_arg_bool(args, "unmap", true),
        .auto_finalize = qmp_arg_bool(args, "auto-finalize", true),
        .auto_dismiss = qmp_arg_bool(args, "auto-dismiss", true),
    };
    bool known = mirror_sync_parse(qmp_arg_str(args, "sync", NULL), &out->sync) &&
                 mirror_copy_mode_parse(qmp_arg_str(args, "copy-mode", "background"), &out->copy_mode);
    SIM_ASSERT(known);
    return qmp_arg_u32(args, "granularity", &out->granularity, errp);
}

static BlockDriverState *find_source(struct host *host, const struct qvalue *args, Error **errp)
{
    BlockDriverState *source = bdrv_lookup_bs(host, qmp_arg_str(args, "device", NULL), errp);

    if (source && !bdrv_is_root_node(source)) {
        error_setg(errp, "Need a root block node");
        return NULL;
    }
    return source;
}

static bool cmd_blockdev_mirror(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    struct mirror_args mirror;
    BlockDriverState *source = find_source(host, args, errp);
    if (!source) {
        return false;
    }
    BlockDriverState *target = bdrv_lookup_bs(host, qmp_arg_str(args, "target", NULL), errp);
    if (!target || !read_args(args, &mirror, errp)) {
        return false;
    }
    /* The target exists already and may hold anything. */
    mirror.zero_target = mirror.sync == MIRROR_SYNC_FULL;
    return mirror_start(source, target, &mirror, errp) >= 0;
}

static bool cmd_drive_mirror(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    const struct drive_mirror_file file = {
        .filename = qmp_arg_str(args, "target", NULL),
        .format = qmp_arg_str(args, "format", NULL),
        .node_name = qmp_arg_str(args, "node-name", NULL),
        .existing = strcmp(qmp_arg_str(args, "mode", "absolute-paths"), "existing") == 0,
    };
    struct mirror_args mirror;
    BlockDriverState *source = find_source(host, args, errp);

    return source && read_args(args, &mirror, errp) && drive_mirror_start(source, &file, &mirror, errp) >= 0;
}

const struct qmp_command qmp_mirror_commands[] = {
    {"blockdev-mirror", blockdev_mirror_args, false, cmd_blockdev_mirror,
     "copies a device to a node and keeps both in sync", NULL},
    {"drive-mirror", drive_mirror_args, false, cmd_drive_mirror, "copies a device to a file and keeps both in sync",
     NULL},
    {.name = NULL},
};
