/*
 * One run, from a fresh world to the census.
 *
 * The steps are played by a coroutine of the world. The loop outside of it only knows two things: the coroutine goes
 * (run events, idle ones too, until it is done) or settles (run until no work is pending, then wake it).
 */
#include "scenario/runner_int.h"

#include <libgen.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_LIMIT_NS (24 * 3600 * NS_PER_S)
#define DEFAULT_LIMIT_EVENTS 20000000u
#define TRY_LIMIT_NS (60 * NS_PER_S) /* what a step that only tries waits for requests and answers */
#define END_ROUNDS 8

const char *verdict_name(enum verdict verdict)
{
    static const char *const names[] = {"pass", "fail", "crash", "hang", "error"};

    SIM_ASSERT((unsigned)verdict < ARRAY_SIZE(names));
    return names[verdict];
}

struct runner *runner_new(void)
{
    struct runner *runner = calloc(1, sizeof(*runner));

    SIM_ASSERT(runner);
    runner->sim = sim_new();
    return runner;
}

void runner_free(struct runner *runner)
{
    if (!runner) {
        return;
    }
    sim_delete(runner->sim);
    free(runner);
}

/* --- small services -------------------------------------------------------------------------------------- */

const char *step_str(const struct scn_step *step, const char *name, const char *def)
{
    const struct qvalue *v = qdict_get(step->args, name);

    return v && v->type == QVALUE_STR ? v->str.bytes : def;
}

int64_t step_int(const struct scn_step *step, const char *name, int64_t def)
{
    const struct qvalue *v = qdict_get(step->args, name);

    return v && v->type == QVALUE_INT ? v->integer : def;
}

bool step_bool(const struct scn_step *step, const char *name, bool def)
{
    const struct qvalue *v = qdict_get(step->args, name);

    return v && v->type == QVALUE_BOOL ? v->boolean : def;
}

bool step_has(const struct scn_step *step, const char *name)
{
    return qdict_get(step->args, name) != NULL;
}

uint64_t runner_step_entity(struct runner *runner, const struct scn_step *step)
{
    return scn_step_entity(runner->scn, (size_t)(step - runner->scn->steps));
}

void runner_expect_failed(struct runner *runner, const struct scn_step *step, const char *rule, const char *fmt, ...)
{
    char label[64];
    char *detail = NULL;
    va_list ap;
    struct violation_where where = {.op = step->verb->name};

    va_start(ap, fmt);
    if (vasprintf(&detail, fmt, ap) < 0) {
        detail = NULL;
    }
    va_end(ap);
    scn_step_label(runner->scn, (size_t)(step - runner->scn->steps), label, sizeof(label));
    check_violate(runner->checks, "expect", rule, &where, "step %s (%s:%d:%d): %s", label,
                  runner->scn->path ? runner->scn->path : "scenario", step->line, step->column,
                  detail ? detail : "out of memory");
    free(detail);
    runner->stop = true;
}

char *runner_path(struct runner *runner, const char *path)
{
    char *joined = NULL;
    char *copy;

    if (path[0] == '/' || !runner->scn->path || strcmp(runner->scn->path, "-") == 0) {
        return strdup(path);
    }
    copy = strdup(runner->scn->path);
    if (asprintf(&joined, "%s/%s", dirname(copy), path) < 0) {
        joined = NULL;
    }
    free(copy);
    SIM_ASSERT(joined);
    return joined;
}

struct guest *runner_guest(struct runner *runner, const struct scn_step *step)
{
    const char *name = step_str(step, "guest", "");
    struct guest *guest = guest_find(runner->host, name);

    if (!guest && !step->try_) {
        runner_expect_failed(runner, step, "no-guest", "there is no guest '%s'", name);
    }
    return guest;
}

BlockDriverState *runner_node(struct runner *runner, const struct scn_step *step, const char *name)
{
    Error *err = NULL;
    BlockDriverState *bs = bdrv_lookup_bs(runner->host, name, &err);

    if (!bs) {
        runner_expect_failed(runner, step, "no-node", "%s", error_get_pretty(err));
        error_free(err);
    }
    return bs;
}

