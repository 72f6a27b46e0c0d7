/* qcow2: the directory of the stored bitmaps, and how it is replaced (reference/bitmaps-qcow2.md 4.1, 4.3, 4.4). */
#include "block/qcow2_bitmap.h"

#include <errno.h>
#include <stdlib.h>

#define ENTRY_BYTES 24
#define TYPE_DIRTY_TRACKING 1
#define KNOWN_FLAGS (QCOW2_BME_IN_USE | QCOW2_BME_AUTO)
/* So many zeros are kept behind what the file holds: room for any entry that begins inside it. */
#define ZEROS_BEHIND (ENTRY_BYTES + 2 * 65536)

uint64_t qcow2_bitmap_entry_bytes(uint64_t name_bytes)
{
    return ROUND_UP(ENTRY_BYTES + name_bytes, 8);
}

uint64_t qcow2_bitmaps_bytes(const struct qcow2_bitmaps *dir)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < dir->nb; i++) {
        bytes += qcow2_bitmap_entry_bytes(dir->list[i].name_bytes);
    }
    return bytes;
}

void qcow2_bitmaps_free(BlockDriverState *bs, struct qcow2_bitmaps *dir)
{
    qcow2_free(bs, dir->list, dir->room * sizeof(*dir->list));
    qcow2_free(bs, dir->by_name, dir->room * sizeof(struct qcow2_bitmap *));
    qcow2_free(bs, dir->raw, dir->raw_bytes);
    *dir = (struct qcow2_bitmaps){.file_bytes = dir->file_bytes};
}

/* --- names ------------------------------------------------------------------------------------------------ */

static int compare_names(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    int order = memcmp(a, b, MIN(a_bytes, b_bytes));
    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

/* A total order: of two with the same name the one that comes first in the directory. */
static int compare_entries(const void *left, const void *right)
{
    const struct qcow2_bitmap *a = *(const struct qcow2_bitmap *const *)left;
    const struct qcow2_bitmap *b = *(const struct qcow2_bitmap *const *)right;
    int order = compare_names(a->name, a->name_bytes, b->name, b->name_bytes);
    return order != 0 ? order : (a > b) - (a < b);
}

static int sort_names(struct qcow2_bitmaps *dir, Error **errp)
{
    for (uint32_t i = 0; i < dir->nb; i++) {
        dir->by_name[i] = &dir->list[i];
    }
    dir->nb_by_name = dir->nb;
    if (dir->nb > 1) {
        qsort(dir->by_name, dir->nb, sizeof(struct qcow2_bitmap *), compare_entries);
    }
    for (uint32_t i = 1; i < dir->nb; i++) {
        const struct qcow2_bitmap *a = dir->by_name[i - 1];
        const struct qcow2_bitmap *b = dir->by_name[i];
        if (compare_names(a->name, a->name_bytes, b->name, b->name_bytes) == 0) {
            error_setg(errp, "Bitmap already exists: %.*s", (int)a->name_bytes, a->name);
            return -EINVAL;
        }
    }
    return 0;
}

struct qcow2_bitmap *qcow2_bitmaps_find(const struct qcow2_bitmaps *dir, const char *name)
{
    size_t bytes = strlen(name);
    uint32_t low = 0;
    uint32_t high = dir->nb_by_name;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct qcow2_bitmap *entry = dir->by_name[middle];
        int order = compare_names(name, bytes, entry->name, entry->name_bytes);
        if (order == 0) {
            return entry;
        }
        low = order > 0 ? middle + 1 : low;
        high = order < 0 ? middle : high;
    }
    return NULL;
}

/* --- reading ---------------------------------------------------------------------------------------------- */

/* An in_use entry may be as long as it likes, a consistent one must be able to hold the disk's bits. */
static bool entry_fits(const BlockDriverState *bs, const struct qcow2_bitmap *entry)
{
    const BDRVQcow2State *s = bs->opaque;
    if ((uint64_t)entry->table_size * (uint64_t)s->cluster_size > (uint64_t)QCOW2_BME_MAX_PHYS_BYTES) {
        return false;
    }
    return (entry->flags & QCOW2_BME_IN_USE) ||
           entry->table_size >= qcow2_bitmap_clusters(s, bs->total_bytes, entry->granularity_bits);
}

