/*
 * The reader's lists: internal snapshots (5.7) and the directory of bitmaps (4.1).
 */
#include "check/qcow2_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- snapshots -------------------------------------------------------------------------------------------- */

#define SNAPSHOT_BYTES 40
#define SNAPSHOT_TABLE_MAX (64 * MiB)
#define SNAPSHOT_EXTRA_MAX 1024

/* The copy of the L1 table; NULL and a finding when it cannot be there. */
static uint64_t *read_snapshot_l1(struct qcow2_image *image, const struct qcow2_image_snapshot *s, int64_t at)
{
    uint64_t *l1;

    if (s->l1_size == 0 && s->l1_offset % image->cluster_bytes == 0) {
        return NULL; /* nowhere, then */
    }
    if ((uint64_t)s->l1_size * 8 > 32 * MiB || s->l1_offset < 0 || s->l1_offset % image->cluster_bytes ||
        s->l1_offset > INT64_MAX - 32 * MiB) {
        qcow2_found(image, QCOW2_FOUND_SNAPSHOT, at, "snapshot '%.32s': an L1 table of %u entries at %#" PRIx64,
                    s->name, s->l1_size, (uint64_t)s->l1_offset);
        return NULL;
    }
    if (!qcow2_spend(image, s->l1_size)) {
        return NULL;
    }
    l1 = qcow2_image_alloc(s->l1_size, sizeof(*l1));
    qcow2_read_words(&image->file, s->l1_offset, s->l1_size, l1);
    return l1;
}

/* One entry at `at`; gives its length without padding, 0: the table is no table. */
static int64_t read_snapshot(struct qcow2_image *image, struct qcow2_image_snapshot *s, int64_t at)
{
    uint8_t head[SNAPSHOT_BYTES];
    uint8_t extra[16] = {0};
    uint32_t extra_bytes;
    uint16_t id_bytes;
    uint16_t name_bytes;

    qcow2_read_bytes(&image->file, at, sizeof(head), head);
    s->l1_offset = (int64_t)qcow2_be64(head);
    s->l1_size = qcow2_be32(head + 8);
    id_bytes = qcow2_be16(head + 12);
    name_bytes = qcow2_be16(head + 14);
    s->date_sec = qcow2_be32(head + 16);
    s->date_nsec = qcow2_be32(head + 20);
    s->vm_clock_nsec = qcow2_be64(head + 24);
    s->vm_state_size = qcow2_be32(head + 32);
    extra_bytes = qcow2_be32(head + 36);
    if (extra_bytes > SNAPSHOT_EXTRA_MAX) {
        qcow2_fail(image, "too much extra data in a snapshot entry: %u", extra_bytes);
        return 0;
    }
    qcow2_read_bytes(&image->file, at + SNAPSHOT_BYTES, MIN(extra_bytes, (uint32_t)sizeof(extra)), extra);
    s->disk_size = extra_bytes >= 16 ? (int64_t)(qcow2_be64(extra + 8) & ~UINT64_C(511)) : image->size;
    if (extra_bytes >= 8) {
        s->vm_state_size = qcow2_be64(extra);
    }
    s->id = qcow2_text(&image->file, at + SNAPSHOT_BYTES + extra_bytes, id_bytes);
    s->name = qcow2_text(&image->file, at + SNAPSHOT_BYTES + extra_bytes + id_bytes, name_bytes);
    if ((image->version >= 3 && extra_bytes < 16) || s->disk_size < 0) {
        qcow2_found(image, QCOW2_FOUND_SNAPSHOT, at, "snapshot '%.32s' has %u bytes of extra data", s->name,
                    extra_bytes);
    }
    return SNAPSHOT_BYTES + (int64_t)extra_bytes + id_bytes + name_bytes;
}

void qcow2_image_read_snapshots(struct qcow2_image *image, uint32_t count, int64_t offset)
{
    int64_t at = offset;

    image->work->snapshot_table_offset = offset;
    if (count == 0) {
        return;
    }
    image->snapshot = qcow2_image_alloc(count, sizeof(*image->snapshot));
    for (uint32_t i = 0; i < count; i++) {
        struct qcow2_image_snapshot *s = &image->snapshot[i];
        int64_t bytes;

        at = ROUND_UP(at, 8);
        if (!qcow2_spend(image, 64)) {
            return;
        }
        image->snapshot_count++; /* its strings are to be freed, whatever comes */
        bytes = read_snapshot(image, s, at);
        if (bytes == 0) {
            return;
        }
        s->l1 = read_snapshot_l1(image, s, at);
        at += bytes;
        if (at - offset > SNAPSHOT_TABLE_MAX) {
            qcow2_fail(image, "the snapshot table is too large");
            return;
        }
    }
    image->work->snapshot_table_bytes = at - offset;
}

/* --- bitmaps ---------------------------------------------------------------------------------------------- */

#define DIRECTORY_ENTRY_BYTES 24
#define BITMAP_TABLE_MAX UINT32_C(0x8000000)

enum { BITMAP_IN_USE = 1, BITMAP_AUTO = 2 };

static int64_t bits_of(const struct qcow2_image *image, uint8_t granularity_bits)
{
    return DIV_ROUND_UP(image->size, (int64_t)1 << granularity_bits);
}

static void bad_entry(struct qcow2_image *image, int64_t at, const char *what)
{
    qcow2_found(image, QCOW2_FOUND_BITMAPS, at, "directory entry at %#" PRIx64 ": %s", (uint64_t)at, what);
}

