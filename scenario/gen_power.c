/*
 * Profile power: guests work on qcow2 images, and the power fails.
 *
 * The story: images with all options and what lies below them, opened, a guest on each; then rounds of requests,
 * resizes, persistent bitmaps, snapshots and closing; at a drawn write or time of each the power fails, the images
 * are checked and opened again. At the end everything is closed and checked once more.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/gen_image.h"

static const char *const features[] = {
    GEN_IMAGE_FEATURES, "second",     "backing",  "align",  "no-cache", "cut",   "rounds", "repair", "compressed",
    "bitmap",           "snapshot",   "internal", "resize", "reopen",   "close", "fault",  "io",     "flush",
    "no-unmap",         "no-bitmaps", NULL,
};

#define POWER_IMAGES 2

struct power_image {
    struct gen_image image;
    unsigned levels;
    char node[12];
    char guest[12];
    char *options; /* with which it is opened */
    bool bitmaps;  /* those keep snapshots from being applied */
    bool made[4];  /* internal snapshots that are likely there, by the number in their name */
};

struct power {
    struct gen *gen;
    struct power_image images[POWER_IMAGES];
    unsigned count;
};

/* --- the world --------------------------------------------------------------------------------------------- */

static int64_t draw_bytes(struct gen *gen)
{
    switch (gen_draw(gen, "size.kind", 6)) {
    case 0:
        return gen_range(gen, "size.odd", 1, 4000) * SIM_SECTOR_BYTES;
    case 1:
        return gen_range(gen, "size.large", 8, 64) * MiB;
    default:
        return gen_range(gen, "size.chunks", 1, 64) * 64 * KiB;
    }
}

static void write_image(struct power *p, struct power_image *i, unsigned number)
{
    struct gen *gen = p->gen;
    char disk[12];

    snprintf(disk, sizeof(disk), "d%u", number);
    snprintf(i->node, sizeof(i->node), "q%u", number);
    snprintf(i->guest, sizeof(i->guest), "g%u", number);
    i->levels = gen_chance(gen, "backing", 300) ? (unsigned)gen_range(gen, "backing.levels", 1, 3) : 0;
    gen_image_draw(gen, "image", disk, draw_bytes(gen), i->levels, &i->image);
    gen_add(gen, "disk %s", disk);
    if (gen_chance(gen, "align", 80)) {
        gen_add(gen, " align=%s", GEN_PICK(gen, "align.bytes", "1k", "4k"));
    }
    gen_line(gen, "%s", gen_chance(gen, "no-cache", 40) ? " write-cache=off" : "");
    gen_image_write(gen, "image", &i->image, i->levels);
    i->bitmaps = !gen_chance(gen, "no-bitmaps", 350);
    i->options = gen_image_options(gen, "image.options", &i->image, false);
}

static void open_image(struct power *p, const struct power_image *i, bool surely)
{
    struct gen *gen = p->gen;

    gen_line(gen, "%sblockdev-add driver=qcow2 node-name=%s file.driver=disk file.disk=%s file.node-name=%sf%s%s",
             surely ? "" : "try ", i->node, i->image.disk, i->node, i->options,
             strstr(i->options, "discard=unmap") ? " file.discard=unmap" : "");
    gen_line(gen, "%sguest %s node=%s%s", surely ? "" : "try ", i->guest, i->node,
             gen_draw(gen, "guest.cache", 12) == 0 ? " write-cache=off" : "");
}

/* --- what happens ------------------------------------------------------------------------------------------ */

static void place(struct power *p, const struct power_image *i, int64_t unit, int64_t most, int64_t *offset,
                  int64_t *bytes)
{
    int64_t units = MAX(i->image.bytes / unit, (int64_t)1);

    *bytes = gen_range(p->gen, "place.length", 1, MAX(most / unit, (int64_t)1));
    *bytes = MIN(*bytes, units);
    *offset = gen_range(p->gen, "place.at", 0, units - *bytes) * unit;
    *bytes *= unit;
}

static void add_io(struct power *p, const struct power_image *i, int64_t time_ns)
{
    static const char *const ops[] = {"write",    "write",   "write",   "write -z",     "write -z -u",
                                      "write -f", "discard", "discard", "write -P 0x11"};
    struct gen *gen = p->gen;
    bool compressed = !i->image.data[0] && gen_chance(gen, "compressed", 200);
    const char *op = compressed ? "write -c" : gen_pick(gen, "io.op", ops, ARRAY_SIZE(ops));
    bool whole = compressed || gen_draw(gen, "io.whole", 3) == 0;
    int64_t offset, bytes;
    char at[24], length[24];

    place(p, i, whole ? i->image.cluster : SIM_SECTOR_BYTES, MAX(4 * i->image.cluster, (int64_t)(16 * KiB)),
          &offset, &bytes);
    if (compressed && gen_draw(gen, "io.pattern", 2)) {
        op = "write -c -P 0x5a"; /* compresses well: many share a cluster */
    }
    gen_at(gen, time_ns, "try io %s %s%s %s %s", i->guest, gen_draw(gen, "io.wait", 3) ? "aio_" : "", op,
           sim_format_size(offset, at), sim_format_size(bytes, length));
}

