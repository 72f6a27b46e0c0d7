/* Census: digests and counts, node by node; the promise is in the header. */
#include "check/census.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "jobs/blockjob.h"

/* What nobody makes or drops on the way but commands and jobs. Not HBitmap: a mirror that is just starting makes
 * one for its operations while a command waits, and that of a dirty bitmap is counted with its owner. */
static const enum sim_type counted[] = {
    SIM_TYPE_BlockDriverState,
    SIM_TYPE_bdrv_instance,
    SIM_TYPE_BdrvChild,
    SIM_TYPE_BlockBackend,
    SIM_TYPE_bdrv_op_blocker,
    SIM_TYPE_BdrvDirtyBitmap,
    SIM_TYPE_bdrv_options,
    SIM_TYPE_bdrv_reopen_entry,
    SIM_TYPE_bdrv_reopen_hold,
    SIM_TYPE_bdrv_parents,
    SIM_TYPE_bdrv_overlays,
    SIM_TYPE_quorum_children,
    SIM_TYPE_ThrottleGroup,
    SIM_TYPE_Job,
    SIM_TYPE_JobTxn,
    SIM_TYPE_BlockJobNode,
    SIM_TYPE_mirror_job,
    SIM_TYPE_create_job,
    SIM_TYPE_guest,
    SIM_TYPE_qmp_step,
    SIM_TYPE_qmp_action_state,
};

static const char *const part_names[CENSUS_PARTS] = {
    [CENSUS_OBJECTS] = "objects",
    [CENSUS_NODES] = "nodes",
    [CENSUS_LINKS] = "links",
    [CENSUS_ORDER] = "order",
    [CENSUS_PERMISSIONS] = "permissions",
    [CENSUS_READ_ONLY] = "read-only",
    [CENSUS_OPTIONS] = "options",
    [CENSUS_LIMITS] = "limits",
    [CENSUS_BITMAPS] = "bitmaps",
    [CENSUS_BLOCKERS] = "blockers",
    [CENSUS_DRAINS] = "drains",
    [CENSUS_REFERENCES] = "references",
    [CENSUS_BACKENDS] = "backends",
    [CENSUS_GROUPS] = "groups",
    [CENSUS_JOBS] = "jobs",
};

struct census_node {
    const struct sim_name *name;
    uint64_t part[CENSUS_PARTS]; /* digests; blockers, drains and references are counts first of all */
};

const char *census_part_name(enum census_part part)
{
    SIM_ASSERT(part < CENSUS_PARTS);
    return part_names[part];
}

/* --- digests ---------------------------------------------------------------------------------------------- */

static void mix(uint64_t *digest, uint64_t value)
{
    *digest = sim_mix2(*digest, value);
}

static void mix_str(uint64_t *digest, const char *text)
{
    mix(digest, text ? sim_hash_str(text) : 0);
}

static void mix_value(uint64_t *digest, const struct qvalue *value);

/* A dictionary has no order: a reopen to the same options writes what it changes first. */
static void mix_dict(uint64_t *digest, const struct qvalue *dict)
{
    uint64_t members = 0;

    for (size_t i = 0; i < dict->seq.count; i++) {
        uint64_t member = 0;

        mix_str(&member, dict->seq.keys[i]);
        mix_value(&member, dict->seq.items[i]);
        members += member;
    }
    mix(digest, members);
}

static void mix_value(uint64_t *digest, const struct qvalue *value)
{
    mix(digest, value ? (uint64_t)value->type + 1 : 0);
    if (!value) {
        return;
    }
    switch (value->type) {
    case QVALUE_NULL:
        break;
    case QVALUE_BOOL:
        mix(digest, value->boolean);
        break;
    case QVALUE_INT:
        mix(digest, (uint64_t)value->integer);
        break;
    case QVALUE_STR:
        mix_str(digest, value->str.bytes);
        break;
    case QVALUE_LIST:
        for (size_t i = 0; i < value->seq.count; i++) {
            mix_value(digest, value->seq.items[i]);
        }
        break;
    case QVALUE_DICT:
        mix_dict(digest, value);
        break;
    }
}

/* --- a node ----------------------------------------------------------------------------------------------- */

/* A preallocate filter keeps WRITE and RESIZE of the nodes below for itself until it has given up its state, which
 * it does a turn after the last who may write and resize has gone (reference/block.md 1.11); a write that was in
 * flight may begin that state amid a command. */
static bool is_below_preallocate(const BlockDriverState *bs)
{
    if (strcmp(bdrv_driver_name(bs), "preallocate") == 0) {
        return true;
    }
    for (const BdrvChild *edge = bdrv_first_parent(bs); edge; edge = bdrv_next_parent(edge)) {
        const BlockDriverState *parent = bdrv_child_parent_bs(edge);

        if (parent && is_below_preallocate(parent)) {
            return true;
        }
    }
    return false;
}

