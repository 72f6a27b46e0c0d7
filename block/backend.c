/* Life of a BlockBackend: root, permissions, drain, names (1.6, 3). Its requests are in backend_io.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/backend_int.h"

/* --- the root edge --------------------------------------------------------------------------------------- */

static char *root_parent_desc(const BdrvChild *child)
{
    const BlockBackend *blk = child->opaque;
    const char *name = blk->name ? blk->name->str : blk->dev_id;
    char *desc = NULL;

    if (name ? asprintf(&desc, "block device '%s'", name) < 0 : asprintf(&desc, "an unnamed block device") < 0) {
        abort();
    }
    return desc;
}

static void root_drained_begin(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    if (++blk->quiesce_counter == 1 && blk->dev_ops && blk->dev_ops->drained_begin) {
        blk->dev_ops->drained_begin(blk->dev_opaque);
    }
    /* What waits for its turn is in flight: the drain would last as long as that [sharp edge 26]. */
    throttle_group_bypass_begin(&blk->throttle);
}

static bool root_drained_poll(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    SIM_ASSERT(blk->quiesce_counter > 0);
    return blk->in_flight > 0 ||
           (blk->dev_ops && blk->dev_ops->drained_poll && blk->dev_ops->drained_poll(blk->dev_opaque));
}

static void root_drained_end(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    SIM_ASSERT(blk->quiesce_counter > 0);
    throttle_group_bypass_end(&blk->throttle);
    if (--blk->quiesce_counter > 0) {
        return;
    }
    if (blk->dev_ops && blk->dev_ops->drained_end) {
        blk->dev_ops->drained_end(blk->dev_opaque);
    }
    blk_release_parked(blk);
}

static void root_resize(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    if (blk->dev_ops && blk->dev_ops->resize) {
        blk->dev_ops->resize(blk->dev_opaque);
    }
}

/* The pointer is there before the new node's release lets parked requests look for it. */
static void root_attach(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    SIM_ASSERT(blk->root == NULL || blk->root == child);
    blk->root = child;
}

static void root_detach(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    SIM_ASSERT(blk->root == child);
    blk->root = NULL;
}

/* Without a device or name nobody could hand the permissions back later (8.3). */
static bool can_inactivate(const BlockBackend *blk)
{
    return blk->dev_id || blk->name || !(blk->perm & ~(uint64_t)BLK_PERM_CONSISTENT_READ) ||
           blk->force_allow_inactivate;
}

static bool root_can_inactivate(const BdrvChild *child)
{
    const BlockBackend *blk = child->opaque;

    return blk->disable_perm || can_inactivate(blk);
}

static void root_inactivate(BdrvChild *child)
{
    BlockBackend *blk = child->opaque;

    SIM_ASSERT(root_can_inactivate(child));
    if (!blk->disable_perm) {
        blk->disable_perm = true;
        bdrv_child_try_set_perm(child, 0, BLK_PERM_ALL, NULL);
    }
}

static bool root_wanted(const BdrvChild *child, uint64_t *perm, uint64_t *shared)
{
    const BlockBackend *blk = child->opaque;

    *perm = blk->perm;
    *shared = blk->shared;
    return blk->disable_perm;
}

static void root_activate(BdrvChild *child)
{
    ((BlockBackend *)child->opaque)->disable_perm = false;
}

const BdrvChildClass blk_child_root = {
    .get_parent_desc = root_parent_desc,
    .drained_begin = root_drained_begin,
    .drained_end = root_drained_end,
    .drained_poll = root_drained_poll,
    .resize = root_resize,
    .attach = root_attach,
    .detach = root_detach,
    .can_inactivate = root_can_inactivate,
    .inactivate = root_inactivate,
    .wanted = root_wanted,
    .activate = root_activate,
};

/* --- life ------------------------------------------------------------------------------------------------ */

BlockBackend *blk_new(struct host *host, uint64_t perm, uint64_t shared)
{
    BlockBackend *blk = SIM_NEW(host->arena, BlockBackend);

    SIM_ASSERT(((perm | shared) & ~(uint64_t)BLK_PERM_ALL) == 0);
    blk->host = host;
    blk->refcnt = 1;
    blk->perm = perm;
    blk->shared = shared;
    blk->enable_write_cache = true;
    blk->on_read_error = BLOCKDEV_ON_ERROR_REPORT;
    blk->on_write_error = BLOCKDEV_ON_ERROR_ENOSPC;
    TAILQ_INSERT_HEAD(&host->graph->backends, blk, list);
    return blk;
}

bool blk_set_name(BlockBackend *blk, const char *name, Error **errp)
{
    SIM_ASSERT(blk->name == NULL);
    if (blk_by_name(blk->host, name)) {
        error_setg(errp, "Device with id '%s' already exists", name);
        return false;
    }
    if (bdrv_find_node(blk->host, name)) {
        error_setg(errp, "Device name '%s' conflicts with an existing node name", name);
        return false;
    }
    if (!bdrv_name_well_formed(name)) {
        error_setg(errp, "Invalid device name '%s'", name);
        return false;
    }
    blk->name = sim_name(blk->host->sim, name);
    return true;
}

void blk_ref(BlockBackend *blk)
{
    SIM_ASSERT(blk->refcnt > 0);
    blk->refcnt++;
}

