/*
 * job-machine, starts: what the command that started a job asked for (reference/jobs.md 9). The promises about a
 * job's end, its errors and its speed are judged by that, not by what the job has made of it.
 */
#include <string.h>

#include "check/job_machine.h"

static const struct start {
    const char *command; /* and action of a transaction */
    const char *type;
    const char *on_read; /* the arguments that say what errors lead to */
    const char *on_write;
} starts[] = {
    {"blockdev-mirror", "mirror", "on-source-error", "on-target-error"},
    {"drive-mirror", "mirror", "on-source-error", "on-target-error"},
    {"blockdev-backup", "backup", "on-source-error", "on-target-error"},
    {"drive-backup", "backup", "on-source-error", "on-target-error"},
    {"block-commit", "commit", "on-error", "on-error"},
    {"block-stream", "stream", "on-error", "on-error"},
};

static const struct start *start_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
        if (name && str_is(name, starts[i].command)) {
            return &starts[i];
        }
    }
    return NULL;
}

static bool parse_policy(const struct qvalue *args, const char *key, enum block_on_error *out)
{
    const char *text = check_dict_str(args, key);

    return block_on_error_parse(text ? text : "report", out);
}

static void learn(struct machine *m, const struct start *start, const struct qvalue *args)
{
    const struct qvalue *speed = qdict_get(args, "speed");

    m->asked = true;
    m->asked_type = start->type;
    m->auto_finalize = check_dict_bool(args, "auto-finalize", true);
    m->auto_dismiss = check_dict_bool(args, "auto-dismiss", true);
    m->speed = speed && speed->type == QVALUE_INT ? speed->integer : 0;
    m->speed_known = true;
    m->policy_known =
        parse_policy(args, start->on_read, &m->on_source) && parse_policy(args, start->on_write, &m->on_target);
}

/* The action that names the job; without names, the only one that starts any. */
static void learn_from_transaction(struct machine *m, const struct qmp_call *call)
{
    const struct qvalue *actions = qdict_get(call->args, "actions");
    const struct qvalue *only = NULL;
    const struct start *its_start = NULL;
    unsigned nameless = 0;

    for (size_t i = 0; actions && i < actions->seq.count; i++) {
        const struct qvalue *data = qdict_get(actions->seq.items[i], "data");
        const struct start *start = start_of(check_dict_str(actions->seq.items[i], "type"));
        const char *id = start ? check_dict_str(data, "job-id") : NULL;

        if (id && strcmp(id, m->id->str) == 0) {
            learn(m, start, data);
            return;
        }
        if (start && !id) {
            nameless++;
            only = data;
            its_start = start;
        }
    }
    if (nameless == 1) {
        learn(m, its_start, only);
    }
}

static bool is_grouped(const struct qmp_call *call)
{
    const char *mode = check_dict_str(qdict_get(call->args, "properties"), "completion-mode");

    return mode && str_is(mode, "grouped");
}

void machine_learn(struct job_machine *state, struct machine *m)
{
    uint64_t number;
    const struct qmp_call *call = job_verbs_call(state, m->host, &number);
    const struct start *start = call ? start_of(call->command->name) : NULL;
    const char *id = start ? check_call_str(call, "job-id") : NULL;

    m->command = number;
    if (start && (!id || strcmp(id, m->id->str) == 0)) {
        learn(m, start, call->args);
    } else if (call && strcmp(call->command->name, "transaction") == 0) {
        learn_from_transaction(m, call);
        m->group = is_grouped(call) ? number : 0;
    }
}
