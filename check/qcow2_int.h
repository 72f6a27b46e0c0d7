/*
 * What the files of the reader (check/qcow2_image.h) share. Offsets of tables are cluster aligned wherever a
 * function does not say otherwise. Private to check/qcow2_*.c.
 */
#ifndef CHECK_QCOW2_INT_H
#define CHECK_QCOW2_INT_H

#include "check/qcow2_image.h"

/* --- bits of entries (reference/bitmaps-qcow2.md 5.2, 5.3) -------------------------------------------------- */

#define ENTRY_COPIED (UINT64_C(1) << 63)
#define ENTRY_COMPRESSED (UINT64_C(1) << 62)
#define ENTRY_ZERO UINT64_C(1)
#define ENTRY_OFFSET UINT64_C(0x00fffffffffffe00) /* bits 9 to 55 */
#define L1_RESERVED (~(ENTRY_OFFSET | ENTRY_COPIED))
#define L2_RESERVED (~(ENTRY_OFFSET | ENTRY_COPIED | ENTRY_COMPRESSED | ENTRY_ZERO))
#define BLOCK_OFFSET (~UINT64_C(511))

/* --- references ------------------------------------------------------------------------------------------- */

enum cluster_use {
    USE_HEADER,
    USE_REFCOUNT_TABLE,
    USE_REFCOUNT_BLOCK,
    USE_SNAPSHOT_TABLE,
    USE_L1,
    USE_L2,
    USE_DATA,
    USE_COMPRESSED,
    USE_BITMAP_DIRECTORY,
    USE_BITMAP_TABLE,
    USE_BITMAP_DATA,
    USE_CRYPTO,
};

/* A host cluster that something refers to. */
struct cluster_ref {
    int64_t index;
    uint64_t stored;     /* its count */
    uint32_t references; /* true ones */
    uint32_t view;       /* the last one that leads here: 0 active, 1.. snapshots */
    uint8_t use;         /* of the first reference */
    bool overlap;        /* told already */
};

#define REFS_MAX ((uint32_t)1 << 20)
#define DECOMPRESSED_MAX ((int64_t)64 * MiB)

struct qcow2_image_work {
    struct cluster_ref *ref; /* in order of discovery */
    uint32_t ref_count, ref_room;
    uint32_t *slot; /* hash by index: number of the ref + 1; power of two */
    uint32_t slot_room;
    int64_t cluster_end; /* of the last cluster with a ref, in clusters */
    uint64_t budget;     /* table entries that may still be looked at */
    uint64_t *refblocks; /* the refcount table, host order; refcount_table_entries of them */
    int64_t refcount_table_entries;
    uint8_t *block; /* the refcount block last looked at, as stored */
    int64_t block_offset;
    uint64_t *l2; /* the L2 table last looked at, host order */
    int64_t l2_offset;
    uint8_t *cluster; /* the bitmap cluster last looked at */
    int64_t cluster_of;
    uint8_t *inflated; /* the compressed cluster last read, NULL: none yet */
    uint64_t inflated_entry;
    bool inflated_ok;
    int64_t bitmap_directory_offset;
    uint64_t bitmap_directory_bytes;
    uint32_t bitmap_expected;
    int64_t decompressed; /* bytes, by qcow2_image_test_compressed */
    int64_t crypto_offset, crypto_bytes;
    int64_t snapshot_table_offset, snapshot_table_bytes;
    uint64_t backing_offset;
    uint32_t backing_bytes;
};

/* --- qcow2_image.c ---------------------------------------------------------------------------------------- */

/* Bytes of the file, zero beyond its length and before 0. */
void qcow2_read_bytes(const struct qcow2_source *source, int64_t offset, int64_t bytes, void *buf);
/* Big-endian words. */
void qcow2_read_words(const struct qcow2_source *source, int64_t offset, int64_t count, uint64_t *words);
uint64_t qcow2_be64(const uint8_t *bytes);
uint32_t qcow2_be32(const uint8_t *bytes);
uint16_t qcow2_be16(const uint8_t *bytes);
void qcow2_fail(struct qcow2_image *image, const char *fmt, ...) SIM_PRINTF(2, 3);
void qcow2_found(struct qcow2_image *image, enum qcow2_finding_kind kind, int64_t at, const char *fmt, ...)
    SIM_PRINTF(4, 5);
/* So many more entries are going to be looked at. False: no more, the image is incomplete. */
bool qcow2_spend(struct qcow2_image *image, uint64_t entries);
char *qcow2_text(const struct qcow2_source *source, int64_t offset, uint32_t bytes);
void *qcow2_image_alloc(size_t count, size_t size_bytes); /* zeroed, never NULL, libc's */

/* --- qcow2_tables.c --------------------------------------------------------------------------------------- */

void qcow2_image_read_snapshots(struct qcow2_image *image, uint32_t count, int64_t offset);
void qcow2_read_bitmaps(struct qcow2_image *image);

/* --- qcow2_bits.c ----------------------------------------------------------------------------------------- */

/* Bits beyond the last one are set in its clusters. */
bool qcow2_bitmap_tail_is_set(struct qcow2_image *image, const struct qcow2_image_bitmap *b);
void qcow2_hex(const uint8_t *digest, char hex[QCOW2_SHA256_HEX]);

/* --- qcow2_refs.c ----------------------------------------------------------------------------------------- */

/* Counts all references, compares them with the stored counts and fills the figures. */
void qcow2_compare_counts(struct qcow2_image *image);
/* What a cluster's count says; 0 where there is no block. */
uint64_t qcow2_stored_count(struct qcow2_image *image, int64_t index);
/* NULL: nothing refers to it. */
struct cluster_ref *qcow2_ref_find(const struct qcow2_image *image, int64_t index);
/* Notes a use of [offset, offset + bytes); `at` is the entry that says so. False: it cannot be (told). */
bool qcow2_ref_add(struct qcow2_image *image, int64_t offset, int64_t bytes, enum cluster_use use, uint32_t view,
                   int64_t at);

/* --- qcow2_walk.c ----------------------------------------------------------------------------------------- */

/* Notes the references of L1 tables, L2 tables and data, and judges each entry. */
void qcow2_walk_views(struct qcow2_image *image);
/* After the counts are known: the COPIED flags of the active tables. */
void qcow2_walk_copied(struct qcow2_image *image);

/* --- qcow2_view.c ----------------------------------------------------------------------------------------- */

/* The L2 table there; belongs to the image until the next call. */
const uint64_t *qcow2_l2_table(struct qcow2_image *image, int64_t offset);
/* Where a compressed entry's stream lies. */
void qcow2_compressed_span(const struct qcow2_image *image, uint64_t entry, int64_t *offset, int64_t *bytes);
/* One whole cluster of it. False: it does not decompress. */
bool qcow2_image_decompress(const struct qcow2_image *image, uint64_t entry, uint8_t *cluster);

static inline uint32_t qcow2_l2_entries(const struct qcow2_image *image)
{
    return (uint32_t)(image->cluster_bytes / (image->extended_l2 ? 16 : 8));
}

static inline int64_t qcow2_file_clusters(const struct qcow2_image *image)
{
    return DIV_ROUND_UP(image->file.length, image->cluster_bytes);
}

#endif
