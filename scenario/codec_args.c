/*
 * The arguments of a step as bytes: the required ones in the order of the verb's table, then some of the optional
 * ones, then keys beyond the table.
 */
#include <stdlib.h>
#include <string.h>

#include "faults/fault.h"
#include "monitor/monitor.h"
#include "scenario/codec.h"
#include "sim/event.h"

#define OPS_MAX 64 /* requests of a tame workload */

/* --- what an argument is --------------------------------------------------------------------------------- */

/* Virtual time is cheap, but what takes hours of it says nothing that minutes do not. */
static const struct {
    const char *name;
    int64_t max_ns;
} tame_times[] = {
    {"latency", 10 * NS_PER_MS}, {"per-kib", 10 * NS_PER_US}, {"think", 10 * NS_PER_MS},
    {"time", 10 * NS_PER_S},     {"timeout", 10 * NS_PER_S},
};

static struct codec_hint world_hint(const struct scn_arg_def *def)
{
    static const enum codec_kind kinds[] = {
        [SCN_NAME] = CODEC_NAME, [SCN_STR] = CODEC_FREE,   [SCN_INT] = CODEC_INT,   [SCN_SIZE] = CODEC_SIZE,
        [SCN_TIME] = CODEC_TIME, [SCN_BOOL] = CODEC_BOOL,  [SCN_ENUM] = CODEC_WORD, [SCN_BYTE] = CODEC_BYTE,
        [SCN_FLAG] = CODEC_FLAG, [SCN_VALUE] = CODEC_FREE,
    };
    struct codec_hint hint = {
        .kind = kinds[def->type],
        .domain = def->domain,
        .defines = def->defines,
        .choices = def->choices,
        .min = def->min,
        .max = def->max,
    };

    for (size_t i = 0; i < ARRAY_SIZE(tame_times); i++) {
        if (strcmp(def->name, tame_times[i].name) == 0) {
            hint.max = tame_times[i].max_ns;
        }
    }
    if (strcmp(def->name, "ops") == 0) {
        hint.max = OPS_MAX;
    } else if (def->type == SCN_BYTE) {
        hint.max = 0xff;
    }
    return hint;
}

static const char *const object_types[] = {"throttle-group", NULL};

static const struct {
    const char *command;
    const char *arg;
    enum codec_kind kind;
} nested[] = {
    {"transaction", "actions", CODEC_ACTIONS},
    {"transaction", "properties", CODEC_PROPERTIES},
    {"block-dirty-bitmap-merge", "bitmaps", CODEC_SOURCES},
    {"blockdev-reopen", "options", CODEC_NODES},
    {"blockdev-create", "options", CODEC_IMAGE},
};

static struct codec_hint qmp_hint(const struct scn_verb *verb, const struct scn_arg_def *def)
{
    static const enum codec_kind kinds[] = {
        [QMP_STR] = CODEC_FREE,  [QMP_BOOL] = CODEC_BOOL, [QMP_INT] = CODEC_SIZE,  [QMP_SIZE] = CODEC_SIZE,
        [QMP_ENUM] = CODEC_WORD, [QMP_DICT] = CODEC_FREE, [QMP_LIST] = CODEC_FREE, [QMP_ANY] = CODEC_FREE,
    };
    const struct qmp_arg *arg = qmp_find_command(verb->name)->args;
    struct codec_hint hint = {.kind = CODEC_FREE, .domain = def->domain, .defines = def->defines, .as_text = true};

    while (arg->name && strcmp(arg->name, def->name) != 0) {
        arg++;
    }
    SIM_ASSERT(arg->name != NULL);
    hint.kind = def->domain != SCN_DOM_NONE ? CODEC_NAME : kinds[arg->type];
    hint.choices = arg->choices;
    if (strcmp(def->name, "driver") == 0) {
        hint.kind = CODEC_WORD;
        hint.choices = codec_drivers;
    } else if (strcmp(def->name, "qom-type") == 0) {
        hint.kind = CODEC_WORD;
        hint.choices = object_types;
    }
    for (size_t i = 0; i < ARRAY_SIZE(nested); i++) {
        if (strcmp(verb->name, nested[i].command) == 0 && strcmp(def->name, nested[i].arg) == 0) {
            hint.kind = nested[i].kind;
        }
    }
    return hint;
}

