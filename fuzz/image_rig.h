/*
 * What the fuzz target `image` has at hand: a world with the image on a fake disk, one node over it at a time, and
 * an eye on everything that may not happen.
 *
 * Each call below runs the world until it is at rest. A finding is told and the process aborts.
 */
#ifndef FUZZ_IMAGE_RIG_H
#define FUZZ_IMAGE_RIG_H

#include "fuzz/image.h"

#include "block/backend.h"
#include "block/block.h"
#include "sim/disk.h"

/* Limits of one input, all phases together. An event of the queue takes about a microsecond. */
#define RIG_MAX_EVENTS ((uint64_t)1000000)
#define RIG_MAX_ARENA_BYTES ((uint64_t)128 << 20)
#define RIG_MAX_IO ((int64_t)256 << 10) /* one guest request */

struct rig;
struct rig_eye {
    struct disk_interposer hook;
    struct rig *rig;
};

struct rig {
    struct sim *sim;
    struct host *host;
    const struct image_input *input;
    struct disk *img;
    struct disk_snapshot *original; /* of img */
    const char *phase;
    struct rig_eye eye[3]; /* img, data, back */
    uint64_t changes;      /* requests since the last open that change a medium */
    BlockDriverState *bs;  /* the node over the image, NULL: none */
    BlockBackend *blk;
    char *error; /* why the last open was refused; malloc'ed */
};

SIM_PRINTF(2, 3) void rig_finding(const struct rig *rig, const char *fmt, ...);

void rig_begin(struct rig *rig, const struct image_input *input);
/* All is closed: nothing may be left in the host. */
void rig_end(struct rig *rig);

enum { RIG_WRITABLE = 1, RIG_CHECK = 2 };
/* False: refused, and then nothing may have been written. */
bool rig_open(struct rig *rig, const char *phase, unsigned how);
void rig_close(struct rig *rig);
/* The image as it was given; nothing is open. */
void rig_restore(struct rig *rig);

/* fn in a coroutine of its own; begun ones are waited for with it. */
void rig_start(struct rig *rig, const char *what, void (*fn)(void *opaque), void *opaque);
void rig_settle(struct rig *rig);
void rig_co(struct rig *rig, const char *what, void (*fn)(void *opaque), void *opaque);
/* fn on the main coroutine. */
void rig_main(struct rig *rig, void (*fn)(void *opaque), void *opaque);

int rig_check(struct rig *rig, BdrvCheckResult *res, uint32_t fix);

#endif
