/*
 * The runner: plays a scenario in a world under checkers, and says how it went.
 *
 * One run: a fresh world, one host "h" (more by `host`), the steps in a coroutine of their own, then: faults stop,
 * guests resume and finish, jobs are left to conclude or cancelled, everything settles, end checks, teardown,
 * census.
 */
#ifndef SCENARIO_RUNNER_H
#define SCENARIO_RUNNER_H

#include <stdio.h>

#include "check/check.h"
#include "scenario/ast.h"

enum verdict { VERDICT_PASS, VERDICT_FAIL, VERDICT_CRASH, VERDICT_HANG, VERDICT_ERROR };
const char *verdict_name(enum verdict verdict); /* "pass" "fail" "crash" "hang" "error" */

struct run_options {
    const char *checks; /* NULL: "all" */
    bool no_files;      /* host files forbidden */
    bool digest;        /* sha256 of guest views in the JSON result */
    /* An existing folder: once everything is closed each disk is written there under its name, for other tools to
     * look at, and what each backing node shows, as NODE.view; what the result says of nodes is then of the very end. NULL:
     * no. */
    const char *write_disks;
    FILE *log;      /* text log, NULL: none */
    bool log_full;  /* all events; else those a person follows (scenario/log.c) */
    FILE *trace;    /* JSON event log, NULL: none */
    FILE *timeline; /* trace-event JSON, NULL: none */
    bool record_choices;
    int64_t limit_ns;      /* virtual time; 0: 24 hours */
    uint64_t limit_events; /* 0: 20 million */
    uint64_t until_event;  /* stop before this event number; 0: no */
    uint64_t break_event;  /* raise SIGTRAP at this event; 0: no */
    bool no_marks;
    bool heap_fill; /* raw memory of the world starts as heap_byte: nothing may depend on it */
    uint8_t heap_byte;
};

#define RUN_STATS_ACTIONS 6

/* What a sweep counts (run --stats): only counters. */
struct run_stats {
    uint64_t jobs, jobs_ready, jobs_pivoted, jobs_completed, jobs_failed, jobs_cancelled;
    uint64_t commands, commands_refused;
    uint64_t faults_armed, faults_fired;
    uint64_t guest_requests, guest_writes, guest_overlaps; /* writes over an in-flight copy */
    uint64_t guest_errors;
    uint64_t bitmaps_made, bitmaps_removed, bitmap_merges; /* named ones; merges also inside of transactions */
    uint64_t bitmap_freezes, bitmap_abdicates, bitmap_reclaims;
    uint64_t transactions, transactions_failed; /* that got to their actions */
    uint64_t failed_at[RUN_STATS_ACTIONS];      /* by the action that failed; the last: there or later */
    uint64_t resizes;                           /* of nodes */
    uint64_t bitmap_overlaps;                   /* guest writes in flight while a command on bitmaps was done */
    uint64_t graph_changes;                     /* edges moved while guest requests that write were on their way */
    uint64_t drains, drains_nested;    /* of single nodes; begun while some node was drained more than once */
    uint64_t drain_deepest;            /* the largest counter of a node: a sweep has the largest of its runs */
    uint64_t reopens, reopens_refused; /* commands */
    uint64_t throttled;                /* requests that waited for limits */
    uint64_t thresholds;               /* events */
    uint64_t breakpoints;              /* requests that stopped at one */
    uint64_t injected;                 /* requests that a rule of blkdebug failed */
    uint64_t images, image_checks;     /* img create, img check */
    uint64_t image_changes;            /* img snapshot, img resize */
    uint64_t snapshots, snapshots_back, snapshots_deleted;    /* internal ones */
    uint64_t images_leaking, images_corrupt, images_repaired; /* of the checks */
    uint64_t images_opened, images_reopened;                  /* qcow2 nodes; after a power loss */
    uint64_t bitmaps_loaded;                                  /* from images */
    uint64_t power_losses;
    uint64_t power_writes; /* counted by fault power-cut */
    uint64_t media_requests;
};

struct run_result {
    enum verdict verdict;
    uint64_t seed;
    uint64_t trace_hash;
    int64_t virtual_ns;
    uint64_t event_count;
    uint64_t requests;            /* media requests */
    uint64_t schedule_steps;      /* events whose rank could be drawn; under pct: of the calm run before */
    uint64_t schedule_tasks;      /* entities that they belonged to, under pct */
    struct violation *violations; /* owned; oldest first */
    uint64_t violation_count;
    uint64_t marks[MARK_COUNT];
    struct run_stats stats;
    struct qvalue *hosts;    /* the `hosts` object of run --json; NULL unless asked for */
    struct sim_pin *choices; /* recorded, owned */
    size_t choice_count;
    char *error; /* VERDICT_ERROR: what was wrong with the input */
};

/* World used again and again: create once, run many. */
struct runner;
struct runner *runner_new(void);
void runner_free(struct runner *runner);
/* Pre-run checks: names, types, sizes, order of definitions as far as they can be known. "FILE:LINE:COL: ..." */
bool scenario_check(const struct scenario *scn, const struct run_options *options, Error **errp);
void runner_run(struct runner *runner, const struct scenario *scn, const struct run_options *options,
                bool want_hosts, struct run_result *result);
void run_result_clear(struct run_result *result);
/* One JSON object in DESIGN 6's key order; caller frees. scenario text may be NULL. */
char *run_result_json(const struct run_result *result, const char *profile, const char *scenario_name);

/* Signature of the first violation, or NULL. */
const char *run_result_signature(const struct run_result *result);

/* The same scenario with every choice of its run written down, under schedule replay: it plays the same run, and
 * keeps doing so while it is edited. A run that dies takes the caller with it. Caller frees. */
struct scenario *scenario_freeze(const struct scenario *scn, const struct run_options *options);

/* The same scenario, power failing at the write of that number after its media and images were made (0: never, but
 * writes are counted), after which media keep "none", "all" or a "drawn" part. A scenario without a powerloss gets
 * one, with checks and all that it opened again behind it. Caller frees. */
struct scenario *scenario_cut(const struct scenario *scn, uint64_t after_write, const char *keep);

/* Smallest scenario with the same signature: steps, then faults, then choices, then sizes. fails runs a candidate
 * and says whether it still shows the signature; progress may be NULL. Caller frees the result. */
struct scenario *scenario_shrink(const struct scenario *scn,
                                 bool (*fails)(void *opaque, const struct scenario *scn), void *opaque,
                                 void (*progress)(void *opaque, size_t steps, unsigned runs));

#endif
