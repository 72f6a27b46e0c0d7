/* Sorted intervals: binary search, one move of the tail a change. */
#include "check/ranges.h"

#include <string.h>

void ranges_init(struct sim_arena *arena, struct ranges *set)
{
    *set = (struct ranges){.arena = arena};
}

void ranges_free(struct ranges *set)
{
    SIM_FREE_N(set->arena, check_ranges, set->item, struct range, set->room);
    ranges_init(set->arena, set);
}

/* Index of the first interval with end > at (count when there is none). */
static uint32_t find(const struct ranges *set, int64_t at)
{
    uint32_t low = 0;
    uint32_t high = set->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (set->item[middle].end > at) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* Puts `with` items in the place of [at, at + without). */
static void splice(struct ranges *set, uint32_t at, uint32_t without, uint32_t with)
{
    uint32_t count = set->count - without + with;

    SIM_ASSERT(at + without <= set->count);
    if (count > set->room) {
        uint32_t room = MAX(8, set->room * 2);
        struct range *item = (struct range *)sim_alloc_raw(set->arena, SIM_TYPE_check_ranges, room * sizeof(*item));

        if (set->count > 0) {
            memcpy(item, set->item, set->count * sizeof(*item));
        }
        SIM_FREE_N(set->arena, check_ranges, set->item, struct range, set->room);
        set->item = item;
        set->room = room;
    }
    if (with != without && set->count > at + without) {
        memmove(&set->item[at + with], &set->item[at + without], (set->count - at - without) * sizeof(*set->item));
    }
    set->count = count;
}

void ranges_add(struct ranges *set, int64_t start, int64_t end)
{
    uint32_t first;
    uint32_t last;

    if (start >= end) {
        return;
    }
    first = find(set, start - 1); /* one that merely touches is joined too */
    for (last = first; last < set->count && set->item[last].start <= end; last++) {
        start = MIN(start, set->item[last].start);
        end = MAX(end, set->item[last].end);
        set->bytes -= set->item[last].end - set->item[last].start;
    }
    set->bytes += end - start;
    splice(set, first, last - first, 1);
    set->item[first] = (struct range){start, end};
}

void ranges_remove(struct ranges *set, int64_t start, int64_t end)
{
    uint32_t first = find(set, start);
    uint32_t last = first;
    struct range head = {0, 0};
    struct range tail = {0, 0};

    if (start >= end) {
        return;
    }
    for (; last < set->count && set->item[last].start < end; last++) {
        set->bytes -= MIN(end, set->item[last].end) - MAX(start, set->item[last].start);
        if (set->item[last].start < start) {
            head = (struct range){set->item[last].start, start};
        }
        if (set->item[last].end > end) {
            tail = (struct range){end, set->item[last].end};
        }
    }
    splice(set, first, last - first, (head.end > head.start) + (tail.end > tail.start));
    if (head.end > head.start) {
        set->item[first++] = head;
    }
    if (tail.end > tail.start) {
        set->item[first] = tail;
    }
}

void ranges_add_all(struct ranges *set, const struct ranges *more)
{
    SIM_ASSERT(set != more);
    for (uint32_t i = 0; i < more->count; i++) {
        ranges_add(set, more->item[i].start, more->item[i].end);
    }
}

const struct range *ranges_next(const struct ranges *set, int64_t at)
{
    uint32_t i = find(set, at);

    return i < set->count ? &set->item[i] : NULL;
}

bool ranges_contain(const struct ranges *set, int64_t start, int64_t end)
{
    const struct range *r = ranges_next(set, start);

    return start >= end || (r && r->start <= start && r->end >= end);
}
