/*
 * Profile block: what goes through the graph, and what holds it up.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/gen_block.h"

static const struct block_stack *any_stack(struct blocks *b, const char *what)
{
    return &b->stacks[gen_draw(b->gen, what, b->stack_count)];
}

/* --- requests ---------------------------------------------------------------------------------------------- */

static void add_work(struct blocks *b)
{
    struct gen *gen = b->gen;
    int64_t count = gen_chance(gen, "work", 930) ? gen_range(gen, "work.count", 1, 3) : 0;

    for (int64_t i = 0; i < count; i++) {
        const struct block_stack *stack = any_stack(b, "work.guest");
        int64_t time_ns = gen_draw(gen, "work.early", 3) ? 0 : gen_time(gen, "work.time", 10);
        const char *profile = GEN_PICK(gen, "work.profile", "uniform", "hot", "hot", "sequential", "edges");
        int64_t ops = gen_range(gen, "work.ops", 4, 60);
        int64_t depth = gen_range(gen, "work.depth", 1, 12);
        int64_t reads = gen_range(gen, "work.read", 0, 60);
        int64_t zeroes = gen_range(gen, "work.zero", 0, 30);
        int64_t discards = gen_range(gen, "work.discard", 0, 30);
        int64_t flushes = gen_range(gen, "work.flush", 0, 15);
        int64_t top = SIM_SECTOR_BYTES << gen_draw(gen, "work.top", 9);
        const char *think = GEN_PICK(gen, "work.think", "", "", "", " think=20us", " think=200us");
        char text[32];

        gen_at(gen, time_ns,
               "try workload %s ops=%" PRId64 " depth=%" PRId64 " profile=%s read=%" PRId64 " zero=%" PRId64
               " discard=%" PRId64 " flush=%" PRId64 " min=512 max=%s%s%s",
               stack->guest, ops, depth, profile, reads, zeroes, discards, flushes, sim_format_size(top, text),
               think, stack->top->bytes >= GiB ? " length=4M" : "");
    }
}

static void add_io(struct blocks *b, unsigned span_bits)
{
    static const char *const ops[] = {"aio_write",       "aio_write",       "aio_write",         "aio_write -z",
                                      "aio_write -z -u", "aio_write -z -n", "aio_write -f",      "aio_discard",
                                      "aio_read",        "aio_read",        "aio_write -P 0x11", "aio_write -P 0"};
    struct gen *gen = b->gen;
    int64_t count = gen_chance(gen, "io", 700) ? gen_range(gen, "io.count", 1, 8) : 0;

    for (int64_t i = 0; i < count; i++) {
        const struct block_stack *stack = any_stack(b, "io.guest");
        int64_t time_ns = gen_time(gen, "io.time", span_bits);
        const char *op = gen_pick(gen, "io.op", ops, ARRAY_SIZE(ops));
        int64_t sectors = MAX(MIN(stack->top->bytes, 4 * MiB) / SIM_SECTOR_BYTES, (int64_t)1);
        int64_t drawn = gen_scale(gen, "io.length", 9);
        int64_t length = MIN(drawn, sectors) * SIM_SECTOR_BYTES;
        int64_t offset = gen_range(gen, "io.offset", 0, sectors - length / SIM_SECTOR_BYTES) * SIM_SECTOR_BYTES;

        if (gen_draw(gen, "io.flush", 12) == 0) {
            gen_at(gen, time_ns, "try io %s aio_flush", stack->guest);
        } else {
            gen_at(gen, time_ns, "try io %s %s %" PRId64 " %" PRId64, stack->guest, op, offset, length);
        }
    }
}

static void add_faults(struct blocks *b)
{
    struct gen *gen = b->gen;
    int64_t count = b->fallible_count && gen_chance(gen, "fault", 250) ? gen_range(gen, "fault.count", 1, 2) : 0;

    for (int64_t i = 0; i < count; i++) {
        int64_t time_ns = gen_draw(gen, "fault.early", 2) ? 0 : gen_time(gen, "fault.time", 10);
        char *line = gen_fault(gen, "fault.one", b->fallible_names, b->fallible_count, b->nodes[0].bytes);

        if (line) {
            gen_at(gen, time_ns, "try %s", line);
        }
        free(line);
    }
}

