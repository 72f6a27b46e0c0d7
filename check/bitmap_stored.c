/*
 * Bitmaps that an image keeps (reference/bitmaps-qcow2.md 4): what is loaded is what lies on the medium, what is
 * stored is what the bitmap held. The medium is read by the checkers' own reader.
 */
#include <inttypes.h>
#include <string.h>

#include "check/bitmap_model.h"
#include "check/qcow2_image.h"

/* The image below a qcow2 node, or NULL. */
static struct qcow2_image *image_below(const BlockDriverState *file)
{
    struct disk *disk = file ? check_disk_below(file) : NULL;

    return disk ? qcow2_image_read(qcow2_source_of_disk(disk)) : NULL;
}

static void stored_bits(struct qcow2_image *image, const struct qcow2_image_bitmap *b, struct ranges *set)
{
    int64_t first;
    int64_t end = 0;

    while (qcow2_image_bitmap_next(image, b, end, &first, &end)) {
        ranges_add(set, first << b->granularity_bits, end << b->granularity_bits);
    }
}

void bitmap_loaded(struct bitmap_models *models, struct bitmap_model *m, uint64_t event)
{
    struct qcow2_image *image =
        strcmp(bdrv_driver_name(m->bs), "qcow2") == 0 ? image_below(bdrv_primary_bs(m->bs)) : NULL;
    const struct qcow2_image_bitmap *b =
        image && !image->error[0] && m->name ? qcow2_image_bitmap_find(image, m->name) : NULL;

    m->listed = b != NULL;
    ranges_free(&m->lower);
    ranges_free(&m->upper);
    if (b && !b->in_use && b->table) {
        stored_bits(image, b, &m->lower);
        ranges_add_all(&m->upper, &m->lower);
        bitmap_enable(m, b->enabled, event);
    } else { /* from a stream, or from where nobody can look */
        check_read_bits(m->bitmap, &m->lower);
        ranges_add_all(&m->upper, &m->lower);
        bitmap_enable(m, bdrv_dirty_bitmap_enabled(m->bitmap), event);
    }
    qcow2_image_free(image);
}

/* How the image went: closed, or given up to others. */
struct went {
    struct bitmap_models *models;
    const char *op;
    const char *how;
};

static void violate(const struct went *went, const struct bitmap_model *m, const char *what, int64_t at)
{
    bitmap_violate(went->models, m, "stored-wrong", went->op, "its image was %s; expected %s; at %" PRId64,
                   went->how, what, at);
}

/* The first of `inside` that lies in no interval of `set`, or -1; beyond the end of the disk nothing counts. */
static int64_t first_outside(const struct ranges *inside, const struct ranges *set, int64_t size)
{
    for (uint32_t i = 0; i < inside->count; i++) {
        int64_t at = inside->item[i].start;

        while (at < MIN(inside->item[i].end, size)) {
            const struct range *r = ranges_next(set, at);

            if (!r || r->start > at) {
                return at;
            }
            at = r->end;
        }
    }
    return -1;
}

static void judge(const struct went *went, struct bitmap_model *m, struct qcow2_image *image)
{
    const struct qcow2_image_bitmap *b = qcow2_image_bitmap_find(image, m->name);
    struct ranges bits;
    int64_t at;

    if (!b || b->in_use || !b->table || (int64_t)1 << b->granularity_bits != m->granularity) {
        violate(went, m, "it stored, consistent and with its granularity", -1);
        return;
    }
    if (b->enabled != m->enabled) {
        violate(went, m, m->enabled ? "its flag auto set" : "its flag auto clear", -1);
    }
    bitmap_blur_by_flights(went->models, m, m); /* a request that is held has marked when it failed */
    ranges_init(went->models->check->arena, &bits);
    stored_bits(image, b, &bits);
    at = first_outside(&m->lower, &bits, m->size);
    if (at >= 0) {
        violate(went, m, "its dirty groups stored, one is missing", at);
    }
    at = bitmap_is_bounded(m) && !m->due.count ? first_outside(&bits, &m->upper, m->size) : -1;
    if (at >= 0) {
        violate(went, m, "nothing else stored, one group is extra", at);
    }
    ranges_free(&bits);
}

/* The node is still open. */
static bool is_stored(const struct bitmap_model *m)
{
    return m->name && m->flag[BITMAP_PERSISTENT] && !m->flag[BITMAP_INCONSISTENT] && !m->doomed && !m->tentative &&
           !m->unstored && m->size > 0 && strcmp(bdrv_driver_name(m->bs), "qcow2") == 0 &&
           !bdrv_is_read_only(m->bs);
}

