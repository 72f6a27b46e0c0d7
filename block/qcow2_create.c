/*
 * Making a qcow2 image (reference/bitmaps-qcow2.md 5.9).
 *
 *     | header | refcount table | refcount blocks | L1 |        the file ends with the last byte of L1
 *
 * The header comes last, its first sector at the very end: whoever loses power meanwhile finds a file that is no
 * image, never half of one. Preallocation then fills an image that is whole already.
 */
#include <errno.h>

#include "block/qcow2_open.h"

static const char *const version_words[] = {"v2", "v3", NULL};
static const char *const compression_words[] = {"zlib", "zstd", NULL};
static const char *const prealloc_words[] = {"off", "metadata", "falloc", "full", NULL};

const BdrvOption qcow2_create_options[] = {
    {"file", BDRV_OPT_NODE, true, "node that is to hold the image", NULL},
    {"size", BDRV_OPT_SIZE, true, "length of the disk in bytes, rounded up to a multiple of 512", NULL},
    {"version", BDRV_OPT_ENUM, false, "of the format, default v3", version_words},
    {"backing-file", BDRV_OPT_STR, false, "name of the backing file", NULL},
    {"backing-fmt", BDRV_OPT_STR, false, "its format; required with a backing file", NULL},
    {"cluster-size", BDRV_OPT_SIZE, false, "512 to 2M, a power of two, default 64k", NULL},
    {"preallocation", BDRV_OPT_ENUM, false, "what is there from the start, default off", prealloc_words},
    {"lazy-refcounts", BDRV_OPT_BOOL, false, "counts are written late and rebuilt after a crash, default off",
     NULL},
    {"refcount-bits", BDRV_OPT_INT, false, "width of a count: 1, 2, 4, ... 64, default 16", NULL},
    {"extended-l2", BDRV_OPT_BOOL, false, "clusters have 32 parts each, default off", NULL},
    {"compression-type", BDRV_OPT_ENUM, false, "of compressed clusters, default zlib", compression_words},
    {"data-file", BDRV_OPT_NODE, false, "node that is to hold the guest's data, default the image itself", NULL},
    {"data-file-raw", BDRV_OPT_BOOL, false, "the data file alone is a raw image, too; default off", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

struct create {
    struct host *host;
    int64_t size;
    unsigned version;
    const char *backing_file;
    const char *backing_fmt;
    int64_t cluster_size;
    unsigned cluster_bits;
    enum bdrv_prealloc prealloc;
    bool lazy_refcounts;
    int64_t refcount_bits;
    unsigned refcount_order;
    bool extended_l2;
    unsigned compression;
    bool has_data_file;
    bool data_file_raw;

    BlockBackend *blk;
    BlockDriverState *data; /* the node of the data file, a reference; NULL: none */

    /* layout, in clusters */
    int64_t table_clusters;
    int64_t blocks;
    int64_t l1_entries;
    int64_t l1_clusters;
};

/* --- options ---------------------------------------------------------------------------------------------------
 */

static unsigned word_index(const struct qvalue *options, const char *key, const char *const *words, unsigned def)
{
    const char *text;

    bool ok = qdict_get_str(options, key, &text, words[def], NULL);
    SIM_ASSERT(ok);
    for (unsigned i = 0; words[i]; i++) {
        if (str_is(words[i], text)) {
            return i;
        }
    }
    SIM_ASSERT(false); /* the table has been checked */
    return def;
}

static bool read_options(const struct qvalue *options, struct create *c, Error **errp)
{
    const struct qvalue *data_file = qdict_get(options, "data-file");

    c->version = 2 + word_index(options, "version", version_words, 1);
    c->prealloc = (enum bdrv_prealloc)word_index(options, "preallocation", prealloc_words, 0);
    c->compression = word_index(options, "compression-type", compression_words, 0);
    c->has_data_file = data_file && data_file->type != QVALUE_NULL;
    return qdict_get_size(options, "size", &c->size, 0, errp) &&
           qdict_get_str(options, "backing-file", &c->backing_file, NULL, errp) &&
           qdict_get_str(options, "backing-fmt", &c->backing_fmt, NULL, errp) &&
           qdict_get_size(options, "cluster-size", &c->cluster_size, QCOW2_DEFAULT_CLUSTER_SIZE, errp) &&
           qdict_get_bool(options, "lazy-refcounts", &c->lazy_refcounts, false, errp) &&
           qdict_get_int(options, "refcount-bits", &c->refcount_bits, 16, errp) &&
           qdict_get_bool(options, "extended-l2", &c->extended_l2, false, errp) &&
           qdict_get_bool(options, "data-file-raw", &c->data_file_raw, false, errp);
}

static unsigned log2_of(int64_t value)
{
    unsigned bits = 0;

    while (value > 1) {
        value >>= 1;
        bits++;
    }
    return bits;
}

static bool check_shape(struct create *c, Error **errp)
{
    if (c->cluster_size < 1 << QCOW2_MIN_CLUSTER_BITS || c->cluster_size > 1 << QCOW2_MAX_CLUSTER_BITS ||
        !is_power_of_2((uint64_t)c->cluster_size)) {
        error_setg(errp, "Cluster size must be a power of two between %d and %dk", 1 << QCOW2_MIN_CLUSTER_BITS,
                   1 << (QCOW2_MAX_CLUSTER_BITS - 10));
        return false;
    }
    if (c->refcount_bits < 1 || c->refcount_bits > 64 || !is_power_of_2((uint64_t)c->refcount_bits)) {
        error_setg(errp, "Refcount width must be a power of two and may not exceed 64 bits");
        return false;
    }
    if (c->extended_l2 && c->cluster_size < QCOW2_MIN_EXTL2_CLUSTER_SIZE) {
        error_setg(errp, "Extended L2 entries are only supported with cluster sizes of at least %d bytes",
                   (int)QCOW2_MIN_EXTL2_CLUSTER_SIZE);
        return false;
    }
    if (c->size > BDRV_MAX_LENGTH - SIM_SECTOR_BYTES) {
        error_setg(errp, "The image size is too large for file format 'qcow2' (try using a larger cluster size)");
        return false;
    }
    c->size = ROUND_UP(c->size, (int64_t)SIM_SECTOR_BYTES);
    c->cluster_bits = log2_of(c->cluster_size);
    c->refcount_order = log2_of(c->refcount_bits);
    return true;
}

#define NEEDS_V3 "supported with compatibility level 1.1 and above (use version=v3 or greater)"

static bool check_version(const struct create *c, Error **errp)
{
    const struct {
        bool wanted;
        const char *text;
    } features[] = {
        {c->lazy_refcounts, "Lazy refcounts only " NEEDS_V3},
        {c->refcount_bits != 16, "Different refcount widths than 16 bits only " NEEDS_V3},
        {c->extended_l2, "Extended L2 entries are only " NEEDS_V3},
        {c->has_data_file, "External data files are only " NEEDS_V3},
        {c->compression != QCOW2_COMPRESSION_ZLIB, "Non-zlib compression type is only " NEEDS_V3},
    };

    for (size_t i = 0; i < ARRAY_SIZE(features) && c->version < 3; i++) {
        if (features[i].wanted) {
            error_setg(errp, "%s", features[i].text);
            return false;
        }
    }
    return true;
}

static bool check_files(const struct create *c, Error **errp)
{
    if (c->backing_file && !c->backing_fmt) {
        error_setg(errp, "Backing file specified without backing format");
        return false;
    }
    if (c->backing_fmt && !c->backing_file) {
        error_setg(errp, "Backing format cannot be used without backing file");
        return false;
    }
    if (c->backing_fmt && !bdrv_find_driver(c->backing_fmt)) {
        error_setg(errp, "Unknown backing file format '%s'", c->backing_fmt);
        return false;
    }
    if (c->backing_file && (c->backing_file[0] == 0 || strlen(c->backing_file) > QCOW2_MAX_BACKING_NAME)) {
        error_setg(errp, "Backing file name too %s", c->backing_file[0] ? "long" : "short");
        return false;
    }
    if (c->backing_file && c->prealloc != PREALLOC_OFF && !c->extended_l2) {
        error_setg(errp,
                   "Backing file and preallocation can only be used at the same time if extended_l2 is enabled");
        return false;
    }
    if (c->data_file_raw && !c->has_data_file) {
        error_setg(errp, "data-file-raw requires data-file");
        return false;
    }
    if (c->data_file_raw && c->backing_file) {
        error_setg(errp, "Backing file and data-file-raw cannot be used at the same time");
        return false;
    }
    return true;
}

/* --- layout ----------------------------------------------------------------------------------------------------
 */

/* Blocks count themselves and the table, too. */
static bool plan(struct create *c, Error **errp)
{
    int64_t l2_entries = c->cluster_size / (c->extended_l2 ? 16 : 8);
    int64_t counts = c->cluster_size * 8 / c->refcount_bits; /* in a block */

    c->l1_entries = DIV_ROUND_UP(DIV_ROUND_UP(c->size, c->cluster_size), l2_entries);
    if (c->l1_entries > QCOW2_MAX_L1_BYTES / 8) {
        error_setg(errp, "The image size is too large for file format 'qcow2' (try using a larger cluster size)");
        return false;
    }
    c->l1_clusters = DIV_ROUND_UP(c->l1_entries * 8, c->cluster_size);
    c->table_clusters = 1;
    c->blocks = 1;
    for (;;) {
        int64_t total = 1 + c->table_clusters + c->blocks + c->l1_clusters;
        int64_t blocks = DIV_ROUND_UP(total, counts);
        int64_t table_clusters = DIV_ROUND_UP(blocks * 8, c->cluster_size);
        if (blocks == c->blocks && table_clusters == c->table_clusters) {
            return true;
        }
        SIM_ASSERT(blocks >= c->blocks && table_clusters >= c->table_clusters);
        c->blocks = blocks;
        c->table_clusters = table_clusters;
    }
}

static int64_t at_cluster(const struct create *c, int64_t cluster)
{
    return cluster << c->cluster_bits;
}

/* --- writing ----------------------------------------------------------------------------------------------------
 */

static int write_bytes(const struct create *c, int64_t offset, const uint8_t *bytes, int64_t count)
{
    struct payload data;

    payload_init(c->host->sim, &data);
    payload_append_bytes(&data, bytes, count);
    int ret = blk_co_pwritev(c->blk, offset, count, &data, 0);
    payload_clear(&data);
    return ret;
}

/* Whatever the file held is no image any more, for good. A device keeps its length, and its old content. */
static int wipe(const struct create *c, Error **errp)
{
    int ret = blk_co_truncate(c->blk, 0, false, PREALLOC_OFF, 0, errp);
    if (ret < 0) {
        return ret;
    }
    int64_t length = blk_co_getlength(c->blk);
    int64_t head = MIN(length, c->cluster_size);
    if (length > 0) {
        ret = blk_co_pwrite_zeroes(c->blk, 0, head, 0);
        if (ret == 0) {
            ret = blk_co_flush(c->blk);
        }
    }
    ret = length < 0 ? (int)length : ret;
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not clear the file");
    }
    return ret;
}

/* The count 1, once, at its place in a block (5.3). */
static void set_count(const struct create *c, uint8_t *block, int64_t index)
{
    if (c->refcount_order < 3) {
        int64_t bit = index << c->refcount_order;
        block[bit / 8] |= (uint8_t)(1u << bit % 8);
    } else {
        block[((index + 1) << (c->refcount_order - 3)) - 1] = 1; /* big-endian */
    }
}

static int write_counts(const struct create *c)
{
    int64_t used = 1 + c->table_clusters + c->blocks + c->l1_clusters;
    int64_t counts = c->cluster_size * 8 / c->refcount_bits;
    uint8_t *buf = sim_alloc(c->host->arena, SIM_TYPE_qcow2_memory, (size_t)c->cluster_size);
    int64_t per_table = c->cluster_size / 8;
    int ret = 0;

    for (int64_t t = 0; t < c->table_clusters && ret == 0; t++) {
        memset(buf, 0, (size_t)c->cluster_size);
        for (int64_t i = 0; i < per_table && t * per_table + i < c->blocks; i++) {
            qcow2_put_be64(buf + i * 8, (uint64_t)at_cluster(c, 1 + c->table_clusters + t * per_table + i));
        }
        ret = write_bytes(c, at_cluster(c, 1 + t), buf, c->cluster_size);
    }
    for (int64_t b = 0; b < c->blocks && ret == 0; b++) {
        memset(buf, 0, (size_t)c->cluster_size);
        for (int64_t i = 0; i < counts && b * counts + i < used; i++) {
            set_count(c, buf, i);
        }
        ret = write_bytes(c, at_cluster(c, 1 + c->table_clusters + b), buf, c->cluster_size);
    }
    sim_free(c->host->arena, SIM_TYPE_qcow2_memory, buf, (size_t)c->cluster_size);
    return ret;
}

static int write_l1(const struct create *c)
{
    int64_t offset = at_cluster(c, 1 + c->table_clusters + c->blocks);
    struct payload zeroes;

    if (c->l1_entries == 0) {
        return 0;
    }
    payload_init(c->host->sim, &zeroes);
    payload_append_zero(&zeroes, c->l1_entries * 8);
    int ret = blk_co_pwritev(c->blk, offset, zeroes.size_bytes, &zeroes, 0);
    payload_clear(&zeroes);
    return ret;
}

static void describe(const struct create *c, struct qcow2_header_content *content)
{
    int64_t l1_cluster = 1 + c->table_clusters + c->blocks;

    content->fields = (struct qcow2_header){
        .version = c->version,
        .cluster_bits = c->cluster_bits,
        .size = (uint64_t)c->size,
        .l1_size = (uint64_t)c->l1_entries,
        .l1_table_offset = c->l1_entries > 0 ? (uint64_t)at_cluster(c, l1_cluster) : 0,
        .refcount_table_offset = (uint64_t)at_cluster(c, 1),
        .refcount_table_clusters = (uint64_t)c->table_clusters,
        .incompatible_features = (c->has_data_file ? QCOW2_INCOMPAT_DATA_FILE : 0) |
                                 (c->compression != QCOW2_COMPRESSION_ZLIB ? QCOW2_INCOMPAT_COMPRESSION : 0) |
                                 (c->extended_l2 ? QCOW2_INCOMPAT_EXTL2 : 0),
        .compatible_features = c->lazy_refcounts ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0,
        .autoclear_features = c->data_file_raw ? QCOW2_AUTOCLEAR_DATA_FILE_RAW : 0,
        .refcount_order = c->refcount_order,
        .compression_type = c->compression,
    };
    content->backing_file = c->backing_file;
    content->backing_format = c->backing_fmt;
    content->data_file = c->data ? bdrv_filename(c->data) : NULL;
}

/* The part behind the first sector first: with that sector all of it is there. */
static int write_header(const struct create *c, const uint8_t *cluster)
{
    int64_t rest = c->cluster_size - SIM_SECTOR_BYTES;
    int ret = 0;

    if (rest > 0) {
        ret = write_bytes(c, SIM_SECTOR_BYTES, cluster + SIM_SECTOR_BYTES, rest);
    }
    if (ret == 0) {
        ret = blk_co_flush(c->blk);
    }
    if (ret == 0) {
        ret = write_bytes(c, 0, cluster, SIM_SECTOR_BYTES);
    }
    return ret < 0 ? ret : blk_co_flush(c->blk);
}

static int write_image(const struct create *c, const uint8_t *header, Error **errp)
{
    int ret = wipe(c, errp);
    if (ret < 0) {
        return ret;
    }
    ret = write_counts(c);
    if (ret == 0) {
        ret = write_l1(c);
    }
    if (ret == 0) {
        ret = write_header(c, header);
    }
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not write the image");
    }
    return ret;
}

