/* The content of a disk without requests: looking, loading, accounting, snapshots. */
#include "sim/disk_int.h"

const struct sim_name *disk_name(const struct disk *disk)
{
    return disk->name;
}

struct sim *disk_sim(const struct disk *disk)
{
    return disk->sim;
}

const struct disk_config *disk_get_config(const struct disk *disk)
{
    return &disk->config;
}

int64_t disk_length(const struct disk *disk)
{
    return disk->tree.length;
}

int64_t disk_allocated_bytes(const struct disk *disk)
{
    return disk->tree.allocated * SIM_PAGE_BYTES;
}

void disk_set_capacity(struct disk *disk, int64_t capacity_bytes)
{
    SIM_ASSERT(capacity_bytes >= 0);
    disk->config.capacity_bytes = ROUND_DOWN(capacity_bytes, (int64_t)disk->config.alloc_unit_bytes);
    SIM_EMIT(disk->sim, NULL, disk_capacity, disk, SIM_P(disk->name), (uint64_t)disk->config.capacity_bytes);
}

void disk_set_latency(struct disk *disk, int64_t latency_ns)
{
    SIM_ASSERT(latency_ns >= 0);
    disk->config.latency_ns = latency_ns;
}

/* --- looking -------------------------------------------------------------------------------------------- */

static int64_t pages_of(int64_t bytes)
{
    return DIV_ROUND_UP(bytes, SIM_PAGE_BYTES);
}

bool disk_status(const struct disk *disk, int64_t offset, int64_t bytes, int64_t *pnum, bool *zero)
{
    int64_t stop = MIN(offset + bytes, disk->tree.length);
    int64_t end;

    SIM_ASSERT(offset >= 0 && bytes > 0);
    if (offset >= stop) {
        *pnum = bytes;
        *zero = true;
        return false;
    }
    enum tree_state state = tree_state_at(&disk->tree, offset / SIM_PAGE_BYTES, pages_of(stop), &end);
    *pnum = MIN(end * SIM_PAGE_BYTES, stop) - offset;
    *zero = state != TREE_IS_DATA;
    return state != TREE_IS_HOLE;
}

int64_t disk_next_data(const struct disk *disk, int64_t from, int64_t *end)
{
    const struct disk_tree *tree = &disk->tree;
    int64_t limit = pages_of(tree->length);
    int64_t page = from / SIM_PAGE_BYTES;
    int64_t stop;

    SIM_ASSERT(from >= 0);
    while (page < limit && tree_state_at(tree, page, limit, &stop) == TREE_IS_HOLE) {
        page = stop;
    }
    int64_t start = MAX(from, page * SIM_PAGE_BYTES);
    if (start >= tree->length) {
        return -1;
    }
    while (page < limit && tree_state_at(tree, page, limit, &stop) != TREE_IS_HOLE) {
        page = stop;
    }
    *end = MIN(page * SIM_PAGE_BYTES, tree->length);
    return start;
}

const struct page *disk_peek_page(const struct disk *disk, int64_t page_index)
{
    /* making the page of a stamp changes its form, not the content */
    struct disk *own = (struct disk *)disk;

    SIM_ASSERT(page_index >= 0);
    return tree_peek_page(&own->tree, page_index);
}

void disk_peek(const struct disk *disk, int64_t offset, int64_t bytes, struct payload *out)
{
    /* making the pages of stamps changes their form, not the content */
    struct disk *own = (struct disk *)disk;

    tree_read(&own->tree, offset, bytes, out);
}

void disk_poke(struct disk *disk, int64_t offset, const struct payload *in)
{
    struct disk_change change = {.op = SIM_OP_WRITE, .offset = offset, .bytes = in->size_bytes, .in = in};

    SIM_ASSERT(disk->tree.grows || offset + in->size_bytes <= disk->tree.length);
    if (!disk->journal_on) {
        disk_tree_apply(&disk->tree, &change);
    } else if (disk->journal_count == 0) {
        /* sharing again is cheaper than changing both, and images are loaded in many pokes */
        tree_drop(&disk->durable);
        disk_tree_apply(&disk->tree, &change);
        tree_share(&disk->durable, &disk->tree);
    } else {
        disk_tree_apply(&disk->tree, &change);
        disk_tree_apply(&disk->durable, &change);
    }
}

/* --- snapshots ------------------------------------------------------------------------------------------ */

struct disk_snapshot {
    struct disk_tree tree;
};

struct disk_snapshot *disk_snapshot_take(struct disk *disk)
{
    struct disk_snapshot *snapshot = SIM_NEW_N(sim_arena(disk->sim), disk_snapshot, struct disk_snapshot, 1);

    tree_share(&snapshot->tree, &disk->tree);
    return snapshot;
}

void disk_snapshot_restore(struct disk *disk, const struct disk_snapshot *snapshot)
{
    struct disk_tree tree;

    tree_share(&tree, &snapshot->tree);
    disk_content_replace(disk, &tree);
}

void disk_snapshot_peek(const struct disk_snapshot *snapshot, int64_t offset, int64_t bytes, struct payload *out)
{
    struct disk_snapshot *own = (struct disk_snapshot *)snapshot;

    tree_read(&own->tree, offset, bytes, out);
}

void disk_snapshot_delete(struct disk *disk, struct disk_snapshot *snapshot)
{
    tree_drop(&snapshot->tree);
    SIM_FREE_N(sim_arena(disk->sim), disk_snapshot, snapshot, struct disk_snapshot, 1);
}
