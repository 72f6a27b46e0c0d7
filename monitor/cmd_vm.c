/*
 * Commands on the VM: stop, cont, query-status.
 */
#include "monitor/commands.h"
#include "vm/runstate.h"

static bool cmd_stop(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    /* A failed flush shows as an error of the node it hit, not of the command. */
    vm_stop(host, RUN_STATE_PAUSED);
    return true;
}

static bool cmd_cont(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    Error *local = NULL;
    vm_cont(host, &local);
    error_propagate(errp, local);
    return !local;
}

static bool cmd_query_status(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    *reply = qvalue_dict();
    qdict_put(*reply, "running", qvalue_bool(vm_is_running(host)));
    qdict_put(*reply, "status", qvalue_str(run_state_name(vm_run_state(host))));
    return true;
}

const struct qmp_command qmp_vm_commands[] = {
    {"stop", QMP_NO_ARGS, false, cmd_stop, "stops the guests, then drains and flushes everything", NULL},
    {"cont", QMP_NO_ARGS, false, cmd_cont, "lets the guests run; held requests are tried again", NULL},
    {"query-status", QMP_NO_ARGS, false, cmd_query_status, "whether the guests run", NULL},
    {.name = NULL},
};
