/*
 * Driver `disk`: a protocol node that stands for a fake disk of the world.
 *
 *     driver=disk disk=NAME
 *
 * Type file behaves as a regular file does under the reference's file driver (length follows writes and truncate,
 * falloc and full preallocation), type device as a host device (fixed length).
 *
 * With auto-read-only the medium is opened for writing when the first writer comes, and read-only again when the
 * last one has gone (1.13); a medium that may not be written makes the node read-only at open, or refuses the
 * writer.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/block_int.h"

struct disk_state {
    struct disk *disk;
    struct disk_lock lock;
    bool open_rw; /* the medium is open for writing */
};

#define WRITERS (BLK_PERM_WRITE | BLK_PERM_WRITE_UNCHANGED | BLK_PERM_RESIZE)

static struct disk *medium(const BlockDriverState *bs)
{
    return ((const struct disk_state *)bs->opaque)->disk;
}

static bool is_file(const BlockDriverState *bs)
{
    return disk_get_config(medium(bs))->type == DISK_FILE;
}

/* --- life ------------------------------------------------------------------------------------------------ */

static bool is_denied(int ret)
{
    return ret == -EACCES || ret == -EROFS || ret == -EPERM;
}

static bool opens_rw(const BlockDriverState *bs, bool writers)
{
    return (bs->open_flags & BDRV_O_RDWR) && (writers || !(bs->open_flags & BDRV_O_AUTO_RDONLY));
}

static int disk_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    struct disk_state *s = bs->opaque;
    const char *name;

    if (!qdict_get_str(options, "disk", &name, NULL, errp)) {
        return -EINVAL;
    }
    s->disk = disk_find(bs->host->sim, name);
    if (!s->disk) {
        error_setg_errno(errp, ENOENT, "Could not open '%s'", name);
        return -ENOENT;
    }
    int ret = disk_co_query(s->disk, SIM_OP_OPEN, 0, 0);
    if (is_denied(ret) && (bs->open_flags & BDRV_O_RDWR) && bdrv_apply_auto_read_only(bs, "", NULL) == 0) {
        ret = disk_co_query(s->disk, SIM_OP_OPEN, 0, 0);
    }
    s->open_rw = opens_rw(bs, false);
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not open '%s'", name);
        return ret;
    }
    bs->supported_write_flags = BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_FUA | BDRV_REQ_NO_FALLBACK;
    if (disk_get_config(s->disk)->can_write_zeroes && disk_get_config(s->disk)->can_discard) {
        bs->supported_zero_flags |= BDRV_REQ_MAY_UNMAP;
    }
    bs->supported_truncate_flags = is_file(bs) ? BDRV_REQ_ZERO_WRITE : 0; /* growth of a file is a hole */
    return 0;
}

/* Permissions go down to the medium as byte locks, so that several nodes or hosts over one medium find each other
 * (8.11). Checking and setting are one step: nothing else runs between them. */
static int disk_check_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp)
{
    struct disk_state *s = bs->opaque;

    if (bdrv_is_inactive(bs)) {
        return 0; /* another process may hold the locks (8.11) */
    }
    bool first_writer = (perm & WRITERS) && (bs->open_flags & BDRV_O_AUTO_RDONLY) && !s->open_rw;
    int ret = first_writer ? disk_query_now(s->disk, SIM_OP_OPEN) : 0;

    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not open '%s' for writing", disk_name(s->disk)->str);
        return ret;
    }
    uint64_t conflict = disk_lock_conflict(s->disk, &s->lock, perm, BLK_PERM_ALL & ~shared);
    char *names;

    if (!conflict) {
        return 0;
    }
    names = bdrv_perm_names((conflict & UINT32_MAX) ? conflict & UINT32_MAX : conflict >> 32);
    error_setg(errp, "Failed to get %s\"%s\" lock on '%s': is something else using the image?",
               (conflict & UINT32_MAX) ? "" : "shared ", names, disk_name(s->disk)->str);
    free(names);
    return -EAGAIN;
}

static void disk_set_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    struct disk_state *s = bs->opaque;

    if (bdrv_is_inactive(bs)) {
        return;
    }
    disk_lock_set(s->disk, &s->lock, bs->host, perm, BLK_PERM_ALL & ~shared);
    s->open_rw = opens_rw(bs, (perm & WRITERS) != 0);
}

