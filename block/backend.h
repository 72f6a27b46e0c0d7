/*
 * BlockBackend: how a guest device, an export or a job uses a node (reference/block.md 1.6, 2.1).
 *
 * A BB holds at most one edge ("root"). What it is allowed to do is remembered even while not applied. While its
 * node is drained, new requests are parked in FIFO order (unless queuing is disabled) and re-resolve the root when
 * they are let go. Named BBs share the namespace of nodes.
 */
#ifndef BLOCK_BACKEND_H
#define BLOCK_BACKEND_H

#include "block/accounting.h"
#include "block/block.h"
#include "block/throttle_group.h"

enum block_on_error { /* BlockdevOnError */
                      BLOCKDEV_ON_ERROR_REPORT,
                      BLOCKDEV_ON_ERROR_IGNORE,
                      BLOCKDEV_ON_ERROR_ENOSPC,
                      BLOCKDEV_ON_ERROR_STOP,
                      BLOCKDEV_ON_ERROR_AUTO,
};
enum block_error_action { BLOCK_ERROR_ACTION_IGNORE, BLOCK_ERROR_ACTION_REPORT, BLOCK_ERROR_ACTION_STOP };
const char *block_on_error_name(enum block_on_error on_error);
bool block_on_error_parse(const char *text, enum block_on_error *out);
const char *block_error_action_name(enum block_error_action action); /* "ignore" "report" "stop" */
/* auto acts as enospc. error: negative or positive errno. */
enum block_error_action block_error_decide(enum block_on_error on_error, int error);

enum block_io_status { BLOCK_IO_STATUS_OK, BLOCK_IO_STATUS_FAILED, BLOCK_IO_STATUS_NOSPACE };
const char *block_io_status_name(enum block_io_status status); /* "ok" "failed" "nospace" */

/* What a device attached to a BB is told. All may be NULL. */
typedef struct BlockDevOps {
    void (*resize)(void *opaque);
    void (*drained_begin)(void *opaque);
    void (*drained_end)(void *opaque);
    bool (*drained_poll)(void *opaque); /* true: still busy */
    bool (*is_tray_open)(void *opaque); /* true: the medium is out of reach */
} BlockDevOps;

/* perm, shared: what the user wants once a root is there. One reference for the caller. */
BlockBackend *blk_new(struct host *host, uint64_t perm, uint64_t shared);
/* Gives it a name in the common namespace. False with errp: invalid or taken. */
bool blk_set_name(BlockBackend *blk, const char *name, Error **errp);
void blk_ref(BlockBackend *blk);
void blk_unref(BlockBackend *blk); /* at zero: drains and removes the root; NULL is fine */
/* Attaches a node (a new reference). 0 or negative errno with errp. */
int blk_insert_bs(BlockBackend *blk, BlockDriverState *bs, Error **errp);
void blk_remove_bs(BlockBackend *blk);
void blk_set_dev(BlockBackend *blk, const BlockDevOps *ops, void *opaque, const char *dev_id);

const char *blk_name(const BlockBackend *blk); /* "" when unnamed */
struct host *blk_host(const BlockBackend *blk);
BlockDriverState *blk_bs(const BlockBackend *blk); /* NULL: no medium */
BdrvChild *blk_root(const BlockBackend *blk);
BlockBackend *blk_by_name(struct host *host, const char *name);
BlockBackend *blk_next(struct host *host, const BlockBackend *after); /* all, newest first */
const char *blk_dev_id(const BlockBackend *blk);                      /* NULL: no device */
unsigned blk_in_flight(const BlockBackend *blk);
unsigned blk_parked(const BlockBackend *blk);

int blk_set_perm(BlockBackend *blk, uint64_t perm, uint64_t shared, Error **errp);
void blk_get_perm(const BlockBackend *blk, uint64_t *perm, uint64_t *shared);
void blk_set_disable_request_queuing(BlockBackend *blk, bool disable);
void blk_set_enable_write_cache(BlockBackend *blk, bool wce);
void blk_set_allow_write_beyond_eof(BlockBackend *blk, bool allow);
void blk_set_force_allow_inactivate(BlockBackend *blk);
void blk_set_on_error(BlockBackend *blk, enum block_on_error on_read_error, enum block_on_error on_write_error);
enum block_on_error blk_get_on_error(const BlockBackend *blk, bool is_read);
/* Decides what a failed request of this BB leads to. */
enum block_error_action blk_get_error_action(const BlockBackend *blk, bool is_read, int error);
enum block_io_status blk_io_status(const BlockBackend *blk);
void blk_io_status_enable(BlockBackend *blk);
bool blk_io_status_is_enabled(const BlockBackend *blk);
void blk_io_status_set_err(BlockBackend *blk, int error); /* first error wins until reset */
void blk_io_status_reset(BlockBackend *blk);

/* Requests. Errors as in 2.1: ENOMEDIUM without a medium, EIO out of range. */
int blk_co_preadv(BlockBackend *blk, int64_t offset, int64_t bytes, struct payload *out, uint32_t flags);
int blk_co_pwritev(BlockBackend *blk, int64_t offset, int64_t bytes, const struct payload *in, uint32_t flags);
int blk_co_pwrite_zeroes(BlockBackend *blk, int64_t offset, int64_t bytes, uint32_t flags);
int blk_co_pdiscard(BlockBackend *blk, int64_t offset, int64_t bytes);
/* As bdrv_co_copy_range; neither parked nor throttled: whoever copies has drained or holds both nodes. */
int blk_co_copy_range(BlockBackend *src, int64_t src_offset, BlockBackend *dst, int64_t dst_offset, int64_t bytes,
                      uint32_t read_flags, uint32_t write_flags);
int blk_co_flush(BlockBackend *blk);
int blk_co_truncate(BlockBackend *blk, int64_t length, bool exact, enum bdrv_prealloc prealloc, uint32_t flags,
                    Error **errp);
int64_t blk_getlength(BlockBackend *blk);    /* cached, rounded up to 512; -ENOMEDIUM */
int64_t blk_co_getlength(BlockBackend *blk); /* asks the driver */
bool blk_is_writable(const BlockBackend *blk);

/* Limits (4.2): the BB joins the group of that name, or makes it. They hold for reads, writes and zero writes, and
 * follow the device when its root changes. */
void blk_io_limits_enable(BlockBackend *blk, const char *group);
/* Leaves its group, drained meanwhile. */
void blk_io_limits_disable(BlockBackend *blk);
void blk_io_limits_update_group(BlockBackend *blk, const char *group);
/* For the whole group of the BB; valid ones. */
void blk_set_io_limits(BlockBackend *blk, const ThrottleConfig *cfg);
/* As drains do: lets go what waits, and nothing waits until it is taken back. Counted. */
void blk_io_limits_bypass(BlockBackend *blk, bool bypass);
ThrottleGroup *blk_throttle_group(const BlockBackend *blk); /* NULL: not throttled */

/* Waits until nothing of this BB is in flight. */
void blk_drain(BlockBackend *blk);

/* What its device counted (4.4). */
struct block_acct *blk_get_stats(BlockBackend *blk);

#endif
