/*
 * Which marks requests leave (reference/bitmaps-qcow2.md 2.3): what guests asked and got, and what reached media.
 *
 * A request marks a node after the driver call, so between the last answer of the medium to it and its completion.
 */
#include <string.h>

#include "check/bitmap_model.h"
#include "jobs/mirror.h"

#define BLOCK_MAX (4 * KiB) /* the largest that requests are padded to */

/* --- paths ------------------------------------------------------------------------------------------------- */

/* What writes into top are padded to before they come through bs; 0: they do not come there. */
static int64_t padding(BlockDriverState *top, const BlockDriverState *bs)
{
    int64_t align = 1;

    for (; top; top = check_passes_to(top)) {
        align = MAX(align, (int64_t)bdrv_request_alignment(top));
        if (top == bs) {
            return align;
        }
    }
    return 0;
}

enum passing { DROPPED, PERHAPS, PASSES };

/* The node does not take the edges of the request, which it need not (reference/block.md 2.11, 7.1). */
static bool may_keep_edges(const BlockDriverState *bs, const struct flight *flight)
{
    uint32_t align = MAX(bdrv_request_alignment(bs), bdrv_limits(bs)->pdiscard_alignment);

    return align > 1 && ((flight->offset | flight->bytes) & (align - 1)) != 0;
}

/* Nodes that were not opened to unmap drop discards and mark nothing. */
static enum passing discards_pass(BlockDriverState *top, const BlockDriverState *bs, const struct flight *flight)
{
    enum passing passing = PASSES;

    for (; top; top = check_passes_to(top)) {
        if (!(bdrv_open_flags(top) & BDRV_O_UNMAP)) {
            return DROPPED;
        }
        if (top == bs) {
            const char *driver = bdrv_driver_name(bs);

            return strcmp(driver, "raw") == 0 || strcmp(driver, "disk") == 0 || strcmp(driver, "qcow2") == 0
                       ? passing
                       : PERHAPS;
        }
        if (may_keep_edges(top, flight)) {
            passing = PERHAPS;
        }
    }
    return DROPPED;
}

/* --- guests ------------------------------------------------------------------------------------------------ */

static BlockDriverState *top_of(const struct flight *flight)
{
    return blk_bs(guest_blk(flight->guest));
}

/* The medium below the guest's node, if its last answer to a change by this request is known. */
static bool has_reached(const struct bitmap_model *m, const struct flight *flight)
{
    return m->disk && flight->disk == m->disk && flight->disk_done > 0;
}

static void pad(const struct flight *flight, int64_t align, int64_t *start, int64_t *end)
{
    *start = flight->offset;
    *end = flight->offset + flight->bytes;
    if (flight->op != SIM_OP_DISCARD && *end <= INT64_MAX - align) {
        *start = ROUND_DOWN(*start, align);
        *end = ROUND_UP(*end, align);
    }
}

/* An attempt may have failed below the node without having come to the medium: by a rule of blkdebug (7.1), or
 * because zeroes that must not become data are refused (2.2, 2.10). The nodes above have marked it (2.7). */
static bool may_fail_between(const struct flight *flight)
{
    return flight->injected || (flight->op == SIM_OP_WRITE_ZEROES && (flight->req->flags & BDRV_REQ_NO_FALLBACK));
}

/* Something of the request has come back from below the node. Where no medium is known, that cannot be seen;
 * discards may be dropped on the way to it. */
static bool was_below(const struct bitmap_model *m, const struct flight *flight)
{
    if (!m->disk || flight->op == SIM_OP_DISCARD || may_fail_between(flight)) {
        return true;
    }
    /* a protocol node reads the padding itself, those above it have passed the write on by then */
    return has_reached(m, flight) ||
           (flight->disk == m->disk && flight->disk_asked > 0 && strcmp(bdrv_driver_name(m->bs), "disk") != 0);
}

