/*
 * The table of event kinds, from the rooms' events.def.
 *
 * The fields stand there as one string, which is taken apart on first use; the result is a constant of the
 * program, the same for every world.
 */
#include <string.h>

#include "sim/world.h"

static struct sim_event_desc table[EV_COUNT];

static const struct {
    const char *name;
    const char *qmp;
    uint32_t flags;
    const char *doc;
    const char *fields;
} sources[] = {
#define EVENT(kind, qmp, flags, doc, fields) {#kind, qmp, flags, doc, fields},
#include "gen/events.def"
#undef EVENT
};

/* "name:t name:t ..." */
static void parse_fields(struct sim_event_desc *desc, const char *text)
{
    while (*text) {
        struct sim_event_field *field = &desc->field[desc->field_count];
        size_t length = strcspn(text, ":");

        SIM_ASSERT_LT(desc->field_count, SIM_EVENT_FIELDS);
        SIM_ASSERT_LT(length, sizeof(field->name));
        SIM_ASSERT(text[length] == ':' && strchr("nsuixebot", text[length + 1]) && text[length + 1]);
        memcpy(field->name, text, length);
        field->type = text[length + 1];
        desc->field_count++;
        text += length + 2;
        SIM_ASSERT(*text == ' ' || *text == '\0');
        text += *text == ' ';
    }
}

static void fill_table(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
        struct sim_event_desc *desc = &table[i];

        memset(desc, 0, sizeof(*desc));
        desc->qmp = sources[i].qmp;
        desc->doc = sources[i].doc;
        desc->flags = sources[i].flags;
        parse_fields(desc, sources[i].fields);
        desc->name = sources[i].name;
    }
}

const struct sim_event_desc *sim_event_desc(enum sim_event_kind kind)
{
    SIM_ASSERT_LT((size_t)kind, EV_COUNT);
    if (!table[kind].name) {
        fill_table();
    }
    return &table[kind];
}

int sim_event_find(const char *name)
{
    SIM_ASSERT(name != NULL);
    for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
        if (str_is(sources[i].name, name)) {
            return (int)i;
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
        if (sources[i].qmp && str_is(sources[i].qmp, name)) {
            return (int)i;
        }
    }
    return -1;
}

static const char *const op_names[SIM_OP_COUNT] = {
    [SIM_OP_READ] = "read",           [SIM_OP_WRITE] = "write",       [SIM_OP_WRITE_ZEROES] = "write-zeroes",
    [SIM_OP_DISCARD] = "discard",     [SIM_OP_FLUSH] = "flush",       [SIM_OP_TRUNCATE] = "truncate",
    [SIM_OP_GETLENGTH] = "getlength", [SIM_OP_GET_INFO] = "get-info", [SIM_OP_BLOCK_STATUS] = "block-status",
    [SIM_OP_OPEN] = "open",           [SIM_OP_CREATE] = "create",
};

const char *sim_op_name(enum sim_op op)
{
    SIM_ASSERT_LT((size_t)op, SIM_OP_COUNT);
    return op_names[op];
}

bool sim_op_parse(const char *text, enum sim_op *out)
{
    SIM_ASSERT(text != NULL && out != NULL);
    for (size_t i = 0; i < SIM_OP_COUNT; i++) {
        if (strcmp(text, op_names[i]) == 0) {
            *out = (enum sim_op)i;
            return true;
        }
    }
    return false;
}
