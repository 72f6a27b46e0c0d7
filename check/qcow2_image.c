/*
 * The reader's front: bytes from the source, the header and its extensions, findings.
 */
#include "check/qcow2_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- bytes ------------------------------------------------------------------------------------------------ */

static void peek_disk(const void *opaque, int64_t offset, int64_t bytes, struct payload *out)
{
    disk_peek(opaque, offset, bytes, out);
}

struct qcow2_source qcow2_source_of_disk(const struct disk *disk)
{
    return (struct qcow2_source){
        .sim = disk_sim(disk), .opaque = disk, .length = disk_length(disk), .peek = peek_disk};
}

static void peek_snapshot(const void *opaque, int64_t offset, int64_t bytes, struct payload *out)
{
    disk_snapshot_peek(opaque, offset, bytes, out);
}

struct qcow2_source qcow2_source_of_snapshot(struct sim *sim, const struct disk_snapshot *snapshot, int64_t length)
{
    return (struct qcow2_source){.sim = sim, .opaque = snapshot, .length = length, .peek = peek_snapshot};
}

void *qcow2_image_alloc(size_t count, size_t size_bytes)
{
    void *memory = calloc(count ? count : 1, size_bytes);

    SIM_ASSERT(memory != NULL);
    return memory;
}

#define READ_PIECE ((int64_t)64 * KiB)

void qcow2_read_bytes(const struct qcow2_source *source, int64_t offset, int64_t bytes, void *buf)
{
    uint8_t *to = buf;

    SIM_ASSERT(bytes >= 0);
    memset(to, 0, (size_t)bytes);
    if (offset < 0 || offset >= source->length) {
        return;
    }
    bytes = MIN(bytes, source->length - offset);
    while (bytes > 0) {
        int64_t piece = MIN(bytes, READ_PIECE);
        struct payload data;

        payload_init(source->sim, &data);
        source->peek(source->opaque, offset, piece, &data);
        if (!payload_is_zero(&data, 0, piece)) {
            payload_read_bytes(&data, 0, to, piece);
        }
        payload_clear(&data);
        offset += piece;
        to += piece;
        bytes -= piece;
    }
}

uint64_t qcow2_be64(const uint8_t *bytes)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

uint32_t qcow2_be32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

uint16_t qcow2_be16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

void qcow2_read_words(const struct qcow2_source *source, int64_t offset, int64_t count, uint64_t *words)
{
    qcow2_read_bytes(source, offset, count * 8, words);
    for (int64_t i = 0; i < count; i++) {
        words[i] = words[i] ? qcow2_be64((const uint8_t *)&words[i]) : 0;
    }
}

char *qcow2_text(const struct qcow2_source *source, int64_t offset, uint32_t bytes)
{
    char *text = qcow2_image_alloc((size_t)bytes + 1, 1);

    qcow2_read_bytes(source, offset, bytes, text);
    return text;
}

/* --- header (5.1) ----------------------------------------------------------------------------------------- */

#define MAGIC UINT32_C(0x514649fb)
#define HEADER_BYTES 112
#define L1_MAX_ENTRIES ((uint32_t)(32 * MiB / 8))
#define REFCOUNT_TABLE_MAX ((int64_t)8 * MiB)

enum {
    INCOMPATIBLE_DIRTY = 1,
    INCOMPATIBLE_CORRUPT = 2,
    INCOMPATIBLE_DATA_FILE = 4,
    INCOMPATIBLE_COMPRESSION = 8,
    INCOMPATIBLE_EXTENDED_L2 = 16,
    INCOMPATIBLE_KNOWN = 31,
    AUTOCLEAR_BITMAPS = 1,
    AUTOCLEAR_RAW = 2,
};

bool qcow2_source_is_image(struct qcow2_source file)
{
    uint8_t magic[4];

    qcow2_read_bytes(&file, 0, sizeof(magic), magic);
    return qcow2_be32(magic) == MAGIC;
}

