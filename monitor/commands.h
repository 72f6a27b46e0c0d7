/*
 * The families of commands, for the one table in monitor/commands.c, and what their handlers share.
 *
 * A handler may rely on the argument table: what is required is there, types are right, enums are choices.
 */
#ifndef MONITOR_COMMANDS_H
#define MONITOR_COMMANDS_H

#include "block/backend.h"
#include "monitor/monitor.h"

/* Each ends with a NULL name. */
extern const struct qmp_command qmp_vm_commands[];
extern const struct qmp_command qmp_block_commands[];
extern const struct qmp_command qmp_query_block_commands[];
extern const struct qmp_command qmp_bitmap_commands[];
extern const struct qmp_command qmp_transaction_commands[];
extern const struct qmp_command qmp_snapshot_commands[];
extern const struct qmp_command qmp_internal_snapshot_commands[];
extern const struct qmp_command qmp_image_commands[];
extern const struct qmp_command qmp_job_commands[];
extern const struct qmp_command qmp_block_job_commands[];
extern const struct qmp_command qmp_mirror_commands[];
extern const struct qmp_command qmp_stream_commands[];
extern const struct qmp_command qmp_commit_commands[];
extern const struct qmp_command qmp_backup_commands[];
extern const struct qmp_command qmp_throttle_commands[];
extern const struct qmp_command qmp_object_commands[];

#define QMP_NO_ARGS ((const struct qmp_arg[]){{.name = NULL}})

/* Where a value stands among the arguments: "actions[1].data". Lives as long as the check of what is inside. */
struct qmp_place {
    const struct qmp_place *above; /* NULL: outermost */
    const char *name;              /* key; NULL: element of a list */
    size_t index;
};
/* For messages; the caller frees it with free(). */
char *qmp_place_text(const struct qmp_place *place);
/* "Parameter 'PLACE' does not accept value 'VALUE'"; false. */
bool qmp_refuse_choice(const struct qmp_place *place, const char *value, Error **errp);
/* One value against a row, and a dictionary against a table (place NULL: the arguments themselves; open: further
 * keys allowed). Both convert in place and name the place of what they refuse. Pure. */
bool qmp_check_value(const struct qmp_arg *arg, struct qvalue *value, const struct qmp_place *place, Error **errp);
bool qmp_check_table(const struct qmp_arg *table, bool open, struct qvalue *dict, const struct qmp_place *place,
                     Error **errp);

/* Readings of checked arguments; absent ones give the default. */
const char *qmp_arg_str(const struct qvalue *args, const char *name, const char *def);
int64_t qmp_arg_int(const struct qvalue *args, const char *name, int64_t def);
bool qmp_arg_bool(const struct qvalue *args, const char *name, bool def);
/* "Parameter 'x' expects uint32_t" beyond that range. */
bool qmp_arg_u32(const struct qvalue *args, const char *name, uint32_t *out, Error **errp);

/* Arguments `device` and `node-name`: the device's node when a device is named, else the node. NULL with errp. */
BlockDriverState *qmp_device_or_node(struct host *host, const struct qvalue *args, Error **errp);

/* `image` and `inserted` of a node as queries show it (monitor/query_node.c). Owned by the caller. Coroutine. */
struct qvalue *qmp_node_info(BlockDriverState *bs, const BlockBackend *blk, bool flat);
/* Snapshots inside the image of a node (monitor/cmd_snapshot_internal.c); NULL: none. Owned by the caller. */
struct qvalue *qmp_snapshots_info(const BlockDriverState *bs);
/* The limits of a backend; zeroes without any (blk NULL, too). */
void qmp_put_throttle(struct qvalue *info, const BlockBackend *blk);
/* query-blockstats (monitor/query_stats.c) */
bool qmp_query_blockstats(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp);

#endif
