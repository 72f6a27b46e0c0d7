/*
 * blksim list and explain: the registries, for people and for scripts.
 */
#include "cli/cli.h"

#include "block/block_int.h"
#include "faults/fault.h"
#include "monitor/transaction.h"
#include "scenario/lang.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    const char *kind;
    const char *name;
    const char *doc;
};

/* One row a registry: entry i, or false at the end. */
struct registry {
    const char *name; /* plural, as in `list` */
    bool (*at)(size_t i, struct entry *e);
};

static bool check_entry(size_t i, struct entry *e)
{
    const struct check_class *c = check_at(i);

    *e = (struct entry){"checker", c ? c->name : NULL, c ? c->doc : NULL};
    return c != NULL;
}

static bool fault_entry(size_t i, struct entry *e)
{
    const struct fault_class *f = fault_at(i);

    *e = (struct entry){"fault", f ? f->name : NULL, f ? f->doc : NULL};
    return f != NULL;
}

static bool driver_entry(size_t i, struct entry *e)
{
    const BlockDriver *d = bdrv_driver_at(i);

    *e = (struct entry){"driver", d ? d->format_name : NULL, d ? d->doc : NULL};
    return d != NULL;
}

static bool profile_entry(size_t i, struct entry *e)
{
    const struct scn_profile *p = scn_profile_at(i);

    *e = (struct entry){"profile", p ? p->name : NULL, p ? p->doc : NULL};
    return p != NULL;
}

static bool mark_entry(size_t i, struct entry *e)
{
    if (i >= MARK_COUNT) {
        return false;
    }
    *e = (struct entry){"mark", sim_mark_name((enum sim_mark)i), sim_mark_doc((enum sim_mark)i)};
    return true;
}

static bool command_entry(size_t i, struct entry *e)
{
    const struct scn_verb *v = scn_verb_at(i);

    *e = (struct entry){"command", v ? v->name : NULL, v ? v->doc : NULL};
    return v != NULL;
}

static bool action_entry(size_t i, struct entry *e)
{
    const struct qmp_action *a = qmp_action_at(i);

    *e = (struct entry){"action", a ? a->name : NULL, a ? a->doc : NULL};
    return a != NULL;
}

static bool event_entry(size_t i, struct entry *e)
{
    if (i >= EV_COUNT) {
        return false;
    }
    *e = (struct entry){"event", sim_event_desc((enum sim_event_kind)i)->name,
                        sim_event_desc((enum sim_event_kind)i)->doc};
    return true;
}

static bool site_entry(size_t i, struct entry *e)
{
    if (i >= SITE_COUNT) {
        return false;
    }
    *e = (struct entry){"choice", sim_site_name((enum sim_site)i), sim_site_doc((enum sim_site)i)};
    return true;
}

static const struct registry registries[] = {
    {"checks", check_entry},     {"faults", fault_entry}, {"drivers", driver_entry},
    {"profiles", profile_entry}, {"marks", mark_entry},   {"commands", command_entry},
    {"actions", action_entry},   {"events", event_entry}, {"choices", site_entry},
};

#define REGISTRIES "checks, faults, drivers, profiles, marks, commands, actions, events, choices"

static void print_json(const struct entry *e)
{
    struct qvalue *object = qvalue_dict();

    qdict_put(object, "kind", qvalue_str(e->kind));
    qdict_put(object, "name", qvalue_str(e->name));
    qdict_put(object, "doc", qvalue_str(e->doc ? e->doc : ""));
    cli_print_json(object);
}

static int list(int argc, char **argv)
{
    bool json = false;
    const struct cli_opt opts[] = {{"--json", NULL, CLI_FLAG, &json, "one object a line"}, {.name = NULL}};
    int status;

    if (!cli_parse(&cli_list, opts, &argc, argv, &status)) {
        return status;
    }
    for (size_t r = 0; argc == 1 && r < ARRAY_SIZE(registries); r++) {
        struct entry e;

        if (strcmp(argv[1], registries[r].name) != 0) {
            continue;
        }
        for (size_t i = 0; registries[r].at(i, &e); i++) {
            if (json) {
                print_json(&e);
            } else {
                printf("%-28s %s\n", e.name, e.doc ? e.doc : "");
            }
        }
        return EXIT_PASS;
    }
    return cli_error("list: expected one of " REGISTRIES);
}

