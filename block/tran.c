#include "block/tran.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void bdrv_tran_begin(struct bdrv_tran *tran)
{
    tran->edit = tran->inline_edit;
    tran->count = 0;
    tran->room = BDRV_TRAN_INLINE;
}

static struct bdrv_edit *tran_add(struct bdrv_tran *tran, enum bdrv_edit_kind kind)
{
    if (tran->count == tran->room) {
        size_t room = tran->room * 2;
        struct bdrv_edit *grown = malloc(room * sizeof(*grown));
        SIM_ASSERT(grown != NULL);
        memcpy(grown, tran->edit, tran->count * sizeof(*grown));
        if (tran->edit != tran->inline_edit) {
            free(tran->edit);
        }
        tran->edit = grown;
        tran->room = room;
    }
    struct bdrv_edit *edit = &tran->edit[tran->count++];
    *edit = (struct bdrv_edit){.kind = kind};
    return edit;
}

/* --- links ----------------------------------------------------------------------------------------------- */

/* Back to where it stood: before `after`, or at the end. */
static void insert_parent(BlockDriverState *bs, BdrvChild *child, BdrvChild *after)
{
    if (after) {
        LIST_INSERT_BEFORE(after, child, next_parent);
        return;
    }
    BdrvChild *last = LIST_FIRST(&bs->parents);
    while (last && LIST_NEXT(last, next_parent)) {
        last = LIST_NEXT(last, next_parent);
    }
    if (last) {
        LIST_INSERT_AFTER(last, child, next_parent);
    } else {
        LIST_INSERT_HEAD(&bs->parents, child, next_parent);
    }
}

static void insert_child(BlockDriverState *parent, BdrvChild *child, BdrvChild *after)
{
    if (after) {
        LIST_INSERT_BEFORE(after, child, next);
        return;
    }
    BdrvChild *last = LIST_FIRST(&parent->children);
    while (last && LIST_NEXT(last, next)) {
        last = LIST_NEXT(last, next);
    }
    if (last) {
        LIST_INSERT_AFTER(last, child, next);
    } else {
        LIST_INSERT_HEAD(&parent->children, child, next);
    }
}

/*
 * Points the edge elsewhere: the one place where links change. The parent is quiesced through the edge while that
 * happens (3): before the new node can send it anything, and until nothing of the old one can. No poll: whoever
 * edits has drained already, and an edge that points nowhere has nothing in flight.
 */
static void edge_point(BdrvChild *child, BlockDriverState *to, bool restore, BdrvChild *after)
{
    BlockDriverState *from = child->bs;
    bool quiesced = to && to->quiesce_counter > 0;

    SIM_ASSERT(from != to);
    if (!from && !child->quiesced_parent) {
        bdrv_parent_drained_begin_single(child);
    }
    SIM_ASSERT(child->quiesced_parent);
    if (from) {
        if (child->klass->detach) {
            child->klass->detach(child);
        }
        LIST_REMOVE(child, next_parent);
    }
    child->bs = to;
    if (to) {
        if (restore) {
            insert_parent(to, child, after);
        } else {
            LIST_INSERT_HEAD(&to->parents, child, next_parent);
        }
        if (child->klass->attach) {
            child->klass->attach(child);
        }
    }
    if (!quiesced) {
        bdrv_parent_drained_end_single(child);
    }
}

/* A link that is in use may only be edited while nothing runs through it. */
static bool may_edit(const BdrvChild *child)
{
    return !child->frozen && child->quiesced_parent && child->bs->quiesce_counter > 0 &&
           !bdrv_drain_poll(child->bs);
}

static BlockDriverState *edge_parent(const BdrvChild *child)
{
    return child->klass->parent_is_bds ? child->opaque : NULL;
}

BdrvChild *bdrv_edge_new(struct host *host, const char *name, const BdrvChildClass *klass, uint32_t role,
                         void *opaque)
{
    BdrvChild *child = SIM_NEW(host->arena, BdrvChild);

    child->name = name;
    child->klass = klass;
    child->role = role;
    child->opaque = opaque;
    child->number = host->graph->next_edge_number++;
    child->shared_perm = BLK_PERM_ALL;
    return child;
}