static void add_workload(struct power *p, const struct power_image *i, int64_t time_ns)
{
    struct gen *gen = p->gen;
    char top[24];
    int64_t ops = gen_range(gen, "work.ops", 4, 60);
    int64_t depth = gen_range(gen, "work.depth", 1, 8);
    int64_t zeroes = gen_range(gen, "work.zero", 0, 20);
    int64_t discards = gen_range(gen, "work.discard", 0, 20);
    int64_t flushes = gen_range(gen, "work.flush", 0, 20);
    const char *profile = GEN_PICK(gen, "work.profile", "uniform", "hot", "hot", "sequential", "edges");

    gen_at(gen, time_ns,
           "try workload %s ops=%" PRId64 " depth=%" PRId64 " profile=%s read=5 zero=%" PRId64 " discard=%" PRId64
           " flush=%" PRId64 " min=512 max=%s",
           i->guest, ops, depth, profile, zeroes, discards, flushes,
           sim_format_size(SIM_SECTOR_BYTES << gen_draw(gen, "work.max", 9), top));
}

static void add_bitmap(struct power *p, const struct power_image *i, int64_t time_ns)
{
    struct gen *gen = p->gen;
    int64_t name = gen_range(gen, "bitmap.name", 0, 3);
    char size[24];

    switch (gen_draw(gen, "bitmap.what", 8)) {
    case 0:
        gen_at(gen, time_ns, "try block-dirty-bitmap-remove node=%s name=b%" PRId64, i->node, name);
        return;
    case 1:
        gen_at(gen, time_ns, "try block-dirty-bitmap-clear node=%s name=b%" PRId64, i->node, name);
        return;
    case 2:
        gen_at(gen, time_ns, "try block-dirty-bitmap-%s node=%s name=b%" PRId64,
               GEN_PICK(gen, "bitmap.switch", "enable", "disable"), i->node, name);
        return;
    default:
        gen_at(gen, time_ns, "try block-dirty-bitmap-add node=%s name=b%" PRId64 " granularity=%s persistent=%s",
               i->node, name, sim_format_size(512 << gen_draw(gen, "bitmap.granularity", 10), size),
               gen_draw(gen, "bitmap.persistent", 8) ? "true" : "false");
    }
}

static void add_resize(struct power *p, const struct power_image *i, int64_t time_ns)
{
    int64_t bytes = gen_range(p->gen, "resize.to", 0, MIN(2 * i->image.bytes, 64 * MiB) / SIM_SECTOR_BYTES);
    char size[24];

    gen_at(p->gen, time_ns, "try block_resize node-name=%s size=%s", i->node,
           sim_format_size(bytes * SIM_SECTOR_BYTES, size));
}

/* Power fails within the next few writes: those of a snapshot, or of the first requests to what it shares. */
static void arm_early_cut(struct power *p, const char *what)
{
    if (gen_draw(p->gen, what, 3) == 0) {
        gen_line(p->gen, "try fault-stop");
        gen_line(p->gen, "try fault power-cut after-write=%" PRId64 " keep=%s", gen_scale(p->gen, "early.write", 6),
                 GEN_PICK(p->gen, "early.keep", "drawn", "drawn", "none", "all"));
    }
}

/* Nobody writes for a while: bitmaps are stored, and recorded again afterwards. */
static void reopen(struct power *p, const struct power_image *i)
{
    static const char *const ways[] = {"true", "false"};

    gen_line(p->gen, "try unplug %s", i->guest);
    for (size_t n = 0; n < ARRAY_SIZE(ways); n++) {
        gen_line(p->gen,
                 "try blockdev-reopen options=[{\"driver\":\"qcow2\",\"node-name\":\"%s\",\"file\":\"%sf\","
                 "\"discard\":\"unmap\",\"read-only\":%s}]",
                 i->node, i->node, ways[n]);
    }
    gen_line(p->gen, "try guest %s node=%s", i->guest, i->node);
    add_workload(p, i, 0);
    gen_flush(p->gen);
    gen_line(p->gen, "try settle");
}

