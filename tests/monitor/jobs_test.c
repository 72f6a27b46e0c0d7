/* Protects what a client sees of jobs: the fields of their events, the entries of the two queries, what commands
 * take for granted (reference/jobs.md 1.7, 1.8, 1.9, 9). */
#include "tests/monitor/qmplib.h"

#include "jobs/blockjob.h"

/* Guest g is on "s" (disk "d", 1 MiB); "t" is a node of the same length over disk "e". */
static struct disk *target_disk;
static char events[4096];

static void make_disk(void)
{
    struct disk_config config;

    disk_config_default(&config);
    config.size_bytes = MiB;
    target_disk = disk_new(bed.sim, "e", &config, NULL);
    assert_non_null(target_disk);
}

/* What QMP sends, without number, time and host: "NAME{data}", a line an event. */
static void on_event(void *opaque, const struct sim_record *r)
{
    char json[512];
    size_t used = strlen(events);

    if (r->kind < EV_JOB_STATUS_CHANGE || r->kind > EV_BLOCK_JOB_ERROR) {
        return;
    }
    sim_record_json(bed.sim, r, json, sizeof(json));
    const char *data = strstr(json, "\"data\":");
    assert_non_null(data);
    data += strlen("\"data\":");
    snprintf(events + used, sizeof(events) - used, "%s%.*s\n", sim_event_desc(r->kind)->qmp, (int)strlen(data) - 1,
             data);
}

static int jobs_setup(void **state)
{
    qmp_setup(state);
    make_disk();
    ok("blockdev-add", "{\"driver\":\"disk\",\"node-name\":\"t\",\"disk\":\"e\"}");
    sim_subscribe_all(bed.sim, on_event, NULL);
    events[0] = '\0';
    return 0;
}

static int jobs_teardown(void **state)
{
    bed_settle();
    expect("query-jobs", "{}", "[]");
    if (blk_bs(guest_blk(guest)) == bdrv_find_node(bed.host, "s")) {
        bed.also_del = "t";
    }
    return qmp_teardown(state);
}

static void sent(const char *expected)
{
    assert_string_equal(events, expected);
    events[0] = '\0';
}

static bool says(const char *command, const char *text)
{
    char *reply = call(command, "{}");
    bool found = strstr(reply, text) != NULL;

    free(reply);
    return found;
}

#define MIRROR(more) "{\"job-id\":\"m\",\"device\":\"g\",\"target\":\"t\",\"sync\":\"full\"" more "}"
#define STATUS(id, status) "JOB_STATUS_CHANGE{\"id\":\"" id "\",\"status\":\"" status "\"}\n"
#define STARTED(id) STATUS(id, "created") STATUS(id, "running")
#define ENDED(id) STATUS(id, "concluded") STATUS(id, "null")
#define FIELDS(type, len, offset, speed) \
    "\"type\":\"" type "\",\"device\":\"m\",\"len\":" len ",\"offset\":" offset ",\"speed\":" speed

/* --- events ---------------------------------------------------------------------------------------------- */

/* fact: jobs 1.8/status-change, 1.8/fields, 1.8/pending, 1.8/ready, 1.8/success, 1.8/error-field, 1.7/names,
 *       1.7/equal-at-end, seed/bcada37 */
static void test_fields(void **state)
{
    write_bytes(0, 65536);
    ok("blockdev-mirror", MIRROR(",\"speed\":1048576,\"auto-finalize\":false"));
    bed_settle();
    sent(STARTED("m")
             STATUS("m", "ready") "BLOCK_JOB_READY{" FIELDS("mirror", "1048576", "1048576", "1048576") "}\n");
    ok("block-job-set-speed", "{\"device\":\"m\",\"speed\":0}");
    ok("block-job-cancel", "{\"device\":\"m\"}");
    bed_settle();
    sent(STATUS("m", "waiting") STATUS("m", "pending") "BLOCK_JOB_PENDING{\"type\":\"mirror\",\"id\":\"m\"}\n");
    ok("block-job-finalize", "{\"id\":\"m\"}");
    bed_settle();
    sent("BLOCK_JOB_COMPLETED{" FIELDS("mirror", "1048576", "1048576", "0") "}\n" ENDED("m"));
}

