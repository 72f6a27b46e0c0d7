/* qcow2: bitmaps from memory into the image (reference/bitmaps-qcow2.md 4.3). */
#include "block/qcow2_bitmap.h"

#include <errno.h>
#include <inttypes.h>

/* --- what an image can hold ------------------------------------------------------------------------------- */

static bool bits_too_many(const BlockDriverState *bs, uint32_t granularity)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t bits = bs->total_bytes / granularity + (bs->total_bytes % granularity != 0);
    int64_t bytes = bits / 8 + (bits % 8 != 0);
    return bytes > QCOW2_BME_MAX_PHYS_BYTES || bytes / s->cluster_size > QCOW2_BME_MAX_TABLE_SIZE;
}

bool qcow2_bitmap_constraints(const BlockDriverState *bs, uint64_t name_bytes, uint32_t granularity, Error **errp)
{
    SIM_ASSERT(is_power_of_2(granularity));
    if (granularity > 1U << QCOW2_BME_MAX_GRANULARITY_BITS) {
        error_setg(errp, "Granularity exceeds maximum (%" PRIu64 " bytes)",
                   (uint64_t)1 << QCOW2_BME_MAX_GRANULARITY_BITS);
        return false;
    }
    if (granularity < 1U << QCOW2_BME_MIN_GRANULARITY_BITS) {
        error_setg(errp, "Granularity is under minimum (%u bytes)", 1U << QCOW2_BME_MIN_GRANULARITY_BITS);
        return false;
    }
    if (bits_too_many(bs, granularity)) {
        error_setg(errp, "Too much space will be occupied by the bitmap. Use larger granularity");
        return false;
    }
    if (name_bytes > QCOW2_BME_MAX_NAME_BYTES) {
        error_setg(errp, "Name length exceeds maximum (%u characters)", QCOW2_BME_MAX_NAME_BYTES);
        return false;
    }
    /* A table has an entry at least, and a disk without length none: it would be lost when the image is closed. */
    if (bs->total_bytes == 0) {
        error_setg(errp, "A bitmap of an empty disk cannot be stored");
        return false;
    }
    return true;
}

/* --- freeing ---------------------------------------------------------------------------------------------- */

/* Bitmaps share nothing, so a cluster with another count is not theirs: a leak does less harm than freeing it. */
static void free_own_clusters(BlockDriverState *bs, uint64_t offset, int64_t bytes, enum qcow2_discard_type type)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t clusters = size_to_clusters(s, bytes);
    for (int64_t i = 0; i < clusters; i++) {
        int64_t at = (int64_t)offset + i * s->cluster_size;
        uint64_t refcount;
        if (qcow2_get_refcount(bs, (uint64_t)at >> s->cluster_bits, &refcount) < 0 || refcount != 1) {
            SIM_MARK(bs->host->sim, qcow2_bitmap_foreign_cluster);
            continue;
        }
        qcow2_free_clusters(bs, at, s->cluster_size, type);
    }
}

void qcow2_bitmap_free_table(BlockDriverState *bs, struct qcow2_bitmaps *dir, uint64_t offset, uint32_t size)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t *table;
    uint32_t nb;
    if (qcow2_bitmap_read_table(bs, dir, offset, size, &table, &nb) < 0) {
        return;
    }
    for (uint32_t i = 0; i < nb; i++) {
        uint64_t cluster = qcow2_bitmap_entry_offset(table[i]);
        if (cluster != 0) {
            free_own_clusters(bs, cluster, s->cluster_size, QCOW2_DISCARD_ALWAYS);
        }
    }
    qcow2_free(bs, table, nb * sizeof(uint64_t));
    free_own_clusters(bs, offset, qcow2_bitmap_bytes_in_file(dir, offset, (int64_t)size * 8), QCOW2_DISCARD_OTHER);
}

/* --- what is to be stored --------------------------------------------------------------------------------- */

static int plan_old(struct qcow2_bitmap *entry, Error **errp)
{
    if (!(entry->flags & QCOW2_BME_IN_USE)) {
        error_setg(errp, "Bitmap '%.*s' is in the image already and not marked as in use", (int)entry->name_bytes,
                   entry->name);
        return -EINVAL;
    }
    entry->old_table_offset = entry->table_offset;
    entry->old_table_size = entry->table_size;
    return 0;
}

