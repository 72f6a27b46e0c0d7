/*
 * guest-view: what guests read is what they wrote, through any job, switch or resize. The model is in
 * guest_model.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check/guest_model.h"
#include "check/ranges.h"
#include "jobs/mirror.h"

/* Guests that share a node share a model: they write the same register. */
struct view_model {
    struct guest_model model;
    unsigned users;
};

struct view {
    struct guest *guest;
    struct host *host;
    struct view_model *model;
    uint64_t looked; /* event number of the last look at a quiet point; 0: none */
    struct view *next;
};

/* A mirror that does not copy everything: a switch to its target changes what it has not copied. */
struct partial {
    struct host *host;
    const struct sim_name *id;
    const struct sim_name *source, *target; /* node names */
    uint64_t start;                         /* event number */
    struct ranges
        discarded; /* since then, and not written again: a discard may change nothing and be no reason to copy */
    struct partial *next;
};

struct guest_view {
    struct check *check;
    struct view *views; /* oldest first */
    struct partial *partials;
};

static BlockDriverState *guest_bs(const struct guest *guest)
{
    return blk_bs(guest_blk(guest));
}

static struct view *view_find(const struct guest_view *state, const struct guest *guest)
{
    struct view *view = state->views;

    while (view && view->guest != guest) {
        view = view->next;
    }
    return view;
}

static struct view *view_of_node(const struct guest_view *state, BlockDriverState *bs)
{
    struct view *view = bs ? state->views : NULL;

    while (view && !(guest_bs(view->guest) && bdrv_skip_filters(guest_bs(view->guest)) == bs)) {
        view = view->next;
    }
    return view;
}

static void view_remove(struct guest_view *state, struct view **link)
{
    struct view *view = *link;

    *link = view->next;
    if (--view->model->users == 0) {
        guest_model_reset(&view->model->model);
        sim_free(state->check->arena, SIM_TYPE_check_state, view->model, sizeof(*view->model));
    }
    sim_free(state->check->arena, SIM_TYPE_check_state, view, sizeof(*view));
}

static void on_attach(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;
    struct guest *guest = (struct guest *)record->ref;
    struct sim_arena *arena = state->check->arena;
    BlockDriverState *bs = guest_bs(guest);
    struct view *same = view_of_node(state, bs ? bdrv_skip_filters(bs) : NULL);
    struct view *view = (struct view *)sim_alloc(arena, SIM_TYPE_check_state, sizeof(*view));
    struct view **link = &state->views;

    while (*link) {
        link = &(*link)->next;
    }
    *link = view;
    view->guest = guest;
    view->host = guest_host(guest);
    if (same) {
        view->model = same->model;
    } else {
        view->model = (struct view_model *)sim_alloc(arena, SIM_TYPE_check_state, sizeof(*view->model));
        guest_model_init(&view->model->model, check_boundary(state->check));
    }
    view->model->users++;
}

static void on_detach(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;

    for (struct view **link = &state->views; *link; link = &(*link)->next) {
        if ((*link)->guest == record->ref) {
            view_remove(state, link);
            return;
        }
    }
}

