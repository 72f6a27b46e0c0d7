/*
 * References and counts: who leads to each host cluster, and what its refcount says (5.3, 5.8).
 */
#include "check/qcow2_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const use_names[] = {
    [USE_HEADER] = "the header",
    [USE_REFCOUNT_TABLE] = "the refcount table",
    [USE_REFCOUNT_BLOCK] = "a refcount block",
    [USE_SNAPSHOT_TABLE] = "the snapshot table",
    [USE_L1] = "an L1 table",
    [USE_L2] = "an L2 table",
    [USE_DATA] = "data",
    [USE_COMPRESSED] = "compressed data",
    [USE_BITMAP_DIRECTORY] = "the bitmap directory",
    [USE_BITMAP_TABLE] = "a bitmap's table",
    [USE_BITMAP_DATA] = "a bitmap's bits",
    [USE_CRYPTO] = "the encryption header",
};

/* --- the table of references ------------------------------------------------------------------------------ */

static uint32_t slot_of(const struct qcow2_image_work *work, int64_t index)
{
    uint32_t i = (uint32_t)sim_mix64((uint64_t)index) & (work->slot_room - 1);

    while (work->slot[i] && work->ref[work->slot[i] - 1].index != index) {
        i = (i + 1) & (work->slot_room - 1);
    }
    return i;
}

static void grow(struct qcow2_image_work *work)
{
    uint32_t room = MAX(work->ref_room * 2, 256u);
    struct cluster_ref *ref = realloc(work->ref, room * sizeof(*ref));

    SIM_ASSERT(ref != NULL);
    free(work->slot);
    work->ref = ref;
    work->ref_room = room;
    work->slot_room = room * 2;
    work->slot = qcow2_image_alloc(work->slot_room, sizeof(*work->slot));
    for (uint32_t i = 0; i < work->ref_count; i++) {
        work->slot[slot_of(work, ref[i].index)] = i + 1;
    }
}

struct cluster_ref *qcow2_ref_find(const struct qcow2_image *image, int64_t index)
{
    const struct qcow2_image_work *work = image->work;
    uint32_t number = work->slot_room ? work->slot[slot_of(work, index)] : 0;

    return number ? &work->ref[number - 1] : NULL;
}

/* The entry of a cluster; NULL: too many of them. */
static struct cluster_ref *ref_get(struct qcow2_image *image, int64_t index)
{
    struct qcow2_image_work *work = image->work;
    struct cluster_ref *ref = qcow2_ref_find(image, index);

    if (ref) {
        return ref;
    }
    if (work->ref_count == REFS_MAX) {
        image->incomplete = true;
        return NULL;
    }
    if (work->ref_count == work->ref_room) {
        grow(work);
    }
    ref = &work->ref[work->ref_count++];
    *ref = (struct cluster_ref){.index = index};
    work->cluster_end = MAX(work->cluster_end, index + 1);
    work->slot[slot_of(work, index)] = work->ref_count;
    return ref;
}

/* Snapshots share tables and data with the active layer and each other, compressed streams share clusters. */
static bool may_share(const struct cluster_ref *ref, enum cluster_use use, uint32_t view)
{
    return ref->use == use && (use == USE_COMPRESSED || ((use == USE_L2 || use == USE_DATA) && ref->view != view));
}

static void note(struct qcow2_image *image, struct cluster_ref *ref, enum cluster_use use, uint32_t view,
                 int64_t at)
{
    if (ref->references == 0) {
        ref->use = (uint8_t)use;
    } else if (!ref->overlap && !may_share(ref, use, view)) {
        ref->overlap = true;
        qcow2_found(image, QCOW2_FOUND_OVERLAP, ref->index * image->cluster_bytes,
                    "cluster %#" PRIx64 " is %s and %s (entry at %#" PRIx64 ")",
                    (uint64_t)(ref->index * image->cluster_bytes), use_names[ref->use], use_names[use],
                    (uint64_t)at);
    }
    ref->view = view;
    ref->references += ref->references < UINT32_MAX;
}

bool qcow2_ref_add(struct qcow2_image *image, int64_t offset, int64_t bytes, enum cluster_use use, uint32_t view,
                   int64_t at)
{
    if (bytes == 0) {
        return true; /* wherever it may be */
    }
    SIM_ASSERT(offset >= 0 && bytes >= 0 && offset <= INT64_MAX - bytes);
    /* less than a cluster of it may be missing: the last one is often cut short */
    if (offset + bytes - image->file.length >= image->cluster_bytes) {
        qcow2_found(image, QCOW2_FOUND_BEYOND_END, at,
                    "%s at %#" PRIx64 " (%" PRId64 " bytes) lies beyond the end of the file, %#" PRIx64,
                    use_names[use], (uint64_t)offset, bytes, (uint64_t)image->file.length);
        return false;
    }
    int64_t end = DIV_ROUND_UP(offset + bytes, image->cluster_bytes);
    for (int64_t index = offset / image->cluster_bytes; index < end; index++) {
        struct cluster_ref *ref = ref_get(image, index);

        if (!ref || !qcow2_spend(image, 1)) {
            return false;
        }
        note(image, ref, use, view, at);
    }
    return true;
}

