/*
 * What the checkers share among themselves: the set they belong to, the boundary (what guests and clients have
 * asked for and not yet got), and small readings of the world. Private to check/.
 */
#ifndef CHECK_CHECKERS_H
#define CHECK_CHECKERS_H

#include "block/backend.h"
#include "block/dirty-bitmap.h"
#include "check/check.h"
#include "check/ranges.h"
#include "jobs/job.h"
#include "monitor/monitor.h"
#include "vm/guest.h"

extern const struct check_class check_guest_view;
extern const struct check_class check_bitmap_exact;
extern const struct check_class check_target_at_pivot;
extern const struct check_class check_job_machine;
extern const struct check_class check_rate_limit;
extern const struct check_class check_liveness;
extern const struct check_class check_resources;
extern const struct check_class check_permissions;
extern const struct check_class check_successor_algebra;
extern const struct check_class check_blkverify;
extern const struct check_class check_durability;
extern const struct check_class check_drained;
extern const struct check_class check_qcow2_metadata;
extern const struct check_class check_commit_view;
extern const struct check_class check_target_point_in_time;

/* --- the boundary (boundary.c) --------------------------------------------------------------------------- */

/* A guest request between guest_submit and guest_complete. */
struct flight {
    const struct guest_req *req; /* lives until its completion was reported */
    struct guest *guest;
    struct host *host;
    enum sim_op op;
    int64_t offset;
    int64_t bytes;
    uint64_t start;    /* event number of the submission */
    uint64_t graph;    /* boundary->graph_changes at the submission */
    const void *model; /* guest-view's: whose content it changes or reads */
    bool fits;         /* guest-view's: it lay within its node when it was submitted */
    bool tears;        /* guest-view's: its sectors lie across the medium's; an attempt may have failed half-way */
    struct disk *disk; /* bitmap-exact's: the medium below the guest's node, as of disk_graph - 1 */
    bool injected;     /* bitmap-exact's: since then a rule of blkdebug has failed a request, perhaps this one */
    uint64_t disk_graph;
    uint64_t disk_first; /* events of its first and its last answer to a change by this request; 0: none */
    uint64_t disk_done;
    uint64_t disk_asked; /* its first answer of any kind, be it to a read of padding; 0: none */
    struct flight *next; /* oldest first */
    struct flight *prev;
};

struct check_boundary {
    struct sim *sim;
    struct sim_arena *arena;
    struct flight *first, *last, *spare;
    unsigned flights;
    uint64_t graph_changes; /* edges made, moved or removed, nodes reopened so far */
    uint64_t commands;      /* taken up and not yet answered */
    uint64_t work_seen;     /* media completions so far */
    uint64_t *writes;       /* by write id of the stamps: event of the submission, or 0 */
    uint32_t write_room;
};
struct check_boundary *check_boundary(const struct check *check);
struct check_boundary *check_boundary_new(struct sim *sim);
/* Subscribed before and after the checkers, so that a request is in the list while they hear of either end. */
void check_boundary_attach_first(struct check_boundary *boundary);
void check_boundary_attach_last(struct check_boundary *boundary);
/* NULL when it was submitted before the checkers came. */
struct flight *check_flight_find(const struct check_boundary *boundary, const struct guest_req *req);
/* The next flight after `after` (NULL: the first) that may change data and overlaps the range. */
struct flight *check_flight_writing(const struct check_boundary *boundary, const struct flight *after,
                                    int64_t offset, int64_t bytes);
static inline bool check_op_writes(enum sim_op op)
{
    return op == SIM_OP_WRITE || op == SIM_OP_WRITE_ZEROES || op == SIM_OP_DISCARD;
}

/* --- where content comes from, for messages (content.c) ---------------------------------------------------- */

#define CHECK_CONTENT 96
/* A guest's write was submitted by that event. */
void check_content_note(struct check_boundary *boundary, const struct guest_req *req, uint64_t event);
/* Each fills buf and returns it: "the guest write submitted at event 31 (its sector 7)", "zeroes", ... */
const char *check_content_of_tag(const struct check_boundary *boundary, uint64_t tag, char buf[CHECK_CONTENT]);
/* Of a sector's content id; sector is where it was expected. */
const char *check_content_of_id(const struct check_boundary *boundary, uint64_t content_id, int64_t sector,
                                char buf[CHECK_CONTENT]);
/* Of the sector around offset that the node shows. */
const char *check_content_of_node(const struct check_boundary *boundary, const BlockDriverState *bs, int64_t offset,
                                  char buf[CHECK_CONTENT]);

/* --- bitmap commands (bitmap_call.c) ---------------------------------------------------------------------- */

