/* qcow2: bitmaps from the image into memory (reference/bitmaps-qcow2.md 4.2). */
#include "block/qcow2_bitmap.h"

#include <errno.h>

/* Bits 1 to 8 and 56 to 63. */
#define TABLE_ENTRY_RESERVED 0xff000000000001feULL
#define TABLE_ENTRY_ALL_ONES 1ULL

/* --- arithmetic ------------------------------------------------------------------------------------------- */

int64_t qcow2_bitmap_bytes_in_file(const struct qcow2_bitmaps *dir, uint64_t offset, int64_t bytes)
{
    SIM_ASSERT(bytes >= 0 && dir->file_bytes >= 0);
    if (offset >= (uint64_t)dir->file_bytes) {
        return 0;
    }
    return MIN(bytes, dir->file_bytes - (int64_t)offset);
}

int64_t qcow2_bitmap_bytes_per_cluster(const BDRVQcow2State *s, unsigned granularity_bits)
{
    SIM_ASSERT_LE(granularity_bits, QCOW2_BME_MAX_GRANULARITY_BITS);
    return (s->cluster_size * 8) << granularity_bits;
}

uint64_t qcow2_bitmap_clusters(const BDRVQcow2State *s, int64_t disk_bytes, unsigned granularity_bits)
{
    int64_t step = qcow2_bitmap_bytes_per_cluster(s, granularity_bits);
    return (uint64_t)(disk_bytes / step) + (disk_bytes % step != 0);
}

/* --- tables ----------------------------------------------------------------------------------------------- */

static bool entry_well_formed(const BDRVQcow2State *s, uint64_t entry)
{
    uint64_t offset = qcow2_bitmap_entry_offset(entry);
    if ((entry & TABLE_ENTRY_RESERVED) != 0 || offset_into_cluster(s, (int64_t)offset) != 0) {
        return false;
    }
    return offset == 0 || (entry & TABLE_ENTRY_ALL_ONES) == 0;
}

/* Whether so much of the file may still be read: structures that share nothing are not longer than the file. */
static bool within_file(struct qcow2_bitmaps *dir, int64_t bytes)
{
    dir->read_bytes += bytes;
    return dir->read_bytes <= dir->file_bytes;
}

int qcow2_bitmap_read_table(BlockDriverState *bs, struct qcow2_bitmaps *dir, uint64_t offset, uint32_t size,
                            uint64_t **table, uint32_t *nb)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t in_file = qcow2_bitmap_bytes_in_file(dir, offset, (int64_t)size * 8);

    *nb = (uint32_t)DIV_ROUND_UP(in_file, 8);
    *table = NULL;
    if (!within_file(dir, in_file)) {
        SIM_MARK(bs->host->sim, qcow2_bitmaps_overlap);
        return -EINVAL;
    }
    if (*nb == 0) {
        return 0;
    }
    *table = qcow2_alloc(bs, *nb * sizeof(uint64_t));
    int ret = qcow2_pread(bs, (int64_t)offset, (int64_t)*nb * 8, *table);
    for (uint32_t i = 0; ret == 0 && i < *nb; i++) {
        (*table)[i] = be64toh((*table)[i]);
        ret = entry_well_formed(s, (*table)[i]) ? 0 : -EINVAL;
    }
    if (ret < 0) {
        qcow2_free(bs, *table, *nb * sizeof(uint64_t));
        *table = NULL;
    }
    return ret;
}

/* --- bits ------------------------------------------------------------------------------------------------- */

/* The bits of one cluster, for [start, +bytes) of the disk. */
static int load_cluster(BlockDriverState *bs, struct qcow2_bitmaps *dir, BdrvDirtyBitmap *bitmap, uint64_t entry,
                        int64_t start, int64_t bytes, uint8_t *buf)
{
    uint64_t offset = qcow2_bitmap_entry_offset(entry);
    if (offset == 0) {
        if (entry & TABLE_ENTRY_ALL_ONES) {
            bdrv_dirty_bitmap_deserialize_ones(bitmap, start, bytes, false);
        }
        return 0;
    }
    int64_t need = bdrv_dirty_bitmap_serialization_size(bitmap, start, bytes);
    int64_t in_file = qcow2_bitmap_bytes_in_file(dir, offset, need);
    if (in_file == 0) {
        return 0;
    }
    if (!within_file(dir, in_file)) {
        SIM_MARK(bs->host->sim, qcow2_bitmaps_overlap);
        return -EINVAL;
    }
    int ret = qcow2_pread(bs, (int64_t)offset, need, buf);
    if (ret == 0) {
        bdrv_dirty_bitmap_deserialize_part(bitmap, buf, start, bytes, false);
    }
    return ret;
}

