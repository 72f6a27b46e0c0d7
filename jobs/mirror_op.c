/* Operations of a mirror: one coroutine each; which areas are in flight, and who waits for them (reference/jobs.md
 * 4.4). */
#include <errno.h>

#include "jobs/mirror_int.h"

static const enum sim_op method_ops[MIRROR_METHOD_COUNT] = {
    [MIRROR_METHOD_COPY] = SIM_OP_WRITE,
    [MIRROR_METHOD_ZERO] = SIM_OP_WRITE_ZEROES,
    [MIRROR_METHOD_DISCARD] = SIM_OP_DISCARD,
};

void mirror_ops_init(MirrorJob *s)
{
    struct sim *sim = mirror_sim(s);

    SIM_ASSERT(s->length > 0 && s->in_flight_map == NULL);
    TAILQ_INIT(&s->ops);
    co_queue_init(sim, &s->op_done);
    co_queue_init(sim, &s->placeholder.waiters);
    s->placeholder.s = s;
    s->in_flight_map =
        hbitmap_alloc(s->common.job.host->arena, s->length, __builtin_ctzll((uint64_t)s->granularity));
}

int mirror_buffer_alloc(MirrorJob *s)
{
    SIM_ASSERT(s->buffer == NULL && s->buf_bytes % s->granularity == 0);
    s->buffer = bdrv_try_blockalign(s->source, s->buf_bytes);
    if (s->buffer == NULL) {
        return -ENOMEM;
    }
    s->buf_free = s->buf_bytes / s->granularity;
    return 0;
}

void mirror_ops_free(MirrorJob *s)
{
    if (s->in_flight_map == NULL) {
        return;
    }
    SIM_ASSERT_EQ(s->in_flight, 0);
    SIM_ASSERT_EQ(s->bytes_in_flight, 0);
    SIM_ASSERT(s->active_writes == 0 && s->active_bytes == 0);
    SIM_ASSERT(TAILQ_EMPTY(&s->ops) && hbitmap_empty(s->in_flight_map));
    if (s->buffer != NULL) {
        SIM_ASSERT_EQ(s->buf_free, s->buf_bytes / s->granularity);
        bdrv_vfree(s->buffer);
        s->buffer = NULL;
    }
    mirror_cow_free(s);
    hbitmap_free(s->in_flight_map);
    s->in_flight_map = NULL;
}

void mirror_update_remaining(MirrorJob *s)
{
    job_progress_set_remaining(&s->common.job,
                               bdrv_get_dirty_count(s->dirty_bitmap) + s->bytes_in_flight + s->active_bytes);
}

int64_t mirror_op_chunks(const MirrorJob *s, enum mirror_method method, int64_t bytes)
{
    return method == MIRROR_METHOD_COPY ? DIV_ROUND_UP(bytes, s->granularity) : 0;
}

/* --- errors --------------------------------------------------------------------------------------------- */

enum block_error_action mirror_error_action(MirrorJob *s, bool is_read, int ret)
{
    enum block_error_action action;

    SIM_ASSERT(ret < 0);
    s->actively_synced = false;
    action = block_job_error_action(&s->common, is_read ? s->on_source_error : s->on_target_error, is_read, -ret);
    if (action == BLOCK_ERROR_ACTION_REPORT && s->ret == 0) {
        s->ret = ret;
    }
    return action;
}

/* --- one operation -------------------------------------------------------------------------------------- */

/* Returns the code; *is_read tells which side failed. */
static int mirror_co_copy(const MirrorOp *op, bool *is_read)
{
    MirrorJob *s = op->s;
    struct payload data;
    int ret;

    payload_init(mirror_sim(s), &data);
    ret = bdrv_co_preadv(s->filter->backing, op->offset, op->bytes, &data, 0);
    *is_read = ret < 0;
    if (ret >= 0) {
        SIM_ASSERT_EQ(data.size_bytes, op->bytes);
        ret = blk_co_pwritev(s->target, op->offset, op->bytes, &data, 0);
    }
    payload_clear(&data);
    return ret;
}

static int mirror_co_zero(const MirrorOp *op, bool *is_read)
{
    MirrorJob *s = op->s;

    *is_read = false;
    return blk_co_pwrite_zeroes(s->target, op->offset, op->bytes, s->unmap ? BDRV_REQ_MAY_UNMAP : 0);
}