static void take_edges(const BlockDriverState *bs, uint64_t *part)
{
    uint64_t parents = 0;

    for (const BdrvChild *edge = bdrv_first_child(bs); edge; edge = bdrv_next_child(edge)) {
        mix(&part[CENSUS_LINKS], bdrv_child_number(edge));
        mix_str(&part[CENSUS_LINKS], bdrv_child_name(edge));
        mix(&part[CENSUS_LINKS], bdrv_child_role(edge));
        mix(&part[CENSUS_LINKS], bdrv_node_sim_name(bdrv_child_bs(edge))->hash);
    }
    for (const BdrvChild *edge = bdrv_first_parent(bs); edge; edge = bdrv_next_parent(edge)) {
        const BlockDriverState *parent = bdrv_child_parent_bs(edge);
        uint64_t claimed = parent && is_below_preallocate(parent) ? BLK_PERM_WRITE | BLK_PERM_RESIZE : 0;
        uint64_t perm, shared;

        bdrv_child_perms(edge, &perm, &shared);
        perm &= ~claimed;
        shared &= ~claimed;
        mix(&part[CENSUS_ORDER], bdrv_child_number(edge));
        parents += sim_mix64(bdrv_child_number(edge) << 1 | bdrv_child_frozen(edge));
        part[CENSUS_PERMISSIONS] += sim_mix2(bdrv_child_number(edge), perm << 8 | shared);
        part[CENSUS_DRAINS] += bdrv_child_quiesces_parent(edge);
    }
    mix(&part[CENSUS_LINKS], parents);
}

static void take_limits(const BlockDriverState *bs, uint64_t *digest)
{
    const BlockLimits *bl = bdrv_limits(bs);

    mix(digest, bl->request_alignment);
    mix(digest, (uint64_t)bl->max_pdiscard);
    mix(digest, bl->pdiscard_alignment);
    mix(digest, (uint64_t)bl->max_pwrite_zeroes);
    mix(digest, bl->pwrite_zeroes_alignment);
    mix(digest, bl->opt_transfer);
    mix(digest, (uint64_t)bl->max_transfer);
    mix(digest, bl->min_mem_alignment);
    mix(digest, bl->max_iov);
}

static void take_bitmaps(const BlockDriverState *bs, uint64_t *digest)
{
    for (const BdrvDirtyBitmap *b = bdrv_dirty_bitmap_next(bs, NULL); b; b = bdrv_dirty_bitmap_next(bs, b)) {
        const BdrvDirtyBitmap *successor = bdrv_dirty_bitmap_successor(b);

        mix(digest, bdrv_dirty_bitmap_id(b));
        mix_str(digest, bdrv_dirty_bitmap_name(b));
        mix(digest, bdrv_dirty_bitmap_granularity(b));
        mix(digest, successor ? bdrv_dirty_bitmap_id(successor) : UINT64_MAX);
        mix(digest,
            (uint64_t)bdrv_dirty_bitmap_enabled(b) | (uint64_t)bdrv_dirty_bitmap_busy(b) << 1 |
                (uint64_t)bdrv_dirty_bitmap_readonly(b) << 2 | (uint64_t)bdrv_dirty_bitmap_persistent(b) << 3 |
                (uint64_t)bdrv_dirty_bitmap_inconsistent(b) << 4 | (uint64_t)bdrv_dirty_bitmap_skips_store(b) << 5);
    }
}

static void take_node(const BlockDriverState *bs, struct census_node *node)
{
    uint64_t *part = node->part;

    *node = (struct census_node){.name = bdrv_node_sim_name(bs)};
    mix_str(&part[CENSUS_NODES], bdrv_driver_name(bs));
    mix(&part[CENSUS_NODES], (uint64_t)bdrv_is_implicit(bs) | (uint64_t)bdrv_has_monitor_ref(bs) << 1);
    take_edges(bs, part);
    mix_str(&part[CENSUS_LINKS], bdrv_backing_filename(bs));
    mix_str(&part[CENSUS_LINKS], bdrv_header_backing_format(bs));
    part[CENSUS_READ_ONLY] = (uint64_t)bdrv_is_read_only(bs) | (uint64_t)bdrv_is_inactive(bs) << 1;
    mix(&part[CENSUS_OPTIONS], bdrv_open_flags(bs));
    mix(&part[CENSUS_OPTIONS], (uint64_t)bdrv_get_detect_zeroes(bs));
    mix(&part[CENSUS_OPTIONS], bdrv_copy_on_read_users(bs));
    mix(&part[CENSUS_OPTIONS], bdrv_get_write_threshold(bs));
    mix_value(&part[CENSUS_OPTIONS], bdrv_options_in_force(bs));
    take_limits(bs, &part[CENSUS_LIMITS]);
    take_bitmaps(bs, &part[CENSUS_BITMAPS]);
    for (unsigned op = 0; op < BLOCK_OP_COUNT; op++) {
        /* the count below, which operations above */
        part[CENSUS_BLOCKERS] += ((uint64_t)op + 1) * bdrv_op_blockers_of(bs, (enum bdrv_op)op) << 32;
    }
    part[CENSUS_BLOCKERS] += bdrv_op_blockers(bs);
    part[CENSUS_DRAINS] += (uint64_t)bdrv_quiesce_counter(bs) << 16;
    part[CENSUS_REFERENCES] = bdrv_refcount(bs);
}