/* The bitmap is new, so what has no cluster is right already. */
static int load_bits(BlockDriverState *bs, struct qcow2_bitmaps *dir, const struct qcow2_bitmap *entry,
                     const uint64_t *table, uint32_t nb, BdrvDirtyBitmap *bitmap)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t size = bdrv_dirty_bitmap_size(bitmap);
    int64_t step = qcow2_bitmap_bytes_per_cluster(s, entry->granularity_bits);
    if (entry->table_size != qcow2_bitmap_clusters(s, size, entry->granularity_bits)) {
        return -EINVAL;
    }
    uint8_t *buf = qcow2_alloc(bs, (size_t)s->cluster_size);
    int ret = 0;
    bdrv_dirty_bitmap_deserialize_zeroes(bitmap, 0, size, false);
    for (uint32_t i = 0; ret == 0 && i < nb; i++) {
        int64_t start = (int64_t)i * step;
        ret = load_cluster(bs, dir, bitmap, table[i], start, MIN(step, size - start), buf);
    }
    bdrv_dirty_bitmap_deserialize_finish(bitmap);
    qcow2_free(bs, buf, (size_t)s->cluster_size);
    return ret;
}

/* --- bitmaps ---------------------------------------------------------------------------------------------- */

static BdrvDirtyBitmap *make_bitmap(BlockDriverState *bs, const struct qcow2_bitmap *entry)
{
    char name[QCOW2_BME_MAX_NAME_BYTES + 1];
    SIM_ASSERT_LE(entry->name_bytes, QCOW2_BME_MAX_NAME_BYTES);
    memcpy(name, entry->name, entry->name_bytes);
    name[entry->name_bytes] = '\0';
    BdrvDirtyBitmap *bitmap =
        bdrv_load_dirty_bitmap(bs, bs->total_bytes, (uint32_t)1 << entry->granularity_bits, name);
    bdrv_dirty_bitmap_set_persistence(bitmap, true);
    return bitmap;
}

static int load_consistent(BlockDriverState *bs, struct qcow2_bitmaps *dir, struct qcow2_bitmap *entry,
                           Error **errp)
{
    uint64_t *table;
    uint32_t nb;
    int ret = qcow2_bitmap_read_table(bs, dir, entry->table_offset, entry->table_size, &table, &nb);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read bitmap_table table from image for bitmap '%.*s'",
                         (int)entry->name_bytes, entry->name);
        return ret;
    }
    entry->source = make_bitmap(bs, entry);
    ret = load_bits(bs, dir, entry, table, nb, entry->source);
    qcow2_free(bs, table, nb * sizeof(uint64_t));
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read bitmap '%.*s' from image", (int)entry->name_bytes,
                         entry->name);
        return ret;
    }
    if (!(entry->flags & QCOW2_BME_AUTO)) {
        bdrv_disable_dirty_bitmap(entry->source);
    }
    return 0;
}

/* What of the image is in memory already stays as it is there: it came with a migration (8.5). */
static int load_entry(BlockDriverState *bs, struct qcow2_bitmaps *dir, struct qcow2_bitmap *entry, bool in_memory,
                      Error **errp)
{
    if (!(entry->flags & QCOW2_BME_IN_USE)) {
        if (in_memory) {
            error_setg(errp, "Bitmap already exists: %.*s", (int)entry->name_bytes, entry->name);
            return -EINVAL;
        }
        return load_consistent(bs, dir, entry, errp);
    }
    if (!in_memory) {
        entry->source = make_bitmap(bs, entry);
        bdrv_dirty_bitmap_set_inconsistent(entry->source);
        SIM_MARK(bs->host->sim, qcow2_bitmap_inconsistent);
    }
    return 0;
}

/* Which entries have a bitmap in memory; the caller frees dir->nb bytes. */
static bool *names_in_memory(BlockDriverState *bs, const struct qcow2_bitmaps *dir)
{
    bool *in_memory = qcow2_alloc(bs, dir->nb * sizeof(bool));
    const BdrvDirtyBitmap *bitmap = NULL;
    while ((bitmap = bdrv_dirty_bitmap_next(bs, bitmap)) != NULL) {
        const char *name = bdrv_dirty_bitmap_name(bitmap);
        const struct qcow2_bitmap *entry = name != NULL ? qcow2_bitmaps_find(dir, name) : NULL;
        if (entry != NULL) {
            in_memory[entry - dir->list] = true;
        }
    }
    return in_memory;
}

