/*
 * Single guest requests in qemu-io's words: io GUEST read|write|discard|flush|truncate|map|alloc, aio_* not
 * waiting.
 */
#include "scenario/runner_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct aio_request {
    struct guest_req req;
    struct runner *runner;
    const struct scn_step *step;
    Coroutine *waiter; /* the runner, when the step waits */
    bool finished;
    LIST_ENTRY(aio_request) list;
};

void runner_stamp(struct runner *runner, struct payload *data, int64_t offset, int64_t bytes)
{
    uint64_t id = runner->next_write_id++;

    SIM_ASSERT_EQ(offset % SIM_SECTOR_BYTES, 0);
    SIM_ASSERT_EQ(bytes % SIM_SECTOR_BYTES, 0);
    payload_append_tags(data, id << 32 | ((uint64_t)(offset / SIM_SECTOR_BYTES) & UINT32_MAX),
                        bytes / SIM_SECTOR_BYTES);
}

static void free_aio(struct aio_request *aio)
{
    LIST_REMOVE(aio, list);
    guest_req_clear(&aio->req);
    sim_free(sim_check_arena(aio->runner->sim), SIM_TYPE_runner_obj, aio, sizeof(*aio));
}

/* read -P BYTE: the data must be that byte throughout. */
static void verify_pattern(struct runner *runner, const struct scn_step *step, const struct guest_req *req)
{
    struct payload want;
    int64_t at;

    payload_init(runner->sim, &want);
    payload_append_fill(&want, (uint8_t)step_int(step, "-P", 0), req->bytes);
    at = payload_first_difference(&want, &req->data, req->bytes);
    if (at >= 0) {
        uint8_t byte;

        payload_read_bytes(&req->data, at, &byte, 1);
        runner_expect_failed(runner, step, "pattern", "byte %lld is 0x%02x, expected 0x%02x",
                             (long long)(req->offset + at), byte, (unsigned)step_int(step, "-P", 0));
    }
    payload_clear(&want);
}

static void judge_data(const struct aio_request *aio)
{
    const struct guest_req *req = &aio->req;

    if (req->ret >= 0 && req->op == SIM_OP_READ && step_has(aio->step, "-P") && !aio->step->try_) {
        verify_pattern(aio->runner, aio->step, req);
    }
}

static void aio_done(struct guest_req *req)
{
    struct aio_request *aio = req->opaque;

    aio->finished = true;
    runner_stream_ended(aio->runner);
    if (aio->waiter) {
        coroutine_wake(aio->waiter);
    } else {
        judge_data(aio);
        free_aio(aio);
    }
}

/* "io aio_write" and "io write" are the same request; the former is not waited for. */
static bool is_aio(const struct scn_step *step, const char **op)
{
    const char *word = strchr(step->verb->name, ' ');

    SIM_ASSERT(word);
    word++;
    if (strncmp(word, "aio_", 4) == 0) {
        *op = word + 4;
        return true;
    }
    *op = word;
    return false;
}

static bool stampable(const struct guest_req *req)
{
    return req->offset % SIM_SECTOR_BYTES == 0 && req->bytes % SIM_SECTOR_BYTES == 0;
}

static void fill_request(struct runner *runner, const struct scn_step *step, const char *op, struct guest_req *req)
{
    req->offset = step_int(step, "offset", 0);
    req->bytes = step_int(step, "length", 0);
    req->entity = runner_step_entity(runner, step);
    if (step_bool(step, "-f", false)) {
        req->flags |= BDRV_REQ_FUA;
    }
    if (step_bool(step, "-u", false)) {
        req->flags |= BDRV_REQ_MAY_UNMAP;
    }
    if (step_bool(step, "-n", false)) {
        req->flags |= BDRV_REQ_NO_FALLBACK;
    }
    if (step_bool(step, "-c", false)) {
        req->flags |= BDRV_REQ_WRITE_COMPRESSED;
    }
    SIM_ASSERT(sim_op_parse(op, &req->op));
    if (req->op != SIM_OP_WRITE) {
        return;
    }
    if (step_bool(step, "-z", false)) {
        req->op = SIM_OP_WRITE_ZEROES;
    } else if (step_has(step, "-P") || !stampable(req)) {
        payload_append_fill(&req->data, (uint8_t)step_int(step, "-P", 0xcd), req->bytes);
    } else {
        runner_stamp(runner, &req->data, req->offset, req->bytes);
    }
}

