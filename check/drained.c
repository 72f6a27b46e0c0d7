/*
 * drained: between the moment when a drain has found its node quiet and the end of the section no request of a
 * guest or of a job is inside the node (reference/block.md 3). Whoever drained it may use it himself.
 *
 * Only parents stop, so a child of a drained node may be written through another parent: what counts is who is
 * inside the node itself. That is looked at whenever a request reaches a medium.
 */
#include "check/checkers.h"

struct quiet {
    const BlockDriverState *bs;
    struct quiet *next;
};

struct drained {
    struct check *check;
    struct quiet *nodes;
};

static struct quiet **find(struct drained *state, const BlockDriverState *bs)
{
    struct quiet **link = &state->nodes;

    while (*link && (*link)->bs != bs) {
        link = &(*link)->next;
    }
    return link;
}

static void on_quiet(void *opaque, const struct sim_record *record)
{
    struct drained *state = opaque;
    struct quiet **link = find(state, record->ref);

    if (!*link) {
        *link = (struct quiet *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(**link));
        (*link)->bs = record->ref;
    }
}

static void forget(struct drained *state, struct quiet **link)
{
    struct quiet *q = *link;

    *link = q->next;
    sim_free(state->check->arena, SIM_TYPE_check_state, q, sizeof(*q));
}

/* The last section of a node has ended, or the node goes. */
static void on_end(void *opaque, const struct sim_record *record)
{
    struct drained *state = opaque;
    struct quiet **link = find(state, record->ref);

    if (*link) {
        forget(state, link);
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct drained *state = opaque;

    for (struct quiet **link = &state->nodes; *link;) {
        if (bdrv_host((*link)->bs) == record->ref) {
            forget(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

static void on_request(void *opaque, const struct sim_record *record)
{
    struct drained *state = opaque;

    for (const struct quiet *q = state->nodes; q; q = q->next) {
        const struct sim_origin *origin = bdrv_request_from_outside(q->bs);

        if (origin) {
            struct violation_where where = {
                .host = check_host_name(bdrv_host(q->bs)),
                .node = bdrv_get_node_name(q->bs),
                .driver = bdrv_driver_name(q->bs),
                .op = sim_origin_kind_name(origin->kind),
            };
            check_violate(
                state->check->set, "drained", "request", &where,
                "node %s is drained (counter %u): expected no requests but those of whoever drained it, there "
                "is one of %s %s",
                bdrv_get_node_name(q->bs), bdrv_quiesce_counter(q->bs), sim_origin_kind_name(origin->kind),
                origin->name ? origin->name->str : "-");
        }
    }
}

static void *attach(struct check *check)
{
    static const struct check_subscription table[] = {
        {EV_drain_quiet, on_quiet}, {EV_drain_end, on_end},       {EV_node_close, on_end},
        {EV_host_crash, on_crash},  {EV_disk_submit, on_request},
    };
    struct drained *state = (struct drained *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));

    state->check = check;
    check_subscribe(check->sim, table, ARRAY_SIZE(table), state);
    return state;
}

const struct check_class check_drained = {
    .name = "drained",
    .doc = "a drained node has no requests of guests or jobs until the section ends",
    .rules = "request: a request of a guest or a job is inside a node that a drain had found quiet\n",
    .attach = attach,
};
