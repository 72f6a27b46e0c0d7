/* Protects the scenario parser: what is accepted, and that everything else is refused with its place and a way out.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/runner.h"

static struct scenario *parse(const char *text)
{
    Error *err = NULL;
    struct scenario *scn = scenario_parse("f", text, strlen(text), &err);

    if (!scn) {
        fail_msg("%s", error_get_pretty(err));
    }
    return scn;
}

/* Refused by the parser, or by the checks before a run; the message begins with place and holds what. */
static bool is_refused(const char *text, size_t length, const char *place, const char *what)
{
    const struct run_options options = {.no_files = true};
    Error *err = NULL;
    struct scenario *scn = scenario_parse("f", text, length, &err);
    const char *message = "nothing";
    bool ok;

    if (scn) {
        scn->path = strdup("f");
        scenario_check(scn, &options, &err);
    }
    if (err) {
        message = error_get_pretty(err);
    }
    ok = strncmp(message, place, strlen(place)) == 0 && strstr(message, what) && strstr(message, "expected");
    if (!ok) {
        print_message("'%.120s' gave\n  %s\nwhere this should be\n  %s ... %s\n", text, message, place, what);
    }
    error_free(err);
    scenario_free(scn);
    return ok;
}

static void refused(const char *text, size_t length, const char *place, const char *what)
{
    assert_true(is_refused(text, length, place, what));
}

#define HEAD "blksim 1\n"
#define NODES HEAD "disk a size=1M\nblockdev-add driver=disk node-name=s disk=a\nguest g node=s\n"

