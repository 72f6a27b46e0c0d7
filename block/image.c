/* What formats can do with a whole image: check, internal snapshots (reference/bitmaps-qcow2.md 5.7, 5.8). */
#include <errno.h>
#include <stdlib.h>

#include "block/block_int.h"

int bdrv_co_check(BlockDriverState *bs, BdrvCheckResult *res, uint32_t fix)
{
    SIM_ASSERT_EQ(fix & ~(uint32_t)(BDRV_FIX_LEAKS | BDRV_FIX_ERRORS), 0);

    if (bs->drv == NULL) {
        return -ENOMEDIUM;
    }
    if (bs->drv->bdrv_co_check == NULL) {
        return -ENOTSUP;
    }
    return bs->drv->bdrv_co_check(bs, res, fix);
}

int bdrv_snapshot_list(const BlockDriverState *bs, QEMUSnapshotInfo **list)
{
    *list = NULL;
    if (bs->drv == NULL) {
        return -ENOMEDIUM;
    }
    return bs->drv->bdrv_snapshot_list ? bs->drv->bdrv_snapshot_list(bs, list) : -ENOTSUP;
}

void bdrv_snapshot_list_free(QEMUSnapshotInfo *list, int count)
{
    for (int i = 0; i < count; i++) {
        free(list[i].id_str);
        free(list[i].name);
    }
    free(list);
}

struct qvalue *bdrv_get_specific_info(const BlockDriverState *bs)
{
    return bs->drv && bs->drv->bdrv_get_specific_info ? bs->drv->bdrv_get_specific_info(bs) : NULL;
}
