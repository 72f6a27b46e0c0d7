/*
 * The life of a job, whatever its type.
 */
#include "scenario/gen_job.h"

#include <inttypes.h>
#include <string.h>

/* --- arguments --------------------------------------------------------------------------------------------- */

void gen_job_policy(struct gen_job *job, const char *knob)
{
    static const char *const policies[] = {"", "", "report", "ignore", "ignore", "stop", "stop", "enospc", "auto"};
    const char *policy = gen_pick(job->gen, "job.policy", policies, ARRAY_SIZE(policies));

    if (*policy) {
        gen_add(job->gen, " %s=%s", knob, policy);
    }
    job->stops_on_error = job->stops_on_error || strcmp(policy, "stop") == 0 || strcmp(policy, "enospc") == 0 ||
                          strcmp(policy, "auto") == 0;
    job->ignores = job->ignores || strcmp(policy, "ignore") == 0;
}

void gen_job_limit(struct gen_job *job, int64_t bytes, bool huge)
{
    struct gen *gen = job->gen;

    if (!gen_chance(gen, "limit", 200)) {
        return;
    }
    job->slow = gen_draw(gen, "limit.tiny", 5) == 0;
    if (huge) { /* enough to be through in seconds */
        gen_add_size(gen, "speed", MAX(ROUND_DOWN(bytes / gen_range(gen, "limit.seconds", 1, 8), MiB), MiB));
        return;
    }
    gen_add_size(gen, "speed",
                 job->slow ? gen_range(gen, "limit.slow", 1, 512) * 1000
                           : gen_range(gen, "limit.fast", 1, 64) * MiB);
}

void gen_job_switches(struct gen_job *job)
{
    job->manual_finalize = gen_chance(job->gen, "manual", 100);
    job->manual_dismiss = gen_chance(job->gen, "manual", 100);
    gen_add(job->gen, "%s%s", job->manual_finalize ? " auto-finalize=false" : "",
            job->manual_dismiss ? " auto-dismiss=false" : "");
}

/* --- commands on the way ----------------------------------------------------------------------------------- */

static void add_pauses(struct gen_job *job)
{
    struct gen *gen = job->gen;
    int64_t rounds = gen_chance(gen, "storm", 40) ? gen_range(gen, "storm.rounds", 3, 8)
                                                  : (int64_t)gen_chance(gen, "pause", 150);
    int64_t time_ns = job->start_ns;

    for (int64_t i = 0; i < rounds; i++) {
        const char *family = GEN_PICK(gen, "pause.family", "block-job-", "job-");
        const char *key = *family == 'b' ? "device" : "id";

        time_ns += gen_time(gen, "pause.time", 11);
        gen_at(gen, time_ns, "try %spause %s=%s", family, key, job->id);
        time_ns += gen_time(gen, "pause.length", 12);
        gen_at(gen, time_ns, "try %sresume %s=%s", family, key, job->id);
    }
}

static void add_speeds(struct gen_job *job)
{
    struct gen *gen = job->gen;
    int64_t count = gen_chance(gen, "speed", 150) ? gen_range(gen, "speed.count", 1, 3) : 0;
    char buf[24];

    for (int64_t i = 0; i < count; i++) {
        int64_t time_ns = job->start_ns + gen_time(gen, "speed.time", 14);
        int64_t speed = gen_draw(gen, "speed.value", 4) ? gen_scale(gen, "speed.value", 17) * KiB : 0;

        gen_at(gen, time_ns, "try block-job-set-speed device=%s speed=%s", job->id, sim_format_size(speed, buf));
    }
    if (job->slow || count) {
        gen_at(gen, job->start_ns + gen_time(gen, "limit.off", 18), "try block-job-set-speed device=%s speed=0",
               job->id);
    }
}

static void add_early_end(struct gen_job *job)
{
    /* the last two are for jobs that get ready */
    static const char *const ways[][2] = {{"block-job-cancel device=", ""},
                                          {"block-job-cancel device=", " force=true"},
                                          {"job-cancel id=", ""},
                                          {"block-job-complete device=", ""},
                                          {"job-complete id=", ""}};
    struct gen *gen = job->gen;
    const char *const *way;
    int64_t time_ns;

    if (!gen_chance(gen, "cancel", 60)) {
        return;
    }
    job->ended = true;
    job->leaves = true;
    time_ns = job->start_ns + gen_time(gen, "cancel.time", 13);
    way = ways[gen_draw(gen, "cancel.how", job->readies ? ARRAY_SIZE(ways) : ARRAY_SIZE(ways) - 2)];
    gen_at(gen, time_ns, "try %s%s%s", way[0], job->id, way[1]);
}

static void add_queries(struct gen_job *job)
{
    struct gen *gen = job->gen;

    if (gen_chance(gen, "query", 150)) {
        int64_t time_ns = job->start_ns + gen_time(gen, "query.time", 14);

        gen_at(gen, time_ns, "%s",
               GEN_PICK(gen, "query.what", "query-jobs", "query-block-jobs", "query-status", "query-block",
                        "query-named-block-nodes"));
    }
}

