/*
 * Reopening a qcow2 node (reference/block.md 6): options that may change, and the way from writable to read-only
 * and back. Caches of new sizes are made beforehand; the old ones hold nothing that is not in the file by then.
 */
#include <errno.h>

#include "block/qcow2_open.h"

struct qcow2_reopen {
    struct qcow2_options options;
    Qcow2Cache *l2_table_cache; /* NULL: the sizes stay; afterwards those that are to go */
    Qcow2Cache *refcount_block_cache;
    BdrvChild *data_file; /* while switched: what it was */
    bool switched;
    bool was_lazy;
    bool gives_up_lazy;
};

static bool same_caches(const BDRVQcow2State *s, const struct qcow2_options *o)
{
    return s->l2_cache_bytes == o->l2_cache_bytes && s->l2_cache_entry_bytes == o->l2_cache_entry_bytes &&
           s->refcount_cache_bytes == o->refcount_cache_bytes;
}

/* From now on every count is written with what it counts: bitmaps may yet be stored before the node is read-only,
 * and the dirty bit must not come back. */
static int give_up_lazy(BlockDriverState *bs, struct qcow2_reopen *r)
{
    BDRVQcow2State *s = bs->opaque;

    r->gives_up_lazy = true;
    r->was_lazy = s->use_lazy_refcounts;
    s->use_lazy_refcounts = false;
    int ret = qcow2_make_stable(bs);
    if (ret < 0) {
        s->use_lazy_refcounts = r->was_lazy;
    }
    return ret;
}

static int becomes_writable(const BlockDriverState *bs, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;

    if (s->incompatible_features & QCOW2_INCOMPAT_CORRUPT) {
        error_setg(errp, "qcow2: Image is corrupt; cannot be opened read/write");
        return -EACCES;
    }
    if (s->needs_repair) { /* which needs the file writable, and would come too late to be refused */
        error_setg(errp, "qcow2: Image is dirty; it must be repaired before it can be reopened read/write");
        return -EACCES;
    }
    return 0;
}

static int prepare_locked(BDRVReopenState *state, struct qcow2_reopen *r, Error **errp)
{
    BlockDriverState *bs = state->bs;
    BDRVQcow2State *s = bs->opaque;
    bool inactive = bdrv_is_inactive(bs);
    bool writable = (state->flags & BDRV_O_RDWR) && !inactive;

    int ret = qcow2_options_read(bs, state->options, state->flags, &r->options, errp);
    if (ret == 0 && writable && !bdrv_is_writable(bs)) {
        ret = becomes_writable(bs, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (bdrv_is_writable(bs)) {
        /* caches that go take the counts along that lazy refcounts leave in them */
        bool lazy = writable && r->options.lazy_refcounts && same_caches(s, &r->options);

        ret = lazy ? qcow2_flush_caches(bs) : give_up_lazy(bs, r);
    }
    if (ret < 0) {
        error_setg_errno(errp, ret, "Failed to flush the metadata of '%s'", bdrv_get_node_name(bs));
        return ret;
    }
    if (!same_caches(s, &r->options)) {
        qcow2_caches_create(bs, &r->options, &r->l2_table_cache, &r->refcount_block_cache);
    }
    return 0;
}

int qcow2_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    BlockDriverState *bs = state->bs;
    BDRVQcow2State *s = bs->opaque;

    if (!qcow2_usable(bs)) {
        error_setg(errp, "Node '%s' has no usable image", bdrv_get_node_name(bs));
        return -ENOMEDIUM;
    }
    struct qcow2_reopen *r = qcow2_alloc(bs, sizeof(*r));
    co_mutex_lock(&s->lock);
    int ret = prepare_locked(state, r, errp);
    co_mutex_unlock(&s->lock);
    if (ret < 0) {
        qcow2_free(bs, r, sizeof(*r));
        return ret;
    }
    state->opaque = r;
    return 0;
}

/* Links may have been edited by now: without an external one, the data is wherever `file` points. */
void qcow2_reopen_switch(BDRVReopenState *state)
{
    BlockDriverState *bs = state->bs;
    BDRVQcow2State *s = bs->opaque;
    struct qcow2_reopen *r = state->opaque;

    r->switched = !r->switched;
    if (s->incompatible_features & QCOW2_INCOMPAT_DATA_FILE) {
        return;
    }
    if (r->switched) {
        r->data_file = s->data_file;
        s->data_file = bs->file;
    } else {
        s->data_file = r->data_file;
    }
}

static void end(BDRVReopenState *state)
{
    BlockDriverState *bs = state->bs;
    struct qcow2_reopen *r = state->opaque;

    if (r->l2_table_cache) {
        qcow2_cache_destroy(bs, r->l2_table_cache);
        qcow2_cache_destroy(bs, r->refcount_block_cache);
    }
    qcow2_free(bs, r, sizeof(*r));
    state->opaque = NULL;
}

/* Whatever is dirty now was made so since the flush of prepare, by bitmaps that were stored and flushed. */
static void take_caches(BDRVQcow2State *s, struct qcow2_reopen *r)
{
    Qcow2Cache *l2_table_cache = s->l2_table_cache;
    Qcow2Cache *refcount_block_cache = s->refcount_block_cache;

    if (r->l2_table_cache) {
        s->l2_table_cache = r->l2_table_cache;
        s->refcount_block_cache = r->refcount_block_cache;
        r->l2_table_cache = l2_table_cache;
        r->refcount_block_cache = refcount_block_cache;
    }
}

void qcow2_reopen_commit(BDRVReopenState *state)
{
    BlockDriverState *bs = state->bs;
    BDRVQcow2State *s = bs->opaque;
    struct qcow2_reopen *r = state->opaque;

    SIM_ASSERT(LIST_EMPTY(&s->cluster_allocs));
    take_caches(s, r);
    qcow2_options_apply(s, &r->options);
    qcow2_cache_clean_stop(bs);
    qcow2_cache_clean_start(bs);
    end(state);
}

void qcow2_reopen_abort(BDRVReopenState *state)
{
    BDRVQcow2State *s = state->bs->opaque;
    const struct qcow2_reopen *r = state->opaque;

    if (r->gives_up_lazy) {
        s->use_lazy_refcounts = r->was_lazy;
    }
    end(state);
}

static int clear_unknown(void *opaque)
{
    BlockDriverState *bs = opaque;
    BDRVQcow2State *s = bs->opaque;

    co_mutex_lock(&s->lock);
    s->autoclear_features &= QCOW2_AUTOCLEAR_MASK;
    int ret = qcow2_update_header(bs);
    if (ret == 0) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    s->unusable = ret < 0;
    co_mutex_unlock(&s->lock);
    return ret;
}

/* The first time that the image can be written: features that somebody else may have made void go first. An image
 * whose header cannot say so must not be written at all. */
void qcow2_reopen_commit_post(BDRVReopenState *state)
{
    BlockDriverState *bs = state->bs;
    const BDRVQcow2State *s = bs->opaque;

    SIM_ASSERT(bs->quiesce_counter > 0);
    if (bdrv_is_writable(bs) && (s->autoclear_features & ~(uint64_t)QCOW2_AUTOCLEAR_MASK)) {
        bdrv_run_co(bs->host, "clear unknown features", clear_unknown, bs);
    }
}
