/*
 * What lies below the guests' nodes, and commands that put something else there.
 *
 * A guest keeps its view through all that jobs do. Some commands change what it looks at: blockdev-reopen gives a
 * node another file or another window of it, x-blockdev-change gives a quorum other children. From then on the
 * guest sees what lies on those media at that moment, read here past the nodes where one medium is all there is.
 *
 * Children of a quorum with a majority for its threshold cannot outvote what a completed write left. Any other
 * quorum (fewer votes, or read-pattern=fifo) may go on after a child has missed a write, and show that child later:
 * ranges where its children differ are loose until they agree again.
 */
#include <string.h>

#include "check/guest_view.h"
#include "sim/disk.h"

#define LEARN_BYTES (64 * MiB) /* of what a guest comes to see; what lies beyond is known once it was read */

static bool is_driver(const BlockDriverState *bs, const char *driver)
{
    return strcmp(bdrv_driver_name(bs), driver) == 0;
}

/* The length of an image's files says nothing of what the image holds: they grow with it. */
static bool holds_image(const BlockDriverState *bs, const BdrvChild *edge)
{
    const char *name = bdrv_child_name(edge);

    return is_driver(bs, "qcow2") && (strcmp(name, "file") == 0 || strcmp(name, "data-file") == 0);
}

int64_t guest_below_cut(const BlockDriverState *bs, const BlockDriverState *resized, int64_t bytes)
{
    int64_t cut = -1;

    if (!bs || bs == resized) {
        return bs ? bytes : -1;
    }
    for (const BdrvChild *edge = bdrv_first_child(bs); edge && cut < 0; edge = bdrv_next_child(edge)) {
        cut = holds_image(bs, edge) ? -1 : guest_below_cut(bdrv_child_bs(edge), resized, bytes);
    }
    if (cut >= 0 && is_driver(bs, "raw")) {
        cut = MAX(cut - check_raw_offset(bs), (int64_t)0);
    }
    return cut < bdrv_getlength_cached(bs) ? cut : -1;
}

/* --- quorums that need no majority ---------------------------------------------------------------------------- */

static bool same_content(struct sim *sim, const BlockDriverState *a, const BlockDriverState *b, int64_t offset,
                         int64_t bytes)
{
    struct payload one;
    struct payload other;

    payload_init(sim, &one);
    payload_init(sim, &other);
    bool same = bdrv_peek(a, offset, bytes, &one) >= 0 && bdrv_peek(b, offset, bytes, &other) >= 0 &&
                payload_equal(&one, 0, &other, 0, bytes);
    payload_clear(&one);
    payload_clear(&other);
    return same;
}

/* Everybody below who may be asked says the same. */
static bool agree(const BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    const BlockDriverState *first = NULL;
    const BlockDriverState *next;

    while ((next = bdrv_filter_bs(bs)) != NULL || (is_driver(bs, "raw") && (next = bdrv_primary_bs(bs)) != NULL)) {
        offset += is_driver(bs, "raw") ? check_raw_offset(bs) : 0;
        bs = next;
    }
    if (!is_driver(bs, "quorum")) {
        return !bdrv_first_child(bs);
    }
    for (const BdrvChild *edge = bdrv_first_child(bs); edge; edge = bdrv_next_child(edge)) {
        const BlockDriverState *child = bdrv_child_bs(edge);

        if (!agree(child, offset, bytes) ||
            (first && !same_content(bdrv_host(bs)->sim, first, child, offset, bytes))) {
            return false;
        }
        first = child;
    }
    return true;
}

void guest_below_wrote(struct view *view, int64_t offset, int64_t bytes)
{
    const BlockDriverState *bs = guest_view_bs(view->guest);

    if (!view->below.weak || !bs) {
        return;
    }
    (agree(bs, offset, bytes) ? ranges_remove : ranges_add)(&view->loose, offset, offset + bytes);
}

void guest_below_loosen(struct view *view, int64_t offset, int64_t bytes, uint64_t now)
{
    const struct range *r;

    for (int64_t at = offset; (r = ranges_next(&view->loose, at)) && r->start < offset + bytes; at = r->end) {
        int64_t start = MAX(r->start, offset);
        struct flight any = {
            .op = SIM_OP_DISCARD, .offset = start, .bytes = MIN(r->end, offset + bytes) - start, .start = now};

        guest_model_wrote(&view->model->model, &any, now, true);
    }
}

void guest_below_refresh(struct guest_view *state, struct view *view)
{
    uint64_t graph = check_boundary(state->check)->graph_changes + 1;
    bool was_weak = view->below.weak;
    BlockDriverState *bs = guest_view_bs(view->guest);

    if (view->graph == graph || view->judged || !bs) {
        return;
    }
    view->below = check_below(bs);
    view->graph = graph;
    if (view->below.weak && !was_weak) {
        ranges_add(&view->loose, 0, INT64_MAX);
    } else if (!view->below.weak) {
        ranges_free(&view->loose);
    }
}

/* --- other media below ------------------------------------------------------------------------------------------
 */

static void find_write(void *opaque, const struct disk_req *req)
{
    *(bool *)opaque |= check_op_writes(req->op);
}

