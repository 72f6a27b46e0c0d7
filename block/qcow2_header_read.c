/*
 * The fields of a qcow2 header: their places, and the checks of an open (reference/bitmaps-qcow2.md 5.1,
 * vectors/malformed.tsv). All that can be wrong is found before anything is written.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "block/qcow2_open.h"

#define FIELD(at, bytes, name) \
    { \
        at, bytes, offsetof(struct qcow2_header, name) \
    }

static const struct {
    unsigned at;
    unsigned bytes;
    size_t member;
} fields[] = {
    FIELD(4, 4, version),
    FIELD(8, 8, backing_file_offset),
    FIELD(16, 4, backing_file_size),
    FIELD(20, 4, cluster_bits),
    FIELD(24, 8, size),
    FIELD(32, 4, crypt_method),
    FIELD(36, 4, l1_size),
    FIELD(40, 8, l1_table_offset),
    FIELD(48, 8, refcount_table_offset),
    FIELD(56, 4, refcount_table_clusters),
    FIELD(60, 4, nb_snapshots),
    FIELD(64, 8, snapshots_offset),
    FIELD(72, 8, incompatible_features),
    FIELD(80, 8, compatible_features),
    FIELD(88, 8, autoclear_features),
    FIELD(96, 4, refcount_order),
    FIELD(100, 4, header_length),
    FIELD(104, 1, compression_type),
};

void qcow2_header_decode(const uint8_t *bytes, struct qcow2_header *h)
{
    bool v3 = bytes[7] >= 3;

    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        uint64_t value = 0;
        for (unsigned b = 0; b < fields[i].bytes && (v3 || fields[i].at < QCOW2_HEADER_V2_BYTES); b++) {
            value = value << 8 | bytes[fields[i].at + b];
        }
        *(uint64_t *)((char *)h + fields[i].member) = value;
    }
    if (!v3) {
        h->refcount_order = 4;
        h->header_length = QCOW2_HEADER_V2_BYTES;
    } else if (h->header_length <= QCOW2_HEADER_V3_BYTES) {
        h->compression_type = QCOW2_COMPRESSION_ZLIB; /* there is no such field */
    }
}

void qcow2_header_encode(const struct qcow2_header *h, uint8_t *bytes)
{
    static const uint8_t magic[4] = {'Q', 'F', 'I', 0xfb};

    memcpy(bytes, magic, sizeof(magic));
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        uint64_t value = *(const uint64_t *)((const char *)h + fields[i].member);
        for (unsigned b = fields[i].bytes; b > 0 && fields[i].at < h->header_length; b--) {
            bytes[fields[i].at + b - 1] = (uint8_t)value;
            value >>= 8;
        }
    }
}

/* --- checks ----------------------------------------------------------------------------------------------- */

static int check_shape(const uint8_t *bytes, const struct qcow2_header *h, Error **errp)
{
    if (bytes[0] != 'Q' || bytes[1] != 'F' || bytes[2] != 'I' || bytes[3] != 0xfb) {
        error_setg(errp, "Image is not in qcow2 format");
        return -EINVAL;
    }
    if (h->version < 2 || h->version > 3) {
        error_setg(errp, "Unsupported qcow2 version %" PRIu64, h->version);
        return -ENOTSUP;
    }
    if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS) {
        error_setg(errp, "Unsupported cluster size: 2^%" PRIu64, h->cluster_bits);
        return -EINVAL;
    }
    if (h->version == 3 && h->header_length < QCOW2_HEADER_V3_BYTES) {
        error_setg(errp, "qcow2 header too short");
        return -EINVAL;
    }
    if (h->header_length > 1ULL << h->cluster_bits) {
        error_setg(errp, "qcow2 header exceeds cluster size");
        return -EINVAL;
    }
    if (h->backing_file_offset > 1ULL << h->cluster_bits) {
        error_setg(errp, "Invalid backing file offset");
        return -EINVAL;
    }
    return 0;
}

