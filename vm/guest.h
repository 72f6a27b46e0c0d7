/*
 * Guest block devices: where guest requests enter (reference/block.md 1.11, 7.5).
 *
 * A guest device has a BlockBackend of its own name, a queue depth, and error policies. Up to queue-depth requests
 * are active; the rest waits in FIFO order inside the device. A request that fails under `stop` is held and the VM
 * stops; `cont` resubmits held requests in the order they failed, through the whole path.
 *
 * Every submit and completion is reported as guest_submit and guest_complete, the boundary from which checkers take
 * what must be true.
 */
#ifndef VM_GUEST_H
#define VM_GUEST_H

#include "block/backend.h"
#include "vm/runstate.h"

struct guest;

struct guest_config {
    const char *name;           /* device and BB name */
    const char *node;           /* node or NULL: no medium */
    uint32_t queue_depth;       /* 1..256, default 16 */
    enum block_on_error rerror; /* default report (auto) */
    enum block_on_error werror; /* default enospc (auto) */
    bool read_only;             /* default: whether the node is */
    bool share_rw;
    bool write_cache;             /* default true */
    bool account_failed;          /* default true: failed requests count in times */
    bool account_invalid;         /* default true: invalid requests end idleness */
    uint32_t logical_block_bytes; /* 512 or 4096; default 512: requests must be multiples */
};
void guest_config_default(struct guest_config *config);

/* Main coroutine. NULL with errp. */
struct guest *guest_new(struct host *host, const struct guest_config *config, Error **errp);
/* Waits for its requests; held ones are dropped as failed. Main coroutine. */
void guest_delete(struct guest *guest);
struct guest *guest_find(struct host *host, const char *name);
struct guest *guest_next(struct host *host, const struct guest *after); /* oldest first */
BlockBackend *guest_blk(const struct guest *guest);
const struct sim_name *guest_name(const struct guest *guest);
struct host *guest_host(const struct guest *guest);
const struct guest_config *guest_get_config(const struct guest *guest);

struct guest_req {
    enum sim_op op; /* READ WRITE WRITE_ZEROES DISCARD FLUSH */
    uint32_t flags; /* BDRV_REQ_FUA, _MAY_UNMAP, _NO_FALLBACK */
    int64_t offset;
    int64_t bytes;
    struct payload data;                 /* write: what to write; read: filled at completion. The request's own. */
    uint64_t entity;                     /* key of the step and number that issued it, for choices */
    uint64_t number;                     /* request number within its step, for display */
    void (*done)(struct guest_req *req); /* after the completion was reported */
    void *opaque;
    /* set by the device */
    struct guest *guest;
    uint64_t id; /* 1, 2, ... per guest: write id of its stamps is given by the submitter, not this */
    int ret;
    int64_t submit_ns;
    bool held;
    bool ignored; /* ret 0 stands for a failure that the policy ignored; a read has no data then */
    struct guest_req *next;
};
/* Init zeroes and prepares data; the memory is the caller's and must live until done. */
void guest_req_init(struct host *host, struct guest_req *req);
void guest_req_clear(struct guest_req *req);
/* Anywhere; done is called later, never inside. A stopped VM queues the request until cont. */
void guest_submit(struct guest *guest, struct guest_req *req);
/* Convenience: waits in the caller's coroutine. Returns ret. */
int guest_co_submit(struct guest *guest, struct guest_req *req);

unsigned guest_active(const struct guest *guest);  /* inside the block layer */
unsigned guest_waiting(const struct guest *guest); /* beyond the queue depth, or the VM is stopped */
unsigned guest_held(const struct guest *guest);    /* failed under stop */

#endif
