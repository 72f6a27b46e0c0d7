/*
 * Driver `qcow2` (reference/bitmaps-qcow2.md 4 to 6): opening, closing, and what a node says of itself. What it
 * does with requests is in the other files qcow2*.c; qcow2.h tells which.
 *
 *     driver=qcow2 file=... [backing=...] [data-file=...] [lazy-refcounts=on] ...
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2_check_int.h"
#include "block/qcow2_open.h"

/* --- opening -------------------------------------------------------------------------------------------------- */

static int load_l1(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    size_t bytes = (size_t)s->l1_size * sizeof(uint64_t);

    s->l1_table = qcow2_alloc(bs, bytes);
    int ret = qcow2_pread(bs, s->l1_table_offset, (int64_t)bytes, s->l1_table);
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not read L1 table");
        return ret;
    }
    for (uint32_t i = 0; i < s->l1_size; i++) {
        s->l1_table[i] = be64toh(s->l1_table[i]);
    }
    return 0;
}

/* Structures that say where others are: read, checked, and nothing written. */
static int load_tables(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    struct qcow2_options o;

    int ret = qcow2_options_read(bs, options, bs->open_flags, &o, errp);
    if (ret < 0) {
        return ret;
    }
    qcow2_options_apply(s, &o);
    qcow2_caches_create(bs, &o, &s->l2_table_cache, &s->refcount_block_cache);
    ret = load_l1(bs, errp);
    if (ret == 0) {
        ret = qcow2_refcount_init(bs, errp);
    }
    return ret < 0 ? ret : qcow2_read_snapshots(bs, errp);
}

static int write_header(BlockDriverState *bs, Error **errp)
{
    int ret = qcow2_update_header(bs);

    if (ret == 0) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not update qcow2 header");
    }
    return ret;
}

/* Before anything is written, and only who repairs gets further. */
static int check_refblocks(BlockDriverState *bs, Error **errp)
{
    if (!bdrv_is_writable(bs) || (bs->open_flags & BDRV_O_CHECK) || qcow2_refblocks_are_distinct(bs)) {
        return 0;
    }
    SIM_MARK(bs->host->sim, qcow2_refblock_named_twice);
    error_setg(errp, "Refcount block is named twice; image cannot be opened read/write");
    return -EINVAL;
}

static bool must_be_repaired(const BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;

    return s->needs_repair && bdrv_is_writable(bs) && !(bs->open_flags & BDRV_O_CHECK);
}

/* Before the first write: an image that must be refused is left as it is. */
static int check_dirty(BlockDriverState *bs, Error **errp)
{
    if (!must_be_repaired(bs) || qcow2_check_is_mendable(bs)) {
        return 0;
    }
    SIM_MARK(bs->host->sim, qcow2_dirty_beyond_repair);
    error_setg_errno(errp, EIO, "Could not repair dirty image");
    return -EIO;
}

/* The counts of an image that was in use with lazy refcounts and never closed. */
static int repair_dirty(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    BdrvCheckResult found = {0};

    SIM_MARK(bs->host->sim, qcow2_repaired_on_open);
    int ret = qcow2_check_locked(bs, &found, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS);
    if (ret == 0 && (found.check_errors > 0 || found.corruptions > 0 || s->needs_repair)) {
        ret = -EIO; /* with wrong counts the next allocation may take what is in use */
    }
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not repair dirty image");
    }
    return ret;
}

/*
 * What opening writes. First of all, autoclear bits that we do not know go: somebody who did not know a feature may
 * have written the image, so what the feature says is void (edge 41). Then a dirty image is repaired. Only what can
 * be used gets its bitmaps marked in use, else an open that fails would cost them.
 */
static int begin_use(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    bool writable = bdrv_is_writable(bs);
    bool unknown = writable && (s->autoclear_features & ~(uint64_t)QCOW2_AUTOCLEAR_MASK) != 0;
    bool header_updated = false;
    int ret = 0;

    if (writable) {
        s->autoclear_features &= QCOW2_AUTOCLEAR_MASK;
    }
    if (must_be_repaired(bs)) {
        ret = qcow2_try_dirty_bitmaps(bs, errp);
        if (ret == 0 && unknown) {
            ret = write_header(bs, errp);
            unknown = false;
        }
        if (ret == 0) {
            ret = repair_dirty(bs, errp);
        }
    }
    /* Opened to be checked: who loads bitmaps stores them again, and would take clusters by counts that are wrong.
     */
    bool wait = writable && s->needs_repair;
    if (ret == 0 && !bdrv_is_inactive(bs) && !wait) {
        ret = qcow2_load_dirty_bitmaps(bs, &header_updated, errp);
    }
    return ret == 0 && unknown && !header_updated ? write_header(bs, errp) : ret;
}

