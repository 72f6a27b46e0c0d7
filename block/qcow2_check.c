/*
 * Checking a qcow2 image (reference/bitmaps-qcow2.md 5.8): everything that the image refers to is counted, and
 * compared with what its refcount blocks say.
 */
#include <errno.h>

#include "block/qcow2_check_int.h"

int qcow2_check_begin(struct qcow2_check *c, BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix)
{
    const BDRVQcow2State *s = bs->opaque;

    *c = (struct qcow2_check){.bs = bs, .res = res, .fix = fix, .highest_cluster = -1};
    int ret = qcow2_counts_init(bs, &c->counts);
    qcow2_sparse_init(&c->active_l2, bs);
    qcow2_sparse_init(&c->inactive_l2, bs);
    c->table = qcow2_alloc(bs, (size_t)s->cluster_size);
    c->block = qcow2_alloc(bs, (size_t)s->cluster_size);
    if (ret < 0) {
        res->check_errors++;
        qcow2_check_end(c);
    }
    return ret;
}

void qcow2_check_end(struct qcow2_check *c)
{
    const BDRVQcow2State *s = c->bs->opaque;

    qcow2_counts_free(&c->counts);
    qcow2_sparse_free(&c->active_l2);
    qcow2_sparse_free(&c->inactive_l2);
    qcow2_free(c->bs, c->table, (size_t)s->cluster_size);
    qcow2_free(c->bs, c->block, (size_t)s->cluster_size);
    c->table = c->block = NULL;
}

/* --- collecting --------------------------------------------------------------------------------------------- */

/* A block must be the only user of its cluster. */
static void collect_block(struct qcow2_check *c, uint32_t index)
{
    const BDRVQcow2State *s = c->bs->opaque;
    uint64_t entry = s->refcount_table[index];
    int64_t offset = (int64_t)(entry & REFT_OFFSET_MASK);
    const char *what = NULL;
    bool outside = false;

    if (entry & REFT_RESERVED_MASK) {
        what = "has reserved bits set";
    } else if (offset_into_cluster(s, offset)) {
        what = "is not cluster aligned";
    } else if ((uint64_t)offset >> s->cluster_bits >= c->counts.nb_clusters) {
        what = "is outside the image";
        outside = true;
    }
    if (!what && qcow2_counts_add_times(c->bs, &c->counts, c->res, offset, s->cluster_size, 1) &&
        qcow2_sparse_get(&c->counts.map, (uint64_t)offset >> s->cluster_bits) != 1) {
        what = "is used for something else too";
    }
    if (what) {
        qcow2_check_say(c->res, "ERROR refcount block %u %s (entry 0x%llx)", index, what,
                        (unsigned long long)entry);
        c->res->corruptions++;
        /* beyond the end all counts read as 0: if that matters, it shows by the clusters */
        c->rebuild = c->rebuild || !outside || (c->fix & BDRV_FIX_ERRORS);
    }
}

static void collect_blocks(struct qcow2_check *c)
{
    const BDRVQcow2State *s = c->bs->opaque;

    qcow2_counts_add_times(c->bs, &c->counts, c->res, s->refcount_table_offset, (int64_t)s->refcount_table_size * 8,
                           1);
    for (uint32_t i = 0; i < s->refcount_table_size; i++) {
        if (s->refcount_table[i] != 0) {
            collect_block(c, i);
        }
    }
}

int qcow2_check_collect(struct qcow2_check *c, bool with_blocks)
{
    const BDRVQcow2State *s = c->bs->opaque;

    qcow2_counts_add_times(c->bs, &c->counts, c->res, 0, s->cluster_size, 1);
    int ret = qcow2_check_tables(c);
    if (ret < 0) {
        return ret;
    }
    qcow2_counts_add_times(c->bs, &c->counts, c->res, s->snapshots_offset, s->snapshots_size, 1);
    ret = qcow2_check_bitmaps_refcounts(c->bs, c->res, &c->counts);
    if (ret < 0) {
        return ret;
    }
    if (with_blocks) {
        collect_blocks(c);
    }
    return 0;
}

/* --- comparing ---------------------------------------------------------------------------------------------- */

/* The block into c->block: 1, 0 without one, -errno with check_errors counted. */
static int load_block(struct qcow2_check *c, uint64_t index)
{
    const BDRVQcow2State *s = c->bs->opaque;

    if (c->block_valid && c->block_index == index) {
        return c->block_ret;
    }
    uint64_t entry = index < s->refcount_table_size ? s->refcount_table[index] & REFT_OFFSET_MASK : 0;
    c->block_valid = true;
    c->block_index = index;
    if (entry == 0) {
        c->block_ret = 0;
    } else if (offset_into_cluster(s, (int64_t)entry) || entry > INT64_MAX) {
        c->block_ret = -EIO;
    } else {
        int ret = qcow2_pread(c->bs, (int64_t)entry, s->cluster_size, c->block);
        c->block_ret = ret < 0 ? ret : 1;
    }
    return c->block_ret;
}