/* What is wrong with the fields of an entry that any program refuses, or NULL. */
static const char *entry_fault(const uint8_t *entry, const struct qcow2_image *image)
{
    uint64_t offset = qcow2_be64(entry);
    uint32_t entries = qcow2_be32(entry + 8);

    if (offset == 0 || offset % (uint64_t)image->cluster_bytes || offset > (uint64_t)INT64_MAX / 2) {
        return "its table cannot be there";
    }
    if (entries == 0 || entries > BITMAP_TABLE_MAX) {
        return "its table cannot be of that size";
    }
    if (qcow2_be32(entry + 12) & ~(uint32_t)(BITMAP_IN_USE | BITMAP_AUTO)) {
        return "unknown flags";
    }
    if (entry[16] != 1) {
        return "unknown type";
    }
    if (entry[17] < 9 || entry[17] > 31) {
        return "its granularity is out of range";
    }
    if (qcow2_be16(entry + 18) > 1023) {
        return "its name is too long";
    }
    return qcow2_be32(entry + 20) ? "it has extra data" : NULL;
}

/* Every one must say a cluster, or that all its bits are 0, or 1. */
static void check_table_entries(struct qcow2_image *image, const struct qcow2_image_bitmap *b)
{
    for (uint32_t i = 0; i < b->table_size; i++) {
        uint64_t entry = b->table[i];
        uint64_t offset = entry & ENTRY_OFFSET;
        int64_t at = b->table_offset + (int64_t)i * 8;

        if (entry & ~(ENTRY_OFFSET | 1)) {
            qcow2_found(image, QCOW2_FOUND_BITMAPS, at, "bitmap '%.32s' entry %u: reserved bits in %016" PRIx64,
                        b->name, i, entry);
        } else if (offset && ((entry & 1) || offset % (uint64_t)image->cluster_bytes)) {
            qcow2_found(image, QCOW2_FOUND_BITMAPS, at, "bitmap '%.32s' entry %u: no cluster: %016" PRIx64, b->name,
                        i, entry);
        }
    }
}

static void read_table(struct qcow2_image *image, struct qcow2_image_bitmap *b, int64_t at)
{
    int64_t bytes = DIV_ROUND_UP(b->bits, 64) * 8;

    if (!b->in_use && b->table_size != DIV_ROUND_UP(bytes, image->cluster_bytes)) {
        bad_entry(image, at, "its table does not fit the disk");
        return;
    }
    if (!qcow2_spend(image, b->table_size)) {
        return;
    }
    b->table = qcow2_image_alloc(b->table_size, sizeof(*b->table));
    qcow2_read_words(&image->file, b->table_offset, b->table_size, b->table);
    check_table_entries(image, b);
}

/* False: the rest of the directory cannot be read. */
static bool read_entry(struct qcow2_image *image, int64_t *at, int64_t end)
{
    struct qcow2_image_bitmap *b = &image->bitmap[image->bitmap_count];
    uint8_t entry[DIRECTORY_ENTRY_BYTES];
    int64_t start = *at;

    if (end - start < DIRECTORY_ENTRY_BYTES) {
        bad_entry(image, start, "it overruns the directory");
        return false;
    }
    qcow2_read_bytes(&image->file, start, sizeof(entry), entry);
    const char *fault = entry_fault(entry, image);
    uint16_t name_bytes = qcow2_be16(entry + 18);
    *at = ROUND_UP(start + DIRECTORY_ENTRY_BYTES + qcow2_be32(entry + 20) + name_bytes, 8);
    if (!fault && *at > end) {
        fault = "it overruns the directory";
    }
    if (fault) {
        bad_entry(image, start, fault);
        return false;
    }
    b->name = qcow2_text(&image->file, start + DIRECTORY_ENTRY_BYTES, name_bytes);
    if (qcow2_image_bitmap_find(image, b->name)) {
        bad_entry(image, start, "its name was there already");
    }
    image->bitmap_count++;
    b->table_offset = (int64_t)qcow2_be64(entry);
    b->table_size = qcow2_be32(entry + 8);
    b->in_use = (entry[15] & BITMAP_IN_USE) != 0;
    b->enabled = (entry[15] & BITMAP_AUTO) != 0;
    b->granularity_bits = entry[17];
    b->bits = bits_of(image, b->granularity_bits);
    read_table(image, b, start);
    return true;
}

void qcow2_read_bitmaps(struct qcow2_image *image)
{
    uint32_t expected = image->work->bitmap_expected;
    int64_t at = image->work->bitmap_directory_offset;
    int64_t end = at + (int64_t)image->work->bitmap_directory_bytes;

    if (!image->has_bitmaps) {
        return;
    }
    image->bitmap = qcow2_image_alloc(expected, sizeof(*image->bitmap));
    for (uint32_t i = 0; i < expected; i++) {
        /* names are compared with all before them */
        if (!qcow2_spend(image, 64 + image->bitmap_count) || !read_entry(image, &at, end)) {
            return;
        }
    }
    if (at != end) {
        bad_entry(image, at, "bytes behind the last one");
    }
    for (uint32_t i = 0; i < image->bitmap_count; i++) {
        struct qcow2_image_bitmap *b = &image->bitmap[i];

        if (!b->in_use && b->table && qcow2_bitmap_tail_is_set(image, b)) {
            qcow2_found(image, QCOW2_FOUND_BITMAP_TAIL, b->table_offset,
                        "bitmap '%.32s' has bits beyond its %" PRId64 "th, the last", b->name, b->bits);
        }
    }
}
