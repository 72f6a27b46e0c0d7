/*
 * Driver `quorum`: the same content on several children, and a vote on what it is (reference/block.md 7.3).
 *
 *     driver=quorum children.0=... children.1=... vote-threshold=N [read-pattern=quorum|fifo]
 *                   [rewrite-corrupted=off] [blkverify=off]
 *
 * Children come and go by x-blockdev-change; their edges are called "children.0", "children.1", ...
 *
 * Discards go no further than here: what they leave is undefined, so children would answer differently, and the
 * next vote would call correct children bad.
 */
#include <errno.h>
#include <stdio.h>

#include "block/quorum_int.h"

/* --- children ---------------------------------------------------------------------------------------------------
 */

/* What all children can do. Links are edited before s->child is, so the links are what counts. */
static void quorum_refresh_limits(BlockDriverState *bs)
{
    uint32_t zero_flags = BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    const BdrvChild *child;

    LIST_FOREACH(child, &bs->children, next)
    {
        zero_flags &= child->bs->supported_zero_flags;
    }
    bs->supported_write_flags = BDRV_REQ_WRITE_UNCHANGED;
    bs->supported_zero_flags = zero_flags | BDRV_REQ_WRITE_UNCHANGED;
}

static const char *next_edge_name(BlockDriverState *bs)
{
    struct quorum *s = bs->opaque;
    char name[32];

    snprintf(name, sizeof(name), "children.%u", s->next_index++);
    return sim_name(bs->host->sim, name)->str;
}

static void keep_child(BlockDriverState *bs, BdrvChild *child)
{
    struct quorum *s = bs->opaque;
    struct sim_arena *arena = bs->host->arena;

    if (s->count == s->room) {
        unsigned room = MAX(s->room * 2, 4u);
        BdrvChild **all = SIM_NEW_N(arena, quorum_children, BdrvChild *, room);
        for (unsigned i = 0; i < s->count; i++) {
            all[i] = s->child[i];
        }
        if (s->child) {
            SIM_FREE_N(arena, quorum_children, s->child, BdrvChild *, s->room);
        }
        s->child = all;
        s->room = room;
    }
    s->child[s->count++] = child;
}

static int quorum_add_child(BlockDriverState *bs, BlockDriverState *child_bs, Error **errp)
{
    const struct quorum *s = bs->opaque;

    if (s->verify) {
        error_setg(errp, "Cannot add a child to a quorum in blkverify mode");
        return -EINVAL;
    }
    if (child_bs->total_bytes != bs->total_bytes) {
        error_setg(errp, "Node '%s' has %lld bytes, the other children of '%s' have %lld",
                   bdrv_get_node_name(child_bs), (long long)child_bs->total_bytes, bdrv_get_node_name(bs),
                   (long long)bs->total_bytes);
        return -EINVAL;
    }
    unsigned index = s->next_index;
    bdrv_drained_begin(bs); /* a request knows its children */
    BdrvChild *edge = bdrv_attach_child(bs, child_bs, next_edge_name(bs), BDRV_CHILD_DATA, errp);
    if (edge) {
        keep_child(bs, edge);
    } else {
        ((struct quorum *)bs->opaque)->next_index = index;
    }
    bdrv_drained_end(bs);
    return edge ? 0 : -EPERM;
}

static int quorum_del_child(BlockDriverState *bs, BdrvChild *child, Error **errp)
{
    struct quorum *s = bs->opaque;
    unsigned i = 0;

    if (s->count <= s->threshold) {
        error_setg(errp, "The number of children cannot be lower than the vote threshold %u", s->threshold);
        return -EINVAL;
    }
    if (child->frozen) {
        error_setg(errp, "Child '%s' of '%s' is frozen", child->name, bdrv_get_node_name(bs));
        return -EPERM;
    }
    bdrv_drained_begin(bs);
    while (s->child[i] != child) {
        i++;
        SIM_ASSERT(i < s->count);
    }
    for (s->count--; i < s->count; i++) {
        s->child[i] = s->child[i + 1];
    }
    bdrv_unref_child(bs, child);
    bdrv_drained_end(bs);
    return 0;
}