int qcow2_check_stored(struct qcow2_check *c, uint64_t cluster, uint64_t *count)
{
    const BDRVQcow2State *s = c->bs->opaque;
    uint64_t mask = (1ULL << s->refcount_block_bits) - 1;
    int ret = load_block(c, cluster >> s->refcount_block_bits);

    *count = ret > 0 ? qcow2_refcount_get(s, c->block, cluster & mask) : 0;
    return MIN(ret, 0);
}

/* One cluster whose counts differ. */
static int report(struct qcow2_check *c, uint64_t cluster, uint64_t stored, uint64_t counted, uint32_t fix)
{
    const BDRVQcow2State *s = c->bs->opaque;
    bool leak = stored > counted;

    c->hopeless += counted > s->refcount_max;
    if (stored == 0) {
        c->rebuild = true;
    } else if (counted <= s->refcount_max && (fix & (leak ? BDRV_FIX_LEAKS : BDRV_FIX_ERRORS))) {
        int ret = qcow2_repair_count(c, cluster, stored, counted);
        if (ret == 0) {
            *(leak ? &c->res->leaks_fixed : &c->res->corruptions_fixed) += 1;
            return 0;
        }
        c->res->check_errors++;
        return ret;
    }
    qcow2_check_say(c->res, "%s cluster %llu refcount=%llu reference=%llu", leak ? "Leaked" : "ERROR",
                    (unsigned long long)cluster, (unsigned long long)stored, (unsigned long long)counted);
    *(leak ? &c->res->leaks : &c->res->corruptions) += 1;
    return 0;
}

static int compare_one(struct qcow2_check *c, uint64_t cluster, uint32_t fix)
{
    uint64_t stored;
    uint64_t counted = qcow2_sparse_get(&c->counts.map, cluster);

    if (qcow2_check_stored(c, cluster, &stored) < 0) {
        return 0; /* told when the block was loaded */
    }
    if (stored > 0 || counted > 0) {
        c->highest_cluster = MAX(c->highest_cluster, (int64_t)cluster);
    }
    return stored == counted ? 0 : report(c, cluster, stored, counted, fix);
}

/* Without a block only clusters that are used matter, and there are leaves for them. */
static int compare_leaves(struct qcow2_check *c, struct qcow2_leaf **leaves, size_t *leaf, uint64_t end,
                          uint32_t fix)
{
    for (; *leaf < c->counts.map.nb_leaves && leaves[*leaf]->first < end; (*leaf)++) {
        for (unsigned i = 0; i < QCOW2_LEAF_ITEMS; i++) {
            uint64_t cluster = leaves[*leaf]->first + i;
            int ret = cluster < end && leaves[*leaf]->value[i] ? compare_one(c, cluster, fix) : 0;
            if (ret < 0) {
                return ret;
            }
        }
    }
    return 0;
}

static int compare_block(struct qcow2_check *c, uint64_t index, struct qcow2_leaf **leaves, size_t *leaf,
                         uint32_t fix)
{
    const BDRVQcow2State *s = c->bs->opaque;
    uint64_t start = index << s->refcount_block_bits;
    uint64_t end = MIN(start + (1ULL << s->refcount_block_bits), c->counts.nb_clusters);
    int ret = load_block(c, index);

    if (ret < 0) {
        qcow2_check_say(c->res, "ERROR: refcount block %llu cannot be read: %s", (unsigned long long)index,
                        sim_errno_text(ret));
        c->res->check_errors += (int64_t)(end - start); /* each cluster whose count cannot be had */
        c->rebuild = true;
    }
    if (ret <= 0) {
        return compare_leaves(c, leaves, leaf, end, fix);
    }
    ret = 0;
    for (uint64_t cluster = start; ret == 0 && cluster < end; cluster++) {
        ret = compare_one(c, cluster, fix);
    }
    while (*leaf < c->counts.map.nb_leaves && leaves[*leaf]->first < end) {
        (*leaf)++;
    }
    return ret;
}

int qcow2_check_compare(struct qcow2_check *c, uint32_t fix)
{
    const BDRVQcow2State *s = c->bs->opaque;
    struct qcow2_leaf **leaves = qcow2_sparse_sorted(&c->counts.map);
    size_t nb_leaves = c->counts.map.nb_leaves;
    uint64_t nb_blocks = ((c->counts.nb_clusters - 1) >> s->refcount_block_bits) + 1;
    size_t leaf = 0;
    int ret = 0;

    SIM_ASSERT(c->counts.nb_clusters > 0);
    c->block_valid = false;
    for (uint64_t i = 0; ret == 0 && i < MIN(nb_blocks, s->refcount_table_size); i++) {
        ret = compare_block(c, i, leaves, &leaf, fix);
    }
    if (ret == 0) {
        ret = compare_leaves(c, leaves, &leaf, c->counts.nb_clusters, fix);
    }
    SIM_ASSERT_EQ(nb_leaves, c->counts.map.nb_leaves); /* repairs of counts refer to nothing new */
    qcow2_sparse_sorted_free(&c->counts.map, leaves, nb_leaves);
    c->block_valid = false;
    return ret;
}

