/*
 * Giving nodes up (reference/block.md 8.3, 8.4).
 *
 *     active --[all may, all can: looked at before anything changes]--> stored -> rights dropped -> flag ->
 * inactive
 *
 * The original asks each user, and looks for writers, when the driver has already stored the node's bitmaps and
 * forgotten them; refused then, the node goes on writing below bitmaps that look valid [hazard, 8.4]. Here all
 * nodes that would go are found first and drained, then the whole change is tried in a transaction that is undone
 * in any case, and only then the first driver is called. What may fail after that is I/O.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/activity_int.h"

/* --- which nodes go ------------------------------------------------------------------------------------------ */

/* A node that is drained for the change. */
typedef struct bdrv_held {
    BlockDriverState *bs;
    struct bdrv_held *next;
} bdrv_held;

struct leaving {
    struct host *host;
    BlockDriverState *start; /* NULL: all there are */
    BlockDriverState **node; /* parents before their children */
    size_t count;
    size_t room;
    struct bdrv_held *held;
};

static bool leaves(const struct leaving *l, const BlockDriverState *bs)
{
    for (size_t i = 0; i < l->count; i++) {
        if (l->node[i] == bs) {
            return true;
        }
    }
    return false;
}

static bool has_node_parent(const BlockDriverState *bs)
{
    const BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass->parent_is_bds) {
            return true;
        }
    }
    return false;
}

static bool stays_below_active(const struct leaving *l, const BlockDriverState *bs)
{
    const BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        const BlockDriverState *parent = edge->klass->parent_is_bds ? edge->opaque : NULL;

        if (parent && !bdrv_is_inactive(parent) && !leaves(l, parent)) {
            return true;
        }
    }
    return false;
}

/* A child of several goes with its last active parent [sharp edge 39]. When all go, nothing active may be left
 * below a node that was inactive before; a single one is left alone. */
static void add_leaving(struct leaving *l, BlockDriverState *bs)
{
    BdrvChild *child;

    if (leaves(l, bs) || stays_below_active(l, bs)) {
        return;
    }
    if (!bdrv_is_inactive(bs)) {
        SIM_ASSERT_LT(l->count, l->room);
        l->node[l->count++] = bs;
    } else if (l->start || !bdrv_visit(bs)) {
        return;
    }
    LIST_FOREACH(child, &bs->children, next)
    {
        add_leaving(l, child->bs);
    }
}

/* Whoever is being opened has a name, but no users yet; it stays. */
static void add_top(struct leaving *l, BlockDriverState *bs)
{
    if (!has_node_parent(bs) && !bs->opening) {
        add_leaving(l, bs);
    }
}

static void add_all(struct leaving *l)
{
    BlockDriverState *bs;

    for (BlockBackend *blk = blk_next(l->host, NULL); blk; blk = blk_next(l->host, blk)) {
        if (blk_bs(blk)) {
            add_top(l, blk_bs(blk));
        }
    }
    for (int of_monitor = 1; of_monitor >= 0; of_monitor--) {
        TAILQ_FOREACH(bs, &l->host->graph->nodes, node_list)
        {
            if (bs->monitor_owned == of_monitor) {
                add_top(l, bs);
            }
        }
    }
}

static void find_leaving(struct leaving *l)
{
    size_t count = 0;
    BlockDriverState *bs;

    TAILQ_FOREACH(bs, &l->host->graph->nodes, node_list)
    {
        count++;
    }
    if (count > l->room) {
        sim_free(l->host->arena, SIM_TYPE_bdrv_nodes, l->node, l->room * sizeof(*l->node));
        l->node = (BlockDriverState **)sim_alloc(l->host->arena, SIM_TYPE_bdrv_nodes, count * sizeof(*l->node));
        l->room = count;
    }
    l->count = 0;
    bdrv_walk_begin(l->host->graph);
    if (l->start) {
        add_leaving(l, l->start);
    } else {
        add_all(l);
    }
}

/* --- holding them -------------------------------------------------------------------------------------------- */

static bool is_held(const struct leaving *l, const BlockDriverState *bs)
{
    const struct bdrv_held *h = l->held;

    while (h && h->bs != bs) {
        h = h->next;
    }
    return h != NULL;
}

/* False: all are. */
static bool hold_one(struct leaving *l)
{
    for (size_t i = 0; i < l->count; i++) {
        if (!is_held(l, l->node[i])) {
            struct bdrv_held *h = SIM_NEW(l->host->arena, bdrv_held);
            h->bs = l->node[i];
            h->next = l->held;
            l->held = h;
            bdrv_ref(h->bs);
            bdrv_drained_begin(h->bs);
            return true;
        }
    }
    return false;
}

/* No request is to straddle the change. The graph may change with each wait for one, so look again. */
static void hold_leaving(struct leaving *l)
{
    do {
        find_leaving(l);
    } while (hold_one(l));
}

static void let_go(struct leaving *l)
{
    while (l->held) {
        struct bdrv_held *h = l->held;
        l->held = h->next;
        bdrv_drained_end(h->bs);
        bdrv_unref(h->bs);
        SIM_FREE(l->host->arena, bdrv_held, h);
    }
    sim_free(l->host->arena, SIM_TYPE_bdrv_nodes, l->node, l->room * sizeof(*l->node));
    l->node = NULL;
    l->room = l->count = 0;
}

