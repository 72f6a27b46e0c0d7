/*
 * QMP commands as verbs: rows made from the monitor's table, so that a command that is added there is part of the
 * language. Made once at first use and only read from then on.
 */
#include <string.h>

#include "monitor/monitor.h"
#include "scenario/lang.h"
#include "scenario/verb_run.h"
#include "sim/world.h"

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The monitor's table knows types only; the names of the protocol are regular enough. */
enum scn_domain scn_qmp_domain(const char *command, const char *arg, bool *defines)
{
    static const struct {
        const char *command; /* prefix */
        const char *arg;
        enum scn_domain domain;
        bool defines;
    } rules[] = {
        {"blockdev-add", "node-name", SCN_DOM_NODE, true},
        {"blockdev-del", "node-name", SCN_DOM_NODE, false},
        {"block-job-", "device", SCN_DOM_JOB, false},
        {"block-job-", "id", SCN_DOM_JOB, false},
        {"job-", "id", SCN_DOM_JOB, false},
        {"block-dirty-bitmap-add", "name", SCN_DOM_BITMAP, true},
        {"block-dirty-bitmap-", "name", SCN_DOM_BITMAP, false},
        {"block-dirty-bitmap-", "node", SCN_DOM_NODE, false},
        {"block-dirty-bitmap-merge", "target", SCN_DOM_BITMAP, false},
        {"x-debug-block-dirty-bitmap-", "name", SCN_DOM_BITMAP, false},
        {"x-debug-block-dirty-bitmap-", "node", SCN_DOM_NODE, false},
        {"blockdev-snapshot", "node", SCN_DOM_NODE, false},
        {"blockdev-snapshot", "overlay", SCN_DOM_NODE, false},
        {"blockdev-snapshot-sync", "node-name", SCN_DOM_NODE, false},
        {"blockdev-snapshot-sync", "snapshot-file", SCN_DOM_DISK, true},
        {"blockdev-snapshot-sync", "snapshot-node-name", SCN_DOM_NODE, true},
        {"change-backing-file", "image-node-name", SCN_DOM_NODE, false},
        {"x-blockdev-change", "parent", SCN_DOM_NODE, false},
        {"x-blockdev-change", "node", SCN_DOM_NODE, false},
        {"block_resize", "node-name", SCN_DOM_NODE, false},
        {"block-set-write-threshold", "node-name", SCN_DOM_NODE, false},
        {"blockdev-set-active", "node-name", SCN_DOM_NODE, false},
        {"block_set_io_throttle", "device", SCN_DOM_GUEST, false},
        {"block_set_io_throttle", "id", SCN_DOM_GUEST, false},
        {"block_set_io_throttle", "group", SCN_DOM_GROUP, true},
        {"object-add", "id", SCN_DOM_GROUP, true},
        {"object-del", "id", SCN_DOM_GROUP, false},
        {"blockdev-backup", "bitmap", SCN_DOM_BITMAP, false},
        {"drive-backup", "bitmap", SCN_DOM_BITMAP, false},
        {"block-commit", "base", SCN_DOM_DISK, false},
        {"block-commit", "top", SCN_DOM_DISK, false},
        {"drive-", "target", SCN_DOM_DISK, true},
        {"drive-", "node-name", SCN_DOM_NODE, true},
        {"", "job-id", SCN_DOM_JOB, true},
        {"", "filter-node-name", SCN_DOM_NODE, true},
        {"", "device", SCN_DOM_NODE, false},
        {"blockdev-", "target", SCN_DOM_NODE, false},
        {"", "replaces", SCN_DOM_NODE, false},
        {"", "base-node", SCN_DOM_NODE, false},
        {"", "top-node", SCN_DOM_NODE, false},
        {"block-stream", "bottom", SCN_DOM_NODE, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        if (starts_with(command, rules[i].command) && strcmp(arg, rules[i].arg) == 0) {
            *defines = rules[i].defines;
            return rules[i].domain;
        }
    }
    *defines = false;
    return SCN_DOM_NONE;
}

static const struct scn_arg_def *make_args(const struct qmp_command *command)
{
    struct scn_arg_def *defs;
    size_t count = 0;

    while (command->args && command->args[count].name) {
        count++;
    }
    defs = sim_xcalloc(count + 1, sizeof(*defs));
    for (size_t i = 0; i < count; i++) {
        const struct qmp_arg *arg = &command->args[i];

        /* Values stay as written: the monitor's own check converts them, before the run and again in it. */
        defs[i] = (struct scn_arg_def){
            .name = arg->name,
            .type = SCN_VALUE,
            .required = !arg->optional,
            .choices = arg->choices,
            .doc = arg->doc,
        };
        defs[i].domain = scn_qmp_domain(command->name, arg->name, &defs[i].defines);
    }
    return defs;
}

/* "actions.0.type=..." makes a dictionary; lists are JSON. */
static bool check_lists(const struct qmp_command *command, const struct qvalue *args, Error **errp)
{
    for (const struct qmp_arg *arg = command->args; arg && arg->name; arg++) {
        const struct qvalue *value = qdict_get(args, arg->name);

        if (arg->type == QMP_LIST && value && value->type != QVALUE_LIST) {
            error_setg(errp, "'%s' of '%s' is no list, expected JSON such as %s=[{\"key\": \"value\"}]", arg->name,
                       command->name, arg->name);
            return false;
        }
    }
    return true;
}

static bool check_qmp(const struct scn_step *step, Error **errp)
{
    const struct qmp_command *command = qmp_find_command(step->verb->name);
    struct qvalue *args;
    bool ok;

    SIM_ASSERT(command != NULL);
    if (!check_lists(command, step->args, errp)) {
        return false;
    }
    args = qvalue_copy(step->args);
    ok = qmp_check_args(command, args, errp);
    qvalue_free(args);
    return ok;
}

/* For `explain`, where the shape of the arguments is not plain from their list. Lists are JSON. */
static const char *example_of(const char *command)
{
    static const struct {
        const char *command;
        const char *line;
    } examples[] = {
        {"blockdev-add", "blockdev-add driver=raw node-name=s file.driver=disk file.disk=src"},
        {"blockdev-reopen", "blockdev-reopen options=[{\"driver\": \"raw\", \"node-name\": \"s\", \"file\": \"f\", "
                            "\"read-only\": true}]"},
        {"blockdev-set-active", "blockdev-set-active node-name=s active=false"},
        {"block-job-change", "block-job-change id=m type=mirror copy-mode=write-blocking"},
        {"drive-mirror", "drive-mirror job-id=m device=s target=new sync=full format=qcow2 node-name=d"},
        {"blockdev-create", "blockdev-create job-id=c options.driver=disk options.disk=new options.size=1M"},
        {"block-commit", "block-commit job-id=c device=g top-node=mid base-node=base"},
        {"blockdev-mirror", "blockdev-mirror job-id=m device=s target=d sync=full"},
        {"block_resize", "block_resize node-name=s size=2M"},
        {"block-stream", "block-stream job-id=j device=top base-node=base"},
        {"block-set-write-threshold", "block-set-write-threshold node-name=s write-threshold=1M"},
        {"block-dirty-bitmap-add", "block-dirty-bitmap-add node=s name=b granularity=64k"},
        {"block-dirty-bitmap-merge",
         "block-dirty-bitmap-merge node=s target=b bitmaps=[\"b1\", {\"node\": \"d\", \"name\": \"b2\"}]"},
        {"transaction", "transaction actions=[{\"type\": \"block-dirty-bitmap-add\", \"data\": {\"node\": \"s\", "
                        "\"name\": \"b\"}}, {\"type\": \"abort\", \"data\": {}}]"},
        {"block_set_io_throttle",
         "block_set_io_throttle id=g bps=0 bps_rd=0 bps_wr=0 iops=100 iops_rd=0 iops_wr=0"},
        {"object-add", "object-add qom-type=throttle-group id=t limits.iops-total=100"},
        {"qom-get", "qom-get path=t property=limits"},
        {"qom-set", "qom-set path=t property=limits value.iops-total=200"},
        {"x-blockdev-change", "x-blockdev-change parent=q child=children.0"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(examples); i++) {
        if (strcmp(examples[i].command, command) == 0) {
            return examples[i].line;
        }
    }
    return NULL;
}

static struct {
    struct scn_verb *rows;
    size_t count;
} qmp_verbs;

static void make_rows(void)
{
    size_t count = 0;

    while (qmp_command_at(count)) {
        count++;
    }
    qmp_verbs.rows = sim_xcalloc(count + 1, sizeof(*qmp_verbs.rows));
    for (size_t i = 0; i < count; i++) {
        const struct qmp_command *command = qmp_command_at(i);

        qmp_verbs.rows[i] = (struct scn_verb){
            .name = command->name,
            .form = SCN_FORM_QMP,
            .args = make_args(command),
            .open_args = command->open_args,
            .doc = command->doc,
            .example = example_of(command->name),
            .check = check_qmp,
            .run = scn_run_qmp,
        };
    }
    qmp_verbs.count = count;
}

const struct scn_verb *scn_qmp_verb_at(size_t index)
{
    if (!qmp_verbs.rows) {
        make_rows();
    }
    return index < qmp_verbs.count ? &qmp_verbs.rows[index] : NULL;
}
