/*
 * block_set_io_throttle (reference/block.md 4.2, 9).
 */
#include "monitor/commands.h"

/* The limits as this command and query-block call them; "_max" and "_max_length" go with each. */
static const struct {
    const char *name;
    enum throttle_bucket bucket;
} limits[] = {
    {"bps", THROTTLE_BPS_TOTAL},  {"bps_rd", THROTTLE_BPS_READ},  {"bps_wr", THROTTLE_BPS_WRITE},
    {"iops", THROTTLE_OPS_TOTAL}, {"iops_rd", THROTTLE_OPS_READ}, {"iops_wr", THROTTLE_OPS_WRITE},
};

#define RATE(text, what) \
    { \
        .name = text, .type = QMP_INT, .doc = what " a second, 0: any" \
    }
#define BURST(text, what) \
    { \
        .name = text "_max", .type = QMP_INT, .optional = true, .doc = what " a second in bursts" \
    }
#define LENGTH(text) \
    { \
        .name = text "_max_length", .type = QMP_INT, .optional = true, .def = "1", \
        .doc = "seconds that a burst lasts" \
    }

static const struct qmp_arg throttle_args[] = {
    {.name = "device", .type = QMP_STR, .optional = true, .doc = "block backend, or"},
    {.name = "id", .type = QMP_STR, .optional = true, .doc = "guest device"},
    RATE("bps", "bytes"),
    RATE("bps_rd", "bytes read"),
    RATE("bps_wr", "bytes written"),
    RATE("iops", "requests"),
    RATE("iops_rd", "reads"),
    RATE("iops_wr", "writes"),
    BURST("bps", "bytes"),
    BURST("bps_rd", "bytes read"),
    BURST("bps_wr", "bytes written"),
    BURST("iops", "requests"),
    BURST("iops_rd", "reads"),
    BURST("iops_wr", "writes"),
    LENGTH("bps"),
    LENGTH("bps_rd"),
    LENGTH("bps_wr"),
    LENGTH("iops"),
    LENGTH("iops_rd"),
    LENGTH("iops_wr"),
    {.name = "iops_size", .type = QMP_INT, .optional = true, .doc = "bytes that count as one request"},
    {.name = "group", .type = QMP_STR, .optional = true, .doc = "throttle group, default the device's own"},
    {.name = NULL},
};

/* Exactly one of the two names; NULL with errp. */
static BlockBackend *find_backend(struct host *host, const char *device, const char *id, Error **errp)
{
    BlockBackend *blk = NULL;

    if (!device == !id) {
        error_setg(errp, "Need exactly one of 'device' and 'id'");
        return NULL;
    }
    if (device) {
        blk = blk_by_name(host, device);
    }
    for (BlockBackend *at = blk_next(host, NULL); id && !blk && at; at = blk_next(host, at)) {
        blk = blk_dev_id(at) && strcmp(blk_dev_id(at), id) == 0 ? at : NULL;
    }
    if (!blk) {
        error_setg(errp, "Device '%s' not found", device ? device : id);
    }
    return blk;
}

static uint64_t limit_arg(const struct qvalue *args, const char *name, const char *suffix, int64_t def)
{
    char key[32];

    snprintf(key, sizeof(key), "%s%s", name, suffix);
    return (uint64_t)qmp_arg_int(args, key, def); /* a negative one is beyond what is valid */
}

static void read_config(const struct qvalue *args, ThrottleConfig *cfg)
{
    throttle_config_init(cfg);
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        cfg->limits[limits[i].bucket] = (ThrottleLimit){
            .avg = limit_arg(args, limits[i].name, "", 0),
            .max = limit_arg(args, limits[i].name, "_max", 0),
            .burst_length = limit_arg(args, limits[i].name, "_max_length", 1),
        };
    }
    cfg->op_size = limit_arg(args, "iops_size", "", 0);
}

static bool cmd_set_io_throttle(struct host *host, const struct qvalue *args, struct qvalue **reply, Error **errp)
{
    const char *device = qmp_arg_str(args, "device", NULL);
    const char *id = qmp_arg_str(args, "id", NULL);
    const char *group = qmp_arg_str(args, "group", NULL);
    BlockBackend *blk = find_backend(host, device, id, errp);
    ThrottleConfig cfg;

    if (!blk) {
        return false;
    }
    if (!blk_bs(blk)) {
        error_setg(errp, "Device has no medium");
        return false;
    }
    read_config(args, &cfg);
    if (!throttle_is_valid(&cfg, errp)) {
        return false;
    }
    if (!throttle_enabled(&cfg)) {
        if (blk_throttle_group(blk)) {
            blk_io_limits_disable(blk);
        }
        return true;
    }
    if (!blk_throttle_group(blk)) {
        blk_io_limits_enable(blk, group ? group : device ? device : id);
    } else if (group) {
        blk_io_limits_update_group(blk, group);
    }
    blk_set_io_limits(blk, &cfg);
    return true;
}

/* --- query-block ----------------------------------------------------------------------------------------- */

void qmp_put_throttle(struct qvalue *info, const BlockBackend *blk)
{
    static const ThrottleConfig none;
    ThrottleGroup *group = blk ? blk_throttle_group(blk) : NULL;
    const ThrottleConfig *cfg = group ? throttle_group_get_config(group) : &none;
    char key[32];

    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        const ThrottleLimit *limit = &cfg->limits[limits[i].bucket];

        qdict_put(info, limits[i].name, qvalue_int((int64_t)limit->avg));
        if (limit->max > 0) {
            snprintf(key, sizeof(key), "%s_max", limits[i].name);
            qdict_put(info, key, qvalue_int((int64_t)limit->max));
            snprintf(key, sizeof(key), "%s_max_length", limits[i].name);
            qdict_put(info, key, qvalue_int((int64_t)limit->burst_length));
        }
    }
    if (cfg->op_size > 0) {
        qdict_put(info, "iops_size", qvalue_int((int64_t)cfg->op_size));
    }
    if (group) {
        qdict_put(info, "group", qvalue_str(throttle_group_name(group)));
    }
}

const struct qmp_command qmp_throttle_commands[] = {
    {"block_set_io_throttle", throttle_args, false, cmd_set_io_throttle,
     "limits the throughput of a device; all rates 0: no limits", NULL},
    {.name = NULL},
};