static int write_checked(const struct create *c, Error **errp)
{
    struct qcow2_header_content content = {0};
    uint8_t *cluster = sim_alloc(c->host->arena, SIM_TYPE_qcow2_memory, (size_t)c->cluster_size);

    describe(c, &content);
    int64_t used = qcow2_header_build(&content, cluster, (size_t)c->cluster_size);
    int ret = used < 0 ? (int)used : 0;
    if (ret < 0) {
        error_setg_errno(errp, ret, "The header does not fit into a cluster");
    } else {
        ret = write_image(c, cluster, errp);
    }
    sim_free(c->host->arena, SIM_TYPE_qcow2_memory, cluster, (size_t)c->cluster_size);
    return ret;
}

/* --- filling -----------------------------------------------------------------------------------------------------
 */

/* An external data file is written only for somebody. */
static int preallocate(const struct create *c, BlockDriverState *bs, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    BlockBackend *user = blk_new(c->host, BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL);

    int ret = blk_insert_bs(user, bs, errp);
    if (ret < 0) {
        blk_unref(user);
        return ret;
    }
    co_mutex_lock(&s->lock);
    ret = qcow2_preallocate(bs, 0, c->size, c->prealloc, errp);
    if (ret == 0) {
        ret = qcow2_flush_caches(bs);
        if (ret < 0) {
            error_setg_errno(errp, ret, "Could not flush the image");
        }
    }
    co_mutex_unlock(&s->lock);
    blk_unref(user);
    return ret;
}

