/*
 * blockdev-snapshot-internal-sync, as an action of a transaction and as a command, and
 * blockdev-snapshot-delete-internal-sync (reference/block.md 9).
 */
#include "block/snapshot.h"
#include "monitor/commands.h"
#include "monitor/transaction.h"

static const struct qmp_arg create_args[] = {
    {.name = "device", .type = QMP_STR, .doc = "device or root node whose image keeps the snapshot"},
    {.name = "name", .type = QMP_STR, .doc = "of the snapshot; not empty, and new"},
    {.name = NULL},
};

static const struct qmp_arg delete_args[] = {
    {.name = "device", .type = QMP_STR, .doc = "device or root node whose image holds the snapshot"},
    {.name = "id", .type = QMP_STR, .optional = true, .doc = "of the snapshot, or"},
    {.name = "name", .type = QMP_STR, .optional = true, .doc = "of the snapshot; both: the one with both"},
    {.name = NULL},
};

/* --- snapshots as queries show them -------------------------------------------------------------------------- */

static struct qvalue *snapshot_info(const QEMUSnapshotInfo *sn)
{
    struct qvalue *info = qvalue_dict();

    qdict_put(info, "id", qvalue_str(sn->id_str));
    qdict_put(info, "name", qvalue_str(sn->name));
    qdict_put(info, "vm-state-size", qvalue_int((int64_t)sn->vm_state_size));
    qdict_put(info, "date-sec", qvalue_int(sn->date_sec));
    qdict_put(info, "date-nsec", qvalue_int(sn->date_nsec));
    qdict_put(info, "vm-clock-sec", qvalue_int((int64_t)(sn->vm_clock_nsec / 1000000000)));
    qdict_put(info, "vm-clock-nsec", qvalue_int((int64_t)(sn->vm_clock_nsec % 1000000000)));
    if (sn->icount != UINT64_MAX) {
        qdict_put(info, "icount", qvalue_int((int64_t)sn->icount));
    }
    return info;
}

struct qvalue *qmp_snapshots_info(const BlockDriverState *bs)
{
    QEMUSnapshotInfo *list;
    int count = bdrv_snapshot_list(bs, &list);
    struct qvalue *snapshots = count > 0 ? qvalue_list() : NULL;

    for (int i = 0; i < count; i++) {
        qlist_append(snapshots, snapshot_info(&list[i]));
    }
    bdrv_snapshot_list_free(list, MAX(count, 0));
    return snapshots;
}

/* The one that has the id and the name, as far as they are given; NULL without one. */
static struct qvalue *find_snapshot(const BlockDriverState *bs, const char *id, const char *name)
{
    QEMUSnapshotInfo *list;
    int count = bdrv_snapshot_list(bs, &list);
    struct qvalue *info = NULL;

    for (int i = 0; i < count && !info; i++) {
        if ((!id || str_is(list[i].id_str, id)) && (!name || str_is(list[i].name, name))) {
            info = snapshot_info(&list[i]);
        }
    }
    bdrv_snapshot_list_free(list, MAX(count, 0));
    return info;
}

static BlockDriverState *root_bs(struct host *host, const char *device, Error **errp)
{
    BlockDriverState *bs = bdrv_lookup_bs(host, device, errp);

    if (bs && !bdrv_is_root_node(bs)) {
        error_setg(errp, "Need a root block node");
        return NULL;
    }
    return bs;
}

/* --- create --------------------------------------------------------------------------------------------------- */

static bool check_create(const BlockDriverState *bs, const char *device, const char *name, Error **errp)
{
    if (bdrv_op_is_blocked(bs, BLOCK_OP_INTERNAL_SNAPSHOT, errp)) {
        return false;
    }
    if (bdrv_is_read_only(bs)) {
        error_setg(errp, "Device '%s' is read only", device);
        return false;
    }
    if (!bdrv_can_snapshot(bs)) {
        error_setg(errp, "Block format '%s' used by device '%s' does not support internal snapshots",
                   bdrv_driver_name(bs), device);
        return false;
    }
    if (name[0] == '\0') {
        error_setg(errp, "Name is empty");
        return false;
    }
    struct qvalue *existing = find_snapshot(bs, NULL, name);
    if (existing) {
        error_setg(errp, "Snapshot with name '%s' already exists on device '%s'", name, device);
        qvalue_free(existing);
        return false;
    }
    return true;
}

static bool create_prepare(struct qmp_transaction *transaction, const struct qvalue *data, void *state,
                           Error **errp)
{
    const char *device = qmp_arg_str(data, "device", NULL);
    const char *name = qmp_arg_str(data, "name", NULL);
    BlockDriverState *bs = root_bs(transaction->host, device, errp);

    if (!bs || !check_create(bs, device, name, errp)) {
        return false;
    }
    if (internal_snapshot_prepare(state, bs, name, errp) < 0) {
        error_prepend(errp, "Failed to create snapshot '%s' on device '%s': ", name, device);
        return false;
    }
    return true;
}

static void create_abort(struct qmp_transaction *transaction, void *state)
{
    internal_snapshot_abort(state);
}

static void create_clean(struct qmp_transaction *transaction, void *state)
{
    internal_snapshot_clean(state);
}

const struct qmp_action qmp_internal_snapshot_actions[] = {
    {
        .name = "blockdev-snapshot-internal-sync",
        .args = create_args,
        .state_size = sizeof(InternalSnapshot),
        .prepare = create_prepare,
        .abort = create_abort,
        .clean = create_clean,
        .doc = "keeps what the disk holds inside its image",
    },
    {.name = NULL},
};

static bool cmd_create(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return qmp_run_action(host, "blockdev-snapshot-internal-sync", args, errp);
}

/* --- delete --------------------------------------------------------------------------------------------------- */

static bool delete_snapshot(BlockDriverState *bs, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    const char *device = qmp_arg_str(args, "device", NULL);
    const char *id = qmp_arg_str(args, "id", NULL);
    const char *name = qmp_arg_str(args, "name", NULL);

    if (!id && !name) {
        error_setg(errp, "Name or id must be provided");
        return false;
    }
    if (bdrv_op_is_blocked(bs, BLOCK_OP_INTERNAL_SNAPSHOT_DELETE, errp)) {
        return false;
    }
    struct qvalue *info = find_snapshot(bs, id, name);
    if (!info) {
        error_setg(errp, "Snapshot with id '%s' and name '%s' does not exist on device '%s'", id ? id : "null",
                   name ? name : "null", device);
        return false;
    }
    struct co_cleanup cleanup;
    coroutine_cleanup_push(bdrv_host(bs)->sim, &cleanup, qvalue_cleanup, info);
    int ret = internal_snapshot_delete(bs, id, name, errp);
    coroutine_cleanup_pop(&cleanup);
    if (ret < 0) {
        qvalue_free(info);
        return false;
    }
    *reply = info;
    return true;
}

static bool cmd_delete(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    BlockDriverState *bs = root_bs(host, qmp_arg_str(args, "device", NULL), errp);

    if (!bs) {
        return false;
    }
    bdrv_ref(bs);
    bool ok = delete_snapshot(bs, args, reply, errp);
    bdrv_unref(bs);
    return ok;
}

const struct qmp_command qmp_internal_snapshot_commands[] = {
    {"blockdev-snapshot-internal-sync", create_args, false, cmd_create,
     "keeps what the disk holds inside its image", NULL},
    {"blockdev-snapshot-delete-internal-sync", delete_args, false, cmd_delete,
     "deletes a snapshot from inside an image; the reply is what it was", NULL},
    {.name = NULL},
};
