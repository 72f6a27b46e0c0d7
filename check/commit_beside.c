/*
 * commit-view: who else changes what is seen from above a job's layers. Guests, who may: their writes are noted,
 * and guest-view follows them. Other jobs that write into one of the layers, a snapshot gone back to, other nodes
 * put below: nothing can be said of such a view any more.
 */
#include "check/commit_view.h"

#include <string.h>

#include "jobs/commit.h"
#include "jobs/mirror.h"

bool layer_lies_below(const BlockDriverState *bs, const BlockDriverState *node)
{
    bool found = bs == node;

    for (const BdrvChild *edge = bs ? bdrv_first_child(bs) : NULL; edge && !found; edge = bdrv_next_child(edge)) {
        found = layer_lies_below(bdrv_child_bs(edge), node);
    }
    return found;
}

/* --- guests ----------------------------------------------------------------------------------------------- */

/* Somebody writes [offset, ...) of bs. */
static void note_write(struct layer_job *w, BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    for (struct layer_view *view = w->views; view; view = view->next) {
        BlockDriverState *top = layer_view_bs(w, view);

        if (top && bdrv_chain_contains(top, bs)) {
            ranges_add(&view->loose, offset, offset + bytes);
        }
    }
    for (const BdrvChild *edge = bdrv_supports_backing(bs) ? NULL : bdrv_first_child(bs); edge;
         edge = bdrv_next_child(edge)) {
        int64_t shift = strcmp(bdrv_driver_name(bs), "raw") == 0 ? check_raw_offset(bs) : 0;

        note_write(w, bdrv_child_bs(edge), offset + shift, bytes);
    }
}

static void note_flight(struct layer_job *w, const struct flight *flight)
{
    BlockDriverState *bs = blk_bs(guest_blk(flight->guest));

    if (bs && flight->host == w->host && flight->bytes > 0 && check_op_writes(flight->op)) {
        note_write(w, bs, flight->offset, flight->bytes);
    }
}

void layer_note_flights(struct commit_view *state, struct layer_job *w)
{
    for (const struct flight *f = check_boundary(state->check)->first; f; f = f->next) {
        note_flight(w, f);
    }
}

static void on_submit(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;
    const struct flight *flight = state->jobs ? check_flight_find(check_boundary(state->check), record->ref) : NULL;

    for (struct layer_job *w = flight ? state->jobs : NULL; w; w = w->next) {
        note_flight(w, flight);
    }
}

/* --- other writers ---------------------------------------------------------------------------------------- */

/* Other jobs' targets. Commits keep what is seen through their top as it is. */
static bool job_writes(const Job *job, BlockDriverState *bs)
{
    BlockDriverState *target = NULL, *top = NULL;

    if (block_job_is_mirror(job) || block_job_is_active_commit(job)) {
        target = mirror_target(job);
        top = block_job_is_active_commit(job) ? mirror_source(job) : NULL;
    } else if (block_job_is_commit(job)) {
        target = commit_base(job);
        top = commit_top(job);
    }
    return target && layer_lies_below(bs, target) && !(top && layer_lies_below(bs, bdrv_skip_filters(top)));
}

static bool may_write(const BdrvChild *edge)
{
    uint64_t perm, shared;

    bdrv_child_perms(edge, &perm, &shared);
    return (perm & BLK_PERM_WRITE) != 0;
}

/* A node beside those of the view stands for the same medium, and somebody may write to it. */
static bool is_beside(const BlockDriverState *bs, const BlockDriverState *other)
{
    bool found = bs != other && check_same_medium(bs, other);

    if (found) {
        return true;
    }
    for (const BdrvChild *edge = bdrv_first_child(bs); edge && !found; edge = bdrv_next_child(edge)) {
        found = is_beside(bdrv_child_bs(edge), other);
    }
    return found;
}

static bool is_target_of_filter(const BlockDriverState *filter, const BlockDriverState *bs)
{
    const BdrvChild *edge =
        strcmp(bdrv_driver_name(filter), "copy-before-write") == 0 ? bdrv_first_child(filter) : NULL;

    while (edge && strcmp(bdrv_child_name(edge), "target") != 0) {
        edge = bdrv_next_child(edge);
    }
    return edge && layer_lies_below(bs, bdrv_child_bs(edge));
}

bool layer_is_written(const struct layer_job *w, const BlockDriverState *bs)
{
    for (const Job *job = job_next(w->host, NULL); job; job = job_next(w->host, job)) {
        if (job->id != w->id && job_writes(job, (BlockDriverState *)bs)) {
            return true;
        }
    }
    for (BlockDriverState *other = bdrv_next_node(w->host, NULL); other; other = bdrv_next_node(w->host, other)) {
        bool written = false;

        for (const BdrvChild *edge = bdrv_first_child(other) ? NULL : bdrv_first_parent(other); edge && !written;
             edge = bdrv_next_parent(edge)) {
            written = may_write(edge);
        }
        if ((written && is_beside(bs, other)) || is_target_of_filter(other, bs)) {
            return true;
        }
    }
    return false;
}