static void add_stop(struct blocks *b)
{
    int64_t time_ns = gen_time(b->gen, "stop.time", 11);

    if (gen_chance(b->gen, "stop", 80)) {
        gen_at(b->gen, time_ns, "try stop");
        gen_at(b->gen, time_ns + gen_time(b->gen, "stop.length", 10), "try cont");
    }
}

void gen_block_load(struct blocks *b, unsigned span_bits)
{
    add_faults(b);
    add_work(b);
    add_io(b, span_bits);
    add_stop(b);
}

/* --- limits, thresholds, breakpoints ----------------------------------------------------------------------- */

/* block_set_io_throttle: makes the guest's backend a member of a group, or takes it out. */
static void limit_guest(struct blocks *b, int64_t time_ns)
{
    struct gen *gen = b->gen;
    const struct block_stack *stack = any_stack(b, "limit.guest");
    int64_t rates[6] = {0};
    char more[96] = "";
    uint64_t which = gen_draw(gen, "limit.which", 8);

    if (which < 6) {
        rates[which] =
            which < 3 ? gen_scale(gen, "limit.rate", 10) * 64 * KiB : gen_scale(gen, "limit.rate", 10) * 16;
    } else if (which == 6) { /* a total and its parts: refused */
        rates[0] = rates[1] = MiB;
    }
    if (which == 3 && gen_draw(gen, "limit.burst", 2)) {
        snprintf(more, sizeof(more), " iops_max=%" PRId64 " iops_max_length=2", rates[3] * 4);
    }
    if (gen_draw(gen, "limit.group?", 3) == 0) {
        size_t used = strlen(more);

        snprintf(more + used, sizeof(more) - used, " group=tg%" PRId64, gen_range(gen, "limit.group", 0, 2));
    }
    gen_at(gen, time_ns,
           "try block_set_io_throttle id=%s bps=%" PRId64 " bps_rd=%" PRId64 " bps_wr=%" PRId64 " iops=%" PRId64
           " iops_rd=%" PRId64 " iops_wr=%" PRId64 "%s",
           stack->guest, rates[0], rates[1], rates[2], rates[3], rates[4], rates[5], more);
}

static void limit_group(struct blocks *b, int64_t time_ns)
{
    char buf[256];
    unsigned group = (unsigned)gen_draw(b->gen, "group.which", b->group_count);
    const char *limits = gen_block_limits(b, "group.limits", buf);

    gen_at(b->gen, time_ns, "try qom-set path=/objects/tg%u property=limits value=%s", group, limits);
}

static void handle_group(struct blocks *b, int64_t time_ns)
{
    gen_at(b->gen, time_ns, "try %s",
           GEN_PICK(b->gen, "object", "object-del id=tg0", "object-del id=tg1", "qom-get path=tg0 property=limits",
                    "object-add qom-type=throttle-group id=tg1", "object-del id=tg2"));
}

static void threshold(struct blocks *b, int64_t time_ns)
{
    const struct block_node *node = &b->nodes[gen_draw(b->gen, "threshold.node", b->node_count)];
    int64_t bytes = gen_draw(b->gen, "threshold.bytes", (uint64_t)MAX(node->bytes, (int64_t)1));

    gen_at(b->gen, time_ns, "try block-set-write-threshold node-name=%s write-threshold=%" PRId64, node->name,
           bytes);
}

static void breakpoint(struct blocks *b, int64_t time_ns)
{
    struct gen *gen = b->gen;
    const struct block_stack *stack = any_stack(b, "break.guest");
    char tag = (char)('A' + b->tags++ % 26);
    const char *event = GEN_PICK(gen, "break.event", "pwritev", "pwritev", "pwritev_done", "pwritev_zero",
                                 "write_aio", "read_aio", "pwritev_rmw_head", "pwritev_rmw_after_head",
                                 "pwritev_rmw_after_tail", "flush_to_disk", "flush_to_os", "cor_write");

    gen_at(gen, time_ns, "try io %s break %s %c", stack->guest, event, tag);
    time_ns += gen_time(gen, "break.length", 11);
    gen_at(gen, time_ns, "try io %s resume %c", stack->guest, tag);
    if (gen_draw(gen, "break.remove", 3)) {
        gen_at(gen, time_ns, "try io %s remove_break %c", stack->guest, tag);
    }
}

