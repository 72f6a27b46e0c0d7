#include "block/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- shape ------------------------------------------------------------------------------------------------ */

/* More than any real tree, and each level opens a node on the stack of the one above. */
#define MAX_NESTING 16

static struct qvalue *expand(const struct qvalue *options, unsigned depth, Error **errp);

static unsigned levels(const char *key)
{
    unsigned count = 1;

    for (; *key; key++) {
        count += *key == '.';
    }
    return count;
}

static struct qvalue *expand_list(const struct qvalue *list, unsigned depth, Error **errp)
{
    struct qvalue *out = qvalue_list();

    for (size_t i = 0; i < list->seq.count; i++) {
        const struct qvalue *item = list->seq.items[i];
        struct qvalue *value = item->type == QVALUE_DICT ? expand(item, depth + 1, errp) : qvalue_copy(item);
        if (!value) {
            qvalue_free(out);
            return NULL;
        }
        qlist_append(out, value);
    }
    return out;
}

static struct qvalue *expand_value(const struct qvalue *value, unsigned depth, Error **errp)
{
    switch (value->type) {
    case QVALUE_DICT:
        return expand(value, depth, errp);
    case QVALUE_LIST:
        return expand_list(value, depth, errp);
    default:
        return qvalue_copy(value);
    }
}

/* Either the plain keys or the dotted ones, which go into what the plain ones made, whatever their order was. */
static bool expand_into(struct qvalue *out, const struct qvalue *options, bool dotted, unsigned depth, Error **errp)
{
    for (size_t i = 0; i < options->seq.count; i++) {
        const char *key = options->seq.keys[i];
        const struct qvalue *item = options->seq.items[i];
        unsigned below = depth + levels(key);

        if ((below > depth + 1) != dotted) {
            continue;
        }
        if (below > MAX_NESTING) {
            error_setg(errp, "Options are nested too deeply (at most %d levels)", MAX_NESTING);
            return false;
        }
        struct qvalue *value = expand_value(item, below, errp);
        if (!value) {
            return false;
        }
        if (!qdict_put_path(out, key, value)) {
            error_setg(errp, "Parameter '%s' is given twice", key);
            return false;
        }
    }
    return true;
}

static struct qvalue *expand(const struct qvalue *options, unsigned depth, Error **errp)
{
    struct qvalue *out = qvalue_dict();

    if (!expand_into(out, options, false, depth, errp) || !expand_into(out, options, true, depth, errp)) {
        qvalue_free(out);
        return NULL;
    }
    return out;
}

/* --- numbered keys ---------------------------------------------------------------------------------------- */

static bool is_number(const char *key)
{
    return key[0] != 0 && strspn(key, "0123456789") == strlen(key);
}

static size_t count_numbers(const struct qvalue *dict)
{
    size_t count = 0;

    for (size_t i = 0; i < dict->seq.count; i++) {
        count += is_number(dict->seq.keys[i]);
    }
    return count;
}

/* The list that a dictionary with keys 0, 1, ... stands for; its items move over. */
static struct qvalue *list_of(const char *name, struct qvalue *dict, Error **errp)
{
    struct qvalue *list = qvalue_list();

    for (size_t i = 0, count = dict->seq.count; i < count; i++) {
        char key[24];
        snprintf(key, sizeof(key), "%" PRIu64, (uint64_t)i);
        struct qvalue *item = qdict_take(dict, key);
        if (!item) {
            error_setg(errp, "Parameter '%s.%s' is missing: its numbers must be 0, 1, ...", name, key);
            qvalue_free(list);
            return NULL;
        }
        qlist_append(list, item);
    }
    return list;
}

