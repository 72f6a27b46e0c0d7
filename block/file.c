/*
 * Driver `file`: an image in a real file of the machine that blksim runs on.
 *
 *     driver=file filename=PATH
 *
 * Regular files and block devices only. Requests are carried out at once, inside the call: no virtual time passes,
 * and no event tells of the machine (paths appear in messages, nothing of inodes, clocks or caches anywhere). What
 * the machine refuses comes back as its errno. Whether a host may touch files at all, and where relative paths
 * begin, says bdrv_set_host_files; without that word it may not.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file_fds.h"

#define CHUNK_BYTES (256 * KiB)

/* Never NULL. */
static void *get_memory(size_t bytes)
{
    void *memory = calloc(1, bytes);

    SIM_ASSERT(memory != NULL);
    return memory;
}

struct file_state {
    char *name; /* as given, and as headers of images that use it begin their relative names; host arena */
    char *path; /* as opened; host arena */
    int fd;     /* -1: none */
    bool writable;
    bool device;
    struct file_lock lock;   /* as it is on fd */
    struct file_lock agreed; /* without what a permission update that is under way has added */
};

/* --- life --------------------------------------------------------------------------------------------------- */

static int check_kind(const struct stat *st, const char *path, Error **errp)
{
    if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode)) {
        return 0;
    }
    error_setg(errp, "Could not open '%s': neither a regular file nor a block device", path);
    return S_ISDIR(st->st_mode) ? -EISDIR : -EINVAL;
}

/* A descriptor, or negative errno with errp. Looks before it opens: to open some devices is to use them. */
static int open_path(const char *path, bool writable, bool *device, Error **errp)
{
    struct stat st;
    int fd = -1;

    if (stat(path, &st) == 0) {
        int ret = check_kind(&st, path, errp);
        if (ret < 0) {
            return ret;
        }
        fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    }
    if (fd < 0 || fstat(fd, &st) < 0) {
        int ret = -errno;
        if (fd >= 0) {
            close(fd);
        }
        error_setg_errno(errp, ret, "Could not open '%s'", path);
        return ret;
    }
    int ret = check_kind(&st, path, errp); /* another may lie there by now */
    if (ret < 0) {
        close(fd);
        return ret;
    }
    *device = S_ISBLK(st.st_mode);
    return fd;
}

static bool is_denied(int ret)
{
    return ret == -EACCES || ret == -EPERM || ret == -EROFS;
}

char *file_resolve(const struct host *host, const char *filename)
{
    const char *base = host->graph->file_base;

    if (filename[0] == '/' || !base[0]) {
        return sim_strdup(host->arena, filename);
    }
    size_t room = strlen(base) + strlen(filename) + 2;
    char *joined = get_memory(room);
    snprintf(joined, room, "%s/%s", base, filename);
    char *path = sim_strdup(host->arena, joined);
    free(joined);
    return path;
}

static void forget_names(BlockDriverState *bs)
{
    struct file_state *s = bs->opaque;

    sim_strfree(bs->host->arena, s->name);
    sim_strfree(bs->host->arena, s->path);
    s->name = s->path = NULL;
}

static int file_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    struct file_state *s = bs->opaque;
    const char *filename;
    Error *local = NULL;

    s->fd = -1;
    if (!qdict_get_str(options, "filename", &filename, NULL, errp)) {
        return -EINVAL;
    }
    if (!bs->host->graph->file_base) {
        error_setg(errp, "Could not open '%s': host files are forbidden here", filename);
        return -EPERM;
    }
    s->name = sim_strdup(bs->host->arena, filename);
    s->path = file_resolve(bs->host, filename);
    s->writable = !bdrv_is_read_only(bs);
    s->fd = open_path(s->path, s->writable, &s->device, &local);
    if (is_denied(s->fd) && s->writable && bdrv_apply_auto_read_only(bs, "", NULL) == 0) {
        s->writable = false;
        error_free(local);
        local = NULL;
        s->fd = open_path(s->path, false, &s->device, &local);
    }
    if (s->fd < 0) {
        forget_names(bs);
        error_propagate(errp, local);
        return s->fd;
    }
    file_remember_fd(bs->host, s->fd);
    bs->supported_zero_flags = s->device ? 0 : BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    bs->supported_truncate_flags = s->device ? 0 : BDRV_REQ_ZERO_WRITE; /* growth of a file is a hole */
    return 0;
}

