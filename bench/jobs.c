/*
 * Mirror and backup of a full disk of 64 MiB and of 1 TiB with 128 MiB in it, chunk by chunk of 64 KiB, raw to raw
 * and from image to image; rounds interleaved.
 *
 * What the job costs is a run with it less a run that only fills the disk. A chunk of data is one that is copied;
 * on the huge disk the rest of the time goes into finding out that there is nothing and saying so to the target,
 * which is a figure for each 16 MiB. The floor of a chunk is what no copy can do without: its switches, events,
 * page references, bits and log entries, as in the other floors.
 */
#include "bench/jobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/floor.h"
#include "bench/measure.h"
#include "scenario/runner.h"
#include "sim/payload.h"

#define CHUNK (64 * KiB)
#define FULL_CHUNKS 1024u /* 64 MiB */
#define SPREAD_CHUNKS 2048u
#define MOST_ROUNDS 15u

static const struct floor_counts floor_chunk = {4 * FULL_CHUNKS, 3 * FULL_CHUNKS, 3 * FULL_CHUNKS,  1 * FULL_CHUNKS,
                                                1 * FULL_CHUNKS, 3 * FULL_CHUNKS, 10 * FULL_CHUNKS, 0};

static const char raw_text[] = "blksim 1\n"
                               "disk src size=%s content=%s\n"
                               "disk dst size=%s\n"
                               "blockdev-add driver=raw node-name=s file.driver=disk file.disk=src\n"
                               "blockdev-add driver=raw node-name=d file.driver=disk file.disk=dst\n"
                               "guest g node=s\n";

static const char image_text[] = "blksim 1\n"
                                 "disk src\n"
                                 "disk dst\n"
                                 "img create -f qcow2 src %s\n"
                                 "# of content %s\n"
                                 "img create -f qcow2 dst %s\n"
                                 "blockdev-add driver=qcow2 node-name=s file.driver=disk file.disk=src\n"
                                 "blockdev-add driver=qcow2 node-name=d file.driver=disk file.disk=dst\n"
                                 "guest g node=s\n";

static const char spread_text[] = "workload g ops=2048 depth=4 write=100 read=0 zero=0 discard=0 flush=0 min=64k "
                                  "max=64k align=64k think=1ns wait=on\n";

static const char mirror_text[] = "blockdev-mirror job-id=m device=s target=d sync=full granularity=65536 "
                                  "buf-size=%u\n"
                                  "wait BLOCK_JOB_READY device=m timeout=3600s\n";

static const char backup_text[] = "blockdev-backup job-id=m device=s target=d sync=full x-perf.max-chunk=%u\n"
                                  "wait BLOCK_JOB_COMPLETED device=m timeout=3600s\n";

/* Piece: what an operation copies at most, 0: as much as it likes. */
struct workload {
    const char *name;
    const char *disks;
    const char *size;
    bool spread; /* else full, which only raw disks are from the start */
    const char *job;
    unsigned piece;
    unsigned rounds;
};

static const struct workload workloads[] = {
    {"mirror  64 MiB full, raw", raw_text, "64M", false, mirror_text, CHUNK, 15},
    {"mirror  64 MiB full, raw, whole runs", raw_text, "64M", false, mirror_text, 16 * MiB, 15},
    {"backup  64 MiB full, raw", raw_text, "64M", false, backup_text, CHUNK, 15},
    {"backup  64 MiB full, raw, whole runs", raw_text, "64M", false, backup_text, 0, 15},
    {"mirror  1 TiB sparse, raw", raw_text, "1T", true, mirror_text, 16 * MiB, 5},
    {"mirror  1 TiB sparse, qcow2", image_text, "1T", true, mirror_text, 16 * MiB, 5},
    {"backup  1 TiB sparse, raw", raw_text, "1T", true, backup_text, 0, 3},
    {"backup  1 TiB sparse, qcow2", image_text, "1T", true, backup_text, 0, 3},
};

static struct scenario *make(const struct workload *w, bool with_job)
{
    struct run_options options = {0};
    char text[4096];
    Error *err = NULL;
    size_t n = 0;

