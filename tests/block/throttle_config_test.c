/* Protects the arithmetic of limits: leaky buckets to the nanosecond, and which limits fit together. */
#include "tests/testlib.h"

#include "block/throttle_config.h"

static ThrottleState ts;
static ThrottleConfig cfg;

static int setup(void **state)
{
    throttle_config_init(&cfg);
    return 0;
}

static void limit(enum throttle_bucket bucket, uint64_t avg, uint64_t max, uint64_t burst_length)
{
    cfg.limits[bucket] = (ThrottleLimit){avg, max, burst_length};
}

static void configure(void)
{
    assert_true(throttle_is_valid(&cfg, NULL));
    throttle_state_config(&ts, &cfg, 0);
}

/* A request that goes at once, and one that has to wait, which then goes when it may. */
static void goes(int64_t now_ns, uint64_t bytes)
{
    assert_int_equal(throttle_wait_ns(&ts, THROTTLE_WRITE, now_ns), 0);
    throttle_account(&ts, THROTTLE_WRITE, bytes, now_ns);
}

static int64_t waits(int64_t now_ns)
{
    return throttle_wait_ns(&ts, THROTTLE_WRITE, now_ns);
}

/* fact: block 12/throttle-bps, 4.2/wait, 4.2/before-self, edge/50 */
static void test_bps(void **state)
{
    limit(THROTTLE_BPS_TOTAL, 1024, 0, 1);
    configure();
    goes(0, MiB);
    assert_int_equal(waits(0), INT64_C(1023900000000)); /* (1048576 - 102.4) / 1024 s */
    assert_int_equal(waits(INT64_C(1023899999999)), 1);
    goes(INT64_C(1023900000000), 0);
}

/* fact: block 4.2/example */
static void test_iops(void **state)
{
    limit(THROTTLE_OPS_TOTAL, 10, 0, 1);
    configure();
    goes(0, 512);
    goes(0, GiB);
    for (int64_t i = 1; i < 50; i++) {
        assert_int_equal(waits((i - 1) * 100 * NS_PER_MS), 100 * NS_PER_MS);
        assert_int_equal(waits(i * 100 * NS_PER_MS - 1), 1);
        goes(i * 100 * NS_PER_MS, 512);
    }
}

/* Eight at once; then 70 a second while the level, which grows by 60 a second, is at most 280; then ten a second.
 */
/* fact: block 12/throttle-burst, 4.2/burst */
static void test_burst(void **state)
{
    int64_t now_ns = 0, last_ns = 0, before_ns = 0;
    unsigned count = 8;

    limit(THROTTLE_OPS_TOTAL, 10, 70, 4);
    configure();
    for (unsigned i = 0; i < 8; i++) {
        goes(0, 512);
    }
    assert_int_equal(waits(0), NS_PER_S / 70);
    while (now_ns < 20 * NS_PER_S) {
        int64_t wait_ns = waits(now_ns);
        /* a request is let go when it need not wait; what was cut off a nanosecond is made up for later */
        before_ns = last_ns;
        last_ns = now_ns += wait_ns;
        if (count >= 8 && count < 320) {
            assert_in_range(now_ns, (int64_t)(count - 7) * NS_PER_S / 70 - 1, (int64_t)(count - 7) * NS_PER_S / 70);
        }
        throttle_account(&ts, THROTTLE_WRITE, 512, now_ns);
        count++;
    }
    /* 8 + 70 t requests make a level of 8 + 60 t: 280 is reached after 272/60 s, with 325 requests */
    assert_in_range(last_ns - before_ns, NS_PER_S / 10 - 1, NS_PER_S / 10);
    assert_in_range(count, 325 + 154, 325 + 156);
}

