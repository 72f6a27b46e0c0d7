/*
 * Driver `throttle`: a filter whose requests keep the limits of a throttle group (reference/block.md 4.2).
 *
 *     driver=throttle throttle-group=ID file=...
 *
 * Discards count as writes; a flush never waits. While the node is drained nothing waits.
 */
#include <errno.h>

#include "block/block_int.h"
#include "block/throttle_group.h"

struct throttle_state {
    ThrottleGroupMember member;
};

static ThrottleGroupMember *member_of(const BlockDriverState *bs)
{
    return &((struct throttle_state *)bs->opaque)->member;
}

/* The name of a group that is there; NULL with errp. */
static const char *group_option(const BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    const char *name = NULL;

    if (!qdict_get_str(options, "throttle-group", &name, NULL, errp)) {
        return NULL;
    }
    if (!name) {
        error_setg(errp, "Please specify a throttle group");
    } else if (!throttle_group_find(bs->host, name)) {
        error_setg(errp, "Throttle group '%s' does not exist", name);
        name = NULL;
    }
    return name;
}

static void throttle_refresh_limits(BlockDriverState *bs)
{
    bdrv_pass_supported_flags(bs);
    if (bs->file) {
        bs->supported_write_flags |= bs->file->bs->supported_write_flags;
        bs->supported_zero_flags |= bs->file->bs->supported_zero_flags;
    }
}

static int throttle_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    ThrottleGroupMember *member = member_of(bs);
    const char *group = group_option(bs, options, errp);

    /* Born in a drained section: its end will come, its beginning was missed. */
    member->bypass = bs->quiesce_counter > 0;
    if (!group || !bdrv_open_child(bs, options, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, false, errp)) {
        return -EINVAL;
    }
    /* Opening the child may have taken time. */
    group = group_option(bs, options, errp);
    if (!group) {
        return -EINVAL;
    }
    throttle_group_register(member, bs->host, group);
    return 0;
}

static int throttle_reopen_prepare(BDRVReopenState *state, Error **errp)
{
    return group_option(state->bs, state->options, errp) ? 0 : -EINVAL;
}

/* Drained: nothing of the member waits, and the new group counts from the next request on. */
static void throttle_reopen_commit(BDRVReopenState *state)
{
    ThrottleGroupMember *member = member_of(state->bs);
    const char *name = qdict_get(state->options, "throttle-group")->str.bytes;

    if (!str_is(throttle_group_name(member->group), name)) {
        throttle_group_unregister(member);
        throttle_group_register(member, state->bs->host, name);
    }
}

static const char *const throttle_mutable_opts[] = {"throttle-group", NULL};

static void throttle_close(BlockDriverState *bs)
{
    if (member_of(bs)->group) {
        throttle_group_unregister(member_of(bs));
    }
}

/* --- requests -------------------------------------------------------------------------------------------- */

static int throttle_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    throttle_group_co_intercept(member_of(bs), bytes, THROTTLE_READ);
    return bdrv_co_preadv(bs->file, offset, bytes, out, flags);
}

static int throttle_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                            uint32_t flags)
{
    throttle_group_co_intercept(member_of(bs), bytes, THROTTLE_WRITE);
    return bdrv_co_pwritev(bs->file, offset, bytes, in, flags);
}

static int throttle_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    throttle_group_co_intercept(member_of(bs), bytes, THROTTLE_WRITE);
    return bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int throttle_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    throttle_group_co_intercept(member_of(bs), bytes, THROTTLE_WRITE);
    return bdrv_co_pdiscard(bs->file, offset, bytes);
}

static int throttle_flush(BlockDriverState *bs)
{
    return bdrv_co_flush(bs->file->bs);
}

/* --- drain ----------------------------------------------------------------------------------------------- */

static void throttle_drain_begin(BlockDriverState *bs)
{
    throttle_group_bypass_begin(member_of(bs));
}

static void throttle_drain_end(BlockDriverState *bs)
{
    throttle_group_bypass_end(member_of(bs));
}

static const BdrvOption throttle_options[] = {
    {"throttle-group", BDRV_OPT_STR, true, "id of a throttle-group object", NULL},
    {"file", BDRV_OPT_NODE, true, "node below", NULL},
    {NULL, BDRV_OPT_STR, false, NULL, NULL},
};

extern const BlockDriver bdrv_throttle;
const BlockDriver bdrv_throttle = {
    .format_name = "throttle",
    .doc = "filter that keeps the limits of a throttle group",
    .instance_size = sizeof(struct throttle_state),
    .options = throttle_options,
    .is_filter = true,
    .bdrv_open = throttle_open,
    .bdrv_close = throttle_close,
    .bdrv_reopen_prepare = throttle_reopen_prepare,
    .bdrv_reopen_commit = throttle_reopen_commit,
    .mutable_opts = throttle_mutable_opts,
    .bdrv_co_preadv = throttle_preadv,
    .bdrv_co_pwritev = throttle_pwritev,
    .bdrv_co_pwrite_zeroes = throttle_pwrite_zeroes,
    .bdrv_co_pdiscard = throttle_pdiscard,
    .bdrv_co_flush = throttle_flush,
    .bdrv_refresh_limits = throttle_refresh_limits,
    .bdrv_drain_begin = throttle_drain_begin,
    .bdrv_drain_end = throttle_drain_end,
};