/* [start, end) that the request may have marked and not yet told; false: nothing. */
static bool may_have_marked(const struct bitmap_model *m, const struct flight *flight, int64_t *start, int64_t *end)
{
    BlockDriverState *top;
    int64_t align;

    if (!check_op_writes(flight->op) || flight->host != m->host || flight->bytes == 0 || !was_below(m, flight)) {
        return false;
    }
    top = top_of(flight);
    align = top ? padding(top, m->bs) : 0;
    if (align == 0) {
        return false;
    }
    pad(flight, align, start, end);
    return true;
}

bool bitmap_in_flight(const struct bitmap_models *models, const struct bitmap_model *m, const struct flight *except,
                      int64_t start, int64_t end)
{
    for (const struct flight *f = check_boundary(models->check)->first; f; f = f->next) {
        int64_t first;
        int64_t last;

        if (f != except && may_have_marked(m, f, &first, &last) && first < end && start < last) {
            return true;
        }
    }
    return false;
}

void bitmap_blur_by_flights(struct bitmap_models *models, struct bitmap_model *dst, const struct bitmap_model *src)
{
    for (const struct flight *f = check_boundary(models->check)->first; f; f = f->next) {
        int64_t start;
        int64_t end;

        if (may_have_marked(src, f, &start, &end)) {
            /* whole groups of the source come over */
            bitmap_maybe(dst, ROUND_DOWN(start, src->granularity), check_group_end(end, src->granularity));
        }
    }
}

/* The job that writes into the node; what guests ask of its source may come there too. */
static const Job *writing_job(const struct bitmap_model *m)
{
    for (const Job *job = m->host->jobs ? job_next(m->host, NULL) : NULL; job; job = job_next(m->host, job)) {
        if (block_job_is_mirror(job) && mirror_target(job) == m->bs) {
            return job;
        }
    }
    return NULL;
}

static bool is_within(int64_t bytes, int64_t most)
{
    return most == 0 || bytes <= most;
}

/* Each node fragments for itself (reference/block.md 2.3): what is too long for it comes to those below in pieces.
 * Zeroes may also become data, and their edges stand alone (2.10). */
static bool passes_whole(const BlockDriverState *bs, const struct flight *flight, int64_t bytes)
{
    const BlockLimits *limits = bdrv_limits(bs);
    int64_t edges = limits->pwrite_zeroes_alignment;

    if (flight->op == SIM_OP_WRITE_ZEROES &&
        (!is_within(bytes, limits->max_pwrite_zeroes) ||
         (edges > 1 && ((flight->offset | flight->bytes) & (edges - 1)) != 0))) {
        return false;
    }
    return is_within(bytes, flight->op == SIM_OP_DISCARD ? limits->max_pdiscard : limits->max_transfer);
}

/* The node marks the request once, as a whole: nobody above it cuts it into pieces, and it is no request for zeroes
 * whose edges are padded, which goes in up to three of them. */
static bool comes_whole(const struct bitmap_model *m, const struct flight *flight, int64_t align)
{
    if (flight->op == SIM_OP_WRITE_ZEROES && ((flight->offset | flight->bytes) & (align - 1)) != 0) {
        return false;
    }
    for (const BlockDriverState *bs = top_of(flight); bs && bs != m->bs; bs = check_passes_to(bs)) {
        if (!passes_whole(bs, flight, flight->bytes + 2 * align)) {
            return false;
        }
    }
    return true;
}

/* The event after which all its marks came. */
static uint64_t marked_since(const struct bitmap_model *m, const struct flight *flight, int64_t align)
{
    if (!has_reached(m, flight)) {
        return flight->start;
    }
    return comes_whole(m, flight, align) ? flight->disk_done : flight->disk_first;
}

/* The event before which none of its marks came; an attempt that failed may have marked, and been made again. */
static uint64_t earliest(const struct bitmap_model *m, const struct flight *flight)
{
    bool seen = m->disk && flight->disk == m->disk && flight->disk_asked > 0 && !may_fail_between(flight);

    return seen ? flight->disk_asked : flight->start;
}

