/* qcow2: what the block layer asks of an image that keeps bitmaps (reference/bitmaps-qcow2.md 3, 4.6). */
#include "block/qcow2_bitmap.h"

#include <errno.h>
#include <inttypes.h>

/* --- header extension ------------------------------------------------------------------------------------- */

/* Directory and offset as a pair that makes sense; the size 0 is told when the directory is read. */
static bool directory_valid(const BDRVQcow2State *s, uint64_t size, uint64_t offset, Error **errp)
{
    if ((offset & (uint64_t)(s->cluster_size - 1)) != 0 || offset > INT64_MAX - QCOW2_MAX_BITMAP_DIRECTORY_BYTES) {
        error_setg(errp, "bitmaps_ext: invalid bitmap directory offset");
        return false;
    }
    if (size > (uint64_t)QCOW2_MAX_BITMAP_DIRECTORY_BYTES) {
        error_setg(errp,
                   "bitmaps_ext: bitmap directory size (%" PRIu64 ") exceeds the maximum supported size (%" PRIu64
                   ")",
                   size, (uint64_t)QCOW2_MAX_BITMAP_DIRECTORY_BYTES);
        return false;
    }
    return true;
}

static bool extension_valid(const BDRVQcow2State *s, const uint8_t *data, Error **errp)
{
    uint32_t nb = qcow2_get_be32(data);
    if (qcow2_get_be32(data + 4) != 0) {
        error_setg(errp, "bitmaps_ext: Reserved field is not zero");
        return false;
    }
    if (nb > QCOW2_MAX_BITMAPS) {
        error_setg(errp, "bitmaps_ext: Image has %" PRIu32 " bitmaps, exceeding the QEMU supported maximum of %d",
                   nb, QCOW2_MAX_BITMAPS);
        return false;
    }
    if (nb == 0) {
        error_setg(errp, "found bitmaps extension with zero bitmaps");
        return false;
    }
    return directory_valid(s, qcow2_get_be64(data + 8), qcow2_get_be64(data + 16), errp);
}

int qcow2_read_bitmaps_extension(BlockDriverState *bs, const uint8_t *data, uint32_t bytes, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    SIM_ASSERT(s->cluster_size > 0);
    if (bytes != 24) {
        error_setg(errp, "bitmaps_ext: Invalid extension length");
        return -EINVAL;
    }
    if (!(s->autoclear_features & QCOW2_AUTOCLEAR_BITMAPS)) {
        s->bitmaps_stale = true;
        return 0;
    }
    if (!extension_valid(s, data, errp)) {
        return -EINVAL;
    }
    s->nb_bitmaps = qcow2_get_be32(data);
    s->bitmap_directory_size = qcow2_get_be64(data + 8);
    s->bitmap_directory_offset = qcow2_get_be64(data + 16);
    return 0;
}

/* --- adding ----------------------------------------------------------------------------------------------- */

bool qcow2_supports_persistent_dirty_bitmap(const BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;
    return s->qcow_version >= 3;
}

/* What the image would hold at the next store: all that are persistent in memory, and what only the disk has. */
static int count_all(BlockDriverState *bs, uint64_t *nb, uint64_t *bytes, Error **errp)
{
    struct qcow2_bitmaps dir;
    const BdrvDirtyBitmap *bitmap = NULL;
    int ret = qcow2_bitmaps_read(bs, &dir, 0, errp);
    if (ret < 0) {
        return ret;
    }
    *nb = dir.nb;
    *bytes = qcow2_bitmaps_bytes(&dir);
    while ((bitmap = bdrv_dirty_bitmap_next(bs, bitmap)) != NULL) {
        const char *name = bdrv_dirty_bitmap_name(bitmap);
        if (name != NULL && bdrv_dirty_bitmap_persistent(bitmap) && qcow2_bitmaps_find(&dir, name) == NULL) {
            *nb += 1;
            *bytes += qcow2_bitmap_entry_bytes(strlen(name));
        }
    }
    qcow2_bitmaps_free(bs, &dir);
    return 0;
}

static bool can_store_locked(BlockDriverState *bs, const char *name, Error **errp)
{
    uint64_t nb;
    uint64_t bytes;
    if (count_all(bs, &nb, &bytes, errp) < 0) {
        return false;
    }
    if (nb >= QCOW2_MAX_BITMAPS) {
        error_setg(errp, "Maximum number of persistent bitmaps is already reached");
        return false;
    }
    if (bytes + qcow2_bitmap_entry_bytes(strlen(name)) > (uint64_t)QCOW2_MAX_BITMAP_DIRECTORY_BYTES) {
        error_setg(errp, "Not enough space in the bitmap directory");
        return false;
    }
    return true;
}

bool qcow2_co_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name, uint32_t granularity, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    if (!qcow2_usable(bs)) {
        error_setg_errno(errp, ENOMEDIUM, "The image is unusable");
        return false;
    }
    if (s->qcow_version < 3) {
        error_setg(errp, "Cannot store dirty bitmaps in qcow2 v2 files");
        return false;
    }
    if (!qcow2_bitmap_constraints(bs, strlen(name), granularity, errp)) {
        return false;
    }
    co_mutex_lock(&s->lock);
    bool can = can_store_locked(bs, name, errp);
    co_mutex_unlock(&s->lock);
    return can;
}

/* --- removing --------------------------------------------------------------------------------------------- */