static int check_compression(const struct qcow2_header *h, Error **errp)
{
    bool bit = (h->incompatible_features & QCOW2_INCOMPAT_COMPRESSION) != 0;

    if (h->compression_type > QCOW2_COMPRESSION_ZSTD) {
        error_setg(errp, "qcow2: unknown compression type: %" PRIu64, h->compression_type);
        return -ENOTSUP;
    }
    if (bit != (h->compression_type != QCOW2_COMPRESSION_ZLIB)) {
        error_setg(errp, "qcow2: Compression type incompatible feature bit must %sbe set", bit ? "not " : "");
        return -EINVAL;
    }
    return 0;
}

static int check_features(const BlockDriverState *bs, const struct qcow2_header *h, Error **errp)
{
    if ((h->incompatible_features & QCOW2_INCOMPAT_CORRUPT) && !bdrv_is_read_only(bs) &&
        !(bs->open_flags & BDRV_O_CHECK)) {
        error_setg(errp, "qcow2: Image is corrupt; cannot be opened read/write");
        return -EACCES;
    }
    int ret = check_compression(h, errp);
    if (ret < 0) {
        return ret;
    }
    if ((h->incompatible_features & QCOW2_INCOMPAT_EXTL2) &&
        1LL << h->cluster_bits < QCOW2_MIN_EXTL2_CLUSTER_SIZE) {
        error_setg(errp, "Unsupported subcluster size: %u", 1u << (h->cluster_bits - 5));
        return -EINVAL;
    }
    if (h->refcount_order > 6) {
        error_setg(errp, "Reference count entry width too large; may not exceed 64 bits");
        return -EINVAL;
    }
    if (h->crypt_method > 2) {
        error_setg(errp, "Unsupported encryption method %" PRIu64, h->crypt_method);
        return -EINVAL;
    }
    if (h->crypt_method == 1) {
        error_setg(errp, "Use of AES-CBC encrypted qcow2 images is not supported");
        return -ENOSYS;
    }
    return 0;
}

static int check_table(const struct qcow2_header *h, const char *what, uint64_t offset, uint64_t bytes,
                       uint64_t most, Error **errp)
{
    if (bytes > most) {
        error_setg(errp, "%s too large", what);
        return -EFBIG;
    }
    if (offset > (uint64_t)INT64_MAX - bytes || offset % (1ULL << h->cluster_bits) != 0) {
        error_setg(errp, "%s offset invalid", what);
        return -EINVAL;
    }
    return 0;
}

static int check_tables(const BlockDriverState *bs, const struct qcow2_header *h, Error **errp)
{
    if (h->refcount_table_clusters == 0 && !(bs->open_flags & BDRV_O_CHECK)) {
        error_setg(errp, "Image does not contain a reference count table");
        return -EINVAL;
    }
    int ret = check_table(h, "Reference count table", h->refcount_table_offset,
                          h->refcount_table_clusters << h->cluster_bits, QCOW2_MAX_REFTABLE_BYTES, errp);
    if (ret == 0 && h->nb_snapshots > 0) { /* an entry has at least 40 bytes; without any the field means nothing */
        ret = check_table(h, "Snapshot table", h->snapshots_offset, h->nb_snapshots * 40,
                          (uint64_t)QCOW2_MAX_SNAPSHOTS * 40, errp);
    }
    if (ret == 0) {
        ret = check_table(h, "Active L1 table", h->l1_table_offset, h->l1_size * 8, QCOW2_MAX_L1_BYTES, errp);
    }
    return ret;
}

static int check_size(const BDRVQcow2State *s, const struct qcow2_header *h, Error **errp)
{
    uint64_t needed = size_to_l1(s, h->size);

    if (needed > INT_MAX) {
        error_setg(errp, "Image is too big");
        return -EFBIG;
    }
    if (h->l1_size < needed) {
        error_setg(errp, "L1 table is too small");
        return -EINVAL;
    }
    return 0;
}

/* --- into the state ------------------------------------------------------------------------------------------- */

