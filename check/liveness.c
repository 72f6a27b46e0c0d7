/*
 * liveness: when no work is pending, nothing may be unfinished, unless a fault holds it (DESIGN 2.8). Livelock and
 * the limits of time and events are the runner's to tell.
 */
#include <inttypes.h>
#include <stdio.h>

#include "block/debug.h"
#include "check/checkers.h"
#include "jobs/backup.h"

struct liveness {
    struct check *check;
};

static void saw_stuck(void *opaque, const struct disk_req *req)
{
    *(bool *)opaque |= req->stuck;
}

bool check_any_stuck(struct sim *sim)
{
    bool stuck = false;

    for (struct disk *disk = disk_first(sim); disk; disk = disk_next(disk)) {
        disk_each_in_flight(disk, saw_stuck, &stuck);
    }
    for (struct host *host = host_first(sim); host && !stuck; host = host->next) {
        stuck = bdrv_debug_any_suspended(host);
    }
    return stuck;
}

static void violate(struct liveness *state, const struct host *host, const char *rule, const Job *job,
                    const BlockDriverState *bs, const char *op, const char *text)
{
    struct violation_where where = {.host = check_host_name(host), .op = op};

    if (!job && host && host->jobs) {
        job = job_next((struct host *)host, NULL);
    }
    if (job) {
        where.job = job_id(job);
        where.job_type = job_type_name(job->driver->job_type);
        where.phase = job_status_name(job->status);
    }
    if (bs) {
        where.node = bdrv_get_node_name(bs);
        where.driver = bdrv_driver_name(bs);
    }
    check_violate(state->check->set, "liveness", rule, &where, "%s", text);
}

/* A job that waits for finalize keeps its source drained: guests wait with it (reference/jobs.md 4.7). */
static bool waits_for_finalize(struct host *host)
{
    for (Job *job = host->jobs ? job_next(host, NULL) : NULL; job; job = job_next(host, job)) {
        if (job->status == JOB_STATUS_PENDING && !job->auto_finalize) {
            return true;
        }
    }
    return false;
}

static void look_at_guest(struct liveness *state, struct host *host, const struct guest *guest)
{
    unsigned active = guest_active(guest);
    unsigned waiting = guest_waiting(guest);
    unsigned held = guest_held(guest);
    char text[160];

    /* A `check` in the middle of a scenario may find the VM stopped; at the end the runner has said cont. */
    if (!vm_is_running(host) || waits_for_finalize(host)) {
        return;
    }
    if (active + waiting + held > 0) {
        snprintf(text, sizeof(text), "guest %s: %u requests active, %u waiting, %u held, and no work is pending",
                 guest_name(guest)->str, active, waiting, held);
        violate(state, host, "hang", NULL, blk_bs(guest_blk(guest)), "guest", text);
    }
}

static bool drained_by_somebody(const struct host *host)
{
    for (BlockDriverState *bs = bdrv_next_node((struct host *)host, NULL); bs;
         bs = bdrv_next_node((struct host *)host, bs)) {
        if (bdrv_quiesce_counter(bs) > 0) {
            return true;
        }
    }
    return false;
}

/* Some other job of its group has still to get there, and answers for itself; or has to be finalized. */
static bool waits_for_group(const Job *job)
{
    for (const Job *other = job_next(job->host, NULL); other; other = job_next(job->host, other)) {
        if (other->txn == job->txn &&
            !(job->status == JOB_STATUS_WAITING ? job_is_completed(other) : other->auto_finalize)) {
            return true;
        }
    }
    return false;
}

/* What a job may do for ever without work: stay ready, wait for its user, for finalize, for dismiss, for its group,
 * for guests' writes (a backup with sync=none, reference/jobs.md 5.3), ask again for what is refused (one that
 * ignores errors, of a past that is broken). */
static const char *job_hangs(const Job *job)
{
    switch (job->status) {
    case JOB_STATUS_CONCLUDED:
        return job->auto_dismiss ? "concluded and not dismissed" : NULL;
    case JOB_STATUS_READY:
        return NULL;
    case JOB_STATUS_PENDING:
        return waits_for_group(job) ? NULL : "pending, and nobody has to finalize it";
    case JOB_STATUS_WAITING:
        return waits_for_group(job) ? NULL : "waiting, and all of its group are through";
    case JOB_STATUS_RUNNING:
        return block_job_is_backup(job) &&
                       (backup_sync_mode(job) == MIRROR_SYNC_NONE || backup_refused_at_once(job))
                   ? NULL
                   : "no work is pending";
    case JOB_STATUS_PAUSED:
    case JOB_STATUS_STANDBY:
        return job->user_paused || drained_by_somebody(job->host) ? NULL
                                                                  : "paused without a user's or a drain's pause";
    default:
        return "no work is pending";
    }
}

static void look_at_host(struct liveness *state, struct host *host)
{
    for (struct guest *guest = host->vm ? guest_next(host, NULL) : NULL; guest; guest = guest_next(host, guest)) {
        look_at_guest(state, host, guest);
    }
    for (Job *job = host->jobs ? job_next(host, NULL) : NULL; job; job = job_next(host, job)) {
        const char *why = job_hangs(job);

        if (why) {
            char text[200];

            snprintf(text, sizeof(text), "job %s in state %s: %s (busy %d, pause count %u)",
                     job_id(job) ? job_id(job) : "(internal)", job_status_name(job->status), why, job->busy,
                     job->pause_count);
            violate(state, host, "hang", job, NULL, "job", text);
        }
    }
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct liveness *state = opaque;
    uint64_t commands = check_boundary(check)->commands;

    if ((!final && check_any_stuck(check->sim)) || sim_work_pending(check->sim) > 0) {
        return;
    }
    for (struct host *host = host_first(check->sim); host; host = host->next) {
        look_at_host(state, host);
    }
    if (commands > 0) {
        char text[80];

        snprintf(text, sizeof(text), "%" PRIu64 " commands were taken up and never answered", commands);
        violate(state, host_first(check->sim), "hang", NULL, NULL, "command", text);
    }
}

static void *attach(struct check *check)
{
    struct liveness *state = (struct liveness *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));

    state->check = check;
    return state;
}

const struct check_class check_liveness = {
    .name = "liveness",
    .doc = "everything terminates once faults stop: no lost wake-up, deadlock or livelock",
    .rules = "hang: no work is pending, and a guest request, a job or a command is unfinished\n"
             "livelock: 100,000 events at one instant\n"
             "event-limit, clock-limit: the run used up its events or its virtual time\n"
             "stopped: the run stopped otherwise while a step waited\n"
             "unfinished: faults and pauses are over, and streams of requests do not come to their end\n"
             "job-stays: everything was released or cancelled, and a job does not end\n",
    .attach = attach,
    .at_settled = at_settled,
};
