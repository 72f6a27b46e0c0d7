/*
 * Reopen (6): from flushing to committing. All or nothing.
 *
 * Bitmaps of a node that becomes read-only are stored while it can still be written, and only when nothing else
 * refuses [sharp edge 41]: so links and permissions are tried and undone before that, then done.
 */
#include <errno.h>

#include "block/reopen_int.h"

/* --- steps that do I/O ------------------------------------------------------------------------------------ */

static int flush_entry(void *opaque)
{
    return bdrv_co_flush(opaque);
}

static int flush_all(struct bdrv_reopen_queue *queue, Error **errp)
{
    const bdrv_reopen_entry *entry;

    TAILQ_FOREACH(entry, &queue->list, list)
    {
        int ret = bdrv_run_co(queue->host, "flush before reopen", flush_entry, entry->state.bs);
        if (ret < 0) {
            error_setg_errno(errp, ret, "Error flushing drive");
            return ret;
        }
    }
    return 0;
}

struct prepare_co {
    bdrv_reopen_entry *entry;
    Error **errp;
};

static int prepare_driver(void *opaque)
{
    const struct prepare_co *p = opaque;
    BDRVReopenState *state = &p->entry->state;
    Error *local = NULL;

    int ret = state->bs->drv->bdrv_reopen_prepare(state, &local);
    if (ret < 0 && !local) {
        error_setg_errno(&local, ret, "Could not reopen '%s'", bdrv_get_node_name(state->bs));
    }
    SIM_ASSERT((ret < 0) == (local != NULL));
    error_propagate(p->errp, local);
    return ret;
}

static int check_read_only(const BDRVReopenState *state, Error **errp)
{
    if (!(state->flags & BDRV_O_RDWR) && state->bs->copy_on_read > 0) {
        error_setg(errp, "Can't set node '%s' to r/o with copy-on-read enabled", bdrv_get_node_name(state->bs));
        return -EINVAL;
    }
    return 0;
}

/* What the header names counts, too: an image that lost its backing file must say so. */
static int check_backing(const bdrv_reopen_entry *entry, Error **errp)
{
    const BlockDriverState *bs = entry->state.bs;
    bool has = bdrv_cow_child(bs) || bs->backing_filename;

    if (!entry->keep && bs->drv->supports_backing && has && !entry->backing_given) {
        error_setg(errp, "backing is missing for '%s'", bdrv_get_node_name(bs));
        return -EINVAL;
    }
    return 0;
}

static int prepare(bdrv_reopen_entry *entry, Error **errp)
{
    BlockDriverState *bs = entry->state.bs;
    struct prepare_co p = {entry, errp};

    int ret = check_read_only(&entry->state, errp);
    if (ret < 0) {
        return ret;
    }
    if (!bs->drv->bdrv_reopen_prepare) {
        error_setg(errp, "Block format '%s' used by node '%s' does not support reopening files",
                   bs->drv->format_name, bdrv_get_node_name(bs));
        return -ENOTSUP;
    }
    if (!bdrv_reopen_unchanged(entry, errp)) {
        return -EINVAL;
    }
    ret = bdrv_run_co(bs->host, "reopen", prepare_driver, &p);
    if (ret < 0) {
        return ret;
    }
    entry->prepared = true;
    return check_backing(entry, errp);
}

static int prepare_all(struct bdrv_reopen_queue *queue, Error **errp)
{
    bdrv_reopen_entry *entry;
    int ret = 0;

    TAILQ_FOREACH(entry, &queue->list, list)
    {
        ret = prepare(entry, errp);
        if (ret < 0) {
            break;
        }
    }
    return ret;
}

/* --- dirty bitmaps (bitmaps-qcow2.md 2.4) ----------------------------------------------------------------- */

struct bitmaps_co {
    BlockDriverState *bs;
    Error **errp;
};

static int bitmaps_ro(void *opaque)
{
    const struct bitmaps_co *b = opaque;

    return bdrv_co_reopen_dirty_bitmaps_ro(b->bs, b->errp);
}

static int bitmaps_rw(void *opaque)
{
    const struct bitmaps_co *b = opaque;

    return bdrv_co_reopen_dirty_bitmaps_rw(b->bs, b->errp);
}

/* The node is writable, and will not be. */
static bool gives_up_writing(const bdrv_reopen_entry *entry)
{
    return bdrv_is_writable(entry->state.bs) && !(entry->state.flags & BDRV_O_RDWR) &&
           bdrv_has_dirty_bitmaps(entry->state.bs);
}

