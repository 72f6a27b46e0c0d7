/* What a node remembers of its options (1.13, 6): canonical values, what is inherited, and trees in arena memory.
 */
#include <stdlib.h>
#include <string.h>

#include "block/options.h"

/* --- canonical values ------------------------------------------------------------------------------------- */

static void replace_value(struct qvalue *options, const char *key, struct qvalue *value)
{
    for (size_t i = 0; i < options->seq.count; i++) {
        if (strcmp(options->seq.keys[i], key) == 0) {
            qvalue_free(options->seq.items[i]);
            options->seq.items[i] = value;
            return;
        }
    }
    SIM_ASSERT(false);
}

static void make_bool(struct qvalue *options, const char *key)
{
    bool value;

    if (qdict_get(options, key)) {
        bool ok = qdict_get_bool(options, key, &value, false, NULL);
        SIM_ASSERT(ok);
        replace_value(options, key, qvalue_bool(value));
    }
}

static void make_size(struct qvalue *options, const char *key)
{
    int64_t value;

    bool ok = qdict_get_size(options, key, &value, 0, NULL);
    SIM_ASSERT(ok);
    replace_value(options, key, qvalue_int(value));
}

void bdrv_options_canonical(const BlockDriver *drv, struct qvalue *options)
{
    static const char *const generic_bools[] = {"read-only", "auto-read-only", "force-share", "active"};
    struct qvalue *cache = qdict_get(options, "cache");

    for (size_t i = 0; i < ARRAY_SIZE(generic_bools); i++) {
        make_bool(options, generic_bools[i]);
    }
    if (cache) {
        make_bool(cache, "direct");
        make_bool(cache, "no-flush");
    }
    for (const BdrvOption *option = drv->options; option && option->name; option++) {
        if (!qdict_get(options, option->name)) {
            continue;
        }
        if (option->type == BDRV_OPT_BOOL) {
            make_bool(options, option->name);
        } else if (option->type == BDRV_OPT_SIZE) {
            make_size(options, option->name);
        }
    }
}

bool bdrv_option_is_mutable(const char *key)
{
    static const char *const keys[] = {"read-only", "auto-read-only", "discard", "detect-zeroes", "cache"};

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (strcmp(keys[i], key) == 0) {
            return true;
        }
    }
    return false;
}

/* --- what is inherited ------------------------------------------------------------------------------------ */

/* Backing files are opened read-only unless their own options say otherwise. */
uint32_t bdrv_inherited_flags(uint32_t parent_flags, bool inactive, uint32_t role)
{
    uint32_t inherited = BDRV_O_NOCACHE | BDRV_O_NO_FLUSH | BDRV_O_FORCE_SHARE | BDRV_O_NO_IO;
    uint32_t flags = (parent_flags & inherited) | BDRV_O_UNMAP;

    if (!(role & BDRV_CHILD_COW)) {
        flags |= parent_flags & (BDRV_O_RDWR | BDRV_O_AUTO_RDONLY);
    }
    return inactive ? flags | BDRV_O_INACTIVE : flags;
}

static void put_absent_bool(struct qvalue *dict, const char *key, bool value)
{
    if (!qdict_get(dict, key)) {
        qdict_put(dict, key, qvalue_bool(value));
    }
}

void bdrv_options_inherit(struct qvalue *options, uint32_t flags)
{
    if (!qdict_get(options, "cache")) {
        qdict_put(options, "cache", qvalue_dict());
    }
    put_absent_bool(qdict_get(options, "cache"), "direct", flags & BDRV_O_NOCACHE);
    put_absent_bool(qdict_get(options, "cache"), "no-flush", flags & BDRV_O_NO_FLUSH);
    put_absent_bool(options, "read-only", !(flags & BDRV_O_RDWR));
    put_absent_bool(options, "auto-read-only", flags & BDRV_O_AUTO_RDONLY);
    put_absent_bool(options, "force-share", flags & BDRV_O_FORCE_SHARE);
    if (!qdict_get(options, "discard")) {
        qdict_put(options, "discard", qvalue_str(flags & BDRV_O_UNMAP ? "unmap" : "ignore"));
    }
}

/* --- trees in an arena ------------------------------------------------------------------------------------ */

static void *keep_memory(struct sim_arena *arena, size_t size_bytes)
{
    return size_bytes > 0 ? sim_alloc(arena, SIM_TYPE_bdrv_options, size_bytes) : NULL;
}

