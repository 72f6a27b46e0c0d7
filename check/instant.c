/* Content of a node at one instant: pages by reference, in leaves of sixteen. */
#include "check/instant.h"

#include <string.h>

#define LEAF_PAGES 16
#define LEAF_BYTES ((int64_t)LEAF_PAGES * SIM_PAGE_BYTES)
#define SLICE_BYTES MiB

struct instant_leaf {
    int64_t index;
    struct page *page[LEAF_PAGES]; /* NULL: zeroes */
};

/* --- keeping ---------------------------------------------------------------------------------------------- */

static struct instant_leaf *last_leaf(struct instant *instant, int64_t index)
{
    struct instant_leaf *leaf = instant->count > 0 ? instant->leaf[instant->count - 1] : NULL;

    SIM_ASSERT(!leaf || leaf->index <= index);
    if (leaf && leaf->index == index) {
        return leaf;
    }
    if (instant->count == instant->room) {
        uint32_t room = MAX(16, instant->room * 2);
        struct instant_leaf **grown = (struct instant_leaf **)sim_alloc_raw(instant->arena, SIM_TYPE_check_cell,
                                                                            room * sizeof(struct instant_leaf *));

        if (instant->count > 0) {
            memcpy(grown, instant->leaf, instant->count * sizeof(struct instant_leaf *));
        }
        SIM_FREE_N(instant->arena, check_cell, instant->leaf, struct instant_leaf *, instant->room);
        instant->leaf = grown;
        instant->room = room;
    }
    leaf = (struct instant_leaf *)sim_alloc(instant->arena, SIM_TYPE_check_cell, sizeof(*leaf));
    leaf->index = index;
    instant->leaf[instant->count++] = leaf;
    return leaf;
}

/* Takes the reference. */
static void keep_page(struct instant *instant, int64_t page_index, struct page *page)
{
    if (page_is_zero(page)) {
        page_unref(instant->sim, page);
        return;
    }
    last_leaf(instant, page_index / LEAF_PAGES)->page[page_index % LEAF_PAGES] = page;
}

/* Content whose pieces do not lie as pages do: behind odd windows, or in tiny clusters. */
static struct page *page_of_bytes(struct instant *instant, const struct payload *data, int64_t at)
{
    uint8_t bytes[SIM_PAGE_BYTES] = {0};

    payload_read_bytes(data, at, bytes, MIN((int64_t)SIM_PAGE_BYTES, data->size_bytes - at));
    return page_from_bytes(instant->sim, bytes);
}

static void keep(struct instant *instant, int64_t offset, const struct payload *data)
{
    uint32_t e = 0;
    int64_t elem_at = 0; /* where element e begins */

    SIM_ASSERT(offset % SIM_PAGE_BYTES == 0);
    for (int64_t at = 0; at < data->size_bytes; at += SIM_PAGE_BYTES) {
        const struct payload_elem *elem;

        while (data->head_bytes == 0 && e < data->count && elem_at < at) {
            elem_at += (int64_t)data->elem[e++].count * SIM_SECTOR_BYTES;
        }
        elem = data->head_bytes == 0 && e < data->count && elem_at == at ? &data->elem[e] : NULL;
        keep_page(instant, (offset + at) / SIM_PAGE_BYTES,
                  elem && elem->count == PAGE_SECTORS && data->size_bytes - at >= SIM_PAGE_BYTES
                      ? page_ref(elem->page)
                      : page_of_bytes(instant, data, at));
    }
}

static bool keep_run(struct instant *instant, const BlockDriverState *bs, int64_t start, int64_t end)
{
    bool known = true;

    for (int64_t n; start < end && known; start += n) {
        struct payload data;

        n = MIN(SLICE_BYTES, end - start);
        payload_init(instant->sim, &data);
        known = bdrv_peek(bs, start, n, &data) >= 0;
        if (known) {
            keep(instant, start, &data);
        }
        payload_clear(&data);
    }
    return known;
}

/* The run of equal kind from a page bound to another, or to the end. */
static bool status_of_pages(const BlockDriverState *bs, int64_t start, int64_t end, int64_t *stop)
{
    int64_t n;
    bool data = bdrv_peek_status(bs, start, end - start, &n);

    if (!data && start + n < end) {
        n = ROUND_DOWN(n, SIM_PAGE_BYTES);
        data = n == 0;
    }
    *stop = data ? MIN(end, start + ROUND_UP(MAX(n, 1), SIM_PAGE_BYTES)) : start + n;
    return data;
}

