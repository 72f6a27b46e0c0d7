/*
 * What can be found wrong before a run beyond single steps: names that nobody defined, host files.
 */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faults/fault.h"
#include "monitor/monitor.h"
#include "scenario/iolog.h"
#include "scenario/lang.h"
#include "scenario/runner.h"

static const char *const domain_words[] = {
    [SCN_DOM_DISK] = "disk",   [SCN_DOM_NODE] = "node",     [SCN_DOM_GUEST] = "guest",
    [SCN_DOM_JOB] = "job",     [SCN_DOM_BITMAP] = "bitmap", [SCN_DOM_HOST] = "host",
    [SCN_DOM_EVENT] = "event", [SCN_DOM_FAULT] = "fault",   [SCN_DOM_GROUP] = "throttle group",
};

static const char *const domain_hints[] = {
    [SCN_DOM_DISK] = "a 'disk' line before",
    [SCN_DOM_NODE] = "a 'blockdev-add' with that node-name before",
    [SCN_DOM_GUEST] = "a 'guest' line before",
    [SCN_DOM_JOB] = "a command with that job-id before",
    [SCN_DOM_BITMAP] = "a 'block-dirty-bitmap-add' before",
    [SCN_DOM_HOST] = "'h'",
    [SCN_DOM_EVENT] = "a QMP event of `blksim list events`",
    [SCN_DOM_GROUP] = "an 'object-add' with that id before",
    [SCN_DOM_FAULT] = "one of `blksim list faults`",
};

bool scn_step_lenient(const struct scn_step *step, const struct scn_step *previous)
{
    /* what an owner does with a bitmap is refused like a command */
    bool is_command = step->verb->form == SCN_FORM_QMP || step->verb->form == SCN_FORM_JSON ||
                      strncmp(step->verb->name, "bitmap ", 7) == 0;

    return is_command && (step->try_ || (previous && strcmp(previous->verb->name, "expect error") == 0));
}

/* --- names ----------------------------------------------------------------------------------------------- */

static void spell_names(const struct scn_names *names, enum scn_domain domain, struct scn_spell *spell)
{
    for (size_t i = 0; i < MIN(scn_names_count(names, domain), (size_t)1000); i++) {
        scn_spell_try(spell, scn_names_at(names, domain, i));
    }
}

static bool unknown_name(struct scn_spell *spell, enum scn_domain domain, Error **errp)
{
    char hint[SCN_HINT];
    char shown[SCN_SHOWN];

    error_setg(errp, "there is no %s '%s', expected %s%s", domain_words[domain],
               scn_shown(spell->word, strlen(spell->word), shown), domain_hints[domain],
               scn_spell_hint(spell, hint));
    return false;
}

static bool check_event_name(const char *name, Error **errp)
{
    int kind = sim_event_find(name);
    struct scn_spell spell;

    if (kind >= 0 && sim_event_desc((enum sim_event_kind)kind)->qmp &&
        strcmp(sim_event_desc((enum sim_event_kind)kind)->qmp, name) == 0) {
        return true;
    }
    scn_spell_init(&spell, name);
    for (unsigned i = 0; i < EV_COUNT; i++) {
        if (sim_event_desc((enum sim_event_kind)i)->qmp) {
            scn_spell_try(&spell, sim_event_desc((enum sim_event_kind)i)->qmp);
        }
    }
    return unknown_name(&spell, SCN_DOM_EVENT, errp);
}

static bool check_fault_name(const char *name, Error **errp)
{
    struct scn_spell spell;

    scn_spell_init(&spell, name);
    for (size_t i = 0; fault_at(i); i++) {
        if (strcmp(fault_at(i)->name, name) == 0) {
            return true;
        }
        scn_spell_try(&spell, fault_at(i)->name);
    }
    return unknown_name(&spell, SCN_DOM_FAULT, errp);
}

/* A node is meant wherever a device can be named, and both are node and guest names. */
static bool is_known(const struct scn_names *names, enum scn_domain domain, const char *name)
{
    if (domain == SCN_DOM_NODE) {
        return name[0] == '#' || scn_names_has(names, SCN_DOM_NODE, name) ||
               scn_names_has(names, SCN_DOM_GUEST, name);
    }
    /* without a name of its own, the group of a device has the device's */
    return scn_names_has(names, domain, name) ||
           (domain == SCN_DOM_GROUP && scn_names_has(names, SCN_DOM_GUEST, name));
}

