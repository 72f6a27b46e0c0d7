/*
 * Owners of dirty bitmaps: who copies what a bitmap says, as a backup job does. An owner freezes the bitmap, may
 * walk it, and ends with abdicate (the copy is done) or reclaim (it is given up). Meanwhile it is a user of the
 * node that does not share RESIZE, so that nobody changes the length below the two bitmaps.
 */
#include "scenario/runner_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block_int.h"

struct bitmap_owner {
    BdrvChild *edge;
    BdrvDirtyBitmap *bitmap; /* the frozen one */
    TAILQ_ENTRY(bitmap_owner) list;
};

/* One step, on the host's main coroutine or beside it. */
struct bitmap_call {
    struct runner *runner;
    const struct scn_step *step;
    bool abdicate;
    bool missed;             /* iterate: broke a rule of the walk */
    BdrvChild *edge;         /* iterate: for its time */
    BdrvDirtyBitmap *bitmap; /* iterate */
    int64_t areas, before;   /* iterate: areas seen, areas dirty at the start */
    Error *err;
};

static char *owner_desc(const BdrvChild *child)
{
    return strdup("the owner of a dirty bitmap");
}

/* Like a job's edge: a node that takes this one's place has other bitmaps. */
static const BdrvChildClass child_owner = {.stay_at_node = true, .get_parent_desc = owner_desc};

static BdrvChild *attach(struct bitmap_call *call, BlockDriverState *bs)
{
    uint64_t shared = BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE;

    return bdrv_root_attach_child(bs, "bitmap-owner", &child_owner, 0, BLK_PERM_CONSISTENT_READ, shared, NULL,
                                  &call->err);
}

static BlockDriverState *find_node(struct bitmap_call *call)
{
    const char *name = step_str(call->step, "node", "");
    BlockDriverState *bs = bdrv_lookup_bs(call->runner->host, name, NULL);

    if (!bs) {
        error_setg(&call->err, "Node '%s' not found", name);
    }
    return bs;
}

static BdrvDirtyBitmap *find_bitmap(struct bitmap_call *call, BlockDriverState *bs)
{
    const char *name = step_str(call->step, "bitmap", "");
    BdrvDirtyBitmap *bitmap = bs ? bdrv_find_dirty_bitmap(bs, name) : NULL;

    if (bs && !bitmap) {
        error_setg(&call->err, "Dirty bitmap '%s' not found", name);
    }
    return bitmap;
}

static struct bitmap_owner *find_owner(struct runner *runner, const BdrvDirtyBitmap *bitmap)
{
    struct bitmap_owner *owner;

    TAILQ_FOREACH(owner, &runner->owners, list)
    {
        if (owner->bitmap == bitmap) {
            return owner;
        }
    }
    return NULL;
}

/* --- freeze ----------------------------------------------------------------------------------------------- */

static void freeze(void *opaque)
{
    struct bitmap_call *call = opaque;
    BlockDriverState *bs = find_node(call);
    BdrvChild *edge = bs ? attach(call, bs) : NULL;
    BdrvDirtyBitmap *bitmap = edge ? find_bitmap(call, bs) : NULL;
    struct bitmap_owner *owner;

    if (!bitmap || bdrv_dirty_bitmap_create_successor(bitmap, &call->err) < 0) {
        if (edge) {
            bdrv_root_unref_child(edge);
        }
        return;
    }
    SIM_ASSERT(find_owner(call->runner, bitmap) == NULL);
    owner = calloc(1, sizeof(*owner));
    SIM_ASSERT(owner);
    owner->edge = edge;
    owner->bitmap = bitmap;
    TAILQ_INSERT_TAIL(&call->runner->owners, owner, list);
}

/* --- abdicate, reclaim ------------------------------------------------------------------------------------ */

static void end_owner(struct runner *runner, struct bitmap_owner *owner, bool abdicate)
{
    BdrvChild *edge = owner->edge;
    const BdrvDirtyBitmap *left =
        abdicate ? bdrv_dirty_bitmap_abdicate(owner->bitmap, NULL) : bdrv_reclaim_dirty_bitmap(owner->bitmap, NULL);

    SIM_ASSERT(left != NULL);
    TAILQ_REMOVE(&runner->owners, owner, list);
    free(owner);
    bdrv_root_unref_child(edge); /* last: waits for what others do */
}

static void thaw(void *opaque)
{
    struct bitmap_call *call = opaque;
    BdrvDirtyBitmap *bitmap = find_bitmap(call, find_node(call));
    struct bitmap_owner *owner = bitmap ? find_owner(call->runner, bitmap) : NULL;

    if (owner) {
        end_owner(call->runner, owner, call->abdicate);
    } else if (bitmap && bdrv_dirty_bitmap_has_successor(bitmap)) {
        error_setg(&call->err, "Bitmap '%s' is frozen by another operation", step_str(call->step, "bitmap", ""));
    } else if (bitmap && call->abdicate) {
        bdrv_dirty_bitmap_abdicate(bitmap, &call->err);
    } else if (bitmap) {
        bdrv_reclaim_dirty_bitmap(bitmap, &call->err);
    }
}

