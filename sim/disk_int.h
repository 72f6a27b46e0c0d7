/*
 * The inside of a disk, shared by sim/disk*.c.
 *
 * `tree` is the content that requests see. With the journal on, `durable` is the content that power loss cannot
 * touch, and the journal lists, in order of effect, the changes that lie between the two.
 */
#ifndef SIM_DISK_INT_H
#define SIM_DISK_INT_H

#include "sim/disk.h"
#include "sim/disk_tree.h"

enum disk_req_state {
    DISK_REQ_STUCK,   /* until disk_release_stuck */
    DISK_REQ_WAITING, /* for a slot */
    DISK_REQ_SERVED,  /* its timer runs */
    DISK_REQ_QUERY,   /* likewise, but it takes no slot */
};

/* A change of content or length: what a request does, and what the journal remembers of it. */
struct disk_change {
    enum sim_op op; /* WRITE, WRITE_ZEROES, DISCARD, TRUNCATE (offset is the length) */
    bool unmap;
    int64_t offset;
    int64_t bytes;
    const struct payload *in; /* WRITE */
    int64_t in_offset;
};

struct disk_journal {
    struct disk_journal *next;
    struct disk_change change;
    struct payload data;
    struct disk_req *req; /* NULL once it has completed */
    uint64_t entity;
    uint64_t completed; /* order of completion, 1..; 0: not yet */
    bool durable;
};

struct disk {
    struct sim *sim;
    const struct sim_name *name;
    const struct sim_name *nobody; /* origin of a request that has none */
    struct disk_config config;
    struct disk_tree tree;
    struct disk *next;

    struct disk_req *first; /* inside, oldest first */
    struct disk_req *last;
    struct disk_req *wait_first;
    struct disk_req *wait_last;
    uint32_t in_flight;
    uint32_t waiting;
    uint32_t serving;
    uint64_t numbers;
    struct disk_interposer *interposers;
    struct disk_lock *locks;

    bool journal_on;
    struct disk_tree durable;
    struct disk_journal *journal_first;
    struct disk_journal *journal_last;
    uint64_t journal_count;
    uint64_t journal_durable; /* of these, durable but behind one that is not */
    uint64_t journal_bytes;
    uint64_t completions;
    uint64_t unflushed;
};

/* --- disk_effect.c --------------------------------------------------------------------------------------- */

/* The instant at which the request reads or changes the content. */
void disk_req_effect(struct disk *disk, struct disk_req *req);
/* The change that a request would make now; false when it makes none (reads, failures, no room). */
bool disk_pending_change(struct disk *disk, struct disk_req *req, struct disk_change *change);

/* --- disk.c --------------------------------------------------------------------------------------------- */

/* Takes the request out of the medium, without completing it, and does not serve others. */
void disk_forget(struct disk *disk, struct disk_req *req);
void disk_serve_waiting(struct disk *disk);

/* --- disk_lock.c ----------------------------------------------------------------------------------------- */

void disk_drop_locks(struct disk *disk, const struct host *host);

/* --- disk_power.c --------------------------------------------------------------------------------------- */

void disk_tree_apply(struct disk_tree *tree, const struct disk_change *change);
/* Changes the content; req (whose change it is) may not have made one before. */
void disk_change_apply(struct disk *disk, struct disk_req *req, const struct disk_change *change);
/* The request completes: its change, if any, may become durable. */
void disk_journal_completed(struct disk *disk, struct disk_req *req);
/* All changes completed up to `point` are durable. */
void disk_journal_flush(struct disk *disk, uint64_t point);
/* The content is `tree` now, durable at once; takes the tree over. */
void disk_content_replace(struct disk *disk, struct disk_tree *tree);
void disk_host_crashed(struct sim *sim, void *state, struct host *host);

/* --- disk_config.c -------------------------------------------------------------------------------------- */

bool disk_config_check(const struct disk_config *config, Error **errp);

#endif
