/*
 * commit-view: what is seen from above the layers that a commit or a stream moves stays as it is, while the job
 * runs and however it ends; afterwards chain and headers are what they should be (reference/jobs.md 4.9, 6, 7).
 *
 * A view is a guest, or an image whose chain leads through the job's top. What it shows is kept when the job
 * begins; from then on only what guests write to may be different, and that is guest-view's part. Each chunk is
 * looked at when the job has dealt with it, everything when the job comes to an end and at quiet points. Images
 * between top and base mean nothing as soon as the job writes to base.
 */
#include "check/commit_view.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "jobs/commit.h"
#include "jobs/mirror.h"
#include "jobs/stream.h"

/* --- finding ---------------------------------------------------------------------------------------------- */

struct layer_job *layer_job_find(struct commit_view *state, uint32_t host, const struct sim_name *id)
{
    struct layer_job *w = state->jobs;

    while (w && !(w->host->number == host && w->id == id)) {
        w = w->next;
    }
    return w;
}

BlockDriverState *layer_node(const struct layer_job *w, const struct sim_name *name)
{
    return name ? bdrv_find_node(w->host, name->str) : NULL;
}

BlockDriverState *layer_view_bs(const struct layer_job *w, const struct layer_view *view)
{
    return view->guest ? blk_bs(guest_blk(view->guest)) : layer_node(w, view->node);
}

void layer_violate(struct commit_view *state, const struct layer_job *w, const char *rule,
                   const struct sim_name *node, const char *fmt, ...)
{
    BlockDriverState *bs = layer_node(w, node);
    struct violation_where where = {.host = check_host_name(w->host),
                                    .node = node ? node->str : NULL,
                                    .job = w->id->str,
                                    .job_type = w->type,
                                    .phase = job_status_name(w->status),
                                    .driver = bs ? bdrv_driver_name(bs) : NULL};
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    check_violate(state->check->set, "commit-view", rule, &where, "%s job %s: %s", w->type, w->id->str, text);
}

/* --- looking ---------------------------------------------------------------------------------------------- */

static void report(struct commit_view *state, const struct layer_job *w, const struct layer_view *view,
                   BlockDriverState *bs, int64_t offset)
{
    const struct check_boundary *boundary = check_boundary(state->check);
    char then[CHECK_CONTENT], now[CHECK_CONTENT];

    instant_content(view->content, state->check, offset, then);
    check_content_of_node(boundary, bs, offset, now);
    layer_violate(state, w, "view-changed", bdrv_node_sim_name(bs),
                  "%s %s, offset %" PRId64 " (sector %" PRId64
                  "), where no guest has written since the job began: expected %s; seen %s",
                  view->guest ? "guest" : "node",
                  view->guest ? guest_name(view->guest)->str : bdrv_get_node_name(bs), offset,
                  offset / SIM_SECTOR_BYTES, then, now);
}

static void look_at_view(struct commit_view *state, const struct layer_job *w, struct layer_view *view,
                         int64_t start, int64_t end)
{
    BlockDriverState *bs = view->lost ? NULL : layer_view_bs(w, view);
    int64_t found;

    if (!bs) {
        return;
    }
    if (layer_is_written(w, bs)) {
        view->lost = true;
        return;
    }
    found = instant_difference_except(view->content, bs, start, MIN(end, view->limit), &view->loose);
    if (found >= 0) {
        report(state, w, view, bs, found);
    }
}

static void look(struct commit_view *state, struct layer_job *w, int64_t start, int64_t end)
{
    /* from the switch on: base may change, seen from the layers */
    bool over = w->status == JOB_STATUS_PENDING || w->status == JOB_STATUS_CONCLUDED;

    for (struct layer_view *view = w->views; view; view = view->next) {
        if (!(view->inside && over)) {
            look_at_view(state, w, view, start, end);
        }
    }
}

