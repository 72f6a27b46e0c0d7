/*
 * qcow2 images for all profiles: how they are made, what lies below them, and with which options they are opened.
 */
#ifndef SCENARIO_GEN_IMAGE_H
#define SCENARIO_GEN_IMAGE_H

#include "scenario/gen.h"

struct gen_image {
    char disk[12];    /* of the image */
    char data[16];    /* external data file; empty: none */
    char backing[16]; /* disk of the image below; empty: none */
    bool backing_raw;
    int64_t bytes;
    int64_t cluster; /* bytes */
    bool v2, lazy, extended, zstd, raw_data;
    unsigned refcount_bits;
    const char *preallocation; /* NULL: off */
    bool fixed_length;         /* the medium does not grow */
};

/* Everything about an image of so many bytes on the disk. levels: of images below it, each a disk of its own. */
void gen_image_draw(struct gen *gen, const char *what, const char *disk, int64_t bytes, unsigned levels,
                    struct gen_image *image);
/* The lines that make what lies below, the external data file and the image; its own disk is there. */
void gen_image_write(struct gen *gen, const char *what, const struct gen_image *image, unsigned levels);
/* Something of its own in a layer that lies below others: a guest writes to the disk of that format, and goes.
 * length: bytes from the start that it stays within.
 */
void gen_image_fill(struct gen *gen, const char *what, const char *format, const char *disk, int64_t length);
/* " lazy-refcounts=on l2-cache-size=1k ...", as keys of blockdev-add or, with comma and quotes, as JSON members.
 * Notes in image what matters later. Caller frees. */
char *gen_image_options(struct gen *gen, const char *what, struct gen_image *image, bool json);

/* A command that makes or deletes a snapshot within the image of a node, by names that come again; it may be
 * refused.
 */
void gen_image_snapshot(struct gen *gen, const char *what, const char *node, int64_t time_ns);

/* Features that weights may name; they stand in the lists of all profiles with images. */
#define GEN_IMAGE_FEATURES \
    "v2", "lazy", "narrow", "extended", "zstd", "prealloc", "external", "small-clusters", "small-cache", "overlap"

#endif
