/*
 * quorum from inside: the node (quorum.c), reads and writes on all children (quorum_io.c), and what clients are
 * told (quorum_report.c). Reference: block.md 7.3. Nobody else includes it.
 */
#ifndef BLOCK_QUORUM_INT_H
#define BLOCK_QUORUM_INT_H

#include "block/block_int.h"

/* A request in the hands of the children. */
struct quorum_request {
    enum sim_op op;
    int64_t offset;
    int64_t bytes;
    CoQueue waiters;
    LIST_ENTRY(quorum_request) list;
};

struct quorum {
    BdrvChild **child; /* by age: "children.0" first; host arena */
    unsigned count;
    unsigned room;
    unsigned next_index; /* of the next one's name: numbers are never used again */
    unsigned threshold;  /* 1..count */
    bool fifo;
    bool rewrite;
    bool verify; /* blkverify mode */
    LIST_HEAD(, quorum_request) requests;
};

/* quorum_io.c */
int quorum_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags);
int quorum_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, const struct payload *in, uint32_t flags);
int quorum_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes, uint32_t flags);
int quorum_flush(BlockDriverState *bs);
/* What a read would give, -EIO when no version has the votes, -ENOTSUP when a child cannot tell. */
int quorum_peek(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out);

/* quorum_report.c. Both events come at most once a second: the first at once, then the last of each second;
 * QUORUM_FAILURE for all nodes of the host together, QUORUM_REPORT_BAD for each node that is reported. */
void quorum_report_failure(BlockDriverState *bs, int64_t offset, int64_t bytes);
/* ret: negative errno, or 0 when the child answered and was voted down. */
void quorum_report_bad(const BdrvChild *child, const char *type, int64_t offset, int64_t bytes, int ret);

#endif
