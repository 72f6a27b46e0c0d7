/*
 * Copy-on-write (5.2): what lies around the guest's bytes in new (sub)clusters is read as the guest would see it,
 * and written together with them. One write: the file never holds half of it unless power fails.
 */
#include "block/qcow2_write.h"

#include <errno.h>

int qcow2_cow_read(BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    /* The last cluster may reach beyond the disk; whoever makes the disk longer expects zeros there. */
    int64_t inside = MIN(bytes, MAX(bs->total_bytes - offset, (int64_t)0));

    if (bytes == 0) {
        return 0;
    }
    bdrv_co_debug_event(bs->file->bs, BLKDBG_COW_READ);
    int ret = inside > 0 ? qcow2_co_preadv(bs, offset, inside, out, 0) : 0;
    if (ret == 0) {
        payload_append_zero(out, bytes - inside);
    }
    return ret;
}

static int write_with_copies(BlockDriverState *bs, const QCowL2Meta *m, const struct payload *in, int64_t in_offset)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t data_end = m->guest_offset + m->bytes;
    struct payload whole;

    payload_init(bs->host->sim, &whole);
    SIM_MARK(bs->host->sim, qcow2_cow);
    int ret = qcow2_cow_read(bs, m->area_offset, m->guest_offset - m->area_offset, &whole);
    if (ret == 0) {
        payload_append(&whole, in, in_offset, m->bytes);
        ret = qcow2_cow_read(bs, data_end, m->area_offset + m->area_bytes - data_end, &whole);
    }
    if (ret == 0) {
        SIM_ASSERT_EQ(whole.size_bytes, m->area_bytes);
        bdrv_co_debug_event(bs->file->bs, BLKDBG_WRITE_AIO);
        ret = bdrv_co_pwritev(s->data_file, m->host_offset, m->area_bytes, &whole, 0);
    }
    payload_clear(&whole);
    return ret;
}

int qcow2_write_area(BlockDriverState *bs, const QCowL2Meta *m, const struct payload *in, int64_t in_offset)
{
    BDRVQcow2State *s = bs->opaque;
    struct payload piece;

    SIM_ASSERT(m->area_offset <= m->guest_offset && m->bytes <= m->area_bytes);
    if (m->bytes < m->area_bytes) {
        return write_with_copies(bs, m, in, in_offset);
    }
    payload_init(bs->host->sim, &piece);
    payload_slice(&piece, in, in_offset, m->bytes);
    bdrv_co_debug_event(bs->file->bs, BLKDBG_WRITE_AIO);
    int ret = bdrv_co_pwritev(s->data_file, m->host_offset, m->bytes, &piece, 0);
    payload_clear(&piece);
    return ret;
}
