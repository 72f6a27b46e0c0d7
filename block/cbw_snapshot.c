/*
 * The frozen view of a copy-before-write filter (reference/jobs.md 5.6): what the source held at the instant when
 * the filter began, piece by piece from where it is now.
 *
 * A piece that is in the source is read under a frozen read; a guest that wants to overwrite it has it saved first
 * and then waits until the read is over. From the moment it is saved, new readers go to the target.
 */
#include <errno.h>

#include "block/cbw_int.h"

/* Where the old content of offset is, and *num bytes after it likewise; NULL: nowhere. */
static BdrvChild *where(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *num)
{
    const struct cbw *s = cbw_of(bs);
    const struct block_copy_hold *task, *next;

    SIM_ASSERT(bytes > 0);
    *num = bytes;
    if (s->broken || offset + bytes > block_copy_length(s->copy)) {
        return NULL;
    }
    if (bdrv_dirty_bitmap_status(s->copy->bitmap, offset, bytes, num)) {
        return bs->file;
    }
    task = block_copy_find_task(s->copy, offset, 1);
    if (task) {
        *num = MIN(*num, task->offset + task->bytes - offset);
        if (!task->is_copied) {
            return bs->file;
        }
        SIM_MARK(bs->host->sim, snapshot_task_copied); /* perhaps being discarded from the source */
    }
    /* Clean, and in no other task up to the next one. */
    while (!task && (next = block_copy_find_task(s->copy, offset, *num)) != NULL) {
        *num = next->offset - offset;
    }
    return bdrv_dirty_bitmap_status(s->copied, offset, *num, num) ? s->target : NULL;
}

static void frozen_begin(BlockDriverState *bs, struct cbw_frozen_read *read, int64_t offset, int64_t bytes)
{
    *read = (struct cbw_frozen_read){.offset = offset, .bytes = bytes};
    co_queue_init(bs->host->sim, &read->waiters);
    TAILQ_INSERT_TAIL(&cbw_of(bs)->frozen_reads, read, list);
}

static void frozen_end(BlockDriverState *bs, struct cbw_frozen_read *read)
{
    TAILQ_REMOVE(&cbw_of(bs)->frozen_reads, read, list);
    co_queue_restart_all(&read->waiters);
}

static int denied(const BlockDriverState *bs)
{
    SIM_MARK(bs->host->sim, snapshot_denied);
    return -EACCES;
}

static int read_piece(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out, int64_t *num)
{
    struct cbw_frozen_read read;
    BdrvChild *from = where(bs, offset, bytes, num);

    if (!from) {
        return denied(bs);
    }
    if (from != bs->file) {
        return bdrv_co_preadv(from, offset, *num, out, 0);
    }
    frozen_begin(bs, &read, offset, *num);
    int ret = bdrv_co_preadv(from, offset, *num, out, 0);
    frozen_end(bs, &read);
    return ret;
}

int cbw_co_preadv_snapshot(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    int ret = 0;

    while (bytes > 0 && ret >= 0) {
        int64_t num;
        ret = read_piece(bs, offset, bytes, out, &num);
        offset += num;
        bytes -= num;
    }
    return MIN(ret, 0);
}

/* Content is that of the whole chain below, since nobody may go on and ask there: it is of today. Who wants to know
 * of allocation hears it of the source's own layer. */
static int piece_status(BlockDriverState *at, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum)
{
    if (want_zero) {
        return bdrv_co_block_status_above(at, NULL, offset, bytes, pnum, NULL, NULL);
    }
    int ret = bdrv_co_is_allocated(at, offset, bytes, pnum);
    return ret > 0 ? BDRV_BLOCK_DATA : ret;
}

int cbw_co_snapshot_block_status(BlockDriverState *bs, bool want_zero, int64_t offset, int64_t bytes, int64_t *pnum,
                                 int64_t *map, BlockDriverState **file)
{
    struct cbw_frozen_read read;
    BdrvChild *from = where(bs, offset, bytes, pnum);
    int ret;

    if (!from) {
        return denied(bs);
    }
    *map = offset;
    *file = from->bs;
    if (from != bs->file) {
        ret = piece_status(from->bs, want_zero, offset, *pnum, pnum);
        /* What was saved is here, however the target keeps zeroes. */
        if (ret >= 0) {
            ret = ret & BDRV_BLOCK_ZERO ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA;
        }
        return ret;
    }
    frozen_begin(bs, &read, offset, *pnum);
    ret = piece_status(from->bs, want_zero, offset, *pnum, pnum);
    frozen_end(bs, &read);
    return ret < 0 ? ret : ret & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO);
}

/* Whole clusters that nobody needs any more: no save, no reader. */
int cbw_co_pdiscard_snapshot(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    struct cbw *s = cbw_of(bs);

    block_copy_round_in(s->copy, &offset, &bytes);
    if (bytes == 0) {
        return 0;
    }
    block_copy_wait_overlapping(s->copy, offset, bytes); /* a copy that ends later would bring it back */
    block_copy_reset(s->copy, offset, bytes);
    bdrv_reset_dirty_bitmap(s->copied, offset, block_copy_bits(s->copied, offset, bytes));
    return bdrv_co_pdiscard(s->target, offset, block_copy_clip(s->copy, offset, bytes));
}

/* --- without I/O
 * -------------------------------------------------------------------------------------------------- */

int cbw_peek_snapshot(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    int ret = 0;

    while (bytes > 0 && ret >= 0) {
        int64_t num;
        const BdrvChild *from = where(bs, offset, bytes, &num);
        ret = from ? bdrv_peek(from->bs, offset, num, out) : -EACCES;
        offset += num;
        bytes -= num;
    }
    return MIN(ret, 0);
}

bool cbw_peek_snapshot_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum)
{
    const BdrvChild *from = where(bs, offset, bytes, pnum);

    return from ? bdrv_peek_status(from->bs, offset, *pnum, pnum) : true;
}