static void partial_remove(struct guest_view *state, struct partial **link)
{
    struct partial *p = *link;

    *link = p->next;
    ranges_free(&p->discarded);
    sim_free(state->check->arena, SIM_TYPE_check_state, p, sizeof(*p));
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;

    for (struct view **link = &state->views; *link;) {
        if ((*link)->host == record->ref) {
            view_remove(state, link);
        } else {
            link = &(*link)->next;
        }
    }
    for (struct partial **link = &state->partials; *link;) {
        if ((*link)->host == record->ref) {
            partial_remove(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

/* What survives a power loss is the durability checker's question; here everything is open again. */
static void on_power_loss(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;

    for (struct view *view = state->views; view; view = view->next) {
        guest_model_reset(&view->model->model);
    }
    for (struct flight *f = check_boundary(state->check)->first; f; f = f->next) {
        f->model = NULL;
    }
}

/* Another node over the medium of a guest that shares RESIZE cut it short: the guest's own node is not told. */
static bool cut_by_other_node(const BlockDriverState *bs, const BlockDriverState *resized, int64_t bytes)
{
    const BlockDriverState *mine = check_bottom(bs);

    return mine != resized && check_same_medium(mine, resized) && bytes < bdrv_getlength_cached(mine);
}

/* Nothing is known any more, nor will be of what is on its way: the medium may take it before or after the cut. */
static void forget_all(struct guest_view *state, struct view *view)
{
    guest_model_reset(&view->model->model);
    for (struct flight *f = check_boundary(state->check)->first; f; f = f->next) {
        if (f->model == view->model) {
            f->model = NULL;
        }
    }
}

static void on_resize(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;

    for (struct view *view = state->views; view; view = view->next) {
        BlockDriverState *bs = guest_bs(view->guest);

        if (bs == record->ref) {
            guest_model_truncate(&view->model->model, (int64_t)record->field[1]);
        } else if (cut_by_other_node(bs, record->ref, (int64_t)record->field[1])) {
            forget_all(state, view);
        }
    }
}

/* The medium is shorter already than its node knows: somebody resizes at this moment. */
static bool is_being_cut(const BlockDriverState *bs)
{
    const BlockDriverState *bottom = check_bottom(bs);
    const struct disk *disk = bottom ? check_disk_below(bottom) : NULL;

    return disk && ROUND_UP(disk_length(disk), SIM_SECTOR_BYTES) < bdrv_getlength_cached(bottom);
}

/* A resize that could not tell its outcome: what was cut off is gone, and the node will hear of it some day. */
static void on_reply(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;

    for (struct view *view = state->views; view && sim_record_str(record, 2); view = view->next) {
        const BlockDriverState *bs = guest_bs(view->guest);
        const struct disk *disk = bs && is_being_cut(bs) ? check_disk_below(bs) : NULL;

        if (disk) {
            guest_model_truncate(&view->model->model, ROUND_UP(disk_length(disk), SIM_SECTOR_BYTES));
        } else if (bs && is_being_cut(bs)) {
            forget_all(state, view);
        }
    }
}

/* --- mirrors that copy a part (reference/jobs.md 4.7: no backing is attached for them) -------------------------
 */

static void on_status(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;
    const Job *job = record->ref;
    const char *status = sim_record_str(record, 1);
    struct partial **link = &state->partials;

    while (*link && !((*link)->host->number == record->host && (*link)->id == sim_record_name(record, 0))) {
        link = &(*link)->next;
    }
    if (*link && strcmp(status, "null") == 0) {
        partial_remove(state, link);
    } else if (strcmp(status, "running") == 0 && !*link && job && block_job_is_mirror(job) && mirror_source(job) &&
               mirror_sync_mode(job) != MIRROR_SYNC_FULL) {
        *link = (struct partial *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(**link));
        **link = (struct partial){.host = job->host,
                                  .id = job->id,
                                  .start = record->number,
                                  .source = bdrv_node_sim_name(mirror_source(job)),
                                  .target = bdrv_node_sim_name(mirror_target(job))};
        ranges_init(state->check->arena, &(*link)->discarded);
    }
}

static bool sees(const struct view *view, const struct sim_name *node)
{
    BlockDriverState *bs = bdrv_find_node(view->host, node->str);

    return bs && guest_bs(view->guest) && check_through_filters(guest_bs(view->guest), bs);
}

/* A partial mirror copies what was written; of what was discarded it may know nothing. */
static void partial_note(struct guest_view *state, const struct view *view, const struct flight *flight)
{
    for (struct partial *p = state->partials; p; p = p->next) {
        if (p->host != view->host || !sees(view, p->source)) {
            continue;
        }
        if (flight->op == SIM_OP_DISCARD) {
            ranges_add(&p->discarded, flight->offset, flight->offset + flight->bytes);
        } else {
            ranges_remove(&p->discarded, flight->offset, flight->offset + flight->bytes);
        }
    }
}

static void forget_discarded(struct view *view, const struct partial *p, uint64_t now)
{
    const struct range *r;

    for (int64_t at = 0; (r = ranges_next(&p->discarded, at)); at = r->end) {
        struct flight again = {.op = SIM_OP_DISCARD, .offset = r->start, .bytes = r->end - r->start, .start = now};

        guest_model_wrote(&view->model->model, &again, now, true);
    }
}

static void on_replace(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;

    for (struct partial *p = state->partials; p; p = p->next) {
        if (p->host->number != record->host || p->target != sim_record_name(record, 1)) {
            continue;
        }
        for (struct view *view = state->views; view; view = view->next) {
            if (view->host == p->host && (sees(view, p->source) || sees(view, p->target))) {
                guest_model_forget_before(&view->model->model, p->start);
                forget_discarded(view, p, record->number);
            }
        }
    }
}

static void report(struct guest_view *state, const struct view *view, const char *op,
                   const struct model_mismatch *m)
{
    BlockDriverState *bs = guest_bs(view->guest);
    const Job *job = view->host->jobs ? job_next(view->host, NULL) : NULL;
    struct violation_where where = {.host = check_host_name(view->host), .op = op};
    const struct check_boundary *boundary = check_boundary(state->check);
    char expected[512] = "nothing";
    char text[CHECK_CONTENT];
    size_t used = 0;

    if (bs) {
        where.node = bdrv_get_node_name(bs);
        where.driver = bdrv_driver_name(bs);
    }
    if (job) {
        where.job = job_id(job);
        where.job_type = job_type_name(job->driver->job_type);
        where.phase = job_status_name(job->status);
    }
    for (unsigned i = 0; i < MIN(m->count, ARRAY_SIZE(m->expected)) && used < sizeof(expected); i++) {
        check_content_of_id(boundary, m->expected[i], m->sector, text);
        used += (size_t)snprintf(expected + used, sizeof(expected) - used, "%s%s, there since event %" PRIu64,
                                 i ? "; or " : "", text, m->written[i]);
    }
    if (m->seen_is_tag) {
        check_content_of_tag(boundary, m->seen_tag, text);
    } else {
        check_content_of_id(boundary, m->seen, m->sector, text);
    }
    check_violate(state->check->set, "guest-view", "content", &where,
                  "guest %s, offset %" PRId64 " (sector %" PRId64 "): expected %s; seen %s",
                  guest_name(view->guest)->str, m->sector * SIM_SECTOR_BYTES, m->sector, expected, text);
}

static void on_submit(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;
    const struct guest_req *req = record->ref;
    struct view *view = view_find(state, req->guest);
    struct flight *flight = view ? check_flight_find(check_boundary(state->check), req) : NULL;

    if (flight) {
        BlockDriverState *bs = guest_bs(view->guest);

        flight->model = &view->model->model;
        flight->tears = check_op_writes(flight->op) && bs && !check_disk_below(bs);
        flight->fits = bs && flight->offset <= bdrv_getlength_cached(bs) - flight->bytes;
    }
}

/* null-co keeps nothing of what is written (reference/block.md 7.4): there is no promise about reads. */
static bool keeps_nothing(const BlockDriverState *bs)
{
    bs = check_bottom(bs);
    return bs && strcmp(bdrv_driver_name(bs), "null-co") == 0;
}

static void on_complete(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;
    const struct guest_req *req = record->ref;
    struct flight *flight = check_flight_find(check_boundary(state->check), req);
    struct view *view = view_find(state, req->guest);
    BlockDriverState *bs;
    struct model_mismatch mismatch;
    struct flight any;
    const struct flight *torn = NULL;
    bool ok;

    if (!flight || !view || flight->model != &view->model->model) {
        return;
    }
    bs = guest_bs(view->guest);
    if (keeps_nothing(bs)) {
        guest_model_reset(&view->model->model);
        return;
    }
    ok = req->ret >= 0 && !req->ignored; /* an ignored error is a failed request that the guest took for good */
    if (flight->bytes == 0 || (!ok && flight->op == SIM_OP_READ)) {
        return;
    }
    if (!ok && !flight->fits && (!bs || flight->offset > bdrv_getlength_cached(bs) - flight->bytes)) {
        return; /* refused at the door; one that fitted once may have been tried before the node became short */
    }
    /* A failed write leaves a prefix in sectors of the medium (DESIGN 4). Through a raw window, which may begin
     * anywhere in the file (block.md 2.15), the guest's sectors lie across those: one of them may be half old, half
     * new. */
    if (!ok && flight->op != SIM_OP_DISCARD && flight->tears) {
        any = *flight;
        any.op = SIM_OP_DISCARD;
        torn = &any;
    }
    if (check_op_writes(flight->op)) {
        partial_note(state, view, flight);
        guest_model_wrote(&view->model->model, torn ? torn : flight, record->number, ok);
    } else if (flight->op == SIM_OP_READ && !guest_model_read(&view->model->model, flight->offset, &req->data,
                                                              flight->start, record->number, &mismatch)) {
        report(state, view, "read", &mismatch);
    }
}

/* Everything that the model knows against the node as it is now. */
static void check_whole(struct guest_view *state, struct view *view)
{
    struct guest_model *model = &view->model->model;
    BlockDriverState *bs = guest_bs(view->guest);
    uint64_t now = sim_event_count(state->check->sim) + 1;
    struct payload data;
    struct model_mismatch mismatch;

    if (!bs || is_being_cut(bs)) {
        return;
    }
    payload_init(state->check->sim, &data);
    for (uint32_t i = 0; i < model->leaf_count; i++) {
        const struct model_leaf *leaf = model->leaves[i];
        int64_t offset = leaf->index * MODEL_LEAF_BYTES;
        int64_t bytes = MIN(MODEL_LEAF_BYTES, bdrv_getlength_cached(bs) - offset);

        if (bytes <= 0 || (!leaf->cells && leaf->wild)) {
            continue;
        }
        payload_clear(&data);
        if (bdrv_peek(bs, offset, bytes, &data) < 0) {
            break;
        }
        if (!guest_model_read(model, offset, &data, now, now, &mismatch)) {
            report(state, view, "view", &mismatch);
            break;
        }
    }
    payload_clear(&data);
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct guest_view *state = opaque;

    uint64_t now = sim_event_count(check->sim);

    for (struct view *view = state->views; view; view = view->next) {
        /* the end follows a quiet point: without an event in between there is nothing new to see */
        if (view->looked != now || now == 0) {
            check_whole(state, view);
            view->looked = now;
        }
    }
}

static void on_completed(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;

    for (struct view *view = state->views; view; view = view->next) {
        if (view->host->number == record->host) {
            check_whole(state, view);
        }
    }
}

static void *attach(struct check *check)
{
    struct guest_view *state = (struct guest_view *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));

    state->check = check;
    sim_subscribe(check->sim, EV_guest_attach, on_attach, state);
    sim_subscribe(check->sim, EV_guest_detach, on_detach, state);
    sim_subscribe(check->sim, EV_guest_submit, on_submit, state);
    sim_subscribe(check->sim, EV_guest_complete, on_complete, state);
    sim_subscribe(check->sim, EV_BLOCK_JOB_COMPLETED, on_completed, state);
    sim_subscribe(check->sim, EV_JOB_STATUS_CHANGE, on_status, state);
    sim_subscribe(check->sim, EV_edge_replace, on_replace, state);
    sim_subscribe(check->sim, EV_node_resize, on_resize, state);
    sim_subscribe(check->sim, EV_qmp_reply, on_reply, state);
    sim_subscribe(check->sim, EV_power_loss, on_power_loss, state);
    sim_subscribe(check->sim, EV_host_crash, on_crash, state);
    return state;
}

const struct check_class check_guest_view = {
    .name = "guest-view",
    .doc =
        "a read returns, per sector, the last completed write or one that overlaps it in time; what was read once "
        "excludes older values",
    .rules = "content: a sector held something that no write still possible had put there\n",
    .attach = attach,
    .at_settled = at_settled,
};
