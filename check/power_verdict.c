/*
 * After a power loss: each sector against what it must or may hold, each bitmap against the writes it must have
 * seen.
 */
#include <inttypes.h>
#include <string.h>

#include "check/power_data.h"
#include "check/qcow2_image.h"

struct verdict {
    struct power_data *state;
    struct power_image *image;
    struct qcow2_chain *chain; /* NULL: what lies below cannot be found by name */
    struct qcow2_image *top;   /* NULL: raw */
    struct payload page;
    bool told;
};

static void told(struct verdict *v, const char *rule, int64_t sector, const char *what, const char *seen)
{
    struct violation_where where = {.driver = v->image->qcow2 ? "qcow2" : "raw"};

    v->told = true;
    check_violate(v->state->check->set, "durability", rule, &where,
                  "disk %s after a power loss, sector %" PRId64 " (offset %" PRId64 "): expected %s, seen %s",
                  disk_name(v->image->disk)->str, sector, sector * SIM_SECTOR_BYTES, what, seen);
}

/* --- data ------------------------------------------------------------------------------------------------- */

/* A guest's stamp that belongs to another sector. */
static bool is_foreign(const struct verdict *v, int64_t sector, uint64_t *tag)
{
    const struct check_boundary *boundary = check_boundary(v->state->check);
    uint32_t id;

    if (!v->image->qcow2 || !payload_sector_tag(&v->page, sector % PAGE_SECTORS, tag)) {
        return false;
    }
    id = (uint32_t)(*tag >> 32);
    return id < boundary->write_room && boundary->writes[id] && (uint32_t)*tag != (uint32_t)sector;
}

/* Some write since the flush may have left that there. */
static bool is_written(const struct power_image *image, const struct power_cell *cell, int64_t sector, uint64_t id)
{
    int64_t at = sector * SIM_SECTOR_BYTES;

    for (const struct power_write *w = image->first; w; w = w->next) {
        if (at < w->offset || at >= w->offset + w->bytes ||
            power_write_is_replaced(w, cell, (unsigned)(sector % PAGE_SECTORS))) {
            continue;
        }
        if (w->vague || (w->op == SIM_OP_WRITE && !w->ids)) {
            return true;
        }
        if (id == (w->op == SIM_OP_WRITE ? w->ids[sector - w->offset / SIM_SECTOR_BYTES] : sim_sector_id_zero())) {
            return true;
        }
    }
    return false;
}

static void judge_sector(struct verdict *v, const struct power_cell *cell, unsigned s)
{
    int64_t sector = cell->page * PAGE_SECTORS + s;
    uint64_t id = payload_sector_id(&v->page, s);
    char expected[CHECK_CONTENT];
    char seen[CHECK_CONTENT];
    uint64_t tag;

    if ((cell->known >> s & 1) && cell->id[s] == id) {
        return;
    }
    if (is_written(v->image, cell, sector, id)) {
        return;
    }
    if (is_foreign(v, sector, &tag)) {
        told(v, "foreign", sector, "data of its own",
             check_content_of_tag(check_boundary(v->state->check), tag, seen));
    } else if (cell->known >> s & 1) {
        check_content_of_id(check_boundary(v->state->check), cell->id[s], sector, expected);
        check_content_of_id(check_boundary(v->state->check), id, sector, seen);
        told(v, "lost", sector, expected, seen);
    }
}

/* False: this part of the image is not this medium's to tell. */
static bool read_page(struct verdict *v, int64_t offset)
{
    int64_t pnum;
    bool ok;

    payload_clear(&v->page);
    if (v->chain) {
        ok = qcow2_chain_view(v->chain, QCOW2_ACTIVE, offset, SIM_PAGE_BYTES, &v->page);
    } else if (qcow2_image_is_allocated(v->top, QCOW2_ACTIVE, offset, SIM_PAGE_BYTES, &pnum) &&
               pnum == SIM_PAGE_BYTES) {
        ok = qcow2_image_view(v->top, QCOW2_ACTIVE, offset, SIM_PAGE_BYTES, NULL, NULL, &v->page);
    } else {
        return false;
    }
    if (!ok) {
        told(v, "unreadable", offset / SIM_SECTOR_BYTES, "data", "what cannot be read");
    }
    return ok;
}