static int load_all(BlockDriverState *bs, struct qcow2_bitmaps *dir, Error **errp)
{
    bool *in_memory = names_in_memory(bs, dir);
    int ret = 0;
    for (uint32_t i = 0; ret == 0 && i < dir->nb; i++) {
        ret = load_entry(bs, dir, &dir->list[i], in_memory[i], errp);
    }
    qcow2_free(bs, in_memory, dir->nb * sizeof(bool));
    return ret;
}

/* Before the first write of anybody the stored copies say that they are out of date. */
static int mark_in_use(BlockDriverState *bs, struct qcow2_bitmaps *dir, bool *header_updated, Error **errp)
{
    bool changed = false;
    for (uint32_t i = 0; i < dir->nb; i++) {
        changed |= !(dir->list[i].flags & QCOW2_BME_IN_USE);
        dir->list[i].flags |= QCOW2_BME_IN_USE;
    }
    if (!changed) {
        return 0;
    }
    int ret = qcow2_bitmaps_write_in_place(bs, dir);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Can't update bitmap directory");
        return ret;
    }
    *header_updated = true;
    return 0;
}

static void settle_loaded(struct qcow2_bitmaps *dir, bool ok, bool readonly)
{
    for (uint32_t i = 0; i < dir->nb; i++) {
        BdrvDirtyBitmap *bitmap = dir->list[i].source;
        if (bitmap != NULL && !ok) {
            bdrv_release_dirty_bitmap(bitmap);
        } else if (bitmap != NULL && readonly) {
            bdrv_dirty_bitmap_set_readonly(bitmap, true);
        }
    }
}

/* A program that knows nothing of bitmaps has written to the image: what they say is wrong (4.2). */
static int drop_stale(BlockDriverState *bs, bool *header_updated, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    SIM_MARK(bs->host->sim, qcow2_bitmaps_stale);
    SIM_EMIT(bs->host->sim, bs->host, bitmap_ignored, bs, SIM_P(bs->name),
             SIM_P(s->qcow_version < 3 ? "a version 2 image cannot have bitmaps: what looks like them is not used"
                                       : "a program lacking bitmap support modified this file, so all bitmaps "
                                         "are now considered inconsistent"));
    if (!bdrv_is_writable(bs)) {
        return 0;
    }
    s->autoclear_features &= QCOW2_AUTOCLEAR_MASK;
    int ret = qcow2_update_header(bs);
    if (ret == 0) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not update qcow2 header");
        return ret;
    }
    s->bitmaps_stale = false;
    *header_updated = true;
    return 0;
}

int qcow2_try_dirty_bitmaps(BlockDriverState *bs, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    struct qcow2_bitmaps dir;

    if (bdrv_is_inactive(bs) || s->bitmaps_stale || s->nb_bitmaps == 0) {
        return 0;
    }
    int ret = qcow2_bitmaps_read(bs, &dir, 0, errp);
    if (ret == 0) {
        ret = load_all(bs, &dir, errp);
        settle_loaded(&dir, false, false);
        qcow2_bitmaps_free(bs, &dir);
    }
    if (ret == 0) { /* they would have to be marked in use */
        ret = qcow2_pre_write_overlap_check(bs, QCOW2_OL_BITMAP_DIRECTORY, (int64_t)s->bitmap_directory_offset,
                                            (int64_t)s->bitmap_directory_size, false);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Can't update bitmap directory");
        }
    }
    return ret;
}

int qcow2_load_dirty_bitmaps(BlockDriverState *bs, bool *header_updated, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    struct qcow2_bitmaps dir;

    *header_updated = false;
    if (bdrv_is_inactive(bs)) {
        return 0;
    }
    int ret = s->bitmaps_stale ? drop_stale(bs, header_updated, errp) : 0;
    if (ret < 0 || s->nb_bitmaps == 0) {
        return ret;
    }
    ret = qcow2_bitmaps_read(bs, &dir, 0, errp);
    if (ret < 0) {
        return ret;
    }
    ret = load_all(bs, &dir, errp);
    if (ret == 0 && bdrv_is_writable(bs)) {
        ret = mark_in_use(bs, &dir, header_updated, errp);
    }
    settle_loaded(&dir, ret == 0, !bdrv_is_writable(bs));
    qcow2_bitmaps_free(bs, &dir);
    return ret;
}