/* Makes lists of all dictionaries with numbered keys below the root of an expanded tree. */
static bool make_lists(struct qvalue *tree, Error **errp)
{
    for (size_t i = 0; i < tree->seq.count; i++) {
        struct qvalue *item = tree->seq.items[i];
        if (item->type != QVALUE_DICT && item->type != QVALUE_LIST) {
            continue;
        }
        if (!make_lists(item, errp)) {
            return false;
        }
        size_t numbers = item->type == QVALUE_DICT ? count_numbers(item) : 0;
        if (numbers == 0) {
            continue;
        }
        const char *name = tree->type == QVALUE_DICT ? tree->seq.keys[i] : "item";
        if (numbers < item->seq.count) {
            error_setg(errp, "Parameter '%s' mixes numbered and named keys", name);
            return false;
        }
        struct qvalue *list = list_of(name, item, errp);
        if (!list) {
            return false;
        }
        tree->seq.items[i] = list;
        qvalue_free(item);
    }
    return true;
}

struct qvalue *bdrv_options_expand(const struct qvalue *options, Error **errp)
{
    if (!options || options->type != QVALUE_DICT) {
        error_setg(errp, "Options of a node must be a dictionary");
        return NULL;
    }
    struct qvalue *tree = expand(options, 0, errp);
    if (tree && !make_lists(tree, errp)) {
        qvalue_free(tree);
        tree = NULL;
    }
    return tree;
}

/* --- generic keys ----------------------------------------------------------------------------------------- */

static const char *const generic_keys[] = {
    "driver",  "node-name",     "read-only", "auto-read-only", "force-share",
    "discard", "detect-zeroes", "cache",     "active",
};

