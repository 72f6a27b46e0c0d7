/*
 * What must and what may be on the media when the power fails; the rules are in the header.
 */
#include <string.h>

#include "check/guest_ids.h"
#include "check/power_data.h"

#define CELLS_OF_A_WRITE_MAX ((int64_t)4 * MiB) /* longer ones change cells, but make none */
#define LOG_MAX 8192

/* --- cells ------------------------------------------------------------------------------------------------ */

static uint32_t slot_of(const struct power_image *image, int64_t page)
{
    uint32_t i = (uint32_t)sim_mix64((uint64_t)page) & (image->slot_room - 1);

    while (image->slots[i] && image->cells[image->slots[i] - 1].page != page) {
        i = (i + 1) & (image->slot_room - 1);
    }
    return i;
}

struct power_cell *power_cell_find(const struct power_image *image, int64_t page)
{
    uint32_t number = image->slot_room ? image->slots[slot_of(image, page)] : 0;

    return number ? &image->cells[number - 1] : NULL;
}

static void free_cells(struct sim_arena *arena, struct power_image *image)
{
    SIM_FREE_N(arena, check_cell, image->cells, struct power_cell, image->cell_room);
    SIM_FREE_N(arena, check_cell, image->slots, uint32_t, image->slot_room);
}

static void grow_cells(struct sim_arena *arena, struct power_image *image)
{
    uint32_t room = MAX(image->cell_room * 2, 64u);
    struct power_cell *cells = SIM_NEW_N(arena, check_cell, struct power_cell, room);

    if (image->cell_count) {
        memcpy(cells, image->cells, image->cell_count * sizeof(*cells));
    }
    free_cells(arena, image);
    image->cells = cells;
    image->cell_room = room;
    image->slot_room = room * 2;
    image->slots = SIM_NEW_N(arena, check_cell, uint32_t, image->slot_room);
    for (uint32_t i = 0; i < image->cell_count; i++) {
        image->slots[slot_of(image, cells[i].page)] = i + 1;
    }
}

static void make_cell(struct sim_arena *arena, struct power_image *image, int64_t page)
{
    if (power_cell_find(image, page)) {
        return;
    }
    if (image->cell_count == image->cell_room) {
        grow_cells(arena, image);
    }
    image->cells[image->cell_count] = (struct power_cell){.page = page};
    image->cell_count++;
    image->slots[slot_of(image, page)] = image->cell_count;
}

/* --- the log ---------------------------------------------------------------------------------------------- */

static void free_write(struct power_data *state, struct power_write *w)
{
    SIM_FREE_N(state->check->arena, check_cell, w->ids, uint64_t, w->bytes / SIM_SECTOR_BYTES);
    sim_free(state->check->arena, SIM_TYPE_check_cell, w, sizeof(*w));
}

/* Takes out those that fn wants gone. */
static void sift(struct power_data *state, struct power_image *image,
                 bool (*fn)(struct power_image *image, struct power_write *w, uint64_t arg), uint64_t arg)
{
    struct power_write **at = &image->first;

    image->last = NULL;
    while (*at) {
        struct power_write *w = *at;

        if (fn(image, w, arg)) {
            *at = w->next;
            free_write(state, w);
        } else {
            image->last = w;
            at = &w->next;
        }
    }
}

/* The sectors of a cell that a write touches: [*first, *end). */
static bool sectors_of(const struct power_write *w, int64_t page, unsigned *first, unsigned *end)
{
    int64_t base = page * SIM_PAGE_BYTES;
    int64_t from = MAX(w->offset, base);
    int64_t to = MIN(w->offset + w->bytes, base + SIM_PAGE_BYTES);

    if (from >= to) {
        return false;
    }
    *first = (unsigned)((from - base) / SIM_SECTOR_BYTES);
    *end = (unsigned)((to - base) / SIM_SECTOR_BYTES);
    return true;
}

static bool tells(const struct power_write *w)
{
    return w->ok && !w->vague && (w->op == SIM_OP_WRITE_ZEROES || (w->op == SIM_OP_WRITE && w->ids));
}

