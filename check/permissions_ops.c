/* Op blockers: a command that asks is refused while one stands against it (reference/block.md 1.12). */
#include <string.h>

#include "check/permissions.h"

/* Which commands, and actions of transactions, ask for what. */
static const struct {
    const char *command;
    const char *arg;
    enum bdrv_op op;
} askers[] = {
    {"block_resize", "device", BLOCK_OP_RESIZE},
    {"block_resize", "node-name", BLOCK_OP_RESIZE},
    {"blockdev-del", "node-name", BLOCK_OP_DRIVE_DEL},
    {"blockdev-snapshot", "node", BLOCK_OP_EXTERNAL_SNAPSHOT},
    {"blockdev-snapshot-sync", "device", BLOCK_OP_EXTERNAL_SNAPSHOT},
    {"blockdev-snapshot-sync", "node-name", BLOCK_OP_EXTERNAL_SNAPSHOT},
    {"blockdev-snapshot-internal-sync", "device", BLOCK_OP_INTERNAL_SNAPSHOT},
    {"blockdev-snapshot-delete-internal-sync", "device", BLOCK_OP_INTERNAL_SNAPSHOT_DELETE},
    {"change-backing-file", "device", BLOCK_OP_CHANGE},
    {"blockdev-mirror", "device", BLOCK_OP_MIRROR_SOURCE},
    {"blockdev-mirror", "target", BLOCK_OP_MIRROR_TARGET},
    {"blockdev-mirror", "replaces", BLOCK_OP_REPLACE},
    {"drive-mirror", "device", BLOCK_OP_MIRROR_SOURCE},
    {"drive-mirror", "replaces", BLOCK_OP_REPLACE},
    {"blockdev-backup", "device", BLOCK_OP_BACKUP_SOURCE},
    {"blockdev-backup", "target", BLOCK_OP_BACKUP_TARGET},
    {"drive-backup", "device", BLOCK_OP_BACKUP_SOURCE},
    {"block-commit", "device", BLOCK_OP_COMMIT_SOURCE},
    {"block-stream", "device", BLOCK_OP_STREAM},
};

/* A command in hand that must be refused: at its start a blocker stood against it. */
struct asked {
    const struct qmp_call *call;
    const struct host *host;
    const struct sim_name *node;
    const char *command;
    const char *why;
    bool disturbed; /* a job that was there before moved meanwhile: the blocker may have gone by itself */
    const Job *own; /* the job that the command itself made */
    struct asked *next;
};

static bool is_backing_file(const BlockDriverState *bs)
{
    for (BdrvChild *edge = bdrv_first_parent(bs); edge; edge = bdrv_next_parent(edge)) {
        if (bdrv_child_role(edge) & BDRV_CHILD_COW) {
            return true;
        }
    }
    return false;
}

/* NULL: free. */
static const char *what_blocks(const BlockDriverState *bs, enum bdrv_op op)
{
    bool on_backing = op == BLOCK_OP_COMMIT_TARGET || op == BLOCK_OP_STREAM || op == BLOCK_OP_BACKUP_SOURCE ||
                      op == BLOCK_OP_BACKUP_TARGET;

    if (bdrv_op_blockers_of(bs, op) > 0) {
        return "a user of the node blocks the operation";
    }
    return !on_backing && is_backing_file(bs) ? "the node is a backing file" : NULL;
}

/* --- asking ----------------------------------------------------------------------------------------------- */

struct asking {
    struct permissions *state;
    const struct qmp_call *call;
    bool nodes_only; /* an action before this one may have changed what a device stands for */
};

static void ask(const struct asking *a, const char *command, const char *name, enum bdrv_op op)
{
    struct host *host = a->call->host;
    BlockBackend *blk = blk_by_name(host, name);
    const BlockDriverState *bs = blk ? blk_bs(blk) : bdrv_find_node(host, name);
    const char *why = bs ? what_blocks(bs, op) : NULL;

    if (!why || (blk && a->nodes_only)) {
        return;
    }
    struct asked *asked = (struct asked *)sim_alloc(a->state->check->arena, SIM_TYPE_check_state, sizeof(*asked));
    *asked = (struct asked){.call = a->call,
                            .host = host,
                            .node = bdrv_node_sim_name(bs),
                            .command = command,
                            .why = why,
                            .next = a->state->asked};
    a->state->asked = asked;
}

static void ask_all(void *opaque, const char *type, const struct qvalue *data)
{
    struct asking *a = opaque;

    for (size_t i = 0; i < ARRAY_SIZE(askers); i++) {
        const char *name = strcmp(askers[i].command, type) == 0 ? check_dict_str(data, askers[i].arg) : NULL;

        if (name) {
            ask(a, askers[i].command, name, askers[i].op);
        }
    }
    a->nodes_only = true;
}

static void on_command(void *opaque, const struct sim_record *record)
{
    const struct qmp_call *call = record->ref;
    struct asking a = {.state = opaque, .call = call};

    if (strcmp(call->command->name, "transaction") == 0) {
        check_bitmap_actions(call, ask_all, &a);
    } else {
        ask_all(&a, call->command->name, call->args);
    }
}

/* --- answered --------------------------------------------------------------------------------------------- */

static void answered(struct permissions *state, const struct asked *asked, bool accepted)
{
    const BlockDriverState *bs = bdrv_find_node((struct host *)asked->host, asked->node->str);
    struct violation_where where = {
        .host = check_host_name(asked->host),
        .node = asked->node->str,
        .driver = bs ? bdrv_driver_name(bs) : NULL,
        .op = asked->command,
    };

    if (accepted && !asked->disturbed) {
        check_violate(state->check->set, "permissions", "blocked-command", &where,
                      "node %s: %s was accepted although %s", asked->node->str, asked->command, asked->why);
    }
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    struct permissions *state = opaque;

    for (struct asked **link = &state->asked; *link;) {
        struct asked *asked = *link;

        if (asked->call != record->ref) {
            link = &asked->next;
            continue;
        }
        *link = asked->next;
        answered(state, asked, sim_record_str(record, 2) == NULL);
        sim_free(state->check->arena, SIM_TYPE_check_state, asked, sizeof(*asked));
    }
}

static void on_status(void *opaque, const struct sim_record *record)
{
    const struct permissions *state = opaque;
    bool created = strcmp(sim_record_str(record, 1), "created") == 0;

    for (struct asked *asked = state->asked; asked; asked = asked->next) {
        if (asked->host->number != record->host) {
            continue;
        }
        if (created) {
            asked->own = record->ref;
        } else {
            asked->disturbed |= asked->own != record->ref;
        }
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct permissions *state = opaque;

    for (struct asked **link = &state->asked; *link;) {
        struct asked *asked = *link;

        if (asked->host == record->ref) {
            *link = asked->next;
            sim_free(state->check->arena, SIM_TYPE_check_state, asked, sizeof(*asked));
        } else {
            link = &asked->next;
        }
    }
}

void permissions_ops_attach(struct permissions *state)
{
    static const struct check_subscription table[] = {
        {EV_qmp_command, on_command},
        {EV_qmp_reply, on_reply},
        {EV_JOB_STATUS_CHANGE, on_status},
        {EV_host_crash, on_crash},
    };

    check_subscribe(state->check->sim, table, ARRAY_SIZE(table), state);
}