/* From read-only to read-write the medium is opened once more. */
static int disk_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    const char *name = disk_name(medium(state->bs))->str;
    bool becomes_rw = (state->flags & BDRV_O_RDWR) && bdrv_is_read_only(state->bs);
    int ret = becomes_rw ? disk_co_query(medium(state->bs), SIM_OP_OPEN, 0, 0) : 0;

    if (is_denied(ret) && bdrv_reopen_auto_read_only(state, "", NULL) == 0) {
        return 0;
    }
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not open '%s'", name);
    }
    return ret;
}

static void disk_close(BlockDriverState *bs)
{
    struct disk_state *s = bs->opaque;

    if (s->disk) {
        disk_lock_set(s->disk, &s->lock, bs->host, 0, 0);
    }
}

static void disk_refresh_limits(BlockDriverState *bs)
{
    const struct disk_config *config = disk_get_config(medium(bs));

    bs->bl.request_alignment = config->align_bytes;
    bs->bl.min_mem_alignment = config->align_bytes;
    bs->bl.max_transfer = config->max_transfer_bytes;
}

static bool disk_has_zero_init(BlockDriverState *bs)
{
    return is_file(bs);
}

static const char *disk_filename(const BlockDriverState *bs)
{
    return medium(bs) ? disk_name(medium(bs))->str : ""; /* a node is listed while it is being opened */
}

/* --- requests -------------------------------------------------------------------------------------------- */

static uint32_t medium_flags(uint32_t flags)
{
    return ((flags & BDRV_REQ_FUA) ? DISK_REQ_FUA : 0) | ((flags & BDRV_REQ_MAY_UNMAP) ? DISK_REQ_MAY_UNMAP : 0);
}

static int disk_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    return disk_co_read(medium(bs), offset, bytes, out);
}

static int disk_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                        uint32_t flags)
{
    return disk_co_write(medium(bs), offset, bytes, in, medium_flags(flags));
}

static int disk_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    return disk_co_write_zeroes(medium(bs), offset, bytes, medium_flags(flags));
}

static int disk_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return disk_co_discard(medium(bs), offset, bytes);
}

static int disk_copy_range_from(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                                int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags)
{
    return bdrv_co_copy_range_to(src, src_offset, dst, dst_offset, bytes, read_flags, write_flags);
}

/* As copy_file_range: among regular files, not past the source's end, not onto itself. */
static bool can_copy(const BlockDriverState *from, int64_t src_offset, const BlockDriverState *to,
                     int64_t dst_offset, int64_t bytes)
{
    if (from->drv != to->drv || !is_file(from) || !is_file(to) || bytes > disk_length(medium(from)) - src_offset) {
        return false;
    }
    return medium(from) != medium(to) || !ranges_overlap(src_offset, bytes, dst_offset, bytes);
}

static int64_t max_piece(const BlockDriverState *bs)
{
    return bs->bl.max_transfer > 0 ? bs->bl.max_transfer : BDRV_MAX_REQUEST;
}

static int disk_copy_range_to(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                              int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags)
{
    int64_t max = MIN(max_piece(src->bs), max_piece(bs));
    int ret = 0;

    if (!can_copy(src->bs, src_offset, bs, dst_offset, bytes)) {
        return -ENOTSUP;
    }
    max = ROUND_DOWN(max, (int64_t)MAX(src->bs->bl.request_alignment, bs->bl.request_alignment));
    for (int64_t done = 0; done < bytes && ret == 0;) {
        int64_t num = MIN(bytes - done, max);
        struct payload data;

        payload_init(bs->host->sim, &data);
        ret = disk_co_read(medium(src->bs), src_offset + done, num, &data);
        if (ret == 0) {
            ret = disk_co_write(medium(bs), dst_offset + done, num, &data, medium_flags(write_flags));
        }
        payload_clear(&data);
        done += num;
    }
    return ret == -ENOTSUP ? -EIO : ret; /* something may have been copied: nobody may think it was refused */
}