static int plan_bitmap(BlockDriverState *bs, struct qcow2_bitmaps *dir, BdrvDirtyBitmap *bitmap, Error **errp)
{
    const char *name = bdrv_dirty_bitmap_name(bitmap);
    struct qcow2_bitmap *entry = qcow2_bitmaps_find(dir, name);
    uint32_t granularity = bdrv_dirty_bitmap_granularity(bitmap);

    if (!qcow2_bitmap_constraints(bs, strlen(name), granularity, errp)) {
        error_prepend(errp, "Bitmap '%s' doesn't satisfy the constraints: ", name);
        return -EINVAL;
    }
    if (entry != NULL) {
        int ret = plan_old(entry, errp);
        if (ret < 0) {
            return ret;
        }
    } else if (dir->nb == QCOW2_MAX_BITMAPS) {
        error_setg(errp, "Maximum number of persistent bitmaps is already reached");
        return -EINVAL;
    } else {
        SIM_ASSERT_LT(dir->nb, dir->room);
        entry = &dir->list[dir->nb++];
        *entry = (struct qcow2_bitmap){.name = name, .name_bytes = (uint16_t)strlen(name)};
    }
    entry->source = bitmap;
    entry->flags = bdrv_dirty_bitmap_recording(bitmap) ? QCOW2_BME_AUTO : 0;
    entry->granularity_bits = (uint8_t)__builtin_ctz(granularity);
    return 0;
}

static int plan(BlockDriverState *bs, struct qcow2_bitmaps *dir, Error **errp)
{
    BdrvDirtyBitmap *bitmap = NULL;
    while ((bitmap = bdrv_dirty_bitmap_next(bs, bitmap)) != NULL) {
        int ret = bdrv_dirty_bitmap_storable(bitmap) ? plan_bitmap(bs, dir, bitmap, errp) : 0;
        if (ret < 0) {
            return ret;
        }
    }
    if (qcow2_bitmaps_bytes(dir) > (uint64_t)QCOW2_MAX_BITMAP_DIRECTORY_BYTES) {
        error_setg(errp, "Not enough space in the bitmap directory");
        return -EINVAL;
    }
    return 0;
}

/* --- bits and tables -------------------------------------------------------------------------------------- */

/* Clusters without a dirty bit get none. */
static int write_bits(BlockDriverState *bs, struct qcow2_bitmap *entry, const HBitmap *bits, uint8_t *buf)
{
    const BDRVQcow2State *s = bs->opaque;
    int64_t size = hbitmap_length(bits);
    int64_t step = qcow2_bitmap_bytes_per_cluster(s, entry->granularity_bits);
    int64_t at = hbitmap_next_dirty(bits, 0, INT64_MAX);
    while (at >= 0) {
        uint32_t index = (uint32_t)(at / step);
        int64_t start = (int64_t)index * step;
        int64_t bytes = MIN(step, size - start);
        int64_t used = hbitmap_serialization_size(bits, start, bytes);
        SIM_ASSERT_LE(used, s->cluster_size);
        hbitmap_serialize_part(bits, buf, start, bytes);
        memset(buf + used, 0, (size_t)(s->cluster_size - used));
        int64_t offset = qcow2_bitmap_write_new(bs, buf, s->cluster_size);
        if (offset < 0) {
            return (int)offset;
        }
        entry->table[index] = (uint64_t)offset;
        at = start + bytes < size ? hbitmap_next_dirty(bits, start + bytes, INT64_MAX) : -1;
    }
    return 0;
}

static int write_table(BlockDriverState *bs, struct qcow2_bitmap *entry)
{
    size_t bytes = entry->table_size * sizeof(uint64_t);
    uint8_t *raw = qcow2_alloc(bs, bytes);
    for (uint32_t i = 0; i < entry->table_size; i++) {
        qcow2_put_be64(raw + (size_t)i * 8, entry->table[i]);
    }
    int64_t offset = qcow2_bitmap_write_new(bs, raw, (int64_t)bytes);
    qcow2_free(bs, raw, bytes);
    entry->table_offset = offset < 0 ? 0 : (uint64_t)offset;
    return offset < 0 ? (int)offset : 0;
}

static int write_bitmap(BlockDriverState *bs, struct qcow2_bitmap *entry, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    HBitmap *bits = bdrv_dirty_bitmap_bits_to_store(entry->source);
    uint8_t *buf = qcow2_alloc(bs, (size_t)s->cluster_size);
    entry->table_size = (uint32_t)qcow2_bitmap_clusters(s, hbitmap_length(bits), entry->granularity_bits);
    entry->table = qcow2_alloc(bs, entry->table_size * sizeof(uint64_t));
    int ret = write_bits(bs, entry, bits, buf);
    qcow2_free(bs, buf, (size_t)s->cluster_size);
    hbitmap_free(bits);
    if (ret == 0) {
        ret = write_table(bs, entry);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to store bitmap '%s'", bdrv_dirty_bitmap_name(entry->source));
    }
    return ret;
}

