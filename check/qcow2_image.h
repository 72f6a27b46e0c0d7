/*
 * qcow2 images as they lie on their media, read by code that shares nothing with the driver
 * (reference/bitmaps-qcow2.md 4 to 6).
 *
 *     source (a disk, a snapshot of one, bytes) -> qcow2_image_read -> header, tables, snapshots, bitmaps
 *                                                                      findings: what does not fit together
 *     image + what lies below it                -> qcow2_image_view -> what a guest reads, now or in a snapshot
 *     image + one of its bitmaps                -> qcow2_image_bitmap_... -> its bits
 *
 * Reading costs no time of the world, sends no event and changes nothing. Whatever the bytes are, it ends: memory
 * and work are bounded (QCOW2_IMAGE_WORK), and what did not fit in makes the image `incomplete`.
 *
 * All memory is libc's, owned by the image; nothing of it may live while the world goes on, since it speaks of the
 * medium of that moment.
 */
#ifndef CHECK_QCOW2_IMAGE_H
#define CHECK_QCOW2_IMAGE_H

#include "sim/disk.h"
#include "sim/payload.h"

/* --- where the bytes come from ---------------------------------------------------------------------------- */

/* peek appends [offset, offset + bytes), zero beyond the length; disk_peek and its relatives have this form. */
struct qcow2_source {
    struct sim *sim; /* whose pages the payloads share */
    const void *opaque;
    int64_t length;
    void (*peek)(const void *opaque, int64_t offset, int64_t bytes, struct payload *out);
};
struct qcow2_source qcow2_source_of_disk(const struct disk *disk);
/* The medium's bytes as they were; length: disk_length at that moment. */
struct qcow2_source qcow2_source_of_snapshot(struct sim *sim, const struct disk_snapshot *snapshot, int64_t length);

/* --- findings --------------------------------------------------------------------------------------------- */

/*
 * How bad a finding is. LEAK and CORRUPTION are what `qemu-img check` counts as such (5.8); STRICT is what it does
 * not look at and this driver nevertheless never leaves behind.
 */
enum qcow2_severity { QCOW2_LEAK, QCOW2_CORRUPTION, QCOW2_STRICT };

enum qcow2_finding_kind {
    QCOW2_FOUND_LEAK,            /* a stored count above the references */
    QCOW2_FOUND_COUNT_LOW,       /* a stored count below the references */
    QCOW2_FOUND_BLOCK_SHARED,    /* a refcount block that is not the only use of its cluster */
    QCOW2_FOUND_COPIED,          /* COPIED differs from "the stored count is 1", active tables only */
    QCOW2_FOUND_COPIED_SHARED,   /* COPIED although more than one reference leads there: data will be lost */
    QCOW2_FOUND_RESERVED,        /* reserved bits in an L1, L2 or refcount table entry */
    QCOW2_FOUND_UNALIGNED,       /* an offset that is not at a cluster */
    QCOW2_FOUND_BEYOND_END,      /* a reference that ends a cluster or more past the end of the file */
    QCOW2_FOUND_COMPRESSED_FLAG, /* COPIED on, or subcluster bits in, a compressed entry */
    QCOW2_FOUND_SUBCLUSTERS,     /* a subcluster allocated and zero, or allocated without a host cluster */
    QCOW2_FOUND_ZERO_IN_V2,      /* a zero flag where there is none: version 2, extended entries */
    QCOW2_FOUND_DATA_FILE,       /* an external data file with an entry that is compressed or not COPIED */
    QCOW2_FOUND_DATA_OFFSET,     /* an external data file with an offset that is not the guest's */
    QCOW2_FOUND_SNAPSHOT,        /* a snapshot entry that cannot be, or has too little extra data */
    QCOW2_FOUND_BITMAPS,         /* bitmap extension, directory or a table that cannot be */
    QCOW2_FOUND_BITMAP_TAIL,     /* a stored bitmap has bits beyond the end of the disk */
    QCOW2_FOUND_OVERLAP,         /* one cluster used for two purposes, or twice in one view */
    QCOW2_FOUND_COMPRESSED_DATA, /* a compressed cluster that does not decompress */
    QCOW2_FOUND_KINDS
};