/* --- a host ----------------------------------------------------------------------------------------------- */

static uint64_t take_backends(struct host *host)
{
    uint64_t digest = 0;

    for (const BlockBackend *blk = blk_next(host, NULL); blk; blk = blk_next(host, blk)) {
        const ThrottleGroup *group = blk_throttle_group(blk);
        uint64_t perm, shared;

        mix_str(&digest, blk_name(blk));
        mix_str(&digest, blk_dev_id(blk));
        mix(&digest, blk_root(blk) ? bdrv_child_number(blk_root(blk)) : UINT64_MAX);
        blk_get_perm(blk, &perm, &shared);
        mix(&digest, perm << 8 | shared);
        mix(&digest, (uint64_t)blk_get_on_error(blk, true) << 8 | (uint64_t)blk_get_on_error(blk, false));
        mix_str(&digest, group ? throttle_group_name(group) : NULL);
    }
    return digest;
}

static uint64_t take_groups(struct host *host)
{
    uint64_t digest = 0;

    for (const ThrottleGroup *group = throttle_group_next(host, NULL); group;
         group = throttle_group_next(host, group)) {
        const ThrottleConfig *config = throttle_group_get_config(group);

        mix_str(&digest, throttle_group_name(group));
        mix(&digest, throttle_group_users(group));
        mix(&digest, config->op_size);
        for (unsigned i = 0; i < THROTTLE_BUCKETS; i++) {
            mix(&digest, config->limits[i].avg);
            mix(&digest, config->limits[i].max);
            mix(&digest, config->limits[i].burst_length);
        }
    }
    return digest;
}

static uint64_t take_jobs(struct host *host)
{
    uint64_t digest = 0;

    for (Job *job = host->jobs ? job_next(host, NULL) : NULL; job; job = job_next(host, job)) {
        const BlockJob *block_job = block_job_of(job);

        mix_str(&digest, job_id(job));
        mix(&digest, (uint64_t)job->driver->job_type << 8 | (uint64_t)job->status);
        mix(&digest, job->pause_count);
        mix(&digest, (uint64_t)job->user_paused | (uint64_t)job->cancelled << 1 | (uint64_t)job->force_cancel << 2 |
                         (uint64_t)job->auto_finalize << 3 | (uint64_t)job->auto_dismiss << 4);
        mix(&digest, block_job ? (uint64_t)block_job->speed : 0);
    }
    return digest;
}

static void make_room(struct census *census, struct sim_arena *arena, size_t count)
{
    size_t room = MAX(count, (size_t)16);

    if (!census->live) {
        census->live =
            (uint64_t *)sim_alloc(arena, SIM_TYPE_check_state, sizeof(*census->live) * ARRAY_SIZE(counted));
    }
    if (count <= census->room) {
        return;
    }
    if (census->nodes) {
        sim_free(arena, SIM_TYPE_check_state, census->nodes, census->room * sizeof(*census->nodes));
    }
    room = room * 2;
    census->nodes = (struct census_node *)sim_alloc(arena, SIM_TYPE_check_state, room * sizeof(*census->nodes));
    census->room = room;
}

void census_take(struct census *census, struct sim_arena *arena, struct host *host)
{
    size_t count = sim_arena_live(host->arena, SIM_TYPE_BlockDriverState);

    make_room(census, arena, count);
    census->host = host;
    census->count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(counted); i++) {
        census->live[i] = sim_arena_live(host->arena, counted[i]);
    }
    for (BlockDriverState *bs = host->graph ? bdrv_next_node(host, NULL) : NULL; bs;
         bs = bdrv_next_node(host, bs)) {
        SIM_ASSERT(census->count < census->room);
        take_node(bs, &census->nodes[census->count++]);
    }
    memset(census->whole, 0, sizeof(census->whole));
    if (host->graph) {
        census->whole[CENSUS_BACKENDS] = take_backends(host);
        census->whole[CENSUS_GROUPS] = take_groups(host);
    }
    census->whole[CENSUS_JOBS] = take_jobs(host);
}

