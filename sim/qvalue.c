/*
 * Values: construction, dictionaries and lists.
 */
#include "sim/qvalue.h"

#include <stdlib.h>
#include <string.h>

#include "sim/world.h"

static struct qvalue *new_value(enum qvalue_type type)
{
    struct qvalue *v = sim_xcalloc(1, sizeof(*v));

    v->type = type;
    return v;
}

struct qvalue *qvalue_null(void)
{
    return new_value(QVALUE_NULL);
}

struct qvalue *qvalue_bool(bool b)
{
    struct qvalue *v = new_value(QVALUE_BOOL);

    v->boolean = b;
    return v;
}

struct qvalue *qvalue_int(int64_t i)
{
    struct qvalue *v = new_value(QVALUE_INT);

    v->integer = i;
    return v;
}

static char *copy_bytes(const char *s, size_t length)
{
    char *copy = sim_xmalloc(length + 1);

    memcpy(copy, s, length);
    copy[length] = '\0';
    return copy;
}

struct qvalue *qvalue_strn(const char *s, size_t length)
{
    struct qvalue *v = new_value(QVALUE_STR);

    SIM_ASSERT(s != NULL);
    v->str.bytes = copy_bytes(s, length);
    v->str.length = length;
    return v;
}

struct qvalue *qvalue_str(const char *s)
{
    SIM_ASSERT(s != NULL);
    return qvalue_strn(s, strlen(s));
}

struct qvalue *qvalue_list(void)
{
    return new_value(QVALUE_LIST);
}

struct qvalue *qvalue_dict(void)
{
    return new_value(QVALUE_DICT);
}

static bool is_container(const struct qvalue *v)
{
    return v->type == QVALUE_LIST || v->type == QVALUE_DICT;
}

/* Depth is bounded where trees come from outside: jansson refuses more than 2048 levels. */
void qvalue_free(struct qvalue *v)
{
    if (!v) {
        return;
    }
    if (v->type == QVALUE_STR) {
        free(v->str.bytes);
    } else if (is_container(v)) {
        for (size_t i = 0; i < v->seq.count; i++) {
            qvalue_free(v->seq.items[i]);
            if (v->type == QVALUE_DICT) {
                free(v->seq.keys[i]);
            }
        }
        free(v->seq.items);
        free(v->seq.keys);
    }
    free(v);
}

void qvalue_cleanup(void *value)
{
    qvalue_free(value);
}

/* Takes over key (NULL in lists) and item. */
static void seq_append(struct qvalue *seq, char *key, struct qvalue *item)
{
    SIM_ASSERT(is_container(seq));
    SIM_ASSERT(item != NULL && item != seq);
    if (seq->seq.count == seq->seq.room) {
        seq->seq.room = seq->seq.room ? seq->seq.room * 2 : 4;
        seq->seq.items = sim_xrealloc(seq->seq.items, seq->seq.room * sizeof(*seq->seq.items));
        if (seq->type == QVALUE_DICT) {
            seq->seq.keys = sim_xrealloc(seq->seq.keys, seq->seq.room * sizeof(*seq->seq.keys));
        }
    }
    if (seq->type == QVALUE_DICT) {
        SIM_ASSERT(key != NULL);
        seq->seq.keys[seq->seq.count] = key;
    }
    seq->seq.items[seq->seq.count++] = item;
}

struct qvalue *qvalue_copy(const struct qvalue *v)
{
    struct qvalue *copy;

    SIM_ASSERT(v != NULL);
    if (v->type == QVALUE_STR) {
        return qvalue_strn(v->str.bytes, v->str.length);
    }
    copy = new_value(v->type);
    if (v->type == QVALUE_BOOL) {
        copy->boolean = v->boolean;
    } else if (v->type == QVALUE_INT) {
        copy->integer = v->integer;
    }
    for (size_t i = 0; is_container(v) && i < v->seq.count; i++) {
        char *key = v->type == QVALUE_DICT ? copy_bytes(v->seq.keys[i], strlen(v->seq.keys[i])) : NULL;

        seq_append(copy, key, qvalue_copy(v->seq.items[i]));
    }
    return copy;
}

