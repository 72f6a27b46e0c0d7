/*
 * qcow2 from inside: what the files block/qcow2*.c share (reference/bitmaps-qcow2.md 4 to 6).
 *
 *     guest offset --L1--> L2 table --entry--> host cluster        every used host cluster is counted in a
 *                          (l2_table_cache)                        refcount block (refcount_block_cache)
 *
 * Locking. s->lock guards everything in BDRVQcow2State, both caches and the metadata on the file; it is held across
 * metadata I/O and never across guest data I/O. Functions below want it held unless their comment says otherwise. A
 * table got from a cache is pinned until it is put, and nobody drops the lock while holding one.
 *
 * Order of writes (5.5, 6). A count is stable before an L2 entry that relies on it; an entry that drops a cluster
 * is stable before the count goes down; data is stable before the entry that names it. The caches know one
 * dependency each (cache -> other cache, cache -> flush of the data) and keep to it whenever they write. A cluster
 * whose count fell to 0 is not given to anybody, nor discarded on the host, before the metadata that dropped it is
 * stable (qcow2_freed.c): the original does both at once and loses data with the power.
 *
 * Sizes are bytes, tables in memory are big-endian as on disk and accessed by the functions below; the L1 table and
 * the refcount table are kept in host order. All memory is the host's arena.
 */
#ifndef BLOCK_QCOW2_H
#define BLOCK_QCOW2_H

#include "block/block_int.h"
#include "block/qcow2_format.h"

typedef enum QCow2ClusterType {
    QCOW2_CLUSTER_UNALLOCATED,
    QCOW2_CLUSTER_ZERO_PLAIN,
    QCOW2_CLUSTER_ZERO_ALLOC,
    QCOW2_CLUSTER_NORMAL,
    QCOW2_CLUSTER_COMPRESSED,
} QCow2ClusterType;

/* Without extended L2 a cluster has one subcluster; UNALLOCATED_ALLOC occurs only with (5.2). */
typedef enum QCow2SubclusterType {
    QCOW2_SUBCLUSTER_UNALLOCATED_PLAIN,
    QCOW2_SUBCLUSTER_UNALLOCATED_ALLOC, /* a host cluster, but this part reads from below */
    QCOW2_SUBCLUSTER_ZERO_PLAIN,
    QCOW2_SUBCLUSTER_ZERO_ALLOC,
    QCOW2_SUBCLUSTER_NORMAL,
    QCOW2_SUBCLUSTER_COMPRESSED,
    QCOW2_SUBCLUSTER_INVALID, /* both bits of an extended entry */
} QCow2SubclusterType;

/* Why a cluster is freed: which host discards are wanted (5.6). */
enum qcow2_discard_type {
    QCOW2_DISCARD_NEVER,
    QCOW2_DISCARD_ALWAYS,
    QCOW2_DISCARD_REQUEST,
    QCOW2_DISCARD_SNAPSHOT,
    QCOW2_DISCARD_OTHER,
    QCOW2_DISCARD_COUNT
};

typedef struct Qcow2UnknownExtension {
    uint32_t magic;
    uint32_t bytes;
    uint8_t *data;
    STAILQ_ENTRY(Qcow2UnknownExtension) next;
} Qcow2UnknownExtension;

/* One entry of the snapshot table (5.7), host order. */
typedef struct QCowSnapshot {
    int64_t l1_table_offset;
    uint32_t l1_size;
    char *id_str;
    char *name;
    int64_t disk_size;
    uint64_t vm_state_size;
    uint32_t date_sec;
    uint32_t date_nsec;
    uint64_t vm_clock_nsec;
    uint64_t icount;             /* UINT64_MAX: unknown */
    uint32_t extra_data_size;    /* as on disk */
    uint8_t *unknown_extra_data; /* what lies beyond the fields that we know */
} QCowSnapshot;

typedef struct Qcow2Cache Qcow2Cache; /* qcow2_cache.c */

/* Guest data I/O under way on host clusters; on the stack of the request. */
typedef struct Qcow2DataUse {
    int64_t offset;
    int64_t bytes;
    LIST_ENTRY(Qcow2DataUse) list;
} Qcow2DataUse;
LIST_HEAD(qcow2_data_uses, Qcow2DataUse);

