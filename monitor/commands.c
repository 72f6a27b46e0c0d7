/*
 * All commands, family by family.
 */
#include "monitor/commands.h"

#include <string.h>

static const struct qmp_command *const families[] = {
    qmp_vm_commands,          qmp_block_commands,  qmp_query_block_commands, qmp_bitmap_commands,
    qmp_transaction_commands, qmp_job_commands,    qmp_block_job_commands,   qmp_mirror_commands,
    qmp_throttle_commands,    qmp_object_commands, qmp_snapshot_commands,    qmp_internal_snapshot_commands,
    qmp_image_commands,       qmp_stream_commands, qmp_commit_commands,      qmp_backup_commands,
};

const struct qmp_command *qmp_command_at(size_t index)
{
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        for (const struct qmp_command *command = families[i]; command->name; command++) {
            if (index-- == 0) {
                return command;
            }
        }
    }
    return NULL;
}

const struct qmp_command *qmp_find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        for (const struct qmp_command *command = families[i]; command->name; command++) {
            if (str_is(command->name, name)) {
                return command;
            }
        }
    }
    return NULL;
}