const struct cli_command cli_list = {
    .name = "list",
    .usage = "checks|faults|drivers|profiles|marks|commands|actions|events|choices [--json]",
    .summary = "what there is",
    .run = list,
};

/* --- explain ------------------------------------------------------------------------------------------------ */

static void explain_check(const char *name)
{
    const struct check_class *c = check_find(name);

    if (c && c->rules) {
        printf("\nrules:\n%s\n", c->rules);
    }
}

static void explain_fault(const char *name)
{
    const struct fault_class *f = fault_find(name);

    if (!f) {
        return;
    }
    printf("\nparameters:\n");
    for (const struct fault_arg *a = f->args; a && a->name; a++) {
        printf("  %-16s %s%s%s%s\n", a->name, a->doc, a->def ? " (default " : "", a->def ? a->def : "",
               a->def        ? ")"
               : a->required ? " (required)"
                             : "");
    }
    printf("\nexample:\n  %s\n", f->example);
    if (f->detect_only) {
        printf("\ndetect-only: a correct block layer cannot survive it; normal sweeps leave it out.\n");
    }
}

static void explain_event(const char *name)
{
    int kind = sim_event_find(name);
    const struct sim_event_desc *desc = kind >= 0 ? sim_event_desc((enum sim_event_kind)kind) : NULL;

    if (!desc) {
        return;
    }
    printf("\nfields:");
    for (unsigned i = 0; i < desc->field_count; i++) {
        printf(" %s:%c", desc->field[i].name, desc->field[i].type);
    }
    printf("%s\n", desc->qmp ? "\nsent to QMP clients; `wait` and `expect event` see it" : "");
}

/* words: NULL-ended, or NULL: any value. Below what column they belong to. */
static void print_words(const char *const *words, int column)
{
    if (!words) {
        return;
    }
    printf("  %-*s   one of", column, "");
    for (unsigned i = 0; words[i]; i++) {
        printf(" %s", words[i]);
    }
    printf("\n");
}

static void explain_command(const char *name)
{
    const struct scn_verb *v = scn_verb_find(name);

    if (!v) {
        return;
    }
    printf("%s", v->args && v->args->name ? "\narguments:\n" : "\nno arguments\n");
    for (const struct scn_arg_def *a = v->args; a && a->name; a++) {
        char shown[40];

        snprintf(shown, sizeof(shown), "%s%s%s", a->within ? a->within : "", a->within ? " " : "", a->name);
        printf("  %-18s %s%s\n", shown, a->doc ? a->doc : "", a->required ? " (required)" : "");
        print_words(a->choices, 18);
    }
    if (v->example) {
        printf("\nexample:\n  %s\n", v->example);
    }
}

/* Rules and the like are lists of dictionaries: their keys stand below, with the index they are written with. */
static void print_options(const BdrvOption *options, const char *above, const char *const *changeable)
{
    for (const BdrvOption *o = options; o && o->name; o++) {
        char name[64];
        bool stays = true;

        snprintf(name, sizeof(name), "%s%s", above, o->name);
        for (size_t i = 0; changeable && changeable[i]; i++) {
            stays = stays && strcmp(changeable[i], o->name) != 0;
        }
        printf("  %-27s %s%s%s\n", name, o->help, o->required ? " (required)" : "",
               stays ? "" : " (blockdev-reopen can change it)");
        if (o->type == BDRV_OPT_ENUM || o->type == BDRV_OPT_ENUM_LIST) {
            print_words(o->values, 27);
        } else if (o->type == BDRV_OPT_DICT_LIST) {
            snprintf(name, sizeof(name), "%s.N.", o->name);
            print_options(o->values, name, NULL);
        } else if (o->type == BDRV_OPT_WORD_OR_DICT) {
            const BdrvWordOrDict *either = o->values;
            print_words(either->words, 27);
            snprintf(name, sizeof(name), "%s.", o->name);
            print_options(either->members, name, NULL);
        }
    }
}

