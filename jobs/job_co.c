/* A job as a coroutine: starting, parking, sleeping, kicks (reference/jobs.md 1.4). */
#include "jobs/job_int.h"

/* --- entering ------------------------------------------------------------------------------------------- */

static void job_enter(Job *job)
{
    SIM_ASSERT(!job->busy && job->co != NULL);
    sim_timer_disarm(job->host->sim, &job->sleep_timer);
    job->busy = true;
    coroutine_wake(job->co);
}

void job_kick(Job *job)
{
    if (!job->started || job->finished_run || job->busy) {
        return;
    }
    /* A parked job waits for its last resume or a forced cancel; a stray kick would run it inside a drain. */
    if (job->paused && job->pause_count > 0 && !job->force_cancel) {
        return;
    }
    job_enter(job);
}

static void job_sleep_over(void *opaque)
{
    Job *job = opaque;

    SIM_ASSERT(!job->busy && !job->finished_run);
    job_enter(job);
}

/* The end of a run function, on the main coroutine. The job counts as quiet from here on: what follows drains. */
static void job_exit(void *opaque)
{
    Job *job = opaque;

    job_ref(job);
    job->busy = false;
    job_completed(job);
    host_kick(job->host);
    job_unref(job);
}

static void job_co_entry(void *opaque)
{
    Job *job = opaque;

    job_pause_point(job);
    job->ret = job->driver->run(job, &job->err);
    SIM_ASSERT(job->ret <= 0);
    SIM_ASSERT(job->ret < 0 || job->err == NULL);
    /* Busy until the callback has run: a drain must wait for the graph changes that are still to come. */
    job->finished_run = true;
    job->co = NULL;
    host_defer(job->host, job_exit, job);
}

void job_start(Job *job)
{
    struct host *host = job->host;

    SIM_ASSERT(job->status == JOB_STATUS_CREATED && !job->started);
    SIM_ASSERT(job->pause_count > 0);
    job->co = coroutine_create(host->sim, host, "job", job_co_entry, job);
    coroutine_set_origin(job->co, (struct sim_origin){.kind = SIM_ORIGIN_JOB, .name = job->id});
    sim_timer_init(&job->sleep_timer, job_sleep_over, job);
    job->sleep_timer.host = host->number;
    job->pause_count--;
    job->busy = true;
    job->paused = false;
    job->started = true;
    job_state_transition(job, JOB_STATUS_RUNNING);
    coroutine_start(job->co);
}

/* --- parking -------------------------------------------------------------------------------------------- */

static bool job_pause_due(const Job *job)
{
    return job->pause_count > 0 && !job->force_cancel;
}

/* Lets go of the processor until somebody enters the job, or for delay_ns if that is not negative. */
static void job_do_yield(Job *job, int64_t delay_ns, bool idle)
{
    struct sim *sim = job->host->sim;

    SIM_ASSERT(job->busy && coroutine_self(sim) == job->co);
    if (delay_ns >= 0) {
        int64_t now = sim_now(sim);

        job->sleep_timer.idle = idle;
        sim_timer_arm(sim, &job->sleep_timer, delay_ns > INT64_MAX - now ? INT64_MAX : now + delay_ns,
                      sim_origin_key(coroutine_origin(job->co)));
    }
    job->busy = false;
    host_kick(job->host);
    coroutine_yield(sim);
    SIM_ASSERT(job->busy && !sim_timer_queued(&job->sleep_timer));
}

static void job_park(Job *job)
{
    enum job_status status = job->status;
    bool ready = status == JOB_STATUS_READY;

    if (ready) {
        SIM_MARK(job->host->sim, job_standby);
    }
    job_state_transition(job, ready ? JOB_STATUS_STANDBY : JOB_STATUS_PAUSED);
    job->paused = true;
    do {
        job_do_yield(job, -1, false);
        /* Paused again between the kick and now: it never left. */
    } while (job_pause_due(job));
    job->paused = false;
    job_state_transition(job, status);
    host_kick(job->host); /* a command may wait for that */
}

void job_pause_point(Job *job)
{
    SIM_ASSERT(job->started && !job->finished_run);
    if (!job_pause_due(job)) {
        return;
    }
    if (job->driver->pause != NULL) {
        job->driver->pause(job);
    }
    /* The hook may have waited: the pause may be over. */
    if (job_pause_due(job)) {
        job_park(job);
    }
    if (job->driver->resume != NULL) {
        job->driver->resume(job);
    }
}

void job_yield(Job *job)
{
    if (job->force_cancel) {
        return;
    }
    if (job->pause_count == 0) {
        job_do_yield(job, -1, false);
    }
    job_pause_point(job);
}

static void job_sleep(Job *job, int64_t delay_ns, bool idle, const char *kind)
{
    SIM_ASSERT(delay_ns >= 0);
    if (job->force_cancel) {
        return;
    }
    if (job->pause_count == 0) {
        if (delay_ns > 0 && !job_is_internal(job)) {
            SIM_EMIT(job->host->sim, job->host, job_sleep, job, SIM_P(job->id), SIM_P(kind), (uint64_t)delay_ns);
        }
        job_do_yield(job, delay_ns, idle);
    }
    job_pause_point(job);
}

void job_sleep_ns(Job *job, int64_t delay_ns, bool idle)
{
    job_sleep(job, delay_ns, idle, idle ? "idle" : "sleep");
}

void job_rate_sleep(Job *job, int64_t (*next_delay)(Job *job))
{
    int64_t delay = next_delay(job);

    job->sleep_is_rate = true;
    do {
        int64_t until = sim_now(job->host->sim) + MIN(delay, INT64_MAX / 4);

        job_sleep(job, delay, false, "rate");
        /* Whoever woke the job, and whatever happened to the speed: what is owed now decides. */
        delay = next_delay(job);
        if (delay > 0 && sim_now(job->host->sim) < until && !job->force_cancel) {
            SIM_MARK(job->host->sim, job_rate_woken);
        }
    } while (delay > 0 && !job->force_cancel);
    job->sleep_is_rate = false;
}

bool job_should_stop(const Job *job)
{
    return job->force_cancel;
}

void job_transition_to_ready(Job *job)
{
    job_state_transition(job, JOB_STATUS_READY);
    JOB_HOOK(job, ready);
}

void job_progress_update(Job *job, int64_t done)
{
    SIM_ASSERT(done >= 0);
    job->progress_current += done;
}

void job_progress_set_remaining(Job *job, int64_t remaining)
{
    SIM_ASSERT(remaining >= 0);
    job->progress_remaining = remaining;
}

/* --- counted pauses ------------------------------------------------------------------------------------- */

void job_report_pause_count(const Job *job)
{
    if (!job_is_internal(job)) {
        SIM_EMIT(job->host->sim, job->host, job_pause_count, job, SIM_P(job->id), job->pause_count,
                 job->user_paused);
    }
}

void job_pause(Job *job)
{
    job->pause_count++;
    job_report_pause_count(job);
    if (job->started && sim_timer_queued(&job->sleep_timer)) {
        SIM_MARK(job->host->sim, job_paused_in_sleep);
    }
    /* A sleeper parks now, not when its time is up. */
    if (!job->paused) {
        job_kick(job);
    }
}

void job_resume(Job *job)
{
    SIM_ASSERT(job->pause_count > 0);
    job->pause_count--;
    job_report_pause_count(job);
    if (job->pause_count > 0) {
        return;
    }
    /* Ending a sleep here would let pause and resume beat the throttling. */
    if (job->started && !sim_timer_queued(&job->sleep_timer)) {
        job_kick(job);
    }
}
