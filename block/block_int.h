/*
 * The block layer from inside: the node's fields, what a driver implements, what a parent of an edge implements.
 * Included by block/ and by drivers that live with their job (the mirror filter); nobody else.
 *
 * A driver is one `const BlockDriver` in its own file, listed in block/drivers.c. Hooks that are NULL get the
 * generic behaviour of the reference. Hooks named co_ run in the coroutine of the request.
 */
#ifndef BLOCK_BLOCK_INT_H
#define BLOCK_BLOCK_INT_H

#include <sys/queue.h>

#include "block/backend.h"
#include "block/block.h"
#include "block/debug.h"
#include "block/dirty-bitmap.h"

/* --- options --------------------------------------------------------------------------------------------- */

enum bdrv_opt_type {
    BDRV_OPT_STR,
    BDRV_OPT_BOOL,
    BDRV_OPT_INT,
    BDRV_OPT_SIZE,
    BDRV_OPT_NODE,
    BDRV_OPT_ENUM,
    BDRV_OPT_ENUM_LIST,    /* of words */
    BDRV_OPT_DICT_LIST,    /* of dictionaries with options of their own */
    BDRV_OPT_NODE_LIST,    /* of children, each a node name or an inline dictionary */
    BDRV_OPT_WORD_OR_DICT, /* one of some words, or a dictionary with options of its own */
};

/* One option of a driver; the table ends with a NULL name. BDRV_OPT_NODE options are children: the driver's open
 * attaches them through bdrv_open_child. */
typedef struct BdrvOption {
    const char *name;
    enum bdrv_opt_type type;
    bool required;
    const char *help; /* one line: meaning, unit, default */
    /* ENUM, ENUM_LIST: the words, a NULL-ended array of strings. DICT_LIST: the table of an entry's BdrvOptions.
     * WORD_OR_DICT: a BdrvWordOrDict. */
    const void *values;
} BdrvOption;

typedef struct BdrvWordOrDict {
    const char *const *words;
    const BdrvOption *members;
} BdrvWordOrDict;

/* --- tracked requests (2.5) ------------------------------------------------------------------------------ */

enum BdrvTrackedRequestType {
    BDRV_TRACKED_READ,
    BDRV_TRACKED_WRITE,
    BDRV_TRACKED_DISCARD,
    BDRV_TRACKED_TRUNCATE,
};

typedef struct BdrvTrackedRequest BdrvTrackedRequest;
struct BdrvTrackedRequest {
    BlockDriverState *bs;
    int64_t offset;
    int64_t bytes;
    enum BdrvTrackedRequestType type;
    const BdrvChild *via; /* the edge by which it came, of what changes content; NULL: not known yet */
    bool serialising;
    int64_t overlap_offset;
    int64_t overlap_bytes;
    Coroutine *co;
    CoQueue wait_queue;              /* those that wait for this one */
    BdrvTrackedRequest *waiting_for; /* non-NULL: waits itself; nobody may wait for it */
    LIST_ENTRY(BdrvTrackedRequest) list;
};

/* --- reopen (6) ------------------------------------------------------------------------------------------ */

/* A node on its way through a reopen. The node is drained throughout. */
typedef struct BDRVReopenState {
    BlockDriverState *bs;
    uint32_t flags; /* BDRV_O_* to be; prepare may take BDRV_O_RDWR out by bdrv_reopen_auto_read_only */
    enum bdrv_detect_zeroes detect_zeroes;
    const struct qvalue *options; /* to be: complete, checked against the table, without children */
    BlockDriverState *file;       /* what `file` will point to, now as well as then when it stays */
    BlockDriverState *backing;
    void *opaque; /* the driver's own (arena memory), from prepare to commit or abort */
} BDRVReopenState;

/* --- drivers --------------------------------------------------------------------------------------------- */

struct BlockDriver {
    const char *format_name;
    const char *doc;
    size_t instance_size; /* of bs->opaque, zeroed */
    const BdrvOption *options;
    bool is_filter;                 /* one FILTERED|PRIMARY child */
    bool filtered_child_is_backing; /* the filtered child sits in `backing` */
    bool is_protocol;               /* no children: stands for a medium */
    bool stays_with_child; /* what it shows is of that very node: nothing put above the node takes its place */
    bool supports_backing;
    bool internal; /* not for blockdev-add */

