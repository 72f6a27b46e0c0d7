#include "block/throttle_config.h"

/* One side of the six buckets that a request of a direction goes through. */
static const enum throttle_bucket buckets_of[THROTTLE_DIRECTIONS][4] = {
    [THROTTLE_READ] = {THROTTLE_BPS_TOTAL, THROTTLE_BPS_READ, THROTTLE_OPS_TOTAL, THROTTLE_OPS_READ},
    [THROTTLE_WRITE] = {THROTTLE_BPS_TOTAL, THROTTLE_BPS_WRITE, THROTTLE_OPS_TOTAL, THROTTLE_OPS_WRITE},
};

/* --- configuration --------------------------------------------------------------------------------------- */

void throttle_config_init(ThrottleConfig *cfg)
{
    memset(cfg, 0, sizeof(*cfg));
    for (size_t i = 0; i < THROTTLE_BUCKETS; i++) {
        cfg->limits[i].burst_length = 1;
    }
}

bool throttle_enabled(const ThrottleConfig *cfg)
{
    for (size_t i = 0; i < THROTTLE_BUCKETS; i++) {
        if (cfg->limits[i].avg > 0) {
            return true;
        }
    }
    return false;
}

/* A total and one of its halves, of three neighbouring limits. */
static bool total_and_half(const ThrottleLimit limits[3])
{
    return (limits[0].avg && (limits[1].avg || limits[2].avg)) ||
           (limits[0].max && (limits[1].max || limits[2].max));
}

static const char *limit_fault(const ThrottleLimit *limit)
{
    if (limit->avg > THROTTLE_VALUE_MAX || limit->max > THROTTLE_VALUE_MAX) {
        return "bps/iops/max values must be within [0, 1000000000000000]";
    }
    if (limit->burst_length == 0) {
        return "the burst length cannot be 0";
    }
    if (limit->burst_length > 1 && limit->max == 0) {
        return "burst length set without burst rate";
    }
    if (limit->max > 0 && limit->burst_length > THROTTLE_VALUE_MAX / limit->max) {
        return "burst length too high for this burst rate";
    }
    if (limit->max > 0 && limit->avg == 0) {
        return "bps_max/iops_max require corresponding bps/iops values";
    }
    if (limit->max > 0 && limit->max < limit->avg) {
        return "bps_max/iops_max cannot be lower than bps/iops";
    }
    return NULL;
}

bool throttle_is_valid(const ThrottleConfig *cfg, Error **errp)
{
    const ThrottleLimit *ops = &cfg->limits[THROTTLE_OPS_TOTAL];
    const char *fault = NULL;

    if (total_and_half(&cfg->limits[THROTTLE_BPS_TOTAL]) || total_and_half(ops)) {
        fault = "bps/iops/max total values and read/write values cannot be used at the same time";
    } else if (cfg->op_size && !ops[0].avg && !ops[1].avg && !ops[2].avg) {
        fault = "iops size requires an iops value to be set";
    } else if (cfg->op_size > INT64_MAX) {
        fault = "iops size cannot be negative"; /* only a negative number becomes one like that */
    }
    for (size_t i = 0; i < THROTTLE_BUCKETS && !fault; i++) {
        fault = limit_fault(&cfg->limits[i]);
    }
    if (fault) {
        error_setg(errp, "%s", fault);
    }
    return !fault;
}

/* --- levels ---------------------------------------------------------------------------------------------- */

void throttle_state_config(ThrottleState *ts, const ThrottleConfig *cfg, int64_t now_ns)
{
    SIM_ASSERT(throttle_is_valid(cfg, NULL));
    memset(ts, 0, sizeof(*ts));
    ts->cfg = *cfg;
    ts->leaked_ns = now_ns;
}

/* rate * ns is below 2^50 * 2^63. */
static void leak_level(ThrottleLevel *level, uint64_t rate, uint64_t elapsed_ns)
{
    unsigned __int128 leak = (unsigned __int128)rate * elapsed_ns;

    if (leak > level->nano) {
        *level = (ThrottleLevel){0};
    } else {
        level->nano -= leak;
    }
}

