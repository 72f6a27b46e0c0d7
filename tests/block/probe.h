/*
 * A node whose driver writes down what it is asked, fails or holds requests on demand, and keeps its content in
 * plain bytes: what the request path is tested against.
 *
 * Set-up runs on the host's main coroutine (probe_main), requests run in coroutines of their own (spawn), and
 * assertions only in the test function, after the world has settled.
 */
#ifndef TESTS_BLOCK_PROBE_H
#define TESTS_BLOCK_PROBE_H

#include "tests/testlib.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/block_int.h"

#define PROBE_ROOM (3 * MiB)
#define PROBE_LOG 256

struct probe_call {
    enum sim_op op;
    int64_t offset;
    int64_t bytes;
    uint32_t flags;
};

struct probe {
    BlockDriverState *bs;
    BlockBackend *blk;
    uint8_t *data;
    int64_t length;
    BlockLimits limits;
    int64_t cluster_size; /* 0: no info */
    struct probe_call log[PROBE_LOG];
    unsigned log_count;
    enum sim_op fail_op;
    int fail_ret;        /* 0: none */
    int64_t fail_offset; /* -1: any */
    unsigned fail_count; /* how many calls fail */
    enum sim_op hold_op;
    int64_t hold_offset; /* -1: none, -2: any */
    CoQueue held;
    int status_flags; /* what block_status answers for all of it; 0: unallocated */
    int64_t status_run;
};

static struct sim *world;
static struct host *host;

/* --- the driver ------------------------------------------------------------------------------------------ */

static int probe_call(BlockDriverState *bs, enum sim_op op, int64_t offset, int64_t bytes, uint32_t flags)
{
    struct probe *p = bs->opaque;
    SIM_ASSERT(p->log_count < PROBE_LOG);
    p->log[p->log_count++] = (struct probe_call){op, offset, bytes, flags};
    if (op == p->hold_op && (offset == p->hold_offset || p->hold_offset == -2)) {
        co_queue_wait(&p->held);
    }
    co_sleep_ns(world, 1000);
    if (p->fail_ret != 0 && op == p->fail_op && p->fail_count > 0 &&
        (p->fail_offset < 0 || p->fail_offset == offset)) {
        p->fail_count--;
        return p->fail_ret;
    }
    return 0;
}

static int probe_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    struct probe *p = bs->opaque;
    int ret = probe_call(bs, SIM_OP_READ, offset, bytes, flags);
    if (ret == 0) {
        payload_append_bytes(out, p->data + offset, bytes);
    }
    return ret;
}

static int probe_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                         uint32_t flags)
{
    struct probe *p = bs->opaque;
    int ret = probe_call(bs, SIM_OP_WRITE, offset, bytes, flags);
    SIM_ASSERT_EQ(in->size_bytes, bytes);
    if (ret == 0) {
        payload_read_bytes(in, 0, p->data + offset, bytes);
        p->length = MAX(p->length, offset + bytes);
    }
    return ret;
}

static int probe_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    struct probe *p = bs->opaque;
    int ret = probe_call(bs, SIM_OP_WRITE_ZEROES, offset, bytes, flags);
    if (ret == 0) {
        memset(p->data + offset, 0, (size_t)bytes);
        p->length = MAX(p->length, offset + bytes);
    }
    return ret;
}

static int probe_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return probe_call(bs, SIM_OP_DISCARD, offset, bytes, 0);
}

static int probe_flush_to_disk(BlockDriverState *bs)
{
    return probe_call(bs, SIM_OP_FLUSH, 0, 0, 0);
}

static int probe_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                          uint32_t flags, Error **errp)
{
    struct probe *p = bs->opaque;
    int ret = probe_call(bs, SIM_OP_TRUNCATE, length, 0, flags);
    if (ret < 0) {
        error_setg(errp, "probe");
        return ret;
    }
    p->length = length;
    return 0;
}

static int64_t probe_getlength(BlockDriverState *bs)
{
    struct probe *p = bs->opaque;
    if (p->fail_ret != 0 && p->fail_op == SIM_OP_GETLENGTH && p->fail_count > 0) {
        p->fail_count--;
        return p->fail_ret;
    }
    return p->length;
}

static int probe_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    struct probe *p = bs->opaque;
    info->cluster_size = p->cluster_size;
    return p->cluster_size > 0 ? 0 : -ENOTSUP;
}

static SIM_UNUSED int probe_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes,
                                         int64_t *pnum, int64_t *map, BlockDriverState **file)
{
    struct probe *p = bs->opaque;
    int ret = probe_call(bs, SIM_OP_BLOCK_STATUS, offset, bytes, want_zero);
    *pnum = p->status_run > 0 ? MIN(bytes, p->status_run) : bytes;
    *map = offset;
    *file = p->status_flags & BDRV_BLOCK_RECURSE ? bdrv_primary_bs(bs) : bs;
    return ret < 0 ? ret : p->status_flags;
}

static void probe_refresh_limits(BlockDriverState *bs)
{
    struct probe *p = bs->opaque;
    if (p->limits.request_alignment != 0) {
        bs->bl = p->limits;
    }
}

