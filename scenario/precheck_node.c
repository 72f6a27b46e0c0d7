/*
 * What can be found wrong with the options of a node before a run: the driver, keys it does not have, keys it
 * needs, values of another type. What only a run can know (lengths, permissions, limits of each other) stays with
 * it.
 */
#include <stdlib.h>
#include <string.h>

#include "block/block_int.h"
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

static bool is_generic(const char *key)
{
    for (size_t i = 0; i < ARRAY_SIZE(generic_keys); i++) {
        if (strcmp(key, generic_keys[i]) == 0) {
            return true;
        }
    }
    return false;
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

/* A numbered list (children.0=...) is a dictionary until the run; its entries are judged there. */
static bool check_value(const BlockDriver *drv, const BdrvOption *option, const struct qvalue *value, Error **errp)
{
    BdrvOption table[] = {*option, {.name = NULL}};
    bool list = option->type == BDRV_OPT_DICT_LIST || option->type == BDRV_OPT_NODE_LIST ||
                option->type == BDRV_OPT_ENUM_LIST;
    struct qvalue *one;
    Error *local = NULL;
    bool ok;

    if (list && value->type == QVALUE_DICT) {
        return true;
    }
    one = qvalue_dict();
    qdict_put(one, option->name, qvalue_copy(value));
    ok = bdrv_check_options_table(table, one, &local);
    qvalue_free(one);
    if (!ok) {
        error_prepend(&local, "driver '%s': ", drv->format_name);
        error_propagate(errp, local);
    }
    return ok;
}

bool scn_check_driver_options(const struct qvalue *options, Error **errp)
{
    const struct qvalue *driver = qdict_get(options, "driver");
    const BlockDriver *drv;

    if (!driver || driver->type != QVALUE_STR) {
        return true; /* said elsewhere */
    }
    if (!check_driver(driver->str.bytes, errp)) {
        return false;
    }
    drv = bdrv_find_driver(driver->str.bytes);
    SIM_ASSERT(drv != NULL);
    for (size_t i = 0; i < options->seq.count; i++) {
        if (strchr(options->seq.keys[i], '.')) {
            return true; /* dotted keys in JSON: the run takes them apart */
        }
    }
    for (size_t i = 0; i < options->seq.count; i++) {
        const char *key = options->seq.keys[i];
        const BdrvOption *option = find_option(drv, key);

        if (!option && !is_generic(key)) {
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
