/*
 * Coroutines: life, pool, start and wake-up.
 */
#include "sim/coroutine.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sim/coroutine_context.h"
#ifdef SIM_CO_SIGJMP
#include "sim/coroutine_sigjmp.h"
#else
#include "sim/coroutine_fcontext.h"
#endif

#if SIM_ASAN
#include <sanitizer/asan_interface.h>
#endif

/* Sanitizers put red zones around every variable: frames grow to several times their size. */
#define STACK_BYTES ((size_t)(SIM_ASAN ? 256 : 64) << 10)
/* Stacks start at different cache sets: same-sized mappings would put all hot frames into the same few. */
#define COLOURS 16
#define COLOUR_BYTES 192

static const char *const origin_names[] = {
    [SIM_ORIGIN_NONE] = "none", [SIM_ORIGIN_MAIN] = "main",     [SIM_ORIGIN_GUEST] = "guest",
    [SIM_ORIGIN_JOB] = "job",   [SIM_ORIGIN_RUNNER] = "runner",
};

const char *sim_origin_kind_name(enum sim_origin_kind kind)
{
    SIM_ASSERT_LT((size_t)kind, ARRAY_SIZE(origin_names));
    return origin_names[kind];
}

uint64_t sim_origin_key(const struct sim_origin *origin)
{
    SIM_ASSERT(origin != NULL);
    return sim_mix2(sim_mix2((uint64_t)origin->kind, origin->name ? origin->name->hash : 0), origin->number);
}

/* --- stacks --------------------------------------------------------------------------------------------- */

static Coroutine *map_coroutine(struct sim *sim)
{
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = guard + STACK_BYTES;
    size_t colour = sim->co.mapped++ % COLOURS * COLOUR_BYTES;
    char *mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    Coroutine *co;

    if (mapping == MAP_FAILED || mprotect(mapping, guard, PROT_NONE) != 0) {
        sim_assert_fail(__FILE__, __LINE__, "no memory for a coroutine's stack");
    }
    co = (Coroutine *)(mapping + bytes - colour - ROUND_UP(sizeof(*co), 64));
    co->mapping = mapping;
    co->mapping_bytes = bytes;
    co->stack = mapping + guard;
    co->stack_bytes = (size_t)((char *)co - co->stack);
    return co;
}

static Coroutine *pool_take(struct sim *sim)
{
    Coroutine *co = sim->co.pool;

    if (!co) {
        return map_coroutine(sim);
    }
    SIM_ASSERT_EQ(co->state, CO_POOLED);
    sim->co.pool = co->next;
    return co;
}

static struct sim_arena *arena_of(const Coroutine *co)
{
    return co->host ? co->host->arena : co->sim->arena;
}

/* Out of the world, into the pool. A coroutine dropped in mid-run leaves a stack whose content is dead: frames
 * and, with sanitizers, their red zones. */
static void retire(Coroutine *co)
{
    struct sim_coroutines *all = &co->sim->co;

    for (struct co_cleanup *cleanup = co->cleanups; cleanup; cleanup = cleanup->next) {
        cleanup->fn(cleanup->opaque);
    }
    co->cleanups = NULL;
    if (co->state != CO_ENDED && co->state != CO_CREATED) {
        co->warm = false;
#if SIM_ASAN
        ASAN_UNPOISON_MEMORY_REGION(co->stack, co->stack_bytes);
#endif
    }
    *(co->prev ? &co->prev->next : &all->live_head) = co->next;
    *(co->next ? &co->next->prev : &all->live_tail) = co->prev;
    all->live_count--;
    sim_arena_account(arena_of(co), SIM_TYPE_Coroutine, STACK_BYTES, -1);
    co->state = CO_POOLED;
    co->next = all->pool;
    all->pool = co;
}

/* --- running -------------------------------------------------------------------------------------------- */

void co_main(Coroutine *co)
{
    for (;;) {
        co->entry(co->opaque);
        SIM_ASSERT_EQ(co->locks_held, 0);
        SIM_ASSERT(co->cleanups == NULL);
        co->state = CO_ENDED;
        co->warm = true;
        co_switch_out(co);
    }
}

void coroutine_resume(void *opaque)
{
    Coroutine *co = opaque;
    struct sim *sim = co->sim;
    bool cold = co->state == CO_CREATED && !co->warm;

    SIM_ASSERT(sim->co.current == NULL);
    SIM_ASSERT(co->state == CO_PARKED || co->state == CO_CREATED);
    sim->co.current = co;
    co->state = CO_RUNNING;
    co_switch_in(co, cold);
    sim->co.current = NULL;
    if (co->state == CO_ENDED) {
        sim_timer_disarm(sim, &co->wake);
        retire(co);
    }
}

void coroutine_cleanup_push(struct sim *sim, struct co_cleanup *cleanup, void (*fn)(void *opaque), void *opaque)
{
    *cleanup = (struct co_cleanup){.co = sim->co.current, .fn = fn, .opaque = opaque};
    if (cleanup->co) {
        cleanup->next = cleanup->co->cleanups;
        cleanup->co->cleanups = cleanup;
    }
}

