/*
 * Profile bitmap: many dirty bitmaps on a few nodes, every operation on them alone and in transactions that fail,
 * while guests write.
 *
 * The story: disks, nodes, guests; a quiet phase with known answers; then rounds of operations, guest requests,
 * faults, resizes and now and then a mirror, sorted by time, with rests between at which checkers compare.
 */
#include "scenario/gen_bitmap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const features[] = {
    "empty",    "huge",
    "raw",      "below",
    "align",    "device",
    "enospc",   "stamp",
    "unmap",    "limited",
    "pieces",   "twin",
    "quiet",    "fault",
    "relief",   "work",
    "io",       "mirror",
    "stop",     "transaction",
    "resize",   "owner",
    "merge",    "power",
    "rest",     "fail-at",
    "same",     "invalid",
    "qcow2",    "backing",
    "reload",   "activity",
    "internal", GEN_IMAGE_FEATURES,
    NULL,
};

/* --- drawing ---------------------------------------------------------------------------------------------- */

/* Frozen ones are there, but refuse most of what is asked of them. */
static bool fits(const struct bitmap_node *node, unsigned index, bool there)
{
    return there ? node->made[index] && !node->frozen[index] : !node->made[index];
}

static bool any_fits(const struct bitmap_node *node, bool there)
{
    for (unsigned i = 0; i < BITMAP_NAMES; i++) {
        if (fits(node, i, there)) {
            return true;
        }
    }
    return false;
}

struct bitmap_pick gen_bitmap_pick_on(struct bitmaps *b, const char *what, struct bitmap_node *node, bool there)
{
    struct bitmap_pick pick = {.node = node};
    unsigned start = (unsigned)gen_draw(b->gen, what, BITMAP_NAMES);
    bool any = gen_draw(b->gen, what, 20) == 0;

    pick.index = start;
    for (unsigned i = 0; i < BITMAP_NAMES && !any; i++) {
        pick.index = (start + i) % BITMAP_NAMES;
        if (fits(node, pick.index, there)) {
            break;
        }
    }
    snprintf(pick.name, sizeof(pick.name), "b%u", pick.index);
    return pick;
}

struct bitmap_pick gen_bitmap_pick(struct bitmaps *b, const char *what, bool there)
{
    size_t at = (size_t)gen_draw(b->gen, what, b->node_count);

    for (size_t i = 0; i < b->node_count && !any_fits(&b->nodes[at], there); i++) {
        at = (at + 1) % b->node_count;
    }
    return gen_bitmap_pick_on(b, what, &b->nodes[at], there);
}

int64_t gen_bitmap_granularity(struct bitmaps *b, const char *what)
{
    uint64_t kind = gen_draw(b->gen, what, 100);

    if (gen_chance(b->gen, "invalid", 15)) {
        return gen_range(b->gen, what, 0, 5000);
    }
    return (int64_t)SIM_SECTOR_BYTES << gen_draw(b->gen, what, kind < 75 ? 9 : 23);
}

bool gen_bitmap_place(struct bitmaps *b, const char *what, const struct bitmap_node *node, int64_t most,
                      int64_t *offset, int64_t *bytes)
{
    int64_t sectors = node->bytes / SIM_SECTOR_BYTES;
    int64_t count;

    if (!sectors) {
        return false;
    }
    count = gen_scale(b->gen, what, (unsigned)(64 - __builtin_clzll((uint64_t)(most / SIM_SECTOR_BYTES))));
    count = MIN(count, sectors);
    switch (gen_draw(b->gen, what, 4)) {
    case 0:
        *offset = 0;
        break;
    case 1:
        *offset = (sectors - count) * SIM_SECTOR_BYTES;
        break;
    default:
        *offset = gen_range(b->gen, what, 0, sectors - count) * SIM_SECTOR_BYTES;
    }
    *bytes = count * SIM_SECTOR_BYTES;
    return true;
}

/* --- the world -------------------------------------------------------------------------------------------- */