static int check_attach(const BdrvChild *child, BlockDriverState *bs, uint64_t perm, Error **errp)
{
    BlockDriverState *parent = edge_parent(child);

    if (parent && bdrv_is_inactive(bs) && !bdrv_is_inactive(parent)) {
        error_setg(errp, "Inactive '%s' can't be a %s child of active '%s'", bdrv_get_node_name(bs), child->name,
                   bdrv_get_node_name(parent));
        return -EPERM;
    }
    if (bdrv_is_inactive(bs) && (perm & ~(uint64_t)BLK_PERM_CONSISTENT_READ)) {
        char *names = bdrv_perm_names(perm);
        error_setg(errp, "Permission '%s' is not available on inactive node '%s'", names, bdrv_get_node_name(bs));
        free(names);
        return -EPERM;
    }
    return 0;
}

int bdrv_tran_attach(struct bdrv_tran *tran, BdrvChild *child, BlockDriverState *bs, uint64_t perm, uint64_t shared,
                     Error **errp)
{
    BlockDriverState *parent = edge_parent(child);

    SIM_ASSERT(child->bs == NULL);
    int ret = check_attach(child, bs, perm, errp);
    if (ret < 0) {
        SIM_FREE(bs->host->arena, BdrvChild, child);
        return ret;
    }
    bdrv_ref(bs);
    child->perm = perm;
    child->shared_perm = shared;
    if (parent) {
        LIST_INSERT_HEAD(&parent->children, child, next);
    }
    edge_point(child, bs, false, NULL);
    tran_add(tran, BDRV_EDIT_ATTACH)->child = child;
    return 0;
}

void bdrv_tran_replace(struct bdrv_tran *tran, BdrvChild *child, BlockDriverState *to)
{
    struct bdrv_edit *edit = tran_add(tran, BDRV_EDIT_REPLACE);

    SIM_ASSERT(may_edit(child));
    edit->child = child;
    edit->node = child->bs;
    edit->after_parent = LIST_NEXT(child, next_parent);
    bdrv_ref(to);
    edge_point(child, to, false, NULL);
}

void bdrv_tran_detach(struct bdrv_tran *tran, BdrvChild *child)
{
    struct bdrv_edit *edit = tran_add(tran, BDRV_EDIT_DETACH);

    SIM_ASSERT(may_edit(child));
    edit->child = child;
    edit->node = child->bs;
    edit->after_parent = LIST_NEXT(child, next_parent);
    edge_point(child, NULL, false, NULL);
    if (edge_parent(child)) {
        edit->after_child = LIST_NEXT(child, next);
        LIST_REMOVE(child, next);
    }
}

BlockDriverState *bdrv_edit_parent(const struct bdrv_edit *edit)
{
    bool link = edit->kind == BDRV_EDIT_ATTACH || edit->kind == BDRV_EDIT_REPLACE || edit->kind == BDRV_EDIT_DETACH;

    return link ? edge_parent(edit->child) : NULL;
}

/* --- limits ---------------------------------------------------------------------------------------------- */

void bdrv_tran_note_limits(struct bdrv_tran *tran, BlockDriverState *bs)
{
    struct bdrv_edit *edit = tran_add(tran, BDRV_EDIT_LIMITS);

    edit->node = bs;
    edit->limits = malloc(sizeof(*edit->limits));
    SIM_ASSERT(edit->limits != NULL);
    *edit->limits = (struct bdrv_node_limits){
        .bl = bs->bl,
        .read_flags = bs->supported_read_flags,
        .write_flags = bs->supported_write_flags,
        .zero_flags = bs->supported_zero_flags,
        .truncate_flags = bs->supported_truncate_flags,
    };
}

static void restore_limits(BlockDriverState *bs, const struct bdrv_node_limits *limits)
{
    bs->bl = limits->bl;
    bs->supported_read_flags = limits->read_flags;
    bs->supported_write_flags = limits->write_flags;
    bs->supported_zero_flags = limits->zero_flags;
    bs->supported_truncate_flags = limits->truncate_flags;
}

/* --- permissions ----------------------------------------------------------------------------------------- */

void bdrv_tran_set_perm(struct bdrv_tran *tran, BdrvChild *child, uint64_t perm, uint64_t shared)
{
    if (child->perm == perm && child->shared_perm == shared) {
        return;
    }
    struct bdrv_edit *edit = tran_add(tran, BDRV_EDIT_PERM);
    edit->child = child;
    edit->perm = child->perm;
    edit->shared = child->shared_perm;
    child->perm = perm;
    child->shared_perm = shared;
}

void bdrv_tran_drv_perm(struct bdrv_tran *tran, BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    if (!bs->drv->bdrv_set_perm && !bs->drv->bdrv_abort_perm) {
        return;
    }
    struct bdrv_edit *edit = tran_add(tran, BDRV_EDIT_DRV_PERM);
    edit->node = bs;
    edit->perm = perm;
    edit->shared = shared;
}

