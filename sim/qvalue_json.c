/*
 * Values to JSON and back. Parsing is jansson's; writing is ours, so that the bytes are the same everywhere.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "sim/out.h"
#include "sim/qvalue.h"
#include "sim/world.h"

static void write_value(struct sim_out *out, const struct qvalue *v)
{
    switch (v->type) {
    case QVALUE_NULL:
        out_str(out, "null");
        return;
    case QVALUE_BOOL:
        out_str(out, v->boolean ? "true" : "false");
        return;
    case QVALUE_INT:
        out_printf(out, "%" PRId64, v->integer);
        return;
    case QVALUE_STR:
        out_json_str(out, v->str.bytes, v->str.length);
        return;
    case QVALUE_LIST:
    case QVALUE_DICT:
        out_str(out, v->type == QVALUE_DICT ? "{" : "[");
        for (size_t i = 0; i < v->seq.count; i++) {
            out_str(out, i ? "," : "");
            if (v->type == QVALUE_DICT) {
                out_json_str(out, v->seq.keys[i], strlen(v->seq.keys[i]));
                out_str(out, ":");
            }
            write_value(out, v->seq.items[i]);
        }
        out_str(out, v->type == QVALUE_DICT ? "}" : "]");
        return;
    }
    SIM_ASSERT(!"a type that is none");
}

char *qvalue_to_json(const struct qvalue *v)
{
    struct sim_out measure = {NULL, 0, 0};
    struct sim_out out;

    SIM_ASSERT(v != NULL);
    write_value(&measure, v);
    out = (struct sim_out){sim_xmalloc(measure.length + 1), measure.length + 1, 0};
    write_value(&out, v);
    out_end(&out);
    SIM_ASSERT_EQ(out.length, measure.length);
    return out.buf;
}

/* NULL at the first real: the language has none. */
static struct qvalue *from_jansson(const json_t *json)
{
    struct qvalue *v;

    switch (json_typeof(json)) {
    case JSON_NULL:
        return qvalue_null();
    case JSON_TRUE:
    case JSON_FALSE:
        return qvalue_bool(json_is_true(json));
    case JSON_INTEGER:
        return qvalue_int(json_integer_value(json));
    case JSON_STRING:
        return qvalue_strn(json_string_value(json), json_string_length(json));
    case JSON_REAL:
        return NULL;
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    v = json_is_object(json) ? qvalue_dict() : qvalue_list();
    if (v->type == QVALUE_LIST) {
        for (size_t i = 0; i < json_array_size(json); i++) {
            struct qvalue *item = from_jansson(json_array_get(json, i));

            if (!item) {
                qvalue_free(v);
                return NULL;
            }
            qlist_append(v, item);
        }
        return v;
    }
    /* jansson iterates objects in insertion order (2.8 and later). */
    for (void *it = json_object_iter((json_t *)json); it; it = json_object_iter_next((json_t *)json, it)) {
        struct qvalue *item = from_jansson(json_object_iter_value(it));

        if (!item) {
            qvalue_free(v);
            return NULL;
        }
        qdict_put(v, json_object_iter_key(it), item);
    }
    return v;
}

struct qvalue *qvalue_from_json(const char *text, size_t length, Error **errp)
{
    json_error_t error;
    json_t *json;
    struct qvalue *v;

    SIM_ASSERT(text != NULL || length == 0);
    json =
        json_loadb(length ? text : "", length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!json) {
        error_setg(errp, "line %d, column %d: %s", MAX(error.line, 1), MAX(error.column, 1), error.text);
        return NULL;
    }
    v = from_jansson(json);
    json_decref(json);
    if (!v) {
        error_setg(errp, "line 1, column 1: numbers must be integers");
    }
    return v;
}
