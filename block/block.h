/*
 * The block layer as its users see it: nodes, edges, requests (reference/block.md 1 to 7).
 *
 * A node (BlockDriverState) belongs to a host's graph and is counted: one reference per edge from a parent, one for
 * monitor ownership, others by whoever holds one. An edge (BdrvChild) belongs to its parent. Functions with `co` in
 * the name and everything that changes the graph run in coroutine context; graph changes run on the main coroutine
 * inside drained sections.
 *
 * Offsets and lengths are bytes; lengths are at most BDRV_MAX_LENGTH. Errors are negative errno.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include "sim/disk.h"

typedef struct BlockDriverState BlockDriverState;
typedef struct BlockDriver BlockDriver;
typedef struct BdrvChild BdrvChild;
typedef struct BdrvChildClass BdrvChildClass;
typedef struct BlockBackend BlockBackend;
typedef struct BdrvDirtyBitmap BdrvDirtyBitmap;

#define BDRV_MAX_LENGTH ((int64_t)(INT64_MAX & ~(((int64_t)1 << 30) - 1)))
#define BDRV_MAX_REQUEST ((int64_t)2147483136)
#define BDRV_MAX_ALIGNMENT ((uint32_t)1 << 30)
#define BDRV_MAX_BOUNCE (16 * MiB)
#define BDRV_NODE_NAME_MAX 31
#define BDRV_BITMAP_NAME_MAX 1023

/* Permissions (1.11). Bit 0x10 stays unused. */
enum {
    BLK_PERM_CONSISTENT_READ = 0x01,
    BLK_PERM_WRITE = 0x02,
    BLK_PERM_WRITE_UNCHANGED = 0x04,
    BLK_PERM_RESIZE = 0x08,
    BLK_PERM_ALL = 0x0f,
};

/* Roles of an edge (1.3). */
enum {
    BDRV_CHILD_DATA = 0x01,
    BDRV_CHILD_METADATA = 0x02,
    BDRV_CHILD_FILTERED = 0x04,
    BDRV_CHILD_COW = 0x08,
    BDRV_CHILD_PRIMARY = 0x10,
};

/* Request flags (2.8). */
enum {
    BDRV_REQ_COPY_ON_READ = 0x001,
    BDRV_REQ_PREFETCH = 0x002,
    BDRV_REQ_ZERO_WRITE = 0x004,
    BDRV_REQ_MAY_UNMAP = 0x008,
    BDRV_REQ_FUA = 0x010,
    BDRV_REQ_WRITE_COMPRESSED = 0x020,
    BDRV_REQ_WRITE_UNCHANGED = 0x040,
    BDRV_REQ_SERIALISING = 0x080,
    BDRV_REQ_NO_FALLBACK = 0x100,
    BDRV_REQ_NO_WAIT = 0x200,
    BDRV_REQ_REGISTERED_BUF = 0x400,
};

/* Block status (2.13). */
enum {
    BDRV_BLOCK_DATA = 0x01,
    BDRV_BLOCK_ZERO = 0x02,
    BDRV_BLOCK_OFFSET_VALID = 0x04,
    BDRV_BLOCK_RAW = 0x08,
    BDRV_BLOCK_ALLOCATED = 0x10,
    BDRV_BLOCK_EOF = 0x20,
    BDRV_BLOCK_RECURSE = 0x40,
    BDRV_BLOCK_COMPRESSED = 0x80,
};

/* Open flags. */
enum {
    BDRV_O_RDWR = 0x01,
    BDRV_O_AUTO_RDONLY = 0x02,
    BDRV_O_UNMAP = 0x04,    /* discard=unmap */
    BDRV_O_NO_FLUSH = 0x08, /* cache.no-flush */
    BDRV_O_NOCACHE = 0x10,  /* cache.direct */
    BDRV_O_FORCE_SHARE = 0x20,
    BDRV_O_INACTIVE = 0x40, /* opened without ownership */
    BDRV_O_NO_IO = 0x80,
    BDRV_O_PROBED = 0x100, /* the format was guessed from the content: raw guards its first sector (2.15) */
    /* Opened in order to be checked: an image marked dirty is not repaired by the way, one marked corrupt may be
     * written, and what a check can repair (the snapshot table) does not fail the open. No guest may use it. */
    BDRV_O_CHECK = 0x200,
};