/* A name: of one that is there, or, wanted or not, any. */
static int64_t snapshot_name(struct power *p, const struct power_image *i, bool there)
{
    int64_t name = gen_range(p->gen, "snapshot.name", 1, ARRAY_SIZE(i->made) - 1);

    for (size_t n = 1; there && !i->made[name] && n < ARRAY_SIZE(i->made); n++) {
        name = name % (int64_t)(ARRAY_SIZE(i->made) - 1) + 1;
    }
    return name;
}

static bool has_snapshots(const struct power_image *i)
{
    bool any = false;

    for (size_t n = 0; n < ARRAY_SIZE(i->made); n++) {
        any = any || i->made[n];
    }
    return any;
}

static void add_snapshot(struct power *p, struct power_image *i, int64_t time_ns)
{
    struct gen *gen = p->gen;
    bool delete = has_snapshots(i) && gen_draw(gen, "internal.delete", 3) == 0;
    int64_t name = snapshot_name(p, i, delete);

    if (delete) {
        gen_at(gen, time_ns, "try blockdev-snapshot-delete-internal-sync device=%s name=s%" PRId64, i->node, name);
    } else if (gen_draw(gen, "internal.txn", 4) == 0) {
        gen_at(gen, time_ns,
               "try transaction actions=[{\"type\": \"blockdev-snapshot-internal-sync\", "
               "\"data\": {\"device\": \"%s\", \"name\": \"s%" PRId64 "\"}}%s]",
               i->node, name, gen_draw(gen, "internal.abort", 2) ? ", {\"type\": \"abort\", \"data\": {}}" : "");
    } else {
        gen_at(gen, time_ns, "try blockdev-snapshot-internal-sync device=%s name=s%" PRId64, i->node, name);
    }
    i->made[name] = true; /* a deleted one may still be there when the power fails */
}

/* What qemu-img does to an image that nobody has open. */
static void add_image_steps(struct power *p, struct power_image *i)
{
    struct gen *gen = p->gen;
    bool snapshots = !i->image.data[0] && gen_chance(gen, "snapshot", 600);

    for (int64_t n = snapshots ? gen_range(gen, "snapshot.count", 1, 3) : 0; n > 0; n--) {
        const char *how = has_snapshots(i) ? GEN_PICK(gen, "snapshot.how", "-c", "-a", "-a", "-d") : "-c";
        int64_t name = snapshot_name(p, i, how[1] != 'c');

        gen_line(gen, "try img snapshot %s s%" PRId64 " %s", how, name, i->image.disk);
        i->made[name] = true;
    }
    if (gen_chance(gen, "resize", 200)) {
        int64_t bytes = gen_range(gen, "resize.to", 0, MIN(2 * i->image.bytes, 64 * MiB) / SIM_SECTOR_BYTES);
        char size[24];

        gen_line(gen, "try img resize --shrink %s %s", i->image.disk,
                 sim_format_size(bytes * SIM_SECTOR_BYTES, size));
    }
}

/* Closed, perhaps changed as qemu-img would, and opened again. */
static void close_and_open(struct power *p, struct power_image *i)
{
    struct gen *gen = p->gen;

    if (gen_chance(gen, "reopen", 250)) {
        reopen(p, i);
    }
    if (gen_chance(gen, "fault", i->image.lazy ? 400 : 120)) { /* one of the few writes of a close */
        gen_line(gen, "try settle");
        gen_line(gen, "try fault error disk=%s op=write nth=%" PRId64, i->image.disk,
                 gen_scale(gen, "fault.nth", 3));
    }
    gen_line(gen, "try unplug %s", i->guest);
    gen_line(gen, "try blockdev-del node-name=%s", i->node);
    if (gen_draw(gen, "close.check", 3) == 0) {
        gen_line(gen, "try img check %s", i->image.disk);
    }
    arm_early_cut(p, "early.snapshot");
    add_image_steps(p, i);
    open_image(p, i, false);
    arm_early_cut(p, "early.open");
}

static void draw_event(struct power *p, int64_t span_ns)
{
    struct gen *gen = p->gen;
    struct power_image *i = &p->images[gen_draw(gen, "event.image", p->count)];
    int64_t time_ns = (int64_t)gen_draw(gen, "event.time", (uint64_t)span_ns);

    if (i->bitmaps && gen_chance(gen, "bitmap", 250)) {
        add_bitmap(p, i, time_ns);
    } else if (gen_chance(gen, "resize", 80)) {
        add_resize(p, i, time_ns);
    } else if (!i->image.data[0] && gen_chance(gen, "internal", 70)) {
        add_snapshot(p, i, time_ns);
    } else if (gen_chance(gen, "flush", 200)) {
        gen_at(gen, time_ns, "try io %s %s", i->guest, gen_draw(gen, "flush.wait", 2) ? "flush" : "aio_flush");
    } else if (gen_chance(gen, "io", 700)) {
        add_io(p, i, time_ns);
    } else {
        add_workload(p, i, time_ns);
    }
}

