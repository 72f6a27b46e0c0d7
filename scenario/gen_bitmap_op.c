/*
 * Profile bitmap: single operations. Everything tries: what is refused is part of the game.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/gen_bitmap.h"

/* --- commands --------------------------------------------------------------------------------------------- */

static void add(struct bitmaps *b, int64_t time_ns)
{
    struct gen *gen = b->gen;
    struct bitmap_pick pick = gen_bitmap_pick(b, "add", false);
    bool disabled = gen_draw(gen, "add.disabled", 5) == 0;
    bool persistent = gen_draw(gen, "add.persistent", pick.node->options ? 2 : 40) == 0;
    char granularity[48] = "";

    if (gen_draw(gen, "add.granularity?", 6)) {
        snprintf(granularity, sizeof(granularity), " granularity=%" PRId64,
                 gen_bitmap_granularity(b, "add.granularity"));
    }
    pick.node->made[pick.index] = true;
    gen_at(gen, time_ns, "try block-dirty-bitmap-add node=%s name=%s%s%s%s", pick.node->name, pick.name,
           granularity, disabled ? " disabled=true" : "", persistent ? " persistent=true" : "");
}

static void plain(struct bitmaps *b, int64_t time_ns, const char *command)
{
    struct bitmap_pick pick = gen_bitmap_pick(b, command, true);

    gen_at(b->gen, time_ns, "try %s node=%s name=%s", command, pick.node->name, pick.name);
}

static void remove_one(struct bitmaps *b, int64_t time_ns)
{
    struct bitmap_pick pick = gen_bitmap_pick(b, "remove", true);

    pick.node->made[pick.index] = pick.node->frozen[pick.index]; /* frozen ones stay */
    gen_at(b->gen, time_ns, "try block-dirty-bitmap-remove node=%s name=%s", pick.node->name, pick.name);
}

static void clear(struct bitmaps *b, int64_t time_ns)
{
    plain(b, time_ns, "block-dirty-bitmap-clear");
}

static void enable(struct bitmaps *b, int64_t time_ns)
{
    plain(b, time_ns, "block-dirty-bitmap-enable");
}

static void disable(struct bitmaps *b, int64_t time_ns)
{
    plain(b, time_ns, "block-dirty-bitmap-disable");
}

/* A hash of a large map costs more than the rest of the run. */
static void hash(struct bitmaps *b, int64_t time_ns)
{
    struct bitmap_pick pick = gen_bitmap_pick(b, "hash", true);

    if (pick.node->bytes < GiB) {
        gen_at(b->gen, time_ns, "try x-debug-block-dirty-bitmap-sha256 node=%s name=%s", pick.node->name,
               pick.name);
    }
}

static void query(struct bitmaps *b, int64_t time_ns)
{
    gen_at(b->gen, time_ns, "%s", GEN_PICK(b->gen, "query", "query-named-block-nodes", "query-block"));
}

/* --- merges ----------------------------------------------------------------------------------------------- */

void gen_bitmap_sources(struct bitmaps *b, const char *what, struct bitmap_node *node, struct scn_text *text)
{
    int64_t count = gen_draw(b->gen, what, 15) ? gen_range(b->gen, what, 1, 3) : 0;

    for (int64_t i = 0; i < count; i++) {
        bool unequal = gen_draw(b->gen, what, 12) == 0;
        struct bitmap_pick pick = gen_bitmap_pick(b, what, true);
        bool elsewhere = pick.node != node && (unequal || pick.node->bytes == node->bytes);
        char source[64];

        if (!elsewhere) {
            pick = gen_bitmap_pick_on(b, what, node, true);
        }
        snprintf(source, sizeof(source), elsewhere ? "{\"node\":\"%s\",\"name\":\"%s\"}" : "%.0s\"%s\"",
                 pick.node->name, pick.name);
        scn_text_str(text, i ? "," : "");
        scn_text_str(text, source);
    }
}

static void merge(struct bitmaps *b, int64_t time_ns)
{
    struct bitmap_pick pick = gen_bitmap_pick(b, "merge.target", true);
    struct scn_text sources = {.bytes = NULL};

    gen_bitmap_sources(b, "merge.sources", pick.node, &sources);
    gen_at(b->gen, time_ns, "try block-dirty-bitmap-merge node=%s target=%s bitmaps=[%s]", pick.node->name,
           pick.name, sources.bytes ? sources.bytes : "");
    free(sources.bytes);
}

/* --- owners ----------------------------------------------------------------------------------------------- */

static void freeze(struct bitmaps *b, int64_t time_ns)
{
    struct bitmap_pick pick = gen_bitmap_pick(b, "freeze", true);

    pick.node->frozen[pick.index] = true;
    gen_at(b->gen, time_ns, "try bitmap freeze %s %s", pick.node->name, pick.name);
}

