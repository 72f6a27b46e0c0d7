/*
 * The world: making, resetting, and the loop that runs it.
 */
#include "sim/sim.h"

#include <stdlib.h>
#include <string.h>

#include "sim/world.h"

#define LIMIT_NS ((int64_t)1 << 62)
#define LIMIT_STEPS UINT64_C(50000000)
#define LIVELOCK_STEPS 100000

static void fresh(struct sim *sim)
{
    sim->now_ns = 0;
    sim->steps = 0;
    sim->steps_at_now = 0;
    sim->halted = false;
    sim->limit_ns = LIMIT_NS;
    sim->limit_steps = LIMIT_STEPS;
    sim_choices_reset(&sim->choices);
}

struct sim *sim_new(void)
{
    struct sim *sim = sim_xcalloc(1, sizeof(*sim));

    sim->arena = sim_arena_new();
    sim->check_arena = sim_arena_new();
    sim->own_arena = sim_arena_new();
    sim->names.epoch = 1;
    sim_events_init(sim);
    fresh(sim);
    return sim;
}

void sim_reset(struct sim *sim)
{
    SIM_ASSERT(!sim->running);
    SIM_ASSERT(sim->co.current == NULL);
    for (int i = SIM_EXT_COUNT - 1; i >= 0; i--) {
        if (sim->ext[i].ops && sim->ext[i].ops->reset) {
            sim->ext[i].ops->reset(sim, sim->ext[i].state);
        }
    }
    sim_events_reset(sim);
    sim_coroutines_drop(sim, 0);
    sim_queue_drop_all(sim);
    sim_hosts_drop(sim);
    sim_arena_reset(sim->arena);
    sim_arena_reset(sim->check_arena);
    sim_arena_reset(sim->own_arena);
    sim->names.count = 0;
    if (++sim->names.epoch == 0) {
        memset(sim->names.slot, 0, sim->names.room * sizeof(*sim->names.slot));
        sim->names.epoch = 1;
    }
    memset(sim->marks, 0, sizeof(sim->marks));
    fresh(sim);
}

void sim_delete(struct sim *sim)
{
    if (!sim) {
        return;
    }
    sim_reset(sim);
    for (int i = SIM_EXT_COUNT - 1; i >= 0; i--) {
        if (sim->ext[i].ops && sim->ext[i].ops->destroy) {
            sim->ext[i].ops->destroy(sim, sim->ext[i].state);
        }
    }
    sim_events_free(sim);
    sim_choices_free(&sim->choices);
    sim_coroutines_free(sim);
    for (uint32_t i = 0; i < sim->spare_count; i++) {
        sim_arena_delete(sim->spare_arenas[i]);
    }
    free(sim->spare_arenas);
    free(sim->all_hosts);
    free(sim->names.slot);
    free(sim->queue.heap);
    sim_arena_delete(sim->arena);
    sim_arena_delete(sim->check_arena);
    sim_arena_delete(sim->own_arena);
    free(sim);
}

int64_t sim_now(const struct sim *sim)
{
    return sim->now_ns;
}

struct sim_arena *sim_arena(struct sim *sim)
{
    return sim->arena;
}

struct sim_arena *sim_check_arena(struct sim *sim)
{
    return sim->check_arena;
}

void sim_ext_set(struct sim *sim, enum sim_ext_id id, const struct sim_ext_ops *ops, void *state)
{
    SIM_ASSERT_LT((size_t)id, SIM_EXT_COUNT);
    SIM_ASSERT(sim->ext[id].ops == NULL && ops != NULL);
    sim->ext[id].ops = ops;
    sim->ext[id].state = state;
}

void *sim_ext(const struct sim *sim, enum sim_ext_id id)
{
    SIM_ASSERT_LT((size_t)id, SIM_EXT_COUNT);
    return sim->ext[id].state;
}

uint64_t sim_work_pending(const struct sim *sim)
{
    return sim->queue.work;
}

void sim_set_limits(struct sim *sim, int64_t time_ns, uint64_t events)
{
    SIM_ASSERT_LE(0, time_ns);
    sim->limit_ns = time_ns;
    sim->limit_steps = events;
}

uint64_t sim_steps(const struct sim *sim)
{
    return sim->steps;
}

void sim_halt(struct sim *sim)
{
    sim->halted = true;
}

/* --- the loop ------------------------------------------------------------------------------------------- */

static void advance(struct sim *sim, int64_t time_ns)
{
    SIM_ASSERT_LE(sim->now_ns, time_ns);
    sim->now_ns = time_ns;
    sim->steps_at_now = 0;
}

/* Moves the clock to the time of `timer`, the next event, unless a bound comes before it. */
static bool reach(struct sim *sim, const struct sim_timer *timer, int64_t until_ns, enum sim_stop *stop)
{
    if (timer->time_ns > until_ns || timer->time_ns > sim->limit_ns) {
        bool limit = sim->limit_ns < until_ns;

        advance(sim, MAX(sim->now_ns, limit ? sim->limit_ns : until_ns));
        *stop = limit ? SIM_STOP_CLOCK : SIM_STOP_TIME;
        return false;
    }
    if (timer->time_ns != sim->now_ns) {
        advance(sim, timer->time_ns);
    }
    return true;
}

static bool bounded(struct sim *sim, enum sim_stop *stop)
{
    if (sim->halted) {
        sim->halted = false;
        *stop = SIM_STOP_HALTED;
        return true;
    }
    if (sim->steps >= sim->limit_steps) {
        *stop = SIM_STOP_EVENTS;
        return true;
    }
    if (sim->steps_at_now >= LIVELOCK_STEPS) {
        sim->steps_at_now = 0;
        *stop = SIM_STOP_LIVELOCK;
        return true;
    }
    return false;
}

static enum sim_stop run_out(struct sim *sim, bool idle, int64_t until_ns)
{
    if (idle && until_ns != INT64_MAX) {
        advance(sim, MAX(sim->now_ns, until_ns));
        return SIM_STOP_TIME;
    }
    return SIM_STOP_SETTLED;
}

static enum sim_stop run(struct sim *sim, bool (*cond)(void *opaque), void *opaque, int64_t until_ns, bool idle)
{
    struct sim_queue *queue = &sim->queue;
    enum sim_stop stop;

    SIM_ASSERT(!sim->running);
    SIM_ASSERT(sim->co.current == NULL);
    sim->running = true;
    sim->halted = false;
    for (;;) {
        struct sim_timer *timer;

        if (cond && cond(opaque)) {
            stop = SIM_STOP_COND;
            break;
        }
        if (bounded(sim, &stop)) {
            break;
        }
        if ((idle ? queue->total : queue->work) == 0) {
            stop = run_out(sim, idle, until_ns);
            break;
        }
        timer = sim_queue_peek(sim);
        if (!reach(sim, timer, until_ns, &stop)) {
            break;
        }
        sim_queue_remove(sim, timer);
        sim->steps++;
        sim->steps_at_now++;
        timer->fn(timer->opaque);
    }
    sim->running = false;
    return stop;
}

enum sim_stop sim_run(struct sim *sim, bool (*cond)(void *opaque), void *opaque, int64_t until_ns)
{
    return run(sim, cond, opaque, until_ns, false);
}

enum sim_stop sim_run_idle(struct sim *sim, bool (*cond)(void *opaque), void *opaque, int64_t until_ns)
{
    return run(sim, cond, opaque, until_ns, true);
}
