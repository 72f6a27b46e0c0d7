/*
 * blksim run: files, one seed, or a range of seeds.
 */
#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct run_command {
    struct cli_source source;
    struct run_options options;
    const char *seed_text, *seeds_text, *shard_text, *log_text;
    const char *trace_path, *timeline_path, *junit_path, *sarif_path;
    uint64_t workers, max_failures, break_event, heap_fill;
    int64_t limit_ns;
    bool json, stats;
    uint64_t shard, shards;
    struct scenario **loaded; /* of files: all are read and checked before any is run */

    /* as results come */
    uint64_t total, done, failures, errors;
    uint64_t pct_tasks, pct_steps, pct_depth; /* of a single run */
    uint64_t ready_runs, pivot_runs, fault_runs, overlap_runs;
    uint64_t events, requests;
    int64_t virtual_ns;
    struct run_stats sum;
    uint64_t marks[MARK_COUNT];
    struct formats formats;
    bool terminal;
    bool own_stdout; /* a report goes to standard output, and nothing else may */
    double started;
};

static double now_seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* --- items -------------------------------------------------------------------------------------------------- */

static uint64_t seed_of(const struct run_command *c, uint64_t index)
{
    return c->source.first_seed + (c->shard - 1) + index * c->shards;
}

static uint64_t item_seed(void *opaque, uint64_t index)
{
    const struct run_command *c = opaque;

    return c->source.has_seeds ? seed_of(c, index) : 0;
}

static struct scenario *item(void *opaque, uint64_t index, Error **errp)
{
    struct run_command *c = opaque;

    if (c->source.has_seeds) {
        return scenario_generate(c->source.profile, seed_of(c, index), errp);
    }
    return scenario_copy(c->loaded[index]);
}

/* Reads and checks everything that is to be run, so that a bad one lets none run. */
static bool load_all(struct run_command *c)
{
    bool ok = true;

    if (c->source.has_seeds) {
        return true;
    }
    c->loaded = calloc((size_t)c->source.file_count, sizeof(*c->loaded));
    SIM_ASSERT(c->loaded);
    for (int i = 0; i < c->source.file_count; i++) {
        const struct cli_source one = {.files = &c->source.files[i], .file_count = 1};

        c->loaded[i] = cli_load_one(&one, &c->options);
        ok = ok && c->loaded[i];
    }
    return ok;
}

static void unload_all(struct run_command *c)
{
    for (int i = 0; c->loaded && i < c->source.file_count; i++) {
        scenario_free(c->loaded[i]);
    }
    free(c->loaded);
}

/* --- results ------------------------------------------------------------------------------------------------ */

static void add_stats(struct run_command *c, const struct run_result *r)
{
    uint64_t *sum = (uint64_t *)&c->sum;
    const uint64_t *part = (const uint64_t *)&r->stats;
    uint64_t deepest = MAX(c->sum.drain_deepest, r->stats.drain_deepest);

    for (size_t i = 0; i < sizeof(c->sum) / sizeof(uint64_t); i++) {
        sum[i] += part[i];
    }
    c->sum.drain_deepest = deepest;
    for (unsigned m = 0; m < MARK_COUNT; m++) {
        c->marks[m] += r->marks[m];
    }
    c->ready_runs += r->stats.jobs_ready != 0;
    c->pivot_runs += r->stats.jobs_pivoted != 0;
    c->fault_runs += r->stats.faults_fired != 0;
    c->overlap_runs += r->stats.guest_overlaps != 0;
    c->virtual_ns += r->virtual_ns;
    c->events += r->event_count;
    c->requests += r->requests;
}

static void name_of(const struct run_command *c, uint64_t index, char *buf, size_t room)
{
    if (c->source.has_seeds) {
        snprintf(buf, room, "%s/%llu", c->source.profile, (unsigned long long)seed_of(c, index));
    } else {
        snprintf(buf, room, "%s", c->source.files[index]);
    }
}

static void progress(struct run_command *c)
{
    if (c->terminal && (c->done % 64 == 0 || c->done == c->total)) {
        double spent = now_seconds() - c->started;

        fprintf(stderr, "\r%llu/%llu  %.0f/s  %llu failed ", (unsigned long long)c->done,
                (unsigned long long)c->total, spent > 0 ? (double)c->done / spent : 0.0,
                (unsigned long long)c->failures);
        if (c->done == c->total) {
            fputs("\r\033[K", stderr);
        }
    }
}