/* No reason to fail: they stay readonly, and refuse writes, until somebody reopens the node again. */
static void make_bitmaps_writable(BlockDriverState *bs)
{
    struct bitmaps_co b = {bs, NULL};

    if (bdrv_has_dirty_bitmaps(bs) && bdrv_is_writable(bs)) {
        bdrv_run_co(bs->host, "make bitmaps writable", bitmaps_rw, &b);
    }
}

/* A node's before those of its storage. */
static int store_bitmaps(struct bdrv_reopen_queue *queue, Error **errp)
{
    bdrv_reopen_entry *entry;
    int ret = 0;

    TAILQ_FOREACH(entry, &queue->list, list)
    {
        struct bitmaps_co b = {entry->state.bs, errp};
        if (ret == 0 && gives_up_writing(entry)) {
            ret = bdrv_run_co(queue->host, "store bitmaps", bitmaps_ro, &b);
            entry->stored = ret == 0;
        }
    }
    return ret;
}

static bool must_store(const struct bdrv_reopen_queue *queue)
{
    const bdrv_reopen_entry *entry;

    TAILQ_FOREACH(entry, &queue->list, list)
    {
        if (gives_up_writing(entry)) {
            return true;
        }
    }
    return false;
}

/* Whether links and permissions would do; nothing stays. */
static int try_edit(struct bdrv_reopen_queue *queue, Error **errp)
{
    struct bdrv_tran tran;

    bdrv_reopen_queue_hold(queue);
    bdrv_tran_begin(&tran);
    int ret = bdrv_reopen_edit(queue, &tran, errp);
    if (ret == 0) {
        bdrv_reopen_unswitch(queue);
    }
    bdrv_tran_finish(&tran, -ECANCELED);
    return ret;
}

static int store_when_sure(struct bdrv_reopen_queue *queue, Error **errp)
{
    if (!must_store(queue)) {
        return 0;
    }
    int ret = try_edit(queue, errp);
    if (ret == 0) {
        SIM_MARK(queue->host->sim, reopen_stored);
        ret = store_bitmaps(queue, errp);
    }
    return ret;
}

/* --- the end ---------------------------------------------------------------------------------------------- */

static void abort_all(struct bdrv_reopen_queue *queue)
{
    bdrv_reopen_entry *entry;

    TAILQ_FOREACH_REVERSE(entry, &queue->list, bdrv_reopen_list, list)
    {
        BlockDriverState *bs = entry->state.bs;
        if (entry->prepared && bs->drv->bdrv_reopen_abort) {
            bs->drv->bdrv_reopen_abort(&entry->state);
        }
        entry->prepared = false;
        if (entry->stored) {
            make_bitmaps_writable(bs);
        }
    }
}

/* The flags are in force already. */
static void commit(bdrv_reopen_entry *entry)
{
    BlockDriverState *bs = entry->state.bs;

    SIM_ASSERT_EQ(bs->open_flags, entry->state.flags);
    if (bs->drv->bdrv_reopen_commit) {
        bs->drv->bdrv_reopen_commit(&entry->state);
    }
    bdrv_forget_options(bs);
    bs->explicit_options = entry->explicit_options;
    bs->options = entry->options;
    entry->explicit_options = NULL;
    entry->options = NULL;
    entry->state.options = bs->options;
    bs->detect_zeroes = entry->state.detect_zeroes;
    bs->status_data_start = 0;
    bs->status_data_end = 0;
    entry->prepared = false;
}

static int refresh_length(void *opaque)
{
    return bdrv_co_getlength(opaque) < 0 ? -EIO : 0;
}

/* Users must not reach beyond the end of what they stand on now; asking costs a request, guessing would a crash. */
static void refresh_one_length(BlockDriverState *bs)
{
    if (bdrv_run_co(bs->host, "length after reopen", refresh_length, bs) < 0) {
        const BlockDriverState *below = bdrv_primary_bs(bs);
        if (below && !bs->drv->supports_backing) {
            int64_t most =
                bs->drv->bdrv_length_over ? bs->drv->bdrv_length_over(bs, below->total_bytes) : below->total_bytes;
            bdrv_set_total_bytes(bs, MIN(bs->total_bytes, most));
        }
    }
}

