/*
 * Driver `blkdebug`: a filter that fails requests by rules, and stops them at breakpoints (reference/block.md 7.1).
 *
 *     driver=blkdebug image=... [inject-error=[...]] [set-state=[...]] [align=N] [max-transfer=N]
 *         [opt-write-zero=N] [max-write-zero=N] [opt-discard=N] [max-discard=N]
 *         [take-child-perms=[...]] [unshare-child-perms=[...]]
 *
 *     inject-error.0.event=write_aio inject-error.0.errno=28 inject-error.0.once=on
 *     set-state.0.event=flush_to_disk set-state.0.state=1 set-state.0.new_state=2
 *
 * Its limits are there to be tried: it asserts that the generic code keeps requests inside them. `config`, rules in
 * a file of the host, is not supported: they are part of the options here.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>

#include "block/blkdebug_int.h"

/* --- options: rules --------------------------------------------------------------------------------------- */

static const char *const iotype_words[] = {"read",         "write", "write-zeroes", "discard", "flush",
                                           "block-status", NULL};

#define DEFAULT_OPS \
    (1u << SIM_OP_READ | 1u << SIM_OP_WRITE | 1u << SIM_OP_WRITE_ZEROES | 1u << SIM_OP_DISCARD | 1u << SIM_OP_FLUSH)
#define ERRNO_MAX 4095

static bool get_number(const struct qvalue *options, const char *key, int64_t *out, int64_t def, int64_t min,
                       int64_t max, Error **errp)
{
    if (!qdict_get_int(options, key, out, def, errp)) {
        return false;
    }
    if (qdict_get(options, key) && (*out < min || *out > max)) {
        error_setg(errp, "Parameter '%s' expects a number from %" PRId64 " to %" PRId64, key, min, max);
        return false;
    }
    return true;
}

/* What both kinds of rules have; the table has checked that the event is one. */
static blkdebug_rule *add_rule(BlockDriverState *bs, enum blkdebug_action action, const struct qvalue *options,
                               Error **errp)
{
    enum blkdbg_event event;
    const char *name;
    int64_t state;

    if (!qdict_get_str(options, "event", &name, NULL, errp) ||
        !get_number(options, "state", &state, 0, 0, INT_MAX, errp)) {
        return NULL;
    }
    bool known = blkdbg_event_parse(name, &event);
    SIM_ASSERT(known);
    blkdebug_rule *rule = blkdebug_rule_add(bs, action, event);
    rule->state = state;
    return rule;
}

static bool add_inject_error(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    blkdebug_rule *rule = add_rule(bs, BLKDEBUG_INJECT_ERROR, options, errp);
    const char *iotype;
    int64_t error;

    if (!rule || !qdict_get_str(options, "iotype", &iotype, NULL, errp) ||
        !get_number(options, "errno", &error, EIO, 0, ERRNO_MAX, errp) ||
        !get_number(options, "sector", &rule->sector, -1, 0, BDRV_MAX_LENGTH / SIM_SECTOR_BYTES, errp) ||
        !qdict_get_bool(options, "once", &rule->once, false, errp) ||
        !qdict_get_bool(options, "immediately", &rule->immediately, false, errp)) {
        return false;
    }
    rule->error = (int)error;
    rule->ops = DEFAULT_OPS;
    if (iotype) {
        enum sim_op op = SIM_OP_COUNT;
        bool known = sim_op_parse(iotype, &op);
        SIM_ASSERT(known);
        rule->ops = 1u << op;
    }
    return true;
}

static bool add_set_state(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    blkdebug_rule *rule = add_rule(bs, BLKDEBUG_SET_STATE, options, errp);

    return rule && get_number(options, "new_state", &rule->next_state, 0, 0, INT_MAX, errp);
}

static bool add_rules(BlockDriverState *bs, const struct qvalue *options, const char *key,
                      bool (*add)(BlockDriverState *bs, const struct qvalue *options, Error **errp), Error **errp)
{
    const struct qvalue *list = qdict_get(options, key);
    Error *local = NULL;

    for (size_t i = 0; list && i < list->seq.count; i++) {
        if (!add(bs, list->seq.items[i], &local)) {
            error_prepend(&local, "%s.%u: ", key, (unsigned)i);
            error_propagate(errp, local);
            return false;
        }
    }
    return true;
}