/* A write that has host clusters but no L2 entry yet (qcow2_write.c). */
typedef struct QCowL2Meta QCowL2Meta;
LIST_HEAD(qcow2_l2meta_list, QCowL2Meta);
struct qcow2_freed_range;

/* Offsets of all active L2 tables, ascending (qcow2_l2_places.c). */
struct qcow2_l2_places {
    int64_t *offset;
    uint32_t count;
    uint32_t room;
    bool known; /* as the L1 table has them */
};

typedef struct BDRVQcow2State {
    CoMutex lock;

    /* geometry, fixed while open */
    unsigned qcow_version;
    unsigned cluster_bits;
    int64_t cluster_size;
    unsigned l2_entry_size; /* 8, extended 16 */
    unsigned l2_bits;       /* entries of an L2 table, log2 */
    unsigned l2_slice_size; /* entries of one table of l2_table_cache */
    unsigned subclusters_per_cluster;
    unsigned subcluster_bits;
    int64_t subcluster_size;
    unsigned refcount_order;
    unsigned refcount_bits;
    uint64_t refcount_max;
    unsigned refcount_block_bits; /* counts in a block, log2 */
    unsigned compression_type;
    int csize_shift; /* compressed descriptor (5.2): where the sector count begins */
    uint64_t csize_mask;
    uint64_t cluster_offset_mask;

    /* header */
    uint64_t incompatible_features;
    uint64_t compatible_features;
    uint64_t autoclear_features;
    uint32_t crypt_method_header; /* 1 and 2 are refused on open: encryption is not modelled */
    uint8_t *unknown_header_fields;
    uint32_t unknown_header_fields_bytes;
    STAILQ_HEAD(, Qcow2UnknownExtension) unknown_header_ext;
    char *image_data_file; /* from the header; NULL: none */
    /* A write of header fields failed: the file may say the new thing, while the state stays with the old one
     * (qcow2_header_make_sure). */
    bool header_unsure;
    int64_t header_length_bytes; /* of the disk, as the header says: less once a write has gone beyond the end */
    bool features_unsure;        /* the same of incompatible_features */

    /* mapping */
    uint64_t *l1_table; /* host order; changed by qcow2_set_l1_entry */
    uint32_t l1_size;
    struct qcow2_l2_places l2_places;
    uint32_t l1_vm_state_index; /* entries that the virtual disk needs; VM state lies behind */
    int64_t l1_table_offset;
    Qcow2Cache *l2_table_cache;
    struct qcow2_l2meta_list cluster_allocs; /* allocating writes under way */
    struct qcow2_data_uses data_uses;        /* reads, and writes in place, under way */

    /* refcounts */
    uint64_t *refcount_table;          /* host order */
    uint32_t refcount_table_size;      /* entries */
    uint32_t max_refcount_table_index; /* last one in use */
    int64_t refcount_table_offset;
    Qcow2Cache *refcount_block_cache;
    uint64_t free_cluster_index;     /* where the search for free clusters begins (5.4) */
    int64_t free_byte_offset;        /* where the next compressed data goes; 0: nowhere yet */
    struct qcow2_freed_range *freed; /* clusters whose disuse is not stable yet (qcow2_freed.c) */
    uint32_t nb_freed;
    uint32_t freed_room;
    int64_t freed_bytes;
    /* A write that was to publish a refcount block failed, so the file may say the new thing or the old one: it is
     * told the old again before anything else is published (qcow2_refblock.c). */
    uint32_t reftable_entry_unsure; /* 1 + index of the table entry; 0: none */
    int64_t refblock_unsure;        /* what the entry may name */

    bool use_lazy_refcounts;
    bool discard_passthrough[QCOW2_DISCARD_COUNT];
    bool discard_no_unref;
    unsigned overlap_check; /* QCOW2_OL_* in force */
    bool signaled_corruption;
    /* Marked dirty on disk, and not known to be whole again: set by an open with BDRV_O_CHECK, and by what failed
     * half-way; only a complete repair clears it. qcow2_mark_clean does nothing while it is set [HOLE, 6]. */
    bool needs_repair;
    bool unusable; /* fatal corruption, or activation failed: every request is ENOMEDIUM, close writes nothing */

    /* snapshots */
    QCowSnapshot *snapshots;
    uint32_t nb_snapshots;
    int64_t snapshots_offset;
    int64_t snapshots_size; /* of the table, bytes */

    /* persistent bitmaps: the header extension as it is on disk */
    uint32_t nb_bitmaps;
    uint64_t bitmap_directory_size;
    uint64_t bitmap_directory_offset;
    bool bitmaps_stale;  /* there is an extension, but not its autoclear bit: gone with the next header */
    bool bitmaps_unsure; /* a header failed: what is stored may look consistent, whatever the directory says */

    BdrvChild *data_file; /* bs->file, or the external one */
    bool data_file_is_raw;

    uint64_t l2_cache_entry_bytes; /* a table of l2_table_cache: cluster_size, or smaller slices */
    uint64_t l2_cache_bytes;       /* as the options in force say */
    uint64_t refcount_cache_bytes;
    uint64_t cache_clean_interval_s;
    struct sim_timer cache_clean_timer;
} BDRVQcow2State;

