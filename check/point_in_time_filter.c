/*
 * target-point-in-time: filters that keep the past (reference/jobs.md 5.5, 5.6). What a reader would get of it,
 * from wherever it is kept, is what the source held when the filter came; what a guest gets through a
 * snapshot-access node is just that.
 */
#include "check/point_in_time.h"

#include <string.h>

#define SLICE_BYTES MiB

struct pit_filter *pit_filter_of(struct point_in_time *state, const struct host *host, const struct sim_name *node)
{
    struct pit_filter *f = state->filters;

    while (f && !(f->host == host && f->node == node)) {
        f = f->next;
    }
    return f;
}

/* Takes over one user of the instant. */
void pit_filter_add(struct point_in_time *state, BlockDriverState *filter, struct instant *instant)
{
    const BlockDriverState *source = bdrv_filter_bs(filter), *target = bdrv_cbw_target(filter);
    struct check_below above, below;
    struct pit_filter *f;

    if (!instant || !source || !target || pit_filter_of(state, bdrv_host(filter), bdrv_node_sim_name(filter))) {
        instant_drop(instant);
        return;
    }
    above = check_below(source);
    below = check_below(target);
    f = (struct pit_filter *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*f));
    *f = (struct pit_filter){.host = bdrv_host(filter),
                             .node = bdrv_node_sim_name(filter),
                             .source = bdrv_node_sim_name(source),
                             .target = bdrv_node_sim_name(target),
                             .instant = instant,
                             .lost = above.weak || above.forgets || below.weak || below.forgets,
                             .next = state->filters};
    state->filters = f;
}

static void filter_remove(struct point_in_time *state, struct pit_filter **link)
{
    struct pit_filter *f = *link;

    *link = f->next;
    instant_drop(f->instant);
    sim_free(state->check->arena, SIM_TYPE_check_state, f, sizeof(*f));
}

/* --- looking ----------------------------------------------------------------------------------------------- */

/* The first byte of the past that is another, or -1. */
static int64_t past_differs(const struct pit_filter *f, const BlockDriverState *filter)
{
    int64_t end = MIN(f->instant->length, bdrv_getlength_cached(filter));
    int64_t found = -1;

    for (int64_t at = 0, n; at < end && found < 0; at += n) {
        bool data = bdrv_cbw_peek_status(filter, at, end - at, &n);
        struct payload seen;

        if (!data && instant_is_hole(f->instant, at, n)) {
            continue;
        }
        n = MIN(n, SLICE_BYTES);
        payload_init(f->instant->sim, &seen);
        if (bdrv_cbw_peek(filter, at, n, &seen) >= 0) {
            found = instant_difference_data(f->instant, at, &seen);
        }
        payload_clear(&seen);
    }
    return found;
}

void pit_filter_look(struct point_in_time *state, struct pit_filter *f, const char *phase)
{
    BlockDriverState *filter = pit_node(f->host, f->node);
    const BlockDriverState *source = filter ? bdrv_filter_bs(filter) : NULL;
    char text[PIT_TEXT];
    int64_t found;

    if (f->lost || !source || !bdrv_is_cbw(filter) || bdrv_cbw_snapshot_broken(filter)) {
        return;
    }
    f->lost = pit_is_beside(source) || pit_is_beside(bdrv_cbw_target(filter));
    found = f->lost ? -1 : past_differs(f, filter);
    if (found >= 0) {
        pit_violate(state, f->host, NULL, "past-differs", phase, f->node, "peek",
                    pit_describe(state, f->instant, NULL, found, text));
    }
}

/* --- readers ----------------------------------------------------------------------------------------------- */

static void on_complete(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;
    const struct guest_req *req = record->ref;
    BlockDriverState *bs = state->filters && req->op == SIM_OP_READ && req->ret >= 0 && !req->ignored
                               ? blk_bs(guest_blk(req->guest))
                               : NULL;
    const struct pit_filter *f;
    char text[PIT_TEXT];
    int64_t found;

    while (bs && strcmp(bdrv_driver_name(bs), "snapshot-access") != 0) {
        bs = bdrv_filter_bs(bs);
    }
    bs = bs ? bdrv_primary_bs(bs) : NULL;
    f = bs ? pit_filter_of(state, bdrv_host(bs), bdrv_node_sim_name(bs)) : NULL;
    found = f && !f->lost ? instant_difference_data(f->instant, req->offset, &req->data) : -1;
    if (found >= 0) {
        pit_violate(state, f->host, NULL, "past-differs", "read", f->node, "read",
                    pit_describe(state, f->instant, NULL, found, text));
    }
}

/* --- coming and going --------------------------------------------------------------------------------------- */

static void on_open(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;

    state->filter_came |= strcmp(sim_record_str(record, 1), "copy-before-write") == 0;
}

/* One that a client added, before anybody could write through it. */
static void on_reply(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;
    const struct qmp_call *call = record->ref;
    bool added = state->filter_came && !call->err && strcmp(call->command->name, "blockdev-add") == 0;

    state->filter_came = false;
    for (BlockDriverState *bs = added ? bdrv_next_node(call->host, NULL) : NULL; bs;
         bs = bdrv_next_node(call->host, bs)) {
        if (bdrv_is_cbw(bs) && bdrv_filter_bs(bs) && !pit_filter_of(state, call->host, bdrv_node_sim_name(bs))) {
            pit_filter_add(state, bs, instant_take(state->check, bdrv_filter_bs(bs), 0));
        }
    }
}

static void on_close(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;

    for (struct pit_filter **link = &state->filters; *link; link = &(*link)->next) {
        if ((*link)->host->number == record->host && (*link)->node == sim_record_name(record, 0)) {
            filter_remove(state, link);
            return;
        }
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct point_in_time *state = opaque;

    for (struct pit_filter **link = &state->filters; *link;) {
        if ((*link)->host == record->ref) {
            filter_remove(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

void pit_filter_attach(struct point_in_time *state)
{
    static const struct check_subscription subscriptions[] = {
        {EV_guest_complete, on_complete}, {EV_node_open, on_open},   {EV_qmp_reply, on_reply},
        {EV_node_close, on_close},        {EV_host_crash, on_crash},
    };

    check_subscribe(state->check->sim, subscriptions, ARRAY_SIZE(subscriptions), state);
}
