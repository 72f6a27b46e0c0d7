/*
 * The model of what a guest may see; the rules are in the header.
 */
#include "check/guest_model.h"

#include <string.h>

/* --- ids of a payload's sectors, in order ----------------------------------------------------------------- */

struct id_iter {
    const struct payload *p;
    int64_t sector; /* next one, for payloads whose sectors lie across page sectors */
    uint32_t elem;
    unsigned at;
};

static void id_seek(struct id_iter *iter, const struct payload *p, int64_t sector)
{
    int64_t skip = sector;

    *iter = (struct id_iter){.p = p, .sector = sector};
    if (p->head_bytes == 0) {
        while (iter->elem < p->count && skip >= p->elem[iter->elem].count) {
            skip -= p->elem[iter->elem++].count;
        }
        iter->at = (unsigned)skip;
    }
}

static uint64_t id_next(struct id_iter *iter)
{
    const struct payload_elem *elem;
    uint64_t id;

    if (iter->p->head_bytes != 0) {
        uint8_t bytes[SIM_SECTOR_BYTES];

        payload_read_bytes(iter->p, iter->sector++ * SIM_SECTOR_BYTES, bytes, sizeof(bytes));
        return sim_sector_id_bytes(bytes);
    }
    SIM_ASSERT_LT(iter->elem, iter->p->count);
    elem = &iter->p->elem[iter->elem];
    id = page_sector_id(elem->page, elem->first + iter->at);
    if (++iter->at == elem->count) {
        iter->elem++;
        iter->at = 0;
    }
    return id;
}

/* The page whose eight sectors come next, borrowed; NULL: there is no such page, and the ids have to be asked for.
 */
static struct page *id_page(const struct id_iter *iter)
{
    const struct payload_elem *elem = &iter->p->elem[iter->elem];

    return iter->p->head_bytes == 0 && iter->at == 0 && elem->count == PAGE_SECTORS ? elem->page : NULL;
}

/* The next sectors are those of this page from `first` on, and so are passed. */
static bool id_pass(struct id_iter *iter, const struct page *page, unsigned first, unsigned count)
{
    const struct payload_elem *elem = &iter->p->elem[iter->elem];

    if (iter->p->head_bytes != 0 || elem->page != page || elem->first + iter->at != first ||
        elem->count - iter->at < count) {
        return false;
    }
    iter->at += count;
    if (iter->at == elem->count) {
        iter->elem++;
        iter->at = 0;
    }
    return true;
}

static void id_skip_page(struct id_iter *iter)
{
    SIM_ASSERT_EQ(iter->at, 0);
    iter->elem++;
}

/* --- leaves and cells ------------------------------------------------------------------------------------- */

void guest_model_init(struct guest_model *model, const struct check_boundary *boundary)
{
    *model = (struct guest_model){.boundary = boundary, .arena = boundary->arena};
}

static void slot_put(struct model_leaf **slots, uint32_t room, struct model_leaf *leaf)
{
    uint32_t i = (uint32_t)sim_mix64((uint64_t)leaf->index) & (room - 1);

    while (slots[i]) {
        i = (i + 1) & (room - 1);
    }
    slots[i] = leaf;
}

static struct model_leaf *leaf_find(const struct guest_model *model, int64_t index)
{
    uint32_t i;

    if (model->slot_room == 0) {
        return NULL;
    }
    i = (uint32_t)sim_mix64((uint64_t)index) & (model->slot_room - 1);
    while (model->slots[i] && model->slots[i]->index != index) {
        i = (i + 1) & (model->slot_room - 1);
    }
    return model->slots[i];
}

