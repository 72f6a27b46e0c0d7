/*
 * Values in text: what a table's types accept and how each is written canonically, and the free values of QMP
 * commands.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/lang.h"

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool scn_is_name(const char *text)
{
    if (!is_alpha(text[0]) && text[0] != '#') {
        return false;
    }
    for (const char *p = text + 1; *p; p++) {
        if (!is_alpha(*p) && !is_digit(*p) && !strchr("-._", *p)) {
            return false;
        }
    }
    return text[0] != '#' || text[1];
}

bool scn_is_key(const char *key)
{
    for (const char *c = key; *c; c++) {
        if (!is_alpha(*c) && !is_digit(*c) && !strchr("-.", *c)) {
            return false;
        }
        if (*c == '.' && (c == key || c[-1] == '.' || !c[1])) {
            return false;
        }
    }
    return key[0] != '\0';
}

/* --- numbers --------------------------------------------------------------------------------------------- */

/* Decimal as it is written canonically: no plus, no leading zero, no "-0". */
static bool parse_canonical_int(const char *text, size_t length, int64_t *out)
{
    bool negative = length > 0 && text[0] == '-';
    size_t i = negative ? 1 : 0;
    int64_t value = 0;

    if (i == length || (text[i] == '0' && (length > i + 1 || negative))) {
        return false;
    }
    for (; i < length; i++) {
        if (!is_digit(text[i]) || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, text[i] - '0', &value)) { /* downwards: INT64_MIN has no positive */
            return false;
        }
    }
    if (!negative && __builtin_sub_overflow((int64_t)0, value, &value)) {
        return false;
    }
    *out = value;
    return true;
}

static bool parse_byte(const char *text, int64_t *out)
{
    char *end;
    unsigned long value;

    if (!is_digit(text[0])) {
        return false;
    }
    value = strtoul(text, &end, text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10);
    *out = (int64_t)value;
    return *end == '\0' && value <= 0xff;
}

/* --- free values ----------------------------------------------------------------------------------------- */

struct qvalue *scn_value_parse(const struct scn_token *token, const char *file, Error **errp)
{
    const char *text = token->value.bytes;
    size_t length = token->value.length;
    struct qvalue *value;
    Error *local = NULL;
    int64_t integer;

    if (token->json) {
        value = qvalue_from_json(text, length, &local);
        if (!value) {
            scn_error(errp, file, token->value_place, "bad JSON (%s), expected an object or list",
                      error_get_pretty(local));
            error_free(local);
        }
        return value;
    }
    if (!token->quoted) {
        if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
            return qvalue_bool(text[0] == 't');
        }
        if (strcmp(text, "null") == 0) {
            return qvalue_null();
        }
        if (parse_canonical_int(text, length, &integer)) {
            return qvalue_int(integer);
        }
    }
    return qvalue_strn(text, length);
}

/* A string that would not be read back as itself without quotes. */
static bool needs_quotes(const char *bytes, size_t length)
{
    static const char *const words[] = {"true", "false", "null"};
    int64_t integer;

    if (length == 0 || bytes[0] == '{' || bytes[0] == '[' || parse_canonical_int(bytes, length, &integer)) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (length == strlen(words[i]) && memcmp(bytes, words[i], length) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)bytes[i] <= ' ' || bytes[i] == 0x7f || strchr("\"\\#=", bytes[i])) {
            return true;
        }
    }
    return false;
}

static void print_quoted(struct scn_text *out, const char *bytes, size_t length)
{
    static const char from[] = "\"\\\n\t\r";
    static const char to[] = "\"\\ntr";

    scn_text_char(out, '"');
    for (size_t i = 0; i < length; i++) {
        const char *at = bytes[i] ? strchr(from, bytes[i]) : NULL;

        if (at) {
            char pair[2] = {'\\', to[at - from]};

            scn_text_add(out, pair, 2);
        } else if ((unsigned char)bytes[i] < ' ' || bytes[i] == 0x7f) {
            char escape[8];

            snprintf(escape, sizeof(escape), "\\x%02x", (unsigned)(unsigned char)bytes[i]);
            scn_text_str(out, escape);
        } else {
            scn_text_char(out, bytes[i]);
        }
    }
    scn_text_char(out, '"');
}

static void print_string(struct scn_text *out, const char *bytes, size_t length)
{
    if (needs_quotes(bytes, length)) {
        print_quoted(out, bytes, length);
    } else {
        scn_text_add(out, bytes, length);
    }
}

