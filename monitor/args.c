/*
 * Arguments against the command's table: presence, types, conversions, then leftovers.
 */
#include <stdlib.h>
#include <string.h>

#include "monitor/commands.h"

static const char *const expected_type[] = {
    [QMP_STR] = "string",  [QMP_BOOL] = "boolean", [QMP_INT] = "integer", [QMP_SIZE] = "integer",
    [QMP_ENUM] = "string", [QMP_DICT] = "object",  [QMP_LIST] = "array",  [QMP_ALTERNATE] = "string or object",
    [QMP_ANY] = "any",
};

/* A string that spells the value in another type becomes that value, in place. */
static void become_int(struct qvalue *value, int64_t integer)
{
    free(value->str.bytes);
    value->type = QVALUE_INT;
    value->integer = integer;
}

static void become_bool(struct qvalue *value, bool boolean)
{
    free(value->str.bytes);
    value->type = QVALUE_BOOL;
    value->boolean = boolean;
}

/* "64k", "-1", "-64k": qmp-shell's numbers. */
static bool parse_number(const char *text, int64_t *out)
{
    bool negative = *text == '-';
    if (!sim_parse_size(text + negative, out)) {
        return false;
    }
    *out = negative ? -*out : *out;
    return true;
}

static bool has_nul(const struct qvalue *value)
{
    return memchr(value->str.bytes, '\0', value->str.length) != NULL;
}

static void convert(const struct qmp_arg *arg, struct qvalue *value)
{
    static const struct {
        const char *text;
        bool value;
    } word[] = {{"true", true}, {"on", true}, {"yes", true}, {"false", false}, {"off", false}, {"no", false}};
    int64_t number;
    if (value->type != QVALUE_STR || has_nul(value)) {
        return;
    }
    if ((arg->type == QMP_INT || arg->type == QMP_SIZE) && parse_number(value->str.bytes, &number)) {
        become_int(value, number);
        return;
    }
    for (size_t i = 0; arg->type == QMP_BOOL && i < ARRAY_SIZE(word); i++) {
        if (strcmp(value->str.bytes, word[i].text) == 0) {
            become_bool(value, word[i].value);
            return;
        }
    }
}

static bool type_fits(enum qmp_arg_type type, const struct qvalue *value)
{
    switch (type) {
    case QMP_STR:
    case QMP_ENUM:
        return value->type == QVALUE_STR && !has_nul(value);
    case QMP_BOOL:
        return value->type == QVALUE_BOOL;
    case QMP_INT:
    case QMP_SIZE:
        return value->type == QVALUE_INT;
    case QMP_DICT:
        return value->type == QVALUE_DICT;
    case QMP_LIST:
        return value->type == QVALUE_LIST;
    case QMP_ALTERNATE:
        return value->type == QVALUE_DICT || (value->type == QVALUE_STR && !has_nul(value));
    case QMP_ANY:
        break;
    }
    return true;
}

static bool is_choice(const struct qmp_arg *arg, const char *text)
{
    SIM_ASSERT(arg->choices);
    for (const char *const *choice = arg->choices; *choice; choice++) {
        if (strcmp(*choice, text) == 0) {
            return true;
        }
    }
    return false;
}

char *qmp_place_text(const struct qmp_place *place)
{
    char *text = NULL;
    int length;
    if (!place->above) {
        SIM_ASSERT(place->name);
        length = asprintf(&text, "%s", place->name);
    } else {
        char *above = qmp_place_text(place->above);
        length = place->name ? asprintf(&text, "%s.%s", above, place->name)
                             : asprintf(&text, "%s[%zu]", above, place->index);
        free(above);
    }
    SIM_ASSERT(length > 0);
    return text;
}

static bool refuse(const struct qmp_place *place, const char *why, Error **errp)
{
    char *text = qmp_place_text(place);
    error_setg(errp, "Parameter '%s' %s", text, why);
    free(text);
    return false;
}

static bool wrong_type(const struct qmp_arg *arg, const struct qmp_place *place, Error **errp)
{
    char *text = qmp_place_text(place);
    error_setg(errp, "Invalid parameter type for '%s', expected: %s", text,
               arg->type == QMP_ALTERNATE ? arg->name : expected_type[arg->type]);
    free(text);
    return false;
}

