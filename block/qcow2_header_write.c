/*
 * Writing a qcow2 header (reference/bitmaps-qcow2.md 5.1): the first cluster is made from the state, what we do not
 * know is written as it was read.
 */
#include <errno.h>

#include "block/qcow2_open.h"

/* --- building ------------------------------------------------------------------------------------------------- */

struct area {
    uint8_t *cluster;
    size_t bytes;
    size_t used;
    bool full;
};

/* Room for so many bytes of an extension, padded; NULL: there is none. */
static uint8_t *add_extension(struct area *a, uint32_t magic, size_t bytes)
{
    size_t padded = 8 + ROUND_UP(bytes, 8);

    if (a->full || padded > a->bytes - a->used) {
        a->full = true;
        return NULL;
    }
    uint8_t *at = a->cluster + a->used;
    qcow2_put_be32(at, magic);
    qcow2_put_be32(at + 4, (uint32_t)bytes);
    a->used += padded;
    return at + 8;
}

static void add_bytes(struct area *a, uint32_t magic, const void *data, size_t bytes)
{
    uint8_t *at = add_extension(a, magic, bytes);

    if (at && bytes > 0) {
        memcpy(at, data, bytes);
    }
}

static void add_feature_names(struct area *a)
{
    static const struct {
        uint8_t type; /* 0 incompatible, 1 compatible, 2 autoclear */
        uint8_t bit;
        const char *name;
    } names[] = {
        {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
        {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
        {2, 0, "bitmaps"},          {2, 1, "raw external data"},
    };
    uint8_t *at = add_extension(a, QCOW2_EXT_MAGIC_FEATURE_TABLE, ARRAY_SIZE(names) * 48);

    for (size_t i = 0; at && i < ARRAY_SIZE(names); i++, at += 48) {
        at[0] = names[i].type;
        at[1] = names[i].bit;
        memcpy(at + 2, names[i].name, strlen(names[i].name));
    }
}

static void add_bitmaps(struct area *a, const struct qcow2_header_content *c)
{
    uint8_t *at = add_extension(a, QCOW2_EXT_MAGIC_BITMAPS, 24);

    if (at) {
        qcow2_put_be32(at, c->nb_bitmaps);
        qcow2_put_be64(at + 8, c->bitmap_directory_size);
        qcow2_put_be64(at + 16, c->bitmap_directory_offset);
    }
}

static void add_extensions(struct area *a, const struct qcow2_header_content *c)
{
    if (c->backing_format) {
        add_bytes(a, QCOW2_EXT_MAGIC_BACKING_FORMAT, c->backing_format, strlen(c->backing_format));
    }
    if (c->data_file) {
        add_bytes(a, QCOW2_EXT_MAGIC_DATA_FILE, c->data_file, strlen(c->data_file));
    }
    if (c->fields.version >= 3 && a->bytes > 4096) {
        add_feature_names(a);
    }
    if (c->nb_bitmaps > 0) {
        add_bitmaps(a, c);
    }
    for (const Qcow2UnknownExtension *ext = c->unknown_ext; ext; ext = STAILQ_NEXT(ext, next)) {
        add_bytes(a, ext->magic, ext->data, ext->bytes);
    }
    add_bytes(a, QCOW2_EXT_MAGIC_END, NULL, 0);
}

int64_t qcow2_header_build(const struct qcow2_header_content *content, uint8_t *cluster, size_t cluster_bytes)
{
    struct qcow2_header h = content->fields;
    struct area a = {.cluster = cluster, .bytes = cluster_bytes};
    size_t name_bytes = content->backing_file ? strlen(content->backing_file) : 0;

    SIM_ASSERT_EQ(cluster_bytes, (size_t)1 << h.cluster_bits);
    SIM_ASSERT_LE(name_bytes, QCOW2_MAX_BACKING_NAME);
    h.header_length = h.version < 3 ? QCOW2_HEADER_V2_BYTES : QCOW2_HEADER_BYTES + content->unknown_field_bytes;
    SIM_ASSERT_LE(h.header_length, cluster_bytes);
    a.used = (size_t)h.header_length;
    if (h.version >= 3 && content->unknown_field_bytes > 0) {
        memcpy(cluster + QCOW2_HEADER_BYTES, content->unknown_fields, content->unknown_field_bytes);
    }
    add_extensions(&a, content);
    if (a.full || name_bytes > a.bytes - a.used) {
        return -ENOSPC;
    }
    h.backing_file_offset = content->backing_file ? a.used : 0;
    h.backing_file_size = name_bytes;
    if (name_bytes > 0) {
        memcpy(cluster + a.used, content->backing_file, name_bytes);
    }
    qcow2_header_encode(&h, cluster);
    return (int64_t)(a.used + name_bytes);
}

/* --- of an open image ------------------------------------------------------------------------------------------
 */

static void collect(BlockDriverState *bs, struct qcow2_header_content *c)
{
    BDRVQcow2State *s = bs->opaque;

    c->fields = (struct qcow2_header){
        .version = s->qcow_version,
        .cluster_bits = s->cluster_bits,
        .size = (uint64_t)bs->total_bytes,
        .crypt_method = s->crypt_method_header,
        .l1_size = s->l1_size,
        .l1_table_offset = (uint64_t)s->l1_table_offset,
        .refcount_table_offset = (uint64_t)s->refcount_table_offset,
        .refcount_table_clusters = s->refcount_table_size >> (s->cluster_bits - 3),
        .nb_snapshots = s->nb_snapshots,
        .snapshots_offset = (uint64_t)s->snapshots_offset,
        .incompatible_features = s->incompatible_features,
        .compatible_features = s->compatible_features,
        .autoclear_features = s->autoclear_features,
        .refcount_order = s->refcount_order,
        .compression_type = s->compression_type,
    };
    c->data_file = s->image_data_file;
    c->unknown_fields = s->unknown_header_fields;
    c->unknown_field_bytes = s->unknown_header_fields_bytes;
    c->unknown_ext = STAILQ_FIRST(&s->unknown_header_ext);
    c->nb_bitmaps = s->nb_bitmaps;
    c->bitmap_directory_size = s->bitmap_directory_size;
    c->bitmap_directory_offset = s->bitmap_directory_offset;
}

int qcow2_write_header(BlockDriverState *bs, const char *backing_file, const char *backing_format)
{
    BDRVQcow2State *s = bs->opaque;
    struct qcow2_header_content content = {.backing_file = backing_file, .backing_format = backing_format};
    uint8_t *cluster = qcow2_alloc(bs, (size_t)s->cluster_size);

    SIM_ASSERT(bdrv_is_writable(bs));
    collect(bs, &content);
    int64_t ret = qcow2_header_build(&content, cluster, (size_t)s->cluster_size);
    if (ret > 0) {
        ret = qcow2_header_switch(bs, cluster);
    }
    if (ret == 0) {
        s->header_length_bytes = bs->total_bytes;
    }
    qcow2_free(bs, cluster, (size_t)s->cluster_size);
    return (int)ret;
}

/* From the length to the refcount table's clusters: one sector, so that no half of it is ever seen. */
#define PLACES_AT 24
#define PLACES_END 60

int qcow2_header_make_sure(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    struct qcow2_header_content content = {0};
    uint8_t bytes[QCOW2_HEADER_BYTES] = {0};

    if (!s->header_unsure) {
        return 0;
    }
    SIM_MARK(bs->host->sim, qcow2_header_retried);
    collect(bs, &content);
    content.fields.header_length = QCOW2_HEADER_BYTES;
    qcow2_header_encode(&content.fields, bytes);
    int ret = qcow2_pwrite_sync(bs, PLACES_AT, PLACES_END - PLACES_AT, bytes + PLACES_AT);
    s->header_unsure = ret < 0;
    if (ret == 0) {
        s->header_length_bytes = bs->total_bytes;
    }
    return ret;
}

int qcow2_update_header(BlockDriverState *bs)
{
    return qcow2_write_header(bs, bs->backing_filename, bs->backing_format);
}