bool power_write_is_replaced(const struct power_write *w, const struct power_cell *cell, unsigned sector)
{
    SIM_ASSERT(sector < PAGE_SECTORS);
    return w->end != 0 && w->end < cell->begun[sector];
}

static void fold_cell(struct power_cell *cell, const struct power_write *w)
{
    unsigned first, end;

    if (!sectors_of(w, cell->page, &first, &end)) {
        return;
    }
    for (unsigned s = first; s < end; s++) {
        int64_t sector = cell->page * PAGE_SECTORS + s - w->offset / SIM_SECTOR_BYTES;
        bool sure = tells(w) && cell->newest[s] < w->start;

        if (power_write_is_replaced(w, cell, s)) {
            continue;
        }
        cell->known = (uint8_t)(sure ? cell->known | 1u << s : cell->known & ~(1u << s));
        cell->id[s] = sure && w->ids ? w->ids[sector] : sim_sector_id_zero();
        cell->newest[s] = MAX(cell->newest[s], w->end);
        cell->begun[s] = sure ? w->start : cell->begun[s];
    }
}

static void fold(struct power_image *image, const struct power_write *w)
{
    int64_t first = w->offset / SIM_PAGE_BYTES;
    int64_t end = DIV_ROUND_UP(w->offset + w->bytes, SIM_PAGE_BYTES);

    if (end - first > image->cell_count) {
        for (uint32_t i = 0; i < image->cell_count; i++) {
            fold_cell(&image->cells[i], w);
        }
        return;
    }
    for (int64_t page = first; page < end; page++) {
        struct power_cell *cell = power_cell_find(image, page);

        if (cell) {
            fold_cell(cell, w);
        }
    }
}

/* What was over when a flush began, and what made its own promise, is what the medium holds from now on. */
static bool fold_if_stable(struct power_image *image, struct power_write *w, uint64_t flushed)
{
    if (w->end && (w->stable || w->end < flushed)) {
        fold(image, w);
        return true;
    }
    return false;
}

static bool fold_if_over(struct power_image *image, struct power_write *w, uint64_t now)
{
    if (w->end) {
        w->vague = true; /* there or not */
        fold(image, w);
    }
    return w->end != 0;
}

static bool drop_if_over(struct power_image *image, struct power_write *w, uint64_t now)
{
    w->vague = true;
    return w->end != 0;
}

/* Something else wrote there: all is unknown, and stays so where a request is under way. */
static void forget(struct power_data *state, struct power_image *image)
{
    sift(state, image, drop_if_over, 0);
    for (uint32_t i = 0; i < image->cell_count; i++) {
        image->cells[i].known = 0;
    }
}

static void forget_all(void *opaque, const struct sim_record *record)
{
    struct power_data *state = opaque;

    for (struct power_image *image = state->images; image; image = image->next) {
        forget(state, image);
    }
}

static bool always(struct power_image *image, struct power_write *w, uint64_t arg)
{
    return true;
}

void power_image_settled(struct power_data *state, struct power_image *image)
{
    sift(state, image, always, 0);
    ranges_free(&image->written);
    image->lost = false;
}

/* --- guests ----------------------------------------------------------------------------------------------- */

/* The medium at the guest's own offsets, and the node that maps it; NULL: none, or a power loss cannot come. */
static struct disk *medium_below(const struct guest *guest, const BlockDriverState **mapper)
{
    const BlockDriverState *bs = blk_bs(guest_blk(guest));
    struct disk *disk = NULL;

    *mapper = NULL;
    for (const BlockDriverState *at = bs; at && !*mapper; at = check_passes_to(at)) {
        *mapper = strcmp(bdrv_driver_name(at), "qcow2") == 0 ? at : NULL;
    }
    if (*mapper) {
        const BlockDriverState *file = bdrv_primary_bs(*mapper);

        disk = file ? check_disk_below(file) : NULL;
    } else if (bs) {
        *mapper = bs;
        disk = check_disk_below(bs);
    }
    return disk && disk_has_journal(disk) ? disk : NULL;
}