void runner_settle(struct runner *runner, int64_t limit_ns)
{
    runner->settle_limit_ns = limit_ns;
    runner->wants = RUNNER_SETTLES;
    sim_halt(runner->sim);
    coroutine_yield(runner->sim);
}

struct host_thunk {
    host_fn *fn;
    void *opaque;
    Coroutine *waiter;
    bool done;
};

static void run_thunk(void *opaque)
{
    struct host_thunk *thunk = opaque;

    thunk->fn(thunk->opaque);
    thunk->done = true;
    coroutine_wake(thunk->waiter);
}

void runner_on_main(struct runner *runner, host_fn *fn, void *opaque)
{
    struct host_thunk thunk = {.fn = fn, .opaque = opaque, .waiter = runner->co};

    host_command(runner->host, run_thunk, &thunk);
    while (!thunk.done) {
        coroutine_yield(runner->sim);
    }
}

void runner_in_host(struct runner *runner, const char *what, host_fn *fn, void *opaque)
{
    struct host_thunk thunk = {.fn = fn, .opaque = opaque, .waiter = runner->co};

    coroutine_start(coroutine_create(runner->sim, runner->host, what, run_thunk, &thunk));
    while (!thunk.done) {
        coroutine_yield(runner->sim);
    }
}

/* --- hosts ----------------------------------------------------------------------------------------------- */

struct host *runner_host_boot(struct runner *runner, const char *name)
{
    struct host *host = host_new(runner->sim, name);

    bdrv_graph_init(host);
    jobs_init(host);
    vm_init(host);
    monitor_init(host);
    return host;
}

static void delete_guests(struct host *host)
{
    struct guest *guest;

    while ((guest = guest_next(host, NULL))) {
        guest_delete(guest);
    }
}

/* Parents come after their children in the list of nodes (newest first), but a reopened or replaced graph may differ:
 * go round until nothing more can be deleted. */
static void delete_nodes(struct host *host)
{
    bool progress = true;

    while (progress) {
        BlockDriverState *bs = bdrv_next_node(host, NULL);

        progress = false;
        while (bs && !progress) {
            BlockDriverState *next = bdrv_next_node(host, bs);

            if (bdrv_has_monitor_ref(bs)) {
                progress = qmp_blockdev_del_node(host, bdrv_get_node_name(bs), NULL);
            }
            bs = next;
        }
    }
}

void runner_host_close(struct host *host)
{
    delete_guests(host);
    delete_nodes(host);
}

/* --- the steps ------------------------------------------------------------------------------------------- */

static void delay_step(struct runner *runner, const struct scn_step *step)
{
    int64_t now = sim_now(runner->sim);
    int64_t until = step->delay == SCN_DELAY_ABSOLUTE ? step->delay_ns : now;

    if (step->delay == SCN_DELAY_RELATIVE) {
        until = step->delay_ns > INT64_MAX - now ? INT64_MAX : now + step->delay_ns;
    }
    if (until > now) {
        co_sleep_ns(runner->sim, until - now);
    }
}

static void play_steps(struct runner *runner)
{
    const struct scenario *scn = runner->scn;
    char label[64];

    for (size_t i = 0; i < scn->step_count && !runner->stop; i++) {
        const struct scn_step *step = &scn->steps[i];

        runner->step = i;
        runner->give_up = false;
        if (step->delay != SCN_DELAY_NONE) {
            delay_step(runner, step);
        }
        coroutine_set_origin(runner->co, (struct sim_origin){.kind = SIM_ORIGIN_RUNNER,
                                                             .number = scn_step_entity(scn, i)});
        scn_step_label(scn, i, label, sizeof(label));
        SIM_EMIT(runner->sim, runner->host, step, step, SIM_P(label), SIM_P(step->verb->name));
        if (step->try_) {
            runner->give_up_ns = sim_now(runner->sim) + TRY_LIMIT_NS;
            sim_halt(runner->sim); /* the loop outside has to learn of it */
        }
        step->verb->run(runner, step);
        runner->give_up_ns = INT64_MAX;
    }
}

/* --- the end --------------------------------------------------------------------------------------------- */

