/*
 * Driver `raw`: the file's bytes as they are, or a window of them (2.15, 1.3).
 *
 *     driver=raw file=... [offset=N] [size=N]
 *
 * Not a filter driver: chain walks never skip it. Without a window its file is FILTERED|PRIMARY, with one
 * DATA|PRIMARY. It takes WRITE and RESIZE only as far as its users do (1.11).
 *
 * A file that was taken for raw because its content looked like nothing else (BDRV_O_PROBED) must stay so: a guest
 * that could write another format's header there would have the file opened as that format the next time, with
 * whatever backing file the guest put in. Its first sector does not take such content.
 */
#include <errno.h>

#include "block/block_int.h"

struct raw_state {
    int64_t offset;
    int64_t size; /* of the window; meaningless unless has_size */
    bool has_size;
    bool window;
};

static int check_window(const struct raw_state *s, int64_t file_length, Error **errp)
{
    if (s->offset > file_length) {
        error_setg(errp, "Offset (%lld) cannot be greater than the size of the file (%lld)", (long long)s->offset,
                   (long long)file_length);
        return -EINVAL;
    }
    if (s->has_size && s->size > file_length - s->offset) {
        error_setg(errp,
                   "The sum of offset (%lld) and size (%lld) has to be smaller or equal to the size of the "
                   "file (%lld)",
                   (long long)s->offset, (long long)s->size, (long long)file_length);
        return -EINVAL;
    }
    if (s->has_size && s->size % SIM_SECTOR_BYTES != 0) {
        error_setg(errp, "Specified size is not a multiple of %d", SIM_SECTOR_BYTES);
        return -EINVAL;
    }
    return 0;
}

static int check_file(const struct raw_state *s, BlockDriverState *file, Error **errp)
{
    int64_t length = bdrv_co_getlength(file);

    if (length < 0) {
        error_setg_errno(errp, (int)length, "Could not get the length of '%s'", bdrv_get_node_name(file));
        return (int)length;
    }
    return check_window(s, length, errp);
}

static int read_window(const struct qvalue *options, struct raw_state *s, Error **errp)
{
    if (!qdict_get_size(options, "offset", &s->offset, 0, errp) ||
        !qdict_get_size(options, "size", &s->size, 0, errp)) {
        return -EINVAL;
    }
    s->has_size = qdict_get(options, "size") != NULL;
    s->window = s->offset > 0 || s->has_size;
    return 0;
}

static uint32_t file_role(const struct raw_state *s)
{
    return (s->window ? BDRV_CHILD_DATA : BDRV_CHILD_FILTERED) | BDRV_CHILD_PRIMARY;
}

static int raw_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    struct raw_state *s = bs->opaque;

    if (read_window(options, s, errp) < 0 || !bdrv_open_child(bs, options, "file", file_role(s), false, errp)) {
        return -EINVAL;
    }
    BlockDriverState *file = bs->file->bs;
    /* What the file may not do its user may not either; with auto-read-only the user bears that. */
    if (bdrv_is_read_only(file) && (bs->open_flags & BDRV_O_AUTO_RDONLY)) {
        bdrv_apply_auto_read_only(bs, "", NULL);
    }
    return check_file(s, file, errp);
}

/* --- reopen ---------------------------------------------------------------------------------------------- */

static int raw_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    struct raw_state next;

    int ret = read_window(state->options, &next, errp);
    if (ret == 0) {
        ret = check_file(&next, state->file, errp);
    }
    if (ret < 0) {
        return ret;
    }
    struct raw_state *kept = sim_alloc(state->bs->host->arena, SIM_TYPE_bdrv_instance, sizeof(next));
    *kept = next;
    state->opaque = kept;
    return 0;
}

static void raw_reopen_switch(BDRVReopenState *state)
{
    struct raw_state *now = state->bs->opaque;
    struct raw_state *other = state->opaque;
    struct raw_state kept = *now;

    *now = *other;
    *other = kept;
    state->bs->file->role = file_role(now);
}

static void raw_reopen_end(BDRVReopenState *state)
{
    sim_free(state->bs->host->arena, SIM_TYPE_bdrv_instance, state->opaque, sizeof(struct raw_state));
    state->opaque = NULL;
}

static int64_t window_length(const struct raw_state *s, int64_t file_length)
{
    int64_t rest = MAX(file_length - s->offset, (int64_t)0);

    /* A fixed window in a file that has become too short keeps whole sectors: the rest of one would end beyond it.
     */
    return s->has_size ? MIN(s->size, ROUND_DOWN(rest, SIM_SECTOR_BYTES)) : rest;
}

