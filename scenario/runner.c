/*
 * One run, from a fresh world to the census.
 */
#include "scenario/runner_int.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_LIMIT_NS (24 * 3600 * NS_PER_S)
#define DEFAULT_LIMIT_EVENTS 20000000u

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
        sim_choice_set_pct(runner->sim, scn->pct_depth, runner->pct->steps);
    }
    for (size_t i = 0; i < scn->pin_count; i++) {
        const struct scn_pin *pin = &scn->pins[i];
        struct sim_pin p = {.site = pin->site, .entity = pin->entity, .ordinal = pin->ordinal, .value = pin->value};

        sim_choice_pin(runner->sim, &p);
    }
    sim_choice_record(runner->sim, runner->options->record_choices);
}

static bool begin(struct runner *runner)
{
    const struct run_options *options = runner->options;
    Error *err = NULL;

    set_schedule(runner);
    sim_set_limits(runner->sim, options->limit_ns ? options->limit_ns : DEFAULT_LIMIT_NS,
                   options->limit_events ? options->limit_events : DEFAULT_LIMIT_EVENTS);
    runner->loses_power = runner_loses_power(runner->scn);
    run_log_attach(runner);
    if (options->timeline) {
        sim_sink_timeline(runner->sim, options->timeline);
    }
    recorder_attach(runner);
    run_debug_attach(runner);
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
    result->schedule_steps = sim_choice_schedule_steps(runner->sim);
    result->schedule_tasks = sim_choice_schedule_tasks(runner->sim);
    if (runner->finished && !check_violation_count(runner->checks) && !runner->stop) {
        host_cleanup(runner);
    } else if (result->hosts && result->hosts->seq.count == 0) {
        qvalue_free(result->hosts); /* it broke off: how things stand now */
        result->hosts = result_hosts(runner, runner->options->digest, NULL);
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
    result->stats.throttled = result->marks[MARK_throttle_waited];
    result->stats.faults_fired = fault_fired(runner->sim);
    result->stats.power_writes = fault_power_writes(runner->sim);
    if (runner->options->record_choices) {
        result->choice_count = sim_choice_recorded(runner->sim, &pins);
        result->choices = malloc(MAX(result->choice_count, 1) * sizeof(*pins));
        SIM_ASSERT(result->choices);
        if (result->choice_count) {
            memcpy(result->choices, pins, result->choice_count * sizeof(*pins));
        }
    }
}

static void run_once(struct runner *runner, const struct scenario *scn, const struct run_options *options,
                     bool want_hosts, struct run_result *result, const struct pct_measure *pct)
{
    struct sim *sim = runner->sim;

    memset(result, 0, sizeof(*result));
    memset(runner, 0, sizeof(*runner));
    runner->sim = sim;
    runner->scn = scn;
    runner->options = options;
    runner->result = result;
    runner->pct = pct;
    runner->next_write_id = 1;
    runner->give_up_ns = INT64_MAX;
    result->seed = scn->seed;
    result->hosts = want_hosts ? qvalue_dict() : NULL;
    LIST_INIT(&runner->workloads);
    LIST_INIT(&runner->aios);
    TAILQ_INIT(&runner->owners);
    TAILQ_INIT(&runner->events);
    TAILQ_INIT(&runner->outcomes);
    if (begin(runner)) {
        runner_drive(runner);
        finish(runner);
    }
    check_set_free(runner->checks);
    runner->checks = NULL;
    recorder_clear(runner);
    runner_forget_owners(runner);
    sim_reset(sim);
}

/* PCT draws its change points in the length of the calm run: that run comes first, unwatched. */
static void measure_calm(struct runner *runner, const struct scenario *scn, const struct run_options *options,
                         struct pct_measure *pct)
{
    struct run_options quiet = {.checks = "none",
                                .no_files = options->no_files,
                                .limit_ns = options->limit_ns,
                                .limit_events = options->limit_events};
    struct scenario calm = *scn;
    struct run_result result;

    calm.schedule = SCN_SCHEDULE_CALM;
    run_once(runner, &calm, &quiet, false, &result, NULL);
    *pct = (struct pct_measure){.steps = result.schedule_steps};
    run_result_clear(&result);
}

void runner_run(struct runner *runner, const struct scenario *scn, const struct run_options *options,
                bool want_hosts, struct run_result *result)
{
    struct pct_measure pct = {0};

    if (scn->schedule == SCN_SCHEDULE_PCT) {
        measure_calm(runner, scn, options, &pct);
    }
    run_once(runner, scn, options, want_hosts, result, &pct);
    if (scn->schedule == SCN_SCHEDULE_PCT) {
        result->schedule_steps = pct.steps;
    }
}

const char *run_result_signature(const struct run_result *result)
{
    return result->violations ? result->violations->signature : NULL;
}
