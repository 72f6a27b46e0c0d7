/*
 * Streams of guest requests: drawn ones (workload ops=...) and recorded ones (workload iolog=...).
 *
 * A workload keeps up to `depth` requests going. Request n draws what it does from (step, n), so taking a step out
 * of the scenario changes no other stream. Writes carry stamps.
 */
#include "scenario/iolog.h"
#include "scenario/runner_int.h"

#include <stdlib.h>
#include <string.h>

enum wl_profile { WL_UNIFORM, WL_HOT, WL_SEQUENTIAL, WL_EDGES };

#define WL_MAX_DEPTH 256
#define WL_HOT_AREAS 8

struct wl_slot {
    struct guest_req req;
    struct workload *wl;
    struct sim_timer think;
    bool busy;
};

struct workload {
    struct runner *runner;
    struct guest *guest;
    uint64_t entity;
    uint64_t issued, finished, total;
    unsigned depth;
    unsigned active;
    enum wl_profile profile;
    uint64_t weight[5]; /* read write zero discard flush */
    int64_t min_bytes, max_bytes, align_bytes;
    int64_t area_offset, area_bytes;
    int64_t think_ns;
    int64_t next_offset; /* sequential */
    struct iolog *iolog;
    int64_t start_ns;
    bool waited; /* the step waits for the end */
    struct wl_slot *slots;
    LIST_ENTRY(workload) list;
};

static struct sim_arena *arena_of(const struct workload *wl)
{
    return sim_check_arena(wl->runner->sim);
}

static uint64_t draw(struct workload *wl, uint64_t number, uint64_t n)
{
    return sim_draw(wl->runner->sim, SITE_workload, sim_mix2(wl->entity, number), n);
}

/* --- what request n is ------------------------------------------------------------------------------------ */

static enum sim_op draw_op(struct workload *wl, uint64_t number)
{
    static const enum sim_op ops[5] = {SIM_OP_READ, SIM_OP_WRITE, SIM_OP_WRITE_ZEROES, SIM_OP_DISCARD,
                                       SIM_OP_FLUSH};
    uint64_t sum = 0;
    uint64_t pick;

    for (unsigned i = 0; i < 5; i++) {
        sum += wl->weight[i];
    }
    if (!sum) {
        return SIM_OP_FLUSH;
    }
    pick = draw(wl, number, sum);
    for (unsigned i = 0; i < 5; i++) {
        if (pick < wl->weight[i]) {
            return ops[i];
        }
        pick -= wl->weight[i];
    }
    return SIM_OP_FLUSH;
}

/* Offset in units of align within `units` of them, room for `length` units. */
static int64_t draw_place(struct workload *wl, uint64_t number, int64_t units, int64_t length)
{
    uint64_t room = (uint64_t)(units - length + 1);
    uint64_t kind;

    switch (wl->profile) {
    case WL_HOT:
        kind = draw(wl, number, 5);
        if (kind) { /* four of five into a few hot areas at the front */
            return (int64_t)draw(wl, number, MIN(room, (uint64_t)WL_HOT_AREAS * (uint64_t)length));
        }
        return (int64_t)draw(wl, number, room);
    case WL_SEQUENTIAL: {
        int64_t at = wl->next_offset + length <= units ? wl->next_offset : 0;

        wl->next_offset = at + length;
        return at;
    }
    case WL_EDGES:
        kind = draw(wl, number, 3);
        if (kind == 0) {
            return 0;
        }
        return kind == 1 ? units - length : (int64_t)draw(wl, number, room);
    case WL_UNIFORM:
    default:
        return (int64_t)draw(wl, number, room);
    }
}

