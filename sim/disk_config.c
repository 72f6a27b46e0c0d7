/* Options of a disk: defaults, reading from a dictionary, what goes together. */
#include <string.h>

#include "sim/disk_int.h"

#define DISK_SIZE_MAX ((int64_t)1 << 60)
#define DISK_LATENCY_MAX (3600 * NS_PER_S)

void disk_config_default(struct disk_config *config)
{
    *config = (struct disk_config){
        .type = DISK_FILE,
        .align_bytes = SIM_SECTOR_BYTES,
        .alloc_unit_bytes = SIM_PAGE_BYTES,
        .atomic_bytes = SIM_SECTOR_BYTES,
        .latency_ns = 50 * NS_PER_US,
        .latency_per_kib_ns = 250,
        .queue_depth = 32,
        .volatile_cache = true,
        .can_discard = true,
        .can_write_zeroes = true,
        .content = DISK_CONTENT_HOLE,
    };
}

enum key_form {
    KEY_CHOICE, /* enum of two names */
    KEY_SIZE,   /* int64_t bytes */
    KEY_POWER,  /* uint32_t, a power of two */
    KEY_TIME,   /* int64_t nanoseconds */
    KEY_COUNT,  /* uint32_t */
    KEY_SWITCH, /* bool, on or off */
};

struct key {
    const char *name;
    enum key_form form;
    size_t place;
    int64_t min;
    int64_t max;
    const char *expects;
    const char *names[2];
};

#define AT(member) offsetof(struct disk_config, member)

static const struct key keys[] = {
    {"type", KEY_CHOICE, AT(type), 0, 0, "'file' or 'device'", {"file", "device"}},
    {"size", KEY_SIZE, AT(size_bytes), 0, DISK_SIZE_MAX, "a size of at most 1E", {0}},
    {"capacity", KEY_SIZE, AT(capacity_bytes), 0, DISK_SIZE_MAX, "a size of at most 1E", {0}},
    {"align", KEY_POWER, AT(align_bytes), 1, 4096, "a power of two from 1 to 4096", {0}},
    {"alloc-unit", KEY_POWER, AT(alloc_unit_bytes), 4096, MiB, "a power of two from 4k to 1M", {0}},
    {"atomic", KEY_POWER, AT(atomic_bytes), 512, 4096, "a power of two from 512 to 4096", {0}},
    {"latency", KEY_TIME, AT(latency_ns), 0, DISK_LATENCY_MAX, "a time such as 50us, at most 3600s", {0}},
    {"per-kib", KEY_TIME, AT(latency_per_kib_ns), 0, DISK_LATENCY_MAX, "a time such as 250ns, at most 3600s", {0}},
    {"queue-depth", KEY_COUNT, AT(queue_depth), 1, 1024, "an integer from 1 to 1024", {0}},
    {"write-cache", KEY_SWITCH, AT(volatile_cache), 0, 0, "'on' or 'off'", {"off", "on"}},
    {"discard", KEY_SWITCH, AT(can_discard), 0, 0, "'on' or 'off'", {"off", "on"}},
    {"write-zeroes", KEY_SWITCH, AT(can_write_zeroes), 0, 0, "'on' or 'off'", {"off", "on"}},
    {"content", KEY_CHOICE, AT(content), 0, 0, "'hole' or 'stamp'", {"hole", "stamp"}},
    {"max-transfer", KEY_SIZE, AT(max_transfer_bytes), 0, GiB, "0 (no limit) or a size from 4k to 1G", {0}},
};

static const struct key *key_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (str_is(keys[i].name, name)) {
            return &keys[i];
        }
    }
    return NULL;
}

