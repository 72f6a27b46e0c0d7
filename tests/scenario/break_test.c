/* Protects breakpoints in scenarios: their steps, who lets go of whom in the end, and what blkverify finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scenario/runner.h"

#define GRAPH \
    "blksim 1\ndisk a size=1M\n" \
    "blockdev-add driver=raw node-name=n file.driver=blkdebug file.align=4096 file.image.driver=disk " \
    "file.image.disk=a\nguest g node=n\n"

static struct scenario *parse(const char *text)
{
    Error *err = NULL;
    struct scenario *scn = scenario_parse("test.blk", text, strlen(text), &err);

    if (!scn) {
        fail_msg("%s", error_get_pretty(err));
    }
    return scn;
}

/* Runs text; signature NULL: it passes. */
static void assert_run(const char *text, const char *signature)
{
    struct scenario *scn = parse(text);
    struct runner *runner = runner_new();
    struct run_options options = {.no_files = true};
    struct run_result result;

    runner_run(runner, scn, &options, false, &result);
    if (signature == NULL && result.verdict != VERDICT_PASS) {
        fail_msg("%s", run_result_signature(&result));
    } else if (signature != NULL) {
        assert_int_not_equal(result.verdict, VERDICT_PASS);
        assert_string_equal(run_result_signature(&result), signature);
    }
    run_result_clear(&result);
    runner_free(runner);
    scenario_free(scn);
}

static void refused(const char *line, const char *why)
{
    char text[600];
    Error *err = NULL;

    snprintf(text, sizeof(text), GRAPH "%s\n", line);
    struct scenario *scn = scenario_parse("test.blk", text, strlen(text), &err);
    if (scn) {
        struct run_options options = {.no_files = true};
        assert_false(scenario_check(scn, &options, &err));
        scenario_free(scn);
    }
    if (!strstr(error_get_pretty(err), why)) {
        fail_msg("expected '%s' in '%s'", why, error_get_pretty(err));
    }
    error_free(err);
}

/* fact: block 7.1/wait-break, 7.1/break, 7.1/resume */
static void test_steps(void **state)
{
    assert_run(GRAPH "io g break pwritev A\nio g aio_write -P 1 0 4k\nio g wait_break A\nsettle\n"
                     "io g read -P 0 0 4k\nio g resume A\nsettle\nio g read -P 1 0 4k\n",
               NULL);
    /* it waits for a request that is issued later */
    assert_run(GRAPH "io g break pwritev A\nworkload g ops=10 read=0 write=1 think=1s wait=off\nio g wait_break A\n"
                     "io g resume A\nsettle\n",
               NULL);
}

static void test_refused(void **state)
{
    refused("io g break", "event");
    refused("io g break A", "'A'");
    refused("io g break write A", "'write'");
    refused("io g break pwritev", "tag");
    refused("io g break pwritev A B", "'B'");
    refused("io g resume", "tag");
    refused("io g wait_break 1", "tag");
    refused("io nobody resume A", "there is no guest 'nobody'");
}

/* What cannot be done fails the scenario, or nothing happens if it only tries. */
static void test_failures(void **state)
{
    assert_run(GRAPH "io g resume A\n", "expect.no-break.-.-.-.resume");
    assert_run(GRAPH "try io g resume A\n", NULL);
    assert_run(GRAPH "io g remove_break A\n", "expect.no-break.-.-.-.remove_break");
    assert_run(GRAPH "io g break pwritev A\nio g remove_break A\nio g write 0 4k\n", NULL);
    assert_run(GRAPH "io g break pwritev A\nio g wait_break A\n", "expect.timeout.-.-.-.wait_break");
    assert_run(GRAPH "io g break pwritev A\ntry io g wait_break A\n", NULL);
    assert_run("blksim 1\ndisk a size=1M\nblockdev-add driver=disk node-name=n disk=a\nguest g node=n\n"
               "io g break pwritev A\n",
               "expect.no-blkdebug.-.-.-.break");
    assert_run("blksim 1\nguest g\nio g break pwritev A\n", "expect.no-medium.-.-.-.break");
}

/* A breakpoint is no hang: it goes when a step waits for what it holds, and when the steps are over. */
static void test_released(void **state)
{
    assert_run(GRAPH "io g break pwritev A\nio g aio_write 0 4k\nsettle\ncheck\n", NULL);
    assert_run(GRAPH "io g break pwritev A\nio g write -P 1 0 4k\nio g read -P 1 0 4k\n", NULL);
    assert_run(GRAPH "io g break pwritev A\nio g aio_write 0 512\nunplug g\n", NULL);
    assert_run(GRAPH "io g break flush_to_disk A\nio g write 0 4k\nio g aio_flush\nstop\ncont\n", NULL);
    assert_run(GRAPH "disk b size=1M\nblockdev-add driver=disk node-name=t disk=b\nio g write 0 64k\n"
                     "io g break read_aio A\nblockdev-mirror job-id=m device=n target=t sync=full\n"
                     "io g wait_break A\nsettle\n",
               NULL);
    assert_run(GRAPH "io g break pwritev A\nio g aio_write 0 4k\nio g wait_break A\npowerloss all\n", NULL);
}

/* fact: block 7.2/differ */
static void test_verify(void **state)
{
    const char *both = "blksim 1\ndisk a size=1M\ndisk b size=1M%s\n"
                       "blockdev-add driver=blkverify node-name=n raw.driver=disk raw.disk=a test.driver=disk "
                       "test.disk=b\nguest g node=n\n%s\n";
    char text[600];

    snprintf(text, sizeof(text), both, "", "io g write 0 64k\nio g read 0 1M");
    assert_run(text, NULL);
    snprintf(text, sizeof(text), both, " content=stamp", "io g write 0 64k\ntry io g read 0 64k");
    assert_run(text, NULL);
    snprintf(text, sizeof(text), both, " content=stamp", "try io g read 0 1M");
    assert_run(text, "blkverify.content.-.-.blkverify.read");
    snprintf(text, sizeof(text), both, "", "fault error disk=b op=write errno=EIO\ntry io g write 0 64k");
    assert_run(text, "blkverify.result.-.-.blkverify.write");
    snprintf(text, sizeof(text), both, "",
             "fault error disk=b op=write errno=EIO\nfault error disk=a op=write errno=EIO\ntry io g write 0 64k");
    assert_run(text, NULL);
}

/* The steps survive text and bytes. */
static void test_forms(void **state)
{
    static const char text[] = GRAPH
        "io g break pwritev_rmw_after_tail A\nio g aio_write 0 512\n3x: io g wait_break A\ntry io g resume A\n"
        "+1ms io g remove_break A\n";
    struct scenario *scn = parse(text);
    char *printed = scenario_print(scn);
    size_t length;
    uint8_t *bytes = scenario_encode(scn, &length);
    struct scenario *decoded = scenario_decode(bytes, length);

    assert_string_equal(printed, text);
    assert_true(scenario_equal(scn, decoded));
    scenario_free(decoded);
    scenario_free(scn);
    free(bytes);
    free(printed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/scenario/break/steps", test_steps, NULL, NULL, NULL},
        {"/scenario/break/refused", test_refused, NULL, NULL, NULL},
        {"/scenario/break/failures", test_failures, NULL, NULL, NULL},
        {"/scenario/break/released", test_released, NULL, NULL, NULL},
        {"/scenario/break/forms", test_forms, NULL, NULL, NULL},
        {"/scenario/blkverify", test_verify, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
