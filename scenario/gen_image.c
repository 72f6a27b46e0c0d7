/*
 * qcow2 images: options that fit together, each now and then, small clusters and caches more often than people
 * would, since that is where tables grow and caches overflow.
 */
#include "scenario/gen_image.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- creation ---------------------------------------------------------------------------------------------- */

static int64_t draw_cluster(struct gen *gen, const char *what, int64_t bytes)
{
    bool small = gen_chance(gen, "small-clusters", 550);
    unsigned bits = (unsigned)(small ? gen_range(gen, what, 9, 13) : gen_range(gen, what, 14, 18));

    if (!small && gen_draw(gen, what, 3)) {
        bits = 16;
    }
    /* an L1 table that could not be, and a run of hours, are no images */
    while (bytes > ((int64_t)1 << (bits + bits - 3)) * 4096 || (bytes > 64 * MiB && bits < 16)) {
        bits++;
    }
    return (int64_t)1 << bits;
}

void gen_image_draw(struct gen *gen, const char *what, const char *disk, int64_t bytes, unsigned levels,
                    struct gen_image *image)
{
    *image = (struct gen_image){.bytes = bytes, .refcount_bits = 16};
    snprintf(image->disk, sizeof(image->disk), "%s", disk);
    image->cluster = draw_cluster(gen, what, bytes);
    image->v2 = gen_chance(gen, "v2", 120);
    if (levels) {
        snprintf(image->backing, sizeof(image->backing), "%s.%u", disk, levels);
        image->backing_raw = levels == 1 && gen_draw(gen, what, 3) > 0;
    }
    if (image->v2) {
        return;
    }
    image->lazy = gen_chance(gen, "lazy", 220);
    if (gen_chance(gen, "narrow", 350)) {
        image->refcount_bits = 1u << gen_draw(gen, what, 7);
    }
    image->extended = gen_chance(gen, "extended", 180);
    if (image->extended && image->cluster < 16 * KiB) {
        image->cluster = 16 * KiB << gen_draw(gen, what, 3);
    }
    if (gen_chance(gen, "external", 120)) {
        snprintf(image->data, sizeof(image->data), "%s.data", disk);
        image->raw_data = !levels && gen_draw(gen, what, 3) == 0;
    } else {
        image->zstd = gen_chance(gen, "zstd", 250);
    }
    if (bytes <= 64 * MiB && (!levels || image->extended) && gen_chance(gen, "prealloc", 150)) {
        image->preallocation = GEN_PICK(gen, what, "metadata", "metadata", "falloc", "full");
    }
}

static void add_option(struct scn_text *list, const char *fmt, ...) SIM_PRINTF(2, 3);
static void add_option(struct scn_text *list, const char *fmt, ...)
{
    char option[64];
    va_list ap;
    int length;

    va_start(ap, fmt);
    length = vsnprintf(option, sizeof(option), fmt, ap);
    va_end(ap);
    SIM_ASSERT(length > 0 && length < (int)sizeof(option));
    scn_text_str(list, list->length ? "," : " -o ");
    scn_text_str(list, option);
}

static void write_create(struct gen *gen, const struct gen_image *image)
{
    struct scn_text list = {.bytes = NULL};
    char size[24];

    if (image->cluster != 64 * KiB) {
        add_option(&list, "cluster_size=%s", sim_format_size(image->cluster, size));
    }
    if (image->v2) {
        add_option(&list, "compat=0.10");
    }
    if (image->lazy) {
        add_option(&list, "lazy_refcounts=on");
    }
    if (image->refcount_bits != 16) {
        add_option(&list, "refcount_bits=%u", image->refcount_bits);
    }
    if (image->extended) {
        add_option(&list, "extended_l2=on");
    }
    if (image->zstd) {
        add_option(&list, "compression_type=zstd");
    }
    if (image->preallocation) {
        add_option(&list, "preallocation=%s", image->preallocation);
    }
    if (image->data[0]) {
        add_option(&list, "data_file=%s", image->data);
    }
    if (image->raw_data) {
        add_option(&list, "data_file_raw=on");
    }
    gen_add(gen, "img create -f qcow2");
    if (image->backing[0]) {
        gen_add(gen, " -b %s -F %s", image->backing, image->backing_raw ? "raw" : "qcow2");
    }
    gen_line(gen, "%s %s %s", list.length ? list.bytes : "", image->disk, sim_format_size(image->bytes, size));
    free(list.bytes);
}

void gen_image_fill(struct gen *gen, const char *what, const char *format, const char *disk, int64_t length)
{
    char size[24], top[24];
    int64_t most = (int64_t)(4 * KiB) << gen_draw(gen, what, 7);

    gen_line(gen, "blockdev-add driver=%s node-name=fill file.driver=disk file.disk=%s", format, disk);
    gen_line(gen, "guest filler node=fill");
    gen_line(gen, "workload filler ops=%" PRId64 " read=0 min=512 max=%s length=%s wait=on",
             gen_range(gen, what, 2, 20), sim_format_size(most, top),
             sim_format_size(MAX(length, (int64_t)SIM_SECTOR_BYTES), size));
    gen_line(gen, "unplug filler");
    gen_line(gen, "blockdev-del node-name=fill");
}

