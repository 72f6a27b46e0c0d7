/*
 * blockdev-mirror (reference/jobs.md 4.2, 9).
 */
#include "jobs/mirror.h"

#include <string.h>

#include "monitor/commands.h"

static const char *const syncs[] = {"top", "full", "none", "incremental", "bitmap", NULL};
static const char *const on_errors[] = {"report", "ignore", "enospc", "stop", "auto", NULL};
static const char *const copy_modes[] = {"background", "write-blocking", NULL};

static const struct qmp_arg blockdev_mirror_args[] = {
    {.name = "job-id", .type = QMP_STR, .optional = true, .doc = "default: the name of the source's device"},
    {.name = "device", .type = QMP_STR, .doc = "source: device or root node"},
    {.name = "target", .type = QMP_STR, .doc = "device or node"},
    {.name = "replaces", .type = QMP_STR, .optional = true, .doc = "node that the target takes the place of"},
    {.name = "sync", .type = QMP_ENUM, .choices = syncs, .doc = "what is copied first"},
    {.name = "speed", .type = QMP_INT, .optional = true, .def = "0", .doc = "bytes per second, 0: unlimited"},
    {.name = "granularity", .type = QMP_SIZE, .optional = true, .def = "0", .doc = "bytes, 0: from the target"},
    {.name = "buf-size", .type = QMP_INT, .optional = true, .def = "0", .doc = "bytes, 0: 16M"},
    {.name = "on-source-error",
     .type = QMP_ENUM,
     .optional = true,
     .choices = on_errors,
     .def = "report",
     .doc = "policy for failed reads"},
    {.name = "on-target-error",
     .type = QMP_ENUM,
     .optional = true,
     .choices = on_errors,
     .def = "report",
     .doc = "policy for failed writes"},
    {.name = "filter-node-name", .type = QMP_STR, .optional = true, .doc = "default: an implicit filter"},
    {.name = "copy-mode",
     .type = QMP_ENUM,
     .optional = true,
     .choices = copy_modes,
     .def = "background",
     .doc = "when guest writes reach the target"},
    {.name = "auto-finalize", .type = QMP_BOOL, .optional = true, .def = "true", .doc = "no job-finalize needed"},
    {.name = "auto-dismiss", .type = QMP_BOOL, .optional = true, .def = "true", .doc = "no job-dismiss needed"},
    {.name = NULL},
};

/* Nothing but devices and jobs above it. */
static bool is_root(const BlockDriverState *bs)
{
    for (const BdrvChild *child = bdrv_first_parent(bs); child; child = bdrv_next_parent(child)) {
        if (bdrv_child_parent_bs(child)) {
            return false;
        }
    }
    return true;
}

static enum block_on_error on_error_arg(const struct qvalue *args, const char *name)
{
    enum block_on_error policy = BLOCKDEV_ON_ERROR_REPORT;
    bool known = block_on_error_parse(qmp_arg_str(args, name, "report"), &policy);
    SIM_ASSERT(known);
    return policy;
}

static bool read_args(BlockDriverState *source, const struct qvalue *args, struct mirror_args *out, Error **errp)
{
    *out = (struct mirror_args){
        .job_id = qmp_arg_str(args, "job-id", NULL),
        .filter_node_name = qmp_arg_str(args, "filter-node-name", NULL),
        .replaces = qmp_arg_str(args, "replaces", NULL),
        .speed = qmp_arg_int(args, "speed", 0),
        .buf_size = qmp_arg_int(args, "buf-size", 0),
        .on_source_error = on_error_arg(args, "on-source-error"),
        .on_target_error = on_error_arg(args, "on-target-error"),
        .unmap = true,
        .auto_finalize = qmp_arg_bool(args, "auto-finalize", true),
        .auto_dismiss = qmp_arg_bool(args, "auto-dismiss", true),
    };
    bool known = mirror_sync_parse(qmp_arg_str(args, "sync", NULL), &out->sync);
    SIM_ASSERT(known);
    if (strcmp(qmp_arg_str(args, "copy-mode", "background"), "write-blocking") == 0) {
        out->copy_mode = MIRROR_COPY_WRITE_BLOCKING;
    }
    /* The target exists already and may hold anything. sync=top over no backing copies all there is, so what the
     * source never allocated must read as zero on the target too. */
    out->zero_target =
        out->sync == MIRROR_SYNC_FULL || (out->sync == MIRROR_SYNC_TOP && !bdrv_backing_chain_next(source));
    return qmp_arg_u32(args, "granularity", &out->granularity, errp);
}

static bool cmd_blockdev_mirror(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    struct mirror_args mirror;
    BlockDriverState *source = bdrv_lookup_bs(host, qmp_arg_str(args, "device", NULL), errp);
    if (!source) {
        return false;
    }
    if (!is_root(source)) {
        error_setg(errp, "Need a root block node");
        return false;
    }
    BlockDriverState *target = bdrv_lookup_bs(host, qmp_arg_str(args, "target", NULL), errp);
    if (!target || !read_args(source, args, &mirror, errp)) {
        return false;
    }
    return mirror_start(source, target, &mirror, errp) >= 0;
}

const struct qmp_command qmp_mirror_commands[] = {
    {"blockdev-mirror", blockdev_mirror_args, false, cmd_blockdev_mirror,
     "copies a device to a node and keeps both in sync", NULL},
    {.name = NULL},
};
