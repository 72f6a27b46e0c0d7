/* The model of one bitmap: its life and the algebra of its two bounds. */
#include <string.h>

#include "check/bitmap_model.h"

/* --- life ------------------------------------------------------------------------------------------------- */

static char *copy_name(struct sim_arena *arena, const char *name)
{
    return name ? sim_strdup(arena, name) : NULL;
}

struct bitmap_model *bitmap_model_new(struct bitmap_models *models, const BdrvDirtyBitmap *bitmap, uint64_t event)
{
    struct sim_arena *arena = models->check->arena;
    struct bitmap_model *m = (struct bitmap_model *)sim_alloc(arena, SIM_TYPE_check_state, sizeof(*m));

    m->bitmap = bitmap;
    m->bs = bdrv_dirty_bitmap_node(bitmap);
    m->host = bdrv_host(m->bs);
    m->name = copy_name(arena, bdrv_dirty_bitmap_name(bitmap));
    m->size = bdrv_getlength_cached(m->bs);
    m->granularity = bdrv_dirty_bitmap_granularity(bitmap);
    m->enabled = true; /* who makes it otherwise says so at once */
    m->enabled_at = event;
    ranges_init(arena, &m->lower);
    ranges_init(arena, &m->upper);
    ranges_init(arena, &m->due);
    bitmap_refresh(models, m);
    if (!models->first) {
        bitmap_flights_unseen(models);
    }
    m->next = models->first;
    models->first = m;
    return m;
}

/* What was cleared before that event is of no interest: no request is that old. */
static void drop_cleared(struct bitmap_models *models, struct bitmap_model *m, uint64_t before)
{
    struct bitmap_cleared **link = &m->cleared;

    while (*link && (*link)->at >= before) {
        link = &(*link)->next;
    }
    while (*link) {
        struct bitmap_cleared *next = (*link)->next;

        sim_free(models->check->arena, SIM_TYPE_check_cell, *link, sizeof(**link));
        *link = next;
    }
}

void bitmap_model_free(struct bitmap_models *models, struct bitmap_model **link)
{
    struct bitmap_model *m = *link;

    *link = m->next;
    for (struct bitmap_model *other = models->first; other; other = other->next) {
        if (other->successor == m) {
            other->successor = NULL;
        }
    }
    drop_cleared(models, m, UINT64_MAX);
    ranges_free(&m->lower);
    ranges_free(&m->upper);
    ranges_free(&m->due);
    sim_strfree(models->check->arena, m->name);
    sim_free(models->check->arena, SIM_TYPE_check_state, m, sizeof(*m));
}

struct bitmap_model *bitmap_model_find(const struct bitmap_models *models, const BdrvDirtyBitmap *bitmap)
{
    struct bitmap_model *m = bitmap ? models->first : NULL;

    while (m && m->bitmap != bitmap) {
        m = m->next;
    }
    return m;
}

struct bitmap_model *bitmap_model_named(const struct bitmap_models *models, const BlockDriverState *bs,
                                        const char *name)
{
    struct bitmap_model *m = bs && name ? models->first : NULL;

    while (m && !(m->bs == bs && m->name && strcmp(m->name, name) == 0)) {
        m = m->next;
    }
    return m;
}

bool bitmap_command_running(const struct bitmap_models *models, uint32_t host)
{
    for (const struct bitmap_command *c = models->commands; c; c = c->next) {
        if (c->host == host && c->bitmaps) {
            return true;
        }
    }
    return false;
}

/* --- ranges ------------------------------------------------------------------------------------------------ */

static int64_t group_end(const struct bitmap_model *m, int64_t end)
{
    return check_group_end(end, m->granularity);
}

/* The groups that [start, end) touches; false: none that exists. */
static bool to_groups(const struct bitmap_model *m, int64_t *start, int64_t *end)
{
    *start = MAX(*start, (int64_t)0);
    *end = MIN(*end, m->size);
    if (*start >= *end) {
        return false;
    }
    *start = ROUND_DOWN(*start, m->granularity);
    *end = group_end(m, *end);
    return true;
}