/* Of one that is likely frozen. */
static void thaw(struct bitmaps *b, int64_t time_ns)
{
    struct bitmap_pick pick = gen_bitmap_pick(b, "thaw", true);

    for (size_t i = 0; i < BITMAP_NAMES * b->node_count && !pick.node->frozen[pick.index]; i++) {
        pick.index = (pick.index + 1) % BITMAP_NAMES;
        if (i % BITMAP_NAMES == 0 && i) {
            pick.node = pick.node + 1 == b->nodes + b->node_count ? b->nodes : pick.node + 1;
        }
    }
    pick.node->frozen[pick.index] = false;
    gen_at(b->gen, time_ns, "try bitmap %s %s b%u", GEN_PICK(b->gen, "thaw.how", "abdicate", "reclaim"),
           pick.node->name, pick.index);
}

static void iterate(struct bitmaps *b, int64_t time_ns)
{
    struct bitmap_pick pick = gen_bitmap_pick(b, "iterate", true);
    char text[32];

    gen_at(b->gen, time_ns, "try bitmap iterate %s %s hold=%s", pick.node->name, pick.name,
           sim_format_time(gen_time(b->gen, "iterate.hold", 7), text));
}

/* --- resizes ---------------------------------------------------------------------------------------------- */

/* Around what the node began with: a sector, a group, half, nothing, no whole sector. */
static int64_t draw_length(struct bitmaps *b, const struct bitmap_node *node)
{
    struct gen *gen = b->gen;
    int64_t step = (int64_t)SIM_SECTOR_BYTES << gen_draw(gen, "resize.step", 12);
    int64_t length = node->bytes;

    switch (gen_draw(gen, "resize.kind", 10)) {
    case 0:
        length = 0;
        break;
    case 1:
        length = node->bytes / 2;
        break;
    case 2:
        length = node->bytes * 2;
        break;
    case 3:
        length = node->bytes - gen_range(gen, "resize.odd", 1, 5000);
        break;
    case 4:
    case 5:
        break; /* back to what it was */
    case 6:
    case 7:
        length = node->bytes - step * gen_range(gen, "resize.by", 1, 3);
        break;
    default:
        length = node->bytes + step * gen_range(gen, "resize.by", 1, 3);
    }
    return MAX(length, (int64_t)0);
}

static void resize(struct bitmaps *b, int64_t time_ns)
{
    const struct bitmap_node *node = &b->nodes[gen_draw(b->gen, "resize.node", b->node_count)];
    char text[24];

    sim_format_size(draw_length(b, node), text);
    if (b->twin && strcmp(node->disk, b->nodes[0].disk) == 0) {
        return; /* takes the data of who uses the other node away, by command: nothing to be seen from it */
    }
    if (node->guest[0] && gen_draw(b->gen, "resize.io", 5) == 0) {
        gen_at(b->gen, time_ns, "try io %s truncate %s", node->guest, text);
    } else {
        gen_at(b->gen, time_ns, "try block_resize node-name=%s size=%s", node->name, text);
    }
}

/* --- which ------------------------------------------------------------------------------------------------ */

static const struct {
    void (*write)(struct bitmaps *b, int64_t time_ns);
    unsigned weight;
} operations[] = {
    {add, 26}, {remove_one, 7}, {clear, 9}, {enable, 6}, {disable, 6}, {hash, 3}, {query, 3},
};

void gen_bitmap_operation(struct bitmaps *b, int64_t time_ns)
{
    uint64_t total = 0;
    uint64_t at;
    size_t i = 0;

    if (gen_chance(b->gen, "owner", 300)) {
        at = gen_draw(b->gen, "owner.how", 7);
        (at < 3 ? freeze : at < 6 ? thaw : iterate)(b, time_ns);
        return;
    }
    if (gen_chance(b->gen, "merge", 180)) {
        merge(b, time_ns);
        return;
    }
    if (gen_chance(b->gen, "resize", 120)) {
        resize(b, time_ns);
        return;
    }
    if (gen_chance(b->gen, "internal", 40)) {
        gen_image_snapshot(b->gen, "internal.how", b->nodes[gen_draw(b->gen, "internal.node", b->guest_count)].name,
                           time_ns);
        return;
    }
    for (size_t k = 0; k < ARRAY_SIZE(operations); k++) {
        total += operations[k].weight;
    }
    for (at = gen_draw(b->gen, "operation", total); at >= operations[i].weight; i++) {
        at -= operations[i].weight;
    }
    operations[i].write(b, time_ns);
}
