/*
 * Tasks of a block copy: one piece each, from its bits' going to their coming back or the copy's being there
 * (reference/jobs.md 5.5).
 *
 *     begin (bits cleared) -> examine (one extent, a method) -> run: memory, copy -> end
 *                                 |                                        failed: bits set again, then wake
 *                                 +-> skip / give back
 */
#include "block/block-copy_int.h"

#include <errno.h>

/* --- beginning ---------------------------------------------------------------------------------------------------
 */

/* Of a request; neither side fragments an offloaded one. */
static int64_t max_transfer(const BlockCopyState *s)
{
    int64_t source = s->source->bs->bl.max_transfer;
    int64_t target = s->target->bs->bl.max_transfer;

    return MIN(source > 0 ? source : BLOCK_COPY_OFFLOAD_BYTES, target > 0 ? target : BLOCK_COPY_OFFLOAD_BYTES);
}

/* Whole clusters, at least one. */
static int64_t chunk_bytes(const BlockCopyCallState *call)
{
    static const int64_t of_method[] = {
        [COPY_READ_WRITE] = BLOCK_COPY_BUFFER_BYTES,
        [COPY_READ_WRITE_CLUSTER] = 1,
        [COPY_RANGE_SMALL] = BLOCK_COPY_BUFFER_BYTES,
        [COPY_RANGE_FULL] = BLOCK_COPY_OFFLOAD_BYTES,
    };
    const BlockCopyState *s = call->s;
    int64_t most = MIN(of_method[s->method], max_transfer(s));

    if (call->max_chunk_bytes > 0) {
        most = MIN(most, call->max_chunk_bytes);
    }
    return MAX(ROUND_DOWN(most, s->cluster_bytes), s->cluster_bytes);
}

/* The first dirty piece, as far as no hold is in the way; waits where one begins. False: nothing is dirty. */
static bool find_piece(const BlockCopyCallState *call, int64_t *offset, int64_t *bytes)
{
    BlockCopyState *s = call->s;
    int64_t end = MIN(*offset + *bytes, s->length_bytes);
    struct block_copy_hold *hold;
    int64_t from, num;

    while (*offset < end &&
           bdrv_dirty_bitmap_next_dirty_area(s->bitmap, *offset, end, chunk_bytes(call), &from, &num)) {
        num = ROUND_UP(num, s->cluster_bytes);
        SIM_ASSERT_EQ(from % s->cluster_bytes, 0);
        while ((hold = block_copy_find_area(s, from, num)) != NULL && hold->offset > from) {
            num = hold->offset - from; /* what is before it can do without */
        }
        if (!hold) {
            *offset = from;
            *bytes = num;
            return true;
        }
        SIM_ASSERT(!hold->is_task); /* what is in a task is not dirty */
        SIM_MARK(s->host->sim, copy_wait_hold);
        co_queue_wait(&hold->waiters);
        if (call->ret < 0 || call->cancelled) {
            return false;
        }
    }
    return false;
}

block_copy_task *block_copy_task_begin(BlockCopyCallState *call, int64_t offset, int64_t bytes)
{
    BlockCopyState *s = call->s;

    if (!find_piece(call, &offset, &bytes)) {
        return NULL;
    }
    block_copy_task *task = SIM_NEW(s->host->arena, block_copy_task);
    task->call = call;
    task->method = s->method;
    task->area = (struct block_copy_hold){.offset = offset, .bytes = bytes, .is_task = true};
    block_copy_area_insert(s, &task->area);
    s->tasks++;
    s->in_flight_bytes += bytes;
    bdrv_reset_dirty_bitmap(s->bitmap, offset, block_copy_bits(s->bitmap, offset, bytes));
    return task;
}

/* --- ending ------------------------------------------------------------------------------------------------------
 */

/* What is not copied is dirty again before anybody can see it free. copied: bytes to tell of. */
static void end_task(block_copy_task *task, bool dirty, int64_t copied)
{
    BlockCopyState *s = task->area.state;
    struct host *host = s->host;

    SIM_ASSERT(s->tasks > 0 && s->in_flight_bytes >= task->area.bytes);
    s->tasks--;
    s->in_flight_bytes -= task->area.bytes;
    if (dirty) {
        bdrv_set_dirty_bitmap(s->bitmap, task->area.offset,
                              block_copy_bits(s->bitmap, task->area.offset, task->area.bytes));
    } else {
        block_copy_tell(s, copied);
    }
    block_copy_area_remove(&task->area);
    SIM_FREE(host->arena, block_copy_task, task);
    host_kick(host);
}

