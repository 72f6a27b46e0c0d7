/*
 * make bench: the reference workloads beside their floors, rounds interleaved, medians and ratios.
 *
 * Figures of one run compare with each other; absolute times are the machine's. Nothing here passes or fails.
 */
#include "bench/floor.h"
#include "block/hbitmap.h"
#include "scenario/runner.h"
#include "sim/payload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 31

/* Processor time: others may use the machine. */
static double now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double median(double *values, unsigned n)
{
    qsort(values, n, sizeof(*values), by_value);
    return values[n / 2];
}

static const char mirror_text[] =
    "blksim 1\n"
    "schedule random\n"
    "disk src size=%s content=stamp latency=20us per-kib=500ns\n"
    "disk dst size=%s latency=20us per-kib=500ns\n"
    "blockdev-add driver=raw node-name=s file.driver=disk file.disk=src\n"
    "blockdev-add driver=raw node-name=d file.driver=disk file.disk=dst\n"
    "guest g node=s\n"
    "blockdev-mirror job-id=m device=s target=d sync=full granularity=65536\n"
    "workload g ops=%u depth=4 write=70 read=20 zero=3 discard=2 flush=5 min=4k max=64k think=200us\n"
    "wait BLOCK_JOB_READY device=m timeout=60s\n"
    "block-job-complete device=m\n"
    "wait BLOCK_JOB_COMPLETED device=m timeout=60s\n";

static const char sparse_text[] =
    "blksim 1\n"
    "disk src size=1T\n"
    "blockdev-add driver=raw node-name=s file.driver=disk file.disk=src\n"
    "guest g node=s\n"
    "block-dirty-bitmap-add node=s name=b granularity=65536\n"
    "workload g ops=64 depth=4 write=100 read=0 zero=0 discard=0 flush=0 min=4k max=4k align=4k wait=on\n"
    "settle\n";

static struct scenario *parse(const char *text)
{
    Error *err = NULL;
    struct scenario *scn = scenario_parse("bench", text, strlen(text), &err);
    struct run_options options = {0};

    if (!scn || !scenario_check(scn, &options, &err)) {
        fprintf(stderr, "bench: %s\n", error_get_pretty(err));
        exit(3);
    }
    return scn;
}

struct sample {
    double ns;
    struct run_result result;
};

static struct sample run_once(struct runner *runner, const struct scenario *scn, const char *checks)
{
    struct run_options options = {.checks = checks};
    struct sample sample;
    double start = now_ns();

    runner_run(runner, scn, &options, false, &sample.result);
    sample.ns = now_ns() - start;
    if (sample.result.verdict != VERDICT_PASS) {
        fprintf(stderr, "bench: the workload failed: %s\n", run_result_signature(&sample.result));
        exit(3);
    }
    return sample;
}

/* --- the mirror workloads ----------------------------------------------------------------------------------- */

static double time_floor(const struct floor_counts *counts, unsigned times)
{
    double start = now_ns();
    uint64_t sum = 0;

    for (unsigned i = 0; i < times; i++) {
        sum += floor_run(counts);
    }
    return sum ? (now_ns() - start) / times : 0;
}

static void bench_mirror(const char *name, const char *size, unsigned ops, unsigned times,
                         const struct floor_counts *counts)
{
    struct runner *runner = runner_new();
    double with[ROUNDS], without[ROUNDS], bare[ROUNDS];
    struct sample last = {0};
    struct scenario *scn;
    char text[2048];
    double m, n, f;

    snprintf(text, sizeof(text), mirror_text, size, size, ops);
    scn = parse(text);
    for (unsigned r = 0; r < ROUNDS; r++) {
        double sum = 0, sum_bare = 0;

        bare[r] = time_floor(counts, times);
        for (unsigned i = 0; i < times; i++) {
            run_result_clear(&last.result);
            last = run_once(runner, scn, "all");
            sum += last.ns;
        }
        for (unsigned i = 0; i < times; i++) {
            run_result_clear(&last.result);
            last = run_once(runner, scn, "none");
            sum_bare += last.ns;
        }
        with[r] = sum / times;
        without[r] = sum_bare / times;
    }
    m = median(with, ROUNDS);
    n = median(without, ROUNDS);
    f = median(bare, ROUNDS);
    printf("%-9s all checkers %9.1f us (%.2f x floor), none %9.1f us (%.2f x), floor %7.1f us; %llu media requests, "
           "%llu events, %.0f runs/s\n",
           name, m / 1e3, m / f, n / 1e3, n / f, f / 1e3, (unsigned long long)last.result.requests,
           (unsigned long long)last.result.event_count, 1e9 / m);
    run_result_clear(&last.result);
    scenario_free(scn);
    runner_free(runner);
}