/* --- stored counts ---------------------------------------------------------------------------------------- */

static int64_t counts_per_block(const struct qcow2_image *image)
{
    return image->cluster_bytes * 8 >> image->refcount_order;
}

/* Narrow counts are packed from the least significant bit of each byte, wide ones big-endian. */
static uint64_t count_in(const struct qcow2_image *image, const uint8_t *block, int64_t i)
{
    unsigned width = 1u << image->refcount_order;
    uint64_t value = 0;

    if (width < 8) {
        return block[i * width / 8] >> (i * width % 8) & ((1u << width) - 1);
    }
    for (unsigned b = 0; b < width / 8; b++) {
        value = value << 8 | block[i * (width / 8) + b];
    }
    return value;
}

static const uint8_t *block_at(struct qcow2_image *image, int64_t offset)
{
    if (image->work->block_offset != offset) {
        qcow2_read_bytes(&image->file, offset, image->cluster_bytes, image->work->block);
        image->work->block_offset = offset;
    }
    return image->work->block;
}

/* Where the block for that entry of the table lies; 0: all its counts are 0, or it is none. */
static int64_t block_offset(const struct qcow2_image *image, int64_t entry)
{
    uint64_t offset =
        entry < image->work->refcount_table_entries ? image->work->refblocks[entry] & BLOCK_OFFSET : 0;

    return offset % (uint64_t)image->cluster_bytes == 0 && offset <= INT64_MAX / 2 ? (int64_t)offset : 0;
}

uint64_t qcow2_stored_count(struct qcow2_image *image, int64_t index)
{
    int64_t per_block = counts_per_block(image);
    int64_t offset = block_offset(image, index / per_block);

    return offset ? count_in(image, block_at(image, offset), index % per_block) : 0;
}

/* All others have had their turn. */
static void add_block(struct qcow2_image *image, int64_t offset, int64_t at)
{
    if (qcow2_ref_add(image, offset, image->cluster_bytes, USE_REFCOUNT_BLOCK, 0, at) &&
        qcow2_ref_find(image, offset / image->cluster_bytes)->references != 1) {
        qcow2_found(image, QCOW2_FOUND_BLOCK_SHARED, at,
                    "the refcount block at %#" PRIx64 " is used for something else, too", (uint64_t)offset);
    }
}

static void read_refcount_table(struct qcow2_image *image)
{
    struct qcow2_image_work *work = image->work;

    work->refcount_table_entries = image->refcount_table_clusters * image->cluster_bytes / 8;
    work->refblocks = qcow2_image_alloc((size_t)work->refcount_table_entries, sizeof(*work->refblocks));
    qcow2_read_words(&image->file, image->refcount_table_offset, work->refcount_table_entries, work->refblocks);
    qcow2_spend(image, (uint64_t)work->refcount_table_entries);
    for (int64_t i = 0; i < work->refcount_table_entries; i++) {
        uint64_t entry = work->refblocks[i];
        int64_t at = image->refcount_table_offset + i * 8;

        if (entry == 0) {
            continue;
        }
        if (entry & ~BLOCK_OFFSET) {
            qcow2_found(image, QCOW2_FOUND_RESERVED, at,
                        "reserved bits in refcount table entry %" PRId64 ": %016" PRIx64, i, entry);
        }
        if ((entry & BLOCK_OFFSET) % (uint64_t)image->cluster_bytes || entry > INT64_MAX / 2) {
            qcow2_found(image, QCOW2_FOUND_UNALIGNED, at, "refcount table entry %" PRId64 ": %016" PRIx64, i,
                        entry);
        } else if (entry & BLOCK_OFFSET) {
            add_block(image, (int64_t)(entry & BLOCK_OFFSET), at);
        }
    }
}

#define SKIP_WORDS 64 /* of zeroes at a time; a block has at least so many */
static const uint8_t zeroes[SKIP_WORDS * 8];

/* Counts beyond the last cluster, of the file or in use, are not compared. */
static int64_t compared_end(const struct qcow2_image *image)
{
    return MAX(qcow2_file_clusters(image), image->work->cluster_end);
}