/* --- all of it ---------------------------------------------------------------------------------------------- */

/* The structures are new: counted and compared once more, the old ones are leaks of this repair and go. */
static int drop_old_structures(struct qcow2_check *c)
{
    BdrvCheckResult scratch = {.say = c->res->say, .say_opaque = c->res->say_opaque};
    struct qcow2_check again;
    int ret = qcow2_check_begin(&again, c->bs, &scratch, 0);

    if (ret < 0) {
        return ret;
    }
    ret = qcow2_check_collect(&again, true);
    if (ret == 0) {
        ret = qcow2_check_compare(&again, BDRV_FIX_LEAKS);
    }
    c->highest_cluster = again.highest_cluster;
    c->rebuild = again.rebuild;
    qcow2_check_end(&again);
    int settled = qcow2_repair_settle(c->bs);
    if (ret < 0 || settled < 0 || scratch.check_errors || c->rebuild) {
        qcow2_check_say(c->res, "ERROR: the new refcount structures are not right");
        c->res->check_errors++;
        return ret < 0 ? ret : settled < 0 ? settled : -EIO;
    }
    return 0;
}

/* Counts beyond the end of the file are not compared, so a leak there is invisible until the file grows over it
 * [edge 49]. A repair takes them back all the same, unless there are references to beyond the end. Not counted. */
static int drop_beyond_end(struct qcow2_check *c)
{
    const BDRVQcow2State *s = c->bs->opaque;
    uint64_t cluster = c->counts.nb_clusters;
    uint64_t end = (uint64_t)s->refcount_table_size << s->refcount_block_bits;
    int ret = 0;

    c->block_valid = false;
    while (ret == 0 && cluster < end) {
        uint64_t stored;
        uint64_t next = ((cluster >> s->refcount_block_bits) + 1) << s->refcount_block_bits;
        if (load_block(c, cluster >> s->refcount_block_bits) <= 0) {
            cluster = next;
            continue;
        }
        for (; ret == 0 && cluster < next; cluster++) {
            if (qcow2_check_stored(c, cluster, &stored) == 0 && stored > 0) {
                ret = qcow2_update_cluster_refcount(c->bs, cluster, stored, true, QCOW2_DISCARD_NEVER);
            }
        }
    }
    return ret;
}

/* before: what the walk through the tables found, which no count mends; blocks: and what is wrong with the blocks,
 * which is mended only by new ones. */
static int repair_counts(struct qcow2_check *c, BdrvCheckResult before, BdrvCheckResult blocks)
{
    BdrvCheckResult *res = c->res;
    int64_t corruptions = res->corruptions - before.corruptions;
    int64_t leaks = res->leaks - before.leaks;
    int ret;

    if (c->rebuild && !(c->fix & BDRV_FIX_ERRORS)) {
        qcow2_check_say(res, "ERROR: the refcount structures need to be rebuilt");
        return -EIO;
    }
    if (c->rebuild) {
        qcow2_check_say(res, "Rebuilding refcount structures");
        ret = qcow2_rebuild_refcounts(c);
        if (ret == 0) {
            ret = drop_old_structures(c);
        }
        if (ret == 0) {
            res->corruptions_fixed += corruptions;
            res->leaks_fixed += leaks;
            res->corruptions -= corruptions;
            res->leaks -= leaks;
            res->check_errors = before.check_errors;
        }
        return ret;
    }
    ret = 0;
    if (leaks != 0 || corruptions != 0) {
        res->corruptions = blocks.corruptions;
        res->leaks = blocks.leaks;
        ret = qcow2_check_compare(c, c->fix);
    }
    if (ret == 0 && (c->fix & BDRV_FIX_LEAKS) && res->corruptions == 0 && res->check_errors == 0) {
        ret = drop_beyond_end(c);
    }
    int settled = qcow2_repair_settle(c->bs);
    if (settled < 0) {
        res->check_errors++;
    }
    return ret < 0 ? ret : settled;
}

