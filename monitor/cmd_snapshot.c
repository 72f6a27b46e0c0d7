/*
 * blockdev-snapshot, blockdev-snapshot-sync: as actions of a transaction, and as commands, which are transactions
 * of one action (reference/block.md 9).
 */
#include "block/snapshot.h"

#include <string.h>

#include "monitor/commands.h"
#include "monitor/transaction.h"

static const char *const modes[] = {"absolute-paths", "existing", NULL};

static const struct qmp_arg snapshot_args[] = {
    {.name = "node", .type = QMP_STR, .doc = "device or node that is kept as it is"},
    {.name = "overlay", .type = QMP_STR, .doc = "node that goes on top: supports backing, has none, is not read"},
    {.name = NULL},
};

static const struct qmp_arg snapshot_sync_args[] = {
    {.name = "device", .type = QMP_STR, .optional = true, .doc = "device, or"},
    {.name = "node-name", .type = QMP_STR, .optional = true, .doc = "node that is kept as it is"},
    {.name = "snapshot-file", .type = QMP_STR, .doc = "file of the overlay"},
    {.name = "snapshot-node-name",
     .type = QMP_STR,
     .optional = true,
     .doc = "name of the overlay; required with node-name"},
    {.name = "format", .type = QMP_STR, .optional = true, .def = "qcow2", .doc = "format of the overlay"},
    {.name = "mode",
     .type = QMP_ENUM,
     .optional = true,
     .choices = modes,
     .def = "absolute-paths",
     .doc = "whether the overlay is made or there already"},
    {.name = NULL},
};

/* --- actions ---------------------------------------------------------------------------------------------- */

static bool snapshot_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state,
                             Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(transaction->host, qmp_arg_str(data, "node", NULL), errp);

    return bs && external_snapshot_prepare(state, bs, qmp_arg_str(data, "overlay", NULL), NULL, errp) >= 0;
}

static bool snapshot_sync_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state,
                                  Error **errp)
{
    BlockDriverState *bs = qmp_device_or_node(transaction->host, data, errp);
    const struct bdrv_overlay_file file = {
        .filename = qmp_arg_str(data, "snapshot-file", NULL),
        .format = qmp_arg_str(data, "format", "qcow2"),
        .node_name = qmp_arg_str(data, "snapshot-node-name", NULL),
        .existing = strcmp(qmp_arg_str(data, "mode", "absolute-paths"), "existing") == 0,
    };

    if (!bs) {
        return false;
    }
    if (!qdict_get(data, "device") && !file.node_name) {
        error_setg(errp, "New overlay node-name missing");
        return false;
    }
    return external_snapshot_prepare(state, bs, NULL, &file, errp) >= 0;
}

static void snapshot_commit(struct qmp_transaction *transaction, void *state)
{
    external_snapshot_commit(state);
}

static void snapshot_abort(struct qmp_transaction *transaction, void *state)
{
    external_snapshot_abort(state);
}

static void snapshot_clean(struct qmp_transaction *transaction, void *state)
{
    external_snapshot_clean(state);
}

#define SNAPSHOT_ACTION(action_name, table, fn, text) \
    { \
        .name = action_name, .args = table, .state_size = sizeof(ExternalSnapshot), .prepare = fn, \
        .abort = snapshot_abort, .commit = snapshot_commit, .clean = snapshot_clean, .doc = text, \
    }

const struct qmp_action qmp_snapshot_actions[] = {
    SNAPSHOT_ACTION("blockdev-snapshot", snapshot_args, snapshot_prepare, "puts a node on top of another"),
    SNAPSHOT_ACTION("blockdev-snapshot-sync", snapshot_sync_args, snapshot_sync_prepare,
                    "makes or opens an overlay and puts it on top"),
    {.name = NULL},
};

/* --- commands --------------------------------------------------------------------------------------------- */

static bool cmd_snapshot(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return qmp_run_action(host, "blockdev-snapshot", args, errp);
}

static bool cmd_snapshot_sync(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return qmp_run_action(host, "blockdev-snapshot-sync", args, errp);
}

const struct qmp_command qmp_snapshot_commands[] = {
    {"blockdev-snapshot", snapshot_args, false, cmd_snapshot, "puts a node on top of another, which stays as it is",
     NULL},
    {"blockdev-snapshot-sync", snapshot_sync_args, false, cmd_snapshot_sync,
     "makes or opens an overlay and puts it on top", NULL},
    {.name = NULL},
};
