/*
 * What a person reads of a failure and of a sweep.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FAILURES_DIR "build/failures"

static char *failure_path(const char *signature, uint64_t seed)
{
    char *path;

    if (asprintf(&path, FAILURES_DIR "/%s-%llu.blk", signature, (unsigned long long)seed) < 0) {
        return NULL;
    }
    for (char *c = path + strlen(FAILURES_DIR) + 1; *c; c++) {
        if (*c == '/' || *c == ' ') {
            *c = '_';
        }
    }
    return path;
}

/* The path of the stored scenario, or NULL when it cannot be stored; caller frees. */
static char *store_failure(const struct run_result *result, const struct scenario *scn)
{
    char *path = failure_path(run_result_signature(result), result->seed);
    char *text = scenario_print(scn);
    FILE *out;

    mkdir("build", 0777);
    mkdir(FAILURES_DIR, 0777);
    out = path ? fopen(path, "w") : NULL;
    if (!out) {
        free(path);
        free(text);
        return NULL;
    }
    fputs(text, out);
    free(text);
    if (fclose(out) != 0) {
        free(path);
        return NULL;
    }
    return path;
}

/* A PCT schedule depends on the whole scenario: what is stored has its choices written down, so that it can be
 * edited. Not when the run dies: it would take us with it. */
static char *store_for_replay(const struct run_result *result, const struct scenario *scn)
{
    struct run_options options = {0};
    struct scenario *frozen;
    char *path;

    if (scn->schedule != SCN_SCHEDULE_PCT || result->verdict != VERDICT_FAIL) {
        return store_failure(result, scn);
    }
    frozen = scenario_freeze(scn, &options);
    path = store_failure(result, frozen);
    scenario_free(frozen);
    return path;
}

