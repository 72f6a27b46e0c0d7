/*
 * What can be found wrong with the options of a node before a run: the driver, keys it does not have, keys it
 * needs, values of another type, and names that nothing before has. What only a run can know (lengths, permissions,
 * limits of each other) stays with it.
 */
#include <stdlib.h>
#include <string.h>

#include "block/block_int.h"
#include "block/options.h"
#include "scenario/lang.h"

/* Keys that any node takes (reference/block.md 1.13). */
static const char *const generic_keys[] = {
    "driver",  "node-name",     "read-only", "auto-read-only", "force-share",
    "discard", "detect-zeroes", "cache",     "active",
};

static bool check_driver(const char *name, Error **errp)
{
    struct scn_spell spell;
    char hint[SCN_HINT];
    char shown[SCN_SHOWN];

    scn_spell_init(&spell, name);
    for (size_t i = 0; bdrv_driver_at(i); i++) {
        if (strcmp(bdrv_driver_at(i)->format_name, name) == 0) {
            return true;
        }
        scn_spell_try(&spell, bdrv_driver_at(i)->format_name);
    }
    error_setg(errp, "there is no driver '%s', expected one of `blksim list drivers`%s",
               scn_shown(name, strlen(name), shown), scn_spell_hint(&spell, hint));
    return false;
}

static const BdrvOption *find_option(const BlockDriver *drv, const char *key)
{
    for (const BdrvOption *option = drv->options; option && option->name; option++) {
        if (strcmp(option->name, key) == 0) {
            return option;
        }
    }
    return NULL;
}

static bool unknown_key(const BlockDriver *drv, const char *key, Error **errp)
{
    struct scn_spell spell;
    struct scn_text all = {0};
    char hint[SCN_HINT];
    char shown[SCN_SHOWN];

    scn_spell_init(&spell, key);
    for (const BdrvOption *option = drv->options; option && option->name; option++) {
        scn_spell_try(&spell, option->name);
        scn_text_str(&all, option->name);
        scn_text_str(&all, ", ");
    }
    for (size_t i = 0; i < ARRAY_SIZE(generic_keys); i++) {
        scn_spell_try(&spell, generic_keys[i]);
        scn_text_str(&all, i ? ", " : "");
        scn_text_str(&all, generic_keys[i]);
    }
    error_setg(errp, "'%s' is no option of driver '%s', expected one of %s%s", scn_shown(key, strlen(key), shown),
               drv->format_name, all.bytes, scn_spell_hint(&spell, hint));
    free(all.bytes);
    return false;
}

static bool check_value(const BlockDriver *drv, const BdrvOption *option, const struct qvalue *value, Error **errp)
{
    BdrvOption table[] = {*option, {.name = NULL}};
    struct qvalue *one = qvalue_dict();
    Error *local = NULL;

    qdict_put(one, option->name, qvalue_copy(value));
    bool ok = bdrv_check_options_table(table, one, &local);
    qvalue_free(one);
    if (!ok) {
        error_prepend(&local, "driver '%s': ", drv->format_name);
        error_propagate(errp, local);
    }
    return ok;
}

/* One node's options against its driver's table, children left out. */
static bool check_own_options(const BlockDriver *drv, const struct qvalue *options, Error **errp)
{
    for (size_t i = 0; i < options->seq.count; i++) {
        const char *key = options->seq.keys[i];
        const BdrvOption *option = find_option(drv, key);

        if (!option && !bdrv_option_is_generic(key)) {
            return unknown_key(drv, key, errp);
        }
        if (option && !check_value(drv, option, options->seq.items[i], errp)) {
            return false;
        }
    }
    for (const BdrvOption *option = drv->options; option && option->name; option++) {
        if (option->required && !qdict_get(options, option->name)) {
            error_setg(errp, "driver '%s' needs '%s', expected %s", drv->format_name, option->name, option->help);
            return false;
        }
    }
    return true;
}

/* --- names and children ---------------------------------------------------------------------------------- */

static bool check_words(const struct scn_names *names, const struct qvalue *options, Error **errp)
{
    static const struct {
        const char *key;
        enum scn_domain domain;
    } words[] = {{"throttle-group", SCN_DOM_GROUP}, {"disk", SCN_DOM_DISK}};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        const struct qvalue *value = qdict_get(options, words[i].key);

        if (value && value->type == QVALUE_STR && !scn_check_name(names, words[i].domain, value->str.bytes, errp)) {
            return false;
        }
    }
    return true;
}

/* What a child has from its parent is not known here, so it gets what refuses least. */
#define CHILD_FLAGS BDRV_O_UNMAP

static bool check_node(const struct scn_names *names, const struct qvalue *options, uint32_t flags, Error **errp);

static bool check_child(const struct scn_names *names, const struct qvalue *child, Error **errp)
{
    if (child->type == QVALUE_STR) {
        return scn_check_name(names, SCN_DOM_NODE, child->str.bytes, errp);
    }
    return child->type != QVALUE_DICT || check_node(names, child, CHILD_FLAGS, errp);
}

static bool check_children(const struct scn_names *names, const BlockDriver *drv, const struct qvalue *options,
                           Error **errp)
{
    for (const BdrvOption *option = drv->options; option && option->name; option++) {
        const struct qvalue *value = qdict_get(options, option->name);

        if (value && option->type == BDRV_OPT_NODE && !check_child(names, value, errp)) {
            return false;
        }
        for (size_t i = 0; value && option->type == BDRV_OPT_NODE_LIST && i < value->seq.count; i++) {
            if (!check_child(names, value->seq.items[i], errp)) {
                return false;
            }
        }
    }
    return true;
}

static bool check_node(const struct scn_names *names, const struct qvalue *options, uint32_t flags, Error **errp)
{
    const struct qvalue *driver = qdict_get(options, "driver");
    struct bdrv_generic_options generic;

    if (driver && driver->type == QVALUE_STR && !check_driver(driver->str.bytes, errp)) {
        return false;
    }
    return bdrv_options_generic(options, flags, &generic, errp) && check_own_options(generic.drv, options, errp) &&
           check_words(names, options, errp) && check_children(names, generic.drv, options, errp);
}

bool scn_check_node_options(const struct scn_names *names, const struct qvalue *options, Error **errp)
{
    struct qvalue *tree = bdrv_options_expand(options, errp);
    bool ok = tree && check_node(names, tree, BDRV_O_RDWR, errp);

    qvalue_free(tree);
    return ok;
}