enum bdrv_detect_zeroes { BDRV_DETECT_ZEROES_OFF, BDRV_DETECT_ZEROES_ON, BDRV_DETECT_ZEROES_UNMAP };

/* Operations that users may block on a node (1.12). Advisory: only commands ask. */
enum bdrv_op {
    BLOCK_OP_BACKUP_SOURCE,
    BLOCK_OP_BACKUP_TARGET,
    BLOCK_OP_CHANGE,
    BLOCK_OP_COMMIT_SOURCE,
    BLOCK_OP_COMMIT_TARGET,
    BLOCK_OP_DRIVE_DEL,
    BLOCK_OP_EJECT,
    BLOCK_OP_EXTERNAL_SNAPSHOT,
    BLOCK_OP_INTERNAL_SNAPSHOT,
    BLOCK_OP_INTERNAL_SNAPSHOT_DELETE,
    BLOCK_OP_MIRROR_SOURCE,
    BLOCK_OP_MIRROR_TARGET,
    BLOCK_OP_RESIZE,
    BLOCK_OP_STREAM,
    BLOCK_OP_REPLACE,
    BLOCK_OP_COUNT,
};

enum bdrv_prealloc { PREALLOC_OFF, PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL };

typedef struct BlockDriverInfo {
    int64_t cluster_size;    /* 0: no clusters */
    int64_t subcluster_size; /* 0: clusters have no parts */
    bool is_dirty;
} BlockDriverInfo;

/* Limits of requests (2.3). */
typedef struct BlockLimits {
    uint32_t request_alignment; /* >= 1; not inherited */
    int64_t max_pdiscard;       /* 0: unlimited */
    uint32_t pdiscard_alignment;
    int64_t max_pwrite_zeroes;
    uint32_t pwrite_zeroes_alignment; /* not inherited */
    uint32_t opt_transfer;
    int64_t max_transfer; /* 0: unlimited, else multiple of request_alignment */
    uint32_t min_mem_alignment;
    uint32_t max_iov;
} BlockLimits;

/* --- graph life ------------------------------------------------------------------------------------------ */

/* A host's graph; drivers register in one static table (block/drivers.c). */
void bdrv_graph_init(struct host *host);
/* All nodes must be gone. */
void bdrv_graph_cleanup(struct host *host);
/* Driver `file` may open files of this machine; relative paths begin at base ("": the working directory). NULL, the
 * default: it may not. */
void bdrv_set_host_files(struct host *host, const char *base);

/* Opens a node from an option tree: `driver`, the generic node options and the driver's own; children as inline
 * dictionaries or as names of existing nodes. Takes nothing over. Every key must be consumed: leftovers are an
 * error. The result carries one reference for the caller. NULL with errp. flags: inherited open flags. */
BlockDriverState *bdrv_open(struct host *host, const struct qvalue *options, uint32_t flags, Error **errp);
/* A node for a filter that a job inserts: not in the monitor's ownership, children not attached yet. node_name
 * NULL: generated, and the node is implicit. One reference for the caller. */
BlockDriverState *bdrv_new_filter(struct host *host, const BlockDriver *drv, const char *node_name, uint32_t flags,
                                  Error **errp);
void bdrv_ref(BlockDriverState *bs);
/* May drain, flush and close; main coroutine. NULL is fine. */
void bdrv_unref(BlockDriverState *bs);
/* blockdev-add and blockdev-del (9). */
BlockDriverState *qmp_blockdev_add_node(struct host *host, const struct qvalue *options, Error **errp);
bool qmp_blockdev_del_node(struct host *host, const char *node_name, Error **errp);
/* block_resize (9): asks for RESIZE like any other user, drains, changes the length. */
bool qmp_block_resize_node(BlockDriverState *bs, int64_t length, Error **errp);

BlockDriverState *bdrv_find_node(struct host *host, const char *node_name);
/* Backend name first, then node name (1.2). errp: "Cannot find device='X' nor node-name='X'" or "Device 'X' has no
 * medium". */