static const struct {
    const char *text;
    const char *place;
    const char *what;
} bad[] = {
    {"", "f:1:1: ", "empty scenario"},
    {"# nothing\n", "f:1:1: ", "empty scenario"},
    {"settle\n", "f:1:1: ", "expected 'blksim 1'"},
    {"blksim 2\n", "f:1:8: ", "version 2 is unknown"},
    {"blksim x\n", "f:1:8: ", "'x' is no language version"},
    {"blksim\n", "f:1:7: ", "the line ends here"},
    {HEAD "blksim 1\n", "f:2:1: ", "a second 'blksim'"},
    {HEAD "seed -1\n", "f:2:6: ", "'-1' is no seed"},
    {HEAD "seed 1\nseed 2\n", "f:3:1: ", "a second 'seed'"},
    {HEAD "seed 18446744073709551616\n", "f:2:6: ", "is no seed"},
    {HEAD "schedule ramdom\n", "f:2:10: ", "did you mean 'random'"},
    {HEAD "schedule pct\n", "f:2:13: ", "expected depth=D"},
    {HEAD "schedule pct depth=0\n", "f:2:20: ", "depth 0"},
    {HEAD "choose disk.latancy 0x1 0 = 1\n", "f:2:8: ", "did you mean 'disk.latency'"},
    {HEAD "choose disk.latency 0x1 0 1\n", "f:2:27: ", "no '='"},
    {HEAD "dsik a\n", "f:2:1: ", "did you mean 'disk'"},
    {HEAD "  blockdev-mirorr device=s\n", "f:2:3: ", "did you mean 'blockdev-mirror'"},
    {HEAD "host b\n", "f:2:1: ", "this version does not know"},
    {HEAD "migrate a b\n", "f:2:1: ", "this version does not know"},
    {HEAD "disk\n", "f:2:1: ", "needs 'name'"},
    {HEAD "disk 9a\n", "f:2:6: ", "expected a name"},
    {HEAD "disk a capcity=1M\n", "f:2:8: ", "did you mean 'capacity'"},
    {HEAD "disk a size=1Q\n", "f:2:13: ", "expected a size"},
    {HEAD "disk a size=-1\n", "f:2:13: ", "expected a size"},
    {HEAD "disk a latency=5\xc2\xb5s\n", "f:2:16: ", "expected a time"},
    {HEAD "disk a size=1M size=2M\n", "f:2:16: ", "given already"},
    {HEAD "disk a align=3\n", "f:2:8: ", "power of two"},
    {HEAD "disk a queue-depth=0\n", "f:2:20: ", "1 to 1024"},
    {HEAD "disk a content=stamps\n", "f:2:16: ", "did you mean 'stamp'"},
    {HEAD "disk a b\n", "f:2:8: ", "too much"},
    {HEAD "disk a name=b\n", "f:2:8: ", "not written with '='"},
    {HEAD "disk a\ndisk a size=2M\n", "f:3:1: ", "only capacity and latency"},
    {HEAD "disk a file=x.img\n", "f:2:1: ", "--no-files"},
    {HEAD "1: disk a\n1: disk b\n", "f:3:1: ", "label '1' is taken by line 2"},
    {HEAD "a/b: disk a\n", "f:2:1: ", "is no label"},
    {HEAD "7:\n", "f:2:3: ", "a step after its label"},
    {HEAD "+1mss settle\n", "f:2:1: ", "is no time"},
    {HEAD "@5ms\n", "f:2:5: ", "a step after its time"},
    {HEAD "on b settle\n", "f:2:1: ", "there is no host 'b'"},
    {HEAD "try expect job m ready\n", "f:2:1: ", "'try' before 'expect job'"},
    {HEAD "settle now\n", "f:2:8: ", "too much"},
    {HEAD "run\n", "f:2:1: ", "needs 'time'"},
    {HEAD "run 10m\n", "f:2:5: ", "expected a time"},
    {HEAD "expect jobs m\n", "f:2:8: ", "did you mean 'job'"},
    {HEAD "expect error GenricError\n", "f:2:14: ", "did you mean 'GenericError'"},
    {HEAD "expect job m ready ok text\n", "f:2:23: ", "only after 'error'"},
    {HEAD "wait BLOCK_JOB_REDY\n", "f:2:1: ", "did you mean 'BLOCK_JOB_READY'"},
    {HEAD "wait BLOCK_JOB_READY devise=m\n", "f:2:1: ", "did you mean 'device'"},
    {HEAD "wait BLOCK_JOB_READY device=[]\n", "f:2:1: ", "expected a plain value"},
    {HEAD "wait BLOCK_JOB_READY device={\"id\":1}\n", "f:2:1: ", "expected a plain value"},
    {HEAD "wait BLOCK_JOB_READY timeout=fast\n", "f:2:30: ", "expected a time"},
    {HEAD "fault error dsik=a\n", "f:2:13: ", "did you mean 'disk'"},
    {HEAD "fault nosuchfault\n", "f:2:1: ", "there is no fault"},
    {HEAD "blockdev-add driver=disk node-name=s disk=a\n", "f:2:1: ", "there is no disk 'a'"},
    {HEAD "blockdev-add node-name=s\n", "f:2:1: ", "needs 'driver'"},
    {NODES "blockdev-mirror device=s target=t sync=full\n", "f:5:1: ", "there is no node 't'"},
    {NODES "blockdev-mirror device=s target=s sync=ful\n", "f:5:35: ", "'sync'"},
    {NODES "blockdev-mirror device=s target=s sync=full spede=1\n", "f:5:45: ", "did you mean 'speed'"},
    {NODES "blockdev-mirror device=s target=s sync=full speed=fast\n", "f:5:45: ", "'speed'"},
    {NODES "block-job-cancel device=m\n", "f:5:1: ", "there is no job 'm'"},
    {NODES "guest h node=S\n", "f:5:1: ", "did you mean 's'"},
    {NODES "io\n", "f:5:3: ", "expected a guest"},
    {NODES "io g\n", "f:5:5: ", "expected read, write"},
    {NODES "io g raed 0 1\n", "f:5:6: ", "did you mean 'read'"},
    {NODES "io k read 0 1\n", "f:5:1: ", "there is no guest 'k'"},
    {NODES "io g read 0\n", "f:5:1: ", "needs 'length'"},
    {NODES "io g read 0 4G\n", "f:5:13: ", "out of range"},
    {NODES "io g write -P 0x100 0 1\n", "f:5:15: ", "expected a byte"},
    {NODES "io g write -P\n", "f:5:14: ", "the line ends here"},
    {NODES "io g write -u 0 1\n", "f:5:12: ", "without '-z'"},
    {NODES "io g write -z -P 1 0 1\n", "f:5:15: ", "contradicts '-z'"},
    {NODES "io g write -z -c 0 64k\n", "f:5:", "contradicts '-z'"},
    {NODES "img create a\n", "f:5:1: ", "no size"},
    {NODES "img crate a 1M\n", "f:5:5: ", "did you mean 'create'"},
    {NODES "img create -f vmdk a 1M\n", "f:5:15: ", "expected one of raw, qcow2"},
    {NODES "img create -o cluster_size=64k a 1M\n", "f:5:15: ", "nothing to format raw"},
    {NODES "img create -f qcow2 -o clustersize=64k a 1M\n", "f:5:24: ", "did you mean 'cluster_size'"},
    {NODES "img create -f qcow2 -o cluster_size a 1M\n", "f:5:24: ", "expected NAME=VALUE"},
    {NODES "img create -f qcow2 -o cluster_size=x a 1M\n", "f:5:24: ", "expected a size"},
    {NODES "img create -f qcow2 -o compat=2 a 1M\n", "f:5:24: ", "expected one of 0.10, 1.1"},
    {NODES "img create -f qcow2 cluster_size=64k a 1M\n", "f:5:21: ", "expected it behind '-o'"},
    {NODES "img create -f qcow2 -o compat=1.1,compat=1.1 a 1M\n", "f:5:24: ", "is given already"},
    {NODES "img create -f qcow2 -o\n", "f:5:23: ", "the line ends here"},
    {NODES "img create -f qcow2 -b a b\n", "f:5:1: ", "without its format"},
    {NODES "img create -f qcow2 -F raw b 1M\n", "f:5:21: ", "without a backing image"},
    {NODES "img check -r some a\n", "f:5:14: ", "expected one of leaks, all"},
    {NODES "expect img a dirty\n", "f:5:14: ", "expected one of clean, leaks, corrupt"},
    {NODES "io g read 9223372036854775807 1\n", "f:5:31: ", "beyond the largest offset"},
    {NODES "workload g iolog=x ops=1\n", "f:5:20: ", "has no meaning with 'iolog'"},
    {NODES "workload g align=3000\n", "f:5:12: ", "power of two"},
    {NODES "workload g min=1M max=4k\n", "f:5:12: ", "'min' is above 'max'"},
    {HEAD "{\"execute\": \"query-jbos\"}\n", "f:2:1: ", "did you mean 'query-jobs'"},
    {HEAD "{\"execute\": 7}\n", "f:2:1: ", "expected an object with \"execute\""},
    {HEAD "{\"execute\": \"stop\", \"x\": 1}\n", "f:2:1: ", "\"x\" is no key"},
    {HEAD "{\"execute\": \"stop\"\n", "f:2:1: ", "JSON that does not end"},
    {HEAD "{\"execute\": stop}\n", "f:2:", "bad JSON"},
    {HEAD "{\"execute\": \"stop\"}x\n", "f:2:20: ", "expected a blank"},
    {HEAD "stop x=\"a\n", "f:2:8: ", "a quote that is not closed"},
    {HEAD "stop x=\"\\q\"\n", "f:2:9: ", "an unknown escape"},
    {HEAD "stop x=a\"b\"\n", "f:2:9: ", "a quote inside a word"},
    {HEAD "settle\r now\n", "f:2:7: ", "control character 0x0d"},
};

