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

#define CONTEXT 3 /* events shown that are still the same */

/* What two runs are compared by: their events, a line each. */
struct comparison {
    uint64_t number; /* of the event in hand */
    char *a, *b;     /* NULL at the end */
    size_t room_a, room_b;
    char *before[CONTEXT];
};

/* The next event of each. False when they differ or both have ended. */
static bool same_event(struct comparison *c, FILE *a, FILE *b)
{
    bool have_a = getline(&c->a, &c->room_a, a) > 0;
    bool have_b = getline(&c->b, &c->room_b, b) > 0;

    c->number++;
    if (!have_a || !have_b || strcmp(c->a, c->b) != 0) {
        if (!have_a) {
            free(c->a);
            c->a = NULL;
        }
        if (!have_b) {
            free(c->b);
            c->b = NULL;
        }
        return false;
    }
    free(c->before[0]);
    memmove(c->before, c->before + 1, (CONTEXT - 1) * sizeof(c->before[0]));
    c->before[CONTEXT - 1] = strdup(c->a);
    return true;
}

static void show_json(const struct comparison *c, bool same)
{
    struct qvalue *object = qvalue_dict();

    qdict_put(object, "same", qvalue_bool(same));
    qdict_put(object, "event", same ? qvalue_null() : qvalue_int((int64_t)c->number));
    qdict_put(object, "events_alike", qvalue_int((int64_t)c->number - 1));
    qdict_put(object, "a", c->a ? qvalue_from_json(c->a, strlen(c->a), NULL) : qvalue_null());
    qdict_put(object, "b", c->b ? qvalue_from_json(c->b, strlen(c->b), NULL) : qvalue_null());
    cli_print_json(object);
}

static void show_text(const struct comparison *c, bool same)
{
    if (same) {
        printf("the same %llu events\n", (unsigned long long)c->number - 1);
        return;
    }
    printf("event %llu differs\n", (unsigned long long)c->number);
    for (unsigned i = 0; i < CONTEXT; i++) {
        if (c->before[i]) {
            printf("  %s", c->before[i]);
        }
    }
    printf("- %s+ %s", c->a ? c->a : "(end)\n", c->b ? c->b : "(end)\n");
}

static int compare(FILE *a, FILE *b, bool json)
{
    struct comparison c = {0};
    bool same;

    while (same_event(&c, a, b)) {
    }
    same = !c.a && !c.b;
    (json ? show_json : show_text)(&c, same);
    free(c.a);
    free(c.b);
    for (unsigned i = 0; i < CONTEXT; i++) {
        free(c.before[i]);
    }
    return same ? EXIT_PASS : EXIT_VIOLATION;
}

static int diff(int argc, char **argv)
{
    const char *other = NULL;
    bool json = false;
    const struct cli_opt opts[] = {
        {"--exec", "OTHER_BLKSIM", CLI_STR, &other, "run the second one with this build"},
        {"--json", NULL, CLI_FLAG, &json, "one object: same, event, a, b"},
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
    status = compare(a, b, json);
    fclose(a);
    fclose(b);
    return status;
}

const struct cli_command cli_diff = {
    .name = "diff",
    .usage = "A B | A [B] --exec OTHER_BLKSIM [--json]",
    .summary = "the first event at which two runs or builds differ",
    .run = diff,
};