void coroutine_cleanup_pop(struct co_cleanup *cleanup)
{
    if (cleanup->co) {
        SIM_ASSERT(cleanup->co->cleanups == cleanup);
        cleanup->co->cleanups = cleanup->next;
    }
}

void coroutine_yield(struct sim *sim)
{
    Coroutine *co = sim->co.current;

    SIM_ASSERT(co != NULL);
    co->state = CO_PARKED;
    co_switch_out(co);
}

void coroutine_start(Coroutine *co)
{
    SIM_ASSERT_EQ(co->state, CO_CREATED);
    SIM_ASSERT(!sim_timer_queued(&co->wake));
    sim_timer_arm(co->sim, &co->wake, co->sim->now_ns, co->origin_key);
}

void coroutine_wake(Coroutine *co)
{
    SIM_ASSERT(co->state == CO_PARKED || co->state == CO_RUNNING);
    if (!sim_timer_queued(&co->wake)) {
        sim_timer_arm(co->sim, &co->wake, co->sim->now_ns, co->origin_key);
    }
}

/* --- making and looking --------------------------------------------------------------------------------- */

Coroutine *coroutine_create(struct sim *sim, struct host *host, const char *what, void (*entry)(void *opaque),
                            void *opaque)
{
    struct sim_coroutines *all = &sim->co;
    Coroutine *co = pool_take(sim);

    SIM_ASSERT(what != NULL && entry != NULL);
    co->sim = sim;
    co->host = host;
    co->what = what;
    co->entry = entry;
    co->opaque = opaque;
    co->state = CO_CREATED;
    co->locks_held = 0;
    co->waiting = NULL;
    co->next = NULL;
    co->prev = all->live_tail;
    *(co->prev ? &co->prev->next : &all->live_head) = co;
    all->live_tail = co;
    all->live_count++;
    sim_timer_init(&co->wake, coroutine_resume, co);
    co->wake.host = host ? host->number : 0;
    coroutine_set_origin(co, all->current ? all->current->origin : (struct sim_origin){.kind = SIM_ORIGIN_NONE});
    sim_arena_account(arena_of(co), SIM_TYPE_Coroutine, STACK_BYTES, 1);
    return co;
}

void coroutine_set_origin(Coroutine *co, struct sim_origin origin)
{
    co->origin = origin;
    co->origin_key = sim_origin_key(&origin);
}

const struct sim_origin *coroutine_origin(const Coroutine *co)
{
    return &co->origin;
}

Coroutine *coroutine_self(struct sim *sim)
{
    return sim->co.current;
}

const char *coroutine_what(const Coroutine *co)
{
    return co->what;
}

struct host *coroutine_host(const Coroutine *co)
{
    return co->host;
}

bool coroutine_parked(const Coroutine *co)
{
    return co->state == CO_PARKED && !sim_timer_queued(&co->wake);
}

uint64_t coroutine_count(struct sim *sim)
{
    return sim->co.live_count;
}

void coroutine_each(struct sim *sim, void (*fn)(void *opaque, const Coroutine *co), void *opaque)
{
    for (Coroutine *co = sim->co.live_head; co && fn; co = co->next) {
        fn(opaque, co);
    }
}

static const char *state_text(const Coroutine *co)
{
    if (co->state == CO_CREATED) {
        return sim_timer_queued(&co->wake) ? "starting" : "not started";
    }
    if (co->state == CO_RUNNING) {
        return "running";
    }
    if (sim_timer_queued(&co->wake)) {
        return "ready";
    }
    return co->waiting ? "waiting in a queue" : "parked";
}

void sim_dump_hang(struct sim *sim, FILE *out)
{
    for (const Coroutine *co = sim->co.live_head; co; co = co->next) {
        fprintf(out, "coroutine host=%s what=%s origin=%s:%s:%" PRIu64 " %s\n",
                co->host ? co->host->name->str : "-", co->what, sim_origin_kind_name(co->origin.kind),
                co->origin.name ? co->origin.name->str : "-", co->origin.number, state_text(co));
    }
}

/* --- end of a host or of the world ---------------------------------------------------------------------- */

void sim_coroutines_drop(struct sim *sim, uint32_t host)
{
    Coroutine *next;

    SIM_ASSERT(sim->co.current == NULL || (host != 0 && sim->co.current->wake.host != host));
    /* Queues may belong to survivors, and entries lie on the stacks that go: all leave before any stack does. */
    for (Coroutine *co = sim->co.live_head; co && host; co = co->next) {
        if (co->wake.host == host && co->waiting) {
            co_waiting_unlink(co->waiting);
        }
    }
    for (Coroutine *co = sim->co.live_head; co; co = next) {
        next = co->next;
        if (host == 0 || co->wake.host == host) {
            sim_timer_disarm(sim, &co->wake);
            retire(co);
        }
    }
}

void sim_coroutines_free(struct sim *sim)
{
    SIM_ASSERT_EQ(sim->co.live_count, 0);
    while (sim->co.pool) {
        Coroutine *co = sim->co.pool;

        sim->co.pool = co->next;
        munmap(co->mapping, co->mapping_bytes);
    }
}
