/*
 * Switching with sigsetjmp and siglongjmp, for hosts without Boost.Context: makecontext only to get onto a stack
 * for the first time, jumps ever after (they leave the signal mask alone, so no system call).
 */
#ifndef SIM_COROUTINE_SIGJMP_H
#define SIM_COROUTINE_SIGJMP_H

#include <ucontext.h>

#include "sim/coroutine_context.h"

/* makecontext passes ints. */
static void co_start(unsigned low, unsigned high)
{
    Coroutine *co = (Coroutine *)((uintptr_t)low | (uintptr_t)high << 32);

    co->fake = NULL;
    co_note_out_done(co);
    co_main(co);
}

/* Its frame is left by a jump and never cleaned: with red zones it would poison whatever the loop calls next. */
static __attribute__((noinline, no_sanitize("address"))) void start_on_stack(Coroutine *co)
{
    ucontext_t context;
    uintptr_t address = (uintptr_t)co;

    SIM_ASSERT_EQ(getcontext(&context), 0);
    context.uc_stack.ss_sp = co->stack;
    context.uc_stack.ss_size = co->stack_bytes;
    context.uc_link = NULL;
    makecontext(&context, (void (*)(void))co_start, 2, (unsigned)address, (unsigned)(address >> 32));
    setcontext(&context);
    sim_assert_fail(__FILE__, __LINE__, "setcontext");
}

static __attribute__((noinline)) void co_switch_in(Coroutine *co, bool cold)
{
    sigjmp_buf loop;
    void *fake = NULL;

    co->sim->co.loop = &loop;
    co_note_in(co, &fake);
    if (sigsetjmp(loop, 0) == 0) {
        if (cold) {
            start_on_stack(co);
        }
        siglongjmp(co->context.env, 1);
    }
    co_note_in_done(fake);
}

static __attribute__((noinline)) void co_switch_out(Coroutine *co)
{
    co_note_out(co);
    if (sigsetjmp(co->context.env, 0) == 0) {
        siglongjmp(*(sigjmp_buf *)co->sim->co.loop, 1);
    }
    co_note_out_done(co);
}

#endif