static struct codec_hint hint_of(const struct scn_verb *verb, const struct scn_arg_def *def)
{
    return verb->form == SCN_FORM_QMP ? qmp_hint(verb, def) : world_hint(def);
}

/* --- keys beyond the table ------------------------------------------------------------------------------- */

static size_t event_keys(const struct scn_step *step, struct codec_key keys[CODEC_KEYS_MAX])
{
    const struct qvalue *event = qdict_get(step->args, "event");
    int kind = event && event->type == QVALUE_STR ? sim_event_find(event->str.bytes) : -1;
    size_t count = 0;

    for (uint32_t i = 0; kind >= 0 && i < sim_event_desc((enum sim_event_kind)kind)->field_count; i++) {
        const struct sim_event_field *field = &sim_event_desc((enum sim_event_kind)kind)->field[i];
        bool is_job = strcmp(field->name, "device") == 0 || strcmp(field->name, "id") == 0;

        keys[count++] =
            (struct codec_key){field->name, {.kind = is_job ? CODEC_NAME : CODEC_FREE, .domain = SCN_DOM_JOB}};
    }
    return count;
}

static const char *const fault_ops[] = {"read",  "write",        "write-zeroes", "discard",
                                        "flush", "block-status", "getlength",    NULL};
static const char *const fault_errors[] = {"EIO", "ENOSPC", NULL};

static struct codec_hint fault_hint(const struct fault_arg *arg)
{
    static const struct codec_hint hints[] = {
        [FAULT_STR] = {.kind = CODEC_FREE},
        [FAULT_INT] = {.kind = CODEC_INT, .max = OPS_MAX},
        [FAULT_SIZE] = {.kind = CODEC_SIZE},
        [FAULT_TIME] = {.kind = CODEC_TIME},
        [FAULT_BOOL] = {.kind = CODEC_BOOL},
        [FAULT_ERRNO] = {.kind = CODEC_WORD, .choices = fault_errors},
        [FAULT_OP] = {.kind = CODEC_WORD, .choices = fault_ops},
        [FAULT_DISK] = {.kind = CODEC_NAME, .domain = SCN_DOM_DISK},
        [FAULT_PERMILLE] = {.kind = CODEC_INT, .max = 1000},
    };

    if (strcmp(arg->name, "job") == 0) {
        return (struct codec_hint){.kind = CODEC_NAME, .domain = SCN_DOM_JOB};
    }
    if (arg->choices) {
        return (struct codec_hint){.kind = CODEC_WORD, .choices = arg->choices};
    }
    return hints[arg->type];
}

static size_t fault_keys(const struct scn_step *step, struct codec_key keys[CODEC_KEYS_MAX])
{
    const struct qvalue *name = qdict_get(step->args, "name");
    const struct fault_class *fault = name && name->type == QVALUE_STR ? fault_find(name->str.bytes) : NULL;
    size_t count = 0;

    for (const struct fault_arg *arg = fault ? fault->args : NULL; arg && arg->name && count < CODEC_KEYS_MAX;
         arg++) {
        keys[count++] = (struct codec_key){arg->name, fault_hint(arg)};
    }
    return count;
}

static size_t open_keys(const struct scn_step *step, struct codec_key keys[CODEC_KEYS_MAX])
{
    if (!step->verb->open_args) {
        return 0;
    }
    if (step->verb->form == SCN_FORM_QMP) {
        return codec_node_keys(step->args, keys);
    }
    return strcmp(step->verb->name, "fault") == 0 ? fault_keys(step, keys) : event_keys(step, keys);
}

/* --- coding ---------------------------------------------------------------------------------------------- */

