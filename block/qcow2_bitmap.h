/*
 * Bitmaps stored in a qcow2 image, between the files block/qcow2_bitmap*.c (reference/bitmaps-qcow2.md 4).
 *
 *     header extension --> directory --> table of each bitmap --> clusters with its bits
 *
 * The directory is read when somebody needs it and forgotten afterwards; the header extension in BDRVQcow2State
 * says where it is. A new directory replaces an old one by one write of the header; in place only flags change.
 *
 * What an image claims costs nothing before the file is known to hold it: what lies beyond the end of the file is
 * zeros and is not read, and as no two of these structures share a cluster, nobody reads more of them than the
 * file is long: an image in which they overlap is refused when that is exceeded.
 *
 * All of this wants the image's lock held, unless it says otherwise.
 */
#ifndef BLOCK_QCOW2_BITMAP_H
#define BLOCK_QCOW2_BITMAP_H

#include "block/qcow2.h"

#define QCOW2_BME_MAX_TABLE_SIZE 0x8000000U
#define QCOW2_BME_MAX_PHYS_BYTES (512 * MiB)
#define QCOW2_BME_MIN_GRANULARITY_BITS 9
#define QCOW2_BME_MAX_GRANULARITY_BITS 31
#define QCOW2_BME_MAX_NAME_BYTES 1023

enum {
    QCOW2_BME_IN_USE = 1 << 0, /* the stored bits are out of date */
    QCOW2_BME_AUTO = 1 << 1,   /* records as soon as the image is open */
};

/* An entry of the directory. */
struct qcow2_bitmap {
    uint64_t table_offset;
    uint32_t table_size; /* entries */
    uint32_t flags;      /* QCOW2_BME_* */
    uint8_t granularity_bits;
    uint16_t name_bytes;
    const char *name; /* without terminator; of the directory's memory, or of the bitmap in memory */
    /* While bitmaps are stored: */
    BdrvDirtyBitmap *source;   /* NULL: the entry is left as it is */
    uint64_t old_table_offset; /* what it replaces; 0: nothing */
    uint32_t old_table_size;
    uint64_t *table; /* the new table, host order */
};

struct qcow2_bitmaps {
    struct qcow2_bitmap *list; /* in the order of the directory */
    uint32_t nb;
    uint32_t room;
    struct qcow2_bitmap **by_name; /* those that were read, sorted */
    uint32_t nb_by_name;
    uint8_t *raw; /* the directory as far as the file holds it; names point there */
    uint64_t raw_bytes;
    int64_t file_bytes; /* length of the file */
    int64_t read_bytes; /* of the file, so far, by those that work on this directory */
};

/* --- directory (qcow2_bitmap_dir.c) ------------------------------------------------------------------------- */

/* Reads the directory and checks it whole; room for `more` entries. An image without one gives an empty list.
 * -errno with the reference's text: nothing to free then. */
int qcow2_bitmaps_read(BlockDriverState *bs, struct qcow2_bitmaps *dir, uint32_t more, Error **errp);
void qcow2_bitmaps_free(BlockDriverState *bs, struct qcow2_bitmaps *dir);
/* NULL: none of that name was read. */
struct qcow2_bitmap *qcow2_bitmaps_find(const struct qcow2_bitmaps *dir, const char *name);
/* Bytes of an entry with such a name. */
uint64_t qcow2_bitmap_entry_bytes(uint64_t name_bytes);
/* Bytes of the whole directory as the list is now. */
uint64_t qcow2_bitmaps_bytes(const struct qcow2_bitmaps *dir);
/* Clusters of their own for some metadata, written, not named by anything yet: their offset, or -errno. */
int64_t qcow2_bitmap_write_new(BlockDriverState *bs, const void *data, int64_t bytes);
/* All metadata, with the counts of what was allocated; the image stays as a power loss now would show it. */
int qcow2_bitmaps_make_stable(BlockDriverState *bs);
/* Overwrites the directory where it is; same names in the same order (4.4). After a failure the directory on disk
 * holds old and new flags, and is still announced. */
int qcow2_bitmaps_write_in_place(BlockDriverState *bs, const struct qcow2_bitmaps *dir);
/* Writes a new directory, or none for an empty list, and switches the header to it when all that it names is stable
 * (4.3); then the old directory's clusters are free. *named, after a failure: the image may name the new one all
 * the same, for the header could neither be written nor taken back; clusters of both must be kept. */
int qcow2_bitmaps_replace(BlockDriverState *bs, const struct qcow2_bitmaps *dir, bool *named, Error **errp);

/* --- tables (qcow2_bitmap_load.c) --------------------------------------------------------------------------- */

/* The part of a table that the file holds, in host order and checked; nb of its entries, the others are 0. -EINVAL:
 * malformed, or more has been read than the file holds. The caller frees nb * 8 bytes with qcow2_free. */
int qcow2_bitmap_read_table(BlockDriverState *bs, struct qcow2_bitmaps *dir, uint64_t offset, uint32_t size,
                            uint64_t **table, uint32_t *nb);
/* Bytes of [offset, +bytes) inside the file. */
int64_t qcow2_bitmap_bytes_in_file(const struct qcow2_bitmaps *dir, uint64_t offset, int64_t bytes);
/* Bytes of disk that a cluster of bits stands for, and clusters that a disk needs. */
int64_t qcow2_bitmap_bytes_per_cluster(const BDRVQcow2State *s, unsigned granularity_bits);
uint64_t qcow2_bitmap_clusters(const BDRVQcow2State *s, int64_t disk_bytes, unsigned granularity_bits);
static inline uint64_t qcow2_bitmap_entry_offset(uint64_t table_entry)
{
    return table_entry & L2E_OFFSET_MASK;
}

/* --- storing (qcow2_bitmap_store.c) ------------------------------------------------------------------------- */

/* Whether such a bitmap can be in an image at all: false with the reference's text. */
bool qcow2_bitmap_constraints(const BlockDriverState *bs, uint64_t name_bytes, uint32_t granularity, Error **errp);
/* A table that nothing names any more, and the clusters that it names. What cannot be read is left: a leak. */
void qcow2_bitmap_free_table(BlockDriverState *bs, struct qcow2_bitmaps *dir, uint64_t offset, uint32_t size);

#endif