static inline bool has_data_file(const BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;
    return s->data_file != bs->file;
}

static inline bool has_subclusters(const BDRVQcow2State *s)
{
    return (s->incompatible_features & QCOW2_INCOMPAT_EXTL2) != 0;
}

/* --- arithmetic ------------------------------------------------------------------------------------------- */

static inline int64_t start_of_cluster(const BDRVQcow2State *s, int64_t offset)
{
    return offset & ~(s->cluster_size - 1);
}

static inline int64_t offset_into_cluster(const BDRVQcow2State *s, int64_t offset)
{
    return offset & (s->cluster_size - 1);
}

static inline int64_t size_to_clusters(const BDRVQcow2State *s, int64_t bytes)
{
    return (bytes + s->cluster_size - 1) >> s->cluster_bits;
}

/* L1 entries that so many bytes of guest disk need. */
static inline uint64_t size_to_l1(const BDRVQcow2State *s, uint64_t bytes)
{
    unsigned shift = s->cluster_bits + s->l2_bits;
    return (bytes >> shift) + ((bytes & ((1ULL << shift) - 1)) != 0);
}

static inline uint64_t offset_to_l1_index(const BDRVQcow2State *s, uint64_t offset)
{
    return offset >> (s->cluster_bits + s->l2_bits);
}

static inline unsigned offset_to_l2_index(const BDRVQcow2State *s, uint64_t offset)
{
    return (unsigned)(offset >> s->cluster_bits) & ((1u << s->l2_bits) - 1);
}

static inline unsigned offset_to_l2_slice_index(const BDRVQcow2State *s, uint64_t offset)
{
    return (unsigned)(offset >> s->cluster_bits) & (s->l2_slice_size - 1);
}

static inline unsigned offset_to_sc_index(const BDRVQcow2State *s, int64_t offset)
{
    return (unsigned)(offset >> s->subcluster_bits) & (s->subclusters_per_cluster - 1);
}

/* Entries of a slice; the bitmap is 0 without extended L2. Who sets marks the table dirty. */
static inline uint64_t get_l2_entry(const BDRVQcow2State *s, const uint8_t *slice, unsigned index)
{
    return qcow2_get_be64(slice + (size_t)index * s->l2_entry_size);
}

static inline uint64_t get_l2_bitmap(const BDRVQcow2State *s, const uint8_t *slice, unsigned index)
{
    return has_subclusters(s) ? qcow2_get_be64(slice + (size_t)index * s->l2_entry_size + 8) : 0;
}

static inline void set_l2_entry(const BDRVQcow2State *s, uint8_t *slice, unsigned index, uint64_t entry)
{
    qcow2_put_be64(slice + (size_t)index * s->l2_entry_size, entry);
}

static inline void set_l2_bitmap(const BDRVQcow2State *s, uint8_t *slice, unsigned index, uint64_t bitmap)
{
    SIM_ASSERT(has_subclusters(s));
    qcow2_put_be64(slice + (size_t)index * s->l2_entry_size + 8, bitmap);
}

/* --- data under way ------------------------------------------------------------------------------------------ */

/*
 * Who reads or writes guest data without the lock says so from the look-up on. Clusters that are freed meanwhile
 * are neither discarded on the host nor given to anybody before the end of it (qcow2_freed_stable leaves them for
 * its next call): else a read would show another range's data, or find no compressed data any more, and a write
 * would go into somebody's metadata. Nobody can begin with a cluster that is freed already, so this comes to an
 * end.
 */
