/*
 * The plain bit array an HBitmap is compared with.
 *
 * An array of elements, each with one value. Most are one bit wide. Where the bitmap is far too long for that,
 * windows of such elements stand apart, and what lies between two of them is one wide element:
 *
 *     bits   |0 1 2 .. 127|              128 .. 2^41-65              |2^41-64 ..|
 *     value   0 1 1 ..   0                      0                     1 1 0 ..
 *
 * Windows begin on multiples of 64 bits. Operations change whole elements.
 */
#ifndef TESTS_BLOCK_HBITMAP_MODEL_H
#define TESTS_BLOCK_HBITMAP_MODEL_H

#include <string.h>

#include "tests/testlib.h"

#include "sim/util.h"

#define MODEL_MAX 9216

struct model {
    int granularity;
    int64_t length; /* in items, now */
    unsigned count; /* elements inside the length */
    unsigned all;   /* elements there are for any length of this round */
    bool plain;     /* every element is one bit */
    uint64_t pos[MODEL_MAX + 1];
    uint8_t value[MODEL_MAX];
};

static inline uint64_t next_random(uint64_t *seed)
{
    return sim_mix64(*seed += UINT64_C(0x9e3779b97f4a7c15));
}

static inline uint64_t below(uint64_t *seed, uint64_t n)
{
    return n == 0 ? 0 : next_random(seed) % n;
}

/* Up to so many, mostly small. */
static inline uint64_t below_log(uint64_t *seed, uint64_t n)
{
    uint64_t bits = below(seed, 64);
    return below(seed, MIN(n, (uint64_t)1 << bits));
}

static inline uint64_t model_bits(const struct model *m)
{
    return m->pos[m->count];
}

static inline uint64_t model_width(const struct model *m, unsigned e)
{
    return m->pos[e + 1] - m->pos[e];
}

/* The element of a bit inside the length. */
static inline unsigned model_at(const struct model *m, uint64_t bit)
{
    unsigned lo = 0;
    unsigned hi = m->count;
    while (hi - lo > 1) {
        unsigned mid = (lo + hi) / 2;
        if (m->pos[mid] <= bit) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static inline int64_t group_start(const struct model *m, uint64_t bit)
{
    return (int64_t)(bit << m->granularity);
}

/* Last item of a group; the one past it may not fit a signed number. */
static inline int64_t group_last(const struct model *m, uint64_t bit)
{
    return (int64_t)((bit << m->granularity) + (((uint64_t)1 << m->granularity) - 1));
}

/* A random length of which the last group is the one before element `count`. */
static inline void model_pick_length(uint64_t *seed, struct model *m, unsigned count)
{
    m->count = count;
    m->length = 0;
    if (count > 0) {
        uint64_t last = m->pos[count] - 1;
        uint64_t cut = below(seed, 2) ? 0 : below(seed, (uint64_t)1 << m->granularity);
        int64_t full = group_last(m, last);
        m->length = full - (int64_t)cut + (full - (int64_t)cut < INT64_MAX);
    }
}

static inline void model_add_window(struct model *m, uint64_t first, uint64_t end)
{
    for (uint64_t b = first; b < end; b++) {
        SIM_ASSERT_LT(m->all, MODEL_MAX);
        m->pos[m->all++] = b;
    }
    m->pos[m->all] = end;
}

/* Windows at random distances, fond of the edges between the leaves and nodes of a 64-ary tree. */
static inline void model_add_windows(uint64_t *seed, struct model *m, uint64_t bits)
{
    uint64_t at = 0;
    uint64_t last = (bits - 1) / 64 * 64;
    for (unsigned windows = 1 + (unsigned)below(seed, 5); windows > 0; windows--) {
        uint64_t end = at + 64 * (1 + below(seed, 4));
        if (end >= last) {
            break;
        }
        model_add_window(m, at, end);
        at = end + 64 * (1 + below_log(seed, (last - end) / 64));
        int edge = (int)(12 + 6 * below(seed, 9));
        if (below(seed, 2) && at < UINT64_C(1) << edge) {
            at = (UINT64_C(1) << edge) - 64;
        }
        if (at <= end || at >= last) {
            break;
        }
        m->pos[m->all++] = end; /* the gap */
        m->pos[m->all] = at;
    }
    if (m->all > 0 && m->pos[m->all] < last) {
        m->all++;
    }
    model_add_window(m, m->all == 0 ? 0 : last, bits);
}

/* All clear; at most so many bits. */
static inline void model_init(uint64_t *seed, struct model *m, int granularity, uint64_t bits)
{
    uint64_t most = (uint64_t)INT64_MAX >> granularity;
    most += granularity > 0; /* the last group is cut by the largest length there is */
    bits = MIN(bits, most);
    memset(m, 0, sizeof(*m));
    m->granularity = granularity;
    m->plain = bits <= MODEL_MAX;
    if (m->plain) {
        model_add_window(m, 0, bits);
    } else {
        model_add_windows(seed, m, bits);
    }
    SIM_ASSERT_EQ(m->pos[m->all], bits);
    model_pick_length(seed, m, below(seed, 4) ? m->all : (unsigned)below(seed, m->all + 1));
}

static inline int64_t model_next(const struct model *m, int64_t start, int64_t count, uint8_t value)
{
    if (start >= m->length || count == 0) {
        return -1;
    }
    int64_t end = count < m->length - start ? start + count : m->length;
    for (unsigned e = model_at(m, (uint64_t)start >> m->granularity); e < m->count; e++) {
        int64_t item = MAX(group_start(m, m->pos[e]), start);
        if (item >= end) {
            return -1;
        }
        if (m->value[e] == value) {
            return item;
        }
    }
    return -1;
}

/* Items in set groups, as hbitmap_count tells them. */
static inline int64_t model_count(const struct model *m)
{
    unsigned __int128 bits = 0;
    for (unsigned e = 0; e < m->count; e++) {
        bits += m->value[e] ? model_width(m, e) : 0;
    }
    bits <<= m->granularity;
    return bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
}

#endif
