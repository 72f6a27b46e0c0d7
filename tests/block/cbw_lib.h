/*
 * A copy-before-write filter over probes: source "s" reads as 0xaa, target "t" as 0xee, the filter "f" above the
 * source with a guest, and the past "p" above the filter with a reader.
 */
#ifndef TESTS_BLOCK_CBW_LIB_H
#define TESTS_BLOCK_CBW_LIB_H

#include <stdio.h>

#include "tests/block/blkopts.h"
#include "tests/block/probe.h"

#include "block/block-copy.h"
#include "block/copy-before-write.h"

#define R SIM_OP_READ
#define W SIM_OP_WRITE
#define Z SIM_OP_WRITE_ZEROES
#define D SIM_OP_DISCARD
#define F SIM_OP_FLUSH
#define CL (64 * KiB)
#define RW (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)

/* Status is data, but where holes has a bit set the cluster reads zero, and where absent has one it is not
 * allocated.
 */
static uint64_t holes, absent;

static SIM_UNUSED int cluster_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes,
                                     int64_t *pnum, int64_t *map, BlockDriverState **file)
{
    struct probe *p = bs->opaque;
    if (p->fail_op == SIM_OP_BLOCK_STATUS && p->fail_count > 0) {
        return probe_call(bs, SIM_OP_BLOCK_STATUS, offset, bytes, want_zero);
    }
    uint64_t bit = UINT64_C(1) << (offset / CL);
    int64_t end = ROUND_DOWN(offset, CL) + CL;
    while (end < offset + bytes) {
        uint64_t next = UINT64_C(1) << (end / CL);
        if (!(holes & bit) != !(holes & next) || !(absent & bit) != !(absent & next)) {
            break;
        }
        end += CL;
    }
    *pnum = MIN(end - offset, bytes);
    *map = offset;
    *file = bs;
    if (p->status_run > 0) {
        *pnum = MIN(*pnum, p->status_run);
    }
    return absent & bit ? 0 : holes & bit ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
}

static BlockDriver source_driver;

static struct probe *s, *t;    /* source and target */
static struct probe top, past; /* only node and backend of the filter and of the past */
static BlockCopyState *copy;   /* the filter's engine */

SIM_UNUSED static void no_perms(void *opaque)
{
    struct probe *p = opaque;
    SIM_ASSERT_EQ(blk_set_perm(p->blk, 0, BLK_PERM_ALL, NULL), 0);
}

SIM_UNUSED static void open_above(struct probe *p, const char *options, uint64_t perm)
{
    p->bs = add_node(host, options);
    p->blk = blk_new(host, perm, BLK_PERM_ALL);
    SIM_ASSERT_EQ(blk_insert_bs(p->blk, p->bs, NULL), 0);
}

SIM_UNUSED static void open_filter(void *opaque)
{
    open_above(&top, opaque, RW);
    copy = (BlockCopyState *)bdrv_cbw_copy_state(top.bs);
}

SIM_UNUSED static void open_past(void *opaque)
{
    open_above(&past, "{'driver':'snapshot-access','node-name':'p','file':'f','discard':'unmap'}", RW);
}

static int64_t disk_bytes = 1 * MiB;
static int64_t target_cluster;

SIM_UNUSED static struct probe *make_disk(const char *name, uint8_t fill, int64_t cluster_size)
{
    source_driver = probe_driver;
    source_driver.bdrv_co_block_status = cluster_status;
    struct probe *p = probe_new((struct probe_spec){.name = name,
                                                    .drv = name[0] == 's' ? &source_driver : NULL,
                                                    .length = disk_bytes,
                                                    .fill = fill,
                                                    .cluster_size = cluster_size,
                                                    .write_flags = BDRV_REQ_WRITE_COMPRESSED});
    probe_main(no_perms, p);
    return p;
}

SIM_UNUSED static void make_disks(void)
{
    s = make_disk("s", 0xaa, 0);
    t = make_disk("t", 0xee, target_cluster);
}

/* options: more of them, after a comma. */
SIM_UNUSED static void make_filter(const char *options)
{
    char text[400];
    make_disks();
    snprintf(text, sizeof(text),
             "{'driver':'copy-before-write','node-name':'f','file':'s','target':'t','discard':'unmap'%s}", options);
    probe_main(open_filter, text);
}

SIM_UNUSED static void make_past(const char *options)
{
    make_filter(options);
    probe_main(open_past, NULL);
}

