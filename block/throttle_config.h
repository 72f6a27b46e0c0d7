/*
 * Limits of throughput as leaky buckets (reference/block.md 4.2): the arithmetic, without queues or time of its
 * own.
 *
 *     bucket (bps or iops, of all requests, of reads, of writes)
 *         level        += units of each request     leaks avg a second     waits above max * burst_length, or avg /
 * 10 burst level  += the same                  leaks max a second     waits above max / 10 (only with a
 * burst_length above 1)
 *
 * Levels are exact: units are counted in billionths, so that rate times nanoseconds is an integer, and the rest of
 * a division by the I/O size is carried along. Nothing is ever rounded but the wait itself, downwards.
 */
#ifndef BLOCK_THROTTLE_CONFIG_H
#define BLOCK_THROTTLE_CONFIG_H

#include "sim/error.h"
#include "sim/util.h"

#define THROTTLE_VALUE_MAX UINT64_C(1000000000000000)

enum throttle_direction { THROTTLE_READ, THROTTLE_WRITE, THROTTLE_DIRECTIONS };

enum throttle_bucket {
    THROTTLE_BPS_TOTAL,
    THROTTLE_BPS_READ,
    THROTTLE_BPS_WRITE,
    THROTTLE_OPS_TOTAL,
    THROTTLE_OPS_READ,
    THROTTLE_OPS_WRITE,
    THROTTLE_BUCKETS,
};

typedef struct ThrottleLimit {
    uint64_t avg;          /* units a second; 0: no limit */
    uint64_t max;          /* units a second while bursting; 0: none */
    uint64_t burst_length; /* seconds that max may last; at least 1 */
} ThrottleLimit;

typedef struct ThrottleConfig {
    ThrottleLimit limits[THROTTLE_BUCKETS];
    uint64_t op_size; /* bytes; larger requests count as that many operations, in parts too. 0: all are one */
} ThrottleConfig;

/* No limits. */
void throttle_config_init(ThrottleConfig *cfg);
/* True when any rate is limited. */
bool throttle_enabled(const ThrottleConfig *cfg);
bool throttle_is_valid(const ThrottleConfig *cfg, Error **errp);

/* A count of units: whole billionths, and a part of one, in op_size-ths. */
typedef struct ThrottleLevel {
    unsigned __int128 nano;
    uint64_t part;
} ThrottleLevel;

typedef struct ThrottleState {
    ThrottleConfig cfg;
    ThrottleLevel level[THROTTLE_BUCKETS];
    ThrottleLevel burst_level[THROTTLE_BUCKETS];
    int64_t leaked_ns; /* levels are as of then */
} ThrottleState;

/* Takes a valid configuration; all levels are empty afterwards. */
void throttle_state_config(ThrottleState *ts, const ThrottleConfig *cfg, int64_t now_ns);
/* How long a request has to wait from now on, whatever its own size: the longest wait of its four buckets. */
int64_t throttle_wait_ns(ThrottleState *ts, enum throttle_direction direction, int64_t now_ns);
/* Charges a request that goes now. */
void throttle_account(ThrottleState *ts, enum throttle_direction direction, uint64_t bytes, int64_t now_ns);

#endif