#define QCOW2_FINDING_TEXT 160
struct qcow2_finding {
    enum qcow2_finding_kind kind;
    int64_t at; /* host offset of the cluster, or of the entry, that is wrong */
    char text[QCOW2_FINDING_TEXT];
};
const char *qcow2_finding_name(enum qcow2_finding_kind kind); /* "count-low": part of a signature */
enum qcow2_severity qcow2_finding_severity(enum qcow2_finding_kind kind);

#define QCOW2_FINDINGS_KEPT 32

/* --- the image -------------------------------------------------------------------------------------------- */

struct qcow2_image_snapshot {
    char *id;
    char *name;
    int64_t l1_offset;
    uint32_t l1_size;
    uint64_t *l1;      /* l1_size entries as stored, host order; NULL when they could not be read */
    int64_t disk_size; /* of the image when the entry does not say */
    uint64_t vm_state_size;
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec;
};

struct qcow2_image_bitmap {
    char *name;
    bool in_use;
    bool enabled; /* flag auto */
    uint8_t granularity_bits;
    int64_t table_offset;
    uint32_t table_size; /* entries */
    uint64_t *table;     /* as stored, host order; NULL: in use or not readable */
    int64_t bits;        /* ceil(size / granularity): how many there are */
};

struct qcow2_image_work; /* qcow2_image.c's */

struct qcow2_image {
    struct qcow2_source file;
    struct qcow2_source data;       /* peek is NULL: no external data file, or not given */
    char error[QCOW2_FINDING_TEXT]; /* not empty: no program could open it, and nothing below is valid */
    bool incomplete;                /* the bound of work was met: findings are a part of the truth */

    uint32_t version;
    uint32_t cluster_bits;
    int64_t cluster_bytes;
    int64_t size; /* virtual bytes, whole sectors */
    uint32_t l1_size;
    int64_t l1_offset;
    int64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    uint32_t refcount_order;
    uint32_t header_length;
    uint64_t incompatible, compatible, autoclear;
    uint8_t compression; /* 0 deflate, 1 zstd */
    bool dirty, corrupt, lazy_refcounts, extended_l2, external_data;
    bool has_bitmaps;                                /* extension and autoclear bit: the directory counts */
    char *backing_file, *backing_format, *data_file; /* NULL: none */

    uint64_t *l1; /* l1_size entries, host order */
    struct qcow2_image_snapshot *snapshot;
    uint32_t snapshot_count;
    struct qcow2_image_bitmap *bitmap;
    uint32_t bitmap_count;

    struct qcow2_finding finding[QCOW2_FINDINGS_KEPT]; /* the first ones */
    uint32_t finding_count;                            /* of those kept */
    uint64_t found[QCOW2_FOUND_KINDS];                 /* all */
    /* the figures of `qemu-img check` */
    uint64_t corruptions, leaks;
    uint64_t hidden_leaks; /* counts beyond the file's last cluster: leaks as soon as it grows */
    int64_t image_end;
    uint64_t allocated_clusters, compressed_clusters;

    struct qcow2_image_work *work;
};

#define QCOW2_IMAGE_WORK ((uint64_t)1 << 23) /* table entries looked at */

/* Never NULL; free it before the world goes on. Whether it is an image at all: error[0] == '\0'. */
struct qcow2_image *qcow2_image_read(struct qcow2_source file);
void qcow2_image_free(struct qcow2_image *image); /* NULL is fine */
/* Looks for the magic only. */
bool qcow2_source_is_image(struct qcow2_source file);
/* Decompresses what is compressed, up to 64 MiB of it: COMPRESSED_DATA for each cluster that cannot be. */
void qcow2_image_test_compressed(struct qcow2_image *image);
/* Where the data of an image with external_data lies: before a view of it is asked for. */
void qcow2_image_set_data(struct qcow2_image *image, struct qcow2_source data);

/*
 * Whether the image is what its driver owes. The first finding that no flag excuses, or NULL; with 0 nothing is
 * excused, which is what a driver owes that has written everything out.
 */