static int64_t raw_length_over(const BlockDriverState *bs, int64_t child_length)
{
    return window_length(bs->opaque, child_length);
}

/* --- requests -------------------------------------------------------------------------------------------- */

/* Moves the request into the window; fails it with beyond when it leaves the window. */
static int adjust(const BlockDriverState *bs, int64_t *offset, int64_t bytes, int beyond)
{
    const struct raw_state *s = bs->opaque;

    if (s->has_size && (*offset > s->size || bytes > s->size - *offset)) {
        return beyond;
    }
    if (*offset > INT64_MAX - s->offset) {
        return -EINVAL;
    }
    *offset += s->offset;
    return 0;
}

static int raw_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    int ret = adjust(bs, &offset, bytes, -EINVAL);

    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(bs->file->bs, BLKDBG_READ_AIO);
    return bdrv_co_preadv(bs->file, offset, bytes, out, flags);
}

/* The request alignment of a probed node is a sector: a request has all of the first one or nothing of it. */
static int check_header(const BlockDriverState *bs, int64_t offset, const struct payload *in)
{
    uint8_t head[BDRV_PROBE_BYTES];

    if (!(bs->open_flags & BDRV_O_PROBED) || offset >= BDRV_PROBE_BYTES) {
        return 0;
    }
    SIM_ASSERT_EQ(offset, 0);
    SIM_ASSERT(in->size_bytes >= BDRV_PROBE_BYTES);
    payload_read_bytes(in, 0, head, sizeof(head));
    if (str_is(bdrv_probe_format(head, sizeof(head)), "raw")) {
        return 0;
    }
    SIM_MARK(bs->host->sim, raw_header_refused);
    return -EPERM;
}

static int raw_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                       uint32_t flags)
{
    int ret = check_header(bs, offset, in);

    if (ret == 0) {
        ret = adjust(bs, &offset, bytes, -ENOSPC);
    }
    if (ret < 0) {
        return ret;
    }
    bdrv_co_debug_event(bs->file->bs, BLKDBG_WRITE_AIO);
    return bdrv_co_pwritev(bs->file, offset, bytes, in, flags);
}

static int raw_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    int ret = adjust(bs, &offset, bytes, -ENOSPC);

    return ret < 0 ? ret : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int raw_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int ret = adjust(bs, &offset, bytes, -ENOSPC);

    return ret < 0 ? ret : bdrv_co_pdiscard(bs->file, offset, bytes);
}

static int raw_copy_range_from(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                               int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags)
{
    int ret = adjust(bs, &src_offset, bytes, -EINVAL);

    return ret < 0 ? ret
                   : bdrv_co_copy_range_from(bs->file, src_offset, dst, dst_offset, bytes, read_flags, write_flags);
}

static int raw_copy_range_to(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                             int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags)
{
    if ((bs->open_flags & BDRV_O_PROBED) && dst_offset < BDRV_PROBE_BYTES) {
        return -ENOTSUP; /* as a write, whose bytes can be looked at */
    }
    int ret = adjust(bs, &dst_offset, bytes, -ENOSPC);

    return ret < 0 ? ret
                   : bdrv_co_copy_range_to(src, src_offset, bs->file, dst_offset, bytes, read_flags, write_flags);
}

static int raw_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                            int64_t *map, BlockDriverState **file)
{
    const struct raw_state *s = bs->opaque;

    *pnum = bytes;
    *map = offset + s->offset;
    *file = bs->file->bs;
    return BDRV_BLOCK_OFFSET_VALID | BDRV_BLOCK_RAW;
}

/* --- length ---------------------------------------------------------------------------------------------- */

static int64_t raw_getlength(BlockDriverState *bs)
{
    int64_t length = bdrv_co_getlength(bs->file->bs);

    return length < 0 ? length : window_length(bs->opaque, length);
}

static int raw_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                        uint32_t flags, Error **errp)
{
    const struct raw_state *s = bs->opaque;

    if (s->has_size) {
        error_setg(errp, "Cannot resize fixed-size raw disks");
        return -ENOTSUP;
    }
    if (length > INT64_MAX - s->offset) {
        error_setg(errp, "Disk size too large for the chosen offset");
        return -EINVAL;
    }
    return bdrv_co_truncate(bs->file, length + s->offset, exact, prealloc, flags, errp);
}

/* --- making an image -------------------------------------------------------------------------------------- */