void bitmap_judge_stored(struct bitmap_models *models, const struct sim_record *record)
{
    const struct went closed = {.models = models, .op = "close", .how = "closed"};
    struct qcow2_image *image = NULL;

    for (struct bitmap_model *m = models->first; m; m = m->next) {
        if (strcmp(sim_record_str(record, 1), "file") != 0 || bdrv_primary_bs(m->bs) || !is_stored(m) ||
            m->flag[BITMAP_READONLY] || bdrv_is_inactive(m->bs)) {
            continue;
        }
        image = image ? image : image_below(record->ref);
        if (image && !image->error[0]) {
            judge(&closed, m, image);
        }
    }
    qcow2_image_free(image);
}

/* They were made readonly when they were stored, so that flag says nothing. */
void bitmap_given_up(struct bitmap_models *models, const BlockDriverState *bs)
{
    const struct went given_up = {.models = models, .op = "inactivate", .how = "given up"};
    struct qcow2_image *image = NULL;

    for (struct bitmap_model **link = &models->first; *link;) {
        struct bitmap_model *m = *link;

        if (m->bs != bs || m->bitmap || !m->flag[BITMAP_PERSISTENT]) {
            link = &m->next;
            continue;
        }
        image = image || !is_stored(m) ? image : image_below(bdrv_primary_bs(bs));
        if (image && is_stored(m) && !image->error[0]) {
            judge(&given_up, m, image);
        }
        bitmap_model_free(models, link);
    }
    qcow2_image_free(image);
}

/* Without its metadata an image is not opened, nor closed in order; guests' own requests change no bitmap there. */
void bitmap_request_failed(struct bitmap_models *models, const struct disk_req *req)
{
    for (struct bitmap_model *m = models->first; m && req->origin.kind != SIM_ORIGIN_GUEST; m = m->next) {
        const BlockDriverState *file = bdrv_primary_bs(m->bs);

        m->unstored |= file && check_disk_below(file) == req->disk;
    }
}

/* --- refusals ------------------------------------------------------------------------------------------------ */

/* Whoever is told of an image that cannot be used any more is told the truth. */
static bool image_is_dead(const struct qmp_call *call)
{
    const char *text = error_get_pretty(call->err);

    return strstr(text, "unusable") || strstr(text, "No medium");
}

static void judge_refusal(struct bitmap_models *models, const struct bitmap_model *m, const struct qmp_call *call,
                          struct qcow2_image *image)
{
    if (m->listed && !qcow2_image_bitmap_find(image, m->name)) {
        bitmap_violate(models, m, "stored-wrong", call->command->name,
                       "the command was refused; expected it in its image still; seen: none of that name there");
    }
}

/* "Failed to remove bitmap 'NAME' ...", and there was nothing to be removed but memory. */
static void judge_removal(struct bitmap_models *models, const struct bitmap_model *m, const struct qmp_call *call)
{
    static const char text[] = "Failed to remove bitmap '";
    const char *at = strstr(error_get_pretty(call->err), text);
    size_t length = strlen(m->name);

    if (at && !m->listed && strncmp(at + strlen(text), m->name, length) == 0 && at[strlen(text) + length] == '\'') {
        bitmap_violate(models, m, "stored-wrong", call->command->name,
                       "it was never stored; expected: it can be removed; seen: %s", error_get_pretty(call->err));
    }
}

void bitmap_command_refused(struct bitmap_models *models, const struct qmp_call *call)
{
    for (struct bitmap_model *m = models->first; m && !image_is_dead(call); m = m->next) {
        const BlockDriverState *file = bdrv_primary_bs(m->bs);

        if (m->host != call->host || !m->name || !m->flag[BITMAP_PERSISTENT] || m->unstored || m->doomed ||
            m->tentative || !file || strcmp(bdrv_driver_name(m->bs), "qcow2") != 0) {
            continue;
        }
        judge_removal(models, m, call);
        struct qcow2_image *image = m->listed ? image_below(file) : NULL;
        if (image && !image->error[0]) {
            judge_refusal(models, m, call, image);
        }
        qcow2_image_free(image);
    }
}

/* The store failed, and it was said. */
void bitmap_lost(struct bitmap_models *models, const BlockDriverState *bs)
{
    for (struct bitmap_model *m = models->first; m; m = m->next) {
        m->unstored |= m->bs == bs;
    }
}
