/*
 * Profile bitmap: transactions of one to six actions. Half of them hold one that fails, at any position, for any
 * reason that there is.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario/gen_bitmap.h"

struct actions {
    struct bitmaps *b;
    struct scn_text text;
    unsigned count;
    bool fails; /* leaves no bitmaps behind */
};

static void put(struct actions *a, const char *type, const char *fmt, ...) SIM_PRINTF(3, 4);

static void put(struct actions *a, const char *type, const char *fmt, ...)
{
    char data[512];
    va_list ap;
    int length;

    va_start(ap, fmt);
    length = vsnprintf(data, sizeof(data), fmt, ap);
    va_end(ap);
    SIM_ASSERT_LT(length, sizeof(data));
    scn_text_str(&a->text, a->count++ ? ",{\"type\":\"" : "{\"type\":\"");
    scn_text_str(&a->text, type);
    scn_text_str(&a->text, "\",\"data\":{");
    scn_text_str(&a->text, data);
    scn_text_str(&a->text, "}}");
}

static void put_name(struct actions *a, const char *type, const struct bitmap_pick *pick)
{
    put(a, type, "\"node\":\"%s\",\"name\":\"%s\"", pick->node->name, pick->name);
}

static void put_add(struct actions *a)
{
    struct bitmap_pick pick = gen_bitmap_pick(a->b, "txn.add", false);
    int64_t granularity = gen_bitmap_granularity(a->b, "txn.granularity");
    bool disabled = gen_draw(a->b->gen, "txn.disabled", 4) == 0;

    pick.node->made[pick.index] |= !a->fails;
    put(a, "block-dirty-bitmap-add", "\"node\":\"%s\",\"name\":\"%s\",\"granularity\":%" PRId64 "%s",
        pick.node->name, pick.name, granularity, disabled ? ",\"disabled\":true" : "");
}

static void put_merge(struct actions *a)
{
    struct bitmap_pick pick = gen_bitmap_pick(a->b, "txn.merge", true);
    struct scn_text sources = {.bytes = NULL};

    gen_bitmap_sources(a->b, "txn.sources", pick.node, &sources);
    put(a, "block-dirty-bitmap-merge", "\"node\":\"%s\",\"target\":\"%s\",\"bitmaps\":[%s]", pick.node->name,
        pick.name, sources.bytes ? sources.bytes : "");
    free(sources.bytes);
}

/* What mostly goes well. */
static void put_action(struct actions *a)
{
    static const char *const types[] = {
        "block-dirty-bitmap-clear",  "block-dirty-bitmap-clear",   "block-dirty-bitmap-enable",
        "block-dirty-bitmap-enable", "block-dirty-bitmap-disable", "block-dirty-bitmap-remove",
    };
    uint64_t kind = gen_draw(a->b->gen, "txn.kind", 10);

    if (kind < 3) {
        put_add(a);
    } else if (kind < 5) {
        put_merge(a);
    } else {
        struct bitmap_pick pick = gen_bitmap_pick(a->b, "txn.pick", true);

        const char *type = gen_pick(a->b->gen, "txn.type", types, ARRAY_SIZE(types));

        put_name(a, type, &pick);
        if (!a->fails && strcmp(type, "block-dirty-bitmap-remove") == 0) {
            pick.node->made[pick.index] = false;
        }
    }
}

/* What cannot go well, once what stands before it was done. */
static void put_failure(struct actions *a)
{
    struct bitmap_pick pick = gen_bitmap_pick(a->b, "txn.fail", true);
    const char *other =
        GEN_PICK(a->b->gen, "txn.fail.type", "block-dirty-bitmap-clear", "block-dirty-bitmap-enable",
                 "block-dirty-bitmap-disable", "block-dirty-bitmap-remove");

    switch (gen_draw(a->b->gen, "txn.fail.how", 6)) {
    case 0:
        put(a, other, "\"node\":\"%s\",\"name\":\"nobody\"", pick.node->name);
        return;
    case 1:
        put(a, other, "\"node\":\"nowhere\",\"name\":\"%s\"", pick.name);
        return;
    case 2: /* removed ones are busy until the end, and keep their names */
        put_name(a, "block-dirty-bitmap-remove", &pick);
        put_name(a, other, &pick);
        return;
    case 3:
        put_name(a, "block-dirty-bitmap-add", &pick);
        put_name(a, "block-dirty-bitmap-add", &pick);
        return;
    case 4:
        put(a, "block-dirty-bitmap-merge", "\"node\":\"%s\",\"target\":\"%s\",\"bitmaps\":[\"%s\",\"nobody\"]",
            pick.node->name, pick.name, pick.name);
        return;
    default:
        put(a, "abort", "%s", "");
    }
}

void gen_bitmap_transaction(struct bitmaps *b, int64_t time_ns)
{
    struct gen *gen = b->gen;
    struct actions a = {.b = b};
    int64_t count = gen_range(gen, "txn.count", 1, 6);
    bool fails = gen_chance(gen, "fail-at", 500);
    int64_t fails_at = fails ? gen_range(gen, "txn.fail.at", 0, count - 1) : count;
    uint64_t kind = gen_draw(gen, "txn.mode", 24);
    const char *mode = kind == 0 ? "grouped" : kind == 1 ? "individual" : "";

    a.fails = fails;
    for (int64_t i = 0; i < count; i++) {
        if (i == fails_at) {
            put_failure(&a);
        } else {
            put_action(&a);
        }
    }
    gen_at(gen, time_ns, "try transaction actions=[%s]%s%s", a.text.bytes,
           *mode ? " properties.completion-mode=" : "", mode);
    free(a.text.bytes);
}