/* Where a qcow2 image keeps its guest's data; NULL: in itself. */
static const struct disk *data_disk(const BlockDriverState *bs)
{
    const BdrvChild *edge = bdrv_first_child(bs);

    while (edge && strcmp(bdrv_child_name(edge), "data-file") != 0) {
        edge = bdrv_next_child(edge);
    }
    return edge ? check_disk_below(bdrv_child_bs(edge)) : NULL;
}

static struct power_image *image_of_disk(const struct power_data *state, const struct disk *disk)
{
    struct power_image *image = state->images;

    while (image && image->disk != disk) {
        image = image->next;
    }
    return image;
}

static struct power_image *image_of(struct power_data *state, const struct guest *guest)
{
    const BlockDriverState *bs;
    struct disk *disk = medium_below(guest, &bs);
    struct power_image *image = disk ? image_of_disk(state, disk) : NULL;
    bool qcow2 = disk && strcmp(bdrv_driver_name(bs), "qcow2") == 0;

    if (!disk) {
        return NULL;
    }
    if (!image) {
        image = (struct power_image *)sim_alloc(state->check->arena, SIM_TYPE_check_state, sizeof(*image));
        image->disk = disk;
        image->qcow2 = qcow2;
        ranges_init(state->check->arena, &image->written);
        image->next = state->images;
        state->images = image;
    }
    if (image->qcow2 != qcow2) { /* the same bytes, seen in another way */
        forget(state, image);
        image->qcow2 = qcow2;
    }
    image->bs = bs;
    image->data = qcow2 ? data_disk(bs) : NULL;
    return image;
}

static bool knows_guest(const struct power_image *image, const struct sim_name *name)
{
    for (unsigned i = 0; i < POWER_GUESTS; i++) {
        if (image->guests[i] == name) {
            return true;
        }
    }
    return false;
}

static void note_guest(struct power_image *image, const struct sim_name *name)
{
    if (!knows_guest(image, name)) {
        memmove(&image->guests[1], &image->guests[0], (POWER_GUESTS - 1) * sizeof(image->guests[0]));
        image->guests[0] = name;
    }
}

static void take_ids(struct power_data *state, struct power_write *w, const struct payload *data)
{
    int64_t sectors = w->bytes / SIM_SECTOR_BYTES;
    struct id_iter iter;

    w->content = payload_content_id(data);
    w->ids = SIM_NEW_N(state->check->arena, check_cell, uint64_t, sectors);
    id_seek(&iter, data, 0);
    for (int64_t i = 0; i < sectors; i++) {
        w->ids[i] = id_next(&iter);
    }
}

static void on_guest_submit(void *opaque, const struct sim_record *record)
{
    struct power_data *state = opaque;
    const struct guest_req *req = record->ref;
    const struct flight *f = check_flight_find(check_boundary(state->check), req);
    struct power_image *image = f && check_op_writes(f->op) && f->bytes ? image_of(state, f->guest) : NULL;
    struct power_write *w;

    if (!image) {
        return;
    }
    note_guest(image, guest_name(f->guest));
    w = (struct power_write *)sim_alloc(state->check->arena, SIM_TYPE_check_cell, sizeof(*w));
    *w = (struct power_write){.req = req, .op = f->op, .offset = f->offset, .bytes = f->bytes, .start = f->start};
    *(image->last ? &image->last->next : &image->first) = w;
    image->last = w;
    if (f->bytes > CELLS_OF_A_WRITE_MAX) {
        w->vague = w->op == SIM_OP_WRITE;
    } else if (f->op != SIM_OP_DISCARD) {
        for (int64_t at = ROUND_DOWN(f->offset, SIM_PAGE_BYTES); at < f->offset + f->bytes; at += SIM_PAGE_BYTES) {
            make_cell(state->check->arena, image, at / SIM_PAGE_BYTES);
        }
        if (f->op == SIM_OP_WRITE) {
            take_ids(state, w, &req->data);
        }
    }
}

