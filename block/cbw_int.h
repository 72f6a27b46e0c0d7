/* The copy-before-write filter from inside: what copy-before-write.c, cbw_snapshot.c and cbw_insert.c share. */
#ifndef BLOCK_CBW_INT_H
#define BLOCK_CBW_INT_H

#include "block/block-copy_int.h"
#include "block/copy-before-write.h"

/* A reader that is reading old content from the source: guests wait before they overwrite it. On its stack. */
struct cbw_frozen_read {
    int64_t offset;
    int64_t bytes;
    CoQueue waiters;
    TAILQ_ENTRY(cbw_frozen_read) list;
};

/*
 * Where old content is, by cluster; asked in this order:
 *
 *     dirty, or in a task that has not copied it     in the source
 *     copied                                         in the target
 *     else                                           nowhere: it was never wanted, or nobody needs it any more
 */
struct cbw {
    BdrvChild *target;
    BlockCopyState *copy;
    BdrvDirtyBitmap *copied;
    enum on_cbw_error on_error;
    int64_t timeout_ns;
    bool discard_source;
    int broken; /* 0, or the error of a save after which the guest wrote all the same */
    TAILQ_HEAD(, cbw_frozen_read) frozen_reads;
};

extern const BlockDriver bdrv_copy_before_write;

static inline struct cbw *cbw_of(const BlockDriverState *bs)
{
    SIM_ASSERT(bs->drv == &bdrv_copy_before_write);
    return bs->opaque;
}

/* The engine, over the children that are there. Lengths are checked here. */
int cbw_start(BlockDriverState *bs, const struct block_copy_args *args, Error **errp);
void cbw_stop(BlockDriverState *bs);
/* Sleeps while somebody reads old content of the range from the source. */
void cbw_wait_frozen_reads(const BlockDriverState *bs, int64_t offset, int64_t bytes);

/* Hooks of the driver (cbw_snapshot.c). */
int cbw_co_preadv_snapshot(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out);
int cbw_co_snapshot_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                                 int64_t *map, BlockDriverState **file);
int cbw_co_pdiscard_snapshot(BlockDriverState *bs, int64_t offset, int64_t bytes);
int cbw_peek_snapshot(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out);
bool cbw_peek_snapshot_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum);

#endif
