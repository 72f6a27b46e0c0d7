/* Protects the commands: classes and texts of errors, shapes of queries; a refusal leaves nothing behind. */
#include "tests/monitor/qmplib.h"

static void test_table(void **state)
{
    const struct qmp_command *command;
    size_t count = 0;

    for (; (command = qmp_command_at(count)); count++) {
        assert_non_null(command->fn);
        assert_non_null(command->doc);
        assert_ptr_equal(qmp_find_command(command->name), command); /* so no name stands twice */
        for (const struct qmp_arg *arg = command->args; arg->name; arg++) {
            assert_non_null(arg->doc);
            assert_int_equal(arg->choices != NULL, arg->type == QMP_ENUM);
            assert_true(arg->optional || !arg->def);
        }
    }
    assert_true(count > 30);
    assert_null(qmp_find_command("eject"));
}

static void test_vm(void **state)
{
    expect("query-status", "{}", "{\"running\":true,\"status\":\"running\"}");
    ok("stop", "{}");
    expect("query-status", "{}", "{\"running\":false,\"status\":\"paused\"}");
    refused("stop", "{\"now\":true}", "GenericError: Parameter 'now' is unexpected");
    ok("cont", "{}");
    bed_expect("running>paused STOP paused>running RESUME ");
}

#define NODE_INFO(bitmaps) \
    "\"file\":\"d\",\"node-name\":\"s\",\"ro\":false,\"drv\":\"disk\",\"active\":true,\"backing_file_depth\":0," \
    "\"encrypted\":false,\"cache\":{\"writeback\":true,\"direct\":false,\"no-flush\":false}," \
    "\"detect_zeroes\":\"off\",\"bps\":0,\"bps_rd\":0,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0," \
    "\"write_threshold\":0," bitmaps "\"image\":{\"filename\":\"d\",\"format\":\"disk\",\"virtual-size\":1048576," \
    "\"actual-size\":0,\"dirty-flag\":false}"

static void test_query_block(void **state)
{
    expect("query-block", "{}",
           "[{\"device\":\"g\",\"qdev\":\"g\",\"removable\":false,\"locked\":false,\"io-status\":\"ok\","
           "\"inserted\":{" NODE_INFO("") "}}]");
    ok("block-dirty-bitmap-add", "{\"node\":\"g\",\"name\":\"b\"}");
    expect("query-named-block-nodes", "{}",
           "[{" NODE_INFO("\"dirty-bitmaps\":[{\"name\":\"b\",\"count\":0,\"granularity\":65536,"
                          "\"recording\":true,\"busy\":false,\"persistent\":false}],") "}]");
    ok("block-dirty-bitmap-remove", "{\"node\":\"g\",\"name\":\"b\"}");
}

static void test_blockstats(void **state)
{
    write_bytes(4096, 4096);
    expect(
        "query-blockstats", "{}",
        "[{\"device\":\"g\",\"qdev\":\"g\",\"node-name\":\"s\",\"stats\":{\"rd_bytes\":0,\"wr_bytes\":4096,"
        "\"unmap_bytes\":0,\"rd_operations\":0,\"wr_operations\":1,\"flush_operations\":0,\"unmap_operations\":0,"
        "\"rd_total_time_ns\":0,\"wr_total_time_ns\":51000,\"flush_total_time_ns\":0,\"unmap_total_time_ns\":0,"
        "\"wr_highest_offset\":8192,\"rd_merged\":0,\"wr_merged\":0,\"unmap_merged\":0,\"idle_time_ns\":0,"
        "\"failed_rd_operations\":0,\"failed_wr_operations\":0,"
        "\"failed_flush_operations\":0,\"failed_unmap_operations\":0,\"invalid_rd_operations\":0,"
        "\"invalid_wr_operations\":0,\"invalid_flush_operations\":0,\"invalid_unmap_operations\":0,"
        "\"account_invalid\":true,\"account_failed\":true,\"timed_stats\":[]}}]");
}