bool qmp_refuse_choice(const struct qmp_place *place, const char *value, Error **errp)
{
    char *text = qmp_place_text(place);
    error_setg(errp, "Parameter '%s' does not accept value '%s'", text, value);
    free(text);
    return false;
}

static bool check_elements(const struct qmp_arg *arg, const struct qvalue *list, const struct qmp_place *place,
                           Error **errp)
{
    for (size_t i = 0; i < list->seq.count; i++) {
        const struct qmp_place at = {.above = place, .index = i};
        if (!qmp_check_value(arg, list->seq.items[i], &at, errp)) {
            return false;
        }
    }
    return true;
}

bool qmp_check_value(const struct qmp_arg *arg, struct qvalue *value, const struct qmp_place *place, Error **errp)
{
    convert(arg, value);
    if (!type_fits(arg->type, value)) {
        return wrong_type(arg, place, errp);
    }
    if (arg->type == QMP_ENUM && !is_choice(arg, value->str.bytes)) {
        return qmp_refuse_choice(place, value->str.bytes, errp);
    }
    if (arg->type == QMP_SIZE && value->integer < 0) {
        return refuse(place, "expects uint64", errp);
    }
    if (!arg->of) {
        return true;
    }
    if (value->type == QVALUE_LIST) {
        return check_elements(arg->of, value, place, errp);
    }
    return value->type != QVALUE_DICT || qmp_check_table(arg->of, false, value, place, errp);
}

static bool is_known(const struct qmp_arg *table, const char *name)
{
    for (const struct qmp_arg *arg = table; arg->name; arg++) {
        if (strcmp(arg->name, name) == 0) {
            return true;
        }
    }
    return false;
}

bool qmp_check_table(const struct qmp_arg *table, bool open, struct qvalue *dict, const struct qmp_place *place,
                     Error **errp)
{
    SIM_ASSERT(table);
    SIM_ASSERT(!dict || dict->type == QVALUE_DICT);
    for (const struct qmp_arg *arg = table; arg->name; arg++) {
        const struct qmp_place at = {.above = place, .name = arg->name};
        struct qvalue *value = qdict_get(dict, arg->name);
        if (!value && !arg->optional) {
            return refuse(&at, "is missing", errp);
        }
        if (value && !qmp_check_value(arg, value, &at, errp)) {
            return false;
        }
    }
    for (size_t i = 0; dict && !open && i < dict->seq.count; i++) {
        if (!is_known(table, dict->seq.keys[i])) {
            const struct qmp_place at = {.above = place, .name = dict->seq.keys[i]};
            return refuse(&at, "is unexpected", errp);
        }
    }
    return true;
}

bool qmp_check_args(const struct qmp_command *command, struct qvalue *args, Error **errp)
{
    return qmp_check_table(command->args, command->open_args, args, NULL, errp) &&
           (!command->check || command->check(args, errp));
}

const char *qmp_arg_str(const struct qvalue *args, const char *name, const char *def)
{
    const struct qvalue *value = qdict_get(args, name);
    SIM_ASSERT(!value || value->type == QVALUE_STR);
    return value ? value->str.bytes : def;
}

int64_t qmp_arg_int(const struct qvalue *args, const char *name, int64_t def)
{
    const struct qvalue *value = qdict_get(args, name);
    SIM_ASSERT(!value || value->type == QVALUE_INT);
    return value ? value->integer : def;
}

bool qmp_arg_bool(const struct qvalue *args, const char *name, bool def)
{
    const struct qvalue *value = qdict_get(args, name);
    SIM_ASSERT(!value || value->type == QVALUE_BOOL);
    return value ? value->boolean : def;
}

bool qmp_arg_u32(const struct qvalue *args, const char *name, uint32_t *out, Error **errp)
{
    int64_t value = qmp_arg_int(args, name, 0);
    if (value < 0 || value > UINT32_MAX) {
        error_setg(errp, "Parameter '%s' expects uint32_t", name);
        return false;
    }
    *out = (uint32_t)value;
    return true;
}
