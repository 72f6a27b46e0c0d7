/* What a request does to the content: ranges, capacity, prefixes of what failed. */
#include <errno.h>

#include "sim/disk_int.h"

static bool beyond_end(const struct disk *disk, const struct disk_req *req)
{
    int64_t end = ROUND_UP(disk->tree.length, MAX((int64_t)disk->config.align_bytes, SIM_SECTOR_BYTES));

    return req->offset + req->bytes > end;
}

static int64_t free_pages(const struct disk *disk)
{
    return disk->config.capacity_bytes / SIM_PAGE_BYTES - disk->tree.allocated;
}

/* Keeps of a change the leading units for which there is room. True when that is all of it. */
static bool change_fits(const struct disk *disk, struct disk_change *change, int64_t *units)
{
    const struct disk_tree *tree = &disk->tree;
    bool allocates = change->op == SIM_OP_WRITE || (change->op == SIM_OP_WRITE_ZEROES && !change->unmap);
    int64_t stop = tree->grows ? change->offset + change->bytes : MIN(change->offset + change->bytes, tree->length);

    if (disk->config.capacity_bytes == 0 || !allocates || change->offset >= stop) {
        return true;
    }
    if (tree_unallocated(tree, change->offset / SIM_PAGE_BYTES, DIV_ROUND_UP(stop, SIM_PAGE_BYTES)) <=
        MAX(free_pages(disk), 0)) {
        return true;
    }
    *units = tree_units_that_fit(tree, change->offset, stop - change->offset, free_pages(disk));
    return false;
}

/* Cuts the change behind `units` allocation units. */
static void change_cut_units(const struct disk *disk, struct disk_change *change, int64_t units)
{
    int64_t unit = disk->config.alloc_unit_bytes;
    int64_t end = ROUND_DOWN(change->offset, unit) + units * unit;

    change->bytes = MAX(MIN(change->bytes, end - change->offset), 0);
}

/* What a request refuses before it touches anything. */
static int effect_refused(const struct disk *disk, const struct disk_req *req)
{
    bool fixed = disk->config.type == DISK_DEVICE;

    switch (req->op) {
    case SIM_OP_READ:
        return beyond_end(disk, req) ? -EIO : 0;
    case SIM_OP_WRITE:
        return fixed && beyond_end(disk, req) ? -EIO : 0;
    case SIM_OP_WRITE_ZEROES:
        if (!disk->config.can_write_zeroes) {
            return -ENOTSUP;
        }
        return fixed && beyond_end(disk, req) ? -EIO : 0;
    case SIM_OP_DISCARD:
        if (!disk->config.can_discard) {
            return -ENOTSUP;
        }
        return beyond_end(disk, req) ? -EIO : 0;
    case SIM_OP_TRUNCATE:
        return fixed && req->offset != disk->tree.length ? -EINVAL : 0;
    default:
        return 0;
    }
}

static bool op_changes(enum sim_op op)
{
    return op == SIM_OP_WRITE || op == SIM_OP_WRITE_ZEROES || op == SIM_OP_DISCARD || op == SIM_OP_TRUNCATE;
}

static void request_change(const struct disk *disk, const struct disk_req *req, struct disk_change *change)
{
    *change = (struct disk_change){
        .op = req->op,
        .unmap = (req->flags & DISK_REQ_MAY_UNMAP) != 0 && disk->config.can_discard,
        .offset = req->effect_offset,
        .bytes = req->effect_bytes,
        .in = req->in,
    };
    SIM_ASSERT_LE(req->effect_bytes, req->bytes);
}

bool disk_pending_change(struct disk *disk, struct disk_req *req, struct disk_change *change)
{
    int64_t units;

    if (req->applied || req->ret < 0 || req->lose || !op_changes(req->op) || effect_refused(disk, req) < 0) {
        return false;
    }
    request_change(disk, req, change);
    return change_fits(disk, change, &units);
}

/* A write that an interposer failed: a drawn number of its leading sectors got through all the same. */
static void effect_failed(struct disk *disk, struct disk_req *req)
{
    struct disk_change change;
    int64_t sector = MAX(disk->config.align_bytes, (uint32_t)SIM_SECTOR_BYTES);
    int64_t units;

    request_change(disk, req, &change);
    if ((req->op != SIM_OP_WRITE && req->op != SIM_OP_WRITE_ZEROES) || effect_refused(disk, req) < 0) {
        return;
    }
    uint32_t choices = (uint32_t)MIN(change.bytes / sector, (int64_t)UINT32_MAX - 1) + 1;
    change.bytes = MIN(change.bytes, sim_choose(disk->sim, SITE_disk_error_prefix, req->entity, choices) * sector);
    if (!change_fits(disk, &change, &units)) {
        change_cut_units(disk, &change, units);
    }
    if (change.bytes > 0) {
        SIM_MARK(disk->sim, disk_error_partial);
        disk_change_apply(disk, req, &change);
    }
}

static void effect_change(struct disk *disk, struct disk_req *req)
{
    struct disk_change change;
    int64_t units;

    request_change(disk, req, &change);
    if (!change_fits(disk, &change, &units)) {
        SIM_MARK(disk->sim, disk_enospc);
        req->ret = -ENOSPC;
        uint32_t choices = (uint32_t)MIN(units, (int64_t)UINT32_MAX - 1) + 1;
        change_cut_units(disk, &change, sim_choose(disk->sim, SITE_disk_enospc_prefix, req->entity, choices));
        if (change.bytes == 0) {
            return;
        }
        SIM_MARK(disk->sim, disk_enospc_partial);
    }
    if (change.bytes > 0 || change.op == SIM_OP_TRUNCATE) {
        disk_change_apply(disk, req, &change);
    }
}

void disk_req_effect(struct disk *disk, struct disk_req *req)
{
    SIM_ASSERT(!req->applied);
    req->applied = true;
    for (struct disk_interposer *i = disk->interposers; i != NULL && req->ret == 0; i = i->next) {
        if (i->at_effect != NULL) {
            i->at_effect(i, req);
        }
    }
    if (req->ret < 0) {
        effect_failed(disk, req);
        return;
    }
    req->ret = effect_refused(disk, req);
    if (req->ret < 0) {
        return;
    }
    if (req->op == SIM_OP_READ) {
        tree_read(&disk->tree, req->effect_offset, req->bytes, &req->sampled);
    } else if (op_changes(req->op) && !req->lose) {
        if (req->op == SIM_OP_WRITE) {
            req->content = payload_content_id(req->in);
        }
        effect_change(disk, req);
    }
}
