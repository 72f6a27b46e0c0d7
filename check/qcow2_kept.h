/*
 * What internal snapshots hold, from the first time that they were seen in a sound image (bitmaps-qcow2.md 5.7).
 * Part of qcow2-metadata; private to check/.
 *
 * Only the image's own layer counts: clusters that it does not hold may change with what lies below.
 */
#ifndef CHECK_QCOW2_KEPT_H
#define CHECK_QCOW2_KEPT_H

#include "check/checkers.h"
#include "check/qcow2_image.h"

struct kept_snapshot {
    uint64_t key; /* id, name, time and size: a later snapshot of the same name is another one */
    uint64_t digest;
    bool seen; /* in this look */
    struct kept_snapshot *next;
};

/* Compares all snapshots of the image with what they held, learns new ones and drops those that are gone. The index
 * of the first that has changed, or -1. */
int qcow2_kept_look(struct sim_arena *arena, struct kept_snapshot **list, struct qcow2_image *image);
void qcow2_kept_forget(struct sim_arena *arena, struct kept_snapshot **list);
/* Whether the disk holds what the snapshot does: the newest that has this id and this name, each unless NULL. */
bool qcow2_kept_is_active(struct qcow2_image *image, const char *id, const char *name);

#endif