bool bdrv_option_is_generic(const char *key)
{
    for (size_t i = 0; i < ARRAY_SIZE(generic_keys); i++) {
        if (strcmp(key, generic_keys[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* One of a NULL-ended list of words, by index; absent gives def. */
static bool get_word(const struct qvalue *options, const char *key, const char *const *words, unsigned *out,
                     unsigned def, Error **errp)
{
    const char *text;

    if (!qdict_get_str(options, key, &text, words[def], errp)) {
        return false;
    }
    for (unsigned i = 0; words[i]; i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i;
            return true;
        }
    }
    error_setg(errp, "Parameter '%s' does not accept value '%s'", key, text);
    return false;
}

/* A boolean key that stands for a flag; invert: the flag is set when the key is off. */
static bool get_flag(const struct qvalue *options, const char *key, uint32_t flag, bool invert, uint32_t *flags,
                     Error **errp)
{
    bool on;

    if (!qdict_get_bool(options, key, &on, ((*flags & flag) != 0) != invert, errp)) {
        return false;
    }
    *flags = on != invert ? *flags | flag : *flags & ~flag;
    return true;
}

static bool get_cache(const struct qvalue *options, uint32_t *flags, Error **errp)
{
    const struct qvalue *cache = qdict_get(options, "cache");

    if (!cache) {
        return true;
    }
    if (cache->type != QVALUE_DICT) {
        error_setg(errp, "Parameter 'cache' expects a dictionary");
        return false;
    }
    for (size_t i = 0; i < cache->seq.count; i++) {
        const char *key = cache->seq.keys[i];
        if (strcmp(key, "direct") != 0 && strcmp(key, "no-flush") != 0) {
            error_setg(errp, "Parameter 'cache.%s' is unexpected", key);
            return false;
        }
    }
    if (!get_flag(cache, "direct", BDRV_O_NOCACHE, false, flags, NULL) ||
        !get_flag(cache, "no-flush", BDRV_O_NO_FLUSH, false, flags, NULL)) {
        error_setg(errp, "Parameters 'cache.direct' and 'cache.no-flush' expect 'on' or 'off'");
        return false;
    }
    return true;
}

static bool get_driver(const struct qvalue *options, const BlockDriver **drv, Error **errp)
{
    const char *name;

    if (!qdict_get_str(options, "driver", &name, NULL, errp)) {
        return false;
    }
    if (!name) {
        error_setg(errp, "Parameter 'driver' is missing");
        return false;
    }
    *drv = bdrv_find_driver(name);
    if (!*drv || (*drv)->internal) {
        error_setg(errp, "Parameter 'driver' does not accept value '%s'", name);
        return false;
    }
    return true;
}

static bool check_generic(const struct bdrv_generic_options *o, Error **errp)
{
    if ((o->flags & BDRV_O_FORCE_SHARE) && (o->flags & BDRV_O_RDWR)) {
        error_setg(errp, "force-share=on can only be used with read-only images");
        return false;
    }
    if (o->detect_zeroes == BDRV_DETECT_ZEROES_UNMAP && !(o->flags & BDRV_O_UNMAP)) {
        error_setg(errp, "detect-zeroes=unmap is not allowed without discard=unmap");
        return false;
    }
    return true;
}

bool bdrv_options_flags(const struct qvalue *options, uint32_t flags, struct bdrv_generic_options *out,
                        Error **errp)
{
    static const char *const discard_words[] = {"ignore", "unmap", NULL};
    static const char *const detect_words[] = {"off", "on", "unmap", NULL};
    unsigned discard, detect;
    bool active;

    out->flags = flags;
    if (!get_flag(options, "read-only", BDRV_O_RDWR, true, &out->flags, errp) ||
        !get_flag(options, "auto-read-only", BDRV_O_AUTO_RDONLY, false, &out->flags, errp) ||
        !get_flag(options, "force-share", BDRV_O_FORCE_SHARE, false, &out->flags, errp) ||
        !get_cache(options, &out->flags, errp) ||
        !get_word(options, "discard", discard_words, &discard, (flags & BDRV_O_UNMAP) ? 1 : 0, errp) ||
        !get_word(options, "detect-zeroes", detect_words, &detect, 0, errp) ||
        !qdict_get_bool(options, "active", &active, true, errp)) {
        return false;
    }
    out->flags = discard ? out->flags | BDRV_O_UNMAP : out->flags & ~(uint32_t)BDRV_O_UNMAP;
    out->detect_zeroes = (enum bdrv_detect_zeroes)detect;
    if (!active) {
        out->flags |= BDRV_O_INACTIVE;
    }
    return check_generic(out, errp);
}

bool bdrv_options_generic(const struct qvalue *options, uint32_t flags, struct bdrv_generic_options *out,
                          Error **errp)
{
    memset(out, 0, sizeof(*out));
    return get_driver(options, &out->drv, errp) &&
           qdict_get_str(options, "node-name", &out->node_name, NULL, errp) &&
           bdrv_options_flags(options, flags, out, errp);
}

/* --- a driver's own --------------------------------------------------------------------------------------- */

static bool check_members(const BdrvOption *members, const struct qvalue *values, bool generic, Error **errp);

static const BdrvOption *find_option(const BdrvOption *options, const char *key)
{
    for (const BdrvOption *option = options; option && option->name; option++) {
        if (str_is(option->name, key)) {
            return option;
        }
    }
    return NULL;
}

static bool check_node_value(const BdrvOption *option, const struct qvalue *value, Error **errp)
{
    bool absent = value->type == QVALUE_NULL;

    if (absent && option->required) {
        error_setg(errp, "Parameter '%s' is missing", option->name);
        return false;
    }
    if (!absent && value->type != QVALUE_STR && value->type != QVALUE_DICT) {
        error_setg(errp, "Parameter '%s' expects a node name or a dictionary", option->name);
        return false;
    }
    return true;
}

/* One entry of a list: options of its own, or a word. */
static bool check_entry(const BdrvOption *option, size_t index, const struct qvalue *entry, Error **errp)
{
    Error *local = NULL;

    if (option->type == BDRV_OPT_DICT_LIST && entry->type == QVALUE_DICT) {
        if (!check_members(option->values, entry, false, &local)) {
            error_prepend(&local, "%s.%u: ", option->name, (unsigned)index);
            error_propagate(errp, local);
            return false;
        }
        return true;
    }
    if (option->type == BDRV_OPT_DICT_LIST || entry->type != QVALUE_STR) {
        error_setg(errp, "Parameter '%s.%u' expects a %s", option->name, (unsigned)index,
                   option->type == BDRV_OPT_DICT_LIST ? "dictionary" : "string");
        return false;
    }
    const char *const *words = option->values;
    for (unsigned i = 0; words[i]; i++) {
        if (str_is(words[i], entry->str.bytes)) {
            return true;
        }
    }
    error_setg(errp, "Parameter '%s.%u' does not accept value '%s'", option->name, (unsigned)index,
               entry->str.bytes);
    return false;
}

static bool check_node_list(const BdrvOption *option, const struct qvalue *value, Error **errp)
{
    for (size_t i = 0; i < value->seq.count; i++) {
        enum qvalue_type type = value->seq.items[i]->type;
        if (type != QVALUE_STR && type != QVALUE_DICT) {
            error_setg(errp, "Parameter '%s.%u' expects a node name or a dictionary", option->name, (unsigned)i);
            return false;
        }
    }
    return true;
}

static bool check_list(const BdrvOption *option, const struct qvalue *value, Error **errp)
{
    if (value->type != QVALUE_LIST) {
        error_setg(errp, "Parameter '%s' expects a list", option->name);
        return false;
    }
    if (option->type == BDRV_OPT_NODE_LIST) {
        return check_node_list(option, value, errp);
    }
    for (size_t i = 0; i < value->seq.count; i++) {
        if (!check_entry(option, i, value->seq.items[i], errp)) {
            return false;
        }
    }
    return true;
}

static bool check_word_or_dict(const BdrvOption *option, const struct qvalue *options, Error **errp)
{
    const BdrvWordOrDict *either = option->values;
    const struct qvalue *value = qdict_get(options, option->name);
    Error *local = NULL;
    unsigned word;

    if (value->type != QVALUE_DICT) {
        return get_word(options, option->name, either->words, &word, 0, errp);
    }
    bool ok = check_members(either->members, value, false, &local);
    if (!ok) {
        error_prepend(&local, "%s: ", option->name);
        error_propagate(errp, local);
    }
    return ok;
}

static bool check_value(const BdrvOption *option, const struct qvalue *options, Error **errp)
{
    const char *text;
    bool boolean;
    int64_t integer;
    unsigned word;

    switch (option->type) {
    case BDRV_OPT_STR:
        return qdict_get_str(options, option->name, &text, NULL, errp);
    case BDRV_OPT_BOOL:
        return qdict_get_bool(options, option->name, &boolean, false, errp);
    case BDRV_OPT_INT:
        return qdict_get_int(options, option->name, &integer, 0, errp);
    case BDRV_OPT_SIZE:
        return qdict_get_size(options, option->name, &integer, 0, errp);
    case BDRV_OPT_ENUM:
        return get_word(options, option->name, option->values, &word, 0, errp);
    case BDRV_OPT_NODE:
        return check_node_value(option, qdict_get(options, option->name), errp);
    case BDRV_OPT_ENUM_LIST:
    case BDRV_OPT_DICT_LIST:
    case BDRV_OPT_NODE_LIST:
        return check_list(option, qdict_get(options, option->name), errp);
    case BDRV_OPT_WORD_OR_DICT:
        return check_word_or_dict(option, options, errp);
    }
    return false;
}

/* values: all of them in the table (or generic), of the right type, nothing required missing. */
static bool check_members(const BdrvOption *members, const struct qvalue *values, bool generic, Error **errp)
{
    for (size_t i = 0; i < values->seq.count; i++) {
        const char *key = values->seq.keys[i];
        const BdrvOption *option = find_option(members, key);

        if (!option && !(generic && bdrv_option_is_generic(key))) {
            error_setg(errp, "Parameter '%s' is unexpected", key);
            return false;
        }
        if (option && !check_value(option, values, errp)) {
            return false;
        }
    }
    for (const BdrvOption *option = members; option && option->name; option++) {
        if (option->required && !qdict_get(values, option->name)) {
            error_setg(errp, "Parameter '%s' is missing", option->name);
            return false;
        }
    }
    return true;
}

bool bdrv_options_check(const BlockDriver *drv, const struct qvalue *options, Error **errp)
{
    return check_members(drv->options, options, true, errp);
}

bool bdrv_check_options_table(const BdrvOption *table, const struct qvalue *values, Error **errp)
{
    return check_members(table, values, false, errp);
}
