/*
 * A check of a qcow2 image from inside (reference/bitmaps-qcow2.md 5.8): what qcow2_check*.c, qcow2_counts.c,
 * qcow2_repair.c and qcow2_rebuild.c share.
 *
 *     collect: header, L1, L2, snapshots, bitmaps, refcount structures  ->  counts   (qcow2_check_map.c)
 *     compare: counts with what the refcount blocks say                 ->  leaks, corruptions, rebuild
 *     repair:  counts of blocks, or all of the blocks, then COPIED      (qcow2_repair.c, qcow2_rebuild.c)
 *
 * An image may be hostile. Memory follows what lies inside the file, and so does time: a table is read once however
 * often it is named, with the number of times as a factor; what ends beyond the file is a finding and is not
 * counted. The image's lock is held throughout.
 */
#ifndef BLOCK_QCOW2_CHECK_INT_H
#define BLOCK_QCOW2_CHECK_INT_H

#include "block/qcow2.h"

/* --- numbers by number, most of them 0 (qcow2_counts.c) ----------------------------------------------------- */

#define QCOW2_LEAF_ITEMS 16

struct qcow2_leaf {
    uint64_t first; /* number of value[0], a multiple of QCOW2_LEAF_ITEMS */
    uint64_t value[QCOW2_LEAF_ITEMS];
};

struct qcow2_sparse {
    BlockDriverState *bs;
    struct qcow2_leaf **slots; /* open addressing by `first`; a power of two, or NULL */
    size_t nb_slots;
    size_t nb_leaves;
    struct qcow2_leaf *last; /* found last: neighbours are asked for in a row */
};

void qcow2_sparse_init(struct qcow2_sparse *sparse, BlockDriverState *bs);
void qcow2_sparse_free(struct qcow2_sparse *sparse);
uint64_t qcow2_sparse_get(struct qcow2_sparse *sparse, uint64_t number);
/* Saturates. */
void qcow2_sparse_add(struct qcow2_sparse *sparse, uint64_t number, uint64_t addend);
/* nb_leaves leaves in ascending order, of the moment; qcow2_sparse_sorted_free, or NULL for none. */
struct qcow2_leaf **qcow2_sparse_sorted(const struct qcow2_sparse *sparse);
void qcow2_sparse_sorted_free(const struct qcow2_sparse *sparse, struct qcow2_leaf **leaves, size_t nb_leaves);

/* References to host clusters. */
struct qcow2_counts {
    struct qcow2_sparse map; /* by cluster */
    int64_t file_bytes;
    uint64_t nb_clusters;  /* of the file, the last may be cut short; more if one beyond is referred to */
    uint64_t first_beyond; /* first cluster of what ends beyond the file and is not counted; UINT64_MAX: none */
    int64_t long_room;     /* clusters of long tables still to be counted; < 0: no more */
};

/* 0 or -errno. */
int qcow2_counts_init(BlockDriverState *bs, struct qcow2_counts *counts);
void qcow2_counts_free(struct qcow2_counts *counts);
/* The same reference so many times. False: it ends beyond the file, was reported, and is not counted. */
bool qcow2_counts_add_times(BlockDriverState *bs, struct qcow2_counts *counts, BdrvCheckResult *res, int64_t offset,
                            int64_t bytes, uint64_t times);

/* --- the check ---------------------------------------------------------------------------------------------- */

struct qcow2_check {
    BlockDriverState *bs;
    BdrvCheckResult *res;
    uint32_t fix;
    struct qcow2_counts counts;
    struct qcow2_sparse active_l2; /* how often the active L1 table names an L2 table, by offset / 512 */
    struct qcow2_sparse inactive_l2;
    int64_t odd_room; /* bytes of L2 tables that are not aligned, to be read; < 0: no more */
    uint8_t *table;   /* cluster_size bytes, for a table of the moment */
    uint8_t *block;   /* the refcount block read last */
    uint64_t block_index;
    int block_ret;           /* 1: it is there, 0: it is not, all counts are 0; -errno */
    bool block_valid;        /* the three above mean something */
    bool rebuild;            /* a used cluster has no count, or a block is bad */
    int64_t highest_cluster; /* used or counted; -1: none */
    int64_t mendable;        /* corruptions of the tables that a repair would mend */
    int64_t hopeless;        /* what no repair mends */
};

/* One line of the report. */
void qcow2_check_say(BdrvCheckResult *res, const char *fmt, ...) SIM_PRINTF(2, 3);

int qcow2_check_begin(struct qcow2_check *c, BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix);
void qcow2_check_end(struct qcow2_check *c);
/* All references of the image into c->counts, but with_blocks=false leaves out the refcount structures. fix as in
 * c->fix: entries are repaired by the way. 0 or -errno, check_errors counted. */
int qcow2_check_collect(struct qcow2_check *c, bool with_blocks);
/* Stored against counted. fix: BDRV_FIX_* of counts. */
int qcow2_check_compare(struct qcow2_check *c, uint32_t fix);
/* What the blocks on disk say; -errno: the block is bad. */
int qcow2_check_stored(struct qcow2_check *c, uint64_t cluster, uint64_t *count);

/* Tables of the guest's disk and the snapshots' (qcow2_check_map.c). */
int qcow2_check_tables(struct qcow2_check *c);
/* COPIED of the active tables against the counts on disk. */
int qcow2_check_copied(struct qcow2_check *c);

/* The snapshot table read again with an indulgent eye (qcow2_snapshot_table.c); *found corruptions are put right
 * by writing it in full. */
int qcow2_check_read_snapshots(BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix, int64_t *found);
int qcow2_check_write_snapshots(BlockDriverState *bs, BdrvCheckResult *res, int64_t found);
/* Lookup as qemu does it: both, or the one that is not NULL. -1: none. */
int qcow2_find_snapshot(const BDRVQcow2State *s, const char *id, const char *name);
/* Changes of the list in memory (qcow2_snapshot_list.c), which takes over what sn points to and gives it back; what
 * was taken out from an index is put back there. */
void qcow2_snapshot_append(BlockDriverState *bs, const QCowSnapshot *sn);
QCowSnapshot qcow2_snapshot_take_out(BlockDriverState *bs, uint32_t index);
void qcow2_snapshot_put_back(BlockDriverState *bs, uint32_t index, const QCowSnapshot *sn);
void qcow2_snapshot_free_strings(BlockDriverState *bs, QCowSnapshot *sn);
/* Of a snapshot to be made; memory of the driver. */
char *qcow2_snapshot_new_id(BlockDriverState *bs);
/* Whether its L1 table can be read at all; -errno with errp. */
int qcow2_check_snapshot_l1(BlockDriverState *bs, const QCowSnapshot *sn, Error **errp);

/* Lowers and raises counts (qcow2_repair.c). Everything stable and no table cached afterwards. */
int qcow2_repair_settle(BlockDriverState *bs);
int qcow2_repair_count(struct qcow2_check *c, uint64_t cluster, uint64_t stored, uint64_t counted);
/* A repair would leave nothing to be found, unless the storage fails: nothing is written. */
bool qcow2_check_is_mendable(BlockDriverState *bs);
/* New refcount structures that say what is true; the header is switched to them (qcow2_rebuild.c). */
int qcow2_rebuild_refcounts(struct qcow2_check *c);

#endif
