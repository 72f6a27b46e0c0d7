/*
 * Values of commands and options: null, bool, integer, string, list and ordered dictionary.
 *
 * The shape of QMP's JSON without JSON: scenario steps, option trees and command replies are made of these.
 * Trees live in libc memory and belong to whoever holds the root; a container owns what is put into it.
 * Dictionaries keep insertion order (nothing ever depends on hash order) and refuse a key twice.
 */
#ifndef SIM_QVALUE_H
#define SIM_QVALUE_H

#include "sim/error.h"

enum qvalue_type {
    QVALUE_NULL,
    QVALUE_BOOL,
    QVALUE_INT,
    QVALUE_STR,
    QVALUE_LIST,
    QVALUE_DICT,
};

struct qvalue {
    enum qvalue_type type;
    union {
        bool boolean;
        int64_t integer;
        struct {
            char *bytes; /* NUL-terminated; may hold NULs before */
            size_t length;
        } str;
        struct {
            char **keys; /* dictionaries only */
            struct qvalue **items;
            size_t count;
            size_t room;
        } seq;
    };
};

struct qvalue *qvalue_null(void);
struct qvalue *qvalue_bool(bool b);
struct qvalue *qvalue_int(int64_t i);
struct qvalue *qvalue_str(const char *s);
struct qvalue *qvalue_strn(const char *s, size_t length);
struct qvalue *qvalue_list(void);
struct qvalue *qvalue_dict(void);
struct qvalue *qvalue_copy(const struct qvalue *v);
void qvalue_free(struct qvalue *v); /* NULL is fine */
void qvalue_cleanup(void *value);   /* the same, for coroutine_cleanup_push */
bool qvalue_equal(const struct qvalue *a, const struct qvalue *b);

/* Takes over item. */
void qlist_append(struct qvalue *list, struct qvalue *item);
/* Takes over item. False (and item freed) when the key is there already. */
bool qdict_put(struct qvalue *dict, const char *key, struct qvalue *item);
/* NULL when absent or when dict is NULL. The value stays the dictionary's. */
struct qvalue *qdict_get(const struct qvalue *dict, const char *key);
/* As qdict_get, but the caller owns the value and the key is gone. */
struct qvalue *qdict_take(struct qvalue *dict, const char *key);
/* Puts at a dotted path ("file.disk"), making dictionaries on the way; false when a part is no dictionary or
 * the last key is there already. Takes over item in every case. */
bool qdict_put_path(struct qvalue *dict, const char *path, struct qvalue *item);

/*
 * Typed readings, as command arguments and driver options use them. Absent keys give the default and true.
 * A wrong type or range gives false with "Parameter 'KEY' expects ...".
 * Sizes take integers or strings with k, M, G, T, P, E (binary) and nothing after; negative values are refused.
 */
bool qdict_get_str(const struct qvalue *dict, const char *key, const char **out, const char *def, Error **errp);
bool qdict_get_bool(const struct qvalue *dict, const char *key, bool *out, bool def, Error **errp);
bool qdict_get_int(const struct qvalue *dict, const char *key, int64_t *out, int64_t def, Error **errp);
bool qdict_get_size(const struct qvalue *dict, const char *key, int64_t *out, int64_t def, Error **errp);

/* "64k" to 65536. False when malformed, negative or beyond INT64_MAX. */
bool sim_parse_size(const char *text, int64_t *out);
/* "10ms", "5us", "1s", "250" (ns) to nanoseconds, with up to nine decimals ("1.5ms"). */
bool sim_parse_time(const char *text, int64_t *out);
/* Shortest exact spelling: 65536 to "64k", 1000 to "1000". buf holds 24 bytes. */
const char *sim_format_size(int64_t size_bytes, char buf[24]);
/* 1500000 to "1500us", exact. buf holds 32 bytes. */
const char *sim_format_time(int64_t time_ns, char buf[32]);

/* Compact JSON, keys in insertion order; strings escaped as RFC 8259 asks, invalid UTF-8 as U+FFFD. The caller
 * frees the result with free(). */
char *qvalue_to_json(const struct qvalue *v);
/* Parses JSON (jansson underneath). NULL with line, column and reason in errp. Reals are refused. */
struct qvalue *qvalue_from_json(const char *text, size_t length, Error **errp);

#endif