static bool seq_equal(const struct qvalue *a, const struct qvalue *b)
{
    if (a->seq.count != b->seq.count) {
        return false;
    }
    for (size_t i = 0; i < a->seq.count; i++) {
        const struct qvalue *other = b->seq.items[i];

        if (a->type == QVALUE_DICT) {
            other = qdict_get(b, a->seq.keys[i]);
        }
        if (!other || !qvalue_equal(a->seq.items[i], other)) {
            return false;
        }
    }
    return true;
}

bool qvalue_equal(const struct qvalue *a, const struct qvalue *b)
{
    SIM_ASSERT(a != NULL && b != NULL);
    if (a->type != b->type) {
        return false;
    }
    switch (a->type) {
    case QVALUE_NULL:
        return true;
    case QVALUE_BOOL:
        return a->boolean == b->boolean;
    case QVALUE_INT:
        return a->integer == b->integer;
    case QVALUE_STR:
        return a->str.length == b->str.length && memcmp(a->str.bytes, b->str.bytes, a->str.length) == 0;
    case QVALUE_LIST:
    case QVALUE_DICT:
        return seq_equal(a, b);
    }
    SIM_ASSERT(!"a type that is none");
    return false;
}

void qlist_append(struct qvalue *list, struct qvalue *item)
{
    SIM_ASSERT(list != NULL && list->type == QVALUE_LIST);
    seq_append(list, NULL, item);
}

/* Index of the key, or the count. Dictionaries are small: options and arguments. */
static size_t dict_index(const struct qvalue *dict, const char *key)
{
    size_t i;

    SIM_ASSERT_EQ(dict->type, QVALUE_DICT);
    for (i = 0; i < dict->seq.count; i++) {
        if (str_is(dict->seq.keys[i], key)) {
            break;
        }
    }
    return i;
}

bool qdict_put(struct qvalue *dict, const char *key, struct qvalue *item)
{
    SIM_ASSERT(dict != NULL && key != NULL);
    if (dict_index(dict, key) < dict->seq.count) {
        qvalue_free(item);
        return false;
    }
    seq_append(dict, copy_bytes(key, strlen(key)), item);
    return true;
}

struct qvalue *qdict_get(const struct qvalue *dict, const char *key)
{
    size_t i;

    if (!dict) {
        return NULL;
    }
    i = dict_index(dict, key);
    return i < dict->seq.count ? dict->seq.items[i] : NULL;
}

struct qvalue *qdict_take(struct qvalue *dict, const char *key)
{
    struct qvalue *item;
    size_t i;
    size_t after;

    if (!dict) {
        return NULL;
    }
    i = dict_index(dict, key);
    if (i == dict->seq.count) {
        return NULL;
    }
    item = dict->seq.items[i];
    free(dict->seq.keys[i]);
    after = dict->seq.count - i - 1;
    memmove(&dict->seq.items[i], &dict->seq.items[i + 1], after * sizeof(*dict->seq.items));
    memmove(&dict->seq.keys[i], &dict->seq.keys[i + 1], after * sizeof(*dict->seq.keys));
    dict->seq.count--;
    return item;
}

/* Checked whole before anything is made: a refused path leaves no empty dictionaries behind. */
static bool path_is_free(const struct qvalue *dict, const char *path)
{
    const struct qvalue *at = dict;
    bool is_free = true;
    char *copy = copy_bytes(path, strlen(path));
    char *part = copy;

    while (is_free && at) {
        char *dot = strchr(part, '.');

        if (at->type != QVALUE_DICT) {
            is_free = false;
            break;
        }
        if (dot) {
            *dot = '\0';
        }
        at = qdict_get(at, part);
        if (!dot) {
            is_free = at == NULL;
            break;
        }
        part = dot + 1;
    }
    free(copy);
    return is_free;
}

bool qdict_put_path(struct qvalue *dict, const char *path, struct qvalue *item)
{
    struct qvalue *at = dict;
    char *copy;
    char *part;
    char *dot;

    SIM_ASSERT(dict != NULL && path != NULL);
    if (!path_is_free(dict, path)) {
        qvalue_free(item);
        return false;
    }
    copy = copy_bytes(path, strlen(path));
    for (part = copy; (dot = strchr(part, '.')) != NULL; part = dot + 1) {
        struct qvalue *child;

        *dot = '\0';
        child = qdict_get(at, part);
        if (!child) {
            child = qvalue_dict();
            qdict_put(at, part, child);
        }
        at = child;
    }
    qdict_put(at, part, item);
    free(copy);
    return true;
}
