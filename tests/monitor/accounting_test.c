/* Protects what devices count of their requests, and how query-blockstats shows it. */
#include "tests/monitor/qmplib.h"

#define LATENCY_NS 50000 /* of the fake disk, without its data */

static struct guest_req req;

/* One request of the guest, to its end. */
static int done(enum sim_op op, int64_t offset, int64_t bytes)
{
    guest_req_init(bed.host, &req);
    req.op = op;
    req.offset = offset;
    req.bytes = bytes;
    if (op == SIM_OP_WRITE) {
        payload_append_fill(&req.data, 0x33, bytes);
    }
    guest_submit(guest, &req);
    bed_settle();
    guest_req_clear(&req);
    return req.ret;
}

static const struct block_acct *acct(void)
{
    return blk_get_stats(guest_blk(guest));
}

static void replug(bool account_failed, bool account_invalid)
{
    blk_get_stats(guest_blk(guest))->ignore_failed = !account_failed;
    blk_get_stats(guest_blk(guest))->ignore_invalid = !account_invalid;
}

/* fact: block 4.4/success */
static void test_success(void **state)
{
    assert_int_equal(acct()->last_access_ns, 0);
    assert_int_equal(done(SIM_OP_WRITE, 0, 4096), 0);
    assert_int_equal(done(SIM_OP_WRITE_ZEROES, 4096, 8192), 0);
    assert_int_equal(done(SIM_OP_READ, 0, 512), 0);
    assert_int_equal(done(SIM_OP_DISCARD, 0, 1024), 0);
    assert_int_equal(done(SIM_OP_FLUSH, 0, 0), 0);
    for (unsigned op = SIM_OP_READ; op <= SIM_OP_FLUSH; op++) {
        assert_int_equal(acct()->ops[op], 1);
        assert_int_equal(acct()->failed[op] + acct()->invalid[op], 0);
    }
    assert_int_equal(acct()->bytes[SIM_OP_WRITE] + acct()->bytes[SIM_OP_WRITE_ZEROES], 12288);
    assert_int_equal(acct()->bytes[SIM_OP_READ], 512);
    assert_int_equal(acct()->bytes[SIM_OP_DISCARD], 1024);
    assert_in_range(acct()->total_ns[SIM_OP_WRITE], LATENCY_NS, 2 * LATENCY_NS);
    assert_int_equal(acct()->last_access_ns, sim_now(bed.sim));
}

/* fact: block 4.4/failed */
static void test_failed(void **state)
{
    bed_fail(SIM_OP_READ, EIO, 2);
    assert_int_equal(done(SIM_OP_READ, 0, 512), -EIO);
    int64_t time_ns = acct()->total_ns[SIM_OP_READ];
    int64_t last_ns = acct()->last_access_ns;
    assert_true(time_ns > 0);
    assert_int_equal(last_ns, sim_now(bed.sim));
    replug(false, true);
    assert_int_equal(done(SIM_OP_READ, 0, 512), -EIO);
    assert_int_equal(acct()->failed[SIM_OP_READ], 2);
    assert_int_equal(acct()->ops[SIM_OP_READ], 0);
    assert_int_equal(acct()->bytes[SIM_OP_READ], 0);
    assert_int_equal(acct()->total_ns[SIM_OP_READ], time_ns);
    assert_int_equal(acct()->last_access_ns, last_ns);
}

/* fact: block 4.4/invalid */
static void test_invalid(void **state)
{
    bed_run_until(NS_PER_MS);
    assert_int_equal(done(SIM_OP_WRITE, 2 * MiB, 512), -EIO);
    assert_int_equal(acct()->last_access_ns, NS_PER_MS);
    replug(true, false);
    bed_run_until(2 * NS_PER_MS);
    assert_int_equal(done(SIM_OP_READ, 0, 1), -EINVAL);
    assert_int_equal(acct()->last_access_ns, NS_PER_MS);
    assert_int_equal(acct()->invalid[SIM_OP_WRITE], 1);
    assert_int_equal(acct()->invalid[SIM_OP_READ], 1);
    assert_int_equal(acct()->failed[SIM_OP_READ] + acct()->failed[SIM_OP_WRITE], 0);
    assert_int_equal(acct()->total_ns[SIM_OP_READ] + acct()->total_ns[SIM_OP_WRITE], 0);
}

/* The time in the queue of the limits is time that the request took. */
static void test_throttled_time(void **state)
{
    ok("block_set_io_throttle",
       "{\"id\":\"g\",\"bps\":0,\"bps_rd\":0,\"bps_wr\":0,\"iops\":1,\"iops_rd\":0,\"iops_wr\":0}");
    assert_int_equal(done(SIM_OP_READ, 0, 512), 0);
    int64_t first_ns = acct()->total_ns[SIM_OP_READ];
    assert_int_equal(done(SIM_OP_READ, 0, 512), 0);
    assert_in_range(acct()->total_ns[SIM_OP_READ] - first_ns, 9 * NS_PER_S / 10, NS_PER_S);
}