void scn_value_print(struct scn_text *out, const struct qvalue *value)
{
    char buf[24];
    char *json;

    switch (value->type) {
    case QVALUE_NULL:
        scn_text_str(out, "null");
        return;
    case QVALUE_BOOL:
        scn_text_str(out, value->boolean ? "true" : "false");
        return;
    case QVALUE_INT:
        snprintf(buf, sizeof(buf), "%" PRId64, value->integer);
        scn_text_str(out, buf);
        return;
    case QVALUE_STR:
        print_string(out, value->str.bytes, value->str.length);
        return;
    case QVALUE_LIST:
    case QVALUE_DICT:
        json = qvalue_to_json(value);
        scn_text_str(out, json);
        free(json);
        return;
    }
    SIM_ASSERT(!"a type that is none");
}

/* A key that can stand in a dotted path and means the same there. */
static bool is_path_part(const char *key)
{
    for (const char *p = key; *p; p++) {
        if (!is_alpha(*p) && !is_digit(*p) && *p != '-') {
            return false;
        }
    }
    return key[0] != '\0';
}

static bool is_dotted(const struct qvalue *value)
{
    if (value->type != QVALUE_DICT) {
        return true;
    }
    for (size_t i = 0; i < value->seq.count; i++) {
        if (!is_path_part(value->seq.keys[i]) || !is_dotted(value->seq.items[i])) {
            return false;
        }
    }
    return value->seq.count > 0;
}

static void print_dotted(struct scn_text *out, struct scn_text *path, const struct qvalue *value)
{
    size_t length = path->length;

    if (value->type != QVALUE_DICT) {
        scn_text_char(out, ' ');
        scn_text_add(out, path->bytes, path->length);
        scn_text_char(out, '=');
        scn_value_print(out, value);
        return;
    }
    for (size_t i = 0; i < value->seq.count; i++) {
        scn_text_char(path, '.');
        scn_text_str(path, value->seq.keys[i]);
        print_dotted(out, path, value->seq.items[i]);
        path->length = length;
        path->bytes[length] = '\0';
    }
}

void scn_pair_print(struct scn_text *out, const char *key, const struct qvalue *value)
{
    struct scn_text path = {.bytes = NULL};

    if (value->type == QVALUE_DICT && is_dotted(value)) {
        scn_text_str(&path, key);
        print_dotted(out, &path, value);
        free(path.bytes);
        return;
    }
    scn_text_char(out, ' ');
    scn_text_str(out, key);
    scn_text_char(out, '=');
    scn_value_print(out, value);
}

/* --- typed values ---------------------------------------------------------------------------------------- */

static bool is_bounded(const struct scn_arg_def *def)
{
    return def->min != 0 || def->max != 0;
}

static void format_bound(const struct scn_arg_def *def, int64_t value, char buf[32])
{
    if (def->type == SCN_SIZE) {
        sim_format_size(value, buf);
    } else if (def->type == SCN_TIME) {
        sim_format_time(value, buf);
    } else {
        snprintf(buf, 32, "%" PRId64, value);
    }
}

static bool check_range(const struct scn_arg_def *def, int64_t value, Error **errp)
{
    int64_t min = is_bounded(def) ? def->min : 0;
    int64_t max = is_bounded(def) ? def->max : INT64_MAX;
    char from[32];
    char to[32];
    char got[32];

    if (value >= min && value <= max) {
        return true;
    }
    format_bound(def, min, from);
    format_bound(def, max, to);
    if (value < 0) {
        snprintf(got, sizeof(got), "%" PRId64, value);
    } else {
        format_bound(def, value, got);
    }
    error_setg(errp, "'%s' is out of range: %s, expected %s to %s", def->name, got, from, to);
    return false;
}

bool scn_choice_check(const struct scn_arg_def *def, const char *text, Error **errp)
{
    struct scn_text all = {.bytes = NULL};
    struct scn_spell spell;
    char hint[SCN_HINT];
    char shown[SCN_SHOWN];

    for (const char *const *choice = def->choices; *choice; choice++) {
        if (str_is(*choice, text)) {
            return true;
        }
    }
    scn_spell_init(&spell, text);
    for (const char *const *choice = def->choices; *choice; choice++) {
        scn_text_str(&all, choice == def->choices ? "" : ", ");
        scn_text_str(&all, *choice);
        scn_spell_try(&spell, *choice);
    }
    error_setg(errp, "'%s' is no value of '%s', expected one of %s%s", scn_shown(text, strlen(text), shown),
               def->name, all.bytes, scn_spell_hint(&spell, hint));
    free(all.bytes);
    return false;
}

static const char *const type_words[] = {
    [SCN_NAME] = "a name (a letter, then letters, digits and '-._')",
    [SCN_STR] = "a text",
    [SCN_INT] = "a whole number",
    [SCN_SIZE] = "a size in bytes, with an optional suffix k, M, G, T, P or E",
    [SCN_TIME] = "a time with a unit ns, us, ms or s",
    [SCN_BOOL] = "on or off",
    [SCN_ENUM] = "a word",
    [SCN_BYTE] = "a byte, 0 to 255 or 0x00 to 0xff",
    [SCN_FLAG] = "nothing",
    [SCN_VALUE] = "a value",
};

