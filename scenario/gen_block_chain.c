/*
 * Profile block: chains of images. Overlays on top of whatever is there, under load, what headers say of the image
 * below, and snapshots within images.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "scenario/gen_block.h"

/* Mostly what guests use; NULL: it is not there any more. */
static struct block_node *pick_lower(struct blocks *b)
{
    struct block_node *top = b->stacks[gen_draw(b->gen, "chain.stack", b->stack_count)].top;
    struct block_node *any = &b->nodes[gen_draw(b->gen, "chain.node", b->node_count)];

    return gen_draw(b->gen, "chain.any", 3) ? top : any->there ? any : NULL;
}

/* The users of the node move to the overlay. */
static void put_on_top(struct blocks *b, struct block_node *lower, struct block_node *overlay)
{
    for (unsigned n = 0; n < b->node_count; n++) {
        struct block_node *node = &b->nodes[n];

        for (unsigned i = 0; i < node->child_count; i++) {
            if (node != overlay && node->child[i] == lower) {
                node->child[i] = overlay;
                overlay->parents++;
                lower->parents--;
            }
        }
    }
    for (unsigned n = 0; n < b->stack_count; n++) {
        if (b->stacks[n].top == lower) {
            b->stacks[n].top = overlay;
        }
    }
    overlay->guest = lower->guest;
    lower->guest = false;
    overlay->child[0] = lower;
    overlay->child_count = 1;
    lower->parents++;
}

/* depth: what was refused may look like a circle here. */
static bool reaches(const struct block_node *from, const struct block_node *node, unsigned depth)
{
    bool any = from == node;

    for (unsigned i = 0; i < from->child_count && !any && depth < BLOCK_NODES; i++) {
        any = reaches(from->child[i], node, depth + 1);
    }
    return any;
}

bool gen_block_is_below_overlay(const struct blocks *b, const struct block_node *node)
{
    bool any = false;

    for (unsigned n = 0; n < b->node_count; n++) {
        const struct block_node *image = &b->nodes[n];

        any = any || (image->kind == BLOCK_IMAGE && image->child_count && reaches(image->child[0], node, 0));
    }
    return any;
}

/* An image made beforehand, opened without what lies below it. */
static void put_image(struct blocks *b, struct block_node *overlay, const struct block_node *lower, int64_t time_ns)
{
    struct gen_image image;
    char *line, *options;

    gen_line(b->gen, "disk %s", overlay->disk);
    gen_image_draw(b->gen, "overlay", overlay->disk, overlay->bytes, 0, &image);
    image.preallocation = NULL; /* nothing of its own: what lies below shows */
    image.raw_data = false;
    gen_image_write(b->gen, "overlay", &image, 0);
    options = gen_image_options(b->gen, "overlay.options", &image, true);
    snprintf(overlay->own, sizeof(overlay->own), "%s%s\"backing\":null", options, *options ? "," : "");
    free(options);
    line = gen_block_add(overlay);
    gen_at(b->gen, time_ns, "try %s", line);
    free(line);
    gen_at(b->gen, time_ns, "try blockdev-snapshot node=%s overlay=%s", lower->name, overlay->name);
}

/* Now and then the overlay is one of the nodes that are there, whatever it is. */
static void refused(struct blocks *b, const struct block_node *lower, int64_t time_ns)
{
    gen_at(b->gen, time_ns, "try blockdev-snapshot node=%s overlay=%s", lower->name,
           b->nodes[gen_draw(b->gen, "overlay.node", b->node_count)].name);
}

/* Children that must hold the same get overlays of the length that they have at that moment. */
static bool compares(const struct blocks *b)
{
    bool any = false;

    for (unsigned n = 0; n < b->node_count; n++) {
        any = any || b->nodes[n].kind == BLOCK_QUORUM || b->nodes[n].kind == BLOCK_VERIFY;
    }
    return any;
}

void gen_block_overlay(struct blocks *b, int64_t time_ns)
{
    struct block_node *lower = pick_lower(b);
    struct block_node *overlay;
    bool sync = gen_draw(b->gen, "overlay.how", 2) || compares(b);

    if (!lower || gen_draw(b->gen, "overlay.refused", 5) == 0) {
        refused(b, lower ? lower : &b->nodes[0], time_ns);
        return;
    }
    overlay = gen_block_node(b, BLOCK_IMAGE);
    if (!overlay) {
        return;
    }
    overlay->bytes = lower->bytes;
    if (!sync) { /* as long as the other may have become: a short one would cut what guests see */
        overlay->bytes = 2 * lower->bytes + 4 * MiB;
    }
    overlay->unmap = true; /* as its file inherits */
    snprintf(overlay->disk, sizeof(overlay->disk), "disk%u", b->disk_count++);
    if (sync) {
        gen_at(b->gen, time_ns, "try blockdev-snapshot-sync node-name=%s snapshot-file=%s snapshot-node-name=%s",
               lower->name, overlay->disk, overlay->name);
    } else {
        put_image(b, overlay, lower, time_ns);
    }
    put_on_top(b, lower, overlay);
    snprintf(overlay->own, sizeof(overlay->own), "\"backing\":\"%s\"", lower->name);
}

/* Mostly one that guests use themselves: only roots have internal snapshots. */
static struct block_node *pick_image(struct blocks *b)
{
    struct block_node *top = b->stacks[gen_draw(b->gen, "image.stack", b->stack_count)].top;
    unsigned at = (unsigned)gen_draw(b->gen, "image.node", b->node_count);

    if (top->kind == BLOCK_IMAGE && gen_draw(b->gen, "image.any", 3)) {
        return top;
    }
    for (unsigned i = 0; i < b->node_count; i++, at = (at + 1) % b->node_count) {
        if (b->nodes[at].there && b->nodes[at].kind == BLOCK_IMAGE) {
            return &b->nodes[at];
        }
    }
    return NULL;
}

void gen_block_header(struct blocks *b, int64_t time_ns)
{
    const struct block_node *image = pick_image(b);
    const struct block_stack *stack = &b->stacks[gen_draw(b->gen, "header.stack", b->stack_count)];
    const struct block_node *below = image && image->child_count ? image->child[0] : &b->nodes[0];

    if (image) {
        gen_at(b->gen, time_ns, "try change-backing-file device=%s image-node-name=%s backing-file=%s",
               stack->guest, image->name, below->disk[0] ? below->disk : below->name);
    }
}

void gen_block_internal(struct blocks *b, int64_t time_ns)
{
    const struct block_node *image = pick_image(b);

    if (image) {
        gen_image_snapshot(b->gen, "internal", image->name, time_ns);
    }
}