static int write_bitmaps(BlockDriverState *bs, struct qcow2_bitmaps *dir, Error **errp)
{
    for (uint32_t i = 0; i < dir->nb; i++) {
        struct qcow2_bitmap *entry = &dir->list[i];
        if (entry->source != NULL) {
            entry->table_offset = 0;
            int ret = write_bitmap(bs, entry, errp);
            if (ret < 0) {
                return ret;
            }
        }
    }
    return 0;
}

/* --- the end ---------------------------------------------------------------------------------------------- */

/* Nothing names what was written. */
static void take_back(BlockDriverState *bs, const struct qcow2_bitmap *entry)
{
    const BDRVQcow2State *s = bs->opaque;
    for (uint32_t i = 0; i < entry->table_size; i++) {
        if (entry->table[i] != 0) {
            qcow2_free_new_clusters(bs, (int64_t)entry->table[i], s->cluster_size);
        }
    }
    if (entry->table_offset != 0) {
        qcow2_free_new_clusters(bs, (int64_t)entry->table_offset, (int64_t)entry->table_size * 8);
    }
}

/* What of it is still needed after the store has come to its end. */
static void finish_entry(BlockDriverState *bs, struct qcow2_bitmaps *dir, struct qcow2_bitmap *entry, bool stored,
                         bool named)
{
    if (stored && entry->old_table_offset != 0) {
        qcow2_bitmap_free_table(bs, dir, entry->old_table_offset, entry->old_table_size);
    }
    if (entry->table != NULL) {
        if (!stored && !named) {
            take_back(bs, entry);
        }
        qcow2_free(bs, entry->table, entry->table_size * sizeof(uint64_t));
    }
}

/* The image may say that they are stored, and nobody can tell: what is written to the disk now would be missing in
 * them, so nothing is, until somebody makes the node read-write again and they are marked as in use. */
static void make_readonly(BlockDriverState *bs)
{
    BdrvDirtyBitmap *bitmap = NULL;
    SIM_MARK(bs->host->sim, qcow2_bitmaps_unsure);
    while ((bitmap = bdrv_dirty_bitmap_next(bs, bitmap)) != NULL) {
        if (bdrv_dirty_bitmap_storable(bitmap)) {
            bdrv_dirty_bitmap_set_readonly(bitmap, true);
        }
    }
}

static uint32_t count_named(const BlockDriverState *bs)
{
    const BdrvDirtyBitmap *bitmap = NULL;
    uint32_t count = 0;
    while ((bitmap = bdrv_dirty_bitmap_next(bs, bitmap)) != NULL) {
        count += bdrv_dirty_bitmap_name(bitmap) != NULL;
    }
    return count;
}

static int store_locked(BlockDriverState *bs, Error **errp)
{
    struct qcow2_bitmaps dir;
    bool named = false;
    int ret = qcow2_bitmaps_read(bs, &dir, count_named(bs), errp);
    if (ret < 0) {
        return ret;
    }
    ret = plan(bs, &dir, errp);
    if (ret == 0) {
        ret = write_bitmaps(bs, &dir, errp);
    }
    if (ret == 0) {
        ret = qcow2_bitmaps_replace(bs, &dir, &named, errp);
    }
    for (uint32_t i = 0; i < dir.nb; i++) {
        finish_entry(bs, &dir, &dir.list[i], ret == 0, named);
    }
    qcow2_bitmaps_free(bs, &dir);
    if (named) {
        make_readonly(bs);
    }
    if (ret == 0) {
        /* The lower counts of what was replaced; without them there are leaks, and the bitmaps are stored. */
        (void)qcow2_bitmaps_make_stable(bs);
    }
    return ret;
}

int qcow2_co_store_dirty_bitmaps(BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    SIM_ASSERT(bdrv_is_writable(bs));
    if (!qcow2_usable(bs)) {
        error_setg_errno(errp, ENOMEDIUM, "The image is unusable");
        return -ENOMEDIUM;
    }
    if (s->qcow_version < 3) {
        error_setg(errp, "Cannot store dirty bitmaps in qcow2 v2 files");
        return -ENOTSUP;
    }
    co_mutex_lock(&s->lock);
    int ret = store_locked(bs, errp);
    co_mutex_unlock(&s->lock);
    return ret;
}
