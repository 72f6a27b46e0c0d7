/*
 * bitmap-exact: no bit missing, none extra (reference/bitmaps-qcow2.md 2.3).
 *
 * Two sets bound each bitmap. Required: what guests are known to have written through the node since the owner last
 * cleared it. Allowed: what anybody may have written, rounded outward. Between them lies what cannot be known from
 * outside: requests in flight, refused ones, discards that a node drops. The owner's own marks are inputs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "block/dirty-bitmap.h"
#include "check/checkers.h"
#include "check/ranges.h"
#include "jobs/mirror.h"

/* A clearing that a request in flight may have come before. */
struct cleared {
    int64_t start;
    int64_t end;
    uint64_t at;
    struct cleared *next; /* newest first */
};

struct bitmap_model {
    const BdrvDirtyBitmap *bitmap; /* alive between bitmap_create and bitmap_release */
    const BlockDriverState *bs;
    struct host *host;
    struct disk *disk;      /* NULL: no upper bound can be given */
    uint64_t enabled_since; /* event number; UINT64_MAX: disabled */
    struct ranges required;
    struct ranges allowed;
    struct cleared *cleared;
    struct bitmap_model *next;
};

struct bitmap_exact {
    struct check *check;
    struct bitmap_model *models;
};

static struct bitmap_model *find(struct bitmap_exact *state, const void *bitmap)
{
    struct bitmap_model *m = state->models;

    while (m && m->bitmap != bitmap) {
        m = m->next;
    }
    return m;
}

static void violate(struct bitmap_exact *state, const struct bitmap_model *m, const char *rule, const char *op,
                    int64_t offset, const char *text)
{
    const Job *job = m->host->jobs ? job_next(m->host, NULL) : NULL;
    const char *name = bdrv_dirty_bitmap_name(m->bitmap);
    struct violation_where where = {.host = check_host_name(m->host),
                                    .node = bdrv_get_node_name(m->bs),
                                    .driver = bdrv_driver_name(m->bs),
                                    .op = op};

    if (job) {
        where.job = job_id(job);
        where.job_type = job_type_name(job->driver->job_type);
        where.phase = job_status_name(job->status);
    }
    check_violate(state->check->set, "bitmap-exact", rule, &where,
                  "bitmap %s of node %s (granularity %" PRIu32 ") at %" PRId64 ": %s", name ? name : "(anonymous)",
                  where.node, bdrv_dirty_bitmap_granularity(m->bitmap), offset, text);
}

/* --- allowed ---------------------------------------------------------------------------------------------- */

static void allow(struct bitmap_model *m, int64_t offset, int64_t bytes)
{
    int64_t unit = MAX((int64_t)bdrv_dirty_bitmap_granularity(m->bitmap), (int64_t)bdrv_request_alignment(m->bs));

    if (bytes > 0 && offset >= 0 && offset <= INT64_MAX - bytes - unit) {
        ranges_add(&m->allowed, ROUND_DOWN(offset, unit), ROUND_UP(offset + bytes, unit));
    }
}

static void allow_request(void *opaque, const struct disk_req *req)
{
    if (check_op_writes(req->op)) {
        allow(opaque, req->offset, req->bytes);
    }
}

static void on_disk_submit(void *opaque, const struct sim_record *record)
{
    struct bitmap_exact *state = opaque;
    const struct disk_req *req = record->ref;

    for (struct bitmap_model *m = req && check_op_writes(req->op) ? state->models : NULL; m; m = m->next) {
        if (m->disk == req->disk && m->enabled_since != UINT64_MAX) {
            allow_request(m, req);
        }
    }
}

/* A guest's request that reaches the node marks it whatever becomes of it below, even when it never gets to the
 * medium: a failed read of read-modify-write. */
static void allow_flight(struct bitmap_model *m, const struct guest_req *req)
{
    BlockDriverState *top = blk_bs(guest_blk(req->guest));

    if (check_op_writes(req->op) && top && guest_host(req->guest) == m->host && check_through_filters(top, m->bs)) {
        allow(m, req->offset, req->bytes);
    }
}

