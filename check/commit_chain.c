/*
 * commit-view: the chain that a commit or a stream leaves, and what the headers on the media say of it
 * (reference/jobs.md 6, 7). The command says what to expect; the headers are read by code that shares nothing with
 * the driver.
 */
#include "check/commit_view.h"

#include <string.h>

#include "check/qcow2_image.h"
#include "jobs/commit.h"
#include "jobs/stream.h"

static const struct sim_name *image_below(const BlockDriverState *bs)
{
    BlockDriverState *below = bs ? bdrv_cow_bs(bs) : NULL;

    below = below ? bdrv_skip_filters(below) : NULL;
    return below ? bdrv_node_sim_name(below) : NULL;
}

static void add_overlay(struct commit_view *state, struct layer_job *w, const BlockDriverState *bs)
{
    struct overlay *overlay =
        (struct overlay *)sim_alloc(state->check->arena, SIM_TYPE_check_cell, sizeof(*overlay));

    *overlay = (struct overlay){.node = bdrv_node_sim_name(bs), .backing = image_below(bs), .next = w->overlays};
    w->overlays = overlay;
}

void layer_chain_forget(struct commit_view *state, struct layer_job *w)
{
    while (w->overlays) {
        struct overlay *overlay = w->overlays;

        w->overlays = overlay->next;
        sim_strfree(state->check->arena, overlay->header);
        sim_free(state->check->arena, SIM_TYPE_check_cell, overlay, sizeof(*overlay));
    }
    w->below_bottom = NULL;
}

/* Before prepare: whose link and header it is to change, and to what. */
void layer_chain_note(struct commit_view *state, struct layer_job *w, const Job *job)
{
    layer_chain_forget(state, w);
    if (w->stream) {
        const BlockDriverState *top = layer_node(w, w->top);

        w->below_bottom = image_below(layer_node(w, w->base));
        if (top && bdrv_cow_bs(top)) {
            add_overlay(state, w, top);
        }
        return;
    }
    for (BlockDriverState *bs = w->active ? NULL : bdrv_next_node(w->host, NULL); bs;
         bs = bdrv_next_node(w->host, bs)) {
        const struct sim_name *below = image_below(bs);

        if (below && below == w->top) {
            add_overlay(state, w, bs);
        }
    }
}

/* --- headers ---------------------------------------------------------------------------------------------- */

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void look_at_header(struct commit_view *state, const struct layer_job *w, const struct overlay *overlay,
                           const char *file, const char *format)
{
    const BlockDriverState *bs = layer_node(w, overlay->node);
    const BlockDriverState *child = bs && strcmp(bdrv_driver_name(bs), "qcow2") == 0 ? bdrv_primary_bs(bs) : NULL;
    struct disk *disk = child ? check_disk_below(child) : NULL;
    struct qcow2_image *image = disk ? qcow2_image_read(qcow2_source_of_disk(disk)) : NULL;

    if (image && !image->error[0] && !(same(image->backing_file, file) && same(image->backing_format, format))) {
        layer_violate(state, w, "header", overlay->node,
                      "node %s: expected backing file %s (%s) in its header; seen %s (%s)", overlay->node->str,
                      file ? file : "none", format ? format : "-",
                      image->backing_file ? image->backing_file : "none",
                      image->backing_format ? image->backing_format : "-");
    }
    qcow2_image_free(image);
}

static void look_at_overlay(struct commit_view *state, const struct layer_job *w, const struct overlay *overlay,
                            const struct sim_name *expected)
{
    const BlockDriverState *bs = layer_node(w, overlay->node);
    BlockDriverState *base = layer_node(w, expected);
    const struct sim_name *seen = image_below(bs);
    const char *format;

    if (!bs || (expected && !base)) {
        return;
    }
    if (seen != expected) {
        layer_violate(state, w, "chain", overlay->node, "node %s: expected %s below it; seen %s",
                      overlay->node->str, expected ? expected->str : "nothing", seen ? seen->str : "nothing");
        return;
    }
    if (!base) {
        look_at_header(state, w, overlay, NULL, NULL);
        return;
    }
    format = w->mask_protocol && !bdrv_first_child(base) ? "raw" : bdrv_driver_name(base);
    look_at_header(state, w, overlay, w->backing_file ? w->backing_file : bdrv_filename(base), format);
}

void layer_chain_look(struct commit_view *state, const struct layer_job *w)
{
    const BlockDriverState *base = layer_node(w, w->base);
    const struct sim_name *expected = w->below_bottom;

    if (!w->stream) {
        BlockDriverState *image = base ? bdrv_skip_filters((BlockDriverState *)base) : NULL;

        expected = image ? bdrv_node_sim_name(image) : NULL;
        if (!image) {
            return;
        }
    }
    for (const struct overlay *overlay = w->overlays; overlay; overlay = overlay->next) {
        look_at_overlay(state, w, overlay, expected);
    }
}
