/*
 * The boundary: what guests and clients have asked for and not yet got. Every checker may look at it; none of it
 * comes from the code under test, save that a request was answered.
 */
#include <string.h>

#include "check/checkers.h"

struct check_boundary *check_boundary_new(struct sim *sim)
{
    struct sim_arena *arena = sim_check_arena(sim);
    struct check_boundary *boundary =
        (struct check_boundary *)sim_alloc(arena, SIM_TYPE_check_state, sizeof(*boundary));

    boundary->sim = sim;
    boundary->arena = arena;
    return boundary;
}

static void on_submit(void *opaque, const struct sim_record *record)
{
    struct check_boundary *boundary = opaque;
    const struct guest_req *req = record->ref;
    struct flight *flight = boundary->spare;
    bool sane;

    SIM_ASSERT(req != NULL);
    /* what the device refuses changes nothing, whatever numbers it came with */
    sane = req->offset >= 0 && req->bytes >= 0 && req->offset <= INT64_MAX - req->bytes &&
           ((req->offset | req->bytes) & (SIM_SECTOR_BYTES - 1)) == 0;
    if (flight) {
        boundary->spare = flight->next;
    } else {
        flight = sim_alloc_raw(boundary->arena, SIM_TYPE_check_flight, sizeof(*flight));
    }
    *flight = (struct flight){.req = req,
                              .guest = req->guest,
                              .host = guest_host(req->guest),
                              .op = req->op,
                              .offset = sane ? req->offset : 0,
                              .bytes = sane ? req->bytes : 0,
                              .start = record->number,
                              .graph = boundary->graph_changes,
                              .prev = boundary->last};
    *(boundary->last ? &boundary->last->next : &boundary->first) = flight;
    boundary->last = flight;
    boundary->flights++;
    if (req->op == SIM_OP_WRITE) {
        check_content_note(boundary, req, record->number);
    }
}

static void flight_remove(struct check_boundary *boundary, struct flight *flight)
{
    SIM_ASSERT(boundary->flights > 0);
    *(flight->prev ? &flight->prev->next : &boundary->first) = flight->next;
    *(flight->next ? &flight->next->prev : &boundary->last) = flight->prev;
    boundary->flights--;
    flight->next = boundary->spare;
    boundary->spare = flight;
}

struct flight *check_flight_find(const struct check_boundary *boundary, const struct guest_req *req)
{
    struct flight *flight = boundary->first;

    while (flight && flight->req != req) {
        flight = flight->next;
    }
    return flight;
}

struct flight *check_flight_writing(const struct check_boundary *boundary, const struct flight *after,
                                    int64_t offset, int64_t bytes)
{
    struct flight *flight = after ? after->next : boundary->first;

    while (flight &&
           !(check_op_writes(flight->op) && ranges_overlap(flight->offset, flight->bytes, offset, bytes))) {
        flight = flight->next;
    }
    return flight;
}

static void on_complete(void *opaque, const struct sim_record *record)
{
    struct check_boundary *boundary = opaque;
    struct flight *flight = check_flight_find(boundary, record->ref);

    if (flight) {
        flight_remove(boundary, flight);
    }
}

/* A dead host's requests never end. */
static void on_crash(void *opaque, const struct sim_record *record)
{
    struct check_boundary *boundary = opaque;
    struct flight *next;

    for (struct flight *flight = boundary->first; flight; flight = next) {
        next = flight->next;
        if (flight->host == record->ref) {
            flight_remove(boundary, flight);
        }
    }
    boundary->commands = 0; /* nobody is left to answer them */
}

static void on_edge(void *opaque, const struct sim_record *record)
{
    ((struct check_boundary *)opaque)->graph_changes++;
}

static void on_command(void *opaque, const struct sim_record *record)
{
    ((struct check_boundary *)opaque)->commands++;
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    struct check_boundary *boundary = opaque;

    boundary->commands -= boundary->commands > 0;
}

void check_boundary_attach_first(struct check_boundary *boundary)
{
    sim_subscribe(boundary->sim, EV_guest_submit, on_submit, boundary);
    sim_subscribe(boundary->sim, EV_edge_attach, on_edge, boundary);
    sim_subscribe(boundary->sim, EV_edge_detach, on_edge, boundary);
    sim_subscribe(boundary->sim, EV_edge_replace, on_edge, boundary);
    sim_subscribe(boundary->sim, EV_node_reopen, on_edge, boundary); /* another window is another path */
    sim_subscribe(boundary->sim, EV_qmp_command, on_command, boundary);
}

