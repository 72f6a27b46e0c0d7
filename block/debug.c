/* Debug events and breakpoints: their names, and the way down to who understands them (reference/block.md 7.1). */
#include <errno.h>
#include <string.h>

#include "block/block_int.h"

const char *const blkdbg_event_names[] = {
#define X(id, name) [BLKDBG_##id] = (name),
    BLKDBG_EVENTS(X)
#undef X
        [BLKDBG_COUNT] = NULL,
};

bool blkdbg_event_parse(const char *name, enum blkdbg_event *out)
{
    for (unsigned i = 0; i < BLKDBG_COUNT; i++) {
        if (strcmp(blkdbg_event_names[i], name) == 0) {
            *out = (enum blkdbg_event)i;
            return true;
        }
    }
    return false;
}

/* The first node from bs down primary children that knows breakpoints; NULL: none. */
static BlockDriverState *debug_node(BlockDriverState *bs)
{
    while (bs != NULL && (bs->drv == NULL || bs->drv->bdrv_debug_breakpoint == NULL)) {
        bs = bdrv_primary_bs(bs);
    }
    return bs;
}

int bdrv_debug_breakpoint(BlockDriverState *bs, const char *event, const char *tag)
{
    enum blkdbg_event parsed;

    bs = debug_node(bs);
    if (bs == NULL) {
        return -ENOTSUP;
    }
    if (!blkdbg_event_parse(event, &parsed)) {
        return -ENOENT;
    }
    bs->drv->bdrv_debug_breakpoint(bs, parsed, tag);
    return 0;
}

int bdrv_debug_remove_breakpoint(BlockDriverState *bs, const char *tag)
{
    bs = debug_node(bs);
    return bs != NULL ? bs->drv->bdrv_debug_remove_breakpoint(bs, tag) : -ENOTSUP;
}

int bdrv_debug_resume(BlockDriverState *bs, const char *tag)
{
    bs = debug_node(bs);
    return bs != NULL ? bs->drv->bdrv_debug_resume(bs, tag) : -ENOTSUP;
}

bool bdrv_debug_is_suspended(BlockDriverState *bs, const char *tag)
{
    bs = debug_node(bs);
    return bs != NULL && bs->drv->bdrv_debug_is_suspended(bs, tag);
}

bool bdrv_debug_any_suspended(struct host *host)
{
    const BlockDriverState *bs;

    TAILQ_FOREACH(bs, &host->graph->nodes, node_list)
    {
        if (bs->drv != NULL && bs->drv->bdrv_debug_is_suspended != NULL &&
            bs->drv->bdrv_debug_is_suspended(bs, NULL)) {
            return true;
        }
    }
    return false;
}

void bdrv_debug_release_all(struct host *host)
{
    BlockDriverState *bs;

    /* The woken run later: the list stays as it is. */
    TAILQ_FOREACH(bs, &host->graph->nodes, node_list)
    {
        if (bs->drv != NULL && bs->drv->bdrv_debug_remove_breakpoint != NULL) {
            bs->drv->bdrv_debug_remove_breakpoint(bs, NULL);
        }
    }
}
