/*
 * What the tests of media share: a world, a generator of their own, requests with their outcome.
 */
#ifndef TESTS_SIM_DISK_UTIL_H
#define TESTS_SIM_DISK_UTIL_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/disk.h"

static uint64_t rng_state;

SIM_UNUSED static uint64_t rng(uint64_t n)
{
    rng_state += UINT64_C(0x9e3779b97f4a7c15);
    return sim_mix64(rng_state) % n;
}

SIM_UNUSED static int setup(void **state)
{
    *state = sim_new();
    rng_state = 7;
    return 0;
}

SIM_UNUSED static int teardown(void **state)
{
    sim_delete(*state);
    return 0;
}

SIM_UNUSED static struct disk *make_disk(struct sim *sim, const char *name, const char *json)
{
    struct disk_config config;
    Error *err = NULL;
    struct qvalue *dict = qvalue_from_json(json, strlen(json), &err);

    assert_non_null(dict);
    assert_true(disk_config_parse(dict, &config, &err));
    qvalue_free(dict);
    struct disk *disk = disk_new(sim, name, &config, &err);
    assert_non_null(disk);
    return disk;
}

/* A request with its outcome, submitted from outside of coroutines. */
struct io {
    struct disk_req req;
    struct payload data;
    int ret;
    bool done;
    int64_t done_ns;
    struct io **log; /* where the order of completions goes */
};

SIM_UNUSED static void io_done(void *opaque, int ret)
{
    struct io *io = opaque;

    io->ret = ret;
    io->done = true;
    io->done_ns = sim_now(disk_sim(io->req.disk));
    if (io->log != NULL) {
        while (*io->log != NULL) {
            io->log++;
        }
        *io->log = io;
    }
}

SIM_UNUSED static void io_start(struct io *io, struct disk *disk, enum sim_op op, int64_t offset, int64_t bytes,
                                uint32_t flags)
{
    io->done = false;
    io->req.disk = disk;
    io->req.op = op;
    io->req.flags = flags;
    io->req.offset = offset;
    io->req.bytes = bytes;
    io->req.in = &io->data;
    io->req.out = &io->data;
    io->req.done = io_done;
    io->req.opaque = io;
    disk_submit(disk_sim(disk), &io->req);
}

SIM_UNUSED static void io_init(struct io *io, struct disk *disk)
{
    memset(io, 0, sizeof(*io));
    payload_init(disk_sim(disk), &io->data);
}

/* Submits a write of tags and returns at once. */
SIM_UNUSED static void io_write_tags(struct io *io, struct disk *disk, int64_t offset, int64_t bytes, uint64_t tag,
                                     uint32_t flags)
{
    io_init(io, disk);
    payload_append_tags(&io->data, tag, bytes / SIM_SECTOR_BYTES);
    io_start(io, disk, SIM_OP_WRITE, offset, bytes, flags);
}

SIM_UNUSED static void settle(struct disk *disk)
{
    assert_int_equal(sim_run(disk_sim(disk), NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
}

SIM_UNUSED static int io_run(struct disk *disk, enum sim_op op, int64_t offset, int64_t bytes, uint32_t flags)
{
    struct io io;

    io_init(&io, disk);
    if (op == SIM_OP_WRITE) {
        payload_append_fill(&io.data, 0xaa, bytes);
    }
    io_start(&io, disk, op, offset, bytes, flags);
    settle(disk);
    assert_true(io.done);
    payload_clear(&io.data);
    return io.ret;
}

SIM_UNUSED static int run_write_tags(struct disk *disk, int64_t offset, int64_t bytes, uint64_t tag, uint32_t flags)
{
    struct io io;

    io_write_tags(&io, disk, offset, bytes, tag, flags);
    settle(disk);
    payload_clear(&io.data);
    return io.ret;
}

/* The tag of a sector as the disk has it; UINT64_MAX when it holds none. */
SIM_UNUSED static uint64_t tag_at(const struct disk *disk, int64_t offset, bool durable)
{
    struct payload p;
    uint64_t tag = UINT64_MAX;

    payload_init(disk_sim(disk), &p);
    if (durable) {
        disk_peek_durable(disk, offset, SIM_SECTOR_BYTES, &p);
    } else {
        disk_peek(disk, offset, SIM_SECTOR_BYTES, &p);
    }
    payload_sector_tag(&p, 0, &tag);
    payload_clear(&p);
    return tag;
}

SIM_UNUSED static bool reads_zero(const struct disk *disk, int64_t offset, int64_t bytes)
{
    struct payload p;

    payload_init(disk_sim(disk), &p);
    disk_peek(disk, offset, bytes, &p);
    bool zero = payload_is_zero(&p, 0, bytes);
    payload_clear(&p);
    return zero;
}

/* --- an interposer that does as it is told ------------------------------------------------------------------- */

struct bend {
    struct disk_interposer base;
    int ret;
    int64_t extra_ns;
    bool stuck;
    bool lose;
    int64_t shift;
};

SIM_UNUSED static void bend_before(struct disk_interposer *self, struct disk_req *req)
{
    struct bend *bend = container_of(self, struct bend, base);

    req->ret = bend->ret;
    req->extra_latency_ns += bend->extra_ns;
    req->stuck = bend->stuck;
}

SIM_UNUSED static void bend_at_effect(struct disk_interposer *self, struct disk_req *req)
{
    struct bend *bend = container_of(self, struct bend, base);

    req->lose = bend->lose;
    req->effect_offset += bend->shift;
}

#define TEST(name, fn) \
    { \
        name, fn, setup, teardown, NULL \
    }

#endif
