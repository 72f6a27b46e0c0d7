/* Events that come at most once a second (7.3): the first at once, then the last of each second. */
#include "block/block_int.h"

static void arm(struct bdrv_event_limit *limit)
{
    struct sim *sim = limit->host->sim;
    int64_t time_ns = sim_timer_queued(&limit->timer) ? limit->timer.time_ns : sim_now(sim) + NS_PER_S;

    sim_timer_disarm(sim, &limit->timer);
    /* An event that waits is work: settling brings it out. An empty second is not. */
    limit->timer.idle = !limit->pending;
    limit->timer.host = limit->host->number;
    sim_timer_arm(sim, &limit->timer, time_ns, limit->entity);
}

static void second_over(void *opaque)
{
    struct bdrv_event_limit *limit = opaque;

    if (limit->pending) {
        limit->pending = false;
        limit->emit(limit);
        arm(limit);
    }
}

void bdrv_event_limit_init(struct bdrv_event_limit *limit, struct host *host, uint64_t entity,
                           void (*emit)(const struct bdrv_event_limit *limit))
{
    limit->host = host;
    limit->entity = entity;
    limit->emit = emit;
    sim_timer_init(&limit->timer, second_over, limit);
}

void bdrv_event_limit_send(struct bdrv_event_limit *limit)
{
    if (!sim_timer_queued(&limit->timer)) {
        limit->emit(limit);
        arm(limit);
        return;
    }
    SIM_MARK(limit->host->sim, event_coalesced);
    if (!limit->pending) {
        limit->pending = true;
        arm(limit);
    }
}

void bdrv_event_limit_end(struct bdrv_event_limit *limit)
{
    if (!limit->host) {
        return;
    }
    if (limit->pending) {
        limit->pending = false;
        limit->emit(limit);
    }
    sim_timer_disarm(limit->host->sim, &limit->timer);
}