void check_boundary_attach_last(struct check_boundary *boundary)
{
    sim_subscribe(boundary->sim, EV_guest_complete, on_complete, boundary);
    sim_subscribe(boundary->sim, EV_host_crash, on_crash, boundary);
    sim_subscribe(boundary->sim, EV_qmp_reply, on_reply, boundary);
}

struct host *check_host(struct sim *sim, uint32_t number)
{
    struct host *host = number ? host_first(sim) : NULL;

    while (host && host->number != number) {
        host = host->next;
    }
    return host;
}

const char *check_host_name(const struct host *host)
{
    return host ? host->name->str : NULL;
}

Job *check_job_of(struct sim *sim, const struct sim_record *record)
{
    struct host *host = check_host(sim, record->host);
    const struct sim_name *id = sim_record_name(record, 0);

    if (record->kind == EV_JOB_STATUS_CHANGE && record->ref) {
        return (Job *)record->ref; /* at its first and last change it is in no list */
    }
    return host && host->jobs && id ? job_find(host, id->str) : NULL;
}

const char *check_dict_str(const struct qvalue *dict, const char *key)
{
    const struct qvalue *value = qdict_get(dict, key);

    return value && value->type == QVALUE_STR ? value->str.bytes : NULL;
}

bool check_dict_bool(const struct qvalue *dict, const char *key, bool def)
{
    const struct qvalue *value = qdict_get(dict, key);

    return value && value->type == QVALUE_BOOL ? value->boolean : def;
}

const char *check_call_str(const struct qmp_call *call, const char *key)
{
    return check_dict_str(call->args, key);
}

bool check_call_bool(const struct qmp_call *call, const char *key, bool def)
{
    return check_dict_bool(call->args, key, def);
}

int64_t check_raw_offset(const BlockDriverState *bs)
{
    const struct qvalue *options = bdrv_options_in_force(bs);
    int64_t offset = 0;

    SIM_ASSERT(strcmp(bdrv_driver_name(bs), "raw") == 0);
    return options && qdict_get_size(options, "offset", &offset, 0, NULL) ? offset : 0;
}

BlockDriverState *check_passes_to(const BlockDriverState *bs)
{
    BlockDriverState *below = bdrv_filter_bs(bs);

    if (!below && strcmp(bdrv_driver_name(bs), "raw") == 0) {
        below = bdrv_primary_bs(bs);
        /* the shortest of offsets may hide in the last sector of the file */
        if (below && (bdrv_getlength_cached(below) != bdrv_getlength_cached(bs) || check_raw_offset(bs) > 0)) {
            return NULL; /* a window somewhere in the file */
        }
    }
    return below;
}

struct disk *check_disk_below(const BlockDriverState *bs)
{
    while (bs && strcmp(bdrv_driver_name(bs), "disk") != 0) {
        bs = check_passes_to(bs);
    }
    return bs ? disk_find(bdrv_host(bs)->sim, bdrv_filename(bs)) : NULL;
}

bool check_through_filters(BlockDriverState *top, const BlockDriverState *bs)
{
    while (top && top != bs) {
        top = bdrv_filter_bs(top);
    }
    return top != NULL;
}

const BlockDriverState *check_bottom(const BlockDriverState *bs)
{
    while (bs && bdrv_primary_bs(bs)) {
        bs = bdrv_primary_bs(bs);
    }
    return bs;
}

bool check_same_medium(const BlockDriverState *a, const BlockDriverState *b)
{
    return a && b && strcmp(bdrv_driver_name(a), "disk") == 0 && strcmp(bdrv_driver_name(b), "disk") == 0 &&
           strcmp(bdrv_filename(a), bdrv_filename(b)) == 0;
}

void check_subscribe(struct sim *sim, const struct check_subscription *table, size_t count, void *opaque)
{
    for (size_t i = 0; i < count; i++) {
        sim_subscribe(sim, table[i].kind, table[i].fn, opaque);
    }
}
