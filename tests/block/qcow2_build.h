/*
 * Images of qcow2 put together entry by entry, on a fake disk: for tests of what reads them. Nothing of the driver
 * is used, so that it can be held against them.
 *
 *     cluster 0 header, 1 refcount table, 2 a refcount block of zeros, 3.. L1, then what the test asks for
 *
 * The counts are not right: such an image is opened read-only.
 */
#ifndef TESTS_BLOCK_QCOW2_BUILD_H
#define TESTS_BLOCK_QCOW2_BUILD_H

#include <endian.h>
#include <zlib.h>
#include <zstd.h>

#include "tests/block/blktest.h"

struct build {
    unsigned version;
    unsigned cluster_bits;
    bool extended;
    bool zstd;
    bool data_file; /* the header says that there is an external one */
    int64_t size;   /* of the virtual disk */
    /* the builder's */
    uint8_t *bytes;
    int64_t room;
    int64_t end; /* of what is in use: the next cluster, or any byte behind compressed data */
    int64_t l1_offset;
    uint32_t l1_size;
};

SIM_UNUSED static void put64(struct build *b, int64_t at, uint64_t value)
{
    SIM_ASSERT(at >= 0 && at + 8 <= b->room);
    value = htobe64(value);
    memcpy(b->bytes + at, &value, 8);
}

SIM_UNUSED static void put32(struct build *b, int64_t at, uint32_t value)
{
    value = htobe32(value);
    memcpy(b->bytes + at, &value, 4);
}

SIM_UNUSED static uint64_t get64(const struct build *b, int64_t at)
{
    uint64_t value;
    memcpy(&value, b->bytes + at, 8);
    return be64toh(value);
}

static int64_t build_cluster(const struct build *b)
{
    return (int64_t)1 << b->cluster_bits;
}

static unsigned entry_bytes(const struct build *b)
{
    return b->extended ? 16 : 8;
}

/* The next free cluster of the file. */
SIM_UNUSED static int64_t build_take(struct build *b)
{
    int64_t at = ROUND_UP(b->end, build_cluster(b));
    b->end = at + build_cluster(b);
    assert_true(b->end <= b->room);
    return at;
}

/* The caller has set what the image is like; room: bytes that the file may get. */
SIM_UNUSED static void build_begin(struct build *b, int64_t room)
{
    int64_t cluster = build_cluster(b);
    int64_t entries = cluster / entry_bytes(b);
    b->room = room;
    b->bytes = calloc(1, (size_t)room);
    b->l1_size = (uint32_t)DIV_ROUND_UP(DIV_ROUND_UP(b->size, cluster), entries);
    b->l1_offset = 3 * cluster;
    b->end = b->l1_offset + ROUND_UP((int64_t)b->l1_size * 8, cluster);
    put32(b, 0, 0x514649fb);
    put32(b, 4, b->version);
    put32(b, 20, b->cluster_bits);
    put64(b, 24, (uint64_t)b->size);
    put32(b, 36, b->l1_size);
    put64(b, 40, (uint64_t)b->l1_offset);
    put64(b, 48, (uint64_t)cluster);
    put32(b, 56, 1);
    if (b->version >= 3) {
        put64(b, 72, (b->zstd ? 8u : 0) | (b->extended ? 16u : 0) | (b->data_file ? 4u : 0));
        put32(b, 96, 4);
        put32(b, 100, 112);
        b->bytes[104] = b->zstd;
    }
    put64(b, cluster, (uint64_t)(2 * cluster));
}

/* Where in the file the L2 entry of a guest cluster is. */
SIM_UNUSED static int64_t build_entry_at(struct build *b, int64_t guest_cluster)
{
    int64_t entries = build_cluster(b) / entry_bytes(b);
    int64_t l1_at = b->l1_offset + guest_cluster / entries * 8;
    if (get64(b, l1_at) == 0) {
        put64(b, l1_at, (uint64_t)build_take(b) | 1ULL << 63);
    }
    return (int64_t)(get64(b, l1_at) & 0x00fffffffffffe00ULL) + guest_cluster % entries * entry_bytes(b);
}

SIM_UNUSED static void build_set(struct build *b, int64_t guest_cluster, uint64_t entry, uint64_t bitmap)
{
    int64_t at = build_entry_at(b, guest_cluster);
    put64(b, at, entry);
    if (b->extended) {
        put64(b, at + 8, bitmap);
    }
}

