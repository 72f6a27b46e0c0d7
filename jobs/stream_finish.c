/* The end of a stream: the filter goes, what lies below the bottom becomes the backing file, the header says so
 * (reference/jobs.md 7). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "jobs/stream_int.h"

static void drop_filter(StreamJob *s)
{
    BlockDriverState *filter = s->filter;

    s->filter = NULL;
    blk_unref(s->blk);
    s->blk = NULL;
    block_job_remove_bdrv(&s->common, filter);
    bdrv_cor_filter_drop(filter);
}

static bool is_ours(const StreamJob *s, const BlockDriverState *bs)
{
    const BlockJobNode *node = s->common.nodes;

    while (node != NULL && node->child->bs != bs) {
        node = node->next;
    }
    return node != NULL;
}

/* What comes below the last layer that was copied, now. Filters that were between it and the base when the job
 * began go with the layers; others that came since stay. */
static BlockDriverState *present_base(const StreamJob *s)
{
    BlockDriverState *bs = bdrv_filter_or_cow_bs(s->bottom);

    while (bs != NULL && bs->drv->is_filter && is_ours(s, bs)) {
        bs = bdrv_filter_bs(bs);
    }
    return bs;
}

/* Draining polls, and polls let others change the chain: only a base that is drained already is one to build on.
 * One reference. NULL: none. */
static BlockDriverState *drained_base(const StreamJob *s)
{
    for (;;) {
        BlockDriverState *base = present_base(s);

        if (base == NULL) {
            return NULL;
        }
        bdrv_ref(base);
        bdrv_drained_begin(base);
        if (present_base(s) == base) {
            return base;
        }
        SIM_MARK(s->common.job.host->sim, stream_base_moved);
        bdrv_drained_end(base);
        bdrv_unref(base);
    }
}

static int write_header(StreamJob *s, BlockDriverState *base)
{
    BlockDriverState *image = bdrv_skip_filters(base);
    const char *filename = NULL, *format = NULL;

    if (image != NULL) {
        filename = s->backing_file != NULL ? s->backing_file : bdrv_filename(image);
        format = s->backing_mask_protocol ? bdrv_backing_format(image) : bdrv_driver_name(image);
    }
    return bdrv_change_backing_file(s->top, filename, format);
}

static int flush_entry(void *opaque)
{
    return bdrv_co_flush(opaque);
}

/* The header first: when it cannot be written it goes on naming the old file, and the link must go on with it.
 * Without it a discard would leave nothing behind, and show what that file holds once the image is opened again.
 * Writing polls, too. *base: drained and one reference, or NULL; the caller's in every case. */
static int write_present_base(StreamJob *s, BlockDriverState **base)
{
    for (;;) {
        *base = drained_base(s);
        int ret = write_header(s, *base);

        if (ret < 0) {
            SIM_MARK(s->common.job.host->sim, stream_header_failed);
        }
        if (ret < 0 || present_base(s) == *base) {
            return ret;
        }
        SIM_MARK(s->common.job.host->sim, stream_base_moved);
        if (*base != NULL) {
            bdrv_drained_end(*base);
            bdrv_unref(*base);
        }
    }
}

/* top is drained. The copies are stable before the header stops naming where they came from. */
static int change_backing(StreamJob *s)
{
    struct host *host = s->common.job.host;

    if (bdrv_cow_bs(s->top) == NULL) {
        return 0;
    }
    if (!bdrv_is_writable(s->top)) {
        return -EPERM;
    }
    int ret = bdrv_run_co(host, "stream flush", flush_entry, s->top);
    if (ret < 0) {
        return ret;
    }
    BlockDriverState *base;
    ret = write_present_base(s, &base);
    if (ret >= 0 && bdrv_set_backing_hd(s->top, base, &s->common.job.err) < 0) {
        ret = -EPERM;
    }
    if (base != NULL) {
        bdrv_drained_end(base);
        bdrv_unref(base);
    }
    return MIN(ret, 0);
}

int stream_prepare(Job *job)
{
    StreamJob *s = stream_of(job);
    BlockDriverState *top = s->top;

    SIM_ASSERT(job->ret == 0 && s->filter != NULL);
    bdrv_ref(top);
    drop_filter(s);
    bdrv_drained_begin(top);
    BlockDriverState *below = bdrv_cow_bs(top);
    if (below != NULL) {
        bdrv_ref(below);
        bdrv_drained_begin(below);
    }
    int ret = change_backing(s);
    if (below != NULL) {
        bdrv_drained_end(below);
        bdrv_unref(below);
    }
    bdrv_drained_end(top);
    bdrv_unref(top);
    return ret;
}

void stream_clean(Job *job)
{
    StreamJob *s = stream_of(job);

    if (s->filter != NULL) {
        drop_filter(s);
    }
    if (s->was_read_only) {
        /* A writer that came meanwhile keeps it writable. */
        bdrv_reopen_set_read_only(s->top, true, NULL);
    }
}
