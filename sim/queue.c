/*
 * The event queue: a 4-ary heap ordered by (time, rank, sequence), beside a FIFO per rank for what is due now.
 *
 * Most events are wake-ups of the present instant: they never see the heap. A timer of a later instant stays in
 * the heap when its time comes, so the next event is the smaller key of the heap's top and the FIFO heads.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/world.h"

#define ARITY 4

static struct sim_heap_entry make_entry(struct sim_timer *timer)
{
    return (struct sim_heap_entry){(unsigned __int128)(uint64_t)timer->time_ns << 64 | timer->key, timer};
}

static void place(struct sim_queue *queue, uint32_t at, struct sim_heap_entry entry)
{
    queue->heap[at] = entry;
    entry.timer->heap_index = (int32_t)at;
}

static void sift_up(struct sim_queue *queue, uint32_t at, struct sim_heap_entry entry)
{
    while (at > 0) {
        uint32_t parent = (at - 1) / ARITY;

        if (entry.order >= queue->heap[parent].order) {
            break;
        }
        place(queue, at, queue->heap[parent]);
        at = parent;
    }
    place(queue, at, entry);
}

/* Smallest of the up to four children. Which one is pure chance, so a full group is compared without branches. */
static uint32_t smallest_child(const struct sim_queue *queue, uint32_t child)
{
    const struct sim_heap_entry *group = &queue->heap[child];
    uint32_t best = 0;

    if (child + ARITY <= queue->heap_count) {
        uint32_t low = group[1].order < group[0].order;
        uint32_t high = 2 + (uint32_t)(group[3].order < group[2].order);

        return child + low + (high - low) * (uint32_t)(group[high].order < group[low].order);
    }
    for (uint32_t i = 1; child + i < queue->heap_count; i++) {
        best = group[i].order < group[best].order ? i : best;
    }
    return child + best;
}

static void sift_down(struct sim_queue *queue, uint32_t at, struct sim_heap_entry entry)
{
    for (;;) {
        uint32_t child = at * ARITY + 1;
        uint32_t best;

        if (child >= queue->heap_count) {
            break;
        }
        best = smallest_child(queue, child);
        if (queue->heap[best].order >= entry.order) {
            break;
        }
        place(queue, at, queue->heap[best]);
        at = best;
    }
    place(queue, at, entry);
}

static void heap_push(struct sim_queue *queue, struct sim_timer *timer)
{
    if (queue->heap_count == queue->heap_room) {
        queue->heap_room = queue->heap_room ? queue->heap_room * 2 : 64;
        queue->heap = sim_xrealloc(queue->heap, queue->heap_room * sizeof(*queue->heap));
    }
    SIM_ASSERT_LT(queue->heap_count, INT32_MAX);
    sift_up(queue, queue->heap_count++, make_entry(timer));
}

static void heap_remove(struct sim_queue *queue, struct sim_timer *timer)
{
    uint32_t at = (uint32_t)timer->heap_index;
    struct sim_heap_entry last = queue->heap[--queue->heap_count];

    SIM_ASSERT(at <= queue->heap_count && (at == queue->heap_count || queue->heap[at].timer == timer));
    timer->heap_index = -1;
    if (last.timer == timer) {
        return;
    }
    if (at > 0 && last.order < queue->heap[(at - 1) / ARITY].order) {
        sift_up(queue, at, last);
    } else {
        sift_down(queue, at, last);
    }
}

static unsigned rank_of(const struct sim_timer *timer)
{
    return (unsigned)(timer->key >> SIM_SEQ_BITS);
}

static void now_push(struct sim_queue *queue, struct sim_timer *timer)
{
    unsigned rank = rank_of(timer);

    timer->next = NULL;
    timer->prev = queue->now[rank].tail;
    *(timer->prev ? &timer->prev->next : &queue->now[rank].head) = timer;
    queue->now[rank].tail = timer;
    queue->now_mask |= 1u << rank;
    timer->queued_now = true;
}