static void test_nodes(void **state)
{
    refused("blockdev-add", "{\"node-name\":\"t\"}", "GenericError: Parameter 'driver' is missing");
    char *text = call("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"s\"}");
    assert_non_null(strstr(text, "GenericError: "));
    free(text);
    ok("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"t\",\"size\":\"1M\"}");
    ok("blockdev-del", "{\"node-name\":\"t\"}");
    uint64_t bytes = sim_arena_live_bytes(bed.host->arena);
    text = call("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"t\",\"colour\":\"red\"}");
    assert_non_null(strstr(text, "GenericError: "));
    free(text);
    text = call("blockdev-del", "{\"node-name\":\"s\"}");
    assert_non_null(strstr(text, "GenericError: "));
    free(text);
    text = call("blockdev-del", "{\"node-name\":\"u\"}");
    assert_non_null(strstr(text, "GenericError: "));
    free(text);
    bed_settle();
    assert_int_equal(sim_arena_live_bytes(bed.host->arena), bytes);
}

static void test_resize(void **state)
{
    ok("block_resize", "{\"device\":\"g\",\"size\":\"2M\"}");
    assert_int_equal(disk_length(bed.disk), 2 * MiB);
    ok("block_resize", "{\"node-name\":\"s\",\"size\":1048576}");
    assert_int_equal(disk_length(bed.disk), MiB);
    refused("block_resize", "{\"device\":\"g\",\"size\":-1}", "GenericError: Parameter 'size' expects a >0 size");
    refused("block_resize", "{\"device\":\"x\",\"size\":1}",
            "GenericError: Cannot find device='x' nor node-name=''");
    bed_fail(SIM_OP_TRUNCATE, EIO, 1);
    uint64_t bytes = sim_arena_live_bytes(bed.host->arena);
    char *text = call("block_resize", "{\"device\":\"g\",\"size\":4096}");
    assert_non_null(strstr(text, "GenericError: "));
    free(text);
    assert_int_equal(sim_arena_live_bytes(bed.host->arena), bytes);
    assert_int_equal(disk_length(bed.disk), MiB);
}

static void on_threshold(void *opaque, const struct sim_record *r)
{
    bed_say("OVER(%d,%d) ", (int)r->field[1], (int)r->field[2]);
}

/* fact: block 9/threshold, 4.1/event, 4.1/once */
static void test_threshold(void **state)
{
    sim_subscribe(bed.sim, EV_BLOCK_WRITE_THRESHOLD, on_threshold, NULL);
    ok("block-set-write-threshold", "{\"node-name\":\"s\",\"write-threshold\":\"64k\"}");
    write_bytes(61440, 4096); /* up to it, not beyond */
    write_bytes(61440, 8192);
    write_bytes(65536, 8192); /* once */
    bed_expect("1:0 OVER(4096,65536) 2:0 3:0 ");
    refused("block-set-write-threshold", "{\"node-name\":\"g\",\"write-threshold\":0}",
            "GenericError: Device 'g' not found");
}

/* fact: jobs 9/not-active, 9/job-not-found */
static void test_unknown_jobs(void **state)
{
    static const char *const by_id[] = {"job-pause",    "job-resume",   "job-cancel",
                                        "job-complete", "job-finalize", "job-dismiss"};
    static const char *const by_device[] = {"block-job-pause", "block-job-resume", "block-job-cancel",
                                            "block-job-complete"};
    static const char *const block_by_id[] = {"block-job-finalize", "block-job-dismiss"};

    for (size_t i = 0; i < ARRAY_SIZE(by_id); i++) {
        refused(by_id[i], "{\"id\":\"m\"}", "GenericError: Job not found");
    }
    for (size_t i = 0; i < ARRAY_SIZE(by_device); i++) {
        refused(by_device[i], "{\"device\":\"m\"}", "DeviceNotActive: Block job 'm' not found");
    }
    for (size_t i = 0; i < ARRAY_SIZE(block_by_id); i++) {
        refused(block_by_id[i], "{\"id\":\"m\"}", "DeviceNotActive: Block job 'm' not found");
    }
    refused("block-job-set-speed", "{\"device\":\"m\",\"speed\":1}", "DeviceNotActive: Block job 'm' not found");
    refused("block-job-change", "{\"id\":\"m\",\"type\":\"mirror\",\"copy-mode\":\"background\"}",
            "DeviceNotActive: Block job 'm' not found");
    expect("query-jobs", "{}", "[]");
    expect("query-block-jobs", "{}", "[]");
}

