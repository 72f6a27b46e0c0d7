/*
 * Driver `preallocate`: writes that lengthen the file find the space already there (reference/block.md 2.15).
 *
 *     driver=preallocate file=... [prealloc-align=1M] [prealloc-size=128M]
 *
 *     |------ data ------|---- zeroes of ours ----|
 *                     data_end                file_end        length of the node: data_end
 *
 * A write past file_end first makes zeroes up to align_up(end + prealloc-size, prealloc-align); should that fail,
 * the write goes on without. What was made beyond the data is taken away again when the last writer goes, on
 * close, and when the node becomes read-only. The state stands only as long as nobody else can change the file:
 * WRITE and RESIZE on the edge are exclusive from the first writer on until the surplus is gone.
 */
#include <errno.h>

#include "block/block_int.h"

#define UNKNOWN ((int64_t)-EINVAL)

/* Each is a byte position, or negative: not known (an errno says why). zero_start and file_end mean nothing while
 * data_end is not known. */
struct preallocate {
    int64_t size;  /* prealloc-size, bytes */
    int64_t align; /* prealloc-align, bytes */
    int64_t data_end;
    int64_t zero_start; /* from here on to file_end all is zero */
    int64_t file_end;
    unsigned writes; /* on their way to the file */
    bool cutting;    /* the last writer has gone and the surplus goes; whoever writes all the same waits */
    CoQueue waiters;
};

static void forget(struct preallocate *s, int64_t why)
{
    s->data_end = s->zero_start = s->file_end = why;
}

static bool may_write_and_resize(uint64_t perm)
{
    return (perm & BLK_PERM_WRITE) && (perm & BLK_PERM_RESIZE);
}

/* --- state -------------------------------------------------------------------------------------------------- */

static bool edge_may_write_and_resize(const BlockDriverState *bs)
{
    return may_write_and_resize(bs->file->perm);
}

/* The state, when it may be held and is known or can be. */
static bool know_state(BlockDriverState *bs)
{
    struct preallocate *s = bs->opaque;

    if (!edge_may_write_and_resize(bs)) {
        return false;
    }
    if (s->data_end < 0) {
        forget(s, bdrv_co_getlength(bs->file->bs));
    }
    if (s->data_end >= 0 && s->file_end < 0) {
        s->file_end = bdrv_co_getlength(bs->file->bs);
        s->zero_start = s->file_end;
    }
    return s->data_end >= 0 && s->file_end >= 0;
}

/* Takes away what is beyond the data. */
static int cut_surplus(BlockDriverState *bs, Error **errp)
{
    struct preallocate *s = bs->opaque;

    if (s->data_end < 0 || (s->file_end >= 0 && s->file_end <= s->data_end)) {
        return 0;
    }
    SIM_ASSERT(edge_may_write_and_resize(bs));
    Error *local = NULL;
    int ret = bdrv_co_truncate(bs->file, s->data_end, true, PREALLOC_OFF, 0, &local);
    if (ret < 0) {
        s->file_end = ret;
        error_prepend(&local, "preallocate-filter: failed to drop write-zero preallocation: ");
        error_propagate(errp, local);
        return ret;
    }
    SIM_MARK(bs->host->sim, prealloc_cut);
    s->file_end = s->zero_start = s->data_end;
    return 0;
}

/* --- writes ------------------------------------------------------------------------------------------------- */

/* Nothing may be written while the surplus is being cut off: it could be cut off too. */
static void write_begin(struct preallocate *s)
{
    while (s->cutting) {
        co_queue_wait(&s->waiters);
    }
    s->writes++;
}

static void write_end(struct preallocate *s)
{
    SIM_ASSERT(s->writes > 0);
    if (--s->writes == 0) {
        co_queue_restart_all(&s->waiters);
    }
}

/* Makes zeroes from `start`, where the file ends or a zero write that leaves it begins, to the next goal beyond
 * `end`. */