/* --- whether they may ---------------------------------------------------------------------------------------- */

static int check_users(const BlockDriverState *bs, Error **errp)
{
    const BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass->can_inactivate && !edge->klass->can_inactivate(edge)) {
            char *desc = bdrv_child_user_desc(edge);
            error_setg(errp, "Node '%s' is in use by %s, which cannot give up its permissions",
                       bdrv_get_node_name(bs), desc);
            free(desc);
            return -EPERM;
        }
    }
    return 0;
}

static int check_one(BlockDriverState *bs, Error **errp)
{
    if (!bs->drv) {
        error_setg(errp, "No medium inserted");
        return -ENOMEDIUM;
    }
    int ret = check_users(bs, errp);
    return ret < 0 ? ret : bdrv_check_inactivate_dirty_bitmaps(bs, errp);
}

static void drop_user_rights(struct bdrv_tran *tran, BlockDriverState *bs)
{
    BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass->inactivate) {
            bdrv_tran_set_perm(tran, edge, 0, BLK_PERM_ALL);
        }
    }
}

/* As if it were done: rights that somebody keeps (jobs, drivers that take some for themselves) make a writer of
 * what nobody may write. */
static int try_all(const struct leaving *l, Error **errp)
{
    struct bdrv_tran tran;
    int ret = 0;

    for (size_t i = 0; i < l->count && ret == 0; i++) {
        ret = check_one(l->node[i], errp);
    }
    if (ret < 0 || l->count == 0) {
        return ret;
    }
    bdrv_tran_begin(&tran);
    for (size_t i = 0; i < l->count; i++) {
        drop_user_rights(&tran, l->node[i]);
        bdrv_set_inactive_flag(l->node[i], true);
    }
    ret = bdrv_tran_perms(&tran, l->node, l->count, errp);
    bdrv_tran_finish(&tran, -ECANCELED);
    for (size_t i = 0; i < l->count; i++) {
        bdrv_set_inactive_flag(l->node[i], false);
    }
    return ret;
}

/* --- giving them up ------------------------------------------------------------------------------------------ */

/* It, or one of those after it, got a user while a driver was at work who would not have let it go. */
static int look_again(const struct leaving *l, size_t from, Error **errp)
{
    const struct leaving rest = {
        .host = l->host, .start = l->start, .node = l->node + from, .count = l->count - from};

    for (size_t i = from; i < l->count; i++) {
        if (bdrv_is_inactive(l->node[i])) {
            error_setg(errp, "Node '%s' has been given up meanwhile", bdrv_get_node_name(l->node[i]));
            return -EBUSY;
        }
    }
    if (bdrv_has_active_parent(rest.node[0])) {
        error_setg(errp, "Node has active parent node");
        return -EPERM;
    }
    return try_all(&rest, errp);
}

static int flush_entry(void *opaque)
{
    return bdrv_co_flush(opaque);
}

/* Later flushes of its users find nobody below who may write, and succeed: so what was written must be stable now.
 */
static int make_ready(BlockDriverState *bs, Error **errp)
{
    int ret = bdrv_run_co(bs->host, "flush what is given up", flush_entry, bs);

    if (ret == 0) {
        ret = bdrv_drv_inactivate(bs);
    }
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not make node '%s' ready for others", bdrv_get_node_name(bs));
    }
    return ret;
}

static int give_up(const struct leaving *l, size_t which, Error **errp)
{
    BlockDriverState *bs = l->node[which];
    int ret = make_ready(bs, errp);

    if (ret < 0) {
        return ret;
    }
    ret = look_again(l, which, errp);
    if (ret < 0) {
        SIM_MARK(bs->host->sim, inactivate_late_user);
        bdrv_drv_invalidate(bs, NULL); /* its bitmaps are in the image, and must be marked in use again */
        return ret;
    }
    bdrv_leave(bs);
    return 0;
}

static int give_all_up(struct leaving *l, Error **errp)
{
    hold_leaving(l);
    int ret = try_all(l, errp);

    for (size_t i = 0; i < l->count && ret == 0; i++) {
        ret = give_up(l, i, errp);
        if (ret < 0 && i > 0) {
            SIM_MARK(l->host->sim, inactivate_half_way);
        }
    }
    let_go(l);
    return ret;
}

int bdrv_inactivate(BlockDriverState *bs, Error **errp)
{
    struct leaving l = {.host = bs->host, .start = bs};

    SIM_ASSERT(host_in_main(bs->host));
    if (bdrv_has_active_parent(bs)) {
        error_setg(errp, "Node has active parent node");
        return -EPERM;
    }
    if (bdrv_is_inactive(bs)) {
        return 0;
    }
    bdrv_ref(bs);
    int ret = give_all_up(&l, errp);
    if (ret < 0) {
        error_prepend(errp, "Failed to inactivate node: ");
    } else if (!bdrv_is_inactive(bs)) { /* while its requests were waited for it got one */
        error_setg(errp, "Node has active parent node");
        ret = -EPERM;
    }
    bdrv_unref(bs);
    return ret;
}

int bdrv_inactivate_all(struct host *host, Error **errp)
{
    struct leaving l = {.host = host};

    SIM_ASSERT(host_in_main(host));
    int ret = give_all_up(&l, errp);
    if (ret < 0) {
        error_prepend(errp, "Failed to inactivate all nodes: ");
    }
    return ret;
}