BlockDriverState *bdrv_lookup_bs(struct host *host, const char *name, Error **errp);
/* Newest first; NULL starts and ends. */
BlockDriverState *bdrv_next_node(struct host *host, const BlockDriverState *after);

/* --- reading a node's state (const accessors) ------------------------------------------------------------ */

const char *bdrv_get_node_name(const BlockDriverState *bs);
const struct sim_name *bdrv_node_sim_name(const BlockDriverState *bs);
/* Key of the path from a named node ("s/file"), the stable entity of a node. */
uint64_t bdrv_entity(const BlockDriverState *bs);
struct host *bdrv_host(const BlockDriverState *bs);
const char *bdrv_driver_name(const BlockDriverState *bs);
/* File name as query-block gives it: the medium's name for disk nodes, the child's for filters and formats. */
const char *bdrv_filename(const BlockDriverState *bs);
int64_t bdrv_getlength_cached(const BlockDriverState *bs); /* bytes, rounded up to 512 */
uint32_t bdrv_open_flags(const BlockDriverState *bs);
bool bdrv_is_read_only(const BlockDriverState *bs);
bool bdrv_is_inactive(const BlockDriverState *bs);
bool bdrv_is_writable(const BlockDriverState *bs);
bool bdrv_is_implicit(const BlockDriverState *bs);
unsigned bdrv_refcount(const BlockDriverState *bs);
unsigned bdrv_in_flight(const BlockDriverState *bs);
unsigned bdrv_quiesce_counter(const BlockDriverState *bs);
/* Who caused a read, write, discard or truncate that is inside the node now, if that is a guest or a job; NULL:
 * none. */
const struct sim_origin *bdrv_request_from_outside(const BlockDriverState *bs);
uint32_t bdrv_request_alignment(const BlockDriverState *bs);
const BlockLimits *bdrv_limits(const BlockDriverState *bs);
/* All options in force, as they are kept for a reopen (6); NULL: made without any. The node's own. */
const struct qvalue *bdrv_options_in_force(const BlockDriverState *bs);
unsigned bdrv_copy_on_read_users(const BlockDriverState *bs);
bool bdrv_has_monitor_ref(const BlockDriverState *bs);
bool bdrv_supports_backing(const BlockDriverState *bs);
enum bdrv_detect_zeroes bdrv_get_detect_zeroes(const BlockDriverState *bs);
/* End of the highest write so far, whether it failed or not (2.7). */
uint64_t bdrv_get_wr_highest_offset(const BlockDriverState *bs);
/* Write threshold (4.1): the end of a write or discard beyond it sends BLOCK_WRITE_THRESHOLD once. 0: off. */
uint64_t bdrv_get_write_threshold(const BlockDriverState *bs);
void bdrv_set_write_threshold(BlockDriverState *bs, uint64_t threshold_bytes);
/* Cumulative permissions over all parents (no parents: 0 and ALL). */
void bdrv_cumulative_perms(const BlockDriverState *bs, uint64_t *perm, uint64_t *shared);

/* Edges, newest first; NULL ends. */
BdrvChild *bdrv_first_child(const BlockDriverState *bs);
BdrvChild *bdrv_next_child(const BdrvChild *child);
BdrvChild *bdrv_first_parent(const BlockDriverState *bs);
BdrvChild *bdrv_next_parent(const BdrvChild *child);
BlockDriverState *bdrv_child_bs(const BdrvChild *child);        /* the node it points to */
BlockDriverState *bdrv_child_parent_bs(const BdrvChild *child); /* NULL when the parent is no node */
const char *bdrv_child_name(const BdrvChild *child);            /* "file", "backing", "root", ... */
uint32_t bdrv_child_role(const BdrvChild *child);
void bdrv_child_perms(const BdrvChild *child, uint64_t *perm, uint64_t *shared);
bool bdrv_child_frozen(const BdrvChild *child);
uint64_t bdrv_child_number(const BdrvChild *child);      /* order of making in the graph: unique */
bool bdrv_child_quiesces_parent(const BdrvChild *child); /* the edge holds its parent quiesced (3) */
/* "node 's'", "block device 'g'", "block job 'm'": for messages. Caller frees with free(). */
char *bdrv_child_user_desc(const BdrvChild *child);

