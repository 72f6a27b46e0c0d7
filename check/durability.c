/*
 * durability: what a guest was told is safe is safe (reference/block.md 2.8, 2.9).
 *
 * A completed write of a medium is durable once a flush that was submitted later has completed there. So the writes
 * of a medium are counted, and a flush covers all that were counted when it was submitted. A guest's write is owed
 * from its completion on; a flush that the guest submits afterwards may only be reported done when the medium has
 * flushed as far as that. A write with FUA, or of a guest without write cache, may itself only be reported done
 * then.
 *
 *     medium:  w1 w2 w3        flush(3)  done: durable = 3
 *     guest:   ..write.. done                 ..flush.. done: durable >= 3?
 *
 * Only the medium at the end of the chain of primary children is looked at, and only while the graph stays as it
 * is: of several children some may fail, and a switch has rules of its own (target-at-pivot).
 */
#include <inttypes.h>
#include <string.h>

#include "check/power_data.h"

struct medium {
    struct disk *disk;
    bool unsafe;      /* a node with cache.no-flush stood above it: its flushes counted as done, were none (2.9) */
    uint64_t done;    /* writes completed so far */
    uint64_t durable; /* that many of them, the oldest */
    struct medium *next;
};

struct media_flush {
    const struct disk_req *req;
    uint64_t point;
    struct media_flush *next;
};

/* Up to which write of a medium a guest's data lies there: of a request under way, of a flush, or, without one, of
 * all that was reported done. */
struct debt {
    const struct guest *guest;
    const struct guest_req *req;
    struct medium *medium;
    uint64_t number;
    struct debt *next;
};

struct durability {
    struct check *check;
    struct power_data power; /* what is on the media after a power loss */
    struct medium *media;
    struct media_flush *flushes;
    struct debt *debts;
};

/* --- media ------------------------------------------------------------------------------------------------- */

static struct medium *medium_of(struct durability *state, struct disk *disk)
{
    struct medium *m = state->media;

    while (m && m->disk != disk) {
        m = m->next;
    }
    if (!m) {
        m = (struct medium *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*m));
        m->disk = disk;
        m->next = state->media;
        state->media = m;
    }
    return m;
}

/* Where a flush goes on: of the two images of a blkverify only the tried one is flushed (reference/block.md 7.2).
 */
static const BlockDriverState *flushed_next(const BlockDriverState *bs)
{
    const BdrvChild *edge = bdrv_first_child(bs);

    if (strcmp(bdrv_driver_name(bs), "blkverify") != 0) {
        return bdrv_primary_bs(bs);
    }
    while (edge && strcmp(bdrv_child_name(edge), "test") != 0) {
        edge = bdrv_next_child(edge);
    }
    return edge ? bdrv_child_bs(edge) : NULL;
}

/* What the guest's flushes end on, if nothing on the way may drop one. */
static struct medium *medium_below(struct durability *state, const struct guest *guest)
{
    const BlockDriverState *bottom = NULL;
    bool unsafe = false;

    for (const BlockDriverState *bs = blk_bs(guest_blk(guest)); bs; bs = flushed_next(bs)) {
        unsafe |= (bdrv_open_flags(bs) & BDRV_O_NO_FLUSH) != 0;
        bottom = bs;
    }
    struct disk *disk = bottom && strcmp(bdrv_driver_name(bottom), "disk") == 0
                            ? disk_find(state->check->sim, bdrv_filename(bottom))
                            : NULL;
    if (!disk || !disk_get_config(disk)->volatile_cache) {
        return NULL;
    }
    struct medium *m = medium_of(state, disk);
    m->unsafe |= unsafe;
    return m->unsafe ? NULL : m;
}

/* --- debts ------------------------------------------------------------------------------------------------- */

static struct debt *debt_find(const struct durability *state, const struct guest *guest,
                              const struct guest_req *req, const struct medium *medium)
{
    struct debt *d = state->debts;

    while (d && !(d->guest == guest && d->req == req && d->medium == medium)) {
        d = d->next;
    }
    return d;
}

static void debt_raise(struct durability *state, const struct guest *guest, const struct guest_req *req,
                       struct medium *medium, uint64_t number)
{
    struct debt *d = debt_find(state, guest, req, medium);