    n += (size_t)snprintf(text + n, sizeof(text) - n, w->disks, w->size, w->spread ? "hole" : "stamp", w->size);
    if (w->spread) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s", spread_text);
    }
    if (with_job) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, w->job, w->piece);
    }
    SIM_ASSERT(n < sizeof(text));
    struct scenario *scn = scenario_parse("bench", text, n, &err);
    if (!scn || !scenario_check(scn, &options, &err)) {
        fprintf(stderr, "bench: %s\n", error_get_pretty(err));
        exit(3);
    }
    return scn;
}

struct cost {
    double ns;
    uint64_t requests;
};

static struct cost run(struct runner *runner, const struct scenario *scn, const char *checks)
{
    struct run_options options = {.checks = checks};
    struct run_result result;
    double start = bench_now_ns();

    runner_run(runner, scn, &options, false, &result);
    struct cost cost = {bench_now_ns() - start, result.requests};
    if (result.verdict != VERDICT_PASS) {
        fprintf(stderr, "bench: the workload failed: %s\n", run_result_signature(&result));
        exit(3);
    }
    run_result_clear(&result);
    return cost;
}

struct figures {
    struct cost none, all; /* what the job adds, without and with checkers */
};

static struct cost job_cost(struct runner *runner, struct scenario *const scn[2], const char *checks)
{
    struct cost bare = run(runner, scn[0], checks);
    struct cost all = run(runner, scn[1], checks);

    return (struct cost){all.ns - bare.ns, all.requests - bare.requests};
}

static double floor_ns; /* of a chunk */

/* The second time of each: what came before pushes its pages out. */

void bench_jobs_floor(void)
{
    double ns[MOST_ROUNDS];
    uint64_t sum = 0;

    floor_setup();
    for (unsigned r = 0; r < MOST_ROUNDS; r++) {
        sum += floor_run(&floor_chunk);
        double start = bench_now_ns();

        sum += floor_run(&floor_chunk);
        ns[r] = bench_now_ns() - start;
    }
    floor_ns = sum ? bench_median(ns, MOST_ROUNDS) / FULL_CHUNKS : 0;
}

/* Medians; the requests are the same in every round. */
static void measure(const struct workload *w, struct figures *figures)
{
    struct runner *runner = runner_new();
    struct scenario *scn[2] = {make(w, false), make(w, true)};
    double none[MOST_ROUNDS], all[MOST_ROUNDS];

    SIM_ASSERT(w->rounds <= MOST_ROUNDS);
    for (unsigned r = 0; r < w->rounds; r++) {
        figures->none = job_cost(runner, scn, "none");
        figures->all = job_cost(runner, scn, "all");
        none[r] = figures->none.ns;
        all[r] = figures->all.ns;
    }
    figures->none.ns = bench_median(none, w->rounds);
    figures->all.ns = bench_median(all, w->rounds);
    scenario_free(scn[0]);
    scenario_free(scn[1]);
    runner_free(runner);
}

static void print(const struct workload *w, const struct figures *f)
{
    unsigned chunks = w->spread ? SPREAD_CHUNKS : FULL_CHUNKS;
    const struct cost *costs[] = {&f->none, &f->all};

    printf("          %-37s %7.1f", w->name, (double)f->none.requests / chunks);
    for (size_t i = 0; i < ARRAY_SIZE(costs); i++) {
        double ns = costs[i]->ns / chunks;

        printf(" | %6.0f %8.1f %8.0f %7.1f x", (double)costs[i]->requests * 1e6 / costs[i]->ns, costs[i]->ns / 1e6,
               ns, ns / floor_ns);
    }
    printf("\n");
}

void bench_jobs(void)
{
    printf("jobs      chunks of 64 KiB, floor %.0f ns each: media requests a chunk with data; thousands of them a "
           "second, ms the job, ns a chunk with data, as many times the floor\n",
           floor_ns);
    printf("          %-37s %7s | %6s %8s %8s %9s | %6s %8s %8s %9s\n", "no checkers | all", "req.", "1000/s", "ms",
           "ns", "", "1000/s", "ms", "ns", "");
    for (size_t i = 0; i < ARRAY_SIZE(workloads); i++) {
        struct figures figures = {0};

        measure(&workloads[i], &figures);
        print(&workloads[i], &figures);
        fflush(stdout);
    }
}