static int64_t draw_bytes(struct bitmaps *b)
{
    struct gen *gen = b->gen;
    uint64_t kind = gen_draw(gen, "size.kind", 100);

    if (gen_chance(gen, "empty", 30)) {
        return 0;
    }
    if (gen_chance(gen, "huge", 50)) {
        int64_t tail = gen_range(gen, "size.tail", 0, 9) * SIM_SECTOR_BYTES;

        return gen_range(gen, "size.huge", 1, 16) * GiB + tail;
    }
    if (kind < 4) {
        return SIM_SECTOR_BYTES;
    }
    if (kind < 40) {
        return gen_range(gen, "size.odd", 1, 6000) * SIM_SECTOR_BYTES;
    }
    return gen_range(gen, "size.chunks", 1, 64) * 64 * KiB;
}

static void write_disk(struct bitmaps *b, struct bitmap_node *node)
{
    struct gen *gen = b->gen;
    static const int64_t latencies[] = {5 * NS_PER_US, 20 * NS_PER_US, 100 * NS_PER_US, NS_PER_MS};
    bool huge = node->bytes >= GiB;

    if (gen_bitmap_image(b, node)) {
        return;
    }
    gen_add(gen, "disk %s", node->disk);
    gen_add_size(gen, "size", node->bytes);
    if (gen_draw(gen, "latency?", 2)) {
        gen_add_time(gen, "latency", latencies[gen_draw(gen, "latency", ARRAY_SIZE(latencies))]);
    }
    if (gen_chance(gen, "device", 200)) {
        gen_add(gen, " type=device");
    }
    if (gen_chance(gen, "align", 200) && node->bytes % (4 * KiB) == 0) {
        node->align = KiB << 2 * gen_draw(gen, "align", 2);
        gen_add_size(gen, "align", node->align);
    }
    node->capped = node->bytes >= 64 * KiB && gen_chance(gen, "enospc", 120);
    if (node->capped) {
        gen_add_size(gen, "capacity",
                     gen_range(gen, "enospc.room", 1, MIN(node->bytes, 4 * MiB) / (4 * KiB)) * 4 * KiB);
    } else if (!huge && gen_chance(gen, "stamp", 400)) {
        gen_add(gen, " content=stamp");
    }
    if (!huge && gen_chance(gen, "limited", 80)) {
        gen_add(gen, gen_draw(gen, "limited", 2) ? " write-zeroes=off" : " discard=off");
    }
    if (!huge && gen_chance(gen, "pieces", 60)) {
        gen_add_size(gen, "max-transfer", 4 * KiB << gen_draw(gen, "pieces", 5));
    }
    gen_line(gen, "%s", "");
}

/* may_fail: after the power came back, faults are armed. */
static void write_node(struct bitmaps *b, const struct bitmap_node *node, const struct bitmap_node *below,
                       bool may_fail)
{
    struct gen *gen = b->gen;

    if (node->options) {
        gen_bitmap_image_open(b, node, may_fail);
        return;
    }
    gen_add(gen, "%sblockdev-add driver=%s node-name=%s", may_fail ? "try " : "", node->raw ? "raw" : "disk",
            node->name);
    gen_add(gen, node->raw ? " file.driver=disk file.disk=%s" : " disk=%s", node->disk);
    if (below) {
        gen_add(gen, " file.node-name=%s%s", below->name, node->unmap ? " file.discard=unmap" : "");
    }
    gen_line(gen, "%s", node->unmap ? " discard=unmap" : "");
}

void gen_bitmap_guest(struct bitmaps *b, const struct bitmap_node *node, bool may_fail)
{
    struct gen *gen = b->gen;
    const char *werror = GEN_PICK(gen, "guest.werror", "", "report", "report", "ignore", "stop");

    gen_add(gen, "%sguest %s node=%s", may_fail ? "try " : "", node->guest, node->name);
    if (gen_draw(gen, "guest.queue?", 3) == 0) {
        gen_add(gen, " queue-depth=%" PRId64, gen_range(gen, "guest.queue", 1, 16));
    }
    gen_line(gen, "%s%s", *werror ? " werror=" : "", werror);
}