static void errors_have_places(void **state)
{
    unsigned wrong = 0;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        wrong += !is_refused(bad[i].text, strlen(bad[i].text), bad[i].place, bad[i].what);
    }
    assert_int_equal(wrong, 0);
}

static void bytes_that_are_no_text(void **state)
{
    refused(HEAD "disk a\0b\n", 18, "f:2:7: ", "a NUL byte");
    refused(HEAD "disk \xff\n", 16, "f:2:6: ", "not valid UTF-8");
    refused(HEAD "\xc3\xa4\xc3\n", 13, "f:2:2: ", "not valid UTF-8"); /* columns count characters */
    refused(HEAD "disk \xed\xa0\x80\n", 18, "f:2:6: ", "not valid UTF-8");
}

static void line_ends(void **state)
{
    struct scenario *unix_ends = parse("blksim 1\ndisk a \\\n  size=1M\n\nsettle # done\n");
    struct scenario *dos_ends = parse("blksim 1\r\ndisk a \\\r\n  size=1M\r\n\r\nsettle # done");

    assert_int_equal(unix_ends->step_count, 2);
    assert_true(scenario_equal(unix_ends, dos_ends));
    assert_int_equal(dos_ends->steps[1].line, 5);
    scenario_free(unix_ends);
    scenario_free(dos_ends);
}

