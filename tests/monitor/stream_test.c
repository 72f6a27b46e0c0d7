/* Protects block-stream: what it refuses and with which words, and that a refusal leaves nothing (reference/jobs.md
 * 7, 9). */
#include "tests/monitor/qmplib.h"

static void make_disk(const char *name)
{
    struct disk_config config;

    disk_config_default(&config);
    config.size_bytes = 0;
    config.capacity_bytes = 64 * MiB;
    assert_non_null(disk_new(bed.sim, name, &config, NULL));
}

static void make_image(const char *disk, const char *backing)
{
    char json[256];

    make_disk(disk);
    snprintf(json, sizeof(json),
             "{\"job-id\":\"c\",\"options\":{\"driver\":\"qcow2\",\"file\":{\"driver\":\"disk\",\"disk\":\"%s\"},"
             "\"size\":1048576%s%s%s}}",
             disk, backing ? ",\"backing-fmt\":\"qcow2\",\"backing-file\":\"" : "", backing ? backing : "",
             backing ? "\"" : "");
    ok("blockdev-create", json);
    bed_settle();
    expect("query-jobs", "{}",
           "[{\"id\":\"c\",\"type\":\"create\",\"status\":\"concluded\",\"current-progress\":1,\"total-progress\":"
           "1}]");
    ok("job-dismiss", "{\"id\":\"c\"}");
}

/* base <- mid <- top, disks b, m, t. */
static int chain_setup(void **state)
{
    qmp_setup(state);
    make_image("b", NULL);
    make_image("m", "b");
    make_image("t", "m");
    ok("blockdev-add",
       "{\"driver\":\"qcow2\",\"node-name\":\"base\",\"file\":{\"driver\":\"disk\",\"disk\":\"b\"}}");
    ok("blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"mid\",\"backing\":\"base\",\"file\":{\"driver\":"
                       "\"disk\",\"disk\":\"m\"}}");
    ok("blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"top\",\"backing\":\"mid\",\"file\":{\"driver\":"
                       "\"disk\",\"disk\":\"t\"}}");
    return 0;
}

static int chain_teardown(void **state)
{
    bed_settle();
    ok("blockdev-del", "{\"node-name\":\"top\"}");
    ok("blockdev-del", "{\"node-name\":\"mid\"}");
    ok("blockdev-del", "{\"node-name\":\"base\"}");
    return qmp_teardown(state);
}

/* fact: jobs 7/exclusive, 7/no-device, 7/base-file, 7/not-backing, 7/bottom-filter, 9/device-not-found */
static void test_end_of_chain(void **state)
{
    refused("block-stream", "{\"device\":\"top\",\"base\":\"b\",\"base-node\":\"base\"}",
            "GenericError: 'base' and 'base-node' cannot be specified at the same time");
    refused("block-stream", "{\"device\":\"top\",\"base\":\"b\",\"bottom\":\"mid\"}",
            "GenericError: 'base' and 'bottom' cannot be specified at the same time");
    refused("block-stream", "{\"device\":\"top\",\"bottom\":\"mid\",\"base-node\":\"base\"}",
            "GenericError: 'bottom' and 'base-node' cannot be specified at the same time");
    refused("block-stream", "{\"device\":\"none\"}",
            "GenericError: Cannot find device='none' nor node-name='none'");
    refused("block-stream", "{\"job-id\":\"j\",\"device\":\"top\",\"base\":\"x\"}",
            "GenericError: Can't find 'x' in the backing chain");
    refused("block-stream", "{\"job-id\":\"j\",\"device\":\"top\",\"base-node\":\"top\"}",
            "GenericError: Node 'top' is not a backing image of 'top'");
    refused("block-stream", "{\"job-id\":\"j\",\"device\":\"mid\",\"base-node\":\"top\"}",
            "GenericError: Node 'top' is not a backing image of 'mid'");
    refused("block-stream", "{\"job-id\":\"j\",\"device\":\"mid\",\"base-node\":\"s\"}",
            "GenericError: Node 's' is not a backing image of 'mid'");
    refused("block-stream", "{\"job-id\":\"j\",\"device\":\"mid\",\"bottom\":\"top\"}",
            "GenericError: Node 'top' is not in a chain starting from 'mid'");
    ok("blockdev-add", "{\"driver\":\"blkdebug\",\"node-name\":\"f\",\"image\":\"top\"}");
    refused("block-stream", "{\"job-id\":\"j\",\"device\":\"f\",\"bottom\":\"f\"}",
            "GenericError: Node 'f' is a filter, use a non-filter node as 'bottom'");
    ok("blockdev-del", "{\"node-name\":\"f\"}");
}

/* fact: jobs 7/backing-file-alone, 3/negative, 1.1/default-id */
static void test_arguments(void **state)
{
    refused("block-stream", "{\"job-id\":\"j\",\"device\":\"top\",\"backing-file\":\"b\"}",
            "GenericError: backing file specified, but streaming the entire chain");
    refused("block-stream", "{\"job-id\":\"j\",\"device\":\"top\",\"speed\":-1}",
            "GenericError: Parameter 'speed' expects a non-negative value");
    refused("block-stream", "{\"job-id\":\"j\",\"device\":\"top\",\"on-error\":\"never\"}",
            "GenericError: Parameter 'on-error' does not accept value 'never'");
    refused("block-stream", "{\"device\":\"top\"}", "GenericError: Invalid job ID ''");
    refused("block-stream", "{\"job-id\":\"j\",\"device\":\"top\",\"filter-node-name\":\"mid\"}",
            "GenericError: Duplicate nodes with node-name='mid'");
}

