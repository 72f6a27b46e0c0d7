/*
 * Typed readings of dictionaries: what command arguments and driver options go through.
 */
#include <inttypes.h>
#include <string.h>

#include "sim/qvalue.h"

static bool expects(Error **errp, const char *key, const char *what)
{
    error_setg(errp, "Parameter '%s' expects %s", key, what);
    return false;
}

bool qdict_get_str(const struct qvalue *dict, const char *key, const char **out, const char *def, Error **errp)
{
    const struct qvalue *v = qdict_get(dict, key);

    SIM_ASSERT(out != NULL);
    if (!v) {
        *out = def;
        return true;
    }
    /* A NUL inside would be cut off silently by everybody who reads a C string. */
    if (v->type != QVALUE_STR || strlen(v->str.bytes) != v->str.length) {
        return expects(errp, key, "a string");
    }
    *out = v->str.bytes;
    return true;
}

bool qdict_get_bool(const struct qvalue *dict, const char *key, bool *out, bool def, Error **errp)
{
    static const struct {
        const char *text;
        bool value;
    } spellings[] = {{"on", true}, {"true", true}, {"yes", true}, {"off", false}, {"false", false}, {"no", false}};
    const struct qvalue *v = qdict_get(dict, key);

    SIM_ASSERT(out != NULL);
    if (!v) {
        *out = def;
        return true;
    }
    if (v->type == QVALUE_BOOL) {
        *out = v->boolean;
        return true;
    }
    for (size_t i = 0; v->type == QVALUE_STR && i < ARRAY_SIZE(spellings); i++) {
        if (strcmp(v->str.bytes, spellings[i].text) == 0) {
            *out = spellings[i].value;
            return true;
        }
    }
    return expects(errp, key, "'on' or 'off'");
}

bool qdict_get_int(const struct qvalue *dict, const char *key, int64_t *out, int64_t def, Error **errp)
{
    const struct qvalue *v = qdict_get(dict, key);

    SIM_ASSERT(out != NULL);
    if (!v) {
        *out = def;
        return true;
    }
    if (v->type != QVALUE_INT) {
        return expects(errp, key, "an integer");
    }
    *out = v->integer;
    return true;
}

bool qdict_get_size(const struct qvalue *dict, const char *key, int64_t *out, int64_t def, Error **errp)
{
    const struct qvalue *v = qdict_get(dict, key);

    SIM_ASSERT(out != NULL);
    if (!v) {
        *out = def;
        return true;
    }
    if (v->type == QVALUE_INT && v->integer >= 0) {
        *out = v->integer;
        return true;
    }
    if (v->type == QVALUE_STR && strlen(v->str.bytes) == v->str.length && sim_parse_size(v->str.bytes, out)) {
        return true;
    }
    return expects(errp, key, "a non-negative size in bytes, with an optional suffix k, M, G, T, P or E");
}