static void on_guest_submit(void *opaque, const struct sim_record *record)
{
    struct bitmap_exact *state = opaque;

    for (struct bitmap_model *m = state->models; m; m = m->next) {
        allow_flight(m, record->ref);
    }
}

/* The job that writes into the node; its own count of what is in flight is enough to be careful. */
static const Job *writing_job(const struct bitmap_model *m)
{
    for (const Job *job = m->host->jobs ? job_next(m->host, NULL) : NULL; job; job = job_next(m->host, job)) {
        if (block_job_is_mirror(job) && mirror_target(job) == m->bs) {
            return job;
        }
    }
    return NULL;
}

static void on_op_begin(void *opaque, const struct sim_record *record)
{
    struct bitmap_exact *state = opaque;

    for (struct bitmap_model *m = state->models; m; m = m->next) {
        const Job *job = m->host->number == record->host ? writing_job(m) : NULL;

        if (job && job->id == sim_record_name(record, 0)) {
            allow(m, (int64_t)record->field[2], (int64_t)record->field[3]);
        }
    }
}

/* --- the owner -------------------------------------------------------------------------------------------- */

static void on_create(void *opaque, const struct sim_record *record)
{
    struct bitmap_exact *state = opaque;
    struct sim_arena *arena = state->check->arena;
    struct bitmap_model *m = (struct bitmap_model *)sim_alloc(arena, SIM_TYPE_check_state, sizeof(*m));

    m->bitmap = record->ref;
    m->bs = bdrv_dirty_bitmap_node(m->bitmap);
    m->host = bdrv_host(m->bs);
    m->disk = check_disk_below(m->bs);
    m->enabled_since = record->number;
    ranges_init(arena, &m->required);
    ranges_init(arena, &m->allowed);
    if (m->disk) {
        disk_each_in_flight(m->disk, allow_request, m);
    }
    m->next = state->models;
    state->models = m;
}

static void drop_cleared(struct bitmap_exact *state, struct bitmap_model *m, uint64_t before)
{
    struct cleared **link = &m->cleared;

    while (*link && (*link)->at >= before) {
        link = &(*link)->next;
    }
    while (*link) {
        struct cleared *next = (*link)->next;

        sim_free(state->check->arena, SIM_TYPE_check_cell, *link, sizeof(**link));
        *link = next;
    }
}

static void model_free(struct bitmap_exact *state, struct bitmap_model **link)
{
    struct bitmap_model *m = *link;

    *link = m->next;
    drop_cleared(state, m, UINT64_MAX);
    ranges_free(&m->required);
    ranges_free(&m->allowed);
    sim_free(state->check->arena, SIM_TYPE_check_state, m, sizeof(*m));
}

