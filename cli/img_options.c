/*
 * qemu-img's creation options, by table. See cli/img_options.h.
 */
#include "cli/img_options.h"

#include <stdlib.h>
#include <string.h>

enum img_option_type { IMG_SIZE, IMG_INT, IMG_BOOL, IMG_STR, IMG_COMPAT };

struct img_option {
    const char *name;
    const char *key;
    enum img_option_type type;
    const char *help;
};

static const struct img_option options[] = {
    {"size", "size", IMG_SIZE, "virtual disk size"},
    {"compat", "version", IMG_COMPAT, "compatibility level: v2 (0.10) or v3 (1.1)"},
    {"backing_file", "backing-file", IMG_STR, "file name of the image below"},
    {"backing_fmt", "backing-fmt", IMG_STR, "format of the image below"},
    {"data_file", "data_file", IMG_STR, "file name of an external data file"},
    {"data_file_raw", "data-file-raw", IMG_BOOL, "the external data file stays a valid raw image"},
    {"extended_l2", "extended-l2", IMG_BOOL, "32 subclusters in each cluster"},
    {"cluster_size", "cluster-size", IMG_SIZE, "cluster size, 512 to 2M"},
    {"preallocation", "preallocation", IMG_STR, "off, metadata, falloc, full"},
    {"lazy_refcounts", "lazy-refcounts", IMG_BOOL, "postpone refcount updates"},
    {"refcount_bits", "refcount-bits", IMG_INT, "width of a refcount, 1 to 64 bits"},
    {"compression_type", "compression-type", IMG_STR, "zlib or zstd"},
};

bool img_option_at(unsigned i, const char **name, const char **key, const char **help)
{
    if (i >= ARRAY_SIZE(options)) {
        return false;
    }
    *name = options[i].name;
    *key = options[i].key;
    *help = options[i].help;
    return true;
}

static const struct img_option *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        if (strcmp(options[i].name, name) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

/* NULL: no such value. */
static struct qvalue *compat_value(const char *text)
{
    if (strcmp(text, "0.10") == 0 || strcmp(text, "v2") == 0) {
        return qvalue_str("v2");
    }
    return strcmp(text, "1.1") == 0 || strcmp(text, "v3") == 0 ? qvalue_str("v3") : NULL;
}

static struct qvalue *bool_value(const char *text)
{
    if (strcmp(text, "on") == 0 || strcmp(text, "off") == 0) {
        return qvalue_bool(text[1] == 'n');
    }
    return NULL;
}

static struct qvalue *value_of(const struct img_option *option, const char *text)
{
    int64_t number;

    switch (option->type) {
    case IMG_SIZE:
        return sim_parse_size(text, &number) ? qvalue_int(number) : NULL;
    case IMG_INT:
        return text[0] >= '0' && text[0] <= '9' && sim_parse_size(text, &number) ? qvalue_int(number) : NULL;
    case IMG_BOOL:
        return bool_value(text);
    case IMG_COMPAT:
        return compat_value(text);
    case IMG_STR:
        return qvalue_str(text);
    }
    return NULL;
}

static const char *expected(const struct img_option *option)
{
    static const char *const words[] = {
        [IMG_SIZE] = "a size",    [IMG_INT] = "a number",           [IMG_BOOL] = "'on' or 'off'",
        [IMG_STR] = "any string", [IMG_COMPAT] = "'0.10' or '1.1'",
    };
    return words[option->type];
}

static bool set_option(struct qvalue *create, char *item, Error **errp)
{
    char *equals = strchr(item, '=');

    if (equals) {
        *equals = '\0';
    }
    const struct img_option *option = find(item);
    if (!option) {
        error_setg(errp, "Invalid parameter '%s'", item);
        return false;
    }
    /* As everywhere among qemu-img's options, a name alone switches on. */
    struct qvalue *value = value_of(option, equals ? equals + 1 : "on");
    if (!value) {
        error_setg(errp, "Parameter '%s' expects %s, not '%s'", item, expected(option), equals ? equals + 1 : "on");
        return false;
    }
    qvalue_free(qdict_take(create, option->key));
    qdict_put(create, option->key, value);
    return true;
}

char *img_cut_item(char *at)
{
    char *to = at;

    while (*at && (at[0] != ',' || at[1] == ',')) {
        at += at[0] == ',';
        *to++ = *at++;
    }
    char *next = *at ? at + 1 : at;
    *to = '\0';
    return next;
}

bool img_options_parse(const char *text, struct qvalue *create, Error **errp)
{
    char *copy = strdup(text);
    struct qvalue *made = qvalue_copy(create);
    bool ok = true;

    SIM_ASSERT(copy);
    for (char *at = copy, *next; ok && *at; at = next) {
        next = img_cut_item(at);
        ok = set_option(made, at, errp);
    }
    if (ok) {
        for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
            struct qvalue *value = qdict_take(made, options[i].key);
            if (value) {
                qvalue_free(qdict_take(create, options[i].key));
                qdict_put(create, options[i].key, value);
            }
        }
    }
    qvalue_free(made);
    free(copy);
    return ok;
}
