/*
 * Chains of images: what goes on around the jobs, and the end.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "scenario/gen_chain.h"

/* Where the guest works: a sparse disk is worked on in its first part. */
static int64_t work_length(const struct chain *c)
{
    return c->huge ? 8 * MiB : 0;
}

static void add_work(struct chain *c)
{
    struct gen *gen = c->gen;
    int64_t bytes = gen_chain_top(c)->bytes;
    char buf[256];

    if (bytes && gen_chance(gen, "workload", 850)) {
        int64_t time_ns = gen_draw(gen, "workload.early", 2) ? 0 : gen_time(gen, "workload.time", 11);

        gen_at(gen, time_ns, "try %s", gen_guest_workload(gen, "workload.kind", c->guest, 80, work_length(c), buf));
    }
}

static bool add_faults(struct chain *c)
{
    struct gen *gen = c->gen;
    int64_t count = gen_chance(gen, "fault", 450) ? gen_range(gen, "fault.count", 1, 3) : 0;
    const char *disks[CHAIN_LAYERS];
    size_t disk_count = gen_chain_disks(c, disks);
    bool any = false;

    for (int64_t i = 0; i < count; i++) {
        int64_t time_ns = gen_draw(gen, "fault.early", 2) ? 0 : gen_time(gen, "fault.time", 12);
        char *line = gen_fault(gen, "fault.one", disks, disk_count, gen_chain_top(c)->bytes);

        if (line) {
            any = true;
            gen_at(gen, time_ns, "try %s", line);
        }
        free(line);
    }
    return any;
}

/* The node of a medium is changed a little, which drains all that lies above it. */
static void add_reopens(struct chain *c)
{
    struct gen *gen = c->gen;
    const struct chain_layer *layer = &c->layers[gen_draw(gen, "reopen.layer", c->count)];
    int64_t rounds = gen_chance(gen, "reopen", 250) ? gen_range(gen, "reopen.rounds", 1, 3) : 0;
    int64_t time_ns = 0;

    for (int64_t i = 0; i < rounds && layer->file[0] && !c->by_header; i++) {
        time_ns += gen_time(gen, "reopen.time", 13);
        gen_at(gen, time_ns,
               "try blockdev-reopen options=[{\"driver\":\"disk\",\"node-name\":\"%s\",\"disk\":\"%s\","
               "\"discard\":\"unmap\",\"detect-zeroes\":\"%s\"}]",
               layer->file, layer->disk, GEN_PICK(gen, "reopen.how", "off", "on"));
    }
}

static void add_bitmap(struct chain *c)
{
    struct gen *gen = c->gen;

    if (gen_chance(gen, "bitmap", 100)) {
        gen_at(gen, gen_draw(gen, "bitmap.early", 2) ? 0 : gen_time(gen, "bitmap.time", 12),
               "try block-dirty-bitmap-add node=%s name=b granularity=%" PRId64, gen_chain_top(c)->node,
               (int64_t)SIM_SECTOR_BYTES << gen_draw(gen, "bitmap.granularity", 10));
    }
}

/* The guest's disk grows, seldom shrinks: mostly refused while a job is there. */
static void add_resize(struct chain *c)
{
    struct gen *gen = c->gen;

    if (gen_chance(gen, "resize", 60) && !c->huge) {
        int64_t bytes = gen_range(gen, "resize.to", 1, 8 * KiB) * SIM_SECTOR_BYTES;
        char size[24];

        gen_at(gen, gen_time(gen, "resize.time", 13), "try block_resize node-name=%s size=%s",
               gen_chain_top(c)->node, sim_format_size(bytes, size));
    }
}

void gen_chain_cap(struct chain *c, const struct chain_layer *layer)
{
    struct gen *gen = c->gen;

    if (!c->huge && layer->bytes >= 64 * KiB && gen_chance(gen, "enospc", 120)) {
        c->capped = layer->disk;
        gen_at(gen, 0, "disk %s capacity=%" PRId64 "k", layer->disk,
               gen_range(gen, "enospc.room", 16, 16 + 2 * layer->bytes / (8 * KiB)) * 4);
    }
}