/* fact: jobs 1.8/fields, 1.8/cancel, 1.6/job-cancel */
static void test_cancelled(void **state)
{
    ok("blockdev-mirror", MIRROR(""));
    bed_settle();
    events[0] = '\0';
    ok("job-cancel", "{\"id\":\"m\"}");
    bed_settle();
    sent(STATUS("m", "aborting") "BLOCK_JOB_CANCELLED{" FIELDS("mirror", "1048576", "1048576",
                                                               "0") "}\n" ENDED("m"));
}

/* complete in standby waits for the resume; force comes first.
 * fact: jobs 1.6/complete-then-force */
static void test_complete_then_force(void **state)
{
    ok("blockdev-mirror", MIRROR(""));
    bed_settle();
    ok("block-job-pause", "{\"device\":\"m\"}");
    bed_settle();
    ok("block-job-complete", "{\"device\":\"m\"}");
    events[0] = '\0';
    ok("block-job-cancel", "{\"device\":\"m\",\"force\":true}");
    bed_settle();
    sent(STATUS("m", "ready") STATUS("m", "aborting") "BLOCK_JOB_CANCELLED{" FIELDS("mirror", "1048576", "1048576",
                                                                                    "0") "}\n" ENDED("m"));
    assert_ptr_equal(blk_bs(guest_blk(guest)), bdrv_find_node(bed.host, "s"));
}

static char at_aborting[256];

static void look_at_aborting(void *opaque, const struct sim_record *r)
{
    if (strcmp(sim_record_str(r, 1), "aborting") == 0) {
        struct qvalue *entry = job_query(job_find(bed.host, "m"));
        const struct qvalue *error = qdict_get(entry, "error");

        assert_non_null(error);
        snprintf(at_aborting, sizeof(at_aborting), "%s", error->str.bytes);
        qvalue_free(entry);
    }
}

/* fact: jobs 1.8/failure, 1.8/error-event, 1.8/error-field, 1.8/fields, 1.7/failed-ops, 2/default */
static void test_failed(void **state)
{
    sim_subscribe(bed.sim, EV_JOB_STATUS_CHANGE, look_at_aborting, NULL);
    write_bytes(0, 65536);
    bed_fail(SIM_OP_READ, EIO, UINT32_MAX);
    ok("blockdev-mirror", MIRROR(""));
    bed_settle();
    sent(STARTED("m") "BLOCK_JOB_ERROR{\"device\":\"m\",\"operation\":\"read\",\"action\":\"report\"}\n" STATUS(
        "m", "aborting") "BLOCK_JOB_COMPLETED{" FIELDS("mirror", "1048576", "983040",
                                                       "0") ",\"error\":\"Input/output "
                                                            "error\"}\n" ENDED("m"));
    assert_string_equal(at_aborting, "Input/output error");
    sim_unsubscribe(bed.sim, look_at_aborting, NULL);
}

/* The old family knows block jobs alone, and its events are theirs.
 * fact: jobs 1.1/block-jobs, 1.1/newest-first, 1.9/query-jobs */
static void test_plain_job(void **state)
{
    ok("blockdev-create", "{\"job-id\":\"c\",\"options\":{\"driver\":\"raw\",\"size\":4096,\"file\":\"t\"}}");
    bed_settle();
    assert_null(strstr(events, "BLOCK_JOB"));
    expect("block-job-dismiss", "{\"id\":\"c\"}", "DeviceNotActive: Block job 'c' not found");
    expect("block-job-cancel", "{\"device\":\"c\"}", "DeviceNotActive: Block job 'c' not found");
    ok("block-stream", "{\"job-id\":\"b\",\"device\":\"g\",\"auto-dismiss\":false}");
    bed_settle();
    expect(
        "query-jobs", "{}",
        "[{\"id\":\"b\",\"type\":\"stream\",\"status\":\"concluded\",\"current-progress\":0,\"total-progress\":0},"
        "{\"id\":\"c\",\"type\":\"create\",\"status\":\"concluded\",\"current-progress\":1,\"total-progress\":1}]");
    assert_true(says("query-block-jobs", "\"device\":\"b\""));
    assert_false(says("query-block-jobs", "\"device\":\"c\""));
    ok("block-job-dismiss", "{\"id\":\"b\"}");
    ok("job-dismiss", "{\"id\":\"c\"}");
}

