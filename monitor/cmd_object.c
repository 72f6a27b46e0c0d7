/*
 * object-add, object-del, qom-get, qom-set, for the one type of object that the block layer has: throttle-group
 * (reference/block.md 4.2).
 */
#include "monitor/commands.h"

#define ROW(text, value, what) \
    { \
        .name = text, .type = QMP_INT, .optional = true, .def = value, .doc = what \
    }
#define ROWS(text, prefix) \
    ROW(prefix text, "0", "a second, 0: any"), ROW(prefix text "-max", "0", "a second in bursts, 0: none"), \
        ROW(prefix text "-max-length", "1", "seconds that a burst lasts")
#define SIZE_ROW(prefix) ROW(prefix "iops-size", "0", "bytes that count as one request, 0: any")

static const struct qmp_arg limits_of[] = {
#define LIMIT_ROWS(text, bucket) ROWS(text, ""),
    THROTTLE_LIMIT_NAMES(LIMIT_ROWS)
#undef LIMIT_ROWS
        SIZE_ROW(""),
    {.name = NULL},
};

static const struct qmp_arg limits_row = {
    .name = "limits", .type = QMP_DICT, .optional = true, .doc = "limits of the group", .of = limits_of};

static const char *const types[] = {"throttle-group", NULL};

static const struct qmp_arg add_args[] = {
    {.name = "qom-type", .type = QMP_ENUM, .choices = types, .doc = "type of the object"},
    {.name = "id", .type = QMP_STR, .doc = "its name"},
    {.name = "limits", .type = QMP_DICT, .optional = true, .doc = "limits of the group", .of = limits_of},
#define LIMIT_ROWS(text, bucket) ROWS(text, "x-"),
    THROTTLE_LIMIT_NAMES(LIMIT_ROWS)
#undef LIMIT_ROWS
        SIZE_ROW("x-"),
    {.name = NULL},
};

static const struct qmp_arg del_args[] = {
    {.name = "id", .type = QMP_STR, .doc = "object"},
    {.name = NULL},
};

static const struct qmp_arg get_args[] = {
    {.name = "path", .type = QMP_STR, .doc = "/objects/ID or ID"},
    {.name = "property", .type = QMP_STR, .doc = "limits, type, x-bps-total, ..."},
    {.name = NULL},
};

static const struct qmp_arg set_args[] = {
    {.name = "path", .type = QMP_STR, .doc = "/objects/ID or ID"},
    {.name = "property", .type = QMP_STR, .doc = "limits"},
    {.name = "value", .type = QMP_ANY, .doc = "what to set; limits that are not named stay"},
    {.name = NULL},
};

static bool cmd_object_add(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return throttle_object_add(host, qmp_arg_str(args, "id", NULL), args, errp);
}

static bool cmd_object_del(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    return throttle_object_del(host, qmp_arg_str(args, "id", NULL), errp);
}

static ThrottleGroup *resolve(struct host *host, const struct qvalue *args, Error **errp)
{
    static const char container[] = "/objects/";
    const char *path = qmp_arg_str(args, "path", NULL);
    bool absolute = strncmp(path, container, sizeof(container) - 1) == 0;
    ThrottleGroup *group = throttle_object_find(host, absolute ? path + sizeof(container) - 1 : path);

    if (!group) {
        error_setg(errp, "Device '%s' not found", path);
    }
    return group;
}

static bool cmd_qom_get(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    ThrottleGroup *group = resolve(host, args, errp);

    *reply = group ? throttle_object_get(group, qmp_arg_str(args, "property", NULL), errp) : NULL;
    return *reply != NULL;
}

static bool cmd_qom_set(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    const struct qmp_place place = {.name = "limits"};
    const char *property = qmp_arg_str(args, "property", NULL);
    ThrottleGroup *group = resolve(host, args, errp);

    if (!group) {
        return false;
    }
    /* The check converts in place. */
    struct qvalue *value = qvalue_copy(qdict_get(args, "value"));
    bool ok = (strcmp(property, "limits") != 0 || qmp_check_value(&limits_row, value, &place, errp)) &&
              throttle_object_set(group, property, value, errp);
    qvalue_free(value);
    return ok;
}

const struct qmp_command qmp_object_commands[] = {
    {"object-add", add_args, false, cmd_object_add, "makes a throttle group", NULL},
    {"object-del", del_args, false, cmd_object_del, "removes a throttle group that nobody uses", NULL},
    {"qom-get", get_args, false, cmd_qom_get, "a property of an object", NULL},
    {"qom-set", set_args, false, cmd_qom_set, "changes a property of an object", NULL},
    {.name = NULL},
};
