/*
 * Playing the steps, and the loop around the world that lets them wait.
 *
 * The steps are played by a coroutine of the world. The loop outside of it only knows two things: the coroutine
 * goes (run events until it is done or waits for what cannot come), or it settles (run until no work is pending,
 * then wake it).
 */
#include "scenario/runner_int.h"

#define TRY_LIMIT_NS (60 * NS_PER_S) /* what a step that only tries waits for requests and answers */

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

        if (runner->dark && step->verb->run != scn_run_powerloss) {
            continue;
        }
        runner->step = i;
        runner->give_up = false;
        if (step->delay != SCN_DELAY_NONE) {
            delay_step(runner, step);
            if (runner->dark && step->verb->run != scn_run_powerloss) {
                continue; /* it failed meanwhile */
            }
        }
        coroutine_set_origin(runner->co,
                             (struct sim_origin){.kind = SIM_ORIGIN_RUNNER, .number = scn_step_entity(scn, i)});
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

void runner_main(void *opaque)
{
    struct runner *runner = opaque;

    play_steps(runner);
    if (runner->dark) {
        runner_power_returns(runner);
    }
    runner->steps_done = true;
    if (!runner->stop) {
        runner_settle(runner, SETTLE_TRY_NS);
    }
    if (!runner->stop && !check_violation_count(runner->checks)) {
        runner_play_end(runner);
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

/* The rule's name for each way in which a run stops without an end. */
static const char *const stop_rules[] = {
    [SIM_STOP_SETTLED] = "hang",
    [SIM_STOP_LIVELOCK] = "livelock",
    [SIM_STOP_EVENTS] = "event-limit",
    [SIM_STOP_CLOCK] = "clock-limit",
};

static void stopped_badly(struct runner *runner, enum sim_stop stop)
{
    const char *rule = (size_t)stop < ARRAY_SIZE(stop_rules) && stop_rules[stop] ? stop_rules[stop] : "stopped";
    struct violation_where where = {.phase = runner->steps_done ? "end" : "steps"};
    const char *verb = runner->step < runner->scn->step_count ? runner->scn->steps[runner->step].verb->name : "-";

    where.op = verb;
    check_violate(runner->checks, "liveness", rule, &where, "the scenario waits in step %zu (%s), and %s",
                  runner->step + 1, verb,
                  stop == SIM_STOP_SETTLED ? "nothing is pending" : "the world ran into its limits");
    if (runner->options->log) {
        sim_dump_hang(runner->sim, runner->options->log);
    }
}

static bool settle_world(struct runner *runner)
{
    int64_t now = sim_now(runner->sim);
    int64_t until_ns = runner->settle_limit_ns > INT64_MAX - now ? INT64_MAX : now + runner->settle_limit_ns;
    enum sim_stop stop = sim_run(runner->sim, violated, runner, until_ns);

    if (runner_cut_power(runner)) {
        return true;
    }
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

/* The scenario waits and no work is pending. A stuck request may be all that it waits for: faults stop, once for
 * each step. A step that only tries is given up then; anything else is a hang. Returns false when the run is over.
 */
static bool unblock(struct runner *runner)
{
    const struct scenario *scn = runner->scn;

    if (runner->relieved_step != runner->step + 1) {
        runner->relieved_step = runner->step + 1;
        runner_release(runner);
        return true;
    }
    if (!runner->steps_done && scn->steps[runner->step].try_ && !runner->give_up) {
        give_up(runner);
        return true;
    }
    return false;
}

void runner_drive(struct runner *runner)
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
        if (runner_cut_power(runner) || stop == SIM_STOP_COND || stop == SIM_STOP_HALTED ||
            (stop == SIM_STOP_SETTLED && unblock(runner))) {
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
