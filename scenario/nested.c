/*
 * Names inside the lists of commands: actions of a transaction, sources of a merge. An action is named and has
 * arguments like the command of its type.
 */
#include <string.h>

#include "scenario/lang.h"

struct nested_walk {
    scn_nested_fn *fn;
    void *opaque;
};

static bool visit(const struct nested_walk *walk, enum scn_domain domain, bool defines, const struct qvalue *name)
{
    if (!name || name->type != QVALUE_STR || domain == SCN_DOM_NONE) {
        return true;
    }
    return walk->fn(walk->opaque, domain, defines, name->str.bytes);
}

/* "b" or {"node": "s", "name": "b"} */
static bool visit_source(const struct nested_walk *walk, const struct qvalue *source)
{
    if (source->type != QVALUE_DICT) {
        return visit(walk, SCN_DOM_BITMAP, false, source);
    }
    return visit(walk, SCN_DOM_NODE, false, qdict_get(source, "node")) &&
           visit(walk, SCN_DOM_BITMAP, false, qdict_get(source, "name"));
}

static bool visit_list(const struct nested_walk *walk, const struct qvalue *list,
                       bool (*visit_item)(const struct nested_walk *walk, const struct qvalue *item))
{
    for (size_t i = 0; list && list->type == QVALUE_LIST && i < list->seq.count; i++) {
        if (!visit_item(walk, list->seq.items[i])) {
            return false;
        }
    }
    return true;
}

static bool visit_action(const struct nested_walk *walk, const struct qvalue *action)
{
    const struct qvalue *type = action->type == QVALUE_DICT ? qdict_get(action, "type") : NULL;
    const struct qvalue *data = type ? qdict_get(action, "data") : NULL;

    if (!data || type->type != QVALUE_STR || data->type != QVALUE_DICT) {
        return true;
    }
    for (size_t i = 0; i < data->seq.count; i++) {
        bool defines;
        enum scn_domain domain = scn_qmp_domain(type->str.bytes, data->seq.keys[i], &defines);

        if (!visit(walk, domain, defines, data->seq.items[i])) {
            return false;
        }
    }
    return visit_list(walk, qdict_get(data, "bitmaps"), visit_source);
}

/* A tree of blockdev-reopen: all that it names is there already. */
static bool visit_reopened(const struct nested_walk *walk, const struct qvalue *options)
{
    static const struct {
        const char *key;
        enum scn_domain domain;
    } names[] = {
        {"node-name", SCN_DOM_NODE},
        {"file", SCN_DOM_NODE},
        {"backing", SCN_DOM_NODE},
        {"throttle-group", SCN_DOM_GROUP},
    };

    for (size_t i = 0; options->type == QVALUE_DICT && i < ARRAY_SIZE(names); i++) {
        const struct qvalue *value = qdict_get(options, names[i].key);

        if (value && !(value->type == QVALUE_DICT ? visit_reopened(walk, value)
                                                  : visit(walk, names[i].domain, false, value))) {
            return false;
        }
    }
    return true;
}

bool scn_each_nested_name(const char *command, const struct qvalue *args, scn_nested_fn *fn, void *opaque)
{
    struct nested_walk walk = {.fn = fn, .opaque = opaque};

    if (strcmp(command, "transaction") == 0) {
        return visit_list(&walk, qdict_get(args, "actions"), visit_action);
    }
    if (strcmp(command, "blockdev-reopen") == 0) {
        return visit_list(&walk, qdict_get(args, "options"), visit_reopened);
    }
    if (strcmp(command, "block-dirty-bitmap-merge") == 0) {
        return visit_list(&walk, qdict_get(args, "bitmaps"), visit_source);
    }
    return true;
}
