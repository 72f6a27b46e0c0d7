/* Protects the reading of fio iologs: times, units, order rules, and the place of every error. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/iolog.h"
#include "scenario/runner.h"

static struct iolog *parse(const char *text)
{
    Error *err = NULL;
    struct iolog *log = iolog_parse("f", text, strlen(text), &err);

    if (!log) {
        fail_msg("%s", error_get_pretty(err));
    }
    return log;
}

static void entry_is(const struct iolog *log, size_t i, int64_t time_ns, enum sim_op op, int64_t offset,
                     int64_t bytes)
{
    assert_true(i < log->count);
    assert_int_equal(log->entries[i].time_ns, time_ns);
    assert_int_equal(log->entries[i].op, op);
    assert_int_equal(log->entries[i].offset, offset);
    assert_int_equal(log->entries[i].bytes, bytes);
}

static void version_2(void **state)
{
    struct iolog *log =
        parse("fio version 2 iolog\n/dev/a add\n/dev/a open\n/dev/a write 4096 8192\n/dev/a wait 500 0\n"
              "/dev/a read 0 512\n/dev/a wait 99\n/dev/a trim 512 1024\n/dev/a sync\n"
              "/dev/a datasync 0 0\n/dev/a close\n");

    assert_int_equal(log->version, 2);
    assert_int_equal(log->count, 5);
    entry_is(log, 0, 0, SIM_OP_WRITE, 4096, 8192);
    entry_is(log, 1, 500 * NS_PER_US, SIM_OP_READ, 0, 512);
    entry_is(log, 2, 500 * NS_PER_US, SIM_OP_DISCARD, 512, 1024); /* fio drops waits below 100 us */
    entry_is(log, 3, 500 * NS_PER_US, SIM_OP_FLUSH, 0, 0);
    entry_is(log, 4, 500 * NS_PER_US, SIM_OP_FLUSH, 0, 0);
    assert_int_equal(log->file_count, 1);
    assert_string_equal(log->files[0], "/dev/a");
    iolog_free(log);
}

static void version_3(void **state)
{
    struct iolog *log =
        parse("fio version 3 iolog\r\n2 a add\r\n3 b add\r\n872 a open\r\n872 b open\r\n878 b write 0 16384\r\n"
              "888 a trim 512 512\r\n\r\n10001677 a close");

    assert_int_equal(log->version, 3);
    assert_int_equal(log->count, 2);
    entry_is(log, 0, 878 * NS_PER_US, SIM_OP_WRITE, 0, 16384);
    entry_is(log, 1, 888 * NS_PER_US, SIM_OP_DISCARD, 512, 512);
    assert_int_equal(log->entries[0].file, 1);
    assert_int_equal(log->entries[1].file, 0);
    iolog_free(log);
}

#define V2 "fio version 2 iolog\na add\na open\n"
#define V3 "fio version 3 iolog\n0 a add\n0 a open\n"

