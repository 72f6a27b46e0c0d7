/*
 * blksim cut: power fails at every write of a scenario.
 *
 * Each scenario runs once whole, so that its writes are counted; then, for each write and for nothing, everything
 * and a drawn part of the unflushed writes kept, it runs up to there, loses power, and goes on from what is left.
 * Every such run is a scenario of its own (fault power-cut), and a failing one is stored like any other.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const keeps[] = {"none", "all", "drawn"};

struct cut_command {
    struct cli_source source;
    struct run_options options;
    const char *seeds_text;
    uint64_t workers, max_cuts, max_failures;
    int64_t time_ns; /* of the clock on the wall; 0: no limit */
    bool json;

    /* the scenario in hand */
    struct scenario *scn;
    uint64_t seed;
    uint64_t writes, cuts;
    uint64_t failed_here;

    uint64_t workloads, all_writes, all_cuts, runs, reached, failures;
    uint64_t checks, corrupt, leaking, repaired;
    bool terminal;
    double started;
};

static double now_seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Cuts are spread evenly over more writes than may be tried. */
static uint64_t write_of(const struct cut_command *c, uint64_t cut)
{
    return c->cuts < c->writes ? 1 + cut * c->writes / c->cuts : cut + 1;
}

static struct scenario *item(void *opaque, uint64_t index, Error **errp)
{
    const struct cut_command *c = opaque;

    (void)errp;
    if (!c->cuts) {
        return scenario_cut(c->scn, 0, "drawn");
    }
    return scenario_cut(c->scn, write_of(c, index / ARRAY_SIZE(keeps)), keeps[index % ARRAY_SIZE(keeps)]);
}

static bool on_result(void *opaque, const struct pool_result *result)
{
    struct cut_command *c = opaque;
    const struct run_result *r = &result->r;

    if (!c->cuts) {
        c->writes = r->stats.power_writes;
    } else {
        c->runs++;
        c->reached += r->stats.power_losses != 0;
    }
    c->checks += r->stats.image_checks;
    c->corrupt += r->stats.images_corrupt;
    c->leaking += r->stats.images_leaking;
    c->repaired += r->stats.images_repaired;
    if (r->verdict == VERDICT_PASS) {
        return true;
    }
    c->failures++;
    if (!c->failed_here++ && !c->json) { /* a bug shows at many writes; the first one will do */
        struct scenario *scn = item(c, result->index, NULL);

        free(scn->path);
        scn->path = NULL; /* what fails is no longer what that file says: it is stored */
        report_failure(stdout, r, scn, c->source.profile, false, "");
        scenario_free(scn);
    }
    return !c->max_failures || c->failures < c->max_failures;
}

static void run_items(struct cut_command *c, uint64_t items)
{
    struct pool_job job = {.items = items,
                           .workers = (unsigned)MIN(c->workers, items),
                           .stall_seconds = 120,
                           .item = item,
                           .result = on_result,
                           .options = &c->options,
                           .opaque = c};

    pool_run(&job);
}

/* False: enough failures. */
static bool cut_one(struct cut_command *c)
{
    uint64_t before = c->failures;

    c->cuts = c->writes = c->failed_here = 0;
    c->workloads++;
    run_items(c, 1);
    if (c->failures == before && c->writes) {
        c->cuts = MIN(c->writes, c->max_cuts);
        c->all_writes += c->writes;
        c->all_cuts += c->cuts;
        run_items(c, c->cuts * ARRAY_SIZE(keeps));
    }
    if (c->terminal) {
        double spent = now_seconds() - c->started;

        fprintf(stderr, "\r%llu workloads  %llu cuts  %.0f cuts/s  %.0f runs/s  %llu failed ",
                (unsigned long long)c->workloads, (unsigned long long)c->all_cuts,
                spent > 0 ? (double)c->all_cuts / spent : 0.0, spent > 0 ? (double)c->runs / spent : 0.0,
                (unsigned long long)c->failures);
    }
    return !c->max_failures || c->failures < c->max_failures;
}

static bool in_time(const struct cut_command *c)
{
    return !c->time_ns || now_seconds() - c->started < (double)c->time_ns / 1e9;
}

/* False after a message: input that cannot be used. */
static bool cut_seeds(struct cut_command *c)
{
    bool go = true;

    for (uint64_t seed = c->source.first_seed; go && in_time(c); seed++) {
        Error *err = NULL;

        c->seed = seed;
        c->scn = scenario_generate(c->source.profile, seed, &err);
        if (!c->scn) {
            cli_error("%s", error_get_pretty(err));
            error_free(err);
            return false;
        }
        go = cut_one(c) && seed < c->source.last_seed;
        scenario_free(c->scn);
    }
    return true;
}

