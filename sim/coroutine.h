/*
 * Coroutines and their locks.
 *
 * A coroutine has a stack of its own and runs until it yields or ends; nothing else runs meanwhile. Starting and
 * waking are events of the present instant: they happen after the caller yields or ends, in FIFO order unless a
 * rank was drawn. Stacks have guard pages and are pooled; a coroutine that ends while it holds a CoMutex or
 * CoRwlock is an assertion.
 *
 * Every coroutine has an origin: who caused it (a command, a guest request, a job's operation). Children inherit
 * it; media requests carry it into the event stream and into the keys of their choices.
 */
#ifndef SIM_COROUTINE_H
#define SIM_COROUTINE_H

#include "sim/sim.h"

typedef struct Coroutine Coroutine;
#define coroutine_fn

enum sim_origin_kind {
    SIM_ORIGIN_NONE,
    SIM_ORIGIN_MAIN,   /* main loop and commands of a host */
    SIM_ORIGIN_GUEST,  /* a request of a guest device */
    SIM_ORIGIN_JOB,    /* an operation of a block job */
    SIM_ORIGIN_RUNNER, /* the scenario itself */
};
const char *sim_origin_kind_name(enum sim_origin_kind kind);

struct sim_origin {
    enum sim_origin_kind kind;
    const struct sim_name *name; /* guest or job name; NULL for none */
    uint64_t number;             /* request within the step, or (operation, offset) of a job */
};
/* The entity key of an origin, stable under edits. */
uint64_t sim_origin_key(const struct sim_origin *origin);

/* `what` is a static string for dumps. host may be NULL. The origin is the caller's coroutine's (NONE outside). */
Coroutine *coroutine_create(struct sim *sim, struct host *host, const char *what, void (*entry)(void *opaque),
                            void *opaque);
void coroutine_set_origin(Coroutine *co, struct sim_origin origin);
const struct sim_origin *coroutine_origin(const Coroutine *co);
/* Schedules the first run. */
void coroutine_start(Coroutine *co);
/* Parks the caller until coroutine_wake. */
void coroutine_yield(struct sim *sim);
/* Schedules co, which must be parked by coroutine_yield or a lock below (or about to be); waking twice before it
 * runs is one wake-up. */
void coroutine_wake(Coroutine *co);
Coroutine *coroutine_self(struct sim *sim); /* NULL outside of coroutines */
const char *coroutine_what(const Coroutine *co);
struct host *coroutine_host(const Coroutine *co);

/*
 * Memory from outside of the arenas that a coroutine owns while it waits: fn(opaque) runs if the coroutine is
 * dropped in mid-run, as its host crashes or the world ends. The handle lies on the stack of the owner, who pops it
 * before giving the memory up; the newest goes first. Outside of coroutines nothing is dropped, and both do
 * nothing.
 */
struct co_cleanup {
    Coroutine *co;
    void (*fn)(void *opaque);
    void *opaque;
    struct co_cleanup *next;
};
void coroutine_cleanup_push(struct sim *sim, struct co_cleanup *cleanup, void (*fn)(void *opaque), void *opaque);
void coroutine_cleanup_pop(struct co_cleanup *cleanup);

/* Sleep of the full time unless woken through the handle. */
void co_sleep_ns(struct sim *sim, int64_t delay_ns);

/* A sleep that others may end early. Zero-initialise; one sleeper at a time. */
typedef struct CoSleep {
    Coroutine *co;
    struct sim_timer *timer;
} CoSleep;
/* idle: the wait is no work (settle does not wait for it). Returns true when the full time passed. */
bool co_sleep_ns_wakeable(struct sim *sim, CoSleep *sleep, int64_t delay_ns, bool idle);
void co_sleep_wake(CoSleep *sleep); /* nothing when nobody sleeps */

/* FIFO wait queue. Zero-initialise with co_queue_init. */
typedef struct CoQueueEntry CoQueueEntry;
typedef struct CoQueue {
    struct sim *sim;
    CoQueueEntry *head;
    CoQueueEntry *tail;
} CoQueue;
void co_queue_init(struct sim *sim, CoQueue *queue);
/* Parks at the tail until woken. */
void co_queue_wait(CoQueue *queue);
/* Wakes the oldest; false when nobody waits. */
bool co_queue_next(CoQueue *queue);
void co_queue_restart_all(CoQueue *queue);
bool co_queue_empty(const CoQueue *queue);

/* Fair (FIFO hand-over) mutex; not recursive. */
typedef struct CoMutex {
    Coroutine *holder;
    CoQueue queue;
} CoMutex;
void co_mutex_init(struct sim *sim, CoMutex *mutex);
void co_mutex_lock(CoMutex *mutex);
void co_mutex_unlock(CoMutex *mutex);

/* Readers share, a writer is alone; FIFO, so neither starves. */
typedef struct CoRwlock {
    struct sim *sim;
    int32_t owners; /* -1 writer, n readers */
    CoQueueEntry *head;
    CoQueueEntry *tail;
} CoRwlock;
void co_rwlock_init(struct sim *sim, CoRwlock *lock);
void co_rwlock_rdlock(CoRwlock *lock);
void co_rwlock_wrlock(CoRwlock *lock);
void co_rwlock_unlock(CoRwlock *lock);

/* Coroutines alive in the world now; fn (may be NULL) sees each, for hang reports: what it is, whether parked. */
uint64_t coroutine_count(struct sim *sim);
/* False while a start or wake-up is due for it. */
bool coroutine_parked(const Coroutine *co);
void coroutine_each(struct sim *sim, void (*fn)(void *opaque, const Coroutine *co), void *opaque);

#endif