bool scn_check_name(const struct scn_names *names, enum scn_domain domain, const char *name, Error **errp)
{
    struct scn_spell spell;

    if (domain == SCN_DOM_NONE || domain == SCN_DOM_PATH) {
        return true;
    }
    if (domain == SCN_DOM_EVENT) {
        return check_event_name(name, errp);
    }
    if (domain == SCN_DOM_FAULT) {
        return check_fault_name(name, errp);
    }
    if (is_known(names, domain, name)) {
        return true;
    }
    scn_spell_init(&spell, name);
    spell_names(names, domain, &spell);
    if (domain == SCN_DOM_NODE) {
        spell_names(names, SCN_DOM_GUEST, &spell);
    }
    return unknown_name(&spell, domain, errp);
}

/* The names of a list in order: what one action makes, those after it may use. */
struct nested_check {
    const struct scn_names *names;
    struct scn_names *made;
    Error **errp;
};

static bool check_nested(void *opaque, enum scn_domain domain, bool defines, const char *name)
{
    struct nested_check *check = opaque;

    if (defines) {
        scn_names_add(check->made, domain, name);
        return true;
    }
    return is_known(check->made, domain, name) || scn_check_name(check->names, domain, name, check->errp);
}

static bool check_lists(const struct scn_names *names, const char *command, const struct qvalue *args, Error **errp)
{
    struct nested_check check = {.names = names, .made = scn_names_new(), .errp = errp};
    bool ok = scn_each_nested_name(command, args, check_nested, &check);

    scn_names_free(check.made);
    return ok;
}

static bool check_args(const struct scn_names *names, const struct scn_verb *verb, const struct qvalue *args,
                       Error **errp)
{
    for (const struct scn_arg_def *def = verb->args; def->name; def++) {
        const struct qvalue *value = def->defines ? NULL : qdict_get(args, def->name);

        if (value && value->type == QVALUE_STR && def->domain != SCN_DOM_NONE &&
            !scn_check_name(names, def->domain, value->str.bytes, errp)) {
            return false;
        }
    }
    if (strcmp(verb->name, "blockdev-add") == 0 && !scn_check_node_options(names, args, errp)) {
        return false;
    }
    return check_lists(names, verb->name, args, errp);
}

/* --- checks of single verbs ------------------------------------------------------------------------------ */

/* A disk that is there can only change what a medium can change. */
static bool check_disk_again(const struct scn_names *names, const struct scn_step *step, Error **errp)
{
    const char *name = qdict_get(step->args, "name")->str.bytes;

    if (!scn_names_has(names, SCN_DOM_DISK, name)) {
        return true;
    }
    for (size_t i = 0; i < step->args->seq.count; i++) {
        const char *key = step->args->seq.keys[i];

        if (strcmp(key, "name") != 0 && strcmp(key, "capacity") != 0 && strcmp(key, "latency") != 0) {
            error_setg(errp,
                       "disk '%s' is there already, its '%s' cannot change, expected only capacity and latency",
                       name, key);
            return false;
        }
    }
    return true;
}

static bool check_event_keys(const struct scn_names *names, const struct scn_step *step, Error **errp)
{
    const char *event = qdict_get(step->args, "event")->str.bytes;
    const struct sim_event_desc *desc = sim_event_desc((enum sim_event_kind)sim_event_find(event));

    for (size_t i = 0; i < step->args->seq.count; i++) {
        const char *key = step->args->seq.keys[i];
        struct scn_spell spell;
        char hint[SCN_HINT];
        bool known = scn_verb_arg(step->verb, key) != NULL;

        scn_spell_init(&spell, key);
        for (uint32_t f = 0; f < desc->field_count && !known; f++) {
            known = strcmp(desc->field[f].name, key) == 0;
            scn_spell_try(&spell, desc->field[f].name);
        }
        if (!known) {
            error_setg(errp, "'%.60s' is no field of %s, expected one of its fields%s", key, event,
                       scn_spell_hint(&spell, hint));
            return false;
        }
        if (step->args->seq.items[i]->type == QVALUE_DICT || step->args->seq.items[i]->type == QVALUE_LIST) {
            error_setg(errp, "'%.60s' of %s is no list or object, expected a plain value", key, event);
            return false;
        }
    }
    return true;
}

