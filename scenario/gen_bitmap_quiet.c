/*
 * Profile bitmap: the quiet phase. One guest writes, one bitmap records, one takes what is merged into it, and
 * nothing else goes on: how much is dirty can be said beforehand.
 */
#include <inttypes.h>
#include <stdio.h>

#include "scenario/gen_bitmap.h"

#define AREAS_MAX 32

/* Dirty groups of a bitmap: disjoint, in order. */
struct map {
    int64_t granularity;
    struct {
        int64_t start, end;
    } area[AREAS_MAX];
    unsigned count;
};

struct quiet {
    struct bitmaps *b;
    const struct bitmap_node *node;
    struct map bits;  /* of bitmap q */
    struct map child; /* of its successor */
    struct map sum;   /* of bitmap r, which never records */
    bool enabled;
    bool frozen;
};

static void map_add(struct map *map, int64_t start, int64_t end)
{
    unsigned kept = 0;

    start = ROUND_DOWN(start, map->granularity);
    end = ROUND_UP(end, map->granularity);
    for (unsigned i = 0; i < map->count; i++) {
        if (map->area[i].end < start || map->area[i].start > end) {
            map->area[kept++] = map->area[i];
        } else {
            start = MIN(start, map->area[i].start);
            end = MAX(end, map->area[i].end);
        }
    }
    SIM_ASSERT_LT(kept, AREAS_MAX);
    map->area[kept].start = start;
    map->area[kept].end = end;
    map->count = kept + 1;
}

/* Between granularities: whole groups of the source, as far as the node reaches. */
static void map_merge(struct map *map, const struct map *source, int64_t bytes)
{
    for (unsigned i = 0; i < source->count; i++) {
        map_add(map, source->area[i].start, MIN(source->area[i].end, bytes));
    }
}

static int64_t map_bytes(const struct map *map)
{
    int64_t bytes = 0;

    for (unsigned i = 0; i < map->count; i++) {
        bytes += map->area[i].end - map->area[i].start;
    }
    return bytes;
}

/* --- steps ------------------------------------------------------------------------------------------------ */

static void quiet_write(struct quiet *q)
{
    const char *op = GEN_PICK(q->b->gen, "quiet.write", "write", "write", "write -z", "write -f", "aio_write");
    int64_t align = q->node->raw ? SIM_SECTOR_BYTES : q->node->align; /* raw leaves padding to what is below */
    int64_t offset;
    int64_t bytes;
    char at[24];
    char length[24];

    if (q->bits.count + 2 >= AREAS_MAX || q->child.count + 2 >= AREAS_MAX ||
        !gen_bitmap_place(q->b, "quiet.place", q->node, 256 * KiB, &offset, &bytes)) {
        return;
    }
    gen_line(q->b->gen, "io %s %s %s %s", q->node->guest, op, sim_format_size(offset, at),
             sim_format_size(bytes, length));
    if (op[0] == 'a') {
        gen_line(q->b->gen, "settle");
    }
    if (q->enabled) {
        map_add(q->frozen ? &q->child : &q->bits, ROUND_DOWN(offset, align), ROUND_UP(offset + bytes, align));
    }
}

static void quiet_flag(struct quiet *q)
{
    bool enable = gen_draw(q->b->gen, "quiet.enable", 3) != 0;

    gen_line(q->b->gen, "%sblock-dirty-bitmap-%s node=%s name=q",
             q->frozen ? "expect error GenericError \"in use by another operation\"\n" : "",
             enable ? "enable" : "disable", q->node->name);
    q->enabled = q->frozen ? q->enabled : enable;
}

static void quiet_clear(struct quiet *q)
{
    bool undone = gen_draw(q->b->gen, "quiet.undone", 2);
    const char *name = q->node->name;

    if (q->frozen) {
        return;
    }
    if (undone) {
        gen_line(q->b->gen, "expect error GenericError \"Transaction aborted using Abort action\"");
    } else {
        q->bits.count = 0;
    }
    gen_line(
        q->b->gen,
        "transaction actions=[{\"type\":\"block-dirty-bitmap-clear\",\"data\":{\"node\":\"%s\",\"name\":\"q\"}},"
        "{\"type\":\"block-dirty-bitmap-%s\",\"data\":{\"node\":\"%s\",\"name\":\"q\"}}%s]",
        name, q->enabled ? "enable" : "disable", name, undone ? ",{\"type\":\"abort\",\"data\":{}}" : "");
}

static void quiet_merge(struct quiet *q)
{
    if (!q->frozen) {
        gen_line(q->b->gen, "block-dirty-bitmap-merge node=%s target=r bitmaps=[\"q\"]", q->node->name);
        map_merge(&q->sum, &q->bits, q->node->bytes);
    }
}

static void quiet_owner(struct quiet *q)
{
    const char *how = GEN_PICK(q->b->gen, "quiet.owner", "abdicate", "reclaim");

    gen_line(q->b->gen, "bitmap %s %s q", q->frozen ? how : "freeze", q->node->name);
    if (q->frozen && how[0] == 'a') {
        q->bits = q->child;
    } else if (q->frozen) {
        map_merge(&q->bits, &q->child, INT64_MAX - q->bits.granularity);
    }
    q->child.count = 0;
    q->frozen = !q->frozen;
}

static void quiet_expect(struct quiet *q)
{
    const char *name = q->node->name;

    gen_line(q->b->gen, "expect bitmap %s q count=%" PRId64 " busy=%s recording=%s", name, map_bytes(&q->bits),
             q->frozen ? "on" : "off", q->enabled ? "on" : "off");
    gen_line(q->b->gen, "expect bitmap %s r count=%" PRId64 " busy=off recording=off", name, map_bytes(&q->sum));
}

void gen_bitmap_quiet(struct bitmaps *b)
{
    static void (*const steps[])(struct quiet * q) = {quiet_write, quiet_write, quiet_write, quiet_flag,
                                                      quiet_clear, quiet_merge, quiet_owner, quiet_owner};
    struct quiet q = {.b = b, .node = &b->nodes[gen_draw(b->gen, "quiet.node", b->guest_count)], .enabled = true};
    int64_t count = gen_range(b->gen, "quiet.steps", 4, 16);

    if (q.node->capped) {
        return;
    }
    q.bits.granularity = (int64_t)SIM_SECTOR_BYTES << gen_draw(b->gen, "quiet.granularity", 12);
    q.child.granularity = q.bits.granularity;
    q.sum.granularity = (int64_t)SIM_SECTOR_BYTES << gen_draw(b->gen, "quiet.granularity", 12);
    gen_line(b->gen, "block-dirty-bitmap-add node=%s name=q granularity=%" PRId64, q.node->name,
             q.bits.granularity);
    gen_line(b->gen, "block-dirty-bitmap-add node=%s name=r granularity=%" PRId64 " disabled=true", q.node->name,
             q.sum.granularity);
    for (int64_t i = 0; i < count; i++) {
        steps[gen_draw(b->gen, "quiet.step", ARRAY_SIZE(steps))](&q);
        if (gen_draw(b->gen, "quiet.expect", 2)) {
            quiet_expect(&q);
        }
    }
    quiet_expect(&q);
}