/* fact: block 4.2/leak */
static void test_leak(void **state)
{
    limit(THROTTLE_BPS_WRITE, 1000, 2000, 3);
    configure();
    goes(0, 7000);                        /* size of the bucket 6000; of the burst 200 */
    assert_int_equal(waits(0), NS_PER_S); /* the level comes first */
    assert_int_equal(waits(NS_PER_S), (5000 - 200) * NS_PER_S / 2000);
    assert_int_equal(waits(3400 * NS_PER_MS), 0);
    assert_int_equal(waits(INT64_MAX / 2), 0);
    assert_true(ts.level[THROTTLE_BPS_WRITE].nano == 0);
    assert_true(ts.burst_level[THROTTLE_BPS_WRITE].nano == 0);
    goes(INT64_MAX / 2, 1);
    assert_true(ts.level[THROTTLE_BPS_WRITE].nano == (unsigned __int128)NS_PER_S); /* not below empty before */
}

/* fact: block 4.2/maximum */
static void test_maximum(void **state)
{
    limit(THROTTLE_BPS_READ, 1000, 0, 1);
    limit(THROTTLE_BPS_WRITE, 100, 0, 1);
    limit(THROTTLE_OPS_WRITE, 2, 0, 1);
    configure();
    goes(0, 110); /* bytes: 1 s above 10; operations: 0.4 s above 0.2 */
    assert_int_equal(waits(0), NS_PER_S);
    assert_int_equal(throttle_wait_ns(&ts, THROTTLE_READ, 0), 0);
    goes(NS_PER_S, 0);
    assert_int_equal(waits(NS_PER_S), 400 * NS_PER_MS);
    throttle_account(&ts, THROTTLE_READ, 1100, NS_PER_S);
    assert_int_equal(throttle_wait_ns(&ts, THROTTLE_READ, NS_PER_S), NS_PER_S);
    assert_int_equal(waits(NS_PER_S), 400 * NS_PER_MS);
}

/* fact: block 4.2/units */
static void test_units(void **state)
{
    limit(THROTTLE_OPS_TOTAL, 1, 0, 1);
    cfg.op_size = 4096;
    configure();
    goes(0, 4096);
    assert_int_equal(waits(0), 900 * NS_PER_MS);
    goes(NS_PER_S, 6144); /* one and a half */
    assert_int_equal(waits(NS_PER_S), 1400 * NS_PER_MS);
    cfg.op_size = 3;
    configure();
    for (unsigned i = 0; i < 3; i++) {
        throttle_account(&ts, THROTTLE_WRITE, 4, 0); /* 4/3 each: together exactly four */
    }
    assert_true(ts.level[THROTTLE_OPS_TOTAL].nano == (unsigned __int128)(4 * NS_PER_S));
    assert_int_equal(ts.level[THROTTLE_OPS_TOTAL].part, 0);
}

/* Highest rate, longest wait, nothing overflows. */
static void test_extremes(void **state)
{
    limit(THROTTLE_BPS_TOTAL, THROTTLE_VALUE_MAX, THROTTLE_VALUE_MAX, 1);
    limit(THROTTLE_OPS_TOTAL, 1, 1, 1);
    configure();
    for (unsigned i = 0; i < 1000; i++) {
        throttle_account(&ts, THROTTLE_WRITE, INT64_MAX, 0);
    }
    assert_in_range(waits(0), INT64_C(9200000) * NS_PER_S, INT64_C(9300000) * NS_PER_S);
    assert_int_equal(waits(INT64_MAX), 0);
    cfg.limits[THROTTLE_BPS_TOTAL] = (ThrottleLimit){1, 0, 1};
    configure();
    throttle_account(&ts, THROTTLE_WRITE, INT64_MAX, 0);
    throttle_account(&ts, THROTTLE_WRITE, INT64_MAX, 0);
    assert_true(waits(0) == INT64_MAX);
}

/* --- what is valid --------------------------------------------------------------------------------------- */

static void refused(const char *text)
{
    Error *err = NULL;

    assert_false(throttle_is_valid(&cfg, &err));
    assert_string_equal(error_get_pretty(err), text);
    error_free(err);
    throttle_config_init(&cfg);
}

#define TOGETHER "bps/iops/max total values and read/write values cannot be used at the same time"
#define RANGE "bps/iops/max values must be within [0, 1000000000000000]"

