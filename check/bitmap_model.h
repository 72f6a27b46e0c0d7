/*
 * What dirty bitmaps must hold, as the boundary tells it (reference/bitmaps-qcow2.md 2, 3): bitmap-exact's model.
 *
 * Two sets of whole groups bound each bitmap. Lower: what must be dirty. Upper: what may be. They are the same
 * unless something cannot be known from outside: a write that failed before it reached a medium, an owner who
 * cleared while a write was on its way back. Then the bitmap is `blurred` until it is looked at with nothing in
 * flight; from then on what it holds is known.
 *
 * What is in flight is in neither set: who compares asks bitmap_in_flight for bits that lie beyond the upper bound.
 * Writes into the medium that no guest asked for (a mirror's, into its target) are `due` until the world is quiet:
 * when exactly they mark is the job's affair.
 *
 * Named bitmaps and successors take changes from guests and commands only. Other anonymous ones belong to a job or
 * filter, whose own marks and clearings are inputs.
 */
#ifndef CHECK_BITMAP_MODEL_H
#define CHECK_BITMAP_MODEL_H

#include "check/checkers.h"
#include "sim/disk.h"

/* A clearing that the marks of a request in flight may have come before. */
struct bitmap_cleared {
    int64_t start;
    int64_t end;
    uint64_t at;
    struct bitmap_cleared *next; /* newest first */
};

enum bitmap_flag { BITMAP_BUSY, BITMAP_READONLY, BITMAP_PERSISTENT, BITMAP_INCONSISTENT, BITMAP_FLAGS };

struct bitmap_model {
    const BdrvDirtyBitmap *bitmap; /* NULL: released, and nobody has yet said why */
    const BlockDriverState *bs;
    struct host *host;
    char *name; /* NULL: anonymous */
    int64_t size;
    int64_t kept; /* frozen: the shortest that its node was meanwhile; it takes part in no resize */
    int64_t granularity;
    struct disk *disk; /* below the node, as of graph - 1; NULL: none that all of its requests come to */
    bool
        guests_only; /* none is, and nobody but guests writes into the node; neither: no upper bound can be given */
    uint64_t graph;
    bool enabled;
    uint64_t enabled_at; /* event of the last change */
    bool flag[BITMAP_FLAGS];
    bool child;     /* a successor */
    bool tentative; /* made by a command that is not answered yet */
    bool doomed;    /* a command removes it */
    bool unstored;  /* its image could not store it, and said so */
    bool listed;    /* it was loaded: the image's directory has it */
    struct bitmap_model *successor;
    uint64_t frozen_at; /* event; the next two: what was before */
    bool frozen_enabled;
    uint64_t frozen_enabled_at;
    struct ranges lower;
    struct ranges upper;
    bool upper_open; /* merged from one without upper bound, or there was none for a while */
    bool blurred;
    struct ranges due;
    bool due_blurred; /* not all of it was marked in one and the same state */
    uint64_t due_since;
    uint64_t due_graph;
    struct bitmap_cleared *cleared;
    struct bitmap_model *next; /* newest first */
};

/* A command that has been taken up and not yet answered, on one host. */
struct bitmap_command {
    const struct qmp_call *call;
    uint32_t host;
    bool bitmaps; /* it may change bitmaps */
    struct bitmap_command *next;
};

struct bitmap_models {
    struct check *check;
    struct bitmap_model *first;
    struct bitmap_command *commands;
};

/* --- life (bitmap_model.c) -------------------------------------------------------------------------------- */

struct bitmap_model *bitmap_model_new(struct bitmap_models *models, const BdrvDirtyBitmap *bitmap, uint64_t event);
void bitmap_model_free(struct bitmap_models *models, struct bitmap_model **link);
/* NULL when there is none. */
struct bitmap_model *bitmap_model_find(const struct bitmap_models *models, const BdrvDirtyBitmap *bitmap);
struct bitmap_model *bitmap_model_named(const struct bitmap_models *models, const BlockDriverState *bs,
                                        const char *name);
/* A command that changes bitmaps is at work on that host: what they hold is between two states. */
bool bitmap_command_running(const struct bitmap_models *models, uint32_t host);
/* Its own changes are inputs: neither named nor a successor. */
static inline bool bitmap_is_owned(const struct bitmap_model *m)
{
    return !m->name && !m->child;
}

/* --- algebra (bitmap_model.c): start and end in bytes, clipped at the size, rounded as 1.2 says -------------- */