static void grow(struct guest_model *model)
{
    uint32_t room = MAX(64, model->slot_room * 2);
    struct model_leaf **slots = SIM_NEW_N(model->arena, check_cell, struct model_leaf *, room);
    struct model_leaf **leaves = SIM_NEW_N(model->arena, check_cell, struct model_leaf *, room / 2);

    for (uint32_t i = 0; i < model->leaf_count; i++) {
        leaves[i] = model->leaves[i];
        slot_put(slots, room, leaves[i]);
    }
    SIM_FREE_N(model->arena, check_cell, model->slots, struct model_leaf *, model->slot_room);
    SIM_FREE_N(model->arena, check_cell, model->leaves, struct model_leaf *, model->leaf_room);
    model->slots = slots;
    model->slot_room = room;
    model->leaves = leaves;
    model->leaf_room = room / 2;
}

/* A new leaf is uniform and wild since before time. */
static struct model_leaf *leaf_get(struct guest_model *model, int64_t index)
{
    struct model_leaf *leaf = leaf_find(model, index);

    if (leaf) {
        return leaf;
    }
    if (model->leaf_count == model->leaf_room) {
        grow(model);
    }
    leaf = (struct model_leaf *)sim_alloc(model->arena, SIM_TYPE_check_cell, sizeof(*leaf));
    leaf->index = index;
    leaf->wild = true;
    model->leaves[model->leaf_count++] = leaf;
    slot_put(model->slots, model->slot_room, leaf);
    return leaf;
}

/* The cells of a leaf are walked often, their ids seldom asked for: these lie behind, and cost nothing while wild.
 */
#define LEAF_CELLS_BYTES (MODEL_LEAF_PAGES * (sizeof(struct model_cell) + PAGE_SECTORS * sizeof(uint64_t)))

static struct model_cell *leaf_cells(struct guest_model *model, struct model_leaf *leaf)
{
    if (!leaf->cells) {
        void *block = sim_alloc_raw(model->arena, SIM_TYPE_check_cell, LEAF_CELLS_BYTES);
        struct model_cell *cells = (struct model_cell *)block;
        uint64_t *ids = (uint64_t *)(cells + MODEL_LEAF_PAGES);

        for (int i = 0; i < MODEL_LEAF_PAGES; i++) {
            cells[i] = (struct model_cell){.id = ids + i * PAGE_SECTORS,
                                           .start = leaf->start,
                                           .end = leaf->end,
                                           .wild = leaf->wild ? 0xff : 0};
        }
        for (int i = 0; !leaf->wild && i < MODEL_LEAF_PAGES * PAGE_SECTORS; i++) {
            ids[i] = leaf->id;
        }
        leaf->cells = cells;
    }
    return leaf->cells;
}

static void cell_page_drop(const struct guest_model *model, struct model_cell *cell)
{
    if (cell->page) {
        page_unref(model->boundary->sim, cell->page);
        cell->page = NULL;
    }
}

static void cell_page_set(const struct guest_model *model, struct model_cell *cell, struct page *page)
{
    page_ref(page); /* may be the one it has */
    cell_page_drop(model, cell);
    cell->page = page;
    cell->wild = 0;
}

/* Sectors are looked at one by one from now on. */
static void cell_open(const struct guest_model *model, struct model_cell *cell)
{
    if (cell->page) {
        page_sector_ids(cell->page, 0, PAGE_SECTORS, cell->id);
        cell_page_drop(model, cell);
    }
}

static void candidate_free(struct guest_model *model, struct candidate *c)
{
    sim_free(model->arena, SIM_TYPE_check_cell, c, sizeof(*c));
}

static void unspill(struct guest_model *model, struct model_cell *cell)
{
    for (int s = 0; cell->spill && s < PAGE_SECTORS; s++) {
        while (cell->spill->sector[s]) {
            struct candidate *next = cell->spill->sector[s]->next;

            candidate_free(model, cell->spill->sector[s]);
            cell->spill->sector[s] = next;
        }
    }
    sim_free(model->arena, SIM_TYPE_check_cell, cell->spill, sizeof(*cell->spill));
    cell->spill = NULL;
}

