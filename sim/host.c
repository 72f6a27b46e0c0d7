/*
 * Hosts and their main loops.
 *
 *     main coroutine:  callback, callback ... command ... park
 *     in host_poll:    callback ... condition? ... park        commands wait until the outermost poll is over
 *
 * Each round runs the callbacks that were queued when it began and then gives way, so a callback that defers
 * itself for ever is seen as a livelock of the world.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/coroutine_context.h"
#include "sim/world.h"

typedef struct host_callback {
    host_fn *fn;
    void *opaque;
    struct host_callback *next;
} host_callback;

struct callback_list {
    host_callback *head;
    host_callback *tail;
    uint64_t count;
};

struct host_main {
    Coroutine *co;
    bool started;
    bool parked; /* in its own loop or in a poll, not in somebody's yield */
    unsigned depth;
    struct callback_list deferred;
    struct callback_list commands;
};

static void push(struct host *host, struct callback_list *list, host_fn *fn, void *opaque)
{
    host_callback *callback = SIM_NEW(host->arena, host_callback);

    SIM_ASSERT(fn != NULL);
    *callback = (host_callback){.fn = fn, .opaque = opaque};
    *(list->head ? &list->tail->next : &list->head) = callback;
    list->tail = callback;
    list->count++;
}

/* Takes the oldest out and calls it. */
static void run_first(struct host *host, struct callback_list *list)
{
    host_callback *callback = list->head;
    host_fn *fn = callback->fn;
    void *opaque = callback->opaque;

    list->head = callback->next;
    list->count--;
    SIM_FREE(host->arena, host_callback, callback);
    fn(opaque);
}

static void park(struct host *host)
{
    host->main->parked = true;
    coroutine_yield(host->sim);
    host->main->parked = false;
}

/* Lets the events of this instant go on, then comes back. */
static void give_way(struct host *host)
{
    coroutine_wake(host->main->co);
    park(host);
}

static void wake_main(struct host *host)
{
    struct host_main *main = host->main;

    if (!main->started) {
        main->started = true;
        coroutine_start(main->co);
    } else if (main->parked) {
        coroutine_wake(main->co);
    }
}

static void main_loop(void *opaque)
{
    struct host *host = opaque;
    struct host_main *main = host->main;

    for (;;) {
        uint64_t batch = main->deferred.count;

        for (; batch > 0 && main->deferred.count > 0; batch--) {
            run_first(host, &main->deferred);
        }
        if (main->deferred.count == 0 && main->commands.count > 0) {
            run_first(host, &main->commands);
        }
        SIM_ASSERT_EQ(main->depth, 0);
        if (main->deferred.count > 0 || main->commands.count > 0) {
            give_way(host);
        } else {
            park(host);
        }
    }
}

void host_poll(struct host *host, bool (*cond)(void *opaque), void *opaque)
{
    struct host_main *main = host->main;

    SIM_ASSERT(host_in_main(host));
    SIM_ASSERT(cond != NULL);
    if (main->depth++ > 0) {
        SIM_MARK(host->sim, host_poll_nested);
    }
    while (!cond(opaque)) {
        uint64_t batch = main->deferred.count;
        bool done = false;

        for (; batch > 0 && main->deferred.count > 0 && !done; batch--) {
            run_first(host, &main->deferred);
            done = cond(opaque);
        }
        if (done) {
            break;
        }
        if (main->deferred.count > 0) {
            give_way(host);
        } else {
            park(host);
        }
    }
    SIM_ASSERT_LT(0, main->depth);
    main->depth--;
}

void host_kick(struct host *host)
{
    if (host->main->depth > 0 && host->main->parked) {
        coroutine_wake(host->main->co);
    }
}

void host_defer(struct host *host, host_fn *fn, void *opaque)
{
    push(host, &host->main->deferred, fn, opaque);
    wake_main(host);
}

void host_command(struct host *host, host_fn *fn, void *opaque)
{
    push(host, &host->main->commands, fn, opaque);
    if (host->main->depth == 0) {
        wake_main(host);
    }
}

bool host_in_main(const struct host *host)
{
    return host->sim->co.current == host->main->co;
}

unsigned host_poll_depth(const struct host *host)
{
    return host->main->depth;
}

uint64_t host_commands_waiting(const struct host *host)
{
    return host->main->commands.count;
}

struct main_call {
    host_fn *fn;
    void *opaque;
    Coroutine *caller;
    bool done;
};

static void run_main_call(void *opaque)
{
    struct main_call *call = opaque;

    call->fn(call->opaque);
    call->done = true;
    coroutine_wake(call->caller);
}