/* The node that the header names. Other than a backing file it is looked for where relative names begin, not beside
 * the image: so the original does. */
static BdrvChild *open_named_data_file(BlockDriverState *bs, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    const BlockDriver *protocol = bdrv_protocol_below(bs);
    struct qvalue *options = qvalue_dict();

    qdict_put(options, "driver", qvalue_str(protocol->format_name));
    qdict_put(options, protocol->filename_option, qvalue_str(s->image_data_file));
    struct co_cleanup cleanup;
    coroutine_cleanup_push(bs->host->sim, &cleanup, qvalue_cleanup, options);
    BdrvChild *child = bdrv_open_child_value(bs, options, "data-file", BDRV_CHILD_DATA, errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(options);
    return child;
}

static BdrvChild *find_data_file(const BlockDriverState *bs)
{
    BdrvChild *child;

    LIST_FOREACH(child, &bs->children, next)
    {
        if (str_is(child->name, "data-file")) {
            return child;
        }
    }
    return NULL;
}

/* An image that is read again has its data file still. */
static int open_external(BlockDriverState *bs, const struct qvalue *options, bool given, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    BdrvChild *child = find_data_file(bs);

    if (!child && given) {
        child = bdrv_open_child(bs, options, "data-file", BDRV_CHILD_DATA, false, errp);
    } else if (!child && s->image_data_file) {
        child = open_named_data_file(bs, errp);
    } else if (!child) {
        error_setg(errp, "'data-file' is required for this image");
    }
    if (!child) {
        return -EINVAL;
    }
    s->data_file = child;
    s->data_file_is_raw = (s->autoclear_features & QCOW2_AUTOCLEAR_DATA_FILE_RAW) != 0;
    bs->file->role &= ~(uint32_t)BDRV_CHILD_DATA; /* that holds metadata only */
    if (s->data_file_is_raw && bs->backing_filename) {
        error_setg(errp, "Backing file and data-file-raw cannot be used at the same time");
        return -EINVAL;
    }
    return 0;
}

static int open_data_file(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    const struct qvalue *option = qdict_get(options, "data-file");
    bool given = option && option->type != QVALUE_NULL;

    s->data_file = bs->file;
    if (s->incompatible_features & QCOW2_INCOMPAT_DATA_FILE) {
        return open_external(bs, options, given, errp);
    }
    if (given) {
        error_setg(errp, "'data-file' can only be set for images with an external data file");
        return -EINVAL;
    }
    if (s->autoclear_features & QCOW2_AUTOCLEAR_DATA_FILE_RAW) {
        error_setg(errp, "data-file-raw requires a data file");
        return -EINVAL;
    }
    return 0;
}

static int open_header(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    STAILQ_INIT(&s->unknown_header_ext);
    LIST_INIT(&s->cluster_allocs);
    LIST_INIT(&s->data_uses);
    int ret = qcow2_header_load(bs, errp);
    if (ret == 0) {
        s->needs_repair = (s->incompatible_features & QCOW2_INCOMPAT_DIRTY) != 0;
        ret = open_data_file(bs, options, errp);
    }
    if (ret < 0) {
        qcow2_forget_image(bs);
    }
    return ret;
}

/* The rest, after the header. All of it is read and believed before anything is written. */
static int open_rest(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    int ret = load_tables(bs, options, errp);

    if (ret == 0) {
        ret = check_refblocks(bs, errp);
    }
    if (ret == 0) {
        ret = check_dirty(bs, errp);
    }
    if (ret == 0) {
        ret = begin_use(bs, errp);
    }
    if (ret < 0) {
        qcow2_forget_image(bs);
    } else {
        qcow2_cache_clean_start(bs);
    }
    return ret;
}

int qcow2_open_image(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    int ret = open_header(bs, options, errp);

    return ret < 0 ? ret : open_rest(bs, options, errp);
}

/* The header only: it names the files below. */
static int qcow2_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    if (!bdrv_open_child(bs, options, "file", BDRV_CHILD_DATA | BDRV_CHILD_METADATA | BDRV_CHILD_PRIMARY, false,
                         errp)) {
        return -EINVAL;
    }
    co_mutex_init(bs->host->sim, &s->lock);
    co_mutex_lock(&s->lock);
    int ret = open_header(bs, options, errp);
    s->unusable = true; /* so far */
    co_mutex_unlock(&s->lock);
    return ret;
}

