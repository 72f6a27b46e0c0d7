/*
 * durability's other half: what is on the media after a power loss (reference/bitmaps-qcow2.md 6, rules 3 to 5).
 *
 * For each image, a medium that guests write through qcow2 or raw, there are
 *   - cells: what a sector held at the last completed flush, where that is known;
 *   - the writes since, in order of submission, and those that are under way.
 *
 *     write w1  flush ok   write w2  write w3   power fails
 *        |         |          |         |            |
 *        +-folded--+          +--log----+       a sector may hold w3, w2, or what the cell says; else: lost,
 * foreign
 *
 * What the model cannot know (writes that overlap in time, discards, failed writes, what jobs and other nodes put
 * there) makes cells unknown again; an unknown sector may hold anything but another sector's stamp.
 * Private to check/power_*.c.
 */
#ifndef CHECK_POWER_DATA_H
#define CHECK_POWER_DATA_H

#include "check/checkers.h"
#include "sim/disk.h"

struct power_write {
    const struct guest_req *req; /* NULL: over, or its host died */
    enum sim_op op;
    int64_t offset;
    int64_t bytes;
    uint64_t start; /* events of its two ends */
    uint64_t end;   /* 0: under way */
    uint64_t content;
    uint64_t *ids; /* of a write's sectors; NULL: too many, or not a write */
    bool ok;
    bool stable; /* reported done with a promise of its own (FUA) */
    bool vague;  /* it may have left anything */
    struct power_write *next;
};

struct power_cell {
    int64_t page;
    uint64_t begun[PAGE_SECTORS];  /* start of the write that it holds: what was over by then cannot come back */
    uint64_t newest[PAGE_SECTORS]; /* end of the last write folded into it: neighbours do not overlap */
    uint64_t id[PAGE_SECTORS];     /* at the last flush */
    uint8_t known;                 /* a bit for each of them */
};

#define POWER_GUESTS 4
struct power_image {
    struct disk *disk;
    const struct disk *data; /* of an external data file; NULL: none */
    bool qcow2;
    const BlockDriverState *bs; /* the node of the last write, qcow2 or raw */
    const struct sim_name *guests[POWER_GUESTS];
    struct power_write *first, *last;
    struct power_cell *cells; /* in order of first touch */
    uint32_t cell_count, cell_room;
    uint32_t *slots; /* hash by page: number + 1 */
    uint32_t slot_room;
    struct ranges
        written; /* by guests since the node was opened for writing: bitmaps that look consistent have it */
    bool lost;   /* the power failed: to be looked at */
    struct power_image *next;
};

struct power_data {
    struct check *check;
    struct power_image *images;
    bool lost; /* one of them is */
};

/* --- power_data.c ----------------------------------------------------------------------------------------- */

void power_data_attach(struct check *check, struct power_data *state);
/* The cell of a page, or NULL. */
struct power_cell *power_cell_find(const struct power_image *image, int64_t page);
/* The write was over when one began that has overwritten it for good. */
bool power_write_is_replaced(const struct power_write *w, const struct power_cell *cell, unsigned sector);
/* All that was under way or unflushed is settled: the cells say it. */
void power_image_settled(struct power_data *state, struct power_image *image);

/* --- power_verdict.c -------------------------------------------------------------------------------------- */

/* Looks at the media of all images that lost power. */
void power_verdict(struct power_data *state);

#endif
