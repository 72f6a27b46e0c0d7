/*
 * Giving nodes up and taking them back (reference/block.md 8.1 to 8.5).
 *
 *     active --[all may, all can: looked at before anything changes]--> stored -> rights dropped -> flag ->
 * inactive inactive -> flag -> rights of the node -> metadata read anew -> length -> rights of its users -> active
 *
 * The original asks each user, and looks for writers, when the driver has already stored the node's bitmaps and
 * forgotten them; refused then, the node goes on writing below bitmaps that look valid [hazard, 8.4]. Here all
 * nodes that would go are found first and drained, then the whole change is tried in a transaction that is undone
 * in any case, and only then the first driver is called. What may fail after that is I/O.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/tran.h"

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

static bool has_active_parent(const struct leaving *l, const BlockDriverState *bs)
{
    const BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        const BlockDriverState *parent = edge->klass->parent_is_bds ? edge->opaque : NULL;

        if (parent && !bdrv_is_inactive(parent) && !(l && leaves(l, parent))) {
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

    if (leaves(l, bs) || has_active_parent(l, bs)) {
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

static void set_flag(BlockDriverState *bs, bool inactive)
{
    SIM_ASSERT(bdrv_is_inactive(bs) != inactive);
    bs->open_flags ^= BDRV_O_INACTIVE;
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
        set_flag(l->node[i], true);
    }
    ret = bdrv_tran_perms(&tran, l->node, l->count, errp);
    bdrv_tran_finish(&tran, -ECANCELED);
    for (size_t i = 0; i < l->count; i++) {
        set_flag(l->node[i], false);
    }
    return ret;
}

/* --- giving one up ------------------------------------------------------------------------------------------- */

static void emit_activity(BlockDriverState *bs)
{
    SIM_EMIT(bs->host->sim, bs->host, node_activity, bs, SIM_P(bs->name), !bdrv_is_inactive(bs));
}

static int inactivate_entry(void *opaque)
{
    BlockDriverState *bs = opaque;
    return bs->drv->bdrv_co_inactivate(bs);
}

struct invalidate {
    BlockDriverState *bs;
    Error **errp;
};

static int invalidate_entry(void *opaque)
{
    struct invalidate *i = opaque;
    return i->bs->drv->bdrv_co_invalidate_cache(i->bs, i->errp);
}

static int invalidate(BlockDriverState *bs, Error **errp)
{
    struct invalidate i = {bs, errp};

    if (!bs->drv->bdrv_co_invalidate_cache) {
        return 0;
    }
    return bdrv_run_co(bs->host, "read metadata again", invalidate_entry, &i);
}

/* Rights first: locks of the medium go while the node still counts as active (8.11). What only loosens is not
 * refused, and the children lose their writers. */
static void leave(BlockDriverState *bs)
{
    BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass->inactivate) {
            edge->klass->inactivate(edge);
        }
    }
    set_flag(bs, true);
    bdrv_refresh_perms(bs, NULL);
    emit_activity(bs);
}

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
    if (has_active_parent(NULL, rest.node[0])) {
        error_setg(errp, "Node has active parent node");
        return -EPERM;
    }
    return try_all(&rest, errp);
}

static int give_up(const struct leaving *l, size_t which, Error **errp)
{
    BlockDriverState *bs = l->node[which];

    if (bs->drv->bdrv_co_inactivate) {
        int ret = bdrv_run_co(bs->host, "give an image up", inactivate_entry, bs);
        if (ret < 0) {
            error_setg_errno(errp, ret, "Could not make node '%s' ready for others", bdrv_get_node_name(bs));
            return ret;
        }
        ret = look_again(l, which, errp);
        if (ret < 0) {
            SIM_MARK(bs->host->sim, inactivate_late_user);
            invalidate(bs, NULL); /* its bitmaps are in the image, and must be marked in use again */
            return ret;
        }
    }
    leave(bs);
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
    if (has_active_parent(NULL, bs)) {
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

/* --- taking one back ----------------------------------------------------------------------------------------- */

static bool wants_rights(const BlockDriverState *bs)
{
    const BdrvChild *edge;
    uint64_t perm, shared;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass->wanted && edge->klass->wanted(edge, &perm, &shared)) {
            return true;
        }
    }
    return false;
}

/* The node's users get the rights that they gave up, all of them or none; keep false: could they? */
static int give_rights(BlockDriverState *bs, bool keep, Error **errp)
{
    struct bdrv_tran tran;
    BdrvChild *edge;
    uint64_t perm, shared;

    bdrv_tran_begin(&tran);
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass->wanted && edge->klass->wanted(edge, &perm, &shared)) {
            bdrv_tran_set_perm(&tran, edge, perm, shared);
        }
    }
    int ret = bdrv_tran_perms(&tran, &bs, 1, errp);
    bdrv_tran_finish(&tran, keep ? ret : -ECANCELED);
    if (keep && ret >= 0) {
        LIST_FOREACH(edge, &bs->parents, next_parent)
        {
            if (edge->klass->activate) {
                edge->klass->activate(edge);
            }
        }
    }
    return ret;
}

