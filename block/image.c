/* What formats can do with a whole image: check, internal snapshots (reference/bitmaps-qcow2.md 5.7, 5.8). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/* --- internal snapshots ------------------------------------------------------------------------------------- */

#define SNAPSHOT_NAME_MAX 255

/* Filters keep none themselves: what they filter does. */
static BlockDriverState *snapshot_bs(const BlockDriverState *bs)
{
    return bdrv_skip_filters((BlockDriverState *)bs);
}

bool bdrv_can_snapshot(const BlockDriverState *bs)
{
    const BlockDriverState *image = snapshot_bs(bs);

    return image->drv != NULL && image->drv->bdrv_co_snapshot_create != NULL && bdrv_is_writable(image);
}

static int check_snapshots(BlockDriverState *bs, Error **errp)
{
    if (bs->drv == NULL) {
        error_setg(errp, "Node '%s' has no medium", bdrv_get_node_name(bs));
        return -ENOMEDIUM;
    }
    if (bs->drv->bdrv_co_snapshot_create == NULL) {
        error_setg(errp, "Block format '%s' does not support internal snapshots", bs->drv->format_name);
        return -ENOTSUP;
    }
    if (!bdrv_is_writable(bs)) {
        error_setg(errp, "Node '%s' is read only", bdrv_get_node_name(bs));
        return -EACCES;
    }
    return 0;
}

static void tell(BlockDriverState *image, const char *what, const char *id, const char *name)
{
    SIM_EMIT(image->host->sim, image->host, image_snapshot, image, SIM_P(image->name), SIM_P(what), SIM_P(id),
             SIM_P(name));
}

int bdrv_co_snapshot_create(BlockDriverState *bs, const char *id, const char *name, Error **errp)
{
    BlockDriverState *image = snapshot_bs(bs);
    uint64_t now_ns = (uint64_t)sim_now(bs->host->sim);
    QEMUSnapshotInfo info = {
        .id_str = (char *)id,
        .name = (char *)(name ? name : ""),
        .date_sec = (uint32_t)(now_ns / 1000000000),
        .date_nsec = (uint32_t)(now_ns % 1000000000),
        .vm_clock_nsec = now_ns,
        .icount = UINT64_MAX,
    };

    int ret = check_snapshots(image, errp);
    if (ret < 0) {
        return ret;
    }
    if (strlen(info.name) > SNAPSHOT_NAME_MAX || (id && strlen(id) > SNAPSHOT_NAME_MAX)) {
        error_setg(errp, "Name of a snapshot is longer than %d bytes", SNAPSHOT_NAME_MAX);
        return -EINVAL;
    }
    bdrv_inc_in_flight(image);
    ret = image->drv->bdrv_co_snapshot_create(image, &info, errp);
    if (ret >= 0) {
        tell(image, "create", id, info.name);
    }
    bdrv_dec_in_flight(image);
    return ret;
}

/* The first whose id is `id` (any when NULL) and whose name is `name` (likewise); its id, malloc'ed, or NULL. */
static char *find_snapshot(const BlockDriverState *bs, const char *id, const char *name)
{
    QEMUSnapshotInfo *list;
    int count = bdrv_snapshot_list(bs, &list);
    char *found = NULL;

    for (int i = 0; i < count && !found && (id || name); i++) {
        if ((!id || str_is(list[i].id_str, id)) && (!name || str_is(list[i].name, name))) {
            found = strdup(list[i].id_str);
        }
    }
    bdrv_snapshot_list_free(list, MAX(count, 0));
    return found;
}

int bdrv_co_snapshot_goto(BlockDriverState *bs, const char *id, const char *name, Error **errp)
{
    int ret = check_snapshots(bs, errp);

    if (ret < 0) {
        return ret;
    }
    char *found = find_snapshot(bs, id, name);
    if (!found) {
        error_setg(errp, "Can't find snapshot '%s'", name ? name : id ? id : "");
        return -ENOENT;
    }
    struct co_cleanup cleanup;
    coroutine_cleanup_push(bs->host->sim, &cleanup, free, found);
    bdrv_inc_in_flight(bs);
    ret = bs->drv->bdrv_co_snapshot_goto(bs, found, errp);
    if (ret >= 0) {
        tell(bs, "goto", found, name);
    }
    bdrv_dec_in_flight(bs);
    coroutine_cleanup_pop(&cleanup);
    free(found);
    return ret;
}

int bdrv_co_snapshot_delete(BlockDriverState *bs, const char *id, const char *name, Error **errp)
{
    BlockDriverState *image = snapshot_bs(bs);
    int ret = check_snapshots(image, errp);

    if (ret < 0) {
        return ret;
    }
    if (!id && !name) {
        error_setg(errp, "snapshot_id and name are both NULL");
        return -EINVAL;
    }
    bdrv_inc_in_flight(image);
    ret = image->drv->bdrv_co_snapshot_delete(image, id, name, errp);
    if (ret >= 0) {
        tell(image, "delete", id, name);
    }
    bdrv_dec_in_flight(image);
    return ret;
}

int bdrv_co_snapshot_load(BlockDriverState *bs, const char *id_or_name, Error **errp)
{
    if (bs->drv == NULL || bs->drv->bdrv_co_snapshot_load_tmp == NULL) {
        error_setg(errp, "Driver '%s' does not support internal snapshots", bdrv_driver_name(bs));
        return -ENOTSUP;
    }
    if (!bdrv_is_read_only(bs)) {
        error_setg(errp, "Device is writable");
        return -EPERM;
    }
    return bs->drv->bdrv_co_snapshot_load_tmp(bs, id_or_name, errp);
}

int bdrv_snapshot_list(const BlockDriverState *bs, QEMUSnapshotInfo **list)
{
    const BlockDriverState *image = snapshot_bs(bs);

    *list = NULL;
    if (image->drv == NULL) {
        return -ENOMEDIUM;
    }
    return image->drv->bdrv_snapshot_list ? image->drv->bdrv_snapshot_list(image, list) : -ENOTSUP;
}

void bdrv_snapshot_list_free(QEMUSnapshotInfo *list, int count)
{
    for (int i = 0; i < count; i++) {
        free(list[i].id_str);
        free(list[i].name);
    }
    free(list);
}

struct qvalue *bdrv_co_get_specific_info(BlockDriverState *bs)
{
    return bs->drv && bs->drv->bdrv_co_get_specific_info ? bs->drv->bdrv_co_get_specific_info(bs) : NULL;
}
