/*
 * Rate limit of a job or a block copy: bytes per second over slices of 100 ms (reference/jobs.md 3). Integers of
 * 128 bits, no floats.
 */
#ifndef BLOCK_RATELIMIT_H
#define BLOCK_RATELIMIT_H

#include "sim/util.h"

#define RATE_SLICE_NS (100 * NS_PER_MS)

typedef struct RateLimit {
    uint64_t speed; /* bytes/s; 0: unlimited */
    uint64_t quota; /* bytes a slice: max(1, speed / 10) */
    int64_t slice_start_ns;
    int64_t slice_end_ns;
    uint64_t dispatched; /* bytes in this slice */
} RateLimit;

void ratelimit_set_speed(RateLimit *limit, uint64_t speed);
/* Charges n bytes at now; returns how long the caller must wait, 0 when it may go on. n == 0 asks only. */
int64_t ratelimit_calculate_delay(RateLimit *limit, uint64_t n, int64_t now_ns);

#endif