static void file_close(BlockDriverState *bs)
{
    struct file_state *s = bs->opaque;

    if (s->fd >= 0) {
        file_close_fd(bs->host, s->fd);
        forget_names(bs);
        s->fd = -1;
    }
}

/* --- permissions ---------------------------------------------------------------------------------------------- */

static int file_check_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp)
{
    struct file_state *s = bs->opaque;

    SIM_ASSERT(s->fd >= 0);
    return file_lock_check(s->fd, s->path, &s->lock, perm, BLK_PERM_ALL & ~shared, errp);
}

static void file_set_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    struct file_state *s = bs->opaque;

    s->agreed = (struct file_lock){perm, BLK_PERM_ALL & ~shared};
    file_lock_set(s->fd, &s->lock, s->agreed.taken, s->agreed.unshared);
}

static void file_abort_perm(BlockDriverState *bs)
{
    struct file_state *s = bs->opaque;

    file_lock_set(s->fd, &s->lock, s->agreed.taken, s->agreed.unshared);
}

/* --- reopen ------------------------------------------------------------------------------------------------- */

/* A descriptor that only reads is replaced by one that also writes; the other way round it may stay. */
static int file_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    BlockDriverState *bs = state->bs;
    struct file_state *s = bs->opaque;
    Error *local = NULL;

    if (!(state->flags & BDRV_O_RDWR) || s->writable) {
        return 0;
    }
    int fd = open_path(s->path, true, &s->device, &local);
    if (fd >= 0) {
        file_remember_fd(bs->host, fd);
        int *kept = sim_alloc(bs->host->arena, SIM_TYPE_bdrv_instance, sizeof(*kept));
        *kept = fd;
        state->opaque = kept;
        return 0;
    }
    if (is_denied(fd) && bdrv_reopen_auto_read_only(state, "", NULL) == 0) {
        error_free(local);
        return 0;
    }
    error_propagate(errp, local);
    return fd;
}

static void file_reopen_end(BDRVReopenState *state, bool commit)
{
    BlockDriverState *bs = state->bs;
    struct file_state *s = bs->opaque;
    int *kept = state->opaque;

    if (!kept) {
        return;
    }
    if (commit) {
        struct file_lock fresh = {0};
        file_lock_set(*kept, &fresh, s->lock.taken, s->lock.unshared);
    }
    file_close_fd(bs->host, commit ? s->fd : *kept);
    if (commit) {
        s->fd = *kept;
        s->writable = true;
    }
    sim_free(bs->host->arena, SIM_TYPE_bdrv_instance, kept, sizeof(*kept));
    state->opaque = NULL;
}

static void file_reopen_commit(BDRVReopenState *state)
{
    file_reopen_end(state, true);
}

static void file_reopen_abort(BDRVReopenState *state)
{
    file_reopen_end(state, false);
}

/* --- data --------------------------------------------------------------------------------------------------- */

/* Beyond the end all reads zero: node lengths are whole sectors. */
static int read_file(const struct file_state *s, int64_t offset, int64_t bytes, struct payload *out)
{
    uint8_t *buf = get_memory((size_t)MIN(bytes, CHUNK_BYTES));
    int ret = 0;

    while (bytes > 0 && ret == 0) {
        ssize_t n = pread(s->fd, buf, (size_t)MIN(bytes, CHUNK_BYTES), offset);
        if (n < 0 && errno != EINTR) {
            ret = -errno;
        } else if (n == 0) {
            payload_append_zero(out, bytes);
            bytes = 0;
        } else if (n > 0) {
            payload_append_bytes(out, buf, n);
            offset += n;
            bytes -= n;
        }
    }
    free(buf);
    return ret;
}

static int write_bytes(int fd, const uint8_t *buf, int64_t bytes, int64_t offset)
{
    while (bytes > 0) {
        ssize_t n = pwrite(fd, buf, (size_t)bytes, offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -ENOSPC;
        }
        buf += n;
        offset += n;
        bytes -= n;
    }
    return 0;
}

