/*
 * Switching with Boost.Context's fcontext: two C symbols, no C++ runtime (reference/limits.md "What decides").
 *
 * Inline into coroutine.c on purpose: after a jump every return to a caller is mispredicted, so each call level
 * between the event loop and the jump costs some five nanoseconds a switch.
 */
#ifndef SIM_COROUTINE_FCONTEXT_H
#define SIM_COROUTINE_FCONTEXT_H

#include "sim/coroutine_context.h"

struct fcontext_transfer {
    void *from; /* the side that jumped here */
    void *data;
};

struct fcontext_transfer jump_fcontext(void *to, void *data);
void *make_fcontext(void *stack_top, size_t size_bytes, void (*fn)(struct fcontext_transfer));

static void co_start(struct fcontext_transfer transfer)
{
    Coroutine *co = transfer.data;

    co->fake = NULL;
    co_note_out_done(co);
    co->sim->co.loop = transfer.from;
    co_main(co);
}

static inline __attribute__((always_inline)) void co_switch_in(Coroutine *co, bool cold)
{
    struct fcontext_transfer transfer;
    void *fake = NULL;

    if (cold) {
        co->context.at = make_fcontext(co->stack + co->stack_bytes, co->stack_bytes, co_start);
    }
    co_note_in(co, &fake);
    transfer = jump_fcontext(co->context.at, co);
    co_note_in_done(fake);
    co->context.at = transfer.from;
}

static inline __attribute__((always_inline)) void co_switch_out(Coroutine *co)
{
    struct fcontext_transfer transfer;

    co_note_out(co);
    transfer = jump_fcontext(co->sim->co.loop, NULL);
    co_note_out_done(co);
    co->sim->co.loop = transfer.from;
}

#endif
