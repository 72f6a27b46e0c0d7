/* Protects --no-files (DESIGN 5): a scenario that would open a file of this machine is refused before it runs, and
 * a world that runs all the same opens none. */
#include "tests/testlib.h"

#include <unistd.h>

#include "scenario/lang.h"
#include "scenario/runner.h"

static struct scenario *parse(const char *lines, const char *path)
{
    char text[512];
    Error *err = NULL;
    snprintf(text, sizeof(text), "blksim 1\n%s\n", lines);
    struct scenario *scn = scenario_parse(path, text, strlen(text), &err);
    if (!scn) {
        fail_msg("%s", error_get_pretty(err));
    }
    free(scn->path);
    scn->path = strdup(path);
    return scn;
}

static void expect_forbidden(const char *lines)
{
    const struct run_options options = {.no_files = true};
    struct scenario *scn = parse(lines, "test.blk");
    Error *err = NULL;
    assert_true(scn_step_has_files(&scn->steps[0]));
    assert_false(scenario_check(scn, &options, &err));
    assert_non_null(strstr(error_get_pretty(err), "test.blk:2:1: host files are forbidden here (--no-files)"));
    error_free(err);
    scenario_free(scn);
}

static void test_forbidden(void **state)
{
    expect_forbidden("blockdev-add driver=file node-name=f filename=x");
    expect_forbidden("blockdev-add driver=raw node-name=f file.driver=file file.filename=x");
    expect_forbidden("blockdev-add driver=raw node-name=f file={\"driver\": \"file\", \"filename\": \"x\"}");
    expect_forbidden("blockdev-add driver=quorum node-name=f vote-threshold=1 children.0.driver=file "
                     "children.0.filename=x");
}

/* A node that is only called "file" is none. */
static void test_allowed(void **state)
{
    const struct run_options options = {.no_files = true};
    struct scenario *scn = parse("disk d size=1M\nblockdev-add driver=disk node-name=file disk=d\n"
                                 "blockdev-add driver=raw node-name=f file=file",
                                 "test.blk");
    Error *err = NULL;
    if (!scenario_check(scn, &options, &err)) {
        fail_msg("%s", error_get_pretty(err));
    }
    assert_false(scn_step_has_files(&scn->steps[2]));
    scenario_free(scn);
}

/* Relative to the scenario, wherever blksim was started. */
static void test_relative(void **state)
{
    char folder[] = "/tmp/blksim-host-files-XXXXXX";
    char name[64], scenario[64];
    assert_non_null(mkdtemp(folder));
    snprintf(name, sizeof(name), "%s/x.img", folder);
    snprintf(scenario, sizeof(scenario), "%s/t.blk", folder);
    FILE *image = fopen(name, "w");
    assert_non_null(image);
    assert_int_equal(ftruncate(fileno(image), MiB), 0);
    struct scenario *scn = parse("blockdev-add driver=raw node-name=s file.driver=file file.filename=x.img\n"
                                 "guest g node=s\nio g write -P 0x11 64k 4k\nio g read -P 0x11 64k 4k",
                                 scenario);
    for (int i = 0; i < 2; i++) {
        struct runner *runner = runner_new();
        struct run_options options = {.no_files = i == 1};
        struct run_result result;
        runner_run(runner, scn, &options, false, &result);
        assert_int_equal(result.verdict == VERDICT_PASS, i == 0);
        run_result_clear(&result);
        runner_free(runner);
    }
    fclose(image);
    image = fopen(name, "r");
    assert_int_equal(fseek(image, 64 * KiB, SEEK_SET), 0);
    assert_int_equal(fgetc(image), 0x11);
    fclose(image);
    scenario_free(scn);
    unlink(name);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T("/scenario/host-files/forbidden", test_forbidden),
        T("/scenario/host-files/allowed", test_allowed),
        T("/scenario/host-files/relative", test_relative),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
