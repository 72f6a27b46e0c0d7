/*
 * What the files of qcow2 that open, make and resize images share: the header as a record, options in force, and
 * the steps of opening (reference/bitmaps-qcow2.md 5.1, 5.9). Private to block/qcow2*.c.
 *
 *     first cluster: | fields, header_length | extensions ... end | backing file name |
 */
#ifndef BLOCK_QCOW2_OPEN_H
#define BLOCK_QCOW2_OPEN_H

#include "block/qcow2.h"

#define QCOW2_MAX_BACKING_NAME 1023
#define QCOW2_MAX_BACKING_FORMAT 15
#define QCOW2_DEFAULT_CLUSTER_SIZE (64 * KiB)
#define QCOW2_MIN_EXTL2_CLUSTER_SIZE (16 * KiB)

/* The fields of 5.1, in host order; version 2 images get what version 3 would say. */
struct qcow2_header {
    uint64_t version;
    uint64_t backing_file_offset;
    uint64_t backing_file_size;
    uint64_t cluster_bits;
    uint64_t size;
    uint64_t crypt_method;
    uint64_t l1_size;
    uint64_t l1_table_offset;
    uint64_t refcount_table_offset;
    uint64_t refcount_table_clusters;
    uint64_t nb_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible_features;
    uint64_t compatible_features;
    uint64_t autoclear_features;
    uint64_t refcount_order;
    uint64_t header_length;
    uint64_t compression_type;
};

/* All that the first cluster is to hold. Pointers belong to the caller; NULL: none. */
struct qcow2_header_content {
    struct qcow2_header fields; /* header_length and the backing file's place are filled in by the build */
    const char *backing_file;
    const char *backing_format;
    const char *data_file;
    const uint8_t *unknown_fields; /* behind the fields that we know */
    uint32_t unknown_field_bytes;
    const Qcow2UnknownExtension *unknown_ext; /* the first of a list */
    uint32_t nb_bitmaps;                      /* 0: no extension */
    uint64_t bitmap_directory_size;
    uint64_t bitmap_directory_offset;
};

/* --- reading (qcow2_header_read.c, qcow2_header_ext.c) -------------------------------------------------------- */

/* The fields from at least QCOW2_HEADER_BYTES bytes. Nothing is checked. */
void qcow2_header_decode(const uint8_t *bytes, struct qcow2_header *h);
void qcow2_header_encode(const struct qcow2_header *h, uint8_t *bytes);
/* Reads and checks the first cluster: geometry, features, places of all tables, extensions and the names of backing
 * and data file come to stand in the state and the node. Lock held; nothing is written. */
int qcow2_header_load(BlockDriverState *bs, Error **errp);
/* Forgets what the above has allocated. */
void qcow2_header_unload(BlockDriverState *bs);

/* The extensions in [start, end) of a first cluster, of which `bytes` have been read. */
struct qcow2_extensions {
    const uint8_t *cluster;
    size_t bytes;
    size_t start;
    size_t end;
};
struct qcow2_extension {
    uint32_t magic;
    uint32_t bytes;
    const uint8_t *data;
};
/* The extension at *at, from start on, which moves on. 1; 0: there are no more; -EINVAL: longer than the area. */
int qcow2_extension_next(const struct qcow2_extensions *area, size_t *at, struct qcow2_extension *ext);
/* How far they reach: at most end. Beyond `bytes`: the answer needs more to be read. */
size_t qcow2_extensions_extent(const struct qcow2_extensions *area);
/* What they say that is for the one who opens. */
struct qcow2_extensions_found {
    bool crypto;
    char backing_format[QCOW2_MAX_BACKING_FORMAT + 1]; /* "": not said */
};
/* Those that the state keeps come to stand there. */
int qcow2_extensions_load(BlockDriverState *bs, const struct qcow2_extensions *area,
                          struct qcow2_extensions_found *found, Error **errp);