/* --- options: limits and permissions ----------------------------------------------------------------------- */

/* 0, or a multiple of unit that fits into 31 bits. */
static bool get_limit(const struct qvalue *options, const char *key, int64_t unit, int64_t *out, Error **errp)
{
    if (!qdict_get_size(options, key, out, 0, errp)) {
        return false;
    }
    if (*out >= INT_MAX || *out % unit != 0) {
        error_setg(errp,
                   "Cannot meet constraints with %s %" PRId64 ": it must be a multiple of %" PRId64 " below 2G",
                   key, *out, unit);
        return false;
    }
    return true;
}

static bool get_limits(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    struct blkdebug *s = bs->opaque;
    int64_t align;

    if (!qdict_get_size(options, "align", &align, 0, errp)) {
        return false;
    }
    if (align > BDRV_MAX_ALIGNMENT || (align > 0 && !is_power_of_2((uint64_t)align))) {
        error_setg(errp, "Cannot meet constraints with align %" PRId64 ": it must be a power of two up to 1G",
                   align);
        return false;
    }
    s->align = (uint32_t)align;
    align = MAX(align, (int64_t)bs->file->bs->bl.request_alignment);
    return get_limit(options, "max-transfer", align, &s->max_transfer, errp) &&
           get_limit(options, "opt-write-zero", align, &s->opt_write_zero, errp) &&
           get_limit(options, "max-write-zero", MAX(s->opt_write_zero, align), &s->max_write_zero, errp) &&
           get_limit(options, "opt-discard", align, &s->opt_discard, errp) &&
           get_limit(options, "max-discard", MAX(s->opt_discard, align), &s->max_discard, errp);
}

/* In the order of the permissions' bits. */
static const char *const perm_words[] = {"consistent-read", "write", "write-unchanged", "resize", NULL};

static uint64_t get_perms(const struct qvalue *options, const char *key)
{
    const struct qvalue *list = qdict_get(options, key);
    uint64_t perms = 0;

    for (size_t i = 0; list && i < list->seq.count; i++) {
        for (unsigned bit = 0; perm_words[bit]; bit++) {
            perms |= str_is(perm_words[bit], list->seq.items[i]->str.bytes) ? 1u << bit : 0;
        }
    }
    return perms;
}

/* --- life -------------------------------------------------------------------------------------------------- */

static int blkdebug_open(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    struct blkdebug *s = bs->opaque;

    blkdebug_rules_init(s);
    s->take_child_perms = get_perms(options, "take-child-perms");
    s->unshare_child_perms = get_perms(options, "unshare-child-perms");
    if (!bdrv_open_child(bs, options, "image", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, false, errp)) {
        return -EINVAL;
    }
    if (!get_limits(bs, options, errp) || !add_rules(bs, options, "inject-error", add_inject_error, errp) ||
        !add_rules(bs, options, "set-state", add_set_state, errp)) {
        blkdebug_rules_clear(bs);
        return -EINVAL;
    }
    blkdebug_co_event(bs, BLKDBG_NONE);
    return 0;
}

static void blkdebug_close(BlockDriverState *bs)
{
    blkdebug_rules_clear(bs);
}

static void blkdebug_refresh_limits(BlockDriverState *bs)
{
    const struct blkdebug *s = bs->opaque;

    bdrv_pass_supported_flags(bs);
    bs->bl.request_alignment = s->align > 0 ? s->align : bs->bl.request_alignment;
    bs->bl.max_transfer = s->max_transfer > 0 ? s->max_transfer : bs->bl.max_transfer;
    bs->bl.pwrite_zeroes_alignment = (uint32_t)s->opt_write_zero;
    bs->bl.max_pwrite_zeroes = s->max_write_zero;
    if (s->opt_discard > 0 || (s->max_discard > 0 && s->max_discard % MAX(bs->bl.pdiscard_alignment, 1) != 0)) {
        bs->bl.pdiscard_alignment = (uint32_t)s->opt_discard; /* the image's may not fit into our largest */
    }
    bs->bl.max_pdiscard = s->max_discard;
}