/* A read-only top is made writable for the job, which its medium does not allow. */
/* fact: jobs 7/read-only */
static void test_read_only_medium(void **state)
{
    ok("blockdev-add", "{\"driver\":\"disk\",\"node-name\":\"rf\",\"disk\":\"t2\",\"read-only\":true}");
    ok("blockdev-add",
       "{\"driver\":\"qcow2\",\"node-name\":\"ro\",\"backing\":\"mid\",\"file\":\"rf\",\"read-only\":"
       "true}");
    refused("block-stream", "{\"job-id\":\"j\",\"device\":\"ro\",\"base-node\":\"base\"}",
            "GenericError: Block node is read-only");
    ok("blockdev-del", "{\"node-name\":\"ro\"}");
    ok("blockdev-del", "{\"node-name\":\"rf\"}");
}

static int two_tops_setup(void **state)
{
    chain_setup(state);
    make_image("t2", "m");
    return 0;
}

/* fact: jobs 7/shared, 7/blocked, 1.1/duplicate, 9/in-use */
static void test_busy(void **state)
{
    ok("block-stream", "{\"job-id\":\"j\",\"device\":\"top\",\"base-node\":\"base\",\"speed\":1,"
                       "\"filter-node-name\":\"F\",\"auto-finalize\":false,\"auto-dismiss\":false}");
    expect("block-stream", "{\"job-id\":\"k\",\"device\":\"mid\"}",
           "GenericError: Node 'mid' is busy: block device is in use by block job: stream");
    expect("block-stream", "{\"job-id\":\"k\",\"device\":\"top\"}",
           "GenericError: Node 'top' is busy: block device is in use by block job: stream");
    expect("block-stream", "{\"job-id\":\"j\",\"device\":\"base\"}", "GenericError: Job ID 'j' already in use");
    expect("block_resize", "{\"node-name\":\"top\",\"size\":2097152}",
           "GenericError: Node 'top' is busy: block device is in use by block job: stream");
    bed_settle();
    ok("block-job-finalize", "{\"id\":\"j\"}");
    bed_settle();
    ok("block-job-dismiss", "{\"id\":\"j\"}");
}

/* By its file name, as the header or the node has it; the header then holds what the command says. */
/* fact: jobs 7/backing-string, 1.5/auto */
static void test_base_by_name(void **state)
{
    ok("block-stream", "{\"job-id\":\"j\",\"device\":\"top\",\"base\":\"b\",\"backing-file\":\"./b\"}");
    bed_settle();
    assert_ptr_equal(bdrv_cow_bs(bdrv_find_node(bed.host, "top")), bdrv_find_node(bed.host, "base"));
    assert_string_equal(bdrv_backing_filename(bdrv_find_node(bed.host, "top")), "./b");
    expect("query-jobs", "{}", "[]");
    ok("block-stream", "{\"job-id\":\"j\",\"device\":\"top\"}");
    bed_settle();
    assert_null(bdrv_cow_bs(bdrv_find_node(bed.host, "top")));
}

/* A bare protocol below: its own name, or raw when asked to hide it. */
/* fact: jobs 7/mask-protocol, 7/backing-string */
static void test_mask_protocol(void **state)
{
    ok("blockdev-add", "{\"driver\":\"disk\",\"node-name\":\"proto\",\"disk\":\"p\"}");
    ok("blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"over\",\"backing\":\"proto\",\"file\":{\"driver\":"
                       "\"disk\",\"disk\":\"o\"}}");
    ok("block-stream", "{\"job-id\":\"j\",\"device\":\"over\",\"base-node\":\"proto\"}");
    bed_settle();
    assert_string_equal(bdrv_header_backing_format(bdrv_find_node(bed.host, "over")), "disk");
    ok("block-stream",
       "{\"job-id\":\"j\",\"device\":\"over\",\"base-node\":\"proto\",\"backing-mask-protocol\":true}");
    bed_settle();
    assert_string_equal(bdrv_header_backing_format(bdrv_find_node(bed.host, "over")), "raw");
    ok("blockdev-del", "{\"node-name\":\"over\"}");
    ok("blockdev-del", "{\"node-name\":\"proto\"}");
}

static int proto_setup(void **state)
{
    chain_setup(state);
    make_disk("p");
    make_image("o", "p");
    return 0;
}

/* Nobody may write a node that has been given up. */
static void test_inactive(void **state)
{
    ok("blockdev-set-active", "{\"active\":false}");
    char *text = call("block-stream", "{\"job-id\":\"j\",\"device\":\"top\",\"base-node\":\"base\"}");
    assert_non_null(strstr(text, "GenericError: "));
    free(text);
    ok("blockdev-set-active", "{\"active\":true}");
    expect("query-jobs", "{}", "[]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/block-stream/end-of-chain", test_end_of_chain, chain_setup, chain_teardown, NULL},
        {"/block-stream/arguments", test_arguments, chain_setup, chain_teardown, NULL},
        {"/block-stream/read-only-medium", test_read_only_medium, two_tops_setup, chain_teardown, NULL},
        {"/block-stream/busy", test_busy, chain_setup, chain_teardown, NULL},
        {"/block-stream/base-by-name", test_base_by_name, chain_setup, chain_teardown, NULL},
        {"/block-stream/mask-protocol", test_mask_protocol, proto_setup, chain_teardown, NULL},
        {"/block-stream/inactive", test_inactive, chain_setup, chain_teardown, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