static void make_zeroes(BlockDriverState *bs, int64_t start, int64_t end)
{
    struct preallocate *s = bs->opaque;

    if (s->size > BDRV_MAX_LENGTH - s->align - end) {
        return;
    }
    int64_t goal = DIV_ROUND_UP(end + s->size, s->align) * s->align;
    int ret = bdrv_co_pwrite_zeroes(bs->file, start, goal - start,
                                    BDRV_REQ_NO_FALLBACK | BDRV_REQ_SERIALISING | BDRV_REQ_NO_WAIT);
    if (ret < 0) {
        SIM_MARK(bs->host->sim, prealloc_failed);
    }
    /* How long the file is after a failure is asked when it matters. */
    s->file_end = ret < 0 ? ret : goal;
}

/* Before a write. True: it is a zero write (may_merge), and zeroes is what is there now. */
static bool prepare_write(BlockDriverState *bs, int64_t offset, int64_t bytes, bool may_merge)
{
    struct preallocate *s = bs->opaque;
    int64_t end = offset + bytes;

    if (!know_state(bs) || end <= s->data_end) {
        return false;
    }
    s->data_end = end;
    if (!may_merge) {
        s->zero_start = end;
    }
    if (end <= s->file_end) {
        return may_merge && offset >= s->zero_start;
    }
    int64_t align = bs->file->bs->bl.request_alignment;
    int64_t start = ROUND_UP(may_merge ? MIN(offset, s->file_end) : s->file_end, align);
    make_zeroes(bs, start, end);
    return may_merge && s->file_end >= end && start <= offset;
}

static int preallocate_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                               uint32_t flags)
{
    struct preallocate *s = bs->opaque;

    write_begin(s);
    prepare_write(bs, offset, bytes, false);
    int ret = bdrv_co_pwritev(bs->file, offset, bytes, in, flags);
    write_end(s);
    return ret;
}

static int preallocate_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    struct preallocate *s = bs->opaque;
    bool may_merge = !(flags & ~(uint32_t)(BDRV_REQ_ZERO_WRITE | BDRV_REQ_NO_FALLBACK));

    write_begin(s);
    int ret =
        prepare_write(bs, offset, bytes, may_merge) ? 0 : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
    write_end(s);
    return ret;
}

static int preallocate_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out,
                              uint32_t flags)
{
    return bdrv_co_preadv(bs->file, offset, bytes, out, flags);
}

static int preallocate_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return bdrv_co_pdiscard(bs->file, offset, bytes);
}

/* --- length ------------------------------------------------------------------------------------------------- */

static bool preallocate_has_own_length(const BlockDriverState *bs)
{
    return ((const struct preallocate *)bs->opaque)->data_end >= 0;
}

static int64_t preallocate_getlength(BlockDriverState *bs)
{
    struct preallocate *s = bs->opaque;

    if (s->data_end >= 0) {
        return s->data_end;
    }
    int64_t length = bdrv_co_getlength(bs->file->bs);
    if (edge_may_write_and_resize(bs)) {
        forget(s, length);
    }
    return length;
}

/* A user's truncate beyond the data: with falloc what we made counts; with the other modes it is in the way. */
static int grow(BlockDriverState *bs, int64_t length, enum bdrv_prealloc prealloc, bool *done, Error **errp)
{
    struct preallocate *s = bs->opaque;
    int ret = 0;

    *done = prealloc == PREALLOC_FALLOC && s->file_end >= length;
    if (!*done && prealloc != PREALLOC_FALLOC) {
        ret = cut_surplus(bs, errp);
    }
    if (ret == 0) {
        s->data_end = length;
    }
    return ret;
}

static int truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc, uint32_t flags,
                    Error **errp)
{
    struct preallocate *s = bs->opaque;
    bool done = false;
    int ret = s->data_end >= 0 && length > s->data_end ? grow(bs, length, prealloc, &done, errp) : 0;

    if (ret < 0 || done) {
        return ret;
    }
    ret = bdrv_co_truncate(bs->file, length, exact, prealloc, flags, errp);
    if (ret < 0) {
        forget(s, ret);
    } else if (edge_may_write_and_resize(bs)) {
        forget(s, length);
    }
    return ret;
}

static int preallocate_truncate(BlockDriverState *bs, int64_t length, bool exact, enum bdrv_prealloc prealloc,
                                uint32_t flags, Error **errp)
{
    struct preallocate *s = bs->opaque;

    write_begin(s);
    int ret = truncate(bs, length, exact, prealloc, flags, errp);
    write_end(s);
    return ret;
}

