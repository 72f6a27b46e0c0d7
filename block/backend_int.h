/*
 * The inside of a BlockBackend, shared by backend.c, backend_io.c and on_error.c. Private to block/.
 */
#ifndef BLOCK_BACKEND_INT_H
#define BLOCK_BACKEND_INT_H

#include "block/block_int.h"
#include "block/throttle_group.h"

/* A request that waits for the end of a drain; lives on its coroutine's stack. */
struct blk_parked_request {
    Coroutine *co;
    bool released;
    struct blk_parked_request *next;
};

struct BlockBackend {
    struct host *host;
    const struct sim_name *name; /* NULL: unnamed */
    unsigned refcnt;
    BdrvChild *root;
    unsigned in_flight; /* parked ones are not counted */
    unsigned quiesce_counter;
    unsigned parked;
    struct blk_parked_request *parked_first;
    struct blk_parked_request *parked_last;

    uint64_t perm; /* what the user wants; applied unless disable_perm */
    uint64_t shared;
    bool disable_perm;
    bool force_allow_inactivate;
    bool disable_request_queuing;
    bool enable_write_cache;
    bool allow_write_beyond_eof;

    enum block_on_error on_read_error;
    enum block_on_error on_write_error;
    bool io_status_enabled;
    enum block_io_status io_status;

    const BlockDevOps *dev_ops;
    void *dev_opaque;
    char *dev_id;
    ThrottleGroupMember throttle;
    struct block_acct stats;
    TAILQ_ENTRY(BlockBackend) list;
};

/* Lets parked requests go, oldest first. From here on they count as in flight. */
void blk_release_parked(BlockBackend *blk);

#endif