static void set_geometry(BDRVQcow2State *s, const struct qcow2_header *h)
{
    s->qcow_version = (unsigned)h->version;
    s->cluster_bits = (unsigned)h->cluster_bits;
    s->cluster_size = 1LL << s->cluster_bits;
    s->incompatible_features = h->incompatible_features;
    s->compatible_features = h->compatible_features;
    s->autoclear_features = h->autoclear_features;
    s->crypt_method_header = (uint32_t)h->crypt_method;
    s->compression_type = (unsigned)h->compression_type;

    s->l2_entry_size = has_subclusters(s) ? 16 : 8;
    s->l2_bits = s->cluster_bits - (has_subclusters(s) ? 4 : 3);
    s->subclusters_per_cluster = has_subclusters(s) ? 32 : 1;
    s->subcluster_bits = s->cluster_bits - (has_subclusters(s) ? 5 : 0);
    s->subcluster_size = 1LL << s->subcluster_bits;

    s->refcount_order = (unsigned)h->refcount_order;
    s->refcount_bits = 1u << s->refcount_order;
    s->refcount_max = UINT64_MAX >> (64 - s->refcount_bits);
    s->refcount_block_bits = s->cluster_bits + 3 - s->refcount_order;

    s->csize_shift = 62 - ((int)s->cluster_bits - 8);
    s->csize_mask = (1ULL << (s->cluster_bits - 8)) - 1;
    s->cluster_offset_mask = (1ULL << s->csize_shift) - 1;
}

static void set_tables(BDRVQcow2State *s, const struct qcow2_header *h)
{
    s->l1_size = (uint32_t)h->l1_size;
    s->l1_table_offset = (int64_t)h->l1_table_offset;
    s->l1_vm_state_index = (uint32_t)size_to_l1(s, h->size);
    s->header_length_bytes = (int64_t)ROUND_DOWN(h->size, (uint64_t)SIM_SECTOR_BYTES);
    s->refcount_table_offset = (int64_t)h->refcount_table_offset;
    s->refcount_table_size = (uint32_t)(h->refcount_table_clusters << (h->cluster_bits - 3));
    s->nb_snapshots = (uint32_t)h->nb_snapshots;
    s->snapshots_offset = h->nb_snapshots > 0 ? (int64_t)h->snapshots_offset : 0;
}

/* --- the first cluster ---------------------------------------------------------------------------------------- */

struct first_cluster {
    uint8_t *bytes;
    size_t count;
};

static int read_more(BlockDriverState *bs, struct first_cluster *first, size_t count, Error **errp)
{
    if (count <= first->count) {
        return 0;
    }
    qcow2_free(bs, first->bytes, first->count);
    first->bytes = qcow2_alloc(bs, count);
    first->count = count;
    int ret = qcow2_pread(bs, 0, (int64_t)count, first->bytes);
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not read qcow2 header");
    }
    return ret;
}

/* Last: an image that is taken back in vain names below it what it did before. */
static int load_names(BlockDriverState *bs, const struct qcow2_header *h, const uint8_t *bytes, const char *format,
                      Error **errp)
{
    uint64_t room = (1ULL << h->cluster_bits) - h->backing_file_offset;

    if (h->backing_file_offset == 0) {
        bdrv_set_backing_strings(bs, NULL, NULL);
        return 0; /* a format alone says nothing: it goes when the header is next written */
    }
    if (h->backing_file_size > MIN(room, (uint64_t)QCOW2_MAX_BACKING_NAME)) {
        error_setg(errp, "Backing file name too long");
        return -EINVAL;
    }
    char *name = strndup((const char *)bytes + h->backing_file_offset, h->backing_file_size);
    SIM_ASSERT(name != NULL);
    bool named = name[0] != 0;
    bdrv_set_backing_strings(bs, named ? name : NULL, named && format[0] ? format : NULL);
    free(name);
    return 0;
}

static int load_rest(BlockDriverState *bs, const struct qcow2_header *h, const struct qcow2_extensions *area,
                     Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    struct qcow2_extensions_found found = {0};

    if (h->header_length > QCOW2_HEADER_BYTES) {
        s->unknown_header_fields_bytes = (uint32_t)(h->header_length - QCOW2_HEADER_BYTES);
        s->unknown_header_fields = qcow2_alloc(bs, s->unknown_header_fields_bytes);
        memcpy(s->unknown_header_fields, area->cluster + QCOW2_HEADER_BYTES, s->unknown_header_fields_bytes);
    }
    int ret = qcow2_extensions_load(bs, area, &found, errp);
    if (ret == 0 && h->crypt_method == 2) {
        error_setg(errp, "%s",
                   found.crypto ? "LUKS-encrypted images are not supported"
                                : "Missing CRYPTO header for crypt method 2");
        ret = -ENOTSUP;
    }
    return ret < 0 ? ret : load_names(bs, h, area->cluster, found.backing_format, errp);
}

