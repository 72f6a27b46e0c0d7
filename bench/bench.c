/*
 * make bench: the reference workloads beside their floors, rounds interleaved, medians and ratios.
 *
 * Figures of one run compare with each other; absolute times are the machine's. Nothing here passes or fails.
 */
#include "bench/bitmap.h"
#include "bench/floor.h"
#include "bench/jobs.h"
#include "bench/measure.h"
#include "bench/qcow2.h"
#include "bench/requests.h"
#include "scenario/runner.h"
#include "sim/payload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 31

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
    double start = bench_now_ns();

    runner_run(runner, scn, &options, false, &sample.result);
    sample.ns = bench_now_ns() - start;
    if (sample.result.verdict != VERDICT_PASS) {
        fprintf(stderr, "bench: the workload failed: %s\n", run_result_signature(&sample.result));
        exit(3);
    }
    return sample;
}

/* --- the mirror workloads ----------------------------------------------------------------------------------- */

static double time_floor(const struct floor_counts *counts, unsigned times)
{
    double start = bench_now_ns();
    uint64_t sum = 0;

    for (unsigned i = 0; i < times; i++) {
        sum += floor_run(counts);
    }
    return sum ? (bench_now_ns() - start) / times : 0;
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
    m = bench_median(with, ROUNDS);
    n = bench_median(without, ROUNDS);
    f = bench_median(bare, ROUNDS);
    printf(
        "%-9s all checkers %9.1f us (%.2f x floor), none %9.1f us (%.2f x), floor %7.1f us; %llu media requests, "
        "%llu events, %.0f runs/s\n",
        name, m / 1e3, m / f, n / 1e3, n / f, f / 1e3, (unsigned long long)last.result.requests,
        (unsigned long long)last.result.event_count, 1e9 / m);
    run_result_clear(&last.result);
    scenario_free(scn);
    runner_free(runner);
}

/* --- a huge sparse disk --------------------------------------------------------------------------------------- */

/* The short workload in a world that held something large before: a reset costs what was touched, once. */
static double short_after(struct runner *runner, const char *size)
{
    double times[ROUNDS];
    struct scenario *scn;
    struct sample s;
    char text[2048];

    snprintf(text, sizeof(text), mirror_text, size, size, 200);
    scn = parse(text);
    s = run_once(runner, scn, "all");
    run_result_clear(&s.result);
    scenario_free(scn);
    snprintf(text, sizeof(text), mirror_text, "1M", "1M", 20);
    scn = parse(text);
    for (unsigned r = 0; r < ROUNDS; r++) {
        s = run_once(runner, scn, "all");
        times[r] = s.ns;
        run_result_clear(&s.result);
    }
    scenario_free(scn);
    return bench_median(times, ROUNDS);
}

static void bench_reset(void)
{
    struct runner *runner = runner_new();
    double fresh = short_after(runner, "1M");
    double after = short_after(runner, "1G");

    printf("reset     the short workload after itself %.1f us, after a mirrored GiB of data in the same world %.1f "
           "us\n",
           fresh / 1e3, after / 1e3);
    runner_free(runner);
}

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
        printf(
            "sparse    1 TiB disk, 64 KiB bitmap, 64 random writes: %.1f us a run with its world reset, %.1f MiB "
            "of memory for the process\n",
            bench_median(times, ROUNDS) / 1e3, (double)usage.ru_maxrss / 1024);
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, &status, 0);
}

/* --- single requests and copies --------------------------------------------------------------------------- */

static const char request_text[] = "blksim 1\n"
                                   "blockdev-add driver=null-co node-name=n size=1G\n"
                                   "blockdev-add driver=raw node-name=s file=n\n"
                                   "guest g node=s\n"
                                   "workload g ops=%u depth=%u write=50 read=50 zero=0 discard=0 flush=0 min=4k "
                                   "max=4k align=4k think=1ns wait=on\n";

static const char copy_text[] =
    "blksim 1\n"
    "disk src size=%u content=stamp\n"
    "disk dst size=%u\n"
    "blockdev-add driver=raw node-name=s file.driver=disk file.disk=src\n"
    "blockdev-add driver=raw node-name=d file.driver=disk file.disk=dst\n"
    "blockdev-mirror job-id=m device=s target=d sync=full granularity=65536 buf-size=65536\n"
    "wait BLOCK_JOB_READY device=m timeout=60s\n";

