/*
 * Profile block: graphs of filters, windows and voters, three to six deep, that change in every way while guests
 * use them.
 *
 * The story: throttle groups, stacks of nodes with a guest on each, some nodes in reserve; then rounds of graph
 * changes, limits, thresholds, breakpoints, faults and requests, sorted by time, with rests between at which the
 * checkers look.
 */
#include "scenario/gen_block.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const features[] = {
    "huge",
    "null",
    "quorum",
    "verify",
    "window",
    "device",
    "align",
    "enospc",
    "pieces",
    "limited",
    "unmap",
    "no-flush",
    "direct",
    "work",
    "detect-zeroes",
    "inject",
    "states",
    "io",
    "debug-align",
    "fault",
    "debug-limits",
    "stop",
    "debug-perms",
    "reopen",
    "regroup",
    "swap",
    "window-moves",
    "move",
    "quorum-change",
    "insert",
    "take-out",
    "add",
    "del",
    "resize",
    "snapshot",
    "limit",
    "group",
    "object",
    "threshold",
    "break",
    "query",
    "bitmap",
    "mirror",
    "relief",
    "rest",
    "spare",
    "share",
    "same",
    "qcow2",
    "backing",
    "activity",
    GEN_IMAGE_FEATURES,
    NULL,
};

/* --- the world --------------------------------------------------------------------------------------------- */

static int64_t draw_bytes(struct blocks *b)
{
    struct gen *gen = b->gen;

    if (b->stack_count && gen_chance(gen, "same", 700)) { /* files are swapped among stacks */
        return b->stacks[0].top->bytes;
    }
    if (gen_chance(gen, "huge", 40)) {
        return gen_range(gen, "size.huge", 1, 8) * GiB;
    }
    if (gen_draw(gen, "size.kind", 3) == 0) {
        return gen_range(gen, "size.odd", 1, 6000) * SIM_SECTOR_BYTES;
    }
    return gen_range(gen, "size.chunks", 1, 64) * 64 * KiB;
}

/* Two or three nodes with the same content, and who asks them all. fallible: it stands a failing child. */
static struct block_node *make_quorum(struct blocks *b, int64_t bytes)
{
    struct gen *gen = b->gen;
    unsigned count = (unsigned)gen_range(gen, "quorum.count", 1, BLOCK_CHILDREN);
    unsigned threshold = (unsigned)gen_range(gen, "quorum.threshold", 1, count);
    bool fifo = gen_draw(gen, "quorum.fifo", 5) == 0;
    bool rewrite = !fifo && gen_draw(gen, "quorum.rewrite", 3) == 0;
    bool safe = !fifo && 2 * threshold > count; /* otherwise a child that missed a write may be believed */
    struct block_node *children[BLOCK_CHILDREN];
    struct block_node *node;

    for (unsigned i = 0; i < count; i++) {
        children[i] = gen_block_disk(b, bytes, safe);
        if (safe && gen_draw(gen, "quorum.layer", 3) == 0) {
            children[i] =
                gen_block_layer(b, gen_draw(gen, "quorum.debug", 2) ? BLOCK_DEBUG : BLOCK_THROTTLE, children[i]);
        }
        children[i]->parents++;
    }
    node = gen_block_node(b, BLOCK_QUORUM);
    memcpy(node->child, children, sizeof(children[0]) * count);
    node->child_count = count;
    node->bytes = bytes;
    snprintf(node->own, sizeof(node->own), "\"vote-threshold\":%u%s%s", threshold,
             fifo ? ",\"read-pattern\":\"fifo\"" : "", rewrite ? ",\"rewrite-corrupted\":true" : "");
    return node;
}

static struct block_node *make_verify(struct blocks *b, int64_t bytes)
{
    struct block_node *raw = gen_block_disk(b, bytes, false);
    struct block_node *test = gen_block_disk(b, bytes, false);
    struct block_node *node = gen_block_node(b, BLOCK_VERIFY);

    node->child[0] = raw;
    node->child[1] = test;
    node->child_count = 2;
    raw->parents++;
    test->parents++;
    node->bytes = bytes;
    return node;
}

static struct block_node *make_null(struct blocks *b, int64_t bytes)
{
    struct block_node *node = gen_block_node(b, BLOCK_NULL);
    int64_t latency = gen_draw(b->gen, "null.latency", 3) * 20 * NS_PER_US;

    node->bytes = bytes;
    snprintf(node->own, sizeof(node->own), "\"size\":%" PRId64 ",\"latency-ns\":%" PRId64 "%s", bytes, latency,
             gen_draw(b->gen, "null.zeroes", 2) ? ",\"read-zeroes\":true" : "");
    return node;
}

static void write_node(struct blocks *b, const struct block_node *node)
{
    char *line = gen_block_add(node);

    gen_line(b->gen, "try %s", line); /* odd windows and permissions may be refused */
    free(line);
}

static void write_guest(struct blocks *b, const struct block_stack *stack)
{
    struct gen *gen = b->gen;
    const char *rerror = GEN_PICK(gen, "guest.rerror", "", "", "report", "ignore", "stop");

    gen_add(gen, "try guest %s node=%s", stack->guest, stack->top->name);
    if (gen_draw(gen, "guest.queue?", 3) == 0) {
        gen_add(gen, " queue-depth=%" PRId64, gen_range(gen, "guest.queue", 1, 16));
    }
    gen_add(gen, "%s%s", gen_chance(gen, "share", 60) ? " share-rw=true" : "",
            gen_draw(gen, "guest.cache", 10) == 0 ? " write-cache=off" : "");
    gen_add(gen, "%s%s", *rerror ? " rerror=" : "", rerror);
    gen_line(gen, "%s%s", *stack->werror ? " werror=" : "", stack->werror);
}

