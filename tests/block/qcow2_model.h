/*
 * What a disk may hold after requests that overlapped in time, and after the power failed: per sector of the test
 * disk, from the list of all requests.
 *
 * A value is there from the begin of its request on, and surely gone once another request on the sector has begun
 * after its end and ended itself. Power loss may take back to any value that no write before the begin of a flush
 * that completed has surely replaced. A discard adds zeros and takes nothing away.
 */
#ifndef TESTS_BLOCK_QCOW2_MODEL_H
#define TESTS_BLOCK_QCOW2_MODEL_H

#include "tests/block/qcow2_rig.h"

#define MODEL_OPS 256

struct model {
    struct rq *ops;
    unsigned count;
    uint8_t (*before)(int64_t offset); /* what the disk held at first */
};

static bool changes(const struct rq *r)
{
    return r->begun > 0 && r->op != OP_READ && r->op != OP_FLUSH;
}

static uint8_t value_of(const struct rq *r)
{
    return r->op == OP_WRITE || r->op == OP_COMPRESSED ? r->fill : 0;
}

static bool over(const struct rq *r, int64_t offset)
{
    return changes(r) && r->offset <= offset && offset < r->offset + r->bytes;
}

/* Something wrote the sector wholly between those instants. */
static bool replaced(const struct model *m, int64_t offset, uint64_t after, uint64_t until)
{
    for (unsigned i = 0; i < m->count; i++) {
        const struct rq *r = &m->ops[i];
        if (over(r, offset) && r->op != OP_DISCARD && r->done && r->ret == 0 && r->begun > after &&
            r->ended < until) {
            return true;
        }
    }
    return false;
}

/* May the sector have that value, seen by somebody who began to look at `since` and ended at `until`? */
static bool may_be(const struct model *m, int64_t offset, uint8_t value, uint64_t since, uint64_t until)
{
    if (value == m->before(offset) && !replaced(m, offset, 0, since)) {
        return true;
    }
    for (unsigned i = 0; i < m->count; i++) {
        const struct rq *r = &m->ops[i];
        uint64_t ended = r->done ? r->ended : UINT64_MAX;
        if (over(r, offset) && value_of(r) == value && r->begun < until && !replaced(m, offset, ended, since)) {
            return true;
        }
    }
    return false;
}

/* The begin of the last flush that completed: what was written before it is safe. */
static uint64_t SIM_UNUSED safe_until(const struct model *m)
{
    uint64_t begun = 0;

    for (unsigned i = 0; i < m->count; i++) {
        const struct rq *r = &m->ops[i];
        if (r->op == OP_FLUSH && r->done && r->ret == 0) {
            begun = MAX(begun, r->begun);
        }
    }
    return begun;
}

/* First offset in got that cannot be, or -1. */
static int64_t SIM_UNUSED model_check(const struct model *m, int64_t offset, int64_t bytes, const uint8_t *got,
                                      uint64_t since, uint64_t until)
{
    for (int64_t at = 0; at < bytes; at += SIM_SECTOR_BYTES) {
        for (int64_t i = 1; i < SIM_SECTOR_BYTES; i++) {
            if (got[at + i] != got[at]) {
                return offset + at + i; /* requests are of whole sectors */
            }
        }
        if (!may_be(m, offset + at, got[at], since, until)) {
            return offset + at;
        }
    }
    return -1;
}

#endif