    /* Of a filter: at this moment its length is not the filtered child's. NULL: it always is. */
    bool (*bdrv_has_own_length)(const BlockDriverState *bs);
    /* Not of filters: how long the node is over a primary child of that length. NULL: as long as it was before. */
    int64_t (*bdrv_length_over)(const BlockDriverState *bs, int64_t child_length);

    /* Reads its options (already checked against the table), opens children. */
    int (*bdrv_open)(BlockDriverState *bs, const struct qvalue *options, Error **errp);
    /* All that the node consists of is there, its backing file too: from now on an open may write, since nothing
     * else can refuse it. What fails here is closed. */
    int (*bdrv_opened)(BlockDriverState *bs, Error **errp);
    void (*bdrv_close)(BlockDriverState *bs);

    /* Requests are aligned to request_alignment and inside max_transfer. read appends exactly bytes to out, unless
     * BDRV_REQ_PREFETCH is among the flags, which only a driver gets that supports it. */
    int (*bdrv_co_preadv)(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags);
    int (*bdrv_co_pwritev)(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                           uint32_t flags);
    int (*bdrv_co_pwrite_zeroes)(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags);
    int (*bdrv_co_pdiscard)(BlockDriverState *bs, int64_t offset, int64_t bytes);
    /* Copying without buffers (2.12), both NULL: -ENOTSUP. from passes on down the source, and at its end to
     * bdrv_co_copy_range_to of dst; to passes on down the target, and at its end copies. A driver that cannot
     * returns -ENOTSUP before it has changed anything. */
    int (*bdrv_co_copy_range_from)(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                                   int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags);
    int (*bdrv_co_copy_range_to)(BlockDriverState *bs, BdrvChild *src, int64_t src_offset, BdrvChild *dst,
                                 int64_t dst_offset, int64_t bytes, uint32_t read_flags, uint32_t write_flags);
    /* The past that a filter keeps, for those who stand on it to see that (jobs.md 5.6); all NULL: keeps none, and
     * -ENOTSUP is the answer. -EACCES: not there, or not any more. As bdrv_co_preadv and its like otherwise; the last
     * two without I/O. */
    int (*bdrv_co_preadv_snapshot)(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out);
    int (*bdrv_co_snapshot_block_status)(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes,
                                         int64_t *pnum, int64_t *map, BlockDriverState **file);
    int (*bdrv_co_pdiscard_snapshot)(BlockDriverState *bs, int64_t offset, int64_t bytes);
    int (*bdrv_peek_snapshot)(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out);
    bool (*bdrv_peek_snapshot_status)(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum);
    int (*bdrv_co_flush)(BlockDriverState *bs); /* full flush: replaces the two below and the children's */
    int (*bdrv_co_flush_to_os)(BlockDriverState *bs);
    int (*bdrv_co_flush_to_disk)(BlockDriverState *bs);
    int (*bdrv_co_truncate)(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                            uint32_t flags, Error **errp);
    int64_t (*bdrv_co_getlength)(BlockDriverState *bs);
    int (*bdrv_co_get_info)(BlockDriverState *bs, BlockDriverInfo *info);
    int (*bdrv_co_block_status)(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                                int64_t *map, BlockDriverState **file);
    /* Overrides of bs->bl after inheritance, and the supported_*_flags as far as they depend on children: called at
     * the end of opening, and whenever anything below has changed. Children may be missing when the node goes. */
    void (*bdrv_refresh_limits)(BlockDriverState *bs);
    bool (*bdrv_has_zero_init)(BlockDriverState *bs);

    /* Permissions (1.11); NULL: the defaults by role. */
    void (*bdrv_child_perm)(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm, uint64_t shared,
                            uint64_t *nperm, uint64_t *nshared);
    int (*bdrv_check_perm)(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp);
    void (*bdrv_set_perm)(BlockDriverState *bs, uint64_t perm, uint64_t shared);
    void (*bdrv_abort_perm)(BlockDriverState *bs);