static const BlockDriver probe_driver = {
    .format_name = "probe",
    .doc = "test",
    .instance_size = sizeof(struct probe),
    .is_protocol = true,
    .bdrv_co_preadv = probe_preadv,
    .bdrv_co_pwritev = probe_pwritev,
    .bdrv_co_pwrite_zeroes = probe_pwrite_zeroes,
    .bdrv_co_pdiscard = probe_pdiscard,
    .bdrv_co_flush_to_disk = probe_flush_to_disk,
    .bdrv_co_truncate = probe_truncate,
    .bdrv_co_getlength = probe_getlength,
    .bdrv_co_get_info = probe_get_info,
    .bdrv_refresh_limits = probe_refresh_limits,
};

/* --- the world ------------------------------------------------------------------------------------------- */

static void settle(void)
{
    assert_int_equal(sim_run(world, NULL, NULL, INT64_MAX), SIM_STOP_SETTLED);
}

static void probe_main(void (*fn)(void *opaque), void *opaque)
{
    host_command(host, fn, opaque);
    settle();
}

static void make_graph(void *opaque)
{
    bdrv_graph_init(host);
}

static void drop_graph(void *opaque)
{
    bdrv_graph_cleanup(host);
}

static SIM_UNUSED int probe_setup(void **state)
{
    world = sim_new();
    host = host_new(world, "h");
    probe_main(make_graph, NULL);
    return 0;
}

static SIM_UNUSED int probe_teardown(void **state)
{
    if (bdrv_next_node(host, NULL) == NULL) { /* else an assertion ended the test early */
        probe_main(drop_graph, NULL);
    }
    uint64_t leaked = sim_arena_live(host->arena, SIM_TYPE_BlockDriverState) +
                      sim_arena_live(host->arena, SIM_TYPE_BdrvChild) +
                      sim_arena_live(host->arena, SIM_TYPE_BdrvDirtyBitmap) +
                      sim_arena_live(host->arena, SIM_TYPE_hbitmap_leaf) + page_live(world);
    sim_delete(world);
    return leaked != 0;
}

/* --- nodes ----------------------------------------------------------------------------------------------- */

struct probe_spec {
    const char *name;
    const BlockDriver *drv; /* NULL: probe_driver */
    int64_t length;
    uint8_t fill;
    uint32_t open_flags;
    BlockLimits limits;
    int64_t cluster_size;
    uint32_t write_flags;
    uint32_t zero_flags;
    uint32_t truncate_flags;
    bool no_resize;     /* whoever is somebody's file may be written beside it, but not resized */
    struct probe *file; /* children, NULL: none */
    struct probe *backing;
    struct probe *made;
};

static void probe_make_main(void *opaque)
{
    struct probe_spec *spec = opaque;
    BlockDriverState *bs = bdrv_new_node(host, spec->drv != NULL ? spec->drv : &probe_driver, spec->name);
    struct probe *p = bs->opaque;
    p->bs = bs;
    p->data = malloc((size_t)PROBE_ROOM);
    memset(p->data, spec->fill, (size_t)PROBE_ROOM);
    p->length = spec->length;
    p->limits = spec->limits;
    p->cluster_size = spec->cluster_size;
    p->hold_offset = -1;
    p->fail_offset = -1;
    co_queue_init(world, &p->held);
    bs->open_flags = spec->open_flags;
    bs->supported_write_flags = spec->write_flags;
    bs->supported_zero_flags = spec->zero_flags;
    bs->supported_truncate_flags = spec->truncate_flags;
    if (spec->file != NULL) {
        bs->file = bdrv_attach_child(bs, spec->file->bs, "file", BDRV_CHILD_DATA | BDRV_CHILD_PRIMARY, NULL);
        SIM_ASSERT(bs->file != NULL);
    }
    if (spec->backing != NULL) {
        bs->backing = bdrv_attach_child(bs, spec->backing->bs, "backing", BDRV_CHILD_COW, NULL);
        SIM_ASSERT(bs->backing != NULL);
    }
    bdrv_refresh_limits(bs);
    bdrv_set_total_bytes(bs, p->length);
    uint64_t perm = BLK_PERM_CONSISTENT_READ;
    perm |= spec->open_flags & BDRV_O_RDWR ? BLK_PERM_WRITE : 0;
    perm |= spec->open_flags & BDRV_O_RDWR && !spec->no_resize ? BLK_PERM_RESIZE : 0;
    p->blk = blk_new(host, perm, BLK_PERM_ALL);
    Error *err = NULL;
    if (blk_insert_bs(p->blk, bs, &err) < 0) {
        fprintf(stderr, "%s\n", error_get_pretty(err));
        SIM_ASSERT(false);
    }
    spec->made = p;
}

static SIM_UNUSED struct probe *probe_new(struct probe_spec spec)
{
    if (spec.open_flags == 0) {
        spec.open_flags = BDRV_O_RDWR | BDRV_O_UNMAP;
    }
    probe_main(probe_make_main, &spec);
    return spec.made;
}

