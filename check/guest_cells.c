/*
 * Leaves, cells and candidates of guest-view's model: where it keeps what it knows, and how it forgets. The rules
 * are in guest_model.h.
 */
#include "check/guest_cells.h"

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
struct model_leaf *guest_leaf_get(struct guest_model *model, int64_t index)
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

struct model_cell *guest_leaf_cells(struct guest_model *model, struct model_leaf *leaf)
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

void guest_cell_page_drop(const struct guest_model *model, struct model_cell *cell)
{
    if (cell->page) {
        page_unref(model->boundary->sim, cell->page);
        cell->page = NULL;
    }
}

void guest_cell_page_set(const struct guest_model *model, struct model_cell *cell, struct page *page)
{
    page_ref(page); /* may be the one it has */
    guest_cell_page_drop(model, cell);
    cell->page = page;
    cell->wild = 0;
}

/* Sectors are looked at one by one from now on. */
void guest_cell_open(const struct guest_model *model, struct model_cell *cell)
{
    if (cell->page) {
        page_sector_ids(cell->page, 0, PAGE_SECTORS, cell->id);
        guest_cell_page_drop(model, cell);
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

void guest_leaf_drop_cells(struct guest_model *model, struct model_leaf *leaf)
{
    if (leaf->cells) {
        for (int i = 0; i < MODEL_LEAF_PAGES; i++) {
            guest_cell_page_drop(model, &leaf->cells[i]);
            unspill(model, &leaf->cells[i]);
        }
        sim_free(model->arena, SIM_TYPE_check_cell, leaf->cells, LEAF_CELLS_BYTES);
        leaf->cells = NULL;
    }
}

void guest_model_reset(struct guest_model *model)
{
    for (uint32_t i = 0; i < model->leaf_count; i++) {
        guest_leaf_drop_cells(model, model->leaves[i]);
        sim_free(model->arena, SIM_TYPE_check_cell, model->leaves[i], sizeof(*model->leaves[i]));
    }
    SIM_FREE_N(model->arena, check_cell, model->slots, struct model_leaf *, model->slot_room);
    SIM_FREE_N(model->arena, check_cell, model->leaves, struct model_leaf *, model->leaf_room);
    guest_model_init(model, model->boundary);
}

void guest_model_truncate(struct guest_model *model, int64_t bytes, uint64_t since)
{
    for (uint32_t i = 0; i < model->leaf_count; i++) {
        struct model_leaf *leaf = model->leaves[i];
        int64_t base = leaf->index * MODEL_LEAF_BYTES;

        if (base >= bytes) {
            guest_leaf_drop_cells(model, leaf);
            leaf->wild = true;
            leaf->start = leaf->end = since;
        } else if (base + MODEL_LEAF_BYTES > bytes) {
            struct model_cell *cells = guest_leaf_cells(model, leaf);

            for (int page = 0; page < MODEL_LEAF_PAGES; page++) {
                if (base + (page + 1) * SIM_PAGE_BYTES > bytes) { /* coarse: a page with both forgets both */
                    guest_cell_page_drop(model, &cells[page]);
                    unspill(model, &cells[page]);
                    cells[page] =
                        (struct model_cell){.id = cells[page].id, .start = since, .end = since, .wild = 0xff};
                }
            }
        }
    }
}

/* --- candidates ------------------------------------------------------------------------------------------- */

void guest_candidate_add(struct guest_model *model, struct candidate **list, struct candidate value)
{
    struct candidate *c = (struct candidate *)sim_alloc_raw(model->arena, SIM_TYPE_check_cell, sizeof(*c));

    *c = value;
    c->next = *list;
    *list = c;
}

struct model_spill *guest_spill_get(struct guest_model *model, struct model_cell *cell)
{
    if (!cell->spill) {
        guest_cell_open(model, cell);
        cell->spill = (struct model_spill *)sim_alloc(model->arena, SIM_TYPE_check_cell, sizeof(*cell->spill));
        for (int s = 0; s < PAGE_SECTORS; s++) {
            guest_candidate_add(
                model, &cell->spill->sector[s],
                (struct candidate){
                    .id = cell->id[s], .start = cell->start, .end = cell->end, .wild = cell->wild >> s & 1});
        }
    }
    return cell->spill;
}

/* The oldest start of a read in flight over the range; UINT64_MAX: none. */
uint64_t guest_oldest_reader(const struct guest_model *model, int64_t offset, int64_t bytes)
{
    for (const struct flight *f = model->boundary->first; f; f = f->next) {
        if (f->model == model && f->op == SIM_OP_READ && ranges_overlap(f->offset, f->bytes, offset, bytes)) {
            return f->start; /* flights are in order of submission */
        }
    }
    return UINT64_MAX;
}

void guest_drop_dead(struct guest_model *model, struct candidate **list, uint64_t reader)
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
void guest_try_compact(struct guest_model *model, struct model_cell *cell)
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
            guest_cell_page_drop(model, cell);
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
            guest_candidate_add(model, &cell->spill->sector[s],
                                (struct candidate){.start = c->start, .end = c->end, .wild = true});
        }
    }
}

void guest_model_forget_before(struct guest_model *model, int64_t from, uint64_t start)
{
    int64_t first = from / SIM_PAGE_BYTES; /* coarse: a page with both forgets both */

    for (uint32_t i = 0; i < model->leaf_count; i++) {
        struct model_leaf *leaf = model->leaves[i];
        int64_t skipped = first - leaf->index * MODEL_LEAF_PAGES;

        if (skipped >= MODEL_LEAF_PAGES) {
            continue;
        }
        if (skipped > 0) {
            guest_leaf_cells(model, leaf);
        } else {
            leaf->wild |= leaf->start <= start;
        }
        for (int64_t page = MAX(skipped, (int64_t)0); leaf->cells && page < MODEL_LEAF_PAGES; page++) {
            cell_forget_before(model, &leaf->cells[page], start);
        }
    }
}