SIM_UNUSED static void drop_above(void *opaque)
{
    struct probe *p = opaque;
    const char *name = bdrv_get_node_name(p->bs);
    blk_unref(p->blk);
    if (!qmp_blockdev_del_node(host, name, NULL)) {
        SIM_ASSERT(false);
    }
    p->bs = NULL;
}

SIM_UNUSED static void free_all(void)
{
    if (past.bs) {
        probe_main(drop_above, &past);
    }
    if (top.bs) {
        probe_main(drop_above, &top);
    }
    probe_free(s);
    probe_free(t);
}

SIM_UNUSED static int cbw_setup(void **state)
{
    holes = absent = 0;
    disk_bytes = 1 * MiB;
    target_cluster = 0;
    top = past = (struct probe){0};
    copy = NULL;
    return probe_setup(state);
}

/* What the past shows: a byte, or a negative errno. All of the range has it. */
SIM_UNUSED static int old_content(int64_t offset, int64_t bytes)
{
    uint8_t *seen = calloc(1, (size_t)bytes);
    struct req r = {.p = &past, .op = R, .offset = offset, .bytes = bytes, .seen = seen};
    spawn(&r);
    settle();
    assert_true(r.done);
    int first = r.ret == 0 ? seen[0] : r.ret;
    for (int64_t i = 1; i < bytes && first >= 0; i++) {
        assert_int_equal(seen[i], first);
    }
    free(seen);
    return first;
}

/* --- the filter of a job -------------------------------------------------------------------------------------- */

struct append {
    struct cbw_args args;
    BlockDriverState *filter;
    Error *err;
};

SIM_UNUSED static void append_main(void *opaque)
{
    struct append *a = opaque;
    bdrv_drained_begin(s->bs);
    a->filter = bdrv_cbw_append(s->bs, t->bs, &a->args, &copy, &a->err);
    bdrv_drained_end(s->bs);
}

/* The guest of the source is above the filter afterwards. */
SIM_UNUSED static void append_filter(struct cbw_args args)
{
    struct append a = {.args = args};
    probe_main(append_main, &a);
    assert_non_null(a.filter);
    top = (struct probe){.bs = a.filter, .blk = s->blk};
}

SIM_UNUSED static void rw_perms(void *opaque)
{
    struct probe *p = opaque;
    SIM_ASSERT_EQ(blk_set_perm(p->blk, RW, BLK_PERM_ALL, NULL), 0);
}

SIM_UNUSED static void make_engine(struct block_copy_args args)
{
    make_disks();
    append_filter((struct cbw_args){.node_name = "f", .copy = args});
    probe_main(rw_perms, s);
}

SIM_UNUSED static void drop_main(void *opaque)
{
    bdrv_cbw_drop(opaque);
}

SIM_UNUSED static void free_engine(void)
{
    probe_main(drop_main, top.bs);
    top.bs = NULL;
    probe_free(s);
    probe_free(t);
}

/* --- background calls --------------------------------------------------------------------------------------------
 */

struct background {
    BlockCopyCallState *call;
    int64_t offset, bytes;
    int workers;
    int64_t max_chunk;
    bool ended;
    int64_t end_ns;
};

SIM_UNUSED static void background_ended(void *opaque)
{
    struct background *b = opaque;
    b->ended = true;
    b->end_ns = sim_now(world);
}

SIM_UNUSED static void background_main(void *opaque)
{
    struct background *b = opaque;
    b->call = block_copy_async(copy, b->offset, b->bytes, b->workers, b->max_chunk, background_ended, b);
}

/* Over the whole disk with one worker unless said otherwise; the caller settles. */
SIM_UNUSED static void start_background(struct background *b)
{
    b->bytes = b->bytes ? b->bytes : disk_bytes;
    b->workers = b->workers ? b->workers : 1;
    b->ended = false;
    host_command(host, background_main, b);
}

SIM_UNUSED static int end_background(struct background *b)
{
    bool is_read;
    assert_true(b->ended && block_copy_call_finished(b->call));
    int ret = block_copy_call_status(b->call, &is_read);
    block_copy_call_free(b->call);
    return ret;
}

SIM_UNUSED static int run_background(int workers)
{
    struct background b = {.workers = workers};
    start_background(&b);
    settle();
    return end_background(&b);
}

SIM_UNUSED static bool is_dirty(int64_t offset)
{
    return bdrv_dirty_bitmap_get(block_copy_dirty_bitmap(copy), offset);
}

#define T_CBW(path, fn) T_SETUP(path, fn, cbw_setup, probe_teardown)

#endif