/* fact: jobs 4.2/root-node, 4.2/target-exists, 4.2/sync-refused, 4.2/granularity-range, 4.2/buf-size-negative,
 * 9/device-not-found, 9/root-node, 3/negative */
static void test_mirror_errors(void **state)
{
    ok("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"t\",\"size\":1048576}");
    ok("blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"t\"}");
    refused("blockdev-mirror", "{\"device\":\"x\",\"target\":\"t\",\"sync\":\"full\"}",
            "GenericError: Cannot find device='x' nor node-name='x'");
    refused("blockdev-mirror", "{\"device\":\"g\",\"target\":\"x\",\"sync\":\"full\"}",
            "GenericError: Cannot find device='x' nor node-name='x'");
    refused("blockdev-mirror", "{\"device\":\"t\",\"target\":\"s\",\"sync\":\"full\"}",
            "GenericError: Need a root block node");
    refused("blockdev-mirror", "{\"device\":\"g\",\"target\":\"r\",\"sync\":\"half\"}",
            "GenericError: Parameter 'sync' does not accept value 'half'");
    refused("blockdev-mirror", "{\"device\":\"g\",\"target\":\"r\"}", "GenericError: Parameter 'sync' is missing");
    refused("blockdev-mirror", "{\"device\":\"g\",\"target\":\"r\",\"sync\":\"incremental\"}",
            "GenericError: Sync mode 'incremental' not supported");
    refused("blockdev-mirror", "{\"device\":\"g\",\"target\":\"r\",\"sync\":\"full\",\"granularity\":1}",
            "GenericError: Parameter 'granularity' expects a value in range [512B, 64MB]");
    refused("blockdev-mirror", "{\"device\":\"g\",\"target\":\"r\",\"sync\":\"full\",\"granularity\":3000}",
            "GenericError: Parameter 'granularity' expects a power of 2");
    refused("blockdev-mirror", "{\"device\":\"g\",\"target\":\"r\",\"sync\":\"full\",\"buf-size\":-1}",
            "GenericError: Invalid parameter 'buf-size'");
    refused("blockdev-mirror", "{\"device\":\"g\",\"target\":\"s\",\"sync\":\"full\"}",
            "GenericError: Can't mirror node into itself");
    refused("blockdev-mirror", "{\"device\":\"g\",\"target\":\"r\",\"sync\":\"full\",\"job-id\":\"1\"}",
            "GenericError: Invalid job ID '1'");
    refused("blockdev-mirror", "{\"device\":\"g\",\"target\":\"r\",\"sync\":\"full\",\"speed\":-1}",
            "GenericError: Parameter 'speed' expects a non-negative value");
    ok("blockdev-del", "{\"node-name\":\"r\"}");
    ok("blockdev-del", "{\"node-name\":\"t\"}");
}

static void on_job_event(void *opaque, const struct sim_record *r)
{
    switch ((int)r->kind) {
    case EV_BLOCK_JOB_READY:
        bed_say("READY ");
        break;
    case EV_BLOCK_JOB_COMPLETED:
        bed_say("COMPLETED ");
        break;
    default:
        break;
    }
}

static bool trail_has(void *opaque)
{
    return strstr(bed.trail, opaque) != NULL;
}