/* The format wants names without zero bytes; nobody could look for one that has them. */
static bool entry_valid(const BlockDriverState *bs, const struct qcow2_bitmap *entry, uint8_t type)
{
    const BDRVQcow2State *s = bs->opaque;
    return entry->table_size >= 1 && entry->table_size <= QCOW2_BME_MAX_TABLE_SIZE && entry->table_offset != 0 &&
           entry->table_offset <= INT64_MAX - QCOW2_BME_MAX_PHYS_BYTES &&
           offset_into_cluster(s, (int64_t)entry->table_offset) == 0 && (entry->flags & ~KNOWN_FLAGS) == 0 &&
           type == TYPE_DIRTY_TRACKING && entry->granularity_bits >= QCOW2_BME_MIN_GRANULARITY_BITS &&
           entry->granularity_bits <= QCOW2_BME_MAX_GRANULARITY_BITS &&
           entry->name_bytes <= QCOW2_BME_MAX_NAME_BYTES && memchr(entry->name, 0, entry->name_bytes) == NULL &&
           entry_fits(bs, entry);
}

/* The entry at `at`, of which `left` bytes are directory. Its length, or -EINVAL. */
static int64_t parse_entry(const BlockDriverState *bs, const uint8_t *at, uint64_t left, struct qcow2_bitmap *entry,
                           Error **errp)
{
    uint32_t extra = qcow2_get_be32(at + 20);
    *entry = (struct qcow2_bitmap){
        .table_offset = qcow2_get_be64(at),
        .table_size = qcow2_get_be32(at + 8),
        .flags = qcow2_get_be32(at + 12),
        .granularity_bits = at[17],
        .name_bytes = qcow2_get_be16(at + 18),
        .name = (const char *)at + ENTRY_BYTES,
    };
    uint64_t bytes = qcow2_bitmap_entry_bytes((uint64_t)extra + entry->name_bytes);
    if (bytes > left) {
        error_setg(errp, "Broken bitmap directory");
        return -EINVAL;
    }
    if (extra != 0) {
        error_setg(errp, "Bitmap extra data is not supported");
        return -EINVAL;
    }
    if (!entry_valid(bs, entry, at[16])) {
        error_setg(errp, "Bitmap '%.*s' doesn't satisfy the constraints",
                   MIN((int)entry->name_bytes, QCOW2_BME_MAX_NAME_BYTES), entry->name);
        return -EINVAL;
    }
    return (int64_t)bytes;
}

/* An entry behind the end of the file is all zeros, which is no valid one: parsing ends inside the memory. */
static int parse_directory(const BlockDriverState *bs, struct qcow2_bitmaps *dir, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t size = s->bitmap_directory_size;
    uint64_t at = 0;
    while (at < size) {
        if (size - at < ENTRY_BYTES) {
            error_setg(errp, "Broken bitmap directory");
            return -EINVAL;
        }
        if (dir->nb == s->nb_bitmaps) {
            error_setg(errp, "More bitmaps found than specified in header extension");
            return -EINVAL;
        }
        SIM_ASSERT_LE(at + ENTRY_BYTES, dir->raw_bytes);
        SIM_ASSERT_LT(dir->nb, dir->room);
        int64_t bytes = parse_entry(bs, dir->raw + at, size - at, &dir->list[dir->nb], errp);
        if (bytes < 0) {
            return (int)bytes;
        }
        dir->nb++;
        at += (uint64_t)bytes;
    }
    if (dir->nb < s->nb_bitmaps) {
        error_setg(errp, "Less bitmaps found than specified in header extension");
        return -EINVAL;
    }
    return sort_names(dir, errp);
}

static int read_directory(BlockDriverState *bs, struct qcow2_bitmaps *dir, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t in_file =
        qcow2_bitmap_bytes_in_file(dir, s->bitmap_directory_offset, (int64_t)s->bitmap_directory_size);
    int ret = qcow2_pread(bs, (int64_t)s->bitmap_directory_offset, in_file, dir->raw);
    dir->read_bytes += in_file;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to read bitmap directory");
        return ret;
    }
    return parse_directory(bs, dir, errp);
}

