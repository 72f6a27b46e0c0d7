/*
 * Lists inside commands as bytes: the actions of a transaction, the sources of a merge, nodes of a reopen, children
 * of a quorum, rules of blkdebug. What has their usual form
 * is coded like steps and arguments are, so that any bytes give actions which may run; all else is a literal.
 */
#include <string.h>

#include "scenario/codec.h"

#define LIST_MAX 240 /* items that the short form can hold */
#define TAME_ITEMS 8

/* What a byte stands for as an action. Append only, like the verbs. */
static const char *const actions[] = {
    "block-dirty-bitmap-add",
    "block-dirty-bitmap-clear",
    "block-dirty-bitmap-merge",
    "block-dirty-bitmap-enable",
    "block-dirty-bitmap-disable",
    "block-dirty-bitmap-remove",
    "abort",
};

static bool is_str(const struct qvalue *value)
{
    return value && value->type == QVALUE_STR;
}

static size_t find_action(const struct qvalue *type)
{
    size_t i = 0;

    while (i < ARRAY_SIZE(actions) && !(is_str(type) && strcmp(type->str.bytes, actions[i]) == 0)) {
        i++;
    }
    return i;
}

/* Arguments of the command of that type and no others, the required ones among them. */
static bool has_shape(const struct scn_verb *verb, const struct qvalue *data)
{
    for (const struct scn_arg_def *def = verb ? verb->args : NULL; def && def->name; def++) {
        if (def->required && !qdict_get(data, def->name)) {
            return false;
        }
    }
    for (size_t i = 0; i < data->seq.count; i++) {
        if (!verb || !scn_verb_arg(verb, data->seq.keys[i])) {
            return false;
        }
    }
    return true;
}

static bool is_usual_action(const struct qvalue *item)
{
    const struct qvalue *type = item->type == QVALUE_DICT ? qdict_get(item, "type") : NULL;
    const struct qvalue *data = type ? qdict_get(item, "data") : NULL;

    return data && data->type == QVALUE_DICT && item->seq.count == 2 && find_action(type) < ARRAY_SIZE(actions) &&
           has_shape(scn_verb_find(type->str.bytes), data);
}

static bool is_usual_source(const struct qvalue *item)
{
    return is_str(item) || (item->type == QVALUE_DICT && item->seq.count == 2 && is_str(qdict_get(item, "node")) &&
                            is_str(qdict_get(item, "name")));
}

static void code_action(struct coder *c, struct qvalue **item)
{
    uint8_t index = c->encoding ? (uint8_t)find_action(qdict_get(*item, "type")) : 0;
    struct scn_step inner = {.args = c->encoding ? qdict_get(*item, "data") : qvalue_dict()};

    code_u8(c, &index);
    index = (uint8_t)(index % ARRAY_SIZE(actions));
    inner.verb = scn_verb_find(actions[index]);
    if (inner.verb) {
        code_args(c, &inner);
    }
    if (!c->encoding) {
        *item = qvalue_dict();
        qdict_put(*item, "type", qvalue_str(actions[index]));
        qdict_put(*item, "data", inner.args);
    }
}

static void code_name(struct coder *c, enum scn_domain domain, const char *key, struct qvalue *dict)
{
    struct codec_hint hint = {.kind = CODEC_NAME, .domain = domain};
    struct qvalue *value = c->encoding ? qdict_get(dict, key) : NULL;

    code_value(c, &hint, &value);
    if (!c->encoding) {
        qdict_put(dict, key, value);
    }
}

static void code_source(struct coder *c, struct qvalue **item)
{
    static const struct codec_hint bitmap_hint = {.kind = CODEC_NAME, .domain = SCN_DOM_BITMAP};
    uint8_t elsewhere = c->encoding && (*item)->type == QVALUE_DICT;

    code_u8(c, &elsewhere);
    if (!(elsewhere & 1)) {
        code_value(c, &bitmap_hint, item);
        return;
    }
    if (!c->encoding) {
        *item = qvalue_dict();
    }
    code_name(c, SCN_DOM_NODE, "node", *item);
    code_name(c, SCN_DOM_BITMAP, "name", *item);
}

/* Any keys will do: they are spelled where no table has them. */
static bool is_usual_node(const struct qvalue *item)
{
    return item->type == QVALUE_DICT && qdict_get(item, "driver") != NULL;
}

static bool is_usual_child(const struct qvalue *item)
{
    return is_str(item);
}