/* "Unsupported qcow2 feature(s): ..." with the names that the image's own table has for them. */
void qcow2_report_unsupported(const struct qcow2_extensions *area, uint64_t features, Error **errp);

/* --- writing (qcow2_header_write.c) --------------------------------------------------------------------------- */

/* The first cluster, cluster_size bytes of zeroed memory. Bytes used, or -ENOSPC. */
int64_t qcow2_header_build(const struct qcow2_header_content *content, uint8_t *cluster, size_t cluster_bytes);
/* Puts a new first cluster in the place of the old, so that power loss leaves the one or the other
 * (qcow2_header_switch.c). No flush at the end. */
int qcow2_header_switch(BlockDriverState *bs, const uint8_t *cluster);
/* As qcow2_update_header, with another backing file. */
int qcow2_write_header(BlockDriverState *bs, const char *backing_file, const char *backing_format);

/* --- options (qcow2_options.c) -------------------------------------------------------------------------------- */

struct qcow2_options {
    bool lazy_refcounts;
    bool discard_passthrough[QCOW2_DISCARD_COUNT];
    bool discard_no_unref;
    unsigned overlap_check;
    uint64_t l2_cache_bytes;
    uint64_t l2_cache_entry_bytes;
    uint64_t refcount_cache_bytes;
    uint64_t cache_clean_interval_s;
};

extern const BdrvOption qcow2_driver_options[];
extern const char *const qcow2_mutable_options[];
/* For an image whose header has been loaded. options: checked against the table, NULL: all defaults. flags:
 * BDRV_O_* that are to be in force. */
int qcow2_options_read(const BlockDriverState *bs, const struct qvalue *options, uint32_t flags,
                       struct qcow2_options *out, Error **errp);
/* All but the caches. */
void qcow2_options_apply(BDRVQcow2State *s, const struct qcow2_options *options);
/* Tables that a cache of so many bytes holds, as qcow2_cache_create wants them. */
unsigned qcow2_cache_tables(uint64_t cache_bytes, uint64_t table_bytes);
void qcow2_caches_create(BlockDriverState *bs, const struct qcow2_options *options, Qcow2Cache **l2_tables,
                         Qcow2Cache **refcount_blocks);

/* --- opening and giving up (qcow2.c, qcow2_activity.c) -------------------------------------------------------- */

/* Everything but the children, from the file: the state is zero before. Writes if the node is writable. Lock held.
 */
int qcow2_open_image(BlockDriverState *bs, const struct qvalue *options, Error **errp);
/* Drops all that opening made, children excepted; nothing is written. Lock held. */
void qcow2_forget_image(BlockDriverState *bs);
/* Both caches, and the dirty bit if the counts can be trusted. Lock held, node writable. */
int qcow2_make_stable(BlockDriverState *bs);
void qcow2_cache_clean_start(BlockDriverState *bs);
void qcow2_cache_clean_stop(BlockDriverState *bs);

int qcow2_co_inactivate(BlockDriverState *bs);
int qcow2_co_invalidate_cache(BlockDriverState *bs, Error **errp);

int qcow2_reopen_prepare(BDRVReopenState *state, Error **errp);
void qcow2_reopen_switch(BDRVReopenState *state);
void qcow2_reopen_commit(BDRVReopenState *state);
void qcow2_reopen_abort(BDRVReopenState *state);
void qcow2_reopen_commit_post(BDRVReopenState *state);

/* --- size (qcow2_prealloc.c) ---------------------------------------------------------------------------------- */

/* Gives the guest's range host clusters that read as zeroes, where it has none; whole clusters, or up to the end
 * that is to be. L1 reaches that far already. Lock held; on failure some have been given. */
int qcow2_preallocate(BlockDriverState *bs, int64_t offset, int64_t end, enum bdrv_prealloc mode, Error **errp);

/* Hook: format-specific information, {type, data}; takes the lock. NULL: the image cannot be used. (qcow2_info.c)
 */
struct qvalue *qcow2_co_get_specific_info(BlockDriverState *bs);

#endif
