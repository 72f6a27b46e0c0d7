/*
 * Internal snapshots of a qcow2 image: create, go back, delete (reference/bitmaps-qcow2.md 5.5, 5.7, 6).
 *
 * The power may fail at any write. Until the last of them an image of version 3 carries the dirty bit, so whoever
 * opens it next repairs what is half done; version 2 has no such bit, and the order alone must do: counts are never
 * too low, and COPIED is clear rather than wrong. What a snapshot is, and what the guest sees, changes with one
 * write of one sector of the header:
 *
 *     create   COPIED off -> counts up -> L1 copy -> new snapshot table | header
 *     go back  counts of the snapshot up -> new L1 with COPIED off | header (size and L1) -> counts of the old down
 *     delete   new snapshot table | header -> counts down
 *     and last COPIED on, where a count is 1
 */
#include <errno.h>

#include "block/qcow2_check_int.h"

#define HEADER_SIZE 24 /* the disk's size; then crypt_method, l1_size, l1_table_offset */

/* --- the window in which things do not fit together --------------------------------------------------------- */

static int begin(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;

    SIM_ASSERT(LIST_EMPTY(&s->cluster_allocs)); /* drained */
    s->free_byte_offset = 0;                    /* compressed data goes on in a cluster of its own */
    return s->qcow_version >= 3 ? qcow2_mark_dirty(bs) : 0;
}

/* Everything stable; the mark goes unless something could not be put right. What was done, was done: if the caches
 * or the header cannot be written now, the mark stays for the next time, and the next flush tells. */
static int end(BlockDriverState *bs, int ret)
{
    BDRVQcow2State *s = bs->opaque;
    int flushed = qcow2_cache_flush(bs, s->refcount_block_cache);

    s->free_byte_offset = 0;
    if (flushed == 0) {
        flushed = qcow2_cache_flush(bs, s->l2_table_cache);
    }
    if (flushed == 0) {
        flushed = qcow2_flush_caches(bs);
    }
    if (flushed == 0 && s->qcow_version >= 3 && !s->needs_repair) {
        flushed = qcow2_mark_clean(bs);
    }
    if (flushed < 0) {
        SIM_MARK(bs->host->sim, qcow2_snapshot_left_dirty);
    }
    return ret;
}

static int usable(BlockDriverState *bs, Error **errp)
{
    if (!qcow2_usable(bs)) {
        error_setg_errno(errp, ENOMEDIUM, "Image cannot be used");
        return -ENOMEDIUM;
    }
    if (has_data_file(bs)) {
        error_setg(errp, "Images with an external data file have no internal snapshots");
        return -ENOTSUP;
    }
    return 0;
}

/* A snapshot's table as the image says, which may be anything. */
int qcow2_check_snapshot_l1(BlockDriverState *bs, const QCowSnapshot *sn, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;

    if (sn->l1_size > QCOW2_MAX_L1_BYTES / 8) {
        error_setg(errp, "Snapshot L1 table too large");
        return -EFBIG;
    }
    if (offset_into_cluster(s, sn->l1_table_offset) || sn->l1_table_offset < 0 ||
        sn->l1_table_offset > BDRV_MAX_LENGTH - (int64_t)QCOW2_MAX_L1_BYTES) {
        error_setg(errp, "Snapshot L1 table offset invalid");
        return -EINVAL;
    }
    if (ranges_overlap(sn->l1_table_offset, (int64_t)sn->l1_size * 8, s->l1_table_offset,
                       (int64_t)s->l1_size * 8)) {
        error_setg(errp, "Snapshot L1 table overlaps the active one");
        return -EINVAL;
    }
    return 0;
}