static void wait_for(const char *word)
{
    char copy[32];

    snprintf(copy, sizeof(copy), "%s ", word);
    assert_int_equal(sim_run_idle(bed.sim, trail_has, copy, sim_now(bed.sim) + 60 * NS_PER_S), SIM_STOP_COND);
    bed.trail[0] = '\0';
}

static bool says(const char *command, const char *json, const char *text)
{
    char *reply = call(command, json);
    bool found = strstr(reply, text) != NULL;

    free(reply);
    return found;
}

/* fact: block 9/query-image, 9/query-nodes */
static void test_query_image(void **state)
{
    ok("blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"r\",\"read-only\":true,\"file\":\"s\"}");
    struct test_call c;
    call_begin(&c, "query-named-block-nodes", "{}");
    bed_settle();
    const struct qvalue *info = c.c.reply->seq.items[0];
    assert_string_equal(qdict_get(info, "node-name")->str.bytes, "r"); /* newest first */
    assert_string_equal(qdict_get(info, "drv")->str.bytes, "raw");
    assert_true(qdict_get(info, "ro")->boolean);
    assert_true(qdict_get(info, "active")->boolean);
    const struct qvalue *image = qdict_get(info, "image");
    assert_string_equal(qdict_get(image, "filename")->str.bytes, "d");
    assert_string_equal(qdict_get(image, "format")->str.bytes, "raw");
    assert_int_equal(qdict_get(image, "virtual-size")->integer,
                     bdrv_getlength_cached(bdrv_find_node(bed.host, "s")));
    assert_null(qdict_get(image, "cluster-size")); /* raw has none */
    assert_null(qdict_get(image, "backing-filename"));
    free(call_end(&c));
    ok("blockdev-del", "{\"node-name\":\"r\"}");
}

/* The filter of a job that has no name of its own: clients see through it, unless they ask for all nodes.
 * fact: block 1.14/hidden, 1.14/filename */
static void test_implicit(void **state)
{
    ok("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"t\",\"size\":1048576}");
    sim_subscribe_all(bed.sim, on_job_event, NULL);
    ok("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"g\",\"target\":\"t\",\"sync\":\"full\"}");
    wait_for("READY");
    BlockDriverState *filter = blk_bs(guest_blk(guest));
    assert_true(bdrv_is_implicit(filter));
    assert_string_equal(bdrv_filename(filter), bdrv_filename(bdrv_find_node(bed.host, "s")));
    assert_true(says("query-block", "{}", "\"node-name\":\"s\""));
    assert_false(says("query-block", "{}", bdrv_get_node_name(filter)));
    assert_false(says("query-blockstats", "{}", bdrv_get_node_name(filter)));
    assert_true(says("query-named-block-nodes", "{}", bdrv_get_node_name(filter)));
    ok("block-job-cancel", "{\"device\":\"m\",\"force\":true}");
    bed_settle();
    expect("query-jobs", "{}", "[]");
    ok("blockdev-del", "{\"node-name\":\"t\"}");
}

/* A job writes its target and sits above its source: neither may belong to somebody else.
 * fact: block 12/inactive-jobs */
static void test_inactive_mirror(void **state)
{
    ok("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"t\",\"size\":1048576,\"active\":false}");
    ok("blockdev-add", "{\"driver\":\"null-co\",\"node-name\":\"u\",\"size\":1048576}");
    assert_true(says("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"g\",\"target\":\"t\",\"sync\":\"full\"}",
                     "inactive"));
    assert_true(says("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"t\",\"target\":\"u\",\"sync\":\"full\"}",
                     "nactive"));
    expect("query-jobs", "{}", "[]");
    assert_ptr_equal(blk_bs(guest_blk(guest)), bdrv_find_node(bed.host, "s"));
    ok("blockdev-del", "{\"node-name\":\"t\"}");
    ok("blockdev-del", "{\"node-name\":\"u\"}");
}

