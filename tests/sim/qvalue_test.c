/* Protects values, their JSON, their typed readings, and the spelling of sizes, times and errors. */
#include "tests/testlib.h"

#include <errno.h>

#include "sim/qvalue.h"

static void test_containers(void **state)
{
    struct qvalue *d = qvalue_dict();
    struct qvalue *copy;
    struct qvalue *taken;

    assert_true(qdict_put(d, "a", qvalue_int(1)));
    assert_false(qdict_put(d, "a", qvalue_int(2)));
    assert_true(qdict_put_path(d, "file.disk", qvalue_str("src")));
    assert_true(qdict_put_path(d, "file.x.y", qvalue_null()));
    assert_false(qdict_put_path(d, "file.disk", qvalue_str("dst")));
    assert_false(qdict_put_path(d, "a.b", qvalue_int(3)));
    assert_false(qdict_put_path(d, "file.disk.new.deep", qvalue_int(3)));
    copy = qvalue_copy(d);
    assert_true(qvalue_equal(d, copy));
    taken = qdict_take(d, "a");
    assert_int_equal(taken->integer, 1);
    qvalue_free(taken);
    assert_null(qdict_get(d, "a"));
    assert_null(qdict_take(d, "a"));
    assert_null(qdict_get(NULL, "a"));
    assert_false(qvalue_equal(d, copy));
    qvalue_free(d);
    qvalue_free(copy);
}

static void round_trip(const char *json)
{
    Error *err = NULL;
    struct qvalue *v = qvalue_from_json(json, strlen(json), &err);
    char *text;

    assert_null(err);
    assert_non_null(v);
    text = qvalue_to_json(v);
    assert_string_equal(text, json);
    free(text);
    qvalue_free(v);
}

static void test_json(void **state)
{
    struct qvalue *v;
    char *text;

    round_trip("{\"z\":1,\"a\":[true,false,null,-9223372036854775808,9223372036854775807],\"m\":{\"k\":\"v\"}}");
    round_trip("\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001 \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
    round_trip("[]");
    v = qvalue_strn("a\0\x80\xc0\xaf\xed\xa0\x80z\xf0\x9f", 11);
    text = qvalue_to_json(v);
#define U "\xef\xbf\xbd"
    assert_string_equal(text, "\"a\\u0000" U U U U U U "z" U U "\"");
    free(text);
    qvalue_free(v);
}

static void bad_json(const char *json, const char *expected)
{
    Error *err = NULL;

    assert_null(qvalue_from_json(json, strlen(json), &err));
    assert_non_null(err);
    assert_non_null(strstr(error_get_pretty(err), expected));
    error_free(err);
    assert_null(qvalue_from_json(json, strlen(json), NULL));
}

static void test_bad_json(void **state)
{
    bad_json("", "line 1");
    bad_json("{\"a\":1,\n\"a\":2}", "line 2");
    bad_json("[1.5]", "integers");
    bad_json("{\"a\":[{\"b\":1e3}]}", "integers");
    bad_json("[1] x", "line 1, column");
    bad_json("\"\xff\"", "line 1");
}

static void test_typed(void **state)
{
    static const char json[] = "{\"s\":\"text\",\"b\":true,\"on\":\"on\",\"i\":-7,\"z\":\"64k\",\"n\":4096,"
                               "\"bad\":\"64q\",\"nul\":\"a\\u0000b\"}";
    struct qvalue *d = qvalue_from_json(json, strlen(json), NULL);
    Error *err = NULL;
    const char *s;
    int64_t i;
    bool b;

    assert_true(qdict_get_str(d, "s", &s, NULL, &err));
    assert_string_equal(s, "text");
    assert_true(qdict_get_str(d, "none", &s, "default", &err));
    assert_string_equal(s, "default");
    assert_true(qdict_get_bool(d, "b", &b, false, &err) && b);
    assert_true(qdict_get_bool(d, "on", &b, false, &err) && b);
    assert_true(qdict_get_bool(d, "none", &b, true, &err) && b);
    assert_true(qdict_get_int(d, "i", &i, 0, &err));
    assert_int_equal(i, -7);
    assert_true(qdict_get_size(d, "z", &i, 0, &err));
    assert_int_equal(i, 65536);
    assert_true(qdict_get_size(d, "n", &i, 0, &err));
    assert_int_equal(i, 4096);
    assert_true(qdict_get_size(NULL, "n", &i, 5, &err));
    assert_int_equal(i, 5);
    assert_null(err);
    assert_false(qdict_get_size(d, "i", &i, 0, NULL));
    assert_false(qdict_get_size(d, "bad", &i, 0, NULL));
    assert_false(qdict_get_bool(d, "s", &b, false, NULL));
    assert_false(qdict_get_str(d, "nul", &s, NULL, NULL));
    assert_false(qdict_get_str(d, "i", &s, NULL, NULL));
    assert_false(qdict_get_int(d, "s", &i, 0, &err));
    assert_string_equal(error_get_pretty(err), "Parameter 's' expects an integer");
    error_free(err);
    qvalue_free(d);
}

static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
        const char *shortest;
    } good[] = {
        {"0", 0, "0"},
        {"1000", 1000, "1000"},
        {"64k", 65536, "64k"},
        {"64K", 65536, "64k"},
        {"1024k", 1 << 20, "1M"},
        {"3G", 3 * GiB, "3G"},
        {"7E", (int64_t)7 << 60, "7E"},
        {"9223372036854775807", INT64_MAX, "9223372036854775807"},
    };
    static const char *const bad[] = {"",
                                      "k",
                                      "-1",
                                      "1kk",
                                      "1.5k",
                                      "8E",
                                      "9223372036854775808",
                                      " 1",
                                      "1 ",
                                      "0x10",
                                      "1B",
                                      "99999999999999999999999"};
    char buf[24];
    int64_t value;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_true(sim_parse_size(good[i].text, &value));
        assert_int_equal(value, good[i].value);
        assert_string_equal(sim_format_size(value, buf), good[i].shortest);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(sim_parse_size(bad[i], &value));
    }
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
        const char *shortest;
    } good[] = {
        {"250", 250, "250ns"},
        {"10ms", 10000000, "10ms"},
        {"5us", 5000, "5us"},
        {"1.5ms", 1500000, "1500us"},
        {"0.000000001s", 1, "1ns"},
        {"2.50s", 2500000000, "2500ms"},
        {"0", 0, "0s"},
        {"1.500us", 1500, "1500ns"},
        {"3.0", 3, "3ns"},
        {"9223372036s", 9223372036000000000, "9223372036s"},
    };
    static const char *const bad[] = {"",    "s",   "1.s",           ".5s",      "-1s",
                                      "1m",  "1.5", "0.0000000001s", "1.0005us", "9223372037s",
                                      "1 s", "1s ", "1.5.5s"};
    char buf[32];
    int64_t value;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_true(sim_parse_time(good[i].text, &value));
        assert_int_equal(value, good[i].value);
        assert_string_equal(sim_format_time(value, buf), good[i].shortest);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(sim_parse_time(bad[i], &value));
    }
}

