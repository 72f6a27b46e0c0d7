/*
 * Callers of a block copy: each has a range copied, and is through when nothing of it is dirty or in flight
 * (reference/jobs.md 5.5).
 *
 *     pass over what is dirty: task, task, task ... wait for all -> others' tasks in the range? wait for one ->
 * again
 *
 * A pass that found nothing, and nobody else at work: done, since nothing yields in between. What others failed to
 * copy is dirty again and the next pass finds it.
 */
#include "block/block-copy_int.h"

#include <errno.h>

static bool goes_on(const BlockCopyCallState *call)
{
    return call->ret == 0 && !call->cancelled;
}

/* --- tasks of a call
 * ---------------------------------------------------------------------------------------------- */

static void co_task(void *opaque)
{
    block_copy_task *task = opaque;
    BlockCopyCallState *call = task->call;

    block_copy_task_run(task);
    SIM_ASSERT(call->workers > 0);
    call->workers--;
    co_queue_restart_all(&call->worker_done);
}

/* A coroutine for the task, by the side of those that are there. */
static void start_worker(BlockCopyCallState *call, block_copy_task *task)
{
    struct host *host = call->s->host;
    Coroutine *co = coroutine_create(host->sim, host, "block copy task", co_task, task);
    struct sim_origin origin = *coroutine_origin(co);

    if (origin.kind == SIM_ORIGIN_JOB) { /* the same task is the same in every run */
        origin.number = sim_mix2((uint64_t)SIM_OP_WRITE, (uint64_t)task->area.offset);
        coroutine_set_origin(co, origin);
    }
    call->workers++;
    coroutine_start(co);
}

static void wait_workers(BlockCopyCallState *call, int most)
{
    while (call->workers > most) {
        co_queue_wait(&call->worker_done);
    }
}

/* Zero: it may go on, and bytes are counted. */
static int64_t charge(const BlockCopyCallState *call, int64_t bytes)
{
    BlockCopyState *s = call->s;
    int64_t now = sim_now(s->host->sim);

    if (call->throttled) {
        int64_t delay = ratelimit_calculate_delay(&s->limit, 0, now);
        if (delay > 0) {
            return delay;
        }
    }
    (void)ratelimit_calculate_delay(&s->limit, (uint64_t)bytes, now);
    return 0;
}

static void rate_sleep(BlockCopyCallState *call, int64_t delay_ns)
{
    struct sim *sim = call->s->host->sim;

    SIM_MARK(sim, copy_rate_sleep);
    (void)co_sleep_ns_wakeable(sim, &call->rate_sleep, delay_ns, false);
}

/* The next task from *offset on, which moves behind it. False: nothing is dirty there. */
static bool next_task(BlockCopyCallState *call, int64_t *offset, int64_t end)
{
    block_copy_task *task = block_copy_task_begin(call, *offset, end - *offset);

    if (!task) {
        return false;
    }
    bool needed = block_copy_task_examine(task);
    int64_t behind = task->area.offset + task->area.bytes;
    if (!needed) {
        block_copy_task_skip(task);
        *offset = behind;
        return true;
    }
    int64_t bytes = block_copy_clip(call->s, task->area.offset, task->area.bytes);
    int64_t delay = goes_on(call) ? charge(call, bytes) : 0;
    if (!goes_on(call) || delay > 0) {
        block_copy_task_give_back(task); /* nobody shall wait for it meanwhile */
        if (delay > 0) {
            rate_sleep(call, delay);
        }
        return true;
    }
    *offset = behind;
    if (behind >= end && call->workers == 0) {
        block_copy_task_run(task);
    } else {
        start_worker(call, task);
    }
    return true;
}

/* One pass. True: something was dirty. */
static bool copy_dirty(BlockCopyCallState *call)
{
    int64_t offset = call->offset;
    int64_t end = call->offset + call->bytes;
    bool found = false;

    while (offset < end && goes_on(call)) {
        wait_workers(call, call->max_workers - 1);
        if (!goes_on(call) || !next_task(call, &offset, end)) {
            break;
        }
        found = true;
    }
    wait_workers(call, 0);
    return found;
}

/* --- calls
 * -------------------------------------------------------------------------------------------------------- */

static bool wait_for_others(const BlockCopyCallState *call)
{
    struct block_copy_hold *area = block_copy_find_task(call->s, call->offset, call->bytes);

    if (!area) {
        return false;
    }
    SIM_MARK(call->s->host->sim, copy_wait_task);
    co_queue_wait(&area->waiters);
    return true;
}

