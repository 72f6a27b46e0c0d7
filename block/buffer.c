/* Memory for I/O, counted and not there (block/block.h). */
#include "block/block_int.h"

struct BdrvBuffer {
    struct BlockGraph *graph;
    int64_t bytes;
    uint32_t alignment; /* zero once it is given back: what is freed twice was not ours */
};

void bdrv_set_buffer_limit(struct host *host, int64_t bytes)
{
    SIM_ASSERT(bytes >= 0);
    host->graph->buffer_limit_bytes = bytes;
}

BdrvBuffer *bdrv_try_blockalign(BlockDriverState *bs, int64_t bytes)
{
    struct BlockGraph *graph = bs->host->graph;
    uint32_t alignment = MAX(bs->bl.min_mem_alignment, 1u);

    SIM_ASSERT(bytes > 0 && bytes <= BDRV_MAX_LENGTH);
    int64_t size = ROUND_UP(bytes, (int64_t)alignment);
    if (graph->buffer_limit_bytes > 0 && size > graph->buffer_limit_bytes - graph->buffer_bytes) {
        SIM_MARK(bs->host->sim, buffer_refused);
        return NULL;
    }
    BdrvBuffer *buffer = SIM_NEW(bs->host->arena, BdrvBuffer);
    *buffer = (BdrvBuffer){.graph = graph, .bytes = size, .alignment = alignment};
    graph->buffer_bytes += size;
    return buffer;
}

void bdrv_vfree(BdrvBuffer *buffer)
{
    if (buffer == NULL) {
        return;
    }
    SIM_ASSERT(is_power_of_2(buffer->alignment) && buffer->graph->buffer_bytes >= buffer->bytes);
    buffer->graph->buffer_bytes -= buffer->bytes;
    buffer->alignment = 0;
    SIM_FREE(buffer->graph->host->arena, BdrvBuffer, buffer);
}
