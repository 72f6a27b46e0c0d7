/*
 * qcow2: a read-only node shows one of its internal snapshots (reference/bitmaps-qcow2.md 5.7). The snapshot's L1
 * table takes the place of the active one in memory; nothing is written, and the node stays so until it is closed.
 * It stays as long as it was, too: what a shorter snapshot has not reads as unallocated, as it does with qemu-img.
 */
#include <errno.h>

#include "block/qcow2_check_int.h"

/* Host order; NULL with errp. The caller frees count * 8 bytes. */
static uint64_t *read_l1(BlockDriverState *bs, const QCowSnapshot *sn, Error **errp)
{
    size_t bytes = (size_t)sn->l1_size * 8;
    uint64_t *l1 = qcow2_alloc(bs, bytes);
    int ret = qcow2_pread(bs, sn->l1_table_offset, (int64_t)bytes, l1);

    if (ret < 0) {
        error_setg_errno(errp, ret, "Failed to read l1 table for snapshot");
        qcow2_free(bs, l1, bytes);
        return NULL;
    }
    for (uint32_t i = 0; i < sn->l1_size; i++) {
        l1[i] = be64toh(l1[i]);
    }
    return l1;
}

static int load_locked(BlockDriverState *bs, const QCowSnapshot *sn, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = qcow2_check_snapshot_l1(bs, sn, errp);

    if (ret < 0) {
        return ret;
    }
    if (sn->disk_size < 0 || sn->disk_size > BDRV_MAX_LENGTH ||
        size_to_l1(s, (uint64_t)sn->disk_size) > sn->l1_size) {
        error_setg(errp, "Snapshot L1 table is too small");
        return -EINVAL;
    }
    uint64_t *l1 = sn->l1_size > 0 ? read_l1(bs, sn, errp) : NULL;
    if (!l1 && sn->l1_size > 0) {
        return -EIO;
    }
    qcow2_free(bs, s->l1_table, (size_t)s->l1_size * 8);
    qcow2_l2_places_forget(bs);
    s->l1_table = l1;
    s->l1_size = sn->l1_size;
    s->l1_table_offset = sn->l1_table_offset;
    s->l1_vm_state_index = (uint32_t)size_to_l1(s, (uint64_t)sn->disk_size);
    return 0;
}

int qcow2_co_snapshot_load_tmp(BlockDriverState *bs, const char *id_or_name, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;

    SIM_ASSERT(bdrv_is_read_only(bs));
    if (!qcow2_usable(bs)) {
        error_setg(errp, "The image is corrupt");
        return -ENOMEDIUM;
    }
    co_mutex_lock(&s->lock);
    int index = qcow2_find_snapshot(s, id_or_name, NULL);
    if (index < 0) {
        index = qcow2_find_snapshot(s, NULL, id_or_name);
    }
    int ret = -ENOENT;
    if (index < 0) {
        error_setg(errp, "Can't find snapshot");
    } else {
        ret = load_locked(bs, &s->snapshots[index], errp);
    }
    co_mutex_unlock(&s->lock);
    return ret;
}
