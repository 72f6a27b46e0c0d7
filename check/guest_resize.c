/*
 * guest-view: nodes that get another length, and overlays that bring content of their own. What lies behind the
 * cut, or in the overlay, is not what guests wrote.
 */
#include <string.h>

#include "block/block_int.h"
#include "check/guest_view.h"

/* Another node over the medium of a guest that shares RESIZE cut it short: the guest's own node is not told. */
static bool cut_by_other_node(const BlockDriverState *bs, const BlockDriverState *resized, int64_t bytes)
{
    const BlockDriverState *mine = check_bottom(bs);

    return mine != resized && check_same_medium(mine, resized) && bytes < bdrv_getlength_cached(mine);
}

static void on_resize(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;

    for (struct view *view = state->views; view; view = view->next) {
        BlockDriverState *bs = guest_view_bs(view->guest);

        int64_t cut = guest_below_cut(bs, record->ref, (int64_t)record->field[1]);

        if (cut >= 0) {
            guest_model_truncate(&view->model->model, cut, 0);
        } else if (cut_by_other_node(bs, record->ref, (int64_t)record->field[1])) {
            guest_view_forget(state, view);
        }
    }
}

/* The medium is shorter already than its node knows: somebody resizes at this moment. */
bool guest_is_being_cut(const BlockDriverState *bs)
{
    const BlockDriverState *bottom = check_bottom(bs);
    const struct disk *disk = bottom ? check_disk_below(bottom) : NULL;

    return disk && ROUND_UP(disk_length(disk), SIM_SECTOR_BYTES) < bdrv_getlength_cached(bottom);
}

/* A length that changes at this moment: the image gives its tail up before it says that it is shorter
 * (bitmaps-qcow2.md 5.5), and what was written there while the resize waited is gone with it. */
bool guest_is_being_resized(const BlockDriverState *bs)
{
    for (; bs; bs = bdrv_primary_bs(bs)) {
        const BdrvTrackedRequest *req;

        LIST_FOREACH(req, &bs->tracked_requests, list)
        {
            if (req->type == BDRV_TRACKED_TRUNCATE) {
                return true;
            }
        }
    }
    return false;
}

/* What the guest sees from there on, if the medium has it at the same place; else all of it. */
static void forget_from(struct guest_view *state, struct view *view, int64_t bytes, uint64_t now)
{
    const BlockDriverState *bs = guest_view_bs(view->guest);

    if (bs && check_disk_below(bs)) {
        guest_model_truncate(&view->model->model, bytes, now);
    } else {
        guest_view_forget(state, view);
    }
}

/* Requests that come before the command is answered make the medium longer again. */
static void on_disk_complete(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;
    const struct disk_req *req = record->ref;

    for (struct view *view = req->op == SIM_OP_TRUNCATE ? state->views : NULL; view; view = view->next) {
        const BlockDriverState *bs = guest_view_bs(view->guest);
        int64_t length = ROUND_UP(disk_length(req->disk), SIM_SECTOR_BYTES);

        if (!bs || check_disk_below(check_bottom(bs)) != req->disk) {
            continue;
        }
        if (disk_length(req->disk) != length) { /* the last sector may have lost its end */
            forget_from(state, view, length - SIM_SECTOR_BYTES, record->number);
        }
        view->cut = view->cut < 0 ? length : MIN(view->cut, length);
    }
}

/* An overlay with something in it shows that: the client should have brought an empty one. */
static void on_command(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;
    const struct qmp_call *call = record->ref;
    const BlockDriverState *overlay;

    if (strcmp(sim_record_str(record, 0), "blockdev-snapshot") != 0) {
        return;
    }
    overlay = bdrv_find_node(call->host, check_call_str(call, "overlay"));
    if (overlay && check_image_is_used(overlay)) {
        state->used_overlay = call;
    }
}

/* Whoever stands on the overlay now sees what was in it. */
static void overlay_is_in(struct guest_view *state, const struct qmp_call *call, uint64_t now)
{
    BlockDriverState *overlay = bdrv_find_node(call->host, check_call_str(call, "overlay"));

    for (struct view *view = overlay && !call->err ? state->views : NULL; view; view = view->next) {
        BlockDriverState *bs = guest_view_bs(view->guest);

        if (bs && check_stands_on(bs, overlay)) { /* what is on its way comes after it */
            guest_model_forget_before(&view->model->model, 0, now);
        }
    }
    state->used_overlay = NULL;
}

/* An image that could not become shorter may have given up its tail by then (bitmaps-qcow2.md 5.5): the client
 * wanted to be rid of that. What a command that was refused at the door left in place is a candidate still. */
static void shrink_failed(struct guest_view *state, const BlockDriverState *resized, int64_t bytes, uint64_t now)
{
    for (struct view *view = state->views; view; view = view->next) {
        const BlockDriverState *bs = guest_view_bs(view->guest);
        int64_t cut = bs && !check_disk_below(bs) ? guest_below_cut(bs, resized, bytes) : -1;

        if (cut >= 0) {
            guest_model_forget_before(&view->model->model, cut, now);
        }
    }
}

static void resize_refused(struct guest_view *state, const struct qmp_call *call, uint64_t now)
{
    const char *node = check_call_str(call, "node-name");
    const BlockDriverState *resized =
        bdrv_lookup_bs(call->host, node ? node : check_call_str(call, "device"), NULL);
    int64_t bytes;

    if (resized && qdict_get_int(call->args, "size", &bytes, 0, NULL)) {
        shrink_failed(state, resized, bytes, now);
    }
}

/* Something that may have been a resize is over. One that could not tell its outcome: what was cut off is gone, and
 * the node will hear of it some day. */
static void cuts_are_over(struct guest_view *state, bool failed, uint64_t now)
{
    for (struct view *view = state->views; view; view = view->next) {
        const BlockDriverState *bs = guest_view_bs(view->guest);
        const struct disk *disk = bs ? check_disk_below(check_bottom(bs)) : NULL;

        if (failed && disk && guest_is_being_cut(bs) && view->cut < 0) {
            view->cut = ROUND_UP(disk_length(disk), SIM_SECTOR_BYTES);
        }
        if (failed && disk && view->cut >= 0) {
            forget_from(state, view, view->cut, now);
        }
        view->cut = -1;
    }
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;
    const struct qmp_call *call = record->ref;
    bool failed = sim_record_str(record, 2) != NULL;

    if (failed && call && call->args && strcmp(sim_record_str(record, 0), "block_resize") == 0) {
        resize_refused(state, call, record->number);
    }
    if (call && call == state->used_overlay) {
        overlay_is_in(state, call, record->number);
    }
    cuts_are_over(state, failed, record->number);
}

/* The same without a command. */
static void on_truncate(void *opaque, const struct sim_record *record)
{
    bool failed = (int64_t)record->field[2] < 0;

    if (failed) {
        shrink_failed(opaque, record->ref, (int64_t)record->field[1], record->number);
    }
    cuts_are_over(opaque, failed, record->number);
}

void guest_resize_attach(struct guest_view *state)
{
    static const struct check_subscription table[] = {
        {EV_node_resize, on_resize},   {EV_qmp_command, on_command},         {EV_qmp_reply, on_reply},
        {EV_io_truncate, on_truncate}, {EV_disk_complete, on_disk_complete},
    };

    check_subscribe(state->check->sim, table, ARRAY_SIZE(table), state);
}