static void values_are_typed(void **state)
{
    struct scenario *scn = parse(HEAD "blockdev-add driver=raw node-name=r file.driver=disk file.disk=a size=64k "
                                      "read-only=true x={\"a\": [1, null]} y=\"true\" z=-5 w=007\n");
    const struct qvalue *args = scn->steps[0].args;
    char *json = qvalue_to_json(args);

    assert_string_equal(json,
                        "{\"driver\":\"raw\",\"node-name\":\"r\",\"file\":{\"driver\":\"disk\",\"disk\":\"a\"},"
                        "\"size\":\"64k\",\"read-only\":true,\"x\":{\"a\":[1,null]},\"y\":\"true\",\"z\":-5,"
                        "\"w\":\"007\"}");
    free(json);
    scenario_free(scn);
}

static void prefixes(void **state)
{
    struct scenario *scn = parse(HEAD "17: +1ms on h try stop\n@1.5ms cont\n");
    char buf[24];

    assert_string_equal(scn->steps[0].label, "17");
    assert_int_equal(scn->steps[0].delay, SCN_DELAY_RELATIVE);
    assert_int_equal(scn->steps[0].delay_ns, NS_PER_MS);
    assert_string_equal(scn->steps[0].host, "h");
    assert_true(scn->steps[0].try_);
    assert_int_equal(scn->steps[1].delay, SCN_DELAY_ABSOLUTE);
    assert_int_equal(scn->steps[1].delay_ns, 1500 * NS_PER_US);
    assert_string_equal(scn_step_label(scn, 1, buf, sizeof(buf)), "2");
    scenario_free(scn);
}

static void refusals_may_be_tried(void **state)
{
    struct scenario *scn =
        parse(HEAD "try block-job-cancel device=m\nexpect error DeviceNotActive\n"
                   "block-job-pause device=k\ntry {\"execute\": \"job-pause\", \"arguments\": {\"id\": 1}}\n");

    assert_true(scenario_check(scn, NULL, NULL));
    scenario_free(scn);
}

/* Freezing the ordinals into labels keeps every entity, and taking a step out then changes no other's. */
static void labels_keep_entities(void **state)
{
    struct scenario *scn = parse(HEAD "stop\ncont\n2: stop\n");
    uint64_t first = scn_step_entity(scn, 0);
    uint64_t last = scn_step_entity(scn, 2);

    scenario_label_all(scn);
    assert_true(scn_step_entity(scn, 0) == first);
    assert_string_not_equal(scn->steps[1].label, "2");
    scenario_remove(scn, 0);
    assert_true(scn_step_entity(scn, 1) == last);
    scenario_free(scn);
}

static void very_long_scenarios(void **state)
{
    size_t count = 100000;
    char *text = malloc(count * 48 + 64);
    size_t length = (size_t)sprintf(text, HEAD);
    Error *err = NULL;
    struct scenario *scn;

    for (size_t i = 0; i < count; i++) {
        length += (size_t)sprintf(text + length, "s%zu: disk d%zu size=1M\n", i, i);
    }
    scn = scenario_parse("f", text, length, &err);
    assert_non_null(scn);
    assert_int_equal(scn->step_count, count);
    assert_true(scenario_check(scn, NULL, &err));
    scenario_free(scn);
    free(text);
}