static inline void qcow2_data_begin(BDRVQcow2State *s, Qcow2DataUse *use, int64_t offset, int64_t bytes)
{
    use->offset = offset;
    use->bytes = bytes;
    LIST_INSERT_HEAD(&s->data_uses, use, list);
}

static inline void qcow2_data_end(Qcow2DataUse *use)
{
    LIST_REMOVE(use, list);
}

/* Something of these host clusters is being read or written. */
static inline bool qcow2_data_in_use(const BDRVQcow2State *s, int64_t offset, int64_t bytes)
{
    const Qcow2DataUse *use;

    LIST_FOREACH(use, &s->data_uses, list)
    {
        if (ranges_overlap(use->offset, use->bytes, offset, bytes)) {
            return true;
        }
    }
    return false;
}

/* --- file I/O of metadata (qcow2_io.c) --------------------------------------------------------------------- */

/* Bytes of bs->file; beyond its end they read as zeros. 0 or -errno. */
int qcow2_pread(BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf);
int qcow2_pwrite(BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf);
/* pwrite, then a flush of the file. */
int qcow2_pwrite_sync(BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf);
/* Memory of the driver: zeroed; 0 bytes give NULL. */
void *qcow2_alloc(BlockDriverState *bs, size_t bytes);
void qcow2_free(BlockDriverState *bs, void *memory, size_t bytes);
char *qcow2_strdup(BlockDriverState *bs, const char *string, size_t length);

/* --- caches of metadata tables (qcow2_cache.c) -------------------------------------------------------------- */

/* tables >= 2. Nothing is read yet; a table's memory comes with its first use. */
Qcow2Cache *qcow2_cache_create(BlockDriverState *bs, unsigned tables, unsigned table_bytes);
/* Forgets everything, dirty or not; nothing may be pinned. */
void qcow2_cache_destroy(BlockDriverState *bs, Qcow2Cache *c);
/* Pins the table at that offset of the file, reading it unless cached. -EIO with the image marked corrupt: offset 0
 * or unaligned. May write other tables, and flush, to make room. */
int qcow2_cache_get(BlockDriverState *bs, Qcow2Cache *c, int64_t offset, uint8_t **table);
/* The same without reading: the caller fills it. */
int qcow2_cache_get_empty(BlockDriverState *bs, Qcow2Cache *c, int64_t offset, uint8_t **table);
void qcow2_cache_put(Qcow2Cache *c, uint8_t **table); /* *table becomes NULL */
void qcow2_cache_entry_mark_dirty(Qcow2Cache *c, const uint8_t *table);
/* Writes what is dirty, keeping to the dependencies, but does not flush at the end. */
int qcow2_cache_write(BlockDriverState *bs, Qcow2Cache *c);
/* The same and a flush: all is stable. */
int qcow2_cache_flush(BlockDriverState *bs, Qcow2Cache *c);
/* c may be written only once `on` is stable; breaks a circle by flushing first. */
int qcow2_cache_set_dependency(BlockDriverState *bs, Qcow2Cache *c, Qcow2Cache *on);
/* c may be written only after a flush of the data (of both files with an external one). */
void qcow2_cache_depends_on_flush(Qcow2Cache *c);
/* The cached table at that offset, not pinned, or NULL. */
uint8_t *qcow2_cache_is_table_offset(Qcow2Cache *c, int64_t offset);
/* Its cluster is free: never to be written again. Not pinned. */
void qcow2_cache_discard(Qcow2Cache *c, uint8_t *table);
/* Writes, flushes and forgets everything. */
int qcow2_cache_empty(BlockDriverState *bs, Qcow2Cache *c);
/* Drops clean tables that nobody used since the last call. */
void qcow2_cache_clean_unused(BlockDriverState *bs, Qcow2Cache *c);

/* Both caches in order, then a flush of the data file and the file; then freed clusters may be used again
 * (qcow2_freed_stable). Everything that a guest flush owes. With lazy refcounts the counts are left. */
int qcow2_flush_caches(BlockDriverState *bs);

/* --- reference counts (qcow2_refcount.c, qcow2_refblock.c) --------------------------------------------------- */