static bool cut_files(struct cut_command *c)
{
    bool go = true;

    for (int i = 0; go && in_time(c) && i < c->source.file_count; i++) {
        const struct cli_source one = {.files = &c->source.files[i], .file_count = 1};

        c->scn = cli_load_one(&one, &c->options);
        if (!c->scn) {
            return false;
        }
        c->seed = c->scn->seed;
        go = cut_one(c);
        scenario_free(c->scn);
    }
    return true;
}

static void summary(const struct cut_command *c)
{
    double spent = now_seconds() - c->started;

    double per_second = spent > 0 ? 1 / spent : 0.0;

    printf(
        "%llu workloads, %llu writes: %llu cuts (positions of a write), %llu runs (nothing, everything and a drawn "
        "part kept at each)\n",
        (unsigned long long)c->workloads, (unsigned long long)c->all_writes, (unsigned long long)c->all_cuts,
        (unsigned long long)c->runs);
    printf("%.1f s: %.1f cuts/s, %.1f runs/s\n", spent, (double)c->all_cuts * per_second,
           (double)c->runs * per_second);
    printf("%llu failed; power lost in %llu; %llu checks of images: %llu corrupt, %llu with leaks, %llu repaired\n",
           (unsigned long long)c->failures, (unsigned long long)c->reached, (unsigned long long)c->checks,
           (unsigned long long)c->corrupt, (unsigned long long)c->leaking, (unsigned long long)c->repaired);
}

static void summary_json(const struct cut_command *c)
{
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {{"workloads", c->workloads}, {"writes", c->all_writes},  {"cuts", c->all_cuts},
                  {"runs", c->runs},           {"power_lost", c->reached}, {"failed", c->failures},
                  {"checks", c->checks},       {"corrupt", c->corrupt},    {"leaking", c->leaking},
                  {"repaired", c->repaired}};
    struct qvalue *object = qvalue_dict();

    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        qdict_put(object, counts[i].key, qvalue_int((int64_t)counts[i].value));
    }
    cli_print_json(object);
}

static bool parse_sources(struct cut_command *c, int operands, char **argv)
{
    c->source.files = argv + 1;
    c->source.file_count = operands;
    if (!c->seeds_text == !operands) {
        cli_error("cut: expected files or --seeds A..B");
        return false;
    }
    if (!c->seeds_text) {
        return true;
    }
    if (!cli_parse_seeds(c->seeds_text, &c->source.first_seed, &c->source.last_seed)) {
        cli_error("cut: '%s' is no seed range, expected N or A..B with A <= B", c->seeds_text);
        return false;
    }
    c->source.has_seeds = true;
    return cli_check_profile(c->source.profile);
}

static int run(int argc, char **argv)
{
    struct cut_command c = {.source = {.profile = "power"}, .workers = 1, .max_cuts = 400, .max_failures = 10};
    const struct cli_opt opts[] = {
        {"--seeds", "A..B", CLI_STR, &c.seeds_text, "the scenarios of these seeds"},
        {"--profile", "P", CLI_STR, &c.source.profile, "what the seeds are drawn for (default power)"},
        {"--max-cuts", "N", CLI_U64, &c.max_cuts, "of one scenario, spread over its writes (default 400)"},
        {"--time", "T", CLI_TIME, &c.time_ns, "begin no further scenario after so long on the wall"},
        {"-j", "N", CLI_U64, &c.workers, "worker processes (default 1)"},
        {"--max-failures", "N", CLI_U64, &c.max_failures, "stop after so many (default 10, 0: never)"},
        {"--checks", "LIST", CLI_STR, &c.options.checks, "checkers to attach, by commas (default all; none)"},
        {"--no-files", NULL, CLI_FLAG, &c.options.no_files, "refuse scenarios that touch host files"},
        {"--json", NULL, CLI_FLAG, &c.json, "the counts as one object"},
        {.name = NULL},
    };
    int status;
    bool ok;

    if (!cli_parse(&cli_cut, opts, &argc, argv, &status)) {
        return status;
    }
    if (c.workers < 1 || c.workers > 64) {
        return cli_error("cut: '-j' expects 1 to 64");
    }
    if (c.max_cuts < 1) {
        return cli_error("cut: '--max-cuts' expects at least 1");
    }
    if (!parse_sources(&c, argc, argv) || !cli_check_list(c.options.checks)) {
        return EXIT_USAGE;
    }
    c.terminal = isatty(STDERR_FILENO) && !c.json;
    c.started = now_seconds();
    ok = c.source.has_seeds ? cut_seeds(&c) : cut_files(&c);
    if (c.terminal) {
        fputs("\r\033[K", stderr);
    }
    if (!ok) {
        return EXIT_USAGE;
    }
    if (c.json) {
        summary_json(&c);
    } else {
        summary(&c);
    }
    return c.failures ? EXIT_VIOLATION : EXIT_PASS;
}

const struct cli_command cli_cut = {
    .name = "cut",
    .usage = "FILE...|--seeds A..B [options]",
    .summary = "power fails at every write of a scenario",
    .run = run,
};