void gen_job_life(struct gen_job *job)
{
    SIM_ASSERT(job->id[0] != '\0');
    add_pauses(job);
    add_speeds(job);
    add_early_end(job);
    add_queries(job);
}

void gen_job_relief(struct gen_job *job)
{
    struct gen *gen = job->gen;
    int64_t time_ns = job->start_ns + gen_time(gen, "enospc.relief", 15);

    if (job->capped && (gen_draw(gen, "enospc.relief?", 8) || job->ignores)) {
        gen_at(gen, time_ns, "disk %s capacity=0", job->capped);
    }
    /* a job that ignores what keeps failing would copy the same area for seconds: interesting once, then only dear
     */
    if (job->ignores && job->faulty) {
        time_ns = job->start_ns + 5 * NS_PER_MS + gen_time(gen, "fault.end", 14);
        gen_at(gen, time_ns, "fault-stop");
    }
    if (job->faulty && job->stops_on_error && gen_draw(gen, "resume?", 6) < (job->capped ? 5 : 2)) {
        gen_at(gen, time_ns + gen_time(gen, "resume.after", 12), "try block-job-resume device=%s", job->id);
    }
}

/* --- the end ----------------------------------------------------------------------------------------------- */

/* What an error has stopped is tried once more: it is the user who says when. */
static bool resume_stopped(struct gen_job *job)
{
    bool resumes = job->stops_on_error && job->faulty && gen_draw(job->gen, "end.resume", 4) == 0;

    if (resumes) {
        gen_line(job->gen, "try block-job-resume device=%s", job->id);
    }
    return resumes;
}

void gen_job_ready(struct gen_job *job)
{
    SIM_ASSERT(job->readies);
    if (job->ended) {
        return;
    }
    gen_line(job->gen, "try wait BLOCK_JOB_READY device=%s timeout=1s", job->id);
    if (resume_stopped(job)) {
        gen_line(job->gen, "try wait BLOCK_JOB_READY device=%s timeout=1s", job->id);
    }
}

static void wait_for_end(struct gen_job *job)
{
    struct gen *gen = job->gen;

    if (job->manual_finalize) {
        gen_line(gen, "try wait BLOCK_JOB_PENDING id=%s timeout=1s", job->id);
        if (gen_draw(gen, "end.pending", 12) == 0) { /* too late for anything but failure */
            gen_line(gen, "try block-job-cancel device=%s", job->id);
        }
        gen_line(gen, "try job-finalize id=%s", job->id);
    }
    gen_line(gen, "try wait BLOCK_JOB_COMPLETED device=%s timeout=1s", job->id);
    if (job->manual_dismiss) {
        gen_line(gen, "try job-dismiss id=%s", job->id);
    }
}

static void complete(struct gen_job *job)
{
    struct gen *gen = job->gen;
    uint64_t how = gen_draw(gen, "end.how", 100);

    job->leaves = (how >= 58 && how < 78) || how >= 86;
    if (how < 58) {
        gen_line(gen, "try %s=%s",
                 GEN_PICK(gen, "complete.family", "block-job-complete device", "block-job-complete device",
                          "job-complete id"),
                 job->id);
        if (gen_draw(gen, "complete.cancel?", 20) == 0) {
            gen_line(gen, "try block-job-cancel device=%s%s", job->id,
                     gen_draw(gen, "complete.force", 2) ? " force=true" : "");
        }
        wait_for_end(job);
    } else if (how < 70) {
        gen_line(gen, "try block-job-cancel device=%s", job->id);
        wait_for_end(job);
    } else if (how < 78) {
        gen_line(gen, "try block-job-cancel device=%s force=true", job->id);
    } else if (how < 86) {
        gen_line(gen, "try block-job-pause device=%s", job->id);
        gen_line(gen, "try block-job-complete device=%s", job->id);
        gen_line(gen, "+%" PRId64 "us try block-job-resume device=%s", gen_scale(gen, "end.pause", 12), job->id);
        wait_for_end(job);
    } /* or the world ends with a job that is ready */
}

void gen_job_end(struct gen_job *job)
{
    struct gen *gen = job->gen;

    if (job->ended) {
        if (gen_draw(gen, "end.settle", 2)) {
            gen_line(gen, "try settle");
        }
        return;
    }
    if (job->endless) {
        gen_line(gen, "run %" PRId64 "us", gen_scale(gen, "end.endless", 13));
        gen_line(gen, "try %s=%s", GEN_PICK(gen, "end.family", "block-job-cancel device", "job-cancel id"),
                 job->id);
        return;
    }
    if (job->readies) {
        complete(job);
        return;
    }
    if (job->stops_on_error && job->faulty &&
        gen_draw(gen, "end.watch", 2)) { /* a job that went through gives its event at once */
        gen_line(gen, "try wait BLOCK_JOB_%s timeout=1s",
                 GEN_PICK(gen, "end.stopped", "ERROR", "COMPLETED", "COMPLETED"));
        resume_stopped(job);
    }
    wait_for_end(job);
}
