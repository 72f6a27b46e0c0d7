/* Rate limit: a slice is stretched by what was overspent in it, so that punctual sleepers do not drift. */
#include "block/ratelimit.h"

#define RATE_SLICES_PER_S (NS_PER_S / RATE_SLICE_NS)

void ratelimit_set_speed(RateLimit *limit, uint64_t speed)
{
    limit->speed = speed;
    limit->quota = MAX(UINT64_C(1), speed / (uint64_t)RATE_SLICES_PER_S);
}

/* The length of a slice in which `dispatched` bytes were spent, capped where the clock ends. */
static int64_t ratelimit_stretched_ns(const RateLimit *limit)
{
    unsigned __int128 ns = (unsigned __int128)limit->dispatched * (uint64_t)RATE_SLICE_NS / limit->quota;

    return ns > (uint64_t)(INT64_MAX / 4) ? INT64_MAX / 4 : (int64_t)ns;
}

int64_t ratelimit_calculate_delay(RateLimit *limit, uint64_t n, int64_t now_ns)
{
    SIM_ASSERT(now_ns >= 0);
    if (limit->speed == 0) {
        return 0;
    }
    SIM_ASSERT(limit->quota > 0);
    /* Strictly: a sleeper that wakes exactly at the end stays in its slice and keeps what it owes. */
    if (limit->slice_end_ns < now_ns) {
        limit->slice_start_ns = now_ns;
        limit->slice_end_ns = now_ns + RATE_SLICE_NS;
        limit->dispatched = 0;
    }
    limit->dispatched += MIN(n, UINT64_MAX - limit->dispatched);
    if (limit->dispatched < limit->quota) {
        return 0;
    }
    limit->slice_end_ns = limit->slice_start_ns + ratelimit_stretched_ns(limit);
    /* A raised speed may move the end into the past. */
    return MAX(limit->slice_end_ns - now_ns, (int64_t)0);
}