/* reference/jobs.md 4.8 [seed cc67f4d, 0fb6395]: an absent errp changes no outcome. */
static void test_errors(void **state)
{
    Error *err = NULL;
    Error *other = NULL;
    Error *copy;

    error_setg(NULL, "nobody hears %d", 1);
    error_set(NULL, ERROR_CLASS_DEVICE_NOT_FOUND, "nor this");
    error_prepend(NULL, "x");
    error_prepend(&err, "x");
    assert_null(err);
    error_setg_errno(&err, -ENOSPC, "Could not write '%s'", "d");
    error_prepend(&err, "%d: ", 3);
    assert_string_equal(error_get_pretty(err), "3: Could not write 'd': No space left on device");
    assert_int_equal(error_get_class(err), ERROR_CLASS_GENERIC);
    copy = error_copy(err);
    error_propagate(&other, err);
    assert_ptr_equal(other, err);
    error_propagate(NULL, copy);
    error_propagate(&other, NULL);
    error_free(other);
    error_free(NULL);
    assert_string_equal(error_class_name(ERROR_CLASS_DEVICE_NOT_FOUND), "DeviceNotFound");
}

static void test_errnos(void **state)
{
    assert_string_equal(sim_errno_text(EIO), "Input/output error");
    assert_string_equal(sim_errno_text(-ENOTSUP), "Operation not supported");
    assert_string_equal(sim_errno_text(-99999), "Unknown error 99999");
    assert_string_equal(sim_errno_name(-EIO), "EIO");
    assert_string_equal(sim_errno_name(0), "0");
    assert_string_equal(sim_errno_name(99999), "E?");
    assert_int_equal(sim_errno_parse("ENOSPC"), ENOSPC);
    assert_int_equal(sim_errno_parse("5"), EIO);
    assert_int_equal(sim_errno_parse("EWHAT"), 0);
    assert_int_equal(sim_errno_parse("5x"), 0);
    assert_int_equal(sim_errno_parse("-5"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/sim/qvalue/containers", test_containers),
        T("/sim/qvalue/json", test_json),
        T("/sim/qvalue/bad-json", test_bad_json),
        T("/sim/qvalue/typed", test_typed),
        T("/sim/parse/sizes", test_sizes),
        T("/sim/parse/times", test_times),
        T("/sim/error/errp-may-be-null/cc67f4d/0fb6395", test_errors),
        T("/sim/error/errnos", test_errnos),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
