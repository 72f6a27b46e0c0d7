/*
 * Places in a payload, for sim/payload*.c.
 */
#ifndef SIM_PAYLOAD_INT_H
#define SIM_PAYLOAD_INT_H

#include "sim/page.h"

static inline int64_t payload_sectors(const struct payload *p)
{
    return (p->head_bytes + p->size_bytes + SIM_SECTOR_BYTES - 1) / SIM_SECTOR_BYTES;
}

/* Bytes used in the last sector; 0 when the end is on a sector edge. */
static inline unsigned payload_end(const struct payload *p)
{
    return (unsigned)((p->head_bytes + p->size_bytes) % SIM_SECTOR_BYTES);
}

struct cursor {
    const struct payload *p;
    uint32_t elem;
    unsigned sector; /* within the element */
};

/* The place of sector `at`, counted from the payload's first one. */
struct cursor payload_cursor(const struct payload *p, int64_t at);

static inline void cursor_advance(struct cursor *c, unsigned sectors)
{
    c->sector += sectors;
    SIM_ASSERT_LE(c->sector, c->p->elem[c->elem].count);
    if (c->sector == c->p->elem[c->elem].count) {
        c->elem++;
        c->sector = 0;
    }
}

static inline unsigned cursor_left(const struct cursor *c)
{
    return c->p->elem[c->elem].count - c->sector;
}

static inline unsigned cursor_page_sector(const struct cursor *c)
{
    return c->p->elem[c->elem].first + c->sector;
}

static inline struct sector cursor_get(const struct cursor *c)
{
    return page_sector(c->p->elem[c->elem].page, cursor_page_sector(c));
}

#endif
