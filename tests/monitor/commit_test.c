/* Protects block-commit: which commit it comes to, and what it refuses, in which order and with which texts
 * (reference/jobs.md 6, 9). */
#include "tests/monitor/qmplib.h"

/* Guest g is on "act", over "low", over "mid", over "s" (disk "d"); files are named after the nodes. */

static BlockDriverState *node(const char *name)
{
    BlockDriverState *bs = bdrv_find_node(bed.host, name);

    assert_non_null(bs);
    return bs;
}

static int chain_setup(void **state)
{
    qmp_setup(state);
    ok("blockdev-snapshot-sync", "{\"node-name\":\"s\",\"snapshot-file\":\"mid\",\"snapshot-node-name\":\"mid\"}");
    write_bytes(0, 65536);
    ok("blockdev-snapshot-sync",
       "{\"node-name\":\"mid\",\"snapshot-file\":\"low\",\"snapshot-node-name\":\"low\"}");
    write_bytes(131072, 65536);
    ok("blockdev-snapshot-sync",
       "{\"node-name\":\"low\",\"snapshot-file\":\"act\",\"snapshot-node-name\":\"act\"}");
    return 0;
}

/* fact: jobs 6/device-first, 6/exclusive, 6/top-not-in-chain, 6/base-not-in-chain, 6/itself,
 * 6/active-backing-file, 9/root-node, 9/device-not-found, 1.1/default-id */
static void test_refusals(void **state)
{
    static const struct {
        const char *args;
        const char *text;
    } bad[] = {
        /* before anything else: clients probe with it */
        {"{\"device\":\"x\",\"top\":\"a\",\"top-node\":\"b\"}", "DeviceNotFound: Device 'x' not found"},
        {"{\"device\":\"low\"}", "GenericError: Need a root block node"},
        {"{\"device\":\"g\",\"top\":\"a\",\"top-node\":\"b\",\"base-node\":\"x\"}",
         "GenericError: 'top-node' and 'top' are mutually exclusive"},
        {"{\"device\":\"g\",\"top-node\":\"x\",\"base-node\":\"y\"}",
         "GenericError: Cannot find device='' nor node-name='x'"},
        {"{\"device\":\"g\",\"top-node\":\"other\"}", "GenericError: 'other' is not in this backing file chain"},
        {"{\"device\":\"g\",\"top\":\"x\",\"base\":\"y\"}", "GenericError: Top image file x not found"},
        {"{\"device\":\"g\",\"base\":\"a\",\"base-node\":\"b\"}",
         "GenericError: 'base-node' and 'base' are mutually exclusive"},
        {"{\"device\":\"g\",\"base-node\":\"x\"}", "GenericError: Cannot find device='' nor node-name='x'"},
        {"{\"device\":\"g\",\"top-node\":\"mid\",\"base-node\":\"low\"}",
         "GenericError: 'low' is not in this backing file chain"},
        {"{\"device\":\"g\",\"base\":\"x\"}", "GenericError: Can't find 'x' in the backing chain"},
        /* files are searched strictly below top, nodes are not */
        {"{\"device\":\"g\",\"top\":\"mid\",\"base\":\"mid\"}",
         "GenericError: Can't find 'mid' in the backing chain"},
        {"{\"device\":\"g\",\"top-node\":\"mid\",\"base-node\":\"mid\"}",
         "GenericError: cannot commit an image into itself"},
        {"{\"device\":\"g\",\"top-node\":\"s\"}", "GenericError: cannot commit an image into itself"},
        {"{\"device\":\"g\",\"backing-file\":\"x\"}",
         "GenericError: 'backing-file' specified, but 'top' is the active layer"},
        {"{\"device\":\"g\",\"top-node\":\"low\",\"speed\":-1}",
         "GenericError: Parameter 'speed' expects a non-negative value"},
        {"{\"device\":\"act\",\"job-id\":\"\"}", "GenericError: Invalid job ID ''"},
    };

    ok("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"other\"}");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        expect("block-commit", bad[i].args, bad[i].text); /* a node that was reopened keeps the options of that */
        refused("block-commit", bad[i].args, bad[i].text);
        assert_true(bdrv_is_read_only(node("mid")));
        assert_ptr_equal(bdrv_cow_bs(node("act")), node("low"));
    }
    ok("blockdev-del", "{\"node-name\":\"other\"}");
}

/* --- blockers, one after the other ----------------------------------------------------------------------- */

static Error *reason;

static void blocked(const char *name, enum bdrv_op op, const char *args, const char *text)
{
    bdrv_op_block(node(name), op, reason);
    refused("block-commit", args, text);
    bdrv_op_unblock(node(name), op, reason);
}