static void delete_backend(void *opaque)
{
    BlockBackend *blk = opaque;
    struct host *host = blk->host;

    blk_drain(blk);
    if (blk->root) {
        blk_remove_bs(blk);
    }
    /* Parked ones were let go with the root; they find no medium. */
    blk_drain(blk);
    if (blk->throttle.group) {
        throttle_group_unregister(&blk->throttle);
    }
    SIM_ASSERT_EQ(blk->refcnt, 0);
    SIM_ASSERT_EQ(blk->quiesce_counter, 0);
    SIM_ASSERT(blk->parked_first == NULL);
    if (blk->dev_id) {
        sim_strfree(host->arena, blk->dev_id);
    }
    TAILQ_REMOVE(&host->graph->backends, blk, list);
    SIM_FREE(host->arena, BlockBackend, blk);
}

void blk_unref(BlockBackend *blk)
{
    if (!blk) {
        return;
    }
    SIM_ASSERT(blk->refcnt > 0);
    if (--blk->refcnt == 0) {
        host_call_main(blk->host, delete_backend, blk);
    }
}

int blk_insert_bs(BlockBackend *blk, BlockDriverState *bs, Error **errp)
{
    uint64_t perm = blk->perm;
    uint64_t shared = blk->shared;
    bool disable = bdrv_is_inactive(bs) && can_inactivate(blk);

    SIM_ASSERT(blk->root == NULL);
    if (disable) {
        perm = 0;
        shared = BLK_PERM_ALL;
    }
    if (!bdrv_root_attach_child(bs, "root", &blk_child_root, BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY, perm, shared,
                                blk, errp)) {
        return -EPERM;
    }
    blk->disable_perm = disable;
    return 0;
}

void blk_remove_bs(BlockBackend *blk)
{
    SIM_ASSERT(blk->root != NULL);
    /* Requests that found this root end first; those parked meanwhile look again and find none. */
    blk_drain(blk);
    bdrv_root_unref_child(blk->root);
    blk->disable_perm = false;
}

void blk_set_dev(BlockBackend *blk, const BlockDevOps *ops, void *opaque, const char *dev_id)
{
    struct host *host = blk->host;

    if (blk->dev_id) {
        sim_strfree(host->arena, blk->dev_id);
    }
    blk->dev_ops = ops;
    blk->dev_opaque = opaque;
    blk->dev_id = dev_id ? sim_strdup(host->arena, dev_id) : NULL;
    if (ops && ops->drained_begin && blk->quiesce_counter > 0) {
        ops->drained_begin(opaque);
    }
}

static bool no_request(void *opaque)
{
    return ((BlockBackend *)opaque)->in_flight == 0;
}

static void drain_backend(void *opaque)
{
    BlockBackend *blk = opaque;
    BlockDriverState *bs = blk_bs(blk);

    if (bs) {
        bdrv_ref(bs);
        bdrv_drained_begin(bs);
    }
    /* Without a medium requests fail, but they run all the same. */
    host_poll(blk->host, no_request, blk);
    if (bs) {
        bdrv_drained_end(bs);
        bdrv_unref(bs);
    }
}

void blk_drain(BlockBackend *blk)
{
    host_call_main(blk->host, drain_backend, blk);
}

/* --- looking --------------------------------------------------------------------------------------------- */

const char *blk_name(const BlockBackend *blk)
{
    return blk->name ? blk->name->str : "";
}

struct host *blk_host(const BlockBackend *blk)
{
    return blk->host;
}

BlockDriverState *blk_bs(const BlockBackend *blk)
{
    return blk->root ? blk->root->bs : NULL;
}

BdrvChild *blk_root(const BlockBackend *blk)
{
    return blk->root;
}

BlockBackend *blk_by_name(struct host *host, const char *name)
{
    BlockBackend *blk;

    TAILQ_FOREACH(blk, &host->graph->backends, list)
    {
        if (blk->name && strcmp(blk->name->str, name) == 0) {
            return blk;
        }
    }
    return NULL;
}

BlockBackend *blk_next(struct host *host, const BlockBackend *after)
{
    return after ? TAILQ_NEXT(after, list) : TAILQ_FIRST(&host->graph->backends);
}

const char *blk_dev_id(const BlockBackend *blk)
{
    return blk->dev_id;
}

unsigned blk_in_flight(const BlockBackend *blk)
{
    return blk->in_flight;
}

unsigned blk_parked(const BlockBackend *blk)
{
    return blk->parked;
}

bool blk_is_writable(const BlockBackend *blk)
{
    const BlockDriverState *bs = blk_bs(blk);

    return bs && bdrv_is_writable(bs);
}

/* --- settings -------------------------------------------------------------------------------------------- */

int blk_set_perm(BlockBackend *blk, uint64_t perm, uint64_t shared, Error **errp)
{
    if (blk->root && !blk->disable_perm) {
        int ret = bdrv_child_try_set_perm(blk->root, perm, shared, errp);
        if (ret < 0) {
            return ret;
        }
    }
    blk->perm = perm;
    blk->shared = shared;
    return 0;
}

void blk_get_perm(const BlockBackend *blk, uint64_t *perm, uint64_t *shared)
{
    *perm = blk->perm;
    *shared = blk->shared;
}

void blk_set_disable_request_queuing(BlockBackend *blk, bool disable)
{
    blk->disable_request_queuing = disable;
}

void blk_set_enable_write_cache(BlockBackend *blk, bool wce)
{
    blk->enable_write_cache = wce;
}

void blk_set_allow_write_beyond_eof(BlockBackend *blk, bool allow)
{
    blk->allow_write_beyond_eof = allow;
}

void blk_set_force_allow_inactivate(BlockBackend *blk)
{
    blk->force_allow_inactivate = true;
}

struct block_acct *blk_get_stats(BlockBackend *blk)
{
    return &blk->stats;
}