static void look_at_base(struct commit_view *state, struct layer_job *w)
{
    const BlockDriverState *base = layer_node(w, w->base);
    int64_t found;

    if (w->stream || !base) {
        return;
    }
    if (bdrv_getlength_cached(base) < MAX(w->base_length, w->top_length)) {
        layer_violate(state, w, "base-length", w->base,
                      "expected a base of at least %" PRId64 " bytes; seen %" PRId64,
                      MAX(w->base_length, w->top_length), bdrv_getlength_cached(base));
    }
    found =
        w->tail && !layer_is_written(w, base) ? instant_difference(w->tail, base, w->top_length, INT64_MAX) : -1;
    if (found >= 0) {
        layer_violate(state, w, "base-tail", w->base,
                      "offset %" PRId64 " of base lies beyond the end of the layers: expected no change", found);
    }
}

/* --- beginning -------------------------------------------------------------------------------------------- */

/* An image that shows what the layers from top on show, its own on top. */
static bool shows_layers(BlockDriverState *bs, BlockDriverState *top)
{
    struct check_below below = check_below(bs);

    return bdrv_chain_contains(bs, top) && !below.weak && !below.forgets;
}

static struct instant *shared_content(const struct layer_job *w, BlockDriverState *bs)
{
    for (const struct layer_view *view = w->views; view; view = view->next) {
        BlockDriverState *other = layer_view_bs(w, view);

        if (other && bdrv_skip_filters(other) == bdrv_skip_filters(bs)) {
            return instant_share(view->content);
        }
    }
    return NULL;
}

static void add_view(struct commit_view *state, struct layer_job *w, BlockDriverState *bs, struct guest *guest)
{
    struct instant *content = shared_content(w, bs);
    struct layer_view *view;

    if (!content) {
        content = instant_take(state->check, bs, 0);
    }
    if (!content) {
        return;
    }
    view = (struct layer_view *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*view));
    *view = (struct layer_view){.guest = guest,
                                .node = guest ? NULL : bdrv_node_sim_name(bs),
                                .content = content,
                                .limit = content->length,
                                .next = w->views};
    ranges_init(state->check->arena, &view->loose);
    w->views = view;
}

static void add_views(struct commit_view *state, struct layer_job *w, BlockDriverState *top)
{
    for (BlockDriverState *bs = bdrv_next_node(w->host, NULL); bs; bs = bdrv_next_node(w->host, bs)) {
        if (!bdrv_filter_bs(bs) && shows_layers(bs, top)) {
            add_view(state, w, bs, NULL);
            if (w->views) {
                w->views->inside = !w->stream && bs == top;
            }
        }
    }
    for (const struct guest *g = guest_next(w->host, NULL); g; g = guest_next(w->host, g)) {
        BlockDriverState *bs = blk_bs(guest_blk(g));

        if (bs && shows_layers(bs, top)) {
            add_view(state, w, bs, (struct guest *)g);
        }
    }
}

static void note_base(struct commit_view *state, struct layer_job *w, const BlockDriverState *top,
                      const BlockDriverState *base)
{
    w->top_length = bdrv_getlength_cached(top);
    w->base_length = bdrv_getlength_cached(base);
    if (!w->stream && w->base_length > w->top_length) {
        w->tail = instant_take(state->check, base, w->top_length);
    }
}

static void take_arguments(struct commit_view *state, struct layer_job *w)
{
    const char *backing_file;

    if (state->call && state->call->host == w->host) {
        backing_file = check_call_str(state->call, "backing-file");
        w->backing_file = backing_file ? sim_strdup(state->check->arena, backing_file) : NULL;
        w->mask_protocol = check_call_bool(state->call, "backing-mask-protocol", false);
    }
}