/* Whoever is refused for his backing file leaves the image as it is, and images that name each other without an end
 * have not taken up memory for their tables when that is noticed. */
static int qcow2_opened(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    co_mutex_lock(&s->lock);
    SIM_ASSERT(s->unusable && s->l1_table == NULL);
    s->unusable = false;
    int ret = open_rest(bs, bs->options, errp);
    s->unusable = ret < 0;
    co_mutex_unlock(&s->lock);
    return ret;
}

/* --- closing ---------------------------------------------------------------------------------------------------
 */

static void forget_tables(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    qcow2_freed_close(bs);
    qcow2_l2_places_forget(bs);
    qcow2_refcount_close(bs);
    qcow2_free_snapshots(bs);
    if (s->l2_table_cache) {
        qcow2_cache_destroy(bs, s->l2_table_cache);
        qcow2_cache_destroy(bs, s->refcount_block_cache);
    }
    if (s->l1_table) {
        qcow2_free(bs, s->l1_table, (size_t)s->l1_size * sizeof(uint64_t));
    }
}

void qcow2_forget_image(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    CoMutex lock = s->lock;

    SIM_ASSERT(lock.holder != NULL);
    SIM_ASSERT(LIST_EMPTY(&s->cluster_allocs));
    qcow2_cache_clean_stop(bs);
    forget_tables(bs);
    qcow2_header_unload(bs);
    memset(s, 0, sizeof(*s));
    s->lock = lock; /* its holder is who calls */
    s->data_file = bs->file;
}

/* What could not be written stays dirty in the image: the dirty bit, or leaks, tell the next one who opens it. */
static void qcow2_close(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    co_mutex_lock(&s->lock);
    if (bdrv_is_writable(bs) && qcow2_usable(bs) && qcow2_make_stable(bs) < 0) {
        SIM_MARK(bs->host->sim, qcow2_close_failed);
    }
    qcow2_forget_image(bs);
    co_mutex_unlock(&s->lock);
}

static int qcow2_flush_to_os(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    if (!qcow2_usable(bs)) {
        return -ENOMEDIUM;
    }
    if (bdrv_is_inactive(bs)) {
        return 0;
    }
    co_mutex_lock(&s->lock);
    int ret = qcow2_flush_caches(bs);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* --- what it says of itself -------------------------------------------------------------------------------------
 */

static int qcow2_probe(const uint8_t *head, size_t bytes)
{
    static const uint8_t magic[4] = {'Q', 'F', 'I', 0xfb};

    return bytes >= 8 && memcmp(head, magic, sizeof(magic)) == 0 && head[7] >= 2 ? 100 : 0;
}

static void qcow2_refresh_limits(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;

    bs->bl.pwrite_zeroes_alignment = (uint32_t)s->subcluster_size;
    bs->bl.pdiscard_alignment = (uint32_t)s->cluster_size;
    bs->supported_write_flags = BDRV_REQ_WRITE_COMPRESSED;
    bs->supported_zero_flags = s->qcow_version >= 3 ? BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK : 0;
    bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE;
}

/* Who changes the length has what becomes visible by it zeroed, in an external data file, too. */
static void qcow2_child_perm(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm, uint64_t shared,
                             uint64_t *nperm, uint64_t *nshared)
{
    bool external = (role & BDRV_CHILD_DATA) && !(role & BDRV_CHILD_METADATA);

    bdrv_default_perms(bs, child, role, perm, shared, nperm, nshared);
    if (external && (perm & BLK_PERM_RESIZE) && bdrv_is_writable(bs)) {
        *nperm |= BLK_PERM_WRITE;
    }
}

/* Preallocated clusters are what the file has there. */
static bool qcow2_has_zero_init(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;

    if (!qcow2_usable(bs)) {
        return false;
    }
    bool preallocated = s->l1_size > 0 && s->l1_table[0] != 0;
    return !preallocated || bdrv_has_zero_init(s->data_file->bs);
}

static int qcow2_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    const BDRVQcow2State *s = bs->opaque;

    if (!qcow2_usable(bs)) {
        return -ENOMEDIUM;
    }
    info->cluster_size = s->cluster_size;
    info->subcluster_size = s->subcluster_size;
    info->is_dirty = (s->incompatible_features & QCOW2_INCOMPAT_DIRTY) != 0;
    return 0;
}