    /*
     * Reopen (6). prepare looks whether the driver can become what state says, and may do I/O; nothing changes yet.
     * NULL: the driver cannot be reopened. switch exchanges what is with what was prepared: called once before
     * permissions are asked for, and once more if the reopen fails after that; it neither yields nor fails. commit
     * and abort end it, one of them for each prepare that succeeded; commit_post comes when all nodes have
     * committed and new permissions are in force, and may do I/O.
     */
    int (*bdrv_reopen_prepare)(BDRVReopenState *state, Error **errp);
    void (*bdrv_reopen_switch)(BDRVReopenState *state);
    void (*bdrv_reopen_commit)(BDRVReopenState *state);
    void (*bdrv_reopen_abort)(BDRVReopenState *state);
    void (*bdrv_reopen_commit_post)(BDRVReopenState *state);
    /* Options of its own that may change, NULL-ended; left out they go back to their default. All others must be as
     * they were. */
    const char *const *mutable_opts;

    /* Its parents would see no change if to_replace, somewhere below bs, gave way to a copy of bs. NULL: a filter asks
     * its child, others say no. */
    bool (*bdrv_recurse_can_replace)(BlockDriverState *bs, const BlockDriverState *to_replace);

    /* x-blockdev-change (9), both or neither; NULL: the node's children are what they were opened with. */
    int (*bdrv_add_child)(BlockDriverState *bs, BlockDriverState *child_bs, Error **errp);
    int (*bdrv_del_child)(BlockDriverState *bs, BdrvChild *child, Error **errp);

    /* Whether the first bytes of a file (BDRV_PROBE_BYTES, or all that there are) look like this format: 0 no, 100
     * surely. NULL: cannot tell. */
    int (*bdrv_probe)(const uint8_t *head, size_t bytes);

    void (*bdrv_drain_begin)(BlockDriverState *bs);
    void (*bdrv_drain_end)(BlockDriverState *bs);

    /*
     * Images (9). create makes one as options say, which have been checked against create_options; coroutine, not
     * the main one. Both NULL: cannot. Formats take `file` (name of the node to format) and `size`, and those that
     * know backing files `backing-file` and `backing-fmt`; protocols their filename_option and `size`.
     */
    const BdrvOption *create_options;
    int (*bdrv_co_create)(struct host *host, const struct qvalue *options, Error **errp);
    /* Protocols: the option that a file name goes into ("disk"); NULL: takes none. */
    const char *filename_option;
    /* Writes name and format of the backing file into the image, durably. Both NULL: none. Node is writable. */
    int (*bdrv_co_change_backing_file)(BlockDriverState *bs, const char *filename, const char *format);

    /* Persistent dirty bitmaps (bitmaps-qcow2.md 3, 4); all NULL: the driver stores none. can_store gives the bare
     * reason, for a name that is free. */
    bool (*bdrv_supports_persistent_dirty_bitmap)(const BlockDriverState *bs);
    bool (*bdrv_co_can_store_new_dirty_bitmap)(BlockDriverState *bs, const char *name, uint32_t granularity,
                                               Error **errp);
    int (*bdrv_co_remove_persistent_dirty_bitmap)(BlockDriverState *bs, const char *name, Error **errp);
    /* Writes every bdrv_dirty_bitmap_storable one of the node into the image, durably; there is at least one, and
     * the node is writable. They stay as they are in memory. */
    int (*bdrv_co_store_dirty_bitmaps)(BlockDriverState *bs, Error **errp);
    /* Marks the stored ones as in use, in the image: their copies are out of date from now on. */
    int (*bdrv_co_reopen_bitmaps_rw)(BlockDriverState *bs, Error **errp);

    /* Checking, internal snapshots and what only the format knows (bitmaps-qcow2.md 5.7, 5.8); see block.h. NULL:
     * cannot. */
    int (*bdrv_co_check)(BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix);
    int (*bdrv_co_snapshot_create)(BlockDriverState *bs, const QEMUSnapshotInfo *info, Error **errp);
    int (*bdrv_co_snapshot_goto)(BlockDriverState *bs, const char *id, Error **errp);
    int (*bdrv_co_snapshot_delete)(BlockDriverState *bs, const char *id, const char *name, Error **errp);
    /* The node shows a snapshot from now on; it is read-only. Nothing is written. */
    int (*bdrv_co_snapshot_load_tmp)(BlockDriverState *bs, const char *id_or_name, Error **errp);
    int (*bdrv_snapshot_list)(const BlockDriverState *bs, QEMUSnapshotInfo **list);
    struct qvalue *(*bdrv_co_get_specific_info)(BlockDriverState *bs);