static bool check_fault_disks(const struct scn_names *names, const struct scn_step *step, Error **errp)
{
    const struct fault_class *fault = fault_find(qdict_get(step->args, "name")->str.bytes);

    SIM_ASSERT(fault != NULL);
    for (const struct fault_arg *arg = fault->args; arg && arg->name; arg++) {
        const struct qvalue *value = qdict_get(step->args, arg->name);

        if (arg->type == FAULT_DISK && value && value->type == QVALUE_STR &&
            !scn_check_name(names, SCN_DOM_DISK, value->str.bytes, errp)) {
            return false;
        }
    }
    return true;
}

static bool check_json_names(const struct scn_names *names, const struct scn_step *step, bool lenient, Error **errp)
{
    const struct qvalue *object = qdict_get(step->args, "json");
    const char *name = qdict_get(object, "execute")->str.bytes;
    const struct qvalue *arguments = qdict_get(object, "arguments");
    const struct qmp_command *command = qmp_find_command(name);
    struct qvalue *args;
    struct scn_spell spell;
    char hint[SCN_HINT];
    bool ok;

    if (!command) {
        scn_spell_init(&spell, name);
        for (size_t i = 0; qmp_command_at(i); i++) {
            scn_spell_try(&spell, qmp_command_at(i)->name);
        }
        error_setg(errp, "there is no command '%.60s', expected one of `blksim list commands`%s", name,
                   scn_spell_hint(&spell, hint));
        return false;
    }
    if (lenient) {
        return true;
    }
    args = arguments ? qvalue_copy(arguments) : qvalue_dict();
    ok = qmp_check_args(command, args, errp) && check_args(names, scn_verb_find(name), args, errp);
    qvalue_free(args);
    return ok;
}

bool scn_step_check_names(const struct scn_names *names, const struct scn_step *step, bool lenient, Error **errp)
{
    static const struct {
        const char *verb;
        bool (*check)(const struct scn_names *names, const struct scn_step *step, Error **errp);
    } further[] = {
        {"disk", check_disk_again},
        {"wait", check_event_keys},
        {"expect event", check_event_keys},
        {"fault", check_fault_disks},
    };

    if (step->host && !scn_check_name(names, SCN_DOM_HOST, step->host, errp)) {
        return false;
    }
    if (step->verb->form == SCN_FORM_JSON) {
        return check_json_names(names, step, lenient, errp);
    }
    if (strcmp(step->verb->name, "powerloss") == 0 &&
        strcmp(qdict_get(step->args, "host")->str.bytes, "all") == 0) {
        return true;
    }
    if (!lenient && !check_args(names, step->verb, step->args, errp)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(further); i++) {
        if (strcmp(further[i].verb, step->verb->name) == 0) {
            return further[i].check(names, step, errp);
        }
    }
    return true;
}

/* --- host files ------------------------------------------------------------------------------------------ */

static const struct qvalue *path_arg(const struct scn_step *step)
{
    for (const struct scn_arg_def *def = step->verb->args; def->name; def++) {
        const struct qvalue *value = def->domain == SCN_DOM_PATH ? qdict_get(step->args, def->name) : NULL;

        if (value) {
            return value;
        }
    }
    return NULL;
}

static bool is_driver_key(const char *key)
{
    const char *dot = strrchr(key, '.');

    return strcmp(dot ? dot + 1 : key, "driver") == 0;
}

/* Somewhere in an argument a node of driver `file` is to be opened. */
static bool opens_file(const struct qvalue *value)
{
    if (value->type != QVALUE_DICT && value->type != QVALUE_LIST) {
        return false;
    }
    for (size_t i = 0; i < value->seq.count; i++) {
        const struct qvalue *item = value->seq.items[i];
        bool driver = value->type == QVALUE_DICT && is_driver_key(value->seq.keys[i]);

        if (opens_file(item) || (driver && item->type == QVALUE_STR && strcmp(item->str.bytes, "file") == 0)) {
            return true;
        }
    }
    return false;
}

bool scn_step_has_files(const struct scn_step *step)
{
    return path_arg(step) != NULL || (step->args && opens_file(step->args));
}

