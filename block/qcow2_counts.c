/* Counts of references to clusters, few of which are not 0 (reference/bitmaps-qcow2.md 5.8). */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/qcow2_check_int.h"

#define FIRST_SLOTS ((size_t)64)
#define LONG_CLUSTERS 8 /* tables of tables; compressed data is shorter */
#define LONG_ROOM ((int64_t)16 * 1024 * 1024)

void qcow2_sparse_init(struct qcow2_sparse *sparse, BlockDriverState *bs)
{
    *sparse = (struct qcow2_sparse){.bs = bs};
}

void qcow2_sparse_free(struct qcow2_sparse *sparse)
{
    for (size_t i = 0; i < sparse->nb_slots; i++) {
        qcow2_free(sparse->bs, sparse->slots[i], sparse->slots[i] ? sizeof(struct qcow2_leaf) : 0);
    }
    qcow2_free(sparse->bs, sparse->slots, sparse->nb_slots * sizeof(struct qcow2_leaf *));
    qcow2_sparse_init(sparse, sparse->bs);
}

/* The slot of a leaf, or the empty one where it belongs. */
static size_t find_slot(struct qcow2_leaf **slots, size_t nb_slots, uint64_t first)
{
    uint64_t hash = (first / QCOW2_LEAF_ITEMS) * 0x9e3779b97f4a7c15ULL;
    size_t slot = (size_t)(hash >> 32) & (nb_slots - 1);

    SIM_ASSERT_EQ(nb_slots & (nb_slots - 1), 0);
    while (slots[slot] != NULL && slots[slot]->first != first) {
        slot = (slot + 1) & (nb_slots - 1);
    }
    return slot;
}

static void grow(struct qcow2_sparse *sparse)
{
    size_t nb_slots = sparse->nb_slots ? sparse->nb_slots * 2 : FIRST_SLOTS;
    struct qcow2_leaf **slots = qcow2_alloc(sparse->bs, nb_slots * sizeof(*slots));

    for (size_t i = 0; i < sparse->nb_slots; i++) {
        if (sparse->slots[i]) {
            slots[find_slot(slots, nb_slots, sparse->slots[i]->first)] = sparse->slots[i];
        }
    }
    qcow2_free(sparse->bs, sparse->slots, sparse->nb_slots * sizeof(*slots));
    sparse->slots = slots;
    sparse->nb_slots = nb_slots;
}

static struct qcow2_leaf *find_leaf(struct qcow2_sparse *sparse, uint64_t number)
{
    uint64_t first = number & ~(uint64_t)(QCOW2_LEAF_ITEMS - 1);

    if (sparse->last && sparse->last->first == first) {
        return sparse->last;
    }
    struct qcow2_leaf *leaf =
        sparse->nb_slots ? sparse->slots[find_slot(sparse->slots, sparse->nb_slots, first)] : NULL;
    if (leaf) {
        sparse->last = leaf;
    }
    return leaf;
}

uint64_t qcow2_sparse_get(struct qcow2_sparse *sparse, uint64_t number)
{
    const struct qcow2_leaf *leaf = find_leaf(sparse, number);

    return leaf ? leaf->value[number % QCOW2_LEAF_ITEMS] : 0;
}

void qcow2_sparse_add(struct qcow2_sparse *sparse, uint64_t number, uint64_t addend)
{
    struct qcow2_leaf *leaf = find_leaf(sparse, number);

    if (!leaf) {
        if (sparse->nb_leaves >= sparse->nb_slots / 2) {
            grow(sparse);
        }
        leaf = qcow2_alloc(sparse->bs, sizeof(*leaf));
        leaf->first = number & ~(uint64_t)(QCOW2_LEAF_ITEMS - 1);
        sparse->slots[find_slot(sparse->slots, sparse->nb_slots, leaf->first)] = leaf;
        sparse->nb_leaves++;
        sparse->last = leaf;
    }
    uint64_t *value = &leaf->value[number % QCOW2_LEAF_ITEMS];
    if (__builtin_add_overflow(*value, addend, value)) {
        *value = UINT64_MAX;
    }
}

static int by_first(const void *a, const void *b)
{
    uint64_t left = (*(const struct qcow2_leaf *const *)a)->first;
    uint64_t right = (*(const struct qcow2_leaf *const *)b)->first;

    return left < right ? -1 : left > right;
}