/* A failed request that reached the driver has marked (edge 12); one that did not may have been refused anywhere.
 */
static bool surely_marked(const struct bitmap_models *models, const struct bitmap_model *m,
                          const struct flight *flight, int64_t align, int ret)
{
    if (flight->graph != check_boundary(models->check)->graph_changes) {
        return false;
    }
    if (flight->op == SIM_OP_DISCARD && discards_pass(top_of(flight), m->bs, flight) != PASSES) {
        return false;
    }
    if (ret >= 0 && !flight->req->ignored) {
        return true;
    }
    return has_reached(m, flight) && comes_whole(m, flight, align);
}

bool bitmap_flight_ends(struct bitmap_models *models, struct bitmap_model *m, const struct flight *flight, int ret)
{
    BlockDriverState *top = flight->host == m->host ? top_of(flight) : NULL;
    int64_t align = top ? padding(top, m->bs) : 0;
    int64_t start;
    int64_t end;

    if (align == 0) {
        if (flight->host == m->host && writing_job(m)) {
            bitmap_maybe(m, flight->offset, flight->offset + flight->bytes);
        }
        return false;
    }
    if (flight->op == SIM_OP_DISCARD && flight->graph == check_boundary(models->check)->graph_changes &&
        discards_pass(top, m->bs, flight) == DROPPED) {
        return true;
    }
    pad(flight, align, &start, &end);
    if (surely_marked(models, m, flight, align, ret)) {
        bitmap_marked(m, start, end, earliest(m, flight), marked_since(m, flight, align));
    } else {
        bitmap_maybe(m, start, end);
    }
    return true;
}

/* --- media ------------------------------------------------------------------------------------------------- */

static void add_due(struct bitmap_models *models, struct bitmap_model *m, int64_t start, int64_t end,
                    uint64_t event)
{
    uint64_t graph = check_boundary(models->check)->graph_changes;
    int64_t unit = m->granularity;

    end = MIN(end, m->size);
    if (start >= end || end > INT64_MAX - unit) {
        return;
    }
    if (m->due.count == 0) {
        m->due_since = event;
        m->due_graph = graph;
        m->due_blurred = false;
    }
    /* a medium's block is what a node with finer requests filled up by reading */
    m->due_blurred |= m->due_graph != graph || unit < (int64_t)disk_get_config(m->disk)->align_bytes;
    ranges_add(&m->due, ROUND_DOWN(start, unit), ROUND_UP(end, unit));
}

static void note_answer(const struct check_boundary *boundary, struct flight *f, const struct disk_req *req,
                        uint64_t event)
{
    if (f->disk_graph != boundary->graph_changes + 1) {
        struct disk *disk = top_of(f) ? check_disk_below(top_of(f)) : NULL;

        if (f->disk != disk) {
            f->disk = disk;
            f->disk_asked = f->disk_first = f->disk_done = 0;
        }
        f->disk_graph = boundary->graph_changes + 1;
    }
    if (f->disk == req->disk) {
        f->disk_asked = f->disk_asked > 0 ? f->disk_asked : event;
        if (check_op_writes(req->op)) {
            f->disk_first = f->disk_first > 0 ? f->disk_first : event;
            f->disk_done = event;
        }
    }
}

void bitmap_flights_unseen(struct bitmap_models *models)
{
    const struct check_boundary *boundary = check_boundary(models->check);

    for (struct flight *f = boundary->first; f; f = f->next) {
        if (check_op_writes(f->op) && f->disk_first == 0) {
            f->disk = top_of(f) ? check_disk_below(top_of(f)) : NULL;
            f->disk_graph = boundary->graph_changes + 1;
            f->disk_asked = f->disk_first = f->start; /* perhaps as early as that */
        }
    }
}