struct instant *instant_take(const struct check *check, const BlockDriverState *bs, int64_t from)
{
    struct instant *instant = (struct instant *)sim_alloc(check->arena, SIM_TYPE_check_state, sizeof(*instant));
    bool known = true;

    *instant = (struct instant){.sim = check->sim,
                                .arena = check->arena,
                                .users = 1,
                                .from = ROUND_DOWN(from, SIM_PAGE_BYTES),
                                .length = bdrv_getlength_cached(bs)};
    for (int64_t at = instant->from, stop; at < instant->length && known; at = stop) {
        if (status_of_pages(bs, at, instant->length, &stop)) {
            known = keep_run(instant, bs, at, stop);
        }
    }
    if (!known) {
        instant_drop(instant);
        return NULL;
    }
    return instant;
}

struct instant *instant_share(struct instant *instant)
{
    instant->users++;
    return instant;
}

void instant_drop(struct instant *instant)
{
    if (!instant || --instant->users > 0) {
        return;
    }
    for (uint32_t i = 0; i < instant->count; i++) {
        for (unsigned p = 0; p < LEAF_PAGES; p++) {
            if (instant->leaf[i]->page[p]) {
                page_unref(instant->sim, instant->leaf[i]->page[p]);
            }
        }
        sim_free(instant->arena, SIM_TYPE_check_cell, instant->leaf[i], sizeof(struct instant_leaf));
    }
    SIM_FREE_N(instant->arena, check_cell, instant->leaf, struct instant_leaf *, instant->room);
    sim_free(instant->arena, SIM_TYPE_check_state, instant, sizeof(*instant));
}

/* --- comparing -------------------------------------------------------------------------------------------- */

