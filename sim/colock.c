/*
 * Locks and waits of coroutines.
 *
 * A waiter's place in a queue lies on its own stack. Whoever takes it out sets `granted` and wakes it; a wake-up
 * that means something else (a completion that comes early, say) is kept for the waiter's next coroutine_yield.
 */
#include "sim/coroutine_context.h"

struct CoQueueEntry {
    Coroutine *co;
    CoQueueEntry *next;
    CoQueueEntry **head; /* of the queue it is in */
    CoQueueEntry **tail;
    bool granted;
    bool writer;
};

static void append(CoQueueEntry **head, CoQueueEntry **tail, CoQueueEntry *entry)
{
    entry->next = NULL;
    entry->head = head;
    entry->tail = tail;
    *(*head ? &(*tail)->next : head) = entry;
    *tail = entry;
}

static CoQueueEntry *take_first(CoQueueEntry **head, CoQueueEntry **tail)
{
    CoQueueEntry *entry = *head;

    SIM_ASSERT(entry != NULL);
    *head = entry->next;
    if (!*head) {
        *tail = NULL;
    }
    return entry;
}

void co_waiting_unlink(CoQueueEntry *entry)
{
    CoQueueEntry **link = entry->head;
    CoQueueEntry *before = NULL;

    if (entry->granted) {
        return; /* taken out already */
    }
    while (*link != entry) {
        SIM_ASSERT(*link != NULL);
        before = *link;
        link = &before->next;
    }
    *link = entry->next;
    if (*entry->tail == entry) {
        *entry->tail = before;
    }
}

/* Returns the coroutine, which from here on owns what it waited for. */
static Coroutine *grant_first(CoQueueEntry **head, CoQueueEntry **tail)
{
    CoQueueEntry *entry = take_first(head, tail);

    SIM_ASSERT(!entry->granted);
    entry->granted = true;
    coroutine_wake(entry->co);
    return entry->co;
}

static void wait_granted(struct sim *sim, CoQueueEntry **head, CoQueueEntry **tail, bool writer)
{
    Coroutine *self = coroutine_self(sim);
    CoQueueEntry entry = {.co = self, .writer = writer};
    bool stray = false;

    SIM_ASSERT(self != NULL);
    SIM_ASSERT(self->waiting == NULL);
    append(head, tail, &entry);
    self->waiting = &entry;
    for (;;) {
        coroutine_yield(sim);
        if (entry.granted) {
            break;
        }
        stray = true;
    }
    self->waiting = NULL;
    if (stray) {
        coroutine_wake(self);
    }
}

/* --- wait queue ----------------------------------------------------------------------------------------- */

void co_queue_init(struct sim *sim, CoQueue *queue)
{
    SIM_ASSERT(sim != NULL);
    *queue = (CoQueue){.sim = sim};
}

void co_queue_wait(CoQueue *queue)
{
    SIM_ASSERT(queue->sim != NULL);
    wait_granted(queue->sim, &queue->head, &queue->tail, false);
}

bool co_queue_next(CoQueue *queue)
{
    if (!queue->head) {
        return false;
    }
    grant_first(&queue->head, &queue->tail);
    return true;
}

void co_queue_restart_all(CoQueue *queue)
{
    while (co_queue_next(queue)) {
    }
}

bool co_queue_empty(const CoQueue *queue)
{
    return queue->head == NULL;
}

/* --- mutex ---------------------------------------------------------------------------------------------- */

void co_mutex_init(struct sim *sim, CoMutex *mutex)
{
    mutex->holder = NULL;
    co_queue_init(sim, &mutex->queue);
}

void co_mutex_lock(CoMutex *mutex)
{
    Coroutine *self = coroutine_self(mutex->queue.sim);

    SIM_ASSERT(self != NULL);
    SIM_ASSERT(mutex->holder != self);
    if (mutex->holder) {
        co_queue_wait(&mutex->queue);
        SIM_ASSERT(mutex->holder == self);
        return;
    }
    mutex->holder = self;
    self->locks_held++;
}

