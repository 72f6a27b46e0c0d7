/*
 * The target of drive-backup and drive-mirror: a node over a file that is there or made for it (reference/jobs.md
 * 4.2, 9). The file stays when the command is refused later.
 */
#ifndef JOBS_DRIVE_TARGET_H
#define JOBS_DRIVE_TARGET_H

#include "block/block.h"

struct drive_target {
    const char *filename;      /* of a medium of the world */
    const char *format;        /* NULL: the source's; of a file that is there, what its content looks like */
    const char *node_name;     /* NULL: generated */
    bool existing;             /* else the image is made, as long as the source */
    BlockDriverState *backing; /* what a new image's header names; NULL: nothing */
    bool no_backing;           /* opened without what its header names */
};

/* Writable, with the source's cache options; one reference for the caller. NULL with errp. Main coroutine. */
BlockDriverState *drive_target_open(BlockDriverState *source, const struct drive_target *target, Error **errp);

#endif