enum {
    QCOW2_ALLOW_LEAKS = 1,   /* something failed or died before */
    QCOW2_ALLOW_DIRTY = 2,   /* open, or not repaired yet: a dirty bit that is set excuses low counts and leaks */
    QCOW2_ALLOW_COPIED = 4,  /* a snapshot operation was cut short: COPIED may differ from the stored count, but
                              * never stand on a shared cluster */
    QCOW2_ALLOW_FOREIGN = 8, /* made by somebody else: what only `check` complains of */
};
const struct qcow2_finding *qcow2_image_judge(const struct qcow2_image *image, unsigned allow);

/* --- what a guest sees ------------------------------------------------------------------------------------ */

/* Content below an image: appends [offset, offset + bytes), zero beyond its end. */
typedef void qcow2_below_fn(void *opaque, int64_t offset, int64_t bytes, struct payload *out);

#define QCOW2_ACTIVE (-1)
/* Appends [offset, offset + bytes) of the active layer or of a snapshot (its index); zero beyond the virtual end.
 * below NULL: zeroes. False: some of it cannot be read (a damaged entry or stream, missing data file); zeroes
 * stand in its place. */
bool qcow2_image_view(struct qcow2_image *image, int snapshot, int64_t offset, int64_t bytes, qcow2_below_fn *below,
                      void *opaque, struct payload *out);
/* Whether [offset, ...) is present in this layer (data or zeroes, not read from below), and for how many equal
 * bytes. */
bool qcow2_image_is_allocated(struct qcow2_image *image, int snapshot, int64_t offset, int64_t bytes,
                              int64_t *pnum);

/* --- a chain of media ------------------------------------------------------------------------------------- */

/*
 * A medium with the backing chain that its headers name: disks of the world by name. Formats: qcow2 where a header
 * says so or, unsaid, where the magic stands; else raw.
 */
struct qcow2_chain;
/* format: "qcow2", "raw", NULL: look. NULL with errp when a medium is missing, an image cannot be opened or the
 * chain is longer than 64. */
struct qcow2_chain *qcow2_chain_open(struct sim *sim, const char *disk, const char *format, Error **errp);
void qcow2_chain_free(struct qcow2_chain *chain); /* NULL is fine */
/* A backing file that is raw by its overlay's header holds an image: somebody has made the file anew for something
 * else while no node of the chain held it, and the chain shows nobody's data. */
bool qcow2_chain_was_made_over(const struct qcow2_chain *chain);
int64_t qcow2_chain_size(const struct qcow2_chain *chain);
struct qcow2_image *qcow2_chain_image(struct qcow2_chain *chain); /* the top one; NULL: raw */
/* As qcow2_image_view of the top layer, all that lies below included. */
bool qcow2_chain_view(struct qcow2_chain *chain, int snapshot, int64_t offset, int64_t bytes, struct payload *out);
/* Lower-case hex of the whole view, as `sha256sum` of a raw copy; of a snapshot as `qemu-img convert -l` copies it,
 * with the length of the active layer. False: unreadable. */
#define QCOW2_SHA256_HEX 65
bool qcow2_chain_sha256(struct qcow2_chain *chain, int snapshot, char hex[QCOW2_SHA256_HEX]);

/* --- bitmaps ---------------------------------------------------------------------------------------------- */

/* NULL: there is none of that name. */
const struct qcow2_image_bitmap *qcow2_image_bitmap_find(const struct qcow2_image *image, const char *name);
/* The next run of set bits at or after bit `from`: [*first, *end) in bits, masked to those that exist. False: none.
 * An in_use bitmap has none. */
bool qcow2_image_bitmap_next(struct qcow2_image *image, const struct qcow2_image_bitmap *bitmap, int64_t from,
                             int64_t *first, int64_t *end);
/* Set bits times granularity, as queries print it. */
int64_t qcow2_image_bitmap_count(struct qcow2_image *image, const struct qcow2_image_bitmap *bitmap);
/* As x-debug-block-dirty-bitmap-sha256 would print it (1.7). */
void qcow2_image_bitmap_sha256(struct qcow2_image *image, const struct qcow2_image_bitmap *bitmap,
                               char hex[QCOW2_SHA256_HEX]);

#endif