/* --- giving up the state ---------------------------------------------------------------------------------------
 */

static bool has_writers(const BlockDriverState *bs)
{
    uint64_t perm, shared;

    bdrv_cumulative_perms(bs, &perm, &shared);
    return may_write_and_resize(perm);
}

static void release_edge(void *opaque)
{
    bdrv_refresh_perms(opaque, NULL); /* it only loosens */
}

/* Should it fail, the file stays ours: its length is not what others must see. Close tries again. */
static void cut_entry(void *opaque)
{
    BlockDriverState *bs = opaque;
    struct preallocate *s = bs->opaque;

    while (s->writes > 0) {
        co_queue_wait(&s->waiters);
    }
    if (!has_writers(bs) && cut_surplus(bs, NULL) == 0) {
        forget(s, UNKNOWN);
        host_call_main(bs->host, release_edge, bs);
    }
    s->cutting = false;
    co_queue_restart_all(&s->waiters);
    bdrv_dec_in_flight(bs);
}

static void cut_deferred(void *opaque)
{
    BlockDriverState *bs = opaque;

    coroutine_start(coroutine_create(bs->host->sim, bs->host, "preallocate cut", cut_entry, bs));
}

/* The last writer has gone: not here, in the middle of a change of permissions, but soon. Counted in flight, so
 * that drains wait for it and the node lives on. A drained node does not start anything: the end of the drain does.
 */
static void cut_soon(BlockDriverState *bs)
{
    struct preallocate *s = bs->opaque;

    if (s->data_end >= 0 && !s->cutting && bs->quiesce_counter == 0 && !has_writers(bs)) {
        s->cutting = true;
        bdrv_inc_in_flight(bs);
        host_defer(bs->host, cut_deferred, bs);
    }
}

static void preallocate_set_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    if (!may_write_and_resize(perm)) {
        cut_soon(bs);
    }
}

static void preallocate_drain_end(BlockDriverState *bs)
{
    cut_soon(bs);
}

static void preallocate_close(BlockDriverState *bs)
{
    struct preallocate *s = bs->opaque;

    SIM_ASSERT(!s->cutting && s->writes == 0);
    cut_surplus(bs, NULL); /* nobody is left to be told */
    forget(s, UNKNOWN);
}

/* Whoever comes next must not find the surplus. */
static int preallocate_inactivate(BlockDriverState *bs)
{
    struct preallocate *s = bs->opaque;

    SIM_ASSERT(!s->cutting && s->writes == 0);
    int ret = cut_surplus(bs, NULL);
    if (ret == 0) {
        forget(s, UNKNOWN);
    }
    return ret;
}

/* Exclusive from the first writer on until the surplus is gone: the state must stay true. */
static void preallocate_child_perm(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm,
                                   uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    const struct preallocate *s = bs->opaque;
    uint64_t both = BLK_PERM_WRITE | BLK_PERM_RESIZE;

    bdrv_default_perms(bs, child, role, perm, shared, nperm, nshared);
    if (may_write_and_resize(perm) || (s->data_end >= 0 && !bdrv_is_inactive(bs))) {
        *nperm |= both;
        *nshared &= ~both;
    }
}

/* --- opening ---------------------------------------------------------------------------------------------------
 */

static int check_options(const struct preallocate *s, const BlockDriverState *file, Error **errp)
{
    if (s->align <= 0 || s->align > BDRV_MAX_ALIGNMENT || s->align % SIM_SECTOR_BYTES != 0) {
        error_setg(errp, "prealloc-align parameter of preallocate filter is not a multiple of %d between %d and %u",
                   SIM_SECTOR_BYTES, SIM_SECTOR_BYTES, BDRV_MAX_ALIGNMENT);
        return -EINVAL;
    }
    if (s->align % file->bl.request_alignment != 0) {
        error_setg(errp,
                   "prealloc-align parameter of preallocate filter is not aligned to underlying node request "
                   "alignment (%u)",
                   file->bl.request_alignment);
        return -EINVAL;
    }
    return 0;
}

static bool read_goal(const struct qvalue *options, struct preallocate *s, Error **errp)
{
    return qdict_get_size(options, "prealloc-align", &s->align, MiB, errp) &&
           qdict_get_size(options, "prealloc-size", &s->size, 128 * MiB, errp);
}