static int file_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    return read_file(bs->opaque, offset, bytes, out);
}

static int file_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                        uint32_t flags)
{
    const struct file_state *s = bs->opaque;
    uint8_t *buf = get_memory((size_t)MIN(bytes, CHUNK_BYTES));
    int ret = 0;

    for (int64_t done = 0; done < bytes && ret == 0;) {
        int64_t n = MIN(bytes - done, CHUNK_BYTES);
        payload_read_bytes(in, done, buf, n);
        ret = write_bytes(s->fd, buf, n, offset + done);
        done += n;
    }
    free(buf);
    return ret;
}

static int64_t file_getlength(BlockDriverState *bs)
{
    const struct file_state *s = bs->opaque;
    off_t end = lseek(s->fd, 0, SEEK_END);

    return end < 0 ? -errno : end;
}

/* What a file system cannot do is ENOTSUP, and the request path writes zeroes as data. */
static int allocate(const struct file_state *s, int mode, int64_t offset, int64_t bytes)
{
    int ret;

    do {
        ret = fallocate(s->fd, mode, offset, bytes) < 0 ? -errno : 0;
    } while (ret == -EINTR);
    return ret == -EOPNOTSUPP || ret == -ENOSYS || ret == -ENODEV ? -ENOTSUP : ret;
}

static int file_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    const struct file_state *s = bs->opaque;

    if (s->device) {
        return -ENOTSUP;
    }
    if (!(flags & BDRV_REQ_MAY_UNMAP)) {
        return allocate(s, FALLOC_FL_ZERO_RANGE, offset, bytes);
    }
    int64_t length = file_getlength(bs);
    int ret = allocate(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
    if (ret == 0 && length >= 0 && length < offset + bytes) {
        ret = ftruncate(s->fd, offset + bytes) < 0 ? -errno : 0; /* a hole beyond the end makes nothing longer */
    }
    return length < 0 ? (int)length : ret;
}

static int file_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    const struct file_state *s = bs->opaque;

    return s->device ? -ENOTSUP : allocate(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
}

static int file_flush_to_disk(BlockDriverState *bs)
{
    return fdatasync(((const struct file_state *)bs->opaque)->fd) < 0 ? -errno : 0;
}

/* --- length ------------------------------------------------------------------------------------------------- */

/* full: real zeroes, so that the space is there whatever the file system thinks of fallocate. */
static int write_zeroes(const struct file_state *s, int64_t from, int64_t to)
{
    uint8_t *buf = get_memory((size_t)CHUNK_BYTES);
    int ret = 0;

    while (from < to && ret == 0) {
        int64_t n = MIN(to - from, CHUNK_BYTES);
        ret = write_bytes(s->fd, buf, n, from);
        from += n;
    }
    free(buf);
    return ret;
}

static int grow_or_shrink(const struct file_state *s, int64_t old, int64_t length, enum bdrv_prealloc prealloc)
{
    int ret = 0;

    if (prealloc == PREALLOC_OFF) {
        return ftruncate(s->fd, length) < 0 ? -errno : 0;
    }
    if (length > old) {
        ret = prealloc == PREALLOC_FALLOC ? allocate(s, 0, old, length - old) : write_zeroes(s, old, length);
    }
    if (ret < 0 && ftruncate(s->fd, old) < 0) {
        ret = -errno; /* now the length is neither */
    }
    return ret;
}

static int truncate_device(int64_t old, int64_t length, bool exact, enum bdrv_prealloc prealloc, Error **errp)
{
    if (prealloc != PREALLOC_OFF || (exact && length != old)) {
        error_setg(errp, "%s",
                   prealloc != PREALLOC_OFF ? "Preallocation is not supported for a device"
                                            : "Cannot resize a device");
        return -ENOTSUP;
    }
    if (length > old) {
        error_setg(errp, "Cannot grow a device");
        return -EINVAL;
    }
    return 0;
}