static int remove_entry(BlockDriverState *bs, struct qcow2_bitmaps *dir, struct qcow2_bitmap *entry, Error **errp)
{
    const struct qcow2_bitmap gone = *entry;
    bool named;
    if (!bdrv_is_writable(bs)) {
        error_setg(errp, "No write access");
        return -EPERM;
    }
    SIM_ASSERT(entry >= dir->list && entry < dir->list + dir->nb);
    memmove(entry, entry + 1, (size_t)(dir->list + dir->nb - entry - 1) * sizeof(*entry));
    dir->nb--;
    dir->nb_by_name = 0; /* points to what has moved */
    int ret = qcow2_bitmaps_replace(bs, dir, &named, errp);
    if (ret < 0) {
        return ret;
    }
    qcow2_bitmap_free_table(bs, dir, gone.table_offset, gone.table_size);
    (void)qcow2_bitmaps_make_stable(bs); /* else there are leaks */
    return 0;
}

static int remove_locked(BlockDriverState *bs, const char *name, Error **errp)
{
    struct qcow2_bitmaps dir;
    int ret = qcow2_bitmaps_read(bs, &dir, 0, errp);
    if (ret < 0) {
        return ret;
    }
    struct qcow2_bitmap *entry = qcow2_bitmaps_find(&dir, name);
    ret = entry != NULL ? remove_entry(bs, &dir, entry, errp) : 0;
    qcow2_bitmaps_free(bs, &dir);
    return ret;
}

int qcow2_co_remove_persistent_dirty_bitmap(BlockDriverState *bs, const char *name, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = 0;
    if (!qcow2_usable(bs)) {
        error_setg_errno(errp, ENOMEDIUM, "The image is unusable");
        return -ENOMEDIUM;
    }
    co_mutex_lock(&s->lock);
    /* One that was never stored is not there, which is no error. */
    if (s->nb_bitmaps > 0) {
        ret = remove_locked(bs, name, errp);
    }
    co_mutex_unlock(&s->lock);
    if (ret < 0) {
        error_prepend(errp, "Failed to remove bitmap '%s' from file '%s': ", name, bdrv_get_node_name(bs));
    }
    return ret;
}

/* --- reopening and resizing ------------------------------------------------------------------------------- */

/* Also those that are not in memory: what is written from now on is missing in all of them. */
static int reopen_locked(BlockDriverState *bs, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    struct qcow2_bitmaps dir;
    bool changed = s->bitmaps_unsure;
    int ret = qcow2_bitmaps_read(bs, &dir, 0, errp);
    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = 0; i < dir.nb; i++) {
        changed |= !(dir.list[i].flags & QCOW2_BME_IN_USE);
        dir.list[i].flags |= QCOW2_BME_IN_USE;
    }
    ret = changed ? qcow2_bitmaps_write_in_place(bs, &dir) : 0;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Can't update bitmap directory");
    }
    qcow2_bitmaps_free(bs, &dir);
    return ret;
}

int qcow2_co_reopen_bitmaps_rw(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    if (!bdrv_is_writable(bs) || !qcow2_usable(bs)) {
        error_setg(errp, "Can't write to image on reopening bitmaps rw");
        return -EINVAL;
    }
    co_mutex_lock(&s->lock);
    int ret = s->nb_bitmaps > 0 || s->bitmaps_unsure ? reopen_locked(bs, errp) : 0;
    co_mutex_unlock(&s->lock);
    return ret;
}

int qcow2_truncate_bitmaps_check(BlockDriverState *bs, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    struct qcow2_bitmaps dir;
    BdrvDirtyBitmap *bitmap = NULL;
    uint32_t found = 0;
    int ret = 0;
    if (s->nb_bitmaps == 0) {
        return 0;
    }
    if (qcow2_bitmaps_read(bs, &dir, 0, errp) < 0) {
        return -EINVAL;
    }
    while (ret == 0 && (bitmap = bdrv_dirty_bitmap_next(bs, bitmap)) != NULL) {
        const char *name = bdrv_dirty_bitmap_name(bitmap);
        if (name != NULL && qcow2_bitmaps_find(&dir, name) != NULL) {
            found++;
            ret = bdrv_dirty_bitmap_check(bitmap, BDRV_BITMAP_DEFAULT, errp) < 0 ? -ENOTSUP : 0;
        }
    }
    if (ret == 0 && found < dir.nb) {
        error_setg(errp, "Cannot resize qcow2 with persistent bitmaps that were not loaded into memory");
        ret = -ENOTSUP;
    }
    qcow2_bitmaps_free(bs, &dir);
    return ret;
}

/* --- what is stored ----------------------------------------------------------------------------------------- */

static struct qvalue *entry_info(const struct qcow2_bitmap *entry)
{
    struct qvalue *info = qvalue_dict();
    struct qvalue *flags = qvalue_list();

    if (entry->flags & QCOW2_BME_IN_USE) {
        qlist_append(flags, qvalue_str("in-use"));
    }
    if (entry->flags & QCOW2_BME_AUTO) {
        qlist_append(flags, qvalue_str("auto"));
    }
    qdict_put(info, "flags", flags);
    qdict_put(info, "name", qvalue_strn(entry->name, entry->name_bytes));
    qdict_put(info, "granularity", qvalue_int((int64_t)1 << entry->granularity_bits));
    return info;
}

struct qvalue *qcow2_bitmap_info_list(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;
    struct qcow2_bitmaps dir;

    if (s->nb_bitmaps == 0 || qcow2_bitmaps_read(bs, &dir, 0, NULL) < 0) {
        return NULL;
    }
    struct qvalue *list = qvalue_list();
    for (uint32_t i = 0; i < dir.nb; i++) {
        qlist_append(list, entry_info(&dir.list[i]));
    }
    qcow2_bitmaps_free(bs, &dir);
    return list;
}
