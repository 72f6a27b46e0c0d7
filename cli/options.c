/*
 * Options by table, and the small services that all subcommands share.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#ifndef BUILD_FLAGS
#define BUILD_FLAGS "?"
#endif
#ifndef BUILD_REVISION
#define BUILD_REVISION "?"
#endif
#if defined(__clang__)
#define BUILD_COMPILER "clang " __clang_version__
#else
#define BUILD_COMPILER "gcc " __VERSION__
#endif

static const char *program = "blksim";

const char *cli_build_id(void)
{
    return "blksim " BUILD_REVISION ", " BUILD_COMPILER ", " BUILD_FLAGS;
}

const char *cli_program(void)
{
    return program;
}

void cli_set_program(const char *argv0)
{
    program = argv0;
}

int cli_error(const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    fprintf(stderr, "blksim: ");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return EXIT_USAGE;
}

static void help(const struct cli_command *command, const struct cli_opt *opts)
{
    printf("usage: blksim %s %s\n\n%s\n\n", command->name, command->usage, command->summary);
    for (; opts->name; opts++) {
        char left[48];

        if (!opts->help) {
            continue;
        }
        snprintf(left, sizeof(left), "%s%s%s", opts->name, opts->operand ? " " : "",
                 opts->operand ? opts->operand : "");
        printf("  %-24s %s\n", left, opts->help);
    }
    printf("  %-24s %s\n", "--help", "this text");
}

static bool parse_u64(const char *text, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 0);
    return !errno && end != text && !*end && text[0] != '-';
}

static bool add_given(struct cli_given *given, const char *name, const char *value)
{
    if (given->count == CLI_LIST_MAX) {
        return false;
    }
    given->name[given->count] = name;
    given->value[given->count++] = value;
    return true;
}

static bool set_option(const struct cli_opt *opt, const char *text)
{
    switch (opt->type) {
    case CLI_FLAG:
        *(bool *)opt->value = true;
        return true;
    case CLI_STR:
        *(const char **)opt->value = text;
        return true;
    case CLI_U64:
        return parse_u64(text, opt->value);
    case CLI_TIME:
        return sim_parse_time(text, opt->value);
    case CLI_LIST:
        return add_given(opt->value, opt->name, text);
    }
    return false;
}

/* --name=value, --name value, -jN */
static const struct cli_opt *find_option(const struct cli_opt *opts, const char *arg, const char **attached)
{
    *attached = NULL;
    for (; opts->name; opts++) {
        size_t n = strlen(opts->name);

        if (strncmp(arg, opts->name, n) != 0) {
            continue;
        }
        if (!arg[n]) {
            return opts;
        }
        if (opts->operand && (arg[n] == '=' || opts->name[1] != '-')) {
            *attached = arg + n + (arg[n] == '=');
            return opts;
        }
    }
    return NULL;
}

bool cli_parse(const struct cli_command *command, const struct cli_opt *opts, int *argc, char **argv, int *status)
{
    int operands = 0;
    bool only_operands = false;

    *status = EXIT_USAGE;
    for (int i = 1; i < *argc; i++) {
        const struct cli_opt *opt;
        const char *value;

        if (only_operands || argv[i][0] != '-' || !argv[i][1]) {
            argv[1 + operands++] = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--") == 0) {
            only_operands = true;
            continue;
        }
        if (strcmp(argv[i], "--help") == 0) {
            help(command, opts);
            *status = EXIT_PASS;
            return false;
        }
        opt = find_option(opts, argv[i], &value);
        if (!opt) {
            cli_error("%s: there is no option '%s'; see `blksim %s --help`", command->name, argv[i], command->name);
            return false;
        }
        if (opt->operand && !value) {
            value = i + 1 < *argc ? argv[++i] : NULL;
        }
        if (opt->operand && !value) {
            cli_error("%s: option '%s' needs %s", command->name, opt->name, opt->operand);
            return false;
        }
        if (!set_option(opt, value)) {
            cli_error("%s: '%s' is no valid value of option '%s', expected %s", command->name, value ? value : "",
                      opt->name, opt->operand ? opt->operand : "it less often");
            return false;
        }
    }
    *argc = operands;
    return true;
}

bool cli_parse_seeds(const char *text, uint64_t *first, uint64_t *last)
{
    const char *dots = strstr(text, "..");
    char low[32];

    if (!dots) {
        *last = 0;
        if (!parse_u64(text, first)) {
            return false;
        }
        *last = *first;
        return true;
    }
    if ((size_t)(dots - text) >= sizeof(low)) {
        return false;
    }
    memcpy(low, text, (size_t)(dots - text));
    low[dots - text] = '\0';
    return parse_u64(low, first) && parse_u64(dots + 2, last) && *first <= *last && *last < UINT64_MAX;
}

bool cli_check_list(const char *checks)
{
    struct sim *sim = sim_new();
    Error *err = NULL;
    struct check_set *set = check_attach(sim, checks ? checks : "all", &err);
    bool ok = set != NULL;

    if (!ok) {
        cli_error("%s", error_get_pretty(err));
        error_free(err);
    }
    check_set_free(set);
    sim_reset(sim);
    sim_delete(sim);
    return ok;
}

bool cli_check_profile(const char *profile)
{
    Error *err = NULL;
    struct scenario *scn = scenario_generate(profile, 0, &err); /* weights and all */

    if (!scn) {
        cli_error("%s", error_get_pretty(err));
        error_free(err);
    }
    scenario_free(scn);
    return scn != NULL;
}

void cli_print_json(struct qvalue *object)
{
    char *text = qvalue_to_json(object);

    printf("%s\n", text);
    free(text);
    qvalue_free(object);
}

struct scenario *cli_load_one(const struct cli_source *source, const struct run_options *options)
{
    Error *err = NULL;
    struct scenario *scn = source->has_seeds ? scenario_generate(source->profile, source->first_seed, &err)
                                             : scenario_load(source->files[0], &err);

    if (scn && !scenario_check(scn, options, &err)) {
        scenario_free(scn);
        scn = NULL;
    }
    if (!scn) {
        cli_error("%s", error_get_pretty(err));
        error_free(err);
    }
    return scn;
}