/* Relative paths start at the scenario's folder. Caller frees. */
static char *host_path(const struct scenario *scn, const char *path)
{
    char *joined = NULL;
    char *copy;
    int length;

    if (path[0] == '/' || !scn->path || strcmp(scn->path, "-") == 0) {
        return strdup(path);
    }
    copy = strdup(scn->path);
    length = asprintf(&joined, "%s/%s", dirname(copy), path);
    free(copy);
    SIM_ASSERT(length >= 0);
    return joined;
}

static bool check_iolog(const char *path, Error **errp)
{
    struct iolog *log = iolog_load(path, errp);
    bool ok = log != NULL;

    if (log && log->file_count > 1) {
        error_setg(errp, "%s:1:1: requests to %u files, expected one: a workload drives one guest", path,
                   log->file_count);
        ok = false;
    }
    iolog_free(log);
    return ok;
}

static bool check_readable(const char *path, Error **errp)
{
    struct stat st;

    if (stat(path, &st) != 0 || access(path, R_OK) != 0) {
        error_setg(errp, "cannot read '%s': %s, expected a host file", path, sim_errno_text(errno));
        return false;
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        error_setg(errp, "'%s' is no file, expected a host file", path);
        return false;
    }
    return true;
}

static bool check_writable(const char *path, Error **errp)
{
    char *copy = strdup(path);
    const char *folder = dirname(copy);
    bool ok = access(path, F_OK) == 0 ? access(path, W_OK) == 0 : access(folder, W_OK) == 0;
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        error_setg(errp, "'%s' is a folder, expected a path that can be written", path);
        ok = false;
    } else if (!ok) {
        error_setg(errp, "cannot write '%s': %s, expected a path that can be written", path, sim_errno_text(errno));
    }
    free(copy);
    return ok;
}

/* *placed: the message has a place of its own (in the iolog). */
static bool check_files(const struct scenario *scn, const struct scn_step *step, bool no_files, bool *placed,
                        Error **errp)
{
    const struct qvalue *value = path_arg(step);
    char *path;
    bool ok;

    if (no_files && scn_step_has_files(step)) {
        error_setg(errp, "host files are forbidden here (--no-files), expected '%s' without one", step->verb->name);
        return false;
    }
    if (!value) {
        return true;
    }
    path = host_path(scn, value->str.bytes);
    if (strcmp(step->verb->name, "export") == 0) {
        ok = check_writable(path, errp);
    } else {
        ok = check_readable(path, errp);
        if (ok && strcmp(step->verb->name, "workload") == 0) {
            ok = check_iolog(path, errp);
            *placed = !ok;
        }
    }
    free(path);
    return ok;
}

/* --- all ------------------------------------------------------------------------------------------------- */

static void place_error(const struct scenario *scn, size_t index, Error *local, Error **errp)
{
    const struct scn_step *step = &scn->steps[index];
    const char *file = scn->path ? strcmp(scn->path, "-") == 0 ? "<stdin>" : scn->path : "<scenario>";

    /* what nobody wrote has no line: the step's number stands for it */
    error_setg(errp, "%s:%d:%d: %s", file, step->line ? step->line : (int)index + 1, step->line ? step->column : 1,
               error_get_pretty(local));
    error_free(local);
}

bool scenario_check(const struct scenario *scn, const struct run_options *options, Error **errp)
{
    struct scn_names *names = scn_names_new();
    bool no_files = options && options->no_files;
    Error *local = NULL;
    bool placed = false;
    bool ok = true;

    SIM_ASSERT(scn != NULL);
    for (size_t i = 0; i < scn->step_count && ok; i++) {
        const struct scn_step *step = &scn->steps[i];
        const struct scn_step *previous = i ? &scn->steps[i - 1] : NULL;

        if (!scn_step_check(step, NULL, &local) ||
            !scn_step_check_names(names, step, scn_step_lenient(step, previous), &local) ||
            !check_files(scn, step, no_files, &placed, &local)) {
            SIM_ASSERT(local != NULL);
            if (placed) {
                error_propagate(errp, local);
            } else {
                place_error(scn, i, local, errp);
            }
            ok = false;
        } else {
            scn_step_define(names, step);
        }
    }
    scn_names_free(names);
    return ok;
}