/* --- a huge sparse disk --------------------------------------------------------------------------------------- */

static void bench_sparse(void)
{
    struct rusage usage;
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        struct runner *runner = runner_new();
        struct scenario *scn = parse(sparse_text);
        struct sample first = run_once(runner, scn, "all");
        double times[ROUNDS];

        run_result_clear(&first.result);
        for (unsigned r = 0; r < ROUNDS; r++) {
            struct sample s = run_once(runner, scn, "all");

            times[r] = s.ns;
            run_result_clear(&s.result);
        }
        getrusage(RUSAGE_SELF, &usage);
        printf("sparse    1 TiB disk, 64 KiB bitmap, 64 random writes: %.1f us a run with its world reset, %.1f MiB "
               "of memory for the process\n", median(times, ROUNDS) / 1e3, (double)usage.ru_maxrss / 1024);
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, &status, 0);
}

/* --- bitmaps --------------------------------------------------------------------------------------------------- */

#define BITMAP_OPS 200000u

static void bench_bitmap(const char *name, int64_t bytes, int granularity)
{
    struct sim_arena *arena = sim_arena_new();
    HBitmap *hb = hbitmap_alloc(arena, bytes, granularity);
    uint64_t groups = (uint64_t)(bytes >> granularity);
    double t0 = now_ns(), t1, t2, t3;
    volatile int64_t sink = 0;

    for (unsigned i = 0; i < BITMAP_OPS; i++) {
        hbitmap_set(hb, (int64_t)(sim_mix64(i) % groups) << granularity, 1 << granularity);
    }
    t1 = now_ns();
    for (unsigned i = 0; i < BITMAP_OPS; i++) {
        sink += hbitmap_next_dirty(hb, (int64_t)(sim_mix64(i + BITMAP_OPS) % groups) << granularity, INT64_MAX);
    }
    t2 = now_ns();
    for (unsigned i = 0; i < BITMAP_OPS; i++) {
        hbitmap_reset(hb, (int64_t)(sim_mix64(i) % groups) << granularity, 1 << granularity);
    }
    t3 = now_ns();
    printf("bitmap    %s: set %.1f ns, next %.1f ns, reset %.1f ns, %.0f KiB at the end\n", name,
           (t1 - t0) / BITMAP_OPS, (t2 - t1) / BITMAP_OPS, (t3 - t2) / BITMAP_OPS,
           (double)hbitmap_memory_bytes(hb) / 1024);
    hbitmap_free(hb);
    sim_arena_delete(arena);
}

/* For profilers: `bench PROFILE-FILE CHECKS TIMES` runs one scenario and says nothing. */
static int bench_file(const char *path, const char *checks, unsigned times)
{
    struct runner *runner = runner_new();
    char text[8192];
    FILE *file = fopen(path, "r");
    struct scenario *scn;
    size_t length;

    if (!file) {
        perror(path);
        return 2;
    }
    length = fread(text, 1, sizeof(text) - 1, file);
    text[length] = '\0';
    fclose(file);
    scn = parse(text);
    for (unsigned i = 0; i < times; i++) {
        struct sample s = run_once(runner, scn, checks);

        run_result_clear(&s.result);
    }
    scenario_free(scn);
    runner_free(runner);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4) {
        return bench_file(argv[1], argv[2], (unsigned)atoi(argv[3]));
    }
    floor_setup();
    bench_mirror("standard", "64M", 200, 8, &floor_standard);
    bench_mirror("short", "1M", 20, 200, &floor_short);
    bench_sparse();
    bench_bitmap("64 GiB at 64 KiB", 64 * GiB, 16);
    bench_bitmap("1 TiB at 4 KiB", TiB, 12);
    return 0;
}