static int disk_flush_to_disk(BlockDriverState *bs)
{
    return disk_co_flush(medium(bs));
}

/* A medium has no clusters; asking it is a request that may fail. */
static int disk_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    info->cluster_size = 0;
    return disk_co_query(medium(bs), SIM_OP_GET_INFO, 0, 0);
}

/* --- length ---------------------------------------------------------------------------------------------- */

static int64_t disk_getlength(BlockDriverState *bs)
{
    return disk_co_getlength(medium(bs));
}

static int truncate_device(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                           Error **errp)
{
    int64_t old = disk_length(medium(bs));

    if (prealloc != PREALLOC_OFF) {
        error_setg(errp, "Preallocation is not supported for a device");
        return -ENOTSUP;
    }
    if (length != old && exact) {
        error_setg(errp, "Cannot resize a device");
        return -ENOTSUP;
    }
    if (length > old) {
        error_setg(errp, "Cannot grow a device");
        return -EINVAL;
    }
    return 0;
}

#define ALLOCATE_STEP_BYTES MiB

static int write_zero_bytes(BlockDriverState *bs, int64_t from, int64_t to)
{
    struct payload zeroes;
    int ret = 0;

    for (; from < to && ret >= 0; from += ALLOCATE_STEP_BYTES) {
        payload_init(bs->host->sim, &zeroes);
        payload_append_zero(&zeroes, MIN(ALLOCATE_STEP_BYTES, to - from));
        ret = disk_co_write(medium(bs), from, zeroes.size_bytes, &zeroes, 0);
        payload_clear(&zeroes);
    }
    return ret;
}

/* Makes the new area of a grown file take space: zeroes that are really there, as data where the medium knows no
 * zero writes. */
static int allocate(BlockDriverState *bs, int64_t from, int64_t to)
{
    uint32_t align = bs->bl.request_alignment;

    from = ROUND_UP(from, align);
    to = ROUND_DOWN(to, align);
    int ret = from < to ? disk_co_write_zeroes(medium(bs), from, to - from, 0) : 0;
    return ret == -ENOTSUP ? write_zero_bytes(bs, from, to) : ret;
}

static int truncate_file(BlockDriverState *bs, int64_t length, enum bdrv_prealloc prealloc, Error **errp)
{
    struct disk *disk = medium(bs);
    int64_t old = disk_length(disk);

    if (prealloc == PREALLOC_METADATA) {
        error_setg(errp, "Unsupported preallocation mode 'metadata'");
        return -ENOTSUP;
    }
    if (prealloc != PREALLOC_OFF && length < old) {
        error_setg(errp, "Preallocation can't be used for shrinking files");
        return -ENOTSUP;
    }
    int ret = length == old ? 0 : disk_co_truncate(disk, length);
    if (ret >= 0 && prealloc != PREALLOC_OFF) {
        ret = allocate(bs, old, length);
        if (ret < 0) {
            disk_co_truncate(disk, old); /* the first error is the one to tell */
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, ret, "Failed to resize the file");
    }
    return ret;
}

static int disk_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                         uint32_t flags, Error **errp)
{
    return is_file(bs) ? truncate_file(bs, length, prealloc, errp)
                       : truncate_device(bs, length, exact, prealloc, errp);
}

/* --- making a medium -------------------------------------------------------------------------------------- */

/* As a file is made: cut to nothing first, so that nothing of what it held shows. */
static int make_empty(struct disk *disk, int64_t size_bytes, Error **errp)
{
    if (disk_get_config(disk)->type == DISK_DEVICE) {
        if (disk_length(disk) < size_bytes) {
            error_setg(errp, "Device is too small: '%s'", disk_name(disk)->str);
            return -ENOSPC;
        }
        return 0;
    }
    int ret = disk_co_truncate(disk, 0);
    if (ret >= 0 && size_bytes > 0) {
        ret = disk_co_truncate(disk, size_bytes);
    }
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not resize '%s'", disk_name(disk)->str);
    }
    return ret;
}

