/*
 * Writes of a qcow2 image that are under way (reference/bitmaps-qcow2.md 5.4): who may touch which guest clusters.
 *
 *     qcow2_alloc_begin    lock held; finds or allocates host clusters, in front of the data
 *         ... unlock, write the data of [area_offset, +area_bytes), lock ...
 *     qcow2_alloc_end      the L2 entries name the clusters, or on failure the clusters are free again
 *
 * From begin to end the QCowL2Meta, which lives on the caller's stack, is in s->cluster_allocs. A cluster has at
 * most one change of its L2 entry under way; who wants another waits for that and looks again from scratch. Writes
 * into clusters that are there already only tell where they are: nobody waits for them who leaves the entry in
 * place.
 *
 * A claim is for changes of entries that are no plain writes (zeroes, discards, compressed data): from begin to end
 * no write is under way in its clusters and none begins.
 */
#ifndef BLOCK_QCOW2_WRITE_H
#define BLOCK_QCOW2_WRITE_H

#include "block/qcow2.h"

enum qcow2_run {
    QCOW2_RUN_IN_PLACE, /* data only */
    QCOW2_RUN_KEEP,     /* the host cluster stays, its L2 entry changes: zero or absent parts become data */
    QCOW2_RUN_NEW,      /* other host clusters */
    QCOW2_RUN_CLAIM,
};

struct QCowL2Meta {
    enum qcow2_run kind;
    int64_t guest_offset; /* the guest's bytes */
    int64_t bytes;
    int64_t area_offset; /* guest range that is to be written: those bytes, and what is copied around them */
    int64_t area_bytes;
    int64_t host_offset; /* where area_offset goes, in s->data_file */
    int64_t new_offset;  /* clusters to free on failure */
    int64_t new_bytes;   /* 0: none, also with an external data file */
    CoQueue waiters;
    LIST_ENTRY(QCowL2Meta) next; /* newest first */
};

/* Lock held; dropped while it waits. A run of the guest's bytes from offset on, at most `bytes` of them, of one
 * kind and contiguous on the host. host_hint: where new clusters had best be (the end of the request's previous
 * run); 0: anywhere. 0 with m under way, or -errno. */
int qcow2_alloc_begin(BlockDriverState *bs, QCowL2Meta *m, int64_t offset, int64_t bytes, int64_t host_hint);
/* Lock held, not dropped. ret: what became of the data. 0, or the first error; m is no longer under way. */
int qcow2_alloc_end(BlockDriverState *bs, QCowL2Meta *m, int ret);
/* The first half of end, for those who have changed the L2 entries themselves. */
int qcow2_alloc_link(BlockDriverState *bs, const QCowL2Meta *m);

/* The same with the lock taken and given back, and with the place compared to the metadata. Nothing is under way
 * after a failure. */
int qcow2_run_begin(BlockDriverState *bs, QCowL2Meta *m, int64_t offset, int64_t bytes, int64_t host_hint);
int qcow2_run_end(BlockDriverState *bs, QCowL2Meta *m, int ret);

/* Lock held; dropped while it waits for what is under way in the clusters of the range. They come in order: later
 * writes and claims wait for this one. Claims may not nest. */
void qcow2_claim_begin(BlockDriverState *bs, QCowL2Meta *claim, int64_t offset, int64_t bytes);
void qcow2_claim_end(BlockDriverState *bs, QCowL2Meta *claim);

/* The area's data (qcow2_cow.c): what lies around the guest's bytes is read through the image, and written together
 * with them. Lock not held. */
int qcow2_write_area(BlockDriverState *bs, const QCowL2Meta *m, const struct payload *in, int64_t in_offset);
/* Appends what the guest sees at that place; zeros beyond the end. Lock not held. */
int qcow2_cow_read(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out);

/* Zeroes and discards of ranges that the caller has claimed; lock held. */
int qcow2_discard_claimed(BlockDriverState *bs, int64_t offset, int64_t bytes, enum qcow2_discard_type type,
                          bool full_discard);
int qcow2_zero_claimed(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags);
/* What the L2 entry `entry` held goes: freed, or with discard-no-unref kept and only discarded on the host. */
bool qcow2_keeps_clusters(const BlockDriverState *bs, QCow2ClusterType type, enum qcow2_discard_type why);
void qcow2_discard_kept(BlockDriverState *bs, uint64_t entry, enum qcow2_discard_type why);

#endif