/* --- query-blockstats ------------------------------------------------------------------------------------ */

static void stats_say(const char *args, const char *what)
{
    char *text = call("query-blockstats", args);
    if (!strstr(text, what)) {
        fail_msg("'%s' is not in %s", what, text);
    }
    free(text);
}

/* fact: block 4.4/highest */
static void test_highest(void **state)
{
    done(SIM_OP_WRITE, 8192, 4096);
    done(SIM_OP_WRITE, 0, 4096);
    bed_fail(SIM_OP_WRITE, EIO, 1);
    assert_int_equal(done(SIM_OP_WRITE, 65536, 512), -EIO);
    done(SIM_OP_DISCARD, MiB - 4096, 4096);
    stats_say("{}", "\"wr_highest_offset\":66048");
    stats_say("{\"query-nodes\":true}", "\"wr_highest_offset\":66048");
}

static void test_idle(void **state)
{
    char *text = call("query-blockstats", "{}");
    assert_null(strstr(text, "idle_time_ns"));
    free(text);
    bed_run_until(NS_PER_MS);
    done(SIM_OP_FLUSH, 0, 0);
    int64_t end_ns = sim_now(bed.sim);
    bed_run_until(end_ns + 12345);
    stats_say("{}", "\"idle_time_ns\":12345");
}

static BlockDriverState *added;

static void add_filter(void *opaque)
{
    struct qvalue *options =
        bed_json("{\"driver\":\"throttle\",\"node-name\":\"t\",\"throttle-group\":\"tg\",\"file\":"
                 "{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"s\"}}");
    added = qmp_blockdev_add_node(bed.host, options, NULL);
    qvalue_free(options);
    assert_non_null(added);
    assert_non_null(bdrv_first_child(added));
    blk_remove_bs(guest_blk(guest));
    assert_int_equal(blk_insert_bs(guest_blk(guest), added, NULL), 0);
}

static void drop_filter(void *opaque)
{
    BlockDriverState *bs = bdrv_find_node(bed.host, "s");

    blk_remove_bs(guest_blk(guest));
    assert_int_equal(blk_insert_bs(guest_blk(guest), bs, NULL), 0);
    assert_true(qmp_blockdev_del_node(bed.host, "t", NULL));
}

/* Names of nodes and the keys they stand under, in the order of the reply; names are one character. */
static void expect_nesting(const char *args, const char *expected)
{
    char *text = call("query-blockstats", args);
    char out[256] = "";

    for (const char *at = text; *at; at++) {
        static const char *const words[] = {"\"node-name\":\"", "\"parent\":{", "\"backing\":{"};
        for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
            if (strncmp(at, words[i], strlen(words[i])) == 0) {
                size_t used = strlen(out);
                const char *word = i == 0 ? at + strlen(words[0]) : i == 1 ? "parent:" : "backing:";

                snprintf(out + used, sizeof(out) - used, "%.*s%s", i == 0 ? 1 : 8, word, i == 0 ? " " : "");
            }
        }
    }
    free(text);
    assert_string_equal(out, expected);
}

static void test_nesting(void **state)
{
    ok("object-add", "{\"qom-type\":\"throttle-group\",\"id\":\"tg\"}");
    bed_on_main(add_filter);
    done(SIM_OP_WRITE, 0, 512);
    /* of a device a filter's child shows twice; of nodes only what is below */
    expect_nesting("{}", "t parent:r parent:s backing:r parent:s ");
    expect_nesting("{\"query-nodes\":true}", "r parent:s t parent:r parent:s s ");
    stats_say("{\"query-nodes\":true}", "\"wr_operations\":0");
    stats_say("{\"query-nodes\":true}", "\"account_invalid\":false,\"account_failed\":false");
    /* filters that jobs put in are not a device's */
    added->implicit = true;
    expect_nesting("{}", "r parent:s ");
    stats_say("{}", "\"wr_operations\":1");
    expect_nesting("{\"query-nodes\":true}", "r parent:s t parent:r parent:s s ");
    added->implicit = false;
    bed_on_main(drop_filter);
    ok("object-del", "{\"id\":\"tg\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/accounting/success", test_success, qmp_setup, qmp_teardown),
        T_SETUP("/accounting/failed", test_failed, qmp_setup, qmp_teardown),
        T_SETUP("/accounting/invalid", test_invalid, qmp_setup, qmp_teardown),
        T_SETUP("/accounting/throttled-time", test_throttled_time, qmp_setup, qmp_teardown),
        T_SETUP("/accounting/wr-highest-offset", test_highest, qmp_setup, qmp_teardown),
        T_SETUP("/accounting/idle", test_idle, qmp_setup, qmp_teardown),
        T_SETUP("/accounting/nesting", test_nesting, qmp_setup, qmp_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
