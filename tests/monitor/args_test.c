/* Protects the check of command arguments: presence, types, conversions, messages. */
#include "tests/testlib.h"

#include "monitor/monitor.h"

static const char *const colours[] = {"red", "green", NULL};

static const struct qmp_arg point_args[] = {
    {.name = "x", .type = QMP_SIZE},
    {.name = "colour", .type = QMP_ENUM, .optional = true, .choices = colours},
    {.name = NULL},
};

static const struct qmp_arg point = {.name = "Point", .type = QMP_DICT, .of = point_args};
static const struct qmp_arg point_or_str = {.name = "PointOrStr", .type = QMP_ALTERNATE, .of = point_args};
static const struct qmp_arg points = {.name = "Points", .type = QMP_LIST, .of = &point};

static const struct qmp_arg table[] = {
    {.name = "name", .type = QMP_STR},
    {.name = "count", .type = QMP_INT, .optional = true},
    {.name = "bytes", .type = QMP_SIZE, .optional = true},
    {.name = "force", .type = QMP_BOOL, .optional = true},
    {.name = "colour", .type = QMP_ENUM, .optional = true, .choices = colours},
    {.name = "options", .type = QMP_DICT, .optional = true},
    {.name = "list", .type = QMP_LIST, .optional = true},
    {.name = "any", .type = QMP_ANY, .optional = true},
    {.name = "point", .type = QMP_DICT, .optional = true, .of = point_args},
    {.name = "paths", .type = QMP_LIST, .optional = true, .of = &points},
    {.name = "marks", .type = QMP_LIST, .optional = true, .of = &point_or_str},
    {.name = NULL},
};

static const struct qmp_command command = {.name = "test", .args = table};
static const struct qmp_command open_command = {.name = "open", .args = table, .open_args = true};

/* Checks a JSON dictionary; returns it converted, or NULL after comparing the message. */
static struct qvalue *check(const struct qmp_command *cmd, const char *json, const char *expected)
{
    Error *err = NULL;
    struct qvalue *args = qvalue_from_json(json, strlen(json), &err);

    assert_null(err);
    bool ok = qmp_check_args(cmd, args, &err);
    assert_int_equal(ok, err == NULL);
    if (!expected) {
        assert_true(ok);
        return args;
    }
    assert_false(ok);
    assert_string_equal(error_get_pretty(err), expected);
    assert_int_equal(error_get_class(err), ERROR_CLASS_GENERIC);
    error_free(err);
    qvalue_free(args);
    return NULL;
}

/* The dictionary after conversion, as JSON. */
static void check_becomes(const char *json, const char *expected)
{
    struct qvalue *args = check(&command, json, NULL);
    char *text = qvalue_to_json(args);

    assert_string_equal(text, expected);
    free(text);
    qvalue_free(args);
}

static void test_presence(void **state)
{
    check(&command, "{}", "Parameter 'name' is missing");
    check(&command, "{\"name\":\"x\",\"nmae\":1}", "Parameter 'nmae' is unexpected");
    check(&command, "{\"nmae\":1}", "Parameter 'name' is missing");
    assert_false(qmp_check_args(&command, NULL, NULL));
    qvalue_free(check(&open_command, "{\"name\":\"x\",\"driver-option\":1}", NULL));
}

static void test_types(void **state)
{
    check(&command, "{\"name\":1}", "Invalid parameter type for 'name', expected: string");
    check(&command, "{\"name\":null}", "Invalid parameter type for 'name', expected: string");
    check(&command, "{\"name\":\"a\\u0000b\"}", "Invalid parameter type for 'name', expected: string");
    check(&command, "{\"name\":\"x\",\"count\":true}", "Invalid parameter type for 'count', expected: integer");
    check(&command, "{\"name\":\"x\",\"count\":\"12q\"}", "Invalid parameter type for 'count', expected: integer");
    check(&command, "{\"name\":\"x\",\"count\":\"--1\"}", "Invalid parameter type for 'count', expected: integer");
    check(&command, "{\"name\":\"x\",\"force\":1}", "Invalid parameter type for 'force', expected: boolean");
    check(&command, "{\"name\":\"x\",\"force\":\"maybe\"}",
          "Invalid parameter type for 'force', expected: boolean");
    check(&command, "{\"name\":\"x\",\"options\":[]}", "Invalid parameter type for 'options', expected: object");
    check(&command, "{\"name\":\"x\",\"list\":{}}", "Invalid parameter type for 'list', expected: array");
    check(&command, "{\"name\":\"x\",\"colour\":\"blue\"}", "Parameter 'colour' does not accept value 'blue'");
    check(&command, "{\"name\":\"x\",\"bytes\":-1}", "Parameter 'bytes' expects uint64");
    check(&command, "{\"name\":\"x\",\"bytes\":\"-4k\"}", "Parameter 'bytes' expects uint64");
}

