/*
 * Profile block: nodes that come, go, move and change while requests run. Everything tries: what is refused is part
 * of the game. What is drawn earlier happens earlier, so the generator knows what the graph is likely to be like.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/gen_block.h"

/* A node that is likely there; NULL when none of them fits. */
static struct block_node *pick(struct blocks *b, const char *what, bool (*fits)(const struct block_node *node))
{
    unsigned at = (unsigned)gen_draw(b->gen, what, b->node_count);

    for (unsigned i = 0; i < b->node_count; i++, at = (at + 1) % b->node_count) {
        if (b->nodes[at].there && (!fits || fits(&b->nodes[at]))) {
            return &b->nodes[at];
        }
    }
    return NULL;
}

static bool is_swappable(const struct block_node *node)
{
    return node->kind == BLOCK_RAW || node->kind == BLOCK_THROTTLE || node->kind == BLOCK_PREALLOCATE;
}

static bool is_raw(const struct block_node *node)
{
    return node->kind == BLOCK_RAW;
}

static bool is_throttle(const struct block_node *node)
{
    return node->kind == BLOCK_THROTTLE;
}

static bool is_unused(const struct block_node *node)
{
    return node->parents == 0 && !node->guest;
}

static bool is_quorum(const struct block_node *node)
{
    return node->kind == BLOCK_QUORUM;
}

static bool is_inner(const struct block_node *node)
{
    return is_swappable(node) && gen_block_has_one_child(node->child[0]);
}

/* --- reopen ------------------------------------------------------------------------------------------------ */

static void write_reopen(struct blocks *b, int64_t time_ns, const struct block_node *first,
                         const struct block_node *second)
{
    char *one = gen_block_json(first);
    char *two = second ? gen_block_json(second) : NULL;

    gen_at(b->gen, time_ns, "try blockdev-reopen options=[%s%s%s]", one, two ? "," : "", two ? two : "");
    free(one);
    free(two);
}

static void change_child(struct block_node *node, struct block_node *child)
{
    node->child[0]->parents--;
    node->child[0] = child;
    child->parents++;
}

/* Generic options of any node; what cannot be changed is restated. */
static void reopen_flags(struct blocks *b, int64_t time_ns)
{
    struct gen *gen = b->gen;
    struct block_node *node = pick(b, "flags.node", NULL);
    struct block_node was = *node;

    switch (gen_draw(gen, "flags.which", 6)) {
    case 0:
        node->read_only = !node->read_only;
        break;
    case 1:
        node->no_flush = !node->no_flush;
        break;
    case 2:
        node->direct = !node->direct;
        break;
    case 3:
        node->detect_zeroes = GEN_PICK(gen, "flags.detect", "off", "on", "unmap"); /* refused without discard */
        break;
    default:
        node->unmap = !node->unmap;
    }
    write_reopen(b, time_ns, node, NULL);
    if (node->read_only || node->kind == BLOCK_QUORUM || node->kind == BLOCK_VERIFY || node->kind == BLOCK_COR) {
        *node = was; /* refused, or shall not last */
    }
}

static void reopen_window(struct blocks *b, int64_t time_ns)
{
    struct block_node *node = pick(b, "window.node", is_raw);
    int64_t sectors;

    if (!node || gen_block_is_below_overlay(b, node)) {
        return;
    }
    sectors = node->child[0]->bytes / SIM_SECTOR_BYTES;
    node->window = gen_range(b->gen, "rewindow.size", 0, sectors) * SIM_SECTOR_BYTES;
    node->offset = gen_range(b->gen, "rewindow.offset", 0, sectors) * SIM_SECTOR_BYTES;
    if (gen_draw(b->gen, "rewindow.fits", 4)) { /* mostly one that lies within the file */
        node->offset = MIN(node->offset, node->child[0]->bytes - node->window);
        node->offset = MAX(node->offset, (int64_t)0);
    }
    node->bytes = node->window ? node->window : node->child[0]->bytes;
    write_reopen(b, time_ns, node, NULL);
}