static void leaf_drop_cells(struct guest_model *model, struct model_leaf *leaf)
{
    if (leaf->cells) {
        for (int i = 0; i < MODEL_LEAF_PAGES; i++) {
            cell_page_drop(model, &leaf->cells[i]);
            unspill(model, &leaf->cells[i]);
        }
        sim_free(model->arena, SIM_TYPE_check_cell, leaf->cells, LEAF_CELLS_BYTES);
        leaf->cells = NULL;
    }
}

void guest_model_reset(struct guest_model *model)
{
    for (uint32_t i = 0; i < model->leaf_count; i++) {
        leaf_drop_cells(model, model->leaves[i]);
        sim_free(model->arena, SIM_TYPE_check_cell, model->leaves[i], sizeof(*model->leaves[i]));
    }
    SIM_FREE_N(model->arena, check_cell, model->slots, struct model_leaf *, model->slot_room);
    SIM_FREE_N(model->arena, check_cell, model->leaves, struct model_leaf *, model->leaf_room);
    guest_model_init(model, model->boundary);
}

void guest_model_truncate(struct guest_model *model, int64_t bytes)
{
    for (uint32_t i = 0; i < model->leaf_count; i++) {
        struct model_leaf *leaf = model->leaves[i];
        int64_t base = leaf->index * MODEL_LEAF_BYTES;

        if (base >= bytes) {
            leaf_drop_cells(model, leaf);
            leaf->wild = true;
            leaf->start = leaf->end = 0;
        } else if (base + MODEL_LEAF_BYTES > bytes) {
            struct model_cell *cells = leaf_cells(model, leaf);

            for (int page = 0; page < MODEL_LEAF_PAGES; page++) {
                if (base + (page + 1) * SIM_PAGE_BYTES > bytes) { /* coarse: a page with both forgets both */
                    cell_page_drop(model, &cells[page]);
                    unspill(model, &cells[page]);
                    cells[page] = (struct model_cell){.id = cells[page].id, .wild = 0xff};
                }
            }
        }
    }
}

/* --- candidates ------------------------------------------------------------------------------------------- */

static void candidate_add(struct guest_model *model, struct candidate **list, struct candidate value)
{
    struct candidate *c = (struct candidate *)sim_alloc_raw(model->arena, SIM_TYPE_check_cell, sizeof(*c));

    *c = value;
    c->next = *list;
    *list = c;
}

static struct model_spill *spill_get(struct guest_model *model, struct model_cell *cell)
{
    if (!cell->spill) {
        cell_open(model, cell);
        cell->spill = (struct model_spill *)sim_alloc(model->arena, SIM_TYPE_check_cell, sizeof(*cell->spill));
        for (int s = 0; s < PAGE_SECTORS; s++) {
            candidate_add(
                model, &cell->spill->sector[s],
                (struct candidate){
                    .id = cell->id[s], .start = cell->start, .end = cell->end, .wild = cell->wild >> s & 1});
        }
    }
    return cell->spill;
}

/* The oldest start of a read in flight over the range; UINT64_MAX: none. */
static uint64_t oldest_reader(const struct guest_model *model, int64_t offset, int64_t bytes)
{
    for (const struct flight *f = model->boundary->first; f; f = f->next) {
        if (f->model == model && f->op == SIM_OP_READ && ranges_overlap(f->offset, f->bytes, offset, bytes)) {
            return f->start; /* flights are in order of submission */
        }
    }
    return UINT64_MAX;
}

static void drop_dead(struct guest_model *model, struct candidate **list, uint64_t reader)
{
    while (*list) {
        struct candidate *c = *list;

        if (c->dead && reader >= c->dead) {
            *list = c->next;
            candidate_free(model, c);
        } else {
            list = &c->next;
        }
    }
}