/* Chain helpers (1.4). NULL when there is none. */
BdrvChild *bdrv_cow_child(const BlockDriverState *bs);
BdrvChild *bdrv_filter_child(const BlockDriverState *bs);
BdrvChild *bdrv_filter_or_cow_child(const BlockDriverState *bs);
BdrvChild *bdrv_primary_child(const BlockDriverState *bs);
BlockDriverState *bdrv_skip_filters(BlockDriverState *bs);
BlockDriverState *bdrv_skip_implicit_filters(BlockDriverState *bs);
BlockDriverState *bdrv_cow_bs(const BlockDriverState *bs);
BlockDriverState *bdrv_filter_bs(const BlockDriverState *bs);
BlockDriverState *bdrv_filter_or_cow_bs(const BlockDriverState *bs);
BlockDriverState *bdrv_primary_bs(const BlockDriverState *bs);
BlockDriverState *bdrv_backing_chain_next(BlockDriverState *bs);
bool bdrv_chain_contains(BlockDriverState *top, const BlockDriverState *base);
/* The backing image of that file name below bs, no filter; the name is what a header says or what the node itself
 * is called. NULL: none. */
BlockDriverState *bdrv_find_backing_image(BlockDriverState *bs, const char *filename);

/* Content of a node now, without I/O, events or time: for checkers and set-up. -ENOTSUP when a driver has no
 * such view. Appends to out. */
int bdrv_peek(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out);
/* A run of equal kind from offset: true when it may hold data (else reads zero); *pnum > 0. Never overstates a
 * hole. For walking sparse nodes cheaply. */
bool bdrv_peek_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum);

/* --- graph changes (1.7 to 1.10). Main coroutine. --------------------------------------------------------- */

/* Inserts new_top (a filter or format whose filtered/backing slot is empty) above old: attach, move parents, one
 * permission refresh, all or nothing (1.8). */
int bdrv_append(BlockDriverState *new_top, BlockDriverState *old, Error **errp);
/* Takes a filter out: its child takes its place with the parents. */
int bdrv_drop_filter(BlockDriverState *filter, Error **errp);
/* Whether a copy of bs may take the place of to_replace without anybody seeing other data from one moment to the
 * next: it is bs, a node that bs only filters, or what a driver below vouches for. */
bool bdrv_recurse_can_replace(BlockDriverState *bs, const BlockDriverState *to_replace);
/* Moves the parents of from to to, except jobs and what would become a loop. -EPERM: a frozen link. */
int bdrv_replace_node(BlockDriverState *from, BlockDriverState *to, Error **errp);
/* Takes top and all down to base out: top's parents get base, all of them or none (-EINVAL for jobs, -EPERM for
 * frozen links). Then each overlay's header names base as backing_file (NULL: base's own name); an overlay that
 * cannot be written gives an error, but the graph stays changed: *changed (may be NULL) tells. Where top is shorter
 * than base, overlays are first given the zeroes that they showed beyond its end. */
int bdrv_drop_intermediate(BlockDriverState *top, BlockDriverState *base, const char *backing_file, bool *changed,
                           Error **errp);
/* The same; format: what the headers say base is (NULL: as bdrv_backing_format does). */
int bdrv_drop_intermediate_as(BlockDriverState *top, BlockDriverState *base, const char *backing_file,
                              const char *format, bool *changed, Error **errp);
/* Gives bs another backing node, or none (NULL). -EPERM: the present link is frozen; -EINVAL: no backing support,
 * or a cycle. The image's header stays as it is. */
int bdrv_set_backing_hd(BlockDriverState *bs, BlockDriverState *backing, Error **errp);
/* Writes a backing file into the image's header, and nothing else. filename NULL: none. -ENOTSUP: the driver
 * cannot. Coroutine or main. */
int bdrv_change_backing_file(BlockDriverState *bs, const char *filename, const char *format);
/* The same also for a read-only image: it is reopened read-write meanwhile. */
int bdrv_rewrite_backing_file(BlockDriverState *bs, const char *filename, const char *format, Error **errp);
/* What a header should say of the format of an image that has bs as its backing node: of what the filters stand
 * for, and a bare protocol is raw. */