int qcow2_refcount_init(BlockDriverState *bs, Error **errp); /* reads the refcount table */
void qcow2_refcount_close(BlockDriverState *bs);
/* No block counts for two stretches of the file: else what is allocated in one is in the other, and a search for
 * free clusters may take as long as a table of 8 MiB can say. */
bool qcow2_refblocks_are_distinct(BlockDriverState *bs);
int qcow2_get_refcount(BlockDriverState *bs, uint64_t cluster_index, uint64_t *refcount);
/* Adds or subtracts 1..max on every cluster that the range touches; all or none (increments are taken back; only an
 * I/O error in the middle of a decrease leaves the rest counted, which is a leak). -EINVAL: beyond refcount_max or
 * below 0. Counts are stable in the order given above: increments make the L2 cache depend on the counts unless
 * refcounts are lazy, decreases the counts on the L2 cache. A count of 0 goes through qcow2_freed.c, whatever the
 * type; what never was in use goes through qcow2_free_new_clusters. */
int qcow2_update_refcount(BlockDriverState *bs, int64_t offset, int64_t bytes, uint64_t addend, bool decrease,
                          enum qcow2_discard_type type);
int qcow2_update_cluster_refcount(BlockDriverState *bs, uint64_t cluster_index, uint64_t addend, bool decrease,
                                  enum qcow2_discard_type type);
/* Counts of one block in memory: the widths of 5.3. index is inside the block. */
uint64_t qcow2_refcount_get(const BDRVQcow2State *s, const uint8_t *block, uint64_t index);
void qcow2_refcount_set(const BDRVQcow2State *s, uint8_t *block, uint64_t index, uint64_t count);
/* Every cluster of the file's bytes [start, end) gets a block to be counted in: new blocks as needed, a larger
 * table and a header switched by one write (5.4), none of them inside the range. -EFBIG: the table would be too
 * large. */
int qcow2_refcount_area(BlockDriverState *bs, int64_t start, int64_t end);
/* After a shrink: blocks that count nothing any more go. */
int qcow2_shrink_reftable(BlockDriverState *bs);
/* End of the last cluster with a count > 0, in clusters. -EIO: there is none, the image is corrupt. */
int64_t qcow2_get_last_cluster(BlockDriverState *bs, int64_t file_bytes);

/* --- allocation (qcow2_alloc.c, qcow2_freed.c) ---------------------------------------------------------------- */

/* Contiguous clusters with a count of 1; their offset, or -errno (-EFBIG: beyond 2^56). Offset 0 is never given
 * out: corrupt. */
int64_t qcow2_alloc_clusters(BlockDriverState *bs, int64_t bytes);
/* what: for the message when offset 0 is free: "L2 table". */
int64_t qcow2_alloc_clusters_for(BlockDriverState *bs, int64_t bytes, const char *what);
/* As many of nb clusters as are free from offset on; 0: none. -errno. */
int64_t qcow2_alloc_clusters_at(BlockDriverState *bs, int64_t offset, int64_t nb);
/* Room for compressed data, 1..cluster_size bytes, behind the last if the shared cluster's count allows (5.4). */
int64_t qcow2_alloc_bytes(BlockDriverState *bs, int64_t bytes);
/* -1 on each cluster; problems are told by the image's corrupt mark, not here. */
void qcow2_free_clusters(BlockDriverState *bs, int64_t offset, int64_t bytes, enum qcow2_discard_type type);
/* Of clusters that nothing on disk or in a cache has ever named: free at once. */
void qcow2_free_new_clusters(BlockDriverState *bs, int64_t offset, int64_t bytes);
/* What an L2 entry refers to: a cluster, the sectors of compressed data, nothing. */
void qcow2_free_any_cluster(BlockDriverState *bs, uint64_t l2_entry, enum qcow2_discard_type type);
/* Freed, and not stable yet: nobody may have it. */
bool qcow2_is_freed(const BDRVQcow2State *s, uint64_t cluster_index);
/* One cluster, whose count is 0. */
void qcow2_freed_add(BlockDriverState *bs, int64_t offset, int64_t bytes, enum qcow2_discard_type type);
/* All metadata is stable: host discards as the classes say (before anybody can allocate), then they are free. */
void qcow2_freed_stable(BlockDriverState *bs);
void qcow2_freed_close(BlockDriverState *bs);
/* Somebody counts the cluster again before it became free; nothing if it does not wait. */
void qcow2_freed_take_back(BlockDriverState *bs, uint64_t cluster_index);
/* So much waits that an allocation should flush first: 1/8 of the space in use (1 MiB to 64 MiB), or 4096 pieces.
 */
