/*
 * qcow2: bytes of metadata in the file, and the memory that tables live in.
 *
 * Metadata moves as bytes, guest data by reference: nothing else than metadata comes through here.
 */
#include <errno.h>

#include "block/qcow2.h"

int qcow2_pread(BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf)
{
    SIM_ASSERT(bytes >= 0);
    if (bytes == 0) {
        return 0;
    }
    struct payload data;
    payload_init(bs->host->sim, &data);
    int ret = bdrv_co_preadv(bs->file, offset, bytes, &data, 0);
    if (ret >= 0) {
        SIM_ASSERT_EQ(data.size_bytes, bytes);
        payload_read_bytes(&data, 0, buf, bytes);
        ret = 0;
    }
    payload_clear(&data);
    return ret;
}

int qcow2_pwrite(BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf)
{
    SIM_ASSERT(bytes >= 0);
    if (!qcow2_usable(bs)) {
        return -ENOMEDIUM; /* whoever was under way when corruption was found writes nothing any more */
    }
    if (bytes == 0) {
        return 0;
    }
    struct payload data;
    payload_init(bs->host->sim, &data);
    payload_append_bytes(&data, buf, bytes);
    int ret = bdrv_co_pwritev(bs->file, offset, bytes, &data, 0);
    payload_clear(&data);
    return ret < 0 ? ret : 0;
}

int qcow2_pwrite_sync(BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf)
{
    int ret = qcow2_pwrite(bs, offset, bytes, buf);
    return ret < 0 ? ret : bdrv_co_flush(bs->file->bs);
}

/* --- memory ----------------------------------------------------------------------------------------------- */

void *qcow2_alloc(BlockDriverState *bs, size_t bytes)
{
    return bytes > 0 ? sim_alloc(bs->host->arena, SIM_TYPE_qcow2_memory, bytes) : NULL;
}

void qcow2_free(BlockDriverState *bs, void *memory, size_t bytes)
{
    SIM_ASSERT(memory == NULL || bytes > 0);
    sim_free(bs->host->arena, SIM_TYPE_qcow2_memory, memory, bytes);
}

char *qcow2_strdup(BlockDriverState *bs, const char *string, size_t length)
{
    char *copy = qcow2_alloc(bs, length + 1);

    memcpy(copy, string, length);
    return copy;
}
