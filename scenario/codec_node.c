/*
 * Options of nodes as bytes: which keys a driver has, in the order of a table, and what makes any bytes options
 * that get as far as the driver. A reopen says again what the node was made of, and changes some of it.
 */
#include <string.h>

#include "scenario/codec.h"

/* --- keys (append only, like the verbs) ----------------------------------------------------------------------- */

static const char *const patterns[] = {"quorum", "fifo", NULL};
static const char *const zeroes[] = {"off", "on", "unmap", NULL};
static const char *const discards[] = {"unmap", "ignore", NULL};

#define NODE_KEY(key) \
    { \
        key, \
        { \
            .kind = CODEC_FILE_NODE \
        } \
    }
#define SIZE_KEY(key) \
    { \
        key, \
        { \
            .kind = CODEC_SIZE \
        } \
    }
#define BOOL_KEY(key) \
    { \
        key, \
        { \
            .kind = CODEC_BOOL \
        } \
    }

static const struct codec_key disk_keys[] = {{"disk", {.kind = CODEC_NAME, .domain = SCN_DOM_DISK}},
                                             {.name = NULL}};
static const struct codec_key raw_keys[] = {NODE_KEY("file"), SIZE_KEY("offset"), SIZE_KEY("size"), {.name = NULL}};
static const struct codec_key null_keys[] = {SIZE_KEY("size"),
                                             {"latency-ns", {.kind = CODEC_INT, .max = NS_PER_MS}},
                                             BOOL_KEY("read-zeroes"),
                                             {.name = NULL}};
static const struct codec_key throttle_keys[] = {
    {"throttle-group", {.kind = CODEC_NAME, .domain = SCN_DOM_GROUP}}, NODE_KEY("file"), {.name = NULL}};
static const struct codec_key cor_keys[] = {
    NODE_KEY("file"), {"bottom", {.kind = CODEC_NAME, .domain = SCN_DOM_NODE}}, {.name = NULL}};
static const struct codec_key blkdebug_keys[] = {NODE_KEY("image"),
                                                 {"inject-error", {.kind = CODEC_RULES}},
                                                 SIZE_KEY("align"),
                                                 SIZE_KEY("max-transfer"),
                                                 SIZE_KEY("opt-write-zero"),
                                                 SIZE_KEY("max-write-zero"),
                                                 SIZE_KEY("opt-discard"),
                                                 SIZE_KEY("max-discard"),
                                                 {.name = NULL}};
static const struct codec_key blkverify_keys[] = {NODE_KEY("raw"), NODE_KEY("test"), {.name = NULL}};
static const struct codec_key quorum_keys[] = {{"children", {.kind = CODEC_CHILDREN}},
                                               {"vote-threshold", {.kind = CODEC_INT, .min = 1, .max = 4}},
                                               {"read-pattern", {.kind = CODEC_WORD, .choices = patterns}},
                                               BOOL_KEY("rewrite-corrupted"),
                                               BOOL_KEY("blkverify"),
                                               {.name = NULL}};
static const struct codec_key preallocate_keys[] = {
    NODE_KEY("file"), SIZE_KEY("prealloc-align"), SIZE_KEY("prealloc-size"), {.name = NULL}};
static const char *const overlap_checks[] = {"none", "constant", "cached", "all", NULL};
static const struct codec_key qcow2_keys[] = {NODE_KEY("file"),
                                              NODE_KEY("backing"),
                                              NODE_KEY("data-file"),
                                              BOOL_KEY("lazy-refcounts"),
                                              BOOL_KEY("pass-discard-request"),
                                              BOOL_KEY("pass-discard-snapshot"),
                                              BOOL_KEY("pass-discard-other"),
                                              BOOL_KEY("discard-no-unref"),
                                              {"overlap-check", {.kind = CODEC_WORD, .choices = overlap_checks}},
                                              SIZE_KEY("cache-size"),
                                              SIZE_KEY("l2-cache-size"),
                                              SIZE_KEY("l2-cache-entry-size"),
                                              SIZE_KEY("refcount-cache-size"),
                                              {"cache-clean-interval", {.kind = CODEC_INT, .max = 4}},
                                              {.name = NULL}};
static const char *const cbw_errors[] = {"break-guest-write", "break-snapshot", NULL};
static const struct codec_key cbw_keys[] = {NODE_KEY("file"),
                                            NODE_KEY("target"),
                                            {"on-cbw-error", {.kind = CODEC_WORD, .choices = cbw_errors}},
                                            {"cbw-timeout", {.kind = CODEC_INT, .max = 4}},
                                            SIZE_KEY("min-cluster-size"),
                                            {"bitmap", {.kind = CODEC_FREE}},
                                            {.name = NULL}};
static const struct codec_key snapshot_access_keys[] = {NODE_KEY("file"), {.name = NULL}};
static const struct codec_key common_keys[] = {BOOL_KEY("read-only"),
                                               BOOL_KEY("auto-read-only"),
                                               {"detect-zeroes", {.kind = CODEC_WORD, .choices = zeroes}},
                                               {"discard", {.kind = CODEC_WORD, .choices = discards}},
                                               BOOL_KEY("force-share"),
                                               {.name = NULL}};

static const struct {
    const char *driver;
    const struct codec_key *keys;
    unsigned required; /* the first of them */
} tables[] = {
    {"disk", disk_keys, 1},
    {"raw", raw_keys, 1},
    {"null-co", null_keys, 0},
    {"throttle", throttle_keys, 2},
    {"copy-on-read", cor_keys, 1},
    {"blkdebug", blkdebug_keys, 1},
    {"quorum", quorum_keys, 2},
    {"preallocate", preallocate_keys, 1},
    {"blkverify", blkverify_keys, 2},
    {"qcow2", qcow2_keys, 1},
    {"copy-before-write", cbw_keys, 2},
    {"snapshot-access", snapshot_access_keys, 1},
};

