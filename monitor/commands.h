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
extern const struct qmp_command qmp_job_commands[];
extern const struct qmp_command qmp_block_job_commands[];
extern const struct qmp_command qmp_mirror_commands[];

#define QMP_NO_ARGS ((const struct qmp_arg[]){{NULL, QMP_ANY, false, NULL, NULL, NULL}})

/* Readings of checked arguments; absent ones give the default. */
const char *qmp_arg_str(const struct qvalue *args, const char *name, const char *def);
int64_t qmp_arg_int(const struct qvalue *args, const char *name, int64_t def);
bool qmp_arg_bool(const struct qvalue *args, const char *name, bool def);
/* "Parameter 'x' expects uint32_t" beyond that range. */
bool qmp_arg_u32(const struct qvalue *args, const char *name, uint32_t *out, Error **errp);

/* `image` and `inserted` of a node as queries show it (monitor/query_node.c). Owned by the caller. Coroutine. */
struct qvalue *qmp_node_info(BlockDriverState *bs, const BlockBackend *blk, bool flat);

#endif
