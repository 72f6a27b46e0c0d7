/* Requests of all kinds through a BlockBackend, for the tests of blkdebug and blkverify. */
#ifndef DBGTEST_H
#define DBGTEST_H

#include "tests/block/blktest.h"

#define R SIM_OP_READ
#define W SIM_OP_WRITE
#define Z SIM_OP_WRITE_ZEROES
#define D SIM_OP_DISCARD
#define F SIM_OP_FLUSH
#define S SIM_OP_BLOCK_STATUS

struct io {
    struct world *w;
    BlockBackend *blk;
    enum sim_op op;
    int64_t offset, bytes;
    uint8_t fill; /* of a write; a read's first byte */
    uint32_t flags;
    bool uniform; /* a read gave one byte throughout */
    bool done;
    int ret;
    unsigned *order;
    unsigned position; /* 1, 2, ... as they completed */
};

static bool uniform(struct world *w, const struct payload *data, uint8_t *byte)
{
    struct payload want;

    payload_read_bytes(data, 0, byte, 1);
    payload_init(w->sim, &want);
    payload_append_fill(&want, *byte, data->size_bytes);
    bool same = payload_equal(data, 0, &want, 0, data->size_bytes);
    payload_clear(&want);
    return same;
}

static int io_run(struct io *io)
{
    BdrvChild *root = blk_root(io->blk);
    struct payload data;
    int64_t pnum;
    int ret = -EINVAL;

    payload_init(io->w->sim, &data);
    switch (io->op) {
    case R:
        ret = bdrv_co_preadv(root, io->offset, io->bytes, &data, io->flags);
        io->uniform = ret == 0 && uniform(io->w, &data, &io->fill);
        break;
    case W:
        payload_append_fill(&data, io->fill, io->bytes);
        ret = bdrv_co_pwritev(root, io->offset, io->bytes, &data, io->flags);
        break;
    case Z:
        ret = bdrv_co_pwrite_zeroes(root, io->offset, io->bytes, io->flags);
        break;
    case D:
        ret = bdrv_co_pdiscard(root, io->offset, io->bytes);
        break;
    case F:
        ret = bdrv_co_flush(blk_bs(io->blk));
        break;
    default:
        ret = bdrv_co_block_status(blk_bs(io->blk), io->offset, io->bytes, &pnum, NULL, NULL);
        ret = MIN(ret, 0);
    }
    payload_clear(&data);
    return ret;
}

static void io_entry(void *opaque)
{
    struct io *io = opaque;

    io->ret = io_run(io);
    io->done = true;
    if (io->order) {
        io->position = ++*io->order;
    }
    host_kick(io->w->host);
}

SIM_UNUSED static void io_start(struct io *io)
{
    coroutine_start(coroutine_create(io->w->sim, io->w->host, "test request", io_entry, io));
}

static bool io_is_done(void *opaque)
{
    return ((struct io *)opaque)->done;
}

SIM_UNUSED static int io_finish(struct io *io)
{
    host_poll(io->w->host, io_is_done, io);
    return io->ret;
}

SIM_UNUSED static int do_io(BlockBackend *blk, struct world *w, enum sim_op op, int64_t offset, int64_t bytes)
{
    struct io io = {.w = w, .blk = blk, .op = op, .offset = offset, .bytes = bytes, .fill = 0x5a};

    io_start(&io);
    return io_finish(&io);
}

/* The range reads as that byte throughout. */
SIM_UNUSED static bool reads(BlockBackend *blk, struct world *w, int64_t offset, int64_t bytes, uint8_t byte)
{
    struct io io = {.w = w, .blk = blk, .op = R, .offset = offset, .bytes = bytes};

    io_start(&io);
    return io_finish(&io) == 0 && io.uniform && io.fill == byte;
}

/* Opens the tree and puts a user with all rights on it. */
SIM_UNUSED static BlockBackend *open_blk(struct world *w, const char *options)
{
    BlockBackend *blk = blk_new(w->host, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL);
    Error *err = NULL;

    if (blk_insert_bs(blk, add(w, options), &err) < 0) {
        fail_msg("%s", error_get_pretty(err));
    }
    return blk;
}

SIM_UNUSED static void close_blk(struct world *w, BlockBackend *blk)
{
    const char *name = bdrv_get_node_name(blk_bs(blk));

    blk_unref(blk);
    del(w, name);
}

#define DISK(name) "{'driver':'disk','disk':'" name "'}"

#endif