static void probe_free_main(void *opaque)
{
    struct probe *p = opaque;
    BlockDriverState *bs = p->bs;
    blk_unref(p->blk);
    free(p->data);
    bdrv_unref(bs);
}

static SIM_UNUSED void probe_free(struct probe *p)
{
    probe_main(probe_free_main, p);
}

/* Lets held requests go. */
static SIM_UNUSED void probe_release(struct probe *p)
{
    p->hold_offset = -1;
    co_queue_restart_all(&p->held);
    settle();
}

/* Lets the one held longest go. */
static SIM_UNUSED void probe_release_one(struct probe *p)
{
    assert_true(co_queue_next(&p->held));
    settle();
}

static SIM_UNUSED void probe_hold(struct probe *p, enum sim_op op, int64_t offset)
{
    p->hold_op = op;
    p->hold_offset = offset;
}

static SIM_UNUSED void probe_fail(struct probe *p, enum sim_op op, int64_t offset, int ret, unsigned count)
{
    p->fail_op = op;
    p->fail_offset = offset;
    p->fail_ret = ret;
    p->fail_count = count;
}

static SIM_UNUSED unsigned probe_calls(const struct probe *p, enum sim_op op)
{
    unsigned count = 0;
    for (unsigned i = 0; i < p->log_count; i++) {
        count += p->log[i].op == op;
    }
    return count;
}

/* The nth call was this one. */
static SIM_UNUSED void assert_call(const struct probe *p, unsigned n, enum sim_op op, int64_t offset, int64_t bytes)
{
    assert_true(n < p->log_count);
    assert_string_equal(sim_op_name(p->log[n].op), sim_op_name(op));
    assert_int_equal(p->log[n].offset, offset);
    assert_int_equal(p->log[n].bytes, bytes);
}

/* The content from offset on is `bytes` times `value`. */
static SIM_UNUSED void assert_content(const struct probe *p, int64_t offset, int64_t bytes, uint8_t value)
{
    for (int64_t i = offset; i < offset + bytes; i++) {
        if (p->data[i] != value) {
            fail_msg("byte %lld is 0x%02x, not 0x%02x", (long long)i, p->data[i], value);
        }
    }
}

/* --- requests -------------------------------------------------------------------------------------------- */

struct req {
    struct probe *p;
    enum sim_op op;
    int64_t offset;
    int64_t bytes;
    uint8_t fill; /* of a write; read: what was seen in the first byte */
    uint32_t flags;
    int ret;
    bool done;
    unsigned order; /* 1, 2, ... as they completed */
    uint8_t *seen;  /* a read's bytes, when the caller gave room */
};

static unsigned completions;

static int req_run(struct req *r)
{
    BdrvChild *child = blk_root(r->p->blk);
    struct payload data;
    int ret = -EINVAL;
    payload_init(world, &data);
    if (r->op == SIM_OP_READ) {
        ret = bdrv_co_preadv(child, r->offset, r->bytes, &data, r->flags);
        SIM_ASSERT_EQ(data.size_bytes, ret == 0 ? r->bytes : 0);
        if (ret == 0 && r->seen != NULL) {
            payload_read_bytes(&data, 0, r->seen, r->bytes);
        }
    } else if (r->op == SIM_OP_WRITE) {
        payload_append_fill(&data, r->fill, MAX(r->bytes, 0));
        ret = bdrv_co_pwritev(child, r->offset, r->bytes, &data, r->flags);
    } else if (r->op == SIM_OP_WRITE_ZEROES) {
        ret = bdrv_co_pwrite_zeroes(child, r->offset, r->bytes, r->flags);
    } else if (r->op == SIM_OP_DISCARD) {
        ret = bdrv_co_pdiscard(child, r->offset, r->bytes);
    } else if (r->op == SIM_OP_FLUSH) {
        ret = bdrv_co_flush(r->p->bs);
    } else if (r->op == SIM_OP_TRUNCATE) {
        ret = bdrv_co_truncate(child, r->offset, true, PREALLOC_OFF, r->flags, NULL);
    }
    payload_clear(&data);
    return ret;
}

static void req_entry(void *opaque)
{
    struct req *r = opaque;
    r->ret = req_run(r);
    r->done = true;
    r->order = ++completions;
}

/* Starts it; the caller settles. */
static SIM_UNUSED void spawn(struct req *r)
{
    r->done = false;
    coroutine_start(coroutine_create(world, host, "request", req_entry, r));
}

/* Starts it, lets the world settle, and gives its result. */
static SIM_UNUSED int do_req(struct probe *p, enum sim_op op, int64_t offset, int64_t bytes, uint8_t fill,
                             uint32_t flags)
{
    struct req r = {.p = p, .op = op, .offset = offset, .bytes = bytes, .fill = fill, .flags = flags};
    spawn(&r);
    settle();
    assert_true(r.done);
    return r.ret;
}

/* Whether fn ends in an assertion; tried in a process of its own. */
static SIM_UNUSED bool dies(void (*fn)(void *opaque), void *opaque)
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) != NULL) {
            fn(opaque);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

#define T_NODE(path, fn) T_SETUP(path, fn, probe_setup, probe_teardown)

#endif