const char *const codec_drivers[] = {"disk",
                                     "raw",
                                     "disk",
                                     "null-co",
                                     "throttle",
                                     "copy-on-read",
                                     "blkdebug",
                                     "quorum",
                                     "preallocate",
                                     "blkverify",
                                     "raw",
                                     "qcow2",
                                     "qcow2",
                                     "qcow2",
                                     "copy-before-write",
                                     "snapshot-access",
                                     NULL};

static const char *text_of(const struct qvalue *args, const char *key)
{
    const struct qvalue *value = qdict_get(args, key);

    return value && value->type == QVALUE_STR ? value->str.bytes : NULL;
}

/* ARRAY_SIZE(tables): none that is known. */
static size_t table_of(const struct qvalue *args)
{
    const char *driver = text_of(args, "driver");
    size_t i = 0;

    while (i < ARRAY_SIZE(tables) && !(driver && strcmp(driver, tables[i].driver) == 0)) {
        i++;
    }
    return i;
}

size_t codec_node_keys(const struct qvalue *args, struct codec_key keys[CODEC_KEYS_MAX])
{
    size_t table = table_of(args);
    size_t count = 0;

    for (const struct codec_key *k = table < ARRAY_SIZE(tables) ? tables[table].keys : NULL; k && k->name; k++) {
        keys[count++] = *k;
    }
    for (const struct codec_key *k = common_keys; k->name; k++) {
        keys[count++] = *k;
    }
    SIM_ASSERT(count <= CODEC_KEYS_MAX);
    return count;
}

/* --- making something of any bytes ---------------------------------------------------------------------------- */

/* "file" and what is written "file.driver". */
static bool is_key(const char *written, const char *key)
{
    size_t length = strlen(key);

    return strncmp(written, key, length) == 0 && (written[length] == '\0' || written[length] == '.');
}

static bool has_key(const struct qvalue *args, const char *key)
{
    size_t i = 0;

    while (i < args->seq.count && !is_key(args->seq.keys[i], key)) {
        i++;
    }
    return i < args->seq.count;
}

static void put(struct qvalue *args, const char *key, struct qvalue *value)
{
    qvalue_free(qdict_take(args, key));
    qdict_put(args, key, value);
}

static bool knows(const struct codec_key *keys, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (is_key(name, keys[i].name)) {
            return true;
        }
    }
    return strcmp(name, "driver") == 0 || strcmp(name, "node-name") == 0;
}

/* What the driver does not know would be refused before the run. */
static void drop_unknown(struct qvalue *args)
{
    struct codec_key keys[CODEC_KEYS_MAX];
    size_t count = codec_node_keys(args, keys);

    for (size_t i = args->seq.count; i-- > 0;) {
        if (!knows(keys, count, args->seq.keys[i])) {
            qvalue_free(qdict_take(args, args->seq.keys[i]));
        }
    }
}

void codec_node_complete(struct coder *c, struct qvalue *args)
{
    size_t table = table_of(args);

    SIM_ASSERT(!c->encoding && !c->exact);
    if (table == ARRAY_SIZE(tables)) {
        return;
    }
    drop_unknown(args);
    for (unsigned i = 0; i < tables[table].required; i++) {
        const struct codec_key *key = &tables[table].keys[i];
        struct qvalue *value = NULL;

        if (!has_key(args, key->name)) {
            code_value(c, &key->hint, &value);
            qdict_put(args, key->name, value);
        }
    }
}

/* What the node of that name was made of; NULL: nobody knows. */
static const struct qvalue *made_of(const struct coder *c, const char *name)
{
    for (size_t i = c->scn ? c->scn->step_count : 0; i-- > 0;) {
        const struct scn_step *step = &c->scn->steps[i];
        const char *made = strcmp(step->verb->name, "blockdev-add") == 0 ? text_of(step->args, "node-name") : NULL;

        if (made && strcmp(made, name) == 0) {
            return step->args;
        }
    }
    return NULL;
}

static void reopened_node(struct coder *c, struct qvalue *args)
{
    const char *name = text_of(args, "node-name");
    const struct qvalue *made;
    size_t count = scn_names_count(c->names, SCN_DOM_NODE);

    if (count && !(name && scn_names_has(c->names, SCN_DOM_NODE, name))) {
        name = scn_names_at(c->names, SCN_DOM_NODE, c->at % count);
        put(args, "node-name", qvalue_str(name));
    }
    made = name ? made_of(c, name) : NULL;
    if (made) {
        put(args, "driver", qvalue_copy(qdict_get(made, "driver")));
        for (size_t i = 0; i < made->seq.count; i++) {
            if (!has_key(args, made->seq.keys[i])) {
                qdict_put(args, made->seq.keys[i], qvalue_copy(made->seq.items[i]));
            }
        }
    }
    codec_node_complete(c, args);
}

void code_reopened(struct coder *c, struct qvalue **item)
{
    struct scn_step inner = {.verb = scn_verb_find("blockdev-add"), .args = c->encoding ? *item : qvalue_dict()};

    SIM_ASSERT(inner.verb != NULL);
    code_args(c, &inner);
    if (!c->encoding) {
        *item = inner.args;
        if (!c->exact) {
            reopened_node(c, *item);
        }
    }
}
