/* Nodes: names, references, opening from options, closing (1.1, 1.2, 1.5, 1.13). */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "block/options.h"
#include "block/throttle_group.h"

/* --- the graph of a host --------------------------------------------------------------------------------- */

void bdrv_graph_init(struct host *host)
{
    SIM_ASSERT(host->graph == NULL);
    host->graph = SIM_NEW(host->arena, BlockGraph);
    host->graph->host = host;
    TAILQ_INIT(&host->graph->nodes);
    TAILQ_INIT(&host->graph->backends);
    TAILQ_INIT(&host->graph->throttle_groups);
}

void bdrv_graph_cleanup(struct host *host)
{
    SIM_ASSERT(TAILQ_EMPTY(&host->graph->nodes));
    SIM_ASSERT(TAILQ_EMPTY(&host->graph->backends));
    throttle_groups_cleanup(host);
    bdrv_event_limit_end(&host->graph->quorum_failure);
    bdrv_set_host_files(host, NULL);
    SIM_FREE(host->arena, BlockGraph, host->graph);
    host->graph = NULL;
}

void bdrv_walk_begin(struct BlockGraph *graph)
{
    graph->visit++;
}

bool bdrv_visit(BlockDriverState *bs)
{
    uint64_t visit = bs->host->graph->visit;

    if (bs->visit == visit) {
        return false;
    }
    bs->visit = visit;
    return true;
}

/* --- names ----------------------------------------------------------------------------------------------- */

bool bdrv_name_well_formed(const char *name)
{
    if (!isascii(name[0]) || !isalpha((unsigned char)name[0])) {
        return false;
    }
    for (const char *c = name; *c; c++) {
        if (!isascii(*c) || (!isalnum((unsigned char)*c) && !strchr("-._", *c))) {
            return false;
        }
    }
    return true;
}

bool bdrv_name_usable(struct host *host, const char *name, Error **errp)
{
    if (!bdrv_name_well_formed(name)) {
        error_setg(errp, "Invalid node-name: '%s'", name);
        return false;
    }
    if (strlen(name) > BDRV_NODE_NAME_MAX) {
        error_setg(errp, "Node name too long: '%s'", name);
        return false;
    }
    if (blk_by_name(host, name)) {
        error_setg(errp, "node-name=%s is conflicting with a device id", name);
        return false;
    }
    if (bdrv_find_node(host, name)) {
        error_setg(errp, "Duplicate nodes with node-name='%s'", name);
        return false;
    }
    return true;
}

/* "#block<n><2 digits>": users cannot write such a name, so it never collides; the digits keep them from relying
 * on it. */
static const struct sim_name *generate_name(struct host *host)
{
    char text[BDRV_NODE_NAME_MAX + 1];
    uint64_t n = host->graph->next_generated_name++;

    snprintf(text, sizeof(text), "#block%" PRIu64 "%02u", n, (unsigned)(sim_mix64(n + 1) % 100));
    return sim_name(host->sim, text);
}

BlockDriverState *bdrv_find_node(struct host *host, const char *node_name)
{
    BlockDriverState *bs;

    TAILQ_FOREACH(bs, &host->graph->nodes, node_list)
    {
        if (str_is(bs->name->str, node_name)) {
            return bs;
        }
    }
    return NULL;
}

BlockDriverState *bdrv_lookup_bs(struct host *host, const char *name, Error **errp)
{
    BlockBackend *blk = blk_by_name(host, name);
    BlockDriverState *bs;

    if (blk) {
        bs = blk_bs(blk);
        if (!bs) {
            error_setg(errp, "Device '%s' has no medium", name);
        }
        return bs;
    }
    bs = bdrv_find_node(host, name);
    if (!bs) {
        error_setg(errp, "Cannot find device='%s' nor node-name='%s'", name, name);
    }
    return bs;
}

BlockDriverState *bdrv_next_node(struct host *host, const BlockDriverState *after)
{
    return after ? TAILQ_NEXT(after, node_list) : TAILQ_FIRST(&host->graph->nodes);
}

/* --- a node's memory ------------------------------------------------------------------------------------- */

void bdrv_set_entity_below(BlockDriverState *bs, const BlockDriverState *parent, const char *child_name)
{
    bs->entity = sim_mix2(parent->entity, sim_hash_str(child_name));
}