static void note_pct(struct run_command *c, const struct pool_result *result)
{
    struct scenario *scn = c->total == 1 ? item(c, result->index, NULL) : NULL;

    if (scn && scn->schedule == SCN_SCHEDULE_PCT) {
        c->pct_depth = scn->pct_depth;
        c->pct_steps = result->r.schedule_steps;
        c->pct_tasks = result->r.schedule_tasks;
    }
    scenario_free(scn);
}

static bool on_result(void *opaque, const struct pool_result *result)
{
    struct run_command *c = opaque;
    struct run_result r = result->r;
    char name[256];

    c->done++;
    if (c->source.has_seeds) {
        r.seed = seed_of(c, result->index);
    }
    add_stats(c, &r);
    if (r.verdict == VERDICT_ERROR) {
        c->errors++;
        cli_error("%s", r.error);
        return true;
    }
    c->failures += r.verdict != VERDICT_PASS;
    note_pct(c, result);
    name_of(c, result->index, name, sizeof(name));
    formats_result(&c->formats, result->index, name, !c->source.has_seeds, &r);
    if (c->json) {
        printf("%s\n", result->json);
    } else if (r.verdict != VERDICT_PASS && !c->own_stdout) {
        struct scenario *scn = item(c, result->index, NULL);

        if (c->terminal) {
            fputs("\r\033[K", stderr);
        }
        report_failure(stdout, &r, scn, c->source.profile, c->source.has_seeds, c->formats.tap ? "# " : "");
        scenario_free(scn);
    }
    progress(c);
    return !c->max_failures || c->failures < c->max_failures;
}

static void summary(const struct run_command *c)
{
    double spent = now_seconds() - c->started;
    double virtual_s = (double)c->virtual_ns / 1e9;
    unsigned reached = 0;

    for (unsigned m = 0; m < MARK_COUNT; m++) {
        reached += c->marks[m] != 0;
    }
    if (c->done == 1 && c->pct_depth) {
        printf(
            "pct: %llu tasks, %llu steps in the calm run, depth %llu: a bug of that depth shows with at least 1 in "
            "%.3g runs\n",
            (unsigned long long)c->pct_tasks, (unsigned long long)c->pct_steps, (unsigned long long)c->pct_depth,
            (double)c->pct_tasks * pow((double)c->pct_steps, (double)c->pct_depth - 1));
    }
    if (c->done == 1 && !c->stats) {
        printf("%s: %llu events, %llu media requests, %.3f s of virtual time\n",
               c->failures              ? "FAILED"
               : c->options.until_event ? "stopped"
                                        : "passed",
               (unsigned long long)c->events, (unsigned long long)c->requests, virtual_s);
        return;
    }
    printf(
        "%llu %s run in %.1f s (%.0f/s): %llu failed; %.1f virtual hours (%.0f x real time), %llu media requests, "
        "%llu events, %u of %u marks reached\n",
        (unsigned long long)c->done, c->source.has_seeds ? "seeds" : "scenarios", spent,
        spent > 0 ? (double)c->done / spent : 0.0, (unsigned long long)c->failures, virtual_s / 3600,
        spent > 0 ? virtual_s / spent : 0.0, (unsigned long long)c->requests, (unsigned long long)c->events,
        reached, (unsigned)MARK_COUNT);
}

static void marks_report(const struct run_command *c)
{
    bool any = false;

    for (unsigned m = 0; m < MARK_COUNT; m++) {
        if (!c->marks[m]) {
            printf("%s%s", any ? " " : "marks never reached: ", sim_mark_name(m));
            any = true;
        }
    }
    if (any) {
        printf("\n");
    }
}

/* --- the command -------------------------------------------------------------------------------------------- */

static bool parse_shard(struct run_command *c)
{
    unsigned long long i, n;
    char end;

    c->shard = c->shards = 1;
    if (!c->shard_text) {
        return true;
    }
    if (sscanf(c->shard_text, "%llu/%llu%c", &i, &n, &end) != 2 || i < 1 || i > n) {
        cli_error("run: '%s' is no valid value of option '--shard', expected I/N with 1 <= I <= N", c->shard_text);
        return false;
    }
    c->shard = i;
    c->shards = n;
    return true;
}

