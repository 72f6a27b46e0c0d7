/*
 * A small format over probes: content in its `file` at its own offset, unallocated units in its `backing`, one
 * sector of metadata in the file, at COW_META, for every write that allocates.
 */
#ifndef TESTS_BLOCK_COW_PROBE_H
#define TESTS_BLOCK_COW_PROBE_H

#include "tests/block/probe.h"

#define COW_META (2 * MiB)
#define COW_FILE_LENGTH (COW_META + 64 * KiB)

struct cow_node {
    struct probe p; /* first: what probe.h makes and looks at */
    int64_t unit;   /* of allocation */
    int64_t subcluster_size;
    bool allocated[PROBE_ROOM / 512]; /* by units */
};

static int cow_read_run(BlockDriverState *bs, BdrvChild *from, int64_t offset, int64_t bytes, struct payload *out)
{
    if (from == NULL) {
        payload_append_zero(out, bytes);
        return 0;
    }
    return bdrv_co_preadv(from, offset, bytes, out, 0);
}

/* How far the unit state at offset goes. */
static int64_t cow_run(const struct cow_node *c, int64_t offset, int64_t bytes)
{
    int64_t end = ROUND_DOWN(offset, c->unit) + c->unit;
    while (end < offset + bytes && c->allocated[end / c->unit] == c->allocated[offset / c->unit]) {
        end += c->unit;
    }
    return MIN(end, offset + bytes) - offset;
}

static int cow_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    struct cow_node *c = bs->opaque;
    int ret = probe_call(bs, SIM_OP_READ, offset, bytes, flags);
    while (ret == 0 && bytes > 0) {
        int64_t num = cow_run(c, offset, bytes);
        ret = cow_read_run(bs, c->allocated[offset / c->unit] ? bs->file : bs->backing, offset, num, out);
        offset += num;
        bytes -= num;
    }
    return ret;
}

/* What a write leaves of an unallocated unit comes from below. */
static int cow_edge(BlockDriverState *bs, int64_t start, int64_t end)
{
    struct cow_node *c = bs->opaque;
    struct payload data;
    if (start >= end || c->allocated[start / c->unit]) {
        return 0;
    }
    payload_init(world, &data);
    int ret = cow_read_run(bs, bs->backing, start, end - start, &data);
    if (ret == 0) {
        ret = bdrv_co_pwritev(bs->file, start, end - start, &data, 0);
    }
    payload_clear(&data);
    return ret;
}

static int cow_allocate(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    struct cow_node *c = bs->opaque;
    struct payload data;
    bool news = false;
    for (int64_t unit = offset / c->unit; unit * c->unit < offset + bytes; unit++) {
        news |= !c->allocated[unit];
        c->allocated[unit] = true;
    }
    if (!news) {
        return 0;
    }
    payload_init(world, &data);
    payload_append_fill(&data, 0x4d, 512);
    int ret = bdrv_co_pwritev(bs->file, COW_META, 512, &data, 0);
    payload_clear(&data);
    return ret;
}

/* in NULL: zeroes. */
static int cow_write(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in)
{
    struct cow_node *c = bs->opaque;
    int64_t end = MIN(ROUND_UP(offset + bytes, c->unit), c->p.length);
    int ret = cow_edge(bs, ROUND_DOWN(offset, c->unit), offset);
    if (ret == 0) {
        ret = cow_edge(bs, offset + bytes, end);
    }
    if (ret == 0) {
        ret = in != NULL ? bdrv_co_pwritev(bs->file, offset, bytes, in, 0)
                         : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, 0);
    }
    return ret == 0 ? cow_allocate(bs, offset, bytes) : ret;
}

static int cow_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                       uint32_t flags)
{
    int ret = probe_call(bs, SIM_OP_WRITE, offset, bytes, flags);
    return ret == 0 ? cow_write(bs, offset, bytes, in) : ret;
}

static int cow_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    int ret = probe_call(bs, SIM_OP_WRITE_ZEROES, offset, bytes, flags);
    return ret == 0 ? cow_write(bs, offset, bytes, NULL) : ret;
}

/* Only a failing question is written down. */
static int cow_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                            int64_t *map, BlockDriverState **file)
{
    struct cow_node *c = bs->opaque;
    if (c->p.fail_op == SIM_OP_BLOCK_STATUS && c->p.fail_count > 0) {
        return probe_call(bs, SIM_OP_BLOCK_STATUS, offset, bytes, 0);
    }
    *pnum = cow_run(c, offset, bytes);
    *map = offset;
    *file = bs->file->bs;
    return c->allocated[offset / c->unit] ? BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID : 0;
}

static int cow_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    struct cow_node *c = bs->opaque;
    info->cluster_size = c->p.cluster_size;
    info->subcluster_size = c->subcluster_size;
    return c->p.cluster_size > 0 ? 0 : -ENOTSUP;
}

static const BlockDriver cow_probe_driver = {
    .format_name = "cow-format",
    .doc = "test",
    .instance_size = sizeof(struct cow_node),
    .supports_backing = true,
    .bdrv_co_preadv = cow_preadv,
    .bdrv_co_pwritev = cow_pwritev,
    .bdrv_co_pwrite_zeroes = cow_pwrite_zeroes,
    .bdrv_co_getlength = probe_getlength,
    .bdrv_co_get_info = cow_get_info,
    .bdrv_co_block_status = cow_block_status,
    .bdrv_refresh_limits = probe_refresh_limits,
};

/* An overlay and what it stands on. */
struct cow_chain {
    struct probe *top;
    struct cow_node *node; /* top, as its driver sees it */
    struct probe *file;
    struct probe *backing;
};

struct cow_spec {
    int64_t length;          /* 0: 1 MiB */
    int64_t backing_length;  /* 0: 1 MiB */
    int64_t cluster_size;    /* 0: no clusters, units of 64 KiB */
    int64_t subcluster_size; /* 0: none */
    BlockLimits limits;
    BlockLimits file_limits;
};

/* The backing file reads as 0xbb. */
static SIM_UNUSED struct cow_chain cow_chain_new(struct cow_spec spec)
{
    struct cow_chain chain;
    int64_t unit = spec.cluster_size > 0 ? spec.cluster_size : 64 * KiB;
    chain.backing = probe_new((struct probe_spec){.name = "backing",
                                                  .length = spec.backing_length > 0 ? spec.backing_length : MiB,
                                                  .fill = 0xbb,
                                                  .open_flags = BDRV_O_UNMAP});
    chain.file = probe_new((struct probe_spec){
        .name = "file", .length = COW_FILE_LENGTH, .fill = 0xff, .limits = spec.file_limits, .no_resize = true});
    chain.top = probe_new((struct probe_spec){.name = "top",
                                              .drv = &cow_probe_driver,
                                              .length = spec.length > 0 ? spec.length : MiB,
                                              .limits = spec.limits,
                                              .cluster_size = spec.cluster_size,
                                              .write_flags = BDRV_REQ_WRITE_UNCHANGED,
                                              .zero_flags = BDRV_REQ_WRITE_UNCHANGED | BDRV_REQ_MAY_UNMAP,
                                              .file = chain.file,
                                              .backing = chain.backing});
    chain.node = chain.top->bs->opaque;
    chain.node->unit = spec.subcluster_size > 0 ? spec.subcluster_size : unit;
    chain.node->subcluster_size = spec.subcluster_size;
    return chain;
}

static SIM_UNUSED void cow_chain_free(struct cow_chain *chain)
{
    probe_free(chain->top);
    probe_free(chain->file);
    probe_free(chain->backing);
}

#endif
