/*
 * Reopen (6), as far as jobs need it: a node and its inline children between read-only and read-write.
 *
 * All or nothing: the flags change first, permissions are asked for with the new ones, and refusal puts the old
 * flags back.
 */
#include <errno.h>

#include "block/dirty-bitmap.h"
#include "block/tran.h"

/* The nodes that change together: bs and its inline storage whose own options do not say otherwise. */
static BlockDriverState *storage_below(const BlockDriverState *bs)
{
    BdrvChild *child;

    LIST_FOREACH(child, &bs->children, next)
    {
        bool storage = !(child->role & BDRV_CHILD_COW) && (child->role & BDRV_CHILD_PRIMARY);
        if (storage && child->bs->inherited && !child->bs->read_only_explicit) {
            return child->bs;
        }
    }
    return NULL;
}

static int check_node(BlockDriverState *bs, bool read_only, Error **errp)
{
    if (read_only && bs->copy_on_read > 0) {
        error_setg(errp, "Can't set node '%s' to r/o with copy-on-read enabled", bdrv_get_node_name(bs));
        return -EINVAL;
    }
    if (bs->drv->bdrv_can_reopen_read_only) {
        return bs->drv->bdrv_can_reopen_read_only(bs, read_only, errp);
    }
    return 0;
}

static void set_flags(BlockDriverState *bs, bool read_only)
{
    for (; bs; bs = storage_below(bs)) {
        bs->open_flags = read_only ? bs->open_flags & ~(uint32_t)BDRV_O_RDWR : bs->open_flags | BDRV_O_RDWR;
    }
}

static int flush_entry(void *opaque)
{
    return bdrv_co_flush(opaque);
}

/* --- dirty bitmaps -------------------------------------------------------------------------------------- */

struct bitmaps {
    BlockDriverState *bs;
    Error **errp;
};

static int bitmaps_ro_entry(void *opaque)
{
    struct bitmaps *b = opaque;
    return bdrv_co_reopen_dirty_bitmaps_ro(b->bs, b->errp);
}

static int bitmaps_rw_entry(void *opaque)
{
    struct bitmaps *b = opaque;
    return bdrv_co_reopen_dirty_bitmaps_rw(b->bs, b->errp);
}

/* No reason to stay read-only: the bitmaps do, and refuse writes, until somebody reopens the node again. */
static void make_bitmaps_writable(BlockDriverState *bs)
{
    for (; bs; bs = storage_below(bs)) {
        struct bitmaps b = {bs, NULL};
        if (bdrv_has_dirty_bitmaps(bs)) {
            bdrv_run_co(bs->host, "make bitmaps writable", bitmaps_rw_entry, &b);
        }
    }
}

/* The image is written for the last time: bitmaps that it keeps are stored, those of a node before those of its
 * storage. */
static int store_bitmaps(BlockDriverState *top, Error **errp)
{
    int ret = 0;
    for (BlockDriverState *bs = top; bs && ret == 0; bs = storage_below(bs)) {
        struct bitmaps b = {bs, errp};
        ret = bdrv_has_dirty_bitmaps(bs) ? bdrv_run_co(bs->host, "store bitmaps", bitmaps_ro_entry, &b) : 0;
    }
    if (ret < 0) {
        make_bitmaps_writable(top);
    }
    return ret;
}

/* Drained. */
static int change_read_only(BlockDriverState *bs, bool read_only, Error **errp)
{
    if (read_only) {
        int ret = bdrv_run_co(bs->host, "flush before reopen", flush_entry, bs);
        if (ret < 0) {
            error_setg_errno(errp, ret, "Error flushing drive");
            return ret;
        }
    }
    for (BlockDriverState *node = bs; node; node = storage_below(node)) {
        int ret = check_node(node, read_only, errp);
        if (ret < 0) {
            return ret;
        }
    }
    int ret = read_only ? store_bitmaps(bs, errp) : 0;
    if (ret < 0) {
        return ret;
    }
    set_flags(bs, read_only);
    ret = bdrv_refresh_perms(bs, errp);
    if (ret < 0) {
        set_flags(bs, !read_only);
    }
    if (!bdrv_is_read_only(bs)) {
        make_bitmaps_writable(bs);
    }
    return ret;
}

int bdrv_reopen_set_read_only(BlockDriverState *bs, bool read_only, Error **errp)
{
    int ret = 0;

    bdrv_ref(bs);
    bdrv_drained_begin(bs);
    if (bdrv_is_read_only(bs) != read_only) {
        ret = change_read_only(bs, read_only, errp);
    }
    bdrv_drained_end(bs);
    bdrv_unref(bs);
    return ret;
}