/* Back to the compact form when one living candidate is left for each sector. */
static void try_compact(struct guest_model *model, struct model_cell *cell)
{
    uint64_t start = UINT64_MAX;
    uint64_t end = 0;

    for (int s = 0; s < PAGE_SECTORS; s++) {
        const struct candidate *c = cell->spill->sector[s];

        if (!c || c->next || c->dead) {
            return;
        }
        start = MIN(start, c->start);
        end = MAX(end, c->end);
    }
    cell->wild = 0;
    for (int s = 0; s < PAGE_SECTORS; s++) {
        cell->id[s] = cell->spill->sector[s]->id;
        cell->wild |= (uint8_t)(cell->spill->sector[s]->wild << s);
    }
    cell->start = start;
    cell->end = end;
    unspill(model, cell);
}

/* A compact cell knows only the oldest start of its sectors: one old sector makes all of them open. */
static void cell_forget_before(struct guest_model *model, struct model_cell *cell, uint64_t start)
{
    if (!cell->spill) {
        if (cell->start <= start) {
            cell_page_drop(model, cell);
            cell->wild = 0xff;
        }
        return;
    }
    for (int s = 0; s < PAGE_SECTORS; s++) {
        const struct candidate *c = cell->spill->sector[s];

        while (c && (c->dead || c->start > start)) {
            c = c->next;
        }
        if (c) {
            candidate_add(model, &cell->spill->sector[s],
                          (struct candidate){.start = c->start, .end = c->end, .wild = true});
        }
    }
}

void guest_model_forget_before(struct guest_model *model, uint64_t start)
{
    for (uint32_t i = 0; i < model->leaf_count; i++) {
        struct model_leaf *leaf = model->leaves[i];

        for (int page = 0; leaf->cells && page < MODEL_LEAF_PAGES; page++) {
            cell_forget_before(model, &leaf->cells[page], start);
        }
        leaf->wild |= leaf->start <= start;
    }
}

/* --- writes ----------------------------------------------------------------------------------------------- */

struct effect {
    const struct flight *flight;
    struct id_iter ids; /* of a write */
    bool wild;
    bool ok;
    uint64_t now;
    uint64_t reader;
};

static uint64_t effect_id(struct effect *e)
{
    return e->flight->op == SIM_OP_WRITE ? id_next(&e->ids) : sim_sector_id_zero();
}

static void wrote_slowly(struct guest_model *model, struct model_cell *cell, unsigned first, unsigned end,
                         struct effect *e)
{
    struct model_spill *spill = spill_get(model, cell);

    for (unsigned s = first; s < end; s++) {
        struct candidate value = {.id = effect_id(e), .start = e->flight->start, .end = e->now, .wild = e->wild};

        for (struct candidate *c = spill->sector[s]; c; c = c->next) {
            if (e->ok && !c->dead && c->end < e->flight->start) {
                c->dead = e->now;
            }
        }
        candidate_add(model, &spill->sector[s], value);
        drop_dead(model, &spill->sector[s], e->reader);
    }
    try_compact(model, cell);
}

static void wrote_ids(struct model_cell *cell, unsigned first, unsigned end, struct effect *e)
{
    SIM_ASSERT(!cell->page);
    for (unsigned s = first; s < end; s++) {
        cell->id[s] = effect_id(e);
    }
}

static void wrote_page(struct guest_model *model, struct model_cell *cell, unsigned first, unsigned end,
                       struct effect *e)
{
    if (!e->ok || cell->spill || cell->end >= e->flight->start || e->reader != UINT64_MAX) {
        wrote_slowly(model, cell, first, end, e);
        return;
    }
    if (first == 0 && end == PAGE_SECTORS) {
        struct page *page = e->flight->op == SIM_OP_WRITE ? id_page(&e->ids) : NULL;

        if (page) {
            cell_page_set(model, cell, page);
            id_skip_page(&e->ids);
        } else {
            cell_page_drop(model, cell);
            wrote_ids(cell, first, end, e);
            cell->wild = e->wild ? 0xff : 0;
        }
        cell->start = e->flight->start;
    } else {
        uint8_t mask = (uint8_t)(((1u << (end - first)) - 1) << first);

        cell_open(model, cell);
        wrote_ids(cell, first, end, e);
        cell->wild = (uint8_t)(e->wild ? cell->wild | mask : cell->wild & ~mask);
    }
    cell->end = e->now;
}