int qcow2_bitmaps_read(BlockDriverState *bs, struct qcow2_bitmaps *dir, uint32_t more, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    *dir = (struct qcow2_bitmaps){0};
    dir->file_bytes = bdrv_co_getlength(bs->file->bs);
    if (dir->file_bytes < 0) {
        error_setg_errno(errp, (int)-dir->file_bytes, "Failed to read bitmap directory");
        return (int)dir->file_bytes;
    }
    if (s->nb_bitmaps > 0 && s->bitmap_directory_size == 0) {
        error_setg(errp, "Requested bitmap directory size is zero");
        return -EINVAL;
    }
    if (s->nb_bitmaps > 0) {
        int64_t in_file =
            qcow2_bitmap_bytes_in_file(dir, s->bitmap_directory_offset, (int64_t)s->bitmap_directory_size);
        dir->raw_bytes = MIN(s->bitmap_directory_size, (uint64_t)in_file) + ZEROS_BEHIND;
        dir->raw = qcow2_alloc(bs, dir->raw_bytes);
    }
    /* No more entries than the memory just taken can hold. */
    dir->room = (uint32_t)MIN(s->nb_bitmaps, dir->raw_bytes / ENTRY_BYTES) + more;
    dir->list = qcow2_alloc(bs, dir->room * sizeof(*dir->list));
    dir->by_name = qcow2_alloc(bs, dir->room * sizeof(struct qcow2_bitmap *));
    int ret = s->nb_bitmaps > 0 ? read_directory(bs, dir, errp) : 0;
    if (ret < 0) {
        qcow2_bitmaps_free(bs, dir);
    }
    return ret;
}

/* --- writing ---------------------------------------------------------------------------------------------- */

/* The directory as bytes; the caller frees them. */
static uint8_t *format_directory(BlockDriverState *bs, const struct qcow2_bitmaps *dir, uint64_t bytes)
{
    uint8_t *raw = qcow2_alloc(bs, bytes);
    uint8_t *at = raw;
    for (uint32_t i = 0; i < dir->nb; i++) {
        const struct qcow2_bitmap *entry = &dir->list[i];
        qcow2_put_be64(at, entry->table_offset);
        qcow2_put_be32(at + 8, entry->table_size);
        qcow2_put_be32(at + 12, entry->flags);
        at[16] = TYPE_DIRTY_TRACKING;
        at[17] = entry->granularity_bits;
        qcow2_put_be16(at + 18, entry->name_bytes);
        memcpy(at + ENTRY_BYTES, entry->name, entry->name_bytes);
        at += qcow2_bitmap_entry_bytes(entry->name_bytes);
    }
    SIM_ASSERT_EQ(at - raw, bytes);
    return raw;
}

/* Unknown autoclear bits go with the first header that is written. */
static int write_header_sync(BlockDriverState *bs, bool bitmaps_valid)
{
    BDRVQcow2State *s = bs->opaque;
    s->autoclear_features &= QCOW2_AUTOCLEAR_MASK & ~(uint64_t)QCOW2_AUTOCLEAR_BITMAPS;
    s->autoclear_features |= bitmaps_valid ? QCOW2_AUTOCLEAR_BITMAPS : 0;
    int ret = qcow2_update_header(bs);
    return ret < 0 ? ret : bdrv_co_flush(bs->file->bs);
}

static int overwrite(BlockDriverState *bs, const uint8_t *raw, uint64_t bytes)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t offset = (int64_t)s->bitmap_directory_offset;
    int ret = write_header_sync(bs, false);
    if (ret == 0) {
        ret = qcow2_pwrite(bs, offset, (int64_t)bytes, raw);
    }
    if (ret == 0) {
        ret = write_header_sync(bs, false);
    }
    return ret;
}

int qcow2_bitmaps_write_in_place(BlockDriverState *bs, const struct qcow2_bitmaps *dir)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t bytes = qcow2_bitmaps_bytes(dir);
    SIM_ASSERT_EQ(bytes, s->bitmap_directory_size);
    SIM_ASSERT_EQ(dir->nb, s->nb_bitmaps);
    /* first of all: an open that is refused for it has written nothing */
    int ret = qcow2_pre_write_overlap_check(bs, QCOW2_OL_BITMAP_DIRECTORY, (int64_t)s->bitmap_directory_offset,
                                            (int64_t)bytes, false);
    if (ret < 0) {
        return ret;
    }
    uint8_t *raw = format_directory(bs, dir, bytes);
    ret = overwrite(bs, raw, bytes);
    qcow2_free(bs, raw, bytes);
    /* Also after a failure: every sector of the directory is an old or a new one, and as nobody writes to the disk
     * before this succeeds, its consistent entries are still true. */
    int end = write_header_sync(bs, true);
    ret = ret < 0 ? ret : end;
    s->bitmaps_unsure = ret < 0;
    return ret;
}