static void errors_have_places(void **state)
{
    static const struct {
        const char *text, *place, *what;
    } bad[] = {
        {"", "f:1:1: ", "no fio iolog"},
        {"fio version 1 iolog\n", "f:1:13: ", "expected 'fio version 2 iolog'"},
        {"hello\n", "f:1:1: ", "no fio iolog"},
        {V2 "a wirte 0 512\n", "f:4:3: ", "did you mean 'write'"},
        {V2 "b write 0 512\n", "f:4:1: ", "was not added"},
        {"fio version 2 iolog\na add\na write 0 512\n", "f:3:1: ", "is not open"},
        {V2 "a close\na read 0 512\n", "f:5:1: ", "is not open"},
        {V2 "a\n", "f:4:2: ", "expected a file and an action"},
        {V2 "a write 512\n", "f:4:12: ", "expected offset and length"},
        {V2 "a write\n", "f:4:8: ", "expected offset and length"},
        {V2 "a write x 512\n", "f:4:9: ", "'x' is no offset"},
        {V2 "a write 0 -5\n", "f:4:11: ", "'-5' is no length"},
        {V2 "a write 1 512\n", "f:4:9: ", "multiple of 512"},
        {V2 "a write 0 513\n", "f:4:11: ", "multiple of 512"},
        {V2 "a write 0 99999999999999999999\n", "f:4:11: ", "is no length"},
        {V2 "a write 0 512 9\n", "f:4:15: ", "more than 4 words"},
        {V2 "a wait\n", "f:4:7: ", "microseconds to wait"},
        {V3 "a write 0 512\n", "f:4:1: ", "no time in microseconds"},
        {V3 "5 a write 0 512 3\n", "f:4:17: ", "more than 5 words"},
        {V3 "5 a read 0 512\n4 a read 0 512\n", "f:5:1: ", "before that of an earlier line"},
        {V3 "5 a wait 100\n", "f:4:5: ", "'wait' in version 3"},
        {V3 "5 \xff read 0 512\n", "f:4:3: ", "not valid UTF-8"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        Error *err = NULL;
        struct iolog *log = iolog_parse("f", bad[i].text, strlen(bad[i].text), &err);

        assert_null(log);
        if (strncmp(error_get_pretty(err), bad[i].place, strlen(bad[i].place)) != 0 ||
            !strstr(error_get_pretty(err), bad[i].what) || !strstr(error_get_pretty(err), "expected")) {
            fail_msg("'%s' gave: %s", bad[i].text, error_get_pretty(err));
        }
        error_free(err);
    }
}

static void long_logs(void **state)
{
    size_t count = 100000;
    char *text = malloc(count * 40 + 100);
    size_t length = (size_t)sprintf(text, V3);
    struct iolog *log;

    for (size_t i = 0; i < count; i++) {
        length += (size_t)sprintf(text + length, "%zu a write %zu 512\n", i, i * 512);
    }
    log = parse(text);
    assert_int_equal(log->count, count);
    entry_is(log, count - 1, (int64_t)(count - 1) * NS_PER_US, SIM_OP_WRITE, (int64_t)(count - 1) * 512, 512);
    iolog_free(log);
    free(text);
}

static char *make_file(const char *text)
{
    char *path = strdup("/tmp/blksim-iolog-XXXXXX");
    FILE *out = fdopen(mkstemp(path), "w");

    fputs(text, out);
    fclose(out);
    return path;
}

/* A scenario with a bad iolog is refused before it runs, with the place in the iolog. */
static void checked_before_a_run(void **state)
{
    char *bad = make_file(V2 "a wirte 0 512\n");
    char *good = make_file(V2 "a write 0 512\n");
    char text[512];

    for (int i = 0; i < 2; i++) {
        const char *path = i ? good : bad;
        Error *err = NULL;
        struct scenario *scn;

        snprintf(text, sizeof(text), "blksim 1\nguest g\nworkload g iolog=%s\n", path);
        scn = scenario_parse("f", text, strlen(text), &err);
        assert_non_null(scn);
        assert_int_equal(scenario_check(scn, NULL, &err), i);
        if (!i) {
            assert_int_equal(strncmp(error_get_pretty(err), path, strlen(path)), 0);
            assert_non_null(strstr(error_get_pretty(err), ":4:3: 'wirte'"));
        }
        error_free(err);
        scenario_free(scn);
    }
    remove(bad);
    remove(good);
    free(bad);
    free(good);
}

static void files_that_are_not_there(void **state)
{
    static const char text[] = "blksim 1\nguest g\nworkload g iolog=/nonexistent/x\n";
    Error *err = NULL;
    struct scenario *scn = scenario_parse("f", text, strlen(text), &err);

    assert_false(scenario_check(scn, NULL, &err));
    assert_non_null(strstr(error_get_pretty(err), ":3:1: cannot read '/nonexistent/x': No such file"));
    error_free(err);
    scenario_free(scn);
    err = NULL;
    assert_null(iolog_load("/nonexistent/x", &err));
    assert_non_null(strstr(error_get_pretty(err), "/nonexistent/x:1:1: cannot open"));
    error_free(err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/scenario/iolog/version-2", version_2, NULL, NULL, NULL},
        {"/scenario/iolog/version-3", version_3, NULL, NULL, NULL},
        {"/scenario/iolog/errors", errors_have_places, NULL, NULL, NULL},
        {"/scenario/iolog/long", long_logs, NULL, NULL, NULL},
        {"/scenario/iolog/checked-before-a-run", checked_before_a_run, NULL, NULL, NULL},
        {"/scenario/iolog/missing", files_that_are_not_there, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