/* Nodes without flushes promise nothing (reference/block.md 2.9). */
static bool promises(const struct guest *guest)
{
    const BlockDriverState *bs = blk_bs(guest_blk(guest));

    while (bs && !(bdrv_open_flags(bs) & BDRV_O_NO_FLUSH)) {
        bs = bdrv_primary_bs(bs);
    }
    return bs == NULL;
}

static void flushed(struct power_data *state, const struct flight *f)
{
    const BlockDriverState *bs;
    const struct disk *disk = medium_below(f->guest, &bs);
    struct power_image *image = disk ? image_of_disk(state, disk) : NULL;

    if (image && image->bs == bs && f->req->ret >= 0 && !f->req->ignored && promises(f->guest)) {
        sift(state, image, fold_if_stable, f->start);
    }
}

/* A request that came to an image by surprise, at some time since its start: nobody knows what of it is there. */
static void came(struct power_data *state, struct power_image *image, const struct flight *f, uint64_t now)
{
    struct power_write *w = (struct power_write *)sim_alloc(state->check->arena, SIM_TYPE_check_cell, sizeof(*w));

    *w = (struct power_write){.op = f->op, .offset = f->offset, .bytes = f->bytes, .start = f->start, .end = now};
    w->vague = true;
    *(image->last ? &image->last->next : &image->first) = w;
    image->last = w;
}

/* The guest has moved to another medium meanwhile, with what was on its way: the request may have come to either.
 */
static void moved(struct power_data *state, struct power_write *w, const struct flight *f, uint64_t now)
{
    struct power_image *image = image_of(state, f->guest);

    w->vague = true;
    if (image) {
        came(state, image, f, now);
    }
}

static void over(struct power_data *state, struct power_image *image, struct power_write *w, const struct flight *f,
                 uint64_t now)
{
    const struct guest_req *req = f->req;
    bool through = !guest_get_config(f->guest)->write_cache || (req->flags & BDRV_REQ_FUA);
    const BlockDriverState *bs;

    w->req = NULL;
    w->end = now;
    if (medium_below(f->guest, &bs) != image->disk) {
        moved(state, w, f, now);
        return;
    }
    if (req->ret >= 0 && !req->ignored && image->bs &&
        w->op != SIM_OP_DISCARD) { /* a discard may be ignored (2.3) */
        ranges_add(&image->written, w->offset, w->offset + w->bytes);
    }
    w->ok = req->ret >= 0 && !req->ignored;
    w->vague |= w->ids && payload_content_id(&req->data) != w->content; /* its buffer changed under way */
    w->stable = w->ok && through && w->op != SIM_OP_DISCARD && promises(f->guest);
    if (w->stable) {
        sift(state, image, fold_if_stable, 0);
    }
}

static void on_guest_complete(void *opaque, const struct sim_record *record)
{
    struct power_data *state = opaque;
    const struct flight *f = check_flight_find(check_boundary(state->check), record->ref);

    if (!f || f->op == SIM_OP_READ) {
        return;
    }
    if (f->op == SIM_OP_FLUSH) {
        flushed(state, f);
        return;
    }
    for (struct power_image *image = state->images; image; image = image->next) {
        unsigned count = 0;

        for (struct power_write *w = image->first; w; w = w->next, count++) {
            if (w->req == f->req) {
                over(state, image, w, f, record->number);
                return;
            }
        }
        if (count > LOG_MAX) {
            sift(state, image, fold_if_over, 0);
        }
    }
    /* It began above something that is no single medium (a quorum), and has ended on one. */
    const BlockDriverState *bs;
    struct disk *disk = check_op_writes(f->op) && f->bytes ? medium_below(f->guest, &bs) : NULL;
    struct power_image *image = disk ? image_of_disk(state, disk) : NULL;
    if (image) {
        came(state, image, f, record->number);
    }
}

/* --- everything else -------------------------------------------------------------------------------------- */

