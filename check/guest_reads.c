/*
 * What reads say to guest-view's model, and whether it can be true; the rules are in guest_model.h.
 */
#include <string.h>

#include "check/guest_cells.h"
#include "check/guest_ids.h"

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
    list = guest_spill_get(model, cell)->sector[s];
    observe(list, look);
    guest_drop_dead(model, &cell->spill->sector[s],
                    guest_oldest_reader(model, look->sector * SIM_SECTOR_BYTES, SIM_SECTOR_BYTES));
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
    guest_cell_page_set(model, cell, page);
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
        guest_cell_open(model, cell);
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
        guest_try_compact(model, cell);
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
        struct model_leaf *leaf = guest_leaf_get(model, at / MODEL_LEAF_BYTES);
        int64_t leaf_end = MIN(end, (leaf->index + 1) * MODEL_LEAF_BYTES);

        if (leaf_end - at == MODEL_LEAF_BYTES && read_uniform(model, leaf, data, at - offset, rs)) {
            at = leaf_end;
            id_seek(&ids, data, (at - offset) / SIM_SECTOR_BYTES);
            continue;
        }
        for (struct model_cell *cells = guest_leaf_cells(model, leaf); at < leaf_end;) {
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