void co_mutex_unlock(CoMutex *mutex)
{
    Coroutine *self = coroutine_self(mutex->queue.sim);

    SIM_ASSERT(self != NULL && mutex->holder == self);
    self->locks_held--;
    mutex->holder = NULL;
    if (mutex->queue.head) {
        mutex->holder = grant_first(&mutex->queue.head, &mutex->queue.tail);
        mutex->holder->locks_held++;
    }
}

/* --- rwlock --------------------------------------------------------------------------------------------- */

void co_rwlock_init(struct sim *sim, CoRwlock *lock)
{
    SIM_ASSERT(sim != NULL);
    *lock = (CoRwlock){.sim = sim};
}

static void rwlock_take(CoRwlock *lock, bool writer)
{
    Coroutine *self = coroutine_self(lock->sim);
    bool compatible = writer ? lock->owners == 0 : lock->owners >= 0;

    SIM_ASSERT(self != NULL);
    if (!compatible || lock->head) {
        wait_granted(lock->sim, &lock->head, &lock->tail, writer);
        return; /* whoever let us in has counted us */
    }
    lock->owners = writer ? -1 : lock->owners + 1;
    self->locks_held++;
}

void co_rwlock_rdlock(CoRwlock *lock)
{
    rwlock_take(lock, false);
}

void co_rwlock_wrlock(CoRwlock *lock)
{
    rwlock_take(lock, true);
}

void co_rwlock_unlock(CoRwlock *lock)
{
    Coroutine *self = coroutine_self(lock->sim);

    SIM_ASSERT(self != NULL && self->locks_held > 0);
    SIM_ASSERT(lock->owners != 0);
    self->locks_held--;
    lock->owners = lock->owners < 0 ? 0 : lock->owners - 1;
    while (lock->head && (lock->head->writer ? lock->owners == 0 : lock->owners >= 0)) {
        lock->owners = lock->head->writer ? -1 : lock->owners + 1;
        grant_first(&lock->head, &lock->tail)->locks_held++;
    }
}

/* --- sleep ---------------------------------------------------------------------------------------------- */

/* On the sleeper's stack: after the wake-up nobody looks at the CoSleep, whose owner may be gone by then. */
struct sleeper {
    struct sim_timer timer;
    Coroutine *co;
    CoSleep *sleep;
    bool fired;
    bool woken;
};

static void sleep_fired(void *opaque)
{
    struct sleeper *sleeper = opaque;

    sleeper->fired = true;
    sleeper->sleep->co = NULL;
    sleeper->sleep->timer = NULL;
    coroutine_resume(sleeper->co);
}

bool co_sleep_ns_wakeable(struct sim *sim, CoSleep *sleep, int64_t delay_ns, bool idle)
{
    Coroutine *self = coroutine_self(sim);
    struct sleeper sleeper = {.co = self, .sleep = sleep};
    bool stray = false;
    int64_t until_ns;

    SIM_ASSERT(self != NULL);
    SIM_ASSERT(sleep->co == NULL);
    if (__builtin_add_overflow(sim->now_ns, MAX(delay_ns, 0), &until_ns)) {
        until_ns = INT64_MAX;
    }
    sim_timer_init(&sleeper.timer, sleep_fired, &sleeper);
    sleeper.timer.idle = idle;
    sleeper.timer.host = self->wake.host;
    sleep->co = self;
    sleep->timer = &sleeper.timer;
    sim_timer_arm(sim, &sleeper.timer, until_ns, self->origin_key);
    for (;;) {
        coroutine_yield(sim);
        if (sleeper.fired || sleeper.woken) {
            break;
        }
        stray = true;
    }
    if (stray) {
        coroutine_wake(self);
    }
    return sleeper.fired;
}

void co_sleep_wake(CoSleep *sleep)
{
    struct sleeper *sleeper;
    Coroutine *co = sleep->co;

    if (!co) {
        return;
    }
    sleeper = container_of(sleep->timer, struct sleeper, timer);
    sleeper->woken = true;
    sim_timer_disarm(co->sim, sleep->timer);
    sleep->co = NULL;
    sleep->timer = NULL;
    coroutine_wake(co);
}

void co_sleep_ns(struct sim *sim, int64_t delay_ns)
{
    CoSleep sleep = {NULL, NULL};
    SIM_UNUSED bool whole = co_sleep_ns_wakeable(sim, &sleep, delay_ns, false);

    SIM_ASSERT(whole);
}
