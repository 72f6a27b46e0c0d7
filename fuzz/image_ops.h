/* What the fuzz target `image` does to an open image: looks, reads, and the operations of the input. */
#ifndef FUZZ_IMAGE_OPS_H
#define FUZZ_IMAGE_OPS_H

#include "fuzz/image_rig.h"

#define OPS_MAX_SAMPLES 32
#define OPS_MAX_EXTENTS 128

/* A read, and what it gave. */
struct ops_sample {
    int64_t offset;
    int64_t bytes;
    int ret;
    uint64_t content; /* id */
};
struct ops_samples {
    struct ops_sample list[OPS_MAX_SAMPLES];
    unsigned nb;
};

/* What an image says of itself: information, snapshots, bitmaps. */
void ops_look(struct rig *rig);
/* The beginning, middle and end, and wherever block status changes. */
void ops_find_samples(struct rig *rig, struct ops_samples *samples);
void ops_read_samples(struct rig *rig, struct ops_samples *samples);
/* The operations of the input. strict: what is written must read back. */
void ops_run(struct rig *rig, bool strict);
/* The last open was refused for a reason that has nothing to do with the image's health. */
bool ops_refusal_is_fine(const struct rig *rig);

#endif