static char *keep_bytes(struct sim_arena *arena, const char *bytes, size_t length)
{
    char *copy = keep_memory(arena, length + 1);

    memcpy(copy, bytes, length);
    return copy;
}

struct qvalue *bdrv_options_keep(struct sim_arena *arena, const struct qvalue *v)
{
    if (!v) {
        return NULL;
    }
    struct qvalue *copy = keep_memory(arena, sizeof(*copy));
    *copy = *v;
    if (v->type == QVALUE_STR) {
        copy->str.bytes = keep_bytes(arena, v->str.bytes, v->str.length);
    } else if (v->type == QVALUE_LIST || v->type == QVALUE_DICT) {
        size_t count = v->seq.count;
        bool keyed = v->type == QVALUE_DICT;
        copy->seq.room = count;
        copy->seq.items = keep_memory(arena, count * sizeof(*v->seq.items));
        copy->seq.keys = keyed ? keep_memory(arena, count * sizeof(*v->seq.keys)) : NULL;
        for (size_t i = 0; i < count; i++) {
            copy->seq.items[i] = bdrv_options_keep(arena, v->seq.items[i]);
            if (keyed) {
                copy->seq.keys[i] = keep_bytes(arena, v->seq.keys[i], strlen(v->seq.keys[i]));
            }
        }
    }
    return copy;
}

static void drop(struct sim_arena *arena, struct qvalue *v)
{
    if (v->type == QVALUE_STR) {
        sim_free(arena, SIM_TYPE_bdrv_options, v->str.bytes, v->str.length + 1);
    } else if (v->type == QVALUE_LIST || v->type == QVALUE_DICT) {
        size_t count = v->seq.count;
        for (size_t i = 0; i < count; i++) {
            drop(arena, v->seq.items[i]);
            if (v->type == QVALUE_DICT) {
                char *key = v->seq.keys[i];
                sim_free(arena, SIM_TYPE_bdrv_options, key, strlen(key) + 1);
            }
        }
        sim_free(arena, SIM_TYPE_bdrv_options, v->seq.items, count * sizeof(*v->seq.items));
        sim_free(arena, SIM_TYPE_bdrv_options, v->seq.keys, count * sizeof(*v->seq.keys));
    }
    sim_free(arena, SIM_TYPE_bdrv_options, v, sizeof(*v));
}

void bdrv_options_drop(struct sim_arena *arena, const struct qvalue *v)
{
    if (v) {
        drop(arena, (struct qvalue *)(uintptr_t)v);
    }
}

/* --- a node's --------------------------------------------------------------------------------------------- */

static void without_children(const BlockDriver *drv, struct qvalue *options)
{
    for (const BdrvOption *option = drv->options; option && option->name; option++) {
        if (option->type == BDRV_OPT_NODE || option->type == BDRV_OPT_NODE_LIST) {
            qvalue_free(qdict_take(options, option->name));
        }
    }
}

void bdrv_remember_options(BlockDriverState *bs, const struct qvalue *options, uint32_t inherited)
{
    struct qvalue *copy = qvalue_copy(options);

    SIM_ASSERT(!bs->options && !bs->explicit_options);
    without_children(bs->drv, copy);
    bdrv_options_canonical(bs->drv, copy);
    bs->explicit_options = bdrv_options_keep(bs->host->arena, copy);
    bdrv_options_inherit(copy, inherited);
    bs->options = bdrv_options_keep(bs->host->arena, copy);
    qvalue_free(copy);
}

void bdrv_forget_options(BlockDriverState *bs)
{
    bdrv_options_drop(bs->host->arena, bs->explicit_options);
    bdrv_options_drop(bs->host->arena, bs->options);
    bs->explicit_options = NULL;
    bs->options = NULL;
}

bool bdrv_says_read_only(const BlockDriverState *bs)
{
    return bs->explicit_options && qdict_get(bs->explicit_options, "read-only");
}

void bdrv_unsay_read_only(BlockDriverState *bs)
{
    const struct qvalue *old = bs->explicit_options;
    struct qvalue *rest = qvalue_copy(old);

    SIM_ASSERT(bdrv_says_read_only(bs));
    qvalue_free(qdict_take(rest, "read-only"));
    bs->explicit_options = bdrv_options_keep(bs->host->arena, rest);
    bdrv_options_drop(bs->host->arena, old);
    qvalue_free(rest);
}
