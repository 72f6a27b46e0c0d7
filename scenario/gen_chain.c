/*
 * Chains of images: see gen_chain.h.
 */
#include "scenario/gen_chain.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- images ------------------------------------------------------------------------------------------------ */

static int64_t draw_bytes(struct chain *c)
{
    struct gen *gen = c->gen;
    uint64_t kind = gen_draw(gen, "chain.size", 100);

    if (kind < 2) {
        return 0;
    }
    if (kind < 20) {
        return gen_range(gen, "chain.odd", 1, 4000) * SIM_SECTOR_BYTES;
    }
    if (kind < 60) {
        return gen_range(gen, "chain.small", 1, 32) * 64 * KiB;
    }
    return gen_range(gen, "chain.chunks", 2, 12) * 512 * KiB;
}

/* Most images of a chain are as long as each other; those that are not are where jobs go wrong. */
static int64_t layer_bytes(struct chain *c, int64_t bytes)
{
    int64_t by;

    if (!bytes || c->huge || !gen_chance(c->gen, "uneven", 200)) {
        return bytes;
    }
    by = gen_range(c->gen, "uneven.by", 1, MAX(bytes / SIM_SECTOR_BYTES, (int64_t)2)) * SIM_SECTOR_BYTES;
    return gen_draw(c->gen, "uneven.shorter", 2) ? MAX(bytes - by, (int64_t)SIM_SECTOR_BYTES) : bytes + by;
}

static void draw_latency(struct chain *c)
{
    static const int64_t latencies[] = {5 * NS_PER_US, 20 * NS_PER_US, 100 * NS_PER_US, 250 * NS_PER_US, NS_PER_MS};

    if (gen_chance(c->gen, "latency", 800)) {
        gen_add_time(c->gen, "latency", latencies[gen_draw(c->gen, "latency.time", ARRAY_SIZE(latencies))]);
    }
}

static struct chain_layer *new_layer(struct chain *c, const char *format, int64_t bytes)
{
    struct chain_layer *layer = &c->layers[c->count++];

    SIM_ASSERT_LE(c->count, CHAIN_LAYERS);
    *layer = (struct chain_layer){.format = format, .bytes = bytes};
    snprintf(layer->node, sizeof(layer->node), "%c%u", c->letter, c->made);
    snprintf(layer->disk, sizeof(layer->disk), "%cd%u", c->letter, c->made);
    if (gen_chance(c->gen, "apart", 300) && strcmp(format, "disk") != 0) {
        snprintf(layer->file, sizeof(layer->file), "%cf%u", c->letter, c->made);
    }
    c->made++;
    return layer;
}

static void write_bottom(struct chain *c, int64_t bytes)
{
    struct gen *gen = c->gen;
    const char *format = GEN_PICK(gen, "chain.bottom", "raw", "raw", "qcow2", "qcow2", "qcow2");
    struct chain_layer *layer;

    if (format[0] == 'r' && gen_chance(gen, "bare", 350)) {
        format = "disk";
    }
    layer = new_layer(c, format, bytes);
    gen_add(gen, "disk %s", layer->disk);
    if (format[0] != 'q') {
        gen_add_size(gen, "size", bytes);
        gen_add(gen, c->huge ? "" : " content=stamp");
    }
    draw_latency(c);
    gen_line(gen, "%s", "");
    if (format[0] == 'q') {
        gen_image_draw(gen, "bottom", layer->disk, bytes, 0, &layer->image);
        gen_image_write(gen, "bottom", &layer->image, 0);
        layer->options = gen_image_options(gen, "bottom", &layer->image, false);
        if (bytes) {
            gen_image_fill(gen, "bottom.fill", "qcow2", layer->disk, MIN(bytes, 8 * MiB));
        }
    }
}

static void write_layer(struct chain *c, int64_t bytes)
{
    struct gen *gen = c->gen;
    const struct chain_layer *below = &c->layers[c->count - 1];
    struct chain_layer *layer = new_layer(c, "qcow2", bytes);

    gen_add(gen, "disk %s", layer->disk);
    draw_latency(c);
    gen_line(gen, "%s", "");
    gen_image_draw(gen, "layer", layer->disk, bytes, 2, &layer->image);
    snprintf(layer->image.backing, sizeof(layer->image.backing), "%s", below->disk);
    layer->image.backing_raw = below->format[0] != 'q';
    gen_image_write(gen, "layer", &layer->image, 0);
    layer->options = gen_image_options(gen, "layer", &layer->image, false);
    if (bytes && gen_draw(gen, "layer.empty", 6)) {
        gen_image_fill(gen, "layer.fill", "qcow2", layer->disk, MIN(bytes, 8 * MiB));
    }
}