static void preallocate_refresh_limits(BlockDriverState *bs)
{
    bdrv_pass_supported_flags(bs);
    bs->supported_read_flags = BDRV_REQ_PREFETCH;
}

static int preallocate_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    struct preallocate *s = bs->opaque;

    forget(s, UNKNOWN);
    co_queue_init(bs->host->sim, &s->waiters);
    if (!read_goal(options, s, errp) ||
        !bdrv_open_child(bs, options, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, false, errp)) {
        return -EINVAL;
    }
    return check_options(s, bs->file->bs, errp);
}

/* --- reopen ------------------------------------------------------------------------------------------------- */

/* prealloc-size and prealloc-align, as they are and as they are to be. */
struct preallocate_goal {
    int64_t size;
    int64_t align;
};

static int preallocate_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    BlockDriverState *bs = state->bs;
    struct preallocate next = {0};

    if (!read_goal(state->options, &next, errp)) {
        return -EINVAL;
    }
    int ret = check_options(&next, state->file, errp);
    /* Drained: nothing writes. What lies below is still writable, and still ours. */
    if (ret == 0 && (!(state->flags & BDRV_O_RDWR) || state->file != bs->file->bs)) {
        ret = cut_surplus(bs, errp);
        if (ret == 0) {
            forget(bs->opaque, UNKNOWN);
        }
    }
    if (ret < 0) {
        return ret;
    }
    struct preallocate_goal *goal = sim_alloc(bs->host->arena, SIM_TYPE_bdrv_instance, sizeof(*goal));
    *goal = (struct preallocate_goal){next.size, next.align};
    state->opaque = goal;
    return 0;
}

static void preallocate_reopen_abort(BDRVReopenState *state)
{
    sim_free(state->bs->host->arena, SIM_TYPE_bdrv_instance, state->opaque, sizeof(struct preallocate_goal));
}

static void preallocate_reopen_commit(BDRVReopenState *state)
{
    struct preallocate *s = state->bs->opaque;
    const struct preallocate_goal *goal = state->opaque;

    s->size = goal->size;
    s->align = goal->align;
    preallocate_reopen_abort(state);
}

static const char *const preallocate_mutable_opts[] = {"prealloc-align", "prealloc-size", NULL};

static const BdrvOption preallocate_options[] = {
    {"file", BDRV_OPT_NODE, true, "node that grows", NULL},
    {"prealloc-align", BDRV_OPT_SIZE, false,
     "the file's length with its preallocation is a multiple of this, in bytes, default 1M", NULL},
    {"prealloc-size", BDRV_OPT_SIZE, false, "how far to go beyond a write, in bytes, default 128M", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

extern const BlockDriver bdrv_preallocate;
const BlockDriver bdrv_preallocate = {
    .format_name = "preallocate",
    .doc = "writes beyond the end of a file allocate more than they need, until the writers are gone",
    .instance_size = sizeof(struct preallocate),
    .options = preallocate_options,
    .is_filter = true,
    .bdrv_has_own_length = preallocate_has_own_length,
    .bdrv_open = preallocate_open,
    .bdrv_close = preallocate_close,
    .bdrv_co_inactivate = preallocate_inactivate,
    .bdrv_co_preadv = preallocate_preadv,
    .bdrv_co_pwritev = preallocate_pwritev,
    .bdrv_co_pwrite_zeroes = preallocate_pwrite_zeroes,
    .bdrv_co_pdiscard = preallocate_pdiscard,
    .bdrv_co_truncate = preallocate_truncate,
    .bdrv_co_getlength = preallocate_getlength,
    .bdrv_refresh_limits = preallocate_refresh_limits,
    .bdrv_child_perm = preallocate_child_perm,
    .bdrv_set_perm = preallocate_set_perm,
    .bdrv_reopen_prepare = preallocate_reopen_prepare,
    .bdrv_reopen_commit = preallocate_reopen_commit,
    .bdrv_reopen_abort = preallocate_reopen_abort,
    .mutable_opts = preallocate_mutable_opts,
    .bdrv_drain_end = preallocate_drain_end,
};