static void read_version3(struct qcow2_image *image, const uint8_t *header)
{
    image->header_length = 72;
    image->refcount_order = 4;
    if (image->version < 3) {
        return;
    }
    image->incompatible = qcow2_be64(header + 72);
    image->compatible = qcow2_be64(header + 80);
    image->autoclear = qcow2_be64(header + 88);
    image->refcount_order = qcow2_be32(header + 96);
    image->header_length = qcow2_be32(header + 100);
    image->compression = image->header_length > 104 ? header[104] : 0;
    image->dirty = (image->incompatible & INCOMPATIBLE_DIRTY) != 0;
    image->corrupt = (image->incompatible & INCOMPATIBLE_CORRUPT) != 0;
    image->external_data = (image->incompatible & INCOMPATIBLE_DATA_FILE) != 0;
    image->extended_l2 = (image->incompatible & INCOMPATIBLE_EXTENDED_L2) != 0;
    image->lazy_refcounts = (image->compatible & 1) != 0;
}

static void check_features(struct qcow2_image *image)
{
    bool compression_bit = (image->incompatible & INCOMPATIBLE_COMPRESSION) != 0;

    if (image->version >= 3 && image->header_length < 104) {
        qcow2_fail(image, "the header is too short: %u", image->header_length);
    } else if (image->header_length > image->cluster_bytes) {
        qcow2_fail(image, "the header is longer than a cluster: %u", image->header_length);
    } else if (image->incompatible & ~(uint64_t)INCOMPATIBLE_KNOWN) {
        qcow2_fail(image, "unknown incompatible features: %#" PRIx64, image->incompatible);
    } else if (compression_bit != (image->compression != 0)) {
        qcow2_fail(image, "compression type %u does not fit its feature bit", image->compression);
    } else if (image->compression > 1) {
        qcow2_fail(image, "unknown compression type %u", image->compression);
    } else if (image->refcount_order > 6) {
        qcow2_fail(image, "refcount order %u", image->refcount_order);
    } else if (image->extended_l2 && image->cluster_bits < 14) {
        qcow2_fail(image, "extended L2 entries with clusters of 2^%u", image->cluster_bits);
    } else if ((image->autoclear & AUTOCLEAR_RAW) && !image->external_data) {
        qcow2_fail(image, "raw data without a data file");
    }
}

/* A table may lie beyond the end of the file (it reads as zeroes), but not beyond numbers. */
static bool table_fits(const struct qcow2_image *image, uint64_t offset, uint64_t bytes)
{
    return offset % (uint64_t)image->cluster_bytes == 0 && offset <= (uint64_t)INT64_MAX - bytes;
}

static void check_tables(struct qcow2_image *image)
{
    int64_t per_l1 = image->cluster_bytes * qcow2_l2_entries(image);
    int64_t table_bytes = image->refcount_table_clusters * image->cluster_bytes;

    if (image->refcount_table_clusters == 0) {
        qcow2_fail(image, "no refcount table");
    } else if (table_bytes > REFCOUNT_TABLE_MAX) {
        qcow2_fail(image, "the refcount table is too large: %u clusters", image->refcount_table_clusters);
    } else if (!table_fits(image, (uint64_t)image->refcount_table_offset, (uint64_t)table_bytes)) {
        qcow2_fail(image, "the refcount table cannot be at %#" PRIx64, (uint64_t)image->refcount_table_offset);
    } else if (image->l1_size > L1_MAX_ENTRIES) {
        qcow2_fail(image, "the L1 table is too large: %u entries", image->l1_size);
    } else if (!table_fits(image, (uint64_t)image->l1_offset, (uint64_t)image->l1_size * 8)) {
        qcow2_fail(image, "the L1 table cannot be at %#" PRIx64, (uint64_t)image->l1_offset);
    } else if (image->size < 0 || DIV_ROUND_UP(image->size, per_l1) > image->l1_size) {
        qcow2_fail(image, "the L1 table of %u entries is too small for %" PRId64 " bytes", image->l1_size,
                   image->size);
    }
}