/* A line of 1 MiB: as a word, a text, JSON, arguments and a comment. */
static void very_long_lines(void **state)
{
    static const struct {
        const char *head, *fill, *tail, *place;
    } lines[] = {
        {"", "x", "\n", "f:2:1: "},
        {"disk ", "x=1 ", "\n", "f:2:6: "},
        {"disk a file=\"", "y", "\"\n", "f:2:1: "},
        {"blockdev-add driver=disk x=", "[", "\n", "f:2:28: "},
        {"blockdev-add driver=disk x={\"a\": \"", "z", "\"}\n", "f:2:28: "},
        {"{\"execute\": \"", "z", "\"}\n", "f:2:1: "},
        {"#", "c", "\nnothing\n", "f:3:1: "},
    };
    size_t size = (size_t)MiB;

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        char *text = malloc(size + 128);
        size_t length = (size_t)sprintf(text, HEAD "%s", lines[i].head);

        while (length < size) {
            memcpy(text + length, lines[i].fill, strlen(lines[i].fill));
            length += strlen(lines[i].fill);
        }
        memcpy(text + length, lines[i].tail, strlen(lines[i].tail) + 1);
        refused(text, strlen(text), lines[i].place, "expected");
        free(text);
    }
}

static void too_many_arguments(void **state)
{
    char text[8192] = HEAD "blockdev-add driver=disk";
    size_t length = strlen(text);

    for (int i = 0; i < 300; i++) {
        length += (size_t)sprintf(text + length, " k%d=1", i);
    }
    refused(text, length, "f:2:", "too many arguments");
}

/* Whatever is cut off or changed in a good text, the parser answers. */
static void damaged_texts(void **state)
{
    static const char good[] =
        HEAD "seed 7\nschedule pct depth=3\nchoose disk.latency 0x1 0 = 1\n"
             "1: +1ms try io g write -P 0x11 0 64k\nblockdev-add a.b={\"c\": [1]} d=\"e\\x41\"\n"
             "{\"execute\": \"stop\"} # c\nwait STOP \\\n timeout=1s\n";
    char text[sizeof(good)];

    for (size_t i = 0; i < sizeof(good) - 1; i++) {
        static const char with[] = "\"{}\\=#: \n\r\xff";

        scenario_free(scenario_parse("f", good, i, NULL));
        for (size_t k = 0; k < sizeof(with); k++) {
            memcpy(text, good, sizeof(good));
            text[i] = with[k];
            scenario_free(scenario_parse("f", text, sizeof(good) - 1, NULL));
        }
    }
    assert_int_equal(sizeof(text), sizeof(good));
}

static void loading_files(void **state)
{
    char path[] = "/tmp/blksim-parse-XXXXXX";
    int fd = mkstemp(path);
    FILE *out = fdopen(fd, "w");
    Error *err = NULL;
    struct scenario *scn;

    fputs(HEAD "settle\n", out);
    fclose(out);
    scn = scenario_load(path, &err);
    assert_non_null(scn);
    assert_string_equal(scn->path, path);
    scenario_free(scn);
    remove(path);
    assert_null(scenario_load(path, &err));
    assert_non_null(strstr(error_get_pretty(err), ":1:1: cannot open: No such file"));
    error_free(err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/scenario/parse/errors", errors_have_places, NULL, NULL, NULL},
        {"/scenario/parse/bytes", bytes_that_are_no_text, NULL, NULL, NULL},
        {"/scenario/parse/line-ends", line_ends, NULL, NULL, NULL},
        {"/scenario/parse/values", values_are_typed, NULL, NULL, NULL},
        {"/scenario/parse/prefixes", prefixes, NULL, NULL, NULL},
        {"/scenario/parse/try", refusals_may_be_tried, NULL, NULL, NULL},
        {"/scenario/parse/labels", labels_keep_entities, NULL, NULL, NULL},
        {"/scenario/parse/100000-steps", very_long_scenarios, NULL, NULL, NULL},
        {"/scenario/parse/1M-line", very_long_lines, NULL, NULL, NULL},
        {"/scenario/parse/many-arguments", too_many_arguments, NULL, NULL, NULL},
        {"/scenario/parse/damaged", damaged_texts, NULL, NULL, NULL},
        {"/scenario/parse/load", loading_files, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