void bitmap_must(struct bitmap_model *m, int64_t start, int64_t end);
void bitmap_maybe(struct bitmap_model *m, int64_t start, int64_t end);
void bitmap_clear(struct bitmap_models *models, struct bitmap_model *m, int64_t start, int64_t end, uint64_t event);
void bitmap_merge(struct bitmap_models *models, struct bitmap_model *m, const struct bitmap_model *source);
void bitmap_resize(struct bitmap_models *models, struct bitmap_model *m, int64_t size, uint64_t event);
void bitmap_enable(struct bitmap_model *m, bool enabled, uint64_t event);
void bitmap_freeze(struct bitmap_model *parent, struct bitmap_model *child, uint64_t event);
void bitmap_abdicate(struct bitmap_model *parent);
void bitmap_reclaim(struct bitmap_models *models, struct bitmap_model *parent, uint64_t event);
/* Marks of all of it, the last of them after event `last` and none before `first`; what was cleared since may be
 * dirty or not. */
void bitmap_marked(struct bitmap_model *m, int64_t start, int64_t end, uint64_t first, uint64_t last);
/* Nothing is in flight: lower and upper become what is there. */
void bitmap_adopt(struct bitmap_model *m);

/* --- backups (bitmap_backup.c) ------------------------------------------------------------------------------ */

/* The child takes over from the parent after a backup: if that failed, what it had not copied may be in it from now
 * on. */
void bitmap_backup_failed(struct bitmap_model *child, const struct bitmap_model *parent);

/* --- who writes (bitmap_sight.c) ---------------------------------------------------------------------------- */

/* Disk and guests_only, if the graph has changed since. */
void bitmap_refresh(struct bitmap_models *models, struct bitmap_model *m);
/* The upper set holds. */
bool bitmap_is_bounded(const struct bitmap_model *m);

/* --- guests and media (bitmap_flight.c) --------------------------------------------------------------------- */

/* A request other than `except` may have marked any of [start, end) by now, and is not over. */
bool bitmap_in_flight(const struct bitmap_models *models, const struct bitmap_model *m, const struct flight *except,
                      int64_t start, int64_t end);
/* Adds what those may have marked to the upper bound of dst. */
void bitmap_blur_by_flights(struct bitmap_models *models, struct bitmap_model *dst, const struct bitmap_model *src);
/* The guest's request is over: what follows for the bitmap. False: it does not concern it. */
bool bitmap_flight_ends(struct bitmap_models *models, struct bitmap_model *m, const struct flight *flight, int ret);
/* The first bitmap is made: what media answered before was not noted. */
void bitmap_flights_unseen(struct bitmap_models *models);
/* Nobody writes through the node or into its medium. */
bool bitmap_is_quiet(const struct bitmap_models *models, const struct bitmap_model *m);
/* In a quiet world: what was due has been marked, or not. */
void bitmap_due_settled(struct bitmap_models *models, struct bitmap_model *m);
void bitmap_flight_attach(struct bitmap_models *models);

/* --- commands (bitmap_command.c) ---------------------------------------------------------------------------- */

/* The command succeeded: what it asked of bitmaps is done in the model, and told where it should have failed. */
void bitmap_command_done(struct bitmap_models *models, const struct qmp_call *call, uint64_t event);

/* --- images (bitmap_stored.c) ------------------------------------------------------------------------------- */

/* Bits were read into it: what must be there is what the medium has. */
void bitmap_loaded(struct bitmap_models *models, struct bitmap_model *m, uint64_t event);
/* An edge went away: if it is the file of an image that was closed, its bitmaps lie there as they were. */
void bitmap_judge_stored(struct bitmap_models *models, const struct sim_record *record);
/* The node has become inactive: those that it released are in its image as they were. */
void bitmap_given_up(struct bitmap_models *models, const BlockDriverState *bs);
void bitmap_request_failed(struct bitmap_models *models, const struct disk_req *req);
void bitmap_lost(struct bitmap_models *models, const BlockDriverState *bs);
/* A command about bitmaps was refused: none has left its image, and none that was never stored is in the way. */
void bitmap_command_refused(struct bitmap_models *models, const struct qmp_call *call);

/* --- comparing (bitmap_compare.c); op: what has just happened, or NULL -----------------------------------------
 */

/* Around [start, end); `except` is over, so that what it marked is no longer excused. */
void bitmap_compare_range(struct bitmap_models *models, struct bitmap_model *m, const struct flight *except,
                          int64_t start, int64_t end, const char *op);
/* Everything if the count does not lie between the bounds. */
void bitmap_compare_count(struct bitmap_models *models, struct bitmap_model *m, const char *op);
/* Every bit. In a quiet world what was blurred is known afterwards. */
void bitmap_compare(struct bitmap_models *models, struct bitmap_model *m, const char *op);
void bitmap_compare_flags(struct bitmap_models *models, struct bitmap_model *m, const char *op);
const char *bitmap_flag_name(enum bitmap_flag flag); /* as bitmap_flag events call it */

/* --- telling (bitmap_exact.c) --------------------------------------------------------------------------------- */

/* bs and name: of the bitmap concerned. */
void bitmap_violate(struct bitmap_models *models, const struct bitmap_model *m, const char *rule, const char *op,
                    const char *fmt, ...) SIM_PRINTF(5, 6);

#endif
