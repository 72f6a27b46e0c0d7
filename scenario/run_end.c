/*
 * The end of a run, once the steps are through: faults stop, whatever was left half done goes on and must end, jobs
 * are ended, the end checks look, everything is closed.
 */
#include "scenario/runner_int.h"

#include <stdlib.h>
#include <string.h>

#define END_ROUNDS 8

/* A command of the runner's own, as a client would send it: checkers see why a job resumes. Refusals are fine, and
 * false. */
static bool end_command(struct runner *runner, const char *name, const char *key, const char *id,
                        const char *other_key, struct qvalue *other)
{
    struct qmp_call call = {.command = qmp_find_command(name), .args = qvalue_dict()};

    SIM_ASSERT(call.command);
    if (key) {
        qdict_put(call.args, key, qvalue_str(id));
    }
    if (other_key) {
        qdict_put(call.args, other_key, other);
    }
    monitor_co_call(runner->host, &call);
    bool ok = !call.err;
    qvalue_free(call.reply);
    error_free(call.err);
    qvalue_free(call.args);
    return ok;
}

#define END_JOBS 64

/* IDs of the jobs that are there; commands change the list under one's feet. Returns how many. */
static unsigned job_ids(struct runner *runner, char *ids[END_JOBS])
{
    unsigned count = 0;

    for (Job *job = job_next(runner->host, NULL); job && count < END_JOBS; job = job_next(runner->host, job)) {
        if (job_id(job)) {
            ids[count++] = strdup(job_id(job));
        }
    }
    return count;
}

/* Whatever a scenario left half done must be able to end once nothing is in its way any more: space for all, no
 * speed limits, no user pauses, the VM running. True when something may move because of it. */
static bool end_release_job(struct runner *runner, const char *id)
{
    Job *job = job_find(runner->host, id);
    BlockJob *bjob;
    bool again = false;

    if (job && job_user_paused(job) && !job_is_completed(job)) {
        end_command(runner, "job-resume", "id", id, NULL, NULL);
        again = true;
    } else if (job && job->status == JOB_STATUS_PENDING) {
        /* its source is drained meanwhile: guests wait for the end of it (jobs.md 4.7) */
        end_command(runner, "job-finalize", "id", id, NULL, NULL);
        again = true;
    }
    job = job_find(runner->host, id); /* the command may have ended it */
    bjob = job ? block_job_of(job) : NULL;
    if (bjob && bjob->speed) {
        end_command(runner, "block-job-set-speed", "device", id, "speed", qvalue_int(0));
    }
    return again;
}

static bool end_release(struct runner *runner)
{
    char *ids[END_JOBS];
    unsigned count = job_ids(runner, ids);
    bool again = false;

    for (unsigned i = 0; i < count; i++) {
        again = end_release_job(runner, ids[i]) || again;
        free(ids[i]);
    }
    if (!vm_is_running(runner->host)) {
        runner->cont_refused = !end_command(runner, "cont", NULL, NULL, NULL, NULL);
        again = true;
    }
    return again;
}

/* Ready mirrors end softly, so that their promise is looked at once more; the rest is cancelled. */
static void end_job(struct runner *runner, const char *id)
{
    Job *job = job_find(runner->host, id);

    if (!job) {
        return;
    }
    if (job->status == JOB_STATUS_PENDING) {
        end_command(runner, "job-finalize", "id", id, NULL, NULL);
    } else if (job->status == JOB_STATUS_CONCLUDED) {
        end_command(runner, "job-dismiss", "id", id, NULL, NULL);
    } else {
        end_command(runner, "block-job-cancel", "device", id, "force", qvalue_bool(!job_is_ready(job)));
    }
}

static bool end_jobs(struct runner *runner)
{
    char *ids[END_JOBS];
    unsigned count = job_ids(runner, ids);

    for (unsigned i = 0; i < count; i++) {
        end_job(runner, ids[i]);
        free(ids[i]);
    }
    return count > 0;
}

static void end_close(void *opaque)
{
    struct runner *runner = opaque;

    runner_host_close(runner->host);
}