static void reopen_group(struct blocks *b, int64_t time_ns)
{
    struct block_node *node = pick(b, "regroup.node", is_throttle);

    if (node) {
        node->group = (unsigned)gen_draw(b->gen, "regroup.group", BLOCK_GROUPS);
        write_reopen(b, time_ns, node, NULL);
        node->group %= b->group_count;
    }
}

/* Two nodes get each other's file, in one command or, refused, in two. */
static void swap(struct blocks *b, int64_t time_ns)
{
    struct block_node *one = pick(b, "swap.one", is_swappable);
    struct block_node *two = pick(b, "swap.two", is_swappable);
    struct block_node *below;

    if (!one || !two || one == two || one->child[0] == two || two->child[0] == one ||
        gen_block_is_below_overlay(b, one) || gen_block_is_below_overlay(b, two)) {
        return;
    }
    below = one->child[0];
    change_child(one, two->child[0]);
    change_child(two, below);
    if (gen_draw(b->gen, "swap.whole", 5)) {
        write_reopen(b, time_ns, one, two);
    } else {
        write_reopen(b, time_ns, one, NULL);
        write_reopen(b, time_ns, two, NULL);
    }
}

/* Another node altogether below: whatever is there, cycles included. */
static void move(struct blocks *b, int64_t time_ns)
{
    struct block_node *node = pick(b, "move.node", is_swappable);
    struct block_node *child =
        gen_draw(b->gen, "move.any", 3) ? pick(b, "move.child", is_unused) : pick(b, "move.child", NULL);
    struct block_node was;

    if (!node || !child || child == node || gen_block_is_below_overlay(b, node)) {
        return;
    }
    was = *node;
    node->child[0] = child;
    write_reopen(b, time_ns, node, NULL);
    *node = was;
    if (is_unused(child) && child->bytes == node->bytes) {
        change_child(node, child);
    }
}

static void insert(struct blocks *b, int64_t time_ns)
{
    struct block_node *above = pick(b, "insert.above", is_swappable);
    struct block_node *filter;
    char *line;

    if (!above) {
        return;
    }
    filter = gen_block_layer(b, gen_block_layer_kind(b, "insert.kind"), above->child[0]);
    if (!filter) {
        return;
    }
    line = gen_block_add(filter);
    gen_at(b->gen, time_ns, "try %s", line);
    free(line);
    change_child(above, filter);
    time_ns += gen_draw(b->gen, "insert.at-once", 2) ? 0 : gen_time(b->gen, "insert.pause", 7);
    write_reopen(b, time_ns, above, NULL);
}

/* The node between two others goes; it may be deleted then. */
static void take_out(struct blocks *b, int64_t time_ns)
{
    struct block_node *above = pick(b, "out.above", is_inner);
    struct block_node *filter = above ? above->child[0] : NULL;

    if (!filter) {
        return;
    }
    change_child(above, filter->child[0]);
    write_reopen(b, time_ns, above, NULL);
    if (filter->parents == 0 && !filter->guest && gen_draw(b->gen, "out.delete", 4)) {
        gen_at(b->gen, time_ns, "try blockdev-del node-name=%s", filter->name);
        filter->there = false;
        filter->child[0]->parents--;
    }
}

/* --- others ------------------------------------------------------------------------------------------------ */

static void add(struct blocks *b, int64_t time_ns)
{
    struct block_node *below = pick(b, "add.below", gen_draw(b->gen, "add.any", 3) ? is_unused : NULL);
    struct block_node *node = below ? gen_block_layer(b, gen_block_layer_kind(b, "add.kind"), below) : NULL;
    char *line;

    if (node) {
        line = gen_block_add(node);
        gen_at(b->gen, time_ns, "try %s", line);
        free(line);
    }
}

static void remove_node(struct blocks *b, int64_t time_ns)
{
    struct block_node *node = pick(b, "del.node", gen_draw(b->gen, "del.any", 4) ? is_unused : NULL);

    if (!node) {
        return;
    }
    gen_at(b->gen, time_ns, "try blockdev-del node-name=%s", node->name);
    if (is_unused(node)) {
        node->there = false;
        for (unsigned i = 0; i < node->child_count; i++) {
            node->child[i]->parents--;
        }
    }
}