static void now_remove(struct sim_queue *queue, struct sim_timer *timer)
{
    unsigned rank = rank_of(timer);

    *(timer->prev ? &timer->prev->next : &queue->now[rank].head) = timer->next;
    *(timer->next ? &timer->next->prev : &queue->now[rank].tail) = timer->prev;
    if (!queue->now[rank].head) {
        queue->now_mask &= ~(1u << rank);
    }
    timer->next = NULL;
    timer->prev = NULL;
    timer->queued_now = false;
}

struct sim_timer *sim_queue_peek(struct sim *sim)
{
    struct sim_queue *queue = &sim->queue;
    struct sim_timer *due = NULL;

    if (queue->now_mask) {
        due = queue->now[__builtin_ctz(queue->now_mask)].head;
    }
    if (queue->heap_count == 0) {
        return due;
    }
    /* What is in a FIFO is due now; the heap goes first only with a smaller key of the same instant. */
    return !due || queue->heap[0].order < make_entry(due).order ? queue->heap[0].timer : due;
}

void sim_queue_remove(struct sim *sim, struct sim_timer *timer)
{
    struct sim_queue *queue = &sim->queue;

    SIM_ASSERT(sim_timer_queued(timer));
    if (timer->queued_now) {
        now_remove(queue, timer);
    } else {
        heap_remove(queue, timer);
    }
    queue->total--;
    queue->work -= !timer->idle;
}

void sim_timer_init(struct sim_timer *timer, void (*fn)(void *opaque), void *opaque)
{
    SIM_ASSERT(timer != NULL && fn != NULL);
    *timer = (struct sim_timer){.fn = fn, .opaque = opaque, .heap_index = -1};
}

void sim_timer_arm(struct sim *sim, struct sim_timer *timer, int64_t time_ns, uint64_t entity)
{
    struct sim_queue *queue = &sim->queue;
    uint64_t rank;

    SIM_ASSERT_LE(sim->now_ns, time_ns);
    SIM_ASSERT(timer->fn != NULL);
    if (sim_timer_queued(timer)) {
        sim_queue_remove(sim, timer);
    }
    rank = sim_choose_rank(sim, entity);
    timer->time_ns = time_ns;
    timer->key = rank << SIM_SEQ_BITS | queue->seq++;
    if (time_ns == sim->now_ns) {
        now_push(queue, timer);
    } else {
        heap_push(queue, timer);
    }
    queue->total++;
    queue->work += !timer->idle;
}

void sim_timer_disarm(struct sim *sim, struct sim_timer *timer)
{
    SIM_ASSERT(timer != NULL);
    if (sim_timer_queued(timer)) {
        sim_queue_remove(sim, timer);
    }
}

void sim_queue_drop_host(struct sim *sim, uint32_t host)
{
    struct sim_queue *queue = &sim->queue;

    SIM_ASSERT(host != 0);
    for (unsigned rank = 0; rank < SIM_RANKS; rank++) {
        struct sim_timer *next;

        for (struct sim_timer *timer = queue->now[rank].head; timer; timer = next) {
            next = timer->next;
            if (timer->host == host) {
                sim_queue_remove(sim, timer);
            }
        }
    }
    /* A removal moves another entry to the place, from behind or (sifted up) past it, so start over each time:
     * crashes are rare and heaps small. */
    for (uint32_t i = 0; i < queue->heap_count;) {
        if (queue->heap[i].timer->host == host) {
            sim_queue_remove(sim, queue->heap[i].timer);
            i = 0;
        } else {
            i++;
        }
    }
}

void sim_queue_drop_all(struct sim *sim)
{
    struct sim_queue *queue = &sim->queue;

    /* The timers' own memory goes with the arenas and stacks: only the table forgets them. */
    queue->heap_count = 0;
    memset(queue->now, 0, sizeof(queue->now));
    queue->now_mask = 0;
    queue->seq = 0;
    queue->work = 0;
    queue->total = 0;
}