static int raw_create(struct host *host, const struct qvalue *options, Error **errp)
{
    int64_t size_bytes;

    if (!qdict_get_size(options, "size", &size_bytes, 0, errp)) {
        return -EINVAL;
    }
    BlockBackend *blk = bdrv_create_backend(host, options, errp);
    if (!blk) {
        return -EINVAL;
    }
    int ret = blk_co_truncate(blk, size_bytes, true, PREALLOC_OFF, 0, errp);
    blk_unref(blk);
    return ret;
}

static const BdrvOption raw_create_options[] = {
    {"file", BDRV_OPT_NODE, true, "node that is to hold the bytes", NULL},
    {"size", BDRV_OPT_SIZE, true, "length in bytes", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

/* --- the rest -------------------------------------------------------------------------------------------- */

static int raw_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    return bdrv_co_get_info(bs->file->bs, info);
}

static void raw_refresh_limits(BlockDriverState *bs)
{
    bdrv_pass_supported_flags(bs);
    bs->supported_read_flags = bs->file ? BDRV_REQ_PREFETCH & bs->file->bs->supported_read_flags : 0;
    if (bs->open_flags & BDRV_O_PROBED) {
        bs->bl.request_alignment = BDRV_PROBE_BYTES; /* so that the first sector is written whole */
    }
}

static bool raw_has_zero_init(BlockDriverState *bs)
{
    return bdrv_has_zero_init(bs->file->bs);
}

/* A windowed file counts as storage, whose defaults add WRITE and RESIZE; this driver writes only when told to. */
static void raw_child_perm(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm, uint64_t shared,
                           uint64_t *nperm, uint64_t *nshared)
{
    const struct raw_state *s = bs->opaque;
    uint64_t own = BLK_PERM_WRITE | BLK_PERM_RESIZE;

    bdrv_default_perms(bs, child, role, perm, shared, nperm, nshared);
    if ((perm & BLK_PERM_WRITE) && !s->has_size && s->offset % SIM_SECTOR_BYTES != 0) {
        own = BLK_PERM_WRITE; /* the last sector of the window may reach past the file's */
    }
    *nperm = (*nperm & ~own) | (perm & own);
}

static int raw_peek(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    return bdrv_peek(bs->file->bs, offset + ((const struct raw_state *)bs->opaque)->offset, bytes, out);
}

static bool raw_peek_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum)
{
    return bdrv_peek_status(bs->file->bs, offset + ((const struct raw_state *)bs->opaque)->offset, bytes, pnum);
}

static const BdrvOption raw_options[] = {
    {"file", BDRV_OPT_NODE, true, "node that holds the bytes", NULL},
    {"offset", BDRV_OPT_SIZE, false, "first byte of the window in bytes, default 0", NULL},
    {"size", BDRV_OPT_SIZE, false, "length of the window in bytes, a multiple of 512, default up to the end", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

static const char *const raw_mutable_opts[] = {"offset", "size", NULL};

extern const BlockDriver bdrv_raw;
const BlockDriver bdrv_raw = {
    .format_name = "raw",
    .doc = "the bytes of a file as they are, or a window of them",
    .instance_size = sizeof(struct raw_state),
    .options = raw_options,
    .create_options = raw_create_options,
    .bdrv_co_create = raw_create,
    .bdrv_open = raw_open,
    .bdrv_length_over = raw_length_over,
    .bdrv_reopen_prepare = raw_reopen_prepare,
    .bdrv_reopen_switch = raw_reopen_switch,
    .bdrv_reopen_commit = raw_reopen_end,
    .bdrv_reopen_abort = raw_reopen_end,
    .mutable_opts = raw_mutable_opts,
    .bdrv_co_preadv = raw_preadv,
    .bdrv_co_pwritev = raw_pwritev,
    .bdrv_co_pwrite_zeroes = raw_pwrite_zeroes,
    .bdrv_co_pdiscard = raw_pdiscard,
    .bdrv_co_copy_range_from = raw_copy_range_from,
    .bdrv_co_copy_range_to = raw_copy_range_to,
    .bdrv_co_truncate = raw_truncate,
    .bdrv_co_getlength = raw_getlength,
    .bdrv_co_get_info = raw_get_info,
    .bdrv_co_block_status = raw_block_status,
    .bdrv_refresh_limits = raw_refresh_limits,
    .bdrv_has_zero_init = raw_has_zero_init,
    .bdrv_child_perm = raw_child_perm,
    .bdrv_peek = raw_peek,
    .bdrv_peek_status = raw_peek_status,
};