void bitmap_must(struct bitmap_model *m, int64_t start, int64_t end)
{
    if (to_groups(m, &start, &end)) {
        ranges_add(&m->lower, start, end);
        ranges_add(&m->upper, start, end);
    }
}

void bitmap_maybe(struct bitmap_model *m, int64_t start, int64_t end)
{
    if (to_groups(m, &start, &end) && !ranges_contain(&m->lower, start, end)) {
        ranges_add(&m->upper, start, end);
        m->blurred = true;
    }
}

static void note_cleared(struct bitmap_models *models, struct bitmap_model *m, int64_t start, int64_t end,
                         uint64_t event)
{
    const struct check_boundary *boundary = check_boundary(models->check);
    const int64_t block = MAX(SIM_PAGE_BYTES, (int64_t)bdrv_request_alignment(m->bs));
    struct bitmap_cleared *c;

    drop_cleared(models, m, boundary->first ? boundary->first->start : UINT64_MAX);
    /* a request is padded to a block at most */
    if (check_flight_writing(boundary, NULL, MAX(start - block, (int64_t)0),
                             MIN(end, INT64_MAX - 2 * block) - start + 2 * block)) {
        c = (struct bitmap_cleared *)sim_alloc_raw(models->check->arena, SIM_TYPE_check_cell, sizeof(*c));
        *c = (struct bitmap_cleared){start, end, event, m->cleared};
        m->cleared = c;
    }
}

void bitmap_clear(struct bitmap_models *models, struct bitmap_model *m, int64_t start, int64_t end, uint64_t event)
{
    /* clearing an arbitrary range rounds inward (1.2); the last group may reach beyond the size */
    start = group_end(m, start);
    end = end >= m->size ? group_end(m, m->size) : ROUND_DOWN(end, m->granularity);
    if (start >= end) {
        return;
    }
    ranges_remove(&m->lower, start, end);
    ranges_remove(&m->upper, start, end);
    if (m->upper.count == 0) {
        m->upper_open = false;
        m->blurred = false;
    }
    if (m->due.count > 0 && bitmap_is_quiet(models, m)) {
        ranges_free(&m->due); /* it was marked before */
    }
    m->due_blurred = true;
    note_cleared(models, m, start, end, event);
}

/* The part of [start, end) that no clearing since `since` touched must be dirty, the rest may be. */
static void marked(struct bitmap_model *m, int64_t start, int64_t end, uint64_t since,
                   const struct bitmap_cleared *c)
{
    while (c && c->at > since && (c->end <= start || c->start >= end)) {
        c = c->next;
    }
    if (start >= end) {
        return;
    }
    if (!c || c->at <= since) {
        bitmap_must(m, start, end);
        return;
    }
    bitmap_maybe(m, MAX(start, c->start), MIN(end, c->end));
    marked(m, start, MIN(end, c->start), since, c->next);
    marked(m, MAX(start, c->end), end, since, c->next);
}

void bitmap_marked(struct bitmap_model *m, int64_t start, int64_t end, uint64_t first, uint64_t last)
{
    SIM_ASSERT(first <= last);
    if (m->enabled_at >= (m->enabled ? last : first)) {
        bitmap_maybe(m, start, end); /* it recorded for a part of that time only */
    } else if (m->enabled && to_groups(m, &start, &end)) {
        marked(m, start, end, last, m->cleared);
    }
}

/* --- whole bitmaps ----------------------------------------------------------------------------------------- */

/* A source of other granularity sets what it covers, clipped at the size, rounded outward (1.5). */
static void add_groups(const struct bitmap_model *m, struct ranges *set, const struct ranges *more)
{
    for (uint32_t i = 0; i < more->count; i++) {
        int64_t start = more->item[i].start;
        int64_t end = more->item[i].end;

        if (to_groups(m, &start, &end)) {
            ranges_add(set, start, end);
        }
    }
}