bool qcow2_freed_too_many(const BDRVQcow2State *s);
/* Now, if the class wants it; what lies beyond the end of the file is left out. */
void qcow2_host_discard(BlockDriverState *bs, BdrvChild *child, int64_t offset, int64_t bytes,
                        enum qcow2_discard_type type);

/* --- overlap checks and corruption (qcow2_overlap.c; 5.8) ------------------------------------------------------
 */

enum {
    QCOW2_OL_MAIN_HEADER = 1 << 0,
    QCOW2_OL_ACTIVE_L1 = 1 << 1,
    QCOW2_OL_ACTIVE_L2 = 1 << 2,
    QCOW2_OL_REFCOUNT_BLOCK = 1 << 3,
    QCOW2_OL_REFCOUNT_TABLE = 1 << 4,
    QCOW2_OL_SNAPSHOT_TABLE = 1 << 5,
    QCOW2_OL_INACTIVE_L1 = 1 << 6,
    QCOW2_OL_INACTIVE_L2 = 1 << 7,
    QCOW2_OL_BITMAP_DIRECTORY = 1 << 8,
    QCOW2_OL_NONE = 0,
    QCOW2_OL_CONSTANT = QCOW2_OL_MAIN_HEADER | QCOW2_OL_REFCOUNT_TABLE | QCOW2_OL_ACTIVE_L1 |
                        QCOW2_OL_SNAPSHOT_TABLE | QCOW2_OL_BITMAP_DIRECTORY,
    QCOW2_OL_CACHED = QCOW2_OL_CONSTANT | QCOW2_OL_REFCOUNT_BLOCK | QCOW2_OL_ACTIVE_L2 | QCOW2_OL_INACTIVE_L1,
    QCOW2_OL_ALL = QCOW2_OL_CACHED | QCOW2_OL_INACTIVE_L2,
};

/* Before any write to [offset, +bytes) of the file: 0, or -EIO with the image marked corrupt. ignore: QCOW2_OL_* of
 * what the caller means to write. data_file: guest data; nothing to check with an external data file. */
int qcow2_pre_write_overlap_check(BlockDriverState *bs, unsigned ignore, int64_t offset, int64_t bytes,
                                  bool data_file);
/* Sends BLOCK_IMAGE_CORRUPTED (the first time; fatal ones always), and if fatal and writable sets the corrupt bit
 * and makes the node unusable. offset, bytes: -1 when unknown. */
void qcow2_signal_corruption(BlockDriverState *bs, bool fatal, int64_t offset, int64_t bytes, const char *fmt, ...)
    SIM_PRINTF(5, 6);

/* --- header (qcow2_header.c) ------------------------------------------------------------------------------------
 */

/* The first cluster from the state: fields, extensions, backing file name; one write, no flush. -ENOSPC: does not
 * fit. */
int qcow2_update_header(BlockDriverState *bs);
/* After a failed switch to another L1 table, refcount table or length the file may say either; that is no matter
 * until the two part ways. So whoever changes one of these tables, or promises that something is stable, calls this
 * first: if s->header_unsure the file is told what the state says, with a flush. */
int qcow2_header_make_sure(BlockDriverState *bs);
/* Feature bits, each written and flushed by itself; nothing when they are so already. */
int qcow2_mark_dirty(BlockDriverState *bs);
int qcow2_mark_clean(BlockDriverState *bs); /* flushes both caches first; stays dirty if that fails */
int qcow2_mark_corrupt(BlockDriverState *bs);
int qcow2_mark_consistent(BlockDriverState *bs);

/* --- mapping (qcow2_map.c, qcow2_l2.c) --------------------------------------------------------------------------
 */

QCow2ClusterType qcow2_get_cluster_type(const BlockDriverState *bs, uint64_t l2_entry);
QCow2SubclusterType qcow2_get_subcluster_type(const BlockDriverState *bs, uint64_t l2_entry, uint64_t l2_bitmap,
                                              unsigned sc_index);