static int qcow2_co_change_backing_file(BlockDriverState *bs, const char *filename, const char *format)
{
    BDRVQcow2State *s = bs->opaque;

    if (!qcow2_usable(bs)) {
        return -ENOMEDIUM;
    }
    if (filename && s->data_file_is_raw && has_data_file(bs)) {
        return -EINVAL; /* the data file alone would no longer be the disk */
    }
    if ((filename && strlen(filename) > QCOW2_MAX_BACKING_NAME) ||
        (format && strlen(format) > QCOW2_MAX_BACKING_FORMAT)) {
        return -EINVAL;
    }
    co_mutex_lock(&s->lock);
    int ret = qcow2_write_header(bs, filename, format);
    if (ret == 0) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

/* --- table ------------------------------------------------------------------------------------------------------
 */

extern const BlockDriver bdrv_qcow2;
const BlockDriver bdrv_qcow2 = {
    .format_name = "qcow2",
    .doc = "image with clusters made as they are written, backing files, snapshots and stored bitmaps",
    .instance_size = sizeof(BDRVQcow2State),
    .options = qcow2_driver_options,
    .mutable_opts = qcow2_mutable_options,
    .create_options = qcow2_create_options,
    .supports_backing = true,
    .bdrv_probe = qcow2_probe,
    .bdrv_open = qcow2_open,
    .bdrv_opened = qcow2_opened,
    .bdrv_close = qcow2_close,
    .bdrv_co_create = qcow2_co_create,
    .bdrv_reopen_prepare = qcow2_reopen_prepare,
    .bdrv_reopen_switch = qcow2_reopen_switch,
    .bdrv_reopen_commit = qcow2_reopen_commit,
    .bdrv_reopen_abort = qcow2_reopen_abort,
    .bdrv_reopen_commit_post = qcow2_reopen_commit_post,
    .bdrv_co_preadv = qcow2_co_preadv,
    .bdrv_co_pwritev = qcow2_co_pwritev,
    .bdrv_co_pwrite_zeroes = qcow2_co_pwrite_zeroes,
    .bdrv_co_pdiscard = qcow2_co_pdiscard,
    .bdrv_co_copy_range_from = qcow2_co_copy_range_from,
    .bdrv_co_copy_range_to = qcow2_co_copy_range_to,
    .bdrv_co_flush_to_os = qcow2_flush_to_os,
    .bdrv_co_truncate = qcow2_co_truncate,
    .bdrv_co_get_info = qcow2_get_info,
    .bdrv_co_block_status = qcow2_co_block_status,
    .bdrv_refresh_limits = qcow2_refresh_limits,
    .bdrv_child_perm = qcow2_child_perm,
    .bdrv_has_zero_init = qcow2_has_zero_init,
    .bdrv_co_change_backing_file = qcow2_co_change_backing_file,
    .bdrv_supports_persistent_dirty_bitmap = qcow2_supports_persistent_dirty_bitmap,
    .bdrv_co_can_store_new_dirty_bitmap = qcow2_co_can_store_new_dirty_bitmap,
    .bdrv_co_remove_persistent_dirty_bitmap = qcow2_co_remove_persistent_dirty_bitmap,
    .bdrv_co_store_dirty_bitmaps = qcow2_co_store_dirty_bitmaps,
    .bdrv_co_reopen_bitmaps_rw = qcow2_co_reopen_bitmaps_rw,
    .bdrv_co_check = qcow2_co_check,
    .bdrv_co_snapshot_create = qcow2_co_snapshot_create,
    .bdrv_co_snapshot_goto = qcow2_co_snapshot_goto,
    .bdrv_co_snapshot_delete = qcow2_co_snapshot_delete,
    .bdrv_co_snapshot_load_tmp = qcow2_co_snapshot_load_tmp,
    .bdrv_snapshot_list = qcow2_snapshot_list,
    .bdrv_co_get_specific_info = qcow2_co_get_specific_info,
    .bdrv_co_inactivate = qcow2_co_inactivate,
    .bdrv_co_invalidate_cache = qcow2_co_invalidate_cache,
    .bdrv_peek = qcow2_peek,
    .bdrv_peek_status = qcow2_peek_status,
};
