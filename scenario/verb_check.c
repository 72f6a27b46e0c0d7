/*
 * Finding a verb by name, and a step against its row: keys, presence, types, then the row's own check.
 */
#include <stdlib.h>
#include <string.h>

#include "scenario/lang.h"
#include "sim/world.h"

/* --- finding --------------------------------------------------------------------------------------------- */

/* All verbs by name; made once, then only read. */
static struct {
    const struct scn_verb **rows;
    size_t count;
} by_name;

static int compare_names(const void *a, const void *b)
{
    const struct scn_verb *const *left = a;
    const struct scn_verb *const *right = b;

    return strcmp((*left)->name, (*right)->name);
}

static int compare_key(const void *key, const void *row)
{
    const struct scn_verb *const *verb = row;

    return strcmp(key, (*verb)->name);
}

static void sort_verbs(void)
{
    size_t count = 0;

    while (scn_verb_at(count)) {
        count++;
    }
    by_name.rows = sim_xmalloc(count * sizeof(*by_name.rows));
    for (size_t i = 0; i < count; i++) {
        by_name.rows[i] = scn_verb_at(i);
    }
    qsort(by_name.rows, count, sizeof(*by_name.rows), compare_names);
    for (size_t i = 1; i < count; i++) {
        SIM_ASSERT(strcmp(by_name.rows[i - 1]->name, by_name.rows[i]->name) != 0);
    }
    by_name.count = count;
}

const struct scn_verb *scn_verb_find(const char *name)
{
    const struct scn_verb **found;

    if (!by_name.rows) {
        sort_verbs();
    }
    found = bsearch(name, by_name.rows, by_name.count, sizeof(*by_name.rows), compare_key);
    return found ? *found : NULL;
}

const struct scn_arg_def *scn_verb_arg(const struct scn_verb *verb, const char *name)
{
    for (const struct scn_arg_def *def = verb->args; def->name; def++) {
        if (strcmp(def->name, name) == 0) {
            return def;
        }
    }
    return NULL;
}

/* An expectation that may fail is none; the others may meet a world that is not as they need it. */
bool scn_verb_takes_try(const struct scn_verb *verb)
{
    return strncmp(verb->name, "expect ", 7) != 0;
}

/* --- a step against its row ------------------------------------------------------------------------------ */

static bool unknown_key(const struct scn_verb *verb, const char *key, Error **errp)
{
    struct scn_text all = {.bytes = NULL};
    struct scn_spell spell;
    char hint[SCN_HINT];
    char shown[SCN_SHOWN];

    scn_spell_init(&spell, key);
    for (const struct scn_arg_def *def = verb->args; def->name; def++) {
        scn_text_str(&all, all.length ? ", " : "");
        scn_text_str(&all, def->name);
        scn_spell_try(&spell, def->name);
    }
    error_setg(errp, "'%s' is unknown to '%s', expected %s%s%s", scn_shown(key, strlen(key), shown), verb->name,
               all.length ? "one of " : "no arguments", all.length ? all.bytes : "", scn_spell_hint(&spell, hint));
    free(all.bytes);
    return false;
}

static bool check_keys(const struct scn_step *step, const char **key, Error **errp)
{
    for (size_t i = 0; i < step->args->seq.count; i++) {
        const char *name = step->args->seq.keys[i];
        const struct scn_arg_def *def = scn_verb_arg(step->verb, name);

        *key = name;
        if (!def && !step->verb->open_args) {
            return unknown_key(step->verb, name, errp);
        }
        if (!def &&
            !(step->verb->form == SCN_FORM_QMP ? scn_is_key(name) && !strchr(name, '.') : scn_is_key(name))) {
            error_setg(errp, "'%.60s' is no key, expected letters, digits and '-._'", name);
            return false;
        }
        if (def && !scn_typed_check(def, step->args->seq.items[i], errp)) {
            return false;
        }
    }
    *key = NULL;
    return true;
}

/* The argument that a message of a table's owner speaks of ("Parameter 'x' ..."). */
static const char *blamed_key(const struct scn_step *step, const char *message)
{
    const char *quote = strchr(message, '\'');

    for (size_t i = 0; quote && i < step->args->seq.count; i++) {
        const char *name = step->args->seq.keys[i];
        size_t length = strlen(name);

        if (strncmp(quote + 1, name, length) == 0 && (quote[1 + length] == '\'' || quote[1 + length] == '.')) {
            return name;
        }
    }
    return NULL;
}

/* The words of a table's owner ("Parameter 'x' expects ...") in the form of this language: what is wrong, what was
 * expected. Takes over local. */
static void reword(const struct scn_step *step, const char *key, Error *local, Error **errp)
{
    const struct scn_arg_def *def = key ? scn_verb_arg(step->verb, key) : NULL;
    const struct qvalue *value = key ? qdict_get(step->args, key) : NULL;
    const char *message = error_get_pretty(local);
    const char *expects = strstr(message, "' expects ");

    if (strstr(message, "expected")) {
        error_propagate(errp, local);
        return;
    }
    if (key && expects) {
        error_setg(errp, "'%s' is not right, expected %s", key, expects + strlen("' expects "));
    } else if (!def || !def->choices || !value || value->type != QVALUE_STR ||
               scn_choice_check(def, value->str.bytes, errp)) {
        if (def && def->doc) {
            error_setg(errp, "%s, expected %s", message, def->doc);
        } else {
            error_setg(errp, "%s, expected arguments as `blksim explain %s` shows", message, step->verb->name);
        }
    }
    error_free(local);
}

/* What is told by its place must have everything before it. */
static bool check_positions(const struct scn_step *step, const char **key, Error **errp)
{
    const struct scn_arg_def *gap = NULL;

    for (const struct scn_arg_def *def = step->verb->args; def->name; def++) {
        bool given = qdict_get(step->args, def->name) != NULL;

        if (def->required && !given) {
            error_setg(errp, "'%s' needs '%s'%s%s", step->verb->name, def->name, def->doc ? ", expected " : "",
                       def->doc ? def->doc : "");
            return false;
        }
        if (def->positional && given && gap) {
            *key = def->name;
            error_setg(errp, "'%s' without '%s', expected both or neither", def->name, gap->name);
            return false;
        }
        gap = def->positional && !given ? def : gap;
    }
    return true;
}

bool scn_step_check(const struct scn_step *step, const char **key, Error **errp)
{
    const char *blamed = NULL;
    const char **out = key ? key : &blamed;
    Error *local = NULL;

    if (!check_keys(step, out, errp) || !check_positions(step, out, errp)) {
        return false;
    }
    if (step->verb->check && !step->verb->check(step, &local)) {
        *out = blamed_key(step, error_get_pretty(local));
        reword(step, *out, local, errp);
        return false;
    }
    return true;
}