/* A new table of so many entries, stable, beside everything that there is. *offset 0: of none. */
static int write_new_l1(BlockDriverState *bs, const uint64_t *l1, uint32_t size, int64_t *offset)
{
    BDRVQcow2State *s = bs->opaque;
    size_t bytes = (size_t)size * 8;

    *offset = 0;
    if (size == 0) {
        return 0;
    }
    int64_t at = qcow2_alloc_clusters(bs, (int64_t)bytes);
    if (at < 0) {
        return (int)at;
    }
    uint8_t *table = qcow2_alloc(bs, bytes);
    for (uint32_t i = 0; i < size; i++) {
        qcow2_put_be64(table + (size_t)i * 8, l1[i] & ~QCOW_OFLAG_COPIED);
    }
    int ret = qcow2_cache_flush(bs, s->refcount_block_cache);
    if (ret == 0) {
        ret = qcow2_pre_write_overlap_check(bs, 0, at, (int64_t)bytes, false);
    }
    if (ret == 0) {
        ret = qcow2_pwrite_sync(bs, at, (int64_t)bytes, table);
    }
    qcow2_free(bs, table, bytes);
    if (ret < 0) {
        qcow2_free_new_clusters(bs, at, (int64_t)bytes);
        return ret;
    }
    *offset = at;
    return 0;
}

/* --- create ------------------------------------------------------------------------------------------------- */

/* Counts are up and the copy is there: the snapshot becomes one. */
static int publish(BlockDriverState *bs, const QCowSnapshot *sn)
{
    BDRVQcow2State *s = bs->opaque;

    qcow2_snapshot_append(bs, sn);
    int ret = qcow2_write_snapshots(bs);
    if (ret < 0) {
        qcow2_snapshot_take_out(bs, s->nb_snapshots - 1);
    }
    return ret;
}

static int create_locked(BlockDriverState *bs, QCowSnapshot *sn)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = qcow2_update_snapshot_refcount(bs, s->l1_table_offset, s->l1_size, 1);

    if (ret < 0) {
        return ret;
    }
    ret = write_new_l1(bs, s->l1_table, s->l1_size, &sn->l1_table_offset);
    if (ret == 0) {
        ret = publish(bs, sn);
        if (ret < 0 && sn->l1_table_offset && !s->needs_repair) {
            qcow2_free_clusters(bs, sn->l1_table_offset, (int64_t)sn->l1_size * 8, QCOW2_DISCARD_OTHER);
        }
    }
    /* In doubt whether the header names the snapshot, nothing that it would need goes. */
    if (ret < 0 && !s->needs_repair && qcow2_update_snapshot_refcount(bs, s->l1_table_offset, s->l1_size, -1) < 0) {
        s->needs_repair = true;
    }
    return ret;
}

static int make_snapshot(BlockDriverState *bs, const QEMUSnapshotInfo *info, QCowSnapshot *sn, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;

    if (s->nb_snapshots >= QCOW2_MAX_SNAPSHOTS) {
        error_setg(errp, "The image holds as many snapshots as it can");
        return -EFBIG;
    }
    if (info->id_str && qcow2_find_snapshot(s, info->id_str, NULL) >= 0) {
        error_setg(errp, "Snapshot with id '%s' already exists", info->id_str);
        return -EEXIST;
    }
    *sn = (QCowSnapshot){
        .l1_size = s->l1_size,
        .id_str = info->id_str ? qcow2_strdup(bs, info->id_str, strlen(info->id_str)) : qcow2_snapshot_new_id(bs),
        .name = qcow2_strdup(bs, info->name, strlen(info->name)),
        .disk_size = bs->total_bytes,
        .vm_state_size = info->vm_state_size,
        .date_sec = info->date_sec,
        .date_nsec = info->date_nsec,
        .vm_clock_nsec = info->vm_clock_nsec,
        .icount = info->icount,
        .extra_data_size = 24,
    };
    return 0;
}

int qcow2_co_snapshot_create(BlockDriverState *bs, const QEMUSnapshotInfo *info, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    QCowSnapshot sn;
    int ret = usable(bs, errp);

    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&s->lock);
    ret = make_snapshot(bs, info, &sn, errp);
    if (ret == 0) {
        ret = begin(bs);
        if (ret == 0) {
            ret = end(bs, create_locked(bs, &sn));
        }
        if (ret < 0) {
            error_setg_errno(errp, ret, "Could not create snapshot");
            qcow2_snapshot_free_strings(bs, &sn);
        }
    }
    co_mutex_unlock(&s->lock);
    return ret;
}

/* --- go back ------------------------------------------------------------------------------------------------ */

