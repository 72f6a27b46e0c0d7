/* Tracked requests: who waits for whom (reference/block.md 2.5). */
#include "block/request.h"

void bdrv_tracked_request_begin(BdrvTrackedRequest *req, BlockDriverState *bs, int64_t offset, int64_t bytes,
                                enum BdrvTrackedRequestType type)
{
    SIM_ASSERT(offset >= 0 && bytes >= 0);
    /* Field by field: this runs for every request of every node; clearing the whole costs more than the rest. */
    req->bs = bs;
    req->offset = offset;
    req->bytes = bytes;
    req->type = type;
    req->via = NULL;
    req->serialising = false;
    req->overlap_offset = offset;
    req->overlap_bytes = bytes;
    req->co = coroutine_self(bs->host->sim);
    req->waiting_for = NULL;
    co_queue_init(bs->host->sim, &req->wait_queue);
    LIST_INSERT_HEAD(&bs->tracked_requests, req, list);
    bdrv_inc_in_flight(bs);
}

void bdrv_tracked_request_end(BdrvTrackedRequest *req)
{
    SIM_ASSERT(req->waiting_for == NULL);
    if (req->serialising) {
        SIM_ASSERT(req->bs->serialising_in_flight > 0);
        req->bs->serialising_in_flight--;
    }
    LIST_REMOVE(req, list);
    co_queue_restart_all(&req->wait_queue);
    bdrv_dec_in_flight(req->bs);
}

void bdrv_mark_request_serialising(BdrvTrackedRequest *req, int64_t align)
{
    SIM_ASSERT(is_power_of_2((uint64_t)align));
    int64_t start = MIN(ROUND_DOWN(req->offset, align), req->overlap_offset);
    int64_t end = MAX(ROUND_UP(req->offset + req->bytes, align), req->overlap_offset + req->overlap_bytes);
    if (!req->serialising) {
        req->bs->serialising_in_flight++;
        req->serialising = true;
    }
    req->overlap_offset = start;
    req->overlap_bytes = end - start;
}

const struct sim_origin *bdrv_request_from_outside(const BlockDriverState *bs)
{
    const BdrvTrackedRequest *req;
    LIST_FOREACH(req, &bs->tracked_requests, list)
    {
        const struct sim_origin *origin = coroutine_origin(req->co);
        if (origin->kind == SIM_ORIGIN_GUEST || origin->kind == SIM_ORIGIN_JOB) {
            return origin;
        }
    }
    return NULL;
}

/* Newest first; a request that waits itself is never waited for, or two could wait for each other. */
static BdrvTrackedRequest *find_conflict(const BdrvTrackedRequest *self)
{
    BdrvTrackedRequest *req;
    LIST_FOREACH(req, &self->bs->tracked_requests, list)
    {
        if (req == self || (!req->serialising && !self->serialising) ||
            !ranges_overlap(req->overlap_offset, req->overlap_bytes, self->overlap_offset, self->overlap_bytes)) {
            continue;
        }
        SIM_ASSERT(req->co != self->co);
        if (req->waiting_for == NULL) {
            return req;
        }
        SIM_MARK(self->bs->host->sim, req_skip_waiter);
    }
    return NULL;
}

bool bdrv_request_conflicts(const BdrvTrackedRequest *req)
{
    return find_conflict(req) != NULL;
}

void bdrv_wait_conflicts(BdrvTrackedRequest *req)
{
    BdrvTrackedRequest *other;
    while ((other = find_conflict(req)) != NULL) {
        SIM_MARK(req->bs->host->sim, req_serialise_wait);
        /* Stays set until this coroutine runs again, though the other one is gone by then: until it has scanned
         * anew, nobody may wait for it. */
        req->waiting_for = other;
        co_queue_wait(&other->wait_queue);
        req->waiting_for = NULL;
    }
}
