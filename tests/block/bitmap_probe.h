/* Dirty bitmaps over probes: making them, and asserting what they hold to the bit. */
#ifndef TESTS_BLOCK_BITMAP_PROBE_H
#define TESTS_BLOCK_BITMAP_PROBE_H

#include <inttypes.h>

#include "tests/block/probe.h"

struct bitmap_new {
    struct probe *p;
    uint32_t granularity;
    const char *name;
    BdrvDirtyBitmap *made;
};

static void bitmap_new_entry(void *opaque)
{
    struct bitmap_new *n = opaque;
    n->made = bdrv_create_dirty_bitmap(n->p->bs, n->granularity, n->name, NULL);
}

static SIM_UNUSED BdrvDirtyBitmap *bitmap_new(struct probe *p, uint32_t granularity, const char *name)
{
    struct bitmap_new n = {.p = p, .granularity = granularity, .name = name};
    coroutine_start(coroutine_create(world, host, "bitmap", bitmap_new_entry, &n));
    settle();
    assert_non_null(n.made);
    return n.made;
}

static SIM_UNUSED void bitmaps_free(struct probe *p)
{
    while (bdrv_dirty_bitmap_next(p->bs, NULL) != NULL) {
        bdrv_release_dirty_bitmap(bdrv_dirty_bitmap_next(p->bs, NULL));
    }
}

static SIM_UNUSED void bitmaps_clear(struct probe *p)
{
    BdrvDirtyBitmap *bitmap = NULL;
    while ((bitmap = bdrv_dirty_bitmap_next(p->bs, bitmap)) != NULL) {
        bdrv_clear_dirty_bitmap(bitmap, NULL);
    }
}

/* The dirty areas are these and no others, as "offset+bytes" in KiB, halves as .5: "0+64 128+0.5"; "" for none. */
static SIM_UNUSED void assert_dirty(const BdrvDirtyBitmap *bitmap, const char *expected)
{
    char text[1000] = "";
    size_t used = 0;
    int64_t end = bdrv_dirty_bitmap_size(bitmap);
    int64_t start = 0;
    while (end > 0 && start < end && (start = bdrv_dirty_bitmap_next_dirty(bitmap, start, end - start)) >= 0) {
        int64_t stop = bdrv_dirty_bitmap_next_zero(bitmap, start, end - start);
        stop = stop < 0 ? end : stop;
        int64_t bytes = stop - start;
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%" PRId64 "%s+%" PRId64 "%s", used ? " " : "",
                                 start / 1024, start % 1024 ? ".5" : "", bytes / 1024, bytes % 1024 ? ".5" : "");
        assert_true(used < sizeof(text));
        start = stop;
    }
    assert_string_equal(text, expected);
}

#endif