static void read_header(struct qcow2_image *image, uint32_t *snapshots, uint64_t *snapshot_offset)
{
    uint8_t header[HEADER_BYTES];

    qcow2_read_bytes(&image->file, 0, sizeof(header), header);
    image->version = qcow2_be32(header + 4);
    image->cluster_bits = qcow2_be32(header + 20);
    if (qcow2_be32(header) != MAGIC) {
        qcow2_fail(image, "no qcow2 magic");
    } else if (image->version < 2 || image->version > 3) {
        qcow2_fail(image, "version %u", image->version);
    } else if (image->cluster_bits < 9 || image->cluster_bits > 21) {
        qcow2_fail(image, "clusters of 2^%u bytes", image->cluster_bits);
    } else if (qcow2_be32(header + 32) != 0) {
        qcow2_fail(image, "encryption method %u", qcow2_be32(header + 32));
    }
    if (image->error[0]) {
        return;
    }
    image->cluster_bytes = (int64_t)1 << image->cluster_bits;
    image->work->backing_offset = qcow2_be64(header + 8);
    image->work->backing_bytes = qcow2_be32(header + 16);
    image->size = (int64_t)(qcow2_be64(header + 24) & ~UINT64_C(511));
    image->l1_size = qcow2_be32(header + 36);
    image->l1_offset = (int64_t)qcow2_be64(header + 40);
    image->refcount_table_offset = (int64_t)qcow2_be64(header + 48);
    image->refcount_table_clusters = qcow2_be32(header + 56);
    *snapshots = qcow2_be32(header + 60);
    *snapshot_offset = qcow2_be64(header + 64);
    read_version3(image, header);
    check_features(image);
    check_tables(image);
    if (*snapshots > 65536) {
        qcow2_fail(image, "%u snapshots", *snapshots);
    } else if (*snapshots && !table_fits(image, *snapshot_offset, 64 * MiB)) {
        qcow2_fail(image, "the snapshot table cannot be at %#" PRIx64, *snapshot_offset);
    }
}

static void read_backing(struct qcow2_image *image)
{
    uint64_t offset = image->work->backing_offset;
    uint32_t bytes = image->work->backing_bytes;

    if (offset > (uint64_t)image->cluster_bytes) {
        qcow2_fail(image, "the name of the backing file cannot be at %#" PRIx64, offset);
    } else if (offset && (bytes > 1023 || bytes > (uint64_t)image->cluster_bytes - offset)) {
        qcow2_fail(image, "the name of the backing file is too long: %u", bytes);
    } else if (offset && bytes) {
        image->backing_file = qcow2_text(&image->file, (int64_t)offset, bytes);
    }
}

/* --- header extensions ------------------------------------------------------------------------------------ */

static void read_bitmap_extension(struct qcow2_image *image, int64_t at, uint32_t bytes)
{
    uint8_t data[24];

    if (!(image->autoclear & AUTOCLEAR_BITMAPS)) {
        return;
    }
    qcow2_read_bytes(&image->file, at, sizeof(data), data);
    uint32_t expected = qcow2_be32(data);
    uint64_t size = qcow2_be64(data + 8);
    uint64_t offset = qcow2_be64(data + 16);
    if (bytes != 24 || qcow2_be32(data + 4) != 0 || expected == 0 || expected > 65535 || size == 0 ||
        size > 1024 * UINT64_C(65535) || !table_fits(image, offset, size)) {
        qcow2_found(image, QCOW2_FOUND_BITMAPS, at,
                    "a bitmap extension of %u bytes: %u bitmaps, directory of %" PRIu64 " at %#" PRIx64, bytes,
                    expected, size, offset);
        return;
    }
    image->work->bitmap_expected = expected;
    image->work->bitmap_directory_bytes = size;
    image->work->bitmap_directory_offset = (int64_t)offset;
    image->has_bitmaps = true;
}