static void run(BlockCopyCallState *call)
{
    bool again = call->bytes > 0;

    while (again && goes_on(call)) {
        again = copy_dirty(call);
        if (!again && goes_on(call)) {
            again = wait_for_others(call);
        }
    }
    SIM_ASSERT_EQ(call->workers, 0);
    SIM_ASSERT(call->s->calls > 0);
    call->s->calls--;
    call->finished = true;
}

/* The range in whole clusters, inside the disk. */
static void init_call(BlockCopyCallState *call, BlockCopyState *s, int64_t offset, int64_t bytes)
{
    int64_t end = ROUND_UP(MIN(offset + bytes, s->length_bytes), s->cluster_bytes);

    SIM_ASSERT(offset >= 0 && bytes >= 0);
    call->s = s;
    call->offset = ROUND_DOWN(offset, s->cluster_bytes);
    call->bytes = MAX(end - call->offset, (int64_t)0);
    call->max_workers = BLOCK_COPY_MAX_WORKERS;
    co_queue_init(s->host->sim, &call->worker_done);
    s->calls++;
}

static void co_call(void *opaque)
{
    BlockCopyCallState *call = opaque;
    struct host *host = call->s->host;
    void (*cb)(void *opaque) = call->cb;
    void *cb_opaque = call->opaque;

    run(call);
    if (call->abandoned) {
        block_copy_call_free(call);
    } else {
        co_sleep_wake(&call->waiter);
    }
    if (cb) {
        cb(cb_opaque); /* the call may be gone after that */
    }
    host_kick(host);
}

static void start_call(BlockCopyCallState *call)
{
    struct host *host = call->s->host;

    coroutine_start(coroutine_create(host->sim, host, "block copy", co_call, call));
}

/* The call runs in a coroutine of its own, and is left to itself when time is up. */
static int copy_in_time(BlockCopyState *s, int64_t offset, int64_t bytes, int64_t timeout_ns,
                        void (*cb)(void *opaque), void *opaque)
{
    struct sim *sim = s->host->sim;
    BlockCopyCallState *call = SIM_NEW(s->host->arena, BlockCopyCallState);

    init_call(call, s, offset, bytes);
    call->cb = cb;
    call->opaque = opaque;
    start_call(call);
    (void)co_sleep_ns_wakeable(sim, &call->waiter, timeout_ns, false);
    if (!call->finished) {
        SIM_MARK(sim, cbw_timeout);
        call->abandoned = true;
        block_copy_call_cancel(call);
        return -ETIMEDOUT;
    }
    int ret = call->ret;
    block_copy_call_free(call);
    return ret;
}

int block_copy(BlockCopyState *s, int64_t offset, int64_t bytes, int64_t timeout_ns, void (*cb)(void *opaque),
               void *opaque)
{
    BlockCopyCallState call = {0};

    SIM_ASSERT(timeout_ns >= 0);
    if (timeout_ns > 0) {
        return copy_in_time(s, offset, bytes, timeout_ns, cb, opaque);
    }
    init_call(&call, s, offset, bytes);
    run(&call);
    if (cb) {
        cb(opaque);
    }
    return call.ret;
}

BlockCopyCallState *block_copy_async(BlockCopyState *s, int64_t offset, int64_t bytes, int max_workers,
                                     int64_t max_chunk, void (*cb)(void *opaque), void *opaque)
{
    BlockCopyCallState *call = SIM_NEW(s->host->arena, BlockCopyCallState);

    SIM_ASSERT(max_workers > 0 && max_chunk >= 0);
    init_call(call, s, offset, bytes);
    /* More could not have memory at a time. */
    call->max_workers = (int)MIN((int64_t)max_workers, MAX(BLOCK_COPY_MAX_MEMORY_BYTES / s->cluster_bytes, 1));
    call->max_chunk_bytes = max_chunk;
    call->throttled = true;
    call->cb = cb;
    call->opaque = opaque;
    start_call(call);
    return call;
}

void block_copy_call_free(BlockCopyCallState *call)
{
    if (!call) {
        return;
    }
    SIM_ASSERT(call->finished);
    SIM_FREE(call->s->host->arena, BlockCopyCallState, call);
}

void block_copy_call_cancel(BlockCopyCallState *call)
{
    call->cancelled = true;
    co_sleep_wake(&call->rate_sleep);
}

void block_copy_call_kick(BlockCopyCallState *call)
{
    co_sleep_wake(&call->rate_sleep);
}

bool block_copy_call_finished(const BlockCopyCallState *call)
{
    return call->finished;
}

bool block_copy_call_cancelled(const BlockCopyCallState *call)
{
    return call->cancelled;
}

int block_copy_call_status(const BlockCopyCallState *call, bool *error_is_read)
{
    SIM_ASSERT(call->finished);
    if (error_is_read) {
        *error_is_read = call->error_is_read;
    }
    return call->ret;
}