static bool parse_sources(struct run_command *c, int operands, char **argv)
{
    const char *seeds = c->seeds_text ? c->seeds_text : c->seed_text;

    c->source.files = argv + 1;
    c->source.file_count = operands;
    if (seeds && operands) {
        cli_error("run: give either files or seeds");
        return false;
    }
    if (seeds) {
        if (!cli_parse_seeds(seeds, &c->source.first_seed, &c->source.last_seed)) {
            cli_error("run: '%s' is no seed range, expected N or A..B with A <= B", seeds);
            return false;
        }
        c->source.has_seeds = true;
        uint64_t all = c->source.last_seed - c->source.first_seed + 1;

        c->total = all >= c->shard ? (all - c->shard) / c->shards + 1 : 0;
        return cli_check_profile(c->source.profile);
    }
    if (!operands) {
        cli_error("run: nothing to run, expected files, '-', --seed N or --seeds A..B");
        return false;
    }
    c->total = (uint64_t)operands;
    return true;
}

static bool open_out(struct run_command *c, FILE **out, const char *path)
{
    if (!path) {
        return true;
    }
    c->own_stdout |= strcmp(path, "-") == 0;
    *out = strcmp(path, "-") == 0 ? stdout : fopen(path, "w");
    if (!*out) {
        cli_error("cannot write '%s'", path);
        return false;
    }
    return true;
}

static bool parse_log(struct run_command *c)
{
    if (c->log_text && strcmp(c->log_text, "none") != 0) {
        if (strcmp(c->log_text, "short") != 0 && strcmp(c->log_text, "full") != 0) {
            cli_error("run: '%s' is no valid value of option '--log', expected short, full or none", c->log_text);
            return false;
        }
        c->options.log = stdout;
        c->options.log_full = strcmp(c->log_text, "full") == 0;
    }
    if (c->total != 1 && (c->options.log || c->trace_path || c->timeline_path || c->options.write_disks)) {
        cli_error("run: --log, --trace, --timeline and --write-disks need exactly one scenario");
        return false;
    }
    return true;
}

/* A run that cannot leave its disks there is none to begin. */
static bool check_disks_folder(const char *path)
{
    struct stat st;

    if (path && (stat(path, &st) < 0 || !S_ISDIR(st.st_mode) || access(path, W_OK | X_OK) < 0)) {
        cli_error("run: '%s' is no valid value of option '--write-disks', expected a folder that can be written to",
                  path);
        return false;
    }
    return true;
}

/* After everything was found good: opening a file empties it. */
static bool open_outputs(struct run_command *c)
{
    if (!open_out(c, &c->options.trace, c->trace_path) || !open_out(c, &c->options.timeline, c->timeline_path) ||
        !open_out(c, &c->formats.junit, c->junit_path) || !open_out(c, &c->formats.sarif, c->sarif_path)) {
        return false;
    }
    formats_begin(&c->formats, c->total);
    return true;
}

static bool close_out(FILE *out, const char *path)
{
    if (out && out != stdout && fclose(out) != 0) {
        cli_error("cannot write '%s'", path);
        return false;
    }
    return true;
}

static bool close_outputs(struct run_command *c)
{
    bool ok;

    formats_end(&c->formats, c->done < c->total);
    ok = close_out(c->formats.junit, c->junit_path);
    ok = close_out(c->formats.sarif, c->sarif_path) && ok;
    ok = close_out(c->options.trace, c->trace_path) && ok;
    return close_out(c->options.timeline, c->timeline_path) && ok;
}