/* Counts above 0 in the order of the file. */
static void compare_block(struct qcow2_image *image, int64_t first, const uint8_t *block)
{
    int64_t per_block = counts_per_block(image);
    int64_t end = compared_end(image);
    int64_t per_word = 64 >> image->refcount_order;

    for (int64_t i = 0; i < per_block; i++) {
        const uint8_t *at = block + ((i << image->refcount_order) / 8);
        uint64_t stored;

        if (i % (per_word * SKIP_WORDS) == 0 && memcmp(at, zeroes, sizeof(zeroes)) == 0) {
            i += per_word * SKIP_WORDS - 1;
            continue;
        }
        stored = count_in(image, block, i);
        if (stored == 0) {
            continue;
        }
        if (first + i >= end) {
            image->hidden_leaks++;
            continue;
        }
        struct cluster_ref *ref = qcow2_ref_find(image, first + i);
        image->image_end = MAX(image->image_end, (first + i + 1) * image->cluster_bytes);
        if (ref) {
            ref->stored = stored;
        }
        if (!ref || stored > ref->references) {
            qcow2_found(image, QCOW2_FOUND_LEAK, (first + i) * image->cluster_bytes,
                        "cluster %#" PRIx64 " has count %" PRIu64 " and %u references%s%s",
                        (uint64_t)((first + i) * image->cluster_bytes), stored, ref ? ref->references : 0,
                        ref ? ", it is " : "", ref ? use_names[ref->use] : "");
        }
    }
}

static void compare(struct qcow2_image *image)
{
    struct qcow2_image_work *work = image->work;
    int64_t per_block = counts_per_block(image);

    for (int64_t i = 0; i < work->refcount_table_entries; i++) {
        int64_t offset = work->refblocks[i] ? block_offset(image, i) : 0;

        if (offset) {
            if (!qcow2_spend(image, (uint64_t)image->cluster_bytes / 8)) {
                return;
            }
            compare_block(image, i * per_block, block_at(image, offset));
        }
    }
    for (uint32_t i = 0; i < work->ref_count; i++) {
        const struct cluster_ref *ref = &work->ref[i];

        image->image_end = MAX(image->image_end, (ref->index + 1) * image->cluster_bytes);
        if (ref->stored < ref->references) {
            qcow2_found(image, QCOW2_FOUND_COUNT_LOW, ref->index * image->cluster_bytes,
                        "cluster %#" PRIx64 " has count %" PRIu64 " and %u references: it is %s",
                        (uint64_t)(ref->index * image->cluster_bytes), ref->stored, ref->references,
                        use_names[ref->use]);
        }
    }
}

/* --- the whole -------------------------------------------------------------------------------------------- */

static void add_bitmaps(struct qcow2_image *image)
{
    struct qcow2_image_work *work = image->work;

    if (!image->has_bitmaps) {
        return;
    }
    qcow2_ref_add(image, work->bitmap_directory_offset, (int64_t)work->bitmap_directory_bytes, USE_BITMAP_DIRECTORY,
                  0, 0);
    for (uint32_t i = 0; i < image->bitmap_count; i++) {
        const struct qcow2_image_bitmap *b = &image->bitmap[i];

        qcow2_ref_add(image, b->table_offset, (int64_t)b->table_size * 8, USE_BITMAP_TABLE, 0,
                      work->bitmap_directory_offset);
        for (uint32_t entry = 0; b->table && entry < b->table_size; entry++) {
            int64_t offset = (int64_t)(b->table[entry] & ENTRY_OFFSET);

            if (offset && offset % image->cluster_bytes == 0) {
                qcow2_ref_add(image, offset, image->cluster_bytes, USE_BITMAP_DATA, 0,
                              b->table_offset + (int64_t)entry * 8);
            }
        }
    }
}

void qcow2_compare_counts(struct qcow2_image *image)
{
    struct qcow2_image_work *work = image->work;

    qcow2_ref_add(image, 0, image->cluster_bytes, USE_HEADER, 0, 0);
    qcow2_ref_add(image, image->refcount_table_offset, image->refcount_table_clusters * image->cluster_bytes,
                  USE_REFCOUNT_TABLE, 0, 48);
    qcow2_ref_add(image, image->l1_offset, (int64_t)image->l1_size * 8, USE_L1, 0, 40);
    qcow2_ref_add(image, work->snapshot_table_offset, work->snapshot_table_bytes, USE_SNAPSHOT_TABLE, 0, 64);
    for (uint32_t i = 0; i < image->snapshot_count; i++) {
        const struct qcow2_image_snapshot *s = &image->snapshot[i];

        if (s->l1) {
            qcow2_ref_add(image, s->l1_offset, (int64_t)s->l1_size * 8, USE_L1, i + 1, work->snapshot_table_offset);
        }
    }
    if (work->crypto_bytes > 0 && work->crypto_offset > 0 && work->crypto_bytes < INT64_MAX / 4 &&
        work->crypto_offset < INT64_MAX / 4) {
        qcow2_ref_add(image, work->crypto_offset, work->crypto_bytes, USE_CRYPTO, 0, image->header_length);
    }
    add_bitmaps(image);
    qcow2_walk_views(image);
    read_refcount_table(image);
    if (!image->incomplete) { /* half the references would make leaks of the rest */
        compare(image);
        qcow2_walk_copied(image);
    }
}