/* Announces another directory; as it was if that fails. *named: see qcow2_bitmaps_replace. */
static int switch_header(BlockDriverState *bs, uint32_t nb, uint64_t offset, uint64_t bytes, bool *named)
{
    BDRVQcow2State *s = bs->opaque;
    uint32_t old_nb = s->nb_bitmaps;
    uint64_t old_offset = s->bitmap_directory_offset;
    uint64_t old_bytes = s->bitmap_directory_size;
    bool old_valid = (s->autoclear_features & QCOW2_AUTOCLEAR_BITMAPS) != 0;

    s->nb_bitmaps = nb;
    s->bitmap_directory_offset = offset;
    s->bitmap_directory_size = bytes;
    int ret = write_header_sync(bs, nb > 0);
    if (ret == 0) {
        s->bitmaps_unsure = false;
        return 0;
    }
    s->nb_bitmaps = old_nb;
    s->bitmap_directory_offset = old_offset;
    s->bitmap_directory_size = old_bytes;
    *named = write_header_sync(bs, old_valid) < 0;
    s->bitmaps_unsure |= *named;
    return ret;
}

int64_t qcow2_bitmap_write_new(BlockDriverState *bs, const void *data, int64_t bytes)
{
    int64_t offset = qcow2_alloc_clusters(bs, bytes);
    if (offset < 0) {
        return offset;
    }
    int ret = qcow2_pre_write_overlap_check(bs, QCOW2_OL_NONE, offset, bytes, false);
    if (ret == 0) {
        ret = qcow2_pwrite(bs, offset, bytes, data);
    }
    if (ret < 0) {
        qcow2_free_new_clusters(bs, offset, bytes);
        return ret;
    }
    return offset;
}

/* A new directory on disk, not announced yet: its offset, or -errno. */
static int64_t write_directory(BlockDriverState *bs, const struct qcow2_bitmaps *dir, uint64_t bytes)
{
    uint8_t *raw = format_directory(bs, dir, bytes);
    int64_t offset = qcow2_bitmap_write_new(bs, raw, (int64_t)bytes);
    qcow2_free(bs, raw, bytes);
    return offset;
}

/* Lazy counts stay behind when caches are flushed. Without the dirty bit nobody would look for the missing ones. */
int qcow2_bitmaps_make_stable(BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;
    int ret = qcow2_flush_caches(bs);
    if (ret == 0 && s->use_lazy_refcounts && !(s->incompatible_features & QCOW2_INCOMPAT_DIRTY)) {
        ret = qcow2_cache_flush(bs, s->refcount_block_cache);
    }
    return ret;
}

int qcow2_bitmaps_replace(BlockDriverState *bs, const struct qcow2_bitmaps *dir, bool *named, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t old_offset = (int64_t)s->bitmap_directory_offset;
    int64_t old_bytes = s->nb_bitmaps > 0 ? (int64_t)s->bitmap_directory_size : 0;
    uint64_t bytes = qcow2_bitmaps_bytes(dir);
    int64_t offset = dir->nb > 0 ? write_directory(bs, dir, bytes) : 0;

    *named = false;
    if (offset < 0) {
        error_setg_errno(errp, (int)-offset, "Failed to write the bitmap directory");
        return (int)offset;
    }
    int ret = dir->nb > 0 ? qcow2_bitmaps_make_stable(bs) : 0;
    if (ret == 0) {
        ret = switch_header(bs, dir->nb, (uint64_t)offset, bytes, named);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to announce the bitmap directory");
        if (dir->nb > 0 && !*named) {
            qcow2_free_new_clusters(bs, offset, (int64_t)bytes);
        }
        return ret;
    }
    if (old_bytes > 0) {
        qcow2_free_clusters(bs, old_offset, old_bytes, QCOW2_DISCARD_OTHER);
    }
    return 0;
}
