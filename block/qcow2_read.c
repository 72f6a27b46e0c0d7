/*
 * Reading (5.2): each run from where the mapping says it is. The lock is held for the look-up only; the host
 * clusters that it found are kept from changing hands until they have been read (qcow2_data_begin).
 */
#include <errno.h>

#include "block/qcow2.h"

/* Below, and zeros past its end: a request that leaves its node reads them. */
static int read_backing(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    if (!bs->backing) {
        payload_append_zero(out, bytes);
        return 0;
    }
    bdrv_co_debug_event(bs->file->bs, BLKDBG_READ_BACKING_AIO);
    return bdrv_co_preadv(bs->backing, offset, bytes, out, 0);
}

static int read_compressed(BlockDriverState *bs, uint64_t l2_entry, int64_t offset, int64_t bytes,
                           struct payload *out)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t in_cluster = offset_into_cluster(s, offset);
    uint8_t *cluster = qcow2_alloc(bs, (size_t)s->cluster_size);

    SIM_ASSERT(bytes <= s->cluster_size - in_cluster);
    int ret = qcow2_co_read_compressed(bs, l2_entry, cluster);
    if (ret == 0) {
        payload_append_bytes(out, cluster + in_cluster, bytes);
    }
    qcow2_free(bs, cluster, (size_t)s->cluster_size);
    return ret;
}

static int read_run(BlockDriverState *bs, QCow2SubclusterType type, int64_t host_offset, int64_t offset,
                    int64_t bytes, struct payload *out)
{
    BDRVQcow2State *s = bs->opaque;

    switch (type) {
    case QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN:
    case QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC:
        return read_backing(bs, offset, bytes, out);
    case QCOW2_SUBCLUSTER_ZERO_PLAIN:
    case QCOW2_SUBCLUSTER_ZERO_ALLOC:
        payload_append_zero(out, bytes);
        return 0;
    case QCOW2_SUBCLUSTER_COMPRESSED:
        return read_compressed(bs, (uint64_t)host_offset, offset, bytes, out);
    case QCOW2_SUBCLUSTER_NORMAL:
        /* The last cluster may lie partly beyond the end of the file: that reads as zeros (edge 38). */
        bdrv_co_debug_event(bs->file->bs, BLKDBG_READ_AIO);
        return bdrv_co_preadv(s->data_file, host_offset, bytes, out, 0);
    case QCOW2_SUBCLUSTER_INVALID:
        break;
    }
    SIM_ASSERT(false); /* an invalid entry is not mapped */
    return -EIO;
}

/* What the read will read from the file. */
static void hold_clusters(BlockDriverState *bs, QCow2SubclusterType type, int64_t host_offset, int64_t bytes,
                          Qcow2DataUse *use)
{
    BDRVQcow2State *s = bs->opaque;

    if (type == QCOW2_SUBCLUSTER_COMPRESSED) {
        qcow2_parse_compressed_l2_entry(bs, (uint64_t)host_offset, &host_offset, &bytes);
    } else if (type != QCOW2_SUBCLUSTER_NORMAL || has_data_file(bs)) {
        bytes = 0; /* overlaps nothing */
    }
    qcow2_data_begin(s, use, host_offset, bytes);
}

/* One run; *num becomes its length. */
static int read_next(BlockDriverState *bs, int64_t offset, int64_t *num, struct payload *out)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t host_offset;
    QCow2SubclusterType type;
    Qcow2DataUse use;

    co_mutex_lock(&s->lock);
    int ret = qcow2_usable(bs) ? qcow2_get_host_offset(bs, offset, num, &host_offset, &type) : -ENOMEDIUM;
    if (ret < 0) {
        co_mutex_unlock(&s->lock);
        return ret;
    }
    hold_clusters(bs, type, host_offset, *num, &use);
    co_mutex_unlock(&s->lock);
    ret = read_run(bs, type, host_offset, offset, *num, out);
    qcow2_data_end(&use);
    return ret;
}

int qcow2_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    while (bytes > 0) {
        int64_t num = bytes;
        int ret = read_next(bs, offset, &num, out);
        if (ret < 0) {
            return ret;
        }
        SIM_ASSERT(num > 0 && num <= bytes);
        offset += num;
        bytes -= num;
    }
    return 0;
}