/* --- queries --------------------------------------------------------------------------------------------- */

/* fact: jobs 1.9/query-jobs, 1.9/query-block-jobs, 1.9/actively-synced, 1.7/names, 1.6/lifts-pause,
 *       1.6/user-paused */
static void test_error_entry(void **state)
{
    write_bytes(0, 65536);
    bed_fail(SIM_OP_READ, EIO, UINT32_MAX);
    ok("blockdev-mirror", MIRROR(",\"auto-dismiss\":false,\"speed\":77,\"on-source-error\":\"stop\""));
    bed_settle();
    assert_true(says("query-block-jobs", "[{\"type\":\"mirror\",\"device\":\"m\",\"len\":"));
    assert_true(says("query-block-jobs",
                     ",\"offset\":983040,\"busy\":false,\"paused\":true,\"speed\":77,"
                     "\"io-status\":\"failed\",\"ready\":false,\"status\":\"paused\","
                     "\"auto-finalize\":true,\"auto-dismiss\":false,\"actively-synced\":false}]"));
    expect("block-job-cancel", "{\"device\":\"m\"}",
           "GenericError: The block job for device 'm' is currently paused");
    ok("job-cancel", "{\"id\":\"m\"}");
    bed_settle();
    assert_true(says("query-jobs", "[{\"id\":\"m\",\"type\":\"mirror\",\"status\":\"concluded\","
                                   "\"current-progress\":983040,\"total-progress\":"));
    assert_true(says("query-jobs", ",\"error\":\"Operation canceled\"}]"));
    assert_true(says("query-block-jobs", "\"error\":\"Operation canceled\""));
    assert_true(says("query-block-jobs", "\"io-status\":\"ok\"")); /* force cancel lifts the stop */
    ok("block-job-dismiss", "{\"id\":\"m\"}");
}

/* A pause is asked for at once and there when the last request has come back; until then the job is busy.
 * fact: jobs 1.9/paused, 1.4/busy, edge/19, edge/23 */
static void test_paused_is_intent(void **state)
{
    write_bytes(0, 65536);
    ok("blockdev-mirror", MIRROR(""));
    bed.stick = true;
    bed_run_until(sim_now(bed.sim) + NS_PER_MS);
    assert_true(says("query-block-jobs", "\"busy\":true,\"paused\":false"));
    ok("block-job-pause", "{\"device\":\"m\"}");
    bed_run_until(sim_now(bed.sim) + NS_PER_S);
    assert_true(says("query-block-jobs", "\"busy\":true,\"paused\":true"));
    assert_true(says("query-jobs", "\"status\":\"running\""));
    bed.stick = false;
    disk_release_stuck(bed.disk);
    bed_settle();
    assert_true(says("query-block-jobs", "\"busy\":false,\"paused\":true"));
    assert_true(says("query-jobs", "\"status\":\"paused\""));
    ok("job-cancel", "{\"id\":\"m\"}");
}

/* --- commands -------------------------------------------------------------------------------------------- */

struct expected_arg {
    const char *command;
    const char *args; /* "name=default ", "name? " for one that may be missing, "name " for one that may not */
};

#define COMMON "auto-finalize=true auto-dismiss=true "

/* What a client may leave out, and what it then means.
 * fact: jobs 9/block-commit, 9/block-stream, 2/default, 1.5/auto */