/* A value as text or integer, brought to an integer in the key's unit. */
static bool key_value(const struct key *key, const struct qvalue *value, int64_t *out)
{
    const char *text = value->type == QVALUE_STR ? value->str.bytes : NULL;

    switch (key->form) {
    case KEY_CHOICE:
    case KEY_SWITCH:
        if (value->type == QVALUE_BOOL && key->form == KEY_SWITCH) {
            *out = value->boolean;
            return true;
        }
        for (int i = 0; text != NULL && i < 2; i++) {
            if (strcmp(text, key->names[i]) == 0) {
                *out = i;
                return true;
            }
        }
        return false;
    case KEY_TIME:
        if (text != NULL) {
            return sim_parse_time(text, out);
        }
        break;
    case KEY_SIZE:
    case KEY_POWER:
    case KEY_COUNT:
        if (text != NULL) {
            return sim_parse_size(text, out);
        }
        break;
    }
    *out = value->type == QVALUE_INT ? value->integer : 0;
    return value->type == QVALUE_INT;
}

static void key_store(const struct key *key, struct disk_config *config, int64_t value)
{
    void *place = (char *)config + key->place;

    switch (key->form) {
    case KEY_CHOICE:
        *(unsigned *)place = (unsigned)value;
        return;
    case KEY_SIZE:
    case KEY_TIME:
        *(int64_t *)place = value;
        return;
    case KEY_POWER:
    case KEY_COUNT:
        *(uint32_t *)place = (uint32_t)value;
        return;
    case KEY_SWITCH:
        *(bool *)place = value != 0;
        return;
    }
}

static bool key_in_range(const struct key *key, int64_t value)
{
    if (key->form == KEY_CHOICE || key->form == KEY_SWITCH) {
        return true;
    }
    return value >= key->min && value <= key->max && (key->form != KEY_POWER || is_power_of_2((uint64_t)value));
}

static int64_t key_load(const struct key *key, const struct disk_config *config)
{
    const void *place = (const char *)config + key->place;

    switch (key->form) {
    case KEY_SIZE:
    case KEY_TIME:
        return *(const int64_t *)place;
    case KEY_POWER:
    case KEY_COUNT:
        return *(const uint32_t *)place;
    case KEY_CHOICE:
    case KEY_SWITCH:
        break;
    }
    return 0;
}

bool disk_config_check(const struct disk_config *config, Error **errp)
{
    int64_t unit = config->alloc_unit_bytes;

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (!key_in_range(&keys[i], key_load(&keys[i], config))) {
            error_setg(errp, "Parameter '%s' expects %s", keys[i].name, keys[i].expects);
            return false;
        }
    }
    if (config->capacity_bytes > 0 && config->capacity_bytes < unit) {
        error_setg(errp, "Parameter 'capacity' expects 0 (no limit) or at least one 'alloc-unit'");
        return false;
    }
    if (config->max_transfer_bytes > 0 &&
        (config->max_transfer_bytes < 4 * KiB || config->max_transfer_bytes % config->align_bytes != 0)) {
        error_setg(errp, "Parameter 'max-transfer' expects 0 (no limit) or at least 4k, a multiple of 'align'");
        return false;
    }
    if (config->content == DISK_CONTENT_STAMP && config->capacity_bytes > 0 &&
        ROUND_UP(config->size_bytes, unit) > ROUND_DOWN(config->capacity_bytes, unit)) {
        error_setg(errp, "Parameter 'capacity' expects room for all of 'size' with content=stamp");
        return false;
    }
    return true;
}

bool disk_config_parse(const struct qvalue *dict, struct disk_config *config, Error **errp)
{
    struct disk_config made;

    disk_config_default(&made);
    for (size_t i = 0; dict != NULL && i < dict->seq.count; i++) {
        const struct key *key = key_find(dict->seq.keys[i]);
        int64_t value;
        if (key == NULL) {
            error_setg(errp, "Parameter '%s' is unexpected", dict->seq.keys[i]);
            return false;
        }
        if (!key_value(key, dict->seq.items[i], &value) || !key_in_range(key, value)) {
            error_setg(errp, "Parameter '%s' expects %s", key->name, key->expects);
            return false;
        }
        key_store(key, &made, value);
    }
    if (!disk_config_check(&made, errp)) {
        return false;
    }
    *config = made;
    return true;
}