/* --- who else is there ------------------------------------------------------------------------------------- */

static void query(struct blocks *b, int64_t time_ns)
{
    gen_at(b->gen, time_ns, "%s",
           GEN_PICK(b->gen, "query", "query-named-block-nodes", "query-named-block-nodes flat=true", "query-block",
                    "query-blockstats", "query-blockstats query-nodes=true", "query-status"));
}

static void bitmap(struct blocks *b, int64_t time_ns)
{
    struct gen *gen = b->gen;
    const struct block_node *node = &b->nodes[gen_draw(gen, "bitmap.node", b->node_count)];
    int64_t granularity = SIM_SECTOR_BYTES << gen_draw(gen, "bitmap.granularity", 9);

    if (gen_draw(gen, "bitmap.how", 3)) {
        bool keeps = node->kind == BLOCK_IMAGE && gen_draw(gen, "bitmap.persistent", 3);

        gen_at(gen, time_ns, "try block-dirty-bitmap-add node=%s name=b0 granularity=%" PRId64 "%s", node->name,
               granularity, keeps ? " persistent=true" : "");
    } else {
        gen_at(gen, time_ns, "try block-dirty-bitmap-%s node=%s name=b0",
               GEN_PICK(gen, "bitmap.what", "clear", "remove", "disable", "enable"), node->name);
    }
}

static void mirror(struct blocks *b, int64_t time_ns)
{
    struct gen *gen = b->gen;
    const struct block_stack *stack = any_stack(b, "mirror.stack");
    const char *end = GEN_PICK(gen, "mirror.end", "block-job-complete device=m", "block-job-cancel device=m",
                               "block-job-cancel device=m force=true", "query-jobs");

    if (stack->top->bytes >= GiB || b->mirrors) {
        return;
    }
    b->mirrors++;
    gen_add(gen, "disk m");
    gen_add_size(gen, "size", stack->top->bytes);
    gen_line(gen, "%s", "");
    gen_line(gen, "try blockdev-add driver=disk node-name=m disk=m");
    gen_at(gen, time_ns, "try blockdev-mirror job-id=m device=%s target=m sync=full", stack->guest);
    gen_at(gen, time_ns + gen_time(gen, "mirror.length", 13), "try %s", end);
}

/* Mostly a whole stack, so that it is not refused; now and then nobody takes it back before the end. */
static void activity(struct blocks *b, int64_t time_ns)
{
    struct gen *gen = b->gen;
    uint64_t which = gen_draw(gen, "activity.which", 8);
    const struct block_node *node =
        which < 5 ? any_stack(b, "activity.stack")->top : &b->nodes[gen_draw(gen, "activity.node", b->node_count)];
    char name[32] = "";

    if (which < 7) {
        snprintf(name, sizeof(name), " node-name=%s", node->name);
    }
    gen_at(gen, time_ns, "try blockdev-set-active%s active=false", name);
    time_ns += gen_time(gen, "activity.length", 10);
    if (gen_draw(gen, "activity.kept", 6)) {
        gen_at(gen, time_ns, "try blockdev-set-active%s active=true", gen_draw(gen, "activity.all", 4) ? name : "");
    }
}

static const struct {
    const char *feature;
    void (*write)(struct blocks *b, int64_t time_ns);
    unsigned weight;
} events[] = {
    {"limit", limit_guest, 12},   {"group", limit_group, 12}, {"object", handle_group, 4},
    {"threshold", threshold, 14}, {"break", breakpoint, 14},  {"query", query, 10},
    {"bitmap", bitmap, 5},        {"mirror", mirror, 2},      {"activity", activity, 5},
};

void gen_block_event(struct blocks *b, int64_t time_ns)
{
    uint64_t total = 0;
    uint64_t at;
    size_t i = 0;

    for (size_t k = 0; k < ARRAY_SIZE(events); k++) {
        total += events[k].weight;
    }
    for (at = gen_draw(b->gen, "event", total); at >= events[i].weight; i++) {
        at -= events[i].weight;
    }
    if (gen_chance(b->gen, events[i].feature, 1000)) {
        events[i].write(b, time_ns);
    }
}
