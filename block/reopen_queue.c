/* The reopen queue: which nodes, in which order, and who else is kept drained (6). */
#include "block/reopen_int.h"

/* --- which nodes ------------------------------------------------------------------------------------------ */

void bdrv_reopen_queue_init(struct bdrv_reopen_queue *queue, struct host *host)
{
    queue->host = host;
    TAILQ_INIT(&queue->list);
    LIST_INIT(&queue->holds);
}

bdrv_reopen_entry *bdrv_reopen_find(const struct bdrv_reopen_queue *queue, const BlockDriverState *bs)
{
    bdrv_reopen_entry *entry;

    TAILQ_FOREACH(entry, &queue->list, list)
    {
        if (entry->state.bs == bs) {
            return entry;
        }
    }
    return NULL;
}

bool bdrv_reopen_inherits(const BlockDriverState *bs, const BlockDriverState *parent)
{
    return bs->inherits_from == parent->number + 1;
}

static void add_one(struct bdrv_reopen_queue *queue, BlockDriverState *bs)
{
    bdrv_reopen_entry *entry = SIM_NEW(queue->host->arena, bdrv_reopen_entry);

    entry->state.bs = bs;
    TAILQ_INSERT_TAIL(&queue->list, entry, list);
    bdrv_ref(bs);
    bdrv_drained_begin(bs);
}

/* An inline child of a queued node that is not yet queued; NULL: none. */
static BlockDriverState *missing_child(const struct bdrv_reopen_queue *queue)
{
    const bdrv_reopen_entry *entry;
    const BdrvChild *child;

    TAILQ_FOREACH(entry, &queue->list, list)
    {
        LIST_FOREACH(child, &entry->state.bs->children, next)
        {
            if (bdrv_reopen_inherits(child->bs, entry->state.bs) && !bdrv_reopen_find(queue, child->bs)) {
                return child->bs;
            }
        }
    }
    return NULL;
}

void bdrv_reopen_queue_add(struct bdrv_reopen_queue *queue, BlockDriverState *bs)
{
    if (!bdrv_reopen_find(queue, bs)) {
        add_one(queue, bs);
    }
    /* Each drain polls, and who runs meanwhile may edit the graph: look again until nothing is missing. */
    while ((bs = missing_child(queue))) {
        add_one(queue, bs);
    }
}

/* Whether another entry of the list is somewhere above this one. */
static bool is_below_another(const struct bdrv_reopen_list *rest, const bdrv_reopen_entry *entry)
{
    const bdrv_reopen_entry *other;

    TAILQ_FOREACH(other, rest, list)
    {
        if (other != entry && bdrv_reaches(other->state.bs, entry->state.bs)) {
            return true;
        }
    }
    return false;
}

void bdrv_reopen_queue_order(struct bdrv_reopen_queue *queue)
{
    struct bdrv_reopen_list rest = TAILQ_HEAD_INITIALIZER(rest);
    bdrv_reopen_entry *entry;

    TAILQ_CONCAT(&rest, &queue->list, list);
    while (!TAILQ_EMPTY(&rest)) {
        TAILQ_FOREACH(entry, &rest, list)
        {
            if (!is_below_another(&rest, entry)) {
                break;
            }
        }
        SIM_ASSERT(entry != NULL); /* there are no cycles */
        TAILQ_REMOVE(&rest, entry, list);
        TAILQ_INSERT_TAIL(&queue->list, entry, list);
    }
}

/* --- children that come and go --------------------------------------------------------------------------- */

static bool is_held(const struct bdrv_reopen_queue *queue, const BlockDriverState *bs)
{
    const bdrv_reopen_hold *hold;

    LIST_FOREACH(hold, &queue->holds, list)
    {
        if (hold->bs == bs) {
            return true;
        }
    }
    return false;
}

static BlockDriverState *missing_hold(const struct bdrv_reopen_queue *queue)
{
    const bdrv_reopen_entry *entry;

    TAILQ_FOREACH(entry, &queue->list, list)
    {
        const BDRVReopenState *state = &entry->state;
        BlockDriverState *all[] = {
            entry->set_file ? bdrv_reopen_target(state->bs->file) : NULL,
            entry->set_file ? state->file : NULL,
            entry->set_backing ? bdrv_reopen_target(state->bs->backing) : NULL,
            entry->set_backing ? state->backing : NULL,
        };
        for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
            if (all[i] && !is_held(queue, all[i])) {
                return all[i];
            }
        }
    }
    return NULL;
}

void bdrv_reopen_queue_hold(struct bdrv_reopen_queue *queue)
{
    BlockDriverState *bs;

    while ((bs = missing_hold(queue))) {
        bdrv_reopen_hold *hold = SIM_NEW(queue->host->arena, bdrv_reopen_hold);
        hold->bs = bs;
        LIST_INSERT_HEAD(&queue->holds, hold, list);
        bdrv_ref(bs);
        bdrv_drained_begin(bs);
    }
}

static void release_holds(struct bdrv_reopen_queue *queue)
{
    bdrv_reopen_hold *hold;

    while ((hold = LIST_FIRST(&queue->holds))) {
        BlockDriverState *bs = hold->bs;
        LIST_REMOVE(hold, list);
        SIM_FREE(queue->host->arena, bdrv_reopen_hold, hold);
        bdrv_drained_end(bs);
        bdrv_unref(bs);
    }
}

/* --- the end ---------------------------------------------------------------------------------------------- */

static void drop_entry(struct bdrv_reopen_queue *queue, bdrv_reopen_entry *entry)
{
    BlockDriverState *bs = entry->state.bs;

    TAILQ_REMOVE(&queue->list, entry, list);
    SIM_ASSERT(!entry->prepared);
    qvalue_free(entry->passed);
    bdrv_reopen_forget_options(entry);
    bdrv_reopen_forget_children(entry);
    SIM_FREE(queue->host->arena, bdrv_reopen_entry, entry);
    bdrv_drained_end(bs);
    bdrv_unref(bs);
}

void bdrv_reopen_queue_prune(struct bdrv_reopen_queue *queue)
{
    bdrv_reopen_entry *next;

    for (bdrv_reopen_entry *entry = TAILQ_FIRST(&queue->list); entry; entry = next) {
        next = TAILQ_NEXT(entry, list);
        qvalue_free(entry->passed); /* what follows yields */
        entry->passed = NULL;
        if (!entry->built) {
            drop_entry(queue, entry);
        }
    }
}

void bdrv_reopen_queue_free(struct bdrv_reopen_queue *queue)
{
    release_holds(queue);
    while (!TAILQ_EMPTY(&queue->list)) {
        drop_entry(queue, TAILQ_FIRST(&queue->list));
    }
}