/* A command of the runner's own, as a client would send it: checkers see why a job resumes. Refusals are fine. */
static void end_command(struct runner *runner, const char *name, const char *key, const char *id,
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
    qvalue_free(call.reply);
    error_free(call.err);
    qvalue_free(call.args);
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

/* Whatever a scenario left half done must be able to end once nothing is in its way any more: space for all, no speed
 * limits, no user pauses, the VM running. True when something may move because of it. */
static bool end_release_job(struct runner *runner, const char *id)
{
    Job *job = job_find(runner->host, id);
    BlockJob *bjob = job ? block_job_of(job) : NULL;
    bool again = false;

    if (job && job_user_paused(job)) {
        end_command(runner, "job-resume", "id", id, NULL, NULL);
        again = true;
    } else if (job && job->status == JOB_STATUS_PENDING) {
        /* its source is drained meanwhile: guests wait for the end of it (jobs.md 4.7) */
        end_command(runner, "job-finalize", "id", id, NULL, NULL);
        again = true;
    }
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
        end_command(runner, "cont", NULL, NULL, NULL, NULL);
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

static void end_rounds(struct runner *runner, bool (*fn)(struct runner *runner))
{
    for (unsigned round = 0; round < END_ROUNDS && !runner->stop; round++) {
        bool again = fn(runner);

        runner_settle(runner, SETTLE_NS);
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

/* Nothing fails, limits or pauses any more: what is not done now never will be. */
static void judge_progress(struct runner *runner)
{
    char text[160];

    if (runner->settle_gave_up || runner->outstanding) {
        snprintf(text, sizeof(text), "faults stopped, nothing limits or pauses, but %u request streams are unfinished%s",
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

static void play_end(struct runner *runner)
{
    fault_stop_all(runner->sim);
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
        runner->result->hosts = result_hosts(runner, runner->options->digest);
    }
    end_rounds(runner, end_jobs);
    if (!runner->stop && !check_violation_count(runner->checks)) {
        judge_jobs(runner);
    }
    if (runner->stop || check_violation_count(runner->checks)) {
        return;
    }
    check_final(runner->checks);
    runner_on_main(runner, end_close, runner);
    runner_settle(runner, SETTLE_NS);
}

static void runner_main(void *opaque)
{
    struct runner *runner = opaque;

    play_steps(runner);
    runner->steps_done = true;
    if (!runner->stop) {
        runner_settle(runner, SETTLE_TRY_NS);
    }
    if (!runner->stop && !check_violation_count(runner->checks)) {
        play_end(runner);
    }
    runner->finished = true;
    sim_halt(runner->sim);
}

/* --- the loop outside ------------------------------------------------------------------------------------ */

static bool finished_or_settling(void *opaque)
{
    struct runner *runner = opaque;

    return runner->finished || runner->wants == RUNNER_SETTLES || check_violation_count(runner->checks) ||
           (runner->options->until_event && sim_event_count(runner->sim) >= runner->options->until_event);
}

static bool violated(void *opaque)
{
    struct runner *runner = opaque;

    return check_violation_count(runner->checks) != 0;
}

static void stopped_badly(struct runner *runner, enum sim_stop stop)
{
    struct violation_where where = {.phase = runner->steps_done ? "end" : "steps"};
    const char *verb = runner->step < runner->scn->step_count ? runner->scn->steps[runner->step].verb->name : "-";

    where.op = verb;
    check_violate(runner->checks, "liveness", stop == SIM_STOP_SETTLED ? "hang" : sim_stop_name(stop), &where,
                  "the scenario waits in step %zu (%s), and %s", runner->step + 1, verb,
                  stop == SIM_STOP_SETTLED ? "nothing is pending" : "the world ran into its limits");
    if (runner->options->log) {
        sim_dump_hang(runner->sim, runner->options->log);
    }
}

static bool settle_world(struct runner *runner)
{
    enum sim_stop stop = sim_run(runner->sim, violated, runner, sim_now(runner->sim) + runner->settle_limit_ns);

    if (stop == SIM_STOP_TIME) {
        runner->settle_gave_up = true;
    } else if (stop != SIM_STOP_SETTLED && stop != SIM_STOP_HALTED) {
        if (!check_violation_count(runner->checks)) {
            stopped_badly(runner, stop);
        }
        return false;
    } else {
        runner->settle_gave_up = false;
    }
    if (stop == SIM_STOP_HALTED && check_violation_count(runner->checks)) {
        return false;
    }
    runner->wants = RUNNER_GOES;
    coroutine_wake(runner->co);
    return true;
}

/* A step that only tries waits no longer. */
static void give_up(struct runner *runner)
{
    runner->give_up = true;
    runner->give_up_ns = INT64_MAX;
    coroutine_wake(runner->co);
}

/* The scenario waits and no work is pending. A stuck request may be all that it waits for: faults stop, once for each
 * step. A step that only tries is given up then; anything else is a hang. Returns false when the run is over. */
static bool unblock(struct runner *runner)
{
    const struct scenario *scn = runner->scn;

    if (runner->relieved_step != runner->step + 1) {
        runner->relieved_step = runner->step + 1;
        fault_stop_all(runner->sim);
        return true;
    }
    if (!runner->steps_done && scn->steps[runner->step].try_ && !runner->give_up) {
        give_up(runner);
        return true;
    }
    return false;
}

static void drive(struct runner *runner)
{
    while (!runner->finished && !check_violation_count(runner->checks)) {
        enum sim_stop stop;

        if (runner->wants == RUNNER_SETTLES) {
            if (!settle_world(runner)) {
                return;
            }
            continue;
        }
        stop = sim_run(runner->sim, finished_or_settling, runner, runner->give_up_ns);
        if (runner->options->until_event && sim_event_count(runner->sim) >= runner->options->until_event) {
            return;
        }
        if (stop == SIM_STOP_COND || stop == SIM_STOP_HALTED || (stop == SIM_STOP_SETTLED && unblock(runner))) {
            continue;
        }
        if (stop == SIM_STOP_TIME) {
            give_up(runner);
            continue;
        }
        if (!runner->finished && !check_violation_count(runner->checks)) {
            stopped_badly(runner, stop);
        }
    }
}

/* --- a run ----------------------------------------------------------------------------------------------- */

static void set_schedule(struct runner *runner)
{
    static const enum sim_policy policies[] = {
        [SCN_SCHEDULE_CALM] = SIM_POLICY_CALM,
        [SCN_SCHEDULE_RANDOM] = SIM_POLICY_RANDOM,
        [SCN_SCHEDULE_PCT] = SIM_POLICY_PCT,
        [SCN_SCHEDULE_REPLAY] = SIM_POLICY_REPLAY,
    };
    const struct scenario *scn = runner->scn;

    sim_choice_set_seed(runner->sim, scn->seed);
    sim_choice_set_policy(runner->sim, policies[scn->schedule]);
    if (scn->schedule == SCN_SCHEDULE_PCT) {
        sim_choice_set_pct(runner->sim, scn->pct_depth, 0);
    }
    for (size_t i = 0; i < scn->pin_count; i++) {
        const struct scn_pin *pin = &scn->pins[i];
        struct sim_pin p = {.site = pin->site, .entity = pin->entity, .ordinal = pin->ordinal, .value = pin->value};

        sim_choice_pin(runner->sim, &p);
    }
    sim_choice_record(runner->sim, runner->options->record_choices);
}

static bool loses_power(const struct scenario *scn)
{
    for (size_t i = 0; i < scn->step_count; i++) {
        if (scn->steps[i].verb->run == scn_run_powerloss) {
            return true;
        }
    }
    return false;
}

static bool begin(struct runner *runner)
{
    const struct run_options *options = runner->options;
    Error *err = NULL;

    set_schedule(runner);
    sim_set_limits(runner->sim, options->limit_ns ? options->limit_ns : DEFAULT_LIMIT_NS,
                   options->limit_events ? options->limit_events : DEFAULT_LIMIT_EVENTS);
    runner->loses_power = loses_power(runner->scn);
    if (options->log) {
        sim_sink_text(runner->sim, options->log);
    }
    if (options->trace) {
        sim_sink_json(runner->sim, options->trace);
    }
    if (options->timeline) {
        sim_sink_timeline(runner->sim, options->timeline);
    }
    recorder_attach(runner);
    runner->checks = check_attach(runner->sim, options->checks ? options->checks : "all", &err);
    if (!runner->checks) {
        runner->result->verdict = VERDICT_ERROR;
        runner->result->error = strdup(error_get_pretty(err));
        error_free(err);
        return false;
    }
    if (options->heap_fill) {
        sim_arena_fill(sim_arena(runner->sim), options->heap_byte);
        sim_arena_fill(sim_check_arena(runner->sim), options->heap_byte);
    }
    runner->host = runner_host_boot(runner, "h");
    runner->co = coroutine_create(runner->sim, NULL, "runner", runner_main, runner);
    coroutine_start(runner->co);
    return true;
}

static void host_cleanup(struct runner *runner)
{
    struct host *host = runner->host;

    monitor_cleanup(host);
    vm_cleanup(host);
    jobs_cleanup(host);
    bdrv_graph_cleanup(host);
    check_teardown(runner->checks); /* while the host's arena can still be counted */
    host_delete(host);
    runner->host = NULL;
}

static enum verdict judge(struct runner *runner)
{
    const struct violation *v = check_violations(runner->checks);

    if (!v) {
        return VERDICT_PASS;
    }
    return strcmp(v->check, "liveness") == 0 ? VERDICT_HANG : VERDICT_FAIL;
}

static void copy_violations(struct runner *runner)
{
    struct run_result *result = runner->result;
    struct violation **tail = &result->violations;

    for (const struct violation *v = check_violations(runner->checks); v; v = v->next) {
        struct violation *copy = malloc(sizeof(*copy));

        SIM_ASSERT(copy);
        *copy = *v;
        copy->check = strdup(v->check);
        copy->signature = strdup(v->signature);
        copy->host = v->host ? strdup(v->host) : NULL;
        copy->node = v->node ? strdup(v->node) : NULL;
        copy->job = v->job ? strdup(v->job) : NULL;
        copy->detail = strdup(v->detail);
        copy->next = NULL;
        *tail = copy;
        tail = &copy->next;
    }
    result->violation_count = check_violation_count(runner->checks);
}

static void finish(struct runner *runner)
{
    struct run_result *result = runner->result;
    const struct sim_pin *pins;

    result->trace_hash = sim_trace_hash(runner->sim);
    result->event_count = sim_event_count(runner->sim);
    result->virtual_ns = sim_now(runner->sim);
    if (runner->finished && !check_violation_count(runner->checks) && !runner->stop) {
        host_cleanup(runner);
    }
    if (runner->options->timeline) {
        sim_sink_timeline_end(runner->sim);
    }
    copy_violations(runner);
    result->verdict = judge(runner);
    result->stats = runner->stats;
    result->requests = runner->stats.media_requests;
    for (unsigned m = 0; m < MARK_COUNT; m++) {
        result->marks[m] = sim_mark_hits(runner->sim, m);
    }
    result->stats.jobs_pivoted = result->marks[MARK_mirror_switch];
    result->stats.faults_fired = fault_fired(runner->sim);
    if (runner->options->record_choices) {
        result->choice_count = sim_choice_recorded(runner->sim, &pins);
        result->choices = malloc(MAX(result->choice_count, 1) * sizeof(*pins));
        SIM_ASSERT(result->choices);
        if (result->choice_count) {
            memcpy(result->choices, pins, result->choice_count * sizeof(*pins));
        }
    }
}

void runner_run(struct runner *runner, const struct scenario *scn, const struct run_options *options, bool want_hosts,
                struct run_result *result)
{
    struct sim *sim = runner->sim;

    memset(result, 0, sizeof(*result));
    memset(runner, 0, sizeof(*runner));
    runner->sim = sim;
    runner->scn = scn;
    runner->options = options;
    runner->result = result;
    runner->next_write_id = 1;
    runner->give_up_ns = INT64_MAX;
    result->seed = scn->seed;
    result->hosts = want_hosts ? qvalue_dict() : NULL;
    LIST_INIT(&runner->workloads);
    LIST_INIT(&runner->aios);
    TAILQ_INIT(&runner->events);
    TAILQ_INIT(&runner->outcomes);
    if (begin(runner)) {
        drive(runner);
        finish(runner);
    }
    check_set_free(runner->checks);
    runner->checks = NULL;
    recorder_clear(runner);
    sim_reset(sim);
}

const char *run_result_signature(const struct run_result *result)
{
    return result->violations ? result->violations->signature : NULL;
}