    /* Giving an image up and taking it back (8.3, 8.5); the node is drained. inactivate: everything stable, bitmaps
     * stored and released, while the node may still write; nothing has changed if it fails. invalidate: all metadata
     * is read again. */
    int (*bdrv_co_inactivate)(BlockDriverState *bs);
    int (*bdrv_co_invalidate_cache)(BlockDriverState *bs, Error **errp);

    /* Debug events and breakpoints (7.1), all or none. An event may suspend the request that raises it. tag NULL:
     * whatever the tag. */
    void (*bdrv_co_debug_event)(BlockDriverState *bs, enum blkdbg_event event);
    void (*bdrv_debug_breakpoint)(BlockDriverState *bs, enum blkdbg_event event, const char *tag);
    int (*bdrv_debug_remove_breakpoint)(BlockDriverState *bs, const char *tag);
    int (*bdrv_debug_resume)(BlockDriverState *bs, const char *tag);
    bool (*bdrv_debug_is_suspended)(const BlockDriverState *bs, const char *tag);

    /* Const views. peek NULL: filters ask their child, others cannot. */
    int (*bdrv_peek)(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out);
    bool (*bdrv_peek_status)(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum);
    const char *(*bdrv_filename)(const BlockDriverState *bs);
};

const BlockDriver *bdrv_find_driver(const char *name); /* NULL when there is none */
const BlockDriver *bdrv_driver_at(size_t index);       /* NULL beyond the last */

#define BDRV_PROBE_BYTES 512
/* The format that content looks like, "raw" when like none: some are known by their signature alone (probe.c). */
const char *bdrv_probe_format(const uint8_t *head, size_t bytes);
/* The driver for what is in a file, given as options to open it; NULL with errp. Main coroutine. Whoever opens it
 * as `raw` on that ground says BDRV_O_PROBED. */
const char *bdrv_probe_file(struct host *host, const struct qvalue *file, Error **errp);

/* --- edges ----------------------------------------------------------------------------------------------- */

struct BdrvChildClass {
    bool stay_at_node; /* not moved by bdrv_replace_node: job edges */
    bool parent_is_bds;
    char *(*get_parent_desc)(const BdrvChild *child); /* malloc'ed */
    void (*drained_begin)(BdrvChild *child);
    void (*drained_end)(BdrvChild *child);
    bool (*drained_poll)(BdrvChild *child); /* true: the parent is still busy */
    void (*resize)(BdrvChild *child);
    void (*attach)(BdrvChild *child);
    void (*detach)(BdrvChild *child);
    /*
     * Of parents that give up their permissions with the node, and get them back (8.3, 8.5); all NULL: what they
     * hold they keep. can_inactivate: the parent would. inactivate: the node is about to become inactive, nobody
     * will be asked any more; the edge becomes 0 and ALL, and the parent remembers what it had. wanted: what it gave
     * up, if anything, and wants once the node is active; activate: it has got that.
     */
    bool (*can_inactivate)(const BdrvChild *child);
    void (*inactivate)(BdrvChild *child);
    bool (*wanted)(const BdrvChild *child, uint64_t *perm, uint64_t *shared);
    void (*activate)(BdrvChild *child);
};

struct BdrvChild {
    BlockDriverState *bs;
    const char *name; /* static or the parent's */
    const BdrvChildClass *klass;
    uint32_t role;
    void *opaque; /* the parent */
    uint64_t perm;
    uint64_t shared_perm;
    bool frozen;
    uint64_t number;                   /* order of making in the graph: unique */
    bool quiesced_parent;              /* this edge holds its parent quiesced */
    LIST_ENTRY(BdrvChild) next;        /* in the parent node's children */
    LIST_ENTRY(BdrvChild) next_parent; /* in bs->parents */
};

extern const BdrvChildClass bdrv_child_of_bds;

/* --- events at most once a second (event_limit.c) ------------------------------------------------------------- */

typedef struct bdrv_event_limit {
    struct sim_timer timer; /* armed: an event of this second is out already */
    struct host *host;      /* NULL: never used */
    uint64_t entity;
    bool pending; /* the fields below are still to be sent */
    void (*emit)(const struct bdrv_event_limit *limit);
    const char *who; /* fields of the last event; strings live as long as the world */
    const char *what;
    const char *error;
    const struct sim_name *node;
    uint64_t sector;
    uint64_t sectors;
} bdrv_event_limit;

void bdrv_event_limit_init(struct bdrv_event_limit *limit, struct host *host, uint64_t entity,
                           void (*emit)(const struct bdrv_event_limit *limit));