void gen_chain_write(struct chain *c, char letter, const char *guest, unsigned levels)
{
    int64_t bytes;

    SIM_ASSERT(levels >= 1 && levels <= CHAIN_LAYERS / 2);
    c->letter = letter;
    snprintf(c->guest, sizeof(c->guest), "%s", guest);
    c->huge = gen_chance(c->gen, "huge", 30);
    bytes = c->huge ? gen_range(c->gen, "huge.bytes", 1, 4) * GiB : draw_bytes(c);
    write_bottom(c, levels > 1 ? layer_bytes(c, bytes) : bytes);
    while (c->count < levels) {
        write_layer(c, c->count + 1 < levels ? layer_bytes(c, bytes) : bytes);
    }
    for (unsigned i = 0; i + 1 < levels; i++) {
        c->layers[i].read_only = gen_draw(c->gen, "layer.read-only", 3) == 0;
    }
}

void gen_chain_free(struct chain *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        free(c->layers[i].options);
    }
    c->count = 0;
}

/* --- nodes ------------------------------------------------------------------------------------------------- */

static void open_layer(struct chain *c, const struct chain_layer *layer, const char *backing, bool may_fail)
{
    struct gen *gen = c->gen;
    const char *surely = may_fail ? "try " : "";

    if (layer->format[0] == 'd') {
        gen_line(gen, "%sblockdev-add driver=disk node-name=%s disk=%s%s", surely, layer->node, layer->disk,
                 layer->read_only ? " read-only=true" : "");
        return;
    }
    if (layer->file[0]) {
        gen_line(gen, "%sblockdev-add driver=disk node-name=%s disk=%s discard=unmap", surely, layer->file,
                 layer->disk);
    }
    gen_add(gen, "%sblockdev-add driver=%s node-name=%s", surely, layer->format, layer->node);
    if (layer->file[0]) {
        gen_add(gen, " file=%s", layer->file);
    } else {
        gen_add(gen, " file.driver=disk file.disk=%s", layer->disk);
    }
    if (backing) {
        gen_add(gen, " backing=%s", backing);
    }
    gen_line(gen, "%s%s%s", layer->options ? layer->options : "", layer->read_only ? " read-only=true" : "",
             !layer->file[0] && layer->options && strstr(layer->options, "discard=unmap") ? " file.discard=unmap"
                                                                                          : "");
}

static void open_filter(struct chain *c, bool may_fail)
{
    const char *driver = GEN_PICK(c->gen, "filter.driver", "copy-on-read", "throttle", "throttle");

    snprintf(c->filter, sizeof(c->filter), "%cx", c->letter);
    if (driver[0] == 't') {
        gen_line(c->gen, "%sobject-add qom-type=throttle-group id=%ctg limits={\"iops-total\":%" PRId64 "}",
                 may_fail ? "try " : "", c->letter, gen_range(c->gen, "filter.iops", 1, 100) * 1000);
    }
    gen_add(c->gen, "%sblockdev-add driver=%s node-name=%s file=%s", may_fail ? "try " : "", driver, c->filter,
            gen_chain_top(c)->node);
    if (driver[0] == 't') {
        gen_add(c->gen, " throttle-group=%ctg", c->letter);
    }
    gen_line(c->gen, "%s", "");
}

void gen_chain_open(struct chain *c, bool may_fail)
{
    c->by_header = gen_chance(c->gen, "by-header", 150);
    for (unsigned i = c->by_header ? c->count - 1 : 0; i < c->count; i++) {
        open_layer(c, &c->layers[i], i && !c->by_header ? c->layers[i - 1].node : NULL, may_fail);
    }
    if (gen_chance(c->gen, "filter", 120)) {
        open_filter(c, may_fail);
    }
}

void gen_chain_plug(struct chain *c, bool may_fail)
{
    c->stops = gen_guest(c->gen, c->guest, c->filter[0] ? c->filter : gen_chain_top(c)->node, may_fail);
}

const struct chain_layer *gen_chain_top(const struct chain *c)
{
    SIM_ASSERT(c->count > 0);
    return &c->layers[c->count - 1];
}

size_t gen_chain_disks(const struct chain *c, const char *disks[CHAIN_LAYERS])
{
    for (unsigned i = 0; i < c->count; i++) {
        disks[i] = c->layers[i].disk;
    }
    return c->count;
}

void gen_chain_snapshot(struct chain *c, int64_t time_ns)
{
    struct chain_layer *layer;
    int64_t bytes;

    if (c->count == CHAIN_LAYERS || c->filter[0]) {
        return;
    }
    bytes = gen_chain_top(c)->bytes;
    layer = new_layer(c, "qcow2", bytes);
    layer->file[0] = '\0';
    gen_at(c->gen, time_ns, "try blockdev-snapshot-sync node-name=%s snapshot-file=%s snapshot-node-name=%s",
           c->layers[c->count - 2].node, layer->disk, layer->node);
}

void gen_chain_drop(struct chain *c, unsigned from, unsigned to)
{
    SIM_ASSERT(from <= to && to <= c->count);
    for (unsigned i = from; i < to; i++) {
        free(c->layers[i].options);
    }
    memmove(&c->layers[from], &c->layers[to], (c->count - to) * sizeof(c->layers[0]));
    c->count -= to - from;
}
