/* What survives: the journal of unflushed changes, flush, power loss, death of a host. */
#include "sim/disk_int.h"

void disk_tree_apply(struct disk_tree *tree, const struct disk_change *change)
{
    switch (change->op) {
    case SIM_OP_WRITE:
        tree_write(tree, change->offset, change->bytes, change->in, change->in_offset);
        return;
    case SIM_OP_WRITE_ZEROES:
        tree_write_zeroes(tree, change->offset, change->bytes, change->unmap);
        return;
    case SIM_OP_DISCARD:
        tree_discard(tree, change->offset, change->bytes);
        return;
    case SIM_OP_TRUNCATE:
        tree_truncate(tree, change->offset);
        return;
    default:
        SIM_ASSERT(!"an operation that changes content");
    }
}

/* --- journal -------------------------------------------------------------------------------------------- */

static void journal_add(struct disk *disk, struct disk_req *req, const struct disk_change *change)
{
    struct disk_journal *entry = sim_alloc_raw(sim_arena(disk->sim), SIM_TYPE_disk_journal, sizeof(*entry));

    SIM_ASSERT(req->journal == NULL);
    entry->next = NULL;
    entry->change = *change;
    entry->req = req;
    entry->entity = req->entity;
    entry->completed = 0;
    entry->durable = false;
    payload_init(disk->sim, &entry->data);
    if (change->op == SIM_OP_WRITE) {
        payload_append(&entry->data, change->in, change->in_offset, change->bytes);
        entry->change.in = &entry->data;
        entry->change.in_offset = 0;
    }
    if (disk->journal_last != NULL) {
        disk->journal_last->next = entry;
    } else {
        disk->journal_first = entry;
    }
    disk->journal_last = entry;
    disk->journal_count++;
    disk->journal_bytes += (uint64_t)change->bytes;
    req->journal = entry;
}

static void journal_pop(struct disk *disk)
{
    struct disk_journal *entry = disk->journal_first;

    SIM_ASSERT(disk->journal_count > 0);
    disk->journal_first = entry->next;
    if (entry->next == NULL) {
        disk->journal_last = NULL;
    }
    disk->journal_count--;
    disk->journal_bytes -= (uint64_t)entry->change.bytes;
    disk->journal_durable -= entry->durable;
    disk->unflushed -= entry->completed != 0 && !entry->durable;
    if (entry->req != NULL) {
        entry->req->journal = NULL;
    }
    payload_clear(&entry->data);
    SIM_FREE_N(sim_arena(disk->sim), disk_journal, entry, struct disk_journal, 1);
}

static void journal_clear(struct disk *disk)
{
    while (disk->journal_first != NULL) {
        journal_pop(disk);
    }
    SIM_ASSERT_EQ(disk->journal_bytes, 0);
    SIM_ASSERT_EQ(disk->unflushed, 0);
}

#define JOURNAL_SHARE_BYTES ((uint64_t)1 << 20)

/* Moves what is durable, and not behind something that is not, out of the journal into the durable content. With
 * nothing else left and much to move, sharing the nodes of the content is cheaper than moving. */
static void journal_drain(struct disk *disk)
{
    if (disk->journal_durable == disk->journal_count && disk->journal_bytes >= JOURNAL_SHARE_BYTES) {
        tree_drop(&disk->durable);
        tree_share(&disk->durable, &disk->tree);
        journal_clear(disk);
        return;
    }
    while (disk->journal_first != NULL && disk->journal_first->durable) {
        disk_tree_apply(&disk->durable, &disk->journal_first->change);
        journal_pop(disk);
    }
}

static void journal_make_durable(struct disk *disk, struct disk_journal *entry)
{
    SIM_ASSERT(entry->completed != 0 && !entry->durable);
    entry->durable = true;
    disk->journal_durable++;
    disk->unflushed--;
}

void disk_change_apply(struct disk *disk, struct disk_req *req, const struct disk_change *change)
{
    if (disk->journal_on) {
        journal_add(disk, req, change);
    }
    disk_tree_apply(&disk->tree, change);
}