const char *bdrv_backing_format(BlockDriverState *bs);
/* Name of the backing file in the header, NULL: none; the same seen from where the image is (libc memory, free()).
 */
const char *bdrv_backing_filename(const BlockDriverState *bs);
const char *bdrv_header_backing_format(const BlockDriverState *bs);
char *bdrv_full_backing_filename(const BlockDriverState *bs);
BdrvChild *bdrv_find_child(const BlockDriverState *parent, const char *name); /* NULL when there is none */
/* No node is above it: only devices, jobs, exports. */
bool bdrv_is_root_node(const BlockDriverState *bs);
/* Recomputes permissions of bs and everything below. */
int bdrv_refresh_perms(BlockDriverState *bs, Error **errp);
int bdrv_child_try_set_perm(BdrvChild *child, uint64_t perm, uint64_t shared, Error **errp);
/* Attaches child under parent; drains for the caller. */
BdrvChild *bdrv_attach_child(BlockDriverState *parent, BlockDriverState *child, const char *name, uint32_t role,
                             Error **errp);
/* x-blockdev-change (9): one child more or less, where the parent's driver has an order of its own for that. */
int bdrv_add_child(BlockDriverState *parent, BlockDriverState *child, Error **errp);
int bdrv_del_child(BlockDriverState *parent, BdrvChild *child, Error **errp);
void bdrv_unref_child(BlockDriverState *parent, BdrvChild *child);
/* Freezes every filter-or-cow edge from top down to base; all or nothing. */
int bdrv_freeze_chain(BlockDriverState *top, BlockDriverState *base, Error **errp);
void bdrv_unfreeze_chain(BlockDriverState *top, BlockDriverState *base);
/* Reopen (6): all of it or nothing. Main coroutine or any other; polls, flushes.
 *
 * bdrv_reopen: what is passed changes, all else stays (keep), or goes back to its default (not keep; then passed is
 * a complete option tree). blockdev-reopen: a list of such trees, each with its node-name, in one step. 0 or
 * negative errno with errp. */
int bdrv_reopen(BlockDriverState *bs, const struct qvalue *passed, bool keep, Error **errp);
int bdrv_reopen_set_read_only(BlockDriverState *bs, bool read_only, Error **errp);
/* Takes back bdrv_reopen_set_read_only(bs, false): as it was, also among the options that the node has of its own.
 * said: whether `read-only` was one of them. */
void bdrv_reopen_read_only_again(BlockDriverState *bs, bool said);
bool bdrv_says_read_only(const BlockDriverState *bs);
bool qmp_blockdev_reopen_nodes(struct host *host, const struct qvalue *list, Error **errp);

/* Op blockers (1.12). The Error stays the blocker's owner's; identity is its address. */
void bdrv_op_block(BlockDriverState *bs, enum bdrv_op op, Error *reason);
void bdrv_op_block_all(BlockDriverState *bs, Error *reason);
void bdrv_op_unblock(BlockDriverState *bs, enum bdrv_op op, Error *reason);
void bdrv_op_unblock_all(BlockDriverState *bs, Error *reason);
/* True and "Node 'N' is busy: REASON" when blocked. */
bool bdrv_op_is_blocked(const BlockDriverState *bs, enum bdrv_op op, Error **errp);
unsigned bdrv_op_blockers(const BlockDriverState *bs); /* how many, for the census */
unsigned bdrv_op_blockers_of(const BlockDriverState *bs, enum bdrv_op op);

/* --- images (9) ------------------------------------------------------------------------------------------ */

/* Makes an image: `driver` and the keys of that driver's create_options. Pure check first, false with errp; then
 * the making, in a coroutine that is not the main one. */
bool bdrv_create_check(const struct qvalue *options, Error **errp);
int bdrv_co_create(struct host *host, const struct qvalue *options, Error **errp);
/* As the commands that make an image on the way do: the medium by its protocol, then the format on it. backing_file
 * NULL: none. Any coroutine. */
int bdrv_img_create(struct host *host, const char *filename, const char *format, int64_t size_bytes,
                    const char *backing_file, const char *backing_format, Error **errp);