static void begin(struct commit_view *state, const Job *job)
{
    bool stream = block_job_is_stream(job), active = block_job_is_active_commit(job);
    BlockDriverState *top = stream ? stream_top(job) : active ? mirror_source(job) : commit_top(job);
    BlockDriverState *base = stream ? stream_bottom(job) : active ? mirror_target(job) : commit_base(job);
    struct layer_job *w;

    if (!top || !base || !job->id) {
        return;
    }
    top = bdrv_skip_filters(top);
    w = (struct layer_job *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*w));
    *w = (struct layer_job){.host = job->host,
                            .id = job->id,
                            .type = stream ? "stream" : "commit",
                            .stream = stream,
                            .active = active,
                            .top = bdrv_node_sim_name(top),
                            .base = bdrv_node_sim_name(base),
                            .status = job->status,
                            .next = state->jobs};
    state->jobs = w;
    take_arguments(state, w);
    note_base(state, w, top, base);
    add_views(state, w, top);
    layer_note_flights(state, w);
}

/* --- the end ---------------------------------------------------------------------------------------------- */

static void forget(struct commit_view *state, struct layer_job **link)
{
    struct sim_arena *arena = state->check->arena;
    struct layer_job *w = *link;

    *link = w->next;
    while (w->views) {
        struct layer_view *view = w->views;

        w->views = view->next;
        ranges_free(&view->loose);
        instant_drop(view->content);
        sim_free(arena, SIM_TYPE_check_state, view, sizeof(*view));
    }
    layer_chain_forget(state, w);
    instant_drop(w->tail);
    sim_strfree(arena, w->backing_file);
    sim_free(arena, SIM_TYPE_check_state, w, sizeof(*w));
}

static void forget_id(struct commit_view *state, uint32_t host, const struct sim_name *id)
{
    for (struct layer_job **link = &state->jobs; *link; link = &(*link)->next) {
        if ((*link)->host->number == host && (*link)->id == id) {
            forget(state, link);
            return;
        }
    }
}

/* --- events ----------------------------------------------------------------------------------------------- */

static bool is_ours(const Job *job)
{
    return block_job_is_commit(job) || block_job_is_stream(job) || block_job_is_active_commit(job);
}

/* Before it has written anything that nobody looks at until it has gone again. */
static void look_for_writers(struct commit_view *state, uint32_t host)
{
    for (struct layer_job *w = state->jobs; w; w = w->next) {
        for (struct layer_view *view = w->host->number == host ? w->views : NULL; view; view = view->next) {
            const BlockDriverState *bs = view->lost ? NULL : layer_view_bs(w, view);

            view->lost = view->lost || (bs && layer_is_written(w, bs));
        }
    }
}

static void on_status(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;
    const Job *job = check_job_of(state->check->sim, record);
    struct layer_job *w = layer_job_find(state, record->host, sim_record_name(record, 0));
    enum job_status status;

    SIM_ASSERT(job_status_parse(sim_record_str(record, 1), &status));
    if (!w && job && status == JOB_STATUS_RUNNING && is_ours(job)) {
        begin(state, job);
    }
    if (state->jobs && status == JOB_STATUS_RUNNING) {
        look_for_writers(state, record->host);
    }
    if (!w) {
        return;
    }
    w->status = status;
    if (status == JOB_STATUS_NULL) {
        forget_id(state, w->host->number, w->id);
    } else if (status == JOB_STATUS_WAITING) {
        look_at_base(state, w);
        look(state, w, 0, INT64_MAX);
    } else if (status == JOB_STATUS_PENDING || status == JOB_STATUS_ABORTING) {
        look(state, w, 0, INT64_MAX);
        if (job) {
            layer_chain_note(state, w, job);
        }
    }
}

/* Before it says so, the graph is what it will be. */
static void on_end(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;
    struct layer_job *w = layer_job_find(state, record->host, sim_record_name(record, 1));

    if (!w) {
        return;
    }
    look(state, w, 0, INT64_MAX);
    if (record->kind == EV_BLOCK_JOB_COMPLETED && !sim_record_str(record, 5)) {
        layer_chain_look(state, w);
    }
}