/* How many follow: a few when anything decodes, any number when it was encoded. */
static unsigned code_count(struct coder *c, unsigned count)
{
    uint8_t byte = (uint8_t)(count < 4 ? count : MIN(count + 236, 255u));
    uint64_t many = count;

    code_u8(c, &byte);
    if (byte < 255) {
        return byte < 240 ? byte % 4 : byte - 236u;
    }
    code_varint(c, &many);
    return (unsigned)MIN(many, (uint64_t)1024);
}

static void code_arg(struct coder *c, struct scn_step *step, const char *key, const struct codec_hint *hint)
{
    struct qvalue *value = c->encoding ? qdict_get(step->args, key) : NULL;

    code_value(c, hint, &value);
    if (!c->encoding) {
        qdict_put(step->args, key, value);
    }
}

static void code_required(struct coder *c, struct scn_step *step)
{
    for (const struct scn_arg_def *def = step->verb->args; def->name; def++) {
        struct codec_hint hint = hint_of(step->verb, def);

        if (def->required) {
            code_arg(c, step, def->name, &hint);
        }
    }
}

static void code_optional(struct coder *c, struct scn_step *step)
{
    const struct scn_arg_def *defs[64];
    unsigned count = 0;
    unsigned given = 0;
    unsigned next = 0;

    for (const struct scn_arg_def *def = step->verb->args; def->name && count < ARRAY_SIZE(defs); def++) {
        if (!def->required) {
            defs[count++] = def;
            given += qdict_get(step->args, def->name) != NULL;
        }
    }
    if (!count) {
        return;
    }
    given = code_count(c, given);
    for (unsigned i = 0; i < given; i++) {
        struct codec_hint hint;
        uint8_t index;

        while (c->encoding && next < count && !qdict_get(step->args, defs[next]->name)) {
            next++;
        }
        index = (uint8_t)next++;
        code_u8(c, &index);
        index = (uint8_t)(index % count);
        hint = hint_of(step->verb, defs[index]);
        code_arg(c, step, defs[index]->name, &hint);
    }
}

/* The key at position i of the dictionary that is beyond the table, from *at on. */
static const char *next_open(const struct scn_step *step, size_t *at)
{
    while (*at < step->args->seq.count && scn_verb_arg(step->verb, step->args->seq.keys[*at])) {
        (*at)++;
    }
    return *at < step->args->seq.count ? step->args->seq.keys[(*at)++] : NULL;
}

static unsigned count_open(const struct scn_step *step)
{
    size_t at = 0;
    unsigned count = 0;

    while (next_open(step, &at)) {
        count++;
    }
    return count;
}

static void code_open_key(struct coder *c, struct scn_step *step, const char *key, const struct codec_key *keys,
                          size_t count)
{
    static const struct codec_hint free_hint = {.kind = CODEC_FREE};
    struct scn_text text = {.bytes = NULL};
    uint8_t index = 255;

    for (size_t i = 0; key && i < count && index == 255; i++) {
        index = strcmp(keys[i].name, key) == 0 ? (uint8_t)i : 255;
    }
    code_u8(c, &index);
    if (index != 255 && count) {
        index = (uint8_t)(index % count);
        code_arg(c, step, keys[index].name, &keys[index].hint);
        return;
    }
    if (key) {
        scn_text_str(&text, key);
    }
    code_text(c, &text);
    code_arg(c, step, text.bytes ? text.bytes : "", &free_hint);
    free(text.bytes);
}

static void code_open(struct coder *c, struct scn_step *step)
{
    struct codec_key keys[CODEC_KEYS_MAX];
    size_t count = open_keys(step, keys);
    unsigned given;
    size_t at = 0;

    if (!step->verb->open_args) {
        return;
    }
    given = c->encoding ? count_open(step) : 0;
    given = code_count(c, given);
    for (unsigned i = 0; i < given; i++) {
        code_open_key(c, step, c->encoding ? next_open(step, &at) : NULL, keys, count);
    }
}

void code_args(struct coder *c, struct scn_step *step)
{
    code_required(c, step);
    code_optional(c, step);
    code_open(c, step);
}