    if (!d) {
        d = (struct debt *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*d));
        *d = (struct debt){guest, req, medium, 0, state->debts};
        state->debts = d;
    }
    d->number = MAX(d->number, number);
}

static void debt_remove(struct durability *state, struct debt **link)
{
    struct debt *d = *link;

    *link = d->next;
    sim_free(state->check->arena, SIM_TYPE_check_state, d, sizeof(*d));
}

static void forget_debts(struct durability *state)
{
    while (state->debts) {
        debt_remove(state, &state->debts);
    }
}

/* --- at the media -------------------------------------------------------------------------------------------- */

static const struct flight *flight_of(const struct durability *state, const struct disk_req *req)
{
    const struct flight *f = check_boundary(state->check)->first;

    while (f && !(check_op_writes(f->op) && f->req->entity == req->origin.number &&
                  guest_name(f->guest) == req->origin.name)) {
        f = f->next;
    }
    return f;
}

static void on_disk_submit(void *opaque, const struct sim_record *record)
{
    struct durability *state = opaque;
    const struct disk_req *req = record->ref;

    if (!req || req->op != SIM_OP_FLUSH) {
        return;
    }
    struct media_flush *flush =
        (struct media_flush *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*flush));
    *flush = (struct media_flush){req, medium_of(state, req->disk)->done, state->flushes};
    state->flushes = flush;
}

static void flush_done(struct durability *state, const struct disk_req *req)
{
    for (struct media_flush **link = &state->flushes; *link; link = &(*link)->next) {
        struct media_flush *flush = *link;

        if (flush->req == req) {
            struct medium *m = medium_of(state, req->disk);

            if (req->ret >= 0 && !req->lose) {
                m->durable = MAX(m->durable, flush->point);
            }
            *link = flush->next;
            sim_free(state->check->arena, SIM_TYPE_check_state, flush, sizeof(*flush));
            return;
        }
    }
}

static void on_disk_complete(void *opaque, const struct sim_record *record)
{
    struct durability *state = opaque;
    const struct disk_req *req = record->ref;

    if (!req) {
        return;
    }
    if (req->op == SIM_OP_FLUSH) {
        flush_done(state, req);
    } else if (check_op_writes(req->op) && req->ret >= 0 && !(req->flags & DISK_REQ_FUA)) {
        struct medium *m = medium_of(state, req->disk);

        m->done++;
        if (req->origin.kind == SIM_ORIGIN_GUEST) {
            const struct flight *f = flight_of(state, req);
            if (f) {
                debt_raise(state, f->guest, f->req, m, m->done);
            }
        }
    }
}

/* --- at the guests ---------------------------------------------------------------------------------------------
 */

static void violate(struct durability *state, const struct flight *f, const struct debt *d, const char *rule)
{
    struct violation_where where = {
        .host = check_host_name(f->host),
        .node = bdrv_get_node_name(blk_bs(guest_blk(f->guest))),
        .driver = bdrv_driver_name(blk_bs(guest_blk(f->guest))),
        .op = sim_op_name(f->op),
    };
    check_violate(state->check->set, "durability", rule, &where,
                  "guest %s: its %s was reported done; expected the first %" PRIu64
                  " writes of disk %s to be durable, which were there before; %" PRIu64 " are",
                  guest_name(f->guest)->str, sim_op_name(f->op), d->number, disk_name(d->medium->disk)->str,
                  d->medium->durable);
}

static void on_guest_submit(void *opaque, const struct sim_record *record)
{
    struct durability *state = opaque;
    const struct guest_req *req = record->ref;

    if (req->op != SIM_OP_FLUSH) {
        return;
    }
    struct medium *m = medium_below(state, req->guest);
    const struct debt *owed = m ? debt_find(state, req->guest, NULL, m) : NULL;
    if (owed) {
        debt_raise(state, req->guest, req, m, owed->number);
    }
}

/* Nodes that write what no guest has written: zeroes ahead (2.15), what a padded write's read finds below (4.3). */
static bool has_other_writes(const BlockDriverState *bs)
{
    while (bs && strcmp(bdrv_driver_name(bs), "preallocate") != 0 &&
           strcmp(bdrv_driver_name(bs), "copy-on-read") != 0) {
        bs = bdrv_primary_bs(bs);
    }
    return bs != NULL;
}