/* --- iterate ---------------------------------------------------------------------------------------------- */

#define HOLD_AREAS 64 /* pauses of a walk; a bitmap may have millions of areas */

/* Whoever marks meanwhile may be missed, and nobody clears: what was dirty at the start comes, once, in order, and
 * is dirty when it comes (1.3). */
static void walk(void *opaque)
{
    struct bitmap_call *call = opaque;
    BdrvDirtyBitmap *bitmap = call->bitmap;
    int64_t hold_ns = step_int(call->step, "hold", 0);
    int64_t granularity = bdrv_dirty_bitmap_granularity(bitmap);
    BdrvDirtyBitmapIter *iter = bdrv_dirty_iter_new(bitmap);
    int64_t last = -1;
    int64_t at;

    call->before = bdrv_get_dirty_count(bitmap) / granularity;
    while ((at = bdrv_dirty_iter_next(iter)) >= 0) {
        if (at <= last || at % granularity || !bdrv_dirty_bitmap_get(bitmap, at)) {
            call->missed = true;
        }
        last = at;
        if (hold_ns && call->areas < HOLD_AREAS) {
            co_sleep_ns(call->runner->sim, hold_ns);
        }
        call->areas++;
    }
    bdrv_dirty_iter_free(iter);
    call->missed =
        call->missed || call->areas < call->before || call->areas > bdrv_get_dirty_count(bitmap) / granularity;
}

/* Who walks is a user of the node, which only the main coroutine makes and ends. */
static void begin_walk(void *opaque)
{
    struct bitmap_call *call = opaque;
    BlockDriverState *bs = find_node(call);

    call->edge = bs ? attach(call, bs) : NULL;
    call->bitmap = call->edge ? find_bitmap(call, bs) : NULL;
    if (call->bitmap && bdrv_dirty_bitmap_size(call->bitmap) == 0) {
        error_setg(&call->err, "Bitmap '%s' has no length and cannot be walked",
                   bdrv_dirty_bitmap_name(call->bitmap));
        call->bitmap = NULL;
    }
}

static void end_walk(void *opaque)
{
    struct bitmap_call *call = opaque;

    if (call->edge) {
        bdrv_root_unref_child(call->edge);
    }
}

/* --- steps ------------------------------------------------------------------------------------------------ */

static void finish(struct bitmap_call *call)
{
    runner_judge_reply(call->runner, call->step, call->err);
    error_free(call->err);
}

void scn_run_bitmap_freeze(struct runner *runner, const struct scn_step *step)
{
    struct bitmap_call call = {.runner = runner, .step = step};

    runner_on_main(runner, freeze, &call);
    finish(&call);
}

void scn_run_bitmap_abdicate(struct runner *runner, const struct scn_step *step)
{
    struct bitmap_call call = {.runner = runner, .step = step, .abdicate = true};

    runner_on_main(runner, thaw, &call);
    finish(&call);
}

void scn_run_bitmap_reclaim(struct runner *runner, const struct scn_step *step)
{
    struct bitmap_call call = {.runner = runner, .step = step};

    runner_on_main(runner, thaw, &call);
    finish(&call);
}

void scn_run_bitmap_iterate(struct runner *runner, const struct scn_step *step)
{
    struct bitmap_call call = {.runner = runner, .step = step};

    runner_on_main(runner, begin_walk, &call);
    if (call.bitmap) {
        runner_in_host(runner, "bitmap iterate", walk, &call); /* the host's commands go on meanwhile */
    }
    runner_on_main(runner, end_walk, &call);
    if (call.missed) {
        runner_expect_failed(
            runner, step, "walk",
            "the walk saw %lld areas, %lld were dirty when it began; expected each of those once, in "
            "order, and only what is dirty",
            (long long)call.areas, (long long)call.before);
    }
    finish(&call);
}

/* --- the end ---------------------------------------------------------------------------------------------- */

static void reclaim_all(void *opaque)
{
    struct runner *runner = opaque;
    struct bitmap_owner *owner;

    while ((owner = TAILQ_FIRST(&runner->owners))) {
        end_owner(runner, owner, false);
    }
}

void runner_reclaim_bitmaps(struct runner *runner)
{
    if (!TAILQ_EMPTY(&runner->owners)) {
        runner_on_main(runner, reclaim_all, runner);
    }
}

void runner_forget_owners(struct runner *runner)
{
    struct bitmap_owner *owner;

    while ((owner = TAILQ_FIRST(&runner->owners))) {
        TAILQ_REMOVE(&runner->owners, owner, list);
        free(owner);
    }
}
