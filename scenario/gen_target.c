/*
 * Targets of copies: see gen_target.h.
 */
#include "scenario/gen_target.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void write_image(struct gen *gen, struct gen_target *t, int64_t bytes, const char *on)
{
    struct gen_image image;
    char *options;

    gen_image_draw(gen, "target", t->disk, bytes, 0, &image);
    if (on) { /* nothing of its own: what it stands on shows */
        image.preallocation = NULL;
        image.raw_data = false;
    }
    gen_image_write(gen, "target", &image, 0);
    options = gen_image_options(gen, "target", &image, false);
    gen_line(gen, "blockdev-add driver=qcow2 node-name=%s file.driver=disk file.disk=%s%s%s%s%s", t->node, t->disk,
             options, strstr(options, "discard=unmap") ? " file.discard=unmap" : "", on ? " backing=" : "",
             on ? on : "");
    free(options);
    t->compresses = !image.data[0] && !image.preallocation; /* what is there already refuses */
}

static void write_quorum(struct gen *gen, const struct gen_target *t, int64_t bytes)
{
    gen_line(gen, "disk %ss size=%" PRId64, t->disk, bytes);
    gen_line(gen, "blockdev-add driver=disk node-name=%sa disk=%s", t->node, t->disk);
    gen_line(gen, "blockdev-add driver=disk node-name=%sb disk=%ss", t->node, t->disk);
    gen_line(gen, "blockdev-add driver=quorum node-name=%s children=[\"%sa\",\"%sb\"] vote-threshold=1", t->node,
             t->node, t->node);
}

static void write_disk(struct gen *gen, struct gen_target *t, int64_t bytes)
{
    gen_add(gen, "disk %s", t->disk);
    if (!t->image) {
        gen_add_size(gen, "size", bytes);
        if (!t->quorum && bytes <= 64 * MiB && gen_chance(gen, "garbage", 250)) {
            gen_add(gen, " content=stamp"); /* what was there before must not survive */
        } else if (!t->quorum && bytes >= 64 * KiB && gen_chance(gen, "enospc", 80)) {
            t->capped = true;
            gen_add(gen, " capacity=%" PRId64 "k", gen_range(gen, "enospc.room", 4, 4 + bytes / (8 * KiB)) * 4);
        }
    }
    gen_line(gen, "%s", GEN_PICK(gen, "target.latency", "", "", " latency=20us", " latency=100us", " latency=1ms"));
}

void gen_target_write(struct gen *gen, struct gen_target *t, unsigned number, const struct chain *of,
                      const char *on)
{
    int64_t bytes = gen_chain_top(of)->bytes;

    *t = (struct gen_target){.of = of, .stands = on != NULL};
    t->image = on || gen_chance(gen, "target-image", 450);
    t->quorum = !t->image && gen_chance(gen, "quorum", 150);
    snprintf(t->node, sizeof(t->node), "t%u", number);
    snprintf(t->disk, sizeof(t->disk), "td%u", number);
    write_disk(gen, t, bytes);
    if (t->image) {
        write_image(gen, t, bytes, on);
    } else if (t->quorum) {
        write_quorum(gen, t, bytes);
    } else {
        gen_line(gen, "blockdev-add driver=raw node-name=%s file.driver=disk file.disk=%s%s", t->node, t->disk,
                 gen_draw(gen, "target.unmap", 2) ? " discard=unmap file.discard=unmap" : "");
    }
}
