/*
 * Drain (3): a node without requests in flight and none arriving from outside.
 *
 * Only parents stop. A node's counter is its own sections plus one for each edge to a drained child; the first
 * section quiesces the parents, recursively upward, the last one lets them go.
 */
#include "block/block_int.h"

/* --- counting requests ----------------------------------------------------------------------------------- */

void bdrv_inc_in_flight(BlockDriverState *bs)
{
    bs->in_flight++;
}

void bdrv_dec_in_flight(BlockDriverState *bs)
{
    SIM_ASSERT(bs->in_flight > 0);
    if (--bs->in_flight == 0) {
        host_kick(bs->host);
    }
}

/* --- one edge, one node ---------------------------------------------------------------------------------- */

void bdrv_parent_drained_begin_single(BdrvChild *child)
{
    SIM_ASSERT(!child->quiesced_parent);
    child->quiesced_parent = true;
    if (child->klass->drained_begin) {
        child->klass->drained_begin(child);
    }
}

void bdrv_parent_drained_end_single(BdrvChild *child)
{
    SIM_ASSERT(child->quiesced_parent);
    child->quiesced_parent = false;
    if (child->klass->drained_end) {
        child->klass->drained_end(child);
    }
}

static void emit_drain(BlockDriverState *bs, bool begin)
{
    struct host *host = bs->host;

    if (begin) {
        SIM_EMIT(host->sim, host, drain_begin, bs, SIM_P(bs->name), bs->quiesce_counter);
    } else {
        SIM_EMIT(host->sim, host, drain_end, bs, SIM_P(bs->name), bs->quiesce_counter);
    }
}

/* From here to the end of the section it belongs to whoever drained it. */
static void emit_quiet(BlockDriverState *bs)
{
    SIM_EMIT(bs->host->sim, bs->host, drain_quiet, bs, SIM_P(bs->name));
}

void bdrv_do_drained_begin_quiesce(BlockDriverState *bs)
{
    BdrvChild *edge;

    if (bs->quiesce_counter++ > 0) {
        return;
    }
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        bdrv_parent_drained_begin_single(edge);
    }
    if (bs->drv && bs->drv->bdrv_drain_begin) {
        bs->drv->bdrv_drain_begin(bs);
    }
    emit_drain(bs, true);
}

void bdrv_do_drained_end(BlockDriverState *bs)
{
    BdrvChild *edge;

    SIM_ASSERT(bs->quiesce_counter > 0);
    if (--bs->quiesce_counter > 0) {
        return;
    }
    emit_drain(bs, false);
    if (bs->drv && bs->drv->bdrv_drain_end) {
        bs->drv->bdrv_drain_end(bs);
    }
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        bdrv_parent_drained_end_single(edge);
    }
}

bool bdrv_drain_poll(BlockDriverState *bs)
{
    BdrvChild *edge;

    if (bs->in_flight > 0) {
        return true;
    }
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass->drained_poll && edge->klass->drained_poll(edge)) {
            return true;
        }
    }
    return false;
}

/* --- sections -------------------------------------------------------------------------------------------- */

static bool node_idle(void *opaque)
{
    return !bdrv_drain_poll(opaque);
}

static void drained_begin_main(void *opaque)
{
    BlockDriverState *bs = opaque;

    bdrv_do_drained_begin_quiesce(bs);
    if (bdrv_drain_poll(bs)) {
        SIM_MARK(bs->host->sim, drain_waited);
        host_poll(bs->host, node_idle, bs);
    }
    emit_quiet(bs);
}

void bdrv_drained_begin(BlockDriverState *bs)
{
    /* A coroutine that drained by itself could be what the drain waits for; so the main coroutine does it. */
    host_call_main(bs->host, drained_begin_main, bs);
}

void bdrv_drained_end(BlockDriverState *bs)
{
    bdrv_do_drained_end(bs);
}

/* --- all nodes ------------------------------------------------------------------------------------------- */

static bool all_idle(void *opaque)
{
    struct BlockGraph *graph = ((struct host *)opaque)->graph;
    BlockDriverState *bs;

    TAILQ_FOREACH(bs, &graph->nodes, node_list)
    {
        if (bdrv_drain_poll(bs)) {
            return false;
        }
    }
    return true;
}

static void drain_all_begin_main(void *opaque)
{
    struct host *host = opaque;
    BlockDriverState *bs;

    /* Counted first: nodes that come into being while this waits must be quiesced, too [sharp edge 28]. */
    host->graph->drain_all_count++;
    TAILQ_FOREACH(bs, &host->graph->nodes, node_list)
    {
        bdrv_do_drained_begin_quiesce(bs);
    }
    if (!all_idle(host)) {
        SIM_MARK(host->sim, drain_waited);
        host_poll(host, all_idle, host);
    }
    SIM_ASSERT(all_idle(host));
    TAILQ_FOREACH(bs, &host->graph->nodes, node_list)
    {
        emit_quiet(bs);
    }
}

void bdrv_drain_all_begin(struct host *host)
{
    host_call_main(host, drain_all_begin_main, host);
}

void bdrv_drain_all_end(struct host *host)
{
    BlockDriverState *bs;

    SIM_ASSERT(host->graph->drain_all_count > 0);
    host->graph->drain_all_count--;
    TAILQ_FOREACH(bs, &host->graph->nodes, node_list)
    {
        bdrv_do_drained_end(bs);
    }
}

void bdrv_drain_all(struct host *host)
{
    bdrv_drain_all_begin(host);
    bdrv_drain_all_end(host);
}

/* --- I/O on behalf of the main coroutine ------------------------------------------------------------------ */

struct run_co {
    struct host *host;
    int (*fn)(void *opaque);
    void *opaque;
    int ret;
    bool done;
};

static void run_co_entry(void *opaque)
{
    struct run_co *run = opaque;

    run->ret = run->fn(run->opaque);
    run->done = true;
    host_kick(run->host);
}

static bool run_co_done(void *opaque)
{
    return ((struct run_co *)opaque)->done;
}

int bdrv_run_co(struct host *host, const char *what, int (*fn)(void *opaque), void *opaque)
{
    struct run_co run = {.host = host, .fn = fn, .opaque = opaque};

    if (!host_in_main(host)) {
        return fn(opaque);
    }
    coroutine_start(coroutine_create(host->sim, host, what, run_co_entry, &run));
    host_poll(host, run_co_done, &run);
    return run.ret;
}
