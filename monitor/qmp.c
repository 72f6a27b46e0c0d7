/*
 * Dispatch: one command at a time on the host's main coroutine.
 */
#include "monitor/commands.h"

typedef struct Monitor Monitor;
struct Monitor {
    uint64_t in_flight; /* submitted, not yet answered */
};

void monitor_init(struct host *host)
{
    SIM_ASSERT(!host->monitor);
    host->monitor = SIM_NEW(host->arena, Monitor);
}

void monitor_cleanup(struct host *host)
{
    SIM_ASSERT(host->monitor);
    SIM_ASSERT_EQ(host->monitor->in_flight, 0);
    SIM_FREE(host->arena, Monitor, host->monitor);
    host->monitor = NULL;
}

/* What the handler asks of media belongs to the step that issued it, not to whatever the main loop did before. */
static bool handle(struct qmp_call *call)
{
    struct host *host = call->host;
    Coroutine *co = coroutine_self(host->sim);
    struct sim_origin before = *coroutine_origin(co);
    coroutine_set_origin(co, (struct sim_origin){SIM_ORIGIN_MAIN, host->name, call->entity});
    bool ok = qmp_check_args(call->command, call->args, &call->err) &&
              call->command->fn(host, call->args, &call->reply, &call->err);
    coroutine_set_origin(co, before);
    return ok;
}

static void run_call(void *opaque)
{
    struct qmp_call *call = opaque;
    struct host *host = call->host;
    SIM_ASSERT(host_in_main(host));
    SIM_EMIT(host->sim, host, qmp_command, call, SIM_P(call->command->name));
    bool ok = handle(call);
    SIM_ASSERT(ok == !call->err);
    if (ok) {
        if (!call->reply) {
            call->reply = qvalue_dict();
        }
        SIM_EMIT(host->sim, host, qmp_reply, call, SIM_P(call->command->name), SIM_P(NULL), SIM_P(NULL));
    } else {
        SIM_ASSERT(!call->reply);
        SIM_EMIT(host->sim, host, qmp_reply, call, SIM_P(call->command->name),
                 SIM_P(error_class_name(error_get_class(call->err))), SIM_P(error_get_pretty(call->err)));
    }
    SIM_ASSERT_LT(0, host->monitor->in_flight);
    host->monitor->in_flight--;
    if (call->done) {
        call->done(call);
    }
}

void monitor_submit(struct host *host, struct qmp_call *call)
{
    SIM_ASSERT(call->command);
    SIM_ASSERT(!call->args || call->args->type == QVALUE_DICT);
    call->host = host;
    call->reply = NULL;
    call->err = NULL;
    host->monitor->in_flight++;
    host_command(host, run_call, call);
}

struct co_waiter {
    Coroutine *co;
    bool done;
};

static void wake_waiter(struct qmp_call *call)
{
    struct co_waiter *waiter = call->opaque;
    waiter->done = true;
    coroutine_wake(waiter->co);
}

bool monitor_co_call(struct host *host, struct qmp_call *call)
{
    struct co_waiter waiter = {coroutine_self(host->sim), false};
    SIM_ASSERT(waiter.co);
    SIM_ASSERT(!host_in_main(host)); /* it would wait for itself */
    call->done = wake_waiter;
    call->opaque = &waiter;
    monitor_submit(host, call);
    while (!waiter.done) {
        coroutine_yield(host->sim);
    }
    call->done = NULL;
    call->opaque = NULL;
    return !call->err;
}