/* The disk's size and its L1 in one write: both are in the first sector. */
static int write_header(BlockDriverState *bs, int64_t size, uint32_t l1_size, int64_t l1_offset)
{
    const BDRVQcow2State *s = bs->opaque;
    uint8_t field[24];

    qcow2_put_be64(field, (uint64_t)size);
    qcow2_put_be32(field + 8, s->crypt_method_header);
    qcow2_put_be32(field + 12, l1_size);
    qcow2_put_be64(field + 16, (uint64_t)l1_offset);
    return qcow2_pwrite_sync(bs, HEADER_SIZE, sizeof(field), field);
}

/* On its way to be the active table; host order, memory of the driver. */
struct new_l1 {
    uint64_t *table;
    uint32_t size;
    int64_t offset;
    int64_t disk_size;
};

static int load_new_l1(BlockDriverState *bs, const QCowSnapshot *sn, struct new_l1 *l1)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t needed = size_to_l1(s, (uint64_t)sn->disk_size);

    if (needed > QCOW2_MAX_L1_BYTES / 8) {
        return -EFBIG;
    }
    l1->disk_size = sn->disk_size;
    l1->size = MAX((uint32_t)needed, sn->l1_size);
    l1->table = qcow2_alloc(bs, (size_t)l1->size * 8);
    int ret = qcow2_pread(bs, sn->l1_table_offset, (int64_t)sn->l1_size * 8, l1->table);
    for (uint32_t i = 0; i < l1->size; i++) {
        l1->table[i] = be64toh(l1->table[i]) & ~QCOW_OFLAG_COPIED;
    }
    return ret;
}

/* The write that the guest's disk changes with; what it was before is put into l1. */
static int switch_l1(BlockDriverState *bs, struct new_l1 *l1)
{
    BDRVQcow2State *s = bs->opaque;
    struct new_l1 old = {s->l1_table, s->l1_size, s->l1_table_offset, bs->total_bytes};
    int ret = write_header(bs, l1->disk_size, l1->size, l1->offset);

    if (ret < 0) {
        s->header_unsure = true;
        if (qcow2_header_make_sure(bs) < 0) {
            SIM_MARK(bs->host->sim, qcow2_snapshot_table_in_doubt);
            s->needs_repair = true;
        }
        return ret;
    }
    qcow2_l2_places_forget(bs);
    s->l1_table = l1->table;
    s->l1_size = l1->size;
    s->l1_table_offset = l1->offset;
    s->l1_vm_state_index = (uint32_t)size_to_l1(s, (uint64_t)l1->disk_size);
    s->header_length_bytes = l1->disk_size;
    if (l1->disk_size != old.disk_size) {
        bdrv_set_total_bytes(bs, l1->disk_size); /* with the L1, for the header is written from the state */
    }
    *l1 = old;
    return 0;
}

static int goto_locked(BlockDriverState *bs, const QCowSnapshot *sn, struct new_l1 *l1)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = load_new_l1(bs, sn, l1);

    if (ret == 0) {
        ret = qcow2_update_snapshot_refcount(bs, sn->l1_table_offset, sn->l1_size, 1);
    }
    if (ret < 0) {
        return ret;
    }
    ret = write_new_l1(bs, l1->table, l1->size, &l1->offset);
    if (ret == 0) {
        ret = switch_l1(bs, l1);
        if (ret < 0 && l1->offset && !s->needs_repair) {
            qcow2_free_clusters(bs, l1->offset, (int64_t)l1->size * 8, QCOW2_DISCARD_OTHER);
        }
    }
    if (ret < 0) {
        if (!s->needs_repair && qcow2_update_snapshot_refcount(bs, sn->l1_table_offset, sn->l1_size, -1) < 0) {
            s->needs_repair = true;
        }
        return ret;
    }
    /* Done. What fails from here on is left over, and the mark says so. */
    if (qcow2_update_snapshot_refcount(bs, l1->offset, l1->size, -1) < 0) {
        SIM_MARK(bs->host->sim, qcow2_snapshot_leftovers);
        s->needs_repair = true;
    }
    if (l1->size > 0) {
        qcow2_free_clusters(bs, l1->offset, (int64_t)l1->size * 8, QCOW2_DISCARD_OTHER);
    }
    return 0;
}

