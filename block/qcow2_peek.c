/*
 * The content of an image now, without I/O (block.h): for checkers and set-up. Tables that are in the cache are
 * seen as they are there, written or not; the others as the file has them.
 *
 * Whatever is wrong with the image is -EIO here as it is to a guest, but nothing is said or marked.
 */
#include <errno.h>

#include "block/qcow2.h"

/* Entries that are looked at together: 1 KiB of a table that is not in the cache. */
#define PEEK_ENTRIES 64

/* Past the end of a node all is zeros. */
static int peek_node(const BlockDriverState *node, int64_t offset, int64_t bytes, struct payload *out)
{
    int64_t inside = MAX(MIN(node->total_bytes - offset, bytes), (int64_t)0);

    int ret = inside > 0 ? bdrv_peek(node, offset, inside, out) : 0;
    if (ret == 0) {
        payload_append_zero(out, bytes - inside);
    }
    return ret;
}

static int peek_bytes(const BlockDriverState *node, int64_t offset, int64_t bytes, uint8_t *buf)
{
    struct payload data;

    payload_init(node->host->sim, &data);
    int ret = peek_node(node, offset, bytes, &data);
    if (ret == 0) {
        payload_read_bytes(&data, 0, buf, bytes);
    }
    payload_clear(&data);
    return ret;
}

/* How the bytes from offset on are stored, as qcow2_get_host_offset says it. */
static int peek_map(const BlockDriverState *bs, int64_t offset, int64_t *bytes, int64_t *host_offset,
                    QCow2SubclusterType *type)
{
    const BDRVQcow2State *s = bs->opaque;
    uint8_t copy[PEEK_ENTRIES * 16];

    if (!s->l2_table_cache) {
        return -ENOMEDIUM; /* all was forgotten, and could not be read again */
    }
    int64_t l2_offset = qcow2_map_l1(bs, offset, bytes);
    *host_offset = 0;
    *type = QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN;
    if (l2_offset == 0) {
        return 0;
    }
    if (offset_into_cluster(s, l2_offset) != 0) {
        return -EIO;
    }
    int64_t slice_offset = qcow2_l2_slice_offset(s, offset, l2_offset);
    unsigned index = offset_to_l2_slice_index(s, (uint64_t)offset);
    unsigned count = s->l2_slice_size - index;
    const uint8_t *entries = qcow2_cache_is_table_offset(s->l2_table_cache, slice_offset);
    if (entries) {
        entries += (size_t)index * s->l2_entry_size;
    } else {
        count = MIN(count, (unsigned)PEEK_ENTRIES);
        int ret = peek_bytes(bs->file->bs, slice_offset + (int64_t)index * s->l2_entry_size,
                             (int64_t)count * s->l2_entry_size, copy);
        if (ret < 0) {
            return ret;
        }
        entries = copy;
    }
    return qcow2_map_entries(bs, entries, count, offset, bytes, host_offset, type) ? -EIO : 0;
}

static int peek_compressed(const BlockDriverState *bs, uint64_t l2_entry, int64_t offset, int64_t bytes,
                           struct payload *out)
{
    const BDRVQcow2State *s = bs->opaque;
    struct sim_arena *arena = bs->host->arena;
    int64_t coffset, csize;

    qcow2_parse_compressed_l2_entry(bs, l2_entry, &coffset, &csize);
    uint8_t *stored = sim_alloc(arena, SIM_TYPE_qcow2_memory, (size_t)csize);
    uint8_t *cluster = sim_alloc(arena, SIM_TYPE_qcow2_memory, (size_t)s->cluster_size);
    int ret = peek_bytes(bs->file->bs, coffset, csize, stored);
    if (ret == 0) {
        ret = qcow2_decompress(s->compression_type, stored, (size_t)csize, cluster, (size_t)s->cluster_size);
    }
    if (ret == 0) {
        payload_append_bytes(out, cluster + offset_into_cluster(s, offset), bytes);
    }
    sim_free(arena, SIM_TYPE_qcow2_memory, cluster, (size_t)s->cluster_size);
    sim_free(arena, SIM_TYPE_qcow2_memory, stored, (size_t)csize);
    return ret;
}

static int peek_below(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    const BlockDriverState *below = bdrv_cow_bs(bs);

    if (below) {
        return peek_node(below, offset, bytes, out);
    }
    payload_append_zero(out, bytes);
    return 0;
}

static int peek_run(const BlockDriverState *bs, QCow2SubclusterType type, int64_t host_offset, int64_t offset,
                    int64_t bytes, struct payload *out)
{
    const BDRVQcow2State *s = bs->opaque;

    switch (type) {
    case QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN:
    case QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC:
        return peek_below(bs, offset, bytes, out);
    case QCOW2_SUBCLUSTER_ZERO_PLAIN:
    case QCOW2_SUBCLUSTER_ZERO_ALLOC:
        payload_append_zero(out, bytes);
        return 0;
    case QCOW2_SUBCLUSTER_NORMAL:
        return peek_node(s->data_file->bs, host_offset, bytes, out);
    case QCOW2_SUBCLUSTER_COMPRESSED:
        return peek_compressed(bs, (uint64_t)host_offset, offset, bytes, out);
    case QCOW2_SUBCLUSTER_INVALID:
        break;
    }
    SIM_ASSERT(false); /* an invalid entry is not mapped */
    return -EIO;
}

int qcow2_peek(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    while (bytes > 0) {
        int64_t num = bytes;
        int64_t host_offset;
        QCow2SubclusterType type;

        int ret = peek_map(bs, offset, &num, &host_offset, &type);
        if (ret == 0) {
            ret = peek_run(bs, type, host_offset, offset, num, out);
        }
        if (ret < 0) {
            return ret;
        }
        SIM_ASSERT(num > 0 && num <= bytes);
        offset += num;
        bytes -= num;
    }
    return 0;
}

static bool node_status(const BlockDriverState *node, int64_t offset, int64_t bytes, int64_t *pnum)
{
    if (!node || offset >= node->total_bytes) {
        *pnum = bytes;
        return false;
    }
    return bdrv_peek_status(node, offset, MIN(bytes, node->total_bytes - offset), pnum);
}

bool qcow2_peek_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum)
{
    const BDRVQcow2State *s = bs->opaque;
    QCow2SubclusterType type;
    int64_t host_offset;

    *pnum = bytes;
    int ret = peek_map(bs, offset, pnum, &host_offset, &type);
    if (ret == -ENOMEDIUM) {
        return true;
    }
    if (ret < 0) {
        *pnum = MIN(bytes, s->subcluster_size - (offset & (s->subcluster_size - 1)));
        return true; /* nothing known: it may hold data */
    }
    switch (type) {
    case QCOW2_SUBCLUSTER_ZERO_PLAIN:
    case QCOW2_SUBCLUSTER_ZERO_ALLOC:
        return false;
    case QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN:
    case QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC:
        return node_status(bdrv_cow_bs(bs), offset, *pnum, pnum);
    case QCOW2_SUBCLUSTER_NORMAL:
        return node_status(s->data_file->bs, host_offset, *pnum, pnum);
    default:
        return true;
    }
}
