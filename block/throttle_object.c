/*
 * Objects of type throttle-group: the properties that object-add, qom-get and qom-set see (reference/block.md 4.2).
 *
 * Each limit of a group is three properties in the dictionary `limits` ("bps-total", "bps-total-max",
 * "bps-total-max-length"), and three of the object itself, with "x-" before, which only object-add may set.
 */
#include <inttypes.h>
#include <stdio.h>

#include "block/block_int.h"
#include "block/throttle_group.h"

static const struct {
    const char *name;
    enum throttle_bucket bucket;
} limit_names[] = {
#define LIMIT_NAME(text, bucket) {text, bucket},
    THROTTLE_LIMIT_NAMES(LIMIT_NAME)
#undef LIMIT_NAME
};

/* --- properties ------------------------------------------------------------------------------------------ */

/* Where the limit of that name ("iops-read-max-length") is kept; NULL when there is none of that name. */
static uint64_t *find_limit(ThrottleConfig *cfg, const char *name, bool *is_length)
{
    *is_length = false;
    if (strcmp(name, "iops-size") == 0) {
        return &cfg->op_size;
    }
    for (size_t i = 0; i < ARRAY_SIZE(limit_names); i++) {
        ThrottleLimit *limit = &cfg->limits[limit_names[i].bucket];
        size_t length = strlen(limit_names[i].name);
        if (strncmp(name, limit_names[i].name, length) != 0) {
            continue;
        }
        *is_length = strcmp(name + length, "-max-length") == 0;
        if (*is_length) {
            return &limit->burst_length;
        }
        if (strcmp(name + length, "-max") == 0) {
            return &limit->max;
        }
        if (name[length] == '\0') {
            return &limit->avg;
        }
    }
    return NULL;
}

/* One limit by its name without "x-"; shown is the name for messages. */
static bool put_limit(ThrottleConfig *cfg, const char *name, const char *shown, const struct qvalue *value,
                      Error **errp)
{
    bool is_length;
    uint64_t *limit = find_limit(cfg, name, &is_length);

    SIM_ASSERT(limit && value->type == QVALUE_INT);
    if (shown != name && value->integer < 0) {
        error_setg(errp, "Property values cannot be negative");
        return false;
    }
    if (is_length && (value->integer < 0 || value->integer > UINT32_MAX)) {
        error_setg(errp, "%s value must be in the range [0, %" PRIu32 "]", shown, UINT32_MAX);
        return false;
    }
    *limit = (uint64_t)value->integer; /* a negative one is beyond what is valid */
    return true;
}

static bool put_limits(ThrottleConfig *cfg, const struct qvalue *limits, Error **errp)
{
    SIM_ASSERT(limits->type == QVALUE_DICT);
    for (size_t i = 0; i < limits->seq.count; i++) {
        if (!put_limit(cfg, limits->seq.keys[i], limits->seq.keys[i], limits->seq.items[i], errp)) {
            return false;
        }
    }
    return throttle_is_valid(cfg, errp);
}

static struct qvalue *limits_of(const ThrottleConfig *cfg)
{
    struct qvalue *limits = qvalue_dict();
    char name[32];

    for (size_t i = 0; i < ARRAY_SIZE(limit_names); i++) {
        const ThrottleLimit *limit = &cfg->limits[limit_names[i].bucket];
        qdict_put(limits, limit_names[i].name, qvalue_int((int64_t)limit->avg));
        snprintf(name, sizeof(name), "%s-max", limit_names[i].name);
        qdict_put(limits, name, qvalue_int((int64_t)limit->max));
        snprintf(name, sizeof(name), "%s-max-length", limit_names[i].name);
        qdict_put(limits, name, qvalue_int((int64_t)limit->burst_length));
    }
    qdict_put(limits, "iops-size", qvalue_int((int64_t)cfg->op_size));
    return limits;
}

/* --- objects --------------------------------------------------------------------------------------------- */

ThrottleGroup *throttle_object_find(struct host *host, const char *id)
{
    ThrottleGroup *group = throttle_group_find(host, id);
    return group && group->is_object ? group : NULL;
}

static bool check_id(struct host *host, const char *id, Error **errp)
{
    ThrottleGroup *group = throttle_group_find(host, id);

    if (!bdrv_name_well_formed(id)) {
        error_setg(errp, "Parameter 'id' expects an identifier");
    } else if (group && group->is_object) {
        error_setg(errp, "attempt to add duplicate property '%s' to object (type 'container')", id);
    } else if (group) {
        error_setg(errp, "A group with this name already exists");
    } else {
        return true;
    }
    return false;
}

bool throttle_object_add(struct host *host, const char *id, const struct qvalue *props, Error **errp)
{
    const struct qvalue *limits = qdict_get(props, "limits");
    ThrottleConfig cfg;

    throttle_config_init(&cfg);
    if (limits && !put_limits(&cfg, limits, errp)) {
        return false;
    }
    for (size_t i = 0; i < props->seq.count; i++) {
        const char *key = props->seq.keys[i];
        if (strncmp(key, "x-", 2) == 0 && !put_limit(&cfg, key + 2, key, props->seq.items[i], errp)) {
            return false;
        }
    }
    if (!check_id(host, id, errp) || !throttle_is_valid(&cfg, errp)) {
        return false;
    }
    ThrottleGroup *group = throttle_group_new(host, id);
    group->users++;
    group->is_object = true;
    throttle_group_config(group, &cfg);
    return true;
}

bool throttle_object_del(struct host *host, const char *id, Error **errp)
{
    ThrottleGroup *group = throttle_object_find(host, id);

    if (!group) {
        error_setg(errp, "object '%s' not found", id);
        return false;
    }
    if (group->users > 1) {
        error_setg(errp, "object '%s' is in use, can not be deleted", id);
        return false;
    }
    throttle_group_unref(group);
    return true;
}

struct qvalue *throttle_object_get(const ThrottleGroup *group, const char *property, Error **errp)
{
    ThrottleConfig cfg = *throttle_group_get_config(group);
    bool is_length;
    const uint64_t *limit = strncmp(property, "x-", 2) == 0 ? find_limit(&cfg, property + 2, &is_length) : NULL;

    if (strcmp(property, "type") == 0) {
        return qvalue_str("throttle-group");
    }
    if (strcmp(property, "limits") == 0) {
        return limits_of(&cfg);
    }
    if (!limit) {
        error_setg(errp, "Property 'throttle-group.%s' not found", property);
        return NULL;
    }
    return qvalue_int((int64_t)*limit);
}

bool throttle_object_set(ThrottleGroup *group, const char *property, const struct qvalue *value, Error **errp)
{
    ThrottleConfig cfg = *throttle_group_get_config(group);
    bool is_length;

    if (strcmp(property, "limits") == 0) {
        if (!put_limits(&cfg, value, errp)) {
            return false;
        }
        throttle_group_config(group, &cfg);
        return true;
    }
    if (strncmp(property, "x-", 2) == 0 && find_limit(&cfg, property + 2, &is_length)) {
        error_setg(errp, "Property cannot be set after initialization");
    } else if (strcmp(property, "type") == 0) {
        error_setg(errp, "Property 'throttle-group.type' is not writable");
    } else {
        error_setg(errp, "Property 'throttle-group.%s' not found", property);
    }
    return false;
}

void throttle_groups_cleanup(struct host *host)
{
    ThrottleGroup *group;

    while ((group = throttle_group_next(host, NULL))) {
        SIM_ASSERT(group->is_object && group->users == 1);
        throttle_group_unref(group);
    }
}
