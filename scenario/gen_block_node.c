/*
 * Profile block: nodes and how their options are written.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/gen_block.h"

static const char *const drivers[] = {
    [BLOCK_DISK] = "disk",         [BLOCK_IMAGE] = "qcow2",
    [BLOCK_NULL] = "null-co",      [BLOCK_RAW] = "raw",
    [BLOCK_THROTTLE] = "throttle", [BLOCK_COR] = "copy-on-read",
    [BLOCK_DEBUG] = "blkdebug",    [BLOCK_PREALLOCATE] = "preallocate",
    [BLOCK_QUORUM] = "quorum",     [BLOCK_VERIFY] = "blkverify",
};

/* --- options in writing ------------------------------------------------------------------------------------ */

static void put(struct scn_text *text, const char *fmt, ...) SIM_PRINTF(2, 3);
static void put(struct scn_text *text, const char *fmt, ...)
{
    char buf[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(buf, sizeof(buf), fmt, ap);
    va_end(ap);
    scn_text_str(text, buf);
}

bool gen_block_has_one_child(const struct block_node *node)
{
    return node->kind >= BLOCK_RAW && node->kind <= BLOCK_PREALLOCATE;
}

const char *gen_block_slot(const struct block_node *node)
{
    return node->kind == BLOCK_DEBUG ? "image" : "file";
}

static void put_children(struct scn_text *text, const struct block_node *node)
{
    if (gen_block_has_one_child(node)) {
        put(text, ",\"%s\":\"%s\"", gen_block_slot(node), node->child[0]->name);
    } else if (node->kind == BLOCK_VERIFY) {
        put(text, ",\"raw\":\"%s\",\"test\":\"%s\"", node->child[0]->name, node->child[1]->name);
    } else if (node->kind == BLOCK_QUORUM) {
        for (unsigned i = 0; i < node->child_count; i++) {
            put(text, "%s\"%s\"", i ? "," : ",\"children\":[", node->child[i]->name);
        }
        put(text, "]");
    }
}

char *gen_block_json(const struct block_node *node)
{
    struct scn_text text = {.bytes = NULL};

    put(&text, "{\"driver\":\"%s\",\"node-name\":\"%s\"", drivers[node->kind], node->name);
    put_children(&text, node);
    if (node->kind == BLOCK_DISK) {
        put(&text, ",\"disk\":\"%s\"", node->disk);
    }
    if (node->kind == BLOCK_IMAGE) {
        put(&text, ",\"file\":{\"driver\":\"disk\",\"disk\":\"%s\"%s}", node->disk,
            node->unmap ? ",\"discard\":\"unmap\"" : "");
    }
    if (node->kind == BLOCK_THROTTLE) {
        put(&text, ",\"throttle-group\":\"tg%u\"", node->group);
    }
    if (node->kind == BLOCK_RAW && node->window) {
        put(&text, ",\"offset\":%" PRId64 ",\"size\":%" PRId64, node->offset, node->window);
    }
    put(&text, "%s%s", node->own[0] ? "," : "", node->own);
    put(&text, "%s%s", node->read_only ? ",\"read-only\":true" : "", node->unmap ? ",\"discard\":\"unmap\"" : "");
    put(&text, "%s%s", node->no_flush ? ",\"cache.no-flush\":true" : "",
        node->direct ? ",\"cache.direct\":true" : "");
    if (node->detect_zeroes) {
        put(&text, ",\"detect-zeroes\":\"%s\"", node->detect_zeroes);
    }
    put(&text, "}");
    return text.bytes;
}

/* The members of the JSON object as key=value, which is what people type. */
char *gen_block_add(const struct block_node *node)
{
    char *json = gen_block_json(node);
    struct scn_text text = {.bytes = NULL};
    unsigned depth = 0;
    bool value = false;

    scn_text_str(&text, "blockdev-add ");
    for (const char *at = json; *at; at++) {
        bool outer = depth == 1;

        depth += *at == '{' || *at == '[';
        depth -= *at == '}' || *at == ']';
        if (depth == 0 || (outer && (*at == '"' || (*at == '{' && !value)))) {
            continue;
        }
        if (!outer && depth == 1 && *at == '{') {
            continue; /* the object itself begins */
        }
        if (outer && *at == ':') {
            scn_text_char(&text, '=');
            value = true;
        } else if (outer && *at == ',') {
            scn_text_char(&text, ' ');
            value = false;
        } else {
            scn_text_char(&text, *at);
        }
    }
    free(json);
    return text.bytes;
}

/* --- nodes ------------------------------------------------------------------------------------------------- */

struct block_node *gen_block_node(struct blocks *b, enum block_kind kind)
{
    struct block_node *node = &b->nodes[b->node_count];

    if (b->node_count == BLOCK_NODES) {
        return NULL;
    }
    snprintf(node->name, sizeof(node->name), "n%u", b->node_count);
    node->kind = kind;
    node->there = true;
    b->node_count++;
    return node;
}

static void draw_flags(struct blocks *b, struct block_node *node)
{
    node->unmap = gen_chance(b->gen, "unmap", 650);
    node->no_flush = gen_chance(b->gen, "no-flush", 40);
    node->direct = gen_chance(b->gen, "direct", 80);
    if (gen_chance(b->gen, "detect-zeroes", 80)) {
        node->detect_zeroes = node->unmap && gen_draw(b->gen, "detect-zeroes.unmap", 2) ? "unmap" : "on";
    }
}

struct block_node *gen_block_disk(struct blocks *b, int64_t bytes, bool fallible)
{
    static const int64_t latencies[] = {5 * NS_PER_US, 20 * NS_PER_US, 100 * NS_PER_US, NS_PER_MS};
    struct gen *gen = b->gen;
    struct block_node *node = gen_block_node(b, BLOCK_DISK);

    if (!node) {
        return NULL;
    }
    node->bytes = bytes;
    snprintf(node->disk, sizeof(node->disk), "disk%u", b->disk_count++);
    gen_add(gen, "disk %s", node->disk);
    gen_add_size(gen, "size", bytes);
    if (gen_draw(gen, "latency?", 2)) {
        gen_add_time(gen, "latency", latencies[gen_draw(gen, "latency", ARRAY_SIZE(latencies))]);
    }
    gen_add(gen, "%s", gen_chance(gen, "device", 150) ? " type=device" : "");
    if (gen_chance(gen, "align", 200) && bytes % (4 * KiB) == 0) {
        gen_add_size(gen, "align", KiB << 2 * gen_draw(gen, "align", 2));
    }
    if (fallible && bytes >= 64 * KiB && gen_chance(gen, "enospc", 60)) {
        gen_add_size(gen, "capacity", gen_range(gen, "enospc.room", 1, MIN(bytes, 4 * MiB) / (4 * KiB)) * 4 * KiB);
    }
    if (gen_chance(gen, "limited", 100)) {
        gen_add(gen, gen_draw(gen, "limited", 2) && bytes <= 16 * MiB ? " write-zeroes=off" : " discard=off");
    }
    if (gen_chance(gen, "pieces", 80) && bytes <= 16 * MiB) {
        gen_add_size(gen, "max-transfer", 4 * KiB << gen_draw(gen, "pieces", 5));
    }
    gen_line(gen, "%s", "");
    draw_flags(b, node);
    if (fallible) {
        memcpy(b->fallible[b->fallible_count], node->disk, sizeof(node->disk));
        b->fallible_names[b->fallible_count] = b->fallible[b->fallible_count];
        b->fallible_count++;
    }
    return node;
}

struct block_node *gen_block_image(struct blocks *b, int64_t bytes)
{
    struct gen *gen = b->gen;
    struct block_node *node = gen_block_node(b, BLOCK_IMAGE);
    unsigned levels = gen_chance(gen, "backing", 350) ? (unsigned)gen_range(gen, "backing.levels", 1, 3) : 0;
    struct gen_image image;
    char *options;

    if (!node) {
        return NULL;
    }
    node->bytes = bytes;
    snprintf(node->disk, sizeof(node->disk), "disk%u", b->disk_count++);
    gen_line(gen, "disk %s", node->disk);
    gen_image_draw(gen, "image", node->disk, bytes, levels, &image);
    gen_image_write(gen, "image", &image, levels);
    options = gen_image_options(gen, "image.options", &image, true);
    if (strlen(options) < sizeof(node->own)) {
        snprintf(node->own, sizeof(node->own), "%s", options);
    }
    free(options);
    node->unmap = gen_chance(gen, "unmap", 500);
    node->no_flush = gen_chance(gen, "no-flush", 40);
    return node;
}

/* --- layers ------------------------------------------------------------------------------------------------ */

static void draw_window(struct blocks *b, struct block_node *node, const struct block_node *below)
{
    int64_t sectors = below->bytes / SIM_SECTOR_BYTES;
    int64_t odd = gen_range(b->gen, "window.odd", 1, SIM_SECTOR_BYTES - 1);

    if (sectors < 4 || !gen_chance(b->gen, "window", 250)) {
        return;
    }
    node->offset = gen_range(b->gen, "window.offset", 0, sectors / 2) * SIM_SECTOR_BYTES;
    if (gen_draw(b->gen, "window.odd?", 5) == 0) {
        node->offset -= MIN(node->offset, odd);
    }
    node->window = gen_range(b->gen, "window.size", 1, sectors / 2) * SIM_SECTOR_BYTES;
    node->bytes = node->window;
}

static const char *const events[] = {"read_aio",
                                     "write_aio",
                                     "write_aio",
                                     "pwritev",
                                     "pwritev",
                                     "pwritev_zero",
                                     "pwritev_done",
                                     "pwritev_rmw_head",
                                     "pwritev_rmw_after_head",
                                     "pwritev_rmw_tail",
                                     "flush_to_disk",
                                     "pwritev_rmw_after_tail",
                                     "flush_to_os",
                                     "cor_write",
                                     "none",
                                     "none"};

static void draw_rules(struct blocks *b, struct scn_text *text)
{
    struct gen *gen = b->gen;
    int64_t injects = gen_chance(gen, "inject", 450) ? gen_range(gen, "inject.count", 1, 3) : 0;
    int64_t states = gen_chance(gen, "states", 250) ? gen_range(gen, "states.count", 1, 2) : 0;

    for (int64_t i = 0; i < injects; i++) {
        static const char *const types[] = {"read", "write", "write", "write-zeroes", "discard", "flush"};

        put(text, "%s{\"event\":\"%s\"", i ? "," : ",\"inject-error\":[",
            gen_pick(gen, "inject.event", events, ARRAY_SIZE(events)));
        if (gen_draw(gen, "inject.state?", 3) == 0) {
            put(text, ",\"state\":%" PRId64, gen_range(gen, "inject.state", 0, 3));
        }
        if (gen_draw(gen, "inject.errno?", 2)) {
            put(text, ",\"errno\":%s", GEN_PICK(gen, "inject.errno", "5", "28", "28", "0"));
        }
        if (gen_draw(gen, "inject.sector?", 4) == 0) {
            put(text, ",\"sector\":%" PRId64, gen_range(gen, "inject.sector", 0, 200));
        }
        put(text, "%s", gen_draw(gen, "inject.once", 8) ? ",\"once\":true" : "");
        put(text, "%s", gen_draw(gen, "inject.at-once", 3) == 0 ? ",\"immediately\":true" : "");
        /* last, as the byte form has it */
        if (gen_draw(gen, "inject.type?", 2)) {
            put(text, ",\"iotype\":\"%s\"", gen_pick(gen, "inject.type", types, ARRAY_SIZE(types)));
        }
        put(text, "}");
    }
    put(text, "%s", injects ? "]" : "");
    for (int64_t i = 0; i < states; i++) {
        put(text, "%s{\"event\":\"%s\"", i ? "," : ",\"set-state\":[",
            gen_pick(gen, "states.event", events, ARRAY_SIZE(events)));
        if (gen_draw(gen, "states.state?", 2)) {
            put(text, ",\"state\":%" PRId64, gen_range(gen, "states.state", 0, 3));
        }
        put(text, ",\"new_state\":%" PRId64 "}", gen_range(gen, "states.new", 1, 3));
    }
    put(text, "%s", states ? "]" : "");
}

static void draw_debug(struct blocks *b, struct block_node *node)
{
    struct gen *gen = b->gen;
    struct scn_text text = {.bytes = NULL};
    int64_t align = SIM_SECTOR_BYTES << gen_draw(gen, "debug.align", 4);

    scn_text_str(&text, "");
    if (gen_chance(gen, "debug-align", 350) && node->bytes % align == 0) {
        put(&text, ",\"align\":%" PRId64, align);
    } else {
        align = SIM_SECTOR_BYTES;
    }
    if (gen_chance(gen, "debug-limits", 250)) {
        static const char *const keys[] = {"max-transfer", "opt-write-zero", "max-write-zero", "opt-discard",
                                           "max-discard"};
        int64_t value = 4 * KiB << gen_draw(gen, "debug.limit", 6);
        const char *key = gen_pick(gen, "debug.key", keys, ARRAY_SIZE(keys));

        put(&text, ",\"%s\":%" PRId64, key, value);
    }
    if (gen_chance(gen, "debug-perms", 40)) {
        put(&text, ",\"%s\":[",
            GEN_PICK(gen, "perms.key", "take-child-perms", "unshare-child-perms", "unshare-child-perms"));
        put(&text, "\"%s\"]", GEN_PICK(gen, "perms.what", "consistent-read", "write", "write-unchanged", "resize"));
    }
    draw_rules(b, &text);
    if (text.length < sizeof(node->own)) {
        snprintf(node->own, sizeof(node->own), "%s", text.length ? text.bytes + 1 : "");
    }
    free(text.bytes);
}

enum block_kind gen_block_layer_kind(struct blocks *b, const char *what)
{
    static const enum block_kind kinds[] = {BLOCK_RAW,   BLOCK_RAW,   BLOCK_THROTTLE, BLOCK_THROTTLE,   BLOCK_COR,
                                            BLOCK_DEBUG, BLOCK_DEBUG, BLOCK_DEBUG,    BLOCK_PREALLOCATE};

    return kinds[gen_draw(b->gen, what, ARRAY_SIZE(kinds))];
}

struct block_node *gen_block_layer(struct blocks *b, enum block_kind kind, struct block_node *below)
{
    struct block_node *node = gen_block_node(b, kind);
    int64_t size;
    int64_t align;

    if (!node) {
        return NULL;
    }
    node->child[0] = below;
    node->child_count = 1;
    below->parents++;
    node->bytes = below->bytes;
    draw_flags(b, node);
    switch (kind) {
    case BLOCK_RAW:
        draw_window(b, node, below);
        break;
    case BLOCK_THROTTLE:
        node->group = (unsigned)gen_draw(b->gen, "throttle.group", b->group_count);
        break;
    case BLOCK_DEBUG:
        draw_debug(b, node);
        break;
    case BLOCK_PREALLOCATE:
        size = 64 * KiB << gen_draw(b->gen, "prealloc.size", 5);
        align = 4 * KiB << gen_draw(b->gen, "prealloc.align", 5);
        snprintf(node->own, sizeof(node->own), "\"prealloc-size\":%" PRId64 ",\"prealloc-align\":%" PRId64, size,
                 align);
        break;
    default:
        break;
    }
    return node;
}

/* --- limits ------------------------------------------------------------------------------------------------ */

const char *gen_block_limits(struct blocks *b, const char *what, char buf[256])
{
    struct gen *gen = b->gen;
    bool ops = gen_draw(gen, what, 2);
    const char *kind = ops ? GEN_PICK(gen, what, "iops-total", "iops-read", "iops-write")
                           : GEN_PICK(gen, what, "bps-total", "bps-read", "bps-write");
    int64_t rate = ops ? gen_scale(gen, what, 10) * 16 : gen_scale(gen, what, 10) * 64 * KiB;
    size_t used = 0;

    if (gen_draw(gen, what, 8) == 0) {
        return "{}"; /* nothing given: no limits, or what was */
    }
    used += (size_t)snprintf(buf, 256, "{\"%s\":%" PRId64, kind, rate);
    if (gen_draw(gen, what, 3) == 0) {
        int64_t burst = rate * gen_range(gen, what, 1, 8);

        burst -= gen_draw(gen, what, 15) == 0; /* below the rate, perhaps: refused */
        used += (size_t)snprintf(buf + used, 256 - used, ",\"%s-max\":%" PRId64, kind, burst);
        if (gen_draw(gen, what, 2)) {
            used += (size_t)snprintf(buf + used, 256 - used, ",\"%s-max-length\":%" PRId64, kind,
                                     gen_range(gen, what, 1, 5));
        }
    }
    if (ops && gen_draw(gen, what, 4) == 0) {
        used +=
            (size_t)snprintf(buf + used, 256 - used, ",\"iops-size\":%" PRId64, 4 * KiB << gen_draw(gen, what, 4));
    }
    if (ops && gen_draw(gen, what, 12) == 0) { /* a total beside a part: refused */
        used += (size_t)snprintf(buf + used, 256 - used, ",\"bps-total\":1048576,\"bps-read\":4096");
    }
    snprintf(buf + used, 256 - used, "}");
    return buf;
}