/* The requests of a dead host are over, and nobody says how. */
static void on_crash(void *opaque, const struct sim_record *record)
{
    struct power_data *state = opaque;

    for (struct power_image *image = state->images; image; image = image->next) {
        image->bs = NULL;
        for (struct power_write *w = image->first; w; w = w->next) {
            if (w->req && guest_host(w->req->guest) == record->ref) {
                w->req = NULL;
                w->end = record->number;
            }
        }
    }
}

static void on_power_loss(void *opaque, const struct sim_record *record)
{
    struct power_data *state = opaque;
    struct power_image *image = image_of_disk(state, record->ref);

    if (image) {
        image->lost = true;
        state->lost = true;
    }
}

static void on_disk_complete(void *opaque, const struct sim_record *record)
{
    struct power_data *state = opaque;
    const struct disk_req *req = record->ref;
    struct power_image *image = req ? state->images : NULL;

    while (image && image->disk != req->disk && image->data != req->disk) {
        image = image->next;
    }
    if (!image || !(check_op_writes(req->op) || req->op == SIM_OP_TRUNCATE)) {
        return;
    }
    if (req->origin.kind == SIM_ORIGIN_JOB ||
        (req->origin.kind == SIM_ORIGIN_GUEST && !knows_guest(image, req->origin.name)) ||
        (req->op == SIM_OP_TRUNCATE && req->disk == image->disk && disk_length(req->disk) == 0)) {
        forget(state, image);
    }
}

/* A step is about to give the image another content or size. */
static void on_image_change(void *opaque, const struct sim_record *record)
{
    struct power_data *state = opaque;
    struct disk *disk = disk_find(state->check->sim, sim_record_str(record, 0));
    struct power_image *image = disk ? image_of_disk(state, disk) : NULL;

    if (image) {
        forget(state, image);
        ranges_free(&image->written);
    }
}

static void forget_written(void *opaque, const struct sim_record *record)
{
    struct power_data *state = opaque;

    for (struct power_image *image = state->images; image; image = image->next) {
        ranges_free(&image->written);
    }
}

/* What lies behind the end comes and goes; bitmaps begin, end, and lose bits. */
static void on_command(void *opaque, const struct sim_record *record)
{
    const char *name = sim_record_str(record, 0);

    if (strcmp(name, "block_resize") == 0) {
        forget_all(opaque, record);
    }
    if (strncmp(name, "block-dirty-bitmap", strlen("block-dirty-bitmap")) == 0 ||
        strcmp(name, "transaction") == 0) {
        forget_written(opaque, record);
    }
}

/* Closing and reopening read-only store bitmaps. */
static void on_node_change(void *opaque, const struct sim_record *record)
{
    struct power_data *state = opaque;

    for (struct power_image *image = state->images; image; image = image->next) {
        if (image->bs == record->ref) {
            if (record->kind == EV_node_close) {
                image->bs = NULL;
            } else {
                forget(state, image); /* another window, perhaps */
            }
            ranges_free(&image->written);
        }
    }
}

/* The first sign of life after the loss; media have all lost their power by then, and nobody has written. */
static void on_life(void *opaque, const struct sim_record *record)
{
    struct power_data *state = opaque;

    if (state->lost) {
        power_verdict(state);
    }
}

void power_data_attach(struct check *check, struct power_data *state)
{
    static const struct check_subscription table[] = {
        {EV_step, on_life},
        {EV_node_open, on_life},
        {EV_disk_submit, on_life},
        {EV_guest_submit, on_guest_submit},
        {EV_guest_complete, on_guest_complete},
        {EV_host_crash, on_crash},
        {EV_power_loss, on_power_loss},
        {EV_disk_complete, on_disk_complete},
        {EV_qmp_command, on_command},
        {EV_qmp_reply, on_command},             /* and between the two */
        {EV_JOB_STATUS_CHANGE, forget_written}, /* as bitmaps of jobs do */
        {EV_node_close, on_node_change},
        {EV_node_reopen, on_node_change},
        {EV_image_change, on_image_change},
    };

    state->check = check;
    check_subscribe(check->sim, table, ARRAY_SIZE(table), state);
}