static void test_defaults(void **state)
{
    static const struct expected_arg rows[] = {
        {"block-commit", "job-id? device base-node? base? top-node? top? backing-file? backing-mask-protocol=false "
                         "speed=0 on-error=report filter-node-name? " COMMON},
        {"block-stream", "job-id? device base? base-node? backing-file? backing-mask-protocol=false bottom? "
                         "speed=0 on-error=report filter-node-name? " COMMON},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct qmp_command *command = qmp_find_command(rows[i].command);
        char text[512] = "";

        for (const struct qmp_arg *arg = command->args; arg->name; arg++) {
            size_t used = strlen(text);
            snprintf(text + used, sizeof(text) - used, "%s%s%s ", arg->name,
                     arg->def        ? "="
                     : arg->optional ? "?"
                                     : "",
                     arg->def ? arg->def : "");
        }
        assert_string_equal(text, rows[i].args);
    }
}

static BlockBackend *empty;

static void plug_nothing(void *opaque)
{
    empty = blk_new(bed.host, 0, BLK_PERM_ALL);
    assert_true(blk_set_name(empty, "e", NULL));
}

static void unplug(void *opaque)
{
    blk_unref(empty);
}

/* fact: jobs 9/no-medium */
static void test_no_medium(void **state)
{
    bed_on_main(plug_nothing);
    refused("block-commit", "{\"device\":\"e\"}", "GenericError: Device 'e' has no medium");
    refused("block-stream", "{\"device\":\"e\"}", "GenericError: Device 'e' has no medium");
    refused("blockdev-mirror", "{\"device\":\"e\",\"target\":\"t\",\"sync\":\"full\"}",
            "GenericError: Device 'e' has no medium");
    refused("blockdev-mirror", "{\"device\":\"g\",\"target\":\"e\",\"sync\":\"full\"}",
            "GenericError: Device 'e' has no medium");
    bed_on_main(unplug);
}

/* What has been given up belongs to somebody else.
 * fact: block 12/inactive-jobs-others */
static void test_inactive(void **state)
{
    static const char *const rows[][2] = {
        {"block-stream", "{\"job-id\":\"j\",\"device\":\"g\"}"},
        {"block-stream", "{\"job-id\":\"j\",\"device\":\"o\",\"base-node\":\"s\"}"},
        {"block-commit", "{\"job-id\":\"j\",\"device\":\"o\"}"},
        {"blockdev-backup", "{\"job-id\":\"j\",\"device\":\"o\",\"target\":\"t\",\"sync\":\"full\"}"},
    };

    ok("blockdev-snapshot-sync", "{\"node-name\":\"s\",\"snapshot-file\":\"o\",\"snapshot-node-name\":\"o\"}");
    ok("blockdev-set-active", "{\"active\":false}");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char *text = call(rows[i][0], rows[i][1]);
        assert_non_null(strstr(text, "GenericError: Inactive '"));
        free(text);
        bed_settle();
        expect("query-jobs", "{}", "[]");
    }
    ok("blockdev-set-active", "{\"active\":true}");
    write_bytes(0, 512);
    ok("block-commit", "{\"device\":\"g\"}");
    bed_settle();
    ok("block-job-complete", "{\"device\":\"g\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/monitor/jobs/events/seed/bcada37/fields", test_fields, jobs_setup, jobs_teardown),
        T_SETUP("/monitor/jobs/events/cancelled", test_cancelled, jobs_setup, jobs_teardown),
        T_SETUP("/monitor/jobs/events/complete-then-force", test_complete_then_force, jobs_setup, jobs_teardown),
        T_SETUP("/monitor/jobs/events/failed", test_failed, jobs_setup, jobs_teardown),
        T_SETUP("/monitor/jobs/plain", test_plain_job, jobs_setup, jobs_teardown),
        T_SETUP("/monitor/jobs/query/error", test_error_entry, jobs_setup, jobs_teardown),
        T_SETUP("/monitor/jobs/query/paused-is-intent", test_paused_is_intent, jobs_setup, jobs_teardown),
        T_SETUP("/monitor/jobs/commands/defaults", test_defaults, jobs_setup, jobs_teardown),
        T_SETUP("/monitor/jobs/commands/inactive", test_inactive, jobs_setup, jobs_teardown),
        T_SETUP("/monitor/jobs/commands/no-medium", test_no_medium, jobs_setup, jobs_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