/* fact: block 4.2/valid-total */
static void test_valid_total(void **state)
{
    for (unsigned total = THROTTLE_BPS_TOTAL; total <= THROTTLE_OPS_TOTAL; total += 3) {
        for (unsigned half = 1; half <= 2; half++) {
            limit(total, 10, 0, 1);
            limit(total + half, 10, 0, 1);
            refused(TOGETHER);
            limit(total, 0, 10, 1);
            limit(total + half, 0, 10, 1);
            refused(TOGETHER);
        }
        limit(total + 1, 10, 10, 1);
        limit(total + 2, 10, 0, 1);
        assert_true(throttle_is_valid(&cfg, NULL));
        throttle_config_init(&cfg);
    }
    limit(THROTTLE_BPS_TOTAL, 10, 0, 1);
    limit(THROTTLE_OPS_READ, 10, 0, 1);
    assert_true(throttle_is_valid(&cfg, NULL));
}

/* fact: block 4.2/valid-limit */
static void test_valid_limit(void **state)
{
    limit(THROTTLE_OPS_WRITE, THROTTLE_VALUE_MAX, THROTTLE_VALUE_MAX, 1);
    assert_true(throttle_is_valid(&cfg, NULL));
    limit(THROTTLE_OPS_WRITE, THROTTLE_VALUE_MAX + 1, 0, 1);
    refused(RANGE);
    limit(THROTTLE_OPS_WRITE, 1, THROTTLE_VALUE_MAX + 1, 1);
    refused(RANGE);
}

/* fact: block 4.2/valid-max */
static void test_valid_max(void **state)
{
    limit(THROTTLE_BPS_READ, 0, 10, 1);
    refused("bps_max/iops_max require corresponding bps/iops values");
    limit(THROTTLE_BPS_READ, 10, 9, 1);
    refused("bps_max/iops_max cannot be lower than bps/iops");
    limit(THROTTLE_BPS_READ, 10, 10, 1);
    assert_true(throttle_is_valid(&cfg, NULL));
}

/* fact: block 4.2/valid-burst */
static void test_valid_burst(void **state)
{
    limit(THROTTLE_BPS_READ, 10, 10, 0);
    refused("the burst length cannot be 0");
    limit(THROTTLE_BPS_READ, 10, 0, 2);
    refused("burst length set without burst rate");
    limit(THROTTLE_BPS_READ, 10, THROTTLE_VALUE_MAX / 4, 5);
    refused("burst length too high for this burst rate");
    limit(THROTTLE_BPS_READ, 10, THROTTLE_VALUE_MAX / 4, 4);
    assert_true(throttle_is_valid(&cfg, NULL));
}

/* fact: block 4.2/valid-iops-size */
static void test_valid_iops_size(void **state)
{
    cfg.op_size = 4096;
    limit(THROTTLE_BPS_TOTAL, 10, 0, 1);
    refused("iops size requires an iops value to be set");
    cfg.op_size = 4096;
    limit(THROTTLE_OPS_WRITE, 10, 0, 1);
    assert_true(throttle_is_valid(&cfg, NULL));
    cfg.op_size = INT64_MAX;
    assert_true(throttle_is_valid(&cfg, NULL));
    cfg.op_size = (uint64_t)-1;
    refused("iops size cannot be negative");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/throttle/config/bps-1024", test_bps, setup, NULL),
        T_SETUP("/throttle/config/iops-10", test_iops, setup, NULL),
        T_SETUP("/throttle/config/burst-70-for-4s", test_burst, setup, NULL),
        T_SETUP("/throttle/config/leak", test_leak, setup, NULL),
        T_SETUP("/throttle/config/longest-of-four", test_maximum, setup, NULL),
        T_SETUP("/throttle/config/iops-size", test_units, setup, NULL),
        T_SETUP("/throttle/config/extremes", test_extremes, setup, NULL),
        T_SETUP("/throttle/config/valid/total", test_valid_total, setup, NULL),
        T_SETUP("/throttle/config/valid/limit", test_valid_limit, setup, NULL),
        T_SETUP("/throttle/config/valid/max", test_valid_max, setup, NULL),
        T_SETUP("/throttle/config/valid/burst-length", test_valid_burst, setup, NULL),
        T_SETUP("/throttle/config/valid/iops-size", test_valid_iops_size, setup, NULL),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