/* The guest's write that the medium has just answered, or whose padding it has read; NULL: somebody else's. */
static const struct flight *answered(struct bitmap_models *models, const struct disk_req *req, uint64_t event)
{
    const struct check_boundary *boundary = check_boundary(models->check);
    const struct flight *found = NULL;

    for (struct flight *f = req->origin.kind == SIM_ORIGIN_GUEST ? boundary->first : NULL; f; f = f->next) {
        if (check_op_writes(f->op) && f->req->entity == req->origin.number &&
            guest_name(f->guest) == req->origin.name) {
            note_answer(boundary, f, req, event);
            found = f->disk == req->disk ? f : found;
        }
    }
    return found;
}

/* Written back by copy-on-read for a guest that reads (reference/block.md 4.3): the node that does it marks
 * nothing, those below it do. */
static bool is_written_back(const struct bitmap_models *models, const struct disk_req *req)
{
    const struct flight *f = req->origin.kind == SIM_ORIGIN_GUEST ? check_boundary(models->check)->first : NULL;

    while (f && !(f->req->entity == req->origin.number && guest_name(f->guest) == req->origin.name)) {
        f = f->next;
    }
    return f && f->op == SIM_OP_READ;
}

static void on_disk_complete(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;
    const struct disk_req *req = record->ref;
    const struct flight *flight;

    if (!models->first) {
        return;
    }
    flight = answered(models, req, record->number);
    for (struct bitmap_model *m = check_op_writes(req->op) ? models->first : NULL; m; m = m->next) {
        if (!m->bitmap) {
            continue;
        }
        bitmap_refresh(models, m);
        if (m->disk == req->disk && is_written_back(models, req)) {
            bitmap_maybe(m, req->offset, req->offset + req->bytes);
        } else if (m->disk == req->disk && !(flight && padding(top_of(flight), m->bs) > 0)) {
            add_due(models, m, req->offset, req->offset + req->bytes, record->number);
        }
    }
}

/* Without a medium nobody can say where a request has been: whatever does not come to the node now may have. */
static void look_at_strays(struct bitmap_models *models, struct bitmap_model *m)
{
    for (const struct flight *f = check_boundary(models->check)->first; f && m->guests_only; f = f->next) {
        if (check_op_writes(f->op) && f->host == m->host && padding(top_of(f), m->bs) == 0) {
            bitmap_maybe(m, ROUND_DOWN(f->offset, BLOCK_MAX), f->offset + f->bytes + BLOCK_MAX);
        }
    }
}

/* Where a request has been before its path changed: it may go another way when it is tried again. */
static void on_edge(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;

    for (struct bitmap_model *m = models->first; m; m = m->next) {
        if (m->bitmap && !m->disk) {
            look_at_strays(models, m);
            bitmap_refresh(models, m);
        }
    }
    for (const struct flight *f = check_boundary(models->check)->first; f; f = f->next) {
        bool seen = f->disk_asked > 0 || f->injected;

        for (struct bitmap_model *m = seen && check_op_writes(f->op) ? models->first : NULL; m; m = m->next) {
            if (m->bitmap && f->injected && f->host == m->host) {
                bitmap_maybe(m, ROUND_DOWN(f->offset, BLOCK_MAX), ROUND_UP(f->offset + f->bytes, BLOCK_MAX));
            } else if (m->bitmap && f->disk && f->disk == m->disk) {
                int64_t align = disk_get_config(m->disk)->align_bytes;

                add_due(models, m, ROUND_DOWN(f->offset, align), ROUND_UP(f->offset + f->bytes, align),
                        record->number);
                m->due_blurred = true;
            }
        }
    }
}

/* Somebody may begin to write into a node, or cease to. */
static void on_perm(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;

    for (struct bitmap_model *m = models->first; m; m = m->next) {
        if (m->bitmap && !m->disk) {
            m->graph = MIN(m->graph, 1u);
            bitmap_refresh(models, m);
        }
    }
}

/* Which of the requests it was cannot be told for sure. */
static void on_inject(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;

    for (struct flight *f = check_boundary(models->check)->first; f; f = f->next) {
        f->injected |= f->host->number == record->host;
    }
}