static int file_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                         uint32_t flags, Error **errp)
{
    const struct file_state *s = bs->opaque;
    int64_t old = file_getlength(bs);

    if (old < 0) {
        error_setg_errno(errp, (int)old, "Could not get the length of the file");
        return (int)old;
    }
    if (s->device) {
        return truncate_device(old, length, exact, prealloc, errp);
    }
    if (prealloc == PREALLOC_METADATA) {
        error_setg(errp, "Unsupported preallocation mode 'metadata'");
        return -ENOTSUP;
    }
    if (prealloc != PREALLOC_OFF && length < old) {
        error_setg(errp, "Preallocation can't be used for shrinking files");
        return -ENOTSUP;
    }
    int ret = grow_or_shrink(s, old, length, prealloc);
    if (ret < 0) {
        error_setg_errno(errp, ret, "Failed to resize the file");
    }
    return ret;
}

/* --- status and views --------------------------------------------------------------------------------------- */

/* Where the kind at offset changes, as far as the file system tells; true: data. */
static bool find_run(const struct file_state *s, int64_t offset, int64_t *end)
{
    off_t data = lseek(s->fd, offset, SEEK_DATA);

    *end = INT64_MAX;
    if (data < 0) {
        return errno != ENXIO; /* ENXIO: nothing but a hole from here on; else nothing is known */
    }
    if (data > offset) {
        *end = data;
        return false;
    }
    off_t hole = lseek(s->fd, offset, SEEK_HOLE);
    *end = hole > offset ? hole : INT64_MAX;
    return true;
}

static int file_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                             int64_t *map, BlockDriverState **file)
{
    int64_t end;
    bool data = find_run(bs->opaque, offset, &end);

    *pnum = MIN(bytes, end - offset);
    *map = offset;
    *file = bs;
    return (data ? BDRV_BLOCK_DATA : BDRV_BLOCK_ZERO) | BDRV_BLOCK_OFFSET_VALID;
}

static int file_peek(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    return read_file(bs->opaque, offset, bytes, out);
}

static bool file_peek_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum)
{
    int64_t end;
    bool data = find_run(bs->opaque, offset, &end);

    *pnum = MIN(bytes, end - offset);
    return data;
}

static bool file_has_zero_init(BlockDriverState *bs)
{
    return !((const struct file_state *)bs->opaque)->device;
}

static const char *file_filename(const BlockDriverState *bs)
{
    const struct file_state *s = bs->opaque;

    return s->name ? s->name : ""; /* a node is listed while it is being opened */
}

static const BdrvOption file_options[] = {
    {"filename", BDRV_OPT_STR, true, "path of a regular file or block device", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

extern const BlockDriver bdrv_file;
const BlockDriver bdrv_file = {
    .format_name = "file",
    .doc = "a real file of this machine",
    .instance_size = sizeof(struct file_state),
    .options = file_options,
    .create_options = file_create_options,
    .bdrv_co_create = file_co_create,
    .filename_option = "filename",
    .is_protocol = true,
    .bdrv_open = file_open,
    .bdrv_close = file_close,
    .bdrv_check_perm = file_check_perm,
    .bdrv_set_perm = file_set_perm,
    .bdrv_abort_perm = file_abort_perm,
    .bdrv_reopen_prepare = file_reopen_prepare,
    .bdrv_reopen_commit = file_reopen_commit,
    .bdrv_reopen_abort = file_reopen_abort,
    .bdrv_co_preadv = file_preadv,
    .bdrv_co_pwritev = file_pwritev,
    .bdrv_co_pwrite_zeroes = file_pwrite_zeroes,
    .bdrv_co_pdiscard = file_pdiscard,
    .bdrv_co_flush_to_disk = file_flush_to_disk,
    .bdrv_co_truncate = file_truncate,
    .bdrv_co_getlength = file_getlength,
    .bdrv_co_block_status = file_block_status,
    .bdrv_has_zero_init = file_has_zero_init,
    .bdrv_peek = file_peek,
    .bdrv_peek_status = file_peek_status,
    .bdrv_filename = file_filename,
};

void bdrv_set_host_files(struct host *host, const char *base)
{
    struct BlockGraph *graph = host->graph;

    if (graph->file_base) {
        sim_strfree(host->arena, graph->file_base);
    }
    graph->file_base = base ? sim_strdup(host->arena, base) : NULL;
}
