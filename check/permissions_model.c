/*
 * What an edge must hold and share, by the tables of reference/block.md 1.11: slow, from the parent's own users,
 * and without asking the driver.
 */
#include <string.h>

#include "check/permissions.h"

#define WRITES ((uint64_t)(BLK_PERM_WRITE | BLK_PERM_RESIZE))

/* --- by role ---------------------------------------------------------------------------------------------- */

static void exactly(struct edge_rights *rights, uint64_t perm, uint64_t shared)
{
    *rights = (struct edge_rights){perm, perm, shared, shared};
}

static void backing_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared,
                           struct edge_rights *rights)
{
    bool bears = (shared & BLK_PERM_WRITE) || bdrv_is_inactive(parent);

    exactly(rights, perm & BLK_PERM_CONSISTENT_READ,
            BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED | (bears ? WRITES : 0));
}

static void storage_rights(const BlockDriverState *parent, uint32_t role, uint64_t perm, uint64_t shared,
                           struct edge_rights *rights)
{
    if (role & BDRV_CHILD_METADATA) {
        bool writable = !bdrv_is_read_only(parent) && !bdrv_is_inactive(parent);

        perm |= (writable ? WRITES : 0) | (bdrv_open_flags(parent) & BDRV_O_NO_IO ? 0 : BLK_PERM_CONSISTENT_READ);
        shared &= ~WRITES;
    }
    if (role & BDRV_CHILD_DATA) {
        perm |= perm & BLK_PERM_WRITE_UNCHANGED ? BLK_PERM_WRITE : 0;
        perm |= perm & BLK_PERM_WRITE ? BLK_PERM_RESIZE : 0;
        shared &= ~(uint64_t)BLK_PERM_RESIZE;
    }
    if (bdrv_is_inactive(parent)) {
        shared |= WRITES;
    }
    exactly(rights, perm, shared);
}

/* --- drivers with rules of their own ------------------------------------------------------------------------ */

typedef void model_fn(const BlockDriverState *parent, uint64_t perm, uint64_t shared, struct edge_rights *rights);

/* WRITE and RESIZE only as far as the users have them; a window that ends amid a sector may need RESIZE to write.
 */
static void raw_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared, struct edge_rights *rights)
{
    rights->perm_min = (rights->perm_min & ~WRITES) | (perm & WRITES);
    rights->perm_max = rights->perm_min | (perm & BLK_PERM_WRITE ? BLK_PERM_RESIZE : 0);
}

static void copy_on_read_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared,
                                struct edge_rights *rights)
{
    if (!bdrv_is_inactive(parent)) {
        rights->perm_min |= BLK_PERM_WRITE_UNCHANGED;
        rights->perm_max |= BLK_PERM_WRITE_UNCHANGED;
    }
}

/* Whether it rewrites is its own affair. */
static void quorum_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared,
                          struct edge_rights *rights)
{
    bool inactive = bdrv_is_inactive(parent);

    rights->perm_min = perm;
    rights->perm_max = perm | (inactive ? 0 : BLK_PERM_WRITE);
    rights->shared_min = shared & ~WRITES;
    rights->shared_max = inactive ? shared : shared & ~WRITES;
}

/* All to itself while it holds what it has allocated. */
static void preallocate_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared,
                               struct edge_rights *rights)
{
    rights->perm_max |= WRITES;
    rights->shared_min &= ~WRITES;
    if ((perm & WRITES) == WRITES) {
        rights->shared_max &= ~WRITES;
    }
}

/* The user says what else it takes and does not share. */
static void blkdebug_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared,
                            struct edge_rights *rights)
{
    rights->perm_max = BLK_PERM_ALL;
    rights->shared_min = 0;
}

/* Two images of one length. */
static void blkverify_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared,
                             struct edge_rights *rights)
{
    rights->shared_min &= ~(uint64_t)BLK_PERM_RESIZE;
    rights->shared_max &= ~(uint64_t)BLK_PERM_RESIZE;
}

/* Who changes the length has what becomes visible by it zeroed, in an external data file, too. */
static void qcow2_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared, struct edge_rights *rights)
{
    if (perm & BLK_PERM_RESIZE) {
        rights->perm_max |= BLK_PERM_WRITE;
    }
}

/* The layers below are about to mean something else: nothing that users above hold may speak against that. */
static void commit_top_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared,
                              struct edge_rights *rights)
{
    exactly(rights, 0, BLK_PERM_ALL);
}