static int remake(struct host *host, struct disk *disk, int64_t size_bytes, Error **errp)
{
    struct disk_lock lock = {.disk = NULL};
    uint64_t wanted = BLK_PERM_WRITE | BLK_PERM_RESIZE;

    if (disk_lock_conflict(disk, &lock, wanted, BLK_PERM_RESIZE)) {
        error_setg(errp, "Failed to lock '%s': is something else using the image?", disk_name(disk)->str);
        return -EAGAIN;
    }
    disk_lock_set(disk, &lock, host, wanted, BLK_PERM_RESIZE);
    int ret = make_empty(disk, size_bytes, errp);
    disk_lock_set(disk, &lock, host, 0, 0);
    return ret;
}

static int disk_create(struct host *host, const struct qvalue *options, Error **errp)
{
    struct disk_config config;
    const char *name;

    disk_config_default(&config);
    if (!qdict_get_str(options, "disk", &name, NULL, errp) ||
        !qdict_get_size(options, "size", &config.size_bytes, 0, errp)) {
        return -EINVAL;
    }
    if (config.size_bytes > BDRV_MAX_LENGTH) {
        error_setg(errp, "Required too big image size, it must be not greater than %lld",
                   (long long)BDRV_MAX_LENGTH);
        return -EFBIG;
    }
    struct disk *disk = disk_find(host->sim, name);
    if (disk) {
        return remake(host, disk, config.size_bytes, errp);
    }
    return disk_new(host->sim, name, &config, errp) ? 0 : -EINVAL;
}

static const BdrvOption disk_create_options[] = {
    {"disk", BDRV_OPT_STR, true, "name of the fake disk; made unless it is there", NULL},
    {"size", BDRV_OPT_SIZE, true, "length in bytes", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

/* --- status and views ------------------------------------------------------------------------------------ */

static int disk_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                             int64_t *map, BlockDriverState **file)
{
    bool zero;

    int ret = disk_co_query(medium(bs), SIM_OP_BLOCK_STATUS, offset, bytes);
    if (ret < 0) {
        return ret;
    }
    disk_status(medium(bs), offset, bytes, pnum, &zero);
    /* The medium ends where its length does, in the middle of a block perhaps; what is behind reads zero. */
    *pnum = ROUND_UP(*pnum, (int64_t)bs->bl.request_alignment);
    *map = offset;
    *file = bs;
    return (zero ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA) | BDRV_BLOCK_OFFSET_VALID;
}

static int disk_peek_node(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    disk_peek(medium(bs), offset, bytes, out);
    return 0;
}

static bool disk_peek_node_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum)
{
    bool zero;

    disk_status(medium(bs), offset, bytes, pnum, &zero);
    return !zero;
}

static const BdrvOption disk_options[] = {
    {"disk", BDRV_OPT_STR, true, "name of the fake disk", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

extern const BlockDriver bdrv_disk;
const BlockDriver bdrv_disk = {
    .format_name = "disk",
    .doc = "a fake disk of the world",
    .instance_size = sizeof(struct disk_state),
    .options = disk_options,
    .create_options = disk_create_options,
    .bdrv_co_create = disk_create,
    .filename_option = "disk",
    .is_protocol = true,
    .bdrv_open = disk_open,
    .bdrv_close = disk_close,
    .bdrv_reopen_prepare = disk_reopen_prepare,
    .bdrv_check_perm = disk_check_perm,
    .bdrv_set_perm = disk_set_perm,
    .bdrv_co_preadv = disk_preadv,
    .bdrv_co_pwritev = disk_pwritev,
    .bdrv_co_pwrite_zeroes = disk_pwrite_zeroes,
    .bdrv_co_pdiscard = disk_pdiscard,
    .bdrv_co_copy_range_from = disk_copy_range_from,
    .bdrv_co_copy_range_to = disk_copy_range_to,
    .bdrv_co_flush_to_disk = disk_flush_to_disk,
    .bdrv_co_truncate = disk_truncate,
    .bdrv_co_getlength = disk_getlength,
    .bdrv_co_get_info = disk_get_info,
    .bdrv_co_block_status = disk_block_status,
    .bdrv_refresh_limits = disk_refresh_limits,
    .bdrv_has_zero_init = disk_has_zero_init,
    .bdrv_peek = disk_peek_node,
    .bdrv_peek_status = disk_peek_node_status,
    .bdrv_filename = disk_filename,
};