/* A whole leaf of zeroes or of anything, when nothing overlapped it in time. */
static bool wrote_uniform(struct guest_model *model, struct model_leaf *leaf, struct effect *e)
{
    if (!e->ok || e->flight->op == SIM_OP_WRITE || e->reader != UINT64_MAX) {
        return false;
    }
    if (!leaf->cells && leaf->end >= e->flight->start) {
        return false;
    }
    for (int i = 0; leaf->cells && i < MODEL_LEAF_PAGES; i++) {
        if (leaf->cells[i].spill || leaf->cells[i].end >= e->flight->start) {
            return false;
        }
    }
    leaf_drop_cells(model, leaf);
    leaf->id = sim_sector_id_zero();
    leaf->wild = e->wild;
    leaf->start = e->flight->start;
    leaf->end = e->now;
    return true;
}

void guest_model_wrote(struct guest_model *model, const struct flight *flight, uint64_t now, bool ok)
{
    int64_t end = flight->offset + flight->bytes;
    struct effect e = {.flight = flight,
                       .wild = flight->op == SIM_OP_DISCARD,
                       .ok = ok,
                       .now = now,
                       .reader = oldest_reader(model, flight->offset, flight->bytes)};

    SIM_ASSERT(check_op_writes(flight->op));
    if (flight->op == SIM_OP_WRITE) {
        SIM_ASSERT_EQ(flight->req->data.size_bytes, flight->bytes);
        id_seek(&e.ids, &flight->req->data, 0);
    }
    for (int64_t at = flight->offset; at < end;) {
        struct model_leaf *leaf = leaf_get(model, at / MODEL_LEAF_BYTES);
        int64_t leaf_end = MIN(end, (leaf->index + 1) * MODEL_LEAF_BYTES);
        struct model_cell *cells;

        if (leaf_end - at == MODEL_LEAF_BYTES && wrote_uniform(model, leaf, &e)) {
            at = leaf_end;
            continue;
        }
        cells = leaf_cells(model, leaf);
        while (at < leaf_end) {
            int64_t page = at / SIM_PAGE_BYTES;
            int64_t page_end = MIN(leaf_end, (page + 1) * SIM_PAGE_BYTES);
            unsigned first = (unsigned)(at % SIM_PAGE_BYTES / SIM_SECTOR_BYTES);

            wrote_page(model, &cells[page % MODEL_LEAF_PAGES], first,
                       first + (unsigned)((page_end - at) / SIM_SECTOR_BYTES), &e);
            at = page_end;
        }
    }
}

/* --- reads ------------------------------------------------------------------------------------------------ */

struct look {
    int64_t sector;
    uint64_t seen;
    uint64_t rs;
    uint64_t now;
    uint64_t min_start; /* of what may have been seen */
    unsigned known;     /* candidates and flights with that content */
    unsigned wild;      /* candidates that may have it */
    bool anything;      /* a discard is in flight */
};

static void look_at_flights(const struct guest_model *model, struct look *look)
{
    int64_t offset = look->sector * SIM_SECTOR_BYTES;

    for (const struct flight *f = model->boundary->first; f; f = f->next) {
        if (f->model != model || !check_op_writes(f->op) ||
            !ranges_overlap(f->offset, f->bytes, offset, SIM_SECTOR_BYTES)) {
            continue;
        }
        if (f->op == SIM_OP_DISCARD || f->tears) {
            look->anything = true;
        } else {
            struct id_iter iter;
            uint64_t id = sim_sector_id_zero();

            if (f->op == SIM_OP_WRITE) {
                id_seek(&iter, &f->req->data, (offset - f->offset) / SIM_SECTOR_BYTES);
                id = id_next(&iter);
            }
            if (id == look->seen) {
                look->known++;
                look->min_start = MIN(look->min_start, f->start);
            }
        }
    }
}

