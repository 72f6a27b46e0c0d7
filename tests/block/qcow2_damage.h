/* Real images with damage that a number chooses, for comparing what is made of it with the real tool. */
#ifndef QCOW2_DAMAGE_H
#define QCOW2_DAMAGE_H

#include "tests/block/qcow2_snap_lib.h"

static const char *const vectors[] = {
    "v3-empty-64k",      "v3-data-4k",       "v2-data-4k",          "zero-types-4k",
    "backing-base-4k",   "backing-top-4k",   "compressed-zlib-16k", "compressed-zstd-4k",
    "snapshots-4k",      "bitmaps-clean-4k", "bitmaps-inuse-4k",    "bitmaps-stale-autoclear-4k",
    "bitmap-allones-4k", "lazy-dirty-4k",    "refcount1-4k",        "refcount64-4k",
    "extl2-16k",         "cluster512",       "leaks-unaligned-4k",  "prealloc-meta-16k",
};

SIM_UNUSED static struct image vector(size_t i)
{
    char name[64];

    snprintf(name, sizeof(name), "%s.qcow2", vectors[i]);
    return image_vector(name);
}

/* Not opened: false. */
SIM_UNUSED static bool check_bytes(struct world *w, const struct image *image, const char *disk, uint32_t fix,
                                   int *ret, BdrvCheckResult *res)
{
    image_disk(w, disk, image);
    BlockDriverState *bs = open_to_check(w, disk, fix != 0);

    if (!bs) {
        return false;
    }
    *ret = check_image(bs, fix, res);
    bdrv_unref(bs);
    return true;
}

/* --- damage
 * ------------------------------------------------------------------------------------------------------- */

static uint64_t draws;

static uint64_t draw(uint64_t n)
{
    draws = sim_mix64(draws + 0x9e3779b97f4a7c15ULL);
    return draws % n;
}

/* Where one of the tables' entries lies: L1, an L2 table, refcount table, a refcount block. 0: nowhere. */
static int64_t pick_entry(const struct image *image)
{
    int64_t cluster = (int64_t)1 << image_be(image, 20, 4);
    int64_t l1 = (int64_t)image_be(image, 40, 8), table = (int64_t)image_be(image, 48, 8);
    int64_t entries = (int64_t)image_be(image, 36, 4);
    uint64_t at;

    switch (draw(5)) {
    case 0:
        return entries ? l1 + 8 * (int64_t)draw((uint64_t)entries) : 0;
    case 1:
        return table + 8 * (int64_t)draw(2);
    case 2:
        at = image_be(image, table, 8) & REFT_OFFSET_MASK;
        return at ? (int64_t)at + 2 * (int64_t)draw(64) : 0;
    default:
        at = entries ? image_be(image, l1 + 8 * (int64_t)draw((uint64_t)entries), 8) & L1E_OFFSET_MASK : 0;
        return at && (int64_t)at + cluster <= image->bytes ? (int64_t)at + 8 * (int64_t)draw((uint64_t)cluster / 8)
                                                           : 0;
    }
}

static void damage(struct image *image)
{
    static const uint64_t flips[] = {
        1,          2,          0x100,      0x200,      0x1000,     0x4000,     0x10000,    0x40000,  1ULL << 40,
        1ULL << 55, 1ULL << 56, 1ULL << 61, 1ULL << 62, 1ULL << 63, 0x10000001, 3ULL << 62, 0x200001, UINT64_MAX,
    };
    int64_t at = 0;

    for (unsigned tries = 0; tries < 20 && (at <= 0 || at + 8 > image->bytes); tries++) {
        at = pick_entry(image);
    }
    if (at <= 0 || at + 8 > image->bytes) {
        return;
    }
    uint64_t value = image_be(image, at, 8);
    image_put(image, at, draw(4) == 0 ? 0 : value ^ flips[draw(ARRAY_SIZE(flips))], 8);
}

/* Damage number n, and which image it was done to. */
SIM_UNUSED static struct image damaged(unsigned n, size_t *which)
{
    draws = n;
    *which = (size_t)draw(ARRAY_SIZE(vectors));
    struct image image = vector(*which);
    for (uint64_t more = 1 + draw(2); more > 0; more--) {
        damage(&image);
    }
    return image;
}

/* What a check said, for a failure. */
struct line_log {
    char text[16384];
};

SIM_UNUSED static void log_line(void *opaque, const char *line)
{
    struct line_log *log = opaque;
    size_t n = strlen(log->text);

    snprintf(log->text + n, sizeof(log->text) - n, "  %s\n", line);
}

#endif