static void change_quorum(struct blocks *b, int64_t time_ns)
{
    struct block_node *quorum = pick(b, "change.quorum", gen_draw(b->gen, "change.any", 8) ? is_quorum : NULL);
    struct block_node *node = pick(b, "change.node", is_unused);

    if (!quorum) {
        return;
    }
    /* a child that has other content than the rest would win votes: it is added only to go again */
    if (gen_draw(b->gen, "change.how", 2) && node && node->kind != BLOCK_DISK) {
        gen_at(b->gen, time_ns, "try x-blockdev-change parent=%s node=%s child=children.0", quorum->name,
               node->name);
    } else {
        gen_at(b->gen, time_ns, "try x-blockdev-change parent=%s child=children.%" PRId64, quorum->name,
               gen_range(b->gen, "change.child", 0, 3));
    }
}

static int64_t draw_length(struct blocks *b, const struct block_node *node)
{
    struct gen *gen = b->gen;
    int64_t step = SIM_SECTOR_BYTES << gen_draw(gen, "resize.step", 12);
    int64_t odd = gen_range(gen, "resize.odd", 1, 5000);
    int64_t by = gen_range(gen, "resize.by", 1, 3) * step;

    switch (gen_draw(gen, "resize.kind", 10)) {
    case 0:
        return gen_range(gen, "resize.small", 0, 3) * SIM_SECTOR_BYTES;
    case 1:
        return node->bytes / 2;
    case 2:
        return node->bytes * 2;
    case 3:
        return node->bytes - MIN(node->bytes, odd);
    case 4:
    case 5:
        return node->bytes;
    case 6:
    case 7:
        return node->bytes - MIN(node->bytes, by);
    default:
        return node->bytes + by;
    }
}

static void resize(struct blocks *b, int64_t time_ns)
{
    struct block_node *node = pick(b, "resize.node", NULL);
    const struct block_stack *stack = &b->stacks[gen_draw(b->gen, "resize.stack", b->stack_count)];
    char text[24];

    switch (gen_draw(b->gen, "resize.how", 5)) {
    case 0:
        gen_at(b->gen, time_ns, "try io %s truncate %s", stack->guest,
               sim_format_size(draw_length(b, stack->top), text));
        break;
    case 1:
    case 2:
        gen_at(b->gen, time_ns, "try block_resize node-name=%s size=%s", stack->top->name,
               sim_format_size(draw_length(b, stack->top), text));
        break;
    default:
        gen_at(b->gen, time_ns, "try block_resize node-name=%s size=%s", node->name,
               sim_format_size(draw_length(b, node), text));
    }
}

/* --- which ------------------------------------------------------------------------------------------------- */

static const struct {
    const char *feature;
    void (*write)(struct blocks *b, int64_t time_ns);
    unsigned weight;
} changes[] = {
    {"reopen", reopen_flags, 22},
    {"window-moves", reopen_window, 6},
    {"regroup", reopen_group, 6},
    {"swap", swap, 14},
    {"move", move, 8},
    {"insert", insert, 16},
    {"take-out", take_out, 14},
    {"add", add, 8},
    {"del", remove_node, 7},
    {"quorum-change", change_quorum, 6},
    {"snapshot", gen_block_overlay, 7},
    {"header", gen_block_header, 2},
    {"internal", gen_block_internal, 6},
    {"resize", resize, 12},
};

void gen_block_graph_change(struct blocks *b, int64_t time_ns)
{
    uint64_t total = 0;
    uint64_t at;
    size_t i = 0;

    for (size_t k = 0; k < ARRAY_SIZE(changes); k++) {
        total += changes[k].weight;
    }
    for (at = gen_draw(b->gen, "change", total); at >= changes[i].weight; i++) {
        at -= changes[i].weight;
    }
    if (gen_chance(b->gen, changes[i].feature, 1000)) {
        changes[i].write(b, time_ns);
    }
}