/* How the guest's bytes from offset on are stored: type and a run of it in *bytes (cut down, > 0); *host_offset:
 * NORMAL, *_ALLOC the byte's place in s->data_file, COMPRESSED the whole L2 entry, else 0. */
int qcow2_get_host_offset(BlockDriverState *bs, int64_t offset, int64_t *bytes, int64_t *host_offset,
                          QCow2SubclusterType *type);
/* The two halves of it, which only look: the offset of the L2 table, 0 for none, with *bytes cut down to its span;
 * and what `count` entries say, the first being that of offset's cluster. NULL, or what is wrong with the first. */
int64_t qcow2_map_l1(const BlockDriverState *bs, int64_t offset, int64_t *bytes);
const char *qcow2_map_entries(const BlockDriverState *bs, const uint8_t *entries, unsigned count, int64_t offset,
                              int64_t *bytes, int64_t *host_offset, QCow2SubclusterType *type);
/* Where in the file the L2 slice of a guest offset is. */
int64_t qcow2_l2_slice_offset(const BDRVQcow2State *s, int64_t offset, int64_t l2_offset);
/* The L2 slice of a guest offset, which exists in L1 (aligned, not 0), pinned. */
int qcow2_l2_load(BlockDriverState *bs, int64_t offset, int64_t l2_offset, uint8_t **slice);
/* The same for changing it: L1 grown, the table made or copied if shared, L1 written as 5.5 orders. (qcow2_l1.c) */
int qcow2_get_cluster_table(BlockDriverState *bs, int64_t offset, uint8_t **slice, unsigned *l2_index);
/* min_size entries or more; exact: not more. (qcow2_l1.c) */
int qcow2_grow_l1_table(BlockDriverState *bs, uint64_t min_size, bool exact_size);
int qcow2_shrink_l1_table(BlockDriverState *bs, uint64_t max_size);
int qcow2_write_l1_entry(BlockDriverState *bs, uint32_t l1_index);
/* In memory. (qcow2_l2_places.c) */
void qcow2_set_l1_entry(BlockDriverState *bs, uint32_t l1_index, uint64_t entry);
/* Some active L2 table lies in the range, or partly. */
bool qcow2_l2_places_hit(BlockDriverState *bs, int64_t offset, int64_t bytes);
/* The L1 table is another one. */
void qcow2_l2_places_forget(BlockDriverState *bs);
/* Where compressed data lies: byte offset, and how many bytes up to the end of its last sector. */
void qcow2_parse_compressed_l2_entry(const BlockDriverState *bs, uint64_t l2_entry, int64_t *coffset,
                                     int64_t *csize);

/* --- requests; they take the lock themselves --------------------------------------------------------------------
 */

int qcow2_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags);
int qcow2_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                          int64_t *map, BlockDriverState **file);
int qcow2_peek(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out);
bool qcow2_peek_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum);
int qcow2_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in, uint32_t flags);
int qcow2_co_pwritev_compressed(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in);
int qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags);
int qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes);
int qcow2_co_copy_range_from(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                             int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags);
int qcow2_co_copy_range_to(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                           int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags);
/* Under the lock: clusters of the range become unallocated or zero; whole clusters (or up to the end). full: for a
 * shrink or a snapshot revert, also what discard would leave as zero. (qcow2_zero.c) */
int qcow2_cluster_discard(BlockDriverState *bs, int64_t offset, int64_t bytes, enum qcow2_discard_type type,
                          bool full_discard);
int qcow2_subcluster_zeroize(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags);
/* Reads one compressed cluster whole. Lock not held. (qcow2_compress.c) */
int qcow2_co_read_compressed(BlockDriverState *bs, uint64_t l2_entry, uint8_t *cluster);

/* Compressed bytes of one cluster (qcow2_codec.c). compress: their number, or -ENOMEM when they do not fit. out of
 * a decompression is exactly out_bytes, or -EIO. */
int64_t qcow2_compress(unsigned type, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes);
int qcow2_decompress(unsigned type, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes);

/* --- snapshots (qcow2_snapshot*.c; 5.7)
 * --------------------------------------------------------------------------- */

