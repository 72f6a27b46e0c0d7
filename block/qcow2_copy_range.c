/*
 * Copying without buffers (reference/block.md 2.12): from goes on to where each run of the source is, to allocates
 * as for a write and goes on to the file.
 */
#include "block/qcow2_write.h"

#include <errno.h>

/* --- the source ---------------------------------------------------------------------------------------------- */

struct source_run {
    QCow2SubclusterType type;
    int64_t host_offset;
    int64_t bytes;
    Qcow2DataUse use;
};

/* The use is under way when this succeeds. */
static int find_source(BlockDriverState *bs, int64_t offset, int64_t bytes, struct source_run *run)
{
    BDRVQcow2State *s = bs->opaque;
    bool data = false;

    run->bytes = bytes;
    co_mutex_lock(&s->lock);
    int ret = qcow2_usable(bs) ? qcow2_get_host_offset(bs, offset, &run->bytes, &run->host_offset, &run->type)
                               : -ENOMEDIUM;
    if (ret == 0) {
        data = run->type == QCOW2_SUBCLUSTER_NORMAL && !has_data_file(bs);
        qcow2_data_begin(s, &run->use, run->host_offset, data ? run->bytes : 0);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

static int copy_run(BlockDriverState *bs, const struct source_run *run, int64_t offset, BdrvChild *dst,
                    int64_t dst_offset, uint32_t read_flags, uint32_t write_flags)
{
    BDRVQcow2State *s = bs->opaque;
    bool absent =
        run->type == QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN || run->type == QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC;

    if (run->type == QCOW2_SUBCLUSTER_NORMAL) {
        return bdrv_co_copy_range_from(s->data_file, run->host_offset, dst, dst_offset, run->bytes, read_flags,
                                       write_flags);
    }
    if (absent && bs->backing) {
        return bdrv_co_copy_range_from(bs->backing, offset, dst, dst_offset, run->bytes, read_flags, write_flags);
    }
    return bdrv_co_pwrite_zeroes(dst, dst_offset, run->bytes, write_flags);
}

/* How much of a run lies above the backing file, or beyond its end; that much only is copied at a time. */
static void cut_at_backing_end(const BlockDriverState *bs, int64_t offset, struct source_run *run)
{
    bool absent =
        run->type == QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN || run->type == QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC;

    if (!absent || !bs->backing) {
        return;
    }
    int64_t end = bs->backing->bs->total_bytes;
    if (offset >= end) {
        run->type = QCOW2_SUBCLUSTER_ZERO_PLAIN;
    } else {
        run->bytes = MIN(run->bytes, end - offset);
    }
}

/* Nothing compressed in the range: that could only be read. */
static int copyable(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    while (bytes > 0) {
        struct source_run run;
        int ret = find_source(bs, offset, bytes, &run);
        if (ret < 0) {
            return ret;
        }
        qcow2_data_end(&run.use);
        if (run.type == QCOW2_SUBCLUSTER_COMPRESSED) {
            return -ENOTSUP;
        }
        offset += run.bytes;
        bytes -= run.bytes;
    }
    return 0;
}

int qcow2_co_copy_range_from(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                             int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags)
{
    SIM_ASSERT(src->bs == bs);
    int ret = copyable(bs, src_offset, bytes);

    while (bytes > 0 && ret == 0) {
        struct source_run run;
        ret = find_source(bs, src_offset, bytes, &run);
        if (ret < 0) {
            break;
        }
        cut_at_backing_end(bs, src_offset, &run);
        ret = run.type == QCOW2_SUBCLUSTER_COMPRESSED
                  ? -ENOTSUP
                  : copy_run(bs, &run, src_offset, dst, dst_offset, read_flags, write_flags);
        qcow2_data_end(&run.use);
        src_offset += run.bytes;
        dst_offset += run.bytes;
        bytes -= run.bytes;
    }
    return ret;
}

/* --- the target ---------------------------------------------------------------------------------------------- */

static int write_copy(BlockDriverState *bs, int64_t host_offset, int64_t offset, int64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    struct payload copy;

    if (bytes == 0) {
        return 0;
    }
    payload_init(bs->host->sim, &copy);
    int ret = qcow2_cow_read(bs, offset, bytes, &copy);
    if (ret == 0) {
        bdrv_co_debug_event(bs->file->bs, BLKDBG_COW_WRITE);
        ret = bdrv_co_pwritev(s->data_file, host_offset, bytes, &copy, 0);
    }
    payload_clear(&copy);
    return ret;
}

/* What comes from the source goes in first: if it cannot, nothing was changed. */
static int fill_area(BlockDriverState *bs, const QCowL2Meta *m, BdrvChild *src, int64_t src_offset,
                     uint32_t read_flags, uint32_t write_flags)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t head = m->guest_offset - m->area_offset;
    int64_t data_end = m->guest_offset + m->bytes;

    int ret = bdrv_co_copy_range_to(src, src_offset, s->data_file, m->host_offset + head, m->bytes, read_flags,
                                    write_flags);
    if (ret == 0) {
        ret = write_copy(bs, m->host_offset, m->area_offset, head);
    }
    if (ret == 0) {
        ret = write_copy(bs, m->host_offset + head + m->bytes, data_end, m->area_bytes - head - m->bytes);
    }
    return ret;
}

/* A run that the file below cannot copy, after others that it could: through a buffer. */
static int read_and_write(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, int64_t offset, int64_t bytes,
                          uint32_t read_flags)
{
    struct payload data;

    payload_init(bs->host->sim, &data);
    int ret = bdrv_co_preadv(src, src_offset, bytes, &data, read_flags);
    if (ret == 0) {
        ret = qcow2_co_pwritev(bs, offset, bytes, &data, 0);
    }
    payload_clear(&data);
    return ret;
}

static int copy_to_run(BlockDriverState *bs, QCowL2Meta *m, BdrvChild *src, int64_t src_offset, int64_t offset,
                       int64_t bytes, uint32_t read_flags, uint32_t write_flags)
{
    int ret = qcow2_run_begin(bs, m, offset, bytes, 0);

    if (ret < 0) {
        return ret;
    }
    return qcow2_run_end(bs, m, fill_area(bs, m, src, src_offset, read_flags, write_flags));
}

int qcow2_co_copy_range_to(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                           int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags)
{
    QCowL2Meta m;

    SIM_ASSERT(dst->bs == bs);
    if (!qcow2_usable(bs)) {
        return -ENOMEDIUM;
    }
    for (int64_t done = 0; done < bytes; done += m.bytes) {
        int ret =
            copy_to_run(bs, &m, src, src_offset + done, dst_offset + done, bytes - done, read_flags, write_flags);
        if (ret == -ENOTSUP && done > 0) {
            ret = read_and_write(bs, src, src_offset + done, dst_offset + done, m.bytes, read_flags);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}
