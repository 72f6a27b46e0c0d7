/*
 * The bits of stored bitmaps (1.6, 4.1): a table of clusters, each a piece of the bit string, bit 0 first.
 */
#include "check/qcow2_int.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

const struct qcow2_image_bitmap *qcow2_image_bitmap_find(const struct qcow2_image *image, const char *name)
{
    for (uint32_t i = 0; i < image->bitmap_count; i++) {
        if (strcmp(image->bitmap[i].name, name) == 0) {
            return &image->bitmap[i];
        }
    }
    return NULL;
}

/* What entry i of the table says: its cluster as stored, or one byte for all of it. */
static const uint8_t *piece(struct qcow2_image *image, const struct qcow2_image_bitmap *b, int64_t i, uint8_t *fill)
{
    uint64_t entry;
    int64_t offset;

    *fill = 0;
    if (!b->table || i >= b->table_size) {
        return NULL;
    }
    entry = b->table[i];
    offset = (int64_t)(entry & ENTRY_OFFSET);
    if (offset == 0) {
        *fill = (entry & 1) ? 0xff : 0;
        return NULL;
    }
    if (image->work->cluster_of != offset) {
        qcow2_read_bytes(&image->file, offset, image->cluster_bytes, image->work->cluster);
        image->work->cluster_of = offset;
    }
    return image->work->cluster;
}

/* Byte i of the bit string, without bits that do not exist. */
static uint8_t byte_at(struct qcow2_image *image, const struct qcow2_image_bitmap *b, int64_t i)
{
    uint8_t fill;
    const uint8_t *data = piece(image, b, i / image->cluster_bytes, &fill);
    uint8_t byte = data ? data[i % image->cluster_bytes] : fill;
    int64_t left = b->bits - i * 8;

    if (b->in_use || left <= 0) {
        return 0;
    }
    return left >= 8 ? byte : (uint8_t)(byte & ((1u << left) - 1));
}

static bool all_zero(const uint8_t *bytes, int64_t count)
{
    return count == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, (size_t)count - 1) == 0);
}

bool qcow2_bitmap_tail_is_set(struct qcow2_image *image, const struct qcow2_image_bitmap *b)
{
    int64_t first = b->bits / 8; /* the first byte with bits that do not exist */

    for (uint32_t i = (uint32_t)(first / image->cluster_bytes); i < b->table_size; i++) {
        uint8_t fill;
        const uint8_t *data = piece(image, b, i, &fill);
        int64_t at = MAX(first - (int64_t)i * image->cluster_bytes, 0);

        if (i == first / image->cluster_bytes) { /* the byte that has bits of both kinds */
            if ((data ? data[at] : fill) >> (b->bits % 8)) {
                return true;
            }
            at++;
        }
        if (at < image->cluster_bytes && (data ? !all_zero(data + at, image->cluster_bytes - at) : fill != 0)) {
            return true;
        }
    }
    return false;
}

/* The first bit at or after `from` that is `set`, or b->bits. */
static int64_t find(struct qcow2_image *image, const struct qcow2_image_bitmap *b, int64_t from, bool set)
{
    int64_t per_cluster = image->cluster_bytes * 8;

    while (from < b->bits) {
        uint8_t fill;
        int64_t in_cluster = from / per_cluster;
        const uint8_t *data = piece(image, b, in_cluster, &fill);

        if (!data && (fill != 0) != set) {
            from = (in_cluster + 1) * per_cluster;
            continue;
        }
        uint8_t byte = byte_at(image, b, from / 8);
        uint8_t wanted = (uint8_t)((set ? byte : ~byte) & (0xff << (from % 8)));
        if (wanted) {
            return MIN(from / 8 * 8 + __builtin_ctz(wanted), b->bits);
        }
        from = (from / 8 + 1) * 8;
    }
    return b->bits;
}

bool qcow2_image_bitmap_next(struct qcow2_image *image, const struct qcow2_image_bitmap *bitmap, int64_t from,
                             int64_t *first, int64_t *end)
{
    SIM_ASSERT(from >= 0);
    if (bitmap->in_use || !bitmap->table) {
        return false;
    }
    *first = find(image, bitmap, from, true);
    if (*first >= bitmap->bits) {
        return false;
    }
    *end = find(image, bitmap, *first + 1, false);
    return true;
}

int64_t qcow2_image_bitmap_count(struct qcow2_image *image, const struct qcow2_image_bitmap *bitmap)
{
    int64_t bits = 0;
    int64_t first;
    int64_t end = 0;

    while (qcow2_image_bitmap_next(image, bitmap, end, &first, &end)) {
        bits += end - first;
    }
    return bits << bitmap->granularity_bits;
}

void qcow2_hex(const uint8_t *digest, char hex[QCOW2_SHA256_HEX])
{
    for (int i = 0; i < 32; i++) {
        snprintf(hex + (size_t)i * 2, 3, "%02x", digest[i]);
    }
}

void qcow2_image_bitmap_sha256(struct qcow2_image *image, const struct qcow2_image_bitmap *bitmap,
                               char hex[QCOW2_SHA256_HEX])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int64_t bytes = MAX(DIV_ROUND_UP(bitmap->bits, 64), 1) * 8;
    uint8_t digest[32];
    uint8_t buf[4096];

    SIM_ASSERT(ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1);
    for (int64_t at = 0; at < bytes;) {
        int64_t count = MIN(bytes - at, (int64_t)sizeof(buf));

        for (int64_t i = 0; i < count; i++) {
            buf[i] = byte_at(image, bitmap, at + i);
        }
        EVP_DigestUpdate(ctx, buf, (size_t)count);
        at += count;
    }
    EVP_DigestFinal_ex(ctx, digest, NULL);
    EVP_MD_CTX_free(ctx);
    qcow2_hex(digest, hex);
}
