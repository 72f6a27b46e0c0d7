/*
 * The world: virtual clock, event queue, arenas, hosts. One `struct sim` is one world; there are no globals.
 *
 * Time is signed 64-bit nanoseconds from 0 and moves only to the next event. Events are ordered by (time, rank,
 * sequence); rank 0..3 is a choice made when the event is scheduled, 0 under the calm policy, so ties are FIFO.
 * An event is `work`, or `idle` (the periodic poll of a ready job): settling waits for work only (DESIGN 2.8).
 *
 *     sim_new -> host_new ... -> sim_run_* ... -> sim_reset (a fresh world in recycled memory) -> sim_delete
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdio.h>

#include "sim/arena.h"
#include "sim/choice.h"
#include "sim/event.h"
#include "sim/mark.h"
#include "sim/util.h"

struct sim;
struct host;

/* An entry of the queue, embedded in whatever waits (timer, coroutine, media request). */
struct sim_timer {
    int64_t time_ns;
    uint64_t key; /* rank and sequence */
    void (*fn)(void *opaque);
    void *opaque;
    int32_t heap_index;     /* -1: not queued */
    bool idle;              /* not work: settle does not wait for it; set it while not queued */
    bool queued_now;        /* in the FIFO of the present instant */
    uint32_t host;          /* dropped when this host crashes; 0: never; set it while not queued */
    struct sim_timer *next; /* FIFO of the present instant */
    struct sim_timer *prev;
};

struct sim *sim_new(void);
void sim_delete(struct sim *sim);
/* Back to time 0, nothing alive: drops hosts, disks, coroutines, subscribers, choices, marks. Costs what was
 * touched. */
void sim_reset(struct sim *sim);

int64_t sim_now(const struct sim *sim);
struct sim_arena *sim_arena(struct sim *sim);
/* The checkers' own memory: never counted against the world under test. */
struct sim_arena *sim_check_arena(struct sim *sim);

/* The same string gives the same pointer for the life of the world. */
const struct sim_name *sim_name(struct sim *sim, const char *str);

/*
 * Per-world state of the parts that sim/ only carries. The state belongs to the part: it lives from sim_ext_set to
 * sim_delete and survives resets, so that what it recycles is recycled. Hooks may be NULL. A reset calls `reset`
 * (last slot first) while the arenas still hold everything; a crash calls `host_crash` (last slot first) while the
 * host's arena, coroutines and timers are still there, none of which will ever run again.
 */
enum sim_ext_id {
    SIM_EXT_PAYLOAD,
    SIM_EXT_DISK,
    SIM_EXT_LINK,
    SIM_EXT_BLOCK,
    SIM_EXT_JOBS,
    SIM_EXT_VM,
    SIM_EXT_MONITOR,
    SIM_EXT_FAULTS,
    SIM_EXT_CHECK,
    SIM_EXT_SCENARIO,
    SIM_EXT_COUNT,
};
struct sim_ext_ops {
    void (*reset)(struct sim *sim, void *state);
    void (*host_crash)(struct sim *sim, void *state, struct host *host);
    void (*destroy)(struct sim *sim, void *state);
};
/* A slot is set once in the life of a world. */
void sim_ext_set(struct sim *sim, enum sim_ext_id id, const struct sim_ext_ops *ops, void *state);
void *sim_ext(const struct sim *sim, enum sim_ext_id id); /* NULL until set */

/* --- queue ---------------------------------------------------------------------------------------------- */

void sim_timer_init(struct sim_timer *timer, void (*fn)(void *opaque), void *opaque);
/* time_ns >= now. entity keys the rank's choice. Re-arming a queued timer moves it. */
void sim_timer_arm(struct sim *sim, struct sim_timer *timer, int64_t time_ns, uint64_t entity);
void sim_timer_disarm(struct sim *sim, struct sim_timer *timer);
static inline bool sim_timer_queued(const struct sim_timer *timer)
{
    return timer->heap_index >= 0 || timer->queued_now;
}

/* --- running -------------------------------------------------------------------------------------------- */

enum sim_stop {
    SIM_STOP_COND,     /* the condition holds */
    SIM_STOP_SETTLED,  /* no work is pending */
    SIM_STOP_TIME,     /* the time given is reached */
    SIM_STOP_LIVELOCK, /* 100,000 events at one instant */
    SIM_STOP_EVENTS,   /* the world's event limit */
    SIM_STOP_CLOCK,    /* the world's virtual-time limit */
    SIM_STOP_HALTED,   /* sim_halt() */
};