static void read_extension(struct qcow2_image *image, uint32_t type, int64_t at, uint32_t bytes)
{
    uint8_t pointer[16];

    switch (type) {
    case UINT32_C(0xe2792aca):
        if (!image->backing_format) {
            image->backing_format = qcow2_text(&image->file, at, bytes);
        }
        return;
    case UINT32_C(0x44415441):
        if (!image->data_file) {
            image->data_file = qcow2_text(&image->file, at, bytes);
        }
        return;
    case UINT32_C(0x23852875):
        read_bitmap_extension(image, at, bytes);
        return;
    case UINT32_C(0x0537be77):
        qcow2_read_bytes(&image->file, at, sizeof(pointer), pointer);
        image->work->crypto_offset = (int64_t)qcow2_be64(pointer);
        image->work->crypto_bytes = (int64_t)qcow2_be64(pointer + 8);
        return;
    default:
        return; /* feature names, and what somebody else put there */
    }
}

static void read_extensions(struct qcow2_image *image)
{
    int64_t end = image->work->backing_offset ? (int64_t)image->work->backing_offset : image->cluster_bytes;
    int64_t at = image->header_length;

    while (image->error[0] == '\0' && at < end) {
        uint8_t head[8];

        qcow2_read_bytes(&image->file, at, sizeof(head), head);
        uint32_t type = qcow2_be32(head);
        uint32_t bytes = qcow2_be32(head + 4);
        at += 8;
        if (type == 0 || at > end) {
            return;
        }
        if (bytes > end - at) {
            qcow2_fail(image, "header extension %08x of %u bytes does not fit in", type, bytes);
            return;
        }
        read_extension(image, type, at, bytes);
        at += ROUND_UP((int64_t)bytes, 8);
    }
}

/* --- the whole -------------------------------------------------------------------------------------------- */

struct qcow2_image *qcow2_image_read(struct qcow2_source file)
{
    struct qcow2_image *image = qcow2_image_alloc(1, sizeof(*image));
    struct qcow2_image_work *work = qcow2_image_alloc(1, sizeof(*work));
    uint32_t snapshots = 0;
    uint64_t snapshot_offset = 0;

    SIM_ASSERT(file.peek != NULL && file.length >= 0);
    image->file = file;
    image->work = work;
    work->budget = QCOW2_IMAGE_WORK;
    work->block_offset = work->l2_offset = work->cluster_of = -1;
    read_header(image, &snapshots, &snapshot_offset);
    if (image->error[0] == '\0') {
        read_backing(image);
        read_extensions(image);
    }
    if (image->error[0] == '\0') {
        work->block = qcow2_image_alloc((size_t)image->cluster_bytes, 1);
        work->l2 = qcow2_image_alloc((size_t)image->cluster_bytes, 1);
        work->cluster = qcow2_image_alloc((size_t)image->cluster_bytes, 1);
        image->l1 = qcow2_image_alloc(image->l1_size, sizeof(*image->l1));
        qcow2_read_words(&image->file, image->l1_offset, image->l1_size, image->l1);
        qcow2_image_read_snapshots(image, snapshots, (int64_t)snapshot_offset);
    }
    if (image->error[0] == '\0') {
        qcow2_read_bitmaps(image);
        qcow2_compare_counts(image);
    }
    return image;
}

void qcow2_image_set_data(struct qcow2_image *image, struct qcow2_source data)
{
    SIM_ASSERT(image->external_data);
    image->data = data;
}

void qcow2_image_free(struct qcow2_image *image)
{
    if (!image) {
        return;
    }
    for (uint32_t i = 0; i < image->snapshot_count; i++) {
        free(image->snapshot[i].id);
        free(image->snapshot[i].name);
        free(image->snapshot[i].l1);
    }
    for (uint32_t i = 0; i < image->bitmap_count; i++) {
        free(image->bitmap[i].name);
        free(image->bitmap[i].table);
    }
    free(image->snapshot);
    free(image->bitmap);
    free(image->backing_file);
    free(image->backing_format);
    free(image->data_file);
    free(image->l1);
    free(image->work->ref);
    free(image->work->slot);
    free(image->work->refblocks);
    free(image->work->block);
    free(image->work->l2);
    free(image->work->cluster);
    free(image->work->inflated);
    free(image->work);
    free(image);
}
