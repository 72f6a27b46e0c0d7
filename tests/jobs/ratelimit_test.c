/* Protects the rate limit: slices, debts, what a change of speed does to them (reference/jobs.md 3). */
#include "tests/testlib.h"

#include "block/ratelimit.h"

/* 262144 B/s in chunks of 64 KiB: one per 250.004 ms, without drift for a sleeper that is punctual. */
/* fact: jobs 3/mean, 3/quota */
static void test_vector(void **state)
{
    RateLimit limit = {0};
    int64_t now = NS_PER_S;
    int64_t first = now;

    ratelimit_set_speed(&limit, 262144);
    assert_int_equal(limit.quota, 26214);
    for (int i = 1; i <= 40; i++) {
        int64_t delay = ratelimit_calculate_delay(&limit, 65536, now);

        assert_in_range(delay, 250003814, 250003815);
        now += delay;
        assert_int_equal(ratelimit_calculate_delay(&limit, 0, now), 0);
    }
    assert_int_equal(now - first, (int64_t)((__int128)40 * 65536 * 100000000 / 26214));
}

/* fact: jobs 3/unlimited */
static void test_unlimited(void **state)
{
    RateLimit limit = {0};

    ratelimit_set_speed(&limit, 0);
    assert_int_equal(ratelimit_calculate_delay(&limit, UINT64_MAX, 5), 0);
    assert_int_equal(limit.dispatched, 0);
}

/* Speed 1: half a mebibyte passes at once and is paid for with 52428.8 s. */
/* fact: jobs 3/oversized, 3/quota */
static void test_oversized(void **state)
{
    RateLimit limit = {0};

    ratelimit_set_speed(&limit, 1);
    assert_int_equal(limit.quota, 1);
    assert_int_equal(ratelimit_calculate_delay(&limit, 512 * 1024, 0), 524288 * (NS_PER_S / 10));
}

/* fact: jobs 3/charge */
static void test_below_quota(void **state)
{
    RateLimit limit = {0};

    ratelimit_set_speed(&limit, 1000000);
    assert_int_equal(ratelimit_calculate_delay(&limit, 99999, 1), 0);
    assert_int_equal(ratelimit_calculate_delay(&limit, 1, 50 * NS_PER_MS), 50 * NS_PER_MS + 1);
}

/* Exactly at the end the slice goes on; one nanosecond later a new one begins. */
/* fact: jobs 3/inclusive */
static void test_slice_end(void **state)
{
    RateLimit limit = {0};

    ratelimit_set_speed(&limit, 1000000);
    assert_int_equal(ratelimit_calculate_delay(&limit, 100000, 1), 100 * NS_PER_MS);
    assert_int_equal(ratelimit_calculate_delay(&limit, 100000, 100 * NS_PER_MS + 1), 100 * NS_PER_MS);
    assert_int_equal(ratelimit_calculate_delay(&limit, 50000, 200 * NS_PER_MS + 2), 0);
    assert_int_equal(limit.dispatched, 50000);
}

/* A new quota judges the bytes already counted. */
/* fact: jobs 3/set-speed */
static void test_speed_changes(void **state)
{
    RateLimit limit = {0};

    ratelimit_set_speed(&limit, 1000000);
    assert_int_equal(ratelimit_calculate_delay(&limit, 400000, 1), 400 * NS_PER_MS);
    ratelimit_set_speed(&limit, 2000000);
    assert_int_equal(ratelimit_calculate_delay(&limit, 0, 1), 200 * NS_PER_MS);
    ratelimit_set_speed(&limit, 500000);
    assert_int_equal(ratelimit_calculate_delay(&limit, 0, 1), 800 * NS_PER_MS);
    ratelimit_set_speed(&limit, 40000000);
    assert_int_equal(ratelimit_calculate_delay(&limit, 0, 100 * NS_PER_MS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/ratelimit/vector/64k-at-256k", test_vector),
        T("/ratelimit/unlimited", test_unlimited),
        T("/ratelimit/oversized-request-is-paid-for", test_oversized),
        T("/ratelimit/below-quota", test_below_quota),
        T("/ratelimit/slice-end-is-inclusive", test_slice_end),
        T("/ratelimit/speed-changes", test_speed_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