/* An operation of a mirror into the node: its discards mark more than reaches the medium. */
static void on_op_begin(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;

    for (struct bitmap_model *m = models->first; m; m = m->next) {
        const Job *job = m->bitmap && m->host->number == record->host ? writing_job(m) : NULL;

        if (job && job->id == sim_record_name(record, 0) && record->field[1] == SIM_OP_DISCARD) {
            bitmap_maybe(m, (int64_t)record->field[2], (int64_t)record->field[2] + (int64_t)record->field[3]);
        }
    }
}

static void on_submit(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;
    const struct flight *flight = check_boundary(models->check)->last;

    SIM_ASSERT(flight && flight->req == record->ref);
    for (struct bitmap_model *m = check_op_writes(flight->op) ? models->first : NULL; m; m = m->next) {
        if (m->bitmap && flight->host == m->host && writing_job(m)) {
            bitmap_maybe(m, flight->offset, flight->offset + flight->bytes);
        }
    }
}

/* --- quiet ------------------------------------------------------------------------------------------------- */

static void find_write(void *opaque, const struct disk_req *req)
{
    *(bool *)opaque |= check_op_writes(req->op);
}

bool bitmap_is_quiet(const struct bitmap_models *models, const struct bitmap_model *m)
{
    const Job *job = writing_job(m);
    bool writes = job && mirror_in_flight(job) > 0;

    if (m->disk) {
        disk_each_in_flight(m->disk, find_write, &writes);
    }
    for (const struct flight *f = check_boundary(models->check)->first; f && !writes; f = f->next) {
        writes = check_op_writes(f->op) && f->host == m->host;
    }
    return !writes;
}

/* Whatever comes into the medium comes through the node. */
static bool has_medium_alone(const struct bitmap_models *models, const struct bitmap_model *m)
{
    unsigned users = 0;

    for (struct host *host = host_first(models->check->sim); host; host = host->next) {
        for (BlockDriverState *bs = host->graph ? bdrv_next_node(host, NULL) : NULL; bs;
             bs = bdrv_next_node(host, bs)) {
            users += strcmp(bdrv_driver_name(bs), "disk") == 0 &&
                     strcmp(bdrv_filename(bs), disk_name(m->disk)->str) == 0;
        }
    }
    for (const BlockDriverState *bs = check_passes_to(m->bs); bs; bs = check_passes_to(bs)) {
        const BdrvChild *edge = bdrv_first_parent(bs);

        users += edge && bdrv_next_parent(edge) != NULL;
    }
    return users == 1;
}

void bitmap_due_settled(struct bitmap_models *models, struct bitmap_model *m)
{
    bool clear_cut = !m->due_blurred && m->enabled_at < m->due_since &&
                     m->due_graph == check_boundary(models->check)->graph_changes;

    for (uint32_t i = 0; i < m->due.count; i++) {
        const struct range *r = &m->due.item[i];

        if (!clear_cut || !m->disk || (m->enabled && !has_medium_alone(models, m))) {
            bitmap_maybe(m, r->start, r->end);
        } else if (m->enabled) {
            bitmap_must(m, r->start, r->end);
        }
    }
    ranges_free(&m->due);
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct bitmap_models *models = opaque;

    for (struct bitmap_model *m = models->first; m; m = m->next) {
        m->due_blurred = true; /* the dead host may have used the medium */
    }
}

void bitmap_flight_attach(struct bitmap_models *models)
{
    static const struct check_subscription subscriptions[] = {
        {EV_disk_complete, on_disk_complete}, {EV_edge_attach, on_edge},         {EV_edge_detach, on_edge},
        {EV_edge_replace, on_edge},           {EV_mirror_op_begin, on_op_begin}, {EV_debug_inject, on_inject},
        {EV_guest_submit, on_submit},         {EV_host_crash, on_crash},         {EV_edge_perm, on_perm},
    };

    check_subscribe(models->check->sim, subscriptions, ARRAY_SIZE(subscriptions), models);
}