void block_copy_task_give_back(block_copy_task *task)
{
    end_task(task, true, 0);
}

void block_copy_task_skip(block_copy_task *task)
{
    end_task(task, false, 0);
}

static void shrink(block_copy_task *task, int64_t bytes)
{
    BlockCopyState *s = task->area.state;
    int64_t rest = task->area.bytes - bytes;
    int64_t offset = task->area.offset + bytes;

    SIM_ASSERT(bytes > 0 && rest > 0 && bytes % s->cluster_bytes == 0);
    SIM_MARK(s->host->sim, copy_shrink);
    task->area.bytes = bytes;
    s->in_flight_bytes -= rest;
    bdrv_set_dirty_bitmap(s->bitmap, offset, block_copy_bits(s->bitmap, offset, rest));
    co_queue_restart_all(&task->area.waiters); /* some wait only for what is free now */
}

/* --- looking -----------------------------------------------------------------------------------------------------
 */

/* Status of the first bytes, and how many whole clusters are like that. What cannot be known is one cluster of
 * data.
 */
static int extent_status(const BlockCopyState *s, int64_t offset, int64_t bytes, int64_t *extent)
{
    BlockDriverState *source = s->source->bs;
    BlockDriverState *base = s->skip_unallocated ? bdrv_backing_chain_next(source) : NULL;
    int64_t asked = block_copy_clip(s, offset, bytes);
    int64_t num;
    int ret = bdrv_co_block_status_above(source, base, offset, asked, &num, NULL, NULL);

    if (ret >= 0 && num == asked) {
        *extent = bytes;
        return ret;
    }
    if (ret < 0 || num < s->cluster_bytes) {
        SIM_MARK(s->host->sim, copy_status_error);
        *extent = s->cluster_bytes;
        return BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_DATA;
    }
    *extent = ROUND_DOWN(num, s->cluster_bytes);
    return ret;
}

bool block_copy_task_examine(block_copy_task *task)
{
    const BlockCopyState *s = task->area.state;
    bool skip = s->skip_unallocated;
    int64_t extent;
    int status = extent_status(s, task->area.offset, task->area.bytes, &extent);

    if (extent < task->area.bytes) {
        shrink(task, extent);
    }
    if (skip && !(status & BDRV_BLOCK_ALLOCATED)) {
        SIM_MARK(s->host->sim, copy_skip_unallocated);
        return false;
    }
    if (status & BDRV_BLOCK_ZERO) {
        task->method = COPY_WRITE_ZEROES;
    }
    return true;
}

/* --- copying -----------------------------------------------------------------------------------------------------
 */

/* A target that stands on the source may have a reader that has found an area unallocated and is on its way to the
 * source: it must be through before the area appears above, and the source changes. */
static uint32_t write_flags(const BlockCopyState *s)
{
    BlockDriverState *source = bdrv_skip_filters(s->source->bs);

    if (!bdrv_chain_contains(s->target->bs, source)) {
        return 0;
    }
    SIM_MARK(s->host->sim, copy_fleecing);
    return BDRV_REQ_SERIALISING;
}

static int copy_buffered(const BlockCopyState *s, int64_t offset, int64_t bytes, uint32_t flags, bool *is_read)
{
    struct payload data;

    payload_init(s->host->sim, &data);
    int ret = bdrv_co_preadv(s->source, offset, bytes, &data, 0);
    *is_read = ret < 0;
    if (ret >= 0) {
        flags |= s->compress ? BDRV_REQ_WRITE_COMPRESSED : 0;
        ret = bdrv_co_pwritev(s->target, offset, bytes, &data, flags);
    }
    payload_clear(&data);
    return ret;
}

/* *method becomes what is known of offloading now. */
static int copy_piece(const BlockCopyState *s, int64_t offset, int64_t bytes, enum block_copy_method *method,
                      bool *is_read)
{
    uint32_t flags = write_flags(s);
    bool offload = *method == COPY_RANGE_SMALL || *method == COPY_RANGE_FULL;

    *is_read = false;
    if (offset + bytes > s->target->bs->total_bytes) {
        return -EIO; /* somebody else has shortened the medium; there is no right to make it longer */
    }
    if (*method == COPY_WRITE_ZEROES) {
        return bdrv_co_pwrite_zeroes(s->target, offset, bytes, flags);
    }
    if (offload && bytes <= max_transfer(s)) {
        int ret = bdrv_co_copy_range(s->source, offset, s->target, offset, bytes, 0, flags);
        if (ret >= 0) {
            *method = COPY_RANGE_FULL;
            return 0;
        }
        *method = COPY_READ_WRITE;
    }
    return copy_buffered(s, offset, bytes, flags, is_read);
}

