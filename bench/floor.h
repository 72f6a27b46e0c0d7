/*
 * Floors: the fixed counts of primitive operations that the reference workloads cannot do without, and nothing else
 * (reference/limits.md). Measured in the same run as the workloads, so that a figure is a ratio and not a guess
 * about the machine.
 */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include <stdint.h>

struct floor_counts {
    unsigned switches;    /* coroutine enter+yield pairs */
    unsigned heap_events; /* pop+push in a heap of some dozens */
    unsigned fifo_events;
    unsigned copies; /* of 16 page references, plus the transfers */
    unsigned transfers;
    unsigned bitmap_ops;
    unsigned hash_records; /* of 32 bytes */
    unsigned world_resets; /* 64 pages written and dropped by epoch */
};
extern const struct floor_counts floor_standard, floor_short;

void floor_setup(void);
/* Does the counts once. The result depends on all of it, so that nothing is optimised away. */
uint64_t floor_run(const struct floor_counts *counts);

#endif