/* The caller has filled in the fields: they go out now, or with the end of this second unless replaced till then.
 */
void bdrv_event_limit_send(struct bdrv_event_limit *limit);
/* What waits goes out; no timer is left. */
void bdrv_event_limit_end(struct bdrv_event_limit *limit);

/* --- nodes ----------------------------------------------------------------------------------------------- */

typedef struct bdrv_op_blocker {
    Error *reason;
    LIST_ENTRY(bdrv_op_blocker) list;
} bdrv_op_blocker;

struct BlockDriverState {
    struct host *host;
    const BlockDriver *drv; /* NULL: closed */
    void *opaque;
    const struct sim_name *name;
    uint64_t number; /* creation order in the graph */
    uint64_t entity; /* bdrv_entity() */
    uint32_t open_flags;
    enum bdrv_detect_zeroes detect_zeroes;
    bool implicit;
    bool never_freeze;
    bool monitor_owned;
    uint64_t inherits_from; /* 1 + number of the node whose options made this one inline; 0: none */
    bool name_generated;
    bool inherit_inactive; /* inline children open inactive too: the flag came from above, not from `active` */
    /* What the user asked for, and that with what was inherited (1.13, 6): canonical, without children. Both NULL:
     * a node that no options made. Arena memory (bdrv_options_keep). */
    const struct qvalue *explicit_options;
    const struct qvalue *options;
    unsigned refcnt;
    LIST_HEAD(, BdrvChild) children;
    LIST_HEAD(, BdrvChild) parents;
    BdrvChild *file;
    BdrvChild *backing;

    int64_t total_bytes; /* rounded up to 512 */
    BlockLimits bl;
    uint32_t supported_read_flags;
    uint32_t supported_write_flags;
    uint32_t supported_zero_flags;
    uint32_t supported_truncate_flags;

    unsigned in_flight;
    unsigned serialising_in_flight;
    unsigned quiesce_counter;
    unsigned copy_on_read;                            /* users of bdrv_enable_copy_on_read */
    LIST_HEAD(, BdrvTrackedRequest) tracked_requests; /* newest first */

    uint64_t write_gen;
    uint64_t flushed_gen;
    bool active_flush_req;
    CoQueue flush_queue;

    uint64_t wr_highest_offset;
    int64_t status_data_start; /* known to be data at its own offset: saves childless nodes questions (2.13) */
    int64_t status_data_end;
    uint64_t write_threshold;

    LIST_HEAD(, BdrvDirtyBitmap) dirty_bitmaps; /* newest first */
    LIST_HEAD(, bdrv_op_blocker) op_blockers[BLOCK_OP_COUNT];

    struct bdrv_event_limit *report_bad; /* QUORUM_REPORT_BAD about this node; NULL: none so far */

    char *backing_filename; /* what the image's header names, or NULL; host arena string */
    char *backing_format;   /* likewise; NULL: the header does not say */
    unsigned open_depth;    /* nodes that were being opened above this one when it was */
    bool opening;           /* has a name already, but no children: nobody may use it yet */

    TAILQ_ENTRY(BlockDriverState) node_list; /* BlockGraph.nodes, newest first */

    uint64_t visit;              /* graph walks: equals BlockGraph.visit when seen */
    unsigned levels;             /* the same walks: what was found for the node */
    BlockDriverState *topo_next; /* permission updates: the next node in topological order */
};

TAILQ_HEAD(bdrv_node_list, BlockDriverState);
TAILQ_HEAD(blk_list, BlockBackend);
TAILQ_HEAD(throttle_group_list, ThrottleGroup);

typedef struct BlockGraph {
    struct host *host;
    struct bdrv_node_list nodes;
    struct blk_list backends;
    struct throttle_group_list throttle_groups; /* oldest first (block/throttle_group.h) */
    unsigned drain_all_count;
    uint64_t next_node_number;
    uint64_t next_edge_number;
    uint64_t next_bitmap_id;
    uint64_t next_generated_name;
    uint64_t visit; /* number of the present walk */
    int64_t buffer_limit_bytes; /* of bdrv_try_blockalign; 0: none */
    int64_t buffer_bytes;       /* in use */
    struct bdrv_event_limit quorum_failure;
    char *file_base; /* where relative host paths begin; NULL: no host files; host arena string */
} BlockGraph;

