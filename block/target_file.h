/*
 * A new target given by file name, as drive-mirror and drive-backup take it (reference/jobs.md 9): the file is
 * made, or is there already, and is opened without its backing file.
 */
#ifndef BLOCK_TARGET_FILE_H
#define BLOCK_TARGET_FILE_H

#include "block/block.h"

struct bdrv_target_file {
    const char *filename;
    const char *format;    /* NULL: the source's; of an existing file: what its content looks like */
    const char *node_name; /* NULL: generated */
    bool existing;         /* else the file is made, as long as the source */
    /* What the header of a new image names; NULL: nothing. What it stands on is not attached. */
    BlockDriverState *backing;
};

/* The node, writable, with one reference for the caller; NULL with errp. What was made by then stays: a file whose
 * opening fails may be what somebody else looks at already. Main coroutine. */
BlockDriverState *bdrv_open_target_file(BlockDriverState *source, const struct bdrv_target_file *file,
                                        Error **errp);

#endif