static void learn_leaf(struct guest_view *state, struct view *view, int64_t offset, int64_t bytes)
{
    uint64_t now = sim_event_count(state->check->sim) + 1;
    struct model_mismatch mismatch;
    struct payload data;
    bool seen = true;

    payload_init(state->check->sim, &data);
    if (view->below.disk) {
        disk_peek(view->below.disk, offset + view->below.offset, bytes, &data);
    } else {
        seen = bdrv_peek(guest_view_bs(view->guest), offset, bytes, &data) >= 0;
    }
    seen = seen && guest_model_read(&view->model->model, offset, &data, now, now, &mismatch);
    SIM_ASSERT(seen || !view->below.disk); /* nothing is known yet that could contradict */
    payload_clear(&data);
}

/* What can be read of a node: one with several children may be longer than one of them is now. */
static int64_t length_of(const BlockDriverState *bs)
{
    int64_t length = bdrv_getlength_cached(bs);

    for (const BdrvChild *edge = bdrv_first_child(bs); edge && is_driver(bs, "quorum");
         edge = bdrv_next_child(edge)) {
        length = MIN(length, length_of(bdrv_child_bs(edge)));
    }
    return bdrv_filter_bs(bs) ? MIN(length, length_of(bdrv_filter_bs(bs))) : length;
}

/* The guest looks at other media from now on; nobody else writes into them at this moment. */
static void learn(struct guest_view *state, struct view *view)
{
    const BlockDriverState *bs = guest_view_bs(view->guest);
    int64_t length = MIN(length_of(bs), (int64_t)LEARN_BYTES);
    bool writes = false;

    if (view->below.disk) {
        disk_each_in_flight(view->below.disk, find_write, &writes);
    }
    for (int64_t at = 0; !writes && !view->below.weak && !view->below.forgets && at < length;
         at += MODEL_LEAF_BYTES) {
        learn_leaf(state, view, at, MIN(MODEL_LEAF_BYTES, length - at));
    }
}

/* Requests on their way were held back by the drain: they will find the new media. */
static void move_flights(struct guest_view *state, struct view *view, const void *from, const void *to)
{
    BlockDriverState *bs = guest_view_bs(view->guest);

    for (struct flight *f = check_boundary(state->check)->first; f; f = f->next) {
        if (f->guest == view->guest && f->model == from) {
            f->model = to;
            f->fits |= f->offset <= bdrv_getlength_cached(bs) - f->bytes;
            f->tears |= check_op_writes(f->op) && !check_disk_below(bs);
        }
    }
}

bool guest_below_is_moving(const struct view *view)
{
    const BlockDriverState *bs = guest_view_bs(view->guest);

    return view->judged && bs && check_below(bs).id != view->below.id;
}

static bool is_changed(const struct view *view, uint32_t host, bool may_keep)
{
    BlockDriverState *bs = guest_view_bs(view->guest);
    struct check_below now;

    if (!view->judged || view->host->number != host || !bs) {
        return false;
    }
    now = check_below(bs);
    return now.id != view->below.id && !(may_keep && !view->below.weak && !now.weak);
}

/* All of the host's that are to change are told apart first: two guests may come to share a node, or cease to. */
static void judge(struct guest_view *state, uint32_t host, bool may_keep)
{
    for (struct view *view = state->views; view; view = view->next) {
        if (is_changed(view, host, may_keep)) {
            move_flights(state, view, &view->model->model, view);
            guest_view_drop_model(state, view);
            ranges_free(&view->loose);
            view->below = check_below(guest_view_bs(view->guest));
        }
    }
    for (struct view *view = state->views; view; view = view->next) {
        if (!view->model) {
            guest_view_take_model(state, view);
            move_flights(state, view, view, &view->model->model);
            if (view->model->users == 1) {
                guest_view_forget(state, view);
                learn(state, view);
            }
            if (view->below.weak) {
                ranges_add(&view->loose, 0, INT64_MAX);
            }
        }
    }
}

static bool reopens(const struct sim_record *record)
{
    return strcmp(((const struct qmp_call *)record->ref)->command->name, "blockdev-reopen") == 0;
}

static bool changes_children(const struct sim_record *record)
{
    return strcmp(((const struct qmp_call *)record->ref)->command->name, "x-blockdev-change") == 0;
}

static void on_command(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;

    if (!reopens(record) && !changes_children(record)) {
        return;
    }
    for (struct view *view = state->views; view; view = view->next) {
        if (view->host->number == record->host) {
            guest_below_refresh(state, view);
            view->judged = true;
        }
    }
}

/* Every edge is where it shall be, and everything is drained still. */
static void on_reopened(void *opaque, const struct sim_record *record)
{
    judge(opaque, record->host, false);
    guest_partial_moved(opaque, record->ref, record->number);
}

/* A child that goes leaves a majority as it was. */
static void on_reply(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;
    const struct qmp_call *call = record->ref;

    if (changes_children(record) && !call->err) {
        BlockDriverState *parent = bdrv_find_node(call->host, check_call_str(call, "parent"));

        judge(state, record->host, qdict_get(call->args, "child") != NULL);
        if (parent) {
            guest_partial_moved(state, parent, record->number);
        }
    }
    for (struct view *view = reopens(record) || changes_children(record) ? state->views : NULL; view;
         view = view->next) {
        if (view->host->number == record->host) {
            view->judged = false;
            view->graph = 0;
        }
    }
}

void guest_below_attach(struct guest_view *state)
{
    static const struct check_subscription subscriptions[] = {
        {EV_qmp_command, on_command},
        {EV_node_reopen, on_reopened},
        {EV_qmp_reply, on_reply},
    };

    check_subscribe(state->check->sim, subscriptions, ARRAY_SIZE(subscriptions), state);
}