void bitmap_merge(struct bitmap_models *models, struct bitmap_model *m, const struct bitmap_model *source)
{
    if (m == source) {
        return;
    }
    add_groups(m, &m->lower, &source->lower);
    add_groups(m, &m->upper, &source->upper);
    add_groups(m, &m->upper, &source->due);
    m->blurred |= source->blurred || source->due.count > 0;
    m->upper_open |= !bitmap_is_bounded(source);
    bitmap_blur_by_flights(models, m, source);
}

void bitmap_resize(struct bitmap_models *models, struct bitmap_model *m, int64_t size, uint64_t event)
{
    if (m->successor) {
        m->kept = MIN(m->kept, size);
        return;
    }
    if (size < m->size) {
        /* a group that is cut in half keeps its bit (1.4) */
        int64_t end = group_end(m, size);

        ranges_remove(&m->lower, end, INT64_MAX);
        ranges_remove(&m->upper, end, INT64_MAX);
        ranges_remove(&m->due, end, INT64_MAX);
        note_cleared(models, m, end, INT64_MAX, event);
    }
    m->size = size;
}

void bitmap_enable(struct bitmap_model *m, bool enabled, uint64_t event)
{
    if (m->enabled != enabled) {
        m->enabled = enabled;
        m->enabled_at = event;
        m->due_blurred = true;
    }
}

void bitmap_freeze(struct bitmap_model *parent, struct bitmap_model *child, uint64_t event)
{
    child->child = true;
    bitmap_enable(child, parent->enabled, event);
    ranges_add_all(&child->due, &parent->due); /* on the way: either of them gets the bits */
    child->due_since = parent->due_since;
    child->due_blurred = true;
    parent->successor = child;
    parent->kept = parent->size;
    parent->frozen_at = event;
    parent->frozen_enabled = parent->enabled;
    parent->frozen_enabled_at = parent->enabled_at;
    parent->flag[BITMAP_BUSY] = true;
    bitmap_enable(parent, false, event);
}

void bitmap_abdicate(struct bitmap_model *parent)
{
    struct bitmap_model *child = parent->successor;

    SIM_ASSERT(child != NULL && !child->name);
    child->child = false;
    child->name = parent->name;
    child->flag[BITMAP_PERSISTENT] = parent->flag[BITMAP_PERSISTENT];
    /* the image says of that name that it is stored in order: nobody may write under it (2.3; block.md 8.4) */
    child->flag[BITMAP_READONLY] = parent->flag[BITMAP_READONLY];
    child->unstored = parent->unstored; /* what its image said of storing that name */
    parent->name = NULL;
    parent->flag[BITMAP_PERSISTENT] = false;
    parent->flag[BITMAP_BUSY] = false;
    parent->successor = NULL;
}

void bitmap_reclaim(struct bitmap_models *models, struct bitmap_model *parent, uint64_t event)
{
    struct bitmap_model *child = parent->successor;

    SIM_ASSERT(child != NULL);
    parent->successor = NULL;
    bitmap_resize(models, parent, parent->kept, event);
    bitmap_resize(models, parent, child->size, event);
    bitmap_merge(models, parent, child);
    ranges_add_all(&parent->due, &child->due);
    bitmap_enable(parent, child->enabled, event);
    parent->enabled_at = child->enabled_at;
    if (child->enabled == parent->frozen_enabled && child->enabled_at <= parent->frozen_at) {
        parent->enabled_at = parent->frozen_enabled_at; /* one of the two recorded all the time, or neither did */
    }
    parent->flag[BITMAP_BUSY] = false;
}

void bitmap_adopt(struct bitmap_model *m)
{
    if (m->blurred || !bitmap_is_bounded(m)) {
        check_read_bits(m->bitmap, &m->upper);
        ranges_free(&m->lower);
        ranges_add_all(&m->lower, &m->upper);
        m->blurred = false;
        m->upper_open = false;
    }
}
