/*
 * What a guest reads from an image: the active layer or a snapshot, with whatever lies below (5.2).
 */
#include "check/qcow2_int.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

/* --- compressed clusters ---------------------------------------------------------------------------------- */

void qcow2_compressed_span(const struct qcow2_image *image, uint64_t entry, int64_t *offset, int64_t *bytes)
{
    unsigned x = 62 - (image->cluster_bits - 8);
    uint64_t sectors = (entry & ~(ENTRY_COPIED | ENTRY_COMPRESSED)) >> x; /* beside the first one */

    *offset = (int64_t)(entry & ((UINT64_C(1) << x) - 1));
    *bytes = (int64_t)(sectors + 1) * 512 - *offset % 512;
}

static bool inflate_cluster(const uint8_t *stream, size_t stream_bytes, uint8_t *cluster, size_t cluster_bytes)
{
    z_stream z = {.next_in = (Bytef *)stream,
                  .avail_in = (uInt)stream_bytes,
                  .next_out = cluster,
                  .avail_out = (uInt)cluster_bytes};

    if (inflateInit2(&z, -12) != Z_OK) {
        return false;
    }
    int ret = inflate(&z, Z_FINISH);
    bool full = (ret == Z_STREAM_END || ret == Z_BUF_ERROR || ret == Z_OK) && z.avail_out == 0;
    inflateEnd(&z);
    return full;
}

static bool unzstd_cluster(const uint8_t *stream, size_t stream_bytes, uint8_t *cluster, size_t cluster_bytes)
{
    ZSTD_DCtx *ctx = ZSTD_createDCtx();
    ZSTD_inBuffer in = {stream, stream_bytes, 0};
    ZSTD_outBuffer out = {cluster, cluster_bytes, 0};

    SIM_ASSERT(ctx != NULL);
    while (out.pos < out.size) {
        size_t before = in.pos + out.pos;
        size_t ret = ZSTD_decompressStream(ctx, &out, &in);

        /* no step forward, or the frame ends too early */
        if (ZSTD_isError(ret) || in.pos + out.pos == before || (ret == 0 && out.pos < out.size)) {
            break;
        }
    }
    ZSTD_freeDCtx(ctx);
    return out.pos == out.size;
}

bool qcow2_image_decompress(const struct qcow2_image *image, uint64_t entry, uint8_t *cluster)
{
    int64_t offset;
    int64_t bytes;
    bool ok;

    qcow2_compressed_span(image, entry, &offset, &bytes);
    SIM_ASSERT(bytes > 0 && bytes <= 2 * image->cluster_bytes);
    uint8_t *stream = qcow2_image_alloc((size_t)bytes, 1);
    qcow2_read_bytes(&image->file, offset, bytes, stream);
    ok = (image->compression ? unzstd_cluster : inflate_cluster)(stream, (size_t)bytes, cluster,
                                                                 (size_t)image->cluster_bytes);
    free(stream);
    return ok;
}

/* --- finding a cluster ------------------------------------------------------------------------------------ */

const uint64_t *qcow2_l2_table(struct qcow2_image *image, int64_t offset)
{
    if (image->work->l2_offset != offset) {
        qcow2_read_words(&image->file, offset, image->cluster_bytes / 8, image->work->l2);
        image->work->l2_offset = offset;
    }
    return image->work->l2;
}

struct layer {
    const uint64_t *l1;
    uint32_t l1_size;
    int64_t size;
};

static struct layer layer_of(const struct qcow2_image *image, int snapshot)
{
    SIM_ASSERT(image->error[0] == '\0' && snapshot >= QCOW2_ACTIVE && snapshot < (int)image->snapshot_count);
    if (snapshot == QCOW2_ACTIVE) {
        return (struct layer){image->l1, image->l1_size, image->size};
    }
    const struct qcow2_image_snapshot *s = &image->snapshot[snapshot];
    return (struct layer){s->l1, s->l1 ? s->l1_size : 0, s->disk_size};
}

enum piece_kind { PIECE_BELOW, PIECE_ZERO, PIECE_DATA, PIECE_COMPRESSED, PIECE_BAD };

/* Up to `bytes` from a guest offset that are of one kind and, if data, one run of the host. */
struct piece {
    enum piece_kind kind;
    uint64_t entry;
    int64_t host; /* of its first byte */
    int64_t bytes;
};

/* A contradiction anywhere in the words makes the whole cluster unreadable. */
static enum piece_kind kind_of_subcluster(uint64_t subclusters, int64_t i, bool allocated)
{
    uint32_t alloc = (uint32_t)subclusters;
    uint32_t zero = (uint32_t)(subclusters >> 32);

    if ((alloc & zero) || (alloc && !allocated)) {
        return PIECE_BAD;
    }
    if (alloc >> i & 1) {
        return PIECE_DATA;
    }
    return zero >> i & 1 ? PIECE_ZERO : PIECE_BELOW;
}

/* What an entry says of the byte at `in_cluster` and those that follow it. */
static struct piece classify(const struct qcow2_image *image, const uint64_t *words, int64_t in_cluster)
{
    uint64_t entry = words[0];
    int64_t offset = (int64_t)(entry & ENTRY_OFFSET);
    bool allocated = offset || (image->external_data && (entry & ENTRY_COPIED));
    struct piece piece = {.entry = entry, .host = offset + in_cluster, .bytes = image->cluster_bytes - in_cluster};

