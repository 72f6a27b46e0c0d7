/*
 * blksim shrink: the smallest scenario with the same failure signature.
 *
 * Every candidate runs in a child, so that one that dies by a signal or never yields is a failure like any other.
 */
#include "cli/cli.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct shrink_command {
    struct cli_source source;
    struct run_options options;
    struct runner *runner;
    char *signature;
    bool verbose;
};

/* --- running one candidate in a child ----------------------------------------------------------------------- */

struct one_item {
    const struct scenario *scn;
    char *signature;
};

static struct scenario *one(void *opaque, uint64_t index, Error **errp)
{
    struct one_item *item = opaque;

    return scenario_copy(item->scn);
}

static bool one_result(void *opaque, const struct pool_result *result)
{
    struct one_item *item = opaque;
    const char *signature = run_result_signature(&result->r);

    item->signature = signature ? strdup(signature) : NULL;
    return true;
}

/* Signature of the scenario's failure, NULL when it passes; caller frees. Sanitizer reports of candidates are
 * noise. */
static char *signature_of(struct shrink_command *c, const struct scenario *scn)
{
    struct one_item item = {.scn = scn};
    struct pool_job job = {.items = 1,
                           .workers = 1,
                           .stall_seconds = 30,
                           .item = one,
                           .result = one_result,
                           .opaque = &item,
                           .options = &c->options};

    pool_run(&job);
    return item.signature;
}

static bool fails(void *opaque, const struct scenario *scn)
{
    struct shrink_command *c = opaque;
    char *signature = signature_of(c, scn);
    bool same = signature && strcmp(signature, c->signature) == 0;

    free(signature);
    return same;
}

static void progress(void *opaque, size_t steps, unsigned runs)
{
    struct shrink_command *c = opaque;

    if (c->verbose) {
        fprintf(stderr, "\r%zu steps after %u runs ", steps, runs);
    }
}

/* The text goes to path, and with --json into an object on standard output; without either to standard output. */
static int write_result(const struct shrink_command *c, const struct scenario *scn, size_t steps_before,
                        const char *path, bool json)
{
    char *text = scenario_print(scn);
    FILE *out = path ? fopen(path, "w") : stdout;
    int status = EXIT_PASS;

    if (!out) {
        status = cli_error("cannot write '%s'", path);
    } else {
        if (path || !json) {
            fputs(text, out);
        }
        if (path && fclose(out) != 0) {
            status = cli_error("cannot write '%s'", path);
        }
    }
    if (json) {
        struct qvalue *object = qvalue_dict();

        qdict_put(object, "signature", qvalue_str(c->signature));
        qdict_put(object, "steps_before", qvalue_int((int64_t)steps_before));
        qdict_put(object, "steps", qvalue_int((int64_t)scn->step_count));
        qdict_put(object, "scenario", qvalue_str(text));
        cli_print_json(object);
    }
    free(text);
    return status;
}

static int shrink(int argc, char **argv)
{
    struct shrink_command c = {.source = {.profile = "mixed"}};
    const char *seed_text = NULL, *out_path = NULL;
    bool json = false;
    const struct cli_opt opts[] = {
        {"--seed", "N", CLI_STR, &seed_text, "shrink the scenario of a seed"},
        {"--profile", "P", CLI_STR, &c.source.profile, "of the seed (default mixed)"},
        {"--checks", "LIST", CLI_STR, &c.options.checks, "checkers to attach (default all)"},
        {"-o", "OUT", CLI_STR, &out_path, "write there instead of standard output"},
        {"--json", NULL, CLI_FLAG, &json, "one object: signature, steps, the text"},
        {.name = NULL},
    };
    struct scenario *scn, *small;
    int status;

    if (!cli_parse(&cli_shrink, opts, &argc, argv, &status)) {
        return status;
    }
    if (!seed_text == !argc || argc > 1) {
        return cli_error("shrink: expected one file or --seed N");
    }
    if (seed_text) {
        c.source.has_seeds = true;
        if (!cli_parse_seeds(seed_text, &c.source.first_seed, &c.source.last_seed)) {
            return cli_error("shrink: '%s' is no seed", seed_text);
        }
    }
    c.source.files = argv + 1;
    scn = cli_load_one(&c.source, &c.options);
    if (!scn) {
        return EXIT_USAGE;
    }
    c.signature = signature_of(&c, scn);
    if (!c.signature) {
        scenario_free(scn);
        return cli_error("shrink: the scenario passes, there is nothing to keep");
    }
    c.verbose = isatty(STDERR_FILENO);
    if (scn->schedule == SCN_SCHEDULE_PCT && strncmp(c.signature, "crash", 5) != 0) {
        struct scenario *frozen = scenario_freeze(scn, &c.options);

        if (fails(&c, frozen)) {
            scenario_free(scn);
            scn = frozen;
        } else {
            scenario_free(frozen);
        }
    }
    small = scenario_shrink(scn, fails, &c, progress);
    if (c.verbose) {
        fputc('\n', stderr);
    }
    fprintf(stderr, "%s: %zu steps to %zu\n", c.signature, scn->step_count, small->step_count);
    status = write_result(&c, small, scn->step_count, out_path, json);
    scenario_free(small);
    scenario_free(scn);
    free(c.signature);
    return status;
}

const struct cli_command cli_shrink = {
    .name = "shrink",
    .usage = "FILE|--seed N [-o OUT] [--json]",
    .summary = "the smallest scenario with the same failure",
    .run = shrink,
};
