/*
 * Mirrors that copy a part (reference/jobs.md 4.7: no backing is attached for them): a switch to the target changes
 * what they have not copied.
 */
#include <string.h>

#include "check/guest_view.h"
#include "jobs/mirror.h"

static void partial_remove(struct guest_view *state, struct partial **link)
{
    struct partial *p = *link;

    *link = p->next;
    ranges_free(&p->discarded);
    sim_free(state->check->arena, SIM_TYPE_check_state, p, sizeof(*p));
}

void guest_partial_crash(struct guest_view *state, const struct host *host)
{
    for (struct partial **link = &state->partials; *link;) {
        if ((*link)->host == host) {
            partial_remove(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

static struct partial **partial_find(struct guest_view *state, uint32_t host, const struct sim_name *id)
{
    struct partial **link = &state->partials;

    while (*link && !((*link)->host->number == host && (*link)->id == id)) {
        link = &(*link)->next;
    }
    return link;
}

static void partial_begin(struct guest_view *state, const Job *job, uint64_t start)
{
    struct partial **link = partial_find(state, job->host->number, job->id);

    if (!*link) {
        *link = (struct partial *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(**link));
        **link = (struct partial){.host = job->host,
                                  .id = job->id,
                                  .source = bdrv_node_sim_name(mirror_source(job)),
                                  .target = bdrv_node_sim_name(mirror_target(job))};
        ranges_init(state->check->arena, &(*link)->discarded);
    }
    (*link)->start = start;
}

static void on_status(void *opaque, const struct sim_record *record)
{
    struct guest_view *state = opaque;
    const Job *job = record->ref;
    const char *status = sim_record_str(record, 1);
    struct partial **link = partial_find(state, record->host, sim_record_name(record, 0));

    if (*link && strcmp(status, "null") == 0) {
        partial_remove(state, link);
    } else if (strcmp(status, "running") == 0 && !*link && job && block_job_is_mirror(job) && mirror_source(job) &&
               mirror_sync_mode(job) != MIRROR_SYNC_FULL) {
        partial_begin(state, job, record->number);
    }
}

static bool lies_below(const BlockDriverState *bs, const BlockDriverState *node)
{
    bool found = bs == node;

    for (const BdrvChild *edge = bs ? bdrv_first_child(bs) : NULL; edge && !found; edge = bdrv_next_child(edge)) {
        found = lies_below(bdrv_child_bs(edge), node);
    }
    return found;
}

void guest_partial_moved(struct guest_view *state, const BlockDriverState *node, uint64_t now)
{
    struct host *host = bdrv_host(node);

    for (const Job *job = host->jobs ? job_next(host, NULL) : NULL; job; job = job_next(host, job)) {
        if (block_job_is_mirror(job) && mirror_source(job) && mirror_target(job) &&
            (lies_below(mirror_source(job), node) || lies_below(mirror_target(job), node))) {
            partial_begin(state, job, now);
        }
    }
}

static bool sees(const struct view *view, const struct sim_name *node)
{
    BlockDriverState *bs = bdrv_find_node(view->host, node->str);

    return bs && guest_view_bs(view->guest) && check_through_filters(guest_view_bs(view->guest), bs);
}

/* A partial mirror copies what was written; of what was discarded it may know nothing. */
void guest_partial_note(struct guest_view *state, const struct view *view, const struct flight *flight)
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
                guest_model_forget_before(&view->model->model, 0, p->start);
                forget_discarded(view, p, record->number);
            }
        }
    }
}

void guest_partial_attach(struct guest_view *state)
{
    sim_subscribe(state->check->sim, EV_JOB_STATUS_CHANGE, on_status, state);
    sim_subscribe(state->check->sim, EV_edge_replace, on_replace, state);
}
