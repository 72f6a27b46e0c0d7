/*
 * permissions: what parents hold and what they share never conflict, no write reaches a medium without a right to
 * write, and op blockers go with those who set them (reference/block.md 1.11, 1.12).
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "check/checkers.h"

/* The node that stands for a disk, remembered until the graph changes. */
struct disk_node {
    const struct disk *disk;
    const struct host *host;
    BlockDriverState *bs; /* NULL: none */
    uint64_t graph;       /* boundary->graph_changes when it was looked up */
    struct disk_node *next;
};

struct permissions {
    struct check *check;
    struct disk_node *disks;
    uint64_t looked_at; /* graph changes and permission changes at the last look */
    uint64_t changes;
};

static void violate(struct permissions *state, const struct host *host, const BlockDriverState *bs,
                    const char *rule, const char *op, const char *text, const char *detail)
{
    const Job *job = host->jobs ? job_next((struct host *)host, NULL) : NULL;
    struct violation_where where = {
        .host = check_host_name(host), .node = bdrv_get_node_name(bs), .driver = bdrv_driver_name(bs), .op = op};

    if (job) {
        where.job = job_id(job);
        where.job_type = job_type_name(job->driver->job_type);
        where.phase = job_status_name(job->status);
    }
    check_violate(state->check->set, "permissions", rule, &where, "node %s: %s%s", bdrv_get_node_name(bs), text,
                  detail);
}

static void look_at_node(struct permissions *state, const struct host *host, const BlockDriverState *bs)
{
    for (BdrvChild *a = bdrv_first_parent(bs); a; a = bdrv_next_parent(a)) {
        uint64_t perm, shared;

        bdrv_child_perms(a, &perm, &shared);
        for (BdrvChild *b = bdrv_first_parent(bs); b; b = bdrv_next_parent(b)) {
            uint64_t other_perm, other_shared;

            bdrv_child_perms(b, &other_perm, &other_shared);
            if (a != b && (perm & ~other_shared)) {
                char *who = bdrv_child_user_desc(a);

                violate(state, host, bs, "conflict", bdrv_child_name(b),
                        "a parent holds what another one does not share: ", who);
                free(who);
                return;
            }
        }
    }
}

static void look(struct permissions *state)
{
    if (state->looked_at == state->changes) {
        return;
    }
    state->looked_at = state->changes;
    for (struct host *host = host_first(state->check->sim); host; host = host->next) {
        for (BlockDriverState *bs = host->graph ? bdrv_next_node(host, NULL) : NULL; bs;
             bs = bdrv_next_node(host, bs)) {
            look_at_node(state, host, bs);
        }
    }
}

static void on_quiet(void *opaque, const struct sim_record *record)
{
    look(opaque);
}

static void on_change(void *opaque, const struct sim_record *record)
{
    ((struct permissions *)opaque)->changes++;
}

/* The next node after `after` (NULL: the first) that stands for the request's medium. */
static BlockDriverState *next_over_disk(const struct disk_req *req, const BlockDriverState *after)
{
    BlockDriverState *bs = bdrv_next_node(req->host, after);

    while (bs && !(strcmp(bdrv_driver_name(bs), "disk") == 0 &&
                   strcmp(bdrv_filename(bs), disk_name(req->disk)->str) == 0)) {
        bs = bdrv_next_node(req->host, bs);
    }
    return bs;
}

static BlockDriverState *node_of_disk(struct permissions *state, const struct disk_req *req)
{
    uint64_t graph = check_boundary(state->check)->graph_changes;
    struct disk_node *d = state->disks;

    while (d && !(d->disk == req->disk && d->host == req->host)) {
        d = d->next;
    }
    if (!d) {
        d = (struct disk_node *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*d));
        *d = (struct disk_node){.disk = req->disk, .host = req->host, .graph = UINT64_MAX, .next = state->disks};
        state->disks = d;
    }
    if (d->graph != graph) {
        d->graph = graph;
        d->bs = next_over_disk(req, NULL);
    }
    return d->bs;
}

static bool may_be_written(const BlockDriverState *bs)
{
    if (bdrv_is_read_only(bs) || bdrv_is_inactive(bs)) {
        return false;
    }
    for (BdrvChild *parent = bdrv_first_parent(bs); parent; parent = bdrv_next_parent(parent)) {
        uint64_t perm, shared;

        bdrv_child_perms(parent, &perm, &shared);
        if (perm & (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED)) {
            return true;
        }
    }
    return false;
}

/* A write of a guest or a job on its way into a medium. Commands that make images have no node there. */
static void on_disk_submit(void *opaque, const struct sim_record *record)
{
    struct permissions *state = opaque;
    const struct disk_req *req = record->ref;
    BlockDriverState *bs;

    if (!req || !req->host || !req->host->graph || !check_op_writes(req->op) ||
        (req->origin.kind != SIM_ORIGIN_GUEST && req->origin.kind != SIM_ORIGIN_JOB)) {
        return;
    }
    bs = node_of_disk(state, req);
    if (!bs) {
        return;
    }
    /* several nodes may stand over one medium: one of them must have had the right */
    for (BlockDriverState *over = bs; over; over = next_over_disk(req, over)) {
        if (may_be_written(over)) {
            return;
        }
    }
    violate(state, req->host, bs, "write-without-right", sim_op_name(req->op),
            "a write reached the medium, origin ", req->origin.name ? req->origin.name->str : "-");
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct permissions *state = opaque;

    look(state);
    for (struct host *host = host_first(check->sim); final && host; host = host->next) {
        if (!host->graph || (host->jobs && job_next(host, NULL))) {
            continue; /* jobs still there have every right to their blockers */
        }
        for (BlockDriverState *bs = bdrv_next_node(host, NULL); bs; bs = bdrv_next_node(host, bs)) {
            if (bdrv_op_blockers(bs) > 0) {
                violate(state, host, bs, "blocker-left", NULL, "op blockers are left although no job is", "");
            }
        }
    }
}

static void *attach(struct check *check)
{
    struct permissions *state = (struct permissions *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));

    state->check = check;
    sim_subscribe(check->sim, EV_edge_attach, on_change, state);
    sim_subscribe(check->sim, EV_edge_replace, on_change, state);
    sim_subscribe(check->sim, EV_edge_perm, on_change, state);
    sim_subscribe(check->sim, EV_qmp_reply, on_quiet, state);
    sim_subscribe(check->sim, EV_JOB_STATUS_CHANGE, on_quiet, state);
    sim_subscribe(check->sim, EV_disk_submit, on_disk_submit, state);
    return state;
}

const struct check_class check_permissions = {
    .name = "permissions",
    .doc =
        "what parents hold and share never conflicts; a write never passes an edge without WRITE; blockers go with "
        "their owners",
    .rules = "conflict: a parent holds a permission that another one does not share\n"
             "write-without-right: a write reached a medium whose node has no writing parent, or is read-only or "
             "inactive\n"
             "blocker-left: op blockers stay behind when no job is left\n",
    .attach = attach,
    .at_settled = at_settled,
};