/* bs and those above that are as long as it, each after what it stands on. nodes NULL: only counts. */
static size_t add_above(BlockDriverState *bs, BlockDriverState **nodes)
{
    const BdrvChild *edge;
    size_t count = 1;

    if (nodes) {
        nodes[0] = bs;
        bdrv_ref(bs);
    }
    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        BlockDriverState *parent = bdrv_child_parent_bs(edge);
        if (parent && (edge->role & BDRV_CHILD_PRIMARY) && !(edge->role & BDRV_CHILD_METADATA)) {
            count += add_above(parent, nodes ? nodes + count : NULL);
        }
    }
    return count;
}

/* Asking polls, and a job that ends meanwhile takes its filter along: so who is to be asked is noted first [sharp
 * edge 27]. */
static void refresh_lengths_above(BlockDriverState *bs)
{
    struct host *host = bs->host;
    size_t count = add_above(bs, NULL);
    BlockDriverState **nodes = sim_alloc(host->arena, SIM_TYPE_bdrv_nodes, count * sizeof(*nodes));

    add_above(bs, nodes);
    for (size_t i = 0; i < count; i++) {
        if (bdrv_reaches(nodes[i], bs)) {
            refresh_one_length(nodes[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        bdrv_unref(nodes[i]);
    }
    sim_free(host->arena, SIM_TYPE_bdrv_nodes, nodes, count * sizeof(*nodes));
}

static void commit_post(const bdrv_reopen_entry *entry)
{
    BlockDriverState *bs = entry->state.bs;
    struct host *host = bs->host;
    bool was_writable = (entry->old_flags & (BDRV_O_RDWR | BDRV_O_INACTIVE)) == BDRV_O_RDWR;

    if (bs->drv->bdrv_reopen_commit_post) {
        bs->drv->bdrv_reopen_commit_post((BDRVReopenState *)(uintptr_t)&entry->state);
    }
    refresh_lengths_above(bs);
    if (!was_writable) {
        make_bitmaps_writable(bs);
    }
    SIM_EMIT(host->sim, host, node_reopen, bs, SIM_P(bs->name), bs->open_flags);
}

/* Storage before what stands on it: a format marks its bitmaps as in use when its file can be written again [sharp
 * edge 35]. */
static void commit_all(struct bdrv_reopen_queue *queue, struct bdrv_tran *tran)
{
    bdrv_reopen_entry *entry;

    TAILQ_FOREACH_REVERSE(entry, &queue->list, bdrv_reopen_list, list)
    {
        commit(entry);
        bdrv_reopen_update_inheritance(entry);
    }
    bdrv_tran_finish(tran, 0);
    TAILQ_FOREACH_REVERSE(entry, &queue->list, bdrv_reopen_list, list)
    {
        commit_post(entry);
    }
}

static int reopen_queue(struct bdrv_reopen_queue *queue, Error **errp)
{
    struct bdrv_tran tran;

    bdrv_reopen_queue_prune(queue);
    if (TAILQ_EMPTY(&queue->list)) {
        return 0; /* blockdev-reopen of no node at all */
    }
    int ret = flush_all(queue, errp);
    if (ret == 0) {
        ret = prepare_all(queue, errp);
    }
    if (ret == 0) {
        ret = store_when_sure(queue, errp);
    }
    if (ret == 0) {
        bdrv_reopen_queue_hold(queue);
        bdrv_tran_begin(&tran);
        ret = bdrv_reopen_edit(queue, &tran, errp);
        if (ret == 0) {
            commit_all(queue, &tran);
            return 0;
        }
        bdrv_tran_finish(&tran, ret);
    }
    abort_all(queue);
    return ret;
}

/* --- for drivers ------------------------------------------------------------------------------------------ */

int bdrv_reopen_prepare_nothing(BDRVReopenState *state, Error **errp)
{
    return 0;
}

static int fall_back(BlockDriverState *bs, uint32_t *flags, const char *text, Error **errp)
{
    if (!(*flags & BDRV_O_RDWR)) {
        return 0;
    }
    if (!(*flags & BDRV_O_AUTO_RDONLY) || bs->copy_on_read > 0) {
        error_setg(errp, "%s", text);
        return -EACCES;
    }
    *flags &= ~(uint32_t)BDRV_O_RDWR;
    SIM_MARK(bs->host->sim, reopen_auto_read_only);
    return 0;
}

int bdrv_apply_auto_read_only(BlockDriverState *bs, const char *text, Error **errp)
{
    return fall_back(bs, &bs->open_flags, text, errp);
}

int bdrv_reopen_auto_read_only(BDRVReopenState *state, const char *text, Error **errp)
{
    return fall_back(state->bs, &state->flags, text, errp);
}

/* --- for users -------------------------------------------------------------------------------------------- */

struct reopen_one {
    BlockDriverState *bs;
    const struct qvalue *passed; /* NULL: read_only is all */
    bool read_only;
    bool keep;
    int ret;
    Error **errp;
};

static void reopen_one_main(void *opaque)
{
    struct reopen_one *one = opaque;
    struct bdrv_reopen_queue queue;

    bdrv_reopen_queue_init(&queue, one->bs->host);
    bdrv_reopen_queue_add(&queue, one->bs);
    bdrv_reopen_queue_order(&queue);
    struct qvalue *passed;
    if (one->passed) {
        passed = bdrv_options_expand(one->passed, one->errp);
    } else {
        passed = qvalue_dict();
        qdict_put(passed, "read-only", qvalue_bool(one->read_only));
    }
    bool ok = passed && bdrv_reopen_queue_build(&queue, one->bs, passed, one->keep, one->errp);
    one->ret = ok ? reopen_queue(&queue, one->errp) : -EINVAL;
    bdrv_reopen_queue_free(&queue);
}

int bdrv_reopen(BlockDriverState *bs, const struct qvalue *passed, bool keep, Error **errp)
{
    struct reopen_one one = {.bs = bs, .passed = passed, .keep = keep, .errp = errp};

    host_call_main(bs->host, reopen_one_main, &one);
    return one.ret;
}

int bdrv_reopen_set_read_only(BlockDriverState *bs, bool read_only, Error **errp)
{
    if (bdrv_is_read_only(bs) == read_only) {
        return 0;
    }
    struct reopen_one one = {.bs = bs, .read_only = read_only, .keep = true, .errp = errp};
    host_call_main(bs->host, reopen_one_main, &one);
    return one.ret;
}

void bdrv_reopen_read_only_again(BlockDriverState *bs, bool said)
{
    if (bdrv_reopen_set_read_only(bs, true, NULL) >= 0 && !said && bdrv_says_read_only(bs)) {
        bdrv_unsay_read_only(bs);
    }
}

/* --- blockdev-reopen -------------------------------------------------------------------------------------- */

static BlockDriverState *find_named(struct host *host, const struct qvalue *item, Error **errp)
{
    const char *name;

    if (item->type != QVALUE_DICT) {
        error_setg(errp, "Options of a node must be a dictionary");
        return NULL;
    }
    if (!qdict_get_str(item, "node-name", &name, NULL, errp)) {
        return NULL;
    }
    if (!name) {
        error_setg(errp, "node-name not specified");
        return NULL;
    }
    BlockDriverState *bs = bdrv_find_node(host, name);
    if (!bs) {
        error_setg(errp, "Failed to find node with node-name='%s'", name);
    }
    return bs;
}

static bool add_all(struct bdrv_reopen_queue *queue, const struct qvalue *list, Error **errp)
{
    for (size_t i = 0; i < list->seq.count; i++) {
        BlockDriverState *bs = find_named(queue->host, list->seq.items[i], errp);
        if (!bs) {
            return false;
        }
        bdrv_reopen_queue_add(queue, bs);
    }
    bdrv_reopen_queue_order(queue);
    return true;
}

static bool build_all(struct bdrv_reopen_queue *queue, const struct qvalue *list, Error **errp)
{
    for (size_t i = 0; i < list->seq.count; i++) {
        const struct qvalue *item = list->seq.items[i];
        /* Draining may have let others delete what had that name; what is in the queue stays. */
        BlockDriverState *bs = find_named(queue->host, item, errp);
        struct qvalue *passed = bs ? bdrv_options_expand(item, errp) : NULL;
        if (!passed || !bdrv_reopen_queue_build(queue, bs, passed, false, errp)) {
            return false;
        }
    }
    return true;
}

bool qmp_blockdev_reopen_nodes(struct host *host, const struct qvalue *list, Error **errp)
{
    struct bdrv_reopen_queue queue;

    SIM_ASSERT(list->type == QVALUE_LIST);
    SIM_ASSERT(host_in_main(host));
    bdrv_reopen_queue_init(&queue, host);
    bool ok = add_all(&queue, list, errp) && build_all(&queue, list, errp) && reopen_queue(&queue, errp) == 0;
    bdrv_reopen_queue_free(&queue);
    return ok;
}