/* --- for drivers ----------------------------------------------------------------------------------------- */

/* Takes option `name` (a node name, an inline dictionary, or null) and attaches the child. allow_none: absent or
 * null gives NULL without error. */
BdrvChild *bdrv_open_child(BlockDriverState *bs, const struct qvalue *options, const char *name, uint32_t role,
                           bool allow_none, Error **errp);
/* The same for one item of an option of type NODE_LIST; edge_name as bdrv_attach_child takes it. */
BdrvChild *bdrv_open_child_value(BlockDriverState *bs, const struct qvalue *value, const char *edge_name,
                                 uint32_t role, Error **errp);
void bdrv_default_perms(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm, uint64_t shared,
                        uint64_t *nperm, uint64_t *nshared);
/* For bdrv_open: read-write is not to be had; read-only will do if auto-read-only says so and nothing copies on
 * read (1.13). Else -EACCES with text in errp. */
int bdrv_apply_auto_read_only(BlockDriverState *bs, const char *text, Error **errp);
/* The same for bdrv_reopen_prepare. */
int bdrv_reopen_auto_read_only(BDRVReopenState *state, const char *text, Error **errp);
/* A bdrv_reopen_prepare for drivers that have nothing to look at. */
int bdrv_reopen_prepare_nothing(BDRVReopenState *state, Error **errp);
/* One node's limits and flags, from its children as they are; cannot fail. In a graph that is in use transactions
 * do it (block/tran.h). */
void bdrv_refresh_limits(BlockDriverState *bs);
/* The same; -EINVAL when what is below takes less at a time than this node's alignment. */
int bdrv_try_refresh_limits(BlockDriverState *bs, Error **errp);
/* For bdrv_refresh_limits: write, zero and truncate flags of a driver that passes requests on to its primary child,
 * and what the child makes of the flags is what it makes of them. */
void bdrv_pass_supported_flags(BlockDriverState *bs);
/* Sets the cached length (rounds up), truncates bitmaps, tells BB parents. */
void bdrv_set_total_bytes(BlockDriverState *bs, int64_t length);

/* What drivers pass a copy of a range on with (2.12), at the offsets of the edge's node. */
int bdrv_co_copy_range_from(BdrvChild *src, int64_t src_offset, BdrvChild *dst, int64_t dst_offset, int64_t bytes,
                            uint32_t read_flags, uint32_t write_flags);
int bdrv_co_copy_range_to(BdrvChild *src, int64_t src_offset, BdrvChild *dst, int64_t dst_offset, int64_t bytes,
                          uint32_t read_flags, uint32_t write_flags);

/* Counts requests for drains; the caller pairs them. */
void bdrv_inc_in_flight(BlockDriverState *bs);
void bdrv_dec_in_flight(BlockDriverState *bs);

/* Attaches an edge whose parent is no node (backends, jobs); one permission refresh; NULL with errp. The edge takes
 * its own reference. */
BdrvChild *bdrv_root_attach_child(BlockDriverState *bs, const char *name, const BdrvChildClass *klass,
                                  uint32_t role, uint64_t perm, uint64_t shared, void *opaque, Error **errp);
void bdrv_root_unref_child(BdrvChild *child);
/* "perms" as words, for messages: "write, resize". Caller frees with free(). */
char *bdrv_perm_names(uint64_t perm);
/* A name nobody uses yet is free: not a node's, not a BB's, well formed (1.2). */
bool bdrv_name_usable(struct host *host, const char *name, Error **errp);
/* A letter, then letters, digits, '-', '.', '_'. */
bool bdrv_name_well_formed(const char *name);

/* Raises a debug event on bs, and only there. A format says bdrv_co_debug_event(bs->file->bs, ...). */
static inline void bdrv_co_debug_event(BlockDriverState *bs, enum blkdbg_event event)
{
    if (bs->drv != NULL && bs->drv->bdrv_co_debug_event != NULL) {
        bs->drv->bdrv_co_debug_event(bs, event);
    }
}

/* Levels of nodes that users may stack. */
#define BDRV_MAX_DEPTH 32

/* --- between the files of block/ -------------------------------------------------------------------------- */