static void draw_request(struct workload *wl, struct guest_req *req, uint64_t number)
{
    int64_t length = blk_getlength(guest_blk(wl->guest));
    int64_t area = MIN(wl->area_bytes, length - wl->area_offset);
    int64_t units = area > 0 ? area / wl->align_bytes : 0;
    int64_t low = MAX(wl->min_bytes / wl->align_bytes, 1);
    int64_t high = MIN(MAX(wl->max_bytes / wl->align_bytes, low), units);
    int64_t count;

    req->op = draw_op(wl, number);
    if (units <= 0) {
        req->op = SIM_OP_FLUSH;
    }
    if (req->op == SIM_OP_FLUSH) {
        return;
    }
    low = MIN(low, high);
    count = low + (int64_t)draw(wl, number, (uint64_t)(high - low + 1));
    req->bytes = count * wl->align_bytes;
    req->offset = wl->area_offset + draw_place(wl, number, units, count) * wl->align_bytes;
    if (req->op == SIM_OP_WRITE_ZEROES && draw(wl, number, 2)) {
        req->flags |= BDRV_REQ_MAY_UNMAP;
    }
    if (req->op == SIM_OP_WRITE && draw(wl, number, 16) == 15) {
        req->flags |= BDRV_REQ_FUA;
    }
}

static void recorded_request(struct workload *wl, struct guest_req *req, uint64_t number)
{
    const struct iolog_entry *entry = &wl->iolog->entries[number - 1];

    req->op = entry->op;
    req->offset = entry->offset;
    req->bytes = entry->bytes;
}

/* --- going ------------------------------------------------------------------------------------------------ */

static void issue(struct wl_slot *slot);

static void end_workload(struct workload *wl)
{
    struct runner *runner = wl->runner;
    size_t size = sizeof(struct wl_slot) * wl->depth;

    LIST_REMOVE(wl, list);
    iolog_free(wl->iolog);
    sim_free(arena_of(wl), SIM_TYPE_workload, wl->slots, size);
    sim_free(arena_of(wl), SIM_TYPE_workload, wl, sizeof(*wl));
    runner_stream_ended(runner);
}

static void request_done(struct guest_req *req)
{
    struct wl_slot *slot = req->opaque;
    struct workload *wl = slot->wl;

    guest_req_clear(req);
    slot->busy = false;
    wl->active--;
    wl->finished++;
    if (wl->finished == wl->total) {
        end_workload(wl);
        return;
    }
    if (wl->issued == wl->total) {
        return;
    }
    issue(slot);
}

static void submit(struct wl_slot *slot, uint64_t number)
{
    struct workload *wl = slot->wl;
    struct guest_req *req = &slot->req;

    guest_req_init(wl->runner->host, req);
    req->entity = sim_mix2(wl->entity, number);
    req->number = number;
    req->done = request_done;
    req->opaque = slot;
    if (wl->iolog) {
        recorded_request(wl, req, number);
    } else {
        draw_request(wl, req, number);
    }
    if (req->op == SIM_OP_WRITE) {
        runner_stamp(wl->runner, &req->data, req->offset, req->bytes);
    }
    guest_submit(wl->guest, req);
}

static void thought(void *opaque)
{
    struct wl_slot *slot = opaque;

    submit(slot, slot->req.number);
}

/* When request `number` is due: its recorded time, or a drawn think time of 0 to twice the mean. */
static int64_t due_ns(struct workload *wl, uint64_t number)
{
    int64_t now = sim_now(wl->runner->sim);

    if (wl->iolog) {
        int64_t at = wl->start_ns + wl->iolog->entries[number - 1].time_ns;

        return MAX(at, now);
    }
    return wl->think_ns ? now + (int64_t)draw(wl, number, (uint64_t)wl->think_ns * 2 + 1) : now;
}

static void issue(struct wl_slot *slot)
{
    struct workload *wl = slot->wl;
    uint64_t number = ++wl->issued;
    int64_t due = due_ns(wl, number);

    SIM_ASSERT(!slot->busy);
    slot->busy = true;
    wl->active++;
    if (due == sim_now(wl->runner->sim)) {
        submit(slot, number);
        return;
    }
    slot->req.number = number;
    sim_timer_init(&slot->think, thought, slot);
    sim_timer_arm(wl->runner->sim, &slot->think, due, sim_mix2(wl->entity, number));
}

/* --- the step --------------------------------------------------------------------------------------------- */

