/*
 * A set of byte ranges, kept as sorted disjoint intervals: adding 1 TiB costs what adding one byte costs. The model
 * that bitmaps are held against, so it shares nothing with HBitmap. Lives in the checkers' arena.
 */
#ifndef CHECK_RANGES_H
#define CHECK_RANGES_H

#include "sim/sim.h"

struct range {
    int64_t start;
    int64_t end; /* exclusive */
};

struct ranges {
    struct sim_arena *arena;
    struct range *item; /* ascending, never touching each other */
    uint32_t count;
    uint32_t room;
    int64_t bytes; /* of all intervals together */
};

void ranges_init(struct sim_arena *arena, struct ranges *set);
void ranges_free(struct ranges *set); /* empty again, usable */
void ranges_add(struct ranges *set, int64_t start, int64_t end);
void ranges_remove(struct ranges *set, int64_t start, int64_t end);
void ranges_add_all(struct ranges *set, const struct ranges *more);
/* The first interval that ends after `at`, or NULL. Valid until the next change. */
const struct range *ranges_next(const struct ranges *set, int64_t at);
bool ranges_contain(const struct ranges *set, int64_t start, int64_t end);
static inline bool ranges_overlap_any(const struct ranges *set, int64_t start, int64_t end)
{
    const struct range *r = ranges_next(set, start);

    return r && r->start < end && start < end;
}

#endif
