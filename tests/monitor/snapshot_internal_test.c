/* Protects internal snapshots by command: what is refused and how, what queries show, and that a transaction that
 * fails leaves none. */
#include "tests/monitor/qmplib.h"

#include "block/backend.h"

/* Image "i" in node "q" on disk "id". */

static int create_entry(void *opaque)
{
    return bdrv_img_create(bed.host, "id", "qcow2", 4 * MiB, NULL, NULL, NULL);
}

static void make_image(void *opaque)
{
    assert_int_equal(bdrv_run_co(bed.host, "create", create_entry, NULL), 0);
}

static int image_setup(void **state)
{
    struct disk_config config;

    qmp_setup(state);
    disk_config_default(&config);
    config.size_bytes = 0;
    assert_non_null(disk_new(bed.sim, "id", &config, NULL));
    bed_on_main(make_image);
    ok("blockdev-add", "{\"node-name\":\"q\",\"driver\":\"qcow2\",\"file\":{\"driver\":\"disk\",\"disk\":\"id\","
                       "\"node-name\":\"f\"}}");
    return 0;
}

static int image_teardown(void **state)
{
    char *text = call("blockdev-del", "{\"node-name\":\"q\"}");

    free(text);
    return qmp_teardown(state);
}

#define CREATE "blockdev-snapshot-internal-sync"
#define DELETE "blockdev-snapshot-delete-internal-sync"

static void snapshots_are(const char *expected)
{
    char *text = call("query-named-block-nodes", "{\"flat\":true}");
    char names[256] = "";

    for (const char *at = strstr(text, "\"snapshots\""); at && (at = strstr(at, "\"name\":")); at++) {
        size_t n = strcspn(at + 7, ",}");
        strncat(names, at + 7, n);
    }
    free(text);
    assert_string_equal(names, expected);
}

/* fact: block 9/internal-snapshot */
static void create_and_delete(void **state)
{
    ok(CREATE, "{\"device\":\"q\",\"name\":\"one\"}");
    ok(CREATE, "{\"device\":\"q\",\"name\":\"two\"}");
    char *text = call(DELETE, "{\"device\":\"q\",\"name\":\"one\"}");
    if (!strstr(text, "\"id\":\"1\"") && !strstr(text, "\"id\": \"1\"")) {
        fail_msg("%s", text);
    }
    free(text);
    text = call(DELETE, "{\"device\":\"q\",\"id\":\"2\"}");
    if (!strstr(text, "two")) {
        fail_msg("%s", text);
    }
    free(text);
    refused(DELETE, "{\"device\":\"q\",\"id\":\"2\"}",
            "GenericError: Snapshot with id '2' and name 'null' does not exist on device 'q'");
}

static void refusals(void **state)
{
    ok(CREATE, "{\"device\":\"q\",\"name\":\"one\"}");
    refused(CREATE, "{\"device\":\"q\",\"name\":\"one\"}",
            "GenericError: Snapshot with name 'one' already exists on device 'q'");
    refused(CREATE, "{\"device\":\"q\",\"name\":\"\"}", "GenericError: Name is empty");
    refused(CREATE, "{\"device\":\"f\",\"name\":\"x\"}", "GenericError: Need a root block node");
    refused(CREATE, "{\"device\":\"g\",\"name\":\"x\"}",
            "GenericError: Block format 'disk' used by device 'g' does not support internal snapshots");
    refused(CREATE, "{\"device\":\"nobody\",\"name\":\"x\"}",
            "GenericError: Cannot find device='nobody' nor node-name='nobody'");
    refused(DELETE, "{\"device\":\"q\"}", "GenericError: Name or id must be provided");
    refused(DELETE, "{\"device\":\"q\",\"id\":\"1\",\"name\":\"two\"}",
            "GenericError: Snapshot with id '1' and name 'two' does not exist on device 'q'");
}

/* fact: qcow2 5.7/create */
static void transactions(void **state)
{
    ok("transaction", "{\"actions\":[{\"type\":\"" CREATE "\",\"data\":{\"device\":\"q\",\"name\":\"kept\"}}]}");
    char *text =
        call("transaction", "{\"actions\":[{\"type\":\"" CREATE "\",\"data\":{\"device\":\"q\",\"name\":\"gone\"}},"
                            "{\"type\":\"abort\",\"data\":{}}]}");
    assert_true(strncmp(text, "GenericError", 12) == 0);
    free(text);
    text = call(DELETE, "{\"device\":\"q\",\"name\":\"gone\"}");
    assert_non_null(strstr(text, "does not exist"));
    free(text);
    snapshots_are("\"kept\"");
}

#define IMAGE_TEST(name, fn) \
    { \
        name, fn, image_setup, image_teardown, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        IMAGE_TEST("/qmp/snapshot-internal/life", create_and_delete),
        IMAGE_TEST("/qmp/snapshot-internal/refusals", refusals),
        IMAGE_TEST("/qmp/snapshot-internal/transaction", transactions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