/* --- commands --------------------------------------------------------------------------------------------- */

/* Views through that node; NULL: all of the host. */
static void lose(struct commit_view *state, uint32_t host, const struct sim_name *node)
{
    for (struct layer_job *w = state->jobs; w; w = w->next) {
        const BlockDriverState *below = w->host->number == host ? layer_node(w, node) : NULL;

        for (struct layer_view *view = w->host->number == host ? w->views : NULL; view; view = view->next) {
            BlockDriverState *bs = layer_view_bs(w, view);

            view->lost |= !node || (bs && below && layer_lies_below(bs, below));
        }
    }
}

/* Some dictionary of the arguments for which fn holds, however deep. */
static bool anywhere(const struct qmp_call *call, const struct qvalue *value,
                     bool (*fn)(const struct qmp_call *call, const struct qvalue *dict))
{
    bool nested = value && (value->type == QVALUE_DICT || value->type == QVALUE_LIST);
    bool found = value && value->type == QVALUE_DICT && fn(call, value);

    for (size_t i = 0; nested && i < value->seq.count && !found; i++) {
        found = anywhere(call, value->seq.items[i], fn);
    }
    return found;
}

/* What lies above the layers will show other content. */
static bool changes_views(const struct qmp_call *call, const struct qvalue *dict)
{
    const char *overlay = check_dict_str(dict, "overlay"), *mode = check_dict_str(dict, "mode");
    BlockDriverState *bs = overlay ? bdrv_find_node(call->host, overlay) : NULL;

    return check_dict_bool(dict, "discard-source", false) || (mode && strcmp(mode, "existing") == 0) ||
           (bs && check_image_is_used(bs));
}

/* A shrinking image loses its clusters before it says that it is shorter. */
static void note_resize(struct commit_view *state, const struct qmp_call *call)
{
    const char *node = check_call_str(call, "node-name"), *device = check_call_str(call, "device");
    BlockDriverState *bs = node || device ? bdrv_lookup_bs(call->host, node ? node : device, NULL) : NULL;
    int64_t size;

    if (!qdict_get_size(call->args, "size", &size, -1, NULL) || size < 0) {
        return;
    }
    for (struct layer_job *w = bs ? state->jobs : NULL; w; w = w->next) {
        for (struct layer_view *view = w->host == call->host ? w->views : NULL; view; view = view->next) {
            BlockDriverState *top = layer_view_bs(w, view);

            if (top && layer_lies_below(top, bs)) {
                view->limit = MIN(view->limit, size);
            }
        }
    }
}

static void on_command(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;
    const struct qmp_call *call = record->ref;

    state->call = call;
    if (state->jobs && anywhere(call, call->args, changes_views)) {
        lose(state, record->host, NULL);
    }
    if (state->jobs && strcmp(call->command->name, "block_resize") == 0) {
        note_resize(state, call);
    }
}

static void on_reply(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;
    const struct qmp_call *call = record->ref;

    state->call = state->call == call ? NULL : state->call;
    if (!call->err && strcmp(call->command->name, "x-blockdev-change") == 0) {
        lose(state, record->host, NULL);
    }
}

static void on_reopen(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;

    if (state->call && strcmp(state->call->command->name, "blockdev-reopen") == 0) {
        lose(state, record->host, sim_record_name(record, 0));
    }
}

static void on_snapshot(void *opaque, const struct sim_record *record)
{
    if (strcmp(sim_record_str(record, 1), "goto") == 0) {
        lose(opaque, record->host, sim_record_name(record, 0));
    }
}

/* Guests move to a mirror's target; what it has not copied, it does not hold. */
static void on_replace(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;
    struct host *host = state->jobs ? check_host(state->check->sim, record->host) : NULL;

    for (const Job *job = host && host->jobs ? job_next(host, NULL) : NULL; job; job = job_next(host, job)) {
        if (block_job_is_mirror(job) && mirror_target(job) &&
            bdrv_node_sim_name(mirror_target(job)) == sim_record_name(record, 1)) {
            lose(state, record->host, sim_record_name(record, 1));
            lose(state, record->host, sim_record_name(record, 0));
        }
    }
}

static void on_power_loss(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;

    for (const struct layer_job *w = state->jobs; w; w = w->next) {
        lose(state, w->host->number, NULL);
    }
}

void layer_beside_attach(struct commit_view *state)
{
    static const struct check_subscription subscriptions[] = {
        {EV_guest_submit, on_submit},     {EV_qmp_command, on_command},  {EV_qmp_reply, on_reply},
        {EV_node_reopen, on_reopen},      {EV_edge_replace, on_replace}, {EV_power_loss, on_power_loss},
        {EV_image_snapshot, on_snapshot},
    };

    check_subscribe(state->check->sim, subscriptions, ARRAY_SIZE(subscriptions), state);
}