BlockDriverState *bdrv_new_node(struct host *host, const BlockDriver *drv, const char *name)
{
    struct BlockGraph *graph = host->graph;
    BlockDriverState *bs = SIM_NEW(host->arena, BlockDriverState);

    SIM_ASSERT(drv != NULL);
    bs->host = host;
    bs->drv = drv;
    bs->number = graph->next_node_number++;
    bs->refcnt = 1;
    bs->name_generated = name == NULL;
    bs->name = name ? sim_name(host->sim, name) : generate_name(host);
    /* Hosts are told apart, so that equal names on two of them draw independently. */
    bs->entity = sim_mix2(host->name->hash, sim_hash_str(name ? name : drv->format_name));
    co_queue_init(host->sim, &bs->flush_queue);
    if (drv->instance_size) {
        bs->opaque = sim_alloc(host->arena, SIM_TYPE_bdrv_instance, drv->instance_size);
    }
    TAILQ_INSERT_HEAD(&graph->nodes, bs, node_list);
    for (unsigned i = 0; i < graph->drain_all_count; i++) {
        bdrv_do_drained_begin_quiesce(bs);
    }
    SIM_EMIT(host->sim, host, node_open, bs, SIM_P(bs->name), SIM_P(drv->format_name));
    return bs;
}

static void detach_children(BlockDriverState *bs)
{
    bs->bl = (BlockLimits){0}; /* the driver is closed: none are computed any more */
    while (!LIST_EMPTY(&bs->children)) {
        bdrv_unref_child(bs, LIST_FIRST(&bs->children));
    }
}

/* The memory of a node whose driver is closed and whose edges are gone. */
static void free_node(BlockDriverState *bs)
{
    struct host *host = bs->host;

    SIM_ASSERT(LIST_EMPTY(&bs->children));
    SIM_ASSERT(LIST_EMPTY(&bs->parents));
    SIM_ASSERT(LIST_EMPTY(&bs->dirty_bitmaps));
    SIM_ASSERT(LIST_EMPTY(&bs->tracked_requests));
    SIM_ASSERT_EQ(bdrv_op_blockers(bs), 0);
    SIM_ASSERT_EQ(bs->quiesce_counter, host->graph->drain_all_count);
    while (bs->quiesce_counter > 0) {
        bdrv_do_drained_end(bs); /* sections of drain-all that will end without it */
    }
    SIM_EMIT(host->sim, host, node_close, bs, SIM_P(bs->name), SIM_P(bs->drv->format_name));
    TAILQ_REMOVE(&host->graph->nodes, bs, node_list);
    if (bs->opaque) {
        sim_free(host->arena, SIM_TYPE_bdrv_instance, bs->opaque, bs->drv->instance_size);
    }
    bdrv_forget_options(bs);
    bdrv_set_backing_strings(bs, NULL, NULL);
    if (bs->report_bad) {
        bdrv_event_limit_end(bs->report_bad);
        SIM_FREE(host->arena, bdrv_event_limit, bs->report_bad);
    }
    SIM_FREE(host->arena, BlockDriverState, bs);
}

/* --- references ------------------------------------------------------------------------------------------ */

void bdrv_ref(BlockDriverState *bs)
{
    bs->refcnt++;
}

static int flush_before_close(void *opaque)
{
    return bdrv_co_flush(opaque);
}

static int close_driver(void *opaque)
{
    BlockDriverState *bs = opaque;

    bs->drv->bdrv_close(bs);
    return 0;
}

static void delete_node(void *opaque)
{
    BlockDriverState *bs = opaque;

    SIM_ASSERT(LIST_EMPTY(&bs->parents));
    bdrv_drained_begin(bs);
    bdrv_run_co(bs->host, "flush before close", flush_before_close, bs); /* nobody is left to be told */
    bdrv_drained_begin(bs);
    bdrv_drained_end(bs);
    bdrv_close_dirty_bitmaps(bs);
    if (bs->drv->bdrv_close) {
        bdrv_run_co(bs->host, "close", close_driver, bs);
    }
    detach_children(bs);
    bdrv_release_named_dirty_bitmaps(bs);
    bdrv_drained_end(bs);
    SIM_ASSERT_EQ(bs->refcnt, 0);
    free_node(bs);
}

void bdrv_unref(BlockDriverState *bs)
{
    if (!bs) {
        return;
    }
    SIM_ASSERT(bs->refcnt > 0);
    if (--bs->refcnt == 0) {
        host_call_main(bs->host, delete_node, bs);
    }
}

