/* What a node looks like from outside, without I/O. */
#include <errno.h>

#include "block/block_int.h"

const char *bdrv_get_node_name(const BlockDriverState *bs)
{
    return bs->name->str;
}

const struct sim_name *bdrv_node_sim_name(const BlockDriverState *bs)
{
    return bs->name;
}

uint64_t bdrv_entity(const BlockDriverState *bs)
{
    return bs->entity;
}

struct host *bdrv_host(const BlockDriverState *bs)
{
    return bs->host;
}

const char *bdrv_driver_name(const BlockDriverState *bs)
{
    return bs->drv->format_name;
}

const char *bdrv_filename(const BlockDriverState *bs)
{
    while (!bs->drv->bdrv_filename) {
        const BlockDriverState *below = bdrv_filter_bs(bs);
        if (!below) {
            below = bdrv_primary_bs(bs);
        }
        if (!below) {
            return "";
        }
        bs = below;
    }
    return bs->drv->bdrv_filename(bs);
}

int64_t bdrv_getlength_cached(const BlockDriverState *bs)
{
    return bs->total_bytes;
}

uint32_t bdrv_open_flags(const BlockDriverState *bs)
{
    return bs->open_flags;
}

bool bdrv_is_read_only(const BlockDriverState *bs)
{
    return !(bs->open_flags & BDRV_O_RDWR);
}

bool bdrv_is_inactive(const BlockDriverState *bs)
{
    return (bs->open_flags & BDRV_O_INACTIVE) != 0;
}

bool bdrv_is_writable(const BlockDriverState *bs)
{
    return !bdrv_is_read_only(bs) && !bdrv_is_inactive(bs);
}

bool bdrv_is_implicit(const BlockDriverState *bs)
{
    return bs->implicit;
}

unsigned bdrv_refcount(const BlockDriverState *bs)
{
    return bs->refcnt;
}

unsigned bdrv_in_flight(const BlockDriverState *bs)
{
    return bs->in_flight;
}

unsigned bdrv_quiesce_counter(const BlockDriverState *bs)
{
    return bs->quiesce_counter;
}

uint32_t bdrv_request_alignment(const BlockDriverState *bs)
{
    return bs->bl.request_alignment;
}

const BlockLimits *bdrv_limits(const BlockDriverState *bs)
{
    return &bs->bl;
}

const struct qvalue *bdrv_options_in_force(const BlockDriverState *bs)
{
    return bs->options;
}

unsigned bdrv_copy_on_read_users(const BlockDriverState *bs)
{
    return bs->copy_on_read;
}

bool bdrv_has_monitor_ref(const BlockDriverState *bs)
{
    return bs->monitor_owned;
}

bool bdrv_supports_backing(const BlockDriverState *bs)
{
    return bs->drv->supports_backing;
}

/* --- content --------------------------------------------------------------------------------------------- */

int bdrv_peek(const BlockDriverState *bs, int64_t offset, int64_t bytes, struct payload *out)
{
    SIM_ASSERT(offset >= 0 && bytes >= 0);
    while (!bs->drv->bdrv_peek) {
        bs = bdrv_filter_bs(bs);
        if (!bs) {
            return -ENOTSUP;
        }
    }
    return bs->drv->bdrv_peek(bs, offset, bytes, out);
}

bool bdrv_peek_status(const BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum)
{
    SIM_ASSERT(offset >= 0 && bytes > 0);
    while (!bs->drv->bdrv_peek_status) {
        bs = bdrv_filter_bs(bs);
        if (!bs) {
            *pnum = bytes; /* nothing known: it may hold data */
            return true;
        }
    }
    bool data = bs->drv->bdrv_peek_status(bs, offset, bytes, pnum);
    SIM_ASSERT(*pnum > 0 && *pnum <= bytes);
    return data;
}
