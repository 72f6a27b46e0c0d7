/*
 * Profile bitmap: qcow2 images, which keep persistent bitmaps when they are closed.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/gen_bitmap.h"

bool gen_bitmap_image(struct bitmaps *b, struct bitmap_node *node)
{
    struct gen *gen = b->gen;
    unsigned levels;

    if (node->bytes > 64 * GiB || !gen_chance(gen, "qcow2", 300)) {
        return false;
    }
    levels =
        node->bytes > 0 && gen_chance(gen, "backing", 250) ? (unsigned)gen_range(gen, "backing.levels", 1, 3) : 0;
    gen_image_draw(gen, "image", node->disk, node->bytes, levels, &node->image);
    node->raw = false;
    gen_line(gen, "disk %s", node->disk);
    gen_image_write(gen, "image", &node->image, levels);
    node->options = gen_image_options(gen, "image.options", &node->image, false);
    return true;
}

void gen_bitmap_image_open(struct bitmaps *b, const struct bitmap_node *node, bool may_fail)
{
    gen_line(b->gen, "%sblockdev-add driver=qcow2 node-name=%s file.driver=disk file.disk=%s%s%s",
             may_fail ? "try " : "", node->name, node->disk, node->options,
             strstr(node->options, "discard=unmap") ? " file.discard=unmap" : "");
}

void gen_bitmap_reload(struct bitmaps *b)
{
    struct gen *gen = b->gen;

    for (size_t i = 0; i < b->guest_count; i++) {
        const struct bitmap_node *node = &b->nodes[i];

        if (!node->options || !gen_chance(gen, "reload", 400)) {
            continue;
        }
        gen_line(gen, "try unplug %s", node->guest);
        gen_line(gen, "try blockdev-del node-name=%s", node->name);
        if (gen_draw(gen, "reload.check", 3) == 0) {
            gen_line(gen, "try img check %s", node->disk);
        }
        if (gen_chance(gen, "internal", 150)) {
            gen_line(gen, "try img snapshot %s s%" PRId64 " %s", GEN_PICK(gen, "reload.how", "-c", "-a", "-d"),
                     gen_range(gen, "reload.snapshot", 1, 3), node->disk);
        }
        gen_bitmap_image_open(b, node, true);
        gen_bitmap_guest(b, node, true);
    }
}

void gen_bitmap_activity(struct bitmaps *b, unsigned span_bits)
{
    struct gen *gen = b->gen;

    for (size_t i = 0; i < b->guest_count; i++) {
        const struct bitmap_node *node = &b->nodes[i];

        if (!node->options || !gen_chance(gen, "activity", 250)) {
            continue;
        }
        int64_t time_ns = gen_time(gen, "activity.time", span_bits);
        gen_at(gen, time_ns, "try blockdev-set-active node-name=%s active=false", node->name);
        time_ns += gen_time(gen, "activity.length", span_bits);
        gen_at(gen, time_ns, "try blockdev-set-active node-name=%s active=true", node->name);
    }
}

void gen_bitmap_images_free(struct bitmaps *b)
{
    for (size_t i = 0; i < b->guest_count; i++) {
        free(b->nodes[i].options);
        b->nodes[i].options = NULL;
    }
}