static void unref_deferred(void *opaque)
{
    bdrv_unref(opaque);
}

void bdrv_unref_later(BlockDriverState *bs)
{
    SIM_ASSERT(bs->refcnt > 0);
    if (bs->refcnt > 1) {
        bs->refcnt--;
    } else {
        host_defer(bs->host, unref_deferred, bs);
    }
}

/* --- opening --------------------------------------------------------------------------------------------- */

static int open_driver(BlockDriverState *bs, const struct qvalue *options, Error **errp)
{
    if (!bs->drv->bdrv_open) {
        return 0;
    }
    Error *local = NULL;
    int ret = bs->drv->bdrv_open(bs, options, &local);
    if (ret < 0 && !local) {
        error_setg_errno(&local, ret, "Could not open '%s'", bdrv_get_node_name(bs));
    }
    SIM_ASSERT((ret < 0) == (local != NULL));
    error_propagate(errp, local);
    return ret;
}

struct open_co {
    BlockDriverState *bs;
    const struct qvalue *options;
    bool driver_open;
    Error **errp;
};

static int open_entry(void *opaque)
{
    struct open_co *open = opaque;
    BlockDriverState *bs = open->bs;

    int ret = open_driver(bs, open->options, open->errp);
    if (ret < 0) {
        return ret;
    }
    open->driver_open = true;
    ret = bdrv_open_backing(bs, open->options, open->errp);
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_try_refresh_limits(bs, open->errp);
    if (ret < 0) {
        return ret;
    }
    int64_t length = bdrv_co_getlength(bs);
    if (length < 0) {
        error_setg_errno(open->errp, (int)length, "Could not get the length of '%s'", bdrv_get_node_name(bs));
        return (int)length;
    }
    return bs->drv->bdrv_opened ? bs->drv->bdrv_opened(bs, open->errp) : 0;
}

/* What is left of a node that did not open; its children go with their last reference. */
static void abandon_node(void *opaque)
{
    struct open_co *open = opaque;
    BlockDriverState *bs = open->bs;

    if (open->driver_open && bs->drv->bdrv_close) {
        bdrv_run_co(bs->host, "close", close_driver, bs);
    }
    detach_children(bs);
    bdrv_release_named_dirty_bitmaps(bs);
    bs->refcnt = 0;
    free_node(bs);
}

/* options: expanded. flags: defaults for what they leave out. parent: NULL, or whose child this becomes. */
static BlockDriverState *open_node(struct host *host, const struct qvalue *options, uint32_t flags,
                                   const BlockDriverState *parent, const char *child_name, Error **errp)
{
    struct bdrv_generic_options generic;
    unsigned depth = parent ? parent->open_depth + 1 : 0;

    if (depth > BDRV_MAX_DEPTH) { /* images that name each other, for instance */
        error_setg(errp, "A chain of more than %d nodes cannot be opened", BDRV_MAX_DEPTH);
        return NULL;
    }
    if (!bdrv_options_generic(options, flags, &generic, errp) || !bdrv_options_check(generic.drv, options, errp) ||
        (generic.node_name && !bdrv_name_usable(host, generic.node_name, errp))) {
        return NULL;
    }
    BlockDriverState *bs = bdrv_new_node(host, generic.drv, generic.node_name);
    bs->open_depth = depth;
    bs->opening = true;
    bs->open_flags = generic.flags;
    bs->detect_zeroes = generic.detect_zeroes;
    bs->inherit_inactive = (flags & BDRV_O_INACTIVE) != 0;
    bs->inherits_from = parent ? parent->number + 1 : 0;
    bdrv_remember_options(bs, options, generic.flags);
    if (parent && !generic.node_name) {
        bdrv_set_entity_below(bs, parent, child_name);
    }
    struct open_co open = {.bs = bs, .options = options, .errp = errp};
    if (bdrv_run_co(host, "open", open_entry, &open) < 0) {
        host_call_main(host, abandon_node, &open);
        return NULL;
    }
    bs->opening = false;
    return bs;
}

BlockDriverState *bdrv_open(struct host *host, const struct qvalue *options, uint32_t flags, Error **errp)
{
    struct qvalue *expanded = bdrv_options_expand(options, errp);

    if (!expanded) {
        return NULL;
    }
    struct co_cleanup cleanup;
    coroutine_cleanup_push(host->sim, &cleanup, qvalue_cleanup, expanded);
    BlockDriverState *bs = open_node(host, expanded, flags | BDRV_O_RDWR, NULL, NULL, errp);
    coroutine_cleanup_pop(&cleanup);
    qvalue_free(expanded);
    return bs;
}