/* A live mirror by commands alone: the device ends on the target, which has the guest's data. */
/* fact: jobs 1.3/families-mix, 1.5/auto, 1.3/resume-unpaused */
static void test_mirror(void **state)
{
    struct disk_config config;
    struct payload content;
    uint8_t byte = 0;

    disk_config_default(&config);
    config.size_bytes = MiB;
    struct disk *target = disk_new(bed.sim, "e", &config, NULL);
    assert_non_null(target);
    sim_subscribe_all(bed.sim, on_job_event, NULL);
    write_bytes(65536, 4096);
    ok("blockdev-add", "{\"driver\":\"disk\",\"node-name\":\"t\",\"disk\":\"e\"}");
    ok("blockdev-mirror", "{\"job-id\":\"m\",\"device\":\"g\",\"target\":\"t\",\"sync\":\"full\"}");
    wait_for("READY");
    expect("block-job-dismiss", "{\"id\":\"m\"}",
           "GenericError: Job 'm' in state 'ready' cannot accept command verb 'dismiss'");
    write_bytes(131072, 4096);
    expect("block-job-set-speed", "{\"device\":\"m\",\"speed\":-1}",
           "GenericError: Parameter 'speed' expects a non-negative value");
    ok("block-job-pause", "{\"device\":\"m\"}");
    expect("job-pause", "{\"id\":\"m\"}", "GenericError: Job is already paused");
    expect("block-job-cancel", "{\"device\":\"m\"}",
           "GenericError: The block job for device 'm' is currently paused");
    ok("job-resume", "{\"id\":\"m\"}");
    expect("block-job-resume", "{\"device\":\"m\"}", "GenericError: Can't resume a job that was not paused");
    ok("block-job-complete", "{\"device\":\"m\"}");
    wait_for("COMPLETED");
    bed_settle();
    expect("query-jobs", "{}", "[]");
    assert_ptr_equal(blk_bs(guest_blk(guest)), bdrv_find_node(bed.host, "t"));
    payload_init(bed.sim, &content);
    disk_peek(target, 131072, 4096, &content);
    payload_read_bytes(&content, 4095, &byte, 1);
    assert_int_equal(byte, 0x33);
    payload_clear(&content);
    payload_init(bed.sim, &content);
    disk_peek(target, 65536, 4096, &content);
    payload_read_bytes(&content, 0, &byte, 1);
    assert_int_equal(byte, 0x33);
    payload_clear(&content);
    bed.also_del = "t";
}

/* Commands of a coroutine wait their turn, and come back in it. */
static struct qmp_call co_call;
static bool co_ok;
static void call_from_coroutine(void *opaque)
{
    co_ok = monitor_co_call(bed.host, &co_call);
    bed_say("back ");
}

static void test_from_coroutine(void **state)
{
    co_call = (struct qmp_call){.command = qmp_find_command("stop")};
    coroutine_start(coroutine_create(bed.sim, bed.host, "test", call_from_coroutine, NULL));
    bed_settle();
    bed_expect("running>paused STOP back ");
    assert_true(co_ok);
    qvalue_free(co_call.reply);
    co_call = (struct qmp_call){.command = qmp_find_command("job-pause")};
    coroutine_start(coroutine_create(bed.sim, bed.host, "test", call_from_coroutine, NULL));
    bed_settle();
    assert_false(co_ok);
    assert_string_equal(error_get_pretty(co_call.err), "Parameter 'id' is missing");
    error_free(co_call.err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/monitor/commands/table", test_table, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/vm", test_vm, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/from-coroutine", test_from_coroutine, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/query-block", test_query_block, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/query-blockstats", test_blockstats, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/nodes", test_nodes, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/resize", test_resize, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/write-threshold", test_threshold, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/job/unknown", test_unknown_jobs, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/mirror/errors", test_mirror_errors, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/query-image", test_query_image, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/mirror/implicit", test_implicit, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/mirror/inactive", test_inactive_mirror, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/commands/mirror/live", test_mirror, qmp_setup, qmp_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
