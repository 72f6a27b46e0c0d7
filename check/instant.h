/*
 * The content of a node at one instant, kept to hold later views against. Private to check/.
 *
 * Pages are kept by reference, so an instant costs what the node holds, not what it is long, and comparing what was
 * not written since compares pointers. Never taken for a single event: one for a job, or for a filter.
 */
#ifndef CHECK_INSTANT_H
#define CHECK_INSTANT_H

#include "block/block.h"
#include "check/checkers.h"
#include "check/ranges.h"

struct instant_leaf; /* instant.c's */

struct instant {
    struct sim *sim;
    struct sim_arena *arena;
    unsigned users;
    int64_t from; /* page bound; nothing is known before it */
    int64_t length;
    struct instant_leaf **leaf; /* ascending */
    uint32_t count;
    uint32_t room;
};

/* What bs shows from that byte on. NULL: it has no view now (bdrv_peek). One user. */
struct instant *instant_take(const struct check *check, const BlockDriverState *bs, int64_t from);
struct instant *instant_share(struct instant *instant); /* one user more */
void instant_drop(struct instant *instant);             /* NULL is fine */

#define INSTANT_EQUAL (-1)
/* The first byte of [start, end) at which bs now shows something else, or INSTANT_EQUAL; what lies beyond the end
 * of either counts as equal, and so does what has no view. */
int64_t instant_difference(const struct instant *instant, const BlockDriverState *bs, int64_t start, int64_t end);
/* The same but for the areas in `except`. */
int64_t instant_difference_except(const struct instant *instant, const BlockDriverState *bs, int64_t start,
                                  int64_t end, const struct ranges *except);
/* The sectors at which bs shows something else, all of them; beyond its end, and where there is none (NULL), it
 * shows zeroes. */
void instant_differing(const struct instant *instant, const BlockDriverState *bs, struct ranges *out);
/* The same for data that was read at offset. */
int64_t instant_difference_data(const struct instant *instant, int64_t offset, const struct payload *data);
/* Whether [offset, offset + bytes) was all zeroes as far as whole leaves tell: no page of theirs was kept. */
bool instant_is_hole(const struct instant *instant, int64_t offset, int64_t bytes);
/* For messages, as check_content_of_node: what the sector around offset was. */
const char *instant_content(const struct instant *instant, const struct check *check, int64_t offset,
                            char buf[CHECK_CONTENT]);

#endif
