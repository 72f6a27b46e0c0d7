/*
 * The change of one node between active and inactive, shared by active.c and inactivate.c (reference/block.md 8).
 * Private to block/.
 */
#ifndef BLOCK_ACTIVITY_INT_H
#define BLOCK_ACTIVITY_INT_H

#include "block/tran.h"

/* BDRV_O_INACTIVE, which is not that now. */
void bdrv_set_inactive_flag(BlockDriverState *bs, bool inactive);
/* Some parent is an active node. */
bool bdrv_has_active_parent(const BlockDriverState *bs);
/* The driver's two hooks (8.3, 8.5); 0 when it has none. They poll. */
int bdrv_drv_inactivate(BlockDriverState *bs);
int bdrv_drv_invalidate(BlockDriverState *bs, Error **errp);
/* Everything is stored and nobody refuses: users lose their rights, the node is inactive. Nothing of this fails. */
void bdrv_leave(BlockDriverState *bs);
/* node_activity, after the flag. */
void bdrv_emit_activity(BlockDriverState *bs);

#endif