static int mirror_co_discard(const MirrorOp *op, bool *is_read)
{
    *is_read = false;
    return blk_co_pdiscard(op->s->target, op->offset, op->bytes);
}

static int (*const method_fns[MIRROR_METHOD_COUNT])(const MirrorOp *op, bool *is_read) = {
    [MIRROR_METHOD_COPY] = mirror_co_copy,
    [MIRROR_METHOD_ZERO] = mirror_co_zero,
    [MIRROR_METHOD_DISCARD] = mirror_co_discard,
};

static void mirror_op_emit(const MirrorOp *op, bool begin, int ret)
{
    Job *job = &op->s->common.job;

    if (job_is_internal(job)) {
        return;
    }
    if (begin) {
        SIM_EMIT(job->host->sim, job->host, mirror_op_begin, job, SIM_P(job->id), method_ops[op->method],
                 (uint64_t)op->offset, (uint64_t)op->bytes);
    } else {
        SIM_EMIT(job->host->sim, job->host, mirror_op_end, job, SIM_P(job->id), method_ops[op->method],
                 (uint64_t)op->offset, (uint64_t)op->bytes, (uint64_t)(int64_t)ret);
    }
}

/* The order matters: a failed area is dirty again before the policy runs and before anybody can see it free. */
static void mirror_op_end(MirrorOp *op, int ret, bool is_read)
{
    MirrorJob *s = op->s;
    struct host *host = s->common.job.host;

    mirror_op_emit(op, false, ret);
    if (ret < 0) {
        SIM_MARK(host->sim, mirror_failed_redirty);
        bdrv_set_dirty_bitmap(s->dirty_bitmap, op->offset, op->bytes);
        mirror_error_action(s, is_read, ret);
    } else {
        mirror_cow_mark(s, op->offset, op->bytes);
        job_progress_update(&s->common.job, s->initial_zeroing ? 0 : op->bytes);
    }
    SIM_ASSERT(s->in_flight > 0 && s->bytes_in_flight >= op->bytes);
    s->in_flight--;
    s->bytes_in_flight -= op->bytes;
    s->buf_free += op->chunks;
    hbitmap_reset(s->in_flight_map, op->offset, op->bytes);
    TAILQ_REMOVE(&s->ops, op, next);
    co_queue_restart_all(&op->waiters);
    co_queue_restart_all(&s->op_done);
    SIM_FREE(host->arena, MirrorOp, op);
    if (s->in_flight == 0) {
        host_kick(host);
    }
}

static void mirror_co_op(void *opaque)
{
    MirrorOp *op = opaque;
    bool is_read = false;
    int ret = method_fns[op->method](op, &is_read);

    mirror_op_end(op, MIN(ret, 0), is_read);
}

void mirror_op_start(MirrorJob *s, enum mirror_method method, int64_t offset, int64_t bytes)
{
    struct host *host = s->common.job.host;
    MirrorOp *op = SIM_NEW(host->arena, MirrorOp);
    Coroutine *co;

    SIM_ASSERT(bytes > 0 && offset + bytes <= s->length);
    SIM_ASSERT(offset % s->granularity == 0 && (bytes % s->granularity == 0 || offset + bytes == s->length));
    SIM_ASSERT(s->in_flight < MIRROR_MAX_IN_FLIGHT);
    op->s = s;
    op->method = method;
    op->offset = offset;
    op->bytes = bytes;
    op->chunks = mirror_op_chunks(s, method, bytes);
    SIM_ASSERT_LE(op->chunks, s->buf_free);
    co_queue_init(host->sim, &op->waiters);
    s->in_flight++;
    s->bytes_in_flight += bytes;
    s->buf_free -= op->chunks;
    hbitmap_set(s->in_flight_map, offset, bytes);
    TAILQ_INSERT_TAIL(&s->ops, op, next);
    mirror_op_emit(op, true, 0);
    co = coroutine_create(host->sim, host, "mirror operation", mirror_co_op, op);
    coroutine_set_origin(co, (struct sim_origin){
                                 .kind = SIM_ORIGIN_JOB,
                                 .name = s->common.job.id,
                                 .number = sim_mix2((uint64_t)method_ops[method], (uint64_t)offset),
                             });
    coroutine_start(co);
}

/* --- waiting -------------------------------------------------------------------------------------------- */