static void write_below(struct gen *gen, const char *what, const struct gen_image *image, unsigned levels)
{
    struct gen_image below;
    int64_t bytes = image->bytes;

    if (gen_draw(gen, what, 3) == 0) { /* shorter or longer than what lies above */
        bytes = gen_range(gen, what, 1, MIN(2 * bytes, 16 * MiB) / SIM_SECTOR_BYTES) * SIM_SECTOR_BYTES;
    }
    if (image->backing_raw) {
        gen_add(gen, "disk %s", image->backing);
        gen_add_size(gen, "size", bytes);
        gen_line(gen, "%s", bytes <= 64 * MiB ? " content=stamp" : "");
        return;
    }
    gen_line(gen, "disk %s", image->backing);
    gen_image_draw(gen, what, image->backing, bytes, levels - 1, &below);
    gen_image_write(gen, what, &below, levels - 1);
    gen_image_fill(gen, what, "qcow2", image->backing, MIN(bytes, 4 * MiB));
}

void gen_image_write(struct gen *gen, const char *what, const struct gen_image *image, unsigned levels)
{
    if (levels) {
        SIM_ASSERT(image->backing[0] != '\0');
        write_below(gen, what, image, levels);
    }
    if (image->data[0]) {
        gen_line(gen, "disk %s", image->data);
    }
    write_create(gen, image);
}

/* --- opening ----------------------------------------------------------------------------------------------- */

struct option_list {
    struct scn_text text;
    bool json;
};

static void put(struct option_list *list, const char *key, const char *value, bool quote)
{
    const char *q = list->json ? "\"" : "";
    const char *vq = quote ? q : "";
    char option[96];

    snprintf(option, sizeof(option), "%s%s%s%s%s%s%s%s", list->json ? (list->text.length ? "," : "") : " ", q, key,
             q, list->json ? ":" : "=", vq, value, vq);
    scn_text_str(&list->text, option);
}

static void put_number(struct option_list *list, const char *key, int64_t number)
{
    char value[24];

    snprintf(value, sizeof(value), "%" PRId64, number);
    put(list, key, value, false);
}

/* Two or three tables at a time: everything else has to be written out. */
static void put_caches(struct gen *gen, const char *what, const struct gen_image *image, struct option_list *list)
{
    int64_t entry = image->cluster;

    if (!gen_chance(gen, "small-cache", 500)) {
        return;
    }
    if (image->cluster > 4 * KiB && gen_draw(gen, what, 2)) {
        entry >>= gen_range(gen, what, 1, 5);
        entry = MAX(entry, (int64_t)512);
        put_number(list, "l2-cache-entry-size", entry);
    }
    put_number(list, "l2-cache-size", entry * gen_range(gen, what, 1, 3));
    if (gen_draw(gen, what, 2)) {
        put_number(list, "refcount-cache-size", image->cluster * gen_range(gen, what, 1, 4));
    }
}

static void put_switches(struct gen *gen, const char *what, const struct gen_image *image, struct option_list *list)
{
    static const char *const switches[] = {"pass-discard-request", "pass-discard-snapshot", "pass-discard-other"};

    for (size_t i = 0; i < ARRAY_SIZE(switches); i++) {
        if (gen_draw(gen, what, 4) == 0) {
            put(list, switches[i], gen_draw(gen, what, 2) ? "true" : "false", false);
        }
    }
    if (!image->v2 && gen_draw(gen, what, 8) == 0) {
        put(list, "discard-no-unref", "true", false);
    }
    if (gen_chance(gen, "overlap", 300)) {
        put(list, "overlap-check", GEN_PICK(gen, what, "none", "constant", "cached", "all", "all"), true);
    }
    if (gen_draw(gen, what, 10) == 0) {
        put_number(list, "cache-clean-interval", gen_range(gen, what, 0, 2));
    }
}

char *gen_image_options(struct gen *gen, const char *what, struct gen_image *image, bool json)
{
    struct option_list list = {.json = json};

    scn_text_str(&list.text, "");
    if (!image->v2 && gen_chance(gen, "lazy", 80)) {
        bool on = gen_draw(gen, what, 2);

        put(&list, "lazy-refcounts", on ? "true" : "false", false);
        image->lazy = image->lazy || on;
    }
    put_caches(gen, what, image, &list);
    put_switches(gen, what, image, &list);
    if (!json && gen_draw(gen, what, 2)) { /* who writes JSON says that of every node */
        put(&list, "discard", "unmap", true);
    }
    return list.text.bytes;
}

/* --- snapshots within ---------------------------------------------------------------------------------------- */

void gen_image_snapshot(struct gen *gen, const char *what, const char *node, int64_t time_ns)
{
    int64_t name = gen_range(gen, what, 1, 3);

    switch (gen_draw(gen, what, 8)) {
    case 0:
    case 1:
        gen_at(gen, time_ns, "try blockdev-snapshot-delete-internal-sync device=%s name=s%" PRId64, node, name);
        break;
    case 2:
        gen_at(gen, time_ns,
               "try transaction actions=[{\"type\": \"blockdev-snapshot-internal-sync\", "
               "\"data\": {\"device\": \"%s\", \"name\": \"s%" PRId64 "\"}}%s]",
               node, name, gen_draw(gen, what, 2) ? ", {\"type\": \"abort\", \"data\": {}}" : "");
        break;
    default:
        gen_at(gen, time_ns, "try blockdev-snapshot-internal-sync device=%s name=s%" PRId64, node, name);
    }
}