static const enum qvalue_type type_values[] = {
    [SCN_NAME] = QVALUE_STR,  [SCN_STR] = QVALUE_STR,    [SCN_INT] = QVALUE_INT,  [SCN_SIZE] = QVALUE_INT,
    [SCN_TIME] = QVALUE_INT,  [SCN_BOOL] = QVALUE_BOOL,  [SCN_ENUM] = QVALUE_STR, [SCN_BYTE] = QVALUE_INT,
    [SCN_FLAG] = QVALUE_BOOL, [SCN_VALUE] = QVALUE_NULL, /* not looked at */
};

static bool expected(const struct scn_arg_def *def, const char *text, Error **errp)
{
    char shown[SCN_SHOWN];

    error_setg(errp, "'%s' is no value of '%s', expected %s", scn_shown(text, strlen(text), shown), def->name,
               type_words[def->type]);
    return false;
}

bool scn_typed_check(const struct scn_arg_def *def, const struct qvalue *value, Error **errp)
{
    if (def->type == SCN_VALUE) {
        return true;
    }
    if (value->type != type_values[def->type]) {
        error_setg(errp, "'%s' is of the wrong type, expected %s", def->name, type_words[def->type]);
        return false;
    }
    if (value->type == QVALUE_STR && strlen(value->str.bytes) != value->str.length) {
        error_setg(errp, "'%s' holds a NUL, expected a text without", def->name);
        return false;
    }
    switch (def->type) {
    case SCN_NAME:
        return scn_is_name(value->str.bytes) || expected(def, value->str.bytes, errp);
    case SCN_ENUM:
        return scn_choice_check(def, value->str.bytes, errp);
    case SCN_INT:
    case SCN_SIZE:
    case SCN_TIME:
        return check_range(def, value->integer, errp);
    case SCN_FLAG:
        return value->boolean || expected(def, "false", errp);
    case SCN_BYTE:
        return (value->integer >= 0 && value->integer <= 0xff) || expected(def, "this number", errp);
    case SCN_STR:
    case SCN_BOOL:
    case SCN_VALUE:
        return true;
    }
    return true;
}

static bool parse_bool(const char *text, bool *out)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"on", true}, {"off", false}, {"true", true}, {"false", false}};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(words[i].word, text) == 0) {
            *out = words[i].value;
            return true;
        }
    }
    return false;
}

static struct qvalue *parse_number(const struct scn_arg_def *def, const char *text)
{
    int64_t number;
    bool ok = def->type == SCN_INT    ? parse_canonical_int(text, strlen(text), &number)
              : def->type == SCN_SIZE ? sim_parse_size(text, &number)
              : def->type == SCN_TIME ? sim_parse_time(text, &number)
                                      : parse_byte(text, &number);

    return ok ? qvalue_int(number) : NULL;
}

struct qvalue *scn_typed_parse(const struct scn_arg_def *def, const char *text, Error **errp)
{
    struct qvalue *value = NULL;
    bool boolean = false;

    SIM_ASSERT(def->type != SCN_VALUE && def->type != SCN_FLAG);
    if (type_values[def->type] == QVALUE_STR) {
        value = qvalue_str(text);
    } else if (def->type != SCN_BOOL) {
        value = parse_number(def, text);
    } else if (parse_bool(text, &boolean)) {
        value = qvalue_bool(boolean);
    }
    if (!value) {
        expected(def, text, errp);
        return NULL;
    }
    if (!scn_typed_check(def, value, errp)) {
        qvalue_free(value);
        return NULL;
    }
    return value;
}

void scn_typed_print(struct scn_text *out, const struct scn_arg_def *def, const struct qvalue *value)
{
    char buf[32];

    switch (def->type) {
    case SCN_SIZE:
        scn_text_str(out, sim_format_size(value->integer, buf));
        return;
    case SCN_TIME:
        scn_text_str(out, sim_format_time(value->integer, buf));
        return;
    case SCN_BYTE:
        snprintf(buf, sizeof(buf), "0x%02x", (unsigned)value->integer);
        scn_text_str(out, buf);
        return;
    case SCN_BOOL:
        scn_text_str(out, value->boolean ? "on" : "off");
        return;
    case SCN_NAME:
    case SCN_STR:
    case SCN_ENUM:
    case SCN_INT:
    case SCN_FLAG:
    case SCN_VALUE:
        scn_value_print(out, value);
        return;
    }
}
