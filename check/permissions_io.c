/* Changes of a medium, and the way through the graph that they must have had. */
#include <inttypes.h>
#include <string.h>

#include "check/permissions.h"

/* The node that stands for a disk, remembered until the graph changes or a node comes or goes. */
struct disk_node {
    const struct disk *disk;
    const struct host *host;
    BlockDriverState *bs; /* NULL: none */
    uint64_t graph;       /* boundary->graph_changes when it was looked up */
    struct disk_node *next;
};

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

/* A window that begins amid a sector ends amid one of the file: raw takes RESIZE for whoever writes, so that its
 * last sector can be written whole (1.11 and 2.15). How far the padded file may grow thereby is known. */
static bool pads_last_sector(const BlockDriverState *parent, const BdrvChild *edge, int64_t end)
{
    if (strcmp(bdrv_driver_name(parent), "raw") != 0 || check_raw_offset(parent) % SIM_SECTOR_BYTES == 0 ||
        qdict_get(bdrv_options_in_force(parent), "size")) {
        return false;
    }
    int64_t unit = MAX((int64_t)bdrv_request_alignment(bdrv_child_bs(edge)), (int64_t)SIM_SECTOR_BYTES);
    int64_t length = ROUND_UP(bdrv_getlength_cached(parent), (int64_t)SIM_SECTOR_BYTES);

    return end <= ROUND_UP(check_raw_offset(parent) + length, unit);
}

/* Somebody who may change data of his own accord stands above bs, with one of the rights on each edge between. end:
 * where a write in bs ends; INT64_MAX: it is no write. */
static bool has_way(const BlockDriverState *bs, uint64_t rights, int64_t end)
{
    if (bdrv_is_read_only(bs) || bdrv_is_inactive(bs)) {
        return false;
    }
    for (BdrvChild *edge = bdrv_first_parent(bs); edge; edge = bdrv_next_parent(edge)) {
        const BlockDriverState *parent = bdrv_child_parent_bs(edge);
        uint64_t perm, shared;

        bdrv_child_perms(edge, &perm, &shared);
        if (!(perm & rights)) {
            continue;
        }
        if (!parent || permissions_writes_by_itself(parent, edge)) {
            return true;
        }
        /* who stores data for writers, copies of what lies below included, may make its file longer for them (1.11)
         */
        bool stores =
            (bdrv_child_role(edge) & BDRV_CHILD_DATA) && parent && strcmp(bdrv_driver_name(parent), "qcow2") == 0;
        bool pads = rights == BLK_PERM_RESIZE && (stores || pads_last_sector(parent, edge, end));
        uint64_t writes = BLK_PERM_WRITE | BLK_PERM_RESIZE | (stores ? BLK_PERM_WRITE_UNCHANGED : 0);
        bool moves = end != INT64_MAX && strcmp(bdrv_driver_name(parent), "raw") == 0;

        if (has_way(parent, pads ? writes : rights, moves ? end - check_raw_offset(parent) : end)) {
            return true;
        }
    }
    return false;
}

/* The medium is written behind the node's end, padding aside. */
static bool grows(const BlockDriverState *bs, const struct disk_req *req)
{
    int64_t unit = MAX((int64_t)bdrv_request_alignment(bs), (int64_t)SIM_SECTOR_BYTES);

    return req->op == SIM_OP_TRUNCATE || req->offset + req->bytes > ROUND_UP(bdrv_getlength_cached(bs), unit);
}

/* Who makes an image has no node there, or makes it anew below those that bear that. */
static bool makes_image(struct host *host, const struct sim_origin *origin)
{
    const Job *job =
        host->jobs && origin->kind == SIM_ORIGIN_JOB && origin->name ? job_find(host, origin->name->str) : NULL;

    return job && job->driver->job_type == JOB_TYPE_CREATE;
}

/* A change by a guest or a job on its way into a medium. */
static void on_disk_submit(void *opaque, const struct sim_record *record)
{
    struct permissions *state = opaque;
    const struct disk_req *req = record->ref;
    BlockDriverState *bs;
    bool may_write = false;
    int64_t end;

    if (!req || !req->host || !req->host->graph || !(check_op_writes(req->op) || req->op == SIM_OP_TRUNCATE) ||
        (req->origin.kind != SIM_ORIGIN_GUEST && req->origin.kind != SIM_ORIGIN_JOB) ||
        makes_image(req->host, &req->origin)) {
        return;
    }
    bs = node_of_disk(state, req);
    if (!bs) {
        return;
    }
    end = req->op == SIM_OP_TRUNCATE ? INT64_MAX : req->offset + req->bytes;
    /* several nodes may stand over one medium: one of them must have had the right */
    for (BlockDriverState *over = bs; over; over = next_over_disk(req, over)) {
        bool resize = grows(over, req);
        bool write = req->op == SIM_OP_TRUNCATE || has_way(over, BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED, end);

        if (write && (!resize || has_way(over, BLK_PERM_RESIZE, end))) {
            return;
        }
        may_write |= write;
    }
    if (may_write) {
        permissions_violate(state, req->host, bs, "resize-without-right", sim_op_name(req->op),
                            "%s of %" PRId64 " bytes at %" PRId64 " reached the medium, its length is %" PRId64
                            "; origin %s",
                            sim_op_name(req->op), req->bytes, req->offset, bdrv_getlength_cached(bs),
                            req->origin.name ? req->origin.name->str : "-");
    } else {
        permissions_violate(state, req->host, bs, "write-without-right", sim_op_name(req->op),
                            "a write reached the medium, origin %s",
                            req->origin.name ? req->origin.name->str : "-");
    }
}

/* A node without users comes and goes without any change of edges. */
static void on_node(void *opaque, const struct sim_record *record)
{
    struct permissions *state = opaque;

    for (struct disk_node *d = state->disks; d; d = d->next) {
        d->graph = UINT64_MAX;
    }
}

void permissions_io_attach(struct permissions *state)
{
    static const struct check_subscription table[] = {
        {EV_disk_submit, on_disk_submit},
        {EV_node_open, on_node},
        {EV_node_close, on_node},
    };

    check_subscribe(state->check->sim, table, ARRAY_SIZE(table), state);
}