/* Enough of the first cluster for all that it holds: that rarely is much of it, and it has up to 2 MiB. */
static int read_all(BlockDriverState *bs, const struct qcow2_header *h, struct first_cluster *first,
                    struct qcow2_extensions *area, Error **errp)
{
    size_t cluster_bytes = (size_t)1 << h->cluster_bits;
    size_t end = h->backing_file_offset ? (size_t)h->backing_file_offset : cluster_bytes;
    size_t names = h->backing_file_offset ? end + MIN((size_t)QCOW2_MAX_BACKING_NAME, cluster_bytes - end) : 0;

    int ret = read_more(bs, first, MIN(cluster_bytes, (size_t)4096), errp);
    *area = (struct qcow2_extensions){first->bytes, first->count, (size_t)h->header_length, end};
    if (ret == 0 && MAX(qcow2_extensions_extent(area), MAX(names, area->start)) > first->count) {
        ret = read_more(bs, first, cluster_bytes, errp);
        area->cluster = first->bytes;
        area->bytes = first->count;
    }
    return ret;
}

static int check_all(BlockDriverState *bs, const struct qcow2_header *h, const struct qcow2_extensions *area,
                     Error **errp)
{
    uint64_t unknown = h->incompatible_features & ~(uint64_t)QCOW2_INCOMPAT_MASK;

    if (unknown) {
        qcow2_report_unsupported(area, unknown, errp);
        return -ENOTSUP;
    }
    int ret = check_features(bs, h, errp);
    if (ret == 0) {
        set_geometry(bs->opaque, h);
        ret = check_tables(bs, h, errp);
    }
    return ret < 0 ? ret : check_size(bs->opaque, h, errp);
}

static int load_first(BlockDriverState *bs, struct first_cluster *first, Error **errp)
{
    struct qcow2_extensions area;
    struct qcow2_header h;

    int ret = read_more(bs, first, SIM_SECTOR_BYTES, errp);
    if (ret < 0) {
        return ret;
    }
    qcow2_header_decode(first->bytes, &h);
    ret = check_shape(first->bytes, &h, errp);
    if (ret == 0) {
        ret = read_all(bs, &h, first, &area, errp);
    }
    if (ret == 0) {
        ret = check_all(bs, &h, &area, errp);
    }
    if (ret < 0) {
        return ret;
    }
    set_tables(bs->opaque, &h);
    bdrv_set_total_bytes(bs, (int64_t)ROUND_DOWN(h.size, (uint64_t)SIM_SECTOR_BYTES));
    return load_rest(bs, &h, &area, errp);
}

int qcow2_header_load(BlockDriverState *bs, Error **errp)
{
    struct first_cluster first = {NULL, 0};

    int ret = load_first(bs, &first, errp);
    qcow2_free(bs, first.bytes, first.count);
    return ret;
}

void qcow2_header_unload(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    qcow2_free(bs, s->unknown_header_fields, s->unknown_header_fields_bytes);
    s->unknown_header_fields = NULL;
    s->unknown_header_fields_bytes = 0;
    while (!STAILQ_EMPTY(&s->unknown_header_ext)) {
        Qcow2UnknownExtension *ext = STAILQ_FIRST(&s->unknown_header_ext);
        STAILQ_REMOVE_HEAD(&s->unknown_header_ext, next);
        qcow2_free(bs, ext->data, ext->bytes);
        qcow2_free(bs, ext, sizeof(*ext));
    }
    if (s->image_data_file) {
        qcow2_free(bs, s->image_data_file, strlen(s->image_data_file) + 1);
    }
    s->image_data_file = NULL;
}