static int run(int argc, char **argv)
{
    struct run_command c = {
        .source = {.profile = "mixed"}, .workers = 1, .max_failures = 10, .heap_fill = UINT64_MAX};
    const struct cli_opt opts[] = {
        {"--seeds", "A..B", CLI_STR, &c.seeds_text, "run the scenarios of these seeds"},
        {"--seed", "N", CLI_STR, &c.seed_text, "run the scenario of one seed"},
        {"--profile", "P", CLI_STR, &c.source.profile, "what the seeds are drawn for (default mixed)"},
        {"-j", "N", CLI_U64, &c.workers, "worker processes (default 1)"},
        {"--shard", "I/N", CLI_STR, &c.shard_text, "only the Ith of N parts of the seeds"},
        {"--max-failures", "N", CLI_U64, &c.max_failures, "stop after so many (default 10, 0: never)"},
        {"--checks", "LIST", CLI_STR, &c.options.checks, "checkers to attach, by commas (default all; none)"},
        {"--digest", NULL, CLI_FLAG, &c.options.digest, "sha256 of guest views in --json"},
        {"--write-disks", "DIR", CLI_STR, &c.options.write_disks, "write the disks there when all is closed"},
        {"--no-files", NULL, CLI_FLAG, &c.options.no_files, "refuse scenarios that touch host files"},
        {"--stats", NULL, CLI_FLAG, &c.stats, "what the sweep really did, and marks never reached"},
        {"--json", NULL, CLI_FLAG, &c.json, "one JSON object a run"},
        {"--log", "short|full|none", CLI_STR, &c.log_text, "print events as they happen"},
        {"--trace", "F", CLI_STR, &c.trace_path, "write all events as JSON lines"},
        {"--timeline", "F", CLI_STR, &c.timeline_path, "write a trace-event file for Perfetto or chrome://tracing"},
        {"--limit", "TIME", CLI_TIME, &c.limit_ns, "virtual time limit of a run (default 24h)"},
        {"--until", "EVENT", CLI_U64, &c.options.until_event, "stop before this event number"},
        {"--break", "EVENT", CLI_U64, &c.break_event, "trap at this event number, for a debugger"},
        {"--tap", NULL, CLI_FLAG, &c.formats.tap, "TAP lines"},
        {"--junit", "F", CLI_STR, &c.junit_path, "write a JUnit report"},
        {"--sarif", "F", CLI_STR, &c.sarif_path, "write a SARIF report"},
        {"--heap-fill", "BYTE", CLI_U64, &c.heap_fill, NULL},
        {.name = NULL},
    };
    struct pool_job job = {
        .item = item, .seed = item_seed, .result = on_result, .opaque = &c, .stall_seconds = 120};
    bool written;
    int status;

    if (!cli_parse(&cli_run, opts, &argc, argv, &status)) {
        return status;
    }
    if (c.workers < 1 || c.workers > 64) {
        return cli_error("run: '-j' expects 1 to 64");
    }
    if (!parse_shard(&c) || !parse_sources(&c, argc, argv) || !parse_log(&c) || !cli_check_list(c.options.checks) ||
        !check_disks_folder(c.options.write_disks) || !load_all(&c) || !open_outputs(&c)) {
        unload_all(&c);
        return EXIT_USAGE;
    }
    c.options.limit_ns = c.limit_ns;
    c.options.heap_fill = c.heap_fill != UINT64_MAX;
    c.options.heap_byte = (uint8_t)c.heap_fill;
    c.options.break_event = c.break_event;
    c.terminal = isatty(STDERR_FILENO) && !c.json && c.total > 1;
    c.started = now_seconds();
    job.items = c.total;
    job.workers = (unsigned)MIN(c.workers, MAX(c.total, 1));
    job.want_json = c.json;
    job.options = &c.options;
    job.profile = c.source.has_seeds ? c.source.profile : NULL;
    if (c.break_event || c.options.trace || c.options.timeline) {
        pool_run_here(&job);
    } else {
        pool_run(&job);
    }
    written = close_outputs(&c);
    unload_all(&c);
    if (!c.json && !c.formats.tap && !c.own_stdout && c.errors < c.done) {
        summary(&c);
    }
    if (c.stats && !c.own_stdout) {
        report_stats(stdout, &c.sum, c.done, c.ready_runs, c.pivot_runs, c.fault_runs, c.overlap_runs);
        marks_report(&c);
    }
    return !written ? EXIT_INTERNAL : c.errors ? EXIT_USAGE : c.failures ? EXIT_VIOLATION : EXIT_PASS;
}

const struct cli_command cli_run = {
    .name = "run",
    .usage = "FILE...|-|--seed N|--seeds A..B [options]",
    .summary = "run scenarios; replaying is running",
    .run = run,
};
