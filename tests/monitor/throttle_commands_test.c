/* Protects block_set_io_throttle, the throttle-group objects, and what query-block shows of them. */
#include "tests/monitor/qmplib.h"

#include "block/throttle_group.h"

#define SIX(bps, iops) "\"bps\":" bps ",\"bps_rd\":0,\"bps_wr\":0,\"iops\":" iops ",\"iops_rd\":0,\"iops_wr\":0"
#define SET(bps, iops, more) "{\"id\":\"g\"," SIX(bps, iops) more "}"

static char *inserted(void)
{
    char *text = call("query-block", "{}");
    assert_non_null(strstr(text, "\"inserted\""));
    return text;
}

static void shows(const char *what)
{
    char *text = inserted();
    if (!strstr(text, what)) {
        fail_msg("'%s' is not in %s", what, text);
    }
    free(text);
}

static void shows_not(const char *what)
{
    char *text = inserted();
    assert_null(strstr(text, what));
    free(text);
}

static const ThrottleConfig *config_of(const char *group)
{
    ThrottleGroup *found = throttle_group_find(bed.host, group);
    assert_non_null(found);
    return throttle_group_get_config(found);
}

/* fact: block 9/throttle, 4.2/backend-group */
static void test_set(void **state)
{
    shows(SIX("0", "0"));
    shows_not("\"group\"");
    ok("block_set_io_throttle", SET("1000", "10", ",\"bps_max\":2000,\"bps_max_length\":3,\"iops_size\":4096"));
    shows("\"bps\":1000,\"bps_max\":2000,\"bps_max_length\":3,\"bps_rd\":0,\"bps_wr\":0,\"iops\":10");
    shows("\"iops_size\":4096,\"group\":\"g\"");
    shows_not("iops_max");
    ok("block_set_io_throttle", "{\"device\":\"g\"," SIX("0", "5") ",\"group\":\"tg\"}");
    shows("\"group\":\"tg\"");
    shows_not("bps_max");
    assert_null(throttle_group_find(bed.host, "g"));
    ok("block_set_io_throttle", SET("7", "5", "")); /* stays in its group */
    assert_int_equal(config_of("tg")->limits[THROTTLE_BPS_TOTAL].avg, 7);
    assert_int_equal(config_of("tg")->op_size, 0);
    ok("block_set_io_throttle", SET("0", "0", ""));
    shows(SIX("0", "0"));
    shows_not("\"group\"");
    assert_null(throttle_group_next(bed.host, NULL));
    ok("block_set_io_throttle", SET("0", "0", ""));
}

/* A node by itself has no limits: they are the device's. */
/* fact: block 9/query-block */
static void test_nodes_show_none(void **state)
{
    ok("block_set_io_throttle", SET("1000", "0", ""));
    char *text = call("query-named-block-nodes", "{}");
    assert_null(strstr(text, "1000"));
    assert_null(strstr(text, "\"group\""));
    free(text);
}

static void plug_empty(void *opaque)
{
    struct guest_config config;

    guest_config_default(&config);
    config.name = "empty";
    assert_non_null(guest_new(bed.host, &config, NULL));
}

/* fact: block 9/throttle-refused */
static void test_set_refused(void **state)
{
    bed_on_main(plug_empty);
    refused("block_set_io_throttle", "{\"id\":\"empty\"," SIX("1", "0") "}", "GenericError: Device has no medium");
    refused("block_set_io_throttle", "{\"id\":\"x\"," SIX("1", "0") "}", "GenericError: Device 'x' not found");
    refused("block_set_io_throttle", "{\"device\":\"x\"," SIX("1", "0") "}", "GenericError: Device 'x' not found");
    refused("block_set_io_throttle", "{" SIX("1", "0") "}", "GenericError: Need exactly one of 'device' and 'id'");
    refused("block_set_io_throttle", "{\"id\":\"g\",\"device\":\"g\"," SIX("1", "0") "}",
            "GenericError: Need exactly one of 'device' and 'id'");
    refused("block_set_io_throttle", "{\"id\":\"g\",\"bps\":1}", "GenericError: Parameter 'bps_rd' is missing");
    refused("block_set_io_throttle", SET("-1", "0", ""),
            "GenericError: bps/iops/max values must be within [0, 1000000000000000]");
    refused("block_set_io_throttle", SET("1", "0", ",\"iops_size\":1"),
            "GenericError: iops size requires an iops value to be set");
    refused("block_set_io_throttle", SET("0", "1", ",\"iops_size\":-1"),
            "GenericError: iops size cannot be negative");
    refused("block_set_io_throttle", SET("1", "0", ",\"bps_max\":2,\"bps_max_length\":0"),
            "GenericError: the burst length cannot be 0");
    refused("block_set_io_throttle", SET("0", "0", ",\"bps_rd_max\":2"),
            "GenericError: bps_max/iops_max require corresponding bps/iops values");
    assert_null(throttle_group_next(bed.host, NULL));
    /* limits that are there stay */
    ok("block_set_io_throttle", SET("1000", "0", ""));
    refused("block_set_io_throttle", SET("1000", "0", ",\"bps_max\":999,\"group\":\"other\""),
            "GenericError: bps_max/iops_max cannot be lower than bps/iops");
    shows("\"bps\":1000");
    shows("\"group\":\"g\"");
}

