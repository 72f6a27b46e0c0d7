/* qcow2: the clusters of stored bitmaps, for a check (reference/bitmaps-qcow2.md 5.8). */
#include "block/qcow2_bitmap.h"

#include <errno.h>
#include <stdio.h>

static void say(const BdrvCheckResult *res, const char *what, const struct qcow2_bitmap *entry)
{
    char line[128 + QCOW2_BME_MAX_NAME_BYTES];
    if (res->say == NULL) {
        return;
    }
    if (entry != NULL) {
        snprintf(line, sizeof(line), "ERROR bitmap '%.*s': %s", (int)entry->name_bytes, entry->name, what);
    } else {
        snprintf(line, sizeof(line), "ERROR bitmaps: %s", what);
    }
    res->say(res->say_opaque, line);
}

/* What could not be read is a fault of the storage, what makes no sense one of the image. */
static void count_problem(BdrvCheckResult *res, int ret, const char *what, const struct qcow2_bitmap *entry)
{
    if (ret == -EINVAL) {
        res->corruptions++;
    } else {
        res->check_errors++;
    }
    say(res, what, entry);
}

/* It would be loaded, and for a disk of another size: then the image does not open. */
static bool fits_disk(const BlockDriverState *bs, const struct qcow2_bitmap *entry)
{
    uint64_t wanted = qcow2_bitmap_clusters(bs->opaque, bs->total_bytes, entry->granularity_bits);

    return (entry->flags & QCOW2_BME_IN_USE) || entry->table_size == wanted;
}

/* Those in use as well: their clusters are theirs until they are stored again. */
static int check_bitmap(BlockDriverState *bs, BdrvCheckResult *res, struct qcow2_counts *counts,
                        struct qcow2_bitmaps *dir, const struct qcow2_bitmap *entry)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t *table;
    uint32_t nb;
    int ret = qcow2_counts_add(bs, counts, res, (int64_t)entry->table_offset, (int64_t)entry->table_size * 8);
    if (ret < 0) {
        return ret;
    }
    if (!fits_disk(bs, entry)) {
        count_problem(res, -EINVAL, "its table does not fit the disk", entry);
    }
    ret = qcow2_bitmap_read_table(bs, dir, entry->table_offset, entry->table_size, &table, &nb);
    if (ret < 0) {
        count_problem(res, ret, "its table cannot be read", entry);
        return ret == -EINVAL ? 0 : ret;
    }
    for (uint32_t i = 0; ret == 0 && i < nb; i++) {
        uint64_t offset = qcow2_bitmap_entry_offset(table[i]);
        if (offset != 0) {
            ret = qcow2_counts_add(bs, counts, res, (int64_t)offset, s->cluster_size);
        }
    }
    qcow2_free(bs, table, nb * sizeof(uint64_t));
    return ret;
}

int qcow2_check_bitmaps_refcounts(BlockDriverState *bs, BdrvCheckResult *res, struct qcow2_counts *counts)
{
    const BDRVQcow2State *s = bs->opaque;
    struct qcow2_bitmaps dir;
    Error *err = NULL;
    if (s->nb_bitmaps == 0) {
        return 0;
    }
    int ret =
        qcow2_counts_add(bs, counts, res, (int64_t)s->bitmap_directory_offset, (int64_t)s->bitmap_directory_size);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_bitmaps_read(bs, &dir, 0, &err);
    if (ret < 0) {
        count_problem(res, ret, error_get_pretty(err), NULL);
        error_free(err);
        return ret == -EINVAL ? 0 : ret;
    }
    for (uint32_t i = 0; ret == 0 && i < dir.nb; i++) {
        ret = check_bitmap(bs, res, counts, &dir, &dir.list[i]);
    }
    qcow2_bitmaps_free(bs, &dir);
    return ret;
}
