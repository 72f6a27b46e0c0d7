/* Protects power that fails in the middle of a step: the host dies at once, the media keep what was asked for,
 * steps are left out up to the next powerloss, and whoever waited for the dead host goes on. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "scenario/runner.h"

#define OPEN \
    "blockdev-add driver=raw node-name=s file.driver=disk file.disk=a\n" \
    "guest g node=s\n"

/* Runs it; the caller clears the result. */
static void run(const char *text, struct run_result *result)
{
    const struct run_options options = {.no_files = true};
    struct runner *runner = runner_new();
    Error *err = NULL;
    struct scenario *scn = scenario_parse("f", text, strlen(text), &err);

    if (!scn) {
        fail_msg("%s", error_get_pretty(err));
    }
    assert_true(scenario_check(scn, &options, &err));
    runner_run(runner, scn, &options, false, result);
    scenario_free(scn);
    runner_free(runner);
}

static void passes(const char *text, struct run_stats *stats)
{
    struct run_result result;

    run(text, &result);
    if (result.verdict != VERDICT_PASS) {
        fail_msg("%s: %s in\n%s", result.violations->signature, result.violations->detail, text);
    }
    *stats = result.stats;
    run_result_clear(&result);
}

/* Three writes, the first of them flushed; the power fails at the third. */
static void keeps(const char *keep, const char *second, const char *third)
{
    struct run_stats stats;
    char text[1024];

    snprintf(text, sizeof(text),
             "blksim 1\ndisk a size=1M\n" OPEN "fault power-cut after-write=3 keep=%s\n"
             "io g write -P 0x11 0 4k\nio g flush\nio g write -P 0x22 4k 4k\nio g write -P 0x33 8k 4k\n"
             "io g write -P 0x44 12k 4k\nexpect view s -P 0x99 0 4k\npowerloss all\n" OPEN
             "io g read -P 0x11 0 4k\nio g read -P %s 4k 4k\nio g read -P %s 8k 4k\nio g read -P 0 12k 4k\n",
             keep, second, third);
    passes(text, &stats);
    assert_int_equal(stats.power_losses, 1);
    assert_int_equal(stats.power_writes, 3); /* nobody counts once it is over */
}

static void what_media_keep(void **state)
{
    keeps("none", "0", "0");
    keeps("all", "0x22", "0x33");
}

/* Each line waits in its own way when the power goes. */
static void whatever_waits_ends(void **state)
{
    static const char *const lines[] = {
        "io g write 0 64k",
        "workload g ops=20 wait=on",
        "io g aio_write 0 64k\nsettle",
        "io g aio_write 0 64k\ncheck",
        "io g aio_write 0 64k\nunplug g",
        "io g aio_write 0 64k\nwait STOP timeout=1s",
        "io g aio_write 0 64k\nrun 1s",
        "io g aio_write 0 64k\n+1s io g read 0 4k",
        "io g aio_write 0 64k\nblock_resize node-name=s size=2M",
        "io g truncate 3M",
        "img create -f raw b 1M",
        "expect error GenericError\nblock_resize node-name=s size=2M",
        "blockdev-mirror job-id=m device=s target=t sync=full\nwait BLOCK_JOB_READY device=m\nblock-job-complete "
        "device=m\nwait BLOCK_JOB_COMPLETED device=m",
    };

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        struct run_stats stats;
        char text[1024];

        snprintf(
            text, sizeof(text),
            "blksim 1\ndisk a size=1M content=stamp\ndisk b size=1M\n" OPEN
            "blockdev-add driver=disk node-name=t disk=b\nfault power-cut after-write=1\n%s\npowerloss all\n" OPEN
            "io g write 0 64k\n",
            lines[i]);
        passes(text, &stats);
        assert_int_equal(stats.power_losses, 1);
    }
}

static void by_time(void **state)
{
    struct run_stats stats;

    passes("blksim 1\ndisk a size=1M\n" OPEN
           "fault power-cut after=10ms keep=none\nio g write -P 1 0 4k\nrun 100ms\n"
           "io g read -P 2 0 4k\npowerloss all keep=all\n" OPEN "io g read -P 0 0 4k\n",
           &stats);
    assert_int_equal(stats.power_losses, 1);
}

/* Without a powerloss line the rest is left out, and the end is as ever. */
static void to_the_end(void **state)
{
    struct run_stats stats;

    passes("blksim 1\ndisk a size=1M\n" OPEN "fault power-cut after-write=1\nworkload g ops=50\nsettle\n"
           "expect view s -P 0x99 0 4k\n",
           &stats);
    assert_int_equal(stats.power_losses, 1);
}

/* What comes too late does nothing, and counts. */
static void never_reached(void **state)
{
    struct run_stats stats;

    passes("blksim 1\ndisk a size=1M\n" OPEN
           "fault power-cut\nio g write 0 4k\nio g write -z 4k 4k\nio g truncate 2M\n"
           "io g read 0 4k\nio g flush\n",
           &stats);
    assert_int_equal(stats.power_losses, 0);
    assert_int_equal(stats.power_writes, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"/scenario/power/keep", what_media_keep, NULL, NULL, NULL},
        {"/scenario/power/whatever-waits-ends", whatever_waits_ends, NULL, NULL, NULL},
        {"/scenario/power/by-time", by_time, NULL, NULL, NULL},
        {"/scenario/power/to-the-end", to_the_end, NULL, NULL, NULL},
        {"/scenario/power/never-reached", never_reached, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