/* --- opening ------------------------------------------------------------------------------------------------ */

static int read_modes(struct quorum *s, const struct qvalue *options, size_t count, Error **errp)
{
    const char *pattern;
    int64_t threshold;

    if (!qdict_get_int(options, "vote-threshold", &threshold, 0, errp) ||
        !qdict_get_str(options, "read-pattern", &pattern, "quorum", errp) ||
        !qdict_get_bool(options, "rewrite-corrupted", &s->rewrite, false, errp) ||
        !qdict_get_bool(options, "blkverify", &s->verify, false, errp)) {
        return -EINVAL;
    }
    s->fifo = str_is(pattern, "fifo");
    if (count < 1) {
        error_setg(errp, "Number of provided children must be 1 or more");
    } else if (threshold < 1) {
        error_setg(errp, "Parameter 'vote-threshold' expects a value >= 1");
    } else if ((uint64_t)threshold > count) {
        error_setg(errp, "threshold may not exceed children count");
    } else if (s->verify && (count != 2 || threshold != 2)) {
        error_setg(errp, "blkverify=on can only be set if there are exactly two files and vote-threshold is 2");
    } else if (s->verify && s->rewrite) {
        error_setg(errp, "rewrite-corrupted=on cannot be used with blkverify=on");
    } else {
        s->threshold = (unsigned)threshold;
        return 0;
    }
    return -EINVAL;
}

static void drop_array(BlockDriverState *bs)
{
    struct quorum *s = bs->opaque;

    if (s->child) {
        SIM_FREE_N(bs->host->arena, quorum_children, s->child, BdrvChild *, s->room);
        s->child = NULL;
        s->count = s->room = 0;
    }
}

static int quorum_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    struct quorum *s = bs->opaque;
    const struct qvalue *children = qdict_get(options, "children");

    LIST_INIT(&s->requests);
    int ret = read_modes(s, options, children->seq.count, errp);
    for (size_t i = 0; i < children->seq.count && ret == 0; i++) {
        BdrvChild *edge =
            bdrv_open_child_value(bs, children->seq.items[i], next_edge_name(bs), BDRV_CHILD_DATA, errp);
        if (edge) {
            keep_child(bs, edge);
        } else {
            ret = -EINVAL;
        }
    }
    if (ret < 0) {
        drop_array(bs); /* the edges go with the node */
        return ret;
    }
    return 0;
}

static void quorum_close(BlockDriverState *bs)
{
    SIM_ASSERT(LIST_EMPTY(&((struct quorum *)bs->opaque)->requests));
    drop_array(bs);
}

/* --- what the node is --------------------------------------------------------------------------------------- */

/* Nobody else may write to a child or change its length: they would differ from each other. */
static void quorum_child_perm(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm, uint64_t shared,
                              uint64_t *nperm, uint64_t *nshared)
{
    const struct quorum *s = bs->opaque;

    *nperm = perm;
    if (s->rewrite && !bdrv_is_inactive(bs)) {
        *nperm |= BLK_PERM_WRITE;
    }
    *nshared = shared & (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED);
    if (bdrv_is_inactive(bs)) {
        *nshared |= shared & (BLK_PERM_WRITE | BLK_PERM_RESIZE);
    }
}

/* Whatever a child holds, one that holds what the vote says does no harm; but nobody else may be looking at it, nor
 * may it be one of a chain below a child, of which nothing is known. */
static bool quorum_can_replace(BlockDriverState *bs, const BlockDriverState *to_replace)
{
    const struct quorum *s = bs->opaque;

    for (unsigned i = 0; i < s->count; i++) {
        if (s->child[i]->bs == to_replace) {
            return LIST_FIRST(&to_replace->parents) == s->child[i] && LIST_NEXT(s->child[i], next_parent) == NULL;
        }
    }
    return false;
}

