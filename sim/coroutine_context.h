/*
 * Coroutines inside: the object, and what a back end provides. Private to sim/.
 *
 *     mapping:  | guard page | stack, growing down ....... | struct Coroutine |
 *
 * A switch is always between the event loop and one coroutine. Back ends: coroutine_fcontext.h (Boost.Context),
 * coroutine_sigjmp.h (sigsetjmp, with -DSIM_CO_SIGJMP); each has
 *
 *     co_switch_in(co, cold)   from the loop into co; cold: co_main starts on a stack that holds nothing
 *     co_switch_out(co)        back to the loop
 */
#ifndef SIM_COROUTINE_CONTEXT_H
#define SIM_COROUTINE_CONTEXT_H

#include "sim/coroutine.h"
#include "sim/world.h"

#if SIM_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef SIM_CO_SIGJMP
#include <setjmp.h>
struct co_context {
    sigjmp_buf env;
};
#else
struct co_context {
    void *at; /* stack pointer of the parked side */
};
#endif

enum co_state {
    CO_POOLED,
    CO_CREATED, /* not started */
    CO_RUNNING,
    CO_PARKED, /* its wake-up may be due already */
    CO_ENDED,
};

struct Coroutine {
    struct sim *sim;
    struct host *host;
    const char *what;
    void (*entry)(void *opaque);
    void *opaque;
    enum co_state state;
    bool warm; /* the stack holds co_main waiting for another entry */
    uint32_t locks_held;
    struct sim_timer wake;
    uint64_t origin_key;
    struct sim_origin origin;
    struct co_cleanup *cleanups; /* newest first, on its own stack */
    CoQueueEntry *waiting;       /* its place in a lock's queue, on its own stack */
    Coroutine *next;             /* live list or pool */
    Coroutine *prev;
    struct co_context context;
    char *stack; /* lowest usable byte */
    size_t stack_bytes;
    void *mapping;
    size_t mapping_bytes;
    void *fake; /* sanitizers: fake stack while parked */
};

/* What runs on a coroutine's stack: entries one after the other, for ever. */
SIM_NORETURN void co_main(Coroutine *co);
/* Runs a parked or created coroutine until it parks or ends. Event loop only; a timer's function (opaque is the
 * coroutine). */
void coroutine_resume(void *opaque);
/* Takes a dropped coroutine's place out of the lock's queue it waits in. */
void co_waiting_unlink(CoQueueEntry *entry);

/* --- sanitizer annotations: one wrapping for both back ends ---------------------------------------------- */

/* Before the switch into co; *fake keeps the loop's fake stack. */
static inline void co_note_in(Coroutine *co, void **fake)
{
#if SIM_ASAN
    __sanitizer_start_switch_fiber(fake, co->stack, co->stack_bytes);
#endif
}

/* Back in the loop. */
static inline void co_note_in_done(void *fake)
{
#if SIM_ASAN
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
}

/* Before the switch from co to the loop. An ended coroutine's fake stack is let go. */
static inline void co_note_out(Coroutine *co)
{
#if SIM_ASAN
    struct sim_coroutines *all = &co->sim->co;

    co->fake = NULL;
    __sanitizer_start_switch_fiber(co->state == CO_ENDED ? NULL : &co->fake, all->loop_stack,
                                   all->loop_stack_bytes);
#endif
}

/* On co's stack again (or for the first time): learns where the loop's stack is. */
static inline void co_note_out_done(Coroutine *co)
{
#if SIM_ASAN
    struct sim_coroutines *all = &co->sim->co;

    __sanitizer_finish_switch_fiber(co->fake, &all->loop_stack, &all->loop_stack_bytes);
#endif
}

#endif