/* What a check of an image found (bitmaps-qcow2.md 5.8); field names as in `qemu-img check --output=json`. */
typedef struct BdrvCheckResult {
    int64_t corruptions;
    int64_t leaks;
    int64_t check_errors; /* the check itself could not go on */
    int64_t corruptions_fixed;
    int64_t leaks_fixed;
    int64_t image_end_offset;
    int64_t total_clusters;
    int64_t allocated_clusters;
    int64_t fragmented_clusters;
    int64_t compressed_clusters;
    /* A line for each thing found, as qemu-img prints them; NULL: only counts are wanted. */
    void (*say)(void *opaque, const char *line);
    void *say_opaque;
} BdrvCheckResult;

enum { BDRV_FIX_LEAKS = 1, BDRV_FIX_ERRORS = 2 };
/* fix: BDRV_FIX_*; needs a writable node then. 0: checked, res tells; -ENOTSUP: the format has no check. */
int bdrv_co_check(BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix);

/* Internal snapshots (bitmaps-qcow2.md 5.7). Strings of a list are libc memory, freed with bdrv_snapshot_list_free.
 */
typedef struct QEMUSnapshotInfo {
    char *id_str;
    char *name;
    uint64_t vm_state_size;
    uint32_t date_sec;
    uint32_t date_nsec;
    uint64_t vm_clock_nsec;
    uint64_t icount; /* UINT64_MAX: unknown */
    int64_t disk_size;
} QEMUSnapshotInfo;

/* All need a writable node but list; the node is drained by the caller for create and goto. id NULL: a new one
 * (create), or any of that name (goto, delete). -ENOTSUP, -ENOENT, -EEXIST, -EBUSY with errp. Coroutine. */
/* The format keeps them, and the node is writable. */
bool bdrv_can_snapshot(const BlockDriverState *bs);
int bdrv_co_snapshot_create(BlockDriverState *bs, const char *id, const char *name, Error **errp);
int bdrv_co_snapshot_goto(BlockDriverState *bs, const char *id, const char *name, Error **errp);
int bdrv_co_snapshot_delete(BlockDriverState *bs, const char *id, const char *name, Error **errp);
/* Shows the content of a snapshot until the node is closed. Read-only nodes only; nothing is written. */
int bdrv_co_snapshot_load(BlockDriverState *bs, const char *id_or_name, Error **errp);
/* Their number, or -errno; *list is malloc'ed, NULL for none. */
int bdrv_snapshot_list(const BlockDriverState *bs, QEMUSnapshotInfo **list);
void bdrv_snapshot_list_free(QEMUSnapshotInfo *list, int count);
/* What only the format knows, as query-block gives it under format-specific ({type, data}); NULL: nothing.
 * Coroutine: some of it is read from the image. */
struct qvalue *bdrv_co_get_specific_info(BlockDriverState *bs);

/* --- activity (8) ---------------------------------------------------------------------------------------- */

/*
 * Giving nodes up, so that somebody else may own their images, and taking them back. Main coroutine; they drain
 * what they change.
 *
 * inactivate: bs and what is below it, each child with its last active parent. -EPERM: bs has an active parent, or
 * a user (a job, a backend of nobody) would have to write on; -EBUSY: an operation uses a bitmap that the image
 * keeps. All of that is found before anything changes. What fails later is I/O: then those above the failed node
 * are inactive already. Guests stay attached and read; their writes fail with -EPERM. inactivate_all: all nodes
 * without parent nodes, and below them. After a failure the caller takes back by activate_all what has been given
 * up already (8.4).
 */
int bdrv_inactivate(BlockDriverState *bs, Error **errp);
int bdrv_inactivate_all(struct host *host, Error **errp);
/* Children first; all metadata is read again, users get the rights that they had given up. A node that cannot be
 * had is inactive again, children that were taken back stay active. activate_all stops at the first error. Nothing
 * to do is success. */
int bdrv_activate(BlockDriverState *bs, Error **errp);
int bdrv_activate_all(struct host *host, Error **errp);

/* --- requests (2) ---------------------------------------------------------------------------------------- */

/* out is appended to, exactly `bytes` on success. BDRV_REQ_COPY_ON_READ: what is unallocated in the node is written
 * there (4.3). BDRV_REQ_PREFETCH: only for the sake of that; nothing is appended, and out may be NULL. */
