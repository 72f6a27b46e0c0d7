/*
 * The length of a qcow2 disk (reference/bitmaps-qcow2.md 5.5, block.md 5). The header says the new length last:
 * until then the disk is as long as it was, and what is behind its end, or no longer will be, is nobody's.
 */
#include <errno.h>

#include "block/qcow2_open.h"

#define HEADER_SIZE_AT 24

/* --- checks --------------------------------------------------------------------------------------------------- */

static int check(BlockDriverState *bs, int64_t length, enum bdrv_prealloc prealloc, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;

    if (length % SIM_SECTOR_BYTES != 0) {
        error_setg(errp, "The new size must be a multiple of %d", SIM_SECTOR_BYTES);
        return -EINVAL;
    }
    if (s->nb_snapshots > 0 && s->qcow_version < 3) {
        error_setg(errp, "Can't resize a version 2 image which has snapshots");
        return -ENOTSUP;
    }
    if (length < bs->total_bytes && prealloc != PREALLOC_OFF) {
        error_setg(errp, "Preallocation can't be used for shrinking an image");
        return -EINVAL;
    }
    if (size_to_l1(s, (uint64_t)length) > QCOW2_MAX_L1_BYTES / sizeof(uint64_t)) {
        error_setg(errp, "The image size is too large for file format 'qcow2' (try using a larger cluster size)");
        return -EFBIG;
    }
    if (prealloc != PREALLOC_OFF && bs->backing && !has_subclusters(s)) {
        error_setg(errp, "Preallocation is not supported over a backing file without extended L2 entries");
        return -ENOTSUP; /* it would hide what is below */
    }
    return qcow2_truncate_bitmaps_check(bs, errp);
}

/* --- the data file ---------------------------------------------------------------------------------------------
 */

/* An external file that is the disk by itself is as long as the disk; else it only has to hold what is written. */
static int truncate_data_file(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                              Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;

    if (!has_data_file(bs)) {
        return 0;
    }
    enum bdrv_prealloc mode = prealloc == PREALLOC_METADATA ? PREALLOC_OFF : prealloc;
    return bdrv_co_truncate(s->data_file, length, exact && s->data_file_is_raw, mode, 0, errp);
}

/* --- shrinking -------------------------------------------------------------------------------------------------
 */

static int step(int ret, const char *what, Error **errp)
{
    if (ret < 0) {
        error_setg_errno(errp, ret, "%s", what);
    }
    return ret;
}

/* The end of the file that no cluster is in any more; not important enough to fail for. */
static void cut_file(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t length = bdrv_co_getlength(bs->file->bs);
    int64_t used = length < 0 ? length : qcow2_get_last_cluster(bs, length);

    if (used < 0) {
        return;
    }
    if (used << s->cluster_bits < length &&
        bdrv_co_truncate(bs->file, used << s->cluster_bits, false, PREALLOC_OFF, 0, NULL) < 0) {
        SIM_MARK(bs->host->sim, qcow2_shrink_kept_file);
    }
}

static int shrink(BlockDriverState *bs, int64_t length, bool exact, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t old_length = bs->total_bytes;
    int64_t from = ROUND_UP(length, s->cluster_size);

    SIM_ASSERT_LT(length, old_length);
    if (from < old_length) {
        int ret = step(qcow2_cluster_discard(bs, from, old_length - from, QCOW2_DISCARD_ALWAYS, true),
                       "Failed to discard cropped clusters", errp);
        if (ret < 0) {
            return ret;
        }
    }
    int ret = step(qcow2_shrink_l1_table(bs, size_to_l1(s, (uint64_t)length)),
                   "Failed to reduce the number of L2 tables", errp);
    if (ret == 0) {
        ret = truncate_data_file(bs, length, exact, PREALLOC_OFF, errp);
    }
    if (ret == 0) {
        ret = step(qcow2_shrink_reftable(bs), "Failed to discard unused refblocks", errp);
    }
    if (ret == 0) { /* entries that name the end of the file are gone before the end is */
        ret = step(qcow2_flush_caches(bs), "Failed to flush the metadata", errp);
    }
    if (ret == 0) {
        cut_file(bs);
    }
    return ret;
}

/* --- growing ---------------------------------------------------------------------------------------------------
 */

/* Guest data behind the end as it is; the disk's end does not matter to the write. */
static int write_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    BDRVQcow2State *s = bs->opaque;
    struct payload zeroes;

    payload_init(bs->host->sim, &zeroes);
    payload_append_zero(&zeroes, bytes);
    co_mutex_unlock(&s->lock);
    int ret = qcow2_co_pwritev(bs, offset, bytes, &zeroes, 0);
    co_mutex_lock(&s->lock);
    payload_clear(&zeroes);
    return ret;
}

/* The last cluster may hold more than the disk has shown so far: what was there before a shrink, or before a cut of
 * an odd length. */