static void blkdebug_child_perm(BlockDriverState *bs, BdrvChild *child, uint32_t role, uint64_t perm,
                                uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    const struct blkdebug *s = bs->opaque;

    bdrv_default_perms(bs, child, role, perm, shared, nperm, nshared);
    *nperm |= s->take_child_perms;
    *nshared &= ~s->unshare_child_perms;
}

/* --- requests ---------------------------------------------------------------------------------------------- */

static void assert_aligned(int64_t offset, int64_t bytes, int64_t align)
{
    SIM_ASSERT_EQ(offset % align, 0);
    SIM_ASSERT_EQ(bytes % align, 0);
}

static void assert_transfer(const BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    assert_aligned(offset, bytes, bs->bl.request_alignment);
    SIM_ASSERT(bs->bl.max_transfer == 0 || bytes <= bs->bl.max_transfer);
}

static int blkdebug_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags)
{
    assert_transfer(bs, offset, bytes);
    int ret = blkdebug_co_check(bs, SIM_OP_READ, offset, bytes);
    return ret < 0 ? ret : bdrv_co_preadv(bs->file, offset, bytes, out, flags);
}

static int blkdebug_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in,
                            uint32_t flags)
{
    assert_transfer(bs, offset, bytes);
    int ret = blkdebug_co_check(bs, SIM_OP_WRITE, offset, bytes);
    return ret < 0 ? ret : bdrv_co_pwritev(bs->file, offset, bytes, in, flags);
}

/* Pieces below the preferred size are refused, so that the generic code has to write them as data. Such a piece
 * lies between two multiples of it: the generic code cuts there. */
static int blkdebug_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags)
{
    int64_t align = MAX(bs->bl.request_alignment, bs->bl.pwrite_zeroes_alignment);

    assert_aligned(offset, bytes, bs->bl.request_alignment);
    if (bytes < align) {
        SIM_ASSERT_LE(offset % align + bytes, align);
        return -ENOTSUP;
    }
    assert_aligned(offset, bytes, align);
    SIM_ASSERT(bs->bl.max_pwrite_zeroes == 0 || bytes <= bs->bl.max_pwrite_zeroes);
    int ret = blkdebug_co_check(bs, SIM_OP_WRITE_ZEROES, offset, bytes);
    return ret < 0 ? ret : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int blkdebug_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int64_t align = MAX(bs->bl.request_alignment, bs->bl.pdiscard_alignment);

    assert_aligned(offset, bytes, bs->bl.request_alignment);
    if (bytes >= align) {
        assert_aligned(offset, bytes, align);
    }
    SIM_ASSERT(bs->bl.max_pdiscard == 0 || bytes <= bs->bl.max_pdiscard);
    int ret = blkdebug_co_check(bs, SIM_OP_DISCARD, offset, bytes);
    return ret < 0 ? ret : bdrv_co_pdiscard(bs->file, offset, bytes);
}

/* The disk's part of a flush, so rules are asked only when something is unflushed; the image is flushed after it by
 * the generic code. */
static int blkdebug_flush_to_disk(BlockDriverState *bs)
{
    return blkdebug_co_check(bs, SIM_OP_FLUSH, 0, 0);
}

static int blkdebug_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                                 int64_t *map, BlockDriverState **file)
{
    assert_aligned(offset, bytes, bs->bl.request_alignment);
    int ret = blkdebug_co_check(bs, SIM_OP_BLOCK_STATUS, offset, bytes);
    *pnum = bytes;
    *map = offset;
    *file = bs->file->bs;
    return ret < 0 ? ret : BDRV_BLOCK_RAW | BDRV_BLOCK_OFFSET_VALID;
}

/* --- the driver -------------------------------------------------------------------------------------------- */

#define END \
    { \
        NULL, BDRV_OPT_STR, false, NULL, NULL \
    }