/* In pieces only where a single cluster is more than all the memory. */
static int copy(const block_copy_task *task, enum block_copy_method *method, bool *is_read)
{
    const BlockCopyState *s = task->area.state;
    int64_t offset = task->area.offset;
    int64_t end = offset + block_copy_clip(s, offset, task->area.bytes);
    int ret = 0;

    while (offset < end && ret >= 0) {
        int64_t num = MIN(end - offset, BLOCK_COPY_MAX_MEMORY_BYTES);
        ret = copy_piece(s, offset, num, method, is_read);
        offset += num;
    }
    return MIN(ret, 0);
}

static int64_t take_memory(BlockCopyState *s, int64_t bytes)
{
    bytes = MIN(bytes, BLOCK_COPY_MAX_MEMORY_BYTES);
    while (s->memory_bytes + bytes > BLOCK_COPY_MAX_MEMORY_BYTES) {
        SIM_MARK(s->host->sim, copy_wait_memory);
        co_queue_wait(&s->memory_queue);
    }
    s->memory_bytes += bytes;
    return bytes;
}

static void give_memory(BlockCopyState *s, int64_t bytes)
{
    SIM_ASSERT(s->memory_bytes >= bytes);
    s->memory_bytes -= bytes;
    co_queue_restart_all(&s->memory_queue);
}

/* What one task has learned of offloading holds for all to come, unless another one has learned more meanwhile. */
static void learn(BlockCopyState *s, enum block_copy_method before, enum block_copy_method after)
{
    if (s->method != before || before == after) {
        return;
    }
    if (after == COPY_RANGE_FULL) {
        SIM_MARK(s->host->sim, copy_offload_grows);
    } else {
        SIM_MARK(s->host->sim, copy_offload_failed);
    }
    s->method = after;
}

static void emit(const block_copy_task *task, bool begin, int ret)
{
    const BlockCopyState *s = task->area.state;
    const BlockDriverState *node = bdrv_dirty_bitmap_node(s->bitmap);
    enum sim_op op = task->method == COPY_WRITE_ZEROES ? SIM_OP_WRITE_ZEROES : SIM_OP_WRITE;

    if (begin) {
        SIM_EMIT(s->host->sim, s->host, block_copy_begin, s, SIM_P(node->name), op, (uint64_t)task->area.offset,
                 (uint64_t)task->area.bytes);
    } else {
        SIM_EMIT(s->host->sim, s->host, block_copy_end, s, SIM_P(node->name), op, (uint64_t)task->area.offset,
                 (uint64_t)task->area.bytes, (uint64_t)(int64_t)ret);
    }
}

static void failed(BlockCopyCallState *call, int ret, bool is_read)
{
    SIM_MARK(call->s->host->sim, copy_failed_redirty);
    if (call->ret == 0) {
        call->ret = ret;
        call->error_is_read = is_read;
    }
    co_sleep_wake(&call->rate_sleep); /* it is over, whatever is owed */
}

/* Still in flight, so that no guest writes there: afterwards it would be the guest's data. */
static void copied(block_copy_task *task)
{
    BlockCopyState *s = task->area.state;
    int64_t bytes = block_copy_clip(s, task->area.offset, task->area.bytes);

    task->area.is_copied = true;
    if (s->copied) {
        s->copied(s->copied_opaque, task->area.offset, bytes);
    }
    if (s->discard_source) {
        bdrv_co_pdiscard(s->source, task->area.offset, bytes); /* helpful, no more */
    }
}

void block_copy_task_run(block_copy_task *task)
{
    BlockCopyState *s = task->area.state;
    enum block_copy_method method = task->method;
    bool is_read = false;

    int64_t memory = take_memory(s, task->area.bytes);
    emit(task, true, 0);
    int ret = copy(task, &method, &is_read);
    learn(s, task->method, method);
    emit(task, false, ret);
    if (ret < 0) {
        failed(task->call, ret, is_read);
    } else {
        copied(task);
    }
    give_memory(s, memory);
    end_task(task, ret < 0, task->area.bytes);
}