static void make_stack(struct blocks *b)
{
    struct gen *gen = b->gen;
    struct block_stack *stack = &b->stacks[b->stack_count];
    unsigned depth = (unsigned)gen_range(gen, "depth", 3, 6);
    int64_t bytes = draw_bytes(b);
    unsigned first = b->node_count;
    struct block_node *node;
    unsigned level = 2;

    if (bytes < GiB && gen_chance(gen, "quorum", 180)) {
        node = make_quorum(b, bytes);
    } else if (bytes < GiB && gen_chance(gen, "verify", 90)) {
        node = make_verify(b, bytes);
    } else {
        node = gen_chance(gen, "null", 70)     ? make_null(b, bytes)
               : gen_chance(gen, "qcow2", 250) ? gen_block_image(b, bytes)
                                               : gen_block_disk(b, bytes, true);
        level = 1;
    }
    for (; level < depth; level++) {
        node = gen_block_layer(b, gen_block_layer_kind(b, "layer"), node);
    }
    node->guest = true;
    for (unsigned i = first; i < b->node_count; i++) {
        write_node(b, &b->nodes[i]);
    }
    stack->top = node;
    snprintf(stack->guest, sizeof(stack->guest), "g%u", b->stack_count);
    snprintf(stack->werror, sizeof(stack->werror), "%s",
             GEN_PICK(gen, "guest.werror", "", "", "report", "ignore", "stop", "enospc"));
    b->stack_count++;
    write_guest(b, stack);
}

static void write_groups(struct blocks *b)
{
    b->group_count = (unsigned)gen_range(b->gen, "groups", 1, BLOCK_GROUPS);
    for (unsigned i = 0; i < b->group_count; i++) {
        char buf[256];
        const char *limits = gen_block_limits(b, "group.first", buf);

        gen_line(b->gen, "try object-add qom-type=throttle-group id=tg%u limits=%s", i, limits);
    }
}

/* Nodes that nobody uses yet. */
static void write_spares(struct blocks *b)
{
    int64_t count = gen_chance(b->gen, "spare", 700) ? gen_range(b->gen, "spare.count", 1, 2) : 0;

    for (int64_t i = 0; i < count; i++) {
        struct block_node *node = gen_block_disk(b, b->stacks[0].top->bytes, true);

        write_node(b, node);
        if (gen_draw(b->gen, "spare.layer", 2)) {
            write_node(b, gen_block_layer(b, gen_block_layer_kind(b, "spare.kind"), node));
        }
    }
}

/* --- a round ----------------------------------------------------------------------------------------------- */

#define OPERATIONS_MAX 14

/* In order of time: what one makes, those after it are likely to find. */
static void draw_times(struct blocks *b, unsigned span, int64_t count, int64_t times[OPERATIONS_MAX])
{
    SIM_ASSERT_LE(count, OPERATIONS_MAX);
    for (int64_t i = 0; i < count; i++) {
        int64_t time_ns = gen_time(b->gen, "ops.time", span);
        int64_t at = i;

        for (; at > 0 && times[at - 1] > time_ns; at--) {
            times[at] = times[at - 1];
        }
        times[at] = time_ns;
    }
}

static void add_relief(struct blocks *b)
{
    if (gen_chance(b->gen, "relief", 300)) {
        int64_t time_ns = gen_time(b->gen, "relief.time", 13);

        for (unsigned i = 0; i < b->fallible_count; i++) {
            gen_at(b->gen, time_ns, "disk %s capacity=0", b->fallible[i]);
        }
        gen_at(b->gen, time_ns, "try cont");
    }
}

static void write_round(struct blocks *b)
{
    struct gen *gen = b->gen;
    int64_t count = gen_range(gen, "ops.count", 3, OPERATIONS_MAX);
    int64_t times[OPERATIONS_MAX];
    unsigned span = (unsigned)gen_range(gen, "ops.span", 6, 13); /* microseconds, as a power of two */

    gen_block_load(b, span);
    draw_times(b, span, count, times);
    for (int64_t i = 0; i < count; i++) {
        if (gen_draw(gen, "what", 5) < 3) {
            gen_block_graph_change(b, times[i]);
        } else {
            gen_block_event(b, times[i]);
        }
    }
    add_relief(b);
    gen_flush(gen);
    if (gen_chance(gen, "rest", 700)) {
        gen_line(gen, "%s", GEN_PICK(gen, "rest.how", "try settle", "try settle", "try check", "run 1ms"));
    }
}

static void generate(struct sim *draw)
{
    struct blocks b = {.gen = gen_of(draw)};
    unsigned stacks = (unsigned)gen_range(b.gen, "stacks", 1, 2);
    int64_t rounds = gen_range(b.gen, "rounds", 1, 3);

    gen_schedule(b.gen);
    write_groups(&b);
    while (b.stack_count < stacks) {
        make_stack(&b);
    }
    write_spares(&b);
    for (int64_t round = 0; round < rounds; round++) {
        write_round(&b);
    }
}

const struct gen_profile gen_block_profile = {
    .profile =
        {
            .name = "block",
            .doc = "deep graphs that change under load, reopen, limits, thresholds, breakpoints and resizes",
            .generate = generate,
        },
    .features = features,
};
