/*
 * Bytes to values: short forms by what the argument is, literals for everything else.
 */
#include <stdlib.h>
#include <string.h>

#include "faults/fault.h"
#include "scenario/codec.h"
#include "sim/event.h"

#define TAME_TEXT 48       /* a longer text would eat what other steps are made of */
#define LITERAL_DEPTH 2048 /* as deep as JSON text may be */

void code_u8(struct coder *c, uint8_t *value)
{
    if (c->encoding) {
        scn_text_add(&c->out, (const char *)value, 1);
    } else {
        *value = c->at < c->length ? c->data[c->at] : 0;
        c->at += c->at < c->length;
    }
}

void code_varint(struct coder *c, uint64_t *value)
{
    uint64_t rest = *value;
    uint8_t byte = 0;

    if (!c->encoding) {
        *value = 0;
    }
    for (unsigned shift = 0; shift < 64; shift += 7) {
        byte = (uint8_t)((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
        code_u8(c, &byte);
        rest >>= 7;
        if (!c->encoding) {
            *value |= (uint64_t)(byte & 0x7f) << shift;
        }
        if (!(byte & 0x80)) {
            return;
        }
    }
}

/* Text is UTF-8 without exception: what is not becomes '?'. */
static void tame_text(struct scn_text *text)
{
    for (size_t i = 0; i < text->length; i++) {
        if ((unsigned char)text->bytes[i] >= 0x80) {
            text->bytes[i] = '?';
        }
    }
}

void code_text(struct coder *c, struct scn_text *text)
{
    uint64_t length = text->length;

    code_varint(c, &length);
    if (c->encoding) {
        scn_text_add(&c->out, text->bytes ? text->bytes : "", text->length);
        return;
    }
    if (!c->exact) {
        length %= TAME_TEXT;
    }
    length = MIN(length, (uint64_t)(c->length - c->at));
    scn_text_add(text, (const char *)c->data + c->at, (size_t)length);
    c->at += (size_t)length;
    if (!c->exact) {
        tame_text(text);
    }
}

/* --- numbers --------------------------------------------------------------------------------------------- */

static int64_t small_size(const struct coder *c, uint8_t byte)
{
    static const int64_t edges[] = {0, 512, 1024, 4096, 64 * KiB, 128 * KiB, MiB, 511};

    if (byte < 16) {
        return byte ? (int64_t)256 << byte : 0; /* 0, 512 .. 8M */
    }
    if (byte < 24) {
        return MAX(c->disk_bytes - edges[byte - 16], (int64_t)0);
    }
    if (byte < 32) {
        return c->disk_bytes / 2 + (byte - 24) * SIM_SECTOR_BYTES;
    }
    if (byte < 96) {
        return (byte - 31) * 64 * KiB;
    }
    return byte < 218 ? (byte - 95) * (int64_t)SIM_SECTOR_BYTES : (int64_t)1 << (byte - 218 + 11); /* 2k .. 1T */
}

static int64_t small_time(uint8_t byte)
{
    if (byte < 128) {
        return byte * 10 * NS_PER_US;
    }
    return byte < 192 ? (byte - 127) * NS_PER_MS : (int64_t)1 << MIN(byte - 192, 33); /* up to 8 s */
}

static int64_t small_number(const struct coder *c, const struct codec_hint *hint, uint8_t byte)
{
    return hint->kind == CODEC_SIZE ? small_size(c, byte) : hint->kind == CODEC_TIME ? small_time(byte) : byte;
}

/* Into the bounds of the argument, unless the form is exact. */
static int64_t bounded(const struct coder *c, const struct codec_hint *hint, int64_t value)
{
    bool has_bounds = hint->min != 0 || hint->max != 0;
    int64_t min = has_bounds ? hint->min : 0;
    int64_t max = has_bounds ? hint->max : INT64_MAX;

    if (hint->kind == CODEC_SIZE) {
        max = MIN(max, TiB);
    } else if (hint->kind == CODEC_TIME) {
        max = MIN(max, 10 * NS_PER_S);
    }
    if (c->exact || (value >= min && value <= max)) {
        return value;
    }
    return min + (int64_t)((uint64_t)value % ((uint64_t)(max - min) + 1));
}

void code_number(struct coder *c, const struct codec_hint *hint, int64_t *value)
{
    uint8_t byte = 255;
    uint64_t zigzag = c->encoding ? ((uint64_t)*value << 1) ^ (uint64_t)(*value >> 63) : 0;

    for (unsigned b = 0; c->encoding && b < CODEC_NATURAL && byte == 255; b++) {
        if (bounded(c, hint, small_number(c, hint, (uint8_t)b)) == *value) {
            byte = (uint8_t)b;
        }
    }
    code_u8(c, &byte);
    if (byte < CODEC_NATURAL) {
        *value = c->encoding ? *value : bounded(c, hint, small_number(c, hint, byte));
        return;
    }
    code_varint(c, &zigzag);
    if (!c->encoding) {
        *value = bounded(c, hint, (int64_t)(zigzag >> 1) ^ -(int64_t)(zigzag & 1));
    }
}

/* --- literals -------------------------------------------------------------------------------------------- */

static void code_sequence(struct coder *c, struct qvalue *seq, unsigned depth)
{
    uint64_t count = c->encoding ? seq->seq.count : 0;

    code_varint(c, &count);
    for (uint64_t i = 0; i < count && (c->encoding || c->at < c->length); i++) {
        struct qvalue *item = c->encoding ? seq->seq.items[i] : NULL;
        struct scn_text key = {.bytes = NULL};

        if (seq->type == QVALUE_DICT) {
            if (c->encoding) {
                scn_text_str(&key, seq->seq.keys[i]);
            }
            code_text(c, &key);
        }
        code_literal(c, &item, depth + 1);
        if (c->encoding) {
            free(key.bytes);
            continue;
        }
        if (seq->type == QVALUE_DICT) {
            qdict_put(seq, key.bytes ? key.bytes : "", item);
        } else {
            qlist_append(seq, item);
        }
        free(key.bytes);
    }
}

static void code_string(struct coder *c, struct qvalue **value)
{
    struct scn_text text = {.bytes = NULL};

    if (c->encoding) {
        text.bytes = (*value)->str.bytes;
        text.length = (*value)->str.length;
        code_text(c, &text);
        return;
    }
    code_text(c, &text);
    *value = qvalue_strn(text.bytes ? text.bytes : "", text.length);
    free(text.bytes);
}

static void code_integer(struct coder *c, struct qvalue **value)
{
    int64_t integer = c->encoding ? (*value)->integer : 0;
    uint64_t zigzag = ((uint64_t)integer << 1) ^ (uint64_t)(integer >> 63);

    code_varint(c, &zigzag);
    if (!c->encoding) {
        *value = qvalue_int((int64_t)(zigzag >> 1) ^ -(int64_t)(zigzag & 1));
    }
}

void code_literal(struct coder *c, struct qvalue **value, unsigned depth)
{
    uint8_t type = c->encoding ? (uint8_t)(*value)->type : 0;
    uint8_t boolean = c->encoding && type == QVALUE_BOOL ? (*value)->boolean : 0;

    code_u8(c, &type);
    type = depth >= LITERAL_DEPTH ? QVALUE_NULL : type % (QVALUE_DICT + 1);
    switch ((enum qvalue_type)type) {
    case QVALUE_NULL:
        *value = c->encoding ? *value : qvalue_null();
        return;
    case QVALUE_BOOL:
        code_u8(c, &boolean);
        *value = c->encoding ? *value : qvalue_bool(boolean & 1);
        return;
    case QVALUE_INT:
        code_integer(c, value);
        return;
    case QVALUE_STR:
        code_string(c, value);
        return;
    case QVALUE_LIST:
    case QVALUE_DICT:
        if (!c->encoding) {
            *value = type == QVALUE_LIST ? qvalue_list() : qvalue_dict();
        }
        code_sequence(c, *value, depth);
        return;
    }
}

/* --- short forms ----------------------------------------------------------------------------------------- */

static const char *const pools[][8] = {
    [SCN_DOM_NONE] = {"x", "y", "z", "w", "v", "u", "t", "r"},
    [SCN_DOM_DISK] = {"src", "dst", "third", "d3", "d4", "d5", "d6", "d7"},
    [SCN_DOM_NODE] = {"s", "d", "t", "n3", "n4", "n5", "n6", "n7"},
    [SCN_DOM_GUEST] = {"g", "g1", "g2", "g3", "g4", "g5", "g6", "g7"},
    [SCN_DOM_JOB] = {"m", "m2", "m3", "j3", "j4", "j5", "j6", "j7"},
    [SCN_DOM_BITMAP] = {"b", "b1", "b2", "b3", "b4", "b5", "b6", "b7"},
    [SCN_DOM_HOST] = {"all", "h", "all", "h", "all", "h", "all", "h"},
    [SCN_DOM_GROUP] = {"tg", "tg1", "tg2", "g", "tg", "tg", "tg1", "g1"},
};

/* The i-th QMP event, counted over and over. */
static const char *event_name(uint8_t i)
{
    unsigned count = 0;
    unsigned want;

    for (unsigned k = 0; k < EV_COUNT; k++) {
        count += sim_event_desc((enum sim_event_kind)k)->qmp != NULL;
    }
    want = i % MAX(count, 1u);
    for (unsigned k = 0; k < EV_COUNT; k++) {
        const char *qmp = sim_event_desc((enum sim_event_kind)k)->qmp;

        if (qmp && want-- == 0) {
            return qmp;
        }
    }
    return "STOP";
}

/* Faults that end a host have to be spelt out: one that dies leaks what its commands had from the library. */
static const char *fault_name(uint8_t i)
{
    size_t count = 0;

    while (fault_at(count) && !fault_at(count)->ends_host) {
        count++;
    }
    return count ? fault_at(i % count)->name : "none";
}

static const char *short_name(const struct coder *c, const struct codec_hint *hint, uint8_t byte)
{
    size_t nodes;
    size_t count;

    if (hint->domain == SCN_DOM_EVENT) {
        return event_name(byte);
    }
    if (hint->domain == SCN_DOM_FAULT) {
        return fault_name(byte);
    }
    nodes = hint->defines || hint->domain == SCN_DOM_NONE ? 0 : scn_names_count(c->names, hint->domain);
    /* devices can be named where nodes can */
    count = nodes + (nodes && hint->domain == SCN_DOM_NODE ? scn_names_count(c->names, SCN_DOM_GUEST) : 0);
    if (!count || hint->domain == SCN_DOM_HOST) {
        return (size_t)hint->domain < ARRAY_SIZE(pools) ? pools[hint->domain][byte % 8] : "x";
    }
    count = MIN(count, (size_t)CODEC_NATURAL);
    return byte % count < nodes ? scn_names_at(c->names, hint->domain, byte % count)
                                : scn_names_at(c->names, SCN_DOM_GUEST, byte % count - nodes);
}

static struct qvalue *number_value(const struct coder *c, const struct codec_hint *hint, uint8_t byte)
{
    int64_t number = bounded(c, hint, small_number(c, hint, byte));
    char buf[24];

    /* as a person writes it in a command: 64k, not 65536 */
    if (hint->as_text && number >= 1024 && number % 1024 == 0) {
        return qvalue_str(sim_format_size(number, buf));
    }
    return qvalue_int(number);
}

/* {"driver": "disk", "disk": NAME}, or the name of a node. */
static struct qvalue *file_node(const struct coder *c, uint8_t byte)
{
    const struct codec_hint disk = {.kind = CODEC_NAME, .domain = SCN_DOM_DISK};
    const struct codec_hint node = {.kind = CODEC_NAME, .domain = SCN_DOM_NODE};
    struct qvalue *dict;

    if (byte % 4 == 3) {
        return qvalue_str(short_name(c, &node, byte / 4));
    }
    dict = qvalue_dict();
    qdict_put(dict, "driver", qvalue_str("disk"));
    qdict_put(dict, "disk", qvalue_str(short_name(c, &disk, byte / 4)));
    return dict;
}

/* What blockdev-create is to make: a disk, or raw or qcow2 in a node that is there. */
static struct qvalue *image(const struct coder *c, uint8_t byte)
{
    const struct codec_hint disk = {.kind = CODEC_NAME, .domain = SCN_DOM_DISK};
    const struct codec_hint node = {.kind = CODEC_NAME, .domain = SCN_DOM_NODE};
    static const char *const drivers[] = {"disk", "disk", "qcow2", "raw"};
    bool format = byte % 4 >= 2;
    struct qvalue *dict = qvalue_dict();

    qdict_put(dict, "driver", qvalue_str(drivers[byte % 4]));
    qdict_put(dict, format ? "file" : "disk", qvalue_str(short_name(c, format ? &node : &disk, byte / 4 % 4)));
    qdict_put(dict, "size", qvalue_int(small_size(c, byte / 16)));
    return dict;
}

static struct qvalue *properties(uint8_t byte)
{
    struct qvalue *dict = qvalue_dict();

    qdict_put(dict, "completion-mode", qvalue_str(byte & 1 ? "individual" : "grouped"));
    return dict;
}

static size_t choice_count(const struct codec_hint *hint)
{
    size_t count = 0;

    while (hint->choices[count]) {
        count++;
    }
    return count;
}

static struct qvalue *short_value(const struct coder *c, const struct codec_hint *hint, uint8_t byte)
{
    switch (hint->kind) {
    case CODEC_NAME:
        return qvalue_str(short_name(c, hint, byte));
    case CODEC_WORD:
        return qvalue_str(hint->choices[byte % choice_count(hint)]);
    case CODEC_BOOL:
        return qvalue_bool(byte & 1);
    case CODEC_FLAG:
        return qvalue_bool(true);
    case CODEC_INT:
    case CODEC_SIZE:
    case CODEC_TIME:
    case CODEC_BYTE:
        return number_value(c, hint, byte);
    case CODEC_FILE_NODE:
        return file_node(c, byte);
    case CODEC_PROPERTIES:
        return properties(byte);
    case CODEC_IMAGE:
        return image(c, byte);
    case CODEC_FREE:
    case CODEC_ACTIONS:
    case CODEC_SOURCES:
    case CODEC_NODES:
    case CODEC_CHILDREN:
    case CODEC_RULES:
        return qvalue_str("x");
    }
    return qvalue_null();
}

/* The byte that stands for value, or CODEC_NATURAL. */
static uint8_t find_short(const struct coder *c, const struct codec_hint *hint, const struct qvalue *value)
{
    for (unsigned byte = 0; byte < CODEC_NATURAL; byte++) {
        struct qvalue *candidate = short_value(c, hint, (uint8_t)byte);
        bool same = qvalue_equal(candidate, value);

        qvalue_free(candidate);
        if (same) {
            return (uint8_t)byte;
        }
    }
    return CODEC_NATURAL;
}

/* A literal number obeys the bounds as well. */
static void tame_value(const struct coder *c, const struct codec_hint *hint, struct qvalue *value)
{
    bool is_number =
        hint->kind == CODEC_INT || hint->kind == CODEC_SIZE || hint->kind == CODEC_TIME || hint->kind == CODEC_BYTE;

    if (is_number && value->type == QVALUE_INT) {
        value->integer = bounded(c, hint, value->integer);
    }
}

void code_value(struct coder *c, const struct codec_hint *hint, struct qvalue **value)
{
    uint8_t byte;

    if (code_is_list(hint->kind)) {
        code_list(c, hint, value);
        return;
    }
    byte = c->encoding ? find_short(c, hint, *value) : 0;
    code_u8(c, &byte);
    if (byte >= CODEC_NATURAL) {
        code_literal(c, value, 0);
        if (!c->encoding && !c->exact) {
            tame_value(c, hint, *value);
        }
    } else if (!c->encoding) {
        *value = short_value(c, hint, byte);
    }
}