/* A debt of a request that has come back: true, if it had to be settled by now. */
static bool is_due(struct durability *state, const struct flight *f, const struct debt *d)
{
    if (f->req->ret < 0 || f->req->ignored || f->graph != check_boundary(state->check)->graph_changes ||
        medium_below(state, f->guest) != d->medium) {
        return false;
    }
    if (f->op != SIM_OP_FLUSH && has_other_writes(blk_bs(guest_blk(f->guest)))) {
        return false;
    }
    bool through = !guest_get_config(f->guest)->write_cache || (f->req->flags & BDRV_REQ_FUA);
    return f->op == SIM_OP_FLUSH || (through && f->op != SIM_OP_DISCARD);
}

static void on_guest_complete(void *opaque, const struct sim_record *record)
{
    struct durability *state = opaque;
    const struct guest_req *req = record->ref;
    const struct flight *f = check_flight_find(check_boundary(state->check), req);

    for (struct debt **link = &state->debts; *link;) {
        struct debt *d = *link;

        if (d->req != req) {
            link = &d->next;
            continue;
        }
        if (f && is_due(state, f, d) && d->medium->durable < d->number) {
            violate(state, f, d, f->op == SIM_OP_FLUSH ? "flush" : "fua");
        }
        struct debt was = *d;
        debt_remove(state, link);
        /* Without no-flush now: what was written under it counts as flushed by then (reference/block.md 2.9). */
        if (req->op != SIM_OP_FLUSH && req->ret >= 0 && medium_below(state, was.guest) == was.medium) {
            debt_raise(state, was.guest, NULL, was.medium, was.number);
            link = &state->debts;
        }
    }
}

/* --- what ends it all --------------------------------------------------------------------------------------------
 */

static void on_guest_detach(void *opaque, const struct sim_record *record)
{
    struct durability *state = opaque;

    for (struct debt **link = &state->debts; *link;) {
        if ((*link)->guest == record->ref) {
            debt_remove(state, link);
        } else {
            link = &(*link)->next;
        }
    }
}

/* Whoever closes a node flushes it without a promise, and who opens it again knows nothing of what was written. */
static void on_node_close(void *opaque, const struct sim_record *record)
{
    if (strcmp(sim_record_str(record, 1), "disk") == 0) {
        forget_debts(opaque);
    }
}

static void on_power_loss(void *opaque, const struct sim_record *record)
{
    struct durability *state = opaque;

    (void)record;
    forget_debts(state);
    while (state->flushes) {
        struct media_flush *flush = state->flushes;

        state->flushes = flush->next;
        sim_free(state->check->arena, SIM_TYPE_check_state, flush, sizeof(*flush));
    }
}

static void *attach(struct check *check)
{
    static const struct check_subscription table[] = {
        {EV_disk_submit, on_disk_submit},   {EV_disk_complete, on_disk_complete},
        {EV_guest_submit, on_guest_submit}, {EV_guest_complete, on_guest_complete},
        {EV_guest_detach, on_guest_detach}, {EV_node_close, on_node_close},
        {EV_power_loss, on_power_loss},     {EV_host_crash, on_power_loss},
    };
    struct durability *state = (struct durability *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*state));

    state->check = check;
    check_subscribe(check->sim, table, ARRAY_SIZE(table), state);
    power_data_attach(check, &state->power);
    return state;
}

static void at_settled(struct check *check, void *opaque, bool final)
{
    struct durability *state = opaque;

    if (state->power.lost) {
        power_verdict(&state->power);
    }
}

const struct check_class check_durability = {
    .name = "durability",
    .doc = "a flush, or a write with FUA, is reported done only when what it covers would survive a power loss; "
           "after one it is there, and the rest is old, new or torn, never foreign",
    .rules = "flush: a guest's flush came back, and a write that had been reported to it before is not durable\n"
             "fua: a write with FUA, or of a guest without write cache, came back and is not durable\n"
             "lost: after a power loss a sector holds neither what it held at the last flush nor a later write\n"
             "foreign: after a power loss a sector of an image holds what was written to another\n"
             "unreadable: after a power loss a part of an image cannot be read, written or flushed though it was\n"
             "bitmap: after a power loss a bitmap looks consistent and lacks a write\n",
    .attach = attach,
    .at_settled = at_settled,
};