static void explain_driver(const char *name)
{
    const BlockDriver *drv = bdrv_find_driver(name);

    if (!drv) {
        return;
    }
    printf("\noptions:\n");
    print_options(drv->options, "", drv->mutable_opts);
    printf("\nas of every node: node-name, read-only, auto-read-only, force-share, discard (ignore, unmap), "
           "detect-zeroes\n(off, on, unmap), cache.direct, cache.no-flush, active\n");
    if (drv->create_options) {
        printf("\noptions of blockdev-create:\n");
        print_options(drv->create_options, "", NULL);
    }
}

/* Of a transaction. */
static void explain_action(const char *name)
{
    const struct qmp_action *action = qmp_find_action(name);

    if (!action || !action->args->name) {
        return;
    }
    printf("\ndata:\n");
    for (const struct qmp_arg *a = action->args; a->name; a++) {
        printf("  %-18s %s%s%s%s\n", a->name, a->doc, a->def ? " (default " : "", a->def ? a->def : "",
               a->def         ? ")"
               : !a->optional ? " (required)"
                              : "");
        print_words(a->choices, 18);
    }
}

static void explain_entry(const struct entry *e)
{
    static const struct {
        const char *kind;
        void (*fn)(const char *name);
    } more[] = {
        {"checker", explain_check},   {"fault", explain_fault},   {"event", explain_event},
        {"command", explain_command}, {"action", explain_action}, {"driver", explain_driver},
    };

    printf("%s (%s): %s\n", e->name, e->kind, e->doc ? e->doc : "");
    for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
        if (strcmp(e->kind, more[i].kind) == 0) {
            more[i].fn(e->name);
        }
    }
}

/* "expect" is an event, and also begins the names of several commands. */
static bool is_family(const char *name, const char *word)
{
    size_t n = strlen(word);

    return strncmp(name, word, n) == 0 && name[n] == ' ';
}

/* How many names are the word, or with family: begin with it; printed in one of three forms. */
static unsigned explain_all(const char *word, bool family, bool json)
{
    unsigned found = 0;

    for (size_t r = 0; r < ARRAY_SIZE(registries); r++) {
        struct entry e;

        for (size_t i = 0; registries[r].at(i, &e); i++) {
            if (family ? !is_family(e.name, word) : strcmp(e.name, word) != 0) {
                continue;
            }
            if (json) {
                print_json(&e);
            } else if (family) {
                printf("%-28s %s\n", e.name, e.doc ? e.doc : "");
            } else {
                printf("%s", found ? "\n" : "");
                explain_entry(&e);
            }
            found++;
        }
    }
    return found;
}

static int unknown(const char *word)
{
    struct scn_spell spell;
    char hint[SCN_HINT];
    struct entry e;

    scn_spell_init(&spell, word);
    for (size_t r = 0; r < ARRAY_SIZE(registries); r++) {
        for (size_t i = 0; registries[r].at(i, &e); i++) {
            scn_spell_try(&spell, e.name);
        }
    }
    return cli_error(
        "explain: there is nothing of the name '%s'; `blksim list WHAT` shows the names, WHAT is one of " REGISTRIES
        "%s",
        word, scn_spell_hint(&spell, hint));
}

static int explain(int argc, char **argv)
{
    bool json = false;
    const struct cli_opt opts[] = {{"--json", NULL, CLI_FLAG, &json, "one object a meaning"}, {.name = NULL}};
    char word[128];
    unsigned found;
    int status;

    if (!cli_parse(&cli_explain, opts, &argc, argv, &status)) {
        return status;
    }
    if (argc < 1 || argc > 2) {
        return cli_error("explain: expected one name: a checker, fault, driver, profile, mark, command, action, "
                         "event or choice");
    }
    /* `explain io write` without quotes */
    snprintf(word, sizeof(word), "%s%s%s", argv[1], argc == 2 ? " " : "", argc == 2 ? argv[2] : "");
    found = explain_all(word, false, json);
    found += explain_all(word, true, json);
    if (!found) {
        return unknown(word);
    }
    return EXIT_PASS;
}

const struct cli_command cli_explain = {
    .name = "explain",
    .usage = "NAME [--json]",
    .summary = "what a checker, fault, driver, profile, mark, command, action, event or choice means",
    .run = explain,
};