/* The node that stands below this one, if it has a name. Names are n0, n1, ... and f0 below n0. */
static const struct bitmap_node *below(const struct bitmaps *b, const struct bitmap_node *node)
{
    for (size_t i = b->guest_count; i < b->node_count; i++) {
        if (b->nodes[i].name[0] == 'f' && b->nodes[i].name[1] == node->name[1]) {
            return &b->nodes[i];
        }
    }
    return NULL;
}

static void write_nodes(struct bitmaps *b, bool may_fail)
{
    for (size_t i = 0; i < b->guest_count; i++) {
        write_node(b, &b->nodes[i], below(b, &b->nodes[i]), may_fail);
        gen_bitmap_guest(b, &b->nodes[i], may_fail);
    }
}

static void make_node(struct bitmaps *b, unsigned i)
{
    struct bitmap_node *node = &b->nodes[i];

    snprintf(node->name, sizeof(node->name), "n%u", i);
    snprintf(node->disk, sizeof(node->disk), "disk%u", i);
    snprintf(node->guest, sizeof(node->guest), "g%u", i);
    node->align = SIM_SECTOR_BYTES;
    /* merges want equal sizes */
    node->bytes = draw_bytes(b);
    if (i > 0 && gen_chance(b->gen, "same", 600)) {
        node->bytes = b->nodes[0].bytes;
    }
    node->raw = gen_chance(b->gen, "raw", 400);
    node->unmap = gen_chance(b->gen, "unmap", 500);
}

static void write_world(struct bitmaps *b)
{
    b->guest_count = (size_t)gen_range(b->gen, "nodes", 1, 3);
    for (unsigned i = 0; i < b->guest_count; i++) {
        make_node(b, i);
        write_disk(b, &b->nodes[i]);
    }
    b->node_count = b->guest_count;
    for (unsigned i = 0; i < b->guest_count; i++) {
        const struct bitmap_node *node = &b->nodes[i];
        struct bitmap_node *file = &b->nodes[b->node_count];

        if (node->raw && gen_chance(b->gen, "below", 500)) {
            *file = *node;
            snprintf(file->name, sizeof(file->name), "f%u", i);
            file->guest[0] = '\0';
            b->node_count++;
        }
    }
    write_nodes(b, false);
    if (!b->nodes[0].options &&
        gen_chance(b->gen, "twin", 25)) { /* another node of the same medium: its own bitmaps, its own view */
        struct bitmap_node *twin = &b->nodes[b->node_count];

        SIM_ASSERT_LT(b->node_count, ARRAY_SIZE(b->nodes));
        b->twin = true;
        *twin = b->nodes[0];
        twin->raw = false;
        twin->guest[0] = '\0';
        snprintf(twin->name, sizeof(twin->name), "t0");
        write_node(b, twin, NULL, false);
        b->node_count++;
    }
}

/* --- a round ---------------------------------------------------------------------------------------------- */

static const struct bitmap_node *guest_node(struct bitmaps *b, const char *what)
{
    return &b->nodes[gen_draw(b->gen, what, b->guest_count)];
}

static void add_work(struct bitmaps *b)
{
    struct gen *gen = b->gen;
    int64_t count = gen_chance(gen, "work", 850) ? gen_range(gen, "work.count", 1, 2) : 0;

    for (int64_t i = 0; i < count; i++) {
        const struct bitmap_node *node = guest_node(b, "work.guest");
        int64_t time_ns = gen_draw(gen, "work.early", 2) ? 0 : gen_time(gen, "work.time", 10);
        const char *profile = GEN_PICK(gen, "work.profile", "uniform", "hot", "hot", "sequential", "edges");
        int64_t ops = gen_range(gen, "work.ops", 2, 40);
        int64_t depth = gen_range(gen, "work.depth", 1, 12);
        int64_t zeroes = gen_range(gen, "work.zero", 0, 30);
        int64_t discards = gen_range(gen, "work.discard", 0, 40);
        int64_t top = (int64_t)SIM_SECTOR_BYTES << gen_draw(gen, "work.top", 8);
        char text[32];

        if (node->bytes) {
            gen_at(gen, time_ns,
                   "try workload %s ops=%" PRId64 " depth=%" PRId64 " profile=%s zero=%" PRId64 " discard=%" PRId64
                   " min=512 max=%s%s",
                   node->guest, ops, depth, profile, zeroes, discards, sim_format_size(top, text),
                   node->bytes >= GiB ? " length=4M" : "");
        }
    }
}