/* Whether the disk may get the size that it had. */
static int check_size(BlockDriverState *bs, const QCowSnapshot *sn, Error **errp)
{
    const BDRVQcow2State *s = bs->opaque;
    uint64_t perm, shared;

    if (sn->disk_size == bs->total_bytes) {
        return 0;
    }
    if (sn->disk_size < 0 || sn->disk_size > BDRV_MAX_LENGTH || sn->disk_size % SIM_SECTOR_BYTES != 0) {
        error_setg(errp, "Snapshot's disk size is invalid");
        return -EINVAL;
    }
    if (s->qcow_version < 3) {
        error_setg(errp, "Can't resize a v2 image which has snapshots");
        return -ENOTSUP;
    }
    bdrv_cumulative_perms(bs, &perm, &shared);
    if (!(shared & BLK_PERM_RESIZE)) {
        error_setg(errp, "Snapshot has another size, and a user of node '%s' does not allow a resize",
                   bdrv_get_node_name(bs));
        return -EPERM;
    }
    return 0;
}

int qcow2_co_snapshot_goto(BlockDriverState *bs, const char *id, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    struct new_l1 l1 = {0};
    int ret = usable(bs, errp);

    if (ret == 0) {
        ret = bdrv_check_no_dirty_bitmaps(bs, errp);
    }
    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&s->lock);
    int index = qcow2_find_snapshot(s, id, NULL);
    if (index < 0) {
        error_setg(errp, "Snapshot '%s' does not exist", id);
        ret = -ENOENT;
    }
    if (ret == 0) {
        ret = qcow2_check_snapshot_l1(bs, &s->snapshots[index], errp);
    }
    if (ret == 0) {
        ret = check_size(bs, &s->snapshots[index], errp);
    }
    if (ret == 0) {
        ret = begin(bs);
        if (ret == 0) {
            ret = end(bs, goto_locked(bs, &s->snapshots[index], &l1));
        }
        if (ret < 0) {
            error_setg_errno(errp, ret, "Could not apply snapshot");
        }
    }
    qcow2_free(bs, l1.table, (size_t)l1.size * 8);
    co_mutex_unlock(&s->lock);
    return ret;
}

/* --- delete ------------------------------------------------------------------------------------------------- */

static int delete_locked(BlockDriverState *bs, uint32_t index)
{
    BDRVQcow2State *s = bs->opaque;
    QCowSnapshot sn = qcow2_snapshot_take_out(bs, index);
    int ret = qcow2_write_snapshots(bs);

    if (ret < 0) {
        qcow2_snapshot_put_back(bs, index, &sn);
        return ret;
    }
    /* Gone. */
    ret = qcow2_update_snapshot_refcount(bs, sn.l1_table_offset, sn.l1_size, -1);
    if (ret < 0) {
        s->needs_repair = true;
    }
    if (sn.l1_size > 0) {
        qcow2_free_clusters(bs, sn.l1_table_offset, (int64_t)sn.l1_size * 8, QCOW2_DISCARD_SNAPSHOT);
    }
    qcow2_snapshot_free_strings(bs, &sn);
    return ret;
}

int qcow2_co_snapshot_delete(BlockDriverState *bs, const char *id, const char *name, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int ret = usable(bs, errp);

    if (ret < 0) {
        return ret;
    }
    co_mutex_lock(&s->lock);
    int index = qcow2_find_snapshot(s, id, name);
    if (index < 0) {
        error_setg(errp, "Can't find the snapshot");
        ret = -ENOENT;
    }
    if (ret == 0) {
        ret = qcow2_check_snapshot_l1(bs, &s->snapshots[index], errp);
    }
    if (ret == 0) {
        ret = begin(bs);
        if (ret == 0) {
            ret = end(bs, delete_locked(bs, (uint32_t)index));
        }
        if (ret < 0) {
            error_setg_errno(errp, ret, "Failed to delete snapshot");
        }
    }
    co_mutex_unlock(&s->lock);
    return ret;
}