/* One thing that a command asks of a bitmap: type as the transaction's action is called, data its arguments. */
typedef void check_bitmap_action_fn(void *opaque, const char *type, const struct qvalue *data);
/* Calls fn for each action of a transaction, or once for a block-dirty-bitmap-* command. False: neither. */
bool check_bitmap_actions(const struct qmp_call *call, check_bitmap_action_fn *fn, void *opaque);
/* The sources of a merge: calls fn with the names of node and bitmap. */
void check_merge_sources(const struct qvalue *data, void (*fn)(void *opaque, const char *node, const char *name),
                         void *opaque);
/* A string of a dictionary, or NULL. */
const char *check_dict_str(const struct qvalue *dict, const char *key);
bool check_dict_bool(const struct qvalue *dict, const char *key, bool def);
/* The dirty areas as they are, whole groups; empties set first. */
void check_read_bits(const BdrvDirtyBitmap *bitmap, struct ranges *set);
/* Where the group ends that `end` lies in or closes. The very last of 2 GiB would end at 2^63: INT64_MAX then. */
static inline int64_t check_group_end(int64_t end, int64_t group)
{
    return end <= INT64_MAX - group ? ROUND_UP(end, group) : INT64_MAX;
}
/* What bdrv_get_dirty_count says of areas with so many bytes, the last of which ends there: that group is whole. */
static inline int64_t check_dirty_count(int64_t bytes, int64_t end)
{
    return end == INT64_MAX && bytes < INT64_MAX ? bytes + 1 : bytes;
}

/* --- readings -------------------------------------------------------------------------------------------- */

struct host *check_host(struct sim *sim, uint32_t number); /* NULL: the world, or dead */
const char *check_host_name(const struct host *host);      /* NULL for NULL */
/* The job of an event whose first field is its ID; NULL when it is gone. */
Job *check_job_of(struct sim *sim, const struct sim_record *record);
/* A string argument of a command, or NULL. */
const char *check_call_str(const struct qmp_call *call, const char *key);
bool check_call_bool(const struct qmp_call *call, const char *key, bool def);
/* Where the window of a raw node begins in its file. */
int64_t check_raw_offset(const BlockDriverState *bs);
/* Where requests to the node go with the same offsets: through filters and raw without a window. NULL: nowhere. */
BlockDriverState *check_passes_to(const BlockDriverState *bs);
/* The medium whose bytes lie under the node at the same offsets: through filters and raw without an offset; NULL
 * when there is none or it cannot be known. */
struct disk *check_disk_below(const BlockDriverState *bs);
/* A request is held by a fault or at a breakpoint: who waits for it waits rightly (liveness.c). */
bool check_any_stuck(struct sim *sim);
/*
 * Where the content of a node comes from. id is the same exactly while the same media show through at the same
 * offsets: filters and the length of a window are no part of it.
 */
struct check_below {
    uint64_t id;
    struct disk *disk; /* the one medium, NULL: several, or none */
    int64_t offset;    /* in it */
    bool weak;         /* a quorum may succeed, or answer, while its children differ */
    bool forgets;      /* some of it keeps nothing of what is written (null-co, reference/block.md 7.4) */
};
struct check_below check_below(const BlockDriverState *bs);
/* node is bs, or lies below it along primary children. */
bool check_stands_on(const BlockDriverState *bs, const BlockDriverState *node);
/* A qcow2 node whose image holds anything, or is none: as an overlay it would show that. */
bool check_image_is_used(const BlockDriverState *bs);
/* Somebody else may write what lies below the node, through a node beside its own: it does not hear of that, nor do
 * its bitmaps (bitmaps-qcow2.md 2.3: marking is per node). */
bool check_written_beside(const BlockDriverState *bs);
/* What a checker hears of. */
struct check_subscription {
    enum sim_event_kind kind;
    sim_event_fn *fn;
};
void check_subscribe(struct sim *sim, const struct check_subscription *table, size_t count, void *opaque);
/* The last node of the chain of primary children. */
const BlockDriverState *check_bottom(const BlockDriverState *bs);
/* Two protocol nodes stand for one medium. NULL is no node. */
bool check_same_medium(const BlockDriverState *a, const BlockDriverState *b);
/* bs is top, or lies below it through filters only. */
bool check_through_filters(BlockDriverState *top, const BlockDriverState *bs);

/* target-at-pivot's other half: flushes and the switch. */
void check_mirror_end_attach(struct check *check);
/* successor-algebra's other half: what becomes of the bitmaps of backups. */
void check_successor_backup_attach(struct check *check);

#endif