    if (entry & ENTRY_COMPRESSED) {
        piece.kind = PIECE_COMPRESSED;
        return piece;
    }
    if (offset % image->cluster_bytes) {
        piece.kind = PIECE_BAD;
    } else if (image->extended_l2) {
        int64_t unit = image->cluster_bytes / 32;
        int64_t i = in_cluster / unit;

        piece.kind = kind_of_subcluster(words[1], i, allocated);
        piece.bytes = (i + 1) * unit - in_cluster;
        while (++i < 32 && kind_of_subcluster(words[1], i, allocated) == piece.kind) {
            piece.bytes += unit;
        }
    } else if (entry & ENTRY_ZERO) {
        piece.kind = image->version >= 3 ? PIECE_ZERO : PIECE_BAD;
    } else {
        piece.kind = allocated ? PIECE_DATA : PIECE_BELOW;
    }
    return piece;
}

/* A data file has everything at the guest's offset, and nothing compressed. */
static bool misplaced(const struct piece *piece, int64_t offset)
{
    bool allocated = (piece->entry & (ENTRY_OFFSET | ENTRY_COPIED)) != 0;

    return (piece->entry & ENTRY_COMPRESSED) || (allocated && piece->host != offset);
}

static struct piece piece_at(struct qcow2_image *image, const struct layer *layer, int64_t offset, int64_t bytes)
{
    uint32_t entries = qcow2_l2_entries(image);
    int64_t cluster = offset / image->cluster_bytes;
    int64_t l1_index = cluster / entries;
    uint64_t l1 = l1_index < layer->l1_size ? layer->l1[l1_index] : 0;
    int64_t l2 = (int64_t)(l1 & ENTRY_OFFSET);
    struct piece piece;

    if (l2 == 0 || l2 % image->cluster_bytes) {
        int64_t end = (l1_index + 1) * entries;

        piece = (struct piece){.kind = l2 ? PIECE_BAD : PIECE_BELOW};
        piece.bytes = end <= INT64_MAX / image->cluster_bytes ? end * image->cluster_bytes - offset : bytes;
    } else {
        const uint64_t *table = qcow2_l2_table(image, l2);
        int64_t i = cluster % entries * (image->extended_l2 ? 2 : 1);

        piece = classify(image, &table[i], offset % image->cluster_bytes);
        if (image->external_data && misplaced(&piece, offset)) {
            piece.kind = PIECE_BAD;
        }
    }
    piece.bytes = MIN(piece.bytes, bytes);
    return piece;
}

/* --- views ------------------------------------------------------------------------------------------------ */

/* Kept until another is asked for: views are read in pieces. */
static bool append_compressed(struct qcow2_image *image, const struct piece *piece, int64_t offset,
                              struct payload *out)
{
    struct qcow2_image_work *work = image->work;

    if (!work->inflated || work->inflated_entry != piece->entry) {
        work->inflated = work->inflated ? work->inflated : qcow2_image_alloc((size_t)image->cluster_bytes, 1);
        work->inflated_entry = piece->entry;
        work->inflated_ok = qcow2_image_decompress(image, piece->entry, work->inflated);
    }
    if (work->inflated_ok) {
        payload_append_bytes(out, work->inflated + offset % image->cluster_bytes, piece->bytes);
    } else {
        payload_append_zero(out, piece->bytes);
    }
    return work->inflated_ok;
}

/* From the file, or from the external data file. */
static bool append_data(const struct qcow2_image *image, const struct piece *piece, struct payload *out)
{
    const struct qcow2_source *source = image->external_data ? &image->data : &image->file;
    int64_t there = source->peek ? MAX(MIN(piece->bytes, source->length - piece->host), 0) : 0;

    if (there > 0) {
        source->peek(source->opaque, piece->host, there, out);
    }
    if (there < piece->bytes) {
        payload_append_zero(out, piece->bytes - there);
    }
    return source->peek != NULL;
}

static bool append_piece(struct qcow2_image *image, const struct piece *piece, int64_t offset,
                         qcow2_below_fn *below, void *opaque, struct payload *out)
{
    switch (piece->kind) {
    case PIECE_BELOW:
        if (below) {
            below(opaque, offset, piece->bytes, out);
            return true;
        }
        break;
    case PIECE_DATA:
        return append_data(image, piece, out);
    case PIECE_COMPRESSED:
        return append_compressed(image, piece, offset, out);
    case PIECE_ZERO:
    case PIECE_BAD:
        break;
    }
    payload_append_zero(out, piece->bytes);
    return piece->kind != PIECE_BAD;
}

bool qcow2_image_view(struct qcow2_image *image, int snapshot, int64_t offset, int64_t bytes, qcow2_below_fn *below,
                      void *opaque, struct payload *out)
{
    struct layer layer = layer_of(image, snapshot);
    bool ok = true;

    SIM_ASSERT(offset >= 0 && bytes >= 0);
    while (bytes > 0 && offset < layer.size) {
        struct piece piece = piece_at(image, &layer, offset, MIN(bytes, layer.size - offset));

        SIM_ASSERT(piece.bytes > 0);
        ok &= append_piece(image, &piece, offset, below, opaque, out);
        offset += piece.bytes;
        bytes -= piece.bytes;
    }
    if (bytes > 0) {
        payload_append_zero(out, bytes);
    }
    return ok;
}

bool qcow2_image_is_allocated(struct qcow2_image *image, int snapshot, int64_t offset, int64_t bytes, int64_t *pnum)
{
    struct layer layer = layer_of(image, snapshot);
    int64_t start = offset;
    bool allocated = false;

    SIM_ASSERT(offset >= 0 && bytes > 0);
    while (bytes > 0) {
        struct piece piece = piece_at(image, &layer, offset, bytes);

        if (offset == start) {
            allocated = piece.kind != PIECE_BELOW;
        } else if (allocated != (piece.kind != PIECE_BELOW)) {
            break;
        }
        offset += piece.bytes;
        bytes -= piece.bytes;
    }
    *pnum = offset - start;
    return allocated;
}
