/*
 * Debug events: named points in the life of requests, raised by the generic code and by formats, and heard by the
 * filter driver blkdebug (reference/block.md 7.1). Without such a node an event is one test of a pointer.
 *
 * An event is raised on one node and goes no further: generic code raises pwritev* and cor_write on the node that
 * is written, flush_* on the primary child of the node that is flushed; a format raises its own on its file.
 * Breakpoints on the other hand are set from above: they go down primary children to the first node that
 * understands them.
 */
#ifndef BLOCK_DEBUG_H
#define BLOCK_DEBUG_H

#include "block/block.h"

#define BLKDBG_EVENTS(X) \
    X(L1_UPDATE, "l1_update") \
    X(L1_GROW_ALLOC_TABLE, "l1_grow_alloc_table") \
    X(L1_GROW_WRITE_TABLE, "l1_grow_write_table") \
    X(L1_GROW_ACTIVATE_TABLE, "l1_grow_activate_table") \
    X(L2_LOAD, "l2_load") \
    X(L2_UPDATE, "l2_update") \
    X(L2_UPDATE_COMPRESSED, "l2_update_compressed") \
    X(L2_ALLOC_COW_READ, "l2_alloc_cow_read") \
    X(L2_ALLOC_WRITE, "l2_alloc_write") \
    X(READ_AIO, "read_aio") \
    X(READ_BACKING_AIO, "read_backing_aio") \
    X(READ_COMPRESSED, "read_compressed") \
    X(WRITE_AIO, "write_aio") \
    X(WRITE_COMPRESSED, "write_compressed") \
    X(VMSTATE_LOAD, "vmstate_load") \
    X(VMSTATE_SAVE, "vmstate_save") \
    X(COW_READ, "cow_read") \
    X(COW_WRITE, "cow_write") \
    X(REFTABLE_LOAD, "reftable_load") \
    X(REFTABLE_GROW, "reftable_grow") \
    X(REFTABLE_UPDATE, "reftable_update") \
    X(REFBLOCK_LOAD, "refblock_load") \
    X(REFBLOCK_UPDATE, "refblock_update") \
    X(REFBLOCK_UPDATE_PART, "refblock_update_part") \
    X(REFBLOCK_ALLOC, "refblock_alloc") \
    X(REFBLOCK_ALLOC_HOOKUP, "refblock_alloc_hookup") \
    X(REFBLOCK_ALLOC_WRITE, "refblock_alloc_write") \
    X(REFBLOCK_ALLOC_WRITE_BLOCKS, "refblock_alloc_write_blocks") \
    X(REFBLOCK_ALLOC_WRITE_TABLE, "refblock_alloc_write_table") \
    X(REFBLOCK_ALLOC_SWITCH_TABLE, "refblock_alloc_switch_table") \
    X(CLUSTER_ALLOC, "cluster_alloc") \
    X(CLUSTER_ALLOC_BYTES, "cluster_alloc_bytes") \
    X(CLUSTER_FREE, "cluster_free") \
    X(FLUSH_TO_OS, "flush_to_os") \
    X(FLUSH_TO_DISK, "flush_to_disk") \
    X(PWRITEV_RMW_HEAD, "pwritev_rmw_head") \
    X(PWRITEV_RMW_AFTER_HEAD, "pwritev_rmw_after_head") \
    X(PWRITEV_RMW_TAIL, "pwritev_rmw_tail") \
    X(PWRITEV_RMW_AFTER_TAIL, "pwritev_rmw_after_tail") \
    X(PWRITEV, "pwritev") \
    X(PWRITEV_ZERO, "pwritev_zero") \
    X(PWRITEV_DONE, "pwritev_done") \
    X(EMPTY_IMAGE_PREPARE, "empty_image_prepare") \
    X(L1_SHRINK_WRITE_TABLE, "l1_shrink_write_table") \
    X(L1_SHRINK_FREE_L2_CLUSTERS, "l1_shrink_free_l2_clusters") \
    X(COR_WRITE, "cor_write") \
    X(CLUSTER_ALLOC_SPACE, "cluster_alloc_space") \
    X(NONE, "none")

enum blkdbg_event {
#define X(id, name) BLKDBG_##id,
    BLKDBG_EVENTS(X)
#undef X
        BLKDBG_COUNT,
};

/* By event, NULL-ended: the words of option tables and scenarios. */
extern const char *const blkdbg_event_names[];
/* False when there is no such event. */
bool blkdbg_event_parse(const char *name, enum blkdbg_event *out);

/* The next request that raises the event below bs stops there, once, until it is resumed. 0, -ENOTSUP: nothing
 * below bs understands it, -ENOENT: no such event. */
int bdrv_debug_breakpoint(BlockDriverState *bs, const char *event, const char *tag);
/* Forgets the breakpoints of that tag and wakes all that stand there. -ENOENT when there was neither. */
int bdrv_debug_remove_breakpoint(BlockDriverState *bs, const char *tag);
/* Wakes the one that stopped last at a breakpoint of that tag. -ENOENT when nobody stands there. */
int bdrv_debug_resume(BlockDriverState *bs, const char *tag);
/* Somebody stands at a breakpoint of that tag. Changes are followed by host_kick. */
bool bdrv_debug_is_suspended(BlockDriverState *bs, const char *tag);

/* For whoever ends a world or asks whether it is at rest: all nodes of a host, whatever the tag. */
bool bdrv_debug_any_suspended(struct host *host);
void bdrv_debug_release_all(struct host *host);

#endif
