/*
 * The content ids of a payload's sectors, in order: guest-view's model walks payloads by them.
 */
#ifndef CHECK_GUEST_IDS_H
#define CHECK_GUEST_IDS_H

#include "check/checkers.h"

struct id_iter {
    const struct payload *p;
    int64_t sector; /* next one, for payloads whose sectors lie across page sectors */
    uint32_t elem;
    unsigned at;
};

static inline void id_seek(struct id_iter *iter, const struct payload *p, int64_t sector)
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

static inline uint64_t id_next(struct id_iter *iter)
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
static inline struct page *id_page(const struct id_iter *iter)
{
    const struct payload_elem *elem = &iter->p->elem[iter->elem];

    return iter->p->head_bytes == 0 && iter->at == 0 && elem->count == PAGE_SECTORS ? elem->page : NULL;
}

/* The next sectors are those of this page from `first` on, and so are passed. */
static inline bool id_pass(struct id_iter *iter, const struct page *page, unsigned first, unsigned count)
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

static inline void id_skip_page(struct id_iter *iter)
{
    SIM_ASSERT_EQ(iter->at, 0);
    iter->elem++;
}

#endif