void host_call_main(struct host *host, host_fn *fn, void *opaque)
{
    struct main_call call = {.fn = fn, .opaque = opaque, .caller = coroutine_self(host->sim)};

    SIM_ASSERT(fn != NULL);
    if (host_in_main(host)) {
        fn(opaque);
        return;
    }
    SIM_ASSERT(call.caller != NULL);
    SIM_ASSERT(call.caller->host == host);
    host_defer(host, run_main_call, &call);
    while (!call.done) {
        coroutine_yield(host->sim);
    }
}

/* --- life ----------------------------------------------------------------------------------------------- */

static struct sim_arena *take_arena(struct sim *sim)
{
    return sim->spare_count ? sim->spare_arenas[--sim->spare_count] : sim_arena_new();
}

static void give_arena(struct sim *sim, struct sim_arena *arena)
{
    sim_arena_reset(arena);
    if (sim->spare_count == sim->spare_room) {
        sim->spare_room = sim->spare_room ? sim->spare_room * 2 : 4;
        sim->spare_arenas = sim_xrealloc(sim->spare_arenas, sim->spare_room * sizeof(*sim->spare_arenas));
    }
    sim->spare_arenas[sim->spare_count++] = arena;
}

struct host *host_new(struct sim *sim, const char *name)
{
    struct host *host;
    struct host **link = &sim->hosts;

    SIM_ASSERT(host_find(sim, name) == NULL);
    if (sim->host_count == sim->host_room) {
        sim->host_room = sim->host_room ? sim->host_room * 2 : 8;
        sim->all_hosts = sim_xrealloc(sim->all_hosts, sim->host_room * sizeof(*sim->all_hosts));
    }
    /* Hosts and their main loops outlive a crash as shells: pointers in records stay good until the reset. */
    host = sim_alloc(sim->own_arena, SIM_TYPE_str, sizeof(*host));
    host->sim = sim;
    host->name = sim_name(sim, name);
    host->arena = take_arena(sim);
    host->main = sim_alloc(sim->own_arena, SIM_TYPE_str, sizeof(*host->main));
    sim->all_hosts[sim->host_count++] = host;
    host->number = sim->host_count;
    while (*link) {
        link = &(*link)->next;
    }
    *link = host;
    host->main->co = coroutine_create(sim, host, "main loop", main_loop, host);
    coroutine_set_origin(host->main->co, (struct sim_origin){.kind = SIM_ORIGIN_MAIN, .name = host->name});
    return host;
}

struct host *host_find(struct sim *sim, const char *name)
{
    SIM_ASSERT(name != NULL);
    for (struct host *host = sim->hosts; host; host = host->next) {
        if (strcmp(host->name->str, name) == 0) {
            return host;
        }
    }
    return NULL;
}

struct host *host_first(struct sim *sim)
{
    return sim->hosts;
}

const char *sim_host_label(const struct sim *sim, uint32_t number)
{
    SIM_ASSERT_LE(number, sim->host_count);
    return number ? sim->all_hosts[number - 1]->name->str : "-";
}

/* Leaves a shell with name and number. */
static void bury(struct host *host)
{
    struct sim *sim = host->sim;
    struct host **link = &sim->hosts;

    while (*link != host) {
        SIM_ASSERT(*link != NULL);
        link = &(*link)->next;
    }
    *link = host->next;
    sim_coroutines_drop(sim, host->number);
    sim_queue_drop_host(sim, host->number);
    give_arena(sim, host->arena);
    memset(host->main, 0, sizeof(*host->main));
    host->arena = NULL;
    host->graph = NULL;
    host->jobs = NULL;
    host->vm = NULL;
    host->monitor = NULL;
    host->next = NULL;
}

void host_crash(struct host *host)
{
    struct sim *sim = host->sim;

    SIM_ASSERT(sim->co.current == NULL || sim->co.current->host != host);
    SIM_EMIT(sim, host, host_crash, host, SIM_P(host->name));
    for (int i = SIM_EXT_COUNT - 1; i >= 0; i--) {
        if (sim->ext[i].ops && sim->ext[i].ops->host_crash) {
            sim->ext[i].ops->host_crash(sim, sim->ext[i].state, host);
        }
    }
    bury(host);
}

void host_delete(struct host *host)
{
    struct host_main *main = host->main;

    SIM_ASSERT(!host_in_main(host));
    SIM_ASSERT_EQ(main->depth, 0);
    SIM_ASSERT_EQ(main->deferred.count + main->commands.count, 0);
    SIM_ASSERT(!main->started || main->parked);
    bury(host);
}

void sim_hosts_drop(struct sim *sim)
{
    for (struct host *host = sim->hosts; host; host = host->next) {
        give_arena(sim, host->arena);
    }
    sim->hosts = NULL;
    sim->host_count = 0;
}