/* fact: block 4.2/config, edge/26 */
static void test_while_waiting(void **state)
{
    struct guest_req req[3];

    ok("block_set_io_throttle", SET("1024", "0", ""));
    for (unsigned i = 0; i < 3; i++) {
        write_begin(&req[i], 0, 65536);
    }
    bed_run_until(NS_PER_MS);
    assert_int_equal(guest_active(guest), 2);
    ok("block_set_io_throttle", SET("0", "0", ""));
    bed_run_until(2 * NS_PER_MS);
    assert_int_equal(guest_active(guest), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(req[i].ret, 0);
        guest_req_clear(&req[i]);
    }
}

static void unplug(void *opaque)
{
    guest_delete(guest);
}

/* A device that goes does not wait for its limits. */
/* fact: block edge/26 */
static void test_unplug(void **state)
{
    struct guest_req req[2];

    ok("block_set_io_throttle", SET("1", "0", ""));
    for (unsigned i = 0; i < 2; i++) {
        write_begin(&req[i], 0, 65536);
    }
    bed_run_until(NS_PER_MS);
    bed_on_main(unplug);
    assert_true(sim_now(bed.sim) < 2 * NS_PER_MS);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(req[i].ret, 0);
        guest_req_clear(&req[i]);
    }
    assert_null(throttle_group_next(bed.host, NULL));
}

/* --- objects --------------------------------------------------------------------------------------------- */

#define OBJECT(more) "{\"qom-type\":\"throttle-group\",\"id\":\"tg\"" more "}"
#define PROPERTY(name) "{\"path\":\"/objects/tg\",\"property\":\"" name "\"}"
#define LIMITS(json) "{\"path\":\"tg\",\"property\":\"limits\",\"value\":" json "}"
#define LIMIT(name, avg, max, length) \
    "\"" name "\":" avg ",\"" name "-max\":" max ",\"" name "-max-length\":" length ","
#define NO_LIMIT(name) LIMIT(name, "0", "0", "1")

static void test_object(void **state)
{
    ok("object-add", OBJECT(",\"limits\":{\"iops-total\":10,\"iops-total-max\":20,\"iops-total-max-length\":2},"
                            "\"x-bps-read\":5,\"x-iops-size\":512"));
    expect("qom-get", PROPERTY("limits"),
           "{" LIMIT("iops-total", "10", "20", "2") NO_LIMIT("iops-read") NO_LIMIT("iops-write")
               NO_LIMIT("bps-total") LIMIT("bps-read", "5", "0", "1") NO_LIMIT("bps-write") "\"iops-size\":512}");
    expect("qom-get", "{\"path\":\"tg\",\"property\":\"x-iops-total-max-length\"}", "2");
    expect("qom-get", PROPERTY("type"), "\"throttle-group\"");
    ok("qom-set", LIMITS("{\"bps-write\":\"64k\",\"iops-size\":0}")); /* the others stay */
    expect("qom-get", PROPERTY("x-bps-write"), "65536");
    expect("qom-get", PROPERTY("x-bps-read"), "5");
    expect("qom-get", PROPERTY("x-iops-size"), "0");
    ok("object-del", "{\"id\":\"tg\"}");
    ok("object-add", OBJECT(""));
    expect("qom-get", PROPERTY("x-bps-read-max-length"), "1");
    ok("object-del", "{\"id\":\"tg\"}");
}

