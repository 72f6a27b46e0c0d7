/* What commands ask of dirty bitmaps, and what the bitmaps hold: shared by bitmap-exact and successor-algebra. */
#include <string.h>

#include "check/checkers.h"

bool check_bitmap_actions(const struct qmp_call *call, check_bitmap_action_fn *fn, void *opaque)
{
    const struct qvalue *actions = qdict_get(call->args, "actions");
    const char *name = call->command->name;

    if (strcmp(name, "transaction") != 0) {
        if (strncmp(name, "block-dirty-bitmap-", strlen("block-dirty-bitmap-")) != 0) {
            return false;
        }
        fn(opaque, name, call->args);
        return true;
    }
    for (size_t i = 0; actions && actions->type == QVALUE_LIST && i < actions->seq.count; i++) {
        const char *type = check_dict_str(actions->seq.items[i], "type");
        const struct qvalue *data = qdict_get(actions->seq.items[i], "data");

        if (type && data && data->type == QVALUE_DICT) {
            fn(opaque, type, data);
        }
    }
    return true;
}

void check_merge_sources(const struct qvalue *data, void (*fn)(void *opaque, const char *node, const char *name),
                         void *opaque)
{
    const struct qvalue *list = qdict_get(data, "bitmaps");

    for (size_t i = 0; list && list->type == QVALUE_LIST && i < list->seq.count; i++) {
        const struct qvalue *source = list->seq.items[i];

        if (source->type == QVALUE_STR) {
            fn(opaque, check_dict_str(data, "node"), source->str.bytes);
        } else if (source->type == QVALUE_DICT) {
            fn(opaque, check_dict_str(source, "node"), check_dict_str(source, "name"));
        }
    }
}

void check_read_bits(const BdrvDirtyBitmap *bitmap, struct ranges *set)
{
    int64_t unit = bdrv_dirty_bitmap_granularity(bitmap);
    int64_t size = bdrv_dirty_bitmap_size(bitmap);
    int64_t start = size > 0 ? bdrv_dirty_bitmap_next_dirty(bitmap, 0, size) : -1;

    ranges_free(set);
    while (start >= 0) {
        int64_t end = bdrv_dirty_bitmap_next_zero(bitmap, start, size - start);

        if (end < 0) {
            end = check_group_end(size, unit);
        }
        ranges_add(set, start, end);
        start = end < size ? bdrv_dirty_bitmap_next_dirty(bitmap, end, size - end) : -1;
    }
}