/* fact: jobs 6/blocked, 6/overlay-blocked */
static void test_blockers(void **state)
{
    const char *args = "{\"device\":\"g\",\"top-node\":\"mid\",\"base-node\":\"s\"}";

    error_setg(&reason, "because");
    blocked("act", BLOCK_OP_COMMIT_SOURCE, "{\"device\":\"g\",\"top-node\":\"x\"}",
            "GenericError: Node 'act' is busy: because");
    blocked("mid", BLOCK_OP_COMMIT_TARGET, args, "GenericError: Node 'mid' is busy: because");
    blocked("s", BLOCK_OP_COMMIT_TARGET, args, "GenericError: Node 's' is busy: because");
    blocked("low", BLOCK_OP_COMMIT_TARGET, args, "GenericError: Node 'low' is busy: because"); /* the overlay */
    error_free(reason);
    reason = NULL;
}

/* fact: jobs 6/chain-busy, 9/in-use */
static void test_second(void **state)
{
    ok("block-commit",
       "{\"device\":\"g\",\"job-id\":\"c\",\"top-node\":\"low\",\"base-node\":\"mid\",\"speed\":1}");
    expect("block-commit", "{\"device\":\"g\",\"job-id\":\"c2\"}",
           "GenericError: Node 'act' is busy: block device is in use by block job: commit");
    ok("job-cancel", "{\"id\":\"c\"}");
    bed_settle();
    assert_ptr_equal(bdrv_cow_bs(node("act")), node("low"));
}

/* A stream whose lowest link would be the filter's.
 * fact: jobs 7/frozen-overlap */
static void test_stream_over_filter(void **state)
{
    ok("block-commit", "{\"device\":\"g\",\"job-id\":\"c\",\"top-node\":\"mid\",\"base-node\":\"s\",\"speed\":1,"
                       "\"filter-node-name\":\"F\"}");
    expect("block-stream", "{\"job-id\":\"j\",\"device\":\"low\",\"base-node\":\"mid\"}",
           "GenericError: Cannot freeze 'backing' link to 'F'");
    ok("job-cancel", "{\"id\":\"c\"}");
    bed_settle();
}

/* --- what it comes to ------------------------------------------------------------------------------------ */

/* By file names, the header as given. */
/* fact: jobs 6/which, 6/backing-file */
static void test_intermediate(void **state)
{
    ok("block-commit", "{\"device\":\"g\",\"top\":\"low\",\"base\":\"mid\",\"backing-file\":\"x/mid\"}");
    char *text = call("query-block-jobs", "{}");
    assert_non_null(strstr(text, "\"device\":\"g\""));
    assert_non_null(strstr(text, "\"type\":\"commit\""));
    assert_null(strstr(text, "actively-synced"));
    free(text);
    bed_settle();
    assert_ptr_equal(bdrv_cow_bs(node("act")), node("mid"));
    assert_null(bdrv_find_node(bed.host, "low"));
    assert_string_equal(bdrv_backing_filename(node("act")), "x/mid");
}

/* A bare disk below: the header says so, or, masked, raw. */
/* fact: jobs 6/backing-format */
static void test_no_mask(void **state)
{
    ok("block-commit", "{\"device\":\"g\",\"top-node\":\"mid\",\"base-node\":\"s\",\"job-id\":\"a\"}");
    bed_settle();
    assert_string_equal(bdrv_header_backing_format(node("low")), "disk");
    assert_string_equal(bdrv_backing_filename(node("low")), "d");
}

/* fact: jobs 6/backing-format */
static void test_mask_protocol(void **state)
{
    ok("block-commit", "{\"device\":\"g\",\"top-node\":\"mid\",\"backing-mask-protocol\":true}");
    bed_settle();
    assert_string_equal(bdrv_header_backing_format(node("low")), "raw");
    assert_string_equal(bdrv_backing_filename(node("low")), "d");
}

/* Nothing said: the whole chain, after the guest's device, into the lowest. */
/* fact: jobs 6/which, 6/defaults, 4.6/change-type, 4.9/drop-out, 1.1/types, seed/3fc4b10 */
static void test_active(void **state)
{
    ok("block-commit", "{\"device\":\"g\"}");
    bed_settle();
    char *text = call("query-block-jobs", "{}");
    assert_non_null(strstr(text, "\"device\":\"g\""));
    assert_non_null(strstr(text, "\"type\":\"commit\""));
    assert_non_null(strstr(text, "\"ready\":true"));
    assert_null(strstr(text, "actively-synced"));
    free(text);
    expect("block-job-change", "{\"id\":\"g\",\"type\":\"commit\",\"copy-mode\":\"write-blocking\"}",
           "GenericError: Job type does not support change");
    ok("block-job-complete", "{\"device\":\"g\"}");
    bed_settle();
    assert_ptr_equal(blk_bs(blk_by_name(bed.host, "g")), node("s"));
    assert_null(bdrv_find_node(bed.host, "act"));
    write_bytes(0, 512);
}

#define TEST(name, fn) \
    { \
        name, fn, chain_setup, qmp_teardown, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST("/block-commit/refusals", test_refusals),
        TEST("/block-commit/blockers", test_blockers),
        TEST("/block-commit/stream-over-filter", test_stream_over_filter),
        TEST("/block-commit/second", test_second),
        TEST("/block-commit/intermediate", test_intermediate),
        TEST("/block-commit/no-mask", test_no_mask),
        TEST("/block-commit/mask-protocol", test_mask_protocol),
        TEST("/block-commit/active", test_active),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