bool gen_chain_faults(struct chain *c)
{
    bool faulty = add_faults(c);

    add_work(c);
    return faulty;
}

void gen_chain_life(struct chain *c)
{
    gen_guest_io(c->gen, c->guest, c->huge ? 8 * MiB : gen_chain_top(c)->bytes);
    add_bitmap(c);
    add_reopens(c);
    add_resize(c);
    gen_guest_vm(c->gen, c->stops);
    if (gen_chance(c->gen, "intruder", 40)) { /* refused while a job is there */
        c->intruded = true;
        gen_at(c->gen, gen_time(c->gen, "intruder.time", 12),
               "try blockdev-snapshot-sync node-name=%s snapshot-file=%cv snapshot-node-name=%cv",
               gen_chain_top(c)->node, c->letter, c->letter);
    }
}

/* --- the end ----------------------------------------------------------------------------------------------- */

/* The headers alone say what belongs together; a power cut or a fault may have left what is refused. */
static void open_by_header(struct chain *c)
{
    struct gen *gen = c->gen;
    const struct chain_layer *top = gen_chain_top(c);

    gen_line(gen, "try blockdev-add driver=%s node-name=%cz %s%s", top->format[0] == 'd' ? "raw" : top->format,
             c->letter, "file.driver=disk file.disk=", top->disk);
    gen_line(gen, "try guest %s node=%cz", c->guest, c->letter);
    if (top->bytes && !c->intruded) {
        gen_line(gen, "try workload %s ops=20 depth=4 profile=%s read=70 min=512 max=64k wait=on%s", c->guest,
                 GEN_PICK(gen, "end.work", "uniform", "edges", "sequential"), c->huge ? " length=8M" : "");
    }
    gen_line(gen, "try io %s read 0 %" PRId64, c->guest, MIN(top->bytes, 4 * MiB));
    gen_line(gen, "settle");
    gen_line(gen, "try unplug %s", c->guest);
    gen_line(gen, "try blockdev-del node-name=%cz", c->letter);
}

static void close_all(struct chain *c)
{
    struct gen *gen = c->gen;

    gen_line(gen, "fault-stop");
    if (c->capped) {
        gen_line(gen, "disk %s capacity=0", c->capped);
    }
    gen_line(gen, "try cont");
    gen_line(gen, "settle");
    gen_line(gen, "try unplug %s", c->guest);
    if (c->filter[0]) {
        gen_line(gen, "try blockdev-del node-name=%s", c->filter);
    }
    for (unsigned i = c->count; i-- > (c->by_header ? c->count - 1 : 0);) {
        gen_line(gen, "try blockdev-del node-name=%s", c->layers[i].node);
        if (c->layers[i].file[0]) {
            gen_line(gen, "try blockdev-del node-name=%s", c->layers[i].file);
        }
    }
}

void gen_chain_end(struct chain *c)
{
    struct gen *gen = c->gen;
    char buf[256];

    if (gen_chain_top(c)->bytes && gen_chance(gen, "after", 250)) {
        gen_line(gen, "try %s wait=on", gen_guest_workload(gen, "after.kind", c->guest, 30, work_length(c), buf));
    }
    if (gen_draw(gen, "after.settle", 3) == 0) {
        gen_line(gen, "try settle");
    }
    if (gen_chance(gen, "power", 120)) {
        gen_line(gen, "+%" PRId64 "us powerloss all", gen_scale(gen, "power.time", 14));
        gen_line(gen, "fault-stop");
        if (c->capped) {
            gen_line(gen, "disk %s capacity=0", c->capped);
        }
        open_by_header(c);
    } else if (gen_chance(gen, "close", 400)) {
        close_all(c);
        open_by_header(c);
    }
}