static int hide_tail(BlockDriverState *bs, int64_t end, bool always)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t from = bs->total_bytes;
    int64_t bytes = MIN(ROUND_UP(from, s->cluster_size), end) - from;
    QCow2SubclusterType type;
    int64_t host, run;

    for (; bytes > 0; from += run, bytes -= run) {
        run = bytes;
        int ret = qcow2_get_host_offset(bs, from, &run, &host, &type);
        if (ret < 0) {
            return ret;
        }
        bool below = type == QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN || type == QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC;
        if (type == QCOW2_SUBCLUSTER_NORMAL || type == QCOW2_SUBCLUSTER_COMPRESSED || (below && always)) {
            SIM_MARK(bs->host->sim, qcow2_tail_zeroed);
            ret = write_zeroes(bs, from, run);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* Nothing of a longer backing file may show: zero clusters, or zeros where the format has none (version 2). */
static int hide_backing(BlockDriverState *bs, int64_t end)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t from = ROUND_UP(bs->total_bytes, s->cluster_size);

    if (from >= end) {
        return 0;
    }
    int ret = qcow2_subcluster_zeroize(bs, from, end - from, 0);
    for (; ret == -ENOTSUP && from < end; from += MIN(end - from, MiB)) {
        int written = write_zeroes(bs, from, MIN(end - from, MiB));
        if (written < 0) {
            return written;
        }
    }
    return ret == -ENOTSUP ? 0 : ret;
}

/* What growing has put behind the end of a disk that stays as it is. */
static void take_back(BlockDriverState *bs, int64_t end)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t from = ROUND_UP(bs->total_bytes, s->cluster_size);
    int64_t to = ROUND_UP(end, s->cluster_size);

    if (qcow2_usable(bs) && from < to) {
        SIM_MARK(bs->host->sim, qcow2_prealloc_undone);
        qcow2_cluster_discard(bs, from, to - from, QCOW2_DISCARD_ALWAYS, true); /* what stays is never seen */
    }
}

static int fill_new(BlockDriverState *bs, int64_t length, enum bdrv_prealloc prealloc, uint32_t flags, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    bool zero = (flags & BDRV_REQ_ZERO_WRITE) != 0;
    int ret = 0;

    if (prealloc != PREALLOC_OFF) {
        ret = qcow2_preallocate(bs, ROUND_UP(bs->total_bytes, s->cluster_size), length, prealloc, errp);
    }
    if (ret == 0) {
        ret = step(hide_tail(bs, length, zero), "Failed to zero out the new area", errp);
    }
    if (ret == 0 && zero) {
        ret = step(hide_backing(bs, length), "Failed to zero out the new area", errp);
    }
    if (ret == 0) { /* before the length that shows it */
        ret = step(qcow2_flush_caches(bs), "Failed to flush the new area", errp);
    }
    return ret;
}

static int grow(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc, uint32_t flags,
                Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    int ret =
        step(qcow2_grow_l1_table(bs, size_to_l1(s, (uint64_t)length), true), "Failed to grow the L1 table", errp);
    if (ret == 0) {
        ret = truncate_data_file(bs, length, exact, prealloc, errp);
    }
    if (ret < 0) {
        return ret;
    }
    ret = fill_new(bs, length, prealloc, flags, errp);
    if (ret < 0) {
        take_back(bs, length);
    }
    return ret;
}

/* --- both ------------------------------------------------------------------------------------------------------
 */

static int write_length(BlockDriverState *bs, int64_t length, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint8_t bytes[8];

    qcow2_put_be64(bytes, (uint64_t)length);
    int ret = qcow2_pwrite_sync(bs, HEADER_SIZE_AT, sizeof(bytes), bytes);
    if (ret < 0) {
        /* The guest goes on with the old length: what it writes at that end must not be cut off by the header. */
        s->header_unsure = true;
        (void)qcow2_header_make_sure(bs); /* else the next flush will, or fail */
        error_setg_errno(errp, ret, "Failed to update the image size");
        return ret;
    }
    s->l1_vm_state_index = (uint32_t)size_to_l1(s, (uint64_t)length);
    s->header_length_bytes = length;
    bdrv_set_total_bytes(bs, length);
    return 0;
}

int qcow2_co_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc, uint32_t flags,
                      Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    SIM_ASSERT(length >= 0);
    if (!qcow2_usable(bs)) {
        error_setg(errp, "The image is not usable");
        return -ENOMEDIUM;
    }
    co_mutex_lock(&s->lock);
    int ret = check(bs, length, prealloc, errp);
    if (ret == 0 && length < bs->total_bytes) {
        ret = shrink(bs, length, exact, errp);
    } else if (ret == 0) {
        ret = grow(bs, length, exact, prealloc, flags, errp);
    }
    if (ret == 0) {
        ret = write_length(bs, length, errp);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}
