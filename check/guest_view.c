/*
 * guest-view: what guests read is what they wrote, through any job, switch or resize. The model is in
 * guest_model.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check/guest_view.h"

BlockDriverState *guest_view_bs(const struct guest *guest)
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

struct view *guest_view_of_node(const struct guest_view *state, BlockDriverState *bs, const struct view *except)
{
    for (struct view *view = bs ? state->views : NULL; view; view = view->next) {
        BlockDriverState *top = guest_view_bs(view->guest);

        if (view != except && view->model && top && bdrv_skip_filters(top) == bs) {
            return view;
        }
    }
    return NULL;
}

void guest_view_take_model(struct guest_view *state, struct view *view)
{
    BlockDriverState *bs = guest_view_bs(view->guest);
    const struct view *same = guest_view_of_node(state, bs ? bdrv_skip_filters(bs) : NULL, view);

    SIM_ASSERT(!view->model);
    if (same) {
        view->model = same->model;
    } else {
        view->model =
            (struct view_model *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*view->model));
        guest_model_init(&view->model->model, check_boundary(state->check));
    }
    view->model->users++;
}

void guest_view_forget(struct guest_view *state, struct view *view)
{
    guest_model_reset(&view->model->model);
    view->model->forgot = sim_event_count(state->check->sim);
}

void guest_view_drop_model(struct guest_view *state, struct view *view)
{
    SIM_ASSERT(view->model && view->model->users > 0);
    if (--view->model->users == 0) {
        guest_model_reset(&view->model->model);
        sim_free(state->check->arena, SIM_TYPE_check_state, view->model, sizeof(*view->model));
    }
    view->model = NULL;
}

static void view_remove(struct guest_view *state, struct view **link)
{
    struct view *view = *link;

    *link = view->next;
    guest_view_drop_model(state, view);
    ranges_free(&view->loose);
    sim_free(state->check->arena, SIM_TYPE_check_state, view, sizeof(*view));
}

static void on_attach(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;
    struct guest *guest = (struct guest *)record->ref;
    struct view *view = (struct view *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*view));
    struct view **link = &state->views;

    view->guest = guest;
    view->cut = -1;
    view->host = guest_host(guest);
    ranges_init(state->check->arena, &view->loose);
    guest_view_take_model(state, view);
    while (*link) {
        link = &(*link)->next;
    }
    *link = view;
    guest_below_refresh(state, view);
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
    guest_partial_crash(state, record->ref);
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

static void report(struct guest_view *state, const struct view *view, const char *op,
                   const struct model_mismatch *m)
{
    BlockDriverState *bs = guest_view_bs(view->guest);
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
        BlockDriverState *bs = guest_view_bs(view->guest);

        flight->model = &view->model->model;
        flight->tears = check_op_writes(flight->op) && bs && !check_disk_below(bs);
        flight->fits = bs && flight->offset <= bdrv_getlength_cached(bs) - flight->bytes;
    }
}

/* Some medium lies below both nodes, on whatever way. */
static bool share_medium(const BlockDriverState *a, const BlockDriverState *b)
{
    bool found = check_same_medium(a, b);

    for (const BdrvChild *edge = bdrv_first_child(a); edge && !found; edge = bdrv_next_child(edge)) {
        found = share_medium(bdrv_child_bs(edge), b);
    }
    for (const BdrvChild *edge = bdrv_first_child(a) ? NULL : bdrv_first_child(b); edge && !found;
         edge = bdrv_next_child(edge)) {
        found = share_medium(a, bdrv_child_bs(edge));
    }
    return found;
}

/* Another guest, with a model of its own, uses a medium of this one: neither hears of the other's writes. */
static bool is_beside(struct guest_view *state, const struct view *view)
{
    uint64_t graph = check_boundary(state->check)->graph_changes + 1;

    for (struct view *a = state->graph != graph ? state->views : NULL; a; a = a->next) {
        const BlockDriverState *bs = guest_view_bs(a->guest);

        a->beside = false;
        for (const struct view *b = state->views; b && bs; b = b->next) {
            const BlockDriverState *other = guest_view_bs(b->guest);

            a->beside |= other && a->model != b->model && share_medium(bs, other);
        }
    }
    state->graph = graph;
    return view->beside;
}

/* Through a window that begins within a sector of an image whose clusters end within the guest's sectors: two
 * writes at one time may each get a part of such a sector. */
static bool may_mix(const struct check_boundary *boundary, const BlockDriverState *bs, const struct flight *flight)
{
    const struct flight *other = NULL;

    if (!bs || !flight->tears || check_below(bs).offset % SIM_SECTOR_BYTES == 0) {
        return false;
    }
    while ((other = check_flight_writing(boundary, other, flight->offset, flight->bytes)) != NULL) {
        if (other != flight && other->model == flight->model) {
            return true;
        }
    }
    return false;
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
    bs = guest_view_bs(view->guest);
    guest_below_refresh(state, view);
    if (view->below.forgets || is_beside(state, view)) {
        guest_view_forget(state, view);
        return;
    }
    ok = req->ret >= 0 && !req->ignored; /* an ignored error is a failed request that the guest took for good */
    if (flight->bytes == 0 || (!ok && flight->op == SIM_OP_READ)) {
        return;
    }
    if (!ok && !flight->fits && (!bs || flight->offset > bdrv_getlength_cached(bs) - flight->bytes)) {
        return; /* refused at the door; one that fitted once may have been tried before the node became short */
    }
    /* What was under way when everything was forgotten may have met a write that nobody remembers: either may lie
     * on top. A failed write leaves a prefix in sectors of the medium (DESIGN 4). Through a raw window, which may
     * begin anywhere in the file (block.md 2.15), the guest's sectors lie across those: one of them may be half
     * old, half new. */
    if (check_op_writes(flight->op) && flight->op != SIM_OP_DISCARD &&
        ((!ok && flight->tears) || flight->start < view->model->forgot ||
         may_mix(check_boundary(state->check), bs, flight))) {
        any = *flight;
        any.op = SIM_OP_DISCARD;
        torn = &any;
    }
    if (check_op_writes(flight->op)) {
        guest_partial_note(state, view, flight);
        guest_model_wrote(&view->model->model, torn ? torn : flight, record->number, ok);
        guest_below_wrote(view, flight->offset, flight->bytes);
    } else if (flight->op == SIM_OP_READ) {
        guest_below_loosen(view, flight->offset, flight->bytes, record->number);
        if (!guest_model_read(&view->model->model, flight->offset, &req->data, flight->start, record->number,
                              &mismatch)) {
            report(state, view, "read", &mismatch);
        }
    }
}

/* Everything that the model knows against the node as it is now. */
static void check_whole(struct guest_view *state, struct view *view)
{
    struct guest_model *model = &view->model->model;
    BlockDriverState *bs = guest_view_bs(view->guest);
    uint64_t now = sim_event_count(state->check->sim) + 1;
    struct payload data;
    struct model_mismatch mismatch;

    if (!bs || guest_is_being_cut(bs) || guest_is_being_resized(bs) || guest_below_is_moving(view) ||
        is_beside(state, view)) {
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
            continue; /* children of a quorum that agree on nothing: a guest would get an error */
        }
        guest_below_loosen(view, offset, bytes, now);
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
    guest_resize_attach(state);
    sim_subscribe(check->sim, EV_power_loss, on_power_loss, state);
    sim_subscribe(check->sim, EV_host_crash, on_crash, state);
    guest_partial_attach(state);
    guest_below_attach(state);
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