/* Packs a cluster behind what is there; its L2 entry. The data must be compressible. */
SIM_UNUSED static uint64_t build_compressed(struct build *b, const uint8_t *cluster)
{
    size_t bytes = (size_t)build_cluster(b);
    uint8_t *out = b->bytes + b->end;
    size_t room = (size_t)(b->room - b->end);
    size_t produced;
    if (b->zstd) {
        produced = ZSTD_compress(out, room, cluster, bytes, 3);
        assert_false(ZSTD_isError(produced));
    } else {
        z_stream z = {.next_in = (Bytef *)(uintptr_t)cluster,
                      .avail_in = (uInt)bytes,
                      .next_out = out,
                      .avail_out = (uInt)room};
        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, -12, 8, Z_DEFAULT_STRATEGY), Z_OK);
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        produced = room - z.avail_out;
        deflateEnd(&z);
    }
    assert_true(produced < bytes);
    uint64_t at = (uint64_t)b->end;
    uint64_t more = (at + produced - 1) / 512 - at / 512;
    b->end += (int64_t)produced;
    return 1ULL << 62 | more << (62 - (b->cluster_bits - 8)) | at;
}

/* The image becomes the content of a new disk. */
SIM_UNUSED static struct disk *build_end(struct build *b, struct world *w, const char *name)
{
    struct disk *disk = make_disk(w, name, MAX(ROUND_UP(b->end, (int64_t)512), build_cluster(b)));
    struct payload p;
    payload_init(w->sim, &p);
    payload_append_bytes(&p, b->bytes, b->end);
    payload_append_zero(&p, ROUND_UP(b->end, (int64_t)512) - b->end);
    disk_poke(disk, 0, &p);
    payload_clear(&p);
    free(b->bytes);
    b->bytes = NULL;
    return disk;
}

/* --- looking ------------------------------------------------------------------------------------------------ */

struct look {
    BlockDriverState *bs;
    BlockBackend *blk;
    int64_t offset, bytes;
    uint8_t *buf;
    int64_t pnum, map;
    BlockDriverState *file;
    struct payload in;
    uint32_t flags;
};

static int look_read(void *opaque)
{
    struct look *l = opaque;
    struct payload p;
    payload_init(l->bs->host->sim, &p);
    int ret = blk_co_preadv(l->blk, l->offset, l->bytes, &p, 0);
    if (ret == 0) {
        assert_int_equal(p.size_bytes, l->bytes);
        payload_read_bytes(&p, 0, l->buf, l->bytes);
    }
    payload_clear(&p);
    return ret;
}

static int look_status(void *opaque)
{
    struct look *l = opaque;
    return bdrv_co_block_status(l->bs, l->offset, l->bytes, &l->pnum, &l->map, &l->file);
}

static int look_allocated(void *opaque)
{
    struct look *l = opaque;
    return bdrv_co_is_allocated(l->bs, l->offset, l->bytes, &l->pnum);
}

SIM_UNUSED static int read_view(BlockBackend *blk, int64_t offset, int64_t bytes, uint8_t *buf)
{
    struct look l = {.bs = blk_bs(blk), .blk = blk, .offset = offset, .bytes = bytes, .buf = buf};
    return bdrv_run_co(l.bs->host, "test read", look_read, &l);
}

SIM_UNUSED static int status_of(struct look *l)
{
    return bdrv_run_co(l->bs->host, "test status", look_status, l);
}

SIM_UNUSED static int allocated_of(struct look *l)
{
    return bdrv_run_co(l->bs->host, "test status", look_allocated, l);
}

SIM_UNUSED static int peek_view(const BlockDriverState *bs, int64_t offset, int64_t bytes, uint8_t *buf)
{
    struct payload p;
    payload_init(bs->host->sim, &p);
    int ret = bdrv_peek(bs, offset, bytes, &p);
    if (ret == 0) {
        assert_int_equal(p.size_bytes, bytes);
        payload_read_bytes(&p, 0, buf, bytes);
    }
    payload_clear(&p);
    return ret;
}

SIM_UNUSED static BlockBackend *use(struct world *w, BlockDriverState *bs, uint64_t perm)
{
    Error *err = NULL;
    BlockBackend *blk = blk_new(w->host, perm, BLK_PERM_ALL);
    if (blk_insert_bs(blk, bs, &err) < 0) {
        fail_msg("%s", error_get_pretty(err));
    }
    return blk;
}

#endif