static void add_fault(struct power *p)
{
    const char *disks[] = {p->images[0].image.disk};
    char *fault = gen_chance(p->gen, "fault", 80)
                      ? gen_fault(p->gen, "fault", disks, ARRAY_SIZE(disks), p->images[0].image.bytes)
                      : NULL;

    if (fault) {
        gen_at(p->gen, gen_time(p->gen, "fault.time", 12), "try %s", fault);
        free(fault);
    }
}

/* --- rounds ------------------------------------------------------------------------------------------------ */

static void arm_cut(struct power *p)
{
    struct gen *gen = p->gen;

    if (!gen_chance(gen, "cut", 700)) {
        return;
    }
    gen_line(gen, "fault power-cut after-write=%" PRId64 " keep=%s", gen_scale(gen, "cut.write", 9),
             GEN_PICK(gen, "cut.keep", "drawn", "drawn", "drawn", "none", "all"));
}

/* What is left is checked and opened. An image with lazy counts, and one in the middle of a snapshot, whose COPIED
 * bits are off then, is repaired first, by somebody. */
static void come_back(struct power *p)
{
    struct gen *gen = p->gen;

    gen_line(gen, "fault-stop");
    for (unsigned n = 0; n < p->count; n++) {
        const struct power_image *i = &p->images[n];
        bool repair = gen_chance(gen, "repair", 300);
        bool loose = i->image.lazy || has_snapshots(i);

        if (loose && gen_draw(gen, "repair.half", 3) == 0) {
            gen_line(gen, "try img check -r leaks %s", i->image.disk); /* leaves the rest to whoever opens it */
        } else if (repair) {
            gen_line(gen, "img check -r %s %s", loose ? "all" : GEN_PICK(gen, "repair.how", "leaks", "all"),
                     i->image.disk);
        } else if (!loose) {
            gen_line(gen, "img check %s", i->image.disk);
        }
        open_image(p, i, true);
    }
}

static void write_round(struct power *p)
{
    struct gen *gen = p->gen;
    int64_t span_ns = gen_time(gen, "round.span", 14) + NS_PER_MS;
    int64_t events = gen_range(gen, "round.events", 3, 30);

    arm_cut(p);
    add_fault(p);
    for (int64_t n = 0; n < events; n++) {
        draw_event(p, span_ns);
    }
    gen_flush(gen);
    if (gen_chance(gen, "close", 350)) {
        close_and_open(p, &p->images[0]);
        add_workload(p, &p->images[0], 0);
        gen_flush(gen);
    }
    if (gen_draw(gen, "round.settle", 2)) {
        gen_line(gen, "try settle");
    }
    gen_line(gen, "powerloss all");
}

static void write_end(struct power *p)
{
    struct gen *gen = p->gen;

    for (unsigned n = 0; n < p->count; n++) {
        add_workload(p, &p->images[n], 0);
    }
    gen_flush(gen);
    gen_line(gen, "fault-stop");
    gen_line(gen, "settle");
    for (unsigned n = 0; n < p->count; n++) {
        const struct power_image *i = &p->images[n];

        gen_line(gen, "try unplug %s", i->guest);
        gen_line(gen, "try blockdev-del node-name=%s", i->node);
        /* no mark says of version 2 that somebody should have repaired it */
        bool repair = gen_draw(gen, "end.repair", 2) || (i->image.v2 && has_snapshots(i));
        gen_line(gen, "img check%s %s", repair ? " -r all" : "", i->image.disk);
    }
}

static void generate(struct sim *draw)
{
    struct power p = {.gen = gen_of(draw)};
    int64_t rounds = gen_chance(p.gen, "rounds", 500) ? gen_range(p.gen, "rounds.count", 2, 4) : 1;

    gen_schedule(p.gen);
    p.count = gen_chance(p.gen, "second", 150) ? 2 : 1;
    for (unsigned n = 0; n < p.count; n++) {
        write_image(&p, &p.images[n], n);
    }
    for (unsigned n = 0; n < p.count; n++) {
        open_image(&p, &p.images[n], true);
    }
    for (int64_t n = 0; n < rounds; n++) {
        write_round(&p);
        come_back(&p);
    }
    write_end(&p);
    for (unsigned n = 0; n < p.count; n++) {
        free(p.images[n].options);
    }
}

const struct gen_profile gen_power_profile = {
    .profile =
        {
            .name = "power",
            .doc = "guests on qcow2 images, and power that fails at a drawn write",
            .generate = generate,
        },
    .features = features,
};
