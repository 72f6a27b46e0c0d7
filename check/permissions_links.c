/* Links: frozen ones stay, and none changes while something could run through it (reference/block.md 1.7, 1.10, 3).
 */
#include <string.h>

#include "check/permissions.h"

struct frozen_link {
    uint32_t host; /* number */
    const struct sim_name *child;
    const struct sim_name *parent;
    const char *name; /* "file", "backing": static or the parent's, which lives as long */
    struct frozen_link *next;
};

/* --- frozen ----------------------------------------------------------------------------------------------- */

static struct frozen_link **find(struct permissions *state, uint32_t host, const struct sim_name *child,
                                 const char *name, const struct sim_name *parent)
{
    struct frozen_link **link = &state->frozen;

    while (*link && !((*link)->host == host && (*link)->child == child && (*link)->parent == parent &&
                      strcmp((*link)->name, name) == 0)) {
        link = &(*link)->next;
    }
    return link;
}

static void drop(struct permissions *state, struct frozen_link **link)
{
    struct frozen_link *frozen = *link;

    if (frozen) {
        *link = frozen->next;
        sim_free(state->check->arena, SIM_TYPE_check_state, frozen, sizeof(*frozen));
    }
}

static void on_freeze(void *opaque, const struct sim_record *record)
{
    struct permissions *state = opaque;
    const struct sim_name *child = sim_record_name(record, 0);
    const struct sim_name *parent = sim_record_name(record, 2);
    const char *name = sim_record_str(record, 1);

    drop(state, find(state, record->host, child, name, parent));
    if (record->field[3]) {
        struct frozen_link *frozen =
            (struct frozen_link *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*frozen));

        *frozen = (struct frozen_link){record->host, child, parent, name, state->frozen};
        state->frozen = frozen;
    }
}

static void must_not_be_frozen(struct permissions *state, const struct sim_record *record,
                               const BlockDriverState *bs, const struct sim_name *child, const char *name,
                               const struct sim_name *parent)
{
    struct frozen_link **link = find(state, record->host, child, name, parent);

    if (*link) {
        permissions_violate(state, bdrv_host(bs), bs, "frozen-link", name, "the frozen %s link of %s to %s %s",
                            name, parent->str, child->str,
                            record->kind == EV_edge_detach ? "was removed" : "points to another node");
        drop(state, link);
    }
}

static const BdrvChild *edge_of(const struct host *host, const struct frozen_link *frozen)
{
    BlockDriverState *parent = bdrv_find_node((struct host *)host, frozen->parent->str);
    BdrvChild *edge = parent ? bdrv_first_child(parent) : NULL;

    while (edge && !(strcmp(bdrv_child_name(edge), frozen->name) == 0 &&
                     bdrv_node_sim_name(bdrv_child_bs(edge)) == frozen->child)) {
        edge = bdrv_next_child(edge);
    }
    return edge;
}

void permissions_links_look(struct permissions *state)
{
    for (struct frozen_link **link = &state->frozen; *link;) {
        struct host *host = check_host(state->check->sim, (*link)->host);
        const BdrvChild *edge = host && host->graph ? edge_of(host, *link) : NULL;

        if (edge && bdrv_child_frozen(edge)) {
            link = &(*link)->next;
            continue;
        }
        if (edge) {
            permissions_violate(state, host, bdrv_child_bs(edge), "frozen-link", (*link)->name,
                                "nobody has thawed the %s link of %s, and it is frozen no more", (*link)->name,
                                (*link)->parent->str);
        }
        drop(state, link);
    }
}

/* --- drained ---------------------------------------------------------------------------------------------- */

static bool is_drained(const BlockDriverState *bs)
{
    return bdrv_quiesce_counter(bs) > 0 && bdrv_in_flight(bs) == 0;
}

static void must_be_drained(struct permissions *state, const BlockDriverState *bs, const char *op)
{
    if (!is_drained(bs)) {
        permissions_violate(state, bdrv_host(bs), bs, "not-drained", op,
                            "a link to it changed while it was drained %u times and had %u requests in flight",
                            bdrv_quiesce_counter(bs), bdrv_in_flight(bs));
    }
}

static void on_replace(void *opaque, const struct sim_record *record)
{
    struct permissions *state = opaque;
    const BlockDriverState *to = record->ref;
    const struct sim_name *from_name = sim_record_name(record, 0);
    const BlockDriverState *from = bdrv_find_node(bdrv_host(to), from_name->str);

    must_not_be_frozen(state, record, to, from_name, sim_record_str(record, 2), sim_record_name(record, 3));
    must_be_drained(state, to, "replace");
    if (from) {
        must_be_drained(state, from, "replace");
    }
}

static void on_detach(void *opaque, const struct sim_record *record)
{
    struct permissions *state = opaque;
    const BlockDriverState *from = record->ref;

    must_not_be_frozen(state, record, from, sim_record_name(record, 0), sim_record_str(record, 1),
                       sim_record_name(record, 2));
    must_be_drained(state, from, "detach");
}

/* What a node's own requests would use must not appear amid them. Backends and jobs have none yet. */
static void on_attach(void *opaque, const struct sim_record *record)
{
    struct permissions *state = opaque;
    const BlockDriverState *child = record->ref;
    BlockDriverState *parent = bdrv_find_node(bdrv_host(child), sim_record_name(record, 2)->str);

    if (parent && bdrv_in_flight(parent) > 0) {
        permissions_violate(state, bdrv_host(child), parent, "not-drained", "attach",
                            "it got a %s child with %u requests in flight", sim_record_str(record, 1),
                            bdrv_in_flight(parent));
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct permissions *state = opaque;
    const struct host *host = record->ref;

    for (struct frozen_link **link = &state->frozen; *link;) {
        if ((*link)->host == host->number) {
            drop(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

void permissions_links_attach(struct permissions *state)
{
    static const struct check_subscription table[] = {
        {EV_edge_freeze, on_freeze}, {EV_edge_replace, on_replace}, {EV_edge_detach, on_detach},
        {EV_edge_attach, on_attach}, {EV_host_crash, on_crash},
    };

    check_subscribe(state->check->sim, table, ARRAY_SIZE(table), state);
}
