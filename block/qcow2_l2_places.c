/*
 * qcow2: where the active L2 tables are, in order of their offsets.
 *
 * Each write asks whether it would hit one of them (5.8), and L1 may have millions of entries. The order is made
 * when somebody first asks, and kept up while entries change one by one; whoever exchanges the whole L1 has it
 * forgotten.
 */
#include <stdlib.h>

#include "block/qcow2.h"

/* First place that is not below offset. */
static uint32_t lower_bound(const struct qcow2_l2_places *p, int64_t offset)
{
    uint32_t low = 0;
    uint32_t high = p->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->offset[middle] < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int in_order(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void make_room(BlockDriverState *bs, struct qcow2_l2_places *p, uint32_t room)
{
    if (room <= p->room) {
        return;
    }
    int64_t *grown = qcow2_alloc(bs, room * sizeof(*grown));
    if (p->count > 0) {
        memcpy(grown, p->offset, p->count * sizeof(*grown));
    }
    qcow2_free(bs, p->offset, p->room * sizeof(*grown));
    p->offset = grown;
    p->room = room;
}

static int64_t table_of(uint64_t l1_entry)
{
    return (int64_t)(l1_entry & L1E_OFFSET_MASK);
}

static void collect(BlockDriverState *bs, struct qcow2_l2_places *p)
{
    const BDRVQcow2State *s = bs->opaque;
    uint32_t used = 0;

    for (uint32_t i = 0; i < s->l1_size; i++) {
        used += table_of(s->l1_table[i]) != 0;
    }
    SIM_ASSERT_EQ(p->count, 0);
    make_room(bs, p, used);
    for (uint32_t i = 0; i < s->l1_size; i++) {
        if (table_of(s->l1_table[i]) != 0) {
            p->offset[p->count++] = table_of(s->l1_table[i]);
        }
    }
    if (used > 1) {
        qsort(p->offset, p->count, sizeof(*p->offset), in_order);
    }
    p->known = true;
}

static void add(BlockDriverState *bs, struct qcow2_l2_places *p, int64_t offset)
{
    uint32_t at = lower_bound(p, offset);

    if (p->count == p->room) {
        make_room(bs, p, MAX(p->room * 2, 16u));
    }
    memmove(p->offset + at + 1, p->offset + at, (p->count - at) * sizeof(*p->offset));
    p->offset[at] = offset;
    p->count++;
}

static void drop(struct qcow2_l2_places *p, int64_t offset)
{
    uint32_t at = lower_bound(p, offset);

    SIM_ASSERT(at < p->count && p->offset[at] == offset);
    p->count--;
    memmove(p->offset + at, p->offset + at + 1, (p->count - at) * sizeof(*p->offset));
}

void qcow2_set_l1_entry(BlockDriverState *bs, uint32_t l1_index, uint64_t entry)
{
    BDRVQcow2State *s = bs->opaque;
    struct qcow2_l2_places *p = &s->l2_places;

    SIM_ASSERT_LT(l1_index, s->l1_size);
    int64_t before = table_of(s->l1_table[l1_index]);
    int64_t after = table_of(entry);
    s->l1_table[l1_index] = entry;
    if (!p->known || before == after) {
        return;
    }
    if (before != 0) {
        drop(p, before);
    }
    if (after != 0) {
        add(bs, p, after);
    }
}

void qcow2_l2_places_forget(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    qcow2_free(bs, s->l2_places.offset, s->l2_places.room * sizeof(*s->l2_places.offset));
    s->l2_places = (struct qcow2_l2_places){0};
}

bool qcow2_l2_places_hit(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    struct qcow2_l2_places *p = &s->l2_places;

    SIM_ASSERT(offset >= 0 && bytes > 0);
    if (!p->known) {
        collect(bs, p);
    }
    uint32_t at = lower_bound(p, offset - s->cluster_size + 1);
    return at < p->count && p->offset[at] < offset + bytes;
}