static void io_request(struct runner *runner, const struct scn_step *step, struct guest *guest, const char *op,
                       bool wait)
{
    struct aio_request *aio = sim_alloc(sim_check_arena(runner->sim), SIM_TYPE_runner_obj, sizeof(*aio));

    aio->runner = runner;
    aio->step = step;
    guest_req_init(runner->host, &aio->req);
    aio->req.done = aio_done;
    aio->req.opaque = aio;
    fill_request(runner, step, op, &aio->req);
    LIST_INSERT_HEAD(&runner->aios, aio, list);
    runner->outstanding++;
    if (wait) {
        aio->waiter = runner->co;
    }
    guest_submit(guest, &aio->req);
    if (!wait) {
        return;
    }
    while (!aio->finished && !runner->give_up) {
        coroutine_yield(runner->sim);
    }
    aio->waiter = NULL;
    if (!aio->finished) {
        return; /* goes on as an aio request */
    }
    if (aio->req.ret < 0 && !step->try_) {
        runner_expect_failed(runner, step, "io", "the request failed: %s", sim_errno_text(aio->req.ret));
    } else {
        judge_data(aio);
    }
    free_aio(aio);
}

/* --- map, alloc, truncate: questions to the block layer, not guest requests -------------------------------- */

struct io_question {
    struct runner *runner;
    const struct scn_step *step;
    struct guest *guest;
    int ret;
    Error *err;
};

static void truncate_co(void *opaque)
{
    struct io_question *q = opaque;

    BlockDriverState *bs = blk_bs(guest_blk(q->guest));
    int64_t bytes = step_int(q->step, "length", 0);

    /* The guest itself may not resize its disk, so this is what block_resize does. */
    if (!bs) {
        q->ret = -ENOMEDIUM;
        return;
    }
    bdrv_ref(bs);
    if (!qmp_block_resize_node(bs, bytes, &q->err)) {
        q->ret = -EIO;
    }
    SIM_EMIT(q->runner->sim, q->runner->host, io_truncate, bs, SIM_P(bdrv_node_sim_name(bs)), (uint64_t)bytes,
             (uint64_t)(int64_t)q->ret);
    bdrv_unref(bs);
}

static void status_co(void *opaque)
{
    struct io_question *q = opaque;
    struct runner *runner = q->runner;
    BlockDriverState *bs = blk_bs(guest_blk(q->guest));
    int64_t at = step_int(q->step, "offset", 0);
    int64_t end = bs ? bdrv_getlength_cached(bs) : 0;

    if (step_has(q->step, "length")) {
        end = MIN(end, at + step_int(q->step, "length", 0));
    }
    while (at < end && q->ret >= 0) {
        int64_t pnum = 0;

        q->ret = bdrv_co_block_status_above(bs, NULL, at, end - at, &pnum, NULL, NULL);
        if (q->ret < 0 || pnum <= 0) {
            return;
        }
        SIM_EMIT(runner->sim, runner->host, io_map, q->step, (uint64_t)at, (uint64_t)pnum,
                 SIM_P(q->ret & BDRV_BLOCK_ZERO   ? "zero"
                       : q->ret & BDRV_BLOCK_DATA ? "data"
                                                  : "none"));
        at += pnum;
    }
}

static void io_question(struct runner *runner, const struct scn_step *step, struct guest *guest, host_fn *fn)
{
    struct io_question q = {.runner = runner, .step = step, .guest = guest};

    runner_in_host(runner, "io", fn, &q);
    if (q.ret < 0 && !step->try_) {
        runner_expect_failed(runner, step, "io", "it failed: %s",
                             q.err ? error_get_pretty(q.err) : sim_errno_text(q.ret));
    }
    error_free(q.err);
}

void scn_run_io(struct runner *runner, const struct scn_step *step)
{
    struct guest *guest = runner_guest(runner, step);
    const char *op;
    bool aio = is_aio(step, &op);

    if (!guest) {
        return;
    }
    if (strcmp(op, "truncate") == 0) {
        io_question(runner, step, guest, truncate_co);
    } else if (strcmp(op, "map") == 0 || strcmp(op, "alloc") == 0) {
        io_question(runner, step, guest, status_co);
    } else {
        io_request(runner, step, guest, op, !aio);
    }
}

/* --- the streams as a whole ------------------------------------------------------------------------------ */

void runner_stream_ended(struct runner *runner)
{
    SIM_ASSERT_LT(0, runner->outstanding);
    runner->outstanding--;
    if (runner->waits_outstanding) {
        coroutine_wake(runner->co);
    }
}

void runner_wait_guest(struct runner *runner, struct guest *guest)
{
    runner->waits_outstanding = true;
    while (!runner->give_up && (runner_guest_has_aio(runner, guest) || runner_guest_has_workload(runner, guest))) {
        coroutine_yield(runner->sim);
    }
    runner->waits_outstanding = false;
}

bool runner_guest_has_aio(struct runner *runner, const struct guest *guest)
{
    struct aio_request *aio;

    LIST_FOREACH(aio, &runner->aios, list)
    {
        if (!aio->finished && aio->req.guest == guest) {
            return true;
        }
    }
    return false;
}

void runner_forget_aios(struct runner *runner)
{
    struct aio_request *aio;

    while ((aio = LIST_FIRST(&runner->aios))) {
        if (!aio->finished) {
            runner->outstanding--;
        }
        free_aio(aio);
    }
}

void runner_forget_requests(struct runner *runner)
{
    runner_forget_aios(runner);
    runner_forget_workloads(runner);
}