static void judge_data(struct verdict *v, int64_t size)
{
    struct power_image *image = v->image;

    for (uint32_t i = 0; i < image->cell_count && !v->told; i++) {
        struct power_cell *cell = &image->cells[i];
        int64_t left = MIN(size - cell->page * SIM_PAGE_BYTES, SIM_PAGE_BYTES) / SIM_SECTOR_BYTES;

        if (left <= 0 || !read_page(v, cell->page * SIM_PAGE_BYTES)) {
            cell->known = 0;
            continue;
        }
        for (unsigned s = 0; s < (unsigned)left && !v->told; s++) {
            judge_sector(v, cell, s);
            cell->id[s] = payload_sector_id(&v->page, s); /* all that is there now is stable */
        }
        cell->known = (uint8_t)((1u << left) - 1);
    }
}

/* --- bitmaps ---------------------------------------------------------------------------------------------- */

static void judge_bitmap(struct verdict *v, const struct qcow2_image_bitmap *b)
{
    const struct ranges *written = &v->image->written;
    int64_t at = 0;

    for (const struct range *r; (r = ranges_next(written, at)) != NULL; at = r->end) {
        int64_t bit = r->start >> b->granularity_bits;
        int64_t last = (MIN(r->end, v->top->size) - 1) >> b->granularity_bits;

        while (bit <= last) {
            int64_t first, end;

            if (!qcow2_image_bitmap_next(v->top, b, bit, &first, &end) || first > bit) {
                struct violation_where where = {.driver = "qcow2"};

                check_violate(v->state->check->set, "durability", "bitmap", &where,
                              "disk %s after a power loss: bitmap '%s' looks consistent, but is clean at %" PRId64
                              ", which a guest has written since the image was opened",
                              disk_name(v->image->disk)->str, b->name, bit << b->granularity_bits);
                return;
            }
            bit = end;
        }
    }
}

static void judge_bitmaps(struct verdict *v)
{
    for (uint32_t i = 0; v->top && v->image->written.count && i < v->top->bitmap_count; i++) {
        const struct qcow2_image_bitmap *b = &v->top->bitmap[i];

        if (!b->in_use && b->enabled && b->table) {
            judge_bitmap(v, b);
        }
    }
}

/* --- the whole -------------------------------------------------------------------------------------------- */

static void judge(struct power_data *state, struct power_image *image)
{
    struct verdict v = {.state = state, .image = image};
    struct qcow2_image *alone = NULL;

    v.chain =
        qcow2_chain_open(state->check->sim, disk_name(image->disk)->str, image->qcow2 ? "qcow2" : "raw", NULL);
    if (v.chain && qcow2_chain_was_made_over(v.chain)) {
        qcow2_chain_free(v.chain);
        v.chain = NULL;
    }
    if (v.chain) {
        v.top = qcow2_chain_image(v.chain);
    } else {
        v.top = alone = qcow2_image_read(qcow2_source_of_disk(image->disk));
    }
    payload_init(state->check->sim, &v.page);
    if (v.chain || !alone->error[0]) { /* that no image is there is qcow2-metadata's to tell */
        judge_bitmaps(&v);
        judge_data(&v, v.chain ? qcow2_chain_size(v.chain) : alone->size);
    }
    payload_clear(&v.page);
    qcow2_chain_free(v.chain);
    qcow2_image_free(alone);
}

void power_verdict(struct power_data *state)
{
    state->lost = false;
    for (struct power_image *image = state->images; image; image = image->next) {
        if (image->lost) {
            judge(state, image);
            power_image_settled(state, image);
        }
    }
}