/* --- the end --------------------------------------------------------------------------------------------- */

static void emit_perm(const BdrvChild *child)
{
    struct host *host = child->bs->host;

    SIM_EMIT(host->sim, host, edge_perm, child->bs, SIM_P(child->bs->name), SIM_P(child->name),
             SIM_P(bdrv_child_parent_name(host->sim, child)), child->perm, child->shared_perm);
}

static void emit_attach(const BdrvChild *child)
{
    struct host *host = child->bs->host;

    SIM_EMIT(host->sim, host, edge_attach, child->bs, SIM_P(child->bs->name), SIM_P(child->name),
             SIM_P(bdrv_child_parent_name(host->sim, child)), child->role);
}

static void emit_replace(const BdrvChild *child, const BlockDriverState *from)
{
    struct host *host = from->host;

    SIM_EMIT(host->sim, host, edge_replace, child->bs, SIM_P(from->name), SIM_P(child->bs->name),
             SIM_P(child->name), SIM_P(bdrv_child_parent_name(host->sim, child)));
}

static void emit_detach(const BdrvChild *child, const BlockDriverState *from)
{
    struct host *host = from->host;

    SIM_EMIT(host->sim, host, edge_detach, from, SIM_P(from->name), SIM_P(child->name),
             SIM_P(bdrv_child_parent_name(host->sim, child)));
}

static void keep_edit(const struct bdrv_edit *edit)
{
    BdrvChild *child = edit->child;
    BlockDriverState *node = edit->node;

    switch (edit->kind) {
    case BDRV_EDIT_ATTACH:
        emit_attach(child);
        emit_perm(child);
        break;
    case BDRV_EDIT_REPLACE:
        emit_replace(child, node);
        bdrv_unref_later(node);
        break;
    case BDRV_EDIT_DETACH:
        emit_detach(child, node);
        SIM_FREE(node->host->arena, BdrvChild, child);
        bdrv_unref_later(node);
        break;
    case BDRV_EDIT_PERM:
        SIM_ASSERT(child->bs != NULL);
        emit_perm(child);
        break;
    case BDRV_EDIT_DRV_PERM:
        if (node->drv->bdrv_set_perm) {
            node->drv->bdrv_set_perm(node, edit->perm, edit->shared);
        }
        break;
    case BDRV_EDIT_LIMITS:
        break;
    }
}

static void undo_edit(const struct bdrv_edit *edit)
{
    BdrvChild *child = edit->child;
    BlockDriverState *bs;

    switch (edit->kind) {
    case BDRV_EDIT_ATTACH:
        bs = child->bs;
        if (!child->quiesced_parent) {
            bdrv_parent_drained_begin_single(child); /* nobody has run since it was made */
        }
        edge_point(child, NULL, false, NULL);
        if (edge_parent(child)) {
            LIST_REMOVE(child, next);
        }
        SIM_FREE(bs->host->arena, BdrvChild, child);
        bdrv_unref_later(bs);
        break;
    case BDRV_EDIT_REPLACE:
        bs = child->bs;
        edge_point(child, edit->node, true, edit->after_parent);
        bdrv_unref_later(bs);
        break;
    case BDRV_EDIT_DETACH:
        if (edge_parent(child)) {
            insert_child(edge_parent(child), child, edit->after_child);
        }
        edge_point(child, edit->node, true, edit->after_parent);
        break;
    case BDRV_EDIT_PERM:
        child->perm = edit->perm;
        child->shared_perm = edit->shared;
        break;
    case BDRV_EDIT_DRV_PERM:
        if (edit->node->drv->bdrv_abort_perm) {
            edit->node->drv->bdrv_abort_perm(edit->node);
        }
        break;
    case BDRV_EDIT_LIMITS:
        restore_limits(edit->node, edit->limits);
        break;
    }
}

int bdrv_tran_finish(struct bdrv_tran *tran, int ret)
{
    if (ret >= 0) {
        for (size_t i = 0; i < tran->count; i++) {
            keep_edit(&tran->edit[i]);
        }
    } else {
        for (size_t i = tran->count; i > 0; i--) {
            undo_edit(&tran->edit[i - 1]);
        }
    }
    for (size_t i = 0; i < tran->count; i++) {
        free(tran->edit[i].limits);
    }
    if (tran->edit != tran->inline_edit) {
        free(tran->edit);
    }
    tran->count = 0;
    return ret;
}