/* The first leaf at or after that index: its place, count when there is none. */
static uint32_t leaf_from(const struct instant *instant, int64_t index)
{
    uint32_t low = 0, high = instant->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (instant->leaf[middle]->index < index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct page *page_at(const struct instant *instant, int64_t page_index)
{
    uint32_t i = leaf_from(instant, page_index / LEAF_PAGES);

    return i < instant->count && instant->leaf[i]->index == page_index / LEAF_PAGES
               ? instant->leaf[i]->page[page_index % LEAF_PAGES]
               : NULL;
}

/* From a page bound. */
static void append(const struct instant *instant, int64_t start, int64_t bytes, struct payload *out)
{
    for (int64_t end = start + bytes; start < end; start += SIM_PAGE_BYTES) {
        struct page *page = page_at(instant, start / SIM_PAGE_BYTES);

        if (page) {
            payload_append_page(out, page, 0, PAGE_SECTORS);
        } else {
            payload_append_zero(out, SIM_PAGE_BYTES);
        }
    }
}

/* Where the next page with content begins. */
static int64_t next_content(const struct instant *instant, int64_t start)
{
    uint32_t i = leaf_from(instant, start / LEAF_BYTES);

    return i < instant->count ? MAX(start, instant->leaf[i]->index * LEAF_BYTES) : INT64_MAX;
}

/* Of at most a slice; -1: equal. */
static int64_t slice_difference(const struct instant *instant, const BlockDriverState *bs, int64_t start,
                                int64_t bytes)
{
    int64_t page = ROUND_DOWN(start, SIM_PAGE_BYTES);
    struct payload pages, then, now;
    int64_t found = -1;

    payload_init(instant->sim, &pages);
    payload_init(instant->sim, &then);
    payload_init(instant->sim, &now);
    if (bdrv_peek(bs, start, bytes, &now) >= 0) {
        append(instant, page, ROUND_UP(start + bytes, SIM_PAGE_BYTES) - page, &pages);
        payload_slice(&then, &pages, start - page, bytes);
        found = payload_first_difference(&then, &now, bytes);
    }
    payload_clear(&pages);
    payload_clear(&then);
    payload_clear(&now);
    return found < 0 ? -1 : start + found;
}

int64_t instant_difference(const struct instant *instant, const BlockDriverState *bs, int64_t start, int64_t end)
{
    SIM_ASSERT(start >= 0);
    end = MIN(end, MIN(instant->length, bdrv_getlength_cached(bs)));
    for (int64_t at = MAX(start, instant->from), n; at < end; at += n) {
        int64_t content = next_content(instant, at);
        int64_t found;

        if (!bdrv_peek_status(bs, at, end - at, &n) && content > at) {
            n = MIN(n, content - at); /* holes on both sides */
            continue;
        }
        n = MIN(n, SLICE_BYTES);
        found = slice_difference(instant, bs, at, n);
        if (found >= 0) {
            return found;
        }
    }
    return INSTANT_EQUAL;
}

int64_t instant_difference_except(const struct instant *instant, const BlockDriverState *bs, int64_t start,
                                  int64_t end, const struct ranges *except)
{
    while (start < end) {
        const struct range *r = ranges_next(except, start);
        int64_t stop = r ? MIN(end, MAX(start, r->start)) : end;
        int64_t found = start < stop ? instant_difference(instant, bs, start, stop) : INSTANT_EQUAL;

        if (found >= 0) {
            return found;
        }
        start = r ? MAX(stop, r->end) : end;
    }
    return INSTANT_EQUAL;
}

static void differing_slice(const struct instant *instant, const BlockDriverState *bs, int64_t start, int64_t bytes,
                            struct ranges *out)
{
    int64_t inside = bs ? MAX(MIN(bytes, bdrv_getlength_cached(bs) - start), (int64_t)0) : 0;
    struct payload then, now;

    payload_init(instant->sim, &then);
    payload_init(instant->sim, &now);
    append(instant, start, ROUND_UP(bytes, SIM_PAGE_BYTES), &then);
    if (inside == 0 || bdrv_peek(bs, start, inside, &now) >= 0) {
        payload_append_zero(&now, bytes - inside);
        for (int64_t at = 0; at < bytes; at += SIM_PAGE_BYTES) {
            int64_t end = MIN(at + SIM_PAGE_BYTES, bytes);
            bool equal = payload_equal(&then, at, &now, at, end - at);

            for (int64_t s = at; s < end && !equal; s += SIM_SECTOR_BYTES) {
                if (!payload_equal(&then, s, &now, s, MIN((int64_t)SIM_SECTOR_BYTES, end - s))) {
                    ranges_add(out, start + s, start + MIN(s + SIM_SECTOR_BYTES, end));
                }
            }
        }
    }
    payload_clear(&then);
    payload_clear(&now);
}

void instant_differing(const struct instant *instant, const BlockDriverState *bs, struct ranges *out)
{
    int64_t length = bs ? bdrv_getlength_cached(bs) : 0;

    for (int64_t at = instant->from, stop; at < instant->length; at = stop) {
        int64_t content = next_content(instant, at);
        bool data = at < length && status_of_pages(bs, at, MIN(length, instant->length), &stop);

        if (at >= length) {
            stop = instant->length;
        }
        if (!data && content > at) {
            stop = MIN(stop, content);
            continue;
        }
        stop = MIN(ROUND_UP(stop, SIM_PAGE_BYTES), MIN(at + SLICE_BYTES, instant->length));
        differing_slice(instant, bs, at, stop - at, out);
    }
}

bool instant_is_hole(const struct instant *instant, int64_t offset, int64_t bytes)
{
    return next_content(instant, offset) >= offset + bytes;
}

int64_t instant_difference_data(const struct instant *instant, int64_t offset, const struct payload *data)
{
    int64_t page = ROUND_DOWN(offset, SIM_PAGE_BYTES);
    int64_t bytes = MIN(data->size_bytes, instant->length - offset);
    struct payload pages, then;
    int64_t found = -1;

    SIM_ASSERT(offset >= instant->from);
    if (bytes <= 0) {
        return INSTANT_EQUAL;
    }
    payload_init(instant->sim, &pages);
    payload_init(instant->sim, &then);
    append(instant, page, ROUND_UP(offset + bytes, SIM_PAGE_BYTES) - page, &pages);
    payload_slice(&then, &pages, offset - page, bytes);
    found = payload_first_difference(&then, data, bytes);
    payload_clear(&pages);
    payload_clear(&then);
    return found < 0 ? INSTANT_EQUAL : offset + found;
}

const char *instant_content(const struct instant *instant, const struct check *check, int64_t offset,
                            char buf[CHECK_CONTENT])
{
    const struct check_boundary *boundary = check_boundary(check);
    struct page *page = page_at(instant, offset / SIM_PAGE_BYTES);
    unsigned sector = (unsigned)(offset % SIM_PAGE_BYTES / SIM_SECTOR_BYTES);
    uint64_t tag;

    if (page && page_sector_tag(page, sector, &tag)) {
        return check_content_of_tag(boundary, tag, buf);
    }
    return check_content_of_id(boundary, page ? page_sector_id(page, sector) : sim_sector_id_zero(),
                               offset / SIM_SECTOR_BYTES, buf);
}