static int getlength_entry(void *opaque)
{
    int64_t length = bdrv_co_getlength(opaque);
    return length < 0 ? (int)length : 0;
}

/* Whatever was known of the image before was another's to change. */
static int learn_anew(BlockDriverState *bs, Error **errp)
{
    struct bdrv_tran tran;

    bs->status_data_start = 0;
    bs->status_data_end = 0;
    bdrv_activate_dirty_bitmaps(bs);
    int ret = bdrv_run_co(bs->host, "length after activation", getlength_entry, bs);
    if (ret < 0) {
        error_setg_errno(errp, ret, "Could not refresh total sector count");
        return ret;
    }
    bdrv_tran_begin(&tran);
    ret = bdrv_tran_limits(&tran, &bs, 1, errp);
    if (ret >= 0) {
        ret = bdrv_tran_perms(&tran, &bs, 1, errp);
    }
    return bdrv_tran_finish(&tran, ret);
}

/* Ours already, and then not to be had. What was marked in the image is taken back as far as possible: should that
 * fail, stored bitmaps stay marked as in use, which nobody takes for valid. */
static void leave_again(BlockDriverState *bs)
{
    SIM_MARK(bs->host->sim, activation_undone);
    if (bs->drv->bdrv_co_inactivate) {
        bdrv_run_co(bs->host, "give an image up", inactivate_entry, bs);
    }
    leave(bs);
}

static int take_back(BlockDriverState *bs, Error **errp)
{
    set_flag(bs, false);
    int ret = give_rights(bs, false, errp);
    if (ret >= 0) {
        ret = bdrv_refresh_perms(bs, errp);
    }
    if (ret < 0) {
        set_flag(bs, true);
        return ret;
    }
    ret = invalidate(bs, errp);
    if (ret < 0) {
        set_flag(bs, true);
        bdrv_refresh_perms(bs, NULL); /* children that stay active are nobody's to write */
        return ret;
    }
    bs->inherit_inactive = false;
    emit_activity(bs);
    ret = learn_anew(bs, errp);
    if (ret >= 0) {
        ret = give_rights(bs, true, errp);
    }
    if (ret < 0) {
        leave_again(bs);
    }
    return ret;
}

static BlockDriverState *inactive_child(const BlockDriverState *bs)
{
    const BdrvChild *child;

    LIST_FOREACH(child, &bs->children, next)
    {
        if (bdrv_is_inactive(child->bs)) {
            return child->bs;
        }
    }
    return NULL;
}

static int activate_children(BlockDriverState *bs, Error **errp)
{
    BlockDriverState *child;
    int ret = 0;

    /* Each wait may change the graph: the list is looked through from its head. */
    while (ret >= 0 && (child = inactive_child(bs)) != NULL) {
        ret = bdrv_activate(child, errp);
    }
    return ret;
}

int bdrv_activate(BlockDriverState *bs, Error **errp)
{
    SIM_ASSERT(host_in_main(bs->host));
    if (!bs->drv) {
        error_setg(errp, "No medium inserted");
        return -ENOMEDIUM;
    }
    bdrv_ref(bs);
    int ret = activate_children(bs, errp);
    if (ret >= 0) {
        /* Reads of before must not see metadata half old, half new. */
        bdrv_drained_begin(bs);
        if (bdrv_is_inactive(bs)) {
            ret = take_back(bs, errp);
        } else if (wants_rights(bs)) {
            ret = give_rights(bs, true, errp);
        }
        bdrv_drained_end(bs);
    }
    bdrv_unref(bs);
    SIM_ASSERT_LE(ret, 0);
    return ret;
}

static bool needs_activation(const BlockDriverState *bs)
{
    return !bs->opening && (bdrv_is_inactive(bs) || wants_rights(bs));
}

/* As add_all: roots of backends, nodes of the monitor, others. */
static BlockDriverState *next_to_activate(struct host *host)
{
    BlockDriverState *bs;

    for (BlockBackend *blk = blk_next(host, NULL); blk; blk = blk_next(host, blk)) {
        if (blk_bs(blk) && needs_activation(blk_bs(blk))) {
            return blk_bs(blk);
        }
    }
    for (int of_monitor = 1; of_monitor >= 0; of_monitor--) {
        TAILQ_FOREACH(bs, &host->graph->nodes, node_list)
        {
            if (bs->monitor_owned == of_monitor && needs_activation(bs)) {
                return bs;
            }
        }
    }
    return NULL;
}

int bdrv_activate_all(struct host *host, Error **errp)
{
    BlockDriverState *bs;
    int ret = 0;

    SIM_ASSERT(host_in_main(host));
    while (ret >= 0 && (bs = next_to_activate(host)) != NULL) {
        ret = bdrv_activate(bs, errp);
    }
    return ret;
}