void disk_journal_completed(struct disk *disk, struct disk_req *req)
{
    struct disk_journal *entry = req->journal;

    disk->completions++;
    if (entry == NULL) {
        return;
    }
    entry->completed = disk->completions;
    entry->req = NULL;
    req->journal = NULL;
    disk->unflushed++;
    if (!disk->config.volatile_cache || ((req->flags & DISK_REQ_FUA) != 0 && req->ret == 0)) {
        journal_make_durable(disk, entry);
        journal_drain(disk);
    }
}

void disk_journal_flush(struct disk *disk, uint64_t point)
{
    for (struct disk_journal *entry = disk->journal_first; entry != NULL; entry = entry->next) {
        if (entry->completed != 0 && entry->completed <= point && !entry->durable) {
            journal_make_durable(disk, entry);
        }
    }
    journal_drain(disk);
    if (disk->journal_durable > 0) {
        SIM_MARK(disk->sim, disk_flush_overtaken);
    }
}

uint64_t disk_unflushed(const struct disk *disk)
{
    return disk->unflushed;
}

void disk_set_journal(struct disk *disk, bool on)
{
    if (disk->journal_on == on) {
        return;
    }
    disk->journal_on = on;
    if (on) {
        tree_share(&disk->durable, &disk->tree);
    } else {
        journal_clear(disk);
        tree_drop(&disk->durable);
    }
}

bool disk_has_journal(const struct disk *disk)
{
    return disk->journal_on;
}

void disk_content_replace(struct disk *disk, struct disk_tree *tree)
{
    tree_drop(&disk->tree);
    disk->tree = *tree;
    if (disk->journal_on) {
        journal_clear(disk);
        tree_drop(&disk->durable);
        tree_share(&disk->durable, &disk->tree);
    }
}

void disk_peek_durable(const struct disk *disk, int64_t offset, int64_t bytes, struct payload *out)
{
    struct disk_tree tree;

    if (!disk->journal_on) {
        disk_peek(disk, offset, bytes, out);
        return;
    }
    if (disk->journal_durable == 0) {
        struct disk *own = (struct disk *)disk; /* making the pages of stamps changes their form only */

        tree_read(&own->durable, offset, bytes, out);
        return;
    }
    tree_share(&tree, &disk->durable);
    for (struct disk_journal *entry = disk->journal_first; entry != NULL; entry = entry->next) {
        if (entry->durable) {
            disk_tree_apply(&tree, &entry->change);
        }
    }
    tree_read(&tree, offset, bytes, out);
    tree_drop(&tree);
}

/* --- power loss ----------------------------------------------------------------------------------------- */

enum fate {
    FATE_LOST,
    FATE_KEPT,
    FATE_TORN_PREFIX,
    FATE_TORN_UNITS,
    FATE_COUNT,
};

static int64_t tear_unit(const struct disk *disk)
{
    return MAX(disk->config.atomic_bytes, disk->config.align_bytes);
}

/* Applies the part of a change in [from, to). */
static void apply_part(struct disk_tree *tree, const struct disk_change *change, int64_t from, int64_t to)
{
    struct disk_change part = *change;

    part.offset = MAX(change->offset, from);
    part.bytes = MIN(change->offset + change->bytes, to) - part.offset;
    part.in_offset += part.offset - change->offset;
    if (part.bytes > 0) {
        disk_tree_apply(tree, &part);
    }
}

#define TEAR_PIECES 64
#define TEAR_DRAW 16 /* pieces whose fate one choice decides */

/* Any subset of up to 64 pieces, each of whole atomic units. */
static void apply_scattered(struct disk *disk, struct disk_tree *tree, const struct disk_change *change,
                            uint64_t entity)
{
    int64_t unit = tear_unit(disk);
    int64_t first = ROUND_DOWN(change->offset, unit);
    int64_t end = change->offset + change->bytes;
    int64_t piece = ROUND_UP(DIV_ROUND_UP(end - first, TEAR_PIECES), unit);
    uint32_t kept = 0;

    for (unsigned i = 0; first < end; i++, first += piece) {
        if (i % TEAR_DRAW == 0) {
            kept = sim_choose(disk->sim, SITE_disk_power, entity, 1u << TEAR_DRAW);
        }
        if ((kept >> (i % TEAR_DRAW) & 1) != 0) {
            apply_part(tree, change, first, first + piece);
        }
    }
}

