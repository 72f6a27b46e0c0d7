/*
 * blksim diff: the first event at which two runs differ; of two scenarios, or of one under two builds.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The event stream of a file as JSON lines, by this build or another. NULL after a message. */
static FILE *trace_here(const char *path)
{
    struct cli_source source = {.files = (char **)&path, .file_count = 1};
    struct run_options options = {.trace = tmpfile()};
    struct scenario *scn = cli_load_one(&source, &options);
    struct runner *runner;
    struct run_result result;

    if (!scn || !options.trace) {
        return NULL;
    }
    runner = runner_new();
    runner_run(runner, scn, &options, false, &result);
    run_result_clear(&result);
    runner_free(runner);
    scenario_free(scn);
    rewind(options.trace);
    return options.trace;
}

static FILE *trace_elsewhere(const char *program, const char *path)
{
    FILE *out = tmpfile();
    char name[64];
    pid_t pid;
    int status = 0;

    if (!out) {
        return NULL;
    }
    snprintf(name, sizeof(name), "/dev/fd/%d", fileno(out));
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        freopen("/dev/null", "w", stdout);
        execlp(program, program, "run", "--trace", name, path, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) > EXIT_VIOLATION) {
        cli_error("diff: '%s run --trace' failed", program);
        fclose(out);
        return NULL;
    }
    rewind(out);
    return out;
}

static int compare(FILE *a, FILE *b)
{
    char *line_a = NULL, *line_b = NULL;
    size_t room_a = 0, room_b = 0;
    uint64_t number = 0;
    int status = EXIT_PASS;

    for (;;) {
        bool have_a = getline(&line_a, &room_a, a) > 0;
        bool have_b = getline(&line_b, &room_b, b) > 0;

        number++;
        if (!have_a && !have_b) {
            printf("the same %llu events\n", (unsigned long long)number - 1);
            break;
        }
        if (have_a != have_b || strcmp(line_a, line_b) != 0) {
            printf("event %llu differs\n- %s+ %s", (unsigned long long)number, have_a ? line_a : "(end)\n",
                   have_b ? line_b : "(end)\n");
            status = EXIT_VIOLATION;
            break;
        }
    }
    free(line_a);
    free(line_b);
    return status;
}

static int diff(int argc, char **argv)
{
    const char *other = NULL;
    const struct cli_opt opts[] = {
        {"--exec", "OTHER_BLKSIM", CLI_STR, &other, "run the second one with this build"},
        {.name = NULL},
    };
    FILE *a, *b;
    int status;

    if (!cli_parse(&cli_diff, opts, &argc, argv, &status)) {
        return status;
    }
    if (argc != 2 && !(argc == 1 && other)) {
        return cli_error("diff: expected two files, or one and --exec OTHER_BLKSIM");
    }
    a = trace_here(argv[1]);
    if (!a) {
        return EXIT_USAGE;
    }
    b = other ? trace_elsewhere(other, argv[argc]) : trace_here(argv[2]);
    if (!b) {
        fclose(a);
        return EXIT_USAGE;
    }
    status = compare(a, b);
    fclose(a);
    fclose(b);
    return status;
}

const struct cli_command cli_diff = {
    .name = "diff",
    .usage = "A B | A [B] --exec OTHER_BLKSIM",
    .summary = "the first event at which two runs or builds differ",
    .run = diff,
};