/* One side of a drain on one node (drain.c). begin_no_poll quiesces parents; the caller polls. */
void bdrv_do_drained_begin_quiesce(BlockDriverState *bs);
void bdrv_do_drained_end(BlockDriverState *bs);
bool bdrv_drain_poll(BlockDriverState *bs); /* true: something still runs */
/* Edge helpers that keep the quiesce counters right when an edge is linked or unlinked (3). */
void bdrv_parent_drained_begin_single(BdrvChild *child);
void bdrv_parent_drained_end_single(BdrvChild *child);

/* Runs fn, which may do I/O, and returns its result. On the main coroutine it gets a coroutine of its own and the
 * caller polls, so that callbacks go on; elsewhere it is simply called. `what` is static. */
int bdrv_run_co(struct host *host, const char *what, int (*fn)(void *opaque), void *opaque);
/* Puts zeroes into [from, to) of an overlay, as far as it reaches, where it holds nothing of its own. Drained. */
int bdrv_hide_tail(BlockDriverState *bs, int64_t from, int64_t to, Error **errp);
/* Drops a reference during a graph edit: if it is the last one, the node goes one turn of the loop later (1.5). */
void bdrv_unref_later(BlockDriverState *bs);
/* A node without driver, one reference, in the list; quiesced as often as drain-all is in force. name NULL: made
 * up. */
BlockDriverState *bdrv_new_node(struct host *host, const BlockDriver *drv, const char *name);
/* Sets the stable entity of a node that has no name of its own. */
void bdrv_set_entity_below(BlockDriverState *bs, const BlockDriverState *parent, const char *child_name);
/* Starts a walk; a node is seen once bdrv_visit said true for it. */
void bdrv_walk_begin(struct BlockGraph *graph);
bool bdrv_visit(BlockDriverState *bs);
/* The image's header names this backing file from now on: strings only (backing.c). NULL: none. */
void bdrv_set_backing_strings(BlockDriverState *bs, const char *filename, const char *format);
/* A file that an image names: relative names start where the image is. Caller frees with free() (backing.c). */
char *bdrv_full_filename(const BlockDriverState *bs, const char *name);
/* The driver of the medium under an image: what files that it names are on unless somebody says otherwise. */
const BlockDriver *bdrv_protocol_below(const BlockDriverState *bs);
/* `read-only` is none of the node's own options any more: what it inherits holds. */
void bdrv_unsay_read_only(BlockDriverState *bs);
/* Opens what `backing` among the options says, added to what the header names (backing.c). Coroutine. */
int bdrv_open_backing(BlockDriverState *bs, const struct qvalue *options, Error **errp);
/* For bdrv_co_create: a backend on option `file`, a node's name or options to open one, that may write and resize
 * it, also beyond its end. One reference. */
BlockBackend *bdrv_create_backend(struct host *host, const struct qvalue *options, Error **errp);
/* Checks values against a table of a driver's options: all known, of the right type, nothing required missing. */
bool bdrv_check_options_table(const BdrvOption *table, const struct qvalue *values, Error **errp);

/* The parents of a node as they stood, for taking an append back (change.c). */
struct bdrv_parents *bdrv_note_parents(const BlockDriverState *bs);
void bdrv_forget_parents(struct host *host, struct bdrv_parents *parents);
/* Takes top off old again: the noted parents go back, in their old order; who used top before stays. Both drained
 * since the append. */
int bdrv_undo_append(BlockDriverState *top, BlockDriverState *old, const struct bdrv_parents *parents,
                     Error **errp);
/*
 * A copy-on-read filter of a job (filter-copy-on-read.c), main coroutine. The chain from bs down to bottom has been
 * frozen by the caller; from a success on the filter keeps it so, and ends it when it goes. node_name NULL: implicit.
 * One reference, which drop and undo take. undo: for a command that is refused after all; parents are those of bs as
 * noted before the insertion.
 */
BlockDriverState *bdrv_cor_filter_insert(BlockDriverState *bs, BlockDriverState *bottom, const char *node_name,
                                         Error **errp);
void bdrv_cor_filter_drop(BlockDriverState *filter);
void bdrv_cor_filter_undo(BlockDriverState *filter, BlockDriverState *bs, const struct bdrv_parents *parents);
/* Below bottom there is something at offset, which would show if a short layer above did not hide it. */
bool bdrv_cor_hidden_below(BlockDriverState *bottom, int64_t offset);

/* For events: the node's name, or the description of a parent that is no node. */
const struct sim_name *bdrv_child_parent_name(struct sim *sim, const BdrvChild *child);
extern const BdrvChildClass blk_child_root;

#endif