static void leak(ThrottleState *ts, int64_t now_ns)
{
    SIM_ASSERT_LE(ts->leaked_ns, now_ns);
    uint64_t elapsed_ns = (uint64_t)(now_ns - ts->leaked_ns);

    if (elapsed_ns == 0) {
        return;
    }
    for (size_t i = 0; i < THROTTLE_BUCKETS; i++) {
        leak_level(&ts->level[i], ts->cfg.limits[i].avg, elapsed_ns);
        leak_level(&ts->burst_level[i], ts->cfg.limits[i].max, elapsed_ns);
    }
    ts->leaked_ns = now_ns;
}

static bool is_above(const ThrottleLevel *level, unsigned __int128 size)
{
    return level->nano > size || (level->nano == size && level->part > 0);
}

/* Time until the level has sunk to size. A part of a billionth never makes a whole nanosecond. */
static int64_t sink_ns(const ThrottleLevel *level, unsigned __int128 size, uint64_t rate)
{
    SIM_ASSERT(rate > 0 && is_above(level, size));
    unsigned __int128 wait_ns = (level->nano - size) / rate;

    return (int64_t)MIN(wait_ns, (unsigned __int128)INT64_MAX);
}

static int64_t bucket_wait_ns(const ThrottleState *ts, enum throttle_bucket bucket)
{
    const ThrottleLimit *limit = &ts->cfg.limits[bucket];
    const unsigned __int128 tenth_ns = NS_PER_S / 10;
    /* Without a burst a tenth of a second's worth goes at once, lest the first request after a pause waits. */
    unsigned __int128 size =
        limit->max ? (unsigned __int128)limit->max * limit->burst_length * NS_PER_S : limit->avg * tenth_ns;

    if (limit->avg == 0) {
        return 0;
    }
    if (is_above(&ts->level[bucket], size)) {
        return sink_ns(&ts->level[bucket], size, limit->avg);
    }
    /* Inside a long burst the burst's own rate holds. */
    size = limit->max * tenth_ns;
    if (limit->burst_length > 1 && is_above(&ts->burst_level[bucket], size)) {
        return sink_ns(&ts->burst_level[bucket], size, limit->max);
    }
    return 0;
}

int64_t throttle_wait_ns(ThrottleState *ts, enum throttle_direction direction, int64_t now_ns)
{
    int64_t wait_ns = 0;

    leak(ts, now_ns);
    for (size_t i = 0; i < ARRAY_SIZE(buckets_of[direction]); i++) {
        int64_t bucket_ns = bucket_wait_ns(ts, buckets_of[direction][i]);
        wait_ns = MAX(wait_ns, bucket_ns);
    }
    return wait_ns;
}

static void add_level(ThrottleLevel *level, const ThrottleLevel *units, uint64_t op_size)
{
    level->nano += units->nano;
    level->part += units->part; /* both below op_size, which is below 2^63 */
    if (units->part > 0 && level->part >= op_size) {
        level->part -= op_size;
        level->nano++;
    }
}

void throttle_account(ThrottleState *ts, enum throttle_direction direction, uint64_t bytes, int64_t now_ns)
{
    uint64_t op_size = ts->cfg.op_size;
    const ThrottleLevel data = {.nano = (unsigned __int128)bytes * NS_PER_S};
    ThrottleLevel ops = {.nano = NS_PER_S};

    leak(ts, now_ns);
    if (op_size > 0 && bytes > op_size) {
        ops.nano = data.nano / op_size;
        ops.part = (uint64_t)(data.nano % op_size);
    }
    for (size_t i = 0; i < ARRAY_SIZE(buckets_of[direction]); i++) {
        enum throttle_bucket bucket = buckets_of[direction][i];
        const ThrottleLimit *limit = &ts->cfg.limits[bucket];
        const ThrottleLevel *units = bucket < THROTTLE_OPS_TOTAL ? &data : &ops;

        if (limit->avg > 0) {
            add_level(&ts->level[bucket], units, op_size);
        }
        if (limit->burst_length > 1) {
            add_level(&ts->burst_level[bucket], units, op_size);
        }
    }
}