void report_failure(FILE *out, const struct run_result *result, const struct scenario *scn, const char *profile,
                    bool is_seed, const char *prefix)
{
    const struct violation *v = result->violations;
    bool has_file = scn && scn->path && strcmp(scn->path, "-") != 0;
    char *path = scn && !has_file ? store_for_replay(result, scn) : NULL;

    fprintf(out, "%s%s %s  %s", prefix, verdict_name(result->verdict), v ? v->check : "?", v ? v->signature : "?");
    if (is_seed) {
        fprintf(out, "  (seed %llu)", (unsigned long long)result->seed);
    }
    fprintf(out, "\n%s  seen   at %lld ns, event %llu: %s\n", prefix, v ? (long long)v->time_ns : 0,
            v ? (unsigned long long)v->event : 0, v ? v->detail : "?");
    fprintf(out, "%s  build  %s%s%s\n", prefix, cli_build_id(), is_seed ? ", profile " : "",
            is_seed ? profile : "");
    fprintf(out, "%s  again  %s run ", prefix, cli_program());
    if (path || has_file) {
        fprintf(out, "%s\n", path ? path : scn->path);
    } else if (is_seed) {
        fprintf(out, "--seed %llu --profile %s\n", (unsigned long long)result->seed, profile);
    } else {
        fprintf(out, "-\n");
    }
    free(path);
    fflush(out); /* a sweep that is cut short has said what it found */
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void report_bitmaps(FILE *out, const struct run_stats *s)
{
    fprintf(out,
            "bitmaps   %10llu  made, %llu removed, %llu merged, %llu frozen (%llu abdicated, %llu reclaimed), %llu "
            "resizes, %llu guest writes in flight over an operation\n",
            (unsigned long long)s->bitmaps_made, (unsigned long long)s->bitmaps_removed,
            (unsigned long long)s->bitmap_merges, (unsigned long long)s->bitmap_freezes,
            (unsigned long long)s->bitmap_abdicates, (unsigned long long)s->bitmap_reclaims,
            (unsigned long long)s->resizes, (unsigned long long)s->bitmap_overlaps);
    fprintf(out, "transact. %10llu  of actions, %llu failed; at action", (unsigned long long)s->transactions,
            (unsigned long long)s->transactions_failed);
    for (size_t i = 0; i < RUN_STATS_ACTIONS; i++) {
        fprintf(out, " %zu%s: %llu", i + 1, i + 1 == RUN_STATS_ACTIONS ? "+" : "",
                (unsigned long long)s->failed_at[i]);
    }
    fputc('\n', out);
}

static void report_graph(FILE *out, const struct run_stats *s)
{
    fprintf(out, "graph     %10llu  edges changed under writes; %llu reopens, %llu refused; %llu resizes\n",
            (unsigned long long)s->graph_changes, (unsigned long long)s->reopens,
            (unsigned long long)s->reopens_refused, (unsigned long long)s->resizes);
    fprintf(out, "drains    %10llu  of nodes, %llu nested, %llu at most\n", (unsigned long long)s->drains,
            (unsigned long long)s->drains_nested, (unsigned long long)s->drain_deepest);
    fprintf(out,
            "held up   %10llu  requests throttled, %llu at breakpoints, %llu failed by blkdebug, %llu thresholds "
            "fired\n",
            (unsigned long long)s->throttled, (unsigned long long)s->breakpoints, (unsigned long long)s->injected,
            (unsigned long long)s->thresholds);
}

static void report_images(FILE *out, const struct run_stats *s)
{
    fprintf(out,
            "images    %10llu  made, %llu qcow2 nodes opened; %llu checks: %llu corrupt, %llu with leaks, %llu "
            "repaired\n",
            (unsigned long long)s->images, (unsigned long long)s->images_opened,
            (unsigned long long)s->image_checks, (unsigned long long)s->images_corrupt,
            (unsigned long long)s->images_leaking, (unsigned long long)s->images_repaired);
    fprintf(out, "snapshots %10llu  made within images, %llu gone back to, %llu deleted\n",
            (unsigned long long)s->snapshots, (unsigned long long)s->snapshots_back,
            (unsigned long long)s->snapshots_deleted);
    fprintf(out, "power     %10llu  times lost, %llu images opened after it; bitmaps: %llu loaded\n",
            (unsigned long long)s->power_losses, (unsigned long long)s->images_reopened,
            (unsigned long long)s->bitmaps_loaded);
}

void report_stats(FILE *out, const struct run_stats *s, uint64_t runs, uint64_t ready_runs, uint64_t pivot_runs,
                  uint64_t fault_runs, uint64_t overlap_runs)
{
    fprintf(out,
            "runs      %10llu  ready %.1f %%  pivoted %.1f %%  with a fault that fired %.1f %%  "
            "guest write over a copy in flight %.1f %%\n",
            (unsigned long long)runs, percent(ready_runs, runs), percent(pivot_runs, runs),
            percent(fault_runs, runs), percent(overlap_runs, runs));
    fprintf(out, "jobs      %10llu  ready %llu  completed %llu  pivoted %llu  failed %llu  cancelled %llu\n",
            (unsigned long long)s->jobs, (unsigned long long)s->jobs_ready, (unsigned long long)s->jobs_completed,
            (unsigned long long)s->jobs_pivoted, (unsigned long long)s->jobs_failed,
            (unsigned long long)s->jobs_cancelled);
    fprintf(out, "commands  %10llu  refused %llu (%.1f %%)\n", (unsigned long long)s->commands,
            (unsigned long long)s->commands_refused, percent(s->commands_refused, s->commands));
    fprintf(out, "faults    %10llu  armed, %llu fired\n", (unsigned long long)s->faults_armed,
            (unsigned long long)s->faults_fired);
    fprintf(out, "guest     %10llu  requests, %llu writes, %llu of them over a copy in flight, %llu errors\n",
            (unsigned long long)s->guest_requests, (unsigned long long)s->guest_writes,
            (unsigned long long)s->guest_overlaps, (unsigned long long)s->guest_errors);
    fprintf(out, "media     %10llu  requests\n", (unsigned long long)s->media_requests);
    report_graph(out, s);
    if (s->images) {
        report_images(out, s);
    }
    if (s->bitmaps_made) {
        report_bitmaps(out, s);
    }
}