int qcow2_read_snapshots(BlockDriverState *bs, Error **errp);
void qcow2_free_snapshots(BlockDriverState *bs);
/* Writes a new table and switches the header to it (nb and offset in one write), then frees the old. */
int qcow2_write_snapshots(BlockDriverState *bs);
/* addend -1, 0, +1 on every cluster that an L1 table refers to, its L2 tables included; with 0, and at the end of
 * others, COPIED of the active tables is made right. */
int qcow2_update_snapshot_refcount(BlockDriverState *bs, int64_t l1_table_offset, uint32_t l1_size, int addend);
/* The driver's hooks: on a drained, writable node; they take the lock. */
int qcow2_co_snapshot_create(BlockDriverState *bs, const QEMUSnapshotInfo *info, Error **errp);
int qcow2_co_snapshot_goto(BlockDriverState *bs, const char *id, Error **errp);
int qcow2_co_snapshot_delete(BlockDriverState *bs, const char *id, const char *name, Error **errp);
int qcow2_co_snapshot_load_tmp(BlockDriverState *bs, const char *id_or_name, Error **errp);
int qcow2_snapshot_list(const BlockDriverState *bs, QEMUSnapshotInfo **list);

/* --- persistent bitmaps (qcow2_bitmap*.c; 4)
 * ---------------------------------------------------------------------- */

/* After the header was read and bs->total_bytes set, and on activation: loads, and marks in use if writable (4.2).
 * Stale ones are dropped with their extension if writable. Nothing on an inactive node. *header_updated: the header
 * has been rewritten, with unknown autoclear bits gone. */
int qcow2_load_dirty_bitmaps(BlockDriverState *bs, bool *header_updated, Error **errp);
/* Whether that would find anything wrong; writes nothing, keeps nothing. */
int qcow2_try_dirty_bitmaps(BlockDriverState *bs, Error **errp);
/* Before a resize: -ENOTSUP with the reference's text (4.6). */
int qcow2_truncate_bitmaps_check(BlockDriverState *bs, Error **errp);
/* The header extension, checked (texts of malformed.tsv); fills nb_bitmaps and the rest, and bitmaps_stale.
 * autoclear_features and cluster_bits are known. */
int qcow2_read_bitmaps_extension(BlockDriverState *bs, const uint8_t *data, uint32_t bytes, Error **errp);
/* What is stored, for people: name, granularity, flags of each. NULL: none, or none that can be read. Lock held. */
struct qvalue *qcow2_bitmap_info_list(BlockDriverState *bs);
bool qcow2_supports_persistent_dirty_bitmap(const BlockDriverState *bs);
/* Hooks of the driver: these take the lock themselves. */
int qcow2_co_store_dirty_bitmaps(BlockDriverState *bs, Error **errp);
int qcow2_co_reopen_bitmaps_rw(BlockDriverState *bs, Error **errp);
bool qcow2_co_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name, uint32_t granularity,
                                         Error **errp);
int qcow2_co_remove_persistent_dirty_bitmap(BlockDriverState *bs, const char *name, Error **errp);

/* --- check and repair (qcow2_check*.c, qcow2_repair.c; 5.8)
 * ------------------------------------------------------- */

/* What the image itself refers to, counted by a check; count_bitmaps adds directory, tables and data, and problems
 * to res. Sparse: memory follows what is used. */
struct qcow2_counts;
int qcow2_counts_add(BlockDriverState *bs, struct qcow2_counts *counts, BdrvCheckResult *res, int64_t offset,
                     int64_t bytes);
int qcow2_check_bitmaps_refcounts(BlockDriverState *bs, BdrvCheckResult *res, struct qcow2_counts *counts);
int qcow2_co_check(BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix);
/* The same with the lock held, for a dirty image that is being opened. */
int qcow2_check_locked(BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix);

/* --- creation, size (qcow2_create.c, qcow2_resize.c)
 * --------------------------------------------------------------- */

int qcow2_co_create(struct host *host, const struct qvalue *options, Error **errp);
int qcow2_co_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc, uint32_t flags,
                      Error **errp);
extern const BdrvOption qcow2_create_options[];

/* Requests on a node that is unusable are -ENOMEDIUM: hooks ask first. */
static inline bool qcow2_usable(const BlockDriverState *bs)
{
    const BDRVQcow2State *s = bs->opaque;
    return !s->unusable;
}

#endif