static void read_arguments(struct workload *wl, const struct scn_step *step)
{
    static const char *const profiles[] = {"uniform", "hot", "sequential", "edges"};
    static const char *const names[5] = {"read", "write", "zero", "discard", "flush"};
    static const int64_t defaults[5] = {20, 70, 3, 2, 5};
    const char *profile = step_str(step, "profile", "uniform");
    int64_t block = guest_get_config(wl->guest)->logical_block_bytes;

    for (unsigned i = 0; i < ARRAY_SIZE(profiles); i++) {
        if (strcmp(profile, profiles[i]) == 0) {
            wl->profile = (enum wl_profile)i;
        }
    }
    for (unsigned i = 0; i < 5; i++) {
        wl->weight[i] = (uint64_t)step_int(step, names[i], defaults[i]);
    }
    wl->total = (uint64_t)step_int(step, "ops", 100);
    wl->depth = (unsigned)MIN(MAX(step_int(step, "depth", 4), 1), WL_MAX_DEPTH);
    wl->align_bytes = MAX(ROUND_UP(step_int(step, "align", block), block), block);
    wl->min_bytes = step_int(step, "min", 4 * KiB);
    wl->max_bytes = step_int(step, "max", 64 * KiB);
    wl->area_offset = ROUND_UP(step_int(step, "offset", 0), wl->align_bytes);
    wl->area_bytes = step_int(step, "length", INT64_MAX);
    wl->think_ns = step_int(step, "think", 0);
    wl->waited = step_bool(step, "wait", false);
}

static bool load_iolog(struct workload *wl, const struct scn_step *step)
{
    char *path = runner_path(wl->runner, step_str(step, "iolog", ""));
    Error *err = NULL;

    wl->iolog = iolog_load(path, &err);
    free(path);
    if (!wl->iolog) {
        runner_expect_failed(wl->runner, step, "iolog", "%s", error_get_pretty(err));
        error_free(err);
        return false;
    }
    wl->total = wl->iolog->count;
    return true;
}

static void start(struct workload *wl)
{
    struct runner *runner = wl->runner;
    uint64_t first = MIN(wl->depth, wl->total);

    wl->start_ns = sim_now(runner->sim);
    wl->slots = sim_alloc(arena_of(wl), SIM_TYPE_workload, sizeof(struct wl_slot) * wl->depth);
    for (unsigned i = 0; i < wl->depth; i++) {
        wl->slots[i].wl = wl;
        wl->slots[i].think.heap_index = -1;
    }
    LIST_INSERT_HEAD(&runner->workloads, wl, list);
    runner->outstanding++;
    for (unsigned i = 0; i < first; i++) {
        issue(&wl->slots[i]);
    }
}

void scn_run_workload(struct runner *runner, const struct scn_step *step)
{
    struct guest *guest = runner_guest(runner, step);
    struct workload *wl;
    bool waited;

    if (!guest) {
        return;
    }
    wl = sim_alloc(sim_check_arena(runner->sim), SIM_TYPE_workload, sizeof(*wl));
    wl->runner = runner;
    wl->guest = guest;
    wl->entity = runner_step_entity(runner, step);
    read_arguments(wl, step);
    if ((step_has(step, "iolog") && !load_iolog(wl, step)) || !wl->total) {
        sim_free(arena_of(wl), SIM_TYPE_workload, wl, sizeof(*wl));
        return;
    }
    waited = wl->waited;
    start(wl);
    if (waited) {
        runner_wait_guest(runner, guest);
    }
}

bool runner_guest_has_workload(struct runner *runner, const struct guest *guest)
{
    struct workload *wl;

    LIST_FOREACH(wl, &runner->workloads, list)
    {
        if (wl->guest == guest) {
            return true;
        }
    }
    return false;
}

void runner_end_workloads(struct runner *runner)
{
    struct workload *wl;

    LIST_FOREACH(wl, &runner->workloads, list)
    {
        wl->total = wl->issued;
    }
}

void runner_forget_workloads(struct runner *runner)
{
    struct workload *wl;

    while ((wl = LIST_FIRST(&runner->workloads))) {
        for (unsigned i = 0; i < wl->depth; i++) {
            struct wl_slot *slot = &wl->slots[i];

            if (sim_timer_queued(&slot->think)) {
                sim_timer_disarm(runner->sim, &slot->think);
            } else if (slot->busy) {
                guest_req_clear(&slot->req);
            }
        }
        end_workload(wl);
    }
}