/* Of a mirror, any filter; of an active commit the guest's writes pass, and what it reads and forbids does not.
 * While there is a commit it may be either. */
static void mirror_top_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared,
                              struct edge_rights *rights)
{
    struct host *host = bdrv_host(parent);
    Job *job = NULL;

    while (host->jobs && (job = job_next(host, job))) {
        if (job->driver->job_type == JOB_TYPE_COMMIT) {
            rights->perm_min = perm & ~(uint64_t)BLK_PERM_CONSISTENT_READ;
            rights->shared_max = BLK_PERM_ALL;
        }
    }
}

/* It reads the source on its own account, and with users above nobody else may change it. Whether it discards there
 * is its job's affair. */
static void cbw_source_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared,
                              struct edge_rights *rights)
{
    bool used = bdrv_first_parent(parent) && !bdrv_is_inactive(parent);
    uint64_t kept = used ? WRITES : BLK_PERM_RESIZE;

    rights->perm_min |= used ? BLK_PERM_CONSISTENT_READ : 0;
    rights->perm_max |= used ? BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE : 0;
    rights->shared_min &= ~kept;
    rights->shared_max &= ~kept;
}

static void cbw_target_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared,
                              struct edge_rights *rights)
{
    exactly(rights, BLK_PERM_WRITE, BLK_PERM_ALL & ~(uint64_t)BLK_PERM_RESIZE);
}

static void snapshot_access_rights(const BlockDriverState *parent, uint64_t perm, uint64_t shared,
                                   struct edge_rights *rights)
{
    exactly(rights, 0, BLK_PERM_ALL);
}

#define ANY_ROLE (~(uint32_t)BDRV_CHILD_COW)

static const struct {
    const char *driver;
    uint32_t roles; /* edges that it is about: one of these */
    bool writes_by_itself;
    model_fn *fn;
} models[] = {
    {"raw", ANY_ROLE, false, raw_rights},
    {"copy-on-read", ANY_ROLE, true, copy_on_read_rights},
    {"quorum", ANY_ROLE, true, quorum_rights},
    {"preallocate", ANY_ROLE, true, preallocate_rights},
    {"blkdebug", ANY_ROLE, false, blkdebug_rights},
    {"blkverify", ANY_ROLE, false, blkverify_rights},
    {"qcow2", ANY_ROLE, false, qcow2_rights},
    {"commit_top", ANY_ROLE, false, commit_top_rights},
    {"mirror_top", ANY_ROLE, false, mirror_top_rights},
    {"copy-before-write", BDRV_CHILD_FILTERED, true, cbw_source_rights},
    {"copy-before-write", BDRV_CHILD_DATA, true, cbw_target_rights},
    {"snapshot-access", ANY_ROLE, false, snapshot_access_rights},
};

void permissions_model(const BlockDriverState *parent, const BdrvChild *edge, struct edge_rights *rights)
{
    uint32_t role = bdrv_child_role(edge);
    uint64_t perm = 0, shared = BLK_PERM_ALL;

    for (BdrvChild *user = bdrv_first_parent(parent); user; user = bdrv_next_parent(user)) {
        uint64_t p, s;

        bdrv_child_perms(user, &p, &s);
        perm |= p;
        shared &= s;
    }
    if (role & BDRV_CHILD_FILTERED) {
        exactly(rights, perm, shared);
    } else if (role & BDRV_CHILD_COW) {
        backing_rights(parent, perm, shared, rights);
    } else {
        storage_rights(parent, role, perm, shared, rights);
    }
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        if (!(role & BDRV_CHILD_COW) && role & models[i].roles &&
            strcmp(models[i].driver, bdrv_driver_name(parent)) == 0) {
            models[i].fn(parent, perm, shared, rights);
        }
    }
    if (bdrv_open_flags(bdrv_child_bs(edge)) & BDRV_O_FORCE_SHARE) {
        rights->shared_min = rights->shared_max = BLK_PERM_ALL;
    }
}

bool permissions_writes_by_itself(const BlockDriverState *parent, const BdrvChild *edge)
{
    if (bdrv_child_role(edge) & BDRV_CHILD_METADATA) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        if (bdrv_child_role(edge) & models[i].roles && strcmp(models[i].driver, bdrv_driver_name(parent)) == 0) {
            return models[i].writes_by_itself;
        }
    }
    return false;
}