/* Names of disks are file names: letters, digits, a few signs, no slashes. */
static void write_disks(struct runner *runner)
{
    for (struct disk *disk = disk_first(runner->sim); disk; disk = disk_next(disk)) {
        Error *err = NULL;
        char *path;

        if (strchr(disk_name(disk)->str, '/') ||
            asprintf(&path, "%s/%s", runner->options->write_disks, disk_name(disk)->str) < 0) {
            continue;
        }
        if (disk_save_file(disk, path, &err) < 0) {
            struct violation_where where = {.phase = "end"};

            check_violate(runner->checks, "expect", "disk-not-written", &where, "%s", error_get_pretty(err));
            error_free(err);
        }
        free(path);
    }
}

static void end_rounds(struct runner *runner, bool (*fn)(struct runner *runner))
{
    for (unsigned round = 0; round < END_ROUNDS && !runner->stop; round++) {
        bool again = fn(runner);

        runner_settle(runner, SETTLE_WHOLE_NS);
        if (!again) {
            return;
        }
    }
}

static void end_violation(struct runner *runner, const char *rule, const char *job_type, const char *text)
{
    struct violation_where where = {.phase = "end", .job_type = job_type};

    check_violate(runner->checks, "liveness", rule, &where, "%s", text);
    runner->stop = true;
}

/* What is left are requests that fail again however often the VM goes on: a device without medium, a write beyond
 * what its node can hold. They are held as the policy asks, and fail when the device goes. So do all that wait in a
 * VM that may not go on. */
static bool all_held(struct runner *runner)
{
    unsigned held = 0;

    for (struct guest *g = guest_next(runner->host, NULL); g; g = guest_next(runner->host, g)) {
        if (guest_active(g)) {
            return false;
        }
        held += guest_held(g) + (runner->cont_refused ? guest_waiting(g) : 0);
    }
    return held > 0 && !vm_is_running(runner->host);
}

/* Nothing fails, limits or pauses any more: what is not done now never will be. */
static void judge_progress(struct runner *runner)
{
    char text[160];

    if (!runner->settle_gave_up && runner->outstanding && all_held(runner)) {
        runner_end_workloads(runner);
        return;
    }
    if (runner->settle_gave_up || runner->outstanding) {
        snprintf(text, sizeof(text),
                 "faults stopped, nothing limits or pauses, but %u request streams are unfinished%s",
                 runner->outstanding, runner->settle_gave_up ? " and work goes on without end" : "");
        end_violation(runner, "unfinished", NULL, text);
    }
}

static void judge_jobs(struct runner *runner)
{
    const Job *job = job_next(runner->host, NULL);
    char text[160];

    if (job) {
        snprintf(text, sizeof(text), "job '%s' is %s and does not end", job_id(job) ? job_id(job) : "(internal)",
                 job_status_name(job->status));
        end_violation(runner, "job-stays", job_type_name(job->driver->job_type), text);
    }
}

void runner_play_end(struct runner *runner)
{
    runner_judge_unanswered(runner);
    runner_release(runner);
    for (struct disk *disk = disk_first(runner->sim); disk; disk = disk_next(disk)) {
        disk_set_capacity(disk, 0);
    }
    end_rounds(runner, end_release);
    if (!runner->stop) {
        judge_progress(runner);
    }
    if (runner->stop) {
        return;
    }
    check_settled(runner->checks);
    if (runner->result->hosts) {
        qvalue_free(runner->result->hosts);
        runner->result->hosts = result_hosts(runner, runner->options->digest, NULL);
    }
    runner_reclaim_bitmaps(runner);
    end_rounds(runner, end_jobs);
    if (!runner->stop && !check_violation_count(runner->checks)) {
        judge_jobs(runner);
    }
    if (runner->stop || check_violation_count(runner->checks)) {
        return;
    }
    check_final(runner->checks);
    if (runner->options->write_disks && runner->result->hosts) {
        qvalue_free(runner->result->hosts);
        runner->result->hosts = result_hosts(runner, runner->options->digest, runner->options->write_disks);
    }
    runner_on_main(runner, end_close, runner);
    runner_settle(runner, SETTLE_WHOLE_NS);
    if (runner->options->digest && runner->result->hosts) {
        result_check_images(runner, runner->result->hosts);
    }
    if (runner->options->write_disks && !check_violation_count(runner->checks)) {
        write_disks(runner);
    }
}