/* What `count` more of something cost each: two runs that differ in nothing else. */
static double marginal_ns(const char *format, unsigned less, unsigned more, unsigned param, const char *checks)
{
    struct runner *runner = runner_new();
    double delta[ROUNDS];
    struct scenario *scn[2];

    for (unsigned i = 0; i < 2; i++) {
        char text[2048];
        unsigned n = i ? more : less;

        snprintf(text, sizeof(text), format, n, param ? param : n);
        scn[i] = parse(text);
    }
    for (unsigned r = 0; r < ROUNDS; r++) {
        double ns[2];

        for (unsigned i = 0; i < 2; i++) {
            struct sample s = run_once(runner, scn[i], checks);

            ns[i] = s.ns;
            run_result_clear(&s.result);
        }
        delta[r] = ns[1] - ns[0];
    }
    scenario_free(scn[0]);
    scenario_free(scn[1]);
    runner_free(runner);
    return bench_median(delta, ROUNDS) / (more - less);
}

static void bench_requests(void)
{
    double deep = marginal_ns(request_text, 100, 1100, 16, "none");
    double flat = marginal_ns(request_text, 100, 1100, 1, "none");

    printf(
        "request   4 KiB guest request, raw over null-co: %.0f ns at depth 16, %.0f at 1 (QEMU 7.2: 700, 2000)\n",
        deep, flat);
    printf(
        "copy      mirror, 64 KiB disk to disk: %.0f ns a copy, with all checkers %.0f (QEMU 7.2, null-co: 2800)\n",
        marginal_ns(copy_text, 1 << 20, 17 << 20, 0, "none") * 65536,
        marginal_ns(copy_text, 1 << 20, 17 << 20, 0, "all") * 65536);
}

/* --- seeds -------------------------------------------------------------------------------------------------- */

#define SEEDS 500u

static void bench_seeds(void)
{
    struct runner *runner = runner_new();
    double made = 0, checked = 0, ran = 0;
    uint64_t events = 0;

    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        struct run_options options = {.checks = "all"};
        struct run_result result;
        double t0 = bench_now_ns(), t1, t2;
        struct scenario *scn = scenario_generate("mirror", seed, NULL);

        t1 = bench_now_ns();
        scenario_check(scn, &options, NULL);
        t2 = bench_now_ns();
        runner_run(runner, scn, &options, false, &result);
        ran += bench_now_ns() - t2;
        checked += t2 - t1;
        made += t1 - t0;
        events += result.event_count;
        run_result_clear(&result);
        scenario_free(scn);
    }
    runner_free(runner);
    printf("seeds     profile mirror, %u seeds, all checkers: %.0f seeds/s; a seed is generated and parsed in %.0f "
           "us, "
           "checked in %.0f, run in %.0f (%.0f events)\n",
           SEEDS, SEEDS * 1e9 / (made + checked + ran), made / SEEDS / 1e3, checked / SEEDS / 1e3,
           ran / SEEDS / 1e3, (double)events / SEEDS);
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
    if (argc == 2 && strcmp(argv[1], "bitmaps") == 0) {
        bench_bitmaps();
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "requests") == 0) {
        bench_request_paths();
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "jobs") == 0) {
        bench_jobs_floor();
        bench_jobs();
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "qcow2") == 0) {
        bench_qcow2();
        return 0;
    }
    if (argc != 1) {
        fprintf(stderr, "bench: there is no part '%s', expected bitmaps, jobs, qcow2 or requests\n", argv[1]);
        return 2;
    }
    bench_jobs_floor();
    bench_mirror("standard", "64M", 200, 8, &floor_standard);
    bench_mirror("short", "1M", 20, 200, &floor_short);
    bench_seeds();
    bench_requests();
    bench_request_paths();
    bench_qcow2();
    bench_jobs();
    bench_sparse();
    bench_reset();
    bench_bitmaps();
    return 0;
}