static void on_release(void *opaque, const struct sim_record *record)
{
    struct bitmap_exact *state = opaque;

    for (struct bitmap_model **link = &state->models; *link; link = &(*link)->next) {
        if ((*link)->bitmap == record->ref) {
            model_free(state, link);
            return;
        }
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct bitmap_exact *state = opaque;

    for (struct bitmap_model **link = &state->models; *link;) {
        if ((*link)->host == record->ref) {
            model_free(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

static void on_set(void *opaque, const struct sim_record *record)
{
    struct bitmap_model *m = find(opaque, record->ref);
    int64_t offset = (int64_t)record->field[2];
    int64_t bytes = (int64_t)record->field[3];

    if (m) {
        ranges_add(&m->required, offset, offset + bytes);
        allow(m, offset, bytes);
    }
}

static void on_reset(void *opaque, const struct sim_record *record)
{
    struct bitmap_exact *state = opaque;
    struct bitmap_model *m = find(state, record->ref);
    const struct check_boundary *boundary = check_boundary(state->check);
    int64_t start = (int64_t)record->field[2];
    int64_t end = start + (int64_t)record->field[3];
    const Job *job;

    if (!m) {
        return;
    }
    ranges_remove(&m->required, start, end);
    job = writing_job(m);
    if (!job || mirror_in_flight(job) == 0) {
        ranges_remove(&m->allowed, start, end);
        if (m->disk) {
            disk_each_in_flight(m->disk, allow_request, m);
        }
        for (struct flight *f = boundary->first; f; f = f->next) {
            allow_flight(m, f->req);
        }
    }
    drop_cleared(state, m, boundary->first ? boundary->first->start : UINT64_MAX);
    if (check_flight_writing(boundary, NULL, start, end - start)) {
        struct cleared *c = (struct cleared *)sim_alloc_raw(state->check->arena, SIM_TYPE_check_cell, sizeof(*c));

        *c = (struct cleared){start, end, record->number, m->cleared};
        m->cleared = c;
    }
}

static void on_enable(void *opaque, const struct sim_record *record)
{
    struct bitmap_model *m = find(opaque, record->ref);

    if (m) {
        m->enabled_since = record->field[2] ? record->number : UINT64_MAX;
        if (m->disk && record->field[2]) {
            disk_each_in_flight(m->disk, allow_request, m);
        }
    }
}

static void on_resize(void *opaque, const struct sim_record *record)
{
    struct bitmap_exact *state = opaque;

    for (struct bitmap_model *m = state->models; m; m = m->next) {
        if (m->bs == record->ref) {
            ranges_remove(&m->required, (int64_t)record->field[1], INT64_MAX);
            ranges_remove(&m->allowed, (int64_t)record->field[1], INT64_MAX);
        }
    }
}

/* --- comparing -------------------------------------------------------------------------------------------- */

static void bits_present(struct bitmap_exact *state, const struct bitmap_model *m, int64_t start, int64_t end,
                         const char *op)
{
    int64_t clean;

    end = MIN(end, bdrv_dirty_bitmap_size(m->bitmap));
    if (start >= end) {
        return;
    }
    clean = bdrv_dirty_bitmap_next_zero(m->bitmap, start, end - start);
    if (clean >= 0) {
        violate(state, m, "bit-missing", op, clean,
                "expected dirty: a guest wrote there and the owner has not cleared it since");
    }
}

static void compare_upper(struct bitmap_exact *state, const struct bitmap_model *m)
{
    int64_t size = bdrv_dirty_bitmap_size(m->bitmap);
    int64_t unit = bdrv_dirty_bitmap_granularity(m->bitmap);
    int64_t at = 0;

    while (at < size) {
        const struct range *r;
        int64_t dirty = bdrv_dirty_bitmap_next_dirty(m->bitmap, at, size - at);
        int64_t align = bdrv_request_alignment(m->bs);

        if (dirty < 0) {
            return;
        }
        dirty = ROUND_DOWN(dirty, unit);
        r = ranges_next(&m->allowed, dirty);
        if (r && r->start < dirty + unit) {
            at = MAX(dirty + unit, ROUND_DOWN(r->end, unit));
            continue;
        }
        if (!check_flight_writing(check_boundary(state->check), NULL, ROUND_DOWN(dirty, align), MAX(unit, align))) {
            violate(state, m, "bit-extra", NULL, dirty, "expected clean: nobody wrote there since it was cleared");
            return;
        }
        at = dirty + unit;
    }
}

static void compare(struct bitmap_exact *state, const struct bitmap_model *m)
{
    for (uint32_t i = 0; i < m->required.count; i++) {
        bits_present(state, m, m->required.item[i].start, m->required.item[i].end, NULL);
    }
    if (m->disk) {
        compare_upper(state, m);
    }
}

static void on_job_event(void *opaque, const struct sim_record *record)
{
    struct bitmap_exact *state = opaque;

    for (struct bitmap_model *m = state->models; m; m = m->next) {
        if (m->host->number == record->host) {
            compare(state, m);
        }
    }
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct bitmap_exact *state = opaque;

    for (struct bitmap_model *m = state->models; m; m = m->next) {
        compare(state, m);
    }
}

/* --- guests ----------------------------------------------------------------------------------------------- */

/* Nodes that were not opened to unmap drop discards and mark nothing. */
static bool discards_pass(BlockDriverState *top, const BlockDriverState *bs)
{
    for (; top; top = bdrv_filter_bs(top)) {
        if (!(bdrv_open_flags(top) & BDRV_O_UNMAP)) {
            return false;
        }
        if (top == bs) {
            return strcmp(bdrv_driver_name(bs), "raw") == 0 || strcmp(bdrv_driver_name(bs), "disk") == 0;
        }
    }
    return false;
}

/* The part of [start, end) that no clearing since `since` touched becomes required, and must be there now. */
static void require(struct bitmap_exact *state, struct bitmap_model *m, int64_t start, int64_t end, uint64_t since,
                    const struct cleared *c, const char *op)
{
    while (c && c->at > since && (c->end <= start || c->start >= end)) {
        c = c->next;
    }
    if (start >= end) {
        return;
    }
    if (!c || c->at <= since) {
        ranges_add(&m->required, start, end);
        bits_present(state, m, start, end, op);
        return;
    }
    require(state, m, start, MIN(end, c->start), since, c->next, op);
    require(state, m, MAX(start, c->end), end, since, c->next, op);
}

static void on_complete(void *opaque, const struct sim_record *record)
{
    struct bitmap_exact *state = opaque;
    const struct check_boundary *boundary = check_boundary(state->check);
    const struct guest_req *req = record->ref;
    struct flight *flight = check_op_writes(req->op) ? check_flight_find(boundary, req) : NULL;
    BlockDriverState *top = flight ? blk_bs(guest_blk(flight->guest)) : NULL;

    for (struct bitmap_model *m = top && flight->bytes > 0 ? state->models : NULL; m; m = m->next) {
        if (m->host != flight->host || !check_through_filters(top, m->bs)) {
            continue;
        }
        allow(m, flight->offset, flight->bytes);
        if (req->ret >= 0 && !req->ignored && flight->graph == boundary->graph_changes &&
            m->enabled_since < flight->start && (req->op != SIM_OP_DISCARD || discards_pass(top, m->bs))) {
            require(state, m, flight->offset, flight->offset + flight->bytes, flight->start, m->cleared,
                    sim_op_name(req->op));
        }
    }
}

static void *attach(struct check *check)
{
    struct bitmap_exact *state =
        (struct bitmap_exact *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));
    static const struct check_subscription subscriptions[] = {
        {EV_bitmap_create, on_create},
        {EV_bitmap_release, on_release},
        {EV_bitmap_set, on_set},
        {EV_bitmap_reset, on_reset},
        {EV_bitmap_enable, on_enable},
        {EV_node_resize, on_resize},
        {EV_disk_submit, on_disk_submit},
        {EV_guest_submit, on_guest_submit},
        {EV_mirror_op_begin, on_op_begin},
        {EV_guest_complete, on_complete},
        {EV_BLOCK_JOB_READY, on_job_event},
        {EV_BLOCK_JOB_COMPLETED, on_job_event},
        {EV_host_crash, on_crash},
    };

    state->check = check;
    check_subscribe(check->sim, subscriptions, ARRAY_SIZE(subscriptions), state);
    return state;
}

const struct check_class check_bitmap_exact = {
    .name = "bitmap-exact",
    .doc = "each recording bitmap equals the model's: no bit missing, none extra beyond the documented roundings",
    .rules = "bit-missing: a guest wrote there, the owner has not cleared it, and the bit is clean\n"
             "bit-extra: the bit is dirty although nobody wrote there since it was cleared\n",
    .attach = attach,
    .at_settled = at_settled,
};