void mirror_wait_for_slot(MirrorJob *s)
{
    SIM_ASSERT(s->in_flight > 0);
    co_queue_wait(&s->op_done);
}

void mirror_wait_for_all(MirrorJob *s)
{
    while (s->in_flight > 0) {
        mirror_wait_for_slot(s);
    }
}

static MirrorOp *mirror_find_conflict(MirrorJob *s, int64_t offset, int64_t bytes)
{
    MirrorOp *op;

    if (hbitmap_next_dirty(s->in_flight_map, offset, bytes) < 0) {
        return NULL;
    }
    TAILQ_FOREACH(op, &s->ops, next)
    {
        if (ranges_overlap(op->offset, op->bytes, offset, bytes)) {
            return op;
        }
    }
    return NULL;
}

void mirror_wait_on_conflicts(MirrorJob *s, int64_t offset, int64_t bytes)
{
    MirrorOp *op;

    while ((op = mirror_find_conflict(s, offset, bytes)) != NULL) {
        SIM_MARK(mirror_sim(s), mirror_wait_overlap);
        co_queue_wait(&op->waiters);
    }
}

void mirror_wait_on_others(MirrorJob *s, int64_t offset, int64_t bytes)
{
    MirrorOp *op;

    do {
        TAILQ_FOREACH(op, &s->ops, next)
        {
            if (op != &s->placeholder && ranges_overlap(op->offset, op->bytes, offset, bytes)) {
                SIM_MARK(mirror_sim(s), mirror_wait_overlap);
                co_queue_wait(&op->waiters);
                break;
            }
        }
    } while (op != NULL);
}

/* --- guests' writes -------------------------------------------------------------------------------------- */

/* Those that wait for their chunks are in nobody's way: only what is taken counts, so no two wait for each other.
 */
void mirror_active_begin(MirrorOp *op)
{
    MirrorJob *s = op->s;

    SIM_ASSERT(op->active && op->bytes > 0 && op->offset + op->bytes <= s->length);
    s->active_writes++;
    co_queue_init(mirror_sim(s), &op->waiters);
    mirror_wait_on_conflicts(s, op->offset, op->bytes);
    hbitmap_set(s->in_flight_map, op->offset, op->bytes);
    TAILQ_INSERT_TAIL(&s->ops, op, next);
}

void mirror_active_end(MirrorOp *op)
{
    MirrorJob *s = op->s;

    SIM_ASSERT(op->active && s->active_writes > 0);
    s->active_writes--;
    hbitmap_reset(s->in_flight_map, op->offset, op->bytes);
    TAILQ_REMOVE(&s->ops, op, next);
    co_queue_restart_all(&op->waiters);
}

void mirror_disturb(MirrorJob *s, int64_t offset, int64_t bytes)
{
    MirrorOp *op;

    if (s->active_writes == 0) {
        return;
    }
    TAILQ_FOREACH(op, &s->ops, next)
    {
        if (op->active && ranges_overlap(op->offset, op->bytes, offset, bytes)) {
            SIM_MARK(mirror_sim(s), mirror_active_disturbed);
            op->disturbed = true;
        }
    }
}

/* --- the placeholder ------------------------------------------------------------------------------------ */

void mirror_placeholder_begin(MirrorJob *s, int64_t offset, int64_t bytes)
{
    SIM_ASSERT_EQ(s->placeholder.bytes, 0);
    SIM_ASSERT(bytes > 0 && hbitmap_next_dirty(s->in_flight_map, offset, bytes) < 0);
    s->placeholder.offset = offset;
    s->placeholder.bytes = bytes;
    hbitmap_set(s->in_flight_map, offset, bytes);
    TAILQ_INSERT_TAIL(&s->ops, &s->placeholder, next);
}

void mirror_placeholder_end(MirrorJob *s, int64_t offset)
{
    int64_t end = s->placeholder.offset + s->placeholder.bytes;

    SIM_ASSERT(s->placeholder.bytes > 0);
    SIM_ASSERT(offset >= s->placeholder.offset && offset <= end);
    if (offset < end) {
        bdrv_set_dirty_bitmap(s->dirty_bitmap, offset, end - offset);
        hbitmap_reset(s->in_flight_map, offset, end - offset);
    }
    TAILQ_REMOVE(&s->ops, &s->placeholder, next);
    s->placeholder.bytes = 0;
    co_queue_restart_all(&s->placeholder.waiters);
}