/* Between two steps of the job: the chunks that it has just dealt with. */
static void on_sleep(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;
    struct layer_job *w = layer_job_find(state, record->host, sim_record_name(record, 0));
    const Job *job = w && !w->active ? check_job_of(state->check->sim, record) : NULL;

    if (job && job->progress_current > w->looked) {
        look(state, w, w->looked, job->progress_current);
        w->looked = job->progress_current;
    }
}

static void on_op_end(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;
    struct layer_job *w = layer_job_find(state, record->host, sim_record_name(record, 0));

    if (w) {
        look(state, w, (int64_t)record->field[2], (int64_t)(record->field[2] + record->field[3]));
    }
}

static void on_resize(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;
    int64_t bytes = (int64_t)record->field[1];

    for (struct layer_job *w = state->jobs; w; w = w->next) {
        BlockDriverState *node = w->host->number == record->host ? layer_node(w, sim_record_name(record, 0)) : NULL;
        bool base = !w->stream && w->base == sim_record_name(record, 0);

        if (base && bytes < w->base_length && w->status != JOB_STATUS_CONCLUDED) {
            layer_violate(state, w, "base-length", w->base,
                          "expected a base that only grows from %" PRId64 " bytes; seen %" PRId64, w->base_length,
                          bytes);
        }
        w->base_length = base ? MAX(w->base_length, bytes) : w->base_length;
        for (struct layer_view *view = base || !node ? NULL : w->views; view; view = view->next) {
            BlockDriverState *bs = layer_view_bs(w, view);

            if (bs && bdrv_chain_contains(bs, node)) { /* an image's file grows with what it holds */
                view->limit = MIN(view->limit, bytes);
            }
        }
    }
}

static void on_crash(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;

    state->call = state->call && state->call->host == record->ref ? NULL : state->call;
    for (struct layer_job **link = &state->jobs; *link;) {
        if ((*link)->host == record->ref) {
            forget(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

static void on_detach(void *opaque, const struct sim_record *record)
{
    struct commit_view *state = opaque;

    for (struct layer_job *w = state->jobs; w; w = w->next) {
        for (struct layer_view **link = &w->views; *link;) {
            struct layer_view *view = *link;

            if (!view->guest || view->guest != record->ref) {
                link = &view->next;
                continue;
            }
            *link = view->next;
            ranges_free(&view->loose);
            instant_drop(view->content);
            sim_free(state->check->arena, SIM_TYPE_check_state, view, sizeof(*view));
        }
    }
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct commit_view *state = opaque;

    uint64_t now = sim_event_count(check->sim);

    for (struct layer_job *w = state->jobs; w; w = w->next) {
        if (w->status != JOB_STATUS_CONCLUDED && w->settled != now) {
            look(state, w, 0, INT64_MAX);
            w->settled = now;
        }
    }
}

static void *attach(struct check *check)
{
    struct commit_view *state = (struct commit_view *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));
    static const struct check_subscription subscriptions[] = {
        {EV_JOB_STATUS_CHANGE, on_status}, {EV_BLOCK_JOB_COMPLETED, on_end}, {EV_BLOCK_JOB_CANCELLED, on_end},
        {EV_job_sleep, on_sleep},          {EV_mirror_op_end, on_op_end},    {EV_node_resize, on_resize},
        {EV_host_crash, on_crash},         {EV_guest_detach, on_detach},
    };

    state->check = check;
    layer_beside_attach(state);
    check_subscribe(check->sim, subscriptions, ARRAY_SIZE(subscriptions), state);
    return state;
}

const struct check_class check_commit_view = {
    .name = "commit-view",
    .doc =
        "no view from above changes by a commit or a stream, but for what guests write; chains, headers and base "
        "end as documented",
    .rules = "view-changed: while such a job ran, or when it ended, somebody above its layers saw other content\n"
             "base-length: a commit's base became shorter, or ended shorter than what was committed into it\n"
             "base-tail: a commit changed its base beyond the end of what was committed\n"
             "chain: after a success an image has another backing node than documented\n"
             "header: after a success an image's header names another backing file or format than documented\n",
    .attach = attach,
    .at_settled = at_settled,
};