static void look_at_list(struct candidate *list, struct look *look)
{
    for (struct candidate *c = list; c; c = c->next) {
        if (c->dead && c->dead < look->rs) {
            continue;
        }
        if (c->wild || c->id == look->seen) {
            *(c->wild ? &look->wild : &look->known) += 1;
            look->min_start = MIN(look->min_start, c->start);
        }
    }
}

/* The sector was seen to hold look->seen: older values are out, wild content is known from now on. */
static void observe(struct candidate *list, const struct look *look)
{
    uint64_t bound = MAX(look->rs, look->min_start);

    for (struct candidate *c = list; c; c = c->next) {
        if (c->dead) {
            continue;
        }
        if (c->wild && look->wild == 1 && look->known == 0 && c->end < look->rs) {
            c->wild = false;
            c->id = look->seen;
        } else if (!c->wild && c->id != look->seen && c->end < bound) {
            c->dead = look->now;
        }
    }
}

static void describe(struct candidate *list, const struct look *look, struct model_mismatch *mismatch)
{
    mismatch->sector = look->sector;
    mismatch->seen = look->seen;
    mismatch->count = 0;
    for (struct candidate *c = list; c; c = c->next) {
        if (!c->dead || c->dead >= look->rs) {
            if (mismatch->count < ARRAY_SIZE(mismatch->expected)) {
                mismatch->expected[mismatch->count] = c->id;
                mismatch->written[mismatch->count] = c->end;
            }
            mismatch->count++;
        }
    }
}

static bool read_slowly(struct guest_model *model, struct model_cell *cell, unsigned s, struct look *look,
                        struct model_mismatch *mismatch)
{
    struct candidate single = {
        .id = cell->id[s], .start = cell->start, .end = cell->end, .wild = cell->wild >> s & 1};
    struct candidate *list = cell->spill ? cell->spill->sector[s] : &single;

    SIM_ASSERT(!cell->page);
    look_at_flights(model, look);
    if (look->anything) {
        return true;
    }
    look_at_list(list, look);
    if (look->known + look->wild == 0) {
        describe(list, look, mismatch);
        return false;
    }
    if (!cell->spill) {
        observe(&single, look);
        if (!single.dead) {
            cell->id[s] = single.id;
            cell->wild = (uint8_t)((cell->wild & ~(1u << s)) | (unsigned)single.wild << s);
            return true;
        }
    }
    list = spill_get(model, cell)->sector[s];
    observe(list, look);
    drop_dead(model, &cell->spill->sector[s],
              oldest_reader(model, look->sector * SIM_SECTOR_BYTES, SIM_SECTOR_BYTES));
    return true;
}

/* Does a write of this model's guests fly over the page? */
static bool flights_over(const struct guest_model *model, int64_t sector)
{
    int64_t offset = sector * SIM_SECTOR_BYTES;
    const struct flight *f = NULL;

    while ((f = check_flight_writing(model->boundary, f, offset, SIM_PAGE_BYTES)) != NULL) {
        if (f->model == model) {
            return true;
        }
    }
    return false;
}

/* A whole page that says nothing new, or settles what was wild in all of the cell. False: look sector by sector. */
static bool read_whole(struct guest_model *model, struct model_cell *cell, int64_t sector, struct page *page,
                       uint64_t rs)
{
    if (cell->spill) {
        return false;
    }
    if (cell->page) {
        return page_equal(cell->page, page);
    }
    if (cell->wild == 0) {
        uint64_t ids[PAGE_SECTORS];

        page_sector_ids(page, 0, PAGE_SECTORS, ids);
        if (memcmp(cell->id, ids, sizeof(ids)) != 0) {
            return false;
        }
    } else if (cell->wild != 0xff || cell->end >= rs || flights_over(model, sector)) {
        return false;
    }
    cell_page_set(model, cell, page);
    return true;
}