static void add_io(struct bitmaps *b, int64_t span_bits)
{
    static const char *const ops[] = {"aio_write",       "aio_write",        "aio_write",   "aio_write -z",
                                      "aio_write -z -u", "aio_write -f",     "aio_discard", "aio_discard",
                                      "aio_read",        "aio_write -P 0x11"};
    int64_t count = gen_chance(b->gen, "io", 850) ? gen_range(b->gen, "io.count", 1, 10) : 0;

    for (int64_t i = 0; i < count; i++) {
        const struct bitmap_node *node = guest_node(b, "io.guest");
        int64_t time_ns = gen_time(b->gen, "io.time", (unsigned)span_bits);
        const char *op = gen_pick(b->gen, "io.op", ops, ARRAY_SIZE(ops));
        char at[24];
        char length[24];
        int64_t offset;
        int64_t bytes;

        if (gen_bitmap_place(b, "io.place", node, 256 * KiB, &offset, &bytes)) {
            bytes = gen_draw(b->gen, "io.empty", 30) ? bytes : 0; /* of no bytes: marks nothing */
            gen_at(b->gen, time_ns, "try io %s %s %s %s", node->guest, op, sim_format_size(offset, at),
                   sim_format_size(bytes, length));
        }
    }
}

static void add_faults(struct bitmaps *b)
{
    const char *disks[BITMAP_NODES];
    int64_t count = gen_chance(b->gen, "fault", 300) ? gen_range(b->gen, "fault.count", 1, 2) : 0;

    for (size_t i = 0; i < b->guest_count; i++) {
        disks[i] = b->nodes[i].disk;
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t time_ns = gen_draw(b->gen, "fault.early", 2) ? 0 : gen_time(b->gen, "fault.time", 10);
        char *line = gen_fault(b->gen, "fault.one", disks, b->guest_count, b->nodes[0].bytes);

        if (line) {
            gen_at(b->gen, time_ns, "try %s", line);
        }
        free(line);
    }
}

/* Somebody else with a bitmap of its own on the same node. */
static void add_mirror(struct bitmaps *b, int64_t round)
{
    struct gen *gen = b->gen;
    const struct bitmap_node *node = &b->nodes[0];
    int64_t time_ns = gen_time(gen, "mirror.time", 9);
    const char *device = GEN_PICK(gen, "mirror.device", "n0", "g0");
    int64_t granularity = (int64_t)SIM_SECTOR_BYTES << gen_draw(gen, "mirror.granularity", 9);

    if (node->bytes >= GiB || !gen_chance(gen, "mirror", 120)) {
        return;
    }
    gen_add(gen, "disk m%" PRId64, round);
    gen_add_size(gen, "size", node->bytes);
    gen_line(gen, "%s", "");
    gen_line(gen, "try blockdev-add driver=disk node-name=m%" PRId64 " disk=m%" PRId64, round, round);
    gen_at(gen, time_ns,
           "try blockdev-mirror job-id=m device=%s target=m%" PRId64 " sync=full granularity=%" PRId64, device,
           round, granularity);
    time_ns += gen_time(gen, "mirror.length", 13);
    gen_at(gen, time_ns, "try %s",
           GEN_PICK(gen, "mirror.end", "block-job-complete device=m", "block-job-cancel device=m",
                    "block-job-cancel device=m force=true", "query-jobs"));
}