static void code_child(struct coder *c, struct qvalue **item)
{
    static const struct codec_hint node_hint = {.kind = CODEC_NAME, .domain = SCN_DOM_NODE};

    code_value(c, &node_hint, item);
}

/* What guests make a node raise. */
static const char *const rule_events[] = {
    "pwritev",      "read_aio",     "write_aio", "flush_to_os", "flush_to_disk", "cor_write", "pwritev_rmw_head",
    "pwritev_zero", "pwritev_done", "none",      NULL};
static const char *const rule_types[] = {"read", "write", "write-zeroes", "discard", "flush", "block-status", NULL};
static const char *const rule_flags[] = {"once", "immediately"};

static bool is_usual_rule(const struct qvalue *item)
{
    size_t usual = 0;

    if (item->type != QVALUE_DICT || !is_str(qdict_get(item, "event"))) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(rule_flags); i++) {
        const struct qvalue *flag = qdict_get(item, rule_flags[i]);

        usual += flag && flag->type == QVALUE_BOOL && flag->boolean;
    }
    usual += is_str(qdict_get(item, "iotype"));
    return item->seq.count == 1 + usual;
}

static void code_word_of(struct coder *c, const char *key, const char *const *choices, struct qvalue *dict)
{
    struct codec_hint hint = {.kind = CODEC_WORD, .choices = choices};
    struct qvalue *value = c->encoding ? qdict_get(dict, key) : NULL;

    code_value(c, &hint, &value);
    if (!c->encoding) {
        qdict_put(dict, key, value);
    }
}

static void code_rule(struct coder *c, struct qvalue **item)
{
    enum { TYPE = 4 };
    uint8_t flags = 0;

    if (c->encoding) {
        for (size_t i = 0; i < ARRAY_SIZE(rule_flags); i++) {
            flags |= (uint8_t)(qdict_get(*item, rule_flags[i]) ? 1u << i : 0);
        }
        flags |= (uint8_t)(qdict_get(*item, "iotype") ? TYPE : 0);
    } else {
        *item = qvalue_dict();
    }
    code_word_of(c, "event", rule_events, *item);
    code_u8(c, &flags);
    for (size_t i = 0; !c->encoding && i < ARRAY_SIZE(rule_flags); i++) {
        if (flags >> i & 1) {
            qdict_put(*item, rule_flags[i], qvalue_bool(true));
        }
    }
    if (flags & TYPE) {
        code_word_of(c, "iotype", rule_types, *item);
    }
}

/* --- all of them ---------------------------------------------------------------------------------------------- */

static const struct list_kind {
    enum codec_kind kind;
    bool (*is_usual)(const struct qvalue *item);
    void (*code)(struct coder *c, struct qvalue **item);
} kinds[] = {
    {CODEC_ACTIONS, is_usual_action, code_action}, {CODEC_SOURCES, is_usual_source, code_source},
    {CODEC_NODES, is_usual_node, code_reopened},   {CODEC_CHILDREN, is_usual_child, code_child},
    {CODEC_RULES, is_usual_rule, code_rule},
};

static const struct list_kind *find_kind(enum codec_kind kind)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (kinds[i].kind == kind) {
            return &kinds[i];
        }
    }
    return NULL;
}

bool code_is_list(enum codec_kind kind)
{
    return find_kind(kind) != NULL;
}

void code_list(struct coder *c, const struct codec_hint *hint, struct qvalue **list)
{
    const struct list_kind *kind = find_kind(hint->kind);
    uint8_t count = 255;
    bool usual = c->encoding && (*list)->type == QVALUE_LIST && (*list)->seq.count < LIST_MAX;

    for (size_t i = 0; usual && i < (*list)->seq.count; i++) {
        const struct qvalue *item = (*list)->seq.items[i];

        usual = kind->is_usual(item);
    }
    count = usual ? (uint8_t)(*list)->seq.count : count;
    code_u8(c, &count);
    if (count >= LIST_MAX) {
        code_literal(c, list, 0);
        return;
    }
    if (!c->encoding) {
        *list = qvalue_list();
        count = c->exact ? count : count % TAME_ITEMS;
    }
    for (unsigned i = 0; i < count; i++) {
        struct qvalue *item = c->encoding ? (*list)->seq.items[i] : NULL;

        kind->code(c, &item);
        if (!c->encoding) {
            qlist_append(*list, item);
        }
    }
}