BlockDriverState *bdrv_new_filter(struct host *host, const BlockDriver *drv, const char *node_name, uint32_t flags,
                                  Error **errp)
{
    SIM_ASSERT(drv->is_filter);
    if (node_name && !bdrv_name_usable(host, node_name, errp)) {
        return NULL;
    }
    BlockDriverState *bs = bdrv_new_node(host, drv, node_name);
    bs->open_flags = flags;
    bs->implicit = node_name == NULL;
    bs->bl.request_alignment = 1;
    return bs;
}

/* --- children from options ------------------------------------------------------------------------------- */

/* A node that is there, with a reference. One that is being opened is bs or above it: it waits for bs. */
static BlockDriverState *named_child(BlockDriverState *bs, const char *name, const char *edge_name, Error **errp)
{
    BlockDriverState *child = bdrv_lookup_bs(bs->host, name, errp);

    if (child && child->opening) {
        error_setg(errp, "Making '%s' a %s child of '%s' would create a cycle", name, edge_name,
                   bdrv_get_node_name(bs));
        return NULL;
    }
    if (child) {
        bdrv_ref(child);
    }
    return child;
}

BdrvChild *bdrv_open_child_value(BlockDriverState *bs, const struct qvalue *value, const char *edge_name,
                                 uint32_t role, Error **errp)
{
    BlockDriverState *child;

    if (value->type == QVALUE_STR) {
        child = named_child(bs, value->str.bytes, edge_name, errp);
    } else if (value->type == QVALUE_DICT) {
        uint32_t flags = bdrv_inherited_flags(bs->open_flags, bs->inherit_inactive, role);
        child = open_node(bs->host, value, flags, bs, edge_name, errp);
    } else {
        error_setg(errp, "Parameter '%s' expects a node name or a dictionary", edge_name);
        return NULL;
    }
    if (!child) {
        return NULL;
    }
    BdrvChild *edge = bdrv_attach_child(bs, child, edge_name, role, errp);
    bdrv_unref(child);
    return edge;
}

BdrvChild *bdrv_open_child(BlockDriverState *bs, const struct qvalue *options, const char *name, uint32_t role,
                           bool allow_none, Error **errp)
{
    const struct qvalue *value = qdict_get(options, name);

    if (!value || value->type == QVALUE_NULL) {
        if (!allow_none) {
            error_setg(errp, "Parameter '%s' is missing", name);
        }
        return NULL;
    }
    return bdrv_open_child_value(bs, value, name, role, errp);
}

/* --- blockdev-add, blockdev-del -------------------------------------------------------------------------- */

BlockDriverState *qmp_blockdev_add_node(struct host *host, const struct qvalue *options, Error **errp)
{
    if (options && options->type == QVALUE_DICT && !qdict_get(options, "node-name")) {
        error_setg(errp, "'node-name' must be specified for the root node");
        return NULL;
    }
    BlockDriverState *bs = bdrv_open(host, options, 0, errp);
    if (bs) {
        bs->monitor_owned = true;
    }
    return bs;
}

static bool has_backend(const BlockDriverState *bs)
{
    const BdrvChild *edge;

    LIST_FOREACH(edge, &bs->parents, next_parent)
    {
        if (edge->klass == &blk_child_root) {
            return true;
        }
    }
    return false;
}

bool qmp_blockdev_del_node(struct host *host, const char *node_name, Error **errp)
{
    BlockDriverState *bs = bdrv_find_node(host, node_name);

    if (!bs) {
        error_setg(errp, "Failed to find node with node-name='%s'", node_name);
        return false;
    }
    if (has_backend(bs)) {
        error_setg(errp, "Node %s is in use", node_name);
        return false;
    }
    if (bdrv_op_is_blocked(bs, BLOCK_OP_DRIVE_DEL, errp)) {
        return false;
    }
    if (!bs->monitor_owned) {
        error_setg(errp, "Node %s is not owned by the monitor", node_name);
        return false;
    }
    if (bs->refcnt > 1) {
        error_setg(errp, "Block device %s is in use", node_name);
        return false;
    }
    bs->monitor_owned = false;
    bdrv_unref(bs);
    return true;
}