/* Runs events until cond (may be NULL) holds, checked before each event, or until no *work* is pending, or until
 * the clock would pass until_ns (INT64_MAX: none; then the clock stands at until_ns). Called from outside of any
 * coroutine; the loop never calls itself. */
enum sim_stop sim_run(struct sim *sim, bool (*cond)(void *opaque), void *opaque, int64_t until_ns);
/* As sim_run, but idle events are run too while waiting for cond, and time is let pass: when nothing at all is
 * pending and until_ns is given, the clock goes there (SIM_STOP_TIME). */
enum sim_stop sim_run_idle(struct sim *sim, bool (*cond)(void *opaque), void *opaque, int64_t until_ns);
/* Stops the present sim_run after the event in hand. */
void sim_halt(struct sim *sim);
/* Pending work events, and things in flight that no event stands for (a stuck request counts as nothing). */
uint64_t sim_work_pending(const struct sim *sim);
/* Limits, counted from 0 since reset; defaults 2^62 ns and 50 million events of the queue. */
void sim_set_limits(struct sim *sim, int64_t time_ns, uint64_t events);
/* Events of the queue run since reset. */
uint64_t sim_steps(const struct sim *sim);
/* What a hang report needs: each live coroutine in order of creation, one line each (host, what, origin, state). */
void sim_dump_hang(struct sim *sim, FILE *out);

/* --- hosts ---------------------------------------------------------------------------------------------- */

/*
 * A host is one hypervisor process: its own arena, graph, jobs, VM, monitor and main coroutine. The rooms above
 * hang their state here; sim/ only carries the pointers.
 */
struct BlockGraph; /* block/ */
struct JobList;    /* jobs/ */
struct VmState;    /* vm/ */
struct Monitor;    /* monitor/ */

struct host {
    struct sim *sim;
    const struct sim_name *name;
    uint32_t number; /* 1, 2, ... */
    struct sim_arena *arena;
    struct host_main *main;
    struct BlockGraph *graph;
    struct JobList *jobs;
    struct VmState *vm;
    struct Monitor *monitor;
    struct host *next;
};

struct host *host_new(struct sim *sim, const char *name);
struct host *host_find(struct sim *sim, const char *name); /* NULL when there is none */
struct host *host_first(struct sim *sim);
/* Process death: its timers and coroutines vanish without running another line, its arena is dropped. Disks stay.
 * Requests of its already inside a medium may or may not take effect (choice). */
void host_crash(struct host *host);
/* Orderly end: everything must be closed already; the main coroutine ends. */
void host_delete(struct host *host);

/* --- the main loop of a host ---------------------------------------------------------------------------- */

/*
 * Monitor commands, deferred callbacks and completions run on the host's main coroutine. `Poll until P` parks it:
 * I/O, timers and deferred callbacks of the host go on, its commands queue, other hosts are untouched. A callback
 * that polls in turn nests on the coroutine's own stack: the outer condition is looked at again after the inner
 * poll is done (DESIGN 4).
 */
typedef void host_fn(void *opaque);

/* Deferred callback ("bottom half"): FIFO, runs soon on the main coroutine, also during a poll. The memory behind
 * opaque must live until then. entity keys the schedule. */
void host_defer(struct host *host, host_fn *fn, void *opaque);
/* A command: runs only when the main coroutine is not polling. */
void host_command(struct host *host, host_fn *fn, void *opaque);
/* Main coroutine only. Parks until cond holds; it is evaluated on entry and after every host_kick or callback. */
void host_poll(struct host *host, bool (*cond)(void *opaque), void *opaque);
/* Something that a poll may be waiting for has changed. Cheap when nothing polls. */
void host_kick(struct host *host);
bool host_in_main(const struct host *host);
/* Runs fn on the main coroutine and waits for it. From the main coroutine: calls it. Coroutines of the host only.
 */
void host_call_main(struct host *host, host_fn *fn, void *opaque);
/* Depth of nested polls now (0: none), and commands waiting. */
unsigned host_poll_depth(const struct host *host);
uint64_t host_commands_waiting(const struct host *host);

#endif