static void test_object_refused(void **state)
{
    refused("object-add", "{\"qom-type\":\"secret\",\"id\":\"tg\"}",
            "GenericError: Parameter 'qom-type' does not accept value 'secret'");
    refused("object-add", "{\"qom-type\":\"throttle-group\",\"id\":\"1\"}",
            "GenericError: Parameter 'id' expects an identifier");
    refused("object-add", OBJECT(",\"limits\":{\"iops\":10}"),
            "GenericError: Parameter 'limits.iops' is unexpected");
    refused("object-add", OBJECT(",\"x-bps-read\":-1"), "GenericError: Property values cannot be negative");
    refused("object-add", OBJECT(",\"x-bps-read-max-length\":4294967296"),
            "GenericError: x-bps-read-max-length value must be in the range [0, 4294967295]");
    refused("object-add", OBJECT(",\"limits\":{\"bps-read-max-length\":4294967296}"),
            "GenericError: bps-read-max-length value must be in the range [0, 4294967295]");
    refused("object-add", OBJECT(",\"limits\":{\"bps-read\":-1}"),
            "GenericError: bps/iops/max values must be within [0, 1000000000000000]");
    refused("object-add", OBJECT(",\"x-bps-total\":1,\"limits\":{\"bps-read\":1}"),
            "GenericError: bps/iops/max total values and read/write values cannot be used at the same time");
    refused("object-del", "{\"id\":\"tg\"}", "GenericError: object 'tg' not found");
    refused("qom-get", PROPERTY("limits"), "GenericError: Device '/objects/tg' not found");
    ok("object-add", OBJECT(""));
    refused("object-add", OBJECT(""),
            "GenericError: attempt to add duplicate property 'tg' to object (type 'container')");
    refused("qom-get", PROPERTY("x"), "GenericError: Property 'throttle-group.x' not found");
    refused("qom-get", PROPERTY("x-iops-size-max"),
            "GenericError: Property 'throttle-group.x-iops-size-max' not found");
    refused("qom-set", LIMITS("5"), "GenericError: Invalid parameter type for 'limits', expected: object");
    refused("qom-set", LIMITS("{\"x\":1}"), "GenericError: Parameter 'limits.x' is unexpected");
    refused("qom-set", LIMITS("{\"bps-read\":1,\"bps-total\":1}"),
            "GenericError: bps/iops/max total values and read/write values cannot be used at the same time");
    refused("qom-set", "{\"path\":\"tg\",\"property\":\"x-bps-read\",\"value\":1}",
            "GenericError: Property cannot be set after initialization");
    refused("qom-set", "{\"path\":\"tg\",\"property\":\"x\",\"value\":1}",
            "GenericError: Property 'throttle-group.x' not found");
    expect("qom-get", PROPERTY("x-bps-read"), "0");
    ok("object-del", "{\"id\":\"tg\"}");
}

/* Objects and groups of devices share their names; whoever uses one keeps it. */
/* fact: block 4.2/in-use */
static void test_object_shared(void **state)
{
    ok("object-add", OBJECT(",\"limits\":{\"iops-total\":10}"));
    ok("block_set_io_throttle", SET("0", "20", ",\"group\":\"tg\""));
    expect("qom-get", PROPERTY("x-iops-total"), "20");
    refused("object-del", "{\"id\":\"tg\"}", "GenericError: object 'tg' is in use, can not be deleted");
    ok("qom-set", LIMITS("{\"iops-total\":30}"));
    shows("\"iops\":30");
    ok("block_set_io_throttle", SET("0", "1", ",\"group\":\"own\""));
    ok("object-del", "{\"id\":\"tg\"}");
    refused("object-del", "{\"id\":\"own\"}", "GenericError: object 'own' not found");
    refused("object-add", "{\"qom-type\":\"throttle-group\",\"id\":\"own\"}",
            "GenericError: A group with this name already exists");
    ok("block_set_io_throttle", SET("0", "0", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/monitor/throttle/set", test_set, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/throttle/nodes-show-none", test_nodes_show_none, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/throttle/set-refused", test_set_refused, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/throttle/set-while-waiting", test_while_waiting, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/throttle/unplug-while-waiting", test_unplug, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/throttle/object", test_object, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/throttle/object-refused", test_object_refused, qmp_setup, qmp_teardown),
        T_SETUP("/monitor/throttle/object-shared", test_object_shared, qmp_setup, qmp_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