struct qcow2_leaf **qcow2_sparse_sorted(const struct qcow2_sparse *sparse)
{
    struct qcow2_leaf **leaves = qcow2_alloc(sparse->bs, sparse->nb_leaves * sizeof(*leaves));
    size_t n = 0;

    for (size_t i = 0; i < sparse->nb_slots; i++) {
        if (sparse->slots[i]) {
            leaves[n++] = sparse->slots[i];
        }
    }
    SIM_ASSERT_EQ(n, sparse->nb_leaves);
    if (n > 0) {
        qsort(leaves, n, sizeof(*leaves), by_first);
    }
    return leaves;
}

void qcow2_sparse_sorted_free(const struct qcow2_sparse *sparse, struct qcow2_leaf **leaves, size_t nb_leaves)
{
    qcow2_free(sparse->bs, leaves, nb_leaves * sizeof(*leaves));
}

/* --- clusters ----------------------------------------------------------------------------------------------- */

void qcow2_check_say(BdrvCheckResult *res, const char *fmt, ...)
{
    char line[512];
    va_list ap;

    if (!res->say) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    res->say(res->say_opaque, line);
}

int qcow2_counts_init(BlockDriverState *bs, struct qcow2_counts *counts)
{
    int64_t bytes = bdrv_co_getlength(bs->file->bs);

    qcow2_sparse_init(&counts->map, bs);
    counts->file_bytes = MAX(bytes, 0);
    counts->nb_clusters = (uint64_t)size_to_clusters(bs->opaque, counts->file_bytes);
    counts->first_beyond = UINT64_MAX;
    counts->long_room = (int64_t)counts->nb_clusters * 2 + LONG_ROOM;
    return bytes < 0 ? (int)bytes : 0;
}

void qcow2_counts_free(struct qcow2_counts *counts)
{
    qcow2_sparse_free(&counts->map);
}

/* Tables lie beside each other, so together they are no longer than the file. In a hostile image thousands may lie
 * over each other, each as long as the file: to count all that would take hours. */
static bool room_for(struct qcow2_counts *counts, BdrvCheckResult *res, uint64_t clusters)
{
    if (clusters <= LONG_CLUSTERS) {
        return true;
    }
    bool before = counts->long_room >= 0;
    counts->long_room = before ? counts->long_room - (int64_t)clusters : -1;
    if (before && counts->long_room < 0) {
        qcow2_check_say(res, "ERROR: tables overlap so often that they are not counted any more");
        res->check_errors++;
    }
    return counts->long_room >= 0;
}

bool qcow2_counts_add_times(BlockDriverState *bs, struct qcow2_counts *counts, BdrvCheckResult *res, int64_t offset,
                            int64_t bytes, uint64_t times)
{
    const BDRVQcow2State *s = bs->opaque;

    if (bytes <= 0 || times == 0) {
        return true;
    }
    /* The last cluster may be cut short, so something may lie beyond the end: less than a cluster of it. */
    if (offset < 0 || bytes > counts->file_bytes + s->cluster_size ||
        offset > counts->file_bytes + s->cluster_size - 1 - bytes) {
        qcow2_check_say(res,
                        "ERROR: reference to a region that ends a cluster or more beyond the file: offset 0x%llx "
                        "size 0x%llx",
                        (unsigned long long)offset, (unsigned long long)bytes);
        res->corruptions += (int64_t)times;
        if (offset >= 0) {
            counts->first_beyond = MIN(counts->first_beyond, (uint64_t)(offset >> s->cluster_bits));
        }
        return false;
    }
    uint64_t first = (uint64_t)(offset >> s->cluster_bits);
    uint64_t last = (uint64_t)((offset + bytes - 1) >> s->cluster_bits);
    if (!room_for(counts, res, last - first + 1)) {
        return false;
    }
    for (uint64_t cluster = first; cluster <= last; cluster++) {
        qcow2_sparse_add(&counts->map, cluster, times);
    }
    counts->nb_clusters = MAX(counts->nb_clusters, last + 1);
    return true;
}

int qcow2_counts_add(BlockDriverState *bs, struct qcow2_counts *counts, BdrvCheckResult *res, int64_t offset,
                     int64_t bytes)
{
    qcow2_counts_add_times(bs, counts, res, offset, bytes, 1);
    return 0;
}