int bdrv_co_preadv(BdrvChild *child, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags);
int bdrv_co_pwritev(BdrvChild *child, int64_t offset, int64_t bytes, const struct payload *in, uint32_t flags);
int bdrv_co_pwrite_zeroes(BdrvChild *child, int64_t offset, int64_t bytes, uint32_t flags);
int bdrv_co_pdiscard(BdrvChild *child, int64_t offset, int64_t bytes);
/* Copies without the bytes passing through the caller (2.12): the source is read, the target written in every
 * respect. -ENOTSUP: these nodes cannot, or not this range; nothing was done, read and write instead. */
int bdrv_co_copy_range(BdrvChild *src, int64_t src_offset, BdrvChild *dst, int64_t dst_offset, int64_t bytes,
                       uint32_t read_flags, uint32_t write_flags);
int bdrv_co_flush(BlockDriverState *bs);
/* While enabled, every read of the node is a copy-on-read (4.3); counted. The node must be writable. */
void bdrv_enable_copy_on_read(BlockDriverState *bs);
void bdrv_disable_copy_on_read(BlockDriverState *bs);
int bdrv_co_truncate(BdrvChild *child, int64_t length, bool exact, enum bdrv_prealloc prealloc, uint32_t flags,
                     Error **errp);
/* Length asked of the driver (may be an I/O); updates the cached one. Negative errno on failure. */
int64_t bdrv_co_getlength(BlockDriverState *bs);
int64_t bdrv_getlength(BlockDriverState *bs); /* the same, also on the main coroutine, where it polls */
/* -ENOTSUP when the driver has no such information. */
int bdrv_co_get_info(BlockDriverState *bs, BlockDriverInfo *info);
/* Status flags (>= 0) at this node, or negative errno. *pnum > 0 unless offset is at or beyond the end. map and
 * file may be NULL. */
int bdrv_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum, int64_t *map,
                         BlockDriverState **file);
/* Walks filter-or-cow edges from bs down to (excluding) base; NULL: the whole chain (2.13). */
int bdrv_co_block_status_above(BlockDriverState *bs, BlockDriverState *base, int64_t offset, int64_t bytes,
                               int64_t *pnum, int64_t *map, BlockDriverState **file);
/* 1 allocated in bs, 0 not, negative errno. */
int bdrv_co_is_allocated(BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum);
/* Depth (1 = top) of the layer that decides, 0 when none above base (or base itself if include_base) does. */
int bdrv_co_is_allocated_above(BlockDriverState *top, BlockDriverState *base, bool include_base, int64_t offset,
                               int64_t bytes, int64_t *pnum);
/* A fresh image of this node reads as zeroes / zero-writes with unmap leave holes. */
bool bdrv_has_zero_init(BlockDriverState *bs);
bool bdrv_can_write_zeroes_with_unmap(BlockDriverState *bs);

/* --- memory for I/O --------------------------------------------------------------------------------------- */

/*
 * Data travels by reference and needs no memory of its own. What an operation would keep it in is accounted for all
 * the same, because a hypervisor may not have it.
 *
 * bdrv_try_blockalign: bytes (> 0), aligned as requests of bs like it best; NULL: more than the host has left. What
 * it gives goes back by bdrv_vfree and by nothing else; NULL is fine. bdrv_set_buffer_limit: what the host has for
 * all such memory together, 0 for any amount; what is in use stays.
 */
typedef struct BdrvBuffer BdrvBuffer;
BdrvBuffer *bdrv_try_blockalign(BlockDriverState *bs, int64_t bytes);
void bdrv_vfree(BdrvBuffer *buffer);
void bdrv_set_buffer_limit(struct host *host, int64_t bytes);

/* --- drain (3) ------------------------------------------------------------------------------------------- */

/* Nest freely. From a coroutine other than the main one they are carried out there while the caller sleeps. */
void bdrv_drained_begin(BlockDriverState *bs);
void bdrv_drained_end(BlockDriverState *bs);
void bdrv_drain_all_begin(struct host *host);
void bdrv_drain_all_end(struct host *host);
void bdrv_drain_all(struct host *host);
/* Flushes every node; first error. */
int bdrv_flush_all(struct host *host);

#endif
