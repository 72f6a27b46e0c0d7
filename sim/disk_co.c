/* Requests to a disk as a coroutine makes them: submit, park, return the result. */
#include "sim/disk.h"

struct disk_wait {
    Coroutine *co;
    int ret;
    bool finished;
};

static void wait_done(void *opaque, int ret)
{
    struct disk_wait *wait = opaque;

    wait->ret = ret;
    wait->finished = true;
    coroutine_wake(wait->co);
}

/* The request lives on the coroutine's stack, which outlives it: nothing else wakes this yield for good. */
static int disk_co_run(struct disk *disk, struct disk_req *req, struct sim *sim)
{
    struct disk_wait wait = {.co = coroutine_self(sim)};

    SIM_ASSERT(wait.co != NULL);
    req->disk = disk;
    req->done = wait_done;
    req->opaque = &wait;
    disk_submit(sim, req);
    while (!wait.finished) {
        coroutine_yield(sim);
    }
    return wait.ret;
}

static int disk_co_simple(struct disk *disk, enum sim_op op, int64_t offset, int64_t bytes, uint32_t flags)
{
    struct disk_req req;

    req.op = op;
    req.flags = flags;
    req.offset = offset;
    req.bytes = bytes;
    req.in = NULL;
    req.out = NULL;
    return disk_co_run(disk, &req, disk_sim(disk));
}

int disk_co_read(struct disk *disk, int64_t offset, int64_t bytes, struct payload *out)
{
    struct disk_req req;

    req.op = SIM_OP_READ;
    req.flags = 0;
    req.offset = offset;
    req.bytes = bytes;
    req.in = NULL;
    req.out = out;
    return disk_co_run(disk, &req, disk_sim(disk));
}

int disk_co_write(struct disk *disk, int64_t offset, int64_t bytes, const struct payload *in, uint32_t flags)
{
    struct disk_req req;

    req.op = SIM_OP_WRITE;
    req.flags = flags;
    req.offset = offset;
    req.bytes = bytes;
    req.in = in;
    req.out = NULL;
    return disk_co_run(disk, &req, disk_sim(disk));
}

int disk_co_write_zeroes(struct disk *disk, int64_t offset, int64_t bytes, uint32_t flags)
{
    return disk_co_simple(disk, SIM_OP_WRITE_ZEROES, offset, bytes, flags);
}

int disk_co_discard(struct disk *disk, int64_t offset, int64_t bytes)
{
    return disk_co_simple(disk, SIM_OP_DISCARD, offset, bytes, 0);
}

int disk_co_flush(struct disk *disk)
{
    return disk_co_simple(disk, SIM_OP_FLUSH, 0, 0, 0);
}

int disk_co_truncate(struct disk *disk, int64_t length)
{
    return disk_co_simple(disk, SIM_OP_TRUNCATE, length, 0, 0);
}

int disk_co_query(struct disk *disk, enum sim_op op, int64_t offset, int64_t bytes)
{
    return disk_co_simple(disk, op, offset, bytes, 0);
}

int64_t disk_co_getlength(struct disk *disk)
{
    int ret = disk_co_query(disk, SIM_OP_GETLENGTH, 0, 0);

    return ret < 0 ? ret : disk_length(disk);
}