static void add_stop(struct bitmaps *b)
{
    int64_t time_ns = gen_time(b->gen, "stop.time", 11);

    if (gen_chance(b->gen, "stop", 60)) {
        gen_at(b->gen, time_ns, "try stop");
        gen_at(b->gen, time_ns + gen_time(b->gen, "stop.length", 10), "try cont");
    }
}

static void add_relief(struct bitmaps *b)
{
    int64_t time_ns = gen_time(b->gen, "relief.time", 13);

    for (size_t i = 0; i < b->guest_count; i++) {
        if (b->nodes[i].capped && gen_chance(b->gen, "relief", 500)) {
            gen_at(b->gen, time_ns, "disk %s capacity=0", b->nodes[i].disk);
            gen_at(b->gen, time_ns, "try cont");
        }
    }
}

#define OPERATIONS_MAX 18

/* In order of time: what one makes, those after it are likely to find. */
static void draw_times(struct bitmaps *b, unsigned span, int64_t count, int64_t times[OPERATIONS_MAX])
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

static void write_round(struct bitmaps *b, int64_t round)
{
    struct gen *gen = b->gen;
    int64_t count = gen_range(gen, "ops.count", 4, OPERATIONS_MAX);
    int64_t times[OPERATIONS_MAX];
    unsigned span = (unsigned)gen_range(gen, "ops.span", 6, 13); /* microseconds, as a power of two */

    add_faults(b);
    add_work(b);
    add_io(b, span);
    add_mirror(b, round);
    draw_times(b, span, count, times);
    for (int64_t i = 0; i < count; i++) {
        if (gen_chance(gen, "transaction", 160)) {
            gen_bitmap_transaction(b, times[i]);
        } else {
            gen_bitmap_operation(b, times[i]);
        }
    }
    add_stop(b);
    gen_bitmap_activity(b, span);
    add_relief(b);
    gen_flush(gen);
    if (gen_chance(gen, "rest", 700)) {
        gen_line(gen, "%s", GEN_PICK(gen, "rest.how", "try settle", "try settle", "try check", "run 1ms"));
    }
}

/* Most operations want something to work on. */
static void write_first_bitmaps(struct bitmaps *b)
{
    int64_t count = gen_range(b->gen, "first", 0, 5);

    for (int64_t i = 0; i < count; i++) {
        struct bitmap_pick pick = gen_bitmap_pick(b, "first", false);

        gen_line(b->gen, "try block-dirty-bitmap-add node=%s name=%s granularity=%" PRId64, pick.node->name,
                 pick.name, gen_bitmap_granularity(b, "first.granularity"));
        pick.node->made[pick.index] = true;
    }
}

static void write_power(struct bitmaps *b)
{
    if (gen_chance(b->gen, "power", 25)) {
        gen_line(b->gen, "+%" PRId64 "us powerloss all", gen_scale(b->gen, "power.time", 12));
        write_nodes(b, true);
        for (size_t i = 0; i < b->node_count; i++) {
            memset(b->nodes[i].made, 0, sizeof(b->nodes[i].made));
            memset(b->nodes[i].frozen, 0, sizeof(b->nodes[i].frozen));
        }
    }
}

static void generate(struct sim *draw)
{
    struct bitmaps b = {.gen = gen_of(draw)};
    int64_t rounds = gen_range(b.gen, "rounds", 1, 4);

    gen_schedule(b.gen);
    write_world(&b);
    if (gen_chance(b.gen, "quiet", 400)) {
        gen_bitmap_quiet(&b);
    }
    write_first_bitmaps(&b);
    for (int64_t round = 0; round < rounds; round++) {
        write_round(&b, round);
        gen_bitmap_reload(&b);
        write_power(&b);
    }
    gen_bitmap_images_free(&b);
}

const struct gen_profile gen_bitmap_profile = {
    .profile =
        {
            .name = "bitmap",
            .doc = "many dirty bitmaps, every operation and failing transactions while guests write",
            .generate = generate,
        },
    .features = features,
};