void census_free(struct census *census, struct sim_arena *arena)
{
    if (census->nodes) {
        sim_free(arena, SIM_TYPE_check_state, census->nodes, census->room * sizeof(*census->nodes));
    }
    if (census->live) {
        sim_free(arena, SIM_TYPE_check_state, census->live, sizeof(*census->live) * ARRAY_SIZE(counted));
    }
    *census = (struct census){.host = NULL};
}

/* --- differences ------------------------------------------------------------------------------------------ */

static bool objects_differ(const struct census *before, const struct census *after, struct census_difference *d)
{
    for (size_t i = 0; i < ARRAY_SIZE(counted); i++) {
        if (before->live[i] != after->live[i]) {
            snprintf(d->text, sizeof(d->text), "of %s there are %" PRIu64 " instead of %" PRIu64,
                     sim_type_name(counted[i]), after->live[i], before->live[i]);
            return true;
        }
    }
    return false;
}

/* Which nodes there are; the rest can only be compared when they are the same. */
static bool nodes_differ(const struct census *before, const struct census *after, struct census_difference *d)
{
    for (size_t i = 0; i < MAX(before->count, after->count); i++) {
        const struct sim_name *was = i < before->count ? before->nodes[i].name : NULL;
        const struct sim_name *is = i < after->count ? after->nodes[i].name : NULL;

        if (was != is) {
            d->node = is ? is : was;
            snprintf(d->text, sizeof(d->text), "there is node %s where %s was", is ? is->str : "none",
                     was ? was->str : "none");
            return true;
        }
    }
    return false;
}

static void describe(enum census_part part, uint64_t was, uint64_t is, struct census_difference *d)
{
    const char *node = d->node->str;

    switch (part) {
    case CENSUS_BLOCKERS:
        snprintf(d->text, sizeof(d->text), "op blockers of node %s went from %u to %u", node, (unsigned)was,
                 (unsigned)is);
        break;
    case CENSUS_DRAINS:
        snprintf(d->text, sizeof(d->text),
                 "node %s was drained %u times with %u quiesced parents, and is %u times with %u", node,
                 (unsigned)(was >> 16), (unsigned)(was & 0xffff), (unsigned)(is >> 16), (unsigned)(is & 0xffff));
        break;
    case CENSUS_REFERENCES:
        snprintf(d->text, sizeof(d->text), "references to node %s went from %" PRIu64 " to %" PRIu64, node, was,
                 is);
        break;
    case CENSUS_READ_ONLY:
        snprintf(d->text, sizeof(d->text), "node %s was %s%s and is %s%s", node, was & 1 ? "read-only" : "writable",
                 was & 2 ? ", inactive" : "", is & 1 ? "read-only" : "writable", is & 2 ? ", inactive" : "");
        break;
    case CENSUS_ORDER:
        snprintf(d->text, sizeof(d->text), "the parents of node %s are in another order", node);
        break;
    default:
        snprintf(d->text, sizeof(d->text), "the %s of node %s are not as before", part_names[part], node);
        break;
    }
}

static bool node_parts_differ(const struct census *before, const struct census *after, uint32_t parts,
                              struct census_difference *d)
{
    for (unsigned part = 0; part < CENSUS_PARTS; part++) {
        for (size_t i = 0; (parts >> part & 1) && i < before->count; i++) {
            uint64_t was = before->nodes[i].part[part];
            uint64_t is = after->nodes[i].part[part];

            if (was != is) {
                d->part = (enum census_part)part;
                d->node = before->nodes[i].name;
                describe(d->part, was, is, d);
                return true;
            }
        }
    }
    return false;
}

bool census_compare(const struct census *before, const struct census *after, uint32_t parts,
                    struct census_difference *d)
{
    SIM_ASSERT(before->host == after->host);
    *d = (struct census_difference){.part = CENSUS_NODES};
    if (nodes_differ(before, after, d) || node_parts_differ(before, after, parts, d)) {
        return true;
    }
    for (unsigned part = 0; part < CENSUS_PARTS; part++) {
        if ((parts >> part & 1) && before->whole[part] != after->whole[part]) {
            *d = (struct census_difference){.part = (enum census_part)part};
            snprintf(d->text, sizeof(d->text), "the %s are not as before", part_names[part]);
            return true;
        }
    }
    /* what is left over and stands nowhere else */
    *d = (struct census_difference){.part = CENSUS_OBJECTS};
    return (parts >> CENSUS_OBJECTS & 1) && objects_differ(before, after, d);
}