static int64_t quorum_getlength(BlockDriverState *bs)
{
    const struct quorum *s = bs->opaque;
    int64_t length = bdrv_co_getlength(s->child[0]->bs);

    for (unsigned i = 1; i < s->count && length >= 0; i++) {
        int64_t other = bdrv_co_getlength(s->child[i]->bs);
        if (other != length) {
            length = other < 0 ? other : -EIO;
        }
    }
    return length;
}

/* Zeroes only where all children say so, and only as far; else data, as far as the longest of those goes. */
static int quorum_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                               int64_t *map, BlockDriverState **file)
{
    const struct quorum *s = bs->opaque;
    int64_t data = 0;
    int64_t zero = bytes;

    for (unsigned i = 0; i < s->count; i++) {
        int64_t num;
        int ret = bdrv_co_block_status_above(s->child[i]->bs, NULL, offset, bytes, &num, NULL, NULL);
        if (ret < 0) {
            quorum_report_bad(s->child[i], "read", offset, bytes, ret);
            data = bytes;
            break;
        }
        num = num > 0 ? num : bytes; /* a child that ends before reads zero */
        if (ret & BDRV_BLOCK_ZERO || (ret & BDRV_BLOCK_EOF && !(ret & BDRV_BLOCK_DATA))) {
            zero = MIN(zero, num);
        } else {
            data = MAX(data, num);
        }
    }
    *pnum = data > 0 ? data : zero;
    return data > 0 ? BDRV_BLOCK_DATA : BDRV_BLOCK_ZERO;
}

static bool quorum_peek_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum)
{
    const struct quorum *s = bs->opaque;
    int64_t zero = bytes;

    for (unsigned i = 0; i < (s->fifo ? 1 : s->count); i++) {
        if (bdrv_peek_status(s->child[i]->bs, offset, bytes, pnum)) {
            return true;
        }
        zero = MIN(zero, *pnum);
    }
    *pnum = zero;
    return false;
}

static const char *const read_patterns[] = {"quorum", "fifo", NULL};

static const BdrvOption quorum_options[] = {
    {"children", BDRV_OPT_NODE_LIST, true, "nodes that hold the content", NULL},
    {"vote-threshold", BDRV_OPT_INT, true, "how many children must succeed or agree, 1 to all", NULL},
    {"read-pattern", BDRV_OPT_ENUM, false, "quorum (default): all are read and vote; fifo: the first that succeeds",
     read_patterns},
    {"rewrite-corrupted", BDRV_OPT_BOOL, false, "children that lose a vote are overwritten, default off", NULL},
    {"blkverify", BDRV_OPT_BOOL, false, "the two children must never differ, default off", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

extern const BlockDriver bdrv_quorum;
const BlockDriver bdrv_quorum = {
    .format_name = "quorum",
    .doc = "gives every request to several nodes; they vote on what is read",
    .instance_size = sizeof(struct quorum),
    .options = quorum_options,
    .bdrv_open = quorum_open,
    .bdrv_close = quorum_close,
    .bdrv_co_preadv = quorum_preadv,
    .bdrv_co_pwritev = quorum_pwritev,
    .bdrv_co_pwrite_zeroes = quorum_pwrite_zeroes,
    .bdrv_co_flush = quorum_flush,
    .bdrv_co_getlength = quorum_getlength,
    .bdrv_co_block_status = quorum_block_status,
    .bdrv_refresh_limits = quorum_refresh_limits,
    .bdrv_child_perm = quorum_child_perm,
    .bdrv_recurse_can_replace = quorum_can_replace,
    .bdrv_add_child = quorum_add_child,
    .bdrv_del_child = quorum_del_child,
    .bdrv_peek = quorum_peek,
    .bdrv_peek_status = quorum_peek_status,
};
