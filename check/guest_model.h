/*
 * What a guest may see: for each sector the candidates of an atomic register with intervals.
 *
 * A candidate is a write with its content, its start (submission) and its end (completion), in event numbers. A
 * read that ran from rs to re may return a candidate that is not dead for rs. A candidate dies
 *   - when a write that began after its end has completed without error (a failed write kills nothing);
 *   - when a read returned other content although the candidate had ended before that read, or before the write
 * that was read, began: what was read is newer, and older values never come back. The dead stay as long as a read
 * that began before their death is in flight. Wild content (never written, discarded) is whatever the first read
 * finds, once; from then on it is stable.
 *
 * Sectors with one candidate, nearly all, live in compact cells of one page; leaves of 16 pages in which one
 * uniform request is all there is need no cells. Lists exist only where requests really overlapped in time. A cell
 * whose content is that of one page refers to it: what was written or seen whole is compared page with page, not id
 * by id.
 *
 * Requests in flight are not in the cells: they are looked up in the boundary.
 */
#ifndef CHECK_GUEST_MODEL_H
#define CHECK_GUEST_MODEL_H

#include "check/checkers.h"

#define MODEL_LEAF_PAGES 16
#define MODEL_LEAF_BYTES (MODEL_LEAF_PAGES * SIM_PAGE_BYTES)

struct candidate {
    uint64_t id;
    uint64_t start;
    uint64_t end;
    uint64_t dead; /* reads that began later cannot return it; 0: alive */
    bool wild;
    struct candidate *next;
};

struct model_spill {
    struct candidate *sector[PAGE_SECTORS];
};

struct model_cell {
    struct page *page; /* a reference; then nothing is wild and the ids are those of the page; NULL: id[] says */
    uint64_t *id;      /* PAGE_SECTORS, behind the cells of the leaf; that of a wild sector says nothing */
    uint64_t start;    /* smallest of the eight */
    uint64_t end;      /* largest of the eight */
    struct model_spill *spill; /* then the rest says nothing */
    uint8_t wild;              /* a bit for each sector whose content is unknown */
};

struct model_leaf {
    int64_t index;            /* offset / MODEL_LEAF_BYTES */
    struct model_cell *cells; /* MODEL_LEAF_PAGES; NULL: uniform */
    uint64_t id, start, end;  /* uniform */
    bool wild;
};

struct guest_model {
    const struct check_boundary *boundary;
    struct sim_arena *arena;
    struct model_leaf **slots; /* hash by index, power of two */
    uint32_t slot_room;
    struct model_leaf **leaves; /* in order of first touch */
    uint32_t leaf_count;
    uint32_t leaf_room;
};

/* What a mismatch looked like. */
struct model_mismatch {
    int64_t sector;
    uint64_t seen; /* content id */
    bool seen_is_tag;
    uint64_t seen_tag;
    uint64_t expected[4]; /* live candidates' ids, the newest last */
    uint64_t written[4];  /* event numbers of their completion */
    unsigned count;       /* how many there were; more than 4 are only counted */
};

void guest_model_init(struct guest_model *model, const struct check_boundary *boundary);
/* Forgets everything: all content is wild again. */
void guest_model_reset(struct guest_model *model);
/* The disk became shorter, by event `since` at the latest: what lies beyond is wild again, and a write that began
 * before that event need not replace it. 0: all writes on their way began, or will be done, after the cut. */
void guest_model_truncate(struct guest_model *model, int64_t bytes, uint64_t since);
/* From that byte on, what lies below has been changed for something that holds only what was written since event
 * `start`: everything else may be anything. */
void guest_model_forget_before(struct guest_model *model, int64_t from, uint64_t start);
/* A write, zero write or discard of this model's guests completed now. in: the data of a write. */
void guest_model_wrote(struct guest_model *model, const struct flight *flight, uint64_t now, bool ok);
/* A read that began at rs returned data at offset now. False with the first mismatch. */
bool guest_model_read(struct guest_model *model, int64_t offset, const struct payload *data, uint64_t rs,
                      uint64_t now, struct model_mismatch *mismatch);

#endif