static const BdrvOption inject_error_options[] = {
    {"event", BDRV_OPT_ENUM, true, "debug event that arms the rule", blkdbg_event_names},
    {"state", BDRV_OPT_INT, false, "only in this state, default 0: in any", NULL},
    {"iotype", BDRV_OPT_ENUM, false, "kind of requests that fail, default all but block-status", iotype_words},
    {"errno", BDRV_OPT_INT, false, "error number, default 5 (EIO); 0 lets the request pass", NULL},
    {"sector", BDRV_OPT_INT, false, "only requests that touch this sector, default any", NULL},
    {"once", BDRV_OPT_BOOL, false, "the rule goes once it has failed a request, default off", NULL},
    {"immediately", BDRV_OPT_BOOL, false, "fail at once, default off: on the next turn of the loop", NULL},
    END,
};

static const BdrvOption set_state_options[] = {
    {"event", BDRV_OPT_ENUM, true, "debug event that changes the state", blkdbg_event_names},
    {"state", BDRV_OPT_INT, false, "only in this state, default 0: in any", NULL},
    {"new_state", BDRV_OPT_INT, true, "state from the next event on", NULL},
    END,
};

static const BdrvOption blkdebug_options[] = {
    {"image", BDRV_OPT_NODE, true, "node that is filtered", NULL},
    {"inject-error", BDRV_OPT_DICT_LIST, false, "rules that make requests fail", inject_error_options},
    {"set-state", BDRV_OPT_DICT_LIST, false, "rules that change the state, which is 1 at first", set_state_options},
    {"align", BDRV_OPT_SIZE, false, "request alignment in bytes, a power of two, default the generic one", NULL},
    {"max-transfer", BDRV_OPT_SIZE, false, "largest request in bytes, a multiple of align, default the image's",
     NULL},
    {"opt-write-zero", BDRV_OPT_SIZE, false, "preferred alignment of zero writes in bytes, a multiple of align",
     NULL},
    {"max-write-zero", BDRV_OPT_SIZE, false, "largest zero write in bytes, a multiple of align and opt-write-zero",
     NULL},
    {"opt-discard", BDRV_OPT_SIZE, false, "preferred alignment of discards in bytes, a multiple of align", NULL},
    {"max-discard", BDRV_OPT_SIZE, false, "largest discard in bytes, a multiple of align and opt-discard", NULL},
    {"take-child-perms", BDRV_OPT_ENUM_LIST, false, "permissions to take on the image beyond what users need",
     perm_words},
    {"unshare-child-perms", BDRV_OPT_ENUM_LIST, false, "permissions on the image that others may not have",
     perm_words},
    END,
};

extern const BlockDriver bdrv_blkdebug;
const BlockDriver bdrv_blkdebug = {
    .format_name = "blkdebug",
    .doc = "fails requests by rules and stops them at breakpoints",
    .instance_size = sizeof(struct blkdebug),
    .options = blkdebug_options,
    .is_filter = true,
    .bdrv_open = blkdebug_open,
    .bdrv_reopen_prepare = bdrv_reopen_prepare_nothing,
    .bdrv_close = blkdebug_close,
    .bdrv_co_preadv = blkdebug_preadv,
    .bdrv_co_pwritev = blkdebug_pwritev,
    .bdrv_co_pwrite_zeroes = blkdebug_pwrite_zeroes,
    .bdrv_co_pdiscard = blkdebug_pdiscard,
    .bdrv_co_flush_to_disk = blkdebug_flush_to_disk,
    .bdrv_co_block_status = blkdebug_block_status,
    .bdrv_refresh_limits = blkdebug_refresh_limits,
    .bdrv_child_perm = blkdebug_child_perm,
    .bdrv_co_debug_event = blkdebug_co_event,
    .bdrv_debug_breakpoint = blkdebug_breakpoint,
    .bdrv_debug_remove_breakpoint = blkdebug_remove_breakpoint,
    .bdrv_debug_resume = blkdebug_resume,
    .bdrv_debug_is_suspended = blkdebug_is_suspended,
};