/* Draws what becomes of a change that is not durable and does it. False when nothing of it is kept. */
static bool apply_fate(struct disk *disk, struct disk_tree *tree, const struct disk_change *change, uint64_t entity,
                       enum disk_keep keep_what)
{
    int64_t unit = tear_unit(disk);
    int64_t first = ROUND_DOWN(change->offset, unit);
    int64_t units = DIV_ROUND_UP(change->offset + change->bytes - first, unit);
    bool tears = (change->op == SIM_OP_WRITE || change->op == SIM_OP_WRITE_ZEROES) && units > 1;
    enum fate fate = keep_what == DISK_KEEP_DRAWN
                         ? (enum fate)sim_choose(disk->sim, SITE_disk_power, entity, FATE_COUNT)
                     : keep_what == DISK_KEEP_ALL ? FATE_KEPT
                                                  : FATE_LOST;

    if (fate == FATE_LOST) {
        return false;
    }
    if (fate == FATE_KEPT || !tears) {
        disk_tree_apply(tree, change);
        return true;
    }
    SIM_MARK(disk->sim, disk_power_torn);
    if (fate == FATE_TORN_UNITS) {
        apply_scattered(disk, tree, change, entity);
        return true;
    }
    uint32_t choices = (uint32_t)MIN(units - 1, (int64_t)UINT32_MAX);
    int64_t keep = 1 + (int64_t)sim_choose(disk->sim, SITE_disk_power, entity, choices);
    apply_part(tree, change, first, first + keep * unit);
    return true;
}

void disk_power_loss(struct disk *disk)
{
    disk_power_loss_keeping(disk, DISK_KEEP_DRAWN);
}

void disk_power_loss_keeping(struct disk *disk, enum disk_keep keep)
{
    struct disk_tree tree;
    struct disk_change change;
    uint64_t candidates = 0;
    uint64_t kept = 0;

    tree_share(&tree, disk->journal_on ? &disk->durable : &disk->tree);
    for (struct disk_journal *entry = disk->journal_first; entry != NULL; entry = entry->next) {
        if (entry->durable) {
            disk_tree_apply(&tree, &entry->change);
        } else {
            candidates++;
            kept += apply_fate(disk, &tree, &entry->change, entry->entity, keep);
        }
    }
    while (disk->first != NULL) {
        struct disk_req *req = disk->first;
        if (disk_pending_change(disk, req, &change)) {
            candidates++;
            kept += apply_fate(disk, &tree, &change, req->entity, keep);
        }
        if (req->journal != NULL) {
            req->journal->req = NULL;
            req->journal = NULL;
        }
        disk_forget(disk, req);
    }
    disk_content_replace(disk, &tree);
    SIM_EMIT(disk->sim, NULL, power_loss, disk, SIM_P(disk->name), candidates, kept);
}

/* --- death of a host ------------------------------------------------------------------------------------ */

static void drop_requests_of(struct disk *disk, const struct host *host)
{
    struct disk_req *next;
    struct disk_change change;

    for (struct disk_req *req = disk->first; req != NULL; req = next) {
        next = req->next;
        if (req->host != host) {
            continue;
        }
        if (disk_pending_change(disk, req, &change) &&
            sim_choose(disk->sim, SITE_disk_crash, req->entity, 2) == 0) {
            disk_change_apply(disk, req, &change);
        }
        disk_journal_completed(disk, req);
        disk_forget(disk, req);
    }
    disk_serve_waiting(disk);
}

void disk_host_crashed(struct sim *sim, void *state, struct host *host)
{
    for (struct disk *disk = disk_first(sim); disk != NULL; disk = disk_next(disk)) {
        drop_requests_of(disk, host);
        disk_drop_locks(disk, host);
    }
}