/* Counts, then COPIED, which depends on them. */
static int check_refcounts(struct qcow2_check *c)
{
    BDRVQcow2State *s = c->bs->opaque;
    BdrvCheckResult start = *c->res;
    int ret = qcow2_check_collect(c, false);

    if (ret < 0) {
        return ret;
    }
    BdrvCheckResult before = *c->res;
    c->hopeless = before.corruptions - start.corruptions - c->mendable + before.check_errors - start.check_errors;
    if (c->fix && before.check_errors > 0) {
        return -EIO; /* what could not be read may refer to anything: no count is lowered on such grounds */
    }
    collect_blocks(c);
    BdrvCheckResult blocks = *c->res;
    ret = qcow2_check_compare(c, 0);
    if (ret == 0 && c->fix) {
        ret = repair_counts(c, before, blocks);
    }
    if (ret == 0) {
        ret = qcow2_check_copied(c);
    }
    c->res->image_end_offset = (c->highest_cluster + 1) * s->cluster_size;
    return ret;
}

/* The mark that asks for a repair goes when nothing is left to be repaired, and only then. */
static int clear_marks(BlockDriverState *bs, const BdrvCheckResult *res)
{
    BDRVQcow2State *s = bs->opaque;

    if (res->check_errors || res->corruptions || res->leaks) {
        s->needs_repair = (s->incompatible_features & QCOW2_INCOMPAT_DIRTY) != 0;
        return 0;
    }
    s->needs_repair = false;
    int ret = qcow2_mark_clean(bs);
    return ret < 0 ? ret : qcow2_mark_consistent(bs);
}

/* The table of snapshots has moved: who shared a cluster with it has one to himself now. What is found now is what
 * is left. */
static int check_moved(BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix)
{
    BdrvCheckResult now = {0};
    struct qcow2_check c;
    int ret = qcow2_check_begin(&c, bs, &now, fix);

    if (ret == 0) {
        ret = check_refcounts(&c);
        qcow2_check_end(&c);
    }
    res->corruptions = now.corruptions;
    res->leaks = now.leaks;
    res->corruptions_fixed += now.corruptions_fixed;
    res->leaks_fixed += now.leaks_fixed;
    res->check_errors += now.check_errors;
    res->image_end_offset = now.image_end_offset;
    return ret;
}

static int mend_snapshots(BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix, int64_t found)
{
    if (found == 0 || !(fix & BDRV_FIX_ERRORS)) {
        return 0;
    }
    int ret = qcow2_check_write_snapshots(bs, res, found);
    return ret < 0 ? ret : check_moved(bs, res, fix);
}

static int check_all(BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix, int64_t *hopeless)
{
    BDRVQcow2State *s = bs->opaque;
    struct qcow2_check c;
    int64_t found = 0;
    int ret = qcow2_check_read_snapshots(bs, res, fix, &found);

    *hopeless = 0;
    if (ret < 0 || (ret = qcow2_check_begin(&c, bs, res, fix)) < 0) {
        return ret;
    }
    ret = check_refcounts(&c);
    *hopeless = c.hopeless;
    qcow2_check_end(&c);
    res->total_clusters = size_to_clusters(s, bs->total_bytes);
    return ret < 0 ? ret : mend_snapshots(bs, res, fix, found);
}

bool qcow2_check_is_mendable(BlockDriverState *bs)
{
    BdrvCheckResult res = {0};
    int64_t hopeless;
    int ret = check_all(bs, &res, 0, &hopeless);

    SIM_ASSERT(hopeless >= 0);
    return ret == 0 && hopeless == 0;
}

int qcow2_check_locked(BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix)
{
    BDRVQcow2State *s = bs->opaque;
    bool was_broken = s->needs_repair;
    int64_t hopeless;

    SIM_ASSERT_EQ(fix & ~(uint32_t)(BDRV_FIX_LEAKS | BDRV_FIX_ERRORS), 0);
    SIM_ASSERT(fix == 0 || !bdrv_is_read_only(bs));
    int ret = bdrv_is_read_only(bs) || bdrv_is_inactive(bs) ? 0 : qcow2_repair_settle(bs);
    if (ret < 0) {
        res->check_errors++;
        return ret;
    }
    if (fix) {
        s->needs_repair = (s->incompatible_features & QCOW2_INCOMPAT_DIRTY) != 0;
    }
    ret = check_all(bs, res, fix, &hopeless);
    if (ret == 0 && (fix & BDRV_FIX_ERRORS)) {
        ret = clear_marks(bs, res);
    } else if (ret == 0 && !res->check_errors && !res->corruptions && !res->leaks) {
        s->needs_repair = was_broken; /* dirty for being in use, no more */
    }
    return ret;
}

int qcow2_co_check(BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix)
{
    BDRVQcow2State *s = bs->opaque;

    if (!qcow2_usable(bs)) {
        return -ENOMEDIUM;
    }
    if (fix && bdrv_is_read_only(bs)) {
        return -EACCES;
    }
    co_mutex_lock(&s->lock);
    int ret = qcow2_check_locked(bs, res, fix);
    co_mutex_unlock(&s->lock);
    return ret;
}