/* By the driver, as for any image; it does not share the file. */
static int fill(const struct create *c, Error **errp)
{
    int ret = blk_set_perm(c->blk, 0, BLK_PERM_ALL, errp);
    if (ret < 0) {
        return ret;
    }
    struct qvalue *options = qvalue_dict();
    qdict_put(options, "driver", qvalue_str("qcow2"));
    qdict_put(options, "file", qvalue_str(bdrv_get_node_name(blk_bs(c->blk))));
    qdict_put(options, "backing", qvalue_null());
    if (c->data) {
        qdict_put(options, "data-file", qvalue_str(bdrv_get_node_name(c->data)));
    }
    struct co_cleanup cleanup;
    coroutine_cleanup_push(c->host->sim, &cleanup, qvalue_cleanup, options);
    BlockDriverState *bs = bdrv_open(c->host, options, 0, errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(options);
    if (!bs) {
        return -EIO;
    }
    ret = preallocate(c, bs, errp);
    bdrv_unref(bs);
    return ret;
}

static int create_data_file(const struct create *c, BlockBackend *data, Error **errp)
{
    int ret = blk_co_truncate(data, 0, false, PREALLOC_OFF, 0, errp);
    if (ret == 0 && c->data_file_raw) {
        ret = blk_co_truncate(data, c->size, false, PREALLOC_OFF, 0, errp);
    }
    return ret;
}

/* The data file is emptied, as the image is: nothing of what it held is in the new one. */
static int open_data_file(struct create *c, const struct qvalue *options, Error **errp)
{
    if (!c->has_data_file) {
        return 0;
    }
    struct qvalue *alone = qvalue_dict();
    qdict_put(alone, "file", qvalue_copy(qdict_get(options, "data-file")));
    struct co_cleanup cleanup;
    coroutine_cleanup_push(c->host->sim, &cleanup, qvalue_cleanup, alone);
    BlockBackend *data = bdrv_create_backend(c->host, alone, errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(alone);
    if (!data) {
        return -EINVAL;
    }
    c->data = blk_bs(data);
    bdrv_ref(c->data);
    int ret = -EINVAL;
    if (c->data == blk_bs(c->blk)) {
        error_setg(errp, "'data-file' is the node that is to hold the image, expected another one");
    } else {
        ret = create_data_file(c, data, errp);
    }
    blk_unref(data);
    return ret;
}

int qcow2_co_create(struct host *host, const struct qvalue *options, Error **errp)
{
    struct create c = {.host = host};

    if (!read_options(options, &c, errp) || !check_shape(&c, errp) || !check_version(&c, errp) ||
        !check_files(&c, errp) || !plan(&c, errp)) {
        return -EINVAL;
    }
    if (c.data_file_raw && c.prealloc == PREALLOC_OFF) {
        c.prealloc = PREALLOC_METADATA; /* else a cluster that nobody wrote would not be what the file has there */
    }
    c.blk = bdrv_create_backend(host, options, errp);
    if (!c.blk) {
        return -EINVAL;
    }
    int ret = open_data_file(&c, options, errp);
    if (ret == 0) {
        ret = write_checked(&c, errp);
    }
    if (ret == 0 && c.prealloc != PREALLOC_OFF && c.size > 0) {
        ret = fill(&c, errp);
    }
    bdrv_unref(c.data);
    blk_unref(c.blk);
    return ret;
}
