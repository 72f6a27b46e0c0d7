/*
 * What writes do to guest-view's model; the rules are in the header.
 */
#include "check/guest_cells.h"
#include "check/guest_ids.h"

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
    struct model_spill *spill = guest_spill_get(model, cell);

    for (unsigned s = first; s < end; s++) {
        struct candidate value = {.id = effect_id(e), .start = e->flight->start, .end = e->now, .wild = e->wild};

        for (struct candidate *c = spill->sector[s]; c; c = c->next) {
            if (e->ok && !c->dead && c->end < e->flight->start) {
                c->dead = e->now;
            }
        }
        guest_candidate_add(model, &spill->sector[s], value);
        guest_drop_dead(model, &spill->sector[s], e->reader);
    }
    guest_try_compact(model, cell);
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
            guest_cell_page_set(model, cell, page);
            id_skip_page(&e->ids);
        } else {
            guest_cell_page_drop(model, cell);
            wrote_ids(cell, first, end, e);
            cell->wild = e->wild ? 0xff : 0;
        }
        cell->start = e->flight->start;
    } else {
        uint8_t mask = (uint8_t)(((1u << (end - first)) - 1) << first);

        guest_cell_open(model, cell);
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
    guest_leaf_drop_cells(model, leaf);
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
                       .reader = guest_oldest_reader(model, flight->offset, flight->bytes)};

    SIM_ASSERT(check_op_writes(flight->op));
    if (flight->op == SIM_OP_WRITE) {
        SIM_ASSERT_EQ(flight->req->data.size_bytes, flight->bytes);
        id_seek(&e.ids, &flight->req->data, 0);
    }
    for (int64_t at = flight->offset; at < end;) {
        struct model_leaf *leaf = guest_leaf_get(model, at / MODEL_LEAF_BYTES);
        int64_t leaf_end = MIN(end, (leaf->index + 1) * MODEL_LEAF_BYTES);
        struct model_cell *cells;

        if (leaf_end - at == MODEL_LEAF_BYTES && wrote_uniform(model, leaf, &e)) {
            at = leaf_end;
            continue;
        }
        cells = guest_leaf_cells(model, leaf);
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