static bool read_page(struct guest_model *model, struct model_cell *cell, int64_t sector, unsigned count,
                      struct id_iter *ids, uint64_t rs, uint64_t now, struct model_mismatch *mismatch)
{
    unsigned first = (unsigned)(sector % PAGE_SECTORS);
    struct page *page;

    if (cell->page && id_pass(ids, cell->page, first, count)) {
        return true;
    }
    page = count == PAGE_SECTORS ? id_page(ids) : NULL;
    if (page && read_whole(model, cell, sector, page, rs)) {
        id_skip_page(ids);
        return true;
    }
    if (!cell->spill) {
        cell_open(model, cell);
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t id = id_next(ids);

        if (cell->spill || (cell->wild >> (first + i) & 1) || cell->id[first + i] != id) {
            struct look look = {.sector = sector + i, .seen = id, .rs = rs, .now = now, .min_start = UINT64_MAX};

            if (!read_slowly(model, cell, first + i, &look, mismatch)) {
                return false;
            }
        }
    }
    if (cell->spill) {
        try_compact(model, cell);
    }
    return true;
}

/* A whole leaf against one uniform content: no cells are needed when it fits, or when zeroes settle what was wild.
 */
static bool read_uniform(struct guest_model *model, struct model_leaf *leaf, const struct payload *data, int64_t at,
                         uint64_t rs)
{
    int64_t offset = leaf->index * MODEL_LEAF_BYTES;

    if (leaf->cells || leaf->end >= rs || (!leaf->wild && leaf->id != sim_sector_id_zero()) ||
        !payload_is_zero(data, at, MODEL_LEAF_BYTES)) {
        return false;
    }
    for (const struct flight *f = check_flight_writing(model->boundary, NULL, offset, MODEL_LEAF_BYTES); f;
         f = check_flight_writing(model->boundary, f, offset, MODEL_LEAF_BYTES)) {
        if (f->model == model) {
            return false;
        }
    }
    leaf->wild = false;
    leaf->id = sim_sector_id_zero();
    return true;
}

bool guest_model_read(struct guest_model *model, int64_t offset, const struct payload *data, uint64_t rs,
                      uint64_t now, struct model_mismatch *mismatch)
{
    int64_t end = offset + data->size_bytes;
    struct id_iter ids;

    SIM_ASSERT_EQ(offset % SIM_SECTOR_BYTES, 0);
    id_seek(&ids, data, 0);
    for (int64_t at = offset; at < end;) {
        struct model_leaf *leaf = leaf_get(model, at / MODEL_LEAF_BYTES);
        int64_t leaf_end = MIN(end, (leaf->index + 1) * MODEL_LEAF_BYTES);

        if (leaf_end - at == MODEL_LEAF_BYTES && read_uniform(model, leaf, data, at - offset, rs)) {
            at = leaf_end;
            id_seek(&ids, data, (at - offset) / SIM_SECTOR_BYTES);
            continue;
        }
        for (struct model_cell *cells = leaf_cells(model, leaf); at < leaf_end;) {
            int64_t page = at / SIM_PAGE_BYTES;
            int64_t page_end = MIN(leaf_end, (page + 1) * SIM_PAGE_BYTES);
            unsigned count = (unsigned)((page_end - at) / SIM_SECTOR_BYTES);

            if (!read_page(model, &cells[page % MODEL_LEAF_PAGES], at / SIM_SECTOR_BYTES, count, &ids, rs, now,
                           mismatch)) {
                mismatch->seen_is_tag =
                    data->head_bytes == 0 &&
                    payload_sector_tag(data, mismatch->sector - offset / SIM_SECTOR_BYTES, &mismatch->seen_tag);
                return false;
            }
            at = page_end;
        }
    }
    return true;
}