/* Messages name the place, elements are checked one by one, dictionaries like the whole. */
static void test_inside(void **state)
{
    check(&command, "{\"name\":\"x\",\"point\":{}}", "Parameter 'point.x' is missing");
    check(&command, "{\"name\":\"x\",\"point\":{\"x\":1,\"z\":1}}", "Parameter 'point.z' is unexpected");
    check(&command, "{\"name\":\"x\",\"paths\":[[{\"x\":1}],[{\"x\":1},{\"x\":[]}]]}",
          "Invalid parameter type for 'paths[1][1].x', expected: integer");
    check(&command, "{\"name\":\"x\",\"paths\":[[{\"x\":-1}]]}", "Parameter 'paths[0][0].x' expects uint64");
    check(&command, "{\"name\":\"x\",\"paths\":[{}]}", "Invalid parameter type for 'paths[0]', expected: array");
    check(&command, "{\"name\":\"x\",\"marks\":[\"a\",{\"x\":1,\"colour\":\"blue\"}]}",
          "Parameter 'marks[1].colour' does not accept value 'blue'");
    check(&command, "{\"name\":\"x\",\"marks\":[\"a\",true]}",
          "Invalid parameter type for 'marks[1]', expected: PointOrStr");
    check(&command, "{\"name\":\"x\",\"marks\":[\"a\\u0000\"]}",
          "Invalid parameter type for 'marks[0]', expected: PointOrStr");
    check_becomes("{\"name\":\"x\",\"paths\":[[],[{\"x\":\"4k\"}]],\"marks\":[\"4k\",{\"x\":\"4k\"}]}",
                  "{\"name\":\"x\",\"paths\":[[],[{\"x\":4096}]],\"marks\":[\"4k\",{\"x\":4096}]}");
}

static bool no_red(struct qvalue *args, Error **errp)
{
    if (qdict_get(args, "colour")) {
        error_setg(errp, "no colours today");
        return false;
    }
    return true;
}

/* What a command checks itself comes after its table. */
static void test_hook(void **state)
{
    const struct qmp_command hooked = {.name = "hooked", .args = table, .check = no_red};

    check(&hooked, "{\"name\":\"x\",\"colour\":\"red\"}", "no colours today");
    check(&hooked, "{\"colour\":\"red\"}", "Parameter 'name' is missing");
    check(&hooked, "{\"name\":\"x\",\"colour\":\"red\",\"z\":1}", "Parameter 'z' is unexpected");
    qvalue_free(check(&hooked, "{\"name\":\"x\"}", NULL));
}

static void test_conversions(void **state)
{
    check_becomes("{\"name\":\"x\",\"count\":\"-3\",\"bytes\":\"64k\"}",
                  "{\"name\":\"x\",\"count\":-3,\"bytes\":65536}");
    check_becomes("{\"name\":\"x\",\"count\":\"1M\"}", "{\"name\":\"x\",\"count\":1048576}");
    check_becomes("{\"name\":\"64k\",\"force\":\"on\"}", "{\"name\":\"64k\",\"force\":true}");
    check_becomes("{\"name\":\"x\",\"force\":\"false\",\"any\":\"5\"}",
                  "{\"name\":\"x\",\"force\":false,\"any\":\"5\"}");
    check_becomes("{\"name\":\"x\",\"colour\":\"green\",\"options\":{},\"list\":[]}",
                  "{\"name\":\"x\",\"colour\":\"green\",\"options\":{},\"list\":[]}");
}

/* A scenario checks a step before the run and again when it is played. */
static void test_twice(void **state)
{
    struct qvalue *args = check(&command, "{\"name\":\"x\",\"bytes\":\"2M\"}", NULL);

    assert_true(qmp_check_args(&command, args, NULL));
    assert_int_equal(qdict_get(args, "bytes")->integer, 2 * MiB);
    qvalue_free(args);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/monitor/args/presence", test_presence),       T("/monitor/args/types", test_types),
        T("/monitor/args/inside", test_inside),           T("/monitor/args/hook", test_hook),
        T("/monitor/args/conversions", test_conversions), T("/monitor/args/twice", test_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
